package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	v1 "charter/api/charter/v1"
	"charter/types"
	"charter/wallet"
)

// validity is how long a transaction may wait before it can no longer be applied, and its
// coins are free again (spec/wallet.md, "Dead or alive").
const validity = types.Millis(10 * time.Minute / time.Millisecond)

// Payment is an amount for an address.
type Payment struct {
	To     wallet.Address
	Amount types.Amount
	Note   string // for the history; at most MaxNote bytes
	// Once: if the same amount was paid, or is being paid, to the same address, that is the
	// payment: none is made again.
	Once bool
	// Until is the tier to wait for. Known, Selected and Official are the agent's word;
	// Final is proven. Made: only sign, keep and send.
	Until wallet.Tier
}

// Progress is a step of a transaction on its way.
type Progress struct {
	ID      types.Hash
	Resumed bool          // it was under way, or settled, before
	Tier    wallet.Tier   // that it has come to
	Proven  bool          // Final is proven, and not only said
	After   time.Duration // since it was sent by this process
	Height  uint64        // if proven: of the anchor that ordered it
	Trouble error         // the agent does not answer, or cannot take it now: it is tried again
}

// Pay pays. The payment is durable before it is sent; if ctx ends before the tier is reached,
// the error is Interrupted and the payment goes on. Other errors: those of wallet.Pay; Failed,
// if it is proven never to be applied; Refused, NotProven. Tell may be nil.
func (c *Client) Pay(ctx context.Context, p Payment, tell func(Progress)) (Line, error) {
	if len(p.Note) > MaxNote {
		return Line{}, refuse(BadNote, nil, "the note has %d bytes, and may have %d", len(p.Note), MaxNote)
	}
	out := types.Output{Value: p.Amount, Lock: p.To.Lock, Host: p.To.Host}
	same := func(t *wallet.Transaction) bool { return p.Once && slices.Contains(t.Tx.Outputs, out) }
	return c.intend(ctx, p.Note, same, p.Until, tell, func(w *wallet.Wallet, t wallet.Terms) (wallet.Transaction, error) {
		return w.Pay(t, p.To, p.Amount)
	})
}

// Notarise says to the world that a document with this SHA-256 existed, waits until that is
// proven, and gives the proof file. A document that the wallet notarised before is not
// notarised again. Errors as those of Pay.
func (c *Client) Notarise(ctx context.Context, document types.Hash, note string, tell func(Progress)) (Line, []byte, error) {
	record := types.Record(types.Notarise{Document: document})
	same := func(t *wallet.Transaction) bool { return slices.Contains(t.Tx.Records, record) }
	line, err := c.intend(ctx, note, same, wallet.Final, tell, func(w *wallet.Wallet, t wallet.Terms) (wallet.Transaction, error) {
		return w.Notarise(t, document)
	})
	if err != nil {
		return line, nil, err
	}
	file, err := c.Proof(line.ID)
	return line, file, err
}

// RegisterPeer enters a peer, or renews its entry, and waits until that is proven. The record comes
// without signature: sign, with the peer's key, is given what it signs. Errors as those of Pay.
func (c *Client) RegisterPeer(ctx context.Context, r types.RegisterPeer, sign func(types.Hash) (types.Signature, error), note string, tell func(Progress)) (Line, error) {
	same := func(t *wallet.Transaction) bool {
		return t.Status == wallet.Open && slices.ContainsFunc(t.Tx.Records, func(x types.Record) bool {
			old, ok := x.(types.RegisterPeer)
			old.Signature = r.Signature
			return ok && old == r
		})
	}
	return c.intend(ctx, note, same, wallet.Final, tell, func(w *wallet.Wallet, t wallet.Terms) (wallet.Transaction, error) {
		return w.RegisterPeer(t, r, sign)
	})
}

// Resume waits for a transaction that is under way, as Pay does.
func (c *Client) Resume(ctx context.Context, id types.Hash, until wallet.Tier, tell func(Progress)) (Line, error) {
	return c.intend(ctx, "", func(t *wallet.Transaction) bool { return t.ID == id }, until, tell, func(*wallet.Wallet, wallet.Terms) (wallet.Transaction, error) {
		return wallet.Transaction{}, refuse(NotThere, nil, "the wallet has no transaction %s", id)
	})
}

type maker func(*wallet.Wallet, wallet.Terms) (wallet.Transaction, error)

// intend makes a transaction, or takes the same one if there is one that is not dead, and
// follows it to a tier.
func (c *Client) intend(ctx context.Context, note string, same func(*wallet.Transaction) bool, until wallet.Tier, tell func(Progress), build maker) (Line, error) {
	if err := errors.Join(c.writable(), c.mayDeal()); err != nil {
		return Line{}, err
	}
	if err := c.through(ctx, func(visit, context.Context) error { return nil }); err != nil { // there is an agent
		return Line{}, err
	}
	if t := c.trust(); t.Checkpoint == nil { // no proof of anything yet, so no coins
		if err := c.Sync(ctx); err != nil {
			return Line{}, err
		}
	}
	t, resumed, err := c.make(note, same, build)
	if wallet.IsKind(err, wallet.Insufficient) || wallet.IsKind(err, wallet.GapReached) { // what is settled meanwhile may help
		if err := c.Sync(ctx); err != nil {
			return Line{}, err
		}
		t, resumed, err = c.make(note, same, build)
	}
	if err != nil {
		return Line{}, err
	}
	if tell == nil {
		tell = func(Progress) {}
	}
	f := &following{id: t.ID, raw: t.Raw, until: until, resumed: resumed, tell: tell}
	for err = c.through(ctx, f.run); IsKind(err, Unreachable); err = c.through(ctx, f.run) { // none of the agents: later, then
		if sleep(ctx, time.Second) != nil {
			break
		}
	}
	if ctx.Err() != nil && !IsKind(err, Interrupted) && err != nil {
		err = f.interrupted(ctx)
	}
	return c.lineOf(t.ID), err
}

// make is the first half of intend: what is durable when it returns.
func (c *Client) make(note string, same func(*wallet.Transaction) bool, build maker) (t wallet.Transaction, resumed bool, err error) {
	err = c.change(func(w *wallet.Wallet) error {
		for _, old := range w.Transactions() {
			if old.Intent != "" && (old.Status == wallet.Open || old.Status == wallet.Applied) && same(&old) {
				t, resumed = old, true
				return nil
			}
		}
		_, at := w.Trusted()
		terms := wallet.Terms{Intent: freshIntent(), Now: now(), ValidUntil: min(max(at.Time, now())+validity, types.MaxTime)}
		_, _ = rand.Read(terms.Salt[:])
		if t, err = build(w, terms); err == nil && note != "" {
			c.notes[t.ID] = note
		}
		return err
	})
	return t, resumed, err
}

func (c *Client) lineOf(id types.Hash) Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, _ := c.w.Transaction(id)
	return c.line(&t)
}

// following is a transaction on its way.
type following struct {
	c       visit
	id      types.Hash
	raw     []byte
	until   wallet.Tier
	began   time.Time // when it was first sent by this process; zero: not yet
	resumed bool
	tell    func(Progress)
	told    wallet.Tier
}

// run sends the transaction, as often as it takes, and listens until it has come far enough.
// If another agent may help, it returns what the matter is with this one.
func (f *following) run(c visit, ctx context.Context) error {
	f.c = c
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		if done, err := f.settled(); done {
			return err
		}
		err := f.once(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return f.interrupted(ctx)
		case IsKind(err, Failed), lied(err), says(err, saysInvalid, saysWrong):
			return err
		case IsKind(err, Unreachable) && c.hasOther():
			f.report(Progress{Tier: f.told, Trouble: err})
			return err
		case says(err, saysConflict):
			if err := f.resolve(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		f.report(Progress{Tier: f.told, Trouble: err})
		if sleep(ctx, wait) != nil {
			return f.interrupted(ctx)
		}
	}
}

func (f *following) report(p Progress) {
	if p.ID, p.Resumed = f.id, f.resumed; !f.began.IsZero() {
		p.After = time.Since(f.began)
	}
	f.tell(p)
}

func (f *following) interrupted(ctx context.Context) error {
	return refuse(Interrupted, ctx.Err(), "stopped waiting for transaction %s: it is kept, and goes on when the wallet is next used", f.id)
}

// settled reports whether the wallet has proof of what became of the transaction.
func (f *following) settled() (done bool, err error) {
	f.c.mu.Lock()
	t, _ := f.c.w.Transaction(f.id)
	f.c.mu.Unlock()
	switch t.Status {
	case wallet.Open:
		return false, nil
	case wallet.Applied:
		f.report(Progress{Tier: wallet.Final, Proven: true, Height: t.Event.Height})
		return true, nil
	case wallet.Rejected:
		return true, refuse(Failed, nil, "transaction %s was rejected: %s; nothing was paid, and its coins are free", f.id, t.Event.Reason)
	case wallet.Overtaken:
		return true, refuse(Failed, nil, "transaction %s lost its coins to another one of the same wallet: nothing was paid by it; see `charter wallet history`", f.id)
	default:
		return true, refuse(Failed, nil, "transaction %s was not applied while it was valid: nothing was paid, and its coins are free; pay again", f.id)
	}
}

// once watches the transaction, sends it, and reads until it has come far enough.
func (f *following) once(ctx context.Context) error {
	c, waiting := f.c, 0
	sent := false
	return c.watch(ctx, &v1.WatchRequest{Transactions: []string{f.id.String()}}, func(m *v1.WatchResponse) (done bool, err error) {
		if !sent { // the watch stands: from here on nothing is missed
			if f.began.IsZero() {
				f.began = time.Now()
			}
			if err := c.link.submit(ctx, c.Chain(), f.raw); err != nil {
				return false, err
			}
			sent = true
			if f.until == wallet.Made {
				return true, nil
			}
		}
		switch what := m.What.(type) {
		case *v1.WatchResponse_Tier:
			if what.Tier.Tier >= v1.Tier_TIER_WAITING {
				waiting = 0
			}
			return f.heard(what.Tier)
		case *v1.WatchResponse_Final:
			return f.prove(ctx, what.Final.Proof)
		case *v1.WatchResponse_Heartbeat:
			if waiting++; waiting == lostAfter {
				return false, errLost
			}
		}
		return false, nil
	})
}

// lostAfter is how many heartbeats, a second each, a transaction may stay unknown or without
// a new tier before it is sent again and asked about.
const lostAfter = 10

var errLost = errors.New("the agent has not moved the transaction for ten seconds: sending it again")

// tierOf is a tier in the wallet's terms: Made for one that is unknown, or waits, or is
// rejected, which is told with its proof.
func tierOf(t v1.Tier) wallet.Tier {
	if t < v1.Tier_TIER_KNOWN || t > v1.Tier_TIER_FINAL {
		return wallet.Made
	}
	return wallet.Known + wallet.Tier(t-v1.Tier_TIER_KNOWN)
}

// heard takes the agent's word for a tier.
func (f *following) heard(m *v1.TransactionTier) (done bool, err error) {
	tier := tierOf(m.Tier)
	if tier == wallet.Made {
		return false, nil
	}
	f.c.mu.Lock()
	err = f.c.w.Seen(f.raw, tier, now())
	f.c.mu.Unlock()
	if err != nil {
		return false, err
	}
	if tier > f.told {
		f.report(Progress{Tier: tier})
	}
	f.told = tier
	if tier < f.until || f.until == wallet.Final {
		return false, nil
	}
	return true, f.c.change(func(*wallet.Wallet) error { return nil })
}

// prove takes in the proof of what became of the transaction.
func (f *following) prove(ctx context.Context, file []byte) (done bool, err error) {
	if _, err := f.c.settleBy(ctx, f.id, file); err != nil {
		return false, err
	}
	if err := f.c.change(func(*wallet.Wallet) error { return nil }); err != nil {
		return false, err
	}
	return f.settled()
}

// resolve finds out by proofs why the agent will not take the transaction: its coins are
// gone, or its time is over.
func (f *following) resolve(ctx context.Context) error {
	if _, err := f.c.advance(ctx); err != nil {
		return err
	}
	err := f.c.settle(ctx, f.id)
	if err == nil || !says(err, saysNotFound, saysNotYet) {
		return errors.Join(err, f.c.change(func(*wallet.Wallet) error { return nil }))
	}
	f.c.mu.Lock()
	t, _ := f.c.w.Transaction(f.id)
	f.c.mu.Unlock()
	var locks []types.Key
	for _, in := range t.Tx.Inputs {
		locks = append(locks, in.Output.Lock)
	}
	if err := f.c.learnAll(ctx, locks); err != nil {
		return fmt.Errorf("finding out what became of transaction %s: %w", f.id, err)
	}
	return f.c.change(func(*wallet.Wallet) error { return nil })
}
