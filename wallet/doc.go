// Package wallet is what a holder of shares keeps and does: keys made from twenty-four
// words, the outputs they lock, payments under way, a history, and the proofs of all of it
// (spec/wallet.md).
//
// A Wallet is a value. Facts come in, transactions and balances go out; entropy, salts and
// times are given. It opens no file and calls no agent: the client does both, and keeps one
// law:
//
//	Pay, Notarise, RegisterPeer ─► the wallet holds the intent and its signed bytes
//	Encode ─► file, durable      ─► only now may the bytes be sent, and then as often as wanted
//
// So after a crash at any moment the wallet still has what it may have sent, and a retry of
// the same intent gives the same bytes: the same payment is never made twice.
//
// What an agent says moves no money here:
//
//	Seen                 an agent's word: shown as its word, counted as pending
//	Settle, Found, …     proven by package proof, which the client has asked: counted
//
// An intent is settled in one of four ways, each proven: applied, rejected, overtaken by
// another transaction that spent its coins, or expired: an input of it is unspent at a
// time after the last at which it could be applied.
package wallet

import (
	"errors"
	"fmt"

	"charter/types"
)

// Kind says why something was refused.
type Kind uint8

const (
	// WordCount: not twenty-four words.
	WordCount Kind = iota + 1
	// UnknownWord: a word that is not in the list of BIP-39.
	UnknownWord
	// WordChecksum: all are words, but these twenty-four in this order were never given out.
	WordChecksum
	// NotAddress: a text that is no address of Charter.
	NotAddress
	// AddressLength: characters are missing, or too many.
	AddressLength
	// AddressCase: upper and lower case mixed.
	AddressCase
	// AddressCharacter: a character that no address has.
	AddressCharacter
	// AddressChecksum: a mistyped address.
	AddressChecksum
	// AddressNetwork: an address of another network.
	AddressNetwork
	// AddressPayload: a checksum that is right over a content that no wallet makes.
	AddressPayload
	// Insufficient: more than can be paid now.
	Insufficient
	// TooManyInputs: enough in all, but in too many small outputs for one transaction.
	TooManyInputs
	// BadAmount: a payment of nothing, or of more than there can be.
	BadAmount
	// BadIntent: an intent's name is empty, too long or not printable.
	BadIntent
	// IntentTaken: an intent of this name exists, and asks for something else.
	IntentTaken
	// BadValidity: a transaction that could never be applied.
	BadValidity
	// GapReached: Gap keys are out and unused; with one more, restoring could miss a payment.
	GapReached
	// NotOurs: a fact that does not touch this wallet.
	NotOurs
	// WrongTransaction: a transaction that is not the one that the fact is about.
	WrongTransaction
	// Contradiction: a fact that cannot be true beside one that the wallet holds a proof of.
	Contradiction
	// TooMuch: more unproven transactions, or larger proofs, than a wallet keeps.
	TooMuch
	// WrongKeys: the words do not make the keys that the wallet says it issued.
	WrongKeys
	kindEnd
)

// Error is what this package returns for what it refuses; bytes that do not decode give a
// *types.DecodeError instead.
type Error struct {
	Kind     Kind
	Position int       // of the word or character that is wrong, from 1; 0 if it is not one
	Short    *Shortage // the numbers of Insufficient and TooManyInputs
	Text     string    // what happened and what to do, in one line
}

func (e *Error) Error() string { return e.Text }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func refuse(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Text: fmt.Sprintf(format, args...)}
}

func refuseAt(k Kind, position int, format string, args ...any) *Error {
	return &Error{Kind: k, Position: position, Text: fmt.Sprintf(format, args...)}
}

// Shortage is why a payment cannot be made now, in numbers.
type Shortage struct {
	Amount   types.Amount // asked for
	Fee      types.Amount // what the fee would be
	Balance  types.Amount // final
	Reserved types.Amount // of it, for payments under way
	Most     types.Amount // the most that one transaction could pay now
}

// AsOf says of which state something was proven.
type AsOf struct {
	Height uint64       // of the checkpoint
	Time   types.Millis // its consensus time
}
