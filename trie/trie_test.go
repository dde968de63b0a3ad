package trie

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"charter/types"
)

var tagTest = types.NewTag("charter/test")

func hashOf(i uint64) types.Hash { return tagTest.Hash(binary.BigEndian.AppendUint64(nil, i)) }

// slow is the nodes of a trie by slot, and its root, from the set of its paths alone: each subtree gathers
// the paths in its slot, and compares them bit by bit.
func slow(set map[Path]types.Hash) (map[NodeID]Node, types.Hash) {
	nodes := map[NodeID]Node{}
	var at func(slot NodeID, set map[Path]types.Hash) types.Hash
	at = func(slot NodeID, set map[Path]types.Hash) types.Hash {
		var prefix NodeID
		sides := [2]map[Path]types.Hash{{}, {}}
		for path, value := range set {
			if len(set) == 1 {
				nodes[slot] = Node{Prefix: NodeID{256, path}, Value: value}
				return types.NewTag("charter/trie leaf").Hash(path[:], value[:])
			}
			for len(sides[0]) == 0 && prefix.Len < 256 { // find the first bit that parts the paths
				sides = [2]map[Path]types.Hash{{}, {}}
				for p, v := range set {
					sides[p[prefix.Len/8]>>(7-prefix.Len%8)&1][p] = v
				}
				if len(sides[0]) > 0 && len(sides[1]) > 0 {
					break
				}
				if len(sides[1]) > 0 {
					prefix.Bits[prefix.Len/8] |= 0x80 >> (prefix.Len % 8)
				}
				prefix.Len++
				sides = [2]map[Path]types.Hash{{}, {}}
			}
			break
		}
		if len(set) == 0 {
			return types.Hash{}
		}
		zero, one := prefix, prefix
		zero.Len, one.Len = prefix.Len+1, prefix.Len+1
		one.Bits[prefix.Len/8] |= 0x80 >> (prefix.Len % 8)
		left, right := at(zero, sides[0]), at(one, sides[1])
		nodes[slot] = Node{Prefix: prefix, Left: left, Right: right}
		return types.NewTag("charter/trie inner").Hash([]byte{byte(prefix.Len >> 8), byte(prefix.Len)}, prefix.Bits[:], left[:], right[:])
	}
	root := at(NodeID{}, set)
	return nodes, root
}

// crowded is paths that part at few bits, the first and the last among them, so that small sets have
// long prefixes, deep nodes and splits everywhere.
func crowded(i int) Path {
	var p Path
	for k, at := range []int{0, 1, 7, 8, 9, 63, 64, 200, 254, 255} {
		p[at/8] |= byte(i>>k&1) << (7 - at%8)
	}
	return p
}

// counting counts reads of each slot.
type counting struct {
	*Memory
	reads map[NodeID]int
}

func (c *counting) Node(id NodeID) (Node, error) {
	c.reads[id]++
	return c.Memory.Node(id)
}

// TestIncrementalIsFromScratch runs random batches of new values, old values and removals, and wants after each
// exactly the nodes and the root that the set of paths has, no slot read or written twice, and nothing
// deleted that was not there.
func TestIncrementalIsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, set, root := new(Memory), map[Path]types.Hash{}, types.Hash{}
		many := rapid.SampledFrom([]int{4, 64, 1024}).Draw(t, "paths")
		for range rapid.IntRange(1, 6).Draw(t, "batches") {
			var changes []Change
			for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, many-1), 0, min(40, many), rapid.ID).Draw(t, "paths") {
				c := Change{Path: crowded(i)}
				if v := rapid.IntRange(0, 4).Draw(t, "value"); v > 1 {
					c.Value = hashOf(uint64(v))
				}
				changes = append(changes, c)
			}
			given := slices.Clone(changes)
			c := &counting{m, map[NodeID]int{}}
			res, err := Update(c, root, changes)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(given, changes) {
				t.Fatal("the caller's changes were reordered")
			}
			for id, k := range c.reads {
				if k > 1 {
					t.Fatalf("slot %s read %d times", id, k)
				}
			}
			written := map[NodeID]bool{}
			for _, w := range res.Writes {
				if written[w.ID] || m.nodes[w.ID] == w.Node {
					t.Fatalf("slot %s written twice or for nothing", w.ID)
				}
				written[w.ID] = true
			}
			for i, id := range res.Deletes {
				if _, was := m.nodes[id]; written[id] || !was || i > 0 && res.Deletes[i-1].Compare(id) >= 0 {
					t.Fatalf("slot %s deleted wrongly", id)
				}
			}
			m.Apply(res)
			for _, c := range changes {
				if set[c.Path] = c.Value; c.Value.IsZero() {
					delete(set, c.Path)
				}
			}
			nodes, want := slow(set)
			if root = res.Root; root != want || !maps.Equal(nodes, m.nodes) {
				t.Fatalf("%d paths: root %s, want %s; %d nodes, want %d", len(set), root, want, m.Len(), len(nodes))
			}
		}
		provesEverything(t, m, root, set, many)
	})
}

// provesEverything asks for each path, there or not, its value and a proof.
func provesEverything(t *rapid.T, m *Memory, root types.Hash, set map[Path]types.Hash, many int) {
	for i := range min(many, 100) {
		path := crowded(i)
		want, there := set[path]
		value, present, err := Get(m, root, path)
		if err != nil || present != there || value != want {
			t.Fatalf("get %x: %s, %v, %v, want %s", path, value, present, err, want)
		}
		p, err := Prove(m, root, path)
		if err != nil {
			t.Fatal(err)
		}
		p, err = DecodeProof(p.Encode())
		if err != nil {
			t.Fatal(err)
		}
		present, value, err = Verify(root, path, p)
		if err != nil || present != there || value != want {
			t.Fatalf("proof of %x: %s, %v, %v, want %s", path, value, present, err, want)
		}
	}
}

func build(t testing.TB, set map[Path]types.Hash) (*Memory, types.Hash) {
	var changes []Change
	for p, v := range set {
		changes = append(changes, Change{p, v})
	}
	m := new(Memory)
	res, err := Update(m, types.Hash{}, changes)
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(res)
	return m, res.Root
}

// setOf is n paths, each the hash of its number, as keys would be.
func setOf(n uint64) map[Path]types.Hash {
	set := map[Path]types.Hash{}
	for i := range n {
		set[hashOf(i)] = hashOf(i + 1<<32)
	}
	return set
}

// TestProofMutantsFail changes, drops and adds bytes, swaps and moves siblings, and takes each proof for
// every other path: whatever is accepted must be true, and only the proof itself may be accepted for its path.
func TestProofMutantsFail(t *testing.T) {
	sets := []map[Path]types.Hash{{}, setOf(1), setOf(2), setOf(9)}
	small := map[Path]types.Hash{}
	for i := range 12 {
		small[crowded(i*37)] = hashOf(uint64(i))
	}
	for _, set := range append(sets, small) {
		m, root := build(t, set)
		var paths []Path
		for i := range 30 {
			paths = append(paths, crowded(i*37/2), Path(hashOf(uint64(i))))
		}
		for _, path := range paths {
			p, err := Prove(m, root, path)
			if err != nil {
				t.Fatal(err)
			}
			data := p.Encode()
			for _, other := range paths {
				if present, value, err := Verify(root, other, p); err == nil && (present != !set[other].IsZero() || value != set[other]) {
					t.Fatalf("the proof of %x proves %v, %s of %x", path, present, value, other)
				}
			}
			for _, bad := range mutants(p) {
				if q, err := DecodeProof(bad); err == nil {
					if _, _, err := Verify(root, path, q); err == nil {
						t.Fatalf("accepted %x for %x", bad, data)
					}
				}
			}
			if _, _, err := Verify(hashOf(7), path, p); !IsKind(err, RootMismatch) {
				t.Fatalf("another root: %v", err)
			}
		}
	}
}

// mutants are encodings that differ from p's.
func mutants(p *Proof) (ms [][]byte) {
	data := p.Encode()
	for i := range data {
		for b := range 8 {
			m := bytes.Clone(data)
			m[i] ^= 1 << b
			ms = append(ms, m)
		}
		ms = append(ms, data[:i], slices.Delete(bytes.Clone(data), i, i+1), slices.Insert(bytes.Clone(data), i, data[i]^1))
	}
	ms = append(ms, append(bytes.Clone(data), 0))
	with := func(change func(q *Proof)) {
		q := *p
		q.Siblings = slices.Clone(p.Siblings)
		change(&q)
		ms = append(ms, q.Encode())
	}
	for i := range p.Siblings {
		with(func(q *Proof) { q.Siblings = slices.Delete(q.Siblings, i, i+1) })
		with(func(q *Proof) { q.Siblings[i].Depth++ })
		if i > 0 {
			with(func(q *Proof) {
				q.Siblings[i].Hash, q.Siblings[i-1].Hash = q.Siblings[i-1].Hash, q.Siblings[i].Hash
			})
		}
	}
	with(func(q *Proof) { q.Siblings = append(q.Siblings, Sibling{255, hashOf(1)}) })
	if p.Other == nil {
		with(func(q *Proof) { q.Value = hashOf(12345) })
		with(func(q *Proof) { q.Value, q.Other = types.Hash{}, &Node{Prefix: NodeID{Len: 256}, Value: hashOf(1)} })
	} else {
		with(func(q *Proof) { q.Other, q.Value = nil, p.Other.Value })
		with(func(q *Proof) { n := *q.Other; n.Left, n.Right = n.Right, n.Left; n.Value[0]++; q.Other = &n })
	}
	return ms
}

// TestHidingAPrefixFails plays the prover who hides a path under an inner node that he gives another prefix.
func TestHidingAPrefixFails(t *testing.T) {
	set := map[Path]types.Hash{crowded(0): hashOf(0), crowded(1 << 9): hashOf(1)} // part at bit 255
	m, root := build(t, set)
	top, err := m.Node(NodeID{})
	if err != nil || top.Prefix.Len != 255 {
		t.Fatal(top, err)
	}
	for n := range uint16(256) {
		lie := top
		lie.Prefix = beginning(crowded(1023), n)
		if present, _, err := Verify(root, crowded(0), &Proof{Other: &lie}); err == nil {
			t.Fatalf("%d bits of lie: accepted, present %v", n, present)
		}
	}
}

func TestNodeIDKeys(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var ids []NodeID
	for n := range uint16(257) {
		for range 3 {
			ids = append(ids, beginning(crowded(rng.IntN(1024)), n), beginning(Path(hashOf(rng.Uint64())), n))
		}
	}
	for _, a := range ids {
		key := a.Encode()
		if got, err := DecodeNodeID(key); err != nil || got != a || len(key) != int(a.Len)/8+1 {
			t.Fatalf("%s encodes as %x, that decodes as %s, %v", a, key, got, err)
		}
		for range 20 {
			b := ids[rng.IntN(len(ids))]
			if (bytes.Equal(key, b.Encode())) != (a == b) {
				t.Fatalf("%s and %s share a key", a, b)
			}
			// In order from left to right: below a's left, a, below a's right.
			want := bytes.Compare(a.Bits[:], b.Bits[:])
			if c := common(&a.Bits, &b.Bits); c >= min(a.Len, b.Len) {
				switch {
				case a.Len == b.Len:
					want = 0
				case a.Len < b.Len:
					want = 1 - 2*int(bit(b.Bits, a.Len))
				default:
					want = 2*int(bit(a.Bits, b.Len)) - 1
				}
			}
			if got := a.Compare(b); got != want {
				t.Fatalf("%s against %s: %d, want %d", a, b, got, want)
			}
		}
	}
}

// lying is a trie one of whose slots holds another node.
type lying struct {
	*Memory
	slot NodeID
	node Node
}

func (l lying) Node(id NodeID) (Node, error) {
	if id == l.slot {
		return l.node, nil
	}
	return l.Memory.Node(id)
}

// TestErrorKinds damages a true batch, trie and proofs in one way per row.
func TestErrorKinds(t *testing.T) {
	set := map[Path]types.Hash{}
	for i := range 8 {
		set[crowded(i)] = hashOf(uint64(i))
	}
	m, root := build(t, set)
	fail := func(_ any, err error) error { return err }
	prove := func(path Path, change func(p *Proof)) error {
		p, err := Prove(m, root, path)
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		_, _, err = Verify(root, path, p)
		return err
	}
	in, leafInWay, innerInWay := crowded(3), crowded(3|1<<9), crowded(3)
	innerInWay[0] |= 0x20
	two := []Change{{in, root}, {crowded(1), root}, {in, types.Hash{}}}
	strange := lying{m, NodeID{}.child(0), Node{Prefix: NodeID{256, crowded(1)}, Value: root}}
	shallow := lying{m, NodeID{}.child(0), Node{Left: root, Right: root}}
	deep := lying{m, NodeID{}.child(0), Node{Prefix: NodeID{Len: 300}}}
	older := lying{m, NodeID{}, Node{Prefix: NodeID{}, Left: root, Right: root}}
	zero := crowded(0)
	rows := []struct {
		what string
		err  error
		kind Kind
	}{
		{"update: path twice", fail(Update(m, root, two)), RepeatedPath},
		{"update: strange node", fail(Update(strange, root, []Change{{zero, root}})), BadNode},
		{"update: other version", fail(Update(older, root, []Change{{zero, root}})), BadNode},
		{"prove: strange node", fail(Prove(strange, root, zero)), BadNode},
		{"prove: node of a slot above", fail(Prove(shallow, root, zero)), BadNode},
		{"prove: prefix too long", fail(Prove(deep, root, zero)), BadNode},
		{"prove: other version", fail(Prove(older, root, zero)), BadNode},
		{"verify: descending depths", prove(in, func(p *Proof) { slices.Reverse(p.Siblings) }), BadProof},
		{"verify: depth twice", prove(in, func(p *Proof) { p.Siblings = append(p.Siblings, p.Siblings[2]) }), BadProof},
		{"verify: nothing at the end", prove(in, func(p *Proof) { p.Value = types.Hash{} }), BadProof},
		{"verify: both ends", prove(leafInWay, func(p *Proof) { p.Value = root }), BadProof},
		{"verify: the path itself as other", prove(in, func(p *Proof) {
			p.Other, p.Value = &Node{Prefix: NodeID{256, in}, Value: p.Value}, types.Hash{}
		}), BadProof},
		{"verify: a node from elsewhere", prove(leafInWay, func(p *Proof) { p.Other.Prefix.Bits = crowded(4) }), BadProof},
		{"verify: a node that covers the path", prove(innerInWay, func(p *Proof) { p.Other.Prefix = beginning(innerInWay, 2) }), BadProof},
		{"verify: a node above its slot", prove(leafInWay, func(p *Proof) { p.Other.Prefix.Len = 1 }), BadProof},
		{"verify: a prefix too long", prove(leafInWay, func(p *Proof) { p.Other.Prefix.Len = 300 }), BadProof},
		{"verify: value", prove(in, func(p *Proof) { p.Value = root }), RootMismatch},
		{"verify: sibling", prove(in, func(p *Proof) { p.Siblings[0].Hash[5]++ }), RootMismatch},
		{"verify: empty trie", prove(in, func(p *Proof) { *p = Proof{} }), RootMismatch},
		{"verify: other's value", prove(leafInWay, func(p *Proof) { p.Other.Value[0]++ }), RootMismatch},
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
}

// TestDecodeErrors damages encodings in one way per row.
func TestDecodeErrors(t *testing.T) {
	h := hashOf(1)
	leaf, in := Node{Prefix: NodeID{256, crowded(5)}, Value: h}, Node{Prefix: beginning(crowded(1023), 10), Left: h, Right: h}
	proof := Proof{Siblings: []Sibling{{0, h}, {3, h}}, Value: h}
	edit := func(b []byte, at int, v byte) []byte { b[at] = v; return b }
	id := func(b []byte) error { _, err := DecodeNodeID(b); return err }
	node := func(b []byte) error { _, err := DecodeNode(b); return err }
	prf := func(b []byte) error { _, err := DecodeProof(b); return err }
	for what, row := range map[string]struct {
		err  error
		kind types.DecodeKind
	}{
		"id: nothing":             {id(nil), types.Truncated},
		"id: too long":            {id(make([]byte, 34)), types.TooLong},
		"id: no end":              {id([]byte{0x80, 0}), types.NotCanonical},
		"id: 257 bits":            {id(append(make([]byte, 32), 0xc0)), types.NotCanonical},
		"node: kind":              {node([]byte{3}), types.Unknown},
		"node: short":             {node(in.Encode()[:66]), types.Truncated},
		"node: trailing":          {node(append(leaf.Encode(), 0)), types.Trailing},
		"node: prefix not filled": {node(edit(in.Encode(), 3, 0xff)), types.NotCanonical},
		"node: no value":          {node(append([]byte{1}, make([]byte, 64)...)), types.NotCanonical},
		"node: no child":          {node(append([]byte{2, 0}, make([]byte, 64)...)), types.NotCanonical},
		"proof: end":              {prf([]byte{3, 0, 0}), types.Unknown},
		"proof: too many":         {prf(append([]byte{1, 1, 1}, make([]byte, 33*300)...)), types.TooLong},
		"proof: more than there":  {prf([]byte{1, 0, 9, 0}), types.TooLong},
		"proof: order":            {prf(edit(proof.Encode(), 3, 3)), types.NotCanonical},
		"proof: empty with way":   {prf(edit(proof.Encode()[:3+66], 0, 0)), types.NotCanonical},
		"proof: zero sibling":     {prf(append([]byte{1, 0, 1, 0}, append(make([]byte, 32), h[:]...)...)), types.NotCanonical},
		"proof: no value":         {prf(make([]byte, 1)), types.Truncated},
		"proof: zero value":       {prf(append([]byte{1, 0, 0}, make([]byte, 32)...)), types.NotCanonical},
		"proof: trailing":         {prf(append(proof.Encode(), 0)), types.Trailing},
	} {
		if !types.IsDecodeKind(row.err, row.kind) {
			t.Errorf("%s: %v, want %s", what, row.err, row.kind)
		}
	}
	for _, n := range []Node{leaf, in, {Left: h, Right: h}, {Prefix: beginning(crowded(1023), 255), Left: h, Right: h}} {
		if got, err := DecodeNode(n.Encode()); err != nil || got != n {
			t.Errorf("%v decodes as %v, %v", n, got, err)
		}
	}
}

// TestReadErrorsArePassedOn lets each read fail in turn.
func TestReadErrorsArePassedOn(t *testing.T) {
	m, root := build(t, setOf(50))
	for what, try := range map[string]func(r Reader) error{
		"update": func(r Reader) error {
			_, err := Update(r, root, []Change{{Path(hashOf(3)), types.Hash{}}, {Path(hashOf(5)), root}, {Path(hashOf(77)), root}})
			return err
		},
		"prove": func(r Reader) error { _, err := Prove(r, root, Path(hashOf(9))); return err },
		"get":   func(r Reader) error { _, _, err := Get(r, root, Path(hashOf(9))); return err },
	} {
		reads := 0
		for ; ; reads++ {
			if err := try(&broken{m, reads}); err == nil {
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
	*Memory
	left int
}

var errDisk = errors.New("disk")

func (b *broken) Node(id NodeID) (Node, error) {
	if b.left--; b.left < 0 {
		return Node{}, errDisk
	}
	return b.Memory.Node(id)
}

// TestProofSizes prints what proofs cost (with -v): measured at 2^15 paths, and from there by 33 bytes for each doubling.
func TestProofSizes(t *testing.T) {
	const n = 1 << 15
	m, root := build(t, setOf(n))
	var sum, most [2]int
	for i := range uint64(2000) {
		for k, path := range []Path{Path(hashOf(i)), Path(hashOf(i + n))} {
			p, err := Prove(m, root, path)
			if err != nil {
				t.Fatal(err)
			}
			size := len(p.Encode())
			sum[k], most[k] = sum[k]+size, max(most[k], size)
		}
	}
	for k, what := range []string{"presence", "absence"} {
		t.Logf("%s at 2^15 paths: mean %d, greatest of 2000 %d bytes; at 2^30: about %d and %d bytes", what,
			sum[k]/2000, most[k], sum[k]/2000+15*33, most[k]+15*33)
		if sum[k]/2000+15*33 > 1300 {
			t.Errorf("%s: above 1.3 KiB", what)
		}
	}
}

func FuzzDecodeProof(f *testing.F) {
	m, root := build(f, setOf(5))
	for i := range uint64(8) {
		p, _ := Prove(m, root, Path(hashOf(i)))
		f.Add(p.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := DecodeProof(data); err == nil && !bytes.Equal(p.Encode(), data) {
			t.Fatalf("%x encodes as %x", data, p.Encode())
		}
	})
}

func FuzzDecodeNode(f *testing.F) {
	m, _ := build(f, setOf(5))
	for _, n := range m.nodes {
		f.Add(n.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if n, err := DecodeNode(data); err == nil && !bytes.Equal(n.Encode(), data) {
			t.Fatalf("%x encodes as %x", data, n.Encode())
		}
	})
}

func FuzzDecodeNodeID(f *testing.F) {
	f.Add([]byte{0x80})
	f.Add(append(make([]byte, 32), 0x80))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id, err := DecodeNodeID(data); err == nil && !bytes.Equal(id.Encode(), data) {
			t.Fatalf("%x encodes as %x", data, id.Encode())
		}
	})
}

// FuzzVerify gives the verifier any path and proof: what it accepts must be true.
func FuzzVerify(f *testing.F) {
	set := map[Path]types.Hash{}
	for i := range 8 {
		set[crowded(i*3)] = hashOf(uint64(i))
	}
	m, root := build(f, set)
	for i := range 24 {
		path := crowded(i)
		p, _ := Prove(m, root, path)
		f.Add(path[:], p.Encode())
	}
	f.Fuzz(func(t *testing.T, b, data []byte) {
		var path Path
		copy(path[:], b)
		p, err := DecodeProof(data)
		if err != nil {
			return
		}
		present, value, err := Verify(root, path, p)
		if err == nil && (present != !set[path].IsZero() || value != set[path]) {
			t.Fatalf("accepted of %x: %v, %s", path, present, value)
		}
	})
}

// BenchmarkUpdate gives 10,000 of 10^6 paths new values, and adds 10,000.
func BenchmarkUpdate(b *testing.B) {
	m, root := build(b, setOf(1e6))
	var changes []Change
	for i := range uint64(10_000) {
		changes = append(changes, Change{Path(hashOf(i * 97)), hashOf(i)}, Change{Path(hashOf(i + 1e6)), hashOf(i)})
	}
	writes := 0
	for b.Loop() {
		res, err := Update(m, root, changes)
		if err != nil {
			b.Fatal(err)
		}
		writes = len(res.Writes)
	}
	b.ReportMetric(float64(writes), "writes/op")
}

func BenchmarkVerify(b *testing.B) {
	m, root := build(b, setOf(1<<15))
	path := Path(hashOf(1))
	p, err := Prove(m, root, path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, _, err := Verify(root, path, p); err != nil {
			b.Fatal(err)
		}
	}
}
