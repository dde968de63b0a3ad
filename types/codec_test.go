package types

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
)

// codec is one kind of value with its one encoding, and values of it drawn at random, every
// one of which its decoder takes.
type codec struct {
	name   string
	draw   func(*drawer) any
	encode func(any) []byte
	decode func([]byte) (any, error)
	id     func(chain Hash, v any) Hash // nil for what has no id
}

func codecOf[T any](name string, draw func(*drawer) T, encode func(T) []byte, decode func([]byte) (T, error), id func(Hash, T) Hash) codec {
	c := codec{
		name: name, draw: func(r *drawer) any { return draw(r) }, encode: func(v any) []byte { return encode(v.(T)) },
		decode: func(data []byte) (any, error) {
			v, err := decode(data)
			if err != nil {
				return nil, err
			}
			return v, nil
		},
	}
	if id != nil {
		c.id = func(chain Hash, v any) Hash { return id(chain, v.(T)) }
	}
	return c
}

var codecs = []codec{
	codecOf("transaction", (*drawer).transaction, (*Transaction).Encode, DecodeTransaction,
		func(chain Hash, t *Transaction) Hash { return t.ID(chain) }),
	codecOf("transaction body", (*drawer).body, (*Transaction).Body, DecodeTransactionBody,
		func(chain Hash, t *Transaction) Hash { return t.ID(chain) }),
	codecOf("block", (*drawer).block, (*Block).Encode, DecodeBlock,
		func(chain Hash, b *Block) Hash { return b.ID(chain) }),
	codecOf("payload", (*drawer).payload, EncodePayload, DecodePayload, nil),
	codecOf("snapshot", (*drawer).snapshot, (*Snapshot).Encode, DecodeSnapshot,
		func(chain Hash, s *Snapshot) Hash { return s.Root(chain) }),
	codecOf("checkpoint", (*drawer).checkpoint, (*Checkpoint).Encode, DecodeCheckpoint,
		func(_ Hash, c *Checkpoint) Hash { return c.ID() }),
	codecOf("certificate", (*drawer).certificate, (*Certificate).Encode, DecodeCertificate, nil),
	codecOf("event", (*drawer).event, (*Event).Encode, DecodeEvent, nil),
	codecOf("key event", (*drawer).keyEvent, (*KeyEvent).Encode, DecodeKeyEvent, nil),
	codecOf("name event", (*drawer).nameEvent, (*NameEvent).Encode, DecodeNameEvent, nil),
	codecOf("output state", (*drawer).outputState, (*OutputState).Encode, DecodeOutputState,
		func(_ Hash, s *OutputState) Hash { return OutputLeaf(s) }),
	codecOf("peer state", (*drawer).peerState, (*PeerState).Encode, DecodePeerState,
		func(_ Hash, p *PeerState) Hash { return PeerLeaf(p) }),
	codecOf("name state", (*drawer).nameState, (*NameState).Encode, DecodeNameState,
		func(_ Hash, n *NameState) Hash { return NameLeaf(n) }),
	codecOf("evidence", (*drawer).evidence, Evidence.Encode, DecodeEvidence, nil),
	codecOf("ballot", (*drawer).ballot, Ballot.Encode, DecodeBallot, nil),
	codecOf("signed vote", (*drawer).signedVote, encodeSignedVote, decodeSignedVote,
		func(chain Hash, v SignedVote) Hash { return VoteDigest(chain, v.Height, v.CheckpointVote.Checkpoint) }),
}

func encodeSignedVote(v SignedVote) []byte {
	e := NewEncoder(nil)
	v.Encode(e)
	return e.Data()
}

func decodeSignedVote(data []byte) (SignedVote, error) {
	d := NewDecoder("signed vote", data)
	v := ReadSignedVote(d)
	return v, d.Finish()
}

func codecNamed(name string) codec {
	for _, c := range codecs {
		if c.name == name {
			return c
		}
	}
	panic("no codec " + name)
}

// drawer draws values. Numbers are often at the ends of their ranges, lists often empty.
type drawer struct{ *rand.Rand }

func newDraw(seed uint64) *drawer { return &drawer{rand.New(rand.NewPCG(seed, 0))} }

func (r *drawer) fill(b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func (r *drawer) hash() (h Hash)           { r.fill(h[:]); return h }
func (r *drawer) sometimes() (h Hash)      { return [...]Hash{r.hash(), {}}[r.IntN(2)] }
func (r *drawer) key() Key                 { return Key(r.hash()) }
func (r *drawer) signature() (s Signature) { r.fill(s[:]); return s }

func (r *drawer) upTo(max uint64) uint64 {
	switch r.IntN(4) {
	case 0:
		return 0
	case 1:
		return max
	case 2:
		return min(max, r.Uint64N(1000))
	}
	return min(max, r.Uint64()>>(64-53))
}

func (r *drawer) u64() uint64      { return r.upTo(1<<64 - 1) }
func (r *drawer) height() uint64   { return r.upTo(MaxHeight) }
func (r *drawer) time() Millis     { return Millis(r.upTo(uint64(MaxTime))) }
func (r *drawer) amount() Amount   { return Amount(r.upTo(uint64(MaxSupply))) }
func (r *drawer) positive() Millis { return max(1, r.time()) }

func (r *drawer) text(alphabet string, max int) string {
	b := make([]byte, r.IntN(max+1))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func (r *drawer) name() string    { return r.text("abcdefghijklmnopqrstuvwxyz0123456789-", MaxName) }
func (r *drawer) address() string { return r.text(" !09:AZ[]az~.", MaxAddress) }

func (r *drawer) hashes(n int) (out []Hash) {
	for _, k := range r.keys(n) {
		out = append(out, Hash(k))
	}
	return out
}

func (r *drawer) keys(n int) (out []Key) {
	for range n {
		out = append(out, r.key())
	}
	if n == 0 {
		return nil
	}
	return SortKeys(out)
}

func (r *drawer) output() Output { return Output{r.amount(), r.key(), Key(r.sometimes())} }

func (r *drawer) input() Input { return Input{r.u64(), r.hash(), r.Uint32(), r.output()} }

func (r *drawer) record() Record {
	switch r.IntN(6) {
	case 0, 1:
		return Notarise{r.hash()}
	case 2:
		return r.evidence()
	case 3:
		return r.reinstate()
	}
	return r.registerPeer()
}

func (r *drawer) evidence() Evidence {
	switch o := Offence(1 + r.IntN(int(offenceEnd)-1)); o {
	case Fork:
		return ForkEvidence(r.block(), r.block())
	case TwoVotes:
		return TwoVotesEvidence(r.signedVote(), r.signedVote())
	case FalseVote:
		return Evidence{Offence: o, Votes: []SignedVote{r.signedVote()}}
	default:
		return Evidence{Offence: o, Blocks: []*Block{r.block()}}
	}
}

func (r *drawer) ballot() (b Ballot) {
	at := uint64(r.IntN(10))
	for range 1 + r.IntN(4) {
		b.Outputs = append(b.Outputs, Held{at, r.key()})
		at += 1 + r.Uint64N(1000)
	}
	b.Signature = r.signature()
	return b
}

func (r *drawer) reinstate() Reinstate {
	v := Reinstate{Peer: r.key(), Offences: uint16(r.Uint32())}
	for i := range 1 + r.IntN(3) {
		b := r.ballot()
		b.Outputs[0].Position = uint64(i) // ballots ascend
		v.Ballots = append(v.Ballots, Ballot{b.Outputs[:1], b.Signature})
	}
	return v
}

func (r *drawer) registerPeer() RegisterPeer {
	return RegisterPeer{r.key(), r.name(), r.address(), r.key(), r.signature()}
}

func (r *drawer) leaf() (l Leaf) {
	for l.flags() == 0 {
		if r.IntN(2) == 0 {
			n := 1 + r.IntN(MaxLeafKeys)
			l.Threshold, l.Keys = uint8(1+r.IntN(n)), r.keys(n)
		}
		if r.IntN(2) == 0 {
			l.After = r.positive()
		}
		if r.IntN(2) == 0 {
			l.Older = r.positive()
		}
		l.HashLock = r.sometimes()
	}
	return l
}

func (r *drawer) body() *Transaction {
	t := &Transaction{ValidFrom: r.time(), ValidUntil: r.time(), Fee: r.amount()}
	r.fill(t.Salt[:])
	for range r.IntN(4) {
		t.Inputs = append(t.Inputs, r.input())
	}
	for range r.IntN(4) {
		t.Outputs = append(t.Outputs, r.output())
	}
	for range r.IntN(3) {
		t.Records = append(t.Records, r.record())
	}
	return t
}

func (r *drawer) transaction() *Transaction {
	t := r.body()
	for i := range t.Inputs {
		if r.IntN(2) == 0 {
			v := Reveal{Input: uint16(i), Inner: r.key(), Leaf: r.leaf(), Signers: uint16(r.Uint32()), Preimage: r.sometimes()}
			for range r.IntN(4) * r.IntN(4) {
				v.Path = append(v.Path, r.hash())
			}
			t.Reveals = append(t.Reveals, v)
		}
	}
	t.Signature = r.signature()
	return t
}

func (r *drawer) vote() CheckpointVote { return CheckpointVote{r.height(), r.hash(), r.signature()} }

func (r *drawer) signedVote() SignedVote { return SignedVote{r.key(), r.vote()} }

func (r *drawer) block() *Block {
	b := &Block{
		Height: max(1, r.height()), Author: r.key(), Previous: r.sometimes(), Parent: r.hash(), Merges: r.hashes(r.IntN(4)),
		Time: r.time(), Sample: r.sometimes(), Signature: r.signature(),
	}
	if r.IntN(2) == 0 {
		r.fill(b.VRF[:])
	}
	if r.IntN(2) == 0 {
		b.Payload, b.PayloadBytes = r.hash(), 1+uint32(r.upTo(MaxPayload-1))
	}
	if r.IntN(2) == 0 {
		b.Checkpoint = r.vote()
	}
	return b
}

func (r *drawer) payload() [][]byte {
	txs := make([][]byte, r.IntN(4))
	for i := range txs {
		txs[i] = make([]byte, r.IntN(100))
		r.fill(txs[i])
	}
	return txs
}

func (r *drawer) snapshot() *Snapshot {
	s := &Snapshot{Height: r.height()}
	for _, k := range r.keys(r.IntN(5)) {
		s.Members = append(s.Members, Member{k, 1 + Amount(r.upTo(uint64(MaxSupply)/5))})
	}
	return s
}

func (r *drawer) checkpoint() *Checkpoint {
	return &Checkpoint{
		r.hash(), r.height(), r.hash(), r.time(), r.u64(), r.hash(), r.u64(), r.hash(), r.u64(), r.hash(),
		r.hash(), r.hash(), r.hash(), r.hash(), r.hash(),
	}
}

func (r *drawer) certificate() *Certificate {
	c := &Certificate{Snapshot: r.hash()}
	index := uint16(r.IntN(10))
	for range r.IntN(5) {
		c.Votes = append(c.Votes, MemberVote{index, r.signature()})
		index += uint16(1 + r.IntN(1000))
	}
	return c
}

func (r *drawer) event() *Event {
	v := &Event{EventKind(1 + r.IntN(3)), r.hash(), r.hash(), r.height(), r.time(), r.u64(), uint16(r.Uint32()), NoReason}
	if v.Kind == Rejected {
		v.First, v.Outputs, v.Reason = 0, 0, Reason(1+r.IntN(int(reasonEnd)-1))
	}
	return v
}

func (r *drawer) keyEvent() *KeyEvent {
	return &KeyEvent{r.IntN(2) == 0, r.u64(), r.hash(), r.Uint32(), r.output(), r.height(), r.time()}
}

func (r *drawer) nameEvent() *NameEvent {
	return &NameEvent{r.hash(), r.height(), r.time(), r.registerPeer()}
}

func (r *drawer) outputState() *OutputState {
	return &OutputState{r.output(), r.hash(), r.Uint32(), r.height(), r.time(), r.height()}
}

func (r *drawer) peerState() *PeerState {
	return &PeerState{r.key(), r.name(), r.address(), r.key(), r.amount(), r.amount(), Standing{
		r.amount(), r.height(), r.Uint32(), uint16(r.Uint32()), r.height(), uint16(r.Uint32()), r.height(), r.height()}}
}

func (r *drawer) nameState() *NameState {
	return &NameState{r.name(), r.key(), LogState{r.u64(), r.hash()}}
}

func each(t *testing.T, n int, f func(*testing.T, codec, any)) {
	for _, c := range codecs {
		t.Run(c.name, func(t *testing.T) {
			for seed := range n {
				f(t, c, c.draw(newDraw(uint64(seed))))
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	each(t, 300, func(t *testing.T, c codec, v any) {
		data := c.encode(v)
		back, err := c.decode(data)
		if err != nil || !reflect.DeepEqual(back, v) {
			t.Fatalf("%+v\ncame back as %+v, %v", v, back, err)
		}
		if !bytes.Equal(c.encode(back), data) {
			t.Fatalf("%+v has two encodings", v)
		}
	})
}

// Nothing that is cut off is a value, and nothing with more behind it.
func TestEveryPrefix(t *testing.T) {
	each(t, 10, func(t *testing.T, c codec, v any) {
		data := c.encode(v)
		for n := range data {
			if _, err := c.decode(data[:n]); !IsDecodeKind(err, Truncated) && !IsDecodeKind(err, TooLong) {
				t.Fatalf("first %d of %d bytes: %v", n, len(data), err)
			}
		}
		if _, err := c.decode(append(bytes.Clone(data), 0)); !IsDecodeKind(err, Trailing) {
			t.Fatalf("one byte more: %v", err)
		}
	})
}

// one checks what must hold of any bytes: they are refused with a kind, or they are the one
// encoding of what they decode to.
func (c codec) one(t testing.TB, data []byte) {
	v, err := c.decode(data)
	var d *DecodeError
	switch {
	case err == nil && !bytes.Equal(c.encode(v), data):
		t.Fatalf("%x\nis another encoding of %+v", data, v)
	case err != nil && (!errors.As(err, &d) || d.Kind.String() == "" || d.Offset > len(data)):
		t.Fatalf("%x: error %v of no kind", data, err)
	}
}

func TestEveryBit(t *testing.T) {
	each(t, 4, func(t *testing.T, c codec, v any) {
		data := c.encode(v)
		for i := range 8 * len(data) {
			data[i/8] ^= 1 << (i % 8)
			c.one(t, data)
			data[i/8] ^= 1 << (i % 8)
		}
	})
}

// Whatever counts and lengths say, no more is allocated than the bytes can be worth.
func TestHostileCounts(t *testing.T) {
	counts := [][]byte{{0xff, 0xff}, {1, 0}, {4, 0}, {0, 0, 0x40, 0}, {0xff, 0xff, 0xff, 0xff}}
	var before, after runtime.MemStats
	each(t, 3, func(t *testing.T, c codec, v any) {
		data := c.encode(v)
		for i := range data {
			for _, count := range counts {
				bad := bytes.Clone(data)
				copy(bad[i:], count)
				if i%4 != 0 {
					c.one(t, bad)
					continue
				}
				runtime.ReadMemStats(&before)
				c.decode(bad)
				runtime.ReadMemStats(&after)
				if n, most := after.TotalAlloc-before.TotalAlloc, uint64(4096+12*len(bad)); n > most {
					t.Fatalf("%d bytes allocated for %d: more than %d", n, len(bad), most)
				}
			}
		}
	})
}

// A list that its count cannot say is never read as a short one.
func TestCountsDoNotWrap(t *testing.T) {
	leaf := Leaf{Threshold: 1, Keys: make([]Key, 1<<8+1)}
	for name, row := range map[string]struct {
		codec string
		v     any
	}{
		"merges":    {"block", &Block{Height: 1, Merges: make([]Hash, 1<<16+1)}},
		"members":   {"snapshot", &Snapshot{Members: make([]Member, 1<<16)}},
		"votes":     {"certificate", &Certificate{Votes: make([]MemberVote, 1<<16)}},
		"name":      {"peer state", &PeerState{Name: string(make([]byte, 1<<16))}},
		"address":   {"peer state", &PeerState{Address: string(make([]byte, 1<<16+1))}},
		"records":   {"transaction body", &Transaction{Records: slices.Repeat([]Record{Notarise{}}, 1<<8)}},
		"path":      {"transaction", &Transaction{Inputs: make([]Input, 1), Reveals: []Reveal{{Leaf: Leaf{After: 1}, Path: make([]Hash, 1<<8)}}}},
		"leaf keys": {"transaction", &Transaction{Inputs: make([]Input, 1), Reveals: []Reveal{{Leaf: leaf}}}},
	} {
		c := codecNamed(row.codec)
		if _, err := c.decode(c.encode(row.v)); !IsDecodeKind(err, TooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
	e := NewEncoder(nil)
	e.Count8(1 << 8)
	e.Count16(1 << 16)
	e.Count32(7)
	if have := hex.EncodeToString(e.Data()); have != "ffffff00000007" {
		t.Error(have)
	}
}

// What is out of range in memory is written so that no decoder takes it.
func TestOutOfRangeDoesNotDecode(t *testing.T) {
	key := []Key{{1}}
	leaf := func(l Leaf) *Transaction {
		return &Transaction{Inputs: make([]Input, 1), Reveals: []Reveal{{Leaf: l}}}
	}
	vote := Hash{1}
	for i, row := range []struct {
		codec string
		v     any
	}{
		{"transaction", &Transaction{ValidFrom: -1}},
		{"transaction", &Transaction{ValidUntil: MaxTime + 1}},
		{"transaction", &Transaction{Fee: MaxSupply + 1}},
		{"transaction", &Transaction{Outputs: []Output{{Value: 1 << 63}}}},
		{"transaction", &Transaction{Inputs: make([]Input, MaxInputs+1)}},
		{"transaction", &Transaction{Outputs: make([]Output, MaxOutputs+1)}},
		{"transaction", &Transaction{Reveals: []Reveal{{Leaf: Leaf{After: 1}}}}},
		{"transaction", leaf(Leaf{})},
		{"transaction", leaf(Leaf{Keys: key})},
		{"transaction", leaf(Leaf{Keys: key, After: 1})},
		{"transaction", leaf(Leaf{Threshold: 1, After: 1})},
		{"transaction", leaf(Leaf{Threshold: 2, Keys: key})},
		{"transaction", leaf(Leaf{Threshold: 1, Keys: []Key{{2}, {1}}})},
		{"transaction", leaf(Leaf{Threshold: 1, Keys: []Key{{2}, {2}}})},
		{"transaction", leaf(Leaf{Threshold: 1, Keys: key, After: -1})},
		{"transaction", leaf(Leaf{Threshold: 1, Keys: key, Older: -1})},
		{"transaction", leaf(Leaf{Older: MaxTime + 1})},
		{"block", &Block{}},
		{"block", &Block{Height: MaxHeight + 1}},
		{"block", &Block{Height: 1, Time: -1}},
		{"block", &Block{Height: 1, PayloadBytes: 1}},
		{"block", &Block{Height: 1, Payload: vote, PayloadBytes: MaxPayload + 1}},
		{"block", &Block{Height: 1, Checkpoint: CheckpointVote{Height: 1}}},
		{"block", &Block{Height: 1, Checkpoint: CheckpointVote{Signature: Signature{1}}}},
		{"block", &Block{Height: 1, Merges: []Hash{{2}, {1}}}},
		{"snapshot", &Snapshot{Members: []Member{{Key{1}, 0}}}},
		{"snapshot", &Snapshot{Members: []Member{{Key{1}, MaxSupply}, {Key{2}, 1}}}},
		{"snapshot", &Snapshot{Members: make([]Member, MaxMembers+1)}},
		{"event", &Event{}},
		{"event", &Event{Kind: Applied, Reason: TooLate}},
		{"event", &Event{Kind: Rejected}},
		{"event", &Event{Kind: Rejected, Reason: reasonEnd}},
		{"peer state", &PeerState{Name: "na\x00me"}},
		{"name state", &NameState{Name: "ä"}},
		{"signed vote", SignedVote{CheckpointVote: CheckpointVote{Height: 1}}},
	} {
		c := codecNamed(row.codec)
		if v, err := c.decode(c.encode(row.v)); err == nil {
			t.Errorf("row %d: %+v came back as %+v", i, row.v, v)
		}
		if tx, ok := row.v.(*Transaction); ok && len(tx.Reveals) > 0 && len(tx.Inputs) > 0 && tx.Reveals[0].Leaf.Check() == nil {
			t.Errorf("row %d: leaf %+v passes its check", i, tx.Reveals[0].Leaf)
		}
	}
}

// A drawn leaf passes Check, and Check agrees with the decoder on what is near one.
func TestLeafCheck(t *testing.T) {
	r := newDraw(1)
	good, bad := 0, 0
	for range 3000 {
		l := r.leaf()
		switch r.IntN(8) {
		case 0:
			l.Threshold = uint8(r.IntN(20))
		case 1:
			l.Keys = r.keys(r.IntN(20))
		case 2:
			l.After = Millis(r.IntN(3) - 1)
		case 3:
			l.Older = [...]Millis{MaxTime, MaxTime + 1, -MaxTime}[r.IntN(3)]
		case 4:
			r.Shuffle(len(l.Keys), func(i, j int) { l.Keys[i], l.Keys[j] = l.Keys[j], l.Keys[i] })
		case 5:
			l.Keys = append(l.Keys, l.Keys...)
		}
		e := NewEncoder(nil)
		l.encode(e)
		d := NewDecoder("leaf", e.Data())
		back := decodeLeaf(d)
		err := d.Finish()
		if (err == nil) != (l.Check() == nil) {
			t.Fatalf("%+v: check %v, decoder %v", l, l.Check(), err)
		}
		if err != nil {
			bad++
			continue
		}
		good++
		if !reflect.DeepEqual(back, l) && len(l.Keys)+len(back.Keys) > 0 {
			t.Fatalf("%+v came back as %+v", l, back)
		}
	}
	if good < 500 || bad < 500 {
		t.Errorf("%d good and %d bad leaves: not a test", good, bad)
	}
}

func TestPayloadSize(t *testing.T) {
	if PayloadSize(nil) != 0 {
		t.Error("no transactions have a size")
	}
	for seed := range uint64(50) {
		if txs := newDraw(seed).payload(); len(txs) > 0 && int(PayloadSize(txs)) != len(EncodePayload(txs)) {
			t.Errorf("%d transactions: %d", len(txs), PayloadSize(txs))
		}
	}
}
