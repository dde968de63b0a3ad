package sim

import (
	"fmt"

	"charter/consensus"
	"charter/types"
)

// twinBlocks is how many blocks of a run the slow twin goes over.
const twinBlocks = 100

// farFuture is a time at which no block of a run is from the future.
const farFuture types.Millis = 1 << 40

// replay gives what a node has on its disk to other cores: in other orders, from other
// floors; and the first of it to the slow twin. All must decide the same.
func (w *world) replay(n *node) error {
	if err := w.shuffled(n); err != nil {
		return err
	}
	if err := w.floors(n); err != nil {
		return err
	}
	return w.twin(n)
}

// fresh is a core that has all of a node's snapshots.
func (w *world) fresh(n *node) *consensus.Core {
	core := consensus.New(w.consensusConfig(types.Key{}))
	core.Step(consensus.Tick{Now: farFuture})
	for _, s := range n.disk.snapshots {
		core.Step(consensus.Snapshot{Snapshot: s})
	}
	return core
}

// shuffled gives all blocks to a fresh core, in any order.
func (w *world) shuffled(n *node) error {
	core := w.fresh(n)
	d := n.disk
	for _, i := range w.rng.Perm(len(d.blocks)) {
		core.Step(consensus.Block{Block: d.blocks[i].Block})
	}
	r := core.Ready()
	for len(r.Missing) > 0 { // left when it came, as nobody named it and its author has forked
		before := r.Missing
		for _, m := range r.Missing {
			at, ok := d.byID[m.ID]
			if !ok {
				return fmt.Errorf("block %s is missing in what node %d has", m.ID.Short(), n.id)
			}
			core.Step(consensus.Block{Block: d.blocks[at].Block})
		}
		if r = core.Ready(); len(r.Missing) > 0 && r.Missing[0] == before[0] {
			return fmt.Errorf("block %s does not enter a fresh core", before[0].ID.Short())
		}
	}
	w.check.count("order independence")
	return w.same("in another order", r.Decided, 1)
}

// floors restores a core from moments and floors that the run never saw.
func (w *world) floors(n *node) error {
	d := n.disk
	for range 4 {
		if len(d.decisions) < 3 {
			return nil
		}
		applied := 1 + w.rng.IntN(len(d.decisions))
		cut := d.first(applied)
		floor := cut.anchorBelow(uint64(w.rng.IntN(applied + 1)))
		for {
			core, err := consensus.Restore(w.consensusConfig(types.Key{}), cut.baseAt(n, floor))
			if err != nil {
				return fmt.Errorf("with %d heights applied, from %d: %w", applied, floor, err)
			}
			core.Step(consensus.Tick{Now: farFuture})
			r := core.Ready()
			if r.Floor > 0 && floor > 0 {
				floor = cut.anchorBelow(min(r.Floor, floor-1))
				continue
			}
			w.check.count("restored anywhere")
			if err := w.same(fmt.Sprintf("with %d heights applied, from %d", applied, floor), r.Decided, uint64(applied)+1); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// same compares decisions with what all decided in the run.
func (w *world) same(how string, told []consensus.Decision, first uint64) error {
	for i, d := range told {
		if d.Height != first+uint64(i) {
			return fmt.Errorf("%s height %d is told where %d is next", how, d.Height, first+uint64(i))
		}
		if d.Height > uint64(len(w.check.decided)) {
			return nil
		}
		if was := w.check.decided[d.Height-1]; was.anchor != d.Anchor || was.digest != digest(d.Blocks) {
			return fmt.Errorf("%s height %d is %s with %d blocks, and was %s", how, d.Height, d.Anchor.Short(), len(d.Blocks), was.anchor.Short())
		}
	}
	return nil
}

// twin has the slow twin judge the first blocks that a node took in, and decide.
func (w *world) twin(n *node) error {
	blocks := n.disk.blocks[:min(len(n.disk.blocks), twinBlocks)]
	naive := NewNaive(w.consensusConfig(types.Key{}), n.disk.snapshots)
	core := w.fresh(n)
	for _, a := range blocks {
		if err := naive.Add(a.Block); err != nil {
			return fmt.Errorf("node %d took block %s of height %d, and the twin says: %v", n.id, a.ID.Short(), a.Block.Height, err)
		}
		if parent := naive.Parent(a.Block.Named()); w.honest(a.Block.Author) && parent != a.Block.Parent {
			return fmt.Errorf("honest block %s of height %d has parent %s, and the twin's choice is %s", a.ID.Short(), a.Block.Height, a.Block.Parent.Short(), parent.Short())
		}
		core.Step(consensus.Block{Block: a.Block})
	}
	told := core.Ready().Decided
	all := naive.Decisions(core.Has)
	if len(all) != len(told) {
		return fmt.Errorf("of %d blocks the twin decides %d heights, the core %d", len(blocks), len(all), len(told))
	}
	for i, d := range all {
		w.check.count("justified by the twin")
		w.sometimes("height " + d.How)
		if c := told[i]; c.Anchor != d.Anchor || digest(c.Blocks) != digest(d.Blocks) || c.Run != d.Run {
			return fmt.Errorf("height %d: the twin has %s (%s), the core %s", d.Height, d.Anchor.Short(), d.How, c.Anchor.Short())
		}
	}
	return nil
}
