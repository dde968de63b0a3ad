package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"charter/client"
	"charter/seal"
	"charter/types"
	"charter/wallet"
)

var _ = enter(newWalletCommand)

// walletFlags are those of all commands that open a wallet.
type walletFlags struct {
	path, passphraseFile  string
	noPassphrase, json    bool
	agent, genesis, chain string
	peers, also           []string
	despite               bool
	work                  int
}

const walletVariable, passphraseVariable, agentVariable = "CHARTER_WALLET", "CHARTER_PASSPHRASE", "CHARTER_AGENT"

func (f *walletFlags) add(fl *pflag.FlagSet) {
	fl.StringVarP(&f.path, "wallet", "w", defaultWallet(), "the wallet's file (environment: "+walletVariable+")")
	fl.StringVar(&f.passphraseFile, "passphrase-file", "", "file whose first line is the passphrase (or environment: "+passphraseVariable+"); else it is asked for")
	fl.StringVar(&f.agent, "agent", os.Getenv(agentVariable), "URL of the agent, the peer that serves the wallet; kept for the next time (environment: "+agentVariable+")")
	fl.StringSliceVar(&f.peers, "peers", nil, "URLs of other agents, to compare checkpoints with, and to turn to if the agent lies or is gone; kept in the wallet")
	fl.StringArrayVar(&f.also, "also", nil, "URL of one more such agent; may be repeated")
	fl.StringVar(&f.genesis, "genesis", "", "the network's genesis file")
	fl.StringVar(&f.chain, "chain", "", "id of the network's chain, in place of its genesis file")
	fl.BoolVar(&f.json, "json", false, "print JSON, one object a line")
}

func defaultWallet() string {
	if path := os.Getenv(walletVariable); path != "" {
		return path
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "wallet"
	}
	return filepath.Join(home, ".charter", "wallet")
}

func newWalletCommand() *cobra.Command {
	var f walletFlags
	cmd := &cobra.Command{
		Use:   "wallet",
		Short: "Keep shares, pay and be paid",
		Long: `Keep shares, pay and be paid.

A wallet is one encrypted file; twenty-four words restore it. It believes nothing that its
agent says, but checks it by proofs from the genesis on; tiers below final are shown as the
agent's word. The passphrase is asked for, or comes from --passphrase-file, or from
` + passphraseVariable + `. The network is given once, when the wallet is made.`,
		Example: `  charter wallet create --agent http://127.0.0.1:7070 --genesis genesis.json
  charter wallet address
  charter wallet pay ch1… 12.5 --until final
  charter wallet history`,
	}
	f.add(cmd.PersistentFlags())
	_ = cmd.MarkPersistentFlagFilename("genesis", "json") // fails for a flag that there is not
	cmd.AddCommand(newCreateCommand(&f), newRestoreCommand(&f), newAddressCommand(&f), newBalanceCommand(&f),
		newPayCommand(&f), newHistoryCommand(&f), newWatchCommand(&f))
	return cmd
}

// config is what the flags say, without the passphrase.
func (f *walletFlags) config(cmd *cobra.Command) (c client.Config, err error) {
	c = client.Config{Path: f.path, Agent: f.agent, LockWait: 3 * time.Second, Work: f.work, DespiteConflict: f.despite}
	c.Others = slices.Concat(f.peers, f.also)
	c.Caught = func(fault client.Fault) { fmt.Fprintf(cmd.ErrOrStderr(), "charter: %s\n", caughtLine(fault)) }
	if f.genesis != "" {
		if c.Genesis, err = client.ReadGenesis(f.genesis); err != nil {
			return c, err
		}
	}
	if f.chain != "" {
		if err := c.Chain.UnmarshalText([]byte(f.chain)); err != nil {
			return c, misuse(cmd, fmt.Errorf("--chain: %w", err))
		}
		if c.Genesis != nil && c.Genesis.ChainID() != c.Chain {
			return c, misuse(cmd, fmt.Errorf("wrong network: the genesis is of chain %.16s…, and --chain says another", c.Genesis.ChainID().String()))
		}
	}
	return c, nil
}

// caughtLine says what an agent was caught at, in one line.
func caughtLine(f client.Fault) string {
	line := fmt.Sprintf("agent %s, %s: %v", f.Agent, f.Kind, f.Err)
	if f.Evidence != "" {
		line += "; kept in " + f.Evidence
	}
	if f.Next != "" {
		line += "; going on with " + f.Next
	}
	return line
}

// addDespite is the flag of what deals.
func (f *walletFlags) addDespite(fl *pflag.FlagSet) {
	fl.BoolVar(&f.despite, "despite-conflict", false, "deal though the wallet has evidence of two certified pasts")
}

// warn says that there are two pasts, if there are.
func warn(cmd *cobra.Command, c *client.Client) {
	for _, k := range c.Conflicts() {
		fmt.Fprintf(cmd.ErrOrStderr(), "charter: two checkpoints of height %d are certified: what is shown may be of a past that others do not have; see: charter verify %s\n", k.Height, k.Evidence)
	}
}

// How a command opens the wallet.
type access int

const (
	toWrite access = iota // alone
	toLook                // alone if that can be, else without writing
	toRead                // beside others, without writing
)

// open opens the wallet, and asks for its passphrase if it has one.
func (f *walletFlags) open(cmd *cobra.Command, how access) (*client.Client, error) {
	c, err := f.config(cmd)
	if err != nil {
		return nil, err
	}
	sealed, err := client.Sealed(f.path)
	if err != nil {
		return nil, err
	}
	if sealed {
		if c.Passphrase, err = f.passphrase(cmd, "Passphrase of "+f.path+": "); err != nil {
			return nil, err
		}
	}
	if c.ReadOnly = how == toRead; how == toLook {
		c.LockWait = 0
	}
	w, err := client.Open(c)
	if how == toLook && client.IsKind(err, client.InUse) {
		c.ReadOnly = true
		return client.Open(c)
	}
	return w, err
}

// passphrase comes from the flag's file, the environment, or the terminal.
func (f *walletFlags) passphrase(cmd *cobra.Command, prompt string) (string, error) {
	if f.passphraseFile != "" {
		data, err := os.ReadFile(f.passphraseFile)
		if err != nil {
			return "", fmt.Errorf("cannot read the passphrase: %w", err)
		}
		line, _, _ := strings.Cut(string(data), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	}
	if p := os.Getenv(passphraseVariable); p != "" {
		return p, nil
	}
	if fd, ok := terminal(cmd); ok {
		fmt.Fprint(cmd.ErrOrStderr(), prompt)
		p, err := term.ReadPassword(fd)
		fmt.Fprintln(cmd.ErrOrStderr())
		return string(p), err
	}
	return "", next(errors.New("the wallet needs a passphrase, and there is no terminal to ask at"), "give --passphrase-file or set %s", passphraseVariable)
}

// newPassphrase is one for a new file, typed twice if it is typed; "" if there is to be none.
func (f *walletFlags) newPassphrase(cmd *cobra.Command) (string, error) {
	if f.noPassphrase {
		return "", nil
	}
	p, err := f.passphrase(cmd, "New passphrase: ")
	if err == nil && p == "" {
		err = next(errors.New("the passphrase is empty"), "choose one, or keep the wallet without with --no-passphrase")
	}
	if _, typed := terminal(cmd); err != nil || !typed || f.passphraseFile != "" || os.Getenv(passphraseVariable) != "" {
		return p, err
	}
	again, err := f.passphrase(cmd, "The same again: ")
	if err == nil && again != p {
		err = next(errors.New("the two passphrases differ"), "try again")
	}
	return p, err
}

// terminal is the standard input, if a person sits at it.
func terminal(cmd *cobra.Command) (fd int, ok bool) {
	file, isFile := cmd.InOrStdin().(*os.File)
	if !isFile || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	return int(file.Fd()), true
}

func (f *walletFlags) addNew(cmd *cobra.Command, words *string, use string) {
	cmd.Flags().StringVar(words, "words-file", "", use)
	cmd.Flags().BoolVar(&f.noPassphrase, "no-passphrase", false, "keep the file without a passphrase: whoever reads it can spend")
	cmd.Flags().IntVar(&f.work, "work", seal.DefaultWork, "scrypt work factor of the passphrase, 1 to 20: each step doubles the time to open")
}

// prepare is the configuration of a wallet that is to be made.
func (f *walletFlags) prepare(cmd *cobra.Command) (c client.Config, err error) {
	if c, err = f.config(cmd); err != nil {
		return c, err
	}
	if f.work < seal.MinWork || f.work > seal.MaxWork {
		return c, misuse(cmd, fmt.Errorf("--work %d: want %d to %d", f.work, seal.MinWork, seal.MaxWork))
	}
	if _, err := os.Stat(f.path); err == nil {
		return c, next(fmt.Errorf("there is a wallet at %s already", f.path), "choose another file with --wallet, or move that one away")
	}
	if f.path == defaultWallet() {
		if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
			return c, fmt.Errorf("make the wallet's directory: %w", err)
		}
	}
	c.Unsealed = f.noPassphrase
	c.Passphrase, err = f.newPassphrase(cmd)
	return c, err
}

func newCreateCommand(f *walletFlags) *cobra.Command {
	var offline bool
	var words string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a new wallet, and print its twenty-four words once",
		Long: `Make a new wallet, and print its twenty-four words once. The network is given by its genesis
file or its chain id: an agent of another network is refused, now and later.

With --offline no agent is asked, and the wallet has no network yet: its owner key goes into
a genesis. Give --agent and --genesis the next time the wallet is used.`,
		Example: `  charter wallet create --agent http://127.0.0.1:7070 --genesis genesis.json
  charter wallet create --offline --wallet ann.wallet`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !offline && (f.agent == "" || f.genesis == "" && f.chain == "") {
				return misuse(cmd, errors.New("give the agent with --agent, and the network with --genesis or --chain; or make the wallet with --offline"))
			}
			return f.create(cmd, offline, words)
		},
	}
	f.addNew(cmd, &words, "write the words to this new file, and do not print them")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no agent; print the key that a genesis can name as an owner")
	return cmd
}

func (f *walletFlags) create(cmd *cobra.Command, offline bool, wordsFile string) error {
	config, err := f.prepare(cmd)
	if err != nil {
		return err
	}
	if offline {
		config.Agent = ""
	}
	entropy := client.Entropy()
	if wordsFile != "" {
		if err := writeNew(wordsFile, wallet.Mnemonic(entropy)+"\n"); err != nil {
			return err
		}
	}
	c, err := client.Create(cmd.Context(), config, entropy)
	if err != nil {
		if wordsFile != "" {
			os.Remove(wordsFile) // written above, for a wallet that there is not
		}
		return err
	}
	defer c.Close()
	out := cmd.OutOrStdout()
	if f.json {
		said := map[string]any{"wallet": f.path, "owner_key": c.OwnerKey()}
		if chain := c.Chain(); !chain.IsZero() {
			said["chain"] = chain
		}
		if wordsFile == "" {
			said["words"] = c.Words()
		}
		return printJSON(out, said)
	}
	if wordsFile == "" {
		printWords(out, c.Words())
	}
	fmt.Fprintf(out, "wallet    %s\n", f.path)
	fmt.Fprintf(out, "owner key %s\n", c.OwnerKey())
	return nil
}

func printWords(out io.Writer, words string) {
	fmt.Fprint(out, "These words are the wallet: whoever has them has the shares, and without them a lost file is\nlost. They are shown once. Write them on paper, in order, and keep that where you keep deeds;\nno photograph, no file, no mail.\n\n")
	list := strings.Fields(words)
	for row := range 6 {
		for column := range 4 {
			n := row + 6*column
			fmt.Fprintf(out, "  %2d %-10s", n+1, list[n])
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(out)
}

// writeNew writes a secret to a file that must not be there.
func writeNew(path, text string) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return next(fmt.Errorf("cannot write the words: %w", err), "name a file that is not there yet")
	}
	_, err = file.WriteString(text)
	return errors.Join(err, file.Sync(), file.Close())
}

func newRestoreCommand(f *walletFlags) *cobra.Command {
	var words string
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Make a wallet again from its twenty-four words",
		Long: `Make a wallet again from its twenty-four words. It asks the agent for the proven history of
each key that the words make, until twenty in a row were never used. The words are read from
the terminal, from --words-file, or from the standard input.`,
		Example: "  charter wallet restore --agent http://127.0.0.1:7070 --genesis genesis.json --words-file words.txt",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.agent == "" || f.genesis == "" && f.chain == "" {
				return misuse(cmd, errors.New("give the agent with --agent, and the network with --genesis or --chain"))
			}
			return f.restore(cmd, words)
		},
	}
	f.addNew(cmd, &words, "file with the words")
	return cmd
}

func (f *walletFlags) restore(cmd *cobra.Command, wordsFile string) error {
	entropy, err := readWords(cmd, wordsFile)
	if err != nil {
		return err
	}
	config, err := f.prepare(cmd)
	if err != nil {
		return err
	}
	p := newProgress(cmd)
	c, err := client.Restore(cmd.Context(), config, entropy, func(asked, used, left int) {
		p.show("%d keys looked up, %d of them used, about %d left", asked, used, left)
	})
	p.end()
	if err != nil {
		return err
	}
	defer c.Close()
	if !f.json {
		fmt.Fprintf(cmd.OutOrStdout(), "restored: behind the last key that was used, %d for receiving and %d for change are proven never to have been: there is no more\n", wallet.Gap, wallet.Gap)
	}
	warn(cmd, c)
	return f.printBalance(cmd, c)
}

func readWords(cmd *cobra.Command, path string) (entropy [32]byte, err error) {
	var text []byte
	if path != "" {
		text, err = os.ReadFile(path)
	} else {
		if _, typed := terminal(cmd); typed {
			fmt.Fprintln(cmd.ErrOrStderr(), "The twenty-four words, and then Enter:")
		}
		in := bufio.NewScanner(io.LimitReader(cmd.InOrStdin(), 4096))
		for len(strings.Fields(string(text))) < wallet.Words && in.Scan() {
			text = append(append(text, in.Bytes()...), ' ')
		}
		err = in.Err()
	}
	if err != nil {
		return entropy, fmt.Errorf("cannot read the words: %w", err)
	}
	return wallet.ParseMnemonic(string(text))
}

func newAddressCommand(f *walletFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "address",
		Short: "Print a fresh address, for one receipt",
		Long: `Print a fresh address, for one receipt. Shares that are paid to it are registered with the
wallet's agent. Give each payer a fresh one: who pays to two addresses cannot tell that they are of
one wallet.`,
		Example: "  charter wallet address",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.open(cmd, toWrite)
			if err != nil {
				return err
			}
			defer c.Close()
			a, fresh, err := c.Address(cmd.Context())
			if err != nil {
				return err
			}
			text, at := a.Text(c.Chain()), c.Balance().AsOf
			if f.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"address": text, "lock": a.Lock, "host": a.Host, "fresh": fresh, "height": at.Height, "time_ms": at.Time})
			}
			fmt.Fprintln(cmd.OutOrStdout(), text)
			fmt.Fprintf(cmd.ErrOrStderr(), "nothing was paid to it as of %s\n", when(at))
			if !fresh {
				fmt.Fprintf(cmd.ErrOrStderr(), "this address is out already: %d are unused, and with more of them restoring could miss a payment\n", wallet.Gap)
			}
			return nil
		},
	}
}

func newBalanceCommand(f *walletFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "balance",
		Short:   "Say what the wallet has, proven",
		Long:    "Say what the wallet has: what is final is proven, as of a height; what others are paying is the\nagent's word.",
		Example: "  charter wallet balance\n  charter wallet balance --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.withSynced(cmd, func(c *client.Client) error { return f.printBalance(cmd, c) })
		},
	}
}

// withSynced opens the wallet, brings it up to now, and does something with it.
func (f *walletFlags) withSynced(cmd *cobra.Command, do func(*client.Client) error) error {
	c, err := f.open(cmd, toLook)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Sync(cmd.Context()); err != nil {
		return interrupted(err)
	}
	warn(cmd, c)
	return do(c)
}

// when is as of when something is proven.
func when(at wallet.AsOf) string {
	if at.Height == 0 {
		return "the genesis: nothing was looked up yet"
	}
	return fmt.Sprintf("height %d, %s", at.Height, at.Time)
}

// interrupted is an error that a Ctrl-C explains.
func interrupted(err error) error {
	if errors.Is(err, context.Canceled) && !client.IsKind(err, client.Interrupted) {
		return next(errors.New("interrupted"), "nothing is lost; try again")
	}
	return err
}

type balanceJSON struct {
	Final     types.Amount `json:"final"`
	Available types.Amount `json:"available"`
	Reserved  types.Amount `json:"reserved"`
	Out       types.Amount `json:"out"`
	In        types.Amount `json:"in"`
	Height    uint64       `json:"height"`
	Time      types.Millis `json:"time_ms"`
}

func viewBalance(b client.Balance) balanceJSON {
	return balanceJSON{b.Final, b.Available, b.Reserved, b.Out, b.In, b.AsOf.Height, b.AsOf.Time}
}

func (f *walletFlags) printBalance(cmd *cobra.Command, c *client.Client) error {
	b, out := c.Balance(), cmd.OutOrStdout()
	if f.json {
		return printJSON(out, viewBalance(b))
	}
	fmt.Fprintf(out, "%s shares, proven as of %s\n", b.Final, when(b.AsOf))
	if b.Reserved > 0 {
		fmt.Fprintf(out, "%s of them in payments under way, which take %s; %s can be spent now\n", b.Reserved, b.Out, b.Available)
	}
	if b.In > 0 {
		fmt.Fprintf(out, "%s more is coming, by the agent's word\n", b.In)
	}
	return nil
}
