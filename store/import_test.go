package store

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"charter/ledger"
	"charter/proof"
	"charter/types"
)

// grown is a store with a drawn history up to a height that has a checkpoint, and what made it.
type grown struct {
	w       *world
	s       *Store
	batches []*ledger.Batch
}

func grow(t testing.TB, seed, height uint64, n int) *grown {
	g := &grown{w: newWorld(seed, 40)}
	o := options(Memory())
	o.Chain = g.w.chain
	s, err := Open("/peer", o)
	check(t, err)
	t.Cleanup(func() { s.Close() })
	g.s = s
	g.w.start(t, s)
	for h := uint64(1); h <= height; h++ {
		g.step(t, n)
	}
	return g
}

// step applies the next height.
func (g *grown) step(t testing.TB, n int) *ledger.Batch {
	t.Helper()
	top, _ := g.s.View().Height()
	b := g.w.batch(top+1, n)
	if g.w.rng.IntN(6) == 0 {
		b = nil
	}
	if c := g.w.apply(t, g.s, top+1, b); c != nil {
		g.w.learn(c)
	}
	g.batches = append(g.batches, b)
	return b
}

func (g *grown) supply(t testing.TB) types.Amount {
	supply, err := g.w.genesis.Supply()
	check(t, err)
	return supply
}

// final is what consensus would tell a peer that joins at a checkpoint.
func (g *grown) final(t testing.TB, v *View) Final {
	t.Helper()
	top, _ := v.Height()
	f := Final{Base: binary.BigEndian.AppendUint64(nil, top), Certificate: &types.Certificate{Snapshot: types.Hash{1}}}
	for h := top - 3; h <= top; h++ {
		anchor, _, err := v.Decided(h)
		check(t, err)
		f.Anchors = append(f.Anchors, anchor)
	}
	snap, err := v.ShareSnapshot(top / snapshotEvery * snapshotEvery)
	check(t, err)
	f.Snapshots = append(f.Snapshots, snap)
	return f
}

// fetch puts all that is wanted, from one of the views each, in an order of chance within what is wanted at once.
func fetch(t testing.TB, im *Import, rng *rand.Rand, from ...*View) (chunks int, size int) {
	t.Helper()
	for {
		var refs []proof.ChunkRef
		for r := range im.Wanted() {
			if refs = append(refs, r); len(refs) == 20 {
				break
			}
		}
		if len(refs) == 0 {
			return chunks, size
		}
		rng.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
		for _, r := range refs {
			data, err := from[rng.IntN(len(from))].Chunk(r)
			if IsKind(err, TooLarge) {
				check(t, im.Split(r, err.(*Error).Depth))
				continue
			}
			check(t, err)
			check(t, im.Put(r, data))
			chunks, size = chunks+1, size+len(data)
		}
	}
}

// openImport begins an import of a view's checkpoint in a memory of its own.
func openImport(t testing.TB, g *grown, v *View, fs *FS) *Import {
	t.Helper()
	o := options(fs)
	o.Chain = g.w.chain
	im, err := OpenImport("/joined", o)
	check(t, err)
	top, _ := v.Height()
	cp, err := v.Checkpoint(top)
	check(t, err)
	_, err = im.Begin(cp.Checkpoint, g.supply(t))
	check(t, err)
	return im
}

func finish(t testing.TB, g *grown, v *View, im *Import) *Store {
	t.Helper()
	check(t, im.Finish(g.final(t, v)))
	check(t, im.Close())
	s, err := Open("/joined", im.s.opts.plain())
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func (o Options) plain() Options {
	o.importing = false
	return o
}

// spaces is all that a state holds in the spaces that do not depend on its history.
func spaces(t testing.TB, s *Store) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, space := range []byte{stateEvent, stateEventOf, stateOutput, stateKeyEvent, stateKeyLog, stateKeyRange, statePeer, stateName,
		stateStory, stateNameEvent, stateNamePath, statePeerPath, stateCheckpoint, stateHistory} {
		for e, err := range scan(s.state.db, []byte{space}, []byte{space + 1}) {
			check(t, err)
			all[string(e.key)] = string(e.value)
		}
	}
	return all
}

func sameSpaces(t testing.TB, got, want *Store) {
	t.Helper()
	a, b := spaces(t, got), spaces(t, want)
	for k, v := range b {
		if a[k] != v {
			t.Fatalf("key %c %x is %x, want %x", k[0], k[1:], a[k], v)
		}
	}
	if len(a) != len(b) {
		t.Fatalf("%d entries, want %d", len(a), len(b))
	}
	if x, y := got.View().State().Encode(), want.View().State().Encode(); !bytes.Equal(x, y) {
		t.Fatalf("state %+v\nwant %+v", got.View().State(), want.View().State())
	}
}

// TestImport fetches the state of drawn histories from two peers by turns, and lets the joined store and
// its sources go on together.
func TestImport(t *testing.T) {
	for _, row := range []struct {
		name         string
		seed, height uint64
		n            int
	}{{"small", 1, 10, 6}, {"large", 2, 40, 60}} {
		t.Run(row.name, func(t *testing.T) {
			g, twin := grow(t, row.seed, row.height, row.n), grow(t, row.seed, row.height, row.n)
			a, b := must(g.s.Snapshot()), must(twin.s.Snapshot())
			defer a.Close()
			defer b.Close()
			for range 3 { // the sources go on
				g.step(t, row.n)
				twin.step(t, row.n)
			}
			im := openImport(t, g, &a.View, Memory())
			chunks, size := fetch(t, im, g.w.rng, &a.View, &b.View)
			if st := im.Status(); !st.Whole || st.In != st.Chunks || int(st.In) < chunks || int(st.Bytes) != size {
				t.Fatalf("%d chunks of %d bytes: %+v", chunks, size, st)
			}
			s := finish(t, g, &a.View, im)
			top, _ := a.Height()
			t.Logf("%d chunks, %d bytes, %d outputs", chunks, size, a.State().Outputs)
			for h := top + 1; h <= top+3; h++ {
				g.w.apply(t, s, h, g.batches[h-1])
			}
			for range 8 {
				h, _ := g.s.View().Height()
				batch := g.step(t, row.n)
				g.w.apply(t, s, h+1, batch)
			}
			sameSpaces(t, s, g.s)
		})
	}
}
