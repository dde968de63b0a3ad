package types

// Checkpoint is the consensus state at a height: the roots under which everything that a
// wallet wants proven hangs (spec/ledger.md, "Checkpoint").
type Checkpoint struct {
	Chain        Hash
	Height       uint64
	Anchor       Hash   // the last anchor at or below Height
	Time         Millis // consensus time: that of the anchor
	Events       uint64 // how many events there were since the checkpoint before
	EventsRoot   Hash   // RFC 6962, over the events in order of application
	HistorySize  uint64 // checkpoints before this one
	HistoryRoot  Hash   // RFC 6962, over their ids, genesis first
	Outputs      uint64 // how many outputs were ever made
	OutputsRoot  Hash   // package forest
	KeysRoot     Hash   // package trie
	NamesRoot    Hash   // package trie
	PeersRoot    Hash   // package trie
	SnapshotRoot Hash   // of the newest snapshot taken at or below Height
	TallyRoot    Hash   // of what was counted of peers since that snapshot (package ledger)
}

func (c *Checkpoint) encode(e *Encoder) {
	e.Hash(c.Chain)
	e.U64(c.Height)
	e.Hash(c.Anchor)
	e.Time(c.Time)
	e.U64(c.Events)
	e.Hash(c.EventsRoot)
	e.U64(c.HistorySize)
	e.Hash(c.HistoryRoot)
	e.U64(c.Outputs)
	e.Hash(c.OutputsRoot)
	e.Hash(c.KeysRoot)
	e.Hash(c.NamesRoot)
	e.Hash(c.PeersRoot)
	e.Hash(c.SnapshotRoot)
	e.Hash(c.TallyRoot)
}

// Encode is the checkpoint's bytes.
func (c *Checkpoint) Encode() []byte {
	e := NewEncoder(make([]byte, 0, 400))
	c.encode(e)
	return e.Data()
}

// ID is the tagged hash of the checkpoint, which names its chain itself.
func (c *Checkpoint) ID() Hash { return tagCheckpoint.Hash(c.Encode()) }

// DecodeCheckpoint reads a checkpoint.
func DecodeCheckpoint(data []byte) (*Checkpoint, error) {
	d := NewDecoder("checkpoint", data)
	c := ReadCheckpoint(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return c, nil
}

// ReadCheckpoint reads a checkpoint that is part of something larger.
func ReadCheckpoint(d *Decoder) *Checkpoint {
	return &Checkpoint{
		Chain: d.Hash("chain"), Height: decodeHeight(d), Anchor: d.Hash("anchor"), Time: d.Time("time"),
		Events: d.U64("events"), EventsRoot: d.Hash("events root"),
		HistorySize: d.U64("history size"), HistoryRoot: d.Hash("history root"),
		Outputs: d.U64("outputs"), OutputsRoot: d.Hash("outputs root"),
		KeysRoot: d.Hash("keys root"), NamesRoot: d.Hash("names root"), PeersRoot: d.Hash("peers root"),
		SnapshotRoot: d.Hash("snapshot root"), TallyRoot: d.Hash("tally root"),
	}
}

// Certificate is proof that a checkpoint is final: votes for it by members of a snapshot
// that hold two thirds of its shares (spec/consensus.md, "Checkpoint"). This is the list form.
type Certificate struct {
	Snapshot Hash // root of the snapshot whose members vote
	Votes    []MemberVote
}

// MemberVote is the signature of the snapshot's member Index over a VoteDigest.
type MemberVote struct {
	Index     uint16
	Signature Signature
}

// Encode is the certificate's bytes.
func (c *Certificate) Encode() []byte {
	e := NewEncoder(make([]byte, 0, 34+66*len(c.Votes)))
	c.encode(e)
	return e.Data()
}

func (c *Certificate) encode(e *Encoder) {
	e.Hash(c.Snapshot)
	e.Count16(len(c.Votes))
	for _, v := range c.Votes {
		e.U16(v.Index)
		e.Signature(v.Signature)
	}
}

// DecodeCertificate reads a certificate.
func DecodeCertificate(data []byte) (*Certificate, error) {
	d := NewDecoder("certificate", data)
	c := ReadCertificate(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return c, nil
}

// ReadCertificate reads a certificate that is part of something larger. Votes ascend by index.
func ReadCertificate(d *Decoder) *Certificate {
	c := &Certificate{Snapshot: d.Hash("snapshot")}
	n := d.Count16("votes", MaxMembers, 66)
	for i := range n {
		v := MemberVote{d.U16("index"), d.Signature("vote")}
		if i > 0 && c.Votes[i-1].Index >= v.Index {
			d.Fail(NotCanonical, "votes")
			break
		}
		c.Votes = append(c.Votes, v)
	}
	return c
}
