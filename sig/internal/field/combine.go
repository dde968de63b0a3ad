package field

// Widths of the windows of Combine's tables: of the base point's, made once, and of the
// others'.
const (
	baseWidth  = 12
	tableWidth = 5
	tableSize  = 1 << (tableWidth - 2)
)

// baseTable has the odd multiples of G below 2¹¹. It takes a quarter of a millisecond.
var baseTable = func() []multiple {
	const n = 1 << (baseWidth - 2)
	t := make([]multiple, n)
	oddMultiples(t, n, []Point{Generator}, make([]Element, n))
	return t
}()

// maxShort is how many points Combine takes by Straus; with more Pippenger is faster.
const maxShort = 36

// Combine is g·G + Σ scalars[i]·points[i].
func Combine(g *Scalar, points []Point, scalars []Scalar) Jacobian {
	if len(points) <= maxShort {
		return straus(g, points, scalars)
	}
	return pippenger(g, points, scalars)
}

// row is one half of a scalar, and where the table of what it multiplies begins.
type row struct {
	table  int // in straus' tables; −1 is baseTable
	endo   bool
	digits [halfBits]int16
}

// straus doubles once for all scalars: their digits, at most one in six not zero, pick what
// to add from each point's table.
func straus(g *Scalar, points []Point, scalars []Scalar) (sum Jacobian) {
	// Room for two points, where there are no more.
	var rowRoom [6]row
	var tableRoom [2 * tableSize]multiple
	var scratchRoom [2 * tableSize]Element
	rows, tables, scratch := rowRoom[:0], tableRoom[:], scratchRoom[:]
	if n := len(points) * tableSize; n > len(tables) {
		rows, tables, scratch = make([]row, 0, 2*len(points)+2), make([]multiple, n), make([]Element, n)
	}
	tables = tables[:len(points)*tableSize]
	oddMultiples(tables, tableSize, points, scratch)
	rows = appendRows(rows, g, -1, baseWidth)
	for i := range points {
		rows = appendRows(rows, &scalars[i], i*tableSize, tableWidth)
	}
	var p Point
	for at := halfBits - 1; at >= 0; at-- {
		sum.double()
		for i := range rows {
			r := &rows[i]
			d := int(r.digits[at])
			if d == 0 {
				continue
			}
			table := baseTable
			if r.table >= 0 {
				table = tables[r.table:]
			}
			pick(&p, table, d, r.endo)
			sum.add(&p)
		}
	}
	return sum
}

func appendRows(rows []row, k *Scalar, table int, width uint) []row {
	k1, k2 := k.split()
	for i, h := range [2]half{k1, k2} {
		if !h.isZero() {
			rows = append(rows, row{table: table, endo: i == 1})
			h.naf(&rows[len(rows)-1].digits, width)
		}
	}
	return rows
}

// pippenger puts each point, for each digit of its scalar, into the bucket of the digit's
// absolute value, and sums buckets instead of multiplying. For digits of w bits a window
// has buckets 1 to m = 2^(w−1), and is worth Σ k·bucket[k]. That is summed by bits:
//
//	Σ k·b[k] = Σ of b[k] for odd k + 2 · Σ j·(b[2j] + b[2j+1])
//
// so that b[2j] += b[2j+1], level by level in place, leaves in the places k = 2^l·odd what
// counts 2^l times. All of it is affine additions that are independent of one another, across
// all windows; what is left at the end is one point for each bit.
func pippenger(g *Scalar, points []Point, scalars []Scalar) (sum Jacobian) {
	terms, halves := halve(g, points, scalars)
	w := bestWindow(len(terms))
	m := 1 << (w - 1)
	windows := (halfBits + int(w) - 1) / int(w)
	stride := m + 1 // of a window's buckets, with one of no use in front
	// Behind the buckets there is room to sort some windows' terms into.
	group := min(max(1, maxSorted/len(terms)), windows)
	all := make([]Point, windows*stride+group*len(terms))
	a := newAdder(all)
	digits := make([]int16, windows*len(terms))
	for i := range halves {
		halves[i].windows(digits[i:], len(terms), w)
	}
	for first := 0; first < windows; first += group {
		n := min(group, windows-first)
		a.fill(first*stride, n, stride, windows*stride, terms, digits[first*len(terms):])
	}
	for step := 1; step < m; step *= 2 {
		for base := 0; base < windows*stride; base += stride {
			for to := 2 * step; to+step <= m; to += 2 * step {
				a.add(base+to, base+to+step)
			}
		}
		a.flush()
	}
	for half := 1; half < m; half *= 2 {
		for base := 0; base < windows*stride; base += stride {
			for step := 1; step*half < m; step *= 2 {
				// The places step, 3·step, 5·step … are a list: half of it to the other half.
				for to := step; to+2*step*half <= m; to += 4 * step * half {
					a.add(base+to, base+to+2*step*half)
				}
			}
		}
		a.flush()
	}
	for window := windows - 1; window >= 0; window-- {
		for step := m; step > 0; step /= 2 {
			sum.double()
			sum.add(&all[window*stride+step])
		}
	}
	return sum
}

// maxSorted is how many terms pippenger sorts at a time, if one window has no more.
const maxSorted = 1024

// halve gives the terms of the sum with scalars below 2¹²⁸.
func halve(g *Scalar, points []Point, scalars []Scalar) (terms []Point, halves []half) {
	terms, halves = make([]Point, 0, 2*len(points)+2), make([]half, 0, 2*len(points)+2)
	add := func(p Point, k *Scalar) {
		k1, k2 := k.split()
		if !k1.isZero() {
			terms, halves = append(terms, p), append(halves, k1)
		}
		if !k2.isZero() {
			p.X.Mul(&p.X, &beta)
			terms, halves = append(terms, p), append(halves, k2)
		}
	}
	add(Generator, g)
	for i := range points {
		add(points[i], &scalars[i])
	}
	return terms, halves
}

// bestWindow is the width that takes the fewest additions for n terms.
func bestWindow(n int) (w uint) {
	cost := func(w uint) int { return (halfBits + int(w) - 1) / int(w) * (n + 1<<(w-1)) }
	for w = 2; w < 13 && cost(w+1) < cost(w); w++ {
	}
	return w
}

// fill sums the terms of n windows into their buckets, at base. From room on there is place
// to sort them. A window has one digit for each term.
func (a *adder) fill(base, n, stride, room int, terms []Point, digits []int16) {
	// ends[b] is first the end of what is sorted into bucket b so far, then of all.
	ends := make([]int32, n*stride)
	for i := range n {
		for _, d := range digits[i*len(terms) : (i+1)*len(terms)] {
			ends[i*stride+int(max(d, -d))]++
		}
	}
	at, longest := int32(room), int32(0)
	for b, count := range ends {
		ends[b] = at
		if b%stride != 0 {
			at += count
			longest = max(longest, count)
		}
	}
	for i := range n {
		for j, d := range digits[i*len(terms) : (i+1)*len(terms)] {
			if d == 0 {
				continue
			}
			end := &ends[i*stride+int(max(d, -d))]
			if d > 0 {
				a.points[*end] = terms[j]
			} else {
				a.points[*end].Neg(&terms[j])
			}
			*end++
		}
	}
	for step := 1; step < int(longest); step *= 2 {
		from := room
		for _, end := range ends {
			for ; from+step < int(end); from += 2 * step {
				a.add(from, from+step)
			}
			from = int(end)
		}
		a.flush()
	}
	from := int32(room)
	for b, end := range ends {
		if end > from {
			a.points[base+b] = a.points[from]
		}
		from = end
	}
}
