package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/types"
)

var _ = enter(newEvidenceCommand)

func newEvidenceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Export, publish and verify what peers did against the rules",
		Long: `Evidence of an offence is what a peer signed, and should not have: two blocks behind one of its own (a fork), votes
for two checkpoints of one height, or for a false one, or a block with a false sample. Anybody can publish it, without shares
or fee: from the next snapshot on the peer has no weight, until shareholders reinstate it (charter vote reinstate).
Peers publish by themselves what they come upon.`,
		Example: `  charter evidence export evidence-*` + client.EvidenceSuffix + ` --genesis genesis.json
  charter evidence verify two-votes-8f2ac1d0` + client.OffenceSuffix + ` --genesis genesis.json
  charter evidence publish two-votes-8f2ac1d0` + client.OffenceSuffix + ` --genesis genesis.json --agent http://127.0.0.1:7070
  charter evidence list --wallet ann.wallet`,
	}
	cmd.AddCommand(newEvidenceExportCommand(), newEvidencePublishCommand(), newEvidenceVerifyCommand(), newEvidenceListCommand())
	return cmd
}

// offenceFlags are those of commands on evidence that need no wallet.
type offenceFlags struct {
	genesis, agent string
	json           bool
}

func (f *offenceFlags) add(cmd *cobra.Command, agent string) {
	cmd.Flags().StringVar(&f.genesis, "genesis", os.Getenv("CHARTER_GENESIS"), "the network's genesis file (environment: CHARTER_GENESIS)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON, one object a line")
	if agent != "" {
		cmd.Flags().StringVar(&f.agent, "agent", os.Getenv(agentVariable), agent+" (environment: "+agentVariable+")")
	}
	_ = cmd.MarkFlagFilename("genesis", "json") // fails for a flag that there is not
}

func (f *offenceFlags) read(cmd *cobra.Command) (*types.Genesis, error) {
	if f.genesis == "" {
		return nil, misuse(cmd, fmt.Errorf("--genesis is needed: evidence is of one network"))
	}
	return client.ReadGenesis(f.genesis)
}

func newEvidenceExportCommand() *cobra.Command {
	var f offenceFlags
	var out, transaction string
	cmd := &cobra.Command{
		Use:     "export [FILE" + client.EvidenceSuffix + "]...",
		Example: "  charter evidence export evidence-7-0a1b2c3d" + client.EvidenceSuffix,
		Short:   "Make evidence that anybody can publish",
		Long: `Make evidence that anybody can publish, one file for each offender: from what a wallet kept when it was shown two
certified pasts, or from a transaction that has published it already (--transaction, of an agent).
What an agent only said is not signed, and is no evidence to others.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (transaction == "") == (len(args) == 0) {
				return misuse(cmd, fmt.Errorf("name files that a wallet kept, or --transaction"))
			}
			return f.export(cmd, args, transaction, out)
		},
	}
	f.add(cmd, "URL of an agent, for --transaction")
	cmd.Flags().StringVar(&transaction, "transaction", "", "id of a transaction that published evidence")
	cmd.Flags().StringVarP(&out, "out", "o", ".", "directory for the files")
	return cmd
}

func (f *offenceFlags) export(cmd *cobra.Command, files []string, transaction, dir string) error {
	g, err := f.read(cmd)
	if err != nil {
		return err
	}
	var found []client.Offence
	if transaction != "" {
		if found, err = f.published(cmd, g, transaction); err != nil {
			return err
		}
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("cannot read the evidence: %w", err)
		}
		v, err := client.DecodeEvidence(data)
		if err != nil {
			return err
		}
		offences, err := v.Offences(g)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		found = append(found, offences...)
	}
	for i := range found {
		r := &found[i].Evidence
		path := filepath.Join(dir, strings.ReplaceAll(r.Offence.String(), " ", "-")+"-"+r.Offender().Short()+client.OffenceSuffix)
		if err := os.WriteFile(path, found[i].Encode(), 0o644); err != nil {
			return fmt.Errorf("cannot keep the evidence: %w", err)
		}
		if err := f.say(cmd, path, &found[i], g, map[string]any{"kind": "exported"}); err != nil {
			return err
		}
	}
	return nil
}

// published is the evidence in a transaction, by the proof of it.
func (f *offenceFlags) published(cmd *cobra.Command, g *types.Genesis, transaction string) ([]client.Offence, error) {
	var id types.Hash
	if err := id.UnmarshalText([]byte(transaction)); err != nil {
		return nil, misuse(cmd, fmt.Errorf("--transaction: %w", err))
	}
	file, err := client.FetchProof(cmd.Context(), f.agent, id)
	if err != nil {
		return nil, interrupted(err)
	}
	return client.OffencesIn(file, g)
}

// say tells of one offence.
func (f *offenceFlags) say(cmd *cobra.Command, path string, o *client.Offence, g *types.Genesis, beside map[string]any) error {
	if !f.json {
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", path, o.Sentence(g))
		return nil
	}
	beside["file"], beside["offence"], beside["peer"], beside["height"] = path, o.Evidence.Offence.String(), o.Evidence.Offender(), o.Evidence.Height()
	beside["sentence"] = o.Sentence(g)
	return printJSON(cmd.OutOrStdout(), beside)
}

// offence reads an offence file, which may be far too large to be one, and the genesis of its network.
func (f *offenceFlags) offence(cmd *cobra.Command, path string) (*client.Offence, *types.Genesis, error) {
	g, err := f.read(cmd)
	if err != nil {
		return nil, nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the evidence: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, 2*types.MaxTransaction))
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the evidence: %w", err)
	}
	o, err := client.DecodeOffence(data)
	return o, g, err
}

func newEvidenceVerifyCommand() *cobra.Command {
	var f offenceFlags
	cmd := &cobra.Command{
		Use:     "verify FILE" + client.OffenceSuffix,
		Example: "  charter evidence verify peer-3" + client.OffenceSuffix + " --genesis genesis.json",
		Short:   "Check evidence offline, and say what it shows",
		Long: `Check evidence offline: that the peer signed all of it, and that it shows an offence. A fork and two votes are
then proven. Of a false vote and a false sample the ledger has the last word, as it knows the checkpoint, and the output that was drawn.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, g, err := f.offence(cmd, args[0])
			if err != nil {
				return err
			}
			proven, err := o.Verify(g)
			if err != nil {
				return err
			}
			return f.say(cmd, args[0], o, g, map[string]any{"kind": "verified", "proven": proven})
		},
	}
	f.add(cmd, "")
	return cmd
}

func newEvidencePublishCommand() *cobra.Command {
	var f offenceFlags
	cmd := &cobra.Command{
		Use:     "publish FILE" + client.OffenceSuffix,
		Example: "  charter evidence publish peer-3" + client.OffenceSuffix + " --genesis genesis.json --agent http://127.0.0.1:7070",
		Short:   "Give evidence to a peer, which puts it into a block",
		Long: `Give evidence to a peer, which puts it into a block of its own. It costs nothing, and takes effect once for an
offender. Whether it has: charter evidence list.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, g, err := f.offence(cmd, args[0])
			if err != nil {
				return err
			}
			id, err := o.Publish(cmd.Context(), f.agent, g)
			if err != nil {
				return interrupted(err)
			}
			if err := f.say(cmd, args[0], o, g, map[string]any{"kind": "published", "transaction": id}); err != nil || f.json {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "The agent at %s has it, as transaction %s.\n", f.agent, id)
			return nil
		},
	}
	f.add(cmd, "URL of the agent")
	return cmd
}

func newEvidenceListCommand() *cobra.Command {
	var f walletFlags
	cmd := &cobra.Command{
		Use:     "list",
		Long:    "List the peers of which evidence was published, what of, and since when they have no weight; each proven by the\npeers tree under a certified checkpoint.",
		Example: "  charter evidence list --wallet ann.wallet",
		Short:   "List the peers that evidence was published of, proven",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			list, at, err := f.provenPeers(cmd)
			if err != nil {
				return err
			}
			out, n := cmd.OutOrStdout(), 0
			for i := range list {
				p := &list[i]
				if p.Standing.Offences == 0 {
					continue
				}
				if n++; f.json {
					if err := printJSON(out, peerJSON(p, at)); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(out, "%s (%s): %d offences, %s\n", p.Name, p.Peer, p.Standing.Offences, standingWord(p))
			}
			if !f.json {
				fmt.Fprintf(out, "%d of %d peers were ever marked. Proven as of %s.\n", n, len(list), when(at))
			}
			return nil
		},
	}
	f.add(cmd.Flags())
	return cmd
}
