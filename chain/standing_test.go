package chain

import (
	"context"
	"errors"
	"testing"
	"time"

	"charter/ledger"
	"charter/sig"
	"charter/types"
)

// standing waits until a peer's standing is so, as peer i has it.
func (w *world) standing(i, of int, what string, is func(s types.Standing) bool) types.Standing {
	w.t.Helper()
	var s types.Standing
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		peers, err := w.chains[i].Peers()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, p := range peers {
			if p.Peer == w.keys[of].Public() {
				s = p.Standing
			}
		}
		if is(s) {
			return s
		}
	}
	w.t.Fatalf("peer %d is not %s for peer %d: %+v", of, what, i, s)
	return s
}

// One peer forks and another gives a false sample: whoever sees it publishes it, both are marked, weigh nothing from
// the next snapshot on, and the rest goes on. Honest samples hold.
func TestOffendersAreMarked(t *testing.T) {
	params := types.LocalParams
	params.SnapshotLag, params.SnapshotPeriod, params.RunLength, params.SampleEvery, params.WaitIdle = 20, 20, 16, 2, 20
	w := newWorld(t, 5, 2, params)
	for i := range 5 {
		w.start(i)
	}
	id, err := w.chains[0].Submit(t.Context(), w.pay(0))
	if err != nil {
		t.Fatal(err)
	}
	w.await(3, id)
	there := w.standing(0, 3, "present", func(s types.Standing) bool { return s.Present > 5 && s.Witnesses == 4 })
	if there.Weight != 2000*types.UnitsPerShare || there.Offences != 0 {
		t.Fatalf("peer 3 stands as %+v", there)
	}

	twin := w.lastBlock(3)
	w.stop(3) // it would stop by itself: others tell it of a block of its own that it has not made
	twin.Time++
	twin.Signature = sig.Sign(w.keys[3], twin.ID(w.id))
	other := &types.Block{Height: 4, Author: w.keys[4].Public(), Sample: types.Hash{1}}
	other.Signature = sig.Sign(w.keys[4], other.ID(w.id))
	evidence := types.Evidence{Offence: types.FalseSample, Blocks: []*types.Block{other}}
	if err := w.chains[1].Deliver(w.keys[3].Public(), []types.RawBlock{{Header: twin.Encode()}}); err != nil {
		t.Fatal(err)
	}
	w.chains[2].accuse(evidence)
	for _, i := range []int{3, 4} {
		s := w.standing(0, i, "marked", func(s types.Standing) bool { return s.Offended > 0 })
		if s.Offences != 1 {
			t.Errorf("peer %d is marked as %+v", i, s)
		}
		w.standing(0, i, "without weight", func(s types.Standing) bool { return s.Weight == 0 })
	}
	_, err = w.chains[0].Submit(context.Background(), evidence.Transaction().Encode())
	var refused *Error
	if again := w.standing(0, 4, "marked", func(types.Standing) bool { return true }); again.Offences != 1 || err != nil && !errors.As(err, &refused) {
		t.Errorf("again: %+v, %v", again, err)
	}
	second := types.Evidence{Offence: types.FalseVote, Votes: []types.SignedVote{{Peer: w.keys[4].Public(), CheckpointVote: types.CheckpointVote{Height: 1, Checkpoint: types.Hash{1}}}}}
	second.Votes[0].Signature = sig.Sign(w.keys[4], types.VoteDigest(w.id, 1, types.Hash{1}))
	if _, err = w.chains[0].Submit(t.Context(), second.Transaction().Encode()); !errors.As(err, &refused) || refused.Reason != types.SettledOffence.String() {
		t.Errorf("a second accusation: %v", err)
	}
	if id, err = w.chains[1].Submit(t.Context(), w.pay(1)); err != nil {
		t.Fatal(err)
	}
	w.await(2, id)
	for i := range 3 {
		s := w.standing(0, i, "in good standing", func(s types.Standing) bool { return s.Witnesses == 2 && s.Present > 5 })
		if s.Offences > 0 || s.Absent > 0 || s.Weight == 0 {
			t.Errorf("peer %d stands as %+v", i, s)
		}
	}
	w.checkSamples()
}

// lastBlock is the highest block of a peer that it has stored without payload, and that others have as well.
func (w *world) lastBlock(i int) *types.Block {
	_, final := w.chains[1].Heights()
	blocks, err := w.chains[1].Blocks(final-2, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	var last *types.Block
	for _, raw := range blocks {
		if b, err := types.DecodeBlock(raw.Header); err == nil && b.Author == w.keys[i].Public() && len(raw.Payload) == 0 {
			last = b
		}
	}
	if last == nil {
		w.t.Fatalf("no block of peer %d from height %d", i, final-2)
	}
	return last
}

// checkSamples looks at the sample of each block of a peer, which no other code did by then.
func (w *world) checkSamples() {
	pin := w.chains[0].pins.latest()
	defer w.chains[0].pins.drop(pin)
	blocks, err := w.chains[0].Blocks(1, 1<<22)
	if err != nil {
		w.t.Fatal(err)
	}
	due, drawn := 0, make(map[types.Hash]bool)
	for _, raw := range blocks {
		b, err := types.DecodeBlock(raw.Header)
		if err != nil {
			w.t.Fatal(err)
		}
		want, err := ledger.Sample(pin.snap, b)
		if err != nil {
			w.t.Fatal(err)
		}
		switch {
		case b.Height%2 == 1:
			want = types.Hash{}
		case !b.Sample.IsZero():
			due++
			drawn[b.Sample] = true
		}
		if b.Sample != want && !b.Sample.IsZero() {
			w.t.Fatalf("block of height %d has sample %s, want %s", b.Height, b.Sample, want)
		}
	}
	if due < 20 || len(drawn) < 10 {
		w.t.Errorf("%d samples of %d kinds", due, len(drawn))
	}
	bad := &types.Block{Height: 3, Author: w.keys[0].Public(), Sample: types.Hash{1}}
	bad.Signature = sig.Sign(w.keys[0], bad.ID(w.id))
	var offence *Offence
	if err := w.chains[1].Deliver(w.keys[2].Public(), []types.RawBlock{{Header: bad.Encode()}}); !errors.As(err, &offence) {
		w.t.Errorf("a sample where none is due: %v", err)
	}
}
