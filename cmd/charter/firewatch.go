package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
)

// peerState is what is known of a peer during a run of fire.
type peerState struct {
	up     bool // its process was started and not killed
	paused bool
	born   time.Time // of its process

	top, final, certified, pool uint64 // as it last said; pool transactions

	able   bool          // it runs, and reaches more than two thirds of the peers, itself included, that run
	since  time.Time     // when that began
	after  string        // the fault whose end it was
	goal   uint64        // final height that shows that it goes on; 0 once it was reached
	rose   time.Time     // when final last rose, or able began
	stood  time.Duration // the longest that final did not rise while able
	warned bool          // that this went beyond the limit
}

// heal is how long a peer took, from when it could, until heights were final again.
type heal struct {
	after string
	at    time.Time // the same for all peers that one heal concerns
	took  time.Duration
}

// looked is a checkpoint that was compared.
type looked struct {
	height uint64
	id     string
}

// rssSample is the memory of a peer at a time.
type rssSample struct {
	at, age time.Duration // since the run began, since the process was started
	peer    int
	mb      float64
}

// rejudge looks anew who is able to make heights final, after what has just changed.
func (f *fire) rejudge(after string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rejudgeLocked(after)
}

func (f *fire) rejudgeLocked(after string) {
	now, top := time.Now(), uint64(0)
	for i := range f.states {
		top = max(top, f.states[i].top)
	}
	for i := range f.states {
		s := &f.states[i]
		able := f.isAble(i)
		switch {
		case able && !s.able:
			s.since, s.rose, s.after, s.goal, s.warned = now, now, after, top+1, false
		case !able && s.able && s.goal > 0:
			f.void++
			s.goal = 0
		}
		s.able = able
	}
}

func (f *fire) isAble(i int) bool {
	runs := func(j int) bool { return f.states[j].up && !f.states[j].paused }
	n := 0
	for j := range f.states {
		if runs(i) && runs(j) && (f.cut == nil || !f.cut.blocks(i, j) && !f.cut.blocks(j, i)) {
			n++
		}
	}
	return 3*n > 2*len(f.states)
}

// poll asks all running peers over and over how far they are.
func (f *fire) poll(ctx context.Context) {
	for pause(ctx, 250*time.Millisecond) == nil {
		var all sync.WaitGroup
		for i, p := range f.net.peers {
			f.mu.Lock()
			asked := f.states[i].born
			runs := f.states[i].up && !f.states[i].paused
			if f.states[i].up {
				select {
				case <-p.done:
					f.states[i].up, runs = false, false
					go f.faultf("%s ended by itself (%v); its log ends:\n%s", p.name, p.err, p.tail())
				default:
				}
			}
			f.mu.Unlock()
			if !runs {
				continue
			}
			all.Go(func() {
				short, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				s, err := p.status(short)
				f.mu.Lock()
				defer f.mu.Unlock()
				if f.states[i].born == asked { // not of its next life
					f.told(i, s, err == nil)
				}
			})
		}
		all.Wait()
	}
}

// told takes note of what a peer has said, or not.
func (f *fire) told(i int, r *v1.StatusResponse, ok bool) {
	s, now := &f.states[i], time.Now()
	rose := ok && r.FinalHeight > s.final
	if ok {
		if r.FinalHeight < s.final {
			go f.faultf("%s: the final height fell from %d to %d", f.net.peers[i].name, s.final, r.FinalHeight)
		}
		s.top, s.final, s.certified, s.pool = r.Height, r.FinalHeight, r.CertifiedHeight, r.PoolTransactions
	}
	if !s.able {
		return
	}
	s.stood = max(s.stood, now.Sub(s.rose))
	if rose {
		s.rose = now
	}
	if late := now.Sub(s.rose) > f.Limit || s.goal > 0 && now.Sub(s.since) > f.Limit; late && !s.warned {
		s.warned = true
		go f.faultf("%s: nothing new is final %.1f s after %q, which healed %.1f s ago; its heights are %d and %d final", f.net.peers[i].name,
			now.Sub(s.rose).Seconds(), s.after, now.Sub(s.since).Seconds(), s.top, s.final)
	}
	if s.goal > 0 && s.final >= s.goal {
		f.heals = append(f.heals, heal{s.after, s.since, now.Sub(s.since)})
		s.goal, s.warned = 0, false
	}
}

// sample looks at checkpoints and memory every now and then.
func (f *fire) sample(ctx context.Context) {
	for pause(ctx, 5*time.Second) == nil {
		low := uint64(math.MaxUint64)
		f.mu.Lock()
		for i, p := range f.net.peers {
			s := &f.states[i]
			if !s.up {
				continue
			}
			_, rss := process(p.cmd.Process.Pid)
			f.rss = append(f.rss, rssSample{time.Since(f.began), time.Since(s.born), i, float64(rss) / (1 << 20)})
			low = min(low, s.certified)
		}
		if l := loadAverage(); l >= 0 {
			f.loads = append(f.loads, l)
		}
		f.mu.Unlock()
		f.look(ctx, low)
	}
}

// look compares the running peers' checkpoints of a height.
func (f *fire) look(ctx context.Context, height uint64) {
	l := looked{height: height}
	for i, p := range f.net.peers {
		f.mu.Lock()
		runs := f.states[i].up && !f.states[i].paused && f.states[i].certified >= height
		f.mu.Unlock()
		if !runs {
			continue
		}
		id, err := p.checkpoint(ctx, height)
		if err != nil {
			continue // it was killed or paused just now; lookAgain asks once more
		}
		if l.id == "" {
			l.id = id
		} else if l.id != id {
			f.faultf("height %d: %s has checkpoint %s, and another peer %s", height, p.name, id, l.id)
		}
	}
	if l.id != "" {
		f.mu.Lock()
		f.looked = append(f.looked, l)
		f.mu.Unlock()
	}
}

// lookAgain asks all peers for all checkpoints that were compared. One that was dead or cut off
// when the votes for a checkpoint went round has no certificate of it; the audit sees it all the same.
func (f *fire) lookAgain(ctx context.Context) {
	f.mu.Lock()
	all := slices.Clone(f.looked)
	f.mu.Unlock()
	for _, l := range all {
		for _, p := range f.net.peers {
			if id, err := p.checkpoint(ctx, l.height); err == nil && id != l.id {
				f.faultf("height %d: %s has checkpoint %s in the end, and %s was seen", l.height, p.name, id, l.id)
			}
		}
	}
}

// checkpoint is the id of the certified checkpoint of a height.
func (p *localPeer) checkpoint(ctx context.Context, height uint64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	r, err := p.client().Checkpoint(ctx, connect.NewRequest(&v1.CheckpointRequest{Height: &height}))
	if err != nil {
		return "", err
	}
	return r.Msg.Id, nil
}

// progress prints a line every ten seconds.
func (f *fire) progress(ctx context.Context) {
	for pause(ctx, 10*time.Second) == nil {
		f.spend.mu.Lock()
		acked := len(f.spend.acked)
		f.spend.mu.Unlock()
		f.mu.Lock()
		up, top, low, high, waiting := 0, uint64(0), uint64(math.MaxUint64), uint64(0), uint64(0)
		for i := range f.states {
			s := &f.states[i]
			top, low, high, waiting = max(top, s.top), min(low, s.final), max(high, s.final), max(waiting, s.pool)
			if s.up && !s.paused {
				up++
			}
		}
		least, most := math.Inf(1), 0.0
		for _, r := range f.rss[max(0, len(f.rss)-up):] {
			least, most = min(least, r.mb), max(most, r.mb)
		}
		doing := f.now
		if doing == "" {
			doing = "quiet"
		}
		fmt.Fprintf(f.out, "%4.0f s  height %d, final %d to %d; %d of %d payments acknowledged, %d wait; %d peers run, %.0f to %.0f MB; load %.1f; %s\n",
			time.Since(f.began).Seconds(), top, low, high, acked, f.sent, waiting, up, least, most, loadAverage(), doing)
		f.mu.Unlock()
	}
}

// loadAverage is the machine's, of a minute; negative where it does not tell.
func loadAverage() float64 {
	data, err := os.ReadFile("/proc/loadavg")
	var l float64
	if _, err2 := fmt.Sscan(string(data), &l); err != nil || err2 != nil {
		return -1
	}
	return l
}

// healSummary is how long the peers took to make heights final again after one kind of fault.
// Seconds.
type healSummary struct {
	After string  `json:"after"`
	Heals int     `json:"heals"`
	Peers int     `json:"peers"` // measured, over all heals
	P50   float64 `json:"p50_s"`
	P99   float64 `json:"p99_s"`
	Max   float64 `json:"max_s"`
	Late  int     `json:"late"`
}

func (f *fire) sumHeals() (out []healSummary) {
	for _, kind := range []faultKind{faultKill, faultPause, faultCut, faultDeaf} {
		h := healSummary{After: string(kind)}
		var times []time.Duration
		seen := make(map[time.Time]bool)
		for _, x := range f.heals {
			if x.after != string(kind) {
				continue
			}
			times = append(times, x.took)
			if seen[x.at] = true; x.took > f.Limit {
				h.Late++
			}
		}
		p := percentiles(times)
		h.Heals, h.Peers, h.P50, h.P99, h.Max = len(seen), len(times), p.P50/1000, p.P99/1000, p.Max/1000
		out = append(out, h)
	}
	return out
}

// memorySummary is the resident memory of peers, MiB: medians of the first and the second half of
// what follows the first quarter of the run, in which the storage engine's write buffers (48 MiB in
// all) and the caches fill up.
type memorySummary struct {
	SparedFirst  float64 `json:"spared_first"` // of the peer that was never killed
	SparedSecond float64 `json:"spared_second"`
	SparedSlope  float64 `json:"spared_slope"` // a minute, over the second half
	AllFirst     float64 `json:"all_first"`    // of all, in processes that had run for 20 s
	AllSecond    float64 `json:"all_second"`
	Max          float64 `json:"max"`
}

func (f *fire) sumMemory() (m memorySummary) {
	median := func(list []float64) float64 {
		if len(list) == 0 {
			return 0
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	var spared, all [2][]float64
	var x, y []float64
	for _, r := range f.rss {
		m.Max = max(m.Max, r.mb)
		if r.age < 20*time.Second || r.at < f.Duration/4 {
			continue
		}
		half := 0
		if r.at > f.Duration*5/8 {
			half = 1
		}
		all[half] = append(all[half], r.mb)
		if r.peer == f.Peers-1 {
			spared[half] = append(spared[half], r.mb)
			if half == 1 {
				x, y = append(x, r.at.Minutes()), append(y, r.mb)
			}
		}
	}
	m.SparedFirst, m.SparedSecond, m.SparedSlope = median(spared[0]), median(spared[1]), slope(x, y)
	m.AllFirst, m.AllSecond = median(all[0]), median(all[1])
	return m
}

// slope is that of the line of least squares.
func slope(x, y []float64) float64 {
	var mx, my, xy, xx float64
	for i := range x {
		mx += x[i] / float64(len(x))
		my += y[i] / float64(len(x))
	}
	for i := range x {
		xy += (x[i] - mx) * (y[i] - my)
		xx += (x[i] - mx) * (x[i] - mx)
	}
	if xx == 0 {
		return 0
	}
	return xy / xx
}
