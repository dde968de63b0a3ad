package main

import (
	"bytes"
	"errors"

	corestore "cosmossdk.io/core/store"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cosmos/iavl"
	"github.com/cosmos/iavl/db"
)

// iavlTree is iavl, on Pebble.
type iavlTree struct{ *iavl.MutableTree }

func openIAVL(dir string) (tree, error) {
	cache := pebble.NewCache(64 << 20)
	disk, err := pebble.Open(dir, &pebble.Options{Cache: cache, MemTableSize: 32 << 20})
	if err != nil {
		return nil, err
	}
	return iavlTree{iavl.NewMutableTree(iavlDB{disk}, 4_000_000, true, iavl.NewNopLogger(), iavl.SyncOption(true))}, nil
}

func (t iavlTree) set(key, value [32]byte) error {
	_, err := t.Set(key[:], value[:])
	return err
}

func (t iavlTree) commit() error {
	_, _, err := t.SaveVersion()
	return err
}

// iavlDB is Pebble as iavl wants a database.
type iavlDB struct{ *pebble.DB }

var _ db.DB = iavlDB{}

func (d iavlDB) Get(key []byte) ([]byte, error) {
	v, closer, err := d.DB.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return bytes.Clone(v), nil
}

func (d iavlDB) Has(key []byte) (bool, error) {
	v, err := d.Get(key)
	return v != nil, err
}

func (d iavlDB) iterator(start, end []byte, reverse bool) (corestore.Iterator, error) {
	it, err := d.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return nil, err
	}
	if reverse {
		it.Last()
	} else {
		it.First()
	}
	return &iavlIterator{it, start, end, reverse}, nil
}

func (d iavlDB) Iterator(start, end []byte) (corestore.Iterator, error) {
	return d.iterator(start, end, false)
}

func (d iavlDB) ReverseIterator(start, end []byte) (corestore.Iterator, error) {
	return d.iterator(start, end, true)
}

func (d iavlDB) NewBatch() corestore.Batch { return iavlBatch{d.DB.NewBatch()} }

func (d iavlDB) NewBatchWithSize(n int) corestore.Batch { return iavlBatch{d.DB.NewBatchWithSize(n)} }

type iavlIterator struct {
	*pebble.Iterator
	start, end []byte
	reverse    bool
}

func (i *iavlIterator) Domain() ([]byte, []byte) { return i.start, i.end }
func (i *iavlIterator) Key() []byte              { return bytes.Clone(i.Iterator.Key()) }
func (i *iavlIterator) Value() []byte            { return bytes.Clone(i.Iterator.Value()) }

func (i *iavlIterator) Next() {
	if i.reverse {
		i.Iterator.Prev()
	} else {
		i.Iterator.Next()
	}
}

type iavlBatch struct{ b *pebble.Batch }

func (b iavlBatch) Set(key, value []byte) error     { return b.b.Set(key, value, nil) }
func (b iavlBatch) Delete(key []byte) error         { return b.b.Delete(key, nil) }
func (b iavlBatch) Write() error                    { return b.b.Commit(pebble.NoSync) }
func (b iavlBatch) WriteSync() error                { return b.b.Commit(pebble.Sync) }
func (b iavlBatch) Close() error                    { return b.b.Close() }
func (b iavlBatch) GetByteSize() (n int, err error) { return b.b.Len(), nil }
