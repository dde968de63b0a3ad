package client

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/peer"
	"charter/proof"
	"charter/sig"
	"charter/types"
	"charter/wallet"
)

// forger has the key of the only peer, and certifies what it likes with it.
type forger struct {
	t   *testing.T
	key sig.PrivateKey
}

func (w *world) forger() forger {
	key, _, err := peer.ReadKey(filepath.Join(w.dir, "peer", "peer.key"))
	w.must(err)
	return forger{w.t.(*testing.T), key}
}

// fork is the checkpoint of another past, certified.
func (f forger) fork(cp *types.Checkpoint, cert *types.Certificate) {
	if cp.Height == 0 {
		return
	}
	cp.HistoryRoot[0] ^= 1
	cert.Votes = []types.MemberVote{{Signature: sig.Sign(f.key, types.VoteDigest(cp.Chain, cp.Height, cp.ID()))}}
}

func (f forger) bytes(checkpoint, certificate *[]byte) {
	cp, err := types.DecodeCheckpoint(*checkpoint)
	if err != nil || len(*certificate) == 0 {
		return // a file, or the genesis
	}
	cert, err := types.DecodeCertificate(*certificate)
	if err != nil {
		f.t.Error(err)
		return
	}
	f.fork(cp, cert)
	*checkpoint, *certificate = cp.Encode(), cert.Encode()
}

// all makes an agent serve another fork, all the way. The caller holds its lock.
func (f forger) all(a *agent) {
	a.advance = func(m *v1.AdvanceResponse) {
		for i := range m.Steps {
			s, _ := proof.Decode(m.Steps[i])
			step := s.(*proof.Advance)
			for j := range step.Steps {
				f.fork(&step.Steps[j].Checkpoint, &step.Steps[j].Certificate)
			}
			m.Steps[i] = step.Encode()
		}
	}
	a.prove = func(_ *v1.ProofRequest, m *v1.ProofResponse) { f.bytes(&m.Checkpoint, &m.Certificate) }
	a.checkpoint = func(m *v1.CheckpointResponse) { f.bytes(&m.Checkpoint, &m.Certificate) }
}

// copyOf is a wallet file's copy, opened at an agent, with others to turn to.
func (w *world) copyOf(name, as string, config Config) (*Client, *[]Fault) {
	w.t.Helper()
	data, err := os.ReadFile(w.path(name))
	w.must(err)
	config.Path = filepath.Join(w.dir, as, "wallet")
	w.must(os.MkdirAll(filepath.Dir(config.Path), 0o700))
	w.must(os.WriteFile(config.Path, data, 0o600))
	caught, mu := new([]Fault), new(sync.Mutex)
	config.Caught = func(f Fault) {
		mu.Lock()
		defer mu.Unlock()
		*caught = append(*caught, f)
	}
	config.Genesis, config.Patience, config.Timeout = w.genesis, 100*time.Millisecond, 250*time.Millisecond
	c, err := Open(config)
	w.must(err)
	w.t.Cleanup(func() { c.Close() })
	return c, caught
}

// liars has ann, whose file knows nothing of two payments that bob made to her.
func liars(t *testing.T) (w *world, a *agent, url string, paid [2]Line) {
	w = newWorld(t, "ann", "bob")
	a, url = w.agent()
	ann, bob := w.open("ann", w.url), w.open("bob", w.url)
	to := w.address(ann)
	w.must(ann.Close())
	var err error
	for i := range paid {
		paid[i], err = bob.Pay(t.Context(), Payment{To: to, Amount: types.Amount(i+1) * share, Until: wallet.Final}, nil)
		w.must(err)
	}
	return w, a, url, paid
}

// rows are an agent's lies, one each.
func lies(w *world, a *agent, paid [2]Line) map[string]struct {
	kind  Kind
	first bool // the agent was honest before
	lie   func(c *Client)
} {
	type row = struct {
		kind  Kind
		first bool
		lie   func(*Client)
	}
	key := func(change func(k *proof.Key)) func(*Client) {
		return func(*Client) {
			a.prove = func(_ *v1.ProofRequest, m *v1.ProofResponse) {
				if s, err := proof.Decode(m.Proof); err == nil {
					if k, ok := s.(*proof.Key); ok && len(k.Events) > 0 {
						change(k)
						m.Proof = k.Encode()
					}
				}
			}
		}
	}
	deny := func(when func(call string, q any) bool, err error) func(*Client) {
		return func(*Client) {
			a.deny = func(call string, q any) error {
				if when(call, q) {
					return err
				}
				return nil
			}
		}
	}
	notFound := refusal(connect.CodeNotFound, saysNotFound)
	isKey := func(_ string, q any) bool { p, ok := q.(*v1.ProofRequest); return ok && p.GetKey() != nil }
	isTx := func(_ string, q any) bool { p, ok := q.(*v1.ProofRequest); return ok && p.GetTransaction() != "" }
	return map[string]row{
		"withholds a transaction":                           {Withheld, false, deny(isTx, notFound)},
		"says forever that a transaction is not proven yet": {Withheld, false, deny(isTx, refusal(connect.CodeUnavailable, saysNotYet))},
		"withholds a key":                                   {Withheld, false, deny(isKey, notFound)},
		"never answers":                                     {Silent, false, deny(isKey, errHang)},
		"never tells":                                       {Silent, false, deny(func(call string, _ any) bool { return call == "Watch" }, errHang)},
		"goes back":                                         {WentBack, true, func(*Client) { a.status = func(m *v1.StatusResponse) { m.CertifiedHeight = 1 } }},
		"stays at genesis":                                  {Stale, false, func(*Client) { a.advance = func(m *v1.AdvanceResponse) { m.Steps = nil } }},
		"serves another fork":                               {Forked, true, func(*Client) { w.forger().all(a) }},
		"gives a stale proof": {Stale, true, func(c *Client) {
			q := &v1.ProofRequest{What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: c.OwnerKey().String()}}}
			old, err := a.real.Proof(context.Background(), ask(q))
			w.must(err)
			time.Sleep(100 * time.Millisecond) // heights pass
			a.prove = func(_ *v1.ProofRequest, m *v1.ProofResponse) {
				if s, err := proof.Decode(m.Proof); err == nil {
					if _, ok := s.(*proof.Key); ok {
						m.Proof, m.Checkpoint, m.Certificate = old.Msg.Proof, old.Msg.Checkpoint, old.Msg.Certificate
					}
				}
			}
		}},
		"drops the last event":           {NotProven, false, key(func(k *proof.Key) { k.Events, k.Log.Count = k.Events[:len(k.Events)-1], k.Log.Count-1 })},
		"drops the first event":          {NotProven, false, key(func(k *proof.Key) { k.Events, k.Log.Count = k.Events[1:], k.Log.Count-1 })},
		"says that a key was never used": {NotProven, false, key(func(k *proof.Key) { k.Events, k.Log = nil, types.LogState{} })},
		"changes a value":                {NotProven, false, key(func(k *proof.Key) { k.Events[0].Output.Value++ })},
		"changes a height":               {NotProven, false, key(func(k *proof.Key) { k.Events[0].Height++ })},
		"proves another payment": {NotProven, false, func(*Client) {
			a.prove = func(q *v1.ProofRequest, m *v1.ProofResponse) {
				for i := range paid {
					if q.GetTransaction() == paid[i].ID.String() {
						other := &v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: paid[1-i].ID.String()}}
						r, err := a.real.Proof(context.Background(), ask(other))
						if err != nil {
							w.t.Error(err)
							return
						}
						m.Proof = r.Msg.Proof
					}
				}
			}
		}},
		"answers with garbage": {NotProven, false, func(*Client) {
			a.prove = func(_ *v1.ProofRequest, m *v1.ProofResponse) { m.Proof = []byte("trust me") }
		}},
		"steps that are garbage": {NotProven, false, func(*Client) {
			a.advance = func(m *v1.AdvanceResponse) { m.Steps = [][]byte{{1}} }
		}},
		"a peer at another address": {WrongPeers, false, func(*Client) {
			a.directory = func(m *v1.DirectoryResponse) { m.Peers[0].Address = "198.51.100.1:1" }
		}},
		"a peer left out": {WrongPeers, false, func(*Client) { a.directory = func(m *v1.DirectoryResponse) { m.Peers = nil } }},
		"a peer that is not": {WrongPeers, false, func(*Client) {
			a.directory = func(m *v1.DirectoryResponse) {
				m.Peers = append(m.Peers, &v1.DirectoryEntry{Name: "x", Key: types.Key{31: 1}.String(), Address: "198.51.100.1:1"})
			}
		}},
		"a peer's shares": {NotProven, false, func(*Client) {
			a.prove = func(_ *v1.ProofRequest, m *v1.ProofResponse) {
				if s, err := proof.Decode(m.Proof); err == nil {
					if p, ok := s.(*proof.Peer); ok {
						p.State.Shares *= 2
						m.Proof = p.Encode()
					}
				}
			}
		}},
	}
}

// Every way of lying is caught and named, the evidence is on disk, and the wallet goes on at an
// honest agent, with all that is true.
func TestLiars(t *testing.T) {
	w, a, url, paid := liars(t)
	for name, row := range lies(w, a, paid) {
		a.honest()
		c, caught := w.copyOf("ann", strings.ReplaceAll(name, " ", "-"), Config{Agent: url, Others: []string{w.url}})
		if row.first {
			w.must(c.Sync(t.Context()))
			time.Sleep(50 * time.Millisecond) // heights pass
		}
		a.set(func() { row.lie(&Client{w: c.w}) })
		w.must(c.Sync(t.Context()))
		peers, at, err := c.Peers(t.Context())
		if err != nil || len(peers) != 1 || peers[0].Address != w.genesis.Peers[0].Address || at.Height == 0 {
			t.Errorf("%s: peers %+v as of %d, %v", name, peers, at.Height, err)
		}
		if b := c.Balance(); b.Final != 153*share || b.AsOf.Height == 0 || len(c.History()) != 2 {
			t.Errorf("%s: in the end the wallet has %+v and %d lines", name, b, len(c.History()))
		}
		f := find(*caught, row.kind)
		if f == nil || f.Agent.URL != url || f.Agent.Peer != w.genesis.Peers[0].Peer || f.Agent.Name != "peer" || f.Next != w.url || f.Err == nil {
			t.Errorf("%s: caught %+v", name, *caught)
			continue
		}
		data, err := os.ReadFile(f.Evidence)
		w.must(err)
		v, err := DecodeEvidence(data)
		if err != nil || v.Lie == nil || v.Lie.Kind != row.kind || v.Lie.Agent != f.Agent || v.Lie.Call == "" || len(v.Lie.Question) == 0 && v.Lie.Call == "Proof" || !strings.Contains(v.Lie.Sentence(), url) {
			t.Errorf("%s: evidence %+v, %v", name, v, err)
		}
		if row.kind == NotProven && v != nil && len(v.Lie.Answer) == 0 {
			t.Errorf("%s: the answer was not kept", name)
		}
		if Kind.damning(row.kind) != (c.Agent().Address == w.url) {
			t.Errorf("%s: afterwards the agent is %+v", name, c.Agent())
		}
		w.must(c.Close())
	}
}

func find(caught []Fault, k Kind) *Fault {
	for i := range caught {
		if caught[i].Kind == k {
			return &caught[i]
		}
	}
	return nil
}

// A lie with nobody else to ask is an error, and nothing of it is believed.
func TestLiarAlone(t *testing.T) {
	w, a, url, _ := liars(t)
	c, caught := w.copyOf("ann", "alone", Config{Agent: url})
	a.set(func() { a.prove = func(_ *v1.ProofRequest, m *v1.ProofResponse) { m.Proof = []byte("trust me") } })
	if err := c.Sync(t.Context()); !IsKind(err, NotProven) || len(*caught) != 1 || (*caught)[0].Next != "" {
		t.Errorf("error %v, caught %+v", err, *caught)
	}
	a.honest()
	w.must(c.Sync(t.Context())) // it is the one that was named
}

// Two certified checkpoints of one height: both are kept, whoever signed both is named, and the
// wallet does not deal until it is told to; reading goes on.
func TestTwoPasts(t *testing.T) {
	w, a, url, _ := liars(t)
	a.set(func() { w.forger().all(a) })
	for name, agents := range map[string][2]string{"at an honest agent": {w.url, url}, "at the other": {url, w.url}} {
		c, caught := w.copyOf("bob", strings.ReplaceAll(name, " ", "-"), Config{Agent: agents[0], Others: []string{agents[1]}})
		_ = c.Sync(t.Context()) // at the other, nothing is proven
		clashes := c.Conflicts()
		if len(clashes) == 0 {
			t.Errorf("%s: no conflict; caught %+v", name, *caught)
			continue
		}
		f := find(*caught, Conflicted)
		if f == nil || !strings.HasPrefix(filepath.Base(clashes[0].Evidence), "evidence-") || !strings.HasSuffix(clashes[0].Evidence, EvidenceSuffix) {
			t.Errorf("%s: caught %+v, kept %+v", name, *caught, clashes)
		}
		data, err := os.ReadFile(clashes[0].Evidence)
		w.must(err)
		v, err := DecodeEvidence(data)
		w.must(err)
		found, err := v.Verify(w.genesis)
		if err != nil || len(found.Both) != 1 || found.Both[0].Name != "peer" || found.Shares != found.Total || found.Height != clashes[0].Height || strings.Count(found.Sentence(), url+" (peer peer") != 1 {
			t.Errorf("%s: found %+v, %v", name, found, err)
		}
		if _, err := c.Pay(t.Context(), Payment{To: wallet.Address{Lock: c.OwnerKey()}, Amount: share}, nil); !IsKind(err, Conflicted) {
			t.Errorf("%s: paying: error %v", name, err)
		}
		if _, _, err := c.Notarise(t.Context(), types.Hash{1}, "", nil); !IsKind(err, Conflicted) {
			t.Errorf("%s: notarising: error %v", name, err)
		}
		w.must(c.Close())
		again, err := Open(Config{Path: c.config.Path, DespiteConflict: true})
		w.must(err)
		if err := again.mayDeal(); err != nil || len(again.Conflicts()) == 0 {
			t.Errorf("%s: told to deal: %v, %d conflicts", name, err, len(again.Conflicts()))
		}
		w.must(again.Close())
		for i := range data { // no byte of it can be another
			if i%7 == 0 {
				bad := append([]byte(nil), data...)
				bad[i] ^= 1
				if v, err := DecodeEvidence(bad); err == nil {
					if _, err := v.Verify(w.genesis); err == nil && !strings.Contains(string(data[i-40:min(len(data), i+40)]), "peer") && !strings.Contains(string(data[i-40:min(len(data), i+40)]), "http") {
						t.Errorf("%s: byte %d of %d changed, and it still holds", name, i, len(data))
					}
				}
			}
		}
	}
}

// Restoring is not misled by an agent that hides a key's history.
func TestRestoreAtLiar(t *testing.T) {
	w, a, url, paid := liars(t)
	lies(w, a, paid)["says that a key was never used"].lie(nil)
	var caught []Fault
	config := Config{Path: w.path("restored"), Unsealed: true, Agent: url, Genesis: w.genesis}
	if _, err := Restore(t.Context(), config, entropy("ann"), nil); !IsKind(err, NotProven) {
		t.Errorf("alone: error %v", err)
	}
	if _, err := os.Stat(config.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("alone: a file was left: %v", err)
	}
	config.Others, config.Caught = []string{w.url}, func(f Fault) { caught = append(caught, f) }
	c, err := Restore(t.Context(), config, entropy("ann"), nil)
	w.must(err)
	defer c.Close()
	if b := c.Balance(); b.Final != 153*share || len(c.History()) != 2 || len(caught) != 1 || caught[0].Agent.URL != url {
		t.Errorf("restored %+v with %d lines; caught %+v", b, len(c.History()), caught)
	}
}

// Agents of other networks come first, and no more than a few.
func TestSample(t *testing.T) {
	c := &Client{w: wallet.New(types.Hash{}, &types.LocalParams, entropy("x"), 0), watched: watched{known: make(map[string]*known)}}
	if err := c.list([]string{"http://10.1.0.1:1", "http://10.1.0.2:1", "http://10.1.9.3:1", "http://10.2.0.1:1/", "http://a.example.org:1", "http://b.example.org:1"}); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		s := visit{c, &link{url: "http://10.1.0.1:1"}}.sample()
		met := map[string]int{}
		for _, u := range s {
			met[network(u)]++
		}
		if len(s) != sampleSize || met["10.2.0.0/16"] != 1 || met["example.org"] == 0 || network(s[0]) == "10.1.0.0/16" || network(s[1]) == "10.1.0.0/16" {
			t.Fatalf("sample %v", s)
		}
	}
}

func FuzzDecodeEvidence(f *testing.F) {
	lie := &Evidence{Chain: types.Hash{1}, Lie: &Lie{Agent: Witness{URL: "http://a:1", Peer: types.Key{2}, Name: "a"}, Time: 3, Height: 4, Kind: NotProven, Step: "s", Text: "t", Call: "Proof", Question: []byte{5}, Answer: []byte{6}}}
	side := Side{Snapshot: types.Snapshot{Members: []types.Member{{Peer: types.Key{1}, Shares: 5}}}, Agents: []Witness{{URL: "http://a:1", Name: "a"}}}
	f.Add(lie.Encode())
	f.Add((&Evidence{Conflict: &Conflict{[2]Side{side, side}}}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := DecodeEvidence(data)
		if err != nil {
			if !IsKind(err, NotEvidence) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if string(v.Encode()) != string(data) {
			t.Fatal("it encodes to other bytes")
		}
		_, _ = v.Verify(nil)
	})
}
