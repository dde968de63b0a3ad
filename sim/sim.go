// Package sim is a seeded world of real consensus cores and ledgers, with faults and
// checkers: the first level of testing (testing in spec/, "core simulation").
//
//	         ┌───────── one event heap, one seed, no real clock ─────────┐
//	wallet ──► node: core + ledger ──► disk (loses what is not synced)   │
//	         │   ▲  ▲                                                    │
//	         │   │  └── network: delay, loss, doubles, cuts, one way     │
//	         │   └───── clock: skew, jumps          bad peers, twins     │
//	         └────────────────────────────► checkers, sometimes table ───┘
//
// A seed draws which faults are on at all, and everything else. Two runs of a seed are the
// same event by event, in any process: Report.Trace is the hash of all events.
//
// What is real: package consensus, package ledger with its five trees. What stands in:
// keyed hashes for the VRF, no block signatures, no transaction signatures, and for store,
// chain and gossip a small driver (node.go) that keeps their contract. The checkers share
// no code with consensus; naive.go is a second consensus straight from the text, over sets.
//
//	sim.go       seed to report, the event heap, the trace
//	draw.go      what a seed draws
//	network.go   links, cuts, clocks and crashes
//	regions.go   how far apart peers of ten regions are
//	node.go      the driver of one core, and what it says to others
//	disk.go      what survives, and restoring from it
//	bad.go       what bad peers do
//	wallet.go    payments that move shares between hosts
//	check.go     the invariants, as they must hold at every moment
//	naive.go     the slow twin of consensus
//	replay.go    a run's blocks once more: other orders, other floors, the slow twin
//	justify.go   each decision once more, from the text and the names alone
//	rebuild.go   the ledger once more: from genesis, roots from nothing, proofs
//	campaign.go  many seeds, and what they must have reached
package sim

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"charter/consensus"
	"charter/ledger"
	"charter/types"
)

// Config says what to run. What is zero is drawn from the seed.
type Config struct {
	Seed    uint64
	Peers   int          // keys with shares or without, 4 to 999
	Time    types.Millis // simulated until all is healed; quietTime follows
	Latency Latency
	Faults  []string // these are on, and no others (Faults names all); nil: as drawn
	Calm    bool     // no faults: for speed
	Bug     Bug      // planted, to see that it is found

	hard    int  // bad peers do so many times as much; 0 is 1
	measure bool // the processor time of what comes from each node
}

// Command is what replays the run.
func (c *Config) Command() string {
	s := fmt.Sprintf("charter sim --seeds %d", c.Seed)
	if c.Peers > 0 {
		s += fmt.Sprintf(" --peers %d", c.Peers)
	}
	if c.Time > 0 {
		s += fmt.Sprintf(" --minutes %s", strconv.FormatFloat(float64(c.Time)/60_000, 'g', -1, 64))
	}
	if c.Latency != AnyLatency {
		s += " --latency " + c.Latency.String()
	}
	switch {
	case c.Calm || c.Faults != nil && len(c.Faults) == 0:
		s += " --faults none"
	case c.Faults != nil:
		s += " --faults " + strings.Join(c.Faults, ",")
	}
	return s
}

// Bug is a mistake planted in the simulated driver or checkers' world.
type Bug uint8

const (
	NoBug Bug = iota
	// SendEarly: a peer sends its block before that is durable.
	SendEarly
	// LyingDisk: a sync returns, and the last blocks are not on the disk after a crash.
	LyingDisk
	// ForgetRun: a restored peer is not told which run comes next.
	ForgetRun
	// SmallQuorum: half a third more of the shares than may are in the hands of twins, and
	// the world believes them honest.
	SmallQuorum
	bugEnd
)

var bugNames = [...]string{"none", "send before durable", "disk forgets what was synced", "next run not restored", "too many twins"}

// String is the bug in words.
func (b Bug) String() string { return bugNames[b] }

// Report is what a run did.
type Report struct {
	Seed      uint64
	Command   string       // replays it
	Drawn     string       // the faults that are on
	Simulated types.Millis // time
	Heights   uint64       // decided by the best peer
	Events    int
	Faults    map[string]int // how often each struck
	Checks    map[string]int // how often each invariant was checked
	Sometimes map[string]int // how often each place was reached
	Traffic   traffic        // between all nodes
	Trace     types.Hash     // over all events
	Stopped   bool           // before its end
	Violation *Violation     // nil if all held
}

// Violation is an invariant that broke.
type Violation struct {
	Seed      uint64
	Invariant string
	What      string
	At        types.Millis
	Tail      []string // the last events
	Command   string   // replays it
}

func (v *Violation) Error() string {
	return fmt.Sprintf("seed %d: %s broken at %d ms: %s\n%s\nagain: %s",
		v.Seed, v.Invariant, v.At, v.What, strings.Join(v.Tail, "\n"), v.Command)
}

// quietTime is how long a healed network has to make everything final.
const quietTime types.Millis = 30_000

// world is all of one run.
type world struct {
	cfg     Config
	rng     *rand.Rand
	drawn   drawn
	genesis *types.Genesis
	chain   types.Hash
	peers   []types.Key
	bad     map[types.Key]style
	nodes   []*node
	links   [][]link
	cut     [][]bool // cut[from][to]
	cuts    int      // so far
	healed  bool     // the time of faults is over

	now    int64 // µs
	seq    uint64
	events eventHeap

	payloads map[types.Hash][]*ledger.Parsed
	ids      map[*types.Block]types.Hash
	traffic  traffic
	payments []*payment
	check    *checker
	luck     *Naive // draws
	runs     map[types.Hash]*naiveRun
	trace    trace
	report   *Report
}

// Run runs one seed, until that is over or the context is. The error is a configuration that
// cannot run; what the run found is in the report. A panic, of consensus or ledger, is a
// violation.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	w, err := prepare(cfg)
	if err != nil {
		return nil, err
	}
	w.run(ctx)
	r := w.report
	r.Simulated = types.Millis(w.now / 1000)
	r.Heights = uint64(len(w.check.decided))
	r.Drawn, r.Traffic = w.drawn.String(), w.traffic
	w.trace.sum.Sum(r.Trace[:0])
	return r, nil
}

// prepare makes the world of a seed.
func prepare(cfg Config) (*world, error) {
	if err := KnownFaults(cfg.Faults); err != nil {
		return nil, err
	}
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x5eed)), bad: make(map[types.Key]style),
		payloads: make(map[types.Hash][]*ledger.Parsed), ids: make(map[*types.Block]types.Hash),
		traffic: traffic{to: make(map[[2]int]int), cpu: make(map[[2]int]time.Duration)}, trace: trace{sum: sha256.New()},
		luck: &Naive{draws: map[naiveDraw]drawnAt{}}, runs: make(map[types.Hash]*naiveRun),
		report: &Report{Seed: cfg.Seed, Command: cfg.Command(), Faults: map[string]int{}, Checks: map[string]int{}, Sometimes: map[string]int{}},
	}
	w.check = newChecker(w)
	w.draw()
	return w, w.populate()
}

func (w *world) run(ctx context.Context) {
	defer func() {
		if p := recover(); p != nil {
			w.check.fail("no panic", "%v\n%s", p, debug.Stack())
		}
	}()
	end := micros(w.drawn.time + quietTime)
	for len(w.events) > 0 && w.report.Violation == nil && !w.check.over {
		e := heap.Pop(&w.events).(event)
		if e.at > end {
			break
		}
		w.now = e.at
		if w.report.Events++; w.report.Events%1024 == 0 && ctx.Err() != nil {
			w.report.Stopped = true
			return
		}
		e.do()
	}
	if w.report.Violation == nil && !w.check.over {
		w.check.atEnd()
	}
}

// populate makes peers and nodes, and starts all that repeats.
func (w *world) populate() error {
	for i := range w.peers {
		key := w.peers[i]
		w.addNode(i, false)
		if w.bad[key] == twins {
			w.addNode(i, true)
		}
	}
	w.check.start()
	w.wire()
	for _, n := range w.nodes {
		if n.second {
			continue
		}
		if err := n.start(); err != nil {
			return err
		}
	}
	w.every(w.drawn.payEvery, w.pay)
	w.every(3000, w.resubmit)
	w.startFaults()
	w.after(micros(w.drawn.time), w.heal)
	return nil
}

func (w *world) addNode(place int, second bool) {
	key := w.peers[place]
	m, _, err := ledger.NewMemory(w.genesis)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err))
	}
	n := &node{w: w, id: len(w.nodes), place: place, key: key, style: w.bad[key], second: second, disk: newDisk(m)}
	w.nodes = append(w.nodes, n)
}

// event is something to do at a time. Those of one time are done in order of making.
type event struct {
	at  int64
	seq uint64
	do  func()
}

type eventHeap []event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*h = old[:len(old)-1]
	return e
}

// after does something some µs from now.
func (w *world) after(µs int64, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + µs, w.seq, do})
}

// every does something again and again, with a mean time between.
func (w *world) every(mean types.Millis, do func()) {
	var again func()
	again = func() {
		do()
		w.after(w.between(mean/2, mean*3/2), again)
	}
	w.after(w.between(0, mean), again)
}

// between is a time in µs, drawn from lo to hi.
func (w *world) between(lo, hi types.Millis) int64 {
	return int64(lo)*1000 + w.rng.Int64N(int64(hi-lo)*1000+1)
}

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// id is the id of a block, worked out once.
func (w *world) id(b *types.Block) types.Hash {
	id, ok := w.ids[b]
	if !ok {
		id = b.ID(w.chain)
		w.ids[b] = id
	}
	return id
}

func (w *world) fault(name string)     { w.report.Faults[name]++ }
func (w *world) sometimes(name string) { w.report.Sometimes[name]++ }

// params are those of the chain.
func (w *world) params() *types.Params { return &w.genesis.Params }

// honest reports whether a key keeps the rules.
func (w *world) honest(key types.Key) bool { return w.bad[key] == honest }

// consensusConfig is what the core of key is made of.
func (w *world) consensusConfig(self types.Key) consensus.Config {
	return consensus.Config{
		Chain: w.chain, Params: *w.params(), Genesis: w.genesis.Snapshot(), Time: w.genesis.Time, Self: self,
		VRF: func(peer types.Key, input []byte, proof types.VRFProof) error {
			if proof != proveVRF(peer, input) {
				return fmt.Errorf("proof by %s is not of this input", peer.Short())
			}
			return nil
		},
		VRFOutput: func(p types.VRFProof) types.Hash { return sha256.Sum256(p[:]) },
	}
}

// proveVRF stands in for a VRF: unlike one, anybody could make it.
func proveVRF(peer types.Key, input []byte) (p types.VRFProof) {
	h := sha256.Sum256(append(peer[:], input...))
	copy(p[:], h[:])
	p[96] = 1
	return p
}

// trace is the run's history: its hash, and its last entries.
type trace struct {
	sum  hash.Hash
	last [traceTail]entry
	n    int
}

const traceTail = 80

type entry struct {
	at   int64
	kind string
	node int
	a    uint64
	id   types.Hash
}

func (e entry) String() string {
	return fmt.Sprintf("%10.3f ms  node %2d  %-12s %6d  %s", float64(e.at)/1000, e.node, e.kind, e.a, e.id.Short())
}

// note puts an entry on the trace.
func (w *world) note(n *node, kind string, a uint64, id types.Hash) {
	e := entry{w.now, kind, -1, a, id}
	if n != nil {
		e.node = n.id
	}
	var buf [8 * 3]byte
	binary.BigEndian.PutUint64(buf[0:], uint64(e.at))
	binary.BigEndian.PutUint64(buf[8:], uint64(e.node))
	binary.BigEndian.PutUint64(buf[16:], e.a)
	w.trace.sum.Write(buf[:])
	w.trace.sum.Write([]byte(kind))
	w.trace.sum.Write(id[:])
	w.trace.last[w.trace.n%traceTail] = e
	w.trace.n++
}

func (t *trace) tail() (lines []string) {
	for i := max(0, t.n-traceTail); i < t.n; i++ {
		lines = append(lines, t.last[i%traceTail].String())
	}
	return lines
}
