package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/toml/v2"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"

	"charter/agent"
	"charter/chain"
	"charter/pool"
	"charter/types"
)

// Config is everything that can be set for a peer. Each field is called the same, by its tag
// `key`, wherever it is set; what comes first here wins:
//
//	flag          --log-level debug
//	environment   CHARTER_PEER_LOG_LEVEL=debug
//	file          log_level = "debug"            in charter.toml in the peer's directory
//	default       its tag `default`
//
// A key that does not exist is an error, in the file and in the environment.
type Config struct {
	// Dir holds what belongs to the peer: charter.toml, and unless other paths are given its
	// key, the genesis, and the folder store. It is not for the file, which is found by it.
	Dir string `key:"dir" default:"." help:"directory of the peer: its configuration, key, genesis and store"`

	// Genesis and Key are paths, from Dir if they are not absolute.
	Genesis string `key:"genesis" default:"genesis.json" help:"genesis file; its hash is the id of the chain"`
	Key     string `key:"key" default:"peer.key" help:"file with the peer's private key, readable by its owner only"`

	// Listen is where the peer's UDP socket is, host:port. Empty: at the address under which the
	// genesis has the peer. What others dial is the registered address; behind a router it
	// differs from this one.
	Listen string `key:"listen" default:"" help:"host:port of the UDP socket for other peers; empty: the peer's address in the genesis"`

	// API is where wallets and tools are served, over TCP; empty for nowhere. Port 0 is any.
	API string `key:"api" default:"127.0.0.1:7070" help:"host:port (TCP) of the API for wallets; empty: none"`

	// Debug is where /metrics (Prometheus) and /debug/pprof are, over TCP; empty for nowhere.
	// Neither asks who is asking: leave it on loopback, or behind a firewall.
	Debug string `key:"debug" default:"127.0.0.1:7071" help:"host:port (TCP) of /metrics and /debug/pprof; empty: none"`

	// Join is for a new peer, with no store yet: agents to take the state of a recent checkpoint
	// from. Without it a peer follows all blocks since the genesis.
	Join string `key:"join" default:"" help:"for a new peer: URLs of agents, separated by commas, to take the state of a recent checkpoint from; empty: follow all blocks since the genesis"`

	// JoinTrust is a checkpoint that Join starts from, HEIGHT:ID; empty: the genesis.
	JoinTrust string `key:"join_trust" default:"" help:"HEIGHT:ID of a checkpoint that you trust, as peer status shows it, to join from; empty: the genesis"`

	// Keep is how many heights below the final one a peer keeps blocks of. The state, with all
	// events of all keys, all outputs and checkpoints, is always kept.
	Keep int `key:"keep" default:"0" help:"how many heights below the final one to keep blocks of; 0: all; else at least 1024. What else is proven to wallets is always kept"`

	LogLevel  string `key:"log_level" default:"info" help:"debug, info, warn or error"`
	LogFormat string `key:"log_format" default:"text" help:"text or json"`

	// APIRequests is how many requests a second the API takes from one address; twice as many
	// at once.
	APIRequests int `key:"api_requests" default:"500" help:"requests a second that the API takes from one address; 1 to 1000000"`

	// CacheMB is the memory for disk blocks that were read, of both databases; up to three and
	// three quarters times as much holds tree pages besides.
	CacheMB int `key:"cache_mb" default:"64" help:"MiB of memory in which the store keeps what it read; up to 3.75 times as much holds tree pages besides; 1 to 65536"`

	// The pool of transactions that wait for a block.
	PoolMB           int           `key:"pool_mb" default:"64" help:"MiB of transactions that may wait for a block; 1 to 4096"`
	PoolTransactions int           `key:"pool_transactions" default:"131072" help:"how many may wait; 1 to 10000000"`
	PoolPatience     time.Duration `key:"pool_patience" default:"3s" help:"how long a transaction is left to the peer that hosts it, before this one puts it into a block of its own; 100ms to 1h"`

	// Delay makes the peer as far away as its packets take longer to others.
	Delay time.Duration `key:"delay" default:"0s" help:"time that each packet to other peers waits before it is sent, to try out a network of that latency; 0s to 1s"`

	// Version is the program's, for the status; it is not set by the user.
	Version string

	// now is the clock; nil is the machine's. Tests set it.
	now func() types.Millis
}

// FileName is the name of the configuration file in a peer's directory.
const FileName = "charter.toml"

// EnvPrefix opens the names of the environment variables.
const EnvPrefix = "CHARTER_PEER_"

// Option is one thing that can be set, for flags and help.
type Option struct{ Key, Default, Help string }

// Options are all of them, in the order of Config.
func Options() []Option {
	var out []Option
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if key := f.Tag.Get("key"); key != "" {
			out = append(out, Option{key, f.Tag.Get("default"), f.Tag.Get("help")})
		}
	}
	return out
}

// Flag is the option's name on a command line.
func (o Option) Flag() string { return strings.ReplaceAll(o.Key, "_", "-") }

// Env is its name in the environment.
func (o Option) Env() string { return EnvPrefix + strings.ToUpper(o.Key) }

// ConfigError says what is wrong with one setting.
type ConfigError struct {
	Where string // "flag", "environment", the path of the file, or "default"
	Key   string // as in Config
	Value string // empty where the key itself is wrong
	Want  string // what is allowed
}

func (e *ConfigError) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("configuration (%s): %s: %s", e.Where, e.Key, e.Want)
	}
	return fmt.Sprintf("configuration (%s): %s is %q: want %s", e.Where, e.Key, e.Value, e.Want)
}

// Load reads the configuration: flags are those that were given, by key; environ is as
// os.Environ gives it. A missing file is as an empty one. Errors: *ConfigError, or the
// system's for the file.
func Load(flags map[string]string, environ []string) (Config, error) {
	known := make(map[string]string) // by key, where its value is from
	for _, o := range Options() {
		known[o.Key] = "default"
	}
	k := koanf.New(".")
	for _, o := range Options() {
		if err := k.Set(o.Key, o.Default); err != nil {
			return Config{}, err
		}
	}
	layer := func(where string, load func(*koanf.Koanf) error) error {
		l := koanf.New(".")
		if err := load(l); err != nil {
			return err
		}
		for _, key := range l.Keys() {
			if known[key] == "" {
				return unknown(where, key)
			}
			known[key] = where
		}
		return k.Merge(l)
	}
	fromEnv := func(l *koanf.Koanf) error {
		return l.Load(env.Provider("", env.Opt{
			Prefix: EnvPrefix, EnvironFunc: func() []string { return environ },
			TransformFunc: func(k, v string) (string, any) { return strings.ToLower(strings.TrimPrefix(k, EnvPrefix)), v },
		}), nil)
	}
	fromFlags := func(l *koanf.Koanf) error {
		for key, v := range flags {
			if err := l.Set(key, v); err != nil {
				return err
			}
		}
		return nil
	}
	// Flags and environment come first, to say where the file is, and once more above it.
	if err := errors.Join(layer("environment", fromEnv), layer("flag", fromFlags)); err != nil {
		return Config{}, err
	}
	path := filepath.Join(k.String("dir"), FileName)
	if _, err := os.Stat(path); err == nil {
		if err := layer(path, func(l *koanf.Koanf) error { return loadFile(l, path) }); err != nil {
			return Config{}, err
		}
		if err := errors.Join(layer("environment", fromEnv), layer("flag", fromFlags)); err != nil {
			return Config{}, err
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	return decode(k, known)
}

func loadFile(l *koanf.Koanf, path string) error {
	err := l.Load(file.Provider(path), toml.Parser())
	var at interface{ Position() (row, column int) }
	if errors.As(err, &at) {
		row, column := at.Position()
		return fmt.Errorf("configuration: %s, line %d, column %d: %w", path, row, column, err)
	}
	if err != nil {
		return fmt.Errorf("configuration: %s: %w", path, err)
	}
	if l.Exists("dir") {
		return &ConfigError{Where: path, Key: "dir", Want: "not for the file, which lies in it: set it by --dir or " + EnvPrefix + "DIR"}
	}
	return nil
}

// unknown is the error of a key that does not exist, with the one that was perhaps meant.
func unknown(where, key string) error {
	var all []string
	best, distance := "", math.MaxInt
	for _, o := range Options() {
		all = append(all, o.Key)
		if d := edits(key, o.Key); d < distance {
			best, distance = o.Key, d
		}
	}
	want := "there is no such key; the keys are " + strings.Join(all, ", ")
	if distance <= 1+len(key)/3 {
		want = fmt.Sprintf("there is no such key; did you mean %s?", best)
	}
	return &ConfigError{Where: where, Key: key, Want: want}
}

// edits is how many letters must be put in, left out or changed to make a into b.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// decode makes a Config of values that were read as text or as TOML's types.
func decode(k *koanf.Koanf, from map[string]string) (Config, error) {
	var c Config
	v := reflect.ValueOf(&c).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		key := f.Tag.Get("key")
		if key == "" {
			continue
		}
		text := fmt.Sprint(k.Get(key))
		bad := func(want string) (Config, error) {
			return Config{}, &ConfigError{Where: from[key], Key: key, Value: text, Want: want}
		}
		switch into := v.FieldByIndex(f.Index).Addr().Interface().(type) {
		case *string:
			*into = text
		case *int:
			n, err := strconv.Atoi(text)
			if err != nil {
				return bad("a whole number")
			}
			*into = n
		case *time.Duration:
			d, err := time.ParseDuration(text)
			if err != nil {
				return bad(`a time with its unit, like "3s" or "500ms"`)
			}
			*into = d
		}
		if want := c.wrong(key); want != "" {
			return bad(want)
		}
	}
	return c, nil
}

// wrong says what is allowed for the field with a key, if its value is not.
func (c *Config) wrong(key string) string {
	address := func(s string) string {
		if _, port, err := net.SplitHostPort(s); err == nil {
			if n, err := strconv.ParseUint(port, 10, 16); err == nil && n <= 65535 {
				return ""
			}
		}
		return `host:port, like "127.0.0.1:7070"`
	}
	within := func(v, low, high int) string {
		if v < low || v > high {
			return fmt.Sprintf("a number from %d to %d", low, high)
		}
		return ""
	}
	oneOf := func(v string, all ...string) string {
		if !slices.Contains(all, v) {
			return "one of " + strings.Join(all, ", ")
		}
		return ""
	}
	switch key {
	case "dir", "genesis", "key":
		if c.Dir == "" || key == "genesis" && c.Genesis == "" || key == "key" && c.Key == "" {
			return "a path"
		}
	case "listen":
		if c.Listen != "" {
			return address(c.Listen)
		}
	case "api":
		if c.API != "" {
			return address(c.API)
		}
	case "debug":
		if c.Debug != "" {
			return address(c.Debug)
		}
	case "join":
		if _, err := joinURLs(c.Join); err != nil {
			return `URLs of agents, separated by commas, like "http://203.0.113.7:7070"`
		}
	case "join_trust":
		if _, _, err := joinTrust(c.JoinTrust); err != nil {
			return "HEIGHT:ID of a checkpoint, the id in 64 hexadecimal digits"
		}
	case "log_level":
		return oneOf(c.LogLevel, "debug", "info", "warn", "error")
	case "log_format":
		return oneOf(c.LogFormat, "text", "json")
	case "keep":
		if c.Keep != 0 && (c.Keep < chain.MinKeep || c.Keep > types.MaxHeight) {
			return fmt.Sprintf("0 for all, or a number from %d", chain.MinKeep)
		}
	case "cache_mb":
		return within(c.CacheMB, 1, 1<<16)
	case "api_requests":
		return within(c.APIRequests, 1, 1_000_000)
	case "pool_mb":
		return within(c.PoolMB, 1, 4096)
	case "pool_transactions":
		return within(c.PoolTransactions, 1, 10_000_000)
	case "delay":
		if c.Delay < 0 || c.Delay > time.Second {
			return "a time from 0s to 1s"
		}
	case "pool_patience":
		if c.PoolPatience < 100*time.Millisecond || c.PoolPatience > time.Hour {
			return "a time from 100ms to 1h"
		}
	}
	return ""
}

// path is a path of the configuration, from the peer's directory on.
func (c *Config) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.Dir, p)
}

// apiLimits are the agent's.
func (c *Config) apiLimits() agent.Limits {
	l := agent.DefaultLimits
	l.Requests, l.Burst = float64(c.APIRequests), 2*c.APIRequests
	return l
}

// limits are the pool's.
func (c *Config) limits() pool.Limits {
	return pool.Limits{Bytes: c.PoolMB << 20, Count: c.PoolTransactions, Patience: types.Millis(c.PoolPatience.Milliseconds())}
}

// Logger is a logger as the configuration says, that writes to w.
func (c *Config) Logger(w interface{ Write([]byte) (int, error) }) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // was checked
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// file is charter.toml with the given settings, and all others as comments.
func configFile(set map[string]string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# A Charter peer. Each key may also be set in the environment (%sLOG_LEVEL=debug)\n", EnvPrefix)
	b.WriteString("# or by a flag of `charter peer run` (--log-level debug), which win over this file.\n")
	for _, o := range Options() {
		if o.Key == "dir" {
			continue
		}
		fmt.Fprintf(&b, "\n# %s\n", o.Help)
		value, is := set[o.Key]
		if !is {
			b.WriteString("# ")
			value = o.Default
		}
		if _, err := strconv.Atoi(value); err != nil {
			value = strconv.Quote(value)
		}
		fmt.Fprintf(&b, "%s = %s\n", o.Key, value)
	}
	return []byte(b.String())
}
