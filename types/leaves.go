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
