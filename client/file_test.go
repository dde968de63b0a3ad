package client

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"charter/seal"
	"charter/types"
	"charter/wallet"
)

const quick = seal.MinWork

// Every kind of refusal that needs no network has a row here; those of an agent are rows of
// agentKinds, and both together are all.
func TestKinds(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	make := func(name, passphrase string) string {
		c, err := Create(t.Context(), Config{Path: path(name), Passphrase: passphrase, Unsealed: passphrase == "", Work: quick}, entropy(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	open := func(path, passphrase string) error {
		c, err := Open(Config{Path: path, Passphrase: passphrase})
		if err == nil {
			c.Close()
		}
		return err
	}
	sealed, plain := make("sealed", "right"), make("plain", "")
	held, err := Open(Config{Path: make("held", "")})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	genesis := path("genesis")
	if err := os.WriteFile(genesis, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		kind Kind
		err  error
		says string
	}{
		{"a wallet in the place of another", Exists, func() error {
			_, err := Create(t.Context(), Config{Path: plain, Unsealed: true}, entropy("x"))
			return err
		}(), "another file"},
		{"no such wallet", Missing, open(path("none"), ""), "charter wallet create"},
		{"open elsewhere", InUse, open(path("held"), ""), "another process"},
		{"another passphrase", WrongPassphrase, open(sealed, "wrong"), "try again"},
		{"no passphrase", NoPassphrase, open(sealed, ""), "passphrase"},
		{"a new file with an empty passphrase", NoPassphrase, func() error {
			_, err := Create(t.Context(), Config{Path: path("new")}, entropy("x"))
			return err
		}(), "empty"},
		{"no such directory", Disk, func() error {
			_, err := Create(t.Context(), Config{Path: filepath.Join(dir, "no", "where"), Unsealed: true}, entropy("x"))
			return err
		}(), "directory"},
		{"a directory in place of a file", Disk, open(dir, ""), "cannot read"},
		{"paying from a wallet that is not written", InUse, func() error {
			c, err := Open(Config{Path: plain, ReadOnly: true})
			if err == nil {
				_, _, err = c.Address(t.Context())
			}
			return err
		}(), "reading only"},
		{"a note that is a letter", BadNote, func() error {
			_, err := held.Pay(t.Context(), Payment{Note: strings.Repeat("x", MaxNote+1)}, nil)
			return err
		}(), "256"},
		{"never told of an agent", NoAgent, held.Sync(t.Context()), "--agent"},
		{"an agent's address that is none", NoAgent, with(t, path("held2"), "127.0.0.1:7070").Sync(t.Context()), "http://"},
		{"never told of a network", NoNetwork, with(t, path("held3"), "http://127.0.0.1:1").Sync(t.Context()), "--genesis"},
		{"nobody there", Unreachable, unreachable(t, path("held4")), "start it"},
		{"no such transaction", NotThere, func() error { _, err := held.Find("00"); return err }(), "history"},
		{"no proof of it", NotThere, func() error { _, err := held.Proof(types.Hash{}); return err }(), "final"},
		{"not a proof", NotProof, func() error { _, err := VerifyProof([]byte("no"), Trust{}, nil); return err }(), "proof file"},
		{"not evidence", NotEvidence, func() error { _, err := DecodeEvidence([]byte("no")); return err }(), "no evidence"},
		{"no trust", NoTrust, func() error { _, err := ReadTrust("", ""); return err }(), "--genesis"},
		{"a genesis that is none", NoTrust, func() error { _, err := ReadTrust(genesis, ""); return err }(), genesis},
		{"a checkpoint that is none", NoTrust, func() error { _, err := ReadTrust("", "7f"); return err }(), "64"},
	}
	seen := map[Kind]bool{ // by tests with an agent
		WrongNetwork: true, // TestWrongNetwork
		Refused:      true, // TestInterrupted
		NotProven:    true, // TestAgentLies
		Failed:       true, // TestOvertaken
		Interrupted:  true, // TestInterrupted
		Behind:       true, // TestAgentBehind
		Damaged:      true, // TestDamagedFile
		Withheld:     true, // TestLiars, with those that follow
		Silent:       true,
		WentBack:     true,
		Forked:       true,
		Stale:        true,
		WrongPeers:   true,
		Conflicted:   true, // TestTwoPasts
	}
	for _, row := range rows {
		seen[row.kind] = true
		if !IsKind(row.err, row.kind) || !strings.Contains(row.err.Error(), row.says) {
			t.Errorf("%s: error %v, want kind %d that says %q", row.name, row.err, row.kind, row.says)
		}
	}
	for k := Exists; k < kindEnd; k++ {
		if !seen[k] {
			t.Errorf("kind %d has no row", k)
		}
	}
	if _, err := os.Stat(path("new")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a refused wallet left a file: %v", err)
	}
}

// with is a wallet without network that was given an agent.
func with(t *testing.T, path, agent string) *Client {
	c, err := Create(t.Context(), Config{Path: path, Unsealed: true}, entropy(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.config.Agent = agent
	return c
}

func unreachable(t *testing.T, path string) error {
	c := with(t, path, "http://127.0.0.1:1")
	c.config.Chain = types.Hash{1}
	return c.Sync(t.Context())
}

// A wallet file with any byte changed, or cut anywhere, is refused and says so; the words of
// the error tell it from a wrong passphrase, except in the salt and wrapped key of scrypt.
func TestDamagedFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "wallet")
	c, err := Create(t.Context(), Config{Path: path, Passphrase: "right", Work: quick}, entropy("damaged"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(file []byte) error {
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Open(Config{Path: path, Passphrase: "right"})
		if err == nil {
			c.Close()
		}
		return err
	}
	if err := try(good); err != nil {
		t.Fatal(err)
	}
	passphrase := 0
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		err := try(bad)
		if IsKind(err, WrongPassphrase) {
			passphrase++
		} else if !IsKind(err, Damaged) {
			t.Errorf("byte %d of %d changed: error %v", i, len(good), err)
		}
	}
	if passphrase == 0 || passphrase > 100 {
		t.Errorf("%d changed bytes look like a wrong passphrase", passphrase)
	}
	for n := 0; n < len(good); n += 7 {
		if err := try(good[:n]); !IsKind(err, Damaged) && !IsKind(err, WrongPassphrase) {
			t.Errorf("cut to %d of %d bytes: error %v", n, len(good), err)
		}
	}
}

// FuzzSplitVault: no file makes it fail other than by an error, and what it splits adds up.
func FuzzSplitVault(f *testing.F) {
	f.Add([]byte("charter wallet 1 open 4\nheadbody"))
	f.Add([]byte("charter wallet 1 sealed 99999999999999999999\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		word, head, body, err := splitVault(file)
		if err != nil {
			return
		}
		line, _, _ := bytes.Cut(file, []byte("\n"))
		if word != "open" && word != "sealed" || len(line)+1+len(head)+len(body) != len(file) {
			t.Errorf("%q split into %q, %d and %d bytes", file, word, len(head), len(body))
		}
	})
}

// FuzzBody: no body of a file makes loading it fail other than by Damaged, and what it takes
// it writes again.
func FuzzBody(f *testing.F) {
	c, err := Create(f.Context(), Config{Path: filepath.Join(f.TempDir(), "w"), Unsealed: true}, entropy("fuzz"))
	if err != nil {
		f.Fatal(err)
	}
	defer c.Close()
	c.notes[types.Hash{1}] = "a note"
	c.synced = wallet.AsOf{Height: 7, Time: 70}
	f.Add(c.body())
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &Client{file: &vault{path: "w"}}
		if err := c.load(body); err != nil {
			if !IsKind(err, Damaged) {
				t.Errorf("error %v", err)
			}
			return
		}
		if got := c.body(); !bytes.Equal(got, body) {
			t.Errorf("%d bytes became %d", len(body), len(got))
		}
	})
}

// A write that is killed at any point leaves the old file or the new one.
func TestWriteFileIsWhole(t *testing.T) {
	if os.Getenv("CHARTER_TEST_WRITE") != "" {
		for i := byte(0); ; i++ {
			if err := WriteFile(os.Getenv("CHARTER_TEST_WRITE"), bytes.Repeat([]byte{i}, 1<<16), 0o600); err != nil {
				fmt.Println(err)
			}
			fmt.Println(i)
		}
	}
	path := filepath.Join(t.TempDir(), "file")
	for range 5 {
		child := exec.Command(os.Args[0], "-test.run=TestWriteFileIsWhole")
		child.Env = append(os.Environ(), "CHARTER_TEST_WRITE="+path)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		buffer := [64]byte{}
		if _, err := out.Read(buffer[:]); err != nil { // it has written at least once
			t.Fatal(err)
		}
		child.Process.Kill()
		child.Wait()
		data, err := os.ReadFile(path)
		if err != nil || len(data) != 1<<16 || !bytes.Equal(data, bytes.Repeat(data[:1], 1<<16)) {
			t.Fatalf("after a kill: %d bytes, %v", len(data), err)
		}
	}
}
