package sim

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestCampaign runs seeds with all faults, fewer than CI does (`charter sim`), and asks that
// nothing breaks. SIM_SEEDS=a..b runs others.
func TestCampaign(t *testing.T) {
	c := Campaign{From: 0, To: 39, Cores: 2}
	if s := os.Getenv("SIM_SEEDS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d..%d", &c.From, &c.To); err != nil {
			t.Fatalf("SIM_SEEDS=%s: want a..b", s)
		}
	}
	s, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Print(t.Output())
	for _, v := range s.Broken {
		t.Error(v)
	}
	if n := uint64(s.Seeds); n != c.To-c.From+1 || s.Heights < leastHeights*n || len(s.Missed) > (len(places)+len(leastFaults)+len(leastChecks))/2 {
		t.Errorf("the campaign did next to nothing: %d seeds, %d heights, never reached: %s", n, s.Heights, strings.Join(s.Missed, "; "))
	}
}

// TestCanary plants mistakes that a campaign must find.
func TestCanary(t *testing.T) {
	for bug := NoBug + 1; bug < bugEnd; bug++ {
		t.Run(bug.String(), func(t *testing.T) {
			for seed := range uint64(20) {
				r, err := Run(t.Context(), Config{Seed: seed, Bug: bug, Time: 8000})
				if err != nil {
					t.Fatal(err)
				}
				if r.Violation != nil {
					t.Logf("found at seed %d: %s: %s", seed, r.Violation.Invariant, r.Violation.What)
					return
				}
			}
			t.Error("not found")
		})
	}
}

// TestDeterminism runs seeds in two processes, and wants one history of each.
func TestDeterminism(t *testing.T) {
	const seeds = 4
	var here strings.Builder
	for seed := range uint64(seeds) {
		r, err := Run(t.Context(), Config{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&here, "trace %d %s\n", seed, r.Trace)
	}
	if os.Getenv("SIM_CHILD") != "" {
		fmt.Print(here.String())
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDeterminism$")
	cmd.Env = append(os.Environ(), "SIM_CHILD=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !strings.Contains(string(out), here.String()) {
		t.Errorf("another process has another history:\n%s\nhere:\n%s", out, here.String())
	}
}

func BenchmarkRun(b *testing.B) {
	for _, peers := range []int{4, 12} {
		b.Run(fmt.Sprint(peers), func(b *testing.B) {
			var simulated, heights float64
			for i := range b.N {
				r, err := Run(b.Context(), Config{Seed: uint64(i), Peers: peers, Calm: true, Time: 60_000})
				if err != nil || r.Violation != nil {
					b.Fatal(err, r.Violation)
				}
				simulated, heights = simulated+float64(r.Simulated)/1000, heights+float64(r.Heights)
			}
			b.ReportMetric(simulated/b.Elapsed().Seconds(), "×real")
			b.ReportMetric(heights/b.Elapsed().Seconds(), "heights/s")
		})
	}
}
