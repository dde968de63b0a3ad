package peer

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	v1 "charter/api/charter/v1"
	"charter/store"
	"charter/transport"
	"charter/types"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		http.DefaultClient.CloseIdleConnections()
		os.Exit(code)
	}))
}

// Payments go through the tiers to final at any peer, and their proofs hold; the peer tells how
// it is, to people and to Prometheus.
func TestPaymentsBecomeFinal(t *testing.T) {
	w := newWorld(t, 4, 3)
	w.start(0, 1, 2, 3)
	for j := range w.wallets {
		tiers := w.settle(j, (j+j/4)%4) // sometimes not the host
		if !slices.IsSorted(tiers) || tiers[len(tiers)-1] != v1.Tier_TIER_FINAL {
			t.Errorf("payment %d went through %v", j, tiers)
		}
	}
	r, err := w.client(1).Status(t.Context(), connect.NewRequest(&v1.StatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	s := r.Msg
	if s.Name != "peer-1" || s.Shares != "12000" || s.FinalHeight == 0 || s.FinalHeight > s.Height || len(s.Peers) != 4 || len(s.Tiers) == 0 || s.Connections < 3 {
		t.Errorf("status %v", s)
	}
	for _, p := range s.Peers {
		if !p.Connected || p.Lag > 20 || p.Address == "" || p.Shares == "0" {
			t.Errorf("peer %v", p)
		}
	}
	metrics := get(t, "http://"+w.peers[1].DebugAddr()+"/metrics")
	for _, want := range []string{
		"charter_final_height ", `charter_peer_lag{peer="peer-0"} `, `charter_tier_seconds_count{tier="final"} 3`, "charter_gossip_links 3",
		"charter_gossip_bytes_in_total ", `charter_store_disk_bytes{database="log"} `, "charter_clock_adrift 0", "go_goroutines ",
	} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("no %q among the metrics", want)
		}
	}
	if t.Failed() {
		t.Log(metrics)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, r.Status, err)
	}
	return string(b)
}

// A peer that was away catches up and takes part again; and a network that was stopped goes on.
func TestPeersComeBack(t *testing.T) {
	w := newWorld(t, 4, 4)
	w.start(0, 1, 2, 3)
	w.settle(0, 0)
	w.stop(3)
	w.settle(1, 0)
	w.settle(2, 2)
	top := w.peers[0].Status().Final
	w.start(3)
	w.settle(3, 3) // hosted by the peer that was away
	if got := w.peers[3].Status().Final; got < top {
		t.Errorf("final height %d after catching up, and %d before", got, top)
	}
	for i := range 4 {
		w.stop(i)
	}
	w.start(0, 1, 2, 3)
	w.settle(4, 1)
	eventually(t, "all are at one final height", func() bool {
		lowest, highest := ^uint64(0), uint64(0)
		for _, p := range w.peers {
			f := p.Status().Final
			lowest, highest = min(lowest, f), max(highest, f)
		}
		return highest-lowest < 5
	})
}

// A peer whose clock is off by an hour says so, follows and makes no blocks, and goes on when
// the clock is right.
func TestClockAdrift(t *testing.T) {
	for name, hour := range map[string]time.Duration{"ahead": time.Hour, "behind": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 4, 4)
			var off atomic.Int64
			off.Store(hour.Milliseconds())
			w.configs[3].now = func() types.Millis { return types.MillisOf(time.Now()) + types.Millis(off.Load()) }
			w.start(0, 1, 2, 3)
			w.settle(0, 0)
			eventually(t, "the peer knows that its clock is off", func() bool { return w.log.has("clock is off") })
			w.settle(1, 3)
			made := func() uint64 { return w.peers[0].chain.Status().Heights[w.peers[3].Key()] }
			if h := made(); h != 0 {
				t.Errorf("the peer made a block of height %d with a wrong clock", h)
			}
			if m := get(t, "http://"+w.peers[3].DebugAddr()+"/metrics"); !strings.Contains(m, "\ncharter_clock_adrift 1") || !strings.Contains(m, "\ncharter_clock_drift_seconds ") {
				t.Error("the metrics do not tell of the drift")
			}
			off.Store(0)
			eventually(t, "the peer makes blocks", func() bool { return made() > 0 })
			w.settle(3, 3)
		})
	}
}

// What keeps a peer from starting is said, with what to do.
func TestRefusesToStart(t *testing.T) {
	w := newWorld(t, 2, 1)
	w.start(0, 1)
	rows := []struct {
		name   string
		change func(c *Config)
		want   string
		is     func(error) bool
	}{
		{"directory in use", func(c *Config) { c.Listen = "127.0.0.1:0" }, "another process has it open", func(err error) bool { return store.IsKind(err, store.InUse) }},
		{"wrong genesis", func(c *Config) {
			w.stop(0)
			g := *w.genesis
			g.Network = "other"
			c.Genesis = write(t, "genesis.json", string(g.JSON()))
		}, "wrong chain", func(err error) bool { return store.IsKind(err, store.WrongChain) }},
		{"another peer's key", func(c *Config) { c.Key = w.configs[1].path("peer.key") }, "wrong peer", func(err error) bool { return store.IsKind(err, store.WrongPeer) }},
		{"UDP port in use", func(c *Config) { c.Listen = w.genesis.Peers[1].Address }, "another peer runs on", func(err error) bool { return transport.IsKind(err, transport.PortInUse) }},
		{"TCP port in use", func(c *Config) { c.API = w.peers[1].APIAddr() }, "another process has TCP port", nil},
		{"no genesis", func(c *Config) { c.Genesis = "nowhere" }, "is not there", nil},
		{"damaged genesis", func(c *Config) { c.Genesis = write(t, "genesis.json", `{"network":"x","supply":3}`) }, `unknown field "supply"`, nil},
		{"no key", func(c *Config) { c.Key = "nowhere" }, "charter peer init", nil},
		{"damaged key", func(c *Config) { c.Key = write(t, "key", keyHeader+"12ab\n") }, "64 hexadecimal digits", nil},
		{"key of zeros", func(c *Config) { c.Key = write(t, "key", strings.Repeat("0", 64)) }, "is damaged", nil},
		{"empty key", func(c *Config) { c.Key = write(t, "key", keyHeader) }, "holds no key", nil},
		{"not a store", func(c *Config) {
			c.Dir = t.TempDir()
			c.Genesis, c.Key = w.configs[0].path("../genesis.json"), w.configs[0].path("peer.key")
			if err := os.MkdirAll(filepath.Join(c.Dir, "store", "photos"), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a store", func(err error) bool { return store.IsKind(err, store.NotAStore) }},
	}
	for _, row := range rows {
		cfg := w.configs[0]
		row.change(&cfg)
		p, err := Start(cfg, nil)
		switch {
		case err == nil:
			p.Close()
			t.Errorf("%s: it starts", row.name)
		case !strings.Contains(err.Error(), row.want) || row.is != nil && !row.is(err):
			t.Errorf("%s: %v; want %q", row.name, err, row.want)
		}
	}
	w.start(0) // nothing of all this has hurt it
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Of a peer that is in no genesis, and of a key that others can read, there is a warning.
func TestWarnings(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.start(0)
	w.settle(0, 0)
	dir := t.TempDir()
	if _, err := Init(dir, map[string]string{"genesis": filepath.Join(w.dir, "genesis.json"), "api": "", "debug": ""}); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "peer.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(map[string]string{"dir": dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Start(cfg, nil); err == nil || !strings.Contains(err.Error(), "set listen") {
		t.Fatalf("a follower without an address: %v", err)
	}
	cfg.Listen = "127.0.0.1:0"
	p, err := Start(cfg, cfg.Logger(w.log))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if !w.log.has("not registered") || !w.log.has("can read the peer's key") {
		t.Error("no warning")
	}
	if p.APIAddr() != "" || p.DebugAddr() != "" {
		t.Error("it serves what is turned off")
	}
}

// A peer that stops answers who is connected, and leaves nothing behind.
func TestStopsInOrder(t *testing.T) {
	w := newWorld(t, 1, 1)
	w.start(0)
	stream, err := w.client(0).Watch(t.Context(), connect.NewRequest(&v1.WatchRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	idle, err := net.Dial("tcp", w.peers[0].APIAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	began := time.Now()
	w.stop(0)
	for stream.Receive() {
	}
	if code := connect.CodeOf(stream.Err()); code != connect.CodeUnavailable {
		t.Errorf("the watch ended with %v", stream.Err())
	}
	if took := time.Since(began); took > grace+2*time.Second {
		t.Errorf("it took %s to stop", took)
	}
}
