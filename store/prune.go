package store

import (
	"errors"

	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// pruneStep is how many blocks are let go of at once.
const pruneStep = 1024

// Lowest is the height from which on all blocks are kept; 0 if none was let go of, and none came
// before the checkpoint that the store was begun from.
func (s *Store) Lowest() uint64 { return s.log.lowest.Load() }

// Prune lets go of blocks below a height, of some of them: more says whether there are others.
// They must be settled: nothing needs them any more but who asks for the past. What the peer signed
// last stays. The state, all events and the index of transactions are untouched, and what they hold
// is durable before a block goes, or a crash could leave neither.
func (s *Store) Prune(below uint64) (pruned int, more bool, err error) {
	l := &s.log
	if below = max(below, l.lowest.Load()); below == l.lowest.Load() && !l.pruning.Load() {
		return 0, false, nil
	}
	if err := s.stop.run(func() error { return s.state.db.LogData(nil, pebble.Sync) }); err != nil {
		return 0, false, err
	}
	b := l.db.NewBatch()
	if pruned, more, err = s.pruneInto(b, below); err == nil {
		err = b.Set([]byte{logLowest}, u64(below), nil)
	}
	if err != nil {
		return 0, false, s.read("blocks to let go of", errors.Join(err, b.Close()))
	}
	if err := l.commit(b, false); err != nil {
		return 0, false, err
	}
	l.lowest.Store(below)
	l.pruning.Store(more)
	return pruned, more, nil
}

func (s *Store) pruneInto(b *pebble.Batch, below uint64) (pruned int, more bool, err error) {
	l := &s.log
	last := s.Signed().Block
	for e, err := range scan(l.db, key(logHeight), key(logHeight, u64(below))) {
		if err != nil {
			return 0, false, err
		}
		if pruned == pruneStep {
			return pruned, true, nil
		}
		id, seq := types.Hash(e.value), e.key[len(e.key)-8:]
		if id == last {
			continue
		}
		blk, err := l.block(seq)
		if err != nil {
			return 0, false, err
		}
		head := headOf(&blk)
		if err := errors.Join(b.Delete(key(logBlock, seq), nil), b.Delete(key(logPayload, seq), nil), b.Delete(key(logID, id[:]), nil),
			b.Delete(e.key, nil), b.Delete(key(logAuthor, head.Author[:], u64(head.Height), seq), nil)); err != nil {
			return 0, false, err
		}
		pruned++
	}
	return pruned, false, nil
}

// openLowest reads from which height on blocks are kept. Some below may still be to go.
func (l *logStore) openLowest() error {
	v, err := get(l.db, []byte{logLowest})
	if err != nil || v == nil {
		return err
	}
	n, err := decodeNumber(v)
	if err != nil {
		return err
	}
	l.lowest.Store(*n)
	l.pruning.Store(true)
	return nil
}

// putFirst keeps the blocks from which a store goes on that has none, and that none came before.
func (s *Store) putFirst(blocks []Block) error {
	lowest := uint64(types.MaxHeight)
	for i := range blocks {
		lowest = min(lowest, headOf(&blocks[i]).Height)
	}
	if len(blocks) > 0 {
		b := s.log.db.NewBatch()
		if err := errors.Join(b.Set([]byte{logLowest}, u64(lowest), nil), s.log.commit(b, true)); err != nil {
			return err
		}
		s.log.lowest.Store(lowest)
	}
	return s.PutBlocks(blocks, true)
}
