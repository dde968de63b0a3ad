package sig

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/btcsuite/btcd/btcec/v2"
	"github.com/btcsuite/btcd/btcec/v2/schnorr"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"charter/types"
)

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func rows(t *testing.T, name string) [][]string {
	all, err := csv.NewReader(bytes.NewReader(published(t, name))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return all[1:]
}

// BIP-340's vectors: signing where there is a secret, verification always.
func TestBIP340(t *testing.T) {
	n := 0
	for _, row := range rows(t, "bip-0340/test-vectors.csv") {
		secret, pub, aux, msg := unhex(t, row[1]), types.Key(unhex(t, row[2])), unhex(t, row[3]), unhex(t, row[4])
		want := types.Signature(unhex(t, row[5]))
		if len(secret) > 0 {
			k, err := ParsePrivateKey([32]byte(secret))
			if err != nil {
				t.Fatal(err)
			}
			if k.Public() != pub {
				t.Errorf("%s: public key %s, want %s", row[0], k.Public(), pub)
			}
			if have := sign(&k, [32]byte(aux), msg); have != want {
				t.Errorf("%s: signature %s, want %s", row[0], have, want)
			}
		}
		if err := verify(pub, msg, want); (err == nil) != (row[6] == "TRUE") {
			t.Errorf("%s (%s): %v, want %s", row[0], row[7], err, row[6])
		}
		n++
	}
	if n < 19 {
		t.Errorf("only %d vectors", n)
	}
}

// btcecVerify is btcec's verdict behind the strict parsing of s that its parser lacks.
func btcecVerify(pub types.Key, msg types.Hash, s types.Signature) bool {
	var scalar secp.ModNScalar
	if scalar.SetByteSlice(s[32:]) {
		return false
	}
	p, err := schnorr.ParsePubKey(pub[:])
	if err != nil {
		return false
	}
	parsed, err := schnorr.ParseSignature(s[:])
	return err == nil && parsed.Verify(msg[:], p)
}

// Three that share no code must agree on true signatures, on those with a bit turned, and
// on noise.
func TestVerifyTwins(t *testing.T) {
	r := random("verify")
	for range 60 {
		k, msg := drawKey(r), drawHash(r)
		pub, s := k.Public(), Sign(k, msg)
		if err := Verify(pub, msg, s); err != nil {
			t.Fatal(err)
		}
		switch r.Uint64() % 5 {
		case 0:
			pub[r.Uint64()%32] ^= 1 << (r.Uint64() % 8)
		case 1:
			msg[r.Uint64()%32] ^= 1 << (r.Uint64() % 8)
		case 2:
			s[r.Uint64()%64] ^= 1 << (r.Uint64() % 8)
		case 3:
			r.Read(s[:])
		}
		have := Verify(pub, msg, s) == nil
		if ref := refVerify(pub[:], msg[:], s[:]); have != ref {
			t.Errorf("have %v, twin %v: %s %s %s", have, ref, pub, msg, s)
		}
		if b := btcecVerify(pub, msg, s); have != b {
			t.Errorf("have %v, btcec %v: %s %s %s", have, b, pub, msg, s)
		}
	}
}

// Our signature is btcec's with the same auxiliary randomness.
func TestSignTwin(t *testing.T) {
	r := random("sign")
	for range 20 {
		secret, msg := [32]byte(drawHash(r)), drawHash(r)
		k, err := ParsePrivateKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		priv, _ := btcec.PrivKeyFromBytes(secret[:])
		want, err := schnorr.Sign(priv, msg[:], schnorr.CustomNonce([32]byte{}))
		if err != nil {
			t.Fatal(err)
		}
		if have := Sign(k, msg); !bytes.Equal(have[:], want.Serialize()) {
			t.Errorf("have %s, btcec %x", have, want.Serialize())
		}
	}
}

// A secret and its negative are the same key.
func TestNegatedSecret(t *testing.T) {
	r := random("negated")
	secret := [32]byte(drawHash(r))
	var d secp.ModNScalar
	d.SetBytes(&secret)
	negated := d.Negate().Bytes()
	a, _ := ParsePrivateKey(secret)
	b, _ := ParsePrivateKey(negated)
	if a != b {
		t.Error("the negative of a secret is another key")
	}
}

func TestMutatedSignature(t *testing.T) {
	r := random("mutated")
	k, msg := drawKey(r), drawHash(r)
	s := Sign(k, msg)
	for i := range s {
		bad := s
		bad[i] ^= byte(1 + r.Uint64()%255)
		if Verify(k.Public(), msg, bad) == nil {
			t.Errorf("byte %d does not matter", i)
		}
	}
}

func TestVerifyAll(t *testing.T) {
	r := random("all")
	var checks []Check
	for range 8 {
		k, msg := drawKey(r), drawHash(r)
		checks = append(checks, Check{k.Public(), msg, Sign(k, msg)})
	}
	if bad, err := VerifyAll(checks); bad != -1 || err != nil {
		t.Errorf("true signatures: %d, %v", bad, err)
	}
	if bad, err := VerifyAll(nil); bad != -1 || err != nil {
		t.Errorf("no signatures: %d, %v", bad, err)
	}
	checks[6].Msg[0]++
	checks[3].Sig[63]++
	if bad, err := VerifyAll(checks); bad != 3 || !IsKind(err, BadSignature) {
		t.Errorf("3 and 6 are bad: %d, %v", bad, err)
	}
}

// A private key does not print, whoever prints it.
func TestRedacted(t *testing.T) {
	k := drawKey(random("redacted"))
	secret := k.d.Bytes()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", k, "held", struct{ K PrivateKey }{k})
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", k, "held", struct{ K PrivateKey }{k})
	//lint:ignore SA9005 that nothing of it is marshalled is the point
	asJSON, _ := json.Marshal(k)
	all := fmt.Sprintf("%v %+v %#v %s %x %d %q %v %+v %v %s", k, k, k, k, k, k, k, &k, struct{ K PrivateKey }{k}, []PrivateKey{k}, log.String()) + string(asJSON)
	for _, form := range []string{hex.EncodeToString(secret[:]), fmt.Sprint(secret[:]), fmt.Sprint(secret[:8]), "PrivateKey{"} {
		if strings.Contains(strings.ToLower(all), strings.ToLower(form)) {
			t.Errorf("printed: %s", all)
		}
	}
	if fmt.Sprint(k) != "redacted" {
		t.Errorf("%v", k)
	}
}

func TestZeroPrivateKeyPanics(t *testing.T) {
	for name, use := range map[string]func(){
		"Sign":        func() { Sign(PrivateKey{}, types.Hash{}) },
		"SignSet":     func() { SignSet([]PrivateKey{{}}, types.Hash{}) },
		"LockPrivate": func() { LockPrivate(PrivateKey{}, types.Hash{}) },
		"Prove":       func() { Prove(PrivateKey{}, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s does not panic", name)
				}
			}()
			use()
		}()
	}
}

// rogueSign is what a holder of k can make who signs with any nonce, its point as it comes:
// of an odd y, or at infinity, with r zero.
func rogueSign(k PrivateKey, nonce uint32, msg types.Hash) (s types.Signature) {
	var n secp.ModNScalar
	n.SetInt(nonce)
	var r secp.JacobianPoint
	secp.ScalarBaseMultNonConst(&n, &r)
	r.ToAffine()
	r.X.PutBytesUnchecked(s[:32])
	e := challenge(s[:32], &k.pub, msg[:])
	e.Mul(&k.d).Add(&n).PutBytesUnchecked(s[32:])
	return s
}

// oddNonce is the first nonce whose point has an odd y.
func oddNonce() (n uint32) {
	for n = 1; refMul(big.NewInt(int64(n)), refG).y.Bit(0) == 0; n++ {
	}
	return n
}

// rogueProve is the proof with a nonce of zero, both commitments at infinity.
func rogueProve(k PrivateKey, input []byte) types.VRFProof {
	proof := Prove(k, input)
	var p, h, gamma, none secp.JacobianPoint
	lift(k.pub, &p)
	liftX(proof[1:33], proof[0] == 3, &gamma)
	hashToCurve(append(k.pub[:], input...), curveSuite, &h)
	e := challengeEqual(&p, &h, &gamma, &generator, &none, &none, nil)
	copy(proof[33:], e[:])
	var s secp.ModNScalar
	s.SetBytes((*[32]byte)(&e))
	s.Mul(&k.d).PutBytesUnchecked(proof[65:])
	return proof
}

// One valid object, spoilt in one way per row.
func TestKinds(t *testing.T) {
	r := random("kinds")
	k, other, msg := drawKey(r), drawKey(r), drawHash(r)
	pub, s, input := k.Public(), Sign(k, msg), []byte("input")
	proof := Prove(k, input)
	leaves := []types.Leaf{{After: 1}, {After: 2}, {After: 3}}
	treeRoot, paths, err := LockTree(leaves)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := LockKey(pub, treeRoot)
	if err != nil {
		t.Fatal(err)
	}
	order := [32]byte(refBytes(refN))
	prime := types.Key(refBytes(refP))
	notX := types.Key{31: 5}
	primePlus1 := types.Key(refBytes(new(big.Int).Add(refP, big.NewInt(1)))) // 1 is an x
	if refLift(notX[:]) != nil || refLift(append(make([]byte, 31), 1)) == nil {
		t.Fatal("5 is the x of a point, or 1 is not")
	}
	longPath := make([]types.Hash, types.MaxLeafPath+1)
	longLock, err := LockKey(pub, RootFromPath(leaves[0].Hash(), longPath))
	if err != nil {
		t.Fatal(err)
	}
	withSig := func(f func(*types.Signature)) types.Signature { c := s; f(&c); return c }
	withProof := func(f func(*types.VRFProof)) types.VRFProof { c := proof; f(&c); return c }
	verifyVRF := func(pub types.Key, input []byte, p types.VRFProof) error {
		_, err := VerifyVRF(pub, input, p)
		return err
	}
	parse := func(b [32]byte) error { _, err := ParsePrivateKey(b); return err }
	lockedOut, err := LockKey(pub, types.Leaf{Keys: []types.Key{pub}}.Hash())
	if err != nil {
		t.Fatal(err)
	}
	lockTree := func(l ...types.Leaf) error { _, _, err := LockTree(l); return err }
	aggregate := func(k ...types.Key) error { _, err := Aggregate(k); return err }
	signSet := func(k ...PrivateKey) error { _, err := SignSet(k, msg); return err }
	lockKey := func(k types.Key, h types.Hash) error { _, err := LockKey(k, h); return err }

	table := []struct {
		name string
		kind Kind
		err  error
	}{
		{"nothing spoilt", 0, Verify(pub, msg, s)},
		{"nothing spoilt, VRF", 0, verifyVRF(pub, input, proof)},
		{"nothing spoilt, lock", 0, OpensLock(lock, pub, leaves[1], paths[1])},
		{"nothing spoilt, set", 0, aggregate(pub, other.Public())},

		{"secret zero", BadScalar, parse([32]byte{})},
		{"secret = n", BadScalar, parse(order)},
		{"secret = 2^256 − 1", BadScalar, parse([32]byte(bytes.Repeat([]byte{255}, 32)))},

		{"key = p", BadKey, CheckKey(prime)},
		{"key = p + 1", BadKey, CheckKey(primePlus1)},
		{"key not an x", BadKey, CheckKey(notX)},
		{"key zero", BadKey, CheckKey(types.Key{})},
		{"signature of a key that is none", BadKey, Verify(notX, msg, s)},
		{"proof of a key that is none", BadKey, verifyVRF(notX, input, proof)},
		{"set with a key that is none", BadKey, aggregate(pub, notX)},
		{"set of one key that is none", BadKey, aggregate(notX)},
		{"lock with an inner key that is none", BadKey, lockKey(notX, treeRoot)},
		{"lock with an inner key that is none and no tree", BadKey, lockKey(notX, types.Hash{})},
		{"opening with an inner key that is none", BadKey, OpensLock(lock, notX, leaves[0], paths[0])},

		{"r = p", BadEncoding, Verify(pub, msg, withSig(func(s *types.Signature) { copy(s[:32], prime[:]) }))},
		{"s = n", BadEncoding, Verify(pub, msg, withSig(func(s *types.Signature) { copy(s[32:], order[:]) }))},
		{"Gamma's first byte 4", BadEncoding, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { p[0] = 4 }))},
		{"Gamma's x = p", BadEncoding, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { copy(p[1:], prime[:]) }))},
		{"Gamma's x = p + 1", BadEncoding, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { copy(p[1:], primePlus1[:]) }))},
		{"Gamma's x of no point", BadEncoding, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { copy(p[1:], notX[:]) }))},
		{"proof's s = n", BadEncoding, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { copy(p[65:], order[:]) }))},
		{"proof zero", BadEncoding, verifyVRF(pub, input, types.VRFProof{})},

		{"message of another", BadSignature, Verify(pub, types.Hash{1}, s)},
		{"key of another", BadSignature, Verify(other.Public(), msg, s)},
		{"signature zero", BadSignature, Verify(pub, msg, types.Signature{})},
		{"R's y odd", BadSignature, Verify(pub, msg, rogueSign(k, oddNonce(), msg))},
		{"R at infinity", BadSignature, Verify(pub, msg, rogueSign(k, 0, msg))},
		{"s zero", BadSignature, Verify(pub, msg, withSig(func(s *types.Signature) { clear(s[32:]) }))},

		{"no keys", BadKeySet, aggregate()},
		{"a key twice", BadKeySet, aggregate(pub, other.Public(), pub)},
		{"no private keys", BadKeySet, signSet()},
		{"a private key twice", BadKeySet, signSet(other, k, other)},

		{"lock of another", BadLock, OpensLock(pub, pub, leaves[0], paths[0])},
		{"inner key of another", BadLock, OpensLock(lock, other.Public(), leaves[0], paths[0])},
		{"leaf not in the tree", BadLock, OpensLock(lock, pub, types.Leaf{After: 4}, paths[0])},
		{"path of another leaf", BadLock, OpensLock(lock, pub, leaves[0], paths[1])},
		{"path cut", BadLock, OpensLock(lock, pub, leaves[0], paths[0][:1])},
		{"path too long", BadLock, OpensLock(longLock, pub, leaves[0], longPath)},
		{"leaf that nothing opens", BadLock, OpensLock(lockedOut, pub, types.Leaf{Keys: []types.Key{pub}}, nil)},
		{"tree with such a leaf", BadLock, lockTree(types.Leaf{After: 1}, types.Leaf{Keys: []types.Key{pub}})},
		{"tree with a leaf of nothing", BadLock, lockTree(types.Leaf{})},

		{"input of another", BadProof, verifyVRF(pub, []byte("inpux"), proof)},
		{"proof of another", BadProof, verifyVRF(other.Public(), input, proof)},
		{"Gamma negated", BadProof, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { p[0] ^= 1 }))},
		{"commitments at infinity", BadProof, verifyVRF(pub, input, rogueProve(k, input))},
		{"proof's e zero", BadProof, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { clear(p[33:65]) }))},
		{"proof's e and s zero", BadProof, verifyVRF(pub, input, withProof(func(p *types.VRFProof) { clear(p[33:]) }))},
	}
	seen := map[Kind]bool{}
	for _, row := range table {
		if row.kind == 0 {
			if row.err != nil {
				t.Errorf("%s: %v", row.name, row.err)
			}
			continue
		}
		seen[row.kind] = true
		if !IsKind(row.err, row.kind) {
			t.Errorf("%s: %v, want %s", row.name, row.err, row.kind)
		} else if !strings.HasPrefix(row.err.Error(), row.kind.String()+": ") {
			t.Errorf("%s: message %q", row.name, row.err)
		}
	}
	for kind, name := range kinds {
		if !seen[kind] {
			t.Errorf("no row for %s", name)
		}
	}
}
