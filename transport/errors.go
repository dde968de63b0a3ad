package transport

import (
	"errors"
	"fmt"

	"charter/types"

	"github.com/quic-go/quic-go"
)

// Kind says what went wrong with a connection or an endpoint.
type Kind uint8

const (
	// PortInUse: another process holds the UDP port.
	PortInUse Kind = iota + 1
	// WrongChain: the other side belongs to another chain.
	WrongChain
	// WrongKey: the other side proved a key, but not the one that was dialed.
	WrongKey
	// BadProof: the other side did not prove its key over this very session.
	BadProof
	// BadHello: the handshake's first message is not one.
	BadHello
	// Anonymous: the other side proved no key, where one is needed.
	Anonymous
	// Oversize: a message longer than its kind allows.
	Oversize
	// UnknownKind: a message of a kind that nobody declared.
	UnknownKind
	// Cut: a message or a reply that ends before its length.
	Cut
	// Refused: the other side answered a request with no.
	Refused
	// Closed: the connection was closed, by Code and by whom Remote says.
	Closed
	// Lost: the other side fell silent.
	Lost
	// Unreachable: nobody answers at the address.
	Unreachable
)

var kinds = map[Kind]string{
	PortInUse: "address already in use", WrongChain: "wrong chain", WrongKey: "wrong key", BadProof: "key not proven",
	BadHello: "bad hello", Anonymous: "no key", Oversize: "message too long", UnknownKind: "unknown message", Cut: "cut off",
	Refused: "refused", Closed: "closed", Lost: "lost", Unreachable: "unreachable",
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Error is what this package returns for everything that is not a bug of its user.
type Error struct {
	Kind   Kind
	Detail string // one line for a person
	Code   Code   // for Closed: the reason
	Remote bool   // for Closed: the other side closed
	cause  error
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return e.Kind.String()
	}
	return e.Kind.String() + ": " + e.Detail
}

// Unwrap is the cause below, if any.
func (e *Error) Unwrap() error { return e.cause }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// ChainError names the two chains of a WrongChain error, which wraps it.
type ChainError struct{ Ours, Theirs types.Hash }

func (e *ChainError) Error() string {
	return fmt.Sprintf("this side is on chain %s, the other on %s", e.Ours, e.Theirs)
}

// KeyError names the two keys of a WrongKey error, which wraps it.
type KeyError struct{ Want, Have types.Key }

func (e *KeyError) Error() string { return fmt.Sprintf("want peer %s, have %s", e.Want, e.Have) }

// Code tells the other side why a connection is closed (spec/network.md, "Closing").
type Code uint64

const (
	CodeDone       Code = 0  // going away, nothing is wrong
	CodeWrongChain Code = 1  // WrongChain
	CodeWrongKey   Code = 2  // WrongKey
	CodeBadProof   Code = 3  // BadProof or BadHello
	CodeProtocol   Code = 4  // Oversize, UnknownKind or Cut
	CodeDuplicate  Code = 16 // the two have another connection, which stays
	CodeNotPeer    Code = 17 // the key is none that this side exchanges with
	CodeBanned     Code = 18 // misbehaved; a back-off holds
	CodeStalled    Code = 19 // took no message for too long
)

// refuse is an error with a cause that tells the whole story.
func refuse(k Kind, cause error) *Error { return &Error{Kind: k, Detail: cause.Error(), cause: cause} }

func failf(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Detail: fmt.Sprintf(format, args...)}
}

// explain turns an error of the QUIC library into one of this package. What is already one,
// and what is nothing of the network (a cancelled context), stays as it is.
func explain(err error, doing string) error {
	var (
		ours  *Error
		app   *quic.ApplicationError
		idle  *quic.IdleTimeoutError
		hand  *quic.HandshakeTimeoutError
		reset *quic.StatelessResetError
	)
	switch {
	case err == nil || errors.As(err, &ours):
		return err
	case errors.As(err, &app):
		who := "by this side"
		if app.Remote {
			who = "by the other side"
		}
		return &Error{Kind: Closed, Detail: fmt.Sprintf("%s, code %d %q", who, app.ErrorCode, app.ErrorMessage),
			Code: Code(app.ErrorCode), Remote: app.Remote, cause: err}
	case errors.As(err, &hand):
		return &Error{Kind: Unreachable, Detail: doing + ": no answer", cause: err}
	case errors.As(err, &idle), errors.As(err, &reset):
		return &Error{Kind: Lost, Detail: doing, cause: err}
	}
	return fmt.Errorf("%s: %w", doing, err)
}
