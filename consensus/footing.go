package consensus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"charter/types"
)

// Footing is what somebody who trusts one final block is given, besides blocks, to take up
// consensus from there: none of it is to be believed, and Base checks all of it
// (spec/consensus.md, "Joining"). The blocks are those of height Floor and above.
type Footing struct {
	Past  *Past // of the trusted anchor
	Floor uint64
	// Anchors are those of the heights that the past of the anchor of Floor does not decide, up to
	// Past.Decided; zero for an empty height.
	Anchors []types.Hash
	Runs    []Run          // all from that of the floor's anchor's Past on, that are closed by Anchors
	Pasts   []BlockPast    // of the floor's anchor, and of blocks whose past cannot be worked out from those at hand
	Below   []*types.Block // below the floor: what is named from above, and the lines of authors of whom Pasts end in more than one
}

// BlockPast is the past of the block with an id.
type BlockPast struct {
	ID   types.Hash
	Past *Past
}

// Bounds of a footing.
const (
	maxAnchors = 1 << 16
	maxPasts   = 1 << 14
	maxHeader  = 1 << 16
)

// Encode is the footing's bytes.
func (f *Footing) Encode() []byte {
	e := types.NewEncoder(nil)
	e.Bytes(f.Past.Encode())
	e.U64(f.Floor)
	e.Count32(len(f.Anchors))
	for _, a := range f.Anchors {
		e.Hash(a)
	}
	e.Count32(len(f.Runs))
	for _, r := range f.Runs {
		e.Raw(r.Encode())
	}
	e.Count32(len(f.Pasts))
	for _, p := range f.Pasts {
		e.Hash(p.ID)
		e.Bytes(p.Past.Encode())
	}
	e.Count32(len(f.Below))
	for _, b := range f.Below {
		e.Bytes(b.Encode())
	}
	return e.Data()
}

// DecodeFooting reads a footing. Its errors are *types.DecodeError.
func DecodeFooting(data []byte) (*Footing, error) {
	d := types.NewDecoder("footing", data)
	f := new(Footing)
	past := func() *Past {
		p, err := DecodePast(d.Bytes("past", len(data)))
		if err != nil {
			d.Fail(types.NotCanonical, "past")
		}
		return p
	}
	f.Past, f.Floor = past(), d.U64("floor")
	for range d.Count32("anchors", maxAnchors, 32) {
		f.Anchors = append(f.Anchors, d.Hash("anchor"))
	}
	for range d.Count32("runs", maxAnchors, runSize) {
		f.Runs = append(f.Runs, ReadRun(d))
	}
	for range d.Count32("pasts", maxPasts, 36) {
		f.Pasts = append(f.Pasts, BlockPast{d.Hash("id"), past()})
	}
	for range d.Count32("below", maxAnchors, 4) {
		b, err := types.DecodeBlock(d.Bytes("below", maxHeader))
		if err != nil {
			d.Fail(types.NotCanonical, "below")
		}
		f.Below = append(f.Below, b)
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return f, nil
}

// Base is what a Core is restored from that is to go on from the anchor. Of the blocks, which
// ascend by height, it takes the anchor and what is behind it: rest is the others, for Step.
// Snapshots of the runs are still missing in it. An error says what does not lead to the anchor.
func (f *Footing) Base(chain, anchor types.Hash, blocks []*types.Block) (base *Base, rest []*types.Block, err error) {
	byID := make(map[types.Hash]*types.Block, len(blocks))
	ids := make([]types.Hash, len(blocks))
	for i, b := range blocks {
		ids[i] = b.ID(chain)
		byID[ids[i]] = b
	}
	top := byID[anchor]
	if top == nil {
		return nil, nil, fmt.Errorf("footing: the anchor %s is not among the blocks", anchor)
	}
	if f.Past.Digest() != top.Past {
		return nil, nil, fmt.Errorf("footing: the past is not that of anchor %s", anchor)
	}
	pasts := make(map[types.Hash]*Past, len(f.Pasts))
	for _, p := range f.Pasts {
		pasts[p.ID] = p.Past
	}
	pasts[anchor] = f.Past
	first := f.Past.Decided + 1 - uint64(len(f.Anchors))
	if uint64(len(f.Anchors)) > f.Past.Decided || f.Floor < first || f.Floor > f.Past.Decided {
		return nil, nil, fmt.Errorf("footing: %d anchors up to height %d, and floor %d", len(f.Anchors), f.Past.Decided, f.Floor)
	}
	base = &Base{Floor: f.Floor, Runs: f.Runs}
	for i, a := range f.Anchors {
		base.Decisions = append(base.Decisions, Decision{Height: first + uint64(i), Anchor: a})
	}
	behind := reach(byID, anchor)
	for i, b := range blocks {
		if behind[ids[i]] {
			base.Blocks = append(base.Blocks, Accepted{ids[i], b, pasts[ids[i]]})
		} else {
			rest = append(rest, b)
		}
	}
	if err := f.checkDecisions(base); err != nil {
		return nil, nil, err
	}
	return base, rest, f.addBelow(chain, base)
}

// reach is the anchor and what is behind it, of some blocks.
func reach(byID map[types.Hash]*types.Block, anchor types.Hash) map[types.Hash]bool {
	behind := map[types.Hash]bool{anchor: true}
	for todo := []types.Hash{anchor}; len(todo) > 0; {
		b := byID[todo[len(todo)-1]]
		todo = todo[:len(todo)-1]
		for _, id := range b.Named() {
			if byID[id] != nil && !behind[id] {
				behind[id] = true
				todo = append(todo, id)
			}
		}
	}
	return behind
}

// checkDecisions holds the anchors and runs to the past of the trusted anchor, and gives each
// decision its run.
func (f *Footing) checkDecisions(base *Base) error {
	steps, err := base.steps(int(f.Floor - base.Decisions[0].Height))
	if err != nil {
		return err
	}
	last := steps[len(steps)-1]
	last.Tips = f.Past.Tips
	if last.Digest() != f.Past.Digest() {
		return fmt.Errorf("footing: the anchors and runs are not those that the anchor's past decides, up to height %d", f.Past.Decided)
	}
	known := map[uint64]Run{}
	for _, s := range steps {
		known[s.Run.Number] = s.Run
		if s.Closing != nil {
			known[s.Closing.Number] = *s.Closing
		}
	}
	base.Runs = nil
	for n := steps[0].Run.Number; ; n++ {
		r, ok := known[n]
		if !ok {
			break
		}
		base.Runs = append(base.Runs, r)
	}
	for i := range base.Decisions {
		base.Decisions[i].Run = steps[i].Run.Number
	}
	return nil
}

// addBelow checks what is told of blocks below the floor: each is named from above, or is where a
// past ends, or stands before such a one on its author's line. What is named and is not there must be
// below the floor, or nothing could be decided without it.
func (f *Footing) addBelow(chain types.Hash, base *Base) error {
	here, wanted := make(map[types.Hash]bool), make(map[types.Hash]bool)
	for _, a := range base.Blocks {
		here[a.ID] = true
	}
	var named []types.Hash
	for _, a := range base.Blocks {
		for _, id := range a.Block.Named() {
			if !here[id] {
				named, wanted[id] = append(named, id), true
			}
		}
		if a.Past != nil {
			for _, t := range a.Past.Tips {
				wanted[t.ID] = true
			}
		}
	}
	below := slices.Clone(f.Below)
	slices.SortFunc(below, func(a, b *types.Block) int { return cmp.Compare(b.Height, a.Height) })
	told := make(map[types.Hash]bool)
	for _, b := range below {
		id := b.ID(chain)
		if !wanted[id] || b.Height >= f.Floor {
			return fmt.Errorf("footing: nothing asks for block %s of height %d below height %d", id, b.Height, f.Floor)
		}
		told[id], wanted[b.Previous] = true, true
		base.Lines = append(base.Lines, Line{b.Author, b.Height, id, b.Previous})
	}
	for _, id := range named {
		if !told[id] {
			return fmt.Errorf("footing: block %s is named and not there", id)
		}
	}
	sortLines(base.Lines)
	return nil
}

// NewFooting is the footing on the anchor of a base that was restored from, or could be: of its
// decisions, those that the anchor's past does not hold are left out. Get gives a block below the
// floor by its id.
func NewFooting(base *Base, anchor types.Hash, get func(types.Hash) (*types.Block, error)) (*Footing, error) {
	f := &Footing{Floor: base.Floor}
	byID := make(map[types.Hash]*types.Block, len(base.Blocks))
	var bottom types.Hash
	for _, d := range base.Decisions {
		if d.Height == base.Floor {
			bottom = d.Anchor
		}
	}
	for _, a := range base.Blocks {
		byID[a.ID] = a.Block
		if a.ID == anchor {
			f.Past = a.Past
		}
	}
	if f.Past == nil {
		return nil, fmt.Errorf("footing: the anchor %s is not among the blocks from height %d on", anchor, base.Floor)
	}
	first := base.Decisions[0].Height
	if f.Past.Decided < base.Floor {
		return nil, fmt.Errorf("footing: the anchor's past decides up to height %d, below the floor %d", f.Past.Decided, base.Floor)
	}
	closers := make(map[types.Hash]bool)
	for _, d := range base.Decisions[:f.Past.Decided+1-first] {
		f.Anchors = append(f.Anchors, d.Anchor)
		closers[d.Anchor] = true
	}
	for _, r := range base.Runs {
		if closers[r.Closer] && !r.Closer.IsZero() {
			f.Runs = append(f.Runs, r)
		}
	}
	behind := reach(byID, anchor)
	var given []Accepted
	below := make(map[types.Hash]bool)
	for _, a := range base.Blocks {
		if !behind[a.ID] {
			continue
		}
		out := slices.DeleteFunc(a.Block.Named(), func(id types.Hash) bool { return byID[id] != nil })
		if a.ID != anchor && (a.ID == bottom || a.Past.Decided+1 < first || len(out) > 0) {
			f.Pasts, given = append(f.Pasts, BlockPast{a.ID, a.Past}), append(given, a)
		}
		for _, id := range out {
			below[id] = true
		}
	}
	lines, err := Lines(append(given, Accepted{Past: f.Past}), base.Floor, get)
	if err != nil {
		return nil, fmt.Errorf("footing: %w", err)
	}
	for _, l := range lines {
		below[l.ID] = true
	}
	ids := slices.Collect(maps.Keys(below))
	sortHashes(ids)
	for _, id := range ids {
		b, err := get(id)
		if err != nil {
			return nil, fmt.Errorf("footing: block %s below height %d: %w", id, base.Floor, err)
		}
		if b == nil {
			return nil, fmt.Errorf("footing: block %s below height %d is not kept", id, base.Floor)
		}
		f.Below = append(f.Below, b)
	}
	return f, nil
}
