// Mutants plants mistakes in the program, one at a time, and sees which test finds each: the
// measure of the tests (spec/mutants.md).
//
//	go run ./internal/mutants                       all, a line for each
//	go run ./internal/mutants -only 'fork|fee'      those whose name or file matches
//	go run ./internal/mutants -sample 8 -seed 17    eight, others for each seed
//	go run ./internal/mutants -report spec/mutants.md
//
// A mutant is a patch of text in one file (list.go): it is built with the go command's
// -overlay, so the tree is not touched. It is killed when one of its suites fails, cheapest
// first; each suite has passed without it before. One core, and less than a minute of it
// for each suite. The mutant of a guard that an incident of others is about must be killed
// by that incident's scenario, whatever else may find it.
//
// The exit status is 1 if a patch no longer fits, does not build, or outlives its tests
// without being said to, and if less than 95 % are killed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// mutant is a mistake: in file, what was old reads new.
type mutant struct {
	name     string // the mistake, in words; no other has them
	file     string
	old, new string   // old is there once
	by       []string // names of suites that may find it, cheapest first; none: those of its package
	incident string   // the test of package sim that must find it, a scenario
	same     string   // why it is no mistake after all: nothing can tell it from the program
}

// place is where the mutant is, for people.
func (m *mutant) place() string {
	dir, base := filepath.Split(m.file)
	return dir + strings.TrimSuffix(base, ".go")
}

// apply is the file's text with the mistake in it.
func (m *mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, m.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(text, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%q: the text to be changed is %d times in %s", m.name, n, m.file)
	}
	return bytes.Replace(text, []byte(m.old), []byte(m.new), 1), nil
}

// suite is some tests of a package.
type suite struct {
	pkg string
	run string // regular expression of the tests
	env string // NAME=value
}

// suites of a mutant: those that it names, or those of its package.
func (m *mutant) suites() []suite {
	if m.incident != "" {
		return []suite{{"./sim", "^" + m.incident + "$", ""}}
	}
	names := m.by
	if len(names) == 0 {
		names = ofPackage[filepath.Dir(m.file)]
	}
	var all []suite
	for _, n := range names {
		all = append(all, suites[n]...)
	}
	return all
}

// timeout of one suite, by the clock. One that had little of the processor until then is not told to
// have no end: the machine does other things.
const (
	timeout   = "150s"
	leastWork = 30 * time.Second
)

// command runs a suite on one core, with an overlay if one is given.
func (s suite) command(root, overlay string) *exec.Cmd {
	args := []string{"test", "-vet=off", "-p=1", "-failfast", "-timeout=" + timeout, "-run=" + s.run}
	if overlay != "" {
		args = append(args, "-count=1", "-overlay="+overlay)
	}
	cmd := exec.Command("go", append(args, s.pkg)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", s.env)
	return cmd
}

// result is what became of a mutant.
type result struct {
	*mutant
	killer string        // the tests that failed, "" for none
	spent  time.Duration // of processors, builds included
}

// runner runs mutants one after the other.
type runner struct {
	root, dir string
	passed    map[suite]bool // without a mutant
}

// try builds the mutant and runs its suites until one fails.
func (r *runner) try(m *mutant) (*result, error) {
	text, err := m.apply(r.root)
	if err != nil {
		return nil, err
	}
	mutated, overlay := filepath.Join(r.dir, "mutant.go"), filepath.Join(r.dir, "overlay.json")
	config, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(r.root, m.file): mutated}})
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{mutated: text, overlay: config} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, err
		}
	}
	res := &result{mutant: m}
	for _, s := range m.suites() {
		if !r.passed[s] {
			if out, err := s.command(r.root, "").CombinedOutput(); err != nil || bytes.Contains(out, []byte("no tests to run")) {
				return nil, fmt.Errorf("%s -run %s does not pass without a mutant: %v\n%s", s.pkg, s.run, err, out)
			}
			r.passed[s] = true
		}
		cmd := s.command(r.root, overlay)
		out, err := cmd.CombinedOutput()
		res.spent += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
			return nil, fmt.Errorf("%q does not build:\n%s", m.name, out)
		}
		if err != nil {
			if bytes.Contains(out, []byte("panic: test timed out")) && res.spent < leastWork {
				return nil, fmt.Errorf("%q: the machine is too busy", m.name)
			}
			res.killer = failed(out)
			return res, nil
		}
	}
	return res, nil
}

var (
	failLine    = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)
	runningLine = regexp.MustCompile(`(?m)^\s+(Test\S+|Fuzz\S+) \(`)
)

// failed is the tests that failed, the innermost, in the output of go test.
func failed(out []byte) string {
	var names []string
	for _, f := range failLine.FindAllSubmatch(out, -1) {
		names = append(names, string(f[1]))
	}
	if len(names) == 0 && bytes.Contains(out, []byte("panic: test timed out")) {
		if f := runningLine.FindSubmatch(out); f != nil {
			return string(f[1]) + " (no end)"
		}
	}
	inner := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return slices.ContainsFunc(names, func(o string) bool { return strings.HasPrefix(o, n+"/") })
	})
	switch len(inner) {
	case 0:
		return "the process ends"
	case 1:
		return inner[0]
	}
	return fmt.Sprintf("%s and %d more", inner[0], len(inner)-1)
}

func main() {
	only := flag.String("only", "", "only those whose name or file this regular expression matches")
	sample := flag.Int("sample", 0, "only so many of them; 0 for all")
	seed := flag.Uint64("seed", 0, "which ones; as seeds go up, all get their turn")
	report := flag.String("report", "", "file to write the report to")
	flag.Parse()
	if err := run(*only, *sample, *seed, *report); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(only string, sample int, seed uint64, report string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(root, "internal", "mutants")); err != nil {
		return fmt.Errorf("run it in the root of the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r := &runner{root: root, dir: dir, passed: make(map[suite]bool)}
	var results []*result
	var spent time.Duration
	var wrong error
	for _, m := range pick(match, sample, seed) {
		res, err := r.try(m)
		if err != nil {
			fmt.Println(err)
			wrong = errors.Join(wrong, fmt.Errorf("%q could not be tried", m.name))
			continue
		}
		fmt.Println(res)
		results, spent = append(results, res), spent+res.spent
	}
	killed, tried := count(results)
	fmt.Printf("%d of %d killed, %.0f s of one core\n", killed, tried, spent.Seconds())
	if report != "" {
		before, err := os.ReadFile(report)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.WriteFile(report, []byte(table(results, string(before))), 0o644); err != nil {
			return err
		}
	}
	return errors.Join(wrong, judge(results))
}

// pick is the mutants to run. A sample is the next few in an order that is always the same.
func pick(match *regexp.Regexp, sample int, seed uint64) (picked []*mutant) {
	for i := range mutants {
		if m := &mutants[i]; match.MatchString(m.name) || match.MatchString(m.file) {
			picked = append(picked, m)
		}
	}
	if sample == 0 || sample >= len(picked) {
		return picked
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	var some []*mutant
	for i := range sample {
		some = append(some, picked[(int(seed%uint64(len(picked)))*sample+i)%len(picked)])
	}
	return some
}

// count leaves out what is no mistake.
func count(results []*result) (killed, tried int) {
	for _, r := range results {
		if r.same == "" {
			tried++
		}
		if r.killer != "" {
			killed++
		}
	}
	return killed, tried
}

// judge is the error that the results come to, if they do.
func judge(results []*result) error {
	for _, r := range results {
		if r.same != "" && r.killer != "" {
			return fmt.Errorf("%q is said to be no mistake, and %s found it", r.name, r.killer)
		}
		if r.incident != "" && r.killer == "" {
			return fmt.Errorf("%q: the scenario %q does not need the guard that it is about", r.name, r.incident)
		}
	}
	if killed, tried := count(results); 100*killed < 95*tried {
		return fmt.Errorf("only %d of %d mutants are killed", killed, tried)
	}
	return nil
}

func (r *result) String() string {
	end := "SURVIVED"
	switch {
	case r.killer != "":
		end = r.killer
	case r.same != "":
		end = "no mistake: " + r.same
	}
	return fmt.Sprintf("%5.1f s  %-22s %-60s %s", r.spent.Seconds(), r.place(), r.name, end)
}

// row begins a mutant's line of the report.
func (m *mutant) row() string { return fmt.Sprintf("| %s | %s | ", m.name, m.place()) }

// row is the line of one that was run.
func (r *result) row() string {
	by := "**nothing**"
	switch {
	case r.killer != "":
		by = "`" + r.killer + "`"
	case r.same != "":
		by = "is none: " + r.same
	}
	return fmt.Sprintf("%s%s | %.1f |", r.mutant.row(), by, r.spent.Seconds())
}

// table is the report: what was run now, and of what was not the line that it had before.
func table(results []*result, before string) string {
	rows := strings.Split(before, "\n")
	for _, r := range results {
		rows = append([]string{r.row()}, rows...)
	}
	var lines []string
	var killed, none int
	for i := range mutants {
		at := slices.IndexFunc(rows, func(line string) bool { return strings.HasPrefix(line, mutants[i].row()) })
		if at < 0 {
			continue
		}
		line := rows[at]
		lines = append(lines, line)
		if strings.Contains(line, "| `") {
			killed++
		}
		if strings.Contains(line, "| is none: ") {
			none++
		}
	}
	return fmt.Sprintf(reportHead, len(lines), none, killed, len(lines)-none) + strings.Join(lines, "\n") + "\n"
}

const reportHead = `# Mutants

Mistakes planted in the program, one at a time (internal/mutants/list.go), each in a build of its own, and
the test that finds each. Its suites run cheapest first until one fails, each for less than a minute of one
core; the seconds are of one core, with the building. Of %d mistakes %d turned out to be none. %d of the other %d
are found.

    go run ./internal/mutants -report spec/mutants.md

runs all; with -only some, and leaves the lines of the others. CI checks that every patch still fits and
is in this table, and runs some of them, others for each commit.

| mistake | place | found by | s |
| --- | --- | --- | --- |
`
