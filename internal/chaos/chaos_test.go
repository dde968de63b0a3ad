package chaos

import (
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// device is a space's end in memory.
type device struct {
	out    chan []byte // what the space sends
	in     chan []byte // what arrives
	closed chan struct{}
}

func (d *device) Read(b []byte) (int, error) {
	select {
	case p := <-d.out:
		return copy(b, p), nil
	case <-d.closed:
		return 0, io.EOF
	}
}

func (d *device) Write(b []byte) (int, error) {
	d.in <- bytes.Clone(b)
	return len(b), nil
}

func (d *device) Close() error { close(d.closed); return nil }

func newTestHub(n int) (*Hub, []*device) {
	var plugs []io.ReadWriteCloser
	var ends []*device
	for range n {
		d := &device{make(chan []byte), make(chan []byte, 1<<16), make(chan struct{})}
		plugs, ends = append(plugs, d), append(ends, d)
	}
	return NewHub(plugs, 1), ends
}

// packet is an IPv4 header, and a number.
func packet(to int, number byte) []byte {
	p := make([]byte, 21)
	p[0], p[20] = 0x45, number
	copy(p[16:], Addr(to).AsSlice())
	return p
}

func TestPaths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := newTestHub(3)
		defer h.Close()
		got := func(to int, after time.Duration) []byte {
			t.Helper()
			began := time.Now()
			p := <-d[to].in
			if took := time.Since(began); took != after {
				t.Errorf("packet %d came after %s, want %s", p[20], took, after)
			}
			return p
		}
		d[0].out <- packet(1, 1)
		got(1, 0)
		h.Set(0, 1, Path{Delay: 40 * time.Millisecond})
		h.Set(2, 1, Path{Delay: 10 * time.Millisecond})
		d[0].out <- packet(1, 2)
		d[2].out <- packet(1, 3)
		d[1].out <- packet(0, 4) // the way back is another path
		got(0, 0)
		if p := got(1, 10*time.Millisecond); p[20] != 3 {
			t.Errorf("packet %d came first", p[20])
		}
		got(1, 30*time.Millisecond)

		h.Cut(0, 1, true)
		d[0].out <- packet(1, 5)
		d[0].out <- []byte("what is this?")
		d[0].out <- packet(3, 6)
		other := packet(1, 7)
		other[16] = 192
		d[0].out <- other
		time.Sleep(time.Minute)
		if s := h.Stats(); s.Cut != 1 || s.Foreign != 3 || s.Carried != 4 || len(d[1].in) != 0 {
			t.Errorf("%+v, and %d arrived", s, len(d[1].in))
		}
	})
}

// With jitter packets spread over its time, and none overtakes another of its path.
func TestJitterAndLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := newTestHub(2)
		defer h.Close()
		const sent = 4000
		h.Set(0, 1, Path{Delay: 5 * time.Millisecond, Jitter: 20 * time.Millisecond, Loss: 0.02})
		go func() {
			for i := range sent {
				p := packet(1, 0)
				d[0].out <- append(p, byte(i>>8), byte(i))
				time.Sleep(time.Millisecond)
			}
		}()
		time.Sleep(sent*time.Millisecond + time.Second)
		s := h.Stats()
		if lost := float64(s.Lost) / sent; math.Abs(lost-0.02) > 0.01 || s.Lost+s.Carried != sent {
			t.Errorf("%+v of %d", s, sent)
		}
		last := -1
		for range s.Carried {
			p := <-d[1].in
			if i := int(p[21])<<8 | int(p[22]); i <= last {
				t.Fatalf("packet %d came behind %d", i, last)
			} else {
				last = i
			}
		}
	})
}

// A queue that is full takes no more, and the rest still arrives.
func TestOverrun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, d := newTestHub(2)
		defer h.Close()
		h.Set(0, 1, Path{Delay: time.Second})
		for range maxQueue + 3 {
			d[0].out <- packet(1, 0)
		}
		time.Sleep(time.Minute)
		if s := h.Stats(); s.Overrun != 3 || len(d[1].in) != maxQueue {
			t.Errorf("%+v, and %d arrived", s, len(d[1].in))
		}
	})
}

// Two namespaces talk over the hub, and over nothing else; what is on a loopback is reached by
// Dial only.
func TestSpaces(t *testing.T) {
	var spaces []*Space
	var plugs []io.ReadWriteCloser
	for i := range 2 {
		s, err := OpenSpace(Addr(i))
		var no *NotAllowed
		if errors.As(err, &no) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		spaces, plugs = append(spaces, s), append(plugs, s.Device)
	}
	h := NewHub(plugs, 1)
	defer h.Close()
	var sockets []net.PacketConn
	var inside net.Listener
	for i, s := range spaces {
		if err := s.Do(func() error {
			c, err := net.ListenPacket("udp", Addr(i).String()+":7400")
			if err == nil {
				sockets = append(sockets, c)
				inside, err = net.Listen("tcp", "127.0.0.1:7070")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer sockets[i].Close()
		defer inside.Close()
	}
	if _, err := net.Dial("tcp", "127.0.0.1:7070"); err == nil {
		t.Error("this process is in a namespace of the peers")
	}
	c, err := spaces[1].Dial(t.Context(), "tcp", "127.0.0.1:7070")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()

	send := func(text string) string {
		t.Helper()
		if _, err := sockets[0].WriteTo([]byte(text), sockets[1].LocalAddr()); err != nil {
			t.Fatal(err)
		}
		sockets[1].SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		buf := make([]byte, 100)
		n, from, err := sockets[1].ReadFrom(buf)
		if err != nil {
			return ""
		}
		if from.String() != Addr(0).String()+":7400" {
			t.Errorf("it is from %s", from)
		}
		return string(buf[:n])
	}
	if got := send("hello"); got != "hello" {
		t.Errorf("got %q", got)
	}
	h.Cut(0, 1, true)
	if got := send("cut"); got != "" {
		t.Errorf("got %q over a cut", got)
	}
	h.Cut(0, 1, false)
	h.Set(0, 1, Path{Delay: 10 * time.Millisecond})
	if got := send("again"); got != "again" {
		t.Errorf("got %q", got)
	}
}
