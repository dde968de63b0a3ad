package sim

import (
	"context"
	"time"
)

// BoundsRow is what one peer that breaks rules costs each honest one, beside what an honest
// peer costs it.
type BoundsRow struct {
	Kind    string `json:"kind"` // "bounds"
	Style   string `json:"style"`
	Peers   int    `json:"peers"`
	Sent    int    `json:"sent"` // how often the style struck
	Heights uint64 `json:"heights"`
	// What comes over one connection, a second; means over all of honest peers.
	HonestBytes float64 `json:"honest_bytes_per_second"`
	BadBytes    float64 `json:"bad_bytes_per_second"`
	// Processor time for what comes over one connection, µs in a second.
	HonestCPU float64 `json:"honest_us_per_second"`
	BadCPU    float64 `json:"bad_us_per_second"`
	// Blocks of one author that an honest peer holds on its disk, for each height.
	HonestBlocks float64 `json:"honest_blocks_per_height"`
	BadBlocks    float64 `json:"bad_blocks_per_height"`
	// Blocks that wait in an honest peer's core for others in the end, at most.
	Waiting int `json:"waiting"`
}

// Bounds runs peers of which one breaks rules in a way, as hard as it can: so many times as much
// as in a campaign.
func Bounds(ctx context.Context, peers int, style string, hard int, seed uint64) (*BoundsRow, error) {
	cfg := Config{Seed: seed, Peers: peers, Time: 10_000, Latency: Heavy, Faults: []string{style}, hard: hard, measure: true}
	if style == "none" {
		cfg.Faults = []string{}
	}
	w, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	w.run(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if v := w.report.Violation; v != nil {
		return nil, v
	}
	r := &BoundsRow{Kind: "bounds", Style: style, Peers: peers, Heights: uint64(len(w.check.decided))}
	for _, n := range w.report.Faults {
		r.Sent += n
	}
	seconds := float64(w.now) / 1e6
	var links, of [2]float64 // honest, bad
	var bytes, cpu, blocks [2]float64
	for _, to := range w.nodes {
		if to.style != honest {
			continue
		}
		r.Waiting = max(r.Waiting, len(to.core.Waiting()))
		for _, from := range w.nodes {
			k := 0
			if from.style != honest {
				k = 1
			}
			if from != to {
				links[k]++
				bytes[k] += float64(w.traffic.to[[2]int{from.id, to.id}]) / seconds
				cpu[k] += float64(w.traffic.cpu[[2]int{from.id, to.id}].Microseconds()) / seconds
			}
			of[k]++
			blocks[k] += float64(len(to.disk.lines[from.key])) / float64(to.core.Height())
		}
	}
	part := func(sum, n float64) float64 { return sum / max(n, 1) }
	r.HonestBytes, r.BadBytes = part(bytes[0], links[0]), part(bytes[1], links[1])
	r.HonestCPU, r.BadCPU = part(cpu[0], links[0]), part(cpu[1], links[1])
	r.HonestBlocks, r.BadBlocks = part(blocks[0], of[0]), part(blocks[1], of[1])
	return r, nil
}

// charge notes the processor time of what came from a node; a clock is read for it only where
// that is asked for.
func (w *world) charge(from, to *node) func() {
	if !w.cfg.measure {
		return func() {}
	}
	start := time.Now()
	return func() { w.traffic.cpu[[2]int{from.id, to.id}] += time.Since(start) }
}

// worse is how many times to do what a bad peer does.
func (w *world) worse(times int) int { return times * max(w.cfg.hard, 1) }
