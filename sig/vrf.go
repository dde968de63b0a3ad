package sig

import (
	"fmt"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"charter/sig/internal/field"
	"charter/types"
)

// The VRF is RFC 9381's ECVRF in all but the curve, for which the RFC has no suite:
//
//	H      = hash to curve of  pub ‖ input      RFC 9380, see curveSuite
//	Gamma  = d·H                                d: the secret of pub's even point P
//	proof  = Gamma (33) ‖ e (32) ‖ s (32)       (e, s): BIP-374, log_G P = log_H Gamma
//	output = H(tag "charter/vrf", Gamma)
//
// A key and an input have one Gamma, so one output; e and s may differ, but only their
// holder can make others.

// curveSuite separates this use of RFC 9380's hash to curve from all others.
const curveSuite = "charter/vrf/secp256k1_XMD:SHA-256_SSWU_RO_"

// BIP-374's tags, and the output's.
var (
	tagDLEQAux       = types.NewTag("BIP0374/aux")
	tagDLEQNonce     = types.NewTag("BIP0374/nonce")
	tagDLEQChallenge = types.NewTag("BIP0374/challenge")
	tagVRF           = types.NewTag("charter/vrf")
)

// compressed is a point as 02 or 03, for y even or odd, and x.
type compressed [33]byte

var generator = func() (g secp.JacobianPoint) {
	var one secp.ModNScalar
	secp.ScalarBaseMultNonConst(one.SetInt(1), &g)
	g.ToAffine()
	return g
}()

// Prove is the proof of priv's random output for an input. It is the same each time. Like
// Sign, it verifies what it has made, for the same reason.
func Prove(priv PrivateKey, input []byte) (proof types.VRFProof) {
	priv.mustBeSet()
	var p, h, gamma secp.JacobianPoint
	if err := lift(priv.pub, &p); err != nil {
		panic(fmt.Sprintf("sig: own key: %v", err))
	}
	hashToCurve(append(priv.pub[:], input...), curveSuite, &h)
	multiply(&priv.d, &h, &gamma)
	c := compress(&gamma)
	copy(proof[:33], c[:])
	es := proveEqual(&priv.d, &p, &h, &gamma, &generator, [32]byte{}, nil)
	copy(proof[33:], es[:])
	if !verifyEqual(&p, &h, &gamma, &generator, es, nil) {
		panic("sig: own proof does not verify, memory or processor is at fault")
	}
	return proof
}

// VerifyVRF checks that proof is by pub for input, and gives the random output. Errors:
// BadKey, BadEncoding, BadProof.
func VerifyVRF(pub types.Key, input []byte, proof types.VRFProof) (types.Hash, error) {
	var p, h, gamma secp.JacobianPoint
	if err := lift(pub, &p); err != nil {
		return types.Hash{}, err
	}
	if f := proof[0]; f != 2 && f != 3 || !liftX(proof[1:33], f == 3, &gamma) {
		return types.Hash{}, &Error{Kind: BadEncoding, What: "proof's Gamma is not a point", Key: pub}
	}
	var s secp.ModNScalar
	if s.SetByteSlice(proof[65:]) {
		return types.Hash{}, &Error{Kind: BadEncoding, What: "proof's s is not below the curve's order", Key: pub}
	}
	hashToCurve(append(pub[:], input...), curveSuite, &h)
	if !verifyEqual(&p, &h, &gamma, &generator, [64]byte(proof[33:]), nil) {
		return types.Hash{}, &Error{Kind: BadProof, What: "not of this key for this input", Key: pub}
	}
	return VRFOutput(proof), nil
}

// VRFOutput is the output of a proof that VerifyVRF has accepted, or Prove has made. Of
// any other proof it means nothing.
func VRFOutput(proof types.VRFProof) types.Hash { return tagVRF.Hash(proof[:33]) }

// proveEqual is BIP-374's proof, e ‖ s, that A = a·G and C = a·B have the same logarithm.
// Points are affine and not at infinity; msg may be nil.
func proveEqual(a *secp.ModNScalar, A, B, C, G *secp.JacobianPoint, aux [32]byte, msg []byte) (es [64]byte) {
	ca, cc := compress(A), compress(C)
	rand := tagDLEQNonce.Hash(masked(a, tagDLEQAux.Hash(aux[:])), ca[:], cc[:], msg)
	var k secp.ModNScalar
	k.SetBytes((*[32]byte)(&rand))
	var r1, r2 secp.JacobianPoint
	multiply(&k, G, &r1)
	multiply(&k, B, &r2)
	e := challengeEqual(A, B, C, G, &r1, &r2, msg)
	copy(es[:32], e[:])
	var s secp.ModNScalar
	s.SetBytes((*[32]byte)(&e))
	s.Mul(a).Add(&k).PutBytesUnchecked(es[32:])
	k.Zero()
	return es
}

// verifyEqual checks a proof of proveEqual (BIP-374, "DLEQ Proof Verification").
func verifyEqual(A, B, C, G *secp.JacobianPoint, es [64]byte, msg []byte) bool {
	var s, minusE field.Scalar
	if !s.SetBytes((*[32]byte)(es[32:])) {
		return false
	}
	minusE.SetBytes((*[32]byte)(es[:32]))
	minusE.Neg(&minusE)
	// commitment sets r to s·base − e·image.
	commitment := func(base, image, r *secp.JacobianPoint) bool {
		points, scalars := [2]field.Point{public(image), public(base)}, [2]field.Scalar{minusE, s}
		sum := field.Combine(&field.Scalar{}, points[:], scalars[:])
		p := sum.Affine()
		x, y := p.X.Bytes(), p.Y.Bytes()
		r.X.SetBytes(&x)
		r.Y.SetBytes(&y)
		r.Z.SetInt(1)
		return !p.IsInfinity()
	}
	var r1, r2 secp.JacobianPoint
	return commitment(G, A, &r1) && commitment(B, C, &r2) &&
		challengeEqual(A, B, C, G, &r1, &r2, msg) == types.Hash(es[:32])
}

// public is an affine point as what only verifies takes it.
func public(p *secp.JacobianPoint) (q field.Point) {
	q.X.SetBytes(p.X.Bytes())
	q.Y.SetBytes(p.Y.Bytes())
	return q
}

func challengeEqual(A, B, C, G, r1, r2 *secp.JacobianPoint, msg []byte) types.Hash {
	ca, cb, cc, cg, c1, c2 := compress(A), compress(B), compress(C), compress(G), compress(r1), compress(r2)
	return tagDLEQChallenge.Hash(ca[:], cb[:], cc[:], cg[:], c1[:], c2[:], msg)
}

// compress writes an affine point that is not at infinity.
func compress(p *secp.JacobianPoint) (c compressed) {
	c[0] = secp.PubKeyFormatCompressedEven
	if p.Y.IsOdd() {
		c[0] = secp.PubKeyFormatCompressedOdd
	}
	p.X.PutBytesUnchecked(c[1:])
	return c
}

// multiply sets r to k·p, affine, by way of the tables that exist for the generator.
func multiply(k *secp.ModNScalar, p, r *secp.JacobianPoint) {
	if p == &generator {
		secp.ScalarBaseMultNonConst(k, r)
	} else {
		secp.ScalarMultNonConst(k, p, r)
	}
	r.ToAffine()
}
