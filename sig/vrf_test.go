package sig

import (
	"bytes"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"

	"github.com/consensys/gnark-crypto/ecc/secp256k1/fp"
	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"charter/types"
)

// RFC 9380, appendix J.8.1: the points, compressed.
func TestRFC9380(t *testing.T) {
	const dst = "QUUX-V01-CS02-with-secp256k1_XMD:SHA-256_SSWU_RO_"
	for _, c := range []struct{ msg, want string }{
		{"", "03c1cae290e291aee617ebaef1be6d73861479c48b841eaba9b7b5852ddfeb1346"},
		{"abc", "023377e01eab42db296b512293120c6cee72b6ecf9f9205760bd9ff11fb3cb2c4b"},
		{"abcdef0123456789", "02bac54083f293f1fe08e4a70137260aa90783a5cb84d3f35848b324d0674b0e3a"},
		{"q128_" + strings.Repeat("q", 128), "03e2167bc785333a37aa562f021f1e881defb853839babf52a7f72b102e41890e9"},
		{"a512_" + strings.Repeat("a", 512), "02e3c8d35aaaf0b9b647e88a0a0a7ee5d5bed5ad38238152e4e6fd8c1f8cb7c998"},
	} {
		var p secp.JacobianPoint
		hashToCurve([]byte(c.msg), dst, &p)
		if have := compress(&p); hex.EncodeToString(have[:]) != c.want {
			t.Errorf("%.8q: %x, want %s", c.msg, have, c.want)
		}
		if have := refCompress(refHashToCurve([]byte(c.msg), dst)); hex.EncodeToString(have) != c.want {
			t.Errorf("twin, %.8q: %x, want %s", c.msg, have, c.want)
		}
	}
}

func TestHashToCurveTwin(t *testing.T) {
	r := random("hash to curve")
	for i := range 60 {
		msg := make([]byte, i)
		r.Read(msg)
		var p secp.JacobianPoint
		hashToCurve(msg, curveSuite, &p)
		if have, want := compress(&p), refCompress(refHashToCurve(msg, curveSuite)); !bytes.Equal(have[:], want) {
			t.Errorf("%x: %x, twin %x", msg, have, want)
		}
	}
}

// The map has exceptional inputs, where Z²u⁴ + Zu² is zero: 0, and the roots of −1/Z = 1/11
// if there are any. No hash will ever meet them; the RFC defines them nevertheless.
func TestMapToCurveEdges(t *testing.T) {
	edges := []*big.Int{big.NewInt(0), big.NewInt(1), big.NewInt(2), new(big.Int).Sub(refP, big.NewInt(1))}
	if root := new(big.Int).ModSqrt(invP(big.NewInt(11)), refP); root != nil {
		edges = append(edges, root, new(big.Int).Sub(refP, root))
	}
	for _, n := range edges {
		var u fp.Element
		u.SetBigInt(n)
		var p secp.JacobianPoint
		mapToCurve(&u, &p)
		if have, want := compress(&p), refCompress(refMapToCurve(n)); !bytes.Equal(have[:], want) {
			t.Errorf("%x: %x, twin %x", n, have, want)
		}
	}
}

// point reads a compressed point of a vector.
func point(t *testing.T, s string) (p secp.JacobianPoint, ok bool) {
	if b, err := hex.DecodeString(s); err == nil && len(b) == 33 && (b[0] == 2 || b[0] == 3) {
		ok = liftX(b[1:], b[0] == 3, &p)
	}
	return p, ok
}

func TestBIP374Generate(t *testing.T) {
	good := 0
	for _, row := range rows(t, "bip-0374/test_vectors_generate_proof.csv") {
		G, okG := point(t, row[1])
		B, okB := point(t, row[3])
		var a secp.ModNScalar
		if overflow := a.SetByteSlice(unhex(t, row[2])); overflow || a.IsZero() || !okG || !okB {
			if row[6] != "INVALID" {
				t.Errorf("%s: refused, want %s", row[0], row[6])
			}
			continue
		}
		var A, C secp.JacobianPoint
		multiply(&a, &G, &A)
		multiply(&a, &B, &C)
		have := proveEqual(&a, &A, &B, &C, &G, [32]byte(unhex(t, row[4])), unhex(t, row[5]))
		if hex.EncodeToString(have[:]) != row[6] {
			t.Errorf("%s: %x, want %s", row[0], have, row[6])
		}
		good++
	}
	if good < 8 {
		t.Errorf("only %d good vectors", good)
	}
}

func TestBIP374Verify(t *testing.T) {
	n := 0
	for _, row := range rows(t, "bip-0374/test_vectors_verify_proof.csv") {
		var p [4]secp.JacobianPoint
		for i := range p {
			var ok bool
			if p[i], ok = point(t, row[1+i]); !ok {
				t.Fatalf("%s: no point %s", row[0], row[1+i])
			}
		}
		have := verifyEqual(&p[1], &p[2], &p[3], &p[0], [64]byte(unhex(t, row[5])), unhex(t, row[6]))
		if have != (row[7] == "TRUE") {
			t.Errorf("%s (%s): %v", row[0], row[8], have)
		}
		n++
	}
	if n < 15 {
		t.Errorf("only %d vectors", n)
	}
}

func TestVRFTwin(t *testing.T) {
	r := random("vrf")
	seen := map[types.Hash]bool{}
	for i := range 12 {
		k := drawKey(r)
		pub, input := k.Public(), make([]byte, 9*i)
		r.Read(input)
		proof := Prove(k, input)
		if proof != Prove(k, input) {
			t.Error("two proofs of one input")
		}
		out, err := VerifyVRF(pub, input, proof)
		if err != nil {
			t.Fatal(err)
		}
		if VRFOutput(proof) != out || seen[out] {
			t.Errorf("output %s", out)
		}
		seen[out] = true
		want, ok := refVRF(pub[:], input, proof[:])
		if !ok || !bytes.Equal(out[:], want) {
			t.Errorf("%s, twin %x %v", out, want, ok)
		}
		proof[33+r.Uint64()%64] ^= 1 << (r.Uint64() % 8)
		_, err = VerifyVRF(pub, input, proof)
		if _, ok := refVRF(pub[:], input, proof[:]); ok || err == nil {
			t.Errorf("a bit turned: twin %v, %v", ok, err)
		}
	}
}

// The output is of the key and the input alone: another nonce gives another proof with the
// same output, and no other Gamma has a proof.
func TestVRFUnique(t *testing.T) {
	r := random("unique")
	k, input := drawKey(r), []byte("input")
	pub, proof := k.Public(), Prove(k, input)
	var p, h, gamma secp.JacobianPoint
	if err := lift(pub, &p); err != nil {
		t.Fatal(err)
	}
	hashToCurve(append(pub[:], input...), curveSuite, &h)
	multiply(&k.d, &h, &gamma)
	other := proof
	es := proveEqual(&k.d, &p, &h, &gamma, &generator, [32]byte{1}, nil)
	copy(other[33:], es[:])
	out, err := VerifyVRF(pub, input, other)
	if other == proof || err != nil || out != VRFOutput(proof) {
		t.Errorf("another nonce: %v", err)
	}
	// The proof that the holder would like: of a Gamma by another secret.
	forger := drawKey(r)
	multiply(&forger.d, &h, &gamma)
	c := compress(&gamma)
	copy(other[:], c[:])
	es = proveEqual(&k.d, &p, &h, &gamma, &generator, [32]byte{}, nil)
	copy(other[33:], es[:])
	if _, err := VerifyVRF(pub, input, other); !IsKind(err, BadProof) {
		t.Errorf("a Gamma of another secret: %v", err)
	}
}

func TestMutatedProof(t *testing.T) {
	r := random("mutated proof")
	k, input := drawKey(r), []byte("input")
	proof := Prove(k, input)
	for i := range proof {
		bad := proof
		bad[i] ^= byte(1 + r.Uint64()%255)
		if _, err := VerifyVRF(k.Public(), input, bad); err == nil {
			t.Errorf("byte %d does not matter", i)
		}
	}
}
