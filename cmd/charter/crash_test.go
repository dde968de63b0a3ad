package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/proof"
	"charter/types"
)

// builtProgram is this program, built once for all tests.
var builtProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "charter-test-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "charter")
	out, err := exec.Command("go", "build", "-o", file, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	// What starts peers runs this file if nobody set program. It must be the program then: as tests, each
	// would start tests that start it.
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	status := m.Run()
	if program != "" {
		_ = os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(status)
}

// arena is a localnet under test: payments are made at it while its peers die.
type arena struct {
	*testing.T
	*spender
	rng *rand.Rand // of the faults' goroutine
}

// newArena is a network of n peers, at each of which as many outputs wait to be spent.
func newArena(t *testing.T, params types.Params, n, outputs int) *arena {
	t.Helper()
	var err error
	if program, err = builtProgram(); err != nil {
		t.Fatal(err)
	}
	a := &arena{T: t, spender: &spender{acked: make(map[types.Hash]int)}, rng: rand.New(rand.NewPCG(1, 2))}
	a.net, err = newLocalnet(t.TempDir(), n, "crash", params, func(peers []types.Key) []types.GenesisOutput {
		return spendable(n*outputs, types.UnitsPerShare, peers)
	})
	if err != nil {
		t.Fatal(err)
	}
	a.coins = genesisCoins(a.net, n*outputs)
	t.Cleanup(func() {
		for _, p := range a.net.peers {
			a.kill(p)
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(p.dir, "log")) // for whoever reads the failure
				t.Logf("the log of %s ends:\n%s", p.name, log[max(0, len(log)-6000):])
			}
		}
	})
	return a
}

// start starts peers, and waits until each serves.
func (a *arena) start(peers ...*localPeer) {
	a.Helper()
	for _, p := range peers {
		if err := p.start(); err != nil {
			a.Fatal(err)
		}
	}
	for _, p := range peers {
		if err := p.await(a.Context()); err != nil {
			a.Fatal(err)
		}
	}
}

// kill is kill -9, without a word of warning.
func (a *arena) kill(p *localPeer) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
	p.cmd = nil
}

// submit tries to hand over payment j, at one peer after the other until one takes it.
func (a *arena) submit(ctx context.Context, j, at int) {
	if _, _, err := a.spender.submit(ctx, j, a.net.peers, at); err != nil {
		a.Error(err)
	}
}

// load submits payments from several sides until ctx is done. The channel closes when all of
// them are through.
func (a *arena) load(ctx context.Context, pause time.Duration) (done <-chan struct{}) {
	var all sync.WaitGroup
	for w := range 3 {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(3, uint64(w)))
			for ctx.Err() == nil {
				j, ok := a.take()
				if !ok {
					a.Error("no coins are left to spend")
					return
				}
				a.submit(ctx, j, rng.IntN(len(a.net.peers)))
				time.Sleep(time.Duration(rng.Int64N(int64(2 * pause))))
			}
		})
	}
	end := make(chan struct{})
	go func() {
		all.Wait()
		close(end)
	}()
	return end
}

// awaitFinal waits until every acknowledged payment is proven by one of the peers, verifies the
// proof, and waits until all peers have come as far.
func (a *arena) awaitFinal() {
	a.Helper()
	ctx, cancel := context.WithTimeout(a.Context(), 30*time.Second)
	defer cancel()
	ids := slices.Collect(maps.Keys(a.acked))
	heights := make([]uint64, len(a.net.peers))
	var all sync.WaitGroup
	for i, p := range a.net.peers {
		all.Go(func() {
			for k := i; k < len(ids); k += len(a.net.peers) {
				file, err := p.awaitProof(ctx, ids[k])
				if err != nil {
					a.Errorf("%s: payment %d (%s) was acknowledged and is not proven: %v", p.name, a.acked[ids[k]], ids[k].Short(), err)
					return
				}
				v, err := proof.VerifyFile(file, proof.Genesis(a.net.genesis), nil)
				if err != nil || !v.Applied || v.Transaction != ids[k] {
					a.Errorf("%s: the proof of %s: %+v, %v", p.name, ids[k].Short(), v, err)
					return
				}
				heights[i] = max(heights[i], v.Height)
			}
		})
	}
	all.Wait()
	for _, p := range a.net.peers {
		for {
			s, err := p.status(ctx)
			if err != nil {
				a.Fatal(err)
			}
			if s.FinalHeight >= slices.Max(heights) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	if a.Failed() {
		a.FailNow()
	}
}

// awaitProof asks for the proof of a transaction until there is one.
func (p *localPeer) awaitProof(ctx context.Context, id types.Hash) ([]byte, error) {
	for {
		r, err := p.client().Proof(ctx, connect.NewRequest(&v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: id.String()}}))
		if err == nil {
			return r.Msg.Proof, nil
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// audit looks into the directories of all peers, which have stopped, for what must hold whatever
// happened to them.
func (a *arena) audit() {
	a.Helper()
	found, faults := a.net.audit(slices.Collect(maps.Keys(a.acked)))
	for _, f := range faults {
		a.Error(f)
	}
	a.Log(found)
}

func (a *arena) upTo(d time.Duration) time.Duration { return time.Duration(a.rng.Int64N(int64(d))) }

// fault does something bad to peers, and undoes it.
func (a *arena) fault(kind int) {
	peers := a.net.peers
	order := a.rng.Perm(len(peers))
	victims := func(n int) (out []*localPeer) {
		for _, i := range order[:n] {
			out = append(out, peers[i])
		}
		return out
	}
	crash := func(down time.Duration, victims ...*localPeer) {
		for _, p := range victims {
			a.kill(p)
		}
		time.Sleep(down)
		a.start(victims...)
	}
	switch kind {
	case 0:
		crash(a.upTo(700*time.Millisecond), victims(1)...)
	case 1: // no two thirds are left meanwhile
		crash(a.upTo(700*time.Millisecond), victims(2)...)
	case 2:
		crash(0, peers...)
	case 3: // one after the other, the second while the first comes up
		v := victims(2)
		a.kill(v[0])
		if err := v[0].start(); err != nil {
			a.Fatal(err)
		}
		time.Sleep(a.upTo(150 * time.Millisecond))
		a.kill(v[1])
		a.kill(v[0])
		a.start(v...)
	case 4: // it is as if it were dead, and comes back without having forgotten anything
		p := victims(1)[0]
		_ = p.cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(3 * time.Second)
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
	}
}

// Peers are killed and frozen at random moments, one, two and all at once, while wallets pay. What was
// acknowledged becomes final, everywhere alike; nobody signs twice; no share is lost or made.
func TestKill(t *testing.T) {
	faults := []int{0, 1, 2, 4, 3, 1, 2}
	if testing.Short() {
		faults = []int{2}
	}
	a := newArena(t, types.LocalParams, 4, 1000)
	a.start(a.net.peers...)
	ctx, cancel := context.WithCancel(t.Context())
	done := a.load(ctx, 15*time.Millisecond)
	for _, f := range faults {
		time.Sleep(100*time.Millisecond + a.upTo(400*time.Millisecond))
		a.fault(f)
	}
	time.Sleep(300 * time.Millisecond)
	cancel()
	<-done
	began := time.Now()
	a.awaitFinal()
	t.Logf("%d payments acknowledged, all proven everywhere %s after the last fault", len(a.acked), time.Since(began).Round(time.Millisecond))
	if err := a.net.stop(); err != nil {
		t.Error(err)
	}
	a.audit()
	a.noComplaints()
}

// noComplaints checks that no peer has logged that something is wrong with itself or another.
func (a *arena) noComplaints() {
	for _, p := range a.net.peers {
		lines, err := p.complaints()
		if err != nil {
			a.Fatal(err)
		}
		for _, line := range lines {
			a.Errorf("%s says: %s", p.name, line)
		}
	}
}

// pay submits n payments at a peer.
func (a *arena) pay(n int, at *localPeer) {
	a.Helper()
	for range n {
		j, _ := a.take()
		a.submit(a.Context(), j, slices.Index(a.net.peers, at))
	}
}

// reach waits until a peer has come to a final height.
func (a *arena) reach(p *localPeer, height uint64) {
	a.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s, err := p.status(a.Context())
		if err == nil && s.FinalHeight >= height {
			return
		}
		if time.Now().After(deadline) {
			a.Fatalf("%s has not come to height %d: %v, %v", p.name, height, s, err)
		}
	}
}

// refuses starts a peer that must end by itself, with the words given in its log.
func (a *arena) refuses(p *localPeer, words ...string) {
	a.Helper()
	if err := p.start(); err != nil {
		a.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(10 * time.Second):
		a.kill(p)
		a.Fatalf("%s runs", p.name)
	}
	p.cmd = nil
	if p.err == nil {
		a.Errorf("%s ended as if all were well", p.name)
	}
	for _, w := range words {
		if !strings.Contains(p.tail(), w) {
			a.Errorf("%s does not say %q, but: %s", p.name, w, p.tail())
		}
	}
}

// replace puts a copy of one directory in the place of another.
func (a *arena) replace(dir, by string) {
	a.Helper()
	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(by))); err != nil {
		a.Fatal(err)
	}
}

// What an operator may do to a peer's directory: the state is made again from the log, and a peer
// that is behind what it has signed, or cannot know, does not sign, and says what to do.
func TestDirectories(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts and stops a network several times")
	}
	params := types.LocalParams // so that some runs and snapshots pass
	params.SnapshotLag, params.SnapshotPeriod, params.RunLength, params.WaitIdle = 20, 40, 16, 10
	a := newArena(t, params, 4, 20)
	p, others := a.net.peers[0], a.net.peers[1:]
	stop := func() {
		t.Helper()
		if err := a.net.stop(); err != nil {
			t.Fatal(err)
		}
	}
	a.start(a.net.peers...)
	a.pay(4, p)
	a.reach(p, 100)
	stop()
	old := filepath.Join(t.TempDir(), "old")
	a.replace(old, p.dir)

	if err := os.RemoveAll(filepath.Join(others[0].dir, "store", "state")); err != nil {
		t.Fatal(err)
	}
	a.start(a.net.peers...)
	a.pay(4, others[0])
	a.awaitFinal()
	stop()
	a.audit()

	newest := filepath.Join(t.TempDir(), "newest")
	a.replace(newest, p.dir)
	if err := os.Remove(filepath.Join(p.dir, "store", "signed")); err != nil {
		t.Fatal(err)
	}
	a.refuses(p, "must not sign", "the file signed", "What to do: put back the newest copy")
	a.replace(filepath.Join(p.dir, "store"), filepath.Join(newest, "store"))
	a.replace(filepath.Join(p.dir, "store", "log"), filepath.Join(old, "store", "log"))
	a.refuses(p, "must not sign", "the log says", "What to do: put back the newest copy")

	// Of an old copy of everything a peer learns from the others only.
	a.start(others...)
	a.replace(p.dir, old)
	a.refuses(p, "must not sign", "What to do: put back the newest copy")
	a.replace(p.dir, newest)
	a.start(p)
	a.pay(4, p)
	a.awaitFinal()
	stop()
	a.audit()
}

// An old copy that is only a few heights old, of a peer that would be on time to sign them again.
func TestSlightlyOldCopy(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts and stops a network several times")
	}
	a := newArena(t, types.LocalParams, 4, 20)
	p := a.net.peers[0]
	a.start(a.net.peers...)
	a.pay(2, p)
	a.awaitFinal()
	a.kill(p)
	old := filepath.Join(t.TempDir(), "old")
	a.replace(old, p.dir)
	a.start(p)
	s, err := p.status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a.reach(p, s.FinalHeight+3)
	a.kill(p)
	a.replace(p.dir, old)
	a.refuses(p, "must not sign", "What to do: put back the newest copy")
	for _, q := range a.net.peers[1:] {
		if log, err := os.ReadFile(filepath.Join(q.dir, "log")); err != nil || bytes.Contains(log, []byte("forked")) {
			t.Errorf("%s has seen two blocks of one height: %v", q.name, err)
		}
	}
}
