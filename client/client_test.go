package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// A payment from a genesis to another wallet, a notarised document, and all of it found again
// from the words: everything proven.
func TestPayNotariseRestore(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	ctx := t.Context()
	ann, bob := w.open("ann", w.url), w.open("bob", w.url)
	if b := ann.Balance(); b.Final != 150*share || b.Available != 150*share || b.AsOf.Height == 0 {
		t.Fatalf("ann starts with %+v", b)
	}
	var steps []Progress
	line, err := ann.Pay(ctx, Payment{To: w.address(bob), Amount: 120*share + 1, Note: "rent", Until: wallet.Final}, func(p Progress) { steps = append(steps, p) })
	w.must(err)
	last := steps[len(steps)-1]
	if line.Status != wallet.Applied || line.Direction != "out" || line.Amount != 120*share+1 || line.Fee == 0 || line.Note != "rent" || len(line.To) != 1 || line.Height == 0 || !line.HasProof {
		t.Errorf("the line is %+v", line)
	}
	if !last.Proven || last.Tier != wallet.Final || last.Height != line.Height || last.ID != line.ID || last.After <= 0 {
		t.Errorf("the last step is %+v of %d", last, len(steps))
	}
	if !slices.IsSortedFunc(steps, func(a, b Progress) int { return int(a.Tier) - int(b.Tier) }) {
		t.Errorf("tiers fell: %+v", steps)
	}
	file, err := ann.Proof(line.ID)
	w.must(err)
	verdict, err := VerifyProof(file, Trust{Genesis: w.genesis}, nil)
	w.must(err)
	if verdict.Transaction != line.ID || !verdict.Applied {
		t.Errorf("the proof is of %+v", verdict)
	}

	w.must(bob.Sync(ctx))
	if b := bob.Balance(); b.Final != 270*share+1 {
		t.Errorf("bob has %+v", b)
	}
	if h := bob.History(); len(h) != 1 || h[0].Direction != "in" || h[0].Amount != 120*share+1 || h[0].ID != line.ID || h[0].Fee != 0 {
		t.Errorf("bob's history is %+v", h)
	}

	document := types.Hash(sha256.Sum256([]byte("a deed")))
	note, file, err := bob.Notarise(ctx, document, "deed", nil)
	w.must(err)
	verdict, err = bob.Verify(ctx, file, &document)
	w.must(err)
	if note.Direction != "notarise" || note.Document == nil || *note.Document != document || *verdict.Document != document {
		t.Errorf("notarised %+v, proven %+v", note, verdict)
	}
	again, file2, err := bob.Notarise(ctx, document, "deed", nil)
	w.must(err)
	if again.ID != note.ID || !bytes.Equal(file, file2) {
		t.Errorf("the same document was notarised again, by %s after %s", again.ID, note.ID)
	}

	for _, c := range []*Client{ann, bob} {
		w.must(c.Sync(ctx))
	}
	for name, c := range map[string]*Client{"ann": ann, "bob": bob} {
		asked := 0
		r, err := Restore(ctx, Config{Path: w.path(name + " restored"), Unsealed: true, Agent: w.url, Chain: c.Chain()}, entropy(name), func(n, _, _ int) { asked = n })
		w.must(err)
		defer r.Close()
		if r.Balance().Final != c.Balance().Final || len(r.History()) != len(c.History()) || r.Words() != c.Words() || asked < 2*wallet.Gap {
			t.Errorf("%s restored has %+v and %d lines after %d keys, want %+v and %d", name, r.Balance(), len(r.History()), asked, c.Balance(), len(c.History()))
		}
	}
	supply := ann.Balance().Final + bob.Balance().Final + line.Fee + note.Fee
	if supply != 300*share {
		t.Errorf("the wallets and the fees add up to %s", supply)
	}
}

// The same request again is the same payment, unless another is wanted.
func TestPayOnce(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	ann, bob := w.open("ann", w.url), w.open("bob", w.url)
	p := Payment{To: w.address(bob), Amount: 5 * share, Once: true, Until: wallet.Official}
	first, err := ann.Pay(t.Context(), p, nil)
	w.must(err)
	resumed := false
	second, err := ann.Pay(t.Context(), p, func(p Progress) { resumed = p.Resumed })
	w.must(err)
	p.Once, p.Until = false, wallet.Final
	third, err := ann.Pay(t.Context(), p, nil)
	w.must(err)
	if second.ID != first.ID || !resumed || third.ID == first.ID {
		t.Errorf("paid by %s, then %s (resumed: %v), then %s", first.ID, second.ID, resumed, third.ID)
	}
	w.must(bob.Sync(t.Context()))
	if b := bob.Balance(); b.Final != 160*share {
		t.Errorf("bob has %s", b.Final)
	}
}

// A process that dies between keeping and sending, or while waiting, loses nothing, and sends
// nothing else.
func TestInterrupted(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	a, url := w.agent()
	ann, bob := w.open("ann", url), w.open("bob", w.url)
	a.set(func() {
		a.submit = func(*v1.SubmitRequest) error { return refusal(connect.CodeUnavailable, saysBusy) }
	})
	ctx, cancel := context.WithCancel(t.Context())
	var trouble error
	line, err := ann.Pay(ctx, Payment{To: w.address(bob), Amount: 7 * share, Until: wallet.Final}, func(p Progress) {
		if p.Trouble != nil {
			trouble = p.Trouble
			cancel()
		}
	})
	if !IsKind(err, Interrupted) || !says(trouble, saysBusy) {
		t.Fatalf("error %v after trouble %v", err, trouble)
	}
	if b := ann.Balance(); b.Reserved == 0 || b.Out < 7*share || b.Available+b.Reserved != 150*share {
		t.Errorf("under way: %+v", b)
	}
	w.must(ann.Close()) // all that a killed process has is its file

	a.set(func() { a.submit = nil })
	ann = w.open("ann", url) // sends it again
	done, err := ann.Resume(t.Context(), line.ID, wallet.Final, nil)
	w.must(err)
	if done.Status != wallet.Applied || done.ID != line.ID {
		t.Errorf("resumed: %+v", done)
	}
	for i, raw := range a.sent {
		if !bytes.Equal(raw, a.sent[0]) {
			t.Errorf("submission %d has other bytes than the first", i)
		}
	}
	w.must(bob.Sync(t.Context()))
	if b := bob.Balance(); b.Final != 157*share || len(a.sent) < 2 {
		t.Errorf("bob has %s after %d submissions", b.Final, len(a.sent))
	}
}

// A peer that goes away in the middle of a payment, and comes back, costs time only.
func TestAgentGoesAway(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	a, url := w.agent()
	ann, bob := w.open("ann", url), w.open("bob", w.url)
	breaks := 0
	a.set(func() {
		a.told = func(n int, m *v1.WatchResponse) (end, out bool) {
			if m.GetFinal() != nil && breaks < 3 { // always just before the end
				breaks++
				return true, false
			}
			return false, false
		}
	})
	troubles := 0
	line, err := ann.Pay(t.Context(), Payment{To: w.address(bob), Amount: share, Until: wallet.Final}, func(p Progress) {
		if p.Trouble != nil {
			troubles++
		}
	})
	w.must(err)
	if line.Status != wallet.Applied || troubles != 3 || breaks != 3 {
		t.Errorf("%+v after %d breaks and %d troubles", line, breaks, troubles)
	}
}

// What an agent leaves out of a watch is found by proofs all the same.
func TestAgentHides(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	a, url := w.agent()
	ann, bob := w.open("ann", w.url), w.open("bob", url)
	a.set(func() {
		a.told = func(_ int, m *v1.WatchResponse) (end, out bool) { return false, m.GetKey() != nil }
	})
	_, err := ann.Pay(t.Context(), Payment{To: w.address(bob), Amount: share, Until: wallet.Final}, nil)
	w.must(err)
	w.must(bob.Sync(t.Context()))
	if b := bob.Balance(); b.Final != 151*share {
		t.Errorf("bob has %s", b.Final)
	}
}

// What an agent makes up is not believed, and changes nothing.
func TestAgentLies(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	a, url := w.agent()
	ann, bob := w.open("ann", url), w.open("bob", w.url)
	rows := map[string]func(*v1.ProofRequest, *v1.ProofResponse){
		"another value in a key's history": func(_ *v1.ProofRequest, m *v1.ProofResponse) {
			if s, err := proof.Decode(m.Proof); err == nil {
				if k, ok := s.(*proof.Key); ok && len(k.Events) > 0 {
					k.Events[0].Output.Value++
					m.Proof = k.Encode()
				}
			}
		},
		"another key's history": func(q *v1.ProofRequest, m *v1.ProofResponse) {
			other := &v1.ProofRequest{What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: types.Key{1}.String()}}}
			if r, err := a.real.Proof(context.Background(), ask(other)); err == nil {
				m.Proof, m.Checkpoint, m.Certificate = r.Msg.Proof, r.Msg.Checkpoint, r.Msg.Certificate
			}
		},
		"a checkpoint that nobody signed": func(_ *v1.ProofRequest, m *v1.ProofResponse) {
			if cp, err := types.DecodeCheckpoint(m.Checkpoint); err == nil {
				cp.Height += 1000
				m.Checkpoint = cp.Encode()
			}
		},
		"no proof at all":           func(_ *v1.ProofRequest, m *v1.ProofResponse) { m.Proof = []byte("trust me") },
		"another kind of proof":     func(_ *v1.ProofRequest, m *v1.ProofResponse) { m.Proof = (&proof.Consistency{}).Encode() },
		"a certificate of nobody's": func(_ *v1.ProofRequest, m *v1.ProofResponse) { m.Certificate = nil },
	}
	for name, lie := range rows {
		a.set(func() { a.prove = lie })
		before := ann.Balance()
		if err := ann.Sync(t.Context()); !IsKind(err, NotProven) && !IsKind(err, Forked) {
			t.Errorf("%s: error %v", name, err)
		}
		if ann.Balance() != before {
			t.Errorf("%s: the balance became %+v, from %+v", name, ann.Balance(), before)
		}
	}
	a.set(func() { a.prove = nil })
	line, err := ann.Pay(t.Context(), Payment{To: w.address(bob), Amount: share, Until: wallet.Final}, nil)
	w.must(err)

	a.set(func() { // the fate of another transaction
		a.prove = func(q *v1.ProofRequest, m *v1.ProofResponse) {
			if q.GetTransaction() != "" {
				file, _ := ann.Proof(line.ID)
				m.Proof = file
			}
		}
		a.told = func(_ int, m *v1.WatchResponse) (end, out bool) {
			if f := m.GetFinal(); f != nil {
				f.Proof, _ = ann.Proof(line.ID)
			}
			return false, false
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	second, err := ann.Pay(ctx, Payment{To: w.address(bob), Amount: share, Until: wallet.Final}, nil)
	if err == nil || second.Status != wallet.Open {
		t.Errorf("with the proof of another transaction: %v, %+v", err, second)
	}
}

// Another network is refused: an agent of it, a genesis of it, an address of it.
func TestWrongNetwork(t *testing.T) {
	w := newWorld(t, "ann")
	a, url := w.agent()
	other := *w.genesis
	other.Network = "other"
	offline, err := Open(Config{Path: w.path("ann"), Genesis: &other, Agent: w.url})
	w.must(err) // a wallet made offline takes any network, if the agent is of it
	if err := offline.Sync(t.Context()); !IsKind(err, WrongNetwork) {
		t.Errorf("offline, with another network than the agent's: error %v", err)
	}
	w.must(offline.Close())
	ann := w.open("ann", url)
	ann.Close()
	rows := map[string]func() error{
		"a wallet of another network": func() error {
			_, err := Open(Config{Path: w.path("ann"), Genesis: &other})
			return err
		},
		"an agent of another network": func() error {
			a.set(func() { a.status = func(m *v1.StatusResponse) { m.Chain = other.ChainID().String() } })
			defer a.set(func() { a.status = nil })
			c, err := Open(Config{Path: w.path("ann"), Agent: url})
			w.must(err)
			defer c.Close()
			return c.Sync(t.Context())
		},
		"an agent that says one thing and has another genesis": func() error {
			a.set(func() { a.gene = func(m *v1.GenesisResponse) { m.Genesis = other.JSON() } })
			defer a.set(func() { a.gene = nil })
			c, err := Open(Config{Path: w.path("ann"), Agent: url})
			w.must(err)
			defer c.Close()
			return c.Sync(t.Context())
		},
		"a new wallet at an agent of another network": func() error {
			_, err := Create(t.Context(), Config{Path: w.path("new"), Unsealed: true, Agent: w.url, Chain: other.ChainID()}, entropy("new"))
			if _, stat := os.Stat(w.path("new")); !errors.Is(stat, os.ErrNotExist) {
				t.Errorf("a file was left: %v", stat)
			}
			return err
		},
	}
	for name, row := range rows {
		if err := row(); !IsKind(err, WrongNetwork) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	c, err := Open(Config{Path: w.path("ann")})
	w.must(err)
	defer c.Close()
	foreign := wallet.Address{Lock: c.OwnerKey()}.Text(other.ChainID())
	if _, err := c.ParseAddress(foreign); !wallet.IsKind(err, wallet.AddressNetwork) {
		t.Errorf("an address of another network: error %v", err)
	}
}

// More than there is, by the numbers; and a note that is too long.
func TestTooMuch(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	ann, bob := w.open("ann", w.url), w.open("bob", w.url)
	to := w.address(bob)
	_, err := ann.Pay(t.Context(), Payment{To: to, Amount: 150 * share}, nil)
	var e *wallet.Error
	if !errors.As(err, &e) || e.Kind != wallet.Insufficient || e.Short.Balance != 150*share {
		t.Errorf("error %v", err)
	}
	if _, err := ann.Pay(t.Context(), Payment{To: to, Amount: 0}, nil); !wallet.IsKind(err, wallet.BadAmount) {
		t.Errorf("error %v", err)
	}
	if len(ann.History()) != 0 {
		t.Errorf("history %+v", ann.History())
	}
}

// What cannot be kept is not sent, and is not there later either.
func TestDiskFails(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	a, url := w.agent()
	dir := filepath.Join(w.dir, "disk")
	w.must(os.Mkdir(dir, 0o700))
	w.must(os.Rename(w.path("ann"), filepath.Join(dir, "ann")))
	ann, err := Open(Config{Path: filepath.Join(dir, "ann"), Agent: url, Genesis: w.genesis})
	w.must(err)
	defer ann.Close()
	w.must(ann.Sync(t.Context()))
	to := w.address(w.open("bob", w.url))
	w.must(os.Rename(dir, dir+" unplugged"))
	if _, err := ann.Pay(t.Context(), Payment{To: to, Amount: share}, nil); !IsKind(err, Disk) {
		t.Errorf("error %v", err)
	}
	w.must(os.Rename(dir+" unplugged", dir))
	w.must(ann.Sync(t.Context()))
	if b := ann.Balance(); len(ann.History()) != 0 || len(a.sent) != 0 || b.Available != 150*share {
		t.Errorf("after a payment that could not be kept: history %+v, %d sent, %+v", ann.History(), len(a.sent), b)
	}
	_, err = ann.Pay(t.Context(), Payment{To: to, Amount: share, Until: wallet.Final}, nil)
	w.must(err)
}

// Two files of the same words spend the same coins: one of them is proven to have lost, and is told.
func TestOvertaken(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	a, url := w.agent()
	ann, bob := w.open("ann", url), w.open("bob", w.url)
	twin, err := Restore(t.Context(), Config{Path: w.path("twin"), Unsealed: true, Agent: w.url, Genesis: w.genesis}, entropy("ann"), nil)
	w.must(err)
	defer twin.Close()
	_, err = twin.Pay(t.Context(), Payment{To: w.address(bob), Amount: 140 * share, Until: wallet.Final}, nil)
	w.must(err)
	line, err := ann.Pay(t.Context(), Payment{To: w.address(bob), Amount: 130 * share, Until: wallet.Final}, nil)
	if !IsKind(err, Failed) || line.Status != wallet.Overtaken {
		t.Errorf("error %v, %+v", err, line)
	}
	if len(a.sent) == 0 {
		t.Error("it was never sent")
	}
}

// A watch beside another process sees what that one does, and what comes in.
func TestWatch(t *testing.T) {
	w := newWorld(t, "ann", "bob")
	ann, bob := w.open("ann", w.url), w.open("bob", w.url)
	watcher, err := Open(Config{Path: w.path("bob"), ReadOnly: true})
	w.must(err)
	defer watcher.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	lines := make(chan Line, 100)
	balances := make(chan types.Amount, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- watcher.Watch(ctx, func(n News) {
			switch {
			case n.Line != nil:
				lines <- *n.Line
			case n.Balance != nil:
				balances <- n.Balance.Final
			case n.Trouble != nil:
				t.Errorf("trouble: %v", n.Trouble)
			}
		})
	}()
	if b := <-balances; b != 150*share {
		t.Errorf("starts with %s", b)
	}
	line, err := ann.Pay(t.Context(), Payment{To: w.address(bob), Amount: 3 * share, Until: wallet.Final}, nil) // an address that the watcher learns of from the file
	w.must(err)
	for l := range lines {
		if l.ID == line.ID && l.Status == wallet.Applied && l.Direction == "in" {
			break
		}
	}
	for b := range balances {
		if b == 153*share {
			break
		}
	}
	cancel()
	w.must(<-ended)
}

// An agent that knows less than the wallet has proof of is waited for, and then refused.
func TestAgentBehind(t *testing.T) {
	w := newWorld(t, "ann")
	a, url := w.agent()
	ann := w.open("ann", url)
	asked := 0
	a.set(func() {
		a.status = func(m *v1.StatusResponse) {
			if asked++; asked < 3 {
				m.CertifiedHeight = 0
			}
		}
	})
	w.must(ann.Sync(t.Context()))
	a.set(func() { a.status = func(m *v1.StatusResponse) { m.CertifiedHeight = 0 } })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := ann.Sync(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while waiting: error %v", err)
	}
	ann.config.Patience = time.Millisecond
	if err := ann.Sync(t.Context()); !IsKind(err, WentBack) || asked < 3 {
		t.Errorf("of an agent that had more: error %v after %d", err, asked)
	}
	ann.Close()
	b, other := w.agent()
	b.set(func() { b.status = func(m *v1.StatusResponse) { m.CertifiedHeight = 0 } })
	ann, err := Open(Config{Path: w.path("ann"), Agent: other, Patience: time.Millisecond})
	w.must(err)
	defer ann.Close()
	if err := ann.Sync(t.Context()); !IsKind(err, Behind) {
		t.Errorf("of another: error %v", err)
	}
}

// A checkpoint is trust too: given as an id, as bytes, as an agent's answer.
func TestVerifyByCheckpoint(t *testing.T) {
	w := newWorld(t, "ann")
	ann := w.open("ann", w.url)
	document := types.Hash(sha256.Sum256([]byte("a deed")))
	_, file, err := ann.Notarise(t.Context(), document, "", nil)
	w.must(err)
	f, err := proof.DecodeFile(file)
	w.must(err)
	end := f.Steps[len(f.Steps)-1].Checkpoint
	id := end.ID().String()
	for name, content := range map[string]string{"id": id + "\n", "bytes": string(end.Encode()), "json": `{"id":"` + id + `","height":"7"}`} {
		path := w.path(name)
		w.must(os.WriteFile(path, []byte(content), 0o600))
		trust, err := ReadTrust("", path)
		w.must(err)
		v, err := VerifyProof(file, trust, &document)
		if err != nil || !v.Pinned {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	trust, err := ReadTrust("", id)
	w.must(err)
	trust.Genesis = w.genesis
	if _, err := VerifyProof(file, trust, nil); err != nil {
		t.Errorf("with the genesis as well: %v", err)
	}
	if _, err := VerifyProof(file, Trust{Checkpoint: &types.Hash{1}}, nil); !IsKind(err, NotProof) {
		t.Errorf("by another checkpoint: error %v", err)
	}
	other := types.Hash{2}
	if _, err := VerifyProof(file, Trust{Genesis: w.genesis}, &other); !proof.IsKind(err, proof.WrongDocument) {
		t.Errorf("of another document: error %v", err)
	}
}
