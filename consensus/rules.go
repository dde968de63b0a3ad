package consensus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"charter/types"
)

// Kind is the rule that a block breaks (spec/consensus.md, "Block").
type Kind uint8

const (
	// WrongHeight: not one more than the greatest height it names (rule 1).
	WrongHeight Kind = iota + 1
	// WrongPrevious: not its author's highest block in its past, or that past holds a fork by its author (rule 2).
	WrongPrevious
	// WrongNames: two merges of one author, a merge in the past of another named block, or the block of a
	// forked author (rule 3).
	WrongNames
	// WrongTime: before that of a block it names, or too early for a block that is not full (rule 4).
	WrongTime
	// NoShares: its author has no shares in the run that its past is deciding, nor in the next (rule 5).
	NoShares
	// WrongPast: it carries another digest of its past than its past has (rule 7).
	WrongPast
	// WrongVRF: a proof that does not verify, is missing, or is where none belongs.
	WrongVRF
	// Future: its time is further ahead than any honest clock.
	Future
	// Descendant: it names a block that was refused.
	Descendant
	kindEnd
)

var kinds = [...]string{
	"", "wrong height", "wrong previous block", "wrong names", "wrong time",
	"no shares", "wrong digest of its past", "wrong VRF proof", "from the future", "names a refused block",
}

// String is the rule in words.
func (k Kind) String() string { return kinds[k] }

// Invalid says why a block will never enter the view.
type Invalid struct {
	Kind Kind
	Why  string // the values that disagree
}

func (e *Invalid) Error() string { return e.Kind.String() + ": " + e.Why }

func invalid(k Kind, format string, args ...any) *Invalid {
	return &Invalid{k, fmt.Sprintf(format, args...)}
}

// receive takes a block in, or keeps it until what it waits for is there.
func (c *Core) receive(b *types.Block) {
	id := b.ID(c.cfg.Chain)
	if c.vertices[id] != nil || c.refused[id] || c.pending[id] != nil || c.future[id] != nil || c.parked[id] != nil {
		return
	}
	if b.Time > c.now {
		if b.Time > c.now+2*c.cfg.Params.WaitQuorum {
			c.refuse(id, b, invalid(Future, "its time is %s, and it is %s", b.Time, c.now), false)
		} else if len(c.future) < maxFuture {
			c.future[id], c.stale = b, true
		}
		return
	}
	if c.excess(id, b) {
		return
	}
	named, ok := c.named(id, b)
	if !ok {
		return
	}
	v := &vertex{id: id, block: b, height: b.Height, named: named, parent: named[0]}
	v.past = c.viewOf(named)
	if v.past.dec == nil {
		c.lower(v.past.floor)
		c.park(id, b)
		return
	}
	wait, bad := c.judge(v)
	switch {
	case wait:
		c.park(id, b)
	case bad != nil:
		c.refuse(id, b, bad, true)
	default:
		c.insert(v)
		c.wake(id)
	}
}

// park keeps a block that cannot be judged yet: a snapshot or a lower floor is missing.
func (c *Core) park(id types.Hash, b *types.Block) {
	if len(c.parked) < maxPending {
		c.parked[id], c.stale = b, true
	}
}

// lower asks to be restored from a floor, if that is within reach.
func (c *Core) lower(floor uint64) (asked bool) {
	if c.floor-floor > Reach {
		return false
	}
	if c.ready.Floor == 0 || floor < c.ready.Floor {
		c.ready.Floor = max(floor, 1)
	}
	return true
}

// excess reports whether b is one more variant of a line that is forked already, and nobody
// in the view needs it: two are proof enough, and more cost memory.
func (c *Core) excess(id types.Hash, b *types.Block) bool {
	a, ok := c.number[b.Author]
	return ok && !c.again && c.authors[a].forked && len(c.waiters[id]) == 0
}

// named looks up what b names. If something is missing, b waits for it.
func (c *Core) named(id types.Hash, b *types.Block) (named []*vertex, ok bool) {
	var absent []types.Hash
	for _, n := range b.Named() {
		switch v := c.vertices[n]; {
		case v != nil:
			named = append(named, v)
		case c.refused[n]:
			c.refuse(id, b, invalid(Descendant, "%s", n), true)
			return nil, false
		default:
			absent = append(absent, n)
		}
	}
	if len(absent) == 0 {
		return named, true
	}
	if c.room(b.Author) {
		c.pending[id], c.stale = b, true
		c.queued[b.Author]++
		for _, n := range absent {
			c.waiters[n] = append(c.waiters[n], id)
		}
	}
	return nil, false
}

// room reports whether one more block by an author may wait for what it names. Nobody fills the
// room alone, and those without a share not more than half of it, under however many names.
func (c *Core) room(author types.Key) bool {
	most := maxPending
	if _, known := c.number[author]; !known {
		most /= 2
	}
	return len(c.pending) < most && (c.again || c.queued[author] < maxLine)
}

// wake tries the blocks again that waited for id.
func (c *Core) wake(id types.Hash) {
	waiters := c.waiters[id]
	if len(waiters) == 0 {
		return
	}
	c.stale = true
	delete(c.waiters, id)
	for _, w := range waiters {
		if b := c.pending[w]; b != nil {
			delete(c.pending, w)
			if c.queued[b.Author]--; c.queued[b.Author] == 0 {
				delete(c.queued, b.Author)
			}
			c.unwait(w, b)
			c.receive(b)
		}
	}
}

// unwait takes a pending block off the lists of what it waits for.
func (c *Core) unwait(id types.Hash, b *types.Block) {
	for _, n := range b.Named() {
		if ws, ok := c.waiters[n]; ok {
			kept := ws[:0]
			for _, w := range ws {
				if w != id {
					kept = append(kept, w)
				}
			}
			if c.waiters[n] = kept; len(kept) == 0 {
				delete(c.waiters, n)
			}
		}
	}
}

// release tries all blocks of a waiting room again; what must wait on goes back in.
func (c *Core) release(room map[types.Hash]*types.Block) {
	var due []*types.Block
	for id, b := range room {
		if b.Time <= c.now {
			due = append(due, b)
			delete(room, id)
			c.stale = true
		}
	}
	sortBlocks(due, c.cfg.Chain)
	for _, b := range due {
		c.receive(b)
	}
}

// refuse drops a block and all that wait for it. Whether it is remembered depends on
// whether it could become valid.
func (c *Core) refuse(id types.Hash, b *types.Block, why *Invalid, forGood bool) {
	c.ready.Refused = append(c.ready.Refused, Refusal{id, b.Author, why})
	if !forGood {
		return
	}
	if len(c.refused) >= maxPending {
		clear(c.refused)
	}
	c.refused[id] = true
	c.wake(id)
}

// missing is what pending blocks wait for and nobody has brought, sorted. It is worked out anew
// only after a change: who is sent garbage does not pay for it with every block.
func (c *Core) missing() []Missing {
	if !c.stale {
		return c.missed
	}
	var ms []Missing
	for id, waiters := range c.waiters {
		if c.pending[id] == nil && c.future[id] == nil && c.parked[id] == nil {
			ms = append(ms, Missing{id, waiters[0]})
		}
	}
	slices.SortFunc(ms, func(a, b Missing) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	c.missed, c.stale = ms, false
	return ms
}

// Waiting is every block that was received and is neither in the view nor refused. After a
// Restore at a lower floor the driver gives them to Step again.
func (c *Core) Waiting() []*types.Block {
	var all []*types.Block
	for _, room := range []map[types.Hash]*types.Block{c.pending, c.parked, c.future} {
		for _, b := range room {
			all = append(all, b)
		}
	}
	sortBlocks(all, c.cfg.Chain)
	return all
}

// judge reports whether the block breaks a rule, or must wait for a snapshot. Everything
// here is a function of the block and its past.
func (c *Core) judge(v *vertex) (wait bool, bad *Invalid) {
	b, g := v.block, v.past
	if b.Height != g.height {
		return false, invalid(WrongHeight, "height %d, and the greatest it names is %d", b.Height, g.height-1)
	}
	r := c.runFor(g, b.Height)
	if !r.ready || !g.dec.run.ready {
		return true, nil
	}
	a, known := c.number[b.Author]
	closing := g.dec.closing
	if closing != nil && !closing.ready && (!known || g.dec.run.of(a) == 0) {
		return true, nil
	}
	if !known || g.dec.run.of(a) == 0 && (closing == nil || closing.of(a) == 0) {
		return false, invalid(NoShares, "author %s in run %d at height %d", b.Author, g.dec.run.Number, b.Height)
	}
	v.author = a
	if bad := c.judgeNames(v); bad != nil {
		return false, bad
	}
	if bad := c.judgeTime(v, r); bad != nil {
		return false, bad
	}
	if past := c.digestOf(g); past != b.Past {
		return false, invalid(WrongPast, "%s, and that of what it names is %s", b.Past.Short(), past.Short())
	}
	return false, c.judgeVRF(v, r)
}

func (c *Core) judgeNames(v *vertex) *Invalid {
	b, g := v.block, v.past
	v.previous = g.tip(v.author)
	switch {
	case g.forked(v.author):
		return invalid(WrongPrevious, "its past holds a fork by its author")
	case v.previous == nil && !b.Previous.IsZero(), v.previous != nil && v.previous.id != b.Previous:
		return invalid(WrongPrevious, "previous is %s, and its past has another", b.Previous.Short())
	}
	c.epoch++
	for i, n := range v.named {
		if n.author < 0 {
			if i > 0 {
				return invalid(WrongNames, "it merges genesis, which is in every past")
			}
			continue
		}
		if i > 0 {
			if c.mark[n.author] == c.epoch {
				return invalid(WrongNames, "two merges by %s", n.block.Author)
			}
			c.mark[n.author] = c.epoch
			if m := c.behindNamed(g)[n]; m != nil {
				return invalid(WrongNames, "merge %s is in the past of %s", n.id.Short(), m.id.Short())
			}
		}
		if g.forked(n.author) && c.open(g.dec, n) {
			return invalid(WrongNames, "%s is by an author whose fork is in its past", n.id.Short())
		}
	}
	return nil
}

// behindNamed is the named blocks of a view that are in the past of another one, and of which.
func (c *Core) behindNamed(g *view) map[*vertex]*vertex {
	if g.behind == nil {
		g.behind = make(map[*vertex]*vertex)
		for _, n := range g.named {
			i := slices.IndexFunc(g.named, func(m *vertex) bool { return m != n && c.below(m, n) })
			if i >= 0 {
				g.behind[n] = g.named[i]
			}
		}
	}
	return g.behind
}

func (c *Core) judgeTime(v *vertex, r *run) *Invalid {
	b := v.block
	for _, n := range v.named {
		if n.block.Time > b.Time {
			return invalid(WrongTime, "%s, before that of %s, which it names", b.Time, n.id.Short())
		}
	}
	if due := c.due(v.past, r); b.Time < due {
		return invalid(WrongTime, "%s, not full, and due at %s", b.Time, due)
	}
	return nil
}

// due is the earliest time of a block with this past by rule 4: any, if it is full.
func (c *Core) due(g *view, r *run) types.Millis {
	if c.full(g, r) {
		return 0
	}
	due := types.MaxTime
	for _, n := range g.named {
		if n.height+1 == g.height {
			due = min(due, n.block.Time+c.cfg.Params.WaitQuorum)
		}
	}
	return due
}

// full reports whether a block with this past names blocks of the height just below from
// two thirds of a run's shares. The first height stands on genesis, and is full.
func (c *Core) full(g *view, r *run) bool {
	if g.height == 1 {
		return true
	}
	full, ok := g.full[r]
	if !ok {
		var sum types.Amount
		c.epoch++
		for _, n := range g.named {
			if n.height+1 == g.height {
				sum += c.once(r, n)
			}
		}
		full = moreThanTwoThirds(sum, r.total)
		g.full[r] = full
	}
	return full
}

// once is the shares of v's author, the first time it is asked in this epoch.
func (c *Core) once(r *run, v *vertex) types.Amount {
	if v.author < 0 || c.mark[v.author] == c.epoch {
		return 0
	}
	c.mark[v.author] = c.epoch
	return r.of(v.author)
}

// vrfInput is what a block of height h proves under a run: nil below the run's mark, where
// no block can close it.
func vrfInput(r *run, h uint64) []byte {
	if h < r.mark {
		return nil
	}
	return binary.BigEndian.AppendUint64(append([]byte(nil), r.Seed[:]...), h)
}

func (c *Core) judgeVRF(v *vertex, r *run) *Invalid {
	b := v.block
	input := vrfInput(r, b.Height)
	if (input == nil) != b.VRF.IsZero() {
		return invalid(WrongVRF, "there is a proof: %t; run %d asks for one from height %d", !b.VRF.IsZero(), r.Number, r.mark)
	}
	if input != nil {
		if err := c.cfg.VRF(b.Author, input, b.VRF); err != nil {
			return invalid(WrongVRF, "%v", err)
		}
	}
	return nil
}
