package field

import (
	"encoding/binary"
	"math/bits"
)

// Scalar is an integer modulo the curve's order n, always below n: four limbs, the lowest
// first. The zero value is zero.
type Scalar [4]uint64

var (
	order = Scalar{0xbfd25e8cd0364141, 0xbaaedce6af48a03b, 0xfffffffffffffffe, 0xffffffffffffffff}
	// orderFold is 2²⁵⁶ − n.
	orderFold = [3]uint64{0x402da1732fc9bebf, 0x4551231950b75fc4, 1}
)

// SetBytes sets z to 32 bytes, big-endian, modulo n. False if they are not below n.
func (z *Scalar) SetBytes(b *[32]byte) bool {
	*z = limbs(b)
	return !z.subtractOrder()
}

// SetUint128 sets z to hi·2⁶⁴ + lo.
func (z *Scalar) SetUint128(hi, lo uint64) { *z = Scalar{lo, hi} }

// Bytes is z, big-endian.
func (z *Scalar) Bytes() (b [32]byte) {
	for i, l := range z {
		binary.BigEndian.PutUint64(b[24-8*i:], l)
	}
	return b
}

// subtractOrder brings z, any four limbs, below n, and reports whether it was not.
func (z *Scalar) subtractOrder() bool {
	t0, c := bits.Sub64(z[0], order[0], 0)
	t1, c := bits.Sub64(z[1], order[1], c)
	t2, c := bits.Sub64(z[2], order[2], c)
	t3, c := bits.Sub64(z[3], order[3], c)
	if c == 0 {
		*z = Scalar{t0, t1, t2, t3}
	}
	return c == 0
}

// IsZero reports whether z is zero.
func (z *Scalar) IsZero() bool { return *z == Scalar{} }

// Neg sets z to −x.
func (z *Scalar) Neg(x *Scalar) {
	if x.IsZero() {
		*z = Scalar{}
		return
	}
	var c uint64
	for i := range z {
		z[i], c = bits.Sub64(order[i], x[i], c)
	}
}

// Add sets z to x + y.
func (z *Scalar) Add(x, y *Scalar) {
	var c uint64
	for i := range z {
		z[i], c = bits.Add64(x[i], y[i], c)
	}
	if c == 1 { // then the sum less n is below 2²⁵⁶, and adding 2²⁵⁶ − n takes it there
		c = 0
		for i, f := range orderFold {
			z[i], c = bits.Add64(z[i], f, c)
		}
		z[3] += c
	}
	z.subtractOrder()
}

// Mul sets z to x · y.
func (z *Scalar) Mul(x, y *Scalar) {
	var a, b [8]uint64
	wide(a[:], x[:], y[:])
	// What is above 2²⁵⁶ is 256 bits, then 130, then 4, and then at most a carry.
	for a[4]|a[5]|a[6]|a[7] != 0 {
		wide(b[:7], a[4:], orderFold[:])
		var c uint64
		for i := range a {
			low := a[i]
			if i >= 4 {
				low = 0
			}
			a[i], c = bits.Add64(low, b[i], c)
		}
	}
	*z = Scalar(a[:4])
	z.subtractOrder()
}

// wide sets z, as long as x and y together, to x · y.
func wide(z, x, y []uint64) {
	clear(z)
	for i, xi := range x {
		var carry uint64
		for j, yj := range y {
			hi, lo := bits.Mul64(xi, yj)
			var c uint64
			lo, c = bits.Add64(lo, z[i+j], 0)
			hi += c
			z[i+j], c = bits.Add64(lo, carry, 0)
			carry = hi + c
		}
		z[i+len(y)] = carry
	}
}

// half is a sign and an integer below 2¹²⁸.
type half struct {
	negative bool
	hi, lo   uint64
}

func (h *half) isZero() bool { return h.hi|h.lo == 0 }

// The curve's endomorphism takes (x, y) to (beta·x, y), which is lambda times the point:
// beta³ = 1 mod p, lambda³ = 1 mod n. The pairs (a1, b1) and (a2, b2), a + b·lambda = 0 mod n,
// are short; g1 and g2 are b2/n and −b1/n, times 2³⁸⁴. (Guide to Elliptic Curve Cryptography,
// algorithm 3.74; the numbers are those everybody uses, and the tests check what they must be.)
var (
	beta   = Element{0xc1396c28719501ee, 0x9cf0497512f58995, 0x6e64479eac3434e9, 0x7ae96a2b657c0710}
	lambda = Scalar{0xdf02967c1b23bd72, 0x122e22ea20816678, 0xa5261c028812645a, 0x5363ad4cc05c30e0}

	a1      = []uint64{0xe86c90e49284eb15, 0x3086d221a7d46bcd} // b2 too
	minusB1 = []uint64{0x6f547fa90abfe4c3, 0xe4437ed6010e8828}
	a2      = []uint64{0x57c1108d9d44cfd8, 0x14ca50f7a8e2f3f6, 1}
	g1      = []uint64{0xe893209a45dbb031, 0x3daa8a1471e8ca7f, 0xe86c90e49284eb15, 0x3086d221a7d46bcd}
	g2      = []uint64{0x1571b4ae8ac47f71, 0x221208ac9df506c6, 0x6f547fa90abfe4c4, 0xe4437ed6010e8828}
)

// split gives halves with k = k1 + k2·lambda. If k is below 2¹²⁸ they are k and 0.
func (k *Scalar) split() (k1, k2 half) {
	if k[2]|k[3] == 0 {
		return half{lo: k[0], hi: k[1]}, half{}
	}
	c1, c2 := quotient(k, g1), quotient(k, g2)
	// k − c1·a1 − c2·a2 and c1·(−b1) − c2·b2, whose absolute values are below 2¹²⁸: three
	// limbs are enough, as of two's complement.
	var p, q [5]uint64
	wide(p[:4], c1[:], a1)
	wide(q[:5], c2[:], a2)
	v := minus([3]uint64(k[:3]), [3]uint64(p[:3]))
	k1 = newHalf(minus(v, [3]uint64(q[:3])))
	wide(p[:4], c1[:], minusB1)
	wide(q[:4], c2[:], a1)
	return k1, newHalf(minus([3]uint64(p[:3]), [3]uint64(q[:3])))
}

// quotient is k·g / 2³⁸⁴, rounded.
func quotient(k *Scalar, g []uint64) (q [2]uint64) {
	var t [8]uint64
	wide(t[:], k[:], g)
	var c uint64
	q[0], c = bits.Add64(t[6], t[5]>>63, 0)
	q[1] = t[7] + c
	return q
}

func minus(x, y [3]uint64) (z [3]uint64) {
	var c uint64
	for i := range z {
		z[i], c = bits.Sub64(x[i], y[i], c)
	}
	return z
}

func newHalf(v [3]uint64) half {
	if int64(v[2]) >= 0 {
		return half{false, v[1], v[0]}
	}
	v = minus([3]uint64{}, v)
	return half{true, v[1], v[0]}
}

// halfBits is how many bits the digits of a half have: its 128 and a carry.
const halfBits = 129

// bits are the n bits of h from bit at on, n < 64.
func (h *half) bits(at, n uint) int {
	v := h.lo>>at | h.hi<<(64-at)
	if at >= 64 {
		v = h.hi >> (at - 64)
	}
	return int(v & (1<<n - 1))
}

// naf sets d to h in non-adjacent form of width w ≤ 15: h = Σ d[i]·2ⁱ, each d[i] zero or odd
// and between ±2^(w−1), and among w that follow one another at most one not zero.
func (h *half) naf(d *[halfBits]int16, w uint) {
	clear(d[:])
	sign := 1
	if h.negative {
		sign = -1
	}
	carry := 0
	for at := uint(0); at < halfBits; {
		if h.bits(at, 1) == carry {
			at++
			continue
		}
		v := h.bits(at, w) + carry
		carry = v >> (w - 1)
		d[at] = int16(sign * (v - carry<<w))
		at += w
	}
}

// windows sets d[i·stride] to h's i-th digit of w ≤ 15 bits: h = Σ digit·2^(w·i), each
// digit from −2^(w−1) to 2^(w−1).
func (h *half) windows(d []int16, stride int, w uint) {
	sign := 1
	if h.negative {
		sign = -1
	}
	carry := 0
	for at, i := uint(0), 0; at < halfBits; at, i = at+w, i+stride {
		v := h.bits(at, w) + carry
		carry = 0
		if v > 1<<(w-1) {
			v, carry = v-1<<w, 1
		}
		d[i] = int16(sign * v)
	}
}
