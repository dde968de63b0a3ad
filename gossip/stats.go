package gossip

import (
	"bytes"
	"slices"
	"time"

	"charter/types"
)

// Stats counts since Start. Nothing is dropped that is not counted here.
type Stats struct {
	Connected, Disconnected uint64 // links begun and ended
	DialErrors              uint64
	Refused                 uint64 // connections of others: not a peer, or banned

	Pushed         uint64 // messages queued for a peer
	QueueDrops     uint64 // and not queued, because the peer is slow
	TxsOut         uint64 // transactions that their host answered for
	TxsIn          uint64 // transactions that others forwarded to us
	ForwardsFailed uint64 // transactions that their host did not take
	Served         uint64 // blocks given on request

	Delivered   uint64 // blocks handed to the chain
	Undelivered uint64 // and not taken
	Duplicates  uint64 // blocks that came once more and were dropped
	Ahead       uint64 // pushes dropped because they are far above us
	Pulls       uint64 // requests by id
	Pulled      uint64 // blocks they brought
	Ranges      uint64 // requests by height
	Ranged      uint64 // blocks they brought

	Garbage      uint64 // messages that do not decode, and breaches of framing
	OverRate     uint64 // messages above their rate, dropped
	NoParent     uint64 // blocks that their descendant's sender lacks
	WantsDropped uint64 // wants above the bounds
	Abandoned    uint64 // wants that nobody could serve
	Timeouts     uint64 // requests that nobody answered in time
	Charged      uint64 // entries in scores
	Bans         uint64 // connections closed for their score

	BytesIn, BytesOut uint64 // of messages

	// As of now, not counted:
	Links    int    // live connections
	Wanted   int    // blocks wanted
	Queued   int    // bytes waiting for slow peers
	Syncing  bool   // catching up from far behind
	SyncFrom uint64 // height at which this catch-up began
	SyncAt   uint64 // height from which is asked next
	SyncTo   uint64 // height of the peer that is asked
}

// Stats are the counters as of now.
func (g *Gossip) Stats() Stats {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	for _, p := range g.peers {
		if p.link != nil {
			s.Links++
			s.Queued += p.link.queued
		}
	}
	s.Wanted, s.Syncing = len(g.wants), g.syncing
	s.SyncFrom, s.SyncAt, s.SyncTo = g.span.From, g.span.At, g.span.To
	return s
}

func (g *Gossip) count(counter *uint64, n int) {
	g.mu.Lock()
	*counter += uint64(n)
	g.mu.Unlock()
}

// PeerStatus is what is known of a peer.
type PeerStatus struct {
	Peer
	Connected  bool
	Dialed     bool          // by us
	Remote     string        // host:port it is connected from
	RTT        time.Duration // zero while not connected
	Top, Final uint64        // as it last said
	Lowest     uint64        // height from which on it keeps all blocks, as it last said; 0 for all
	Heard      bool          // it has said so on this connection
	Joined     bool          // and has given what it had above where this process began
	ClockAhead types.Millis  // how far its clock is ahead of ours, by its last statuses; negative where it is behind
	Lag        uint64        // heights that it is below our top
	Ahead      uint64        // heights that it is above our top
	Score      float64
	Banned     time.Duration // for how long still
	QueueDrops uint64        // pushes that found no room on this connection
	DialError  string        // of the last attempt to dial that failed, while not connected
}

// Peers tells of each peer, in order of their keys.
func (g *Gossip) Peers() []PeerStatus {
	top, _ := g.cfg.Chain.Heights()
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]PeerStatus, 0, len(g.peers))
	for _, p := range g.peers {
		s := PeerStatus{Peer: p.Peer, Top: p.status.Top, Final: p.status.Final, Lowest: p.status.Lowest, Score: p.scoreAt(now), Banned: max(0, p.banned.Sub(now))}
		s.Lag, s.Ahead = max(top, s.Top)-s.Top, max(top, s.Top)-top
		if l := p.link; l != nil {
			s.Connected, s.Dialed, s.QueueDrops = true, l.conn.Dialed(), l.dropped
			s.Remote, s.RTT = l.conn.RemoteAddr().String(), l.conn.RTT()
			if s.Heard, s.Joined = l.heard, l.joined; l.heard {
				s.ClockAhead = slices.Max(l.clocks)
			}
		} else if p.failed != nil {
			s.DialError = p.failed.Error()
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b PeerStatus) int { return bytes.Compare(a.Key[:], b.Key[:]) })
	return list
}
