package field

// Point is a point of the curve y² = x³ + 7, affine. The zero value is the point at
// infinity; no other point has a y of zero, nor of p in its limbs.
type Point struct{ X, Y Element }

// Generator is the base point G.
var Generator = Point{
	Element{0x59f2815b16f81798, 0x029bfcdb2dce28d9, 0x55a06295ce870b07, 0x79be667ef9dcbbac},
	Element{0x9c47d08ffb10d4b8, 0xfd17b448a6855419, 0x5da4fbfc0e1108a8, 0x483ada7726a3c465},
}

var seven = Element{7}

// IsInfinity reports whether p is the point at infinity.
func (p *Point) IsInfinity() bool { return p.Y == Element{} }

// Neg sets p to −q.
func (p *Point) Neg(q *Point) {
	p.X = q.X
	if q.IsInfinity() {
		p.Y = Element{}
	} else {
		p.Y.Neg(&q.Y)
	}
}

// squareOfY is x³ + 7.
func squareOfY(x *Element) (t Element) {
	t.Square(x)
	t.Mul(&t, x)
	t.Add(&t, &seven)
	return t
}

// IsX reports whether x is that of a point. It takes half as long as Lift.
func (x *Element) IsX() bool {
	t := squareOfY(x)
	return t.IsSquare()
}

// Lift sets p to the point with this x and a y of this oddness. False if there is none.
func (p *Point) Lift(x *Element, odd bool) bool {
	p.X = *x
	t := squareOfY(x)
	if !p.Y.Sqrt(&t) {
		*p = Point{}
		return false
	}
	if p.Y.IsOdd() != odd {
		p.Y.Neg(&p.Y)
	}
	return true
}

// LiftAll sets each point to the one with this x and an even y, or to infinity if there is none.
// It takes a sixth less than as many Lifts.
func LiftAll(points []Point, xs []Element) {
	var squares, roots lanes
	for len(xs) > 0 {
		n := min(len(xs), len(squares))
		for i := range n {
			squares[i] = squareOfY(&xs[i])
		}
		roots.roots(&squares, n)
		for i := range n {
			if !roots[i].isRootOf(&squares[i]) {
				points[i] = Point{}
				continue
			}
			points[i] = Point{xs[i], roots[i]}
			if roots[i].IsOdd() {
				points[i].Y.Neg(&roots[i])
			}
		}
		points, xs = points[n:], xs[n:]
	}
}

// Jacobian is the point (X/Z², Y/Z³); with a Z of zero, as in the zero value, the one at
// infinity.
type Jacobian struct{ X, Y, Z Element }

// IsInfinity reports whether p is the point at infinity.
func (p *Jacobian) IsInfinity() bool { return p.Z == Element{} }

// Set sets p to q.
func (p *Jacobian) Set(q *Point) {
	*p = Jacobian{q.X, q.Y, Element{1}}
	if q.IsInfinity() {
		p.Z = Element{}
	}
}

// Affine is p as a Point.
func (p *Jacobian) Affine() (q Point) {
	if p.IsInfinity() {
		return q
	}
	var i Element
	i.Inverse(&p.Z)
	q.scaled(p, &i)
	return q
}

// scaled sets q to p, i being 1/Z.
func (q *Point) scaled(p *Jacobian, i *Element) {
	var ii Element
	ii.Square(i)
	q.X.Mul(&p.X, &ii)
	ii.Mul(&ii, i)
	q.Y.Mul(&p.Y, &ii)
}

// double sets p to 2·p: with l = 3·X²/2 and s = Y², X' = l² − 2·X·s, Y' = l·(X·s − X') − s²,
// Z' = Y·Z.
func (p *Jacobian) double() {
	if p.IsInfinity() {
		return
	}
	var l, s, xs, t Element
	p.Z.Mul(&p.Z, &p.Y)
	l.Square(&p.X)
	t.Half(&l)
	l.Add(&l, &t)
	s.Square(&p.Y)
	xs.Mul(&p.X, &s)
	t.Square(&l)
	t.Sub(&t, &xs)
	p.X.Sub(&t, &xs)
	t.Sub(&xs, &p.X)
	t.Mul(&t, &l)
	s.Square(&s)
	p.Y.Sub(&t, &s)
}

// add sets p to p + q, and gives what Z was multiplied with (of no meaning for points that
// are equal, opposite or at infinity): h = x·Z² − X and r = y·Z³ − Y of q's x and y,
// X' = r² − h³ − 2·X·h², Y' = r·(X·h² − X') − Y·h³, Z' = h·Z.
func (p *Jacobian) add(q *Point) (h Element) {
	if q.IsInfinity() {
		return h
	}
	if p.IsInfinity() {
		p.Set(q)
		return h
	}
	var zz, r, hh, hhh, v Element
	zz.Square(&p.Z)
	h.Mul(&q.X, &zz)
	h.Sub(&h, &p.X)
	zz.Mul(&zz, &p.Z)
	r.Mul(&q.Y, &zz)
	r.Sub(&r, &p.Y)
	if h.IsZero() {
		if r.IsZero() {
			p.double()
		} else {
			*p = Jacobian{}
		}
		return h
	}
	p.Z.Mul(&p.Z, &h)
	hh.Square(&h)
	hhh.Mul(&hh, &h)
	v.Mul(&p.X, &hh)
	p.X.Square(&r)
	p.X.Sub(&p.X, &hhh)
	p.X.Sub(&p.X, &v)
	p.X.Sub(&p.X, &v)
	v.Sub(&v, &p.X)
	v.Mul(&v, &r)
	hhh.Mul(&hhh, &p.Y)
	p.Y.Sub(&v, &hhh)
	return h
}

// multiple is a point of a table, and its image under the endomorphism: (bx, y).
type multiple struct{ x, bx, y Element }

// pick sets p to the table's point for an odd digit, d times what the table is of, under
// the endomorphism or not.
func pick(p *Point, table []multiple, d int, endo bool) {
	m := &table[max(d, -d)>>1]
	p.X = m.x
	if endo {
		p.X = m.bx
	}
	if d > 0 {
		p.Y = m.y
	} else {
		p.Y.Neg(&m.y)
	}
}

// oddMultiples fills table, all zero, with the first n odd multiples of each of the points: by
// Jacobian additions and one inversion for all. Scratch is as long as table.
//
// 2·P is not affine, but (X, Y) of its X, Y and Z is the affine form of a point of another
// curve y² = x³ + 7·Z⁶, which has the same formulas, and on which P is (x·Z², y·Z³).
func oddMultiples(table []multiple, n int, points []Point, scratch []Element) {
	product := Element{1}
	for i := range points {
		row := table[i*n : (i+1)*n]
		if points[i].IsInfinity() {
			continue // as all its multiples
		}
		var twice, sum Jacobian
		twice.Set(&points[i])
		twice.double()
		q := Point{twice.X, twice.Y}
		var zz Element
		zz.Square(&twice.Z)
		sum.X.Mul(&points[i].X, &zz)
		zz.Mul(&zz, &twice.Z)
		sum.Y.Mul(&points[i].Y, &zz)
		sum.Z = Element{1}
		row[0] = multiple{x: points[i].X, y: points[i].Y}
		z := twice.Z
		for j := 1; j < n; j++ {
			h := sum.add(&q)
			z.Mul(&z, &h)
			row[j] = multiple{sum.X, z, sum.Y} // bx holds Z until it is inverted
			scratch[i*n+j] = product
			product.Mul(&product, &z)
		}
	}
	product.Inverse(&product)
	for i := len(table) - 1; i >= 0; i-- {
		m := &table[i]
		if i%n > 0 && m.bx != (Element{}) {
			var inverse Element
			inverse.Mul(&product, &scratch[i])
			product.Mul(&product, &m.bx)
			var p Point
			p.scaled(&Jacobian{X: m.x, Y: m.y}, &inverse)
			m.x, m.y = p.X, p.Y
		}
		m.bx.Mul(&m.x, &beta)
	}
}
