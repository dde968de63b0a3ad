package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/peer"
	"charter/types"
)

// desk is where a person sits: a directory, a network of one peer, and the program.
type desk struct {
	t     *testing.T
	dir   string
	agent string
}

// newDesk makes a network with the program's own commands: the owner key of ann.wallet goes
// into a genesis, and that to a peer.
func newDesk(t *testing.T) *desk {
	d := &desk{t: t, dir: t.TempDir()}
	t.Chdir(d.dir)
	t.Setenv(passphraseVariable, "")
	t.Setenv(agentVariable, "")
	t.Setenv(walletVariable, "")
	t.Setenv("CHARTER_GENESIS", "")
	t.Setenv("HOME", d.dir)
	owner := d.json("wallet", "create", "--offline", "--no-passphrase", "--wallet", "ann.wallet", "--json")["owner_key"].(string)
	key, err := peer.Init("peer", map[string]string{"api": "127.0.0.1:0", "debug": "", "cache_mb": "4"})
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	d.ok("genesis", "--network", "desk", "--peer", "p="+key.String()+"@"+socket.LocalAddr().String(), "--owner", owner+"=100@p",
		"--params", "local", "--set", "wait_idle_ms=20", "--out", "genesis.json")
	data, err := os.ReadFile("genesis.json")
	if err == nil {
		err = os.WriteFile("peer/genesis.json", data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := peer.Load(map[string]string{"dir": "peer"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := peer.Start(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	d.agent = "http://" + p.APIAddr()
	return d
}

// try runs the program.
func try(args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(args, strings.NewReader(""), &out, &err)
	return status, out.String(), err.String()
}

// ok runs the program, which must succeed, and gives what it printed.
func (d *desk) ok(args ...string) string {
	d.t.Helper()
	status, out, err := try(args...)
	if status != 0 {
		d.t.Fatalf("charter %s: status %d, %s%s", strings.Join(args, " "), status, out, err)
	}
	return out
}

// json is the last JSON object that the program prints.
func (d *desk) json(args ...string) (v map[string]any) {
	d.t.Helper()
	lines := strings.Split(strings.TrimSpace(d.ok(args...)), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil {
		d.t.Fatalf("charter %s: %v in %q", strings.Join(args, " "), err, lines)
	}
	return v
}

// A tour: two wallets, a payment with its proof, a document, restoring.
func TestWalletTour(t *testing.T) {
	d := newDesk(t)
	if b := d.json("wallet", "balance", "-w", "ann.wallet", "--agent", d.agent, "--genesis", "genesis.json", "--json"); b["final"] != "100" {
		t.Fatalf("ann starts with %v", b)
	}
	if err := os.WriteFile("secret", []byte("open sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.ok("wallet", "create", "-w", "bob.wallet", "--passphrase-file", "secret", "--work", "1", "--agent", d.agent, "--genesis", "genesis.json", "--words-file", "words")
	bob := []string{"-w", "bob.wallet", "--passphrase-file", "secret"}
	address := strings.TrimSpace(d.ok(append(bob, "wallet", "address")...))

	out := d.ok("wallet", "pay", address, "12.50000001", "-w", "ann.wallet", "--note", "rent", "--proof", "rent.charter")
	if !strings.Contains(out, "12.50000001 shares") || !strings.Contains(out, "final") || !strings.Contains(out, "proven: height") {
		t.Errorf("pay printed %q", out)
	}
	if out := d.ok("verify", "rent.charter", "--genesis", "genesis.json"); !strings.Contains(out, "12.50000001 shares") || !strings.Contains(out, "100 % of the shares") {
		t.Errorf("verify says %q", out)
	}
	if b := d.json(append(bob, "wallet", "balance", "--json")...); b["final"] != "12.50000001" || b["height"].(float64) == 0 {
		t.Errorf("bob has %v", b)
	}
	if out := d.ok("wallet", "history", "-w", "ann.wallet"); !strings.Contains(out, "rent") || !strings.Contains(out, "out  12.50000001") {
		t.Errorf("the history is %q", out)
	}
	id := d.json("wallet", "history", "-w", "ann.wallet", "--json")["transaction"].(string)
	d.ok("wallet", "history", "-w", "ann.wallet", "--export", id[:8], "--out", "again.charter")
	if a, b := read(t, "rent.charter"), read(t, "again.charter"); a != b {
		t.Error("the exported proof is another than that of the payment")
	}

	if err := os.WriteFile("deed", []byte("a deed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := d.json(append(bob, "notarise", "deed", "--json")...); v["verified"] != true || v["proof"] != "deed.charter" {
		t.Errorf("notarise says %v", v)
	}
	if out := d.ok("verify", "deed.charter", "--genesis", "genesis.json"); !strings.HasPrefix(out, "deed (SHA-256 ") {
		t.Errorf("verify says %q", out)
	}
	d.ok(append(bob, "notarise", "deed")...) // the same again: the same proof
	restored := d.json("wallet", "restore", "-w", "bob2.wallet", "--no-passphrase", "--words-file", "words", "--agent", d.agent, "--genesis", "genesis.json", "--json")
	if has := d.json(append(bob, "wallet", "balance", "--json")...); restored["final"] != has["final"] {
		t.Errorf("restored %v, and the wallet has %v", restored, has)
	}
}

func read(t *testing.T, path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Bad input: each is refused with its status, in one line that says what to do, and nothing is paid.
func TestBadInput(t *testing.T) {
	d := newDesk(t)
	ann := func(args ...string) []string {
		return append([]string{"-w", "ann.wallet", "--agent", d.agent, "--genesis", "genesis.json"}, args...)
	}
	address := strings.TrimSpace(d.ok(ann("wallet", "address")...))
	swapped := strings.Replace(address, address[20:21], map[bool]string{true: "q", false: "p"}[address[20] != 'q'], 1)
	other := strings.Replace(read(t, "genesis.json"), `"desk"`, `"other"`, 1)
	for path, text := range map[string]string{"deed": "a deed", "other": "another deed", "cut.wallet": "charter wallet 1 open 74\nAGE", "other.json": other, "words": "abandon abandon"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d.ok(ann("notarise", "deed")...)
	d.ok("wallet", "create", "--offline", "-w", "sealed.wallet", "--work", "1", "--passphrase-file", "deed")
	held, err := client.Open(client.Config{Path: "sealed.wallet", Passphrase: "a deed"})
	if err != nil {
		t.Fatal(err)
	}
	held.Close()
	before := d.json(ann("wallet", "balance", "--json")...)["final"]
	key := types.Key{31: 9}.String()
	rows := []struct {
		status int
		says   string
		args   []string
	}{
		{exitUsage, "no command", []string{"frob"}},
		{exitUsage, "no command", []string{"wallet", "frob"}},
		{exitUsage, "unknown flag", []string{"wallet", "pay", "--frob"}},
		{exitUsage, "accepts 2 arg", []string{"wallet", "pay", "x"}},
		{exitUsage, "want known, selected, official or final", ann("wallet", "pay", address, "1", "--until", "soon")},
		{exitUsage, "required flag", []string{"genesis"}},
		{exitUsage, "--chain", []string{"wallet", "balance", "--chain", "xyz"}},
		{exitFailed, "9 decimals", ann("wallet", "pay", address, "1.123456789")},
		{exitFailed, "want a decimal number", ann("wallet", "pay", address, "1e3")},
		{exitFailed, "more than 0", ann("wallet", "pay", address, "0")},
		{exitFailed, "the balance is", ann("wallet", "pay", address, "100.1")},
		{exitFailed, "character ", ann("wallet", "pay", swapped, "1")},
		{exitFailed, "118 characters", ann("wallet", "pay", address[:117], "1")},
		{exitFailed, "not an address", ann("wallet", "pay", "ann@p", "1")},
		{exitFailed, "is there already", ann("wallet", "pay", address, "1", "--proof", "deed.charter")},
		{exitFailed, "wrong network", []string{"wallet", "balance", "-w", "ann.wallet", "--genesis", "other.json"}},
		{exitFailed, "wrong network", []string{"wallet", "create", "-w", "new.wallet", "--no-passphrase", "--agent", d.agent, "--genesis", "other.json"}},
		{exitFailed, "cannot reach", []string{"wallet", "create", "-w", "new.wallet", "--no-passphrase", "--agent", "http://127.0.0.1:1", "--genesis", "genesis.json"}},
		{exitFailed, "is damaged", []string{"wallet", "balance", "-w", "cut.wallet"}},
		{exitFailed, "is damaged", []string{"wallet", "balance", "-w", "deed"}},
		{exitFailed, "there is no wallet", []string{"wallet", "balance", "-w", "none"}},
		{exitFailed, "wrong passphrase", []string{"wallet", "balance", "-w", "sealed.wallet", "--passphrase-file", "other"}},
		{exitFailed, "no terminal", []string{"wallet", "balance", "-w", "sealed.wallet"}},
		{exitFailed, "there is a wallet", []string{"wallet", "create", "--offline", "--no-passphrase", "-w", "ann.wallet"}},
		{exitUsage, "--offline", []string{"wallet", "create", "-w", "new.wallet"}},
		{exitFailed, "24 words", []string{"wallet", "restore", "-w", "new.wallet", "--agent", d.agent, "--genesis", "genesis.json", "--words-file", "words"}},
		{exitFailed, "no transaction", ann("wallet", "history", "--export", "00000000000000000000")},
		{exitFailed, "cannot read the document", ann("notarise", "none")},
		{exitFailed, "the proof of another document", ann("notarise", "other", "--out", "deed.charter")},
		{exitFailed, "is no proof", ann("notarise", "other", "--out", "deed")},
		{exitFailed, "not the document", []string{"verify", "deed.charter", "other", "--genesis", "genesis.json"}},
		{exitFailed, "another network", []string{"verify", "deed.charter", "--genesis", "other.json"}},
		{exitFailed, "no proof file", []string{"verify", "deed", "--genesis", "genesis.json"}},
		{exitFailed, "--genesis", []string{"verify", "deed.charter"}},
		{exitFailed, "is there already", []string{"genesis", "--network", "x", "--peer", "p=" + somebody(t) + "@h:1", "--owner", somebody(t) + "=1@p"}},
		{exitFailed, "no peer has shares", []string{"genesis", "--network", "x", "--peer", "p=" + somebody(t) + "@h:1", "--owner", somebody(t) + "=1", "--out", "new.json"}},
		{exitUsage, "is no key", []string{"genesis", "--network", "x", "--peer", "p=" + key + "@h:1", "--owner", key + "=1@p"}},
		{exitUsage, "no --peer is called", []string{"genesis", "--network", "x", "--peer", "p=" + somebody(t) + "@h:1", "--owner", somebody(t) + "=1@q"}},
		{exitUsage, "does not exist yet", []string{"genesis", "--network", "x", "--peer", "p=" + somebody(t) + "@h:1", "--owner", address + "=1@p"}},
		{exitUsage, "no parameter is called", []string{"genesis", "--network", "x", "--peer", "p=" + somebody(t) + "@h:1", "--owner", somebody(t) + "=1@p", "--set", "lag=3"}},
		{exitUsage, "is no value for", []string{"genesis", "--network", "x", "--peer", "p=" + somebody(t) + "@h:1", "--owner", somebody(t) + "=1@p", "--set", "run_tail=-1"}},
	}
	for _, row := range rows {
		status, out, stderr := try(row.args...)
		line := strings.TrimSuffix(stderr, "\n")
		if status != row.status || !strings.Contains(line, row.says) || !strings.HasPrefix(line, "charter: ") || strings.Contains(line, "\n") || out != "" {
			t.Errorf("charter %s: status %d, printed %q, said %q; want status %d and one line that says %q", strings.Join(row.args, " "), status, out, line, row.status, row.says)
		}
	}
	if after := d.json(ann("wallet", "balance", "--json")...)["final"]; after != before {
		t.Errorf("the balance was %v, and is %v", before, after)
	}
	for _, name := range []string{"new.wallet", "new.json"} {
		if _, err := os.Stat(filepath.Join(d.dir, name)); err == nil {
			t.Errorf("%s was left by a command that failed", name)
		}
	}
	if status, out, _ := try("verify", "deed.charter", "other", "--genesis", "genesis.json", "--json"); status != exitFailed || !strings.Contains(out, `"verified":false`) {
		t.Errorf("verify --json: status %d, %q", status, out)
	}
}

// somebody is a key that is one.
func somebody(t *testing.T) string {
	k, err := parseKey("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798") // the generator of secp256k1
	if err != nil {
		t.Fatal(err)
	}
	return k.String()
}

// Evidence of a lie is read by `charter verify`, and an unreachable agent gives way to another.
func TestEvidence(t *testing.T) {
	d := newDesk(t)
	lie := &client.Lie{Agent: client.Witness{URL: "http://liar:1"}, Height: 7, Kind: client.NotProven, Call: "Proof", Text: "what it says does not hold"}
	path := "evidence-7-00000000" + client.EvidenceSuffix
	if err := os.WriteFile(path, (&client.Evidence{Lie: lie}).Encode(), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := d.ok("verify", path); !strings.Contains(out, "http://liar:1") || !strings.Contains(out, "not signed") {
		t.Errorf("verify says %q", out)
	}
	if status, _, said := try("verify", "genesis.json"+client.EvidenceSuffix); status != exitFailed || !strings.Contains(said, "cannot read the evidence") {
		t.Errorf("status %d, %q", status, said)
	}
	status, out, said := try("wallet", "balance", "-w", "ann.wallet", "--genesis", "genesis.json", "--agent", "http://127.0.0.1:1", "--peers", d.agent)
	if status != 0 || !strings.Contains(out, "as of height") || !strings.Contains(said, "going on with "+d.agent) {
		t.Errorf("status %d, %q, %q", status, out, said)
	}
}

// Every command explains itself, with an example.
func TestHelp(t *testing.T) {
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
			return
		}
		if c.Short == "" || c.Long == "" || c.Example == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short %q, long %q, example %q", c.CommandPath(), c.Short, c.Long, c.Example)
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(newRoot())
	if status, out, _ := try("__complete", "wallet", "pay", "--until", ""); status != 0 || !strings.Contains(out, "official") {
		t.Errorf("completion: status %d, %q", status, out)
	}
}
