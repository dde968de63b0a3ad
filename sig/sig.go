// Package sig is the mathematics of keys: who may say what, and how one sees that they
// did. It signs and verifies, joins keys into sets, ties locks to trees of leaves, and
// proves random outputs. All of it is over the curve secp256k1.
//
//	sign     BIP-340                 Sign, Verify, VerifyAll
//	set      BIP-327, own all keys   Aggregate, SignSet
//	lock     BIP-341, own tags       LockKey, LockPrivate, LockTree, OpensLock
//	vrf      RFC 9381's frame with   Prove, VerifyVRF
//	         RFC 9380 and BIP-374
//
// A public key is 32 bytes, the x of a point; it stands for the one of the two points
// with that x whose y is even. A PrivateKey holds the secret of that point, so nothing
// behind ParsePrivateKey has a sign to think of.
//
// The package holds no rule of the ledger or of consensus, no randomness and no state:
// what it returns depends on its arguments only. It is not a wallet (no derivation, no
// file) and has no rounds: sets whose secrets are in several hands come with MuSig2.
//
// # Bytes from strangers
//
// A signature (r ‖ s) or proof is refused unless r < p, s < n, keys are the x of a point:
// each value has one encoding. Every refusal is an *Error. A zero PrivateKey is a bug of
// the caller and panics.
//
// # Time
//
// Arithmetic on secrets modulo n (adding, multiplying, negating, comparing) and hashing
// take constant time. Multiplication of a point by a secret does not: the nonce in Sign,
// the secret in ParsePrivateKey, LockPrivate, SignSet and Prove go through a
// multiplication whose table look-ups and branches depend on the scalar. Somebody who
// shares the processor's caches with a signer may learn of its keys; how long a whole
// signature takes depends on them too, if weakly. Keep signers on machines of their own.
// Verification and hashing to the curve are of public values and take no care at all. What
// is in internal/field only verifies: no secret may enter it.
package sig

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"charter/sig/internal/field"
	"charter/types"
)

// Kind says why something was refused.
type Kind uint8

const (
	// BadScalar: a secret that is zero or not below the order of the curve.
	BadScalar Kind = iota + 1
	// BadKey: a public key that is not the x of a point.
	BadKey
	// BadEncoding: a signature or proof with a part out of its range.
	BadEncoding
	// BadSignature: a well-formed signature that is not of this key over this message.
	BadSignature
	// BadKeySet: an empty set, or one that names a key twice.
	BadKeySet
	// BadLock: an inner key, leaf and path that do not make the lock.
	BadLock
	// BadProof: a well-formed VRF proof that is not of this key over this input.
	BadProof
)

var kinds = map[Kind]string{
	BadScalar: "bad scalar", BadKey: "bad key", BadEncoding: "bad encoding", BadSignature: "bad signature",
	BadKeySet: "bad key set", BadLock: "bad lock", BadProof: "bad proof",
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Error is what this package returns for what it refuses. It never holds a secret.
type Error struct {
	Kind Kind
	What string    // what is wrong, in words
	Key  types.Key // the public key in question, zero if there is none
}

func (e *Error) Error() string {
	if e.Key.IsZero() {
		return fmt.Sprintf("%s: %s", e.Kind, e.What)
	}
	return fmt.Sprintf("%s: %s (key %s)", e.Kind, e.What, e.Key)
}

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// BIP-340's tags.
var (
	tagAux       = types.NewTag("BIP0340/aux")
	tagNonce     = types.NewTag("BIP0340/nonce")
	tagChallenge = types.NewTag("BIP0340/challenge")
)

// PrivateKey is a secret scalar with its public key. It prints as "redacted".
type PrivateKey struct {
	d   secp.ModNScalar // of the point with even y
	pub types.Key       // that point's x; zero only in the zero PrivateKey
}

// ParsePrivateKey reads a secret, 32 bytes big-endian. One that is zero or not below the
// order of the curve is a BadScalar. A secret and its negative are the same key.
func ParsePrivateKey(secret [32]byte) (PrivateKey, error) {
	var d secp.ModNScalar
	if overflow := d.SetBytes(&secret); overflow != 0 || d.IsZero() {
		return PrivateKey{}, &Error{Kind: BadScalar, What: "a secret is from 1 to the curve's order less 1"}
	}
	return newPrivateKey(&d), nil
}

// newPrivateKey takes d, not zero, and negates it if its point is the odd one.
func newPrivateKey(d *secp.ModNScalar) PrivateKey {
	var p secp.JacobianPoint
	secp.ScalarBaseMultNonConst(d, &p)
	p.ToAffine()
	k := PrivateKey{d: *d}
	if p.Y.IsOdd() {
		k.d.Negate()
	}
	p.X.PutBytesUnchecked(k.pub[:])
	return k
}

// Public is the key's public half.
func (k PrivateKey) Public() types.Key { return k.pub }

// String is "redacted".
func (k PrivateKey) String() string { return "redacted" }

// Format writes "redacted", whatever the verb.
func (k PrivateKey) Format(s fmt.State, _ rune) { io.WriteString(s, k.String()) }

func (k *PrivateKey) mustBeSet() {
	if k.pub.IsZero() {
		panic("sig: use of a zero PrivateKey")
	}
}

// CheckKey gives a BadKey unless k is the x of a point.
func CheckKey(k types.Key) error {
	var x field.Element
	if !x.SetBytes((*[32]byte)(&k)) || !x.IsX() {
		return notKey(k)
	}
	return nil
}

// liftPublic sets p to the point of even y that k stands for (BIP-340, lift_x).
func liftPublic(k types.Key, p *field.Point) error {
	var x field.Element
	if !x.SetBytes((*[32]byte)(&k)) || !p.Lift(&x, false) {
		return notKey(k)
	}
	return nil
}

// lift is liftPublic for where secrets multiply the point.
func lift(k types.Key, p *secp.JacobianPoint) error {
	if !liftX(k[:], false, p) {
		return notKey(k)
	}
	return nil
}

func notKey(k types.Key) error { return &Error{Kind: BadKey, What: "not the x of a point", Key: k} }

// liftX sets p to the point with this x, 32 bytes, and a y of this oddness. False if x is
// not below the field's prime, or not the x of a point.
func liftX(x []byte, odd bool, p *secp.JacobianPoint) bool {
	if p.X.SetByteSlice(x) || !secp.DecompressY(&p.X, odd, &p.Y) {
		return false
	}
	p.Z.SetInt(1)
	return true
}

// Sign is the BIP-340 signature of priv over msg with auxiliary randomness zero, so that
// it is the same each time.
//
// Before it is given out it is verified, as BIP-340 recommends. That makes signing about
// twice as slow, by some 35 µs, and is worth it: nonces are deterministic, so a signature
// spoilt by a flipped bit, beside the right one over the same message, tells the key. A fault
// found panics.
func Sign(priv PrivateKey, msg types.Hash) types.Signature {
	return sign(&priv, [32]byte{}, msg[:])
}

func sign(k *PrivateKey, aux [32]byte, msg []byte) (out types.Signature) {
	k.mustBeSet()
	var nonce secp.ModNScalar
	rand := tagNonce.Hash(masked(&k.d, tagAux.Hash(aux[:])), k.pub[:], msg)
	nonce.SetBytes((*[32]byte)(&rand))
	var r secp.JacobianPoint
	secp.ScalarBaseMultNonConst(&nonce, &r)
	r.ToAffine()
	if r.Y.IsOdd() {
		nonce.Negate()
	}
	r.X.PutBytesUnchecked(out[:32])
	s := challenge(out[:32], &k.pub, msg)
	s.Mul(&k.d).Add(&nonce).PutBytesUnchecked(out[32:])
	nonce.Zero()
	if err := verify(k.pub, msg, out); err != nil {
		panic(fmt.Sprintf("sig: own signature does not verify, memory or processor is at fault: %v", err))
	}
	return out
}

// masked is d xor mask: what stands for the secret where a nonce is hashed.
func masked(d *secp.ModNScalar, mask types.Hash) []byte {
	b := d.Bytes()
	subtle.XORBytes(b[:], b[:], mask[:])
	return b[:]
}

func challenge(r []byte, pub *types.Key, msg []byte) (e secp.ModNScalar) {
	h := tagChallenge.Hash(r, pub[:], msg)
	e.SetBytes((*[32]byte)(&h))
	return e
}

// Verify checks a BIP-340 signature. Errors: BadKey, BadEncoding, BadSignature.
func Verify(pub types.Key, msg types.Hash, s types.Signature) error {
	return verify(pub, msg[:], s)
}

func verify(pub types.Key, msg []byte, sig types.Signature) error {
	var key field.Point
	if err := liftPublic(pub, &key); err != nil {
		return err
	}
	var c claim
	if err := c.parse(&pub, msg, &sig); err != nil {
		return err
	}
	var minusE field.Scalar
	minusE.Neg(&c.e)
	sum := field.Combine(&c.s, []field.Point{key}, []field.Scalar{minusE})
	if r := sum.Affine(); r.IsInfinity() || r.Y.IsOdd() || !r.X.Equal(&c.r) {
		return &Error{Kind: BadSignature, What: "not of this key over this message", Key: pub}
	}
	return nil
}

// claim is what a signature says of a key: s·G = R + e·key, R being the point of even y with
// x = r.
type claim struct {
	r    field.Element
	s, e field.Scalar
}

func (c *claim) parse(pub *types.Key, msg []byte, sig *types.Signature) error {
	if !c.r.SetBytes((*[32]byte)(sig[:32])) {
		return &Error{Kind: BadEncoding, What: "signature's r is not below the field's prime", Key: *pub}
	}
	if !c.s.SetBytes((*[32]byte)(sig[32:])) {
		return &Error{Kind: BadEncoding, What: "signature's s is not below the curve's order", Key: *pub}
	}
	e := tagChallenge.Hash(sig[:32], pub[:], msg)
	c.e.SetBytes((*[32]byte)(&e))
	return nil
}
