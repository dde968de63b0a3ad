package sim

import (
	"fmt"

	"charter/consensus"
	"charter/types"
)

// history is what a node holds, by height, for a judge of what it decided.
type history struct {
	w         *world
	byID      map[types.Hash]*types.Block
	at        map[uint64][]*types.Block
	decisions []consensus.Decision
}

// justify goes over all that a node decided once more, from the blocks on its disk and the text
// (spec, "Finality"): each anchor is a full block of its height's leader that two thirds
// confirm, or the next anchor's past does; each empty height was skipped by two thirds, or
// passed over. Whether a leader's block is sound it does not work out: of leaders that break
// rules it asks nothing where they have no anchor. It counts shares with the judge's own
// runs and draws, and looks at names only.
func (w *world) justify(n *node) error {
	j := &history{w: w, byID: map[types.Hash]*types.Block{}, at: map[uint64][]*types.Block{}, decisions: n.disk.decisions}
	for _, a := range n.disk.blocks {
		j.byID[a.ID] = a.Block
		j.at[a.Block.Height] = append(j.at[a.Block.Height], a.Block)
	}
	runs := append([]consensus.Run{consensus.FirstRun(w.chain)}, n.disk.runs...)
	for i := range j.decisions {
		d := &j.decisions[i]
		run := w.shared(&runs[d.Run])
		if run == nil {
			return fmt.Errorf("height %d is decided by run %d, whose snapshot nobody took", d.Height, d.Run)
		}
		if err := j.judge(d, run); err != nil {
			return fmt.Errorf("height %d of node %d: %w", d.Height, n.id, err)
		}
		w.check.count("justified")
	}
	return nil
}

func (j *history) judge(d *consensus.Decision, run *naiveRun) error {
	leader := j.w.luck.draw(run, d.Height).leader
	if d.Anchor.IsZero() {
		return j.empty(d, run, leader)
	}
	anchor := j.byID[d.Anchor]
	switch {
	case anchor == nil || anchor.Height != d.Height:
		return fmt.Errorf("the anchor is no block of this height")
	case anchor.Author != leader:
		return fmt.Errorf("the anchor is by %s, and %s led", anchor.Author.Short(), leader.Short())
	case d.Height > 1 && !run.twoThirds(j.authors(anchor.Named(), d.Height-1)):
		return fmt.Errorf("the anchor is not full")
	case run.twoThirds(j.confirming(d.Height, d.Anchor, run)):
		return nil
	}
	if confirmed, told := j.passed(d, run, d.Anchor); told && !confirmed {
		return fmt.Errorf("neither do two thirds confirm the anchor, nor does the next anchor's past")
	}
	return nil
}

// empty judges an empty height.
func (j *history) empty(d *consensus.Decision, run *naiveRun, leader types.Key) error {
	above := map[types.Key]bool{}
	for _, b := range j.at[d.Height+1] {
		above[b.Author] = true
	}
	skipped := run.twoThirds(above)
	for _, l := range j.at[d.Height] {
		id := j.w.id(l)
		if l.Author != leader || !j.w.honest(leader) || d.Height > 1 && !run.twoThirds(j.authors(l.Named(), d.Height-1)) {
			continue
		}
		without := map[types.Key]bool{}
		for _, b := range j.at[d.Height+1] {
			if !names(b, id) {
				without[b.Author] = true
			}
		}
		if skipped = skipped && run.twoThirds(without); skipped {
			continue
		}
		if confirmed, told := j.passed(d, run, id); told && confirmed {
			return fmt.Errorf("it is empty, and the next anchor's past confirms %s", id.Short())
		}
	}
	return nil
}

// passed looks at the first anchor three heights or more above d, if the same run decided it:
// does its past confirm the block with this id?
func (j *history) passed(d *consensus.Decision, run *naiveRun, id types.Hash) (confirmed, told bool) {
	for k := d.Height + 3; k <= uint64(len(j.decisions)); k++ {
		up := &j.decisions[k-1]
		if up.Run != d.Run {
			return false, false
		}
		if up.Anchor.IsZero() {
			continue
		}
		seen := map[types.Hash]bool{up.Anchor: true}
		for stack := []types.Hash{up.Anchor}; len(stack) > 0; {
			b := j.byID[stack[len(stack)-1]]
			stack = stack[:len(stack)-1]
			if b.Height == d.Height+2 && j.confirms(b, id, run) {
				return true, true
			}
			for _, x := range b.Named() {
				if low := j.byID[x]; low != nil && low.Height >= d.Height+2 && !seen[x] {
					seen[x] = true
					stack = append(stack, x)
				}
			}
		}
		return false, true
	}
	return false, false
}

// confirming is the authors of blocks two heights above that confirm a block.
func (j *history) confirming(h uint64, id types.Hash, run *naiveRun) map[types.Key]bool {
	by := map[types.Key]bool{}
	for _, b := range j.at[h+2] {
		if j.confirms(b, id, run) {
			by[b.Author] = true
		}
	}
	return by
}

// confirms reports whether a block names votes for the one with this id, two heights below,
// from two thirds.
func (j *history) confirms(b *types.Block, id types.Hash, run *naiveRun) bool {
	by := map[types.Key]bool{}
	for _, x := range b.Named() {
		if v := j.byID[x]; v != nil && v.Height+1 == b.Height && names(v, id) {
			by[v.Author] = true
		}
	}
	return run.twoThirds(by)
}

// authors is whose blocks of a height these ids are.
func (j *history) authors(ids []types.Hash, h uint64) map[types.Key]bool {
	by := map[types.Key]bool{}
	for _, x := range ids {
		if b := j.byID[x]; b != nil && b.Height == h {
			by[b.Author] = true
		}
	}
	return by
}

func names(b *types.Block, id types.Hash) bool {
	for _, x := range b.Named() {
		if x == id {
			return true
		}
	}
	return false
}
