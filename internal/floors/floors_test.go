// Package floors checks that the house stands as it was drawn: which package may import which, and
// that those which are pure are (adr/, "floors"; the package comment of each).
//
//	floor 5  surfaces   ─┐ each imports what is below it,
//	floor 4  effects     │ and on its own floor what is
//	floor 3  machines    │ listed before it
//	floor 2  rules       │
//	floor 1  math        │ 0 to 3: no file, socket, clock,
//	floor 0  alphabet   ─┘ goroutine, lock, logger, randomness
//
// Tests may import what they like; only what is built into the program is looked at.
package floors

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "charter"

// room is one package and those in its internal folder, or all below it if its name ends in "/...".
type room struct {
	floor int
	name  string
}

// house has the rooms in the order in which they may import: upwards only. A room that is not
// built yet has its place here all the same.
var house = []room{
	{0, "types"},
	{1, "sig"},
	{1, "tlog"},
	{1, "forest"},
	{1, "trie"},
	{1, "seal"},
	{2, "proof"},
	{2, "names"},
	{2, "company"},
	{2, "ledger"},
	{3, "consensus"},
	{3, "pool"},
	{3, "punch"},
	{3, "room"},
	{3, "mix"},
	{3, "swap"},
	{3, "channel"},
	{3, "wallet"},
	{3, "books"},
	// The schema's generated code is nouns only, and imports nothing of ours: it stands
	// where both the agent, which serves it, and the surfaces, which call it, reach it.
	{4, "api/charter/v1"},
	{4, "api/charter/v1/charterv1connect"},
	{4, "store"},
	{4, "transport"},
	{4, "chain"},
	{4, "gossip"},
	{4, "agent"},
	{5, "peer"},
	{5, "client"},
	{5, "api"},
	{5, "web"},
	{5, "internal/chaos"}, // the bad weather of bench fire
	{5, "sim"},
	{5, "cmd/charter"},
	{6, "internal/..."}, // of tests: nothing of the program imports them
}

const pureFloors = 3 // and all below

// impure packages give a package something of its own that is neither its arguments nor
// its results. With each comes all below it.
var impure = []string{"os", "net", "time", "sync", "log", "math/rand", "crypto/rand", "syscall"}

// allowed are exceptions to that, with the reason.
var allowed = map[[2]string]string{
	{"*", "net/netip"}: "addresses as values; it opens nothing",
	{"types", "time"}:  "Millis to time.Time and its formatting; it reads no clock",
}

// sole are libraries that one room keeps to itself.
var sole = map[string]string{
	"github.com/cockroachdb/pebble": "store",
	"github.com/quic-go/quic-go":    "transport",
}

// fault is what is wrong with the house.
type fault string

const (
	unknownRoom  fault = "unknown package"   // a directory with Go code that house does not have
	upward       fault = "imports upward"    // a higher floor, or a sibling listed behind
	notPure      fault = "not pure"          // floors 0 to 3 import what is impure
	hasGoroutine fault = "starts goroutines" // floors 0 to 3 have a go statement
	notItsOwn    fault = "not its own"       // a library that another room keeps
)

type finding struct {
	fault fault
	file  string
	what  string
}

// find is the room that a package belongs to, by its path in the module, or -1.
func find(pkg string) int {
	owner, _, _ := strings.Cut(pkg+"/", "/internal/")
	owner = strings.TrimSuffix(owner, "/")
	return slices.IndexFunc(house, func(r room) bool {
		parent, all := strings.CutSuffix(r.name, "/...")
		return owner == r.name || all && strings.HasPrefix(pkg+"/", parent+"/")
	})
}

func below(name, parent string) bool { return name == parent || strings.HasPrefix(name, parent+"/") }

// inspect looks at all Go files of the module at root, but for tests, and what other modules,
// test data and hidden folders hold.
func inspect(root fs.FS) (found []finding, files int, err error) {
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, other := fs.Stat(root, path.Join(name, "go.mod"))
			if name != "." && (strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_") || d.Name() == "testdata" || other == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		source, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		more, err := inspectFile(name, source)
		found = append(found, more...)
		return err
	})
	return found, files, err
}

func inspectFile(name string, source []byte) (found []finding, err error) {
	note := func(f fault, format string, args ...any) {
		found = append(found, finding{f, name, fmt.Sprintf(format, args...)})
	}
	at := find(path.Dir(name))
	if at < 0 {
		note(unknownRoom, "%s has no floor; enter it in the house, where it belongs", path.Dir(name))
		return found, nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	self := house[at]
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		if ours, is := strings.CutPrefix(imported, module+"/"); is {
			switch to := find(ours); {
			case to < 0:
				note(unknownRoom, "imports %s, which has no floor", imported)
			case to > at:
				note(upward, "%s (floor %d) imports %s (floor %d)", self.name, self.floor, ours, house[to].floor)
			}
		}
		if self.floor <= pureFloors && slices.ContainsFunc(impure, func(p string) bool { return below(imported, p) }) &&
			allowed[[2]string{self.name, imported}] == "" && allowed[[2]string{"*", imported}] == "" {
			note(notPure, "%s (floor %d) imports %s", self.name, self.floor, imported)
		}
		for library, owner := range sole {
			if below(imported, library) && self.name != owner {
				note(notItsOwn, "%s imports %s, which only %s may", self.name, imported, owner)
			}
		}
	}
	if self.floor <= pureFloors {
		ast.Inspect(file, func(n ast.Node) bool {
			if _, is := n.(*ast.GoStmt); is {
				note(hasGoroutine, "%s (floor %d) has a go statement", self.name, self.floor)
			}
			return true
		})
	}
	return found, nil
}

// The house as it is.
func TestFloors(t *testing.T) {
	root := filepath.Join("..", "..")
	if b, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || !strings.HasPrefix(string(b), "module "+module+"\n") {
		t.Fatalf("%s is not the root of module %s: %v", root, module, err)
	}
	found, files, err := inspect(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files looked at", files)
	}
	for _, f := range found {
		t.Errorf("%s: %s: %s", f.file, f.fault, f.what)
	}
}
