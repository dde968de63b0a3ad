package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// The keys of the log. Heights and sequence numbers are 8 bytes, big-endian. Blocks stand in
// the order in which they came, so that the engine never has to sort them again.
//
//	'b' sequence                  id, header, meta of a block
//	'p' sequence                  its payload, if it has one
//	'i' id                        its sequence
//	'h' height, sequence          its id
//	'a' author, height, sequence  its id
//	's'                           the safety record (Signed)
//	'v' height                    id of the checkpoint that the peer voted for
//	't' place                     id and bytes of a waiting transaction, in order of submission
//	'w' transaction id            its place
//	'l'                           the height from which on all blocks are kept
const (
	logBlock   = 'b'
	logPayload = 'p'
	logID      = 'i'
	logHeight  = 'h'
	logAuthor  = 'a'
	logSigned  = 's'
	logVote    = 'v'
	logPool    = 't'
	logWaiting = 'w'
	logLowest  = 'l'
)

// Bounds of a block's parts as they are read back.
const (
	maxHeader = 64 << 10
	maxMeta   = 1 << 20
)

// Block is a block as it is kept: bytes, that are served as they came.
type Block struct {
	Sequence uint64 // its place in the order of arrival, from 1; the store sets it
	ID       types.Hash
	Header   []byte // types.Block.Encode
	Payload  []byte // types.EncodePayload, or empty
	Meta     []byte // what consensus knows of it, opaque here
}

type logStore struct {
	*engine
	signed *signedFile

	mu       sync.Mutex  // order of sequence numbers is the order of commits
	next     uint64      // the next sequence number of a block
	nextPool uint64      // place of the next submitted transaction
	unsynced atomic.Bool // a block was put and not synced
	lowest   atomic.Uint64
	pruning  atomic.Bool // there may be blocks below lowest

	signing sync.Mutex // one signature at a time
	record  Signed
	foreign atomic.Bool // a block by the peer came from elsewhere
}

func (s *Store) openLog() error {
	e, err := s.openEngine("log", s.opts.memtable/2)
	if err != nil {
		return err
	}
	s.log.engine = e
	if s.log.next, err = s.log.following(logBlock); err != nil {
		return s.read("blocks", err)
	}
	if s.log.nextPool, err = s.log.following(logPool); err != nil {
		return s.read("pool", err)
	}
	if err := s.log.openLowest(); err != nil {
		return s.read("the lowest height", err)
	}
	return s.reconcile()
}

// following is one more than the last number in a space whose keys are numbers, 1 if it is empty.
func (l *logStore) following(space byte) (uint64, error) {
	k, _, err := last(l.db, []byte{space}, []byte{space + 1})
	if err != nil || k == nil {
		return 1, err
	}
	d := types.NewDecoder("number", k[1:])
	n := d.U64("number")
	return n + 1, d.Finish()
}

// key is a key of the log or the state: a space, and parts of fixed length but the last.
func key(space byte, parts ...[]byte) []byte {
	k := make([]byte, 1, 1+48)
	k[0] = space
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// highest is the greatest height at which the log has a block of an author, or zeros.
func (l *logStore) highest(author types.Key) (height uint64, id types.Hash, err error) {
	prefix := key(logAuthor, author[:])
	k, v, err := last(l.db, prefix, after(prefix))
	if err != nil || k == nil {
		return 0, types.Hash{}, err
	}
	d := types.NewDecoder("author's block", append(k[len(prefix):], v...))
	height, _, id = d.U64("height"), d.U64("sequence"), d.Hash("id")
	return height, id, d.Finish()
}

// add puts a block into a batch, under the next sequence number.
func (l *logStore) add(b *pebble.Batch, blk *Block, head *types.Block) error {
	seq, height := u64(l.next), u64(head.Height)
	l.next++
	err := errors.Join(
		b.Set(key(logBlock, seq), encodeBlock(blk), nil),
		b.Set(key(logID, blk.ID[:]), seq, nil),
		b.Set(key(logHeight, height, seq), blk.ID[:], nil),
		b.Set(key(logAuthor, head.Author[:], height, seq), blk.ID[:], nil),
	)
	if len(blk.Payload) > 0 {
		err = errors.Join(err, b.Set(key(logPayload, seq), blk.Payload, nil))
	}
	return err
}

// headOf decodes a header that the caller has checked before: one that does not decode is a bug.
func headOf(b *Block) *types.Block {
	h, err := types.DecodeBlock(b.Header)
	if err != nil || len(b.Header) > maxHeader || len(b.Meta) > maxMeta || len(b.Payload) > types.MaxPayload {
		panic(fmt.Sprintf("store: block %s: %v, header of %d bytes, meta of %d, payload of %d", b.ID, err, len(b.Header), len(b.Meta), len(b.Payload)))
	}
	return h
}

// PutBlocks keeps blocks of others, in this order behind those before; one that is there
// already is passed over. If durable it returns when they are on the disk. If not, they are by
// the time that anything that builds on them is.
func (s *Store) PutBlocks(blocks []Block, durable bool) error {
	heads := make([]*types.Block, len(blocks))
	for i := range blocks {
		heads[i] = headOf(&blocks[i])
	}
	return s.stop.run(func() error {
		b := s.log.db.NewBatch()
		if err := s.enter(b, blocks, heads, durable); err != nil {
			return err
		}
		if durable {
			if err := b.SyncWait(); err != nil {
				return err
			}
		}
		return b.Close()
	})
}

// enter puts those blocks that are new into the batch and commits it. If durable it starts a
// sync, for which the caller waits, when the lock is free for the next.
func (s *Store) enter(b *pebble.Batch, blocks []Block, heads []*types.Block, durable bool) error {
	l := &s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[types.Hash]bool, len(blocks))
	for i := range blocks {
		blk := &blocks[i]
		old, err := get(l.db, key(logID, blk.ID[:]))
		if err != nil {
			return err
		}
		if old != nil || seen[blk.ID] {
			continue
		}
		seen[blk.ID] = true
		if heads[i].Author == s.opts.Peer {
			l.foreign.Store(true)
		}
		if err := l.add(b, blk, heads[i]); err != nil {
			return err
		}
	}
	if durable {
		l.unsynced.Store(false)
		return l.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	l.unsynced.Store(true)
	return l.db.Apply(b, pebble.NoSync)
}

// sync makes durable what PutBlocks left to be.
func (l *logStore) sync() error {
	if !l.unsynced.Swap(false) {
		return nil
	}
	return l.stop.run(func() error { return l.db.LogData(nil, pebble.Sync) })
}

// PutOwn keeps the peer's own new block and, if it carries one, its vote. When it returns, the
// block and the record of having signed are durable, and the block may be sent. The block must
// be above the peer's last and name it as previous: else, and for a second vote at a height, an
// Error of kind SignedTwice, or MustNotSign if blocks of this key came from elsewhere. The same
// block again is fine.
func (s *Store) PutOwn(blk Block) error {
	h := headOf(&blk)
	if h.Author != s.opts.Peer {
		panic(fmt.Sprintf("store: own block %s is by %s, and the peer is %s", blk.ID, h.Author, s.opts.Peer))
	}
	l := &s.log
	l.signing.Lock()
	defer l.signing.Unlock()
	r := l.record
	if blk.ID == r.Block {
		return nil
	}
	if err := s.complete(); err != nil {
		return err
	}
	if h.Height <= r.Height || h.Previous != r.Block {
		return s.refuse(SignedTwice, fmt.Sprintf("block %s at height %d with previous %s, after %s", blk.ID.Short(), h.Height, h.Previous.Short(), r), nil)
	}
	r.Height, r.Block = h.Height, blk.ID
	b := l.db.NewBatch()
	if v := h.Checkpoint; !v.Checkpoint.IsZero() {
		if _, err := s.vote(b, &r, v.Height, v.Checkpoint); err != nil {
			return err
		}
	}
	return s.sign(b, r, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unsynced.Store(false)
		if err := l.add(b, &blk, h); err != nil {
			return err
		}
		return l.db.ApplyNoSyncWait(b, pebble.Sync)
	})
}

// PutVote records that the peer votes for a checkpoint. When it returns this is durable, and
// the vote may be sent. Another vote at that height gives an Error of kind SignedTwice; the same
// again is fine.
func (s *Store) PutVote(height uint64, checkpoint types.Hash) error {
	l := &s.log
	l.signing.Lock()
	defer l.signing.Unlock()
	r := l.record
	b := l.db.NewBatch()
	if fresh, err := s.vote(b, &r, height, checkpoint); err != nil || !fresh {
		return err
	}
	return s.sign(b, r, func() error { return l.db.ApplyNoSyncWait(b, pebble.Sync) })
}

// vote puts a vote into the batch and the record, and reports whether it is a new one.
func (s *Store) vote(b *pebble.Batch, r *Signed, height uint64, checkpoint types.Hash) (bool, error) {
	old, ok, err := s.Vote(height)
	if err != nil {
		return false, err
	}
	if ok && old != checkpoint {
		return false, s.refuse(SignedTwice, fmt.Sprintf("a vote for checkpoint %s at height %d, after one for %s", checkpoint.Short(), height, old.Short()), nil)
	}
	if height >= r.VoteHeight {
		r.VoteHeight, r.Vote = height, checkpoint
	}
	return !ok, b.Set(key(logVote, u64(height)), checkpoint[:], nil)
}

// complete refuses, with kind MustNotSign, if the peer has signed what the record does not know.
func (s *Store) complete() error {
	if !s.log.foreign.Load() {
		return nil
	}
	return s.refuse(MustNotSign, fmt.Sprintf("blocks of this peer came from the network, that it has not made here; here it made %s", s.log.record), nil)
}

// sign adds the record to the batch, has it committed, and when that is durable writes
// the record's second copy.
func (s *Store) sign(b *pebble.Batch, r Signed, commit func() error) error {
	l := &s.log
	if err := s.complete(); err != nil {
		return err
	}
	r.Count++
	err := s.stop.run(func() error {
		if err := b.Set([]byte{logSigned}, r.encode(), nil); err != nil {
			return err
		}
		if err := commit(); err != nil {
			return err
		}
		if err := b.SyncWait(); err != nil {
			return err
		}
		if err := b.Close(); err != nil {
			return err
		}
		return l.signed.write(r)
	})
	if err == nil {
		l.record = r
	}
	return err
}

// Signed is the safety record: what the peer signed last.
func (s *Store) Signed() Signed {
	s.log.signing.Lock()
	defer s.log.signing.Unlock()
	return s.log.record
}

// Vote is the checkpoint that the peer voted for at a height, or false.
func (s *Store) Vote(height uint64) (checkpoint types.Hash, ok bool, err error) {
	v, err := get(s.log.db, key(logVote, u64(height)))
	if err != nil || v == nil {
		return checkpoint, false, s.read("own vote", err)
	}
	d := types.NewDecoder("own vote", v)
	checkpoint = d.Hash("checkpoint")
	return checkpoint, true, s.read("own vote", d.Finish())
}

// HasBlock reports whether a block is kept.
func (s *Store) HasBlock(id types.Hash) (bool, error) {
	v, err := get(s.log.db, key(logID, id[:]))
	return v != nil, s.read("block", err)
}

// Block is a block by its id, or false.
func (s *Store) Block(id types.Hash) (Block, bool, error) {
	seq, err := get(s.log.db, key(logID, id[:]))
	if err != nil || seq == nil {
		return Block{}, false, s.read("block", err)
	}
	b, err := s.log.block(seq)
	if errors.Is(err, errMissing) && s.gone(key(logID, id[:])) {
		return Block{}, false, nil
	}
	return b, err == nil, s.read("block "+id.String(), err)
}

// gone reports whether an entry of an index is there no more: its block was let go of meanwhile.
func (s *Store) gone(key []byte) bool {
	v, err := get(s.log.db, key)
	return v == nil && err == nil
}

// block reads a whole block, by its sequence number in eight bytes.
func (l *logStore) block(seq []byte) (Block, error) {
	if len(seq) != 8 {
		return Block{}, errMissing
	}
	v, err := get(l.db, key(logBlock, seq))
	if err != nil {
		return Block{}, err
	}
	if v == nil {
		return Block{}, errMissing
	}
	b, err := decodeBlock(binary.BigEndian.Uint64(seq), v)
	if err != nil {
		return Block{}, err
	}
	b.Payload, err = get(l.db, key(logPayload, seq))
	return b, err
}

// encodeBlock is a block without its payload and sequence number.
func encodeBlock(b *Block) []byte {
	e := types.NewEncoder(make([]byte, 0, 64+len(b.Header)+len(b.Meta)))
	e.Hash(b.ID)
	e.Bytes(b.Header)
	e.Bytes(b.Meta)
	return e.Data()
}

// decodeBlock reads a block without its payload.
func decodeBlock(seq uint64, data []byte) (Block, error) {
	d := types.NewDecoder("stored block", data)
	b := Block{Sequence: seq, ID: d.Hash("id"), Header: d.Bytes("header", maxHeader), Meta: d.Bytes("meta", maxMeta)}
	return b, d.Finish()
}

// NextSequence is the sequence number that the next block will have.
func (s *Store) NextSequence() uint64 {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.next
}

// Arrived goes over the blocks in the order in which they were put, from a sequence number
// up, without their payloads. A restart gives them to consensus again.
func (s *Store) Arrived(from uint64) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for e, err := range scan(s.log.db, key(logBlock, u64(from)), []byte{logBlock + 1}) {
			var b Block
			if err == nil && len(e.key) != 9 {
				err = errMissing
			}
			if err == nil {
				b, err = decodeBlock(binary.BigEndian.Uint64(e.key[1:]), e.value)
			}
			if !yield(b, s.read("blocks", err)) || err != nil {
				return
			}
		}
	}
}

// Blocks goes over the blocks of the heights from … to, both included, lowest height first and
// at one height in order of arrival.
func (s *Store) Blocks(from, to uint64) iter.Seq2[Block, error] {
	return s.indexed(key(logHeight, u64(from)), after(key(logHeight, u64(to))))
}

// BlocksOf goes over an author's blocks from a height up.
func (s *Store) BlocksOf(author types.Key, from uint64) iter.Seq2[Block, error] {
	return s.indexed(key(logAuthor, author[:], u64(from)), after(key(logAuthor, author[:])))
}

// indexed goes over the blocks of a range of an index, whose keys end in a sequence number.
func (s *Store) indexed(from, to []byte) iter.Seq2[Block, error] {
	return func(yield func(Block, error) bool) {
		for e, err := range scan(s.log.db, from, to) {
			var b Block
			if err == nil {
				b, err = s.log.block(e.key[len(e.key)-8:])
			}
			if errors.Is(err, errMissing) && s.gone(e.key) {
				continue
			}
			if !yield(b, s.read("blocks", err)) || err != nil {
				return
			}
		}
	}
}

// Height is the greatest height of any block, 0 if there is none.
func (s *Store) Height() (uint64, error) {
	k, _, err := last(s.log.db, []byte{logHeight}, []byte{logHeight + 1})
	if err != nil || k == nil {
		return 0, s.read("heights", err)
	}
	d := types.NewDecoder("height key", k[1:])
	h := d.U64("height")
	d.U64("sequence")
	return h, s.read("heights", d.Finish())
}

// Waiting is a submitted transaction.
type Waiting struct {
	ID  types.Hash
	Raw []byte // types.Transaction.Encode
}

// PutPool keeps submitted transactions, in this order. When it returns they are durable, and may
// be acknowledged. One that is there already stays where it is.
func (s *Store) PutPool(txs ...Waiting) error {
	l := &s.log
	for _, w := range txs {
		if len(w.Raw) > types.MaxTransaction {
			panic(fmt.Sprintf("store: transaction %s of %d bytes", w.ID, len(w.Raw)))
		}
	}
	return s.stop.run(func() error {
		b := l.db.NewBatch()
		if err := l.enterPool(b, txs); err != nil {
			return err
		}
		if err := b.SyncWait(); err != nil {
			return err
		}
		return b.Close()
	})
}

func (l *logStore) enterPool(b *pebble.Batch, txs []Waiting) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	seen := make(map[types.Hash]bool, len(txs))
	for _, w := range txs {
		at := key(logWaiting, w.ID[:])
		old, err := get(l.db, at)
		if err != nil {
			return err
		}
		if old != nil || seen[w.ID] {
			continue
		}
		seen[w.ID] = true
		place := u64(l.nextPool)
		l.nextPool++
		if err := errors.Join(b.Set(key(logPool, place), w.encode(), nil), b.Set(at, place, nil)); err != nil {
			return err
		}
	}
	if b.Empty() { // there is nothing to write, and a sync to wait for
		if err := b.LogData(nil, nil); err != nil {
			return err
		}
	}
	return l.db.ApplyNoSyncWait(b, pebble.Sync)
}

// DropPool forgets submitted transactions: they are final or can never be. Not durable: after a
// crash they may be there again.
func (s *Store) DropPool(ids ...types.Hash) error {
	return s.stop.run(func() error {
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		b := s.log.db.NewBatch()
		for _, id := range ids {
			k := key(logWaiting, id[:])
			place, err := get(s.log.db, k)
			if err != nil {
				return err
			}
			if place == nil {
				continue
			}
			if err := errors.Join(b.Delete(k, nil), b.Delete(key(logPool, place), nil)); err != nil {
				return err
			}
		}
		return errors.Join(s.log.db.Apply(b, pebble.NoSync), b.Close())
	})
}

// Pool is all submitted transactions that were not dropped, in order of submission.
func (s *Store) Pool() ([]Waiting, error) {
	var all []Waiting
	for e, err := range scan(s.log.db, []byte{logPool}, []byte{logPool + 1}) {
		if err != nil {
			return nil, s.read("pool", err)
		}
		w, err := decodeWaiting(e.value)
		if err != nil {
			return nil, s.read("pool", err)
		}
		all = append(all, w)
	}
	return all, nil
}

func (w Waiting) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 40+len(w.Raw)))
	e.Hash(w.ID)
	e.Bytes(w.Raw)
	return e.Data()
}

func decodeWaiting(data []byte) (Waiting, error) {
	d := types.NewDecoder("waiting transaction", data)
	w := Waiting{d.Hash("id"), d.Bytes("transaction", types.MaxTransaction)}
	return w, d.Finish()
}
