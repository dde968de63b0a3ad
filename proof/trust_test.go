package proof

import (
	"bytes"
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"

	"charter/types"
)

// rotating is a world whose snapshots share no two thirds with one another for long: each
// period one peer leaves and one comes.
func rotating(t testing.TB) *world {
	w := newWorld(t, worldPeers)
	w.members = func(p uint64) (out []int) {
		for i := range uint64(4) {
			out = append(out, int((p+i)%worldPeers))
		}
		return out
	}
	return w
}

func TestTwoThirdsIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	slow := func(signed, total types.Amount) bool {
		a := new(big.Int).Mul(big.NewInt(3), new(big.Int).SetUint64(uint64(signed)))
		b := new(big.Int).Mul(big.NewInt(2), new(big.Int).SetUint64(uint64(total)))
		return a.Cmp(b) > 0
	}
	for range 100_000 {
		total := types.Amount(r.Uint64N(uint64(types.MaxSupply)) >> r.IntN(63))
		signed := types.Amount(uint64(total)/3*2 + r.Uint64N(5))
		if r.IntN(4) == 0 {
			signed = types.Amount(r.Uint64N(uint64(total) + 1))
		}
		if got, want := twoThirds(signed, total), slow(signed, total); got != want {
			t.Fatalf("twoThirds(%d, %d) = %v, want %v", signed, total, got, want)
		}
	}
	for _, c := range []struct {
		signed, total types.Amount
		want          bool
	}{{0, 0, false}, {2, 3, false}, {3, 3, true}, {67, 100, true}, {66, 100, false}, {types.MaxSupply, types.MaxSupply, true},
		{types.MaxSupply / 3 * 2, types.MaxSupply / 3 * 3, false}, {types.MaxSupply/3*2 + 1, types.MaxSupply / 3 * 3, true}} {
		if got := twoThirds(c.signed, c.total); got != c.want {
			t.Errorf("twoThirds(%d, %d) = %v", c.signed, c.total, got)
		}
	}
}

func TestPercentRoundsDown(t *testing.T) {
	for want, s := range map[string]Strength{
		"75": {Signed: 3, Total: 4}, "66.6": {Signed: 2, Total: 3}, "100": {Signed: 5, Total: 5},
		"99.9": {Signed: types.MaxSupply - 1, Total: types.MaxSupply}, "0": {},
	} {
		if got := s.Percent(); got != want {
			t.Errorf("%v: %s %%, want %s %%", s, got, want)
		}
	}
}

// TestAdvanceFollowsHonestChains builds and verifies an advance to every height of worlds that
// change their members in different ways, at once and in stages.
func TestAdvanceFollowsHonestChains(t *testing.T) {
	const top = 5 * testPeriod
	for name, c := range map[string]struct {
		set   func(*world)
		steps int // to the top, from the genesis
	}{
		"same members: one jump": {func(*world) {}, 1},
		"one of four changes":    {func(w *world) { *w = *rotating(t) }, 3},
		"a run goes on for long": {func(w *world) {
			*w = *rotating(t)
			w.govern = func(h uint64) uint64 { // finality stalls from 70 on, until 170
				if h > 70 && h < 170 {
					h = 70
				}
				return w.trust.Applicable(h)
			}
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldPeers)
			c.set(w)
			w.rise(top)
			staged := w.trust
			for h := uint64(1); h <= top; h += 13 {
				for _, from := range []Trusted{w.trust, staged} {
					before := from.Encode()
					steps, err := from.Build(h, w)
					if err != nil {
						t.Fatalf("from %d to %d: %v", from.Height(), h, err)
					}
					now, strengths, err := from.Advance(steps)
					if err != nil {
						t.Fatalf("from %d to %d: %v", from.Height(), h, err)
					}
					if now.ID != w.checkpoints[h].ID() || now.Height() != h {
						t.Fatalf("from %d: at height %d, want %d", from.Height(), now.Height(), h)
					}
					if len(strengths) != len(steps) || !twoThirds(strengths[len(steps)-1].Signed, strengths[len(steps)-1].Total) {
						t.Fatalf("strengths %v of %d steps", strengths, len(steps))
					}
					if !bytes.Equal(before, from.Encode()) {
						t.Fatal("Advance changed what it started from")
					}
					back, err := DecodeTrusted(now.Encode())
					if err != nil || !bytes.Equal(back.Encode(), now.Encode()) {
						t.Fatalf("trusted does not survive its bytes: %v", err)
					}
					staged = back
				}
			}
			steps, err := w.trust.Build(top, w)
			if err != nil || len(steps) != c.steps {
				t.Errorf("%d steps from genesis to %d (%v), want %d", len(steps), top, err, c.steps)
			}
		})
	}
}

// TestAdvanceInRandomStages: a wallet that advances by random strides, on chains whose
// members and stalls are random, is never left without a way.
func TestAdvanceInRandomStages(t *testing.T) {
	const top = 8 * testPeriod
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 5))
		w := newWorld(t, worldPeers)
		offset, stride := r.IntN(worldPeers), 1+r.IntN(2)
		w.members = func(p uint64) (out []int) {
			for i := range 4 {
				out = append(out, (offset+stride*int(p)+i)%worldPeers)
			}
			return out
		}
		stall := uint64(1 + r.IntN(top))
		until := stall + uint64(r.IntN(3*testPeriod))
		w.govern = func(h uint64) uint64 {
			if h > stall && h < until {
				h = stall
			}
			return w.trust.Applicable(h)
		}
		w.missing = func(h uint64) int { return int(hashOf(fmt.Sprint(seed, h))[0] % 5) }
		w.rise(top)
		now := w.trust
		for h := uint64(0); h < top; {
			h = min(top, h+1+uint64(r.IntN([]int{8, 70}[r.IntN(2)])))
			steps, err := now.Build(h, w)
			if err != nil {
				t.Fatalf("seed %d, from %d to %d: %v", seed, now.Height(), h, err)
			}
			back, err := Decode((&Advance{w.chain, steps}).Encode())
			if err != nil {
				t.Fatal(err)
			}
			next, _, err := now.Advance(back.(*Advance).Steps)
			if err != nil {
				t.Fatalf("seed %d, from %d to %d: %v", seed, now.Height(), h, err)
			}
			if now.Checkpoint != nil { // a prover that knows only where the wallet is can lead it too
				at := At(&w.genesis.Params, now.Checkpoint, w.govern(now.Height()))
				if steps, err = at.Build(h, w); err != nil {
					t.Fatalf("seed %d, from the checkpoint of %d to %d: %v", seed, now.Height(), h, err)
				}
				if other, _, err := now.Advance(steps); err != nil || other.ID != next.ID {
					t.Fatalf("seed %d, from %d to %d, not knowing what is believed: %v", seed, now.Height(), h, err)
				}
				if r.IntN(2) == 0 {
					next, _, _ = now.Advance(steps)
				}
			}
			now = next
		}
	}
}

// TestSkippedSnapshotIsFoundInHistory: a wallet that skips from 110 to 165 has heard of the snapshots of
// 80 and 160, and the one of 120 is still in force.
func TestSkippedSnapshotIsFoundInHistory(t *testing.T) {
	w := rotating(t)
	w.rise(180)
	now := w.trust
	advance := func(h uint64) []Step {
		t.Helper()
		steps, err := now.Build(h, w)
		w.must(err)
		now, _, err = now.Advance(steps)
		w.must(err)
		return steps
	}
	w.missing = func(uint64) int { return 0 }
	advance(85)
	advance(105) // signed by the snapshot of 80
	w.missing = func(uint64) int { return 1 << 10 }
	if steps := advance(165); len(steps) != 1 || steps[0].Snapshot != nil {
		t.Fatalf("to 165: %d steps", len(steps))
	}
	stayed := 0
	for i, m := range w.snapshots[120].Members {
		if _, both := w.snapshots[80].Find(m.Peer); both {
			stayed = i
		}
	}
	w.missing = func(uint64) int { return stayed }
	before := now
	steps := advance(166)
	if len(steps) != 1 || steps[0].Past == nil || steps[0].Snapshot.Height != 120 {
		t.Fatalf("to 166: %+v", steps)
	}
	for what, spoil := range map[string]func(*Step){
		"without past":  func(s *Step) { s.Past = nil },
		"another past":  func(s *Step) { s.Past = &Past{*w.checkpoints[119], w.pastPath(119, 165)} },
		"another chain": func(s *Step) { s.Past = &Past{s.Past.Checkpoint, s.Past.Path}; s.Past.Checkpoint.Chain[0]++ },
		"no path":       func(s *Step) { s.Past = &Past{s.Past.Checkpoint, nil} },
	} {
		s := steps[0]
		spoil(&s)
		if _, _, err := before.Advance([]Step{s}); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	data := (&Advance{w.chain, steps}).Encode()
	for i := range data {
		data[i] ^= 1 << (i % 8)
		if p, err := Decode(data); err == nil {
			if a, ok := p.(*Advance); ok && a.Chain == w.chain {
				if now, _, err := before.Advance(a.Steps); err == nil && now.ID != before.ID {
					t.Errorf("accepted with byte %d flipped", i)
				}
			}
		}
		data[i] ^= 1 << (i % 8)
	}
}

// TestLateSnapshotIsSaid: after a stall an old snapshot signs high heights. It is
// accepted, because the chain may be honest, and said.
func TestLateSnapshotIsSaid(t *testing.T) {
	w := newWorld(t, worldPeers)
	cp := w.rise(200)
	step := Step{Checkpoint: *cp, Certificate: *w.certify(cp, w.snapshots[0], 3)}
	_, strengths, err := w.trust.Advance([]Step{step})
	if err != nil {
		t.Fatal(err)
	}
	want := Strength{Signed: 300 * types.UnitsPerShare, Total: 400 * types.UnitsPerShare, Members: 3, Snapshot: 0, Behind: 4}
	if strengths[0] != want {
		t.Errorf("strength %+v, want %+v", strengths[0], want)
	}
}

func TestPin(t *testing.T) {
	w := rotating(t)
	w.rise(130)
	steps, err := w.trust.Build(130, w)
	w.must(err)
	for i := range steps {
		if i > 0 && steps[i].Snapshot == nil {
			t.Fatalf("step %d hands on no snapshot", i)
		}
		pin := Pin(w.chain, &w.genesis.Params, steps[i].Checkpoint.ID())
		now, strengths, err := pin.Advance(steps)
		if err != nil {
			t.Fatalf("pin at step %d: %v", i, err)
		}
		if now.Height() != 130 || strengths[i] != (Strength{}) {
			t.Errorf("pin at step %d: at height %d with strengths %v", i, now.Height(), strengths)
		}
		// The steps before the pin are not read, those after it are.
		for j := range steps {
			broken := append([]Step(nil), steps...)
			broken[j].Certificate.Votes = nil
			if _, _, err := pin.Advance(broken); (err == nil) != (j <= i) {
				t.Errorf("pin at step %d, step %d broken: %v", i, j, err)
			}
		}
	}
	// Between a checkpoint and the height where what it commits to governs, the snapshot in force must be given.
	at := w.checkpoints[85]
	next := []Step{{Checkpoint: *at}, {Checkpoint: *w.checkpoints[86], Certificate: *w.certify(w.checkpoints[86], w.snapshots[40], 4)}}
	if _, _, err := Pin(w.chain, &w.genesis.Params, at.ID()).Advance(next); !IsKind(err, UnknownSnapshot) {
		t.Errorf("without the snapshot in force: %v", err)
	}
	if _, _, err := Pin(w.chain, &w.genesis.Params, at.ID(), *w.snapshots[40]).Advance(next); err != nil {
		t.Errorf("with the snapshot in force: %v", err)
	}
}

func TestCertifyTakesTheFewestThatHoldTwoThirds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	chain := hashOf("chain")
	for range 2000 {
		s := &types.Snapshot{}
		for i := range 1 + r.IntN(9) {
			s.Members = append(s.Members, types.Member{Peer: secretKeys[i], Shares: types.Amount(1 + r.IntN(20))})
		}
		sortMembers(s)
		votes := map[types.Key]types.Signature{}
		for _, m := range s.Members {
			if r.IntN(6) > 0 {
				votes[m.Peer] = types.Signature{1}
			}
		}
		c := Certify(chain, s, votes)
		// The slow twin: all subsets of those that signed.
		fewest := -1
		for set := range 1 << len(s.Members) {
			var sum types.Amount
			n := 0
			for i, m := range s.Members {
				if _, signed := votes[m.Peer]; set>>i&1 == 1 && signed {
					sum, n = sum+m.Shares, n+1
				}
			}
			if 3*sum > 2*s.Total() && (fewest < 0 || n < fewest) {
				fewest = n
			}
		}
		if (c == nil) != (fewest < 0) || c != nil && len(c.Votes) != fewest {
			t.Fatalf("certificate %v, fewest are %d", c, fewest)
		}
	}
}

var secretKeys = func() (keys []types.Key) {
	for i := range worldPeers + 1 {
		keys = append(keys, secret(i).Public())
	}
	return keys
}()
