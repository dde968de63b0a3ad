package gossip

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"charter/transport"
	"charter/types"

	"golang.org/x/time/rate"
)

// link is a live connection to a peer, and what waits for it.
type link struct {
	peer *peer
	conn *transport.Conn
	gone chan struct{} // closed when nothing of it runs any more
	out  chan transport.Message

	// guarded by Gossip.mu
	queued  int            // bytes in out
	dropped uint64         // pushes that found no room
	pulling time.Time      // since when a pull by id is under way; zero for none
	heard   bool           // a status has come
	joined  bool           // join is done
	clocks  []types.Millis // how far its clock seemed ahead of ours, by its last statuses

	limits map[uint8]*rate.Limiter
	// One request of each costly kind is served at a time.
	servingBlocks, servingRange, servingTxs sync.Mutex
	ranging                                 chan struct{} // has room while no range is asked for

	forwards forwardQueue
}

func newLink(p *peer, conn *transport.Conn) *link {
	l := &link{
		peer: p, conn: conn, gone: make(chan struct{}), out: make(chan transport.Message, queueMessages),
		limits: map[uint8]*rate.Limiter{}, ranging: make(chan struct{}, 1), forwards: forwardQueue{ready: make(chan struct{}, 1)},
	}
	for kind, r := range rates {
		l.limits[kind] = rate.NewLimiter(r.perSecond, r.burst)
	}
	return l
}

// run is a link's life.
func (g *Gossip) run(l *link) {
	var parts sync.WaitGroup
	parts.Go(func() { g.write(l) })
	parts.Go(func() { g.forwardLoop(l) })
	parts.Go(func() {
		l.conn.Serve(func(ctx context.Context, m transport.Message) (transport.Message, error) { return g.answer(ctx, l, m) })
	})
	err := g.read(l)
	l.conn.Close(transport.CodeDone, "")
	parts.Wait()
	g.log.Info("peer disconnected", "peer", l.peer.Key.Short(), "why", err)
	g.unregister(l)
}

// write sends statuses and what is queued.
func (g *Gossip) write(l *link) {
	tick := time.NewTicker(g.timing.Status)
	defer tick.Stop()
	send := func(m transport.Message) bool {
		if err := l.conn.Send(m); err != nil {
			l.conn.Close(transport.CodeDone, "")
			return false
		}
		g.count(&g.stats.BytesOut, len(m.Data))
		return true
	}
	now := func() transport.Message {
		top, final := g.cfg.Chain.Heights()
		return status{top, final, g.cfg.Now(), g.cfg.Chain.Lowest()}.encode()
	}
	if !send(now()) {
		return
	}
	for {
		select {
		case m := <-l.out:
			if !send(m) {
				return
			}
			g.mu.Lock()
			l.queued -= len(m.Data)
			g.mu.Unlock()
		case <-tick.C:
			if !send(now()) {
				return
			}
		case <-l.conn.Done():
			return
		}
	}
}

// read takes what the other side pushes, until the connection is over.
func (g *Gossip) read(l *link) error {
	from := l.peer.Key
	for {
		m, err := l.conn.Receive()
		if err != nil {
			if breach(err) {
				g.count(&g.stats.Garbage, 1)
				g.charge(from, scoreBreach, "breach of framing: "+err.Error())
			}
			return err
		}
		g.count(&g.stats.BytesIn, len(m.Data))
		if !g.inRate(l, m.Kind) {
			continue
		}
		switch m.Kind {
		case kindStatus:
			err = g.takeStatus(l, m.Data)
		case kindBlock:
			err = g.takePush(l, m.Data)
		case kindVotes:
			var votes []types.SignedVote
			if votes, err = decodeVotes(m.Data); err == nil {
				g.cfg.Chain.DeliverVotes(from, votes)
			}
		default:
			err = fmt.Errorf("kind %d is no push", m.Kind)
		}
		if err != nil {
			g.garbage(from, err)
		}
	}
}

func breach(err error) bool {
	return transport.IsKind(err, transport.Oversize) || transport.IsKind(err, transport.UnknownKind) || transport.IsKind(err, transport.Cut)
}

// garbage charges for a message that does not decode.
func (g *Gossip) garbage(from types.Key, err error) {
	g.count(&g.stats.Garbage, 1)
	g.charge(from, scoreGarbage, "garbage: "+err.Error())
}

// inRate reports whether a message is within its rate. One that is not is dropped.
func (g *Gossip) inRate(l *link, kind uint8) bool {
	if lim := l.limits[kind]; lim == nil || lim.Allow() {
		return true
	}
	g.count(&g.stats.OverRate, 1)
	g.charge(l.peer.Key, scoreRate, "over rate")
	return false
}

func (g *Gossip) takeStatus(l *link, data []byte) error {
	s, err := decodeStatus(data)
	if err != nil {
		return err
	}
	top, _ := g.cfg.Chain.Heights()
	g.mu.Lock()
	defer g.mu.Unlock()
	p := l.peer
	p.status = s
	if !l.heard {
		g.spawn(func() { g.join(l) })
	}
	// Half a round trip ago it was as late there as it says; earlier, if the status had to wait.
	l.heard = true
	l.clocks = append(l.clocks, s.Clock+types.Millis(l.conn.RTT().Milliseconds()/2)-g.cfg.Now())
	l.clocks = l.clocks[max(0, len(l.clocks)-clockStatuses):]
	if s.Top > top && p.stuckAt == top {
		p.stuck++
	} else {
		p.stuck, p.stuckAt = 0, top
	}
	g.wake()
	return nil
}

func (g *Gossip) takePush(l *link, data []byte) error {
	b, err := decodePush(data, g.cfg.ChainID)
	if err != nil {
		return err
	}
	top, _ := g.cfg.Chain.Heights()
	g.mu.Lock()
	known, ahead := g.seen.has(b.ID), b.Height > top+maxPushAhead
	switch {
	case ahead:
		g.stats.Ahead++
	case known:
		g.stats.Duplicates++
	case b.Author == l.peer.Key:
		l.peer.status.Top = max(l.peer.status.Top, b.Height)
	}
	g.mu.Unlock()
	if !ahead && !known {
		g.deliver(l.peer.Key, []block{b})
	}
	return nil
}

var (
	errBusy = errors.New("one at a time")
	errRate = errors.New("over rate")
)

// answer serves a request.
func (g *Gossip) answer(ctx context.Context, l *link, m transport.Message) (reply transport.Message, err error) {
	g.count(&g.stats.BytesIn, len(m.Data))
	if !g.inRate(l, m.Kind) {
		return reply, errRate
	}
	serve := func(one *sync.Mutex, f func() (transport.Message, error)) (transport.Message, error) {
		if !one.TryLock() {
			g.count(&g.stats.OverRate, 1)
			return transport.Message{}, errBusy
		}
		defer one.Unlock()
		return f()
	}
	switch m.Kind {
	case kindGetBlocks:
		ids, err := decodeGetBlocks(m.Data)
		if err == nil {
			return serve(&l.servingBlocks, func() (transport.Message, error) { return g.serveBlocks(ids) })
		}
		g.garbage(l.peer.Key, err)
		return reply, err
	case kindGetRange:
		from, err := decodeGetRange(m.Data)
		if err == nil {
			return serve(&l.servingRange, func() (transport.Message, error) { return g.serveRange(from) })
		}
		g.garbage(l.peer.Key, err)
		return reply, err
	case kindTxs:
		txs, err := decodeTxs(m.Data)
		if err == nil {
			return serve(&l.servingTxs, func() (transport.Message, error) { return g.serveTxs(ctx, txs), nil })
		}
		g.garbage(l.peer.Key, err)
		return reply, err
	}
	err = fmt.Errorf("kind %d is no request", m.Kind)
	g.garbage(l.peer.Key, err)
	return reply, err
}

func (g *Gossip) serveBlocks(ids []types.Hash) (transport.Message, error) {
	var (
		blocks []types.RawBlock
		places []int // of each block among the ids
		size   int
	)
	looked := 0
	for ; looked < len(ids) && size < maxBlocks; looked++ {
		b, ok, err := g.cfg.Chain.Block(ids[looked])
		if err != nil {
			return transport.Message{}, fmt.Errorf("look up block %s: %w", ids[looked].Short(), err)
		}
		if ok {
			blocks, places = append(blocks, b), append(places, looked)
			size += 8 + b.Size()
		}
	}
	g.count(&g.stats.Served, len(blocks))
	return batchMessage(blocks, func(n int) uint64 {
		if n < len(blocks) {
			return uint64(places[n])
		}
		return uint64(looked)
	}), nil
}

func (g *Gossip) serveRange(from uint64) (transport.Message, error) {
	// Who asks knows from our status what is kept; it may have gone since.
	blocks, err := g.cfg.Chain.Blocks(max(from, g.cfg.Chain.Lowest()), maxBlocks)
	if err != nil {
		return transport.Message{}, fmt.Errorf("look up blocks from height %d: %w", from, err)
	}
	heights := make([]uint64, len(blocks))
	for i, b := range blocks {
		h, err := types.DecodeBlock(b.Header)
		if err != nil {
			return transport.Message{}, fmt.Errorf("own block does not decode: %w", err)
		}
		heights[i] = h.Height
	}
	g.count(&g.stats.Served, len(blocks))
	top, _ := g.cfg.Chain.Heights()
	return batchMessage(blocks, func(n int) uint64 { return nextHeight(heights, n, from, top) }), nil
}

// nextHeight is where a range goes on behind its first n blocks. Of a height that does not
// fit into one reply the asker pulls the rest by id.
func nextHeight(heights []uint64, n int, from, top uint64) uint64 {
	switch {
	case n < len(heights) && heights[n] > from:
		return heights[n]
	case n < len(heights):
		return from + 1
	case n > 0 && heights[n-1] < top:
		return heights[n-1] + 1
	}
	return 0
}

func (g *Gossip) serveTxs(ctx context.Context, txs [][]byte) transport.Message {
	errs := g.cfg.Chain.SubmitForwarded(ctx, txs)
	g.count(&g.stats.TxsIn, len(txs))
	return resultsMessage(errs)
}
