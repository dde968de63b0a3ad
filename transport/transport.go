// Package transport connects peers, and wallets with peers: QUIC connections over one UDP
// socket, on which each side proves its key. It is the only importer of the QUIC library.
//
// It does not know what the messages say, whom to connect to, or when to try again: that
// is gossip's. It does not read or write what is not QUIC on the socket; such packets start
// with a byte below 0x40, and the library sets them aside for whoever asks.
//
//	         UDP socket (dials and listens)
//	┌──────────────────┴────────────────────┐
//	QUIC, TLS 1.3, throw-away certificates, ALPN "charter/1"
//	│
//	├ stream 0    hello ⇄ hello             each signs the session's exported keying material
//	│             frame, frame, …           then messages in order, both ways
//	└ stream n    frame → frame             a request and its reply, begun by either side
//
//	frame   kind u8 ‖ length u32 ‖ that many bytes
//
// The bytes are in spec/network.md.
package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"charter/sig"
	"charter/types"

	"github.com/quic-go/quic-go"
)

// Config says who an endpoint is and how it behaves. Chain, and one of Listen and Socket,
// must be set.
type Config struct {
	Chain    types.Hash      // id of the chain; others are refused
	Key      *sig.PrivateKey // what it proves; nil for an anonymous client
	Listen   string          // host:port of its UDP socket; port 0 for any
	Socket   net.PacketConn  // instead of Listen: a socket, which Close closes
	Delay    time.Duration   // that each packet waits before it is sent, with Listen: to try out a network of that latency
	Messages map[uint8]int   // the kinds of messages, and the greatest length of each in bytes
	Timing   Timing          // zero values mean those of DefaultTiming
	MaxConns int             // connections that others may open, 0 for DefaultMaxConns
	// Refused, if set, hears of each connection that was opened by somebody else and
	// refused in the handshake. It must not block.
	Refused func(from net.Addr, err error)
}

// Timing is how long an endpoint waits for what.
type Timing struct {
	Handshake time.Duration // for a handshake, in all
	Idle      time.Duration // of silence, until the other side counts as lost
	KeepAlive time.Duration // of silence, until this side says that it is there
	Stall     time.Duration // for the other side to take a message, or to finish one it began
}

// DefaultTiming notices a dead peer in about three seconds: Idle after this side last asked
// whether it is there.
var DefaultTiming = Timing{Handshake: 5 * time.Second, Idle: 2500 * time.Millisecond, KeepAlive: 750 * time.Millisecond, Stall: 15 * time.Second}

// DefaultMaxConns is for a peer that serves MaxMembers others and some wallets: at about
// 60 kB each, a tenth of a gigabyte.
const DefaultMaxConns = 2048

// Bounds of what one connection may make this side hold (spec/network.md, "Limits").
const (
	streamWindow  = 4 << 20 // bytes received and unread on a stream: two of the greatest messages
	connWindow    = 6 << 20 // and on all streams of a connection
	maxRequests   = 64      // requests of the other side under way
	retryAbove    = 64      // connections in their handshake: above, an address must prove itself
	acceptBacklog = 64      // connections that nobody has accepted yet
)

const alpn = "charter/1"

// Endpoint is one UDP socket with its connections. Its methods may be called from any
// goroutine.
type Endpoint struct {
	cfg      Config
	boot     Boot
	socket   net.PacketConn
	quic     *quic.Transport
	listener *quic.Listener
	tls      *tls.Config
	qcfg     *quic.Config

	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	accepted chan *Conn
	tasks    sync.WaitGroup // accept loop and handshakes

	mu     sync.Mutex
	opened int                // connections that others opened, from their first packet on
	young  int                // of these, in their handshake
	conns  map[*Conn]struct{} // past their handshake and not closed
	in     uint64             // bytes received on those that are closed
	out    uint64             // and sent
}

// Listen opens the socket and begins to take connections, which Accept returns. The error is
// of kind PortInUse where another process has the port.
func Listen(cfg Config) (*Endpoint, error) {
	cfg.Timing = cfg.Timing.orDefault()
	if cfg.MaxConns == 0 {
		cfg.MaxConns = DefaultMaxConns
	}
	// The library prints to standard error where the system caps its buffers; a user can do
	// nothing about it, and the buffers it gets are large enough.
	os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	cert, err := throwAwayCertificate()
	if err != nil {
		return nil, err
	}
	e := &Endpoint{
		cfg: cfg, socket: cfg.Socket, accepted: make(chan *Conn, acceptBacklog), conns: map[*Conn]struct{}{},
		tls: &tls.Config{
			MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}, Certificates: []tls.Certificate{cert},
			InsecureSkipVerify:     true, // certificates say nothing: keys are proven over the session
			SessionTicketsDisabled: true, // so that no session shares keying material with another
		},
		qcfg: &quic.Config{
			HandshakeIdleTimeout: cfg.Timing.Handshake, MaxIdleTimeout: cfg.Timing.Idle, KeepAlivePeriod: cfg.Timing.KeepAlive,
			MaxStreamReceiveWindow: streamWindow, MaxConnectionReceiveWindow: connWindow,
			MaxIncomingStreams: maxRequests, MaxIncomingUniStreams: -1,
		},
	}
	if _, err := rand.Read(e.boot[:]); err != nil {
		return nil, fmt.Errorf("draw a boot id: %w", err)
	}
	if e.socket == nil {
		if e.socket, err = openSocket(cfg.Listen); err != nil {
			return nil, err
		}
		if cfg.Delay > 0 {
			e.socket = newLateSocket(e.socket, cfg.Delay)
		}
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.quic = &quic.Transport{Conn: e.socket, ConnContext: e.enter, VerifySourceAddress: e.crowded, StatelessResetKey: resetKey(cfg.Key)}
	if e.listener, err = e.quic.Listen(e.tls, e.qcfg); err != nil {
		e.cancel()
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", e.Addr(), err), e.quic.Close(), e.socket.Close())
	}
	e.tasks.Go(e.acceptLoop)
	return e, nil
}

func (t Timing) orDefault() Timing {
	for _, f := range []struct{ have, def *time.Duration }{
		{&t.Handshake, &DefaultTiming.Handshake}, {&t.Idle, &DefaultTiming.Idle},
		{&t.KeepAlive, &DefaultTiming.KeepAlive}, {&t.Stall, &DefaultTiming.Stall},
	} {
		if *f.have == 0 {
			*f.have = *f.def
		}
	}
	return t
}

func openSocket(address string) (net.PacketConn, error) {
	s, err := net.ListenPacket("udp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &Error{Kind: PortInUse, Detail: fmt.Sprintf("another peer runs on %s; use --listen to choose another port", address), cause: err}
	}
	if err != nil {
		return nil, fmt.Errorf("open UDP socket on %q: %w", address, err)
	}
	return s, nil
}

// throwAwayCertificate is what TLS wants to see. Nobody reads it.
func throwAwayCertificate() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

var tagReset = types.NewTag("charter/stateless reset")

// resetKey is the same in every life of a peer, so that after a crash and restart the others
// learn from their first packet that the old connections are gone. It hangs on a signature
// that is made for nothing else and never leaves.
func resetKey(key *sig.PrivateKey) *quic.StatelessResetKey {
	if key == nil {
		return nil
	}
	s := sig.Sign(*key, tagReset.Hash())
	k := quic.StatelessResetKey(tagReset.Hash(s[:]))
	return &k
}

// Addr is the socket's own address.
func (e *Endpoint) Addr() net.Addr { return e.socket.LocalAddr() }

// Boot tells the lives of a process apart.
func (e *Endpoint) Boot() Boot { return e.boot }

// Accept returns the next connection that somebody else opened, past its handshake. Its
// Peer is zero where the other side is anonymous.
func (e *Endpoint) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-e.accepted:
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-e.ctx.Done():
		return nil, failf(Closed, "the endpoint is closed")
	}
}

// Dial connects to host:port, and demands that the other side proves key want; any key, and
// none, will do where want is zero. Errors are of kind Unreachable, WrongChain, WrongKey,
// BadProof, BadHello or Closed, besides those of ctx.
func (e *Endpoint) Dial(ctx context.Context, address string, want types.Key) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Timing.Handshake)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)()
	udp, err := resolve(ctx, address)
	if err != nil {
		return nil, &Error{Kind: Unreachable, Detail: err.Error(), cause: err}
	}
	qc, err := e.quic.Dial(ctx, udp, e.tls, e.qcfg)
	if err != nil && e.ctx.Err() != nil {
		return nil, failf(Closed, "the endpoint is closed")
	}
	if err != nil {
		return nil, &Error{Kind: Unreachable, Detail: fmt.Sprintf("%s: %v", address, err), cause: err}
	}
	c, err := e.greetDialed(ctx, qc, want)
	if err != nil {
		return nil, err
	}
	return c, e.keep(c)
}

func resolve(ctx context.Context, address string) (*net.UDPAddr, error) {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return net.UDPAddrFromAddrPort(ap), nil
	}
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("peer address %q: want host:port", address)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("peer address %q: the port is not a number up to 65535", address)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("peer address %q: %w", address, err)
	}
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(ips[0].Unmap(), uint16(port))), nil
}

// crowded makes strangers prove that they receive at their address before they cost more.
func (e *Endpoint) crowded(net.Addr) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.young > retryAbove
}

// enter counts a connection that somebody opens, or refuses it.
func (e *Endpoint) enter(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.opened >= e.cfg.MaxConns {
		return nil, errors.New("no room for another connection")
	}
	e.opened++
	e.young++
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.opened--
	})
	// A connection that fails before acceptLoop sees it leaves its youth here.
	grown := new(sync.Once)
	grow := func() {
		grown.Do(func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.young--
		})
	}
	context.AfterFunc(ctx, grow)
	return context.WithValue(ctx, growKey{}, grow), nil
}

type growKey struct{}

func (e *Endpoint) acceptLoop() {
	for {
		qc, err := e.listener.Accept(e.ctx)
		if err != nil {
			return // only at Close
		}
		e.tasks.Go(func() {
			ctx, cancel := context.WithTimeout(e.ctx, e.cfg.Timing.Handshake)
			c, err := e.greetAccepted(ctx, qc)
			cancel()
			qc.Context().Value(growKey{}).(func())()
			if err == nil {
				err = e.keep(c)
			}
			if err != nil {
				if e.cfg.Refused != nil {
					e.cfg.Refused(qc.RemoteAddr(), err)
				}
				return
			}
			select {
			case e.accepted <- c:
			case <-c.Done():
			case <-e.ctx.Done():
			}
		})
	}
}

// keep remembers a connection for Close.
func (e *Endpoint) keep(c *Conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ctx.Err() != nil {
		c.Close(CodeDone, "going away")
		return failf(Closed, "the endpoint is closed")
	}
	e.conns[c] = struct{}{}
	context.AfterFunc(c.quic.Context(), func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.conns, c)
		stats := c.quic.ConnectionStats()
		e.in, e.out = e.in+stats.BytesReceived, e.out+stats.BytesSent
	})
	return nil
}

// Bytes are how many were received and sent on all connections past their handshake, in UDP's
// packets without their headers.
func (e *Endpoint) Bytes() (in, out uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in, out = e.in, e.out
	for c := range e.conns {
		stats := c.quic.ConnectionStats()
		in, out = in+stats.BytesReceived, out+stats.BytesSent
	}
	return in, out
}

// Close tells the other sides, closes the socket, and waits until nothing of the endpoint
// runs any more.
func (e *Endpoint) Close() error {
	e.cancel()
	e.mu.Lock()
	conns := make([]*Conn, 0, len(e.conns))
	for c := range e.conns {
		conns = append(conns, c)
	}
	e.mu.Unlock()
	var closing sync.WaitGroup
	for _, c := range conns {
		closing.Go(func() { c.Close(CodeDone, "going away") })
	}
	closing.Wait()
	err := errors.Join(e.listener.Close(), e.quic.Close(), e.socket.Close())
	e.tasks.Wait()
	return err
}
