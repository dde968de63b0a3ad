package client

import (
	"context"
	"errors"
	"time"

	v1 "charter/api/charter/v1"
	"charter/types"
	"charter/wallet"
)

// News is one thing that a Watch tells: one field is set.
type News struct {
	Line    *Line    // a transaction is new, or has come further
	Balance *Balance // the balance is another
	Height  uint64   // the agent is alive, and its final height is this
	Trouble error    // the agent does not answer, or not rightly: it is tried again
}

// Watch tells what happens to the wallet until ctx ends, which is no error: first all that the
// history has, then what comes. A wallet that is open for reading only sees what other
// processes write to its file, too.
func (c *Client) Watch(ctx context.Context, tell func(News)) error {
	o := observer{Client: c, tell: tell, lines: make(map[types.Hash]Line)}
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := c.through(ctx, o.once)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			wait = time.Second
			continue
		}
		if IsKind(err, NoAgent) || IsKind(err, NoNetwork) || IsKind(err, WrongNetwork) || IsKind(err, Damaged) {
			return err
		}
		tell(News{Trouble: err})
		if sleep(ctx, wait) != nil {
			return nil
		}
	}
}

// observer is a Watch: what was told.
type observer struct {
	*Client
	tell    func(News)
	lines   map[types.Hash]Line
	balance *Balance
}

// once brings the wallet up to now, tells the difference, and waits until there is more.
func (o *observer) once(c visit, ctx context.Context) error {
	if err := c.reload(); err != nil {
		return err
	}
	if err := c.sync(ctx); err != nil {
		return err
	}
	o.changes()
	c.mu.Lock()
	r := &v1.WatchRequest{Locks: texts(c.w.Locks()), FromHeight: c.synced.Height + 1}
	open := make(map[string][]byte)
	for _, t := range c.w.Pending() {
		open[t.ID.String()] = t.Raw
		r.Transactions = append(r.Transactions, t.ID.String())
	}
	c.mu.Unlock()
	r.Locks = r.Locks[max(0, len(r.Locks)-watchMax):] // the newest; Sync asks for all
	var until uint64                                  // what came is provable once this height is certified
	return c.watch(ctx, r, func(m *v1.WatchResponse) (done bool, err error) {
		switch what := m.What.(type) {
		case *v1.WatchResponse_Key:
			until = max(until, what.Key.Height)
		case *v1.WatchResponse_Final:
			return true, nil
		case *v1.WatchResponse_Tier:
			if tier := tierOf(what.Tier.Tier); tier > wallet.Made && open[what.Tier.Id] != nil {
				c.mu.Lock()
				err = c.w.Seen(open[what.Tier.Id], tier, now())
				c.mu.Unlock()
				o.changes()
			}
		case *v1.WatchResponse_Heartbeat:
			o.tell(News{Height: what.Heartbeat.FinalHeight})
			if changed, err := c.changed(); changed || err != nil {
				return true, err
			}
			return until > 0 && what.Heartbeat.CertifiedHeight >= until, nil
		}
		return false, err
	})
}

// changes tells the lines and the balance that are other than they were.
func (o *observer) changes() {
	for _, l := range o.History() {
		if was, there := o.lines[l.ID]; !there || was.Status != l.Status || was.Tier != l.Tier {
			o.lines[l.ID] = l
			o.tell(News{Line: &l})
		}
	}
	b := o.Balance()
	same := b
	if o.balance != nil {
		same.AsOf = o.balance.AsOf
	}
	if o.balance == nil || same != *o.balance {
		o.balance = &b
		o.tell(News{Balance: &b})
	}
}

// changed reports whether another process has written the file.
func (c *Client) changed() (bool, error) {
	if !c.config.ReadOnly {
		return false, nil
	}
	return c.file.changed()
}

// reload reads the file again, if another process has written it.
func (c *Client) reload() error {
	if changed, err := c.changed(); err != nil || !changed {
		return err
	}
	plain, err := c.file.reread()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.load(plain), c.list(c.config.Others))
}
