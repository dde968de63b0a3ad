package main

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/spf13/cobra"

	"charter/peer"
	"charter/sig"
	"charter/types"
)

func newPeerRegisterCommand() *cobra.Command {
	var f walletFlags
	var dir, name, address, reward string
	cmd := &cobra.Command{
		Use:   "register",
		Short: "Enter a new peer into a running network, or renew its entry",
		Long: `Enter a new peer into a running network, or renew its entry: its name, and the address at which the other
peers reach its UDP port. A wallet pays the fee, and what the peer earns is paid to that wallet, unless --reward says
otherwise. The record is signed by the peer's own key, so nobody else can enter it.

The others let the peer in as soon as this is final. It has weight once shares are registered with it, from the
next snapshot on: pay to an address that names it as host.`,
		Example: `  charter peer init --dir dora --listen 203.0.113.9:7400
  charter peer register --dir dora --name dora --address 203.0.113.9:7400 --wallet ann.wallet
  charter peer run --dir dora --join http://203.0.113.7:7070`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !types.ValidName(name) {
				return misuse(cmd, fmt.Errorf("--name %q: want 1 to %d of a-z, 0-9 and '-'", name, types.MaxName))
			}
			if _, _, err := net.SplitHostPort(address); err != nil || len(address) > types.MaxAddress {
				return misuse(cmd, fmt.Errorf("--address %q: want host:port, as the other peers reach it", address))
			}
			return f.registerPeer(cmd, dir, types.RegisterPeer{Name: name, Address: address}, reward)
		},
	}
	f.add(cmd.Flags())
	f.addDespite(cmd.Flags())
	cmd.Flags().StringVarP(&dir, "dir", "d", ".", "directory of the peer, with its key")
	cmd.Flags().StringVar(&name, "name", "", "the peer's name on this chain: a-z, 0-9 and '-'")
	cmd.Flags().StringVar(&address, "address", "", "host:port at which the other peers reach its UDP port")
	cmd.Flags().StringVar(&reward, "reward", "", "lock (64 hexadecimal digits) that its fees are paid to (default: a new one of the wallet)")
	return cmd
}

func (f *walletFlags) registerPeer(cmd *cobra.Command, dir string, r types.RegisterPeer, reward string) error {
	key, _, err := peer.ReadKey(filepath.Join(dir, "peer.key"))
	if err != nil {
		return err
	}
	r.Peer = key.Public()
	if reward != "" {
		if err := r.Reward.UnmarshalText([]byte(reward)); err != nil {
			return misuse(cmd, fmt.Errorf("--reward: %w", err))
		}
	}
	c, err := f.open(cmd, toWrite)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Sync(cmd.Context()); err != nil {
		return interrupted(err)
	}
	if r.Reward.IsZero() {
		a, _, err := c.Address(cmd.Context())
		if err != nil {
			return interrupted(err)
		}
		r.Reward = a.Lock
	}
	sign := func(digest types.Hash) (types.Signature, error) { return sig.Sign(key, digest), nil }
	t := tracker{cmd: cmd, json: f.json, what: "peer " + r.Name}
	line, err := c.RegisterPeer(cmd.Context(), r, sign, "peer "+r.Name, t.tell)
	if err != nil {
		return interrupted(err)
	}
	if f.json {
		return printJSON(cmd.OutOrStdout(), map[string]any{"kind": "done", "peer": r.Peer, "name": r.Name, "address": r.Address, "transaction": line.ID})
	}
	fmt.Fprintf(cmd.OutOrStdout(), "Peer %s (%s) is registered, at %s.\nStart it with:  charter peer run --dir %s --join URL-OF-AN-AGENT\n", r.Name, r.Peer, r.Address, dir)
	return nil
}
