package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"charter/ledger"
	"charter/proof"
	"charter/tlog"
	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// A peer that joins fetches the state of a checkpoint in chunks (proof.Chunk). Here they are made, of a view whose
// height has a checkpoint. What a chunk costs is bounded by its size, with two exceptions that are as rare as
// they are dear to make: a range of a story is proven by hashing all of the story, and a range of the events
// under a checkpoint by hashing all of them. Of long key logs the roots of the ranges are kept, at 'l'.

// Chunk is the encoded chunk of the state as of the view's checkpoint. Errors: NoChunk for what is not in this state, or
// if it has no checkpoint of its height; TooLarge, with the prefix length to ask for.
func (v *View) Chunk(ref proof.ChunkRef) ([]byte, error) {
	height, _ := v.Height()
	cp, err := v.Checkpoint(height)
	if err != nil {
		return nil, err
	}
	if cp == nil {
		return nil, v.s.refuse(NoChunk, fmt.Sprintf("height %d has no checkpoint", height), nil)
	}
	x := &exporter{v, cp, &proof.Chunk{Checkpoint: cp.ID(), Ref: ref}, 0}
	if err := x.fill(); errors.As(err, new(*Error)) {
		return nil, err
	} else if err != nil {
		return nil, v.s.read(ref.String(), err)
	}
	data := x.c.Encode()
	if len(data) > proof.MaxChunk {
		return nil, v.s.refuse(NoChunk, fmt.Sprintf("%s has %d bytes", ref, len(data)), nil)
	}
	return data, nil
}

// exporter makes one chunk.
type exporter struct {
	v    *View
	cp   *Checkpoint
	c    *proof.Chunk
	size int // bytes so far, about
}

func (x *exporter) fill() error {
	switch x.c.Ref.Kind {
	case proof.KeysChunk:
		return x.keys()
	case proof.NamesChunk:
		return x.names()
	case proof.PeersChunk:
		return x.peers()
	case proof.TallyChunk:
		x.c.Tally = x.v.State().Tally.Encode()
		return nil
	case proof.HistoryChunk:
		return x.history()
	case proof.KeyLogChunk:
		return x.keyLog()
	case proof.StoryChunk:
		return x.story()
	case proof.EventsChunk:
		return x.events()
	}
	return x.none()
}

func (x *exporter) none() error { return x.v.s.refuse(NoChunk, x.c.Ref.String(), nil) }

// tooLarge is the refusal of what is full at a path.
func (x *exporter) tooLarge(at trie.Path) error {
	from := x.c.Ref.Prefix.Len
	passed := 0.0 // how much of what is under the prefix is to the left of the path
	for i := from; i < min(from+24, trie.PathBits); i++ {
		if at[i/8]>>(7-i%8)&1 == 1 {
			passed += 1 / float64(uint64(2)<<(i-from))
		}
	}
	depth := from + 1
	for part := 0.5; part > passed && depth < from+16; part /= 2 {
		depth++
	}
	e := &Error{Kind: TooLarge, Dir: x.v.s.dir, Detail: fmt.Sprintf("%s: ask for prefixes of %d bits", x.c.Ref, depth), Depth: min(depth, trie.PathBits-1)}
	return e
}

// room counts bytes, or refuses what comes to too many.
func (x *exporter) room(bytes int, at trie.Path) error {
	if x.size += bytes; x.size > proof.FullChunk-9<<10 { // path and head are at most 8,500
		return x.tooLarge(at)
	}
	return nil
}

// under goes over what is stored by paths with the prefix.
func (x *exporter) under(space byte) iter.Seq2[entry, error] {
	from := key(space, x.c.Ref.Prefix.Bits[:])
	return scan(x.v.r, from, pathsEnd(space, x.c.Ref.Prefix))
}

// pathsEnd is the least key above those of all paths with a prefix.
func pathsEnd(space byte, prefix trie.NodeID) []byte {
	whole, part := prefix.Len/8, prefix.Len%8
	end := key(space, prefix.Bits[:whole])
	if part > 0 {
		last := int(prefix.Bits[whole]) + 0x100>>part
		if last < 0x100 {
			return append(end, byte(last))
		}
	}
	return after(end)
}

func (x *exporter) keys() error {
	var want []keyEvents
	for e, err := range x.under(stateKeyLog) {
		if err != nil {
			return x.v.s.read("key logs", err)
		}
		l, err := decodeKeyLog(e.value)
		if err != nil {
			return x.v.s.read("key logs", err)
		}
		k := proof.ChunkKey{Lock: l.Lock, Log: logState(l.Frontier)}
		bytes := 72
		if k.Log.Count <= proof.MaxShort {
			bytes += 101 * int(k.Log.Count)
			want = append(want, keyEvents{lock: l.Lock, count: k.Log.Count, to: len(x.c.Keys)})
		}
		if err := x.room(bytes, types.KeyPath(l.Lock)); err != nil {
			return err
		}
		x.c.Keys = append(x.c.Keys, k)
	}
	if err := x.v.fillKeyEvents(want); err != nil {
		return err
	}
	for _, w := range want {
		x.c.Keys[w.to].Events = w.events
	}
	return x.path(x.v.Trees().Keys, x.cp.KeysRoot)
}

// keyEvents is so many events of a lock, from a number on.
type keyEvents struct {
	lock         types.Key
	first, count uint64
	to           int // whatever the caller wants to know
	events       []types.KeyEvent
}

// fillKeyEvents reads events of many locks. They are spread all over the state; so it goes through each space
// once, upwards, which is a fraction of the work of as many gets.
func (v *View) fillKeyEvents(want []keyEvents) error {
	slices.SortFunc(want, func(a, b keyEvents) int { return bytes.Compare(a.lock[:], b.lock[:]) })
	var keys [][]byte
	for _, w := range want {
		for n := range w.count {
			keys = append(keys, key(stateKeyEvent, w.lock[:], u64(w.first+n)))
		}
	}
	entries, err := gather(v, "key events", keys, func(data []byte) (*keyEntry, error) {
		k, err := decodeKeyEntry(data)
		return &k, err
	})
	if err != nil {
		return err
	}
	outputs, events := make(map[uint64]*types.OutputState), make(map[uint64]*types.Event)
	for _, k := range entries {
		outputs[k.position] = nil
		if k.spent {
			events[k.event] = nil
		}
	}
	err = errors.Join(gatherAll(v, "outputs", stateOutput, outputs, types.DecodeOutputState), gatherAll(v, "events", stateEvent, events, types.DecodeEvent))
	if err != nil {
		return err
	}
	for i := range want {
		w := &want[i]
		w.events = make([]types.KeyEvent, w.count)
		for n := range w.events {
			k := entries[n]
			w.events[n] = *k.of(outputs[k.position], events[k.event])
		}
		entries = entries[w.count:]
	}
	return nil
}

// gatherAll reads what a space has under numbers.
func gatherAll[T any](v *View, what string, space byte, into map[uint64]*T, decode func([]byte) (*T, error)) error {
	numbers := slices.Sorted(maps.Keys(into))
	keys := make([][]byte, len(numbers))
	for i, n := range numbers {
		keys[i] = key(space, u64(n))
	}
	all, err := gather(v, what, keys, decode)
	for i := range all {
		into[numbers[i]] = all[i]
	}
	return err
}

// gather reads the values of ascending keys of one space, all of which must be there.
func gather[T any](v *View, what string, keys [][]byte, decode func([]byte) (*T, error)) (all []*T, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	it, err := v.r.NewIter(&pebble.IterOptions{LowerBound: keys[0], UpperBound: after(keys[0][:1])})
	if err != nil {
		return nil, v.s.read(what, err)
	}
	defer func() { err = errors.Join(err, v.s.read(what, it.Close())) }()
	at := it.First()
	for _, k := range keys {
		if at && bytes.Compare(it.Key(), k) < 0 {
			if at = it.Next(); at && bytes.Compare(it.Key(), k) < 0 { // most are next to the one before, or far away
				at = it.SeekGE(k)
			}
		}
		if !at || !bytes.Equal(it.Key(), k) {
			return nil, v.s.read(what, cmp.Or(it.Error(), errMissing))
		}
		data, err := it.ValueAndErr()
		if err != nil {
			return nil, v.s.read(what, err)
		}
		t, err := decode(data)
		if err != nil {
			return nil, v.s.read(what, err)
		}
		all = append(all, t)
	}
	return all, nil
}

func (x *exporter) names() error {
	for e, err := range x.under(stateNamePath) {
		if err != nil {
			return x.v.s.read("names", err)
		}
		n, err := x.v.Name(string(e.value))
		if err == nil && n == nil {
			err = x.v.s.read("names", errMissing)
		}
		if err != nil {
			return err
		}
		k := proof.ChunkName{State: *n}
		if n.Story.Count <= proof.MaxShort {
			if k.Events, err = take(x.v.NameEvents(n.Name, 0), n.Story.Count); err != nil {
				return err
			}
		}
		bytes := 108
		for i := range k.Events {
			bytes += len(k.Events[i].Encode())
		}
		if err := x.room(bytes, types.NamePath(n.Name)); err != nil {
			return err
		}
		x.c.Names = append(x.c.Names, k)
	}
	return x.path(x.v.Trees().Names, x.cp.NamesRoot)
}

func (x *exporter) peers() error {
	for e, err := range x.under(statePeerPath) {
		if err != nil {
			return x.v.s.read("peers", err)
		}
		peer := types.Key(e.value)
		p, err := x.v.Peer(peer)
		if err == nil && p == nil {
			err = x.v.s.read("peers", errMissing)
		}
		if err != nil {
			return err
		}
		if err := x.room(4+len(p.Encode()), types.PeerPath(peer)); err != nil {
			return err
		}
		x.c.Peers = append(x.c.Peers, *p)
	}
	return x.path(x.v.Trees().Peers, x.cp.PeersRoot)
}

// path proves that what is under the prefix is all.
func (x *exporter) path(tree trie.Reader, root types.Hash) error {
	p, err := trie.ProveSubtree(tree, root, x.c.Ref.Prefix)
	if err == nil {
		x.c.Under = *p
	}
	return err
}

// take is the first n of what a store has, all of which must be there.
func take[T any](seq iter.Seq2[*T, error], n uint64) ([]T, error) {
	all := make([]T, 0, n)
	for v, err := range seq {
		if err != nil {
			return nil, err
		}
		if all = append(all, *v); uint64(len(all)) == n {
			return all, nil
		}
	}
	return nil, fmt.Errorf("%d entries of %d: %w", len(all), n, errMissing)
}

// numbered is the checkpoint with a number in the history before the view's, or that itself.
func (x *exporter) numbered(number uint64) (*Checkpoint, error) {
	if number == x.cp.HistorySize {
		return x.cp, nil
	}
	if number > x.cp.HistorySize {
		return nil, x.none()
	}
	c, err := x.v.Checkpoint(number * (x.cp.Height / x.cp.HistorySize)) // they are at equal distances
	if err == nil && c == nil {
		err = x.v.s.read("checkpoints", errMissing)
	}
	return c, err
}

func (x *exporter) history() (err error) {
	if x.c.Ref.First >= x.cp.HistorySize {
		return x.none()
	}
	for number := x.c.Ref.First; number < min(x.cp.HistorySize, x.c.Ref.First+x.c.Ref.Kind.Range()); number++ {
		c, err := x.numbered(number)
		if err != nil {
			return err
		}
		h := proof.ChunkCheckpoint{Checkpoint: *c.Checkpoint}
		if c.Events > 0 && c.Events <= proof.MaxShort {
			if h.Events, err = take(x.v.Events(c.First), c.Events); err != nil {
				return err
			}
		}
		x.c.History = append(x.c.History, h)
	}
	x.c.Path, err = tlog.ProveRange(x.v.History(), x.cp.HistorySize, x.c.Ref.First, proof.HistoryLevel)
	return err
}

func (x *exporter) events() error {
	c, err := x.numbered(x.c.Ref.Checkpoint)
	if err != nil {
		return err
	}
	if x.c.Ref.First >= c.Events {
		return x.none()
	}
	if c != x.cp {
		path, err := tlog.ProveInclusion(x.v.History(), x.cp.HistorySize, c.HistorySize)
		if err != nil {
			return err
		}
		x.c.Past = &proof.Past{Checkpoint: *c.Checkpoint, Path: path}
	}
	all, err := take(x.v.Events(c.First), c.Events)
	if err != nil {
		return err
	}
	leaves := make([]types.Hash, len(all))
	for i := range all {
		leaves[i] = tlog.LeafHash(all[i].Encode())
	}
	x.c.Event = all[x.c.Ref.First:min(c.Events, x.c.Ref.First+x.c.Ref.Kind.Range())]
	x.c.Path, err = tlog.RangeOf(leaves, x.c.Ref.First, proof.EventsLevel)
	return err
}

func (x *exporter) story() error {
	n, err := x.v.Name(x.c.Ref.Name)
	if err != nil {
		return err
	}
	if n == nil || x.c.Ref.First >= n.Story.Count {
		return x.none()
	}
	all, err := take(x.v.NameEvents(n.Name, 0), n.Story.Count)
	if err != nil {
		return err
	}
	leaves := make([]types.Hash, len(all))
	for i := range all {
		leaves[i] = tlog.LeafHash(all[i].Encode())
	}
	x.c.Name, x.c.Story = *n, all[x.c.Ref.First:min(n.Story.Count, x.c.Ref.First+x.c.Ref.Kind.Range())]
	x.c.Path, err = tlog.RangeOf(leaves, x.c.Ref.First, proof.LogLevel)
	return errors.Join(err, x.inTrie(x.v.Trees().Names, x.cp.NamesRoot, types.NamePath(n.Name)))
}

func (x *exporter) keyLog() error {
	lock, first := x.c.Ref.Lock, x.c.Ref.First
	log, err := x.v.KeyLog(lock)
	if err != nil {
		return err
	}
	if first >= log.Size() {
		return x.none()
	}
	x.c.Log = logState(log)
	events := []keyEvents{{lock: lock, first: first, count: min(log.Size()-first, x.c.Ref.Kind.Range())}}
	if err := x.v.fillKeyEvents(events); err != nil {
		return err
	}
	x.c.Key = events[0].events
	roots, err := x.v.keyRanges(lock, log)
	if err != nil {
		return err
	}
	x.c.Path, err = tlog.InclusionOf(roots, first>>proof.LogLevel) // of the tree over the ranges
	return errors.Join(err, x.inTrie(x.v.Trees().Keys, x.cp.KeysRoot, types.KeyPath(lock)))
}

func (x *exporter) inTrie(tree trie.Reader, root types.Hash, path trie.Path) error {
	p, err := trie.Prove(tree, root, path)
	if err == nil {
		x.c.Trie = *p
	}
	return err
}

func logState(f tlog.Frontier) types.LogState {
	return types.LogState{Count: f.Size(), Root: f.Root()}
}

// keyRange is how many events of a lock's log are a range.
const keyRange = 1 << proof.LogLevel

func keyRangeKey(lock types.Key, index uint64) []byte { return key(stateKeyRange, lock[:], u64(index)) }

// keyRanges is the roots of all ranges of a lock's log, the last of which may not be full.
func (v *View) keyRanges(lock types.Key, log tlog.Frontier) ([]types.Hash, error) {
	full := log.Size() / keyRange
	roots := make([]types.Hash, 0, full+1)
	for h, err := range values(v, "ranges of a key log", keyRangeKey(lock, 0), keyRangeKey(lock, full), decodeHash) {
		if err != nil {
			return nil, err
		}
		roots = append(roots, *h)
	}
	if uint64(len(roots)) != full {
		return nil, v.s.read("ranges of a key log", errMissing)
	}
	if tail := log.Tail(proof.LogLevel); tail.Size() > 0 {
		roots = append(roots, tail.Root())
	}
	return roots, nil
}

// addKeyRanges keeps the roots of the ranges of key logs that are full now. It comes before addKeys: it reads where the
// logs stood before.
func (b *Batch) addKeyRanges(c *ledger.Changes, w *ledger.Writes) error {
	grown := make(map[types.Key][]types.Hash) // of the logs that may be long, the leaves that are new
	for i := range w.KeyLogs {
		if l := &w.KeyLogs[i]; l.Frontier.Size() >= keyRange {
			grown[l.Lock] = nil
		}
	}
	if len(grown) == 0 {
		return nil
	}
	for i := range c.Keys {
		if leaves, long := grown[c.Keys[i].Output.Lock]; long {
			grown[c.Keys[i].Output.Lock] = append(leaves, tlog.LeafHash(c.Keys[i].Encode()))
		}
	}
	for lock, leaves := range grown {
		log, err := b.View.KeyLog(lock)
		if err != nil {
			return err
		}
		tail := log.Tail(proof.LogLevel)
		for index := log.Size() / keyRange; tail.Size()+uint64(len(leaves)) >= keyRange; index++ {
			n := keyRange - tail.Size()
			root := tail.Append(leaves[:n]...).Root()
			if err := b.set(keyRangeKey(lock, index), root[:]); err != nil {
				return err
			}
			tail, leaves = tlog.Frontier{}, leaves[n:]
		}
	}
	return nil
}
