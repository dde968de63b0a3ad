package store

import (
	"bytes"
	"errors"
	"fmt"

	"charter/forest"
	"charter/ledger"
	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// The trees are kept in pages. A Batch has the pages that it changed, and writes each once, when it is
// committed; below that there is one cache of decoded pages, which only batches read and change, and there
// is one of them at a time: so it never shows a Snapshot, which reads the disk, what came after it.

// pageCache keeps decoded pages up to about a number of bytes: those used last, in two generations, of
// which the older is dropped when the younger has half of the bytes.
type pageCache[K comparable, P any] struct {
	limit      int
	bytes      int // of young
	young, old map[K]P
	size       func(P) int
}

func newPageCache[K comparable, P any](limit int64, size func(P) int) *pageCache[K, P] {
	return &pageCache[K, P]{limit: int(limit), young: map[K]P{}, size: size}
}

func (c *pageCache[K, P]) get(k K) (P, bool) {
	p, ok := c.young[k]
	if !ok {
		if p, ok = c.old[k]; ok {
			c.put(k, p)
		}
	}
	return p, ok
}

func (c *pageCache[K, P]) put(k K, p P) {
	if was, ok := c.young[k]; ok {
		c.bytes -= c.size(was)
	} else if c.bytes > c.limit/2 {
		c.old, c.young, c.bytes = c.young, make(map[K]P, len(c.young)), 0
	}
	c.young[k] = p
	c.bytes += c.size(p)
}

func (c *pageCache[K, P]) remove(k K) {
	if was, ok := c.young[k]; ok {
		c.bytes -= c.size(was)
		delete(c.young, k)
	}
	delete(c.old, k)
}

// caches is the cached pages of the trees.
type caches struct {
	outputs            *pageCache[forest.PageID, *forest.Page]
	keys, names, peers *pageCache[trie.NodeID, *trie.Page]
}

// newCaches has for the keys tree, which is the largest, as many bytes as given, and half of that again for the others.
func newCaches(limit int64) caches {
	pages := func(limit int64) *pageCache[trie.NodeID, *trie.Page] {
		return newPageCache[trie.NodeID](limit, (*trie.Page).Bytes)
	}
	return caches{
		outputs: newPageCache[forest.PageID](limit/4, func(*forest.Page) int { return forest.PageBytes }),
		keys:    pages(limit), names: pages(limit / 8), peers: pages(limit / 8),
	}
}

// seeker reads the keys of one space of the state, as it is when it first reads. For many keys in
// about ascending order it does with a fraction of the work of as many gets.
type seeker struct {
	db    *pebble.DB
	space byte
	it    *pebble.Iterator
}

// get is the value of a key, good until the next is asked for, or nil.
func (s *seeker) get(key []byte) ([]byte, error) {
	if s.it == nil {
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{s.space}, UpperBound: []byte{s.space + 1}})
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

// trieNodes is a stored trie. It is a trie.PageReader.
type trieNodes struct {
	v     *View
	space byte
}

// Page is the page of a slot.
func (t trieNodes) Page(slot trie.NodeID) (*trie.Page, error) {
	data, err := get(t.v.r, t.key(slot))
	return t.decode(slot, data, err)
}

func (t trieNodes) key(slot trie.NodeID) []byte { return key(t.space, slot.Encode()) }

func (t trieNodes) decode(slot trie.NodeID, data []byte, err error) (p *trie.Page, _ error) {
	if err == nil && data == nil {
		err = errMissing
	}
	if err == nil {
		p, err = trie.DecodePage(slot, data)
	}
	if err != nil {
		return nil, t.v.s.read(fmt.Sprintf("trie %c page %s", t.space, slot), err)
	}
	return p, nil
}

// Node is the node in a slot.
func (t trieNodes) Node(slot trie.NodeID) (trie.Node, error) {
	n, ok, err := trie.PageNode(t, slot)
	if err == nil && !ok {
		err = t.v.s.read(fmt.Sprintf("trie %c slot %s", t.space, slot), errMissing)
	}
	return n, err
}

// batchTrie is a trie as it is in a Batch.
type batchTrie struct {
	trieNodes
	below   seeker
	cache   *pageCache[trie.NodeID, *trie.Page]
	changed map[trie.NodeID]*trie.Page // nil: the page is gone
}

func (t *batchTrie) Page(slot trie.NodeID) (*trie.Page, error) {
	if p := t.changed[slot]; p != nil {
		return p, nil
	}
	if p, ok := t.cache.get(slot); ok {
		return p, nil
	}
	data, err := t.below.get(t.key(slot))
	p, err := t.decode(slot, data, err)
	if err == nil {
		t.cache.put(slot, p)
	}
	return p, err
}

func (t *batchTrie) add(r *trie.Result) {
	for _, slot := range r.Deletes {
		t.changed[slot] = nil
	}
	for _, w := range r.Pages {
		t.changed[w.ID] = w.Page
	}
}

// write puts the changed pages into the engine's batch.
func (t *batchTrie) write(b *Batch) error {
	for slot, p := range t.changed {
		k := t.key(slot)
		var err error
		if p == nil {
			err = b.b.Delete(k, nil)
		} else {
			err = b.set(k, p.Encode(slot))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// keep moves the changed pages to the cache: they are those of the state now.
func (t *batchTrie) keep() {
	for slot, p := range t.changed {
		if p == nil {
			t.cache.remove(slot)
		} else {
			t.cache.put(slot, p)
		}
	}
}

// outputNodes is the stored tree of outputs. It is a forest.Reader.
type outputNodes struct{ v *View }

func outputsKey(id forest.PageID) []byte { return nodeKey(stateForest, id.Level, id.Index) }

func (t outputNodes) page(id forest.PageID) (*forest.Page, error) {
	return lookup(t.v, "tree of outputs", outputsKey(id), forest.DecodePage)
}

// Node is the root of the complete subtree over positions [index·2^level, (index+1)·2^level).
func (t outputNodes) Node(level uint8, index uint64) (types.Hash, error) {
	p, err := t.page(forest.PageOf(level, index))
	if err != nil {
		return types.Hash{}, err
	}
	return t.in(p, level, index)
}

// in is a node of its page, which may be nil.
func (t outputNodes) in(p *forest.Page, level uint8, index uint64) (types.Hash, error) {
	if p != nil {
		if h, ok := p.Node(level, index); ok {
			return h, nil
		}
	}
	return types.Hash{}, t.v.s.read(fmt.Sprintf("tree of outputs, node %d/%d", level, index), errMissing)
}

// batchOutputs is the tree of outputs as it is in a Batch.
type batchOutputs struct {
	outputNodes
	below   seeker
	cache   *pageCache[forest.PageID, *forest.Page]
	changed map[forest.PageID]*forest.Page
	lastID  forest.PageID // read last: the next node is often in the same page
	last    *forest.Page
}

// page is the page, nil if there is none.
func (t *batchOutputs) page(id forest.PageID) (p *forest.Page, _ error) {
	if t.last != nil && t.lastID == id {
		return t.last, nil
	}
	if p = t.changed[id]; p == nil {
		if p, _ = t.cache.get(id); p == nil {
			data, err := t.below.get(outputsKey(id))
			if err == nil && data != nil {
				p, err = forest.DecodePage(data)
			}
			if err != nil {
				return nil, t.v.s.read("tree of outputs", err)
			}
			if p != nil {
				t.cache.put(id, p)
			}
		}
	}
	if p != nil {
		t.last, t.lastID = p, id
	}
	return p, nil
}

func (t *batchOutputs) Node(level uint8, index uint64) (types.Hash, error) {
	p, err := t.page(forest.PageOf(level, index))
	if err != nil {
		return types.Hash{}, err
	}
	return t.in(p, level, index)
}

func (t *batchOutputs) add(writes []forest.NodeWrite) error {
	for _, w := range writes {
		id := forest.PageOf(w.Level, w.Index)
		p := t.changed[id]
		if p == nil {
			old, err := t.page(id)
			if err != nil {
				return err
			}
			p = new(forest.Page)
			if old != nil {
				*p = *old
			}
			t.changed[id], t.last = p, nil
		}
		p.Set(w)
	}
	return nil
}

func (t *batchOutputs) write(b *Batch) error {
	for id, p := range t.changed {
		if err := b.set(outputsKey(id), p.Encode()); err != nil {
			return err
		}
	}
	return nil
}

func (t *batchOutputs) keep() {
	for id, p := range t.changed {
		t.cache.put(id, p)
	}
}

// batchTrees is the trees as they are in a Batch.
type batchTrees struct {
	outputs            batchOutputs
	keys, names, peers batchTrie
}

// newBatchTrees reads what a batch did not change from the state below it.
func newBatchTrees(below *View, e *engine, c *caches) *batchTrees {
	pages := func(space byte, cache *pageCache[trie.NodeID, *trie.Page]) batchTrie {
		return batchTrie{trieNodes{below, space}, seeker{db: e.db, space: space}, cache, map[trie.NodeID]*trie.Page{}}
	}
	return &batchTrees{
		outputs: batchOutputs{outputNodes: outputNodes{below}, below: seeker{db: e.db, space: stateForest}, cache: c.outputs, changed: map[forest.PageID]*forest.Page{}},
		keys:    pages(stateKeys, c.keys), names: pages(stateNames, c.names), peers: pages(statePeers, c.peers),
	}
}

// close lets go of the state below.
func (t *batchTrees) close() error {
	return errors.Join(t.outputs.below.close(), t.keys.below.close(), t.names.below.close(), t.peers.below.close())
}

func (t *batchTrees) add(w *ledger.Writes) error {
	t.keys.add(&w.Keys)
	t.names.add(&w.Names)
	t.peers.add(&w.Peers)
	return t.outputs.add(w.Outputs)
}

func (t *batchTrees) write(b *Batch) error {
	for _, write := range []func(*Batch) error{t.outputs.write, t.keys.write, t.names.write, t.peers.write} {
		if err := write(b); err != nil {
			return err
		}
	}
	return nil
}

func (t *batchTrees) keep() {
	t.outputs.keep()
	t.keys.keep()
	t.names.keep()
	t.peers.keep()
}
