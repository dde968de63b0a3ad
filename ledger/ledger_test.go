package ledger

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"charter/forest"
	"charter/sig"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// One row for each reason, on a chain where peer 0 hosts output 0, of key 0, and output 2
// is of key 1. Each transaction but for what its row changes would be applied.
func TestReasons(t *testing.T) {
	g := testGenesis(2)
	lock, host, stranger := priv(3).Public(), priv(100).Public(), priv(50).Public()
	rows := []struct {
		reason types.Reason
		name   string
		spoil  func(m *Memory, tx *types.Transaction)
	}{
		{types.UnknownOutput, "no output there", func(m *Memory, tx *types.Transaction) { tx.Inputs[0].Position = 3 }},
		{types.UnknownOutput, "another output there", func(m *Memory, tx *types.Transaction) { tx.Inputs[0].Position = 2 }},
		{types.UnknownOutput, "of another transaction", func(m *Memory, tx *types.Transaction) { tx.Inputs[0].Source[0] ^= 1 }},
		{types.UnknownOutput, "of another index", func(m *Memory, tx *types.Transaction) { tx.Inputs[0].Index++ }},
		{types.UnknownOutput, "of another value", func(m *Memory, tx *types.Transaction) { tx.Inputs[0].Output.Value++; tx.Fee++ }},
		{types.UnknownOutput, "of another host", func(m *Memory, tx *types.Transaction) { tx.Inputs[0].Output.Host = types.Key{} }},
		{types.SpentOutput, "before", func(m *Memory, tx *types.Transaction) {
			m.Apply(m.batch(pay(99, 500, lock, host, m.input(0))))
		}},
		{types.TooEarly, "valid from", func(m *Memory, tx *types.Transaction) { tx.ValidFrom = m.state.Time + 1001 }},
		{types.TooEarly, "after", func(m *Memory, tx *types.Transaction) {
			tx.Reveals = []types.Reveal{{Leaf: types.Leaf{After: m.state.Time + 1001}}}
		}},
		{types.TooEarly, "older", func(m *Memory, tx *types.Transaction) {
			tx.Reveals = []types.Reveal{{Leaf: types.Leaf{Older: 1001}}}
		}},
		{types.TooEarly, "older than time", func(m *Memory, tx *types.Transaction) {
			tx.Reveals = []types.Reveal{{Leaf: types.Leaf{Older: types.MaxTime}}}
		}},
		{types.TooLate, "valid until", func(m *Memory, tx *types.Transaction) { tx.ValidUntil = m.state.Time + 999 }},
		{types.NameTaken, "from genesis", func(m *Memory, tx *types.Transaction) {
			tx.Records = []types.Record{types.RegisterPeer{Peer: stranger, Name: "peer-1", Address: "a:1", Reward: lock}}
		}},
		{types.NameTaken, "given up", func(m *Memory, tx *types.Transaction) {
			renamed := pay(98, 500, lock, host, m.input(2))
			renamed.Records = []types.Record{types.RegisterPeer{Peer: host, Name: "new", Address: "a:1", Reward: lock}}
			m.Apply(m.batch(renamed))
			tx.Records = []types.Record{types.RegisterPeer{Peer: stranger, Name: "peer-0", Address: "a:1", Reward: lock}}
		}},
		{types.UnknownHost, "a stranger", func(m *Memory, tx *types.Transaction) { tx.Outputs[0].Host = stranger }},
		{types.UnknownPeer, "evidence", func(m *Memory, tx *types.Transaction) {
			tx.Records = []types.Record{fork(m.state.Chain, 50, 1)}
		}},
		{types.UnknownPeer, "vote", func(m *Memory, tx *types.Transaction) {
			tx.Records = []types.Record{reinstate(m, 50, 0, 0, 1, 2)}
		}},
		{types.SettledOffence, "marked", func(m *Memory, tx *types.Transaction) {
			m.Apply(m.batch(fork(m.state.Chain, 100, 1).Transaction()))
			tx.Records = []types.Record{fork(m.state.Chain, 100, 2)}
		}},
		{types.SettledOffence, "forgiven", func(m *Memory, tx *types.Transaction) {
			m.Apply(m.batch(fork(m.state.Chain, 100, 1).Transaction()))
			again := pay(97, 500, lock, host, m.input(2))
			again.Records = []types.Record{reinstate(m, 100, 1, 0, 1)}
			m.Apply(m.batch(again))
			tx.Records = []types.Record{fork(m.state.Chain, 100, 2)}
		}},
		{types.Unproven, "a true vote", func(m *Memory, tx *types.Transaction) {
			m.Apply(m.batch())
			tx.Records = []types.Record{falseVote(m.state.Chain, 100, 1, m.Checkpoint(1).ID())}
		}},
		{types.Unproven, "a true sample", func(m *Memory, tx *types.Transaction) {
			tx.Records = []types.Record{sampled(m, 100, 7, true)}
		}},
		{types.TooEarly, "vote for a checkpoint to come", func(m *Memory, tx *types.Transaction) {
			tx.Records = []types.Record{falseVote(m.state.Chain, 100, m.state.Height+1, types.Hash{1})}
		}},
		{types.NotOffended, "in good standing", func(m *Memory, tx *types.Transaction) {
			tx.Records = []types.Record{reinstate(m, 100, 0, 0, 1, 2)}
		}},
		{types.NotOffended, "another offence", func(m *Memory, tx *types.Transaction) {
			m.Apply(m.batch(fork(m.state.Chain, 100, 1).Transaction()))
			tx.Records = []types.Record{reinstate(m, 100, 2, 0, 1, 2)}
		}},
		{types.TooFewShares, "one third", func(m *Memory, tx *types.Transaction) {
			m.Apply(m.batch(fork(m.state.Chain, 100, 1).Transaction()))
			tx.Records = []types.Record{reinstate(m, 100, 1, 2)}
		}},
		{types.TooFewShares, "spent", func(m *Memory, tx *types.Transaction) {
			r := reinstate(m, 100, 1, 1, 2)
			m.Apply(m.batch(fork(m.state.Chain, 100, 1).Transaction(), pay(97, 500, lock, host, m.input(2))))
			tx.Records = []types.Record{r}
		}},
	}
	covered := map[types.Reason]bool{types.NoReason: true}
	for _, row := range rows {
		m := newMemory(t, g)
		tx := pay(1, 500, lock, host, m.input(0))
		row.spoil(m, tx)
		before := *m.state
		b := m.batch(tx)
		c := m.Apply(b)
		want := []types.Event{{Kind: types.Rejected, Transaction: b.Transactions[0].ID, Block: b.Transactions[0].Block, Height: b.Height, Time: b.Time, Reason: row.reason}}
		if !slices.Equal(c.Events, want) {
			t.Errorf("%s, %s: events %+v, want %+v", row.reason, row.name, c.Events, want)
		}
		if len(c.Created)+len(c.Spent)+len(c.Keys)+len(c.Names)+len(c.Peers) != 0 || before.OutputsRoot != m.state.OutputsRoot ||
			before.KeysRoot != m.state.KeysRoot || before.PeersRoot != m.state.PeersRoot || before.NamesRoot != m.state.NamesRoot {
			t.Errorf("%s, %s: what was rejected changed the state", row.reason, row.name)
		}
		if c := m.Apply(m.batch(tx)); row.reason != types.TooEarly && len(c.Events) != 0 {
			t.Errorf("%s, %s: the second time is not silent: %+v", row.reason, row.name, c.Events)
		}
		covered[row.reason] = true
	}
	for r := types.NoReason; !strings.HasPrefix(r.String(), "reason "); r++ {
		if !covered[r] {
			t.Errorf("no row for reason %q", r)
		}
	}
}

// What came too early is told once, and applied when it comes in time. What was rejected
// for good is never applied, whatever becomes possible.
func TestFate(t *testing.T) {
	m := newMemory(t, testGenesis(2))
	lock, peer := priv(3).Public(), priv(50).Public()
	early := pay(1, 500, lock, types.Key{}, m.input(0))
	early.ValidFrom = m.state.Time + 2500
	hosted := pay(2, 500, lock, peer, m.input(1))
	for i, want := range [][]types.Reason{{types.TooEarly, types.UnknownHost}, {}, {types.NoReason}, {}} {
		c := m.Apply(m.batch(early, hosted))
		var got []types.Reason
		for _, v := range c.Events {
			got = append(got, v.Reason)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("batch %d: %v, want %v", i, got, want)
		}
	}
	join := pay(3, 500, lock, peer, m.input(2))
	join.Records = []types.Record{types.RegisterPeer{Peer: peer, Name: "new", Address: "a:1", Reward: lock}}
	if c := m.Apply(m.batch(join, hosted)); len(c.Events) != 1 || c.Events[0].Kind != types.Applied {
		t.Fatalf("a host registered by the same transaction: %+v", c.Events)
	}
}

// Within one batch: a chain of payments, a double spend, a repetition.
func TestBatch(t *testing.T) {
	m := newMemory(t, testGenesis(2))
	peers := [2]types.Key{priv(100).Public(), priv(101).Public()}
	a := pay(1, 500, priv(3).Public(), peers[1], m.input(0))
	next := types.Input{Position: 3, Source: a.ID(m.state.Chain), Output: a.Outputs[0]}
	b := pay(2, 700, priv(4).Public(), types.Key{}, next)
	twice := pay(3, 500, priv(4).Public(), peers[0], m.input(0))
	batch := m.batch(a, b, twice, a)
	batch.Transactions[1].Author = peers[1]
	c := m.Apply(batch)
	var kinds []types.EventKind
	for _, v := range c.Events {
		kinds = append(kinds, v.Kind)
	}
	if !slices.Equal(kinds, []types.EventKind{types.Applied, types.Applied, types.Rejected}) {
		t.Fatalf("events %+v", c.Events)
	}
	if c.Events[2].Reason != types.SpentOutput || c.Events[1].First != 4 || len(c.Created) != 2 || len(c.Spent) != 2 || len(c.Keys) != 4 {
		t.Fatalf("changes %+v", c)
	}
	thousand := 1000 * types.UnitsPerShare
	for i, want := range []types.PeerState{{Shares: 0, Fees: 500}, {Shares: thousand, Fees: 700}} {
		p, _ := m.Peer(peers[i])
		if p.Shares != want.Shares || p.Fees != want.Fees {
			t.Errorf("peer %d: shares %s, fees %s", i, p.Shares, p.Fees)
		}
	}
	c = m.TakeSnapshot(160)
	want := []types.Member{{Peer: peers[1], Shares: thousand + 700}} // neither was there; the other holds no tenth
	if types.SortKeys(peers[:]); !peersEqual(c.Snapshot.Members, want) || c.Snapshot.Height != 160 || m.state.Fees != 0 || len(c.Events) != 2 {
		t.Errorf("snapshot %+v, fees left %s", c.Snapshot, m.state.Fees)
	}
	if s := m.outputs[c.First]; s.Source != types.PayoutID(m.state.Chain, 160, s.Output.Host) || s.BornHeight != 160 {
		t.Errorf("payout %+v", s)
	}
}

func peersEqual(a, b []types.Member) bool {
	for _, m := range b {
		if !slices.Contains(a, m) {
			return false
		}
	}
	return len(a) == len(b)
}

func TestSnapshotBound(t *testing.T) {
	peers := make([]types.PeerState, types.MaxMembers+3)
	for i := range peers {
		peers[i] = types.PeerState{Peer: types.Key{byte(i >> 8), byte(i)}, Shares: 5}
	}
	peers[0].Shares, peers[7].Shares, peers[types.MaxMembers+2].Shares = 0, 4, 9
	s := new(Tally).stand(1, peers)
	if len(s.Members) != types.MaxMembers {
		t.Fatalf("%d members", len(s.Members))
	}
	if _, err := types.DecodeSnapshot(s.Encode()); err != nil {
		t.Fatal(err)
	}
	for _, out := range []int{0, 7, types.MaxMembers + 1} {
		if _, in := s.Find(peers[out].Peer); in {
			t.Errorf("peer %d is in", out)
		}
	}
	if _, in := s.Find(peers[types.MaxMembers+2].Peer); !in {
		t.Error("the greatest is out")
	}
}

func TestRename(t *testing.T) {
	m := newMemory(t, testGenesis(1))
	peer, reward := priv(100).Public(), priv(4).Public()
	tx := pay(1, 500, reward, peer, m.input(0))
	tx.Records = []types.Record{types.RegisterPeer{Peer: peer, Name: "b", Address: "b:2", Reward: reward}}
	c := m.Apply(m.batch(tx))
	p, _ := m.Peer(peer)
	want := types.PeerState{Peer: peer, Name: "b", Address: "b:2", Reward: reward, Shares: 1000*types.UnitsPerShare - 500, Fees: 500,
		Standing: types.Standing{Weight: 1000 * types.UnitsPerShare}}
	if *p != want {
		t.Errorf("peer %+v, want %+v", p, want)
	}
	for name, count := range map[string]uint64{"peer-0": 1, "b": 1} {
		if n := m.Name(name); n == nil || n.Peer != peer || n.Story.Count != count {
			t.Errorf("name %s: %+v", name, n)
		}
	}
	if m.Name("c") != nil || len(c.Names) != 1 || c.Names[0].Transaction != tx.ID(m.state.Chain) {
		t.Errorf("names %+v", c.Names)
	}
}

// broken is a chain whose every read fails after the first few.
type broken struct {
	*Memory
	left *int
}

var errDisk = errors.New("disk")

func (b broken) fail() error {
	if *b.left--; *b.left < 0 {
		return errDisk
	}
	return nil
}

func (b broken) Output(p uint64) (*types.OutputState, error) {
	s, _ := b.Memory.Output(p)
	return s, b.fail()
}

func (b broken) Event(h types.Hash) (*types.Event, error) {
	v, _ := b.Memory.Event(h)
	return v, b.fail()
}

func (b broken) Peer(k types.Key) (*types.PeerState, error) {
	p, _ := b.Memory.Peer(k)
	return p, b.fail()
}

func (b broken) Peers() ([]types.PeerState, error) {
	p, _ := b.Memory.Peers()
	return p, b.fail()
}

func (b broken) CheckpointAt(h uint64) (*types.Checkpoint, error) {
	cp, _ := b.Memory.CheckpointAt(h)
	return cp, b.fail()
}

func (b broken) Holder(n string) (types.Key, error) {
	k, _ := b.Memory.Holder(n)
	return k, b.fail()
}

type brokenForest struct {
	forest.Reader
	broken
}

func (b brokenForest) Node(level uint8, index uint64) (types.Hash, error) {
	h, _ := b.Reader.Node(level, index)
	return h, b.fail()
}

type brokenTrie struct {
	trie.Reader
	broken
}

func (b brokenTrie) Node(id trie.NodeID) (trie.Node, error) {
	n, _ := b.Reader.Node(id)
	return n, b.fail()
}

func (b broken) Trees() *Trees {
	t := b.Memory.Trees()
	return &Trees{
		Outputs: brokenForest{t.Outputs, b}, Keys: brokenTrie{t.Keys, b}, Names: brokenTrie{t.Names, b}, Peers: brokenTrie{t.Peers, b},
		KeyLog: func(types.Key) (tlog.Frontier, error) { return tlog.Frontier{}, b.fail() },
		Story:  func(string) (tlog.Frontier, error) { return tlog.Frontier{}, b.fail() },
	}
}

// Whichever read it is that fails, the error is passed on, and nothing is made of half a
// batch.
func TestWorldErrors(t *testing.T) {
	m := newMemory(t, testGenesis(2))
	tx := pay(1, 500, priv(4).Public(), priv(100).Public(), m.input(0))
	tx.Records = []types.Record{types.RegisterPeer{Peer: priv(50).Public(), Name: "b", Address: "b:2", Reward: priv(4).Public()}}
	batch := m.batch(tx)
	reads := 0
	for done := false; !done; reads++ {
		left := reads
		b := broken{m, &left}
		over := NewOverlay(b, m.state)
		c, err := over.Apply(batch)
		if err == nil {
			_, err = over.TakeSnapshot(batch.Height)
		}
		if err == nil {
			_, _, err = Commit(m.state, c, b.Trees())
		}
		if done = left >= 0; done != (err == nil) || !done && !errors.Is(err, errDisk) {
			t.Fatalf("failing from read %d on: %v", reads, err)
		}
	}
	if reads < 15 {
		t.Errorf("%d reads only", reads)
	}
}

// What only a bug of ours can ask for panics, before money is made or lost.
func TestPanics(t *testing.T) {
	m := newMemory(t, testGenesis(1))
	fine := pay(1, 500, priv(4).Public(), types.Key{}, m.input(0))
	made := pay(1, 500, priv(4).Public(), types.Key{}, m.input(0))
	made.Outputs[0].Value++
	nobody := m.batch(fine)
	nobody.Transactions[0].Author = priv(99).Public()
	past := m.batch(fine)
	past.Time = m.state.Time - 1
	changes, err := Apply(m, m.state, m.batch(fine))
	if err != nil {
		t.Fatal(err)
	}
	skewed := *changes
	skewed.Unspent++
	elsewhere := *changes
	elsewhere.First++
	for name, f := range map[string]func(){
		"money made":     func() { m.Apply(m.batch(made)) },
		"no author":      func() { m.Apply(nobody) },
		"height again":   func() { m.Apply(&Batch{Height: 0, Time: m.state.Time}) },
		"time goes back": func() { m.Apply(past) },
		"skewed changes": func() { Commit(m.state, &skewed, m.Trees()) },
		"sealed height":  func() { later := newMemory(t, testGenesis(1)); later.Checkpoint(5); later.Apply(m.batch(fine)) },
		"old checkpoint": func() { (&State{Height: 2}).Checkpoint(1) },
		"other changes":  func() { Commit(m.state, &elsewhere, m.Trees()) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestGenesis(t *testing.T) {
	g := testGenesis(2)
	m, cp, err := NewMemory(g)
	if err != nil {
		t.Fatal(err)
	}
	if cp.Height != 0 || cp.Anchor != g.ChainID() || cp.Outputs != 3 || cp.HistorySize != 0 || cp.Events != 0 || m.state.History.Size() != 1 {
		t.Errorf("checkpoint %+v", cp)
	}
	noKey := types.Key(slices.Repeat([]byte{0xff}, 32))
	for name, spoil := range map[string]func(*types.Genesis){
		"no peers": func(g *types.Genesis) { g.Peers = nil },
		"peer":     func(g *types.Genesis) { g.Peers[1].Peer = noKey; g.Outputs[1].Host = noKey },
		"reward":   func(g *types.Genesis) { g.Peers[1].Reward = types.Key{} },
		"lock":     func(g *types.Genesis) { g.Outputs[2].Lock = noKey },
	} {
		g := testGenesis(2)
		spoil(g)
		if _, _, err := Genesis(g); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// A whole way: made, signed, checked, applied; by key, by two keys at once, by a leaf.
func TestSpend(t *testing.T) {
	m := newMemory(t, testGenesis(2))
	chain, params := m.state.Chain, &types.LocalParams
	leaf := types.Leaf{Threshold: 2, Keys: types.SortKeys([]types.Key{priv(5).Public(), priv(6).Public(), priv(7).Public()}), Older: 1500}
	lock, err := sig.LockKey(priv(8).Public(), leaf.Hash())
	if err != nil {
		t.Fatal(err)
	}
	do := func(tx *types.Transaction, want types.Reason, keys ...int) {
		t.Helper()
		if err := Check(chain, params, signed(t, chain, tx, keys...)); err != nil {
			t.Fatal(err)
		}
		if c := m.Apply(m.batch(tx)); len(c.Events) != 1 || c.Events[0].Reason != want {
			t.Fatalf("events %+v, want %q", c.Events, want)
		}
	}
	do(pay(1, 500, lock, types.Key{}, m.input(0), m.input(2)), types.NoReason, 0, 1)
	tx := pay(2, 800, priv(0).Public(), priv(100).Public(), m.input(3), m.input(1))
	tx.Reveals = []types.Reveal{{Input: 0, Inner: priv(8).Public(), Leaf: leaf, Signers: 0b101}}
	byLeaf := append([]int{0}, 5, 6, 7)
	do(tx, types.TooEarly, byLeaf...)
	do(tx, types.NoReason, byLeaf...)
}

func FuzzDecodeState(f *testing.F) {
	m := newMemory(f, testGenesis(1))
	f.Add(m.state.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := DecodeState(data)
		if err == nil && !reflect.DeepEqual(s.Encode(), data) {
			t.Fatal("two encodings of one state")
		}
	})
}

func TestDecodeState(t *testing.T) {
	good := newMemory(t, testGenesis(1)).state.Encode()
	change := func(at int, to byte) []byte {
		b := slices.Clone(good)
		b[at] = to
		return b
	}
	for _, row := range []struct {
		name string
		kind types.DecodeKind
		data []byte
	}{
		{"short", types.Truncated, good[:len(good)-1]},
		{"long", types.Trailing, append(slices.Clone(good), 0)},
		{"height", types.NotCanonical, change(32, 0xff)},
		{"time", types.NotCanonical, change(72, 0xff)},
		{"fees", types.NotCanonical, change(len(good)-29, 1)},
		{"supply", types.NotCanonical, change(len(good)-52, 0xff)},
		{"authors", types.TooLong, change(len(good)-1, 1)},
	} {
		if _, err := DecodeState(row.data); !types.IsDecodeKind(err, row.kind) {
			t.Errorf("%s: want %q, got %v", row.name, row.kind, err)
		}
	}
}
