package field

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

// bench runs f and reports beside the wall's time the processor's, which other processes
// on the machine disturb less.
func bench(b *testing.B, name string, f func()) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		start := cpu()
		for b.Loop() {
			f()
		}
		b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
	})
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkElement(b *testing.B) {
	x, y := Element{1, 2, 3, 4}, Element{5, 6, 7, 8 << 60}
	var z [4]Element
	bench(b, "Mul", func() { x.Mul(&x, &y) })
	bench(b, "MulIndependent4", func() {
		for i := range z {
			z[i].Mul(&x, &y)
		}
	})
	bench(b, "Squares100", func() { x.squares(&x, 100) })
	bench(b, "Sub", func() { x.Sub(&x, &y) })
	bench(b, "Add", func() { x.Add(&x, &y) })
	bench(b, "Inverse", func() { x.Inverse(&x) })
	bench(b, "slowInverse", func() { x.slowInverse(&x) })
	bench(b, "IsSquare", func() {
		x.Add(&x, &y)
		x.IsSquare()
	})
	bench(b, "Sqrt", func() { x.Sqrt(&x) })
}

func BenchmarkGroup(b *testing.B) {
	r := newSource("bench")
	p := r.point()
	j := jacobian(r.point(), r.limbs())
	bench(b, "Double", func() { j.double() })
	bench(b, "AddMixed", func() { j.add(&p) })
	bench(b, "Lift", func() { p.Lift(&p.X, false) })
	xs, lifted := make([]Element, 100), make([]Point, 100)
	for i := range xs {
		p := r.point()
		xs[i] = p.X
	}
	bench(b, "LiftAll100", func() { LiftAll(lifted, xs) })
	const n = 1 << 10
	points := make([]Point, 2*n)
	for i := range points {
		points[i] = r.point()
	}
	a := newAdder(points)
	bench(b, "AddAffine1024", func() {
		for i := range n {
			a.add(i, n+i)
		}
		a.flush()
	})
	k := r.scalar()
	bench(b, "Split", func() { k.split() })
	bench(b, "ScalarMul", func() { k.Mul(&k, &k) })
	bench(b, "BaseTable", func() { oddMultiples(make([]multiple, 1024), 1024, []Point{Generator}, make([]Element, 1024)) })
}

func BenchmarkCombine(b *testing.B) {
	r := newSource("bench")
	for _, n := range []int{1, 2, 4, 8, 16, 24, 32, 40, 48, 64, 128, 512, 2048} {
		g := r.scalar()
		points, scalars := make([]Point, n), make([]Scalar, n)
		for i := range points {
			points[i] = r.point()
			scalars[i] = Scalar{r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64() >> 1}
			if i%2 == 1 { // as in a batch of signatures
				scalars[i] = Scalar{r.Uint64(), r.Uint64()}
			}
		}
		if n <= 64 {
			bench(b, fmt.Sprintf("Straus/%d", n), func() { straus(&g, points, scalars) })
		}
		if n > 2 {
			bench(b, fmt.Sprintf("Pippenger/%d", n), func() { pippenger(&g, points, scalars) })
		}
	}
}
