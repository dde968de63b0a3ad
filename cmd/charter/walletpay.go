package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"charter/client"
	"charter/types"
	"charter/wallet"
)

// payFlags are those of `charter wallet pay`.
type payFlags struct {
	until, note, proof string
	again, yes         bool
}

func newPayCommand(f *walletFlags) *cobra.Command {
	var p payFlags
	cmd := &cobra.Command{
		Use:   "pay ADDRESS AMOUNT",
		Short: "Pay an amount of shares to an address",
		Long: `Pay an amount of shares to an address, and wait until the payment has come to a tier:

  known      a block has it
  selected   peers with more than a third of the shares build on that block
  official   peers with more than half of the shares do
  final      its place is decided for ever, and the wallet has the proof

All but the last are the agent's word. The payment is kept on disk before it is sent: after
Ctrl-C it goes on when the wallet is next used. Asking for the same amount to the same address
again does not pay again, unless with --again.`,
		Example: `  charter wallet pay ch1… 12.5
  charter wallet pay ch1… 12.5 --until final --proof payment.charter --note "rent, May"`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return f.pay(cmd, &p, args[0], args[1]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&p.until, "until", "official", "tier to wait for: known, selected, official or final")
	fl.StringVar(&p.note, "note", "", "a note for your own history")
	fl.StringVar(&p.proof, "proof", "", "wait until the payment is final, and write its proof to this file")
	fl.BoolVar(&p.again, "again", false, "pay once more, though the same amount was paid to this address before")
	f.addDespite(fl)
	fl.BoolVarP(&p.yes, "yes", "y", false, "do not ask at the terminal")
	completeWords(cmd, "until", "known", "selected", "official", "final")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

func completeWords(cmd *cobra.Command, flag string, words ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)) // fails for a flag that there is not
}

func parseTier(s string) (wallet.Tier, error) {
	for t := wallet.Known; t <= wallet.Final; t++ {
		if t.String() == s {
			return t, nil
		}
	}
	return 0, fmt.Errorf("--until %q: want known, selected, official or final", s)
}

func (f *walletFlags) pay(cmd *cobra.Command, p *payFlags, address, amount string) error {
	until, err := parseTier(p.until)
	if err != nil {
		return misuse(cmd, err)
	}
	if len(p.note) > client.MaxNote {
		return misuse(cmd, fmt.Errorf("--note has %d bytes, and may have %d", len(p.note), client.MaxNote))
	}
	value, err := types.ParseAmount(amount)
	if err != nil {
		return next(err, "amounts are exact: digits, and at most %d decimals", types.Decimals)
	}
	if p.proof != "" {
		until = wallet.Final
		if _, err := os.Stat(p.proof); err == nil {
			return next(fmt.Errorf("%s is there already", p.proof), "name another file for the proof")
		}
	}
	c, err := f.open(cmd, toWrite)
	if err != nil {
		return err
	}
	defer c.Close()
	to, err := c.ParseAddress(address)
	if err != nil {
		return err
	}
	if err := c.Sync(cmd.Context()); err != nil {
		return interrupted(err)
	}
	if err := f.confirm(cmd, p, c, value, address); err != nil {
		return err
	}
	t := tracker{cmd: cmd, json: f.json, what: fmt.Sprintf("%s shares to %s…%s", value, address[:10], address[len(address)-6:])}
	line, err := c.Pay(cmd.Context(), client.Payment{To: to, Amount: value, Note: p.note, Once: !p.again, Until: until}, t.tell)
	if err != nil {
		return interrupted(err)
	}
	if p.proof != "" {
		if err := exportProof(cmd, c, line.ID, p.proof); err != nil {
			return err
		}
	}
	return t.done(line)
}

func (f *walletFlags) confirm(cmd *cobra.Command, p *payFlags, c *client.Client, value types.Amount, address string) error {
	if _, typed := terminal(cmd); !typed || p.yes {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Pay %s of %s shares to %s? [y/N] ", value, c.Balance().Available, address)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return next(errors.New("nothing was paid"), "answer y, or give --yes")
	}
	return nil
}

func exportProof(cmd *cobra.Command, c *client.Client, id types.Hash, path string) error {
	file, err := c.Proof(id)
	if err != nil {
		return err
	}
	if err := client.WriteFile(path, file, 0o644); err != nil {
		return next(fmt.Errorf("cannot write the proof: %w", err), "`charter wallet history --export %.16s` writes it again", id.String())
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "proof written to %s; `charter verify %s --genesis FILE` checks it\n", path, path)
	return nil
}

// tracker shows a transaction on its way.
type tracker struct {
	cmd     *cobra.Command
	json    bool
	what    string
	begun   bool
	trouble string
}

type tierJSON struct {
	Kind    string     `json:"kind"`
	ID      types.Hash `json:"transaction"`
	Tier    string     `json:"tier,omitempty"`
	Proven  bool       `json:"proven"`
	AfterMs float64    `json:"after_ms"`
	Height  uint64     `json:"height,omitempty"`
	Trouble string     `json:"trouble,omitempty"`
}

func (t *tracker) tell(p client.Progress) {
	out := t.cmd.OutOrStdout()
	if t.json {
		j := tierJSON{Kind: "tier", ID: p.ID, Tier: p.Tier.String(), Proven: p.Proven, AfterMs: float64(p.After.Microseconds()) / 1000, Height: p.Height}
		if p.Trouble != nil {
			j.Kind, j.Trouble = "trouble", p.Trouble.Error()
		}
		_ = printJSON(out, j) // nobody reads: the transaction goes on all the same
		return
	}
	if !t.begun {
		t.begun = true
		word := "transaction"
		if p.Resumed {
			word = "the same as before: transaction"
		}
		fmt.Fprintf(out, "%s, %s %s\n", t.what, word, p.ID)
	}
	switch {
	case p.Trouble != nil:
		if s := p.Trouble.Error(); s != t.trouble { // once, not each second
			t.trouble = s
			fmt.Fprintf(t.cmd.ErrOrStderr(), "charter: %s; still trying, Ctrl-C loses nothing\n", s)
		}
	case p.Proven && p.After == 0:
		fmt.Fprintf(out, "  final, proven: height %d\n", p.Height)
	case p.Proven:
		fmt.Fprintf(out, "  %-9s %8s  proven: height %d\n", "final", seconds(p.After), p.Height)
	default:
		fmt.Fprintf(out, "  %-9s %8s\n", p.Tier, seconds(p.After))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

func (t *tracker) done(l client.Line) error {
	if t.json {
		return printJSON(t.cmd.OutOrStdout(), viewLine("done", l))
	}
	if l.Status == wallet.Open {
		fmt.Fprintln(t.cmd.OutOrStdout(), "by the agent's word; `charter wallet history` has the proof once it is final")
	}
	return nil
}

type lineJSON struct {
	Kind      string       `json:"kind"`
	ID        types.Hash   `json:"transaction"`
	Direction string       `json:"direction"`
	Amount    types.Amount `json:"amount"`
	Fee       types.Amount `json:"fee"`
	To        []types.Key  `json:"to,omitempty"`
	Document  *types.Hash  `json:"document,omitempty"`
	Note      string       `json:"note,omitempty"`
	Status    string       `json:"status"`
	Tier      string       `json:"tier"`
	Reason    string       `json:"reason,omitempty"`
	Made      types.Millis `json:"made_ms"`
	Height    uint64       `json:"height,omitempty"`
	Time      types.Millis `json:"time_ms,omitempty"`
	Proof     bool         `json:"proof"`
}

func viewLine(kind string, l client.Line) lineJSON {
	return lineJSON{kind, l.ID, l.Direction, l.Amount, l.Fee, l.To, l.Document, l.Note, l.Status.String(), l.Tier.String(), l.Reason, l.Made, l.Height, l.Time, l.HasProof}
}

// state is how far a transaction has come, in words.
func state(l client.Line) string {
	switch {
	case l.Status == wallet.Open && l.Tier == wallet.Made:
		return "sent"
	case l.Status == wallet.Open:
		return l.Tier.String() + "?"
	case l.Status == wallet.Applied:
		return "final"
	case l.Reason != "":
		return "rejected: " + l.Reason
	}
	return l.Status.String()
}

func newHistoryCommand(f *walletFlags) *cobra.Command {
	var export, out string
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the wallet's transactions, or write the proof of one",
		Long: `List the wallet's transactions, oldest first. A state with a question mark is the agent's word; final and
rejected are proven, and the wallet keeps the proof file: --export writes it, for others to verify.`,
		Example: "  charter wallet history\n  charter wallet history --export 61c9bcf3 --out payment.charter",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withSynced(cmd, func(c *client.Client) error {
				if export == "" {
					return f.printHistory(cmd, c)
				}
				l, err := c.Find(export)
				if err != nil {
					return err
				}
				if out == "" {
					out = l.ID.String()[:16] + client.ProofSuffix
				}
				if _, err := os.Stat(out); err == nil {
					return next(fmt.Errorf("%s is there already", out), "name another file with --out")
				}
				return exportProof(cmd, c, l.ID, out)
			})
		},
	}
	cmd.Flags().StringVar(&export, "export", "", "id of a transaction, or its beginning: write its proof file")
	cmd.Flags().StringVar(&out, "out", "", "file for --export (default: the id"+client.ProofSuffix+")")
	return cmd
}

func (f *walletFlags) printHistory(cmd *cobra.Command, c *client.Client) error {
	lines, at := c.History(), c.Balance().AsOf
	fmt.Fprintf(cmd.ErrOrStderr(), "as of %s\n", when(at))
	if f.json {
		for _, l := range lines {
			if err := printJSON(cmd.OutOrStdout(), viewLine("transaction", l)); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WHEN\tSTATE\tHEIGHT\tWAY\tAMOUNT\tFEE\tTRANSACTION\tNOTE")
	for _, l := range lines {
		fmt.Fprintln(t, historyRow(l))
	}
	return t.Flush()
}

func historyRow(l client.Line) string {
	when, height := l.Made, "-"
	if l.Height > 0 {
		when, height = l.Time, fmt.Sprint(l.Height)
	}
	return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", when.Time().Format(time.DateTime), state(l), height, l.Direction, l.Amount, l.Fee, l.ID.String()[:16], printable(l.Note))
}

// printable keeps a note from moving the cursor.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '·'
		}
		return r
	}, s)
}

func newWatchCommand(f *walletFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "watch",
		Short:   "Show what happens to the wallet, as it happens",
		Long:    "Show what happens to the wallet, as it happens, until Ctrl-C. The file is neither locked nor written:\nother commands can use the wallet meanwhile.",
		Example: "  charter wallet watch\n  charter wallet watch --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.open(cmd, toRead)
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Watch(cmd.Context(), func(n client.News) { f.printNews(cmd, n) })
		},
	}
}

func (f *walletFlags) printNews(cmd *cobra.Command, n client.News) {
	out := cmd.OutOrStdout()
	if f.json {
		_ = printJSON(out, viewNews(n)) // who does not read will end us
		return
	}
	switch {
	case n.Line != nil:
		fmt.Fprintf(out, "%s\n", strings.ReplaceAll(historyRow(*n.Line), "\t", "  "))
	case n.Balance != nil:
		fmt.Fprintf(out, "balance %s shares, %s can be spent now; proven as of height %d\n", n.Balance.Final, n.Balance.Available, n.Balance.AsOf.Height)
	case n.Trouble != nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "charter: %v; still trying\n", n.Trouble)
	}
}

func viewNews(n client.News) any {
	switch {
	case n.Line != nil:
		return viewLine("transaction", *n.Line)
	case n.Balance != nil:
		return struct {
			Kind string `json:"kind"`
			balanceJSON
		}{"balance", viewBalance(*n.Balance)}
	case n.Trouble != nil:
		return map[string]any{"kind": "trouble", "trouble": n.Trouble.Error()}
	}
	return map[string]any{"kind": "height", "height": n.Height}
}

// progress is one line on a terminal that is written over, for what takes long.
type progress struct {
	out   io.Writer // nil: nobody looks
	shown time.Time
}

func newProgress(cmd *cobra.Command) *progress {
	if f, ok := cmd.ErrOrStderr().(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &progress{out: f}
	}
	return &progress{}
}

func (p *progress) show(format string, args ...any) {
	if p.out != nil && time.Since(p.shown) > 100*time.Millisecond {
		p.shown = time.Now()
		fmt.Fprintf(p.out, "\r\x1b[K"+format, args...)
	}
}

func (p *progress) end() {
	if p.out != nil && !p.shown.IsZero() {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
