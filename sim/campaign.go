package sim

import (
	"fmt"
	"io"
	"maps"
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
	leastFaults = []string{"broken block", "clock jump", "crash", "cut off", "double", "doubled", "late", "lost", "one-way partition", "partition", "restart", "to half", "withheld", "wrong parent"}
	leastChecks = []string{"accountability", "agreement", "alive after healing", "bounded", "conservation", "durable before sent", "equal roots", "evidence", "justified by the twin", "never sign twice", "order independence", "restored anywhere", "snapshots"}
)

// Summary is what a campaign did.
type Summary struct {
	Kind       string         `json:"kind"` // "summary"
	Seeds      int            `json:"seeds"`
	Heights    uint64         `json:"heights"`
	Events     int            `json:"events"`
	Faults     map[string]int `json:"faults"`
	Checks     map[string]int `json:"checks"`
	Sometimes  map[string]int `json:"sometimes"`
	Missed     []string       `json:"sometimes_missed"` // places, faults and checks that were not reached
	Violations int            `json:"violations"`
	Speed      float64        `json:"speed_vs_real"` // simulated time by the time of one core

	Broken []*Violation `json:"-"`
}

// Campaign runs the seeds from a to b, each in its own world, on so many cores. It writes a
// line per violation to out.
func Campaign(a, b uint64, cores int, out io.Writer) (*Summary, error) {
	s := &Summary{Kind: "summary", Faults: map[string]int{}, Checks: map[string]int{}, Sometimes: map[string]int{}}
	var simulated types.Millis
	var spent time.Duration
	var mu sync.Mutex
	var failed error
	seeds := make(chan uint64)
	var all sync.WaitGroup
	for range cores {
		all.Go(func() {
			for seed := range seeds {
				start := time.Now()
				r, err := Run(Config{Seed: seed})
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					spent, simulated = spent+time.Since(start), simulated+r.Simulated
					s.add(r, out)
				}
				mu.Unlock()
			}
		})
	}
	for seed := a; seed <= b; seed++ {
		seeds <- seed
	}
	close(seeds)
	all.Wait()
	s.Speed = float64(simulated) / float64(max(spent.Milliseconds(), 1))
	for name, of := range map[string]struct {
		want []string
		have map[string]int
	}{"place": {places, s.Sometimes}, "fault": {leastFaults, s.Faults}, "check": {leastChecks, s.Checks}} {
		for _, x := range of.want {
			if of.have[x] == 0 {
				s.Missed = append(s.Missed, name+": "+x)
			}
		}
	}
	slices.Sort(s.Missed)
	return s, failed
}

func (s *Summary) add(r *Report, out io.Writer) {
	s.Seeds, s.Heights, s.Events = s.Seeds+1, s.Heights+r.Heights, s.Events+r.Events
	for to, from := range map[*map[string]int]map[string]int{&s.Faults: r.Faults, &s.Checks: r.Checks, &s.Sometimes: r.Sometimes} {
		for k, v := range from {
			(*to)[k] += v
		}
	}
	if r.Violation != nil {
		s.Violations++
		s.Broken = append(s.Broken, r.Violation)
		fmt.Fprintln(out, r.Violation)
	}
}

// String is the summary for people.
func (s *Summary) String() string {
	table := func(m map[string]int) (t string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			t += fmt.Sprintf("  %8d  %s\n", m[k], k)
		}
		return t
	}
	return fmt.Sprintf("%d seeds, %d heights, %d events, %.0f × real time, %d violations\nfaults\n%schecks\n%ssometimes\n%s",
		s.Seeds, s.Heights, s.Events, s.Speed, s.Violations, table(s.Faults), table(s.Checks), table(s.Sometimes))
}
