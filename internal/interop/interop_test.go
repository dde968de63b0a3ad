// Package interop runs the second verifier, which is written in another language from the text of spec/ alone
// (interop/, for Node): over all vectors, and over proof files as a person would.
package interop

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var here = filepath.Join("..", "..")

const oldest = 20 // version of Node that the program is written for

// node runs the verifier that lies in a tree, and gives what it printed and its exit status.
func node(t *testing.T, root string, args ...string) (out string, status int) {
	t.Helper()
	path, err := exec.LookPath("node")
	if err != nil {
		t.Skip("skipped: Node is not installed, and the second verifier is written for it")
	}
	version, err := exec.Command(path, "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	major := regexp.MustCompile(`^v(\d+)\.`).FindSubmatch(version)
	if major == nil {
		t.Fatalf("Node says it is of version %q", version)
	}
	if n, _ := strconv.Atoi(string(major[1])); n < oldest { // digits
		t.Skipf("skipped: Node is of version %s, want %d or newer", strings.TrimSpace(string(version)), oldest)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{filepath.Join(root, "interop", "verify.mjs")}, args...)...)
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

func TestVectors(t *testing.T) {
	out, status := node(t, here)
	t.Logf("\n%s", out)
	if status != 0 || !strings.HasSuffix(out, "all agree\n") {
		t.Errorf("exit status %d", status)
	}
}

// A vector that is not so is noticed: in a copy of the tree, one digit of one in each file is another.
func TestNotices(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"interop", "spec/vectors"} {
		if err := os.CopyFS(filepath.Join(root, dir), os.DirFS(filepath.Join(here, dir))); err != nil {
			t.Fatal(err)
		}
	}
	says := map[string]string{ // by file and field, what does not agree
		"types id": "ids: transaction:", "trees root": "logs: 0 leaves:", "sig signature": "signatures: valid:",
		"proofs checkpoint": "proofs: ", "ledger id": "ids: checkpoint 0:", "draw seed": "draws: ",
	}
	for of := range says {
		name, field, _ := strings.Cut(of, " ")
		file := filepath.Join(root, "spec", "vectors", name+".json")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := regexp.MustCompile(`"` + field + `": "[0-9a-f]{64}`).FindIndex(data)
		if at == nil {
			t.Fatalf("%s has no %s", name, field)
		}
		last := at[1] - 1
		data[last] = "1032547698badcfe"[strings.IndexByte("0123456789abcdef", data[last])]
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, status := node(t, root)
	for of, want := range says {
		if !strings.Contains("\n"+out, "\n"+want) {
			t.Errorf("%s with a digit changed: not noticed: %s", of, out)
		}
	}
	if status != 1 || !strings.HasSuffix(out, "do not agree\n") {
		t.Errorf("exit status %d: %s", status, out)
	}
}

// The files of the vectors, as files on disk: true ones, another genesis, another document, and damage.
func TestFiles(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(here, "spec", "vectors", "proofs.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v struct {
		Genesis json.RawMessage
		Proofs  []struct{ Name, Bytes string }
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	genesis := write("genesis.json", v.Genesis)
	other := write("other.json", []byte(strings.Replace(string(v.Genesis), `"test"`, `"other"`, 1)))
	twice := write("twice.json", []byte(strings.Replace(string(v.Genesis), `"time_ms"`, `"network": "test", "time_ms"`, 1)))
	unknown := write("unknown.json", []byte(strings.Replace(string(v.Genesis), `"time_ms"`, `"more": 1, "time_ms"`, 1)))
	document, right := write("document", []byte("an unknown document")), write("right", []byte("a document"))
	type row struct {
		args   []string
		status int
		says   string
	}
	files := 0
	for _, p := range v.Proofs {
		if !strings.HasPrefix(p.Name, "file ") {
			continue
		}
		files++
		proof, err := hex.DecodeString(p.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		file := write("proof.charter", proof)
		proof[len(proof)/2] ^= 4
		damaged := write("damaged.charter", proof)
		rows := map[string]row{"true": {[]string{file, genesis}, 0, `"fate"`}}
		if strings.HasPrefix(p.Name, "file notarised") {
			rows["its document"] = row{[]string{file, genesis, right}, 0, `"fate": "applied"`}
		}
		if files == 1 {
			maps.Copy(rows, map[string]row{
				"a field twice":    {[]string{file, twice}, 1, "twice"},
				"unknown field":    {[]string{file, unknown}, 1, "unknown"},
				"other genesis":    {[]string{file, other}, 1, "wrong chain"},
				"other document":   {[]string{file, genesis, document}, 1, "wrong document"},
				"damaged":          {[]string{damaged, genesis}, 1, "damaged.charter"},
				"no such file":     {[]string{file + "x", genesis}, 1, "proof.charterx"},
				"genesis left out": {[]string{file}, 2, "usage"},
			})
		}
		for what, run := range rows {
			if out, status := node(t, here, run.args...); status != run.status || !strings.Contains(out, run.says) {
				t.Errorf("%s, %s: exit status %d, want %d with %q: %s", p.Name, what, status, run.status, run.says, out)
			}
		}
	}
	if files < 5 {
		t.Errorf("%d files, want all sorts", files)
	}
}
