package agent

import (
	"context"
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	v1 "charter/api/charter/v1"
	"charter/chain"
	"charter/types"
)

func TestWatchLimits(t *testing.T) {
	s := serve(t, func(l *Limits) { l.PerClient, l.Locks, l.Ids, l.Watched = 2, 3, 2, 5 })
	locks := func(n int) (out []string) {
		for i := range n {
			out = append(out, key(byte(i)).String())
		}
		return out
	}
	refused := func(kind Kind, m *v1.WatchRequest) {
		t.Helper()
		if err := s.watch(t.Context(), m).end(); detail(err).GetKind() != string(kind) {
			t.Errorf("%v: %v, want %s", m, err, kind)
		}
	}
	refused(TooLarge, &v1.WatchRequest{Locks: locks(4)})
	refused(TooLarge, &v1.WatchRequest{Transactions: locks(3)})
	refused(BadRequest, &v1.WatchRequest{Locks: []string{"g"}})
	one := s.watch(t.Context(), &v1.WatchRequest{Locks: locks(3)})
	defer one.close()
	one.heartbeat(0)
	refused(TooMany, &v1.WatchRequest{Locks: locks(3)})
	two := s.watch(t.Context(), &v1.WatchRequest{Transactions: locks(2)})
	two.heartbeat(0)
	refused(TooMany, &v1.WatchRequest{})
	two.close()
	eventually(t, "a closed watch is still charged", func() bool { return s.agent.clients.watches() == 1 })
	three := s.watch(t.Context(), &v1.WatchRequest{})
	defer three.close()
	three.heartbeat(0)
}

func TestAllWatchesTaken(t *testing.T) {
	s := serve(t, func(l *Limits) { l.Watches = 1 })
	w := s.watch(t.Context(), &v1.WatchRequest{})
	defer w.close()
	w.heartbeat(0)
	if err := s.watch(t.Context(), &v1.WatchRequest{}).end(); detail(err).GetKind() != string(Busy) {
		t.Errorf("second watch: %v", err)
	}
}

func TestCallsAtOnce(t *testing.T) {
	s := serve(t, func(l *Limits) { l.Calls = 1 })
	entered, leave := make(chan bool), make(chan bool)
	s.submit = func(context.Context, []byte) error {
		entered <- true
		<-leave
		return nil
	}
	done := make(chan error)
	go func() {
		_, err := s.client.Submit(context.Background(), ask(&v1.SubmitRequest{Transaction: transaction(1).Encode()}))
		done <- err
	}()
	<-entered
	if _, err := s.client.Status(t.Context(), ask(&v1.StatusRequest{})); detail(err).GetKind() != string(Busy) {
		t.Errorf("a call beyond the limit: %v", err)
	}
	leave <- true
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := s.client.Status(t.Context(), ask(&v1.StatusRequest{})); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestRequestRate(t *testing.T) {
	c := clients{limits: Limits{Requests: 10, Burst: 3, Clients: 4}}
	now := time.Unix(1000, 0)
	passed := func(remote string, n int) (ok int) {
		for range n {
			if c.requests(remote, 1, now) == nil {
				ok++
			}
		}
		return ok
	}
	if n := passed("1.2.3.4:1", 5) + passed("1.2.3.4:2", 5); n != 3 {
		t.Errorf("%d of a burst, want 3", n)
	}
	if n := passed("[2001:db8::1]:1", 5) + passed("[2001:db8::2]:1", 5); n != 3 {
		t.Errorf("%d of a burst of an IPv6 network, want 3", n)
	}
	if n := passed("[::ffff:1.2.3.4]:1", 1); n != 0 {
		t.Errorf("IPv4 in IPv6 is another client")
	}
	now = now.Add(200 * time.Millisecond)
	if n := passed("1.2.3.4:1", 5); n != 2 {
		t.Errorf("%d after a fifth of a second, want 2", n)
	}
	now = now.Add(200 * time.Millisecond)
	if c.requests("1.2.3.4:1", 3, now) == nil || c.requests("1.2.3.4:1", 2, now) != nil {
		t.Errorf("not as many at once as one by one")
	}
	for i := range 50 {
		now = now.Add(time.Second)
		if passed(fmt.Sprintf("10.0.0.%d:1", i), 1) != 1 {
			t.Errorf("new client %d is refused", i)
		}
		if len(c.byAddr) > 4 {
			t.Fatalf("%d clients remembered, want no more than 4", len(c.byAddr))
		}
	}
}

// Clients with open watches are not forgotten, and when there are only those, nobody enters.
func TestClientsWithWatchesStay(t *testing.T) {
	c := clients{limits: Limits{Requests: 10, Burst: 3, Clients: 2, Watches: 9, PerClient: 9, Watched: 9}}
	now := time.Unix(1000, 0)
	var last func()
	for i := range 2 {
		closing, err := c.watch(fmt.Sprintf("10.0.0.%d:1", i), 1, now)
		if err != nil {
			t.Fatal(err)
		}
		last = closing
	}
	if c.requests("10.0.0.9:1", 1, now) == nil {
		t.Errorf("a client beyond the limit entered")
	}
	last()
	if err := c.requests("10.0.0.9:1", 1, now); err != nil {
		t.Errorf("no room was made: %v", err)
	}
}

func gather(t *testing.T, a *Agent) map[string]float64 {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(a); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			switch {
			case m.Gauge != nil:
				out[name] = m.Gauge.GetValue()
			case m.Counter != nil:
				out[name] = m.Counter.GetValue()
			case m.Histogram != nil:
				out[name] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return out
}

func TestMetrics(t *testing.T) {
	s := serve(t, nil)
	for n := range byte(3) {
		if _, err := s.client.Submit(t.Context(), ask(&v1.SubmitRequest{Transaction: transaction(n).Encode()})); err != nil {
			t.Fatal(err)
		}
	}
	s.submit = func(context.Context, []byte) error { return &chain.Error{Kind: chain.PoolFull, Text: "full"} }
	if _, err := s.client.Submit(t.Context(), ask(&v1.SubmitRequest{Transaction: transaction(3).Encode()})); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Fatal(err)
	}
	s.publish(chain.Update{
		Height: 9, Final: 8, Certified: 7, Tiers: []chain.TierChange{at(s.id(0), hash(1), chain.Known), at(s.id(1), hash(1), chain.Selected), at(s.id(3), hash(1), chain.Known)},
		Events: []types.Event{{Kind: types.Applied, Transaction: s.id(0)}, {Kind: types.Rejected, Transaction: s.id(2), Reason: types.TooLate}},
	})
	w := s.watch(t.Context(), &v1.WatchRequest{})
	w.heartbeat(8)
	defer w.close()
	got := gather(t, s.agent)
	for name, want := range map[string]float64{
		"charter_height": 9, "charter_final_height": 8, "charter_certified_height": 7, "charter_shares": 4.5,
		"charter_pool_transactions": 5, "charter_pool_bytes": 600, "charter_connections": 7, "charter_watches": 1,
		"charter_peer_shares bob": 1.5, "charter_peer_lag bob": 3, "charter_peer_connected ann": 1, "charter_peer_connected bob": 0,
		"charter_peer_rtt_seconds bob": 0.00025,
		"charter_tier_seconds known":   2, "charter_tier_seconds selected": 2, "charter_tier_seconds official": 1, "charter_tier_seconds final": 1,
		"charter_agent_answers_total Submit ok": 3, "charter_agent_answers_total Submit resource_exhausted": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	st, err := s.client.Status(t.Context(), ask(&v1.StatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if tiers := st.Msg.Tiers; len(tiers) != 4 || tiers[0].Tier != v1.Tier_TIER_KNOWN || tiers[0].Count != 2 || tiers[3].Count != 1 || tiers[0].P99Ms < tiers[0].P50Ms || tiers[3].P50Ms <= 0 {
		t.Errorf("tiers %v", tiers)
	}
}

// The meter keeps no more than its bounds, and measures what is submitted twice from the first.
func TestMeterBounds(t *testing.T) {
	m := newMeter()
	start := time.Now().Add(-time.Hour)
	if !m.submitted(hash(1), start) || m.submitted(hash(1), time.Now()) {
		t.Fatal("a clock is started once")
	}
	m.update(&chain.Update{Tiers: []chain.TierChange{at(hash(1), types.Hash{}, chain.Known)}})
	if s := m.summary(); len(s) != 1 || s[0].P50Ms < 3.5e6 {
		t.Errorf("summary %v", s)
	}
	for n := range maxClocks + 10 {
		m.submitted(hash(n+2), start)
	}
	if len(m.started) != maxClocks || m.started[hash(1)] != nil || m.started[hash(maxClocks+11)] == nil {
		t.Errorf("%d clocks run, want the newest %d", len(m.started), maxClocks)
	}
}
