package gossip

import (
	"fmt"
	"math/rand/v2"
	"time"

	"charter/types"
)

// span is how far a catch-up is.
type span struct{ From, At, To uint64 }

// checkBehind begins to catch up when a peer is far above us, or somewhat above us for a
// while with us unmoved.
func (g *Gossip) checkBehind() {
	top, final := g.cfg.Chain.Heights()
	from := unsure(top, final, overlap) + 1
	g.mu.Lock()
	defer g.mu.Unlock()
	best := g.best(from)
	g.warnLost(best, top, from)
	if g.running || best == nil || g.ctx.Err() != nil {
		return
	}
	far := best.status.Top > top+behindBy
	if !far && (best.stuck < stuckStatuses || best.status.Top <= top) {
		return
	}
	g.running = true
	best.stuck = 0
	g.spawn(func() { g.catchUp(far) })
}

// best is the connected peer that is highest, among those whose height is believed, and that keep
// all blocks from a height on.
func (g *Gossip) best(from uint64) (best *peer) {
	now := time.Now()
	for _, p := range g.peers {
		if p.link != nil && now.After(p.doubted) && p.status.Lowest <= from && (best == nil || p.status.Top > best.status.Top) {
			best = p
		}
	}
	return best
}

// warnLost says so, now and then, if those far above us keep too little for us to follow.
func (g *Gossip) warnLost(best *peer, top, from uint64) {
	if best != nil && best.status.Top > top+behindBy || time.Since(g.warned) < time.Minute {
		return
	}
	for _, p := range g.peers {
		if p.link != nil && p.status.Top > top+behindBy && p.status.Lowest > from {
			g.warned = time.Now()
			g.log.Warn("no connected peer keeps the blocks from here on: this peer cannot catch up", "height", top, "kept_from", p.status.Lowest,
				"do", "connect a peer that keeps more, or remove the store and join again (--join)")
			return
		}
	}
}

// anySource is a link to one of the highest peers, drawn anew for each batch: the load is
// spread, and who answers in crumbs delays little.
func (g *Gossip) anySource(from uint64) (l *link) {
	best := g.best(from)
	if best == nil {
		return nil
	}
	now, n := time.Now(), 0
	for _, p := range g.peers {
		if p.link == nil || now.Before(p.doubted) || p.status.Lowest > from || p.status.Top+behindBy < best.status.Top {
			continue
		}
		if n++; rand.IntN(n) == 0 {
			l = p.link
		}
	}
	return l
}

// catchUp pulls ranges of heights until nobody is far above us. It asks one peer at a time
// and goes on with another where one fails; while the chain takes in one batch the next is
// on its way.
func (g *Gossip) catchUp(far bool) {
	top, _ := g.cfg.Chain.Heights()
	if far {
		g.setSyncing(true)
		g.log.Info("catching up", "from", top)
	}
	// A pass ends where its peer has no more. As long as passes lead on, more follow.
	for g.pass() && far && g.farBehind() {
	}
	if far {
		g.setSyncing(false)
		now, _ := g.cfg.Chain.Heights()
		g.log.Info("caught up", "from", top, "to", now)
	}
	g.mu.Lock()
	g.running, g.span = false, span{}
	g.mu.Unlock()
}

func (g *Gossip) setSyncing(on bool) {
	g.mu.Lock()
	g.syncing = on
	g.mu.Unlock()
	g.cfg.Chain.SetSyncing(on)
}

func (g *Gossip) farBehind() bool {
	top, final := g.cfg.Chain.Heights()
	g.mu.Lock()
	defer g.mu.Unlock()
	best := g.best(unsure(top, final, overlap) + 1)
	return best != nil && best.status.Top > top+closeBy
}

// pass pulls from where others may have something new to the end of what a peer has. It reports
// whether another pass may bring more: this one led higher, or another peer may do better.
func (g *Gossip) pass() bool {
	top, final := g.cfg.Chain.Heights()
	from := unsure(top, final, overlap) + 1
	var (
		source    *link
		claim     uint64
		last      = top // greatest height received
		delivered = make(chan error, 1)
	)
	delivered <- nil
	settle := func() error {
		err := <-delivered
		delivered <- nil
		return err
	}
	for {
		g.mu.Lock()
		if source = g.anySource(from); source != nil {
			claim = source.peer.status.Top
			g.span = span{top, from, max(claim, from)}
		}
		g.mu.Unlock()
		if source == nil {
			settle()
			return false
		}
		b, err := g.pullRange(source, from)
		if err != nil {
			g.doubt(source.peer)
			continue
		}
		for _, x := range b.Blocks {
			last = max(last, x.Height)
		}
		if err := <-delivered; err != nil {
			delivered <- nil
			g.doubt(source.peer)
			return true // from our own top once more, and from somebody else
		}
		key := source.peer.Key
		g.tasks.Go(func() { delivered <- g.deliver(key, g.fresh(b.Blocks)) })
		if b.Next == 0 {
			break
		}
		from = b.Next
	}
	if err := settle(); err != nil {
		g.doubt(source.peer)
		return true
	}
	if last < claim {
		g.doubt(source.peer)
		g.charge(source.peer.Key, scoreShort, fmt.Sprintf("claims height %d and gives blocks up to %d", claim, last))
	}
	if g.settled(top, last) {
		g.believe(source.peer)
	} else {
		g.doubt(source.peer)
	}
	return true
}

// unsure is the height up to which nothing that others have can be new here: the final one, for
// in a cut each side builds heights of its own above it; or a few heights below the own top, if that
// is lower; but not so low that it would be a long way for little.
func unsure(top, final, few uint64) uint64 {
	few = max(top, few) - few
	return max(min(few, final), max(top, maxUnsure)-maxUnsure)
}

// fresh are the blocks of a range that the chain does not have: ranges overlap what is there, and
// those of many peers one another.
func (g *Gossip) fresh(blocks []block) []block {
	var out []block
	for _, b := range blocks {
		g.mu.Lock()
		seen := g.seen.has(b.ID)
		g.mu.Unlock()
		if seen { // and taken, unless the chain has let go of it
			if _, ok, err := g.cfg.Chain.Block(b.ID); ok && err == nil {
				g.count(&g.stats.Duplicates, 1)
				continue
			}
		}
		out = append(out, b)
	}
	return out
}

// settled waits until the chain has taken in what it was given, as long as that goes on, and
// reports whether its height has risen.
func (g *Gossip) settled(before, last uint64) bool {
	top, _ := g.cfg.Chain.Heights()
	risen := time.Now()
	for last > before && top < last && time.Since(risen) < g.timing.Settle && sleep(g.ctx, g.timing.Settle/300) {
		if now, _ := g.cfg.Chain.Heights(); now > top {
			top, risen = now, time.Now()
		}
	}
	return top > before
}

// doubt takes a peer out of the sources for a while, twice as long each time in a row.
func (g *Gossip) doubt(p *peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.doubts++
	p.doubted = time.Now().Add(backoff(g.timing.Doubt, p.doubts, g.timing.BanMax))
}

func (g *Gossip) believe(p *peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p.doubts = 0
}

// pullRange asks for a batch of blocks from a height on, and checks that it is one.
func (g *Gossip) pullRange(l *link, from uint64) (batch, error) {
	l.ranging <- struct{}{} // the other side serves one at a time
	defer func() { <-l.ranging }()
	m, err := g.request(l, getRangeMessage(from), g.timing.Range)
	if err != nil {
		return batch{}, err
	}
	b, err := decodeBatch(m.Data, g.cfg.ChainID)
	if err != nil || m.Kind != kindBlocks {
		err = fmt.Errorf("reply of kind %d: %w", m.Kind, err)
		g.garbage(l.peer.Key, err)
		return batch{}, err
	}
	g.count(&g.stats.Ranges, 1)
	g.count(&g.stats.Ranged, len(b.Blocks))
	at := from
	for _, x := range b.Blocks {
		if x.Height < at {
			at = types.MaxHeight + 1
			break
		}
		at = x.Height
	}
	if at > types.MaxHeight || b.Next != 0 && (b.Next <= from || b.Next < at || len(b.Blocks) == 0) {
		g.charge(l.peer.Key, scoreUnasked, errUnasked.Error())
		return batch{}, errUnasked
	}
	return b, nil
}
