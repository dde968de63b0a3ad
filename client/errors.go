package client

import (
	"errors"
	"fmt"
)

// Kind says why something was not done.
type Kind uint8

const (
	// Exists: there is a wallet file already.
	Exists Kind = iota + 1
	// Missing: there is no wallet file.
	Missing
	// InUse: another process has the wallet open.
	InUse
	// Damaged: the wallet file cannot be what was written.
	Damaged
	// WrongPassphrase: the wallet file is sealed under another passphrase.
	WrongPassphrase
	// NoPassphrase: the wallet file is to be opened or made with a passphrase, and there is none.
	NoPassphrase
	// Disk: reading or writing a file failed.
	Disk
	// NoNetwork: the wallet was made offline, and which network it is for was never said.
	NoNetwork
	// NoAgent: no agent was ever named.
	NoAgent
	// WrongNetwork: the agent, or the genesis, is of another chain than the wallet.
	WrongNetwork
	// Unreachable: the agent does not answer.
	Unreachable
	// Refused: the agent says no; Agent has its word for why.
	Refused
	// Behind: the agent knows less than the wallet has proof of already.
	Behind
	// NotProven: what the agent says does not hold against what the wallet trusts.
	NotProven
	// Withheld: the agent refuses what it must have.
	Withheld
	// Silent: the agent takes a question, and does not answer.
	Silent
	// WentBack: the agent had shown a greater height than it shows now, and for long.
	WentBack
	// Forked: the agent serves another past than the one that the wallet has proof of.
	Forked
	// Stale: the agent's answers are older than what the wallet has proof of, and stay so.
	Stale
	// WrongPeers: the agent's list of peers is not what the peers tree has.
	WrongPeers
	// Conflicted: two checkpoints of one height are certified. The wallet does not deal.
	Conflicted
	// Failed: the transaction is proven never to take effect.
	Failed
	// Interrupted: somebody stopped waiting. The transaction is kept and goes on.
	Interrupted
	// BadNote: a note is too long.
	BadNote
	// NotThere: the wallet has no such transaction, or no proof of it yet.
	NotThere
	// NotProof: a file that is no proof, or does not prove what it should.
	NotProof
	// NoTrust: nothing was given that a proof could be checked against, or it cannot be read.
	NoTrust
	// NotEvidence: a file that is no evidence, or shows nothing.
	NotEvidence
	kindEnd
)

// Error is what this package returns for what it did not do. Refusals of package wallet
// (amounts, addresses, words) come as they are.
type Error struct {
	Kind  Kind
	Agent string // the agent's own word, of Refused (api/charter/v1, "ErrorDetail")
	Text  string // what happened, and what to do, in one line
	Cause error  // may be nil

	link     *link     // of the agent at fault; nil: none is
	exchange *exchange // what it was asked and answered; may be nil
}

func (e *Error) Error() string { return e.Text }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func refuse(k Kind, cause error, format string, args ...any) *Error {
	return &Error{Kind: k, Cause: cause, Text: fmt.Sprintf(format, args...)}
}
