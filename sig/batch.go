package sig

import (
	"crypto/sha256"
	"encoding/binary"

	"charter/sig/internal/field"
	"charter/types"
)

// Check is one signature to verify.
type Check struct {
	Key types.Key
	Msg types.Hash
	Sig types.Signature
}

// maxBatch is how many signatures are verified together: more would gain little, and
// want memory in proportion.
const maxBatch = 1024

// VerifyAll verifies every check, many at once: from some dozens on each costs half of a
// Verify or less. It gives the index of the first that fails, with the error that Verify has
// for it; or −1 and nil. One that fails makes it about twice as slow.
func VerifyAll(checks []Check) (bad int, err error) {
	for from := 0; from < len(checks); from += maxBatch {
		if bad, err := verifyBatch(checks[from:min(from+maxBatch, len(checks))]); err != nil {
			return from + bad, err
		}
	}
	return -1, nil
}

func verifyBatch(checks []Check) (bad int, err error) {
	if len(checks) == 1 {
		return verifyEach(checks, 0, 1)
	}
	b := newBatch(checks)
	n := len(b.nonces)
	if b.holds(0, n) {
		return verifyEach(checks, n, len(checks)) // begins with one that is ill-formed
	}
	from, to := b.narrow(0, n)
	if bad, err := verifyEach(checks, from, to); err != nil {
		return bad, err
	}
	return verifyEach(checks, 0, len(checks)) // not reached; one by one is what counts
}

// verifyEach is what VerifyAll must agree with.
func verifyEach(checks []Check, from, to int) (bad int, err error) {
	for i, c := range checks[from:to] {
		if err := Verify(c.Key, c.Msg, c.Sig); err != nil {
			return from + i, err
		}
	}
	return -1, nil
}

// batch holds the claims of checks, each multiplied by a coefficient of its own
// (BIP-340, "Batch Verification"). All are true if the sum of some is,
//
//	Σ aᵢ·sᵢ · G = Σ aᵢ·Rᵢ + Σ aᵢ·eᵢ · keyᵢ
//
// but for a chance of 2⁻¹²⁸: a coefficient is a hash of the whole batch, so who makes a
// signature can choose none. The curve's order is prime, so what holds in sum holds one by
// one with no factor to clear.
type batch struct {
	// Of each check up to the first that is ill-formed: R, a, a·s and a·e, and which key.
	nonces                []field.Point
	weights, bases, times []field.Scalar
	owner                 []int
	// Each key once, whoever many checks it has.
	keys []field.Point
}

func newBatch(checks []Check) *batch {
	n := len(checks)
	scalars := make([]field.Scalar, 3*n)
	b := &batch{weights: scalars[:n], bases: scalars[n : 2*n], times: scalars[2*n:], owner: make([]int, n)}
	weigh(checks, b.weights)
	rs, xs := make([]field.Element, 0, n), make([]field.Element, 0, n) // of nonces and keys
	known := make(map[types.Key]int, n)
	for i := range checks {
		c := &checks[i]
		at, ok := known[c.Key]
		if !ok {
			at = len(xs)
			var x field.Element
			if !x.SetBytes((*[32]byte)(&c.Key)) {
				break
			}
			known[c.Key], xs = at, append(xs, x)
		}
		var k claim
		if k.parse(&c.Key, c.Msg[:], &c.Sig) != nil {
			break
		}
		rs, b.owner[i] = append(rs, k.r), at
		b.bases[i].Mul(&b.weights[i], &k.s)
		b.times[i].Mul(&b.weights[i], &k.e)
	}
	points := make([]field.Point, len(rs)+len(xs))
	b.nonces, b.keys = points[:len(rs)], points[len(rs):]
	field.LiftAll(b.nonces, rs)
	field.LiftAll(b.keys, xs)
	for i := range b.nonces {
		if b.nonces[i].IsInfinity() || b.keys[b.owner[i]].IsInfinity() {
			b.nonces = b.nonces[:i]
			break
		}
	}
	return b
}

// weigh sets the coefficients, each 128 bits: the first 1, the others of SHA-256 of all
// that is checked, and a counter.
func weigh(checks []Check, weights []field.Scalar) {
	all := sha256.New()
	for i := range checks {
		c := &checks[i]
		all.Write(c.Key[:])
		all.Write(c.Msg[:])
		all.Write(c.Sig[:])
	}
	var block [sha256.Size + 8]byte
	all.Sum(block[:0])
	for i := range weights {
		binary.BigEndian.PutUint64(block[sha256.Size:], uint64(i))
		h := sha256.Sum256(block[:])
		weights[i].SetUint128(binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:]))
	}
	weights[0].SetUint128(0, 1)
}

// holds reports whether the checks from one to another hold.
func (b *batch) holds(from, to int) bool {
	// place is where a key's term is, past the nonces'; 0 if it has none yet.
	place := make([]int, len(b.keys))
	points := make([]field.Point, 0, to-from+min(to-from, len(b.keys)))
	scalars := make([]field.Scalar, 0, cap(points))
	points, scalars = append(points, b.nonces[from:to]...), append(scalars, b.weights[from:to]...)
	var g field.Scalar
	for i := from; i < to; i++ {
		g.Add(&g, &b.bases[i])
		owner := b.owner[i]
		if at := place[owner]; at > 0 {
			scalars[at].Add(&scalars[at], &b.times[i])
			continue
		}
		place[owner] = len(points)
		points, scalars = append(points, b.keys[owner]), append(scalars, b.times[i])
	}
	g.Neg(&g)
	sum := field.Combine(&g, points, scalars)
	return sum.IsInfinity()
}

// narrow halves a range that does not hold down to a few checks; before them all hold.
func (b *batch) narrow(from, to int) (int, int) {
	for to-from > 2 {
		if mid := (from + to) / 2; b.holds(from, mid) {
			from = mid
		} else {
			to = mid
		}
	}
	return from, to
}
