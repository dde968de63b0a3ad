// Package formal replays against the model of spec/formal what the core does: four keys, one of which runs twice, on
// a network that delays and cuts. Each block, each decision and the order go into a Quint module, whose tests work
// them out anew by the model.
package formal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"charter/consensus"
	"charter/types"
)

const (
	keys    = 4
	twin    = 3    // the key that runs twice
	copy    = keys // the line of its second life
	lines   = keys + 1
	genesis = types.Millis(1_000_000)
)

// company is a core for each line, and the network between them.
type company struct {
	t     *testing.T
	rng   *rand.Rand
	cfg   consensus.Config
	peers []*peer
	queue []message
	now   types.Millis
	side  [lines]int // of the cut
	until types.Millis

	shares  [][]types.Amount // by snapshot and author
	blocks  []*types.Block   // in the order in which they were built
	byID    map[types.Hash]*types.Block
	line    map[types.Hash]int
	wrong   map[types.Hash]bool // the parent is not the fork choice
	split   int                 // how many blocks of the twin both its lives stand upon
	refused []refusal
}

type peer struct {
	core      *consensus.Core
	line      int
	holds     [lines]int // how many blocks of each line
	decisions []consensus.Decision
	build     *consensus.Template
	wake      types.Millis
	asked     map[types.Hash]types.Millis
	forks     int
}

type message struct {
	at       types.Millis
	from, to int
	block    *types.Block
}

// refusal is a block made wrong on purpose, and the rule by which the core refused it.
type refusal struct {
	block *types.Block
	line  int
	at    int // how many blocks there were
	rule  int
}

func key(i int) types.Key { return types.Key{'a' + byte(i)} }

func vrf(p types.Key, input []byte) (proof types.VRFProof) {
	h := sha256.Sum256(append(p[:], input...))
	clear(proof[:])
	for i := range h {
		proof[i] = h[i]
	}
	return proof
}

// run is a company that built so many blocks. The twin starts its second life when it has some blocks.
func run(t *testing.T, seed uint64, size int) *company {
	c := &company{t: t, rng: rand.New(rand.NewPCG(seed, 3)), now: genesis, byID: map[types.Hash]*types.Block{},
		line: map[types.Hash]int{}, wrong: map[types.Hash]bool{}}
	var snapshots []*types.Snapshot
	for h := range 40 {
		s := &types.Snapshot{Height: uint64(4 * h)}
		shares := make([]types.Amount, keys)
		away := h > 0 && c.rng.IntN(3) == 0 // one of the others has no shares for a while
		for i := range keys {
			if shares[i] = types.Amount(900 + c.rng.IntN(300)); i == twin {
				shares[i] = 800 // less than a third, also of what is left
			}
			if away && i == h%twin {
				shares[i] = 0
				continue
			}
			s.Members = append(s.Members, types.Member{Peer: key(i), Shares: shares[i]})
		}
		snapshots, c.shares = append(snapshots, s), append(c.shares, shares)
	}
	c.cfg = consensus.Config{
		Chain: types.Hash{7, byte(seed)}, Time: genesis, Genesis: snapshots[0],
		Params: types.Params{SnapshotLag: 12, SnapshotPeriod: 4, RunLength: 4, RunTail: 3, WaitLeader: 100, WaitQuorum: 1000, WaitIdle: 1000, CheckpointEvery: 1},
		VRF: func(p types.Key, in []byte, proof types.VRFProof) error {
			if proof != vrf(p, in) {
				return fmt.Errorf("another proof")
			}
			return nil
		},
		VRFOutput: func(p types.VRFProof) types.Hash { return sha256.Sum256(p[:]) },
	}
	for i := range lines {
		cfg := c.cfg
		cfg.Self = key(min(i, twin))
		p := &peer{core: consensus.New(cfg), line: i, asked: map[types.Hash]types.Millis{}}
		for _, s := range snapshots[1:] {
			p.core.Step(consensus.Snapshot{Snapshot: s})
		}
		p.core.Step(consensus.Waiting{Is: true})
		c.peers = append(c.peers, p)
	}
	start := c.rng.IntN(4) // blocks of the twin before it runs twice
	awake := keys
	for len(c.blocks) < size {
		if awake == keys && c.peers[twin].holds[twin] >= start {
			c.wake()
			awake = lines
		}
		c.step(awake)
	}
	return c
}

// wake lets the second life of the twin begin with all that the first holds.
func (c *company) wake() {
	p := c.peers[copy]
	c.split = c.peers[twin].holds[twin]
	p.core.Step(consensus.Tick{Now: c.now})
	for _, b := range c.blocks {
		if c.peers[twin].core.Has(b.ID(c.cfg.Chain)) {
			p.core.Step(consensus.Block{Block: b})
		}
	}
	c.follow(p)
	c.part()
}

// part draws a cut, or none, and for how long.
func (c *company) part() {
	cut := c.rng.IntN(3) > 0
	for i := range c.side {
		c.side[i] = 0
		if cut && i < twin {
			c.side[i] = c.rng.IntN(2)
		}
	}
	if cut {
		c.side[copy] = 1
	}
	c.until = c.now + types.Millis(200+c.rng.IntN(1500))
}

// step goes on to the next moment at which anything happens, and lets it happen.
func (c *company) step(awake int) {
	next := c.now + c.cfg.Params.WaitQuorum
	for _, p := range c.peers[:awake] {
		c.turn(p)
		if p.wake > 0 {
			next = min(next, p.wake)
		}
	}
	for _, m := range c.queue {
		if c.side[m.from] == c.side[m.to] {
			next = min(next, m.at)
		}
	}
	if c.now = max(c.now+1, next); c.now >= c.until {
		c.part()
	}
	var later []message
	for _, m := range c.queue {
		if m.at > c.now || c.side[m.from] != c.side[m.to] || m.to >= awake {
			later = append(later, m)
			continue
		}
		p := c.peers[m.to]
		p.core.Step(consensus.Tick{Now: c.now})
		p.core.Step(consensus.Block{Block: m.block})
		c.follow(p)
	}
	c.queue = later
}

// turn lets a peer see the time, and build as often as it wants to.
func (c *company) turn(p *peer) {
	p.core.Step(consensus.Tick{Now: c.now})
	for c.follow(p); p.build != nil; c.follow(p) {
		b := p.build.Block(key(min(p.line, twin)))
		if p.build.VRF != nil {
			b.VRF = vrf(b.Author, p.build.VRF)
		}
		if p.line >= twin {
			b.Payload, b.PayloadBytes = types.Hash{byte(p.line), 1}, 1
			c.choose(b)
		}
		c.spoil(p, b)
		id := b.ID(c.cfg.Chain)
		c.blocks, c.byID[id], c.line[id] = append(c.blocks, b), b, p.line
		p.core.Step(consensus.Block{Block: b})
		for i := range lines {
			if i != p.line && min(i, twin) != min(p.line, twin) {
				c.send(p.line, i, b)
			}
		}
	}
}

func (c *company) send(from, to int, b *types.Block) {
	delay := 5 + c.rng.IntN(40)
	if c.rng.IntN(12) == 0 {
		delay += c.rng.IntN(600)
	}
	c.queue = append(c.queue, message{c.now + types.Millis(delay), from, to, b})
}

// choose gives a block of the twin another parent now and then.
func (c *company) choose(b *types.Block) {
	if len(b.Merges) == 0 || c.rng.IntN(5) > 0 {
		return
	}
	i := c.rng.IntN(len(b.Merges))
	b.Parent, b.Merges[i] = b.Merges[i], b.Parent
	slices.SortFunc(b.Merges, func(x, y types.Hash) int { return bytes.Compare(x[:], y[:]) })
	c.wrong[b.ID(c.cfg.Chain)] = true
}

// spoil makes now and then a wrong block of a good one, and has the builder's own core refuse it.
func (c *company) spoil(p *peer, b *types.Block) {
	if c.rng.IntN(6) > 0 {
		return
	}
	bad := *b
	bad.Merges = slices.Clone(b.Merges)
	var want consensus.Kind
	switch c.rng.IntN(4) {
	case 0:
		bad.Height++
		want = consensus.WrongHeight
	case 1:
		if bad.Previous.IsZero() {
			return
		}
		bad.Previous = c.byID[bad.Previous].Previous
		want = consensus.WrongPrevious
	case 2: // a block that is in the past already
		past := c.byID[b.Parent]
		if past == nil || past.Parent == c.cfg.Chain {
			return
		}
		bad.Merges = append(bad.Merges, past.Parent)
		slices.SortFunc(bad.Merges, func(x, y types.Hash) int { return bytes.Compare(x[:], y[:]) })
		want = consensus.WrongNames
	case 3:
		for _, id := range b.Named() {
			if n := c.byID[id]; n != nil {
				bad.Time = min(bad.Time, n.Time-1)
			}
		}
		if bad.Time == b.Time {
			return
		}
		want = consensus.WrongTime
	}
	p.core.Step(consensus.Block{Block: &bad})
	r := p.core.Ready()
	if len(r.Refused) != 1 || r.Refused[0].Err.Kind != want {
		c.t.Fatalf("a block of %s was refused as %v", want, r.Refused)
	}
	c.refused = append(c.refused, refusal{&bad, p.line, len(c.blocks), int(want)})
	c.follow(p)
}

// follow takes note of what Ready tells, and asks for what is missing.
func (c *company) follow(p *peer) {
	r := p.core.Ready()
	for _, a := range r.Accepted {
		l := c.line[a.ID]
		p.holds[l]++
	}
	p.decisions = append(p.decisions, r.Decided...)
	p.build, p.wake = r.Build, r.Wake
	p.forks += len(r.Forks)
	for _, m := range r.Missing {
		if b := c.byID[m.ID]; b != nil && c.now >= p.asked[m.ID] {
			p.asked[m.ID] = c.now + 200
			// Who made the block that names it has it.
			c.send(c.line[m.For], p.line, b)
		}
	}
	p.core.Advance()
}

// draw is what one height gives, by a computation of its own: the authors by rank, and their weights.
func (c *company) draw(seed types.Hash, height uint64, shares []types.Amount) (rank []int, weight []int64) {
	weight = make([]int64, keys)
	quotient := make([]float64, keys)
	var total types.Amount
	for _, s := range shares {
		total += s
	}
	for i, s := range shares {
		if s == 0 {
			continue
		}
		k := key(i)
		u := types.NewTag("charter/weight").Hash(seed[:], binary.BigEndian.AppendUint64(nil, height), k[:])
		e := -math.Log((float64(binary.BigEndian.Uint64(u[:8])) + 1) / (1 << 64))
		rank = append(rank, i)
		quotient[i] = e / float64(s)
		weight[i] = int64(math.Min(float64(s)/e, float64(total)))
	}
	slices.SortStableFunc(rank, func(i, j int) int {
		switch {
		case quotient[i] < quotient[j]:
			return -1
		case quotient[i] > quotient[j]:
			return 1
		}
		return 0
	})
	return rank, weight
}
