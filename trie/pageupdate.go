package trie

import "charter/types"

// PageWrite is a page to be stored in slot ID, in place of the one there, if any.
type PageWrite struct {
	ID   NodeID
	Page *Page // nil: the slot has none any more
	Was  *Page // the one there, nil if none was
}

// pager is one Update of a trie in pages. It goes down the pages and the sorted changes together, merging the
// row of each page with the changes that belong there.
type pager struct {
	r       PageReader
	rows    []*row           // by depth of pages, those that are being made
	vacated map[NodeID]*Page // slots whose page went away; another may have come
	writes  []PageWrite
	pieces  []entry // of the page that is being cut
	hashes  int
}

// row is the entries of a page that is being made. An entry and the inner node behind it are each marked if
// they are not as in the old page, or what is below is not.
type row struct {
	entries []entry
	marks   []bool   // two for each entry: its own, and that of the node behind it
	counts  []uint32 // of marks before each of marks
	hashes  int      // that were made
	changed bool
	kept    int  // index in the old page of the last entry; -2 if it is not from there
	gap     bool // an entry was left out behind the last
}

func (r *row) reset() {
	*r = row{entries: r.entries[:0], marks: r.marks[:0], counts: r.counts[:0], kept: -2}
}

// add appends an entry, that has index old in the old page (-2: is not from there).
func (r *row) add(e *entry, old int, changed bool) {
	if n := len(r.entries); n > 0 && r.kept+1 != old {
		last := &r.entries[n-1]
		last.meet = common(&last.path, &e.path)
		r.marks[2*n-1] = true
	}
	changed = changed || r.gap
	r.changed = r.changed || changed
	r.entries = append(r.entries, *e)
	r.marks = append(r.marks, changed, false)
	r.kept, r.gap = old, false
}

// copy appends entries of the old page, as they are.
func (r *row) copy(old []entry, from, to int) {
	if from == to {
		return
	}
	r.add(&old[from], from, false)
	r.entries = append(r.entries, old[from+1:to]...)
	for range to - from - 1 {
		r.marks = append(r.marks, false, false)
	}
	r.kept = to - 1
}

// drop leaves an entry of the old page out. Every node that was above it is above one of its neighbours.
func (r *row) drop() {
	if n := len(r.entries); n > 0 {
		r.marks[2*n-2] = true
	}
	r.gap, r.changed = true, true
}

// rehash hashes what is marked.
func (r *row) rehash() {
	count := uint32(0)
	for _, m := range r.marks {
		r.counts = append(r.counts, count)
		if m {
			count++
		}
	}
	r.sum(0, len(r.entries))
}

func (r *row) sum(from, to int) types.Hash {
	if to-from == 1 {
		if r.entries[from].leaf() {
			r.hashes++
		}
		return r.entries[from].hash()
	}
	at := from + split(r.entries[from:to])
	e := &r.entries[at]
	if r.counts[2*to-1] != r.counts[2*from] {
		left, right := r.sum(from, at+1), r.sum(at+1, to)
		r.hashes++
		e.inner = hashInner(e.meet, &e.path, &left, &right)
	}
	return e.inner
}

// updatePages is Update of sorted changes, of which no two have a path in common.
func updatePages(r PageReader, root types.Hash, changes []Change) (Result, error) {
	if len(changes) == 0 {
		return Result{Root: root}, nil
	}
	b := pager{r: r, vacated: map[NodeID]*Page{}, writes: make([]PageWrite, 0, len(changes))}
	above := b.row(0) // a row of one entry: the stub of the whole
	above.reset()
	if err := b.below(0, entry{value: root}, -2, changes); err != nil {
		return Result{}, err
	}
	res := Result{Changes: changes}
	if len(above.entries) > 0 {
		res.Root = above.entries[0].value
	}
	if len(b.vacated) > 0 {
		for i := range b.writes {
			if was := b.vacated[b.writes[i].ID]; was != nil {
				b.writes[i].Was = was
				delete(b.vacated, b.writes[i].ID)
			}
		}
		for id, was := range b.vacated {
			b.writes = append(b.writes, PageWrite{ID: id, Was: was})
		}
	}
	res.Pages, res.Hashes = b.writes, b.hashes
	return res, nil
}

func (b *pager) row(depth int) *row {
	if depth == len(b.rows) {
		b.rows = append(b.rows, new(row))
	}
	return b.rows[depth]
}

// below merges changes into the page of a stub, which has no hash if there is no page yet, and
// adds to the row above what then stands for it: the stub, which has index old in the old page above;
// the pieces of a page that outgrew itself; or nothing.
func (b *pager) below(depth int, stub entry, old int, changes []Change) error {
	slot, above, r := stub.page(), b.row(depth), b.row(depth+1)
	var was *Page
	var entries []entry
	if !stub.value.IsZero() {
		var err error
		if was, err = loadPage(b.r, slot, stub.value); err != nil {
			return err
		}
		entries = was.entries
	}
	r.reset()
	if err := b.merge(depth+1, slot, entries, changes); err != nil {
		return err
	}
	switch {
	case !r.changed && was == nil:
		return nil
	case !r.changed:
		above.add(&stub, old, false)
		return nil
	case len(r.entries) == 0:
		b.vacate(slot, was)
		above.drop()
		return nil
	}
	r.rehash()
	b.hashes += r.hashes
	row := r.entries
	if len(row) > MaxPage {
		b.pieces = b.cut(row, b.pieces[:0])
		if row = b.pieces; slot.Len > shardBits {
			b.vacate(slot, was)
			for i := range row {
				above.add(&row[i], -2, true)
			}
			return nil
		}
	}
	stub.value = b.write(slot, row, was)
	above.add(&stub, old, true)
	return nil
}

// merge makes the row of a slot's page of its old entries and of changes, which are sorted and all
// belong there.
func (b *pager) merge(depth int, slot NodeID, old []entry, changes []Change) error {
	r, i := b.rows[depth], 0
	for len(changes) > 0 {
		c := &changes[0]
		from, n := i, 1
		i = seek(old, from, &c.Path)
		r.copy(old, from, i)
		switch here := i < len(old) && old[i].covers(&c.Path); {
		case here && !old[i].leaf():
			n = below(&old[i], changes)
			if err := b.below(depth, old[i], i, changes[:n]); err != nil {
				return err
			}
			i++
		case slot.Len < shardBits:
			stub := entry{path: beginning(c.Path, slot.Len+gridStep).Bits, slot: slot.Len + gridStep}
			n = below(&stub, changes)
			if err := b.below(depth, stub, -2, changes[:n]); err != nil {
				return err
			}
		case here && c.Value.IsZero():
			r.drop()
			i++
		case here:
			e := old[i]
			e.value = c.Value
			r.add(&e, i, e.value != old[i].value)
			i++
		case !c.Value.IsZero():
			r.add(&entry{path: c.Path, slot: PathBits, value: c.Value}, -2, true)
		}
		changes = changes[n:]
	}
	r.copy(old, i, len(old))
	return nil
}

// below is how many of the changes, from the first, are below a stub.
func below(stub *entry, changes []Change) (n int) {
	for n < len(changes) && stub.covers(&changes[n].Path) {
		n++
	}
	return n
}

// cut appends to out what of a row stays in the page above, at most MaxPage entries. Where those of both
// sides of a node are too many, each side becomes a page, but for a small one.
func (b *pager) cut(row, out []entry) []entry {
	if len(row) <= MaxPage {
		return append(out, row...)
	}
	at, start := split(row), len(out)
	meet := row[at].meet
	out = b.cut(row[:at+1], out)
	middle := len(out)
	out = b.cut(row[at+1:], out)
	if len(out)-start <= MaxPage {
		return out
	}
	right := b.bind(out[middle:], meet+1)
	out = append(append(out[:start], b.bind(out[start:middle], meet+1)...), right...)
	return out
}

// bind makes entries a page, if they are not few, and gives what stands in their place.
func (b *pager) bind(entries []entry, bits uint16) []entry {
	if len(entries) <= MaxPage/4 {
		return entries
	}
	slot, last := beginning(entries[0].path, bits), entries[len(entries)-1]
	stub := entry{path: slot.Bits, slot: slot.Len, value: b.write(slot, entries, nil), inner: last.inner, meet: last.meet}
	entries[0] = stub
	return entries[:1]
}

func (b *pager) write(slot NodeID, entries []entry, was *Page) types.Hash {
	p := newPage(entries)
	b.writes = append(b.writes, PageWrite{slot, p, was})
	return p.Hash()
}

func (b *pager) vacate(slot NodeID, was *Page) {
	if was != nil {
		b.vacated[slot] = was
	}
}
