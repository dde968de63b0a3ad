package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"charter/sim"
)

func simulate(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(append([]string{"sim"}, args...), strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// TestSim wants a line per seed and a summary last, and twice the same.
func TestSim(t *testing.T) {
	args := []string{"--seeds", "3..4", "--minutes", "0.05", "--peers", "4", "--latency", "wan", "--faults", "loss,twins,crashes", "--json"}
	var traces [2]string
	for i := range traces {
		status, out, errs := simulate(args...)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if status != 0 || len(lines) != 3 {
			t.Fatalf("status %d, %d lines: %s%s", status, len(lines), out, errs)
		}
		var s sim.Summary
		if err := json.Unmarshal([]byte(lines[2]), &s); err != nil {
			t.Fatal(err)
		}
		if s.Kind != "summary" || s.Seeds != 2 || s.Heights == 0 || s.Checks == 0 || s.Violations != 0 || s.Stopped || s.Speed <= 0 || s.Faults["lost"] == 0 {
			t.Errorf("summary is %s", lines[2])
		}
		traces[i] = s.Trace.String()
		for _, line := range lines[:2] {
			var row seedRow
			if err := json.Unmarshal([]byte(line), &row); err != nil || row.Kind != "seed" || !strings.HasSuffix(row.Replay, "--peers 4 --minutes 0.05 --latency wan --faults loss,twins,crashes") {
				t.Errorf("row %s: %v", line, err)
			}
		}
	}
	if traces[0] != traces[1] {
		t.Errorf("one history is %s, another of the same seeds %s", traces[0], traces[1])
	}
}

func TestSimMisused(t *testing.T) {
	for _, args := range [][]string{
		{"--seeds", "4..3"}, {"--seeds", "a"}, {"--seeds", "0..18446744073709551615"}, {"--peers", "3"}, {"--peers", "101"},
		{"--minutes", "-1"}, {"--minutes", "NaN"}, {"--faults", "rain"}, {"--latency", "moon"}, {"--cores", "0"}, {"seven"},
		{"scale", "--peers", "2"}, {"scale", "--peers", "2000"},
	} {
		if status, _, errs := simulate(args...); status != exitUsage || errs == "" {
			t.Errorf("%v: status %d: %s", args, status, errs)
		}
	}
}

func TestSimScale(t *testing.T) {
	status, out, errs := simulate("scale", "--peers", "4", "--heights", "5", "--even", "50", "--json")
	var row sim.ScaleRow
	if err := json.Unmarshal([]byte(out), &row); status != 0 || err != nil || row.Kind != "scale" || row.LeaderDelays != 3 || row.AllDelays != 4 {
		t.Errorf("status %d: %s%s%v", status, out, errs, err)
	}
}
