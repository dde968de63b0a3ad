package store

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"charter/forest"
	"charter/ledger"
	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// life is what a store was told, and what of it was acknowledged. It is what a crash is held
// against. At most one call is under way at a time, so what is found may be one ahead.
type life struct {
	rng   *rand.Rand
	w     *world
	dir   string
	store *Store

	mu      sync.Mutex // the fields below, which a crash point reads
	blocks  []Block    // in the order in which they were put
	durable int        // so many of them are acknowledged as durable
	signed  []Signed   // the record after each signature, from none
	sent    int        // how many of them are acknowledged
	pool    []types.Hash
	waiting int                // how many of pool are acknowledged
	dropped map[types.Hash]int // at which step
	states  [][]byte           // after each height, encoded
	needs   []int              // how many blocks there were when each height was applied
	batches []*ledger.Batch    // by height; nil for genesis
}

func newLife(seed uint64) *life {
	l := &life{rng: rand.New(rand.NewPCG(seed, 2)), w: newWorld(seed, 30), dir: "/d/peer"}
	l.signed = append(l.signed, Signed{})
	l.dropped = make(map[types.Hash]int)
	return l
}

func (l *life) options(fs vfs.FS) Options {
	return Options{Chain: l.w.chain, Peer: self, FS: &FS{fs}, Cache: 1 << 20, memtable: 64 << 10, turn: 300}
}

func (l *life) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// step does something at random. It gives the store's error.
func (l *life) step(t testing.TB) error {
	switch n := l.rng.IntN(10); {
	case n < 3:
		return l.putBlocks()
	case n < 5:
		return l.sign()
	case n < 6:
		return l.submit()
	case n < 7 && len(l.pool) > 0:
		id := l.pool[l.rng.IntN(len(l.pool))]
		l.set(func() { l.dropped[id] = 1 })
		return l.store.DropPool(id)
	default:
		return l.apply(t)
	}
}

func (l *life) putBlocks() error {
	var fresh []Block
	for range 1 + l.rng.IntN(4) {
		fresh = append(fresh, block(other, uint64(len(l.states)+1), types.Hash{}, 0, len(l.blocks)+len(fresh)))
	}
	durable := l.rng.IntN(2) == 0
	l.set(func() { l.blocks = append(l.blocks, fresh...) })
	err := l.store.PutBlocks(fresh, durable)
	if err == nil && durable {
		l.set(func() { l.durable = len(l.blocks) })
	}
	return err
}

func (l *life) sign() error {
	r := l.signed[len(l.signed)-1]
	r.Count++
	if l.rng.IntN(3) == 0 {
		r.VoteHeight++
		r.Vote = checkpointAt(r.VoteHeight)
		l.set(func() { l.signed = append(l.signed, r) })
		if err := l.store.PutVote(r.VoteHeight, r.Vote); err != nil {
			return err
		}
		l.set(func() { l.sent = len(l.signed) - 1 })
		return nil
	}
	b := block(self, r.Height+1+uint64(l.rng.IntN(3)), r.Block, r.VoteHeight+1, len(l.blocks))
	head := headOf(&b)
	r.Height, r.Block, r.VoteHeight, r.Vote = head.Height, b.ID, head.Checkpoint.Height, head.Checkpoint.Checkpoint
	l.set(func() { l.blocks, l.signed = append(l.blocks, b), append(l.signed, r) })
	if err := l.store.PutOwn(b); err != nil {
		return err
	}
	l.set(func() { l.durable, l.sent = len(l.blocks), len(l.signed)-1 })
	return nil
}

func (l *life) submit() error {
	id := types.Hash{byte(len(l.pool)), byte(len(l.pool) >> 8), 1}
	l.set(func() { l.pool = append(l.pool, id) })
	err := l.store.PutPool(Waiting{id, bytes.Repeat(id[:3], 50)})
	if err == nil {
		l.set(func() { l.waiting = len(l.pool) })
	}
	return err
}

// apply applies the next height, genesis first.
func (l *life) apply(t testing.TB) (err error) {
	height := uint64(len(l.states))
	var b *ledger.Batch
	if height > 0 {
		b = l.w.batch(height, 10)
	}
	b, state, err := l.applyTo(t, l.store, height, b)
	if err != nil {
		return err
	}
	l.set(func() {
		l.states, l.batches, l.needs = append(l.states, state), append(l.batches, b), append(l.needs, len(l.blocks))
		l.durable = len(l.blocks) // what a state is made of is durable
	})
	return nil
}

// applyTo applies a height to a store, and gives an error of the store's where world.apply
// ends the test.
func (l *life) applyTo(t testing.TB, s *Store, height uint64, b *ledger.Batch) (_ *ledger.Batch, state []byte, err error) {
	try := &tryTB{TB: t}
	defer func() {
		if r := recover(); r != nil {
			if try.err == nil {
				panic(r)
			}
			err = try.err
		}
	}()
	if height == 0 {
		l.w.start(try, s)
	} else if c := l.w.apply(try, s, height, b); s == l.store {
		l.w.learn(c)
	}
	return b, s.View().State().Encode(), nil
}

// tryTB turns the end of a test into a panic that can be caught.
type tryTB struct {
	testing.TB
	err error
}

func (t *tryTB) Fatal(args ...any) {
	t.err, _ = args[0].(error)
	panic(t)
}

// crash is the disk at one moment, and what had been acknowledged by then.
type crash struct {
	fs                                          *vfs.MemFS
	durable, put, sent, signed, waiting, height int
	pool                                        []types.Hash
	dropped                                     map[types.Hash]int
}

func (l *life) crashNow(mem *vfs.MemFS, percent int, rng *rand.Rand) crash {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := crash{durable: l.durable, put: len(l.blocks), sent: l.sent, signed: len(l.signed), waiting: l.waiting, height: len(l.states)}
	c.pool = slices.Clone(l.pool[:l.waiting])
	c.dropped = make(map[types.Hash]int)
	for id := range l.dropped {
		c.dropped[id] = 1
	}
	c.fs = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
	return c
}

// survives opens the disk of a crash and holds it against what was acknowledged.
func (l *life) survives(t *testing.T, c crash) {
	t.Helper()
	s, err := Open(l.dir, l.options(c.fs))
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	defer s.Close()
	found := collect(t, s.Arrived(0))
	if len(found) < c.durable || len(found) > c.put {
		t.Fatalf("%d blocks, of %d put and %d acknowledged", len(found), c.put, c.durable)
	}
	for i, b := range found {
		if whole, ok, err := s.Block(b.ID); err != nil || !ok || !same(whole, l.blocks[i]) {
			t.Fatalf("block %d of %d is %+v, %v, %v", i, len(found), whole, ok, err)
		}
	}
	r := s.Signed()
	if int(r.Count) < c.sent || int(r.Count) >= c.signed || r != l.signed[r.Count] {
		t.Fatalf("record %+v, of %d sent and %d signed", r, c.sent, c.signed-1)
	}
	pool, err := s.Pool()
	check(t, err)
	var waiting []types.Hash
	for _, w := range pool {
		if c.dropped[w.ID] == 0 && slices.Contains(c.pool, w.ID) {
			waiting = append(waiting, w.ID)
		}
	}
	want := slices.DeleteFunc(slices.Clone(c.pool), func(id types.Hash) bool { return c.dropped[id] != 0 })
	if !slices.Equal(waiting, want) {
		t.Fatalf("%d transactions wait, %d were acknowledged", len(waiting), len(want))
	}
	l.stateSurvives(t, c, s, len(found))
}

// stateSurvives checks that the state is that of a height, and that it goes on from there to
// where the life went.
func (l *life) stateSurvives(t *testing.T, c crash, s *Store, blocks int) {
	t.Helper()
	decided := 0
	if top, ok := s.View().Height(); ok {
		decided = int(top) + 1
		if decided > c.height+1 {
			t.Fatalf("height %d, of %d applied", top, c.height)
		}
		if decided > len(l.states) {
			return // the height that was being applied when the disk failed
		}
		if blocks < l.needs[top] {
			t.Fatalf("the state of height %d is ahead of the log: %d blocks of %d", top, blocks, l.needs[top])
		}
		if !bytes.Equal(s.View().State().Encode(), l.states[top]) {
			t.Fatalf("half a state at height %d", top)
		}
	}
	for height := decided; height < len(l.states); height++ {
		_, state, err := l.applyTo(t, s, uint64(height), l.batches[height])
		check(t, err)
		if !bytes.Equal(state, l.states[height]) {
			t.Fatalf("height %d applied again after a crash at %d gives another state", height, decided)
		}
	}
	if len(l.states) == 0 {
		return
	}
	v := s.View()
	var leaves []types.Hash
	for at := range v.State().Outputs {
		o := must(v.Output(at))
		leaves = append(leaves, types.OutputLeaf(o))
		log := must(v.KeyLog(o.Output.Lock))
		value, ok, err := trie.Get(v.Trees().Keys, v.State().KeysRoot, types.KeyPath(o.Output.Lock))
		if want := types.KeyLeaf(types.LogState{Count: log.Size(), Root: log.Root()}); err != nil || !ok || value != want {
			t.Fatalf("lock of output %d has %s in the keys tree, %v, %v, want %s", at, value, ok, err, want)
		}
	}
	if r := must(forest.Update(new(forest.Memory), 0, nil, leaves)); r.Root != v.State().OutputsRoot {
		t.Fatal("outputs are not those of their tree")
	}
}

// crashable is a memory that can be cloned at any moment: its own ReuseForWrite takes a lock twice, and
// hangs if a clone comes between.
type crashable struct{ *vfs.MemFS }

func (c crashable) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := c.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return c.OpenReadWrite(newname, category)
}

func newMemory(t *testing.T) crashable {
	mem := vfs.NewCrashableMem()
	check(t, mem.MkdirAll("/d", 0o700))
	d := must(mem.OpenDir("/"))
	check(t, errors.Join(d.Sync(), d.Close()))
	return crashable{mem}
}

// TestCrash crashes at writes and syncs all over a random life, the creation of the store
// included, and each time loses all, some or none of what was not synced.
func TestCrash(t *testing.T) {
	seeds, every := uint64(4), int64(9)
	if testing.Short() {
		seeds, every = 1, 40
	}
	for seed := range seeds {
		l := newLife(seed)
		mem := newMemory(t)
		var (
			points atomic.Int64
			mu     sync.Mutex
			rng    = rand.New(rand.NewPCG(seed, 3))
			todo   []crash
			total  int
		)
		point := func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
				return nil
			}
			if n := points.Add(1); n < 60 && !testing.Short() || n%every == 0 {
				mu.Lock()
				defer mu.Unlock()
				todo = append(todo, l.crashNow(mem.MemFS, []int{0, 50, 100}[rng.IntN(3)], rng))
			}
			return nil
		}
		s, err := Open(l.dir, l.options(errorfs.Wrap(mem, errorfs.InjectorFunc(point))))
		check(t, err)
		l.store = s
		for range 90 {
			check(t, l.step(t))
			mu.Lock()
			now := todo
			todo = nil
			mu.Unlock()
			for _, c := range now {
				total++
				l.survives(t, c)
			}
		}
		check(t, s.Close())
		if total < 20 {
			t.Errorf("only %d crashes", total)
		}
		t.Logf("seed %d: %d crashes, %d blocks, %d signatures, %d heights", seed, total, len(l.blocks), len(l.signed)-1, len(l.states))
	}
}

// TestDiskFails lets a write fail, at many places, and all after it. The store stops in good
// order: calls come back, nothing hangs, and what was acknowledged is on the disk.
func TestDiskFails(t *testing.T) {
	stopped := 0
	for at := int64(1); at < 220; at += 6 {
		l := newLife(5)
		mem := newMemory(t)
		var writes atomic.Int64
		full := func(op errorfs.Op) error {
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && writes.Add(1) >= at {
				return syscall.ENOSPC
			}
			return nil
		}
		s, err := Open(l.dir, l.options(errorfs.Wrap(mem, errorfs.InjectorFunc(full))))
		if err == nil {
			l.store = s
			for err == nil {
				err = l.step(t)
			}
			if !IsKind(err, Stopped) || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("write %d fails: %v", at, err)
			}
			l.staysStopped(t, s)
			stopped++
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("write %d fails: %v", at, err)
		}
		l.survives(t, l.crashNow(mem.MemFS, 0, nil))
	}
	if stopped < 10 {
		t.Errorf("stopped %d times", stopped)
	}
}

func (l *life) staysStopped(t *testing.T, s *Store) {
	t.Helper()
	select {
	case <-s.Failed():
	case <-time.After(10 * time.Second):
		t.Fatal("Failed is not closed")
	}
	for what, err := range map[string]error{
		"Err": s.Err(), "PutBlocks": l.putBlocks(), "PutPool": l.submit(), "PutVote": s.PutVote(1<<40, types.Hash{1}), "Close": s.Close(),
	} {
		if !IsKind(err, Stopped) {
			t.Errorf("%s of a stopped store: %v", what, err)
		}
	}
}
