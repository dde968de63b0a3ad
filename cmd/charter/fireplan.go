package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"charter/internal/chaos"
)

// faultKind is one way to make life hard for peers.
type faultKind string

const (
	faultKill  faultKind = "kill -9" // and started again in the end
	faultPause faultKind = "pause"   // SIGSTOP, and SIGCONT in the end
	faultCut   faultKind = "cut"     // into two sides
	faultDeaf  faultKind = "deaf"    // peers that are heard and hear nothing
)

// fault is what happens to some peers for a while.
type fault struct {
	Kind  faultKind
	At    time.Duration // from the start of the run
	For   time.Duration
	Peers []int // the killed, paused or deaf ones, or the smaller side of a cut
}

func (f fault) String() string {
	return fmt.Sprintf("%s %v for %.1f s", f.Kind, f.Peers, f.For.Seconds())
}

// Times of a plan.
const (
	planFirst = 3 * time.Second  // before the first fault
	planCalm  = 8 * time.Second  // between two that are not kills: the quiet in which a heal is measured
	planEnd   = 6 * time.Second  // without any at the end
	planLong  = 15 * time.Second // the longest cut, or a quarter of the run; the shortest is a third of it
)

// drawPlan draws the faults of a run, in order of time. A peer is killed every so often, all
// but the last one, which lives as long as the run: whether memory grows shows best on it. The
// other faults come one after the other, whatever is killed meanwhile.
func drawPlan(seed uint64, peers int, length, killEvery time.Duration) (plan []fault) {
	rng := rand.New(rand.NewPCG(seed, 1))
	between := func(low, high time.Duration) time.Duration { return low + time.Duration(rng.Int64N(int64(high-low))) }
	end, long := length-planEnd, min(planLong, length/4)
	for at := killEvery; at < end; at += killEvery {
		f := fault{faultKill, at, between(200*time.Millisecond, 2*time.Second), []int{rng.IntN(peers - 1)}}
		plan = append(plan, f)
	}
	for at := planFirst; ; {
		f := fault{At: at}
		n := 1
		switch draw := rng.IntN(10); {
		case draw < 3: // two sides
			f.Kind, n = faultCut, 1+rng.IntN(peers/2)
		case draw < 5: // one peer alone
			f.Kind = faultCut
		case draw < 6:
			f.Kind, n = faultDeaf, 1+rng.IntN(max(1, peers/6))
		case draw < 8:
			f.Kind = faultPause
		default: // a third and more: nothing is final meanwhile
			f.Kind, n = faultPause, 1+rng.IntN(peers/2)
		}
		if f.For = between(long/3, long); f.Kind == faultPause {
			f.For = between(time.Second, max(2*time.Second, long/3))
		}
		f.Peers = slices.Sorted(slices.Values(rng.Perm(peers)[:n]))
		if at = at + f.For + between(planCalm, planCalm+4*time.Second); f.At+f.For >= end {
			break
		}
		plan = append(plan, f)
	}
	slices.SortStableFunc(plan, func(a, b fault) int { return cmp.Compare(a.At, b.At) })
	return plan
}

// blocks reports whether the fault keeps packets from passing.
func (f fault) blocks(from, to int) bool {
	a, b := slices.Contains(f.Peers, from), slices.Contains(f.Peers, to)
	return f.Kind == faultCut && a != b || f.Kind == faultDeaf && b && !a
}

// weather draws a path of 5 to 40 ms and 0 to 2 % of loss.
func weather(rng *rand.Rand) chaos.Path {
	delay := 5*time.Millisecond + time.Duration(rng.Int64N(int64(35*time.Millisecond)))
	return chaos.Path{Delay: delay, Jitter: delay / 8, Loss: rng.Float64() * 0.02}
}
