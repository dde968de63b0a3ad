package sim

import (
	"cmp"
	"container/heap"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"time"

	"charter/consensus"
	"charter/types"
)

// ScaleConfig is a calm run of many peers, without ledger and disk: consensus and distances
// alone, with the waits of a network on the internet.
type ScaleConfig struct {
	Peers   int
	Heights uint64       // to decide
	Places  int          // peers of one place share one core: they hear the same at once; at most Peers
	Even    types.Millis // every message takes so long; 0: by the table of regions
	Seed    uint64
}

// ScaleRow is what a run showed.
type ScaleRow struct {
	Kind         string  `json:"kind"` // "scale"
	Peers        int     `json:"peers"`
	Places       int     `json:"places"`
	Heights      uint64  `json:"heights"`
	DelayMS      float64 `json:"delay_ms"`      // mean of one way, over all pairs of places
	LeaderP50    float64 `json:"leader_p50_ms"` // from sending an anchor to its being final, over anchors and places
	LeaderP99    float64 `json:"leader_p99_ms"`
	AllP50       float64 `json:"all_p50_ms"` // of all blocks
	AllP99       float64 `json:"all_p99_ms"`
	LeaderDelays float64 `json:"leader_delays"` // medians in mean delays
	AllDelays    float64 `json:"all_delays"`
	HeightMS     float64 `json:"height_ms"` // from one height to the next
	Empty        int     `json:"empty_heights"`
	Messages     float64 `json:"messages_per_height_and_peer"` // sent
	Bytes        float64 `json:"bytes_per_height_and_peer"`    // sent
	BlockBytes   float64 `json:"block_bytes"`
	CoreUS       float64 `json:"core_us_per_block"` // processor time of one core for one block that comes in
	HeapMB       float64 `json:"heap_mb_per_core"`
	Speed        float64 `json:"speed_vs_real"` // all places on one processor core
}

// scale is the world of a run.
type scale struct {
	cfg    ScaleConfig
	rng    *rand.Rand
	chain  types.Hash
	places []*place
	now    int64
	seq    uint64
	events eventHeap

	sent                    map[types.Hash]int64
	leader, rest            []float64 // ms
	messages, bytes, blocks int
	fed                     int
	anchors                 map[uint64]bool // heights, whether they have one
}

// place is some peers that hear the same at once.
type place struct {
	s       *scale
	id      int
	members []types.Key
	last    []types.Hash
	core    *consensus.Core
	woken   int64
	decided map[uint64]int64 // height, when
}

// Scale runs many peers for some heights.
func Scale(ctx context.Context, cfg ScaleConfig) (*ScaleRow, error) {
	if cfg.Peers < 4 || cfg.Places < 1 || cfg.Places > cfg.Peers {
		return nil, fmt.Errorf("%d peers at %d places: want 4 peers at least, and no more places than peers", cfg.Peers, cfg.Places)
	}
	s := &scale{cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5ca1e)), sent: make(map[types.Hash]int64), anchors: make(map[uint64]bool)}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s.found()
	start, cpu := time.Now(), cpuTime()
	for _, p := range s.places {
		p.step()
	}
	for len(s.events) > 0 && !s.over() && ctx.Err() == nil {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		e.do()
	}
	used := time.Since(start)
	if cpu > 0 {
		used = cpuTime() - cpu
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if !s.over() {
		return nil, cmp.Or(ctx.Err(), fmt.Errorf("%d peers stopped after %d heights", cfg.Peers, len(s.anchors)))
	}
	return s.row(used, float64(after.HeapAlloc)-float64(before.HeapAlloc)), nil
}

// found makes the genesis and the places.
func (s *scale) found() {
	g := &types.Genesis{Network: "scale", Time: 1_000_000, Params: types.Params{
		SnapshotLag: 1000, SnapshotPeriod: 4096, RunLength: 64, RunTail: 8, WaitLeader: 1000, WaitQuorum: 4000, WaitIdle: 4000,
		CheckpointEvery: 16, Sample: 32, MaxForked: 8, MinFeePerByte: 1,
	}}
	for i := range s.cfg.Peers {
		key := types.Key(sha256.Sum256(fmt.Appendf(nil, "scale %d", i)))
		g.Peers = append(g.Peers, types.GenesisPeer{Peer: key, Name: fmt.Sprintf("peer-%d", i), Address: "10.0.0.1:1", Reward: key})
		g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: key, Host: key})
	}
	s.chain = g.ChainID()
	w := &world{genesis: g, chain: s.chain}
	for i := range s.cfg.Places {
		p := &place{s: s, id: i, decided: make(map[uint64]int64)}
		for k := i; k < s.cfg.Peers; k += s.cfg.Places {
			p.members = append(p.members, g.Peers[k].Peer)
		}
		p.last = make([]types.Hash, len(p.members))
		p.core = consensus.New(w.consensusConfig(p.members[0]))
		s.places = append(s.places, p)
	}
}

// over reports whether all places have decided enough.
func (s *scale) over() bool {
	for _, p := range s.places {
		if p.core.Decided() < s.cfg.Heights {
			return false
		}
	}
	return true
}

// delay is the µs of one way.
func (s *scale) delay(from, to *place) int64 {
	if s.cfg.Even > 0 {
		return micros(s.cfg.Even)
	}
	base := oneWay(from.id, to.id)
	return base + 200 + s.rng.Int64N(base/10+1)
}

func (s *scale) after(µs int64, do func()) {
	s.seq++
	heap.Push(&s.events, event{s.now + µs, s.seq, do})
}

func (p *place) clock() types.Millis { return types.Millis(p.s.now/1000) + 1_000_000 }

// step gives blocks to a place's core, and does what follows.
func (p *place) step(blocks ...*types.Block) {
	p.core.Step(consensus.Tick{Now: p.clock()})
	p.core.Step(consensus.Waiting{Is: true})
	for _, b := range blocks {
		p.s.fed++
		p.core.Step(consensus.Block{Block: b})
	}
	for {
		r := p.core.Ready()
		p.core.Advance()
		p.note(r.Decided)
		if r.Build != nil {
			p.build(r.Build)
			continue
		}
		p.wakeAt(r.Wake)
		return
	}
}

// build has all peers of a place build the same height, and send that to the other places.
func (p *place) build(t *consensus.Template) {
	s := p.s
	blocks := make([]*types.Block, len(p.members))
	for i, key := range p.members {
		b := t.Block(key)
		b.Previous = p.last[i]
		if t.VRF != nil {
			b.VRF = proveVRF(key, t.VRF)
		}
		id := b.ID(s.chain)
		blocks[i], p.last[i] = b, id
		s.sent[id] = s.now
		s.blocks++
		s.messages += s.cfg.Peers - 1
		s.bytes += (s.cfg.Peers - 1) * sizeOf(b)
		p.core.Step(consensus.Block{Block: b})
	}
	for _, to := range s.places {
		if to == p {
			continue
		}
		for _, b := range blocks {
			s.after(s.delay(p, to), func() { to.step(b) })
		}
	}
}

func (p *place) wakeAt(t types.Millis) {
	if t == 0 {
		return
	}
	at := max(p.s.now+1, micros(t-1_000_000))
	if p.woken > p.s.now && p.woken <= at {
		return
	}
	p.woken = at
	p.s.after(at-p.s.now, func() {
		if p.woken == at {
			p.woken = 0
			p.step()
		}
	})
}

// note takes down how long it took until blocks were final here.
func (p *place) note(decided []consensus.Decision) {
	s := p.s
	for _, d := range decided {
		s.anchors[d.Height] = !d.Anchor.IsZero()
		p.decided[d.Height] = s.now
		if d.Height < 3 {
			continue // all start at once, which is not how it goes on
		}
		for _, id := range d.Blocks {
			took := float64(s.now-s.sent[id]) / 1000
			if s.rest = append(s.rest, took); id == d.Anchor {
				s.leader = append(s.leader, took)
			}
		}
	}
}

// row is the figures of a run.
func (s *scale) row(used time.Duration, heap float64) *ScaleRow {
	r := &ScaleRow{Kind: "scale", Peers: s.cfg.Peers, Places: len(s.places), Heights: s.cfg.Heights}
	pairs := 0
	for i := range s.places {
		for j := range s.places {
			if i == j {
				continue
			}
			pairs++
			if s.cfg.Even > 0 {
				r.DelayMS += float64(s.cfg.Even)
			} else {
				r.DelayMS += float64(oneWay(i, j))*1.05/1000 + 0.2
			}
		}
	}
	r.DelayMS /= float64(max(pairs, 1))
	at := func(of []float64, q float64) float64 {
		if len(of) == 0 {
			return 0
		}
		slices.Sort(of)
		return of[int(q*float64(len(of)-1))]
	}
	r.LeaderP50, r.LeaderP99 = at(s.leader, 0.5), at(s.leader, 0.99)
	r.AllP50, r.AllP99 = at(s.rest, 0.5), at(s.rest, 0.99)
	r.LeaderDelays, r.AllDelays = r.LeaderP50/r.DelayMS, r.AllP50/r.DelayMS
	p := s.places[0]
	r.HeightMS = float64(p.decided[s.cfg.Heights]-p.decided[1]) / 1000 / float64(max(s.cfg.Heights, 2)-1)
	for h := uint64(1); h <= s.cfg.Heights; h++ {
		if !s.anchors[h] {
			r.Empty++
		}
	}
	blocks := float64(s.blocks)
	r.Messages, r.Bytes = float64(s.messages)/blocks, float64(s.bytes)/blocks
	r.BlockBytes = r.Bytes / float64(s.cfg.Peers-1)
	r.CoreUS = float64(used.Microseconds()) / float64(max(s.fed, 1))
	r.HeapMB = heap / float64(len(s.places)) / (1 << 20)
	r.Speed = float64(s.now) / float64(max(used.Microseconds(), 1))
	return r
}
