package proof

import (
	"fmt"

	"charter/forest"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// Past leads from a checkpoint to an older one, which is a leaf of its history: number
// HistorySize of the older one, since that is how many checkpoints came before it.
type Past struct {
	Checkpoint types.Checkpoint
	Path       tlog.Path
}

func (p *Past) verify(cp *types.Checkpoint) error {
	old := &p.Checkpoint
	if old.Chain != cp.Chain {
		return refuse(WrongChain, "past", "of chain %s, want %s", old.Chain, cp.Chain)
	}
	if old.Height >= cp.Height {
		return refuse(WrongHeight, "past", "height %d is not before %d", old.Height, cp.Height)
	}
	return historyLeaf(cp, old.HistorySize, old.ID(), "past", p.Path)
}

func historyLeaf(cp *types.Checkpoint, index uint64, id types.Hash, step string, path tlog.Path) error {
	return under(step, tlog.VerifyInclusion(cp.HistoryRoot, cp.HistorySize, index, tlog.LeafHash(id[:]), path))
}

// under makes the refusal of a tree one of this package.
func under(step string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: NotUnderRoot, Step: step, Cause: err}
}

// Event proves what became of a transaction: that this checkpoint, or an older one in its
// history, has the event among those since the checkpoint before.
type Event struct {
	Checkpoint types.Hash  // id of the checkpoint that the proof leads to
	Body       []byte      // Transaction.Body; none for a payout, which no transaction makes
	Event      types.Event // its fate
	Index      uint64      // among the events under the checkpoint
	Path       tlog.Path
	Past       *Past // the older checkpoint that has the event, or nil: the one named has it
}

// Happened is what an Event proves.
type Happened struct {
	Event       types.Event
	Transaction *types.Transaction // without reveals and signature; nil for a payout
	As          types.Checkpoint   // the checkpoint that has the event
}

// Verify checks the proof against the checkpoint that it leads to, which the caller trusts.
// That the transaction was signed needs no check: an event says that it was ordered, and
// peers order no other. Errors: WrongCheckpoint, WrongChain, WrongHeight, NotUnderRoot,
// WrongTransaction, Malformed.
func (p *Event) Verify(cp *types.Checkpoint) (*Happened, error) {
	if err := leads(p.Checkpoint, cp); err != nil {
		return nil, err
	}
	has := cp
	if p.Past != nil {
		if err := p.Past.verify(cp); err != nil {
			return nil, err
		}
		has = &p.Past.Checkpoint
	}
	leaf := tlog.LeafHash(p.Event.Encode())
	if err := under("path", tlog.VerifyInclusion(has.EventsRoot, has.Events, p.Index, leaf, p.Path)); err != nil {
		return nil, err
	}
	tx, err := p.transaction(cp.Chain)
	if err != nil {
		return nil, err
	}
	return &Happened{Event: p.Event, Transaction: tx, As: *has}, nil
}

func (p *Event) transaction(chain types.Hash) (*types.Transaction, error) {
	if p.Event.Kind == types.Payout {
		if len(p.Body) > 0 {
			return nil, refuse(WrongTransaction, "body", "a payout has none")
		}
		return nil, nil
	}
	if id := types.TransactionID(chain, p.Body); id != p.Event.Transaction {
		return nil, refuse(WrongTransaction, "body", "its id is %s, the event is of %s", id, p.Event.Transaction)
	}
	tx, err := types.DecodeTransactionBody(p.Body)
	if err != nil {
		return nil, &Error{Kind: Malformed, Step: "body", Cause: err}
	}
	if p.Event.Kind == types.Applied && int(p.Event.Outputs) != len(tx.Outputs) {
		return nil, refuse(WrongTransaction, "event", "made %d outputs, the transaction has %d", p.Event.Outputs, len(tx.Outputs))
	}
	return tx, nil
}

// Output proves the state of the output at a position: unspent as of the checkpoint, or
// spent at a height.
type Output struct {
	Checkpoint types.Hash
	Position   uint64
	State      types.OutputState
	Path       forest.Proof
}

// Verify checks the proof of this position against the checkpoint that it leads to, and gives
// the state. Errors: WrongCheckpoint, WrongSubject, NotUnderRoot.
func (p *Output) Verify(cp *types.Checkpoint, position uint64) (*types.OutputState, error) {
	if err := about(p.Checkpoint, cp, p.Position, position); err != nil {
		return nil, err
	}
	leaf := types.OutputLeaf(&p.State)
	if err := under("path", forest.Verify(cp.OutputsRoot, cp.Outputs, p.Position, leaf, p.Path)); err != nil {
		return nil, err
	}
	return &p.State, nil
}

// MaxEvents bounds the events of one key or name proof.
const MaxEvents = 4096

// Key proves the latest events of a lock, or all of them, or that there is none.
type Key struct {
	Checkpoint types.Hash
	Lock       types.Key
	Log        types.LogState   // count and root of all its events; Count 0: the lock has none
	Path       trie.Proof       // of presence, or of absence
	Prefix     tlog.Frontier    // the events before those shown; empty: all are shown
	Events     []types.KeyEvent // the latest, oldest first
}

// KeyHistory is what a Key proves: that the lock had Total events as of the checkpoint, and
// that these are its latest, with nothing left out between or after them.
type KeyHistory struct {
	Total  uint64
	Events []types.KeyEvent
}

// Complete reports whether the history has all events of the lock.
func (k *KeyHistory) Complete() bool { return k.Total == uint64(len(k.Events)) }

// Verify checks the proof for this lock against the checkpoint that it leads to.
// Errors: WrongCheckpoint, WrongSubject, NotUnderRoot.
func (p *Key) Verify(cp *types.Checkpoint, lock types.Key) (*KeyHistory, error) {
	if err := about(p.Checkpoint, cp, p.Lock, lock); err != nil {
		return nil, err
	}
	var leaf types.Hash
	if p.Log.Count > 0 {
		leaf = types.KeyLeaf(p.Log)
	} else if p.Log != (types.LogState{}) || p.Prefix.Size() > 0 || len(p.Events) > 0 {
		return nil, refuse(NotUnderRoot, "events", "shown for a lock said to have none")
	}
	if err := inTrie("path", cp.KeysRoot, types.KeyPath(p.Lock), leaf, &p.Path); err != nil {
		return nil, err
	}
	if p.Log.Count == 0 {
		return &KeyHistory{}, nil
	}
	leaves := make([]types.Hash, len(p.Events))
	for i := range p.Events {
		v := &p.Events[i]
		if v.Output.Lock != p.Lock {
			return nil, refuse(WrongSubject, fmt.Sprintf("events[%d]", i), "of lock %s, want %s", v.Output.Lock, p.Lock)
		}
		leaves[i] = tlog.LeafHash(v.Encode())
	}
	if err := under("events", tlog.VerifySuffix(p.Log.Root, p.Log.Count, p.Prefix, leaves)); err != nil {
		return nil, err
	}
	return &KeyHistory{Total: p.Log.Count, Events: p.Events}, nil
}

// Name proves who holds a name, with the latest of its story or all of it; or that nobody does.
type Name struct {
	Checkpoint types.Hash
	Name       string
	State      *types.NameState // nil: nobody holds it
	Path       trie.Proof
	Prefix     tlog.Frontier     // the events before those shown; empty: all are shown
	Events     []types.NameEvent // the latest, oldest first
}

// NameStory is what a Name proves: the holder, nil for none, and that these are the latest
// of the name's events, with nothing left out between or after them.
type NameStory struct {
	State  *types.NameState
	Events []types.NameEvent
}

// Complete reports whether the story has all events of the name.
func (n *NameStory) Complete() bool {
	return n.State == nil || n.State.Story.Count == uint64(len(n.Events))
}

// Verify checks the proof for this name against the checkpoint that it leads to.
// Errors: WrongCheckpoint, WrongSubject, NotUnderRoot.
func (p *Name) Verify(cp *types.Checkpoint, name string) (*NameStory, error) {
	if err := about(p.Checkpoint, cp, p.Name, name); err != nil {
		return nil, err
	}
	var leaf types.Hash
	var story types.LogState
	if p.State != nil {
		if p.State.Name != p.Name {
			return nil, refuse(WrongSubject, "state", "of name %q, want %q", p.State.Name, p.Name)
		}
		leaf, story = types.NameLeaf(p.State), p.State.Story
	} else if p.Prefix.Size() > 0 || len(p.Events) > 0 {
		return nil, refuse(NotUnderRoot, "events", "shown for a name said to be free")
	}
	if err := inTrie("path", cp.NamesRoot, types.NamePath(p.Name), leaf, &p.Path); err != nil {
		return nil, err
	}
	if p.State == nil {
		return &NameStory{}, nil
	}
	leaves := make([]types.Hash, len(p.Events))
	for i := range p.Events {
		v := &p.Events[i]
		if v.Record.Name != p.Name {
			return nil, refuse(WrongSubject, fmt.Sprintf("events[%d]", i), "of name %q, want %q", v.Record.Name, p.Name)
		}
		leaves[i] = tlog.LeafHash(v.Encode())
	}
	if err := under("events", tlog.VerifySuffix(story.Root, story.Count, p.Prefix, leaves)); err != nil {
		return nil, err
	}
	return &NameStory{p.State, p.Events}, nil
}

// Peer proves a peer's entry: name, address, shares; or that there is none.
type Peer struct {
	Checkpoint types.Hash
	Peer       types.Key
	State      *types.PeerState // nil: no such peer
	Path       trie.Proof
}

// Verify checks the proof for this peer against the checkpoint that it leads to, and gives the entry; nil if
// it is proven that there is none. Errors: WrongCheckpoint, WrongSubject, NotUnderRoot.
func (p *Peer) Verify(cp *types.Checkpoint, peer types.Key) (*types.PeerState, error) {
	if err := about(p.Checkpoint, cp, p.Peer, peer); err != nil {
		return nil, err
	}
	var leaf types.Hash
	if p.State != nil {
		if p.State.Peer != p.Peer {
			return nil, refuse(WrongSubject, "state", "of peer %s, want %s", p.State.Peer, p.Peer)
		}
		leaf = types.PeerLeaf(p.State)
	}
	if err := inTrie("path", cp.PeersRoot, types.PeerPath(p.Peer), leaf, &p.Path); err != nil {
		return nil, err
	}
	return p.State, nil
}

// Consistency proves that one checkpoint includes an older one: that it is in its history,
// and that both have the same history before it.
type Consistency struct {
	Old, New types.Hash // ids
	Path     tlog.Path  // of the old one's id in the new one's history
	History  tlog.Path  // from the old one's history to the new one's
}

// Verify checks the proof for two checkpoints. Whoever trusts the newer may then
// trust the older. Errors: WrongCheckpoint, WrongChain, WrongHeight, NotUnderRoot.
func (p *Consistency) Verify(older, newer *types.Checkpoint) error {
	if err := leads(p.New, newer); err != nil {
		return err
	}
	if err := leads(p.Old, older); err != nil {
		return err
	}
	past := Past{*older, p.Path}
	if err := past.verify(newer); err != nil {
		return err
	}
	return under("history", tlog.VerifyConsistency(older.HistorySize, older.HistoryRoot, newer.HistorySize, newer.HistoryRoot, p.History))
}

// inTrie checks that a trie has leaf at path, or nothing if leaf is zero.
func inTrie(step string, root types.Hash, path trie.Path, leaf types.Hash, p *trie.Proof) error {
	present, value, err := trie.Verify(root, path, p)
	switch {
	case err != nil:
		return under(step, err)
	case present && leaf.IsZero():
		return refuse(NotUnderRoot, step, "said to be absent, and proven to be there")
	case value != leaf:
		return refuse(NotUnderRoot, step, "the root has %s there, the state shown is %s", value, leaf)
	}
	return nil
}
