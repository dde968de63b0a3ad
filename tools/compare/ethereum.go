package main

import (
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/rawdb"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethdb/pebble"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/ethereum/go-ethereum/trie/trienode"
	"github.com/ethereum/go-ethereum/triedb"
	"github.com/ethereum/go-ethereum/triedb/pathdb"
)

// ethereum is go-ethereum's trie, with a log of its changes.
type ethereum struct {
	db     *triedb.Database
	root   common.Hash
	block  uint64
	keys   [][]byte
	values [][]byte
	log    *os.File
}

func openEthereum(dir string) (tree, error) {
	disk, err := pebble.New(filepath.Join(dir, "state"), 64, 256, "", false)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	config := *pathdb.Defaults
	config.TrieCleanSize, config.StateCleanSize = 256<<20, 0
	config.SnapshotNoBuild = true
	db := triedb.NewDatabase(rawdb.NewDatabase(disk), &triedb.Config{PathDB: &config})
	return &ethereum{db: db, root: types.EmptyRootHash, log: log}, nil
}

func (e *ethereum) set(key, value [32]byte) error {
	e.keys = append(e.keys, key[:])
	e.values = append(e.values, value[:])
	return nil
}

func (e *ethereum) commit() error {
	t, err := trie.New(trie.TrieID(e.root), e.db)
	if err != nil {
		return err
	}
	if err := t.UpdateBatch(e.keys, e.values); err != nil {
		return err
	}
	root, nodes := t.Commit(false)
	e.block++
	if err := e.db.Update(root, e.root, e.block, trienode.NewWithNodeSet(nodes), triedb.NewStateSet()); err != nil {
		return err
	}
	e.root = root
	changes := make([]byte, 0, 64*len(e.keys))
	for i := range e.keys {
		changes = append(append(changes, e.keys[i]...), e.values[i]...)
	}
	e.keys, e.values = nil, nil
	if _, err := e.log.Write(changes); err != nil {
		return err
	}
	return e.log.Sync()
}
