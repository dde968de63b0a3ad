package proof

import (
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// Sizes, or least sizes, of what chunks have lists of.
const (
	shortKeyEvent  = keyEventSize - 32 // without the lock
	minChunkKey    = 32 + 8 + 32
	minChunkName   = 2 + 32 + 8 + 32
	minChunkPeer   = 4 + 32 + 2 + 2 + 32 + 8 + 8 + 48
	eventSize      = 92
	checkpointSize = 360
)

// Encode is the reference's bytes: the kind in one, then of its fields those that it has.
func (r ChunkRef) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 48))
	r.encode(e)
	return e.Data()
}

func (r ChunkRef) encode(e *types.Encoder) {
	e.U8(uint8(r.Kind))
	switch r.Kind {
	case KeysChunk, NamesChunk, PeersChunk:
		e.U8(uint8(r.Prefix.Len))
		e.Raw(r.Prefix.Bits[:(r.Prefix.Len+7)/8])
		return
	case TallyChunk:
		return
	case KeyLogChunk:
		e.Key(r.Lock)
	case StoryChunk:
		e.String(r.Name)
	case EventsChunk:
		e.U64(r.Checkpoint)
	}
	e.U64(r.First)
}

// DecodeChunkRef reads a reference. The error is Malformed.
func DecodeChunkRef(data []byte) (ChunkRef, error) {
	d := types.NewDecoder("chunk reference", data)
	r := ReadChunkRef(d)
	if err := d.Finish(); err != nil {
		return ChunkRef{}, &Error{Kind: Malformed, Step: "reference", Cause: err}
	}
	return r, nil
}

// ReadChunkRef reads a reference that is part of something larger.
func ReadChunkRef(d *types.Decoder) ChunkRef {
	r := ChunkRef{Kind: ChunkKind(d.U8("kind"))}
	switch r.Kind {
	case KeysChunk, NamesChunk, PeersChunk:
		var bits trie.Path
		n := uint16(d.U8("bits"))
		copy(bits[:], d.Take("prefix", int(n+7)/8))
		if r.Prefix = trie.Beginning(bits, n); r.Prefix.Bits != bits {
			d.Fail(types.NotCanonical, "prefix")
		}
		return r
	case TallyChunk:
		return r
	case KeyLogChunk:
		r.Lock = d.Key("lock")
	case StoryChunk:
		r.Name = d.String("name", types.MaxName)
	case EventsChunk:
		r.Checkpoint = d.U64("checkpoint")
	case HistoryChunk:
	default:
		d.Fail(types.Unknown, "kind")
		return r
	}
	if r.First = d.U64("first"); r.First%r.Kind.Range() != 0 || r.First > tlog.MaxSize {
		d.Fail(types.NotCanonical, "first")
	}
	return r
}

// Encode is the chunk's one byte form.
func (c *Chunk) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 64<<10))
	e.U8(version)
	e.Hash(c.Checkpoint)
	c.Ref.encode(e)
	switch c.Ref.Kind {
	case KeysChunk:
		e.Raw(c.Under.Encode())
		e.Count32(len(c.Keys))
		for i := range c.Keys {
			c.Keys[i].encode(e)
		}
	case NamesChunk:
		e.Raw(c.Under.Encode())
		e.Count32(len(c.Names))
		for i := range c.Names {
			c.Names[i].encode(e)
		}
	case PeersChunk:
		e.Raw(c.Under.Encode())
		e.Count32(len(c.Peers))
		for i := range c.Peers {
			e.Bytes(c.Peers[i].Encode())
		}
	case TallyChunk:
		e.Bytes(c.Tally)
	case HistoryChunk:
		e.Raw(c.Path.Encode())
		e.Count32(len(c.History))
		for i := range c.History {
			c.History[i].encode(e)
		}
	case KeyLogChunk:
		e.Raw(c.Trie.Encode())
		e.Raw(c.Log.Encode())
		e.Raw(c.Path.Encode())
		e.Count32(len(c.Key))
		for i := range c.Key {
			encodeKeyEvent(e, &c.Key[i])
		}
	case StoryChunk:
		e.Raw(c.Trie.Encode())
		e.Bytes(c.Name.Encode())
		e.Raw(c.Path.Encode())
		e.Count32(len(c.Story))
		for i := range c.Story {
			e.Raw(c.Story[i].Encode())
		}
	case EventsChunk:
		c.Past.encode(e)
		e.Raw(c.Path.Encode())
		e.Count32(len(c.Event))
		for i := range c.Event {
			e.Raw(c.Event[i].Encode())
		}
	}
	return e.Data()
}

// DecodeChunk reads a chunk. What it accepts encodes to the same bytes again. The error is Malformed.
func DecodeChunk(data []byte) (*Chunk, error) {
	d := types.NewDecoder("chunk", data)
	if len(data) > MaxChunk {
		d.Fail(types.TooLong, "size")
	}
	if v := d.U8("version"); v != version {
		d.Fail(types.Unknown, "version")
	}
	c := &Chunk{Checkpoint: d.Hash("checkpoint"), Ref: ReadChunkRef(d)}
	if d.Err() == nil {
		c.decode(d)
	}
	if err := d.Finish(); err != nil {
		return nil, &Error{Kind: Malformed, Step: "chunk", Cause: err}
	}
	return c, nil
}

func (c *Chunk) decode(d *types.Decoder) {
	if c.Ref.Kind.Tree() {
		c.Under = *trie.ReadSubtreeProof(d)
	}
	switch c.Ref.Kind {
	case KeysChunk:
		for range d.Count32("keys", MaxChunk, minChunkKey) {
			c.Keys = append(c.Keys, readChunkKey(d))
		}
	case NamesChunk:
		for range d.Count32("names", MaxChunk, minChunkName) {
			c.Names = append(c.Names, readChunkName(d))
		}
	case PeersChunk:
		for range d.Count32("peers", MaxChunk, minChunkPeer) {
			if p := nested(d, "peer", maxPeerState, types.DecodePeerState); p != nil {
				c.Peers = append(c.Peers, *p)
			}
		}
	case TallyChunk:
		c.Tally = d.Bytes("tally", MaxChunk)
	case HistoryChunk:
		c.Path = tlog.ReadPath(d)
		for range d.Count32("history", 1<<HistoryLevel, checkpointSize) {
			c.History = append(c.History, readChunkCheckpoint(d))
		}
	case KeyLogChunk:
		c.Trie = *trie.ReadProof(d)
		c.Log = types.LogState{Count: d.U64("count"), Root: d.Hash("root")}
		c.Path = tlog.ReadPath(d)
		for range d.Count32("events", 1<<LogLevel, shortKeyEvent) {
			c.Key = append(c.Key, readKeyEvent(d, c.Ref.Lock))
		}
	case StoryChunk:
		c.Trie = *trie.ReadProof(d)
		if n := nested(d, "state", maxNameState, types.DecodeNameState); n != nil {
			c.Name = *n
		}
		c.Path = tlog.ReadPath(d)
		for range d.Count32("events", 1<<LogLevel, minNameEvent) {
			c.Story = append(c.Story, *types.ReadNameEvent(d))
		}
	case EventsChunk:
		c.Past = decodePast(d)
		c.Path = tlog.ReadPath(d)
		for range d.Count32("events", 1<<EventsLevel, eventSize) {
			c.Event = append(c.Event, *types.ReadEvent(d))
		}
	}
}

// encodeKeyEvent writes a key event without its lock.
func encodeKeyEvent(e *types.Encoder, v *types.KeyEvent) {
	e.Bool(v.Spent)
	e.U64(v.Position)
	e.Hash(v.Transaction)
	e.U32(v.Index)
	e.Amount(v.Output.Value)
	e.Key(v.Output.Host)
	e.U64(v.Height)
	e.Time(v.Time)
}

func readKeyEvent(d *types.Decoder, lock types.Key) types.KeyEvent {
	v := types.KeyEvent{Spent: d.Bool("spent"), Position: d.U64("position"), Transaction: d.Hash("transaction"), Index: d.U32("index"),
		Output: types.Output{Value: d.Amount("value"), Lock: lock, Host: d.Key("host")}, Height: d.U64("height"), Time: d.Time("time")}
	if v.Height > types.MaxHeight {
		d.Fail(types.NotCanonical, "height")
	}
	return v
}

// encode writes the root of a log only if its events do not follow.
func (k *ChunkKey) encode(e *types.Encoder) {
	e.Key(k.Lock)
	e.U64(k.Log.Count)
	if k.Log.Count > MaxShort {
		e.Hash(k.Log.Root)
	}
	for i := range k.Events {
		encodeKeyEvent(e, &k.Events[i])
	}
}

// shortLog reads the count of a log that is not empty, and either its root, or its events, of which it makes the root.
func shortLog(d *types.Decoder, size int, read func() []byte) (log types.LogState) {
	log.Count = d.U64("count")
	switch {
	case log.Count == 0:
		d.Fail(types.NotCanonical, "count")
	case log.Count > MaxShort:
		log.Root = d.Hash("root")
	case int(log.Count)*size > d.Left():
		d.Fail(types.TooLong, "count")
	default:
		leaves := make([]types.Hash, log.Count)
		for i := range leaves {
			leaves[i] = tlog.LeafHash(read())
		}
		log.Root = tlog.Root(leaves)
	}
	return log
}

func readChunkKey(d *types.Decoder) (k ChunkKey) {
	k.Lock = d.Key("lock")
	k.Log = shortLog(d, shortKeyEvent, func() []byte {
		k.Events = append(k.Events, readKeyEvent(d, k.Lock))
		return k.Events[len(k.Events)-1].Encode()
	})
	return k
}

func (n *ChunkName) encode(e *types.Encoder) {
	e.String(n.State.Name)
	e.Key(n.State.Peer)
	e.U64(n.State.Story.Count)
	if n.State.Story.Count > MaxShort {
		e.Hash(n.State.Story.Root)
	}
	for i := range n.Events {
		e.Raw(n.Events[i].Encode())
	}
}

func readChunkName(d *types.Decoder) (n ChunkName) {
	n.State.Name, n.State.Peer = d.String("name", types.MaxName), d.Key("peer")
	n.State.Story = shortLog(d, minNameEvent, func() []byte {
		n.Events = append(n.Events, *types.ReadNameEvent(d))
		return n.Events[len(n.Events)-1].Encode()
	})
	return n
}

func (c *ChunkCheckpoint) encode(e *types.Encoder) {
	e.Raw(c.Checkpoint.Encode())
	for i := range c.Events {
		e.Raw(c.Events[i].Encode())
	}
}

func readChunkCheckpoint(d *types.Decoder) (c ChunkCheckpoint) {
	c.Checkpoint = *types.ReadCheckpoint(d)
	if n := c.Checkpoint.Events; d.Err() == nil && n <= MaxShort {
		if int(n)*eventSize > d.Left() {
			d.Fail(types.TooLong, "events")
			return c
		}
		for range n {
			c.Events = append(c.Events, *types.ReadEvent(d))
		}
	}
	return c
}
