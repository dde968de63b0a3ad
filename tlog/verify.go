package tlog

import (
	"math/bits"

	"charter/types"
)

func checkIndex(size, index uint64) error {
	if size > MaxSize {
		return refuse(BadSize, "%d leaves, at most %d", size, uint64(MaxSize))
	}
	if index >= size {
		return refuse(BadIndex, "leaf %d of %d", index, size)
	}
	return nil
}

// VerifyInclusion checks that the log of this root and size has leaf (a leaf hash) at index. Root and
// size must come together from whoever is trusted: a root alone does not bind a size.
// Errors: BadSize, BadIndex, BadLength, RootMismatch.
func VerifyInclusion(root types.Hash, size, index uint64, leaf types.Hash, path Path) error {
	if err := checkIndex(size, index); err != nil {
		return err
	}
	if err := checkLength(path, climb(index, size-1)); err != nil {
		return err
	}
	got, _ := fold(leaf, index, size-1, path)
	return checkRoot("root", got, root)
}

// VerifyConsistency checks that the log of newSize and newRoot begins with the one of oldSize and
// oldRoot. The empty log begins every log, with an empty path.
// Errors: BadSize, BadLength, RootMismatch.
func VerifyConsistency(oldSize uint64, oldRoot types.Hash, newSize uint64, newRoot types.Hash, path Path) error {
	switch {
	case oldSize > newSize || newSize > MaxSize:
		return refuse(BadSize, "from %d leaves to %d", oldSize, newSize)
	case oldSize == 0:
		if err := checkRoot("old root", Frontier{}.Root(), oldRoot); err != nil {
			return err
		}
		if newSize == 0 {
			return checkEqual(oldRoot, newRoot, path)
		}
		return checkLength(path, 0)
	case oldSize == newSize:
		return checkEqual(oldRoot, newRoot, path)
	}
	// The last complete subtree of the old log is in both. From it the path leads to the new
	// root; its left siblings alone lead to the old one. The subtree's hash opens the path,
	// unless it is all of the old log.
	level := bits.TrailingZeros64(oldSize)
	index, last := (oldSize-1)>>level, (newSize-1)>>level
	length, seed := climb(index, last), oldRoot
	if index > 0 {
		length++
	}
	if err := checkLength(path, length); err != nil {
		return err
	}
	if index > 0 {
		seed, path = path[0], path[1:]
	}
	gotNew, gotOld := fold(seed, index, last, path)
	if err := checkRoot("old root", gotOld, oldRoot); err != nil {
		return err
	}
	return checkRoot("new root", gotNew, newRoot)
}

// VerifySuffix checks that the log of this root and size is the log of prefix with these leaf
// hashes behind it: that they are its latest, none left out. It hashes all of them.
// Errors: BadSize, RootMismatch.
func VerifySuffix(root types.Hash, size uint64, prefix Frontier, leaves []types.Hash) error {
	if size > MaxSize || prefix.size > size || size-prefix.size != uint64(len(leaves)) {
		return refuse(BadSize, "%d leaves behind %d, want %d in all", len(leaves), prefix.size, size)
	}
	return checkRoot("root", prefix.Append(leaves...).Root(), root)
}

// climb is how many siblings a node has on its way to the root, on a level whose last node, perhaps
// not complete, is last: one per level until it meets the right edge, and then
// one for each bit set, because where the edge has no sibling it is passed up as it is.
func climb(index, last uint64) int {
	meet := bits.Len64(index ^ last)
	return meet + bits.OnesCount64(index>>meet)
}

// fold climbs with a path of the right length: with all siblings, and with the left ones alone.
func fold(h types.Hash, index, last uint64, path Path) (all, left types.Hash) {
	meet := bits.Len64(index ^ last)
	all, left = h, h
	for i, p := range path {
		if i < meet && index>>i&1 == 0 {
			all = inner(all, p)
		} else {
			all, left = inner(p, all), inner(p, left)
		}
	}
	return all, left
}

func checkLength(path Path, want int) error {
	if len(path) != want {
		return refuse(BadLength, "%d hashes, want %d", len(path), want)
	}
	return nil
}

func checkRoot(what string, got, want types.Hash) error {
	if got != want {
		return refuse(RootMismatch, "%s is %s, the proof leads to %s", what, want, got)
	}
	return nil
}

func checkEqual(oldRoot, newRoot types.Hash, path Path) error {
	if err := checkLength(path, 0); err != nil {
		return err
	}
	return checkRoot("new root", oldRoot, newRoot)
}
