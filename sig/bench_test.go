package sig

import (
	"fmt"
	"testing"
)

func BenchmarkSign(b *testing.B) {
	r := random("bench")
	k, msg := drawKey(r), drawHash(r)
	for b.Loop() {
		Sign(k, msg)
	}
}

func BenchmarkVerify(b *testing.B) {
	r := random("bench")
	k, msg := drawKey(r), drawHash(r)
	s := Sign(k, msg)
	b.ReportAllocs()
	for b.Loop() {
		if Verify(k.Public(), msg, s) != nil {
			b.Fatal()
		}
	}
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
