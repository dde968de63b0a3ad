package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/spf13/cobra"
)

// syncConfig is the flags of `charter bench sync`.
type syncConfig struct {
	Peers    int
	Duration time.Duration
	Window   int
	Rate     float64
	Latency  time.Duration
	Dir      string
	JSON     bool
}

func newBenchSyncCommand() *cobra.Command {
	var c syncConfig
	cmd := &cobra.Command{
		Use:   "sync",
		Short: "Measure how fast a peer that was away catches up",
		Long: `Sync starts peers as processes, kills one of them, and pays over the others for a while. Then it starts that one
again, and measures how long it takes until it serves what the others had made final by then. It verifies all of it.
The others make heights meanwhile; nobody pays.`,
		Example: `  charter bench sync --duration 20s
  charter bench sync --rate 100 --json | tail -n 1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 4, "how many peers, 4 to 30")
	f.DurationVar(&c.Duration, "duration", 20*time.Second, "how long to pay before")
	f.IntVar(&c.Window, "window", 1024, "payers")
	f.Float64Var(&c.Rate, "rate", 0, "payments a second; 0: as many as the window allows")
	f.DurationVar(&c.Latency, "latency", 0, "time that each packet between peers waits before it is sent")
	f.StringVar(&c.Dir, "dir", "", "directory to keep (default: a temporary one, removed at the end)")
	f.BoolVar(&c.JSON, "json", false, "print a summary as JSON in the end")
	return cmd
}

// syncSummary is the last line of --json.
type syncSummary struct {
	Kind       string  `json:"kind"`
	Peers      int     `json:"peers"`
	Heights    uint64  `json:"heights"`
	Payments   int64   `json:"payments"`
	Seconds    float64 `json:"seconds"`
	HeightsPS  float64 `json:"heights_per_s"`
	PaymentsPS float64 `json:"payments_per_s"`
	CPU        float64 `json:"cpu_s"` // of the peer that catches up
	Cores      int     `json:"cores"`
}

func (c *syncConfig) run(ctx context.Context, out io.Writer) (err error) {
	if c.Peers < 4 || c.Peers > 30 || c.Window < 1 || c.Rate < 0 || c.Duration <= 0 || c.Latency < 0 || c.Latency > time.Second {
		return &usageError{errors.New("want 4 to 30 --peers, a --window of 1 or more, a --rate of 0 or more, a positive --duration, a --latency up to 1s")}
	}
	dir, clean, err := benchDir(c.Dir)
	if err != nil {
		return err
	}
	defer clean()
	need := c.Rate
	if need == 0 {
		need = signedAhead
	}
	l, err := newLoad(dir, c.Peers, c.Peers-1, c.Window, c.Rate, int(need*c.Duration.Seconds()), c.Latency, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.net.stop()) }()
	fmt.Fprintf(out, "starting %d peers in %s, and paying for %s\n", c.Peers, dir, c.Duration)
	paying, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := l.start(paying); err != nil {
		return err
	}
	p := l.net.peers[len(l.net.peers)-1]
	was, err := p.status(ctx)
	if err != nil {
		return err
	}
	if err := p.kill(); err != nil {
		return err
	}
	l.pay(paying)
	if err := pause(ctx, c.Duration); err != nil {
		return err
	}
	cancel()
	if err := pause(ctx, 2*time.Second); err != nil { // what is under way becomes final
		return err
	}
	s, err := l.net.peers[0].status(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := p.start(); err != nil {
		return err
	}
	took, err := l.reach(ctx, p, s.FinalHeight, began)
	if err != nil {
		return err
	}
	cpu, _ := process(p.cmd.Process.Pid)
	heights := s.FinalHeight - was.FinalHeight
	sum := syncSummary{
		Kind: "summary", Peers: c.Peers, Heights: heights, Payments: l.sent.Load(), Seconds: took,
		HeightsPS: float64(heights) / took, PaymentsPS: float64(l.sent.Load()) / took, CPU: cpu, Cores: runtime.NumCPU(),
	}
	fmt.Fprintf(out, `caught up             %d heights with %d payments in %.1f s
heights               %.0f a second
payments              %.0f a second
CPU of the peer       %.1f s
`, sum.Heights, sum.Payments, sum.Seconds, sum.HeightsPS, sum.PaymentsPS, sum.CPU)
	if c.JSON {
		return printJSON(out, sum)
	}
	return nil
}

// idleConfig is the flags of `charter bench idle`.
type idleConfig struct {
	Peers    int
	Duration time.Duration
	Dir      string
	JSON     bool
}

func newBenchIdleCommand() *cobra.Command {
	var c idleConfig
	cmd := &cobra.Command{
		Use:   "idle",
		Short: "Measure what a peer costs while nobody pays",
		Long: `Idle starts peers as processes, waits, and tells what one of them takes of a processor, of the disk and of the
network while nobody pays.`,
		Example: `  charter bench idle --duration 1m`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 4, "how many peers, 1 to 30")
	f.DurationVar(&c.Duration, "duration", time.Minute, "how long to measure")
	f.StringVar(&c.Dir, "dir", "", "directory to keep (default: a temporary one, removed at the end)")
	f.BoolVar(&c.JSON, "json", false, "print a summary as JSON in the end")
	return cmd
}

// idleSummary is the last line of --json. Its figures are of one peer.
type idleSummary struct {
	Kind      string  `json:"kind"`
	Peers     int     `json:"peers"`
	Seconds   float64 `json:"seconds"`
	CPU       float64 `json:"cpu_percent"` // of one processor
	Disk      float64 `json:"disk_mb_per_day"`
	Sent      float64 `json:"sent_mb_per_day"`
	RSS       float64 `json:"rss_mb_max"`
	HeightsPS float64 `json:"heights_per_s"`
}

func (c *idleConfig) run(ctx context.Context, out io.Writer) (err error) {
	if c.Peers < 1 || c.Peers > 30 || c.Duration <= 0 {
		return &usageError{errors.New("want 1 to 30 --peers, and a positive --duration")}
	}
	dir, clean, err := benchDir(c.Dir)
	if err != nil {
		return err
	}
	defer clean()
	l, err := newLoad(dir, c.Peers, c.Peers, 1, 1, 0, 0, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.net.stop()) }()
	fmt.Fprintf(out, "starting %d peers in %s\n", c.Peers, dir)
	if err := l.net.start(ctx, func(*localPeer) {}); err != nil {
		return err
	}
	if err := pause(ctx, 5*time.Second); err != nil { // until all have met
		return err
	}
	before, err := l.usage(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, c.Duration); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	after, err := l.usage(ctx)
	if err != nil {
		return err
	}
	used, n := after.less(before), float64(c.Peers)
	const day = 24 * 3600 / 1e6
	s := idleSummary{
		Kind: "summary", Peers: c.Peers, Seconds: took, CPU: 100 * used.cpu / took / n, Disk: float64(used.disk) / took / n * day,
		Sent: used.sent / took / n * day, RSS: float64(after.rss) / (1 << 20), HeightsPS: float64(used.height) / took,
	}
	fmt.Fprintf(out, `CPU of a peer         %.2f %% of one processor
disk of a peer        %.1f MB a day
sent by a peer        %.1f MB a day
memory of a peer      %.0f MB at most
heights               %.2f a second
`, s.CPU, s.Disk, s.Sent, s.RSS, s.HeightsPS)
	if c.JSON {
		return printJSON(out, s)
	}
	return nil
}
