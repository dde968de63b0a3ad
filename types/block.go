package types

import (
	"bytes"
	"slices"
)

// Bounds of a block.
const (
	MaxMerges       = 1024      // merges of one block: one per author
	MaxPayload      = 1 << 20   // bytes of all transactions of one block
	MaxTransactions = 1 << 14   // transactions of one block
	MaxHeight       = 1<<53 - 1 // so that programs with floating numbers read it exactly
)

// VRFProof is a point and a proof of equal logarithms, 97 bytes (package sig). Zero means none.
type VRFProof [97]byte

// IsZero reports whether p is all zero, "none".
func (p VRFProof) IsZero() bool { return p == VRFProof{} }

// Block is a vertex of the graph: what one author says at one height (spec/consensus.md,
// "Block"). Its transactions are its payload, which travels beside it.
type Block struct {
	Height       uint64
	Author       Key
	Previous     Hash     // the author's block before this one, zero for its first
	Parent       Hash     // the block whose past the author adopts first
	Merges       []Hash   // the other blocks it names, strictly ascending
	Past         Hash     // digest of what its past comes to (package consensus)
	Time         Millis   // not before that of any block it names
	VRF          VRFProof // only where the run may be closed by this block, else zero
	Payload      Hash     // root over its encoded transactions (RFC 6962), zero if none
	PayloadBytes uint32   // their bytes in all
	Sample       Hash     // proof of storage; zero where the network asks for none
	Checkpoint   CheckpointVote

	Signature Signature // by Author, over the block's id
}

// CheckpointVote says that a peer holds a checkpoint to be final. It stands without a
// block: the same vote is sent by itself, and certificates are made of them.
type CheckpointVote struct {
	Height     uint64
	Checkpoint Hash // id of the checkpoint, zero for no vote
	Signature  Signature
}

// VoteDigest is what a peer signs to vote for a checkpoint.
func VoteDigest(chain Hash, height uint64, checkpoint Hash) Hash {
	e := NewEncoder(nil)
	e.U64(height)
	return tagCheckpointVote.Hash(chain[:], e.Data(), checkpoint[:])
}

func (v CheckpointVote) encode(e *Encoder) {
	e.U64(v.Height)
	e.Hash(v.Checkpoint)
	e.Signature(v.Signature)
}

func decodeVote(d *Decoder) CheckpointVote {
	v := CheckpointVote{Height: decodeHeight(d), Checkpoint: d.Hash("checkpoint"), Signature: d.Signature("checkpoint signature")}
	if v.Checkpoint.IsZero() && v != (CheckpointVote{}) {
		d.Fail(NotCanonical, "checkpoint")
	}
	return v
}

func decodeHeight(d *Decoder) uint64 {
	h := d.U64("height")
	if h > MaxHeight {
		d.Fail(NotCanonical, "height")
		return 0
	}
	return h
}

const blockVersion = 2

func (b *Block) encodeBody(e *Encoder) {
	e.U8(blockVersion)
	e.U64(b.Height)
	e.Key(b.Author)
	e.Hash(b.Previous)
	e.Hash(b.Parent)
	e.Count16(len(b.Merges))
	for _, m := range b.Merges {
		e.Hash(m)
	}
	e.Hash(b.Past)
	e.Time(b.Time)
	e.Bool(!b.VRF.IsZero())
	if !b.VRF.IsZero() {
		e.Raw(b.VRF[:])
	}
	e.Hash(b.Payload)
	e.U32(b.PayloadBytes)
	e.Hash(b.Sample)
	e.Bool(b.Checkpoint != (CheckpointVote{}))
	if b.Checkpoint != (CheckpointVote{}) {
		b.Checkpoint.encode(e)
	}
}

// Encode is the block with its signature, without its payload.
func (b *Block) Encode() []byte {
	e := NewEncoder(make([]byte, 0, 512+32*len(b.Merges)))
	b.encodeBody(e)
	e.Signature(b.Signature)
	return e.Data()
}

// ID is the tagged hash of the chain's id and all of the block but its signature, which
// signs the id.
func (b *Block) ID(chain Hash) Hash {
	e := NewEncoder(make([]byte, 0, 512+32*len(b.Merges)))
	b.encodeBody(e)
	return tagBlock.Hash(chain[:], e.Data())
}

// Named is the parent and the merges.
func (b *Block) Named() []Hash {
	return append([]Hash{b.Parent}, b.Merges...)
}

// DecodeBlock reads a block, without payload.
func DecodeBlock(data []byte) (*Block, error) {
	d := NewDecoder("block", data)
	b := new(Block)
	if v := d.U8("version"); v != blockVersion {
		d.Fail(Unknown, "version")
	}
	if b.Height = decodeHeight(d); b.Height == 0 {
		d.Fail(NotCanonical, "height")
	}
	b.Author = d.Key("author")
	b.Previous = d.Hash("previous")
	b.Parent = d.Hash("parent")
	n := d.Count16("merges", MaxMerges, 32)
	for i := range n {
		m := d.Hash("merges")
		if i > 0 && bytes.Compare(b.Merges[i-1][:], m[:]) >= 0 || m == b.Parent {
			d.Fail(NotCanonical, "merges")
			break
		}
		b.Merges = append(b.Merges, m)
	}
	b.Past = d.Hash("past")
	b.Time = d.Time("time")
	if d.Bool("vrf") {
		if copy(b.VRF[:], d.Take("vrf", len(b.VRF))); b.VRF.IsZero() {
			d.Fail(NotCanonical, "vrf")
		}
	}
	b.Payload = d.Hash("payload")
	b.PayloadBytes = d.U32("payload bytes")
	if b.PayloadBytes > MaxPayload {
		d.Fail(TooLong, "payload bytes")
	}
	if b.Payload.IsZero() != (b.PayloadBytes == 0) {
		d.Fail(NotCanonical, "payload")
	}
	b.Sample = d.Hash("sample")
	if d.Bool("checkpoint") {
		if b.Checkpoint = decodeVote(d); b.Checkpoint.Checkpoint.IsZero() {
			d.Fail(NotCanonical, "checkpoint")
		}
	}
	b.Signature = d.Signature("signature")
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return b, nil
}

// EncodePayload puts the encoded transactions of a block end to end, each behind its length.
func EncodePayload(txs [][]byte) []byte {
	n := 4
	for _, tx := range txs {
		n += 4 + len(tx)
	}
	e := NewEncoder(make([]byte, 0, n))
	e.Count32(len(txs))
	for _, tx := range txs {
		e.Bytes(tx)
	}
	return e.Data()
}

// PayloadSize is the PayloadBytes of these encoded transactions: the length of EncodePayload,
// or zero for none.
func PayloadSize(txs [][]byte) uint32 {
	if len(txs) == 0 {
		return 0
	}
	n := 4
	for _, tx := range txs {
		n += 4 + len(tx)
	}
	return uint32(n)
}

// DecodePayload splits a payload into the encoded transactions, which alias data. They are
// not decoded: each is refused or not by DecodeTransaction.
func DecodePayload(data []byte) ([][]byte, error) {
	d := NewDecoder("payload", data)
	if len(data) > MaxPayload {
		d.Fail(TooLong, "size")
		return nil, d.Err()
	}
	n := d.Count32("transactions", MaxTransactions, 4)
	txs := make([][]byte, 0, n)
	for range n {
		l := d.Count32("transaction", MaxTransaction, 1)
		txs = append(txs, d.Take("transaction", l))
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return txs, nil
}

// Member is a peer and its weight in a snapshot.
type Member struct {
	Peer   Key
	Shares Amount
}

// Snapshot is who weighs how much: the shares registered with each peer at one height
// (spec/consensus.md, "Runs"). Members have shares and are sorted by key, ascending.
type Snapshot struct {
	Height  uint64
	Members []Member
}

// MaxMembers bounds the members of a snapshot.
const MaxMembers = 1024

// Total is the sum of all members' shares. It fits: a snapshot never exceeds the supply.
func (s *Snapshot) Total() (total Amount) {
	for _, m := range s.Members {
		total += m.Shares
	}
	return total
}

// Find is the place of a peer among the members, and whether it is there.
func (s *Snapshot) Find(peer Key) (int, bool) {
	return slices.BinarySearchFunc(s.Members, peer, func(m Member, k Key) int { return bytes.Compare(m.Peer[:], k[:]) })
}

func (s *Snapshot) encode(e *Encoder) {
	e.U64(s.Height)
	e.Count16(len(s.Members))
	for _, m := range s.Members {
		e.Key(m.Peer)
		e.Amount(m.Shares)
	}
}

// Encode is the snapshot's bytes.
func (s *Snapshot) Encode() []byte {
	e := NewEncoder(nil)
	s.encode(e)
	return e.Data()
}

// Root is the tagged hash of the chain's id and the snapshot.
func (s *Snapshot) Root(chain Hash) Hash { return tagSnapshot.Hash(chain[:], s.Encode()) }

// DecodeSnapshot reads a snapshot.
func DecodeSnapshot(data []byte) (*Snapshot, error) {
	d := NewDecoder("snapshot", data)
	s := decodeSnapshot(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return s, nil
}

func decodeSnapshot(d *Decoder) *Snapshot {
	s := &Snapshot{Height: decodeHeight(d)}
	n := d.Count16("members", MaxMembers, 40)
	var total Amount
	for i := range n {
		m := Member{d.Key("peer"), d.Amount("shares")}
		sum, err := total.Add(m.Shares)
		if err != nil || m.Shares == 0 || i > 0 && bytes.Compare(s.Members[i-1].Peer[:], m.Peer[:]) >= 0 {
			d.Fail(NotCanonical, "members")
			break
		}
		total = sum
		s.Members = append(s.Members, m)
	}
	return s
}
