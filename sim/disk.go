package sim

import (
	"cmp"
	"fmt"
	"slices"

	"charter/consensus"
	"charter/ledger"
	"charter/types"
)

// disk is what of a node survives a crash. Blocks enter it batch by batch, decisions one
// by one, each with all that it does to the ledger.
type disk struct {
	blocks    []consensus.Accepted
	byID      map[types.Hash]int
	lines     map[types.Key][]*types.Block
	decisions []consensus.Decision // of heights 1, 2, …
	runs      []consensus.Run
	snapshots []*types.Snapshot
	ledger    *ledger.Memory
	pool      []*payment
	vote      types.CheckpointVote // its newest
}

func newDisk(m *ledger.Memory) *disk {
	return &disk{byID: make(map[types.Hash]int), lines: make(map[types.Key][]*types.Block), ledger: m}
}

func (d *disk) store(accepted []consensus.Accepted) {
	for _, a := range accepted {
		if _, twice := d.byID[a.ID]; twice {
			continue
		}
		d.byID[a.ID] = len(d.blocks)
		d.blocks = append(d.blocks, a)
		d.lines[a.Block.Author] = append(d.lines[a.Block.Author], a.Block)
	}
}

// crash takes away what a disk that lies about syncs would lose: the blocks at the end
// that nothing decided orders.
func (d *disk) crash(n *node) {
	if n.w.cfg.Bug != LyingDisk || n.style != honest {
		return
	}
	keep := max(0, len(d.blocks)-6)
	for _, id := range d.ordered() {
		keep = max(keep, d.byID[id]+1)
	}
	for _, a := range d.blocks[keep:] {
		delete(d.byID, a.ID)
		line := d.lines[a.Block.Author]
		d.lines[a.Block.Author] = line[:len(line)-1]
	}
	d.blocks = d.blocks[:keep]
}

// ordered is the last blocks that decisions on the disk order.
func (d *disk) ordered() (ids []types.Hash) {
	for _, dec := range d.decisions[max(0, len(d.decisions)-20):] {
		ids = append(ids, dec.Blocks...)
	}
	return ids
}

// above is what lines hold above these heights, lowest first.
func (d *disk) above(authors []types.Key, heights map[types.Key]uint64, limit int) (found []*types.Block) {
	for _, a := range authors {
		line := d.lines[a]
		for i := len(line) - 1; i >= 0 && line[i].Height > heights[a]; i-- {
			found = append(found, line[i])
		}
	}
	slices.SortStableFunc(found, func(a, b *types.Block) int { return cmp.Compare(a.Height, b.Height) })
	return found[:min(len(found), limit)]
}

// apply applies the next decision: to the ledger what it orders, and what is due at its
// height. It gives the snapshot that was taken, if one was due.
func (d *disk) apply(n *node, dec consensus.Decision) (taken *types.Snapshot) {
	w := n.w
	if dec.Height != uint64(len(d.decisions))+1 {
		w.check.fail("decisions in order", "node %d: height %d after %d", n.id, dec.Height, len(d.decisions))
		return nil
	}
	d.decisions = append(d.decisions, dec)
	if dec.Closes != nil {
		d.runs = append(d.runs, *dec.Closes)
	}
	m := d.ledger
	if !dec.Anchor.IsZero() {
		b := d.batch(n, &dec, m)
		if b == nil {
			return nil
		}
		w.check.applied(n, m.Apply(b))
	}
	if dec.Height%w.params().SnapshotPeriod == 0 {
		taken = m.TakeSnapshot(dec.Height).Snapshot
		d.snapshots = append(d.snapshots, taken)
		w.check.snapshot(n, taken)
	}
	if dec.Height%w.params().CheckpointEvery == 0 {
		cp := m.Checkpoint(dec.Height)
		d.vote = types.CheckpointVote{Height: dec.Height, Checkpoint: cp.ID(), Signature: types.Signature{1}}
		w.check.checkpoint(n, cp)
	}
	if len(d.pool) > 0 {
		d.pool = slices.DeleteFunc(d.pool, func(p *payment) bool {
			e, _ := m.Event(p.tx.ID)
			p.done = p.done || e != nil && n.style == honest
			if e != nil {
				delete(n.carried, p)
			}
			return e != nil
		})
	}
	return taken
}

// batch is what a decided height has the ledger apply, nil if a block of it is not here.
func (d *disk) batch(n *node, dec *consensus.Decision, m *ledger.Memory) *ledger.Batch {
	w := n.w
	// An anchor need not have the one before in its past, nor a later time.
	b := &ledger.Batch{Height: dec.Height, Anchor: dec.Anchor, Time: max(dec.Time, m.State().Time), Shares: d.runOf(n, dec.Run).Snapshot}
	for _, id := range dec.Blocks {
		at, ok := d.byID[id]
		if !ok {
			w.check.fail("durable", "node %d: block %s of decided height %d is not on the disk", n.id, id.Short(), dec.Height)
			return nil
		}
		block := d.blocks[at].Block
		for _, tx := range w.payloads[block.Payload] {
			b.Transactions = append(b.Transactions, ledger.Ordered{Tx: tx.Tx, ID: tx.ID, Block: id, Author: block.Author})
		}
		b.Witnesses = append(b.Witnesses, ledger.WitnessOf(w.params(), block, d.headerOf))
	}
	return b
}

// headerOf is what the ledger asks of a block that another one names.
func (d *disk) headerOf(id types.Hash) (ledger.Header, bool) {
	at, ok := d.byID[id]
	if !ok {
		return ledger.Header{}, false // genesis
	}
	return ledger.HeaderOf(d.blocks[at].Block), true
}

// runOf is the run with a number, which was closed already or is the first.
func (d *disk) runOf(n *node, number uint64) consensus.Run {
	for i := len(d.runs) - 1; i >= 0; i-- {
		if d.runs[i].Number == number {
			return d.runs[i]
		}
	}
	return consensus.FirstRun(n.w.chain)
}

// first is a disk as it would be with the first heights applied only.
func (d *disk) first(applied int) *disk {
	cut := *d
	cut.decisions, cut.runs = d.decisions[:applied], nil
	for _, dec := range cut.decisions {
		if dec.Closes != nil {
			cut.runs = append(cut.runs, *dec.Closes)
		}
	}
	return &cut
}

// anchorBelow is the height of the last anchor at or below a height, 0 for none.
func (d *disk) anchorBelow(height uint64) uint64 {
	for h := min(height, uint64(len(d.decisions))); h > 0; h-- {
		if !d.decisions[h-1].Anchor.IsZero() {
			return h
		}
	}
	return 0
}

// base is what a node starts from: as far below its last anchor as the seed says.
func (d *disk) base(n *node) *consensus.Base {
	floor := uint64(0)
	if back, last := n.w.drawn.window, uint64(len(d.decisions)); back > 0 && last > back {
		floor = d.anchorBelow(last - back)
	}
	return d.baseAt(n, floor)
}

func (d *disk) baseAt(n *node, floor uint64) *consensus.Base {
	b := &consensus.Base{Floor: floor, Snapshots: d.snapshots}
	if line := d.lines[n.key]; len(line) > 0 {
		own := line[len(line)-1]
		b.Own = consensus.Tip{Author: n.key, Height: own.Height, ID: n.w.id(own)}
	}
	if floor == 0 {
		b.Decisions, b.Blocks = d.decisions, d.blocks
	} else {
		anchor := d.blocks[d.byID[d.decisions[floor-1].Anchor]]
		b.Decisions = d.decisions[anchor.Past.Decided:]
		first := b.Decisions[0].Run
		b.Snapshots = append([]*types.Snapshot{n.w.genesis.Snapshot()}, d.snapshots...)
		for _, r := range append([]consensus.Run{consensus.FirstRun(n.w.chain)}, d.runs...) {
			next := n.w.cfg.Bug == ForgetRun && r.Number > b.Decisions[len(b.Decisions)-1].Run
			if r.Number >= first && !next {
				b.Runs = append(b.Runs, r)
			}
		}
		for _, a := range d.blocks {
			if a.Block.Height >= floor {
				b.Blocks = append(b.Blocks, a)
			}
		}
		b.Lines = d.linesBelow(b)
	}
	b.Blocks = slices.Clone(b.Blocks)
	slices.SortStableFunc(b.Blocks, func(a, b consensus.Accepted) int { return cmp.Compare(a.Block.Height, b.Block.Height) })
	return b
}

// linesBelow is what a base must tell of the lines below its floor.
func (d *disk) linesBelow(b *consensus.Base) []consensus.Line {
	lines, err := consensus.Lines(b.Blocks, b.Floor, func(id types.Hash) (*types.Block, error) {
		at, ok := d.byID[id]
		if !ok {
			return nil, fmt.Errorf("it is not on the disk")
		}
		return d.blocks[at].Block, nil
	})
	if err != nil {
		panic(err)
	}
	return lines
}

func (d *disk) String() string {
	return fmt.Sprintf("%d blocks, %d decisions", len(d.blocks), len(d.decisions))
}
