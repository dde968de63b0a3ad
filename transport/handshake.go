package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"charter/sig"
	"charter/types"

	"github.com/quic-go/quic-go"
)

// Boot is drawn at random when an endpoint opens: a peer with another Boot than before has
// started anew, and whatever connection it had is dead.
type Boot [16]byte

// hello is the first message each way on stream 0 (spec/network.md, "Handshake"):
//
//	version u8 = 1 ‖ chain 32 ‖ key 32 ‖ boot 16 ‖ signature 64
//
// Key and signature are zero for an anonymous side. The signature is over
//
//	tagged hash "charter/handshake" (chain ‖ exported)
//	exported = TLS exporter (RFC 8446, section 7.5; RFC 5705), label of the side, context chain, 32 bytes
//
// so it holds in this session only, and for this side of it only.
type hello struct {
	Chain     types.Hash
	Key       types.Key
	Boot      Boot
	Signature types.Signature
}

const (
	helloVersion = 1
	helloSize    = 1 + 32 + 32 + 16 + 64

	labelDialer   = "EXPORTER-charter/1 dialer"
	labelAcceptor = "EXPORTER-charter/1 acceptor"

	// lingerAfter is how long the accepting side leaves its hello in flight where the chains
	// differ, so that the dialer can name both.
	lingerAfter = time.Second
)

// closeCodes are the codes that tell the other side what its handshake failed for.
var closeCodes = map[Kind]Code{
	WrongChain: CodeWrongChain, WrongKey: CodeWrongKey, Anonymous: CodeWrongKey,
	BadProof: CodeBadProof, BadHello: CodeBadProof,
}

var tagHandshake = types.NewTag("charter/handshake")

func (h *hello) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, helloSize))
	e.U8(helloVersion)
	e.Hash(h.Chain)
	e.Key(h.Key)
	e.Raw(h.Boot[:])
	e.Signature(h.Signature)
	return e.Data()
}

func decodeHello(data []byte) (*hello, error) {
	d := types.NewDecoder("hello", data)
	if d.U8("version") != helloVersion {
		d.Fail(types.Unknown, "version")
	}
	h := &hello{Chain: d.Hash("chain"), Key: d.Key("key")}
	copy(h.Boot[:], d.Take("boot", len(h.Boot)))
	h.Signature = d.Signature("signature")
	if h.Key.IsZero() != h.Signature.IsZero() {
		d.Fail(types.NotCanonical, "signature")
	}
	if err := d.Finish(); err != nil {
		return nil, refuse(BadHello, err)
	}
	return h, nil
}

// digest is what the side with this label signs.
func digest(qc *quic.Conn, label string, chain types.Hash) (types.Hash, error) {
	state := qc.ConnectionState().TLS
	exported, err := state.ExportKeyingMaterial(label, chain[:], 32)
	if err != nil {
		return types.Hash{}, fmt.Errorf("export keying material: %w", err)
	}
	return tagHandshake.Hash(chain[:], exported), nil
}

// sendHello writes this side's hello.
func (e *Endpoint) sendHello(qc *quic.Conn, s *quic.Stream, label string) error {
	h := hello{Chain: e.cfg.Chain, Boot: e.boot}
	if e.cfg.Key != nil {
		d, err := digest(qc, label, e.cfg.Chain)
		if err != nil {
			return err
		}
		h.Key, h.Signature = e.cfg.Key.Public(), sig.Sign(*e.cfg.Key, d)
	}
	_, err := s.Write(h.encode())
	return err
}

// readHello reads the other side's hello and judges it.
func (e *Endpoint) readHello(qc *quic.Conn, s *quic.Stream, label string) (*hello, error) {
	var buf [helloSize]byte
	if _, err := io.ReadFull(s, buf[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, failf(BadHello, "it ends too early")
	} else if err != nil {
		return nil, err
	}
	h, err := decodeHello(buf[:])
	if err != nil {
		return nil, err
	}
	if h.Chain != e.cfg.Chain {
		return nil, refuse(WrongChain, &ChainError{Ours: e.cfg.Chain, Theirs: h.Chain})
	}
	if h.Key.IsZero() {
		return h, nil
	}
	d, err := digest(qc, label, h.Chain)
	if err != nil {
		return nil, err
	}
	if err := sig.Verify(h.Key, d, h.Signature); err != nil {
		return nil, &Error{Kind: BadProof, Detail: fmt.Sprintf("peer %s did not sign this session: somebody may sit in between", h.Key.Short()), cause: err}
	}
	return h, nil
}

// greetDialed is the dialer's side of the handshake: it speaks first.
func (e *Endpoint) greetDialed(ctx context.Context, qc *quic.Conn, want types.Key) (*Conn, error) {
	defer context.AfterFunc(ctx, func() { qc.CloseWithError(quic.ApplicationErrorCode(CodeDone), "gave up") })()
	s, err := qc.OpenStreamSync(ctx)
	if err == nil {
		err = e.sendHello(qc, s, labelDialer)
	}
	var h *hello
	if err == nil {
		h, err = e.readHello(qc, s, labelAcceptor)
	}
	switch {
	case err != nil:
	case want.IsZero():
	case h.Key.IsZero():
		err = failf(Anonymous, "want peer %s, and the other side proves no key", want)
	case h.Key != want:
		err = refuse(WrongKey, &KeyError{Want: want, Have: h.Key})
	}
	return e.settle(qc, s, h, true, err)
}

// greetAccepted is the other side: it shows its own proof to those only who are on its chain
// and have proven what they claim.
func (e *Endpoint) greetAccepted(ctx context.Context, qc *quic.Conn) (*Conn, error) {
	defer context.AfterFunc(ctx, func() { qc.CloseWithError(quic.ApplicationErrorCode(CodeBadProof), "the handshake took too long") })()
	s, err := qc.AcceptStream(ctx)
	var h *hello
	if err == nil {
		h, err = e.readHello(qc, s, labelDialer)
	}
	if err == nil || IsKind(err, WrongChain) {
		if e2 := e.sendHello(qc, s, labelAcceptor); e2 != nil && err == nil {
			err = e2
		}
	}
	if IsKind(err, WrongChain) {
		select {
		case <-qc.Context().Done():
		case <-time.After(lingerAfter):
		case <-ctx.Done():
		}
	}
	return e.settle(qc, s, h, false, err)
}

// settle makes the connection, or closes it for the reason that err gives.
func (e *Endpoint) settle(qc *quic.Conn, s *quic.Stream, h *hello, dialed bool, err error) (*Conn, error) {
	if err == nil {
		return newConn(e, qc, s, h, dialed), nil
	}
	code, reason := CodeDone, ""
	var ours *Error
	if errors.As(err, &ours) {
		code, reason = closeCodes[ours.Kind], ours.Kind.String() // the other side learns no more
	}
	qc.CloseWithError(quic.ApplicationErrorCode(code), reason)
	err = explain(err, "handshake with "+qc.RemoteAddr().String())
	if errors.As(err, &ours) && ours.Kind == Closed && ours.Remote && ours.Code == CodeBadProof {
		return nil, &Error{Kind: BadProof, Detail: "the other side does not take our proof for this session: somebody may sit in between", cause: ours}
	}
	return nil, err
}
