package sim

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"testing"

	"charter/consensus"
	"charter/types"
)

// Exhaustive twins (Bano et al., "Twins: BFT systems made robust", 2021): three honest peers
// x, y, z and one key t that runs as two copies, t0 and t1, whose blocks differ from the first
// on. A scenario is four rounds. In each everybody builds one height upon what it holds, and
// then the network is in two parts, or one: who is in a part gets the blocks of that part, with
// all that is behind them. Who leads the four heights is a part of the scenario; a chain id
// is sought for it. A copy of t takes nothing in that holds a block of the other, for then it
// could not build on.
//
// Scenarios that differ only in how x, y and z are called are one, and so are those in
// which the copies change places; but their keys and ids differ, and with these the lots and
// ties, of which one case stands for all.
//
// After the four rounds all hear all, and x, y and z go on alone: t is known to have
// forked. Checked are, in every scenario: what any honest peer decides after any round is
// decided the same by all, then and ever after; all four heights are decided in the end; and
// nobody but t is named in evidence.

// The nodes: three honest peers, and the copies of one key.
const (
	nodeX, nodeY, nodeZ, nodeT0, nodeT1 = 0, 1, 2, 3, 4
	twinNodes                           = 5
	twinRounds                          = 4
)

// part is a set of nodes, by bit.
type part uint8

func (p part) has(n int) bool { return p>>n&1 == 1 }

const everybody part = 1<<twinNodes - 1

// splits is the ways to cut five nodes in two or none, each by the part in which x is.
func splits() (all []part) {
	for p := everybody; p > 0; p-- {
		if p.has(nodeX) {
			all = append(all, p)
		}
	}
	return all
}

// twinScenario is who leads each round's height (3 for t), and how each round is cut.
type twinScenario struct {
	leaders [twinRounds]uint8
	cuts    [twinRounds]part
}

func (s twinScenario) String() string {
	const names = "xyztT"
	var out string
	for r := range s.cuts {
		out += fmt.Sprintf(" %c:", names[s.leaders[r]])
		for n := range twinNodes {
			if s.cuts[r].has(n) {
				out += names[n : n+1]
			}
		}
		out += "|"
		for n := range twinNodes {
			if !s.cuts[r].has(n) {
				out += names[n : n+1]
			}
		}
	}
	return out[1:]
}

// renamings is the permutations of nodes that keep honest peers honest.
func renamings() (all [][twinNodes]uint8) {
	for _, h := range [][3]uint8{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		all = append(all, [twinNodes]uint8{h[0], h[1], h[2], 3, 4}, [twinNodes]uint8{h[0], h[1], h[2], 4, 3})
	}
	return all
}

// rename is the part that p is if nodes are renamed, by the side of x.
func (p part) rename(to [twinNodes]uint8) (q part) {
	for n := range twinNodes {
		if p.has(n) {
			q |= 1 << to[n]
		}
	}
	if !q.has(nodeX) {
		q ^= everybody
	}
	return q
}

// twinTables are the renamings, worked out: of leaders and of parts.
type twinTables struct {
	leader [][4]uint8
	part   [][1 << twinNodes]part
}

func newTwinTables() (t twinTables) {
	for _, to := range renamings() {
		var parts [1 << twinNodes]part
		for p := range parts {
			parts[p] = part(p).rename(to)
		}
		t.leader, t.part = append(t.leader, [4]uint8{to[0], to[1], to[2], 3}), append(t.part, parts)
	}
	return t
}

// weight counts the scenarios that the first so many rounds stand for, 0 if another of them
// stands for all: the least, with leaders first.
func (t *twinTables) weight(leaders [twinRounds]uint8, cuts []part) int {
	orbit, same := len(t.leader), 0
next:
	for i := range t.leader {
		for _, l := range leaders {
			if m := t.leader[i][l]; m != l {
				if m < l {
					return 0
				}
				continue next
			}
		}
		for _, p := range cuts {
			if q := t.part[i][p]; q != p {
				if q < p {
					return 0
				}
				continue next
			}
		}
		same++
	}
	return orbit / same
}

// twinBlock is a block of some scenario, with all that is behind it.
type twinBlock struct {
	*types.Block
	node int
	past []int32 // places of the blocks in its past and its own, ascending
	has  part    // nodes of t with a block there
}

// twinView is what a core says that holds a set of blocks.
type twinView struct {
	decided []types.Hash // anchors from height 1 on, zero for an empty height
	built   int32        // place of the block that the node builds upon it
}

// twinCompany is all scenarios of one order of leaders. What a node builds and decides is a
// function of the blocks it holds, so each such set is given to a core once, however
// many scenarios lead to it.
type twinCompany struct {
	t      testing.TB
	cfg    consensus.Config
	blocks []*twinBlock
	byID   map[types.Hash]int32
	views  map[string]*twinView
	bytes  []byte // for keys
	cores  int    // how many were made
}

func twinKey(n int) types.Key { return types.Key{byte(min(n, nodeT0)) + 1} }

// newTwinCompany seeks a chain in which these lead the first heights, and honest peers the
// next three.
func newTwinCompany(t testing.TB, shares [4]types.Amount, leaders [twinRounds]uint8) *twinCompany {
	genesis := &types.Snapshot{}
	for n, s := range shares {
		genesis.Members = append(genesis.Members, types.Member{Peer: twinKey(n), Shares: s})
	}
	c := &twinCompany{t: t, byID: make(map[types.Hash]int32), views: make(map[string]*twinView)}
	c.cfg = consensus.Config{
		Genesis: genesis, Time: 1000,
		Params: types.Params{SnapshotLag: 1000, SnapshotPeriod: 4096, RunLength: 64, RunTail: 8, WaitLeader: 100, WaitQuorum: 1000, WaitIdle: 1000, CheckpointEvery: 16},
	}
	for i := uint64(0); ; i++ {
		binary.BigEndian.PutUint64(c.cfg.Chain[:], i)
		n, fits := NewNaive(c.cfg, nil), true
		for h := range twinRounds + 3 {
			leader := n.draw(n.first, uint64(h)+1).leader
			fits = fits && (h < twinRounds && leader == twinKey(int(leaders[h])) || h >= twinRounds && leader != twinKey(nodeT0))
			if !fits {
				break
			}
		}
		if fits {
			return c
		}
	}
}

// at is when a round begins: just when who waits for two thirds in vain waits no longer.
func (c *twinCompany) at(round int) types.Millis {
	return c.cfg.Time + types.Millis(round)*c.cfg.Params.WaitQuorum
}

// core is a new core of a node that holds these blocks, at the beginning of a round.
func (c *twinCompany) core(node, round int, held []int32) (*consensus.Core, consensus.Ready) {
	cfg := c.cfg
	cfg.Self = twinKey(node)
	core := consensus.New(cfg)
	core.Step(consensus.Tick{Now: c.at(round)})
	core.Step(consensus.Waiting{Is: true})
	c.cores++
	return core, c.feed(core, held)
}

// feed gives blocks to a core by height. One that it leaves out, since its author has
// forked and nobody names it yet, it gets when somebody does.
func (c *twinCompany) feed(core *consensus.Core, held []int32) consensus.Ready {
	held = slices.Clone(held)
	slices.SortFunc(held, func(i, j int32) int {
		a, b := c.blocks[i], c.blocks[j]
		return cmp.Or(cmp.Compare(a.Height, b.Height), cmp.Compare(a.node, b.node), cmp.Compare(i, j))
	})
	for _, i := range held {
		core.Step(consensus.Block{Block: c.blocks[i].Block})
	}
	r := core.Ready()
	for len(r.Missing) > 0 {
		for _, m := range r.Missing {
			core.Step(consensus.Block{Block: c.blocks[c.byID[m.ID]].Block})
		}
		r = core.Ready()
	}
	for _, x := range r.Refused {
		c.t.Fatalf("block %s is refused: %v", x.ID.Short(), x.Err)
	}
	for _, f := range r.Forks {
		if f.A.Author != twinKey(nodeT0) {
			c.t.Fatalf("evidence names %s, which is honest", f.A.Author.Short())
		}
	}
	return r
}

func anchors(decided []consensus.Decision) (ids []types.Hash) {
	for _, d := range decided {
		ids = append(ids, d.Anchor)
	}
	return ids
}

// view is what a node builds in a round, and decides, that holds these blocks.
func (c *twinCompany) view(node, round int, held []int32) *twinView {
	c.bytes = append(c.bytes[:0], byte(node), byte(round))
	for _, i := range held {
		c.bytes = binary.BigEndian.AppendUint32(c.bytes, uint32(i))
	}
	if v := c.views[string(c.bytes)]; v != nil {
		return v
	}
	key := string(c.bytes)
	_, r := c.core(node, round, held)
	v := &twinView{decided: anchors(r.Decided), built: -1}
	if r.Build != nil && round < twinRounds {
		v.built = c.sign(node, r.Build, held)
	}
	c.views[key] = v
	return v
}

// sign makes a block of a template, and gives its place.
func (c *twinCompany) sign(node int, t *consensus.Template, held []int32) int32 {
	b := &twinBlock{Block: t.Block(twinKey(node)), node: node}
	if node == nodeT1 {
		b.Sample = types.Hash{1}
	}
	id := b.ID(c.cfg.Chain)
	if i, ok := c.byID[id]; ok {
		return i
	}
	for _, n := range b.Named() {
		if i, ok := c.byID[n]; ok {
			b.past, b.has = union(b.past, c.blocks[i].past), b.has|c.blocks[i].has
		}
	}
	i := int32(len(c.blocks))
	b.past = append(b.past, i)
	if node >= nodeT0 {
		b.has |= 1 << node
	}
	c.blocks, c.byID[id] = append(c.blocks, b), i
	return i
}

// union merges two ascending lists.
func union(a, b []int32) (u []int32) {
	u = make([]int32, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0] < b[0]:
			u, a = append(u, a[0]), a[1:]
		case a[0] > b[0]:
			u, b = append(u, b[0]), b[1:]
		default:
			u, a, b = append(u, a[0]), a[1:], b[1:]
		}
	}
	return append(append(u, a...), b...)
}

// hear is what a node holds that held some blocks and gets those of a part.
func (c *twinCompany) hear(node int, held []int32, cut part, built *[twinNodes]int32) []int32 {
	if !cut.has(node) {
		cut ^= everybody
	}
	if held == nil {
		held = []int32{}
	}
	for n := range twinNodes {
		i := built[n]
		if i < 0 || n != node && !cut.has(n) {
			continue
		}
		b := c.blocks[i]
		if node >= nodeT0 && b.has.has(nodeT0+nodeT1-node) {
			continue
		}
		held = union(held, b.past)
	}
	return held
}

// twinState is where everybody is after some rounds.
type twinState struct {
	held    [twinNodes][]int32
	said    [][]types.Hash // what honest peers have decided after any round
	leaders [twinRounds]uint8
	cuts    []part
}

// twinSearch goes over scenarios.
type twinSearch struct {
	t         testing.TB
	tables    twinTables
	splits    []part
	shares    [4]types.Amount
	every     int    // only every so many'th order of leaders is run; 0 for all
	excess    bool   // t has a third or more: without it nothing need be decided
	scenarios int    // that ran
	stand     int    // for so many
	cores     int    // that were made
	decided   [2]int // heights with an anchor, and empty, in the end
	broken    error  // the first scenario in which something broke
}

func (s *twinSearch) run() {
	var leaders [twinRounds]uint8
	orders := 0
	for code := range 1 << (2 * twinRounds) {
		for r := range leaders {
			leaders[r] = uint8(code >> (2 * r) & 3)
		}
		if s.tables.weight(leaders, nil) == 0 {
			continue
		}
		if orders++; s.every > 0 && orders%s.every != 0 {
			continue
		}
		c := newTwinCompany(s.t, s.shares, leaders)
		s.round(c, &twinState{leaders: leaders})
		s.cores += c.cores
		if s.broken != nil {
			return
		}
	}
}

// round lets everybody build, and goes on with every way to cut the network then.
func (s *twinSearch) round(c *twinCompany, at *twinState) {
	round := len(at.cuts)
	var built [twinNodes]int32
	said := at.said
	for n := range twinNodes {
		v := c.view(n, round, at.held[n])
		if built[n] = v.built; n < nodeT0 && len(v.decided) > 0 {
			said = append(said[:len(said):len(said)], v.decided)
		}
		if n < nodeT0 && v.built < 0 {
			s.t.Fatalf("%c builds nothing in round %d", "xyz"[n], round+1)
		}
	}
	if round == twinRounds-1 {
		s.last(c, at, &built, said)
		return
	}
	for _, cut := range s.splits {
		next := twinState{leaders: at.leaders, cuts: append(at.cuts[:round:round], cut), said: said}
		if s.tables.weight(at.leaders, next.cuts) == 0 {
			continue
		}
		for n := range twinNodes {
			next.held[n] = c.hear(n, at.held[n], cut, &built)
		}
		if s.round(c, &next); s.broken != nil {
			return
		}
	}
}

// last is the last round, in which the cut only matters for what is heard of blocks that
// are built already, and what comes after it, in which it does not matter at all.
func (s *twinSearch) last(c *twinCompany, at *twinState, built *[twinNodes]int32, said [][]types.Hash) {
	final := s.heal(c, at, built)
	for _, cut := range s.splits {
		all := twinScenario{leaders: at.leaders}
		copy(all.cuts[:], append(at.cuts[:twinRounds-1:twinRounds-1], cut))
		weight := s.tables.weight(at.leaders, all.cuts[:])
		if weight == 0 {
			continue
		}
		s.scenarios, s.stand = s.scenarios+1, s.stand+weight
		after := said[:len(said):len(said)]
		for n := range nodeT0 {
			after = append(after, c.view(nodeT1+1, twinRounds, c.hear(n, at.held[n], cut, built)).decided)
		}
		for _, d := range after {
			if len(d) > len(final) || !slices.Equal(d, final[:len(d)]) {
				s.broken = fmt.Errorf("%s: decided were %v, and in the end %v", all, short(d), short(final))
				return
			}
		}
		if len(final) < twinRounds && !s.excess {
			s.broken = fmt.Errorf("%s: only %d heights are decided in the end", all, len(final))
			return
		}
	}
	for _, id := range final[:min(len(final), twinRounds)] {
		if s.decided[1]++; !id.IsZero() {
			s.decided[0], s.decided[1] = s.decided[0]+1, s.decided[1]-1
		}
	}
}

func short(ids []types.Hash) (s []string) {
	for _, id := range ids {
		s = append(s, id.Short())
	}
	return s
}

// heal lets everybody hear everything, and x, y and z go on for six heights. It gives what
// they have decided then.
func (s *twinSearch) heal(c *twinCompany, at *twinState, built *[twinNodes]int32) []types.Hash {
	var all []int32
	for n := range nodeT0 {
		all = union(all, at.held[n])
	}
	for _, i := range built {
		if i >= 0 {
			all = union(all, c.blocks[i].past)
		}
	}
	var cores [nodeT0]*consensus.Core
	var final [nodeT0][]types.Hash
	for n := range cores {
		core, r := c.core(n, twinRounds, all)
		if cores[n] = core; len(r.Forks) == 0 {
			s.broken = fmt.Errorf("%v %v: %c has no evidence against t", at.leaders, at.cuts, "xyz"[n])
		}
	}
	for range 6 {
		var fresh []*types.Block
		for n, core := range cores {
			if t := core.Ready().Build; t != nil {
				fresh = append(fresh, t.Block(twinKey(n)))
			}
		}
		for _, core := range cores {
			for _, b := range fresh {
				core.Step(consensus.Block{Block: b})
			}
		}
	}
	for n, core := range cores {
		final[n] = anchors(core.Ready().Decided)
	}
	if !slices.Equal(final[0], final[1]) || !slices.Equal(final[0], final[2]) {
		s.broken = fmt.Errorf("%v %v: x, y and z decide %v, %v, %v", at.leaders, at.cuts, short(final[0]), short(final[1]), short(final[2]))
	}
	return final[0]
}

// TestTwinsExhaustive runs scenarios: in a part of the orders of leaders or, with SIM_TWINS=all, in all of
// them; with SIM_TWINS=full also those in which both copies of t, or none, are where the honest peers are.
func TestTwinsExhaustive(t *testing.T) {
	s := &twinSearch{t: t, tables: newTwinTables(), splits: splits(), shares: [4]types.Amount{1, 1, 1, 1}}
	switch os.Getenv("SIM_TWINS") {
	case "full":
	case "all":
		s.splits = apart()
	default:
		s.splits, s.every = apart(), 6
	}
	s.run()
	t.Logf("%d scenarios, which stand for %d; %d cores; heights with an anchor %d, empty %d", s.scenarios, s.stand, s.cores, s.decided[0], s.decided[1])
	if s.broken != nil {
		t.Fatal(s.broken)
	}
	if s.scenarios < 20_000 || s.decided[0] == 0 || s.decided[1] == 0 {
		t.Error("the search did next to nothing")
	}
}

// apart is the splits with the copies of t apart, and none.
func apart() []part {
	return slices.DeleteFunc(splits(), func(p part) bool { return p != everybody && p.has(nodeT0) == p.has(nodeT1) })
}

// TestTwinsCanary gives t three sevenths of the shares, and with that a quorum with x and one
// with y and z: the search must find that they decide differently.
func TestTwinsCanary(t *testing.T) {
	s := &twinSearch{t: t, splits: apart(), shares: [4]types.Amount{2, 1, 1, 3}, excess: true}
	s.tables.leader, s.tables.part = newTwinTables().leader[:1], newTwinTables().part[:1] // x is not like y
	if s.run(); s.broken == nil {
		t.Fatal("the search finds nothing wrong with a twin above a third")
	}
	t.Logf("after %d scenarios: %v", s.scenarios, s.broken)
}
