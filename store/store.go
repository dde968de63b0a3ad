// Package store keeps what a peer must not lose, and what it has worked out from that, in
// one directory. It is the only importer of the storage engine (Pebble).
//
// It is not where anything is decided: it checks that what it is told to keep fits what it
// has, and that nothing is signed twice, and knows no rule besides.
//
//	DIR/STORE    what this directory is: format, chain, peer. Text, written once
//	DIR/CREATING there while the store is being created
//	DIR/LOCK     held while a process has the store open
//	DIR/signed   second copy of the safety record, outside the engine (record.go)
//	DIR/log/     blocks, own signatures, waiting transactions (log.go)
//	DIR/state/   the final state, all of it derived from the log (state.go)
//
// There are two databases so that a signature never waits behind the ledger: a sync of the log
// flushes blocks only, while batches of the state go to their own write-ahead log
// unsynced. After a crash the state is that of some height applied before, whole, and the
// log holds every block that it was made of and all that came after: the chain replays
// from there and gets the same again. So the state is never ahead of the log, which Apply
// sees to, and "state" may be deleted at any time, at the price of replaying everything; or, if the log
// does not have everything (any more), of joining again (import.go).
//
// What is durable when a call returns:
//
//	PutOwn, PutVote, PutPool      always
//	PutBlocks                     if asked for, else with the next of these or Apply
//	Apply, PutCertificate         no: whole or not at all, in order
//	DropPool                      no: a transaction may come back after a crash
//
// A disk that fails (full, torn out) stops the store, not the process: what was being written
// and all calls after it give an error of kind Stopped, Failed is closed, and nothing
// more reaches the disk, which is left as by a crash at that moment.
package store

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"charter/types"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Format is the version of the layout of a store's directory.
const Format = 3

// Options say what store to open, and how.
type Options struct {
	Chain  types.Hash   // id of the chain
	Peer   types.Key    // whose signatures the store guards; zero for one that never signs
	FS     *FS          // nil is the disk
	Logger *slog.Logger // nil is none
	Cache  int64        // bytes of cached disk blocks, and for pages of the trees up to 3¾ times as many; 0 is DefaultCache

	importing bool // by OpenImport

	memtable uint64 // bytes before a database writes a table; tests want it small
	turn     int    // changes of the trees in which all their pages are written (behind.go); likewise
}

// DefaultCache is the bytes of cache if none are given.
const DefaultCache = 64 << 20

// Store is an open directory. Its methods may be called by several goroutines, but Apply by
// one at a time. What they return is the caller's to keep.
type Store struct {
	dir   string
	opts  Options
	fs    vfs.FS
	stop  *stop
	lock  io.Closer
	cache *pebble.Cache
	log   logStore
	state stateStore

	closing sync.Once
}

// Open opens the store in dir, or creates it in a directory that is empty or not there. An
// *Error says what is wrong and what to do: InUse, NotAStore, UnknownFormat, WrongChain, WrongPeer,
// Damaged, or MustNotSign if the peer's own last signature is not among what was found.
func Open(dir string, opts Options) (*Store, error) {
	if opts.FS == nil {
		opts.FS = &FS{vfs.Default}
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.memtable == 0 {
		opts.memtable = 32 << 20
	}
	if opts.turn == 0 {
		opts.turn = turn
	}
	if opts.Cache == 0 {
		opts.Cache = DefaultCache
	}
	s := &Store{dir: dir, opts: opts, stop: newStop(dir)}
	s.fs = guardFS{opts.FS.vfs, s.stop}
	refused := make(chan error, 1)
	if err := s.stop.run(func() error {
		refused <- s.open()
		return nil
	}); err != nil {
		return nil, err
	}
	if err := <-refused; err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// open does the work of Open, and leaves it to Close to let go of what it has opened.
func (s *Store) open() error {
	if err := s.claim(); err != nil {
		return err
	}
	fresh, err := s.identify()
	if err != nil {
		return err
	}
	s.cache = pebble.NewCache(s.opts.Cache)
	if err := s.openLog(); err != nil {
		return err
	}
	if err := s.openState(); err != nil {
		return err
	}
	if fresh {
		return s.created()
	}
	return nil
}

func (s *Store) path(name string) string { return s.fs.PathJoin(s.dir, name) }

// claim makes the directory, if it is not there, and takes its lock.
func (s *Store) claim() error {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the store's directory: %w", err)
	}
	if err := syncDir(s.fs, s.fs.PathDir(s.dir)); err != nil {
		return fmt.Errorf("make the store's directory: %w", err)
	}
	lock, err := s.fs.Lock(s.path("LOCK"))
	switch {
	case err == nil:
		s.lock = lock
		return nil
	case isLocked(err):
		return s.refuse(InUse, "another process has it open", err)
	default:
		return fmt.Errorf("lock the store: %w", err)
	}
}

// Close writes out what is pending and lets go of the directory. Snapshots must be closed
// before. After a failure the engine's own locks are held until the process ends.
func (s *Store) Close() (err error) {
	s.closing.Do(func() { err = errors.Join(s.stop.err(), s.release()) })
	return err
}

// release closes what is open, of a store that may be half opened.
func (s *Store) release() (err error) {
	for _, e := range []*engine{s.state.engine, s.log.engine} {
		if e != nil {
			err = errors.Join(err, e.close())
		}
	}
	if s.log.signed != nil {
		err = errors.Join(err, s.log.signed.Close())
	}
	if s.cache != nil {
		s.cache.Unref()
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Sync makes the state durable as it is. Nothing needs that but who wants to copy or measure it: what
// a crash undoes is applied again.
func (s *Store) Sync() error {
	return s.stop.run(func() error { return s.state.db.LogData(nil, pebble.Sync) })
}

// Failed is closed when the disk has failed: stop the process in good order then. Err says why.
func (s *Store) Failed() <-chan struct{} { return s.stop.done }

// Err is the error that stopped the store, of kind Stopped, or nil.
func (s *Store) Err() error { return s.stop.err() }

// DiskBytes is the size of all files of both databases.
func (s *Store) DiskBytes() (log, state uint64) {
	return s.log.db.Metrics().DiskSpaceUsage(), s.state.db.Metrics().DiskSpaceUsage()
}

// syncDir makes the entries of a directory durable.
func syncDir(fs vfs.FS, dir string) error {
	if dir == "" {
		dir = "."
	}
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
