package gossip

import (
	"context"
	"fmt"
	"sync"
	"time"

	"charter/transport"
	"charter/types"
)

// ForwardKind says why a transaction was not taken by the peer that it was forwarded to.
type ForwardKind uint8

const (
	// NotConnected: there is no connection to the host.
	NotConnected ForwardKind = iota + 1
	// Busy: too many transactions wait for the host already.
	Busy
	// Unanswered: the host got it or not; it did not say.
	Unanswered
	// Rejected: the host said no.
	Rejected
)

var forwardKinds = map[ForwardKind]string{NotConnected: "not connected", Busy: "busy", Unanswered: "no answer", Rejected: "rejected"}

// String is the kind in words.
func (k ForwardKind) String() string { return forwardKinds[k] }

// ForwardError is what Forward tells where the host did not take the transaction.
type ForwardError struct {
	Kind   ForwardKind
	Host   types.Key
	Detail string
}

func (e *ForwardError) Error() string {
	return fmt.Sprintf("forward to peer %s: %s: %s", e.Host.Short(), e.Kind, e.Detail)
}

// forward is a transaction on its way to its host.
type forward struct {
	raw  []byte
	done func(error)
}

// forwardQueue holds what waits for one host.
type forwardQueue struct {
	mu     sync.Mutex
	list   []forward
	bytes  int
	closed bool
	ready  chan struct{}
}

// put reports why f was not queued, zero if it was.
func (q *forwardQueue) put(f forward) ForwardKind {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return NotConnected
	case len(q.list) == forwardCount || q.bytes+len(f.raw) > forwardBytes:
		return Busy
	}
	q.list = append(q.list, f)
	q.bytes += len(f.raw)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return 0
}

// take removes as many as fit one message.
func (q *forwardQueue) take() (list []forward) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 2
	for n < len(q.list) && n < maxTxs && size+4+len(q.list[n].raw) <= maxTxsSize {
		size += 4 + len(q.list[n].raw)
		q.bytes -= len(q.list[n].raw)
		n++
	}
	list = q.list[:n:n]
	if q.list = q.list[n:]; len(q.list) == 0 {
		q.list = nil
	}
	return list
}

// close ends the queue and removes all.
func (q *forwardQueue) close() []forward {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	list := q.list
	q.list, q.bytes = nil, 0
	return list
}

// Forward sends a transaction to the peer that hosts its first input. It does not wait: done
// is called once, from another goroutine, with nil when the host has it durable, else with a
// *ForwardError.
func (g *Gossip) Forward(raw []byte, host types.Key, done func(error)) {
	why := NotConnected
	if len(raw) <= types.MaxTransaction {
		g.mu.Lock()
		if p := g.peers[host]; p != nil && p.link != nil {
			why = p.link.forwards.put(forward{raw, done})
		}
		g.mu.Unlock()
	} else {
		why = Rejected
	}
	if why == 0 {
		return
	}
	g.count(&g.stats.ForwardsFailed, 1)
	go done(&ForwardError{why, host, fmt.Sprintf("%d bytes stay here", len(raw))})
}

// forwardLoop sends what waits, as much at a time as gathered during the last round trip.
func (g *Gossip) forwardLoop(l *link) {
	defer func() {
		g.failForwards(l, l.forwards.close(), NotConnected, "the connection was lost")
	}()
	for {
		select {
		case <-l.forwards.ready:
		case <-l.conn.Done():
			return
		}
		for list := l.forwards.take(); len(list) > 0; list = l.forwards.take() {
			g.forward(l, list)
		}
	}
}

func (g *Gossip) forward(l *link, list []forward) {
	txs := make([][]byte, len(list))
	for i, f := range list {
		txs[i] = f.raw
	}
	m, err := g.request(l, txsMessage(txs), g.timing.Request)
	var results []result
	if err == nil {
		if results, err = decodeResults(m.Data); err == nil && (m.Kind != kindResults || len(results) != len(list)) {
			err = fmt.Errorf("%d results of kind %d for %d transactions", len(results), m.Kind, len(list))
		}
		if err != nil {
			g.garbage(l.peer.Key, err)
		}
	}
	if err != nil {
		g.failForwards(l, list, Unanswered, err.Error())
		return
	}
	g.count(&g.stats.TxsOut, len(list))
	for i, r := range results {
		if r.Taken {
			list[i].done(nil)
		} else {
			g.failForwards(l, list[i:i+1], Rejected, r.Reason)
		}
	}
}

func (g *Gossip) failForwards(l *link, list []forward, why ForwardKind, detail string) {
	g.count(&g.stats.ForwardsFailed, len(list))
	for _, f := range list {
		f.done(&ForwardError{why, l.peer.Key, detail})
	}
}

// request asks the other side of a link, and charges it for no reply in time.
func (g *Gossip) request(l *link, m transport.Message, patience time.Duration) (transport.Message, error) {
	ctx, cancel := context.WithTimeout(g.ctx, patience)
	defer cancel()
	reply, err := l.conn.Request(ctx, m)
	g.count(&g.stats.BytesOut, len(m.Data))
	g.count(&g.stats.BytesIn, len(reply.Data))
	switch {
	case err == nil:
	case breach(err):
		g.count(&g.stats.Garbage, 1)
		g.charge(l.peer.Key, scoreBreach, "breach of framing: "+err.Error())
	case ctx.Err() != nil && g.ctx.Err() == nil:
		g.count(&g.stats.Timeouts, 1)
		g.charge(l.peer.Key, scoreTimeout, "no reply in time")
	}
	return reply, err
}
