package trie

import (
	"encoding/binary"
	"fmt"

	"charter/types"
)

// A Page is several nodes that are stored as one: a connected piece of a trie, under the slot of its top. It
// is kept as the row of what its nodes end in, from left to right: leaves, and stubs, which stand for the pages
// below. Between two neighbours there is one inner node, whose prefix is what both begin with; so
// the nodes follow from the row:
//
//	           0110                 three leaves, and a page below that has the slot 01101
//	      ┌─────┴─────┐
//	   01100       01101
//	   ┌──┴──┐     ┌──┴──┐          row      0110001 ─── 0110010 ─── 01101 (stub)
//	0110001 0110010   …             between        01100       0110
//
// Pages are for whom reading and writing single nodes costs more than hashing them. Unlike nodes, where one
// ends and the next begins depends on the history, and no hash on it: a page that outgrows MaxPage is
// cut, as in a B-tree; pages that shrink are not joined, and keep their slot.
//
// Only the first borders are fixed: slots of 8 bits (shards) each have pages of their own, and above them
// there are pages of slots of no and of four bits (the grid). So the pages of a shard can be stored at another time
// than those of the next, and the grid, which Grid makes again, not at all.
//
// A Page never changes: it may be kept and shared.
type Page struct{ entries []entry }

const (
	// MaxPage is the greatest number of leaves and stubs of a page.
	MaxPage = 32
	// Shards is how many parts a trie has whose pages do not reach into one another.
	Shards = 1 << shardBits

	shardBits = 8
	gridStep  = 4 // bits from one page of the grid to the next
)

// Shard is the shard that the page of a slot belongs to, or false if it is of the grid.
func (id NodeID) Shard() (byte, bool) { return id.Bits[0], id.Len >= shardBits }

// ShardTop is the slot of the topmost page of a shard.
func ShardTop(shard byte) NodeID { return NodeID{Len: shardBits, Bits: Path{shard}} }

// entry is a leaf or a stub, and the inner node between it and the next. It has no pointers: pages are
// kept by the hundred thousand.
type entry struct {
	path  Path       // a leaf's; of a stub its slot, and zeros
	value types.Hash // a leaf's; of a stub the hash of the top of its page
	inner types.Hash // of the node between; of the page's last entry, of the page's top
	slot  uint16     // bits of a stub's slot; PathBits of a leaf
	meet  uint16     // bits of the prefix of the node between; of the last entry 0
}

func (e *entry) leaf() bool   { return e.slot == PathBits }
func (e *entry) page() NodeID { return NodeID{e.slot, e.path} }

// covers reports whether a path is at or below the entry.
func (e *entry) covers(p *Path) bool { return common(&e.path, p) >= e.slot }

// before reports whether all at and below the entry is on the left of a path.
func (e *entry) before(p *Path) bool {
	return compare(&e.path, p) < 0 && (e.leaf() || !e.covers(p))
}

// seek is the first of entries, from one on, that is not before a path; their number if all are.
func seek(entries []entry, from int, p *Path) int {
	to := len(entries)
	for from < to {
		if middle := (from + to) / 2; entries[middle].before(p) {
			from = middle + 1
		} else {
			to = middle
		}
	}
	return from
}

// hash is the hash of the node at the top of the entry.
func (e *entry) hash() types.Hash {
	if e.leaf() {
		return hashLeaf(&e.path, &e.value)
	}
	return e.value
}

func hashLeaf(path *Path, value *types.Hash) types.Hash {
	var b [64]byte
	copy(b[:32], path[:])
	copy(b[32:], value[:])
	return tagLeaf.Hash(b[:])
}

// hashInner is of the inner node whose prefix is the first bits of a path.
func hashInner(bits uint16, path *Path, left, right *types.Hash) types.Hash {
	var b [98]byte
	binary.BigEndian.PutUint16(b[:2], bits)
	copy(b[2:], path[:bits/8])
	if bits%8 != 0 {
		b[2+bits/8] = path[bits/8] & (0xff << (8 - bits%8))
	}
	copy(b[34:], left[:])
	copy(b[66:], right[:])
	return tagInner.Hash(b[:])
}

// split is the entry in front of the topmost of the inner nodes between entries, two or more.
func split(entries []entry) int {
	at := 0
	for i := 1; i < len(entries)-1; i++ {
		if entries[i].meet < entries[at].meet {
			at = i
		}
	}
	return at
}

// top is the hash of the topmost node of entries whose inner nodes are hashed.
func top(entries []entry) types.Hash {
	if len(entries) == 1 {
		return entries[0].hash()
	}
	return entries[split(entries)].inner
}

// newPage is the page of entries whose inner nodes are hashed.
func newPage(entries []entry) *Page {
	p := &Page{make([]entry, len(entries))}
	copy(p.entries, entries)
	last := &p.entries[len(entries)-1]
	last.inner, last.meet = top(entries), 0
	return p
}

// Hash is the hash of the page's top.
func (p *Page) Hash() types.Hash { return p.entries[len(p.entries)-1].inner }

const entryBytes = 3*32 + 2*2

// Bytes is about how much memory the page takes.
func (p *Page) Bytes() int { return 32 + len(p.entries)*entryBytes }

const kindStub = 2

// Encode is the bytes of the page of a slot, as stored: leaves and stubs from left to right. A leaf is 1, path,
// value. A stub is 2, the bits of its slot in one byte, the slot in as many bytes as it needs, the hash of
// what stands there. Of paths and slots the whole bytes that the page's slot has are left out.
func (p *Page) Encode(slot NodeID) []byte { return p.Append(make([]byte, 0, 68*len(p.entries)), slot) }

// Append is Encode, behind what is in data.
func (p *Page) Append(data []byte, slot NodeID) []byte {
	skip := slot.Len / 8
	for i := range p.entries {
		e := &p.entries[i]
		if e.leaf() {
			data = append(data, kindLeaf)
			data = append(data, e.path[skip:]...)
		} else {
			data = append(data, kindStub, byte(e.slot))
			data = append(data, e.path[skip:(e.slot+7)/8]...)
		}
		data = append(data, e.value[:]...)
	}
	return data
}

// DecodePage reads the page of a slot, and hashes it. Its errors are types.DecodeError.
func DecodePage(slot NodeID, data []byte) (*Page, error) {
	d := types.NewDecoder("trie page", data)
	entries := make([]entry, 0, MaxPage)
	for len(entries) == 0 || d.Err() == nil && d.Left() > 0 {
		if len(entries) == MaxPage {
			d.Fail(types.TooLong, "entries")
			break
		}
		entries = append(entries, readEntry(d, slot))
		if i := len(entries) - 1; i > 0 && d.Err() == nil {
			was := &entries[i-1]
			if was.meet = common(&was.path, &entries[i].path); !was.before(&entries[i].path) {
				d.Fail(types.NotCanonical, "order")
			}
		}
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	sum(entries)
	return newPage(entries), nil
}

func readEntry(d *types.Decoder, slot NodeID) (e entry) {
	switch d.U8("kind") {
	case kindLeaf:
		e.slot = PathBits
	case kindStub:
		if e.slot = uint16(d.U8("bits")); e.slot <= slot.Len {
			d.Fail(types.NotCanonical, "bits")
		}
	default:
		d.Fail(types.Unknown, "kind")
	}
	if d.Err() != nil {
		return e
	}
	skip := slot.Len / 8
	copy(e.path[:skip], slot.Bits[:])
	copy(e.path[skip:], d.Take("path", int((e.slot+7)/8-skip)))
	if e.page() != beginning(e.path, e.slot) || !slot.covers(e.path) {
		d.Fail(types.NotCanonical, "path")
	}
	e.value = present(d, "value")
	return e
}

// sum hashes all inner nodes between entries, and gives the hash of the topmost node.
func sum(entries []entry) types.Hash {
	if len(entries) == 1 {
		return entries[0].hash()
	}
	at := split(entries)
	left, right := sum(entries[:at+1]), sum(entries[at+1:])
	e := &entries[at]
	e.inner = hashInner(e.meet, &e.path, &left, &right)
	return e.inner
}

// Grid is the pages above the shards, whose own topmost pages are given, nil where a shard is empty; and the
// root.
func Grid(shards *[Shards]*Page) (root types.Hash, grid []PageWrite) {
	var quarters []entry
	for i := range 16 {
		var below []entry
		for j := range 16 {
			if p := shards[16*i+j]; p != nil {
				below = append(below, entry{path: Path{byte(16*i + j)}, slot: shardBits, value: p.Hash()})
			}
		}
		if len(below) > 0 {
			w := gridPage(NodeID{gridStep, Path{byte(16 * i)}}, below)
			grid = append(grid, w)
			quarters = append(quarters, entry{path: w.ID.Bits, slot: gridStep, value: w.Page.Hash()})
		}
	}
	if len(quarters) == 0 {
		return root, nil
	}
	w := gridPage(NodeID{}, quarters)
	return w.Page.Hash(), append(grid, w)
}

func gridPage(slot NodeID, entries []entry) PageWrite {
	for i := range entries[1:] {
		entries[i].meet = common(&entries[i].path, &entries[i+1].path)
	}
	sum(entries)
	return PageWrite{ID: slot, Page: newPage(entries)}
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
	if h := p.Hash(); h != hash {
		return nil, refuse(BadNode, "the page of slot %s has hash %s, want %s", slot, h, hash)
	}
	return p, nil
}

// walkPages is walk, in pages.
func walkPages(r PageReader, root types.Hash, path Path) (way []Node, end *Node, err error) {
	slot, hash := NodeID{}, root
	for {
		p, err := loadPage(r, slot, hash)
		if err != nil {
			return nil, nil, err
		}
		row := p.entries
		for len(row) > 1 {
			at := split(row)
			e := &row[at]
			n := Node{Prefix: beginning(e.path, e.meet), Left: top(row[:at+1]), Right: top(row[at+1:])}
			if !n.Prefix.covers(path) {
				return way, &n, nil
			}
			way = append(way, n)
			if bit(path, e.meet) == 0 {
				row = row[:at+1]
			} else {
				row = row[at+1:]
			}
		}
		if row[0].leaf() {
			return way, &Node{Prefix: row[0].page(), Value: row[0].value}, nil
		}
		slot, hash = row[0].page(), row[0].value
	}
}

// getPages is Get, in pages.
func getPages(r PageReader, root types.Hash, path *Path) (value types.Hash, present bool, err error) {
	slot, hash := NodeID{}, root
	for {
		p, err := loadPage(r, slot, hash)
		if err != nil {
			return types.Hash{}, false, err
		}
		i := seek(p.entries, 0, path)
		if i == len(p.entries) || !p.entries[i].covers(path) {
			return types.Hash{}, false, nil
		}
		e := &p.entries[i]
		if e.leaf() {
			return e.value, true, nil
		}
		slot, hash = e.page(), e.value
	}
}

// PageNode is the node in a slot of a trie in pages, or false if no node stands in it.
func PageNode(r PageReader, slot NodeID) (Node, bool, error) {
	top, err := r.Page(NodeID{})
	if err != nil {
		return Node{}, false, err
	}
	way, end, err := walkPages(r, top.Hash(), slot.Bits)
	if err != nil {
		return Node{}, false, err
	}
	from := uint16(0) // bits of the slot that a node of the way stands in
	for _, n := range append(way, *end) {
		if from == slot.Len {
			return n, slot.covers(n.Prefix.Bits), nil
		}
		from = n.Prefix.Len + 1
	}
	return Node{}, false, nil
}
