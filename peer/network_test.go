package peer

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/ledger"
	"charter/proof"
	"charter/sig"
	"charter/types"
)

func secret(b ...byte) sig.PrivateKey {
	var d [32]byte
	copy(d[:], b)
	k, err := sig.ParsePrivateKey(d)
	if err != nil {
		panic(err)
	}
	return k
}

// world is a network of real peers in this process, on loopback, each with its directory.
type world struct {
	t       testing.TB
	dir     string
	genesis *types.Genesis
	wallets []sig.PrivateKey // of the genesis' outputs
	configs []Config
	peers   []*Peer // nil while stopped
	log     *recorder
}

// newWorld has n peers of equal shares that host some outputs each.
func newWorld(t testing.TB, n, outputs int) *world {
	w := &world{
		t: t, dir: t.TempDir(), log: &recorder{t: t}, peers: make([]*Peer, n),
		genesis: &types.Genesis{Network: "test", Time: types.MillisOf(time.Now()) - 1000, Params: types.LocalParams},
	}
	for i, address := range udpAddresses(t, n) {
		dir := filepath.Join(w.dir, fmt.Sprintf("peer-%d", i))
		settings := map[string]string{"genesis": "../genesis.json", "api": "127.0.0.1:0", "debug": "127.0.0.1:0", "cache_mb": "4"}
		key, err := Init(dir, settings)
		if err != nil {
			t.Fatal(err)
		}
		w.genesis.Peers = append(w.genesis.Peers, types.GenesisPeer{Peer: key, Name: filepath.Base(dir), Address: address, Reward: secret(2, byte(i)).Public()})
		cfg, err := Load(map[string]string{"dir": dir}, nil)
		if err != nil {
			t.Fatal(err)
		}
		w.configs = append(w.configs, cfg)
	}
	for j := range n * outputs {
		k := secret(3, byte(j>>8), byte(j))
		w.wallets = append(w.wallets, k)
		w.genesis.Outputs = append(w.genesis.Outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: k.Public(), Host: w.genesis.Peers[j%n].Peer})
	}
	if err := os.WriteFile(filepath.Join(w.dir, "genesis.json"), w.genesis.JSON(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range w.peers {
			w.stop(i)
		}
	})
	return w
}

// udpAddresses are free ones on loopback; somebody else may take them, but hardly does.
func udpAddresses(t testing.TB, n int) []string {
	var out []string
	for range n {
		s, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		out = append(out, s.LocalAddr().String())
	}
	return out
}

func (w *world) start(all ...int) {
	w.t.Helper()
	for _, i := range all {
		p, err := Start(w.configs[i], slog.New(slog.NewTextHandler(w.log, nil)).With("peer", i))
		if err != nil {
			w.t.Fatal(err)
		}
		w.peers[i] = p
	}
}

func (w *world) stop(i int) {
	p := w.peers[i]
	if p == nil {
		return
	}
	w.peers[i] = nil
	if err := p.Close(); err != nil {
		w.t.Errorf("peer %d: %v", i, err)
	}
	select {
	case err := <-p.Failed():
		w.t.Errorf("peer %d failed: %v", i, err)
	default:
	}
}

func (w *world) client(i int) charterv1connect.AgentClient {
	return charterv1connect.NewAgentClient(http.DefaultClient, "http://"+w.peers[i].APIAddr())
}

// pay spends genesis output j to new locks with the same host.
func (w *world) pay(j int) []byte {
	o, fee := w.genesis.Outputs[j], types.Amount(1000)
	tx := &types.Transaction{
		Salt: [16]byte{byte(j), byte(j >> 8)}, ValidUntil: types.MaxTime, Fee: fee,
		Inputs: []types.Input{{Position: uint64(j), Source: w.genesis.ChainID(), Index: uint32(j), Output: types.Output(o)}},
		Outputs: []types.Output{
			{Value: 10 * types.UnitsPerShare, Lock: secret(4, byte(j>>8), byte(j)).Public(), Host: o.Host},
			{Value: o.Value - fee - 10*types.UnitsPerShare, Lock: o.Lock, Host: o.Host},
		},
	}
	if err := ledger.SignTransaction(w.genesis.ChainID(), tx, []sig.PrivateKey{w.wallets[j]}); err != nil {
		w.t.Fatal(err)
	}
	return tx.Encode()
}

// settle submits payment j at a peer, watches it there until it is final and proven, verifies
// the proof, and gives the tiers that it went through.
func (w *world) settle(j, at int) (tiers []v1.Tier) {
	w.t.Helper()
	return w.watch(w.submit(j, at), at)
}

// submit gives payment j to a peer.
func (w *world) submit(j, at int) (id string) {
	w.t.Helper()
	r, err := w.client(at).Submit(w.t.Context(), connect.NewRequest(&v1.SubmitRequest{Transaction: w.pay(j), Chain: w.genesis.ChainID().String()}))
	if err != nil {
		w.t.Fatalf("submit at peer %d: %v", at, err)
	}
	return r.Msg.Id
}

// proof asks a peer for a proof.
func (w *world) proof(at int, q *v1.ProofRequest) (*v1.ProofResponse, error) {
	r, err := w.client(at).Proof(w.t.Context(), connect.NewRequest(q))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// watch is settle for a transaction that somebody submitted.
func (w *world) watch(id string, at int) (tiers []v1.Tier) {
	w.t.Helper()
	stream, err := w.client(at).Watch(w.t.Context(), connect.NewRequest(&v1.WatchRequest{Transactions: []string{id}}))
	if err != nil {
		w.t.Fatal(err)
	}
	defer stream.Close()
	deadline := time.AfterFunc(20*time.Second, func() { stream.Close() })
	defer deadline.Stop()
	for stream.Receive() {
		switch m := stream.Msg().What.(type) {
		case *v1.WatchResponse_Tier:
			tiers = append(tiers, m.Tier.Tier)
		case *v1.WatchResponse_Final:
			v, err := proof.VerifyFile(m.Final.Proof, proof.Genesis(w.genesis), nil)
			if err != nil {
				w.t.Fatal(err)
			}
			if !v.Applied || v.Transaction.String() != id || len(v.Outputs) != 2 || v.Strength.Signed*3 <= v.Strength.Total*2 {
				w.t.Fatalf("verdict %+v", v)
			}
			return tiers
		}
	}
	w.t.Fatalf("peer %d: %s came to %v: %v\n%+v", at, id, tiers, stream.Err(), w.peers[at].Status())
	return nil
}

// eventually waits for something that takes its time.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// recorder is a log that tests look into.
type recorder struct {
	t    testing.TB
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(b)
}

func (r *recorder) has(text string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Contains(r.text.Bytes(), []byte(text))
}
