// Compare does to other authenticated trees what `charter bench trees --trees keys` does to Charter's: it fills one with
// keys of 32 bytes and values of 32 bytes, and then changes it in batches of 10,000 new values and 10,000 new keys, each of
// which is on the disk, by one sync, before the next begins. All run one after the other, each in a process of its own, on one
// core, and processor time of the whole process is counted.
//
//	charter        the keys tree in a peer's store, run from the checkout that this directory is in
//	iavl           github.com/cosmos/iavl on Pebble, all nodes cached, no index of values, no version removed
//	go-ethereum    its trie, path scheme, on Pebble; it has no durable write of its own for a batch, so
//	               it is given a file to which the changes are appended and synced
//
// From this directory: go run . --keys 1000000 --batches 20
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"crypto/sha256"
)

// row is what is measured; the fields are those of `charter bench trees --json`.
type row struct {
	Tree    string
	CPU     float64 `json:"us_per_op"`
	Written float64 `json:"bytes_written_per_op"`
	Memory  float64 `json:"memory_mb"`
}

// tree is what is compared. commit makes the changes durable.
type tree interface {
	set(key, value [32]byte) error
	commit() error
}

var trees = []struct {
	name string
	open func(dir string) (tree, error)
}{
	{"iavl", openIAVL},
	{"go-ethereum", openEthereum},
}

func main() {
	keys := flag.Int("keys", 1_000_000, "keys before the first batch")
	batches := flag.Int("batches", 20, "batches to measure")
	only := flag.String("only", "", "measure this one, in this process, and print JSON")
	flag.Parse()
	var err error
	if *only != "" {
		err = one(*only, *keys, *batches)
	} else {
		err = all(*keys, *batches)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// all runs each in its process and prints the table.
func all(keys, batches int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	size := []string{"--keys", strconv.Itoa(keys), "--batches", strconv.Itoa(batches)}
	charter := exec.Command("go", append([]string{"run", "./cmd/charter", "bench", "trees", "--trees", "keys", "--json"}, size...)...)
	charter.Dir = "../.."
	commands := []*exec.Cmd{charter}
	names := []string{"charter"}
	for _, t := range trees {
		commands = append(commands, exec.Command(self, append(size, "--only", t.name)...))
		names = append(names, t.name)
	}
	fmt.Printf("%-12s %10s %10s %12s %10s\n", "tree", "µs/op", "× charter", "written/op", "memory MB")
	base := 0.0
	for i, c := range commands {
		var errors bytes.Buffer
		c.Stderr = &errors
		out, err := c.Output()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", names[i], err, errors.String())
		}
		var r row
		if err := json.Unmarshal(out, &r); err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		if i == 0 {
			base = r.CPU
		}
		fmt.Printf("%-12s %10.2f %10.1f %12.0f %10.0f\n", names[i], r.CPU, r.CPU/base, r.Written, r.Memory)
	}
	return nil
}

// one measures a tree.
func one(name string, keys, batches int) error {
	runtime.GOMAXPROCS(1)
	dir, err := os.MkdirTemp("", "compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var t tree
	for _, c := range trees {
		if c.name == name {
			if t, err = c.open(dir); err != nil {
				return err
			}
		}
	}
	if t == nil {
		return fmt.Errorf("there is no tree %q", name)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	size := uint64(0)
	write := func(updates, inserts int) error {
		seen := make(map[uint64]bool)
		for len(seen) < updates {
			n := rng.Uint64N(size)
			if seen[n] {
				continue
			}
			seen[n] = true
			if err := t.set(hash(n), hash(rng.Uint64())); err != nil {
				return err
			}
		}
		for range inserts {
			if err := t.set(hash(size), hash(rng.Uint64())); err != nil {
				return err
			}
			size++
		}
		return t.commit()
	}
	for int(size) < keys {
		if err := write(0, min(50_000, keys-int(size))); err != nil {
			return err
		}
	}
	cpu, written := used(), writtenBytes()
	for range batches {
		if err := write(10_000, 10_000); err != nil {
			return err
		}
	}
	ops := float64(batches * 20_000)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"tree": name, "us_per_op": (used() - cpu) * 1e6 / ops, "bytes_written_per_op": float64(writtenBytes()-written) / ops, "memory_mb": resident(),
	})
}

func hash(n uint64) [32]byte { return sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)) }

// used is the processor seconds of this process.
func used() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func resident() float64 { return proc("/proc/self/status", "VmRSS:") / 1024 }

func writtenBytes() float64 { return proc("/proc/self/io", "wchar:") }

// proc is a number of a file of /proc, zero where there is none.
func proc(file, name string) float64 {
	data, _ := os.ReadFile(file)
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			n, _ := strconv.ParseFloat(fields[1], 64)
			return n
		}
	}
	return 0
}
