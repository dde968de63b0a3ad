package consensus

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"charter/types"
)

// footing is what a peer that has decided up to applied gives to one that trusts the anchor of
// height h, and the blocks that go with it.
func (n *node) footing(t *testing.T, floor, h, applied uint64) (*Footing, []*types.Block) {
	old := n.decisions
	n.decisions = n.decisions[:applied]
	base := n.base(floor)
	n.decisions = old
	f, err := NewFooting(base, n.decisions[h-1].Anchor, func(id types.Hash) (*types.Block, error) {
		i := slices.IndexFunc(n.accepted, func(a Accepted) bool { return a.ID == id })
		if i < 0 {
			return nil, errors.New("not here")
		}
		return n.accepted[i].Block, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecodeFooting(f.Encode())
	if err != nil || !bytes.Equal(again.Encode(), f.Encode()) {
		t.Fatalf("decoded again: %v", err)
	}
	var blocks []*types.Block
	for _, a := range base.Blocks {
		blocks = append(blocks, a.Block)
	}
	return again, blocks
}

// anchorAt is the height of the last anchor at or below h.
func (n *node) anchorAt(h uint64) uint64 {
	for h > 0 && n.decisions[h-1].Anchor.IsZero() {
		h--
	}
	return h
}

// stand restores a Core from a footing and follows the blocks.
func (n *node) stand(w *world, f *Footing, anchor types.Hash, blocks []*types.Block) (*node, error) {
	base, rest, err := f.Base(w.cfg.Chain, anchor, blocks)
	if err != nil {
		return nil, err
	}
	base.Snapshots = append([]*types.Snapshot{w.cfg.Genesis}, n.snapshots...)
	core, err := Restore(w.cfg, base)
	if err != nil {
		return nil, err
	}
	joined := &node{cfg: w.cfg, core: core, accepted: base.Blocks}
	core.Step(Tick{types.MaxTime})
	for _, b := range rest {
		core.Step(Block{b})
		joined.follow(func(h uint64) *types.Snapshot { return w.shares[h] }, false)
	}
	return joined, nil
}

// Who trusts one anchor decides from there what everybody decides, whatever happened before:
// shares changed, peers went and came back.
func TestFooting(t *testing.T) {
	joins, lower := 0, 0
	for seed := range uint64(3) {
		w, _ := longPast(t, seed)
		n := w.nodes[0]
		rng := rand.New(rand.NewPCG(seed, 8))
		for range 5 {
			h := n.anchorAt(40 + rng.Uint64N(uint64(len(n.decisions))-60))
			floor := n.anchorAt(2 + rng.Uint64N(h-20))
			for {
				f, blocks := n.footing(t, floor, h, uint64(len(n.decisions)))
				joined, err := n.stand(w, f, n.decisions[h-1].Anchor, blocks)
				if err != nil {
					t.Fatalf("seed %d, anchor of %d, floor %d: %v", seed, h, floor, err)
				}
				if joined.core.blind {
					floor = n.anchorAt(joined.floor)
					lower++
					continue
				}
				joins++
				if len(joined.decisions) < 10 {
					t.Fatalf("seed %d, anchor of %d, floor %d: decided only %d heights", seed, h, floor, len(joined.decisions))
				}
				for _, d := range joined.decisions {
					if a, b := w.decision(&d), w.decision(&n.decisions[d.Height-1]); a != b {
						t.Fatalf("seed %d, anchor of %d, floor %d: %s, and the others: %s", seed, h, floor, a, b)
					}
				}
				break
			}
		}
	}
	t.Logf("%d joins, %d of them asked for a lower floor", joins, lower)
}

// What is told wrongly leads to no Core.
func TestFootingLies(t *testing.T) {
	w, _ := longPast(t, 1)
	n := w.nodes[0]
	h, floor := n.anchorAt(400), n.anchorAt(200)
	anchor := n.decisions[h-1].Anchor
	for _, row := range []struct {
		want string // in the error
		lie  func(f *Footing, blocks []*types.Block) []*types.Block
	}{
		{"", func(_ *Footing, bs []*types.Block) []*types.Block { return bs }},
		{"not that of anchor", func(f *Footing, bs []*types.Block) []*types.Block { f.Past.Run.Seed[0] ^= 1; return bs }},
		{"not that of anchor", func(f *Footing, bs []*types.Block) []*types.Block { f.Past.Tips = f.Past.Tips[1:]; return bs }},
		{"not those that the anchor's past decides", func(f *Footing, bs []*types.Block) []*types.Block { f.Anchors[30] = types.Hash{}; return bs }},
		{"not those that the anchor's past decides", func(f *Footing, bs []*types.Block) []*types.Block { f.Runs[0].Seed[0] ^= 1; return bs }},
		{"not those that the anchor's past decides", func(f *Footing, bs []*types.Block) []*types.Block { f.Runs = f.Runs[1:]; return bs }},
		{"follows that of height", func(f *Footing, bs []*types.Block) []*types.Block { f.Anchors = f.Anchors[1:]; return bs }},
		{"anchors up to height", func(f *Footing, bs []*types.Block) []*types.Block { f.Floor = h; return bs }},
		{"not among the blocks", func(f *Footing, bs []*types.Block) []*types.Block {
			return slices.DeleteFunc(bs, func(b *types.Block) bool { return b.ID(w.cfg.Chain) == anchor })
		}},
		{"with its past", func(f *Footing, bs []*types.Block) []*types.Block {
			return slices.DeleteFunc(bs, func(b *types.Block) bool { return b.ID(w.cfg.Chain) == n.decisions[floor-1].Anchor })
		}},
		{"named and not there", func(f *Footing, bs []*types.Block) []*types.Block {
			i := slices.IndexFunc(bs, func(b *types.Block) bool { return b.ID(w.cfg.Chain) == n.decisions[n.anchorAt(300)-1].Anchor })
			return slices.Delete(bs, i, i+1)
		}},
		{"named and not there", func(f *Footing, bs []*types.Block) []*types.Block { f.Below = nil; return bs }},
		{"nothing asks for", func(f *Footing, bs []*types.Block) []*types.Block {
			f.Below = append(f.Below, n.accepted[0].Block)
			return bs
		}},
		{"past of block", func(f *Footing, bs []*types.Block) []*types.Block {
			for i := range f.Pasts {
				if f.Pasts[i].ID != n.decisions[floor-1].Anchor {
					f.Pasts[i].Past.Tips[0].Forked = true
				}
			}
			return bs
		}},
	} {
		f, blocks := n.footing(t, floor, h, uint64(len(n.decisions)))
		_, err := n.stand(w, f, anchor, row.lie(f, blocks))
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("want %q, got %v", row.want, err)
		}
	}
}

func FuzzDecodeFooting(f *testing.F) {
	block := &types.Block{Height: 3, Author: letterKey('a'), Parent: types.Hash{1}}
	f.Add((&Footing{Past: samplePast(), Floor: 9, Anchors: []types.Hash{{1}, {}}, Runs: []Run{{Number: 3}},
		Pasts: []BlockPast{{types.Hash{2}, samplePast()}}, Below: []*types.Block{block}}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := DecodeFooting(data)
		if err != nil {
			return
		}
		if !bytes.Equal(x.Encode(), data) {
			t.Fatalf("%x is read, and written as %x", data, x.Encode())
		}
		x.Base(types.Hash{9}, block.ID(types.Hash{9}), []*types.Block{block})
	})
}
