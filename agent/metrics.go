package agent

import (
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	v1 "charter/api/charter/v1"
	"charter/chain"
	"charter/ledger"
	"charter/types"
)

// meter measures how long transactions take from their submit to each tier, and counts
// answers.
type meter struct {
	seconds *prometheus.HistogramVec             // by tier
	tiers   [chain.Final + 1]prometheus.Observer // of seconds
	answers *prometheus.CounterVec               // by call and code

	mu      sync.Mutex
	started map[types.Hash]*clock
	order   []types.Hash // ring of those started, so that what is never settled is forgotten
	next    int
	times   [chain.Final + 1]recent
}

// clock is how long a transaction runs, and how far it got.
type clock struct {
	from time.Time
	tier chain.Tier
}

// recent are the last times to a tier, in seconds.
type recent struct {
	count uint64
	ring  [1024]float64
}

// maxClocks bounds the transactions that are being timed; beyond, the oldest is not any more.
const maxClocks = 1 << 16

func newMeter() *meter {
	m := &meter{
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "charter_tier_seconds", Help: "Time from submit at this agent to a tier, seconds.",
			Buckets: []float64{.005, .01, .02, .03, .05, .075, .1, .15, .2, .3, .5, .75, 1, 2, 5, 10, 30, 60},
		}, []string{"tier"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "charter_agent_answers_total", Help: "Calls answered, and watches ended, by code.",
		}, []string{"call", "code"}),
		started: make(map[types.Hash]*clock),
	}
	for t := chain.Known; t <= chain.Final; t++ {
		m.tiers[t] = m.seconds.WithLabelValues(t.String())
	}
	return m
}

// submitted starts the clock of a transaction, and reports whether it was not running.
func (m *meter) submitted(id types.Hash, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.started[id] != nil {
		return false
	}
	m.started[id] = &clock{from: now, tier: chain.Waiting}
	if len(m.order) < maxClocks {
		m.order = append(m.order, id)
		return true
	}
	delete(m.started, m.order[m.next])
	m.order[m.next] = id
	m.next = (m.next + 1) % maxClocks
	return true
}

func (m *meter) forget(id types.Hash) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.started, id)
}

// update takes the times of the tiers that an update tells. A tier that was passed over was
// reached with the one above it.
func (m *meter) update(u *chain.Update) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range u.Tiers {
		m.reached(t.Transaction, t.Tier, now)
	}
	for i := range u.Events {
		if u.Events[i].Kind == types.Applied {
			m.reached(u.Events[i].Transaction, chain.Final, now)
		}
		if u.Events[i].Kind == types.Applied || ledger.Terminal(u.Events[i].Reason) {
			delete(m.started, u.Events[i].Transaction)
		}
	}
}

func (m *meter) reached(id types.Hash, tier chain.Tier, now time.Time) {
	c := m.started[id]
	if c == nil {
		return
	}
	s := now.Sub(c.from).Seconds()
	for ; c.tier < tier; c.tier++ {
		r := &m.times[c.tier+1]
		r.ring[r.count%uint64(len(r.ring))] = s
		r.count++
		m.tiers[c.tier+1].Observe(s)
	}
}

// summary is for Status: the tiers that some transaction reached.
func (m *meter) summary() (out []*v1.TierTime) {
	m.mu.Lock()
	times := m.times
	m.mu.Unlock()
	for t := chain.Known; t <= chain.Final; t++ {
		r := &times[t]
		if r.count == 0 {
			continue
		}
		s := r.ring[:min(r.count, uint64(len(r.ring)))]
		slices.Sort(s)
		out = append(out, &v1.TierTime{
			Tier: v1.Tier(t), Count: r.count,
			P50Ms: 1000 * s[(len(s)-1)/2], P99Ms: 1000 * s[(len(s)-1)*99/100],
		})
	}
	return out
}

// answered counts an answer. Procedure is one of the schema's, or the path of a request that
// was refused at the door, which may be anything.
func (m *meter) answered(procedure, code string) {
	call := path.Base(procedure)
	if !strings.Contains(" Submit SubmitAll Watch Proof Checkpoint Advance Status Genesis Directory log ", " "+call+" ") {
		call = "other"
	}
	m.answers.WithLabelValues(call, code).Inc()
}

func gauge(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("charter_"+name, help, labels, nil)
}

// What Collect tells, besides charter_tier_seconds and charter_agent_answers_total.
var (
	descHeight        = gauge("height", "Greatest height of a block that the peer holds.")
	descFinal         = gauge("final_height", "Greatest height whose order is final and applied.")
	descCertified     = gauge("certified_height", "Height of the newest certified checkpoint.")
	descShares        = gauge("shares", "Shares of all members of the snapshot that decides now.")
	descPool          = gauge("pool_transactions", "Transactions that wait for a block.")
	descPoolBytes     = gauge("pool_bytes", "Bytes of the transactions that wait for a block.")
	descConnections   = gauge("connections", "Open connections, to peers and wallets.")
	descWatches       = gauge("watches", "Open watches.")
	descPeerShares    = gauge("peer_shares", "Shares of a peer in the snapshot that decides now.", "peer")
	descPeerLag       = gauge("peer_lag", "Heights that a peer's newest block here is behind ours.", "peer")
	descPeerConnected = gauge("peer_connected", "1 if a connection to the peer is up, else 0.", "peer")
	descPeerRTT       = gauge("peer_rtt_seconds", "Round-trip time to a peer, seconds; 0 while not known.", "peer")
)

// Describe implements prometheus.Collector.
func (a *Agent) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descHeight, descFinal, descCertified, descShares, descPool, descPoolBytes, descConnections, descWatches,
		descPeerShares, descPeerLag, descPeerConnected, descPeerRTT,
	} {
		out <- d
	}
	a.meter.seconds.Describe(out)
	a.meter.answers.Describe(out)
}

// Collect implements prometheus.Collector: the peer's Status, once, in numbers, and what
// the agent measures. The label peer is the peer's name, and its key if it has none.
func (a *Agent) Collect(out chan<- prometheus.Metric) {
	s := a.status()
	put := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	put(descHeight, float64(s.Height))
	put(descFinal, float64(s.Final))
	put(descCertified, float64(s.Certified))
	put(descShares, shares(s.Shares))
	put(descPool, float64(s.PoolTransactions))
	put(descPoolBytes, float64(s.PoolBytes))
	put(descConnections, float64(s.Connections))
	put(descWatches, float64(a.clients.watches()))
	for _, p := range s.Peers {
		label := p.Name
		if label == "" {
			label = p.Key.String()
		}
		connected := 0.0
		if p.Connected {
			connected = 1
		}
		put(descPeerShares, shares(p.Shares), label)
		put(descPeerLag, float64(p.Lag), label)
		put(descPeerConnected, connected, label)
		put(descPeerRTT, p.RTT.Seconds(), label)
	}
	a.meter.seconds.Collect(out)
	a.meter.answers.Collect(out)
}

// shares is an amount for a graph; graphs need not be exact.
func shares(a types.Amount) float64 { return float64(a) / float64(types.UnitsPerShare) }
