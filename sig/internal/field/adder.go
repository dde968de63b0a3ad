package field

// adder does affine additions within a slice of points, many by one inversion: an addition
// costs five multiplications, a square and its share.
type adder struct {
	points []Point
	queue  []addition
	// product is that of all the queue's denominators.
	product Element
}

// addition is to set points[to] to points[to] + points[from]. The slope has this
// denominator, and before is the product of those in front of it in the queue.
type addition struct {
	to, from            int32
	double              bool
	denominator, before Element
}

// maxQueue is how many additions share an inversion at most: it costs as much as 20 of them,
// and a longer queue leaves the processor's first cache.
const maxQueue = 256

func newAdder(points []Point) *adder {
	return &adder{points: points, queue: make([]addition, 0, min(maxQueue, len(points)/2+1)), product: Element{1}}
}

// add queues points[to] += points[from]. Until the next flush no other addition may name
// either.
func (a *adder) add(to, from int) {
	p, q := &a.points[to], &a.points[from]
	if q.IsInfinity() {
		return
	}
	if p.IsInfinity() {
		*p = *q
		return
	}
	if len(a.queue) == cap(a.queue) {
		a.flush()
	}
	a.queue = a.queue[:len(a.queue)+1]
	job := &a.queue[len(a.queue)-1]
	job.to, job.from, job.double, job.before = int32(to), int32(from), false, a.product
	job.denominator.Sub(&q.X, &p.X)
	if job.denominator.IsZero() {
		if !p.Y.Equal(&q.Y) {
			a.queue = a.queue[:len(a.queue)-1]
			*p = Point{}
			return
		}
		job.double = true
		job.denominator.Add(&p.Y, &p.Y)
	}
	a.product.Mul(&a.product, &job.denominator)
}

// flush does what is queued.
func (a *adder) flush() {
	if len(a.queue) == 0 {
		return
	}
	a.product.Inverse(&a.product)
	for i := len(a.queue) - 1; i >= 0; i-- {
		job := &a.queue[i]
		p, q := &a.points[job.to], &a.points[job.from]
		var slope, t, x Element
		if job.double {
			t.Square(&p.X)
			slope.Add(&t, &t)
			slope.Add(&slope, &t)
		} else {
			slope.Sub(&q.Y, &p.Y)
		}
		t.Mul(&a.product, &job.before)
		a.product.Mul(&a.product, &job.denominator)
		slope.Mul(&slope, &t)
		x.Square(&slope)
		x.Sub(&x, &p.X)
		x.Sub(&x, &q.X)
		t.Sub(&p.X, &x)
		t.Mul(&t, &slope)
		p.X = x
		p.Y.Sub(&t, &p.Y)
	}
	a.queue, a.product = a.queue[:0], Element{1}
}
