package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"

	"charter/consensus"
	"charter/types"
)

// Naive is the slow twin of package consensus: the same rules over explicit sets, each
// worked out from nothing for every set it is asked about. It shares no code with the
// core; even the draw is another: floating logarithms, sums of big integers. So two draws
// that differ by less than one part in 10^13 could be ordered otherwise. It knows no
// clock, no floor and no waiting: blocks come in an order in which each finds what it names.
type Naive struct {
	cfg       consensus.Config
	blocks    []*naiveBlock
	index     map[types.Hash]int
	snapshots map[uint64]*types.Snapshot
	first     *naiveRun
	next      map[types.Hash]*naiveRun // by closing anchor
	memo      map[string]*naiveState
	draws     map[naiveDraw]drawnAt
}

type naiveBlock struct {
	*types.Block
	id    types.Hash
	named []int // places in blocks; genesis is −1, the parent is first
	past  set
}

// genesisAt stands for the block at height 0.
const genesisAt = -1

// set is a set of blocks, a bit for each place.
type set []uint64

func (s set) has(i int) bool {
	return i == genesisAt || i/64 < len(s) && s[i/64]>>(i%64)&1 == 1
}

func (s set) with(i int) set {
	t := make(set, max(len(s), i/64+1))
	copy(t, s)
	t[i/64] |= 1 << (i % 64)
	return t
}

func (s set) union(t set) set {
	u := make(set, max(len(s), len(t)))
	copy(u, s)
	for i := range t {
		u[i] |= t[i]
	}
	return u
}

func (s set) key() string {
	b := make([]byte, 0, 8*len(s))
	for _, x := range s {
		b = binary.BigEndian.AppendUint64(b, x)
	}
	return string(bytes.TrimRight(b, "\x00"))
}

// naiveRun is a run with its shares.
type naiveRun struct {
	number, start, mark, snapshot uint64
	seed, closer                  types.Hash
	shares                        map[types.Key]types.Amount
	total                         types.Amount
}

type naiveDraw struct {
	run    *naiveRun
	height uint64
}

type drawnAt struct {
	leader types.Key
	rank   map[types.Key]int
	weight map[types.Key]*big.Int
}

// naiveState is what a set decides.
type naiveState struct {
	anchors []int // by height − 1; empty where a height is
	how     []string
	by      []*naiveRun
	run     *naiveRun // that decides the next height
	closing *naiveRun
	final   set
	last    int
}

const empty = -2

// NewNaive is the twin of consensus.New. All snapshots there will be must be given before
// any block.
func NewNaive(cfg consensus.Config, snapshots []*types.Snapshot) *Naive {
	n := &Naive{cfg: cfg, index: map[types.Hash]int{cfg.Chain: genesisAt}, snapshots: map[uint64]*types.Snapshot{0: cfg.Genesis},
		next: map[types.Hash]*naiveRun{}, memo: map[string]*naiveState{}, draws: map[naiveDraw]drawnAt{}}
	for _, s := range snapshots {
		n.snapshots[s.Height] = s
	}
	n.first = n.makeRun(0, 1, types.NewTag("charter/seed").Hash(cfg.Chain[:]))
	return n
}

func (n *Naive) makeRun(number, start uint64, seed types.Hash) *naiveRun {
	p := &n.cfg.Params
	r := &naiveRun{number: number, start: start, seed: seed, shares: map[types.Key]types.Amount{}}
	if start >= p.SnapshotLag {
		r.snapshot = (start - p.SnapshotLag) / p.SnapshotPeriod * p.SnapshotPeriod
	}
	for r.mark = start + 1; (r.mark+p.RunTail+p.RunLength*p.SnapshotLag-p.SnapshotLag)%p.RunLength != 0; {
		r.mark++
	}
	if s := n.snapshots[r.snapshot]; s != nil {
		for _, m := range s.Members {
			r.shares[m.Peer], r.total = m.Shares, r.total+m.Shares
		}
	}
	return r
}

// sum is the shares of some authors, each once.
func (r *naiveRun) sum(authors map[types.Key]bool) (sum types.Amount) {
	for a := range authors {
		sum += r.shares[a]
	}
	return sum
}

func (r *naiveRun) twoThirds(authors map[types.Key]bool) bool {
	return new(big.Int).Mul(big.NewInt(3), big.NewInt(int64(r.sum(authors)))).Cmp(new(big.Int).Mul(big.NewInt(2), big.NewInt(int64(r.total)))) > 0
}

// draw is the weighted draw of a height.
func (n *Naive) draw(r *naiveRun, h uint64) drawnAt {
	at := naiveDraw{r, h}
	if d, ok := n.draws[at]; ok {
		return d
	}
	d := drawnAt{rank: map[types.Key]int{}, weight: map[types.Key]*big.Int{}}
	quotient := map[types.Key]float64{}
	var keys []types.Key
	for k, s := range r.shares {
		u := types.NewTag("charter/weight").Hash(r.seed[:], binary.BigEndian.AppendUint64(nil, h), k[:])
		x := (float64(binary.BigEndian.Uint64(u[:8])) + 1) / (1 << 64)
		e := -math.Log(x)
		quotient[k] = e / float64(s)
		w, _ := big.NewFloat(math.Min(float64(s)/e, float64(r.total))).Int(nil)
		d.weight[k] = w
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b types.Key) int {
		if quotient[a] != quotient[b] {
			if quotient[a] < quotient[b] {
				return -1
			}
			return 1
		}
		return bytes.Compare(a[:], b[:])
	})
	for i, k := range keys {
		d.rank[k] = i
	}
	d.leader = keys[0]
	n.draws[at] = d
	return d
}

// at is the blocks of a height in a set.
func (n *Naive) at(g set, h uint64) (found []int) {
	for i, b := range n.blocks {
		if b.Height == h && g.has(i) {
			found = append(found, i)
		}
	}
	return found
}

func (n *Naive) authors(blocks []int, want func(int) bool) map[types.Key]bool {
	all := map[types.Key]bool{}
	for _, i := range blocks {
		if want(i) {
			all[n.blocks[i].Author] = true
		}
	}
	return all
}

// forked is the authors with two blocks of one previous in a set.
func (n *Naive) forked(g set) map[types.Key]bool {
	type slot struct {
		author   types.Key
		previous types.Hash
	}
	seen, all := map[slot]bool{}, map[types.Key]bool{}
	for i, b := range n.blocks {
		if g.has(i) {
			at := slot{b.Author, b.Previous}
			if seen[at] {
				all[b.Author] = true
			}
			seen[at] = true
		}
	}
	return all
}

func (n *Naive) height(i int) uint64 {
	if i == genesisAt {
		return 0
	}
	return n.blocks[i].Height
}

// upTo is all behind block i, and i.
func (n *Naive) upTo(i int) set {
	if i < 0 {
		return nil
	}
	return n.blocks[i].past.with(i)
}

// runFor is the run of height h as a set knows it.
func (s *naiveState) runFor(h uint64) *naiveRun {
	if s.closing != nil && h >= s.closing.start {
		return s.closing
	}
	return s.run
}

// decide is what a set decides (spec, "Finality").
func (n *Naive) decide(g set) *naiveState {
	key := g.key()
	if s := n.memo[key]; s != nil {
		return s
	}
	s := &naiveState{run: n.first, last: genesisAt}
	var top uint64
	for i, b := range n.blocks {
		if g.has(i) {
			top = max(top, b.Height)
		}
	}
	for {
		h := uint64(len(s.anchors)) + 1
		anchor, how, ok := n.verdict(g, s.run, h, top)
		if !ok {
			break
		}
		s.anchors, s.how, s.by = append(s.anchors, anchor), append(s.how, how), append(s.by, s.run)
		if anchor != empty {
			s.last, s.final = anchor, s.final.union(n.upTo(anchor))
			if s.closing == nil && h >= s.run.mark {
				s.closing = n.closed(s.run, anchor)
			}
		}
		if s.closing != nil && h+1 >= s.closing.start {
			s.run, s.closing = s.closing, nil
		}
	}
	n.memo[key] = s
	return s
}

func (n *Naive) closed(r *naiveRun, anchor int) *naiveRun {
	a := n.blocks[anchor]
	if next := n.next[a.id]; next != nil {
		return next
	}
	out := n.cfg.VRFOutput(a.VRF)
	next := n.makeRun(r.number+1, a.Height+n.cfg.Params.RunTail, types.NewTag("charter/seed").Hash(r.seed[:], out[:]))
	next.closer = a.id
	n.next[a.id] = next
	return next
}

// verdict decides one height under one run.
func (n *Naive) verdict(g set, r *naiveRun, h, top uint64) (anchor int, how string, ok bool) {
	if h+1 > top {
		return 0, "", false
	}
	var ls []int
	for _, l := range n.at(g, h) {
		if b := n.blocks[l]; b.Author == n.draw(r, h).leader && n.full(b.named, h, r) && n.sound(b) {
			ls = append(ls, l)
		}
	}
	above := n.at(g, h+1)
	for _, l := range ls {
		if r.twoThirds(n.authors(n.at(g, h+2), func(c int) bool { return n.confirms(c, l, r) })) {
			return l, "direct", true
		}
	}
	skip := r.twoThirds(n.authors(above, func(int) bool { return true }))
	for _, l := range ls {
		skip = skip && r.twoThirds(n.authors(above, func(v int) bool { return !slices.Contains(n.blocks[v].named, l) }))
	}
	if skip {
		return empty, "skipped", true
	}
	for k := h + 3; k <= top; k++ {
		a, _, ok := n.verdict(g, r, k, top)
		if !ok {
			return 0, "", false
		}
		if a == empty {
			continue
		}
		for _, l := range ls {
			for _, c := range n.at(n.blocks[a].past, h+2) {
				if n.confirms(c, l, r) {
					return l, "indirect", true
				}
			}
		}
		return empty, "passed over", true
	}
	return 0, "", false
}

func (n *Naive) confirms(c, l int, r *naiveRun) bool {
	past := n.blocks[c].past
	return r.twoThirds(n.authors(n.at(past, n.blocks[l].Height+1), func(v int) bool { return slices.Contains(n.blocks[v].named, l) }))
}

// full reports whether a block of height h names two thirds of the height below.
func (n *Naive) full(named []int, h uint64, r *naiveRun) bool {
	if h == 1 {
		return true
	}
	below := map[types.Key]bool{}
	for _, i := range named {
		if n.height(i)+1 == h {
			below[n.blocks[i].Author] = true
		}
	}
	return r.twoThirds(below)
}

// sound reports whether a block's parent is the fork choice in its past, by the run of its
// height as its past knows it.
func (n *Naive) sound(b *naiveBlock) bool {
	return n.parent(b.past, b.Height) == b.named[0]
}

// parent is the fork choice of a set for a block of height h (spec, "Fork choice").
func (n *Naive) parent(g set, h uint64) int {
	s := n.decide(g)
	r := s.runFor(h)
	forked := n.forked(g)
	open := func(i int) bool { return i != genesisAt && !s.final.has(i) }
	backing := n.backing(g, h, r, forked)
	alive := map[int]bool{} // a block of an unforked author stands on its branch
	for i, b := range n.blocks {
		if g.has(i) && !forked[b.Author] {
			for x := i; open(x) && !alive[x]; x = n.blocks[x].named[0] {
				alive[x] = true
			}
		}
	}
	children := func(of func(int) bool) (found []int) {
		for i, b := range n.blocks {
			if g.has(i) && open(i) && alive[i] && of(b.named[0]) {
				found = append(found, i)
			}
		}
		return found
	}
	at, here := s.last, []int(nil)
	if 3*wide(backing[s.last]) > wide(r.total) {
		here = children(func(p int) bool { return p == s.last })
	} else {
		here = children(func(p int) bool { return !open(p) })
	}
	for len(here) > 0 {
		at = n.pick(here, backing, r, s, children)
		here = children(func(p int) bool { return p == at })
	}
	return at
}

// wide is a float: exact for three times any sum of shares in a simulation.
func wide(a types.Amount) float64 { return float64(a) }

// backing sums the shares of counted blocks that have a block on their chain below them.
func (n *Naive) backing(g set, h uint64, r *naiveRun, forked map[types.Key]bool) map[int]types.Amount {
	highest := map[types.Key]int{}
	for i, b := range n.blocks {
		if j, ok := highest[b.Author]; g.has(i) && !forked[b.Author] && (!ok || n.blocks[j].Height < b.Height) {
			highest[b.Author] = i
		}
	}
	top := r.twoThirds(n.authors(n.at(g, h-1), func(i int) bool { return !forked[n.blocks[i].Author] }))
	backing := map[int]types.Amount{}
	for a, i := range highest {
		if top && n.blocks[i].Height+2 < h {
			continue
		}
		for x := n.blocks[i].named[0]; ; x = n.blocks[x].named[0] {
			backing[x] += r.shares[a]
			if x == genesisAt {
				break
			}
		}
	}
	return backing
}

// pick takes one of some branches: half back it, or it alone a third, or its tip weighs most.
func (n *Naive) pick(here []int, backing map[int]types.Amount, r *naiveRun, s *naiveState, children func(func(int) bool) []int) int {
	var thirds []int
	for _, i := range here {
		if 2*wide(backing[i]) > wide(r.total) {
			return i
		}
		if 3*wide(backing[i]) > wide(r.total) {
			thirds = append(thirds, i)
		}
	}
	if len(thirds) == 1 {
		return thirds[0]
	}
	best, bestTip, bestWeight := -1, 0, new(big.Int)
	var climb func(root, i int)
	climb = func(root, i int) {
		ups := children(func(p int) bool { return p == i })
		for _, u := range ups {
			climb(root, u)
		}
		if len(ups) > 0 {
			return
		}
		w := n.weight(i, r, s)
		d := w.Cmp(bestWeight)
		if best < 0 || d > 0 || d == 0 && n.better(i, bestTip, r) {
			best, bestTip, bestWeight = root, i, w
		}
	}
	for _, i := range here {
		climb(i, i)
	}
	return best
}

func (n *Naive) rank(i int, r *naiveRun) int {
	if k, ok := n.draw(r, n.blocks[i].Height).rank[n.blocks[i].Author]; ok {
		return k
	}
	return math.MaxInt
}

func (n *Naive) better(i, j int, r *naiveRun) bool {
	if a, b := n.rank(i, r), n.rank(j, r); a != b {
		return a < b
	}
	return bytes.Compare(n.blocks[i].id[:], n.blocks[j].id[:]) < 0
}

// weight is the weight of a tip (spec, "Knowing, and the witness rule"), in δ of a unit.
func (n *Naive) weight(tip int, r *naiveRun, s *naiveState) *big.Int {
	past := n.blocks[tip].past
	forked := n.forked(past)
	sum := new(big.Int)
	for x := tip; x != genesisAt && !s.final.has(x); x = n.blocks[x].named[0] {
		b := n.blocks[x]
		knew := n.authors(n.at(past, b.Height+1), func(v int) bool { return slices.Contains(n.blocks[v].named, x) })
		knew[b.Author] = true
		d := n.draw(r, b.Height)
		var ws []*big.Int
		for a := range knew {
			if !forked[a] {
				w := d.weight[a]
				if w == nil {
					w = new(big.Int)
				}
				ws = append(ws, w)
			}
		}
		slices.SortFunc(ws, func(a, b *big.Int) int { return b.Cmp(a) })
		total := new(big.Int).SetUint64(uint64(r.total))
		switch {
		case len(ws) == 1:
			sum.Add(sum, ws[0])
		case len(ws) == 2:
			sum.Add(sum, total).Add(sum, ws[1])
		case len(ws) >= 3:
			sum.Add(sum, total).Add(sum, total).Add(sum, new(big.Int).Lsh(ws[1], 20))
		}
	}
	return sum
}

// Parent is the fork choice for a block that names these.
func (n *Naive) Parent(named []types.Hash) types.Hash {
	var g set
	h := uint64(1)
	for _, id := range named {
		if i := n.index[id]; i != genesisAt {
			g, h = g.union(n.upTo(i)), max(h, n.height(i)+1)
		}
	}
	if p := n.parent(g, h); p != genesisAt {
		return n.blocks[p].id
	}
	return n.cfg.Chain
}

// Add takes a block in, or says which rule it breaks (spec, "Block").
func (n *Naive) Add(b *types.Block) error {
	x := &naiveBlock{Block: b, id: b.ID(n.cfg.Chain)}
	for _, id := range b.Named() {
		i, ok := n.index[id]
		if !ok {
			return fmt.Errorf("named block %s is not here", id.Short())
		}
		x.named = append(x.named, i)
		if i != genesisAt {
			x.past = x.past.union(n.upTo(i))
		}
	}
	if err := n.judge(x); err != nil {
		return err
	}
	n.index[x.id] = len(n.blocks)
	n.blocks = append(n.blocks, x)
	return nil
}

func (n *Naive) judge(x *naiveBlock) error {
	s := n.decide(x.past)
	forked := n.forked(x.past)
	var top uint64
	var previous types.Hash
	var previousHeight uint64
	merged := map[types.Key]bool{}
	for k, i := range x.named {
		top = max(top, n.height(i))
		for j, m := range x.named {
			if k > 0 && j != k && (m == i || m != genesisAt && n.blocks[m].past.has(i)) {
				return fmt.Errorf("rule 3: a merge is in the past of another")
			}
		}
		if i == genesisAt {
			continue
		}
		a := n.blocks[i].Author
		if k > 0 && merged[a] || forked[a] && !s.final.has(i) {
			return fmt.Errorf("rule 3: merges")
		}
		merged[a] = k > 0 || merged[a]
	}
	for i, b := range n.blocks {
		if x.past.has(i) && b.Author == x.Author && b.Height > previousHeight {
			previous, previousHeight = b.id, b.Height
		}
	}
	r := s.runFor(x.Height)
	switch {
	case x.Height != top+1:
		return fmt.Errorf("rule 1")
	case x.Previous != previous || forked[x.Author]:
		return fmt.Errorf("rule 2")
	case s.run.shares[x.Author] == 0 && (s.closing == nil || s.closing.shares[x.Author] == 0):
		return fmt.Errorf("rule 5")
	}
	if x.Past != n.digest(x.past, s, forked) {
		return fmt.Errorf("rule 7: digest of its past")
	}
	return n.judgeTime(x, r)
}

// Past is the digest that a block must carry which names what b names (spec, "Past").
func (n *Naive) Past(b *types.Block) types.Hash {
	g := n.behind(b)
	return n.digest(g, n.decide(g), n.forked(g))
}

func (n *Naive) digest(g set, s *naiveState, forked map[types.Key]bool) types.Hash {
	u64 := binary.BigEndian.AppendUint64
	run := func(to []byte, r *naiveRun) []byte {
		to = append(u64(u64(to, r.number), r.start), r.seed[:]...)
		return append(u64(to, r.snapshot), r.closer[:]...)
	}
	fold := types.NewTag("charter/decisions").Hash(n.cfg.Chain[:])
	for k, a := range s.anchors {
		said := u64(nil, uint64(k)+1)
		if a == empty {
			said = append(said, make([]byte, 33)...)
		} else if id := n.blocks[a].id; n.next[id] == nil {
			said = append(append(said, id[:]...), 0)
		} else {
			said = run(append(append(said, id[:]...), 1), n.next[id])
		}
		fold = types.NewTag("charter/decisions").Hash(fold[:], said)
	}
	out := run(append(u64(nil, uint64(len(s.anchors))), fold[:]...), s.run)
	if s.closing == nil {
		out = append(out, 0)
	} else {
		out = run(append(out, 1), s.closing)
	}
	top := map[types.Key]*naiveBlock{}
	for i, b := range n.blocks {
		if t := top[b.Author]; g.has(i) && (t == nil || t.Height < b.Height || t.Height == b.Height && bytes.Compare(b.id[:], t.id[:]) < 0) {
			top[b.Author] = b
		}
	}
	keys := slices.SortedFunc(maps.Keys(top), func(a, b types.Key) int { return bytes.Compare(a[:], b[:]) })
	out = binary.BigEndian.AppendUint32(out, uint32(len(keys)))
	for _, k := range keys {
		out = append(u64(append(out, k[:]...), top[k].Height), top[k].id[:]...)
		if forked[k] {
			out = append(out, 1)
		} else {
			out = append(out, 0)
		}
	}
	return types.NewTag("charter/past").Hash(out)
}

func (n *Naive) judgeTime(x *naiveBlock, r *naiveRun) error {
	early := types.MaxTime
	for _, i := range x.named {
		t := n.cfg.Time
		if i != genesisAt {
			t = n.blocks[i].Time
		}
		if x.Time < t {
			return fmt.Errorf("rule 4: time goes back")
		}
		if n.height(i)+1 == x.Height {
			early = min(early, t+n.cfg.Params.WaitQuorum)
		}
	}
	if !n.full(x.named, x.Height, r) && x.Time < early {
		return fmt.Errorf("rule 4: not full, and early")
	}
	if due := x.Height >= r.mark; due == x.VRF.IsZero() {
		return fmt.Errorf("vrf: there when it should not, or the reverse")
	} else if due {
		return n.cfg.VRF(x.Author, binary.BigEndian.AppendUint64(append([]byte(nil), r.seed[:]...), x.Height), x.VRF)
	}
	return nil
}

// NaiveDecision is a decided height, with how it was.
type NaiveDecision struct {
	Height uint64
	Anchor types.Hash
	How    string // direct, skipped, indirect or passed over
	Run    uint64
	Blocks []types.Hash
}

// Decisions is what the blocks in a view decide, and in what order (spec, "Total order").
func (n *Naive) Decisions(in func(types.Hash) bool) (all []NaiveDecision) {
	var g set
	for i, b := range n.blocks {
		if in(b.id) {
			g = g.with(i)
		}
	}
	s := n.decide(g)
	ordered := map[int]bool{genesisAt: true}
	for k, a := range s.anchors {
		d := NaiveDecision{Height: uint64(k) + 1, How: s.how[k], Run: s.by[k].number}
		if a != empty {
			d.Anchor = n.blocks[a].id
			var chain []int
			for x := a; !ordered[x]; x = n.blocks[x].named[0] {
				chain = append(chain, x)
			}
			for i := len(chain) - 1; i >= 0; i-- {
				for _, x := range append(n.sorted(chain[i], ordered, s), chain[i]) {
					ordered[x] = true
					d.Blocks = append(d.Blocks, n.blocks[x].id)
				}
			}
		}
		all = append(all, d)
	}
	return all
}

// sorted is what is behind x and not ordered, as the order wants it.
func (n *Naive) sorted(x int, ordered map[int]bool, s *naiveState) (found []int) {
	for i := range n.blocks {
		if n.blocks[x].past.has(i) && !ordered[i] {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(i, j int) int {
		if hi, hj := n.height(i), n.height(j); hi != hj {
			return int(hi) - int(hj)
		}
		if n.better(i, j, s.by[n.height(i)-1]) {
			return -1
		}
		return 1
	})
	return found
}

// VRFInput is what an author must prove for a block that names what b names, nil for none.
func (n *Naive) VRFInput(b *types.Block) []byte {
	r := n.decide(n.behind(b)).runFor(b.Height)
	if b.Height < r.mark {
		return nil
	}
	return binary.BigEndian.AppendUint64(append([]byte(nil), r.seed[:]...), b.Height)
}

// Full reports whether a block that names what b names is full.
func (n *Naive) Full(b *types.Block) bool {
	var named []int
	for _, id := range b.Named() {
		named = append(named, n.index[id])
	}
	return n.full(named, b.Height, n.decide(n.behind(b)).runFor(b.Height))
}

func (n *Naive) behind(b *types.Block) (g set) {
	for _, id := range b.Named() {
		g = g.union(n.upTo(n.index[id]))
	}
	return g
}
