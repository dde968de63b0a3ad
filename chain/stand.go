package chain

import (
	"errors"
	"fmt"

	"charter/consensus"
	"charter/store"
	"charter/types"
)

// Stand is where consensus is taken up that begins at a checkpoint: what the store of a peer
// that joins must hold of it.
type Stand struct {
	Blocks    []store.Block
	Decisions []consensus.Decision // up to the height of the checkpoint
	Runs      []byte               // as the store keeps them
	Snapshots []*types.Snapshot
}

// Deeper says that consensus cannot be taken up from a floor: it takes blocks from a lower one.
type Deeper struct{ Floor uint64 }

func (e *Deeper) Error() string {
	return fmt.Sprintf("a late branch joins the past at about height %d, below what is offered", e.Floor)
}

// ErrTooSoon says that the blocks do not decide all heights up to the checkpoint yet.
var ErrTooSoon = errors.New("the blocks at hand do not decide the checkpoint's height yet")

// TakeStand checks what is told of consensus to somebody who trusts a checkpoint, and works out
// the rest: footing, blocks from its floor up as far as there are any, in order, and the snapshots
// that the runs need, which must be genuine. Now is the time.
// Errors: *Offence for what is wrong, *Deeper, ErrTooSoon.
func TakeStand(g *types.Genesis, at *types.Checkpoint, f *consensus.Footing, blocks []types.RawBlock, shares []*types.Snapshot, now types.Millis) (*Stand, error) {
	c := &Chain{cfg: Config{Genesis: g}, id: g.ChainID(), params: &g.Params}
	c.checker.init(c.id, c.params)
	good, err := c.checker.blocks(blocks, types.Key{})
	if err != nil {
		return nil, &Offence{"block", err}
	}
	headers := make([]*types.Block, len(good))
	payloads := make(map[types.Hash][]byte, len(good))
	for i, b := range good {
		headers[i] = b.block
		payloads[b.id] = b.payload
	}
	base, rest, err := f.Base(c.id, at.Anchor, headers)
	if err != nil {
		return nil, &Offence{"footing", err}
	}
	base.Snapshots = append([]*types.Snapshot{g.Snapshot()}, shares...)
	core, err := consensus.Restore(c.config(), base)
	if err != nil {
		return nil, &Offence{"footing", err}
	}
	s := &Stand{Decisions: base.Decisions, Snapshots: shares}
	add := func(as []consensus.Accepted) {
		for _, a := range as {
			s.Blocks = append(s.Blocks, store.Block{ID: a.ID, Header: a.Block.Encode(), Payload: payloads[a.ID], Meta: a.Past.Encode()})
		}
	}
	add(base.Blocks)
	core.Step(consensus.Tick{Now: now})
	for _, b := range rest {
		core.Step(consensus.Block{Block: b})
	}
	r := core.Ready()
	if r.Floor > 0 {
		return nil, &Deeper{r.Floor}
	}
	add(r.Accepted)
	runs := base.Runs
	for _, d := range r.Decided {
		if d.Height > at.Height {
			break
		}
		s.Decisions = append(s.Decisions, d)
		if d.Closes != nil {
			runs = append(runs, *d.Closes)
		}
	}
	s.Runs = encodeRuns(runs)
	return s, s.leadsTo(at)
}

// leadsTo checks that the decisions end with the checkpoint's anchor, and nothing but empty
// heights behind it.
func (s *Stand) leadsTo(at *types.Checkpoint) error {
	n := len(s.Decisions)
	if n == 0 || s.Decisions[n-1].Height < at.Height {
		return ErrTooSoon
	}
	for n--; n > 0 && s.Decisions[n].Anchor.IsZero(); n-- {
	}
	if s.Decisions[n].Anchor != at.Anchor {
		return &Offence{"blocks", fmt.Errorf("they decide anchor %s at height %d, and the checkpoint of height %d has %s", s.Decisions[n].Anchor.Short(), s.Decisions[n].Height, at.Height, at.Anchor.Short())}
	}
	return nil
}
