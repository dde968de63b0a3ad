package trie

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"charter/types"
)

// TestSubtrees proves what random tries have under all short prefixes, and some long ones, and lets each
// corruption fail.
func TestSubtrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for n := range 40 {
		var all []Change
		for range n {
			c := Change{Path: Path{byte(rng.IntN(4)) << 5, byte(rng.IntN(256))}, Value: types.Hash{1, byte(rng.Uint32())}}
			if !slices.ContainsFunc(all, func(o Change) bool { return o.Path == c.Path }) {
				all = append(all, c)
			}
		}
		slices.SortFunc(all, func(a, b Change) int { return bytes.Compare(a.Path[:], b.Path[:]) })
		var m Memory
		r, err := Update(&m, types.Hash{}, all)
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(r)
		for length := range uint16(18) {
			for range 12 {
				prefix := beginning(Path{byte(rng.IntN(8)) << 5, byte(rng.IntN(256)), byte(rng.IntN(256))}, length)
				under(t, &m, r.Root, prefix, all)
			}
		}
	}
}

func under(t *testing.T, m *Memory, root types.Hash, prefix NodeID, all []Change) {
	t.Helper()
	p, err := ProveSubtree(m, root, prefix)
	if err != nil {
		t.Fatal(err)
	}
	var leaves []Change
	for _, c := range all {
		if prefix.covers(c.Path) {
			leaves = append(leaves, c)
		}
	}
	d := types.NewDecoder("subtree", p.Encode())
	if p = ReadSubtreeProof(d); d.Finish() != nil {
		t.Fatal(d.Err())
	}
	if err := VerifySubtree(root, prefix, leaves, p); err != nil {
		t.Fatalf("%d leaves under %s: %v", len(leaves), prefix, err)
	}
	fails := func(what string, prefix NodeID, leaves []Change, p SubtreeProof, kinds ...Kind) {
		t.Helper()
		err := VerifySubtree(root, prefix, leaves, &p)
		if !slices.ContainsFunc(kinds, func(k Kind) bool { return IsKind(err, k) }) {
			t.Fatalf("%s: %d leaves of %d under %s: %v", what, len(leaves), len(all), prefix, err)
		}
	}
	if len(leaves) == 0 && len(all) > 0 && prefix.Len > 0 {
		inside := Change{Path: prefix.Bits, Value: types.Hash{9}}
		fails("a leaf where none is", prefix, []Change{inside}, *p, BadProof)
		fails("a leaf where none is", prefix, []Change{inside}, SubtreeProof{Siblings: p.Siblings}, RootMismatch)
		fails("an inner node in between", prefix, nil, SubtreeProof{p.Siblings, &Node{Prefix: beginning(prefix.Bits, prefix.Len/2), Left: root, Right: root}}, BadProof)
	}
	for i := range leaves {
		fails("a leaf left out", prefix, slices.Delete(slices.Clone(leaves), i, i+1), *p, RootMismatch, BadProof)
		other := slices.Clone(leaves)
		other[i].Value[5] ^= 1
		fails("another value", prefix, other, *p, RootMismatch)
		other[i].Value = types.Hash{}
		fails("no value", prefix, other, *p, BadProof)
		fails("a leaf twice", prefix, slices.Insert(slices.Clone(leaves), i, leaves[i]), *p, BadProof)
	}
	if len(leaves) > 0 && prefix.Len > 0 {
		longer := prefix
		longer.Bits[31] = 1
		fails("bits beyond the prefix", longer, nil, *p, BadProof)
		outside := leaves[0]
		outside.Path[0] ^= 0x80
		fails("a leaf from elsewhere", prefix, []Change{outside}, *p, BadProof)
	}
	if len(p.Siblings) > 0 {
		fails("a sibling left out", prefix, leaves, SubtreeProof{p.Siblings[1:], p.Other}, RootMismatch)
		fails("a sibling below the prefix", prefix, leaves, SubtreeProof{append(slices.Clone(p.Siblings), Sibling{uint8(prefix.Len), root}), p.Other}, BadProof)
	}
}
