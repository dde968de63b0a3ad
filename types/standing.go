package types

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"
)

// What a peer's weight hangs on besides its shares (spec/ledger.md, "Standing"): its standing,
// evidence of what it did, the shareholders' votes that forgive it, and the samples by which
// its blocks prove that it keeps the ledger.

// Bounds of a reinstatement. The transaction's size bounds it further: to about 1,600 outputs.
const (
	MaxBallots       = 256
	MaxBallotOutputs = 1536 // of one ballot
)

// Offence is what evidence accuses a peer of.
type Offence uint8

const (
	// Fork: two blocks of one author with one previous.
	Fork Offence = iota + 1
	// TwoVotes: two votes of one peer for different checkpoints of one height.
	TwoVotes
	// FalseVote: a vote for another checkpoint than the chain's of that height.
	FalseVote
	// FalseSample: a block whose sample is not what the ledger gives.
	FalseSample
	offenceEnd
)

var offences = [...]string{"", "fork", "two votes", "false vote", "false sample"}

// String is the offence in words.
func (o Offence) String() string {
	if o < offenceEnd {
		return offences[o]
	}
	return "unknown offence"
}

// parts is how many blocks and votes prove an offence.
func (o Offence) parts() (blocks, votes int) {
	switch o {
	case Fork:
		return 2, 0
	case TwoVotes:
		return 0, 2
	case FalseVote:
		return 0, 1
	case FalseSample:
		return 1, 0
	}
	return 0, 0
}

// Evidence is a record that proves an offence of a peer by what the peer signed. Of two blocks
// or votes the encodings ascend, so that one offence is told in one way.
type Evidence struct {
	Offence Offence
	Blocks  []*Block     // without their payloads
	Votes   []SignedVote // for checkpoints
}

// ForkEvidence is the evidence that two blocks are a fork.
func ForkEvidence(a, b *Block) Evidence {
	if bytes.Compare(a.Encode(), b.Encode()) > 0 {
		a, b = b, a
	}
	return Evidence{Offence: Fork, Blocks: []*Block{a, b}}
}

// TwoVotesEvidence is the evidence that a peer voted for two checkpoints of one height.
func TwoVotesEvidence(a, b SignedVote) Evidence {
	if bytes.Compare(a.bytes(), b.bytes()) > 0 {
		a, b = b, a
	}
	return Evidence{Offence: TwoVotes, Votes: []SignedVote{a, b}}
}

// Offender is who signed what the evidence consists of; zero if nothing is there.
func (r Evidence) Offender() Key {
	switch {
	case len(r.Blocks) > 0:
		return r.Blocks[0].Author
	case len(r.Votes) > 0:
		return r.Votes[0].Peer
	}
	return Key{}
}

// Height is the greatest height that the evidence speaks of: offences up to a reinstatement are
// forgiven.
func (r Evidence) Height() (h uint64) {
	for _, b := range r.Blocks {
		h = max(h, b.Height)
	}
	for _, v := range r.Votes {
		h = max(h, v.Height)
	}
	return h
}

// Transaction is the one transaction that says the evidence without input, fee and signature:
// who has no shares can accuse too.
func (r Evidence) Transaction() *Transaction {
	return &Transaction{ValidUntil: MaxTime, Records: []Record{r}}
}

func (Evidence) kind() uint8 { return recordEvidence }

func (r Evidence) encode(e *Encoder) {
	e.U8(uint8(r.Offence))
	for _, b := range r.Blocks {
		e.Bytes(b.Encode())
	}
	for _, v := range r.Votes {
		v.Encode(e)
	}
}

// Encode is the record's bytes, without its kind: what a file of evidence holds.
func (r Evidence) Encode() []byte {
	e := NewEncoder(nil)
	r.encode(e)
	return e.Data()
}

// DecodeEvidence reads a record of evidence, without its kind, of at most MaxTransaction bytes.
func DecodeEvidence(data []byte) (Evidence, error) {
	d := NewDecoder("evidence", data)
	if len(data) > MaxTransaction {
		d.Fail(TooLong, "size")
		return Evidence{}, d.Err()
	}
	r := decodeEvidence(d)
	return r, d.Finish()
}

func decodeEvidence(d *Decoder) Evidence {
	r := Evidence{Offence: Offence(d.U8("offence"))}
	blocks, votes := r.Offence.parts()
	if blocks+votes == 0 {
		d.Fail(Unknown, "offence")
	}
	var parts [2][]byte
	for i := range blocks {
		parts[i] = d.Take("block", d.Count32("block", MaxTransaction, 1))
		if d.err != nil {
			return r
		}
		b, err := DecodeBlock(parts[i])
		if err != nil {
			d.failAs(err, "block")
			return r
		}
		r.Blocks = append(r.Blocks, b)
	}
	for i := range votes {
		from := d.off
		r.Votes = append(r.Votes, ReadSignedVote(d))
		parts[i] = d.data[from:d.off]
	}
	if blocks+votes == 2 && bytes.Compare(parts[0], parts[1]) >= 0 {
		d.Fail(NotCanonical, "order")
	}
	return r
}

// failAs sets the error to be of the kind of one of a part that was decoded by itself.
func (d *Decoder) failAs(err error, what string) {
	kind := NotCanonical
	if e := new(DecodeError); errors.As(err, &e) {
		kind = e.Kind
	}
	d.Fail(kind, what)
}

// Reinstate is a record by which shareholders give an offender its weight back: votes of
// unspent outputs with more than half of the supply.
type Reinstate struct {
	Peer     Key
	Offences uint16 // how many offences it was marked for: each needs a vote of its own
	Ballots  []Ballot
}

// Ballot is the outputs of one voter and one signature, by the aggregate (BIP-327) of the set of
// their locks, over ReinstateDigest.
type Ballot struct {
	Outputs   []Held // ascending by position
	Signature Signature
}

// Held is an output that votes: where it is, and its lock.
type Held struct {
	Position uint64
	Lock     Key
}

// ReinstateDigest is what voters sign to forgive a peer its offences up to this one.
func ReinstateDigest(chain Hash, peer Key, offences uint16) Hash {
	return tagReinstate.Hash(chain[:], peer[:], binary.BigEndian.AppendUint16(nil, offences))
}

// Sort puts the ballots into the order in which they are encoded. Each must have an output.
func (r *Reinstate) Sort() {
	slices.SortFunc(r.Ballots, func(a, b Ballot) int { return cmp.Compare(a.Outputs[0].Position, b.Outputs[0].Position) })
}

func (Reinstate) kind() uint8 { return recordReinstate }

func (r Reinstate) encode(e *Encoder) {
	e.Key(r.Peer)
	e.U16(r.Offences)
	e.Count16(len(r.Ballots))
	for _, b := range r.Ballots {
		b.encode(e)
	}
}

func decodeReinstate(d *Decoder) Reinstate {
	r := Reinstate{Peer: d.Key("peer"), Offences: d.U16("offences")}
	n := d.Count16("ballots", MaxBallots, 2+40+64)
	for i := range n {
		b := readBallot(d)
		if d.err != nil {
			return r
		}
		if i > 0 && r.Ballots[i-1].Outputs[0].Position >= b.Outputs[0].Position {
			d.Fail(NotCanonical, "ballots")
		}
		r.Ballots = append(r.Ballots, b)
	}
	if n == 0 {
		d.Fail(NotCanonical, "ballots")
	}
	return r
}

func (b Ballot) encode(e *Encoder) {
	e.Count16(len(b.Outputs))
	for _, h := range b.Outputs {
		e.U64(h.Position)
		e.Key(h.Lock)
	}
	e.Signature(b.Signature)
}

// Encode is the ballot's bytes, as a voter gives them to who collects.
func (b Ballot) Encode() []byte {
	e := NewEncoder(nil)
	b.encode(e)
	return e.Data()
}

// DecodeBallot reads a ballot.
func DecodeBallot(data []byte) (Ballot, error) {
	d := NewDecoder("ballot", data)
	b := readBallot(d)
	return b, d.Finish()
}

func readBallot(d *Decoder) (b Ballot) {
	n := d.Count16("ballot outputs", MaxBallotOutputs, 40)
	for i := range n {
		h := Held{d.U64("position"), d.Key("lock")}
		if i > 0 && b.Outputs[i-1].Position >= h.Position {
			d.Fail(NotCanonical, "ballot outputs")
		}
		b.Outputs = append(b.Outputs, h)
	}
	if n == 0 {
		d.Fail(NotCanonical, "ballot outputs")
	}
	b.Signature = d.Signature("signature")
	return b
}

// Standing is what a peer's weight hangs on besides its shares. Weight, Since, Present and
// Witnesses are of the newest snapshot; a period is the heights between two.
type Standing struct {
	Weight    Amount // in the snapshot; 0 if it left the peer out
	Since     uint64 // height of the first of the snapshots, without a gap, that gave it weight; 0 without weight
	Present   uint32 // heights of the last period at which a block of it was named at the next height by others
	Witnesses uint16 // how many authors did that
	Absent    uint64 // height of the latest snapshot that left it out as absent; 0: none did
	Offences  uint16 // how many it was marked for in all
	Offended  uint64 // height at which it was marked for the latest; 0 once that is forgiven
	Cleared   uint64 // height at which it was reinstated last: what it did up to there is forgiven
}

func (s *Standing) encode(e *Encoder) {
	e.Amount(s.Weight)
	e.U64(s.Since)
	e.U32(s.Present)
	e.U16(s.Witnesses)
	e.U64(s.Absent)
	e.U16(s.Offences)
	e.U64(s.Offended)
	e.U64(s.Cleared)
}

func decodeStanding(d *Decoder) Standing {
	return Standing{
		Weight: d.Amount("weight"), Since: decodeHeight(d), Present: d.U32("present"), Witnesses: d.U16("witnesses"),
		Absent: decodeHeight(d), Offences: d.U16("offences"), Offended: decodeHeight(d), Cleared: decodeHeight(d),
	}
}

// SampleDue reports whether blocks of a height carry a sample.
func (p *Params) SampleDue(height uint64) bool { return p.SampleEvery > 0 && height%p.SampleEvery == 0 }

// SamplePosition is the position of the output that a block samples: below the count of
// outputs of the checkpoint on which it draws (the one that it votes for or, without a vote, that of height 0).
// There must be one output at least.
func SamplePosition(checkpoint Hash, height uint64, author Key, outputs uint64) uint64 {
	h := tagSampleDraw.Hash(checkpoint[:], binary.BigEndian.AppendUint64(nil, height), author[:])
	at, _ := bits.Mul64(binary.BigEndian.Uint64(h[:8]), outputs)
	return at
}

// SampleOf is the sample that a block by author at this height carries, of the output that it
// draws: of its birth, which nothing changes.
func SampleOf(chain Hash, author Key, height uint64, output *OutputState) Hash {
	born := *output
	born.SpentHeight = 0
	return tagSample.Hash(chain[:], author[:], binary.BigEndian.AppendUint64(nil, height), born.Encode())
}
