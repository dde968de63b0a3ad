package chain

import (
	"errors"
	"fmt"
	"slices"

	"charter/forest"
	"charter/proof"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// Newest asks Checkpoint for the newest certified one.
const Newest = ^uint64(0)

// Certified is a checkpoint with what makes it believable.
type Certified struct {
	Checkpoint  *types.Checkpoint
	Certificate *types.Certificate // nil for the genesis
	Snapshot    *types.Snapshot    // whose members vote in the certificate
}

// Proof is an encoded proof and the checkpoint that it leads to.
type Proof struct {
	Bytes []byte
	At    *Certified
}

// prover makes proofs of the state of one height, whose checkpoint is certified.
type prover struct {
	*pin
	c  *Chain
	at *Certified
	id types.Hash
}

// prove makes a proof of the newest certified state.
func (c *Chain) prove(make func(*prover) (proof.Statement, error)) (Proof, error) {
	pin := c.pins.certified()
	if pin == nil {
		return Proof{}, refuse(NotYet, "", "no certified checkpoint is at hand yet: try again in a moment")
	}
	defer c.pins.drop(pin)
	p := &prover{pin: pin, c: c}
	var err error
	if p.at, err = p.under(pin.height); err != nil {
		return Proof{}, err
	}
	p.id = p.at.Checkpoint.ID()
	s, err := make(p)
	if err != nil {
		return Proof{}, err
	}
	return Proof{s.Encode(), p.at}, nil
}

// under is the certified checkpoint of a height.
func (p *prover) under(height uint64) (*Certified, error) {
	cp, err := p.snap.Checkpoint(height)
	if err != nil || cp == nil {
		return nil, errors.Join(refuse(NotFound, "", "no checkpoint of height %d", height), err)
	}
	out := &Certified{Checkpoint: cp.Checkpoint}
	if height == 0 {
		out.Snapshot = p.c.cfg.Genesis.Snapshot()
		return out, nil
	}
	// The certificate came after the state was pinned: it is read from the store as it is now.
	if out.Certificate, err = p.c.cfg.Store.View().Certificate(height); err != nil || out.Certificate == nil {
		return nil, errors.Join(refuse(NotYet, "", "the checkpoint of height %d is not certified", height), err)
	}
	out.Snapshot, err = p.Snapshot(out.Certificate.Snapshot)
	return out, err
}

// Past, Certified and Snapshot make the prover a proof.Source. Past proves that an older
// checkpoint is in a newer one's history.
func (p *prover) Past(older, newer *types.Checkpoint) (tlog.Path, error) {
	return tlog.ProveInclusion(p.snap.History(), newer.HistorySize, older.HistorySize)
}

// Certified is the first certified
// checkpoint at a height or above, nil if there is none.
func (p *prover) Certified(from uint64) (*types.Checkpoint, *types.Certificate, error) {
	view := p.c.cfg.Store.View()
	for cp, err := range view.Checkpoints(max(from, 1)) {
		if err != nil {
			return nil, nil, err
		}
		if cp.Height > p.height {
			break
		}
		cert, err := view.Certificate(cp.Height)
		if err != nil || cert != nil {
			return cp.Checkpoint, cert, err
		}
	}
	return nil, nil, nil
}

// Snapshot is the snapshot with this root.
func (p *prover) Snapshot(root types.Hash) (*types.Snapshot, error) {
	if s := p.c.cfg.Genesis.Snapshot(); s.Root(p.c.id) == root {
		return s, nil
	}
	var all []*types.Snapshot
	for s, err := range p.snap.ShareSnapshots(1) {
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	for _, s := range slices.Backward(all) {
		if s.Root(p.c.id) == root {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no snapshot with root %s is kept", root)
}

// TransactionProof is the self-contained proof file of a transaction's fate, with the states
// of the outputs that it made. Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) TransactionProof(id types.Hash) (Proof, error) {
	return c.prove(func(p *prover) (proof.Statement, error) {
		number, ok, err := p.snap.Find(id)
		if err != nil {
			return nil, err
		}
		if !ok {
			if t, err := c.Transaction(id); err != nil || t.Tier != Unknown {
				return nil, errors.Join(refuse(NotYet, "", "transaction %s is not under a certified checkpoint yet", id), err)
			}
			return nil, refuse(NotFound, "", "transaction %s is not known here", id)
		}
		ev, err := p.event(number)
		if err != nil {
			return nil, err
		}
		f := &proof.File{Chain: c.id, Event: *ev}
		for i := range uint64(ev.Event.Outputs) {
			o, err := p.output(ev.Event.First + i)
			if err != nil {
				return nil, err
			}
			f.Outputs = append(f.Outputs, *o)
		}
		f.Steps, err = proof.Genesis(c.cfg.Genesis).Build(p.height, p)
		return f, err
	})
}

// event proves the event with a number.
func (p *prover) event(number uint64) (*proof.Event, error) {
	var e *types.Event
	for v, err := range p.snap.Events(number) {
		if err != nil {
			return nil, err
		}
		e = v
		break
	}
	if e == nil {
		return nil, fmt.Errorf("event %d is not in the store", number)
	}
	out := &proof.Event{Checkpoint: p.id, Event: *e}
	for cp, err := range p.snap.Checkpoints(e.Height) {
		if err != nil {
			return nil, err
		}
		leaves := make([]types.Hash, 0, cp.Events)
		for v, err := range p.snap.Events(cp.First) {
			if err != nil {
				return nil, err
			}
			if leaves = append(leaves, tlog.LeafHash(v.Encode())); uint64(len(leaves)) == cp.Events {
				break
			}
		}
		out.Index = number - cp.First
		if out.Path, err = tlog.InclusionOf(leaves, out.Index); err != nil {
			return nil, err
		}
		if cp.Height != p.height {
			path, err := p.Past(cp.Checkpoint, p.at.Checkpoint)
			if err != nil {
				return nil, err
			}
			out.Past = &proof.Past{Checkpoint: *cp.Checkpoint, Path: path}
		}
		break
	}
	if e.Kind == types.Payout {
		return out, nil
	}
	tx, err := p.c.body(e)
	out.Body = tx
	return out, err
}

// body is the body of an event's transaction, from the block that carried it.
func (c *Chain) body(e *types.Event) ([]byte, error) {
	o, err := c.load(e.Block)
	if err != nil {
		return nil, err
	}
	for i := range o.txs {
		if o.txs[i].ID == e.Transaction {
			return o.txs[i].Tx.Body(), nil
		}
	}
	return nil, fmt.Errorf("block %s does not carry transaction %s", e.Block, e.Transaction)
}

// output proves the state of an output.
func (p *prover) output(position uint64) (*proof.Output, error) {
	o, err := p.snap.Output(position)
	if err != nil || o == nil {
		return nil, errors.Join(refuse(NotFound, "", "no output at position %d as of height %d", position, p.height), err)
	}
	path, err := forest.Prove(p.snap.Trees().Outputs, p.at.Checkpoint.Outputs, position)
	if err != nil {
		return nil, err
	}
	return &proof.Output{Checkpoint: p.id, Position: position, State: *o, Path: path}, nil
}

// OutputProof proves the state of an output. Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) OutputProof(position uint64) (Proof, error) {
	return c.prove(func(p *prover) (proof.Statement, error) { return p.output(position) })
}

// KeyProof proves the latest events of a lock, or all that one proof holds for latest 0, or
// that there is none. Error: *Error of kind NotYet.
func (c *Chain) KeyProof(lock types.Key, latest uint32) (Proof, error) {
	return c.prove(func(p *prover) (proof.Statement, error) {
		path, err := trie.Prove(p.snap.Trees().Keys, p.at.Checkpoint.KeysRoot, types.KeyPath(lock))
		if err != nil {
			return nil, err
		}
		out := &proof.Key{Checkpoint: p.id, Lock: lock, Path: *path}
		log, err := p.snap.KeyLog(lock)
		if err != nil {
			return nil, err
		}
		if log.Size() == 0 {
			return out, nil
		}
		out.Log = types.LogState{Count: log.Size(), Root: log.Root()}
		show := min(log.Size(), proof.MaxEvents)
		if latest > 0 {
			show = min(show, uint64(latest))
		}
		var hidden []types.Hash
		for e, err := range p.snap.KeyEvents(lock, 0) {
			if err != nil {
				return nil, err
			}
			if uint64(len(hidden)) < log.Size()-show {
				hidden = append(hidden, tlog.LeafHash(e.Encode()))
			} else {
				out.Events = append(out.Events, *e)
			}
		}
		out.Prefix = out.Prefix.Append(hidden...)
		return out, nil
	})
}

// NameProof proves who holds a name and the latest of its story, or that nobody does. Error: *Error of kind NotYet.
func (c *Chain) NameProof(name string) (Proof, error) {
	return c.prove(func(p *prover) (proof.Statement, error) {
		state, err := p.snap.Name(name)
		if err != nil {
			return nil, err
		}
		path, err := trie.Prove(p.snap.Trees().Names, p.at.Checkpoint.NamesRoot, types.NamePath(name))
		if err != nil {
			return nil, err
		}
		out := &proof.Name{Checkpoint: p.id, Name: name, State: state, Path: *path}
		if state == nil {
			return out, nil
		}
		var hidden []types.Hash
		for e, err := range p.snap.NameEvents(name, 0) {
			if err != nil {
				return nil, err
			}
			if uint64(len(hidden))+proof.MaxEvents < state.Story.Count {
				hidden = append(hidden, tlog.LeafHash(e.Encode()))
			} else {
				out.Events = append(out.Events, *e)
			}
		}
		out.Prefix = out.Prefix.Append(hidden...)
		return out, nil
	})
}

// PeerProof proves a peer's entry, or that there is none. Error: *Error of kind NotYet.
func (c *Chain) PeerProof(peer types.Key) (Proof, error) {
	return c.prove(func(p *prover) (proof.Statement, error) {
		state, err := p.snap.Peer(peer)
		if err != nil {
			return nil, err
		}
		path, err := trie.Prove(p.snap.Trees().Peers, p.at.Checkpoint.PeersRoot, types.PeerPath(peer))
		if err != nil {
			return nil, err
		}
		return &proof.Peer{Checkpoint: p.id, Peer: peer, State: state, Path: *path}, nil
	})
}

// ConsistencyProof proves that the newest certified checkpoint includes that of height from.
// Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) ConsistencyProof(from uint64) (Proof, error) {
	return c.prove(func(p *prover) (proof.Statement, error) {
		old, err := p.snap.Checkpoint(from)
		if err != nil || old == nil || from >= p.height {
			return nil, errors.Join(refuse(NotFound, "", "no checkpoint of height %d below %d", from, p.height), err)
		}
		return p.consistency(old.Checkpoint)
	})
}

// consistency proves that the certified checkpoint includes an older one.
func (p *prover) consistency(old *types.Checkpoint) (out *proof.Consistency, err error) {
	out = &proof.Consistency{Old: old.ID(), New: p.id}
	if out.Path, err = p.Past(old, p.at.Checkpoint); err != nil {
		return nil, err
	}
	out.History, err = tlog.ProveConsistency(p.snap.History(), old.HistorySize, p.at.Checkpoint.HistorySize)
	return out, err
}

// Checkpoint is the certified checkpoint at a height, or the newest for Newest.
// Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) Checkpoint(height uint64) (*Certified, error) {
	pin := c.pins.certified()
	if pin == nil {
		return nil, refuse(NotYet, "", "no certified checkpoint is at hand yet: try again in a moment")
	}
	defer c.pins.drop(pin)
	p := &prover{pin: pin, c: c}
	if height == Newest {
		height = pin.height
	}
	if height > pin.height {
		return nil, refuse(NotYet, "", "the newest certified checkpoint is of height %d", pin.height)
	}
	return p.under(height)
}

// Advance leads from the certified checkpoint at height from towards the first one from height target
// up, or the newest for Newest. Each step is an encoded proof.Advance of one step; to is the height that the last one reaches, from
// if there is none.
// Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) Advance(from, target uint64) (steps [][]byte, to uint64, err error) {
	pin := c.pins.certified()
	if pin == nil {
		return nil, 0, refuse(NotYet, "", "no certified checkpoint is at hand yet: try again in a moment")
	}
	defer c.pins.drop(pin)
	p := &prover{pin: pin, c: c}
	trust := proof.Genesis(c.cfg.Genesis)
	if from > 0 {
		if trust, err = p.trustAt(from); err != nil {
			return nil, 0, err
		}
	}
	way, err := trust.Build(min(target, pin.height), p)
	if err != nil {
		return nil, 0, err
	}
	to = from
	for _, s := range way {
		steps = append(steps, (&proof.Advance{Chain: c.id, Steps: []proof.Step{s}}).Encode())
		to = s.Checkpoint.Height
	}
	return steps, to, nil
}

// trustAt is the least that a wallet believes which followed certificates up to a height. Which
// snapshots it skipped is not known here, so nothing is taken for granted.
func (p *prover) trustAt(from uint64) (proof.Trusted, error) {
	at, err := p.under(from)
	if err != nil {
		return proof.Trusted{}, err
	}
	return proof.At(p.c.params, at.Checkpoint, at.Snapshot.Height), nil
}

// HistoryNodes are roots of complete subtrees of the history before the newest certified checkpoint: nodes
// first … first+count−1 of a level, over 2^level checkpoints each. Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) HistoryNodes(level uint8, first uint64, count int) ([]types.Hash, error) {
	return history(c, level, first, count, func(p *prover) ([]types.Hash, error) {
		nodes := make([]types.Hash, 0, count)
		for i := range uint64(count) {
			h, err := p.snap.History().Node(level, first+i)
			if err != nil {
				return nil, err
			}
			nodes = append(nodes, h)
		}
		return nodes, nil
	})
}

// HistoryEntries are the ids of checkpoints number first … first+count−1 of the history before the newest certified
// one; genesis' is number 0. Errors: *Error of kinds NotFound, NotYet.
func (c *Chain) HistoryEntries(first uint64, count int) ([]types.Hash, error) {
	return history(c, 0, first, count, func(p *prover) ([]types.Hash, error) {
		ids := make([]types.Hash, 0, count)
		for cp, err := range p.snap.Checkpoints(first * c.params.CheckpointEvery) {
			if err != nil {
				return nil, err
			}
			if cp.HistorySize != first+uint64(len(ids)) {
				return nil, fmt.Errorf("checkpoint of height %d is number %d, want %d", cp.Height, cp.HistorySize, first+uint64(len(ids)))
			}
			if ids = append(ids, cp.ID()); len(ids) == count {
				return ids, nil
			}
		}
		return nil, fmt.Errorf("checkpoints from number %d end after %d", first, len(ids))
	})
}

// history reads of the history what is asked for, if it is before the newest certified checkpoint.
func history(c *Chain, level uint8, first uint64, count int, read func(*prover) ([]types.Hash, error)) ([]types.Hash, error) {
	pin := c.pins.certified()
	if pin == nil {
		return nil, refuse(NotYet, "", "no certified checkpoint is at hand yet: try again in a moment")
	}
	defer c.pins.drop(pin)
	p := &prover{pin: pin, c: c}
	at, err := p.under(pin.height)
	if err != nil {
		return nil, err
	}
	if have := at.Checkpoint.HistorySize >> level; first > have || uint64(count) > have-first {
		return nil, refuse(NotFound, "", "the history has %d nodes of level %d, asked for %d from number %d", have, level, count, first)
	}
	return read(p)
}
