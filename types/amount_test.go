package types

import (
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// bigParse is ParseAmount with rationals: s times 10⁸ must be a whole number below 2⁶³.
func bigParse(s string) (Amount, bool) {
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" || point && frac == "" || strings.Trim(whole+frac, "0123456789") != "" || len(frac) > Decimals {
		return 0, false
	}
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return 0, false
	}
	r.Mul(r, big.NewRat(int64(UnitsPerShare), 1))
	if !r.IsInt() || r.Num().BitLen() > 63 {
		return 0, false
	}
	return Amount(r.Num().Uint64()), true
}

func TestAmountTwin(t *testing.T) {
	r := newDraw(1)
	supply := new(big.Int).SetUint64(uint64(MaxSupply))
	parsed := 0
	for range 20_000 {
		a, b := r.amount(), r.amount()
		x, y := new(big.Int).SetUint64(uint64(a)), new(big.Int).SetUint64(uint64(b))
		sum, err := a.Add(b)
		if want := x.Add(x, y); want.Cmp(supply) > 0 != errors.Is(err, ErrOverflow) || err == nil && uint64(sum) != want.Uint64() {
			t.Fatalf("%d + %d = %d, %v", a, b, sum, err)
		}
		diff, err := a.Sub(b)
		if want := x.Sub(x, y).Sub(x, y); want.Sign() < 0 != errors.Is(err, ErrOverflow) || err == nil && uint64(diff) != want.Uint64() {
			t.Fatalf("%d - %d = %d, %v", a, b, diff, err)
		}
		if exact := new(big.Rat).SetFrac64(int64(a), int64(UnitsPerShare)); !a.same(exact) {
			t.Fatalf("%d units are written %s", a, a)
		}
		if back, err := ParseAmount(a.String()); err != nil || back != a {
			t.Fatalf("%s is read %d, %v", a, back, err)
		}
		s := r.text("0123456789", 12) + r.text(".", 1) + r.text("0123456789", 9) + r.text("-+e_ x.", r.IntN(2))
		have, err := ParseAmount(s)
		if want, ok := bigParse(s); ok != (err == nil) || have != want {
			t.Fatalf("%q is read %d, %v, twin %d, %t", s, have, err, want, ok)
		}
		if err == nil {
			parsed++
		}
	}
	if parsed < 1000 {
		t.Errorf("only %d texts were amounts", parsed)
	}
}

// same reports whether a's text is exactly x, with no digit that it does not need.
func (a Amount) same(x *big.Rat) bool {
	s := a.String()
	y, ok := new(big.Rat).SetString(s)
	return ok && x.Cmp(y) == 0 && !(strings.Contains(s, ".") && strings.HasSuffix(s, "0")) && !strings.HasSuffix(s, ".")
}

func TestAmountText(t *testing.T) {
	for s, want := range map[string]Amount{
		"0": 0, "0.00000001": 1, "1": 1e8, "12.5": 1250000000, "0.10": 1e7, "007": 7e8, "92233720368.54775807": MaxSupply,
	} {
		var a Amount
		if err := a.UnmarshalText([]byte(s)); err != nil || a != want {
			t.Errorf("%q: %d, %v", s, a, err)
		}
	}
	for _, s := range []string{
		"", ".", "1.", ".5", "-1", "+1", "1e3", "1_000", "1,5", " 1", "1 ", "0x10", "1.2.3", "٣",
		"0.000000001", "92233720368.54775808", "99999999999999999999999",
	} {
		a := Amount(7)
		if err := a.UnmarshalText([]byte(s)); err == nil || a != 7 {
			t.Errorf("%q: read as %d", s, a)
		}
	}
	if _, err := Amount(1 << 63).Add(0); !errors.Is(err, ErrOverflow) {
		t.Error("more than the supply plus nothing")
	}
}

func TestMillis(t *testing.T) {
	at := time.Date(2026, 11, 22, 21, 30, 0, 7e6, time.FixedZone("east", 3600))
	if m := MillisOf(at); m.String() != "2026-11-22T20:30:00.007Z" || !m.Time().Equal(at) {
		t.Errorf("%s", m)
	}
}

func TestHexText(t *testing.T) {
	h := newDraw(1).hash()
	var back Hash
	var key Key
	var s Signature
	if err := back.UnmarshalText([]byte(strings.ToUpper(h.String()))); err != nil || back != h || h.Short() != h.String()[:8] {
		t.Errorf("%s, %v", back, err)
	}
	for _, err := range []error{
		back.UnmarshalText([]byte(h.String()[1:])), back.UnmarshalText([]byte("0x" + h.String()[2:])),
		key.UnmarshalText([]byte(h.String() + "00")), s.UnmarshalText([]byte(h.String())),
	} {
		if err == nil {
			t.Error("read what is not the hexadecimal of its length")
		}
	}
}
