package consensus

import (
	"bytes"
	"maps"
	"slices"

	"charter/types"
)

// moreThanThird, moreThanHalf and moreThanTwoThirds compare a sum of shares with a part of
// all. No product, so nothing overflows.
func moreThanThird(x, all types.Amount) bool     { return x > all/3 }
func moreThanHalf(x, all types.Amount) bool      { return x > all/2 }
func moreThanTwoThirds(x, all types.Amount) bool { return x > 2*all/3 }

// run is a Run with its shares. Its members are known once the snapshot is (ready).
type run struct {
	Run
	mark    uint64 // the first anchor at or above closes the run
	ready   bool
	members []types.Member
	shares  []types.Amount // by author number; authors that came later have none
	total   types.Amount
	draws   map[uint64]*draw
	nexts   map[types.Hash]*run // by the anchor that closes this one
}

// of is the shares of an author in the run.
func (r *run) of(a int) types.Amount {
	if a < 0 || a >= len(r.shares) {
		return 0
	}
	return r.shares[a]
}

// addRun makes a run known, and gives it its shares if their snapshot is here.
func (c *Core) addRun(info Run) *run {
	r := &run{Run: info, draws: make(map[uint64]*draw), nexts: make(map[types.Hash]*run)}
	p := &c.cfg.Params
	// The least m > start with m + tail − lag divisible by length.
	residue := (p.SnapshotLag%p.RunLength + p.RunLength - p.RunTail%p.RunLength) % p.RunLength
	r.mark = r.Start + 1
	r.mark += (residue + p.RunLength - r.mark%p.RunLength) % p.RunLength
	if info.Number == 0 || c.runs[info.Number] == nil {
		c.runs[info.Number] = r
	}
	c.equip(r)
	if before := c.runs[info.Number-1]; info.Number > 0 && before != nil {
		before.nexts[info.Closer] = r
	}
	return r
}

// equip gives a run its shares once their snapshot is known.
func (c *Core) equip(r *run) {
	s := c.snapshots[r.Snapshot]
	if r.ready || s == nil {
		return
	}
	c.enrol(s)
	r.shares = make([]types.Amount, len(c.authors))
	for _, m := range s.Members {
		r.shares[c.number[m.Peer]] = m.Shares
	}
	r.members, r.total, r.ready = s.Members, s.Total(), true
}

// enrol numbers the members of a snapshot that have no number yet.
func (c *Core) enrol(s *types.Snapshot) {
	for _, m := range s.Members {
		c.numberOf(m.Peer)
	}
}

// numberOf is the number of an author, given to it if need be.
func (c *Core) numberOf(key types.Key) int {
	n, ok := c.number[key]
	if ok {
		return n
	}
	n = len(c.authors)
	c.number[key] = n
	if key == c.cfg.Self {
		c.self = n
	}
	c.authors = append(c.authors, author{key: key, lines: make(map[types.Hash]*vertex)})
	c.mark = append(c.mark, 0)
	at, _ := slices.BinarySearchFunc(c.byKey, key, func(a int, k types.Key) int { return bytes.Compare(c.authors[a].key[:], k[:]) })
	c.byKey = slices.Insert(c.byKey, at, n)
	return n
}

// nextRun is the run after r, closed by anchor a.
func (c *Core) nextRun(r *run, a *vertex) *run {
	if n := r.nexts[a.id]; n != nil {
		return n
	}
	p := &c.cfg.Params
	output := c.cfg.VRFOutput(a.block.VRF)
	info := Run{Number: r.Number + 1, Start: a.height + p.RunTail, Closer: a.id, Seed: tagSeed.Hash(r.Seed[:], output[:])}
	if info.Start >= p.SnapshotLag {
		info.Snapshot = (info.Start - p.SnapshotLag) / p.SnapshotPeriod * p.SnapshotPeriod
	}
	n := c.addRun(info)
	r.nexts[a.id] = n
	return n
}

// sortedRuns is the runs by number.
func (c *Core) sortedRuns() []*run {
	rs := slices.Collect(maps.Values(c.runs))
	slices.SortFunc(rs, func(a, b *run) int { return int(a.Number) - int(b.Number) })
	return rs
}

// draw is the run's draw of a height.
func (c *Core) draw(r *run, h uint64) *draw {
	d := r.draws[h]
	if d == nil {
		d = newDraw(r.Seed, h, r.shares, r.total, func(a int) types.Key { return c.authors[a].key })
		r.draws[h] = d
	}
	return d
}

// decision is a decided height and, behind it, all below that are in memory. Decisions are
// shared: views that agree hold the same one.
type decision struct {
	height  uint64
	anchor  *vertex // nil: the height is empty
	last    *vertex // the last anchor at or below
	by      *run    // the run that decided it
	run     *run    // the run that decides the next height
	closing *run    // the run after that, if it is closed already
	prev    *decision
	fold    types.Hash // of all up to here
	own     bool       // the own view has come to it
	nexts   []*decision
}

// decided is the decision after d: anchor, or nil for empty.
func (c *Core) decided(d *decision, anchor *vertex) *decision {
	for _, n := range d.nexts {
		if n.anchor == anchor {
			return n
		}
	}
	n := &decision{height: d.height + 1, anchor: anchor, last: d.last, by: d.run, run: d.run, closing: d.closing, prev: d}
	if anchor != nil {
		n.last = anchor
		if n.closing == nil && n.height >= n.run.mark {
			n.closing = c.nextRun(n.run, anchor)
		}
	}
	if n.closing != nil && n.height+1 >= n.closing.Start {
		n.run, n.closing = n.closing, nil
	}
	n.refold(d.fold)
	d.nexts = append(d.nexts, n)
	return n
}

// refold folds d upon those before it.
func (d *decision) refold(before types.Hash) {
	var anchor types.Hash
	if d.anchor != nil {
		anchor = d.anchor.id
	}
	d.fold = Fold(before, d.height, anchor, d.closes())
}

// runFor is the run of height h as a view knows it: the one that it is deciding or, once it
// closes that, from its start on the next, which may not be ready yet.
func (c *Core) runFor(g *view, h uint64) *run {
	d := g.dec
	if d.closing != nil && h >= d.closing.Start {
		return d.closing
	}
	return d.run
}

// runAt is the run that decided height h, which is at or below d and in memory.
func (d *decision) runAt(h uint64) *run {
	for d.height > h && d.prev != nil {
		d = d.prev
	}
	return d.by
}
