package proof

import (
	"bytes"
	"errors"

	"charter/forest"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// Every proof opens with Magic, a version and a byte for its kind; what follows is fields in
// the encoding of package types (spec/proofs.md, "Bytes").
const (
	Magic   = "charter proof"
	version = 1
)

// Bounds on what a stranger can make a decoder hold.
const (
	MaxSize      = 16 << 20 // bytes of any proof
	MaxSteps     = 1 << 14  // steps of an advance
	MaxFacts     = types.MaxOutputs
	maxSnapshot  = 8 + 2 + 40*types.MaxMembers
	maxNameState = 2 + types.MaxName + 32 + 40
	maxPeerState = 32 + 2 + types.MaxName + 2 + types.MaxAddress + 32 + 8 + 8 + 48
	minStep      = 360 + 1 + 34 // a step without snapshot and votes
	minOutput    = 32 + 8 + 132 + 1
	keyEventSize = 1 + 8 + 32 + 4 + 72 + 8 + 8
	minNameEvent = 32 + 8 + 8 + 32 + 2 + 2 + 32 + 64
)

// Statement is any proof of this package: *Event, *Output, *Key, *Name, *Peer,
// *Consistency, *Advance or *File.
type Statement interface {
	// Encode is the proof's one byte form.
	Encode() []byte
	kind() kindByte
	encode(e *types.Encoder)
	decode(d *types.Decoder)
}

// kindByte tells statements apart in bytes; its name does in JSON.
type kindByte uint8

const (
	kindEvent kindByte = iota + 1
	kindOutput
	kindKey
	kindName
	kindPeer
	kindConsistency
	kindAdvance
	kindFile
	kindStatementEnd
)

var kindNames = [kindStatementEnd]string{
	kindEvent: "event", kindOutput: "output", kindKey: "key", kindName: "name",
	kindPeer: "peer", kindConsistency: "consistency", kindAdvance: "advance", kindFile: "file",
}

func (*Event) kind() kindByte       { return kindEvent }
func (*Output) kind() kindByte      { return kindOutput }
func (*Key) kind() kindByte         { return kindKey }
func (*Name) kind() kindByte        { return kindName }
func (*Peer) kind() kindByte        { return kindPeer }
func (*Consistency) kind() kindByte { return kindConsistency }
func (*Advance) kind() kindByte     { return kindAdvance }
func (*File) kind() kindByte        { return kindFile }

// empty is a statement of this kind to decode into, nil for a kind that there is not.
func empty(k kindByte) Statement {
	switch k {
	case kindEvent:
		return new(Event)
	case kindOutput:
		return new(Output)
	case kindKey:
		return new(Key)
	case kindName:
		return new(Name)
	case kindPeer:
		return new(Peer)
	case kindConsistency:
		return new(Consistency)
	case kindAdvance:
		return new(Advance)
	case kindFile:
		return new(File)
	}
	return nil
}

// Encode is the proof's bytes.
func (p *Event) Encode() []byte       { return encode(p) }
func (p *Output) Encode() []byte      { return encode(p) }
func (p *Key) Encode() []byte         { return encode(p) }
func (p *Name) Encode() []byte        { return encode(p) }
func (p *Peer) Encode() []byte        { return encode(p) }
func (p *Consistency) Encode() []byte { return encode(p) }
func (p *Advance) Encode() []byte     { return encode(p) }
func (p *File) Encode() []byte        { return encode(p) }

func encode(s Statement) []byte {
	e := types.NewEncoder(make([]byte, 0, 2048))
	e.Raw([]byte(Magic))
	e.U8(version)
	e.U8(uint8(s.kind()))
	s.encode(e)
	return e.Data()
}

// Decode reads the bytes of any proof. What it accepts encodes to the same bytes again.
// The error is Malformed.
func Decode(data []byte) (Statement, error) {
	d := types.NewDecoder("proof", data)
	if len(data) > MaxSize {
		d.Fail(types.TooLong, "size")
	}
	if magic := d.Take("magic", len(Magic)); d.Err() == nil && !bytes.Equal(magic, []byte(Magic)) {
		d.Fail(types.Unknown, "magic")
	}
	if v := d.U8("version"); v != version {
		d.Fail(types.Unknown, "version")
	}
	s := empty(kindByte(d.U8("kind")))
	if s == nil {
		d.Fail(types.Unknown, "kind")
	} else {
		s.decode(d)
	}
	if err := d.Finish(); err != nil {
		return nil, &Error{Kind: Malformed, Step: "bytes", Cause: err}
	}
	return s, nil
}

// DecodeFile reads the bytes of a file. The error is Malformed.
func DecodeFile(data []byte) (*File, error) {
	s, err := Decode(data)
	if err != nil {
		return nil, err
	}
	f, ok := s.(*File)
	if !ok {
		return nil, refuse(Malformed, "bytes", "a proof of kind %q, want a file", kindNames[s.kind()])
	}
	return f, nil
}

// nested reads a value that stands behind its length.
func nested[T any](d *types.Decoder, what string, max int, decode func([]byte) (*T, error)) *T {
	b := d.Bytes(what, max)
	if d.Err() != nil {
		return nil
	}
	v, err := decode(b)
	if err != nil {
		var inner *types.DecodeError
		errors.As(err, &inner)
		d.Fail(inner.Kind, what+"."+inner.What)
		return nil
	}
	return v
}

func (p *Event) encode(e *types.Encoder) {
	e.Hash(p.Checkpoint)
	e.Bytes(p.Body)
	e.Raw(p.Event.Encode())
	e.U64(p.Index)
	e.Raw(p.Path.Encode())
	p.Past.encode(e)
}

func (p *Event) decode(d *types.Decoder) {
	p.Checkpoint = d.Hash("checkpoint")
	p.Body = d.Bytes("body", types.MaxTransaction)
	p.Event = *types.ReadEvent(d)
	p.Index = d.U64("index")
	p.Path = tlog.ReadPath(d)
	p.Past = decodePast(d)
}

func (p *Output) encode(e *types.Encoder) {
	e.Hash(p.Checkpoint)
	e.U64(p.Position)
	e.Raw(p.State.Encode())
	e.Raw(p.Path.Encode())
}

func (p *Output) decode(d *types.Decoder) {
	p.Checkpoint = d.Hash("checkpoint")
	p.Position = d.U64("position")
	p.State = *types.ReadOutputState(d)
	p.Path = forest.ReadProof(d)
}

func (p *Key) encode(e *types.Encoder) {
	e.Hash(p.Checkpoint)
	e.Key(p.Lock)
	e.Raw(p.Log.Encode())
	e.Raw(p.Path.Encode())
	e.Raw(p.Prefix.Encode())
	e.Count16(len(p.Events))
	for i := range p.Events {
		e.Raw(p.Events[i].Encode())
	}
}

func (p *Key) decode(d *types.Decoder) {
	p.Checkpoint = d.Hash("checkpoint")
	p.Lock = d.Key("lock")
	p.Log = types.LogState{Count: d.U64("count"), Root: d.Hash("root")}
	p.Path = *trie.ReadProof(d)
	p.Prefix = tlog.ReadFrontier(d)
	for range d.Count16("events", MaxEvents, keyEventSize) {
		p.Events = append(p.Events, *types.ReadKeyEvent(d))
	}
}

func (p *Name) encode(e *types.Encoder) {
	e.Hash(p.Checkpoint)
	e.String(p.Name)
	e.Bool(p.State != nil)
	if p.State != nil {
		e.Bytes(p.State.Encode())
	}
	e.Raw(p.Path.Encode())
	e.Raw(p.Prefix.Encode())
	e.Count16(len(p.Events))
	for i := range p.Events {
		e.Raw(p.Events[i].Encode())
	}
}

func (p *Name) decode(d *types.Decoder) {
	p.Checkpoint = d.Hash("checkpoint")
	p.Name = d.String("name", types.MaxName)
	if d.Bool("held") {
		p.State = nested(d, "state", maxNameState, types.DecodeNameState)
	}
	p.Path = *trie.ReadProof(d)
	p.Prefix = tlog.ReadFrontier(d)
	for range d.Count16("events", MaxEvents, minNameEvent) {
		p.Events = append(p.Events, *types.ReadNameEvent(d))
	}
}

func (p *Peer) encode(e *types.Encoder) {
	e.Hash(p.Checkpoint)
	e.Key(p.Peer)
	e.Bool(p.State != nil)
	if p.State != nil {
		e.Bytes(p.State.Encode())
	}
	e.Raw(p.Path.Encode())
}

func (p *Peer) decode(d *types.Decoder) {
	p.Checkpoint = d.Hash("checkpoint")
	p.Peer = d.Key("peer")
	if d.Bool("registered") {
		p.State = nested(d, "state", maxPeerState, types.DecodePeerState)
	}
	p.Path = *trie.ReadProof(d)
}

func (p *Consistency) encode(e *types.Encoder) {
	e.Hash(p.Old)
	e.Hash(p.New)
	e.Raw(p.Path.Encode())
	e.Raw(p.History.Encode())
}

func (p *Consistency) decode(d *types.Decoder) {
	p.Old, p.New = d.Hash("old"), d.Hash("new")
	p.Path, p.History = tlog.ReadPath(d), tlog.ReadPath(d)
}

func (s *Step) encode(e *types.Encoder) {
	e.Bool(s.Snapshot != nil)
	if s.Snapshot != nil {
		e.Bytes(s.Snapshot.Encode())
		s.Past.encode(e)
	}
	e.Raw(s.Checkpoint.Encode())
	e.Raw(s.Certificate.Encode())
}

// encode writes whether there is a past, and it.
func (p *Past) encode(e *types.Encoder) {
	e.Bool(p != nil)
	if p != nil {
		e.Raw(p.Checkpoint.Encode())
		e.Raw(p.Path.Encode())
	}
}

func decodePast(d *types.Decoder) *Past {
	if !d.Bool("past") {
		return nil
	}
	return &Past{*types.ReadCheckpoint(d), tlog.ReadPath(d)}
}

func encodeSteps(e *types.Encoder, steps []Step) {
	e.Count16(len(steps))
	for i := range steps {
		steps[i].encode(e)
	}
}

func decodeSteps(d *types.Decoder) []Step {
	n := d.Count16("steps", MaxSteps, minStep)
	var steps []Step
	for i := 0; i < n && d.Err() == nil; i++ {
		var s Step
		if d.Bool("snapshot") {
			s.Snapshot = nested(d, "snapshot", maxSnapshot, types.DecodeSnapshot)
			s.Past = decodePast(d)
		}
		s.Checkpoint = *types.ReadCheckpoint(d)
		s.Certificate = *types.ReadCertificate(d)
		steps = append(steps, s)
	}
	return steps
}

func (p *Advance) encode(e *types.Encoder) { e.Hash(p.Chain); encodeSteps(e, p.Steps) }

func (p *Advance) decode(d *types.Decoder) { p.Chain, p.Steps = d.Hash("chain"), decodeSteps(d) }

func (f *File) encode(e *types.Encoder) {
	e.Hash(f.Chain)
	encodeSteps(e, f.Steps)
	f.Event.encode(e)
	e.Count16(len(f.Outputs))
	for i := range f.Outputs {
		f.Outputs[i].encode(e)
	}
}

func (f *File) decode(d *types.Decoder) {
	f.Chain = d.Hash("chain")
	f.Steps = decodeSteps(d)
	f.Event.decode(d)
	n := d.Count16("outputs", MaxFacts, minOutput)
	for i := 0; i < n && d.Err() == nil; i++ {
		var o Output
		o.decode(d)
		f.Outputs = append(f.Outputs, o)
	}
}

// Encode is what a wallet keeps of what it trusts.
func (t *Trusted) Encode() []byte {
	e := types.NewEncoder(nil)
	e.U8(version)
	e.Hash(t.Chain)
	e.U64(t.Lag)
	e.U64(t.Period)
	e.Hash(t.ID)
	e.Bool(t.Checkpoint != nil)
	if t.Checkpoint != nil {
		e.Raw(t.Checkpoint.Encode())
	}
	e.U64(t.Oldest)
	e.Count16(len(t.Snapshots))
	for i := range t.Snapshots {
		e.Bytes(t.Snapshots[i].Encode())
	}
	return e.Data()
}

// DecodeTrusted reads what Encode wrote. It believes it: the bytes must come from where
// the wallet keeps its secrets. The error is Malformed.
func DecodeTrusted(data []byte) (Trusted, error) {
	d := types.NewDecoder("trusted", data)
	if v := d.U8("version"); v != version {
		d.Fail(types.Unknown, "version")
	}
	t := Trusted{Chain: d.Hash("chain"), Lag: d.U64("lag"), Period: d.U64("period"), ID: d.Hash("id")}
	if t.Period == 0 {
		d.Fail(types.NotCanonical, "period")
	}
	if d.Bool("checkpoint") {
		if t.Checkpoint = types.ReadCheckpoint(d); d.Err() == nil && (t.Checkpoint.ID() != t.ID || t.Checkpoint.Chain != t.Chain) {
			d.Fail(types.NotCanonical, "checkpoint")
		}
	}
	t.Oldest = d.U64("oldest")
	n := d.Count16("snapshots", MaxSteps, 4)
	for i := 0; i < n && d.Err() == nil; i++ {
		s := nested(d, "snapshot", maxSnapshot, types.DecodeSnapshot)
		if s == nil {
			break
		}
		if s.Height < t.Oldest || i > 0 && s.Height <= t.Snapshots[i-1].Height {
			d.Fail(types.NotCanonical, "snapshots")
			break
		}
		t.Snapshots = append(t.Snapshots, *s)
	}
	if err := d.Finish(); err != nil {
		return Trusted{}, &Error{Kind: Malformed, Step: "trusted", Cause: err}
	}
	return t, nil
}
