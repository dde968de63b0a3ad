package transport

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"charter/sig"
	"charter/types"

	"github.com/quic-go/quic-go"
)

func listenUDP(t testing.TB) net.PacketConn {
	t.Helper()
	s, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// muteSocket stops sending when off is set.
type muteSocket struct {
	net.PacketConn
	off atomic.Bool
}

func (m *muteSocket) WriteTo(b []byte, a net.Addr) (int, error) {
	if m.off.Load() {
		return len(b), nil
	}
	return m.PacketConn.WriteTo(b, a)
}

// A proof that was made for one session is worth nothing in the next.
func TestReplayedProofFails(t *testing.T) {
	a := open(t, chainA, key(t, 1))
	// A listener of the attacker's takes a's hello ...
	thief := &quic.Transport{Conn: listenUDP(t)}
	defer func() { thief.Close(); thief.Conn.Close() }()
	l, err := thief.Listen(a.tls, a.qcfg)
	if err != nil {
		t.Fatal(err)
	}
	stolen := make([]byte, helloSize)
	dialed := make(chan error, 1)
	go func() {
		_, err := a.Dial(within(t), thief.Conn.LocalAddr().String(), types.Key{})
		dialed <- err
	}()
	qc, err := l.Accept(within(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := qc.AcceptStream(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, stolen); err != nil {
		t.Fatal(err)
	}
	// ... and shows it back to a, as if it were its own, then to b.
	s.Write(stolen)
	wantKind(t, <-dialed, BadProof)
	wantKind(t, refusedBy(t, func(b *Endpoint) { rawHello(t, b, stolen) }), BadProof)
}

// Both sides of a session sign different material: neither can be shown its own proof.
func TestProofIsBoundToItsSide(t *testing.T) {
	wantKind(t, refusedBy(t, func(b *Endpoint) {
		qc, s := dialRaw(t, b)
		d, err := digest(qc, labelAcceptor, chainA)
		if err != nil {
			t.Fatal(err)
		}
		h := hello{Chain: chainA, Key: key(t, 1).Public(), Signature: sig.Sign(*key(t, 1), d)}
		s.Write(h.encode())
	}), BadProof)
}

// Who sits in the middle ends two sessions, and passes on every byte of them.
func TestManInTheMiddleIsCaught(t *testing.T) {
	refused := make(chan error, 1)
	a := open(t, chainA, key(t, 1))
	b := open(t, chainA, key(t, 2), func(c *Config) { c.Refused = func(_ net.Addr, err error) { refused <- err } })
	middle := &quic.Transport{Conn: listenUDP(t)}
	defer func() { middle.Close(); middle.Conn.Close() }()
	l, err := middle.Listen(a.tls, a.qcfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		left, err := l.Accept(ctx)
		if err != nil {
			return
		}
		from, err := left.AcceptStream(ctx)
		if err != nil {
			return
		}
		right, err := middle.Dial(ctx, b.Addr(), a.tls, a.qcfg)
		if err != nil {
			return
		}
		to, err := right.OpenStream()
		if err != nil {
			return
		}
		back := make(chan struct{})
		go func() { defer close(back); io.Copy(from, to); left.CloseWithError(3, "") }()
		io.Copy(to, from)
		<-back
	}()
	_, err = a.Dial(within(t), middle.Conn.LocalAddr().String(), key(t, 2).Public())
	wantKind(t, err, BadProof)
	select {
	case err := <-refused:
		wantKind(t, err, BadProof)
	case <-within(t).Done():
		t.Fatal("b took the proof of another session")
	}
	cancel()
	<-passed
}

func TestSlowHandshakeEnds(t *testing.T) {
	refused := make(chan error, 1)
	b := open(t, chainA, key(t, 2), func(c *Config) {
		c.Timing.Handshake = 100 * time.Millisecond
		c.Refused = func(_ net.Addr, err error) { refused <- err }
	})
	qc, _ := dialRaw(t, b)
	<-qc.Context().Done()
	if err := <-refused; err == nil {
		t.Fatal("no reason")
	}
}

// What is not QUIC on the socket does no harm.
func TestStrayPackets(t *testing.T) {
	a, b := open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2))
	s := listenUDP(t)
	defer s.Close()
	for first := range 256 {
		s.WriteTo(append([]byte{byte(first)}, bytes.Repeat([]byte{0xa5}, first*5)...), b.Addr())
	}
	pair(t, a, b)
}

// A message that is begun must be finished, a message that is sent must be taken.
func TestStalls(t *testing.T) {
	quick := func(c *Config) { c.Timing.Stall = 100 * time.Millisecond }
	a, b := open(t, chainA, key(t, 1), quick), open(t, chainA, key(t, 2), quick)
	ab, ba := pair(t, a, b)
	ab.control.Write([]byte{kindLarge, 0, 0, 1, 0, 42})
	_, err := ba.Receive()
	wantKind(t, err, Cut)

	ab, ba = pair(t, a, b)
	for err = nil; err == nil; {
		err = ab.Send(Message{kindLarge, make([]byte, 1<<20)})
	}
	wantKind(t, err, Lost)
	<-ba.Done()
	if e := ba.Err().(*Error); e.Code != CodeStalled {
		t.Fatal(e)
	}
}

// After a crash and restart on the same port the other side learns at once that its old
// connection is gone.
func TestRestartResetsOldConnections(t *testing.T) {
	patient := func(c *Config) { c.Timing = Timing{Idle: time.Minute, KeepAlive: 50 * time.Millisecond} }
	b := open(t, chainA, key(t, 2), patient)
	socket := &muteSocket{PacketConn: listenUDP(t)}
	address := socket.LocalAddr().String()
	a := open(t, chainA, key(t, 1), patient, func(c *Config) { c.Socket = socket })
	_, ba := pair(t, a, b)
	socket.off.Store(true) // it dies without a word
	a.Close()
	open(t, chainA, key(t, 1), patient, func(c *Config) { c.Listen = address })
	select {
	case <-ba.Done():
		wantKind(t, ba.Err(), Lost)
	case <-within(t).Done():
		t.Fatal("the old connection lives on")
	}
}

func FuzzHello(f *testing.F) {
	k, _ := sig.ParsePrivateKey([32]byte{31: 1})
	f.Add((&hello{Chain: chainA}).encode())
	f.Add((&hello{Chain: chainA, Key: k.Public(), Signature: sig.Sign(k, chainA)}).encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := decodeHello(data)
		if err != nil {
			wantKind(t, err, BadHello)
			return
		}
		if !bytes.Equal(h.encode(), data) {
			t.Fatal("a second encoding of one hello")
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	x, y := open(b, chainA, key(b, 1)), open(b, chainA, key(b, 2))
	xy, yx := pair(b, x, y)
	go yx.Serve(func(_ context.Context, m Message) (Message, error) { return m, nil })
	ctx := context.Background()
	for b.Loop() {
		if _, err := xy.Request(ctx, Message{kindSmall, []byte("ping")}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSendLarge(b *testing.B) {
	x, y := open(b, chainA, key(b, 1)), open(b, chainA, key(b, 2))
	xy, yx := pair(b, x, y)
	data := make([]byte, 1<<20)
	b.SetBytes(int64(len(data)))
	go func() {
		for xy.Send(Message{kindLarge, data}) == nil {
		}
	}()
	for b.Loop() {
		if _, err := yx.Receive(); err != nil {
			b.Fatal(err)
		}
	}
}
