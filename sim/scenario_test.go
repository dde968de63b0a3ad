package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"charter/consensus"
	"charter/ledger"
	"charter/store"
	"charter/tlog"
	"charter/types"
)

// Incidents of others, each as a scenario: what happened there, what the like would be here,
// and which guard stops it. internal/mutants takes each guard out, and sees the scenario
// fail without it.

// company is four peers of equal shares, 0 to 3, whose real cores speak in rounds of WaitQuorum.
type company struct {
	t        *testing.T
	cfg      consensus.Config
	cores    []*consensus.Core
	now      types.Millis
	blocks   map[types.Hash]*types.Block // that were ever shown
	decided  [4][]consensus.Decision     // as told
	stored   [4][]consensus.Accepted
	has      [4]map[types.Hash]bool // of stored
	refused  [4][]consensus.Refusal
	restored [4]int
}

// not3 leads as anybody does but peer 3.
const not3 = -1

// newCompany is a company whose first heights these lead.
func newCompany(t *testing.T, salt byte, leaders ...int) *company {
	c := &company{t: t, blocks: make(map[types.Hash]*types.Block), now: 1000}
	genesis := new(types.Snapshot)
	for i := range 4 {
		genesis.Members = append(genesis.Members, types.Member{Peer: peerKey(i), Shares: 1})
	}
	c.cfg = consensus.Config{
		Genesis: genesis, Time: 1000,
		Params: types.Params{SnapshotLag: 4000, SnapshotPeriod: 4096, RunLength: 2000, RunTail: 8, WaitLeader: 100, WaitQuorum: 1000, WaitIdle: 1000, CheckpointEvery: 16},
		VRF: func(p types.Key, in []byte, proof types.VRFProof) error {
			if proof != proveVRF(p, in) {
				return errors.New("another proof")
			}
			return nil
		},
		VRFOutput: func(p types.VRFProof) types.Hash { return sha256.Sum256(p[:]) },
	}
	c.cfg.Chain[31] = salt
	led := func() bool {
		n := NewNaive(c.cfg, nil)
		for h, l := range leaders {
			leader := n.draw(n.first, uint64(h)+1).leader
			if l == not3 && leader == peerKey(3) || l != not3 && leader != peerKey(l) {
				return false
			}
		}
		return true
	}
	for i := uint64(0); !led(); i++ {
		binary.BigEndian.PutUint64(c.cfg.Chain[:], i)
	}
	for i := range 4 {
		cfg := c.cfg
		cfg.Self = peerKey(i)
		c.cores = append(c.cores, consensus.New(cfg))
		c.cores[i].Step(consensus.Waiting{Is: true})
		c.has[i] = make(map[types.Hash]bool)
	}
	return c
}

func peerKey(i int) types.Key { return types.Key{byte(i) + 1} }

// take is what a core asks for and tells; what it tells is kept.
func (c *company) take(i int) consensus.Ready {
	c.cores[i].Step(consensus.Tick{Now: c.now})
	r := c.cores[i].Ready()
	c.cores[i].Advance()
	for _, a := range r.Accepted {
		c.stored[i], c.has[i][a.ID] = append(c.stored[i], a), true
	}
	c.refused[i] = append(c.refused[i], r.Refused...)
	for _, d := range r.Decided {
		if next := uint64(len(c.decided[i])) + 1; d.Height != next {
			c.t.Fatalf("peer %d tells height %d where %d is next", i, d.Height, next)
		}
		c.decided[i] = append(c.decided[i], d)
	}
	return r
}

// build is the block that a peer builds now, nil for none. Nobody is given it.
func (c *company) build(i int) *types.Block {
	t := c.take(i).Build
	if t == nil {
		return nil
	}
	b := t.Block(peerKey(i))
	if t.VRF != nil {
		b.VRF = proveVRF(b.Author, t.VRF)
	}
	c.cores[i].Step(consensus.Block{Block: b})
	c.take(i)
	return b
}

// give gives a block to a peer, and then what that finds missing of what was ever shown. If it has that
// stored, it is made anew from all that it has stored.
func (c *company) give(to int, b *types.Block) {
	c.blocks[b.ID(c.cfg.Chain)] = b
	more := []*types.Block{b}
	for tries := 0; len(more) > 0; tries++ {
		if tries > 200 {
			c.t.Fatalf("what peer %d is given does not help", to)
		}
		for _, b := range more {
			c.cores[to].Step(consensus.Block{Block: b})
		}
		r := c.take(to)
		low := r.Floor != 0
		more = nil
		for _, m := range r.Missing {
			if low = low || c.has[to][m.ID]; c.blocks[m.ID] != nil && !low {
				more = append(more, c.blocks[m.ID])
			}
		}
		if low {
			more = c.restore(to)
		}
	}
}

// round lets some peers build, and shows what they built to all that show allows; nil: to all.
func (c *company) round(who []int, show func(from, to int) bool) {
	var built []*types.Block
	for _, i := range who {
		built = append(built, c.build(i))
		if b := built[len(built)-1]; b != nil {
			c.blocks[b.ID(c.cfg.Chain)] = b
		}
	}
	for k, from := range who {
		for to := range c.cores {
			if built[k] != nil && to != from && (show == nil || show(from, to)) {
				c.give(to, built[k])
			}
		}
	}
	c.now += c.cfg.Params.WaitQuorum
}

var (
	allPeers = []int{0, 1, 2, 3}
	without3 = []int{0, 1, 2}
)

// agree fails unless peers decide the same, as far as both do, and all have come so far.
func (c *company) agree(who []int, least int) {
	c.t.Helper()
	for _, i := range who {
		if len(c.decided[i]) < least {
			c.t.Errorf("peer %d has decided %d heights, want %d", i, len(c.decided[i]), least)
		}
		for h := range min(len(c.decided[i]), len(c.decided[who[0]])) {
			if a, b := c.decided[i][h], c.decided[who[0]][h]; a.Anchor != b.Anchor || !slices.Equal(a.Blocks, b.Blocks) {
				c.t.Errorf("height %d is %s for peer %d, and %s for peer %d", h+1, a.Anchor.Short(), i, b.Anchor.Short(), who[0])
			}
		}
	}
}

// Kusama, 2020: validators that were restored, or ran twice, signed a second vote, and lost their stake.
// Here: a peer whose log is put back from an older copy would sign another block of a height.
// Guard: the second copy of the safety record, which counts further than the log (store, "signed").
func TestKusamaDoubleVotes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	opts := store.Options{Chain: types.Hash{1}, Peer: peerKey(0), Cache: 1 << 20}
	own := func(height uint64, previous types.Hash, salt byte) store.Block {
		b := &types.Block{Height: height, Author: opts.Peer, Previous: previous, Parent: types.Hash{salt}, Time: 1}
		return store.Block{ID: b.ID(opts.Chain), Header: b.Encode()}
	}
	first := own(1, types.Hash{}, 1)
	life := func(blocks ...store.Block) {
		s, err := store.Open(dir, opts)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range blocks {
			if err := s.PutOwn(b); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	life(first)
	backup := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(backup, os.DirFS(filepath.Join(dir, "log"))); err != nil {
		t.Fatal(err)
	}
	life(own(2, first.ID, 1))
	if err := errors.Join(os.RemoveAll(filepath.Join(dir, "log")), os.CopyFS(filepath.Join(dir, "log"), os.DirFS(backup))); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(dir, opts)
	var refusal *store.Error
	if errors.As(err, &refusal) && refusal.Kind == store.MustNotSign {
		return
	}
	t.Errorf("opened from an older copy: %v", err)
	if err == nil {
		t.Errorf("and the second block of height 2: %v", s.PutOwn(own(2, first.ID, 2)))
		s.Close()
	}
}

// Sui and IOTA, 2025: validators kept asking for blocks that others had left behind with garbage
// collection, and stood still. Here: a peer that was cut off comes back with blocks upon a height that
// left memory long ago. Guard: what is not ordered keeps its past in memory (consensus, prune).
func TestSuiPruned(t *testing.T) {
	c := newCompany(t, 2)
	c.round(allPeers, nil)
	late := c.build(3) // upon height 1, and then nobody hears of it
	for range 600 {
		c.round(without3, func(_, to int) bool { return to != 3 })
	}
	c.give(0, late)
	for range 6 {
		c.round(without3, func(_, to int) bool { return to != 3 })
	}
	if !slices.ContainsFunc(c.decided[0], func(d consensus.Decision) bool { return slices.Contains(d.Blocks, late.ID(c.cfg.Chain)) }) {
		t.Errorf("of %d heights none orders the block that came late", len(c.decided[0]))
	}
}

// restore makes a core anew from all that the peer has stored, and gives what waited in it.
func (c *company) restore(i int) []*types.Block {
	base := &consensus.Base{Decisions: c.decided[i], Blocks: slices.Clone(c.stored[i])}
	slices.SortStableFunc(base.Blocks, func(a, b consensus.Accepted) int { return int(a.Block.Height) - int(b.Block.Height) })
	cfg := c.cfg
	cfg.Self = peerKey(i)
	core, err := consensus.Restore(cfg, base)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.restored[i]++; c.restored[i] > 20 {
		c.t.Fatalf("peer %d wants to be made anew without end", i)
	}
	core.Step(consensus.Tick{Now: c.now})
	core.Step(consensus.Waiting{Is: true})
	waiting := c.cores[i].Waiting()
	c.cores[i] = core
	return waiting
}

// Ethereum, May 2023: votes for old targets made clients work through old states again, until too few
// were left to finalise. Here: a peer's old blocks, which vote on heights long decided, come in by the
// dozen. Guard: deciding goes on from the last decision, and never over it again (decideAll).
func TestEthereumOldVotes(t *testing.T) {
	c := newCompany(t, 3)
	var old []*types.Block
	for range 30 {
		old = append(old, c.build(3))
		c.round(without3, nil)
	}
	before := len(c.decided[0])
	for _, b := range old {
		for to := range 3 {
			c.give(to, b)
		}
	}
	for range 4 {
		c.round(allPeers, nil)
	}
	c.agree(without3, before+4)
}

// Holešky, February 2025: most clients had one mistake, and justified a block that breaks the rules.
// Here: three of four peers carry a wrong digest of their past, and build upon each other. Guard: every
// peer judges every block, however many stand behind it (rule 7, judge).
func TestHoleskySupermajority(t *testing.T) {
	c := newCompany(t, 4, 0, 0, 0, 0, 0, 0)
	last := []types.Hash{c.cfg.Chain}
	lines := make([]types.Hash, 3)
	for h := uint64(1); h <= 5; h++ {
		var level []types.Hash
		for i := range 3 {
			b := &types.Block{Height: h, Author: peerKey(i), Previous: lines[i], Parent: last[0], Past: types.Hash{9}, Time: c.now}
			b.Merges = slices.Clone(last[1:])
			sortHashes(b.Merges)
			lines[i] = b.ID(c.cfg.Chain)
			level = append(level, lines[i])
			c.cores[3].Step(consensus.Block{Block: b})
		}
		last = level
		c.take(3)
		c.now += 10
	}
	if len(c.decided[3]) > 0 || c.cores[3].Has(lines[0]) {
		t.Errorf("the fourth peer follows them: %d heights", len(c.decided[3]))
	}
	if len(c.refused[3]) == 0 || c.build(3) == nil {
		t.Errorf("the fourth peer refused %d blocks, and does not go on", len(c.refused[3]))
	}
}

// gasper lets peer 3 see all and show its blocks as it likes. It leads height 2.
func gasper(t *testing.T, salt byte, rounds int, show func(round, to int) bool) *company {
	c := newCompany(t, salt, not3, 3, not3, not3, not3, not3, not3, not3)
	for round := range rounds {
		c.round(allPeers, func(from, to int) bool { return from != 3 || show(round, to) })
	}
	return c
}

// Gasper, 2019: votes shown to one side make it justify one branch and the next time the other, for ever.
// Here: peer 3 shows its blocks to peer 0 only, whose parent is then another than that of 1 and 2.
// Guard: to name the leader's block is to vote for it; the parent is an opinion (finality, confirms).
func TestGasperBouncing(t *testing.T) {
	split := 0
	for salt := range byte(8) {
		c := gasper(t, salt, 9, func(_, to int) bool { return to == 0 })
		c.agree(without3, 6)
		parents := make(map[uint64]map[types.Hash]bool)
		for _, b := range c.blocks {
			if parents[b.Height] == nil {
				parents[b.Height] = make(map[types.Hash]bool)
			}
			if parents[b.Height][b.Parent] = true; len(parents[b.Height]) == 2 {
				split++
			}
		}
	}
	if split < 8 {
		t.Errorf("parents differ at %d heights only: nothing was tried", split)
	}
}

// Gasper, 2020: a few votes, held back and shown to halves, keep two branches level, so that peers differ.
// Here: peer 3 shows each of its blocks to some, so that they count other witnesses for a branch than
// the rest. Guard: witnesses count as the block itself recorded them, in its past (choice, witness).
func TestGasperBalancing(t *testing.T) {
	for salt := range byte(24) {
		rng := rand.New(rand.NewPCG(uint64(salt), 1))
		c := gasper(t, salt, 10, func(_, _ int) bool { return rng.IntN(2) == 0 })
		c.agree(without3, 3)
		all := slices.SortedFunc(func(yield func(*types.Block) bool) {
			for _, b := range c.blocks {
				if !yield(b) {
					return
				}
			}
		}, func(a, b *types.Block) int {
			x, y := a.ID(c.cfg.Chain), b.ID(c.cfg.Chain)
			return slices.Compare(x[:], y[:])
		})
		for range 4 { // who comes later hears all of it in some other order
			late := consensus.New(c.cfg)
			late.Step(consensus.Tick{Now: farFuture})
			rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			for _, b := range all {
				late.Step(consensus.Block{Block: b})
			}
			told := late.Ready().Decided
			for h, d := range c.decided[0] {
				if h >= len(told) || told[h].Anchor != d.Anchor {
					t.Fatalf("chain %d: height %d is %s, and not for who comes later: %v", salt, h+1, d.Anchor.Short(), anchors(told))
				}
			}
		}
	}
}

// Uncertified graphs, from 2023 on: a block that names others which do not exist makes all ask for them.
// Here: one peer sends 40,000 such blocks. Guard: so many may wait and no more, and what is complete
// passes by (consensus, maxPending).
func TestPullInduction(t *testing.T) {
	c := newCompany(t, 7)
	c.round(allPeers, nil)
	c.take(0)
	for i := range 40_000 {
		b := &types.Block{Height: 5, Author: peerKey(3), Time: c.now}
		binary.BigEndian.PutUint64(b.Parent[:], uint64(i)+1)
		c.cores[0].Step(consensus.Block{Block: b})
	}
	if n := len(c.cores[0].Waiting()); n < 1<<9 || n > 1<<15 {
		t.Errorf("%d blocks wait", n)
	}
	for range 4 {
		c.round(without3, nil)
	}
	c.agree(without3, 2)
}

// Aptos, October 2023: the order of a map made validators compute different states, and the chain halt.
// Here: at a snapshot fees become outputs, at positions in the order of peers. Guard: whatever comes
// out of a map is sorted (ledger, Overlay.Peers).
func TestAptosNondeterminism(t *testing.T) {
	var first []types.OutputState
	for life := range 20 {
		m, g := newMoney(t, 8)
		o := ledger.NewOverlay(m, m.State())
		batch := &ledger.Batch{Height: 1, Anchor: types.Hash{1}, Time: g.Time + 1}
		for i := range g.Peers {
			tx := spend(t, m, uint64(i), 1000, nil)
			batch.Transactions = append(batch.Transactions, ledger.Ordered{Tx: tx.Tx, ID: tx.ID, Author: g.Peers[i].Peer})
		}
		if _, err := o.Apply(batch); err != nil {
			t.Fatal(err)
		}
		paid, err := o.TakeSnapshot(10)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = paid.Created
		}
		if len(first) != 8 || !slices.Equal(paid.Created, first) {
			t.Fatalf("life %d pays fees in another order", life)
		}
	}
}

// newMoney is a chain where each of so many peers hosts one output of 1000 shares.
func newMoney(t *testing.T, peers int) (*ledger.Memory, *types.Genesis) {
	g := &types.Genesis{Network: "incidents", Time: 1_000_000, Params: types.LocalParams}
	lock := simKey(1000)
	for i := range peers {
		g.Peers = append(g.Peers, types.GenesisPeer{Peer: simKey(i), Name: "peer-" + string(rune('a'+i)), Address: "10.0.0.1:1", Reward: lock})
		g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: lock, Host: simKey(i)})
	}
	m, _, err := ledger.NewMemory(g)
	if err != nil {
		t.Fatal(err)
	}
	return m, g
}

// payment spends the output at a position, all but the fee to one output, and then changed.
func payTo(m *ledger.Memory, at uint64, fee types.Amount, change func(*types.Transaction)) *types.Transaction {
	out, _ := m.Output(at)
	tx := &types.Transaction{
		ValidUntil: types.MaxTime, Fee: fee,
		Inputs:  []types.Input{{Position: at, Source: out.Source, Index: out.Index, Output: out.Output}},
		Outputs: []types.Output{{Value: out.Output.Value - fee, Lock: out.Output.Lock, Host: out.Output.Host}},
	}
	if change != nil {
		change(tx)
	}
	return tx
}

func spend(t *testing.T, m *ledger.Memory, at uint64, fee types.Amount, change func(*types.Transaction)) *ledger.Parsed {
	p, err := ledger.Parse(m.State().Chain, &types.LocalParams, payTo(m, at, fee, change).Encode())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refused fails unless a transaction, changed, is refused for this.
func refused(t *testing.T, kind ledger.Kind, fee types.Amount, change func(*types.Transaction)) {
	t.Helper()
	m, _ := newMoney(t, 4)
	spend(t, m, 0, 1_000_000, nil) // but for the change it is fine
	if _, err := ledger.Parse(m.State().Chain, &types.LocalParams, payTo(m, 0, fee, change).Encode()); !ledger.IsKind(err, kind) {
		t.Errorf("%v, want %s", err, kind)
	}
}

// Solana, September 2022: a validator made two versions of a block, and who held the one could not go
// over to the other, which the rest had taken. Here: of three versions an honest peer has built upon one
// that others do not hold. Guard: a version that is named is taken in, if two are known (excess).
func TestSolanaStaleVersion(t *testing.T) {
	c := newCompany(t, 8)
	build, versions := c.take(3).Build, make([]*types.Block, 3)
	for i := range versions {
		v := *build.Block(peerKey(3))
		v.Sample = types.Hash{byte(i)}
		versions[i] = &v
	}
	c.round(without3, nil)
	c.give(0, versions[0])
	c.give(0, versions[1])
	c.give(1, versions[2]) // all that peer 1 knows of
	c.round([]int{1}, func(_, to int) bool { return to != 0 })
	for _, b := range c.blocks {
		if b.Author == peerKey(1) && b.Height == 2 {
			c.cores[0].Step(consensus.Block{Block: b})
		}
	}
	missing := c.take(0).Missing
	if len(missing) != 1 || missing[0].ID != versions[2].ID(c.cfg.Chain) {
		t.Fatalf("missing are %v", missing)
	}
	if c.give(0, versions[2]); !c.cores[0].Has(missing[0].ID) || !c.cores[0].Has(missing[0].For) {
		t.Error("the version that was built upon does not enter")
	}
}

// CVE-2018-17144, Bitcoin: a transaction with one input twice was taken, and made money.
// Here: the same; the sums would balance. Guard: an output is spent once by one transaction
// (ledger, RepeatedInput).
func TestDuplicateInputs(t *testing.T) {
	refused(t, ledger.RepeatedInput, 1_000_000, func(tx *types.Transaction) {
		tx.Inputs = append(tx.Inputs, tx.Inputs[0])
		tx.Outputs[0].Value += tx.Inputs[0].Output.Value
	})
}

// CVE-2010-5139, Bitcoin: two outputs whose sum went over the end of 64 bits made 184 billion coins.
// Here: three outputs whose sum with the fee comes round to that of the inputs. Guard: sums of amounts
// are checked (types, Amount.Add).
func TestOverflow(t *testing.T) {
	refused(t, ledger.Overflow, 1_000_000, func(tx *types.Transaction) {
		out := tx.Outputs[0]
		most := out
		most.Value = types.MaxSupply // twice that and two more is nothing
		out.Value += 2
		tx.Outputs = []types.Output{most, most, out}
	})
}

// CVE-2012-2459, Bitcoin: a list with its last entries there twice had the root of the list without, so
// that a spoilt copy of a block passed for it, and its id was refused for ever. Here: the payload of a
// block. Guard: an odd node is carried up, not paired with itself (tlog, RFC 6962).
func TestDuplicateLeaves(t *testing.T) {
	var leaves []types.Hash
	for n := byte(1); n < 20; n++ {
		leaves = append(leaves, tlog.LeafHash([]byte{n}))
		for k := range len(leaves) {
			if tlog.Root(append(slices.Clone(leaves), leaves[k:]...)) == tlog.Root(leaves) {
				t.Errorf("%d leaves, the last %d of them twice, have one root", n, len(leaves)-k)
			}
		}
	}
}

// Nano, March 2021: transactions that cost nothing filled the disks of all nodes for weeks.
// Here: a payment with a fee below that of its bytes. Guard: a least fee for each byte, without which
// no peer carries it and no block with it is valid (ledger, LowFee).
func TestNanoSpam(t *testing.T) {
	refused(t, ledger.LowFee, 0, nil)
	refused(t, ledger.LowFee, 0, func(tx *types.Transaction) {
		for len(tx.Outputs) < 100 {
			tx.Outputs = append(tx.Outputs, types.Output{Value: 1, Lock: tx.Outputs[0].Lock})
			tx.Outputs[0].Value--
		}
	})
}

// Ethereum Classic, 2020: a miner built thousands of blocks for itself, showed them at once, and what
// had been paid was not. Here: peer 3 signs 40 heights in a moment, to be ahead of all. Guard: a block
// without two thirds below it comes WaitQuorum after the last (rule 4, judgeTime).
func TestClassicPrivateChain(t *testing.T) {
	c := newCompany(t, 9)
	for range 5 {
		c.round(allPeers, nil)
	}
	before := c.cores[0].Height()
	tip := c.build(3)
	c.give(0, tip)
	for range 40 {
		b := &types.Block{Height: tip.Height + 1, Author: peerKey(3), Previous: tip.ID(c.cfg.Chain), Parent: tip.ID(c.cfg.Chain), Time: tip.Time}
		b.Past, _ = c.cores[0].Digest(b.Named())
		c.give(0, b)
		tip = b
	}
	if h := c.cores[0].Height(); h > before+1 {
		t.Errorf("from height %d one peer has taken all to height %d", before, h)
	}
	for range 4 {
		c.round(without3, nil)
	}
	c.agree(without3, int(before)+1)
}
