package trie

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"charter/types"
)

// shelf is a trie stored in pages, and counts what is read of it.
type shelf struct {
	pages map[NodeID][]byte
	reads map[NodeID]int
}

func (s *shelf) Page(slot NodeID) (*Page, error) {
	data, ok := s.pages[slot]
	if !ok {
		return nil, fmt.Errorf("no page in slot %s", slot)
	}
	s.reads[slot]++
	return DecodePage(slot, data)
}

func (s *shelf) Node(slot NodeID) (Node, error) {
	n, ok, err := PageNode(s, slot)
	if err == nil && !ok {
		err = fmt.Errorf("no node in slot %s", slot)
	}
	return n, err
}

func (s *shelf) apply(t testing.TB, res Result) {
	t.Helper()
	if len(res.Writes)+len(res.Deletes) > 0 {
		t.Fatal("nodes written to a trie in pages")
	}
	written := map[NodeID]bool{}
	for _, w := range res.Pages {
		if was := s.pages[w.ID]; (was != nil) != (w.Was != nil) || was != nil && !bytes.Equal(was, w.Was.Encode(w.ID)) {
			t.Fatalf("page %s was %x, and is said to be %+v", w.ID, was, w.Was)
		}
		if w.Page == nil {
			if written[w.ID] || w.Was == nil {
				t.Fatalf("page %s goes away, and was %+v", w.ID, w.Was)
			}
			written[w.ID] = true
			delete(s.pages, w.ID)
			continue
		}
		data := w.Page.Encode(w.ID)
		if written[w.ID] || bytes.Equal(data, s.pages[w.ID]) {
			t.Fatalf("page %s is written twice, or as it is", w.ID)
		}
		written[w.ID], s.pages[w.ID] = true, data
		if back := must(DecodePage(w.ID, data)); !reflect.DeepEqual(back, w.Page) {
			t.Fatalf("page %s is %+v, decoded %+v", w.ID, w.Page, back)
		}
	}
}

// holds wants the pages to hold exactly these nodes, each once, and the grid to follow from the shards.
func (s *shelf) holds(t testing.TB, nodes map[NodeID]Node) {
	t.Helper()
	found := map[NodeID]Node{}
	var at func(slot NodeID, row []entry) types.Hash
	at = func(slot NodeID, row []entry) types.Hash {
		var n Node
		switch {
		case len(row) > 1:
			i := split(row)
			n.Prefix = beginning(row[i].path, row[i].meet)
			n.Left, n.Right = at(n.Prefix.child(0), row[:i+1]), at(n.Prefix.child(1), row[i+1:])
		case row[0].leaf():
			n = Node{Prefix: row[0].page(), Value: row[0].value}
		default:
			return at(slot, must(s.Page(row[0].page())).entries)
		}
		found[slot] = n
		return n.Hash()
	}
	s.reads = map[NodeID]int{}
	if len(s.pages) > 0 {
		at(NodeID{}, must(s.Page(NodeID{})).entries)
	}
	if len(s.reads) != len(s.pages) {
		t.Fatalf("%d pages, of which %d can be reached", len(s.pages), len(s.reads))
	}
	if !reflect.DeepEqual(found, nodes) && len(nodes) > 0 {
		t.Fatalf("the pages hold %d nodes, want %d", len(found), len(nodes))
	}
	var shards [Shards]*Page
	grid := 0
	for slot, data := range s.pages {
		if n, ok := slot.Shard(); !ok {
			grid++
		} else if slot.Len == shardBits {
			shards[n] = must(DecodePage(slot, data))
		}
	}
	_, again := Grid(&shards)
	for _, w := range again {
		if !bytes.Equal(w.Page.Encode(w.ID), s.pages[w.ID]) {
			t.Fatalf("page %s of the grid is another than follows from the shards", w.ID)
		}
	}
	if len(again) != grid {
		t.Fatalf("the grid has %d pages, of the shards follow %d", grid, len(again))
	}
	for slot, want := range nodes {
		if n, err := s.Node(slot); err != nil || n != want {
			t.Fatalf("node %s is %+v, %v, want %+v", slot, n, err, want)
		}
	}
}

// TestPagesAgreeWithNodes runs random batches on a trie in nodes and on one in pages: both have the
// same nodes, roots, proofs and values.
func TestPagesAgreeWithNodes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m, s, root := new(Memory), &shelf{pages: map[NodeID][]byte{}}, types.Hash{}
		seed := rapid.Uint64().Draw(rt, "seed")
		rng := rand.New(rand.NewPCG(seed, 1))
		path := crowded
		if seed%2 == 0 {
			path = func(i int) Path { return hashOf(uint64(i)) }
		}
		many, removals := 1<<rng.IntN(10), 1+rng.IntN(4)
		for range 5 {
			var changes []Change
			for _, i := range rng.Perm(many)[:rng.IntN(many+1)] {
				c := Change{Path: path(i)}
				if rng.IntN(4) >= removals%4 {
					c.Value = hashOf(uint64(rng.IntN(3)))
				}
				changes = append(changes, c)
			}
			want, err := Update(m, root, changes)
			if err != nil {
				rt.Fatal(err)
			}
			s.reads = map[NodeID]int{}
			got, err := Update(s, root, changes)
			if err != nil || got.Root != want.Root {
				rt.Fatalf("root %s, %v, want %s", got.Root, err, want.Root)
			}
			for slot, n := range s.reads {
				if n > 1 {
					rt.Fatalf("page %s read %d times", slot, n)
				}
			}
			m.Apply(want)
			s.apply(t, got)
			s.holds(t, m.nodes)
			root = want.Root
			for i := range min(many, 20) {
				want, got := must(Prove(m, root, path(i))), must(Prove(s, root, path(i)))
				if !reflect.DeepEqual(got, want) {
					rt.Fatalf("proof of %d is %+v, want %+v", i, got, want)
				}
			}
		}
	})
}

// paged is a trie of n paths in pages, grown by a tenth at a time.
func paged(n int) (*shelf, types.Hash) {
	s, root := &shelf{pages: map[NodeID][]byte{}, reads: map[NodeID]int{}}, types.Hash{}
	for at := 0; at < n; {
		var changes []Change
		for end := min(n, at+at/10+10); at < end; at++ {
			changes = append(changes, Change{hashOf(uint64(at)), hashOf(1)})
		}
		res := must(Update(s, root, changes))
		for _, w := range res.Pages {
			if delete(s.pages, w.ID); w.Page != nil {
				s.pages[w.ID] = w.Page.Encode(w.ID)
			}
		}
		root = res.Root
	}
	return s, root
}

// TestPagesAreFilled wants a trie that has grown to have few pages, few of them on any way, and
// little to store besides paths and values.
func TestPagesAreFilled(t *testing.T) {
	const n = 20_000
	s, root := paged(n)
	bytes := 0
	for _, data := range s.pages {
		bytes += len(data)
	}
	if len(s.pages) > n/8 || bytes > 75*n {
		t.Errorf("%d pages, %d bytes", len(s.pages), bytes)
	}
	for i := range uint64(100) {
		s.reads = map[NodeID]int{}
		if _, ok, err := Get(s, root, hashOf(i)); !ok || err != nil || len(s.reads) > 6 {
			t.Fatalf("%v, %v, %d pages read", ok, err, len(s.reads))
		}
	}
}

func TestPageErrors(t *testing.T) {
	s, root := paged(300)
	change := []Change{{hashOf(7), hashOf(8)}}
	if _, err := Update(s, hashOf(9), change); !IsKind(err, BadNode) {
		t.Errorf("another root: %v", err)
	}
	if _, err := Update(s, root, append(change, change...)); !IsKind(err, RepeatedPath) {
		t.Errorf("path named twice: %v", err)
	}
	var way NodeID // the lowest page above the path
	s.reads = map[NodeID]int{}
	must(Prove(s, root, hashOf(7)))
	for slot := range s.reads {
		if slot.Len > way.Len {
			way = slot
		}
	}
	whole := s.pages[way]
	for what, data := range map[string][]byte{"value": append(bytes.Clone(whole[:len(whole)-1]), whole[len(whole)-1]^1), "missing": nil} {
		if s.pages[way] = data; data == nil {
			delete(s.pages, way)
		}
		_, updated := Update(s, root, change)
		_, proved := Prove(s, root, hashOf(7))
		for _, err := range []error{updated, proved} {
			if err == nil || IsKind(err, BadNode) != (data != nil) {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

func TestDecodePageErrors(t *testing.T) {
	slot := NodeID{Len: 9, Bits: Path{0xaa, 0x80}}
	leaf := func(second byte, value byte) []byte {
		return append(append([]byte{kindLeaf, second}, make([]byte, 30)...), append(make([]byte, 31), value)...)
	}
	hash := bytes.Repeat([]byte{1}, 32)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	stub := func(bits byte, rest ...byte) []byte { return join([]byte{kindStub, bits}, rest, hash) }
	var many []byte
	for i := range byte(MaxPage + 1) {
		many = append(many, leaf(0x80+i, 1)...)
	}
	good := join(leaf(0x80, 1), leaf(0xa0, 1), stub(12, 0xc0), stub(17, 0xff, 0x80))
	if p, err := DecodePage(slot, good); err != nil || !bytes.Equal(p.Encode(slot), good) {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		data []byte
		kind types.DecodeKind
	}{
		{"nothing", nil, types.Truncated},
		{"kind 0", join([]byte{0}, leaf(0x80, 1)[1:]), types.Unknown},
		{"kind 3", join([]byte{3}, leaf(0x80, 1)[1:]), types.Unknown},
		{"stub of the page's own slot", stub(9, 0x80), types.NotCanonical},
		{"stub far above", stub(0), types.NotCanonical},
		{"bits behind the stub's slot", stub(10, 0x81), types.NotCanonical},
		{"another slot's stub", stub(10, 0x40), types.NotCanonical},
		{"another slot's leaf", leaf(0x40, 1), types.NotCanonical},
		{"leaves from right to left", join(leaf(0xa0, 1), leaf(0x80, 1)), types.NotCanonical},
		{"leaf twice", join(leaf(0xa0, 1), leaf(0xa0, 1)), types.NotCanonical},
		{"leaf below a stub", join(stub(12, 0xc0), leaf(0xc1, 1)), types.NotCanonical},
		{"stub that holds a leaf before it", join(leaf(0xc1, 1), stub(12, 0xc0)), types.NotCanonical},
		{"no value", leaf(0x80, 0), types.NotCanonical},
		{"no hash", join([]byte{kindStub, 12, 0xc0}, make([]byte, 32)), types.NotCanonical},
		{"more", append(bytes.Clone(good), 0), types.Unknown},
		{"too many", many, types.TooLong},
	} {
		if _, err := DecodePage(slot, c.data); !types.IsDecodeKind(err, c.kind) {
			t.Errorf("%s: %v, want %s", c.what, err, c.kind)
		}
	}
	for i := range good {
		whole := i == 64 || i == 128 || i == 163 // ends of entries
		if _, err := DecodePage(slot, good[:i]); whole != (err == nil) || err != nil && !types.IsDecodeKind(err, types.Truncated) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}

func FuzzDecodePage(f *testing.F) {
	s, _ := paged(100)
	for slot, data := range s.pages {
		f.Add(slot.Encode(), data)
	}
	f.Fuzz(func(t *testing.T, key, data []byte) {
		slot, err := DecodeNodeID(key)
		if err != nil {
			return
		}
		p, err := DecodePage(slot, data)
		if err == nil && !bytes.Equal(p.Encode(slot), data) {
			t.Fatal("not canonical")
		}
	})
}

// BenchmarkUpdatePages is a batch of 10,000 new values and 10,000 new paths on 1,000,000, in memory.
func BenchmarkUpdatePages(b *testing.B) {
	cache, root, next := pageCache{}, types.Hash{}, uint64(0)
	write := func(updates, inserts int) {
		var changes []Change
		seen := map[uint64]bool{}
		for len(changes) < updates {
			if i := rand.Uint64N(next); !seen[i] {
				seen[i] = true
				changes = append(changes, Change{hashOf(i), hashOf(rand.Uint64())})
			}
		}
		for range inserts {
			changes = append(changes, Change{hashOf(next), hashOf(1)})
			next++
		}
		b.StartTimer()
		res := must(Update(cache, root, changes))
		root = res.Root
		for _, w := range res.Pages {
			if cache[w.ID] = w.Page; w.Page == nil {
				delete(cache, w.ID)
			}
		}
	}
	for next < 1_000_000 {
		write(0, 50_000)
	}
	for b.Loop() {
		b.StopTimer()
		write(10_000, 10_000)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/20_000, "ns/operation")
}

type pageCache map[NodeID]*Page

func (c pageCache) Page(slot NodeID) (*Page, error) { return c[slot], nil }
func (c pageCache) Node(slot NodeID) (Node, error)  { panic("not asked for") }

// must is the value of a call that does not fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
