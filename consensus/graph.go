package consensus

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"charter/types"
)

// vertex is a block in the graph. Of one that was pruned only id, author and height are
// left, for those whose past it tops.
type vertex struct {
	id      types.Hash
	author  int // number; −1 for genesis
	height  uint64
	block   *types.Block
	past    *view
	named   []*vertex // parent first
	ordered uint64    // height of the anchor that put it into the total order, 0 if none has; 1 below the floor

	previous, parent *vertex
}

// level is the blocks of one height, and the views on which blocks of that height stand.
type level struct {
	vertices []*vertex
	views    map[string]*view // by the ids that are named, sorted
}

// view is a set of blocks that holds the past of each: here, always, the past of the
// blocks of one height that name the same blocks. What follows from it is worked out once.
type view struct {
	height  uint64            // of a block with this past
	named   []*vertex         // that a block with this past names
	tips    []*vertex         // by author number: its highest block, nil for none
	forks   map[int][]*vertex // authors whose fork is in it, with their further tips as far as in memory
	dec     *decision         // what it decides; nil: below what is in memory
	floor   uint64            // if dec is nil: the height up to which it decides
	stalled bool              // dec stops for want of a snapshot
	digest  types.Hash        // of the past of a block with this view; zero until it is asked for

	behind  map[*vertex]*vertex  // of named: in the past of which other one
	confirm map[question]bool    // does a block with this past confirm that one?
	full    map[*run]bool        // is it full?
	choice  map[*run]*forkChoice // of a block with this past
}

// question is about one vertex under one run's shares.
type question struct {
	about *vertex
	run   *run
}

// tip is the highest block of an author in the view.
func (g *view) tip(a int) *vertex {
	if a < len(g.tips) {
		return g.tips[a]
	}
	return nil
}

// forked reports whether a fork by the author is in the view.
func (g *view) forked(a int) bool {
	_, forked := g.forks[a]
	return forked
}

// at is the level of a height, made if need be.
func (c *Core) level(h uint64) *level {
	l := c.levels[h]
	if l == nil {
		l = &level{views: make(map[string]*view)}
		c.levels[h] = l
	}
	return l
}

// at is the blocks of a height.
func (c *Core) at(h uint64) []*vertex {
	if l := c.levels[h]; l != nil {
		return l.vertices
	}
	return nil
}

// holds reports whether v is in the view.
func (c *Core) holds(g *view, v *vertex) bool {
	if v.author < 0 {
		return true
	}
	t := g.tip(v.author)
	if t == nil {
		return false
	}
	if !c.authors[v.author].forked {
		return t.height >= v.height
	}
	if c.onLine(t, v) {
		return true
	}
	for _, t := range g.forks[v.author] {
		if c.onLine(t, v) {
			return true
		}
	}
	return false
}

// below reports whether v is w or in its past.
func (c *Core) below(w, v *vertex) bool {
	return v.id == w.id || w.past != nil && c.holds(w.past, v)
}

// onLine reports whether v is t or one of its author's blocks before t. Below what is in
// memory everything is final, and on the line.
func (c *Core) onLine(t, v *vertex) bool {
	for t.height > v.height {
		if t.previous == nil {
			return v.height < c.floor
		}
		t = t.previous
	}
	return t.id == v.id
}

// names reports whether v names l, which is one height lower: there, to have in one's past
// is to name.
func (c *Core) names(v, l *vertex) bool { return c.holds(v.past, l) }

// viewOf is the past of a block that names these.
func (c *Core) viewOf(named []*vertex) *view {
	height := uint64(0)
	ids := make([][]byte, len(named))
	for i, n := range named {
		height = max(height, n.height+1)
		ids[i] = n.id[:]
	}
	slices.SortFunc(ids, bytes.Compare)
	var key strings.Builder
	for _, id := range ids {
		key.Write(id)
	}
	views := c.level(height).views
	g := views[key.String()]
	switch {
	case g == nil:
		g = c.newView(height, named)
		views[key.String()] = g
	case g.dec != nil && g.stalled:
		g.dec = c.settled(g, g.dec)
		g.stalled = g.dec != nil && !g.dec.run.ready
	}
	return g
}

func (c *Core) newView(height uint64, named []*vertex) *view {
	g := &view{height: height, named: named, tips: make([]*vertex, len(c.authors))}
	g.init()
	done := make(map[*view]bool)
	var base *decision
	for _, n := range named {
		if n.past != nil && !done[n.past] {
			done[n.past] = true
			if d := n.past.dec; d != nil && (base == nil || d.height > base.height) {
				base = d
			}
			g.floor = max(g.floor, n.past.floor)
			c.merge(g, n.past)
		}
		if n == c.genesis && base == nil {
			if d := c.first(); d.height == 0 {
				base = d
			}
		}
	}
	for _, n := range named {
		if n.author >= 0 {
			c.raise(g, n.author, n)
		}
	}
	switch {
	case base != nil && base.height >= max(g.floor, c.floor):
		g.dec = c.settled(g, base)
		g.stalled = g.dec != nil && !g.dec.run.ready
	case base != nil:
		g.floor = max(g.floor, base.height)
	}
	return g
}

// merge puts what is in one view into another.
func (c *Core) merge(g, from *view) {
	for a := range from.forks {
		c.fork(g, a)
	}
	for a, t := range from.tips {
		if t != nil {
			c.raise(g, a, t)
		}
	}
	for a, ts := range from.forks {
		for _, t := range ts {
			c.raise(g, a, t)
		}
	}
}

// fork notes that a view holds a fork by an author, once and for all.
func (c *Core) fork(g *view, a int) {
	if g.forks == nil {
		g.forks = make(map[int][]*vertex)
	}
	if _, ok := g.forks[a]; !ok {
		g.forks[a] = nil
	}
}

func (g *view) init() {
	g.confirm, g.full, g.choice = make(map[question]bool), make(map[*run]bool), make(map[*run]*forkChoice)
}

// first is the lowest decision in memory.
func (c *Core) first() *decision {
	d := c.all.dec
	for d.prev != nil {
		d = d.prev
	}
	return d
}

// raise puts v among the tips of a view, if no tip has it on its line.
func (c *Core) raise(g *view, a int, v *vertex) {
	for len(g.tips) <= a {
		g.tips = append(g.tips, nil)
	}
	t := g.tips[a]
	switch {
	case t == nil:
		g.tips[a] = v
	case !c.authors[a].forked:
		if v.height > t.height {
			g.tips[a] = v
		}
	default:
		c.raiseForked(g, a, v)
	}
}

func (c *Core) raiseForked(g *view, a int, v *vertex) {
	tips := append([]*vertex{g.tips[a]}, g.forks[a]...)
	kept := []*vertex{v}
	for _, t := range tips {
		if c.onLine(t, v) {
			return
		}
		if !c.onLine(v, t) {
			kept = append(kept, t)
		}
	}
	slices.SortFunc(kept, func(x, y *vertex) int {
		if x.height != y.height {
			return int(y.height) - int(x.height)
		}
		return bytes.Compare(x.id[:], y.id[:])
	})
	g.tips[a] = kept[0]
	if len(kept) > 1 {
		c.fork(g, a)
	}
	if g.forked(a) {
		g.forks[a] = kept[1:]
	}
}

// insert puts a valid block into the graph.
func (c *Core) insert(v *vertex) {
	if v.block.PayloadBytes > 0 && !c.authors[v.author].forked {
		c.openPayload++
	}
	c.plant(v)
	c.dirty = true
	if v.author == c.self && (c.mine == nil || v.height > c.mine.height) {
		c.mine, c.built, c.held = v, v.block.Time, -1
	}
	c.ready.Accepted = append(c.ready.Accepted, Accepted{v.id, v.block, c.pastOf(v.past)})
	c.decideAll()
}

// plant adds a vertex to the tables, and finds the fork that it may make.
func (c *Core) plant(v *vertex) {
	c.vertices[v.id] = v
	l := c.level(v.height)
	l.vertices = append(l.vertices, v)
	a := &c.authors[v.author]
	if twin := a.lines[v.block.Previous]; twin == nil {
		a.lines[v.block.Previous] = v
	} else {
		if !a.forked {
			a.forked = true
			c.disown(v.author)
		}
		c.ready.Forks = append(c.ready.Forks, Fork{twin.block, v.block})
	}
	c.raise(c.all, v.author, v)
	c.all.height = max(c.all.height, v.height+1)
}

// disown takes a forked author's blocks out of the count of payloads that wait: nobody
// hurries for what may never be named.
func (c *Core) disown(a int) {
	for _, l := range c.levels {
		for _, v := range l.vertices {
			if v.author == a && v.ordered == 0 && v.block.PayloadBytes > 0 {
				c.openPayload--
			}
		}
	}
}

// buryLines is the blocks below the floor of which the lines are known, each with the one
// before it. It marks the authors of whom two are not on one line. Lines ascend by height.
func (c *Core) buryLines(lines []Line) map[types.Hash]*vertex {
	below := make(map[types.Hash]*vertex)
	tops := make(map[int]*vertex)
	for _, l := range lines {
		v := &vertex{id: l.ID, author: c.numberOf(l.Author), height: l.Height, ordered: 1, previous: below[l.Previous]}
		if t := tops[v.author]; t != nil && !c.onLine(v, t) {
			c.authors[v.author].forked = true
		}
		below[l.ID], tops[v.author] = v, v
	}
	return below
}

// replant puts a stored block back, without judging it again. Blocks come by height. Below
// is what is known of blocks below the floor, and steps what their pasts may have come to.
func (c *Core) replant(a *Accepted, below map[types.Hash]*vertex, steps []Past) (*vertex, error) {
	n, ok := c.number[a.Block.Author]
	if !ok {
		return nil, fmt.Errorf("restore: author %s of block %s is in no snapshot that is here", a.Block.Author, a.ID)
	}
	find := func(id types.Hash) *vertex {
		if v := c.vertices[id]; v != nil {
			return v
		}
		return below[id]
	}
	v := &vertex{id: a.ID, author: n, height: a.Block.Height, block: a.Block}
	g := &view{height: v.height, digest: a.Block.Past, tips: make([]*vertex, len(c.authors))}
	g.init()
	if a.Past != nil {
		for _, t := range a.Past.Tips {
			number := c.numberOf(t.Author)
			if t.Forked {
				c.authors[number].forked = true
				c.fork(g, number)
			}
			w := find(t.ID)
			if w == nil {
				w = &vertex{id: t.ID, author: number, height: t.Height, ordered: 1}
				below[t.ID] = w
			}
			c.raise(g, number, w)
		}
	}
	for _, id := range a.Block.Named() {
		w := c.vertices[id]
		if w == nil {
			w = &vertex{id: id, author: -1, ordered: 1} // below the floor
		} else {
			if w.past != nil {
				c.merge(g, w.past)
				g.floor = max(g.floor, w.past.floor)
			}
			if w.author >= 0 {
				c.raise(g, w.author, w)
			}
		}
		v.named = append(v.named, w)
	}
	if a.Past == nil {
		a.Past = c.reckon(g, a.Block.Past, steps)
	}
	if a.Past == nil || a.Past.Digest() != a.Block.Past {
		return nil, fmt.Errorf("restore: the past of block %s of height %d is not the one that it carries", a.ID, a.Block.Height)
	}
	g.floor = a.Past.Decided
	g.named = v.named
	v.past, v.parent, v.previous = g, v.named[0], find(a.Block.Previous)
	c.plant(v)
	if v.author == c.self && (c.mine == nil || v.height > c.mine.height) {
		c.mine, c.built = v, v.block.Time
	}
	return v, nil
}

// prune drops what lies far below the last anchor, when it has come a good way. The new
// floor is an anchor's height, and what is not ordered yet decides that much in its past.
func (c *Core) prune() {
	last := c.all.dec.last.height
	if last < c.floor+2*Window || last < c.pruned+Window/4 {
		return
	}
	c.pruned = last
	floor := last - Window
	for _, v := range c.vertices {
		if v.author >= 0 && v.ordered == 0 && !c.authors[v.author].forked && v.past.dec != nil {
			floor = min(floor, v.past.dec.height)
		}
	}
	d := c.all.dec
	for d.height > floor || d.anchor == nil {
		if d.prev == nil {
			return
		}
		d = d.prev
	}
	if d.height <= c.floor {
		return
	}
	c.floor = d.height
	d.prev = nil
	for h, l := range c.levels {
		if h < c.floor {
			for _, v := range l.vertices {
				c.forget(v)
			}
			delete(c.levels, h)
		}
	}
	for n, r := range c.runs {
		for h := range r.draws {
			if h < c.floor {
				delete(r.draws, h)
			}
		}
		if n < d.by.Number {
			delete(c.runs, n)
		}
	}
	for h := range c.snapshots {
		if h < d.by.Snapshot {
			delete(c.snapshots, h)
		}
	}
}

// forget cuts a vertex loose: what still points at it sees id, author and height.
func (c *Core) forget(v *vertex) {
	if v.block.PayloadBytes > 0 && v.ordered == 0 && !c.authors[v.author].forked {
		c.openPayload--
	}
	if lines := c.authors[v.author].lines; lines[v.block.Previous] == v {
		delete(lines, v.block.Previous)
	}
	delete(c.vertices, v.id)
	delete(c.tiers, v.id)
	v.past, v.named, v.parent, v.block = nil, nil, nil, nil
	if v.ordered = 1; !c.authors[v.author].forked {
		v.previous = nil
	}
}
