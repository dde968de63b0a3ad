package field

import (
	"math/big"
	"testing"
)

func TestElements(t *testing.T) {
	for _, x := range edges {
		for _, y := range edges[:20] {
			checkElements(t, fromBig(x), fromBig(y))
		}
	}
	r := newSource("elements")
	for range 1000 {
		checkElements(t, r.limbs(), r.limbs())
	}
}

func FuzzElements(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), uint64(0), uint64(1), uint64(1), uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, f, g, h uint64) {
		checkElements(t, Element{a, b, c, d}, Element{e, f, g, h})
	})
}

func TestScalars(t *testing.T) {
	reduced := func(n *big.Int) Scalar { return fromBig(mod(n, bigN)) }
	for i, x := range edges {
		checkScalars(t, reduced(x), reduced(edges[len(edges)-1-i]))
		var z Scalar
		b := [32]byte(x.FillBytes(make([]byte, 32)))
		if have := z.SetBytes(&b); have != (x.Cmp(bigN) < 0) || z != reduced(x) {
			t.Errorf("%x as bytes: %v, %x", x, have, toBig(z))
		}
	}
	r := newSource("scalars")
	for range 100 {
		checkScalars(t, r.scalar(), r.scalar())
	}
	if z := new(Scalar); !z.IsZero() {
		t.Error("zero is not zero")
	}
	var z Scalar
	if z.SetUint128(3, 2); z != (Scalar{2, 3}) {
		t.Error(z)
	}
}

func FuzzScalars(f *testing.F) {
	f.Add(uint64(0), uint64(0), uint64(0), uint64(0), uint64(1), uint64(1), uint64(1), uint64(1))
	f.Fuzz(func(t *testing.T, a, b, c, d, e, f, g, h uint64) {
		x, y := Scalar{a, b, c, d}, Scalar{e, f, g, h}
		x.subtractOrder()
		y.subtractOrder()
		checkScalars(t, x, y)
	})
}

// What the constants must be.
func TestConstants(t *testing.T) {
	b, l, one := toBig(beta), toBig(lambda), big.NewInt(1)
	if new(big.Int).Exp(b, big.NewInt(3), bigP).Cmp(one) != 0 || b.Cmp(one) == 0 ||
		new(big.Int).Exp(l, big.NewInt(3), bigN).Cmp(one) != 0 || l.Cmp(one) == 0 {
		t.Error("beta and lambda are no roots of one")
	}
	g := Generator.big()
	if mod(sub(mul(g.y, g.y), add(mul(g.x, mul(g.x, g.x)), big.NewInt(7))), bigP).Sign() != 0 || bigMul(bigN, g) != nil {
		t.Error("G is not on the curve, or not of order n")
	}
	samePoint(t, "lambda·G", Point{fromBig(mod(mul(b, g.x), bigP)), Generator.Y}, bigMul(l, g))
	if toBig(order).Cmp(bigN) != 0 {
		t.Error("order is not n")
	}
	// No point has an x of zero or y of zero: 7 is no square, −7 no cube.
	if new(big.Int).ModSqrt(big.NewInt(7), bigP) != nil {
		t.Error("7 is a square")
	}
	third := new(big.Int).Div(sub(bigP, one), big.NewInt(3))
	if new(big.Int).Exp(sub(bigP, big.NewInt(7)), third, bigP).Cmp(one) == 0 {
		t.Error("−7 is a cube")
	}
}

func TestLift(t *testing.T) {
	r := newSource("lift")
	for range 200 {
		x := Element(r.limbs())
		odd := r.IntN(2) == 1
		bx := mod(toBig(x), bigP)
		y := new(big.Int).ModSqrt(mod(add(mul(bx, mul(bx, bx)), big.NewInt(7)), bigP), bigP)
		var p Point
		if have := p.Lift(&x, odd); have != (y != nil) {
			t.Fatalf("%x is an x: %v", bx, have)
		}
		if x.IsX() != (y != nil) {
			t.Fatalf("%x is an x: %v", bx, x.IsX())
		}
		if y == nil {
			continue
		}
		if y.Bit(0) == 1 != odd {
			y.Sub(bigP, y)
		}
		samePoint(t, "lifted", p, &bigPoint{bx, y})
	}
}

func TestLiftAll(t *testing.T) {
	r := newSource("lift all")
	for n := range 14 {
		xs, points := make([]Element, n), make([]Point, n)
		for i := range xs {
			xs[i], points[i] = r.limbs(), r.point()
		}
		LiftAll(points, xs)
		for i := range xs {
			var want Point
			want.Lift(&xs[i], false)
			samePoint(t, "lifted with others", points[i], want.big())
		}
	}
}

// jacobian is p with a z.
func jacobian(p Point, z Element) (j Jacobian) {
	if p.IsInfinity() {
		return j
	}
	j.Z.Square(&z)
	j.X.Mul(&p.X, &j.Z)
	j.Z.Mul(&j.Z, &z)
	j.Y.Mul(&p.Y, &j.Z)
	j.Z = z
	return j
}

// pairs draws two points that are often equal, opposite or at infinity, and limbs that are
// not always below p.
func (r source) pair() (p, q Point) {
	p, q = r.point(), r.point()
	switch r.IntN(6) {
	case 0:
		q = p
	case 1:
		q.Neg(&p)
	case 2:
		p = Point{}
	}
	return p, q
}

func TestGroup(t *testing.T) {
	r := newSource("group")
	for range 400 {
		p, q := r.pair()
		z := Element(r.limbs())
		if z.IsZero() {
			z = Element{1}
		}
		sum := bigAdd(p.big(), q.big())
		j := jacobian(p, z)
		samePoint(t, "Jacobian and back", j.Affine(), p.big())
		h := j.add(&q)
		samePoint(t, "sum", j.Affine(), sum)
		if !p.IsInfinity() && !q.IsInfinity() && p.big().x.Cmp(q.big().x) != 0 {
			if h.Mul(&h, &z); !h.Equal(&j.Z) {
				t.Fatal("Z is not multiplied with what add gives")
			}
		}
		j = jacobian(p, z)
		j.double()
		samePoint(t, "double", j.Affine(), bigAdd(p.big(), p.big()))
		var n Point
		n.Neg(&p)
		samePoint(t, "negative", n, bigNeg(p.big()))
	}
}

// Many additions by one inversion, of all sorts, more than the queue holds.
func TestAdder(t *testing.T) {
	r := newSource("adder")
	few := []Point{r.point(), r.point(), {}}
	few = append(few, Point{}, few[0], few[1])
	few[4].Neg(&few[4])
	few[5].Neg(&few[5])
	const n = maxQueue + 100
	points, want := make([]Point, 2*n), make([]*bigPoint, n)
	for i := range n {
		points[i], points[n+i] = few[r.IntN(len(few))], few[r.IntN(len(few))]
		want[i] = bigAdd(points[i].big(), points[n+i].big())
	}
	a := newAdder(points)
	for i := range n {
		a.add(i, n+i)
	}
	a.flush()
	a.flush()
	for i := range n {
		samePoint(t, "sum", points[i], want[i])
	}
}

func TestOddMultiples(t *testing.T) {
	r := newSource("multiples")
	points := []Point{r.point(), {}, Generator}
	table := make([]multiple, 3*5)
	oddMultiples(table, 5, points, make([]Element, len(table)))
	for i, p := range points {
		for j := range 5 {
			for _, sign := range []int{1, -1} {
				d := sign * (2*j + 1)
				k := mod(big.NewInt(int64(d)), bigN)
				want := bigMul(k, p.big())
				var have Point
				pick(&have, table[i*5:i*5+5], d, false)
				samePoint(t, "multiple", have, want)
				pick(&have, table[i*5:i*5+5], d, true)
				samePoint(t, "its image", have, bigMul(toBig(lambda), want))
			}
		}
	}
	var last Point
	n := len(baseTable)
	pick(&last, baseTable, 2*n-1, false)
	samePoint(t, "the base's last", last, bigMul(big.NewInt(int64(2*n-1)), Generator.big()))
}

// terms draws n points and scalars: some points repeat, some are another's negative.
func (r source) terms(n int) (points []Point, scalars []Scalar) {
	for i := range n {
		p, k := r.point(), r.scalar()
		if i > 0 {
			switch r.IntN(8) {
			case 0:
				p = points[r.IntN(i)]
			case 1:
				p.Neg(&points[r.IntN(i)])
			case 2:
				j := r.IntN(i)
				p.Neg(&points[j])
				k = scalars[j]
			}
		}
		points, scalars = append(points, p), append(scalars, k)
	}
	return points, scalars
}

func TestCombineTwin(t *testing.T) {
	r := newSource("combine")
	for n := range 5 {
		g := r.scalar()
		points, scalars := r.terms(n)
		want := bigMul(toBig(g), Generator.big())
		for i := range points {
			want = bigAdd(want, bigMul(toBig(scalars[i]), points[i].big()))
		}
		s, p := straus(&g, points, scalars), pippenger(&g, points, scalars)
		samePoint(t, "Straus", s.Affine(), want)
		samePoint(t, "Pippenger", p.Affine(), want)
	}
}

func TestCombineDecred(t *testing.T) {
	r := newSource("decred")
	for _, n := range []int{0, 1, 1, 1, 1, 2, 3, 5, 8, maxShort, maxShort + 1, 20, 33, 64, 100, 300} {
		g := r.scalar()
		points, scalars := r.terms(n)
		want := decredCombine(&g, points, scalars)
		s, p, c := straus(&g, points, scalars), pippenger(&g, points, scalars), Combine(&g, points, scalars)
		samePoint(t, "Straus", s.Affine(), want.big())
		samePoint(t, "Pippenger", p.Affine(), want.big())
		samePoint(t, "Combine", c.Affine(), want.big())
	}
}

// All points the same, all scalars the same: long buckets of doublings.
func TestCombineCollisions(t *testing.T) {
	r := newSource("collisions")
	for _, n := range []int{2, 40, 700} {
		p := Generator
		k := r.scalar()
		var points []Point
		var scalars []Scalar
		for i := range n {
			if i%3 == 2 {
				p.Neg(&p)
			}
			points, scalars = append(points, p), append(scalars, k)
		}
		want := decredCombine(&Scalar{}, points, scalars)
		s, j := straus(&Scalar{}, points, scalars), pippenger(&Scalar{}, points, scalars)
		samePoint(t, "Straus", s.Affine(), want.big())
		samePoint(t, "Pippenger", j.Affine(), want.big())
	}
	none := Combine(&Scalar{}, nil, nil)
	if !none.IsInfinity() {
		t.Error("nothing is not zero")
	}
}
