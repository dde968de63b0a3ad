package consensus

import (
	"bytes"
	"fmt"
	"slices"

	"charter/types"
)

// verdict on a height, under one run, in one view.
type verdict struct {
	known  bool
	anchor *vertex // nil: empty
}

// decide takes up the decisions of a view from d as far as they go (spec, "Finality"). It
// decides heights from the top down, and takes them from the bottom up.
func (c *Core) decide(g *view, d *decision) *decision {
	for {
		r, top := d.run, g.height-1
		if !r.ready || top < d.height+2 {
			return d
		}
		verdicts := make([]verdict, top-d.height-1) // of heights d.height+1 … top−1
		for i := len(verdicts) - 1; i >= 0; i-- {
			verdicts[i] = c.verdict(g, r, d.height+1+uint64(i), verdicts[min(i+3, len(verdicts)):])
		}
		for _, v := range verdicts {
			if !v.known {
				return d
			}
			if d = c.decided(d, v.anchor); d.run != r {
				break
			}
		}
		if d.run == r {
			return d
		}
	}
}

// settled is decide for the past of a block, from d up: nil if that hangs on what is below
// the floor, for then it may decide more than can be seen from here.
func (c *Core) settled(g *view, d *decision) *decision {
	c.short = false
	if d = c.decide(g, d); c.short {
		g.floor = min(g.floor, c.floor-1)
		return nil
	}
	return d
}

// verdict on height h, given those of the heights from h+3 upwards.
func (c *Core) verdict(g *view, r *run, h uint64, above []verdict) verdict {
	candidates, ok := c.candidates(g, r, h)
	if !ok {
		return verdict{}
	}
	for _, l := range candidates {
		if c.confirmed(g, r, l) {
			return verdict{true, l}
		}
	}
	if c.skipped(g, r, h, candidates) {
		return verdict{true, nil}
	}
	for _, v := range above {
		if !v.known {
			break
		}
		if v.anchor != nil {
			for _, l := range candidates {
				if c.confirmedIn(v.anchor.past, r, l) {
					return verdict{true, l}
				}
			}
			return verdict{true, nil}
		}
	}
	return verdict{}
}

// candidates are the blocks in g of the leader of height h that are full and sound. It is
// not ok if whether one is sound hangs on what is below the floor, which is then asked for.
func (c *Core) candidates(g *view, r *run, h uint64) (ls []*vertex, ok bool) {
	leader := c.draw(r, h).leader
	for _, v := range c.at(h) {
		if v.author != leader || !c.holds(g, v) || !c.full(v.past, r) {
			continue
		}
		if v.past.dec == nil {
			c.short = true
			c.lower(v.past.floor)
			return nil, false
		}
		if c.sound(v) {
			ls = append(ls, v)
		}
	}
	return ls, true
}

// confirmed reports whether blocks that confirm l are in g from two thirds.
func (c *Core) confirmed(g *view, r *run, l *vertex) bool {
	var by []*vertex
	for _, v := range c.at(l.height + 2) {
		if c.holds(g, v) && c.confirms(v, r, l) {
			by = append(by, v)
		}
	}
	return moreThanTwoThirds(c.sharesOf(r, by), r.total)
}

// confirmedIn reports whether a block that confirms l is in g.
func (c *Core) confirmedIn(g *view, r *run, l *vertex) bool {
	for _, v := range c.at(l.height + 2) {
		if c.holds(g, v) && c.confirms(v, r, l) {
			return true
		}
	}
	return false
}

// confirms reports whether the past of v, two heights above l, holds votes for l from two thirds.
func (c *Core) confirms(v *vertex, r *run, l *vertex) bool {
	q := question{l, r}
	yes, ok := v.past.confirm[q]
	if !ok {
		var by []*vertex
		for _, w := range c.at(l.height + 1) {
			if c.holds(v.past, w) && c.names(w, l) {
				by = append(by, w)
			}
		}
		yes = moreThanTwoThirds(c.sharesOf(r, by), r.total)
		v.past.confirm[q] = yes
	}
	return yes
}

// skipped reports whether two thirds have a block of height h+1 in g and, for each
// candidate, two thirds have one that does not name it.
func (c *Core) skipped(g *view, r *run, h uint64, candidates []*vertex) bool {
	var there []*vertex
	for _, v := range c.at(h + 1) {
		if c.holds(g, v) {
			there = append(there, v)
		}
	}
	if !moreThanTwoThirds(c.sharesOf(r, there), r.total) {
		return false
	}
	for _, l := range candidates {
		var without []*vertex
		for _, v := range there {
			if !c.names(v, l) {
				without = append(without, v)
			}
		}
		if !moreThanTwoThirds(c.sharesOf(r, without), r.total) {
			return false
		}
	}
	return true
}

// sharesOf sums the shares of the authors of blocks, each author once.
func (c *Core) sharesOf(r *run, blocks []*vertex) (sum types.Amount) {
	c.epoch++
	for _, v := range blocks {
		sum += c.once(r, v)
	}
	return sum
}

// decideAll takes up the decisions of the own view, and tells what is new.
func (c *Core) decideAll() {
	if c.blind {
		return
	}
	from := c.all.dec
	to := c.decide(c.all, from)
	if to == from {
		return
	}
	c.all.dec = to
	c.dirty = true
	var path []*decision
	for d := to; d != from; d = d.prev {
		path = append(path, d)
	}
	slices.Reverse(path)
	for _, d := range path {
		d.own = true
		out := Decision{Height: d.height, Run: d.by.Number}
		if d.anchor != nil {
			out.Anchor, out.Time = d.anchor.id, d.anchor.block.Time
			out.Blocks = c.order(d)
			out.Closes = d.closes()
		}
		c.ready.Decided = append(c.ready.Decided, out)
	}
}

// closes is the next run, if d's anchor closes its own.
func (d *decision) closes() *Run {
	for _, r := range []*run{d.closing, d.run} {
		if r != nil && d.anchor != nil && r.Closer == d.anchor.id {
			return &r.Run
		}
	}
	return nil
}

// order is what the anchor of d brings into the total order (spec, "Total order").
func (c *Core) order(d *decision) (ids []types.Hash) {
	var chain []*vertex
	for x := d.anchor; x != nil && x.ordered == 0; x = x.parent {
		chain = append(chain, x)
	}
	slices.Reverse(chain)
	for _, x := range chain {
		for _, v := range append(c.unordered(x, d), x) {
			v.ordered = d.height
			delete(c.tiers, v.id)
			if v.block.PayloadBytes > 0 && !c.authors[v.author].forked {
				c.openPayload--
			}
			ids = append(ids, v.id)
		}
	}
	return ids
}

// unordered is what is in the past of x and not in the order, sorted by height, rank of the
// author at that height, and id.
func (c *Core) unordered(x *vertex, d *decision) []*vertex {
	found := c.behind(x, func(v *vertex) bool { return v.ordered == 0 })
	c.sortForOrder(found, d)
	return found
}

// behind is what is in the past of x, as far down as want holds.
func (c *Core) behind(x *vertex, want func(*vertex) bool) (found []*vertex) {
	seen := map[*vertex]bool{x: true}
	stack := []*vertex{x}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, n := range v.named {
			if n.author >= 0 && !seen[n] && want(n) {
				seen[n] = true
				found = append(found, n)
				stack = append(stack, n)
			}
		}
	}
	return found
}

func (c *Core) sortForOrder(vs []*vertex, d *decision) {
	slices.SortFunc(vs, func(a, b *vertex) int {
		if a.height != b.height {
			return int(int64(a.height) - int64(b.height))
		}
		r := d.runAt(a.height)
		if ra, rb := c.rank(r, a), c.rank(r, b); ra != rb {
			return ra - rb
		}
		return bytes.Compare(a.id[:], b.id[:])
	})
}

// Tier is how far the agreement on a block has come (spec, "Tiers").
type Tier uint8

const (
	// Seen: in this peer's view, and no more.
	Seen Tier = iota
	// Known: three peers know the block that orders it, or all where there are fewer.
	Known
	// Selected: a third back that block.
	Selected
	// Official: half back it.
	Official
	// Final: in the total order.
	Final
)

var tierNames = [...]string{"seen", "known", "selected", "official", "final"}

// String is the tier's name.
func (t Tier) String() string { return tierNames[t] }

// TierChange tells a block's tier. It may fall, as long as it is not final.
type TierChange struct {
	Block types.Hash
	Tier  Tier
}

// retier works out the tiers of open blocks with a payload, on the chain that the fork
// choice takes in the own view, and tells those that changed.
func (c *Core) retier() {
	if c.openPayload == 0 || !c.runFor(c.all, c.all.height).ready {
		return
	}
	r := c.runFor(c.all, c.all.height)
	fc := c.choose(c.all, r)
	var chain []*vertex
	for x := fc.parent; fc.chain[x]; x = x.parent {
		chain = append(chain, x)
	}
	slices.Reverse(chain)
	now := make(map[types.Hash]Tier)
	placed := make(map[*vertex]bool)
	for _, x := range chain {
		tier := c.tierOf(x, r, fc)
		behind := c.behind(x, func(v *vertex) bool { return v.ordered == 0 && !placed[v] })
		for _, v := range append(behind, x) {
			if placed[v] = true; v.block.PayloadBytes > 0 && tier != Seen {
				now[v.id] = tier
			}
		}
	}
	var changes []TierChange
	for id := range c.tiers {
		if now[id] == Seen {
			changes = append(changes, TierChange{id, Seen})
		}
	}
	for id, t := range now {
		if c.tiers[id] != t {
			changes = append(changes, TierChange{id, t})
		}
	}
	slices.SortFunc(changes, func(a, b TierChange) int { return bytes.Compare(a.Block[:], b.Block[:]) })
	c.ready.Tiers = append(c.ready.Tiers, changes...)
	c.tiers = now
}

// tierOf is the tier of an open block on the chosen chain.
func (c *Core) tierOf(x *vertex, r *run, fc *forkChoice) Tier {
	knowers := []*vertex{x}
	for _, v := range c.at(x.height + 1) {
		if c.names(v, x) && !c.authors[v.author].forked {
			knowers = append(knowers, v)
		}
	}
	c.epoch++
	n := 0
	for _, v := range knowers {
		if c.mark[v.author] != c.epoch {
			c.mark[v.author] = c.epoch
			n++
		}
	}
	switch backing := fc.backing[x]; {
	case moreThanHalf(backing, r.total):
		return Official
	case moreThanThird(backing, r.total):
		return Selected
	case n >= min(3, len(r.members)):
		return Known
	}
	return Seen
}

// firstDecision is the lowest decision of a restored Core.
func (c *Core) firstDecision(anchor *vertex, info Decision) (*decision, error) {
	by := c.runs[info.Run]
	if by == nil {
		return nil, fmt.Errorf("restore: run %d, which decided height %d, is not there", info.Run, info.Height)
	}
	d := &decision{height: info.Height, anchor: anchor, last: anchor, by: by, run: by}
	if next := c.runs[info.Run+1]; next != nil && next.Start <= info.Height+c.cfg.Params.RunTail {
		d.closing = next
		if d.height+1 >= next.Start {
			d.run, d.closing = next, nil
		}
	}
	return d, nil
}

// settle repeats decisions upon the first, and takes up the views and the order from there.
func (c *Core) settle(first *decision, decisions []Decision) error {
	at := map[uint64]*decision{first.height: first}
	d := first
	for _, info := range decisions {
		if info.Height != d.height+1 || info.Run != d.run.Number {
			return fmt.Errorf("restore: decision of height %d by run %d follows that of height %d, and run %d is next", info.Height, info.Run, d.height, d.run.Number)
		}
		var anchor *vertex
		if !info.Anchor.IsZero() {
			if anchor = c.vertices[info.Anchor]; anchor == nil {
				return fmt.Errorf("restore: the anchor of height %d is not among the blocks", info.Height)
			}
		}
		d = c.decided(d, anchor)
		at[d.height] = d
	}
	c.all.dec = d
	for h := c.floor; h < c.all.height; h++ {
		for _, v := range c.at(h) {
			c.resettle(v, at, d)
		}
	}
	for _, d := range at {
		d.own = true
	}
	c.dirty = true
	c.decideAll()
	return nil
}

// resettle takes up what the past of a restored block decides, and whether the block is
// ordered, given the decisions of the base by height, and the last of them. What is not
// ordered must be in memory with all of its past that is not: if that is in doubt, the
// floor is too high.
func (c *Core) resettle(v *vertex, at map[uint64]*decision, last *decision) {
	if v.past.floor > last.height { // decided, and not applied before the restart
		base := last
		for _, n := range v.named {
			if n.past != nil && n.past.dec != nil && n.past.dec.height > base.height {
				base = n.past.dec
			}
		}
		v.past.dec = c.settled(v.past, base)
	} else {
		v.past.dec = at[v.past.floor]
	}
	for d := last; d != nil && d.height >= v.height; d = d.prev {
		if d.anchor != nil && c.below(d.anchor, v) {
			v.ordered = d.height
		}
	}
	if v.ordered > 0 {
		return
	}
	if v.block.PayloadBytes > 0 && !c.authors[v.author].forked {
		c.openPayload++
	}
	if v.past.dec == nil && c.lower(v.past.floor) {
		c.blind = true
	}
	for _, n := range v.named {
		if c.vertices[n.id] == nil && c.lower(min(v.past.floor, c.floor-min(Window, c.floor))) {
			c.blind = true
		}
	}
}

// resume takes up the own line where it was left below the floor. If nothing in memory has
// its last block in its past, to build without it were to fork: the floor is too high or, if
// that is out of reach, this peer builds no more.
func (c *Core) resume(own Tip) {
	if own.Height == 0 || own.Height >= c.floor {
		return
	}
	for h := c.floor; h < c.all.height; h++ {
		for _, v := range c.at(h) {
			if t := v.past.tip(c.self); c.self >= 0 && t != nil && t.id == own.ID {
				c.mine = t
				return
			}
		}
	}
	if c.blind = c.lower(own.Height); !c.blind {
		c.mute = true
	}
}
