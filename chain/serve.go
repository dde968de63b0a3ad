package chain

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"charter/consensus"
	"charter/ledger"
	"charter/pool"
	"charter/types"
)

// Kind says why the chain refuses a request.
type Kind uint8

const (
	// Invalid: a transaction that is valid on no state.
	Invalid Kind = iota + 1
	// Conflict: it contradicts what is final, or what waits already.
	Conflict
	// PoolFull: no room for waiting transactions.
	PoolFull
	// NotFound: there is no such thing.
	NotFound
	// NotYet: there will be.
	NotYet
	// NotKept: there was, and this peer has it no more, or came too late for it.
	NotKept
	// TooLarge: it is too much for one answer; the reason says what to ask for.
	TooLarge
)

// Error is a refusal that who asked can understand and act on.
type Error struct {
	Kind   Kind
	Reason string // finer than the kind, for programs; may be empty
	Text   string // one line for a person: what, and what to do
}

func (e *Error) Error() string { return e.Text }

func refuse(kind Kind, reason, format string, args ...any) *Error {
	return &Error{kind, reason, fmt.Sprintf(format, args...)}
}

func invalidError(err error) error {
	var inv *ledger.Invalid
	reason := "encoding"
	if errors.As(err, &inv) {
		reason = inv.Kind.String()
	}
	return refuse(Invalid, reason, "the transaction is not valid: %v", err)
}

func poolError(err error) error {
	var conflict *pool.ConflictError
	switch {
	case errors.Is(err, pool.ErrFull):
		return refuse(PoolFull, "", "%v", err)
	case errors.As(err, &conflict):
		return refuse(Conflict, "waiting", "%v", err)
	}
	return err
}

// Tier is how settled a transaction is. Those up to Official may be lost again.
type Tier uint8

// The tiers. Final and Rejected are for ever; they are not told as tiers by Updates, but as
// the events that they are.
const (
	Unknown  Tier = iota // the peer knows no such transaction
	Waiting              // for a block, or for that to be known
	Known                // a block has it
	Selected             // more than a third of the shares build on the block
	Official             // more than half
	Final                // ordered for ever, and applied
	Rejected             // ordered for ever, and refused by the state that it met
)

var tierNames = [...]string{"unknown", "waiting", "known", "selected", "official", "final", "rejected"}

// String is the tier in lower case.
func (t Tier) String() string { return tierNames[t] }

// Settled reports whether the tier is for ever.
func (t Tier) Settled() bool { return t >= Final }

var tierOf = map[consensus.Tier]Tier{
	consensus.Seen: Waiting, consensus.Known: Known, consensus.Selected: Selected, consensus.Official: Official,
}

// Update is what changed at one moment. Any part may be empty.
type Update struct {
	At        types.Millis // the peer's clock
	Height    uint64       // greatest height of a block
	Final     uint64       // greatest height whose order is final and applied; never falls
	Certified uint64       // height of the newest certified checkpoint; never falls

	Tiers  []TierChange     // changes of tiers below Final
	Events []types.Event    // fates of transactions, at heights that became final with this update
	Keys   []types.KeyEvent // events of locks, at the same heights, each under its Output.Lock
}

// TierChange is the new tier of a transaction, below Final.
type TierChange struct {
	Transaction types.Hash
	Block       types.Hash // that carries it, zero while it waits
	Tier        Tier
}

// Transaction is where a transaction is.
type Transaction struct {
	Tier  Tier
	Block types.Hash   // that carries it, zero while it waits
	At    types.Millis // the peer's clock when it got there; consensus time where it is settled
	Event *types.Event // its fate, where the tier is settled
}

// Status is how a peer's chain is.
type Status struct {
	Height           uint64 // as in Update
	Final            uint64
	Certified        uint64
	Members          []types.Member // of the snapshot that decides now, ascending by key
	Heights          map[types.Key]uint64
	PoolTransactions int
	PoolBytes        int
	Syncing          bool
	Adrift           bool
	Lowest           uint64 // height from which on all blocks are kept, 0 for all
	floor            uint64 // the lowest height that consensus has in memory
}

// feed tells watchers what changes.
type feed struct {
	mu     sync.Mutex
	subs   map[chan Update]context.Context
	closed bool
}

// Updates tells what changes from now on, in order, until ctx is done or the chain stops;
// then the channel is closed. The first update comes at once: the heights as they are, with
// nothing else. What an update tells is durable, and the other methods know it. Who does
// not receive holds up the chain.
func (c *Chain) Updates(ctx context.Context) <-chan Update {
	f := &c.feed
	ch := make(chan Update, 1024)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		close(ch)
		return ch
	}
	var up Update
	c.stamp(&up)
	ch <- up
	if f.subs == nil {
		f.subs = make(map[chan Update]context.Context)
	}
	f.subs[ch] = ctx
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.subs[ch] != nil {
			delete(f.subs, ch)
			close(ch)
		}
	})
	return ch
}

// publish sends an update to all watchers.
func (f *feed) publish(c *Chain, up Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.send(c, up)
}

// applied tells what became final up to a height. The final height rises with it: no other
// update may tell the height before what happened at it, or who resumes from there misses that.
func (f *feed) applied(c *Chain, height uint64, up Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.setFinal(height, 0) // what is certified, certified tells
	f.send(c, up)
}

func (f *feed) send(c *Chain, up Update) {
	if len(f.subs) == 0 {
		return
	}
	c.stamp(&up)
	for ch, ctx := range f.subs {
		select {
		case ch <- up:
		case <-ctx.Done():
		case <-c.quit:
		}
	}
}

// certified tells that the certified height has risen.
func (f *feed) certified(c *Chain, height uint64) {
	c.mu.Lock()
	c.status.Certified = max(c.status.Certified, height)
	c.mu.Unlock()
	f.publish(c, Update{})
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	for ch := range f.subs {
		close(ch)
	}
	f.subs = nil
}

// stamp fills in the time and the heights.
func (c *Chain) stamp(up *Update) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	up.At, up.Height, up.Final, up.Certified = c.cfg.Now(), c.status.Height, c.status.Final, c.status.Certified
}

// place notes that transactions wait, and tells it.
func (c *Chain) place(ids []types.Hash, now types.Millis) {
	if len(ids) == 0 {
		return
	}
	up := Update{Tiers: make([]TierChange, len(ids))}
	c.mu.Lock()
	for i, id := range ids {
		c.where[id] = &Transaction{Tier: Waiting, At: now}
		up.Tiers[i] = TierChange{Transaction: id, Tier: Waiting}
	}
	c.mu.Unlock()
	c.feed.publish(c, up)
}

// displace forgets where a transaction was: it is settled, or was given up.
func (c *Chain) displace(id types.Hash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.where, id)
}

// carried notes that a block carries transactions, which may be more than those that wait here.
func (c *Chain) carried(block types.Hash, o *openBlock) {
	now := c.cfg.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range o.txs {
		if t := c.where[o.txs[i].ID]; t == nil || t.Block.IsZero() {
			c.where[o.txs[i].ID] = &Transaction{Tier: tierOf[o.tier], Block: block, At: now}
		}
	}
}

// retier takes up changes of the tiers of open blocks.
func (c *Chain) retier(changes []consensus.TierChange, now types.Millis) {
	var out []TierChange
	c.mu.Lock()
	for _, ch := range changes {
		o := c.open[ch.Block]
		if o == nil {
			continue
		}
		o.tier = ch.Tier
		for i := range o.txs {
			id := o.txs[i].ID
			if t := c.where[id]; t != nil && t.Block == ch.Block && t.Tier != tierOf[ch.Tier] {
				c.where[id] = &Transaction{Tier: tierOf[ch.Tier], Block: ch.Block, At: now}
				out = append(out, TierChange{id, ch.Block, tierOf[ch.Tier]})
			}
		}
	}
	c.mu.Unlock()
	if len(out) > 0 {
		c.feed.publish(c, Update{Tiers: out})
	}
}

// Transaction is where a transaction is now. An unknown one is no error: its tier is Unknown.
func (c *Chain) Transaction(id types.Hash) (Transaction, error) {
	pin := c.pins.latest()
	if pin == nil {
		return Transaction{}, ErrClosed
	}
	defer c.pins.drop(pin)
	e, err := pin.snap.Event(id)
	if err != nil {
		return Transaction{}, err
	}
	if e != nil && (e.Kind != types.Rejected || ledger.Terminal(e.Reason)) {
		t := Transaction{Tier: Final, Block: e.Block, At: e.Time, Event: e}
		if e.Kind == types.Rejected {
			t.Tier = Rejected
		}
		return t, nil
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.where[id]; t != nil {
		return *t, nil
	}
	return Transaction{}, nil
}

// KeyEvents are the final events of a lock at heights ≥ from, in order. No height's events
// are torn apart: it stops behind the first height with which there are limit or more.
// Through is the height up to which the answer is complete: that of the last event if it
// stopped, else the final height.
func (c *Chain) KeyEvents(lock types.Key, from uint64, limit int) (events []types.KeyEvent, through uint64, err error) {
	pin := c.pins.latest()
	if pin == nil {
		return nil, 0, ErrClosed
	}
	defer c.pins.drop(pin)
	for e, err := range pin.snap.KeyEvents(lock, 0) {
		if err != nil {
			return nil, 0, err
		}
		if len(events) >= limit && e.Height != events[len(events)-1].Height {
			return events, events[len(events)-1].Height, nil
		}
		if e.Height >= from {
			events = append(events, *e)
		}
	}
	return events, pin.height, nil
}

// setFinal notes the final height, and the newest certified one.
func (c *Chain) setFinal(height, certified uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Final = height
	c.status.Height = max(c.status.Height, height)
	c.status.Certified = max(c.status.Certified, certified)
}

// publishStatus notes how the chain is, for Status and Heights.
func (c *Chain) publishStatus(types.Millis) {
	top := c.core.Height()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.status
	s.PoolTransactions, s.PoolBytes, s.Syncing, s.Adrift = c.pool.Len(), c.pool.Bytes(), c.syncing, c.adrift
	s.Lowest, s.floor = c.cfg.Store.Lowest(), c.core.Floor()
	if s.Height == top && s.Members != nil {
		return
	}
	s.Height, s.Members, s.Heights = top, c.core.Shares(), c.core.LastHeights()
}

// Status is how the chain is now. It is cheap.
func (c *Chain) Status() Status {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.status
}

func (c *Chain) isSyncing() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.status.Syncing
}

// Peers is every registered peer, as of the newest final state, ascending by key.
func (c *Chain) Peers() ([]types.PeerState, error) {
	pin := c.pins.latest()
	if pin == nil {
		return nil, ErrClosed
	}
	defer c.pins.drop(pin)
	return pin.snap.Peers()
}

// Genesis is what the chain started from.
func (c *Chain) Genesis() *types.Genesis { return c.cfg.Genesis }

func newPool(c *Chain) *pool.Pool { return pool.New(c.self, c.cfg.Pool) }
