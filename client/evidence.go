package client

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"charter/proof"
	"charter/types"
)

// EvidenceSuffix ends the name of an evidence file.
const EvidenceSuffix = ".charter-evidence"

// Evidence is what a wallet keeps of an agent that it caught, or of two pasts that were both
// certified (spec/wallet.md, "Evidence"). One of the two is set.
type Evidence struct {
	Chain    types.Hash
	Conflict *Conflict // convinces anybody: it is signed
	Lie      *Lie      // convinces who keeps it: answers are not signed
}

// Conflict is two certified checkpoints of one height, ascending by id.
type Conflict struct{ Sides [2]Side }

// Side is a checkpoint with its certificate, the snapshot that signed it, and who served it.
type Side struct {
	Checkpoint  types.Checkpoint
	Certificate types.Certificate
	Snapshot    types.Snapshot
	Agents      []Witness
}

// Witness is an agent: its URL, and the key and name that it says are its own.
type Witness struct {
	URL  string    `json:"url"`
	Peer types.Key `json:"peer"`
	Name string    `json:"name"`
}

// String names the agent.
func (w Witness) String() string {
	if w.Peer.IsZero() {
		return w.URL
	}
	return fmt.Sprintf("%s (peer %s, %s…)", w.URL, w.Name, w.Peer.Short())
}

// Lie is a question to an agent and the answer that does not hold.
type Lie struct {
	Agent    Witness
	Time     types.Millis // of the wallet's clock
	Height   uint64       // of the checkpoint that the wallet trusted
	Trusted  types.Hash   // its id
	Kind     Kind
	Step     string // which part of the proof failed, and how, in the words of package proof; "" if it was no proof
	Text     string // the error
	Call     string // of api/charter/v1
	Question []byte // protobuf
	Answer   []byte // protobuf; of a refusal the ErrorDetail; empty: none came
}

const (
	evidenceMagic   = "charter evidence\x01"
	maxEvidence     = answerMax + 1<<20 // bytes of an evidence file
	maxEvidenceText = 4096
	maxServed       = 64 // agents of a side
)

// Encode is the evidence's bytes.
func (v *Evidence) Encode() []byte {
	e := types.NewEncoder(nil)
	e.Raw([]byte(evidenceMagic))
	e.Hash(v.Chain)
	e.Bool(v.Conflict != nil)
	if v.Conflict != nil {
		for i := range v.Conflict.Sides {
			v.Conflict.Sides[i].encode(e)
		}
		return e.Data()
	}
	l := v.Lie
	l.Agent.encode(e)
	e.Time(l.Time)
	e.U64(l.Height)
	e.Hash(l.Trusted)
	e.U8(uint8(l.Kind))
	e.String(l.Step)
	e.String(l.Text)
	e.String(l.Call)
	e.Bytes(l.Question)
	e.Bytes(l.Answer)
	return e.Data()
}

func (s *Side) encode(e *types.Encoder) {
	e.Raw(s.Checkpoint.Encode())
	e.Raw(s.Certificate.Encode())
	e.Bytes(s.Snapshot.Encode())
	e.Count16(len(s.Agents))
	for _, w := range s.Agents {
		w.encode(e)
	}
}

func (w Witness) encode(e *types.Encoder) {
	e.String(w.URL)
	e.Key(w.Peer)
	e.String(w.Name)
}

// DecodeEvidence reads an evidence file. Errors: NotEvidence.
func DecodeEvidence(data []byte) (*Evidence, error) {
	d := types.NewDecoder("evidence", data)
	if !bytes.Equal(d.Take("magic", len(evidenceMagic)), []byte(evidenceMagic)) {
		d.Fail(types.Unknown, "magic")
	}
	v := &Evidence{Chain: d.Hash("chain")}
	if d.Bool("conflict") {
		v.Conflict = new(Conflict)
		for i := range v.Conflict.Sides {
			v.Conflict.Sides[i] = decodeSide(d)
		}
	} else {
		v.Lie = &Lie{Agent: decodeWitness(d), Time: d.Time("time"), Height: d.U64("height"), Trusted: d.Hash("trusted"), Kind: Kind(d.U8("kind"))}
		l := v.Lie
		l.Step, l.Text, l.Call = d.String("step", maxEvidenceText), d.String("text", maxEvidenceText), d.String("call", 64)
		l.Question, l.Answer = bytes.Clone(d.Bytes("question", maxEvidence)), bytes.Clone(d.Bytes("answer", maxEvidence))
		if !l.Kind.fault() {
			d.Fail(types.Unknown, "kind")
		}
	}
	if err := d.Finish(); err != nil {
		return nil, refuse(NotEvidence, err, "this is no evidence: %v", err)
	}
	return v, nil
}

func decodeSide(d *types.Decoder) (s Side) {
	s.Checkpoint, s.Certificate = *types.ReadCheckpoint(d), *types.ReadCertificate(d)
	snap, err := types.DecodeSnapshot(d.Bytes("snapshot", proof.MaxSize))
	if err != nil {
		d.Fail(types.Unknown, "snapshot")
		return s
	}
	s.Snapshot = *snap
	for range d.Count16("agents", maxServed, 36) {
		s.Agents = append(s.Agents, decodeWitness(d))
	}
	return s
}

func decodeWitness(d *types.Decoder) Witness {
	return Witness{d.String("url", 256), d.Key("peer"), d.String("name", types.MaxName)}
}

// Signer is a peer that signed both checkpoints of a conflict.
type Signer struct {
	Peer   types.Key    `json:"peer"`
	Name   string       `json:"name"`   // in the genesis, if that was at hand
	Shares types.Amount `json:"shares"` // in the snapshot of the first side
}

// Finding is what evidence shows.
type Finding struct {
	Chain   types.Hash    `json:"chain"`
	Height  uint64        `json:"height"`
	IDs     [2]types.Hash `json:"checkpoints"`
	Both    []Signer      `json:"signed_both"`
	Shares  types.Amount  `json:"shares_both"`
	Total   types.Amount  `json:"shares_total"`
	Genuine bool          `json:"genuine"` // both snapshots are the genesis's; else the file alone says whose shares they are
	Served  [2][]Witness  `json:"served_by"`
}

// Verify checks a conflict: that both checkpoints are of one height of the chain, and each signed
// by more than two thirds of its snapshot. The genesis, which may be nil, tells the names of
// its peers and whether the snapshots are its own. Errors: NotEvidence.
func (v *Evidence) Verify(g *types.Genesis) (*Finding, error) {
	if v.Conflict == nil {
		return nil, refuse(NotEvidence, nil, "this is the record of an answer, which is not signed: it proves nothing to others")
	}
	a, b := &v.Conflict.Sides[0], &v.Conflict.Sides[1]
	f := &Finding{Chain: v.Chain, Height: a.Checkpoint.Height, IDs: [2]types.Hash{a.Checkpoint.ID(), b.Checkpoint.ID()}, Served: [2][]Witness{a.Agents, b.Agents}}
	if a.Checkpoint.Height != b.Checkpoint.Height || bytes.Compare(f.IDs[0][:], f.IDs[1][:]) >= 0 {
		return nil, refuse(NotEvidence, nil, "the two checkpoints are not of one height, or not two")
	}
	if g != nil && g.ChainID() != v.Chain {
		return nil, refuse(NotEvidence, nil, "the evidence is of another network: give that network's genesis")
	}
	for _, s := range []*Side{a, b} {
		if _, err := proof.VerifyCertificate(v.Chain, &s.Checkpoint, &s.Certificate, &s.Snapshot); err != nil {
			return nil, refuse(NotEvidence, err, "a checkpoint is not certified: %v", err)
		}
	}
	voters := make(map[types.Key]bool)
	for _, vote := range b.Certificate.Votes {
		voters[b.Snapshot.Members[vote.Index].Peer] = true
	}
	for _, vote := range a.Certificate.Votes {
		if m := a.Snapshot.Members[vote.Index]; voters[m.Peer] {
			f.Both = append(f.Both, Signer{m.Peer, peerName(g, m.Peer), m.Shares})
			f.Shares += m.Shares // no more than all, which VerifyCertificate added up
		}
	}
	f.Total = a.Snapshot.Total()
	if g != nil {
		root := g.Snapshot().Root(v.Chain)
		f.Genuine = root == a.Certificate.Snapshot && root == b.Certificate.Snapshot
	}
	return f, nil
}

func peerName(g *types.Genesis, peer types.Key) string {
	if g == nil {
		return ""
	}
	i := slices.IndexFunc(g.Peers, func(p types.GenesisPeer) bool { return p.Peer == peer })
	if i < 0 {
		return ""
	}
	return g.Peers[i].Name
}

// Sentence says what the conflict shows, in plain English.
func (f *Finding) Sentence() string {
	names := make([]string, len(f.Both))
	for i, s := range f.Both {
		names[i] = s.Peer.String()
		if s.Name != "" {
			names[i] = fmt.Sprintf("%s (%s…)", s.Name, s.Peer.Short())
		}
	}
	whose := "shares that the file says they have"
	if f.Genuine {
		whose = "shares that they have in the genesis"
	}
	text := fmt.Sprintf("Two checkpoints of height %d on chain %s are certified, %s and %s: %d peers signed both, with %s of %s %s",
		f.Height, f.Chain, f.IDs[0], f.IDs[1], len(f.Both), f.Shares, f.Total, whose)
	if len(names) > 0 {
		text += ": " + strings.Join(names, ", ")
	}
	for i, served := range f.Served {
		for _, w := range served {
			text += fmt.Sprintf("; %s served %s…", w, f.IDs[i].Short())
		}
	}
	return text + "."
}

// Sentence says what was recorded, in plain English.
func (l *Lie) Sentence() string {
	step := ""
	if l.Step != "" {
		step = " (" + l.Step + ")"
	}
	return fmt.Sprintf("At %s the agent %s was asked %s, as of height %d, and its answer of %d bytes was refused as %s%s: %s. An answer is not signed: this convinces who recorded it.",
		l.Time, l.Agent, l.Call, l.Height, len(l.Answer), l.Kind, step, l.Text)
}

// stepOf is where package proof found the fault.
func stepOf(err error) string {
	var e *proof.Error
	if errors.As(err, &e) {
		return e.Step + ": " + e.Kind.String()
	}
	return ""
}
