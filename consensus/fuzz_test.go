package consensus

import (
	"math"
	"math/rand/v2"
	"testing"

	"charter/types"
)

// gibberish reads structured garbage from bytes: blocks that are nearly right and blocks that
// are not, ticks back and forth, snapshots that nobody asked for.
type gibberish struct {
	data []byte
	c    *Core
	cfg  Config
	ids  []types.Hash
	out  []*types.Block
}

func (g *gibberish) byte() byte {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return b
}

// odd is one of the numbers that are good at breaking things, or a small one.
func (g *gibberish) odd(near uint64) uint64 {
	switch b := g.byte(); {
	case b < 128:
		return near + uint64(b%5) - 2
	case b < 200:
		return uint64(b - 128)
	default:
		return []uint64{0, 1, math.MaxUint64, math.MaxInt64, types.MaxHeight, 1 << 32}[b%6]
	}
}

func (g *gibberish) id() types.Hash {
	if b := g.byte(); b < 250 && len(g.ids) > 0 {
		return g.ids[len(g.ids)-1-int(b)%len(g.ids)]
	}
	return types.Hash{g.byte()}
}

func (g *gibberish) event() Event {
	c := g.c
	switch op := g.byte(); {
	case op < 190: // what the Core itself would build, by anybody, perhaps spoilt
		b := g.likely()
		if g.byte() < 12 {
			g.spoil(b)
		}
		return Block{b}
	case op < 194:
		b := &types.Block{
			Height: g.odd(c.all.height), Author: letterKey('a' + g.byte()%6), Parent: g.id(),
			Time: types.Millis(g.odd(uint64(c.now))),
		}
		for range g.byte() % 5 {
			b.Merges = append(b.Merges, g.id()) // not sorted, and some twice: not even a decoder's block
		}
		if g.byte() < 128 {
			b.Previous = g.id()
		}
		return Block{b}
	case op < 200 && len(g.out) > 0:
		return Block{g.out[int(g.byte())%len(g.out)]} // again
	case op < 225:
		return Tick{c.now + types.Millis(g.byte())*20 - 500}
	case op < 228:
		return Tick{types.Millis(g.odd(uint64(c.now)))}
	case op < 240:
		s := &types.Snapshot{Height: uint64(g.byte()%8) * g.cfg.Params.SnapshotPeriod}
		for i := range 1 + g.byte()%5 {
			s.Members = append(s.Members, types.Member{Peer: letterKey('a' + i), Shares: types.Amount(1 + g.byte())})
		}
		if _, known := c.snapshots[s.Height]; known {
			return Waiting{true} // a driver hands each over once
		}
		return Snapshot{s}
	case op < 248:
		return Waiting{op%2 == 0}
	default:
		return Syncing{op%2 == 0}
	}
}

// likely is a block upon what may be named below some height.
func (g *gibberish) likely() *types.Block {
	c := g.c
	h := c.highest() + 1
	if g.byte() < 150 {
		h = max(h, 2) - 1
	}
	named := c.gather(max(1, h))
	b := &types.Block{Author: letterKey('a' + g.byte()%5), Height: 1, Parent: g.cfg.Chain, Time: c.now - types.Millis(g.byte()%8)}
	if len(named) == 0 || named[0] == c.genesis {
		b.Past, _ = c.Digest([]types.Hash{g.cfg.Chain})
		return b
	}
	view := c.viewOf(named)
	if view.dec != nil {
		b.Past = c.digestOf(view)
	}
	for range 4 { // rather by somebody who has no block there yet
		if a, ok := c.number[b.Author]; ok && c.all.tip(a) != nil && c.all.tip(a).height >= view.height {
			b.Author[0] = 'a' + (b.Author[0]-'a'+1)%5
		}
	}
	b.Height, b.Parent = view.height, named[int(g.byte())%len(named)].id
	if view.dec != nil {
		r := c.runFor(view, b.Height)
		if in := vrfInput(r, b.Height); in != nil {
			b.VRF = testVRF(b.Author, in)
		}
		if r.ready {
			b.Parent = c.chosen(view, r).parent.id
			b.Time = max(b.Time, c.due(view, r))
		}
	}
	for _, v := range named {
		b.Time = max(b.Time, v.block.Time)
		if v.id != b.Parent {
			b.Merges = append(b.Merges, v.id)
		}
	}
	sortHashes(b.Merges)
	if a, ok := c.number[b.Author]; ok {
		if t := view.tip(a); t != nil {
			b.Previous = t.id
		}
	}
	return b
}

func (g *gibberish) spoil(b *types.Block) {
	switch g.byte() % 7 {
	case 0:
		b.Height = g.odd(b.Height)
	case 1:
		b.Time = types.Millis(g.odd(uint64(b.Time)))
	case 2:
		b.Previous = g.id()
	case 3:
		b.Parent = g.id()
	case 4:
		b.Merges = append(b.Merges, g.id())
	case 5:
		if len(b.Merges) > 0 {
			b.Merges = b.Merges[1:]
		}
	case 6:
		b.Payload, b.PayloadBytes = types.Hash{g.byte()}, 1
	}
}

// babble feeds all of the data to a Core, as whoever stands around it may, and checks after
// each event what must hold whatever comes.
func babble(t testing.TB, data []byte) *Core {
	genesis := &types.Snapshot{}
	for i := range byte(4) {
		genesis.Members = append(genesis.Members, types.Member{Peer: letterKey('a' + i), Shares: 3})
	}
	cfg := testConfig(types.Hash{3}, genesis)
	cfg.Params.SnapshotLag, cfg.Params.SnapshotPeriod, cfg.Params.RunLength, cfg.Params.RunTail = 9, 4, 4, 4
	cfg.Self = letterKey('a')
	g := &gibberish{data: data, cfg: cfg, c: New(cfg)}
	c := g.c
	c.Step(Tick{cfg.Time})
	g.ids = append(g.ids, cfg.Chain)
	next := uint64(1)
	ordered := make(map[types.Hash]bool)
	for len(g.data) > 0 {
		e := g.event()
		if b, ok := e.(Block); ok {
			g.out = append(g.out, b.Block)
			g.ids = append(g.ids, b.ID(cfg.Chain))
		}
		before := c.now
		c.Step(e)
		r := c.Ready()
		c.Advance()
		if c.now < before {
			t.Fatal("time went back")
		}
		if len(c.vertices) > len(g.out)+1 || len(c.pending) > maxPending || len(c.future) > maxFuture || len(c.parked) > maxPending || len(c.levels) > len(g.out)+3 {
			t.Fatalf("%d vertices, %d levels, %d pending, %d future, %d parked after %d blocks", len(c.vertices), len(c.levels), len(c.pending), len(c.future), len(c.parked), len(g.out))
		}
		for _, d := range r.Decided {
			if d.Height != next {
				t.Fatalf("height %d is decided after %d", d.Height, next-1)
			}
			next++
			for _, id := range d.Blocks {
				if ordered[id] {
					t.Fatalf("block %s is in the order twice", id.Short())
				}
				ordered[id] = true
			}
		}
		for _, x := range r.Refused {
			if c.Has(x.ID) {
				t.Fatalf("a refused block is in the view: %v", x.Err)
			}
		}
		if b := r.Build; b != nil && (b.Time > c.now || b.Height == 0 || b.Parent.IsZero()) {
			t.Fatalf("a template that breaks rules: %+v", b)
		}
	}
	return c
}

// FuzzStep: no event from outside makes a Core panic, lose its bounds or contradict itself.
func FuzzStep(f *testing.F) {
	rng := rand.New(rand.NewPCG(8, 8))
	for range 6 {
		f.Add(randomBytes(rng, 400))
	}
	f.Fuzz(func(t *testing.T, data []byte) { babble(t, data[:min(len(data), 4000)]) })
}

func randomBytes(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}

// The same garbage, seeded: it must reach deep enough to mean something.
func TestBabble(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	decided, height := uint64(0), uint64(0)
	for range 60 {
		c := babble(t, randomBytes(rng, 2500))
		decided, height = max(decided, c.Decided()), max(height, c.Height())
	}
	if decided < 3 || height < 10 {
		t.Errorf("decided %d, height %d: the garbage is too bad", decided, height)
	}
	t.Logf("decided %d, height %d", decided, height)
}
