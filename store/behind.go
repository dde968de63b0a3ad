package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"charter/forest"
	"charter/ledger"
	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// Pages are written behind. A commit writes, in one engine's batch with all else, a record of the paths and
// leaves that it changed, which is a fraction of the pages that these are in, and the pages of a few
// classes: all classes in turn, over and over. When all have been written since a record, it is not needed and goes.
//
//	commits         1  2  3  4  5  6  7  8      time →
//	records            ·  ·  ▪  ▪  ▪  ▪  ▪      those that are still there
//	pages of class  0  1  2  3  0  1  2  3      (of four; 0 to 3 are as of commits 5 to 8)
//
// So on the disk each class is of another time, none older than the oldest record. When a store is opened the
// records are replayed, on all of them: each path and leaf gets the last value that any record gives it. That
// brings every class to the newest state, wherever it stood, because
//
//   - a trie's shard is a trie by itself, and its root follows from its paths and values alone; the grid above is
//     not stored but made of the shards;
//   - a node of the tree of outputs that has no changed leaf below is right in whatever page it is, and the others
//     are made again from the leaves up;
//
// and the roots must come out as those that the state says, or the store is damaged.
const (
	classes   = trie.Shards
	gridClass = classes

	// turn is after about how many changes of paths and leaves all classes have been written. It bounds the records,
	// to some 40 MB, and so the time to open a store. The more, the fewer times a page is written.
	turn = 1 << 19
)

// behind is how far pages are written.
type behind struct {
	turn    int             // Options.turn
	class   int             // to be written next
	owed    int             // changes that have not moved it on
	written [classes]uint64 // up to which record each class is written
	first   uint64          // record, of those that are there
	next    uint64          // record
}

// record is what a commit changed in the trees.
type record struct {
	outputs uint64           // how many there were before
	tries   [3][]trie.Change // of keys, names and peers; of two with a path in common the latter counts
	leaves  []forest.Change  // of the tree of outputs, new ones too; likewise
}

func (r *record) add(w *ledger.Writes) {
	for i, changes := range [3][]trie.Change{w.Keys.Changes, w.Names.Changes, w.Peers.Changes} {
		r.tries[i] = append(r.tries[i], changes...)
	}
	for _, n := range w.Outputs {
		if n.Level == 0 {
			r.leaves = append(r.leaves, forest.Change{Index: n.Index, Leaf: n.Hash})
		}
	}
}

// size is how many changes it has.
func (r *record) size() int {
	return len(r.tries[0]) + len(r.tries[1]) + len(r.tries[2]) + len(r.leaves)
}

func (r *record) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 32+64*r.size()))
	e.U64(r.outputs)
	for _, changes := range r.tries {
		e.Count32(len(changes))
		for i := range changes {
			e.Raw(changes[i].Path[:])
			e.Hash(changes[i].Value)
		}
	}
	e.Count32(len(r.leaves))
	for i := range r.leaves {
		e.U64(r.leaves[i].Index)
		e.Hash(r.leaves[i].Leaf)
	}
	return e.Data()
}

// maxRecord is more changes than a batch can have.
const maxRecord = 1 << 28

func decodeRecord(data []byte) (*record, error) {
	d := types.NewDecoder("record of the trees", data)
	r := &record{outputs: d.U64("outputs")}
	for i := range r.tries {
		for range d.Count32("changes", maxRecord, 64) {
			r.tries[i] = append(r.tries[i], trie.Change{Path: d.Hash("path"), Value: d.Hash("value")})
		}
	}
	for range d.Count32("leaves", maxRecord, 40) {
		r.leaves = append(r.leaves, forest.Change{Index: d.U64("index"), Leaf: d.Hash("leaf")})
	}
	return r, d.Finish()
}

func (t *tables) write(b *pebble.Batch, class int) error {
	if err := t.outputs.write(b, class); err != nil {
		return err
	}
	for _, t := range t.tries() {
		if err := t.write(b, class); err != nil {
			return err
		}
	}
	return nil
}

func (t *tables) tries() [3]*trieTable { return [3]*trieTable{t.keys, t.names, t.peers} }

func (t *tables) full() bool {
	return t.outputs.full() || t.keys.full() || t.names.full() || t.peers.full()
}

// writeBehind puts the record of a commit, whose pages are dirty already, and the pages whose turn
// it is into the engine's batch.
func (s *stateStore) writeBehind(b *pebble.Batch, r *record) error {
	w := &s.behind
	if r.size() > 0 {
		if err := b.Set(key(stateRecord, u64(w.next)), r.encode(), nil); err != nil {
			return err
		}
		w.next++
		w.owed += r.size()
	}
	for n := 0; n < classes && (w.owed*classes >= w.turn && w.owed > 0 || s.tables.full()); n++ {
		if err := s.tables.write(b, w.class); err != nil {
			return err
		}
		w.written[w.class] = w.next
		w.class = (w.class + 1) % classes
		w.owed -= min(w.owed, max(1, w.turn/classes))
	}
	for ; w.first < w.written[w.class]; w.first++ {
		if err := b.Delete(key(stateRecord, u64(w.first)), nil); err != nil {
			return err
		}
	}
	return nil
}

// openTrees reads what of the trees is held in memory, and replays the records.
func (s *Store) openTrees() error {
	st := &s.state
	st.behind = behind{turn: s.opts.turn, first: 1, next: 1}
	var all *record
	for e, err := range scan(st.db, []byte{stateRecord}, []byte{stateRecord + 1}) {
		if err != nil {
			return err
		}
		r, err := decodeRecord(e.value)
		if err != nil || len(e.key) != 9 {
			return fmt.Errorf("record %x: %w", e.key, cmp.Or(err, errMissing))
		}
		st.behind.next = binary.BigEndian.Uint64(e.key[1:]) + 1
		if all == nil {
			all, st.behind.first = r, st.behind.next-1
			continue
		}
		for i := range all.tries {
			all.tries[i] = append(all.tries[i], r.tries[i]...)
		}
		all.leaves = append(all.leaves, r.leaves...)
	}
	for i := range st.behind.written {
		st.behind.written[i] = st.behind.first
	}
	if all == nil {
		all = &record{outputs: st.head.ledger().Outputs}
	}
	return s.replay(all)
}

// replay brings the trees, of which the disk has parts of several times, to the newest state.
func (s *Store) replay(all *record) error {
	b := newBatchTrees(s)
	state := s.state.head.ledger()
	want := [3]types.Hash{state.KeysRoot, state.NamesRoot, state.PeersRoot}
	for i, t := range []*batchTrie{&b.keys, &b.names, &b.peers} {
		root, err := t.openGrid()
		if err != nil {
			return err
		}
		res, err := trie.Update(t, root, lastChanges(all.tries[i]))
		if err != nil {
			return err
		}
		t.add(&res)
		if res.Root != want[i] {
			return fmt.Errorf("the %s has root %s, and the state says %s: %w", t.t.name, res.Root, want[i], errOther)
		}
	}
	if err := b.outputs.replay(all, state); err != nil {
		return err
	}
	if err := b.close(); err != nil {
		return err
	}
	b.keep(s.state.head.version, false)
	return nil
}

// openGrid makes the pages above the shards.
func (b *batchTrie) openGrid() (types.Hash, error) {
	var shards [trie.Shards]*trie.Page
	for i := range shards {
		var err error
		if shards[i], err = b.page(trie.ShardTop(byte(i))); err != nil {
			return types.Hash{}, err
		}
	}
	root, grid := trie.Grid(&shards)
	b.add(&trie.Result{Pages: grid})
	return root, nil
}

// lastChanges is the last change of each path.
func lastChanges(changes []trie.Change) []trie.Change {
	last := make(map[trie.Path]types.Hash, len(changes))
	for i := range changes {
		last[changes[i].Path] = changes[i].Value
	}
	changes = changes[:0]
	for path, value := range last {
		changes = append(changes, trie.Change{Path: path, Value: value})
	}
	return changes
}

func (b *batchOutputs) replay(all *record, state *ledger.State) error {
	last := make(map[uint64]types.Hash, len(all.leaves))
	for _, l := range all.leaves {
		last[l.Index] = l.Leaf
	}
	var changes []forest.Change
	var appends []types.Hash
	for _, index := range slices.Sorted(maps.Keys(last)) {
		switch next := all.outputs + uint64(len(appends)); {
		case index < all.outputs:
			changes = append(changes, forest.Change{Index: index, Leaf: last[index]})
		case index == next:
			appends = append(appends, last[index])
		default:
			return fmt.Errorf("the records have output %d, and not %d: %w", index, next, errOther)
		}
	}
	res, err := forest.Update(b, all.outputs, changes, appends)
	if err == nil {
		err = b.add(res.Writes)
	}
	if err == nil && (res.Size != state.Outputs || res.Root != state.OutputsRoot) {
		err = fmt.Errorf("the tree of outputs has %d and root %s, and the state says %d, %s: %w", res.Size, res.Root, state.Outputs, state.OutputsRoot, errOther)
	}
	return err
}
