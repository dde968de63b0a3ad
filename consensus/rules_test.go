package consensus

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"charter/types"
)

// kindsWorld is four equal peers with a fork by d, and c3, a valid block that was not entered:
// it names a2, b2 and c2, and proves a VRF.
func kindsWorld(t *testing.T) (*world, *types.Block) {
	w := &world{t: t}
	w.chain([]string{"a=1", "b=1", "c=1", "d=1", "lag=5", "period=4", "length=4", "tail=2", "leaders=abc"})
	for _, line := range []string{
		"a1: genesis", "b1: genesis", "c1: genesis", "d1: genesis", "d1': genesis payload",
		"a2: a1 b1 c1 d1", "b2: a1 b1 c1", "b2x: a1 b1 c1 d1'", "c2: a1 b1 c1",
		"c3: a2 b2 c2 later",
	} {
		w.draw(line)
	}
	return w, w.blocks["c3"]
}

// kindRows break c3 in one way each.
var kindRows = []struct {
	name  string
	kind  Kind
	spoil func(w *world, b *types.Block)
}{
	{"a height too high", WrongHeight, func(w *world, b *types.Block) { b.Height++ }},
	{"a height too low", WrongHeight, func(w *world, b *types.Block) { b.Height-- }},
	{"height 0", WrongHeight, func(w *world, b *types.Block) { b.Height = 0 }},
	{"the greatest height", WrongHeight, func(w *world, b *types.Block) { b.Height = math.MaxUint64 }},
	{"no previous", WrongPrevious, func(w *world, b *types.Block) { b.Previous = types.Hash{} }},
	{"an older previous", WrongPrevious, func(w *world, b *types.Block) { b.Previous = w.id("c1") }},
	{"another's previous", WrongPrevious, func(w *world, b *types.Block) { b.Previous = w.id("a2") }},
	{"a previous where there is none", WrongPrevious, func(w *world, b *types.Block) {
		*b = types.Block{Height: 1, Author: letterKey('c'), Previous: w.id("c2"), Parent: w.cfg.Chain, Time: w.cfg.Time}
	}},
	{"its author's fork in its past", WrongPrevious, func(w *world, b *types.Block) {
		w.nodes[0].core.again = true // else nobody would look at one more block of a forked author
		b.Author, b.Previous = letterKey('d'), w.id("d1")
		b.Merges = w.ids("b2x", "c2")
		b.VRF = testVRF(b.Author, w.input(3))
	}},
	{"a forked author's block", WrongNames, func(w *world, b *types.Block) { b.Merges = w.ids("b2x", "c2", "d1") }},
	{"a merge behind another", WrongNames, func(w *world, b *types.Block) { b.Merges = w.ids("b2", "c2", "b1") }},
	{"a merge behind the parent", WrongNames, func(w *world, b *types.Block) { b.Parent, b.Merges = w.id("a2"), w.ids("a1", "b2", "c2") }},
	{"two merges by one author", WrongNames, func(w *world, b *types.Block) { b.Parent, b.Merges = w.id("c2"), w.ids("a2", "b2", "b2x") }},
	{"before what it names", WrongTime, func(w *world, b *types.Block) { b.Time = w.blocks["a2"].Time - 1 }},
	{"before all times", WrongTime, func(w *world, b *types.Block) { b.Time = math.MinInt64 }},
	{"not full and too early", WrongTime, func(w *world, b *types.Block) {
		b.Parent, b.Merges = w.id("a2"), w.ids("c2")
		b.Time = w.blocks["a2"].Time + w.cfg.Params.WaitQuorum - 1
	}},
	{"no member", NoShares, func(w *world, b *types.Block) { b.Author = letterKey('z') }},
	{"another digest of its past", WrongPast, func(w *world, b *types.Block) { b.Past[0] ^= 1 }},
	{"the digest of another past", WrongPast, func(w *world, b *types.Block) { b.Past = w.blocks["c2"].Past }},
	{"another's proof", WrongVRF, func(w *world, b *types.Block) { b.VRF = testVRF(letterKey('a'), w.input(3)) }},
	{"the proof of another height", WrongVRF, func(w *world, b *types.Block) { b.VRF = testVRF(b.Author, w.input(4)) }},
	{"no proof", WrongVRF, func(w *world, b *types.Block) { b.VRF = types.VRFProof{} }},
	{"a proof below the mark", WrongVRF, func(w *world, b *types.Block) {
		*b = *w.blocks["c2"]
		b.VRF = types.VRFProof{1}
	}},
	{"far in the future", Future, func(w *world, b *types.Block) { b.Time = w.nodes[0].core.now + 2*w.cfg.Params.WaitQuorum + 1 }},
	{"the end of time", Future, func(w *world, b *types.Block) { b.Time = math.MaxInt64 }},
	{"upon a refused block", Descendant, func(w *world, b *types.Block) {
		bad := *b
		bad.VRF = types.VRFProof{}
		w.enter(&bad)
		b.Height, b.Previous, b.Parent, b.Merges = 4, bad.ID(w.cfg.Chain), bad.ID(w.cfg.Chain), nil
	}},
}

// ids are the ids of drawn blocks, sorted as merges are.
func (w *world) ids(names ...string) (ids []types.Hash) {
	for _, n := range names {
		ids = append(ids, w.id(n))
	}
	sortHashes(ids)
	return ids
}

// input is what a block of a height of the first run proves.
func (w *world) input(h uint64) []byte { return vrfInput(w.nodes[0].core.runs[0], h) }

func TestKinds(t *testing.T) {
	w, good := kindsWorld(t)
	good.VRF = testVRF(good.Author, w.input(3))
	w.nodes[0].core.Step(Tick{good.Time})
	w.nodes[0].core.Step(Block{good})
	if !w.nodes[0].core.Has(good.ID(w.cfg.Chain)) {
		t.Fatalf("the block that the rows break is not valid: %+v", w.nodes[0].core.Ready())
	}
	rows := make(map[Kind]bool)
	for _, row := range kindRows {
		rows[row.kind] = true
		t.Run(row.name, func(t *testing.T) {
			w, b := kindsWorld(t)
			b.VRF = testVRF(b.Author, w.input(3))
			c := w.nodes[0].core
			c.Step(Tick{c.now + 2000})
			row.spoil(w, b)
			before := len(c.vertices)
			c.ready.Refused = nil
			c.Step(Block{b})
			r := c.Ready()
			if len(r.Refused) != 1 || r.Refused[0].Err.Kind != row.kind || r.Refused[0].Author != b.Author || r.Refused[0].ID != b.ID(w.cfg.Chain) {
				t.Fatalf("want %s, got %+v", row.kind, r.Refused)
			}
			if r.Refused[0].Err.Error() == "" || len(c.vertices) != before {
				t.Error("it left a trace, or says nothing")
			}
			c.Advance()
			c.Step(Block{b})
			if again := len(c.Ready().Refused); again != map[bool]int{true: 1, false: 0}[row.kind == Future] {
				t.Errorf("sent again, it is refused %d times", again)
			}
		})
	}
	for k := WrongHeight; k < kindEnd; k++ {
		if !rows[k] {
			t.Errorf("no row breaks a block by %q", k)
		}
		if k.String() == "" {
			t.Errorf("kind %d has no words", k)
		}
	}
	if len(kinds) != int(kindEnd) {
		t.Errorf("%d words for %d kinds", len(kinds), kindEnd)
	}
}

// What waits is bounded, whoever sends it: blocks whose past is missing, whose time has not
// come, and the memory of what was refused.
func TestBounds(t *testing.T) {
	w := &world{t: t}
	w.chain([]string{"a=1", "b=1", "c=1", "d=1"})
	c := w.nodes[0].core
	fill := func(n int, block func(i int) *types.Block) {
		for i := range n {
			c.Step(Block{block(i)})
		}
		c.Ready()
		c.Advance()
	}
	nonce := func(b types.Block, i int) *types.Block {
		b.Author, b.Payload, b.PayloadBytes = letterKey('a'), types.Hash{byte(i), byte(i >> 8), byte(i >> 16), 1}, 1
		return &b
	}
	c.Step(Tick{w.cfg.Time})
	fill(maxPending+500, func(i int) *types.Block {
		return nonce(types.Block{Height: 2, Parent: types.Hash{7, byte(i), byte(i >> 8)}, Time: w.cfg.Time}, i)
	})
	if len(c.pending) != maxLine || len(c.Ready().Missing) != maxLine {
		t.Errorf("%d blocks of one author are pending, and %d missing, want %d", len(c.pending), len(c.Ready().Missing), maxLine)
	}
	fill(maxPending, func(i int) *types.Block {
		b := nonce(types.Block{Height: 2, Parent: types.Hash{8, byte(i), byte(i >> 8)}, Time: w.cfg.Time}, i)
		b.Author = types.Key{9, byte(i), byte(i >> 8)}
		return b
	})
	fill(1, func(i int) *types.Block {
		b := nonce(types.Block{Height: 2, Parent: types.Hash{6}, Time: w.cfg.Time}, i)
		b.Author = letterKey('b')
		return b
	})
	if len(c.pending) != maxPending/2+1 || c.queued[letterKey('b')] != 1 {
		t.Errorf("%d blocks are pending, %d of b: strangers took its room", len(c.pending), c.queued[letterKey('b')])
	}
	fill(maxFuture+500, func(i int) *types.Block {
		return nonce(types.Block{Height: 1, Parent: w.cfg.Chain, Time: w.cfg.Time + 1}, i)
	})
	fill(maxPending+500, func(i int) *types.Block {
		return nonce(types.Block{Height: 9, Parent: w.cfg.Chain, Time: w.cfg.Time}, i)
	})
	if len(c.pending) > maxPending || len(c.waiters) > maxPending || len(c.future) > maxFuture || len(c.refused) > maxPending {
		t.Errorf("pending %d, waiters %d, future %d, refused %d", len(c.pending), len(c.waiters), len(c.future), len(c.refused))
	}
	if len(c.levels) > 4 || len(c.vertices) > 4 {
		t.Errorf("%d levels and %d vertices by blocks that are not valid", len(c.levels), len(c.vertices))
	}
	// All of the future come due at once: of a forked line two are enough.
	c.Step(Tick{w.cfg.Time + 1})
	if r := c.Ready(); len(r.Accepted) > 2 || len(c.future) != 0 {
		t.Errorf("%d variants of one block entered, %d still wait", len(r.Accepted), len(c.future))
	}
}

// Blocks that wait for a snapshot are bounded too.
func TestParkedBound(t *testing.T) {
	w := &world{t: t}
	w.chain([]string{"a=1", "b=1", "c=1", "d=1", "lag=14", "period=8", "length=8", "tail=6", "hold"})
	for range 18 {
		w.round("abcd")
	}
	c := w.nodes[0].core
	base := *w.blocks["a18"]
	base.Height, base.Parent, base.Merges = 19, w.id("a18"), w.ids("b18", "c18", "d18")
	for i := range maxPending + 10 {
		b := base
		b.Author, b.Previous = types.Key{200, byte(i), byte(i >> 8)}, types.Hash{}
		c.Step(Block{&b})
	}
	if len(c.parked) > maxPending {
		t.Errorf("%d blocks wait for a snapshot", len(c.parked))
	}
}

// Ready's Missing names what nobody has brought, once each, and nothing when it came.
func TestMissing(t *testing.T) {
	w := &world{t: t}
	w.chain([]string{"a=1", "b=1", "c=1", "d=1"})
	c := w.nodes[0].core
	for _, line := range []string{"a1: genesis later", "b1: genesis later", "a2: a1 b1 later", "b2: a1 b1 later", "a3: a2 b2 later"} {
		w.draw(line)
	}
	missing := func() (names []string) {
		for _, m := range c.Ready().Missing {
			names = append(names, w.name(m.ID))
		}
		slices.Sort(names)
		return names
	}
	c.Step(Tick{w.cfg.Time + 10_000})
	for _, row := range []struct{ enter, want string }{
		{"a3", "[a2 b2]"}, {"b2", "[a1 a2 b1]"}, {"a2", "[a1 b1]"}, {"a1", "[b1]"}, {"b1", "[]"},
	} {
		c.Step(Block{w.blocks[row.enter]})
		if got := fmt.Sprint(missing()); got != row.want {
			t.Errorf("after %s: missing %s, want %s", row.enter, got, row.want)
		}
	}
}
