package chain

import (
	"errors"
	"slices"
	"testing"
	"time"

	"charter/consensus"
	"charter/proof"
	"charter/types"
)

// What a running peer offers is enough to take a stand at its certified checkpoint, by an
// anchor, blocks and decisions that are those of the peer; and nothing of it can be another.
func TestOfferAndStand(t *testing.T) {
	if testing.Short() {
		t.Skip("makes some hundreds of heights")
	}
	params := types.LocalParams
	params.WaitLeader, params.WaitQuorum, params.WaitIdle = 10, 40, 1
	w := newWorld(t, 4, 1, params)
	for i := range 4 {
		w.start(i)
	}
	c := w.chains[0]
	wait := func(above uint64) {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if _, final := c.Heights(); final > above {
				return
			}
			if time.Now().After(deadline) {
				t.Skip("this machine is too slow to make the heights")
			}
		}
	}
	wait(5)
	var refused *Error
	if _, err := c.Offer(Newest); !errors.As(err, &refused) || refused.Kind != NotYet {
		t.Fatalf("of a young chain: %v", err)
	}
	wait(consensus.Window + 100)
	o, err := c.Offer(Newest)
	if err != nil {
		t.Fatal(err)
	}
	at := o.At.Checkpoint
	again, err := c.Offer(at.Height)
	if err != nil || again != o {
		t.Errorf("the state is not held: %v", err)
	}
	wait(at.Height + 8)
	f, err := consensus.DecodeFooting(o.Footing)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []types.RawBlock
	for from := f.Floor; from != 0; {
		bs, err := c.Blocks(from, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, bs...)
		last, err := types.DecodeBlock(bs[len(bs)-1].Header)
		if err != nil {
			t.Fatal(err)
		}
		if from = last.Height + 1; from > at.Height+6 {
			break
		}
	}
	var shares []*types.Snapshot
	for _, s := range o.Shares {
		by := at
		if s.By != nil {
			by = s.By
			p, err := proof.Decode(s.Proof)
			if err != nil || p.(*proof.Consistency).Verify(by, at) != nil {
				t.Fatalf("snapshot of height %d: %v", s.Snapshot.Height, err)
			}
		}
		if s.Snapshot.Root(w.genesis.ChainID()) != by.SnapshotRoot {
			t.Fatalf("snapshot of height %d is not that of the checkpoint of height %d", s.Snapshot.Height, by.Height)
		}
		shares = append(shares, s.Snapshot)
	}
	now := types.MillisOf(time.Now())
	s, err := TakeStand(w.genesis, at, f, blocks, shares, now)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range s.Decisions {
		anchor, ok, err := w.stores[0].View().Decided(d.Height)
		if err != nil || !ok || anchor != d.Anchor {
			t.Fatalf("height %d is decided with %s, and the peer has %s (%v)", d.Height, d.Anchor.Short(), anchor.Short(), err)
		}
	}
	if n := len(s.Decisions); n < consensus.Window || s.Decisions[n-1].Height != at.Height || len(s.Blocks) < 3*consensus.Window {
		t.Errorf("%d decisions up to %d, %d blocks", n, s.Decisions[n-1].Height, len(s.Blocks))
	}
	var offence *Offence
	other := *at
	other.Anchor = s.Decisions[len(s.Decisions)-5].Anchor
	if _, err := TakeStand(w.genesis, &other, f, blocks, shares, now); !errors.As(err, &offence) {
		t.Errorf("another anchor: %v", err)
	}
	bad := append([]types.RawBlock(nil), blocks...)
	bad[40].Payload = []byte{1}
	if _, err := TakeStand(w.genesis, at, f, bad, shares, now); !errors.As(err, &offence) {
		t.Errorf("a payload that is not the block's: %v", err)
	}
	upTo := slices.IndexFunc(blocks, func(raw types.RawBlock) bool {
		b, err := types.DecodeBlock(raw.Header)
		return err != nil || b.Height > at.Height
	})
	if _, err := TakeStand(w.genesis, at, f, blocks[:upTo], shares, now); !errors.Is(err, ErrTooSoon) {
		t.Errorf("without the blocks above the checkpoint: %v", err)
	}
}
