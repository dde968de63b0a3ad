// Package gossip exchanges blocks, votes and transactions between peers, and catches up
// after an absence.
//
// It decides nothing: what comes in is checked for its form and handed to the chain, which
// says whether it is valid; what the chain wants is asked of those who may have it. It knows
// no consensus, no ledger and no disk, and it relays nothing: each peer pushes its own
// blocks, and who lacks another's pulls it because some block names it.
//
//	          chain                                      Chain: Deliver, Block, Blocks, …
//	    ▲               │ Broadcast, Want, Forward
//	 Deliver            ▼
//	┌───┴──────────────────────────────────┐
//	│ Gossip: peers, wants, scores (one lock, never held over a call that waits)
//	│   scheduler    who is asked for what; when to catch up
//	│   per peer     a dialer
//	│   per link     reader, writer, server of requests, forwarder
//	└──────────────────────────────────────┘
//	          transport: one connection per peer
//
// A slow chain pushes back: Deliver blocks the reader, and then the sender's queue fills. A
// slow peer does not: its queue is bounded, and what finds no room is dropped and counted; it
// will pull what it missed.
package gossip

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"charter/transport"
	"charter/types"
)

// Chain is what gossip needs of the chain. Its methods are called from many goroutines, and
// never under a lock of gossip's.
type Chain interface {
	// Deliver hands over well-formed blocks in the order in which they came: some may be
	// known, and of some the parents may be missing. It may block, which slows down from.
	// After nil a push of the same block is not delivered again: a chain that lets go of a
	// block asks for it with Want. An error that is an Offence is charged to its offender;
	// others are nobody's fault. After an error the blocks may be delivered again.
	Deliver(from types.Key, blocks []types.RawBlock) error
	// DeliverVotes hands over well-formed votes, some perhaps once more.
	DeliverVotes(from types.Key, votes []types.SignedVote)
	// Block is the block with this id; false if there is none.
	Block(id types.Hash) (types.RawBlock, bool, error)
	// Blocks are the blocks of height from and above, ascending by height, in whole heights:
	// one height at least if there is any, and no further one once limit bytes are reached.
	Blocks(from uint64, limit int) ([]types.RawBlock, error)
	// Lowest is the height from which on all blocks are kept, 0 for all.
	Lowest() uint64
	// Heights are the greatest height in the view, and the greatest that is final.
	Heights() (top, final uint64)
	// SubmitForwarded takes transactions that another peer sent on, and returns for each nil once
	// it is durable. The text of an error is told to the sender.
	SubmitForwarded(ctx context.Context, raws [][]byte) []error
	// SetSyncing says whether this peer is far behind others and catching up.
	SetSyncing(bool)
}

// Offence is an error that is a peer's fault. A zero key stands for who delivered.
type Offence interface {
	error
	Offender() types.Key
}

// Peer is a key to exchange with, and where it is reached.
type Peer struct {
	Key     types.Key
	Address string // host:port, empty if not known
}

// Config is what Start needs. All but Timing, Log and Now must be set.
type Config struct {
	ChainID  types.Hash
	Self     types.Key
	Endpoint *transport.Endpoint // with MessageLimits; it stays the caller's to close
	Chain    Chain
	Timing   Timing
	Log      *slog.Logger        // nil for none
	Now      func() types.Millis // nil for the machine's clock; others are told it
}

// Gossip runs from Start to Close. Its methods may be called from any goroutine, and return
// at once.
type Gossip struct {
	cfg    Config
	timing Timing
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	kick   chan struct{} // wakes the scheduler
	warned time.Time     // when it was said last that nobody keeps what is wanted
	known  chan struct{} // closed once SetPeers was called
	rejoin chan struct{} // has room while few peers are joined again

	mu      sync.Mutex // guards all below; nothing that waits is called under it
	peers   map[types.Key]*peer
	wants   map[types.Hash]*want
	seen    seenSet
	news    chan struct{}       // closed when a peer is connected, and another one put in its place
	recent  []transport.Message // own newest blocks, for those who connect
	votes   transport.Message   // own newest votes, likewise
	syncing bool                // the chain was told so
	running bool                // a catch-up is under way
	span    span                // of it
	stats   Stats
}

// peer is a key to exchange with, over all its connections. Guarded by Gossip.mu.
type peer struct {
	Peer
	cancel context.CancelFunc // ends its dialer
	link   *link              // nil while not connected
	joined bool               // a join with it was done

	score  float64 // at scored
	scored time.Time
	banned time.Time // until
	bans   int

	doubted time.Time // until: its height is not believed
	doubts  int
	status  status // its last, raised by its blocks
	stuck   int    // statuses in a row that showed it above us, with us unmoved
	stuckAt uint64
	failed  error // of the last attempt to dial
}

// Start begins to exchange; SetPeers says with whom.
func Start(cfg Config) *Gossip {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = func() types.Millis { return types.MillisOf(time.Now()) }
	}
	g := &Gossip{
		cfg: cfg, timing: cfg.Timing.orDefault(), log: cfg.Log, kick: make(chan struct{}, 1),
		known: make(chan struct{}), rejoin: make(chan struct{}, 3), news: make(chan struct{}),
		peers: map[types.Key]*peer{}, wants: map[types.Hash]*want{}, seen: newSeenSet(),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.tasks.Go(g.acceptLoop)
	g.tasks.Go(g.schedule)
	return g
}

// Close closes all connections and returns when nothing runs any more. The chain must not
// wait for gossip meanwhile, for calls to it are waited for.
func (g *Gossip) Close() {
	g.mu.Lock()
	g.cancel()
	for _, p := range g.peers {
		if l := p.link; l != nil {
			g.tasks.Go(func() { l.conn.Close(transport.CodeDone, "going away") })
		}
	}
	g.mu.Unlock()
	g.tasks.Wait()
}

// spawn runs f unless Close has begun. It reports whether it does.
func (g *Gossip) spawn(f func()) bool {
	if g.ctx.Err() != nil {
		return false
	}
	g.tasks.Go(f)
	return true
}

// SetPeers sets whom to exchange with: the members of the current and the next snapshot, and
// those who register. Whoever is not among them any more is disconnected; one's own key is
// passed over, and so is what comes after maxPeers.
func (g *Gossip) SetPeers(list []Peer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return
	}
	select {
	case <-g.known:
	default:
		close(g.known)
	}
	keep := make(map[types.Key]bool, len(list))
	for _, p := range list {
		if p.Key == g.cfg.Self || p.Key.IsZero() || len(keep) == maxPeers {
			continue
		}
		keep[p.Key] = true
		if old := g.peers[p.Key]; old != nil {
			old.Address = p.Address
			continue
		}
		ctx, cancel := context.WithCancel(g.ctx)
		added := &peer{Peer: p, cancel: cancel}
		g.peers[p.Key] = added
		g.spawn(func() { g.dialLoop(ctx, added) })
	}
	for key, p := range g.peers {
		if !keep[key] {
			p.cancel()
			delete(g.peers, key)
			g.drop(p, transport.CodeNotPeer, "not a peer any more")
		}
	}
}

// drop closes a peer's link, if it has one. Called under the lock, so it does not wait.
func (g *Gossip) drop(p *peer, code transport.Code, reason string) {
	if l := p.link; l != nil {
		g.spawn(func() { l.conn.Close(code, plain(reason, overlongReason)) })
	}
}

// Broadcast pushes an own new block to every connected peer at once, and to those who
// connect a little later. The block must be durable.
func (g *Gossip) Broadcast(b types.RawBlock) {
	m := pushMessage(b)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.recent = append(g.recent, m); len(g.recent) > recentBlocks {
		g.recent = append(g.recent[:0:0], g.recent[1:]...)
	}
	g.pushAll(m)
}

// BroadcastVote pushes an own vote for a checkpoint likewise.
func (g *Gossip) BroadcastVote(v types.SignedVote) {
	m := votesMessage([]types.SignedVote{v})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.votes = m
	g.pushAll(m)
}

func (g *Gossip) pushAll(m transport.Message) {
	for _, p := range g.peers {
		if p.link != nil {
			g.push(p.link, m)
		}
	}
}

// push queues a message for a link, or drops it visibly. Called under the lock.
func (g *Gossip) push(l *link, m transport.Message) {
	if l.queued+len(m.Data) <= queueBytes {
		select {
		case l.out <- m:
			l.queued += len(m.Data)
			g.stats.Pushed++
			return
		default:
		}
	}
	g.stats.QueueDrops++
	l.dropped++
}

// Misbehaved charges a peer for what the chain found out after Deliver returned.
func (g *Gossip) Misbehaved(who types.Key, err error) {
	g.charge(who, scoreInvalid, "invalid: "+err.Error())
}

// acceptLoop takes the connections that others open, once it is known who may.
func (g *Gossip) acceptLoop() {
	select {
	case <-g.known:
	case <-g.ctx.Done():
		return
	}
	for {
		conn, err := g.cfg.Endpoint.Accept(g.ctx)
		if err != nil {
			return // closed, here or below
		}
		if l := g.register(conn); l != nil {
			if !g.spawn(func() { g.run(l) }) {
				conn.Close(transport.CodeDone, "going away")
			}
		}
	}
}

// register makes conn its peer's link, or closes it and returns nil. Of two connections
// between the same two processes both sides keep the one that the lower key dialed, or the
// newer of one's own; another life of the peer's process replaces whatever there was.
func (g *Gossip) register(conn *transport.Conn) *link {
	g.mu.Lock()
	defer g.mu.Unlock()
	refuse := func(code transport.Code, reason string) *link {
		g.stats.Refused++
		g.tasks.Go(func() { conn.Close(code, reason) })
		return nil
	}
	p := g.peers[conn.Peer()]
	switch {
	case g.ctx.Err() != nil:
		conn.Close(transport.CodeDone, "going away")
		return nil
	case p == nil:
		return refuse(transport.CodeNotPeer, "not a peer")
	case time.Now().Before(p.banned):
		return refuse(transport.CodeBanned, "banned")
	}
	if old := p.link; old != nil {
		if old.conn.Boot() == conn.Boot() && g.lowerDialed(old.conn) && !g.lowerDialed(conn) {
			g.tasks.Go(func() { conn.Close(transport.CodeDuplicate, "duplicate") })
			return nil
		}
		g.drop(p, transport.CodeDuplicate, "duplicate")
	}
	p.link = newLink(p, conn)
	p.stuck = 0
	close(g.news)
	g.news = make(chan struct{})
	g.stats.Connected++
	g.log.Info("peer connected", "peer", p.Key.Short(), "address", conn.RemoteAddr().String(), "dialed", conn.Dialed())
	for _, m := range g.recent {
		g.push(p.link, m)
	}
	if g.votes.Kind != 0 {
		g.push(p.link, g.votes)
	}
	return p.link
}

func (g *Gossip) lowerDialed(c *transport.Conn) bool {
	peer := c.Peer()
	selfLower := bytes.Compare(g.cfg.Self[:], peer[:]) < 0
	return c.Dialed() == selfLower
}

// unregister forgets a link that is over.
func (g *Gossip) unregister(l *link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Disconnected++
	if l.peer.link == l {
		l.peer.link = nil
	}
	close(l.gone)
	g.wake()
}

// wake makes the scheduler look again.
func (g *Gossip) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// dialLoop keeps a peer connected: it dials while there is no link and no back-off holds,
// with growing, jittered pauses. The higher key lets the lower one go first.
func (g *Gossip) dialLoop(ctx context.Context, p *peer) {
	attempt, soon := 0, false
	for {
		g.mu.Lock()
		l, banned, address := p.link, time.Until(p.banned), p.Address
		g.mu.Unlock()
		switch {
		case l != nil:
			began := time.Now()
			select {
			case <-l.gone:
			case <-ctx.Done():
				return
			}
			if attempt++; time.Since(began) >= g.timing.Stable {
				attempt = 0
			}
			continue
		case banned > 0:
			if !sleep(ctx, banned) {
				return
			}
			continue
		case address == "": // it is for the other to dial
			if !sleep(ctx, g.timing.DialMax) {
				return
			}
			continue
		}
		wait := g.pause(p.Key, attempt)
		if soon {
			wait, soon = 0, false
		}
		if !g.await(ctx, wait) {
			return
		}
		if g.connected(p) {
			continue
		}
		attempt++
		conn, err := g.dial(ctx, address, p.Key)
		if soon = errors.Is(err, errNews); soon {
			continue
		}
		if err != nil {
			g.dialFailed(p, err)
			continue
		}
		if l := g.register(conn); l != nil && !g.spawn(func() { g.run(l) }) {
			conn.Close(transport.CodeDone, "going away")
		}
	}
}

var errNews = errors.New("there is news of the network")

// dial dials, but gives up with errNews where the attempt has gone on for long when some peer is
// connected: a handshake whose packets were lost repeats them later and later, and a new one is
// quicker.
func (g *Gossip) dial(ctx context.Context, address string, want types.Key) (*transport.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	g.mu.Lock()
	news := g.news
	g.mu.Unlock()
	g.spawn(func() {
		for {
			select {
			case <-news:
			case <-ctx.Done():
				return
			}
			if time.Since(began) >= longDial {
				cancel(errNews)
				return
			}
			g.mu.Lock()
			news = g.news
			g.mu.Unlock()
		}
	})
	conn, err := g.cfg.Endpoint.Dial(ctx, address, want)
	if err != nil && context.Cause(ctx) == errNews {
		err = errNews
	}
	return conn, err
}

// await sleeps before an attempt to dial, but not much longer than until some peer is connected:
// what is over for one, a cut or a lost line of our own, may be over for all. It reports whether ctx
// still holds.
func (g *Gossip) await(ctx context.Context, d time.Duration) bool {
	g.mu.Lock()
	news := g.news
	g.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-news:
		return sleep(ctx, min(d, jitter(g.timing.DialMin)))
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func (g *Gossip) connected(p *peer) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return p.link != nil
}

func (g *Gossip) dialFailed(p *peer, err error) {
	var closed *transport.Error
	if g.ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.As(err, &closed) && closed.Kind == transport.Closed && closed.Code == transport.CodeDuplicate {
		return // we stop, or the two have another connection
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.DialErrors++
	// Once per reason: a peer that is off for a day is one line.
	if p.failed == nil || p.failed.Error() != err.Error() {
		g.log.Warn("cannot reach peer", "peer", p.Key.Short(), "address", p.Address, "error", err)
	}
	p.failed = err
}

// pause is how long to wait before an attempt to dial.
func (g *Gossip) pause(to types.Key, attempt int) time.Duration {
	if attempt == 0 {
		if bytes.Compare(g.cfg.Self[:], to[:]) < 0 {
			return 0
		}
		return g.timing.DialMin
	}
	return jitter(backoff(g.timing.DialMin, attempt, g.timing.DialMax))
}
