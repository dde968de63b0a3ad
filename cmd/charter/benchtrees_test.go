package main

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
)

// TestBenchTrees runs the smallest measurement: each tree has its object, with what --json promises.
func TestBenchTrees(t *testing.T) {
	var out bytes.Buffer
	if code := run([]string{"bench", "trees", "--keys", "20000", "--batches", "1", "--json"}, nil, &out, io.Discard); code != 0 {
		t.Fatalf("exit %d", code)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(treeKinds) {
		t.Fatalf("%d objects, want %d", len(lines), len(treeKinds))
	}
	for i, line := range lines {
		var row treeRow
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		k := treeKinds[i]
		if row.Kind != "tree" || row.Tree != k.name || row.Leaves != k.leaves(20000) || row.Ops != k.updates+k.inserts || row.Hashes < 1 || row.Hashes > 40 {
			t.Errorf("%s", line)
		}
	}
	for _, args := range [][]string{{"--keys", "7"}, {"--batches", "0"}, {"--trees", "oak"}} {
		if code := run(append([]string{"bench", "trees"}, args...), nil, io.Discard, io.Discard); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
