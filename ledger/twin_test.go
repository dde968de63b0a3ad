package ledger

import (
	"bytes"
	"fmt"
	"maps"
	"math/bits"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// naive is the slow obvious twin: it keeps lists of what happened, finds everything by
// looking through them, and makes every root from all of its leaves.
type naive struct {
	g       *types.Genesis
	chain   types.Hash
	outs    []types.OutputState
	story   []types.NameEvent // of all names
	keys    []types.KeyEvent  // of all locks
	events  []types.Event     // of all time
	since   int               // of them before the last checkpoint
	paid    map[types.Key]types.Amount
	history []types.Hash
	points  []*types.Checkpoint

	said   [][]Witness // by batch, those of before the last snapshot too
	taken  []taking    // all snapshots, that of genesis first
	acts   []act       // what was proven of peers and forgiven, in order
	nowAt  uint64      // height of the last batch
	shares uint64      // of the greatest snapshot in force so far
}

// taking is a snapshot, whom it left out as absent, how many batches and names came before it, and which snapshot was in force.
type taking struct {
	*types.Snapshot
	absent  []types.Key
	batches int
	entries int // in stories
	inForce uint64
}

// act is evidence or a reinstatement that took effect.
type act struct {
	peer    types.Key
	forgive bool
	height  uint64
}

func newNaive(g *types.Genesis) *naive {
	n := &naive{g: g, chain: g.ChainID(), paid: make(map[types.Key]types.Amount)}
	n.taken = []taking{{Snapshot: g.Snapshot()}}
	for i, o := range g.Outputs {
		n.birth(n.chain, i, types.Output(o), 0, g.Time)
	}
	for _, p := range g.Peers {
		n.story = append(n.story, types.NameEvent{Transaction: n.chain, Time: g.Time,
			Record: types.RegisterPeer{Peer: p.Peer, Name: p.Name, Address: p.Address, Reward: p.Reward}})
	}
	return n
}

func (n *naive) birth(id types.Hash, i int, o types.Output, height uint64, time types.Millis) {
	n.keys = append(n.keys, types.KeyEvent{Position: uint64(len(n.outs)), Transaction: id, Index: uint32(i), Output: o, Height: height, Time: time})
	n.outs = append(n.outs, types.OutputState{Output: o, Source: id, Index: uint32(i), BornHeight: height, BornTime: time})
}

func (n *naive) registered(k types.Key) bool {
	return slices.ContainsFunc(n.story, func(v types.NameEvent) bool { return v.Record.Peer == k })
}

// try applies tx to a copy of what could be spoilt, and gives the first objection.
func (n *naive) try(id types.Hash, tx *types.Transaction, height uint64, now types.Millis) types.Reason {
	if now > tx.ValidUntil {
		return types.TooLate
	}
	outs, story := slices.Clone(n.outs), slices.Clone(n.story)
	var keys []types.KeyEvent
	early := now < tx.ValidFrom
	for i, in := range tx.Inputs {
		if in.Position >= uint64(len(n.outs)) {
			return types.UnknownOutput
		}
		s := &outs[in.Position]
		if (types.Input{Position: in.Position, Source: s.Source, Index: s.Index, Output: s.Output}) != in {
			return types.UnknownOutput
		}
		if s.SpentHeight > 0 {
			return types.SpentOutput
		}
		for _, r := range tx.Reveals {
			if int(r.Input) == i && (r.Leaf.After > now || r.Leaf.Older > now-s.BornTime) {
				early = true
			}
		}
		s.SpentHeight = height
		keys = append(keys, types.KeyEvent{Spent: true, Position: in.Position, Transaction: id, Index: uint32(i), Output: s.Output, Height: height, Time: now})
	}
	for _, record := range tx.Records {
		if r, ok := record.(types.RegisterPeer); ok {
			for _, v := range story {
				if v.Record.Name == r.Name && v.Record.Peer != r.Peer {
					return types.NameTaken
				}
			}
			story = append(story, types.NameEvent{Transaction: id, Height: height, Time: now, Record: r})
		}
	}
	acts := slices.Clone(n.acts)
	for _, record := range tx.Records {
		reason, a := n.judge(record, height)
		if reason != types.NoReason && reason != types.TooEarly {
			return reason
		}
		if early = early || reason == types.TooEarly; a != nil {
			acts = append(acts, *a)
		}
	}
	n.story, story = story, n.story
	for _, o := range tx.Outputs {
		if o.Host != (types.Key{}) && !n.registered(o.Host) {
			n.story = story
			return types.UnknownHost
		}
	}
	if early {
		n.story = story
		return types.TooEarly
	}
	n.outs, n.keys, n.acts = outs, append(n.keys, keys...), acts
	for i, o := range tx.Outputs {
		n.birth(id, i, o, height, now)
	}
	return types.NoReason
}

func (n *naive) apply(b *Batch) {
	n.said, n.nowAt, n.shares = append(n.said, b.Witnesses), b.Height, max(n.shares, b.Shares)
	for _, t := range b.Transactions {
		var last types.Reason
		sealed := false
		for _, v := range n.events {
			if v.Transaction == t.ID {
				last = v.Reason
				sealed = v.Reason != types.TooEarly
			}
		}
		if sealed {
			continue
		}
		v := types.Event{Kind: types.Applied, Transaction: t.ID, Block: t.Block, Height: b.Height, Time: b.Time}
		first := uint64(len(n.outs))
		if v.Reason = n.try(t.ID, t.Tx, b.Height, b.Time); v.Reason != types.NoReason {
			v.Kind = types.Rejected
			if v.Reason == last {
				continue
			}
		} else {
			n.paid[t.Author] += t.Tx.Fee
			if v.Outputs = uint16(len(t.Tx.Outputs)); v.Outputs > 0 {
				v.First = first
			}
		}
		n.events = append(n.events, v)
	}
}

func (n *naive) peers() (all []types.PeerState) {
	byKey := make(map[types.Key]types.PeerState)
	for _, v := range n.story {
		r := v.Record
		byKey[r.Peer] = types.PeerState{Peer: r.Peer, Name: r.Name, Address: r.Address, Reward: r.Reward, Fees: n.paid[r.Peer]}
	}
	for _, s := range n.outs {
		if p, ok := byKey[s.Output.Host]; ok && s.SpentHeight == 0 {
			p.Shares += s.Output.Value
			byKey[s.Output.Host] = p
		}
	}
	for k, p := range byKey {
		p.Standing = n.standing(k)
		byKey[k] = p
	}
	return slices.SortedFunc(maps.Values(byKey), func(a, b types.PeerState) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
}

func (n *naive) snapshot(height uint64, anchor types.Hash, now types.Millis) *types.Snapshot {
	for _, p := range n.peers() {
		if p.Fees == 0 {
			continue
		}
		id := types.PayoutID(n.chain, height, p.Peer)
		n.events = append(n.events, types.Event{Kind: types.Payout, Transaction: id, Block: anchor, Height: height, Time: now, First: uint64(len(n.outs)), Outputs: 1})
		n.birth(id, 0, types.Output{Value: p.Fees, Lock: p.Reward, Host: p.Peer}, height, now)
		delete(n.paid, p.Peer)
	}
	return n.take(height)
}

// forestRoot is the definition: split at the greatest power of two below n.
func forestRoot(leaves []types.Hash) types.Hash {
	switch len(leaves) {
	case 0:
		return types.Hash{}
	case 1:
		return leaves[0]
	}
	k := 1 << (bits.Len(uint(len(leaves)-1)) - 1)
	l, r := forestRoot(leaves[:k]), forestRoot(leaves[k:])
	return types.NewTag("charter/forest").Hash(l[:], r[:])
}

func trieRoot(t testing.TB, leaves map[types.Hash]types.Hash) types.Hash {
	var changes []trie.Change
	for p, v := range leaves {
		changes = append(changes, trie.Change{Path: p, Value: v})
	}
	r, err := trie.Update(new(trie.Memory), types.Hash{}, changes)
	if err != nil {
		t.Fatal(err)
	}
	return r.Root
}

func logOf(leaves []types.Hash) types.LogState {
	return types.LogState{Count: uint64(len(leaves)), Root: tlog.Root(leaves)}
}

// checkpoint is the definition of each root, from nothing.
func (n *naive) checkpoint(t testing.TB, height uint64, anchor types.Hash, now types.Millis, s *types.Snapshot) *types.Checkpoint {
	outputs := make([]types.Hash, len(n.outs))
	for i := range n.outs {
		outputs[i] = types.OutputLeaf(&n.outs[i])
	}
	var events []types.Hash
	for _, v := range n.events[n.since:] {
		events = append(events, tlog.LeafHash(v.Encode()))
	}
	n.since = len(n.events)
	logs, stories := make(map[types.Key][]types.Hash), make(map[string][]types.Hash)
	for _, v := range n.keys {
		logs[v.Output.Lock] = append(logs[v.Output.Lock], tlog.LeafHash(v.Encode()))
	}
	keys, names, peers := make(map[types.Hash]types.Hash), make(map[types.Hash]types.Hash), make(map[types.Hash]types.Hash)
	for lock, log := range logs {
		keys[types.KeyPath(lock)] = types.KeyLeaf(logOf(log))
	}
	for _, v := range n.story {
		name := v.Record.Name
		stories[name] = append(stories[name], tlog.LeafHash(v.Encode()))
		names[types.NamePath(name)] = types.NameLeaf(&types.NameState{Name: name, Peer: v.Record.Peer, Story: logOf(stories[name])})
	}
	for _, p := range n.peers() {
		peers[types.PeerPath(p.Peer)] = types.PeerLeaf(&p)
	}
	cp := &types.Checkpoint{
		Chain: n.chain, Height: height, Anchor: anchor, Time: now,
		Events: uint64(len(events)), EventsRoot: tlog.Root(events),
		HistorySize: uint64(len(n.history)), HistoryRoot: tlog.Root(n.history),
		Outputs: uint64(len(outputs)), OutputsRoot: forestRoot(outputs),
		KeysRoot: trieRoot(t, keys), NamesRoot: trieRoot(t, names), PeersRoot: trieRoot(t, peers),
		SnapshotRoot: s.Root(n.chain), TallyRoot: n.tally().Root(n.chain),
	}
	id := cp.ID()
	n.history = append(n.history, tlog.LeafHash(id[:]))
	n.points = append(n.points, cp)
	return cp
}

// drawn makes random transactions, many of them bad, over few locks, hosts and names.
type drawn struct {
	r    *rand.Rand
	m    *Memory
	keys []types.Key // locks; hosts, registered or not; rewards
	old  []*types.Transaction
	next uint64 // outputs there would be if all so far in the batch were applied
	made []types.Input
}

func (d *drawn) input() types.Input {
	if len(d.made) > 0 && d.r.IntN(4) == 0 { // made by this very batch, perhaps
		return d.made[d.r.IntN(len(d.made))]
	}
	in := d.m.input(uint64(d.r.IntN(len(d.m.outputs))))
	for range 6 { // spent ones are drawn too, but more rarely
		if d.m.outputs[in.Position].SpentHeight == 0 {
			break
		}
		in = d.m.input(uint64(d.r.IntN(len(d.m.outputs))))
	}
	switch d.r.IntN(60) {
	case 0:
		in.Position += uint64(len(d.m.outputs))
	case 1:
		in.Output.Host[5]++
	case 2:
		in.Index++
	case 3:
		in.Source[0]++
	}
	return in
}

// time is about that of a batch not far off: often that very time, or next to it.
func (d *drawn) time() types.Millis {
	return d.m.state.Time + types.Millis(1000*(d.r.IntN(4)-1)+d.r.IntN(3)-1)
}

func (d *drawn) transaction() *types.Transaction {
	if len(d.old) > 0 && d.r.IntN(6) == 0 {
		return d.old[d.r.IntN(len(d.old))]
	}
	if d.r.IntN(8) == 0 {
		tx := d.evidence().Transaction()
		d.old = append(d.old, tx)
		return tx
	}
	tx := &types.Transaction{ValidUntil: types.MaxTime}
	tx.Salt[0], tx.Salt[1] = byte(d.r.Uint32()), byte(d.r.Uint32())
	var sum types.Amount
	for range 1 + d.r.IntN(3) {
		in := d.input()
		if !slices.ContainsFunc(tx.Inputs, func(o types.Input) bool { return o.Position == in.Position }) {
			tx.Inputs = append(tx.Inputs, in)
			sum += in.Output.Value
		}
	}
	for range d.r.IntN(4) {
		if sum < 2 {
			break
		}
		o := types.Output{Value: 1 + types.Amount(d.r.Uint64N(uint64(sum)-1)), Lock: d.keys[d.r.IntN(8)]}
		if d.r.IntN(3) > 0 {
			o.Host = d.keys[8+d.r.IntN(8)]
		}
		sum -= o.Value
		tx.Outputs = append(tx.Outputs, o)
	}
	tx.Fee = sum
	d.conditions(tx)
	d.old = append(d.old, tx)
	id := tx.ID(d.m.state.Chain)
	for i, o := range tx.Outputs {
		d.made = append(d.made, types.Input{Position: d.next, Source: id, Index: uint32(i), Output: o})
		d.next++
	}
	return tx
}

func (d *drawn) conditions(tx *types.Transaction) {
	switch d.r.IntN(14) {
	case 10, 11:
		tx.Records = append(tx.Records, d.evidence())
	case 12, 13:
		tx.Records = append(tx.Records, d.reinstate())
	case 0:
		tx.ValidFrom = d.time()
	case 1:
		tx.ValidUntil = d.time()
	case 2:
		tx.Reveals = []types.Reveal{{Input: uint16(d.r.IntN(len(tx.Inputs))), Leaf: types.Leaf{After: d.time()}}}
	case 3:
		tx.Reveals = []types.Reveal{{Input: uint16(d.r.IntN(len(tx.Inputs))), Leaf: types.Leaf{Older: types.Millis(1000*d.r.IntN(5) + d.r.IntN(3))}}}
	case 4, 5:
		peers, names := d.r.Perm(8), d.r.Perm(9)
		for i := range 1 + d.r.IntN(2) { // no peer and no name twice, as Parse has it
			tx.Records = append(tx.Records, types.RegisterPeer{
				Peer: d.keys[8+peers[i]], Name: fmt.Sprintf("peer-%d", names[i]), Address: "a:1", Reward: d.keys[d.r.IntN(8)]})
		}
	case 6:
		tx.Records = append(tx.Records, types.Notarise{Document: types.Hash{byte(d.r.Uint32())}})
	}
}

// seeing is a state of long ago with the checkpoints of now, which an overlay does not make.
type seeing struct {
	*Memory
	now *Memory
}

func (s seeing) CheckpointAt(height uint64) (*types.Checkpoint, error) {
	return s.now.CheckpointAt(height)
}

func TestTwin(t *testing.T) {
	reached := make(map[string]int)
	for seed := range uint64(40) {
		g := testGenesis(3)
		d := &drawn{r: rand.New(rand.NewPCG(seed, 0)), m: newMemory(t, g), keys: keysOf(16)}
		for i := range 3 {
			d.keys[8+i] = g.Peers[i].Peer
		}
		n, snap := newNaive(g), g.Snapshot()
		n.checkpoint(t, 0, n.chain, g.Time, snap)
		fresh := newMemory(t, g)
		over := NewOverlay(seeing{fresh, d.m}, fresh.state)
		for range 40 {
			d.next, d.made = uint64(len(d.m.outputs)), nil
			var txs []*types.Transaction
			for range d.r.IntN(6) {
				txs = append(txs, d.transaction())
			}
			b := d.m.batch(txs...)
			b.Witnesses, b.Shares = d.witnesses(b.Height), n.taken[d.r.IntN(len(n.taken))].Height
			for i := range b.Transactions {
				b.Transactions[i].Author = g.Peers[d.r.IntN(3)].Peer
			}
			before := len(n.events)
			c := d.m.Apply(b)
			n.apply(b)
			for _, v := range c.Events {
				reached[v.Reason.String()]++
			}
			compare(t, d.m, n, c, before)
			if oc, err := over.Apply(b); err != nil || !reflect.DeepEqual(oc, c) {
				t.Fatalf("seed %d, height %d: the overlay has other changes (%v)", seed, b.Height, err)
			}
			if d.r.IntN(8) == 0 {
				before = len(n.events)
				c := d.m.TakeSnapshot(b.Height)
				snap = n.snapshot(b.Height, b.Anchor, b.Time)
				if !reflect.DeepEqual(c.Snapshot, snap) {
					t.Fatalf("seed %d, height %d: snapshot %v, want %v", seed, b.Height, c.Snapshot, snap)
				}
				compare(t, d.m, n, c, before)
				n.count(reached)
				if oc, err := over.TakeSnapshot(b.Height); err != nil || !reflect.DeepEqual(oc, c) {
					t.Fatalf("seed %d, height %d: the overlay has another snapshot (%v)", seed, b.Height, err)
				}
				reached["payout"] += len(c.Events)
			}
			if d.r.IntN(3) > 0 {
				got, want := d.m.Checkpoint(b.Height), n.checkpoint(t, b.Height, b.Anchor, b.Time, snap)
				if *got != *want {
					t.Fatalf("seed %d: checkpoint\n%+v, want\n%+v", seed, got, want)
				}
				if s, err := DecodeState(d.m.state.Encode()); err != nil || !reflect.DeepEqual(s, d.m.state) {
					t.Fatalf("seed %d: state %+v decodes as %+v: %v", seed, d.m.state, s, err)
				}
			}
		}
	}
	for r := types.NoReason; r <= types.TooFewShares; r++ {
		if reached[r.String()] < 5 {
			t.Errorf("reason %q came up %d times only: the test lost its teeth", r, reached[r.String()])
		}
	}
	for _, what := range []string{"payout", "absent", "away and too many", "too new to be absent", "marked", "all marked", "reinstated", "back"} {
		if reached[what] < 5 {
			t.Errorf("%q came up %d times only", what, reached[what])
		}
	}
}

// compare holds the view and the changes against the twin, and counts all money.
func compare(t *testing.T, m *Memory, n *naive, c *Changes, before int) {
	t.Helper()
	if !slices.Equal(c.Events, n.events[before:]) {
		t.Fatalf("height %d: events\n%+v, want\n%+v", c.Height, c.Events, n.events[before:])
	}
	if !slices.Equal(m.outputs, n.outs) {
		t.Fatalf("height %d: outputs\n%+v, want\n%+v", c.Height, m.outputs, n.outs)
	}
	peers, _ := m.Peers()
	if want := n.peers(); !slices.Equal(peers, want) {
		t.Fatalf("height %d: peers\n%+v, want\n%+v", c.Height, peers, want)
	}
	var total types.Amount
	for _, s := range m.outputs {
		if s.SpentHeight == 0 {
			total += s.Output.Value
		}
	}
	for _, p := range peers {
		total += p.Fees
	}
	if supply, _ := n.g.Supply(); total != supply {
		t.Fatalf("height %d: %s in all, the supply is %s", c.Height, total, supply)
	}
}
