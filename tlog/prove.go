package tlog

import (
	"fmt"
	"math/bits"
	"slices"

	"charter/types"
)

// Reader reads the stored form of a log. It is asked only for complete subtrees of
// the size that is given along with it.
type Reader interface {
	// Node is the root of the complete subtree over leaves [index·2^level, (index+1)·2^level).
	Node(level uint8, index uint64) (types.Hash, error)
}

// NodeWrite is a node to be stored.
type NodeWrite struct {
	Level uint8
	Index uint64
	Hash  types.Hash
}

// Result is what became of a stored log.
type Result struct {
	Size   uint64
	Root   types.Hash
	Writes []NodeWrite // new nodes, leaves included, ascending by level and index; none was there before
}

// Append puts leaf hashes behind the size leaves of a stored log. It reads at most two
// nodes per level.
func Append(r Reader, size uint64, leaves []types.Hash) (Result, error) {
	if size > MaxSize || uint64(len(leaves)) > MaxSize-size {
		return Result{}, refuse(BadSize, "%d leaves and %d more, at most %d", size, len(leaves), uint64(MaxSize))
	}
	var (
		res   = Result{Size: size + uint64(len(leaves)), Writes: make([]NodeWrite, 0, 2*len(leaves)+64)}
		fresh [64]*types.Hash // by level, the last node of it, where that is new
	)
	for level, first := uint8(0), size; len(leaves) > 0; level, first = level+1, first>>1 {
		for i, h := range leaves {
			res.Writes = append(res.Writes, NodeWrite{level, first + uint64(i), h})
		}
		fresh[level] = &leaves[len(leaves)-1]
		if first&1 == 1 {
			left, err := read(r, level, first-1)
			if err != nil {
				return Result{}, err
			}
			leaves = append([]types.Hash{left}, leaves...)
		}
		above := make([]types.Hash, len(leaves)/2)
		for i := range above {
			above[i] = inner(leaves[2*i], leaves[2*i+1])
		}
		leaves = above
	}
	f, err := frontier(res.Size, func(level uint8, index uint64) (types.Hash, error) {
		if fresh[level] != nil {
			return *fresh[level], nil
		}
		return read(r, level, index)
	})
	res.Root = f.Root()
	return res, err
}

func read(r Reader, level uint8, index uint64) (types.Hash, error) {
	h, err := r.Node(level, index)
	if err != nil {
		return types.Hash{}, fmt.Errorf("log: read node %d/%d: %w", level, index, err)
	}
	return h, nil
}

// FrontierAt is the frontier of the first size leaves of a stored log: with the leaves behind
// them it is the proof that VerifySuffix takes.
func FrontierAt(r Reader, size uint64) (Frontier, error) {
	if size > MaxSize {
		return Frontier{}, refuse(BadSize, "%d leaves, at most %d", size, uint64(MaxSize))
	}
	return frontier(size, func(level uint8, index uint64) (types.Hash, error) { return read(r, level, index) })
}

func frontier(size uint64, node func(uint8, uint64) (types.Hash, error)) (Frontier, error) {
	f := Frontier{size: size}
	for level := bits.Len64(size) - 1; level >= 0; level-- {
		if size>>level&1 == 0 {
			continue
		}
		h, err := node(uint8(level), size>>level-1)
		if err != nil {
			return Frontier{}, err
		}
		f.peaks = append(f.peaks, h)
	}
	return f, nil
}

// subtree gives the hash over the n leaves from lo on: a complete subtree, or the right
// edge of one.
type subtree func(lo, n uint64) (types.Hash, error)

// stored is the subtrees of a stored log.
func stored(r Reader) subtree {
	var at subtree
	at = func(lo, n uint64) (types.Hash, error) {
		if n&(n-1) == 0 {
			level := bits.TrailingZeros64(n)
			return read(r, uint8(level), lo>>level)
		}
		k := split(n)
		left, err := at(lo, k)
		if err != nil {
			return types.Hash{}, err
		}
		right, err := at(lo+k, n-k)
		return inner(left, right), err
	}
	return at
}

// inMemory is the subtrees of a log given by its leaf hashes.
func inMemory(leaves []types.Hash) subtree {
	return func(lo, n uint64) (types.Hash, error) { return Root(leaves[lo : lo+n]), nil }
}

// ProveInclusion is the proof that a stored log of size leaves has at index the leaf that
// it has there, for VerifyInclusion.
func ProveInclusion(r Reader, size, index uint64) (Path, error) {
	return inclusion(stored(r), size, index)
}

// ProveConsistency is the proof that the stored log of size new begins with the one of size
// old, for VerifyConsistency.
func ProveConsistency(r Reader, old, new uint64) (Path, error) {
	return consistency(stored(r), old, new)
}

// InclusionOf is ProveInclusion for a log given by its leaf hashes. It hashes all of them.
func InclusionOf(leaves []types.Hash, index uint64) (Path, error) {
	return inclusion(inMemory(leaves), uint64(len(leaves)), index)
}

// ConsistencyOf is ProveConsistency, from size old to all, for a log given by its leaf hashes.
func ConsistencyOf(leaves []types.Hash, old uint64) (Path, error) {
	return consistency(inMemory(leaves), old, uint64(len(leaves)))
}

// inclusion is PATH(m, D[n]) of RFC 6962, section 2.1.1.
func inclusion(at subtree, size, index uint64) (Path, error) {
	if err := checkIndex(size, index); err != nil {
		return nil, err
	}
	return climbFrom(at, size, index, 1)
}

// climbFrom is the path from the subtree at first over width leaves, or as many as there are, gone through from the
// root down.
func climbFrom(at subtree, size, first, width uint64) (Path, error) {
	var path Path
	for lo, n := uint64(0), size; n > width; {
		k := split(n)
		sibling, size := lo+k, n-k
		if first-lo < k {
			n = k
		} else {
			sibling, size, lo, n = lo, k, lo+k, n-k
		}
		h, err := at(sibling, size)
		if err != nil {
			return nil, err
		}
		path = append(path, h)
	}
	slices.Reverse(path)
	return path, nil
}

// consistency is PROOF(m, D[n]) of RFC 6962, section 2.1.2, gone through from the root down.
// From the empty log it is empty.
func consistency(at subtree, old, new uint64) (Path, error) {
	if old > new || new > MaxSize {
		return nil, refuse(BadSize, "from %d leaves to %d", old, new)
	}
	if old == 0 {
		return nil, nil
	}
	var path Path
	lo, n := uint64(0), new
	for lo+n != old {
		k := split(n)
		sibling, size := lo+k, n-k
		if old-lo <= k {
			n = k
		} else {
			sibling, size, lo, n = lo, k, lo+k, n-k
		}
		h, err := at(sibling, size)
		if err != nil {
			return nil, err
		}
		path = append(path, h)
	}
	if lo > 0 { // else the verifier has this hash: it is the old root
		h, err := at(lo, n)
		if err != nil {
			return nil, err
		}
		path = append(path, h)
	}
	slices.Reverse(path)
	return path, nil
}

// Memory is a stored log in memory: by level, its nodes. The zero Memory is the empty log.
type Memory struct{ levels [][]types.Hash }

// Node is the node, or an error if there is none.
func (m *Memory) Node(level uint8, index uint64) (types.Hash, error) {
	if int(level) >= len(m.levels) || index >= uint64(len(m.levels[level])) {
		return types.Hash{}, fmt.Errorf("no node %d/%d", level, index)
	}
	return m.levels[level][index], nil
}

// Apply stores the nodes of a Result, which must be that of Append to this very log.
func (m *Memory) Apply(writes []NodeWrite) {
	for _, w := range writes {
		if int(w.Level) == len(m.levels) {
			m.levels = append(m.levels, nil)
		}
		if uint64(len(m.levels[w.Level])) != w.Index {
			panic(fmt.Sprintf("log: write node %d/%d behind %d", w.Level, w.Index, len(m.levels[w.Level])))
		}
		m.levels[w.Level] = append(m.levels[w.Level], w.Hash)
	}
}
