package chain

import (
	"errors"
	"fmt"

	"charter/ledger"
	"charter/sig"
	"charter/store"
	"charter/types"
)

// begin brings the final state up to genesis, if there is none yet.
func (c *Chain) begin() error {
	view := c.cfg.Store.View()
	if _, ok := view.Height(); ok {
		c.state = view.State()
		return nil
	}
	if lowest := c.cfg.Store.Lowest(); lowest > 0 {
		return fmt.Errorf("the state is lost, and cannot be made again from blocks, which are kept from height %d on only: remove the store, and join again (charter peer run --join)", lowest)
	}
	state, changes, err := ledger.Genesis(c.cfg.Genesis)
	if err != nil {
		return err
	}
	b := c.cfg.Store.Begin()
	if state, err = c.commit(b, state, changes); err == nil {
		if state, _, err = checkpoint(b, state, 0); err == nil {
			err = b.Decide(0, c.id)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("genesis: %w", err), b.Discard())
	}
	c.state = state
	return b.Commit()
}

// commit puts changes and what they make of the trees into a batch.
func (c *Chain) commit(b *store.Batch, s *ledger.State, ch *ledger.Changes) (*ledger.State, error) {
	next, writes, err := ledger.Commit(s, ch, b.Trees())
	if err != nil {
		return nil, err
	}
	return next, b.Add(next, ch, writes)
}

// checkpoint makes the checkpoint of a height and goes on behind it.
func checkpoint(b *store.Batch, s *ledger.State, height uint64) (*ledger.State, *types.Checkpoint, error) {
	cp := s.Checkpoint(height)
	next := s.Checkpointed(cp)
	return next, cp, b.AddCheckpoint(next, cp)
}

// apply is the applier: it turns decided heights into the final state.
func (c *Chain) apply() {
	for ds := range c.decided {
		if err := c.applyAll(ds); err != nil {
			c.fail(err)
			for range c.decided { // the loop ends and closes it
			}
			return
		}
	}
}

// made is a checkpoint that was made of a height.
type made struct {
	*types.Checkpoint
	snapshot uint64 // height of the shares that sign it
	vote     bool
}

// applyAll applies decided heights as one batch.
func (c *Chain) applyAll(ds []decidedBlock) error {
	b := c.cfg.Store.Begin()
	state := c.state
	var out appliedBatch
	var checkpoints []made
	up := Update{}
	note := func(ch *ledger.Changes) {
		c.recent.take(ch)
		c.sieve.take(ch)
		up.Events = append(up.Events, ch.Events...)
		up.Keys = append(up.Keys, ch.Keys...)
		for i := range ch.Events { // one that came too early too: its wallet may submit it again
			out.settled = append(out.settled, ch.Events[i].Transaction)
		}
		for i := range ch.Spent {
			out.spent = append(out.spent, ch.Spent[i].Position)
		}
	}
	for i := range ds {
		next, cp, err := c.applyOne(b, state, &ds[i], note, &out)
		if err != nil {
			return errors.Join(fmt.Errorf("height %d: %w", ds[i].Height, err), b.Discard())
		}
		if state = next; cp != nil {
			checkpoints = append(checkpoints, made{cp, ds[i].snapshot, ds[i].vote})
		}
	}
	if err := b.Commit(); err != nil {
		return err
	}
	c.state = state
	last := ds[len(ds)-1].Height
	snap, err := c.cfg.Store.Snapshot()
	if err != nil {
		return err
	}
	c.pins.push(snap, last, state.Time)
	c.sift(snap.EventCount())
	c.tidyOffers()
	for _, cp := range checkpoints {
		if err := c.sign(cp); err != nil {
			return err
		}
	}
	c.feed.applied(c, last, up)
	select {
	case c.applied <- out:
	case <-c.quit:
	}
	return nil
}

// applyOne applies one decided height: its anchor's transactions, the snapshot and the
// checkpoint that are due at it.
func (c *Chain) applyOne(b *store.Batch, s *ledger.State, d *decidedBlock, note func(*ledger.Changes), out *appliedBatch) (_ *ledger.State, cp *types.Checkpoint, err error) {
	if !d.Anchor.IsZero() {
		// An anchor need not have the one before it in its past, so its own time may be earlier.
		batch := &ledger.Batch{Height: d.Height, Anchor: d.Anchor, Time: max(d.Time, s.Time), Transactions: d.txs, Shares: d.snapshot, Witnesses: d.said}
		ch, err := ledger.Apply(recalling{b, &c.recent, &c.sieve}, s, batch)
		if err != nil {
			return nil, nil, err
		}
		if s, err = c.commit(b, s, ch); err != nil {
			return nil, nil, err
		}
		note(ch)
		if err := c.checkSamples(b, d.sampled); err != nil {
			return nil, nil, err
		}
	}
	if d.Height%c.params.SnapshotPeriod == 0 {
		ch, err := ledger.TakeSnapshot(recalling{b, &c.recent, &c.sieve}, s, d.Height)
		if err != nil {
			return nil, nil, err
		}
		if s, err = c.commit(b, s, ch); err != nil {
			return nil, nil, err
		}
		note(ch)
		out.snapshots = append(out.snapshots, ch.Snapshot)
	}
	if d.Height%c.params.CheckpointEvery == 0 {
		if s, cp, err = checkpoint(b, s, d.Height); err != nil {
			return nil, nil, err
		}
	}
	if d.base != nil {
		if err := b.SetBase(d.base); err != nil {
			return nil, nil, err
		}
	}
	return s, cp, b.Decide(d.Height, d.Anchor)
}

// sign votes for an own checkpoint, and counts the votes of others for it. The vote is
// durable before it is sent.
func (c *Chain) sign(cp made) error {
	id := cp.ID()
	snap, err := c.shares(cp.snapshot)
	if err != nil {
		return err
	}
	if _, member := snap.Find(c.self); cp.vote && member {
		if err := c.cfg.Store.PutVote(cp.Height, id); err != nil {
			return err
		}
		v := types.CheckpointVote{Height: cp.Height, Checkpoint: id, Signature: sig.Sign(c.cfg.Key, types.VoteDigest(c.id, cp.Height, id))}
		c.votes.setOwn(v)
		c.cfg.Network.BroadcastVote(types.SignedVote{Peer: c.self, CheckpointVote: v})
		c.votes.add(types.SignedVote{Peer: c.self, CheckpointVote: v})
	}
	c.votes.made(cp.Checkpoint, snap)
	return nil
}

// shares is the snapshot of a height.
func (c *Chain) shares(height uint64) (*types.Snapshot, error) {
	if height == 0 {
		return c.cfg.Genesis.Snapshot(), nil
	}
	s, err := c.cfg.Store.View().ShareSnapshot(height)
	if err == nil && s == nil {
		err = fmt.Errorf("the snapshot of height %d is not in the store", height)
	}
	return s, err
}
