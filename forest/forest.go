// Package forest is the tree of outputs: a Merkle tree over positions 0 … n−1, where
// positions are only ever added at the end, and the leaf at a position may be replaced (an
// output is spent). It gives the root after a batch of both, and proves the leaf at a position.
//
// It is pure: it reads stored nodes through Reader, and gives back the nodes to write. That a leaf
// is replaced only once, and what it says, is for its caller.
//
// The shape is that of RFC 6962, section 2.1 (drawn in package tlog): n leaves split at the
// greatest power of two below n, and the right edge is folded upward. What is stored are the
// complete subtrees, named by level and index: node level/index covers the positions
// [index·2^level, (index+1)·2^level), and is never moved, only rewritten.
//
//	leaf   as the caller gives it: a tagged hash of the record
//	inner  tagged "charter/forest"(left ‖ right)
//	root   of no leaves: the zero hash; of one: the leaf
//
// A root binds its leaves only together with its size: both stand in each checkpoint. With the size known, the
// length of a path is known, and no inner node can be passed off as a leaf.
package forest

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"charter/types"
)

// MaxSize is the greatest number of positions. It keeps all arithmetic on sizes and positions
// within 64 bits.
const MaxSize = 1 << 62

// top is above every level.
const top = 63

// MaxProof is the greatest length of a proof, in hashes.
const MaxProof = 62

// Kind says why a proof or a request is refused.
type Kind uint8

const (
	// BadSize: the size is above MaxSize.
	BadSize Kind = iota + 1
	// BadIndex: the position is not below the size.
	BadIndex
	// Repeated: a batch changes a position twice.
	Repeated
	// BadLength: the proof is longer or shorter than the one length it can have.
	BadLength
	// RootMismatch: the proof leads to another root.
	RootMismatch
)

var kinds = map[Kind]string{
	BadSize: "bad size", BadIndex: "bad index", Repeated: "repeated index",
	BadLength: "bad proof length", RootMismatch: "root mismatch",
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Error is what this package returns for a refusal. Errors of a Reader are passed on wrapped and
// are of no Kind.
type Error struct {
	Kind   Kind
	Detail string // the values that disagree
}

func (e *Error) Error() string { return fmt.Sprintf("forest: %s: %s", e.Kind, e.Detail) }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func refuse(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

var tagInner = types.NewTag("charter/forest")

func inner(left, right types.Hash) types.Hash { return tagInner.Hash(left[:], right[:]) }

// Reader reads stored nodes. It is asked only for complete subtrees of the size that is
// given along with it.
type Reader interface {
	// Node is the root of the complete subtree over positions [index·2^level, (index+1)·2^level).
	Node(level uint8, index uint64) (types.Hash, error)
}

func read(r Reader, level uint8, index uint64) (types.Hash, error) {
	h, err := r.Node(level, index)
	if err != nil {
		return types.Hash{}, fmt.Errorf("forest: read node %d/%d: %w", level, index, err)
	}
	return h, nil
}

// Change is a leaf that takes the place of the one at Index.
type Change struct {
	Index uint64
	Leaf  types.Hash
}

// NodeWrite is a node to be stored, in place of the one of its level and index if there is one.
type NodeWrite struct {
	Level uint8
	Index uint64
	Hash  types.Hash
}

// Result is what became of the tree.
type Result struct {
	Size   uint64
	Root   types.Hash
	Writes []NodeWrite // leaves included, ascending by level and index
}

// Update replaces leaves of a stored tree of size positions and adds leaves behind them. The
// changes may come in any order, and name each position once; they cannot reach the leaves added
// by the same batch. Each node above them is hashed once, and each sibling that is missing is read once.
// Errors: BadSize, BadIndex, Repeated.
func Update(r Reader, size uint64, changes []Change, appends []types.Hash) (Result, error) {
	level, err := leaves(size, changes, appends)
	if err != nil {
		return Result{}, err
	}
	var (
		res  = Result{Size: size + uint64(len(appends))}
		tops [64]Change // by level, its last node, where that is written
		have uint64     // a bit for each level that has one
	)
	for l := uint8(0); len(level) > 0; l++ {
		for _, n := range level {
			res.Writes = append(res.Writes, NodeWrite{l, n.Index, n.Leaf})
		}
		tops[l], have = level[len(level)-1], have|1<<l
		if level, err = above(r, res.Size, l, level); err != nil {
			return Result{}, err
		}
	}
	res.Root, err = edge(res.Size, top, func(l uint8, index uint64) (types.Hash, error) {
		if have>>l&1 == 1 && tops[l].Index == index {
			return tops[l].Leaf, nil
		}
		return read(r, l, index)
	})
	return res, err
}

// leaves is the batch as written leaves, ascending.
func leaves(size uint64, changes []Change, appends []types.Hash) ([]Change, error) {
	if size > MaxSize || uint64(len(appends)) > MaxSize-size {
		return nil, refuse(BadSize, "%d positions and %d more, at most %d", size, len(appends), uint64(MaxSize))
	}
	all := make([]Change, 0, len(changes)+len(appends))
	all = append(all, changes...)
	slices.SortFunc(all, func(a, b Change) int {
		if a.Index < b.Index {
			return -1
		}
		return 1
	})
	for i, c := range all {
		if c.Index >= size {
			return nil, refuse(BadIndex, "change of position %d of %d", c.Index, size)
		}
		if i > 0 && c.Index == all[i-1].Index {
			return nil, refuse(Repeated, "two changes of position %d", c.Index)
		}
	}
	for i, h := range appends {
		all = append(all, Change{size + uint64(i), h})
	}
	return all, nil
}

// above is the complete nodes of level l+1 over the written nodes of level l, both ascending. A
// sibling that is not written is old: whatever covers an added leaf is written.
func above(r Reader, size uint64, l uint8, nodes []Change) ([]Change, error) {
	complete := size >> (l + 1) // nodes on level l+1
	up := make([]Change, 0, (len(nodes)+1)/2)
	for i := 0; i < len(nodes); i++ {
		n := nodes[i]
		parent := Change{Index: n.Index / 2}
		if parent.Index >= complete {
			break
		}
		pair := [2]types.Hash{n.Leaf, n.Leaf}
		sibling := n.Index ^ 1
		if i+1 < len(nodes) && nodes[i+1].Index == sibling {
			i++
			pair[1] = nodes[i].Leaf
		} else {
			h, err := read(r, l, sibling)
			if err != nil {
				return nil, err
			}
			pair[sibling&1] = h
		}
		parent.Leaf = inner(pair[0], pair[1])
		up = append(up, parent)
	}
	return up, nil
}

// edge is the right edge of a tree of size positions up to a level: the complete subtrees below that level,
// one for each bit set in size, joined from the right. Of no positions it is the zero hash.
func edge(size uint64, level uint8, node func(level uint8, index uint64) (types.Hash, error)) (types.Hash, error) {
	var folded types.Hash
	for l, first := uint8(0), true; l < level; l++ {
		if size>>l&1 == 0 {
			continue
		}
		h, err := node(l, size>>l-1)
		if err != nil {
			return types.Hash{}, err
		}
		if !first {
			h = inner(h, folded)
		}
		folded, first = h, false
	}
	return folded, nil
}

// Root is the root of a stored tree of size positions.
func Root(r Reader, size uint64) (types.Hash, error) {
	if size > MaxSize {
		return types.Hash{}, refuse(BadSize, "%d positions, at most %d", size, uint64(MaxSize))
	}
	return edge(size, top, func(l uint8, index uint64) (types.Hash, error) { return read(r, l, index) })
}

// Proof is the siblings on the way from a leaf to the root, from the leaf upward.
type Proof []types.Hash

// climb is the shape of the way from a position up: in how many levels it meets the right edge of the
// tree, having a sibling on each, and how many siblings, all on the left, it has after.
func climb(size, index uint64) (meet, after int) {
	meet = bits.Len64(index ^ (size - 1))
	return meet, bits.OnesCount64(index >> meet)
}

// Prove is the proof of the leaf at index of a stored tree of size positions, for Verify.
// Errors: BadSize, BadIndex.
func Prove(r Reader, size, index uint64) (Proof, error) {
	if err := check(size, index); err != nil {
		return nil, err
	}
	meet, after := climb(size, index)
	p := make(Proof, 0, meet+after)
	for l := uint8(0); size>>l > 0; l++ {
		at := index >> l
		var h types.Hash
		var err error
		switch {
		case at&1 == 1:
			h, err = read(r, l, at-1)
		case at+1 < size>>l: // a complete sibling
			h, err = read(r, l, at+1)
		case at+1 == size>>l && size&(1<<l-1) > 0: // the sibling is the edge
			h, err = edge(size, l, func(l uint8, index uint64) (types.Hash, error) { return read(r, l, index) })
		default: // the node has no sibling, and is passed up
			continue
		}
		if err != nil {
			return nil, err
		}
		p = append(p, h)
	}
	return p, nil
}

func check(size, index uint64) error {
	if size > MaxSize {
		return refuse(BadSize, "%d positions, at most %d", size, uint64(MaxSize))
	}
	if index >= size {
		return refuse(BadIndex, "position %d of %d", index, size)
	}
	return nil
}

// Verify checks that the tree of this root and size has leaf at index.
// Errors: BadSize, BadIndex, BadLength, RootMismatch.
func Verify(root types.Hash, size, index uint64, leaf types.Hash, p Proof) error {
	if err := check(size, index); err != nil {
		return err
	}
	meet, after := climb(size, index)
	if len(p) != meet+after {
		return refuse(BadLength, "%d hashes, want %d", len(p), meet+after)
	}
	h := leaf
	for i, sibling := range p {
		if i < meet && index>>i&1 == 0 {
			h = inner(h, sibling)
		} else {
			h = inner(sibling, h)
		}
	}
	if h != root {
		return refuse(RootMismatch, "root is %s, the proof leads to %s", root, h)
	}
	return nil
}

// Encode is the proof's bytes: a count in one, then the hashes.
func (p Proof) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 1+32*len(p)))
	e.Count8(len(p))
	for _, h := range p {
		e.Hash(h)
	}
	return e.Data()
}

// DecodeProof reads a proof. Its errors are types.DecodeError.
func DecodeProof(data []byte) (Proof, error) {
	d := types.NewDecoder("output proof", data)
	p := ReadProof(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// ReadProof reads a proof, of at most MaxProof hashes, that is part of something larger.
func ReadProof(d *types.Decoder) Proof {
	n := int(d.U8("count"))
	if n > MaxProof {
		d.Fail(types.TooLong, "count")
		return nil
	}
	b := d.Take("hashes", 32*n)
	if len(b) == 0 {
		return nil
	}
	p := make(Proof, n)
	for i := range p {
		copy(p[i][:], b[32*i:])
	}
	return p
}

// Memory is a stored tree in memory: by level, its nodes. The zero Memory is the empty tree.
type Memory struct{ levels [][]types.Hash }

// Node is the node, or an error if there is none.
func (m *Memory) Node(level uint8, index uint64) (types.Hash, error) {
	if int(level) >= len(m.levels) || index >= uint64(len(m.levels[level])) {
		return types.Hash{}, fmt.Errorf("no node %d/%d", level, index)
	}
	return m.levels[level][index], nil
}

// Apply stores the nodes of a Result, which must be that of Update on this very tree.
func (m *Memory) Apply(writes []NodeWrite) {
	for _, w := range writes {
		if int(w.Level) == len(m.levels) {
			m.levels = append(m.levels, nil)
		}
		nodes := m.levels[w.Level]
		switch n := uint64(len(nodes)); {
		case w.Index < n:
			nodes[w.Index] = w.Hash
		case w.Index == n:
			m.levels[w.Level] = append(nodes, w.Hash)
		default:
			panic(fmt.Sprintf("forest: write node %d/%d behind %d", w.Level, w.Index, n))
		}
	}
}
