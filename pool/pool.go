// Package pool holds the transactions that wait for a block.
//
// A transaction is kept by the peer that was given it, until it is settled. It goes into
// the blocks of the peer that hosts its first input; another peer puts it into a block of
// its own only after that host was silent for Patience. To be carried twice harms nobody:
// the ledger skips the second.
//
//	Add ──► waiting ──Take──► carried ──► Settle
//	           ▲                 │
//	           └─── Release ─────┘      the block will never be ordered
//
// Two transactions that spend one output do not wait side by side: the first one stays. It
// is a machine without clock or lock; what it is told and when is its driver's.
package pool

import (
	"container/list"
	"errors"
	"fmt"

	"charter/types"
)

// Limits bound what a pool holds.
type Limits struct {
	Bytes    int          // of encoded transactions in all
	Count    int          // transactions
	Patience types.Millis // how long a transaction is left to its host
}

// DefaultLimits hold some seconds of the fastest network.
var DefaultLimits = Limits{Bytes: 64 << 20, Count: 1 << 17, Patience: 3000}

// ErrFull says that there is no room.
var ErrFull = errors.New("the pool of waiting transactions is full; try again in a moment")

// ConflictError says that a waiting transaction spends the same output.
type ConflictError struct {
	Position uint64
	Other    types.Hash
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("transaction %s, which waits already, spends the output at position %d too", e.Other, e.Position)
}

// Pool is the waiting transactions of one peer. The zero Pool is not ready: use New.
type Pool struct {
	self   types.Key
	limits Limits
	byID   map[types.Hash]*entry
	spends map[uint64]*entry // by position of the output
	queue  *list.List        // of *entry, that no block carries, in order of arrival
	bytes  int
}

type entry struct {
	id        types.Hash
	raw       []byte
	tx        *types.Transaction
	since     types.Millis  // arrival, or when its block was given up
	place     *list.Element // in queue, nil while a block carries it
	block     types.Hash    // that carries it
	forwarded bool
}

// New is an empty pool of the peer self.
func New(self types.Key, limits Limits) *Pool {
	return &Pool{
		self: self, limits: limits, queue: list.New(),
		byID: make(map[types.Hash]*entry), spends: make(map[uint64]*entry),
	}
}

// Len is how many transactions are held, carried ones too; Bytes is their size.
func (p *Pool) Len() int   { return len(p.byID) }
func (p *Pool) Bytes() int { return p.bytes }

// Has reports whether a transaction is held.
func (p *Pool) Has(id types.Hash) bool { return p.byID[id] != nil }

// Block is the block that carries a transaction that is held, zero while it waits.
func (p *Pool) Block(id types.Hash) (block types.Hash, held bool) {
	if e := p.byID[id]; e != nil {
		return e.block, true
	}
	return types.Hash{}, false
}

// Add takes in a transaction that is valid by itself. One that is held already is fine.
// Errors: ErrFull, *ConflictError.
func (p *Pool) Add(id types.Hash, tx *types.Transaction, raw []byte, now types.Millis) error {
	if p.Has(id) {
		return nil
	}
	if len(p.byID) >= p.limits.Count || p.bytes+len(raw) > p.limits.Bytes {
		return ErrFull
	}
	for _, in := range tx.Inputs {
		if other := p.spends[in.Position]; other != nil {
			return &ConflictError{in.Position, other.id}
		}
	}
	e := &entry{id: id, raw: raw, tx: tx, since: now}
	p.byID[id] = e
	p.bytes += len(raw)
	for _, in := range tx.Inputs {
		p.spends[in.Position] = e
	}
	e.place = p.queue.PushBack(e)
	return nil
}

// mine reports whether e may go into a block of this peer now.
func (p *Pool) mine(e *entry, now types.Millis) bool {
	if e.tx.ValidFrom > now || e.tx.ValidUntil < now {
		return false
	}
	host := e.tx.Host()
	return host == p.self || host.IsZero() || now-e.since >= p.limits.Patience
}

// Ready reports whether Take would give anything and, if not, when it may: 0 for never.
func (p *Pool) Ready(now types.Millis) (bool, types.Millis) {
	var soonest types.Millis
	for el := p.queue.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if p.mine(e, now) {
			return true, 0
		}
		due := max(e.tx.ValidFrom, e.since+p.limits.Patience)
		if due > now && e.tx.ValidUntil >= due && (soonest == 0 || due < soonest) {
			soonest = due
		}
	}
	return false, soonest
}

// Take is what goes into this peer's next block, oldest first, up to max bytes as
// types.EncodePayload counts them. They stay waiting until Carry.
func (p *Pool) Take(max int, now types.Millis) (ids []types.Hash, raws [][]byte) {
	size := 4
	for el := p.queue.Front(); el != nil && len(raws) < types.MaxTransactions; el = el.Next() {
		e := el.Value.(*entry)
		if !p.mine(e, now) {
			continue
		}
		if size += 4 + len(e.raw); size > max {
			break
		}
		ids, raws = append(ids, e.id), append(raws, e.raw)
	}
	return ids, raws
}

// Forward is transactions that wait for another peer's block and were not given yet, up to
// n, by that peer. Each is given once, and again if its block is given up.
func (p *Pool) Forward(n int, now types.Millis) map[types.Key][][]byte {
	var out map[types.Key][][]byte
	for el := p.queue.Front(); el != nil && n > 0; el = el.Next() {
		e := el.Value.(*entry)
		if e.forwarded || p.mine(e, now) || e.tx.ValidUntil < now {
			continue
		}
		if out == nil {
			out = make(map[types.Key][][]byte)
		}
		e.forwarded = true
		out[e.tx.Host()] = append(out[e.tx.Host()], e.raw)
		n--
	}
	return out
}

// Carry notes that a block, of whatever peer, carries these transactions.
func (p *Pool) Carry(block types.Hash, ids []types.Hash) {
	for _, id := range ids {
		if e := p.byID[id]; e != nil && e.place != nil {
			p.queue.Remove(e.place)
			e.place, e.block = nil, block
		}
	}
}

// Release lets transactions wait again whose block will never be ordered.
func (p *Pool) Release(block types.Hash, ids []types.Hash, now types.Millis) {
	for _, id := range ids {
		if e := p.byID[id]; e != nil && e.place == nil && e.block == block {
			e.block, e.since, e.forwarded = types.Hash{}, now, false
			e.place = p.queue.PushBack(e)
		}
	}
}

// Settle forgets transactions whose fate is sealed, and those that spend what they spent,
// and gives the ids of all that were held.
func (p *Pool) Settle(ids []types.Hash, spent []uint64) (dropped []types.Hash) {
	drop := func(e *entry) {
		if e != nil && p.byID[e.id] != nil {
			p.remove(e)
			dropped = append(dropped, e.id)
		}
	}
	for _, id := range ids {
		drop(p.byID[id])
	}
	for _, position := range spent {
		drop(p.spends[position])
	}
	return dropped
}

// Expire forgets transactions that wait and can no longer be applied, and gives their ids.
func (p *Pool) Expire(now types.Millis) (dropped []types.Hash) {
	for el := p.queue.Front(); el != nil; {
		e := el.Value.(*entry)
		if el = el.Next(); e.tx.ValidUntil < now {
			p.remove(e)
			dropped = append(dropped, e.id)
		}
	}
	return dropped
}

func (p *Pool) remove(e *entry) {
	delete(p.byID, e.id)
	p.bytes -= len(e.raw)
	for _, in := range e.tx.Inputs {
		if p.spends[in.Position] == e {
			delete(p.spends, in.Position)
		}
	}
	if e.place != nil {
		p.queue.Remove(e.place)
	}
}
