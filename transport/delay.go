package transport

import (
	"net"
	"sync"
	"time"
)

// lateSocket is a socket whose packets wait for a fixed time before they are sent, as on a long
// line: in order, and none is lost but for what exceeds the queue.
type lateSocket struct {
	net.PacketConn
	by     time.Duration
	queue  chan latePacket
	closed chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

type latePacket struct {
	due  time.Time
	data []byte
	to   net.Addr
}

// lateQueue is how many packets are under way: half a second's of the fastest peer.
const lateQueue = 1 << 14

func newLateSocket(s net.PacketConn, by time.Duration) *lateSocket {
	l := &lateSocket{PacketConn: s, by: by, queue: make(chan latePacket, lateQueue), closed: make(chan struct{})}
	l.done.Go(l.send)
	return l
}

func (l *lateSocket) send() {
	for {
		select {
		case p := <-l.queue:
			if wait := time.Until(p.due); wait > 0 {
				select {
				case <-time.After(wait):
				case <-l.closed:
					return
				}
			}
			_, _ = l.PacketConn.WriteTo(p.data, p.to) // as any packet, it may be lost
		case <-l.closed:
			return
		}
	}
}

// WriteTo implements net.PacketConn. A packet that finds no room is lost.
func (l *lateSocket) WriteTo(data []byte, to net.Addr) (int, error) {
	select {
	case <-l.closed:
		return 0, net.ErrClosed
	case l.queue <- latePacket{time.Now().Add(l.by), append([]byte(nil), data...), to}:
	default:
	}
	return len(data), nil
}

// Close implements net.PacketConn. What waits is lost.
func (l *lateSocket) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.done.Wait()
	return l.PacketConn.Close()
}

// SetReadBuffer and SetWriteBuffer are what the QUIC library asks of a socket besides.
func (l *lateSocket) SetReadBuffer(bytes int) error {
	return l.PacketConn.(buffered).SetReadBuffer(bytes)
}

// SetWriteBuffer is as SetReadBuffer.
func (l *lateSocket) SetWriteBuffer(bytes int) error {
	return l.PacketConn.(buffered).SetWriteBuffer(bytes)
}

type buffered interface {
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
}
