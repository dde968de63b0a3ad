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

// module writes what a company did as a Quint module. Its tests pass if the model finds the same; those named false…
// change one thing that was told, and must fail.
type module struct {
	strings.Builder
	c      *company
	place  map[types.Hash]int // of a block in the module; genesis is 0
	blocks []*types.Block     // by place, from 1
}

func (m *module) printf(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// list is values in brackets, or in Set(…).
func list[T any](open string, values []T, text func(T) string) string {
	var all []string
	for _, v := range values {
		all = append(all, text(v))
	}
	return open + strings.Join(all, ", ") + map[string]string{"[": "]", "Set(": ")"}[open]
}

func number[T ~int | ~int64 | ~uint64](x T) string { return fmt.Sprintf("%d", x) }

func write(c *company) string {
	m := &module{c: c, place: map[types.Hash]int{c.cfg.Chain: 0}, blocks: slices.Clone(c.blocks)}
	slices.SortStableFunc(m.blocks, func(a, b *types.Block) int { return int(a.Height) - int(b.Height) })
	for i, b := range m.blocks {
		m.place[b.ID(c.cfg.Chain)] = i + 1
	}
	m.head()
	m.table()
	m.told()
	for i, p := range c.peers {
		m.view(i, p)
	}
	m.printf("}")
	return m.String()
}

func (m *module) head() {
	p := m.c.cfg.Params
	var of []int
	for i := range lines {
		of = append(of, min(i, twin))
	}
	m.printf("module trace {")
	m.printf("  import charter(AuthorOf = %s, Snapshots = %s,", list("[", of, number), list("[", m.c.shares, func(s []types.Amount) string { return list("[", s, number) }))
	m.printf("    Lag = %d, Period = %d, Length = %d, Tail = %d, Stride = %d, Spread = 0,", p.SnapshotLag, p.SnapshotPeriod, p.RunLength, p.RunTail, m.stride())
	m.printf("    Num = 2, Den = 3, Distance = 3).* from \"./charter\"")
}

// stride is how many heights of a run are in the table.
func (m *module) stride() uint64 { return m.blocks[len(m.blocks)-1].Height + 4 }

// table is the draws of all runs that any core came to know, one behind the other.
func (m *module) table() {
	runs := []consensus.Run{consensus.FirstRun(m.c.cfg.Chain)}
	for _, p := range m.c.peers {
		for _, d := range p.decisions {
			if d.Closes != nil && d.Closes.Number == uint64(len(runs)) {
				runs = append(runs, *d.Closes)
			}
		}
	}
	m.printf("  pure val table: List[Draw] = [")
	for _, r := range runs {
		for h := range m.stride() {
			rank, weight := m.c.draw(r.Seed, h, m.c.shares[r.Snapshot/m.c.cfg.Params.SnapshotPeriod])
			m.printf("    { rank: %s, weight: %s },", list("[", rank, number), list("[", weight, number))
		}
	}
	m.printf("  ]")
}

// told is the blocks, and what must be found of each.
func (m *module) told() {
	ids := make([]types.Hash, len(m.blocks))
	for i, b := range m.blocks {
		ids[i] = b.ID(m.c.cfg.Chain)
	}
	sorted := slices.SortedFunc(slices.Values(ids), func(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) })
	m.printf("  pure val told = [")
	var wrong []int
	for i, b := range m.blocks {
		if m.c.wrong[ids[i]] {
			wrong = append(wrong, i+1)
		}
		m.printf("    %s,", m.block(b, m.c.line[ids[i]], slices.Index(sorted, ids[i])))
	}
	m.printf("  ]")
	split := fmt.Sprintf("genesis.split.replaceAt(%d, %d)", copy, m.c.split)
	m.printf("  pure val graph: Graph = told.foldl({ ...genesis, table: table, split: %s },", split)
	m.printf("    (g, t) => add(g, blockOn(g, t.line, t.named, t.parent, t.time, t.hash)))")
	m.printf("  pure val wrong = graph.blocks.indices().filter(i => i > 0 and not(isSound(graph.blocks[i])))")
	m.printf("  run blocksTest = assert(told.indices().forall(i => { val b = graph.blocks[i + 1]")
	m.printf("    b.height == told[i].height and b.previous == told[i].previous and b.parent == told[i].parent and b.named == told[i].named }))")
	m.printf("  run validTest = assert(graph.blocks.indices().forall(i => i == 0 or broken(graph, graph.blocks[i], %d) == Set()))", m.c.cfg.Params.WaitQuorum)
	m.printf("  run soundTest = assert(wrong == %s)", list("Set(", wrong, number))
	m.printf("  run falseSoundTest = assert(wrong == %s)", list("Set(", append(wrong, len(m.blocks)+1), number))
	for i, r := range m.c.refused {
		m.refusal(i, r)
	}
}

func (m *module) block(b *types.Block, line, hash int) string {
	previous := 0
	if !b.Previous.IsZero() {
		previous = m.place[b.Previous]
	}
	return fmt.Sprintf("{ line: %d, height: %d, previous: %d, parent: %d, named: %s, time: %d, hash: %d }", line, b.Height, previous, m.place[b.Parent],
		list("Set(", b.Named(), func(id types.Hash) string { return number(m.place[id]) }), b.Time-genesis, hash)
}

// refusal checks that a block breaks the rule by which the core refused it. It stands at the end of its line as that was.
func (m *module) refusal(i int, r refusal) {
	var before []int
	for _, b := range m.c.blocks[:r.at] {
		if m.c.line[b.ID(m.c.cfg.Chain)] == r.line {
			before = append(before, m.place[b.ID(m.c.cfg.Chain)])
		}
	}
	m.printf("  run refused%dTest = { val t = %s", i, m.block(r.block, r.line, 0))
	m.printf("    val g = { ...graph, lines: graph.lines.replaceAt(%d, %s) }", r.line, list("[", before, number))
	m.printf("    val b = { ...blockOn(g, t.line, t.named, t.parent, t.time, 0), height: t.height, previous: t.previous }")
	m.printf("    assert(broken(g, b, %d).contains(%d)) }", m.c.cfg.Params.WaitQuorum, r.rule)
}

// view checks what a core decided, by which runs, and in what order.
func (m *module) view(i int, p *peer) {
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
	m.printf("  pure val view%d = decide(graph, %s)", i, list("[", p.holds[:], number))
	m.printf("  pure val order%d = orderOf(graph, view%d)", i, i)
	m.printf("  pure val runs%d: List[int] = view%d.by.foldl([], (l, r) => l.append(r.number))", i, i)
	test := func(name, of string, values []int) {
		m.printf("  run %s%dTest = assert(%s%d%s == %s)", name, i, of, i, map[bool]string{true: ".anchors"}[of == "view"], list("[", values, number))
	}
	test("anchors", "view", anchors)
	test("runs", "runs", runs)
	test("order", "order", order)
	if len(anchors) == 0 || len(order) < 2 {
		return
	}
	last := len(anchors) - 1
	test("falseAnchors", "view", append(slices.Clone(anchors[:last]), anchors[last]+1))
	test("falseRuns", "runs", append(slices.Clone(runs[:last]), runs[last]+1))
	slices.Reverse(order[len(order)-2:])
	test("falseOrder", "order", order)
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
	seeds := uint64(3)
	if testing.Short() {
		seeds = 1
	}
	seen := map[string]int{}
	for seed := range seeds {
		c := run(t, seed, 60)
		dir := t.TempDir()
		text := write(c)
		for name, data := range map[string][]byte{"charter.qnt": model, "trace.qnt": []byte(text)} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, _ := exec.CommandContext(t.Context(), tool, "test", "--backend=typescript", "--max-samples=1", "--main=trace", filepath.Join(dir, "trace.qnt")).CombinedOutput()
		found := outcome.FindAllStringSubmatch(string(out), -1)
		if want := strings.Count(text, "Test = "); len(found) != want {
			t.Fatalf("seed %d: %d tests of %d are told of:\n%s", seed, len(found), want, out)
		}
		for _, f := range found {
			if passed, name := f[1] != "", f[1]+f[2]; passed == strings.HasPrefix(name, "false") {
				t.Errorf("seed %d: %s passed: %t", seed, name, passed)
			}
		}
		count(c, seen)
		seen["tests"] += len(found)
	}
	t.Log(seen)
	for _, must := range []string{"anchors", "empty", "later runs", "forks", "wrong parents", "refused"} {
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
