package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"charter/sim"
	"charter/types"
)

// simScaleConfig is the flags of `charter sim scale`.
type simScaleConfig struct {
	Peers   []int
	Heights int
	Places  int
	Even    int
	Seed    uint64
	JSON    bool
}

func newSimScaleCommand() *cobra.Command {
	var c simScaleConfig
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Simulate 4 to 999 calm peers, and tell what finality takes",
		Long: `Scale runs so many peers of equal shares in ten regions of the world, without faults, ledger and disk, and tells how
long blocks take to be final, in milliseconds and in message delays, and what each peer sends and computes for it.
Waits are those of a network on the internet: 1 s for a leader, 4 s for two thirds.

Each peer sends its block to each other; messages and bytes are those of blocks without transactions. Of more peers
than places some stand at one place and share a core: they hear the same at the same time. So their blocks name the
same, which spares the core much work that peers with a link of their own each would make.

  leader, all  from sending a block until it is final, over all places: of the anchors, and of all blocks; median and 99th
  delays       the median, in mean delays between places
  core         processor time of one peer's core for one block that comes in`,
		Example: "  charter sim scale\n  charter sim scale --peers 100 --heights 50 --even 100 --json",
		Args:    cobra.NoArgs,
		RunE:    c.run,
	}
	f := cmd.Flags()
	f.IntSliceVar(&c.Peers, "peers", []int{4, 12, 50, 100, 300, 999}, "numbers of peers, 4 to 1024 each")
	f.IntVar(&c.Heights, "heights", 0, "heights to decide; 0: 100 of few peers, 6 of many")
	f.IntVar(&c.Places, "places", 50, "places at which peers stand, at most")
	f.IntVar(&c.Even, "even", 0, "milliseconds that each message takes; 0: by the table of regions")
	f.Uint64Var(&c.Seed, "seed", 1, "seed")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per number of peers")
	return cmd
}

func (c *simScaleConfig) run(cmd *cobra.Command, _ []string) error {
	for _, n := range c.Peers {
		if n < 4 || n > types.MaxMerges || c.Heights < 0 || c.Places < 1 || c.Even < 0 || c.Even > 10_000 {
			return misuse(cmd, fmt.Errorf("want 4 to %d peers, heights of 0 or more, a place at least, and messages of 0 to 10,000 ms", types.MaxMerges))
		}
	}
	out := cmd.OutOrStdout()
	if !c.JSON {
		fmt.Fprintln(out, "peers  places  heights  empty  ms/height  leader p50, p99 ms   delays  all p50, p99 ms      delays  messages  bytes sent per height and peer  core µs/block  MB/core  × real")
	}
	for _, n := range c.Peers {
		heights := uint64(c.Heights)
		if heights == 0 {
			heights = uint64(max(6, min(100, 1200/n)))
		}
		r, err := sim.Scale(cmd.Context(), sim.ScaleConfig{Peers: n, Heights: heights, Places: min(n, c.Places), Even: types.Millis(c.Even), Seed: c.Seed})
		if err != nil {
			return err
		}
		if c.JSON {
			if err := printJSON(out, r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "%5d  %6d  %7d  %5d  %9.0f  %8.0f %8.0f     %6.1f  %8.0f %8.0f     %6.1f  %8.0f  %30.0f  %13.0f  %7.1f  %6.1f\n",
			r.Peers, r.Places, r.Heights, r.Empty, r.HeightMS, r.LeaderP50, r.LeaderP99, r.LeaderDelays, r.AllP50, r.AllP99, r.AllDelays,
			r.Messages, r.Bytes, r.CoreUS, r.HeapMB, r.Speed)
	}
	return nil
}
