package client

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"charter/peer"
	"charter/sig"
	"charter/types"
)

// Evidence is published by who has no wallet, proven to who has one, taken out of the chain again, and forgiven by
// owners of more than half of the shares.
func TestOffence(t *testing.T) {
	w := newWorld(t, "ann", "ben")
	key, _, err := peer.ReadKey(filepath.Join(w.dir, "peer", "peer.key"))
	w.must(err)
	chain, who := w.genesis.ChainID(), key.Public()
	var votes [2]types.SignedVote
	for i := range votes {
		id := types.Hash{byte(i + 1)}
		votes[i] = types.SignedVote{Peer: who, CheckpointVote: types.CheckpointVote{Height: 3, Checkpoint: id, Signature: sig.Sign(key, types.VoteDigest(chain, 3, id))}}
	}
	o := &Offence{chain, types.TwoVotesEvidence(votes[0], votes[1])}
	back, err := DecodeOffence(o.Encode())
	w.must(err)
	if proven, err := back.Verify(w.genesis); !proven || err != nil || !bytes.Equal(back.Encode(), o.Encode()) {
		t.Fatalf("verified: %t, %v", proven, err)
	}
	other := *w.genesis
	other.Network = "other"
	if _, err := o.Verify(&other); !IsKind(err, NotEvidence) {
		t.Errorf("on another chain: %v", err)
	}
	for n := range o.Encode() {
		if _, err := DecodeOffence(o.Encode()[:n]); !IsKind(err, NotEvidence) {
			t.Fatalf("first %d bytes: %v", n, err)
		}
	}
	innocent := Offence{chain, types.TwoVotesEvidence(votes[0], votes[1])}
	innocent.Evidence.Votes[0].Signature[5]++
	if _, err := innocent.Publish(t.Context(), w.url, w.genesis); !IsKind(err, NotEvidence) {
		t.Errorf("not signed: %v", err)
	}

	id, err := o.Publish(t.Context(), w.url, w.genesis)
	w.must(err)
	ann, ben := w.open("ann", w.url), w.open("ben", w.url)
	marked := func(is func(s types.Standing) bool) types.Standing {
		t.Helper()
		for range 400 {
			p, err := ann.PeerState(t.Context(), who)
			w.must(err)
			if is(p.Standing) {
				return p.Standing
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatal("the peer's standing did not change")
		return types.Standing{}
	}
	if s := marked(func(s types.Standing) bool { return s.Offended > 0 }); s.Offences != 1 {
		t.Errorf("marked as %+v", s)
	}
	file, err := FetchProof(t.Context(), w.url, id)
	w.must(err)
	found, err := OffencesIn(file, w.genesis)
	w.must(err)
	if len(found) != 1 || !bytes.Equal(found[0].Encode(), o.Encode()) {
		t.Errorf("exported %+v", found)
	}
	if _, err := o.Publish(t.Context(), w.url, w.genesis); err != nil {
		t.Errorf("once more: %v", err)
	}

	w.must(ben.Sync(t.Context()))
	mine, shares, err := ann.Ballot(who, 1)
	w.must(err)
	theirs, _, err := ben.Ballot(who, 1)
	w.must(err)
	if shares != 150*share || len(mine.Outputs) != 2 {
		t.Fatalf("ballot of %s, %+v", shares, mine)
	}
	r := types.Reinstate{Peer: who, Offences: 1, Ballots: []types.Ballot{mine}}
	if _, err := ann.Reinstate(t.Context(), r, "", nil); err == nil {
		t.Error("half of the shares were enough")
	}
	w.must(ann.Sync(t.Context()))
	r.Ballots = []types.Ballot{theirs, mine}
	r.Sort()
	if _, err = ann.Reinstate(t.Context(), r, "vote", nil); err != nil {
		t.Fatal(err)
	}
	if s := marked(func(s types.Standing) bool { return s.Offended == 0 }); s.Cleared == 0 || s.Offences != 1 {
		t.Errorf("reinstated as %+v", s)
	}
}

func FuzzDecodeOffence(f *testing.F) {
	o := &Offence{types.Hash{1}, types.ForkEvidence(&types.Block{Height: 1}, &types.Block{Height: 1, Time: 1})}
	f.Add(o.Encode())
	f.Add(o.Encode()[:60])
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := DecodeOffence(data); err == nil && !bytes.Equal(o.Encode(), data) {
			t.Fatal("two encodings")
		} else if err == nil {
			_ = o.Sentence(nil)
		}
	})
}
