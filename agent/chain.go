package agent

import (
	"context"
	"time"

	"charter/chain"
	"charter/types"
)

// Chain is what the agent serves: the peer's past and its waiting transactions, which
// *chain.Chain is. All methods may be called by many goroutines at once. Errors that a client
// should understand are *chain.Error; any other is logged, and told to the client as Internal.
type Chain interface {
	// SubmitAll checks transactions, makes them durable and gives their ids. What was submitted
	// before is no error. It may block while the pool is being written, until ctx is done.
	// Errors: Invalid, Conflict, PoolFull.
	SubmitAll(ctx context.Context, raws [][]byte) []chain.Answer

	// Updates tells what changes from now on, in order, until ctx is done or the chain stops;
	// then the channel is closed. The first update comes at once: the heights as they are,
	// with nothing else. What an update tells is durable, and the methods below know it. The
	// agent receives without delay; a chain may block on it.
	Updates(ctx context.Context) <-chan chain.Update

	// Transaction is where a transaction is now. An unknown one is no error: its tier is Unknown.
	Transaction(id types.Hash) (chain.Transaction, error)

	// KeyEvents are the final events of a lock at heights ≥ from, in order. No height's
	// events are torn apart: it stops behind the first height with which there are limit or
	// more. Through is the height up to which the answer is complete: that of the last event
	// if it stopped, else the final height.
	KeyEvents(lock types.Key, from uint64, limit int) (events []types.KeyEvent, through uint64, err error)

	// The proofs, as of the newest certified checkpoint, encoded by package proof. NotFound
	// where there is nothing to prove, NotYet where no certified checkpoint covers it.
	TransactionProof(id types.Hash) (chain.Proof, error) // a proof.File
	OutputProof(position uint64) (chain.Proof, error)
	KeyProof(lock types.Key, latest uint32) (chain.Proof, error) // latest 0: as many as one proof holds
	NameProof(name string) (chain.Proof, error)
	PeerProof(peer types.Key) (chain.Proof, error)
	ConsistencyProof(from uint64) (chain.Proof, error)

	// Checkpoint is the certified checkpoint at a height, or the newest for chain.Newest.
	// Errors: NotFound, NotYet.
	Checkpoint(height uint64) (*chain.Certified, error)

	// Advance leads from the certified checkpoint at height from towards the first one from height target up, or
	// the newest for chain.Newest, in
	// encoded proof steps; to is the height that the last one reaches, from if there is none.
	// Errors: NotFound, NotYet.
	Advance(from, target uint64) (steps [][]byte, to uint64, err error)

	// HistoryNodes and HistoryEntries read the log of checkpoints before the newest certified one:
	// roots of its complete subtrees by level and number, and ids of checkpoints by number.
	// Errors: NotFound, NotYet.
	HistoryNodes(level uint8, first uint64, count int) ([]types.Hash, error)
	HistoryEntries(first uint64, count int) ([]types.Hash, error)
}

// Status is how a peer is: its chain and its connections.
type Status struct {
	Key              types.Key
	Name             string // empty if the key is not registered
	Height           uint64 // as in chain.Update
	Final            uint64
	Certified        uint64
	Peers            []Peer       // registered, ascending by key, this one included
	Shares           types.Amount // of all members of the snapshot that decides now
	PoolTransactions int
	PoolBytes        int
	Connections      int    // open, to peers and wallets
	Lowest           uint64 // height from which on all blocks are kept, 0 for all
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
	Lowest    uint64        // height from which on it keeps all blocks, as it last said; 0 for all
}
