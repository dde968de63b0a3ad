package tlog

import (
	"math/bits"
	"slices"

	"charter/types"
)

// A range is the leaves [first, first+2^level) of a log, first being a multiple of 2^level, or as many of them as the
// log has. Ranges of one level are the leaves of a tree of the same shape as the log's own, so a path leads from
// one to the log's root as it would from a leaf.

// ProveRange is the proof of what a stored log of size leaves has in a range, for VerifyRange.
// Errors: BadSize, BadIndex.
func ProveRange(r Reader, size, first uint64, level uint8) (Path, error) {
	if err := checkRange(size, first, level); err != nil {
		return nil, err
	}
	return climbFrom(stored(r), size, first, 1<<level)
}

// RangeOf is ProveRange for a log given by its leaf hashes. It hashes all of them.
func RangeOf(leaves []types.Hash, first uint64, level uint8) (Path, error) {
	if err := checkRange(uint64(len(leaves)), first, level); err != nil {
		return nil, err
	}
	return climbFrom(inMemory(leaves), uint64(len(leaves)), first, 1<<level)
}

func checkRange(size, first uint64, level uint8) error {
	if level > 61 || first&(1<<level-1) != 0 {
		return refuse(BadIndex, "no range of 2^%d leaves starts at %d", level, first)
	}
	return checkIndex(size, first)
}

// VerifyRange checks that these leaf hashes are all that the log of this root and size has in a range. It gives the
// log as it is before the range: with the last range's leaves appended, that is the frontier of all of it.
// Errors: BadSize, BadIndex, BadLength, RootMismatch.
func VerifyRange(root types.Hash, size, first uint64, level uint8, leaves []types.Hash, path Path) (before Frontier, err error) {
	if err := checkRange(size, first, level); err != nil {
		return Frontier{}, err
	}
	if want := min(1<<level, size-first); uint64(len(leaves)) != want {
		return Frontier{}, refuse(BadSize, "%d leaves from %d on, want %d", len(leaves), first, want)
	}
	index, last := first>>level, (size-1)>>level
	if err := checkLength(path, climb(index, last)); err != nil {
		return Frontier{}, err
	}
	got, _ := fold(Root(leaves), index, last, path)
	if err := checkRoot("root", got, root); err != nil {
		return Frontier{}, err
	}
	before.size = first
	meet := bits.Len64(index ^ last)
	for i, h := range path { // what is on the left are complete subtrees, the peaks of what is before
		if i >= meet || index>>i&1 == 1 {
			before.peaks = append(before.peaks, h)
		}
	}
	slices.Reverse(before.peaks)
	return before, nil
}
