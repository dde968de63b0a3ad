package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// Every patch fits the program as it is, and the report tells of each.
func TestApply(t *testing.T) {
	report, err := os.ReadFile(filepath.Join(root, "spec", "mutants.md"))
	if err != nil {
		t.Error(err)
	}
	seen := make(map[string]bool)
	for i := range mutants {
		m := &mutants[i]
		text, err := m.apply(root)
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, text, 0); err != nil {
			t.Errorf("%q: %v", m.name, err)
		}
		if seen[m.name] || len(m.suites()) == 0 {
			t.Errorf("%q is there twice, or no tests are its own", m.name)
		}
		seen[m.name] = true
		if !strings.Contains(string(report), "\n"+m.row()) {
			t.Errorf("%q is not in spec/mutants.md: make that anew", m.name)
		}
	}
	if len(mutants) < 40 {
		t.Errorf("only %d mutants", len(mutants))
	}
}

// Samples are different for each seed, and come to all.
func TestPick(t *testing.T) {
	all, seen := regexp.MustCompile(""), make(map[string]bool)
	for seed := range uint64(len(mutants)) {
		some := pick(all, 8, seed)
		if len(some) != 8 {
			t.Fatalf("seed %d gives %d", seed, len(some))
		}
		for _, m := range some {
			seen[m.name] = true
		}
	}
	if len(seen) != len(mutants) || len(pick(all, 0, 0)) != len(mutants) {
		t.Errorf("%d of %d are ever picked", len(seen), len(mutants))
	}
}

// What go test prints, and who failed.
func TestFailed(t *testing.T) {
	for out, want := range map[string]string{
		"--- FAIL: TestA (0.1s)\nFAIL\n": "TestA",
		"--- FAIL: TestA (0.1s)\n    --- FAIL: TestA/x (0.0s)\n    --- FAIL: TestA/y (0.0s)\nFAIL\n": "TestA/x and 1 more",
		"panic: test timed out after 1s\n\trunning tests:\n\t\tTestB/z (1s)\n":                       "TestB/z (no end)",
		"exit status 2": "the process ends",
	} {
		if got := failed([]byte(out)); got != want {
			t.Errorf("%q: %s, want %s", out, got, want)
		}
	}
}

// A result that is not as it should be is an error.
func TestJudge(t *testing.T) {
	sure := func(n int) (all []*result) {
		for range n {
			all = append(all, &result{mutant: &mutant{name: "a"}, killer: "TestA"})
		}
		return all
	}
	for _, c := range []struct {
		results []*result
		want    string
	}{
		{sure(3), ""},
		{append(sure(19), &result{mutant: &mutant{name: "b"}}), ""},
		{append(sure(18), &result{mutant: &mutant{name: "b"}}), "only 18 of 19"},
		{append(sure(1), &result{mutant: &mutant{name: "b", same: "s"}}), ""},
		{append(sure(1), &result{mutant: &mutant{name: "b", same: "s"}, killer: "TestA"}), "said to be no mistake"},
		{append(sure(99), &result{mutant: &mutant{name: "b", incident: "i"}}), "does not need the guard"},
	} {
		err := judge(c.results)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// A report keeps the lines of what was not run.
func TestTable(t *testing.T) {
	a, b := &mutants[0], &mutants[1]
	first := table([]*result{{mutant: a, killer: "TestA"}, {mutant: b}}, "")
	second := table([]*result{{mutant: b, killer: "TestB"}}, first)
	for _, want := range []string{a.row() + "`TestA` | 0.0 |", b.row() + "`TestB` | 0.0 |", "2 of the other 2"} {
		if !strings.Contains(second, want) {
			t.Errorf("%q is not in the report:\n%s", want, second)
		}
	}
	if !strings.Contains(first, b.row()+"**nothing** | 0.0 |") || strings.Contains(second, "nothing") {
		t.Error("a survivor is not told, or stays for ever")
	}
}
