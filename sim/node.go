package sim

import (
	"slices"

	"charter/consensus"
	"charter/types"
)

// node drives one core, as package chain drives the real one: what Ready told is durable
// before a block is sent, what is decided is applied in order, what is missing is asked for.
type node struct {
	w      *world
	id     int
	place  int // of key in world.peers
	key    types.Key
	style  style
	second bool // of twins: it sleeps until they part
	disk   *disk

	// What a crash loses.
	up      bool
	life    int
	core    *consensus.Core
	skew    types.Millis
	staged  batch // told by Ready, not on its way to the disk
	writing *batch
	toApply []consensus.Decision
	applies bool // an apply is under way
	carried map[*payment]bool
	told    uint64 // last decided height told in this life
	asked   map[types.Hash]int64
	source  *node // who sent last
	woken   int64 // when the next wake is due, 0 for none
	behind  bool  // catching up
	since   int64 // when that began
	target  uint64

	// What the checkers remember of it, over all lives.
	pulled, pulledTwice int // blocks
	answered            uint64
	acknowledged        []*payment

	// Of a bad peer.
	hoard []*types.Block              // not sent yet
	kept  map[types.Hash]*types.Block // signed, and not on its own line
}

// batch is what goes to the disk at once.
type batch struct {
	accepted []consensus.Accepted
	decided  []consensus.Decision
	send     []*types.Block
}

func (b *batch) empty() bool { return len(b.accepted)+len(b.decided)+len(b.send) == 0 }

// clock is the node's own time.
func (n *node) clock() types.Millis { return types.Millis(n.w.now/1000) + n.w.genesis.Time + n.skew }

// start brings a node up from its disk.
func (n *node) start() error {
	base := n.disk.base(n)
	core, err := consensus.Restore(n.w.consensusConfig(n.key), base)
	if err != nil {
		return err
	}
	if d := &n.w.drawn; d.skew > 0 && n.life == 0 {
		n.skew = types.Millis(n.w.rng.IntN(int(2*d.skew+1))) - d.skew
	}
	n.up, n.core, n.life = true, core, n.life+1
	n.staged, n.writing, n.toApply, n.applies = batch{}, nil, nil, false
	n.carried, n.asked, n.woken, n.behind = make(map[*payment]bool), make(map[types.Hash]int64), 0, false
	n.told, n.hoard = uint64(len(n.disk.decisions)), nil
	if n.style == race {
		n.skew = 2*n.w.params().WaitQuorum - 50
	}
	n.w.note(n, "start", base.Floor, types.Hash{})
	if n.life > 1 {
		n.w.check.restarted(n)
		n.w.sometimes("restart from genesis")
		if base.Floor > 0 {
			n.w.report.Sometimes["restart from genesis"]--
			n.w.sometimes("restart at a floor")
		}
	}
	n.step()
	life := n.life
	var chat func()
	chat = func() {
		if n.up && n.life == life {
			n.greet(n.w.nodes[n.w.rng.IntN(len(n.w.nodes))])
			n.askAgain()
			n.w.after(n.w.between(n.w.drawn.status/2, n.w.drawn.status*3/2), chat)
		}
	}
	n.w.after(n.w.between(0, n.w.drawn.status), chat)
	return nil
}

// stop is a crash.
func (n *node) stop() {
	n.w.note(n, "crash", uint64(len(n.staged.accepted)), types.Hash{})
	if n.writing != nil || !n.staged.empty() {
		n.w.sometimes("crash with unsynced data")
	}
	n.up = false
	n.disk.crash(n)
}

// step gives events to the core, and does what follows.
func (n *node) step(events ...consensus.Event) {
	if !n.up {
		return // it crashed as it did something
	}
	n.core.Step(consensus.Tick{Now: n.clock()})
	for _, e := range events {
		n.core.Step(e)
	}
	n.core.Step(consensus.Waiting{Is: n.waits()})
	for n.pump() {
	}
	n.write()
}

// pump does what one Ready asks for, and reports whether there may be more.
func (n *node) pump() bool {
	r := n.core.Ready()
	n.core.Advance()
	n.staged.accepted = append(n.staged.accepted, r.Accepted...)
	n.w.check.ready(n, &r)
	n.staged.decided = append(n.staged.decided, r.Decided...)
	if r.Floor != 0 && n.lower(r.Floor) {
		return true
	}
	if r.Build != nil {
		b := n.fill(r.Build)
		n.w.note(n, "build", b.Height, n.w.id(b))
		n.w.check.built(n, b)
		n.core.Step(consensus.Block{Block: b})
		n.core.Step(consensus.Waiting{Is: n.waits()})
		n.staged.send = append(n.staged.send, b)
		if n.w.cfg.Bug == SendEarly && n.style == honest {
			n.publish(b)
		}
		return true
	}
	if n.askFor(r.Missing) {
		return true
	}
	n.wakeAt(r.Wake)
	return false
}

// wakeAt has the core ticked at a time of the node's clock.
func (n *node) wakeAt(t types.Millis) {
	if t == 0 {
		return
	}
	at := max(n.w.now+1, micros(t-n.w.genesis.Time-n.skew))
	if n.woken > n.w.now && n.woken <= at {
		return
	}
	n.woken = at
	life := n.life
	n.w.after(at-n.w.now, func() {
		if n.up && n.life == life && n.woken == at {
			n.woken = 0
			n.step()
		}
	})
}

func (n *node) wake() {
	if n.up {
		n.step()
	}
}

// write starts a sync of what is staged, unless one is under way. After it the blocks in
// it are sent.
func (n *node) write() {
	if n.writing != nil || n.staged.empty() {
		return
	}
	b := n.staged
	n.staged, n.writing = batch{}, &b
	if n.w.drawn.sync == 0 {
		n.written(&b)
		return
	}
	life := n.life
	n.w.after(n.w.between(0, n.w.drawn.sync), func() {
		if n.up && n.life == life && n.writing == &b {
			n.written(&b)
		}
	})
}

// written is the end of a sync, or a crash just before it, or behind it.
func (n *node) written(b *batch) {
	w := n.w
	n.writing = nil
	if !w.healed && w.chance(w.drawn.atWrite) {
		switch w.rng.IntN(3) {
		case 0:
			w.fault("crash before a write")
			n.writing = b
			w.crash(n)
			return
		case 1:
			w.fault("crash after a write")
			n.disk.store(b.accepted)
			w.crash(n)
			return
		case 2:
			w.fault("crash after sending")
			n.land(b)
			w.crash(n)
			return
		}
	}
	n.land(b)
	n.apply()
	n.write()
}

// land puts a batch on the disk, and sends what is in it.
func (n *node) land(b *batch) {
	n.disk.store(b.accepted)
	for _, block := range b.send {
		n.w.check.sent(n, block)
		if n.w.cfg.Bug != SendEarly || n.style != honest {
			n.publish(block)
		}
	}
	n.toApply = append(n.toApply, b.decided...)
}

// apply applies to the ledger what is decided and durable.
func (n *node) apply() {
	if n.applies || len(n.toApply) == 0 {
		return
	}
	if n.w.drawn.applying == 0 {
		n.applyAll()
		return
	}
	n.applies = true
	life := n.life
	n.w.after(n.w.between(0, n.w.drawn.applying), func() {
		if n.up && n.life == life && n.applies {
			n.applyAll()
		}
	})
}

func (n *node) applyAll() {
	n.applies = false
	var snapshots []consensus.Event
	for _, d := range n.toApply {
		if s := n.disk.apply(n, d); s != nil {
			snapshots = append(snapshots, consensus.Snapshot{Snapshot: s})
		}
	}
	n.toApply = nil
	if len(snapshots) > 0 {
		n.step(snapshots...)
	}
}

// lower restores the core from a lower floor, after all that is told is on the disk.
func (n *node) lower(floor uint64) bool {
	if n.core.Floor() == 0 {
		return false
	}
	var all []batch
	if n.writing != nil {
		all = append(all, *n.writing)
	}
	all = append(all, n.staged)
	n.staged, n.writing, n.applies = batch{}, nil, false
	for _, b := range all {
		n.land(&b)
	}
	for _, d := range n.toApply {
		n.disk.apply(n, d)
	}
	n.toApply = nil
	waiting := n.core.Waiting()
	base := n.disk.baseAt(n, n.disk.anchorBelow(floor))
	core, err := consensus.Restore(n.w.consensusConfig(n.key), base)
	if err != nil {
		n.w.check.fail("lower floor", "node %d from %d: %v", n.id, base.Floor, err)
		return false
	}
	n.core = core
	n.w.sometimes("restored at a lower floor")
	n.w.note(n, "lower", base.Floor, types.Hash{})
	core.Step(consensus.Tick{Now: n.clock()})
	core.Step(consensus.Syncing{Is: n.behind})
	for _, b := range waiting {
		core.Step(consensus.Block{Block: b})
	}
	core.Step(consensus.Waiting{Is: n.waits()})
	return true
}

// broadcast sends a block to all other nodes that want it.
func (n *node) broadcast(b *types.Block, to func(*node) bool) {
	n.w.check.broadcast(n, b)
	for _, m := range n.w.nodes {
		if m != n && to(m) {
			n.w.post(n, m, sizeOf(b), func() { m.receive(n, b) })
		}
	}
}

// receive takes blocks from another node.
func (n *node) receive(from *node, blocks ...*types.Block) {
	if n.style == private && n.secluded() && from.style != private {
		return
	}
	n.source = from
	events := make([]consensus.Event, 0, len(blocks))
	for _, b := range blocks {
		n.w.note(n, "block", b.Height, n.w.id(b))
		if n.style != refuse || !n.refuses(b) {
			events = append(events, consensus.Block{Block: b})
		}
	}
	n.step(events...)
	n.caughtUp()
}

// askFor asks for what is missing: the disk first, which means a lower floor, then who
// sent the block that names it. It reports whether the floor was lowered.
func (n *node) askFor(missing []consensus.Missing) bool {
	var wanted []types.Hash
	for _, m := range missing {
		id := m.ID
		if at, here := n.disk.byID[id]; here {
			if n.lower(n.disk.blocks[at].Past.Decided) {
				return true
			}
			continue
		}
		if _, asked := n.asked[id]; !asked {
			n.asked[id] = n.w.now
			wanted = append(wanted, id)
		}
	}
	if len(wanted) > 0 && n.source != nil {
		n.request(n.source, wanted)
	}
	return false
}

// askAgain asks somebody for all that is missing still.
func (n *node) askAgain() {
	clear(n.asked)
	r := n.core.Ready()
	if to := n.w.nodes[n.w.rng.IntN(len(n.w.nodes))]; len(r.Missing) > 0 && to != n {
		var ids []types.Hash
		for _, m := range r.Missing {
			n.asked[m.ID] = n.w.now
			ids = append(ids, m.ID)
		}
		n.request(to, ids)
	}
	n.step()
	n.caughtUp()
}

func (n *node) request(to *node, ids []types.Hash) {
	n.w.sometimes("missing block asked for")
	ids = slices.Clone(ids[:min(len(ids), 256)])
	n.w.post(n, to, 32*len(ids), func() {
		var found []*types.Block
		for _, id := range ids {
			if at, ok := to.disk.byID[id]; ok {
				found = append(found, to.disk.blocks[at].Block)
			} else if b := to.kept[id]; b != nil {
				found = append(found, b)
			}
		}
		if len(found) > 0 {
			n.w.post(to, n, sizesOf(found), func() {
				n.w.check.fetched(n, found)
				n.receive(to, found...)
			})
		}
	})
}

// greet tells another node the heights of all lines, and gets what is above them.
func (n *node) greet(to *node) {
	if to == n {
		return
	}
	heights, top := n.core.LastHeights(), n.core.Height()
	n.w.post(n, to, 40*len(heights), func() {
		blocks := to.disk.above(n.w.peers, heights, 400)
		theirs := to.core.Height()
		if len(blocks) > 0 {
			n.w.post(to, n, sizesOf(blocks), func() { n.greeted(to, top, theirs, blocks) })
		}
	})
}

// greeted takes the answer to a greeting that was made when the own top was so high. While
// that helps, and much is missing, it greets on.
func (n *node) greeted(to *node, top, theirs uint64, blocks []*types.Block) {
	fresh := n.core.Height() == top
	if theirs > top+20 && !n.behind {
		n.behind, n.since, n.target = true, n.w.now, theirs
		n.w.sometimes("catch-up")
		n.step(consensus.Syncing{Is: true})
	}
	n.receive(to, blocks...)
	if n.behind && fresh && n.core.Height() > top {
		n.greet(to)
	}
}

// caughtUp ends catching up when the target is near, or nothing comes for seconds: a
// target may be a lie.
func (n *node) caughtUp() {
	if n.behind && (n.core.Height()+2 >= n.target || n.w.now > n.since+micros(3000)) {
		n.behind = false
		n.step(consensus.Syncing{Is: false})
	}
}
