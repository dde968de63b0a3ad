package trie

import "charter/types"

// Sibling is a step of a proof: an inner node on the way to the path.
type Sibling struct {
	Depth uint8      // bits of the inner node's prefix, which is the beginning of the path
	Hash  types.Hash // its other child
}

// Proof shows the value of a path, or that it has none. It does not repeat the path.
type Proof struct {
	Siblings []Sibling  // from the root down, ascending by Depth
	Value    types.Hash // of the path, zero if it has none
	Other    *Node      // what stands where the path would; nil if the path has a value, or the trie is empty
}

// Prove is the proof of what a path has in a stored trie of this root, for Verify.
// Errors: BadNode.
func Prove(r Reader, root types.Hash, path Path) (*Proof, error) {
	way, end, err := walk(r, root, path)
	if err != nil {
		return nil, err
	}
	p := new(Proof)
	for _, n := range way {
		sibling := n.Left
		if bit(path, n.Prefix.Len) == 0 {
			sibling = n.Right
		}
		p.Siblings = append(p.Siblings, Sibling{uint8(n.Prefix.Len), sibling})
	}
	if end != nil && end.Prefix == (NodeID{PathBits, path}) {
		p.Value = end.Value
	} else {
		p.Other = end
	}
	return p, nil
}

// Verify checks a proof against the root of a trie, and says what it proves: that the path is
// present, and its value; or that it is not (package comment, "Why absence is sound").
// Errors: BadProof, RootMismatch.
func Verify(root types.Hash, path Path, p *Proof) (present bool, value types.Hash, err error) {
	slot := uint16(0) // bits of the slot that the way down has reached
	for _, s := range p.Siblings {
		if uint16(s.Depth) < slot {
			return false, types.Hash{}, refuse(BadProof, "sibling at bit %d behind one at bit %d", s.Depth, slot-1)
		}
		slot = uint16(s.Depth) + 1
	}
	h, err := p.end(path, slot)
	if err != nil {
		return false, types.Hash{}, err
	}
	for i := len(p.Siblings) - 1; i >= 0; i-- {
		s := p.Siblings[i]
		n := Node{Prefix: beginning(path, uint16(s.Depth)), Left: h, Right: s.Hash}
		if bit(path, n.Prefix.Len) == 1 {
			n.Left, n.Right = n.Right, n.Left
		}
		h = n.Hash()
	}
	if h != root {
		return false, types.Hash{}, refuse(RootMismatch, "root is %s, the proof leads to %s", root, h)
	}
	return !p.Value.IsZero(), p.Value, nil
}

// end is the hash of what stands in the slot that is the first bits of the path.
func (p *Proof) end(path Path, slot uint16) (types.Hash, error) {
	switch {
	case p.Other == nil && !p.Value.IsZero():
		n := Node{Prefix: NodeID{PathBits, path}, Value: p.Value}
		return n.Hash(), nil
	case p.Other == nil && slot == 0:
		return types.Hash{}, nil
	case p.Other == nil || !p.Value.IsZero():
		return types.Hash{}, refuse(BadProof, "want a value or a node in its place")
	}
	o := p.Other.Prefix
	if o.Len > PathBits || common(&o.Bits, &path) < slot {
		return types.Hash{}, refuse(BadProof, "a node of prefix %s is not in the slot of %d bits of path %x", o, slot, path)
	}
	if o.covers(path) {
		return types.Hash{}, refuse(BadProof, "a node of prefix %s may have path %x below it", o, path)
	}
	return p.Other.Hash(), nil
}

const (
	endEmpty = 0 // the trie is empty
	endValue = 1
	endOther = 2
)

// maxSiblings is one for each bit of a path.
const maxSiblings = PathBits

// Encode is the proof's bytes: what it ends in (0 nothing, 1 a value, 2 a node in its place), the number of
// siblings in two bytes, for each its depth in one byte and its hash, then the value or the encoded node.
func (p *Proof) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 128+33*len(p.Siblings)))
	switch {
	case p.Other != nil:
		e.U8(endOther)
	case !p.Value.IsZero():
		e.U8(endValue)
	default:
		e.U8(endEmpty)
	}
	e.Count16(len(p.Siblings))
	for _, s := range p.Siblings {
		e.U8(s.Depth)
		e.Hash(s.Hash)
	}
	switch {
	case p.Other != nil:
		e.Raw(p.Other.Encode())
	case !p.Value.IsZero():
		e.Hash(p.Value)
	}
	return e.Data()
}

// DecodeProof reads a proof. Its errors are types.DecodeError.
func DecodeProof(data []byte) (*Proof, error) {
	d := types.NewDecoder("trie proof", data)
	p := ReadProof(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// ReadProof reads a proof that is part of something larger.
func ReadProof(d *types.Decoder) *Proof {
	p := new(Proof)
	end := d.U8("end")
	n := d.Count16("siblings", maxSiblings, 33)
	for i := range n {
		s := Sibling{d.U8("depth"), present(d, "sibling")}
		if i > 0 && s.Depth <= p.Siblings[i-1].Depth {
			d.Fail(types.NotCanonical, "depth")
			return p
		}
		p.Siblings = append(p.Siblings, s)
	}
	switch end {
	case endEmpty:
		if n > 0 {
			d.Fail(types.NotCanonical, "siblings")
		}
	case endValue:
		p.Value = present(d, "value")
	case endOther:
		other := readNode(d)
		p.Other = &other
	default:
		d.Fail(types.Unknown, "end")
	}
	return p
}
