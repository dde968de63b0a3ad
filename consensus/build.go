package consensus

import (
	"bytes"
	"slices"

	"charter/types"
)

// plan says what to build now, or else when to ask again (spec, "When to build").
func (c *Core) plan() (*Template, types.Millis) {
	if c.self < 0 || c.syncing || c.blind || c.mute || c.authors[c.self].forked || !c.runFor(c.all, c.all.height).ready {
		return nil, 0
	}
	g := uint64(0)
	last := c.cfg.Time
	if c.mine != nil {
		g, last = c.mine.height, c.built
	}
	if n := c.climb(g); n > 0 {
		if t, wake := c.template(n); t != nil || wake > 0 {
			return t, wake
		}
	}
	wake := types.Millis(0)
	soonest := func(t types.Millis) {
		if t > c.now && (wake == 0 || t < wake) {
			wake = t
		}
	}
	if ready, due := c.step(g); ready || due > 0 {
		if idle := last + c.cfg.Params.WaitIdle; !c.hurry(g) {
			due = max(due, idle)
			ready = ready && c.now >= idle
		}
		if ready || due > 0 && c.now >= due {
			t, later := c.template(g + 1)
			if t != nil {
				return t, 0
			}
			soonest(later)
		}
		soonest(due)
	}
	if timer := last + c.cfg.Params.WaitQuorum; c.now >= timer {
		n := g + 1
		if high := c.highest(); high > n {
			n = max(n, high-min(2, high))
		}
		t, later := c.template(n)
		if t != nil {
			return t, 0
		}
		soonest(later)
	} else {
		soonest(timer)
	}
	return nil, wake
}

// climb is the height at which to build because a third are at it or above, 0 for none.
func (c *Core) climb(g uint64) uint64 {
	var n uint64
	r := c.runFor(c.all, c.all.height)
	var heights []*vertex
	for a, t := range c.all.tips {
		if t != nil && t.height > g && !c.authors[a].forked && r.of(a) > 0 {
			heights = append(heights, t)
		}
	}
	slices.SortFunc(heights, func(x, y *vertex) int { return int(int64(y.height) - int64(x.height)) })
	var sum types.Amount
	for _, t := range heights {
		if sum += r.of(t.author); moreThanThird(sum, r.total) {
			n = t.height
			break
		}
	}
	if n == 0 {
		return 0
	}
	return max(g+1, n-min(2, n))
}

// highest is the greatest height of a block that may be named.
func (c *Core) highest() (h uint64) {
	for a, t := range c.all.tips {
		if t != nil && !c.authors[a].forked {
			h = max(h, t.height)
		}
	}
	return h
}

// step reports whether to build upon height g because it is there from two thirds and its
// leader, and the votes on the leader before, need no more waiting. If only the waiting for
// these is left, due is its end.
func (c *Core) step(g uint64) (ready bool, due types.Millis) {
	if g == 0 {
		return true, 0
	}
	there := c.nameable(g)
	runs := c.building(g + 1)
	for _, r := range runs {
		if !r.ready || !moreThanTwoThirds(c.sharesOf(r, there), r.total) {
			return false, 0
		}
	}
	if c.held < 0 {
		c.held = c.now
	}
	for _, r := range runs {
		if !c.leaderHere(r, g) || !c.votesHere(r, g, there) {
			return false, c.held + c.cfg.Params.WaitLeader
		}
	}
	return true, 0
}

// building is the runs that a block of height h must serve: its own, and the one before
// as long as that is not decided to its end. Only blocks above that end can still decide
// it, by its shares and leaders; who built for the new run alone would leave it behind.
func (c *Core) building(h uint64) []*run {
	r := c.runFor(c.all, h)
	if old := c.all.dec.run; old != r {
		return []*run{old, r}
	}
	return []*run{r}
}

// nameable is the blocks of a height by authors that are not known to have forked.
func (c *Core) nameable(h uint64) (vs []*vertex) {
	for _, v := range c.at(h) {
		if !c.authors[v.author].forked {
			vs = append(vs, v)
		}
	}
	return vs
}

// by is a block of a height by an author, nil for none.
func (c *Core) by(a int, h uint64) *vertex {
	for _, v := range c.at(h) {
		if v.author == a {
			return v
		}
	}
	return nil
}

// leaderHere reports whether the leader's block of height g is here, or is not waited for:
// it has forked, or was silent at the two heights below.
func (c *Core) leaderHere(r *run, g uint64) bool {
	leader := c.draw(r, g).leader
	return c.by(leader, g) != nil || c.authors[leader].forked ||
		g > 2 && c.by(leader, g-1) == nil && c.by(leader, g-2) == nil
}

// votesHere reports whether height g holds two thirds that vote for the leader's block of
// height g−1, or so many that do not that two thirds cannot.
func (c *Core) votesHere(r *run, g uint64, there []*vertex) bool {
	if g < 2 {
		return true
	}
	leader := c.draw(r, g-1).leader
	l := c.by(leader, g-1)
	if l == nil || c.authors[leader].forked {
		return true
	}
	var votes, refusals []*vertex
	for _, v := range there {
		if c.names(v, l) {
			votes = append(votes, v)
		} else {
			refusals = append(refusals, v)
		}
	}
	return moreThanTwoThirds(c.sharesOf(r, votes), r.total) ||
		!moreThanTwoThirds(r.total-c.sharesOf(r, refusals), r.total)
}

// hurry reports whether anything waits to become final, or others have gone on.
func (c *Core) hurry(g uint64) bool {
	return c.waiting || c.openPayload > 0 || g == 0 || c.highest() > g
}

// template is the own block of height n: it names each author's highest block below n, less
// what another of these holds in its past. If rule 4 has it wait, when.
func (c *Core) template(n uint64) (*Template, types.Millis) {
	named := c.gather(n)
	if len(named) == 0 {
		return nil, 0
	}
	g := c.viewOf(named)
	if g.dec == nil {
		c.lower(g.floor)
		return nil, 0
	}
	if g.height != n || g.forked(c.self) {
		return nil, 0
	}
	r := c.runFor(g, n)
	if !r.ready || g.dec.run.of(c.self) == 0 && (g.dec.closing == nil || g.dec.closing.of(c.self) == 0) {
		return nil, 0
	}
	if due := c.due(g, r); due > c.now {
		return nil, due
	}
	t := &Template{Height: n, Parent: c.chosen(g, r).parent.id, Past: c.digestOf(g), Time: c.now, VRF: vrfInput(r, n)}
	if p := g.tip(c.self); p != nil {
		t.Previous = p.id
	}
	for _, v := range named {
		t.Time = max(t.Time, v.block.Time)
		if v.id != t.Parent {
			t.Merges = append(t.Merges, v.id)
		}
	}
	if t.Time > c.now {
		return nil, t.Time // genesis is to come, or the clock went back before a restart
	}
	sortHashes(t.Merges)
	return t, 0
}

// gather is each author's highest block below height n that may be named, less what another
// of these holds in its past.
func (c *Core) gather(n uint64) []*vertex {
	if n == 1 {
		return []*vertex{c.genesis}
	}
	var tops []*vertex
	for a, t := range c.all.tips {
		if c.authors[a].forked {
			continue
		}
		for t != nil && t.height >= n {
			t = t.previous
		}
		if t != nil && t.past != nil {
			tops = append(tops, t)
		}
	}
	var named []*vertex
	for _, t := range tops {
		if !slices.ContainsFunc(tops, func(u *vertex) bool { return u != t && c.holds(u.past, t) }) {
			named = append(named, t)
		}
	}
	return named
}

func sortHashes(hs []types.Hash) {
	slices.SortFunc(hs, func(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) })
}

// sortBlocks sorts by height, then id.
func sortBlocks(bs []*types.Block, chain types.Hash) {
	slices.SortFunc(bs, func(a, b *types.Block) int {
		if a.Height != b.Height {
			return int(int64(a.Height) - int64(b.Height))
		}
		x, y := a.ID(chain), b.ID(chain)
		return bytes.Compare(x[:], y[:])
	})
}
