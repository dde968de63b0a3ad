package gossip

import "time"

// join asks a peer that was just connected for the blocks from a little below our top, which
// is about where this process began, or from our final height, and hands them over. A peer that has
// lost its newest blocks, say because an old copy of its directory was put back, must learn of them
// before it makes others in their place; and those connected may have them before they have anything
// that names them. A peer that was connected before in this life of ours is asked for what is not
// final only, few at a time: after a cut the first of them bring what their side has built,
// and the next have little to add.
func (g *Gossip) join(l *link) {
	g.mu.Lock()
	few, again := uint64(2*behindBy), l.peer.joined
	g.mu.Unlock()
	if again {
		few = overlap
		select {
		case g.rejoin <- struct{}{}:
			defer func() { <-g.rejoin }()
		case <-l.conn.Done():
			return
		}
	}
	for {
		top, _ := g.cfg.Chain.Heights()
		g.mu.Lock()
		far := l.peer.status.Top > top+behindBy // catching up comes first, and brings the most
		g.mu.Unlock()
		if !far {
			break
		}
		select {
		case <-time.After(g.timing.Settle / 100):
		case <-l.conn.Done():
			return
		}
	}
	top, final := g.cfg.Chain.Heights()
	from := unsure(top, final, few) + 1
	for range joinRanges {
		b, err := g.pullRange(l, from)
		if err != nil || g.deliver(l.peer.Key, g.fresh(b.Blocks)) != nil {
			return
		}
		if from = b.Next; from == 0 {
			break
		}
	}
	g.mu.Lock()
	l.joined, l.peer.joined = true, true
	g.mu.Unlock()
}

// joinRanges bounds what is asked of a peer that is not far above us: a few batches of full blocks.
const joinRanges = 16
