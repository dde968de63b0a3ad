package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/chain"
	"charter/types"
)

// watching is a watch as a client has it.
type watching struct {
	stream *connect.ServerStreamForClient[v1.WatchResponse]
	cancel context.CancelFunc
}

func (s *setup) watch(ctx context.Context, m *v1.WatchRequest) *watching {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second) // of a test that fails
	stream, err := s.client.Watch(ctx, ask(m))
	if err != nil {
		panic(err) // the request of a stream does not fail before its first message
	}
	return &watching{stream, cancel}
}

// next is the next message that is no heartbeat, or nil at the end.
func (w *watching) next() *v1.WatchResponse {
	for w.stream.Receive() {
		if w.stream.Msg().GetHeartbeat() == nil {
			return w.stream.Msg()
		}
	}
	return nil
}

// heartbeat waits for one at a final height, and gives the messages before it.
func (w *watching) heartbeat(final uint64) (before []*v1.WatchResponse) {
	for w.stream.Receive() {
		m := w.stream.Msg()
		if b := m.GetHeartbeat(); b == nil {
			before = append(before, m)
		} else if b.FinalHeight >= final {
			return before
		}
	}
	return append(before, nil)
}

func (w *watching) end() error {
	defer w.close()
	for w.stream.Receive() {
	}
	return w.stream.Err()
}

func (w *watching) close() {
	w.cancel()
	w.stream.Close()
}

func TestWatchTransaction(t *testing.T) {
	s := serve(t, nil)
	good, bad, other := s.id(1), s.id(2), s.id(3)
	for n := range byte(2) {
		if _, err := s.client.Submit(t.Context(), ask(&v1.SubmitRequest{Transaction: transaction(n + 1).Encode()})); err != nil {
			t.Fatal(err)
		}
	}
	w := s.watch(t.Context(), &v1.WatchRequest{Transactions: []string{good.String(), bad.String(), other.String(), good.String()}})
	defer w.close()
	tier := func(id types.Hash, want chain.Tier, block types.Hash, reason string) {
		t.Helper()
		m := w.next().GetTier()
		if m.GetId() != id.String() || chain.Tier(m.GetTier()) != want || m.GetReason() != reason || block.IsZero() != (m.GetBlock() == "") || !block.IsZero() && m.GetBlock() != block.String() {
			t.Fatalf("got %v, want %s of %s", m, want, id)
		}
	}
	tier(good, chain.Waiting, types.Hash{}, "")
	tier(bad, chain.Waiting, types.Hash{}, "")
	tier(other, chain.Unknown, types.Hash{}, "")
	block := hash(77)
	s.publish(chain.Update{At: 1, Height: 1, Tiers: []chain.TierChange{at(good, block, chain.Known), at(hash(1000), block, chain.Known), at(bad, block, chain.Known)}})
	tier(good, chain.Known, block, "")
	tier(bad, chain.Known, block, "")
	s.publish(chain.Update{At: 2, Height: 2, Tiers: []chain.TierChange{at(good, block, chain.Selected)}})
	tier(good, chain.Selected, block, "")
	s.publish(chain.Update{At: 2, Height: 2, Tiers: []chain.TierChange{at(good, block, chain.Official)}})
	tier(good, chain.Official, block, "")
	s.publish(chain.Update{At: 3, Height: 3, Tiers: []chain.TierChange{at(good, block, chain.Known)}}) // lost again
	tier(good, chain.Known, block, "")
	early := types.Event{Kind: types.Rejected, Transaction: good, Block: block, Height: 3, Time: 8, Reason: types.TooEarly}
	s.publish(chain.Update{At: 3, Height: 3, Final: 3, Events: []types.Event{early}}) // not the last word: nothing is told
	applied := types.Event{Kind: types.Applied, Transaction: good, Block: block, Height: 3, Time: 9, Outputs: 1}
	refused := types.Event{Kind: types.Rejected, Transaction: bad, Block: block, Height: 4, Time: 9, Reason: types.SpentOutput}
	s.publish(chain.Update{At: 4, Height: 5, Final: 4, Events: []types.Event{applied, refused}})
	tier(good, chain.Final, block, "")
	tier(bad, chain.Rejected, block, "output already spent")
	s.publish(chain.Update{At: 5, Height: 5, Tiers: []chain.TierChange{at(bad, block, chain.Official)}}) // nothing follows what is settled
	for _, e := range []*types.Event{&applied, &refused} {
		s.publish(chain.Update{Certified: e.Height})
		f := w.next().GetFinal()
		if f.GetId() != e.Transaction.String() || string(f.GetProof()) != "transaction "+e.Transaction.String() ||
			f.GetCheckpointHeight() != e.Height || string(f.GetEvent()) != string(e.Encode()) {
			t.Fatalf("got %v, want the proof of %v", f, e)
		}
	}
	// Who comes later is told the same at once.
	late := s.watch(t.Context(), &v1.WatchRequest{Transactions: []string{good.String()}})
	defer late.close()
	if m := late.next().GetTier(); m.GetTier() != v1.Tier_TIER_FINAL {
		t.Errorf("late: %v", m)
	}
	if m := late.next().GetFinal(); m.GetId() != good.String() {
		t.Errorf("late: %v", m)
	}
}

// What the hub tells is not older than what the watch read when it started.
func TestWatchDropsOlder(t *testing.T) {
	var got []string
	id := hash(1)
	s := &session{txs: map[types.Hash]*chain.Transaction{id: {Tier: chain.Official, At: 10}}, send: func(m *v1.WatchResponse) error {
		got = append(got, m.GetTier().GetTier().String())
		return nil
	}}
	change := func(at types.Millis, tier chain.Tier) news {
		return news{at: at, tier: &chain.TierChange{Transaction: id, Tier: tier}}
	}
	event := types.Event{Kind: types.Applied, Transaction: id, Height: 9}
	err := s.tell([]news{
		change(8, chain.Known), change(10, chain.Selected), change(10, chain.Official), // read already
		change(11, chain.Selected), change(12, chain.Official),
		{at: 3, event: &event},
		{at: 13, event: &event}, // final whatever the clock, and once
		change(14, chain.Known),
	})
	if want := "TIER_SELECTED TIER_OFFICIAL TIER_FINAL"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("told %v, %v; want %s", got, err, want)
	}
}

// Nor are key events told again that past has told, or that are not wanted.
func TestWatchDropsTold(t *testing.T) {
	var got []uint64
	s := &session{from: 3, begin: 5, send: func(m *v1.WatchResponse) error {
		got = append(got, m.GetKey().GetHeight())
		return nil
	}}
	var all []news
	for h := range uint64(8) {
		e := made(key(1), h, 1)
		all = append(all, news{key: &e})
	}
	if err := s.tell(all); err != nil || !slices.Equal(got, []uint64{6, 7}) {
		t.Errorf("told heights %v, %v; want 6 and 7", got, err)
	}
	s.from, got = 7, nil
	if err := s.tell(all); err != nil || !slices.Equal(got, []uint64{7}) {
		t.Errorf("told heights %v, %v; want 7", got, err)
	}
}

// The tiers of the schema and of the chain are the same numbers.
func TestTiers(t *testing.T) {
	for n, name := range v1.Tier_name {
		if want := "TIER_" + strings.ToUpper(chain.Tier(n).String()); name != want {
			t.Errorf("tier %d is %s in the schema, the chain has %s", n, name, want)
		}
	}
	if last := int(chain.Rejected); len(v1.Tier_name) != last+1 {
		t.Errorf("%d tiers in the schema, %d in the chain", len(v1.Tier_name), last+1)
	}
}

// A watch is told each key event from its first height on, once and in order, however its
// start falls between what happens; and again from any heartbeat, when it resumes.
func TestWatchKeysAnyMoment(t *testing.T) {
	s := serve(t, nil)
	const top = 400
	locks := []types.Key{key(10), key(11), key(12), key(13)}
	var wg sync.WaitGroup
	defer wg.Wait()
	all := make([]types.KeyEvent, 0, 3*top)
	rng := rand.New(rand.NewPCG(1, 2))
	for h := uint64(1); h <= top; h++ {
		for range rng.IntN(4) {
			all = append(all, made(locks[rng.IntN(len(locks))], h, len(all)))
		}
	}
	wg.Go(func() {
		rng := rand.New(rand.NewPCG(3, 4))
		at := 0
		for h := uint64(0); h < top; {
			h = min(top, h+1+rng.Uint64N(3))
			n := at
			for n < len(all) && all[n].Height <= h {
				n++
			}
			s.publish(chain.Update{Height: h, Final: h, Keys: all[at:n]})
			at = n
			if h%16 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
	for i := range 24 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(5, uint64(i)))
			mine := []types.Key{locks[rng.IntN(4)], locks[rng.IntN(4)]}
			from := rng.Uint64N(top)
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			got := make(map[types.Key][]int)
			first := from
			for from <= top { // each round reads a few heartbeats, then resumes
				w := s.watch(t.Context(), &v1.WatchRequest{Locks: []string{mine[0].String(), mine[1].String()}, FromHeight: from, Bulk: i%2 == 0})
				until := from + rng.Uint64N(top/2)
				for _, m := range w.heartbeat(min(until, top)) {
					if m == nil {
						t.Errorf("watch %d broke off: %v", i, w.stream.Err())
						return
					}
					events := m.GetKeys().GetEvents()
					if i%2 == 1 {
						events = [][]byte{m.GetKey().GetEvent()}
					}
					for _, event := range events {
						e, err := types.DecodeKeyEvent(event)
						if err != nil {
							t.Error(err)
							return
						}
						got[e.Output.Lock] = append(got[e.Output.Lock], int(e.Position))
					}
				}
				from = w.stream.Msg().GetHeartbeat().FinalHeight + 1
				w.close()
			}
			for _, lock := range locks {
				var want []int
				for _, e := range all {
					if e.Output.Lock == lock && e.Height >= first && slices.Contains(mine, lock) {
						want = append(want, int(e.Position))
					}
				}
				if !slices.Equal(got[lock], want) {
					t.Errorf("watch %d of lock %s from %d: got %v, want %v", i, lock.Short(), first, got[lock], want)
				}
			}
		})
	}
}

// Key events of one moment are in as few messages of a bulk watch as they fit into.
func TestWatchBulk(t *testing.T) {
	s := serve(t, nil)
	w := s.watch(t.Context(), &v1.WatchRequest{Locks: []string{key(10).String()}, Bulk: true})
	defer w.close()
	w.heartbeat(0)
	var all []types.KeyEvent
	for n := range 2*bulkEvents + 3 {
		all = append(all, made(key(10), 1, n))
	}
	s.publish(chain.Update{Height: 1, Final: 1, Keys: all})
	for _, want := range []int{bulkEvents, bulkEvents, 3} {
		if got := len(w.next().GetKeys().GetEvents()); got != want {
			t.Errorf("%d events in a message, want %d", got, want)
		}
	}
}

// A long past comes in pages, and what is below from_height not at all, also live.
func TestWatchPast(t *testing.T) {
	s := serve(t, nil)
	var events []types.KeyEvent
	for n := range 3 * pastPage {
		events = append(events, made(key(5), uint64(1+n/7), n))
	}
	last := events[len(events)-1].Height
	s.publish(chain.Update{Final: last, Keys: events})
	w := s.watch(t.Context(), &v1.WatchRequest{Locks: []string{key(5).String()}})
	got := w.heartbeat(last)
	w.close()
	if len(got) != len(events) {
		t.Fatalf("%d events, want %d", len(got), len(events))
	}
	for i, m := range got {
		if m.GetKey().GetPosition() != uint64(i) {
			t.Fatalf("event %d is %v", i, m)
		}
	}
	w = s.watch(t.Context(), &v1.WatchRequest{Locks: []string{key(5).String()}, FromHeight: last + 2})
	defer w.close()
	w.heartbeat(last)
	s.publish(chain.Update{Final: last + 2, Keys: []types.KeyEvent{made(key(5), last+1, 1), made(key(5), last+2, 2)}})
	if m := w.next().GetKey(); m.GetHeight() != last+2 {
		t.Errorf("got %v, want the event at height %d only", m, last+2)
	}
}

// eventually waits until ok, and fails after a time in which it must have become so.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal(what)
}

// overHTTP runs a test with a client of HTTP/1.1, and of HTTP/2 without TLS. Both take in
// little that they do not read.
func overHTTP(t *testing.T, change func(*Limits), test func(*testing.T, *setup)) {
	for _, two := range []bool{false, true} {
		t.Run(fmt.Sprintf("http2=%v", two), func(t *testing.T) {
			s := serve(t, change)
			transport := &http.Transport{
				Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
				DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
					c, err := new(net.Dialer).DialContext(ctx, network, address)
					if err == nil {
						err = c.(*net.TCPConn).SetReadBuffer(4096)
					}
					return c, err
				},
			}
			transport.Protocols.SetHTTP1(!two)
			transport.Protocols.SetUnencryptedHTTP2(two)
			t.Cleanup(transport.CloseIdleConnections)
			s.client = charterv1connect.NewAgentClient(&http.Client{Transport: transport}, s.url)
			test(t, s)
		})
	}
}

// Who asks for much and then reads nothing holds its watch for the write timeout, no longer.
func TestWatchUnread(t *testing.T) {
	limits := func(l *Limits) { l.Timeout = 100 * time.Millisecond }
	overHTTP(t, limits, func(t *testing.T, s *setup) {
		events := make([]types.KeyEvent, 10_000) // some 3 MB: more than such sockets hold
		for n := range events {
			events[n] = made(key(5), 1, n)
		}
		s.publish(chain.Update{Final: 1, Keys: events})
		w := s.watch(t.Context(), &v1.WatchRequest{Locks: []string{key(5).String()}})
		defer w.close()
		eventually(t, "the watch does not start", func() bool { return s.agent.clients.watches() == 1 })
		eventually(t, "the watch does not end", func() bool { return s.agent.clients.watches() == 0 })
	})
}

// Who reads may stay for longer than any request may take.
func TestWatchOutlivesTimeouts(t *testing.T) {
	limits := func(l *Limits) { l.Timeout = 100 * time.Millisecond }
	overHTTP(t, limits, func(t *testing.T, s *setup) {
		w := s.watch(t.Context(), &v1.WatchRequest{})
		defer w.close()
		for start := time.Now(); time.Since(start) < 500*time.Millisecond; {
			if slices.Contains(w.heartbeat(0), nil) {
				t.Fatalf("broke off after %v: %v", time.Since(start), w.stream.Err())
			}
		}
	})
}

// A watch leaves nothing behind, whoever ends it.
func TestWatchLeaves(t *testing.T) {
	s := serve(t, nil)
	w := s.watch(t.Context(), &v1.WatchRequest{Locks: []string{key(5).String()}, Transactions: []string{hash(1).String()}})
	w.heartbeat(0)
	w.close()
	eventually(t, "the watch stays", func() bool {
		s.agent.hub.mu.Lock()
		defer s.agent.hub.mu.Unlock()
		return len(s.agent.hub.all)+len(s.agent.hub.byLock)+len(s.agent.hub.byTx) == 0
	})
	eventually(t, "its client is still charged", func() bool { return s.agent.clients.watches() == 0 })
}
