package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"charter/internal/chaos"
)

// groups makes the commands below the root. A file with a command group enters it by
//
//	var _ = enter(newThisCommand)
var groups []func() *cobra.Command

func enter(group func() *cobra.Command) bool {
	groups = append(groups, group)
	return true
}

// Exit statuses.
const (
	exitFailed = 1 // what was asked for was not done, or a proof does not hold
	exitUsage  = 2 // the command line makes no sense

	exitSkipped = 77 // this system does not let it be done; as test harnesses have it
)

// run is the program: it gives the exit status. An interrupt (Ctrl-C) or SIGTERM ends the
// context of the command; a second one ends the process.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if !errors.Is(err, errSaid) {
		fmt.Fprintln(stderr, "charter:", err)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	var no *chaos.NotAllowed
	if errors.As(err, &no) {
		return exitSkipped
	}
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "charter",
		Short: "A public notary, and a money on it, run by its shareholders",
		Long: `Charter is a public notary, and on it a money, run by its shareholders: servers ("peers")
agree on one past, each with a weight in proportion to the shares that wallets hold with it.

A wallet believes nobody: what its peer says, it checks by proofs from the genesis on.`,
		Example:       "  charter demo\n  charter wallet create --agent http://127.0.0.1:7070 --genesis genesis.json\n  charter verify README.md.charter --genesis genesis.json",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	for _, group := range groups {
		root.AddCommand(group())
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misuse(cmd, err) })
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	strict(root)
	return root
}

// strict makes wrong arguments a usage error everywhere: cobra leaves those of a group of
// commands unchecked.
func strict(cmd *cobra.Command) {
	check := cmd.Args
	switch {
	case cmd.HasSubCommands() && !cmd.Runnable():
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misuse(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return nil
		}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	case check != nil:
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(check(cmd, args), cmd.ValidateRequiredFlags()); err != nil {
				return misuse(cmd, err)
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		strict(c)
	}
}

// usageError is a command line that makes no sense.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func misuse(cmd *cobra.Command, err error) error {
	return &usageError{fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath())}
}

// next says after an error what to do about it.
func next(err error, format string, args ...any) error {
	return fmt.Errorf("%w; %s", err, fmt.Sprintf(format, args...))
}

// errSaid is an error that needs no line of its own: the output says it already.
var errSaid = errors.New("said already")

// printJSON writes v as one line of JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
