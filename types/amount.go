package types

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Amount counts units, the smallest part of a share. One share is UnitsPerShare units.
type Amount uint64

const (
	// Decimals is how many decimal places a share has.
	Decimals = 8
	// UnitsPerShare is 10^Decimals.
	UnitsPerShare Amount = 1e8
	// MaxSupply is the greatest amount there can be: below 2^63, so that the sum of any
	// two amounts fits 64 bits.
	MaxSupply Amount = 1<<63 - 1
)

// ErrOverflow says that a sum or difference of amounts is not an amount.
var ErrOverflow = errors.New("amount overflow")

// Add is a + b, or ErrOverflow above MaxSupply.
func (a Amount) Add(b Amount) (Amount, error) {
	if a > MaxSupply || b > MaxSupply-a {
		return 0, fmt.Errorf("%w: %d + %d", ErrOverflow, a, b)
	}
	return a + b, nil
}

// Sub is a − b, or ErrOverflow below zero.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b > a {
		return 0, fmt.Errorf("%w: %d − %d", ErrOverflow, a, b)
	}
	return a - b, nil
}

// String is the amount in shares, exactly, with no zeros at the end: "12.5".
func (a Amount) String() string {
	s := strconv.FormatUint(uint64(a/UnitsPerShare), 10)
	if f := a % UnitsPerShare; f != 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%0*d", Decimals, f), "0")
	}
	return s
}

// MarshalText writes shares, as String.
func (a Amount) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads shares, as ParseAmount.
func (a *Amount) UnmarshalText(b []byte) error {
	v, err := ParseAmount(string(b))
	if err == nil {
		*a = v
	}
	return err
}

// ParseAmount reads a decimal number of shares, exactly: digits, then perhaps a point
// and one to eight digits. No sign, no exponent, no separators.
func ParseAmount(s string) (Amount, error) {
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" || point && frac == "" || !digits(whole) || !digits(frac) {
		return 0, fmt.Errorf("amount %q: want a decimal number of shares, like 12.5", s)
	}
	if len(frac) > Decimals {
		return 0, fmt.Errorf("amount %q: %d decimals, and a share has %d", s, len(frac), Decimals)
	}
	frac += strings.Repeat("0", Decimals-len(frac))
	v, err := strconv.ParseUint(whole+frac, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("amount %q: more than %s shares", s, MaxSupply)
	}
	return Amount(v), nil
}

func digits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}

// Millis is consensus time: milliseconds since 1970-01-01T00:00:00Z. It comes from
// blocks, never from a clock of the package that reads it.
type Millis int64

// MaxTime is the greatest time, and stands for "no end". It is 2^53 − 1, so that
// programs with floating numbers read it exactly.
const MaxTime Millis = 1<<53 - 1

// Time is t as a time.Time in UTC.
func (t Millis) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// String is t in RFC 3339 with milliseconds.
func (t Millis) String() string { return t.Time().Format("2006-01-02T15:04:05.000Z") }

// MillisOf is the consensus time of a time.Time.
func MillisOf(t time.Time) Millis { return Millis(t.UnixMilli()) }
