package chain

import (
	"errors"
	"fmt"
	"slices"

	"charter/consensus"
	"charter/ledger"
	"charter/sig"
	"charter/store"
	"charter/types"
)

// keepRuns is how many runs back a restart can reach: consensus.Reach heights of them.
func (c *Chain) keepRuns() int { return int(consensus.Reach/c.params.RunLength) + 4 }

func (c *Chain) addRun(r consensus.Run) {
	c.runs = append(c.runs, r)
	if keep := c.keepRuns(); len(c.runs) > 2*keep {
		c.runs = append([]consensus.Run(nil), c.runs[len(c.runs)-keep:]...)
	}
}

// runOf is the run with this number.
func (c *Chain) runOf(number uint64) consensus.Run {
	i := int(number) - int(c.runs[0].Number)
	if i < 0 || i >= len(c.runs) {
		panic(fmt.Sprintf("chain: run %d is asked for, and %d to %d are known", number, c.runs[0].Number, c.runs[len(c.runs)-1].Number))
	}
	return c.runs[i]
}

func encodeRuns(runs []consensus.Run) []byte {
	e := types.NewEncoder(make([]byte, 0, 4+88*len(runs)))
	e.Count32(len(runs))
	for _, r := range runs {
		e.Raw(r.Encode())
	}
	return e.Data()
}

func decodeRuns(data []byte) ([]consensus.Run, error) {
	d := types.NewDecoder("runs", data)
	n := d.Count32("runs", 1<<24, 88)
	runs := make([]consensus.Run, 0, n)
	for range n {
		runs = append(runs, consensus.ReadRun(d))
	}
	return runs, d.Finish()
}

// config is what consensus is made with.
func (c *Chain) config() consensus.Config {
	return consensus.Config{
		Chain: c.id, Params: *c.params, Genesis: c.cfg.Genesis.Snapshot(), Time: c.cfg.Genesis.Time, Self: c.self,
		VRF: func(peer types.Key, input []byte, p types.VRFProof) error {
			_, err := sig.VerifyVRF(peer, input, p)
			return err
		},
		VRFOutput: sig.VRFOutput,
	}
}

// restore makes consensus what it was: from the last anchor a good way below what is applied, or
// from the anchor at or below want if that is lower and not zero. The blocks above are replayed, up
// to height last.
func (c *Chain) restore(want, last uint64) error {
	view := c.cfg.Store.View()
	var err error
	if c.runs, err = c.readRuns(view); err != nil {
		return err
	}
	clear(c.open)
	base, err := c.baseAt(view, c.runs, want, last)
	if err != nil {
		return err
	}
	signed := c.cfg.Store.Signed()
	base.Own = consensus.Tip{Author: c.self, Height: signed.Height, ID: signed.Block}
	core, err := consensus.Restore(c.config(), base)
	if err != nil {
		return err
	}
	c.clock = c.cfg.Now()
	core.Step(consensus.Tick{Now: c.clock})
	if own, height := core.Own(); height > 0 && last == types.MaxHeight {
		if signed.Height != height || signed.Block != own {
			return fmt.Errorf("consensus has own block %s of height %d, and the record says that %s was signed last: this peer must not sign", own.Short(), height, signed)
		}
	}
	c.core = core
	return nil
}

// baseAt is what consensus can be restored from, by what a view of the state and the log hold, as
// restore wants it. The own line is not in it.
func (c *Chain) baseAt(view *store.View, runs []consensus.Run, want, last uint64) (*consensus.Base, error) {
	applied, _ := view.Height()
	base := new(consensus.Base)
	if applied > consensus.Window {
		base.Floor = applied - consensus.Window
	}
	if want > 0 && want < base.Floor {
		base.Floor = want
	}
	for base.Floor > 0 {
		anchor, _, err := view.Decided(base.Floor)
		if err != nil {
			return nil, err
		}
		if !anchor.IsZero() {
			break
		}
		base.Floor--
	}
	if lowest := c.cfg.Store.Lowest(); base.Floor < lowest {
		return nil, fmt.Errorf("consensus must be restored from height %d, and blocks are kept from height %d on: remove the store, and join again (charter peer run --join)", base.Floor, lowest)
	}
	if err := c.baseBlocks(base, last); err != nil {
		return nil, err
	}
	if err := baseDecisions(base, view, runs); err != nil {
		return nil, err
	}
	return base, c.baseShares(base, view, runs)
}

// runAt is the run that decided a height: the last to start at or below it.
func runAt(runs []consensus.Run, h uint64) consensus.Run {
	for i := len(runs) - 1; i > 0; i-- {
		if runs[i].Start <= h {
			return runs[i]
		}
	}
	return runs[0]
}

// readRuns reads the runs that were kept, as far as they are decided in the applied state.
func (c *Chain) readRuns(view *store.View) ([]consensus.Run, error) {
	data, err := view.Base()
	if err != nil {
		return nil, err
	}
	if data == nil {
		return []consensus.Run{consensus.FirstRun(c.id)}, nil
	}
	return decodeRuns(data)
}

func (c *Chain) baseShares(base *consensus.Base, view *store.View, runs []consensus.Run) error {
	if base.Floor == 0 {
		for s, err := range view.ShareSnapshots(1) {
			if err != nil {
				return err
			}
			base.Snapshots = append(base.Snapshots, s)
		}
		return nil
	}
	oldest := runAt(runs, base.Decisions[0].Height)
	seen := make(map[uint64]bool)
	for _, r := range runs {
		if r.Number < oldest.Number {
			continue
		}
		base.Runs = append(base.Runs, r)
		if seen[r.Snapshot] {
			continue
		}
		seen[r.Snapshot] = true
		s, err := c.shares(r.Snapshot)
		if err != nil {
			return err
		}
		base.Snapshots = append(base.Snapshots, s)
	}
	// A snapshot may be taken, and its first run not be known yet.
	for s, err := range view.ShareSnapshots(oldest.Snapshot + 1) {
		if err != nil {
			return err
		}
		if !seen[s.Height] {
			base.Snapshots = append(base.Snapshots, s)
		}
	}
	return nil
}

// baseDecisions reads what was decided and applied, from the first height on that the past
// of the floor's anchor does not decide.
func baseDecisions(base *consensus.Base, view *store.View, runs []consensus.Run) error {
	first := uint64(1)
	if base.Floor > 0 {
		anchor, _, err := view.Decided(base.Floor)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(base.Blocks, func(a consensus.Accepted) bool { return a.ID == anchor })
		if i < 0 {
			return fmt.Errorf("the anchor %s of height %d is not in the store", anchor, base.Floor)
		}
		first = base.Blocks[i].Past.Decided + 1
	}
	applied, _ := view.Height()
	for h := first; h <= applied; h++ {
		anchor, ok, err := view.Decided(h)
		if err != nil || !ok {
			return errors.Join(fmt.Errorf("the decision of height %d is missing", h), err)
		}
		base.Decisions = append(base.Decisions, consensus.Decision{Height: h, Anchor: anchor, Run: runAt(runs, h).Number})
	}
	return nil
}

// baseBlocks reads the stored blocks from the floor up to height last.
func (c *Chain) baseBlocks(base *consensus.Base, last uint64) error {
	for b, err := range c.cfg.Store.Blocks(base.Floor, last) {
		if err != nil {
			return err
		}
		h, err := types.DecodeBlock(b.Header)
		if err != nil {
			return fmt.Errorf("stored block %s: %w", b.ID, err)
		}
		p, err := consensus.DecodePast(b.Meta)
		if err != nil {
			return fmt.Errorf("stored block %s: %w", b.ID, err)
		}
		base.Blocks = append(base.Blocks, consensus.Accepted{ID: b.ID, Block: h, Past: p})
	}
	if base.Floor == 0 {
		return nil
	}
	var err error
	base.Lines, err = consensus.Lines(base.Blocks, base.Floor, c.header)
	return err
}

// header is a stored block without its payload, nil for one that is not kept any more.
func (c *Chain) header(id types.Hash) (*types.Block, error) {
	b, ok, err := c.cfg.Store.Block(id)
	switch {
	case err == nil && ok:
		return types.DecodeBlock(b.Header)
	case err == nil && c.cfg.Store.Lowest() > 0:
		return nil, nil
	default:
		return nil, errors.Join(errors.New("it is not in the store"), err)
	}
}

// relower restores consensus while it runs, from a lower floor if floor is not 0: a block has
// come that joins the past below what was in memory.
func (c *Chain) relower(floor uint64) error {
	// The applier must be done with all that was decided, or it would be decided again.
	if err := c.drain(); err != nil {
		return err
	}
	waiting := c.core.Waiting()
	open := c.open
	c.open = make(map[types.Hash]*openBlock)
	if err := c.restore(floor, types.MaxHeight); err != nil {
		return err
	}
	c.open = open
	for _, b := range waiting {
		c.core.Step(consensus.Block{Block: b})
	}
	return nil
}

// drain waits until the applier has applied all that was decided.
func (c *Chain) drain() error {
	decided := c.core.Decided()
	for {
		if _, final := c.Heights(); final >= decided {
			return nil
		}
		select {
		case a := <-c.applied:
			c.digest(a)
		case <-c.quit:
			return ErrClosed
		}
	}
}

// refill brings back, after a restart, the open blocks, the waiting transactions and where the
// votes stood.
func (c *Chain) refill() error {
	view := c.cfg.Store.View()
	applied, _ := view.Height()
	snap, err := c.cfg.Store.Snapshot()
	if err != nil {
		return err
	}
	c.pins.push(snap, applied, c.state.Time)
	certified, _, err := view.Certified(types.MaxHeight)
	if err != nil {
		return err
	}
	c.votes.restore(applied, certified)
	c.pins.certify(certified)
	c.setFinal(applied, certified)
	if err := c.refillPool(); err != nil {
		return err
	}
	if err := c.refillOpen(applied); err != nil {
		return err
	}
	return c.recount(view, certified)
}

// recount takes up again the own checkpoints that are not certified, and votes for the newest.
func (c *Chain) recount(view *store.View, certified uint64) error {
	applied, _ := view.Height()
	var newest *made
	for cp, err := range view.Checkpoints(max(certified+1, applied-min(applied, voteKeep))) {
		if err != nil {
			return err
		}
		newest = &made{cp.Checkpoint, runAt(c.runs, cp.Height).Snapshot, true}
		snap, err := c.shares(newest.snapshot)
		if err != nil {
			return err
		}
		c.votes.made(cp.Checkpoint, snap)
	}
	if newest == nil {
		return nil
	}
	return c.sign(*newest)
}

// refillOpen finds the stored blocks whose transactions are not settled.
func (c *Chain) refillOpen(applied uint64) error {
	from := applied - min(applied, consensus.Window)
	for b, err := range c.cfg.Store.Blocks(from, types.MaxHeight) {
		if err != nil {
			return err
		}
		if len(b.Payload) == 0 || c.core.Ordered(b.ID) {
			continue
		}
		o, err := c.openBlock(b)
		if err != nil {
			return err
		}
		c.open[b.ID] = o
		c.pool.Carry(b.ID, transactionIDs(o.txs))
		c.carried(b.ID, o)
	}
	return nil
}

// refillPool takes the submitted transactions up again that are not settled.
func (c *Chain) refillPool() error {
	waiting, err := c.cfg.Store.Pool()
	if err != nil {
		return err
	}
	c.pool = newPool(c)
	now := c.cfg.Now()
	pin := c.pins.latest()
	defer c.pins.drop(pin)
	var drop, keep []types.Hash
	for _, w := range waiting {
		p, err := ledger.Parse(c.id, c.params, w.Raw)
		if err != nil {
			return fmt.Errorf("stored transaction %s: %w", w.ID, err)
		}
		settled, err := pin.conflict(p, &c.sieve)
		var refused *Error
		switch {
		case errors.As(err, &refused) || settled:
			drop = append(drop, w.ID)
		case err != nil:
			return err
		default:
			if err := c.pool.Add(p.ID, p.Tx, w.Raw, now); err != nil {
				return fmt.Errorf("stored transaction %s: %w", w.ID, err)
			}
			keep = append(keep, p.ID)
		}
	}
	c.place(keep, now)
	if len(drop) == 0 {
		return nil
	}
	return c.cfg.Store.DropPool(drop...)
}
