package field

import (
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// The twin: big integers and the textbook's affine formulas.

func hex(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 16)
	if !ok {
		panic(s)
	}
	return n
}

var (
	bigP = hex("fffffffffffffffffffffffffffffffffffffffffffffffffffffffefffffc2f")
	bigN = hex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
)

func toBig(l [4]uint64) *big.Int {
	var b [32]byte
	for i, v := range l {
		binary.BigEndian.PutUint64(b[24-8*i:], v)
	}
	return new(big.Int).SetBytes(b[:])
}

// fromBig is any n below 2²⁵⁶.
func fromBig(n *big.Int) [4]uint64 { return limbs((*[32]byte)(n.FillBytes(make([]byte, 32)))) }

func mod(n, m *big.Int) *big.Int { return new(big.Int).Mod(n, m) }

func add(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }

func sub(a, b *big.Int) *big.Int { return new(big.Int).Sub(a, b) }

func mul(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }

// bigPoint is affine; nil is infinity.
type bigPoint struct{ x, y *big.Int }

func bigAdd(a, b *bigPoint) *bigPoint {
	if a == nil {
		return b
	}
	if b == nil {
		return a
	}
	var slope *big.Int
	switch {
	case a.x.Cmp(b.x) != 0:
		slope = mul(sub(b.y, a.y), new(big.Int).ModInverse(mod(sub(b.x, a.x), bigP), bigP))
	case a.y.Cmp(b.y) != 0:
		return nil
	default:
		slope = mul(mul(big.NewInt(3), mul(a.x, a.x)), new(big.Int).ModInverse(add(a.y, a.y), bigP))
	}
	x := mod(sub(mul(slope, slope), add(a.x, b.x)), bigP)
	return &bigPoint{x, mod(sub(mul(slope, sub(a.x, x)), a.y), bigP)}
}

func bigMul(k *big.Int, p *bigPoint) (r *bigPoint) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		if r = bigAdd(r, r); k.Bit(i) == 1 {
			r = bigAdd(r, p)
		}
	}
	return r
}

func bigNeg(p *bigPoint) *bigPoint {
	if p == nil {
		return nil
	}
	return &bigPoint{p.x, mod(new(big.Int).Neg(p.y), bigP)}
}

func (p Point) big() *bigPoint {
	if p.IsInfinity() {
		return nil
	}
	return &bigPoint{mod(toBig(p.X), bigP), mod(toBig(p.Y), bigP)}
}

func samePoint(t *testing.T, what string, have Point, want *bigPoint) {
	t.Helper()
	h := have.big()
	if (h == nil) != (want == nil) || h != nil && (h.x.Cmp(want.x) != 0 || h.y.Cmp(want.y) != 0) {
		t.Fatalf("%s: have %v, want %v", what, h, want)
	}
}

// decredCombine is Combine by another library.
func decredCombine(g *Scalar, points []Point, scalars []Scalar) Point {
	var sum, term secp.JacobianPoint
	scalar := func(k *Scalar) (s secp.ModNScalar) {
		b := k.Bytes()
		s.SetBytes(&b)
		return s
	}
	k := scalar(g)
	secp.ScalarBaseMultNonConst(&k, &sum)
	for i, p := range points {
		if p.IsInfinity() {
			continue
		}
		var q secp.JacobianPoint
		x, y, k := p.X.Bytes(), p.Y.Bytes(), scalar(&scalars[i])
		q.X.SetBytes(&x)
		q.Y.SetBytes(&y)
		q.Z.SetInt(1)
		secp.ScalarMultNonConst(&k, &q, &term)
		secp.AddNonConst(&sum, &term, &sum)
	}
	sum.ToAffine()
	var out Point
	x, y := sum.X.Bytes(), sum.Y.Bytes()
	out.X.SetBytes(x)
	out.Y.SetBytes(y)
	return out
}

// source draws the same in each run; half of what it draws is near something's end.
type source struct{ *rand.Rand }

func newSource(name string) source {
	return source{rand.New(rand.NewChaCha8(sha256.Sum256([]byte(name))))}
}

// edges of elements: all below 2²⁵⁶, some not below p.
var edges = func() (e []*big.Int) {
	one, top := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	for _, n := range []*big.Int{new(big.Int), bigP, bigN, top, new(big.Int).Lsh(one, 128), new(big.Int).Lsh(one, 255), toBig(beta), toBig(lambda), sub(top, bigP), sub(top, bigN), new(big.Int).Rsh(bigP, 1), new(big.Int).Rsh(bigN, 1)} {
		for d := int64(-3); d <= 3; d++ {
			if v := add(n, big.NewInt(d)); v.Sign() >= 0 && v.Cmp(top) < 0 {
				e = append(e, v)
			}
		}
	}
	return e
}()

func (r source) limbs() (l [4]uint64) {
	switch r.IntN(4) {
	case 0:
		return fromBig(edges[r.IntN(len(edges))])
	case 1: // limbs that are all zeros, all ones, or nearly
		for i := range l {
			l[i] = []uint64{0, 1, 1<<64 - 1, 1<<64 - 2, fold, lowestLimb, r.Uint64()}[r.IntN(7)]
		}
		return l
	default:
		return [4]uint64{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64()}
	}
}

func (r source) scalar() Scalar {
	z := Scalar(r.limbs())
	if r.IntN(4) == 0 {
		z[2], z[3] = 0, 0
	}
	z.subtractOrder()
	return z
}

// point draws one on the curve, in 16 one at infinity.
func (r source) point() (p Point) {
	if r.IntN(16) == 0 {
		return Point{}
	}
	for {
		if x := Element(r.limbs()); p.Lift(&x, r.IntN(2) == 0) {
			return p
		}
	}
}

// checkElements holds every operation of elements to the twin, in and out of place.
func checkElements(t *testing.T, x, y Element) {
	bx, by := toBig(x), toBig(y)
	same := func(what string, have Element, want *big.Int) {
		t.Helper()
		want = mod(want, bigP)
		if b := have.Bytes(); mod(toBig(have), bigP).Cmp(want) != 0 || new(big.Int).SetBytes(b[:]).Cmp(want) != 0 {
			t.Fatalf("%s of %x, %x: have %x, want %x", what, bx, by, toBig(have), want)
		}
		if have.IsZero() != (want.Sign() == 0) || have.IsOdd() != (want.Bit(0) == 1) {
			t.Fatalf("%s of %x, %x: zero %v, odd %v", what, bx, by, have.IsZero(), have.IsOdd())
		}
	}
	for _, op := range []struct {
		name string
		do   func(z, x, y *Element)
		want *big.Int
	}{
		{"sum", (*Element).Add, add(bx, by)},
		{"difference", (*Element).Sub, sub(bx, by)},
		{"product", (*Element).Mul, mul(bx, by)},
		{"square", func(z, x, _ *Element) { z.Square(x) }, mul(bx, bx)},
		{"negative", func(z, x, _ *Element) { z.Neg(x) }, new(big.Int).Neg(bx)},
		{"half", func(z, x, _ *Element) { z.Half(x) }, mul(bx, new(big.Int).ModInverse(big.NewInt(2), bigP))},
		{"fifth square", func(z, x, _ *Element) { z.squares(x, 5) }, new(big.Int).Exp(bx, big.NewInt(32), bigP)},
		{"inverse", func(z, x, _ *Element) { z.Inverse(x) }, new(big.Int).Exp(bx, sub(bigP, big.NewInt(2)), bigP)},
		{"inverse by power", func(z, x, _ *Element) { z.slowInverse(x) }, new(big.Int).Exp(bx, sub(bigP, big.NewInt(2)), bigP)},
	} {
		var z Element
		op.do(&z, &x, &y)
		same(op.name, z, op.want)
		z = x
		op.do(&z, &z, &y)
		same(op.name+" in place of the first", z, op.want)
		if op.name == "sum" || op.name == "difference" || op.name == "product" {
			z = y
			op.do(&z, &x, &z)
			same(op.name+" in place of the second", z, op.want)
		}
	}
	if have, want := x.Equal(&y), mod(bx, bigP).Cmp(mod(by, bigP)) == 0; have != want {
		t.Fatalf("%x = %x: %v", bx, by, have)
	}
	var root, back Element
	if have, want := root.Sqrt(&x), new(big.Int).ModSqrt(mod(bx, bigP), bigP) != nil; have != want {
		t.Fatalf("%x has a root: %v", bx, have)
	} else if back.Square(&root); have && !back.Equal(&x) {
		t.Fatalf("root of %x: %x", bx, toBig(root))
	}
	if have, want := x.IsSquare(), big.Jacobi(mod(bx, bigP), bigP) >= 0; have != want {
		t.Fatalf("%x is a square: %v", bx, have)
	}
	b := [32]byte(bx.FillBytes(make([]byte, 32)))
	if have := back.SetBytes(&b); have != (bx.Cmp(bigP) < 0) || have && back != x {
		t.Fatalf("%x as bytes: %v", bx, have)
	}
}

func checkScalars(t *testing.T, x, y Scalar) {
	bx, by := toBig(x), toBig(y)
	same := func(what string, have Scalar, want *big.Int) {
		t.Helper()
		if b := have.Bytes(); toBig(have).Cmp(mod(want, bigN)) != 0 || new(big.Int).SetBytes(b[:]).Cmp(toBig(have)) != 0 {
			t.Fatalf("%s of %x, %x: have %x, want %x", what, bx, by, toBig(have), mod(want, bigN))
		}
	}
	var z Scalar
	z.Add(&x, &y)
	same("sum", z, add(bx, by))
	z.Mul(&x, &y)
	same("product", z, mul(bx, by))
	z.Neg(&x)
	same("negative", z, new(big.Int).Neg(bx))
	z = x
	z.Mul(&z, &z)
	same("square in place", z, mul(bx, bx))

	halfBig := func(h half) *big.Int {
		n := toBig([4]uint64{h.lo, h.hi})
		if h.negative {
			n.Neg(n)
		}
		return n
	}
	k1, k2 := x.split()
	if mod(add(halfBig(k1), mul(halfBig(k2), toBig(lambda))), bigN).Cmp(bx) != 0 {
		t.Fatalf("%x splits into %v and %v", bx, k1, k2)
	}
	if bx.BitLen() <= 128 && !k2.isZero() {
		t.Fatalf("%x, short, splits into %v and %v", bx, k1, k2)
	}
	for _, h := range []half{k1, k2, {lo: x[0], hi: x[1]}, {true, y[0], y[1]}} {
		for w := uint(2); w <= 15; w++ {
			var d [halfBits]int16
			h.naf(&d, w)
			sum, last := new(big.Int), -int(w)
			for i, v := range d {
				if v == 0 {
					continue
				}
				if v%2 == 0 || int(max(v, -v)) >= 1<<(w-1) || i-last < int(w) {
					t.Fatalf("width %d of %v: digits %v", w, h, d)
				}
				last = i
				sum = add(sum, new(big.Int).Lsh(big.NewInt(int64(v)), uint(i)))
			}
			if sum.Cmp(halfBig(h)) != 0 {
				t.Fatalf("width %d of %v: digits %v are %x", w, h, d, sum)
			}
			windows := slices.Repeat([]int16{99}, 3*((halfBits+int(w)-1)/int(w)))
			h.windows(windows, 3, w)
			sum.SetInt64(0)
			for i := len(windows) - 3; i >= 0; i -= 3 {
				if v := windows[i]; int(max(v, -v)) > 1<<(w-1) || windows[i+1] != 99 {
					t.Fatalf("windows of %d of %v: %v", w, h, windows)
				}
				sum = add(sum.Lsh(sum, w), big.NewInt(int64(windows[i])))
			}
			if sum.Cmp(halfBig(h)) != 0 {
				t.Fatalf("windows of %d of %v: %v are %x", w, h, windows, sum)
			}
		}
	}
}
