package peer

import (
	"cmp"
	"context"
	"slices"
	"time"

	"charter/agent"
	"charter/gossip"
	"charter/types"
)

// Status is how the peer is now: its chain and its connections.
func (p *Peer) Status() agent.Status {
	s := p.chain.Status()
	out := agent.Status{
		Key: p.self, Name: p.name(), Height: s.Height, Final: s.Final, Certified: s.Certified,
		PoolTransactions: s.PoolTransactions, PoolBytes: s.PoolBytes, Lowest: s.Lowest,
	}
	shares := make(map[types.Key]types.Amount, len(s.Members))
	for _, m := range s.Members {
		shares[m.Peer] = m.Shares
		out.Shares += m.Shares
	}
	links := make(map[types.Key]gossip.PeerStatus)
	for _, l := range p.gossip.Peers() {
		if links[l.Key] = l; l.Connected {
			out.Connections++
		}
	}
	if p.api != nil {
		out.Connections += int(p.api.open.Load())
	}
	for _, r := range *p.registered.Load() {
		l := links[r.Peer]
		out.Peers = append(out.Peers, agent.Peer{
			Key: r.Peer, Name: r.Name, Address: r.Address, Shares: shares[r.Peer],
			Connected: l.Connected || r.Peer == p.self, Lag: s.Height - min(s.Height, s.Heights[r.Peer]), RTT: l.RTT, Lowest: l.Lowest,
		})
	}
	return out
}

// name is the peer's own registered name, empty for none.
func (p *Peer) name() string {
	for _, r := range *p.registered.Load() {
		if r.Peer == p.self {
			return r.Name
		}
	}
	return ""
}

// refresh reads the registered peers, and tells gossip if they have changed.
func (p *Peer) refresh() {
	list, err := p.chain.Peers()
	old := p.registered.Load()
	if err != nil {
		p.log.Error("cannot read the registered peers", "error", err)
		if old == nil {
			p.registered.Store(new([]types.PeerState))
		}
		return
	}
	p.registered.Store(&list)
	who := make([]gossip.Peer, len(list))
	for i, r := range list {
		who[i] = gossip.Peer{Key: r.Peer, Address: r.Address}
	}
	same := old != nil && slices.EqualFunc(list, *old, func(a, b types.PeerState) bool { return a.Peer == b.Peer && a.Address == b.Address })
	if !same {
		p.gossip.SetPeers(who)
	}
}

// warnUnknown says so if the peer has no weight.
func (p *Peer) warnUnknown() {
	if p.name() == "" {
		p.log.Warn("this peer is not registered: the others let it in only when it is", "key", p.self,
			"do", "charter peer register --dir "+p.cfg.Dir+" (a wallet pays the fee), or name it in the genesis of a new network")
		return
	}
	deciding := types.Snapshot{Members: p.chain.Status().Members} // empty in the first moment
	if _, member := deciding.Find(p.self); !member && len(deciding.Members) > 0 {
		p.log.Warn("no shares are registered with this peer: it follows the chain and has no weight in it", "key", p.self)
	}
}

const (
	peersEvery  = 2 * time.Second        // between looks at the registered peers
	reportEvery = 10 * time.Second       // between lines in the log
	clockFirst  = 100 * time.Millisecond // between looks at the clocks, at the start
	clockEvery  = time.Second            // and later
	clockGrace  = 5 * time.Second        // after the start, for the others' clocks to be heard
)

func (p *Peer) watchPeers(ctx context.Context) {
	tick := time.NewTicker(peersEvery)
	defer tick.Stop()
	var seen uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if final := p.chain.Status().Final; final != seen {
				seen = final
				p.refresh()
			}
		}
	}
}

// report logs one line now and then, for an operator who looks.
func (p *Peer) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s := p.Status()
			connected := 0
			for _, r := range s.Peers {
				if r.Connected && r.Key != p.self {
					connected++
				}
			}
			p.log.Info("status", "height", s.Height, "final", s.Final, "certified", s.Certified,
				"peers", connected, "of", len(s.Peers)-1, "pool", s.PoolTransactions, "syncing", p.chain.Status().Syncing)
		}
	}
}

// clock is the chain's clock: the machine's, but while that is far off the others'.
func (p *Peer) clock() types.Millis { return p.cfg.now() + types.Millis(p.correction.Load()) }

// watchClock compares the machine's clock with the other peers'. While it is far off, the
// peer follows by theirs and builds no blocks: from a time that has not come, they would be held
// back by all others, and the peer could not build others in their place.
func (p *Peer) watchClock(ctx context.Context) {
	limit := max(p.genesis.Params.WaitQuorum/2, 500)
	began, every := time.Now(), clockFirst
	adrift := true
	for first := true; ; {
		drift, enough := p.heardClocks()
		p.drift.Store(int64(drift))
		off := drift > limit || drift < -limit
		// It may still turn out to be off; or right, if what was heard first came late.
		unsure := first && (off && drift < 10*limit && drift > -10*limit || !off && !enough) && time.Since(began) < clockGrace
		if was := types.Millis(p.correction.Load()); !off || unsure {
			p.correction.Store(0)
		} else if drift-was > limit || drift-was < -limit {
			p.correction.Store(int64(drift))
		}
		switch {
		case unsure:
		case off != adrift || first:
			p.chain.SetAdrift(off)
			if off {
				p.log.Error("this machine's clock is off; the peer makes no blocks until it is right", "others_ahead_by", (time.Duration(drift) * time.Millisecond).String(),
					"limit", (time.Duration(limit) * time.Millisecond).String(), "do", "set the clock, and keep it by NTP")
			} else if !first {
				p.log.Info("this machine's clock is right again; the peer makes blocks")
			}
			adrift, first, every = off, false, clockEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
	}
}

// heardClocks is the median, weighted by shares, of how far the peers' clocks are ahead of ours,
// with our own as zero; a tie goes to the smaller. Enough says that peers with more than half of
// the shares have also given us what they had above where we began: that we would know by now if we
// had signed what we have lost (gossip, join).
func (p *Peer) heardClocks() (drift types.Millis, enough bool) {
	type clock struct {
		ahead  types.Millis
		shares types.Amount
	}
	var total, heard, joined types.Amount
	var clocks []clock
	links := make(map[types.Key]gossip.PeerStatus)
	for _, l := range p.gossip.Peers() {
		links[l.Key] = l
	}
	for _, m := range p.chain.Status().Members {
		total += m.Shares
		if m.Peer == p.self {
			clocks, heard, joined = append(clocks, clock{0, m.Shares}), heard+m.Shares, joined+m.Shares
		} else if l := links[m.Peer]; l.Connected && l.Heard {
			clocks, heard = append(clocks, clock{l.ClockAhead, m.Shares}), heard+m.Shares
			if l.Joined {
				joined += m.Shares
			}
		}
	}
	slices.SortFunc(clocks, func(a, b clock) int { return cmp.Compare(a.ahead, b.ahead) })
	// The lowest and the highest value that half of the shares are on each side of.
	var low, high types.Millis
	var below types.Amount
	for _, c := range clocks {
		if below*2 < heard {
			low = c.ahead
		}
		if below*2 <= heard {
			high = c.ahead
		}
		below += c.shares
	}
	switch {
	case low > 0:
		drift = low
	case high < 0:
		drift = high
	}
	return drift, joined*2 > total
}
