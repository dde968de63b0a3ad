// Package trie is the tree behind keys, names and peers: a map from 32-byte paths to 32-byte values
// that has a root hash, is updated in batches, and proves for any path what its value is, or
// that it has none.
//
// It is pure: it reads stored nodes through Reader, and gives back the nodes to write and to
// delete. A path is a tagged hash of a key, and a value the hash of a record; both are made by the caller
// (paths being hashes, nobody can cheaply make two that share a long prefix, and so a deep trie).
//
// It is a binary Patricia trie: an inner node stands only where paths part. Its prefix is what all
// paths below it have in common; the next bit, 0 or 1, leads left or right. A leaf's prefix
// is its whole path. Here are four paths, of five bits instead of 256, and their nodes by slot:
//
//	               ε  prefix 0              paths   00010  00011  01101  01110
//	        ┌───────┴───────┐
//	   00  prefix 0001  01  prefix 011
//	   ┌────┴────┐      ┌────┴────┐
//	00010      00011  0110       0111
//	leaf       leaf   leaf 01101 leaf 01110
//
// A node is stored under its slot, the prefix of its parent and one bit more (of the root: the
// empty prefix). Nodes and slots follow from the set of paths alone, not from its history.
//
//	leaf   tagged "charter/trie leaf"(path ‖ value)
//	inner  tagged "charter/trie inner"(bits of the prefix, two bytes ‖ prefix, filled with zeros to 32 bytes ‖ left ‖ right)
//	root   of an empty trie: the zero hash
//
// # Why absence is sound
//
// Let R be the root of a trie made by the rules above, and consider a proof that path P has no
// value under R. By collision resistance, the nodes that the verifier hashes its way through are those of that
// trie: tags and fixed lengths keep leaves and inner nodes apart, and an inner node commits to its
// prefix. The verifier takes no prefix from the prover on the way down: each is the beginning of P itself, as
// long as stated, so every node on the way covers P, and P's next bit says which child is next.
// Hence the last node is the one in the slot under which every path that begins like that slot hangs, P
// too if it were there. That node is a leaf of another path, or an inner node whose
// prefix P does not begin with; but all paths in the slot begin with that prefix. So P is not among them.
//
// The prefix must be committed to: a leaf's path may be read off below, but without it a prover could call
// an inner node's prefix what he likes, and hide all that is below it.
package trie

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"charter/types"
)

// PathBits is the length of a path in bits.
const PathBits = 256

// Kind says why a proof, a batch or a stored node is refused.
type Kind uint8

const (
	// RepeatedPath: a batch changes a path twice.
	RepeatedPath Kind = iota + 1
	// BadNode: a stored node cannot stand in the slot it was read from, or is not that of the root given.
	BadNode
	// BadProof: the proof does not have the form of one for this path.
	BadProof
	// RootMismatch: the proof leads to another root.
	RootMismatch
)

var kinds = map[Kind]string{
	RepeatedPath: "repeated path", BadNode: "bad stored node", BadProof: "bad proof", RootMismatch: "root mismatch",
}

// String is the kind in words.
func (k Kind) String() string { return kinds[k] }

// Error is what this package returns for a refusal. Errors of a Reader are passed on wrapped and
// are of no Kind.
type Error struct {
	Kind   Kind
	Detail string // the values that disagree
}

func (e *Error) Error() string { return fmt.Sprintf("trie: %s: %s", e.Kind, e.Detail) }

// IsKind reports whether err is an Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

func refuse(k Kind, format string, args ...any) error {
	return &Error{k, fmt.Sprintf(format, args...)}
}

// Path is the place of a record: a hash of its key. Bit 0 is the highest bit of byte 0.
type Path = [32]byte

func bit(p Path, i uint16) byte { return p[i/8] >> (7 - i%8) & 1 }

// common is how many bits two paths share from the start, 0 to 256.
func common(a, b *Path) uint16 {
	for i := 0; i < 32; i += 8 {
		if d := binary.BigEndian.Uint64(a[i:]) ^ binary.BigEndian.Uint64(b[i:]); d != 0 {
			return uint16(8*i + bits.LeadingZeros64(d))
		}
	}
	return PathBits
}

// compare orders paths from left to right.
func compare(a, b *Path) int {
	if x, y := binary.BigEndian.Uint64(a[:]), binary.BigEndian.Uint64(b[:]); x != y {
		if x < y {
			return -1
		}
		return 1
	}
	return bytes.Compare(a[8:], b[8:])
}

// NodeID is the beginning of paths: it names the slot where a node is stored, and is the prefix
// of a node. The zero NodeID is the empty beginning, the slot of the root.
type NodeID struct {
	Len  uint16 // in bits, at most PathBits
	Bits Path   // zero beyond Len
}

// beginning is the first n bits of a path.
func beginning(p Path, n uint16) NodeID {
	id := NodeID{Len: n}
	copy(id.Bits[:], p[:n/8])
	if n%8 != 0 {
		id.Bits[n/8] = p[n/8] & (0xff << (8 - n%8))
	}
	return id
}

// covers reports whether p begins with id.
func (id NodeID) covers(p Path) bool { return common(&id.Bits, &p) >= id.Len }

// child is id and one bit more.
func (id NodeID) child(b byte) NodeID {
	id.Bits[id.Len/8] |= b << (7 - id.Len%8)
	id.Len++
	return id
}

// Encode is a storage key of 1 to 33 bytes: the bits, a bit 1, and bits 0 to fill the last
// byte. Keys ascend as one walks the trie from left to right, so that what hangs under a slot is one range of keys.
func (id NodeID) Encode() []byte {
	key := make([]byte, id.Len/8+1)
	copy(key, id.Bits[:])
	key[id.Len/8] |= 0x80 >> (id.Len % 8)
	return key
}

// DecodeNodeID reads a storage key. Its errors are types.DecodeError.
func DecodeNodeID(key []byte) (NodeID, error) {
	d := types.NewDecoder("node id", key)
	n := len(key)
	switch {
	case n == 0:
		d.Fail(types.Truncated, "bits")
	case n > 33:
		d.Fail(types.TooLong, "bits")
	case key[n-1] == 0, n == 33 && key[32] != 0x80:
		d.Fail(types.NotCanonical, "bits")
	}
	if err := d.Err(); err != nil {
		return NodeID{}, err
	}
	end := bits.TrailingZeros8(key[n-1])
	id := NodeID{Len: uint16(8*n - 1 - end)}
	if copy(id.Bits[:], key); n < 33 {
		id.Bits[n-1] &^= 1 << end
	}
	return id, nil
}

// String is the bits and their number: "a8/5".
func (id NodeID) String() string { return fmt.Sprintf("%x/%d", id.Bits[:(id.Len+7)/8], id.Len) }

// Compare orders as the storage keys do.
func (id NodeID) Compare(other NodeID) int { return bytes.Compare(id.Encode(), other.Encode()) }

// Node is a leaf or an inner node.
type Node struct {
	Prefix      NodeID     // what all paths below it have in common; a leaf's whole path
	Left, Right types.Hash // of an inner node: its children, by the bit behind Prefix
	Value       types.Hash // of a leaf
}

// Leaf reports whether n is a leaf.
func (n *Node) Leaf() bool { return n.Prefix.Len == PathBits }

var (
	tagLeaf  = types.NewTag("charter/trie leaf")
	tagInner = types.NewTag("charter/trie inner")
)

// Hash is the hash that the node's parent holds, or the root.
func (n *Node) Hash() types.Hash {
	if n.Leaf() {
		return tagLeaf.Hash(n.Prefix.Bits[:], n.Value[:])
	}
	var depth [2]byte
	binary.BigEndian.PutUint16(depth[:], n.Prefix.Len)
	return tagInner.Hash(depth[:], n.Prefix.Bits[:], n.Left[:], n.Right[:])
}

const (
	kindLeaf  = 1
	kindInner = 2
)

// Encode is the node's bytes, as stored: a leaf is 1, path, value; an inner node is 2, the bits of its prefix
// in one byte, the prefix in as many bytes as it needs, left, right.
func (n *Node) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 98))
	if n.Leaf() {
		e.U8(kindLeaf)
		e.Raw(n.Prefix.Bits[:])
		e.Hash(n.Value)
		return e.Data()
	}
	e.U8(kindInner)
	e.U8(uint8(n.Prefix.Len))
	e.Raw(n.Prefix.Bits[:(n.Prefix.Len+7)/8])
	e.Hash(n.Left)
	e.Hash(n.Right)
	return e.Data()
}

// DecodeNode reads a node. Its errors are types.DecodeError.
func DecodeNode(data []byte) (Node, error) {
	d := types.NewDecoder("node", data)
	n := readNode(d)
	if err := d.Finish(); err != nil {
		return Node{}, err
	}
	return n, nil
}

func readNode(d *types.Decoder) (n Node) {
	switch d.U8("kind") {
	case kindLeaf:
		n.Prefix = NodeID{PathBits, d.Hash("path")}
		n.Value = present(d, "value")
	case kindInner:
		n.Prefix.Len = uint16(d.U8("bits"))
		copy(n.Prefix.Bits[:], d.Take("prefix", int(n.Prefix.Len+7)/8))
		if n.Prefix != beginning(n.Prefix.Bits, n.Prefix.Len) {
			d.Fail(types.NotCanonical, "prefix")
		}
		n.Left, n.Right = present(d, "left"), present(d, "right")
	default:
		d.Fail(types.Unknown, "kind")
	}
	return n
}

// present reads a hash that is not "none".
func present(d *types.Decoder, what string) types.Hash {
	h := d.Hash(what)
	if h.IsZero() {
		d.Fail(types.NotCanonical, what)
	}
	return h
}

// Reader reads stored nodes of one version of a trie. It is asked only for slots that hold one.
type Reader interface {
	Node(id NodeID) (Node, error)
}

// load reads the node in a slot, and refuses one that belongs elsewhere: whoever goes down ends.
func load(r Reader, slot NodeID) (Node, error) {
	n, err := r.Node(slot)
	if err != nil {
		return Node{}, fmt.Errorf("trie: read node %s: %w", slot, err)
	}
	if n.Prefix.Len < slot.Len || n.Prefix.Len > PathBits || !slot.covers(n.Prefix.Bits) {
		return Node{}, refuse(BadNode, "slot %s holds a node of prefix %s", slot, n.Prefix)
	}
	return n, nil
}

// loadRoot is load, of the root, which must have the hash given: nobody works on another version than
// he thinks.
func loadRoot(r Reader, root types.Hash) (Node, error) {
	n, err := load(r, NodeID{})
	if err != nil {
		return Node{}, err
	}
	if h := n.Hash(); h != root {
		return Node{}, refuse(BadNode, "the stored root is %s, want %s", h, root)
	}
	return n, nil
}

// walk goes from the root toward a path: way is the inner nodes that cover it, and end the node after
// them, a leaf or one that does not cover it; nil in an empty trie.
func walk(r Reader, root types.Hash, path Path) (way []Node, end *Node, err error) {
	if root.IsZero() {
		return nil, nil, nil
	}
	if pages, ok := r.(PageReader); ok {
		return walkPages(pages, root, path)
	}
	n, err := loadRoot(r, root)
	for err == nil && !n.Leaf() && n.Prefix.covers(path) {
		way = append(way, n)
		n, err = load(r, n.Prefix.child(bit(path, n.Prefix.Len)))
	}
	if err != nil {
		return nil, nil, err
	}
	return way, &n, nil
}

// Get is the value of a path, and whether it has one.
func Get(r Reader, root types.Hash, path Path) (value types.Hash, present bool, err error) {
	if pages, ok := r.(PageReader); ok && !root.IsZero() {
		return getPages(pages, root, &path)
	}
	_, end, err := walk(r, root, path)
	if err != nil || end == nil || end.Prefix != (NodeID{PathBits, path}) {
		return types.Hash{}, false, err
	}
	return end.Value, true, nil
}

// Memory is a stored trie in memory. The zero Memory is the empty trie.
type Memory struct{ nodes map[NodeID]Node }

// Node is the node, or an error if there is none.
func (m *Memory) Node(id NodeID) (Node, error) {
	n, ok := m.nodes[id]
	if !ok {
		return Node{}, fmt.Errorf("no node in slot %s", id)
	}
	return n, nil
}

// Len is how many nodes there are: of n paths, 2n−1.
func (m *Memory) Len() int { return len(m.nodes) }

// Apply stores the nodes of a Result, which must be that of Update on this very trie.
func (m *Memory) Apply(res Result) {
	if m.nodes == nil {
		m.nodes = make(map[NodeID]Node, len(res.Writes))
	}
	for _, id := range res.Deletes {
		delete(m.nodes, id)
	}
	for _, w := range res.Writes {
		m.nodes[w.ID] = w.Node
	}
}
