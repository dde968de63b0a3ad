package chain

import (
	"errors"
	"testing"

	"charter/tlog"
	"charter/types"
)

// The history that a peer serves is that which its newest certified checkpoint commits to: all entries hash to
// its root, and the nodes are those of a log of these entries.
func TestHistoryIsServed(t *testing.T) {
	w := newWorld(t, 1, 4, types.LocalParams)
	w.start(0)
	for j := range 4 {
		id, err := w.chains[0].Submit(t.Context(), w.pay(j))
		if err != nil {
			t.Fatal(err)
		}
		w.await(0, id)
	}
	c := w.chains[0]
	at, err := c.Checkpoint(Newest)
	if err != nil {
		t.Fatal(err)
	}
	size := at.Checkpoint.HistorySize // the chain may grow meanwhile: what is before this stays
	ids, err := c.HistoryEntries(0, int(size))
	if err != nil {
		t.Fatal(err)
	}
	var leaves []types.Hash
	for _, id := range ids {
		leaves = append(leaves, tlog.LeafHash(id[:]))
	}
	if root := tlog.Root(leaves); root != at.Checkpoint.HistoryRoot || size < 4 {
		t.Fatalf("%d entries make root %s, the checkpoint has %s", size, root, at.Checkpoint.HistoryRoot)
	}
	for level := uint8(0); size>>level > 0; level++ {
		nodes, err := c.HistoryNodes(level, 0, int(size>>level))
		if err != nil {
			t.Fatal(err)
		}
		for i, h := range nodes {
			if want := tlog.Root(leaves[i<<level : (i+1)<<level]); h != want {
				t.Errorf("node %d/%d is %s, want %s", level, i, h, want)
			}
		}
	}
	for _, err := range []error{second(c.HistoryEntries(size-1, 1<<20)), second(c.HistoryNodes(0, ^uint64(0), 1)), second(c.HistoryNodes(70, 0, 1))} {
		if e := new(Error); !errors.As(err, &e) || e.Kind != NotFound {
			t.Errorf("got %v, want %v", err, NotFound)
		}
	}
}

func second[T any](_ T, err error) error { return err }
