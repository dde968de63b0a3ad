package ledger

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"charter/forest"
	"charter/sig"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// State is all that is needed besides a View and Trees to go on: a small value. It never
// changes; what follows it is another State.
type State struct {
	Chain  types.Hash
	Height uint64       // of the last batch or snapshot
	Anchor types.Hash   // the last one, the chain's id before the first
	Time   types.Millis // of the last anchor, or of genesis

	Outputs     uint64 // how many were ever made
	OutputsRoot types.Hash
	KeysRoot    types.Hash
	NamesRoot   types.Hash
	PeersRoot   types.Hash

	Events   tlog.Frontier // since the last checkpoint
	History  tlog.Frontier // of the ids of all checkpoints so far
	Snapshot types.Hash    // root of the newest

	Supply  types.Amount
	Unspent types.Amount // sum of all unspent outputs
	Fees    types.Amount // sum of all fees earned and not paid out: the rest of Supply

	Tally Tally // of presence, since the newest snapshot
}

// Encode is the state's bytes.
func (s *State) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 512))
	e.Hash(s.Chain)
	e.U64(s.Height)
	e.Hash(s.Anchor)
	e.Time(s.Time)
	e.U64(s.Outputs)
	e.Hash(s.OutputsRoot)
	e.Hash(s.KeysRoot)
	e.Hash(s.NamesRoot)
	e.Hash(s.PeersRoot)
	e.Raw(s.Events.Encode())
	e.Raw(s.History.Encode())
	e.Hash(s.Snapshot)
	e.Amount(s.Supply)
	e.Amount(s.Unspent)
	e.Amount(s.Fees)
	s.Tally.encode(e)
	return e.Data()
}

// DecodeState reads a state. Its errors are *types.DecodeError.
func DecodeState(data []byte) (*State, error) {
	d := types.NewDecoder("state", data)
	s := &State{
		Chain: d.Hash("chain"), Height: d.U64("height"), Anchor: d.Hash("anchor"), Time: d.Time("time"),
		Outputs: d.U64("outputs"), OutputsRoot: d.Hash("outputs root"), KeysRoot: d.Hash("keys root"),
		NamesRoot: d.Hash("names root"), PeersRoot: d.Hash("peers root"),
		Events: tlog.ReadFrontier(d), History: tlog.ReadFrontier(d), Snapshot: d.Hash("snapshot"),
		Supply: d.Amount("supply"), Unspent: d.Amount("unspent"), Fees: d.Amount("fees"),
		Tally: readTally(d),
	}
	if s.Height > types.MaxHeight {
		d.Fail(types.NotCanonical, "height")
	}
	if sum, err := s.Unspent.Add(s.Fees); err != nil || sum != s.Supply {
		d.Fail(types.NotCanonical, "supply")
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return s, nil
}

// Trees is what Commit reads of the stored trees: nodes that Writes before wrote, and the
// frontiers of the logs of locks and names, empty for one that has no event.
type Trees struct {
	Outputs forest.Reader
	Keys    trie.Reader
	Names   trie.Reader
	Peers   trie.Reader
	KeyLog  func(lock types.Key) (tlog.Frontier, error)
	Story   func(name string) (tlog.Frontier, error)
}

// Writes is what is to be stored so that the Trees are those of the new state, and what
// else Commit learned.
type Writes struct {
	Outputs []forest.NodeWrite
	Keys    trie.Result
	Names   trie.Result
	Peers   trie.Result
	KeyLogs []KeyLog // those that grew, ascending by lock
	Stories []Story  // those that grew, ascending by name
}

// KeyLog is where the log of a lock's key events stands.
type KeyLog struct {
	Lock     types.Key
	Frontier tlog.Frontier
}

// Story is where the log of a name's events stands, and who holds the name.
type Story struct {
	State    types.NameState
	Frontier tlog.Frontier
}

// Commit digests changes into the trees and gives the state behind them. The changes must
// follow s. Each tree is read and hashed once for all of them. Errors are those of t.
func Commit(s *State, c *Changes, t *Trees) (*State, *Writes, error) {
	if c.First != s.Outputs || c.Height < s.Height {
		panic(fmt.Sprintf("ledger: changes of height %d from output %d do not follow height %d, output %d", c.Height, c.First, s.Height, s.Outputs))
	}
	next, w := *s, new(Writes)
	next.Height, next.Anchor, next.Time = c.Height, c.Anchor, c.Time
	next.Unspent, next.Fees, next.Tally = c.Unspent, c.Fees, c.Tally
	conserve(next.Height, next.Supply, next.Unspent, next.Fees)
	leaves := make([]types.Hash, len(c.Events))
	for i := range c.Events {
		leaves[i] = tlog.LeafHash(c.Events[i].Encode())
	}
	next.Events = s.Events.Append(leaves...)
	if c.Snapshot != nil {
		next.Snapshot = c.Snapshot.Root(s.Chain)
	}
	for _, step := range []func(*State, *Changes, *Trees, *Writes) error{commitOutputs, commitKeys, commitNames, commitPeers} {
		if err := step(&next, c, t, w); err != nil {
			return nil, nil, err
		}
	}
	return &next, w, nil
}

func commitOutputs(s *State, c *Changes, t *Trees, w *Writes) error {
	appends := make([]types.Hash, len(c.Created))
	for i := range c.Created {
		appends[i] = types.OutputLeaf(&c.Created[i])
	}
	var changes []forest.Change
	for i := range c.Spent {
		at, leaf := c.Spent[i].Position, types.OutputLeaf(&c.Spent[i].State)
		if at >= c.First {
			appends[at-c.First] = leaf
		} else {
			changes = append(changes, forest.Change{Index: at, Leaf: leaf})
		}
	}
	r, err := forest.Update(t.Outputs, s.Outputs, changes, appends)
	if err != nil {
		return wrap(err, "commit outputs")
	}
	s.Outputs, s.OutputsRoot, w.Outputs = r.Size, r.Root, r.Writes
	return nil
}

func commitKeys(s *State, c *Changes, t *Trees, w *Writes) (err error) {
	logs := make(map[types.Key][]types.Hash)
	for i := range c.Keys {
		lock := c.Keys[i].Output.Lock
		logs[lock] = append(logs[lock], tlog.LeafHash(c.Keys[i].Encode()))
	}
	changes := make([]trie.Change, 0, len(logs))
	for lock, leaves := range logs {
		f, err := t.KeyLog(lock)
		if err != nil {
			return wrap(err, "read the log of lock %s", lock)
		}
		f = f.Append(leaves...)
		w.KeyLogs = append(w.KeyLogs, KeyLog{lock, f})
		changes = append(changes, trie.Change{Path: types.KeyPath(lock), Value: types.KeyLeaf(logState(f))})
	}
	slices.SortFunc(w.KeyLogs, func(a, b KeyLog) int { return bytes.Compare(a.Lock[:], b.Lock[:]) })
	w.Keys, err = trie.Update(t.Keys, s.KeysRoot, changes)
	s.KeysRoot = w.Keys.Root
	return wrap(err, "commit keys")
}

func commitNames(s *State, c *Changes, t *Trees, w *Writes) (err error) {
	stories := make(map[string][]types.Hash)
	holders := make(map[string]types.Key)
	for i := range c.Names {
		name := c.Names[i].Record.Name
		stories[name] = append(stories[name], tlog.LeafHash(c.Names[i].Encode()))
		holders[name] = c.Names[i].Record.Peer
	}
	changes := make([]trie.Change, 0, len(stories))
	for name, leaves := range stories {
		f, err := t.Story(name)
		if err != nil {
			return wrap(err, "read the story of name %q", name)
		}
		f = f.Append(leaves...)
		state := types.NameState{Name: name, Peer: holders[name], Story: logState(f)}
		w.Stories = append(w.Stories, Story{state, f})
		changes = append(changes, trie.Change{Path: types.NamePath(name), Value: types.NameLeaf(&state)})
	}
	slices.SortFunc(w.Stories, func(a, b Story) int { return cmp.Compare(a.State.Name, b.State.Name) })
	w.Names, err = trie.Update(t.Names, s.NamesRoot, changes)
	s.NamesRoot = w.Names.Root
	return wrap(err, "commit names")
}

func commitPeers(s *State, c *Changes, t *Trees, w *Writes) (err error) {
	changes := make([]trie.Change, len(c.Peers))
	for i := range c.Peers {
		changes[i] = trie.Change{Path: types.PeerPath(c.Peers[i].Peer), Value: types.PeerLeaf(&c.Peers[i])}
	}
	w.Peers, err = trie.Update(t.Peers, s.PeersRoot, changes)
	s.PeersRoot = w.Peers.Root
	return wrap(err, "commit peers")
}

func logState(f tlog.Frontier) types.LogState {
	return types.LogState{Count: f.Size(), Root: f.Root()}
}

// Checkpoint is what the state is committed to at a height, all of which is decided: a
// multiple of CheckpointEvery, not below the height of s. It may be above: heights of no
// anchor change nothing.
func (s *State) Checkpoint(height uint64) *types.Checkpoint {
	if height < s.Height {
		panic(fmt.Sprintf("ledger: checkpoint of height %d of a state of height %d", height, s.Height))
	}
	return &types.Checkpoint{
		Chain: s.Chain, Height: height, Anchor: s.Anchor, Time: s.Time,
		Events: s.Events.Size(), EventsRoot: s.Events.Root(),
		HistorySize: s.History.Size(), HistoryRoot: s.History.Root(),
		Outputs: s.Outputs, OutputsRoot: s.OutputsRoot,
		KeysRoot: s.KeysRoot, NamesRoot: s.NamesRoot, PeersRoot: s.PeersRoot,
		SnapshotRoot: s.Snapshot, TallyRoot: s.Tally.Root(s.Chain),
	}
}

// Checkpointed is the state behind a checkpoint of s: its id is in the history (as the
// leaf HistoryLeaf), and events count from there.
func (s *State) Checkpointed(cp *types.Checkpoint) *State {
	next := *s
	next.Height = cp.Height
	next.History = s.History.Append(HistoryLeaf(cp.ID()))
	next.Events = tlog.Frontier{}
	return &next
}

// HistoryLeaf is the leaf of the history log for the checkpoint with this id.
func HistoryLeaf(checkpoint types.Hash) types.Hash { return tlog.LeafHash(checkpoint[:]) }

// Genesis is the state before anything was, and the changes that make the start of a
// chain, for Commit on empty trees. The checkpoint of height 0 follows as any other does.
// An error says what in g is unusable.
func Genesis(g *types.Genesis) (*State, *Changes, error) {
	if err := checkGenesis(g); err != nil {
		return nil, nil, fmt.Errorf("genesis: %w", err)
	}
	supply, err := g.Supply()
	if err != nil {
		return nil, nil, fmt.Errorf("genesis: %w", err)
	}
	chain := g.ChainID()
	s := &State{Chain: chain, Anchor: chain, Time: g.Time, Supply: supply}
	c := &Changes{Anchor: chain, Time: g.Time, Snapshot: g.Snapshot(), Unspent: supply}
	shares := make(map[types.Key]types.Amount)
	for i, o := range g.Outputs {
		out := types.Output(o)
		shares[out.Host] += out.Value
		c.Created = append(c.Created, types.OutputState{Output: out, Source: chain, Index: uint32(i), BornTime: g.Time})
		c.Keys = append(c.Keys, types.KeyEvent{Position: uint64(i), Transaction: chain, Index: uint32(i), Output: out, Time: g.Time})
	}
	for _, p := range g.Peers {
		c.Peers = append(c.Peers, types.PeerState{Peer: p.Peer, Name: p.Name, Address: p.Address, Reward: p.Reward, Shares: shares[p.Peer],
			Standing: types.Standing{Weight: shares[p.Peer]}})
		c.Names = append(c.Names, types.NameEvent{Transaction: chain, Time: g.Time,
			Record: types.RegisterPeer{Peer: p.Peer, Name: p.Name, Address: p.Address, Reward: p.Reward}})
	}
	sortPeers(c.Peers)
	return s, c, nil
}

// checkGenesis is types.Genesis.Check, and that every key in it is one.
func checkGenesis(g *types.Genesis) error {
	if err := g.Check(); err != nil {
		return err
	}
	for i, p := range g.Peers {
		if err := sig.CheckKey(p.Peer); err != nil {
			return fmt.Errorf("peers[%d].peer: %w", i, err)
		}
		if err := sig.CheckKey(p.Reward); err != nil {
			return fmt.Errorf("peers[%d].reward: %w", i, err)
		}
	}
	for i, o := range g.Outputs {
		if err := sig.CheckKey(o.Lock); err != nil {
			return fmt.Errorf("outputs[%d].lock: %w", i, err)
		}
	}
	return nil
}
