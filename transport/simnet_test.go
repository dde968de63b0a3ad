package transport

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"charter/types"

	"github.com/quic-go/quic-go/testutils/simnet"
)

// In virtual time, over a network in memory with 50 ms from side to side: what a handshake
// costs, and how soon a dead peer is noticed by the default timing.
func TestDelaysInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const delay = 50 * time.Millisecond
		network := &simnet.Simnet{Router: &simnet.PerfectRouter{}}
		link := simnet.NodeBiDiLinkSettings{Latency: delay}
		sockets := []*muteSocket{
			{PacketConn: network.NewEndpoint(&net.UDPAddr{IP: net.IP{10, 0, 0, 1}, Port: 9000}, link)},
			{PacketConn: network.NewEndpoint(&net.UDPAddr{IP: net.IP{10, 0, 0, 2}, Port: 9000}, link)},
		}
		if err := network.Start(); err != nil {
			t.Fatal(err)
		}
		defer network.Close()
		a := open(t, chainA, key(t, 1), func(c *Config) { c.Socket = sockets[0] })
		b := open(t, chainA, key(t, 2), func(c *Config) { c.Socket = sockets[1] })
		defer b.Close()
		defer a.Close()

		began := time.Now()
		ab, err := a.Dial(t.Context(), b.Addr().String(), key(t, 2).Public())
		if err != nil {
			t.Fatal(err)
		}
		// One round trip for TLS, one for the hellos.
		if took := time.Since(began); took < 4*delay || took > 5*delay {
			t.Errorf("the handshake took %s", took)
		}
		ba, err := b.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began = time.Now()
		ab.Send(Message{kindSmall, []byte("x")})
		if _, err := ba.Receive(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < delay || took > delay+10*time.Millisecond {
			t.Errorf("a message took %s", took)
		}

		time.Sleep(time.Minute) // idle, and kept alive
		if ab.Err() != nil || ba.Err() != nil {
			t.Fatal(ab.Err(), ba.Err())
		}
		began = time.Now()
		sockets[1].off.Store(true)
		_, err = ab.Receive()
		wantKind(t, err, Lost)
		if took := time.Since(began); took < 2*time.Second || took > 3500*time.Millisecond {
			t.Errorf("the dead peer was noticed after %s", took)
		}
		if ab.Peer() == (types.Key{}) {
			t.Error("the key is forgotten")
		}
	})
}
