package trie

import (
	"bytes"

	"charter/types"
)

// Beginning is the first n bits of a path, at most PathBits.
func Beginning(p Path, n uint16) NodeID { return beginning(p, n) }

// Covers reports whether a path begins with id.
func (id NodeID) Covers(p Path) bool { return id.covers(p) }

// SubtreeProof shows all that a trie has under a prefix, to whom has the leaves: together they are everything below,
// or there is nothing. It repeats neither the prefix nor the leaves.
type SubtreeProof struct {
	Siblings []Sibling // inner nodes with a shorter prefix, from the root down
	Other    *Node     // what stands in place of the subtree if nothing is under the prefix; nil if something is, or the trie is empty
}

// ProveSubtree is the proof of what a stored trie of this root has under a prefix, for VerifySubtree.
// Errors: BadNode.
func ProveSubtree(r Reader, root types.Hash, prefix NodeID) (*SubtreeProof, error) {
	way, end, err := walk(r, root, prefix.Bits)
	if err != nil {
		return nil, err
	}
	p := new(SubtreeProof)
	for _, n := range way {
		if n.Prefix.Len >= prefix.Len {
			return p, nil
		}
		sibling := n.Left
		if bit(prefix.Bits, n.Prefix.Len) == 0 {
			sibling = n.Right
		}
		p.Siblings = append(p.Siblings, Sibling{uint8(n.Prefix.Len), sibling})
	}
	if end != nil && (end.Prefix.Len < prefix.Len || !prefix.covers(end.Prefix.Bits)) {
		p.Other = end
	}
	return p, nil
}

// VerifySubtree checks that the trie of a root has exactly these leaves under a prefix, which has less than PathBits
// bits. They ascend by path. That none is left out follows as in the package comment: the nodes on the way commit to
// where they stand, and the last is in the slot under which everything with the prefix hangs; it is the top of
// what the leaves make, or has parted from the prefix before its end.
// Errors: BadProof, RootMismatch.
func VerifySubtree(root types.Hash, prefix NodeID, leaves []Change, p *SubtreeProof) error {
	slot := uint16(0) // bits of the slot that the way down has reached
	for _, s := range p.Siblings {
		if uint16(s.Depth) < slot || uint16(s.Depth) >= prefix.Len {
			return refuse(BadProof, "sibling at bit %d, want one from %d up to %d", s.Depth, slot, prefix.Len)
		}
		slot = uint16(s.Depth) + 1
	}
	h, err := p.top(prefix, slot, leaves)
	if err != nil {
		return err
	}
	for i := len(p.Siblings) - 1; i >= 0; i-- {
		s := p.Siblings[i]
		n := Node{Prefix: beginning(prefix.Bits, uint16(s.Depth)), Left: h, Right: s.Hash}
		if bit(prefix.Bits, n.Prefix.Len) == 1 {
			n.Left, n.Right = n.Right, n.Left
		}
		h = n.Hash()
	}
	if h != root {
		return refuse(RootMismatch, "root is %s, the subtree leads to %s", root, h)
	}
	return nil
}

// top is the hash of what stands in the slot that is the first bits of the prefix.
func (p *SubtreeProof) top(prefix NodeID, slot uint16, leaves []Change) (types.Hash, error) {
	if prefix.Len >= PathBits || prefix != beginning(prefix.Bits, prefix.Len) {
		return types.Hash{}, refuse(BadProof, "%s is no prefix of a subtree", prefix)
	}
	for i := range leaves {
		switch l := &leaves[i]; {
		case !prefix.covers(l.Path) || l.Value.IsZero():
			return types.Hash{}, refuse(BadProof, "no leaf under %s: path %x", prefix, l.Path)
		case i > 0 && bytes.Compare(leaves[i-1].Path[:], l.Path[:]) >= 0:
			return types.Hash{}, refuse(BadProof, "leaf %x behind %x", l.Path, leaves[i-1].Path)
		}
	}
	o := p.Other
	switch {
	case len(leaves) > 0 && o == nil:
		return topOf(leaves, prefix.Len), nil
	case len(leaves) > 0:
		return types.Hash{}, refuse(BadProof, "leaves, and a node in their place")
	case o == nil && slot == 0:
		return types.Hash{}, nil
	case o == nil:
		return types.Hash{}, refuse(BadProof, "want leaves or a node in their place")
	}
	shared := func(n uint16) bool { return beginning(o.Prefix.Bits, n) == beginning(prefix.Bits, n) }
	if o.Prefix.Len > PathBits || !shared(slot) || shared(min(o.Prefix.Len, prefix.Len)) {
		return types.Hash{}, refuse(BadProof, "a node of prefix %s does not rule out what is under %s", o.Prefix, prefix)
	}
	return o.Hash(), nil
}

// topOf is the hash of the top of the subtree of one or more leaves, which ascend by path and share their first
// so many bits.
func topOf(leaves []Change, shared uint16) types.Hash {
	first, last := &leaves[0], &leaves[len(leaves)-1]
	if len(leaves) == 1 {
		n := Node{Prefix: NodeID{PathBits, first.Path}, Value: first.Value}
		return n.Hash()
	}
	for bit(first.Path, shared) == bit(last.Path, shared) {
		shared++
	}
	zeros, ones := part(leaves, shared)
	n := Node{Prefix: beginning(first.Path, shared), Left: topOf(zeros, shared+1), Right: topOf(ones, shared+1)}
	return n.Hash()
}

// Encode is the proof's bytes: the number of siblings in two bytes, for each its depth in one byte and its hash; then
// 0, or 1 and the encoded node that stands in place of the subtree.
func (p *SubtreeProof) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 128+33*len(p.Siblings)))
	e.Count16(len(p.Siblings))
	for _, s := range p.Siblings {
		e.U8(s.Depth)
		e.Hash(s.Hash)
	}
	e.Bool(p.Other != nil)
	if p.Other != nil {
		e.Raw(p.Other.Encode())
	}
	return e.Data()
}

// ReadSubtreeProof reads a proof that is part of something larger.
func ReadSubtreeProof(d *types.Decoder) *SubtreeProof {
	p := new(SubtreeProof)
	for i := range d.Count16("siblings", maxSiblings, 33) {
		s := Sibling{d.U8("depth"), present(d, "sibling")}
		if i > 0 && s.Depth <= p.Siblings[i-1].Depth {
			d.Fail(types.NotCanonical, "depth")
			return p
		}
		p.Siblings = append(p.Siblings, s)
	}
	if d.Bool("other") {
		other := readNode(d)
		p.Other = &other
	}
	return p
}
