package store

import (
	"bytes"
	"testing"

	"charter/ledger"
	"charter/types"
)

// TestCachedPagesAgreeWithTwin applies heights with a cache that holds few pages and with one that holds all.
// Every other batch is worked out twice and forgotten the first time: nothing of it may stay in
// the cache. A snapshot of each fourth height must give the leaves of its own state to the end.
func TestCachedPagesAgreeWithTwin(t *testing.T) {
	for _, cache := range []int64{4 << 10, 1 << 20} {
		w := newWorld(11, 60)
		m, _, err := ledger.NewMemory(w.genesis)
		check(t, err)
		o := options(Memory())
		o.Chain, o.Cache = w.chain, cache
		s := openWith(t, "/peer", o)
		w.start(t, s)
		var pinned []*Snapshot
		for height := uint64(1); height <= 32; height++ {
			batch := w.batch(height, 40)
			if height%2 == 0 {
				b := s.Begin()
				other := *batch
				other.Transactions = batch.Transactions[len(batch.Transactions)/2:]
				c, err := ledger.Apply(b, b.State(), &other)
				check(t, err)
				change(t, b, b.State(), c)
				check(t, b.Discard())
			}
			w.learn(w.apply(t, s, height, batch))
			m.Apply(batch)
			if height%snapshotEvery == 0 {
				m.TakeSnapshot(height)
			}
			if height%checkpointEvery == 0 {
				m.Checkpoint(height)
			}
			if !bytes.Equal(s.View().State().Encode(), m.State().Encode()) {
				t.Fatalf("height %d, cache of %d: state %+v, want %+v", height, cache, s.View().State(), m.State())
			}
			if height%4 == 0 {
				pinned = append(pinned, must(s.Snapshot()))
			}
		}
		for _, p := range pinned {
			for at := range p.State().Outputs {
				if leaf := must(p.Trees().Outputs.Node(0, at)); leaf != types.OutputLeaf(must(p.Output(at))) {
					t.Fatalf("output %d of %d has another leaf in a snapshot", at, p.State().Outputs)
				}
			}
			check(t, p.Close())
		}
	}
}

func TestPageCache(t *testing.T) {
	c := newPageCache[int](100, func(n int) int { return n })
	for i := range 100 {
		c.put(i, 10)
		c.put(i, 5)
		if _, ok := c.get(0); !ok {
			t.Fatalf("what is always used was dropped at %d", i)
		}
	}
	held := len(c.young) + len(c.old)
	for i := range 100 {
		_, young := c.young[i]
		_, old := c.old[i]
		if there := young || old; there != (i == 0 || i > 94) && (i < 70 || i > 94) {
			t.Errorf("page %d of 100: %v", i, there)
		}
	}
	if held > 24 {
		t.Errorf("%d pages of 5 in a cache of 100", held)
	}
	c.remove(99)
	if _, ok := c.get(99); ok {
		t.Error("a page that was removed is there")
	}
}
