package consensus

import (
	"fmt"
	"testing"

	"charter/types"
)

// company is a Config of n equal peers.
func company(n int) Config {
	s := &types.Snapshot{}
	for i := range n {
		s.Members = append(s.Members, types.Member{Peer: types.Key{byte(i >> 8), byte(i), 1}, Shares: 1e8})
	}
	cfg := testConfig(types.Hash{byte(n)}, s)
	cfg.VRF = func(types.Key, []byte, types.VRFProof) error { return nil }
	return cfg
}

// goodHeights is the blocks of some heights of the good case: everybody names all of the height below.
func goodHeights(b *testing.B, cfg Config, heights int) (c *Core, blocks []*types.Block, stored []Accepted, decided []Decision) {
	c = New(cfg)
	now := cfg.Time
	own := make([]types.Hash, len(cfg.Genesis.Members))
	named := []*vertex{c.genesis}
	for h := 1; h <= heights; h++ {
		g := c.viewOf(named)
		r := c.runFor(g, uint64(h))
		parent := c.chosen(g, r).parent.id
		var merges []types.Hash
		for _, v := range named {
			if v.id != parent {
				merges = append(merges, v.id)
			}
		}
		sortHashes(merges)
		in := vrfInput(r, uint64(h))
		for i, m := range cfg.Genesis.Members {
			x := &types.Block{Height: uint64(h), Author: m.Peer, Previous: own[i], Parent: parent, Merges: merges, Past: c.digestOf(g), Time: now}
			if in != nil {
				x.VRF = testVRF(m.Peer, in)
			}
			own[i] = x.ID(cfg.Chain)
			blocks = append(blocks, x)
		}
		c.Step(Tick{now})
		for _, x := range blocks[len(blocks)-len(own):] {
			c.Step(Block{x})
		}
		r2 := c.Ready()
		if len(r2.Refused) > 0 {
			b.Fatal(r2.Refused[0].Err)
		}
		stored, decided = append(stored, r2.Accepted...), append(decided, r2.Decided...)
		c.ready = Ready{}
		snapshots(c, cfg, r2.Decided)
		named = c.at(uint64(h))
		now += 10
	}
	return c, blocks, stored, decided
}

func snapshots(c *Core, cfg Config, ds []Decision) {
	for _, d := range ds {
		if d.Height%cfg.Params.SnapshotPeriod == 0 {
			c.Step(Snapshot{&types.Snapshot{Height: d.Height, Members: cfg.Genesis.Members}})
		}
	}
}

// BenchmarkStep is one block in the good case, with what follows from it: Step, Ready and
// Advance. The id is worked out once per block, the VRF is not checked.
func BenchmarkStep(b *testing.B) {
	for _, n := range []int{4, 12, 30, 100} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			cfg := company(n)
			heights := max(3000/n, 60)
			_, blocks, _, _ := goodHeights(b, cfg, heights)
			var c *Core
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if i%len(blocks) == 0 {
					b.StopTimer()
					c = New(cfg)
					b.StartTimer()
				}
				x := blocks[i%len(blocks)]
				c.Step(Tick{x.Time})
				c.Step(Block{x})
				r := c.Ready()
				c.Advance()
				snapshots(c, cfg, r.Decided)
			}
		})
	}
}

// BenchmarkRestore is a Restore of the last Window heights and a few above.
func BenchmarkRestore(b *testing.B) {
	for _, n := range []int{4, 30, 100} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			cfg := company(n)
			const floor, heights = 20, 20 + Window
			_, _, stored, decided := goodHeights(b, cfg, heights)
			nd := &node{cfg: cfg, accepted: stored, decisions: decided}
			for _, d := range decided {
				if d.Closes != nil {
					nd.runs = append(nd.runs, *d.Closes)
				}
				if d.Height%cfg.Params.SnapshotPeriod == 0 {
					nd.snapshots = append(nd.snapshots, &types.Snapshot{Height: d.Height, Members: cfg.Genesis.Members})
				}
			}
			base := nd.base(floor)
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				if _, err := Restore(cfg, base); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(base.Blocks)), "blocks")
		})
	}
}
