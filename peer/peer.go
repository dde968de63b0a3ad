// Package peer is the assembly of a peer process: it opens a peer's parts in order, joins them,
// watches over them, and closes them in order. It decides nothing that a part could decide.
//
//	           TCP: wallets, tools              UDP: other peers
//	                 │                                 │
//	            agent (HTTP)                       transport
//	                 │                                 │
//	                 └────────► chain ◄────────► gossip┘
//	                              │
//	    TCP, loopback           store
//	/metrics, /debug/pprof    (one directory)
//
// Everything that can be set is in Config.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"charter/agent"
	"charter/chain"
	"charter/gossip"
	"charter/sig"
	"charter/store"
	"charter/transport"
	"charter/types"
)

// Peer is a running peer. Its methods may be called by any goroutine.
type Peer struct {
	cfg     Config
	log     *slog.Logger
	genesis *types.Genesis
	key     sig.PrivateKey
	self    types.Key

	store    *store.Store
	endpoint *transport.Endpoint
	chain    *chain.Chain
	gossip   *gossip.Gossip
	agent    *agent.Agent
	api      *server // nil for none
	debug    *server // nil for none

	registered atomic.Pointer[[]types.PeerState] // as last read from the chain
	drift      atomic.Int64                      // ms that the others' clocks are ahead of the machine's
	correction atomic.Int64                      // ms by which the chain's clock is ahead of the machine's

	tasks  sync.WaitGroup
	cancel context.CancelFunc // of tasks
	closed sync.Once
	failed chan error // the first failure waits in it
}

// Start starts a peer. Errors say what is wrong and what to do; those of the store
// (*store.Error) and of transport (*transport.Error, of kind PortInUse) pass through.
func Start(cfg Config, log *slog.Logger) (*Peer, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.now == nil {
		cfg.now = func() types.Millis { return types.MillisOf(time.Now()) }
	}
	p := &Peer{cfg: cfg, log: log, failed: make(chan error, 1), cancel: func() {}}
	if err := p.open(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// open opens the parts, from the ground up. Close closes what is open if it fails.
func (p *Peer) open() (err error) {
	if p.genesis, err = ReadGenesis(p.cfg.path(p.cfg.Genesis)); err != nil {
		return err
	}
	keyFile := p.cfg.path(p.cfg.Key)
	var exposed bool
	if p.key, exposed, err = ReadKey(keyFile); err != nil {
		return err
	}
	if exposed {
		p.log.Warn("others on this machine can read the peer's key", "file", keyFile, "do", "chmod 600 "+keyFile)
	}
	p.self = p.key.Public()
	if p.api, err = listen("api", p.cfg.API, p.log); err != nil {
		return err
	}
	if p.debug, err = listen("debug", p.cfg.Debug, p.log); err != nil {
		return err
	}
	if err = p.openChain(); err != nil {
		return err
	}
	p.refresh()
	p.warnUnknown()
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.tasks.Go(func() { p.watchClock(ctx) })
	p.tasks.Go(func() { p.watchPeers(ctx) })
	p.tasks.Go(func() { p.report(ctx) })
	p.tasks.Go(func() { p.watchFailure(ctx) })
	p.serve()
	p.log.Info("the peer runs", "chain", p.genesis.ChainID(), "network", p.genesis.Network, "peer", p.self, "name", p.name(),
		"height", p.Status().Height, "final", p.Status().Final, "listen", p.endpoint.Addr().String(), "api", p.APIAddr(), "debug", p.DebugAddr())
	return nil
}

// openChain opens store, socket, chain and gossip.
func (p *Peer) openChain() (err error) {
	id := p.genesis.ChainID()
	p.store, err = store.Open(filepath.Join(p.cfg.Dir, "store"), store.Options{
		Chain: id, Peer: p.self, Logger: p.log, Cache: int64(p.cfg.CacheMB) << 20,
	})
	if err != nil {
		return err
	}
	at, err := p.listenAddress()
	if err != nil {
		return err
	}
	p.endpoint, err = transport.Listen(transport.Config{
		Chain: id, Key: &p.key, Listen: at, Delay: p.cfg.Delay, Messages: gossip.MessageLimits,
		Refused: func(from net.Addr, err error) {
			p.log.Debug("refused a connection", "from", from.String(), "error", err)
		},
	})
	if err != nil {
		return err
	}
	link := &network{log: p.log}
	p.chain, err = chain.Open(chain.Config{
		Genesis: p.genesis, Key: p.key, Store: p.store, Network: link, Pool: p.cfg.limits(), Log: p.log,
		Now: p.clock, Keep: uint64(p.cfg.Keep), Adrift: true, // until watchClock knows better
	})
	if err != nil {
		return err
	}
	p.gossip = gossip.Start(gossip.Config{ChainID: id, Self: p.self, Endpoint: p.endpoint, Chain: p.chain, Log: p.log, Now: p.cfg.now})
	link.join(p.gossip, p.chain)
	return nil
}

// listenAddress is where the UDP socket is to be.
func (p *Peer) listenAddress() (string, error) {
	if p.cfg.Listen != "" {
		return p.cfg.Listen, nil
	}
	i := slices.IndexFunc(p.genesis.Peers, func(g types.GenesisPeer) bool { return g.Peer == p.self })
	if i < 0 {
		return "", fmt.Errorf("configuration: listen is not set, and the genesis has no address for this peer (key %s): set listen to host:port", p.self)
	}
	return p.genesis.Peers[i].Address, nil
}

// network is the chain's way to gossip, which comes after the chain: what is said in
// between waits.
type network struct {
	log    *slog.Logger
	mu     sync.Mutex
	gossip *gossip.Gossip
	chain  *chain.Chain // set with gossip
	early  []func(*gossip.Gossip)
}

func (n *network) join(g *gossip.Gossip, c *chain.Chain) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gossip, n.chain = g, c
	for _, f := range n.early {
		f(g)
	}
	n.early = nil
}

func (n *network) do(f func(*gossip.Gossip)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gossip == nil {
		n.early = append(n.early, f)
		return
	}
	f(n.gossip)
}

// The methods of chain.Network.

func (n *network) Broadcast(b types.RawBlock) { n.do(func(g *gossip.Gossip) { g.Broadcast(b) }) }

func (n *network) BroadcastVote(v types.SignedVote) {
	n.do(func(g *gossip.Gossip) { g.BroadcastVote(v) })
}

func (n *network) Want(ids []types.Hash, from types.Key) {
	n.do(func(g *gossip.Gossip) { g.Want(ids, from) })
}

// Forward tells the chain of what the host could not be given.
func (n *network) Forward(txs [][]byte, host types.Key) {
	n.do(func(g *gossip.Gossip) {
		for _, raw := range txs {
			g.Forward(raw, host, func(err error) {
				if err != nil {
					n.log.Debug("a transaction was not forwarded", "error", err)
					n.chain.Unforwarded(raw)
				}
			})
		}
	})
}

func (n *network) Misbehaved(who types.Key, err error) {
	n.do(func(g *gossip.Gossip) { g.Misbehaved(who, err) })
}

// serve starts to answer over HTTP.
func (p *Peer) serve() {
	p.agent = agent.New(agent.Config{Chain: p.chain, Status: p.Status, Limits: p.cfg.apiLimits(), Key: &p.key, Genesis: p.genesis, Version: p.cfg.Version, Log: p.log})
	if p.api != nil {
		mux := http.NewServeMux()
		mux.Handle(p.agent.Handler())
		mux.Handle(p.agent.LogHandler())
		mux.Handle(p.agent.JoinHandler(p.chain))
		p.api.start(p.agent.Server(mux), p.fail)
	}
	if p.debug != nil {
		p.debug.start(&http.Server{Handler: p.debugHandler(), ReadHeaderTimeout: 10 * time.Second}, p.fail)
	}
}

// Failed gives the error that makes the peer unable to go on. Close it then.
func (p *Peer) Failed() <-chan error { return p.failed }

func (p *Peer) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

func (p *Peer) watchFailure(ctx context.Context) {
	select {
	case <-p.chain.Failed():
		err := p.store.Err()
		if err == nil {
			err = p.chain.Err()
		}
		p.fail(err)
	case <-ctx.Done():
	}
}

// Close stops the peer in good order: first it takes nothing more from wallets and peers, then it
// stops working, and last it lets go of its directory. What was acknowledged is durable.
func (p *Peer) Close() (err error) {
	p.closed.Do(func() {
		p.cancel()
		p.tasks.Wait()
		if p.agent != nil {
			p.agent.Close()
		}
		p.api.close()
		p.debug.close()
		if p.gossip != nil {
			p.gossip.Close()
		}
		if p.chain != nil {
			err = p.chain.Close()
		}
		if p.endpoint != nil {
			err = errors.Join(err, p.endpoint.Close())
		}
		if p.store != nil {
			err = errors.Join(err, p.store.Close())
		}
	})
	return err
}

// ChainID is the id of the peer's chain, and Key the peer's own key.
func (p *Peer) ChainID() types.Hash { return p.genesis.ChainID() }
func (p *Peer) Key() types.Key      { return p.self }

// APIAddr and DebugAddr are where the two are served, host:port, or empty.
func (p *Peer) APIAddr() string   { return p.api.address() }
func (p *Peer) DebugAddr() string { return p.debug.address() }

// server is an HTTP server on a TCP port. A nil one is none.
type server struct {
	listener net.Listener
	http     *http.Server
	open     atomic.Int64 // connections
	done     sync.WaitGroup
}

func listen(what, address string, log *slog.Logger) (*server, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: another process has TCP port %s; set --%s to a free one: %w", what, address, what, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: listen on %q: %w", what, address, err)
	}
	if host, _, _ := net.SplitHostPort(l.Addr().String()); what == "debug" && !net.ParseIP(host).IsLoopback() {
		log.Warn("/metrics and /debug/pprof answer everybody who reaches them", "address", l.Addr().String())
	}
	return &server{listener: l}, nil
}

func (s *server) start(h *http.Server, fail func(error)) {
	s.http = h
	h.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.open.Add(-1)
		}
	}
	s.done.Go(func() {
		if err := h.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
			fail(fmt.Errorf("serve on %s: %w", s.listener.Addr(), err))
		}
	})
}

// grace is how long calls that are being answered have when the peer stops.
const grace = 2 * time.Second

func (s *server) close() {
	if s == nil {
		return
	}
	if s.http == nil {
		_ = s.listener.Close() // it accepted nothing
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // the connections that would not end; there is nothing left to lose
	}
	s.done.Wait()
}

func (s *server) address() string {
	if s == nil {
		return ""
	}
	return s.listener.Addr().String()
}
