package main

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	v1 "charter/api/charter/v1"
)

// A plan is the same for a seed, kills on time and spares the last peer, leaves quiet between
// the other faults and at the end, and comes to all kinds.
func TestFirePlan(t *testing.T) {
	kinds := make(map[faultKind]int)
	for seed := range uint64(200) {
		const n, length, every = 12, 10 * time.Minute, 10 * time.Second
		plan := drawPlan(seed, n, length, every)
		again := drawPlan(seed, n, length, every)
		if !slices.EqualFunc(plan, again, func(a, b fault) bool {
			return a.Kind == b.Kind && a.At == b.At && a.For == b.For && slices.Equal(a.Peers, b.Peers)
		}) {
			t.Fatalf("seed %d: another plan at the second time", seed)
		}
		kills, quiet := 0, time.Duration(0)
		for _, f := range plan {
			kinds[f.Kind]++
			if f.For <= 0 || f.At+f.For > length-3*time.Second || len(f.Peers) == 0 || len(f.Peers) > n/2 || !slices.IsSorted(f.Peers) {
				t.Errorf("seed %d: %s at %s", seed, f, f.At)
			}
			if f.Kind == faultKill {
				if kills++; f.At != time.Duration(kills)*every || f.Peers[0] == n-1 || f.For > 2*time.Second {
					t.Errorf("seed %d: kill %d at %s of %v", seed, kills, f.At, f.Peers)
				}
				continue
			}
			if f.At < quiet || f.Kind == faultPause && f.For > 5*time.Second || f.Kind != faultPause && (f.For < 5*time.Second || f.For > 15*time.Second) {
				t.Errorf("seed %d: %s at %s, too early or too long", seed, f, f.At)
			}
			quiet = f.At + f.For + planCalm
		}
		if kills != 59 {
			t.Errorf("seed %d: %d kills", seed, kills)
		}
	}
	if len(kinds) != 4 {
		t.Errorf("%v", kinds)
	}
	if plan := drawPlan(1, 4, 20*time.Second, 5*time.Second); len(plan) < 3 {
		t.Errorf("a short run has %v", plan)
	}
}

func TestBlocks(t *testing.T) {
	cut, deaf := fault{Kind: faultCut, Peers: []int{0, 1}}, fault{Kind: faultDeaf, Peers: []int{0, 1}}
	for _, row := range []struct {
		from, to  int
		cut, deaf bool
	}{{0, 1, false, false}, {0, 2, true, false}, {2, 0, true, true}, {2, 3, false, false}} {
		if cut.blocks(row.from, row.to) != row.cut || deaf.blocks(row.from, row.to) != row.deaf {
			t.Errorf("from %d to %d", row.from, row.to)
		}
	}
}

// Who reaches no two thirds is not judged; who does again has the limit, from then on; and who
// stands still without a fault is told of as well.
func TestFireJudges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := &fire{fireConfig: fireConfig{Peers: 12, Limit: 5 * time.Second, Duration: time.Minute}, out: &out, net: new(localnet), began: time.Now()}
		for i := range 12 {
			f.net.peers = append(f.net.peers, &localPeer{name: strings.Repeat("i", i+1)})
			f.states = append(f.states, peerState{up: true})
		}
		able := func() (n int) {
			for i := range f.states {
				if f.states[i].able {
					n++
				}
			}
			return n
		}
		tell := func(top, final uint64, peers ...int) {
			t.Helper()
			f.mu.Lock()
			for _, i := range peers {
				f.told(i, &v1.StatusResponse{Height: top, FinalHeight: final}, true)
			}
			f.mu.Unlock()
			synctest.Wait()
		}
		all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
		f.rejudge("start")
		tell(10, 7, all...)
		f.cut = &fault{Kind: faultCut, Peers: []int{0, 1, 2}}
		f.rejudge("cut")
		if able() != 9 {
			t.Errorf("%d of 12 may go on in a cut 9 to 3", able())
		}
		f.states[5].paused = true
		f.rejudge("pause")
		if able() != 0 {
			t.Errorf("%d of 12 may go on where 8 are together", able())
		}
		time.Sleep(time.Minute)
		tell(20, 7, all...)
		if len(f.faults) > 0 {
			t.Errorf("blamed for what nobody could: %v", f.faults)
		}
		f.cut, f.states[5].paused = nil, false
		f.rejudge("cut")
		time.Sleep(2 * time.Second)
		tell(22, 20, all...) // what was known before the heal does not count
		time.Sleep(time.Second)
		tell(23, 21, all[1:]...)
		if h := f.sumHeals(); len(f.faults) > 0 || h[2].After != "cut" || h[2].Heals != 1 || h[2].Peers != 11 || h[2].Max != 3 || h[2].Late != 0 {
			t.Errorf("%+v, %v", h, f.faults)
		}
		time.Sleep(2500 * time.Millisecond)
		tell(30, 20, 0)
		if len(f.faults) != 1 || !strings.HasPrefix(f.faults[0], "i: nothing new is final") {
			t.Errorf("%v", f.faults)
		}
		tell(30, 28, 0)
		if h := f.sumHeals(); h[2].Peers != 12 || h[2].Late != 1 {
			t.Errorf("%+v", h)
		}
		time.Sleep(6 * time.Second)
		tell(30, 28, 0)
		tell(30, 27, 0)
		if len(f.faults) != 3 || !strings.Contains(f.faults[2], "fell from 28 to 27") {
			t.Errorf("%v", f.faults)
		}
	})
}

func TestFireMemory(t *testing.T) {
	f := &fire{fireConfig: fireConfig{Peers: 2, Duration: 10 * time.Minute}}
	for s := range 120 {
		at := time.Duration(s) * 5 * time.Second
		f.rss = append(f.rss, rssSample{at, at, 1, 50 + 6*at.Minutes()}, rssSample{at, 10 * time.Second, 0, 1000})
	}
	m := f.sumMemory()
	if math.Abs(m.SparedSlope-6) > 1e-9 || math.Abs(m.SparedFirst-76) > 1 || math.Abs(m.SparedSecond-99) > 1 || m.AllSecond != m.SparedSecond || m.Max != 1000 {
		t.Errorf("%+v", m)
	}
	if slope(nil, nil) != 0 || slope([]float64{1}, []float64{2}) != 0 {
		t.Error("a line through less than two points")
	}
}
