package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A peer is made, and tells what belongs in the genesis; what is set wrongly is refused in a line.
func TestPeerInitAndRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ann")
	status, out, errs := try("peer", "init", "--dir", dir, "--name", "ann", "--listen", "127.0.0.1:7400")
	if status != 0 || !strings.Contains(out, `"name": "ann", "address": "127.0.0.1:7400"`) || !strings.Contains(out, "charter peer run --dir "+dir) {
		t.Fatalf("status %d: %s%s", status, out, errs)
	}
	if text := read(t, filepath.Join(dir, "charter.toml")); !strings.Contains(text, "\nlisten = \"127.0.0.1:7400\"\n") {
		t.Errorf("charter.toml: %s", text)
	}
	rows := []struct {
		name    string
		environ string
		file    string
		args    []string
		status  int
		want    string
	}{
		{"init again", "", "", []string{"init", "--dir", dir}, exitFailed, "not overwritten"},
		{"no genesis", "", "", []string{"run", "--dir", dir}, exitFailed, "charter genesis"},
		{"unknown flag", "", "", []string{"run", "--dri", dir}, exitUsage, "unknown flag"},
		{"an argument", "", "", []string{"run", dir}, exitUsage, "--help"},
		{"unknown key in the environment", "CHARTER_PEER_LOGLEVEL", "", []string{"run", "--dir", dir}, exitFailed, "did you mean log_level?"},
		{"unknown key in the file", "", "lsten = 3\n", []string{"run", "--dir", dir}, exitFailed, "did you mean listen?"},
		{"wrong value", "", "", []string{"run", "--dir", dir, "--log-format", "xml"}, exitFailed, `log_format is "xml": want one of text, json`},
		{"nobody there", "", "", []string{"status", "--api", "127.0.0.1:1"}, exitFailed, "is it running"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			if row.environ != "" {
				t.Setenv(row.environ, "x")
			}
			if row.file != "" {
				if err := os.WriteFile(filepath.Join(dir, "charter.toml"), []byte(row.file), 0o644); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(filepath.Join(dir, "charter.toml"))
			}
			status, out, errs := try(append([]string{"peer"}, row.args...)...)
			if status != row.status || !strings.Contains(errs, row.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("status %d: %s%s", status, out, errs)
			}
		})
	}
}

// The status of a running peer, for people and for programs.
func TestPeerStatus(t *testing.T) {
	d := newDesk(t)
	table := d.ok("peer", "status", "--api", d.agent)
	for _, want := range []string{"final        ", "PEER", "LAG", "itself"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in:\n%s", want, table)
		}
	}
	if s := d.json("peer", "status", "--api", strings.TrimPrefix(d.agent, "http://"), "--json"); s["final_height"] == nil || len(s["peers"].([]any)) != 1 {
		t.Errorf("status %v", s)
	}
}
