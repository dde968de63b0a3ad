package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"charter/sim"
)

// simBoundsConfig is the flags of `charter sim bounds`.
type simBoundsConfig struct {
	Peers  int
	Styles []string
	Hard   int
	Seed   uint64
	JSON   bool
}

func newSimBoundsCommand() *cobra.Command {
	var c simBoundsConfig
	cmd := &cobra.Command{
		Use:   "bounds",
		Short: "Simulate storms of forks and garbage, and tell what they cost each peer",
		Long: `Bounds runs peers of which less than a third break rules in one way, many times as hard as a campaign does, and tells
what comes over a connection to an honest peer each second, in bytes and processor time; how many blocks of one author
an honest peer keeps for each height; and how many wait in its memory in the end.`,
		Example: "  charter sim bounds\n  charter sim bounds --styles storm --hard 30 --json",
		Args:    cobra.NoArgs,
		RunE:    c.run,
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 7, "peers, 4 to 30")
	f.StringSliceVar(&c.Styles, "styles", []string{"none", "storm", "garbage", "induce"}, "ways to break rules, one run each; none: nobody does")
	f.IntVar(&c.Hard, "hard", 10, "times as much as in a campaign, 1 to 40")
	f.Uint64Var(&c.Seed, "seed", 1, "seed")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per way")
	return cmd
}

func (c *simBoundsConfig) run(cmd *cobra.Command, _ []string) error {
	if c.Peers < 4 || c.Peers > 30 || c.Hard < 1 || c.Hard > 40 {
		return misuse(cmd, fmt.Errorf("want 4 to 30 peers, and 1 to 40 times as hard"))
	}
	out := cmd.OutOrStdout()
	if !c.JSON {
		fmt.Fprintln(out, "style         struck  heights  bytes/s of honest, bad   µs/s of honest, bad   blocks/height kept of honest, bad   waiting")
	}
	for _, style := range c.Styles {
		r, err := sim.Bounds(cmd.Context(), c.Peers, style, c.Hard, c.Seed)
		if err != nil {
			return err
		}
		if c.JSON {
			if err := printJSON(out, r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(out, "%-12s  %6d  %7d  %15.0f %9.0f  %13.0f %8.0f  %26.2f %7.2f   %7d\n", r.Style, r.Sent, r.Heights,
			r.HonestBytes, r.BadBytes, r.HonestCPU, r.BadCPU, r.HonestBlocks, r.BadBlocks, r.Waiting)
	}
	return nil
}
