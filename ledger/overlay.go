package ledger

import (
	"bytes"
	"fmt"
	"slices"

	"charter/types"
)

// Overlay is a View that holds what was applied on top of another, and forgets it with
// itself: the view of transactions that are ordered and not final, or of those that wait.
// It is not for several goroutines at once. After an error it is of no more use.
type Overlay struct {
	base    View
	chain   types.Hash
	supply  types.Amount
	outputs map[uint64]*types.OutputState
	events  map[types.Hash]*types.Event
	peers   map[types.Key]*types.PeerState
	names   map[string]types.Key

	height  uint64
	anchor  types.Hash
	time    types.Millis
	count   uint64 // outputs ever made
	unspent types.Amount
	fees    types.Amount
	tally   Tally

	now     *Changes           // being made
	touched map[types.Key]bool // peers changed by it
}

// NewOverlay is an overlay that changes nothing yet of the state that v and s show.
func NewOverlay(v View, s *State) *Overlay {
	return &Overlay{
		base: v, chain: s.Chain, supply: s.Supply,
		outputs: make(map[uint64]*types.OutputState), events: make(map[types.Hash]*types.Event),
		peers: make(map[types.Key]*types.PeerState), names: make(map[string]types.Key),
		height: s.Height, anchor: s.Anchor, time: s.Time,
		count: s.Outputs, unspent: s.Unspent, fees: s.Fees, tally: s.Tally,
	}
}

// Output, Event, Peer and Holder are those of the overlay, or else of the view below.
func (o *Overlay) Output(position uint64) (*types.OutputState, error) {
	if s := o.outputs[position]; s != nil {
		return s, nil
	}
	s, err := o.base.Output(position)
	return s, wrap(err, "read output %d", position)
}

func (o *Overlay) Event(transaction types.Hash) (*types.Event, error) {
	if v := o.events[transaction]; v != nil {
		return v, nil
	}
	v, err := o.base.Event(transaction)
	return v, wrap(err, "read the event of %s", transaction)
}

func (o *Overlay) Peer(key types.Key) (*types.PeerState, error) {
	if p := o.peers[key]; p != nil {
		return p, nil
	}
	p, err := o.base.Peer(key)
	return p, wrap(err, "read peer %s", key)
}

func (o *Overlay) Holder(name string) (types.Key, error) {
	if k, ok := o.names[name]; ok {
		return k, nil
	}
	k, err := o.base.Holder(name)
	return k, wrap(err, "read name %q", name)
}

// CheckpointAt is that of the view below: an overlay makes none.
func (o *Overlay) CheckpointAt(height uint64) (*types.Checkpoint, error) {
	cp, err := o.base.CheckpointAt(height)
	return cp, wrap(err, "read the checkpoint of height %d", height)
}

// Peers is every registered peer, ascending by key.
func (o *Overlay) Peers() ([]types.PeerState, error) {
	below, err := o.base.Peers()
	if err != nil {
		return nil, wrap(err, "read peers")
	}
	all := make([]types.PeerState, 0, len(below)+len(o.peers))
	for _, p := range below {
		if o.peers[p.Peer] == nil {
			all = append(all, p)
		}
	}
	for _, p := range o.peers {
		all = append(all, *p)
	}
	sortPeers(all)
	return all, nil
}

func sortPeers(p []types.PeerState) {
	slices.SortFunc(p, func(a, b types.PeerState) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
}

func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("ledger: "+format+": %w", append(args, err)...)
}

// Apply applies a batch on top, as the function Apply does.
func (o *Overlay) Apply(b *Batch) (*Changes, error) {
	if b.Height <= o.height || b.Time < o.time {
		panic(fmt.Sprintf("ledger: batch of height %d, time %s behind height %d, time %s", b.Height, b.Time, o.height, o.time))
	}
	o.begin(b.Height, b.Anchor, b.Time)
	for i := range b.Transactions {
		if err := o.order(&b.Transactions[i]); err != nil {
			return nil, err
		}
	}
	o.tally.InForce = max(o.tally.InForce, b.Shares)
	if len(b.Witnesses) > 0 {
		c := count(o.tally)
		c.add(b.Witnesses)
		o.tally = c.Tally
	}
	return o.finish(), nil
}

// TakeSnapshot takes a snapshot on top, as the function TakeSnapshot does.
func (o *Overlay) TakeSnapshot(height uint64) (*Changes, error) {
	if height < o.height {
		panic(fmt.Sprintf("ledger: snapshot of height %d behind height %d", height, o.height))
	}
	peers, err := o.Peers()
	if err != nil {
		return nil, err
	}
	o.begin(height, o.anchor, o.time)
	for i := range peers {
		if peers[i].Fees > 0 {
			if err := o.payOut(&peers[i]); err != nil {
				return nil, err
			}
		}
	}
	before := slices.Clone(peers)
	o.now.Snapshot = o.tally.stand(height, peers)
	for i := range peers {
		if peers[i] != before[i] {
			state, err := o.change(peers[i].Peer)
			if err != nil {
				return nil, err
			}
			state.Standing = peers[i].Standing
		}
	}
	o.tally = Tally{Taken: height, InForce: o.tally.InForce, Begun: o.tally.InForce}
	return o.finish(), nil
}

// payOut makes the fees of p an output, here and in p.
func (o *Overlay) payOut(p *types.PeerState) error {
	id, value := types.PayoutID(o.chain, o.height, p.Peer), p.Fees
	o.emit(types.Event{Kind: types.Payout, Transaction: id, Block: o.anchor, First: o.count, Outputs: 1})
	o.fees = must(o.fees.Sub(value))
	state, err := o.change(p.Peer)
	if err != nil {
		return err
	}
	state.Fees = 0
	if err := o.create(id, 0, types.Output{Value: value, Lock: p.Reward, Host: p.Peer}); err != nil {
		return err
	}
	*p = *state
	return nil
}

func (o *Overlay) begin(height uint64, anchor types.Hash, time types.Millis) {
	o.height, o.anchor, o.time = height, anchor, time
	o.now = &Changes{Height: height, Anchor: anchor, Time: time, First: o.count}
	o.touched = make(map[types.Key]bool)
}

func (o *Overlay) finish() *Changes {
	c := o.now
	for key := range o.touched {
		c.Peers = append(c.Peers, *o.peers[key])
	}
	sortPeers(c.Peers)
	c.Unspent, c.Fees, c.Tally = o.unspent, o.fees, o.tally
	conserve(o.height, o.supply, o.unspent, o.fees)
	return c
}

// conserve panics unless all of the supply is in unspent outputs and earned fees.
func conserve(height uint64, supply, unspent, fees types.Amount) {
	if sum, err := unspent.Add(fees); err != nil || sum != supply {
		panic(fmt.Sprintf("ledger: height %d: unspent %s and fees %s are not the supply %s", height, unspent, fees, supply))
	}
}

// must is an amount that cannot be out of range while the supply is conserved.
func must(a types.Amount, err error) types.Amount {
	if err != nil {
		panic(fmt.Sprintf("ledger: conservation broken: %v", err))
	}
	return a
}

// order judges a transaction and lets it take effect or not.
func (o *Overlay) order(t *Ordered) error {
	before, err := o.Event(t.ID)
	if err != nil || before != nil && (before.Kind != types.Rejected || Terminal(before.Reason)) {
		return err
	}
	reason, spent, err := o.judge(t.Tx)
	switch {
	case err != nil:
		return err
	case reason == types.NoReason:
		return o.effect(t, spent)
	case before == nil || before.Reason != reason:
		o.emit(types.Event{Kind: types.Rejected, Transaction: t.ID, Block: t.Block, Reason: reason})
	}
	return nil
}

// judge is whether the state takes tx, and what its inputs spend. What is too early now may
// not be so later, so that comes last: who is only too early meets no other objection.
func (o *Overlay) judge(tx *types.Transaction) (types.Reason, []*types.OutputState, error) {
	if o.time > tx.ValidUntil {
		return types.TooLate, nil, nil
	}
	spent := make([]*types.OutputState, len(tx.Inputs))
	for i, in := range tx.Inputs {
		state, err := o.Output(in.Position)
		switch {
		case err != nil:
			return 0, nil, err
		case state == nil || state.Source != in.Source || state.Index != in.Index || state.Output != in.Output:
			return types.UnknownOutput, nil, nil
		case state.SpentHeight != 0:
			return types.SpentOutput, nil, nil
		}
		spent[i] = state
	}
	joins, reason, err := o.judgeNames(tx)
	if err != nil || reason != types.NoReason {
		return reason, nil, err
	}
	early, reason, err := o.judgePeers(tx)
	if err != nil || reason != types.NoReason {
		return reason, nil, err
	}
	for _, out := range tx.Outputs {
		if out.Host.IsZero() || joins[out.Host] {
			continue
		}
		if p, err := o.Peer(out.Host); err != nil {
			return 0, nil, err
		} else if p == nil {
			return types.UnknownHost, nil, nil
		}
	}
	if early || o.time < tx.ValidFrom {
		return types.TooEarly, nil, nil
	}
	for _, r := range tx.Reveals {
		if o.time < r.Leaf.After || o.time < spent[r.Input].BornTime+r.Leaf.Older { // below 2^54
			return types.TooEarly, nil, nil
		}
	}
	return types.NoReason, spent, nil
}

// judgeNames gives the peers that tx registers, unless another holds one of their names.
// A name once held is held for ever.
func (o *Overlay) judgeNames(tx *types.Transaction) (map[types.Key]bool, types.Reason, error) {
	joins := make(map[types.Key]bool)
	for _, record := range tx.Records {
		r, ok := record.(types.RegisterPeer)
		if !ok {
			continue
		}
		switch holder, err := o.Holder(r.Name); {
		case err != nil:
			return nil, 0, err
		case !holder.IsZero() && holder != r.Peer:
			return nil, types.NameTaken, nil
		}
		joins[r.Peer] = true
	}
	return joins, types.NoReason, nil
}

// judgePeers is whether the state takes what tx says of peers: evidence, and votes to reinstate. Early: not yet.
func (o *Overlay) judgePeers(tx *types.Transaction) (early bool, reason types.Reason, err error) {
	for _, record := range tx.Records {
		switch r := record.(type) {
		case types.Evidence:
			reason, err = o.judgeEvidence(&r)
		case types.Reinstate:
			reason, err = o.judgeVote(&r)
		}
		if reason == types.TooEarly {
			early, reason = true, types.NoReason
		}
		if err != nil || reason != types.NoReason {
			return false, reason, err
		}
	}
	return early, types.NoReason, nil
}

// effect applies a transaction that was judged fit: its records first, so that an output
// may name a host that they register, then inputs, outputs and fee.
func (o *Overlay) effect(t *Ordered, spent []*types.OutputState) error {
	event := types.Event{Kind: types.Applied, Transaction: t.ID, Block: t.Block, Outputs: uint16(len(t.Tx.Outputs))}
	if event.Outputs > 0 {
		event.First = o.count
	}
	o.emit(event)
	for _, record := range t.Tx.Records {
		if err := o.record(t.ID, record); err != nil {
			return err
		}
	}
	for i, in := range t.Tx.Inputs {
		if err := o.spend(t.ID, uint32(i), in.Position, *spent[i]); err != nil {
			return err
		}
	}
	for i, out := range t.Tx.Outputs {
		if err := o.create(t.ID, uint32(i), out); err != nil {
			return err
		}
	}
	if t.Tx.Fee > 0 {
		author, err := o.change(t.Author)
		if err != nil {
			return err
		}
		author.Fees = must(author.Fees.Add(t.Tx.Fee))
		o.fees = must(o.fees.Add(t.Tx.Fee))
	}
	return nil
}

func (o *Overlay) record(tx types.Hash, record types.Record) error {
	switch r := record.(type) {
	case types.RegisterPeer:
		return o.register(tx, r)
	case types.Evidence:
		return o.mark(r.Offender())
	case types.Reinstate:
		return o.forgive(r.Peer)
	}
	return nil
}

func (o *Overlay) register(tx types.Hash, r types.RegisterPeer) error {
	old, err := o.Peer(r.Peer)
	if err != nil {
		return err
	}
	state := types.PeerState{Peer: r.Peer}
	if old != nil {
		state = *old
	}
	state.Name, state.Address, state.Reward = r.Name, r.Address, r.Reward
	o.peers[r.Peer], o.touched[r.Peer] = &state, true
	o.names[r.Name] = r.Peer
	o.now.Names = append(o.now.Names, types.NameEvent{Transaction: tx, Height: o.height, Time: o.time, Record: r})
	return nil
}

func (o *Overlay) spend(tx types.Hash, index uint32, position uint64, state types.OutputState) error {
	state.SpentHeight = o.height
	o.outputs[position] = &state
	o.unspent = must(o.unspent.Sub(state.Output.Value))
	o.now.Spent = append(o.now.Spent, Spent{position, state})
	o.note(types.KeyEvent{Spent: true, Position: position, Transaction: tx, Index: index, Output: state.Output})
	return o.host(state.Output.Host, func(shares types.Amount) (types.Amount, error) { return shares.Sub(state.Output.Value) })
}

func (o *Overlay) create(tx types.Hash, index uint32, out types.Output) error {
	state := types.OutputState{Output: out, Source: tx, Index: index, BornHeight: o.height, BornTime: o.time}
	o.outputs[o.count] = &state
	o.unspent = must(o.unspent.Add(out.Value))
	o.now.Created = append(o.now.Created, state)
	o.note(types.KeyEvent{Position: o.count, Transaction: tx, Index: index, Output: out})
	o.count++
	return o.host(out.Host, func(shares types.Amount) (types.Amount, error) { return shares.Add(out.Value) })
}

// host changes the shares registered with a peer, if it is one.
func (o *Overlay) host(peer types.Key, by func(types.Amount) (types.Amount, error)) error {
	if peer.IsZero() {
		return nil
	}
	state, err := o.change(peer)
	if err == nil {
		state.Shares = must(by(state.Shares))
	}
	return err
}

// change is a registered peer, to be changed.
func (o *Overlay) change(key types.Key) (*types.PeerState, error) {
	p, err := o.Peer(key)
	if err != nil {
		return nil, err
	}
	if p == nil {
		panic(fmt.Sprintf("ledger: height %d: %s hosts or earns and is no registered peer", o.height, key))
	}
	if !o.touched[key] {
		state := *p
		p = &state
		o.peers[key], o.touched[key] = p, true
	}
	return p, nil
}

func (o *Overlay) emit(v types.Event) {
	v.Height, v.Time = o.height, o.time
	o.now.Events = append(o.now.Events, v)
	o.events[v.Transaction] = &v
}

func (o *Overlay) note(v types.KeyEvent) {
	v.Height, v.Time = o.height, o.time
	o.now.Keys = append(o.now.Keys, v)
}
