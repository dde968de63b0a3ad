package gossip

import (
	"errors"
	"fmt"
	"time"

	"charter/types"
)

// want is a block that the chain lacks. It is asked of one peer after the other: of the one that
// sent a descendant first, then of the others. Who does not answer soon, as one that was just cut
// off, is not waited for: the next is asked besides.
type want struct {
	from   types.Key
	tried  map[types.Key]bool // in this round; some may not have answered yet
	asking int                // how many those are
	asked  time.Time          // when the last of them was asked
	rounds int                // times that all peers were tried
	next   time.Time
}

// Want asks for blocks that the chain lacks; from sent something that names them. Those
// above the bounds are not asked for, and score from: an honest peer is never so far ahead
// without catching up by range.
func (g *Gossip) Want(ids []types.Hash, from types.Key) {
	g.mu.Lock()
	inFrom := 0
	for _, w := range g.wants {
		if w.from == from {
			inFrom++
		}
	}
	flood := 0
	for _, id := range ids {
		if g.wants[id] != nil {
			continue
		}
		if len(g.wants) >= maxWanted || inFrom >= maxWantedFrom {
			flood++
			continue
		}
		inFrom++
		g.wants[id] = &want{from: from, tried: map[types.Key]bool{}}
	}
	g.stats.WantsDropped += uint64(flood)
	g.wake()
	g.mu.Unlock()
	if flood > 0 {
		g.charge(from, scoreNoParent*float64(flood), "flood of unknown parents")
	}
}

// Have says that the chain got these blocks on another way, or does not want them any more.
func (g *Gossip) Have(ids []types.Hash) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, id := range ids {
		delete(g.wants, id)
	}
}

// scheduleEvery bounds how long a want that waits for its next round waits too long.
const scheduleEvery = 50 * time.Millisecond

// schedule hands wants to peers, and begins to catch up where that is due.
func (g *Gossip) schedule() {
	tick := time.NewTicker(scheduleEvery)
	defer tick.Stop()
	for {
		select {
		case <-g.kick:
		case <-tick.C:
		case <-g.ctx.Done():
			return
		}
		g.assign()
		g.checkBehind()
	}
}

// assign gives each idle link the wants that it is to be asked for.
func (g *Gossip) assign() {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	jobs := map[*link][]types.Hash{}
	for id, w := range g.wants {
		if now.Before(w.next) || w.asking == maxAsked || w.asking > 0 && now.Sub(w.asked) < g.timing.Hedge {
			continue
		}
		l, waiting := g.source(w, jobs)
		switch {
		case l != nil:
			w.asking++
			w.asked, w.tried[l.peer.Key] = now, true
			jobs[l] = append(jobs[l], id)
		case waiting || w.asking > 0:
		default:
			g.nextRound(id, w, now)
		}
	}
	for l, ids := range jobs {
		l.pulling = now
		g.spawn(func() { g.pull(l, ids) })
	}
}

// source is the link to ask for w, or none; waiting says that some untried one is busy.
func (g *Gossip) source(w *want, jobs map[*link][]types.Hash) (l *link, waiting bool) {
	free := func(l *link) bool { return l.pulling.IsZero() && len(jobs[l]) < maxIDs }
	if p := g.peers[w.from]; p != nil && p.link != nil && !w.tried[w.from] {
		switch {
		case free(p.link):
			return p.link, false
		case p.link.pulling.IsZero() || time.Since(p.link.pulling) < g.timing.Hedge:
			return nil, true
		}
	}
	for key, p := range g.peers { // in random order, as maps go
		if p.link == nil || w.tried[key] {
			continue
		}
		if free(p.link) {
			return p.link, false
		}
		waiting = true
	}
	return nil, waiting
}

// nextRound lets a want rest that all peers were asked for, and gives it up in the end.
func (g *Gossip) nextRound(id types.Hash, w *want, now time.Time) {
	w.rounds++
	if w.rounds > maxPullRounds {
		delete(g.wants, id)
		g.stats.Abandoned++
		return
	}
	clear(w.tried)
	w.next = now.Add(jitter(backoff(g.timing.DialMin, w.rounds, g.timing.DialMax)))
}

var errUnasked = errors.New("the reply holds what was not asked for")

// pull asks a link for blocks and settles the wants.
func (g *Gossip) pull(l *link, ids []types.Hash) {
	blocks, looked, err := g.pullBlocks(l, ids)
	from := l.peer.Key
	g.mu.Lock()
	l.pulling = time.Time{}
	got := make(map[types.Hash]bool, len(blocks))
	wanted := blocks[:0]
	for _, b := range blocks {
		got[b.ID] = true
		if g.wants[b.ID] != nil {
			wanted = append(wanted, b)
		} else {
			g.stats.Duplicates++
		}
	}
	g.stats.Pulls++
	g.stats.Pulled += uint64(len(blocks))
	missing := 0
	for i, id := range ids {
		w := g.wants[id]
		if w == nil || got[id] {
			continue
		}
		w.asking = max(0, w.asking-1) // it may be wanted anew meanwhile
		if i >= looked && err == nil {
			delete(w.tried, from) // it did not fit into the reply
		} else if err == nil && w.from == from && w.rounds == 0 {
			missing++
		}
	}
	g.wake()
	g.mu.Unlock()
	if errors.Is(err, errUnasked) {
		g.charge(from, scoreUnasked, err.Error())
	}
	if missing > 0 {
		g.count(&g.stats.NoParent, missing)
		g.charge(from, scoreNoParent*float64(missing), "sent a block and lacks what it names")
	}
	g.deliver(from, wanted)
}

// pullBlocks is the request and its reply, checked against what was asked.
func (g *Gossip) pullBlocks(l *link, ids []types.Hash) (blocks []block, looked int, err error) {
	m, err := g.request(l, getBlocksMessage(ids), g.timing.Request)
	if err != nil {
		return nil, 0, err
	}
	b, err := decodeBatch(m.Data, g.cfg.ChainID)
	if err != nil || m.Kind != kindBlocks {
		err = fmt.Errorf("reply of kind %d: %w", m.Kind, err)
		g.garbage(l.peer.Key, err)
		return nil, 0, err
	}
	place := 0
	for _, x := range b.Blocks { // in the order asked, each once
		for place < len(ids) && ids[place] != x.ID {
			place++
		}
		if place++; place > len(ids) {
			return nil, 0, errUnasked
		}
	}
	if b.Next > uint64(len(ids)) || uint64(place) > b.Next && len(b.Blocks) > 0 || b.Next == 0 {
		return nil, 0, errUnasked
	}
	return b.Blocks, int(b.Next), nil
}
