package ledger

import (
	"fmt"

	"charter/forest"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// Memory is a whole chain in maps: its state, the View of it and its trees. It never fails.
// It is not for several goroutines at once.
type Memory struct {
	state   *State
	outputs []types.OutputState
	events  map[types.Hash]*types.Event
	peers   map[types.Key]*types.PeerState
	names   map[string]types.NameState
	keyLogs map[types.Key]tlog.Frontier
	stories map[string]tlog.Frontier
	points  map[uint64]*types.Checkpoint

	forest forest.Memory
	keys   trie.Memory
	holds  trie.Memory // the names tree
	heads  trie.Memory // the peers tree
}

// NewMemory is the chain of a genesis, with its checkpoint of height 0, which it gives too.
func NewMemory(g *types.Genesis) (*Memory, *types.Checkpoint, error) {
	s, c, err := Genesis(g)
	if err != nil {
		return nil, nil, err
	}
	m := &Memory{
		state: s, events: make(map[types.Hash]*types.Event),
		peers: make(map[types.Key]*types.PeerState), names: make(map[string]types.NameState),
		keyLogs: make(map[types.Key]tlog.Frontier), stories: make(map[string]tlog.Frontier),
		points: make(map[uint64]*types.Checkpoint),
	}
	m.commit(c)
	return m, m.Checkpoint(0), nil
}

// State is the state now.
func (m *Memory) State() *State { return m.state }

// Apply applies a batch, and gives what it changed.
func (m *Memory) Apply(b *Batch) *Changes {
	c, err := Apply(m, m.state, b)
	noError(err)
	m.commit(c)
	return c
}

// TakeSnapshot pays out fees and takes a snapshot, and gives what that changed.
func (m *Memory) TakeSnapshot(height uint64) *Changes {
	c, err := TakeSnapshot(m, m.state, height)
	noError(err)
	m.commit(c)
	return c
}

// Checkpoint makes the checkpoint of a height, and goes on behind it.
func (m *Memory) Checkpoint(height uint64) *types.Checkpoint {
	cp := m.state.Checkpoint(height)
	m.state, m.points[height] = m.state.Checkpointed(cp), cp
	return cp
}

func (m *Memory) commit(c *Changes) {
	s, w, err := Commit(m.state, c, m.Trees())
	noError(err)
	m.Digest(s, c, w)
}

// Digest stores what others have made of the state of m: the state behind it, the changes,
// and the writes.
func (m *Memory) Digest(s *State, c *Changes, w *Writes) {
	m.state = s
	m.outputs = append(m.outputs, c.Created...)
	for _, v := range c.Spent {
		m.outputs[v.Position] = v.State
	}
	for i := range c.Events {
		m.events[c.Events[i].Transaction] = &c.Events[i]
	}
	for i := range c.Peers {
		m.peers[c.Peers[i].Peer] = &c.Peers[i]
	}
	for _, l := range w.KeyLogs {
		m.keyLogs[l.Lock] = l.Frontier
	}
	for _, l := range w.Stories {
		m.names[l.State.Name], m.stories[l.State.Name] = l.State, l.Frontier
	}
	m.forest.Apply(w.Outputs)
	m.keys.Apply(w.Keys)
	m.holds.Apply(w.Names)
	m.heads.Apply(w.Peers)
}

func noError(err error) {
	if err != nil {
		panic(fmt.Sprintf("ledger: memory failed: %v", err))
	}
}

// Trees reads the trees as they are now.
func (m *Memory) Trees() *Trees {
	return &Trees{
		Outputs: &m.forest, Keys: &m.keys, Names: &m.holds, Peers: &m.heads,
		KeyLog: func(lock types.Key) (tlog.Frontier, error) { return m.keyLogs[lock], nil },
		Story:  func(name string) (tlog.Frontier, error) { return m.stories[name], nil },
	}
}

// Output, Event, Peer, Peers, Holder and CheckpointAt make m a View. None of them fails.
func (m *Memory) Output(position uint64) (*types.OutputState, error) {
	if position >= uint64(len(m.outputs)) {
		return nil, nil
	}
	s := m.outputs[position]
	return &s, nil
}

func (m *Memory) Event(transaction types.Hash) (*types.Event, error) {
	return m.events[transaction], nil
}

func (m *Memory) Peer(key types.Key) (*types.PeerState, error) { return m.peers[key], nil }

func (m *Memory) Peers() ([]types.PeerState, error) {
	all := make([]types.PeerState, 0, len(m.peers))
	for _, p := range m.peers {
		all = append(all, *p)
	}
	sortPeers(all)
	return all, nil
}

func (m *Memory) Holder(name string) (types.Key, error) { return m.names[name].Peer, nil }

func (m *Memory) CheckpointAt(height uint64) (*types.Checkpoint, error) { return m.points[height], nil }

// Name is the record of a name, nil if nobody holds it.
func (m *Memory) Name(name string) *types.NameState {
	if n, ok := m.names[name]; ok {
		return &n
	}
	return nil
}
