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
// Two transactions that spend one output do not wait side by side: the first one stays. Who
// adds one has checked that its inputs are outputs of the final state, so that nobody blocks
// a position with an input that only claims to be there.
//
// What waits is kept in order of what comes next for it, so that no question costs more for
// what waits without being part of the answer: once due it is in a list, until then in a
// queue by time; another queue has the times at which it ends. The pool is a machine without
// clock or lock; what it is told and when is its driver's.
package pool

import (
	"cmp"
	"container/heap"
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
	bytes  int

	// Of *entry, that no block carries.
	due    *list.List // that may go into this peer's block, in the order in which they became due
	later  schedule   // that will be due, by when
	unsent *list.List // that another peer hosts and was not given, in order of arrival
	ends   schedule   // all, by the last time at which they may be applied
	waits  uint64     // how often something began to wait
}

type entry struct {
	id     types.Hash
	raw    []byte
	tx     *types.Transaction
	due    types.Millis // from when it may go into a block of this peer
	order  uint64       // that of beginning to wait, which decides between equal times
	block  types.Hash   // that carries it, zero while it waits
	place  [2]*list.Element
	timers [2]int // places in the schedules, plus one: 0 for none
}

// The places of an entry's elements and timers.
const (
	inDue, inUnsent = 0, 1
	inLater, inEnds = 0, 1
)

// New is an empty pool of the peer self.
func New(self types.Key, limits Limits) *Pool {
	return &Pool{
		self: self, limits: limits, byID: make(map[types.Hash]*entry), spends: make(map[uint64]*entry),
		due: list.New(), unsent: list.New(),
		later: schedule{timer: inLater, when: func(e *entry) types.Millis { return e.due }},
		ends:  schedule{timer: inEnds, when: func(e *entry) types.Millis { return e.tx.ValidUntil }},
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
	e := &entry{id: id, raw: raw, tx: tx}
	p.byID[id] = e
	p.bytes += len(raw)
	for _, in := range tx.Inputs {
		p.spends[in.Position] = e
	}
	p.wait(e, now)
	return nil
}

// wait lets e wait from now on.
func (p *Pool) wait(e *entry, now types.Millis) {
	p.ripen(now)
	e.due = e.tx.ValidFrom
	if host := e.tx.Host(); host != p.self && !host.IsZero() {
		e.due = max(e.due, now+p.limits.Patience)
		e.place[inUnsent] = p.unsent.PushBack(e)
	}
	p.waits++
	e.order = p.waits
	p.enlist(e, now)
	p.ends.add(e)
}

// enlist puts e where Take finds it, or will when it is due.
func (p *Pool) enlist(e *entry, now types.Millis) {
	switch {
	case e.due > e.tx.ValidUntil: // never this peer's to carry
	case e.due <= now:
		e.place[inDue] = p.due.PushBack(e)
	default:
		p.later.add(e)
	}
}

// Adopt lets this peer carry a transaction itself from now on, since its host cannot be
// given it.
func (p *Pool) Adopt(id types.Hash, now types.Millis) {
	p.ripen(now)
	e := p.byID[id]
	if e == nil || !e.block.IsZero() || e.due <= now {
		return
	}
	p.later.remove(e)
	p.unlist(p.unsent, e, inUnsent)
	e.due = max(e.tx.ValidFrom, now)
	p.waits++
	e.order = p.waits
	p.enlist(e, now)
}

// leave takes e from all that wait.
func (p *Pool) leave(e *entry) {
	p.later.remove(e)
	p.ends.remove(e)
	p.unlist(p.due, e, inDue)
	p.unlist(p.unsent, e, inUnsent)
}

func (p *Pool) unlist(from *list.List, e *entry, place int) {
	if e.place[place] != nil {
		from.Remove(e.place[place])
		e.place[place] = nil
	}
}

// ripen moves what has become due to where Take finds it.
func (p *Pool) ripen(now types.Millis) {
	for e := p.later.first(); e != nil && e.due <= now; e = p.later.first() {
		p.later.remove(e)
		e.place[inDue] = p.due.PushBack(e)
	}
}

// mine reports whether e may go into a block of this peer now. It is asked again of what is
// due: the end may have come since, and clocks are set back.
func mine(e *entry, now types.Millis) bool { return e.due <= now && now <= e.tx.ValidUntil }

// Ready reports whether Take would give anything and, if not, when it may: 0 for never.
func (p *Pool) Ready(now types.Millis) (bool, types.Millis) {
	p.ripen(now)
	var soonest types.Millis
	if e := p.later.first(); e != nil {
		soonest = e.due
	}
	for el := p.due.Front(); el != nil; el = el.Next() {
		e := el.Value.(*entry)
		if mine(e, now) {
			return true, 0
		}
		if e.due > now && (soonest == 0 || e.due < soonest) {
			soonest = e.due
		}
	}
	return false, soonest
}

// Take is what goes into this peer's next block, in the order in which it became due, up to
// max bytes as types.EncodePayload counts them. They stay waiting until Carry.
func (p *Pool) Take(max int, now types.Millis) (ids []types.Hash, raws [][]byte) {
	p.ripen(now)
	size := 4
	for el := p.due.Front(); el != nil && len(raws) < types.MaxTransactions; el = el.Next() {
		e := el.Value.(*entry)
		if !mine(e, now) {
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
// n, by that peer. Each is given once, and again if its block is given up; none is once this
// peer may carry it itself.
func (p *Pool) Forward(n int, now types.Millis) map[types.Key][][]byte {
	var out map[types.Key][][]byte
	for el := p.unsent.Front(); el != nil && n > 0; el = p.unsent.Front() {
		e := el.Value.(*entry)
		p.unlist(p.unsent, e, inUnsent)
		if e.due <= now || e.tx.ValidUntil < now {
			continue
		}
		if out == nil {
			out = make(map[types.Key][][]byte)
		}
		out[e.tx.Host()] = append(out[e.tx.Host()], e.raw)
		n--
	}
	return out
}

// Carry notes that a block, of whatever peer, carries these transactions.
func (p *Pool) Carry(block types.Hash, ids []types.Hash) {
	for _, id := range ids {
		if e := p.byID[id]; e != nil && e.block.IsZero() {
			p.leave(e)
			e.block = block
		}
	}
}

// Release lets transactions wait again whose block will never be ordered.
func (p *Pool) Release(block types.Hash, ids []types.Hash, now types.Millis) {
	for _, id := range ids {
		if e := p.byID[id]; e != nil && !block.IsZero() && e.block == block {
			e.block = types.Hash{}
			p.wait(e, now)
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
	for e := p.ends.first(); e != nil && e.tx.ValidUntil < now; e = p.ends.first() {
		p.remove(e)
		dropped = append(dropped, e.id)
	}
	return dropped
}

func (p *Pool) remove(e *entry) {
	delete(p.byID, e.id)
	p.bytes -= len(e.raw)
	for _, in := range e.tx.Inputs {
		delete(p.spends, in.Position)
	}
	p.leave(e)
}

// schedule is a heap of entries by a time of theirs, the first one on top.
type schedule struct {
	timer   int // which of an entry's timers has its place
	when    func(*entry) types.Millis
	entries []*entry
}

func (s *schedule) first() *entry {
	if len(s.entries) == 0 {
		return nil
	}
	return s.entries[0]
}

func (s *schedule) add(e *entry) { heap.Push(s, e) }

func (s *schedule) remove(e *entry) {
	if i := e.timers[s.timer]; i > 0 {
		heap.Remove(s, i-1)
	}
}

// Len, Less, Swap, Push and Pop are for package heap.
func (s *schedule) Len() int { return len(s.entries) }

func (s *schedule) Less(i, j int) bool {
	a, b := s.entries[i], s.entries[j]
	return cmp.Or(cmp.Compare(s.when(a), s.when(b)), cmp.Compare(a.order, b.order)) < 0
}

func (s *schedule) Swap(i, j int) {
	s.entries[i], s.entries[j] = s.entries[j], s.entries[i]
	s.entries[i].timers[s.timer], s.entries[j].timers[s.timer] = i+1, j+1
}

func (s *schedule) Push(x any) {
	e := x.(*entry)
	s.entries = append(s.entries, e)
	e.timers[s.timer] = len(s.entries)
}

func (s *schedule) Pop() any {
	e := s.entries[len(s.entries)-1]
	s.entries[len(s.entries)-1] = nil
	s.entries = s.entries[:len(s.entries)-1]
	e.timers[s.timer] = 0
	return e
}
