// Package consensus is proof of share: the rule that turns what peers say to each other
// into one agreed past (spec/consensus.md, whose section names the comments cite).
//
//	block graph ──► fork choice (by shares and witnesses: never stalls, may fork)
//	            ├─► finality    (two thirds of shares: never forks, may wait)
//	            └─► evidence    (who forked its own line: provable to anybody)
//
// Core is a value without clock, socket, disk or secret. A driver gives it events with
// Step, asks Ready what follows, does that in the order in which Ready's fields stand, and
// calls Advance. Core knows no coin: shares come in as snapshots, and blocks go out in a
// total order for a ledger to apply.
//
// What is a function of a block's past alone (decisions, fullness, soundness) hangs on a
// view, and blocks of one height that name the same blocks share one view. So in the good
// case each of these is worked out once per height, however many peers there are.
//
//	consensus.go  events in, Ready out
//	draw.go       the weighted draw of a height
//	run.go        runs and decisions
//	graph.go      vertices, views, what is in the past of what
//	past.go       what a block says of its past, for those who were not there
//	rules.go      when a block is valid
//	choice.go     witnesses, weight, fork choice
//	finality.go   anchors, total order, tiers
//	build.go      when to build, and what
package consensus

import (
	"fmt"
	"slices"

	"charter/types"
)

// Window is how many heights below the last anchor a Core keeps in memory, at least. A
// block that joins the past up to Reach heights below is followed there by a Restore.
const (
	Window = 256
	Reach  = 1 << 15
)

// Bounds on what waits inside a Core, whoever sends it.
const (
	maxPending = 1 << 15 // blocks whose named blocks are missing, or a snapshot
	maxLine    = 1 << 14 // of them by one author: two ranges of a peer that catches up are in flight, of one author at worst
	maxFuture  = 1 << 10 // blocks whose time has not come
)

// Config is what a Core needs to know of its chain and itself.
type Config struct {
	Chain   types.Hash // stands for the block at height 0
	Params  types.Params
	Genesis *types.Snapshot // shares of the first runs
	Time    types.Millis    // of genesis
	Self    types.Key       // who builds here; zero for nobody
	// VRF verifies a proof by peer over input, and VRFOutput is what a good one gives (package sig).
	VRF       func(peer types.Key, input []byte, proof types.VRFProof) error
	VRFOutput func(proof types.VRFProof) types.Hash
}

// Event is one of Block, Tick, Snapshot, Waiting and Syncing.
type Event interface{ event() }

// Block is a block that arrived, or that the driver built. Its encoding, its signature, its
// checkpoint vote's signature and its payload are checked, and its payload is at hand.
type Block struct{ *types.Block }

// Tick says what time it is. Time never goes back: an earlier one is ignored.
type Tick struct{ Now types.Millis }

// Snapshot hands over the shares at a multiple of SnapshotPeriod, once the driver has
// applied all that is final up to there.
type Snapshot struct{ *types.Snapshot }

// Waiting says whether there are transactions for the next block.
type Waiting struct{ Is bool }

// Syncing says whether this peer is still catching up: it builds nothing meanwhile.
type Syncing struct{ Is bool }

func (Block) event()    {}
func (Tick) event()     {}
func (Snapshot) event() {}
func (Waiting) event()  {}
func (Syncing) event()  {}

// Ready is what follows from the events so far. The driver does it field by field in this
// order: what is accepted is durable before a block that names it is sent.
type Ready struct {
	// Accepted entered the view. Each must be stored, with its Past, before anything below.
	Accepted []Accepted
	// Forks are proofs that somebody forked its own line.
	Forks []Fork
	// Refused will never enter the view; who sent them is to blame.
	Refused []Refusal
	// Decided are heights whose anchor is now known, in order, with what it orders.
	Decided []Decision
	// Tiers are blocks with a payload whose tier changed. Final is told by Decided.
	Tiers []TierChange
	// Build asks for a block: the driver adds payload, VRF and vote, signs it, makes it
	// durable, gives it to Step, and sends it. It may also leave it.
	Build *Template
	// Missing are blocks that were named and are not here. One that is stored has left memory, and
	// a late block needs its past: Core is to be restored from its Past.Decided. The others are to
	// be fetched.
	Missing []Missing
	// Floor, if not zero, asks to be restored from that height: a block has come that joins
	// the past below what is in memory.
	Floor uint64
	// Wake is when to Tick at the latest, 0 for never.
	Wake types.Millis
}

// Missing is a block that is wanted, and one that waits for it.
type Missing struct{ ID, For types.Hash }

// Accepted is a block that entered the view.
type Accepted struct {
	ID    types.Hash
	Block *types.Block
	Past  *Past
}

// Fork is two blocks of one author with one Previous: the one offence against agreement.
type Fork struct{ A, B *types.Block }

// Refusal is a block that breaks a rule.
type Refusal struct {
	ID     types.Hash
	Author types.Key
	Err    *Invalid
}

// Decision is a height that is settled.
type Decision struct {
	Height uint64
	Anchor types.Hash   // zero: the height is empty
	Time   types.Millis // of the anchor
	Run    uint64       // number of the run that decided it
	Blocks []types.Hash // what the anchor orders, the anchor last
	Closes *Run         // the next run, if this anchor closes its own
}

// Run is a stretch of heights with one snapshot and one seed (spec, "Runs").
type Run struct {
	Number   uint64
	Start    uint64 // its first height
	Seed     types.Hash
	Snapshot uint64     // the height at which its shares were taken
	Closer   types.Hash // the anchor that closed the run before; zero for the first
}

// FirstRun is the run with which a chain starts.
func FirstRun(chain types.Hash) Run { return Run{Start: 1, Seed: tagSeed.Hash(chain[:])} }

// Template is a block to be built.
type Template struct {
	Height   uint64
	Previous types.Hash
	Parent   types.Hash
	Merges   []types.Hash
	Past     types.Hash
	Time     types.Millis
	VRF      []byte // what to prove, nil for no proof
}

// Block is the unsigned block of the template, by author.
func (t *Template) Block(author types.Key) *types.Block {
	return &types.Block{
		Height: t.Height, Author: author, Previous: t.Previous, Parent: t.Parent,
		Merges: t.Merges, Past: t.Past, Time: t.Time,
	}
}

// Core is the consensus of one peer. Make it with New or Restore.
type Core struct {
	cfg     Config
	authors []author
	number  map[types.Key]int // of an author in authors
	byKey   []int             // numbers in the order of the keys
	self    int               // own number, −1 for nobody

	genesis   *vertex
	vertices  map[types.Hash]*vertex
	levels    map[uint64]*level
	floor     uint64 // the lowest height in memory; an anchor's
	pruned    uint64 // the last anchor's height when that was last worked out
	all       *view  // everything: the own view
	mark      []uint32
	epoch     uint32
	runs      map[uint64]*run // by number
	snapshots map[uint64]*types.Snapshot

	pending map[types.Hash]*types.Block // named blocks are missing
	queued  map[types.Key]int           // how many are pending, by author
	waiters map[types.Hash][]types.Hash // missing id → pending ids
	missed  []Missing                   // as it was last worked out
	stale   bool                        // and has changed since
	future  map[types.Hash]*types.Block // time has not come
	parked  map[types.Hash]*types.Block // a snapshot is missing
	refused map[types.Hash]bool         // bounded memory of what was refused

	now         types.Millis
	mine        *vertex      // own highest block; it may lie below what is in memory
	built       types.Millis // its time
	held        types.Millis // since when its height is there from two thirds; −1 for not yet
	waiting     bool
	syncing     bool
	again       bool // blocks come from the own store: none of them is too many
	short       bool // set where deciding met what is below the floor
	blind       bool // restored too high: it decides nothing, and asks for a lower floor
	mute        bool // the own line cannot be gone on with
	openPayload int  // blocks with payload that are not ordered

	tiers map[types.Hash]Tier // of open blocks with a payload, above Seen
	dirty bool                // tiers are to be worked out anew
	ready Ready
}

// author is somebody who had shares in some run. Its number is its place in Core.authors.
type author struct {
	key    types.Key
	forked bool
	lines  map[types.Hash]*vertex // first block seen above each Previous
}

// New is the Core of a chain at its start.
func New(cfg Config) *Core {
	c := empty(cfg)
	first := c.addRun(FirstRun(cfg.Chain))
	c.all = &view{height: 1, dec: &decision{anchor: c.genesis, last: c.genesis, run: first, by: first, own: true, fold: FirstFold(cfg.Chain)}}
	return c
}

func empty(cfg Config) *Core {
	c := &Core{
		cfg: cfg, self: -1, held: -1,
		number: make(map[types.Key]int), vertices: make(map[types.Hash]*vertex),
		levels: make(map[uint64]*level), runs: make(map[uint64]*run),
		snapshots: map[uint64]*types.Snapshot{0: cfg.Genesis},
		pending:   make(map[types.Hash]*types.Block), queued: make(map[types.Key]int), waiters: make(map[types.Hash][]types.Hash),
		future: make(map[types.Hash]*types.Block), parked: make(map[types.Hash]*types.Block),
		refused: make(map[types.Hash]bool), tiers: make(map[types.Hash]Tier),
	}
	c.genesis = &vertex{id: cfg.Chain, author: -1, block: &types.Block{Time: cfg.Time}, ordered: 1}
	c.vertices[cfg.Chain] = c.genesis
	return c
}

// Base is what a Core is restored from: what was stored and decided from Floor upwards.
type Base struct {
	Floor     uint64            // height of an anchor; 0, or 1, for everything
	Decisions []Decision        // from the first that the anchor's own past does not hold (from 1, if Floor is 0), without their Blocks
	Runs      []Run             // from that of the first of Decisions on, all that are known; none needed if Floor is 0
	Snapshots []*types.Snapshot // of those runs, and all taken since; all there are if Floor is 0
	Blocks    []Accepted        // all stored from Floor on, by height. Restore works out a Past that is nil, if it can
	Lines     []Line            // of these blocks, ascending by height; none needed if Floor is 0
	Own       Tip               // the last block that Self signed, wherever it is; zero for none
}

// Restore is the Core that accepted these blocks and decided these heights. What is decided
// beyond is in its first Ready. With an empty base it is New. It fails if the base does not
// hold together, with what is missing.
func Restore(cfg Config, base *Base) (*Core, error) {
	if base.Floor <= 1 {
		return restoreAll(cfg, base)
	}
	at := slices.IndexFunc(base.Decisions, func(d Decision) bool { return d.Height == base.Floor })
	if at < 0 {
		return nil, fmt.Errorf("restore: the decision of height %d is not there", base.Floor)
	}
	c := empty(cfg)
	for _, s := range base.Snapshots {
		c.snapshots[s.Height] = s
		c.enrol(s) // blocks may be stored of a run that is not: it was decided, and not applied
	}
	for _, r := range base.Runs {
		if c.addRun(r); !c.runs[r.Number].ready {
			return nil, fmt.Errorf("restore: no snapshot of height %d for run %d", r.Snapshot, r.Number)
		}
	}
	c.floor = base.Floor
	c.all = &view{height: c.floor + 1}
	below := c.buryLines(base.Lines)
	steps, err := base.steps(at)
	if err != nil {
		return nil, err
	}
	var first *decision
	for i := range base.Blocks {
		a := &base.Blocks[i]
		v, err := c.replant(a, below, steps)
		if err != nil {
			return nil, err
		}
		if a.ID == base.Decisions[at].Anchor {
			if first, err = c.firstDecision(v, base.Decisions[at]); err != nil {
				return nil, err
			}
			first.fold = steps[at+1].Decisions
		}
	}
	c.resume(base.Own)
	if err := c.settle(first, base.Decisions[at+1:]); err != nil {
		return nil, err
	}
	c.ready.Accepted, c.ready.Forks = nil, nil
	return c, nil
}

func restoreAll(cfg Config, base *Base) (*Core, error) {
	c := New(cfg)
	c.again = true
	for _, s := range base.Snapshots {
		c.Step(Snapshot{s})
	}
	for _, a := range base.Blocks {
		c.Step(Tick{a.Block.Time})
		c.Step(Block{a.Block})
	}
	for _, a := range base.Blocks {
		if c.vertices[a.ID] == nil {
			return nil, fmt.Errorf("restore: stored block %s of height %d did not enter the view again", a.ID, a.Block.Height)
		}
	}
	n := len(base.Decisions)
	if c.all.dec.height < uint64(n) {
		return nil, fmt.Errorf("restore: decided up to height %d before, and now only up to %d: blocks are lost", n, c.all.dec.height)
	}
	for i, d := range base.Decisions {
		if again := c.ready.Decided[i]; again.Height != d.Height || again.Anchor != d.Anchor {
			return nil, fmt.Errorf("restore: height %d had anchor %s before, and now height %d has %s", d.Height, d.Anchor.Short(), again.Height, again.Anchor.Short())
		}
	}
	c.again = false
	c.ready = Ready{Decided: c.ready.Decided[n:]}
	return c, nil
}

// Decided is the height up to which everything is settled.
func (c *Core) Decided() uint64 { return c.all.dec.height }

// Anchor is the id and height of the last anchor.
func (c *Core) Anchor() (types.Hash, uint64) { return c.all.dec.last.id, c.all.dec.last.height }

// Height is the greatest height of any block in the view.
func (c *Core) Height() uint64 { return c.all.height - 1 }

// Floor is the lowest height that is in memory.
func (c *Core) Floor() uint64 { return c.floor }

// Own is the id and height of the highest block by Self in the view, zero for none.
func (c *Core) Own() (types.Hash, uint64) {
	if c.mine == nil {
		return types.Hash{}, 0
	}
	return c.mine.id, c.mine.height
}

// Has reports whether a block is in the view, and in memory.
func (c *Core) Has(id types.Hash) bool { return c.vertices[id] != nil }

// Ordered reports whether a block is in the total order, or below what is in memory.
func (c *Core) Ordered(id types.Hash) bool {
	v := c.vertices[id]
	return v == nil || v.ordered > 0
}

// Shares is the weight of each member of the run of the next height, or of the one before
// it as long as its snapshot is not here.
func (c *Core) Shares() []types.Member {
	if r := c.runFor(c.all, c.all.height); r.ready {
		return r.members
	}
	return c.all.dec.run.members
}

// LastHeights is, for each author that was ever seen, the height of its highest block.
func (c *Core) LastHeights() map[types.Key]uint64 {
	m := make(map[types.Key]uint64)
	for i, t := range c.all.tips {
		if t != nil {
			m[c.authors[i].key] = t.height
		}
	}
	return m
}

// Step takes one event. What follows from it is in Ready.
func (c *Core) Step(e Event) {
	switch e := e.(type) {
	case Block:
		c.receive(e.Block)
	case Tick:
		if e.Now > c.now {
			c.now = e.Now
			c.release(c.future)
		}
	case Snapshot:
		c.snapshots[e.Height] = e.Snapshot
		for _, r := range c.sortedRuns() {
			c.equip(r)
		}
		c.release(c.parked)
		c.decideAll()
	case Waiting:
		c.waiting = e.Is
	case Syncing:
		c.syncing = e.Is
	}
}

// Ready is what follows from all events since Advance.
func (c *Core) Ready() Ready {
	if c.dirty {
		c.retier()
		c.dirty = false
	}
	c.ready.Build, c.ready.Wake = c.plan()
	for _, b := range c.future {
		if c.ready.Wake == 0 || b.Time < c.ready.Wake {
			c.ready.Wake = b.Time
		}
	}
	c.ready.Missing = c.missing()
	return c.ready
}

// Advance forgets what the last Ready told.
func (c *Core) Advance() {
	c.ready = Ready{}
	c.prune()
}
