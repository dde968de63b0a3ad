package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	v1 "charter/api/charter/v1"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// parallel is how many questions an agent is asked at once.
const parallel = 8

// watchMax is how many locks one watch may have (api/charter/v1, "WatchRequest").
const watchMax = 4096

// errStale is an answer as of an older checkpoint than what is trusted meanwhile, or one that
// cannot be checked until more is trusted: asking again helps.
var errStale = errors.New("the agent's answer is of an older state than the wallet's: the agent is behind; wait, or use another agent")

// visit is the wallet at one agent: what is asked of that agent, and judged.
type visit struct {
	*Client
	link *link
}

// Sync brings the wallet up to now: it follows certificates to the newest checkpoint, sends
// again what may not have arrived, and takes in, proven, all that concerns the wallet. When
// it returns without error, Balance is complete as of a checkpoint not older than the call.
// Beside that it compares the checkpoint with other agents; what comes of it, Conflicts says.
func (c *Client) Sync(ctx context.Context) error { return c.through(ctx, visit.sync) }

func (c visit) sync(ctx context.Context) error {
	asOf, err := c.advance(ctx)
	if err != nil {
		return err
	}
	compared := make(chan struct{})
	go func() {
		defer close(compared)
		c.compare(ctx)
	}()
	err = c.catchUp(ctx)
	<-compared
	if err != nil {
		return err
	}
	return c.change(func(*wallet.Wallet) error {
		if asOf.Height > c.synced.Height {
			c.synced = asOf
		}
		return nil
	})
}

// catchUp sends what is open, and takes in all that concerns the wallet.
func (c visit) catchUp(ctx context.Context) error {
	c.mu.Lock()
	pending, since, locks := c.w.Pending(), c.synced.Height, c.w.Locks()
	c.mu.Unlock()
	for _, t := range pending {
		// Refused or not: what became of it is found out by proofs.
		if err := c.link.submit(ctx, c.Chain(), t.Raw); err != nil && !IsKind(err, Refused) {
			return err
		}
		if err := c.settle(ctx, t.ID); err != nil && !says(err, saysNotFound, saysNotYet, saysNotKept) {
			return err
		}
	}
	touched, err := c.touched(ctx, locks, since)
	if err != nil {
		return err
	}
	return c.learnAll(ctx, c.suspects(touched))
}

// advance follows certificates to the newest checkpoint that the agent has, checks that it has
// the one that was trusted in its past, and says which it is.
func (c visit) advance(ctx context.Context) (wallet.AsOf, error) {
	old := c.trust()
	newest, err := c.newest(ctx, old.Height())
	if err != nil {
		return wallet.AsOf{}, err
	}
	t, certificate := old, (*types.Certificate)(nil)
	var last *exchange
	for t.Checkpoint == nil || t.Height() < newest {
		var steps []proof.Step
		if err := c.patiently(ctx, func() (err error) {
			if steps, last, err = c.link.advance(ctx, t.Chain, t.Height()); err == nil && len(steps) == 0 {
				return errStale // a network that has just begun has no checkpoint to advance to
			}
			return err
		}); err != nil {
			return wallet.AsOf{}, c.stale(last, owed(err))
		}
		next, _, err := t.Advance(steps)
		if err != nil {
			return wallet.AsOf{}, c.link.lies(last, err)
		}
		if next.Height() <= t.Height() {
			return wallet.AsOf{}, c.link.lies(last, fmt.Errorf("an advance from height %d leads to %d", t.Height(), next.Height()))
		}
		t, certificate = next, &steps[len(steps)-1].Certificate
	}
	if old.Checkpoint != nil && t.Height() > old.Height() {
		if t, certificate, err = c.samePast(ctx, old, t); err != nil {
			return wallet.AsOf{}, err
		}
	}
	c.mark(c.link, t.Height())
	return asOf(t), c.adopt(t, certificate)
}

// newest is the height of the agent's newest checkpoint, by its word: not below what is trusted.
func (c visit) newest(ctx context.Context, trusted uint64) (newest uint64, err error) {
	var x *exchange
	err = c.patiently(ctx, func() error {
		status, asked, err := c.link.status(ctx)
		if err != nil {
			return err
		}
		if newest, x = status.CertifiedHeight, asked; newest < trusted {
			return c.link.blame(Behind, x, nil, "the agent at %s is at height %d, and the wallet has proof of height %d: wait until the agent has caught up, or use another one", c.link.url, newest, trusted)
		}
		return nil
	})
	if shown := c.shown(c.link.url); IsKind(err, Behind) && shown > newest {
		return 0, c.link.blame(WentBack, x, err, "the agent at %s had shown height %d, and for %s now shows no more than %d: it went back, or hides what it has; use another agent", c.link.url, shown, c.config.patience(), newest)
	}
	return newest, err
}

// samePast checks that what the agent leads to has what was trusted in its past: a fork
// that enough peers signed would pass all else. It gives the checkpoint for which that is
// shown, t's or a newer one.
func (c visit) samePast(ctx context.Context, old, t proof.Trusted) (now proof.Trusted, certificate *types.Certificate, err error) {
	var a *answer
	err = c.patiently(ctx, func() error {
		a, err = c.link.prove(ctx, &v1.ProofRequest{What: &v1.ProofRequest_ConsistencyFrom{ConsistencyFrom: old.Height()}})
		if err != nil {
			return err
		}
		if a.checkpoint.Height < t.Height() {
			return errStale
		}
		now, _, err = t.Advance([]proof.Step{{Checkpoint: *a.checkpoint, Certificate: *a.certificate}})
		if proof.IsKind(err, proof.UnknownSnapshot) { // a run began in between: the way there introduces it
			steps, x, err := c.link.advance(ctx, t.Chain, t.Height())
			if err != nil {
				return err
			}
			if now, _, err = t.Advance(steps); err != nil {
				return c.link.lies(x, err)
			}
			t = now
			return errStale
		}
		return err
	})
	if err != nil {
		if a != nil {
			err = c.stale(a.exchange, err)
		}
		if err = owed(err); a != nil && !errors.Is(err, errStale) {
			err = c.link.lies(a.exchange, err)
		}
		return t, nil, err
	}
	p, ok := a.statement.(*proof.Consistency)
	if !ok {
		return t, nil, c.link.lies(a.exchange, fmt.Errorf("asked for a proof of consistency, it gave %T", a.statement))
	}
	if err := p.Verify(old.Checkpoint, now.Checkpoint); err != nil {
		c.confront(ctx, c.link, old)
		return t, nil, c.link.blame(Forked, a.exchange, err, "what the agent at %s says does not hold (%v): its checkpoint of height %d does not have the wallet's of height %d in its past: it serves another fork; use another agent", c.link.url, err, now.Height(), old.Height())
	}
	return now, a.certificate, nil
}

// stale turns an answer that stayed stale into the agent's fault.
func (c visit) stale(x *exchange, err error) error {
	if !errors.Is(err, errStale) || x == nil {
		return err
	}
	return c.link.blame(Stale, x, err, "the agent at %s answers with what is older than the wallet's proof of height %d, and goes on doing so: use another agent", c.link.url, c.height())
}

func (c *Client) height() uint64 {
	t := c.trust()
	return t.Height()
}

func (c *Client) trust() proof.Trusted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trusted
}

// adopt trusts what was verified to follow from what is trusted, unless that is newer by now.
func (c *Client) adopt(t proof.Trusted, certificate *types.Certificate) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Height() <= c.trusted.Height() {
		return nil
	}
	if err := c.w.Trust(t.Encode(), wallet.AsOf{Height: t.Height(), Time: t.Checkpoint.Time}); err != nil {
		return err
	}
	c.trusted, c.certificate = t, certificate
	return nil
}

// believe checks that an answer's checkpoint is certified, by what is trusted. Errors:
// errStale, where asking again helps; NotProven.
func (c visit) believe(ctx context.Context, a *answer) (proof.Trusted, error) {
	t := c.trust()
	if a.checkpoint.Height < t.Height() {
		return t, errStale
	}
	next, _, err := t.Advance([]proof.Step{{Checkpoint: *a.checkpoint, Certificate: *a.certificate}})
	if proof.IsKind(err, proof.UnknownSnapshot) { // the way there introduces it
		if _, err := c.advance(ctx); err != nil {
			return t, err
		}
		return t, errStale
	}
	if err != nil {
		return t, c.link.lies(a.exchange, err)
	}
	return next, nil
}

// proven asks for a proof until there is one whose checkpoint can be believed. A transaction
// that is not proven yet may wait for long, so for that it does not.
func (c visit) proven(ctx context.Context, q *v1.ProofRequest) (a *answer, under proof.Trusted, err error) {
	var notYet error
	var last *exchange
	err = c.patiently(ctx, func() error {
		if a, err = c.link.prove(ctx, q); err == nil {
			last = a.exchange
			under, err = c.believe(ctx, a)
		}
		if q.GetTransaction() != "" && says(err, saysNotYet) {
			notYet, err = err, nil
		}
		return err
	})
	return a, under, errors.Join(c.stale(last, err), notYet)
}

// touched are the locks to which something happened at heights above since, by the agent's
// word. What it leaves out of live locks is found by asking for their histories.
func (c visit) touched(ctx context.Context, locks []types.Key, since uint64) (map[types.Key]bool, error) {
	out := make(map[types.Key]bool)
	for part := range slices.Chunk(locks, watchMax) {
		err := c.patiently(ctx, func() error {
			return c.watch(ctx, &v1.WatchRequest{Locks: texts(part), FromHeight: since + 1}, func(m *v1.WatchResponse) (bool, error) {
				switch what := m.What.(type) {
				case *v1.WatchResponse_Key:
					var lock types.Key
					if err := lock.UnmarshalText([]byte(what.Key.Lock)); err != nil {
						return false, c.link.lies(&exchange{"Watch", &v1.WatchRequest{Locks: texts(part)}, m}, err)
					}
					out[lock] = true
				case *v1.WatchResponse_Heartbeat:
					return true, nil
				}
				return false, nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// watch reads a watch until tell is done or the stream ends. An agent that is silent in it for
// as long as in a call, though it owes a heartbeat each second, is left.
func (c visit) watch(ctx context.Context, r *v1.WatchRequest, tell func(*v1.WatchResponse) (done bool, err error)) error {
	listening, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(c.link.timeout, cancel)
	defer silence.Stop()
	x := &exchange{call: "Watch", question: r}
	failed := func(err error) error {
		if listening.Err() != nil && ctx.Err() == nil {
			return c.link.silent(x)
		}
		return c.link.failed(ctx, x, err)
	}
	stream, err := c.link.rpc.Watch(listening, ask(r))
	if err != nil {
		return failed(err)
	}
	defer stream.Close()
	for stream.Receive() {
		silence.Stop()
		if done, err := tell(stream.Msg()); done || err != nil {
			cancel() // or closing would read on to an end that does not come
			return err
		}
		silence.Reset(c.link.timeout)
	}
	if err := stream.Err(); err != nil {
		return failed(err)
	}
	return c.link.blame(Unreachable, x, nil, "the agent at %s ended the watch", c.link.url)
}

func texts[T fmt.Stringer](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = v.String()
	}
	return out
}

// suspects are the locks whose histories are to be proven: those that something happened to,
// those that may be paid to or hold something, and those of overdue payments.
func (c *Client) suspects(touched map[types.Key]bool) []types.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	used := make(map[types.Key]bool)
	for _, o := range c.w.Outputs() {
		used[o.State.Output.Lock] = true
		if o.State.SpentHeight == 0 {
			touched[o.State.Output.Lock] = true
		}
	}
	for _, t := range c.w.Overdue() {
		for _, in := range t.Tx.Inputs {
			touched[in.Output.Lock] = true
		}
	}
	return slices.DeleteFunc(c.w.Locks(), func(lock types.Key) bool { return used[lock] && !touched[lock] })
}

// learnAll proves the histories of locks, and the transactions in them.
func (c visit) learnAll(ctx context.Context, locks []types.Key) error {
	var mu sync.Mutex
	ids := make(map[types.Hash]bool)
	err := each(ctx, locks, func(ctx context.Context, lock types.Key) error {
		h, complete, err := c.history(ctx, lock)
		if err != nil {
			return err
		}
		mu.Lock()
		for _, e := range h.Events {
			ids[e.Transaction] = true
		}
		mu.Unlock()
		if !complete || len(h.Events) == 0 {
			return nil // of a flooded key, what its latest transactions say is enough
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.w.Learn(h)
	})
	if err != nil {
		return err
	}
	return c.settleAll(ctx, ids)
}

// settleAll proves transactions that key histories name, of which some stand for a genesis
// or a payout: those have no line in the history.
func (c visit) settleAll(ctx context.Context, ids map[types.Hash]bool) error {
	c.mu.Lock()
	delete(ids, c.w.Chain())
	var open []types.Hash
	for id := range ids {
		if t, ok := c.w.Transaction(id); !ok || t.Status == wallet.Open {
			open = append(open, id)
		}
	}
	c.mu.Unlock()
	return each(ctx, open, func(ctx context.Context, id types.Hash) error {
		err := owed(c.patiently(ctx, func() error { return c.settle(ctx, id) }))
		if says(err, saysNotKept) { // what it did to the keys is proven; what it said besides, another agent may tell
			return nil
		}
		return err
	})
}

// each does something with all members of a list, a few at once.
func each[T any](ctx context.Context, list []T, do func(context.Context, T) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, v := range list {
		g.Go(func() error { return do(ctx, v) })
	}
	return g.Wait()
}

// history is the proven history of a lock, and whether it has all events.
func (c visit) history(ctx context.Context, lock types.Key) (h wallet.KeyHistory, complete bool, err error) {
	a, under, err := c.proven(ctx, &v1.ProofRequest{What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: lock.String()}}})
	if err != nil {
		return h, false, owed(err)
	}
	p, ok := a.statement.(*proof.Key)
	if !ok {
		return h, false, c.link.lies(a.exchange, fmt.Errorf("asked for a key's history, it gave %T", a.statement))
	}
	proven, err := p.Verify(under.Checkpoint, lock)
	if err != nil {
		return h, false, c.link.lies(a.exchange, err)
	}
	h = wallet.KeyHistory{Lock: lock, Events: proven.Events, Proof: a.bytes, AsOf: asOf(under)}
	return h, proven.Complete(), nil
}

func asOf(t proof.Trusted) wallet.AsOf {
	return wallet.AsOf{Height: t.Height(), Time: t.Checkpoint.Time}
}

// settle asks for the fate of a transaction and takes it in. That of a payout is no line of
// a wallet's history, and is passed over.
func (c visit) settle(ctx context.Context, id types.Hash) error {
	_, err := c.settleBy(ctx, id, nil)
	return err
}

// settleBy is settle with a proof file that the agent gave already, or nil.
func (c visit) settleBy(ctx context.Context, id types.Hash, file []byte) (*types.Event, error) {
	a, under, err := c.fate(ctx, id, file)
	if err != nil {
		return nil, err
	}
	f, ok := a.statement.(*proof.File)
	if !ok {
		return nil, c.link.lies(a.exchange, fmt.Errorf("asked for a transaction, it gave %T", a.statement))
	}
	if _, err := f.Verify(under, nil); err != nil {
		return nil, c.link.lies(a.exchange, err)
	}
	if _, err := f.Verify(c.start(), nil); err != nil { // so that the file convinces others too
		return nil, c.link.lies(a.exchange, err)
	}
	happened, err := f.Event.Verify(under.Checkpoint)
	if err != nil {
		return nil, c.link.lies(a.exchange, err)
	}
	if happened.Event.Transaction != id {
		return nil, c.link.lies(a.exchange, fmt.Errorf("asked for %s, it gave the fate of %s", id, happened.Event.Transaction))
	}
	if happened.Event.Kind == types.Payout {
		return &happened.Event, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &happened.Event, c.w.Settle(wallet.Settlement{Tx: happened.Transaction, Event: happened.Event, Proof: a.bytes, AsOf: asOf(under), At: now()})
}

// fate is a proof file of a transaction whose checkpoint is believed: the one given, or a newer one.
func (c visit) fate(ctx context.Context, id types.Hash, file []byte) (*answer, proof.Trusted, error) {
	if file != nil {
		x := &exchange{"Watch", &v1.WatchRequest{Transactions: []string{id.String()}}, &v1.Final{Id: id.String(), Proof: file}}
		a, err := c.link.read(x, &v1.ProofResponse{Proof: file})
		if err != nil && !errors.Is(err, errStale) {
			return nil, proof.Trusted{}, err
		}
		if err == nil {
			if under, err := c.believe(ctx, a); !errors.Is(err, errStale) {
				return a, under, err
			}
		}
	}
	return c.proven(ctx, &v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: id.String()}})
}

// scan finds all that belongs to the wallet's words.
func (c visit) scan(ctx context.Context, tell func(asked, used, left int)) error {
	asOf, err := c.advance(ctx)
	if err != nil {
		return err
	}
	s := c.w.Scan()
	ids := make(map[types.Hash]bool)
	for !s.Done() {
		err := each(ctx, s.Next(4*parallel), func(ctx context.Context, lock types.Key) error {
			h, complete, err := c.history(ctx, lock)
			if err != nil {
				return err
			}
			if !complete {
				return refuse(NotProven, nil, "key %s has more events than one proof holds: it cannot be restored yet", lock)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, e := range h.Events {
				ids[e.Transaction] = true
			}
			if err := s.Answer(h); err != nil {
				return err
			}
			if tell != nil {
				tell(s.Progress())
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := c.settleAll(ctx, ids); err != nil {
		return err
	}
	c.compare(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced = asOf
	return nil
}
