package forest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"charter/types"
)

func leaf(i int) types.Hash {
	return types.NewTag("charter/test").Hash(binary.BigEndian.AppendUint32(nil, uint32(i)))
}

func leavesTo(n int) (ls []types.Hash) {
	for i := range n {
		ls = append(ls, leaf(i))
	}
	return ls
}

// slow is the root of leaves, as the shape is defined: split at the greatest power of two below n.
func slow(leaves []types.Hash) types.Hash {
	switch n := len(leaves); n {
	case 0:
		return types.Hash{}
	case 1:
		return leaves[0]
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		left, right := slow(leaves[:k]), slow(leaves[k:])
		return types.NewTag("charter/forest").Hash(left[:], right[:])
	}
}

// slowProof is the proof of a position, from the same definition.
func slowProof(leaves []types.Hash, index int) Proof {
	if len(leaves) == 1 {
		return nil
	}
	k := 1
	for 2*k < len(leaves) {
		k *= 2
	}
	if index < k {
		return append(slowProof(leaves[:k], index), slow(leaves[k:]))
	}
	return append(slowProof(leaves[k:], index-k), slow(leaves[:k]))
}

// counting counts reads of each node.
type counting struct {
	Memory
	reads map[NodeWrite]int
}

func (c *counting) Node(level uint8, index uint64) (types.Hash, error) {
	h, err := c.Memory.Node(level, index)
	c.reads[NodeWrite{level, index, types.Hash{}}]++
	return h, err
}

func build(t testing.TB, leaves []types.Hash) *Memory {
	m := new(Memory)
	res, err := Update(m, 0, nil, leaves)
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(res.Writes)
	return m
}

// TestIncrementalIsFromScratch runs random batches, and after each wants root, every stored node and
// every proof as the definition has them; each write once, in order, and each read once and only of old nodes.
func TestIncrementalIsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, leaves, fresh := new(Memory), []types.Hash(nil), 0
		next := func() types.Hash { fresh++; return leaf(fresh) }
		for range rapid.IntRange(1, 5).Draw(t, "batches") {
			n := len(leaves)
			var changes []Change
			if n > 0 {
				for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, min(n, 12), rapid.ID).Draw(t, "changes") {
					changes = append(changes, Change{uint64(i), next()})
				}
			}
			var appends []types.Hash
			for range rapid.IntRange(0, 20).Draw(t, "appends") {
				appends = append(appends, next())
			}
			c := &counting{*m, map[NodeWrite]int{}}
			res, err := Update(c, uint64(n), changes, appends)
			if err != nil {
				t.Fatal(err)
			}
			for _, ch := range changes {
				leaves[ch.Index] = ch.Leaf
			}
			leaves = append(leaves, appends...)
			for i, w := range res.Writes {
				if i > 0 && (w.Level < res.Writes[i-1].Level || w.Level == res.Writes[i-1].Level && w.Index <= res.Writes[i-1].Index) {
					t.Fatalf("write %d is out of order", i)
				}
				c.reads[NodeWrite{w.Level, w.Index, types.Hash{}}]++
			}
			for w, k := range c.reads {
				if k > 1 {
					t.Fatalf("node %d/%d read or written %d times", w.Level, w.Index, k)
				}
			}
			m.Apply(res.Writes)
			compare(t, m, res, leaves)
		}
	})
}

func compare(t *rapid.T, m *Memory, res Result, leaves []types.Hash) {
	size := uint64(len(leaves))
	root, err := Root(m, size)
	if want := slow(leaves); err != nil || res.Root != want || root != want || res.Size != size {
		t.Fatalf("size %d: roots %s and %s, %v, want %s", res.Size, res.Root, root, err, want)
	}
	for level, nodes := range m.levels {
		if len(nodes) != len(leaves)>>level {
			t.Fatalf("%d nodes on level %d of %d positions", len(nodes), level, size)
		}
		for i, h := range nodes {
			if h != slow(leaves[i<<level:(i+1)<<level]) {
				t.Fatalf("node %d/%d of %d positions differs", level, i, size)
			}
		}
	}
	for i := range size {
		p, err := Prove(m, size, i)
		if want := slowProof(leaves, int(i)); err != nil || !slices.Equal(p, want) {
			t.Fatalf("proof of %d in %d: %v, %v, want %v", i, size, p, err, want)
		}
		if err := Verify(root, size, i, leaves[i], p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProofMutantsFail changes each byte, leaves out, repeats and swaps hashes, and takes the proof
// for other positions, leaves and roots.
func TestProofMutantsFail(t *testing.T) {
	for n := range 34 {
		leaves := leavesTo(n)
		m := build(t, leaves)
		size, root := uint64(n), slow(leaves)
		for i := range size {
			p, err := Prove(m, size, i)
			if err != nil {
				t.Fatal(err)
			}
			mutants := []Proof{append(slices.Clone(p), types.Hash{}), append(Proof{{}}, p...)}
			for k := range p {
				for b := range p[k] {
					q := slices.Clone(p)
					q[k][b] ^= 1 << (b % 8)
					mutants = append(mutants, q)
				}
				mutants = append(mutants, slices.Delete(slices.Clone(p), k, k+1), slices.Insert(slices.Clone(p), k, p[k]))
				if k > 0 {
					q := slices.Clone(p)
					q[k-1], q[k] = q[k], q[k-1]
					mutants = append(mutants, q)
				}
			}
			for _, q := range mutants {
				if Verify(root, size, i, leaves[i], q) == nil {
					t.Fatalf("position %d of %d: accepted %v for %v", i, n, q, p)
				}
			}
			for j := range size {
				if j != i && (Verify(root, size, j, leaves[i], p) == nil || Verify(root, size, i, leaves[j], p) == nil) {
					t.Fatalf("position %d of %d: accepted for %d", i, n, j)
				}
				if other := slow(leaves[:j]); Verify(other, size, i, leaves[i], p) == nil {
					t.Fatalf("position %d of %d: accepted under the root of %d", i, n, j)
				}
			}
		}
	}
}

func TestErrorKinds(t *testing.T) {
	leaves := leavesTo(11)
	m := build(t, leaves)
	root := slow(leaves)
	p, _ := Prove(m, 11, 4)
	fail := func(_ any, err error) error { return err }
	rows := []struct {
		what string
		err  error
		kind Kind
	}{
		{"verify: size", Verify(root, MaxSize+1, 4, leaves[4], p), BadSize},
		{"verify: index", Verify(root, 11, 11, leaves[4], p), BadIndex},
		{"verify: empty", Verify(root, 0, 0, leaves[4], p), BadIndex},
		{"verify: short", Verify(root, 11, 4, leaves[4], p[1:]), BadLength},
		{"verify: long", Verify(root, 11, 4, leaves[4], append(slices.Clone(p), root)), BadLength},
		{"verify: leaf", Verify(root, 11, 4, leaves[5], p), RootMismatch},
		{"verify: root", Verify(leaves[0], 11, 4, leaves[4], p), RootMismatch},
		{"prove: index", fail(Prove(m, 11, 11)), BadIndex},
		{"prove: size", fail(Prove(m, MaxSize+1, 0)), BadSize},
		{"root: size", fail(Root(m, MaxSize+1)), BadSize},
		{"update: size", fail(Update(m, MaxSize, nil, leaves[:1])), BadSize},
		{"update: index", fail(Update(m, 11, []Change{{11, root}}, leaves[:1])), BadIndex},
		{"update: repeated", fail(Update(m, 11, []Change{{3, root}, {2, root}, {3, root}}, nil)), Repeated},
	}
	seen := map[Kind]bool{}
	for _, r := range rows {
		if !IsKind(r.err, r.kind) {
			t.Errorf("%s: %v, want %s", r.what, r.err, r.kind)
		}
		seen[r.kind] = true
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("no row for %q", k)
		}
	}
	for _, d := range []struct {
		data []byte
		kind types.DecodeKind
	}{
		{nil, types.Truncated},
		{[]byte{MaxProof + 1}, types.TooLong},
		{p.Encode()[:40], types.Truncated},
		{append(p.Encode(), 0), types.Trailing},
	} {
		if _, err := DecodeProof(d.data); !types.IsDecodeKind(err, d.kind) {
			t.Errorf("%x: %v, want %s", d.data, err, d.kind)
		}
	}
	if q, err := DecodeProof(p.Encode()); err != nil || !slices.Equal(p, q) {
		t.Errorf("%v decodes as %v, %v", p, q, err)
	}
}

// TestReadErrorsArePassedOn lets each read fail in turn.
func TestReadErrorsArePassedOn(t *testing.T) {
	m := build(t, leavesTo(23))
	for what, try := range map[string]func(r Reader) error{
		"update": func(r Reader) error { _, err := Update(r, 23, []Change{{3, leaf(0)}}, leavesTo(2)); return err },
		"prove":  func(r Reader) error { _, err := Prove(r, 23, 9); return err },
		"root":   func(r Reader) error { _, err := Root(r, 23); return err },
	} {
		reads := 0
		for ; ; reads++ {
			if err := try(&broken{*m, reads}); err == nil {
				break
			} else if !errors.Is(err, errDisk) {
				t.Fatalf("%s, read %d fails: %v", what, reads, err)
			}
		}
		if reads == 0 {
			t.Errorf("%s read nothing", what)
		}
	}
}

type broken struct {
	Memory
	left int
}

var errDisk = errors.New("disk")

func (b *broken) Node(level uint8, index uint64) (types.Hash, error) {
	if b.left--; b.left < 0 {
		return types.Hash{}, errDisk
	}
	return b.Memory.Node(level, index)
}

// TestProofSizes prints what a proof costs at 2^30 positions (with -v), and holds it to the size of
// spec/ledger.md.
func TestProofSizes(t *testing.T) {
	most := 0
	for _, size := range []uint64{1 << 30, 1<<30 - 1, 1<<30 + 12345} {
		for _, i := range []uint64{0, size / 3, size - 1} {
			p, err := Prove(zeros{}, size, i)
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, len(p.Encode()))
		}
	}
	t.Logf("at 2^30 positions: %d bytes, and %d of output state", most, len(new(types.OutputState).Encode()))
	if most > 1024 {
		t.Error("above 1 KiB")
	}
}

// zeros is a tree of any size whose nodes are all zero.
type zeros struct{}

func (zeros) Node(uint8, uint64) (types.Hash, error) { return types.Hash{}, nil }

// TestZeroLeaves: a leaf may be any hash, also zero.
func TestZeroLeaves(t *testing.T) {
	for n := range 9 {
		leaves := make([]types.Hash, n)
		res, err := Update(new(Memory), 0, nil, leaves)
		if err != nil || res.Root != slow(leaves) {
			t.Errorf("%d zero leaves: %v, %v", n, res.Root, err)
		}
	}
}

func FuzzDecodeProof(f *testing.F) {
	f.Add(Proof(leavesTo(3)).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := DecodeProof(data); err == nil && !bytes.Equal(p.Encode(), data) {
			t.Fatalf("%x encodes as %x", data, p.Encode())
		}
	})
}

// FuzzVerify gives the verifier any position, size and proof: no hash but the true ones may be
// accepted, nor another position.
func FuzzVerify(f *testing.F) {
	leaves := leavesTo(13)
	root, want := slow(leaves), slowProof(leaves, 5)
	f.Add(uint64(5), uint64(13), want.Encode())
	f.Fuzz(func(t *testing.T, index, size uint64, data []byte) {
		p, err := DecodeProof(data)
		if err == nil && Verify(root, size, index, leaves[5], p) == nil && (index != 5 || !slices.Equal(p, want)) {
			t.Fatalf("accepted position 5 as %d of %d with %v", index, size, p)
		}
	})
}

// BenchmarkUpdate changes 1,000 leaves of 10^6 and adds 1,000.
func BenchmarkUpdate(b *testing.B) {
	m := build(b, leavesTo(1e6))
	rng := rand.New(rand.NewPCG(1, 2))
	var changes []Change
	for _, i := range rng.Perm(1e6)[:1000] {
		changes = append(changes, Change{uint64(i), leaf(i + 1)})
	}
	appends := leavesTo(1000)
	writes := 0
	for b.Loop() {
		res, err := Update(m, 1e6, changes, appends)
		if err != nil {
			b.Fatal(err)
		}
		writes = len(res.Writes)
	}
	b.ReportMetric(float64(writes), "writes/op")
}

func BenchmarkVerify(b *testing.B) {
	p := make(Proof, 30)
	for b.Loop() {
		if Verify(types.Hash{}, 1<<30, 12345, types.Hash{}, p) == nil {
			b.Fatal("accepted")
		}
	}
}
