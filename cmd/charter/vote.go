package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/types"
)

var _ = enter(newVoteCommand)

func newVoteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "vote",
		Short:   "Vote with shares",
		Example: "  charter vote reinstate peer-3 --wallet ann.wallet",
		Long:    `Vote with the shares of a wallet. A vote is a signature by the keys of its outputs: it spends nothing.`,
	}
	cmd.AddCommand(newVoteReinstateCommand())
	return cmd
}

// voteFlags are those of `charter vote reinstate`.
type voteFlags struct {
	walletFlags
	ballots []string
	out     string
	publish bool
}

func newVoteReinstateCommand() *cobra.Command {
	var f voteFlags
	cmd := &cobra.Command{
		Use:   "reinstate PEER",
		Short: "Vote to give a peer its weight back that was marked for an offence",
		Long: `Vote to give a peer its weight back that was marked for an offence. More than half of all shares must vote, in
one transaction: each owner signs a ballot (--out), and one of them collects the others' (--ballot, repeated) and publishes
all with its own (--publish). An output that was spent since it voted counts nothing. The peer has weight again from the
next snapshot on; another offence needs another vote.`,
		Example: `  charter vote reinstate dora --out ann.ballot
  charter vote reinstate dora --ballot ann.ballot --ballot ben.ballot --publish`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.out == "") == !f.publish || len(f.ballots) > 0 && !f.publish {
				return misuse(cmd, fmt.Errorf("give --out to make a ballot, or --publish, with others' by --ballot"))
			}
			return f.vote(cmd, args[0])
		},
	}
	f.add(cmd.Flags())
	f.addDespite(cmd.Flags())
	cmd.Flags().StringArrayVar(&f.ballots, "ballot", nil, "file with another owner's ballot; may be repeated")
	cmd.Flags().StringVarP(&f.out, "out", "o", "", "write the wallet's ballot to this file")
	cmd.Flags().BoolVar(&f.publish, "publish", false, "publish all ballots; the wallet pays the fee")
	return cmd
}

func (f *voteFlags) vote(cmd *cobra.Command, name string) error {
	c, err := f.open(cmd, toWrite)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Sync(cmd.Context()); err != nil {
		return interrupted(err)
	}
	list, _, err := c.Peers(cmd.Context())
	if err != nil {
		return interrupted(err)
	}
	p, err := findPeer(list, name)
	if err != nil {
		return err
	}
	if p.Standing.Offended == 0 {
		return next(fmt.Errorf("peer %s is not marked: %s", p.Name, standingWord(p)), "there is nothing to vote on")
	}
	own, shares, err := c.Ballot(p.Peer, p.Standing.Offences)
	if err != nil {
		return err
	}
	if f.out != "" {
		if err := os.WriteFile(f.out, own.Encode(), 0o644); err != nil {
			return fmt.Errorf("cannot write the ballot: %w", err)
		}
		return f.tell(cmd, map[string]any{"kind": "ballot", "peer": p.Peer, "offence": p.Standing.Offences, "shares": shares, "outputs": len(own.Outputs), "file": f.out},
			"%s votes with %s shares to reinstate %s after offence %d.\n", f.out, shares, p.Name, p.Standing.Offences)
	}
	return f.collect(cmd, c, p, own)
}

// collect publishes the wallet's ballot with the others'.
func (f *voteFlags) collect(cmd *cobra.Command, c *client.Client, p *types.PeerState, own types.Ballot) error {
	r := types.Reinstate{Peer: p.Peer, Offences: p.Standing.Offences, Ballots: []types.Ballot{own}}
	for _, path := range f.ballots {
		data, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("cannot read the ballot: %w", err)
		}
		b, err := types.DecodeBallot(data)
		if err != nil {
			return next(fmt.Errorf("%s is no ballot: %w", path, err), "make it by charter vote reinstate --out")
		}
		r.Ballots = append(r.Ballots, b)
	}
	r.Sort()
	t := tracker{cmd: cmd, json: f.json, what: "the vote on " + p.Name}
	line, err := c.Reinstate(cmd.Context(), r, "vote to reinstate "+p.Name, t.tell)
	if err != nil {
		return interrupted(err)
	}
	return f.tell(cmd, map[string]any{"kind": "done", "peer": p.Peer, "transaction": line.ID}, "Peer %s is reinstated, from the next snapshot on.\n", p.Name)
}

func (f *voteFlags) tell(cmd *cobra.Command, fields map[string]any, format string, args ...any) error {
	if f.json {
		return printJSON(cmd.OutOrStdout(), fields)
	}
	fmt.Fprintf(cmd.OutOrStdout(), format, args...)
	return nil
}
