package types

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The encoding has fixed-size big-endian integers, arrays as they are, and lists behind
// a count. There is nothing optional and nothing of variable width, so a value has one
// encoding and an encoding one value (spec/encoding.md).

// DecodeKind says what is wrong with bytes that do not decode.
type DecodeKind uint8

const (
	// Truncated: the bytes end inside a value.
	Truncated DecodeKind = iota + 1
	// Trailing: bytes are left over behind the value.
	Trailing
	// TooLong: a count or length is above its bound, or above what the bytes left can hold.
	TooLong
	// Unknown: a version, kind or flag that this version does not know.
	Unknown
	// NotCanonical: a value in a form other than its one form (unsorted, repeated, out of range).
	NotCanonical
)

var decodeKinds = map[DecodeKind]string{
	Truncated: "truncated", Trailing: "trailing bytes", TooLong: "too long",
	Unknown: "unknown kind", NotCanonical: "not canonical",
}

// String is the kind in words.
func (k DecodeKind) String() string { return decodeKinds[k] }

// DecodeError is what every decoder of this package returns for bytes that it refuses.
type DecodeError struct {
	Kind   DecodeKind
	What   string // the value or field that was being read
	Offset int    // where in the bytes
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %s: %s at byte %d", e.What, e.Kind, e.Offset)
}

// IsDecodeKind reports whether err is a DecodeError of kind k.
func IsDecodeKind(err error, k DecodeKind) bool {
	var d *DecodeError
	return errors.As(err, &d) && d.Kind == k
}

// Encoder appends values to a byte slice. The zero Encoder is ready.
//
// It judges nothing, and does not fail: what is out of range is written so that no decoder
// takes it. A time below zero or an amount above MaxSupply stands as it is, and a count that
// does not fit its bytes is written as the greatest that does, which is above every bound, so
// that a long list is never read as a short one.
type Encoder struct{ buf []byte }

// NewEncoder appends to buf, which may be nil.
func NewEncoder(buf []byte) *Encoder { return &Encoder{buf} }

// Data is what was encoded so far.
func (e *Encoder) Data() []byte { return e.buf }

// U8, U16, U32 and U64 append an integer, big-endian.
func (e *Encoder) U8(v uint8)   { e.buf = append(e.buf, v) }
func (e *Encoder) U16(v uint16) { e.buf = binary.BigEndian.AppendUint16(e.buf, v) }
func (e *Encoder) U32(v uint32) { e.buf = binary.BigEndian.AppendUint32(e.buf, v) }
func (e *Encoder) U64(v uint64) { e.buf = binary.BigEndian.AppendUint64(e.buf, v) }

// Bool appends one byte, 0 or 1.
func (e *Encoder) Bool(v bool) {
	if v {
		e.U8(1)
	} else {
		e.U8(0)
	}
}

// Raw appends bytes of a length that the reader knows.
func (e *Encoder) Raw(b []byte) { e.buf = append(e.buf, b...) }

// Hash appends 32 bytes.
func (e *Encoder) Hash(h Hash) { e.buf = append(e.buf, h[:]...) }

// Key appends 32 bytes.
func (e *Encoder) Key(k Key) { e.buf = append(e.buf, k[:]...) }

// Signature appends 64 bytes.
func (e *Encoder) Signature(s Signature) { e.buf = append(e.buf, s[:]...) }

// Count8, Count16 and Count32 append how many elements follow, or the greatest count of that
// width if there are more.
func (e *Encoder) Count8(n int)  { e.U8(uint8(min(n, math.MaxUint8))) }
func (e *Encoder) Count16(n int) { e.U16(uint16(min(n, math.MaxUint16))) }
func (e *Encoder) Count32(n int) { e.U32(uint32(min(uint64(n), math.MaxUint32))) }

// Bytes appends a length of four bytes, then the bytes.
func (e *Encoder) Bytes(b []byte) {
	e.Count32(len(b))
	e.Raw(b)
}

// Decoder reads what an Encoder wrote. Its error sticks: after the first one every
// read gives zeros, so a decoding function checks once, with Finish or Err.
type Decoder struct {
	data []byte
	off  int
	what string
	err  error
}

// NewDecoder reads data, which it does not copy and does not change. What names the
// value in errors.
func NewDecoder(what string, data []byte) *Decoder { return &Decoder{data: data, what: what} }

// Err is the first error, or nil.
func (d *Decoder) Err() error { return d.err }

// Left is how many bytes are unread.
func (d *Decoder) Left() int { return len(d.data) - d.off }

// Fail sets the error, unless there is one.
func (d *Decoder) Fail(kind DecodeKind, what string) {
	if d.err == nil {
		d.err = &DecodeError{kind, d.what + "." + what, d.off}
	}
}

// Finish is the error, or that of bytes left over.
func (d *Decoder) Finish() error {
	if d.err == nil && d.Left() > 0 {
		d.err = &DecodeError{Trailing, d.what, d.off}
	}
	return d.err
}

// Take returns the next n bytes, aliasing the input, or nil.
func (d *Decoder) Take(what string, n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > d.Left() {
		d.Fail(Truncated, what)
		return nil
	}
	b := d.data[d.off : d.off+n : d.off+n]
	d.off += n
	return b
}

// U8 reads one byte.
func (d *Decoder) U8(what string) uint8 {
	if b := d.Take(what, 1); b != nil {
		return b[0]
	}
	return 0
}

// U16 reads two bytes.
func (d *Decoder) U16(what string) uint16 {
	if b := d.Take(what, 2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// U32 reads four bytes.
func (d *Decoder) U32(what string) uint32 {
	if b := d.Take(what, 4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// U64 reads eight bytes.
func (d *Decoder) U64(what string) uint64 {
	if b := d.Take(what, 8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Bool reads one byte, which must be 0 or 1.
func (d *Decoder) Bool(what string) bool {
	v := d.U8(what)
	if v > 1 {
		d.Fail(NotCanonical, what)
	}
	return v == 1
}

// Hash reads 32 bytes.
func (d *Decoder) Hash(what string) (h Hash) {
	copy(h[:], d.Take(what, 32))
	return h
}

// Key reads 32 bytes.
func (d *Decoder) Key(what string) (k Key) {
	copy(k[:], d.Take(what, 32))
	return k
}

// Signature reads 64 bytes.
func (d *Decoder) Signature(what string) (s Signature) {
	copy(s[:], d.Take(what, 64))
	return s
}

// Time reads eight bytes, at most MaxTime.
func (d *Decoder) Time(what string) Millis {
	v := d.U64(what)
	if v > uint64(MaxTime) {
		d.Fail(NotCanonical, what)
		return 0
	}
	return Millis(v)
}

// Amount reads eight bytes, at most MaxSupply.
func (d *Decoder) Amount(what string) Amount {
	v := Amount(d.U64(what))
	if v > MaxSupply {
		d.Fail(NotCanonical, what)
		return 0
	}
	return v
}

// Count16 reads a count of two bytes. It refuses one above max, and one whose elements,
// of at least size bytes each, the bytes left cannot hold: nothing is allocated before.
func (d *Decoder) Count16(what string, max, size int) int {
	return d.count(what, uint32(d.U16(what)), max, size)
}

// Count32 is Count16 for a count of four bytes.
func (d *Decoder) Count32(what string, max, size int) int {
	return d.count(what, d.U32(what), max, size)
}

func (d *Decoder) count(what string, n uint32, max, size int) int {
	if d.err != nil {
		return 0
	}
	if uint64(n) > uint64(min(max, d.Left()/size)) {
		d.Fail(TooLong, what)
		return 0
	}
	return int(n)
}

// Bytes reads a length of four bytes, at most max, and a copy of that many bytes. None
// give nil.
func (d *Decoder) Bytes(what string, max int) []byte {
	n := d.Count32(what, max, 1)
	if n == 0 {
		return nil
	}
	return append([]byte(nil), d.Take(what, n)...)
}

// String reads a length of two bytes, at most max, and that many bytes of printable
// ASCII: names that consensus sees have no other alphabet.
func (d *Decoder) String(what string, max int) string {
	n := d.Count16(what, max, 1)
	b := d.Take(what, n)
	if !printable(string(b)) {
		d.Fail(NotCanonical, what)
		return ""
	}
	return string(b)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// String appends a length of two bytes, then the bytes.
func (e *Encoder) String(s string) {
	e.Count16(len(s))
	e.buf = append(e.buf, s...)
}

// Time appends eight bytes.
func (e *Encoder) Time(t Millis) { e.U64(uint64(t)) }

// Amount appends eight bytes.
func (e *Encoder) Amount(a Amount) { e.U64(uint64(a)) }
