package store

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"charter/ledger"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// The keys of the state. Numbers are 8 bytes, big-endian. Nothing is kept that can be told from
// something else at the cost of one more read: a key's event is a few bytes that point to
// the output and the transaction that it is about.
//
//	'm'                        where the state stands (head)
//	'B'                        what consensus needs for a restart, opaque here
//	'd' height                 its anchor (zero: empty), and the number of the next event
//	'e' number                 an event; events are numbered from 0 in order of application
//	'x' transaction id         number of its latest event
//	'o' position               an output
//	'k' lock, number           an event of a lock, numbered from 0 for each lock (keyEntry)
//	'f' path in the keys tree  a lock, and the frontier of the log of its events
//	'l' lock, index            root of a full range of a long log of a lock (export.go)
//	'q' peer                   a peer
//	'n' name                   who holds it
//	'g' name                   frontier of its story
//	'G' length, name, number   an event of its story
//	'c' height                 number of the first event under it, and the checkpoint
//	'C' height                 a certificate of that checkpoint
//	'S' height                 a snapshot
//	'F' level, index           page of the outputs tree
//	'H' level, index           node of the history
//	'K' 'N' 'P' slot           page of the keys, names and peers trees
//	'i' path in the names tree its name
//	'j' path in the peers tree its peer
//	'z'                        the height of the checkpoint that the state was imported at, if it was (import.go)
//	'I' and more               where an import stands (import.go)
//	'L' number                 what a commit changed in the trees, as long as their pages may be older (behind.go)
const (
	stateHead       = 'm'
	stateBase       = 'B'
	stateDecided    = 'd'
	stateEvent      = 'e'
	stateEventOf    = 'x'
	stateOutput     = 'o'
	stateKeyEvent   = 'k'
	stateKeyLog     = 'f'
	stateKeyRange   = 'l'
	statePeer       = 'q'
	stateName       = 'n'
	stateStory      = 'g'
	stateNameEvent  = 'G'
	stateCheckpoint = 'c'
	stateCert       = 'C'
	stateSnapshot   = 'S'
	stateForest     = 'F'
	stateHistory    = 'H'
	stateKeys       = 'K'
	stateNames      = 'N'
	statePeers      = 'P'
	stateNamePath   = 'i'
	statePeerPath   = 'j'
	stateJoined     = 'z'
	stateImport     = 'I'
	stateRecord     = 'L'
)

// head is where the state stands. The zero head is before genesis.
type head struct {
	decided uint64 // heights below this one are decided and applied
	events  uint64 // how many events there were
	settled uint64 // how many of them are under checkpoints
	blocks  uint64 // the log's next sequence number when this was committed: it never has fewer
	version uint64 // how many commits there were since the store was opened; not stored
	state   *ledger.State
}

// maxState bounds the ledger's state, most of which is who saw whom since the last snapshot.
const maxState = 4 << 20

func (h *head) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 1024))
	e.U64(h.decided)
	e.U64(h.events)
	e.U64(h.settled)
	e.U64(h.blocks)
	e.Bytes(h.state.Encode())
	return e.Data()
}

func decodeHead(data []byte) (*head, error) {
	d := types.NewDecoder("head", data)
	h := &head{decided: d.U64("decided"), events: d.U64("events"), settled: d.U64("settled"), blocks: d.U64("blocks")}
	state := d.Bytes("state", maxState)
	if h.settled > h.events {
		d.Fail(types.NotCanonical, "settled")
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	var err error
	h.state, err = ledger.DecodeState(state)
	return h, err
}

// ledger is the ledger's state, the zero one before genesis.
func (h *head) ledger() *ledger.State {
	if h.state == nil {
		return new(ledger.State)
	}
	return h.state
}

type stateStore struct {
	*engine
	mu     sync.RWMutex // a commit, and what must not fall between it and its head
	head   *head
	tables tables
	behind behind
	joined uint64         // height of the checkpoint that the state was imported at, or 0
	pinned map[uint64]int // open Snapshots, by version
}

func (s *Store) openState() error {
	e, err := s.openEngine("state", s.opts.memtable)
	if err != nil {
		return err
	}
	s.state.engine, s.state.head, s.state.tables, s.state.pinned = e, new(head), newTables(s.opts.Cache), map[uint64]int{}
	v, err := get(e.db, []byte{stateHead})
	if err != nil {
		return s.read("state", err)
	}
	if err := s.checkImport(v != nil); err != nil {
		return err
	}
	if v == nil {
		return s.read("trees", s.openTrees())
	}
	if s.state.head, err = decodeHead(v); err != nil {
		return s.read("state", err)
	}
	h := s.state.head
	if h.state.Chain != s.opts.Chain {
		return s.refuse(WrongChain, fmt.Sprintf("its state is of chain %s, not of %s", h.state.Chain, s.opts.Chain), nil)
	}
	if h.blocks > s.log.next {
		return s.refuse(Damaged, fmt.Sprintf("the log has %d blocks, and the state was made of %d", s.log.next-1, h.blocks-1), nil)
	}
	return s.read("trees", s.openTrees())
}

// Batch is what becomes of the state by some heights, whole or not at all. Reading it (as a
// View) gives the state with what is in it already, so that what comes later in the batch can be worked
// out from what came earlier. There can be one at a time.
type Batch struct {
	View
	s     *Store
	b     *overlay
	from  *head
	trees *batchTrees
}

// Begin is an empty batch on top of the state as it is. Commit or Discard ends it.
func (s *Store) Begin() *Batch {
	s.state.mu.RLock()
	defer s.state.mu.RUnlock()
	from, b := s.state.head, newOverlay(s.state.db)
	next := *from
	trees := newBatchTrees(s)
	trees.record.outputs = from.ledger().Outputs
	return &Batch{View: View{s: s, r: b, head: &next}, s: s, b: b, from: from, trees: trees}
}

// Trees is the trees with what is in the batch already.
func (b *Batch) Trees() *ledger.Trees {
	t := b.trees
	return &ledger.Trees{Outputs: &t.outputs, Keys: &t.keys, Names: &t.names, Peers: &t.peers, KeyLog: b.KeyLog, Story: b.Story}
}

// KeyLog is View.KeyLog. Most locks are new, and the tree, whose pages are about to be changed, says so
// sooner than the engine finds that it has no key.
func (b *Batch) KeyLog(lock types.Key) (tlog.Frontier, error) {
	if b.head.state == nil {
		return tlog.Frontier{}, nil
	}
	_, known, err := trie.Get(&b.trees.keys, b.head.state.KeysRoot, types.KeyPath(lock))
	if err != nil || !known {
		return tlog.Frontier{}, err
	}
	return b.View.KeyLog(lock)
}

// Discard forgets the batch.
func (b *Batch) Discard() error { return errors.Join(b.trees.close(), b.b.Close()) }

// Add puts in what a batch of transactions, a snapshot or genesis changed: the changes, what
// ledger.Commit made of them, and the state behind.
func (b *Batch) Add(state *ledger.State, c *ledger.Changes, w *ledger.Writes) error {
	b.head.state = state
	return errors.Join(b.addKeyRanges(c, w), b.addKeys(c, w), b.addEvents(c), b.addOutputs(c), b.addRecords(c, w), b.trees.add(w))
}

func (b *Batch) addEvents(c *ledger.Changes) error {
	for i := range c.Events {
		n := u64(b.head.events)
		b.head.events++
		if err := b.set(key(stateEvent, n), c.Events[i].Encode()); err != nil {
			return err
		}
		if err := b.set(key(stateEventOf, c.Events[i].Transaction[:]), n); err != nil {
			return err
		}
	}
	return nil
}

func (b *Batch) addOutputs(c *ledger.Changes) error {
	for i := range c.Created {
		if err := b.set(key(stateOutput, u64(c.First+uint64(i))), c.Created[i].Encode()); err != nil {
			return err
		}
	}
	for i := range c.Spent {
		if err := b.set(key(stateOutput, u64(c.Spent[i].Position)), c.Spent[i].State.Encode()); err != nil {
			return err
		}
	}
	return nil
}

// addKeys comes before addEvents: it tells the numbers that the events will have.
func (b *Batch) addKeys(c *ledger.Changes, w *ledger.Writes) error {
	numbers := make(map[types.Hash]uint64, len(c.Events))
	for i := range c.Events {
		numbers[c.Events[i].Transaction] = b.head.events + uint64(i)
	}
	next := make(map[types.Key]uint64, len(w.KeyLogs)) // number of each lock's next event
	for i := range w.KeyLogs {
		next[w.KeyLogs[i].Lock] = w.KeyLogs[i].Frontier.Size()
	}
	for i := range c.Keys {
		next[c.Keys[i].Output.Lock]--
	}
	for i := range c.Keys {
		v := &c.Keys[i]
		entry := keyEntry{spent: v.Spent, position: v.Position}
		if v.Spent {
			number, ok := numbers[v.Transaction]
			if !ok {
				panic(fmt.Sprintf("store: height %d: key event of %s, which has no event", c.Height, v.Transaction))
			}
			entry.event, entry.index = number, v.Index
		}
		n := next[v.Output.Lock]
		next[v.Output.Lock]++
		if err := b.set(key(stateKeyEvent, v.Output.Lock[:], u64(n)), entry.encode()); err != nil {
			return err
		}
	}
	for i := range w.KeyLogs {
		if err := b.setKeyLog(&w.KeyLogs[i]); err != nil {
			return err
		}
	}
	return nil
}

// setKeyLog keeps a lock's log under its path, so that what is under a prefix of the keys tree stands together.
func (b *Batch) setKeyLog(l *ledger.KeyLog) error {
	path := types.KeyPath(l.Lock)
	return b.set(key(stateKeyLog, path[:]), append(l.Lock[:], l.Frontier.Encode()...))
}

func decodeKeyLog(data []byte) (*ledger.KeyLog, error) {
	d := types.NewDecoder("key log", data)
	l := &ledger.KeyLog{Lock: d.Key("lock"), Frontier: tlog.ReadFrontier(d)}
	return l, d.Finish()
}

func (b *Batch) addRecords(c *ledger.Changes, w *ledger.Writes) (err error) {
	next := make(map[string]uint64, len(w.Stories))
	for i := range w.Stories {
		name := w.Stories[i].State.Name
		next[name] = w.Stories[i].Frontier.Size()
		err = errors.Join(err, b.setName(&w.Stories[i]))
	}
	for i := range c.Names {
		next[c.Names[i].Record.Name]--
	}
	for i := range c.Names {
		name := c.Names[i].Record.Name
		err = errors.Join(err, b.set(nameKey(name, next[name]), c.Names[i].Encode()))
		next[name]++
	}
	for i := range c.Peers {
		err = errors.Join(err, b.setPeer(&c.Peers[i]))
	}
	if c.Snapshot != nil {
		err = errors.Join(err, b.set(key(stateSnapshot, u64(c.Snapshot.Height)), c.Snapshot.Encode()))
	}
	return err
}

func (b *Batch) setName(s *ledger.Story) error {
	name, path := []byte(s.State.Name), types.NamePath(s.State.Name)
	return errors.Join(b.set(key(stateName, name), s.State.Encode()), b.set(key(stateStory, name), s.Frontier.Encode()),
		b.set(key(stateNamePath, path[:]), name))
}

func (b *Batch) setPeer(p *types.PeerState) error {
	path := types.PeerPath(p.Peer)
	return errors.Join(b.set(key(statePeer, p.Peer[:]), p.Encode()), b.set(key(statePeerPath, path[:]), p.Peer[:]))
}

// AddCheckpoint puts in a checkpoint of the state as it is in the batch, and goes on behind
// it: state is what State.Checkpointed gave.
func (b *Batch) AddCheckpoint(state *ledger.State, cp *types.Checkpoint) error {
	r, err := tlog.Append(b.History(), cp.HistorySize, []types.Hash{ledger.HistoryLeaf(cp.ID())})
	if err != nil {
		return b.s.read("history", err)
	}
	if r.Root != state.History.Root() || cp.Events != b.head.events-b.head.settled {
		panic(fmt.Sprintf("store: checkpoint of height %d has %d events and makes the history %s; the store has %d and %s",
			cp.Height, cp.Events, state.History.Root(), b.head.events-b.head.settled, r.Root))
	}
	for _, n := range r.Writes {
		if err := b.set(nodeKey(stateHistory, n.Level, n.Index), n.Hash[:]); err != nil {
			return err
		}
	}
	err = b.set(key(stateCheckpoint, u64(cp.Height)), Checkpoint{cp, b.head.settled}.encode())
	b.head.state, b.head.settled = state, b.head.events
	return err
}

// Decide ends a height: all that belongs to it is in the batch. The anchor is zero for an empty
// height. Heights come one by one, from genesis at 0, whose anchor is the chain's id.
func (b *Batch) Decide(height uint64, anchor types.Hash) error {
	if height != b.head.decided || b.head.state == nil {
		panic(fmt.Sprintf("store: height %d is decided, and %d is next", height, b.head.decided))
	}
	b.head.decided++
	return b.set(key(stateDecided, u64(height)), decided{anchor, b.head.events}.encode())
}

// SetBase puts in what consensus needs for a restart, in place of what was there.
func (b *Batch) SetBase(base []byte) error { return b.set([]byte{stateBase}, bytes.Clone(base)) }

func (b *Batch) set(key, value []byte) error { return b.b.Set(key, value, nil) }

// Commit makes the batch the state. It is not synced: a crash may undo it, and with it all
// that came later. The blocks that it was made of are synced before.
func (b *Batch) Commit() error {
	s := b.s
	if err := s.log.sync(); err != nil {
		return err
	}
	if err := b.trees.close(); err != nil {
		return err
	}
	b.head.blocks = s.NextSequence()
	b.head.version++
	if err := b.set([]byte{stateHead}, b.head.encode()); err != nil {
		return err
	}
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	if s.state.head != b.from {
		panic(fmt.Sprintf("store: two batches on top of height %d", b.from.decided))
	}
	b.trees.keep(b.head.version, len(s.state.pinned) > 0)
	batch := s.state.db.NewBatch()
	if err := errors.Join(b.b.writeTo(batch), s.state.writeBehind(batch, &b.trees.record)); err != nil {
		return err
	}
	if err := s.state.commit(batch, false); err != nil {
		return err
	}
	s.state.head = b.head
	return nil
}

// PutCertificate keeps a certificate of the checkpoint of a height, in place of one that is there.
// It is not synced.
func (s *Store) PutCertificate(height uint64, c *types.Certificate) error {
	b := s.state.db.NewBatch()
	if err := b.Set(key(stateCert, u64(height)), c.Encode(), nil); err != nil {
		return err
	}
	return s.state.commit(b, false)
}

// keyEntry is a key event as it is kept. One of an output made tells no more than which; the output
// tells the rest. One of an output spent has the number of the spending transaction's event, and the
// index of its input.
type keyEntry struct {
	spent    bool
	position uint64
	event    uint64
	index    uint32
}

func (k keyEntry) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 24))
	e.Bool(k.spent)
	e.U64(k.position)
	if k.spent {
		e.U64(k.event)
		e.U32(k.index)
	}
	return e.Data()
}

func decodeKeyEntry(data []byte) (k keyEntry, err error) {
	d := types.NewDecoder("key entry", data)
	k = keyEntry{spent: d.Bool("spent"), position: d.U64("position")}
	if k.spent {
		k.event, k.index = d.U64("event"), d.U32("index")
	}
	return k, d.Finish()
}

func nodeKey(space, level byte, index uint64) []byte { return key(space, []byte{level}, u64(index)) }

// nameKey holds the name's length, so that no name's events are among another's.
func nameKey(name string, number uint64) []byte {
	return key(stateNameEvent, []byte{byte(len(name))}, []byte(name), u64(number))
}
