package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"charter/transport"
	"charter/types"
)

func TestFourPeersExchangeBlocks(t *testing.T) {
	nodes := network(t, 4)
	var below, all []types.Hash
	for h := uint64(1); h <= 30; h++ {
		var level []types.Hash
		for _, nd := range nodes {
			b := makeBlock(nd.n, h, below, bytes.Repeat([]byte{byte(h)}, int(h)*1000))
			nd.chain.enter(b)
			nd.Broadcast(b)
			level = append(level, idOf(b))
		}
		all, below = append(all, level...), level
		for _, nd := range nodes {
			eventually(t, "all have the height", func() bool { return nd.chain.has(level...) })
		}
	}
	for _, nd := range nodes {
		if !nd.chain.has(all...) {
			t.Fatal("blocks are missing")
		}
		if s := nd.Stats(); s.Garbage+s.Bans+s.OverRate+s.QueueDrops+s.Charged+s.Pulls != 0 || s.Delivered < 90 {
			t.Errorf("an honest network has trouble: %+v", s)
		}
		for _, p := range nd.Peers() {
			if !p.Connected || p.Score != 0 || p.Top != 30 || p.Lag != 0 {
				t.Errorf("%+v", p)
			}
		}
	}
}

// A status tells how far a peer's clock is ahead.
func TestClocksAreTold(t *testing.T) {
	c := newFakeChain()
	e := openEndpoint(t, 2)
	fast := &node{n: 2, chain: c, endpoint: e}
	const ahead = 3_600_000
	fast.Gossip = Start(Config{ChainID: chainID, Self: keyOf(2), Endpoint: e, Chain: c, Timing: quick,
		Now: func() types.Millis { return types.MillisOf(time.Now()) + ahead }})
	t.Cleanup(fast.stop)
	right := start(t, 1, newFakeChain())
	know(fast, right)
	for nd, want := range map[*node]types.Millis{right: ahead, fast: -ahead} {
		eventually(t, "a status has come", func() bool { return nd.Peers()[0].Heard })
		if got := nd.Peers()[0].ClockAhead; got < want-1000 || got > want+1000 {
			t.Errorf("peer %d: the other clock is ahead by %d ms, want about %d", nd.n, got, want)
		}
	}
}

func TestVotesReachAll(t *testing.T) {
	nodes := network(t, 3)
	for _, nd := range nodes {
		v := types.SignedVote{Peer: keyOf(nd.n), CheckpointVote: types.CheckpointVote{Height: 7, Checkpoint: chainID}}
		nd.BroadcastVote(v)
	}
	for _, nd := range nodes {
		eventually(t, "both votes are there", func() bool {
			nd.chain.mu.Lock()
			defer nd.chain.mu.Unlock()
			voters := map[types.Key]bool{}
			for _, v := range nd.chain.votes {
				voters[v.Peer] = v.Checkpoint == chainID && v.Height == 7
			}
			// One may come twice, where a connection was replaced.
			return len(voters) == 2 && !voters[keyOf(nd.n)] && voters[keyOf(nd.n%3+1)] && voters[keyOf((nd.n+1)%3+1)]
		})
	}
}

// A block that a peer did not get is pulled from who names it.
func TestMissingBlocksArePulled(t *testing.T) {
	a, b, c := start(t, 1, newFakeChain()), start(t, 2, newFakeChain()), start(t, 3, newFakeChain())
	a.SetPeers([]Peer{c.peer()})
	b.SetPeers([]Peer{c.peer()})
	c.SetPeers([]Peer{a.peer(), b.peer()})
	eventually(t, "c is in the middle", func() bool { return c.Stats().Links == 2 })
	past := history(1, 10, 100)
	for _, x := range past {
		a.chain.enter(x)
		a.Broadcast(x)
	}
	last := idOf(past[9])
	eventually(t, "c has a's blocks", func() bool { return c.chain.has(last) })
	x := makeBlock(3, 11, []types.Hash{last}, nil)
	c.chain.enter(x)
	c.Broadcast(x)
	eventually(t, "b has them too", func() bool { return b.chain.has(idOf(x), last, idOf(past[0])) })
	// On a busy machine a status may show it below the others, and it asks by height too.
	if s := b.Stats(); s.Pulled+s.Ranged < 10 || s.Pulled > 10 || s.Wanted != 0 || s.Charged != 0 {
		t.Fatalf("%+v", s)
	}
}

// Two sides of a cut have built many heights each on what was final before. Healed, each gets
// the other's by height, not by a pull for each height on the way down, and little of it twice.
func TestSidesOfACut(t *testing.T) {
	const final, side = 10, 150
	common := history(4, final, 0)
	var nodes []*node
	var last []types.Hash
	for n := 1; n <= 2; n++ {
		c := newFakeChain()
		c.enter(common...)
		below := idOf(common[len(common)-1])
		for h := uint64(final + 1); h <= final+side+uint64(8*n); h++ {
			b := makeBlock(n, h, []types.Hash{below}, nil)
			c.enter(b)
			below = idOf(b)
		}
		c.halted = final
		last, nodes = append(last, below), append(nodes, start(t, n, c))
	}
	know(nodes...)
	for i, nd := range nodes {
		eventually(t, "a side has what the other built", func() bool { return nd.chain.has(last[1-i]) })
		if s := nd.Stats(); s.Pulled > side/4 || s.Charged > 0 {
			t.Errorf("%+v", s)
		}
	}
}

// Who names a block and then answers nothing, as one that was just cut off, is not waited for.
func TestSilentSourceIsPassedOver(t *testing.T) {
	a, b := start(t, 1, newFakeChain()), start(t, 2, newFakeChain())
	a.SetPeers([]Peer{b.peer(), {keyOf(9), "127.0.0.1:1"}})
	b.SetPeers([]Peer{a.peer()})
	eventually(t, "two are connected", func() bool { return a.Stats().Links == 1 })
	silent := func(ctx context.Context, _ transport.Message) (transport.Message, error) {
		<-ctx.Done()
		return transport.Message{}, ctx.Err()
	}
	s := join(t, a, 9, silent)
	s.drain()
	began := time.Now()
	for height := uint64(1); height <= 3; height++ { // the second and third while the first is asked for
		x := makeBlock(2, height, nil, []byte("wanted"))
		b.chain.enter(x)
		y := makeBlock(9, height+1, []types.Hash{idOf(x)}, nil)
		if err := s.Send(pushMessage(y)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the block is there", func() bool { return a.chain.has(idOf(x), idOf(y)) })
	}
	if took := time.Since(began); took >= quick.Request {
		t.Errorf("it took %s, as long as a request", took)
	}
}

// Who was absent pulls what it missed by height. The peer that it asks dies on the way.
func TestCatchingUpOverThousandsOfHeights(t *testing.T) {
	const heights = 3000
	past := history(3, heights, 1500)
	size := 0
	for _, b := range past {
		size += b.Size()
	}
	var nodes []*node
	for n := 1; n <= 3; n++ {
		c := newFakeChain()
		c.enter(past...)
		nodes = append(nodes, start(t, n, c))
	}
	late := start(t, 4, newFakeChain())
	know(append(nodes, late)...)

	killed := false
	eventually(t, "the absent peer has all", func() bool {
		top, _ := late.chain.Heights()
		if s := late.Stats(); top > heights/4 && !killed && s.Syncing {
			killed = true
			for _, nd := range nodes { // the one that has served
				if nd.Stats().Served > 0 {
					nd.stop()
					break
				}
			}
		}
		return top == heights
	})
	eventually(t, "it stops catching up", func() bool { return !late.Stats().Syncing })
	if !killed {
		t.Error("the source was never killed")
	}
	late.chain.mu.Lock()
	defer late.chain.mu.Unlock()
	if len(late.chain.blocks) != len(past) {
		t.Errorf("have %d blocks of %d", len(late.chain.blocks), len(past))
	}
	if len(late.chain.syncs) < 2 || !late.chain.syncs[0] || late.chain.syncs[len(late.chain.syncs)-1] {
		t.Errorf("the chain was told %v", late.chain.syncs)
	}
	if in := late.Stats().BytesIn; in > uint64(2*size) {
		t.Errorf("%d bytes came in for %d needed", in, size)
	}
}

// While a peer catches up the others go on; where the ranges end the pushes begin, and
// nothing is missing between them.
func TestCatchingUpWithAMovingNetwork(t *testing.T) {
	const before, after = 400, 150
	past := history(3, before+after, 100)
	var nodes []*node
	for n := 1; n <= 3; n++ {
		c := newFakeChain()
		c.enter(past[:3*before]...)
		nodes = append(nodes, start(t, n, c))
	}
	late := start(t, 4, newFakeChain())
	know(append(nodes, late)...)
	for h := before; h < before+after; h++ {
		for i, nd := range nodes {
			nd.chain.enter(past[3*h+i])
			nd.Broadcast(past[3*h+i])
		}
		for i, nd := range nodes {
			eventually(t, "all have the height", func() bool { return nd.chain.has(idOf(past[3*h+(i+1)%3]), idOf(past[3*h+(i+2)%3])) })
		}
	}
	eventually(t, "the absent peer has all", func() bool {
		s := late.Stats()
		return late.chain.has(idOf(past[len(past)-1]), idOf(past[len(past)-2]), idOf(past[len(past)-3])) && !s.Syncing && s.Wanted == 0
	})
	for _, nd := range append(nodes, late) {
		if s := nd.Stats(); s.Charged+s.Abandoned != 0 {
			t.Errorf("somebody was charged, or something given up: %+v", s)
		}
	}
}

// A peer that sends what no honest peer sends is dropped, and the others go on.
func TestMisbehaviourIsDropped(t *testing.T) {
	b1 := makeBlock(9, 1, nil, nil)
	unsigned := slices.Clone(b1.Header)
	unsigned[len(unsigned)-64]++
	send := func(s *stranger, ms ...transport.Message) {
		for _, m := range ms {
			s.Send(m)
		}
	}
	unknownParents := func(n int) (ms []transport.Message) {
		for i := range n {
			named := types.NewTag("test").Hash([]byte{byte(i), byte(i >> 8)})
			ms = append(ms, pushMessage(makeBlock(9, 3, []types.Hash{named}, nil)))
		}
		return ms
	}
	nothing := func(context.Context, transport.Message) (transport.Message, error) {
		return batchMessage(nil, func(int) uint64 { return 1 }), nil
	}
	for _, row := range []struct {
		what    string
		code    transport.Code
		answer  transport.Handler
		attack  func(s *stranger)
		counter func(s Stats) uint64
	}{
		{"garbage", transport.CodeBanned, nil, func(s *stranger) {
			send(s, transport.Message{Kind: kindStatus, Data: []byte("garbage")}, transport.Message{Kind: kindBlock, Data: []byte("garbage")})
		}, func(s Stats) uint64 { return s.Garbage }},
		{"trailing bytes", transport.CodeBanned, nil, func(s *stranger) {
			m := pushMessage(b1)
			m.Data = append(m.Data, 0)
			send(s, m, m)
		}, func(s Stats) uint64 { return s.Garbage }},
		{"payload that the header does not know", transport.CodeBanned, nil, func(s *stranger) {
			m := pushMessage(types.RawBlock{Header: b1.Header, Payload: []byte{1}})
			send(s, m, m)
		}, func(s Stats) uint64 { return s.Garbage }},
		{"reply kind as push", transport.CodeBanned, nil, func(s *stranger) {
			m := resultsMessage(nil)
			send(s, m, m)
		}, func(s Stats) uint64 { return s.Garbage }},
		{"garbage request", transport.CodeBanned, nil, func(s *stranger) {
			for range 2 {
				s.Request(context.Background(), transport.Message{Kind: kindGetRange, Data: make([]byte, 8)})
			}
		}, func(s Stats) uint64 { return s.Garbage }},
		{"invalid block", transport.CodeBanned, nil, func(s *stranger) {
			send(s, pushMessage(types.RawBlock{Header: unsigned}))
		}, func(s Stats) uint64 { return s.Undelivered }},
		{"unknown parents", transport.CodeBanned, nothing, func(s *stranger) {
			send(s, unknownParents(40)...)
		}, func(s Stats) uint64 { return s.NoParent }},
		{"flood of unknown parents", transport.CodeBanned, func(ctx context.Context, _ transport.Message) (transport.Message, error) {
			<-ctx.Done()
			return transport.Message{}, ctx.Err()
		}, func(s *stranger) {
			send(s, unknownParents(maxWantedFrom+50)...)
		}, func(s Stats) uint64 { return s.WantsDropped }},
		{"blocks by id that nobody asked for", transport.CodeBanned, unasked, func(s *stranger) {
			send(s, unknownParents(2)...)
		}, func(s Stats) uint64 { return s.Pulls }},
		{"blocks by height that nobody asked for", transport.CodeBanned, unasked, func(s *stranger) {
			for s.Err() == nil {
				send(s, status{Top: 1000}.encode())
				time.Sleep(150 * time.Millisecond)
			}
		}, func(s Stats) uint64 { return s.Ranges }},
		{"range that leads back", transport.CodeBanned, func(context.Context, transport.Message) (transport.Message, error) {
			return batchMessage([]types.RawBlock{b1}, func(int) uint64 { return 1 }), nil
		}, func(s *stranger) {
			for s.Err() == nil {
				send(s, status{Top: 1000}.encode())
				time.Sleep(150 * time.Millisecond)
			}
		}, func(s Stats) uint64 { return s.Ranges }},
		{"garbage as reply", transport.CodeBanned, func(context.Context, transport.Message) (transport.Message, error) {
			return transport.Message{Kind: kindBlocks, Data: []byte("garbage")}, nil
		}, func(s *stranger) {
			send(s, unknownParents(2)...)
		}, func(s Stats) uint64 { return s.Garbage }},
		{"over rate", transport.CodeBanned, nil, func(s *stranger) {
			for range 300 {
				send(s, status{}.encode())
			}
		}, func(s Stats) uint64 { return s.OverRate }},
		{"height it has no blocks for", transport.CodeBanned, nothing0, func(s *stranger) {
			for s.Err() == nil { // it asks again when its doubts are over
				send(s, status{Top: 1 << 40}.encode())
				time.Sleep(150 * time.Millisecond)
			}
		}, func(s Stats) uint64 { return s.Ranges }},
	} {
		t.Run(row.what, func(t *testing.T) {
			t.Parallel()
			a, b := start(t, 1, newFakeChain()), start(t, 2, newFakeChain())
			bad := Peer{keyOf(9), "127.0.0.1:1"}
			a.SetPeers([]Peer{b.peer(), bad})
			b.SetPeers([]Peer{a.peer(), bad})
			s := join(t, a, 9, row.answer)
			s.drain()
			eventually(t, "all are connected", func() bool { return a.Stats().Links == 2 })
			row.attack(s)
			if code := s.closedWith(t); code != row.code {
				t.Errorf("closed with %d", code)
			}
			if st := a.Stats(); row.counter(st) == 0 || st.Bans != 1 {
				t.Errorf("not counted: %+v", st)
			}
			// The back-off holds, and the others go on.
			if code := refusedWith(t, a, 9); code != transport.CodeBanned {
				t.Errorf("came back: %d", code)
			}
			x := makeBlock(2, 1, nil, []byte("go on"))
			b.chain.enter(x)
			b.Broadcast(x)
			eventually(t, "the others go on", func() bool { return a.chain.has(idOf(x)) })
		})
	}
}

// unasked answers with blocks of which the last is not what was asked for.
func unasked(context.Context, transport.Message) (transport.Message, error) {
	blocks := []types.RawBlock{makeBlock(9, 8, []types.Hash{{1}}, nil), makeBlock(9, 7, []types.Hash{{1}}, nil)}
	return batchMessage(blocks, func(int) uint64 { return 9 }), nil
}

// nothing0 answers a range with nothing, and that there is no more.
func nothing0(context.Context, transport.Message) (transport.Message, error) {
	return batchMessage(nil, func(int) uint64 { return 0 }), nil
}

// Frames that break the framing close the connection in transport; gossip remembers.
func TestBreachOfFramingIsRemembered(t *testing.T) {
	for _, m := range []transport.Message{{Kind: kindStatus, Data: make([]byte, 33)}, {Kind: 99}} {
		a := start(t, 1, newFakeChain())
		a.SetPeers([]Peer{{keyOf(9), "127.0.0.1:1"}})
		e, err := transport.Listen(transport.Config{Chain: chainID, Key: secret(9), Listen: "127.0.0.1:0", Messages: map[uint8]int{kindStatus: 1 << 20, 99: 1}})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		c, err := e.Dial(t.Context(), a.endpoint.Addr().String(), types.Key{})
		if err != nil {
			t.Fatal(err)
		}
		c.Send(m)
		<-c.Done()
		eventually(t, "it is banned", func() bool { return a.Stats().Bans == 1 })
	}
}

// What the chain finds out late is charged too, and charging a stranger does nothing.
func TestLateVerdict(t *testing.T) {
	nodes := network(t, 2)
	nodes[0].Misbehaved(keyOf(7), errors.New("bad vote"))
	nodes[0].Misbehaved(keyOf(2), errors.New("bad vote"))
	eventually(t, "it is dropped", func() bool { s := nodes[0].Stats(); return s.Bans == 1 && s.Links == 0 })
	p := nodes[0].Peers()[0]
	if p.Connected || p.Banned < quick.Ban/2 {
		t.Fatalf("%+v", p)
	}
}

func TestOnlyPeersMayConnect(t *testing.T) {
	a := start(t, 1, newFakeChain())
	a.SetPeers(nil)
	if code := refusedWith(t, a, 9); code != transport.CodeNotPeer {
		t.Fatal(code)
	}
	a.SetPeers([]Peer{{keyOf(9), "127.0.0.1:1"}})
	s := join(t, a, 9, nil)
	eventually(t, "it is a peer now", func() bool { return a.Stats().Links == 1 })
	a.SetPeers(nil)
	if code := s.closedWith(t); code != transport.CodeNotPeer {
		t.Fatal(code)
	}
}

// A peer that reads nothing costs bounded memory and nobody's time.
func TestSlowReaderBlocksNobody(t *testing.T) {
	a, b := start(t, 1, newFakeChain()), start(t, 2, newFakeChain())
	a.SetPeers([]Peer{b.peer(), {keyOf(9), "127.0.0.1:1"}})
	b.SetPeers([]Peer{a.peer()})
	join(t, a, 9, nil) // reads nothing
	eventually(t, "both are connected", func() bool { return a.Stats().Links == 2 })
	payload := bytes.Repeat([]byte{1}, types.MaxPayload)
	var named []types.Hash
	for h := uint64(1); h <= 60; h++ {
		x := makeBlock(1, h, named, payload)
		a.chain.enter(x)
		a.Broadcast(x)
		named = []types.Hash{idOf(x)}
		eventually(t, "the other has it", func() bool { return b.chain.has(idOf(x)) })
	}
	s := a.Stats()
	if s.QueueDrops == 0 || s.Queued > queueBytes {
		t.Fatalf("%+v", s)
	}
	for _, p := range a.Peers() {
		if slow := p.Key == keyOf(9); (p.QueueDrops > 0) != slow {
			t.Errorf("peer %s: %d drops", p.Key.Short(), p.QueueDrops)
		}
	}
}

// Whoever dials, and however often peers come back, two peers keep one connection.
func TestOneConnectionPerPair(t *testing.T) {
	nodes := network(t, 4)
	one := func() bool {
		for _, nd := range nodes {
			if s := nd.Stats(); s.Links != 3 {
				return false
			}
		}
		for _, x := range nodes {
			for _, px := range x.Peers() {
				for _, y := range nodes {
					for _, py := range y.Peers() {
						if px.Key == keyOf(y.n) && py.Key == keyOf(x.n) && px.Dialed == py.Dialed {
							return false
						}
					}
				}
			}
		}
		return true
	}
	eventually(t, "each pair has one connection", one)
	for i := range 3 { // a peer dies without a word, and comes back on another port
		nodes[i].stop()
		nodes[i] = start(t, i+1, nodes[i].chain)
		know(nodes...)
		eventually(t, "it is connected again", one)
	}
	// Both dial at once, again and again.
	a, b := nodes[0], nodes[3]
	var dials sync.WaitGroup
	for range 5 {
		for _, d := range [][2]*node{{a, b}, {b, a}} {
			dials.Go(func() {
				if c, err := d[0].endpoint.Dial(t.Context(), d[1].endpoint.Addr().String(), keyOf(d[1].n)); err == nil {
					if l := d[0].register(c); l != nil {
						d[0].spawn(func() { d[0].run(l) })
					}
				}
			})
		}
	}
	dials.Wait()
	eventually(t, "each pair has one connection again", one)
}

// A peer that comes back gets the newest blocks though nobody builds on them.
func TestNewestBlocksOnConnecting(t *testing.T) {
	a, b := start(t, 1, newFakeChain()), start(t, 2, newFakeChain())
	x := makeBlock(1, 1, nil, nil)
	a.chain.enter(x)
	a.Broadcast(x)
	know(a, b)
	eventually(t, "the other has it", func() bool { return b.chain.has(idOf(x)) })
}

// A peer whose push was lost, with nothing built on it, asks for it after some statuses.
func TestLostTailIsFetched(t *testing.T) {
	nodes := network(t, 2)
	x := makeBlock(1, 1, nil, nil)
	nodes[0].chain.enter(x)
	eventually(t, "the other asks for it", func() bool { return nodes[1].chain.has(idOf(x)) })
	if s := nodes[1].Stats(); s.Ranges == 0 || len(nodes[1].chain.syncs) != 0 {
		t.Fatalf("%+v", s)
	}
}

func TestForward(t *testing.T) {
	nodes := network(t, 2)
	host := keyOf(2)
	nodes[1].chain.onSubmits(func(raw []byte) error {
		if bytes.HasPrefix(raw, []byte("bad")) {
			return errors.New("double spend — of “output” 7" + strings.Repeat("!", 300))
		}
		return nil
	})
	results := make(chan error, 2000)
	for i := range 1000 {
		nodes[0].Forward(fmt.Appendf(nil, "tx %d", i), host, func(err error) { results <- err })
	}
	for range 1000 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	if n := len(nodes[1].chain.txs); n != 1000 {
		t.Fatalf("%d arrived", n)
	}
	if in := nodes[1].Stats().TxsIn; in != 1000 {
		t.Fatal(in)
	}
	kind := func(want ForwardKind, part string) {
		t.Helper()
		var f *ForwardError
		if err := <-results; !errors.As(err, &f) || f.Kind != want || !strings.Contains(err.Error(), part) {
			t.Fatalf("want %s, have %v", want, err)
		}
	}
	done := func(err error) { results <- err }
	nodes[0].Forward([]byte("bad"), host, done)
	kind(Rejected, "double spend ? of ?output? 7!!!")
	nodes[0].Forward([]byte("tx"), keyOf(7), done)
	kind(NotConnected, "not connected")
	nodes[0].Forward(make([]byte, types.MaxTransaction+1), host, done)
	kind(Rejected, "")

	// The host goes silent: what waits is answered with an error, each once.
	release := make(chan struct{})
	nodes[1].chain.onSubmits(func([]byte) error { <-release; return nil })
	for i := range forwardCount + 300 {
		nodes[0].Forward(fmt.Appendf(nil, "late %d", i), host, done)
	}
	kind(Busy, "")
	go nodes[1].endpoint.Close()
	busy, lost, unanswered := 1, 0, 0
	for range forwardCount + 299 {
		var f *ForwardError
		if err := <-results; !errors.As(err, &f) {
			t.Fatal(err)
		} else if f.Kind == Busy {
			busy++
		} else {
			lost++
			if f.Kind == Unanswered {
				unanswered++
			}
		}
	}
	if busy > 300 || lost < forwardCount || unanswered == 0 {
		t.Fatalf("%d busy, %d lost, %d of these unanswered", busy, lost, unanswered)
	}
	close(release)
}

// What the chain refuses for no fault of the sender's is delivered again.
func TestUndeliveredBlocksComeAgain(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	c := newFakeChain()
	a, b := start(t, 1, newFakeChain()), startWith(t, 2, c, failing{c, &broken})
	know(a, b)
	x := makeBlock(1, 1, nil, nil)
	a.Broadcast(x)
	eventually(t, "it was not taken", func() bool { return b.Stats().Undelivered == 1 })
	broken.Store(false)
	a.Broadcast(x)
	eventually(t, "it was taken", func() bool { return c.has(idOf(x)) })
	if s := b.Stats(); s.Charged != 0 {
		t.Fatalf("%+v", s)
	}
}

type failing struct {
	*fakeChain
	fails *atomic.Bool
}

func (f failing) Deliver(from types.Key, b []types.RawBlock) error {
	if f.fails.Load() {
		return errors.New("disk full")
	}
	return f.fakeChain.Deliver(from, b)
}

// A want that nobody can serve is given up, and may be wanted again.
func TestWantsAreGivenUp(t *testing.T) {
	nodes := network(t, 3)
	nodes[0].Want([]types.Hash{chainID}, types.Key{})
	eventually(t, "it is given up", func() bool { s := nodes[0].Stats(); return s.Abandoned == 1 && s.Wanted == 0 })
	s := nodes[0].Stats()
	if s.Charged != 0 || s.Pulls != 2*(maxPullRounds+1) {
		t.Fatalf("%+v", s)
	}
	nodes[0].Want([]types.Hash{chainID, {1}}, types.Key{})
	if n := nodes[0].Stats().Wanted; n != 2 {
		t.Fatal(n)
	}
	nodes[0].Have([]types.Hash{chainID, {1}})
	if n := nodes[0].Stats().Wanted; n != 0 {
		t.Fatal(n)
	}
}
