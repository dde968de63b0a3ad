package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"charter/types"
	"charter/wallet"
)

func newPeerListCommand() *cobra.Command {
	var f walletFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the registered peers, proven: shares, weight, presence, standing",
		Long: `List the registered peers as the ledger has them, each line proven to the wallet:

  SHARES     registered with it now; its owners', whatever the peer does
  WEIGHT     in the newest snapshot: what it decides with
  PRESENT    heights of the last period at which others named a block of it at once
  WITNESSES  how many peers did so
  FEES       earned and not paid out yet
  STANDING   good; absent: the snapshot left it out because it was hardly there, till the next;
             offended: evidence was published, so it has no weight until shareholders reinstate it`,
		Example: "  charter peer list --wallet ann.wallet\n  charter peer list --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.listPeers(cmd) },
	}
	f.add(cmd.Flags())
	return cmd
}

// standingWord says how a peer stands.
func standingWord(p *types.PeerState) string {
	s := &p.Standing
	switch {
	case s.Offended > 0:
		return fmt.Sprintf("offended at height %d", s.Offended)
	case s.Absent > 0 && s.Weight == 0:
		return fmt.Sprintf("absent at height %d", s.Absent)
	case s.Cleared > 0:
		return fmt.Sprintf("good, reinstated at height %d", s.Cleared)
	case s.Weight == 0:
		return "no weight yet"
	}
	return "good"
}

func (f *walletFlags) provenPeers(cmd *cobra.Command) (list []types.PeerState, at wallet.AsOf, err error) {
	c, err := f.open(cmd, toLook)
	if err != nil {
		return nil, at, err
	}
	defer c.Close()
	if list, at, err = c.Peers(cmd.Context()); err != nil {
		return nil, at, interrupted(err)
	}
	warn(cmd, c)
	return list, at, nil
}

func (f *walletFlags) listPeers(cmd *cobra.Command) error {
	list, at, err := f.provenPeers(cmd)
	if err != nil {
		return err
	}
	if f.json {
		for i := range list {
			if err := printJSON(cmd.OutOrStdout(), peerJSON(&list[i], at)); err != nil {
				return err
			}
		}
		return nil
	}
	out := cmd.OutOrStdout()
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPEER\tSHARES\tWEIGHT\tPRESENT\tWITNESSES\tFEES\tSTANDING")
	for i := range list {
		p := &list[i]
		fmt.Fprintf(t, "%s\t%s…\t%s\t%s\t%d\t%d\t%s\t%s\n", p.Name, p.Peer.Short(), p.Shares, p.Standing.Weight, p.Standing.Present, p.Standing.Witnesses, p.Fees, standingWord(p))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "Proven as of %s.\n", when(at))
	return nil
}

func peerJSON(p *types.PeerState, at wallet.AsOf) map[string]any {
	s := &p.Standing
	return map[string]any{
		"kind": "peer", "peer": p.Peer, "name": p.Name, "address": p.Address, "reward": p.Reward, "shares": p.Shares, "fees": p.Fees,
		"weight": s.Weight, "since": s.Since, "present": s.Present, "witnesses": s.Witnesses, "absent_at": s.Absent,
		"offences": s.Offences, "offended_at": s.Offended, "reinstated_at": s.Cleared, "standing": standingWord(p), "height": at.Height, "time_ms": at.Time,
	}
}

// findPeer is the registered peer with this name, key, or beginning of a key.
func findPeer(list []types.PeerState, name string) (*types.PeerState, error) {
	var found []*types.PeerState
	for i := range list {
		if p := &list[i]; p.Name == name || len(name) >= 4 && strings.HasPrefix(p.Peer.String(), name) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		return nil, next(fmt.Errorf("%d registered peers are called %q", len(found), name), "see: charter peer list; give a name, or a key")
	}
	return found[0], nil
}
