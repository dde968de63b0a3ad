package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"charter/forest"
	"charter/ledger"
	"charter/store"
	"charter/trie"
	"charter/types"
)

// treesConfig is the flags of `charter bench trees`.
type treesConfig struct {
	Keys    int
	Batches int
	Trees   []string
	CacheMB int
	Dir     string
	JSON    bool
}

func newBenchTreesCommand() *cobra.Command {
	var c treesConfig
	cmd := &cobra.Command{
		Use:   "trees",
		Short: "Measure what it costs to change the trees, durably",
		Long: `Trees fills each of a peer's trees in a store of its own, and then changes it in batches, each of which is durable
before the next begins, by one sync. It uses one core, and counts processor time of the whole process, the storage engine's
own work and garbage collection included.

  keys     of --keys locks; a batch gives 10,000 new values and adds 10,000 locks
  outputs  of --keys outputs; a batch spends 10,000 anywhere and adds 10,000
  names    of a hundredth of --keys names; a batch gives 100 new values and adds 100
  peers    of 1,000 peers; a batch gives 500 new values
  history  of a hundredth of --keys checkpoints; a batch adds 1,000

hashes is the nodes of the tree that were hashed for an operation; with the cost of one such hash, which is measured in the
same run, it tells what could not be saved.`,
		Example: `  charter bench trees
  charter bench trees --keys 10000000 --batches 10 --trees keys --cache-mb 1024`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Keys, "keys", 1_000_000, "locks and outputs, 20000 to 10^9")
	f.IntVar(&c.Batches, "batches", 20, "batches to measure, 1 to 10000")
	f.StringSliceVar(&c.Trees, "trees", treeNames(), "which trees")
	f.IntVar(&c.CacheMB, "cache-mb", int(store.DefaultCache>>20), "MiB of cache, as cache_mb of a peer")
	f.StringVar(&c.Dir, "dir", "", "directory for the stores (default: a temporary one); they are removed at the end")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per tree, and the progress on standard error")
	return cmd
}

// treeRow is a measured tree: a line of the table, an object of --json.
type treeRow struct {
	Kind    string  `json:"kind"` // "tree"
	Tree    string  `json:"tree"`
	Leaves  int     `json:"leaves"` // before the first batch
	Ops     int     `json:"ops"`
	CPU     float64 `json:"us_per_op"`
	Hashes  float64 `json:"hashes_per_op"`
	HashNs  float64 `json:"hash_ns"`
	Written float64 `json:"bytes_written_per_op"` // to files; 0 where the system does not tell
	Memory  float64 `json:"memory_mb"`            // that the process grew by
	Disk    float64 `json:"disk_bytes_per_leaf"`
}

// treeKind is how a tree is filled and changed.
type treeKind struct {
	name             string
	leaves           func(keys int) int
	fill             int // added in a batch while it is filled
	updates, inserts int
	change           func(b *treeBench, updates, inserts int) error
}

var treeKinds = []treeKind{
	{"keys", func(n int) int { return n }, 50_000, 10_000, 10_000, (*treeBench).changeTrie},
	{"outputs", func(n int) int { return n }, 50_000, 10_000, 10_000, (*treeBench).changeOutputs},
	{"names", func(n int) int { return n / 100 }, 1_000, 100, 100, (*treeBench).changeTrie},
	{"peers", func(int) int { return 1_000 }, 1_000, 500, 0, (*treeBench).changeTrie},
	{"history", func(n int) int { return n / 100 }, 1_000, 0, 1_000, (*treeBench).changeHistory},
}

func treeNames() (names []string) {
	for _, k := range treeKinds {
		names = append(names, k.name)
	}
	return names
}

// treeBench is a tree in its store.
type treeBench struct {
	treeKind
	store  *store.Store
	state  ledger.State
	rng    *rand.Rand
	size   uint64
	hashes int
}

func (c *treesConfig) run(ctx context.Context, out, progress io.Writer) (err error) {
	if c.Keys < 20_000 || c.Keys > 1e9 || c.Batches < 1 || c.Batches > 10_000 || c.CacheMB < 1 || c.CacheMB > 1<<16 {
		return &usageError{errors.New("want --keys of 20000 to 10^9, 1 to 10000 --batches, a --cache-mb of 1 to 65536")}
	}
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "charter-bench-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		defer os.RemoveAll(c.Dir)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if !c.JSON {
		progress = io.Discard
		fmt.Fprintf(out, "%-8s %10s %9s %7s %10s %8s %11s %10s %10s\n", "tree", "leaves", "ops", "µs/op", "hashes/op", "ns/hash", "written/op", "memory MB", "disk/leaf")
	}
	for _, name := range c.Trees {
		row, err := c.measure(ctx, name, progress)
		if err != nil {
			return err
		}
		if c.JSON {
			err = printJSON(out, row)
		} else {
			_, err = fmt.Fprintf(out, "%-8s %10d %9d %7.2f %10.2f %8.0f %11.0f %10.0f %10.0f\n",
				row.Tree, row.Leaves, row.Ops, row.CPU, row.Hashes, row.HashNs, row.Written, row.Memory, row.Disk)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *treesConfig) measure(ctx context.Context, name string, progress io.Writer) (_ *treeRow, err error) {
	b := &treeBench{rng: rand.New(rand.NewPCG(1, 1))}
	for _, k := range treeKinds {
		if k.name == name {
			b.treeKind = k
		}
	}
	if b.change == nil {
		return nil, &usageError{fmt.Errorf("there is no tree %q; want some of %s", name, strings.Join(treeNames(), ","))}
	}
	debug.FreeOSMemory()
	_, before := process(os.Getpid())
	dir := filepath.Join(c.Dir, name)
	if b.store, err = store.Open(dir, store.Options{Cache: int64(c.CacheMB) << 20}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.store.Close(), os.RemoveAll(dir)) }()
	row := &treeRow{Kind: "tree", Tree: name, Leaves: b.leaves(c.Keys)}
	for b.size < uint64(row.Leaves) {
		if err := errors.Join(ctx.Err(), b.change(b, 0, min(b.fill, row.Leaves-int(b.size)))); err != nil {
			return nil, err
		}
		fmt.Fprintf(progress, "%s: %d of %d\n", name, b.size, row.Leaves)
	}
	_, disk := b.store.DiskBytes()
	row.Disk = float64(disk) / float64(row.Leaves)
	b.hashes = 0
	cpu, _ := process(os.Getpid())
	written := writtenBytes()
	for range c.Batches {
		if err := errors.Join(ctx.Err(), b.change(b, b.updates, b.inserts)); err != nil {
			return nil, err
		}
		row.Ops += b.updates + b.inserts
	}
	after, rss := process(os.Getpid())
	row.CPU = (after - cpu) * 1e6 / float64(row.Ops)
	row.Written = float64(writtenBytes()-written) / float64(row.Ops)
	row.Hashes = float64(b.hashes) / float64(row.Ops)
	row.Memory = float64(rss-before) / (1 << 20)
	row.HashNs = hashCost()
	return row, nil
}

// hashCost is the nanoseconds that the hash of an inner node takes.
func hashCost() float64 {
	const n = 2_000_000
	before, _ := process(os.Getpid())
	node := trie.Node{Prefix: trie.NodeID{Len: 20}}
	for range n {
		node.Left = node.Hash()
	}
	after, _ := process(os.Getpid())
	return (after - before) * 1e9 / n
}

// writtenBytes is what the process has written to files so far, zero where /proc does not tell.
func writtenBytes() (n int64) {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "wchar: "); ok {
			n, _ = strconv.ParseInt(v, 10, 64)
		}
	}
	return n
}

// commit makes a batch durable.
func (b *treeBench) commit(batch *store.Batch, w *ledger.Writes) error {
	state := b.state
	if err := batch.Add(&state, &ledger.Changes{}, w); err != nil {
		return errors.Join(err, batch.Discard())
	}
	return errors.Join(batch.Commit(), b.store.Sync())
}

// values are the numbers of so many leaves that are there, each at most once, and then of new ones.
func (b *treeBench) numbers(updates, inserts int) []uint64 {
	seen := make(map[uint64]bool, updates)
	var numbers []uint64
	for len(numbers) < updates {
		if n := b.rng.Uint64N(b.size); !seen[n] {
			seen[n] = true
			numbers = append(numbers, n)
		}
	}
	for range inserts {
		numbers = append(numbers, b.size)
		b.size++
	}
	return numbers
}

func (b *treeBench) changeTrie(updates, inserts int) error {
	var changes []trie.Change
	for _, n := range b.numbers(updates, inserts) {
		changes = append(changes, trie.Change{Path: types.KeyPath(types.Key(number(n))), Value: types.Hash(number(b.rng.Uint64() | 1))})
	}
	batch := b.store.Begin()
	trees, w := batch.Trees(), new(ledger.Writes)
	tree, root, into := trees.Keys, &b.state.KeysRoot, &w.Keys
	switch b.name {
	case "names":
		tree, root, into = trees.Names, &b.state.NamesRoot, &w.Names
	case "peers":
		tree, root, into = trees.Peers, &b.state.PeersRoot, &w.Peers
	}
	res, err := trie.Update(tree, *root, changes)
	if err != nil {
		return errors.Join(err, batch.Discard())
	}
	b.hashes += res.Hashes
	*root, *into = res.Root, res
	return b.commit(batch, w)
}

func number(n uint64) (b [32]byte) {
	binary.BigEndian.PutUint64(b[:], n)
	return b
}

func (b *treeBench) changeOutputs(updates, inserts int) error {
	before := b.size
	var changes []forest.Change
	var appends []types.Hash
	for _, n := range b.numbers(updates, inserts) {
		leaf := types.Hash(number(b.rng.Uint64()))
		if n < before {
			changes = append(changes, forest.Change{Index: n, Leaf: leaf})
		} else {
			appends = append(appends, leaf)
		}
	}
	batch := b.store.Begin()
	res, err := forest.Update(batch.Trees().Outputs, before, changes, appends)
	if err != nil {
		return errors.Join(err, batch.Discard())
	}
	b.hashes += len(res.Writes) - updates - inserts + bits.OnesCount64(res.Size) - 1
	b.state.Outputs, b.state.OutputsRoot = res.Size, res.Root
	return b.commit(batch, &ledger.Writes{Outputs: res.Writes})
}

// changeHistory counts for each checkpoint its leaf, the nodes that it completes, and the root.
func (b *treeBench) changeHistory(_, inserts int) error {
	batch := b.store.Begin()
	for range inserts {
		cp := b.state.Checkpoint(b.state.Height + 1)
		b.state = *b.state.Checkpointed(cp)
		if err := batch.AddCheckpoint(&b.state, cp); err != nil {
			return errors.Join(err, batch.Discard())
		}
		b.size++
		b.hashes += 1 + bits.TrailingZeros64(b.size) + bits.OnesCount64(b.size) - 1
	}
	return b.commit(batch, new(ledger.Writes))
}
