package trie_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"testing"

	"charter/forest"
	"charter/tlog"
	"charter/trie"
	"charter/types"
)

var update = flag.Bool("update", false, "rewrite spec/vectors/trees.json")

const vectorsFile = "../spec/vectors/trees.json"

// hexBytes is bytes as JSON has them here: hexadecimal.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// vectors is spec/vectors/trees.json: small trees of each kind, with every proof, encoded.
type vectors struct {
	Comment string         `json:"comment"`
	Log     []logVector    `json:"log"`
	Forest  []forestVector `json:"forest"`
	Trie    []trieVector   `json:"trie"`
}

type logVector struct {
	Entries     []hexBytes   `json:"entries"`
	Leaves      []types.Hash `json:"leaves"`
	Root        types.Hash   `json:"root"`
	Frontier    hexBytes     `json:"frontier"`
	Inclusion   []hexBytes   `json:"inclusion"`   // by index
	Consistency []logPrefix  `json:"consistency"` // by size of the older log
}

type logPrefix struct {
	Root  types.Hash `json:"root"`
	Proof hexBytes   `json:"proof"`
}

type forestVector struct {
	Leaves []types.Hash `json:"leaves"`
	Root   types.Hash   `json:"root"`
	Proofs []hexBytes   `json:"proofs"` // by index
}

type trieVector struct {
	Entries []trieEntry `json:"entries"`
	Root    types.Hash  `json:"root"`
	Nodes   []trieNode  `json:"nodes"` // ascending by slot
	Absent  []trieEntry `json:"absent"`
}

type trieEntry struct {
	Path  types.Hash `json:"path"`
	Value types.Hash `json:"value"` // zero where absent
	Proof hexBytes   `json:"proof"`
}

type trieNode struct {
	Slot hexBytes `json:"slot"` // its storage key
	Node hexBytes `json:"node"`
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func makeLog(n int) logVector {
	v := logVector{Entries: []hexBytes{}, Leaves: []types.Hash{}, Inclusion: []hexBytes{}}
	for i := range n {
		data := bytes.Repeat([]byte{byte(i)}, i)
		v.Entries, v.Leaves = append(v.Entries, data), append(v.Leaves, tlog.LeafHash(data))
	}
	v.Root = tlog.Root(v.Leaves)
	v.Frontier = tlog.Frontier{}.Append(v.Leaves...).Encode()
	for i := range n {
		v.Inclusion = append(v.Inclusion, must(tlog.InclusionOf(v.Leaves, uint64(i))).Encode())
	}
	for old := range n + 1 {
		proof := must(tlog.ConsistencyOf(v.Leaves, uint64(old)))
		v.Consistency = append(v.Consistency, logPrefix{tlog.Root(v.Leaves[:old]), proof.Encode()})
	}
	return v
}

var tagVector = types.NewTag("charter/vector")

func makeForest(n int) forestVector {
	v := forestVector{Leaves: []types.Hash{}, Proofs: []hexBytes{}}
	for i := range n {
		v.Leaves = append(v.Leaves, tagVector.Hash([]byte{byte(i)}))
	}
	m := new(forest.Memory)
	res := must(forest.Update(m, 0, nil, v.Leaves))
	m.Apply(res.Writes)
	v.Root = res.Root
	for i := range n {
		v.Proofs = append(v.Proofs, must(forest.Prove(m, res.Size, uint64(i))).Encode())
	}
	return v
}

// makeTrie has n paths: hashes, and from the third on one that shares 255 bits with the first.
func makeTrie(n int) trieVector {
	v := trieVector{Entries: []trieEntry{}, Nodes: []trieNode{}}
	var changes []trie.Change
	for i := range n {
		path, value := tagVector.Hash([]byte("path"), []byte{byte(i)}), tagVector.Hash([]byte("value"), []byte{byte(i)})
		if i == 2 {
			path = v.Entries[0].Path
			path[31] ^= 1
		}
		v.Entries = append(v.Entries, trieEntry{Path: path, Value: value})
		changes = append(changes, trie.Change{Path: path, Value: value})
	}
	m := new(trie.Memory)
	res := must(trie.Update(m, types.Hash{}, changes))
	m.Apply(res)
	v.Root = res.Root
	slices.SortFunc(res.Writes, func(a, b trie.NodeWrite) int { return a.ID.Compare(b.ID) })
	for _, w := range res.Writes {
		v.Nodes = append(v.Nodes, trieNode{w.ID.Encode(), w.Node.Encode()})
	}
	for i := range v.Entries {
		v.Entries[i].Proof = must(trie.Prove(m, v.Root, v.Entries[i].Path)).Encode()
	}
	for i := range 4 { // the last differs from the first path in bit 250
		path := tagVector.Hash([]byte("absent"), []byte{byte(i)})
		if i == 3 && n > 0 {
			path = v.Entries[0].Path
			path[31] ^= 0x20
		}
		v.Absent = append(v.Absent, trieEntry{Path: path, Proof: must(trie.Prove(m, v.Root, path)).Encode()})
	}
	return v
}

func makeVectors() []byte {
	v := vectors{Comment: "Package comments of tlog, forest and trie say what is hashed and how proofs are encoded. " +
		"Made by: go test ./trie -run Vectors -update"}
	for _, n := range []int{0, 1, 2, 3, 6, 7, 8} {
		v.Log, v.Forest = append(v.Log, makeLog(n)), append(v.Forest, makeForest(n))
	}
	for _, n := range []int{0, 1, 2, 3, 6} {
		v.Trie = append(v.Trie, makeTrie(n))
	}
	return append(must(json.MarshalIndent(v, "", "\t")), '\n')
}

// TestVectors wants the file to be what these packages make, and all that is in it to verify from its
// bytes alone.
func TestVectors(t *testing.T) {
	made := makeVectors()
	if *update {
		if err := os.WriteFile(vectorsFile, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, made) {
		t.Errorf("%s is not what is made now; run with -update and read the difference", vectorsFile)
	}
	var v vectors
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	for _, l := range v.Log {
		if err := l.check(); err != nil {
			t.Errorf("log of %d: %v", len(l.Leaves), err)
		}
	}
	for _, f := range v.Forest {
		for i, data := range f.Proofs {
			p, err := forest.DecodeProof(data)
			if err == nil {
				err = forest.Verify(f.Root, uint64(len(f.Leaves)), uint64(i), f.Leaves[i], p)
			}
			if err != nil {
				t.Errorf("forest of %d, position %d: %v", len(f.Leaves), i, err)
			}
		}
	}
	for _, tr := range v.Trie {
		for _, e := range append(tr.Entries, tr.Absent...) {
			p := must(trie.DecodeProof(e.Proof))
			if present, value, err := trie.Verify(tr.Root, e.Path, p); err != nil || value != e.Value || present == e.Value.IsZero() {
				t.Errorf("trie of %d, path %s: %v, %s, %v", len(tr.Entries), e.Path, present, value, err)
			}
		}
	}
}

func (l logVector) check() error {
	size := uint64(len(l.Leaves))
	f, err := tlog.DecodeFrontier(l.Frontier)
	if err != nil || f.Root() != l.Root || f.Size() != size {
		return fmt.Errorf("frontier: %d, %s, %v", f.Size(), f.Root(), err)
	}
	for i, data := range l.Inclusion {
		p, err := tlog.DecodePath(data)
		if err == nil {
			err = tlog.VerifyInclusion(l.Root, size, uint64(i), tlog.LeafHash(l.Entries[i]), p)
		}
		if err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
	}
	for old, c := range l.Consistency {
		p, err := tlog.DecodePath(c.Proof)
		if err == nil {
			err = tlog.VerifyConsistency(uint64(old), c.Root, size, l.Root, p)
		}
		if err != nil {
			return fmt.Errorf("from %d: %w", old, err)
		}
	}
	return nil
}
