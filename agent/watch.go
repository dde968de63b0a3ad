package agent

import (
	"context"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/chain"
	"charter/ledger"
	"charter/types"
)

// heights are how far the peer is, as a watch is told.
type heights struct{ height, final, certified uint64 }

// news is one thing that a watch is told of: one of the three is set.
type news struct {
	tier  *chain.TierChange
	event *types.Event
	key   *types.KeyEvent
	at    types.Millis // the peer's clock
}

// hub takes the chain's updates and gives each watch what concerns it.
type hub struct {
	meter *meter
	queue int // of a watch

	cancel context.CancelFunc
	ready  chan struct{} // closed once the heights are known
	ended  chan struct{} // closed when there are no more updates

	mu     sync.Mutex
	now    heights
	all    map[*watcher]struct{}
	byLock map[types.Key]map[*watcher]struct{}
	byTx   map[types.Hash]map[*watcher]struct{}
}

func newHub(queue int, m *meter) *hub {
	return &hub{
		meter: m, queue: queue, ready: make(chan struct{}), ended: make(chan struct{}),
		all:    make(map[*watcher]struct{}),
		byLock: make(map[types.Key]map[*watcher]struct{}), byTx: make(map[types.Hash]map[*watcher]struct{}),
	}
}

func (h *hub) start(c Chain) {
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	updates := c.Updates(ctx)
	go func() {
		defer close(h.ended)
		defer cancel()
		first := true
		for u := range updates {
			h.take(&u)
			if first {
				close(h.ready)
				first = false
			}
		}
	}()
}

func (h *hub) close() {
	h.cancel()
	<-h.ended
}

// take hands an update to all watches that it concerns, and the heights to all.
func (h *hub) take(u *chain.Update) {
	h.meter.update(u)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = heights{u.Height, u.Final, u.Certified}
	told := make(map[*watcher][]news)
	for i := range u.Tiers {
		for w := range h.byTx[u.Tiers[i].Transaction] {
			told[w] = append(told[w], news{tier: &u.Tiers[i], at: u.At})
		}
	}
	for i := range u.Events {
		for w := range h.byTx[u.Events[i].Transaction] {
			told[w] = append(told[w], news{event: &u.Events[i], at: u.At})
		}
	}
	for i := range u.Keys {
		for w := range h.byLock[u.Keys[i].Output.Lock] {
			told[w] = append(told[w], news{key: &u.Keys[i], at: u.At})
		}
	}
	for w := range h.all {
		w.push(told[w], h.now, h.queue)
	}
}

// join enters a watch, and gives the heights from behind which it will be told everything.
func (h *hub) join(ctx context.Context, w *watcher) (heights, error) {
	select {
	case <-h.ready:
	case <-h.ended:
		return heights{}, errClosing
	case <-ctx.Done():
		return heights{}, ctx.Err()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[w] = struct{}{}
	for _, k := range w.locks {
		enter(h.byLock, k, w)
	}
	for _, id := range w.ids {
		enter(h.byTx, id, w)
	}
	w.now = h.now
	return h.now, nil
}

func (h *hub) leave(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.all, w)
	for _, k := range w.locks {
		drop(h.byLock, k, w)
	}
	for _, id := range w.ids {
		drop(h.byTx, id, w)
	}
}

func enter[K comparable](index map[K]map[*watcher]struct{}, k K, w *watcher) {
	if index[k] == nil {
		index[k] = make(map[*watcher]struct{}, 1)
	}
	index[k][w] = struct{}{}
}

func drop[K comparable](index map[K]map[*watcher]struct{}, k K, w *watcher) {
	if delete(index[k], w); len(index[k]) == 0 {
		delete(index, k)
	}
}

var errClosing = refuse(Closing, "the agent stops; go to another one, or try again").after(time.Second)

// watcher is what the hub and one watch share.
type watcher struct {
	locks []types.Key
	ids   []types.Hash
	wake  chan struct{} // one waits in it if there is something new

	mu     sync.Mutex
	waits  []news
	now    heights // with all that waits, the watch is told everything up to here
	behind bool    // more came than may wait
}

func (w *watcher) push(n []news, now heights, max int) {
	w.mu.Lock()
	switch {
	case w.behind:
	case len(w.waits)+len(n) > max:
		w.behind, w.waits = true, nil
	default:
		w.waits, w.now = append(w.waits, n...), now
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watcher) pull() ([]news, heights, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.behind {
		return nil, heights{}, refuse(Slow, "the watch was not read in time; resume it from its last heartbeat")
	}
	n := w.waits
	w.waits = nil
	return n, w.now, nil
}

// Watch runs one watch in the goroutine of its call.
func (a service) Watch(ctx context.Context, r *connect.Request[v1.WatchRequest], stream *connect.ServerStream[v1.WatchResponse]) error {
	locks, err := parseAll("locks", r.Msg.Locks, a.limits.Locks, parseKey)
	if err != nil {
		return err
	}
	ids, err := parseAll("transactions", r.Msg.Transactions, a.limits.Ids, parseHash)
	if err != nil {
		return err
	}
	release, err := a.clients.watch(r.Peer().Addr, len(locks)+len(ids), time.Now())
	if err != nil {
		return err
	}
	defer release()
	control := controlOf(ctx)
	// The stream may stay for days, while each write must come through in time. Setting a
	// deadline fails on dead connections only.
	deadline := func() { _ = control.SetWriteDeadline(time.Now().Add(a.limits.Timeout)) }
	defer deadline() // for the error that ends the stream

	w := &watcher{locks: locks, ids: ids, wake: make(chan struct{}, 1)}
	start, err := a.hub.join(ctx, w)
	if err != nil {
		return err
	}
	defer a.hub.leave(w)
	s := &session{
		a: a.Agent, w: w, bulk: r.Msg.Bulk, from: r.Msg.FromHeight, begin: start.final, now: start, txs: make(map[types.Hash]*chain.Transaction, len(ids)),
		send: func(m *v1.WatchResponse) error {
			deadline()
			return stream.Send(m)
		},
	}
	return s.run(ctx)
}

// session is a watch on its way: what its client was told.
type session struct {
	a    *Agent
	w    *watcher
	send func(*v1.WatchResponse) error

	bulk     bool
	keys     [][]byte // of a bulk watch, encoded events that are to be sent next
	from     uint64   // first height of key events that are wanted
	begin    uint64   // last height of which past told them
	now      heights
	txs      map[types.Hash]*chain.Transaction // as told
	unproven []*types.Event                    // told, and no certified checkpoint has them yet
}

func (s *session) run(ctx context.Context) error {
	if err := s.past(ctx); err != nil {
		return err
	}
	beat := time.NewTicker(s.a.limits.Heartbeat)
	defer beat.Stop()
	for due := true; ; {
		n, now, err := s.w.pull()
		if err != nil {
			return err
		}
		s.now = now
		if err := s.tell(n); err != nil {
			return err
		}
		if due {
			if err := s.heartbeat(); err != nil {
				return err
			}
		}
		due = false
		select {
		case <-s.w.wake:
		case <-beat.C:
			due = true
		case <-s.a.hub.ended:
			return errClosing
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pastPage is how many events of a lock are read at a time.
const pastPage = 256

// past tells what is there when the watch starts: the key events from the first height wanted up
// to where the hub takes over, and where each transaction is.
func (s *session) past(ctx context.Context) error {
	for _, lock := range s.w.locks {
		for from := s.from; from <= s.begin; {
			events, through, err := s.a.chain.KeyEvents(lock, from, pastPage)
			if err != nil {
				return err
			}
			for i := range events {
				if events[i].Height > s.begin {
					break // comes through the hub
				}
				if err := s.tellKey(&events[i]); err != nil {
					return err
				}
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			from = through + 1
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	for _, id := range s.w.ids {
		tx, err := s.a.chain.Transaction(id)
		if err != nil {
			return err
		}
		if err := s.tellTransaction(id, tx); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) tell(all []news) error {
	for _, n := range all {
		var err error
		switch {
		case n.key != nil && n.key.Height >= s.from && n.key.Height > s.begin:
			err = s.tellKey(n.key)
		case n.event != nil:
			err = s.settle(n.event, n.at)
		case n.tier != nil:
			if was := s.txs[n.tier.Transaction]; was.Tier.Settled() || n.at < was.At || n.at == was.At && n.tier.Tier <= was.Tier {
				continue // older than what was read when the watch started
			}
			err = s.tellTransaction(n.tier.Transaction, chain.Transaction{Tier: n.tier.Tier, Block: n.tier.Block, At: n.at})
		}
		if err != nil {
			return err
		}
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.prove()
}

func (s *session) settle(e *types.Event, at types.Millis) error {
	if s.txs[e.Transaction].Tier.Settled() {
		return nil // was so when the watch started
	}
	if e.Kind == types.Rejected && !ledger.Terminal(e.Reason) {
		return nil // it may be ordered again, and applied
	}
	tx := chain.Transaction{Tier: chain.Final, Block: e.Block, At: at, Event: e}
	if e.Kind == types.Rejected {
		tx.Tier = chain.Rejected
	}
	return s.tellTransaction(e.Transaction, tx)
}

func (s *session) tellTransaction(id types.Hash, tx chain.Transaction) error {
	s.txs[id] = &tx
	m := &v1.TransactionTier{Id: id.String(), Tier: v1.Tier(tx.Tier), TimeMs: int64(tx.At)}
	if !tx.Block.IsZero() {
		m.Block = tx.Block.String()
	}
	if tx.Tier.Settled() {
		m.Reason = tx.Event.Reason.String()
		s.unproven = append(s.unproven, tx.Event)
	}
	return s.send(&v1.WatchResponse{What: &v1.WatchResponse_Tier{Tier: m}})
}

// bulkEvents is how many key events one message has at most, of 164 bytes each.
const bulkEvents = 512

func (s *session) tellKey(e *types.KeyEvent) error {
	if s.bulk {
		if s.keys = append(s.keys, e.Encode()); len(s.keys) == bulkEvents {
			return s.flush()
		}
		return nil
	}
	return s.send(&v1.WatchResponse{What: &v1.WatchResponse_Key{Key: &v1.KeyEvent{
		Event: e.Encode(), Lock: e.Output.Lock.String(), Spent: e.Spent, Position: e.Position,
		Transaction: e.Transaction.String(), Value: e.Output.Value.String(), Height: e.Height, TimeMs: int64(e.Time),
	}}})
}

// flush sends what key events a bulk watch has gathered.
func (s *session) flush() error {
	if len(s.keys) == 0 {
		return nil
	}
	m := &v1.WatchResponse{What: &v1.WatchResponse_Keys{Keys: &v1.KeyEvents{Events: s.keys}}}
	s.keys = nil
	return s.send(m)
}

// prove sends the proofs of settled transactions that a certified checkpoint has now.
func (s *session) prove() error {
	var failed error
	s.unproven = slices.DeleteFunc(s.unproven, func(e *types.Event) bool {
		if failed != nil || e.Height > s.now.certified {
			return false
		}
		p, err := s.a.chain.TransactionProof(e.Transaction)
		if failed = err; err != nil {
			if notYet(err) { // proofs may be a moment behind certificates
				failed = nil
			}
			return false
		}
		failed = s.send(&v1.WatchResponse{What: &v1.WatchResponse_Final{Final: &v1.Final{
			Id: e.Transaction.String(), Event: e.Encode(), Proof: p.Bytes, CheckpointHeight: p.At.Checkpoint.Height,
		}}})
		return true
	})
	return failed
}

func (s *session) heartbeat() error {
	return s.send(&v1.WatchResponse{What: &v1.WatchResponse_Heartbeat{Heartbeat: &v1.Heartbeat{
		Height: s.now.height, FinalHeight: s.now.final, CertifiedHeight: s.now.certified, TimeMs: time.Now().UnixMilli(),
	}}})
}
