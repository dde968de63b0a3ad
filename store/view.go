package store

import (
	"errors"
	"fmt"
	"iter"
	"sync"

	"charter/ledger"
	"charter/tlog"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// View reads the final state. It is a ledger.View, and its Trees, History and the rest are
// all that proofs are made of. Errors are of kind Damaged, or the world's. Numbers and heights that
// are not there give nil or false and no error.
type View struct {
	s    *Store
	r    pebble.Reader
	head *head
}

// View is the state as it is. It moves on with Commit, so it is for the goroutine that commits.
func (s *Store) View() *View {
	s.state.mu.RLock()
	defer s.state.mu.RUnlock()
	return &View{s, s.state.db, s.state.head}
}

// Snapshot is the state of one height, that stays as it is while the state moves on. It costs
// little but keeps what is overwritten from being freed: it must be closed.
type Snapshot struct {
	View
	once sync.Once
	snap *pebble.Snapshot
}

// Snapshot is the state as it is now, pinned. The error is of kind Stopped.
func (s *Store) Snapshot() (*Snapshot, error) {
	p := new(Snapshot)
	err := s.stop.run(func() error {
		s.state.mu.Lock()
		defer s.state.mu.Unlock()
		p.snap = s.state.db.NewSnapshot()
		p.View = View{s, p.snap, s.state.head}
		s.state.pinned[p.head.version]++
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Close lets go of it. It may be called twice.
func (p *Snapshot) Close() (err error) {
	p.once.Do(func() {
		p.s.state.unpin(p.head.version)
		err = p.snap.Close()
	})
	return err
}

// unpin gives up a version that a Snapshot had.
func (s *stateStore) unpin(version uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pinned[version]--; s.pinned[version] > 0 {
		return
	}
	delete(s.pinned, version)
	oldest := s.head.version
	for v := range s.pinned {
		oldest = min(oldest, v)
	}
	s.tables.forget(oldest)
}

var _ ledger.View = (*View)(nil)

// State is the ledger's state, nil before genesis.
func (v *View) State() *ledger.State { return v.head.state }

// Height is the highest height that is decided and applied, false before genesis.
func (v *View) Height() (uint64, bool) { return v.head.decided - 1, v.head.decided > 0 }

// lookup reads and decodes a value, nil if there is none.
func lookup[T any](v *View, what string, key []byte, decode func([]byte) (*T, error)) (*T, error) {
	data, err := get(v.r, key)
	if err != nil || data == nil {
		return nil, v.s.read(what, err)
	}
	t, err := decode(data)
	return t, v.s.read(what, err)
}

// Base is what SetBase kept last, nil if nothing.
func (v *View) Base() ([]byte, error) {
	b, err := get(v.r, []byte{stateBase})
	return b, v.s.read("base", err)
}

type decided struct {
	anchor types.Hash
	events uint64 // number of the next event behind the height
}

func (d decided) encode() []byte { return append(d.anchor[:], u64(d.events)...) }

func decodeDecided(data []byte) (*decided, error) {
	d := types.NewDecoder("decided height", data)
	v := &decided{d.Hash("anchor"), d.U64("events")}
	return v, d.Finish()
}

// Decided is the anchor of a height, zero if the height is empty, and false if it is not decided. Error: NotKept.
func (v *View) Decided(height uint64) (anchor types.Hash, ok bool, err error) {
	d, err := lookup(v, "decided height", key(stateDecided, u64(height)), decodeDecided)
	if err == nil && d == nil && height < v.Joined() {
		err = v.NotKept(fmt.Sprintf("anchor of height %d", height))
	}
	if err != nil || d == nil {
		return anchor, false, err
	}
	return d.anchor, true, nil
}

// EventsOf is the events of a decided height: the number of the first, and how many. They include
// the payouts of a snapshot at that height. Error: NotKept.
func (v *View) EventsOf(height uint64) (first, count uint64, err error) {
	to, err := lookup(v, "decided height", key(stateDecided, u64(height)), decodeDecided)
	if err == nil && height <= v.Joined() && v.Joined() > 0 {
		err = v.NotKept(fmt.Sprintf("events of height %d", height))
	}
	if err != nil || to == nil {
		return 0, 0, err
	}
	if height > 0 {
		from, err := lookup(v, "decided height", key(stateDecided, u64(height-1)), decodeDecided)
		if err != nil || from == nil || from.events > to.events {
			return 0, 0, errors.Join(err, v.s.read("decided height", errMissing))
		}
		first = from.events
	}
	return first, to.events - first, nil
}

// EventCount is how many events there were.
func (v *View) EventCount() uint64 { return v.head.events }

// Events goes over events by number, from first up, as far as asked.
func (v *View) Events(first uint64) iter.Seq2[*types.Event, error] {
	return values(v, "events", key(stateEvent, u64(first)), []byte{stateEvent + 1}, types.DecodeEvent)
}

// values goes over the decoded values of a range of keys.
func values[T any](v *View, what string, from, to []byte, decode func([]byte) (*T, error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for e, err := range scan(v.r, from, to) {
			var t *T
			if err == nil {
				t, err = decode(e.value)
			}
			if !yield(t, v.s.read(what, err)) || err != nil {
				return
			}
		}
	}
}

func decodeNumber(data []byte) (*uint64, error) {
	d := types.NewDecoder("number", data)
	n := d.U64("number")
	return &n, d.Finish()
}

// Find is the number of the latest event of a transaction, false if it never was ordered.
func (v *View) Find(transaction types.Hash) (number uint64, ok bool, err error) {
	n, err := lookup(v, "event's number", key(stateEventOf, transaction[:]), decodeNumber)
	if err != nil || n == nil {
		return 0, false, err
	}
	return *n, true, nil
}

// Event is the latest event of a transaction, nil if it never was ordered.
func (v *View) Event(transaction types.Hash) (*types.Event, error) {
	n, ok, err := v.Find(transaction)
	if err != nil || !ok {
		return nil, err
	}
	return v.eventAt(n)
}

// eventAt is an event that must be there.
func (v *View) eventAt(number uint64) (*types.Event, error) {
	e, err := lookup(v, "event", key(stateEvent, u64(number)), types.DecodeEvent)
	if err == nil && e == nil {
		err = v.s.read(fmt.Sprintf("event %d", number), errMissing)
	}
	return e, err
}

// Output is the output at a position, nil if none was made there.
func (v *View) Output(position uint64) (*types.OutputState, error) {
	return lookup(v, "output", key(stateOutput, u64(position)), types.DecodeOutputState)
}

// Peer is a registered peer, nil if there is none with this key.
func (v *View) Peer(k types.Key) (*types.PeerState, error) {
	return lookup(v, "peer", key(statePeer, k[:]), types.DecodePeerState)
}

// Peers is every registered peer, ascending by key.
func (v *View) Peers() ([]types.PeerState, error) {
	var all []types.PeerState
	for p, err := range values(v, "peers", []byte{statePeer}, []byte{statePeer + 1}, types.DecodePeerState) {
		if err != nil {
			return nil, err
		}
		all = append(all, *p)
	}
	return all, nil
}

// Name is the record of a name, nil if nobody holds it.
func (v *View) Name(name string) (*types.NameState, error) {
	return lookup(v, "name", key(stateName, []byte(name)), types.DecodeNameState)
}

// Holder is the peer that holds a name, the zero key if none does.
func (v *View) Holder(name string) (types.Key, error) {
	n, err := v.Name(name)
	if err != nil || n == nil {
		return types.Key{}, err
	}
	return n.Peer, nil
}

// NameEvents goes over the story of a name, from an event's number up.
func (v *View) NameEvents(name string, first uint64) iter.Seq2[*types.NameEvent, error] {
	from := nameKey(name, first)
	return values(v, "name events", from, after(from[:len(from)-8]), types.DecodeNameEvent)
}

// KeyEvents goes over the events of a lock, from an event's number up.
func (v *View) KeyEvents(lock types.Key, first uint64) iter.Seq2[*types.KeyEvent, error] {
	from := key(stateKeyEvent, lock[:], u64(first))
	return values(v, "key events", from, after(from[:33]), func(data []byte) (*types.KeyEvent, error) {
		k, err := decodeKeyEntry(data)
		if err != nil {
			return nil, err
		}
		return v.keyEvent(k)
	})
}

// keyEvent fills in what a key entry points to.
func (v *View) keyEvent(k keyEntry) (*types.KeyEvent, error) {
	o, err := v.Output(k.position)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return nil, errMissing
	}
	if !k.spent {
		return k.of(o, nil), nil
	}
	e, err := v.eventAt(k.event)
	if err != nil {
		return nil, err
	}
	return k.of(o, e), nil
}

// of is the key event of an output and, if it is spent, the event of who spent it.
func (k keyEntry) of(o *types.OutputState, e *types.Event) *types.KeyEvent {
	if !k.spent {
		return &types.KeyEvent{Position: k.position, Transaction: o.Source, Index: o.Index, Output: o.Output, Height: o.BornHeight, Time: o.BornTime}
	}
	return &types.KeyEvent{Spent: true, Position: k.position, Transaction: e.Transaction, Index: k.index, Output: o.Output, Height: e.Height, Time: e.Time}
}

func decodeFrontier(data []byte) (*tlog.Frontier, error) {
	f, err := tlog.DecodeFrontier(data)
	return &f, err
}

// KeyLog is the frontier of the log of a lock's events, empty if there are none.
func (v *View) KeyLog(lock types.Key) (tlog.Frontier, error) {
	path := types.KeyPath(lock)
	l, err := lookup(v, "key log", key(stateKeyLog, path[:]), decodeKeyLog)
	if err != nil || l == nil {
		return tlog.Frontier{}, err
	}
	return l.Frontier, nil
}

// Story is the frontier of the story of a name, empty if nobody holds it.
func (v *View) Story(name string) (tlog.Frontier, error) {
	f, err := lookup(v, "story", key(stateStory, []byte(name)), decodeFrontier)
	if err != nil || f == nil {
		return tlog.Frontier{}, err
	}
	return *f, nil
}

// Trees is what ledger.Commit, and proofs, read of the stored trees.
func (v *View) Trees() *ledger.Trees {
	t := &v.s.state.tables
	return &ledger.Trees{
		Outputs: outputNodes{v, t.outputs}, Keys: trieNodes{v, t.keys}, Names: trieNodes{v, t.names}, Peers: trieNodes{v, t.peers},
		KeyLog: v.KeyLog, Story: v.Story,
	}
}

// History is the stored log of checkpoints.
func (v *View) History() tlog.Reader { return historyNodes{v} }

// historyNodes is the nodes of the history.
type historyNodes struct{ v *View }

func decodeHash(data []byte) (*types.Hash, error) {
	d := types.NewDecoder("node", data)
	h := d.Hash("hash")
	return &h, d.Finish()
}

// Node is the root of the complete subtree over checkpoints [index·2^level, (index+1)·2^level).
func (t historyNodes) Node(level uint8, index uint64) (types.Hash, error) {
	h, err := lookup(t.v, "history", nodeKey(stateHistory, level, index), decodeHash)
	if err == nil && h == nil {
		err = t.v.s.read("history", errMissing)
	}
	if err != nil {
		return types.Hash{}, err
	}
	return *h, nil
}

// Checkpoint is a checkpoint as it is kept.
type Checkpoint struct {
	*types.Checkpoint
	First uint64 // number of the first event under it; Events says how many there are
}

func (c Checkpoint) encode() []byte { return append(u64(c.First), c.Checkpoint.Encode()...) }

func decodeCheckpoint(data []byte) (*Checkpoint, error) {
	d := types.NewDecoder("stored checkpoint", data)
	c := &Checkpoint{First: d.U64("first"), Checkpoint: types.ReadCheckpoint(d)}
	return c, d.Finish()
}

// Checkpoint is the checkpoint of a height, nil if there is none.
func (v *View) Checkpoint(height uint64) (*Checkpoint, error) {
	return lookup(v, "checkpoint", key(stateCheckpoint, u64(height)), decodeCheckpoint)
}

// CheckpointAt is Checkpoint for the ledger.
func (v *View) CheckpointAt(height uint64) (*types.Checkpoint, error) {
	c, err := v.Checkpoint(height)
	if err != nil || c == nil {
		return nil, err
	}
	return c.Checkpoint, nil
}

// Checkpoints goes over the checkpoints from a height up. The first of them is the one that
// has an event of that height under it.
func (v *View) Checkpoints(from uint64) iter.Seq2[*Checkpoint, error] {
	return values(v, "checkpoints", key(stateCheckpoint, u64(from)), []byte{stateCheckpoint + 1}, decodeCheckpoint)
}

// Certificate is the certificate of the checkpoint of a height, nil if there is none.
func (v *View) Certificate(height uint64) (*types.Certificate, error) {
	return lookup(v, "certificate", key(stateCert, u64(height)), types.DecodeCertificate)
}

// Certified is the greatest height up to one given that has a certificate, or false.
func (v *View) Certified(upTo uint64) (height uint64, ok bool, err error) {
	k, _, err := last(v.r, []byte{stateCert}, after(key(stateCert, u64(upTo))))
	if err != nil || k == nil {
		return 0, false, v.s.read("certificates", err)
	}
	n, err := decodeNumber(k[1:])
	return *n, err == nil, v.s.read("certificates", err)
}

// ShareSnapshot is the snapshot of shares that was taken at a height, nil if none was. Error: NotKept.
func (v *View) ShareSnapshot(height uint64) (*types.Snapshot, error) {
	s, err := lookup(v, "snapshot", key(stateSnapshot, u64(height)), types.DecodeSnapshot)
	if err == nil && s == nil && height > 0 && height < v.Joined() {
		err = v.NotKept(fmt.Sprintf("snapshot of height %d", height))
	}
	return s, err
}

// ShareSnapshots goes over the snapshots of shares from a height up.
func (v *View) ShareSnapshots(from uint64) iter.Seq2[*types.Snapshot, error] {
	return values(v, "snapshots", key(stateSnapshot, u64(from)), []byte{stateSnapshot + 1}, types.DecodeSnapshot)
}
