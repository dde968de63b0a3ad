package consensus

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"charter/types"
)

var rewrite = flag.Bool("rewrite", false, "write the expected output of testdata/*.txt anew")

// TestDrawn runs the transcripts of testdata: commands, a line of dashes, and what follows
// from them. `go test -run Drawn -rewrite` writes what follows anew; read the diff.
//
//	chain a=1 b=1 c=1 d=1   a chain with these peers, one observer's Core upon it. Options: leaders=abc
//	                        (who leads heights 1, 2, 3: a chain id is sought for it), self=a (the observer
//	                        builds), lag= period= length= tail= (Params), hold (snapshots are given by hand)
//	c2: a1 b1* c1 option…   a block: author and name, what it names, the parent starred (else: the fork choice).
//	                        Options: height= previous= time=+ms vrf=none|bad payload; early (the clock stays);
//	                        later (drawn, and not given to anybody before `enter`)
//	enter c2…               give these to the observer now
//	round abc [times quiet] one block each, upon all that may be named below the next height
//	tick +ms · snapshot h · shares h a=1 … · waiting yes|no · syncing yes|no · build (and enter) · restore floor
//	show draw h | run | choice | weight x… | parent x… | inside
//
// and for a company of Cores that build by themselves, in network_test.go:
//
//	network delay=10 · trace a [builds] · pass ms · cut ab|cd · heal · slow d=50 · down d · up d [floor]
func TestDrawn(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			out := transcript(t, string(in))
			if *rewrite {
				err = os.WriteFile(file, []byte(out), 0o644)
			} else if out != string(in) {
				err = fmt.Errorf("%s is not what follows now:\n%s", file, out)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// transcript is the text again, with what follows from the commands below each line of dashes.
func transcript(t *testing.T, in string) string {
	var out strings.Builder
	w := &world{t: t}
	var command []string
	skip := false
	for s := bufio.NewScanner(strings.NewReader(in)); s.Scan(); {
		line := s.Text()
		switch {
		case skip:
			skip = line != ""
		case line == "----":
			w.out.Reset()
			w.do(command)
			fmt.Fprintf(&out, "----\n%s\n", w.out.String())
			command, skip = nil, true
		default:
			out.WriteString(line + "\n")
			if line != "" && line[0] != '#' {
				command = append(command, line)
			}
		}
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

// world is the chain of a transcript, and who watches it.
type world struct {
	t       *testing.T
	cfg     Config
	out     strings.Builder
	names   map[types.Hash]string
	blocks  map[string]*types.Block
	shares  map[uint64]*types.Snapshot
	hold    bool    // snapshots are given by hand
	missing string  // as written down last
	keep    bool    // the observer keeps all in memory
	quiet   bool    // decisions are not written down
	nodes   []*node // one observer, or all peers of a network
	scribe  *node   // knows all that is drawn, at once, and the digest of each past
	net     *network
}

// node is a Core and what its driver stored.
type node struct {
	core      *Core
	cfg       Config
	accepted  []Accepted
	decisions []Decision
	runs      []Run
	snapshots []*types.Snapshot
	build     *Template
	wake      types.Millis
	missing   []Missing
	floor     uint64
	refusals  []Refusal
}

func (w *world) printf(format string, args ...any) { fmt.Fprintf(&w.out, format+"\n", args...) }

func letterKey(letter byte) types.Key { return types.Key{letter} }

func letter(k types.Key) string { return string(k[:1]) }

// name is what a transcript calls a block.
func (w *world) name(id types.Hash) string {
	switch n := w.names[id]; {
	case id.IsZero():
		return "none"
	case n == "":
		return id.Short()
	default:
		return n
	}
}

func (w *world) list(ids []types.Hash) string {
	var ns []string
	for _, id := range ids {
		ns = append(ns, w.name(id))
	}
	return strings.Join(ns, " ")
}

func (w *world) id(name string) types.Hash {
	for id, n := range w.names {
		if n == name {
			return id
		}
	}
	w.t.Fatalf("no block %s is drawn", name)
	return types.Hash{}
}

// number is a whole number of a command.
func (w *world) number(s string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(s, "+"))
	if err != nil {
		w.t.Fatalf("%q: %v", s, err)
	}
	return n
}

// at is a time of a transcript, which counts from genesis.
func (w *world) at(s string) types.Millis { return w.cfg.Time + types.Millis(w.number(s)) }

func (w *world) since(t types.Millis) string { return fmt.Sprintf("+%d", t-w.cfg.Time) }

// do runs the commands of one paragraph.
func (w *world) do(lines []string) {
	for _, line := range lines {
		if strings.Contains(line, ":") {
			w.draw(line)
			continue
		}
		switch f := strings.Fields(line); f[0] {
		case "enter":
			for _, name := range f[1:] {
				w.enter(w.blocks[name])
			}
		case "chain":
			w.chain(f[1:])
		case "shares":
			w.shares[uint64(w.number(f[1]))] = w.snapshot(f[1], f[2:])
		case "network", "trace", "pass", "cut", "heal", "slow", "down", "up":
			w.network(f)
		case "round":
			times := 1
			if len(f) > 2 {
				times = w.number(f[2])
			}
			before := w.nodes[0].core.Decided()
			w.quiet = len(f) > 3
			for range times {
				w.round(f[1])
			}
			if w.quiet {
				w.quiet = false
				w.printf("heights %d to %d are decided", before+1, w.nodes[0].core.Decided())
			}
		case "restore":
			w.restore(uint64(w.number(f[1])))
		case "show":
			w.show(f[1], f[2:])
		case "build":
			w.build()
		default:
			for _, n := range w.nodes {
				w.event(n, f)
				w.take(n)
			}
		}
	}
}

// event is a Step that is no block.
func (w *world) event(n *node, f []string) {
	switch f[0] {
	case "tick":
		n.core.Step(Tick{w.at(f[1])})
	case "snapshot":
		w.giveSnapshot(n, uint64(w.number(f[1])))
	case "waiting":
		n.core.Step(Waiting{f[1] == "yes"})
	case "syncing":
		n.core.Step(Syncing{f[1] == "yes"})
	default:
		w.t.Fatalf("unknown command %q", f[0])
	}
}

func (w *world) snapshot(height string, members []string) *types.Snapshot {
	s := &types.Snapshot{Height: uint64(w.number(height))}
	for _, m := range members {
		peer, shares, _ := strings.Cut(m, "=")
		s.Members = append(s.Members, types.Member{Peer: letterKey(peer[0]), Shares: types.Amount(w.number(shares))})
	}
	slices.SortFunc(s.Members, func(a, b types.Member) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	return s
}

// giveSnapshot hands over the shares of a height: those that the transcript set, or those of genesis.
func (w *world) giveSnapshot(n *node, height uint64) {
	s := w.shares[height]
	if s == nil {
		s = &types.Snapshot{Height: height, Members: w.cfg.Genesis.Members}
	}
	n.snapshots = append(n.snapshots, s)
	n.core.Step(Snapshot{s})
}

// testVRF is a proof that only binds its author and input together.
func testVRF(peer types.Key, input []byte) (p types.VRFProof) {
	h := types.NewTag("test/vrf").Hash(peer[:], input)
	copy(p[:], h[:])
	return p
}

// testConfig is a chain with stand-ins for the VRF.
func testConfig(chain types.Hash, genesis *types.Snapshot) Config {
	return Config{Chain: chain, Params: types.LocalParams, Genesis: genesis, Time: 1_000_000,
		VRF: func(peer types.Key, input []byte, proof types.VRFProof) error {
			if proof != testVRF(peer, input) {
				return fmt.Errorf("not the proof of %s", letter(peer))
			}
			return nil
		},
		VRFOutput: func(p types.VRFProof) types.Hash { return types.Hash(p[:32]) },
	}
}

func (w *world) chain(f []string) {
	var members []string
	options := make(map[string]string)
	for _, o := range f {
		k, v, _ := strings.Cut(o, "=")
		if options[k] = v; len(k) == 1 {
			members = append(members, o)
		}
	}
	genesis := w.snapshot("0", members)
	*w = world{t: w.t, names: make(map[types.Hash]string), blocks: make(map[string]*types.Block), shares: make(map[uint64]*types.Snapshot)}
	w.cfg = testConfig(chainLedBy(w.t, options["leaders"], genesis), genesis)
	for o, p := range map[string]*uint64{"lag": &w.cfg.Params.SnapshotLag, "period": &w.cfg.Params.SnapshotPeriod, "length": &w.cfg.Params.RunLength, "tail": &w.cfg.Params.RunTail} {
		if options[o] != "" {
			*p = uint64(w.number(options[o]))
		}
	}
	_, w.hold = options["hold"]
	w.names[w.cfg.Chain] = "genesis"
	n := &node{cfg: w.cfg}
	if s := options["self"]; s != "" {
		n.cfg.Self = letterKey(s[0])
	}
	n.core = New(n.cfg)
	w.nodes = []*node{n}
	w.scribe = &node{cfg: w.cfg, core: New(w.cfg)}
	w.scribe.core.again = true
	var leaders []string
	for h := uint64(1); h <= 9; h++ {
		leaders = append(leaders, letter(n.core.authors[n.core.draw(n.core.all.dec.run, h).leader].key))
	}
	w.printf("heights 1 to 9 are led by %s", strings.Join(leaders, " "))
}

// chainLedBy is a chain whose first heights have these leaders.
func chainLedBy(t *testing.T, leaders string, genesis *types.Snapshot) types.Hash {
	shares := make([]types.Amount, len(genesis.Members))
	for i, m := range genesis.Members {
		shares[i] = m.Shares
	}
	key := func(i int) types.Key { return genesis.Members[i].Peer }
search:
	for i := range 1 << 20 {
		chain := types.NewTag("test/chain").Hash([]byte(strconv.Itoa(i)))
		for h := range leaders {
			d := newDraw(FirstRun(chain).Seed, uint64(h+1), shares, genesis.Total(), key)
			if letter(key(d.leader)) != leaders[h:h+1] {
				continue search
			}
		}
		return chain
	}
	t.Fatalf("no chain is led by %s", leaders)
	return types.Hash{}
}

// draw enters one drawn block: "c2: a1 b1* c1 option…".
func (w *world) draw(line string) {
	n := w.nodes[0]
	c := n.core
	name, rest, _ := strings.Cut(line, ":")
	name = strings.TrimSpace(name)
	options := make(map[string]string)
	var named []types.Hash
	var parent types.Hash
	for _, f := range strings.Fields(rest) {
		k, v, isOption := strings.Cut(f, "=")
		switch {
		case isOption, f == "payload", f == "early", f == "later":
			options[k] = v
		case strings.HasSuffix(f, "*"):
			parent = w.id(f[:len(f)-1])
			fallthrough
		default:
			named = append(named, w.id(strings.TrimSuffix(f, "*")))
		}
	}
	b := &types.Block{Author: letterKey(name[0])}
	full, chosen := w.complete(c, b, named)
	switch {
	case !parent.IsZero():
		b.Parent = parent
	case !chosen.IsZero():
		b.Parent = chosen
	default:
		b.Parent = named[0]
	}
	for _, id := range named {
		if id != b.Parent {
			b.Merges = append(b.Merges, id)
		}
	}
	sortHashes(b.Merges)
	early, later := w.override(b, options)
	w.digest(b)
	w.names[b.ID(w.cfg.Chain)] = name
	w.blocks[name] = b
	w.know(b)
	note := ""
	if !full {
		note = ", not full"
	}
	if !chosen.IsZero() && b.Parent != chosen {
		note += ", not sound"
	}
	w.printf("%s on %s%s", name, w.name(b.Parent), note)
	if later {
		return
	}
	if !early {
		c.Step(Tick{b.Time})
	}
	w.enter(b)
}

// enter gives the observer a block.
func (w *world) enter(b *types.Block) {
	w.nodes[0].core.Step(Block{b})
	w.take(w.nodes[0])
}

// complete fills in what a block is if nothing else is asked for: height and previous from the
// drawing, time and VRF as the rules want them. If the Core holds all it names, it says what
// the fork choice is, which may lie below all that is named.
func (w *world) complete(c *Core, b *types.Block, named []types.Hash) (full bool, chosen types.Hash) {
	b.Time = w.cfg.Time
	var vs []*vertex
	for _, id := range named {
		if v := c.vertices[id]; v != nil {
			vs = append(vs, v)
		}
		if o := w.blocks[w.names[id]]; o != nil {
			b.Height = max(b.Height, o.Height)
			b.Time = max(b.Time, o.Time+10)
		}
	}
	b.Height++
	b.Previous = w.last(b.Author, named)
	if len(vs) < len(named) {
		return true, types.Hash{}
	}
	g := c.viewOf(vs)
	r := c.runFor(g, g.height)
	if g.dec == nil || !r.ready {
		return true, types.Hash{}
	}
	if full = c.full(g, r); !full {
		b.Time = max(b.Time, c.due(g, r))
	}
	if in := vrfInput(r, g.height); in != nil {
		b.VRF = testVRF(b.Author, in)
	}
	return full, c.chosen(g, r).parent.id
}

func (w *world) override(b *types.Block, options map[string]string) (early, later bool) {
	for o, v := range options {
		switch o {
		case "height":
			b.Height = uint64(w.number(v))
		case "previous":
			if b.Previous = (types.Hash{}); v != "none" {
				b.Previous = w.id(v)
			}
		case "time":
			b.Time = w.at(v)
		case "payload":
			b.Payload, b.PayloadBytes = types.Hash{1}, 100
		case "vrf":
			if b.VRF = (types.VRFProof{}); v != "none" {
				b.VRF = types.VRFProof{1}
			}
		case "early":
			early = true
		case "later":
			later = true
		default:
			w.t.Fatalf("unknown option %s", o)
		}
	}
	return early, later
}

// last is the highest block of an author among the named and all behind them.
func (w *world) last(author types.Key, named []types.Hash) (last types.Hash) {
	height := uint64(0)
	seen := make(map[types.Hash]bool)
	for todo := slices.Clone(named); len(todo) > 0; {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		b := w.blocks[w.names[id]]
		if b == nil || seen[id] || b.Height <= height {
			continue
		}
		seen[id] = true
		if b.Author == author && b.Height > height {
			last, height = id, b.Height
		}
		todo = append(todo, b.Named()...)
	}
	return last
}

// round lets each of these peers build one above the highest height that is there from two
// thirds, upon all below that may be named.
func (w *world) round(authors string) {
	n := w.nodes[0]
	c := n.core
	var bs []*types.Block
	height := c.highest()
	for r := c.runFor(c.all, c.all.height); height > 0 && !moreThanTwoThirds(c.sharesOf(r, c.nameable(height)), r.total); {
		height--
	}
	named := c.gather(height + 1)
	for _, a := range authors {
		var ids []types.Hash
		for _, v := range named {
			ids = append(ids, v.id)
		}
		b := &types.Block{Author: letterKey(byte(a))}
		_, b.Parent = w.complete(c, b, ids)
		b.Merges = slices.DeleteFunc(ids, func(id types.Hash) bool { return id == b.Parent })
		sortHashes(b.Merges)
		w.digest(b)
		bs = append(bs, b)
	}
	for _, b := range bs {
		w.baptise(b)
		c.Step(Tick{b.Time})
		c.Step(Block{b})
		w.take(n)
	}
}

// baptise names a block by author and height, with a dash for each that has the name already.
func (w *world) baptise(b *types.Block) string {
	name := fmt.Sprint(letter(b.Author), b.Height)
	for w.blocks[name] != nil {
		name += "'"
	}
	w.names[b.ID(w.cfg.Chain)], w.blocks[name] = name, b
	w.know(b)
	return name
}

// digest gives a block the digest of its past, if all that it names was drawn and is valid.
func (w *world) digest(b *types.Block) { b.Past, _ = w.scribe.core.Digest(b.Named()) }

// know tells the scribe of a block.
func (w *world) know(b *types.Block) {
	c := w.scribe.core
	c.Step(Tick{b.Time})
	c.Step(Block{b})
	for r := c.Ready(); len(r.Decided) > 0; r = c.Ready() {
		c.ready = Ready{}
		for _, d := range r.Decided {
			if d.Height%w.cfg.Params.SnapshotPeriod == 0 {
				w.giveSnapshot(w.scribe, d.Height)
			}
		}
	}
	c.ready = Ready{}
}

// take does what Ready asks of a driver, and writes it down.
func (w *world) take(n *node) {
	for {
		r := n.core.Ready()
		n.accepted = append(n.accepted, r.Accepted...)
		n.build, n.wake, n.missing, n.floor = r.Build, r.Wake, r.Missing, r.Floor
		if w.net == nil {
			w.report(&r)
		} else {
			w.net.report(w, n, &r)
		}
		if w.keep {
			n.core.ready = Ready{}
		} else {
			n.core.Advance()
		}
		for _, d := range r.Decided {
			n.decisions = append(n.decisions, d)
			if d.Closes != nil {
				n.runs = append(n.runs, *d.Closes)
			}
			if d.Height%w.cfg.Params.SnapshotPeriod == 0 && !w.hold {
				w.giveSnapshot(n, d.Height)
			}
		}
		if len(r.Decided) == 0 {
			return
		}
	}
}

func (w *world) report(r *Ready) {
	for _, f := range r.Forks {
		w.printf("  fork: %s and %s", w.name(f.A.ID(w.cfg.Chain)), w.name(f.B.ID(w.cfg.Chain)))
	}
	for _, x := range r.Refused {
		w.printf("  refused %s: %s", w.name(x.ID), x.Err.Kind)
	}
	for _, d := range r.Decided {
		if !w.quiet {
			w.printf("  %s", w.decision(&d))
		}
	}
	for _, t := range r.Tiers {
		w.printf("  %s is %s", w.name(t.Block), t.Tier)
	}
	missing := ""
	for _, m := range r.Missing {
		missing += fmt.Sprintf("  missing %s, for %s\n", w.name(m.ID), w.name(m.For))
	}
	if missing != w.missing {
		w.missing = missing
		w.out.WriteString(missing)
	}
	if r.Floor > 0 {
		w.printf("  wants to be restored from height %d", r.Floor)
	}
}

func (w *world) decision(d *Decision) string {
	if d.Anchor.IsZero() {
		return fmt.Sprintf("height %d is empty", d.Height)
	}
	s := fmt.Sprintf("height %d has anchor %s, which orders %s", d.Height, w.name(d.Anchor), w.list(d.Blocks))
	if d.Closes != nil {
		s += fmt.Sprintf("; run %d starts at %d with the shares of %d", d.Closes.Number, d.Closes.Start, d.Closes.Snapshot)
	}
	return s
}

// build shows what the observer would build, and enters it.
func (w *world) build() {
	n := w.nodes[0]
	t := n.build
	if t == nil {
		wake := "nothing to wake for"
		if n.wake > 0 {
			wake = "wake at " + w.since(n.wake)
		}
		w.printf("nothing to build, %s", wake)
		return
	}
	b := t.Block(n.cfg.Self)
	if t.VRF != nil {
		b.VRF = testVRF(n.cfg.Self, t.VRF)
	}
	name := w.baptise(b)
	merges := []string{}
	for _, m := range t.Merges {
		merges = append(merges, w.name(m))
	}
	slices.Sort(merges)
	w.printf("builds %s at %s on %s, merges %s, previous %s", name, w.since(b.Time), w.name(b.Parent), strings.Join(merges, " "), w.name(b.Previous))
	n.core.Step(Block{b})
	w.take(n)
}

// base is what the node's driver has stored from a floor up.
func (n *node) base(floor uint64) *Base {
	base := &Base{Floor: floor, Snapshots: n.snapshots}
	if floor == 0 {
		base.Blocks = n.accepted
		base.Decisions = n.decisions
		return base
	}
	anchor := slices.IndexFunc(n.accepted, func(a Accepted) bool { return a.ID == n.decisions[floor-1].Anchor })
	base.Decisions = n.decisions[n.accepted[anchor].Past.Decided:]
	base.Snapshots = append([]*types.Snapshot{n.cfg.Genesis}, n.snapshots...)
	for _, r := range append([]Run{FirstRun(n.cfg.Chain)}, n.runs...) {
		if r.Number >= base.Decisions[0].Run {
			base.Runs = append(base.Runs, r)
		}
	}
	for _, a := range n.accepted {
		if a.Block.Height >= floor {
			base.Blocks = append(base.Blocks, a)
		}
	}
	sortAccepted(base.Blocks)
	var err error
	base.Lines, err = Lines(base.Blocks, floor, func(id types.Hash) (*types.Block, error) {
		i := slices.IndexFunc(n.accepted, func(a Accepted) bool { return a.ID == id })
		if i < 0 {
			return nil, errors.New("it was not accepted")
		}
		return n.accepted[i].Block, nil
	})
	if err != nil {
		panic(err)
	}
	return base
}

func sortAccepted(as []Accepted) {
	slices.SortFunc(as, func(a, b Accepted) int {
		if a.Block.Height != b.Block.Height {
			return int(a.Block.Height) - int(b.Block.Height)
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	})
}

// restore replaces the observer's Core by one restored from what is stored, and gives it again what waited.
func (w *world) restore(floor uint64) {
	n := w.nodes[0]
	old := n.core
	core, err := Restore(n.cfg, n.base(floor))
	if err != nil {
		w.printf("fails: %v", err)
		return
	}
	n.core = core
	core.Step(Tick{old.now})
	for _, b := range old.Waiting() {
		core.Step(Block{b})
	}
	w.take(n)
	w.printf("restored from height %d: decided up to %d, highest block %d", core.Floor(), core.Decided(), core.Height())
}

func (w *world) show(what string, args []string) {
	c := w.nodes[0].core
	r := c.runFor(c.all, c.all.height)
	switch what {
	case "draw":
		d := c.draw(r, uint64(w.number(args[0])))
		for _, m := range r.members {
			a := c.number[m.Peer]
			w.printf("%s: shares %d, rank %d, weight %d", letter(m.Peer), m.Shares, d.rank[a], d.weight[a])
		}
	case "run":
		w.printf("height %d is decided by run %d, mark %d", c.Decided()+1, c.all.dec.run.Number, c.all.dec.run.mark)
		if n := c.all.dec.closing; n != nil {
			w.printf("run %d starts at %d, shares of %d are there: %t", n.Number, n.Start, n.Snapshot, n.ready)
		}
	case "choice":
		fc := c.choose(c.all, r)
		w.printf("parent %s", w.name(fc.parent.id))
		vs := slices.Collect(maps.Keys(fc.backing))
		slices.SortFunc(vs, func(x, y *vertex) int { return strings.Compare(w.name(x.id), w.name(y.id)) })
		for _, v := range vs {
			w.printf("%s is backed by %d of %d", w.name(v.id), fc.backing[v], r.total)
		}
	case "weight":
		for _, name := range args {
			v := c.vertices[w.id(name)]
			tw := c.weigh(v.past, c.runFor(v.past, v.height), v)
			w.printf("%s weighs %d·2⁶⁴ + %d, rank %d", name, tw.sum.hi, tw.sum.lo, tw.rank)
		}
	case "parent":
		for _, name := range args {
			v := c.vertices[w.id(name)]
			w.printf("the fork choice in the past of %s is %s", name, w.name(c.chosen(v.past, c.runFor(v.past, v.height)).parent.id))
		}
	case "inside":
		w.printf("heights %d to %d, %d blocks; pending %d, future %d, parked %d", c.Floor(), c.Height(), len(c.vertices)-1, len(c.pending), len(c.future), len(c.parked))
	default:
		w.t.Fatalf("cannot show %q", what)
	}
}
