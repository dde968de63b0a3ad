package types

import "fmt"

// EventKind says what happened to a transaction that was ordered.
type EventKind uint8

const (
	// Applied: the transaction took effect.
	Applied EventKind = iota + 1
	// Rejected: it was ordered, and the state it met refused it.
	Rejected
	// Payout: a peer was paid its fees at a snapshot.
	Payout
)

// Reason says why an ordered transaction was rejected (spec/ledger.md, "Rejections").
type Reason uint8

const (
	// NoReason: it was not rejected.
	NoReason Reason = iota
	// UnknownOutput: an input's position holds no output, or another one.
	UnknownOutput
	// SpentOutput: an input's output is spent already.
	SpentOutput
	// TooEarly: consensus time is before ValidFrom, or a leaf's `after` or `older` does not hold yet.
	TooEarly
	// TooLate: consensus time is past ValidUntil.
	TooLate
	// NameTaken: a record claims a name that another key holds.
	NameTaken
	// UnknownHost: an output names a host that is no registered peer.
	UnknownHost
	// UnknownPeer: a record is about a key that is no registered peer.
	UnknownPeer
	// SettledOffence: the offender is marked already, or what it did is forgiven.
	SettledOffence
	// Unproven: the state does not bear out what evidence says.
	Unproven
	// NotOffended: a vote reinstates a peer that is in good standing, or is about another of its offences.
	NotOffended
	// TooFewShares: the outputs that vote and are unspent do not hold more than half of the supply.
	TooFewShares
	reasonEnd
)

var reasons = [...]string{"", "unknown output", "output already spent", "too early", "too late", "name taken", "unknown host",
	"unknown peer", "offence already settled", "not proven", "not marked for that offence", "too few shares"}

// String is the reason in words.
func (r Reason) String() string {
	if r < reasonEnd {
		return reasons[r]
	}
	return fmt.Sprintf("reason %d", r)
}

// Event is one leaf under a checkpoint's events root: one ordered transaction's fate.
type Event struct {
	Kind        EventKind
	Transaction Hash   // its id, or a PayoutID
	Block       Hash   // the block that carried it in, or the anchor for a payout
	Height      uint64 // of the anchor that ordered it
	Time        Millis // consensus time at which it was applied
	First       uint64 // position of its first output; the others follow
	Outputs     uint16 // how many outputs it made, 0 if rejected
	Reason      Reason // 0 unless rejected
}

const eventSize = 1 + 32 + 32 + 8 + 8 + 8 + 2 + 1

// Encode is the event's bytes, 92 of them.
func (v *Event) Encode() []byte {
	e := NewEncoder(make([]byte, 0, eventSize))
	e.U8(uint8(v.Kind))
	e.Hash(v.Transaction)
	e.Hash(v.Block)
	e.U64(v.Height)
	e.Time(v.Time)
	e.U64(v.First)
	e.U16(v.Outputs)
	e.U8(uint8(v.Reason))
	return e.Data()
}

// ReadEvent reads an event that is part of something larger.
func ReadEvent(d *Decoder) *Event {
	v := &Event{
		Kind: EventKind(d.U8("kind")), Transaction: d.Hash("transaction"), Block: d.Hash("block"),
		Height: decodeHeight(d), Time: d.Time("time"), First: d.U64("first"), Outputs: d.U16("outputs"),
		Reason: Reason(d.U8("reason")),
	}
	switch {
	case v.Kind < Applied || v.Kind > Payout:
		d.Fail(Unknown, "kind")
	case v.Reason >= reasonEnd:
		d.Fail(Unknown, "reason")
	case (v.Kind == Rejected) != (v.Reason != NoReason) || v.Kind == Rejected && (v.Outputs != 0 || v.First != 0):
		d.Fail(NotCanonical, "reason")
	}
	return v
}

// DecodeEvent reads an event.
func DecodeEvent(data []byte) (*Event, error) {
	d := NewDecoder("event", data)
	v := ReadEvent(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return v, nil
}

// KeyEvent is one leaf of a key's own log: an output under that lock was made or spent.
type KeyEvent struct {
	Spent       bool
	Position    uint64
	Transaction Hash // that made it, or that spent it
	Index       uint32
	Output      Output
	Height      uint64 // of the anchor that ordered the transaction
	Time        Millis
}

// Encode is the key event's bytes.
func (v *KeyEvent) Encode() []byte {
	e := NewEncoder(make([]byte, 0, 160))
	e.Bool(v.Spent)
	e.U64(v.Position)
	e.Hash(v.Transaction)
	e.U32(v.Index)
	v.Output.encode(e)
	e.U64(v.Height)
	e.Time(v.Time)
	return e.Data()
}

// ReadKeyEvent reads a key event that is part of something larger.
func ReadKeyEvent(d *Decoder) *KeyEvent {
	return &KeyEvent{
		Spent: d.Bool("spent"), Position: d.U64("position"), Transaction: d.Hash("transaction"),
		Index: d.U32("index"), Output: decodeOutput(d), Height: decodeHeight(d), Time: d.Time("time"),
	}
}

// DecodeKeyEvent reads a key event.
func DecodeKeyEvent(data []byte) (*KeyEvent, error) {
	d := NewDecoder("key event", data)
	v := ReadKeyEvent(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return v, nil
}

// OutputState is a leaf of the output tree: an output, its birth and perhaps its end.
type OutputState struct {
	Output      Output
	Source      Hash // id of the transaction that made it
	Index       uint32
	BornHeight  uint64
	BornTime    Millis
	SpentHeight uint64 // 0 while unspent
}

// Encode is the state's bytes, 132 of them.
func (s *OutputState) Encode() []byte {
	e := NewEncoder(make([]byte, 0, 136))
	s.Output.encode(e)
	e.Hash(s.Source)
	e.U32(s.Index)
	e.U64(s.BornHeight)
	e.Time(s.BornTime)
	e.U64(s.SpentHeight)
	return e.Data()
}

// ReadOutputState reads a state that is part of something larger.
func ReadOutputState(d *Decoder) *OutputState {
	return &OutputState{
		Output: decodeOutput(d), Source: d.Hash("source"), Index: d.U32("index"),
		BornHeight: decodeHeight(d), BornTime: d.Time("born"), SpentHeight: decodeHeight(d),
	}
}

// DecodeOutputState reads an output state.
func DecodeOutputState(data []byte) (*OutputState, error) {
	d := NewDecoder("output state", data)
	s := ReadOutputState(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return s, nil
}

// PeerState is a leaf of the peers tree.
type PeerState struct {
	Peer     Key
	Name     string
	Address  string // host:port
	Reward   Key    // lock of the outputs that pay its fees
	Shares   Amount // sum of the unspent outputs it hosts
	Fees     Amount // earned and not yet paid out
	Standing Standing
}

// Encode is the peer's bytes.
func (p *PeerState) Encode() []byte {
	e := NewEncoder(nil)
	e.Key(p.Peer)
	e.String(p.Name)
	e.String(p.Address)
	e.Key(p.Reward)
	e.Amount(p.Shares)
	e.Amount(p.Fees)
	p.Standing.encode(e)
	return e.Data()
}

// DecodePeerState reads a peer.
func DecodePeerState(data []byte) (*PeerState, error) {
	d := NewDecoder("peer", data)
	p := &PeerState{
		Peer: d.Key("peer"), Name: d.String("name", MaxName), Address: d.String("address", MaxAddress),
		Reward: d.Key("reward"), Shares: d.Amount("shares"), Fees: d.Amount("fees"), Standing: decodeStanding(d),
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// LogState is the value of a leaf of the keys tree and, behind the holder, of the names
// tree: how many events there were, and the root over them (RFC 6962).
type LogState struct {
	Count uint64
	Root  Hash
}

// Encode is 40 bytes.
func (l LogState) Encode() []byte {
	e := NewEncoder(nil)
	e.U64(l.Count)
	e.Hash(l.Root)
	return e.Data()
}

// NameState is a leaf of the names tree: who holds a name, and the log of its story.
type NameState struct {
	Name  string
	Peer  Key
	Story LogState // over the encoded NameEvents, in order
}

// Encode is the name's bytes.
func (n *NameState) Encode() []byte {
	e := NewEncoder(nil)
	e.String(n.Name)
	e.Key(n.Peer)
	e.Raw(n.Story.Encode())
	return e.Data()
}

// DecodeNameState reads a name.
func DecodeNameState(data []byte) (*NameState, error) {
	d := NewDecoder("name", data)
	n := &NameState{Name: d.String("name", MaxName), Peer: d.Key("peer"), Story: LogState{d.U64("count"), d.Hash("root")}}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return n, nil
}
