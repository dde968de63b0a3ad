package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
)

var _ = enter(newBenchCommand)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure Charter on this machine",
		Long:    "Measure Charter on this machine, and print the figures that BENCHMARKS.md has.",
		Example: "  charter bench net --peers 4 --duration 20s",
	}
	cmd.AddCommand(newBenchNetCommand(), newBenchSigCommand(), newBenchSyncCommand(), newBenchIdleCommand(), newBenchProofsCommand(), newBenchTreesCommand(), newBenchFireCommand())
	return cmd
}

// netConfig is the flags of `charter bench net`.
type netConfig struct {
	Peers    int
	Duration time.Duration
	Warmup   time.Duration
	Window   int
	Rate     float64
	Rates    []float64
	Latency  time.Duration
	Dir      string
	Resume   bool
	JSON     bool
}

func newBenchNetCommand() *cobra.Command {
	var c netConfig
	cmd := &cobra.Command{
		Use:   "net",
		Short: "Pay as fast as a network of processes on this machine can make final",
		Long: `Net starts peers as processes and pays over them: real signatures, storage with fsync, all five trees. Each
payment has one input and two outputs: one to a lock of its own, and the change.

With --window, so many payers pay again as soon as their last payment is final (a closed loop: throughput). With
--rate, payments start at that rate whatever becomes of them (latency); with --rates, at one rate after the other,
and what comes out is drawn. A payment's time is from its submission to the moment at which the agent that it was
given to tells that it is final. Payers split their coins and sign payments before anything is measured; what they
cost on the same machine is told apart from what the peers do.`,
		Example: `  charter bench net --window 1024 --duration 20s
  charter bench net --rate 10 --duration 30s --json | tail -n 1
  charter bench net --rates 10,500,1000,2000 --duration 5s
  charter bench net --peers 7 --latency 50ms --rate 50`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 4, "how many peers, 1 to 30")
	f.DurationVar(&c.Duration, "duration", 20*time.Second, "how long to measure")
	f.DurationVar(&c.Warmup, "warmup", 3*time.Second, "how long to pay before that")
	f.IntVar(&c.Window, "window", 1024, "payers, each with one payment under way at most")
	f.Float64Var(&c.Rate, "rate", 0, "payments a second; 0: as many as the window allows")
	f.Float64SliceVar(&c.Rates, "rates", nil, "several of --rate, one after the other")
	f.DurationVar(&c.Latency, "latency", 0, "time that each packet between peers waits before it is sent")
	f.StringVar(&c.Dir, "dir", "", "directory to keep (default: a temporary one, removed at the end)")
	f.BoolVar(&c.Resume, "resume", false, "in the end kill a peer with -9, start it again, and measure how long until it serves")
	f.BoolVar(&c.JSON, "json", false, "print a summary as JSON after each run")
	return cmd
}

func (c *netConfig) run(ctx context.Context, out io.Writer) error {
	if c.Peers < 1 || c.Peers > 30 || c.Window < 1 || c.Rate < 0 || c.Duration <= 0 || c.Warmup < 0 || c.Latency < 0 || c.Latency > time.Second {
		return &usageError{errors.New("want 1 to 30 --peers, a --window of 1 or more, a --rate of 0 or more, a positive --duration, a --latency up to 1s")}
	}
	rates := c.Rates
	for _, rate := range rates {
		if rate < 0 || c.Rate > 0 {
			return &usageError{errors.New("want --rates of 0 or more, and no --rate beside them")}
		}
	}
	if len(rates) == 0 {
		rates = []float64{c.Rate}
	}
	var all []netSummary
	for _, rate := range rates {
		s, err := c.once(ctx, out, rate)
		if err != nil {
			return err
		}
		all = append(all, s)
	}
	if len(all) > 1 {
		plotLatency(out, all)
	}
	return nil
}

// once is one run, on a network of its own.
func (c *netConfig) once(ctx context.Context, out io.Writer, rate float64) (s netSummary, err error) {
	dir, clean, err := benchDir(c.Dir)
	if err != nil {
		return s, err
	}
	defer clean()
	need := rate
	if need == 0 {
		need = signedAhead
	}
	l, err := newLoad(dir, c.Peers, c.Peers, c.Window, rate, int(need*(c.Warmup+c.Duration).Seconds()*1.1), c.Latency, out)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, l.net.stop()) }()
	fmt.Fprintf(out, "starting %d peers in %s\n", c.Peers, dir)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := l.start(ctx); err != nil {
		return s, err
	}
	if s, err = c.measure(ctx, l, out); err != nil {
		return s, err
	}
	if c.Resume {
		if s.ResumeS, err = l.resume(ctx); err != nil {
			return s, err
		}
	}
	return s, s.report(out, c.JSON)
}

// measure pays, and sums up.
func (c *netConfig) measure(ctx context.Context, l *load, out io.Writer) (s netSummary, err error) {
	l.pay(ctx)
	if err := pause(ctx, c.Warmup); err != nil {
		return s, err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return s, err
	}
	began := time.Now()
	l.measure(true)
	for left := c.Duration; left > 0; left -= 5 * time.Second {
		if err := pause(ctx, min(left, 5*time.Second)); err != nil {
			return s, err
		}
		n := len(l.taken())
		fmt.Fprintf(out, "%3.0f s: %d final, %.0f a second\n", time.Since(began).Seconds(), n, float64(n)/time.Since(began).Seconds())
	}
	l.measure(false)
	took := time.Since(began)
	after, err := l.usage(ctx)
	if err != nil {
		return s, err
	}
	times, used := l.taken(), after.less(before)
	n := float64(max(len(times), 1))
	peers := float64(c.Peers)
	return netSummary{
		Kind: "summary", Peers: c.Peers, Window: c.Window, Rate: l.rate, LatencyMs: float64(c.Latency.Microseconds()) / 1000,
		Seconds: took.Seconds(), Payments: len(times), Paid: l.sent.Load(), Failed: l.failed.Load(), Late: l.late.Load(), SignedLive: l.live.Load(),
		TPS: float64(len(times)) / took.Seconds(), Final: percentiles(times), Tiers: used.tiers,
		CPU: used.cpu / n * 1000, LoadCPU: used.load / n * 1000, Busy: (used.cpu + used.load) / took.Seconds() / float64(runtime.NumCPU()),
		RSS: float64(after.rss) / (1 << 20), Disk: float64(used.disk) / n / peers, Net: used.sent / n / peers, Size: paymentSize,
		HeightsPS: float64(used.height) / took.Seconds(), Cores: runtime.NumCPU(),
	}, nil
}

// netSummary is the last line of --json.
type netSummary struct {
	Kind       string        `json:"kind"`
	Peers      int           `json:"peers"`
	Window     int           `json:"window"`
	Rate       float64       `json:"rate"`
	LatencyMs  float64       `json:"latency_ms"` // added to each packet between peers
	Seconds    float64       `json:"seconds"`
	Payments   int           `json:"payments"` // that began and became final while measuring
	Failed     int64         `json:"failed"`
	Late       int64         `json:"late"` // that --rate wanted, and no payer was free to make
	SignedLive int64         `json:"signed_live"`
	TPS        float64       `json:"tps"`
	Final      millisSummary `json:"final_ms"`
	Tiers      []tierTimes   `json:"tiers"`
	CPU        float64       `json:"cpu_s_per_1k"`      // of the peers
	LoadCPU    float64       `json:"load_cpu_s_per_1k"` // of the payers
	Busy       float64       `json:"busy"`              // what part of the machine both took
	RSS        float64       `json:"rss_mb_max"`
	Disk       float64       `json:"disk_bytes_per_tx"` // of one peer, before the storage engine has compacted
	Net        float64       `json:"net_bytes_per_tx"`  // that one peer sends to others, as UDP carries it
	Size       int           `json:"tx_bytes"`
	HeightsPS  float64       `json:"heights_per_s"`
	ResumeS    float64       `json:"resume_s,omitempty"` // of a killed peer, until it serves
	Paid       int64         `json:"payments_in_all"`    // warm-up included
	Cores      int           `json:"cores"`
}

func (s *netSummary) report(out io.Writer, asJSON bool) error {
	fmt.Fprintf(out, `peers                 %d on %d cores
payments final        %d in %.1f s, %d failed
throughput            %.0f a second
final after           %.1f ms p50, %.1f ms p99, %.1f ms at most
CPU of all peers      %.3f s per 1,000 payments
CPU of the payers     %.3f s per 1,000 payments; together they took %.0f %% of the machine
memory of a peer      %.0f MB at most
disk of a peer        %.0f bytes per payment, before compaction
sent by a peer        %.0f bytes per payment of %d
heights               %.1f a second
`, s.Peers, s.Cores, s.Payments, s.Seconds, s.Failed, s.TPS, s.Final.P50, s.Final.P99, s.Final.Max, s.CPU, s.LoadCPU, 100*s.Busy, s.RSS, s.Disk, s.Net, s.Size, s.HeightsPS)
	if s.Late > 0 {
		fmt.Fprintf(out, "late                  %d payments found no free payer: the rate is above what the window allows\n", s.Late)
	}
	if s.ResumeS > 0 {
		fmt.Fprintf(out, "resume after kill -9   %.2f s until it serves, with %d payments\n", s.ResumeS, s.Paid)
	}
	plotTiers(out, s.Tiers)
	if asJSON {
		if err := printJSON(out, s); err != nil {
			return err
		}
	}
	if s.Payments == 0 {
		return errors.New("no payment became final; see the peers' logs with --dir")
	}
	return nil
}

// benchDir is the directory to work in: a temporary one if none is asked for, which clean removes.
func benchDir(asked string) (dir string, clean func(), err error) {
	if asked != "" {
		return asked, func() {}, os.MkdirAll(asked, 0o755)
	}
	if dir, err = os.MkdirTemp("", "charter-bench-"); err != nil {
		return "", nil, fmt.Errorf("make a temporary directory: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
