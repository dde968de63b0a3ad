// Package field is secp256k1 for public values: its field, its scalars and its group, as
// fast as Go without assembly goes, and taking no care of time. It checks; nothing secret
// may come near it.
//
//	element.go   integers modulo p, 4 × 64 bits
//	gcd.go       their inverse, and which have a root
//	scalar.go    integers modulo n; GLV halves, their digits
//	point.go     points, affine and Jacobian; Lift
//	combine.go   Combine: g·G + Σ kᵢ·Pᵢ, by Straus if short, by Pippenger if long
//	adder.go     many affine additions by one inversion
//
// Code for a processor's vectors has its place behind adder.flush, where a long Combine
// spends its time, and behind LiftAll.
package field

import (
	"encoding/binary"
	"math/bits"
)

// Element is an integer modulo p = 2²⁵⁶ − 2³² − 977: four limbs, the lowest first. Any value
// below 2²⁵⁶ stands for its residue, so that two Elements that are equal need not have equal
// limbs: compare with Equal. The zero value is zero.
type Element [4]uint64

// fold is 2²⁵⁶ mod p: what is above 2²⁵⁶ counts as much lower down.
const fold = 1<<32 + 977

// lowestLimb is p's; its other limbs are all ones.
const lowestLimb = 1<<64 - fold

// SetBytes sets z to 32 bytes, big-endian. False if they are not below p.
func (z *Element) SetBytes(b *[32]byte) bool {
	*z = limbs(b)
	return z.isReduced()
}

func limbs(b *[32]byte) [4]uint64 {
	return [4]uint64{
		binary.BigEndian.Uint64(b[24:]), binary.BigEndian.Uint64(b[16:]),
		binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[:]),
	}
}

// Bytes is z below p, big-endian.
func (z Element) Bytes() (b [32]byte) {
	z.reduce()
	for i, l := range z {
		binary.BigEndian.PutUint64(b[24-8*i:], l)
	}
	return b
}

func (z *Element) isReduced() bool {
	return z[1]&z[2]&z[3] != 1<<64-1 || z[0] < lowestLimb
}

// reduce brings z below p.
func (z *Element) reduce() {
	if !z.isReduced() {
		*z = Element{z[0] - lowestLimb}
	}
}

// IsZero reports whether z is zero modulo p.
func (z *Element) IsZero() bool {
	return z[0]|z[1]|z[2]|z[3] == 0 || z[0] == lowestLimb && z[1]&z[2]&z[3] == 1<<64-1
}

// Equal reports whether z and x are the same modulo p.
func (z *Element) Equal(x *Element) bool {
	a, b := *z, *x
	a.reduce()
	b.reduce()
	return a == b
}

// IsOdd reports whether z, below p, is odd.
func (z Element) IsOdd() bool {
	z.reduce()
	return z[0]&1 == 1
}

// These and what follows hold limbs in variables of their own: the compiler keeps an array in
// memory.

// Add sets z to x + y.
func (z *Element) Add(x, y *Element) {
	t0, c := bits.Add64(x[0], y[0], 0)
	t1, c := bits.Add64(x[1], y[1], c)
	t2, c := bits.Add64(x[2], y[2], c)
	t3, c := bits.Add64(x[3], y[3], c)
	m := -c & fold
	t0, c = bits.Add64(t0, m, 0)
	t1, c = bits.Add64(t1, 0, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	t0 += -c & fold // after a second carry t0 is small
	z[0], z[1], z[2], z[3] = t0, t1, t2, t3
}

// Sub sets z to x − y.
func (z *Element) Sub(x, y *Element) {
	t0, c := bits.Sub64(x[0], y[0], 0)
	t1, c := bits.Sub64(x[1], y[1], c)
	t2, c := bits.Sub64(x[2], y[2], c)
	t3, c := bits.Sub64(x[3], y[3], c)
	m := -c & fold
	t0, c = bits.Sub64(t0, m, 0)
	t1, c = bits.Sub64(t1, 0, c)
	t2, c = bits.Sub64(t2, 0, c)
	t3, c = bits.Sub64(t3, 0, c)
	t0 -= -c & fold // after a second borrow t0 is large
	z[0], z[1], z[2], z[3] = t0, t1, t2, t3
}

// Neg sets z to −x.
func (z *Element) Neg(x *Element) { z.Sub(&Element{}, x) }

// Half sets z to x / 2.
func (z *Element) Half(x *Element) {
	m := -(x[0] & 1) // p is added to what is odd
	t0, c := bits.Add64(x[0], m&lowestLimb, 0)
	t1, c := bits.Add64(x[1], m, c)
	t2, c := bits.Add64(x[2], m, c)
	t3, c := bits.Add64(x[3], m, c)
	z[0], z[1], z[2], z[3] = t0>>1|t1<<63, t1>>1|t2<<63, t2>>1|t3<<63, t3>>1|c<<63
}

// Mul sets z to x · y.
func (z *Element) Mul(x, y *Element) {
	var c uint64
	y0, y1, y2, y3 := y[0], y[1], y[2], y[3]

	v := x[0]
	h0, t0 := bits.Mul64(v, y0)
	h1, l1 := bits.Mul64(v, y1)
	h2, l2 := bits.Mul64(v, y2)
	h3, l3 := bits.Mul64(v, y3)
	t1, c := bits.Add64(h0, l1, 0)
	t2, c := bits.Add64(h1, l2, c)
	t3, c := bits.Add64(h2, l3, c)
	t4, _ := bits.Add64(h3, 0, c)

	v = x[1]
	h0, l0 := bits.Mul64(v, y0)
	h1, l1 = bits.Mul64(v, y1)
	h2, l2 = bits.Mul64(v, y2)
	h3, l3 = bits.Mul64(v, y3)
	t1, c = bits.Add64(t1, l0, 0)
	t2, c = bits.Add64(t2, l1, c)
	t3, c = bits.Add64(t3, l2, c)
	t4, c = bits.Add64(t4, l3, c)
	t5, _ := bits.Add64(h3, 0, c)
	t2, c = bits.Add64(t2, h0, 0)
	t3, c = bits.Add64(t3, h1, c)
	t4, c = bits.Add64(t4, h2, c)
	t5, _ = bits.Add64(t5, 0, c)

	v = x[2]
	h0, l0 = bits.Mul64(v, y0)
	h1, l1 = bits.Mul64(v, y1)
	h2, l2 = bits.Mul64(v, y2)
	h3, l3 = bits.Mul64(v, y3)
	t2, c = bits.Add64(t2, l0, 0)
	t3, c = bits.Add64(t3, l1, c)
	t4, c = bits.Add64(t4, l2, c)
	t5, c = bits.Add64(t5, l3, c)
	t6, _ := bits.Add64(h3, 0, c)
	t3, c = bits.Add64(t3, h0, 0)
	t4, c = bits.Add64(t4, h1, c)
	t5, c = bits.Add64(t5, h2, c)
	t6, _ = bits.Add64(t6, 0, c)

	v = x[3]
	h0, l0 = bits.Mul64(v, y0)
	h1, l1 = bits.Mul64(v, y1)
	h2, l2 = bits.Mul64(v, y2)
	h3, l3 = bits.Mul64(v, y3)
	t3, c = bits.Add64(t3, l0, 0)
	t4, c = bits.Add64(t4, l1, c)
	t5, c = bits.Add64(t5, l2, c)
	t6, c = bits.Add64(t6, l3, c)
	t7, _ := bits.Add64(h3, 0, c)
	t4, c = bits.Add64(t4, h0, 0)
	t5, c = bits.Add64(t5, h1, c)
	t6, c = bits.Add64(t6, h2, c)
	t7, _ = bits.Add64(t7, 0, c)

	h0, l0 = bits.Mul64(t4, fold)
	h1, l1 = bits.Mul64(t5, fold)
	h2, l2 = bits.Mul64(t6, fold)
	h3, l3 = bits.Mul64(t7, fold)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, l1, c)
	t2, c = bits.Add64(t2, l2, c)
	t3, c = bits.Add64(t3, l3, c)
	t4, _ = bits.Add64(h3, 0, c)
	t1, c = bits.Add64(t1, h0, 0)
	t2, c = bits.Add64(t2, h1, c)
	t3, c = bits.Add64(t3, h2, c)
	t4, _ = bits.Add64(t4, 0, c)

	h0, l0 = bits.Mul64(t4, fold)
	t0, c = bits.Add64(t0, l0, 0)
	t1, c = bits.Add64(t1, h0, c)
	t2, c = bits.Add64(t2, 0, c)
	t3, c = bits.Add64(t3, 0, c)
	t0, c = bits.Add64(t0, -c&fold, 0) // a last carry leaves less than 2⁶⁷
	z[0], z[1], z[2], z[3] = t0, t1+c, t2, t3
}

// Square sets z to x².
func (z *Element) Square(x *Element) { z.squares(x, 1) }

// squares sets z to x squared n times over, n ≥ 1.
func (z *Element) squares(x *Element, n int) {
	var c uint64
	x0, x1, x2, x3 := x[0], x[1], x[2], x[3]
	for range n {
		// What is left and right of the diagonal, once.
		h01, t1 := bits.Mul64(x0, x1)
		h02, l02 := bits.Mul64(x0, x2)
		h03, l03 := bits.Mul64(x0, x3)
		h12, l12 := bits.Mul64(x1, x2)
		h13, l13 := bits.Mul64(x1, x3)
		h23, l23 := bits.Mul64(x2, x3)
		t2, c := bits.Add64(h01, l02, 0)
		t3, c := bits.Add64(h02, l03, c)
		t4, c := bits.Add64(h03, l13, c)
		t5, c := bits.Add64(h13, l23, c)
		t6, _ := bits.Add64(h23, 0, c)
		t3, c = bits.Add64(t3, l12, 0)
		t4, c = bits.Add64(t4, h12, c)
		t5, c = bits.Add64(t5, 0, c)
		t6, _ = bits.Add64(t6, 0, c)

		t7 := t6 >> 63
		t6 = t6<<1 | t5>>63
		t5 = t5<<1 | t4>>63
		t4 = t4<<1 | t3>>63
		t3 = t3<<1 | t2>>63
		t2 = t2<<1 | t1>>63
		t1 <<= 1

		h0, t0 := bits.Mul64(x0, x0)
		h1, l1 := bits.Mul64(x1, x1)
		h2, l2 := bits.Mul64(x2, x2)
		h3, l3 := bits.Mul64(x3, x3)
		t1, c = bits.Add64(t1, h0, 0)
		t2, c = bits.Add64(t2, l1, c)
		t3, c = bits.Add64(t3, h1, c)
		t4, c = bits.Add64(t4, l2, c)
		t5, c = bits.Add64(t5, h2, c)
		t6, c = bits.Add64(t6, l3, c)
		t7, _ = bits.Add64(t7, h3, c)

		h0, l0 := bits.Mul64(t4, fold)
		h1, l1 = bits.Mul64(t5, fold)
		h2, l2 = bits.Mul64(t6, fold)
		h3, l3 = bits.Mul64(t7, fold)
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, l1, c)
		t2, c = bits.Add64(t2, l2, c)
		t3, c = bits.Add64(t3, l3, c)
		t4, _ = bits.Add64(h3, 0, c)
		t1, c = bits.Add64(t1, h0, 0)
		t2, c = bits.Add64(t2, h1, c)
		t3, c = bits.Add64(t3, h2, c)
		t4, _ = bits.Add64(t4, 0, c)

		h0, l0 = bits.Mul64(t4, fold)
		t0, c = bits.Add64(t0, l0, 0)
		t1, c = bits.Add64(t1, h0, c)
		x2, c = bits.Add64(t2, 0, c)
		x3, c = bits.Add64(t3, 0, c)
		x0, c = bits.Add64(t0, -c&fold, 0)
		x1 = t1 + c
	}
	_ = c
	z[0], z[1], z[2], z[3] = x0, x1, x2, x3
}

// lanes are elements that go the same way. The squares of one wait for each other; those of
// four overlap in the processor, and take a sixth less.
type lanes [4]Element

// squares sets the first used lanes of z to x squared n times over.
func (z *lanes) squares(x *lanes, n, used int) {
	if used == 1 {
		z[0].squares(&x[0], n)
		return
	}
	*z = *x
	for range n {
		for i := range used {
			z[i].squares(&z[i], 1)
		}
	}
}

func (z *lanes) mul(x, y *lanes, used int) {
	for i := range used {
		z[i].Mul(&x[i], &y[i])
	}
}

// power is what inverse and root share: x to 2² − 1, 2²² − 1 and 2²²³ − 1.
func (x *lanes) power(used int) (e2, e22, e223 lanes) {
	// then makes x^(2^(a+b) − 1) of x^(2^a − 1) and x^(2^b − 1).
	then := func(ea *lanes, b int, eb *lanes) (z lanes) {
		z.squares(ea, b, used)
		z.mul(&z, eb, used)
		return z
	}
	e2 = then(x, 1, x)
	e3 := then(&e2, 1, x)
	e6 := then(&e3, 3, &e3)
	e9 := then(&e6, 3, &e3)
	e11 := then(&e9, 2, &e2)
	e22 = then(&e11, 11, &e11)
	e44 := then(&e22, 22, &e22)
	e88 := then(&e44, 44, &e44)
	e176 := then(&e88, 88, &e88)
	e220 := then(&e176, 44, &e44)
	return e2, e22, then(&e220, 3, &e3)
}

// slowInverse is Inverse by x^(p−2).
func (z *Element) slowInverse(x *Element) {
	a := lanes{*x}
	e2, e22, t := a.power(1)
	t.squares(&t, 23, 1)
	t.mul(&t, &e22, 1)
	t.squares(&t, 5, 1)
	t.mul(&t, &a, 1)
	t.squares(&t, 3, 1)
	t.mul(&t, &e2, 1)
	t.squares(&t, 2, 1)
	z.Mul(&t[0], &a[0])
}

// roots sets z to x^((p+1)/4): to a root of each x that has one, else to a root of −x.
func (z *lanes) roots(x *lanes, used int) {
	e2, e22, t := x.power(used)
	t.squares(&t, 23, used)
	t.mul(&t, &e22, used)
	t.squares(&t, 6, used)
	t.mul(&t, &e2, used)
	z.squares(&t, 2, used)
}

// Sqrt sets z to a root of x. False if x has none; z is then a root of −x.
func (z *Element) Sqrt(x *Element) bool {
	a := lanes{*x}
	var r lanes
	r.roots(&a, 1)
	*z = r[0]
	return z.isRootOf(&a[0])
}

func (z *Element) isRootOf(x *Element) bool {
	var t Element
	t.Square(z)
	return t.Equal(x)
}
