package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"charter/sig"
	"charter/types"

	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	chainA = types.NewTag("test").Hash([]byte("a"))
	chainB = types.NewTag("test").Hash([]byte("b"))
)

func key(t testing.TB, n byte) *sig.PrivateKey {
	t.Helper()
	k, err := sig.ParsePrivateKey([32]byte{31: n})
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

const (
	kindSmall = 1
	kindLarge = 2
)

func open(t testing.TB, chain types.Hash, k *sig.PrivateKey, change ...func(*Config)) *Endpoint {
	t.Helper()
	cfg := Config{Chain: chain, Key: k, Listen: "127.0.0.1:0", Messages: map[uint8]int{kindSmall: 16, kindLarge: 1 << 20}}
	for _, f := range change {
		f(&cfg)
	}
	e, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// pair is a connection seen from both ends.
func pair(t testing.TB, a, b *Endpoint) (ab, ba *Conn) {
	t.Helper()
	ctx := within(t)
	ab, err := a.Dial(ctx, b.Addr().String(), types.Key{})
	if err != nil {
		t.Fatal(err)
	}
	ba, err = b.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return ab, ba
}

func wantKind(t testing.TB, err error, k Kind) {
	t.Helper()
	if !IsKind(err, k) {
		t.Fatalf("want kind %q, have %v", k, err)
	}
}

func TestBothSidesProveTheirKeys(t *testing.T) {
	a, b := open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2))
	ab, err := a.Dial(within(t), b.Addr().String(), key(t, 2).Public())
	if err != nil {
		t.Fatal(err)
	}
	ba, err := b.Accept(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if ab.Peer() != key(t, 2).Public() || ba.Peer() != key(t, 1).Public() {
		t.Fatal("keys are mixed up")
	}
	if !ab.Dialed() || ba.Dialed() || ab.Boot() != b.Boot() || ba.Boot() != a.Boot() {
		t.Fatal("who dialed, or which life, is mixed up")
	}
	if ba.RemoteAddr().String() != a.Addr().String() {
		t.Fatalf("dialed from %s, listens on %s: not one socket", ba.RemoteAddr(), a.Addr())
	}
}

func TestAnonymousClient(t *testing.T) {
	a, b := open(t, chainA, nil), open(t, chainA, key(t, 2))
	ab, ba := pair(t, a, b)
	if !ba.Peer().IsZero() || ab.Peer() != key(t, 2).Public() {
		t.Fatal("a client without key has one, or the peer has none")
	}
	_, err := b.Dial(within(t), a.Addr().String(), key(t, 1).Public())
	wantKind(t, err, Anonymous)
}

func TestMessagesKeepOrderAndBounds(t *testing.T) {
	a, b := open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2))
	ab, ba := pair(t, a, b)
	large := bytes.Repeat([]byte{7}, 1<<20)
	go func() {
		for i := range 100 {
			ab.Send(Message{kindSmall, fmt.Append(nil, i)})
		}
		ab.Send(Message{kindLarge, large})
		ab.Send(Message{kindSmall, nil})
	}()
	for i := range 100 {
		if m, err := ba.Receive(); err != nil || m.Kind != kindSmall || string(m.Data) != fmt.Sprint(i) {
			t.Fatalf("message %d: %v %v", i, m, err)
		}
	}
	if m, err := ba.Receive(); err != nil || !bytes.Equal(m.Data, large) {
		t.Fatal("large message", err)
	}
	if m, err := ba.Receive(); err != nil || len(m.Data) != 0 {
		t.Fatal("empty message", err)
	}
	wantKind(t, ab.Send(Message{kindSmall, make([]byte, 17)}), Oversize)
	wantKind(t, ab.Send(Message{99, nil}), UnknownKind)
	if err := ab.Send(Message{kindSmall, []byte("still open")}); err != nil {
		t.Fatal(err)
	}
}

func TestRequests(t *testing.T) {
	a, b := open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2))
	ab, ba := pair(t, a, b)
	served := make(chan struct{})
	go func() {
		defer close(served)
		ba.Serve(func(ctx context.Context, m Message) (Message, error) {
			switch string(m.Data) {
			case "no":
				return Message{}, errors.New("no")
			case "wait":
				<-ctx.Done()
				return Message{}, ctx.Err()
			}
			return Message{kindLarge, append([]byte("re: "), m.Data...)}, nil
		})
	}()
	ctx := within(t)
	results := make(chan error, 200)
	for i := range 200 {
		go func() {
			m, err := ab.Request(ctx, Message{kindSmall, fmt.Append(nil, i)})
			if err == nil && string(m.Data) != fmt.Sprintf("re: %d", i) {
				err = fmt.Errorf("reply %q to %d", m.Data, i)
			}
			results <- err
		}()
	}
	for range 200 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	_, err := ab.Request(ctx, Message{kindSmall, []byte("no")})
	wantKind(t, err, Refused)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err = ab.Request(short, Message{kindSmall, []byte("wait")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	ab.Close(CodeDone, "bye")
	<-served
	_, err = ab.Request(ctx, Message{kindSmall, nil})
	wantKind(t, err, Closed)
}

// Each row is one thing that may be wrong with an endpoint or a connection, and the kind that
// names it. rows are what TestEachKindHasARow counts.
var rows = []struct {
	kind Kind
	what string
	try  func(t *testing.T) error
}{
	{PortInUse, "port in use", func(t *testing.T) error {
		a := open(t, chainA, key(t, 1))
		_, err := Listen(Config{Chain: chainA, Key: key(t, 2), Listen: a.Addr().String()})
		if err == nil || !strings.Contains(err.Error(), "address already in use: another peer runs on "+a.Addr().String()+"; use --listen") {
			t.Fatal(err)
		}
		return err
	}},
	{WrongChain, "dialer is told both chains", func(t *testing.T) error {
		a, b := open(t, chainA, key(t, 1)), open(t, chainB, key(t, 2))
		_, err := a.Dial(within(t), b.Addr().String(), types.Key{})
		var c *ChainError
		if !errors.As(err, &c) || c.Ours != chainA || c.Theirs != chainB ||
			!strings.Contains(err.Error(), chainA.String()) || !strings.Contains(err.Error(), chainB.String()) {
			t.Fatal(err)
		}
		return err
	}},
	{WrongChain, "acceptor is told both chains", func(t *testing.T) error {
		return refusedBy(t, func(b *Endpoint) { open(t, chainB, key(t, 1)).Dial(within(t), b.Addr().String(), types.Key{}) })
	}},
	{WrongKey, "another peer than the one dialed", func(t *testing.T) error {
		a, b := open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2))
		_, err := a.Dial(within(t), b.Addr().String(), key(t, 3).Public())
		var k *KeyError
		if !errors.As(err, &k) || k.Want != key(t, 3).Public() || k.Have != key(t, 2).Public() {
			t.Fatal(err)
		}
		return err
	}},
	{BadHello, "garbage as hello", func(t *testing.T) error {
		return refusedBy(t, func(b *Endpoint) { rawHello(t, b, bytes.Repeat([]byte{0xff}, helloSize)) })
	}},
	{BadHello, "hello cut short", func(t *testing.T) error {
		return refusedBy(t, func(b *Endpoint) { rawHello(t, b, []byte{helloVersion}) })
	}},
	{BadHello, "key without signature", func(t *testing.T) error {
		h := hello{Chain: chainA, Key: key(t, 1).Public()}
		return refusedBy(t, func(b *Endpoint) { rawHello(t, b, h.encode()) })
	}},
	{BadProof, "signature of another message", func(t *testing.T) error {
		h := hello{Chain: chainA, Key: key(t, 1).Public(), Signature: sig.Sign(*key(t, 1), chainA)}
		return refusedBy(t, func(b *Endpoint) { rawHello(t, b, h.encode()) })
	}},
	{Anonymous, "no key where one was dialed", func(t *testing.T) error {
		a, b := open(t, chainA, key(t, 1)), open(t, chainA, nil)
		_, err := a.Dial(within(t), b.Addr().String(), key(t, 2).Public())
		return err
	}},
	{Oversize, "length above the limit of its kind", func(t *testing.T) error {
		return receiveRaw(t, []byte{kindSmall, 0, 0, 0, 17})
	}},
	{Oversize, "greatest length there is", func(t *testing.T) error {
		return receiveRaw(t, []byte{kindLarge, 255, 255, 255, 255})
	}},
	{UnknownKind, "kind that nobody declared", func(t *testing.T) error {
		return receiveRaw(t, []byte{77, 0, 0, 0, 0})
	}},
	{Cut, "message cut off", func(t *testing.T) error {
		return receiveRaw(t, []byte{kindSmall, 0, 0, 0, 9, 1, 2, 3})
	}},
	{Refused, "request refused", func(t *testing.T) error {
		ab, ba := pair(t, open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2)))
		go ba.Serve(func(context.Context, Message) (Message, error) { return Message{}, io.EOF })
		_, err := ab.Request(within(t), Message{kindSmall, nil})
		return err
	}},
	{Closed, "closed with a code", func(t *testing.T) error {
		ab, ba := pair(t, open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2)))
		ab.Close(CodeBanned, "go away")
		_, err := ba.Receive()
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeBanned || !e.Remote || !strings.Contains(e.Detail, "go away") {
			t.Fatal(err)
		}
		if err := ab.Err(); !IsKind(err, Closed) {
			t.Fatal(err)
		}
		<-ba.Done()
		return ba.Err()
	}},
	{Lost, "the other side falls silent", func(t *testing.T) error {
		quick := func(c *Config) { c.Timing = Timing{Idle: 150 * time.Millisecond, KeepAlive: 50 * time.Millisecond} }
		mute := &muteSocket{PacketConn: listenUDP(t)}
		ab, _ := pair(t, open(t, chainA, key(t, 1), quick, func(c *Config) { c.Socket = mute }), open(t, chainA, key(t, 2), quick))
		mute.off.Store(true)
		_, err := ab.Receive()
		return err
	}},
	{Unreachable, "nobody listens", func(t *testing.T) error {
		quick := func(c *Config) { c.Timing.Handshake = 100 * time.Millisecond }
		_, err := open(t, chainA, key(t, 1), quick).Dial(within(t), "127.0.0.1:1", types.Key{})
		return err
	}},
	{Unreachable, "no address", func(t *testing.T) error {
		_, err := open(t, chainA, key(t, 1)).Dial(within(t), "nonsense", types.Key{})
		return err
	}},
	{Unreachable, "no room", func(t *testing.T) error {
		b := open(t, chainA, key(t, 2), func(c *Config) { c.MaxConns = 1 })
		pair(t, open(t, chainA, key(t, 1)), b)
		_, err := open(t, chainA, key(t, 3)).Dial(within(t), b.Addr().String(), types.Key{})
		return err
	}},
}

func TestWhatGoesWrongHasAKind(t *testing.T) {
	for _, r := range rows {
		t.Run(r.kind.String()+"/"+r.what, func(t *testing.T) {
			t.Parallel()
			wantKind(t, r.try(t), r.kind)
		})
	}
}

func TestEachKindHasARow(t *testing.T) {
	for k := range kinds {
		found := false
		for _, r := range rows {
			found = found || r.kind == k
		}
		if !found {
			t.Errorf("kind %q has no row", k)
		}
	}
}

// refusedBy is the error with which a peer refuses the connection that attack opens.
func refusedBy(t *testing.T, attack func(b *Endpoint)) error {
	refused := make(chan error, 1)
	b := open(t, chainA, key(t, 2), func(c *Config) { c.Refused = func(_ net.Addr, err error) { refused <- err } })
	attack(b)
	select {
	case err := <-refused:
		return err
	case <-within(t).Done():
		t.Fatal("nothing was refused")
		return nil
	}
}

// dialRaw opens a QUIC connection to b with no handshake of ours.
func dialRaw(t *testing.T, b *Endpoint) (*quic.Conn, *quic.Stream) {
	t.Helper()
	tr := &quic.Transport{Conn: listenUDP(t)}
	t.Cleanup(func() { tr.Close(); tr.Conn.Close() })
	qc, err := tr.Dial(within(t), b.Addr(), b.tls, b.qcfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := qc.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	return qc, s
}

func rawHello(t *testing.T, b *Endpoint, data []byte) {
	_, s := dialRaw(t, b)
	s.Write(data)
	s.Close()
}

// receiveRaw is what Receive says to these bytes, after which the sender's connection must
// be closed.
func receiveRaw(t *testing.T, frame []byte) error {
	a, b := open(t, chainA, key(t, 1)), open(t, chainA, key(t, 2))
	ab, ba := pair(t, a, b)
	ab.control.Write(frame)
	ab.control.Close()
	_, err := ba.Receive()
	<-ab.Done()
	var e *Error
	if !errors.As(ab.Err(), &e) || e.Code != CodeProtocol {
		t.Fatal(ab.Err())
	}
	return err
}

// Connections that end make room for others, whether they got past their handshake or not.
func TestRoomComesBack(t *testing.T) {
	b := open(t, chainA, key(t, 2), func(c *Config) { c.MaxConns = 9 })
	a := open(t, chainA, key(t, 1))
	for range 3 {
		ab, _ := pair(t, a, b)
		ab.Close(CodeDone, "")
		_, err := open(t, chainB, key(t, 3)).Dial(within(t), b.Addr().String(), types.Key{})
		wantKind(t, err, WrongChain)
		rawHello(t, b, []byte("garbage"))
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		opened, young, kept := b.opened, b.young, len(b.conns)
		b.mu.Unlock()
		if opened+young+kept == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d opened, %d in their handshake, %d kept", opened, young, kept)
		}
	}
	pair(t, a, b)
}
