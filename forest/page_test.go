package forest

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"charter/types"
)

// TestPagesAgreeWithNodes keeps a growing tree in nodes and in pages, and wants the same of both.
func TestPagesAgreeWithNodes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	m, pages := new(Memory), map[PageID]*Page{}
	leaf := func() (h types.Hash) {
		for i := range h {
			h[i] = byte(rng.Uint32())
		}
		return h
	}
	for size := uint64(0); size < 6000; {
		var changes []Change
		var appends []types.Hash
		for i := uint64(0); i < size; i += 1 + rng.Uint64N(size) {
			changes = append(changes, Change{i, leaf()})
		}
		for range rng.IntN(400) {
			appends = append(appends, leaf())
		}
		res, err := Update(m, size, changes, appends)
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(res.Writes)
		for _, w := range res.Writes {
			id := PageOf(w.Level, w.Index)
			if pages[id] == nil {
				pages[id] = new(Page)
			}
			pages[id].Set(w)
		}
		size = res.Size
		for id, p := range pages {
			back, err := DecodePage(p.Encode())
			if err != nil || *back != *p {
				t.Fatalf("page %v of %d nodes decodes to another: %v", id, p.count, err)
			}
		}
		seen := 0
		for level := range m.levels {
			for index, want := range m.levels[level] {
				l, i := uint8(level), uint64(index)
				if got, ok := pages[PageOf(l, i)].Node(l, i); !ok || got != want {
					t.Fatalf("node %d/%d is %s, %v, want %s", l, i, got, ok, want)
				}
				seen++
			}
			l, end := uint8(level), uint64(len(m.levels[level]))
			if p := pages[PageOf(l, end)]; p != nil {
				if _, ok := p.Node(l, end); ok {
					t.Fatalf("node %d/%d is there before its time", l, end)
				}
			}
		}
		if total := 0; true {
			for _, p := range pages {
				total += p.count + p.count>>1 + p.count>>2 + p.count>>3
			}
			if total != seen {
				t.Fatalf("%d nodes in pages, want %d", total, seen)
			}
		}
	}
}

func TestPageDecodeErrors(t *testing.T) {
	for n, kind := range map[int]types.DecodeKind{0: types.Truncated, 31: types.Truncated, 33: types.Trailing, 17 * 32: types.Trailing} {
		if _, err := DecodePage(make([]byte, n)); !types.IsDecodeKind(err, kind) {
			t.Errorf("%d bytes: %v, want %s", n, err, kind)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a page took a node behind a gap")
		}
	}()
	new(Page).Set(NodeWrite{0, 1, types.Hash{1}})
}

func FuzzDecodePage(f *testing.F) {
	f.Add(bytes.Repeat([]byte{1}, 96))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := DecodePage(data); err == nil && !bytes.Equal(p.Encode(), data) {
			t.Fatal("not canonical")
		}
	})
}
