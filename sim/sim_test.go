package sim

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestCampaign runs seeds with all faults, and asks that it has been everywhere.
// SIM_SEEDS=a..b runs others: one that failed, or many.
func TestCampaign(t *testing.T) {
	from, to := uint64(0), uint64(59)
	if s := os.Getenv("SIM_SEEDS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d..%d", &from, &to); err != nil {
			t.Fatalf("SIM_SEEDS=%s: want a..b", s)
		}
	}
	s, err := Campaign(from, to, 2, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s)
	for _, v := range s.Broken {
		t.Errorf("seed %d: %s: %s", v.Seed, v.Invariant, v.What)
	}
	if full := to-from >= 59; full && len(s.Missed) > 0 {
		t.Errorf("the campaign was never here: %s", strings.Join(s.Missed, "; "))
	}
	if full := to-from >= 59; full && (s.Heights < 4000 || s.Events < 300_000) {
		t.Errorf("the campaign did next to nothing: %d heights, %d events", s.Heights, s.Events)
	}
}

// TestCanary plants mistakes that a campaign must find.
func TestCanary(t *testing.T) {
	for bug := NoBug + 1; bug < bugEnd; bug++ {
		t.Run(bug.String(), func(t *testing.T) {
			for seed := range uint64(20) {
				r, err := Run(Config{Seed: seed, Bug: bug, Time: 8000})
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
		r, err := Run(Config{Seed: seed})
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
				r, err := Run(Config{Seed: uint64(i), Peers: peers, Calm: true, Time: 60_000})
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
