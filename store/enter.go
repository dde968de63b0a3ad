package store

import (
	"errors"
	"fmt"

	"charter/forest"
	"charter/ledger"
	"charter/proof"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// entering is a chunk on its way into the state: one batch, with what it leaves to be wanted.
type entering struct {
	im     *Import
	b      *Batch
	state  ledger.State
	p      progress
	c      *proof.Chunk
	before tlog.Frontier    // of a range
	parts  []proof.ChunkRef // what to ask for instead, if the chunk is not there but too large
	wanted []proof.ChunkRef
	gone   []proof.ChunkRef // done before their turn, which has come
}

// entering is a batch on top of what is in.
func (im *Import) entering(c *proof.Chunk) *entering {
	x := &entering{im: im, b: im.s.Begin(), p: *im.p, c: c}
	x.state = ledger.State{Chain: x.p.cp.Chain, Supply: x.p.supply, Unspent: x.p.supply}
	if x.b.head.state != nil {
		x.state = *x.b.head.state
	}
	return x
}

// enter makes a chunk that is wanted part of the state; or notes the parts that are to be asked for instead.
func (im *Import) enter(c *proof.Chunk, before tlog.Frontier, parts []proof.ChunkRef) error {
	x := im.entering(c)
	x.before, x.parts = before, parts
	err := x.fill()
	if err == nil {
		err = x.mark()
	}
	if err != nil {
		return errors.Join(err, x.b.Discard())
	}
	if err := x.commit(); err != nil {
		return err
	}
	im.p = &x.p
	for _, r := range x.gone {
		delete(im.done, r)
	}
	im.extra.remove(x.c.Ref)
	for _, r := range x.wanted {
		im.extra.add(r)
	}
	return nil
}

func (x *entering) commit() error {
	if err := x.b.set([]byte{stateImport}, x.p.encode()); err != nil {
		return errors.Join(err, x.b.Discard())
	}
	state := x.state
	x.b.head.state = &state
	return x.b.Commit()
}

func (x *entering) fill() error {
	if x.parts != nil {
		x.wanted = x.parts
		return nil
	}
	switch x.c.Ref.Kind {
	case proof.KeysChunk:
		return x.keys()
	case proof.NamesChunk:
		return x.names()
	case proof.PeersChunk:
		return x.peers()
	case proof.TallyChunk:
		return x.tally()
	case proof.HistoryChunk:
		return x.history()
	case proof.KeyLogChunk:
		return x.keyLog()
	case proof.StoryChunk:
		return x.story()
	}
	return x.moreEvents()
}

// mark notes that the chunk is in, and what is wanted now.
func (x *entering) mark() (err error) {
	r := x.c.Ref
	x.p.in++
	x.p.known += uint64(len(x.wanted))
	switch n, first := x.p.number(r); {
	case x.im.extra.in[r]:
		err = x.b.b.Delete(importKey(importWanted, r), nil)
	case r.Kind == proof.HistoryChunk:
		x.p.history++
	case first && n != x.p.next[r.Kind]:
		x.im.done[r] = true
		err = x.b.set(importKey(importDone, r), []byte{1})
	default:
		for next := nthPrefix(r.Kind, r.Prefix.Len, n+1); ; next = nthPrefix(r.Kind, r.Prefix.Len, n+1) {
			n++
			if !x.im.done[next] {
				break
			}
			x.gone = append(x.gone, next)
			err = errors.Join(err, x.b.b.Delete(importKey(importDone, next), nil))
		}
		x.p.next[r.Kind] = n
	}
	for _, r := range x.wanted {
		err = errors.Join(err, x.b.set(importKey(importWanted, r), []byte{1}))
	}
	return err
}

// want asks for all ranges of a long log.
func (x *entering) want(r proof.ChunkRef, count uint64) {
	for ; r.First < count; r.First += r.Kind.Range() {
		x.wanted = append(x.wanted, r)
	}
}

func (x *entering) unfit(format string, args ...any) error {
	return x.im.s.refuse(Unfit, fmt.Sprintf(format, args...), nil)
}

func (x *entering) history() error {
	leaves := make([]types.Hash, len(x.c.History))
	for i := range x.c.History {
		h := &x.c.History[i]
		cp := &h.Checkpoint
		if cp.Height != x.p.height(cp.HistorySize) {
			return x.unfit("checkpoint number %d is of height %d, want %d", cp.HistorySize, cp.Height, x.p.height(cp.HistorySize))
		}
		leaves[i] = ledger.HistoryLeaf(cp.ID())
		first := x.b.head.events
		if err := errors.Join(x.checkpoint(cp), x.events(first, h.Events)); err != nil {
			return err
		}
	}
	if err := x.growHistory(leaves); err != nil {
		return err
	}
	if x.state.History.Size() == x.p.cp.HistorySize {
		return x.checkpoint(x.p.cp)
	}
	return nil
}

// checkpoint keeps a checkpoint, and asks for its events if they are not with it.
func (x *entering) checkpoint(cp *types.Checkpoint) error {
	first := x.b.head.events
	x.b.head.events += cp.Events
	x.b.head.settled = x.b.head.events
	if cp == x.p.cp || cp.Events > proof.MaxShort {
		x.want(proof.ChunkRef{Kind: proof.EventsChunk, Checkpoint: cp.HistorySize}, cp.Events)
	}
	return x.b.set(key(stateCheckpoint, u64(cp.Height)), Checkpoint{cp, first}.encode())
}

// growHistory puts leaves behind the history.
func (x *entering) growHistory(leaves []types.Hash) error {
	r, err := tlog.Append(x.b.History(), x.state.History.Size(), leaves)
	if err != nil {
		return x.im.s.read("history", err)
	}
	for _, n := range r.Writes {
		if err := x.b.set(nodeKey(stateHistory, n.Level, n.Index), n.Hash[:]); err != nil {
			return err
		}
	}
	x.state.History = x.state.History.Append(leaves...)
	return nil
}

// events keeps events by their number. Of a transaction's two the one for being too early is the former,
// whichever comes in first.
func (x *entering) events(first uint64, events []types.Event) error {
	for i := range events {
		v := &events[i]
		n := u64(first + uint64(i))
		if err := x.b.set(key(stateEvent, n), v.Encode()); err != nil {
			return err
		}
		if v.Reason == types.TooEarly {
			if _, ok, err := x.b.Find(v.Transaction); err != nil {
				return err
			} else if ok {
				continue
			}
		}
		if err := x.b.set(key(stateEventOf, v.Transaction[:]), n); err != nil {
			return err
		}
	}
	return nil
}

func (x *entering) moreEvents() error {
	cp, err := x.b.Checkpoint(x.p.height(x.c.Ref.Checkpoint))
	if err == nil && cp == nil {
		err = x.im.s.read("checkpoints", errMissing)
	}
	if err != nil {
		return err
	}
	return x.events(cp.First+x.c.Ref.First, x.c.Event)
}

func (x *entering) keys() error {
	changes := make([]trie.Change, len(x.c.Keys))
	for i := range x.c.Keys {
		k := &x.c.Keys[i]
		changes[i] = trie.Change{Path: types.KeyPath(k.Lock), Value: types.KeyLeaf(k.Log)}
		if k.Log.Count > proof.MaxShort {
			x.want(proof.ChunkRef{Kind: proof.KeyLogChunk, Lock: k.Lock}, k.Log.Count)
			continue
		}
		leaves, err := x.keyEvents(k.Lock, 0, k.Events, true)
		if err == nil {
			err = x.b.setKeyLog(&ledger.KeyLog{Lock: k.Lock, Frontier: tlog.Frontier{}.Append(leaves...)})
		}
		if err != nil {
			return err
		}
	}
	r, err := trie.Update(&x.b.trees.keys, x.state.KeysRoot, changes)
	if err != nil {
		return x.im.s.read("keys tree", err)
	}
	x.state.KeysRoot = r.Root
	return x.b.trees.add(&ledger.Writes{Keys: r})
}

func (x *entering) keyLog() error {
	lock, first := x.c.Ref.Lock, x.c.Ref.First
	leaves, err := x.keyEvents(lock, first, x.c.Key, false)
	if err == nil && len(leaves) == keyRange {
		root := tlog.Root(leaves)
		err = x.b.set(keyRangeKey(lock, first/keyRange), root[:])
	}
	if err == nil && first+uint64(len(leaves)) == x.c.Log.Count {
		err = x.b.setKeyLog(&ledger.KeyLog{Lock: lock, Frontier: x.before.Append(leaves...)})
	}
	return err
}

// keyEvents keeps events of a lock, from a number on, and the outputs that they tell of. If they are not all of the lock's,
// an output's other event may be in already, or not yet.
func (x *entering) keyEvents(lock types.Key, first uint64, events []types.KeyEvent, all bool) ([]types.Hash, error) {
	leaves := make([]types.Hash, len(events))
	outputs := make(map[uint64]*types.OutputState, len(events))
	for i := range events {
		v := &events[i]
		leaves[i] = tlog.LeafHash(v.Encode())
		o := outputs[v.Position]
		if o == nil && !all {
			var err error
			if o, err = x.b.Output(v.Position); err != nil {
				return nil, err
			}
		}
		if o == nil {
			o = new(types.OutputState)
		}
		outputs[v.Position] = o
		k := keyEntry{spent: v.Spent, position: v.Position}
		if v.Spent {
			number, ok, err := x.b.Find(v.Transaction)
			if err != nil {
				return nil, err
			}
			if !ok {
				return nil, x.unfit("lock %s was spent from by %s, which has no event", lock, v.Transaction)
			}
			k.event, k.index, o.SpentHeight = number, v.Index, v.Height
		} else {
			o.Source, o.Index, o.BornHeight, o.BornTime = v.Transaction, v.Index, v.Height, v.Time
		}
		o.Output = v.Output
		if err := x.b.set(key(stateKeyEvent, lock[:], u64(first+uint64(i))), k.encode()); err != nil {
			return nil, err
		}
	}
	for position, o := range outputs {
		if err := x.b.set(key(stateOutput, u64(position)), o.Encode()); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

func (x *entering) names() error {
	changes := make([]trie.Change, len(x.c.Names))
	for i := range x.c.Names {
		n := &x.c.Names[i]
		changes[i] = trie.Change{Path: types.NamePath(n.State.Name), Value: types.NameLeaf(&n.State)}
		if n.State.Story.Count > proof.MaxShort {
			x.want(proof.ChunkRef{Kind: proof.StoryChunk, Name: n.State.Name}, n.State.Story.Count)
			continue
		}
		leaves, err := x.nameEvents(n.State.Name, 0, n.Events)
		if err == nil {
			err = x.b.setName(&ledger.Story{State: n.State, Frontier: tlog.Frontier{}.Append(leaves...)})
		}
		if err != nil {
			return err
		}
	}
	r, err := trie.Update(&x.b.trees.names, x.state.NamesRoot, changes)
	if err != nil {
		return x.im.s.read("names tree", err)
	}
	x.state.NamesRoot = r.Root
	return x.b.trees.add(&ledger.Writes{Names: r})
}

func (x *entering) story() error {
	leaves, err := x.nameEvents(x.c.Ref.Name, x.c.Ref.First, x.c.Story)
	if err == nil && x.c.Ref.First+uint64(len(leaves)) == x.c.Name.Story.Count {
		err = x.b.setName(&ledger.Story{State: x.c.Name, Frontier: x.before.Append(leaves...)})
	}
	return err
}

func (x *entering) nameEvents(name string, first uint64, events []types.NameEvent) ([]types.Hash, error) {
	leaves := make([]types.Hash, len(events))
	for i := range events {
		data := events[i].Encode()
		leaves[i] = tlog.LeafHash(data)
		if err := x.b.set(nameKey(name, first+uint64(i)), data); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

func (x *entering) peers() error {
	changes := make([]trie.Change, len(x.c.Peers))
	for i := range x.c.Peers {
		p := &x.c.Peers[i]
		changes[i] = trie.Change{Path: types.PeerPath(p.Peer), Value: types.PeerLeaf(p)}
		if err := x.b.setPeer(p); err != nil {
			return err
		}
	}
	r, err := trie.Update(&x.b.trees.peers, x.state.PeersRoot, changes)
	if err != nil {
		return x.im.s.read("peers tree", err)
	}
	x.state.PeersRoot = r.Root
	return x.b.trees.add(&ledger.Writes{Peers: r})
}

func (x *entering) tally() (err error) {
	if x.state.Tally, err = ledger.DecodeTally(x.c.Tally); err != nil {
		return x.unfit("the tally: %v", err)
	}
	return nil
}

// outputsStep is how many outputs go into their tree in one batch.
const outputsStep = 8192

// growOutputs puts the next outputs into their tree, by position. It reports whether that was all.
func (x *entering) growOutputs() (bool, error) {
	from := x.state.Outputs
	leaves := make([]types.Hash, 0, min(outputsStep, x.p.cp.Outputs-from))
	to := from + uint64(cap(leaves))
	for e, err := range scan(x.b.r, key(stateOutput, u64(from)), key(stateOutput, u64(to))) {
		if err != nil {
			return false, x.im.s.read("outputs", err)
		}
		o, err := types.DecodeOutputState(e.value)
		if err != nil {
			return false, x.im.s.read("outputs", err)
		}
		leaves = append(leaves, types.OutputLeaf(o))
		if o.SpentHeight == 0 {
			if x.p.unspent, err = x.p.unspent.Add(o.Output.Value); err != nil {
				return false, x.unfit("the unspent outputs are more than there can be")
			}
		}
	}
	if len(leaves) != cap(leaves) {
		return false, x.unfit("%d of the outputs %d to %d have no key event", cap(leaves)-len(leaves), from, to-1)
	}
	r, err := forest.Update(&x.b.trees.outputs, from, nil, leaves)
	if err != nil {
		return false, x.im.s.read("tree of outputs", err)
	}
	x.state.Outputs, x.state.OutputsRoot = r.Size, r.Root
	return r.Size == x.p.cp.Outputs, x.b.trees.add(&ledger.Writes{Outputs: r.Writes})
}

// fits holds what was fetched, and what else is given, against the checkpoint.
func (x *entering) fits(f *Final) error {
	cp, state := x.p.cp, &x.state
	for _, tree := range []struct {
		what      string
		has, want types.Hash
	}{
		{"history", state.History.Root(), cp.HistoryRoot}, {"outputs", state.OutputsRoot, cp.OutputsRoot}, {"keys", state.KeysRoot, cp.KeysRoot},
		{"names", state.NamesRoot, cp.NamesRoot}, {"peers", state.PeersRoot, cp.PeersRoot},
	} {
		if tree.has != tree.want {
			return x.unfit("the tree of %s has root %s, and the checkpoint has %s", tree.what, tree.has, tree.want)
		}
	}
	if n := len(f.Snapshots); n == 0 || f.Snapshots[n-1].Root(cp.Chain) != cp.SnapshotRoot {
		return x.unfit("the newest snapshot given is not the checkpoint's")
	}
	if n := len(f.Anchors); n == 0 || uint64(n) > cp.Height || f.Anchors[n-1] != cp.Anchor && !f.Anchors[n-1].IsZero() {
		return x.unfit("the %d anchors given do not end with the checkpoint's", n)
	}
	peers, err := x.b.Peers()
	if err != nil {
		return err
	}
	sum := x.p.unspent
	state.Fees = 0
	for i := range peers {
		if state.Fees, err = state.Fees.Add(peers[i].Fees); err != nil {
			return x.unfit("fees are more than there can be")
		}
	}
	if sum, err = sum.Add(state.Fees); err != nil || sum != x.p.supply {
		return x.unfit("unspent outputs of %s and fees of %s are not the supply %s", x.p.unspent, state.Fees, x.p.supply)
	}
	return nil
}

// finish writes what makes of the whole a state behind its checkpoint.
func (x *entering) finish(f *Final) error {
	cp := x.p.cp
	if err := x.growHistory([]types.Hash{ledger.HistoryLeaf(cp.ID())}); err != nil {
		return err
	}
	if err := x.decisions(f.Anchors); err != nil {
		return err
	}
	for _, s := range f.Snapshots {
		if err := x.b.set(key(stateSnapshot, u64(s.Height)), s.Encode()); err != nil {
			return err
		}
	}
	for height, c := range f.Certificates {
		if err := x.b.set(key(stateCert, u64(height)), c.Encode()); err != nil {
			return err
		}
	}
	if f.Base != nil {
		if err := x.b.SetBase(f.Base); err != nil {
			return err
		}
	}
	x.state.Height, x.state.Anchor, x.state.Time = cp.Height, cp.Anchor, cp.Time
	x.state.Snapshot, x.state.Unspent = cp.SnapshotRoot, x.p.unspent
	x.b.head.state, x.b.head.decided = &x.state, cp.Height+1
	return errors.Join(x.b.set([]byte{stateJoined}, u64(cp.Height)), x.b.b.DeleteRange([]byte{stateImport}, []byte{stateImport + 1}, nil))
}

// decisions keeps the anchors of the last heights, and how many events there were up to each.
func (x *entering) decisions(anchors []types.Hash) error {
	height := x.p.cp.Height + 1 - uint64(len(anchors))
	number := x.b.head.events
	for c, err := range x.b.Checkpoints(height) { // the first has the events of this height
		if err != nil {
			return err
		}
		number = c.First
		break
	}
	for v, err := range x.b.Events(number) {
		if err != nil {
			return err
		}
		for ; height < v.Height; height, anchors = height+1, anchors[1:] {
			if err := x.b.set(key(stateDecided, u64(height)), decided{anchors[0], number}.encode()); err != nil {
				return err
			}
		}
		number++
	}
	for ; len(anchors) > 0; height, anchors = height+1, anchors[1:] {
		if err := x.b.set(key(stateDecided, u64(height)), decided{anchors[0], number}.encode()); err != nil {
			return err
		}
	}
	return nil
}
