package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"charter/forest"
	"charter/proof"
	"charter/sig"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

// proofsConfig is the flags of `charter bench proofs`.
type proofsConfig struct {
	Leaves []uint
	Peers  []uint
	JSON   bool
}

// builtLeaves is the greatest tree that is built with all of its nodes; of a greater one only those are
// made that its proofs pass.
const builtLeaves = 1 << 21

func newBenchProofsCommand() *cobra.Command {
	var c proofsConfig
	cmd := &cobra.Command{
		Use:   "proofs",
		Short: "Measure how long proofs are, and how long it takes to verify them",
		Long: fmt.Sprintf(`Proofs makes proofs in trees of so many leaves, verifies them, and tells their bytes and the time from bytes to
verdict. Trees of up to %d leaves are built in memory, node by node. Of greater ones only the nodes are made that a
proof passes: its bytes are exactly those of a full tree, and it verifies.

  event        a payment's fate, under a history of that many checkpoints with 16 events in its own
  output       the state of one of that many outputs
  consistency  an old checkpoint is in the history of one that has that many before it
  key          the latest of that many events of one lock, among that many locks
  certificate  a checkpoint is signed by more than two thirds of so many equal peers; the time is that of its signatures`, builtLeaves),
		Example: `  charter bench proofs
  charter bench proofs --leaves 1000000 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.UintSliceVar(&c.Leaves, "leaves", []uint{10_000, 1_000_000, 1 << 30}, "sizes of the trees, 16 to 2^60")
	f.UintSliceVar(&c.Peers, "peers", []uint{4, 100, 999}, "peers of the certificates, 1 to 1024")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per proof, and the progress on standard error")
	return cmd
}

// measureFor is how long each proof is verified again and again.
const measureFor = 200 * time.Millisecond

// proofRow is one measured proof: a line of the table, an object of --json.
type proofRow struct {
	Kind   string  `json:"kind"`
	Leaves uint64  `json:"leaves"`
	Peers  int     `json:"peers"`
	Bytes  int     `json:"bytes"`
	Verify float64 `json:"verify_us"`
}

// maxVerify bounds the verification of a proof but for a certificate's signatures, in microseconds.
const maxVerify = 5000

// limit is what a proof may have, in bytes, with trees of up to 2³⁰ leaves; 0 is none.
func (r *proofRow) limit() int {
	if r.Leaves > 1<<30 {
		return 0
	}
	switch r.Kind {
	case "event", "consistency":
		return 2048
	case "output":
		return 1228
	case "key":
		return 3072
	case "certificate":
		switch {
		case r.Peers <= 100:
			return 8 << 10
		case r.Peers <= 999:
			return 64 << 10
		}
	}
	return 0
}

func (c *proofsConfig) run(ctx context.Context, out, progress io.Writer) error {
	for _, n := range c.Leaves {
		if n < 16 || n > 1<<60 {
			return &usageError{fmt.Errorf("--leaves is %d: want 16 to 2^60", n)}
		}
	}
	for _, n := range c.Peers {
		if n < 1 || n > types.MaxMembers {
			return &usageError{fmt.Errorf("--peers is %d: want 1 to %d", n, types.MaxMembers)}
		}
	}
	if !c.JSON {
		progress = out
	}
	var rows []proofRow
	for _, n := range c.Leaves {
		began := time.Now()
		g, err := grow(ctx, uint64(n), n <= builtLeaves, func(what string, done float64) {
			fmt.Fprintf(progress, "%d leaves: %s, %.0f %% (%.1f s)\n", n, what, 100*done, time.Since(began).Seconds())
		})
		if err != nil {
			return err
		}
		more, err := g.measure(measureFor)
		if err != nil {
			return err
		}
		rows = append(rows, more...)
		runtime.GC() // the trees are not needed any more, and the next are as large
	}
	for _, n := range c.Peers {
		row, err := measureCertificate(int(n), measureFor)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	return c.report(out, rows)
}

func (c *proofsConfig) report(out io.Writer, rows []proofRow) (err error) {
	if !c.JSON {
		fmt.Fprintf(out, "\n%-12s %11s %6s %7s %7s %10s\n", "proof", "leaves", "peers", "bytes", "limit", "verify")
	}
	for _, r := range rows {
		if c.JSON {
			if err := printJSON(out, r); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(out, "%-12s %11d %6d %7d %7d %7.0f µs\n", r.Kind, r.Leaves, r.Peers, r.Bytes, r.limit(), r.Verify)
		}
		if max := r.limit(); max > 0 && r.Bytes > max {
			err = errors.Join(err, fmt.Errorf("%s with %d leaves and %d peers has %d bytes, above the limit of %d", r.Kind, r.Leaves, r.Peers, r.Bytes, max))
		}
		if r.Kind != "certificate" && r.Verify > maxVerify {
			err = errors.Join(err, fmt.Errorf("%s with %d leaves takes %.0f µs to verify, above the limit of %d", r.Kind, r.Leaves, r.Verify, maxVerify))
		}
	}
	return err
}

// grown is a checkpoint over trees of a size, and what there is to prove under it.
type grown struct {
	whole     bool
	size      uint64
	cp, older types.Checkpoint
	payment   types.Transaction
	event     types.Event
	events    []types.Hash // leaves under the older checkpoint
	index     uint64       // of event among them
	history   tlog.Reader
	outputs   forest.Reader
	state     types.OutputState
	lock      types.Key
	log       tlog.Reader // of all events of lock
	latest    types.KeyEvent
	keys      trie.Proof
	ofKey     types.LogState
	chain     types.Hash
	ctx       context.Context
	progress  func(what string, done float64)
	spoke     time.Time
}

// position is one whose way to the root of a tree of that size is among the longest, and whose
// number is odd, so that the log that ends before it has a small last subtree.
func position(size uint64) uint64 { return size/4 | 1 }

// grow makes the trees, whole or only where proofs pass.
func grow(ctx context.Context, size uint64, whole bool, progress func(string, float64)) (*grown, error) {
	g := &grown{size: size, whole: whole, chain: madeUp("chain", 0), ctx: ctx, progress: progress, spoke: time.Now()}
	g.lock = types.Key(madeUp("lock", position(size)))
	o := types.Output{Value: 5 * types.UnitsPerShare, Lock: g.lock, Host: types.Key(madeUp("host", 0))}
	g.payment = types.Transaction{
		ValidUntil: types.MaxTime, Fee: 1000, Outputs: []types.Output{o, o},
		Inputs: []types.Input{{Position: 1, Source: madeUp("source", 0), Output: o}},
	}
	id := g.payment.ID(g.chain)
	g.event = types.Event{Kind: types.Applied, Transaction: id, Block: madeUp("block", 0), Height: 1, Time: 1, First: position(size), Outputs: 2}
	g.state = types.OutputState{Output: o, Source: id, BornHeight: 1, BornTime: 1}
	g.latest = types.KeyEvent{Position: position(size), Transaction: id, Output: o, Height: 1, Time: 1}

	g.index = 5
	for i := range uint64(16) {
		g.events = append(g.events, madeUp("event", i))
	}
	g.events[g.index] = tlog.LeafHash(g.event.Encode())
	if err := errors.Join(g.growHistory(), g.growOutputs(), g.growKeys()); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *grown) growHistory() (err error) {
	g.older = types.Checkpoint{Chain: g.chain, Height: 1, Events: 16, EventsRoot: tlog.Root(g.events), HistorySize: position(g.size)}
	g.history, err = g.growLog("history", g.older.HistorySize, func(before types.Hash) types.Hash {
		g.older.HistoryRoot = before
		id := g.older.ID()
		return tlog.LeafHash(id[:])
	})
	g.cp = types.Checkpoint{Chain: g.chain, Height: types.MaxHeight, HistorySize: g.size, Outputs: g.size}
	if err == nil {
		g.cp.HistoryRoot, err = rootOf(g.history, g.size)
	}
	return err
}

func rootOf(r tlog.Reader, size uint64) (types.Hash, error) {
	f, err := tlog.FrontierAt(r, size)
	return f.Root(), err
}

// batch is how many leaves are put in at once.
const batch = 1 << 14

// told says how far a tree is, now and then, and whether to go on.
func (g *grown) told(what string, done uint64) error {
	if time.Since(g.spoke) > 2*time.Second {
		g.progress(what, float64(done)/float64(g.size))
		g.spoke = time.Now()
	}
	return g.ctx.Err()
}

// growLog makes a log of size leaves, of which all are made up but that at index at: it is what leaf says, given
// the root of those before it.
func (g *grown) growLog(what string, at uint64, leaf func(before types.Hash) types.Hash) (tlog.Reader, error) {
	if !g.whole {
		s := &spine{index: at, join: func(l, r types.Hash) types.Hash { return tlog.Frontier{}.Append(l, r).Root() }}
		before, err := rootOf(s, at)
		s.leaf = leaf(before)
		return s, err
	}
	m := new(tlog.Memory)
	before := tlog.Root(nil)
	for n := uint64(0); n < g.size; {
		var leaves []types.Hash
		if n == at {
			leaves = []types.Hash{leaf(before)}
		} else {
			end := min(g.size, n+batch)
			if n < at {
				end = min(end, at)
			}
			for ; n+uint64(len(leaves)) < end; leaves = append(leaves, madeUp(what, n+uint64(len(leaves)))) {
			}
		}
		res, err := tlog.Append(m, n, leaves)
		if err != nil {
			return nil, err
		}
		m.Apply(res.Writes)
		n, before = res.Size, res.Root
		if err := g.told(what, n); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (g *grown) growOutputs() (err error) {
	at, leaf := position(g.size), types.OutputLeaf(&g.state)
	if !g.whole {
		tag := types.NewTag("charter/forest")
		g.outputs = &spine{index: at, leaf: leaf, join: func(l, r types.Hash) types.Hash { return tag.Hash(l[:], r[:]) }}
	} else {
		m := new(forest.Memory)
		for n := uint64(0); n < g.size; {
			var leaves []types.Hash
			for i := n; i < min(g.size, n+batch); i++ {
				leaves = append(leaves, madeUp("output", i))
			}
			if n <= at && at < n+uint64(len(leaves)) {
				leaves[at-n] = leaf
			}
			res, err := forest.Update(m, n, nil, leaves)
			if err != nil {
				return err
			}
			m.Apply(res.Writes)
			n = res.Size
			if err := g.told("outputs", n); err != nil {
				return err
			}
		}
		g.outputs = m
	}
	g.cp.OutputsRoot, err = forest.Root(g.outputs, g.size)
	return err
}

func (g *grown) growKeys() (err error) {
	if g.log, err = g.growLog("events of one lock", g.size-1, func(types.Hash) types.Hash { return tlog.LeafHash(g.latest.Encode()) }); err != nil {
		return err
	}
	g.ofKey.Count = g.size
	if g.ofKey.Root, err = rootOf(g.log, g.size); err != nil {
		return err
	}
	path, leaf := types.KeyPath(g.lock), types.KeyLeaf(g.ofKey)
	if !g.whole {
		g.keys, g.cp.KeysRoot = trieSpine(g.size, path, leaf)
		return nil
	}
	m, root := new(trie.Memory), types.Hash{}
	for n := uint64(0); n < g.size; n += batch {
		var changes []trie.Change
		for i := n; i < min(g.size, n+batch); i++ {
			c := trie.Change{Path: types.KeyPath(types.Key(madeUp("lock", i))), Value: madeUp("log", i)}
			if c.Path == path {
				c.Value = leaf
			}
			changes = append(changes, c)
		}
		res, err := trie.Update(m, root, changes)
		if err != nil {
			return err
		}
		m.Apply(res)
		root = res.Root
		if err := g.told("locks", n); err != nil {
			return err
		}
	}
	p, err := trie.Prove(m, root, path)
	if err == nil {
		g.keys, g.cp.KeysRoot = *p, root
	}
	return err
}

// spine is a tree of any size in which one leaf is told, and every subtree without it has a
// made-up hash. Proofs of that leaf, and of the log that ends before it, are as in a full tree.
type spine struct {
	index uint64
	leaf  types.Hash
	join  func(left, right types.Hash) types.Hash
}

func (s *spine) Node(level uint8, index uint64) (types.Hash, error) {
	if s.index>>level != index {
		return madeUp(fmt.Sprint("level ", level), index), nil
	}
	if level == 0 {
		return s.leaf, nil
	}
	left, _ := s.Node(level-1, 2*index)
	right, _ := s.Node(level-1, 2*index+1)
	return s.join(left, right), nil
}

// trieSpine is the proof of a path in a trie of random paths, and its root. The path is as long as any may be
// expected to be: the height of such a trie of n leaves tends to lg n + √(2 lg n) (Devroye, "A note on the
// probabilistic analysis of Patricia trees", 1992).
func trieSpine(size uint64, path trie.Path, value types.Hash) (trie.Proof, types.Hash) {
	lg := float64(bits.Len64(size - 1))
	p := trie.Proof{Value: value}
	end := trie.Node{Prefix: trie.NodeID{Len: trie.PathBits, Bits: path}, Value: value}
	root := end.Hash()
	for depth := int(lg + math.Ceil(math.Sqrt(2*lg))); depth > 0; depth-- {
		at := depth - 1
		n := trie.Node{Prefix: trie.NodeID{Len: uint16(at)}, Left: root, Right: madeUp("sibling", uint64(at))}
		for i := range at {
			n.Prefix.Bits[i/8] |= path[i/8] & (0x80 >> (i % 8))
		}
		p.Siblings = append(p.Siblings, trie.Sibling{Depth: uint8(at), Hash: n.Right})
		if path[at/8]&(0x80>>(at%8)) != 0 {
			n.Left, n.Right = n.Right, n.Left
		}
		root = n.Hash()
	}
	slices.Reverse(p.Siblings)
	return p, root
}

func madeUp(what string, n uint64) types.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(what), n))
}

// measure makes the proofs and verifies them.
func (g *grown) measure(over time.Duration) (rows []proofRow, err error) {
	id, old := g.cp.ID(), g.older.HistorySize
	path, err := tlog.ProveInclusion(g.history, g.size, old)
	if err != nil {
		return nil, err
	}
	event := &proof.Event{Checkpoint: id, Body: g.payment.Body(), Event: g.event, Index: g.index, Past: &proof.Past{Checkpoint: g.older, Path: path}}
	event.Path, err = tlog.InclusionOf(g.events, g.index)
	if err != nil {
		return nil, err
	}
	consistency := &proof.Consistency{Old: g.older.ID(), New: id, Path: path}
	if consistency.History, err = tlog.ProveConsistency(g.history, old, g.size); err != nil {
		return nil, err
	}
	output := &proof.Output{Checkpoint: id, Position: position(g.size), State: g.state}
	if output.Path, err = forest.Prove(g.outputs, g.size, output.Position); err != nil {
		return nil, err
	}
	key := &proof.Key{Checkpoint: id, Lock: g.lock, Log: g.ofKey, Path: g.keys, Events: []types.KeyEvent{g.latest}}
	if key.Prefix, err = tlog.FrontierAt(g.log, g.size-1); err != nil {
		return nil, err
	}
	for _, k := range []struct {
		kind   string
		proof  proof.Statement
		verify func(proof.Statement) error
	}{
		{"event", event, func(s proof.Statement) error { _, err := s.(*proof.Event).Verify(&g.cp); return err }},
		{"output", output, func(s proof.Statement) error {
			_, err := s.(*proof.Output).Verify(&g.cp, output.Position)
			return err
		}},
		{"consistency", consistency, func(s proof.Statement) error { return s.(*proof.Consistency).Verify(&g.older, &g.cp) }},
		{"key", key, func(s proof.Statement) error { _, err := s.(*proof.Key).Verify(&g.cp, g.lock); return err }},
	} {
		data := k.proof.Encode()
		us, err := median(over, func() error {
			s, err := proof.Decode(data)
			if err != nil {
				return err
			}
			return k.verify(s)
		})
		if err != nil {
			return nil, fmt.Errorf("%s in trees of %d leaves: %w", k.kind, g.size, err)
		}
		rows = append(rows, proofRow{Kind: k.kind, Leaves: g.size, Bytes: len(data), Verify: us})
	}
	return rows, nil
}

func measureCertificate(peers int, over time.Duration) (proofRow, error) {
	cp := types.Checkpoint{Chain: madeUp("chain", 0), Height: 1}
	digest := types.VoteDigest(cp.Chain, cp.Height, cp.ID())
	votes := make(map[types.Key]types.Signature)
	var keys []types.Key
	for i := range peers {
		k, err := sig.ParsePrivateKey(madeUp("peer", uint64(i)))
		if err != nil {
			return proofRow{}, err
		}
		keys = append(keys, k.Public())
		votes[k.Public()] = sig.Sign(k, digest)
	}
	snap := new(types.Snapshot)
	for _, k := range types.SortKeys(keys) {
		snap.Members = append(snap.Members, types.Member{Peer: k, Shares: types.UnitsPerShare})
	}
	data := proof.Certify(cp.Chain, snap, votes).Encode()
	us, err := median(over, func() error {
		cert, err := types.DecodeCertificate(data)
		if err != nil {
			return err
		}
		_, err = proof.VerifyCertificate(cp.Chain, &cp, cert, snap)
		return err
	})
	return proofRow{Kind: "certificate", Peers: peers, Bytes: len(data), Verify: us}, err
}

// median is the microseconds that f takes, half of the times that it is called over a while. (Not the mean: others
// use the machine too.)
func median(over time.Duration, f func() error) (float64, error) {
	var times []time.Duration
	for began := time.Now(); len(times) == 0 || time.Since(began) < over; {
		start := time.Now()
		if err := f(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return float64(times[len(times)/2].Nanoseconds()) / 1000, nil
}
