package types

import (
	"bytes"
	"testing"
)

func nameEvent() *NameEvent {
	return &NameEvent{
		Transaction: Hash{1}, Height: 7, Time: 9,
		Record: RegisterPeer{Peer: Key{2}, Name: "a-peer", Address: "a.example:4000", Reward: Key{3}, Signature: Signature{4}},
	}
}

// Each tree has tags of its own, so no leaf of one is a leaf or a path of another.
func TestLeavesDiffer(t *testing.T) {
	seen := make(map[Hash]int)
	for i, h := range []Hash{
		OutputLeaf(&OutputState{}), KeyPath(Key{}), KeyLeaf(LogState{}), NamePath(string(make([]byte, 32))),
		NameLeaf(&NameState{}), PeerPath(Key{}), PeerLeaf(&PeerState{}),
	} {
		if j, ok := seen[h]; ok || h.IsZero() {
			t.Errorf("leaf %d is leaf %d", i, j)
		}
		seen[h] = i
	}
}

func TestNameEventErrors(t *testing.T) {
	good := nameEvent().Encode()
	if v, err := DecodeNameEvent(good); err != nil || *v != *nameEvent() {
		t.Fatalf("%+v: %v", v, err)
	}
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	for _, row := range []struct {
		kind DecodeKind
		data []byte
	}{
		{Truncated, good[:len(good)-1]},
		{Trailing, append(bytes.Clone(good), 0)},
		{TooLong, change(32+8+8+32+1, MaxName+1)},
		{NotCanonical, change(32, 0xff)},
		{NotCanonical, change(32+8+8+32+2, 0x7f)},
	} {
		if _, err := DecodeNameEvent(row.data); !IsDecodeKind(err, row.kind) {
			t.Errorf("want %s, got %v", row.kind, err)
		}
	}
}
