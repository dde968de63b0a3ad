package consensus

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"charter/types"
)

// network is a company of Cores with a clock, delays and cuts (see TestDrawn).
type network struct {
	now   types.Millis
	delay types.Millis
	slow  map[string]types.Millis // further delay of what a peer sends
	side  map[string]int          // of the cut
	down  map[string]bool
	trace string
	// builds: trace these only
	builds bool
	queue  []message
	held   []message // until the cut heals
	asked  map[string]types.Millis
}

type message struct {
	at       types.Millis
	from, to string
	block    *types.Block
}

func (n *node) letter() string { return letter(n.cfg.Self) }

// network does one of the commands that concern the whole company.
func (w *world) network(f []string) {
	switch f[0] {
	case "network":
		w.found(types.Millis(w.number(strings.TrimPrefix(f[1], "delay="))))
	case "trace":
		w.net.trace, w.net.builds = f[1], len(f) > 2
	case "slow":
		peer, by, _ := strings.Cut(f[1], "=")
		w.net.slow[peer] = types.Millis(w.number(by))
	case "cut":
		for side, peers := range strings.Split(f[1], "|") {
			for _, p := range peers {
				w.net.side[string(p)] = side
			}
		}
	case "heal":
		clear(w.net.side)
		for _, m := range w.net.held {
			m.at = w.net.now + w.net.delay
			w.net.queue = append(w.net.queue, m)
		}
		w.net.held = nil
	case "down":
		w.net.down[f[1]] = true
	case "up":
		w.up(f[1:])
	case "pass":
		w.pass(types.Millis(w.number(f[1])))
	}
}

// found makes a Core for everybody who has shares in any snapshot of the transcript.
func (w *world) found(delay types.Millis) {
	w.net = &network{now: w.cfg.Time, delay: delay, slow: make(map[string]types.Millis), side: make(map[string]int),
		down: make(map[string]bool), asked: make(map[string]types.Millis)}
	peers := make(map[types.Key]bool)
	for _, s := range append(slices.Collect(maps.Values(w.shares)), w.cfg.Genesis) {
		for _, m := range s.Members {
			peers[m.Peer] = true
		}
	}
	w.nodes = nil
	for _, p := range slices.SortedFunc(maps.Keys(peers), func(a, b types.Key) int { return strings.Compare(letter(a), letter(b)) }) {
		n := &node{cfg: w.cfg}
		n.cfg.Self = p
		n.core = New(n.cfg)
		n.core.Step(Waiting{true})
		w.nodes = append(w.nodes, n)
	}
}

// up starts a peer again from what it stored, from a floor if one is given.
func (w *world) up(f []string) {
	n := w.node(f[0])
	floor := uint64(0)
	if len(f) > 1 {
		floor = uint64(w.number(f[1]))
	}
	core, err := Restore(n.cfg, n.base(floor))
	if err != nil {
		w.t.Fatal(err)
	}
	core.Step(Waiting{true})
	n.core = core
	delete(w.net.down, f[0])
}

func (w *world) node(peer string) *node {
	for _, n := range w.nodes {
		if n.letter() == peer {
			return n
		}
	}
	w.t.Fatalf("no peer %s", peer)
	return nil
}

// pass lets time go by, event by event, and then says where everybody is.
func (w *world) pass(d types.Millis) {
	end := w.net.now + d
	for {
		next := end + 1
		for _, n := range w.nodes {
			if w.net.down[n.letter()] {
				continue
			}
			w.turn(n)
			if n.wake > 0 {
				next = min(next, n.wake)
			}
		}
		for _, m := range w.net.queue {
			next = min(next, m.at)
		}
		if next > end {
			break
		}
		w.net.now = max(next, w.net.now)
		w.deliver()
	}
	w.net.now = end
	w.agree()
	var at []string
	for _, n := range w.nodes {
		s := fmt.Sprintf("%s %d/%d", n.letter(), n.core.Decided(), n.core.Height())
		if w.net.down[n.letter()] {
			s = n.letter() + " down"
		}
		at = append(at, s)
	}
	w.printf("%s decided/highest: %s", w.since(end), strings.Join(at, ", "))
}

// turn lets a peer see the time, and build as often as it wants to.
func (w *world) turn(n *node) {
	n.core.Step(Tick{w.net.now})
	for w.take(n); n.build != nil; w.take(n) {
		b := n.build.Block(n.cfg.Self)
		if n.build.VRF != nil {
			b.VRF = testVRF(n.cfg.Self, n.build.VRF)
		}
		name := w.baptise(b)
		if n.letter() == w.net.trace {
			w.printf("%s builds %s on %s with %d merges", w.since(w.net.now), name, w.name(b.Parent), len(b.Merges))
		}
		n.core.Step(Block{b})
		for _, o := range w.nodes {
			if o != n {
				w.send(message{w.net.now + w.net.delay + w.net.slow[n.letter()], n.letter(), o.letter(), b})
			}
		}
	}
	w.lower(n)
	for _, m := range n.missing {
		ask := n.letter() + string(m.ID[:])
		if w.net.now < w.net.asked[ask] {
			continue
		}
		w.net.asked[ask] = w.net.now + 4*w.net.delay
		if b := w.blocks[w.names[m.ID]]; b != nil {
			w.send(message{w.net.now + 2*w.net.delay, letter(b.Author), n.letter(), b})
		}
	}
}

// lower restores a Core from further down if it asks for that, or misses a block that it has
// stored: what was pruned is needed again, under a late branch.
func (w *world) lower(n *node) {
	for again := 0; ; again++ {
		floor := n.floor
		for _, m := range n.missing {
			for _, a := range n.accepted {
				if f := max(a.Past.Decided, 1); a.ID == m.ID && (floor == 0 || f < floor) {
					floor = f
				}
			}
		}
		if floor == 0 {
			return
		}
		if again > 10 {
			w.t.Fatalf("%s asks for a lower floor without end", n.letter())
		}
		if err := n.restart(floor, n.core.Decided()); err != nil {
			w.t.Fatal(err)
		}
		if n.letter() == w.net.trace {
			w.printf("%s goes back in memory to height %d", w.since(w.net.now), n.core.Floor())
		}
		n.core.Step(Waiting{true})
		w.take(n)
	}
}

func (w *world) send(m message) {
	if w.net.side[m.from] != w.net.side[m.to] {
		w.net.held = append(w.net.held, m)
		return
	}
	w.net.queue = append(w.net.queue, m)
}

func (w *world) deliver() {
	var later []message
	for _, m := range w.net.queue {
		switch n := w.node(m.to); {
		case m.at > w.net.now:
			later = append(later, m)
		case !w.net.down[m.to]:
			n.core.Step(Tick{w.net.now})
			n.core.Step(Block{m.block})
		}
	}
	w.net.queue = later
}

// agree fails the test if two peers decided one height differently.
func (w *world) agree() {
	for _, n := range w.nodes {
		first := w.nodes[0].decisions
		for i := range min(len(first), len(n.decisions)) {
			if a, b := w.decision(&first[i]), w.decision(&n.decisions[i]); a != b {
				w.t.Errorf("%s decides %s, and %s decides %s", w.nodes[0].letter(), a, n.letter(), b)
			}
		}
	}
}

// report writes down what the traced peer learns: of each ordered block, how long after its
// time it became final.
func (net *network) report(w *world, n *node, r *Ready) {
	for _, x := range r.Refused {
		w.t.Errorf("%s refuses %s: %v", n.letter(), w.name(x.ID), x.Err)
	}
	if n.letter() != net.trace || net.builds {
		return
	}
	for _, d := range r.Decided {
		s := fmt.Sprintf("%s %s", w.since(net.now), w.decision(&d))
		for i, id := range d.Blocks {
			s += fmt.Sprintf("%s%d", map[bool]string{true: ": after ", false: " "}[i == 0], net.now-w.blocks[w.names[id]].Time)
		}
		w.printf("%s", s)
	}
}
