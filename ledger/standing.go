package ledger

import (
	"bytes"
	"cmp"
	"math/bits"
	"slices"

	"charter/types"
)

// Header is what is asked of a block that another one names.
type Header struct {
	Author  types.Key
	Height  uint64
	Sampled bool // it has a sample
}

// HeaderOf is the header of a block.
func HeaderOf(b *types.Block) Header { return Header{b.Author, b.Height, !b.Sample.IsZero()} }

// Witness is what an ordered block says of the height just below it: whose blocks there it names.
type Witness struct {
	Author types.Key
	Height uint64 // of the block that names
	Named  []types.Key
}

// WitnessOf is what a block says of the height below, given the headers of the blocks that it names (none for
// genesis). Its author's own is not among them, nor one that lacks the sample that is due.
func WitnessOf(params *types.Params, b *types.Block, named func(types.Hash) (Header, bool)) Witness {
	w := Witness{Author: b.Author, Height: b.Height}
	for _, id := range b.Named() {
		h, ok := named(id)
		if ok && h.Height+1 == b.Height && h.Author != b.Author && (h.Sampled || !params.SampleDue(h.Height)) {
			w.Named = append(w.Named, h.Author)
		}
	}
	return w
}

// Tally is what was counted since the newest snapshot (spec/ledger.md, "Standing"). It never changes; what
// follows it is another Tally.
type Tally struct {
	Taken   uint64     // height of the newest snapshot
	InForce uint64     // height of the snapshot by which the last batch was decided
	Begun   uint64     // the same, when the newest snapshot was taken
	Peers   []Presence // authors that name or are named, in order of appearance
}

// Presence is how a peer was there since the newest snapshot.
type Presence struct {
	Peer      types.Key
	Last      uint64   // the greatest height counted
	Present   uint32   // heights at which others named a block of it
	Witnesses []uint64 // bit i of all: the i-th of the Tally named one
}

func (p *Presence) witnesses() (n int) {
	for _, word := range p.Witnesses {
		n += bits.OnesCount64(word)
	}
	return n
}

func (t *Tally) encode(e *types.Encoder) {
	e.U64(t.Taken)
	e.U64(t.InForce)
	e.U64(t.Begun)
	e.Count32(len(t.Peers))
	for _, p := range t.Peers {
		e.Key(p.Peer)
		e.U64(p.Last)
		e.U32(p.Present)
		e.Count16(len(p.Witnesses))
		for _, word := range p.Witnesses {
			e.U64(word)
		}
	}
}

var tagTally = types.NewTag("charter/tally")

// Encode is the tally's bytes.
func (t *Tally) Encode() []byte {
	e := types.NewEncoder(nil)
	t.encode(e)
	return e.Data()
}

// Root is the tagged hash of the chain's id and the tally: the TallyRoot of a checkpoint. So who takes up the
// chain at a checkpoint can be given the tally, and judges the next snapshot like all others.
func (t *Tally) Root(chain types.Hash) types.Hash { return tagTally.Hash(chain[:], t.Encode()) }

// DecodeTally reads a tally.
func DecodeTally(data []byte) (Tally, error) {
	d := types.NewDecoder("tally", data)
	t := readTally(d)
	return t, d.Finish()
}

// maxTally bounds the authors of one period: the members of the snapshots in force in it.
const maxTally = 1 << 15

func readTally(d *types.Decoder) Tally {
	t := Tally{Taken: d.U64("taken"), InForce: d.U64("in force"), Begun: d.U64("begun")}
	for range d.Count32("presence", maxTally, 46) {
		p := Presence{Peer: d.Key("peer"), Last: d.U64("last"), Present: d.U32("present")}
		for range d.Count16("witnesses", maxTally/64, 8) {
			p.Witnesses = append(p.Witnesses, d.U64("witnesses"))
		}
		t.Peers = append(t.Peers, p)
	}
	return t
}

// counting is a Tally that is being added to.
type counting struct {
	Tally
	place map[types.Key]int
}

func count(t Tally) *counting {
	c := &counting{Tally: t, place: make(map[types.Key]int, len(t.Peers))}
	c.Peers = slices.Clone(t.Peers)
	for i := range c.Peers {
		c.Peers[i].Witnesses = slices.Clone(c.Peers[i].Witnesses)
		c.place[c.Peers[i].Peer] = i
	}
	return c
}

func (c *counting) at(key types.Key) int {
	i, ok := c.place[key]
	if !ok {
		i = len(c.Peers)
		c.place[key] = i
		c.Peers = append(c.Peers, Presence{Peer: key})
	}
	return i
}

// add counts what the blocks of a batch say, lower heights first: heights of a peer only rise, so that each
// counts once, and what is ordered too late to rise does not count.
func (c *counting) add(batch []Witness) {
	batch = slices.Clone(batch)
	slices.SortStableFunc(batch, func(a, b Witness) int { return cmp.Compare(a.Height, b.Height) })
	for _, w := range batch {
		if w.Height <= c.Taken+1 {
			continue
		}
		by := c.at(w.Author)
		for _, key := range w.Named {
			p := &c.Peers[c.at(key)]
			for len(p.Witnesses) <= by/64 {
				p.Witnesses = append(p.Witnesses, 0)
			}
			p.Witnesses[by/64] |= 1 << (by % 64)
			if w.Height-1 > p.Last {
				p.Last, p.Present = w.Height-1, p.Present+1
			}
		}
	}
}

// stand gives all peers, ascending by key, their standing at a snapshot, and takes it. It changes peers.
func (t *Tally) stand(height uint64, peers []types.PeerState) *types.Snapshot {
	seen := make(map[types.Key]*Presence, len(t.Peers))
	for i := range t.Peers {
		seen[t.Peers[i].Peer] = &t.Peers[i]
	}
	for i := range peers {
		s := &peers[i].Standing
		s.Present, s.Witnesses = 0, 0
		if p := seen[peers[i].Peer]; p != nil {
			s.Present, s.Witnesses = p.Present, uint16(min(p.witnesses(), 1<<16-1))
		}
	}
	fit := eligible(peers)
	for _, p := range t.absent(height, fit) {
		p.Standing.Absent = height
	}
	fit = slices.DeleteFunc(fit, func(p *types.PeerState) bool { return p.Standing.Absent == height })
	snap := snapshotOf(height, fit)
	for i := range peers {
		s := &peers[i].Standing
		at, member := snap.Find(peers[i].Peer)
		switch {
		case !member:
			s.Weight, s.Since = 0, 0
		case s.Weight == 0:
			s.Since = height
			fallthrough
		default:
			s.Weight = snap.Members[at].Shares
		}
	}
	return snap
}

// eligible is the peers with shares that are not marked; the marked ones too if there are no others.
func eligible(peers []types.PeerState) (fit []*types.PeerState) {
	var marked []*types.PeerState
	for i := range peers {
		switch p := &peers[i]; {
		case p.Shares == 0:
		case p.Standing.Offended > 0:
			marked = append(marked, p)
		default:
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		return marked
	}
	return fit
}

// absent is whom a snapshot leaves out although they could have been there: those present at less than a
// quarter of the heights since the one before, the least present first and by key among equals, as far as
// they hold no more than a tenth of all shares together.
func (t *Tally) absent(height uint64, fit []*types.PeerState) (out []*types.PeerState) {
	var total, left types.Amount
	var away []*types.PeerState
	for _, p := range fit {
		total = must(total.Add(p.Shares))
		s := &p.Standing
		if s.Weight > 0 && s.Since <= t.Begun && 4*uint64(s.Present) < height-t.Taken {
			away = append(away, p)
		}
	}
	slices.SortStableFunc(away, func(a, b *types.PeerState) int { return cmp.Compare(a.Standing.Present, b.Standing.Present) })
	for _, p := range away {
		if left+p.Shares <= total/10 {
			left += p.Shares
			out = append(out, p)
		}
	}
	return out
}

// snapshotOf is the snapshot of these peers, ascending by key, all with shares: of more than MaxMembers those with the
// most, by key where they have as many.
func snapshotOf(height uint64, peers []*types.PeerState) *types.Snapshot {
	s := &types.Snapshot{Height: height}
	for _, p := range peers {
		s.Members = append(s.Members, types.Member{Peer: p.Peer, Shares: p.Shares})
	}
	if len(s.Members) > types.MaxMembers {
		slices.SortStableFunc(s.Members, func(a, b types.Member) int { return cmp.Compare(b.Shares, a.Shares) })
		s.Members = s.Members[:types.MaxMembers]
		slices.SortFunc(s.Members, func(a, b types.Member) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	}
	return s
}
