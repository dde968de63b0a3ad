package peer

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"charter/types"
)

// A peer that was away for thousands of heights gets them by ranges, and takes part again.
func TestAbsence(t *testing.T) {
	params, away := types.LocalParams, uint64(2000)
	params.WaitIdle, params.WaitLeader, params.WaitQuorum = 2, 50, 200
	if testing.Short() {
		away = 200
	}
	w := newWorld(t, 2, 8)
	for j := range w.genesis.Outputs { // so that the others are two thirds without it
		if j != 1 && j != 3 {
			w.genesis.Outputs[j].Host = w.genesis.Peers[0].Peer
		}
	}
	w.setParams(params)
	w.start(0, 1)
	w.settle(1, 1)
	w.stop(1)
	from := w.peers[0].Status().Final
	began := time.Now()
	for w.peers[0].Status().Final < from+away {
		time.Sleep(20 * time.Millisecond)
		if time.Since(began) > 60*time.Second {
			t.Fatalf("only %d heights in a minute", w.peers[0].Status().Final-from)
		}
	}
	made, took := w.peers[0].Status().Final-from, time.Since(began)
	t.Logf("%d heights made in %s: %.0f a second", made, took.Round(time.Millisecond), float64(made)/took.Seconds())
	began = time.Now()
	w.start(1)
	goal := w.peers[0].Status().Final
	eventually(t, "the peer has caught up", func() bool { return w.peers[1].Status().Final >= goal })
	took = time.Since(began)
	s := w.peers[1].gossip.Stats()
	t.Logf("caught up in %s: %.0f heights a second; %d ranges of %d blocks, %d pulls of %d", took.Round(time.Millisecond),
		float64(goal-from)/took.Seconds(), s.Ranges, s.Ranged, s.Pulls, s.Pulled)
	if s.Ranged < away || s.Pulled > away/4 {
		t.Errorf("it was not by ranges: %+v", s)
	}
	w.settle(3, 1)
	me := w.peers[1].Key()
	eventually(t, "the others have new blocks of it", func() bool { return w.peers[0].chain.Status().Heights[me] > goal })
}

// setParams makes it another network, before any peer has started.
func (w *world) setParams(params types.Params) {
	w.t.Helper()
	w.genesis.Params = params
	if err := os.WriteFile(filepath.Join(w.dir, "genesis.json"), w.genesis.JSON(), 0o644); err != nil {
		w.t.Fatal(err)
	}
}
