package types

// RawBlock is a block as it travels and as it is kept: the encoded header, which
// DecodeBlock reads, and beside it the payload, which DecodePayload splits and which is
// empty where the header's Payload is zero.
type RawBlock struct {
	Header  []byte
	Payload []byte
}

// Size is the bytes of both parts.
func (b RawBlock) Size() int { return len(b.Header) + len(b.Payload) }

// SignedVote is a vote for a checkpoint as it travels by itself, outside of a block: the
// vote and who casts it.
type SignedVote struct {
	Peer Key
	CheckpointVote
}

// SignedVoteSize is the bytes of an encoded SignedVote.
const SignedVoteSize = 32 + 8 + 32 + 64

// Encode appends the vote to e.
func (v SignedVote) Encode(e *Encoder) {
	e.Key(v.Peer)
	v.CheckpointVote.encode(e)
}

func (v SignedVote) bytes() []byte {
	e := NewEncoder(nil)
	v.Encode(e)
	return e.Data()
}

// ReadSignedVote reads a vote that is part of something larger. It refuses the vote for no
// checkpoint: who has none to vote for sends none.
func ReadSignedVote(d *Decoder) SignedVote {
	v := SignedVote{Peer: d.Key("peer"), CheckpointVote: decodeVote(d)}
	if v.Checkpoint.IsZero() {
		d.Fail(NotCanonical, "checkpoint")
	}
	return v
}
