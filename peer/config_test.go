package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Flag wins over environment, environment over file, file over default.
func TestLoadOrder(t *testing.T) {
	dir := t.TempDir()
	file := "api = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\nlog_level = \"warn\"\ncache_mb = 5\npool_patience = \"700ms\"\n"
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	environ := []string{"CHARTER_PEER_LISTEN=127.0.0.1:3", "CHARTER_PEER_LOG_LEVEL=error", "PATH=/", "CHARTER_PEER_DIR=" + dir, "CHARTER_PEER_POOL_MB=7"}
	c, err := Load(map[string]string{"log_level": "debug"}, environ)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Dir: dir, Genesis: "genesis.json", Key: "peer.key", Listen: "127.0.0.1:3", API: "127.0.0.1:1", Debug: "127.0.0.1:7071",
		LogLevel: "debug", LogFormat: "text", APIRequests: 500, CacheMB: 5, PoolMB: 7, PoolTransactions: 131072, PoolPatience: 700 * time.Millisecond,
	}
	if !same(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func same(a, b Config) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

// Each setting has a value that is refused, and the error says field, value and what is allowed.
func TestLoadRefuses(t *testing.T) {
	rows := []struct {
		key, file, environ, flag string // of which one is set
		want                     string
	}{
		{key: "loglevel", file: `loglevel = "info"`, want: "did you mean log_level?"},
		{key: "pool.bytes", file: "[pool]\nbytes = 3", want: "there is no such key"},
		{key: "colour", file: `colour = "red"`, want: "the keys are dir, genesis, key, listen, api"},
		{key: "lissen", environ: "CHARTER_PEER_LISSEN=x", want: "did you mean listen?"},
		{key: "dir", file: `dir = "/"`, want: "not for the file"},
		{key: "genesis", flag: "", want: "a path"},
		{key: "key", file: `key = ""`, want: "a path"},
		{key: "listen", flag: "7400", want: "host:port"},
		{key: "api", file: "api = true", want: "host:port"},
		{key: "api", flag: "localhost:http:3", want: "host:port"},
		{key: "debug", environ: "CHARTER_PEER_DEBUG=127.0.0.1:99999", want: "host:port"},
		{key: "log_level", flag: "loud", want: "one of debug, info, warn, error"},
		{key: "log_format", flag: "xml", want: "one of text, json"},
		{key: "api_requests", flag: "0", want: "a number from 1 to 1000000"},
		{key: "cache_mb", file: "cache_mb = 0", want: "a number from 1 to 65536"},
		{key: "pool_mb", flag: "64MB", want: "a whole number"},
		{key: "pool_transactions", flag: "99999999", want: "a number from 1 to 10000000"},
		{key: "pool_patience", flag: "3", want: "a time with its unit"},
		{key: "pool_patience", flag: "1ms", want: "a time from 100ms to 1h"},
		{key: "dir", flag: "", want: "a path"},
		{key: "join", flag: "http://a:1,,b:2", want: "URLs of agents"},
		{key: "join", flag: "ftp://a:1", want: "URLs of agents"},
		{key: "delay", flag: "2s", want: "a time from 0s to 1s"},
		{key: "keep", flag: "100", want: "a number from 1024"},
		{key: "join_trust", flag: "12", want: "HEIGHT:ID"},
	}
	had := make(map[string]bool)
	for _, row := range rows {
		had[row.key] = true
		dir := t.TempDir()
		flags := map[string]string{"dir": dir}
		switch {
		case row.file != "":
			if err := os.WriteFile(filepath.Join(dir, FileName), []byte(row.file), 0o644); err != nil {
				t.Fatal(err)
			}
		case row.environ == "":
			flags[row.key] = row.flag
		}
		_, err := Load(flags, []string{row.environ})
		var ce *ConfigError
		if !errors.As(err, &ce) || ce.Key != row.key || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%+v: %v", row, err)
		}
	}
	for _, o := range Options() {
		if !had[o.Key] {
			t.Errorf("%s has no row", o.Key)
		}
		if o.Help == "" {
			t.Errorf("%s has no help", o.Key)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte("api = \"x\"\nlisten = = 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(map[string]string{"dir": dir}, nil); err == nil || !strings.Contains(err.Error(), FileName+", line 2, column ") {
		t.Errorf("a file that is no TOML: %v", err)
	}
}

// Init's file gives what was set, and the defaults for all else; a key is never overwritten.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ann")
	key, err := Init(dir, map[string]string{"listen": "127.0.0.1:7400", "cache_mb": "64", "pool_patience": "2s"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Load(map[string]string{"dir": dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := Load(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	plain.Dir, plain.Listen, plain.CacheMB, plain.PoolPatience = dir, "127.0.0.1:7400", 64, 2*time.Second
	if !same(c, plain) {
		t.Errorf("got  %+v\nwant %+v", c, plain)
	}
	read, exposed, err := ReadKey(c.path(c.Key))
	if err != nil || exposed || read.Public() != key {
		t.Errorf("key %v, exposed %v, %v", read.Public(), exposed, err)
	}
	if _, err := Init(dir, map[string]string{}); err == nil || !strings.Contains(err.Error(), "not overwritten") {
		t.Errorf("init over a key: %v", err)
	}
	if _, err := Init(filepath.Join(dir, "other"), map[string]string{"listen": "nonsense"}); err == nil {
		t.Error("init takes a listen that run would refuse")
	}
	text, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	// Each comment that is a setting is one when it is uncommented.
	whole := strings.ReplaceAll(string(text), "\n# ", "\n")
	var lines []string
	for line := range strings.Lines(whole) {
		if strings.Contains(line, " = ") {
			lines = append(lines, line)
		}
	}
	if len(lines) != len(Options())-1 {
		t.Errorf("%d settings in the file, want %d:\n%s", len(lines), len(Options())-1, text)
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), []byte(strings.Join(lines, "")), 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := Load(map[string]string{"dir": dir}, nil); err != nil || !same(again, c) {
		t.Errorf("all uncommented: %+v, %v", again, err)
	}
}
