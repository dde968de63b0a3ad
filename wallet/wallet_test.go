package wallet

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"charter/ledger"
	"charter/sig"
	"charter/types"
)

func TestPayment(t *testing.T) {
	w, ws := newWorld(t, []string{"ann", "bob"}, 10*share, 5*share)
	ann, bob := ws[0], ws[1]
	to := must(bob.Receive())
	text := to.Text(w.genesis.ChainID())
	to = must(ParseAddress(w.genesis.ChainID(), text))

	paid := must(ann.Pay(w.terms("rent"), to, 7*share))
	fee := types.Amount(len(paid.Raw)) // at one unit a byte
	if paid.Tx.Fee != fee || len(paid.Tx.Inputs) != 1 || len(paid.Tx.Outputs) != 2 {
		t.Fatalf("fee %d of %d bytes, %d inputs, %d outputs", paid.Tx.Fee, fee, len(paid.Tx.Inputs), len(paid.Tx.Outputs))
	}
	want := Balance{Final: 15 * share, Reserved: 10 * share, Out: 7*share + fee}
	if b := ann.Balance(); b != want || b.Available() != 5*share {
		t.Fatalf("ann has %+v, want %+v", b, want)
	}
	check(t, bob.Seen(paid.Raw, Known, 5))
	check(t, bob.Seen(paid.Raw, Official, 7))
	check(t, bob.Seen(paid.Raw, Selected, 9)) // fell back
	if b := bob.Balance(); b != (Balance{Final: 15 * share, In: 7 * share}) {
		t.Fatalf("bob has %+v", b)
	}
	if got, _ := bob.Transaction(paid.ID); got.Told != Selected || got.Times != [tierEnd]types.Millis{0, 5, 7, 7, 0} || got.Status != Open {
		t.Fatalf("bob was told %s at %v", got.Told, got.Times)
	}

	facts := w.order(100, paid.Raw)
	settle(t, ann, facts)
	settle(t, bob, facts)
	settle(t, bob, facts) // twice is once
	if b := ann.Balance(); b != (Balance{Final: 8*share - fee}) {
		t.Fatalf("ann has %+v", b)
	}
	if b := bob.Balance(); b != (Balance{Final: 22 * share}) {
		t.Fatalf("bob has %+v", b)
	}
	got, _ := restarted(t, ann).Intent("rent")
	if got.Status != Applied || got.Event.Height != 1 || string(got.Proof) != "event proof" || got.Times[Final] == 0 {
		t.Fatalf("ann's history: %+v", got)
	}
	for _, row := range []struct {
		v           *Wallet
		tx          *types.Transaction
		d           Direction
		amount, fee types.Amount
	}{
		{ann, paid.Tx, Outgoing, 7 * share, fee}, {bob, paid.Tx, Incoming, 7 * share, 0},
		{ann, must(ann.Notarise(w.terms("doc"), types.Hash{1})).Tx, Internal, 0, 0},
	} {
		if d, amount, f := row.v.Summary(row.tx); d != row.d || row.d != Internal && (amount != row.amount || f != row.fee) {
			t.Errorf("summary: %d, %s, fee %s", d, amount, f)
		}
	}
	if got := bob.Unexplained(); len(got) != 2 || got[0].State.Source != w.genesis.ChainID() {
		t.Errorf("bob has %d outputs that no transaction explains, want those of genesis", len(got))
	}
	if again := must(ann.Pay(w.terms("rent"), to, 7*share)); !bytes.Equal(again.Raw, paid.Raw) || again.Status != Applied {
		t.Fatal("a retry after the end made another payment")
	}
}

func TestNotariseAndRegister(t *testing.T) {
	w, ws := newWorld(t, []string{"ann"}, 10*share)
	ann := ws[0]
	doc := types.Hash{7}
	n := must(ann.Notarise(w.terms("doc"), doc))
	settle(t, ann, w.order(1, n.Raw))
	r := types.RegisterPeer{Peer: testPriv("new peer").Public(), Name: "new", Address: "127.0.0.1:4001", Reward: must(ann.Receive()).Lock}
	sign := func(digest types.Hash) (types.Signature, error) { return signAs("new peer", digest), nil }
	p := must(ann.RegisterPeer(w.terms("peer"), r, sign))
	if again := must(ann.RegisterPeer(w.terms("peer"), r, nil)); !bytes.Equal(again.Raw, p.Raw) {
		t.Fatal("a retry registered anew")
	}
	settle(t, ann, w.order(1, p.Raw))
	if s := must(w.ledger.Peer(r.Peer)); s == nil || s.Name != "new" {
		t.Fatal("the peer is not registered")
	}
	fees := types.Amount(len(n.Raw) + len(p.Raw))
	if b := ann.Balance(); b != (Balance{Final: 10*share - fees}) || b.Final != w.holds(ann) {
		t.Fatalf("ann has %+v", b)
	}
	r.Name = "other"
	broken := errors.New("no key at hand")
	before := ann.Encode()
	if _, err := ann.RegisterPeer(w.terms("other"), r, func(types.Hash) (types.Signature, error) { return types.Signature{}, broken }); err != broken {
		t.Fatalf("want the signer's error, have %v", err)
	}
	r.Name = "Not A Name"
	if _, err := ann.RegisterPeer(w.terms("other"), r, sign); !ledger.IsKind(err, ledger.BadName) {
		t.Fatalf("a name that no peer may have: %v", err)
	}
	if _, err := ann.Pay(w.terms("other"), Address{Lock: types.Key{255}}, 1); !ledger.IsKind(err, ledger.BadLock) {
		t.Fatalf("a lock that is no key: %v", err)
	}
	if !bytes.Equal(before, ann.Encode()) {
		t.Fatal("a failed intent changed the wallet")
	}
}

func TestSecretIsNotPrinted(t *testing.T) {
	v := New(testChain, &types.LocalParams, testEntropy("ann"), 3)
	v.Keys()
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
		if got := fmt.Sprintf(verb, v); got != "wallet of account 3 on chain c0ffee01" {
			t.Errorf("%s prints %q", verb, got)
		}
	}
}

func signAs(name string, digest types.Hash) types.Signature { return sig.Sign(testPriv(name), digest) }

// Each way in which an intent ends other than well frees its coins, once it is proven.
func TestDeadIntents(t *testing.T) {
	w, ws := newWorld(t, []string{"ann", "bob"}, 10*share)
	ann, bob := ws[0], ws[1]
	to := must(bob.Receive())
	spendable := func(want types.Amount) {
		t.Helper()
		if got := ann.Balance().Available(); got != want {
			t.Fatalf("ann can spend %s, want %s", got, want)
		}
	}
	status := func(intent string, want Status) {
		t.Helper()
		ann = restarted(t, ann)
		if got, ok := ann.Intent(intent); !ok || got.Status != want {
			t.Fatalf("intent %q is %s, want %s", intent, got.Status, want)
		}
	}
	// Expired: not before it is proven unspent after the end.
	paid := must(ann.Pay(w.terms("never lands"), to, share))
	spendable(0)
	state := must(w.ledger.Output(1))
	early := Finding{Position: 1, State: *state, Proof: []byte("p"), AsOf: AsOf{5, paid.Tx.ValidUntil}}
	check(t, ann.Found(early))
	status("never lands", Open)
	w.order(700_000)
	check(t, ann.Trust([]byte("checkpoint"), w.asOf))
	if due := ann.Overdue(); len(due) != 1 || due[0].ID != paid.ID {
		t.Fatalf("overdue: %v", due)
	}
	w.tellAll(ann)
	w.asOf.Height = 6
	w.tellAll(ann)
	status("never lands", Expired)
	spendable(10 * share)
	w.height = 10

	// Rejected: it lands too late.
	terms := w.terms("lands late")
	terms.ValidUntil = w.asOf.Time
	late := must(ann.Pay(terms, to, share))
	settle(t, ann, w.order(10, late.Raw))
	status("lands late", Rejected)
	if got, _ := ann.Intent("lands late"); got.Event.Reason != types.TooLate {
		t.Fatalf("reason %s", got.Event.Reason)
	}
	spendable(10 * share)

	// Too early is not the end: whoever sends a transaction before its time cannot kill it.
	terms = w.terms("comes early")
	terms.ValidFrom = w.asOf.Time + 1000
	soon := must(ann.Pay(terms, to, share))
	settle(t, ann, w.order(10, soon.Raw))
	status("comes early", Open)
	spendable(0)
	settle(t, ann, w.order(1000, soon.Raw))
	status("comes early", Applied)
	spendable(9*share - types.Amount(len(soon.Raw)))

	// Overtaken: the same words in another wallet file spend the coin first.
	twin := restarted(t, ann)
	mine, theirs := must(ann.Pay(w.terms("mine"), to, share)), must(twin.Pay(w.terms("theirs"), to, 2*share))
	facts := w.order(10, theirs.Raw, mine.Raw)
	settle(t, ann, facts[:1])
	status("mine", Overtaken)
	settle(t, ann, facts)
	status("mine", Rejected)
	if got, want := ann.Balance().Final, w.holds(ann); got != want {
		t.Fatalf("ann has %s, the ledger says %s", got, want)
	}
	// And known by the key's history alone.
	twin = restarted(t, ann)
	must(ann.Pay(w.terms("mine again"), to, share))
	theirs = must(twin.Pay(w.terms("theirs again"), to, 2*share))
	w.order(10, theirs.Raw)
	check(t, ann.Learn(w.history(theirs.Tx.Inputs[0].Output.Lock)))
	status("mine again", Overtaken)
	spendable(0) // the change is not learned yet
	check(t, ann.Learn(w.history(theirs.Tx.Outputs[1].Lock)))
	spendable(w.holds(ann))
}

// chooseSlow tries every set of coins: the fewest, then those that are the largest but for
// the last, which is the smallest that suffices.
func chooseSlow(coins []types.Amount, need, each types.Amount) (best []types.Amount) {
	slices.SortFunc(coins, func(a, b types.Amount) int { return compare(b, a) })
	for set := range 1 << len(coins) {
		n := bits.OnesCount(uint(set))
		var have types.Amount
		var values []types.Amount
		for i, c := range coins {
			if set>>i&1 == 1 {
				have += c
				values = append(values, c)
			}
		}
		head := n > 0 && slices.Equal(values[:n-1], coins[:n-1])
		if have >= need+each*types.Amount(n) && head && (best == nil || n < len(best) || n == len(best) && values[n-1] < best[n-1]) {
			best = values
		}
	}
	return best
}

// fewestSlow is the least number of coins that suffice, of any set, or 0.
func fewestSlow(coins []types.Amount, need, each types.Amount) (fewest int) {
	for set := 1; set < 1<<len(coins); set++ {
		n := bits.OnesCount(uint(set))
		var have types.Amount
		for i, c := range coins {
			if set>>i&1 == 1 {
				have += c
			}
		}
		if have >= need+each*types.Amount(n) && (fewest == 0 || n < fewest) {
			fewest = n
		}
	}
	return fewest
}

func TestChooseTwin(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	paid, refused := 0, 0
	for range 3000 {
		v := New(types.Hash{1}, &types.LocalParams, testEntropy("ann"), 0)
		var values []types.Amount
		for i := range rng.IntN(9) {
			value := types.Amount(1 + rng.IntN(1000))
			values = append(values, value)
			v.outputs[uint64(i)] = &Owned{Position: uint64(i), State: types.OutputState{Output: types.Output{Value: value}}}
		}
		amount, bare := types.Amount(rng.IntN(2500)), types.Amount(rng.IntN(200))
		each := v.fee(inputBytes)
		coins, err := v.choose(amount, bare)
		want := chooseSlow(values, amount+bare, each)
		var got []types.Amount
		for _, c := range coins {
			got = append(got, c.State.Output.Value)
		}
		if !slices.Equal(got, want) || len(got) != fewestSlow(values, amount+bare, each) {
			t.Fatalf("of %v for %d + %d and %d each: chose %v, want %v", values, amount, bare, each, got, want)
		}
		if err == nil {
			paid++
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Kind != Insufficient {
			t.Fatal(err)
		}
		refused++
		if most := e.Short.Most; most > 0 {
			if _, err := v.choose(most, bare); err != nil {
				t.Fatalf("the most that can be paid is said to be %d, and cannot: %v", most, err)
			}
		}
		if _, err := v.choose(e.Short.Most+1, bare); err == nil {
			t.Fatalf("more than the most, %d, can be paid", e.Short.Most)
		}
	}
	if paid < 500 || refused < 500 {
		t.Fatalf("%d paid and %d refused: the test tests little", paid, refused)
	}
}

// A walk of random payments, losses, retries, restarts and late or partial news, on a real
// ledger.
func TestRandomWalks(t *testing.T) {
	reached := make(map[string]int)
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { walk(t, seed, reached) })
	}
	for _, what := range []string{"paid", "insufficient", "retried", "restarted", "lost", "expired", "rejected late", "applied", "gap", "all"} {
		if reached[what] == 0 {
			t.Errorf("no walk reached %q: %v", what, reached)
		}
	}
}

type walker struct {
	*world
	rng     *rand.Rand
	wallets []*Wallet
	heard   []int // how many of the facts each wallet was told
	pool    [][]byte
	ids     []map[string]types.Hash // by wallet: the one transaction of each intent
	asked   []map[string]request
	reached map[string]int
}

type request struct {
	to     Address
	amount types.Amount
}

func walk(t *testing.T, seed uint64, reached map[string]int) {
	rng := rand.New(rand.NewPCG(seed, 5))
	w, wallets := newWorld(t, []string{"ann", "bob", "cat"}, 3*share, 2*share, share/1000, 100)
	r := &walker{world: w, rng: rng, wallets: wallets, heard: make([]int, 3), reached: reached}
	for range wallets {
		r.ids, r.asked = append(r.ids, make(map[string]types.Hash)), append(r.asked, make(map[string]request))
	}
	for range 250 {
		i := rng.IntN(len(wallets))
		switch rng.IntN(8) {
		case 0, 1:
			r.pay(i)
		case 2:
			r.retry(i)
		case 3:
			r.wallets[i] = restarted(t, r.wallets[i])
			reached["restarted"]++
		case 4, 5:
			r.step(types.Millis(rng.IntN(200_000)))
		case 6:
			r.hear(i, rng.IntN(5))
		case 7:
			r.chase(i)
		}
		for i := range r.wallets {
			r.invariants(i)
		}
	}
	r.finish()
}

func (r *walker) pay(i int) {
	v, name := r.wallets[i], fmt.Sprintf("intent %d", len(r.asked[i]))
	to, err := r.wallets[r.rng.IntN(len(r.wallets))].Receive()
	if IsKind(err, GapReached) {
		r.reached["gap"]++
		to = r.wallets[(i+1)%len(r.wallets)].Unused()[0]
	}
	amount := types.Amount(1 + r.rng.IntN(int(share)))
	if r.rng.IntN(6) == 0 { // all of it, to the unit
		var e *Error
		if _, err := v.Pay(r.terms("all"), to, types.MaxSupply); errors.As(err, &e) && e.Short.Most > 0 {
			amount = e.Short.Most
			r.reached["all"]++
		}
	}
	before := v.Encode()
	paid, err := v.Pay(r.terms(name), to, amount)
	if err != nil {
		if !IsKind(err, Insufficient) && !IsKind(err, GapReached) {
			r.t.Fatal(err)
		}
		if !bytes.Equal(before, v.Encode()) {
			r.t.Fatal("a refused payment changed the wallet")
		}
		r.reached["insufficient"]++
		return
	}
	r.reached["paid"]++
	r.ids[i][name], r.asked[i][name] = paid.ID, request{to, amount}
	if err := ledger.Check(r.genesis.ChainID(), &r.genesis.Params, paid.Tx); err != nil {
		r.t.Fatalf("the wallet made an invalid transaction: %v", err)
	}
	if least := types.Amount(len(paid.Raw)); paid.Tx.Fee < least || paid.Tx.Fee > least+types.Amount(inputBytes+outputBytes) {
		r.t.Fatalf("a fee of %d for %d bytes", paid.Tx.Fee, len(paid.Raw))
	}
	r.send(paid.Raw)
}

func (r *walker) send(raw []byte) {
	if r.rng.IntN(4) == 0 {
		r.reached["lost"]++
		return
	}
	r.pool = append(r.pool, raw)
}

func (r *walker) retry(i int) {
	for name, q := range r.asked[i] {
		again, err := r.wallets[i].Pay(r.terms(name), q.to, q.amount)
		if check(r.t, err); again.ID != r.ids[i][name] {
			r.t.Fatalf("retry of %s made another transaction", name)
		}
		r.send(again.Raw)
		r.reached["retried"]++
		return
	}
}

// step orders some of what was sent, in any order, perhaps twice.
func (r *walker) step(later types.Millis) {
	r.rng.Shuffle(len(r.pool), func(a, b int) { r.pool[a], r.pool[b] = r.pool[b], r.pool[a] })
	n := r.rng.IntN(len(r.pool) + 1)
	facts := r.order(later, r.pool[:n]...)
	r.pool = slices.Clone(r.pool[n:])
	for _, f := range facts {
		switch {
		case f.Event.Kind == types.Applied:
			r.reached["applied"]++
		case f.Event.Reason == types.TooLate:
			r.reached["rejected late"]++
		case f.Event.Reason == types.SpentOutput && !r.expired(f.Event.Transaction):
			r.t.Fatal("a wallet used an output twice")
		}
	}
}

// expired reports whether some wallet has proof that a transaction is dead.
func (r *walker) expired(id types.Hash) bool {
	return slices.ContainsFunc(r.wallets, func(v *Wallet) bool { tx, _ := v.Transaction(id); return tx.Status == Expired })
}

// hear tells a wallet the next n facts.
func (r *walker) hear(i, n int) {
	n = min(len(r.facts), r.heard[i]+n)
	settle(r.t, r.wallets[i], r.facts[r.heard[i]:n])
	r.heard[i] = n
	for _, raw := range r.pool {
		if err := r.wallets[i].Seen(raw, Tier(r.rng.IntN(int(tierEnd))), r.asOf.Time); err != nil && !IsKind(err, NotOurs) {
			r.t.Fatal(err)
		}
	}
}

// chase asks for the coins of what is overdue.
func (r *walker) chase(i int) {
	v := r.wallets[i]
	check(r.t, v.Trust([]byte("checkpoint"), r.asOf))
	for _, due := range v.Overdue() {
		if due.Intent == "" {
			check(r.t, v.Forget(due.ID))
			continue
		}
		at := due.Tx.Inputs[0].Position
		check(r.t, v.Found(Finding{Position: at, State: *must(r.ledger.Output(at)), Proof: []byte("p"), AsOf: r.asOf}))
		if now, _ := v.Transaction(due.ID); now.Status == Expired {
			r.reached["expired"]++
		}
	}
}

func (r *walker) invariants(i int) {
	v := r.wallets[i]
	used := make(map[uint64]types.Hash)
	for _, p := range v.Pending() {
		for _, in := range p.Tx.Inputs {
			if other, twice := used[in.Position]; twice {
				r.t.Fatalf("%s and %s both use output %d", other, p.ID, in.Position)
			}
			used[in.Position] = p.ID
		}
	}
	var final, reserved types.Amount
	for _, o := range v.Outputs() {
		if o.State.SpentHeight == 0 {
			final += o.State.Output.Value
			if _, ok := used[o.Position]; ok {
				reserved += o.State.Output.Value
			}
		}
	}
	b := v.Balance()
	if b.Final != final || b.Reserved != reserved || b.Out > b.Reserved || b.Available() != final-reserved {
		r.t.Fatalf("balance %+v, and the outputs say %s with %s reserved", b, final, reserved)
	}
	for name, id := range r.ids[i] {
		if got, ok := v.Intent(name); !ok || got.ID != id {
			r.t.Fatalf("intent %s was lost or changed", name)
		}
	}
}

// finish lets time pass and tells everything: no intent is open, and what the wallets
// have is what the ledger says, to the unit; so do wallets restored from the words.
func (r *walker) finish() {
	r.step(1_000_000)
	r.pool = nil
	r.step(1)
	var total types.Amount
	for i := range r.wallets {
		r.hear(i, len(r.facts))
		r.chase(i)
		r.invariants(i)
		v := r.wallets[i]
		want := Balance{Final: r.holds(v)}
		if b := v.Balance(); b != want || len(v.Pending()) > 0 {
			r.t.Fatalf("wallet %d ends with %+v and %d open intents, want %+v", i, b, len(v.Pending()), want)
		}
		total += want.Final
		back := New(v.chain, &r.genesis.Params, v.entropy, 0)
		restore(r.t, back, r.world, r.rng)
		if b := back.Balance(); b != want {
			r.t.Fatalf("restored from words, wallet %d has %+v, want %+v", i, b, want)
		}
	}
	for i := range r.wallets {
		r.shuffled(i)
	}
	supply := must(r.genesis.Supply())
	if s := r.ledger.State(); total+s.Fees+1 != supply { // a unit is the stranger's
		r.t.Fatalf("%d in wallets and %d in fees are not the supply of %d", total, s.Fees, supply)
	}
}

// shuffled tells a fresh wallet with the same keys all facts in any order, and the states of
// outputs at some moment between.
func (r *walker) shuffled(i int) {
	v := r.wallets[i]
	fresh := New(v.chain, &r.genesis.Params, v.entropy, 0)
	for _, p := range []Purpose{Receive, Change} {
		for _, lock := range v.issued[p] {
			fresh.issue(p, lock)
		}
	}
	facts := slices.Clone(r.facts)
	r.rng.Shuffle(len(facts), func(a, b int) { facts[a], facts[b] = facts[b], facts[a] })
	n := r.rng.IntN(len(facts) + 1)
	settle(r.t, fresh, facts[:n])
	r.tellAll(fresh)
	settle(r.t, fresh, facts[n:])
	if got, want := restarted(r.t, fresh).Balance(), v.Balance(); got != want {
		r.t.Fatalf("told in another order, wallet %d has %+v, want %+v", i, got, want)
	}
}

// restore scans, with answers coming in any order.
func restore(t testing.TB, v *Wallet, w *world, rng *rand.Rand) (asked int) {
	s := v.Scan()
	var waiting []types.Key
	for !s.Done() {
		if next := s.Next(1 + rng.IntN(8)); len(next) > 0 {
			waiting = append(waiting, next...)
			continue
		}
		rng.Shuffle(len(waiting), func(a, b int) { waiting[a], waiting[b] = waiting[b], waiting[a] })
		n := 1 + rng.IntN(len(waiting))
		for _, lock := range waiting[:n] {
			check(t, s.Answer(w.history(lock)))
		}
		waiting = slices.Clone(waiting[n:])
	}
	asked, _, left := s.Progress()
	if left != 0 {
		t.Fatalf("done, and %d keys are left", left)
	}
	return asked
}
