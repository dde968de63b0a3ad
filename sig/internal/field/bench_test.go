package field

import (
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
	bench(b, "Sqrt", func() { x.Sqrt(&x) })
}
