package types

// What stands in the trees of a checkpoint, and where (spec/ledger.md, "Trees"). Who writes
// the trees and who checks a proof against their roots both take the hashes from here. The
// leaves of the logs (events, history, key logs, names' stories) are hashed as RFC 6962 has
// it, by package tlog.

var (
	tagOutput   = NewTag("charter/output")
	tagKeyPath  = NewTag("charter/key path")
	tagKeyLog   = NewTag("charter/key log")
	tagNamePath = NewTag("charter/name path")
	tagName     = NewTag("charter/name")
	tagPeerPath = NewTag("charter/peer path")
	tagPeer     = NewTag("charter/peer")
)

// OutputLeaf is the leaf of the outputs tree at an output's position.
func OutputLeaf(s *OutputState) Hash { return tagOutput.Hash(s.Encode()) }

// KeyPath is where the log of a lock's events hangs in the keys tree.
func KeyPath(lock Key) Hash { return tagKeyPath.Hash(lock[:]) }

// KeyLeaf is the value at a KeyPath: how many events the lock has, and the root over them.
func KeyLeaf(l LogState) Hash { return tagKeyLog.Hash(l.Encode()) }

// NamePath is where a name's record hangs in the names tree.
func NamePath(name string) Hash { return tagNamePath.Hash([]byte(name)) }

// NameLeaf is the value at a NamePath.
func NameLeaf(n *NameState) Hash { return tagName.Hash(n.Encode()) }

// PeerPath is where a peer's record hangs in the peers tree.
func PeerPath(peer Key) Hash { return tagPeerPath.Hash(peer[:]) }

// PeerLeaf is the value at a PeerPath.
func PeerLeaf(p *PeerState) Hash { return tagPeer.Hash(p.Encode()) }

// NameEvent is one leaf of a name's story: its holder entered or renewed its entry as a
// peer under it.
type NameEvent struct {
	Transaction Hash         // that carried the record, the chain's id for genesis
	Height      uint64       // of the anchor that ordered it
	Time        Millis       // consensus time at which it was applied
	Record      RegisterPeer // without a signature if it is of genesis
}

// Encode is the name event's bytes.
func (v *NameEvent) Encode() []byte {
	e := NewEncoder(make([]byte, 0, 300))
	e.Hash(v.Transaction)
	e.U64(v.Height)
	e.Time(v.Time)
	v.Record.encode(e)
	return e.Data()
}

// ReadNameEvent reads a name event that is part of something larger.
func ReadNameEvent(d *Decoder) *NameEvent {
	return &NameEvent{
		Transaction: d.Hash("transaction"), Height: decodeHeight(d), Time: d.Time("time"),
		Record: decodeRegisterPeer(d),
	}
}

// DecodeNameEvent reads a name event.
func DecodeNameEvent(data []byte) (*NameEvent, error) {
	d := NewDecoder("name event", data)
	v := ReadNameEvent(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return v, nil
}
