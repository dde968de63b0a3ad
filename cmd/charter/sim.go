package main

import (
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"charter/sim"
	"charter/types"
)

var _ = enter(newSimCommand)

// simConfig is the flags of `charter sim`.
type simConfig struct {
	Peers   int
	Seeds   string
	Minutes float64
	Faults  string
	Latency string
	Cores   int
	JSON    bool
}

func newSimCommand() *cobra.Command {
	var c simConfig
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Simulate peers under faults, and check that what must hold does",
		Long: fmt.Sprintf(`Sim runs whole peers, their real consensus and ledger, in a simulated world: one seed decides all that happens, and
the same seed does it all again. Networks lose, double, delay and cut; disks forget what is not synced; clocks are
apart; shares move, and peers come and go; some peers break rules, in ways of their own. Each seed draws which faults
are on at all. Checkers that share no code with consensus look at all that honest peers say.

A violation prints its seed, what broke, the last events, and the command that replays it; the exit status is then 1.
It is 1, too, if a campaign of %d seeds or more with everything drawn never came to a place where it must have been.
Interrupted, sim ends with what was done so far.

--faults takes names of this list, or "none". Those are on in each seed, and no others:

%s`, sim.FullCampaign, faultList()),
		Example: `  charter sim --seeds 1..200
  charter sim --seeds 0..19 --peers 12 --minutes 1 --latency wan --json
  charter sim --seeds 7 --faults cuts,crashes,split-leader`,
		Args: cobra.NoArgs,
		RunE: c.run,
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 0, "peers of each seed, 4 to 100; 0: the seed draws 4 to 7, now and then 12")
	f.StringVar(&c.Seeds, "seeds", "0..99", "seeds to run, A..B or one")
	f.Float64Var(&c.Minutes, "minutes", 0, "simulated minutes of faults in each seed, half a minute without follows; 0: the seed draws 8 to 25 s")
	f.StringVar(&c.Faults, "faults", "", "faults that are on; if not given, each seed draws them")
	f.StringVar(&c.Latency, "latency", "any", "local (0.1 to 1 ms), wan (ten regions), heavy (20 ms, with a long tail), or any: drawn")
	f.IntVar(&c.Cores, "cores", runtime.NumCPU(), "seeds to run at once")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per seed, the summary last, and the progress on standard error")
	cmd.AddCommand(newSimScaleCommand(), newSimBoundsCommand())
	return cmd
}

func faultList() string {
	var s strings.Builder
	for _, f := range sim.Faults() {
		fmt.Fprintf(&s, "  %-18s %s\n", f[0], f[1])
	}
	return s.String()
}

// campaign is what the flags ask for.
func (c *simConfig) campaign() (*sim.Campaign, error) {
	from, to, several := strings.Cut(c.Seeds, "..")
	if !several {
		to = from
	}
	a, err := strconv.ParseUint(from, 10, 64)
	b, err2 := strconv.ParseUint(to, 10, 64)
	switch {
	case err != nil || err2 != nil || b < a || b == math.MaxUint64:
		return nil, fmt.Errorf("--seeds %s: want A..B, A not above B, or one number", c.Seeds)
	case c.Peers != 0 && (c.Peers < 4 || c.Peers > 100):
		return nil, fmt.Errorf("--peers %d: want 4 to 100, or 0; for more there is: charter sim scale", c.Peers)
	case !(c.Minutes >= 0 && c.Minutes <= 1440):
		return nil, fmt.Errorf("--minutes %v: want 0 to 1440", c.Minutes)
	case c.Cores < 1:
		return nil, fmt.Errorf("--cores %d: want 1 at least", c.Cores)
	}
	latency, err := sim.ParseLatency(c.Latency)
	if err != nil {
		return nil, fmt.Errorf("--%w", err)
	}
	each := sim.Config{Peers: c.Peers, Time: types.Millis(c.Minutes * 60_000), Latency: latency}
	switch c.Faults {
	case "":
	case "none":
		each.Faults = []string{}
	default:
		each.Faults = strings.Split(c.Faults, ",")
		if err := sim.KnownFaults(each.Faults); err != nil {
			return nil, fmt.Errorf("--faults: %w", err)
		}
	}
	return &sim.Campaign{From: a, To: b, Cores: c.Cores, Each: each}, nil
}

// seedRow is one seed of --json.
type seedRow struct {
	Kind      string     `json:"kind"` // "seed"
	Seed      uint64     `json:"seed"`
	Drawn     string     `json:"drawn"`
	Heights   uint64     `json:"heights"`
	Events    int        `json:"events"`
	Trace     types.Hash `json:"trace"`
	Violation string     `json:"violation,omitempty"`
	Replay    string     `json:"replay"`
}

func (c *simConfig) run(cmd *cobra.Command, _ []string) error {
	campaign, err := c.campaign()
	if err != nil {
		return misuse(cmd, err)
	}
	out, progress := cmd.OutOrStdout(), cmd.ErrOrStderr()
	seeds, done, bad := campaign.To-campaign.From+1, uint64(0), 0
	told := time.Now()
	campaign.Told = func(r *sim.Report) {
		if r.Stopped {
			return
		}
		done++
		row := seedRow{Kind: "seed", Seed: r.Seed, Drawn: r.Drawn, Heights: r.Heights, Events: r.Events, Trace: r.Trace, Replay: r.Command}
		if v := r.Violation; v != nil {
			bad++
			row.Violation = v.Invariant + ": " + v.What
			fmt.Fprintln(progress, v)
		}
		if c.JSON {
			_ = printJSON(out, row)
		}
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "%d of %d seeds, %d violations\n", done, seeds, bad)
		}
	}
	s, err := campaign.Run(cmd.Context())
	if err != nil {
		return err
	}
	if s.Stopped {
		fmt.Fprintf(progress, "interrupted after %d of %d seeds\n", s.Seeds, seeds)
	}
	if c.JSON {
		err = json.NewEncoder(out).Encode(s)
	} else {
		s.Print(out)
	}
	if err == nil && !s.Passed() {
		err = errSaid
	}
	return err
}
