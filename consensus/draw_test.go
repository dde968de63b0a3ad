package consensus

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"charter/types"
)

var update = flag.Bool("update", false, "write spec/vectors/draw.json anew")

// hexBytes is bytes as hexadecimal in JSON.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

// The cases of spec/vectors/draw.json. Numbers that may pass 2^53 are strings.
type (
	logCase struct {
		X uint64 `json:"x,string"`
		E uint64 `json:"e,string"`
	}
	drawnMember struct {
		Peer   types.Key `json:"peer"`
		Shares uint64    `json:"shares,string"`
		E      uint64    `json:"e,string"`
		Rank   int       `json:"rank"`
		Weight uint64    `json:"weight,string"`
	}
	drawCase struct {
		Seed    types.Hash    `json:"seed"`
		Height  uint64        `json:"height"`
		Members []drawnMember `json:"members"`
	}
	runCase struct {
		SnapshotLag    uint64    `json:"snapshot_lag"`
		SnapshotPeriod uint64    `json:"snapshot_period"`
		RunLength      uint64    `json:"run_length"`
		RunTail        uint64    `json:"run_tail"`
		Runs           []runInfo `json:"runs"`
	}
	runInfo struct {
		Start    uint64     `json:"start"`
		Snapshot uint64     `json:"snapshot"`
		Seed     types.Hash `json:"seed"`
		Mark     uint64     `json:"mark"`
		Closer   uint64     `json:"closer"`     // height of the anchor that closes it
		Output   types.Hash `json:"vrf_output"` // of that anchor
	}
	blockCase struct {
		Name    string     `json:"name"`
		Encoded hexBytes   `json:"encoded"` // with a signature of zeros
		ID      types.Hash `json:"id"`
	}
	orderCase struct {
		Comment string        `json:"comment"`
		Chain   types.Hash    `json:"chain"`
		Members []drawnMember `json:"members"`
		Blocks  []blockCase   `json:"blocks"`
		Decided []decidedCase `json:"decided"`
	}
	decidedCase struct {
		Height uint64   `json:"height"`
		Anchor string   `json:"anchor"`
		Order  []string `json:"order"`
	}
	vectors struct {
		About string     `json:"about"`
		Logs  []logCase  `json:"logarithms"`
		Draws []drawCase `json:"draws"`
		Runs  []runCase  `json:"runs"`
		Order orderCase  `json:"order"`
	}
)

const aboutVectors = "Charter, package consensus (spec/consensus.md). logarithms: e of x, \"Weight at a height\". draws: rank and weight of " +
	"each member at a height. runs: start, snapshot and mark of runs of which each is closed by an anchor of the given height with the given VRF " +
	"output; the chain is that of order. order: blocks of a small graph under local parameters with the mark beyond, their encodings and ids, and " +
	"what they decide; e is that of height 1, as are rank and weight."

// TestVectors holds spec/vectors/draw.json to what the package does.
func TestVectors(t *testing.T) {
	path := filepath.Join("..", "spec", "vectors", "draw.json")
	out, err := json.MarshalIndent(makeVectors(t), "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	out = append(out, '\n')
	if *update {
		if err := os.WriteFile(path, out, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out, want) {
		t.Errorf("%s is not what the package does: write it anew with -update, and read the diff", path)
	}
}

func makeVectors(t *testing.T) *vectors {
	v := &vectors{About: aboutVectors}
	xs := []uint64{0, 1, 2, 3, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 3 << 62, 1<<64 - 2, 1<<64 - 1}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 12 {
		xs = append(xs, rng.Uint64())
	}
	for _, x := range xs {
		v.Logs = append(v.Logs, logCase{x, negLog(x)})
	}
	tag := types.NewTag("test/vectors")
	for i, shares := range [][]types.Amount{{1}, {1, 1, 1, 1}, {5, 1000, 70_000_000, 1}, {types.MaxSupply / 2, types.MaxSupply / 3, 1, 2e8, 3e15, 100}} {
		d := drawCase{Seed: tag.Hash([]byte{byte(i)}), Height: []uint64{1, 2, 1 << 20, types.MaxHeight}[i]}
		d.Members = drawMembers(d.Seed, d.Height, shares)
		v.Draws = append(v.Draws, d)
	}
	v.Order = drawOrder(t)
	for _, p := range []types.Params{types.LocalParams, types.MainParams, {SnapshotLag: 5, SnapshotPeriod: 4, RunLength: 4, RunTail: 2}, {SnapshotLag: 17, SnapshotPeriod: 100, RunLength: 1, RunTail: 8}} {
		v.Runs = append(v.Runs, drawRuns(v.Order.Chain, p))
	}
	return v
}

func drawMembers(seed types.Hash, height uint64, shares []types.Amount) (ms []drawnMember) {
	total := types.Amount(0)
	key := func(i int) types.Key { return types.Key(types.NewTag("test/peer").Hash([]byte{byte(i)})) }
	for _, s := range shares {
		total += s
	}
	d := newDraw(seed, height, shares, total, key)
	for i, s := range shares {
		ms = append(ms, drawnMember{key(i), uint64(s), exponential(seed, height, key(i)), d.rank[i], uint64(d.weight[i])})
	}
	return ms
}

// drawRuns follows runs from the first, each closed some heights after its mark.
func drawRuns(chain types.Hash, p types.Params) runCase {
	rc := runCase{p.SnapshotLag, p.SnapshotPeriod, p.RunLength, p.RunTail, nil}
	cfg := testConfig(chain, &types.Snapshot{Members: []types.Member{{Peer: letterKey('a'), Shares: 1}}})
	cfg.Params = p
	c := New(cfg)
	r := c.runs[0]
	for _, late := range []uint64{0, 1, 0, 0, 70, 9} {
		a := &vertex{id: types.Hash{byte(r.Number)}, height: r.mark + late, block: &types.Block{VRF: testVRF(letterKey('a'), r.Seed[:])}}
		rc.Runs = append(rc.Runs, runInfo{r.Start, r.Snapshot, r.Seed, r.mark, a.height, cfg.VRFOutput(a.block.VRF)})
		r = c.nextRun(r, a)
	}
	return rc
}

// drawOrder is six heights of five peers, who do not all see each other's blocks in time.
func drawOrder(t *testing.T) (oc orderCase) {
	w := &world{t: t}
	w.chain([]string{"a=5", "b=1", "c=2", "d=1", "e=1", "lag=4000", "length=2000", "leaders=aceac"})
	for _, line := range []string{
		"a1: genesis", "b1: genesis payload", "c1: genesis", "d1: genesis", "e1: genesis",
		"a2: a1 b1 c1", "b2: a1 b1 c1", "b1': genesis", "c2: a1 c1 d1", "d2: a1 b1' c1 d1", "e2: a1 c1 e1",
		"a3: a2 b2 c2 e2", "c3: a2 c2 e2", "d3: a2 c2 d2 e2", "e3: a2 c2 e2",
		"a4: a3 c3 d3 e3", "c4: a3 c3 e3", "e4: a3 c3 e3", "a5: a4 c4 e4", "c5: a4 c4 e4", "e5: a4 e4 c4", "a6: a5 c5 e5", "c6: a5 c5 e5",
	} {
		w.draw(line)
	}
	n := w.nodes[0]
	oc = orderCase{Comment: "b forks at height 1; a, c, e, a and c lead", Chain: w.cfg.Chain}
	r := n.core.runs[0]
	for i, m := range w.cfg.Genesis.Members {
		d := n.core.draw(r, 1)
		oc.Members = append(oc.Members, drawnMember{m.Peer, uint64(m.Shares), exponential(r.Seed, 1, m.Peer), d.rank[i], uint64(d.weight[i])})
	}
	for _, a := range n.accepted {
		oc.Blocks = append(oc.Blocks, blockCase{w.name(a.ID), a.Block.Encode(), a.ID})
	}
	for _, d := range n.decisions {
		dc := decidedCase{Height: d.Height, Anchor: w.name(d.Anchor)}
		for _, id := range d.Blocks {
			dc.Order = append(dc.Order, w.name(id))
		}
		oc.Decided = append(oc.Decided, dc)
	}
	return oc
}

// bigLog is −ln((x+1)/2^64) to some 200 bits: ln y = 2·artanh((y−1)/(y+1)) for y in [1,2).
func bigLog(x uint64) *big.Float {
	const prec = 256
	num := func(f float64) *big.Float { return new(big.Float).SetPrec(prec).SetFloat64(f) }
	ln := func(y *big.Float) *big.Float {
		z := num(0).Quo(num(0).Sub(y, num(1)), num(0).Add(y, num(1)))
		square, power, sum := num(0).Mul(z, z), num(0).Set(z), num(0)
		for k := 1; k < 140; k += 2 {
			sum.Add(sum, num(0).Quo(power, num(float64(k))))
			power.Mul(power, square)
		}
		return sum.Mul(sum, num(2))
	}
	y := num(0).Add(num(0).SetUint64(x), num(1))
	whole := y.MantExp(nil) - 1
	y.SetMantExp(y, -whole)
	return num(0).Sub(num(0).Mul(num(float64(64-whole)), ln(num(2))), ln(y))
}

// The fixed-point logarithm is less than two units of 2^−58 below the true one (one by rounding
// the last product down, one by rounding ln 2 down), and at most one above it (by the binary
// digits that are cut off, and where e would be zero). It never rises with x.
func TestNegLog(t *testing.T) {
	xs := []uint64{0, 1, 2, 3, 4, 1<<64 - 1, 1<<64 - 2, 1<<64 - 3}
	for i := range 64 {
		xs = append(xs, 1<<i, 1<<i-1, 1<<i-2, 1<<i+1)
	}
	rng := rand.New(rand.NewPCG(2, 3))
	for range 1500 {
		xs = append(xs, rng.Uint64()>>rng.IntN(64))
	}
	low, high := 0.0, 0.0
	for _, x := range xs {
		want := bigLog(x)
		want.SetMantExp(want, 58)
		diff, _ := new(big.Float).Sub(new(big.Float).SetPrec(256).SetUint64(negLog(x)), want).Float64()
		low, high = min(low, diff), max(high, diff)
		if diff <= -2 || diff > 1 {
			t.Errorf("negLog(%d) is off by %.3f units", x, diff)
		}
		if y := x + 1; y != 0 && negLog(y) > negLog(x) {
			t.Errorf("negLog rises from %d to %d", x, y)
		}
	}
	t.Logf("from %.3f to %.3f units off", low, high)
}

// capped agrees with big integers, where the quotient passes 64 bits too.
func TestCapped(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	for range 20_000 {
		total := types.Amount(rng.Uint64N(uint64(types.MaxSupply))>>rng.IntN(60) + 1)
		s := types.Amount(rng.Uint64N(uint64(total)) + 1)
		e := rng.Uint64()>>(4+rng.IntN(60)) + 1
		want := new(big.Int).Lsh(big.NewInt(int64(s)), 58)
		want.Div(want, new(big.Int).SetUint64(e))
		if all := big.NewInt(int64(total)); want.Cmp(all) > 0 {
			want = all
		}
		if got := capped(s, e, total); new(big.Int).SetUint64(uint64(got)).Cmp(want) != 0 {
			t.Fatalf("capped(%d, %d, %d) is %d, want %d", s, e, total, got, want)
		}
	}
}

// The chance to lead is s/S, whoever holds the rest and in how many parts; and the chance of a
// weight of x or more is 1 − exp(−s/x), up to S.
func TestDrawDistribution(t *testing.T) {
	const heights = 30_000
	shares := []types.Amount{1e8, 2e8, 3e8, 4e8, 1e8, 1e8, 1e8, 1e8} // the last four are one of 4e8
	total := types.Amount(14e8)
	leads := make([]float64, len(shares))
	levels := []float64{14e8, 7e8, 3e8, 1e8, 2e7}
	above := make([]float64, len(levels))
	for h := range uint64(heights) {
		d := newDraw(types.Hash{7}, h, shares, total, func(i int) types.Key { return types.Key{byte(i)} })
		leads[d.leader]++
		for i, x := range levels {
			if float64(d.weight[2]) >= x {
				above[i]++
			}
		}
	}
	chi := 0.0
	for i, n := range leads {
		want := heights * float64(shares[i]) / float64(total)
		chi += (n - want) * (n - want) / want
	}
	if chi > 24.3 { // 7 degrees of freedom, one in a thousand
		t.Errorf("leaders %v: χ² = %.1f", leads, chi)
	}
	if split := leads[4] + leads[5] + leads[6] + leads[7]; math.Abs(split-leads[3]) > 4*math.Sqrt(2*heights*2/7) {
		t.Errorf("whole, a stake led %.0f times, and split %.0f", leads[3], split)
	}
	for i, x := range levels {
		p := 1 - math.Exp(-3e8/x)
		if z := (above[i] - heights*p) / math.Sqrt(heights*p*(1-p)); math.Abs(z) > 3.3 {
			t.Errorf("weight ≥ %.0f came %.0f times of %d, %.1f deviations from %.0f", x, above[i], heights, z, heights*p)
		}
	}
}

// A tie of e/s goes to the lower key; without shares there is no rank.
func TestDrawTies(t *testing.T) {
	seed := types.Hash{1}
	key := func(i int) types.Key { return types.Key{byte(5 - i/2)} } // two and two alike, as no real keys are
	d := newDraw(seed, 1, []types.Amount{3, 3, 0, 3}, 9, key)
	if d.rank[2] != -1 || d.weight[2] != 0 {
		t.Errorf("rank %d, weight %d without shares", d.rank[2], d.weight[2])
	}
	same := func(i int) types.Key { return types.Key{9} }
	if d := newDraw(seed, 1, []types.Amount{1, 2, 3}, 6, same); d.rank[2] != 0 || d.rank[1] != 1 || d.rank[0] != 2 {
		t.Errorf("of one e, more shares come first: %v", d.rank)
	}
}
