package sim

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"

	"charter/sig"
	"charter/types"
)

// drawn is which faults a seed has on, and how hard they strike.
type drawn struct {
	time     types.Millis // of faults
	delay    delayKind
	base     types.Millis // of delays
	loss     float64
	doubles  float64
	cutEvery types.Millis // mean time between cuts, 0 for none
	cutFor   types.Millis // a cut lasts up to this
	oneWay   bool         // some cuts close one direction only
	crashes  types.Millis // mean time between crashes, 0 for none
	downFor  types.Millis
	skew     types.Millis // clocks are apart by up to twice this
	jumps    bool         // of clocks, forward and back
	sync     types.Millis // a sync takes up to this
	applying types.Millis // so does applying what is decided
	window   uint64       // a restart goes back that far below the last anchor; 0: to genesis
	payEvery types.Millis
	drain    bool // the last peer's shares go to others, so that it leaves
	bad      []style
	excess   bool // bad peers hold more than a third: agreement may break, but not unnamed
	status   types.Millis
	idle     types.Millis
}

func micros(t types.Millis) int64 { return int64(t) * 1000 }

// String is the faults that are on, for people.
func (d *drawn) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d ms, delay %s %d ms, pay every %d ms", d.time, d.delay, d.base, d.payEvery)
	on := func(is bool, format string, args ...any) {
		if is {
			fmt.Fprintf(&s, ", "+format, args...)
		}
	}
	on(d.loss > 0, "loss %.2f", d.loss)
	on(d.doubles > 0, "doubles %.2f", d.doubles)
	on(d.cutEvery > 0, "cuts every %d for %d ms, one way %t", d.cutEvery, d.cutFor, d.oneWay)
	on(d.crashes > 0, "crashes every %d ms, window %d", d.crashes, d.window)
	on(d.skew > 0, "skew %d ms", d.skew)
	on(d.jumps, "jumps")
	on(d.sync > 0, "sync %d ms", d.sync)
	on(d.applying > 0, "apply %d ms", d.applying)
	on(len(d.bad) > 0, "bad %v", d.bad)
	on(d.excess, "more than a third bad")
	return s.String()
}

// delayKind is how the delay of a message is drawn.
type delayKind uint8

const (
	steady   delayKind = iota // the base, and a twentieth
	spread                    // up to twice the base
	tailed                    // now and then 20 times as much
	regional                  // each link has its own base
)

func (k delayKind) String() string {
	return [...]string{"steady", "spread", "tailed", "regional"}[k]
}

// draw draws everything from the seed.
func (w *world) draw() {
	r, d := w.rng, &w.drawn
	n := w.cfg.Peers
	if n == 0 {
		n = 4 + r.IntN(4)
		if w.chance(0.05) {
			n = 12
		}
	}
	pick := func(of ...types.Millis) types.Millis { return of[r.IntN(len(of))] }
	if d.time = w.cfg.Time; d.time == 0 {
		d.time = pick(8000, 15000, 25000)
	}
	d.delay, d.base = delayKind(r.IntN(4)), pick(2, 10, 20, 40)
	d.payEvery, d.status = pick(50, 200, 400, 1500), pick(200, 500)
	d.idle, d.drain = 1000, w.chance(0.4)
	if !w.cfg.Calm {
		w.drawFaults(n, pick)
	} else {
		d.delay, d.base, d.payEvery = spread, 40, 100
	}
	w.drawGenesis(n)
}

func (w *world) drawFaults(n int, pick func(...types.Millis) types.Millis) {
	r, d := w.rng, &w.drawn
	if w.chance(0.4) {
		d.loss = []float64{0.01, 0.05, 0.2}[r.IntN(3)]
	}
	if w.chance(0.4) {
		d.doubles = 0.1
	}
	if w.chance(0.5) {
		d.cutEvery, d.cutFor, d.oneWay = pick(2000, 5000), pick(300, 3000, 8000), w.chance(0.5)
	}
	if w.chance(0.5) {
		d.crashes, d.downFor = pick(500, 1500, 4000), pick(50, 1000, 6000)
	}
	if w.chance(0.4) {
		d.skew, d.jumps = pick(5, 50, 200), w.chance(0.3)
	}
	if w.chance(0.7) {
		d.sync = pick(1, 10, 60)
	}
	if w.chance(0.5) {
		d.applying = pick(5, 50, 500)
	}
	d.window = []uint64{8, 24, 64, 256, 0}[r.IntN(5)]
	if w.chance(0.65) {
		most := (n - 1) / 3
		if d.excess = w.chance(0.2); d.excess {
			most = (n + 1) / 2
			d.cutEvery, d.cutFor, d.oneWay = 1500, 4000, false
		}
		for range most {
			s := twins
			if !d.excess && w.chance(0.55) {
				s = style(1 + r.IntN(int(styleEnd)-1))
			}
			d.bad = append(d.bad, s)
		}
	}
	switch w.cfg.Bug {
	case SendEarly, LyingDisk:
		d.crashes, d.downFor, d.sync = 700, 50, 60
	case ForgetRun:
		d.crashes, d.downFor, d.window, d.applying = 500, 50, 2, 0
	case SmallQuorum:
		d.excess, d.cutEvery, d.cutFor, d.oneWay = false, 1500, 4000, false
		d.bad = nil
		for range (n + 1) / 2 {
			d.bad = append(d.bad, twins)
		}
	}
}

// drawGenesis draws peers, shares and parameters: short runs, so that hand-overs abound.
func (w *world) drawGenesis(n int) {
	r := w.rng
	g := &types.Genesis{
		Network: fmt.Sprintf("sim-%d", w.cfg.Seed), Time: 1_000_000,
		Params: types.Params{
			SnapshotLag: 20, SnapshotPeriod: []uint64{10, 40}[r.IntN(2)], RunLength: []uint64{4, 16}[r.IntN(2)], RunTail: 4,
			WaitLeader: 100, WaitQuorum: 1000, WaitIdle: w.drawn.idle,
			CheckpointEvery: []uint64{1, 5, 10}[r.IntN(3)], Sample: 32, MaxForked: 8, MinFeePerByte: 1,
		},
	}
	lock := simKey(1000)
	var good, all []types.Key
	for i := range n {
		key := simKey(i)
		w.peers = append(w.peers, key)
		g.Peers = append(g.Peers, types.GenesisPeer{Peer: key, Name: fmt.Sprintf("peer-%d", i), Address: "10.0.0.1:1", Reward: lock})
		if i < len(w.drawn.bad) {
			w.bad[key] = w.drawn.bad[i]
		} else {
			good = append(good, key)
		}
		all = append(all, key)
	}
	// Each peer has about 12 outputs of one size; the good ones may have more or none.
	const unit = 50 * types.UnitsPerShare
	give := func(host types.Key, count int) {
		for range count {
			g.Outputs = append(g.Outputs, types.GenesisOutput{Value: unit, Lock: lock, Host: host})
		}
	}
	skewed := w.chance(0.4) && len(good) >= 4
	for i, key := range all {
		switch {
		case i < len(w.drawn.bad) || !skewed:
			give(key, 12)
		case i == len(all)-1:
			// one starts with none; the others carry its part
		default:
			give(key, 10+r.IntN(8))
		}
	}
	if skewed { // the good hold more than two thirds
		for len(w.drawn.bad) > 0 && !w.drawn.excess && 3*12*len(w.drawn.bad) >= len(g.Outputs) {
			give(good[0], 1)
		}
	}
	give(types.Key{}, 4)
	w.genesis, w.chain = g, g.ChainID()
}

var keyCache struct {
	sync.Mutex
	keys map[int]types.Key
}

// simKey is the public key of the i-th simulated person; the ledger wants real points.
func simKey(i int) types.Key {
	keyCache.Lock()
	defer keyCache.Unlock()
	if k, ok := keyCache.keys[i]; ok {
		return k
	}
	p, err := sig.ParsePrivateKey(sha256.Sum256(fmt.Appendf(nil, "sim key %d", i)))
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	if keyCache.keys == nil {
		keyCache.keys = make(map[int]types.Key)
	}
	keyCache.keys[i] = p.Public()
	return p.Public()
}
