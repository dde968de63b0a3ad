package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"charter/client"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

var _ = enter(newDemoCommand)

// demoConfig is the demo's flags.
type demoConfig struct {
	Peers    int
	Payments int
	Notarise string
	Dir      string
	Keep     bool
	JSON     bool
}

func newDemoCommand() *cobra.Command {
	var c demoConfig
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a network on this machine, pay over it, and prove the payments",
		Long: `Demo starts peers as processes of their own (with their own directories, keys and storage, talking
QUIC over loopback), makes two wallets that log in at different peers, pays between them, and notarises
a file. It shows how each payment becomes known, selected, official and final, and then checks
everything from the genesis alone, with the peers stopped.`,
		Example: `  charter demo
  charter demo --peers 7 --payments 50
  charter demo --dir my-network --keep     # stays up; run it again to go on where it was
  charter demo --json | tail -n 1`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{demoConfig: c, out: cmd.OutOrStdout(), began: time.Now()}
			err := d.run(cmd.Context())
			if err != nil && cmd.Context().Err() != nil {
				return fmt.Errorf("interrupted; no peer is left running (%w)", err)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Peers, "peers", 4, "how many peers, 1 to 30")
	f.IntVar(&c.Payments, "payments", 12, "how many payments")
	f.StringVar(&c.Notarise, "notarise", "", "file to notarise (default: the README of this directory, or this program)")
	f.StringVar(&c.Dir, "dir", "", "directory to keep; resumed if it has a network (default: a temporary one, removed at the end)")
	f.BoolVar(&c.Keep, "keep", false, "stay up until Ctrl-C")
	f.BoolVar(&c.JSON, "json", false, "print one JSON object per event")
	return cmd
}

// demo is one run.
type demo struct {
	demoConfig
	out     io.Writer
	began   time.Time
	net     *localnet
	wallets []*demoWallet
	proofs  []demoProof
	finals  []time.Duration // from submit to final at the wallet's agent
	proven  []time.Duration // to proven by the wallet
	caught  int             // lies
}

type demoWallet struct {
	*client.Client
	name string
	peer *localPeer
}

// demoProof is a proof file to be checked in the end.
type demoProof struct {
	what     string
	file     []byte
	document *types.Hash
}

// say prints an event: a line for people, or an object with its kind.
func (d *demo) say(kind string, fields map[string]any, format string, args ...any) {
	if !d.JSON {
		fmt.Fprintf(d.out, "%7.2fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
		return
	}
	if fields == nil {
		fields = map[string]any{}
	}
	fields["kind"], fields["at_ms"] = kind, time.Since(d.began).Milliseconds()
	b, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("an event does not marshal: %v", err)) // plain values only
	}
	fmt.Fprintf(d.out, "%s\n", b)
}

func (d *demo) run(ctx context.Context) (err error) {
	if d.Peers < 1 || d.Peers > 30 {
		return &usageError{fmt.Errorf("--peers %d: want 1 to 30", d.Peers)}
	}
	if d.Payments < 0 {
		return &usageError{fmt.Errorf("--payments %d: want 0 or more", d.Payments)}
	}
	if d.Dir == "" {
		if d.Dir, err = os.MkdirTemp("", "charter-demo-"); err != nil {
			return fmt.Errorf("make a temporary directory: %w", err)
		}
		defer os.RemoveAll(d.Dir)
	}
	if err := d.prepare(); err != nil {
		return err
	}
	defer func() {
		for _, w := range d.wallets {
			err = errors.Join(err, w.Close())
		}
		err = errors.Join(err, d.net.stop())
	}()
	if err := d.start(ctx); err != nil {
		return err
	}
	from, err := d.height(ctx)
	if err != nil {
		return err
	}
	paying := time.Now()
	if err := d.pay(ctx); err != nil {
		return err
	}
	if err := d.notarise(ctx); err != nil {
		return err
	}
	took := time.Since(paying)
	to, err := d.height(ctx)
	if err != nil {
		return err
	}
	if err := d.doubt(ctx); err != nil {
		return err
	}
	if !d.Keep {
		if err := d.net.stop(); err != nil {
			return err
		}
		d.say("stopped", nil, "all peers have stopped; what follows needs none of them")
	}
	if err := d.verify(to, float64(to-from)/took.Seconds()); err != nil {
		return err
	}
	if d.Keep {
		for _, w := range d.wallets { // so that other processes can open them
			err = errors.Join(err, w.Close())
		}
		d.invite()
		<-ctx.Done()
		d.say("stopping", nil, "stopping")
	}
	return nil
}

// prepare makes the network's directory, or finds the network that is there.
func (d *demo) prepare() (err error) {
	if d.Notarise == "" {
		d.Notarise = "README.md"
		if _, err := os.Stat(d.Notarise); err != nil {
			if d.Notarise, err = os.Executable(); err != nil {
				return fmt.Errorf("no README.md here; give --notarise FILE: %w", err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(d.Dir, genesisFile)); !errors.Is(err, fs.ErrNotExist) {
		if d.net, err = openLocalnet(d.Dir); err != nil {
			return err
		}
		d.say("resume", map[string]any{"dir": d.Dir, "peers": len(d.net.peers)}, "going on with the network of %d peers in %s", len(d.net.peers), d.Dir)
	} else if err := d.found(); err != nil {
		return err
	}
	id := d.net.genesis.ChainID()
	supply, err := d.net.genesis.Supply()
	if err != nil {
		return err
	}
	d.say("genesis", map[string]any{"chain": id, "supply": supply, "dir": d.Dir}, "chain %s, %s shares, in %s", id, supply, d.Dir)
	for i, name := range demoNames {
		p := d.net.peers[i%len(d.net.peers)]
		c, err := client.Open(client.Config{Path: d.walletPath(name), Agent: "http://" + p.api, Genesis: d.net.genesis})
		if err != nil {
			return err
		}
		d.wallets = append(d.wallets, &demoWallet{c, name, p})
	}
	return nil
}

var demoNames = []string{"ann", "bob"}

func (d *demo) walletPath(name string) string { return filepath.Join(d.Dir, name+".wallet") }

// found makes the wallets, and the network whose shares they own: at each peer as many.
func (d *demo) found() error {
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return fmt.Errorf("make the network's directory: %w", err)
	}
	var owners []types.Key
	for _, name := range demoNames {
		c, err := client.Create(context.Background(), client.Config{Path: d.walletPath(name), Unsealed: true}, client.Entropy())
		if err != nil {
			return err
		}
		owners = append(owners, c.OwnerKey())
		if err := c.Close(); err != nil {
			return err
		}
	}
	const parts, supply = 4, 1_000_000 * types.UnitsPerShare
	var err error
	d.net, err = newLocalnet(d.Dir, d.Peers, "demo", types.LocalParams, func(peers []types.Key) (outputs []types.GenesisOutput) {
		part := supply / types.Amount(len(peers)*len(owners)*parts)
		for _, owner := range owners {
			for _, p := range peers {
				for range parts {
					outputs = append(outputs, types.GenesisOutput{Value: part, Lock: owner, Host: p})
				}
			}
		}
		return outputs
	})
	return err
}

func (d *demo) start(ctx context.Context) error {
	err := d.net.start(ctx, func(p *localPeer) {
		d.say("peer", map[string]any{"name": p.name, "key": p.key, "pid": p.cmd.Process.Pid, "api": "http://" + p.api},
			"%s is up: process %d, key %s…, API http://%s", p.name, p.cmd.Process.Pid, p.key.Short(), p.api)
	})
	if err != nil {
		return err
	}
	for _, w := range d.wallets {
		if err := w.Sync(ctx); err != nil {
			return fmt.Errorf("wallet %s: %w", w.name, err)
		}
		b := w.Balance()
		d.say("wallet", map[string]any{"name": w.name, "agent": w.peer.name, "balance": b.Final, "height": b.AsOf.Height},
			"wallet %s@%s has %s shares, proven as of height %d", w.name, w.peer.name, b.Final, b.AsOf.Height)
	}
	return nil
}

// height is the greatest final height that a peer tells.
func (d *demo) height(ctx context.Context) (uint64, error) {
	s, err := d.net.peers[0].status(ctx)
	if err != nil {
		return 0, err
	}
	return s.FinalHeight, nil
}

// pay makes the payments, one after the other, to and fro.
func (d *demo) pay(ctx context.Context) error {
	for i := range d.Payments {
		from, to := d.wallets[i%2], d.wallets[(i+1)%2]
		address, _, err := to.Address(ctx)
		if err != nil {
			return fmt.Errorf("wallet %s: %w", to.name, err)
		}
		amount := types.Amount(i+1)*types.UnitsPerShare + types.UnitsPerShare/4
		way := d.follow(fmt.Sprintf("payment %d of %d, %s shares from %s to %s", i+1, d.Payments, amount, from.name, to.name))
		line, err := from.Pay(ctx, client.Payment{To: address, Amount: amount, Note: fmt.Sprintf("demo %d", i+1), Until: wallet.Final}, way.step)
		if err != nil {
			return fmt.Errorf("payment %d from %s: %w", i+1, from.name, err)
		}
		if err := d.done(way, from, line, nil); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) notarise(ctx context.Context) error {
	data, err := os.ReadFile(d.Notarise)
	if err != nil {
		return fmt.Errorf("read the file to notarise: %w", err)
	}
	document := types.Hash(sha256.Sum256(data))
	w := d.wallets[0]
	way := d.follow(fmt.Sprintf("notarisation of %s by %s", filepath.Base(d.Notarise), w.name))
	line, _, err := w.Notarise(ctx, document, filepath.Base(d.Notarise), way.step)
	if err != nil {
		return fmt.Errorf("notarise %s: %w", d.Notarise, err)
	}
	return d.done(way, w, line, &document)
}

// way is a transaction on its way through the tiers.
type way struct {
	what  string
	tiers []wallet.Tier
	after map[wallet.Tier]time.Duration
	final time.Duration // proven
	again bool          // it was settled before
}

func (d *demo) follow(what string) *way {
	return &way{what: what, after: make(map[wallet.Tier]time.Duration)}
}

// step takes note of a tier. A tier that is passed over has the time of the one above.
func (w *way) step(p client.Progress) {
	w.again = w.again || p.Resumed
	for t := wallet.Known; t <= p.Tier; t++ {
		if _, ok := w.after[t]; !ok {
			w.tiers, w.after[t] = append(w.tiers, t), p.After
		}
	}
	if p.Proven {
		w.final = p.After
	}
}

// done tells how a transaction went, and keeps its proof.
func (d *demo) done(w *way, by *demoWallet, line client.Line, document *types.Hash) error {
	file, err := by.Proof(line.ID)
	if err != nil {
		return err
	}
	d.proofs = append(d.proofs, demoProof{w.what, file, document})
	fields := map[string]any{"what": w.what, "id": line.ID, "height": line.Height, "proof_bytes": len(file)}
	text := ""
	ms := func(t time.Duration) float64 { return float64(t.Microseconds()) / 1000 }
	for _, t := range w.tiers {
		fields[t.String()+"_ms"] = ms(w.after[t])
		text += fmt.Sprintf("%s %.0f ms → ", t, ms(w.after[t]))
	}
	fields["proven_ms"] = ms(w.final)
	if w.again {
		d.say("known already", fields, "%s: settled before, at height %d", w.what, line.Height)
		return nil
	}
	d.finals, d.proven = append(d.finals, w.after[wallet.Final]), append(d.proven, w.final)
	d.say("settled", fields, "%s: %sproven %.0f ms (height %d, proof %d bytes)", w.what, text, ms(w.final), line.Height, len(file))
	return nil
}

// verify checks all proofs from the genesis alone, and sums up.
func (d *demo) verify(height uint64, rate float64) error {
	verified, rejected := 0, 0
	for _, p := range d.proofs {
		v, err := proof.VerifyFile(p.file, proof.Genesis(d.net.genesis), p.document)
		switch {
		case err != nil:
			rejected++
			d.say("refuted", map[string]any{"what": p.what, "error": err.Error()}, "%s: NOT proven: %v", p.what, err)
		case !v.Applied:
			rejected++
			d.say("refuted", map[string]any{"what": p.what, "error": v.Reason}, "%s: rejected: %s", p.what, v.Reason)
		default:
			verified++
			if p.document != nil {
				v.Name = filepath.Base(d.Notarise)
				d.say("verified", map[string]any{"what": p.what, "sentence": v.Sentence()}, "%s", v.Sentence())
			}
		}
	}
	if d.Dir != "" {
		if err := d.keepProofs(); err != nil {
			return err
		}
	}
	finals := percentiles(d.finals)
	summary := map[string]any{
		"peers": len(d.net.peers), "payments": d.Payments, "final_ms": finals, "proven_ms": percentiles(d.proven),
		"heights": height, "heights_per_second": rate, "verified": verified, "rejected": rejected, "caught": d.caught,
	}
	d.say("summary", summary, "%d of %d proofs verified from the genesis alone; %d lies caught; %d peers, %d payments; final after %.0f ms (p50), %.0f ms (p99), %.0f ms at most; height %d, %.1f heights a second",
		verified, len(d.proofs), d.caught, len(d.net.peers), d.Payments, finals.P50, finals.P99, finals.Max, height, rate)
	if rejected > 0 || verified == 0 {
		return fmt.Errorf("%d of %d proofs do not hold", rejected, len(d.proofs))
	}
	return nil
}

// keepProofs leaves the newest payment's proof and the document's in the directory.
func (d *demo) keepProofs() error {
	for _, p := range d.proofs {
		name := "payment.charter"
		if p.document != nil {
			name = filepath.Base(d.Notarise) + ".charter"
		}
		if err := client.WriteFile(filepath.Join(d.Dir, name), p.file, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// invite says how to use the network from another terminal.
func (d *demo) invite() {
	p, w, self := d.net.peers[0], d.wallets[0], thisCommand()
	d.say("keep", map[string]any{"dir": d.Dir, "api": "http://" + p.api, "metrics": "http://" + p.debug + "/metrics"}, `the network stays up until Ctrl-C. From another terminal:
    %s peer status --api http://%s
    %s wallet balance --wallet %s --agent http://%s
    curl -s -H 'Content-Type: application/json' -d '{}' http://%s/charter.v1.Agent/Status
    curl -s http://%s/metrics
    %s verify %s --genesis %s`,
		self, p.api, self, d.walletPath(w.name), w.peer.api, p.api, p.debug, self, filepath.Join(d.Dir, "payment.charter"), filepath.Join(d.Dir, genesisFile))
}

// thisCommand is how the user called this program.
func thisCommand() string {
	if strings.Contains(os.Args[0], "go-build") { // a file that is gone when we are
		return "go run ./cmd/charter"
	}
	return os.Args[0]
}

// summary of durations, in milliseconds.
type millisSummary struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func percentiles(ds []time.Duration) (s millisSummary) {
	if len(ds) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(ds))
	at := func(part float64) float64 {
		i := min(int(part*float64(len(sorted))), len(sorted)-1)
		return float64(sorted[i].Microseconds()) / 1000
	}
	return millisSummary{at(0.5), at(0.99), at(1)}
}
