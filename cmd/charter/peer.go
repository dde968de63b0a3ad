package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/peer"
)

var _ = enter(newPeerCommand)

func newPeerCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peer",
		Short: "Make, run and look at a peer",
		Long: `A peer keeps the past together with the other peers, with a weight in proportion to the
shares registered with it, and serves wallets: it is their agent.`,
		Example: "  charter peer init --dir ann --name ann --listen 127.0.0.1:7400\n  charter peer run --dir ann\n  charter peer status",
	}
	cmd.AddCommand(newPeerInitCommand(), newPeerRegisterCommand(), newPeerRunCommand(), newPeerStatusCommand(), newPeerListCommand())
	return cmd
}

// peerFlags enters a flag for each thing that can be set for a peer, and gives what reads those
// that were given.
func peerFlags(cmd *cobra.Command) func() map[string]string {
	for _, o := range peer.Options() {
		if o.Key == "dir" {
			cmd.Flags().StringP(o.Flag(), "d", o.Default, o.Help)
		} else {
			cmd.Flags().String(o.Flag(), o.Default, o.Help)
		}
	}
	return func() map[string]string {
		given := make(map[string]string)
		for _, o := range peer.Options() {
			if f := cmd.Flags().Lookup(o.Flag()); f.Changed {
				given[o.Key] = f.Value.String()
			}
		}
		return given
	}
}

func newPeerInitCommand() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a directory for a new peer: its key and its configuration",
		Long: `Make a directory for a new peer: a new key (peer.key, readable by its owner only) and a
configuration file (` + peer.FileName + `) with what is set by flags, and all else as comments.

An existing key is never overwritten. The peer needs the genesis file of its network, too.`,
		Example: "  charter peer init --dir ann --name ann --listen 203.0.113.7:7400\n  charter peer init --dir bob --name bob --listen 127.0.0.1:7410 --api 127.0.0.1:7411 --debug 127.0.0.1:7412",
		Args:    cobra.NoArgs,
	}
	given := peerFlags(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the peer in the genesis: a-z, 0-9 and '-' (default: that of the directory)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		settings := given()
		dir := cmd.Flag("dir").Value.String()
		key, err := peer.Init(dir, settings)
		if err != nil {
			return err
		}
		if name == "" {
			if absolute, err := filepath.Abs(dir); err == nil {
				name = strings.ToLower(filepath.Base(absolute))
			}
		}
		address := settings["listen"]
		if address == "" {
			address = "HOST:PORT"
		}
		fmt.Fprintf(cmd.OutOrStdout(), `The peer's key:  %[1]s
Its directory:   %[2]s

In the genesis of a network, where address is where others reach its UDP port:

  charter genesis --peer %[3]s=%[1]s@%[4]s ...

or, in the file itself, with a lock that its fees are paid to as reward:

  {"peer": "%[1]s", "name": "%[3]s", "address": "%[4]s", "reward": ...}

Put the network's genesis file at %[5]s, then:  charter peer run --dir %[2]s
`, key, dir, name, address, filepath.Join(dir, "genesis.json"))
		return nil
	}
	return cmd
}

func newPeerRunCommand() *cobra.Command {
	var keys []string
	for _, o := range peer.Options() {
		keys = append(keys, o.Env())
	}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run a peer until Ctrl-C",
		Long: `Run a peer until Ctrl-C or SIGTERM, which stop it in good order.

Settings come from flags, from the environment, and from ` + peer.FileName + ` in the peer's directory; in this
order the first wins. The environment's are ` + strings.Join(keys, ", ") + `.

The log goes to standard error. The exit status is not 0 if the peer could not start, or had to stop.`,
		Example: "  charter peer run --dir ann\n  CHARTER_PEER_LOG_FORMAT=json charter peer run --dir ann --log-level debug\n  curl -s http://127.0.0.1:7071/metrics",
		Args:    cobra.NoArgs,
	}
	given := peerFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := peer.Load(given(), os.Environ())
		if err != nil {
			return err
		}
		cfg.Version = version()
		log := cfg.Logger(cmd.ErrOrStderr())
		if err := peer.Join(cmd.Context(), cfg, log); err != nil {
			return err
		}
		p, err := peer.Start(cfg, log)
		if err != nil {
			return err
		}
		select {
		case <-cmd.Context().Done():
			log.Info("the peer stops")
		case err = <-p.Failed():
		}
		return errors.Join(err, p.Close())
	}
	return cmd
}

func newPeerStatusCommand() *cobra.Command {
	var api string
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show how a peer is: heights, peers, pool, times to each tier",
		Long:    "Ask a peer how it is, over its API: its heights, the peers that it knows with their shares and\nlags, what waits in its pool, and how long transactions took to each tier.",
		Example: "  charter peer status\n  charter peer status --api http://127.0.0.1:7411 --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Second)
			defer cancel()
			if !strings.Contains(api, "://") {
				api = "http://" + api
			}
			r, err := charterv1connect.NewAgentClient(http.DefaultClient, api).Status(ctx, connect.NewRequest(&v1.StatusRequest{}))
			if err != nil {
				return next(fmt.Errorf("status of the peer at %s: %w", api, err), "is it running, and is this its API? See the first line of its log, and --api")
			}
			if asJSON {
				b, err := protojson.MarshalOptions{EmitDefaultValues: true, UseProtoNames: true}.Marshal(r.Msg)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", b)
				return err
			}
			return printStatus(cmd.OutOrStdout(), r.Msg)
		},
	}
	cmd.Flags().StringVar(&api, "api", "http://127.0.0.1:7070", "URL of the peer's API")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object instead of tables")
	return cmd
}

func printStatus(w io.Writer, s *v1.StatusResponse) error {
	name := s.Name
	if name == "" {
		name = "(not registered)"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }
	row("peer\t%s  %s", name, s.Key)
	row("network\t%s  %s", s.Network, s.Chain)
	row("height\t%d", s.Height)
	row("final\t%d", s.FinalHeight)
	row("certified\t%d", s.CertifiedHeight)
	if s.LowestHeight > 0 {
		row("blocks kept\tfrom height %d on", s.LowestHeight)
	}
	row("pool\t%d transactions, %d bytes", s.PoolTransactions, s.PoolBytes)
	row("connections\t%d, %d watches", s.Connections, s.Watches)
	row("up for\t%s, version %s, %s", (time.Duration(s.UptimeMs) * time.Millisecond).Round(time.Second), s.Version, s.GoVersion)
	if err := t.Flush(); err != nil {
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row("\nPEER\tSHARES\tLAG\tCONNECTED\tROUND TRIP\tADDRESS")
	for _, p := range s.Peers {
		connected, trip := "no", "-"
		switch {
		case p.Key == s.Key:
			connected = "itself"
		case p.Connected:
			connected, trip = "yes", (time.Duration(p.RttUs) * time.Microsecond).String()
		}
		row("%s\t%s\t%d\t%s\t%s\t%s", p.Name, p.Shares, p.Lag, connected, trip, p.Address)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Tiers) == 0 {
		_, err := fmt.Fprintln(w, "\nNo transaction was submitted here since it started.")
		return err
	}
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row("\nSINCE SUBMIT\tTRANSACTIONS\tP50\tP99")
	for _, r := range s.Tiers {
		row("%s\t%d\t%.0f ms\t%.0f ms", strings.ToLower(strings.TrimPrefix(r.Tier.String(), "TIER_")), r.Count, r.P50Ms, r.P99Ms)
	}
	return t.Flush()
}
