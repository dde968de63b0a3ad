package sim

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"charter/types"
)

// places is where a campaign must have been: one that was not there has not tried what it
// is for.
var places = []string{
	"agreement broken, and a third named", "block refused", "built without two thirds", "catch-up", "climbed over heights",
	"crash with unsynced data", "empty height", "evidence", "hand-over to fewer peers", "hand-over to more peers",
	"hand-over to other shares", "height direct", "height indirect", "height passed over", "height skipped",
	"missing block asked for", "parent below the last height", "payment rejected", "restart at a floor", "restart from genesis",
	"restored at a lower floor", "run closed", "run closed in a partition", "tier known", "tier official", "tier seen", "tier selected",
}

// leastFaults is which faults must have struck, and leastChecks what must have been checked.
var (
	leastFaults = []string{
		"broken block", "clock jump", "clog", "closing block withheld", "crash", "crash after a write", "crash after sending",
		"crash before a write", "cut off", "double", "doubled", "false checkpoint", "garbage", "hoarded", "late", "lost", "lured", "old vote",
		"one-way partition", "overtaken", "partition", "raced", "refused to name", "restart", "sent to one side first", "split leader", "to be pulled", "to half",
		"twins part", "variant", "withheld", "wrong parent",
	}
	leastChecks = []string{
		"accountability", "agreement", "alive after healing", "blocks per author", "bounded", "certificate", "certified", "changed proof refused",
		"client truth", "conservation", "durable", "durable before sent", "equal roots", "evidence", "false checkpoint evidence",
		"fetched at most twice", "final within ten heights", "from scratch as step by step", "justified", "justified by the twin", "never sign twice", "order independence",
		"proof verifies", "restored anywhere", "roots from nothing", "snapshots",
	}
)

// FullCampaign is how many seeds must have been everywhere, if nothing of them is fixed.
const FullCampaign = 150

// leastHeights is how many heights a full campaign decides per seed, at least.
const leastHeights = 40

// Campaign is many seeds, each in its own world.
type Campaign struct {
	From, To uint64 // seeds, both included
	Cores    int
	Each     Config // but for the seed
	// Told is called for each run that is over, one at a time. Nil: nobody listens.
	Told func(*Report)
}

// Summary is what a campaign did.
type Summary struct {
	Kind       string         `json:"kind"` // "summary"
	Seeds      int            `json:"seeds"`
	Heights    uint64         `json:"heights"`
	Events     int            `json:"events"`
	Faults     map[string]int `json:"faults"`    // how often each struck
	Checks     int            `json:"checks"`    // in all
	Checked    map[string]int `json:"checked"`   // of them for each invariant
	Sometimes  map[string]int `json:"sometimes"` // how often each place was reached
	Missed     []string       `json:"sometimes_missed"`
	Violations int            `json:"violations"`
	Simulated  float64        `json:"simulated_seconds"`
	CoreTime   float64        `json:"core_seconds"`
	Speed      float64        `json:"speed_vs_real"` // simulated time by that of one core
	Trace      types.Hash     `json:"trace"`         // over the traces of all seeds: two processes agree on it
	Stopped    bool           `json:"stopped"`       // before its end
	Short      string         `json:"short,omitempty"`

	Broken []*Violation `json:"-"`
	traces map[uint64]types.Hash
}

// Passed reports whether nothing was violated and, if it was a full campaign, everything reached.
func (s *Summary) Passed() bool { return s.Violations == 0 && s.Short == "" }

// Run runs a campaign until all seeds are done, or the context is: then the summary is of
// what was done so far.
func (c *Campaign) Run(ctx context.Context) (*Summary, error) {
	s := &Summary{Kind: "summary", Faults: map[string]int{}, Checked: map[string]int{}, Sometimes: map[string]int{}, Missed: []string{}, traces: map[uint64]types.Hash{}}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	before := cpuTime()
	var mu sync.Mutex
	var failed error
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range c.Cores {
		workers.Go(func() {
			for seed := range seeds {
				cfg := c.Each
				cfg.Seed = seed
				start := time.Now()
				r, err := Run(ctx, cfg)
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					s.CoreTime += time.Since(start).Seconds()
					s.add(r)
					if c.Told != nil {
						c.Told(r)
					}
				}
				mu.Unlock()
			}
		})
	}
	for seed := c.From; seed <= c.To && ctx.Err() == nil; seed++ {
		select {
		case seeds <- seed:
		case <-ctx.Done():
		}
	}
	close(seeds)
	workers.Wait()
	if used := cpuTime() - before; used > 0 {
		s.CoreTime = used.Seconds() // other programs may have the machine, too
	}
	s.finish(c)
	s.Stopped = ctx.Err() != nil
	return s, failed
}

// finish works out what follows from all runs.
func (s *Summary) finish(c *Campaign) {
	s.Speed = s.Simulated / max(s.CoreTime, 1e-3)
	for name, of := range map[string]struct {
		want []string
		have map[string]int
	}{"place": {places, s.Sometimes}, "fault": {leastFaults, s.Faults}, "check": {leastChecks, s.Checked}} {
		for _, x := range of.want {
			if of.have[x] == 0 {
				s.Missed = append(s.Missed, name+": "+x)
			}
		}
	}
	slices.Sort(s.Missed)
	for _, seed := range slices.Sorted(maps.Keys(s.traces)) {
		t := s.traces[seed]
		s.Trace = tagDigest.Hash(s.Trace[:], t[:])
	}
	free := c.Each.Peers == 0 && c.Each.Time == 0 && c.Each.Latency == AnyLatency && c.Each.Faults == nil && !c.Each.Calm
	switch {
	case !free || s.Seeds < FullCampaign:
	case len(s.Missed) > 0:
		s.Short = fmt.Sprintf("%d places, faults or checks were never reached", len(s.Missed))
	case s.Heights < leastHeights*uint64(s.Seeds):
		s.Short = fmt.Sprintf("only %d heights were decided", s.Heights)
	}
}

func (s *Summary) add(r *Report) {
	if r.Stopped {
		return
	}
	s.Seeds, s.Heights, s.Events = s.Seeds+1, s.Heights+r.Heights, s.Events+r.Events
	s.Simulated += float64(r.Simulated) / 1000
	for to, from := range map[*map[string]int]map[string]int{&s.Faults: r.Faults, &s.Checked: r.Checks, &s.Sometimes: r.Sometimes} {
		for k, v := range from {
			(*to)[k] += v
		}
	}
	for _, v := range r.Checks {
		s.Checks += v
	}
	s.traces[r.Seed] = r.Trace
	if r.Violation != nil {
		s.Violations++
		s.Broken = append(s.Broken, r.Violation)
	}
}

// Print writes the summary for people.
func (s *Summary) Print(out io.Writer) {
	table := func(name string, m map[string]int) {
		fmt.Fprintf(out, "%s\n", name)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(out, "  %8d  %s\n", m[k], k)
		}
	}
	table("faults", s.Faults)
	table("checks", s.Checked)
	table("sometimes", s.Sometimes)
	for _, m := range s.Missed {
		fmt.Fprintf(out, "never reached: %s\n", m)
	}
	fmt.Fprintf(out, "%d seeds, %d heights, %d events, %d checks, %.0f × real time on one core, trace %s\n", s.Seeds, s.Heights, s.Events, s.Checks, s.Speed, s.Trace.Short())
	if s.Short != "" {
		fmt.Fprintf(out, "falls short: %s\n", s.Short)
	}
	fmt.Fprintf(out, "%d violations\n", s.Violations)
}
