package wallet

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"charter/types"
)

func second[T any](_ T, err error) error { return err }

// One row for each way to be wrong, and every kind has a row. What is refused changes nothing.
func TestErrorKinds(t *testing.T) {
	w, ws := newWorld(t, []string{"ann", "bob"}, 10*share, 5*share)
	ann, bob := ws[0], ws[1]
	chain, to := w.genesis.ChainID(), must(bob.Receive())
	text, words := to.Text(chain), Mnemonic(testEntropy("ann"))
	fields := strings.Fields(words)
	paid := must(ann.Pay(w.terms("paid"), to, share))
	facts := w.order(10, paid.Raw)
	settle(t, ann, facts)
	mine, coin := paid.Tx.Inputs[0].Position, paid.Tx.Inputs[0].Output.Lock
	change, _ := ann.Intent("paid")
	changeAt := change.Event.First + 1
	open := must(ann.Pay(w.terms("open"), to, share))
	foreign := must(bob.Pay(w.terms("own"), must(bob.Receive()), share))
	state := func(at uint64) types.OutputState { return *must(w.ledger.Output(at)) }
	with := func(change func(*Settlement)) Settlement { s := facts[0]; change(&s); return s }
	found := func(at uint64, change func(*Finding)) error {
		f := Finding{Position: at, State: state(at), AsOf: w.asOf}
		change(&f)
		return ann.Found(f)
	}
	parse := func(s string) error { return second(ParseAddress(chain, s)) }
	pay := func(change func(*Terms), to Address, amount types.Amount) error {
		terms := w.terms("new")
		change(&terms)
		return second(ann.Pay(terms, to, amount))
	}
	same := func(*Terms) {}

	full := New(chain, &types.LocalParams, testEntropy("full"), 0)
	for range Gap {
		must(full.Receive())
	}
	small := New(chain, &types.LocalParams, testEntropy("small"), 0)
	for i := range uint64(types.MaxInputs + 44) {
		lock := small.Keys().Lock(Receive, 0)
		if i == 0 {
			must(small.Receive())
		}
		s := types.OutputState{Output: types.Output{Value: share / 100, Lock: lock}, Index: uint32(i)}
		check(t, small.Found(Finding{Position: i, State: s}))
	}
	other := restarted(t, bob)
	other.entropy, other.keys = testEntropy("other"), nil
	told := New(chain, &types.LocalParams, testEntropy("bob"), 0)
	told.issue(Receive, told.Keys().Lock(Receive, 0))
	for i := range MaxUnproven {
		tx := types.Transaction{Salt: [16]byte{byte(i), byte(i >> 8)}, Outputs: []types.Output{{Lock: told.issued[Receive][0]}}}
		check(t, told.Seen(tx.Encode(), Known, 1))
	}
	check(t, ann.Trust([]byte("checkpoint"), AsOf{1, w.asOf.Time}))
	scan := ann.Scan()
	first := scan.Next(1)[0]

	rows := []struct {
		name string
		kind Kind
		err  error
	}{
		{"too few words", WordCount, second(ParseMnemonic(strings.Join(fields[1:], " ")))},
		{"no word", UnknownWord, second(ParseMnemonic(strings.Join(append([]string{"abandn"}, fields[1:]...), " ")))},
		{"two words swapped", WordChecksum, second(ParseMnemonic(strings.Join(append([]string{fields[1], fields[0]}, fields[2:]...), " ")))},

		{"no address", NotAddress, parse("bob@peer")},
		{"nothing", NotAddress, parse("")},
		{"an address of bitcoin", NotAddress, parse("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq")},
		{"an agent without a printable name", NotAddress, ann.SetAgent(Agent{Name: "\n"})},
		{"half an address", AddressLength, parse(text[:60])},
		{"twice the address", AddressLength, parse(text + text)},
		{"mixed case", AddressCase, parse(text[:20] + strings.ToUpper(text[20:]))},
		{"a letter that none has", AddressCharacter, parse(text[:20] + "b" + text[21:])},
		{"a letter of another alphabet", AddressCharacter, parse(text[:20] + "\u00e9" + text[22:])},
		{"one letter wrong", AddressChecksum, parse(text[:20] + string(bech32Chars[(strings.IndexByte(bech32Chars, text[20])+1)%32]) + text[21:])},
		{"bech32 without m", AddressChecksum, parse(rawAddress("ch", make([]byte, 68), false))},
		{"another network", AddressNetwork, parse(to.Text(types.Hash{9}))},
		{"no key", AddressPayload, parse(Address{Lock: types.Key{255}}.Text(chain))},
		{"no host", AddressPayload, parse(Address{to.Lock, types.Key{31: 5}}.Text(chain))},

		{"more than the balance", Insufficient, pay(same, to, 20*share)},
		{"more than is not reserved", Insufficient, pay(same, to, 14*share)},
		{"many small outputs", TooManyInputs, second(small.Pay(w.terms("all"), to, share*280/100))},
		{"nothing to pay", BadAmount, pay(same, to, 0)},
		{"more than there is in the world", BadAmount, pay(same, to, types.MaxSupply+1)},
		{"an intent without a name", BadIntent, pay(func(t *Terms) { t.Intent = "" }, to, 1)},
		{"an intent with too long a name", BadIntent, pay(func(t *Terms) { t.Intent = strings.Repeat("x", MaxIntent+1) }, to, 1)},
		{"another amount under the same name", IntentTaken, second(ann.Pay(w.terms("paid"), to, 2*share))},
		{"another purpose under the same name", IntentTaken, second(ann.Notarise(w.terms("paid"), types.Hash{1}))},
		{"valid until the past", BadValidity, pay(func(t *Terms) { t.ValidUntil = 1 }, to, 1)},
		{"never valid", BadValidity, pay(func(t *Terms) { t.ValidFrom = t.ValidUntil + 1 }, to, 1)},
		{"one key too many", GapReached, second(full.Receive())},

		{"seen: not ours", NotOurs, ann.Seen(foreign.Raw, Known, 1)},
		{"seen: one too many", TooMuch, told.Seen((&types.Transaction{Outputs: []types.Output{{Lock: told.issued[Receive][0], Value: 1}}}).Encode(), Known, 1)},
		{"forget an intent", NotOurs, ann.Forget(open.ID)},
		{"settle: other bytes", WrongTransaction, ann.Settle(with(func(s *Settlement) { s.Tx = foreign.Tx }))},
		{"settle: a payout", WrongTransaction, ann.Settle(with(func(s *Settlement) { s.Event.Kind = types.Payout }))},
		{"settle: applied and then rejected", Contradiction, ann.Settle(with(func(s *Settlement) {
			s.Event.Kind, s.Event.Reason, s.Event.Outputs, s.Event.First = types.Rejected, types.SpentOutput, 0, 0
		}))},
		{"settle: applied at another height", Contradiction, ann.Settle(with(func(s *Settlement) { s.Event.Height++ }))},
		{"settle: outputs missing", Contradiction, ann.Settle(with(func(s *Settlement) {
			s.Tx, s.Event.Transaction, s.Event.Outputs = open.Tx, open.ID, 1
		}))},
		{"settle: makes what is something else", Contradiction, ann.Settle(with(func(s *Settlement) {
			s.Tx, s.Event.Transaction, s.Event.First = open.Tx, open.ID, changeAt-1
		}))},
		{"settle: a proof too large", TooMuch, ann.Settle(with(func(s *Settlement) { s.Proof = make([]byte, MaxProof+1) }))},
		{"found: not ours", NotOurs, found(0, func(*Finding) {})},
		{"found: another output there", Contradiction, found(mine, func(f *Finding) { f.State.Index++ })},
		{"found: unspent after its end", Contradiction, found(mine, func(f *Finding) { f.State.SpentHeight = 0 })},
		{"found: spent at another height", Contradiction, found(mine, func(f *Finding) { f.State.SpentHeight++; f.AsOf.Height += 2 })},
		{"found: of the future", Contradiction, found(changeAt, func(f *Finding) { f.State.BornHeight = 9 })},
		{"found: a proof too large", TooMuch, found(changeAt, func(f *Finding) { f.Proof = make([]byte, MaxProof+1) })},
		{"learn: not ours", NotOurs, ann.Learn(w.history(to.Lock))},
		{"learn: spent before it was made", Contradiction, ann.Learn(KeyHistory{Lock: coin, AsOf: w.asOf, Events: w.history(coin).Events[1:]})},
		{"learn: events of another key", Contradiction, ann.Learn(KeyHistory{Lock: coin, AsOf: w.asOf, Events: w.history(to.Lock).Events})},
		{"scan: not asked for", NotOurs, scan.Answer(KeyHistory{Lock: to.Lock})},
		{"scan: a lie", Contradiction, scan.Answer(KeyHistory{Lock: first, AsOf: w.asOf, Events: w.history(to.Lock).Events})},
		{"trust: back in height", Contradiction, ann.Trust([]byte("older"), AsOf{0, w.asOf.Time})},
		{"trust: nothing", TooMuch, ann.Trust(nil, AsOf{2, w.asOf.Time})},
		{"words of another wallet", WrongKeys, second(other.Notarise(w.terms("x"), types.Hash{1}))},
	}
	seen := make(map[Kind]bool)
	for _, r := range rows {
		seen[r.kind] = true
		if !IsKind(r.err, r.kind) {
			t.Errorf("%s: have %v", r.name, r.err)
		}
	}
	for k := WordCount; k < kindEnd; k++ {
		if !seen[k] {
			t.Errorf("no row for kind %d", k)
		}
	}
	if b := ann.Balance(); b.Final != w.holds(ann) || len(ann.Pending()) != 1 {
		t.Errorf("after all that was refused, ann has %+v", b)
	}
	restarted(t, ann)
}

// The numbers of a shortage are those that a person needs.
func TestShortage(t *testing.T) {
	w, ws := newWorld(t, []string{"ann"}, 10*share, 5*share)
	ann := ws[0]
	to := testAddress("bob")
	must(ann.Pay(w.terms("a"), to, 4*share)) // reserves 5
	_, err := ann.Pay(w.terms("b"), to, 12*share)
	var e *Error
	if !errors.As(err, &e) || e.Kind != Insufficient {
		t.Fatal(err)
	}
	fee := e.Short.Fee
	if want := (Shortage{Amount: 12 * share, Fee: fee, Balance: 15 * share, Reserved: 5 * share, Most: 10*share - fee}); *e.Short != want {
		t.Fatalf("%+v, want %+v", *e.Short, want)
	}
	const says = "cannot pay 12 shares and a fee of 0.000003: the balance is 15, of which 5 is reserved for payments under way; at most 9.999997 can be paid now"
	if e.Error() != says {
		t.Fatalf("%s", e)
	}
	all := must(ann.Pay(w.terms("all"), to, e.Short.Most))
	if len(all.Tx.Outputs) != 1 || all.Tx.Fee != fee || ann.Balance().Available() != 0 {
		t.Fatalf("the most leaves %s, with a fee of %s", ann.Balance().Available(), all.Tx.Fee)
	}
}

// A wallet restored from its words finds what is within the gap, and asks for no more than
// it must.
func TestScan(t *testing.T) {
	w, ws := newWorld(t, []string{"ann", "bob"}, 10*share)
	ann, bob := ws[0], ws[1]
	for range Gap - 1 {
		must(bob.Receive())
	}
	last := must(bob.Receive())
	if _, err := bob.Receive(); !IsKind(err, GapReached) || len(bob.Unused()) != Gap {
		t.Fatalf("%d unused addresses are out, and then %v", len(bob.Unused()), err)
	}
	settle(t, bob, w.order(1, must(ann.Pay(w.terms("far"), last, share)).Raw))
	must(bob.Receive()) // the last was used, so there may be more
	back := New(bob.chain, &w.genesis.Params, bob.entropy, 0)
	asked := restore(t, back, w, rand.New(rand.NewPCG(1, 1)))
	if want := Gap + 1 + Gap + Gap; asked != want || back.Balance() != bob.Balance() {
		t.Fatalf("asked for %d keys, want %d; has %+v, want %+v", asked, want, back.Balance(), bob.Balance())
	}
	if a, b := must(back.Receive()), bob.issued[Receive][Gap+1]; a.Lock != b {
		t.Fatal("the restored wallet issues other keys")
	}
}

// Every byte of a wallet's file changed in turn: refused, or read as what it then says.
func TestDecodeMutations(t *testing.T) {
	data := sampleFile(t)
	for i := range data {
		b := bytes.Clone(data)
		b[i] ^= 0x41
		if v, err := Decode(b); err == nil {
			if !bytes.Equal(v.Encode(), b) {
				t.Fatalf("byte %d changed: decodes, and encodes to something else", i)
			}
			v.Balance()
		} else if e := new(types.DecodeError); !errors.As(err, &e) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for _, row := range []struct {
		name string
		data []byte
		kind types.DecodeKind
	}{
		{"empty", nil, types.Truncated},
		{"cut", data[:len(data)-1], types.Truncated},
		{"grown", append(bytes.Clone(data), 0), types.Trailing},
		{"another file", bytes.Repeat([]byte("x"), 100), types.Unknown},
		{"another version", append([]byte("charter wallet\x02"), data[len(magic):]...), types.Unknown},
	} {
		if _, err := Decode(row.data); !types.IsDecodeKind(err, row.kind) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

// What decodes field by field and is still nothing that a wallet writes.
func TestDecodeDisagreements(t *testing.T) {
	for name, spoil := range map[string]func(v *Wallet){
		"a key issued twice":     func(v *Wallet) { v.issued[Change] = append(v.issued[Change], v.issued[Receive][0]) },
		"an account beyond":      func(v *Wallet) { v.account = 1 << 31 },
		"a time without a trust": func(v *Wallet) { v.trusted = nil },
		"an output of no key":    func(v *Wallet) { v.issued[Receive] = v.issued[Receive][1:] },
		"an output of nothing":   func(v *Wallet) { v.outputs[1].State.Output.Value = 0 },
		"spent before its birth": func(v *Wallet) { o := v.outputs[1]; o.State.BornHeight, o.State.SpentHeight = 9, 8 },
		"unspent and spent":      func(v *Wallet) { v.outputs[1].State.SpentHeight, v.outputs[1].AsOf = 0, AsOf{} },
		"an intent twice":        func(v *Wallet) { v.transactions[1].Intent = v.transactions[0].Intent },
		"a transaction twice":    func(v *Wallet) { v.transactions = append(v.transactions, v.transactions[0]) },
		"a coin reserved twice":  func(v *Wallet) { v.transactions[0].Status, v.transactions[0].Event = Open, nil },
		"an event of another":    func(v *Wallet) { v.transactions[0].Event.Transaction[0]++ },
		"rejected and applied":   func(v *Wallet) { v.transactions[0].Status = Rejected },
		"outputs missing":        func(v *Wallet) { v.transactions[0].Event.Outputs++ },
		"open with a proof":      func(v *Wallet) { v.transactions[1].Proof = []byte("p") },
		"a coin not there":       func(v *Wallet) { delete(v.outputs, v.transactions[1].Tx.Inputs[0].Position) },
		"a coin not as it was":   func(v *Wallet) { v.outputs[v.transactions[1].Tx.Inputs[0].Position].State.Index++ },
		"others' expired":        func(v *Wallet) { v.transactions[2].Status = Expired },
		"no transaction":         func(v *Wallet) { v.transactions[0].Raw = []byte("x") },
		"a tier beyond":          func(v *Wallet) { v.transactions[0].Told = tierEnd },
	} {
		v := must(Decode(sampleFile(t)))
		spoil(v)
		if _, err := Decode(v.Encode()); !types.IsDecodeKind(err, types.NotCanonical) && !types.IsDecodeKind(err, types.Unknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sampleFile is a wallet with something of everything.
func sampleFile(t testing.TB) []byte {
	w, ws := newWorld(t, []string{"ann", "bob"}, 10*share, 5*share)
	ann, bob := ws[0], ws[1]
	paid := must(ann.Pay(w.terms("paid"), must(bob.Receive()), 7*share))
	settle(t, ann, w.order(10, paid.Raw))
	must(ann.Pay(w.terms("open"), must(bob.Receive()), share))
	check(t, ann.Seen(must(bob.Pay(w.terms("gift"), must(ann.Receive()), share)).Raw, Selected, 5))
	check(t, ann.Trust([]byte("checkpoint"), w.asOf))
	return ann.Encode()
}

func FuzzDecode(f *testing.F) {
	data := sampleFile(f)
	f.Add(data)
	f.Add(data[:len(magic)+150])
	f.Add(New(types.Hash{1}, &types.LocalParams, [32]byte{}, 0).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Decode(data)
		if err != nil {
			if e := new(types.DecodeError); !errors.As(err, &e) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(v.Encode(), data) {
			t.Fatal("decodes, and encodes to something else")
		}
		v.Balance()
		v.Pending()
		v.Overdue()
	})
}

// FuzzSeen gives a wallet a stranger's bytes as a transaction and its fate.
func FuzzSeen(f *testing.F) {
	w, ws := newWorld(f, []string{"ann", "bob"}, 10*share)
	gift := must(ws[1].Pay(w.terms("gift"), must(ws[0].Receive()), share))
	own := must(ws[0].Pay(w.terms("own"), testAddress("x"), share))
	f.Add(gift.Raw, uint64(5))
	f.Add(own.Raw, uint64(5))
	file := ws[0].Encode()
	f.Fuzz(func(t *testing.T, raw []byte, first uint64) {
		v := must(Decode(file))
		seen := v.Seen(raw, Official, 1)
		tx, err := types.DecodeTransaction(raw)
		if err != nil {
			return
		}
		if b := v.Balance(); b.Final != 10*share || b.Available() != 0 {
			t.Fatalf("an agent's word moved money: %+v", b)
		}
		e := types.Event{Kind: types.Applied, Transaction: tx.ID(v.chain), Height: 3, First: first, Outputs: uint16(len(tx.Outputs))}
		settled := v.Settle(Settlement{Tx: tx, Event: e, AsOf: AsOf{3, 3}})
		if IsKind(seen, NotOurs) != IsKind(settled, NotOurs) {
			t.Fatalf("seen: %v, settled: %v", seen, settled)
		}
		restarted(t, v)
	})
}

func BenchmarkPay(b *testing.B) {
	w, ws := newWorld(b, []string{"ann"}, slices.Repeat([]types.Amount{share}, 15)...)
	data, to := ws[0].Encode(), testAddress("bob")
	v := must(Decode(data))
	v.Keys()
	n := 0
	for b.Loop() {
		if n++; n%15 == 0 {
			b.StopTimer()
			v = must(Decode(data))
			v.Keys()
			b.StartTimer()
		}
		must(v.Pay(w.terms(fmt.Sprint(n)), to, share/2))
	}
}

func BenchmarkDecode(b *testing.B) {
	data := sampleFile(b)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		must(Decode(data))
	}
}
