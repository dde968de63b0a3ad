package proof

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// chunkScene is a world with logs and heights of all lengths, and its chunks. Of a checkpoint and a reference there is one
// chunk.
type chunkScene struct {
	*world
	top  *types.Checkpoint
	busy types.Key // its log has several ranges
}

func newChunkScene(t testing.TB) *chunkScene {
	s := &chunkScene{world: newWorld(t, worldPeers), busy: types.Key(hashOf("busy"))}
	for i := range 60 {
		s.create(types.Output{Value: 7, Lock: types.Key(hashOf(fmt.Sprint("lock", i/2)))}, hashOf("source"), uint32(i), 1)
	}
	for i := range uint32(600) {
		v := types.KeyEvent{Transaction: hashOf("busy source"), Index: i, Output: types.Output{Value: types.Amount(i + 1), Lock: s.busy}, Height: 1}
		s.logs[s.busy] = append(s.logs[s.busy], v)
	}
	s.set(0, types.KeyPath(s.busy), types.KeyLeaf(s.log(s.busy)))
	s.apply(s.pay(5, nil, types.Output{Value: 7, Lock: alice}))
	s.seal()
	for i := range 1100 {
		s.pending = append(s.pending, types.Event{Kind: types.Rejected, Transaction: hashOf(fmt.Sprint(i)), Reason: types.TooLate, Height: s.height()})
	}
	s.rise(39)
	s.pending = append(s.pending, types.Event{Kind: types.Applied, Transaction: hashOf("last"), Height: s.height()})
	top := *s.seal()
	top.TallyRoot = tagTally.Hash(s.chain[:], []byte("a tally"))
	s.top = &top
	return s
}

func (s *chunkScene) refs() []ChunkRef {
	prefix := func(k ChunkKind, n uint16, first byte) ChunkRef {
		return ChunkRef{Kind: k, Prefix: trie.Beginning(trie.Path{first}, n)}
	}
	return []ChunkRef{
		prefix(KeysChunk, 0, 0), prefix(KeysChunk, 2, 0x40), prefix(KeysChunk, 2, 0xc0), prefix(KeysChunk, 60, 0x55),
		prefix(NamesChunk, 0, 0), prefix(NamesChunk, 1, 0x80), prefix(PeersChunk, 0, 0), prefix(PeersChunk, 1, 0),
		{Kind: TallyChunk}, {Kind: HistoryChunk}, {Kind: HistoryChunk, First: 32},
		{Kind: KeyLogChunk, Lock: s.busy}, {Kind: KeyLogChunk, Lock: s.busy, First: 512}, {Kind: KeyLogChunk, Lock: alice},
		{Kind: StoryChunk, Name: "peer-3"},
		{Kind: EventsChunk, Checkpoint: 2}, {Kind: EventsChunk, Checkpoint: 2, First: 1024}, {Kind: EventsChunk, Checkpoint: 1}, {Kind: EventsChunk, Checkpoint: 40},
	}
}

// chunk makes the chunk of a reference.
func (s *chunkScene) chunk(r ChunkRef) *Chunk {
	c := &Chunk{Checkpoint: s.top.ID(), Ref: r}
	if r.Kind.Tree() {
		tree := map[ChunkKind]int{KeysChunk: 0, NamesChunk: 1, PeersChunk: 2}[r.Kind]
		under, err := trie.ProveSubtree(&s.tries[tree], s.roots[tree], r.Prefix)
		s.must(err)
		c.Under = *under
	}
	var leaves []types.Hash
	var err error
	switch r.Kind {
	case KeysChunk:
		for lock, events := range s.logs {
			if k := (ChunkKey{Lock: lock, Log: s.log(lock), Events: events}); r.Prefix.Covers(types.KeyPath(lock)) {
				if k.Log.Count > MaxShort {
					k.Events = nil
				}
				c.Keys = append(c.Keys, k)
			}
		}
		slices.SortFunc(c.Keys, func(a, b ChunkKey) int { return byPath(types.KeyPath(a.Lock), types.KeyPath(b.Lock)) })
	case NamesChunk:
		for i := range s.genesis.Peers {
			if n := s.name(i); r.Prefix.Covers(types.NamePath(n.Name)) {
				c.Names = append(c.Names, ChunkName{*n, s.story(i)})
			}
		}
		slices.SortFunc(c.Names, func(a, b ChunkName) int { return byPath(types.NamePath(a.State.Name), types.NamePath(b.State.Name)) })
	case PeersChunk:
		for i := range s.genesis.Peers {
			if p := s.peer(i); r.Prefix.Covers(types.PeerPath(p.Peer)) {
				c.Peers = append(c.Peers, *p)
			}
		}
		slices.SortFunc(c.Peers, func(a, b types.PeerState) int { return byPath(types.PeerPath(a.Peer), types.PeerPath(b.Peer)) })
	case TallyChunk:
		c.Tally = []byte("a tally")
	case HistoryChunk:
		for i := r.First; i < min(r.First+32, s.top.HistorySize); i++ {
			h := ChunkCheckpoint{Checkpoint: *s.checkpoints[i]}
			if len(s.events[i]) <= MaxShort {
				h.Events = s.events[i]
			}
			c.History = append(c.History, h)
		}
		c.Path, err = tlog.ProveRange(&s.history, s.top.HistorySize, r.First, HistoryLevel)
	case KeyLogChunk:
		c.Log, c.Trie, leaves = s.log(r.Lock), s.inTrie(0, types.KeyPath(r.Lock)), keyLeaves(s.logs[r.Lock])
		c.Key = s.logs[r.Lock][r.First:min(r.First+512, c.Log.Count)]
	case StoryChunk:
		c.Name, c.Trie, c.Story, leaves = *s.name(3), s.inTrie(1, types.NamePath(r.Name)), s.story(3), s.storyLeaves(3)
	case EventsChunk:
		all := s.events[r.Checkpoint]
		if r.Checkpoint < 40 {
			c.Past = &Past{*s.checkpoints[r.Checkpoint], s.pastPath(r.Checkpoint, 40)}
		}
		for i := range all {
			leaves = append(leaves, tlogLeaf(&all[i]))
		}
		c.Event = all[r.First:min(r.First+1024, uint64(len(all)))]
	}
	s.must(err)
	if leaves != nil {
		c.Path, err = tlog.RangeOf(leaves, r.First, r.Kind.level())
		s.must(err)
	}
	return c
}

func byPath(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) }

// TestChunks makes every kind of chunk, and reads it back.
func TestChunks(t *testing.T) {
	s := newChunkScene(t)
	for _, r := range s.refs() {
		data := s.chunk(r).Encode()
		c, err := DecodeChunk(data)
		if err != nil {
			t.Fatalf("%s: %v", r, err)
		}
		before, err := c.Verify(s.top, r)
		if err != nil {
			t.Errorf("%s: %v", r, err)
		}
		if !bytes.Equal(c.Encode(), data) || before.Size() != r.First && r.Kind != TallyChunk {
			t.Errorf("%s: decoded, and encodes to other bytes; before it are %d", r, before.Size())
		}
		again, err := DecodeChunkRef(r.Encode())
		if err != nil || again != r {
			t.Errorf("%s is read as %s: %v", r, again, err)
		}
	}
	if got := KeysPrefixes(&types.Checkpoint{Outputs: 1 << 20}); got != 12 || KeysPrefixes(s.top) != 0 {
		t.Errorf("prefixes of %d bits", got)
	}
	whole := s.chunk(ChunkRef{Kind: KeysChunk})
	parts := 0
	for _, half := range whole.Ref.Halves() {
		c := s.chunk(half)
		if _, err := c.Verify(s.top, half); err != nil {
			t.Error(err)
		}
		parts += len(c.Keys)
	}
	if parts != len(whole.Keys) || parts < 30 {
		t.Errorf("the halves have %d locks, and the whole %d", parts, len(whole.Keys))
	}
}

// TestChunkRefusals spoils a chunk in one way per row, and names the kind of the error.
func TestChunkRefusals(t *testing.T) {
	s := newChunkScene(t)
	all := s.refs()
	keys, names, peers, tally, history := all[0], all[4], all[6], all[8], all[9]
	log, last, story, events, own := all[11], all[12], all[14], all[15], all[18]
	for _, row := range []struct {
		what  string
		ref   ChunkRef
		spoil func(c *Chunk)
		kind  Kind
	}{
		{"another checkpoint", keys, func(c *Chunk) { c.Checkpoint[0] ^= 1 }, WrongCheckpoint},
		{"another reference", keys, func(c *Chunk) { c.Ref = all[1] }, WrongSubject},
		{"another kind", keys, func(c *Chunk) { c.Ref.Kind = NamesChunk }, WrongSubject},

		{"a lock left out", keys, func(c *Chunk) { c.Keys = slices.Delete(c.Keys, 3, 4) }, NotUnderRoot},
		{"a lock twice", keys, func(c *Chunk) { c.Keys = slices.Insert(c.Keys, 3, c.Keys[3]) }, NotUnderRoot},
		{"locks in another order", keys, func(c *Chunk) { c.Keys[3], c.Keys[4] = c.Keys[4], c.Keys[3] }, NotUnderRoot},
		{"an event left out", keys, func(c *Chunk) { k := short1(c); k.Events = k.Events[1:] }, NotUnderRoot},
		{"an event left out, and not counted", keys, func(c *Chunk) {
			k := short1(c)
			k.Events = k.Events[1:]
			k.Log = types.LogState{Count: 1, Root: tlog.Root(keyLeaves(k.Events))}
		}, NotUnderRoot},
		{"another value", keys, func(c *Chunk) { short1(c).Events[0].Output.Value++ }, NotUnderRoot},
		{"an event of another lock", keys, func(c *Chunk) { short1(c).Events[0].Output.Lock = alice }, WrongSubject},
		{"a lock without events", keys, func(c *Chunk) { k := short1(c); k.Log, k.Events = types.LogState{}, nil }, NotUnderRoot},
		{"events of a long log", keys, func(c *Chunk) { long1(c).Events = s.logs[s.busy][:2] }, NotUnderRoot},
		{"another long log", keys, func(c *Chunk) { long1(c).Log.Root[0] ^= 1 }, NotUnderRoot},
		{"nothing", keys, func(c *Chunk) { c.Keys = nil }, NotUnderRoot},
		{"nothing there, of elsewhere", all[1], func(c *Chunk) { c.Keys, c.Under = nil, s.chunk(all[3]).Under }, NotUnderRoot},
		{"something where nothing is", all[3], func(c *Chunk) { c.Keys = s.chunk(all[1]).Keys }, NotUnderRoot},

		{"a name left out", names, func(c *Chunk) { c.Names = c.Names[1:] }, NotUnderRoot},
		{"another holder", names, func(c *Chunk) { c.Names[0].State.Peer = alice }, NotUnderRoot},
		{"a story cut", names, func(c *Chunk) { c.Names[0].Events = c.Names[0].Events[:2] }, NotUnderRoot},
		{"a story of another name", names, func(c *Chunk) { c.Names[0].Events[1].Record.Name = "x" }, WrongSubject},
		{"a peer left out", peers, func(c *Chunk) { c.Peers = c.Peers[1:] }, NotUnderRoot},
		{"other shares", peers, func(c *Chunk) { c.Peers[0].Shares++ }, NotUnderRoot},
		{"another tally", tally, func(c *Chunk) { c.Tally[0] ^= 1 }, NotUnderRoot},
		{"no tally", tally, func(c *Chunk) { c.Tally = nil }, NotUnderRoot},

		{"a checkpoint left out", history, func(c *Chunk) { c.History = c.History[:31] }, NotUnderRoot},
		{"a checkpoint of another chain", history, func(c *Chunk) { c.History[4].Checkpoint.Chain[0] ^= 1 }, WrongChain},
		{"a checkpoint in another's place", history, func(c *Chunk) { c.History[4] = c.History[5] }, WrongHeight},
		{"another checkpoint", history, func(c *Chunk) { c.History[4].Checkpoint.Time++ }, NotUnderRoot},
		{"other events", history, func(c *Chunk) { c.History[1].Events[0].First++ }, NotUnderRoot},
		{"events left out", history, func(c *Chunk) { c.History[1].Events = nil }, NotUnderRoot},
		{"events of an empty height", history, func(c *Chunk) { c.History[3].Events = c.History[1].Events }, NotUnderRoot},
		{"another path", history, func(c *Chunk) { c.Path[0][0] ^= 1 }, NotUnderRoot},

		{"an event left out of a range", log, func(c *Chunk) { c.Key = c.Key[:511] }, NotUnderRoot},
		{"another event in a range", log, func(c *Chunk) { c.Key[77].Index++ }, NotUnderRoot},
		{"a range of another lock", log, func(c *Chunk) { c.Key[0].Output.Lock = alice }, WrongSubject},
		{"another log", log, func(c *Chunk) { c.Log.Count++ }, NotUnderRoot},
		{"the other range", last, func(c *Chunk) { o := s.chunk(log); c.Key, c.Path = o.Key[:88], o.Path }, NotUnderRoot},
		{"a lock that is not there", log, func(c *Chunk) { c.Trie = s.inTrie(0, types.KeyPath(types.Key{1})) }, NotUnderRoot},
		{"an event left out of a story", story, func(c *Chunk) { c.Story = c.Story[1:] }, NotUnderRoot},
		{"a state of another name", story, func(c *Chunk) { c.Name = *s.name(2) }, WrongSubject},
		{"an event of another name", story, func(c *Chunk) { c.Story[0].Record.Name = "x" }, WrongSubject},
		{"another story", story, func(c *Chunk) { c.Name.Peer = alice }, NotUnderRoot},
		{"an event changed", events, func(c *Chunk) { c.Event[9].Time++ }, NotUnderRoot},
		{"events of another checkpoint", events, func(c *Chunk) { c.Past = s.chunk(all[17]).Past }, WrongSubject},
		{"events of another chain", events, func(c *Chunk) { c.Past.Checkpoint.Chain[1] ^= 1 }, WrongChain},
		{"a checkpoint that is not in the history", events, func(c *Chunk) { c.Past.Checkpoint.Time++ }, NotUnderRoot},
		{"not before", events, func(c *Chunk) { c.Past.Checkpoint.Height = 99 }, WrongHeight},
		{"events without their checkpoint", events, func(c *Chunk) { c.Past = nil }, WrongSubject},
		{"other events of its own", own, func(c *Chunk) { c.Event[0].First++ }, NotUnderRoot},
	} {
		c, err := DecodeChunk(s.chunk(row.ref).Encode()) // nothing is shared with the scene
		if err != nil {
			t.Fatal(err)
		}
		row.spoil(c)
		if _, err := c.Verify(s.top, row.ref); !IsKind(err, row.kind) {
			t.Errorf("%s: got %v, want kind %q", row.what, err, row.kind)
		}
	}
	if _, err := (&Chunk{Checkpoint: s.top.ID()}).Verify(s.top, ChunkRef{}); !IsKind(err, WrongSubject) {
		t.Errorf("no kind: %v", err)
	}
}

// short1 and long1 are a lock of several events that are there, and one whose events are not.
func short1(c *Chunk) *ChunkKey {
	return &c.Keys[slices.IndexFunc(c.Keys, func(k ChunkKey) bool { return len(k.Events) == 2 })]
}

func long1(c *Chunk) *ChunkKey {
	return &c.Keys[slices.IndexFunc(c.Keys, func(k ChunkKey) bool { return len(k.Events) == 0 })]
}

// TestChunkBytes refuses bytes that are no chunk, or not in its one form.
func TestChunkBytes(t *testing.T) {
	s := newChunkScene(t)
	peers := s.chunk(ChunkRef{Kind: PeersChunk}).Encode()
	at := func(i int, b byte) []byte { c := bytes.Clone(peers); c[i] = b; return c }
	for what, data := range map[string][]byte{
		"empty": {}, "truncated": peers[:len(peers)-1], "trailing": append(bytes.Clone(peers), 0), "too long": make([]byte, MaxChunk+1),
		"another version": at(0, 9), "no kind": at(33, 0), "unknown kind": at(33, 99), "prefix that is cut off": at(34, 255), "other than a bool": at(37, 2),
		"many peers": at(38, 1),
	} {
		if _, err := DecodeChunk(data); !IsKind(err, Malformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, data := range map[string][]byte{
		"empty": {}, "unknown kind": {9}, "bits beyond the prefix": {1, 3, 0xff}, "trailing": {4, 0},
		"first in the middle of a range": ChunkRef{Kind: HistoryChunk, First: 3}.Encode(), "first beyond all": ChunkRef{Kind: HistoryChunk, First: 1 << 63}.Encode(),
	} {
		if _, err := DecodeChunkRef(data); !IsKind(err, Malformed) {
			t.Errorf("reference, %s: %v", what, err)
		}
	}
}

// TestChunkMutations gives the verifier spoiled chunks: of a checkpoint and a reference there is one chunk, so
// whatever is accepted is it.
func TestChunkMutations(t *testing.T) {
	t.Parallel()
	s := newChunkScene(t)
	count := 6000
	if testing.Short() {
		count = 1000
	}
	m := &mutator{Rand: rand.New(rand.NewPCG(3, 3))}
	refs := s.refs()
	for _, r := range refs {
		m.donors = append(m.donors, s.chunk(r).Encode())
	}
	decoded := 0
	for range count {
		i := m.IntN(len(refs))
		data := bytes.Clone(m.donors[i])
		for more := true; more && len(data) > 100; more = m.IntN(4) == 0 {
			data = mutations[m.IntN(len(mutations)-1)].on(m, data) // the last is for lists of statements
		}
		c, err := DecodeChunk(data)
		if err != nil {
			continue
		}
		decoded++
		if _, err := c.Verify(s.top, refs[i]); err == nil && !bytes.Equal(data, m.donors[i]) {
			t.Fatalf("%s is accepted: %x", refs[i], data)
		}
	}
	if decoded < count/10 {
		t.Errorf("%d of %d decoded", decoded, count)
	}
}

// FuzzChunk: what decodes encodes to the same bytes, and what is accepted is the one chunk that there is.
func FuzzChunk(f *testing.F) {
	s := newChunkScene(f)
	truth := make(map[ChunkRef][]byte)
	for _, r := range s.refs() {
		truth[r] = s.chunk(r).Encode()
		if len(truth[r]) < 20<<10 {
			f.Add(truth[r])
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeChunk(data)
		if err != nil {
			if !IsKind(err, Malformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(c.Encode(), data) {
			t.Fatal("decoded, and encodes to other bytes")
		}
		if _, err := c.Verify(s.top, c.Ref); err == nil && truth[c.Ref] != nil && !bytes.Equal(data, truth[c.Ref]) {
			t.Fatal("another chunk is accepted")
		}
	})
}
