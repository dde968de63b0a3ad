package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"charter/forest"
	"charter/ledger"
	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// The trees are kept in pages, and pages are written behind (behind.go): what the disk has of a tree may be
// older than the state, and what is newer is in memory. A read goes down these steps, as far as it must:
//
//	changed   what the Batch at work has changed, for itself alone
//	past      for a Snapshot, pages that were replaced after it
//	held      pages in memory: all that are newer than on the disk, and others as long as there is room
//	disk
//
// Pages never change, so all of these share them.

// table is the pages of one tree as of the newest state.
type table[K comparable, P any] struct {
	name   string
	class  func(K) int // which pages are written together; gridClass: never
	key    func(K) []byte
	encode func([]byte, K, *P) []byte // appends
	decode func(K, []byte) (*P, error)
	size   func(*P) int
	limit  int // bytes

	mu    sync.Mutex
	held  [classes + 1]map[K]*held[P]
	bytes int // of held
	dirty int // bytes, of those in held
	sweep int // class in which room is made next

	// These change with Store.state.mu held.
	past  []map[K]step[P] // what the commits changed, from the one after the oldest Snapshot on
	first uint64          // version that past[0] led to
}

// held is a page in memory.
type held[P any] struct {
	page  *P    // nil: the page is gone, and is still on the disk
	size  int32 // bytes; here, so that nobody has to look at an old page
	dirty bool  // it is not as on the disk
	used  bool  // since room was last made in its class
}

// step is what became of a page. Nil is no page.
type step[P any] struct{ page, was *P }

// now is a page of the newest state, if it is in memory; nil if it is known that there is none.
func (t *table[K, P]) now(k K) (p *P, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.held[t.class(k)][k]
	if h == nil {
		return nil, false
	}
	h.used = true
	return h.page, true
}

// at is a page as of a version, if it is in memory.
func (t *table[K, P]) at(version uint64, k K) (p *P, known bool) {
	for _, steps := range t.past[min(max(version+1, t.first)-t.first, uint64(len(t.past))):] {
		if s, ok := steps[k]; ok {
			return s.was, true
		}
	}
	return t.now(k)
}

// read is a page from the disk, nil if it has none.
func (t *table[K, P]) read(k K, data []byte, err error) (*P, error) {
	if err != nil || data == nil {
		return nil, err
	}
	return t.decode(k, data)
}

// hold puts in a page that was read from the disk.
func (t *table[K, P]) hold(k K, p *P) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := &held[P]{page: p, size: int32(t.size(p))}
	t.enter(k, h)
	t.count(h, 1)
	t.makeRoom()
}

func (t *table[K, P]) enter(k K, h *held[P]) {
	c := t.class(k)
	if t.held[c] == nil {
		t.held[c] = map[K]*held[P]{}
	}
	t.held[c][k] = h
}

// makeRoom drops clean pages that were not used since the last time, class by class, when there are
// too many, and some more, so that it has not to go over them again at once.
func (t *table[K, P]) makeRoom() {
	if t.bytes <= t.limit {
		return
	}
	for n := 0; n < 2*classes && t.bytes > t.limit-t.limit/32; n++ {
		for k, h := range t.held[t.sweep] {
			if !h.dirty && !h.used {
				t.count(h, -1)
				delete(t.held[t.sweep], k)
			}
			h.used = false
		}
		t.sweep = (t.sweep + 1) % classes
	}
}

// keep makes what a batch changed a part of the newest state, which gets this version.
func (t *table[K, P]) keep(version uint64, steps map[K]step[P], pinned bool) {
	switch {
	case !pinned:
		t.past = nil
	case len(t.past) == 0:
		t.first = version
		fallthrough
	default:
		t.past = append(t.past, steps)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for k, s := range steps {
		c := t.class(k)
		h := t.held[c][k]
		if h == nil {
			h = new(held[P])
			t.enter(k, h)
		}
		t.count(h, -1)
		*h = held[P]{page: s.page, dirty: c != gridClass, used: true}
		if s.page != nil {
			h.size = int32(t.size(s.page))
			t.count(h, 1)
		} else if c == gridClass {
			delete(t.held[c], k)
		}
	}
	t.makeRoom()
}

// count adds or takes away the bytes of a page.
func (t *table[K, P]) count(h *held[P], sign int) {
	n := sign * int(h.size)
	if t.bytes += n; h.dirty {
		t.dirty += n
	}
}

// forget drops the steps up to a version.
func (t *table[K, P]) forget(version uint64) {
	for len(t.past) > 0 && t.first <= version {
		t.past[0] = nil
		t.past, t.first = t.past[1:], t.first+1
	}
}

// write puts the dirty pages of a class into an engine's batch: they are clean then.
func (t *table[K, P]) write(b *pebble.Batch, class int) error {
	type entry struct {
		key []byte
		k   K
		*held[P]
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var entries []entry
	for k, h := range t.held[class] {
		if h.dirty {
			entries = append(entries, entry{t.key(k), k, h})
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	var buffer []byte
	for _, e := range entries {
		e.dirty = false
		if e.page == nil {
			delete(t.held[class], e.k)
			if err := b.Delete(e.key, nil); err != nil {
				return err
			}
			continue
		}
		t.dirty -= int(e.size)
		buffer = t.encode(buffer[:0], e.k, e.page)
		if err := b.Set(e.key, buffer, nil); err != nil {
			return err
		}
	}
	return nil
}

// full reports whether there is too little room for clean pages.
func (t *table[K, P]) full() bool { return t.dirty > t.limit/8*7 }

type (
	trieTable    = table[trie.NodeID, trie.Page]
	outputsTable = table[forest.PageID, forest.Page]
)

// holdBytes is about what it takes to hold a page, besides itself.
const holdBytes = 80

func newTrieTable(name string, space byte, limit int64) *trieTable {
	return &trieTable{
		name: name,
		class: func(slot trie.NodeID) int {
			if shard, ok := slot.Shard(); ok {
				return int(shard)
			}
			return gridClass
		},
		key:    func(slot trie.NodeID) []byte { return key(space, slot.Encode()) },
		encode: func(data []byte, slot trie.NodeID, p *trie.Page) []byte { return p.Append(data, slot) },
		decode: trie.DecodePage,
		size:   func(p *trie.Page) int { return p.Bytes() + holdBytes },
		limit:  int(limit),
	}
}

func newOutputsTable(limit int64) *outputsTable {
	return &outputsTable{
		name:   "tree of outputs",
		class:  func(id forest.PageID) int { return int(id.Index/64) % classes },
		key:    func(id forest.PageID) []byte { return nodeKey(stateForest, id.Level, id.Index) },
		encode: func(data []byte, _ forest.PageID, p *forest.Page) []byte { return append(data, p.Encode()...) },
		decode: func(_ forest.PageID, data []byte) (*forest.Page, error) { return forest.DecodePage(data) },
		size:   func(*forest.Page) int { return forest.PageBytes + holdBytes },
		limit:  int(limit),
	}
}

// tables is the pages of all trees.
type tables struct {
	outputs            *outputsTable
	keys, names, peers *trieTable
}

// newTables has for the keys tree, which is the largest, two and a half times as many bytes as given.
func newTables(limit int64) tables {
	return tables{
		outputs: newOutputsTable(limit), keys: newTrieTable("keys tree", stateKeys, limit*5/2),
		names: newTrieTable("names tree", stateNames, limit/8), peers: newTrieTable("peers tree", statePeers, limit/8),
	}
}

func (t *tables) forget(version uint64) {
	t.outputs.forget(version)
	t.keys.forget(version)
	t.names.forget(version)
	t.peers.forget(version)
}

// viewPage is a page as of a view, nil if there is none.
func viewPage[K comparable, P any](v *View, t *table[K, P], k K) (*P, error) {
	v.s.state.mu.RLock()
	defer v.s.state.mu.RUnlock()
	p, known := t.at(v.head.version, k)
	if known {
		return p, nil
	}
	data, err := get(v.s.state.db, t.key(k))
	p, err = t.read(k, data, err)
	return p, v.s.read(t.name, err)
}

// trieNodes is a trie as of a view. It is a trie.PageReader.
type trieNodes struct {
	v *View
	t *trieTable
}

// Page is the page of a slot.
func (n trieNodes) Page(slot trie.NodeID) (*trie.Page, error) {
	p, err := viewPage(n.v, n.t, slot)
	if err == nil && p == nil {
		err = n.v.s.read(fmt.Sprintf("%s, page %s", n.t.name, slot), errMissing)
	}
	return p, err
}

// Node is the node in a slot.
func (n trieNodes) Node(slot trie.NodeID) (trie.Node, error) { return n.v.s.trieNode(n, n.t, slot) }

func (s *Store) trieNode(r trie.PageReader, t *trieTable, slot trie.NodeID) (trie.Node, error) {
	n, ok, err := trie.PageNode(r, slot)
	if err == nil && !ok {
		err = s.read(fmt.Sprintf("%s, slot %s", t.name, slot), errMissing)
	}
	return n, err
}

// outputNodes is the tree of outputs as of a view. It is a forest.Reader.
type outputNodes struct {
	v *View
	t *outputsTable
}

// Node is the root of the complete subtree over positions [index·2^level, (index+1)·2^level).
func (n outputNodes) Node(level uint8, index uint64) (types.Hash, error) {
	p, err := viewPage(n.v, n.t, forest.PageOf(level, index))
	if err != nil {
		return types.Hash{}, err
	}
	return n.v.s.outputNode(p, level, index)
}

// outputNode is a node of its page, which may be nil.
func (s *Store) outputNode(p *forest.Page, level uint8, index uint64) (types.Hash, error) {
	if p != nil {
		if h, ok := p.Node(level, index); ok {
			return h, nil
		}
	}
	return types.Hash{}, s.read(fmt.Sprintf("tree of outputs, node %d/%d", level, index), errMissing)
}

// seeker reads keys of the state as it is when it first reads. For many keys in
// about ascending order it does with a fraction of the work of as many gets.
type seeker struct {
	db *pebble.DB
	it *pebble.Iterator
}

// get is the value of a key, good until the next is asked for, or nil.
func (s *seeker) get(key []byte) ([]byte, error) {
	if s.it == nil {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key[:1], UpperBound: []byte{key[0] + 1}})
		if err != nil {
			return nil, err
		}
		s.it = it
	}
	if !s.it.SeekGE(key) || !bytes.Equal(s.it.Key(), key) {
		return nil, s.it.Error()
	}
	return s.it.ValueAndErr()
}

func (s *seeker) close() (err error) {
	if s.it != nil {
		err = s.it.Close()
		s.it = nil
	}
	return err
}

// batchPages is the pages of a tree as they are in a Batch.
type batchPages[K comparable, P any] struct {
	s       *Store
	t       *table[K, P]
	below   seeker
	changed map[K]step[P]
}

func newBatchPages[K comparable, P any](s *Store, t *table[K, P]) batchPages[K, P] {
	return batchPages[K, P]{s: s, t: t, below: seeker{db: s.state.db}, changed: map[K]step[P]{}}
}

// page is the page, nil if there is none.
func (b *batchPages[K, P]) page(k K) (*P, error) {
	if s, ok := b.changed[k]; ok {
		return s.page, nil
	}
	p, known := b.t.now(k)
	if known {
		return p, nil
	}
	data, err := b.below.get(b.t.key(k))
	if p, err = b.t.read(k, data, err); err != nil {
		return nil, b.s.read(b.t.name, err)
	}
	if p != nil {
		b.t.hold(k, p)
	}
	return p, nil
}

// batchTrie is a trie as it is in a Batch. It is a trie.PageReader.
type batchTrie struct {
	batchPages[trie.NodeID, trie.Page]
}

func (b *batchTrie) Page(slot trie.NodeID) (*trie.Page, error) {
	p, err := b.page(slot)
	if err == nil && p == nil {
		err = b.s.read(fmt.Sprintf("%s, page %s", b.t.name, slot), errMissing)
	}
	return p, err
}

func (b *batchTrie) Node(slot trie.NodeID) (trie.Node, error) { return b.s.trieNode(b, b.t, slot) }

func (b *batchTrie) add(r *trie.Result) {
	fresh := len(b.changed) == 0
	if fresh {
		b.changed = make(map[trie.NodeID]step[trie.Page], len(r.Pages))
	}
	for i := range r.Pages {
		w := &r.Pages[i]
		was := w.Was
		if !fresh {
			if s, ok := b.changed[w.ID]; ok {
				was = s.was
			}
		}
		b.changed[w.ID] = step[trie.Page]{w.Page, was}
	}
}

// batchOutputs is the tree of outputs as it is in a Batch. It is a forest.Reader.
type batchOutputs struct {
	batchPages[forest.PageID, forest.Page]
	lastID forest.PageID // read last: the next node is often in the same page
	last   *forest.Page
}

func (b *batchOutputs) Node(level uint8, index uint64) (_ types.Hash, err error) {
	if id := forest.PageOf(level, index); b.last == nil || b.lastID != id {
		if b.last, err = b.page(id); err != nil {
			return types.Hash{}, err
		}
		b.lastID = id
	}
	return b.s.outputNode(b.last, level, index)
}

// add puts in what forest.Update wrote. Pages that are of this batch already are changed in place.
func (b *batchOutputs) add(writes []forest.NodeWrite) error {
	b.last = nil
	for _, w := range writes {
		id := forest.PageOf(w.Level, w.Index)
		s, ok := b.changed[id]
		if !ok {
			was, err := b.page(id)
			if err != nil {
				return err
			}
			s = step[forest.Page]{new(forest.Page), was}
			if was != nil {
				*s.page = *was
			}
			b.changed[id] = s
		}
		s.page.Set(w)
	}
	return nil
}

// batchTrees is the trees as they are in a Batch, and the record of what changed in them.
type batchTrees struct {
	outputs            batchOutputs
	keys, names, peers batchTrie
	record             record
}

func newBatchTrees(s *Store) *batchTrees {
	t := &s.state.tables
	return &batchTrees{
		outputs: batchOutputs{batchPages: newBatchPages(s, t.outputs)},
		keys:    batchTrie{newBatchPages(s, t.keys)}, names: batchTrie{newBatchPages(s, t.names)}, peers: batchTrie{newBatchPages(s, t.peers)},
	}
}

// close lets go of the state below.
func (t *batchTrees) close() error {
	return errors.Join(t.outputs.below.close(), t.keys.below.close(), t.names.below.close(), t.peers.below.close())
}

func (t *batchTrees) add(w *ledger.Writes) error {
	t.record.add(w)
	t.keys.add(&w.Keys)
	t.names.add(&w.Names)
	t.peers.add(&w.Peers)
	return t.outputs.add(w.Outputs)
}

// keep makes what is in the batch the newest state.
func (t *batchTrees) keep(version uint64, pinned bool) {
	t.outputs.t.keep(version, t.outputs.changed, pinned)
	t.keys.t.keep(version, t.keys.changed, pinned)
	t.names.t.keep(version, t.names.changed, pinned)
	t.peers.t.keep(version, t.peers.changed, pinned)
}
