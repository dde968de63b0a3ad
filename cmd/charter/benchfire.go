package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	v1 "charter/api/charter/v1"
	"charter/internal/chaos"
	"charter/types"
)

// fireConfig is the flags of `charter bench fire`.
type fireConfig struct {
	Peers     int
	Duration  time.Duration
	KillEvery time.Duration
	Seed      uint64
	Rate      float64
	Limit     time.Duration
	Dir       string
	JSON      bool
}

// fireParams suit a dozen peers on few cores, with up to 45 ms between them: the leader's block is
// worth waiting for somewhat longer than on one machine.
var fireParams = func() types.Params {
	p := types.LocalParams
	p.WaitLeader, p.WaitQuorum = 250, 1000
	return p
}()

// fireSettings make caches small, so that they are full soon: what grows then is not a cache.
var fireSettings = map[string]string{"cache_mb": "8"}

func newBenchFireCommand() *cobra.Command {
	var c fireConfig
	cmd := &cobra.Command{
		Use:   "fire",
		Short: "Kill, pause and cut off real peers, and see that nothing is lost",
		Long: `Fire starts peers as processes, each in a network namespace of its own, and carries their packets itself: 5 to
40 ms late, up to 2 % of them lost, drawn anew for each path at each fault. While wallets pay over three agents it
kills a peer with -9 at each --kill-every and starts it again, stops peers (SIGSTOP) for some seconds, and cuts the
network in two, or peers off, for 5 to 15 s; all by a plan drawn from --seed.

What must hold, or the exit status is 1:

  final again      each peer, from the moment at which it runs and reaches more than two thirds of the peers that
                   run: a height that nobody had reached before is final there within --limit; and never does
                   finality stand still for longer while that lasts
  nothing lost     each payment that an agent acknowledged is applied, at all peers alike
  one past         all peers have the same checkpoint at each height that is looked at, in the end at all heights
  sound            no peer signs twice, no share is lost or made, no peer ends by itself or logs an error
  memory flat      of the last peer, which is never killed, after the first quarter of the run, in which buffers and
                   caches fill up: the median of the second half is no more than 1.25 times that of the first

Wallets reach their agents past the faults. It needs Linux, namespaces and /dev/net/tun: run it as root, or under
"unshare -rn"; where they are not to be had the exit status is 77.`,
		Example: "  charter bench fire\n  unshare -rn charter bench fire --peers 4 --duration 30s --kill-every 7s --json | tail -n 1",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := &fire{fireConfig: c, out: cmd.OutOrStdout()}
			return f.run(cmd.Context())
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&c.Peers, "peers", 12, "how many peers, 4 to 60")
	fl.DurationVar(&c.Duration, "duration", 10*time.Minute, "how long, 20s to 24h")
	fl.DurationVar(&c.KillEvery, "kill-every", 10*time.Second, "time between two kills")
	fl.Uint64Var(&c.Seed, "seed", 1, "of the plan and the weather")
	fl.Float64Var(&c.Rate, "rate", 20, "payments a second, up to 1000")
	fl.DurationVar(&c.Limit, "limit", 5*time.Second, "how soon after a heal heights must be final again")
	fl.StringVar(&c.Dir, "dir", "", "directory to keep (default: a temporary one, removed at the end if all went well)")
	fl.BoolVar(&c.JSON, "json", false, "print a summary as JSON in the end")
	return cmd
}

// fire is one run.
type fire struct {
	fireConfig
	out    io.Writer
	net    *localnet
	spaces []*chaos.Space
	hub    *chaos.Hub
	spend  *spender
	agents []*localPeer
	began  time.Time

	mu     sync.Mutex // guards all below
	states []peerState
	cut    *fault          // the cut of now; nil for none
	now    string          // the fault of now that is not a kill, for people
	heals  []heal          // that were measured
	void   int             // that were not, because the next fault came before
	faults []string        // what did not hold
	rss    []rssSample     // of all peers
	looked []looked        // checkpoints
	times  []time.Duration // of payments that were followed, from acknowledged to final
	sent   int
	loads  []float64 // load averages of the machine
}

func (f *fire) run(ctx context.Context) (err error) {
	if f.Peers < 4 || f.Peers > 60 || f.Duration < 20*time.Second || f.Duration > 24*time.Hour || f.KillEvery < time.Second || f.Rate <= 0 || f.Rate > 1000 || f.Limit <= 0 {
		return &usageError{errors.New("want 4 to 60 --peers, a --duration from 20s to 24h, a --kill-every of 1s or more, a --rate above 0 up to 1000, a positive --limit")}
	}
	if f.Dir == "" {
		if f.Dir, err = os.MkdirTemp("", "charter-fire-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		defer func() {
			var no *chaos.NotAllowed
			if err == nil || errors.As(err, &no) {
				_ = os.RemoveAll(f.Dir) // a temporary directory
			}
		}()
	} else if err := os.MkdirAll(f.Dir, 0o755); err != nil {
		return err
	}
	if err := f.open(); err != nil {
		return err
	}
	defer f.close()
	fmt.Fprintf(f.out, "starting %d peers in %s\n", f.Peers, f.Dir)
	if err := f.net.start(ctx, func(*localPeer) {}); err != nil {
		return errors.Join(err, f.net.stop())
	}
	var found auditSummary
	if err = f.spend.split(ctx, f.agents[0]); err == nil {
		found, err = f.burn(ctx)
	}
	if err != nil {
		return errors.Join(err, f.net.stop())
	}
	return f.report(found)
}

// open makes spaces and the network's directories.
func (f *fire) open() (err error) {
	var devices []io.ReadWriteCloser
	var places []place
	for i := range f.Peers {
		s, err := chaos.OpenSpace(chaos.Addr(i))
		if err != nil {
			f.close()
			return err
		}
		f.spaces, devices = append(f.spaces, s), append(devices, s.Device)
		places = append(places, place{udp: chaos.Addr(i).String() + ":7400", api: "127.0.0.1:7070", debug: "127.0.0.1:7071", space: s})
	}
	f.hub = chaos.NewHub(devices, f.Seed)
	splits := 1 + int(f.Rate*f.Duration.Seconds()*1.1)/splitInto
	f.net, err = placeLocalnet(f.Dir, places, "fire", fireParams, fireSettings, func(peers []types.Key) (outputs []types.GenesisOutput) {
		outputs = spendable(splits, 2*splitInto*types.UnitsPerShare, peers)
		for _, p := range peers { // so that all have about the same weight for the whole run
			outputs = append(outputs, types.GenesisOutput{Value: 1_000_000 * types.UnitsPerShare, Lock: p, Host: p})
		}
		return outputs
	})
	if err != nil {
		f.close()
		return err
	}
	f.spend = &spender{net: f.net, coins: genesisCoins(f.net, splits), acked: make(map[types.Hash]int)}
	for i := range 3 {
		f.agents = append(f.agents, f.net.peers[i*f.Peers/3])
	}
	f.states = make([]peerState, f.Peers)
	return nil
}

func (f *fire) close() {
	if f.hub != nil {
		f.hub.Close()
	}
	for _, s := range f.spaces {
		_ = s.Close() // it only lets go of a name
	}
}

// burn is the run, from the first payment to the audit. The error is one that makes a
// verdict impossible.
func (f *fire) burn(ctx context.Context) (found auditSummary, err error) {
	f.began = time.Now()
	for i := range f.states {
		f.states[i] = peerState{up: true, born: f.began}
	}
	f.rejudge("start")
	plan := drawPlan(f.Seed, f.Peers, f.Duration, f.KillEvery)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching, paying sync.WaitGroup
	watching.Go(func() { f.poll(ctx) })
	watching.Go(func() { f.sample(ctx) })
	watching.Go(func() { f.progress(ctx) })
	defer watching.Wait()
	defer cancel()
	load, stopLoad := context.WithTimeout(ctx, f.Duration)
	defer stopLoad()
	paying.Go(func() { f.pay(load, ctx, &paying) })
	err = f.act(ctx, plan)
	<-load.Done()
	if err == nil {
		err = f.settle(ctx, &paying)
	}
	cancel()
	paying.Wait()
	watching.Wait()
	if err != nil {
		return found, err
	}
	if err := f.net.stop(); err != nil {
		f.faultf("%v", err)
	}
	for _, p := range f.net.peers {
		lines, err := p.complaints()
		if err != nil {
			return found, err
		}
		for _, line := range lines {
			f.faultf("%s says: %s", p.name, line)
		}
	}
	var acked []types.Hash
	for id := range f.spend.acked {
		acked = append(acked, id)
	}
	found, faults := f.net.audit(acked)
	for _, err := range faults {
		f.faultf("%v", err)
	}
	return found, nil
}

func (f *fire) faultf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text := fmt.Sprintf(format, args...)
	f.faults = append(f.faults, text)
	fmt.Fprintf(f.out, "FAULT after %.1f s: %s\n", time.Since(f.began).Seconds(), text)
}

// act lets the plan's faults begin and end when they are due.
func (f *fire) act(ctx context.Context, plan []fault) error {
	rng := rand.New(rand.NewPCG(f.Seed, 2))
	f.weather(rng)
	type step struct {
		at time.Duration
		do func() error
	}
	var steps []step
	for _, x := range plan {
		steps = append(steps, step{x.At, func() error {
			if x.Kind != faultKill {
				f.weather(rng)
			}
			return f.begin(x)
		}}, step{x.At + x.For, func() error { return f.end(x) }})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return int(a.at - b.at) })
	for _, s := range steps {
		if err := pause(ctx, time.Until(f.began.Add(s.at))); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	return nil
}

// begin begins a fault.
func (f *fire) begin(x fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x.Kind {
	case faultKill:
		p := f.net.peers[x.Peers[0]]
		f.states[x.Peers[0]].up = false
		_ = p.cmd.Process.Kill() // it may have ended, which poll tells
		<-p.done
	case faultPause:
		f.now = x.String()
		for _, i := range x.Peers {
			f.states[i].paused = true
			_ = f.net.peers[i].cmd.Process.Signal(syscall.SIGSTOP)
		}
	case faultCut, faultDeaf:
		f.now, f.cut = x.String(), &x
		f.setCut()
	}
	f.rejudgeLocked(string(x.Kind))
	return nil
}

// end heals a fault.
func (f *fire) end(x fault) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch x.Kind {
	case faultKill:
		i := x.Peers[0]
		if err := f.net.peers[i].start(); err != nil {
			return err
		}
		f.states[i].up, f.states[i].paused, f.states[i].born = true, false, time.Now()
	case faultPause:
		f.now = ""
		for _, i := range x.Peers {
			f.states[i].paused = false
			_ = f.net.peers[i].cmd.Process.Signal(syscall.SIGCONT) // it may be dead just now
		}
	case faultCut, faultDeaf:
		f.now, f.cut = "", nil
		f.setCut()
	}
	f.rejudgeLocked(string(x.Kind))
	return nil
}

// weather draws all paths anew.
func (f *fire) weather(rng *rand.Rand) {
	for from := range f.Peers {
		for to := range f.Peers {
			f.hub.Set(from, to, weather(rng))
		}
	}
}

// setCut sets which paths are cut.
func (f *fire) setCut() {
	for from := range f.Peers {
		for to := range f.Peers {
			f.hub.Cut(from, to, f.cut != nil && f.cut.blocks(from, to))
		}
	}
}

// pay starts payments at the rate until load ends; those whose time to final is taken go on
// until all ends.
func (f *fire) pay(load, all context.Context, paying *sync.WaitGroup) {
	const followOneOf = 10
	tick := time.NewTicker(time.Duration(float64(time.Second) / f.Rate))
	defer tick.Stop()
	for {
		select {
		case <-load.Done():
			return
		case <-tick.C:
		}
		j, ok := f.spend.take()
		if !ok {
			return // the ticker was faster than it said; there is a tenth to spare
		}
		f.mu.Lock()
		f.sent++
		f.mu.Unlock()
		paying.Go(func() {
			id, at, err := f.spend.submit(load, j, f.agents, j)
			if err != nil {
				f.faultf("%v", err)
			}
			if at >= 0 && j%followOneOf == 0 {
				f.follow(all, id, at)
			}
		})
	}
}

// follow waits until an agent tells that a payment is final, and takes the time.
func (f *fire) follow(ctx context.Context, id types.Hash, at int) {
	began := time.Now()
	for ; ctx.Err() == nil; at++ {
		short, cancel := context.WithCancel(ctx)
		tier := watchTier(short, f.agents[at%len(f.agents)], id)
		cancel()
		switch tier {
		case v1.Tier_TIER_REJECTED:
			f.faultf("payment %s was acknowledged, and rejected", id.Short())
			return
		case v1.Tier_TIER_FINAL:
			f.mu.Lock()
			f.times = append(f.times, time.Since(began))
			f.mu.Unlock()
			return
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}

// watchTier watches a transaction at an agent until it is final or rejected, or the agent goes.
func watchTier(ctx context.Context, agent *localPeer, id types.Hash) v1.Tier {
	stream, err := agent.client().Watch(ctx, connect.NewRequest(&v1.WatchRequest{Transactions: []string{id.String()}}))
	if err != nil {
		return v1.Tier_TIER_UNKNOWN
	}
	defer stream.Close()
	for stream.Receive() {
		if t := stream.Msg().GetTier(); t != nil && (t.Tier == v1.Tier_TIER_FINAL || t.Tier == v1.Tier_TIER_REJECTED) {
			return t.Tier
		}
	}
	return v1.Tier_TIER_UNKNOWN
}

// settle waits, after the last payment, until no peer has any waiting, and all have come to
// one height. Then all that was acknowledged must be final, which the audit looks for.
func (f *fire) settle(ctx context.Context, paying *sync.WaitGroup) error {
	const patience = time.Minute
	deadline := time.Now().Add(patience)
	goal := uint64(0)
	for {
		f.mu.Lock()
		waiting, low := uint64(0), uint64(1<<63)
		for i := range f.states {
			s := &f.states[i]
			waiting += s.pool
			low = min(low, s.final)
			if goal == 0 && waiting > 0 {
				low = 0
			}
		}
		if goal == 0 && waiting == 0 {
			for i := range f.states {
				goal = max(goal, f.states[i].top)
			}
		}
		f.mu.Unlock()
		if goal > 0 && low >= goal {
			break
		}
		if time.Now().After(deadline) {
			f.faultf("%s after the last payment %d transactions wait, and the lowest final height is %d of %d", patience, waiting, low, goal)
			break
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	f.lookAgain(ctx)
	return nil
}

// report prints what came out. The error says that something did not hold.
func (f *fire) report(found auditSummary) error {
	s := f.sum(found)
	w := f.out
	fmt.Fprintf(w, `
peers                 %d on %d cores, load average %.1f (%.1f at most)
run                   %.0f s, seed %d; %d kills, %d pauses, %d cuts, %d deaf
packets               %d carried, %d lost, %d cut, %d overrun
heights               %d, %.1f a second
payments              %d sent, %d acknowledged, %d applied at all peers
final after           %.0f ms p50, %.0f ms p99, %.0f ms at most (%d followed)
checkpoints           %d heights compared while it ran, %d at all peers in the end
memory                %s: %.0f MB then %.0f MB, %+.1f MB a minute; all, 20 s old and more: %.0f MB then %.0f MB, %.0f at most
stood still           %.1f s at most while two thirds were there

`, s.Peers, s.Cores, s.LoadMean, s.LoadMax, s.Seconds, s.Seed, s.Kills, s.Pauses, s.Cuts, s.Deaf,
		s.Packets.Carried, s.Packets.Lost, s.Packets.Cut, s.Packets.Overrun, s.Audit.Height, float64(s.Audit.Height)/s.Seconds,
		s.Sent, s.Acknowledged, s.Audit.Payments, s.Final.P50, s.Final.P99, s.Final.Max, s.Followed, s.Compared, s.Audit.Height,
		f.net.peers[f.Peers-1].name, s.Memory.SparedFirst, s.Memory.SparedSecond, s.Memory.SparedSlope, s.Memory.AllFirst, s.Memory.AllSecond, s.Memory.Max, s.StoodStill)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FINAL AGAIN AFTER\tHEALS\tPEERS\tP50\tP99\tAT MOST\tTOO LATE")
	for _, h := range s.Heals {
		fmt.Fprintf(t, "%s\t%d\t%d\t%.1f s\t%.1f s\t%.1f s\t%d\n", h.After, h.Heals, h.Peers, h.P50, h.P99, h.Max, h.Late)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "not measured, because a fault came before: %d\n", s.Void)
	if len(s.Faults) > 0 {
		fmt.Fprintf(w, "\n%d things do not hold; the peers' logs are in %s:\n  %s\n", len(s.Faults), f.Dir, strings.Join(s.Faults, "\n  "))
	} else {
		fmt.Fprintln(w, "\nall of it holds")
	}
	if f.JSON {
		if err := printJSON(w, s); err != nil {
			return err
		}
	}
	if len(s.Faults) > 0 {
		return errSaid
	}
	return nil
}

// fireSummary is the last line of --json.
type fireSummary struct {
	Kind         string        `json:"kind"`
	Peers        int           `json:"peers"`
	Cores        int           `json:"cores"`
	Seed         uint64        `json:"seed"`
	Seconds      float64       `json:"seconds"`
	LoadMean     float64       `json:"load_mean"`
	LoadMax      float64       `json:"load_max"`
	Kills        int           `json:"kills"`
	Pauses       int           `json:"pauses"`
	Cuts         int           `json:"cuts"`
	Deaf         int           `json:"deaf"`
	Packets      chaos.Stats   `json:"packets"`
	Sent         int           `json:"payments_sent"`
	Acknowledged int           `json:"payments_acknowledged"`
	Followed     int           `json:"payments_followed"`
	Final        millisSummary `json:"final_ms"`
	Compared     int           `json:"checkpoints_compared"`
	Memory       memorySummary `json:"memory_mb"`
	StoodStill   float64       `json:"stood_still_s"`
	Heals        []healSummary `json:"heals"`
	Void         int           `json:"heals_void"`
	Audit        auditSummary  `json:"audit"`
	Faults       []string      `json:"faults"`
}

func (f *fire) sum(found auditSummary) fireSummary {
	s := fireSummary{
		Kind: "summary", Peers: f.Peers, Cores: runtime.NumCPU(), Seed: f.Seed, Seconds: f.Duration.Seconds(),
		Packets: f.hub.Stats(), Sent: f.sent, Acknowledged: len(f.spend.acked), Followed: len(f.times), Final: percentiles(f.times),
		Compared: len(f.looked), Memory: f.sumMemory(), Heals: f.sumHeals(), Void: f.void, Audit: found, Faults: f.faults,
	}
	for _, x := range drawPlan(f.Seed, f.Peers, f.Duration, f.KillEvery) {
		*map[faultKind]*int{faultKill: &s.Kills, faultPause: &s.Pauses, faultCut: &s.Cuts, faultDeaf: &s.Deaf}[x.Kind]++
	}
	for _, l := range f.loads {
		s.LoadMean += l / float64(len(f.loads))
		s.LoadMax = max(s.LoadMax, l)
	}
	for i := range f.states {
		s.StoodStill = max(s.StoodStill, f.states[i].stood.Seconds())
	}
	if d := f.Duration; d >= 2*time.Minute && s.Memory.SparedSecond > 1.25*s.Memory.SparedFirst {
		s.Faults = append(s.Faults, fmt.Sprintf("memory of the peer that was never killed: %.0f MB at first, and %.0f MB later", s.Memory.SparedFirst, s.Memory.SparedSecond))
	}
	return s
}
