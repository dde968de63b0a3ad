package gossip

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"charter/transport"
	"charter/types"
)

// charge adds to a peer's score, which falls with time. At the limit the connection closes
// and a back-off holds, twice as long each time.
func (g *Gossip) charge(who types.Key, points float64, reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Charged++
	p := g.peers[who]
	now := time.Now()
	if p == nil || now.Before(p.banned) { // what was still under way
		return
	}
	p.score = p.scoreAt(now) + points
	p.scored = now
	g.log.Debug("peer charged", "peer", who.Short(), "points", points, "score", p.score, "reason", reason)
	if p.score < scoreLimit {
		return
	}
	p.score = 0
	p.bans++
	hold := backoff(g.timing.Ban, p.bans, g.timing.BanMax)
	p.banned = now.Add(hold)
	g.stats.Bans++
	g.log.Warn("peer dropped", "peer", who.Short(), "reason", reason, "for", hold)
	g.drop(p, transport.CodeBanned, reason)
}

func (p *peer) scoreAt(now time.Time) float64 {
	return max(0, p.score-scoreDecay*now.Sub(p.scored).Seconds())
}

// deliver hands blocks to the chain and remembers them; what they satisfy is wanted no more.
func (g *Gossip) deliver(from types.Key, blocks []block) error {
	if len(blocks) == 0 {
		return nil
	}
	raw := make([]types.RawBlock, len(blocks))
	g.mu.Lock()
	for i, b := range blocks {
		raw[i] = b.RawBlock
		g.seen.add(b.ID)
		delete(g.wants, b.ID)
	}
	g.stats.Delivered += uint64(len(blocks))
	g.mu.Unlock()
	err := g.cfg.Chain.Deliver(from, raw)
	if err == nil {
		return nil
	}
	g.mu.Lock()
	g.stats.Undelivered += uint64(len(blocks))
	for _, b := range blocks {
		g.seen.remove(b.ID)
	}
	g.mu.Unlock()
	var o Offence
	if errors.As(err, &o) {
		who := o.Offender()
		if who.IsZero() {
			who = from
		}
		g.charge(who, scoreInvalid, "invalid: "+err.Error())
	} else if g.ctx.Err() == nil {
		g.log.Error("the chain took no blocks", "from", from.Short(), "error", err)
	}
	return err
}

// seenSet remembers the last seenBlocks ids.
type seenSet struct {
	ids  map[types.Hash]struct{}
	ring []types.Hash
	next int
}

func newSeenSet() seenSet { return seenSet{ids: map[types.Hash]struct{}{}} }

func (s *seenSet) has(id types.Hash) bool { _, ok := s.ids[id]; return ok }

func (s *seenSet) add(id types.Hash) {
	if s.has(id) {
		return
	}
	s.ids[id] = struct{}{}
	if len(s.ring) < seenBlocks {
		s.ring = append(s.ring, id)
		return
	}
	delete(s.ids, s.ring[s.next])
	s.ring[s.next] = id
	s.next = (s.next + 1) % seenBlocks
}

func (s *seenSet) remove(id types.Hash) { delete(s.ids, id) }

// backoff is base for n = 1, doubles with each n, and ends at most.
func backoff(base time.Duration, n int, most time.Duration) time.Duration {
	for ; n > 1 && base < most; n-- {
		base *= 2
	}
	return min(base, most)
}

// jitter is between half of d and d, so that peers that failed together do not come back
// together.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// sleep waits, and reports whether ctx still holds.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
