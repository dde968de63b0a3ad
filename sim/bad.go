package sim

import (
	"slices"

	"charter/consensus"
	"charter/types"
)

// style is how a peer behaves.
type style uint8

const (
	honest style = iota
	twins
	withhold
	late
	hoard
	half
	wrongParent
	double
	splitLeader
	oldVotes
	refuse
	private
	balance
	race
	closer
	storm
	broken
	garbage
	induce
	falseVote
	styleEnd
)

var styles = [styleEnd][2]string{
	honest:      {"honest", "keeps the rules"},
	twins:       {"twins", "two honest copies of one key, that know nothing of each other"},
	withhold:    {"withhold", "now and then keeps its block to itself"},
	late:        {"late", "sends its blocks up to some seconds late"},
	hoard:       {"hoard", "builds for seconds and sends nothing, then all at once"},
	half:        {"half", "sends its blocks to some only"},
	wrongParent: {"wrong parent", "takes any named block as parent"},
	double:      {"double", "now and then signs two blocks, and shows one to some, one to the others"},
	splitLeader: {"split leader", "where it leads, signs two blocks that name different ones, for two halves"},
	oldVotes:    {"old votes", "signs blocks of heights long past, that vote as nobody did then"},
	refuse:      {"refuse", "will not name the leader's block"},
	private:     {"private chain", "builds for seconds with its like alone, then shows it all"},
	balance:     {"balance", "sees what all hold, and sends its block first to the weaker side"},
	race:        {"race", "has its clock as far ahead as its blocks are taken at all"},
	closer:      {"closer", "withholds its block where that would close the run"},
	storm:       {"storm", "signs many variants of each block, and shows each to others"},
	broken:      {"broken", "sends blocks that break a rule"},
	garbage:     {"garbage", "sends heaps of blocks that name nothing there is"},
	induce:      {"induce", "has others pull its blocks, and what does not exist"},
	falseVote:   {"false vote", "signs checkpoints that are not, and two of one height"},
}

func (s style) String() string { return styles[s][0] }
func (s style) what() string   { return styles[s][1] }

// fill makes a block of a template, as a peer of its style does.
func (n *node) fill(t *consensus.Template) *types.Block {
	w := n.w
	b := t.Block(n.key)
	if t.VRF != nil {
		b.VRF = proveVRF(n.key, t.VRF)
	}
	b.Checkpoint = n.disk.vote
	n.load(b)
	switch {
	case n.style == wrongParent && len(b.Merges) > 0 && w.chance(0.5):
		i := w.rng.IntN(len(b.Merges))
		b.Parent, b.Merges[i] = b.Merges[i], b.Parent
		sortHashes(b.Merges)
		w.fault("wrong parent")
	case n.style == falseVote && b.Checkpoint.Height > 0 && w.chance(0.5):
		b.Checkpoint.Checkpoint[0] ^= 1
		w.fault("false checkpoint")
	}
	return b
}

func all(*node) bool { return true }

// evens is every other node.
func evens(to *node) bool { return to.id%2 == 0 }
func odds(to *node) bool  { return to.id%2 == 1 }

// publish sends an own block that is durable, as a peer of its style does.
func (n *node) publish(b *types.Block) {
	w := n.w
	switch n.style {
	case withhold:
		if w.chance(0.3) {
			w.fault("withheld")
			return
		}
	case late:
		if w.chance(0.5) {
			w.fault("late")
			n.afterwards(w.between(100, 3000), func() { n.broadcast(b, all) })
			return
		}
	case hoard, private:
		n.store(b)
		return
	case half:
		w.fault("to half")
		n.broadcast(b, func(*node) bool { return w.chance(0.5) })
		return
	case double:
		if w.chance(0.05) {
			w.fault("double")
			n.split(b, n.variant(b, 1))
			return
		}
	case splitLeader:
		if n.leads(b) {
			if other := n.forge(b.Height, true); other != nil && w.id(other) != w.id(b) {
				w.fault("split leader")
				n.split(b, other)
				return
			}
		}
	case oldVotes:
		n.voteAnew(b)
	case balance:
		n.weigh(b, 0)
		return
	case race:
		w.fault("raced")
	case closer:
		if !b.VRF.IsZero() && n.leads(b) {
			w.fault("closing block withheld")
			return
		}
	case storm:
		n.storm(b)
	case broken:
		if w.chance(0.3) {
			n.broadcast(n.corrupt(b), all)
		}
	case garbage:
		if w.cfg.hard > 1 || w.chance(0.2) {
			n.scatter(b)
		}
	case induce:
		if b.Height%5 != 0 {
			w.fault("to be pulled")
			return
		}
	}
	n.broadcast(b, all)
	if n.style == induce {
		for range w.worse(1) {
			n.lure(b)
		}
	}
}

// afterwards does something later in the same life.
func (n *node) afterwards(µs int64, do func()) {
	life := n.life
	n.w.after(µs, func() {
		if n.up && n.life == life {
			do()
		}
	})
}

// variant is a copy of an own block, another one by its sample.
func (n *node) variant(b *types.Block, i byte) *types.Block {
	other := *b
	other.Sample = types.Hash{i}
	n.keep(&other)
	return &other
}

// keep makes a block that is not on the own line one that others can pull.
func (n *node) keep(b *types.Block) {
	if n.kept == nil {
		n.kept = make(map[types.Hash]*types.Block)
	}
	n.kept[n.w.id(b)] = b
}

// split shows one block to one half, and another one to the other.
func (n *node) split(a, b *types.Block) {
	n.broadcast(a, evens)
	n.broadcast(b, odds)
}

// forge is another own block of a height below the top, as it could have been built on what
// was there: without what a leader had sent last, if that is to be left out. Nil if it
// cannot be made now.
func (n *node) forge(h uint64, leaveOut bool) *types.Block {
	w := n.w
	cut := n.disk.first(min(len(n.disk.decisions), max(int(h), 4)-4))
	if len(cut.decisions) < 3 {
		return nil
	}
	var leader types.Key
	if run := w.runAt(n, h-1); run != nil {
		leader = w.luck.draw(run, h-1).leader
	}
	cut.blocks, cut.byID, cut.lines = nil, make(map[types.Hash]int), make(map[types.Key][]*types.Block)
	for _, a := range n.disk.blocks {
		if b := a.Block; b.Height < h && !(leaveOut && b.Height+1 == h && b.Author == leader && leader != n.key) {
			cut.store([]consensus.Accepted{a})
		}
	}
	floor := cut.anchorBelow(uint64(max(len(cut.decisions), 16) - 16))
	for range 4 {
		core, err := consensus.Restore(w.consensusConfig(n.key), cut.baseAt(n, floor))
		if err != nil {
			return nil
		}
		if lower := core.Ready().Floor; lower > 0 && floor > 0 {
			floor = cut.anchorBelow(min(lower, floor-1))
			continue
		}
		if b := n.buildAt(core, h); b != nil {
			n.keep(b)
			return b
		}
		return nil
	}
	return nil
}

// buildAt has a core build a height, once it waits for nothing any more; nil if it does not.
func (n *node) buildAt(core *consensus.Core, h uint64) *types.Block {
	p := n.w.params()
	for _, before := range []types.Millis{p.WaitQuorum, p.WaitQuorum - p.WaitLeader, 0} {
		core.Step(consensus.Tick{Now: n.clock() - before})
		core.Step(consensus.Waiting{Is: true})
		if t := core.Ready().Build; t != nil && t.Height == h {
			b := t.Block(n.key)
			if t.VRF != nil {
				b.VRF = proveVRF(n.key, t.VRF)
			}
			return b
		}
	}
	return nil
}

// leads reports whether the author of a block leads its height.
func (n *node) leads(b *types.Block) bool {
	run := n.w.runAt(n, b.Height)
	return run != nil && n.w.luck.draw(run, b.Height).leader == n.key
}

// voteAnew now and then sends a block of a height some way below b, that votes otherwise.
func (n *node) voteAnew(b *types.Block) {
	back := uint64(1 + n.w.rng.IntN(12))
	if b.Height <= back+8 || !n.w.chance(0.03) {
		return
	}
	if old := n.forge(b.Height-back, true); old != nil {
		n.w.fault("old vote")
		n.broadcast(old, all)
	}
}

// secluded reports whether a peer is by itself now: two seconds of every five.
func (n *node) secluded() bool { return !n.w.healed && n.w.now%micros(5000) < micros(2000) }

// store keeps a block back as long as its author is by itself; its like get it at once.
func (n *node) store(b *types.Block) {
	w := n.w
	n.hoard = append(n.hoard, b)
	if n.secluded() {
		w.fault("hoarded")
		if n.style == private {
			n.broadcast(b, func(to *node) bool { return to.style == private })
		}
		if len(n.hoard) == 1 {
			n.afterwards(micros(2000), n.release)
		}
		return
	}
	n.release()
}

// release sends all that was kept back.
func (n *node) release() {
	for _, b := range n.hoard {
		n.broadcast(b, all)
	}
	n.hoard = nil
}

// refuses reports whether a block is the leader's of its height, and will not be named: it
// comes in once somebody else has named it.
func (n *node) refuses(b *types.Block) bool {
	w := n.w
	run := w.runAt(n, b.Height)
	if _, wanted := n.asked[w.id(b)]; wanted || run == nil || w.luck.draw(run, b.Height).leader != b.Author {
		return false
	}
	w.fault("refused to name")
	return true
}

// weigh waits until more than half of the honest have built at a block's height, and sends
// it to the weaker side of a split at once, to the others when they are about to go on.
func (n *node) weigh(b *types.Block, waited types.Millis) {
	w := n.w
	sides := make(map[types.Hash][]*node)
	var first, second types.Hash
	there, honests := 0, 0
	for _, m := range w.nodes {
		if m.style != honest || !m.up {
			continue
		}
		honests++
		line := m.disk.lines[m.key]
		if len(line) == 0 || line[len(line)-1].Height < b.Height {
			continue
		}
		there++
		i := len(line) - 1
		for ; i > 0 && line[i-1].Height >= b.Height; i-- {
		}
		p := line[i].Parent
		if sides[p] = append(sides[p], m); first.IsZero() {
			first = p
		} else if p != first && second.IsZero() {
			second = p
		}
	}
	if 2*there <= honests && waited < w.params().WaitLeader {
		n.afterwards(5000, func() { n.weigh(b, waited+5) })
		return
	}
	soon := evens
	if !second.IsZero() {
		w.fault("balanced")
		weaker := sides[first]
		if len(sides[second]) < len(weaker) {
			weaker = sides[second]
		}
		soon = func(to *node) bool { return slices.Contains(weaker, to) }
	} else {
		w.fault("sent to one side first")
	}
	n.broadcast(b, soon)
	n.afterwards(micros(max(w.params().WaitLeader, waited)-waited+1), func() { n.broadcast(b, func(to *node) bool { return !soon(to) }) })
}

// storm sends variants of a block, each to other nodes, and all to one of them.
func (n *node) storm(b *types.Block) {
	w := n.w
	target := w.rng.IntN(len(w.nodes))
	for i := range w.worse(6) {
		w.fault("variant")
		n.broadcast(n.variant(b, byte(i+1)), func(to *node) bool { return w.cfg.hard > 1 || to.id == target || to.id%6 == i })
	}
}

// scatter sends blocks that name what does not exist, at all sorts of heights.
func (n *node) scatter(b *types.Block) {
	w := n.w
	for range w.worse(2) {
		w.fault("garbage")
		c := *b
		c.Height = uint64(w.rng.Int64N(1 + int64(b.Height)*int64(1+w.rng.IntN(1000))))
		c.Parent = w.anyHash()
		c.Merges = []types.Hash{w.anyHash(), w.anyHash()}
		sortHashes(c.Merges)
		n.broadcast(&c, all)
	}
}

// lure sends a block that merges one that does not exist: it will be asked for.
func (n *node) lure(b *types.Block) {
	w := n.w
	w.fault("lured")
	c := *b
	c.Merges = append(slices.Clone(b.Merges), w.anyHash())
	sortHashes(c.Merges)
	n.broadcast(&c, all)
}

func (w *world) anyHash() (h types.Hash) {
	for i := range h {
		h[i] = byte(w.rng.IntN(256))
	}
	return h
}

// corrupt is a copy of a block that breaks a rule. The author's own line does not hold it.
func (n *node) corrupt(b *types.Block) *types.Block {
	n.w.fault("broken block")
	c := *b
	switch n.w.rng.IntN(6) {
	case 0:
		c.Height++
	case 1:
		c.Time = n.w.genesis.Time - 1
	case 2:
		c.Previous = types.Hash{7}
	case 3:
		c.VRF = types.VRFProof{3}
	case 4:
		c.Author = simKey(999)
	case 5:
		c.Past[0] ^= 1
	}
	return &c
}
