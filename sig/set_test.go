package sig

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	"github.com/btcsuite/btcd/btcec/v2/schnorr/musig2"

	"charter/types"
)

// BIP-327's vectors of key aggregation check the twin, which takes lists in any order and
// with odd keys; Aggregate is held to the twin below.
func TestBIP327KeyAgg(t *testing.T) {
	var v struct {
		Pubkeys []string
		Valid   []struct {
			Indices  []int `json:"key_indices"`
			Expected string
		} `json:"valid_test_cases"`
		Invalid []struct {
			Indices []int `json:"key_indices"`
			Tweaks  []int `json:"tweak_indices"`
			Comment string
		} `json:"error_test_cases"`
	}
	if err := json.Unmarshal(published(t, "bip-0327/key_agg_vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	list := func(indices []int) (keys [][]byte) {
		for _, i := range indices {
			keys = append(keys, unhex(t, v.Pubkeys[i]))
		}
		return keys
	}
	for i, c := range v.Valid {
		if have := refBytes(refKeyAgg(list(c.Indices)).x); !bytes.Equal(have, unhex(t, c.Expected)) {
			t.Errorf("%d: %x, want %s", i, have, c.Expected)
		}
	}
	n := 0
	for _, c := range v.Invalid {
		if len(c.Tweaks) > 0 {
			continue // of tweaks, which the set has not
		}
		n++
		if refKeyAgg(list(c.Indices)) != nil {
			t.Errorf("%s: accepted", c.Comment)
		}
	}
	if len(v.Valid) == 0 || n == 0 {
		t.Error("no vectors")
	}
	// One of the BIP's keys is not below the prime, one is not an x: refused by ours too.
	good := types.Key(unhex(t, v.Pubkeys[0])[1:])
	for _, i := range []int{3, 4} {
		if _, err := Aggregate([]types.Key{good, types.Key(unhex(t, v.Pubkeys[i])[1:])}); !IsKind(err, BadKey) {
			t.Errorf("key %d: %v", i, err)
		}
	}
}

// BIP-327's whole signatures verify under the key of their keys, by our Verify.
func TestBIP327Signatures(t *testing.T) {
	var v struct {
		Pubkeys []string
		Msg     string
		Valid   []struct {
			Keys     []int `json:"key_indices"`
			Tweaks   []int `json:"tweak_indices"`
			Expected string
		} `json:"valid_test_cases"`
	}
	if err := json.Unmarshal(published(t, "bip-0327/sig_agg_vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range v.Valid {
		if len(c.Tweaks) > 0 {
			continue
		}
		n++
		var keys [][]byte
		for _, i := range c.Keys {
			keys = append(keys, unhex(t, v.Pubkeys[i]))
		}
		key := types.Key(refBytes(refKeyAgg(keys).x))
		if err := Verify(key, types.Hash(unhex(t, v.Msg)), types.Signature(unhex(t, c.Expected))); err != nil {
			t.Error(err)
		}
	}
	if n == 0 {
		t.Error("no vectors")
	}
}

// The keys sorted as BIP-327 sorts them, in 33 bytes, are the keys sorted by x.
func TestAggregateTwins(t *testing.T) {
	r := random("aggregate")
	for n := 1; n <= 8; n++ {
		_, pubs := drawKeys(r, n)
		before := slices.Clone(pubs)
		have, err := Aggregate(pubs)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(pubs, before) {
			t.Error("the caller's keys were moved")
		}
		slices.Reverse(pubs)
		if again, err := Aggregate(pubs); err != nil || again != have {
			t.Errorf("%d keys: the order matters: %v", n, err)
		}
		if n == 1 {
			if have != pubs[0] {
				t.Errorf("one key stands for %s, not itself", have)
			}
			continue
		}
		var form [][]byte
		var theirs []*btcec.PublicKey
		for _, k := range pubs {
			form = append(form, append([]byte{2}, k[:]...))
			p, err := schnorr.ParsePubKey(k[:])
			if err != nil {
				t.Fatal(err)
			}
			theirs = append(theirs, p)
		}
		slices.SortFunc(form, bytes.Compare)
		if want := refBytes(refKeyAgg(form).x); !bytes.Equal(have[:], want) {
			t.Errorf("%d keys: %s, twin %x", n, have, want)
		}
		agg, _, _, err := musig2.AggregateKeys(theirs, true)
		if err != nil {
			t.Fatal(err)
		}
		if want := schnorr.SerializePubKey(agg.FinalKey); !bytes.Equal(have[:], want) {
			t.Errorf("%d keys: %s, btcec %x", n, have, want)
		}
	}
}

func TestSignSet(t *testing.T) {
	r := random("sign set")
	for n := 1; n <= 8; n++ {
		privs, pubs := drawKeys(r, n)
		msg := drawHash(r)
		key, err := Aggregate(pubs)
		if err != nil {
			t.Fatal(err)
		}
		s, err := SignSet(privs, msg)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify(key, msg, s); err != nil {
			t.Errorf("%d keys: %v", n, err)
		}
		slices.Reverse(privs)
		if again, _ := SignSet(privs, msg); again != s {
			t.Errorf("%d keys: the order matters", n)
		}
		if n == 1 && s != Sign(privs[0], msg) {
			t.Error("a set of one does not sign plainly")
		}
		if n > 1 {
			s, err = SignSet(privs[1:], msg)
			if err != nil || Verify(key, msg, s) == nil {
				t.Errorf("%d keys: all but one can sign for all (%v)", n, err)
			}
		}
	}
}

// A MuSig2 session of btcec's, each signer with its own secret, signs under the same key.
func TestMuSig2Session(t *testing.T) {
	r := random("musig2")
	for n := 2; n <= 4; n++ {
		privs, pubs := drawKeys(r, n)
		msg := drawHash(r)
		key, err := Aggregate(pubs)
		if err != nil {
			t.Fatal(err)
		}
		var signers []*btcec.PublicKey
		var secrets []*btcec.PrivateKey
		for _, k := range privs {
			d := k.d.Bytes()
			priv, pub := btcec.PrivKeyFromBytes(d[:])
			secrets, signers = append(secrets, priv), append(signers, pub)
		}
		sessions := make([]*musig2.Session, n)
		for i, priv := range secrets {
			ctx, err := musig2.NewContext(priv, true, musig2.WithKnownSigners(signers))
			if err != nil {
				t.Fatal(err)
			}
			if sessions[i], err = ctx.NewSession(); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range sessions {
			for j, other := range sessions {
				if i != j {
					if _, err := s.RegisterPubNonce(other.PublicNonce()); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		for i, s := range sessions {
			partial, err := s.Sign(msg)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				if _, err := sessions[0].CombineSig(partial); err != nil {
					t.Fatal(err)
				}
			}
		}
		s := types.Signature(sessions[0].FinalSig().Serialize())
		if err := Verify(key, msg, s); err != nil {
			t.Errorf("%d signers: %v", n, err)
		}
	}
}
