package chain

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"charter/consensus"
	"charter/proof"
	"charter/store"
	"charter/types"
)

// Offer is what a new peer needs to take up the chain at a certified checkpoint, besides blocks
// and chunks of the state (spec/network.md, "Joining").
type Offer struct {
	At      *Certified
	Footing []byte // an encoded consensus.Footing on the checkpoint's anchor
	Shares  []OfferedShares
}

// OfferedShares is a snapshot that the runs of an offer need, and why it is genuine.
type OfferedShares struct {
	Snapshot *types.Snapshot
	By       *types.Checkpoint // that commits to it; nil: the checkpoint of the offer does
	Proof    []byte            // an encoded proof.Consistency from By to the checkpoint of the offer
}

// The states that are held for peers that join. Each keeps the space that is freed after it.
const (
	maxOffers = 2
	offerIdle = 2 * time.Minute
)

// offers are states held for peers that join, until nobody has asked of them for a while.
type offers struct {
	mu  sync.Mutex
	all []*offered
}

type offered struct {
	pin  *pin
	used time.Time

	making sync.Mutex
	offer  *Offer // nil until it is asked for
}

// hold is the held state of a height, which is held from now on if it still can be; nil if not.
// Drop its pin after use.
func (c *Chain) hold(height uint64) *offered {
	c.offers.mu.Lock()
	defer c.offers.mu.Unlock()
	x := c.holdFor(height, time.Now())
	if x != nil {
		c.pins.keep(x.pin)
	}
	return x
}

func (c *Chain) holdFor(height uint64, now time.Time) *offered {
	o := &c.offers
	for _, x := range o.all {
		if x.pin.height == height {
			x.used = now
			return x
		}
	}
	if len(o.all) == maxOffers {
		oldest := slices.MinFunc(o.all, func(a, b *offered) int { return a.used.Compare(b.used) })
		if now.Sub(oldest.used) < offerIdle/4 {
			return nil
		}
		oldest.used = time.Time{}
		c.expireOffers(now)
	}
	pin := c.pins.of(height)
	if pin == nil {
		return nil
	}
	x := &offered{pin: pin, used: now}
	o.all = append(o.all, x)
	return x
}

// expireOffers lets go of what nobody asked of for long. The caller has the lock.
func (c *Chain) expireOffers(now time.Time) {
	c.offers.all = slices.DeleteFunc(c.offers.all, func(x *offered) bool {
		old := now.Sub(x.used) > offerIdle
		if old {
			c.pins.drop(x.pin)
		}
		return old
	})
}

// tidyOffers is expireOffers for others.
func (c *Chain) tidyOffers() {
	c.offers.mu.Lock()
	defer c.offers.mu.Unlock()
	c.expireOffers(time.Now())
}

// closeOffers lets go of all.
func (c *Chain) closeOffers() {
	c.offers.mu.Lock()
	defer c.offers.mu.Unlock()
	for _, x := range c.offers.all {
		c.pins.drop(x.pin)
	}
	c.offers.all = nil
}

// Offer is what a peer that joins at the certified checkpoint of a height needs, or at the newest
// for Newest. Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) Offer(height uint64) (*Offer, error) {
	if height == Newest {
		at, err := c.Checkpoint(Newest)
		if err != nil {
			return nil, err
		}
		height = at.Checkpoint.Height
	}
	x := c.hold(height)
	if x == nil {
		return nil, refuse(NotFound, "", "the state of height %d is not at hand any more, or others are joining: ask for the newest, or in a moment", height)
	}
	defer c.pins.drop(x.pin)
	x.making.Lock()
	defer x.making.Unlock()
	if x.offer != nil {
		return x.offer, nil
	}
	p := &prover{pin: x.pin, c: c}
	var err error
	if p.at, err = p.under(height); err != nil {
		return nil, err
	}
	p.id = p.at.Checkpoint.ID()
	x.offer, err = p.offer()
	return x.offer, err
}

// Chunk is a part of the state of the checkpoint of a height that was offered, encoded. Errors: *Error of kinds
// NotFound, NotKept, and TooLarge, whose reason is the length of the prefixes to ask for.
func (c *Chain) Chunk(height uint64, ref proof.ChunkRef) ([]byte, error) {
	x := c.hold(height)
	if x == nil {
		return nil, refuse(NotFound, "", "the state of height %d is not at hand any more: ask for a newer offer", height)
	}
	defer c.pins.drop(x.pin)
	chunk, err := x.pin.snap.Chunk(ref)
	return chunk, storeError(err)
}

// storeError gives a refusal of the store that who asked should know its kind here.
func storeError(err error) error {
	var theirs *store.Error
	if !errors.As(err, &theirs) {
		return err
	}
	switch theirs.Kind {
	case store.NotKept:
		return refuse(NotKept, "", "%s: it was before height %d, and this peer has what came since", theirs.Detail, theirs.Height)
	case store.NoChunk:
		return refuse(NotFound, "", "the state has no such chunk: %s", theirs.Detail)
	case store.TooLarge:
		return refuse(TooLarge, strconv.Itoa(int(theirs.Depth)), "%s", theirs.Detail)
	}
	return err
}

func (p *prover) offer() (*Offer, error) {
	runs, err := p.c.readRuns(&p.snap.View)
	if err != nil {
		return nil, err
	}
	base, err := p.c.baseAt(&p.snap.View, runs, 0, p.height)
	if err != nil {
		return nil, err
	}
	if base.Floor <= 1 {
		return nil, refuse(NotYet, "young", "the chain has %d heights only: it is caught up with from the genesis", p.height)
	}
	f, err := consensus.NewFooting(base, p.at.Checkpoint.Anchor, p.c.header)
	if err != nil {
		return nil, err
	}
	out := &Offer{At: p.at, Footing: f.Encode()}
	for _, s := range base.Snapshots {
		shares, err := p.offerShares(s)
		if err != nil {
			return nil, err
		}
		if shares != nil {
			out.Shares = append(out.Shares, *shares)
		}
	}
	return out, nil
}

// offerShares shows that a snapshot is genuine, by the checkpoint of its height; nil for one that
// needs no showing, or is newer than the checkpoint of the offer.
func (p *prover) offerShares(s *types.Snapshot) (*OfferedShares, error) {
	if s.Height == 0 || s.Height > p.height {
		return nil, nil
	}
	if s.Root(p.c.id) == p.at.Checkpoint.SnapshotRoot {
		return &OfferedShares{Snapshot: s}, nil
	}
	by, err := p.snap.Checkpoint(s.Height)
	if err != nil || by == nil {
		return nil, errors.Join(refuse(NotFound, "", "no checkpoint of height %d", s.Height), err)
	}
	steps, err := p.consistency(by.Checkpoint)
	if err != nil {
		return nil, err
	}
	return &OfferedShares{s, by.Checkpoint, steps.Encode()}, nil
}
