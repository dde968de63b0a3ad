package sig

import (
	"bytes"
	"crypto/sha256"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"charter/types"
)

// The slow obvious twin of the package: the formulas of the BIPs and RFCs on affine points
// and big integers, sharing nothing with what it checks but the coefficients of the
// isogeny, which RFC 9380's vectors check.

type refPoint struct{ x, y *big.Int } // nil: infinity

func bigHex(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic(s)
	}
	return n
}

var (
	refP = bigHex("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f")
	refN = bigHex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
	refG = &refPoint{
		bigHex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
		bigHex("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"),
	}
)

func modP(n *big.Int) *big.Int { return n.Mod(n, refP) }

func mulP(f ...*big.Int) *big.Int {
	out := big.NewInt(1)
	for _, x := range f {
		modP(out.Mul(out, x))
	}
	return out
}

func addP(f ...*big.Int) *big.Int {
	out := new(big.Int)
	for _, x := range f {
		modP(out.Add(out, x))
	}
	return out
}

func invP(x *big.Int) *big.Int {
	return new(big.Int).Exp(x, new(big.Int).Sub(refP, big.NewInt(2)), refP)
}

func refAdd(a, b *refPoint) *refPoint {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	var slope *big.Int
	switch {
	case a.x.Cmp(b.x) != 0:
		slope = mulP(new(big.Int).Sub(b.y, a.y), new(big.Int).ModInverse(modP(new(big.Int).Sub(b.x, a.x)), refP))
	case a.y.Cmp(b.y) != 0:
		return nil
	default:
		slope = mulP(big.NewInt(3), a.x, a.x, new(big.Int).ModInverse(addP(a.y, a.y), refP))
	}
	x := modP(new(big.Int).Sub(mulP(slope, slope), addP(a.x, b.x)))
	return &refPoint{x, modP(new(big.Int).Sub(mulP(slope, new(big.Int).Sub(a.x, x)), a.y))}
}

func refMul(k *big.Int, p *refPoint) (r *refPoint) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		if r = refAdd(r, r); k.Bit(i) == 1 {
			r = refAdd(r, p)
		}
	}
	return r
}

func refNeg(p *refPoint) *refPoint {
	if p == nil {
		return nil
	}
	return &refPoint{p.x, modP(new(big.Int).Neg(p.y))}
}

func refLift(x []byte) *refPoint {
	n := new(big.Int).SetBytes(x)
	if n.Cmp(refP) >= 0 {
		return nil
	}
	y := new(big.Int).ModSqrt(addP(mulP(n, n, n), big.NewInt(7)), refP)
	if y == nil {
		return nil
	}
	if y.Bit(0) == 1 {
		y.Sub(refP, y)
	}
	return &refPoint{n, y}
}

func refBytes(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

func refCompress(p *refPoint) []byte {
	return append([]byte{byte(2 + p.y.Bit(0))}, refBytes(p.x)...)
}

func refTagged(tag string, parts ...[]byte) []byte {
	t := sha256.Sum256([]byte(tag))
	all := slices.Concat(t[:], t[:], slices.Concat(parts...))
	h := sha256.Sum256(all)
	return h[:]
}

func refScalar(b []byte) *big.Int {
	n := new(big.Int).SetBytes(b)
	return n.Mod(n, refN)
}

// refVerify is BIP-340's Verify.
func refVerify(pub, msg, sig []byte) bool {
	p := refLift(pub)
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	if p == nil || r.Cmp(refP) >= 0 || s.Cmp(refN) >= 0 {
		return false
	}
	e := refScalar(refTagged("BIP0340/challenge", sig[:32], pub, msg))
	R := refAdd(refMul(s, refG), refNeg(refMul(e, p)))
	return R != nil && R.y.Bit(0) == 0 && R.x.Cmp(r) == 0
}

// refKeyAgg is BIP-327's KeyAgg of 33-byte keys, in the order given, without the sort; nil
// where the BIP fails.
func refKeyAgg(keys [][]byte) *refPoint {
	second := make([]byte, 33)
	for _, k := range keys {
		if !bytes.Equal(k, keys[0]) {
			second = k
			break
		}
	}
	list := refTagged("KeyAgg list", keys...)
	var sum *refPoint
	for _, k := range keys {
		p := refLift(k[1:])
		if p == nil || k[0] != 2 && k[0] != 3 {
			return nil
		}
		if k[0] == 3 {
			p = refNeg(p)
		}
		a := big.NewInt(1)
		if !bytes.Equal(k, second) {
			a = refScalar(refTagged("KeyAgg coefficient", list, k))
		}
		sum = refAdd(sum, refMul(a, p))
	}
	return sum
}

// refTweak is BIP-341's taproot_tweak_pubkey, under a tag.
func refTweak(tag string, inner, root []byte) []byte {
	return refBytes(refAdd(refLift(inner), refMul(refScalar(refTagged(tag, inner, root)), refG)).x)
}

// refVerifyEqual is BIP-374's VerifyProof.
func refVerifyEqual(A, B, C, G *refPoint, proof, msg []byte) bool {
	e, s := new(big.Int).SetBytes(proof[:32]), new(big.Int).SetBytes(proof[32:])
	if s.Cmp(refN) >= 0 {
		return false
	}
	r1 := refAdd(refMul(s, G), refNeg(refMul(e, A)))
	r2 := refAdd(refMul(s, B), refNeg(refMul(e, C)))
	if r1 == nil || r2 == nil {
		return false
	}
	h := refTagged("BIP0374/challenge", refCompress(A), refCompress(B), refCompress(C), refCompress(G),
		refCompress(r1), refCompress(r2), msg)
	return bytes.Equal(h, proof[:32])
}

// refExpand is RFC 9380 §5.3.1, expand_message_xmd with SHA-256, for 96 bytes.
func refExpand(msg []byte, dst string) (out []byte) {
	prime := append([]byte(dst), byte(len(dst)))
	b0 := sha256.Sum256(slices.Concat(make([]byte, 64), msg, []byte{0, 96, 0}, prime))
	var bi [32]byte
	for i := range 3 {
		for j := range bi {
			bi[j] ^= b0[j]
		}
		bi = sha256.Sum256(slices.Concat(bi[:], []byte{byte(i + 1)}, prime))
		out = append(out, bi[:]...)
	}
	return out
}

// refMapToCurve is RFC 9380's map_to_curve_simple_swu (§6.6.2) and iso_map (§6.6.3).
func refMapToCurve(u *big.Int) *refPoint {
	A := bigHex("3f8731abdd661adca08a5558f0f5d272e953d363cb6f0e5d405447c01a444533")
	B, Z := big.NewInt(1771), big.NewInt(-11)
	onIso := func(x *big.Int) *big.Int { return addP(mulP(x, x, x), mulP(A, x), B) }
	tv1 := invP(addP(mulP(Z, Z, u, u, u, u), mulP(Z, u, u)))
	x := mulP(big.NewInt(-1), B, invP(A), addP(big.NewInt(1), tv1))
	if tv1.Sign() == 0 {
		x = mulP(B, invP(mulP(Z, A)))
	}
	y := new(big.Int).ModSqrt(onIso(x), refP)
	if y == nil {
		x = mulP(Z, u, u, x)
		y = new(big.Int).ModSqrt(onIso(x), refP)
	}
	if u.Bit(0) != y.Bit(0) {
		y.Sub(refP, y)
	}
	value := func(i int) *big.Int {
		sum, power := new(big.Int), big.NewInt(1)
		for _, c := range slices.Backward(isogeny[i]) {
			b := c.Bytes()
			sum, power = addP(sum, mulP(new(big.Int).SetBytes(b[:]), power)), mulP(power, x)
		}
		return sum
	}
	return &refPoint{mulP(value(0), invP(value(1))), mulP(y, value(2), invP(value(3)))}
}

// refHashToCurve is RFC 9380 §3, hash_to_curve.
func refHashToCurve(msg []byte, dst string) *refPoint {
	b := refExpand(msg, dst)
	u0, u1 := modP(new(big.Int).SetBytes(b[:48])), modP(new(big.Int).SetBytes(b[48:]))
	return refAdd(refMapToCurve(u0), refMapToCurve(u1))
}

// refVRF is VerifyVRF.
func refVRF(pub, input, proof []byte) (output []byte, ok bool) {
	p, gamma := refLift(pub), refLift(proof[1:33])
	if p == nil || gamma == nil || proof[0] != 2 && proof[0] != 3 {
		return nil, false
	}
	if proof[0] == 3 {
		gamma = refNeg(gamma)
	}
	h := refHashToCurve(slices.Concat(pub, input), "charter/vrf/secp256k1_XMD:SHA-256_SSWU_RO_")
	return refTagged("charter/vrf", proof[:33]), refVerifyEqual(p, h, gamma, refG, proof[33:], nil)
}

// random is a source that is the same in each run.
func random(name string) *rand.ChaCha8 { return rand.NewChaCha8(sha256.Sum256([]byte(name))) }

func drawHash(r *rand.ChaCha8) (h types.Hash) {
	r.Read(h[:])
	return h
}

func drawKey(r *rand.ChaCha8) PrivateKey {
	k, err := ParsePrivateKey([32]byte(drawHash(r)))
	if err != nil {
		panic(err)
	}
	return k
}

func drawKeys(r *rand.ChaCha8, n int) (privs []PrivateKey, pubs []types.Key) {
	for range n {
		k := drawKey(r)
		privs, pubs = append(privs, k), append(pubs, k.Public())
	}
	return privs, pubs
}

// root is the directory of the module.
func root(t testing.TB) string {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			break
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal("no go.mod above the working directory", err)
	return ""
}

// published reads a file of the specifications' own vectors, which are not in this
// repository but in ../shared/vectors beside it; where they are not, the test is skipped.
func published(t *testing.T, name string) []byte {
	path := filepath.Join(root(t), "..", "shared", "vectors", name)
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skipf("published vectors are not here: no ../shared/vectors/%s beside the repository", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}
