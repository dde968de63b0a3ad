package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/sig"
)

// sigConfig is the flags of `charter bench sig`.
type sigConfig struct {
	Sizes    []uint
	Duration time.Duration
	JSON     bool
}

func newBenchSigCommand() *cobra.Command {
	var c sigConfig
	cmd := &cobra.Command{
		Use:   "sig",
		Short: "Measure how long it takes to verify signatures, alone and in batches",
		Long: `Sig signs messages by as many keys, and verifies the signatures (BIP-340) in batches of several sizes, on one
processor. The time is that of the fastest batch, so that what else the machine does matters less.`,
		Example: `  charter bench sig
  charter bench sig --sizes 1,256 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.UintSliceVar(&c.Sizes, "sizes", []uint{1, 4, 16, 64, 256, 1024}, "signatures in a batch, 1 to 4096")
	f.DurationVar(&c.Duration, "duration", time.Second, "how long to measure each size")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per size, and a summary")
	return cmd
}

// sigRow is one size: a line of the table, an object of --json.
type sigRow struct {
	Kind    string  `json:"kind"`
	Size    uint    `json:"size"`
	Batches int     `json:"batches"`
	Each    float64 `json:"us_each"`
}

func (c *sigConfig) run(ctx context.Context, out io.Writer) error {
	var most uint
	for _, n := range c.Sizes {
		if n < 1 || n > 4096 {
			return &usageError{fmt.Errorf("--sizes has %d: want 1 to 4096", n)}
		}
		most = max(most, n)
	}
	if c.Duration <= 0 {
		return &usageError{errors.New("want a positive --duration")}
	}
	checks := make([]sig.Check, most)
	for i := range checks {
		key, err := sig.ParsePrivateKey(client.Entropy())
		if err != nil {
			return err
		}
		checks[i] = sig.Check{Key: key.Public(), Msg: client.Entropy()}
		checks[i].Sig = sig.Sign(key, checks[i].Msg)
	}
	if !c.JSON {
		fmt.Fprintf(out, "%10s %12s %10s\n", "batch of", "µs for each", "a second")
	}
	summary := sigSummary{Kind: "summary", Each: make(map[uint]float64)}
	for _, n := range c.Sizes {
		row := sigRow{Kind: "batch", Size: n}
		for began := time.Now(); time.Since(began) < c.Duration || row.Batches == 0; row.Batches++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			start := time.Now()
			if bad, err := sig.VerifyAll(checks[:n]); err != nil {
				return fmt.Errorf("signature %d of %d: %w", bad, n, err)
			}
			if each := float64(time.Since(start).Nanoseconds()) / 1000 / float64(n); row.Each == 0 || each < row.Each {
				row.Each = each
			}
		}
		summary.Each[n] = row.Each
		if !c.JSON {
			fmt.Fprintf(out, "%10d %12.1f %10.0f\n", n, row.Each, 1e6/row.Each)
		} else if err := printJSON(out, row); err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(out, summary)
	}
	return nil
}

// sigSummary is the last line of --json.
type sigSummary struct {
	Kind string           `json:"kind"`
	Each map[uint]float64 `json:"us_each"` // by size of the batch
}
