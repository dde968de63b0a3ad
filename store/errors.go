package store

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"charter/trie"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// Kind says what is wrong with a store.
type Kind uint8

const (
	// InUse: another process has the directory open.
	InUse Kind = iota + 1
	// NotAStore: the directory holds other things.
	NotAStore
	// UnknownFormat: it was written by a version that this one does not know.
	UnknownFormat
	// WrongChain: it belongs to another chain.
	WrongChain
	// WrongPeer: it belongs to another peer's key.
	WrongPeer
	// Damaged: files are missing, or do not hold what was written.
	Damaged
	// MustNotSign: the peer has signed what is not in the directory. Whoever signs from here
	// on might sign twice.
	MustNotSign
	// SignedTwice: the peer signed another block or vote at this height before.
	SignedTwice
	// Stopped: the disk failed, and the store with it.
	Stopped
	// Importing: the state of a checkpoint is being fetched into the directory, and is not whole yet.
	Importing
	// HasState: a state is to be fetched into a directory that has one.
	HasState
	// Unfit: what was given is not of the checkpoint whose state is being fetched.
	Unfit
	// NotKept: the store was begun from the state of a checkpoint, and does not have what came before. Height is the checkpoint's.
	NotKept
	// NoChunk: the state has no such chunk.
	NoChunk
	// TooLarge: there is too much under the prefix for one chunk. Depth is the length of prefixes to ask for.
	TooLarge
)

var kinds = map[Kind]struct{ what, next string }{
	InUse:         {"in use", "stop the other process, or give this one a directory of its own"},
	NotAStore:     {"not a store", "choose an empty directory, or the one that was used before"},
	UnknownFormat: {"unknown format", "run the version of charter that wrote it, or a newer one"},
	WrongChain:    {"wrong chain", "give the genesis file of the directory's chain, or another directory"},
	WrongPeer:     {"wrong peer", "give the key that the directory belongs to, or another directory"},
	Damaged:       {"damaged", "restore all of the directory from its newest copy; if only its folder state is hurt, delete that folder and it is made again from the log"},
	MustNotSign: {"must not sign", "put back the newest copy of all of the directory; if there is none, retire this key and start a peer with a new key in an empty directory. " +
		"Do not delete files to get past this: a peer that signs twice at a height loses its standing"},
	SignedTwice: {"signed before", "do not send it: this is a bug, or two processes sign with one key"},
	Stopped:     {"stopped", "see to the disk (space, permissions, mount, health), then start again: what was acknowledged is there"},
	Importing:   {"importing", "go on with the import, by joining again at the same checkpoint or another; or choose another directory"},
	HasState:    {"has a state", "start without joining; or choose an empty directory"},
	Unfit:       {"unfit", "fetch it again from other peers; if they all give the same, the checkpoint is not one to trust"},
	NotKept:     {"not kept", "ask a peer that keeps more of the past"},
	NoChunk:     {"no chunk", "ask for what follows from the checkpoint"},
	TooLarge:    {"too large", "ask for it in the parts named"},
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k].what }

// Error is a refusal: what is wrong with which directory, and what to do next.
type Error struct {
	Kind   Kind
	Dir    string
	Detail string // the values that disagree
	Err    error  // what was behind it, perhaps nil
	Height uint64 // of NotKept
	Depth  uint16 // of TooLarge
}

// Next is what the operator should do.
func (e *Error) Next() string { return kinds[e.Kind].next }

func (e *Error) Error() string {
	s := fmt.Sprintf("store %s: %s: %s", e.Dir, e.Kind, e.Detail)
	if e.Err != nil {
		s += fmt.Sprintf(" (%v)", e.Err)
	}
	return s + ". What to do: " + e.Next()
}

func (e *Error) Unwrap() error { return e.Err }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func (s *Store) refuse(k Kind, detail string, err error) error {
	return &Error{Kind: k, Dir: s.dir, Detail: detail, Err: err}
}

// read wraps the error, if there is one, that came up in reading something.
func (s *Store) read(what string, err error) error {
	if err == nil {
		return nil
	}
	if pebble.IsCorruptionError(err) || errors.As(err, new(*types.DecodeError)) || errors.Is(err, errMissing) || errors.Is(err, errOther) || trie.IsKind(err, trie.BadNode) {
		return s.refuse(Damaged, what, err)
	}
	return fmt.Errorf("store %s: read %s: %w", s.dir, what, err)
}

// errMissing says that an entry is not there that another one speaks of.
var errMissing = errors.New("entry is missing")

// errOther says that two entries speak of the same thing and disagree.
var errOther = errors.New("entries disagree")

// isLocked reports whether err says that somebody else holds a lock, rather than that the
// lock could not be tried. Pebble has no error of its own for it.
func isLocked(err error) bool {
	return errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) && !isPathError(err) ||
		err.Error() == "lock held by current process"
}

func isPathError(err error) bool { return errors.As(err, new(*fs.PathError)) }

// isWorld reports whether err is of the operating system, and not that a file is missing.
func isWorld(err error) bool {
	return errors.As(err, new(syscall.Errno)) && !errors.Is(err, fs.ErrNotExist)
}
