// Package tlog is the append-only log of RFC 6962: roots, proofs that a leaf is in a log,
// that one log begins with another, and that some leaves are the latest of a log.
//
// It is pure: it reads nodes of a stored log through Reader, and gives back the nodes
// to write; it writes nothing. It knows hashes only: what a leaf says, and who vouches for
// a root, are for its callers. Nothing here changes a leaf once it is in (package forest does).
//
// The tree of n leaves splits at the greatest power of two below n (RFC 6962, section 2.1),
// so all but its right edge are complete subtrees, and these never change:
//
//	level 2          2/0                    the root of 7 leaves is
//	              ╱       ╲
//	level 1     1/0       1/1      1/2      H(2/0, H(1/2, 0/6))
//	           ╱   ╲     ╱   ╲    ╱   ╲
//	level 0  0/0  0/1  0/2  0/3 0/4  0/5  0/6
//
// A complete subtree is named by level and index; it covers the leaves
// [index·2^level, (index+1)·2^level). The stored form of a log holds exactly these. The
// Frontier of a log is the few of them that its root folds (2/0, 1/2, 0/6 above): enough
// to append to a log without holding it, and to prove a suffix.
package tlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"

	"charter/types"
)

// MaxSize is the greatest size of a log, in leaves. It keeps all arithmetic on sizes
// and indexes within 64 bits.
const MaxSize = 1 << 62

// MaxPath is the greatest length of a proof, in hashes.
const MaxPath = 64

// Kind says why a log's proof or request is refused.
type Kind uint8

const (
	// BadSize: a size is above MaxSize, or the sizes given do not fit together.
	BadSize Kind = iota + 1
	// BadIndex: the index is not below the size.
	BadIndex
	// BadLength: the proof is longer or shorter than the one length it can have.
	BadLength
	// RootMismatch: the proof leads to another root.
	RootMismatch
)

var kinds = map[Kind]string{
	BadSize: "bad size", BadIndex: "bad index", BadLength: "bad proof length", RootMismatch: "root mismatch",
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Error is what this package returns for a refusal. Errors of a Reader are passed on
// wrapped and are of no Kind.
type Error struct {
	Kind   Kind
	Detail string // the values that disagree
}

func (e *Error) Error() string { return fmt.Sprintf("log: %s: %s", e.Kind, e.Detail) }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func refuse(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

// LeafHash is SHA-256(0x00 ‖ data) (RFC 6962, section 2.1).
func LeafHash(data []byte) types.Hash {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(data)
	return types.Hash(h.Sum(nil))
}

// inner is SHA-256(0x01 ‖ left ‖ right) (RFC 6962, section 2.1).
func inner(left, right types.Hash) types.Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// split is the greatest power of two below n, for n ≥ 2: how many of n leaves are on
// the left of their root.
func split(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// Root is the root of a log of these leaf hashes. That of no leaves is SHA-256("").
func Root(leaves []types.Hash) types.Hash { return Frontier{}.Append(leaves...).Root() }

// Frontier is a log reduced to its size and the roots of its complete subtrees, at most 62
// hashes: what is needed to append and to know the root. The zero Frontier is that of
// the empty log. A Frontier is a value and never changes: copies are independent.
type Frontier struct {
	size  uint64
	peaks []types.Hash // greatest subtree first: one for each bit set in size
}

// Size is how many leaves the log has.
func (f Frontier) Size() uint64 { return f.size }

// Append is the frontier after these leaf hashes were added behind the others. A log
// that would pass MaxSize is a bug of the caller, and panics.
func (f Frontier) Append(leaves ...types.Hash) Frontier {
	if uint64(len(leaves)) > MaxSize-f.size {
		panic(fmt.Sprintf("log: append %d leaves to %d", len(leaves), f.size))
	}
	peaks := make([]types.Hash, len(f.peaks), len(f.peaks)+bits.Len(uint(len(leaves)))+1)
	copy(peaks, f.peaks)
	for _, h := range leaves {
		for s := f.size; s&1 == 1; s >>= 1 {
			h = inner(peaks[len(peaks)-1], h)
			peaks = peaks[:len(peaks)-1]
		}
		peaks = append(peaks, h)
		f.size++
	}
	return Frontier{f.size, peaks}
}

// Tail is the frontier of a log of those leaves alone that are behind the last multiple of 2^level.
func (f Frontier) Tail(level uint8) Frontier {
	n := f.size & (1<<level - 1)
	return Frontier{n, f.peaks[len(f.peaks)-bits.OnesCount64(n):]}
}

// Root is the root of the log.
func (f Frontier) Root() types.Hash {
	if f.size == 0 {
		return sha256.Sum256(nil)
	}
	h := f.peaks[len(f.peaks)-1]
	for i := len(f.peaks) - 2; i >= 0; i-- {
		h = inner(f.peaks[i], h)
	}
	return h
}

// Encode is the frontier's bytes: the size in eight, then the hashes, whose number the
// size tells.
func (f Frontier) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 8+32*len(f.peaks)))
	e.U64(f.size)
	for _, h := range f.peaks {
		e.Hash(h)
	}
	return e.Data()
}

// DecodeFrontier reads a frontier. Its errors are types.DecodeError.
func DecodeFrontier(data []byte) (Frontier, error) {
	d := types.NewDecoder("frontier", data)
	f := ReadFrontier(d)
	if err := d.Finish(); err != nil {
		return Frontier{}, err
	}
	return f, nil
}

// ReadFrontier reads a frontier that is part of something larger.
func ReadFrontier(d *types.Decoder) Frontier {
	size := d.U64("size")
	if size > MaxSize {
		d.Fail(types.NotCanonical, "size")
		return Frontier{}
	}
	return Frontier{size, readHashes(d, "peaks", bits.OnesCount64(size))}
}

// readHashes reads n hashes; none give nil.
func readHashes(d *types.Decoder, what string, n int) []types.Hash {
	b := d.Take(what, 32*n)
	if len(b) == 0 {
		return nil
	}
	hashes := make([]types.Hash, n)
	for i := range hashes {
		copy(hashes[i][:], b[32*i:])
	}
	return hashes
}

// Path is a proof: hashes from the leaf upward, in the order of RFC 6962, sections
// 2.1.1 and 2.1.2.
type Path []types.Hash

// Encode is the path's bytes: a count in one, then the hashes.
func (p Path) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 1+32*len(p)))
	e.Count8(len(p))
	for _, h := range p {
		e.Hash(h)
	}
	return e.Data()
}

// DecodePath reads a path. Its errors are types.DecodeError.
func DecodePath(data []byte) (Path, error) {
	d := types.NewDecoder("path", data)
	p := ReadPath(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// ReadPath reads a path, of at most MaxPath hashes, that is part of something larger.
func ReadPath(d *types.Decoder) Path {
	n := d.U8("count")
	if n > MaxPath {
		d.Fail(types.TooLong, "count")
		return nil
	}
	return readHashes(d, "hashes", int(n))
}
