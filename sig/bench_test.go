package sig

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
)

func BenchmarkSign(b *testing.B) {
	r := random("bench")
	k, msg := drawKey(r), drawHash(r)
	for b.Loop() {
		Sign(k, msg)
	}
}

// cost adds to a benchmark what it takes of the processor, which other processes on the
// machine disturb less than the time, by one of n parts.
func cost(b *testing.B, n int) func() {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	start := used()
	return func() {
		b.ReportMetric(float64(used()-start)/float64(b.N)/float64(n)/1e3, "cpu-µs/sig")
	}
}

func BenchmarkVerify(b *testing.B) {
	r := random("bench")
	k, msg := drawKey(r), drawHash(r)
	s := Sign(k, msg)
	for name, verify := range map[string]func() bool{
		"ours":  func() bool { return Verify(k.Public(), msg, s) == nil },
		"btcec": func() bool { return btcecVerify(k.Public(), msg, s) },
	} {
		b.Run(name, func(b *testing.B) {
			defer cost(b, 1)()
			for b.Loop() {
				if !verify() {
					b.Fatal()
				}
			}
		})
	}
}

func BenchmarkVerifyAll(b *testing.B) {
	all := drawChecks(random("bench"), 1024)
	for _, n := range []int{1, 2, 4, 16, 64, 256, 1024} {
		checks := all[:n]
		b.Run(fmt.Sprintf("ours/%d", n), func(b *testing.B) {
			defer cost(b, n)()
			for b.Loop() {
				if bad, err := VerifyAll(checks); err != nil {
					b.Fatal(bad, err)
				}
			}
		})
	}
	// A batch as gnark-crypto's multi-exponentiation does it, with our preparation.
	for _, n := range []int{64, 256, 1024} {
		b.Run(fmt.Sprintf("gnark/%d", n), func(b *testing.B) {
			defer cost(b, n)()
			for b.Loop() {
				if !gnarkHolds(newBatch(all[:n])) {
					b.Fatal()
				}
			}
		})
	}
	// One bad signature, in the worst place.
	b.Run("bad/256", func(b *testing.B) {
		checks := slices.Clone(all[:256])
		checks[255].Msg[0]++
		defer cost(b, 256)()
		for b.Loop() {
			if bad, _ := VerifyAll(checks); bad != 255 {
				b.Fatal(bad)
			}
		}
	})
}

func BenchmarkParsePrivateKey(b *testing.B) {
	secret := [32]byte(drawHash(random("bench")))
	for b.Loop() {
		ParsePrivateKey(secret)
	}
}

func BenchmarkAggregate(b *testing.B) {
	for _, n := range []int{2, 16, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, keys := drawKeys(random("bench"), n)
			for b.Loop() {
				Aggregate(keys)
			}
		})
	}
}

func BenchmarkSignSet(b *testing.B) {
	privs, _ := drawKeys(random("bench"), 16)
	for b.Loop() {
		SignSet(privs, drawHash(random("bench")))
	}
}

func BenchmarkLockKey(b *testing.B) {
	r := random("bench")
	k, root := drawKey(r).Public(), drawHash(r)
	for b.Loop() {
		LockKey(k, root)
	}
}

func BenchmarkHashToCurve(b *testing.B) {
	for b.Loop() {
		var p = generator
		hashToCurve([]byte("a message of the length that consensus hashes: 40 bytes"), curveSuite, &p)
	}
}

func BenchmarkProve(b *testing.B) {
	k := drawKey(random("bench"))
	for b.Loop() {
		Prove(k, []byte("input"))
	}
}

func BenchmarkVerifyVRF(b *testing.B) {
	k := drawKey(random("bench"))
	proof := Prove(k, []byte("input"))
	for b.Loop() {
		if _, err := VerifyVRF(k.Public(), []byte("input"), proof); err != nil {
			b.Fatal(err)
		}
	}
}
