package types

import (
	"bytes"
	"crypto/sha256"
	"reflect"
	"strings"
	"testing"
)

func genesis() *Genesis {
	return &Genesis{
		Network: "test", Time: 1_000_000, Params: LocalParams,
		Peers: []GenesisPeer{
			{Key{2}, "b-peer", "127.0.0.1:4001", Key{12}},
			{Key{1}, "a-peer", "127.0.0.1:4000", Key{11}},
			{Key{3}, "idle", "", Key{13}},
		},
		Outputs: []GenesisOutput{
			{5 * UnitsPerShare, Key{21}, Key{1}}, {7, Key{22}, Key{2}}, {1, Key{23}, Key{1}}, {9, Key{24}, Key{}},
		},
	}
}

func TestGenesis(t *testing.T) {
	g := genesis()
	back, err := ParseGenesis(g.JSON())
	if err != nil || !reflect.DeepEqual(back, g) || back.ChainID() != g.ChainID() {
		t.Fatalf("%+v, %v", back, err)
	}
	want := &Snapshot{Members: []Member{{Key{1}, 5*UnitsPerShare + 1}, {Key{2}, 7}}}
	if s := g.Snapshot(); !reflect.DeepEqual(s, want) || s.Total() != 5*UnitsPerShare+8 {
		t.Errorf("snapshot %+v", s)
	}
	if i, ok := want.Find(Key{2}); !ok || i != 1 {
		t.Error("member 1 is not found")
	}
	if _, ok := want.Find(Key{3}); ok {
		t.Error("one without shares is a member")
	}
	if supply, err := g.Supply(); err != nil || supply != 5*UnitsPerShare+17 {
		t.Errorf("supply %s, %v", supply, err)
	}
}

// Each field is under the chain's id.
func TestChainIDCoversAll(t *testing.T) {
	seen := map[Hash]int{genesis().ChainID(): -1}
	for i, change := range []func(*Genesis){
		func(g *Genesis) { g.Network += "2" },
		func(g *Genesis) { g.Time++ },
		func(g *Genesis) { g.Params.SnapshotLag++ },
		func(g *Genesis) { g.Params.SnapshotPeriod++ },
		func(g *Genesis) { g.Params.RunLength++ },
		func(g *Genesis) { g.Params.RunTail++ },
		func(g *Genesis) { g.Params.WaitLeader++ },
		func(g *Genesis) { g.Params.WaitQuorum++ },
		func(g *Genesis) { g.Params.WaitIdle++ },
		func(g *Genesis) { g.Params.CheckpointEvery++ },
		func(g *Genesis) { g.Params.Sample++ },
		func(g *Genesis) { g.Params.MaxForked++ },
		func(g *Genesis) { g.Params.MinFeePerByte++ },
		func(g *Genesis) { g.Params.SampleEvery++ },
		func(g *Genesis) { g.Peers[0].Peer[31]++ },
		func(g *Genesis) { g.Peers[0].Name += "x" },
		func(g *Genesis) { g.Peers[0].Address += "1" },
		func(g *Genesis) { g.Peers[0].Reward[31]++ },
		func(g *Genesis) { g.Peers = g.Peers[:2] },
		func(g *Genesis) { g.Peers[0], g.Peers[1] = g.Peers[1], g.Peers[0] },
		func(g *Genesis) { g.Outputs[0].Value++ },
		func(g *Genesis) { g.Outputs[0].Lock[31]++ },
		func(g *Genesis) { g.Outputs[0].Host = Key{} },
		func(g *Genesis) { g.Outputs = g.Outputs[:3] },
	} {
		g := genesis()
		change(g)
		if j, ok := seen[g.ChainID()]; ok {
			t.Errorf("change %d makes the chain of change %d", i, j)
		}
		seen[g.ChainID()] = i
	}
}

func TestGenesisCheck(t *testing.T) {
	for i, row := range []struct {
		says   string
		change func(*Genesis)
	}{
		{"network", func(g *Genesis) { g.Network = "" }},
		{"network", func(g *Genesis) { g.Network = "Test" }},
		{"network", func(g *Genesis) { g.Network = strings.Repeat("a", MaxName+1) }},
		{"time_ms", func(g *Genesis) { g.Time = -1 }},
		{"time_ms", func(g *Genesis) { g.Time = MaxTime + 1 }},
		{"params", func(g *Genesis) { g.Params = Params{} }},
		{"0 peers", func(g *Genesis) { g.Peers = nil }},
		{"1025 peers", func(g *Genesis) { g.Peers = make([]GenesisPeer, MaxMembers+1) }},
		{"outputs: want no more", func(g *Genesis) { g.Outputs = make([]GenesisOutput, MaxGenesisOutputs+1) }},
		{"peers[0]: key", func(g *Genesis) { g.Peers[0].Peer = Key{} }},
		{"peers[1]: key", func(g *Genesis) { g.Peers[1].Peer = g.Peers[0].Peer }},
		{"peers[0]: name", func(g *Genesis) { g.Peers[0].Name = "" }},
		{"peers[1]: name", func(g *Genesis) { g.Peers[1].Name = g.Peers[0].Name }},
		{"peers[0]: address", func(g *Genesis) { g.Peers[0].Address = strings.Repeat("a", MaxAddress+1) }},
		{"peers[0]: address", func(g *Genesis) { g.Peers[0].Address = "höst:1" }},
		{"outputs: amount overflow", func(g *Genesis) { g.Outputs[0].Value = MaxSupply }},
		{"outputs[0]", func(g *Genesis) { g.Outputs[0].Value = 0 }},
		{"outputs[0]", func(g *Genesis) { g.Outputs[0].Lock = Key{} }},
		{"outputs[0]", func(g *Genesis) { g.Outputs[0].Host = Key{99} }},
		{"no peer has shares", func(g *Genesis) { g.Outputs = nil }},
		{"no peer has shares", func(g *Genesis) { g.Outputs = g.Outputs[3:] }},
	} {
		g := genesis()
		row.change(g)
		if err := g.Check(); err == nil || !strings.HasPrefix(err.Error(), row.says) && !strings.Contains(err.Error(), row.says) {
			t.Errorf("row %d: want %q, have %v", i, row.says, err)
		}
	}
}

func TestParamsCheck(t *testing.T) {
	for _, p := range []Params{LocalParams, MainParams} {
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
	for i, row := range []struct {
		says   string
		change func(*Params)
	}{
		{"above 0", func(p *Params) { p.RunLength = 0 }},
		{"above 0", func(p *Params) { p.RunTail = 0 }},
		{"above 0", func(p *Params) { p.SnapshotPeriod = 0 }},
		{"above 0", func(p *Params) { p.CheckpointEvery = 0 }},
		{"twice run_tail", func(p *Params) { p.SnapshotLag = 2 * p.RunTail }},
		{"must divide", func(p *Params) { p.CheckpointEvery = p.SnapshotLag + 1 }},
		{"must divide", func(p *Params) { p.CheckpointEvery = 3 }},
		{"waits must rise", func(p *Params) { p.WaitLeader = 0 }},
		{"waits must rise", func(p *Params) { p.WaitQuorum = p.WaitLeader }},
		{"waits must rise", func(p *Params) { p.WaitIdle = -1 }},
		{"waits must rise", func(p *Params) { p.WaitIdle = p.WaitQuorum + 1 }},
		{"beyond any sense", func(p *Params) { p.WaitQuorum = 3600_001 }},
		{"beyond any sense", func(p *Params) { p.SnapshotLag = 1 << 60 }},
		{"beyond any sense", func(p *Params) { p.SnapshotPeriod = 1 << 60 }},
		{"beyond any sense", func(p *Params) { p.RunLength = 1 << 63 }},
		{"beyond any sense", func(p *Params) { p.RunTail = 1 << 63 }},
	} {
		p := LocalParams
		row.change(&p)
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("row %d: want %q, have %v", i, row.says, err)
		}
	}
}

func TestParseGenesisRefuses(t *testing.T) {
	good := string(genesis().JSON())
	for i, row := range []struct{ says, old, new string }{
		{"unknown field", `"network"`, `"colour": 1, "network"`},
		{"lower case", `"network"`, `"Network"`},
		{"lower case", `"snapshot_lag"`, `"\u017fnapshot_lag"`}, // ſ, which folds to s
		{"there twice", `"network"`, `"network": "other", "network"`},
		{"there twice", `"lock"`, `"lock": null, "lock"`},
		{"more text", "\n}\n", "\n} {}"},
		{"EOF", "\n}\n", ""},
		{"amount", `"value": "5"`, `"value": "5.000000000"`},
		{"cannot unmarshal number", `"value": "5"`, `"value": 5`},
		{"cannot unmarshal number", `1000000,`, `1e99,`},
		{"hexadecimal", `"lock": "15`, `"lock": "`},
		{"network", `"network": "test"`, `"network": "TEST"`},
	} {
		bad := strings.Replace(good, row.old, row.new, 1)
		if bad == good {
			t.Fatalf("row %d changes nothing", i)
		}
		if _, err := ParseGenesis([]byte(bad)); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("row %d: want %q, have %v", i, row.says, err)
		}
	}
	if _, err := ParseGenesis(bytes.ReplaceAll([]byte(good), []byte("\n"), []byte(" \r\n\t"))); err != nil {
		t.Errorf("other white space: %v", err)
	}
}

func TestValidName(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "0-9": true, "-": true, strings.Repeat("z", MaxName): true,
		"": false, strings.Repeat("z", MaxName+1): false, "A": false, "a_b": false, "a b": false, "ä": false, "a\x00": false, "a.b": false,
	} {
		if ValidName(s) != want {
			t.Errorf("%q: %t", s, !want)
		}
	}
}

func TestSortKeys(t *testing.T) {
	have := SortKeys([]Key{{3}, {1}, {3}, {2}, {1}})
	if !reflect.DeepEqual(have, []Key{{1}, {2}, {3}}) || len(SortKeys(nil)) != 0 {
		t.Error(have)
	}
}

// A tag is BIP-340's, whichever way it is used, and whatever the length.
func TestTag(t *testing.T) {
	inner := sha256.Sum256([]byte("charter/x"))
	for _, n := range []int{0, 1, 447, 448, 449, 5000} {
		data := bytes.Repeat([]byte{7}, n)
		want := Hash(sha256.Sum256(append(append(bytes.Clone(inner[:]), inner[:]...), data...)))
		running := NewTag("charter/x").New()
		running.Write(data)
		if have := NewTag("charter/x").Hash(data[:n/2], data[n/2:]); have != want || Hash(running.Sum(nil)) != want {
			t.Errorf("%d bytes: %s", n, have)
		}
	}
}
