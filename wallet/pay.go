package wallet

import (
	"bytes"
	"slices"

	"charter/ledger"
	"charter/sig"
	"charter/types"
)

// Terms are what an intent needs from outside. The same name always gives the transaction
// that was made first under it, whatever the other terms are then.
type Terms struct {
	Intent     string       // its name, 1 to MaxIntent printable ASCII bytes, chosen by the caller
	Salt       [16]byte     // fresh randomness
	Now        types.Millis // for the history
	ValidFrom  types.Millis // consensus time from which it may be applied
	ValidUntil types.Millis // and until which: soon after, so that what did not land is dead and its coins are free
}

// Pay is the transaction that pays amount to an address. It is Open: keep the wallet's
// encoding before sending Raw. For an intent that exists it gives the one that there is, in
// whatever status. Errors: BadAmount, Insufficient, TooManyInputs, GapReached, BadIntent,
// IntentTaken, BadValidity, WrongKeys, TooMuch, or *ledger.Invalid for an address or a record
// that no peer would take.
func (w *Wallet) Pay(t Terms, to Address, amount types.Amount) (Transaction, error) {
	if amount == 0 || amount > types.MaxSupply {
		return Transaction{}, refuse(BadAmount, "cannot pay %s shares: want more than 0 and at most %s", amount, types.MaxSupply)
	}
	return w.intend(t, order{amount: amount, outputs: []types.Output{{Value: amount, Lock: to.Lock, Host: to.Host}}})
}

// Notarise is the transaction that says that a document existed. Errors as those of Pay.
func (w *Wallet) Notarise(t Terms, document types.Hash) (Transaction, error) {
	return w.intend(t, order{records: []types.Record{types.Notarise{Document: document}}})
}

// RegisterPeer is the transaction that enters a peer or renews its entry; r comes without
// signature. What the peer signs names the coin that pays, so sign, which is given the
// digest, is called in between. Errors as those of Pay, and that of sign.
func (w *Wallet) RegisterPeer(t Terms, r types.RegisterPeer, sign func(digest types.Hash) (types.Signature, error)) (Transaction, error) {
	r.Signature = types.Signature{}
	return w.intend(t, order{records: []types.Record{r}, sign: sign})
}

// order is what a transaction shall do, before coins are chosen for it.
type order struct {
	amount  types.Amount // sum of outputs
	outputs []types.Output
	records []types.Record
	sign    func(types.Hash) (types.Signature, error) // for a RegisterPeer among the records
}

// asks reports whether tx does what the order asks for, whatever its coins and change are.
func (o *order) asks(tx *types.Transaction) bool {
	records := slices.Clone(tx.Records)
	for i, r := range records {
		if r, ok := r.(types.RegisterPeer); ok {
			r.Signature = types.Signature{}
			records[i] = r
		}
	}
	n := len(o.outputs)
	said := func(rs []types.Record) []byte { return (&types.Transaction{Records: rs}).Body() } // not all of them compare
	return bytes.Equal(said(o.records), said(records)) && (len(tx.Outputs) == n || len(tx.Outputs) == n+1) && slices.Equal(o.outputs, tx.Outputs[:n])
}

func (w *Wallet) intend(t Terms, o order) (Transaction, error) {
	if t.Intent == "" || !printable(t.Intent, MaxIntent) {
		return Transaction{}, refuse(BadIntent, "an intent's name is 1 to %d printable ASCII characters, and this is %q", MaxIntent, t.Intent)
	}
	if old := w.intents[t.Intent]; old != nil {
		if !o.asks(old.Tx) {
			return Transaction{}, refuse(IntentTaken, "intent %q exists and asks for something else: transaction %s", t.Intent, old.ID)
		}
		return *old, nil
	}
	if t.ValidFrom < 0 || t.ValidUntil < t.ValidFrom || t.ValidUntil > types.MaxTime || t.ValidUntil < w.trustedAsOf.Time || t.Now < 0 || t.Now > types.MaxTime {
		return Transaction{}, refuse(BadValidity, "a transaction valid from %s until %s can never be applied: it is %s by consensus", t.ValidFrom, t.ValidUntil, w.trustedAsOf.Time)
	}
	if len(w.transactions) >= maxEntries {
		return Transaction{}, refuse(TooMuch, "the wallet is full: %d transactions", maxEntries)
	}
	return w.build(t, o)
}

// build chooses coins and change, signs, and only then changes the wallet.
func (w *Wallet) build(t Terms, o order) (Transaction, error) {
	tx := &types.Transaction{
		Salt: t.Salt, ValidFrom: t.ValidFrom, ValidUntil: t.ValidUntil,
		Outputs: slices.Clone(o.outputs), Records: slices.Clone(o.records),
	}
	bare := w.fee(len(tx.Encode()))
	coins, err := w.choose(o.amount, bare)
	if err != nil {
		return Transaction{}, err
	}
	var total types.Amount
	for _, c := range coins {
		total += c.State.Output.Value
		tx.Inputs = append(tx.Inputs, types.Input{Position: c.Position, Source: c.State.Source, Index: c.State.Index, Output: c.State.Output})
	}
	tx.Fee = total - o.amount
	change, issue := types.Key{}, false
	if spare, cost := tx.Fee-w.fee(len(tx.Encode())), w.fee(outputBytes); spare > cost+w.fee(inputBytes) {
		if change, issue, err = w.changeLock(); err != nil {
			return Transaction{}, err
		}
		tx.Outputs = append(tx.Outputs, types.Output{Value: spare - cost, Lock: change, Host: w.agent.Peer})
		tx.Fee -= spare - cost
	}
	if err := w.sign(tx, o.sign); err != nil {
		return Transaction{}, err
	}
	if err := ledger.Check(w.chain, w.params(), tx); err != nil {
		return Transaction{}, err // what no peer would take must not reserve coins
	}
	if issue {
		w.issue(Change, change)
	}
	made := &Transaction{ID: tx.ID(w.chain), Raw: tx.Encode(), Tx: tx, Intent: t.Intent}
	made.Times[Made] = t.Now
	w.transactions = append(w.transactions, made)
	w.add(made)
	return *made, nil
}

// sign has records signed, and then signs once for all inputs (package ledger).
func (w *Wallet) sign(tx *types.Transaction, peer func(types.Hash) (types.Signature, error)) error {
	for i, r := range tx.Records {
		if r, ok := r.(types.RegisterPeer); ok {
			s, err := peer(r.Digest(w.chain, tx.Inputs[0]))
			if err != nil {
				return err
			}
			r.Signature = s
			tx.Records[i] = r
		}
	}
	var privs []sig.PrivateKey
	seen := make(map[types.Key]bool)
	for _, in := range tx.Inputs {
		lock := in.Output.Lock
		if seen[lock] {
			continue
		}
		seen[lock] = true
		priv, err := w.private(lock)
		if err != nil {
			return err
		}
		privs = append(privs, priv)
	}
	return ledger.SignTransaction(w.chain, tx, privs)
}

// What one more input or output adds to a transaction.
var (
	emptyBytes  = len((&types.Transaction{}).Encode())
	inputBytes  = len((&types.Transaction{Inputs: make([]types.Input, 1)}).Encode()) - emptyBytes
	outputBytes = len((&types.Transaction{Outputs: make([]types.Output, 1)}).Encode()) - emptyBytes
)

func (w *Wallet) fee(bytes int) types.Amount {
	return ledger.MinFee(w.params(), bytes)
}

// params has what a transaction by itself depends on.
func (w *Wallet) params() *types.Params { return &types.Params{MinFeePerByte: w.minFee} }

// choose takes the coins that pay amount and the fee: bare, and that of each input. They are
// the fewest that can, because inputs of one transaction are seen to belong together; of
// those the largest, but for the last, which is the smallest that suffices. Only final
// outputs that no open intent has reserved are coins.
func (w *Wallet) choose(amount, bare types.Amount) ([]*Owned, error) {
	each := w.fee(inputBytes)
	var coins []*Owned
	for at, o := range w.outputs {
		if o.State.SpentHeight == 0 && o.State.Output.Value > each && w.reserved[at] == nil {
			coins = append(coins, o)
		}
	}
	slices.SortFunc(coins, func(a, b *Owned) int {
		if c := compare(b.State.Output.Value, a.State.Output.Value); c != 0 {
			return c
		}
		return compare(a.Position, b.Position)
	})
	need, err := amount.Add(bare)
	if err != nil {
		return nil, w.short(coins, amount, bare)
	}
	var have types.Amount // beyond the fees of the inputs
	for n, c := range coins[:min(len(coins), types.MaxInputs)] {
		value := c.State.Output.Value - each
		if have+value < need {
			have += value
			continue
		}
		for last := len(coins) - 1; ; last-- {
			if have+coins[last].State.Output.Value-each >= need {
				return append(slices.Clone(coins[:n]), coins[last]), nil
			}
		}
	}
	return nil, w.short(coins, amount, bare)
}

// short says why these coins, largest first, do not pay.
func (w *Wallet) short(coins []*Owned, amount, bare types.Amount) error {
	each := w.fee(inputBytes)
	var all, most types.Amount
	for i, c := range coins {
		all = sum(all, c.State.Output.Value-each)
		if i < types.MaxInputs {
			most = all
		}
	}
	b, inputs := w.Balance(), min(len(coins), types.MaxInputs)
	s := &Shortage{
		Amount: amount, Fee: sum(bare, each*types.Amount(inputs)), Balance: b.Final, Reserved: b.Reserved,
		Most: most - min(bare, most),
	}
	if most < all && all >= bare && all-bare >= amount {
		e := refuse(TooManyInputs, "cannot pay %s shares at once: they are in more than %d small outputs; pay %s or less, and the rest after that", amount, types.MaxInputs, s.Most)
		e.Short = s
		return e
	}
	e := refuse(Insufficient, "cannot pay %s shares and a fee of %s: the balance is %s, of which %s is reserved for payments under way; at most %s can be paid now",
		amount, s.Fee, s.Balance, s.Reserved, s.Most)
	e.Short = s
	return e
}
