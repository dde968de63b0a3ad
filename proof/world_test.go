package proof

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"charter/forest"
	"charter/sig"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// world is a chain as its peers would have it, without consensus or ledger: whatever a test
// says, happened. It keeps all trees, signs all checkpoints and makes all proofs.
type world struct {
	t       testing.TB
	genesis *types.Genesis
	chain   types.Hash
	trust   Trusted // in the genesis

	members func(period uint64) []int // which peers the snapshot of period·Period has
	govern  func(h uint64) uint64     // height of the snapshot that governs a height
	missing func(h uint64) int        // which member's vote for it was not kept; above all: none's

	history     tlog.Memory
	checkpoints []*types.Checkpoint // by height
	snapshots   map[uint64]*types.Snapshot
	events      [][]types.Event // by height, under the checkpoint there

	outputs forest.Memory
	states  []types.OutputState
	roots   [3]types.Hash // keys, names, peers
	tries   [3]trie.Memory
	logs    map[types.Key][]types.KeyEvent
	pending []types.Event
}

const (
	testLag    = 20
	testPeriod = 40
	worldPeers = 8
)

func secret(i int) sig.PrivateKey {
	k, err := sig.ParsePrivateKey(sha256.Sum256(fmt.Appendf(nil, "charter/proof test peer %d", i)))
	if err != nil {
		panic(err)
	}
	return k
}

func hashOf(s string) types.Hash { return sha256.Sum256([]byte(s)) }

func newWorld(t testing.TB, peers int) *world {
	g := &types.Genesis{Network: "test", Time: 1_795_375_000_000, Params: types.LocalParams}
	g.Params.SnapshotLag, g.Params.SnapshotPeriod = testLag, testPeriod
	for i := range peers {
		k := secret(i).Public()
		g.Peers = append(g.Peers, types.GenesisPeer{Peer: k, Name: fmt.Sprintf("peer-%d", i), Address: "127.0.0.1:1", Reward: k})
		if i < 4 || peers > worldPeers {
			g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 100 * types.UnitsPerShare, Lock: types.Key(hashOf("owner")), Host: k})
		}
	}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, genesis: g, chain: g.ChainID(), trust: Genesis(g), snapshots: map[uint64]*types.Snapshot{0: g.Snapshot()}, logs: map[types.Key][]types.KeyEvent{}}
	w.members = func(uint64) []int { return []int{0, 1, 2, 3} }
	w.govern = func(h uint64) uint64 { return w.trust.Applicable(h) }
	w.missing = func(uint64) int { return 1 << 10 }
	for i, o := range g.Outputs {
		w.create(types.Output(o), w.chain, uint32(i), 0)
	}
	for i, p := range g.Peers {
		w.set(2, types.PeerPath(p.Peer), types.PeerLeaf(w.peer(i)))
		w.set(1, types.NamePath(p.Name), types.NameLeaf(w.name(i)))
	}
	w.seal()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) peer(i int) *types.PeerState {
	p := w.genesis.Peers[i]
	return &types.PeerState{Peer: p.Peer, Name: p.Name, Address: p.Address, Reward: p.Reward, Shares: 100 * types.UnitsPerShare,
		Standing: types.Standing{Weight: 90 * types.UnitsPerShare, Since: 160, Present: 150, Witnesses: uint16(i), Absent: 1, Offences: 2, Offended: 3, Cleared: 4}}
}

func (w *world) name(i int) *types.NameState {
	p := w.genesis.Peers[i]
	leaves := w.storyLeaves(i)
	return &types.NameState{Name: p.Name, Peer: p.Peer, Story: types.LogState{Count: uint64(len(leaves)), Root: tlog.Root(leaves)}}
}

// story is three events of a peer's name: it was entered, and renewed twice.
func (w *world) story(i int) (events []types.NameEvent) {
	p := w.genesis.Peers[i]
	for n := range 3 {
		r := types.RegisterPeer{Peer: p.Peer, Name: p.Name, Address: fmt.Sprint("127.0.0.1:", n), Reward: p.Reward}
		events = append(events, types.NameEvent{Transaction: w.chain, Height: uint64(n), Time: w.time(uint64(n)), Record: r})
	}
	return events
}

func (w *world) storyLeaves(i int) (leaves []types.Hash) {
	for _, v := range w.story(i) {
		leaves = append(leaves, tlog.LeafHash(v.Encode()))
	}
	return leaves
}

// nameOf makes the proof of a peer's name with the latest n of its events, under the newest checkpoint.
func (w *world) nameOf(i, n int) *Name {
	events, leaves := w.story(i), w.storyLeaves(i)
	before := len(events) - n
	name := w.genesis.Peers[i].Name
	return &Name{Checkpoint: w.checkpoints[w.height()-1].ID(), Name: name, State: w.name(i), Path: w.inTrie(1, types.NamePath(name)),
		Prefix: tlog.Frontier{}.Append(leaves[:before]...), Events: events[before:]}
}

// noName makes the proof that a name is free.
func (w *world) noName(name string) *Name {
	return &Name{Checkpoint: w.checkpoints[w.height()-1].ID(), Name: name, Path: w.inTrie(1, types.NamePath(name))}
}

func (w *world) set(tree int, path trie.Path, leaf types.Hash) {
	res, err := trie.Update(&w.tries[tree], w.roots[tree], []trie.Change{{Path: path, Value: leaf}})
	w.must(err)
	w.tries[tree].Apply(res)
	w.roots[tree] = res.Root
}

// height is that of the checkpoint being made.
func (w *world) height() uint64 { return uint64(len(w.checkpoints)) }

func (w *world) time(h uint64) types.Millis { return w.genesis.Time + types.Millis(h)*1000 }

func (w *world) create(o types.Output, source types.Hash, index uint32, h uint64) {
	s := types.OutputState{Output: o, Source: source, Index: index, BornHeight: h, BornTime: w.time(h)}
	res, err := forest.Update(&w.outputs, uint64(len(w.states)), nil, []types.Hash{types.OutputLeaf(&s)})
	w.must(err)
	w.outputs.Apply(res.Writes)
	w.note(false, uint64(len(w.states)), source, index, o)
	w.states = append(w.states, s)
}

func (w *world) note(spent bool, position uint64, tx types.Hash, index uint32, o types.Output) {
	v := types.KeyEvent{Spent: spent, Position: position, Transaction: tx, Index: index, Output: o, Height: w.height(), Time: w.time(w.height())}
	w.logs[o.Lock] = append(w.logs[o.Lock], v)
	w.set(0, types.KeyPath(o.Lock), types.KeyLeaf(w.log(o.Lock)))
}

func keyLeaves(events []types.KeyEvent) (leaves []types.Hash) {
	for i := range events {
		leaves = append(leaves, tlog.LeafHash(events[i].Encode()))
	}
	return leaves
}

func (w *world) log(lock types.Key) types.LogState {
	if len(w.logs[lock]) == 0 {
		return types.LogState{}
	}
	return types.LogState{Count: uint64(len(w.logs[lock])), Root: tlog.Root(keyLeaves(w.logs[lock]))}
}

// apply says that a transaction took effect at the height being made, and spends and makes what it says.
func (w *world) apply(tx *types.Transaction) types.Event {
	id := tx.ID(w.chain)
	for i, in := range tx.Inputs {
		s := &w.states[in.Position]
		s.SpentHeight = w.height()
		res, err := forest.Update(&w.outputs, uint64(len(w.states)), []forest.Change{{Index: in.Position, Leaf: types.OutputLeaf(s)}}, nil)
		w.must(err)
		w.outputs.Apply(res.Writes)
		w.note(true, in.Position, id, uint32(i), s.Output)
	}
	ev := types.Event{Kind: types.Applied, Transaction: id, Block: hashOf("block"), Height: w.height(), Time: w.time(w.height()),
		First: uint64(len(w.states)), Outputs: uint16(len(tx.Outputs))}
	for i, o := range tx.Outputs {
		w.create(o, id, uint32(i), w.height())
	}
	w.pending = append(w.pending, ev)
	return ev
}

func (w *world) reject(tx *types.Transaction, why types.Reason) types.Event {
	ev := types.Event{Kind: types.Rejected, Transaction: tx.ID(w.chain), Block: hashOf("block"), Height: w.height(), Time: w.time(w.height()), Reason: why}
	w.pending = append(w.pending, ev)
	return ev
}

// seal makes the checkpoint at the next height.
func (w *world) seal() *types.Checkpoint {
	h := w.height()
	if h%testPeriod == 0 && h > 0 {
		s := &types.Snapshot{Height: h}
		for _, i := range w.members(h / testPeriod) {
			s.Members = append(s.Members, types.Member{Peer: secret(i).Public(), Shares: 100 * types.UnitsPerShare})
		}
		sortMembers(s)
		w.snapshots[h] = s
	}
	leaves := make([]types.Hash, len(w.pending))
	for i := range w.pending {
		leaves[i] = tlog.LeafHash(w.pending[i].Encode())
	}
	front, err := tlog.FrontierAt(&w.history, h)
	w.must(err)
	root, err := forest.Root(&w.outputs, uint64(len(w.states)))
	w.must(err)
	cp := &types.Checkpoint{Chain: w.chain, Height: h, Anchor: hashOf(fmt.Sprint("anchor", h)), Time: w.time(h),
		Events: uint64(len(leaves)), EventsRoot: tlog.Root(leaves), HistorySize: h, HistoryRoot: front.Root(),
		Outputs: uint64(len(w.states)), OutputsRoot: root, KeysRoot: w.roots[0], NamesRoot: w.roots[1], PeersRoot: w.roots[2],
		SnapshotRoot: w.snapshots[h/testPeriod*testPeriod].Root(w.chain)}
	id := cp.ID()
	res, err := tlog.Append(&w.history, h, []types.Hash{tlog.LeafHash(id[:])})
	w.must(err)
	w.history.Apply(res.Writes)
	w.checkpoints = append(w.checkpoints, cp)
	w.events = append(w.events, w.pending)
	w.pending = nil
	return cp
}

// rise seals up to a height.
func (w *world) rise(h uint64) *types.Checkpoint {
	for w.height() <= h {
		w.seal()
	}
	return w.checkpoints[h]
}

func sortMembers(s *types.Snapshot) {
	shares := map[types.Key]types.Amount{}
	var keys []types.Key
	for _, m := range s.Members {
		keys, shares[m.Peer] = append(keys, m.Peer), m.Shares
	}
	s.Members = nil
	for _, k := range types.SortKeys(keys) {
		s.Members = append(s.Members, types.Member{Peer: k, Shares: shares[k]})
	}
}

// signers is the secrets of a snapshot's members, in its order.
func (w *world) signers(s *types.Snapshot) (out []sig.PrivateKey) {
	byKey := map[types.Key]sig.PrivateKey{}
	for i := range w.genesis.Peers {
		byKey[secret(i).Public()] = secret(i)
	}
	for _, m := range s.Members {
		out = append(out, byKey[m.Peer])
	}
	return out
}

// certify signs cp by the first n members of a snapshot.
func (w *world) certify(cp *types.Checkpoint, s *types.Snapshot, n int) *types.Certificate {
	c := &types.Certificate{Snapshot: s.Root(w.chain)}
	digest := types.VoteDigest(w.chain, cp.Height, cp.ID())
	for i, k := range w.signers(s)[:n] {
		c.Votes = append(c.Votes, types.MemberVote{Index: uint16(i), Signature: sig.Sign(k, digest)})
	}
	return c
}

// Certified, Snapshot and Past make the world a Source: the members of the governing snapshot sign.
func (w *world) Certified(from uint64) (*types.Checkpoint, *types.Certificate, error) {
	if from >= w.height() {
		return nil, nil, nil
	}
	snap := w.snapshots[w.govern(from)]
	c := w.certify(w.checkpoints[from], snap, len(snap.Members))
	if i := w.missing(from); i < len(c.Votes) {
		c.Votes = slices.Delete(c.Votes, i, i+1)
	}
	return w.checkpoints[from], c, nil
}

func (w *world) Snapshot(root types.Hash) (*types.Snapshot, error) {
	for _, s := range w.snapshots {
		if s.Root(w.chain) == root {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no snapshot %s", root)
}

func (w *world) Past(older, newer *types.Checkpoint) (tlog.Path, error) {
	return tlog.ProveInclusion(&w.history, newer.HistorySize, older.HistorySize)
}

// prove makes the proof of an event under the checkpoint at its height, led to by the one at height at.
func (w *world) prove(tx *types.Transaction, ev types.Event, at uint64) *Event {
	has := w.checkpoints[ev.Height]
	p := &Event{Checkpoint: w.checkpoints[at].ID(), Event: ev}
	if tx != nil {
		p.Body = tx.Body()
	}
	var leaves []types.Hash
	for i, e := range w.events[ev.Height] {
		leaves = append(leaves, tlog.LeafHash(e.Encode()))
		if e == ev {
			p.Index = uint64(i)
		}
	}
	var err error
	p.Path, err = tlog.InclusionOf(leaves, p.Index)
	w.must(err)
	if at != ev.Height {
		p.Past = &Past{*has, w.pastPath(ev.Height, at)}
	}
	return p
}

func (w *world) pastPath(old, at uint64) tlog.Path {
	path, err := tlog.ProveInclusion(&w.history, w.checkpoints[at].HistorySize, old)
	w.must(err)
	return path
}

// output makes the proof of the newest state of an output, under the newest checkpoint.
func (w *world) output(position uint64) *Output {
	cp := w.checkpoints[w.height()-1]
	path, err := forest.Prove(&w.outputs, cp.Outputs, position)
	w.must(err)
	return &Output{Checkpoint: cp.ID(), Position: position, State: w.states[position], Path: path}
}

// key makes the proof of the latest n events of a lock, under the newest checkpoint.
func (w *world) key(lock types.Key, n int) *Key {
	events := w.logs[lock]
	before := events[:len(events)-n]
	return &Key{Checkpoint: w.checkpoints[w.height()-1].ID(), Lock: lock, Log: w.log(lock), Path: w.inTrie(0, types.KeyPath(lock)),
		Prefix: tlog.Frontier{}.Append(keyLeaves(before)...), Events: events[len(before):]}
}

func (w *world) inTrie(tree int, path trie.Path) trie.Proof {
	p, err := trie.Prove(&w.tries[tree], w.roots[tree], path)
	w.must(err)
	return *p
}

func (w *world) consistency(old, new uint64) *Consistency {
	history, err := tlog.ProveConsistency(&w.history, w.checkpoints[old].HistorySize, w.checkpoints[new].HistorySize)
	w.must(err)
	return &Consistency{w.checkpoints[old].ID(), w.checkpoints[new].ID(), w.pastPath(old, new), history}
}

// pay is a transaction that spends the output at a position and says what it is told.
func (w *world) pay(position uint64, records []types.Record, outputs ...types.Output) *types.Transaction {
	s := w.states[position]
	salt := hashOf(fmt.Sprint(position))
	return &types.Transaction{Salt: [16]byte(salt[:16]), ValidUntil: types.MaxTime, Outputs: outputs, Records: records,
		Inputs: []types.Input{{Position: position, Source: s.Source, Index: s.Index, Output: s.Output}}}
}

// file makes the file of an event that leads to the checkpoint at height at.
func (w *world) file(p *Event, at uint64, outputs ...*Output) *File {
	steps, err := w.trust.Build(at, w)
	w.must(err)
	f := &File{Chain: w.chain, Steps: steps, Event: *p}
	for _, o := range outputs {
		f.Outputs = append(f.Outputs, *o)
	}
	return f
}

func tlogLeaf(ev *types.Event) types.Hash { return tlog.LeafHash(ev.Encode()) }
