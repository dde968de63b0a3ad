package consensus_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"charter/consensus"
	"charter/sim"
	"charter/types"
)

// twinGraph grows a random graph, as no network would: authors name what they like, fork,
// choose wrong parents, and break rules. Core and the slow twin judge each block.
type twinGraph struct {
	t         *testing.T
	rng       *rand.Rand
	cfg       consensus.Config
	naive     *sim.Naive
	snapshots []*types.Snapshot
	blocks    []*types.Block // valid, in order
	byID      map[types.Hash]*types.Block
	past      map[types.Hash]map[types.Hash]bool
	keys      []types.Key
	bad       int // the first so many authors fork and lie
	laggards  int // out of ten blocks, so many name only half
	broken    int // blocks that both refused
	seen      map[string]int
}

func newTwinGraph(t *testing.T, seed uint64) *twinGraph {
	g := &twinGraph{t: t, rng: rand.New(rand.NewPCG(seed, 7)), byID: map[types.Hash]*types.Block{},
		past: map[types.Hash]map[types.Hash]bool{}, seen: map[string]int{}}
	n := 4 + g.rng.IntN(4)
	for i := range n {
		g.keys = append(g.keys, types.Key(sha256.Sum256([]byte{byte(i)})))
	}
	slices.SortFunc(g.keys, func(a, b types.Key) int { return slices.Compare(a[:], b[:]) })
	g.bad, g.laggards = g.rng.IntN((n-1)/3+1), g.rng.IntN(6)
	g.cfg = consensus.Config{
		Chain: types.Hash{1, byte(seed), byte(seed >> 8)}, Time: 1000, Genesis: g.snapshot(0),
		Params: types.Params{SnapshotLag: 12, SnapshotPeriod: 4, RunLength: 4, RunTail: 3 + uint64(g.rng.IntN(3)),
			WaitLeader: 100, WaitQuorum: 1000, WaitIdle: 1000, CheckpointEvery: 1},
		VRF: func(p types.Key, in []byte, proof types.VRFProof) error {
			if proof != twinVRF(p, in) {
				return fmt.Errorf("another proof")
			}
			return nil
		},
		VRFOutput: func(p types.VRFProof) types.Hash { return sha256.Sum256(p[:]) },
	}
	for h := uint64(4); h < 100; h += 4 {
		g.snapshots = append(g.snapshots, g.snapshot(h))
	}
	g.naive = sim.NewNaive(g.cfg, g.snapshots)
	return g
}

func twinVRF(p types.Key, in []byte) (proof types.VRFProof) {
	h := sha256.Sum256(append(p[:], in...))
	copy(proof[:], h[:])
	return proof
}

// snapshot draws shares; now and then somebody has none.
func (g *twinGraph) snapshot(h uint64) *types.Snapshot {
	s := &types.Snapshot{Height: h}
	for i, k := range g.keys {
		shares := types.Amount(1000)
		if g.rng.IntN(3) == 0 {
			shares = types.Amount(500 + g.rng.IntN(1000))
		}
		if i >= 3 && g.rng.IntN(8) == 0 {
			continue
		}
		s.Members = append(s.Members, types.Member{Peer: k, Shares: shares})
	}
	return s
}

// tips is each author's blocks that none of its blocks follows.
func (g *twinGraph) tips(of types.Key) (tips []*types.Block) {
	followed := map[types.Hash]bool{}
	for _, b := range g.blocks {
		if b.Author == of {
			followed[b.Previous] = true
		}
	}
	for _, b := range g.blocks {
		if b.Author == of && !followed[b.ID(g.cfg.Chain)] {
			tips = append(tips, b)
		}
	}
	return tips
}

// grow proposes a block by author i upon what is below height h, and adds it if it is
// valid. Both must agree on that, but for a block that the core leaves since its author has
// forked and nobody names it.
func (g *twinGraph) grow(core *consensus.Core, i int, h uint64) {
	b := g.block(i, g.names(i, h))
	if g.rng.IntN(25) == 0 {
		g.spoil(b)
	}
	id := b.ID(g.cfg.Chain)
	if g.byID[id] != nil {
		return
	}
	err := g.naive.Add(b)
	core.Step(consensus.Block{Block: b})
	r := core.Ready()
	core.Advance()
	if err == nil && len(r.Refused) > 0 || err != nil && core.Has(id) {
		g.t.Fatalf("block of height %d: the twin says %v, the core %v, refused %v", b.Height, err, core.Has(id), r.Refused)
	}
	if err != nil {
		g.broken++
		return
	}
	past := map[types.Hash]bool{}
	for _, n := range b.Named() {
		past[n] = true
		for p := range g.past[n] {
			past[p] = true
		}
	}
	g.blocks, g.byID[id], g.past[id] = append(g.blocks, b), b, past
}

// names is what author i names: its own tip, and most of what others have, less what
// another holds in its past, and less authors whose fork would be in its past.
func (g *twinGraph) names(i int, h uint64) (named []*types.Block) {
	var tops []*types.Block
	for j, k := range g.keys {
		tips := g.tips(k)
		if len(tips) == 0 {
			continue
		}
		t := tips[g.rng.IntN(len(tips))]
		for t != nil && t.Height >= h {
			t = g.byID[t.Previous]
		}
		switch {
		case t == nil:
			continue
		case j == i && i < g.bad && g.rng.IntN(12) == 0: // a fork: from its block before
			if t = g.byID[t.Previous]; t == nil {
				continue
			}
		case j != i && g.rng.IntN(10) < g.laggards && g.rng.IntN(3) == 0:
			continue
		case j != i && g.rng.IntN(20) == 0:
			if t = g.byID[t.Previous]; t == nil {
				continue
			}
		}
		tops = append(tops, t)
	}
	for _, t := range tops {
		id := t.ID(g.cfg.Chain)
		if !slices.ContainsFunc(tops, func(u *types.Block) bool { return g.past[u.ID(g.cfg.Chain)][id] }) {
			named = append(named, t)
		}
	}
	return g.unforked(named)
}

// unforked drops, for most proposals, what rule 3 forbids.
func (g *twinGraph) unforked(named []*types.Block) (kept []*types.Block) {
	if g.rng.IntN(15) == 0 {
		return named
	}
	lines := map[[2]types.Hash]types.Hash{}
	forked := map[types.Key]bool{}
	see := func(id types.Hash) {
		if b := g.byID[id]; b != nil {
			at := [2]types.Hash{types.Hash(b.Author), b.Previous}
			if other, ok := lines[at]; ok && other != id {
				forked[b.Author] = true
			}
			lines[at] = id
		}
	}
	for _, n := range named {
		see(n.ID(g.cfg.Chain))
		for p := range g.past[n.ID(g.cfg.Chain)] {
			see(p)
		}
	}
	for _, n := range named {
		if !forked[n.Author] {
			kept = append(kept, n)
		}
	}
	return kept
}

func (g *twinGraph) block(i int, named []*types.Block) *types.Block {
	b := &types.Block{Author: g.keys[i], Time: 1001}
	var ids []types.Hash
	past := map[types.Hash]bool{}
	for _, n := range named {
		id := n.ID(g.cfg.Chain)
		ids = append(ids, id)
		b.Height, b.Time = max(b.Height, n.Height), max(b.Time, n.Time+types.Millis(g.rng.IntN(3)))
		past[id] = true
		for p := range g.past[id] {
			past[p] = true
		}
	}
	if len(ids) == 0 {
		ids = []types.Hash{g.cfg.Chain}
	}
	b.Height++
	var own uint64
	for p := range past {
		if x := g.byID[p]; x != nil && x.Author == b.Author && x.Height > own {
			own, b.Previous = x.Height, p
		}
	}
	b.Parent = g.naive.Parent(ids)
	if g.rng.IntN(12) == 0 || !slices.Contains(ids, b.Parent) {
		b.Parent = ids[g.rng.IntN(len(ids))]
	}
	for _, id := range ids {
		if id != b.Parent {
			b.Merges = append(b.Merges, id)
		}
	}
	slices.SortFunc(b.Merges, func(x, y types.Hash) int { return slices.Compare(x[:], y[:]) })
	b.Past = g.naive.Past(b)
	if in := g.naive.VRFInput(b); in != nil {
		b.VRF = twinVRF(b.Author, in)
	}
	if g.rng.IntN(3) > 0 && !g.naive.Full(b) {
		b.Time += g.cfg.Params.WaitQuorum
	}
	return b
}

// spoil breaks a rule, perhaps.
func (g *twinGraph) spoil(b *types.Block) {
	switch g.rng.IntN(8) {
	case 0:
		b.Height++
	case 1:
		b.Time = 1000 + types.Millis(g.rng.IntN(int(b.Time)))
	case 2:
		b.Previous = types.Hash{}
	case 3:
		b.Author = g.keys[g.rng.IntN(len(g.keys))]
	case 4:
		b.VRF[5] ^= 1
	case 5:
		b.Author = types.Key{9}
	case 6:
		b.Past[3] ^= 1
	case 7:
		if len(g.blocks) > 0 {
			b.Merges = append(b.Merges, g.blocks[g.rng.IntN(len(g.blocks))].ID(g.cfg.Chain))
			slices.SortFunc(b.Merges, func(x, y types.Hash) int { return slices.Compare(x[:], y[:]) })
			b.Merges = slices.DeleteFunc(slices.Compact(b.Merges), func(m types.Hash) bool { return m == b.Parent }) // no such block decodes
		}
	}
}

// decided compares what both decide of the blocks that the core has, and in what order.
func (g *twinGraph) decided(core *consensus.Core, told []consensus.Decision) {
	all := g.naive.Decisions(core.Has)
	if len(all) != len(told) {
		g.t.Fatalf("the twin decides %d heights, the core %d, of %d blocks", len(all), len(told), len(g.blocks))
	}
	for i, d := range all {
		c := told[i]
		if c.Height != d.Height || c.Anchor != d.Anchor || c.Run != d.Run {
			g.t.Fatalf("height %d: the twin has %s (%s) by run %d, the core %s by run %d", d.Height, d.Anchor.Short(), d.How, d.Run, c.Anchor.Short(), c.Run)
		}
		if !slices.Equal(c.Blocks, d.Blocks) {
			g.t.Fatalf("height %d (%s): the twin orders %v, the core %v", d.Height, d.How, d.Blocks, c.Blocks)
		}
	}
	for _, d := range all {
		g.seen[d.How]++
		g.seen["runs"] = max(g.seen["runs"], int(d.Run)+1)
	}
}

// TestTwin compares Core with the slow twin on random graphs: which blocks are valid, which
// heights have which anchor, what the order is.
func TestTwin(t *testing.T) {
	seen := map[string]int{}
	graphs, size := 30, 100
	if testing.Short() {
		graphs = 10
	}
	for seed := range uint64(graphs) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			g := newTwinGraph(t, seed)
			core := consensus.New(g.cfg)
			core.Step(consensus.Tick{Now: 1 << 40})
			for _, s := range g.snapshots {
				core.Step(consensus.Snapshot{Snapshot: s})
			}
			for h := uint64(1); len(g.blocks) < size; h++ {
				for _, i := range g.rng.Perm(len(g.keys)) {
					if g.rng.IntN(12) > 0 {
						g.grow(core, i, h)
					}
				}
			}
			// The order of arrival is no part of the result.
			for range 3 {
				again := consensus.New(g.cfg)
				again.Step(consensus.Tick{Now: 1 << 40})
				for _, s := range g.snapshots {
					again.Step(consensus.Snapshot{Snapshot: s})
				}
				for _, i := range g.rng.Perm(len(g.blocks)) {
					again.Step(consensus.Block{Block: g.blocks[i]})
				}
				r := again.Ready()
				for len(r.Missing) > 0 { // was dropped when it came, as nobody named it
					for _, m := range r.Missing {
						again.Step(consensus.Block{Block: g.byID[m.ID]})
					}
					r = again.Ready()
				}
				g.decided(again, r.Decided)
			}
			for k, v := range g.seen {
				seen[k] += v
			}
			seen["blocks"] += len(g.blocks)
			seen["refused"] += g.broken
		})
	}
	t.Log(seen)
	for _, must := range []string{"direct", "skipped", "indirect", "passed over", "refused"} {
		if seen[must] == 0 && !testing.Short() {
			t.Errorf("no graph had a height that was %s", must)
		}
	}
}
