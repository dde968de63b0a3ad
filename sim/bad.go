package sim

import (
	"charter/consensus"
	"charter/types"
)

// style is how a peer behaves.
type style uint8

const (
	honest style = iota
	// twins: two honest copies of one key, that know nothing of each other.
	twins
	// withhold: now and then keeps its block to itself.
	withhold
	// late: sends its blocks some seconds late.
	late
	// half: sends its blocks to some only.
	half
	// wrongParent: takes any named block as parent.
	wrongParent
	// double: now and then signs two blocks, and shows one to some, one to the others.
	double
	// broken: sends blocks that break a rule.
	broken
	styleEnd
)

func (s style) String() string {
	return [...]string{"honest", "twins", "withhold", "late", "half", "wrong parent", "double", "broken"}[s]
}

// spoil changes a block that is about to be built.
func (n *node) spoil(b *types.Block) {
	if n.style == wrongParent && len(b.Merges) > 0 && n.w.chance(0.5) {
		i := n.w.rng.IntN(len(b.Merges))
		b.Parent, b.Merges[i] = b.Merges[i], b.Parent
		sortHashes(b.Merges)
		n.w.fault("wrong parent")
	}
}

// publish sends an own block that is durable, as a peer of its style does.
func (n *node) publish(b *types.Block) {
	w := n.w
	switch n.style {
	case withhold:
		if w.chance(0.3) {
			w.fault("withheld")
			return
		}
	case late:
		if w.chance(0.5) {
			w.fault("late")
			life := n.life
			w.after(w.between(100, 3000), func() {
				if n.up && n.life == life {
					n.broadcast(b, func(*node) bool { return true })
				}
			})
			return
		}
	case half:
		w.fault("to half")
		n.broadcast(b, func(*node) bool { return w.chance(0.5) })
		return
	case double:
		if w.chance(0.05) {
			w.fault("double")
			other := *b
			other.Sample = types.Hash{1}
			side := func(to *node) bool { return to.id%2 == 0 }
			n.broadcast(b, side)
			n.broadcast(&other, func(to *node) bool { return !side(to) })
			return
		}
	case broken:
		if w.chance(0.3) {
			n.broadcast(n.corrupt(b), func(*node) bool { return true })
		}
	}
	n.broadcast(b, func(*node) bool { return true })
}

// corrupt is a copy of a block that breaks a rule. The author's own line does not hold it.
func (n *node) corrupt(b *types.Block) *types.Block {
	n.w.fault("broken block")
	c := *b
	switch n.w.rng.IntN(5) {
	case 0:
		c.Height++
	case 1:
		c.Time = n.w.genesis.Time - 1
	case 2:
		c.Previous = types.Hash{7}
	case 3:
		c.VRF = types.VRFProof{3}
	case 4:
		c.Author = simKey(999)
	}
	return &c
}

// fill makes a block of a template, as a peer of its style does.
func (n *node) fill(t *consensus.Template) *types.Block {
	b := t.Block(n.key)
	if t.VRF != nil {
		b.VRF = proveVRF(n.key, t.VRF)
	}
	n.load(b)
	n.spoil(b)
	return b
}
