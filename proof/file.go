package proof

import (
	"fmt"
	"slices"
	"strings"

	"charter/types"
)

// Advance leads from what is trusted to a newer checkpoint.
type Advance struct {
	Chain types.Hash
	Steps []Step
}

// File is the self-contained proof of one transaction's fate: FILE.charter, and the
// proof file of a payment. Trust in a genesis, or in a checkpoint on its way, is all that
// a reader needs.
type File struct {
	Chain   types.Hash
	Steps   []Step   // to the checkpoint that Event and Outputs lead to; none if that is the trusted one
	Event   Event    // what became of the transaction
	Outputs []Output // states of outputs that it made, ascending by position; perhaps none
}

// Made is an output that a transaction made.
type Made struct {
	Position uint64       `json:"position"`
	Value    types.Amount `json:"value"`
	Lock     types.Key    `json:"lock"`
	Host     types.Key    `json:"host"`
	// Proven says that the file has the output's state as of the checkpoint; if so, Spent is
	// the height at which it was spent, 0 for unspent.
	Proven bool   `json:"proven"`
	Spent  uint64 `json:"spent_height"`
}

// Verdict is what a file proves.
type Verdict struct {
	Chain       types.Hash   `json:"chain"`
	Transaction types.Hash   `json:"transaction"` // id; of a payout, its PayoutID
	Payout      bool         `json:"payout"`      // a peer was paid its fees; no transaction did
	Applied     bool         `json:"applied"`     // else it was rejected: for good, unless for being too early
	Reason      string       `json:"reason"`      // why it was rejected, "" if applied
	Height      uint64       `json:"height"`      // of the anchor that ordered it
	Time        types.Millis `json:"time_ms"`     // consensus time at which that was
	Documents   []types.Hash `json:"documents"`   // that it notarises, if applied
	Outputs     []Made       `json:"outputs"`     // that it made, if applied

	Checkpoint       types.Hash   `json:"checkpoint"` // id of the one that all of this hangs under
	CheckpointHeight uint64       `json:"checkpoint_height"`
	CheckpointTime   types.Millis `json:"checkpoint_time_ms"`
	// Pinned says that the checkpoint is the very one that the verifier trusted beforehand, so
	// that nobody's signature was needed; Strength is zero then.
	Pinned   bool     `json:"pinned"`
	Strength Strength `json:"strength"` // by whom the checkpoint is signed

	// Document is the one that was asked about, or nil.
	Document *types.Hash `json:"document"`
	// Name is how Sentence calls the document. The proof says nothing about names: set it to
	// where the document was found.
	Name string `json:"name"`
}

// VerifyFile checks the bytes of a file from what is trusted on, and says what they prove. With a
// document (the SHA-256 of its bytes), the transaction must have been applied and notarise it.
// Every *Error of this package can come.
func VerifyFile(data []byte, trust Trusted, document *types.Hash) (*Verdict, error) {
	f, err := DecodeFile(data)
	if err != nil {
		return nil, err
	}
	return f.Verify(trust, document)
}

// Verify is VerifyFile for a file that is decoded.
func (f *File) Verify(trust Trusted, document *types.Hash) (*Verdict, error) {
	if f.Chain != trust.Chain {
		return nil, refuse(WrongChain, "file", "of chain %s, want %s", f.Chain, trust.Chain)
	}
	now, strengths, err := trust.Advance(f.Steps)
	if err != nil {
		return nil, err
	}
	cp := now.Checkpoint
	if cp == nil || len(f.Steps) > 0 && f.Steps[len(f.Steps)-1].Checkpoint.Height < cp.Height {
		return nil, refuse(Unreached, "advance", "it ends at or before what is trusted (height %d): nothing there vouches for its end", now.Height())
	}
	happened, err := f.Event.Verify(cp)
	if err != nil {
		return nil, within("event", err)
	}
	v := &Verdict{
		Chain: f.Chain, Transaction: happened.Event.Transaction, Applied: happened.Event.Kind != types.Rejected,
		Payout: happened.Event.Kind == types.Payout, Reason: happened.Event.Reason.String(), Height: happened.Event.Height, Time: happened.Event.Time,
		Checkpoint: now.ID, CheckpointHeight: cp.Height, CheckpointTime: cp.Time, Pinned: now.ID == trust.ID,
	}
	if !v.Pinned {
		v.Strength = strengths[len(strengths)-1]
	}
	if v.Applied {
		v.describe(happened)
	}
	if err := v.outputs(f.Outputs, cp); err != nil {
		return nil, err
	}
	if document != nil {
		if !slices.Contains(v.Documents, *document) {
			return nil, refuse(WrongDocument, "event", "%s", v.notNotarised(*document))
		}
		v.Document = document
	}
	return v, nil
}

// describe tells what an applied transaction did. A payout has no transaction, and of
// what it made only outputs that are proven are known.
func (v *Verdict) describe(h *Happened) {
	if h.Transaction == nil {
		return
	}
	for _, r := range h.Transaction.Records {
		if n, ok := r.(types.Notarise); ok {
			v.Documents = append(v.Documents, n.Document)
		}
	}
	for i, o := range h.Transaction.Outputs {
		v.Outputs = append(v.Outputs, Made{Position: h.Event.First + uint64(i), Value: o.Value, Lock: o.Lock, Host: o.Host})
	}
}

// outputs checks the states that a file has, and enters them.
func (v *Verdict) outputs(proofs []Output, cp *types.Checkpoint) error {
	for i := range proofs {
		p, part := &proofs[i], fmt.Sprintf("outputs[%d]", i)
		if i > 0 && p.Position <= proofs[i-1].Position {
			return refuse(WrongSubject, part, "position %d after %d", p.Position, proofs[i-1].Position)
		}
		s, err := p.Verify(cp, p.Position)
		if err != nil {
			return within(part, err)
		}
		at := slices.IndexFunc(v.Outputs, func(m Made) bool { return m.Position == p.Position })
		if at < 0 {
			return refuse(WrongSubject, part, "position %d is not of an output that the transaction made", p.Position)
		}
		m := &v.Outputs[at]
		if made := (types.Output{Value: m.Value, Lock: m.Lock, Host: m.Host}); s.Source != v.Transaction || int(s.Index) != at || s.Output != made {
			return refuse(WrongSubject, part, "position %d holds output %d of %s, not output %d of the transaction", p.Position, s.Index, s.Source, at)
		}
		m.Proven, m.Spent = true, s.SpentHeight
	}
	return nil
}

func (v *Verdict) notNotarised(document types.Hash) string {
	switch {
	case !v.Applied:
		return fmt.Sprintf("the transaction was rejected (%s), so it notarises nothing", v.Reason)
	case len(v.Documents) == 0:
		return "the transaction notarises no document"
	}
	return fmt.Sprintf("the transaction notarises %s, the document at hand has %s", v.Documents[0], document)
}

// Sentence says what is proven, in plain English.
func (v *Verdict) Sentence() string {
	at := fmt.Sprintf("at height %d, %s, on chain %s", v.Height, v.Time, v.Chain)
	var s string
	switch {
	case !v.Applied:
		s = fmt.Sprintf("Transaction %s was rejected (%s) %s", v.Transaction, v.Reason, at)
		if v.Reason == types.TooEarly.String() {
			s += ", and may have been applied later"
		}
	case len(v.Documents) > 0:
		s = fmt.Sprintf("%s notarised %s, by transaction %s", v.documents(), at, v.Transaction)
	case len(v.Outputs) > 0:
		s = fmt.Sprintf("Transaction %s was applied %s, and made %s", v.Transaction, at, v.made())
	case v.Payout:
		s = fmt.Sprintf("Payout %s of a peer's fees was made %s", v.Transaction, at)
	default:
		s = fmt.Sprintf("Transaction %s was applied %s", v.Transaction, at)
	}
	return s + "; " + v.vouched() + "."
}

func (v *Verdict) documents() string {
	if v.Document != nil {
		name := v.Name
		if name == "" {
			name = "The document"
		}
		return fmt.Sprintf("%s (SHA-256 %s) was", name, v.Document)
	}
	if len(v.Documents) == 1 {
		return fmt.Sprintf("The document with SHA-256 %s was", v.Documents[0])
	}
	list := make([]string, len(v.Documents))
	for i, d := range v.Documents {
		list[i] = d.String()
	}
	return "The documents with SHA-256 " + strings.Join(list, ", ") + " were"
}

func (v *Verdict) made() string {
	list := make([]string, len(v.Outputs))
	for i, m := range v.Outputs {
		list[i] = fmt.Sprintf("%s shares for lock %s", m.Value, m.Lock)
		if !m.Host.IsZero() {
			list[i] += " with host " + m.Host.Short()
		}
		switch {
		case m.Proven && m.Spent > 0:
			list[i] += fmt.Sprintf(" (spent at height %d)", m.Spent)
		case m.Proven:
			list[i] += fmt.Sprintf(" (unspent as of height %d)", v.CheckpointHeight)
		}
	}
	return strings.Join(list, ", ")
}

func (v *Verdict) vouched() string {
	which := fmt.Sprintf("the checkpoint of height %d", v.CheckpointHeight)
	if v.Pinned {
		return "this hangs under " + which + " that you trust"
	}
	s := fmt.Sprintf("peers holding %s %% of the shares registered at height %d signed %s", v.Strength.Percent(), v.Strength.Snapshot, which)
	if v.Strength.Behind > 1 {
		s += fmt.Sprintf(" (a register %d periods older than usual: the proof skips, or finality had stalled)", v.Strength.Behind)
	}
	return s
}
