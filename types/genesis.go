package types

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Params are one network's constants; its genesis sets them (spec/consensus.md, "Parameters").
type Params struct {
	SnapshotLag     uint64 `json:"snapshot_lag"`     // heights
	SnapshotPeriod  uint64 `json:"snapshot_period"`  // heights
	RunLength       uint64 `json:"run_length"`       // heights
	RunTail         uint64 `json:"run_tail"`         // heights
	WaitLeader      Millis `json:"wait_leader_ms"`   // ms
	WaitQuorum      Millis `json:"wait_quorum_ms"`   // ms
	WaitIdle        Millis `json:"wait_idle_ms"`     // ms between blocks of a peer while nothing waits
	CheckpointEvery uint64 `json:"checkpoint_every"` // heights
	Sample          uint64 `json:"sample"`           // peers asked for a rival branch
	MaxForked       uint64 `json:"max_forked"`       // blocks of one forked author that must be named
	MinFeePerByte   Amount `json:"min_fee_per_byte"` // shares, decimal
	SampleEvery     uint64 `json:"sample_every"`     // heights; blocks of its multiples prove storage. 0: none do
}

// LocalParams suit a network on one machine: short runs and waits.
var LocalParams = Params{
	SnapshotLag: 40, SnapshotPeriod: 160, RunLength: 64, RunTail: 8,
	WaitLeader: 100, WaitQuorum: 1000, WaitIdle: 1000,
	CheckpointEvery: 1, Sample: 32, MaxForked: 8, MinFeePerByte: 1, SampleEvery: 1,
}

// MainParams suit peers across the internet.
var MainParams = Params{
	SnapshotLag: 1000, SnapshotPeriod: 4096, RunLength: 64, RunTail: 8,
	WaitLeader: 1000, WaitQuorum: 4000, WaitIdle: 1000,
	CheckpointEvery: 16, Sample: 32, MaxForked: 8, MinFeePerByte: 1, SampleEvery: 16,
}

// Check reports the first parameter that no network can run with.
func (p *Params) Check() error {
	switch {
	case p.RunLength == 0 || p.RunTail == 0 || p.SnapshotPeriod == 0 || p.CheckpointEvery == 0:
		return errors.New("run_length, run_tail, snapshot_period and checkpoint_every must be above 0")
	case p.SnapshotLag <= 2*p.RunTail:
		return fmt.Errorf("snapshot_lag %d must be above twice run_tail %d: a snapshot is taken before its run is known", p.SnapshotLag, p.RunTail)
	case p.CheckpointEvery > p.SnapshotLag || p.SnapshotPeriod%p.CheckpointEvery != 0:
		return fmt.Errorf("checkpoint_every %d must divide snapshot_period %d, and be no more than snapshot_lag %d", p.CheckpointEvery, p.SnapshotPeriod, p.SnapshotLag)
	case p.WaitLeader <= 0 || p.WaitQuorum <= p.WaitLeader || p.WaitIdle < 0 || p.WaitIdle > p.WaitQuorum:
		return fmt.Errorf("waits must rise: 0 < wait_leader_ms %d < wait_quorum_ms %d, and wait_idle_ms %d no more than that", p.WaitLeader, p.WaitQuorum, p.WaitIdle)
	case p.WaitQuorum > 3600_000 || p.SnapshotLag > MaxHeight/4 || p.SnapshotPeriod > MaxHeight/4 || p.RunLength > MaxHeight/4 || p.RunTail > MaxHeight/4:
		return errors.New("a parameter is beyond any sense")
	}
	return nil
}

// GenesisPeer is a peer that is registered from the start.
type GenesisPeer struct {
	Peer    Key    `json:"peer"`
	Name    string `json:"name"`
	Address string `json:"address"`
	Reward  Key    `json:"reward"`
}

// GenesisOutput is a part of the supply, and its first owner.
type GenesisOutput struct {
	Value Amount `json:"value"`
	Lock  Key    `json:"lock"`
	Host  Key    `json:"host"`
}

// Genesis is the start of a chain: all of its supply, its first peers and its parameters.
// The hash of its encoding is the chain's id. For people it is a JSON file.
type Genesis struct {
	Network string          `json:"network"`
	Time    Millis          `json:"time_ms"`
	Params  Params          `json:"params"`
	Peers   []GenesisPeer   `json:"peers"`
	Outputs []GenesisOutput `json:"outputs"`
}

// MaxGenesisOutputs bounds the outputs of a genesis.
const MaxGenesisOutputs = 1 << 20

// Encode is the genesis' bytes.
func (g *Genesis) Encode() []byte {
	e := NewEncoder(nil)
	e.U8(1)
	e.String(g.Network)
	e.Time(g.Time)
	p := &g.Params
	for _, v := range []uint64{
		p.SnapshotLag, p.SnapshotPeriod, p.RunLength, p.RunTail,
		uint64(p.WaitLeader), uint64(p.WaitQuorum), uint64(p.WaitIdle),
		p.CheckpointEvery, p.Sample, p.MaxForked, uint64(p.MinFeePerByte), p.SampleEvery,
	} {
		e.U64(v)
	}
	e.Count16(len(g.Peers))
	for _, p := range g.Peers {
		e.Key(p.Peer)
		e.String(p.Name)
		e.String(p.Address)
		e.Key(p.Reward)
	}
	e.Count32(len(g.Outputs))
	for _, o := range g.Outputs {
		Output(o).encode(e)
	}
	return e.Data()
}

// ChainID is the tagged hash of the encoding. It stands for the block at height 0 too.
func (g *Genesis) ChainID() Hash { return tagGenesis.Hash(g.Encode()) }

// Supply is the sum of all outputs.
func (g *Genesis) Supply() (total Amount, err error) {
	for _, o := range g.Outputs {
		if total, err = total.Add(o.Value); err != nil {
			return 0, err
		}
	}
	return total, nil
}

// Snapshot is the shares registered with each peer at the start, of height 0.
func (g *Genesis) Snapshot() *Snapshot {
	shares := make(map[Key]Amount)
	for _, o := range g.Outputs {
		shares[o.Host] += o.Value
	}
	s := new(Snapshot)
	keys := make([]Key, 0, len(g.Peers))
	for _, p := range g.Peers {
		keys = append(keys, p.Peer)
	}
	for _, k := range SortKeys(keys) {
		if shares[k] > 0 {
			s.Members = append(s.Members, Member{k, shares[k]})
		}
	}
	return s
}

// Check reports the first thing that makes the genesis unusable.
func (g *Genesis) Check() error {
	if !ValidName(g.Network) {
		return fmt.Errorf("network %q: want 1 to %d of a-z, 0-9 and '-'", g.Network, MaxName)
	}
	if g.Time < 0 || g.Time > MaxTime {
		return fmt.Errorf("time_ms %d is out of range", g.Time)
	}
	if err := g.Params.Check(); err != nil {
		return fmt.Errorf("params: %w", err)
	}
	if len(g.Peers) == 0 || len(g.Peers) > MaxMembers {
		return fmt.Errorf("%d peers: want 1 to %d", len(g.Peers), MaxMembers)
	}
	if len(g.Outputs) > MaxGenesisOutputs {
		return fmt.Errorf("%d outputs: want no more than %d", len(g.Outputs), MaxGenesisOutputs)
	}
	peers, names := make(map[Key]bool), make(map[string]bool)
	for i, p := range g.Peers {
		switch {
		case p.Peer.IsZero() || peers[p.Peer]:
			return fmt.Errorf("peers[%d]: key %s is zero or there twice", i, p.Peer)
		case !ValidName(p.Name) || names[p.Name]:
			return fmt.Errorf("peers[%d]: name %q: want 1 to %d of a-z, 0-9 and '-', and no name twice", i, p.Name, MaxName)
		case len(p.Address) > MaxAddress || !printable(p.Address):
			return fmt.Errorf("peers[%d]: address %q: want at most %d bytes of printable ASCII", i, p.Address, MaxAddress)
		}
		peers[p.Peer], names[p.Name] = true, true
	}
	if _, err := g.Supply(); err != nil {
		return fmt.Errorf("outputs: %w", err)
	}
	for i, o := range g.Outputs {
		if o.Value == 0 || o.Lock.IsZero() || !o.Host.IsZero() && !peers[o.Host] {
			return fmt.Errorf("outputs[%d]: want a value, a lock, and as host a peer of this genesis or none", i)
		}
	}
	if len(g.Snapshot().Members) == 0 {
		return errors.New("no peer has shares: nobody could decide anything; name hosts in outputs")
	}
	return nil
}

// ValidName reports whether s may be a name in consensus: 1 to MaxName of a-z, 0-9 and '-'.
func ValidName(s string) bool {
	if s == "" || len(s) > MaxName {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// ParseGenesis reads the JSON file of a genesis and checks it. It refuses fields that it does
// not know, that are there twice, or that are spelt in capitals: readers of JSON differ in what
// they make of those, and everybody must read the same chain.
func ParseGenesis(data []byte) (*Genesis, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	g := new(Genesis)
	if err := d.Decode(g); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("genesis: more text behind the genesis")
	}
	if err := plainNames(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	if err := g.Check(); err != nil {
		return nil, fmt.Errorf("genesis: %w", err)
	}
	return g, nil
}

// plainNames reads one JSON value, and refuses a field that is there twice, or whose name is
// not in the lower-case letters that all of ours have.
func plainNames(d *json.Decoder) error {
	open, err := d.Token()
	if err != nil {
		return err
	}
	if open != json.Delim('{') && open != json.Delim('[') {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if open == json.Delim('{') {
			t, err := d.Token()
			if err != nil {
				return err
			}
			name := t.(string) // it stands where only a name can
			if seen[name] || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz_") != "" {
				return fmt.Errorf("field %q is there twice or not in lower case", name)
			}
			seen[name] = true
		}
		if err := plainNames(d); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// JSON is the file that ParseGenesis reads.
func (g *Genesis) JSON() []byte {
	b, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("genesis does not marshal: %v", err)) // all fields are plain values
	}
	return append(b, '\n')
}
