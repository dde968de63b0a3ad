package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/proof"
	"charter/types"
)

var (
	_ = enter(newNotariseCommand)
	_ = enter(newVerifyCommand)
)

func newNotariseCommand() *cobra.Command {
	var f walletFlags
	var out, note string
	var force bool
	cmd := &cobra.Command{
		Use:   "notarise FILE",
		Short: "Have all peers record that a document exists, and get the proof",
		Long: `Have all peers record that a document exists, wait until that is final, and write the proof to
FILE` + client.ProofSuffix + `. Only the document's SHA-256 leaves this machine. The proof is one small file that
anybody checks with "charter verify", offline, years later. The wallet pays the fee.`,
		Example: "  charter notarise contract.pdf\n  charter verify contract.pdf.charter --genesis genesis.json",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = args[0] + client.ProofSuffix
			}
			return f.notarise(cmd, args[0], out, note, force)
		},
	}
	f.add(cmd.Flags())
	f.addDespite(cmd.Flags())
	cmd.Flags().StringVar(&out, "out", "", "file for the proof (default: FILE"+client.ProofSuffix+")")
	cmd.Flags().StringVar(&note, "note", "", "a note for the wallet's history (default: the name of the file)")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite the proof of another document, or what else is there")
	return cmd
}

func (f *walletFlags) notarise(cmd *cobra.Command, path, out, note string, force bool) error {
	if note == "" {
		name := filepath.Base(path)
		note = name[:min(len(name), client.MaxNote)]
	}
	p := newProgress(cmd)
	document, err := client.HashFile(cmd.Context(), path, func(done, total int64) {
		p.show("reading %s: %d of %d MB", path, done>>20, total>>20)
	})
	p.end()
	if err != nil {
		return interrupted(err)
	}
	if err := spare(out, document, force); err != nil {
		return err
	}
	c, err := f.open(cmd, toWrite)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Sync(cmd.Context()); err != nil {
		return interrupted(err)
	}
	t := tracker{cmd: cmd, json: f.json, what: path}
	line, file, err := c.Notarise(cmd.Context(), document, note, t.tell)
	if err != nil {
		return interrupted(err)
	}
	v, err := c.Verify(cmd.Context(), file, &document)
	if err != nil {
		return err
	}
	if err := client.WriteFile(out, file, 0o644); err != nil {
		return next(fmt.Errorf("cannot write the proof: %w", err), "`charter wallet history --export %.16s` writes it too", line.ID.String())
	}
	v.Name = path
	return printVerdict(cmd, f.json, v, map[string]any{"kind": "done", "proof": out})
}

// spare keeps what is at the place of the proof, unless that is a proof of the same document.
func spare(out string, document types.Hash, force bool) error {
	data, err := os.ReadFile(out)
	if errors.Is(err, fs.ErrNotExist) || force {
		return nil
	}
	if err == nil {
		if f, err := proof.DecodeFile(data); err == nil {
			if tx, err := types.DecodeTransactionBody(f.Event.Body); err == nil && slices.Contains(tx.Records, types.Record(types.Notarise{Document: document})) {
				return nil
			}
			return next(fmt.Errorf("%s is the proof of another document, perhaps of the same file before it was changed", out), "name another file with --out, or overwrite it with --force")
		}
	}
	return next(fmt.Errorf("%s is there already, and is no proof", out), "name another file with --out, or overwrite it with --force")
}

func printVerdict(cmd *cobra.Command, asJSON bool, v *proof.Verdict, beside map[string]any) error {
	if !asJSON {
		fmt.Fprintln(cmd.OutOrStdout(), v.Sentence())
		return nil
	}
	beside["verified"], beside["sentence"], beside["verdict"] = true, v.Sentence(), v
	return printJSON(cmd.OutOrStdout(), beside)
}

func newVerifyCommand() *cobra.Command {
	var genesis, checkpoint string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify FILE" + client.ProofSuffix + " [FILE]",
		Short: "Check a proof offline, and say what it proves",
		Long: `Check the proof file of a notarised document, or of a payment, offline: against the network's
genesis, or against a checkpoint that you trust. It says in a sentence what is proven, as of
when, and by what share of the company; and fails (exit status 1) if anything does not hold.

Of evidence that a wallet kept (*` + client.EvidenceSuffix + `) it says which peers signed two pasts, with what
share, or which answer of an agent was refused; the genesis tells their names.

The document is FILE, or else what lies next to the proof under the same name without
` + client.ProofSuffix + `. Without the document, the proof speaks of its SHA-256.`,
		Example: `  charter verify contract.pdf.charter --genesis genesis.json
  charter verify payment.charter --checkpoint 8f2a…c1
  CHARTER_GENESIS=genesis.json charter verify proof.charter contract.pdf --json`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if genesis == "" && checkpoint == "" {
				genesis = os.Getenv("CHARTER_GENESIS")
			}
			if strings.HasSuffix(args[0], client.EvidenceSuffix) {
				return verifyEvidence(cmd, args[0], genesis, asJSON)
			}
			v, err := verify(cmd, args, genesis, checkpoint)
			if err != nil && asJSON {
				_ = printJSON(cmd.OutOrStdout(), map[string]any{"verified": false, "error": err.Error()}) // the exit status says it too
				return fmt.Errorf("%w: %w", errSaid, err)
			}
			if err != nil {
				return err
			}
			return printVerdict(cmd, asJSON, v, map[string]any{})
		},
	}
	cmd.Flags().StringVar(&genesis, "genesis", "", "the network's genesis file (environment: CHARTER_GENESIS)")
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "a checkpoint that you trust: its id in hexadecimal, or a file with it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	_ = cmd.MarkFlagFilename("genesis", "json") // fails for a flag that there is not
	return cmd
}

func verify(cmd *cobra.Command, args []string, genesis, checkpoint string) (*proof.Verdict, error) {
	trust, err := client.ReadTrust(genesis, checkpoint)
	if err != nil {
		return nil, err
	}
	file, err := readProof(args[0])
	if err != nil {
		return nil, err
	}
	v, err := client.VerifyProof(file, trust, nil)
	if err != nil {
		return nil, err
	}
	name := ""
	if len(args) == 2 {
		name = args[1]
	} else if beside, ok := strings.CutSuffix(args[0], client.ProofSuffix); ok && len(v.Documents) > 0 {
		if _, err := os.Stat(beside); err == nil {
			name = beside
		}
	}
	if name == "" {
		return v, nil
	}
	p := newProgress(cmd)
	document, err := client.HashFile(cmd.Context(), name, func(done, total int64) {
		p.show("reading %s: %d of %d MB", name, done>>20, total>>20)
	})
	p.end()
	if err != nil {
		return nil, interrupted(err)
	}
	about := v.Documents
	if v, err = client.VerifyProof(file, trust, &document); proof.IsKind(err, proof.WrongDocument) {
		if len(about) == 0 {
			return nil, next(fmt.Errorf("%s proves a payment, and notarises no document", args[0]), "leave out %s", name)
		}
		return nil, next(fmt.Errorf("%s is not the document that this proof is about: it was changed, or is another one; its SHA-256 is %s, and the proof is about %s", name, document, about[0]),
			"name the right one as the second argument")
	}
	if err == nil {
		v.Name = name
	}
	return v, err
}

// verifyEvidence says what a wallet's evidence shows.
func verifyEvidence(cmd *cobra.Command, path, genesis string, asJSON bool) error {
	var g *types.Genesis
	if genesis != "" {
		var err error
		if g, err = client.ReadGenesis(genesis); err != nil {
			return err
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read the evidence: %w", err)
	}
	v, err := client.DecodeEvidence(data)
	if err != nil {
		return err
	}
	said := map[string]any{"kind": "record"}
	if v.Lie != nil {
		said["sentence"], said["agent"], said["fault"] = v.Lie.Sentence(), v.Lie.Agent, v.Lie.Kind.String()
	} else {
		found, err := v.Verify(g)
		if err != nil {
			return err
		}
		said["kind"], said["sentence"], said["verified"], said["conflict"] = "conflict", found.Sentence(), true, found
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), said)
	}
	fmt.Fprintln(cmd.OutOrStdout(), said["sentence"])
	return nil
}

// readProof reads a file that may be far too large to be a proof.
func readProof(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > proof.MaxSize {
		return nil, next(fmt.Errorf("%s has %d bytes: this is no proof file", path, info.Size()), "a proof ends in %s", client.ProofSuffix)
	}
	var file []byte
	if err == nil {
		file, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the proof: %w", err)
	}
	return file, nil
}
