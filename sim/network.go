package sim

import (
	"slices"
	"time"

	"charter/types"
)

// link is the way from one node to another.
type link struct {
	base    int64 // µs
	clogged int64 // until when it holds back everything
}

// wire draws the links.
func (w *world) wire() {
	n := len(w.nodes)
	w.links, w.cut = make([][]link, n), make([][]bool, n)
	for i, from := range w.nodes {
		w.links[i], w.cut[i] = make([]link, n), make([]bool, n)
		for j, to := range w.nodes {
			switch w.drawn.delay {
			case regional:
				w.links[i][j].base = micros(1 + types.Millis(w.rng.IntN(int(2*w.drawn.base))))
			case local:
				w.links[i][j].base = 100
			case wan:
				w.links[i][j].base = oneWay(from.place, to.place)
			default:
				w.links[i][j].base = micros(w.drawn.base)
			}
		}
	}
}

// travel is how long a message takes now, in µs.
func (w *world) travel(l *link) (t int64) {
	switch base := l.base; w.drawn.delay {
	case steady, regional:
		t = base + w.rng.Int64N(base/20+1)
	case spread:
		t = 200 + w.rng.Int64N(2*base)
	case local:
		t = base + w.rng.Int64N(900)
	case wan:
		t = base + 200 + w.rng.Int64N(base/10+1)
	case tailed:
		t = base/2 + w.rng.Int64N(base)
		if !w.healed && w.chance(0.03) {
			t += w.rng.Int64N(20 * base)
		}
	}
	if w.healed {
		return t
	}
	if w.chance(w.drawn.late) {
		w.fault("overtaken")
		t += w.between(0, 300)
	}
	return t + max(0, l.clogged-w.now)
}

// post brings a message of so many bytes to another node: late, twice, or not at all.
func (w *world) post(from, to *node, size int, deliver func()) {
	w.traffic.sent(from, size)
	if w.cut[from.id][to.id] {
		w.fault("cut off")
		return
	}
	if !w.healed && w.chance(w.drawn.loss) {
		w.fault("lost")
		return
	}
	copies := 1
	if !w.healed && w.chance(w.drawn.doubles) {
		w.fault("doubled")
		copies = 2
	}
	for range copies {
		w.after(w.travel(&w.links[from.id][to.id]), func() {
			if to.up {
				w.traffic.received(from, to, size)
				done := w.charge(from, to)
				deliver()
				done()
			}
		})
	}
}

// traffic is messages and bytes between nodes.
type traffic struct {
	Messages, Bytes int
	to              map[[2]int]int           // bytes received, by [from, to]
	cpu             map[[2]int]time.Duration // processor time for that, if it is measured
}

func (t *traffic) sent(_ *node, size int) {
	t.Messages++
	t.Bytes += size
}

func (t *traffic) received(from, to *node, size int) { t.to[[2]int{from.id, to.id}] += size }

var (
	emptyBlock = len((&types.Block{}).Encode())
	voteSize   = len((&types.Block{Checkpoint: types.CheckpointVote{Height: 1}}).Encode()) - emptyBlock
)

func sizesOf(blocks []*types.Block) (sum int) {
	for _, b := range blocks {
		sum += sizeOf(b)
	}
	return sum
}

// sizeOf is the bytes of a block as it travels, with payload.
func sizeOf(b *types.Block) int {
	size := emptyBlock + 32*len(b.Merges) + int(b.PayloadBytes)
	if !b.VRF.IsZero() {
		size += len(b.VRF)
	}
	if b.Checkpoint != (types.CheckpointVote{}) {
		size += voteSize
	}
	return size
}

// startFaults sets off cuts, crashes and clock jumps.
func (w *world) startFaults() {
	d := &w.drawn
	strike := func(mean types.Millis, do func()) {
		if mean > 0 {
			w.every(mean, func() {
				if !w.healed {
					do()
				}
			})
		}
	}
	strike(d.cutEvery, w.partition)
	strike(d.crashes, func() { w.crash(w.nodes[w.rng.IntN(len(w.nodes))]) })
	strike(d.clogs, w.clog)
	w.after(w.between(0, d.time), w.wakeTwins)
	if d.jumps {
		strike(3000, w.jump)
	}
}

// partition cuts the network in two, twins on different sides, for a while. Twins that
// were one until now part here.
func (w *world) partition() {
	w.open()
	w.wakeTwins()
	side := make([]bool, len(w.nodes))
	for i, n := range w.nodes {
		side[i] = w.chance(0.5)
		if w.drawn.excess || w.cfg.Bug == SmallQuorum {
			side[i] = i%2 == 0
		}
		if n.second {
			side[i] = !side[i-1]
		}
	}
	oneWay := w.drawn.oneWay && w.chance(0.5)
	for i := range side {
		for j := range side {
			w.cut[i][j] = side[i] != side[j] && !(oneWay && side[i])
		}
	}
	w.fault("partition")
	w.note(nil, "partition", 0, types.Hash{})
	if oneWay {
		w.fault("one-way partition")
	}
	w.cuts++
	cut := w.cuts
	w.after(w.between(w.drawn.cutFor/2, w.drawn.cutFor), func() {
		if w.cuts == cut {
			w.open()
		}
	})
}

// wakeTwins lets the second of each pair of twins begin where the first is now.
func (w *world) wakeTwins() {
	for i, n := range w.nodes {
		if !n.second || n.life > 0 || w.nodes[i-1].life == 0 {
			continue
		}
		first := w.nodes[i-1].disk
		n.disk.store(first.blocks)
		for _, d := range first.decisions {
			n.disk.apply(n, d)
		}
		n.disk.pool = slices.Clone(first.pool)
		w.fault("twins part")
		if err := n.start(); err != nil {
			w.check.fail("restart", "node %d: %v", n.id, err)
		}
	}
}

// open ends all cuts.
func (w *world) open() {
	for i := range w.cut {
		clear(w.cut[i])
	}
	w.note(nil, "open", 0, types.Hash{})
}

// partitioned reports whether anything is cut.
func (w *world) partitioned() bool {
	for i := range w.cut {
		for _, is := range w.cut[i] {
			if is {
				return true
			}
		}
	}
	return false
}

// clog has one link hold back all it carries, for up to a second.
func (w *world) clog() {
	n := len(w.nodes)
	w.fault("clog")
	w.links[w.rng.IntN(n)][w.rng.IntN(n)].clogged = w.now + w.between(100, 1000)
}

// crash stops a node at any moment, and starts it again after a while.
func (w *world) crash(n *node) {
	if !n.up {
		return
	}
	w.fault("crash")
	n.stop()
	w.after(w.between(1, w.drawn.downFor+1), func() { w.restart(n) })
}

func (w *world) restart(n *node) {
	if n.up || n.life == 0 {
		return
	}
	w.fault("restart")
	if err := n.start(); err != nil {
		w.check.fail("restart", "node %d: %v", n.id, err)
	}
}

// jump sets a clock forward or back, within the bound on clocks.
func (w *world) jump() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if n.style == race {
		return
	}
	n.skew = types.Millis(w.rng.IntN(int(2*w.drawn.skew+1))) - w.drawn.skew
	w.fault("clock jump")
	w.note(n, "jump", uint64(n.skew), types.Hash{})
}

// heal ends the time of faults: all are up, all are connected, nothing is lost.
func (w *world) heal() {
	w.healed = true
	w.open()
	w.note(nil, "heal", 0, types.Hash{})
	for _, n := range w.nodes {
		w.restart(n)
	}
	w.check.healedAt = w.now
}
