package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

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

// Sync brings the wallet up to now: it follows certificates to the newest checkpoint, sends
// again what may not have arrived, and takes in, proven, all that concerns the wallet. When
// it returns without error, Balance is complete as of a checkpoint not older than the call.
func (c *Client) Sync(ctx context.Context) error {
	if err := c.login(ctx); err != nil {
		return err
	}
	asOf, err := c.advance(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	pending, since, locks := c.w.Pending(), c.synced.Height, c.w.Locks()
	c.mu.Unlock()
	for _, t := range pending {
		// Refused or not: what became of it is found out by proofs.
		if err := c.link.submit(ctx, c.Chain(), t.Raw); err != nil && !IsKind(err, Refused) {
			return err
		}
		if err := c.settle(ctx, t.ID); err != nil && !says(err, saysNotFound, saysNotYet) {
			return err
		}
	}
	touched, err := c.touched(ctx, locks, since)
	if err != nil {
		return err
	}
	if err := c.learnAll(ctx, c.suspects(touched)); err != nil {
		return err
	}
	return c.change(func(*wallet.Wallet) error {
		if asOf.Height > c.synced.Height {
			c.synced = asOf
		}
		return nil
	})
}

// advance follows certificates to the newest checkpoint that the agent has, and says which.
func (c *Client) advance(ctx context.Context) (wallet.AsOf, error) {
	var newest uint64
	if err := patiently(ctx, func() error {
		status, err := c.link.status(ctx)
		if err != nil {
			return err
		}
		newest = status.CertifiedHeight
		if t := c.trust(); newest < t.Height() {
			return refuse(Behind, nil, "the agent at %s is at height %d, and the wallet has proof of height %d: wait until the agent has caught up, or use another one", c.link.url, newest, t.Height())
		}
		return nil
	}); err != nil {
		return wallet.AsOf{}, err
	}
	for {
		t := c.trust()
		if t.Checkpoint != nil && t.Height() >= newest {
			return asOf(t), nil
		}
		var steps []proof.Step
		if err := patiently(ctx, func() (err error) {
			if steps, err = c.link.advance(ctx, t.Chain, t.Height()); err == nil && len(steps) == 0 {
				return errStale // a network that has just begun has no checkpoint to advance to
			}
			return err
		}); err != nil {
			return wallet.AsOf{}, err
		}
		next, _, err := t.Advance(steps)
		if err != nil {
			return wallet.AsOf{}, c.link.lies(err)
		}
		if next.Height() <= t.Height() {
			return wallet.AsOf{}, c.link.lies(fmt.Errorf("an advance from height %d leads to %d", t.Height(), next.Height()))
		}
		if err := c.adopt(next); err != nil {
			return wallet.AsOf{}, err
		}
	}
}

func (c *Client) trust() proof.Trusted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trusted
}

// adopt trusts what was verified to follow from what is trusted, unless that is newer by now.
func (c *Client) adopt(t proof.Trusted) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.Height() <= c.trusted.Height() {
		return nil
	}
	if err := c.w.Trust(t.Encode(), wallet.AsOf{Height: t.Height(), Time: t.Checkpoint.Time}); err != nil {
		return err
	}
	c.trusted = t
	return nil
}

// believe checks that an answer's checkpoint is certified, by what is trusted. Errors:
// errStale, where asking again helps; NotProven.
func (c *Client) believe(ctx context.Context, a *answer) (proof.Trusted, error) {
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
		return t, c.link.lies(err)
	}
	return next, c.adopt(next)
}

// proven asks for a proof until there is one whose checkpoint can be believed. A transaction
// that is not proven yet may wait for long, so for that it does not.
func (c *Client) proven(ctx context.Context, q *v1.ProofRequest) (a *answer, under proof.Trusted, err error) {
	var notYet error
	err = patiently(ctx, func() error {
		if a, err = c.link.prove(ctx, q); err == nil {
			under, err = c.believe(ctx, a)
		}
		if q.GetTransaction() != "" && says(err, saysNotYet) {
			notYet, err = err, nil
		}
		return err
	})
	return a, under, errors.Join(err, notYet)
}

// touched are the locks to which something happened at heights above since, by the agent's
// word. What it leaves out of live locks is found by asking for their histories.
func (c *Client) touched(ctx context.Context, locks []types.Key, since uint64) (map[types.Key]bool, error) {
	out := make(map[types.Key]bool)
	for part := range slices.Chunk(locks, watchMax) {
		err := patiently(ctx, func() error {
			return c.watch(ctx, &v1.WatchRequest{Locks: texts(part), FromHeight: since + 1}, func(m *v1.WatchResponse) (bool, error) {
				switch what := m.What.(type) {
				case *v1.WatchResponse_Key:
					var lock types.Key
					if err := lock.UnmarshalText([]byte(what.Key.Lock)); err != nil {
						return false, c.link.lies(err)
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

// watch reads a watch until tell is done or the stream ends.
func (c *Client) watch(ctx context.Context, r *v1.WatchRequest, tell func(*v1.WatchResponse) (done bool, err error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.link.rpc.Watch(ctx, ask(r))
	if err != nil {
		return c.link.failed(ctx, err)
	}
	defer stream.Close()
	for stream.Receive() {
		if done, err := tell(stream.Msg()); done || err != nil {
			cancel() // or closing would read on to an end that does not come
			return err
		}
	}
	if err := stream.Err(); err != nil {
		return c.link.failed(ctx, err)
	}
	return refuse(Unreachable, nil, "the agent at %s ended the watch", c.link.url)
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
func (c *Client) learnAll(ctx context.Context, locks []types.Key) error {
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
func (c *Client) settleAll(ctx context.Context, ids map[types.Hash]bool) error {
	c.mu.Lock()
	delete(ids, c.w.Chain())
	var open []types.Hash
	for id := range ids {
		if t, ok := c.w.Transaction(id); !ok || t.Status == wallet.Open {
			open = append(open, id)
		}
	}
	c.mu.Unlock()
	return each(ctx, open, c.settle)
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
func (c *Client) history(ctx context.Context, lock types.Key) (h wallet.KeyHistory, complete bool, err error) {
	a, under, err := c.proven(ctx, &v1.ProofRequest{What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: lock.String()}}})
	if err != nil {
		return h, false, err
	}
	p, ok := a.statement.(*proof.Key)
	if !ok {
		return h, false, c.link.lies(fmt.Errorf("asked for a key's history, it gave %T", a.statement))
	}
	proven, err := p.Verify(under.Checkpoint, lock)
	if err != nil {
		return h, false, c.link.lies(err)
	}
	h = wallet.KeyHistory{Lock: lock, Events: proven.Events, Proof: a.bytes, AsOf: asOf(under)}
	return h, proven.Complete(), nil
}

func asOf(t proof.Trusted) wallet.AsOf {
	return wallet.AsOf{Height: t.Height(), Time: t.Checkpoint.Time}
}

// settle asks for the fate of a transaction and takes it in. That of a payout is no line of
// a wallet's history, and is passed over.
func (c *Client) settle(ctx context.Context, id types.Hash) error {
	_, err := c.settleBy(ctx, id, nil)
	return err
}

// settleBy is settle with a proof file that the agent gave already, or nil.
func (c *Client) settleBy(ctx context.Context, id types.Hash, file []byte) (*types.Event, error) {
	a, under, err := c.fate(ctx, id, file)
	if err != nil {
		return nil, err
	}
	f, ok := a.statement.(*proof.File)
	if !ok {
		return nil, c.link.lies(fmt.Errorf("asked for a transaction, it gave %T", a.statement))
	}
	if _, err := f.Verify(under, nil); err != nil {
		return nil, c.link.lies(err)
	}
	if _, err := f.Verify(*c.genesis, nil); err != nil { // so that the file convinces others too
		return nil, c.link.lies(err)
	}
	happened, err := f.Event.Verify(under.Checkpoint)
	if err != nil {
		return nil, c.link.lies(err)
	}
	if happened.Event.Transaction != id {
		return nil, c.link.lies(fmt.Errorf("asked for %s, it gave the fate of %s", id, happened.Event.Transaction))
	}
	if happened.Event.Kind == types.Payout {
		return &happened.Event, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return &happened.Event, c.w.Settle(wallet.Settlement{Tx: happened.Transaction, Event: happened.Event, Proof: a.bytes, AsOf: asOf(under), At: now()})
}

// fate is a proof file of a transaction whose checkpoint is believed: the one given, or a newer one.
func (c *Client) fate(ctx context.Context, id types.Hash, file []byte) (*answer, proof.Trusted, error) {
	if file != nil {
		a, err := readAnswer(&v1.ProofResponse{Proof: file})
		if err != nil {
			return nil, proof.Trusted{}, c.link.lies(err)
		}
		if a.checkpoint != nil {
			if under, err := c.believe(ctx, a); !errors.Is(err, errStale) {
				return a, under, err
			}
		}
	}
	return c.proven(ctx, &v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: id.String()}})
}

// scan finds all that belongs to the wallet's words.
func (c *Client) scan(ctx context.Context, tell func(asked, used, left int)) error {
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
	c.synced = asOf
	return c.settleAll(ctx, ids)
}
