package consensus

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"

	"charter/types"
)

var (
	tagPast      = types.NewTag("charter/past")
	tagDecisions = types.NewTag("charter/decisions")
)

// Past is what blocks above a block need to know of what is behind it, a function of the
// block's past (spec/consensus.md, "Past"). Each block carries its digest. So whoever trusts
// one block can go on from there with no more than what it is given and can check.
type Past struct {
	Decided   uint64     // the height up to which it decides
	Decisions types.Hash // over the decisions up to there: Fold
	Run       Run        // the run that decides the next height
	Closing   *Run       // the run after that, if it is closed already; else nil
	Tips      []Tip      // of every author with a block in it, ascending by key
}

// Tip is the highest block of an author in some past.
type Tip struct {
	Author types.Key
	Height uint64
	ID     types.Hash // of a forked author's several, the least
	Forked bool       // the past holds a fork by the author
}

const (
	runSize = 8 + 8 + 32 + 8 + 32
	tipSize = 32 + 8 + 32 + 1
	maxTips = 1 << 16
)

// Encode is the past's bytes.
func (p *Past) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 64+2*runSize+tipSize*len(p.Tips)))
	e.U64(p.Decided)
	e.Hash(p.Decisions)
	p.Run.encode(e)
	e.Bool(p.Closing != nil)
	if p.Closing != nil {
		p.Closing.encode(e)
	}
	e.Count32(len(p.Tips))
	for _, t := range p.Tips {
		e.Key(t.Author)
		e.U64(t.Height)
		e.Hash(t.ID)
		e.Bool(t.Forked)
	}
	return e.Data()
}

// Digest is the tagged hash that a block of this past carries.
func (p *Past) Digest() types.Hash { return tagPast.Hash(p.Encode()) }

// DecodePast reads a past. Its errors are *types.DecodeError.
func DecodePast(data []byte) (*Past, error) {
	d := types.NewDecoder("past", data)
	p := &Past{Decided: d.U64("decided"), Decisions: d.Hash("decisions"), Run: ReadRun(d)}
	if d.Bool("closing") {
		r := ReadRun(d)
		p.Closing = &r
	}
	n := d.Count32("tips", maxTips, tipSize)
	for i := range n {
		t := Tip{Author: d.Key("author"), Height: d.U64("height"), ID: d.Hash("id"), Forked: d.Bool("forked")}
		if t.Height == 0 || t.Height > types.MaxHeight || i > 0 && bytes.Compare(p.Tips[i-1].Author[:], t.Author[:]) >= 0 {
			d.Fail(types.NotCanonical, "tips")
			break
		}
		p.Tips = append(p.Tips, t)
	}
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return p, nil
}

func (r *Run) encode(e *types.Encoder) {
	e.U64(r.Number)
	e.U64(r.Start)
	e.Hash(r.Seed)
	e.U64(r.Snapshot)
	e.Hash(r.Closer)
}

// Encode is the run's bytes.
func (r *Run) Encode() []byte {
	e := types.NewEncoder(make([]byte, 0, runSize))
	r.encode(e)
	return e.Data()
}

// ReadRun reads a run that is part of something larger.
func ReadRun(d *types.Decoder) Run {
	return Run{
		Number: d.U64("number"), Start: d.U64("start"), Seed: d.Hash("seed"),
		Snapshot: d.U64("snapshot"), Closer: d.Hash("closer"),
	}
}

// FirstFold is what the decisions of a chain are folded upon.
func FirstFold(chain types.Hash) types.Hash { return tagDecisions.Hash(chain[:]) }

// Fold is the digest of all decisions up to a height, given that of those below it. The
// anchor is zero for an empty height, and closes is the run that it opens by closing its own,
// nil for none.
func Fold(before types.Hash, height uint64, anchor types.Hash, closes *Run) types.Hash {
	e := types.NewEncoder(make([]byte, 0, 41+runSize))
	e.U64(height)
	e.Hash(anchor)
	e.Bool(closes != nil)
	if closes != nil {
		closes.encode(e)
	}
	return tagDecisions.Hash(before[:], e.Data())
}

// steps is what a past comes to, but for its tips, that decides none, one, two, … of the base's
// decisions. That at place at is of the floor; its anchor's own past decides none of them.
func (b *Base) steps(at int) ([]Past, error) {
	floor := b.Decisions[at]
	i := slices.IndexFunc(b.Blocks, func(a Accepted) bool { return a.ID == floor.Anchor })
	if i < 0 || b.Blocks[i].Past == nil {
		return nil, fmt.Errorf("restore: the anchor of height %d is not among the blocks, with its past", floor.Height)
	}
	p := *b.Blocks[i].Past
	p.Tips = nil
	steps := []Past{p}
	for _, d := range b.Decisions {
		if d.Height != p.Decided+1 {
			return nil, fmt.Errorf("restore: the decision of height %d follows that of height %d", d.Height, p.Decided)
		}
		closes := closedBy(d.Anchor, b.Runs)
		p.Decided, p.Decisions = d.Height, Fold(p.Decisions, d.Height, d.Anchor, closes)
		if closes != nil {
			p.Closing = closes
		}
		if p.Closing != nil && d.Height+1 >= p.Closing.Start {
			p.Run, p.Closing = *p.Closing, nil
		}
		steps = append(steps, p)
	}
	return steps, nil
}

// closedBy is the run that an anchor opened by closing its own, nil if it did not.
func closedBy(anchor types.Hash, runs []Run) *Run {
	for i := range runs {
		if !anchor.IsZero() && runs[i].Closer == anchor {
			return &runs[i]
		}
	}
	return nil
}

// reckon is the past of a block with view g that digest is of: the tips are those of the view, and
// what it decides is tried, from what it decides at least.
func (c *Core) reckon(g *view, digest types.Hash, steps []Past) *Past {
	tips := c.tipsOf(g)
	for _, p := range steps {
		if p.Decided < g.floor {
			continue
		}
		if p.Tips = tips; p.Digest() == digest {
			return &p
		}
	}
	return nil
}

// tipsOf is the tips of a view as a Past tells them.
func (c *Core) tipsOf(g *view) (tips []Tip) {
	for _, a := range c.byKey {
		if t := g.tip(a); t != nil {
			tips = append(tips, Tip{c.authors[a].key, t.height, t.id, g.forked(a)})
		}
	}
	return tips
}

// pastOf is the past of blocks that stand on g, which decides what is in memory.
func (c *Core) pastOf(g *view) *Past {
	p := &Past{Decided: g.dec.height, Decisions: g.dec.fold, Run: g.dec.run.Run, Tips: c.tipsOf(g)}
	if g.dec.closing != nil {
		r := g.dec.closing.Run
		p.Closing = &r
	}
	return p
}

// digestOf is the digest of a view's past.
func (c *Core) digestOf(g *view) types.Hash {
	if g.digest.IsZero() {
		g.digest = c.pastOf(g).Digest()
	}
	return g.digest
}

// Digest is what a block that names these must carry as its Past, if they are all in memory
// and what they decide is known.
func (c *Core) Digest(named []types.Hash) (digest types.Hash, ok bool) {
	var vs []*vertex
	for _, id := range named {
		v := c.vertices[id]
		if v == nil {
			return digest, false
		}
		vs = append(vs, v)
	}
	g := c.viewOf(vs)
	if g.dec == nil {
		return digest, false
	}
	return c.digestOf(g), true
}

// Line is a block below the floor of a restored Core, as far as it must be known: whom it
// follows on its author's line.
type Line struct {
	Author   types.Key
	Height   uint64
	ID       types.Hash
	Previous types.Hash
}

// Lines finds what a Base must tell of the lines below its floor: where the pasts of its blocks
// end in different blocks of one author, whether one follows the other. Get gives a block by
// its id, nil if it is not kept any more: then they are taken to.
func Lines(blocks []Accepted, floor uint64, get func(types.Hash) (*types.Block, error)) (lines []Line, err error) {
	ends := make(map[types.Key]map[types.Hash]uint64)
	for _, a := range blocks {
		for _, t := range a.Past.Tips {
			if t.Height >= floor {
				continue
			}
			if ends[t.Author] == nil {
				ends[t.Author] = make(map[types.Hash]uint64)
			}
			ends[t.Author][t.ID] = t.Height
		}
	}
	for author, tips := range ends {
		if len(tips) < 2 {
			continue
		}
		least := uint64(types.MaxHeight)
		for _, h := range tips {
			least = min(least, h)
		}
		seen := make(map[types.Hash]bool)
		for id, h := range tips {
			for !seen[id] && !id.IsZero() {
				seen[id] = true
				b, err := get(id)
				if err != nil {
					return nil, fmt.Errorf("block %s of height %d by %s: %w", id.Short(), h, author.Short(), err)
				}
				if b == nil {
					break
				}
				lines = append(lines, Line{author, b.Height, id, b.Previous})
				if b.Height <= least {
					break
				}
				id = b.Previous
			}
		}
	}
	sortLines(lines)
	return lines, nil
}

func sortLines(lines []Line) {
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Or(cmp.Compare(a.Height, b.Height), bytes.Compare(a.ID[:], b.ID[:])) })
}
