package sim

import (
	"crypto/sha256"
	"fmt"
	"slices"
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
	late     float64      // so many messages are overtaken by later ones
	clogs    types.Millis // mean time between clogs of a link, 0 for none
	cutEvery types.Millis // mean time between cuts, 0 for none
	cutFor   types.Millis // a cut lasts up to this
	oneWay   bool         // some cuts close one direction only
	crashes  types.Millis // mean time between crashes, 0 for none
	downFor  types.Millis
	atWrite  float64      // so many writes end in a crash, before or after what is written
	skew     types.Millis // clocks are apart by up to twice this
	jumps    bool         // of clocks, forward and back
	sync     types.Millis // a sync takes up to this
	applying types.Millis // so does applying what is decided
	window   uint64       // a restart goes back that far below the last anchor; 0: to genesis
	payEvery types.Millis
	drain    bool // the last peer's shares go to others, so that it leaves
	styles   []style
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
	on(d.late > 0, "overtaken %.2f", d.late)
	on(d.clogs > 0, "clogs every %d ms", d.clogs)
	on(d.cutEvery > 0, "cuts every %d for %d ms, one way %t", d.cutEvery, d.cutFor, d.oneWay)
	on(d.crashes > 0, "crashes every %d ms, window %d", d.crashes, d.window)
	on(d.atWrite > 0, "crashes at writes %.3f", d.atWrite)
	on(d.skew > 0, "skew %d ms", d.skew)
	on(d.jumps, "jumps")
	on(d.sync > 0, "sync %d ms", d.sync)
	on(d.applying > 0, "apply %d ms", d.applying)
	on(len(d.bad) > 0, "bad %v", d.bad)
	on(d.excess, "more than a third bad")
	return s.String()
}

// Latency is how long messages travel.
type Latency uint8

const (
	AnyLatency Latency = iota // drawn from the seed
	Local                     // one machine room: 0.1 to 1 ms
	WAN                       // peers in ten regions of the world: half of the round trips of regions.go, and up to a tenth
	Heavy                     // around 20 ms, now and then 20 times as much
)

var latencies = []string{"any", "local", "wan", "heavy"}

// ParseLatency reads the name of a Latency.
func ParseLatency(name string) (Latency, error) {
	for i, l := range latencies {
		if l == name {
			return Latency(i), nil
		}
	}
	return 0, fmt.Errorf("latency %q: want one of %s", name, strings.Join(latencies, ", "))
}

func (l Latency) String() string { return latencies[l] }

// delayKind is how the delay of a message is drawn.
type delayKind uint8

const (
	steady   delayKind = iota // the base, and a twentieth
	spread                    // up to twice the base
	tailed                    // now and then 20 times as much
	regional                  // each link has its own base
	local                     // 0.1 to 1 ms
	wan                       // by the table of regions
	delayEnd
)

func (k delayKind) String() string {
	return [...]string{"steady", "spread", "tailed", "regional", "local", "wan"}[k]
}

// pick draws one of some times.
type pick func(of ...types.Millis) types.Millis

// swarm is the faults that a seed may have on, each with its chance.
var swarm = []struct {
	name, what string
	chance     float64
	on         func(w *world, pick pick)
}{
	{"loss", "messages are lost", 0.4, func(w *world, _ pick) { w.drawn.loss = []float64{0.01, 0.05, 0.2}[w.rng.IntN(3)] }},
	{"duplication", "messages come twice", 0.4, func(w *world, _ pick) { w.drawn.doubles = 0.1 }},
	{"reordering", "messages are overtaken", 0.3, func(w *world, _ pick) { w.drawn.late = 0.1 }},
	{"clogs", "a link holds back all messages for a while", 0.3, func(w *world, pick pick) { w.drawn.clogs = pick(200, 1000) }},
	{"cuts", "the network is in two parts", 0.5, func(w *world, pick pick) {
		w.drawn.cutEvery, w.drawn.cutFor = pick(2000, 5000), pick(300, 3000, 8000)
	}},
	{"one-way", "cuts that close one direction only", 0.25, func(w *world, pick pick) {
		w.drawn.cutEvery, w.drawn.cutFor, w.drawn.oneWay = pick(2000, 5000), pick(300, 3000, 8000), true
	}},
	{"crashes", "peers crash, and lose what is not synced", 0.5, func(w *world, pick pick) {
		w.drawn.crashes, w.drawn.downFor = pick(500, 1500, 4000), pick(50, 1000, 6000)
	}},
	{"crashes-at-writes", "peers crash just before or after a write", 0.3, func(w *world, pick pick) {
		w.drawn.atWrite, w.drawn.downFor = 0.01, pick(50, 1000)
	}},
	{"skew", "clocks are apart", 0.4, func(w *world, pick pick) { w.drawn.skew = pick(5, 50, 200) }},
	{"jumps", "clocks jump, forward and back", 0.15, func(w *world, pick pick) { w.drawn.skew, w.drawn.jumps = pick(5, 50, 200), true }},
	{"slow-disk", "a sync takes its time", 0.7, func(w *world, pick pick) { w.drawn.sync = pick(1, 10, 60) }},
	{"slow-ledger", "so does applying what is decided", 0.5, func(w *world, pick pick) { w.drawn.applying = pick(5, 50, 500) }},
	{"leaving", "all shares of a peer go to others", 0.4, func(w *world, _ pick) { w.drawn.drain = true }},
	{"byzantine", "less than a third of the shares break rules, each in a way of its own", 0.6, func(w *world, _ pick) {
		w.drawn.styles = append(w.drawn.styles, twins, twins, twins, twins, twins)
		for s := twins + 1; s < styleEnd; s++ {
			w.drawn.styles = append(w.drawn.styles, s)
		}
	}},
	{"excess", "more than a third are twins: what breaks must be named", 0.1, func(w *world, _ pick) { w.drawn.excess = true }},
}

// Faults is the names of all faults and of all ways to break rules, with what they are.
func Faults() (all [][2]string) {
	for _, f := range swarm {
		all = append(all, [2]string{f.name, f.what})
	}
	for s := twins; s < styleEnd; s++ {
		all = append(all, [2]string{s.flag(), s.what()})
	}
	return all
}

// KnownFaults tells the first of some names that is no fault.
func KnownFaults(names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(Faults(), func(f [2]string) bool { return f[0] == name }) {
			return fmt.Errorf("there is no fault %q", name)
		}
	}
	return nil
}

// flag is a style's name on the command line.
func (s style) flag() string { return strings.ReplaceAll(s.String(), " ", "-") }

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
	d.delay, d.base = delayKind(r.IntN(int(delayEnd))), pick(2, 10, 20, 40)
	d.payEvery, d.status = pick(50, 200, 400, 1500), pick(200, 500)
	d.idle = 1000
	d.window = []uint64{8, 24, 64, 256, 0}[r.IntN(5)]
	if w.cfg.Calm {
		d.delay, d.base, d.payEvery = spread, 40, 100
	} else {
		w.drawFaults(n, pick)
	}
	switch w.cfg.Latency {
	case Local:
		d.delay = local
	case WAN:
		d.delay = wan
	case Heavy:
		d.delay, d.base = tailed, 20
	}
	w.drawGenesis(n)
}

// drawFaults puts the faults on that chance, or the configuration, wants.
func (w *world) drawFaults(n int, pick pick) {
	d := &w.drawn
	given := w.cfg.Faults != nil
	asked := func(name string) bool { return slices.Contains(w.cfg.Faults, name) }
	for _, f := range swarm {
		if on := w.chance(f.chance); given && asked(f.name) || !given && on {
			f.on(w, pick)
		}
	}
	for s := twins; s < styleEnd; s++ {
		if asked(s.flag()) {
			d.styles = append(d.styles, s)
		}
	}
	most := (n - 1) / 3
	if d.excess {
		most, d.styles = (n+1)/2, []style{twins}
		d.cutEvery, d.cutFor, d.oneWay = 1500, 4000, false
	}
	for range most {
		if len(d.styles) > 0 {
			d.bad = append(d.bad, d.styles[w.rng.IntN(len(d.styles))])
		}
	}
	w.plant(n)
}

// plant sets what a planted bug needs to show.
func (w *world) plant(n int) {
	d := &w.drawn
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
	if w.drawn.delay == wan {
		g.Params.WaitLeader, g.Params.WaitQuorum = 500, 2000
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
	// The bad hold less than three tenths: a snapshot may leave out a tenth for absence, and
	// then they still hold less than a third.
	for !w.drawn.excess && w.cfg.Bug != SmallQuorum && 10*12*len(w.drawn.bad) >= 3*len(g.Outputs) {
		give(good[0], 1)
	}
	give(types.Key{}, 4)
	w.genesis, w.chain = g, g.ChainID()
}

var keyCache struct {
	sync.Mutex
	keys map[int]keyPair
}

type keyPair struct {
	secret sig.PrivateKey
	public types.Key
}

// simKey is the public key of the i-th simulated person; the ledger wants real points.
func simKey(i int) types.Key { return simPair(i).public }

func simSecret(i int) sig.PrivateKey { return simPair(i).secret }

func simPair(i int) keyPair {
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
		keyCache.keys = make(map[int]keyPair)
	}
	keyCache.keys[i] = keyPair{p, p.Public()}
	return keyCache.keys[i]
}
