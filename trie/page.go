package trie

import (
	"fmt"

	"charter/types"
)

// A Page is several nodes that are stored as one: a connected piece of a trie, at most MaxPage nodes,
// stored under the slot of its top. Where a child lies in another page, that
// page is under the child's slot, and hashes to what its parent says:
//
//	     ε ──────────── page of slot ε: the upper nodes
//	  ┌──┴──┐
//	  ·     ·
//	┌─┴─┐ ┌─┴─┐         hashes of tops of other pages
//	○   ○ ○   ○ ─────── page of slot 11: some leaves, and the inner nodes above them
//	                    (their hashes are not stored, but made when it is decoded)
//
// Pages are for whom reading and writing single nodes costs more than hashing them. Unlike nodes, where one
// ends and the next begins depends on the history, and no hash on it: a page that outgrows MaxPage is
// cut, as in a B-tree; pages that shrink are not joined.
//
// A Page never changes: it may be kept and shared.
type Page struct {
	hash  types.Hash // of its top
	nodes []pageNode // each before what is below it, left before right
}

// MaxPage is the greatest number of nodes of a page.
const MaxPage = 32

// pageNode is a node in its page. It has no pointers: pages are kept by the million.
type pageNode struct {
	prefix Path
	kids   [2]types.Hash // of an inner node: its children's hashes; of a leaf: its value
	len    uint16        // bits of the prefix
	size   uint8         // how many nodes of the page are at and below it
	far    [2]bool       // which children lie in other pages
}

const pageNodeBytes = 32 + 64 + 2 + 1 + 2 + 1

// Bytes is about how much memory the page takes.
func (p *Page) Bytes() int { return 64 + len(p.nodes)*pageNodeBytes }

// node is the node at an index.
func (p *Page) node(i int) Node {
	n := &p.nodes[i]
	if n.len == PathBits {
		return Node{Prefix: NodeID{PathBits, n.prefix}, Value: n.kids[0]}
	}
	return Node{Prefix: NodeID{n.len, n.prefix}, Left: n.kids[0], Right: n.kids[1]}
}

// child is the index of a child that is not far.
func (p *Page) child(i int, side byte) int {
	if n := &p.nodes[i]; side == 1 && !n.far[0] {
		return i + 1 + int(p.nodes[i+1].size)
	}
	return i + 1
}

// The kinds of a page's nodes besides a leaf: pageInner, and 1 more if the left child is far, 2 if the right
// one is.
const pageInner = 4

// Encode is the bytes of the page of a slot, as stored, node after node, each before what is below it. A
// leaf is 1, path, value. An inner node is 4 (5 left, 6 right, 7 both children far), the bits of its
// prefix in one byte, the prefix in as many bytes as it needs; then, for left and right, the hash
// of a far child, or the child itself. Of paths and prefixes the whole bytes that the slot has are left out.
func (p *Page) Encode(slot NodeID) []byte {
	e := types.NewEncoder(make([]byte, 0, 40*(len(p.nodes)+1)))
	p.encode(e, 0, int(slot.Len/8))
	return e.Data()
}

func (p *Page) encode(e *types.Encoder, i, skip int) {
	n := &p.nodes[i]
	if n.len == PathBits {
		e.U8(kindLeaf)
		e.Raw(n.prefix[skip:])
		e.Hash(n.kids[0])
		return
	}
	kind := uint8(pageInner)
	for side, far := range n.far {
		if far {
			kind += 1 << side
		}
	}
	e.U8(kind)
	e.U8(uint8(n.len))
	e.Raw(n.prefix[skip : (n.len+7)/8])
	for side, far := range n.far {
		if far {
			e.Hash(n.kids[side])
		} else {
			p.encode(e, p.child(i, byte(side)), skip)
		}
	}
}

// DecodePage reads the page of a slot, and hashes it. Its errors are types.DecodeError.
func DecodePage(slot NodeID, data []byte) (*Page, error) {
	d := types.NewDecoder("trie page", data)
	p := &Page{nodes: make([]pageNode, 0, min(MaxPage, 1+len(data)/34))}
	p.hash = p.read(d, slot, int(slot.Len/8))
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return p, nil
}

// read appends the node in a slot and what is below it, and gives its hash. It stops at the first error.
func (p *Page) read(d *types.Decoder, slot NodeID, skip int) types.Hash {
	if len(p.nodes) == MaxPage {
		d.Fail(types.TooLong, "nodes")
	}
	at, n := len(p.nodes), readPageNode(d, slot, skip)
	if d.Err() != nil {
		return types.Hash{}
	}
	p.nodes = append(p.nodes, n)
	if n.len < PathBits {
		prefix := NodeID{n.len, n.prefix}
		for side, far := range n.far {
			if far {
				n.kids[side] = present(d, "child")
			} else {
				n.kids[side] = p.read(d, prefix.child(byte(side)), skip)
			}
		}
	}
	if d.Err() != nil {
		return types.Hash{}
	}
	n.size = uint8(len(p.nodes) - at)
	p.nodes[at] = n
	whole := p.node(at)
	return whole.Hash()
}

// readPageNode reads a node that stands in a slot, up to its children.
func readPageNode(d *types.Decoder, slot NodeID, skip int) (n pageNode) {
	kind := d.U8("kind")
	n.len = PathBits
	switch {
	case kind&^3 == pageInner:
		n.len, n.far = uint16(d.U8("bits")), [2]bool{kind&1 != 0, kind&2 != 0}
	case kind != kindLeaf:
		d.Fail(types.Unknown, "kind")
	}
	if n.len < slot.Len {
		d.Fail(types.NotCanonical, "bits")
	}
	if d.Err() != nil {
		return n
	}
	copy(n.prefix[:skip], slot.Bits[:])
	copy(n.prefix[skip:], d.Take("prefix", int(n.len+7)/8-skip))
	if (NodeID{n.len, n.prefix}) != beginning(n.prefix, n.len) || !slot.covers(n.prefix) {
		d.Fail(types.NotCanonical, "prefix")
	}
	if n.len == PathBits {
		n.kids[0] = present(d, "value")
	}
	return n
}

// PageReader is a Reader of a trie that is stored in pages. Whatever takes a Reader goes by pages if it is
// one of these; Node is for who wants a single node, and PageNode does it.
type PageReader interface {
	Reader
	// Page is the page of a slot. It is asked only for slots that have one.
	Page(slot NodeID) (*Page, error)
}

// loadPage reads the page of a slot, whose top must have the hash given.
func loadPage(r PageReader, slot NodeID, hash types.Hash) (*Page, error) {
	p, err := r.Page(slot)
	if err != nil {
		return nil, fmt.Errorf("trie: read page %s: %w", slot, err)
	}
	if top := &p.nodes[0]; top.len < slot.Len || !slot.covers(top.prefix) {
		return nil, refuse(BadNode, "page %s holds a node of prefix %s", slot, NodeID{top.len, top.prefix})
	}
	if p.hash != hash {
		return nil, refuse(BadNode, "the page of slot %s has hash %s, want %s", slot, p.hash, hash)
	}
	return p, nil
}

// walkPages is walk, in pages: the node after those that cover the path is node `at` of the page.
// It notes the way if way is not nil.
func walkPages(r PageReader, root types.Hash, path Path, way *[]Node) (p *Page, at int, err error) {
	if p, err = loadPage(r, NodeID{}, root); err != nil {
		return nil, 0, err
	}
	for {
		n := &p.nodes[at]
		if n.len == PathBits || common(n.prefix, path) < n.len {
			return p, at, nil
		}
		if way != nil {
			*way = append(*way, p.node(at))
		}
		side := bit(path, n.len)
		if !n.far[side] {
			at = p.child(at, side)
			continue
		}
		if p, err = loadPage(r, NodeID{n.len, n.prefix}.child(side), n.kids[side]); err != nil {
			return nil, 0, err
		}
		at = 0
	}
}

// PageNode is the node in a slot of a trie in pages, or false if no node stands in it.
func PageNode(r PageReader, slot NodeID) (Node, bool, error) {
	top, err := r.Page(NodeID{})
	if err != nil {
		return Node{}, false, err
	}
	if slot == (NodeID{}) {
		return top.node(0), true, nil
	}
	var way []Node
	p, at, err := walkPages(r, top.hash, slot.Bits, &way)
	if err != nil {
		return Node{}, false, err
	}
	for i, n := range append(way, p.node(at)) {
		if i > 0 && way[i-1].Prefix.Len+1 == slot.Len {
			return n, slot.covers(n.Prefix.Bits), nil
		}
	}
	return Node{}, false, nil
}
