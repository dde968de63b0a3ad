package floors

import (
	"strings"
	"testing"
	"testing/fstest"
)

// sound is a small house with nothing wrong, to break in one way per row.
func sound() fstest.MapFS {
	house := fstest.MapFS{}
	for name, source := range map[string]string{
		"types/types.go":               "package types\nimport (\"time\"; \"fmt\")",
		"types/types_test.go":          "package types\nimport (\"os\"; \"charter/ledger\"; \"github.com/cockroachdb/pebble/v2/vfs\")",
		"sig/sig.go":                   "package sig\nimport \"charter/types\"",
		"sig/internal/field/field.go":  "package field\nimport \"charter/types\"",
		"sig/field.go":                 "package sig\nimport \"charter/sig/internal/field\"",
		"proof/proof.go":               "package proof\nimport (\"charter/sig\"; \"charter/types\")",
		"ledger/ledger.go":             "package ledger\nimport (\"charter/proof\"; \"net/netip\"; \"timer\")",
		"store/store.go":               "package store\nimport (\"os\"; \"sync\"; \"charter/ledger\"; \"github.com/cockroachdb/pebble/v2\")",
		"transport/transport.go":       "package transport\nimport (\"net\"; \"github.com/quic-go/quic-go\")\nfunc f() { go f() }",
		"api/charter/v1/charter.pb.go": "package charterv1",
		"agent/agent.go":               "package agent\nimport (\"charter/api/charter/v1\"; \"charter/types\")",
		"cmd/charter/main.go":          "package main\nimport (\"charter/agent\"; \"charter/sim\")",
		"sim/sim.go":                   "package sim\nimport \"charter/ledger\"",
		"internal/draw/draw.go":        "package draw\nimport \"charter/types\"",
		"tools/go.mod":                 "module charter/tools",
		"tools/protogen/main.go":       "package main\nimport \"charter/nowhere\"",
		"ledger/testdata/x.go":         "no Go at all",
		"consensus/.hidden/x.go":       "no Go at all",
	} {
		house[name] = &fstest.MapFile{Data: []byte(source)}
	}
	return house
}

func TestSoundHouse(t *testing.T) {
	found, files, err := inspect(sound())
	if err != nil || len(found) != 0 || files != 13 {
		t.Errorf("%d files, found %v, %v; want 13 and nothing", files, found, err)
	}
}

// Each fault, brought about by one file. Every fault has a row.
func TestFaults(t *testing.T) {
	rows := []struct {
		fault        fault
		file, source string
		what         string
	}{
		{unknownRoom, "util/util.go", "package util", "util"},
		{unknownRoom, "main.go", "package main", "."},
		{unknownRoom, "consensus/graph/graph.go", "package graph", "consensus/graph"},
		{unknownRoom, "sig/bad.go", "package sig\nimport \"charter/util\"", "charter/util"},
		{upward, "types/bad.go", "package types\nimport \"charter/sig\"", "types (floor 0) imports sig (floor 1)"},
		{upward, "proof/bad.go", "package proof\nimport _ \"charter/ledger\"", "imports ledger"},
		{upward, "agent/bad.go", "package agent\nimport x \"charter/peer\"", "imports peer"},
		{upward, "chain/bad.go", "package chain\nimport \"charter/gossip\"", "imports gossip"},
		{upward, "cmd/charter/bad.go", "package main\nimport \"charter/internal/draw\"", "imports internal/draw"},
		{upward, "agent/bad.go", "package agent\nimport \"charter/sim\"", "imports sim"},
		{upward, "peer/bad.go", "package peer\nimport \"charter/internal/draw\"", "imports internal/draw"},
		{upward, "types/bad.go", "package types\nimport \"charter/sig/internal/field\"", "imports sig/internal/field"},
		{notPure, "ledger/bad.go", "package ledger\nimport \"time\"", "imports time"},
		{notPure, "sig/internal/field/bad.go", "package field\nimport \"crypto/rand\"", "imports crypto/rand"},
		{notPure, "wallet/bad.go", "package wallet\nimport \"os/exec\"", "imports os/exec"},
		{notPure, "consensus/bad.go", "//go:build linux\n\npackage consensus\nimport r \"math/rand/v2\"", "imports math/rand/v2"},
		{notPure, "pool/bad.go", "package pool\nimport \"sync/atomic\"", "imports sync/atomic"},
		{notPure, "books/bad.go", "package books\nimport \"log/slog\"", "imports log/slog"},
		{notPure, "types/bad.go", "package types\nimport \"net\"", "imports net"},
		{hasGoroutine, "consensus/bad.go", "package consensus\nfunc f() { if true { go func() {}() } }", "go statement"},
		{notItsOwn, "chain/bad.go", "package chain\nimport \"github.com/cockroachdb/pebble/v2/vfs\"", "only store may"},
		{notItsOwn, "gossip/bad.go", "package gossip\nimport \"github.com/quic-go/quic-go\"", "only transport may"},
	}
	has := make(map[fault]bool)
	for _, row := range rows {
		has[row.fault] = true
		house := sound()
		house[row.file] = &fstest.MapFile{Data: []byte(row.source)}
		found, _, err := inspect(house)
		if err != nil || len(found) != 1 || found[0].fault != row.fault || found[0].file != row.file || !strings.Contains(found[0].what, row.what) {
			t.Errorf("%s with %q: found %v, %v; want %q: %s", row.file, row.source, found, err, row.fault, row.what)
		}
	}
	for _, f := range []fault{unknownRoom, upward, notPure, hasGoroutine, notItsOwn} {
		if !has[f] {
			t.Errorf("%q has no row", f)
		}
	}
}

// The table itself: floors do not fall, and no room is there twice.
func TestHouse(t *testing.T) {
	seen := make(map[string]bool)
	for i, r := range house {
		if i > 0 && house[i-1].floor > r.floor {
			t.Errorf("%s is on floor %d, and listed behind floor %d", r.name, r.floor, house[i-1].floor)
		}
		if seen[r.name] {
			t.Errorf("%s is there twice", r.name)
		}
		seen[r.name] = true
		if name, all := strings.CutSuffix(r.name, "/..."); find(strings.TrimSuffix(r.name, "/...")) != i && !(all && find(name+"/x") == i) {
			t.Errorf("%s is not found at its place", r.name)
		}
	}
}
