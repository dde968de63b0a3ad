package main

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Proofs keep the sizes that were promised, in trees of 2³⁰ leaves and in small ones: each is made, and verifies.
func TestProofSizes(t *testing.T) {
	var rows []proofRow
	for _, n := range []uint64{16, 5000, 1<<30 - 1, 1 << 30} {
		g, err := grow(t.Context(), n, n < builtLeaves, func(string, float64) {})
		if err != nil {
			t.Fatal(err)
		}
		more, err := g.measure(0)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, more...)
	}
	for _, n := range []int{1, 4, 100, 999} {
		row, err := measureCertificate(n, 0)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	for _, r := range rows {
		t.Logf("%s, %d leaves, %d peers: %d bytes", r.Kind, r.Leaves, r.Peers, r.Bytes)
		if r.limit() == 0 || r.Bytes > r.limit() {
			t.Errorf("%s, %d leaves, %d peers: %d bytes, want at most %d", r.Kind, r.Leaves, r.Peers, r.Bytes, r.limit())
		}
	}
}

// Trees of which only the nodes are made that proofs pass give proofs as long as whole ones.
func TestSizesByConstruction(t *testing.T) {
	for _, n := range []uint64{16, 17, 1000, 4095, 4096} {
		var bytes [2]map[string]int
		for i, whole := range []bool{true, false} {
			bytes[i] = make(map[string]int)
			g, err := grow(t.Context(), n, whole, func(string, float64) {})
			if err != nil {
				t.Fatal(err)
			}
			rows, err := g.measure(0)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				bytes[i][r.Kind] = r.Bytes
			}
		}
		for kind, real := range bytes[0] {
			if by := bytes[1][kind]; by != real && kind != "key" || by < real { // a trie has no one height
				t.Errorf("%s with %d leaves: %d bytes by construction, %d in a whole tree", kind, n, by, real)
			}
		}
	}
}

func TestBenchProofsJSON(t *testing.T) {
	var out, progress bytes.Buffer
	c := proofsConfig{Leaves: []uint{64}, Peers: []uint{4}, JSON: true}
	if err := c.run(t.Context(), &out, &progress); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	for d.More() {
		var r proofRow
		if err := d.Decode(&r); err != nil {
			t.Fatal(err)
		}
		if r.Bytes == 0 || r.Verify <= 0 || (r.Kind == "certificate") != (r.Peers == 4) || (r.Kind != "certificate") != (r.Leaves == 64) {
			t.Errorf("%+v", r)
		}
		kinds[r.Kind] = true
	}
	if len(kinds) != 5 {
		t.Errorf("kinds %v, want five", kinds)
	}
	if err := (&proofsConfig{Leaves: []uint{3}}).run(t.Context(), &out, &progress); err == nil {
		t.Error("3 leaves: no error")
	}
}
