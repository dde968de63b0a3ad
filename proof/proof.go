// Package proof is the one verifier of everything a wallet is told. It takes a proof and
// what the wallet trusts, and gives back, as a value, what is thereby proven; or a typed
// error that says which step failed, and why (spec/proofs.md).
//
// It makes no I/O and has no clock. Provers of paths sit beside their trees (tlog, forest,
// trie); here are the statements made of them, the certificates that make a checkpoint
// final, and the file that holds all of it together:
//
//	genesis, or a checkpoint that the wallet trusts
//	   │  Advance: steps over checkpoints, each certified by more than two thirds
//	   │           of the shares of a snapshot that an earlier one committed to
//	   ▼
//	checkpoint ──history──► older checkpoint        Consistency, Past
//	   ├── events root ───► transaction's fate      Event
//	   ├── outputs root ──► unspent, or spent at    Output
//	   ├── keys root ─────► all events of a lock    Key
//	   ├── names root ────► who holds a name        Name
//	   └── peers root ────► a peer, and its shares  Peer
//
// What it is not: it does not judge transactions (package ledger), nor whether a checkpoint
// is the newest (ask several peers), nor whether a document says something true.
//
// Each statement is a struct with Encode, its one byte form, and Verify. Decode reads
// any of them; JSON and ParseJSON are the form for people. They are equivalent.
package proof

import (
	"errors"
	"fmt"

	"charter/types"
)

// Kind says why a proof is refused.
type Kind uint8

const (
	// Malformed: the bytes or the JSON are no proof. Wraps a *types.DecodeError, or JSON's error.
	Malformed Kind = iota + 1
	// WrongChain: something in the proof is of another chain.
	WrongChain
	// WrongCheckpoint: the proof leads to another checkpoint than the one it is checked against.
	WrongCheckpoint
	// WrongHeight: checkpoints do not rise where they must.
	WrongHeight
	// WrongSnapshot: a snapshot that no trusted checkpoint committed to, or of a height that cannot be.
	WrongSnapshot
	// UnknownSnapshot: the certificate names a snapshot that nothing has shown to be genuine.
	UnknownSnapshot
	// EarlySnapshot: the certificate's snapshot is too new to have governed that height.
	EarlySnapshot
	// StaleSnapshot: the certificate's snapshot is older than one that was in force before.
	StaleSnapshot
	// BadVotes: votes out of order, repeated, or of no member.
	BadVotes
	// BadSignature: a vote's signature is not its member's. Wraps a *sig.Error.
	BadSignature
	// TooFewVotes: not more than two thirds of the snapshot's shares.
	TooFewVotes
	// NotUnderRoot: a path does not lead to the checkpoint's root. Wraps the tree's error.
	NotUnderRoot
	// WrongTransaction: the transaction is not the one that the event is about.
	WrongTransaction
	// WrongSubject: the proof, or a state in it, is about another output, lock, name or peer.
	WrongSubject
	// WrongDocument: the transaction does not notarise this document.
	WrongDocument
	// Conflict: another checkpoint than the trusted one at its height. Evidence of a fork or a forgery.
	Conflict
	// Unreached: the file ends before, or never passes, what is trusted.
	Unreached
	kindEnd
)

var kinds = [kindEnd]string{
	Malformed: "malformed", WrongChain: "wrong chain", WrongCheckpoint: "wrong checkpoint", WrongHeight: "wrong height",
	WrongSnapshot: "wrong snapshot", UnknownSnapshot: "unknown snapshot", EarlySnapshot: "snapshot too new",
	StaleSnapshot: "stale snapshot", BadVotes: "bad votes", BadSignature: "bad signature", TooFewVotes: "too few votes",
	NotUnderRoot: "not under the root", WrongTransaction: "wrong transaction", WrongSubject: "wrong subject",
	WrongDocument: "wrong document", Conflict: "conflicting checkpoint", Unreached: "does not reach what is trusted",
}

// String is the kind in words.
func (k Kind) String() string {
	if k > 0 && k < kindEnd {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// Error is what this package returns for every proof that it refuses.
type Error struct {
	Kind   Kind
	Step   string // which part of the proof: "advance[3].certificate", "event.path"
	Detail string // the values that disagree, "" where Cause says it
	Cause  error  // the error of the package that found it, or nil
}

func (e *Error) Error() string {
	s := "proof: " + e.Step + ": " + e.Kind.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Cause != nil {
		s += ": " + e.Cause.Error()
	}
	return s
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func refuse(k Kind, step, format string, args ...any) error {
	return &Error{Kind: k, Step: step, Detail: fmt.Sprintf(format, args...)}
}

// within puts the name of the part before the step of a refusal.
func within(part string, err error) error {
	var e *Error
	if errors.As(err, &e) {
		w := *e
		w.Step = part + "." + e.Step
		return &w
	}
	return err
}

// leads checks that a proof names this checkpoint as the one it leads to.
func leads(named types.Hash, cp *types.Checkpoint) error {
	if id := cp.ID(); named != id {
		return refuse(WrongCheckpoint, "checkpoint", "the proof leads to %s, checked against %s at height %d", named, id, cp.Height)
	}
	return nil
}

// about checks that a proof leads to this checkpoint and is about this subject.
func about[S comparable](named types.Hash, cp *types.Checkpoint, has, want S) error {
	if err := leads(named, cp); err != nil {
		return err
	}
	if has != want {
		return refuse(WrongSubject, "subject", "the proof is about %v, want %v", has, want)
	}
	return nil
}
