package wallet

import (
	"fmt"
	"slices"

	"charter/sig"
	"charter/types"
)

// Bounds of what a wallet keeps; its file refuses more.
const (
	MaxProof    = 1 << 20 // bytes of one proof
	MaxIntent   = 64      // bytes of an intent's name
	MaxUnproven = 1024    // transactions of others that nobody proved yet
	maxEntries  = 1 << 20 // keys of a purpose, outputs, transactions
)

// Agent is the peer at which the wallet logs in, and with which it registers its shares.
type Agent struct {
	Peer    types.Key // zero: none
	Name    string
	Address string // where its API is
}

// Owned is an output under one of the wallet's keys, as it was proven.
type Owned struct {
	Position uint64
	State    types.OutputState
	AsOf     AsOf   // of State; zero if it is known by the transaction that made it alone
	Proof    []byte // of State while it is unspent; nil where a transaction's proof is enough
}

// Status is what the wallet knows of a transaction.
type Status uint8

const (
	// Open: nothing is proven. The inputs of an intent are reserved.
	Open Status = iota
	// Applied: final, and proven.
	Applied
	// Rejected: ordered and refused for good, and proven; its inputs are free.
	Rejected
	// Overtaken: another transaction is proven to have spent an input.
	Overtaken
	// Expired: an input is proven unspent after ValidUntil; its inputs are free.
	Expired
	statusEnd
)

var statuses = [...]string{"open", "applied", "rejected", "overtaken", "expired"}

// String is the status in a word.
func (s Status) String() string { return statuses[s] }

// Tier is how far a transaction has come by the word of an agent.
type Tier uint8

const (
	// Made: signed, by this wallet, and perhaps sent.
	Made Tier = iota
	// Known: in a block.
	Known
	// Selected: that block is selected by more than a third of the shares.
	Selected
	// Official: by more than half.
	Official
	// Final: for ever. It is only a word until the transaction is Applied or Rejected.
	Final
	tierEnd
)

var tiers = [...]string{"made", "known", "selected", "official", "final"}

// String is the tier in a word.
func (t Tier) String() string { return tiers[t] }

// Transaction is a line of the history: a transaction that touches the wallet.
type Transaction struct {
	ID     types.Hash
	Raw    []byte             // what is sent, always the same bytes; of others' perhaps without signature
	Tx     *types.Transaction // what Raw encodes
	Intent string             // the name of the intent it serves; "" for one of others
	Told   Tier               // by an agent, not proven
	Times  [tierEnd]types.Millis
	Status Status
	Event  *types.Event // if Applied or Rejected
	Proof  []byte       // of Status, if not Open
	AsOf   AsOf         // of Proof
}

// key is where a lock comes from.
type key struct {
	purpose Purpose
	index   uint32
}

// Wallet is a holder's keys, outputs, transactions and intents. It is not safe for use by
// several goroutines at once. A method that returns an error has changed nothing.
type Wallet struct {
	// What it was made with.
	chain   types.Hash
	minFee  types.Amount // a byte
	entropy [32]byte
	account uint32
	agent   Agent

	// What it learned.
	trusted      []byte
	trustedAsOf  AsOf
	issued       [purposes][]types.Key // by index; none of Identity
	outputs      map[uint64]*Owned     // by position, spent ones too
	transactions []*Transaction        // in the order in which the wallet met them

	// What follows from it.
	keys     *Keys              // made when first needed: it takes a millisecond
	locks    map[types.Key]key  // all issued
	used     map[types.Key]bool // locks with an output that is proven
	byID     map[types.Hash]*Transaction
	intents  map[string]*Transaction
	reserved map[uint64]*Transaction // open intents, by the positions of their inputs
	spent    map[uint64]*Transaction // applied ones, by the positions of their inputs
}

// New is an empty wallet on a chain. The account, at most MaxIndex, tells apart wallets of
// the same words.
func New(chain types.Hash, params *types.Params, entropy [32]byte, account uint32) *Wallet {
	w := &Wallet{chain: chain, minFee: params.MinFeePerByte, entropy: entropy, account: account}
	w.index()
	return w
}

// index makes all that follows from what was learned.
func (w *Wallet) index() {
	w.locks, w.used = make(map[types.Key]key), make(map[types.Key]bool)
	w.byID, w.intents = make(map[types.Hash]*Transaction), make(map[string]*Transaction)
	w.reserved, w.spent = make(map[uint64]*Transaction), make(map[uint64]*Transaction)
	if w.outputs == nil {
		w.outputs = make(map[uint64]*Owned)
	}
	for p, locks := range w.issued {
		for i, lock := range locks {
			w.locks[lock] = key{Purpose(p), uint32(i)}
		}
	}
	for _, o := range w.outputs {
		w.used[o.State.Output.Lock] = true
	}
	for _, t := range w.transactions {
		w.add(t)
	}
}

// add enters a transaction into the maps.
func (w *Wallet) add(t *Transaction) {
	w.byID[t.ID] = t
	if t.Intent != "" {
		w.intents[t.Intent] = t
	}
	for _, in := range t.Tx.Inputs {
		switch {
		case t.Status == Applied:
			w.spent[in.Position] = t
		case t.Status == Open && t.Intent != "":
			w.reserved[in.Position] = t
		}
	}
}

func (w *Wallet) ours(lock types.Key) bool { _, ok := w.locks[lock]; return ok }

// Format writes the chain and the account, whatever the verb: a wallet holds a secret.
func (w *Wallet) Format(s fmt.State, _ rune) {
	fmt.Fprintf(s, "wallet of account %d on chain %s", w.account, w.chain.Short())
}

// Chain is the id of the wallet's chain.
func (w *Wallet) Chain() types.Hash { return w.chain }

// Words are the twenty-four words from which all of the wallet's keys come.
func (w *Wallet) Words() string { return Mnemonic(w.entropy) }

// Keys makes the wallet's keys.
func (w *Wallet) Keys() *Keys {
	if w.keys == nil {
		w.keys = NewKeys(w.entropy, w.account)
	}
	return w.keys
}

// Identity is the key by which the wallet logs in.
func (w *Wallet) Identity() sig.PrivateKey { return w.Keys().Private(Identity, 0) }

// Agent is where the wallet logs in.
func (w *Wallet) Agent() Agent { return w.agent }

// SetAgent changes where the wallet logs in and where future receipts and change are
// registered. Name and address are printable ASCII of at most types.MaxName and MaxAPI bytes.
func (w *Wallet) SetAgent(a Agent) error {
	if !printable(a.Name, types.MaxName) || !printable(a.Address, MaxAPI) {
		return refuse(NotAddress, "agent %q at %q: want printable ASCII of at most %d and %d bytes", a.Name, a.Address, types.MaxName, MaxAPI)
	}
	w.agent = a
	return nil
}

// MaxAPI bounds the address of an agent's API.
const MaxAPI = 256

func printable(s string, most int) bool {
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(s) <= most
}

// Trusted is the newest checkpoint that the wallet trusts, as its client encoded it (package
// proof), and its height and time; nil before there is one.
func (w *Wallet) Trusted() ([]byte, AsOf) { return slices.Clone(w.trusted), w.trustedAsOf }

// Trust keeps a checkpoint that the client verified to follow from the one before. One that
// goes back in height is a Contradiction.
func (w *Wallet) Trust(encoded []byte, asOf AsOf) error {
	if asOf.Height < w.trustedAsOf.Height || asOf.Time < w.trustedAsOf.Time {
		return refuse(Contradiction, "the checkpoint of height %d, %s, is older than that of height %d, %s, which is trusted", asOf.Height, asOf.Time, w.trustedAsOf.Height, w.trustedAsOf.Time)
	}
	if len(encoded) > MaxProof || len(encoded) == 0 {
		return refuse(TooMuch, "a trusted checkpoint of %d bytes: want 1 to %d", len(encoded), MaxProof)
	}
	w.trusted, w.trustedAsOf = slices.Clone(encoded), asOf
	return nil
}

// Receive issues a fresh key and gives its address: one for each receipt. Errors: GapReached;
// then an address of Unused will do.
func (w *Wallet) Receive() (Address, error) {
	lock, err := w.fresh(Receive)
	if err != nil {
		return Address{}, err
	}
	w.issue(Receive, lock)
	return Address{lock, w.agent.Peer}, nil
}

// Unused are the addresses that are out and to which nothing is proven to have been paid.
func (w *Wallet) Unused() (out []Address) {
	for _, lock := range w.issued[Receive] {
		if !w.used[lock] {
			out = append(out, Address{lock, w.agent.Peer})
		}
	}
	return out
}

// Locks are all keys that are out, receiving ones and then change, each in order of issue:
// what an agent is asked to watch.
func (w *Wallet) Locks() []types.Key { return slices.Concat(w.issued[Receive], w.issued[Change]) }

// fresh is the next lock of a purpose, not yet issued. Errors: GapReached.
func (w *Wallet) fresh(p Purpose) (types.Key, error) {
	n, run := len(w.issued[p]), 0
	for run < n && !w.used[w.issued[p][n-1-run]] {
		run++
	}
	if run >= Gap || n >= maxEntries {
		what := "addresses: use one of them again"
		if p == Change {
			what = "keys for change: wait until one of the payments under way is settled"
		}
		return types.Key{}, refuse(GapReached, "nothing has come to the last %d %s (with one more, restoring from the words could miss a payment)", run, what)
	}
	return w.Keys().Lock(p, uint32(n)), nil
}

func (w *Wallet) issue(p Purpose, lock types.Key) {
	w.locks[lock] = key{p, uint32(len(w.issued[p]))}
	w.issued[p] = append(w.issued[p], lock)
}

// changeLock is where the change of a new payment goes, and whether it must be issued
// first: a key that was issued, has no output, and is in no transaction that could still
// make one, or else a fresh one.
func (w *Wallet) changeLock() (lock types.Key, issue bool, err error) {
	busy := make(map[types.Key]bool)
	for _, t := range w.transactions {
		if t.Status == Open {
			for _, o := range t.Tx.Outputs {
				busy[o.Lock] = true
			}
		}
	}
	n := len(w.issued[Change])
	for i := max(0, n-Gap); i < n; i++ {
		if lock := w.issued[Change][i]; !w.used[lock] && !busy[lock] {
			return lock, false, nil
		}
	}
	lock, err = w.fresh(Change)
	return lock, true, err
}

// Outputs are the wallet's outputs, spent ones too, by position.
func (w *Wallet) Outputs() []Owned {
	out := make([]Owned, 0, len(w.outputs))
	for _, o := range w.outputs {
		out = append(out, *o)
	}
	slices.SortFunc(out, func(a, b Owned) int { return compare(a.Position, b.Position) })
	return out
}

func compare[T uint64 | types.Amount](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Transactions is the history, in the order in which the wallet met them.
func (w *Wallet) Transactions() []Transaction {
	out := make([]Transaction, len(w.transactions))
	for i, t := range w.transactions {
		out[i] = *t
	}
	return out
}

// Transaction is one line of the history, or false.
func (w *Wallet) Transaction(id types.Hash) (Transaction, bool) {
	if t := w.byID[id]; t != nil {
		return *t, true
	}
	return Transaction{}, false
}

// Intent is the transaction of an intent, or false.
func (w *Wallet) Intent(name string) (Transaction, bool) {
	if t := w.intents[name]; t != nil {
		return *t, true
	}
	return Transaction{}, false
}

// Pending are the intents that are open, oldest first: what to send again after a restart.
func (w *Wallet) Pending() (out []Transaction) {
	for _, t := range w.transactions {
		if t.Status == Open && t.Intent != "" {
			out = append(out, *t)
		}
	}
	return out
}

// Overdue are the open transactions that can no longer be applied if they have not been: of
// each the agent owes a proof, of its event (Settle), or of an input as unspent (Found).
// Those of others that it cannot prove may be dropped with Forget.
func (w *Wallet) Overdue() (out []Transaction) {
	for _, t := range w.transactions {
		if t.Status == Open && t.Tx.ValidUntil < w.trustedAsOf.Time {
			out = append(out, *t)
		}
	}
	return out
}

// Flow is what a transaction takes from the wallet's outputs and gives to its keys.
func (w *Wallet) Flow(tx *types.Transaction) (spends, receives types.Amount) {
	for _, in := range tx.Inputs {
		if w.ours(in.Output.Lock) {
			spends = sum(spends, in.Output.Value)
		}
	}
	for _, o := range tx.Outputs {
		if w.ours(o.Lock) {
			receives = sum(receives, o.Value)
		}
	}
	return spends, receives
}

// Direction is which way a transaction moves money, seen from the wallet.
type Direction uint8

const (
	// Incoming: others pay.
	Incoming Direction = iota
	// Outgoing: the wallet pays others.
	Outgoing
	// Internal: the wallet pays itself, or only a fee.
	Internal
)

// Summary is a transaction in one line: which way, how much without the fee, and the fee
// if the wallet pays all of it.
func (w *Wallet) Summary(tx *types.Transaction) (d Direction, amount, fee types.Amount) {
	spends, receives := w.Flow(tx)
	if spends == 0 {
		return Incoming, receives, 0
	}
	if !slices.ContainsFunc(tx.Inputs, func(in types.Input) bool { return !w.ours(in.Output.Lock) }) {
		fee = tx.Fee
	}
	if paid := fee + receives; spends > paid {
		return Outgoing, spends - paid, fee
	}
	return Internal, receives, fee
}

// Unexplained are the wallet's outputs that no transaction of its history made: those of a
// genesis, of a payout of fees, and after a restore all. Their State.Source is what to ask for.
func (w *Wallet) Unexplained() []Owned {
	return slices.DeleteFunc(w.Outputs(), func(o Owned) bool { return w.byID[o.State.Source] != nil })
}

// sum stops at the greatest amount. What is proven never comes there; an agent's word may.
func sum(a, b types.Amount) types.Amount {
	if s, err := a.Add(b); err == nil {
		return s
	}
	return types.MaxSupply
}

// Balance is what the wallet has.
type Balance struct {
	Final    types.Amount // proven, unspent; with what is reserved
	Reserved types.Amount // of Final, the inputs of open intents
	Out      types.Amount // what open intents take, their fees with them; of Reserved, the rest is change
	In       types.Amount // what transactions of others would bring, if the agents' word is true
}

// Available is what can be spent now: Final less Reserved.
func (b Balance) Available() types.Amount { return b.Final - b.Reserved }

// Balance adds up.
func (w *Wallet) Balance() (b Balance) {
	for at, o := range w.outputs {
		if o.State.SpentHeight == 0 {
			b.Final = sum(b.Final, o.State.Output.Value)
			if w.reserved[at] != nil {
				b.Reserved = sum(b.Reserved, o.State.Output.Value)
			}
		}
	}
	for _, t := range w.transactions {
		spends, receives := w.Flow(t.Tx)
		switch {
		case t.Status != Open:
		case t.Intent != "":
			if w.reservesUnspent(t) {
				b.Out = sum(b.Out, spends-min(receives, spends))
			}
		case t.Tx.ValidUntil >= w.trustedAsOf.Time:
			b.In = sum(b.In, receives-min(spends, receives))
		}
	}
	return b
}

// reservesUnspent reports whether t's coins count as final still. They do not once their
// keys' histories were learned before the event of t.
func (w *Wallet) reservesUnspent(t *Transaction) bool {
	o := w.outputs[t.Tx.Inputs[0].Position]
	return o == nil || o.State.SpentHeight == 0
}
