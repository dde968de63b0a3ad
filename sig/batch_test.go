package sig

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/consensys/gnark-crypto/ecc"
	gnark "github.com/consensys/gnark-crypto/ecc/secp256k1"
	"github.com/consensys/gnark-crypto/ecc/secp256k1/fr"

	"charter/sig/internal/field"
	"charter/types"
)

// drawChecks are n true signatures by n keys.
func drawChecks(r *rand.ChaCha8, n int) (checks []Check) {
	for range n {
		k, msg := drawKey(r), drawHash(r)
		checks = append(checks, Check{k.Public(), msg, Sign(k, msg)})
	}
	return checks
}

// gnarkHolds is batch.holds of all, by gnark-crypto's multi-exponentiation.
func gnarkHolds(b *batch) bool {
	points, scalars := make([]gnark.G1Affine, 0), make([]fr.Element, 0)
	add := func(p *field.Point, k *field.Scalar) {
		var q gnark.G1Affine
		var s fr.Element
		x, y, e := p.X.Bytes(), p.Y.Bytes(), k.Bytes()
		q.X.SetBytes(x[:])
		q.Y.SetBytes(y[:])
		s.SetBytes(e[:])
		points, scalars = append(points, q), append(scalars, s)
	}
	var g field.Scalar
	times := make([]field.Scalar, len(b.keys))
	for i := range b.nonces {
		add(&b.nonces[i], &b.weights[i])
		g.Add(&g, &b.bases[i])
		times[b.owner[i]].Add(&times[b.owner[i]], &b.times[i])
	}
	for i := range b.keys {
		add(&b.keys[i], &times[i])
	}
	g.Neg(&g)
	add(&field.Generator, &g)
	var sum gnark.G1Jac
	if _, err := sum.MultiExp(points, scalars, ecc.MultiExpConfig{NbTasks: 1}); err != nil {
		panic(err)
	}
	return sum.Z.IsZero()
}

// sameVerdict holds VerifyAll to its twin, one by one.
func sameVerdict(t *testing.T, checks []Check) {
	t.Helper()
	bad, err := VerifyAll(checks)
	want, wantErr := verifyEach(checks, 0, len(checks))
	if bad != want || fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("of %d checks: have %d, %v; one by one %d, %v", len(checks), bad, err, want, wantErr)
	}
}

// addToS sets s to s + d, or s − d.
func addToS(s *types.Signature, d *field.Scalar, negative bool) {
	var v field.Scalar
	v.SetBytes((*[32]byte)(s[32:]))
	e := *d
	if negative {
		e.Neg(&e)
	}
	v.Add(&v, &e)
	b := v.Bytes()
	copy(s[32:], b[:])
}

// spoil changes one check in a way that is drawn; some ways leave it true.
func spoil(r *rand.ChaCha8, checks []Check, i int) {
	c := &checks[i]
	other := &checks[r.Uint64()%uint64(len(checks))]
	switch r.Uint64() % 12 {
	case 0:
		c.Key[r.Uint64()%32] ^= 1 << (r.Uint64() % 8)
	case 1:
		c.Msg[r.Uint64()%32] ^= 1 << (r.Uint64() % 8)
	case 2:
		c.Sig[r.Uint64()%64] ^= 1 << (r.Uint64() % 8)
	case 3:
		c.Key = types.Key{31: 5} // no x
	case 4:
		copy(c.Key[:], refBytes(refP))
	case 5:
		copy(c.Sig[:32], refBytes(refP))
	case 6:
		copy(c.Sig[32:], refBytes(refN))
	case 7:
		copy(c.Sig[:32], refBytes(big.NewInt(5))) // R not on the curve
	case 8:
		c.Sig, other.Sig = other.Sig, c.Sig
	case 9: // two that cancel under equal coefficients
		d := field.Scalar{r.Uint64(), r.Uint64(), r.Uint64()}
		addToS(&c.Sig, &d, false)
		addToS(&other.Sig, &d, true)
	case 10:
		k := drawKey(r)
		*c = Check{k.Public(), c.Msg, rogueSign(k, oddNonce(), c.Msg)}
	case 11:
		k := drawKey(r)
		*c = Check{k.Public(), c.Msg, rogueSign(k, 0, c.Msg)}
	}
}

// Batches of true and spoilt checks, by few keys and by many, some checks repeated.
func TestVerifyAllTwin(t *testing.T) {
	r := random("twin of all")
	pool := drawChecks(r, 30)
	k := drawKey(r)
	for range 10 { // by one key
		msg := drawHash(r)
		pool = append(pool, Check{k.Public(), msg, Sign(k, msg)})
	}
	for i := range 150 {
		n := 1 + int(r.Uint64()%12)
		if i%10 == 0 {
			n = 20 + int(r.Uint64()%60)
		}
		checks := make([]Check, n)
		for j := range checks {
			checks[j] = pool[r.Uint64()%uint64(len(pool))]
		}
		for range r.Uint64() % 4 {
			spoil(r, checks, int(r.Uint64()%uint64(n)))
		}
		sameVerdict(t, checks)
	}
	for i := range pool[:20] { // each place alone
		checks := slices.Clone(pool[:20])
		checks[i].Sig[63]++
		sameVerdict(t, checks)
	}
	// More than a batch.
	var checks []Check
	for len(checks) < 2*maxBatch+50 {
		checks = append(checks, pool...)
	}
	sameVerdict(t, checks)
	checks[maxBatch+7].Msg[0]++
	checks[2*maxBatch+7].Msg[0]++
	sameVerdict(t, checks)
}

// Pairs of bad signatures that cancel if coefficients are equal, or known beforehand, are
// refused: the coefficients depend on them.
func TestCancelling(t *testing.T) {
	r := random("cancelling")
	checks := drawChecks(r, 6)
	before := newBatch(checks)
	for _, forged := range [][2]field.Scalar{
		{{1}, {1}}, // for equal coefficients
		{before.weights[4], before.weights[1]},
	} {
		bad := slices.Clone(checks)
		d, e := forged[0], forged[1]
		addToS(&bad[1].Sig, &d, false)
		addToS(&bad[4].Sig, &e, true)
		b := newBatch(bad)
		if b.holds(0, len(bad)) {
			t.Error("a pair that cancels is accepted")
		}
		if at, err := VerifyAll(bad); at != 1 || !IsKind(err, BadSignature) {
			t.Errorf("%d, %v", at, err)
		}
		// With the coefficients that they are made for they do cancel.
		for i := range bad {
			w := before.weights[i]
			if e == (field.Scalar{1}) {
				w = field.Scalar{1}
			}
			var c claim
			if err := c.parse(&bad[i].Key, bad[i].Msg[:], &bad[i].Sig); err != nil {
				t.Fatal(err)
			}
			b.weights[i] = w
			b.bases[i].Mul(&w, &c.s)
			b.times[i].Mul(&w, &c.e)
		}
		if !b.holds(0, len(bad)) {
			t.Error("the pair does not cancel: the test is wrong")
		}
	}
}

// Any change to any check changes all coefficients but the first, which are 128 bits long.
func TestWeigh(t *testing.T) {
	checks := drawChecks(random("weigh"), 3)
	weights := func(c []Check) []field.Scalar {
		w := make([]field.Scalar, len(c))
		weigh(c, w)
		return w
	}
	was := weights(checks)
	seen := map[field.Scalar]bool{}
	for i, w := range was {
		if w[2]|w[3] != 0 || w.IsZero() || i > 0 && w[1] == 0 || seen[w] {
			t.Errorf("coefficient %d: %x", i, w)
		}
		seen[w] = true
	}
	if was[0] != (field.Scalar{1}) {
		t.Error("the first is not 1")
	}
	for i := range checks {
		for _, spoil := range []func(c *Check){
			func(c *Check) { c.Key[0]++ }, func(c *Check) { c.Msg[31]++ }, func(c *Check) { c.Sig[0]++ }, func(c *Check) { c.Sig[63]++ },
		} {
			changed := slices.Clone(checks)
			spoil(&changed[i])
			if now := weights(changed); now[1] == was[1] || now[2] == was[2] {
				t.Errorf("coefficients do not depend on check %d", i)
			}
		}
	}
}

// The sum that holds or not agrees with gnark-crypto's.
func TestBatchGnark(t *testing.T) {
	r := random("gnark")
	checks := drawChecks(r, 40)
	for _, n := range []int{2, 7, 40} {
		if b := newBatch(checks[:n]); !b.holds(0, n) || !gnarkHolds(b) {
			t.Error("a true batch does not hold")
		}
		bad := slices.Clone(checks[:n])
		bad[n/2].Msg[3]++
		if b := newBatch(bad); b.holds(0, n) || gnarkHolds(b) {
			t.Error("a false batch holds")
		}
	}
}

// Whatever the bytes, VerifyAll and one by one agree. Four bytes take a check of a pool and
// change one of its.
func FuzzVerifyAll(f *testing.F) {
	pool := drawChecks(random("fuzz of all"), 8)
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 0, 1, 2, 127, 1, 1, 2, 127, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		var checks []Check
		for ; len(data) >= 4 && len(checks) < 40; data = data[4:] {
			c := pool[data[0]%8]
			switch i := data[2]; data[1] % 3 {
			case 0:
				c.Key[i%32] ^= data[3]
			case 1:
				c.Msg[i%32] ^= data[3]
			case 2:
				c.Sig[i%64] ^= data[3]
			}
			checks = append(checks, c)
		}
		sameVerdict(t, checks)
	})
}
