package trie

import (
	"slices"
	"sort"

	"charter/types"
)

// Change gives a path a value, in place of the one that it has, if any. The zero Value
// takes the path out, if it is there.
type Change struct {
	Path  Path
	Value types.Hash
}

// NodeWrite is a node to be stored in slot ID, in place of the one there, if any.
type NodeWrite struct {
	ID   NodeID
	Node Node
}

// Result is what became of a trie.
type Result struct {
	Root    types.Hash
	Writes  []NodeWrite // children before parents, no slot twice
	Deletes []NodeID    // slots that hold no node any more, ascending; none is among Writes

	// In place of Writes and Deletes if the Reader is a PageReader:
	Pages   []PageWrite // no slot twice
	Changes []Change    // what was applied, ascending by path
	Hashes  int         // how many nodes were hashed
}

// Update applies a batch to a stored trie of this root. The changes may come in any order, and each path
// may be named once. The result depends only on the paths and values there are after it: what is given the
// value that it has, or taken out where it is not, costs a read and writes nothing. Each node that
// changes is read once and hashed once.
// Errors: RepeatedPath, BadNode.
func Update(r Reader, root types.Hash, changes []Change) (Result, error) {
	changes = slices.Clone(changes)
	slices.SortFunc(changes, func(a, b Change) int { return compare(&a.Path, &b.Path) })
	for i := range changes[min(1, len(changes)):] {
		if changes[i].Path == changes[i+1].Path {
			return Result{}, refuse(RepeatedPath, "%x", changes[i].Path)
		}
	}
	if pages, ok := r.(PageReader); ok {
		return updatePages(pages, root, changes)
	}
	b := batch{r: r, vacated: map[NodeID]bool{}}
	old := subtree{hash: root, stored: !root.IsZero()}
	if old.stored && len(changes) > 0 {
		n, err := loadRoot(r, root)
		if err != nil {
			return Result{}, err
		}
		old.node = &n
	}
	top, err := b.merge(old, changes)
	if err != nil {
		return Result{}, err
	}
	if err := b.place(top, NodeID{}); err != nil {
		return Result{}, err
	}
	return b.result(top.hash), nil
}

// batch is one Update at work. It goes down the old trie and the sorted changes together, and on the way up
// makes the new nodes. Only a parent knows the slot of a child, so each writes its children.
type batch struct {
	r       Reader
	placed  []placed
	vacated map[NodeID]bool // slots whose node went away or moved; another may have come
}

// placed is a node that is to be written to the slot that is the first bits of its prefix.
type placed struct {
	slot uint16
	node *Node
}

// subtree is a part of the new trie that is not in its place yet. The zero subtree is empty.
type subtree struct {
	hash    types.Hash
	node    *Node  // its top; nil if nobody had to read it
	stored  bool   // slot `at` holds its top, as it is now or as it was before the batch
	at      NodeID // where stored
	changed bool   // the top is not as it was
}

func (s *subtree) empty() bool { return s.hash.IsZero() }

func made(n Node) subtree { return subtree{hash: n.Hash(), node: &n, changed: true} }

// merge is what becomes of the old subtree with the changes, which are sorted and all belong in the
// slot that it hangs in.
func (b *batch) merge(old subtree, changes []Change) (subtree, error) {
	if len(changes) == 0 {
		return old, nil
	}
	if old.empty() {
		return b.build(changes)
	}
	if err := b.load(&old); err != nil {
		return subtree{}, err
	}
	p := old.node.Prefix
	// Sorted, the first or the last strays furthest from p.
	shared := min(common(&p.Bits, &changes[0].Path), common(&p.Bits, &changes[len(changes)-1].Path))
	switch {
	case shared < p.Len:
		return b.beside(old, shared, changes)
	case old.node.Leaf():
		return b.replace(old, changes[0].Value), nil
	default:
		return b.inside(old, changes)
	}
}

// beside merges changes some of which part from the old subtree's prefix, the first at bit depth.
func (b *batch) beside(old subtree, depth uint16, changes []Change) (subtree, error) {
	prefix := old.node.Prefix.Bits
	zeros, ones := part(changes, depth)
	both := [2]subtree{}
	for side, changes := range [2][]Change{zeros, ones} {
		var err error
		if byte(side) == bit(prefix, depth) {
			both[side], err = b.merge(old, changes)
		} else {
			both[side], err = b.build(changes)
		}
		if err != nil {
			return subtree{}, err
		}
	}
	return b.join(beginning(prefix, depth), both[0], both[1])
}

// replace gives an old leaf another value, or none.
func (b *batch) replace(old subtree, value types.Hash) subtree {
	if value == old.node.Value {
		return old
	}
	if value.IsZero() {
		b.vacate(old)
		return subtree{}
	}
	s := made(Node{Prefix: old.node.Prefix, Value: value})
	s.stored, s.at = old.stored, old.at
	return s
}

// inside merges changes that all belong below the old inner node.
func (b *batch) inside(old subtree, changes []Change) (subtree, error) {
	n := old.node
	zeros, ones := part(changes, n.Prefix.Len)
	left, err := b.merge(subtree{hash: n.Left, stored: true, at: n.Prefix.child(0)}, zeros)
	if err != nil {
		return subtree{}, err
	}
	right, err := b.merge(subtree{hash: n.Right, stored: true, at: n.Prefix.child(1)}, ones)
	if err != nil {
		return subtree{}, err
	}
	if left.hash == n.Left && right.hash == n.Right {
		return old, nil
	}
	if left.empty() || right.empty() {
		b.vacate(old)
		return b.join(n.Prefix, left, right)
	}
	s, err := b.join(n.Prefix, left, right)
	s.stored, s.at = old.stored, old.at
	return s, err
}

// build is the subtree of new paths alone. Changes that take out what is not there go unheeded; nobody
// looks at these changes again, so they may be moved.
func (b *batch) build(changes []Change) (subtree, error) {
	return b.fresh(slices.DeleteFunc(changes, func(c Change) bool { return c.Value.IsZero() }))
}

func (b *batch) fresh(changes []Change) (subtree, error) {
	switch len(changes) {
	case 0:
		return subtree{}, nil
	case 1:
		return made(Node{Prefix: NodeID{PathBits, changes[0].Path}, Value: changes[0].Value}), nil
	}
	path := changes[0].Path
	depth := common(&path, &changes[len(changes)-1].Path)
	zeros, ones := part(changes, depth)
	left, err := b.fresh(zeros)
	if err != nil {
		return subtree{}, err
	}
	right, err := b.fresh(ones)
	if err != nil {
		return subtree{}, err
	}
	return b.join(beginning(path, depth), left, right)
}

// part splits sorted changes that share their first depth bits by the bit behind.
func part(changes []Change, depth uint16) (zeros, ones []Change) {
	i := sort.Search(len(changes), func(i int) bool { return bit(changes[i].Path, depth) == 1 })
	return changes[:i], changes[i:]
}

// join makes the inner node over two subtrees and puts them in their places. Where one is empty there is
// no node to make, and the other is passed up.
func (b *batch) join(prefix NodeID, left, right subtree) (subtree, error) {
	if left.empty() {
		return right, nil
	}
	if right.empty() {
		return left, nil
	}
	if err := b.place(left, prefix.child(0)); err != nil {
		return subtree{}, err
	}
	if err := b.place(right, prefix.child(1)); err != nil {
		return subtree{}, err
	}
	return made(Node{Prefix: prefix, Left: left.hash, Right: right.hash}), nil
}

// place writes the top of a subtree to its slot, unless it stands there already.
func (b *batch) place(s subtree, slot NodeID) error {
	moved := s.stored && s.at != slot
	if s.empty() || !moved && !s.changed {
		return nil
	}
	if err := b.load(&s); err != nil {
		return err
	}
	if moved {
		b.vacate(s)
	}
	b.placed = append(b.placed, placed{slot.Len, s.node})
	return nil
}

func (b *batch) vacate(s subtree) {
	if s.stored {
		b.vacated[s.at] = true
	}
}

func (b *batch) load(s *subtree) error {
	if s.node != nil {
		return nil
	}
	n, err := load(b.r, s.at)
	s.node = &n
	return err
}

// result is what was placed, and the slots that were vacated and got nothing.
func (b *batch) result(root types.Hash) Result {
	res := Result{Root: root, Writes: make([]NodeWrite, len(b.placed))}
	for i, p := range b.placed {
		slot := beginning(p.node.Prefix.Bits, p.slot)
		res.Writes[i] = NodeWrite{slot, *p.node}
		delete(b.vacated, slot)
	}
	for id := range b.vacated {
		res.Deletes = append(res.Deletes, id)
	}
	slices.SortFunc(res.Deletes, NodeID.Compare)
	return res
}
