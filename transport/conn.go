package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"charter/types"

	"github.com/quic-go/quic-go"
)

// Message is what travels in a frame.
type Message struct {
	Kind uint8
	Data []byte
}

const frameHeader = 5

// Conn is a connection past its handshake. All methods may be called from any goroutine, but
// Receive and Serve from one each.
type Conn struct {
	endpoint *Endpoint
	quic     *quic.Conn
	control  *quic.Stream
	peer     types.Key
	boot     Boot
	dialed   bool

	sending sync.Mutex // a frame is written in one piece
}

func newConn(e *Endpoint, qc *quic.Conn, control *quic.Stream, h *hello, dialed bool) *Conn {
	return &Conn{endpoint: e, quic: qc, control: control, peer: h.Key, boot: h.Boot, dialed: dialed}
}

// Peer is the key that the other side proved, zero if it is anonymous.
func (c *Conn) Peer() types.Key { return c.peer }

// Boot tells the lives of the other side's process apart.
func (c *Conn) Boot() Boot { return c.boot }

// Dialed reports whether this side opened the connection.
func (c *Conn) Dialed() bool { return c.dialed }

// RemoteAddr is where the other side is.
func (c *Conn) RemoteAddr() net.Addr { return c.quic.RemoteAddr() }

// RTT is the smoothed time of a round trip.
func (c *Conn) RTT() time.Duration { return c.quic.ConnectionStats().SmoothedRTT }

// Done is closed when the connection is.
func (c *Conn) Done() <-chan struct{} { return c.quic.Context().Done() }

// Err is why the connection is closed, of kind Closed or Lost; nil until Done.
func (c *Conn) Err() error {
	if c.quic.Context().Err() == nil {
		return nil
	}
	return explain(context.Cause(c.quic.Context()), c.name())
}

func (c *Conn) name() string {
	if c.peer.IsZero() {
		return c.RemoteAddr().String()
	}
	return "peer " + c.peer.Short() + " at " + c.RemoteAddr().String()
}

// Close closes the connection and tells the other side why. The first call counts.
func (c *Conn) Close(code Code, reason string) {
	// The only error is that it is closed already.
	_ = c.quic.CloseWithError(quic.ApplicationErrorCode(code), reason)
}

// Send puts a message on the ordered stream. It blocks while the other side takes nothing;
// after Timing.Stall it closes the connection with CodeStalled. It refuses with kind
// Oversize or UnknownKind what the other side would.
func (c *Conn) Send(m Message) error {
	if err := c.endpoint.allowed(m.Kind, uint64(len(m.Data))); err != nil {
		return err
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	err := c.writeFrame(c.control, m)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.Close(CodeStalled, "took no message for too long")
		return failf(Lost, "%s took no message for %s", c.name(), c.endpoint.cfg.Timing.Stall)
	}
	return explain(err, "send to "+c.name())
}

// Receive returns the next message of the ordered stream. A message that is too long, of an
// unknown kind or cut off closes the connection; the error is of that kind.
func (c *Conn) Receive() (Message, error) {
	m, err := c.readFrame(c.control)
	return m, c.judge(err, "receive from "+c.name())
}

// Request sends a message on a stream of its own and returns the reply. The error is of kind
// Refused where the other side answers no, and that of ctx where the time is up; the
// connection stays in both cases.
func (c *Conn) Request(ctx context.Context, m Message) (Message, error) {
	if err := c.endpoint.allowed(m.Kind, uint64(len(m.Data))); err != nil {
		return Message{}, err
	}
	doing := "request to " + c.name()
	s, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		return Message{}, explain(err, doing)
	}
	defer s.CancelRead(0)
	defer context.AfterFunc(ctx, func() {
		s.CancelRead(0)
		s.CancelWrite(0)
	})()
	if err = c.writeFrame(s, m); err == nil {
		s.Close()
		m, err = c.readFrame(s)
	}
	if ctx.Err() != nil && err != nil {
		return Message{}, fmt.Errorf("%s: %w", doing, ctx.Err())
	}
	return m, c.judge(err, doing)
}

// Handler answers a request. An error refuses it; the other side learns no more than that.
// Its context ends with the connection.
type Handler func(ctx context.Context, request Message) (reply Message, err error)

// Serve answers the other side's requests, each in a goroutine of its own and a bounded
// number at a time, until the connection is closed. It returns when all of them have.
func (c *Conn) Serve(h Handler) {
	var requests sync.WaitGroup
	defer requests.Wait()
	ctx := c.quic.Context()
	slots := make(chan struct{}, maxRequests)
	for {
		s, err := c.quic.AcceptStream(ctx)
		if err != nil {
			return
		}
		slots <- struct{}{}
		requests.Go(func() {
			c.serve(ctx, s, h)
			<-slots
		})
	}
}

func (c *Conn) serve(ctx context.Context, s *quic.Stream, h Handler) {
	defer s.CancelRead(0)
	s.SetReadDeadline(time.Now().Add(c.endpoint.cfg.Timing.Stall))
	m, err := c.readFrame(s)
	if err == nil {
		m, err = h(ctx, m)
	} else {
		err = c.judge(err, "request of "+c.name())
	}
	if err == nil {
		err = c.endpoint.allowed(m.Kind, uint64(len(m.Data)))
	}
	if err == nil {
		err = c.writeFrame(s, m)
	}
	if err != nil {
		s.CancelWrite(0)
		return
	}
	s.Close()
}

// judge closes the connection where err is the other side's breach of the framing.
func (c *Conn) judge(err error, doing string) error {
	var (
		ours   *Error
		stream *quic.StreamError
	)
	switch {
	case errors.As(err, &ours):
		c.Close(CodeProtocol, ours.Kind.String())
		return fmt.Errorf("%s: %w", doing, err)
	case errors.As(err, &stream):
		return &Error{Kind: Refused, Detail: doing, cause: err}
	}
	return explain(err, doing)
}

// allowed judges a message by its header.
func (e *Endpoint) allowed(kind uint8, size uint64) error {
	max, ok := e.cfg.Messages[kind]
	switch {
	case !ok:
		return failf(UnknownKind, "kind %d", kind)
	case size > uint64(max):
		return failf(Oversize, "%d bytes of kind %d, and the limit is %d", size, kind, max)
	}
	return nil
}

func (c *Conn) writeFrame(s *quic.Stream, m Message) error {
	s.SetWriteDeadline(time.Now().Add(c.endpoint.cfg.Timing.Stall))
	head := make([]byte, frameHeader, frameHeader+min(len(m.Data), 1024))
	head[0] = m.Kind
	binary.BigEndian.PutUint32(head[1:], uint32(len(m.Data)))
	rest := m.Data
	if len(rest) <= 1024 { // one write, one packet
		head, rest = append(head, rest...), nil
	}
	if _, err := s.Write(head); err != nil {
		return err
	}
	if len(rest) == 0 {
		return nil
	}
	_, err := s.Write(rest)
	return err
}

func (c *Conn) readFrame(s *quic.Stream) (Message, error) {
	var head [frameHeader]byte
	if _, err := io.ReadFull(s, head[:]); err != nil {
		return Message{}, cut(err)
	}
	kind, size := head[0], binary.BigEndian.Uint32(head[1:])
	if err := c.endpoint.allowed(kind, uint64(size)); err != nil {
		return Message{}, err
	}
	s.SetReadDeadline(time.Now().Add(c.endpoint.cfg.Timing.Stall)) // who begins a message finishes it
	data := make([]byte, size)
	if _, err := io.ReadFull(s, data); err != nil {
		return Message{}, cut(err)
	}
	s.SetReadDeadline(time.Time{})
	return Message{kind, data}, nil
}

// cut names the end of a stream inside or before a frame, and a frame that stops arriving.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return failf(Cut, "the stream ends where a message is due")
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return failf(Cut, "a message was begun and not finished in time")
	}
	return err
}
