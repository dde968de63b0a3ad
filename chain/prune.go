package chain

import (
	"fmt"
	"strconv"
	"time"

	"charter/consensus"
)

// MinKeep is the least number of heights below the final one whose blocks a peer keeps: enough to
// restart, to follow branches that are as late as peers commonly are, and to offer to one that joins.
const MinKeep = 4 * consensus.Window

// pruneEvery is between two steps of letting go of old blocks.
const pruneEvery = 250 * time.Millisecond

// prune lets go of what lies more than Keep heights below what is final, and what consensus has in
// memory, bit by bit.
func (c *Chain) prune() {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for more := false; ; {
		select {
		case <-tick.C:
		case <-c.quit:
			return
		}
		c.mu.RLock()
		below := min(c.status.Final-min(c.status.Final, c.cfg.Keep), c.status.floor)
		c.mu.RUnlock()
		if !more && below < c.cfg.Store.Lowest()+16 {
			continue
		}
		var n int
		var err error
		if n, more, err = c.cfg.Store.Prune(below); err != nil {
			c.fail(fmt.Errorf("let go of old blocks: %w", err))
			return
		}
		c.log.Debug("let go of old blocks", "below", below, "blocks", n)
	}
}

// Lowest is the height from which on all blocks are kept, 0 for all.
func (c *Chain) Lowest() uint64 { return c.cfg.Store.Lowest() }

// reaches reports whether consensus can be restored from a floor: whether an anchor at or below it is kept.
func (c *Chain) reaches(floor uint64) (bool, error) {
	lowest := c.cfg.Store.Lowest()
	if lowest == 0 {
		return true, nil
	}
	view := c.cfg.Store.View()
	for h := floor; h >= lowest; h-- {
		anchor, _, err := view.Decided(h)
		if err != nil || !anchor.IsZero() {
			return err == nil, err
		}
	}
	if c.lost != floor {
		c.lost = floor
		c.log.Warn("a late branch joins the past below what is kept; it is passed over until the others have merged it, and then this peer must join again", "height", floor, "kept_from", lowest)
	}
	return false, nil
}

// notKept is the refusal of blocks that are not kept.
func (c *Chain) notKept(what string) error {
	return refuse(NotKept, strconv.FormatUint(c.cfg.Store.Lowest(), 10), "%s is from before height %d, below which this peer keeps no blocks", what, c.cfg.Store.Lowest())
}
