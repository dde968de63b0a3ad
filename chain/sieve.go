package chain

import (
	"encoding/binary"
	"math/bits"
	"sync"

	"charter/ledger"
	"charter/types"
)

// sieve knows of nearly all transactions that were never ordered that they were not. Each that
// comes in is asked for, nearly all are new, and the disk would have to say so level by level.
// It is a Bloom filter of all ids that were, made from the events in the background: until that
// is done it knows nothing. When it is full, one of twice the size is made likewise.
type sieve struct {
	mu   sync.RWMutex
	full *bloom // nil until it is made
	next *bloom // being made; nil if none is
}

// Ten bits an id and seven of them set for it let one in a hundred through.
const (
	bloomBits   = 10
	bloomProbes = 7
	minBloom    = 1 << 16 // ids
	maxBloom    = 1 << 26 // ids, in 80 MB: beyond, more and more get through
)

// bloom is a Bloom filter of hashes, which need not be hashed again.
type bloom struct {
	words []uint64 // a power of two
	ids   int      // put in
	room  int      // for so many
}

func newBloom(room int) *bloom {
	words := 1 << bits.Len(uint(room*bloomBits/64))
	return &bloom{words: make([]uint64, words), room: words * 64 / bloomBits}
}

// probe is the i-th place of an id.
func (b *bloom) probe(id *types.Hash, i int) (word int, bit uint64) {
	at := binary.LittleEndian.Uint64(id[:]) + uint64(i)*(binary.LittleEndian.Uint64(id[8:])|1)
	return int(at>>6) & (len(b.words) - 1), 1 << (at & 63)
}

func (b *bloom) add(id *types.Hash) {
	if b == nil {
		return
	}
	b.ids++
	for i := range bloomProbes {
		word, bit := b.probe(id, i)
		b.words[word] |= bit
	}
}

func (b *bloom) has(id *types.Hash) bool {
	for i := range bloomProbes {
		if word, bit := b.probe(id, i); b.words[word]&bit == 0 {
			return false
		}
	}
	return true
}

// absent reports that no event is of this transaction. False means nothing.
func (s *sieve) absent(id types.Hash) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.full != nil && !s.full.has(&id)
}

// take notes what was ordered, before it is known elsewhere.
func (s *sieve) take(ch *ledger.Changes) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ch.Events {
		s.full.add(&ch.Events[i].Transaction)
		s.next.add(&ch.Events[i].Transaction)
	}
}

// begin makes room for a new filter, if the one that there is has too little for so many events,
// and reports whether it did: then all of them are to be put in. Take puts in those that follow.
func (s *sieve) begin(events uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil || s.full != nil && (s.full.ids <= s.full.room || s.full.room >= maxBloom) {
		return false
	}
	s.next = newBloom(min(max(minBloom, 2*int(events)), maxBloom))
	return true
}

func (s *sieve) put(ids []types.Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ids {
		s.next.add(&ids[i])
	}
}

func (s *sieve) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.full, s.next = s.next, nil
}

// sift has the sieve made, if that is due. It is for the applier, between its batches, when the
// newest pinned state has so many events.
func (c *Chain) sift(events uint64) {
	if c.sieve.begin(events) {
		c.done.Go(func() { c.fillSieve(events) })
	}
}

// fillSieve puts in the first events, some at a time: what was ordered stays, so each time the
// newest state will do.
func (c *Chain) fillSieve(events uint64) {
	const atOnce = 4096
	for from := uint64(0); from < events; {
		pin := c.pins.latest()
		if pin == nil {
			return
		}
		ids := make([]types.Hash, 0, atOnce)
		for e, err := range pin.snap.Events(from) {
			if err != nil {
				c.pins.drop(pin)
				c.log.Warn("the sieve of transactions was not made", "error", err)
				return
			}
			if ids = append(ids, e.Transaction); len(ids) == atOnce {
				break
			}
		}
		c.pins.drop(pin)
		if len(ids) == 0 {
			return // there were more a moment ago; the sieve goes without
		}
		c.sieve.put(ids)
		from += uint64(len(ids))
		select {
		case <-c.quit:
			return
		default:
		}
	}
	c.sieve.done()
}
