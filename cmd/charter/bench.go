package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/client"
	"charter/ledger"
	"charter/sig"
	"charter/types"
)

var _ = enter(newBenchCommand)

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure Charter on this machine",
		Long:    "Measure Charter on this machine, and print the figures that BENCHMARKS.md has.",
		Example: "  charter bench net --peers 4 --duration 20s",
	}
	cmd.AddCommand(newBenchNetCommand(), newBenchProofsCommand(), newBenchFireCommand())
	return cmd
}

// benchConfig is the flags of `charter bench net`.
type benchConfig struct {
	Peers    int
	Duration time.Duration
	Warmup   time.Duration
	Window   int
	Rate     float64
	Dir      string
	Resume   bool
	JSON     bool
}

func newBenchNetCommand() *cobra.Command {
	var c benchConfig
	cmd := &cobra.Command{
		Use:   "net",
		Short: "Pay as fast as a network of processes on this machine can make final",
		Long: `Net starts peers as processes and pays over them: real signatures, storage with fsync, all five trees. Each
payment has one input and two outputs: one to a lock of its own, and the change.

With --window, so many payers pay again as soon as their last payment is final (a closed loop: throughput). With
--rate, payments start at that rate whatever becomes of them (latency). A payment's time is from its submission to
the moment at which the agent that it was given to tells that it is final. The load's own work is on the same
machine and counts in cpu_s_per_1k only where it says so.`,
		Example: `  charter bench net --window 1024 --duration 20s
  charter bench net --rate 10 --duration 30s --json | tail -n 1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := &bench{benchConfig: c, out: cmd.OutOrStdout()}
			return b.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 4, "how many peers, 1 to 30")
	f.DurationVar(&c.Duration, "duration", 20*time.Second, "how long to measure")
	f.DurationVar(&c.Warmup, "warmup", 3*time.Second, "how long to pay before that")
	f.IntVar(&c.Window, "window", 1024, "payers")
	f.Float64Var(&c.Rate, "rate", 0, "payments a second; 0: as many as the window allows")
	f.StringVar(&c.Dir, "dir", "", "directory to keep (default: a temporary one, removed at the end)")
	f.BoolVar(&c.Resume, "resume", false, "in the end kill a peer with -9, start it again, and measure how long until it serves")
	f.BoolVar(&c.JSON, "json", false, "print a summary as JSON in the end")
	return cmd
}

// bench is one run.
type bench struct {
	benchConfig
	out    io.Writer
	net    *localnet
	chain  types.Hash
	payers []*payer
	byLock map[string]*payer
	turn   chan *payer // who may pay next, with --rate

	measuring atomic.Bool
	failed    atomic.Int64
	sent      atomic.Int64
	mu        sync.Mutex
	times     []time.Duration // of payments that began and ended while measuring
	done      int             // that ended while measuring
}

// payer pays to itself and away, always from its newest change.
type payer struct {
	key    sig.PrivateKey
	lock   types.Key
	host   types.Key
	client charterv1connect.AgentClient
	coin   types.Input
	id     types.Hash
	began  time.Time
}

func (b *bench) run(ctx context.Context) (err error) {
	if b.Peers < 1 || b.Peers > 30 || b.Window < 1 || b.Rate < 0 || b.Duration <= 0 {
		return &usageError{errors.New("want 1 to 30 --peers, a --window of 1 or more, a --rate of 0 or more, a positive --duration")}
	}
	if b.Dir == "" {
		if b.Dir, err = os.MkdirTemp("", "charter-bench-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		defer os.RemoveAll(b.Dir)
	}
	if err := b.found(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.net.stop()) }()
	fmt.Fprintf(b.out, "starting %d peers in %s\n", b.Peers, b.Dir)
	if err := b.net.start(ctx, func(*localPeer) {}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.watch(ctx); err != nil {
		return err
	}
	return b.measure(ctx)
}

// found makes the network, with a coin for each payer.
func (b *bench) found() (err error) {
	if err := os.MkdirAll(b.Dir, 0o755); err != nil {
		return err
	}
	b.byLock = make(map[string]*payer)
	b.turn = make(chan *payer, b.Window)
	for range b.Window {
		key, err := sig.ParsePrivateKey(client.Entropy())
		if err != nil {
			return err
		}
		p := &payer{key: key, lock: key.Public()}
		b.payers = append(b.payers, p)
		b.byLock[p.lock.String()] = p
	}
	b.net, err = newLocalnet(b.Dir, b.Peers, "bench", types.LocalParams, func(peers []types.Key) (outputs []types.GenesisOutput) {
		for i, p := range b.payers {
			p.host = peers[i%len(peers)]
			outputs = append(outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: p.lock, Host: p.host})
		}
		for _, p := range peers { // so that each has weight, however few payers there are
			outputs = append(outputs, types.GenesisOutput{Value: 1_000_000 * types.UnitsPerShare, Lock: p, Host: p})
		}
		return outputs
	})
	if err != nil {
		return err
	}
	b.chain = b.net.genesis.ChainID()
	transport := &http.Transport{MaxIdleConnsPerHost: 64, MaxConnsPerHost: 64}
	for i, p := range b.payers {
		at := b.net.peers[i%len(b.net.peers)]
		p.client = charterv1connect.NewAgentClient(&http.Client{Transport: transport}, "http://"+at.api)
		p.coin = types.Input{Position: uint64(i), Source: b.chain, Index: uint32(i), Output: types.Output(b.net.genesis.Outputs[i])}
	}
	return nil
}

// watch follows the payers' locks at their agents.
func (b *bench) watch(ctx context.Context) error {
	const atOnce = 4096
	for i := range b.net.peers {
		var locks []string
		var c charterv1connect.AgentClient
		for j := i; j < len(b.payers); j += len(b.net.peers) {
			locks, c = append(locks, b.payers[j].lock.String()), b.payers[j].client
		}
		for chunk := range slices.Chunk(locks, atOnce) {
			stream, err := c.Watch(ctx, connect.NewRequest(&v1.WatchRequest{Locks: chunk}))
			if err != nil {
				return err
			}
			go func() {
				for stream.Receive() {
					if k := stream.Msg().GetKey(); k != nil && !k.Spent {
						b.paid(ctx, k)
					}
				}
				if err := stream.Err(); err != nil && ctx.Err() == nil {
					fmt.Fprintf(b.out, "a watch ended: %v\n", err)
				}
			}()
		}
	}
	return nil
}

// paid takes note of an output under a payer's lock that became final.
func (b *bench) paid(ctx context.Context, k *v1.KeyEvent) {
	p := b.byLock[k.Lock]
	e, err := types.DecodeKeyEvent(k.Event)
	if err != nil || p == nil || e.Transaction != p.id {
		return // its coin of genesis
	}
	now := time.Now()
	if b.measuring.Load() {
		b.mu.Lock()
		b.done++
		b.times = append(b.times, now.Sub(p.began))
		b.mu.Unlock()
	}
	p.coin = types.Input{Position: e.Position, Source: e.Transaction, Index: e.Index, Output: e.Output}
	if b.Rate > 0 {
		b.turn <- p
		return
	}
	go b.pay(ctx, p)
}

// pay makes and submits a payer's next payment.
func (b *bench) pay(ctx context.Context, p *payer) {
	key, err := sig.ParsePrivateKey(client.Entropy())
	if err != nil {
		b.failed.Add(1)
		return
	}
	const fee, amount = 1000, 1000
	tx := &types.Transaction{
		ValidUntil: types.MaxTime, Fee: fee, Inputs: []types.Input{p.coin},
		Outputs: []types.Output{
			{Value: amount, Lock: key.Public(), Host: p.host},
			{Value: p.coin.Output.Value - fee - amount, Lock: p.lock, Host: p.host},
		},
	}
	if err := ledger.SignTransaction(b.chain, tx, []sig.PrivateKey{p.key}); err != nil {
		b.failed.Add(1)
		return
	}
	p.id, p.began = tx.ID(b.chain), time.Now()
	raw := tx.Encode()
	for {
		_, err := p.client.Submit(ctx, connect.NewRequest(&v1.SubmitRequest{Transaction: raw}))
		if err == nil {
			b.sent.Add(1)
			return
		}
		if connect.CodeOf(err) != connect.CodeResourceExhausted || ctx.Err() != nil {
			if ctx.Err() == nil && b.failed.Add(1) == 1 {
				fmt.Fprintf(b.out, "a payment was refused: %v\n", err)
			}
			return
		}
		time.Sleep(20 * time.Millisecond) // the pool is full: that is what a closed loop waits for
	}
}

// measure pays, and sums up.
func (b *bench) measure(ctx context.Context) error {
	for _, p := range b.payers {
		if b.Rate > 0 {
			b.turn <- p
		} else {
			go b.pay(ctx, p)
		}
	}
	if b.Rate > 0 {
		go b.drive(ctx)
	}
	if err := pause(ctx, b.Warmup); err != nil {
		return err
	}
	before, err := b.usage(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	b.measuring.Store(true)
	for left := b.Duration; left > 0; left -= 5 * time.Second {
		if err := pause(ctx, min(left, 5*time.Second)); err != nil {
			return err
		}
		b.mu.Lock()
		fmt.Fprintf(b.out, "%3.0f s: %d final, %.0f a second\n", time.Since(began).Seconds(), b.done, float64(b.done)/time.Since(began).Seconds())
		b.mu.Unlock()
	}
	b.measuring.Store(false)
	took := time.Since(began)
	after, err := b.usage(ctx)
	if err != nil {
		return err
	}
	s := b.sum(took, before, after)
	if b.Resume {
		if s.ResumeS, err = b.resume(ctx, after.height); err != nil {
			return err
		}
	}
	return b.report(s)
}

// resume kills a peer, starts it again, and gives the seconds until it serves what it had.
func (b *bench) resume(ctx context.Context, height uint64) (float64, error) {
	p := b.net.peers[len(b.net.peers)-1]
	if err := p.cmd.Process.Kill(); err != nil {
		return 0, err
	}
	<-p.done
	began := time.Now()
	if err := p.start(); err != nil {
		return 0, err
	}
	for {
		if err := p.await(ctx); err != nil {
			return 0, err
		}
		if s, err := p.status(ctx); err == nil && s.FinalHeight >= height {
			return time.Since(began).Seconds(), nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

// drive starts payments at the rate.
func (b *bench) drive(ctx context.Context) {
	tick := time.NewTicker(time.Duration(float64(time.Second) / b.Rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case p := <-b.turn:
			go b.pay(ctx, p)
		default: // all payers wait for their payments: the network is slower than the rate
			b.failed.Add(1)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// usage is what the peers have used up.
type usage struct {
	cpu    float64 // seconds, of all peers
	rss    int64   // bytes, of the largest
	disk   int64   // bytes, of all
	height uint64  // final
}

func (b *bench) usage(ctx context.Context) (u usage, err error) {
	for _, p := range b.net.peers {
		cpu, rss := process(p.cmd.Process.Pid)
		u.cpu += cpu
		u.rss = max(u.rss, rss)
		u.disk += diskBytes(p.dir)
	}
	s, err := b.net.peers[0].status(ctx)
	if err != nil {
		return u, err
	}
	u.height = s.FinalHeight
	return u, nil
}

// process is the CPU seconds and resident bytes of a process, zero where /proc does not tell.
func process(pid int) (cpu float64, rss int64) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	number := func(i int) int64 { // by its number in proc(5), from 3
		n, _ := strconv.ParseInt(fields[i-3], 10, 64)
		return n
	}
	return float64(number(14)+number(15)) / 100, number(24) * int64(os.Getpagesize())
}

func diskBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil { // else it was just removed
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// benchSummary is the last line of --json.
type benchSummary struct {
	Kind      string        `json:"kind"`
	Peers     int           `json:"peers"`
	Window    int           `json:"window"`
	Rate      float64       `json:"rate"`
	Seconds   float64       `json:"seconds"`
	Payments  int           `json:"payments"`
	Failed    int64         `json:"failed"`
	TPS       float64       `json:"tps"`
	Final     millisSummary `json:"final_ms"`
	CPU       float64       `json:"cpu_s_per_1k"` // of the peers
	RSS       float64       `json:"rss_mb_max"`
	Disk      float64       `json:"disk_bytes_per_tx"` // of one peer, before the storage engine has compacted
	HeightsPS float64       `json:"heights_per_s"`
	ResumeS   float64       `json:"resume_s,omitempty"` // of a killed peer, until it serves
	Paid      int64         `json:"payments_in_all"`    // warm-up included
	Cores     int           `json:"cores"`
}

func (b *bench) sum(took time.Duration, before, after usage) benchSummary {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := float64(max(b.done, 1))
	return benchSummary{
		Kind: "summary", Peers: b.Peers, Window: b.Window, Rate: b.Rate, Seconds: took.Seconds(), Payments: b.done,
		Failed: b.failed.Load(), TPS: float64(b.done) / took.Seconds(), Final: percentiles(b.times),
		CPU: (after.cpu - before.cpu) / n * 1000, RSS: float64(after.rss) / (1 << 20),
		Disk:      float64(after.disk-before.disk) / n / float64(b.Peers),
		HeightsPS: float64(after.height-before.height) / took.Seconds(), Cores: runtime.NumCPU(), Paid: b.sent.Load(),
	}
}

func (b *bench) report(s benchSummary) error {
	fmt.Fprintf(b.out, `peers                 %d on %d cores
payments final        %d in %.1f s, %d failed
throughput            %.0f a second
final after           %.1f ms p50, %.1f ms p99, %.1f ms at most
CPU of all peers      %.2f s per 1,000 payments
memory of a peer      %.0f MB at most
disk of a peer        %.0f bytes per payment, before compaction
heights               %.1f a second
`, s.Peers, s.Cores, s.Payments, s.Seconds, s.Failed, s.TPS, s.Final.P50, s.Final.P99, s.Final.Max, s.CPU, s.RSS, s.Disk, s.HeightsPS)
	if b.Resume {
		fmt.Fprintf(b.out, "resume after kill -9   %.2f s until it serves, with %d payments\n", s.ResumeS, s.Paid)
	}
	if b.JSON {
		if err := printJSON(b.out, s); err != nil {
			return err
		}
	}
	if s.Payments == 0 {
		return errors.New("no payment became final; see the peers' logs with --dir")
	}
	return nil
}
