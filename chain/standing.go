package chain

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"charter/ledger"
	"charter/store"
	"charter/types"
)

// What the ledger counts and judges peers by: who names whom, samples, and evidence, which a
// peer that comes upon it publishes by itself (spec/ledger.md, "Standing").

// headers are blocks that the ledger will be asked about: those accepted and not ordered and, of the ordered, what is
// asked of them when others name them. What is not in here is read from the store. The loop owns it.
type headers struct {
	open    map[types.Hash]*types.Block
	ordered map[types.Hash]ledger.Header
}

// maxHeaders is how many blocks of each kind are in memory.
const maxHeaders = 1 << 16

func newHeaders() headers {
	return headers{make(map[types.Hash]*types.Block), make(map[types.Hash]ledger.Header)}
}

// accept notes a block that may be ordered later.
func (h *headers) accept(id types.Hash, b *types.Block) {
	if len(h.open) >= maxHeaders {
		clear(h.open)
	}
	h.open[id] = b
}

// order is what an ordered block says of the height below, and the block.
func (c *Chain) order(id types.Hash) (b *types.Block, w ledger.Witness, err error) {
	if b = c.headers.open[id]; b == nil {
		if b, err = c.header(id); err != nil {
			return nil, w, fmt.Errorf("block %s is ordered, and cannot be read: %w", id, err)
		}
	}
	w = ledger.WitnessOf(c.params, b, func(named types.Hash) (ledger.Header, bool) {
		h, e := c.named(named)
		if err == nil && e != nil {
			err = fmt.Errorf("block %s, which ordered block %s names, cannot be read: %w", named, id, e)
		}
		return h, e == nil && named != c.id
	})
	if len(c.headers.ordered) >= maxHeaders {
		clear(c.headers.ordered)
	}
	c.headers.ordered[id] = ledger.HeaderOf(b)
	delete(c.headers.open, id)
	return b, w, err
}

func (c *Chain) named(id types.Hash) (ledger.Header, error) {
	if h, ok := c.headers.ordered[id]; ok || id == c.id {
		return h, nil
	}
	b := c.headers.open[id]
	if b == nil {
		var err error
		if b, err = c.header(id); err != nil {
			return ledger.Header{}, err
		}
	}
	h := ledger.HeaderOf(b)
	c.headers.ordered[id] = h
	return h, nil
}

// sample is what an own block of this height, with its vote, has as sample: zero if none is due, or the state
// is behind the vote.
func (c *Chain) sample(b *types.Block) (types.Hash, error) {
	if !c.params.SampleDue(b.Height) {
		return types.Hash{}, nil
	}
	pin := c.pins.latest()
	if pin == nil {
		return types.Hash{}, nil
	}
	defer c.pins.drop(pin)
	return ledger.Sample(pin.snap, b)
}

// checkSamples accuses the authors of ordered blocks whose samples are false, by the state that has what
// they were drawn from.
func (c *Chain) checkSamples(b *store.Batch, sampled []*types.Block) error {
	for _, block := range sampled {
		want, err := ledger.Sample(b, block)
		if err != nil {
			return err
		}
		if !want.IsZero() && want != block.Sample {
			c.log.Warn("a block has a false sample", "peer", block.Author, "height", block.Height)
			c.accuse(types.Evidence{Offence: types.FalseSample, Blocks: []*types.Block{block}})
		}
	}
	return nil
}

// accuse has evidence published, unless others are first. It does not wait.
func (c *Chain) accuse(r types.Evidence) {
	select {
	case c.charges <- r:
	default: // there are enough, and others have it too
	}
}

// charge is evidence that waits for its time.
type charge struct {
	evidence types.Evidence
	due      time.Time
}

// prosecute publishes evidence. A few peers do so at once, for each offender others; the rest wait whether the offender
// is marked meanwhile. Of an offender no second one is published that is not about something later.
func (c *Chain) prosecute() {
	waiting := make(map[types.Key]charge)
	said := make(map[types.Key]uint64)
	tick := time.NewTicker(time.Duration(c.params.WaitQuorum) * time.Millisecond / 4)
	defer tick.Stop()
	for {
		select {
		case <-c.quit:
			return
		case r := <-c.charges:
			who := r.Offender()
			if _, is := waiting[who]; is || r.Height() <= said[who] || len(waiting) >= types.MaxMembers {
				continue
			}
			wait := time.Duration(c.params.WaitQuorum) * time.Millisecond * time.Duration(2*(c.turn(&r)/3))
			waiting[who] = charge{r, time.Now().Add(wait)}
		case <-tick.C:
			for who, x := range waiting {
				if time.Now().Before(x.due) {
					continue
				}
				delete(waiting, who)
				said[who] = x.evidence.Height()
				c.publish(&x.evidence)
			}
		}
	}
}

// turn is how many members come before this peer in publishing this evidence.
func (c *Chain) turn(r *types.Evidence) (n int) {
	id := r.Transaction().ID(c.id)
	distance := func(k types.Key) []byte {
		for i := range k {
			k[i] ^= id[i]
		}
		return k[:]
	}
	own := distance(c.self)
	for _, m := range c.Status().Members {
		if m.Peer != r.Offender() && bytes.Compare(distance(m.Peer), own) < 0 {
			n++
		}
	}
	return n
}

// publish submits evidence to this peer's own pool.
func (c *Chain) publish(r *types.Evidence) {
	raw := r.Transaction().Encode()
	id, err := c.Submit(context.Background(), raw)
	if err != nil {
		c.log.Info("evidence is not published", "offence", r.Offence, "peer", r.Offender(), "reason", err)
		return
	}
	c.log.Warn("publishing evidence", "offence", r.Offence, "peer", r.Offender(), "height", r.Height(), "transaction", id)
}

// rival is whether other evidence about the same offender, that is as free as this, waits already: the pool has room
// for one.
func (c *Chain) rival(p *ledger.Parsed) error {
	if len(p.Tx.Inputs) > 0 {
		return nil
	}
	who := p.Tx.Records[0].(types.Evidence).Offender()
	if id, is := c.bare[who]; is && id != p.ID && c.pool.Has(id) {
		return refuse(Conflict, "waiting", "transaction %s with evidence about %s waits already", id, who)
	}
	c.bare[who] = p.ID
	return nil
}

// objection refuses evidence without inputs that the final state would reject: it would cost its sender nothing. What pays is rejected
// in order, so that its wallet can prove it.
func (pin *pin) objection(p *ledger.Parsed) error {
	if len(p.Tx.Inputs) > 0 {
		return nil
	}
	reason, err := ledger.JudgePeers(pin.snap, pin.snap.State(), p.Tx)
	if err == nil && reason != types.NoReason {
		err = refuse(Conflict, reason.String(), "what the transaction says of a peer's standing would be rejected now: %s", reason)
	}
	return err
}
