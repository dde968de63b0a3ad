package agent

import (
	"context"
	"time"

	"charter/types"
)

// Chain is what the agent serves: the peer's past and its waiting transactions. All methods
// may be called by many goroutines at once. Errors that a client should understand are *Error;
// any other is logged, and told to the client as Internal.
type Chain interface {
	// Submit checks a transaction, makes it durable and gives its id. What was submitted
	// before is no error. It may block while the pool is being written, until ctx is done.
	// Errors: Invalid, Conflict, PoolFull.
	Submit(ctx context.Context, raw []byte) (types.Hash, error)

	// Updates tells what changes from now on, in order, until ctx is done or the chain stops;
	// then the channel is closed. The first update comes at once: the heights as they are,
	// with nothing else. What an update tells is durable, and the methods below know it. The
	// agent receives without delay; a chain may block on it.
	Updates(ctx context.Context) <-chan Update

	// Transaction is where a transaction is now. An unknown one is no error: its tier is Unknown.
	Transaction(id types.Hash) (Transaction, error)

	// KeyEvents are the final events of a lock at heights ≥ from, in order. No height's
	// events are torn apart: it stops behind the first height with which there are limit or
	// more. Through is the height up to which the answer is complete: that of the last event
	// if it stopped, else the final height.
	KeyEvents(lock types.Key, from uint64, limit int) (events []types.KeyEvent, through uint64, err error)

	// The proofs, as of the newest certified checkpoint, encoded by package proof. NotFound
	// where there is nothing to prove, NotYet where no certified checkpoint covers it.
	TransactionProof(id types.Hash) (Proof, error) // a proof.File
	OutputProof(position uint64) (Proof, error)
	KeyProof(lock types.Key, latest uint32) (Proof, error) // latest 0: as many as one proof holds
	NameProof(name string) (Proof, error)
	PeerProof(peer types.Key) (Proof, error)
	ConsistencyProof(from uint64) (Proof, error)

	// Checkpoint is the certified checkpoint at a height, or the newest for Newest.
	// Errors: NotFound, NotYet.
	Checkpoint(height uint64) (*Certified, error)

	// Advance leads from the certified checkpoint at height from towards the newest one, in
	// encoded proof steps; to is the height that the last one reaches, from if there is none.
	// Errors: NotFound, NotYet.
	Advance(from uint64) (steps [][]byte, to uint64, err error)

	// Status is how the peer is now. It is cheap: metrics and people ask often.
	Status() Status
}

// Newest asks Checkpoint for the newest certified one.
const Newest = ^uint64(0)

// Tier is how settled a transaction is. Those up to Official may be lost again.
type Tier uint8

// The tiers (api/charter/v1, "Tier"). Final and Rejected are for ever; they are not told as
// tiers by Updates, but as the events that they are.
const (
	Unknown  Tier = iota // the peer knows no such transaction
	Waiting              // for a block
	Known                // a block has it
	Selected             // more than a third of the shares build on the block
	Official             // more than half
	Final                // ordered for ever, and applied
	Rejected             // ordered for ever, and refused by the state that it met
)

var tierNames = [...]string{"unknown", "waiting", "known", "selected", "official", "final", "rejected"}

// String is the tier in lower case.
func (t Tier) String() string { return tierNames[t] }

// Settled reports whether the tier is for ever.
func (t Tier) Settled() bool { return t >= Final }

// Update is what changed at one moment. Any part may be empty.
type Update struct {
	At        types.Millis // the peer's clock
	Height    uint64       // greatest height of a block
	Final     uint64       // greatest height whose order is final and applied; never falls
	Certified uint64       // height of the newest certified checkpoint; never falls

	Tiers  []TierChange     // changes of tiers below Final
	Events []types.Event    // fates of transactions, at heights that became final with this update
	Keys   []types.KeyEvent // events of locks, at the same heights, each under its Output.Lock
}

// TierChange is the new tier of a transaction, below Final.
type TierChange struct {
	Transaction types.Hash
	Block       types.Hash // that carries it, zero while it waits
	Tier        Tier
}

// Transaction is where a transaction is.
type Transaction struct {
	Tier  Tier
	Block types.Hash   // that carries it, zero while it waits
	At    types.Millis // the peer's clock when it got there
	Event *types.Event // its fate, where the tier is settled
}

// Certified is a checkpoint with what makes it believable.
type Certified struct {
	Checkpoint  *types.Checkpoint
	Certificate *types.Certificate // nil for the genesis
	Snapshot    *types.Snapshot    // whose members vote in the certificate
}

// Proof is an encoded proof and the checkpoint that it leads to.
type Proof struct {
	Bytes []byte
	At    *Certified
}

// Status is how a peer is.
type Status struct {
	Key              types.Key
	Name             string
	Height           uint64 // as in Update
	Final            uint64
	Certified        uint64
	Peers            []Peer       // registered, ascending by key, this one included
	Shares           types.Amount // of all members of the snapshot that decides now
	PoolTransactions int
	PoolBytes        int
	Connections      int // open, to peers and wallets
}

// Peer is a registered peer, as seen from this one.
type Peer struct {
	Key       types.Key
	Name      string
	Address   string       // host:port
	Shares    types.Amount // in the snapshot that decides now
	Connected bool
	Lag       uint64        // heights that its newest block here is behind ours
	RTT       time.Duration // 0 while not known
}
