package types

import (
	"encoding/binary"
	"testing"
)

// full is a valid value of each type in which every optional part is there, with its encoding.
func full(t testing.TB, name string) []byte {
	leaf := Leaf{Threshold: 1, Keys: []Key{{1}, {2}}, After: 3, Older: 4, HashLock: Hash{5}}
	peer := RegisterPeer{Peer: Key{2}, Name: "a-peer", Address: "a.example:4000", Reward: Key{3}, Signature: Signature{4}}
	body := Transaction{
		ValidUntil: MaxTime, Inputs: []Input{{Position: 1, Output: Output{Value: 5}}, {Position: 2}},
		Outputs: []Output{{Value: 4, Lock: Key{1}}}, Records: []Record{Notarise{Hash{1}}, peer}, Fee: 1,
	}
	whole := body
	whole.Reveals = []Reveal{{Input: 0, Leaf: leaf, Path: []Hash{{1}}, Signers: 1}, {Input: 1, Leaf: Leaf{After: 1}}}
	vote := CheckpointVote{1, Hash{1}, Signature{1}}
	v, ok := map[string]any{
		"transaction":      &whole,
		"transaction body": &body,
		"block": &Block{
			Height: 1, Parent: Hash{9}, Merges: []Hash{{1}, {2}}, Time: 1, VRF: VRFProof{1}, Payload: Hash{1}, PayloadBytes: 9,
			Checkpoint: vote,
		},
		"payload":      [][]byte{{1, 2}, {3}},
		"snapshot":     &Snapshot{Height: 1, Members: []Member{{Key{1}, 5}, {Key{2}, 6}}},
		"checkpoint":   &Checkpoint{Height: 1, Time: 2},
		"certificate":  &Certificate{Votes: []MemberVote{{Index: 1}, {Index: 2}}},
		"event":        &Event{Kind: Applied, Height: 1, Time: 2, First: 3, Outputs: 1},
		"key event":    &KeyEvent{Spent: true, Output: Output{Value: 1}, Height: 1, Time: 1},
		"name event":   &NameEvent{Height: 7, Time: 9, Record: peer},
		"output state": &OutputState{Output: Output{Value: 1}, BornHeight: 1, BornTime: 2, SpentHeight: 3},
		"peer state": &PeerState{Peer: Key{1}, Name: "a", Address: "b:1", Reward: Key{2}, Shares: 1, Fees: 2, Standing: Standing{
			Weight: 3, Since: 4, Present: 5, Witnesses: 6, Absent: 7, Offences: 8, Offended: 9, Cleared: 10}},
		"name state":  &NameState{Name: "a", Peer: Key{1}, Story: LogState{1, Hash{1}}},
		"evidence":    TwoVotesEvidence(SignedVote{Key{1}, vote}, SignedVote{Key{1}, CheckpointVote{1, Hash{2}, Signature{2}}}),
		"ballot":      Ballot{[]Held{{1, Key{1}}, {2, Key{2}}}, Signature{3}},
		"signed vote": SignedVote{Key{1}, vote},
	}[name]
	if !ok {
		t.Fatalf("no value of %s", name)
	}
	return codecNamed(name).encode(v)
}

// spoil changes the encoding of the full value of a type at one place, so that it is refused.
type spoil struct {
	codec string
	kind  DecodeKind
	at    int
	to    []byte
}

func (s spoil) data(t testing.TB) []byte {
	bad := full(t, s.codec)
	copy(bad[s.at:], s.to)
	return bad
}

func spoils(t testing.TB) []spoil {
	const body = 1 + 16 + 8 + 8 // before the inputs
	const outputs = body + 2 + 2*inputSize
	const records = outputs + 2 + outputSize
	const registered = records + 1 + 1 + 32 + 1
	const name = registered + 32
	const fee = name + 2 + 6 + 2 + 14 + 32 + 64
	const reveals = fee + 8
	const leaf = reveals + 2 + 2 + 32
	const path = leaf + 1 + 2 + 64 + 8 + 8 + 32
	const second = path + 1 + 32 + 2 + 32 // the second reveal
	const merges = 1 + 8 + 32 + 32 + 32
	const times = merges + 2 + 64 + 32 // behind the merges and the digest of the past
	const vrf = times + 8
	const payload = vrf + 1 + 97
	const vote = payload + 32 + 4 + 32
	const standing = 32 + 3 + 5 + 32 + 8 + 8
	max := func(d Millis) []byte { return binary.BigEndian.AppendUint64(nil, uint64(MaxTime)+uint64(d)) }
	rich := []byte{0x80, 0, 0, 0, 0, 0, 0, 0}
	zero8, zero32 := make([]byte, 8), make([]byte, 32)

	return []spoil{
		{"transaction", Unknown, 0, []byte{2}},
		{"transaction", NotCanonical, 17, max(1)},
		{"transaction", NotCanonical, 25, max(1)},
		{"transaction", TooLong, body, []byte{MaxInputs >> 8, MaxInputs&0xff + 1}},
		{"transaction", TooLong, body, []byte{0, 99}},
		{"transaction", NotCanonical, body + 2 + 44, rich},
		{"transaction", TooLong, outputs, []byte{MaxOutputs >> 8, MaxOutputs&0xff + 1}},
		{"transaction", NotCanonical, outputs + 2, rich},
		{"transaction", TooLong, records, []byte{MaxRecords + 1}},
		{"transaction", Unknown, records + 1, []byte{0}},
		{"transaction", Unknown, records + 1, []byte{5}},
		{"transaction", TooLong, name, []byte{0, MaxName + 1}},
		{"transaction", NotCanonical, name + 2, []byte{0x7f}},
		{"transaction", NotCanonical, name + 2, []byte{'\n'}},
		{"transaction", TooLong, name + 2 + 6, []byte{0, MaxAddress + 1}},
		{"transaction", NotCanonical, name + 2 + 6 + 2, []byte{0xc3}},
		{"transaction", NotCanonical, fee, rich},
		{"transaction", TooLong, reveals, []byte{1, 1}},
		{"transaction", NotCanonical, reveals + 2, []byte{0, 2}}, // not below the second's
		{"transaction", NotCanonical, second, []byte{0, 0}},      // there twice
		{"transaction", NotCanonical, second, []byte{0, 2}},      // no such input
		{"transaction", Unknown, leaf, []byte{0x1f}},
		{"transaction", NotCanonical, second + 34, []byte{0}}, // a leaf of nothing
		{"transaction", NotCanonical, leaf + 1, []byte{0}},    // 0 of 2
		{"transaction", NotCanonical, leaf + 1, []byte{3}},    // 3 of 2
		{"transaction", TooLong, leaf + 2, []byte{MaxLeafKeys + 1}},
		{"transaction", NotCanonical, leaf + 3, []byte{2}},
		{"transaction", NotCanonical, leaf + 3, []byte{3}},
		{"transaction", NotCanonical, leaf + 3 + 64, zero8},
		{"transaction", NotCanonical, leaf + 3 + 64, max(1)},
		{"transaction", NotCanonical, leaf + 3 + 64 + 8, zero8},
		{"transaction", NotCanonical, leaf + 3 + 64 + 16, zero32},
		{"transaction", TooLong, path, []byte{MaxLeafPath + 1}},
		{"transaction body", Unknown, 0, []byte{0}},
		{"transaction body", TooLong, outputs, []byte{1, 1}},
		{"transaction body", NotCanonical, fee, rich},
		{"block", Unknown, 0, []byte{1}},
		{"block", NotCanonical, 1, zero8},
		{"block", NotCanonical, 1, max(1)},
		{"block", TooLong, merges, []byte{MaxMerges >> 8, 1}},
		{"block", NotCanonical, merges + 2, []byte{2}}, // there twice
		{"block", NotCanonical, merges + 2, []byte{3}}, // descending
		{"block", NotCanonical, merges + 2 + 32, []byte{9}},
		{"block", NotCanonical, times, max(1)},
		{"block", NotCanonical, vrf, []byte{2}},
		{"block", NotCanonical, vrf + 1, []byte{0}},
		{"block", NotCanonical, payload, []byte{0}},
		{"block", NotCanonical, payload + 32, []byte{0, 0, 0, 0}},
		{"block", TooLong, payload + 32, []byte{0, 16, 0, 1}},
		{"block", NotCanonical, vote, []byte{2}},
		{"block", NotCanonical, vote + 1, max(1)},
		{"block", NotCanonical, vote + 1 + 8, []byte{0}},
		{"payload", TooLong, 0, []byte{0, 0, 0x40, 1}},
		{"payload", TooLong, 0, []byte{0, 0, 0x10, 0}},
		{"payload", TooLong, 4, []byte{0, 1, 0, 1}},
		{"payload", TooLong, 4, []byte{0, 0, 0, 9}},
		{"snapshot", NotCanonical, 0, max(1)},
		{"snapshot", TooLong, 8, []byte{MaxMembers >> 8, 1}},
		{"snapshot", NotCanonical, 10, []byte{2}},
		{"snapshot", NotCanonical, 10, []byte{3}},
		{"snapshot", NotCanonical, 10 + 32, zero8},
		{"snapshot", NotCanonical, 10 + 32, rich},
		{"snapshot", NotCanonical, 10 + 32, []byte{0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}}, // in all above the supply
		{"checkpoint", NotCanonical, 32, max(1)},
		{"checkpoint", NotCanonical, 32 + 8 + 32, max(1)},
		{"certificate", TooLong, 32, []byte{MaxMembers >> 8, 1}},
		{"certificate", NotCanonical, 34, []byte{0, 2}},
		{"certificate", NotCanonical, 34, []byte{0, 3}},
		{"event", Unknown, 0, []byte{0}},
		{"event", Unknown, 0, []byte{4}},
		{"event", Unknown, eventSize - 1, []byte{byte(reasonEnd)}},
		{"event", NotCanonical, eventSize - 1, []byte{1}},
		{"event", NotCanonical, 0, []byte{byte(Rejected)}},
		{"event", NotCanonical, 65, max(1)},
		{"event", NotCanonical, 73, max(1)},
		{"key event", NotCanonical, 0, []byte{2}},
		{"key event", NotCanonical, 1 + 8 + 32 + 4, rich},
		{"key event", NotCanonical, 1 + 8 + 32 + 4 + outputSize, max(1)},
		{"key event", NotCanonical, 1 + 8 + 32 + 4 + outputSize + 8, max(1)},
		{"name event", TooLong, 32 + 8 + 8 + 32, []byte{0, MaxName + 1}},
		{"name event", NotCanonical, 32, max(1)},
		{"name event", NotCanonical, 40, max(1)},
		{"name event", NotCanonical, 32 + 8 + 8 + 32 + 2, []byte{0x7f}},
		{"output state", NotCanonical, 0, rich},
		{"output state", NotCanonical, 108, max(1)},
		{"output state", NotCanonical, 116, max(1)},
		{"output state", NotCanonical, 124, max(1)},
		{"peer state", TooLong, 32, []byte{0, MaxName + 1}},
		{"peer state", TooLong, 32 + 3, []byte{0, MaxAddress + 1}},
		{"peer state", NotCanonical, 34, []byte{0x1f}},
		{"peer state", NotCanonical, 32 + 3 + 5 + 32, rich},
		{"peer state", NotCanonical, 32 + 3 + 5 + 32 + 8, rich},
		{"peer state", NotCanonical, standing, rich},
		{"peer state", NotCanonical, standing + 8, max(1)},
		{"peer state", NotCanonical, standing + 22, max(1)},
		{"peer state", NotCanonical, standing + 32, max(1)},
		{"peer state", NotCanonical, standing + 40, max(1)},
		{"evidence", Unknown, 0, []byte{0}},
		{"evidence", Unknown, 0, []byte{byte(offenceEnd)}},
		{"evidence", TooLong, 0, []byte{byte(Fork), 0, 1, 0, 1}},
		{"evidence", Truncated, 0, []byte{byte(FalseSample), 0, 0, 0, 0}}, // a block of no bytes
		{"evidence", NotCanonical, 1 + 32, max(1)},
		{"evidence", NotCanonical, 1, []byte{2}}, // descending
		{"evidence", NotCanonical, 1 + SignedVoteSize, full(t, "evidence")[1 : 1+SignedVoteSize]},
		{"ballot", NotCanonical, 0, []byte{0, 0}},
		{"ballot", TooLong, 0, []byte{MaxBallotOutputs >> 8, 1}},
		{"ballot", TooLong, 0, []byte{0, 9}},
		{"ballot", NotCanonical, 2 + 40, []byte{0, 0, 0, 0, 0, 0, 0, 1}},
		{"name state", TooLong, 0, []byte{0, MaxName + 1}},
		{"name state", NotCanonical, 2, []byte{0x80}},
		{"signed vote", NotCanonical, 32, max(1)},
		{"signed vote", NotCanonical, 40, zero32},
	}
}

// Each row spoils one valid encoding in one way.
func TestDecodeErrors(t *testing.T) {
	seen := map[DecodeKind]bool{}
	tested := map[string]bool{}
	for i, row := range spoils(t) {
		c := codecNamed(row.codec)
		if _, err := c.decode(full(t, row.codec)); err != nil {
			t.Fatalf("row %d: %s before it is spoilt: %v", i, row.codec, err)
		}
		if _, err := c.decode(row.data(t)); !IsDecodeKind(err, row.kind) {
			t.Errorf("row %d: %s, byte %d: want %s, have %v", i, row.codec, row.at, row.kind, err)
		}
		seen[row.kind], tested[row.codec] = true, true
	}
	for _, c := range codecs {
		good := full(t, c.name)
		if _, err := c.decode(good[:1]); !IsDecodeKind(err, Truncated) {
			t.Errorf("%s cut off: %v", c.name, err)
		}
		if _, err := c.decode(append(good, 0)); !IsDecodeKind(err, Trailing) {
			t.Errorf("%s with more behind: %v", c.name, err)
		}
		if !tested[c.name] {
			t.Errorf("%s has no row", c.name)
		}
	}
	seen[Truncated], seen[Trailing] = true, true
	for kind := range decodeKinds {
		if !seen[kind] {
			t.Errorf("%s has no row", kind)
		}
	}
}

// Sizes that are refused before anything is read.
func TestTooLarge(t *testing.T) {
	for name, n := range map[string]int{"transaction": MaxTransaction, "transaction body": MaxTransaction, "payload": MaxPayload} {
		if _, err := codecNamed(name).decode(make([]byte, n+1)); !IsDecodeKind(err, TooLong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDecoderSticks(t *testing.T) {
	d := NewDecoder("thing", []byte{1, 2, 3})
	if d.U32("field") != 0 || d.U8("other") != 0 || d.Left() != 3 {
		t.Error("reads on after an error")
	}
	d.Fail(Unknown, "later")
	if err := d.Finish(); !IsDecodeKind(err, Truncated) || err.Error() != "decode thing.field: truncated at byte 0" {
		t.Error(err)
	}
	e := NewEncoder(nil)
	e.Bytes([]byte("abc"))
	e.Bytes(nil)
	d = NewDecoder("bytes", e.Data())
	if a, b := d.Bytes("a", 3), d.Bytes("b", 0); string(a) != "abc" || b != nil || d.Finish() != nil {
		t.Errorf("%q, %q, %v", a, b, d.Err())
	}
	if NewDecoder("bytes", e.Data()).Bytes("a", 2) != nil {
		t.Error("longer than its bound")
	}
}
