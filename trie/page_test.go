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
	if len(res.Writes) > 0 {
		t.Fatal("nodes written to a trie in pages")
	}
	for _, id := range res.Deletes {
		if s.pages[id] == nil {
			t.Fatalf("page %s deleted that is not there", id)
		}
		delete(s.pages, id)
	}
	written := map[NodeID]bool{}
	for _, w := range res.Pages {
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

// holds wants the pages to hold exactly these nodes, each once.
func (s *shelf) holds(t testing.TB, nodes map[NodeID]Node) {
	t.Helper()
	found := map[NodeID]Node{}
	var at func(slot NodeID, p *Page, i int)
	at = func(slot NodeID, p *Page, i int) {
		n := p.node(i)
		found[slot] = n
		if n.Leaf() {
			return
		}
		for side := range byte(2) {
			if child := n.Prefix.child(side); p.nodes[i].far[side] {
				at(child, must(s.Page(child)), 0)
			} else {
				at(child, p, p.child(i, side))
			}
		}
	}
	s.reads = map[NodeID]int{}
	if len(s.pages) > 0 {
		at(NodeID{}, must(s.Page(NodeID{})), 0)
	}
	if len(s.reads) != len(s.pages) {
		t.Fatalf("%d pages, of which %d can be reached", len(s.pages), len(s.reads))
	}
	if !reflect.DeepEqual(found, nodes) && len(nodes) > 0 {
		t.Fatalf("the pages hold %d nodes, want %d", len(found), len(nodes))
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
		for _, id := range res.Deletes {
			delete(s.pages, id)
		}
		for _, w := range res.Pages {
			s.pages[w.ID] = w.Page.Encode(w.ID)
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
	far := bytes.Repeat([]byte{1}, 32)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	deep := []byte{}
	for i := range byte(MaxPage) { // a chain of inner nodes, each with a far child
		bits := 9 + i
		deep = append(deep, pageInner+1, bits)
		deep = append(deep, bytes.Repeat([]byte{0xff}, int(bits+7)/8-1)...)
		deep[len(deep)-1] &= 0xff << ((8 - bits%8) % 8)
		deep = append(deep, far...)
	}
	good := join([]byte{pageInner, 10, 0x80}, leaf(0x80, 1), leaf(0xa0, 1))
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
		{"kind of a stored inner node", join([]byte{kindInner}, good[1:]), types.Unknown},
		{"kind 8", join([]byte{8}, good[1:]), types.Unknown},
		{"too short a prefix", join([]byte{pageInner, 8}, good[3:]), types.NotCanonical},
		{"far too short a prefix", join([]byte{pageInner, 0}, good[3:]), types.NotCanonical},
		{"bits behind the prefix", join([]byte{pageInner, 10, 0x81}, good[3:]), types.NotCanonical},
		{"another slot's prefix", join([]byte{pageInner, 10, 0x40}, good[3:]), types.NotCanonical},
		{"another slot's leaf", leaf(0x40, 1), types.NotCanonical},
		{"right child on the left", join(good[:3], leaf(0xa0, 1), leaf(0xa0, 1)), types.NotCanonical},
		{"left child on the right", join(good[:3], leaf(0x80, 1), leaf(0x80, 1)), types.NotCanonical},
		{"no value", leaf(0x80, 0), types.NotCanonical},
		{"no far child", join([]byte{pageInner + 3, 10, 0x80}, make([]byte, 64)), types.NotCanonical},
		{"more", append(bytes.Clone(good), 0), types.Trailing},
		{"too many nodes", deep, types.TooLong},
	} {
		if _, err := DecodePage(slot, c.data); !types.IsDecodeKind(err, c.kind) {
			t.Errorf("%s: %v, want %s", c.what, err, c.kind)
		}
	}
	for i := range good {
		if _, err := DecodePage(slot, good[:i]); !types.IsDecodeKind(err, types.Truncated) && i != 0 {
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
	s, root := paged(1_000_000)
	cache := pageCache{}
	for slot, data := range s.pages {
		cache[slot] = must(DecodePage(slot, data))
	}
	next := uint64(1_000_000)
	for b.Loop() {
		b.StopTimer()
		var changes []Change
		seen := map[uint64]bool{}
		for len(changes) < 10_000 {
			if i := rand.Uint64N(1_000_000); !seen[i] {
				seen[i] = true
				changes = append(changes, Change{hashOf(i), hashOf(next)})
			}
		}
		for len(changes) < 20_000 {
			next++
			changes = append(changes, Change{hashOf(next), hashOf(1)})
		}
		b.StartTimer()
		res := must(Update(cache, root, changes))
		root = res.Root
		for _, id := range res.Deletes {
			delete(cache, id)
		}
		for _, w := range res.Pages {
			cache[w.ID] = w.Page
		}
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
