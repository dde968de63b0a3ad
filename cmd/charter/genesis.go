package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/sig"
	"charter/types"
)

var _ = enter(newGenesisCommand)

// genesisFlags say what a chain starts from.
type genesisFlags struct {
	network, params, time, out string
	peers, owners, rewards     []string
	set                        []string
	force, json                bool
}

func newGenesisCommand() *cobra.Command {
	var f genesisFlags
	cmd := &cobra.Command{
		Use:   "genesis",
		Short: "Make the file that a chain starts from",
		Long: `Make the file that a chain starts from: its whole supply and the first owners of it, its first
peers, and its parameters. The hash of it is the id of the chain; every peer and every
wallet of the network is given the same file.

A peer's key is what "charter peer init" prints; an owner's key is what "charter wallet
create --offline" prints. Shares held at a peer (@NAME) give that peer its weight.`,
		Example: `  charter genesis --network home \
    --peer ann=9a24…1d@127.0.0.1:4001 --peer bob=77c0…5e@127.0.0.1:4002 \
    --owner 1f03…aa=600000@ann --owner 88b1…0c=400000@bob \
    --params local --set snapshot_lag=40 --out genesis.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runGenesis(cmd, &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.network, "network", "", "name of the network: 1 to 32 of a-z, 0-9 and '-'")
	fl.StringArrayVar(&f.peers, "peer", nil, "a peer, as NAME=KEY@HOST:PORT; once for each")
	fl.StringArrayVar(&f.rewards, "reward", nil, "where a peer's fees go, as NAME=KEY; else to the peer's own key")
	fl.StringArrayVar(&f.owners, "owner", nil, "shares and their first owner, as KEY=AMOUNT[@NAME of the peer that hosts them]; once for each")
	fl.StringVar(&f.params, "params", "main", "parameters to start from: local (one machine) or main (the internet)")
	fl.StringArrayVar(&f.set, "set", nil, "another value for a parameter, as NAME=VALUE")
	fl.StringVar(&f.time, "time", "", "when the chain starts, RFC 3339 (default now)")
	fl.StringVar(&f.out, "out", "genesis.json", "file to write")
	fl.BoolVar(&f.force, "force", false, "overwrite the file if it is there")
	fl.BoolVar(&f.json, "json", false, "print one JSON object")
	for _, name := range []string{"network", "peer", "owner"} {
		_ = cmd.MarkFlagRequired(name) // fails for a flag that there is not
	}
	completeWords(cmd, "params", "local", "main")
	return cmd
}

func runGenesis(cmd *cobra.Command, f *genesisFlags) error {
	g, err := f.genesis()
	if err != nil {
		return misuse(cmd, err)
	}
	if err := g.Check(); err != nil {
		return fmt.Errorf("no network could start from this: %w", err)
	}
	if _, err := os.Stat(f.out); err == nil && !f.force {
		return next(fmt.Errorf("%s is there already", f.out), "name another file with --out, or overwrite it with --force")
	}
	if err := client.WriteFile(f.out, g.JSON(), 0o644); err != nil {
		return next(fmt.Errorf("cannot write the genesis: %w", err), "name another file with --out")
	}
	supply, _ := g.Supply() // checked
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"chain": g.ChainID(), "network": g.Network, "supply": supply, "file": f.out})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "chain %s\n", g.ChainID())
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: network %s, %d peers, %s shares; give this file to every peer and wallet\n", f.out, g.Network, len(g.Peers), supply)
	return nil
}

// genesis is what the flags say, not yet checked as a whole.
func (f *genesisFlags) genesis() (*types.Genesis, error) {
	g := &types.Genesis{Network: f.network, Time: types.MillisOf(time.Now())}
	if f.time != "" {
		t, err := time.Parse(time.RFC3339, f.time)
		if err != nil {
			return nil, fmt.Errorf("--time %q: want a time like 2026-11-22T15:04:05Z", f.time)
		}
		g.Time = types.MillisOf(t)
	}
	var err error
	if g.Params, err = parseParams(f.params, f.set); err != nil {
		return nil, err
	}
	byName := make(map[string]int)
	for i, s := range f.peers {
		p, err := parsePeer(s)
		if err != nil {
			return nil, fmt.Errorf("--peer %q: %w", s, err)
		}
		byName[p.Name] = i
		g.Peers = append(g.Peers, p)
	}
	for _, s := range f.rewards {
		name, key, _ := strings.Cut(s, "=")
		i, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("--reward %q: no --peer is called %q", s, name)
		}
		if g.Peers[i].Reward, err = parseKey(key); err != nil {
			return nil, fmt.Errorf("--reward %q: %w", s, err)
		}
	}
	for _, s := range f.owners {
		o, host, err := parseOwner(s)
		if err == nil && host != "" {
			i, ok := byName[host]
			if !ok {
				err = fmt.Errorf("no --peer is called %q", host)
			} else {
				o.Host = g.Peers[i].Peer
			}
		}
		if err != nil {
			return nil, fmt.Errorf("--owner %q: %w", s, err)
		}
		g.Outputs = append(g.Outputs, o)
	}
	return g, nil
}

// parsePeer reads NAME=KEY@HOST:PORT.
func parsePeer(s string) (types.GenesisPeer, error) {
	name, rest, ok := strings.Cut(s, "=")
	key, address, ok2 := strings.Cut(rest, "@")
	if !ok || !ok2 || name == "" || address == "" {
		return types.GenesisPeer{}, errors.New("want NAME=KEY@HOST:PORT")
	}
	k, err := parseKey(key)
	return types.GenesisPeer{Peer: k, Name: name, Address: address, Reward: k}, err
}

// parseOwner reads KEY=AMOUNT, or KEY=AMOUNT@HOST.
func parseOwner(s string) (o types.GenesisOutput, host string, err error) {
	key, rest, ok := strings.Cut(s, "=")
	if !ok {
		return o, "", errors.New("want KEY=AMOUNT or KEY=AMOUNT@NAME")
	}
	if strings.HasPrefix(strings.ToLower(key), "ch1") {
		return o, "", errors.New("an address says which chain it is of, and this one does not exist yet; give the owner key that `charter wallet create --offline` prints")
	}
	amount, host, _ := strings.Cut(rest, "@")
	if o.Lock, err = parseKey(key); err == nil {
		o.Value, err = types.ParseAmount(amount)
	}
	return o, host, err
}

func parseKey(s string) (k types.Key, err error) {
	if err := k.UnmarshalText([]byte(s)); err != nil {
		return k, err
	}
	if err := sig.CheckKey(k); err != nil {
		return k, fmt.Errorf("%s… is no key: %w", k.Short(), err)
	}
	return k, nil
}

// parseParams is a set of parameters by name, with some of them set otherwise.
func parseParams(name string, set []string) (types.Params, error) {
	p, ok := map[string]types.Params{"local": types.LocalParams, "main": types.MainParams}[name]
	if !ok {
		return p, fmt.Errorf("--params %q: want local or main", name)
	}
	all, err := json.Marshal(p)
	fields := make(map[string]json.RawMessage)
	if err == nil {
		err = json.Unmarshal(all, &fields)
	}
	if err != nil {
		panic(fmt.Sprintf("parameters do not marshal: %v", err)) // plain numbers
	}
	for _, s := range set {
		key, value, _ := strings.Cut(s, "=")
		old, ok := fields[key]
		if !ok {
			return p, fmt.Errorf("--set %q: no parameter is called %q; there are %s", s, key, strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		}
		if bytes.HasPrefix(old, []byte(`"`)) { // an amount
			value = `"` + value + `"`
		}
		fields[key] = json.RawMessage(value)
		one, err := json.Marshal(map[string]json.RawMessage{key: fields[key]})
		if err == nil {
			err = json.Unmarshal(one, &p)
		}
		if err != nil {
			return p, fmt.Errorf("--set %q: %q is no value for %s", s, value, key)
		}
	}
	return p, nil
}
