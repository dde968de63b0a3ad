package trie

import (
	"slices"

	"charter/types"
)

// PageWrite is a page to be stored in slot ID, in place of the one there, if any.
type PageWrite struct {
	ID   NodeID
	Page *Page
}

// pager is one Update of a trie in pages. It goes down the pages and the sorted changes together,
// making of each node that it passes a piece, and on the way up the new hashes; then it parts
// the pieces that changed into pages.
type pager struct {
	r       PageReader
	slab    []piece         // pieces are made of it by the hundred
	vacated map[NodeID]bool // slots whose page went away or moved; another may have come
	writes  []PageWrite
	nodes   []pageNode // of the page that is being written
}

// piece is a node of the trie that is being made. It is one of three things: closed and far, the top of
// a page nobody has read; closed, node `at` of page src and all that is below it in there; or open.
type piece struct {
	hash    types.Hash
	src     *Page
	at      int
	open    bool
	far     bool // closed, and in a page that was not read
	top     bool // of a page
	changed bool // the node or one below it is not as it is stored; then it is open
	prefix  NodeID
	kids    [2]*piece
	value   types.Hash
}

func (b *pager) piece() *piece {
	if len(b.slab) == 0 {
		b.slab = make([]piece, 256)
	}
	n := &b.slab[0]
	b.slab = b.slab[1:]
	return n
}

func (n *piece) leaf() bool { return n.prefix.Len == PathBits }

func (b *pager) made(prefix NodeID, value types.Hash, left, right *piece) *piece {
	n := b.piece()
	n.prefix, n.value, n.kids = prefix, value, [2]*piece{left, right}
	n.open = true
	n.rehash()
	return n
}

// rehash is for a node that changed.
func (n *piece) rehash() {
	n.changed = true
	whole := Node{Prefix: n.prefix, Value: n.value}
	if !n.leaf() {
		whole.Left, whole.Right = n.kids[0].hash, n.kids[1].hash
	}
	n.hash = whole.Hash()
}

// updatePages is Update of sorted changes, of which no two have a path in common.
func updatePages(r PageReader, root types.Hash, changes []Change) (Result, error) {
	b := pager{r: r, vacated: map[NodeID]bool{}}
	var old *piece
	if !root.IsZero() {
		old = b.piece()
		old.hash, old.far, old.top = root, true, true
	}
	n, err := b.merge(old, NodeID{}, changes)
	if err != nil {
		return Result{}, err
	}
	res := Result{}
	if n != nil {
		res.Root, n.top = n.hash, true
		b.settle(n, NodeID{})
	}
	res.Pages = b.writes
	for _, w := range b.writes {
		delete(b.vacated, w.ID)
	}
	for id := range b.vacated {
		res.Deletes = append(res.Deletes, id)
	}
	slices.SortFunc(res.Deletes, NodeID.Compare)
	return res, nil
}

// unfold opens a closed node.
func (b *pager) unfold(n *piece, slot NodeID) error {
	if n.open {
		return nil
	}
	if n.far {
		p, err := loadPage(b.r, slot, n.hash)
		if err != nil {
			return err
		}
		n.src, n.at, n.far, n.top = p, 0, false, true
	}
	from := &n.src.nodes[n.at]
	n.open, n.prefix = true, NodeID{from.len, from.prefix}
	if n.leaf() {
		n.value = from.kids[0]
		return nil
	}
	for side, far := range from.far {
		k := b.piece()
		if k.hash, k.far = from.kids[side], far; !far {
			k.src, k.at = n.src, n.src.child(n.at, byte(side))
		}
		n.kids[side] = k
	}
	return nil
}

// merge is what becomes of the old node in a slot, nil if there is none, with the changes, which are
// sorted and all belong there.
func (b *pager) merge(old *piece, slot NodeID, changes []Change) (*piece, error) {
	if len(changes) == 0 {
		return old, nil
	}
	if old == nil {
		return b.build(changes), nil
	}
	if err := b.unfold(old, slot); err != nil {
		return nil, err
	}
	p := old.prefix
	// Sorted, the first or the last strays furthest from p.
	shared := min(common(p.Bits, changes[0].Path), common(p.Bits, changes[len(changes)-1].Path))
	switch {
	case shared < p.Len:
		return b.beside(old, slot, shared, changes)
	case old.leaf():
		return b.replace(old, slot, changes[0].Value), nil
	default:
		return b.inside(old, slot, changes)
	}
}

// beside merges changes some of which part from the old node's prefix, the first at bit depth. What
// comes to stand in the slot is the top of the page there, if the old node was.
func (b *pager) beside(old *piece, slot NodeID, depth uint16, changes []Change) (*piece, error) {
	prefix, top := old.prefix.Bits, old.top
	zeros, ones := part(changes, depth)
	old.top = false
	both := [2]*piece{}
	for side, changes := range [2][]Change{zeros, ones} {
		var err error
		if byte(side) == bit(prefix, depth) {
			both[side], err = b.merge(old, slot, changes)
		} else {
			both[side] = b.build(changes)
		}
		if err != nil {
			return nil, err
		}
	}
	n := both[0]
	switch {
	case both[0] == nil:
		n = both[1]
	case both[1] != nil:
		n = b.made(beginning(prefix, depth), types.Hash{}, both[0], both[1])
	}
	return b.stands(n, slot, top), nil
}

// stands puts a node in the place of another, that was the top of the slot's page or was not.
func (b *pager) stands(n *piece, slot NodeID, top bool) *piece {
	if n != nil {
		n.top = top
	} else if top {
		b.vacated[slot] = true
	}
	return n
}

// replace gives an old leaf another value, or none.
func (b *pager) replace(old *piece, slot NodeID, value types.Hash) *piece {
	switch {
	case value == old.value:
		return old
	case value.IsZero():
		return b.stands(nil, slot, old.top)
	}
	old.value = value
	old.rehash()
	return old
}

// inside merges changes that all belong below the old inner node.
func (b *pager) inside(old *piece, slot NodeID, changes []Change) (*piece, error) {
	zeros, ones := part(changes, old.prefix.Len)
	var kids [2]*piece
	for side, changes := range [2][]Change{zeros, ones} {
		var err error
		if kids[side], err = b.merge(old.kids[side], old.prefix.child(byte(side)), changes); err != nil {
			return nil, err
		}
	}
	switch {
	case kids[0] == nil && kids[1] == nil:
		return b.stands(nil, slot, old.top), nil
	case kids[0] == nil:
		return b.passUp(kids[1], old.prefix.child(1), slot, old.top)
	case kids[1] == nil:
		return b.passUp(kids[0], old.prefix.child(0), slot, old.top)
	case !kids[0].changed && !kids[1].changed:
		return old, nil
	}
	old.kids = kids
	old.rehash()
	return old, nil
}

// passUp puts a node, from one slot, in the place of its parent, in another.
func (b *pager) passUp(n *piece, from, slot NodeID, top bool) (*piece, error) {
	if err := b.unfold(n, from); err != nil {
		return nil, err
	}
	if n.top {
		b.vacated[from] = true
	}
	n.changed = true
	return b.stands(n, slot, top), nil
}

// build is the subtree of new paths alone, nil of none. Changes that take out what is not there go unheeded;
// nobody looks at these changes again, so they may be moved.
func (b *pager) build(changes []Change) *piece {
	return b.fresh(slices.DeleteFunc(changes, func(c Change) bool { return c.Value.IsZero() }))
}

func (b *pager) fresh(changes []Change) *piece {
	switch len(changes) {
	case 0:
		return nil
	case 1:
		return b.made(NodeID{PathBits, changes[0].Path}, changes[0].Value, nil, nil)
	}
	path := changes[0].Path
	depth := common(path, changes[len(changes)-1].Path)
	zeros, ones := part(changes, depth)
	return b.made(beginning(path, depth), types.Hash{}, b.fresh(zeros), b.fresh(ones))
}

// settle parts a node and what is below it into pages, from the bottom up, and writes those that changed. It
// gives how many nodes are left to the page of the node's parent. Where those of both children
// are too many for one page, the children become tops of pages, but for a small one; and so does what was
// the top above them become a part of the page above.
func (b *pager) settle(n *piece, slot NodeID) int {
	switch {
	case n.far || n.top && !n.changed:
		return 0
	case !n.changed:
		return int(n.src.nodes[n.at].size)
	}
	size := 1
	if !n.leaf() {
		var sizes [2]int
		for side, k := range n.kids {
			sizes[side] = b.settle(k, n.prefix.child(byte(side)))
			size += sizes[side]
		}
		if size > MaxPage {
			for side, k := range n.kids {
				if sizes[side] > MaxPage/4 {
					b.write(k, n.prefix.child(byte(side)))
					size -= sizes[side]
				}
			}
			if n.top && slot.Len > 0 {
				n.top, b.vacated[slot] = false, true
			}
		}
	}
	if n.top {
		b.write(n, slot)
		return 0
	}
	return size
}

func (b *pager) write(n *piece, slot NodeID) {
	n.top = true
	b.nodes = b.nodes[:0]
	b.add(n)
	nodes := make([]pageNode, len(b.nodes))
	copy(nodes, b.nodes)
	b.writes = append(b.writes, PageWrite{slot, &Page{n.hash, nodes}})
}

// add copies a node and what is below it in its page.
func (b *pager) add(n *piece) {
	if !n.changed {
		from := n.src.nodes[n.at:]
		b.nodes = append(b.nodes, from[:from[0].size]...)
		return
	}
	at := len(b.nodes)
	b.nodes = append(b.nodes, pageNode{prefix: n.prefix.Bits, len: n.prefix.Len, kids: [2]types.Hash{n.value}})
	if !n.leaf() {
		for side, k := range n.kids {
			b.nodes[at].kids[side] = k.hash
			if far := k.far || k.top; far {
				b.nodes[at].far[side] = true
			} else {
				b.add(k)
			}
		}
	}
	b.nodes[at].size = uint8(len(b.nodes) - at)
}
