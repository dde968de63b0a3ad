package chain

import (
	"context"
	"errors"
	"runtime"

	"charter/ledger"
	"charter/store"
	"charter/types"

	"golang.org/x/sync/errgroup"
)

// Answer is what became of one of several submitted transactions. Where Err is nil, it is durable.
type Answer struct {
	ID  types.Hash // zero where the transaction does not decode
	Err error      // *Error of kinds Invalid, Conflict, PoolFull, or one that is not the transaction's fault
}

// Submit takes a transaction from a wallet: it checks it, makes it durable, and gives its id.
// One that was submitted before is no error. Errors: *Error of kinds Invalid, Conflict, PoolFull.
func (c *Chain) Submit(ctx context.Context, raw []byte) (types.Hash, error) {
	a := c.SubmitAll(ctx, [][]byte{raw})[0]
	return a.ID, a.Err
}

// SubmitAll is Submit for many, in this order: their signatures are checked together, and one
// write makes them durable. Each has its own answer.
func (c *Chain) SubmitAll(ctx context.Context, raws [][]byte) []Answer {
	out := make([]Answer, len(raws))
	own := make([][]byte, len(raws)) // what is kept must not change
	for i, raw := range raws {
		own[i] = append([]byte(nil), raw...)
	}
	parsed := c.checker.transactions(own, out)
	c.conflicts(parsed, out)
	m := submission{reply: make(chan []error, 1)}
	var of []int // the answer that each of m's is
	for i, p := range parsed {
		if p != nil {
			m.txs, m.raws, of = append(m.txs, p), append(m.raws, own[i]), append(of, i)
		}
	}
	if len(of) == 0 {
		return out
	}
	errs, err := c.submit(ctx, m)
	for j, i := range of {
		switch {
		case err != nil:
			out[i].Err = err
		case errs[j] != nil:
			out[i].Err = poolError(errs[j])
		}
	}
	return out
}

// submit has the loop take transactions in, and makes those durable that it took.
func (c *Chain) submit(ctx context.Context, m submission) (errs []error, err error) {
	if err := c.send(m); err != nil {
		return nil, err
	}
	select {
	case errs = <-m.reply:
	case <-c.quit:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	var taken []store.Waiting
	for i, p := range m.txs {
		if errs[i] == nil {
			taken = append(taken, store.Waiting{ID: p.ID, Raw: m.raws[i]})
		}
	}
	if len(taken) == 0 {
		return errs, nil
	}
	return errs, c.cfg.Store.PutPool(taken...)
}

// admit puts submitted transactions into the pool.
func (c *Chain) admit(m submission) []error {
	now := c.cfg.Now()
	errs := make([]error, len(m.txs))
	ids := make([]types.Hash, 0, len(m.txs))
	for i, p := range m.txs {
		held := c.pool.Has(p.ID)
		if errs[i] = c.rival(p); errs[i] != nil {
			continue
		}
		if errs[i] = c.pool.Add(p.ID, p.Tx, m.raws[i], now); errs[i] == nil && !held {
			ids = append(ids, p.ID)
		}
	}
	c.place(ids, now)
	return errs
}

// transactions parses transactions and verifies their signatures together, or knows them. It gives
// those that are good, nil for the others, whose answers it writes; raws must not change afterwards.
func (k *checker) transactions(raws [][]byte, answers []Answer) []*ledger.Parsed {
	out := make([]*ledger.Parsed, len(raws))
	leaves := make([]types.Hash, len(raws))
	fresh := make([]bool, len(raws))
	each(len(raws), func(i int) error {
		p, leaf, known, err := k.parse(raws[i])
		if err != nil {
			answers[i].Err = invalidError(err)
			return nil
		}
		out[i], leaves[i], fresh[i], answers[i].ID = p, leaf, !known, p.ID
		return nil
	})
	var u unverified
	for i, p := range out {
		if p != nil && fresh[i] {
			for j, s := range p.Signatures {
				u.add(s, func(err error) error { return p.Blame(j, err) })
			}
			u.learn = append(u.learn, func() { k.remember(leaves[i], p) })
		}
	}
	if _, err := k.wallets.verify(&u); err == nil {
		return out
	}
	each(len(out), func(i int) error { // one by one, to tell the bad from the good
		if out[i] == nil || !fresh[i] {
			return nil
		}
		if err := out[i].Verify(); err != nil {
			out[i], answers[i] = nil, Answer{Err: invalidError(err)}
			return nil
		}
		k.remember(leaves[i], out[i])
		return nil
	})
	return out
}

// each does f for 0 … n−1, by all processors, some in a row. It gives the first error.
func each(n int, f func(i int) error) error {
	const stride = 16
	if n <= stride {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for from := 0; from < n; from += stride {
		g.Go(func() error {
			for i := from; i < min(from+stride, n); i++ {
				if err := f(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// conflicts answers for the transactions that are settled already, and refuses those that the
// final state would refuse. Neither are among parsed any more.
func (c *Chain) conflicts(parsed []*ledger.Parsed, answers []Answer) {
	pin := c.pins.latest()
	if pin != nil {
		defer c.pins.drop(pin)
	}
	for i, p := range parsed {
		if p == nil {
			continue
		}
		settled, err := false, errors.New("no state yet")
		if pin != nil {
			settled, err = pin.conflict(p, &c.sieve)
		}
		if err != nil || settled {
			parsed[i], answers[i].Err = nil, err
		}
	}
}

// conflict reports whether a transaction is settled already, or refuses one that the final
// state would.
func (pin *pin) conflict(p *ledger.Parsed, s *sieve) (settled bool, err error) {
	if !s.absent(p.ID) {
		if e, err := pin.snap.Event(p.ID); err != nil || e != nil && (e.Kind == types.Applied || ledger.Terminal(e.Reason)) {
			return e != nil, err
		}
	}
	if p.Tx.ValidUntil < pin.time {
		return false, refuse(Conflict, types.TooLate.String(), "the transaction was valid until %s, and consensus time is %s: make a new one", p.Tx.ValidUntil, pin.time)
	}
	for i, in := range p.Tx.Inputs {
		o, err := pin.snap.Output(in.Position)
		switch {
		case err != nil:
			return false, err
		case o == nil || o.Source != in.Source || o.Index != in.Index || o.Output != in.Output:
			return false, refuse(Conflict, types.UnknownOutput.String(), "input %d names an output at position %d that is not there in the final state: wait until what pays it is final, or refresh the wallet", i, in.Position)
		case o.SpentHeight > 0:
			return false, refuse(Conflict, types.SpentOutput.String(), "input %d: the output at position %d was spent at height %d", i, in.Position, o.SpentHeight)
		}
	}
	return false, pin.objection(p)
}

// SubmitForwarded is SubmitAll for transactions that another peer sent on.
func (c *Chain) SubmitForwarded(ctx context.Context, raws [][]byte) []error {
	errs := make([]error, len(raws))
	for i, a := range c.SubmitAll(ctx, raws) {
		errs[i] = a.Err
	}
	return errs
}

// Unforwarded tells of a transaction that its host could not be given: this peer carries it
// itself then.
func (c *Chain) Unforwarded(raw []byte) {
	var answers [1]Answer
	if p := c.checker.transactions([][]byte{raw}, answers[:])[0]; p != nil { // it was checked when it was submitted
		_ = c.send(unforwarded(p.ID))
	}
}
