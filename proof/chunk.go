package proof

import (
	"fmt"

	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// ChunkKind says what of the state a chunk has.
type ChunkKind uint8

const (
	// KeysChunk: all locks whose path has a prefix, each with its log, if that is short.
	KeysChunk ChunkKind = iota + 1
	// NamesChunk: all names whose path has a prefix, each with its story, if that is short.
	NamesChunk
	// PeersChunk: all peers whose path has a prefix.
	PeersChunk
	// TallyChunk: what was counted of peers since the newest snapshot.
	TallyChunk
	// HistoryChunk: a range of the checkpoints before this one, each with its events, if they are few.
	HistoryChunk
	// KeyLogChunk: a range of the log of one lock.
	KeyLogChunk
	// StoryChunk: a range of the story of one name.
	StoryChunk
	// EventsChunk: a range of the events under one checkpoint.
	EventsChunk
	chunkEnd
)

var chunkNames = [chunkEnd]string{
	KeysChunk: "keys", NamesChunk: "names", PeersChunk: "peers", TallyChunk: "tally", HistoryChunk: "history",
	KeyLogChunk: "key log", StoryChunk: "story", EventsChunk: "events",
}

// String is the kind in words.
func (k ChunkKind) String() string {
	if k > 0 && k < chunkEnd {
		return chunkNames[k]
	}
	return fmt.Sprintf("chunk kind %d", k)
}

// Tree reports whether chunks of this kind are subtrees of a trie, which can be had in smaller parts.
func (k ChunkKind) Tree() bool { return k == KeysChunk || k == NamesChunk || k == PeersChunk }

// Ranges of logs, as powers of two: a chunk has so many leaves, from a multiple of that.
const (
	HistoryLevel = 5
	LogLevel     = 9 // of key logs and stories
	EventsLevel  = 10
)

// level is that of the ranges of a kind, 0 for a kind that has none.
func (k ChunkKind) level() uint8 {
	switch k {
	case HistoryChunk:
		return HistoryLevel
	case KeyLogChunk, StoryChunk:
		return LogLevel
	case EventsChunk:
		return EventsLevel
	}
	return 0
}

// Range is how many leaves chunks of this kind have, 0 if they are no ranges of a log.
func (k ChunkKind) Range() uint64 { return 1 << k.level() &^ 1 }

const (
	// MaxShort is how many events a log has at most that stands in a chunk whole. The events of a longer one are in
	// chunks of their own.
	MaxShort = 64
	// MaxChunk is the greatest size of a chunk in bytes. Only a tally can be so large.
	MaxChunk = 1 << 20
	// FullChunk is how many bytes what is under a prefix may come to: more is in chunks under longer ones.
	FullChunk = 256 << 10
)

// ChunkRef names a chunk of the state of a checkpoint. Fields that its kind does not have are zero.
type ChunkRef struct {
	Kind       ChunkKind
	Prefix     trie.NodeID // of paths, for Keys, Names and Peers: less than trie.PathBits bits
	Lock       types.Key   // for KeyLog
	Name       string      // for Story
	Checkpoint uint64      // for Events: number of the older checkpoint in the history, or its size for this one itself
	First      uint64      // for History, KeyLog, Story, Events: number of the first leaf, a multiple of Kind.Range
}

// String is the reference for people: "keys a8/5", "history from 32".
func (r ChunkRef) String() string {
	switch r.Kind {
	case KeysChunk, NamesChunk, PeersChunk:
		return fmt.Sprintf("%s %s", r.Kind, r.Prefix)
	case KeyLogChunk:
		return fmt.Sprintf("key log of %s from %d", r.Lock, r.First)
	case StoryChunk:
		return fmt.Sprintf("story of %q from %d", r.Name, r.First)
	case EventsChunk:
		return fmt.Sprintf("events of checkpoint %d from %d", r.Checkpoint, r.First)
	}
	if r.Kind == TallyChunk {
		return "tally"
	}
	return fmt.Sprintf("%s from %d", r.Kind, r.First)
}

// tagTally is that of ledger.Tally.Root.
var tagTally = types.NewTag("charter/tally")

// Halves are the two references that together are one to a subtree.
func (r ChunkRef) Halves() [2]ChunkRef {
	if !r.Kind.Tree() || r.Prefix.Len >= trie.PathBits-1 {
		panic(fmt.Sprintf("proof: halves of %s", r))
	}
	left, right := r, r
	left.Prefix.Len++
	right.Prefix.Len++
	right.Prefix.Bits[r.Prefix.Len/8] |= 0x80 >> (r.Prefix.Len % 8)
	return [2]ChunkRef{left, right}
}

// KeysPrefixes is how long the prefixes are, in bits, by which the keys of a checkpoint are best asked for: so that
// a chunk is about a quarter full. The checkpoint tells: each output has one or two events.
func KeysPrefixes(cp *types.Checkpoint) uint16 {
	n := uint16(0)
	for cp.Outputs>>n > 256 {
		n++
	}
	return n
}

// Chunk is a part of the state of a checkpoint that proves itself: everything under a prefix of a tree, or in a range of
// a log, with nothing left out (spec/proofs.md, "Chunks of state"). Which fields it has follows from the kind.
type Chunk struct {
	Checkpoint types.Hash // id of the checkpoint whose state it is
	Ref        ChunkRef

	Under trie.SubtreeProof // Keys, Names, Peers
	Keys  []ChunkKey        // ascending by path
	Names []ChunkName       // ascending by path
	Peers []types.PeerState // ascending by path

	Tally []byte // Tally: as package ledger encodes it

	History []ChunkCheckpoint // History

	Path  tlog.Path         // of a range: to the root of its log
	Trie  trie.Proof        // KeyLog, Story: of the lock or name
	Log   types.LogState    // KeyLog: of the lock
	Name  types.NameState   // Story: of the name
	Past  *Past             // Events: of the older checkpoint, nil for this one
	Key   []types.KeyEvent  // KeyLog
	Story []types.NameEvent // Story
	Event []types.Event     // Events
}

// ChunkKey is a lock and its log.
type ChunkKey struct {
	Lock   types.Key
	Log    types.LogState
	Events []types.KeyEvent // all of them if there are at most MaxShort, else none
}

// ChunkName is a name and its story.
type ChunkName struct {
	State  types.NameState
	Events []types.NameEvent // all of them if there are at most MaxShort, else none
}

// ChunkCheckpoint is a checkpoint and what happened since the one before.
type ChunkCheckpoint struct {
	Checkpoint types.Checkpoint
	Events     []types.Event // all of them if there are at most MaxShort, else none
}

// Verify checks that a chunk is what was asked for, of the state of this checkpoint, which the caller trusts, and all
// of it. For a range it gives the log before it, so that whoever has the last range can go on with the log.
// Errors: WrongCheckpoint, WrongSubject, WrongChain, WrongHeight, NotUnderRoot.
func (c *Chunk) Verify(cp *types.Checkpoint, ref ChunkRef) (before tlog.Frontier, err error) {
	if err := about(c.Checkpoint, cp, c.Ref, ref); err != nil {
		return before, err
	}
	switch ref.Kind {
	case KeysChunk:
		return before, c.verifyKeys(cp)
	case NamesChunk:
		return before, c.verifyNames(cp)
	case PeersChunk:
		leaves := make([]trie.Change, len(c.Peers))
		for i := range c.Peers {
			leaves[i] = trie.Change{Path: types.PeerPath(c.Peers[i].Peer), Value: types.PeerLeaf(&c.Peers[i])}
		}
		return before, c.under(cp.PeersRoot, leaves)
	case TallyChunk:
		if root := tagTally.Hash(cp.Chain[:], c.Tally); root != cp.TallyRoot {
			return before, refuse(NotUnderRoot, "tally", "root is %s, the tally has %s", cp.TallyRoot, root)
		}
		return before, nil
	case HistoryChunk:
		return c.verifyHistory(cp)
	case KeyLogChunk:
		leaves, err := keyEventLeaves("events", ref.Lock, c.Key)
		if err == nil {
			err = inTrie("trie", cp.KeysRoot, types.KeyPath(ref.Lock), types.KeyLeaf(c.Log), &c.Trie)
		}
		return c.inRange(err, c.Log.Root, c.Log.Count, leaves)
	case StoryChunk:
		if c.Name.Name != ref.Name {
			return before, refuse(WrongSubject, "state", "of name %q, want %q", c.Name.Name, ref.Name)
		}
		leaves, err := nameEventLeaves("events", ref.Name, c.Story)
		if err == nil {
			err = inTrie("trie", cp.NamesRoot, types.NamePath(ref.Name), types.NameLeaf(&c.Name), &c.Trie)
		}
		return c.inRange(err, c.Name.Story.Root, c.Name.Story.Count, leaves)
	case EventsChunk:
		return c.verifyEvents(cp)
	}
	return before, refuse(WrongSubject, "reference", "%s", ref)
}

// under checks that these are the leaves under the prefix.
func (c *Chunk) under(root types.Hash, leaves []trie.Change) error {
	return under("under", trie.VerifySubtree(root, c.Ref.Prefix, leaves, &c.Under))
}

// inRange checks that these are the leaves of the range, unless there is an error already.
func (c *Chunk) inRange(err error, root types.Hash, size uint64, leaves []types.Hash) (tlog.Frontier, error) {
	if err != nil {
		return tlog.Frontier{}, err
	}
	before, err := tlog.VerifyRange(root, size, c.Ref.First, c.Ref.Kind.level(), leaves, c.Path)
	return before, under("path", err)
}

// short checks that a log stands there whole if it is short, and not at all if it is not.
func short(step string, log types.LogState, leaves []types.Hash) error {
	switch {
	case log.Count > MaxShort && len(leaves) == 0:
		return nil
	case log.Count == 0 || log.Count > MaxShort || uint64(len(leaves)) != log.Count:
		return refuse(NotUnderRoot, step, "%d events shown of %d", len(leaves), log.Count)
	}
	if root := tlog.Root(leaves); root != log.Root {
		return refuse(NotUnderRoot, step, "the events have root %s, want %s", root, log.Root)
	}
	return nil
}

func keyEventLeaves(step string, lock types.Key, events []types.KeyEvent) ([]types.Hash, error) {
	leaves := make([]types.Hash, len(events))
	for i := range events {
		if events[i].Output.Lock != lock {
			return nil, refuse(WrongSubject, fmt.Sprintf("%s[%d]", step, i), "of lock %s, want %s", events[i].Output.Lock, lock)
		}
		leaves[i] = tlog.LeafHash(events[i].Encode())
	}
	return leaves, nil
}

func nameEventLeaves(step, name string, events []types.NameEvent) ([]types.Hash, error) {
	leaves := make([]types.Hash, len(events))
	for i := range events {
		if events[i].Record.Name != name {
			return nil, refuse(WrongSubject, fmt.Sprintf("%s[%d]", step, i), "of name %q, want %q", events[i].Record.Name, name)
		}
		leaves[i] = tlog.LeafHash(events[i].Encode())
	}
	return leaves, nil
}

func eventLeaves(events []types.Event) []types.Hash {
	leaves := make([]types.Hash, len(events))
	for i := range events {
		leaves[i] = tlog.LeafHash(events[i].Encode())
	}
	return leaves
}

func (c *Chunk) verifyKeys(cp *types.Checkpoint) error {
	leaves := make([]trie.Change, len(c.Keys))
	for i := range c.Keys {
		k, step := &c.Keys[i], fmt.Sprintf("keys[%d]", i)
		events, err := keyEventLeaves(step, k.Lock, k.Events)
		if err == nil {
			err = short(step, k.Log, events)
		}
		if err != nil {
			return err
		}
		leaves[i] = trie.Change{Path: types.KeyPath(k.Lock), Value: types.KeyLeaf(k.Log)}
	}
	return c.under(cp.KeysRoot, leaves)
}

func (c *Chunk) verifyNames(cp *types.Checkpoint) error {
	leaves := make([]trie.Change, len(c.Names))
	for i := range c.Names {
		n, step := &c.Names[i], fmt.Sprintf("names[%d]", i)
		events, err := nameEventLeaves(step, n.State.Name, n.Events)
		if err == nil {
			err = short(step, n.State.Story, events)
		}
		if err != nil {
			return err
		}
		leaves[i] = trie.Change{Path: types.NamePath(n.State.Name), Value: types.NameLeaf(&n.State)}
	}
	return c.under(cp.NamesRoot, leaves)
}

func (c *Chunk) verifyHistory(cp *types.Checkpoint) (tlog.Frontier, error) {
	leaves := make([]types.Hash, len(c.History))
	for i := range c.History {
		h, step := &c.History[i], fmt.Sprintf("history[%d]", i)
		old := &h.Checkpoint
		switch number := c.Ref.First + uint64(i); {
		case old.Chain != cp.Chain:
			return tlog.Frontier{}, refuse(WrongChain, step, "of chain %s, want %s", old.Chain, cp.Chain)
		case old.HistorySize != number:
			return tlog.Frontier{}, refuse(WrongHeight, step, "checkpoint number %d, want %d", old.HistorySize, number)
		}
		if old.Events > 0 {
			if err := short(step, types.LogState{Count: old.Events, Root: old.EventsRoot}, eventLeaves(h.Events)); err != nil {
				return tlog.Frontier{}, err
			}
		} else if len(h.Events) > 0 {
			return tlog.Frontier{}, refuse(NotUnderRoot, step, "%d events shown of none", len(h.Events))
		}
		id := old.ID()
		leaves[i] = tlog.LeafHash(id[:])
	}
	return c.inRange(nil, cp.HistoryRoot, cp.HistorySize, leaves)
}

func (c *Chunk) verifyEvents(cp *types.Checkpoint) (tlog.Frontier, error) {
	has := cp
	if c.Past != nil {
		if err := c.Past.verify(cp); err != nil {
			return tlog.Frontier{}, err
		}
		has = &c.Past.Checkpoint
	}
	if has.HistorySize != c.Ref.Checkpoint {
		return tlog.Frontier{}, refuse(WrongSubject, "past", "checkpoint number %d, want %d", has.HistorySize, c.Ref.Checkpoint)
	}
	return c.inRange(nil, has.EventsRoot, has.Events, eventLeaves(c.Event))
}
