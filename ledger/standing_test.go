package ledger

import (
	"reflect"
	"slices"
	"testing"

	"charter/types"
)

// A peer that forked has no weight in the next snapshot and keeps its shares; shareholders give it back; what it
// did before is forgiven, and what it does next is not.
func TestOffenceAndReturn(t *testing.T) {
	m := newMemory(t, testGenesis(3))
	offender := priv(100).Public()
	chain := m.state.Chain
	weight := func(height uint64) types.Amount {
		s := m.TakeSnapshot(height).Snapshot
		if i, in := s.Find(offender); in {
			return s.Members[i].Shares
		}
		return 0
	}
	apply := func(want types.Reason, tx *types.Transaction) {
		t.Helper()
		if err := Check(chain, &types.LocalParams, tx); err != nil {
			t.Fatal(err)
		}
		if e := m.Apply(m.batch(tx)).Events; len(e) != 1 || e[0].Reason != want {
			t.Fatalf("events %+v, want %q", e, want)
		}
	}
	apply(types.NoReason, fork(chain, 100, 1).Transaction())
	thousand := 1000 * types.UnitsPerShare
	p, _ := m.Peer(offender)
	if p.Standing.Offences != 1 || p.Standing.Offended != 1 || p.Standing.Weight != thousand || p.Shares != thousand {
		t.Fatalf("marked as %+v", p)
	}
	if w := weight(160); w != 0 {
		t.Fatalf("it weighs %s", w)
	}
	if p, _ := m.Peer(offender); p.Standing.Weight != 0 || p.Shares != thousand {
		t.Fatalf("left out as %+v", p)
	}
	vote := signed(t, chain, votes(m, 1, m.input(3)), 1)
	apply(types.NoReason, vote)
	if w := weight(320); w < thousand {
		t.Fatalf("back with %s", w)
	}
	p, _ = m.Peer(offender)
	if s := p.Standing; s.Offended != 0 || s.Offences != 1 || s.Cleared != 161 || s.Since != 320 {
		t.Fatalf("back as %+v", s)
	}
	apply(types.SettledOffence, fork(chain, 100, 161).Transaction())
	apply(types.NoReason, fork(chain, 100, 162).Transaction())
	change := slices.IndexFunc(m.outputs, func(s types.OutputState) bool { return s.Source == vote.ID(chain) })
	apply(types.NotOffended, signed(t, chain, votes(m, 1, m.input(uint64(change))), 1)) // the second needs its own vote
}

// votes is a reinstatement by all of genesis' outputs of key 0, paid by an output of key 1.
func votes(m *Memory, offences uint16, pays types.Input) *types.Transaction {
	tx := pay(byte(offences), 2000, priv(1).Public(), types.Key{}, pays)
	tx.Records = []types.Record{reinstate(m, 100, offences, 0, 1, 2)}
	return tx
}

// A false sample convicts, whoever looks: the ledger by its own outputs, others by one output that they are shown.
func TestFalseSample(t *testing.T) {
	m := newMemory(t, testGenesis(3))
	r := sampled(m, 101, 5, false)
	if err := VerifyEvidence(m.state.Chain, &types.LocalParams, &r); err != nil {
		t.Fatal(err)
	}
	if height, needed := EvidenceBase(&r); height != 0 || !needed {
		t.Fatalf("base %d", height)
	}
	if proven, err := Convicts(&r, m.points[0], m.Output); err != nil || !proven {
		t.Fatal("not proven", err)
	}
	if e := m.Apply(m.batch(r.Transaction())).Events; len(e) != 1 || e[0].Kind != types.Applied {
		t.Fatalf("events %+v", e)
	}
	true_ := sampled(m, 101, 5, true)
	if proven, _ := Convicts(&true_, m.points[0], m.Output); proven {
		t.Fatal("a true sample convicts")
	}
	seen := make(map[uint64]bool)
	for h := range uint64(200) { // samples go over all outputs
		seen[types.SamplePosition(m.points[0].ID(), h, priv(101).Public(), 4)] = true
	}
	if len(seen) != 4 {
		t.Errorf("drawn: %v", seen)
	}
}

// Who was not there is left out, the least present first, as far as they hold a tenth in all; and comes back.
func TestAbsence(t *testing.T) {
	const heights = 40
	peers := make([]types.PeerState, 12)
	members := make([]types.Member, len(peers))
	tally := Tally{Taken: 40, Begun: 40}
	for i := range peers {
		peers[i] = types.PeerState{Peer: types.Key{byte(i + 1)}, Shares: 60, Standing: types.Standing{Weight: 60}}
		tally.Peers = append(tally.Peers, Presence{Peer: peers[i].Peer, Present: heights})
		members[i] = types.Member{Peer: peers[i].Peer, Shares: 60}
	}
	here := func(i int, heights uint32) { tally.Peers[i].Present = heights }
	out := func(s *types.Snapshot) (gone []int) {
		for i := range peers {
			if _, in := s.Find(peers[i].Peer); !in {
				gone = append(gone, i)
			}
		}
		return gone
	}
	check := func(what string, height uint64, want ...int) {
		t.Helper()
		if got := out(tally.stand(height, peers)); !slices.Equal(got, want) {
			t.Errorf("%s: %v left out, want %v", what, got, want)
		}
		tally.Taken = height
	}
	check("all there", 80)
	here(3, heights/4)
	check("a quarter", 120)
	here(3, heights/4-1)
	here(5, 2)
	check("two of 60 are more than a tenth of 720", 160, 5)
	if s := peers[5].Standing; s.Absent != 160 || s.Weight != 0 || s.Present != 2 {
		t.Errorf("standing %+v", s)
	}
	here(3, heights)
	check("it comes back by itself", 200)
	if s := peers[5].Standing; s.Since != 200 || s.Weight != 60 || s.Absent != 160 {
		t.Errorf("standing %+v", s)
	}
	check("and is new", 240)
	tally.Begun = 200
	check("until it could have been there all the time", 280, 5)
	peers[7].Standing.Offended = 1
	here(5, heights)
	check("marked", 320, 7)
	for i := range peers {
		peers[i].Standing.Offended = 1
	}
	check("all marked", 360)
}

// What a block says of its own author, of other heights and of blocks that lack their sample is not counted.
func TestWitnessOf(t *testing.T) {
	params := types.LocalParams
	params.SampleEvery = 2
	key := func(i byte) types.Key { return types.Key{i} }
	headers := map[types.Hash]Header{
		{1}: {key(1), 4, true}, {2}: {key(2), 4, false}, {3}: {key(3), 3, true}, {4}: {key(4), 4, true}, {5}: {key(9), 4, true},
	}
	look := func(id types.Hash) (Header, bool) { h, ok := headers[id]; return h, ok }
	b := &types.Block{Height: 5, Author: key(9), Parent: types.Hash{4}, Merges: []types.Hash{{1}, {2}, {3}, {5}, {7}}}
	if got, want := WitnessOf(&params, b, look), (Witness{key(9), 5, []types.Key{key(4), key(1)}}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	params.SampleEvery = 0
	if got := WitnessOf(&params, b, look); len(got.Named) != 3 {
		t.Errorf("%+v", got)
	}
}

// A tally is its encoding, with however many authors.
func TestTallyEncoding(t *testing.T) {
	m := newMemory(t, testGenesis(3))
	b := m.batch()
	for i := range 130 {
		b.Witnesses = append(b.Witnesses, Witness{types.Key{byte(i)}, 5, []types.Key{{200}, {byte(i + 1)}}})
	}
	b.Height, b.Shares = 6, 3
	m.Apply(b)
	s, err := DecodeState(m.state.Encode())
	if err != nil || !reflect.DeepEqual(s.Tally, m.state.Tally) {
		t.Fatalf("%v\n%+v\n%+v", err, s, m.state)
	}
	if p := s.Tally.Peers[1]; p.Peer != (types.Key{200}) || p.Present != 1 || p.witnesses() != 130 || s.Tally.InForce != 3 {
		t.Errorf("%+v", p)
	}
}
