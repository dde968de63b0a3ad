package wallet

import (
	"fmt"
	"slices"

	"charter/types"
)

// magic opens the encoding of a wallet; the last byte is its version.
const magic = "charter wallet\x01"

// Encode is all of the wallet, its secret included: what package seal is for. It is
// canonical: equal wallets have equal bytes.
func (w *Wallet) Encode() []byte {
	e := types.NewEncoder(nil)
	e.Raw([]byte(magic))
	e.Hash(w.chain)
	e.Amount(w.minFee)
	e.Raw(w.entropy[:])
	e.U32(w.account)
	e.Key(w.agent.Peer)
	e.String(w.agent.Name)
	e.String(w.agent.Address)
	e.Bytes(w.trusted)
	encodeAsOf(e, w.trustedAsOf)
	for _, p := range []Purpose{Receive, Change} {
		e.Count32(len(w.issued[p]))
		for _, lock := range w.issued[p] {
			e.Key(lock)
		}
	}
	e.Count32(len(w.outputs))
	for _, o := range w.Outputs() {
		e.U64(o.Position)
		e.Raw(o.State.Encode())
		encodeAsOf(e, o.AsOf)
		e.Bytes(o.Proof)
	}
	e.Count32(len(w.transactions))
	for _, t := range w.transactions {
		t.encode(e)
	}
	return e.Data()
}

func (t *Transaction) encode(e *types.Encoder) {
	e.Bytes(t.Raw)
	e.String(t.Intent)
	e.U8(uint8(t.Told))
	for _, at := range t.Times {
		e.Time(at)
	}
	e.U8(uint8(t.Status))
	if t.Event != nil {
		e.Raw(t.Event.Encode())
	}
	encodeAsOf(e, t.AsOf)
	e.Bytes(t.Proof)
}

func encodeAsOf(e *types.Encoder, a AsOf) {
	e.U64(a.Height)
	e.Time(a.Time)
}

func decodeAsOf(d *types.Decoder) AsOf {
	a := AsOf{d.U64("height"), d.Time("time")}
	if a.Height > types.MaxHeight {
		d.Fail(types.NotCanonical, "height")
	}
	return a
}

// Decode reads what Encode wrote, and refuses what no wallet writes. That the words make
// the keys is checked later, when one signs. Errors: *types.DecodeError.
func Decode(data []byte) (*Wallet, error) {
	d := types.NewDecoder("wallet", data)
	if string(d.Take("magic", len(magic))) != magic {
		d.Fail(types.Unknown, "magic")
	}
	w := &Wallet{chain: d.Hash("chain"), minFee: d.Amount("fee")}
	copy(w.entropy[:], d.Take("entropy", 32))
	if w.account = d.U32("account"); w.account > MaxIndex {
		d.Fail(types.NotCanonical, "account")
	}
	w.agent = Agent{d.Key("agent"), d.String("agent name", types.MaxName), d.String("agent address", MaxAPI)}
	w.trusted = d.Bytes("trusted", MaxProof)
	if w.trustedAsOf = decodeAsOf(d); len(w.trusted) == 0 && w.trustedAsOf != (AsOf{}) {
		d.Fail(types.NotCanonical, "trusted")
	}
	for _, p := range []Purpose{Receive, Change} {
		for range d.Count32("keys", maxEntries, 32) {
			w.issued[p] = append(w.issued[p], d.Key("keys"))
		}
	}
	w.index()
	if len(w.locks) != len(w.issued[Receive])+len(w.issued[Change]) {
		d.Fail(types.NotCanonical, "keys")
	}
	w.decodeOutputs(d)
	for range d.Count32("transactions", maxEntries, 4) {
		if t := w.decodeTransaction(d); d.Err() == nil {
			w.enter(t)
		}
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	if what := w.disagreement(); what != "" {
		d.Fail(types.NotCanonical, what)
		return nil, d.Err()
	}
	return w, nil
}

func (w *Wallet) decodeOutputs(d *types.Decoder) {
	var last uint64
	for i := range d.Count32("outputs", maxEntries, 8+132+16+4) {
		o := &Owned{Position: d.U64("position"), State: *types.ReadOutputState(d), AsOf: decodeAsOf(d), Proof: d.Bytes("proof", MaxProof)}
		s := &o.State
		if d.Err() == nil && (i > 0 && o.Position <= last || !w.ours(s.Output.Lock) || s.Output.Value == 0 ||
			s.SpentHeight != 0 && (s.SpentHeight < s.BornHeight || o.AsOf.Height < s.SpentHeight || o.Proof != nil)) {
			d.Fail(types.NotCanonical, fmt.Sprintf("outputs[%d]", i))
		}
		if d.Err() != nil {
			return
		}
		last = o.Position
		w.outputs[o.Position] = o
		w.used[s.Output.Lock] = true
	}
}

func (w *Wallet) decodeTransaction(d *types.Decoder) *Transaction {
	t := &Transaction{Raw: d.Bytes("raw", types.MaxTransaction), Intent: d.String("intent", MaxIntent), Told: Tier(d.U8("told"))}
	for i := range t.Times {
		t.Times[i] = d.Time("times")
	}
	t.Status = Status(d.U8("status"))
	if t.Told >= tierEnd || t.Status >= statusEnd {
		d.Fail(types.Unknown, "status")
	}
	if t.Status == Applied || t.Status == Rejected {
		t.Event = types.ReadEvent(d)
	}
	t.AsOf, t.Proof = decodeAsOf(d), d.Bytes("proof", MaxProof)
	if d.Err() != nil {
		return nil
	}
	tx, err := types.DecodeTransaction(t.Raw)
	if err != nil || len(tx.Inputs) == 0 && t.Intent != "" {
		d.Fail(types.NotCanonical, "raw")
		return nil
	}
	t.Tx, t.ID = tx, tx.ID(w.chain)
	_, twice := w.byID[t.ID]
	_, taken := w.intents[t.Intent]
	kinds := [statusEnd]types.EventKind{Applied: types.Applied, Rejected: types.Rejected}
	switch {
	case twice || taken,
		t.Event != nil && (t.Event.Kind != kinds[t.Status] || t.Event.Transaction != t.ID),
		t.Status == Applied && int(t.Event.Outputs) != len(tx.Outputs),
		t.Status == Open && (t.Proof != nil || t.AsOf != AsOf{}),
		(t.Status == Overtaken || t.Status == Expired) && t.Intent == "":
		d.Fail(types.NotCanonical, "transaction")
	}
	for _, in := range tx.Inputs {
		if t.Status == Applied && w.spent[in.Position] != nil || t.Status == Open && t.Intent != "" && w.reserved[in.Position] != nil {
			d.Fail(types.NotCanonical, "inputs")
		}
	}
	return t
}

// disagreement names what two parts of the wallet say differently, "" if nothing.
func (w *Wallet) disagreement() string {
	for at, o := range w.outputs {
		if t := w.spent[at]; t != nil && o.State.SpentHeight != t.Event.Height {
			return "spent outputs"
		}
	}
	for at, t := range w.reserved {
		if w.spent[at] != nil {
			return "reserved outputs"
		}
		o := w.outputs[at]
		if o == nil || !slices.ContainsFunc(t.Tx.Inputs, func(in types.Input) bool {
			return in.Position == at && in.Output == o.State.Output && in.Source == o.State.Source && in.Index == o.State.Index
		}) {
			return "reserved outputs"
		}
	}
	return ""
}
