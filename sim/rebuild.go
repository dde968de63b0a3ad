package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"charter/forest"
	"charter/ledger"
	"charter/proof"
	"charter/sig"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// The tags of the trees that are built from nothing here.
var (
	tagForest = types.NewTag("charter/forest")
	tagLeaf   = types.NewTag("charter/trie leaf")
	tagInner  = types.NewTag("charter/trie inner")
)

// rebuilt is the past of one node once more, from genesis: every event by the checkpoint that
// has it, and every checkpoint.
type rebuilt struct {
	w           *world
	m           *ledger.Memory
	events      [][]types.Event // by checkpoint
	checkpoints []*types.Checkpoint
	keys        map[types.Key][]types.KeyEvent
	bodies      map[types.Hash][]byte // of transactions
	now         *types.Checkpoint     // of the state as it is in the end
}

// rebuild applies all that a node decided to a fresh ledger, compares the checkpoints, works
// the roots out from nothing, and has proofs made and broken.
func (w *world) rebuild(n *node) error {
	r := &rebuilt{w: w, keys: map[types.Key][]types.KeyEvent{}, bodies: map[types.Hash][]byte{}}
	if err := r.replay(n); err != nil {
		return err
	}
	if err := r.roots(); err != nil {
		return err
	}
	return r.proofs()
}

func (r *rebuilt) replay(n *node) error {
	w := r.w
	_, first, err := ledger.Genesis(w.genesis)
	if err != nil {
		return err
	}
	var under []types.Event
	digest := func(c *ledger.Changes) {
		under = append(under, c.Events...)
		for _, k := range c.Keys {
			r.keys[k.Output.Lock] = append(r.keys[k.Output.Lock], k)
		}
	}
	digest(first)
	var zero *types.Checkpoint
	if r.m, zero, err = ledger.NewMemory(w.genesis); err != nil {
		return err
	}
	r.checkpoints, r.events, under = []*types.Checkpoint{zero}, [][]types.Event{under}, nil
	for i := range n.disk.decisions {
		d := &n.disk.decisions[i]
		if !d.Anchor.IsZero() {
			b := n.disk.batch(n, d, r.m)
			if b == nil {
				return nil // and that has failed already
			}
			digest(r.m.Apply(b))
		}
		if d.Height%w.params().SnapshotPeriod == 0 {
			digest(r.m.TakeSnapshot(d.Height))
		}
		if d.Height%w.params().CheckpointEvery == 0 {
			cp := r.m.Checkpoint(d.Height)
			if was := w.check.roots[d.Height]; was != cp.ID() {
				return fmt.Errorf("from genesis the checkpoint of height %d is %s, and was %s", d.Height, cp.ID().Short(), was.Short())
			}
			w.check.count("from scratch as step by step")
			r.checkpoints, r.events, under = append(r.checkpoints, cp), append(r.events, under), nil
		}
	}
	for _, p := range w.payments {
		r.bodies[p.tx.ID] = p.tx.Tx.Body()
	}
	r.events = append(r.events, under)
	r.now = r.m.State().Checkpoint(uint64(len(n.disk.decisions)))
	return nil
}

func eventLeaves(events []types.Event) (leaves [][]byte) {
	for i := range events {
		leaves = append(leaves, events[i].Encode())
	}
	return leaves
}

// roots compares all roots of the last state with those of trees that are built here.
func (r *rebuilt) roots() error {
	var history, outputs, keys, peers [][]byte
	for _, cp := range r.checkpoints {
		id := cp.ID()
		history = append(history, id[:])
	}
	var sum types.Amount
	for i := range r.now.Outputs {
		o, _ := r.m.Output(i)
		leaf := types.OutputLeaf(o)
		if outputs = append(outputs, leaf[:]); o.SpentHeight == 0 {
			sum += o.Output.Value
		}
	}
	for lock, events := range r.keys {
		var leaves [][]byte
		for i := range events {
			leaves = append(leaves, events[i].Encode())
		}
		keys = append(keys, pathAndValue(types.KeyPath(lock), types.KeyLeaf(types.LogState{Count: uint64(len(events)), Root: logRoot(leaves)})))
	}
	states, _ := r.m.Peers()
	for i := range states {
		sum += states[i].Fees
		peers = append(peers, pathAndValue(types.PeerPath(states[i].Peer), types.PeerLeaf(&states[i])))
	}
	for _, x := range []struct {
		name      string
		have, now types.Hash
	}{
		{"events", r.now.EventsRoot, logRoot(eventLeaves(r.events[len(r.events)-1]))},
		{"history", r.now.HistoryRoot, logRoot(history)},
		{"outputs", r.now.OutputsRoot, forestRoot(outputs)},
		{"keys", r.now.KeysRoot, trieRoot(keys)},
		{"peers", r.now.PeersRoot, trieRoot(peers)},
	} {
		if x.have != x.now {
			return fmt.Errorf("the root of %s is %s, and %s from nothing", x.name, x.have.Short(), x.now.Short())
		}
		r.w.check.count("roots from nothing")
	}
	if supply, _ := r.w.genesis.Supply(); sum != supply {
		return fmt.Errorf("all outputs and accrued fees are %s, and %s were issued", sum, supply)
	}
	return nil
}

// logRoot is the root of RFC 6962, section 2.1.
func logRoot(leaves [][]byte) types.Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, leaves[0]...))
	default:
		l, r := logRoot(leaves[:splitAt(n)]), logRoot(leaves[splitAt(n):])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
}

// splitAt is the greatest power of two below n.
func splitAt(n int) (k int) {
	for k = 1; 2*k < n; k *= 2 {
	}
	return k
}

// forestRoot is the root over leaves (spec/encoding.md, "Outputs tree").
func forestRoot(leaves [][]byte) types.Hash {
	switch n := len(leaves); n {
	case 0:
		return types.Hash{}
	case 1:
		return types.Hash(leaves[0])
	default:
		l, r := forestRoot(leaves[:splitAt(n)]), forestRoot(leaves[splitAt(n):])
		return tagForest.Hash(l[:], r[:])
	}
}

// pathAndValue is an entry of a trie.
func pathAndValue(path, value types.Hash) []byte { return append(path[:], value[:]...) }

// trieRoot is the root over entries (package trie has the picture).
func trieRoot(entries [][]byte) types.Hash {
	slices.SortFunc(entries, slices.Compare)
	bit := func(e []byte, i int) byte { return e[i/8] >> (7 - i%8) & 1 }
	var node func([][]byte) types.Hash
	node = func(es [][]byte) types.Hash {
		switch len(es) {
		case 0:
			return types.Hash{}
		case 1:
			return tagLeaf.Hash(es[0])
		}
		common := 0
		for bit(es[0], common) == bit(es[len(es)-1], common) {
			common++
		}
		prefix := make([]byte, 32)
		for i := range common {
			prefix[i/8] |= bit(es[0], i) << (7 - i%8)
		}
		right := slices.IndexFunc(es, func(e []byte) bool { return bit(e, common) == 1 })
		l, r := node(es[:right]), node(es[right:])
		return tagInner.Hash(binary.BigEndian.AppendUint16(nil, uint16(common)), prefix, l[:], r[:])
	}
	return node(entries)
}

// proofs makes proofs of what the last state and its past hold, and breaks each.
func (r *rebuilt) proofs() error {
	w, id := r.w, r.now.ID()
	trees := r.m.Trees()
	at := uint64(w.rng.Int64N(int64(r.now.Outputs)))
	state, _ := r.m.Output(at)
	path, err := forest.Prove(trees.Outputs, r.now.Outputs, at)
	if err == nil {
		err = r.check(&proof.Output{Checkpoint: id, Position: at, State: *state, Path: path}, func(s proof.Statement) error {
			_, err := s.(*proof.Output).Verify(r.now, at)
			return err
		})
	}
	for _, lock := range []types.Key{simKey(1000), simKey(1001)} { // one has all outputs, one has none
		if err == nil {
			err = r.keyProof(trees, lock)
		}
	}
	peer := w.peers[w.rng.IntN(len(w.peers))]
	if way, wrong := trie.Prove(trees.Peers, r.now.PeersRoot, trie.Path(types.PeerPath(peer))); err == nil && wrong == nil {
		s, _ := r.m.Peer(peer)
		err = r.check(&proof.Peer{Checkpoint: id, Peer: peer, State: s, Path: *way}, func(s proof.Statement) error {
			_, err := s.(*proof.Peer).Verify(r.now, peer)
			return err
		})
	}
	for range 3 {
		if err == nil {
			err = r.eventProof(w.rng.IntN(len(r.checkpoints)))
		}
	}
	if err == nil {
		err = r.certificate()
	}
	return err
}

func (r *rebuilt) keyProof(trees *ledger.Trees, lock types.Key) error {
	way, err := trie.Prove(trees.Keys, r.now.KeysRoot, trie.Path(types.KeyPath(lock)))
	if err != nil {
		return err
	}
	p := &proof.Key{Checkpoint: r.now.ID(), Lock: lock, Path: *way}
	if events := r.keys[lock]; len(events) > 0 {
		var leaves []types.Hash
		for i := range events {
			leaves = append(leaves, tlog.LeafHash(events[i].Encode()))
		}
		shown := min(len(events), 3)
		p.Events = events[len(events)-shown:]
		p.Prefix = tlog.Frontier{}.Append(leaves[:len(leaves)-shown]...)
		p.Log = types.LogState{Count: uint64(len(events)), Root: tlog.Root(leaves)}
	}
	return r.check(p, func(s proof.Statement) error {
		_, err := s.(*proof.Key).Verify(r.now, lock)
		return err
	})
}

// eventProof proves an event under an older checkpoint, and that the last one includes that.
func (r *rebuilt) eventProof(i int) error {
	var history []types.Hash
	for _, cp := range r.checkpoints {
		id := cp.ID()
		history = append(history, tlog.LeafHash(id[:]))
	}
	old := r.checkpoints[i]
	path, err := tlog.InclusionOf(history, uint64(i))
	if err != nil {
		return err
	}
	before, err := tlog.ConsistencyOf(history, uint64(i))
	if err != nil {
		return err
	}
	err = r.check(&proof.Consistency{Old: old.ID(), New: r.now.ID(), Path: path, History: before}, func(s proof.Statement) error {
		return s.(*proof.Consistency).Verify(old, r.now)
	})
	events := r.events[i]
	if err != nil || len(events) == 0 {
		return err
	}
	var leaves []types.Hash
	for j := range events {
		leaves = append(leaves, tlog.LeafHash(events[j].Encode()))
	}
	j := r.w.rng.IntN(len(events))
	in, err := tlog.InclusionOf(leaves, uint64(j))
	if err != nil {
		return err
	}
	p := &proof.Event{Checkpoint: r.now.ID(), Body: r.bodies[events[j].Transaction], Event: events[j], Index: uint64(j), Path: in, Past: &proof.Past{Checkpoint: *old, Path: path}}
	return r.check(p, func(s proof.Statement) error {
		_, err := s.(*proof.Event).Verify(r.now)
		return err
	})
}

// check wants a proof to verify, and no other bytes in its place.
func (r *rebuilt) check(p interface {
	proof.Statement
	Encode() []byte
}, verify func(proof.Statement) error) error {
	w := r.w
	data := p.Encode()
	back, err := proof.Decode(data)
	if err == nil {
		err = verify(back)
	}
	if err != nil {
		return fmt.Errorf("a proof of what holds does not: %T: %w", p, err)
	}
	w.check.count("proof verifies")
	for range 8 {
		bad := slices.Clone(data)
		bad[w.rng.IntN(len(bad))] ^= 1 << w.rng.IntN(8)
		changed, err := proof.Decode(bad)
		if err == nil && fmt.Sprintf("%T", changed) == fmt.Sprintf("%T", p) && verify(changed) == nil {
			return fmt.Errorf("a changed proof verifies: %T %x, and before %x", p, bad, data)
		}
		w.check.count("changed proof refused")
	}
	return nil
}

// certificate makes one of the votes for the last checkpoint that two thirds signed, with real
// signatures, and wants the same signatures to prove nothing else.
func (r *rebuilt) certificate() error {
	w := r.w
	for i := len(r.checkpoints) - 1; i > 0; i-- {
		cp := r.checkpoints[i]
		snap := w.check.signers(cp.Height)
		if snap == nil {
			continue
		}
		votes := map[types.Key]types.Signature{}
		for key, id := range w.check.votes[cp.Height] {
			if id == cp.ID() {
				votes[key] = sig.Sign(simSecret(slices.Index(w.peers, key)), types.VoteDigest(w.chain, cp.Height, id))
			}
		}
		cert := proof.Certify(w.chain, snap, votes)
		if cert == nil {
			continue
		}
		if _, err := proof.VerifyCertificate(w.chain, cp, cert, snap); err != nil {
			return fmt.Errorf("certificate of height %d: %w", cp.Height, err)
		}
		other := *cp
		other.OutputsRoot[0] ^= 1
		if _, err := proof.VerifyCertificate(w.chain, &other, cert, snap); err == nil {
			return fmt.Errorf("the certificate of height %d holds for another checkpoint", cp.Height)
		}
		w.check.count("certificate")
		return nil
	}
	return nil
}
