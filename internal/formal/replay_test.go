package formal

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"charter/consensus"
	"charter/types"
)

// trace writes what a company did in Quint. Its tests pass if the model finds the same; those named false… change one
// thing that was told, and must fail.
type trace struct {
	*strings.Builder
	c      *company
	n      int                // its number; all that it defines ends with it
	stride uint64             // how many heights of a run are in the table of draws
	place  map[types.Hash]int // of a block in the graph; genesis is 0
	blocks []*types.Block     // by place, from 1
}

func (m *trace) printf(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// list is values in brackets, or in Set(…).
func list[T any](open string, values []T, text func(T) string) string {
	var all []string
	for _, v := range values {
		all = append(all, text(v))
	}
	return open + strings.Join(all, ", ") + map[string]string{"[": "]", "Set(": ")"}[open]
}

func number[T ~int | ~int64 | ~uint64](x T) string { return fmt.Sprintf("%d", x) }

// module is a Quint module with what some companies did.
func module(companies []*company) string {
	var w strings.Builder
	stride := uint64(0)
	for _, c := range companies {
		for _, b := range c.blocks {
			stride = max(stride, b.Height+4)
		}
	}
	p := companies[0].cfg.Params
	var of []int
	for i := range lines {
		of = append(of, min(i, twin))
	}
	fmt.Fprintf(&w, "module trace {\n  import charter(AuthorOf = %s, Lag = %d, Period = %d, Length = %d, Tail = %d,\n", list("[", of, number),
		p.SnapshotLag, p.SnapshotPeriod, p.RunLength, p.RunTail)
	fmt.Fprintf(&w, "    Stride = %d, Spread = 0, Num = 2, Den = 3, Distance = 3).* from \"./charter\"\n", stride)
	for n, c := range companies {
		m := &trace{&w, c, n, stride, map[types.Hash]int{c.cfg.Chain: 0}, slices.Clone(c.blocks)}
		slices.SortStableFunc(m.blocks, func(a, b *types.Block) int { return int(a.Height) - int(b.Height) })
		for i, b := range m.blocks {
			m.place[b.ID(c.cfg.Chain)] = i + 1
		}
		m.start()
		m.told()
		for i, p := range c.peers {
			m.view(i, p)
		}
		m.ways()
	}
	return w.String() + "}\n"
}

// start is the snapshots, and the draws of all runs that any core came to know, one behind the other.
func (m *trace) start() {
	runs := []consensus.Run{consensus.FirstRun(m.c.cfg.Chain)}
	for _, p := range m.c.peers {
		for _, d := range p.decisions {
			if d.Closes != nil && d.Closes.Number == uint64(len(runs)) {
				runs = append(runs, *d.Closes)
			}
		}
	}
	period := m.c.cfg.Params.SnapshotPeriod
	shares := m.c.shares[:m.stride/period+1]
	m.printf("  pure val start%d = genesis(%s,", m.n, list("[", shares, func(s []types.Amount) string { return list("[", s, number) }))
	m.printf("    [-1, -1, -1, -1, %d], [", m.c.split)
	for _, r := range runs {
		for h := range m.stride {
			rank, weight := m.c.draw(r.Seed, h, m.c.shares[r.Snapshot/period])
			m.printf("    { rank: %s, weight: %s },", list("[", rank, number), list("[", weight, number))
		}
	}
	m.printf("  ])")
}

// told is the blocks, and what must be found of each.
func (m *trace) told() {
	ids := make([]types.Hash, len(m.blocks))
	for i, b := range m.blocks {
		ids[i] = b.ID(m.c.cfg.Chain)
	}
	sorted := slices.SortedFunc(slices.Values(ids), func(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) })
	m.printf("  pure val told%d = [", m.n)
	var wrong []int
	for i, b := range m.blocks {
		if m.c.wrong[ids[i]] {
			wrong = append(wrong, i+1)
		}
		m.printf("    %s,", m.block(b, m.c.line[ids[i]], slices.Index(sorted, ids[i])))
	}
	m.printf("  ]")
	m.printf("  pure val graph%d = told%d.foldl(start%d, (g, t) => add(g, blockOn(g, t.line, t.named, t.parent, t.time, t.hash)))", m.n, m.n, m.n)
	m.printf("  run blocks%dTest = assert(told%d.indices().forall(i => { val b = graph%d.blocks[i + 1]", m.n, m.n, m.n)
	m.printf("    val t = told%d[i]", m.n)
	m.printf("    b.height == t.height and b.previous == t.previous and b.parent == t.parent and b.named == t.named }))")
	m.printf("  run valid%dTest = assert(graph%d.blocks.indices().forall(i => i == 0 or broken(graph%d, graph%d.blocks[i], %d) == Set()))",
		m.n, m.n, m.n, m.n, m.c.cfg.Params.WaitQuorum)
	m.printf("  pure val wrong%d = graph%d.blocks.indices().filter(i => i > 0 and not(isSound(graph%d.blocks[i])))", m.n, m.n, m.n)
	m.printf("  run sound%dTest = assert(wrong%d == %s)", m.n, m.n, list("Set(", wrong, number))
	m.printf("  run falseSound%dTest = assert(wrong%d == %s)", m.n, m.n, list("Set(", append(wrong, len(m.blocks)+1), number))
	for i, r := range m.c.refused {
		m.refusal(i, r)
	}
}

func (m *trace) block(b *types.Block, line, hash int) string {
	previous := 0
	if !b.Previous.IsZero() {
		previous = m.place[b.Previous]
	}
	return fmt.Sprintf("{ line: %d, height: %d, previous: %d, parent: %d, named: %s, time: %d, hash: %d }", line, b.Height, previous, m.place[b.Parent],
		list("Set(", b.Named(), func(id types.Hash) string { return number(m.place[id]) }), b.Time-genesis, hash)
}

// refusal checks that a block breaks the rule by which the core refused it. It stands at the end of its line as that was.
func (m *trace) refusal(i int, r refusal) {
	var before []int
	for _, b := range m.c.blocks[:r.at] {
		if m.c.line[b.ID(m.c.cfg.Chain)] == r.line {
			before = append(before, m.place[b.ID(m.c.cfg.Chain)])
		}
	}
	m.printf("  run refused%d_%dTest = { val t = %s", m.n, i, m.block(r.block, r.line, 0))
	m.printf("    val g = { ...graph%d, lines: graph%d.lines.replaceAt(%d, %s) }", m.n, m.n, r.line, list("[", before, number))
	m.printf("    val b = { ...blockOn(g, t.line, t.named, t.parent, t.time, 0), height: t.height, previous: t.previous }")
	m.printf("    assert(broken(g, b, %d).contains(%d)) }", m.c.cfg.Params.WaitQuorum, r.rule)
}

// view checks what a core decided, by which runs, and in what order.
func (m *trace) view(i int, p *peer) {
	var anchors, runs, order []int
	for _, d := range p.decisions {
		anchor := -1
		if !d.Anchor.IsZero() {
			anchor = m.place[d.Anchor]
		}
		anchors, runs = append(anchors, anchor), append(runs, int(d.Run))
		for _, id := range d.Blocks {
			order = append(order, m.place[id])
		}
	}
	id := fmt.Sprintf("%d_%d", m.n, i)
	m.printf("  pure val view%s = decide(graph%d, %s)", id, m.n, list("[", p.holds[:], number))
	m.printf("  pure val anchors%s = view%s.anchors", id, id)
	m.printf("  pure val runs%s: List[int] = view%s.by.foldl([], (l, r) => l.append(r.number))", id, id)
	m.printf("  pure val order%s = orderOf(graph%d, view%s)", id, m.n, id)
	test := func(name, of string, values []int) {
		m.printf("  run %s%sTest = assert(%s%s == %s)", name, id, of, id, list("[", values, number))
	}
	test("toldAnchors", "anchors", anchors)
	test("toldRuns", "runs", runs)
	test("toldOrder", "order", order)
	if len(anchors) == 0 || len(order) < 2 {
		return
	}
	last := len(anchors) - 1
	test("falseAnchors", "anchors", append(slices.Clone(anchors[:last]), anchors[last]+1))
	test("falseRuns", "runs", append(slices.Clone(runs[:last]), runs[last]+1))
	slices.Reverse(order[len(order)-2:])
	test("falseOrder", "order", order)
}

// ways are how heights are decided, by the tests that tell whether any was.
var ways = map[string]string{"hasDirect": "direct", "hasSkipped": "skipped", "hasIndirect": "indirect", "hasPassedOver": "passed over"}

func (m *trace) ways() {
	for name, way := range ways {
		m.printf("  run %s%dTest = assert(Set(%s).exists(v => v.how.indices().exists(i => v.how[i] == %q)))", name, m.n,
			list("", m.c.peers, func(p *peer) string { return fmt.Sprintf("view%d_%d", m.n, p.line) }), way)
	}
}

var formal = filepath.Join("..", "..", "spec", "formal")

// quint is the tool, as installed by spec/formal/run.
func quint(t *testing.T) string {
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("skipped: Node is not installed, and Quint runs on it")
	}
	tool, err := filepath.Abs(filepath.Join(formal, "node_modules", ".bin", "quint"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(tool); err != nil {
		t.Skip("skipped: Quint is not installed; `npm ci` in spec/formal does that")
	}
	return tool
}

var outcome = regexp.MustCompile(`(?m)^\s+(?:ok (\w+) passed|\d+\) (\w+) failed)`)

// TestReplay has the model work out what cores did. It must come to the same; and to something else than what is
// told falsely.
func TestReplay(t *testing.T) {
	tool := quint(t)
	model, err := os.ReadFile(filepath.Join(formal, "charter.qnt"))
	if err != nil {
		t.Fatal(err)
	}
	seeds := []uint64{8, 4, 11} // together they come to all that must be seen
	if testing.Short() {
		seeds = seeds[:1]
	}
	seen := map[string]int{}
	var companies []*company
	for _, seed := range seeds {
		c := run(t, seed, 60)
		companies = append(companies, c)
		count(c, seen)
	}
	text := module(companies)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"charter.qnt": model, "trace.qnt": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Its exit status says nothing, as some tests are to fail.
	out, _ := exec.CommandContext(t.Context(), tool, "test", "--backend=typescript", "--max-samples=1", "--main=trace", filepath.Join(dir, "trace.qnt")).CombinedOutput()
	found := outcome.FindAllStringSubmatch(string(out), -1)
	if want := strings.Count(text, "Test = "); len(found) != want {
		t.Fatalf("%d tests of %d are told of:\n%s", len(found), want, out)
	}
	for _, f := range found {
		passed, name := f[1] != "", f[1]+f[2]
		way := ways[strings.TrimRight(strings.TrimSuffix(name, "Test"), "0123456789")]
		switch falsified := strings.HasPrefix(name, "false"); {
		case way != "" && passed:
			seen[way]++
		case way != "":
		case passed == falsified:
			t.Errorf("%s passed: %t", name, passed)
		case falsified:
			seen["falsified"]++
		}
	}
	seen["tests"] = len(found)
	t.Log(seen)
	for _, must := range []string{"direct", "skipped", "indirect", "passed over", "later runs", "forks", "wrong parents", "refused"} {
		if seen[must] == 0 && !testing.Short() {
			t.Errorf("no trace had any %s", must)
		}
	}
}

// count is what happened to a company.
func count(c *company, seen map[string]int) {
	seen["blocks"] += len(c.blocks)
	seen["wrong parents"] += len(c.wrong)
	seen["refused"] += len(c.refused)
	for _, p := range c.peers {
		seen["forks"] += p.forks
		for _, d := range p.decisions {
			switch {
			case d.Anchor.IsZero():
				seen["empty"]++
			default:
				seen["anchors"]++
			}
			if d.Run > 0 {
				seen["later runs"]++
			}
		}
	}
}
