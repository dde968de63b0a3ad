package store

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"reflect"
	"testing"

	"charter/ledger"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// history is the slow twin of the state: all changes ever, in lists.
type history struct {
	*ledger.Memory
	events      []types.Event
	perHeight   map[uint64][2]int
	keys        map[types.Key][]types.KeyEvent
	names       map[string][]types.NameEvent
	checkpoints []*types.Checkpoint
	first       []uint64
	anchors     []types.Hash
	snapshots   []*types.Snapshot
	settled     int
}

func newHistory(t *testing.T, g *types.Genesis) *history {
	m, cp, err := ledger.NewMemory(g)
	check(t, err)
	_, c, err := ledger.Genesis(g)
	check(t, err)
	h := &history{Memory: m, perHeight: map[uint64][2]int{}, keys: map[types.Key][]types.KeyEvent{}, names: map[string][]types.NameEvent{}}
	h.digest(c)
	h.checkpoints, h.first, h.anchors = append(h.checkpoints, cp), append(h.first, 0), append(h.anchors, g.ChainID())
	return h
}

func (h *history) digest(c *ledger.Changes) {
	h.events = append(h.events, c.Events...)
	for _, v := range c.Keys {
		h.keys[v.Output.Lock] = append(h.keys[v.Output.Lock], v)
	}
	for _, v := range c.Names {
		h.names[v.Record.Name] = append(h.names[v.Record.Name], v)
	}
	if c.Snapshot != nil {
		h.snapshots = append(h.snapshots, c.Snapshot)
	}
}

func (h *history) height(height uint64, b *ledger.Batch) {
	start, anchor := len(h.events), types.Hash{}
	if b != nil {
		h.digest(h.Apply(b))
		anchor = b.Anchor
	}
	if height%snapshotEvery == 0 {
		h.digest(h.TakeSnapshot(height))
	}
	if height%checkpointEvery == 0 {
		h.first = append(h.first, uint64(h.settled))
		h.settled = len(h.events)
		h.checkpoints = append(h.checkpoints, h.Checkpoint(height))
	}
	h.anchors = append(h.anchors, anchor)
	h.perHeight[height] = [2]int{start, len(h.events) - start}
}

func collect[T any](t *testing.T, seq func(func(T, error) bool)) (all []T) {
	t.Helper()
	for v, err := range seq {
		check(t, err)
		all = append(all, v)
	}
	return all
}

func deref[T any](t *testing.T, seq func(func(*T, error) bool)) (all []T) {
	t.Helper()
	for _, v := range collect(t, seq) {
		all = append(all, *v)
	}
	return all
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// agree compares all that a view tells with the twin.
func (h *history) agree(t *testing.T, v *View) {
	t.Helper()
	if !bytes.Equal(v.State().Encode(), h.State().Encode()) {
		t.Fatalf("state %+v, want %+v", v.State(), h.State())
	}
	top := uint64(len(h.anchors) - 1)
	if got, ok := v.Height(); got != top || !ok {
		t.Fatalf("height %d, want %d", got, top)
	}
	base, err := v.Base()
	check(t, err)
	equal(t, "base", base, binary.BigEndian.AppendUint64(nil, top))
	equal(t, "events", deref(t, v.Events(0)), h.events)
	equal(t, "event count", v.EventCount(), uint64(len(h.events)))
	for _, e := range h.events {
		want, _ := h.Event(e.Transaction)
		got, err := v.Event(e.Transaction)
		check(t, err)
		equal(t, "event", got, want)
	}
	for height, anchor := range h.anchors {
		got, ok, err := v.Decided(uint64(height))
		if got != anchor || !ok || err != nil {
			t.Fatal(height, got, ok, err)
		}
		first, count, err := v.EventsOf(uint64(height))
		check(t, err)
		if want := h.perHeight[uint64(height)]; count > 0 && first != uint64(want[0]) || count != uint64(want[1]) {
			t.Fatalf("height %d has events %d from %d, want %v", height, count, first, want)
		}
	}
	for lock, want := range h.keys {
		equal(t, "key events", deref(t, v.KeyEvents(lock, 0)), want)
		equal(t, "late key events", deref(t, v.KeyEvents(lock, uint64(len(want)-1))), want[len(want)-1:])
		f, err := v.KeyLog(lock)
		check(t, err)
		equal(t, "key log", f, must(h.Trees().KeyLog(lock)))
		leaf, ok, err := trie.Get(v.Trees().Keys, v.State().KeysRoot, types.KeyPath(lock))
		if err != nil || !ok || leaf != types.KeyLeaf(types.LogState{Count: f.Size(), Root: f.Root()}) {
			t.Fatal("keys tree", leaf, ok, err)
		}
	}
	for name, want := range h.names {
		equal(t, "story", deref(t, v.NameEvents(name, 0)), want)
		got, err := v.Name(name)
		check(t, err)
		equal(t, "name", got, h.Name(name))
		equal(t, "story's frontier", must(v.Story(name)), must(h.Trees().Story(name)))
	}
	peers, err := v.Peers()
	check(t, err)
	wantPeers, _ := h.Peers()
	equal(t, "peers", peers, wantPeers)
	equal(t, "peer", *must(v.Peer(peers[0].Peer)), peers[0])
	h.agreeTrees(t, v)
}

func (h *history) agreeTrees(t *testing.T, v *View) {
	t.Helper()
	for at := range v.State().Outputs {
		want, _ := h.Output(at)
		got, err := v.Output(at)
		check(t, err)
		equal(t, "output", got, want)
		leaf, err := v.Trees().Outputs.Node(0, at)
		check(t, err)
		equal(t, "leaf", leaf, types.OutputLeaf(want))
	}
	var leaves []types.Hash
	for i, c := range collect(t, v.Checkpoints(0)) {
		equal(t, "checkpoint", c.Checkpoint, h.checkpoints[i])
		equal(t, "first event", c.First, h.first[i])
		leaves = append(leaves, ledger.HistoryLeaf(c.ID()))
	}
	if len(leaves) != len(h.checkpoints) {
		t.Fatalf("%d checkpoints, want %d", len(leaves), len(h.checkpoints))
	}
	f, err := tlog.FrontierAt(v.History(), uint64(len(leaves)))
	check(t, err)
	equal(t, "history", f.Root(), tlog.Root(leaves))
	equal(t, "snapshots", collect(t, v.ShareSnapshots(1)), h.snapshots[1:])
}

// must is the value of a call that does not fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestStateAgreesWithTwin(t *testing.T) {
	media(t, func(t *testing.T, dir string, fs *FS) {
		w := newWorld(7, 40)
		o := options(fs)
		o.Chain = w.chain
		s := openWith(t, dir, o)
		if _, ok := s.View().Height(); ok || s.View().State() != nil {
			t.Fatal("a fresh store has a state")
		}
		w.start(t, s)
		h := newHistory(t, w.genesis)
		last := uint64(40)
		if testing.Short() {
			last = 28
		}
		for height := uint64(1); height <= last; height++ {
			b := w.batch(height, 30)
			if w.rng.IntN(4) == 0 {
				b = nil // an empty height
			}
			pinned := must(s.Snapshot())
			if c := w.apply(t, s, height, b); c != nil {
				w.learn(c)
			}
			if height%10 == 0 {
				h.agree(t, &pinned.View)
			}
			check(t, pinned.Close())
			check(t, pinned.Close())
			h.height(height, b)
			if height%10 == 0 {
				h.agree(t, s.View())
				s = reopen(t, s)
				h.agree(t, s.View())
			}
		}
		missing(t, s.View())
		seen := map[types.EventKind]int{}
		for _, e := range h.events {
			seen[e.Kind]++
			if e.Reason == types.TooEarly {
				seen[0]++
			}
		}
		if seen[types.Applied] < 100 || seen[types.Rejected] < 10 || seen[types.Payout] < 5 || seen[0] < 5 || len(h.names) < 5 {
			t.Errorf("too little happened: %v, %d names", seen, len(h.names))
		}
	})
}

// missing asks for what is not there.
func missing(t *testing.T, v *View) {
	t.Helper()
	none := []any{must(v.Output(1 << 40)), must(v.Event(types.Hash{9})), must(v.Peer(types.Key{9})), must(v.Name("zz")),
		must(v.Checkpoint(1)), must(v.Certificate(1)), must(v.ShareSnapshot(1))}
	for i, n := range none {
		if !reflect.ValueOf(n).IsNil() {
			t.Errorf("%d is there: %+v", i, n)
		}
	}
	if _, err := v.Trees().Outputs.Node(0, 1<<40); !IsKind(err, Damaged) {
		t.Error(err)
	}
	if _, err := v.Trees().Keys.Node(trie.NodeID{Len: 200}); !IsKind(err, Damaged) {
		t.Error(err)
	}
}

func TestBatchIsDiscarded(t *testing.T) {
	w := newWorld(3, 10)
	o := options(Memory())
	o.Chain = w.chain
	s := openWith(t, "/peer", o)
	w.start(t, s)
	before := s.View().State().Encode()
	b := s.Begin()
	c, err := ledger.Apply(b, b.State(), w.batch(1, 5))
	check(t, err)
	change(t, b, b.State(), c)
	check(t, b.Discard())
	if !bytes.Equal(s.View().State().Encode(), before) {
		t.Fatal("a discarded batch changed the state")
	}
	first, second := s.Begin(), s.Begin()
	check(t, first.Decide(1, types.Hash{1}))
	check(t, first.Commit())
	defer func() {
		if recover() == nil {
			t.Fatal("two batches on top of one state")
		}
		check(t, second.Discard())
	}()
	check(t, second.Commit())
}

func TestCertificates(t *testing.T) {
	s := open(t, "/peer", Memory())
	rng := rand.New(rand.NewPCG(1, 1))
	var want []*types.Certificate
	heights := []uint64{2, 4, 10, 1 << 40}
	for range heights {
		c := &types.Certificate{Snapshot: types.Hash{1}}
		for i := range uint16(rng.IntN(5)) {
			c.Votes = append(c.Votes, types.MemberVote{Index: i, Signature: types.Signature{byte(i), 1}})
		}
		want = append(want, c)
	}
	for i, h := range heights {
		check(t, s.PutCertificate(h, want[i]))
	}
	s = reopen(t, s)
	for i, h := range heights {
		got, err := s.View().Certificate(h)
		check(t, err)
		equal(t, "certificate", got, want[i])
	}
	for upTo, want := range map[uint64]uint64{2: 2, 3: 2, 9: 4, 1<<64 - 1: 1 << 40} {
		if h, ok, err := s.View().Certified(upTo); h != want || !ok || err != nil {
			t.Errorf("certified up to %d: %d, %v, %v", upTo, h, ok, err)
		}
	}
	if _, ok, err := s.View().Certified(1); ok || err != nil {
		t.Error(ok, err)
	}
}
