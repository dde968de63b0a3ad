package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/chain"
)

// Kind is what is wrong, in a word that clients compare (api/charter/v1, "ErrorDetail").
type Kind string

// The kinds. Some stand for those of chain.Error: see translate.
const (
	BadRequest Kind = "bad_request" // the request itself is malformed
	TooLarge   Kind = "too_large"   // a part of it exceeds a bound
	Invalid    Kind = "invalid"     // a transaction that is valid on no state
	WrongChain Kind = "wrong_chain" // the client means another chain
	Conflict   Kind = "conflict"    // a transaction that contradicts what is final
	PoolFull   Kind = "pool_full"   // no room for waiting transactions
	TooMany    Kind = "too_many"    // of something, from one client
	Busy       Kind = "busy"        // the peer cannot keep up
	NotFound   Kind = "not_found"   // there is no such thing
	NotYet     Kind = "not_yet"     // there will be
	NotKept    Kind = "not_kept"    // there was, and this peer has it no more
	Slow       Kind = "slow"        // the client of a watch does not read
	Closing    Kind = "closing"     // the agent stops
	Internal   Kind = "internal"    // the agent is at fault
)

var codes = map[Kind]connect.Code{
	BadRequest: connect.CodeInvalidArgument, TooLarge: connect.CodeInvalidArgument, Invalid: connect.CodeInvalidArgument,
	WrongChain: connect.CodeFailedPrecondition, Conflict: connect.CodeFailedPrecondition,
	PoolFull: connect.CodeResourceExhausted, TooMany: connect.CodeResourceExhausted,
	Busy: connect.CodeUnavailable, NotFound: connect.CodeNotFound, NotYet: connect.CodeUnavailable, NotKept: connect.CodeOutOfRange,
	Slow: connect.CodeAborted, Closing: connect.CodeUnavailable, Internal: connect.CodeInternal,
}

// Error is a refusal that a client can understand and act on.
type Error struct {
	Kind   Kind
	Reason string        // finer than the kind, for programs; may be empty
	Text   string        // one line for a person: what, and what to do
	Retry  time.Duration // how long to wait before trying again, 0 where that does not help
	Others []string      // names of peers that can help
}

func (e *Error) Error() string { return e.Text }

func refuse(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

func (e *Error) after(wait time.Duration) *Error {
	e.Retry = wait
	return e
}

// translate gives a refusal of the chain its kind here, and how long to wait; nil for any
// other error.
func translate(err error) *Error {
	if errors.Is(err, chain.ErrClosed) {
		return errClosing
	}
	var theirs *chain.Error
	if !errors.As(err, &theirs) {
		return nil
	}
	out := &Error{Reason: theirs.Reason, Text: theirs.Text}
	switch theirs.Kind {
	case chain.Invalid:
		out.Kind = Invalid
	case chain.Conflict:
		out.Kind = Conflict
	case chain.PoolFull:
		out.Kind, out.Retry = PoolFull, time.Second
	case chain.NotFound:
		out.Kind = NotFound
	case chain.NotYet:
		out.Kind, out.Retry = NotYet, 250*time.Millisecond
	case chain.NotKept:
		out.Kind = NotKept
	case chain.TooLarge:
		out.Kind = TooLarge
	default:
		return nil
	}
	return out
}

func notYet(err error) bool {
	e := translate(err)
	return e != nil && e.Kind == NotYet
}

// explain is the error as a client may know it. One that is none of ours is logged, and told as
// Internal without its words.
func (a *Agent) explain(call string, err error) *Error {
	ours := translate(err)
	switch {
	case ours != nil && ours.Kind == NotKept:
		return a.whoKeeps(ours)
	case ours != nil, errors.As(err, &ours):
		return ours
	case errors.Is(err, context.DeadlineExceeded):
		return refuse(Busy, "the peer did not manage this in time; try again").after(time.Second)
	}
	a.log.Error("a call failed", "call", call, "err", err)
	return refuse(Internal, "the agent failed; its log says more")
}

// whoKeeps adds to the refusal of what is not kept which connected peers keep more.
func (a *Agent) whoKeeps(e *Error) *Error {
	s := a.status()
	var more []Peer
	for _, p := range s.Peers {
		if p.Connected && p.Key != s.Key && p.Lowest < s.Lowest {
			more = append(more, p)
		}
	}
	slices.SortStableFunc(more, func(x, y Peer) int { return cmp.Compare(x.Lowest, y.Lowest) })
	for _, p := range more[:min(len(more), 8)] {
		e.Others = append(e.Others, p.Name)
	}
	if len(e.Others) > 0 {
		e.Text += "; ask one that keeps more: " + strings.Join(e.Others, ", ")
	} else {
		e.Text += "; no peer that it is connected to keeps more"
	}
	return e
}

// wire is the error as a client gets it.
func (a *Agent) wire(call string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, err)
	case errors.As(err, new(*connect.Error)): // of the protocol: the client went away, a write failed
		return err
	}
	ours := a.explain(call, err)
	out := connect.NewError(codes[ours.Kind], ours)
	detail, err := connect.NewErrorDetail(ours.detail())
	if err != nil {
		panic(fmt.Sprintf("an error detail does not marshal: %v", err)) // three plain fields
	}
	out.AddDetail(detail)
	return out
}

func (e *Error) detail() *v1.ErrorDetail {
	return &v1.ErrorDetail{Kind: string(e.Kind), Reason: e.Reason, RetryAfterMs: uint64(e.Retry.Milliseconds()), Keepers: e.Others}
}
