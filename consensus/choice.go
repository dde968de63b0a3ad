package consensus

import (
	"bytes"
	"math/bits"

	"charter/types"
)

// weight is a sum of witness contributions, in units of δ = 2^−20 of a share unit: 128 bits.
type weight struct{ hi, lo uint64 }

func (w *weight) add(hi, lo uint64) {
	var carry uint64
	w.lo, carry = bits.Add64(w.lo, lo, 0)
	w.hi, _ = bits.Add64(w.hi, hi, carry)
}

func (w weight) cmp(x weight) int {
	switch {
	case w.hi > x.hi || w.hi == x.hi && w.lo > x.lo:
		return 1
	case w == x:
		return 0
	}
	return -1
}

// witness adds f(X) to a weight: what X contributes to the weight of a block with X on its
// chain and g as its past (spec, "Knowing, and the witness rule").
func (c *Core) witness(sum *weight, g *view, r *run, x *vertex) {
	d := c.draw(r, x.height)
	var top [3]types.Amount // of the knowers' draws, greatest first
	n := 0
	know := func(a int) {
		if g.forked(a) || c.mark[a] == c.epoch {
			return
		}
		c.mark[a] = c.epoch
		var w types.Amount
		if a < len(d.weight) {
			w = d.weight[a]
		}
		n++
		for i := range top {
			if w >= top[i] {
				copy(top[i+1:], top[i:])
				top[i] = w
				break
			}
		}
	}
	c.epoch++
	know(x.author)
	for _, v := range c.at(x.height + 1) {
		if c.holds(g, v) && c.names(v, x) {
			know(v.author)
		}
	}
	switch {
	case n == 1:
		sum.add(0, uint64(top[0]))
	case n == 2:
		sum.add(0, uint64(r.total)+uint64(top[1]))
	case n >= 3:
		sum.add(0, 2*uint64(r.total))
		sum.add(uint64(top[1])>>44, uint64(top[1])<<20)
	}
}

// forkChoice is what a view says of its open blocks under one run.
type forkChoice struct {
	parent  *vertex
	backing map[*vertex]types.Amount // of open blocks, and of the last anchor
	chain   map[*vertex]bool         // the open blocks on the chain to parent
}

// open reports whether v is not final for a view that decides d: no anchor is v, or has it
// in its past. (The last one alone does not tell: it may have left out the one before.)
func (c *Core) open(d *decision, v *vertex) bool {
	if v.author < 0 || v.past == nil {
		return false
	}
	if d.own { // then the total order tells
		return v.ordered == 0 || v.ordered > d.height
	}
	for ; d != nil && d.height >= v.height; d = d.prev {
		if d.anchor != nil && c.below(d.anchor, v) {
			return false
		}
	}
	return true
}

// choose is the fork choice in a view, for a block upon it (spec, "Fork choice").
func (c *Core) choose(g *view, r *run) *forkChoice {
	f := g.dec.last
	fc := &forkChoice{backing: c.backing(g, r), chain: make(map[*vertex]bool)}
	children := c.tree(g)
	at := children[nil]
	fc.parent = f
	if moreThanThird(fc.backing[f], r.total) {
		at = children[f]
	}
	for len(at) > 0 {
		v := c.heaviest(g, r, fc, children, at)
		fc.parent, fc.chain[v] = v, true
		at = children[v]
	}
	return fc
}

// backing sums, for each open block and the last anchor, the shares of the counted blocks
// that have it on their chain below them.
func (c *Core) backing(g *view, r *run) map[*vertex]types.Amount {
	var top types.Amount // of authors with a block of the highest height
	for a, t := range g.tips {
		if t != nil && t.height+1 == g.height && !g.forked(a) {
			top += r.of(a)
		}
	}
	fresh := moreThanTwoThirds(top, r.total)
	sums := make(map[*vertex]types.Amount)
	for a, t := range g.tips {
		s := r.of(a)
		if t == nil || s == 0 || g.forked(a) || t.past == nil || fresh && t.height+2 < g.height {
			continue
		}
		v := t.parent
		for c.open(g.dec, v) {
			sums[v] += s
			v = v.parent
		}
		if v.id == g.dec.last.id {
			sums[g.dec.last] += s
		}
	}
	return sums
}

// tree is the open blocks of a view by their parent, without the branches that hold no block
// of an unforked author. Under nil are those whose parent is final.
func (c *Core) tree(g *view) map[*vertex][]*vertex {
	sound := make(map[*vertex]bool) // has a block of an unforked author at or above it
	children := make(map[*vertex][]*vertex)
	seen := make(map[*vertex]bool)
	for a := range g.tips {
		lines := append([]*vertex{g.tips[a]}, g.forks[a]...)
		for _, v := range lines {
			for ; v != nil && !seen[v] && c.open(g.dec, v); v = v.previous {
				seen[v] = true
				if g.forked(a) {
					continue
				}
				for w := v; c.open(g.dec, w) && !sound[w]; w = w.parent {
					sound[w] = true
				}
			}
		}
	}
	for v := range sound {
		children[v.parent] = append(children[v.parent], v)
		if !c.open(g.dec, v.parent) {
			children[nil] = append(children[nil], v)
		}
	}
	return children
}

// heaviest picks among the candidates: the one that half back, failing that the only one
// that a third back, failing that the one under the tip of greatest weight.
func (c *Core) heaviest(g *view, r *run, fc *forkChoice, children map[*vertex][]*vertex, at []*vertex) *vertex {
	var third *vertex
	thirds := 0
	for _, v := range at {
		if moreThanHalf(fc.backing[v], r.total) {
			return v
		}
		if moreThanThird(fc.backing[v], r.total) {
			third = v
			thirds++
		}
	}
	if thirds == 1 {
		return third
	}
	if len(at) == 1 {
		return at[0]
	}
	var best *vertex
	var bestTip tipWeight
	for _, v := range at {
		stack := []*vertex{v}
		for len(stack) > 0 {
			t := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if ups := children[t]; len(ups) > 0 {
				stack = append(stack, ups...)
				continue
			}
			tw := c.weigh(g, r, t)
			if best == nil || tw.beats(&bestTip) {
				best, bestTip = v, tw
			}
		}
	}
	return best
}

// tipWeight is what tips are compared by.
type tipWeight struct {
	sum  weight
	rank int // of its author at its height; after all others without shares
	id   types.Hash
}

func (t *tipWeight) beats(u *tipWeight) bool {
	if d := t.sum.cmp(u.sum); d != 0 {
		return d > 0
	}
	if t.rank != u.rank {
		return t.rank < u.rank
	}
	return bytes.Compare(t.id[:], u.id[:]) < 0
}

// weigh is the weight of a tip: what the open blocks on its chain contribute, with the
// knowers in its own past.
func (c *Core) weigh(g *view, r *run, t *vertex) tipWeight {
	w := tipWeight{rank: c.rank(r, t), id: t.id}
	for x := t; c.open(g.dec, x); x = x.parent {
		c.witness(&w.sum, t.past, r, x)
	}
	return w
}

// rank is the place of v's author in the draw of v's height; past all places without shares.
func (c *Core) rank(r *run, v *vertex) int {
	d := c.draw(r, v.height)
	if v.author < 0 || v.author >= len(d.rank) || d.rank[v.author] < 0 {
		return len(c.authors)
	}
	return d.rank[v.author]
}

// chosen is the fork choice of a block's past, worked out once.
func (c *Core) chosen(g *view, r *run) *forkChoice {
	fc := g.choice[r]
	if fc == nil {
		fc = c.choose(g, r)
		g.choice[r] = fc
	}
	return fc
}

// sound reports whether a block's parent is the fork choice in its own past, which decides
// something that is in memory. It is judged by the run by which its author chose: above the
// end of a run that is not decided yet nobody builds by that run's draws.
func (c *Core) sound(v *vertex) bool {
	return c.chosen(v.past, c.runFor(v.past, v.height)).parent.id == v.parent.id
}
