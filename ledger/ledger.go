// Package ledger is the state transition of the coin: which transactions are valid, what
// an ordered list of them changes, and what the state is then committed to
// (spec/ledger.md).
//
// It is pure, and knows no peers' graph and no disk. Who drives it orders transactions
// first and applies after. It reads the state through View and the trees through Trees,
// writes neither, and gives back what changed, which everybody digests: the store, the
// agents, the wallets, the books.
//
//	bytes ── Parse ──► Parsed ── Verify ──► fit to be carried in a block
//
//	 View, State ──┬──────────────┐
//	       Batch ──┴─► Apply      │
//	      height ───────│─────────┴─► TakeSnapshot
//	                    └─► Changes ◄──────┘
//	                           │
//	        State, Trees ──────┴─► Commit ──► State, Writes
//	                                            └─► Checkpoint
//
// Overlay is a state that is not kept: Apply works on one, and a view of what is not final
// yet is one. Memory keeps everything in maps, for tests, simulation and small uses.
//
// Three things can go wrong, and differ: a transaction that is invalid by itself is an
// *Invalid, and a block that carries it is invalid too. One that meets a state that refuses
// it is an event with a types.Reason, and the block stands. Arguments that break the
// caller's side (a batch out of order, an unbalanced transaction, an author that is no
// peer) panic: to go on would make or lose money.
package ledger

import (
	"charter/types"
)

// View is the state that Apply reads. What it returns is not changed by this package, and
// must not change while it is in use. Its errors are those of the world (a disk), and are
// passed on wrapped.
type View interface {
	// Output is the output at a position, nil if none was made there yet.
	Output(position uint64) (*types.OutputState, error)
	// Event is the latest event of a transaction, nil if it never was ordered.
	Event(transaction types.Hash) (*types.Event, error)
	// Peer is a registered peer, nil if there is none with this key.
	Peer(key types.Key) (*types.PeerState, error)
	// CheckpointAt is the checkpoint of a height below that of the state, nil if there is none.
	CheckpointAt(height uint64) (*types.Checkpoint, error)
	// Peers is every registered peer, ascending by key.
	Peers() ([]types.PeerState, error)
	// Holder is the peer that holds a name, the zero key if none does.
	Holder(name string) (types.Key, error)
}

// Ordered is a transaction in its place in the total order. It is valid by itself.
type Ordered struct {
	Tx     *types.Transaction
	ID     types.Hash
	Block  types.Hash // that carried it in
	Author types.Key  // of that block, who earns the fee
}

// Batch is what one anchor orders.
type Batch struct {
	Height       uint64 // of the anchor, above that of every batch before
	Anchor       types.Hash
	Time         types.Millis // consensus time of all of it, not before that of any batch before
	Transactions []Ordered
	Shares       uint64    // height of the snapshot by which the anchor was decided
	Witnesses    []Witness // of all ordered blocks, in order (WitnessOf)
}

// Changes is what a batch, a snapshot or genesis changed. Nothing else did.
type Changes struct {
	Height uint64
	Anchor types.Hash
	Time   types.Millis

	Events  []types.Event       // in order of application
	First   uint64              // position of the first output made
	Created []types.OutputState // at First, First+1, …, as they were born
	Spent   []Spent             // in order of spending, older ones and ones of Created
	Keys    []types.KeyEvent    // in order; each belongs to the log of its Output.Lock
	Names   []types.NameEvent   // in order; each belongs to the story of its Record.Name
	Peers   []types.PeerState   // as they are now, those that are not as before, ascending by key

	Snapshot *types.Snapshot // that was taken, or nil

	Unspent types.Amount // sum of all unspent outputs, after
	Fees    types.Amount // sum of all fees earned and not paid out, after
	Tally   Tally        // after
}

// Spent is an output that was spent.
type Spent struct {
	Position uint64
	State    types.OutputState // with its SpentHeight
}

// Terminal reports whether a rejection is the last word on a transaction, so that its
// wallet may make another in its place. All are but TooEarly: whoever carries in a
// transaction before its time must not be able to spoil it, so it is applied if it is
// ordered again in time.
func Terminal(r types.Reason) bool { return r != types.NoReason && r != types.TooEarly }

// Apply applies a batch to the state that v and s show, in order. A transaction whose
// fate is sealed (applied, or rejected for good) is skipped in silence, and so is one that
// is too early for the second time. Errors are those of v.
func Apply(v View, s *State, b *Batch) (*Changes, error) {
	return NewOverlay(v, s).Apply(b)
}

// JudgePeers is what the state would say now of a transaction's evidence and votes to reinstate, NoReason if it would take them
// or there are none. Errors are those of v.
func JudgePeers(v View, s *State, tx *types.Transaction) (types.Reason, error) {
	o := NewOverlay(v, s)
	o.height++ // the next batch's at the earliest
	early, reason, err := o.judgePeers(tx)
	if early {
		reason = types.TooEarly
	}
	return reason, err
}

// TakeSnapshot pays out all fees, each peer's to an output under its reward lock and
// hosted by itself, and then takes the shares registered with each peer that is in good
// standing, and notes the standing of all (spec/ledger.md, "Standing"). It is for each
// multiple of SnapshotPeriod, when all of the height is decided and before its checkpoint.
// Changes.Snapshot is the snapshot. Errors are those of v.
func TakeSnapshot(v View, s *State, height uint64) (*Changes, error) {
	return NewOverlay(v, s).TakeSnapshot(height)
}
