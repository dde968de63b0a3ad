package store

import (
	"bytes"
	"testing"

	"charter/forest"
	"charter/ledger"
	"charter/trie"
	"charter/types"
)

// TestPagesAgreeWithTwin applies heights with room for few pages and for all, that are written behind often and
// seldom. Every other batch is worked out twice and forgotten the first time: nothing of it may stay. At times
// the store is opened again. A snapshot of each fourth height must prove its own state to the end.
func TestPagesAgreeWithTwin(t *testing.T) {
	for _, c := range []struct {
		cache int64
		turn  int
	}{{4 << 10, 1 << 20}, {4 << 10, 100}, {1 << 20, 1000}, {1 << 20, 1 << 20}} {
		w := newWorld(11, 60)
		m, _, err := ledger.NewMemory(w.genesis)
		check(t, err)
		o := options(Memory())
		o.Chain, o.Cache, o.turn = w.chain, c.cache, c.turn
		s := openWith(t, "/peer", o)
		w.start(t, s)
		var pinned []*Snapshot
		for height := uint64(1); height <= 40; height++ {
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
				t.Fatalf("height %d, %+v: state %+v, want %+v", height, c, s.View().State(), m.State())
			}
			if height%4 == 0 {
				pinned = append(pinned, must(s.Snapshot()))
			}
			if height%20 == 0 {
				for i := range pinned { // not in order
					proves(t, pinned[i*3%len(pinned)])
				}
				pinned = nil
				check(t, s.Close())
				s = openWith(t, "/peer", o)
			}
		}
		check(t, s.Close())
	}
}

// proves wants the trees of a snapshot to prove what else it holds, and closes it.
func proves(t *testing.T, p *Snapshot) {
	t.Helper()
	trees, state := p.Trees(), p.State()
	for at := range state.Outputs {
		o := must(p.Output(at))
		path := must(forest.Prove(trees.Outputs, state.Outputs, at))
		check(t, forest.Verify(state.OutputsRoot, state.Outputs, at, types.OutputLeaf(o), path))
		log := must(p.KeyLog(o.Output.Lock))
		proof := must(trie.Prove(trees.Keys, state.KeysRoot, types.KeyPath(o.Output.Lock)))
		_, value, err := trie.Verify(state.KeysRoot, types.KeyPath(o.Output.Lock), proof)
		if want := types.KeyLeaf(types.LogState{Count: log.Size(), Root: log.Root()}); err != nil || value != want {
			t.Fatalf("lock of output %d of %d has %s in a snapshot, %v, want %s", at, state.Outputs, value, err, want)
		}
	}
	check(t, p.Close())
}

// TestTableMakesRoom reads pages through a table that has room for few: what is dirty or used stays, the rest goes.
func TestTableMakesRoom(t *testing.T) {
	tb := newOutputsTable(100 * (forest.PageBytes + holdBytes))
	id := func(i int) forest.PageID { return forest.PageID{Index: uint64(i) * 64} }
	steps := map[forest.PageID]step[forest.Page]{}
	for i := range 20 {
		steps[id(i)] = step[forest.Page]{page: new(forest.Page)}
	}
	tb.keep(1, steps, false)
	for i := 20; i < 2000; i++ {
		tb.hold(id(i), new(forest.Page))
		if _, known := tb.now(id(20)); !known {
			t.Fatalf("what is always used was dropped at %d", i)
		}
	}
	count := 0
	for _, class := range tb.held {
		count += len(class)
	}
	if count > 100 || tb.bytes != count*(forest.PageBytes+holdBytes) || tb.dirty != 20*(forest.PageBytes+holdBytes) {
		t.Errorf("%d pages are held, of %d bytes, %d dirty", count, tb.bytes, tb.dirty)
	}
	for i := range 20 {
		if _, known := tb.now(id(i)); !known {
			t.Errorf("page %d is dirty, and not held", i)
		}
	}
}

// TestRecordsAreChecked takes a record away that the trees are replayed from: the roots tell.
func TestRecordsAreChecked(t *testing.T) {
	for _, find := range []func(s *Store) []byte{
		func(s *Store) []byte { return key(stateRecord, u64(s.state.behind.first)) },
		func(s *Store) []byte { return key(stateRecord, u64(s.state.behind.next-1)) },
	} {
		w := newWorld(12, 60)
		o := options(Memory())
		o.Chain = w.chain
		s := openWith(t, "/peer", o)
		w.start(t, s)
		for height := uint64(1); height <= 6; height++ {
			w.learn(w.apply(t, s, height, w.batch(height, 40)))
		}
		k := find(s)
		if v := must(get(s.state.db, k)); v == nil {
			t.Fatalf("there is no record %x", k)
		}
		check(t, s.state.db.Delete(k, nil))
		check(t, s.Close())
		if _, err := Open("/peer", o); !IsKind(err, Damaged) {
			t.Errorf("without record %x: %v", k, err)
		}
	}
}
