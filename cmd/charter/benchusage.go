package main

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"charter/chain"
)

// usage is what the peers of a localnet have used up, and this process.
type usage struct {
	cpu    float64 // seconds, of all peers
	load   float64 // seconds, of this process
	rss    int64   // bytes, of the largest
	disk   int64   // bytes, of all
	sent   float64 // bytes, of all, to other peers
	height uint64  // final
	tiers  []tierTimes
}

func (l *load) usage(ctx context.Context) (usage, error) { return usageOf(ctx, l.net) }

func usageOf(ctx context.Context, net *localnet) (u usage, err error) {
	u.load, _ = process(os.Getpid())
	counts := make(map[string]map[float64]float64)
	for _, p := range net.peers {
		cpu, rss := process(p.cmd.Process.Pid)
		u.cpu += cpu
		u.rss = max(u.rss, rss)
		u.disk += diskBytes(p.dir)
		sent, err := p.metrics(ctx, counts)
		if err != nil {
			return u, err
		}
		u.sent += sent
	}
	for t := chain.Known; t <= chain.Final; t++ {
		row := tierTimes{Tier: t.String()}
		var below float64
		for _, le := range slices.Sorted(maps.Keys(counts[row.Tier])) {
			n := counts[row.Tier][le]
			row.Buckets = append(row.Buckets, tierBucket{le * 1000, n - below})
			below = n
		}
		u.tiers = append(u.tiers, row)
	}
	s, err := net.peers[0].status(ctx)
	if err != nil {
		return u, err
	}
	u.height = s.FinalHeight
	return u, nil
}

// less is what was used since before. Memory is as it is.
func (u usage) less(before usage) usage {
	u.cpu -= before.cpu
	u.load -= before.load
	u.disk -= before.disk
	u.sent -= before.sent
	u.height -= before.height
	for i := range u.tiers {
		for j := range u.tiers[i].Buckets {
			if j < len(before.tiers[i].Buckets) {
				u.tiers[i].Buckets[j].Count -= before.tiers[i].Buckets[j].Count
			}
		}
		u.tiers[i].sum()
	}
	return u
}

// tierTimes is how long payments took from their submission until they had a tier, as the agents
// that they were given to count them.
type tierTimes struct {
	Tier    string       `json:"tier"`
	P50     float64      `json:"p50"` // ms, within its bucket by the rule of three
	P99     float64      `json:"p99"`
	Buckets []tierBucket `json:"buckets"`
}

// tierBucket is payments that took up to so many milliseconds, and more than those before.
type tierBucket struct {
	Le    float64 `json:"le_ms,omitempty"` // zero: any
	Count float64 `json:"n"`
}

func (t *tierTimes) sum() {
	var all float64
	for i := range t.Buckets {
		if math.IsInf(t.Buckets[i].Le, 1) {
			t.Buckets[i].Le = 0
		}
		all += t.Buckets[i].Count
	}
	at := func(part float64) float64 {
		var low, below float64
		for _, b := range t.Buckets {
			if b.Le == 0 {
				return low
			}
			if below+b.Count >= part*all && b.Count > 0 {
				return low + (b.Le-low)*(part*all-below)/b.Count
			}
			low, below = b.Le, below+b.Count
		}
		return low
	}
	if all > 0 {
		t.P50, t.P99 = at(0.5), at(0.99)
	}
}

// metrics reads a peer's: it adds the counts of the times to tiers, by tier and upper bound in
// seconds, and gives the bytes that it sent to other peers.
func (p *localPeer) metrics(ctx context.Context, counts map[string]map[float64]float64) (sent float64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.debug+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, fmt.Errorf("%s: metrics: %w", p.name, err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue // a comment
		}
		if name == `charter_transport_bytes_total{direction="out"}` {
			sent = v
		}
		labels, ok := strings.CutPrefix(name, `charter_tier_seconds_bucket{tier="`)
		if !ok {
			continue
		}
		tier, le, _ := strings.Cut(labels, `",le="`)
		bound, err := strconv.ParseFloat(strings.TrimSuffix(le, `"}`), 64)
		if err != nil {
			return 0, fmt.Errorf("%s: metrics: %w", p.name, err)
		}
		if counts[tier] == nil {
			counts[tier] = make(map[float64]float64)
		}
		counts[tier][bound] += v
	}
	return sent, lines.Err()
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
