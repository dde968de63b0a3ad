package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"charter/forest"
	"charter/ledger"
	"charter/proof"
	"charter/tlog"
	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
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
	var b *ledger.Batch
	if n > 1000 || g.w.rng.IntN(6) > 0 {
		b = g.w.batch(top+1, n)
	}
	if b != nil && len(b.Transactions) > 1000 { // a long story
		for i := range b.Transactions[:700] {
			o := &b.Transactions[i]
			o.Tx.Records = []types.Record{types.RegisterPeer{Peer: g.w.keys[4], Name: "long", Address: "h:1", Reward: g.w.keys[0]}}
			o.ID = o.Tx.ID(g.w.chain)
		}
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
	f := Final{Base: binary.BigEndian.AppendUint64(nil, top), Certificates: map[uint64]*types.Certificate{top: {Snapshot: types.Hash{1}}},
		Blocks: []Block{block(other, top-1, types.Hash{}, 0, 1), block(other, top, types.Hash{}, 0, 2)}}
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

// fetching puts all that is wanted, from one of the views each.
type fetching struct {
	*testing.T
	im            *Import
	rng           *rand.Rand
	from          []*View
	most          int       // chunks, 0: all
	each          func(int) // is called behind each chunk, or nil
	chunks, bytes int
	kinds         map[proof.ChunkKind]int
}

// all fetches in an order of chance within what is wanted at once.
func (f *fetching) all() {
	f.Helper()
	f.kinds = make(map[proof.ChunkKind]int)
	for {
		var refs []proof.ChunkRef
		for r := range f.im.Wanted() {
			if refs = append(refs, r); len(refs) == 20 {
				break
			}
		}
		if len(refs) == 0 {
			return
		}
		f.rng.Shuffle(len(refs), func(i, j int) { refs[i], refs[j] = refs[j], refs[i] })
		for _, r := range refs {
			data, err := f.from[f.rng.IntN(len(f.from))].Chunk(r)
			if IsKind(err, TooLarge) {
				check(f, f.im.Split(r, err.(*Error).Depth))
				continue
			}
			check(f, err)
			check(f, f.im.Put(r, data))
			f.kinds[r.Kind]++
			f.chunks, f.bytes = f.chunks+1, f.bytes+len(data)
			if f.each != nil {
				f.each(f.chunks)
			}
			if f.chunks == f.most {
				return
			}
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
// its sources go on together. The long one has logs, a story and a height of several chunks each.
func TestImport(t *testing.T) {
	for _, row := range []struct {
		name         string
		seed, height uint64
		n            int
		kinds        int
	}{{"small", 1, 10, 6, 6}, {"long", 3, 10, 1400, 8}} {
		t.Run(row.name, func(t *testing.T) {
			if testing.Short() && row.n > 1000 {
				t.Skip("long")
			}
			g, twin := grow(t, row.seed, row.height, row.n), grow(t, row.seed, row.height, row.n)
			a, b := must(g.s.Snapshot()), must(twin.s.Snapshot())
			defer a.Close()
			defer b.Close()
			for range 3 { // the sources go on
				g.step(t, 10)
				twin.step(t, 10)
			}
			im := openImport(t, g, &a.View, Memory())
			f := &fetching{T: t, im: im, rng: g.w.rng, from: []*View{&a.View, &b.View}}
			f.all()
			if st := im.Status(); !st.Whole || st.In != st.Chunks || int(st.In) < f.chunks || int(st.Bytes) != f.bytes {
				t.Fatalf("%d chunks of %d bytes: %+v", f.chunks, f.bytes, st)
			}
			if len(f.kinds) != row.kinds {
				t.Errorf("chunks of kinds %v", f.kinds)
			}
			s := finish(t, g, &a.View, im)
			top, _ := a.Height()
			t.Logf("%d chunks, %d bytes, %d outputs, kinds %v", f.chunks, f.bytes, a.State().Outputs, f.kinds)
			for h := top + 1; h <= top+3; h++ {
				g.w.apply(t, s, h, g.batches[h-1])
			}
			for range 7 {
				h, _ := g.s.View().Height()
				batch := g.step(t, 10)
				g.w.apply(t, s, h+1, batch)
			}
			sameSpaces(t, s, g.s)
			sameProofs(t, s.View(), g.s.View())
			below(t, s, top)
			again := must(s.Snapshot()) // and one may join from it
			defer again.Close()
			top, _ = again.Height()
			if again.State().Height != top || top%checkpointEvery != 0 {
				t.Fatal("the last height has no checkpoint")
			}
			im = openImport(t, g, &again.View, Memory())
			(&fetching{T: t, im: im, rng: g.w.rng, from: []*View{&again.View}}).all()
			sameSpaces(t, finish(t, g, &again.View, im), g.s)
		})
	}
}

// TestImportAtOnce puts chunks from several goroutines, that do not agree on who fetches what.
func TestImportAtOnce(t *testing.T) {
	g := grow(t, 11, 80, 4)
	v := must(g.s.Snapshot())
	defer v.Close()
	im := openImport(t, g, &v.View, Memory())
	var group sync.WaitGroup
	for n := range uint64(4) {
		rng := rand.New(rand.NewPCG(n, 1))
		group.Go(func() {
			for !im.Status().Whole {
				for r := range im.Wanted() {
					if r.Kind.Tree() && r.Prefix.Len < 4 {
						check(t, im.Split(r, r.Prefix.Len+1))
					} else if rng.IntN(2) == 0 {
						check(t, im.Put(r, must(v.Chunk(r))))
					}
				}
			}
		})
	}
	group.Wait()
	sameSpaces(t, finish(t, g, &v.View, im), g.s)
}

// sameProofs compares proofs of all kinds: the pages of the trees may differ.
func sameProofs(t *testing.T, got, want *View) {
	t.Helper()
	a, b, state := got.Trees(), want.Trees(), want.State()
	for at := uint64(0); at < state.Outputs; at += 1 + state.Outputs/300 {
		equal(t, "proof of an output", must(forest.Prove(a.Outputs, state.Outputs, at)), must(forest.Prove(b.Outputs, state.Outputs, at)))
		lock := must(want.Output(at)).Output.Lock
		for _, path := range []types.Hash{types.KeyPath(lock), {byte(at), 1}} { // there, and not there
			equal(t, "proof of a lock", must(trie.Prove(a.Keys, state.KeysRoot, path)), must(trie.Prove(b.Keys, state.KeysRoot, path)))
		}
	}
	for _, p := range must(want.Peers()) {
		path := types.PeerPath(p.Peer)
		equal(t, "proof of a peer", must(trie.Prove(a.Peers, state.PeersRoot, path)), must(trie.Prove(b.Peers, state.PeersRoot, path)))
		path = types.NamePath(p.Name)
		equal(t, "proof of a name", must(trie.Prove(a.Names, state.NamesRoot, path)), must(trie.Prove(b.Names, state.NamesRoot, path)))
	}
	for old := range state.History.Size() {
		equal(t, "consistency", must(tlog.ProveConsistency(got.History(), old, state.History.Size())), must(tlog.ProveConsistency(want.History(), old, state.History.Size())))
	}
}

// below asks a store for what was below the checkpoint at which it was begun.
func below(t *testing.T, s *Store, joined uint64) {
	t.Helper()
	v := s.View()
	if v.Joined() != joined {
		t.Fatalf("joined %d, want %d", v.Joined(), joined)
	}
	_, _, anchor := v.Decided(joined - 4)
	_, _, events := v.EventsOf(joined)
	_, shares := v.ShareSnapshot(1)
	for what, err := range map[string]error{"Decided": anchor, "EventsOf": events, "ShareSnapshot": shares, "NotKept": v.NotKept("block x")} {
		if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != NotKept || e.Height != joined {
			t.Errorf("%s from before it joined: %v", what, err)
		}
	}
	for _, h := range []uint64{joined - 3, joined, joined + 1} {
		if _, ok, err := v.Decided(h); !ok || err != nil {
			t.Errorf("decision of height %d: %v, %v", h, ok, err)
		}
	}
	if _, _, err := v.EventsOf(joined + 1); err != nil {
		t.Error(err)
	}
	for e, err := range v.Events(0) { // all events are there, and found by their transactions
		check(t, err)
		if got := must(v.Event(e.Transaction)); *got != *e && e.Reason != types.TooEarly {
			t.Fatalf("event %+v, want %+v", got, e)
		}
	}
}

// TestImportSplits asks for the state under longer and longer prefixes.
func TestImportSplits(t *testing.T) {
	g := grow(t, 4, 10, 20)
	im := openImport(t, g, g.s.View(), Memory())
	for n := 0; n < 20; {
		for r := range im.Wanted() {
			if r.Kind.Tree() && n%4 != 0 {
				check(t, im.Split(r, r.Prefix.Len+1))
			} else {
				check(t, im.Put(r, must(g.s.View().Chunk(r))))
			}
			if r.Kind.Tree() {
				n++
			}
			break
		}
	}
	im = reopenImport(t, im)
	f := &fetching{T: t, im: im, rng: g.w.rng, from: []*View{g.s.View()}}
	f.all()
	if f.kinds[proof.KeysChunk]+f.kinds[proof.NamesChunk] < 5 {
		t.Errorf("kinds %v", f.kinds)
	}
	sameSpaces(t, finish(t, g, g.s.View(), im), g.s)
}

func reopenImport(t testing.TB, im *Import) *Import {
	t.Helper()
	check(t, im.Close())
	im, err := OpenImport(im.s.dir, im.s.opts)
	check(t, err)
	return im
}

// TestImportRefuses gives an import chunks that are spoiled, of another checkpoint, or others than they are said to be, in
// between of the right ones: all are refused, and nothing of them becomes state.
func TestImportRefuses(t *testing.T) {
	g, other := grow(t, 5, 10, 30), grow(t, 6, 10, 30)
	im := openImport(t, g, g.s.View(), Memory())
	v, rng := g.s.View(), rand.New(rand.NewPCG(1, 2))
	var last []byte
	refused := 0
	for {
		var refs []proof.ChunkRef
		for r := range im.Wanted() {
			refs = append(refs, r)
		}
		if len(refs) == 0 {
			break
		}
		r := refs[rng.IntN(len(refs))]
		if r.Kind.Tree() && r.Prefix.Len < 3 {
			check(t, im.Split(r, 3))
			continue
		}
		data := must(v.Chunk(r))
		flipped := bytes.Clone(data)
		flipped[rng.IntN(len(data))] ^= 1 << rng.IntN(8)
		before := fmt.Sprint(im.s.View().State(), im.Status())
		for what, bad := range map[string][]byte{
			"spoiled": flipped, "cut off": data[:rng.IntN(len(data))], "another": last, "longer": append(bytes.Clone(data), 0),
			"of another chain": otherChunk(other, r),
		} {
			if bad == nil {
				continue
			}
			var e *proof.Error
			if err := im.Put(r, bad); !errors.As(err, &e) {
				t.Fatalf("%s %s is taken: %v", what, r, err)
			}
			refused++
		}
		if before != fmt.Sprint(im.s.View().State(), im.Status()) || !slices.Contains(slices.Collect(im.Wanted()), r) {
			t.Fatal("what was refused became state")
		}
		check(t, im.Put(r, data))
		check(t, im.Put(r, nil)) // it is there: nobody looks at another
		last = data
	}
	if refused < 60 {
		t.Errorf("%d refused", refused)
	}
	final := g.final(t, v)
	for what, spoil := range map[string]func(f *Final){
		"no snapshot":      func(f *Final) { f.Snapshots = nil },
		"another snapshot": func(f *Final) { f.Snapshots = []*types.Snapshot{g.w.genesis.Snapshot()} },
		"no anchor":        func(f *Final) { f.Anchors = nil },
		"another anchor":   func(f *Final) { f.Anchors = []types.Hash{{7}} },
	} {
		f := final
		spoil(&f)
		if err := im.Finish(f); !IsKind(err, Unfit) {
			t.Errorf("%s: %v", what, err)
		}
	}
	sameSpaces(t, finish(t, g, v, im), g.s)
}

func otherChunk(g *grown, r proof.ChunkRef) []byte {
	data, err := g.s.View().Chunk(r)
	if err != nil {
		return nil
	}
	return data
}

// TestImportDirectory opens directories for an import that are not, the other way round, and for another one.
func TestImportDirectory(t *testing.T) {
	g := grow(t, 7, 10, 8)
	early := must(g.s.Snapshot())
	defer early.Close()
	for range 4 {
		g.step(t, 8)
	}
	fs := Memory()
	im := openImport(t, g, &early.View, fs)
	half := &fetching{T: t, im: im, rng: g.w.rng, from: []*View{&early.View}, most: 2}
	half.all()
	if err := im.Finish(g.final(t, &early.View)); !IsKind(err, Importing) {
		t.Errorf("finish of a half: %v", err)
	}
	check(t, im.Close())
	if _, err := Open("/joined", im.s.opts.plain()); !IsKind(err, Importing) {
		t.Errorf("open of an import: %v", err)
	}
	im = must(OpenImport("/joined", im.s.opts))
	cp := must(early.Checkpoint(10)).Checkpoint
	if im.Target() == nil || im.Target().ID() != cp.ID() {
		t.Fatal("another target")
	}
	in := im.Status().In
	if over, err := im.Begin(cp, g.supply(t)); over || err != nil || im.Status().In != in {
		t.Fatal(over, err)
	}
	top := must(g.s.View().Checkpoint(14)).Checkpoint
	if over, err := im.Begin(top, g.supply(t)); !over || err != nil || im.Status().In != 0 || im.Target().ID() != top.ID() {
		t.Fatal(over, err)
	}
	f := &fetching{T: t, im: im, rng: g.w.rng, from: []*View{g.s.View()}}
	f.all()
	s := finish(t, g, g.s.View(), im)
	sameSpaces(t, s, g.s)
	check(t, s.Close())
	if _, err := OpenImport("/joined", im.s.opts); !IsKind(err, HasState) {
		t.Errorf("import into a store: %v", err)
	}
	gone := fs.Crash(100, g.w.rng)
	check(t, gone.vfs.RemoveAll("/joined/state"))
	o := im.s.opts.plain()
	o.FS = gone
	if _, err := Open("/joined", o); !IsKind(err, Importing) {
		t.Errorf("a store that joined and lost its state: %v", err)
	}
	again := must(OpenImport("/joined", o))
	check(t, again.Close())

	im = must(OpenImport("/fresh", im.s.opts))
	defer im.Close()
	other := *top
	other.Chain[3] ^= 1
	if _, err := im.Begin(&other, 1); !IsKind(err, WrongChain) {
		t.Error(err)
	}
	if _, err := im.Begin(must(g.s.View().Checkpoint(0)).Checkpoint, 1); !IsKind(err, Unfit) {
		t.Error(err)
	}
	if err := im.Finish(Final{}); !IsKind(err, Importing) || len(slices.Collect(im.Wanted())) > 0 || im.Put(proof.ChunkRef{}, nil) != nil {
		t.Errorf("an import that has not begun: %v", err)
	}
	if _, err := im.Begin(top, g.supply(t)+1); err != nil {
		t.Fatal(err)
	}
	(&fetching{T: t, im: im, rng: g.w.rng, from: []*View{g.s.View()}}).all()
	if err := im.Finish(g.final(t, g.s.View())); !IsKind(err, Unfit) {
		t.Errorf("another supply: %v", err)
	}
}

// TestTooLarge asks for all keys at once, and for those under prefixes of the length that is said to be right.
func TestTooLarge(t *testing.T) {
	g := grow(t, 3, 8, 1400)
	_, err := g.s.View().Chunk(proof.ChunkRef{Kind: proof.KeysChunk})
	if !IsKind(err, TooLarge) {
		t.Fatal(err)
	}
	depth := err.(*Error).Depth
	locks, most := 0, 0
	for n := range uint64(1) << depth {
		data := must(g.s.View().Chunk(nthPrefix(proof.KeysChunk, depth, n)))
		most = max(most, len(data))
		locks += len(must(proof.DecodeChunk(data)).Keys)
	}
	all := 0
	for range scan(g.s.state.db, []byte{stateKeyLog}, []byte{stateKeyLog + 1}) {
		all++
	}
	if locks != all || most < proof.FullChunk/8 {
		t.Errorf("%d locks of %d under prefixes of %d bits, %d bytes at most", locks, all, depth, most)
	}
}

// TestNoChunk asks for chunks that are not in the state.
func TestNoChunk(t *testing.T) {
	g := grow(t, 8, 10, 8)
	for _, r := range []proof.ChunkRef{
		{}, {Kind: 99}, {Kind: proof.HistoryChunk, First: 32}, {Kind: proof.KeyLogChunk, Lock: types.Key{9}}, {Kind: proof.KeyLogChunk, Lock: g.w.keys[5], First: 512},
		{Kind: proof.StoryChunk, Name: "zz"}, {Kind: proof.StoryChunk, Name: "a", First: 512}, {Kind: proof.EventsChunk, Checkpoint: 6}, {Kind: proof.EventsChunk, Checkpoint: 5, First: 1024},
	} {
		if _, err := g.s.View().Chunk(r); !IsKind(err, NoChunk) {
			t.Errorf("%s: %v", r, err)
		}
	}
	g.step(t, 8) // height 11 has no checkpoint
	if _, err := g.s.View().Chunk(proof.ChunkRef{Kind: proof.PeersChunk}); !IsKind(err, NoChunk) {
		t.Error(err)
	}
}

// TestImportCrash crashes at writes and syncs all over an import, its beginning included, and goes on from each. (Not when it
// is opened again: the engine trusts a directory to keep the order of its entries then, and this memory does not.)
func TestImportCrash(t *testing.T) {
	g := grow(t, 9, 10, 10)
	mem, rng := newMemory(t), rand.New(rand.NewPCG(9, 9))
	every := int64(3)
	if testing.Short() {
		every = 17
	}
	var points atomic.Int64
	var over atomic.Bool
	var mu sync.Mutex
	var crashes []*vfs.MemFS
	point := func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && !over.Load() && points.Add(1)%every == 0 {
			mu.Lock()
			defer mu.Unlock()
			crashes = append(crashes, mem.MemFS.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng}))
		}
		return nil
	}
	opts := Options{Chain: g.w.chain, Peer: self, FS: &FS{errorfs.Wrap(mem, errorfs.InjectorFunc(point))}, Cache: 1 << 20, memtable: 64 << 10, turn: 64}
	cp := must(g.s.View().Checkpoint(10)).Checkpoint
	// join goes on from where it is, with a sync every few chunks, to the end.
	join := func(opts Options) *Store {
		im, err := OpenImport("/d/peer", opts)
		if IsKind(err, HasState) {
			return must(Open("/d/peer", opts))
		}
		check(t, err)
		if dropped, err := im.Begin(cp, g.supply(t)); dropped || err != nil {
			t.Fatal(dropped, err)
		}
		for r := range im.Wanted() {
			if r.Kind == proof.KeysChunk && r.Prefix.Len < 2 {
				check(t, im.Split(r, r.Prefix.Len+1))
			}
		}
		(&fetching{T: t, im: im, rng: g.w.rng, from: []*View{g.s.View()}, each: func(n int) {
			if n%3 == 0 {
				im.mu.Lock()
				defer im.mu.Unlock()
				check(t, im.sync(0))
			}
		}}).all()
		check(t, im.Finish(g.final(t, g.s.View())))
		over.Store(true)
		check(t, im.Close())
		return must(Open("/d/peer", opts))
	}
	s := join(opts)
	sameSpaces(t, s, g.s)
	check(t, s.Close())
	mu.Lock()
	defer mu.Unlock()
	if len(crashes) < 8 {
		t.Errorf("only %d crashes", len(crashes))
	}
	for _, disk := range crashes {
		opts.FS = &FS{disk}
		s := join(opts)
		sameSpaces(t, s, g.s)
		check(t, s.Close())
	}
	t.Logf("%d crashes", len(crashes))
}

// BenchmarkImport fetches the state of 40,000 payments of one input and two outputs, each under one of few locks or a lock of
// its own, from a store on the disk into another. An op is a chunk.
func BenchmarkImport(b *testing.B) {
	const heights, n = 40, 1000
	w := newWorld(1, 4000)
	dir := b.TempDir()
	batches := payments(b, w, heights, n)
	from := benchStore(b, w, filepath.Join(dir, "from"), DefaultCache)
	w.start(b, from)
	for h, batch := range batches {
		w.apply(b, from, uint64(h+1), batch)
	}
	g := &grown{w: w, s: from}
	v := from.View()
	var make, put, finish time.Duration
	bytes, events, chunks, runs := 0, 0, 0, 0
	for b.Loop() {
		to := filepath.Join(dir, fmt.Sprint("to", runs))
		runs++
		im, err := OpenImport(to, Options{Chain: w.chain, Cache: DefaultCache})
		check(b, err)
		_, err = im.Begin(must(v.Checkpoint(heights)).Checkpoint, g.supply(b))
		check(b, err)
		for more := true; more; {
			more = false
			for r := range im.Wanted() {
				more = true
				at := cpu()
				data := must(v.Chunk(r))
				made := cpu()
				check(b, im.Put(r, data))
				make, put = make+made-at, put+cpu()-made
				bytes, chunks = bytes+len(data), chunks+1
				if r.Kind == proof.HistoryChunk || r.Kind == proof.EventsChunk {
					events += len(data)
				}
			}
		}
		at := cpu()
		check(b, im.Finish(g.final(b, v)))
		finish += cpu() - at
		_, disk := im.s.DiskBytes()
		b.ReportMetric(float64(disk)/float64(v.State().Outputs), "disk-B/output")
		check(b, im.Close())
	}
	outputs := float64(v.State().Outputs) * float64(runs)
	b.ReportMetric(float64(bytes)/outputs, "B/output")
	b.ReportMetric(float64(events)/outputs, "events-B/output")
	b.ReportMetric(outputs/float64(runs), "outputs")
	b.ReportMetric(float64(bytes)/float64(chunks), "B/chunk")
	b.ReportMetric(float64(make.Microseconds())/outputs, "make-cpu-µs/output")
	b.ReportMetric(float64(put.Microseconds())/outputs, "put-cpu-µs/output")
	b.ReportMetric(float64(finish.Microseconds())/outputs, "finish-cpu-µs/output")
}
