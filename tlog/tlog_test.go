package tlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	sumdb "golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"charter/types"
)

// mth is MTH(D[n]) as RFC 6962, section 2.1, writes it.
func mth(data [][]byte) []byte {
	hash := func(b ...byte) []byte { h := sha256.Sum256(b); return h[:] }
	switch n := len(data); n {
	case 0:
		return hash()
	case 1:
		return hash(append([]byte{0}, data[0]...)...)
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		return hash(append(append([]byte{1}, mth(data[:k])...), mth(data[k:])...)...)
	}
}

// entries are n different entries, and their leaf hashes.
func entries(n int) (data [][]byte, leaves []types.Hash) {
	for i := range n {
		b := binary.BigEndian.AppendUint32(nil, uint32(i*i))
		data, leaves = append(data, b), append(leaves, LeafHash(b))
	}
	return data, leaves
}

// store is the stored form of a log, appended to in batches cut by cut.
func store(t testing.TB, leaves []types.Hash, cut func(left int) int) (*Memory, types.Hash) {
	m, size := new(Memory), uint64(0)
	res, err := Append(m, 0, nil)
	for len(leaves) > 0 && err == nil {
		n := cut(len(leaves))
		res, err = Append(m, size, leaves[:n])
		m.Apply(res.Writes)
		size, leaves = res.Size, leaves[n:]
	}
	if err != nil {
		t.Fatal(err)
	}
	return m, res.Root
}

func all(left int) int { return left }

func TestRootIsThatOfTheRFC(t *testing.T) {
	data, leaves := entries(70)
	for n := range len(data) + 1 {
		want := types.Hash(mth(data[:n]))
		if got := Root(leaves[:n]); got != want {
			t.Fatalf("root of %d leaves: %s, want %s", n, got, want)
		}
		if _, got := store(t, leaves[:n], all); got != want {
			t.Fatalf("stored root of %d leaves: %s, want %s", n, got, want)
		}
		one := Frontier{}
		for _, l := range leaves[:n] {
			one = one.Append(l)
		}
		if one.Root() != want || one.Size() != uint64(n) {
			t.Fatalf("frontier of %d leaves one by one: size %d, root %s, want %s", n, one.Size(), one.Root(), want)
		}
	}
}

// TestAgreesWithOtherLogs compares roots and proofs with two independent implementations.
func TestAgreesWithOtherLogs(t *testing.T) {
	data, leaves := entries(40)
	hashes := sumdb.HashReaderFunc(nil)
	var storedHashes []sumdb.Hash
	hashes = func(at []int64) (got []sumdb.Hash, err error) {
		for _, i := range at {
			got = append(got, storedHashes[i])
		}
		return got, nil
	}
	for i, b := range data {
		more, err := sumdb.StoredHashes(int64(i), b, hashes)
		if err != nil {
			t.Fatal(err)
		}
		storedHashes = append(storedHashes, more...)
	}
	for n := 1; n <= len(data); n++ {
		theirs, err := sumdb.TreeHash(int64(n), hashes)
		if err != nil || types.Hash(theirs) != Root(leaves[:n]) {
			t.Fatalf("root of %d: %v, sumdb has %v, %v", n, Root(leaves[:n]), theirs, err)
		}
		for i := range n {
			path, _ := InclusionOf(leaves[:n], uint64(i))
			want, err := sumdb.ProveRecord(int64(n), int64(i), hashes)
			if err != nil || !slices.EqualFunc(path, want, func(a types.Hash, b sumdb.Hash) bool { return a == types.Hash(b) }) {
				t.Fatalf("inclusion of %d in %d: %v, sumdb has %v, %v", i, n, path, want, err)
			}
			root := Root(leaves[:n])
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), uint64(n), leaves[i][:], raw(path), root[:]); err != nil {
				t.Fatalf("inclusion of %d in %d: merkle refuses: %v", i, n, err)
			}
		}
		for old := 1; old <= n; old++ {
			path, _ := ConsistencyOf(leaves[:n], uint64(old))
			want, err := sumdb.ProveTree(int64(n), int64(old), hashes)
			if err != nil || !slices.EqualFunc(path, want, func(a types.Hash, b sumdb.Hash) bool { return a == types.Hash(b) }) {
				t.Fatalf("consistency of %d and %d: %v, sumdb has %v, %v", old, n, path, want, err)
			}
			a, b := Root(leaves[:old]), Root(leaves[:n])
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(n), raw(path), a[:], b[:]); err != nil {
				t.Fatalf("consistency of %d and %d: merkle refuses: %v", old, n, err)
			}
		}
	}
}

func raw(p Path) (b [][]byte) {
	for _, h := range p {
		b = append(b, bytes.Clone(h[:]))
	}
	return b
}

// TestVerifiersAgreeOnGarbage gives both verifiers the same proofs, true, damaged and made up.
func TestVerifiersAgreeOnGarbage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, leaves := entries(rapid.IntRange(1, 40).Draw(t, "new"))
		n := uint64(len(leaves))
		i := rapid.Uint64Range(0, n-1).Draw(t, "index")
		old := rapid.Uint64Range(1, n).Draw(t, "old")
		in, _ := InclusionOf(leaves, i)
		con, _ := ConsistencyOf(leaves, old)
		for _, path := range []*Path{&in, &con} {
			switch rapid.IntRange(0, 3).Draw(t, "damage") {
			case 1:
				*path = append(*path, leaves[0])
			case 2:
				*path = (*path)[:len(*path)/2]
			case 3:
				if len(*path) > 0 {
					(*path)[rapid.IntRange(0, len(*path)-1).Draw(t, "hash")][3] ^= 4
				}
			}
		}
		size := rapid.Uint64Range(max(old, 1), n+3).Draw(t, "claimed size")
		oldRoot, root := Root(leaves[:old]), Root(leaves)
		err := VerifyInclusion(root, size, i, leaves[i], in)
		theirs := proof.VerifyInclusion(rfc6962.DefaultHasher, i, size, leaves[i][:], raw(in), root[:])
		if (err == nil) != (theirs == nil) {
			t.Fatalf("inclusion of %d in %d: %v, merkle says %v", i, size, err, theirs)
		}
		err = VerifyConsistency(old, oldRoot, size, root, con)
		theirs = proof.VerifyConsistency(rfc6962.DefaultHasher, old, size, raw(con), oldRoot[:], root[:])
		if (err == nil) != (theirs == nil) {
			t.Fatalf("consistency of %d and %d: %v, merkle says %v", old, size, err, theirs)
		}
	})
}

// TestStoredIsFromScratch appends in random batches, and wants nodes and proofs as of the whole.
func TestStoredIsFromScratch(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	_, leaves := entries(133)
	for range 20 {
		leaves := leaves[:rng.IntN(len(leaves))]
		m, root := store(t, leaves, func(left int) int { return rng.IntN(left + 1) })
		if root != Root(leaves) {
			t.Fatalf("root of %d leaves differs", len(leaves))
		}
		for level, nodes := range m.levels {
			if len(nodes) != len(leaves)>>level {
				t.Fatalf("%d leaves have %d nodes on level %d", len(leaves), len(nodes), level)
			}
			for i, h := range nodes {
				if h != Root(leaves[i<<level:(i+1)<<level]) {
					t.Fatalf("node %d/%d of %d leaves differs", level, i, len(leaves))
				}
			}
		}
		for range 10 {
			n := rng.IntN(len(leaves) + 1)
			f, err := FrontierAt(m, uint64(n))
			if want := (Frontier{}).Append(leaves[:n]...); err != nil || !bytes.Equal(f.Encode(), want.Encode()) {
				t.Fatalf("frontier of %d: %v, %v, want %v", n, f, err, want)
			}
			for i := range n {
				path, err := ProveInclusion(m, uint64(n), uint64(i))
				if want, _ := InclusionOf(leaves[:n], uint64(i)); err != nil || !slices.Equal(path, want) {
					t.Fatalf("inclusion of %d in %d: %v, %v, want %v", i, n, path, err, want)
				}
				path, err = ProveConsistency(m, uint64(i), uint64(n))
				if want, _ := ConsistencyOf(leaves[:n], uint64(i)); err != nil || !slices.Equal(path, want) {
					t.Fatalf("consistency of %d and %d: %v, %v, want %v", i, n, path, err, want)
				}
			}
		}
	}
}

// mutants are paths that differ from p: each byte changed, each hash left out, repeated, or
// swapped with the next, one more in front or behind.
func mutants(p Path) (ms []Path) {
	for i := range p {
		for b := range p[i] {
			m := slices.Clone(p)
			m[i][b] ^= 1 << (b % 8)
			ms = append(ms, m)
		}
		ms = append(ms, slices.Delete(slices.Clone(p), i, i+1), slices.Insert(slices.Clone(p), i, p[i]))
		if i > 0 {
			m := slices.Clone(p)
			m[i-1], m[i] = m[i], m[i-1]
			ms = append(ms, m)
		}
	}
	return append(ms, append(slices.Clone(p), types.Hash{}), append(Path{{}}, p...))
}

func TestInclusionMutantsFail(t *testing.T) {
	_, leaves := entries(33)
	for n := uint64(1); n <= 33; n++ {
		root := Root(leaves[:n])
		for i := range n {
			path, err := InclusionOf(leaves[:n], i)
			if err != nil {
				t.Fatal(err)
			}
			if err := VerifyInclusion(root, n, i, leaves[i], path); err != nil {
				t.Fatal(err)
			}
			for _, m := range mutants(path) {
				if VerifyInclusion(root, n, i, leaves[i], m) == nil {
					t.Fatalf("leaf %d of %d: accepted %v for %v", i, n, m, path)
				}
			}
			for j := range n {
				if j != i && VerifyInclusion(root, n, j, leaves[i], path) == nil {
					t.Fatalf("leaf %d of %d: accepted as leaf %d", i, n, j)
				}
				if j != i && VerifyInclusion(root, n, i, leaves[j], path) == nil {
					t.Fatalf("leaf %d of %d: accepted leaf %d", i, n, j)
				}
				if j != n-1 && VerifyInclusion(Root(leaves[:j+1]), n, i, leaves[i], path) == nil {
					t.Fatalf("leaf %d of %d: accepted under the root of %d", i, n, j+1)
				}
			}
		}
	}
}

func TestConsistencyMutantsFail(t *testing.T) {
	_, leaves := entries(33)
	for n := uint64(0); n <= 33; n++ {
		root := Root(leaves[:n])
		for old := range n + 1 {
			path, err := ConsistencyOf(leaves[:n], old)
			if err != nil {
				t.Fatal(err)
			}
			oldRoot := Root(leaves[:old])
			if err := VerifyConsistency(old, oldRoot, n, root, path); err != nil {
				t.Fatalf("%d and %d: %v", old, n, err)
			}
			for _, m := range mutants(path) {
				if VerifyConsistency(old, oldRoot, n, root, m) == nil {
					t.Fatalf("%d and %d: accepted %v for %v", old, n, m, path)
				}
			}
			for other := range n + 1 {
				if other != old && VerifyConsistency(old, Root(leaves[:other]), n, root, path) == nil {
					t.Fatalf("%d and %d: accepted the root of %d as old", old, n, other)
				}
				if other != n && old != 0 && VerifyConsistency(old, oldRoot, n, Root(leaves[:other]), path) == nil {
					t.Fatalf("%d and %d: accepted the root of %d as new", old, n, other)
				}
				if other != old && other != 0 && VerifyConsistency(other, oldRoot, n, root, path) == nil {
					t.Fatalf("%d and %d: accepted %d as old size", old, n, other)
				}
			}
		}
	}
}

func TestSuffix(t *testing.T) {
	_, leaves := entries(40)
	for n := range len(leaves) + 1 {
		root := Root(leaves[:n])
		for k := range n + 1 {
			prefix, suffix := Frontier{}.Append(leaves[:n-k]...), leaves[n-k:n]
			if err := VerifySuffix(root, uint64(n), prefix, suffix); err != nil {
				t.Fatalf("latest %d of %d: %v", k, n, err)
			}
			for i := range suffix {
				m := slices.Clone(suffix)
				m[i][7]++
				left := slices.Delete(slices.Clone(suffix), i, i+1)
				if VerifySuffix(root, uint64(n), prefix, m) == nil || VerifySuffix(root, uint64(n), prefix, left) == nil ||
					VerifySuffix(root, uint64(n-1), prefix, left) == nil {
					t.Fatalf("latest %d of %d: accepted without the true leaf %d", k, n, i)
				}
			}
			for i := range prefix.peaks {
				m := Frontier{prefix.size, slices.Clone(prefix.peaks)}
				m.peaks[i][9]++
				if VerifySuffix(root, uint64(n), m, suffix) == nil {
					t.Fatalf("latest %d of %d: accepted another frontier", k, n)
				}
			}
		}
	}
}

// TestFrontierIsAValue appends twice to one frontier, which must not mix.
func TestFrontierIsAValue(t *testing.T) {
	_, leaves := entries(20)
	for n := range 16 {
		f := Frontier{}.Append(leaves[:n]...)
		before := f.Encode()
		a, b := f.Append(leaves[n]), f.Append(leaves[n+1])
		if a.Root() != Root(leaves[:n+1]) || b.Root() != Root(append(slices.Clone(leaves[:n]), leaves[n+1])) || !bytes.Equal(before, f.Encode()) {
			t.Fatalf("appending to a frontier of %d changed another", n)
		}
	}
}

func TestEncoding(t *testing.T) {
	_, leaves := entries(40)
	for n := range leaves {
		f := Frontier{}.Append(leaves[:n]...)
		got, err := DecodeFrontier(f.Encode())
		if err != nil || got.Size() != uint64(n) || got.Root() != f.Root() {
			t.Fatalf("frontier of %d: %v, %v", n, got, err)
		}
		p, err := DecodePath(Path(leaves[:n]).Encode())
		if err != nil || !slices.Equal(p, leaves[:n]) {
			t.Fatalf("path of %d: %v, %v", n, p, err)
		}
		for _, bad := range [][]byte{f.Encode()[:len(f.Encode())-1], append(f.Encode(), 0)} {
			if _, err := DecodeFrontier(bad); err == nil {
				t.Fatalf("frontier of %d: accepted %x", n, bad)
			}
		}
	}
}

// TestErrorKinds damages true proofs and requests in one way per row.
func TestErrorKinds(t *testing.T) {
	_, leaves := entries(11)
	root := Root(leaves)
	in, _ := InclusionOf(leaves, 4)
	con, _ := ConsistencyOf(leaves, 6)
	f := Frontier{}.Append(leaves[:6]...)
	other := LeafHash(nil)
	long := append(slices.Clone(in), other)
	fail := func(_ any, err error) error { return err }
	rows := []struct {
		what string
		err  error
		kind Kind
	}{
		{"inclusion: size", VerifyInclusion(root, MaxSize+1, 4, leaves[4], in), BadSize},
		{"inclusion: index", VerifyInclusion(root, 11, 11, leaves[4], in), BadIndex},
		{"inclusion: empty log", VerifyInclusion(root, 0, 0, leaves[4], in), BadIndex},
		{"inclusion: short", VerifyInclusion(root, 11, 4, leaves[4], in[1:]), BadLength},
		{"inclusion: long", VerifyInclusion(root, 11, 4, leaves[4], long), BadLength},
		{"inclusion: leaf", VerifyInclusion(root, 11, 4, other, in), RootMismatch},
		{"inclusion: root", VerifyInclusion(other, 11, 4, leaves[4], in), RootMismatch},
		{"consistency: shrinks", VerifyConsistency(12, root, 11, root, nil), BadSize},
		{"consistency: size", VerifyConsistency(6, root, MaxSize+1, root, con), BadSize},
		{"consistency: short", VerifyConsistency(6, f.Root(), 11, root, con[1:]), BadLength},
		{"consistency: none", VerifyConsistency(6, f.Root(), 11, root, nil), BadLength},
		{"consistency: of equals", VerifyConsistency(11, root, 11, root, con), BadLength},
		{"consistency: of nothing", VerifyConsistency(0, Root(nil), 11, root, con), BadLength},
		{"consistency: old root", VerifyConsistency(6, other, 11, root, con), RootMismatch},
		{"consistency: new root", VerifyConsistency(6, f.Root(), 11, other, con), RootMismatch},
		{"consistency: of equals, root", VerifyConsistency(11, root, 11, other, nil), RootMismatch},
		{"consistency: of nothing, old root", VerifyConsistency(0, other, 11, root, nil), RootMismatch},
		{"consistency: of nothings", VerifyConsistency(0, Root(nil), 0, other, nil), RootMismatch},
		{"suffix: one short", VerifySuffix(root, 11, f, leaves[7:]), BadSize},
		{"suffix: prefix too long", VerifySuffix(root, 5, f, nil), BadSize},
		{"suffix: size", VerifySuffix(root, MaxSize+1, f, leaves[6:]), BadSize},
		{"suffix: other leaves", VerifySuffix(root, 11, f, leaves[5:10]), RootMismatch},
		{"prove: index", fail(InclusionOf(leaves, 11)), BadIndex},
		{"prove: size", fail(ProveInclusion(new(Memory), MaxSize+1, 0)), BadSize},
		{"prove: shrinks", fail(ConsistencyOf(leaves, 12)), BadSize},
		{"append: size", fail(Append(new(Memory), MaxSize, leaves[:1])), BadSize},
		{"frontier: size", fail(FrontierAt(new(Memory), MaxSize+1)), BadSize},
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
		err  error
		kind types.DecodeKind
	}{
		{fail(DecodeFrontier([]byte{0x40, 0, 0, 0, 0, 0, 0, 1})), types.NotCanonical},
		{fail(DecodeFrontier(f.Encode()[:70])), types.Truncated},
		{fail(DecodeFrontier(append(f.Encode(), 0))), types.Trailing},
		{fail(DecodePath([]byte{MaxPath + 1})), types.TooLong},
		{fail(DecodePath([]byte{1})), types.Truncated},
		{fail(DecodePath([]byte{0, 0})), types.Trailing},
	} {
		if !types.IsDecodeKind(d.err, d.kind) {
			t.Errorf("%v, want %s", d.err, d.kind)
		}
	}
}

// broken is a Reader whose disk fails at the given read.
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

func TestReadErrorsArePassedOn(t *testing.T) {
	_, leaves := entries(27)
	m, _ := store(t, leaves[:23], all)
	for what, try := range map[string]func(r Reader) error{
		"append":      func(r Reader) error { _, err := Append(r, 23, leaves[23:]); return err },
		"inclusion":   func(r Reader) error { _, err := ProveInclusion(r, 23, 9); return err },
		"consistency": func(r Reader) error { _, err := ProveConsistency(r, 9, 23); return err },
		"frontier":    func(r Reader) error { _, err := FrontierAt(r, 23); return err },
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

// TestProofSizes prints what proofs cost at 2^30 leaves (with -v), and holds them to the sizes of
// spec/ledger.md.
func TestProofSizes(t *testing.T) {
	in, con := 0, 0
	const n = 1 << 30
	for _, size := range []uint64{n, n - 1, n + 12345} {
		for _, i := range []uint64{0, size / 3, size - 1} {
			in = max(in, 1+32*climb(i, size-1))
			p, err := ProveConsistency(zeros{}, i, size)
			if err != nil {
				t.Fatal(err)
			}
			con = max(con, len(p.Encode()))
		}
	}
	t.Logf("at 2^30 leaves: inclusion %d bytes, consistency %d bytes", in, con)
	if in > 1024 || con > 1024 {
		t.Error("above 1 KiB")
	}
}

// zeros is a log of any size whose nodes are all zero.
type zeros struct{}

func (zeros) Node(uint8, uint64) (types.Hash, error) { return types.Hash{}, nil }

func FuzzDecodeFrontier(f *testing.F) {
	_, leaves := entries(7)
	f.Add(Frontier{}.Append(leaves...).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := DecodeFrontier(data); err == nil && !bytes.Equal(v.Encode(), data) {
			t.Fatalf("%x encodes as %x", data, v.Encode())
		}
	})
}

func FuzzDecodePath(f *testing.F) {
	_, leaves := entries(3)
	f.Add(Path(leaves).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := DecodePath(data); err == nil && !bytes.Equal(v.Encode(), data) {
			t.Fatalf("%x encodes as %x", data, v.Encode())
		}
	})
}

// FuzzVerify gives the verifiers any sizes and paths: no hash but the true ones may be accepted.
// (Sizes may: 6 of 13 leaves and 12 of 26 have the same shape. A root vouches for its size only
// with the checkpoint that carries both.)
func FuzzVerify(f *testing.F) {
	_, leaves := entries(13)
	root, oldRoot := Root(leaves), Root(leaves[:6])
	in, _ := InclusionOf(leaves, 5)
	con, _ := ConsistencyOf(leaves, 6)
	f.Add(uint64(5), uint64(13), in.Encode())
	f.Add(uint64(6), uint64(13), con.Encode())
	f.Fuzz(func(t *testing.T, a, size uint64, data []byte) {
		path, err := DecodePath(data)
		if err != nil {
			return
		}
		if VerifyInclusion(root, size, a, leaves[5], path) == nil && (a != 5 || !slices.Equal(path, in)) {
			t.Fatalf("accepted leaf 5 as %d of %d with %v", a, size, path)
		}
		if VerifyConsistency(a, oldRoot, size, root, path) == nil && !slices.Equal(path, con) {
			t.Fatalf("accepted %d and %d with %v", a, size, path)
		}
	})
}

func BenchmarkAppendStored(b *testing.B) {
	_, leaves := entries(1000)
	m, _ := store(b, leaves, all)
	for b.Loop() {
		if _, err := Append(m, 1000, leaves); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFrontierAppend(b *testing.B) {
	_, leaves := entries(1000)
	f := Frontier{}.Append(leaves...)
	for b.Loop() {
		f.Append(leaves[0])
	}
}
