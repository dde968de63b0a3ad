package store

import (
	"bytes"
	"context"
	"io"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// overlay is what a Batch writes, on top of the state: a plain map, which costs a fraction of the engine's indexed
// batch. It is a pebble.Reader.
type overlay struct {
	db      *pebble.DB
	written map[string][]byte // nil: deleted
	cleared [][2][]byte       // ranges of keys that were deleted, before what is written
}

var _ pebble.Reader = (*overlay)(nil)

func newOverlay(db *pebble.DB) *overlay { return &overlay{db: db, written: map[string][]byte{}} }

// Set takes the value over.
func (o *overlay) Set(key, value []byte, _ *pebble.WriteOptions) error {
	o.written[string(key)] = value
	return nil
}

func (o *overlay) Delete(key []byte, _ *pebble.WriteOptions) error {
	o.written[string(key)] = nil
	return nil
}

// DeleteRange deletes the keys in [from, to).
func (o *overlay) DeleteRange(from, to []byte, _ *pebble.WriteOptions) error {
	maps.DeleteFunc(o.written, func(k string, _ []byte) bool { return string(from) <= k && k < string(to) })
	o.cleared = append(o.cleared, [2][]byte{from, to})
	return nil
}

func (o *overlay) isCleared(key []byte) bool {
	return slices.ContainsFunc(o.cleared, func(r [2][]byte) bool {
		return bytes.Compare(r[0], key) <= 0 && bytes.Compare(key, r[1]) < 0
	})
}

type noCloser struct{}

func (noCloser) Close() error { return nil }

func (o *overlay) Get(key []byte) ([]byte, io.Closer, error) {
	v, ok := o.written[string(key)]
	switch {
	case !ok && !o.isCleared(key):
		return o.db.Get(key)
	case v == nil:
		return nil, nil, pebble.ErrNotFound
	}
	return v, noCloser{}, nil
}

// NewIter is for the few that go over ranges: it sorts all that was written.
func (o *overlay) NewIter(opts *pebble.IterOptions) (*pebble.Iterator, error) {
	return o.NewIterWithContext(context.Background(), opts)
}

func (o *overlay) NewIterWithContext(ctx context.Context, opts *pebble.IterOptions) (*pebble.Iterator, error) {
	b := o.db.NewIndexedBatch()
	if err := o.writeTo(b); err != nil {
		return nil, err
	}
	return b.NewIterWithContext(ctx, opts)
}

// writeTo puts all into an engine's batch, in order: the engine takes what is sorted sooner.
func (o *overlay) writeTo(b *pebble.Batch) error {
	for _, r := range o.cleared {
		if err := b.DeleteRange(r[0], r[1], nil); err != nil {
			return err
		}
	}
	entries := make([]entry, 0, len(o.written))
	for k, v := range o.written {
		entries = append(entries, entry{[]byte(k), v})
	}
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
	for _, e := range entries {
		var err error
		if e.value == nil {
			err = b.Delete(e.key, nil)
		} else {
			err = b.Set(e.key, e.value, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close is Discard's.
func (o *overlay) Close() error { return nil }
