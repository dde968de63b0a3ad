package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is where a store keeps its files.
type FS struct{ vfs vfs.FS }

// Memory is a file system in memory, for tests, that can lose what was not synced.
func Memory() *FS { return &FS{vfs.NewCrashableMem()} }

// Crash is a copy of a memory as a crash at this moment may leave it: what was synced, and of the
// rest about so many percent. Stores that are open in f go on there.
func (f *FS) Crash(percent int, rng *rand.Rand) *FS {
	return &FS{f.vfs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})}
}

// stop is how a failing disk ends a store. The engine takes the process down where a write
// fails (Logger.Fatalf, or a panic that cannot be caught), so it never learns of it: the call into the
// file system that fails does not return, nor does any write after it. What the engine still has in
// memory stays there, the disk is as by a crash at that moment, and nobody hangs, because whatever may
// write runs in a goroutine of its own, that is not waited for once the store has stopped.
type stop struct {
	dir   string
	once  sync.Once
	cause atomic.Pointer[Error]
	done  chan struct{}
}

func newStop(dir string) *stop { return &stop{dir: dir, done: make(chan struct{})} }

func (s *stop) fail(err error) {
	s.once.Do(func() {
		s.cause.Store(&Error{Kind: Stopped, Dir: s.dir, Detail: "a write failed", Err: err})
		close(s.done)
	})
}

func (s *stop) err() error {
	if e := s.cause.Load(); e != nil {
		return e
	}
	return nil
}

// write passes on the result of a write, or does not return.
func (s *stop) write(err error) error {
	if err != nil {
		s.fail(err)
	}
	if s.cause.Load() != nil {
		select {}
	}
	return nil
}

// guardFS is a file system whose writes go through stop.write.
type guardFS struct {
	vfs.FS
	stop *stop
}

func (g guardFS) Unwrap() vfs.FS { return g.FS }

func (g guardFS) guard(f vfs.File, err error) (vfs.File, error) {
	return guardFile{f, g.stop}, g.stop.write(err)
}

func (g guardFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.guard(g.FS.Create(name, c))
}

func (g guardFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return g.guard(g.FS.OpenReadWrite(name, c, o...))
}

func (g guardFS) OpenDir(name string) (vfs.File, error) {
	f, err := g.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return guardFile{f, g.stop}, nil
}

func (g guardFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return g.guard(g.FS.ReuseForWrite(oldname, newname, c))
}

func (g guardFS) Rename(oldname, newname string) error {
	return g.stop.write(g.FS.Rename(oldname, newname))
}

func (g guardFS) Remove(name string) error {
	g.stop.write(nil)
	return g.FS.Remove(name)
}

// guardFile is an open file of a guardFS.
type guardFile struct {
	vfs.File
	stop *stop
}

func (g guardFile) Write(p []byte) (int, error) {
	g.stop.write(nil)
	n, err := g.File.Write(p)
	return n, g.stop.write(err)
}

func (g guardFile) WriteAt(p []byte, at int64) (int, error) {
	g.stop.write(nil)
	n, err := g.File.WriteAt(p, at)
	return n, g.stop.write(err)
}

func (g guardFile) Sync() error     { return g.stop.write(g.File.Sync()) }
func (g guardFile) SyncData() error { return g.stop.write(g.File.SyncData()) }

func (g guardFile) SyncTo(length int64) (bool, error) {
	full, err := g.File.SyncTo(length)
	return full, g.stop.write(err)
}

// run does f, which may never return once the disk has failed. An error of f stops the store.
func (s *stop) run(f func() error) error {
	if err := s.err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		if err := catch(f); err != nil {
			s.fail(err)
		}
		done <- s.err()
	}()
	select {
	case err := <-done:
		return err
	case <-s.done:
		return s.err()
	}
}

// catch is f with what it panics as its error.
func catch(f func() error) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case error:
			err = r
		default:
			err = fmt.Errorf("%v", r)
		}
	}()
	return f()
}

// engineLog is the engine's logger.
type engineLog struct {
	*slog.Logger
	stop *stop
}

func (l engineLog) Infof(format string, args ...any) {
	if l.Enabled(context.Background(), slog.LevelDebug) {
		l.Debug(fmt.Sprintf(format, args...))
	}
}

func (l engineLog) Errorf(format string, args ...any) { l.Warn(fmt.Sprintf(format, args...)) }

func (l engineLog) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	l.Error("storage failed", "error", err)
	l.stop.write(err)
}

// engine is one of a store's two databases.
type engine struct {
	db   *pebble.DB
	stop *stop
}

// openEngine opens or creates a database. Errors that are not the operating system's are of
// kind Damaged: the engine has many words for that.
func (s *Store) openEngine(name string, memtable uint64) (*engine, error) {
	opts := &pebble.Options{
		FS: s.fs, Cache: s.cache, FormatMajorVersion: pebble.FormatValueSeparation,
		Logger:       engineLog{s.opts.Logger.With("database", name), s.stop},
		MemTableSize: memtable, MaxOpenFiles: 256, WALBytesPerSync: 1 << 20,
	}
	// What reads damaged data gets the error: that need not stop the store.
	opts.EventListener = &pebble.EventListener{DataCorruption: func(info pebble.DataCorruptionInfo) {
		s.opts.Logger.Error("storage is damaged", "database", name, "info", info.String())
	}}
	for i := range opts.Levels {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	// What is written first is soon written again, and most of it is hashes.
	opts.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	opts.Levels[1].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	var db *pebble.DB
	err := catch(func() (err error) {
		db, err = pebble.Open(s.path(name), opts)
		return err
	})
	switch {
	case err == nil:
		return &engine{db, s.stop}, nil
	case s.stop.err() != nil:
		return nil, s.stop.err()
	case isLocked(err):
		return nil, s.refuse(InUse, "another process has database "+name+" open", err)
	case isWorld(err):
		return nil, fmt.Errorf("open database %s: %w", s.path(name), err)
	default:
		return nil, s.refuse(Damaged, "database "+name, err)
	}
}

// close flushes and closes, unless the disk has failed.
func (e *engine) close() error {
	if e.stop.err() != nil {
		return nil
	}
	return e.stop.run(e.db.Close)
}

// commit writes a batch and waits for the disk if durable.
func (e *engine) commit(b *pebble.Batch, durable bool) error {
	return e.stop.run(func() error {
		opts := pebble.NoSync
		if durable {
			opts = pebble.Sync
		}
		if err := e.db.Apply(b, opts); err != nil {
			return err
		}
		return b.Close()
	})
}

// get is the value of a key, copied, or nil.
func get(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return bytes.Clone(v), nil
}

// entry is a key and its value, good until the next is asked for.
type entry struct{ key, value []byte }

// scan goes over the keys in [from, to), upwards.
func scan(r pebble.Reader, from, to []byte) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			yield(entry{}, err)
			return
		}
		defer it.Close()
		for ok := it.First(); ok; ok = it.Next() {
			v, err := it.ValueAndErr()
			if err != nil {
				yield(entry{}, err)
				return
			}
			if !yield(entry{it.Key(), v}, nil) {
				return
			}
		}
		if err := it.Error(); err != nil {
			yield(entry{}, err)
		}
	}
}

// last is the greatest key in [from, to) and its value, copied, or nil.
func last(r pebble.Reader, from, to []byte) (key, value []byte, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, nil, err
	}
	if it.Last() {
		key = bytes.Clone(it.Key())
		if value, err = it.ValueAndErr(); err == nil {
			value = bytes.Clone(value)
		}
	}
	return key, value, errors.Join(err, it.Error(), it.Close())
}

// after is the least key above all that start with prefix.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			end := bytes.Clone(prefix[:i+1])
			end[i]++
			return end
		}
	}
	return nil
}
