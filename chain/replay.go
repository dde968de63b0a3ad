package chain

import (
	"fmt"

	"charter/types"
)

// replayBatch is how many heights a replay applies at once.
const replayBatch = 64

// catchUpWithLog restores the chain. Where the state was deleted, or a crash has set it back,
// consensus may need snapshots that the state has not taken yet. So the log is then replayed in
// stages, each up to where the shares are known, until it is whole again.
func (c *Chain) catchUpWithLog() error {
	for {
		last, staged, err := c.stage()
		if err != nil {
			return err
		}
		if staged {
			c.log.Info("making the state again from the log", "up_to", last)
			if staged, err = c.replayTo(last); err != nil {
				return err
			}
		}
		if !staged { // or what waits is not decided: the shares that it needs are there
			return c.restore(0, types.MaxHeight)
		}
	}
}

// stage is the height up to which the shares of the newest snapshot reach for sure, and whether
// the log goes beyond.
func (c *Chain) stage() (last uint64, beyond bool, err error) {
	last = c.params.SnapshotPeriod + c.params.RunTail
	for s, err := range c.cfg.Store.View().ShareSnapshots(1) {
		if err != nil {
			return 0, false, err
		}
		last = max(last, s.Height+c.params.SnapshotPeriod+c.params.RunTail)
	}
	top, err := c.cfg.Store.Height()
	return last, top > last, err
}

// replayTo applies what the stored blocks up to a height decide, and reports whether that was
// anything. Votes in them make their certificates again.
func (c *Chain) replayTo(last uint64) (bool, error) {
	if err := c.restore(0, last); err != nil {
		return false, err
	}
	ds := c.core.Ready().Decided
	if len(ds) == 0 {
		return false, nil
	}
	from := ds[0].Height
	for len(ds) > 0 {
		n := min(len(ds), replayBatch)
		batch, err := c.batch(ds[:n], false)
		if err != nil {
			return false, err
		}
		if err := c.applyAll(batch); err != nil {
			return false, err
		}
		<-c.applied // consensus is restored with what it tells
		ds = ds[n:]
	}
	for b, err := range c.cfg.Store.Blocks(from, last) {
		if err != nil {
			return false, err
		}
		h, err := types.DecodeBlock(b.Header)
		if err != nil {
			return false, fmt.Errorf("stored block %s: %w", b.ID, err)
		}
		if v := h.Checkpoint; !v.Checkpoint.IsZero() {
			c.votes.add(types.SignedVote{Peer: h.Author, CheckpointVote: v})
		}
	}
	return true, nil
}
