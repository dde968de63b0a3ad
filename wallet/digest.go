package wallet

import (
	"cmp"
	"slices"

	"charter/ledger"
	"charter/types"
)

// Seen takes an agent's word that a transaction has come to a tier (it may fall back to a
// lower one), at a time for the history. A transaction of others becomes pending by it and
// nothing more. Errors: *types.DecodeError, NotOurs, TooMuch.
func (w *Wallet) Seen(raw []byte, tier Tier, at types.Millis) error {
	tx, err := types.DecodeTransaction(raw)
	if err != nil {
		return err
	}
	t := w.byID[tx.ID(w.chain)]
	if t == nil {
		unproven := 0
		for _, other := range w.transactions {
			if other.Status == Open && other.Intent == "" {
				unproven++
			}
		}
		if unproven >= MaxUnproven || len(w.transactions) >= maxEntries {
			return refuse(TooMuch, "there are %d transactions already that nobody proved; forget some, or change the agent", unproven)
		}
		if t, err = w.meet(raw, tx); err != nil {
			return err
		}
		w.enter(t)
	}
	t.tell(min(tier, Final), at)
	return nil
}

// meet is the line for a transaction that the wallet has not met. Errors: NotOurs.
func (w *Wallet) meet(raw []byte, tx *types.Transaction) (*Transaction, error) {
	id := tx.ID(w.chain)
	if !slices.ContainsFunc(tx.Inputs, func(in types.Input) bool { return w.ours(in.Output.Lock) }) &&
		!slices.ContainsFunc(tx.Outputs, func(o types.Output) bool { return w.ours(o.Lock) }) {
		return nil, refuse(NotOurs, "transaction %s neither takes from this wallet nor gives to it", id)
	}
	return &Transaction{ID: id, Raw: slices.Clone(raw), Tx: tx}, nil
}

func (w *Wallet) enter(t *Transaction) {
	w.transactions = append(w.transactions, t)
	w.add(t)
}

// tell notes a tier, and when it and those below it were first heard of.
func (t *Transaction) tell(tier Tier, at types.Millis) {
	if at = max(0, min(at, types.MaxTime)); t.Status != Open {
		return
	}
	t.Told = tier
	for i := Known; i <= tier; i++ {
		if t.Times[i] == 0 {
			t.Times[i] = at
		}
	}
}

// Forget drops an open transaction of others, which an agent told of and nobody proves. It
// is met again when somebody proves it. Errors: NotOurs.
func (w *Wallet) Forget(id types.Hash) error {
	t := w.byID[id]
	if t == nil || t.Status != Open || t.Intent != "" {
		return refuse(NotOurs, "transaction %s is not an unproven one of others", id)
	}
	w.transactions = slices.DeleteFunc(w.transactions, func(o *Transaction) bool { return o == t })
	delete(w.byID, id)
	return nil
}

// Settlement is the proven fate of a transaction.
type Settlement struct {
	Tx    *types.Transaction // as the proof has it: reveals and signature may be missing
	Event types.Event        // Applied or Rejected, verified by package proof
	Proof []byte             // what proved it, to keep
	AsOf  AsOf               // the checkpoint under which it was proven
	At    types.Millis       // now, for the history
}

// Settle takes the proven fate of a transaction: it moves what was applied, frees what was
// rejected, and ends the intents whose coins are gone. Errors: NotOurs, WrongTransaction,
// Contradiction, TooMuch.
func (w *Wallet) Settle(s Settlement) error {
	if id := s.Tx.ID(w.chain); id != s.Event.Transaction || s.Event.Kind == types.Payout {
		return refuse(WrongTransaction, "the event is about %s, and this is transaction %s", s.Event.Transaction, id)
	}
	if len(s.Proof) > MaxProof {
		return refuse(TooMuch, "a proof of %d bytes: a wallet keeps at most %d", len(s.Proof), MaxProof)
	}
	t := w.byID[s.Event.Transaction]
	if t == nil {
		if len(w.transactions) >= maxEntries {
			return refuse(TooMuch, "the wallet is full: %d transactions", maxEntries)
		}
		var err error
		if t, err = w.meet(s.Tx.Encode(), s.Tx); err != nil {
			return err
		}
	}
	made, done, err := w.consequences(t, &s)
	if err != nil || done {
		return err
	}
	if s.Event.Kind == types.Rejected && !ledger.Terminal(s.Event.Reason) {
		return nil // it may yet be applied: neither its fate nor its coins are settled
	}
	if w.byID[t.ID] == nil {
		w.enter(t)
	}
	t.tell(Final, s.At)
	t.Event, t.Proof, t.AsOf = &s.Event, slices.Clone(s.Proof), s.AsOf
	if s.Event.Kind == types.Rejected {
		w.end(t, Rejected)
		return nil
	}
	w.end(t, Applied)
	for _, o := range made {
		w.own(o)
	}
	w.spend(t)
	return nil
}

// consequences checks a settlement of t against all that is proven, and gives the outputs
// that an applied one made for the wallet; done if it is known already.
func (w *Wallet) consequences(t *Transaction, s *Settlement) (made []*Owned, done bool, err error) {
	contradiction := func(what string) error {
		return refuse(Contradiction, "transaction %s is proven to be %s, and now an event says that it was %s: one of the proofs is of another past; change the agent", t.ID, what, eventWord(&s.Event))
	}
	if t.Event != nil {
		if *t.Event == s.Event {
			return nil, true, nil
		}
		return nil, false, contradiction(t.Status.String())
	}
	if s.Event.Kind == types.Rejected {
		return nil, false, nil
	}
	if t.Status != Open {
		return nil, false, contradiction(t.Status.String())
	}
	if int(s.Event.Outputs) != len(t.Tx.Outputs) {
		return nil, false, refuse(Contradiction, "transaction %s has %d outputs, and its event says %d", t.ID, len(t.Tx.Outputs), s.Event.Outputs)
	}
	for _, in := range t.Tx.Inputs {
		if other := w.spent[in.Position]; other != nil {
			return nil, false, contradiction("in need of a coin that " + other.ID.String() + " spent")
		}
		if o := w.outputs[in.Position]; o != nil && (o.State.Output != in.Output || o.State.Source != in.Source || o.State.Index != in.Index ||
			o.State.SpentHeight != s.Event.Height && (o.State.SpentHeight != 0 || o.AsOf.Height >= s.Event.Height)) {
			return nil, false, contradiction("in need of a coin that was not there")
		}
	}
	for i, out := range t.Tx.Outputs {
		if !w.ours(out.Lock) {
			continue
		}
		o := &Owned{Position: s.Event.First + uint64(i), State: types.OutputState{
			Output: out, Source: t.ID, Index: uint32(i), BornHeight: s.Event.Height, BornTime: s.Event.Time,
		}}
		if known := w.outputs[o.Position]; known != nil { // found before: its end is known better there
			o.State.SpentHeight, o.AsOf, o.Proof = known.State.SpentHeight, known.AsOf, known.Proof
		}
		if err := w.fits(o); err != nil {
			return nil, false, err
		}
		made = append(made, o)
	}
	if len(w.outputs)+len(made) > maxEntries {
		return nil, false, refuse(TooMuch, "the wallet is full: %d outputs", maxEntries)
	}
	return made, false, nil
}

func eventWord(e *types.Event) string {
	if e.Kind == types.Rejected {
		return "rejected: " + e.Reason.String()
	}
	return "applied"
}

// end closes a transaction and frees what it reserved.
func (w *Wallet) end(t *Transaction, s Status) {
	t.Status = s
	for _, in := range t.Tx.Inputs {
		if w.reserved[in.Position] == t {
			delete(w.reserved, in.Position)
		}
	}
}

// spend does what an applied transaction does to the wallet's outputs, and ends the intents
// that needed them.
func (w *Wallet) spend(t *Transaction) {
	for _, in := range t.Tx.Inputs {
		if rival := w.reserved[in.Position]; rival != nil {
			rival.Proof, rival.AsOf = t.Proof, t.AsOf
			w.end(rival, Overtaken)
		}
		w.spent[in.Position] = t
		if o := w.outputs[in.Position]; o != nil {
			o.State.SpentHeight, o.Proof = t.Event.Height, nil
			if o.AsOf.Height < t.Event.Height {
				o.AsOf = AsOf{t.Event.Height, t.Event.Time}
			}
		}
	}
}

// Finding is the proven state of an output as of a checkpoint.
type Finding struct {
	Position uint64
	State    types.OutputState
	Proof    []byte
	AsOf     AsOf

	spender types.Hash // the transaction that spent it, if a key's history told
}

// Found takes the proven state of an output: one that no transaction explains (of a
// genesis, of a payout of fees, found by a restore), or a newer proof of a known one. One
// that is unspent after an intent on it could last be applied ends that intent. Errors:
// NotOurs, Contradiction, TooMuch.
func (w *Wallet) Found(f Finding) error {
	if !w.ours(f.State.Output.Lock) {
		return refuse(NotOurs, "the output at position %d is under key %s, which is none of this wallet", f.Position, f.State.Output.Lock)
	}
	o := &Owned{Position: f.Position, State: f.State, AsOf: f.AsOf, Proof: slices.Clone(f.Proof)}
	if err := w.plausible(o); err != nil {
		return err
	}
	if len(f.Proof) > MaxProof || w.outputs[f.Position] == nil && len(w.outputs) >= maxEntries {
		return refuse(TooMuch, "the wallet is full: %d outputs of %d, and a proof of %d bytes of %d", len(w.outputs), maxEntries, len(f.Proof), MaxProof)
	}
	w.own(o)
	if t := w.reserved[f.Position]; t != nil {
		var end Status
		switch {
		case f.State.SpentHeight == 0 && f.AsOf.Time > t.Tx.ValidUntil:
			end = Expired
		case !f.spender.IsZero() && f.spender != t.ID:
			end = Overtaken
		default:
			return nil
		}
		t.Proof, t.AsOf = slices.Clone(f.Proof), f.AsOf
		w.end(t, end)
	}
	return nil
}

// KeyHistory is all events of a lock as of a checkpoint, proven to be all.
type KeyHistory struct {
	Lock   types.Key
	Events []types.KeyEvent
	Proof  []byte
	AsOf   AsOf
}

// Learn takes the proven history of one of the wallet's keys: it finds every output of it.
// Errors: as those of Found.
func (w *Wallet) Learn(h KeyHistory) error {
	if !w.ours(h.Lock) {
		return refuse(NotOurs, "key %s is none of this wallet", h.Lock)
	}
	found, err := h.findings()
	if err != nil {
		return err
	}
	for _, f := range found {
		o := &Owned{Position: f.Position, State: f.State, AsOf: f.AsOf}
		if err := w.plausible(o); err != nil {
			return err
		}
	}
	if len(w.outputs)+len(found) > maxEntries || len(h.Proof) > MaxProof {
		return refuse(TooMuch, "%d outputs and a proof of %d bytes are more than a wallet keeps", len(w.outputs)+len(found), len(h.Proof))
	}
	for _, f := range found {
		if err := w.Found(f); err != nil {
			return err // not after the checks above
		}
	}
	return nil
}

// findings are the states of the outputs that a history tells of, by position.
func (h *KeyHistory) findings() ([]Finding, error) {
	byPosition := make(map[uint64]*Finding)
	for i, e := range h.Events {
		f := byPosition[e.Position]
		switch {
		case e.Output.Lock != h.Lock || e.Height > h.AsOf.Height:
			return nil, refuse(Contradiction, "event %d of key %s is of another key, or of the future", i, h.Lock)
		case e.Spent && (f == nil || f.State.SpentHeight != 0 || f.State.Output != e.Output), !e.Spent && f != nil:
			return nil, refuse(Contradiction, "event %d of key %s spends what was not there, or makes what was", i, h.Lock)
		case e.Spent:
			f.State.SpentHeight, f.spender = e.Height, e.Transaction
		default:
			byPosition[e.Position] = &Finding{Position: e.Position, Proof: h.Proof, AsOf: h.AsOf, State: types.OutputState{
				Output: e.Output, Source: e.Transaction, Index: e.Index, BornHeight: e.Height, BornTime: e.Time,
			}}
		}
	}
	out := make([]Finding, 0, len(byPosition))
	for _, f := range byPosition {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Finding) int { return cmp.Compare(a.Position, b.Position) })
	return out, nil
}

// plausible checks the state of an output by itself, and whether it fits. Errors: Contradiction.
func (w *Wallet) plausible(o *Owned) error {
	s := &o.State
	if s.Output.Value == 0 || s.BornHeight > o.AsOf.Height || s.SpentHeight > o.AsOf.Height || s.SpentHeight != 0 && s.SpentHeight < s.BornHeight {
		return o.bad("is of nothing, or out of its time")
	}
	return w.fits(o)
}

func (o *Owned) bad(what string) error {
	return refuse(Contradiction, "the output at position %d %s: one of the proofs is of another past; change the agent", o.Position, what)
}

// fits checks the state of an output against all that is proven. Errors: Contradiction.
func (w *Wallet) fits(o *Owned) error {
	spentAt := o.State.SpentHeight
	old := w.outputs[o.Position]
	if old == nil {
		if t := w.spent[o.Position]; t != nil && !mayPrecede(spentAt, o.AsOf.Height, t.Event.Height) {
			return o.bad("is proven spent by " + t.ID.String())
		}
		return nil
	}
	a, b := old.State, o.State
	if a.SpentHeight, b.SpentHeight = 0, 0; a != b {
		return o.bad("is proven to be another")
	}
	switch known := old.State.SpentHeight; {
	case known != 0 && !mayPrecede(spentAt, o.AsOf.Height, known):
		return o.bad("is proven spent at another height")
	case known == 0 && spentAt != 0 && spentAt <= old.AsOf.Height:
		return o.bad("is proven unspent at a later height")
	}
	return nil
}

// mayPrecede reports whether a state as of a height, spent at spentAt or not at all, agrees
// with the output being spent at known.
func mayPrecede(spentAt, asOf, known uint64) bool {
	return spentAt == known || spentAt == 0 && asOf < known
}

// own enters an output's state that fits, unless what is known is newer.
func (w *Wallet) own(o *Owned) {
	if t := w.spent[o.Position]; t != nil && o.State.SpentHeight == 0 {
		o.State.SpentHeight, o.Proof, o.AsOf = t.Event.Height, nil, AsOf{t.Event.Height, t.Event.Time}
	}
	old := w.outputs[o.Position]
	if old != nil && (old.AsOf.Height > o.AsOf.Height || old.State.SpentHeight != 0 && o.State.SpentHeight == 0) {
		return
	}
	if o.State.SpentHeight != 0 {
		o.Proof = nil
	}
	w.outputs[o.Position] = o
	w.used[o.State.Output.Lock] = true
}
