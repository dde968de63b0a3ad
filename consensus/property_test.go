package consensus

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"charter/types"
)

// grower grows random graphs: Cores that build as they should, on messages that come in any
// order, and Cores that share a key with another (so it forks) or spoil what they build.
type grower struct {
	rng    *rand.Rand
	cfg    Config
	shares func(height uint64) *types.Snapshot
	nodes  []*node
	inbox  [][]*types.Block
	now    types.Millis
	blocks []*types.Block
	byID   map[types.Hash]*types.Block
}

// grow is some steps of a company of n keys, of which the first bad ones run twice.
func grow(seed uint64, n, bad, steps int) *grower {
	g := &grower{rng: rand.New(rand.NewPCG(seed, 99)), byID: make(map[types.Hash]*types.Block)}
	g.shares = func(height uint64) *types.Snapshot {
		s := &types.Snapshot{Height: height}
		rng := rand.New(rand.NewPCG(seed, height))
		for i := range n {
			s.Members = append(s.Members, types.Member{Peer: letterKey('a' + byte(i)), Shares: types.Amount(1 + rng.IntN(3))})
		}
		if height > 0 && n > 4 { // somebody leaves, for a while
			i := rng.IntN(n)
			s.Members = slices.Delete(s.Members, i, i+1)
		}
		return s
	}
	g.cfg = testConfig(types.NewTag("test/grow").Hash([]byte{byte(seed), byte(seed >> 8)}), g.shares(0))
	g.cfg.Params.SnapshotLag, g.cfg.Params.SnapshotPeriod, g.cfg.Params.RunLength, g.cfg.Params.RunTail = 9, 8, 4, 4
	g.now = g.cfg.Time
	for i := range n + bad {
		nd := &node{cfg: g.cfg}
		nd.cfg.Self = letterKey('a' + byte(i%n))
		nd.core = New(nd.cfg)
		nd.core.Step(Waiting{true})
		g.nodes = append(g.nodes, nd)
	}
	g.inbox = make([][]*types.Block, len(g.nodes))
	for range steps {
		g.step(n, bad)
	}
	return g
}

func (g *grower) step(n, bad int) {
	i := g.rng.IntN(len(g.nodes))
	nd := g.nodes[i]
	isBad := i < bad || i >= n
	if g.rng.IntN(3) == 0 {
		g.now += types.Millis(g.rng.IntN(25))
		if g.rng.IntN(40) == 0 {
			g.now += g.cfg.Params.WaitQuorum
		}
	}
	nd.core.Step(Tick{g.now})
	for range g.rng.IntN(6) {
		if k := len(g.inbox[i]); k > 0 {
			j := g.rng.IntN(min(k, 8))
			nd.core.Step(Block{g.inbox[i][j]})
			g.inbox[i] = slices.Delete(g.inbox[i], j, j+1)
		}
	}
	nd.follow(g.shares, true)
	for _, m := range nd.missing {
		if b := g.byID[m.ID]; b != nil && g.rng.IntN(4) == 0 {
			g.inbox[i] = append([]*types.Block{b}, g.inbox[i]...)
		}
	}
	if nd.build == nil || g.rng.IntN(3) == 0 {
		return
	}
	b := nd.build.Block(nd.cfg.Self)
	if nd.build.VRF != nil {
		b.VRF = testVRF(nd.cfg.Self, nd.build.VRF)
	}
	if isBad {
		b.Payload, b.PayloadBytes = types.Hash{byte(i), 1}, 1
		g.spoil(b)
	}
	nd.core.Step(Block{b})
	nd.follow(g.shares, true)
	g.blocks = append(g.blocks, b)
	g.byID[b.ID(g.cfg.Chain)] = b
	for j := range g.nodes {
		if j != i && (!isBad || g.rng.IntN(2) == 0) { // the bad tell half of the others
			g.inbox[j] = append(g.inbox[j], b)
		}
	}
}

// spoil changes a block in a way that is sometimes still valid.
func (g *grower) spoil(b *types.Block) {
	switch g.rng.IntN(12) {
	case 0: // another parent
		if len(b.Merges) > 0 {
			i := g.rng.IntN(len(b.Merges))
			b.Parent, b.Merges[i] = b.Merges[i], b.Parent
			sortHashes(b.Merges)
		}
	case 1: // does not name somebody
		if len(b.Merges) > 0 {
			i := g.rng.IntN(len(b.Merges))
			b.Merges = slices.Delete(b.Merges, i, i+1)
		}
	case 2: // names anything
		id := g.cfg.Chain
		if len(g.blocks) > 0 {
			id = g.blocks[g.rng.IntN(len(g.blocks))].ID(g.cfg.Chain)
		}
		if id != b.Parent && !slices.Contains(b.Merges, id) {
			b.Merges = append(b.Merges, id)
			sortHashes(b.Merges)
		}
	case 3:
		b.Height += uint64(g.rng.IntN(3)) - 1
	case 4:
		b.Time += types.Millis(g.rng.IntN(2000) - 1000)
	case 5:
		b.VRF[0] ^= 1
	}
}

// follow does what Ready asks of a driver, but to build; without prune it keeps all in memory.
func (n *node) follow(shares func(uint64) *types.Snapshot, prune bool) (floor uint64) {
	for {
		r := n.core.Ready()
		n.accepted = append(n.accepted, r.Accepted...)
		n.build, n.missing = r.Build, r.Missing
		n.refusals = append(n.refusals, r.Refused...)
		if prune {
			n.core.Advance()
		} else {
			n.core.ready = Ready{}
		}
		for _, d := range r.Decided {
			n.decisions = append(n.decisions, d)
			if d.Closes != nil {
				n.runs = append(n.runs, *d.Closes)
			}
			if d.Height%n.cfg.Params.SnapshotPeriod == 0 {
				s := shares(d.Height)
				n.snapshots = append(n.snapshots, s)
				n.core.Step(Snapshot{s})
			}
		}
		if floor = r.Floor; len(r.Decided) == 0 {
			return floor
		}
	}
}

// story is all that a node decided, in words.
func (n *node) story() (lines []string) {
	for _, d := range n.decisions {
		s := fmt.Sprintf("%d run %d %s %s %v", d.Height, d.Run, d.Anchor.Short(), d.Time, d.Closes)
		for _, id := range d.Blocks {
			s += " " + id.Short()
		}
		lines = append(lines, s)
	}
	return lines
}

func (n *node) acceptedIDs() (ids []string) {
	for _, a := range n.accepted {
		ids = append(ids, a.ID.Short())
	}
	slices.Sort(ids)
	return ids
}

func (n *node) refusedIDs() []string {
	kinds := make(map[string]bool)
	for _, r := range n.refusals {
		kinds[r.ID.Short()+" "+r.Err.Kind.String()] = true
	}
	return slices.Sorted(maps.Keys(kinds))
}

// shuffled is the blocks in another order: each moves by up to some places, or to anywhere.
func shuffled(rng *rand.Rand, blocks []*types.Block, by int) []*types.Block {
	keys := make(map[*types.Block]int)
	for i, b := range blocks {
		if keys[b] = i + rng.IntN(by+1); rng.IntN(50) == 0 {
			keys[b] = rng.IntN(len(blocks))
		}
	}
	out := slices.Clone(blocks)
	slices.SortStableFunc(out, func(a, b *types.Block) int { return keys[a] - keys[b] })
	return out
}

// The same blocks in any order: the same enter, the same are refused for the same reason, the
// same is decided in the same order. With the bound on forked authors' blocks, who got less
// has decided a beginning of it.
func TestOrderIndependence(t *testing.T) {
	totals := make(map[string]int)
	for seed := range uint64(24) {
		n := 4 + int(seed%4)
		g := grow(seed, n, int(seed%3), 1200)
		rng := rand.New(rand.NewPCG(seed, 1))
		var first *node
		for try := range 4 {
			nd := &node{cfg: g.cfg, core: New(g.cfg)}
			nd.core.again = try < 3
			nd.core.Step(Tick{g.now + 10_000})
			for _, b := range shuffled(rng, g.blocks, []int{0, 30, len(g.blocks), 30}[try]) {
				nd.core.Step(Block{b})
				if rng.IntN(3) == 0 {
					nd.follow(g.shares, false)
				}
			}
			nd.follow(g.shares, false)
			switch {
			case first == nil:
				first = nd
				totals["blocks"] += len(nd.accepted)
				totals["refused"] += len(nd.refusedIDs())
				totals["decided"] += len(nd.decisions)
				totals["runs"] += len(nd.runs)
				for _, a := range nd.core.authors {
					if a.forked {
						totals["forked"]++
					}
				}
				for _, d := range nd.decisions {
					if d.Anchor.IsZero() {
						totals["empty"]++
					}
				}
			case try < 3:
				for what, pair := range map[string][2][]string{
					"accepted": {first.acceptedIDs(), nd.acceptedIDs()}, "refused": {first.refusedIDs(), nd.refusedIDs()}, "decided": {first.story(), nd.story()},
				} {
					if !slices.Equal(pair[0], pair[1]) {
						t.Fatalf("seed %d, order %d: other blocks are %s: %s", seed, try, what, difference(pair[0], pair[1]))
					}
				}
			default:
				a, b := first.story(), nd.story()
				if k := min(len(a), len(b)); !slices.Equal(a[:k], b[:k]) {
					t.Fatalf("seed %d: with less of forked authors, another past: %s", seed, difference(a[:k], b[:k]))
				}
			}
		}
		for i, nd := range g.nodes {
			a, b := first.story(), nd.story()
			if k := min(len(a), len(b)); !slices.Equal(a[:k], b[:k]) {
				t.Fatalf("seed %d: builder %d decided another past: %s", seed, i, difference(a[:k], b[:k]))
			}
		}
	}
	t.Log(totals)
	for what, least := range map[string]int{"blocks": 3000, "refused": 20, "decided": 300, "runs": 10, "forked": 10, "empty": 20} {
		if totals[what] < least {
			t.Errorf("only %d %s in all: the graphs show too little", totals[what], what)
		}
	}
}

func difference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("at %d\n%s\n%s", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d and %d: %s", len(a), len(b), strings.Join(append(a[min(len(a), len(b)):], b[min(len(a), len(b)):]...), "\n"))
}

// longPast is a chain of some 900 heights with all its blocks in the order in which they come:
// not everybody builds at each height, shares change, and d is cut off twice for hundreds of
// heights, when it goes on by itself, and comes back.
func longPast(t *testing.T, seed uint64) (w *world, blocks []*types.Block) {
	rng := rand.New(rand.NewPCG(seed, 5))
	w = &world{t: t}
	w.chain([]string{"a=3", "b=3", "c=3", "d=2", "e=1"})
	for h := w.cfg.Params.SnapshotPeriod; h < 1200; h += w.cfg.Params.SnapshotPeriod {
		w.shares[h] = w.snapshot(fmt.Sprint(h), []string{fmt.Sprint("a=", 2+rng.IntN(3)), "b=3", "c=3", "d=2", "e=1"})
	}
	w.keep, w.quiet = true, true
	c := w.nodes[0].core
	take := func() {
		for _, a := range w.nodes[0].accepted[len(blocks):] {
			blocks = append(blocks, a.Block)
		}
	}
	rounds := func(n int, authors ...string) {
		for range n {
			w.round(authors[rng.IntN(len(authors))])
			take()
		}
	}
	for range 2 {
		rounds(30+rng.IntN(50), "abcde", "abcd", "abcde", "abce")
		// d goes on alone, from what it knows; nobody hears of it.
		var cut []*types.Block
		last := c.all.tips[c.number[letterKey('d')]]
		for range 1 + rng.IntN(4) {
			b := &types.Block{Height: last.height + 1, Author: last.block.Author, Previous: last.id, Parent: last.id, Time: last.block.Time + w.cfg.Params.WaitQuorum}
			if in := vrfInput(c.runFor(last.past, b.Height), b.Height); in != nil {
				b.VRF = testVRF(b.Author, in)
			}
			w.digest(b)
			cut = append(cut, b)
			last = &vertex{id: b.ID(w.cfg.Chain), height: b.Height, block: b, past: last.past}
			w.baptise(b)
		}
		rounds(300+rng.IntN(60), "abce", "abc", "abce")
		for _, b := range cut {
			c.Step(Tick{b.Time})
			w.enter(b)
			take()
		}
		rounds(40+rng.IntN(30), "abcde", "abce")
	}
	return w, blocks
}

// restart replaces the Core by one restored from a floor: the anchor at or below. Of what was
// decided only the heights up to applied were kept.
func (n *node) restart(floor, applied uint64) error {
	n.decisions = n.decisions[:applied]
	n.runs = slices.DeleteFunc(n.runs, func(r Run) bool {
		return !slices.ContainsFunc(n.decisions, func(d Decision) bool { return d.Anchor == r.Closer })
	})
	n.snapshots = slices.DeleteFunc(n.snapshots, func(s *types.Snapshot) bool { return s.Height > applied })
	for floor = min(floor, uint64(len(n.decisions))); floor > 0 && n.decisions[floor-1].Anchor.IsZero(); {
		floor--
	}
	core, err := Restore(n.cfg, n.base(floor))
	if err != nil {
		return err
	}
	core.Step(Tick{n.core.now})
	for _, b := range n.core.Waiting() {
		core.Step(Block{b})
	}
	n.core = core
	return nil
}

// With pruning, and restarts from any floor at any time, the output is that of a Core that
// keeps everything.
func TestPruneAndRestart(t *testing.T) {
	restarts, lowered, pruned := 0, 0, uint64(0)
	for seed := range uint64(3) {
		w, blocks := longPast(t, seed)
		all := w.nodes[0]
		shares := func(h uint64) *types.Snapshot { return w.shares[h] }
		rng := rand.New(rand.NewPCG(seed, 6))
		for try := range 2 {
			nd := &node{cfg: w.cfg, core: New(w.cfg)}
			for i, b := range blocks {
				nd.core.Step(Tick{b.Time})
				nd.core.Step(Block{b})
				for again := 0; ; again++ {
					floor := nd.follow(shares, true)
					pruned = max(pruned, nd.core.floor)
					// What is missing and stored was pruned: its past is needed again.
					for _, m := range nd.missing {
						for _, a := range nd.accepted {
							if f := max(a.Past.Decided, 1); a.ID == m.ID && (floor == 0 || f < floor) {
								floor = f
							}
						}
					}
					if floor == 0 {
						break
					}
					if lowered++; again > 20 {
						t.Fatalf("seed %d: block %d asks for a lower floor without end", seed, i)
					}
					if err := nd.restart(floor, nd.core.Decided()); err != nil {
						t.Fatalf("seed %d, lowered to %d at block %d: %v", seed, floor, i, err)
					}
				}
				if try > 0 && rng.IntN(300) == 0 {
					restarts++
					floor := rng.Uint64N(nd.core.Decided() + 1)
					applied := nd.core.Decided() - rng.Uint64N(min(20, nd.core.Decided()-floor+1))
					if err := nd.restart(floor, applied); err != nil {
						t.Fatalf("seed %d, restored at %d at block %d: %v", seed, floor, i, err)
					}
				}
			}
			if a, b := all.story(), nd.story(); !slices.Equal(a, b) {
				t.Fatalf("seed %d, try %d: another past: %s", seed, try, difference(a, b))
			}
			if a, b := all.acceptedIDs(), nd.acceptedIDs(); !slices.Equal(a, b) {
				t.Fatalf("seed %d, try %d: other blocks entered: %s", seed, try, difference(a, b))
			}
		}
	}
	t.Logf("%d restarts, %d lower floors, pruned up to %d", restarts, lowered, pruned)
	if restarts < 20 || lowered < 3 || pruned < 300 {
		t.Error("too little of it happened")
	}
}
