package forest

import (
	"fmt"

	"charter/types"
)

// A Page is several nodes that are stored as one: of four levels, from one that is a multiple of four, up to
// sixteen neighbours and the complete subtrees over them:
//
//	level 7           28        29            positions in the page; what is above is
//	               ╱     ╲    ╱    ╲          in the page of levels 8 to 11
//	level 6      24  …
//	level 5    16  17  …
//	level 4   0 1  2 3 …              15
//
// Only the lowest level is stored; the others are hashed when a page is decoded.
type Page struct {
	count int // of nodes on the lowest level
	nodes [30]types.Hash
}

// PageBytes is about how much memory a page takes.
const PageBytes = 30*32 + 64

// PageID names a page.
type PageID struct {
	Level uint8 // its lowest
	Index uint64
}

// PageOf is the page of a node.
func PageOf(level uint8, index uint64) PageID { return PageID{level &^ 3, index >> (4 - level&3)} }

// place is where in its page a node is.
func place(level uint8, index uint64) int {
	row := level & 3
	return 32 - 32>>row + int(index&(16>>row-1))
}

// has reports whether the node is there, of those that belong in the page.
func (p *Page) has(level uint8, index uint64) bool {
	row := level & 3
	return int(index&(16>>row-1)) < p.count>>row
}

// Node is a node of those that belong in the page, or false if it is not there.
func (p *Page) Node(level uint8, index uint64) (types.Hash, bool) {
	if !p.has(level, index) {
		return types.Hash{}, false
	}
	return p.nodes[place(level, index)], true
}

// Set puts in a node that belongs in the page, as Update wrote it: from the left, and after those below it.
func (p *Page) Set(w NodeWrite) {
	if row := w.Level & 3; row == 0 && int(w.Index&15) == p.count {
		p.count++
	} else if !p.has(w.Level, w.Index) {
		panic(fmt.Sprintf("forest: write node %d/%d to a page of %d", w.Level, w.Index, p.count))
	}
	p.nodes[place(w.Level, w.Index)] = w.Hash
}

// Encode is the hashes of the lowest level.
func (p *Page) Encode() []byte {
	data := make([]byte, 0, 32*p.count)
	for i := range p.count {
		data = append(data, p.nodes[i][:]...)
	}
	return data
}

// DecodePage reads a page, and hashes it. Its errors are types.DecodeError.
func DecodePage(data []byte) (*Page, error) {
	d := types.NewDecoder("forest page", data)
	p := &Page{count: min(16, max(1, len(data)/32))}
	for i := range p.count {
		p.nodes[i] = d.Hash("node")
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	for level := uint8(1); level < 4; level++ {
		for i := range uint64(p.count >> level) {
			p.nodes[place(level, i)] = inner(p.nodes[place(level-1, 2*i)], p.nodes[place(level-1, 2*i+1)])
		}
	}
	return p, nil
}
