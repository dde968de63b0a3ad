package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/peer"
	"charter/types"
	"charter/wallet"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/golang/glog.(*fileSink).flushDaemon"))
}

const share = types.UnitsPerShare

// world is a network of one real peer in this process, and wallets on disk.
type world struct {
	t       testing.TB
	dir     string
	config  peer.Config
	genesis *types.Genesis
	peer    *peer.Peer
	url     string
	wallets map[string]*Client
}

// newWorld has wallets with these names, each of which owns 100 + 50 shares from the start.
func newWorld(t testing.TB, names ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), wallets: make(map[string]*Client)}
	dir := filepath.Join(w.dir, "peer")
	key, err := peer.Init(dir, map[string]string{"api": "127.0.0.1:0", "debug": "", "cache_mb": "4"})
	w.must(err)
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	w.must(err)
	w.genesis = &types.Genesis{Network: "test", Time: types.MillisOf(time.Now()) - 1000, Params: types.LocalParams}
	w.genesis.Params.WaitIdle = 20 // the tests wait for heights
	w.genesis.Peers = []types.GenesisPeer{{Peer: key, Name: "peer", Address: socket.LocalAddr().String(), Reward: key}}
	socket.Close()
	for _, name := range names {
		c, err := Create(t.Context(), Config{Path: w.path(name), Unsealed: true}, entropy(name))
		w.must(err)
		for _, value := range []types.Amount{100 * share, 50 * share} {
			w.genesis.Outputs = append(w.genesis.Outputs, types.GenesisOutput{Value: value, Lock: c.OwnerKey(), Host: key})
		}
		w.must(c.Close())
	}
	w.must(w.genesis.Check())
	w.must(os.WriteFile(filepath.Join(dir, "genesis.json"), w.genesis.JSON(), 0o600))
	w.config, err = peer.Load(map[string]string{"dir": dir}, nil)
	w.must(err)
	w.start()
	t.Cleanup(func() {
		for _, c := range w.wallets {
			c.Close()
		}
		w.must(w.peer.Close())
	})
	return w
}

func (w *world) start() {
	w.t.Helper()
	var err error
	w.peer, err = peer.Start(w.config, slog.New(slog.DiscardHandler))
	w.must(err)
	w.url = "http://" + w.peer.APIAddr()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name+".wallet") }

func entropy(name string) (e [32]byte) {
	copy(e[:], "client test "+name)
	return e
}

// open opens a wallet that newWorld made, at an agent, and brings it up to now.
func (w *world) open(name, url string) *Client {
	w.t.Helper()
	c, err := Open(Config{Path: w.path(name), Agent: url, Genesis: w.genesis})
	w.must(err)
	w.wallets[name] = c
	w.must(c.Sync(w.t.Context()))
	return c
}

// address is a fresh one.
func (w *world) address(c *Client) wallet.Address {
	w.t.Helper()
	a, _, err := c.Address(w.t.Context())
	w.must(err)
	return a
}

// agent stands before the peer's, and answers otherwise where a test says so.
type agent struct {
	real charterv1connect.AgentClient

	mu         sync.Mutex
	submit     func(*v1.SubmitRequest) error                    // refuses, if it gives an error
	prove      func(*v1.ProofRequest, *v1.ProofResponse)        // changes what is proven
	status     func(*v1.StatusResponse)                         // changes it
	gene       func(*v1.GenesisResponse)                        // changes it
	told       func(n int, m *v1.WatchResponse) (end, out bool) // of the n-th message of a watch: end it now, leave it out
	advance    func(*v1.AdvanceResponse)                        // changes it
	directory  func(*v1.DirectoryResponse)                      // changes it
	checkpoint func(*v1.CheckpointResponse)                     // changes it
	deny       func(call string, q any) error                   // refuses, if it gives an error
	sent       [][]byte                                         // all that was submitted
}

func (w *world) agent() (*agent, string) {
	a := &agent{real: charterv1connect.NewAgentClient(http.DefaultClient, w.url)}
	mux := http.NewServeMux()
	mux.Handle(charterv1connect.NewAgentHandler(a))
	s := httptest.NewServer(mux)
	w.t.Cleanup(func() {
		for _, c := range w.wallets {
			c.Close()
		}
		http.DefaultClient.CloseIdleConnections()
		s.CloseClientConnections()
		s.Close()
	})
	return a, s.URL
}

// set changes what the agent does.
func (a *agent) set(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *agent) Submit(ctx context.Context, r *connect.Request[v1.SubmitRequest]) (*connect.Response[v1.SubmitResponse], error) {
	a.mu.Lock()
	refuse := a.submit
	a.sent = append(a.sent, r.Msg.Transaction)
	a.mu.Unlock()
	if refuse != nil {
		if err := refuse(r.Msg); err != nil {
			return nil, err
		}
	}
	return a.real.Submit(ctx, ask(r.Msg))
}

func (a *agent) SubmitAll(ctx context.Context, r *connect.Request[v1.SubmitAllRequest]) (*connect.Response[v1.SubmitAllResponse], error) {
	return a.real.SubmitAll(ctx, ask(r.Msg))
}

func (a *agent) Proof(ctx context.Context, r *connect.Request[v1.ProofRequest]) (*connect.Response[v1.ProofResponse], error) {
	if err := a.denies(ctx, "Proof", r.Msg); err != nil {
		return nil, err
	}
	out, err := a.real.Proof(ctx, ask(r.Msg))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.prove != nil {
		a.prove(r.Msg, out.Msg)
	}
	return out, err
}

func (a *agent) Status(ctx context.Context, r *connect.Request[v1.StatusRequest]) (*connect.Response[v1.StatusResponse], error) {
	out, err := a.real.Status(ctx, ask(r.Msg))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.status != nil {
		a.status(out.Msg)
	}
	return out, err
}

func (a *agent) Genesis(ctx context.Context, r *connect.Request[v1.GenesisRequest]) (*connect.Response[v1.GenesisResponse], error) {
	out, err := a.real.Genesis(ctx, ask(r.Msg))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.gene != nil {
		a.gene(out.Msg)
	}
	return out, err
}

func (a *agent) Checkpoint(ctx context.Context, r *connect.Request[v1.CheckpointRequest]) (*connect.Response[v1.CheckpointResponse], error) {
	out, err := a.real.Checkpoint(ctx, ask(r.Msg))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.checkpoint != nil {
		a.checkpoint(out.Msg)
	}
	return out, err
}

func (a *agent) Advance(ctx context.Context, r *connect.Request[v1.AdvanceRequest]) (*connect.Response[v1.AdvanceResponse], error) {
	out, err := a.real.Advance(ctx, ask(r.Msg))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.advance != nil {
		a.advance(out.Msg)
	}
	return out, err
}

func (a *agent) Directory(ctx context.Context, r *connect.Request[v1.DirectoryRequest]) (*connect.Response[v1.DirectoryResponse], error) {
	out, err := a.real.Directory(ctx, ask(r.Msg))
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.directory != nil {
		a.directory(out.Msg)
	}
	return out, err
}

func (a *agent) Watch(ctx context.Context, r *connect.Request[v1.WatchRequest], out *connect.ServerStream[v1.WatchResponse]) error {
	if err := a.denies(ctx, "Watch", r.Msg); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, err := a.real.Watch(ctx, ask(r.Msg))
	if err != nil {
		return err
	}
	defer in.Close()
	defer cancel()
	for n := 0; in.Receive(); n++ {
		a.mu.Lock()
		told := a.told
		a.mu.Unlock()
		if told != nil {
			end, leave := told(n, in.Msg())
			if end {
				return nil
			}
			if leave {
				continue
			}
		}
		if err := out.Send(in.Msg()); err != nil {
			return err
		}
	}
	return in.Err()
}

// errHang makes a call wait until its client has gone.
var errHang = errors.New("hang")

func (a *agent) denies(ctx context.Context, call string, q any) error {
	a.mu.Lock()
	deny := a.deny
	a.mu.Unlock()
	if deny == nil {
		return nil
	}
	err := deny(call, q)
	if err == errHang {
		<-ctx.Done()
		time.Sleep(50 * time.Millisecond) // the call's deadline is known here too
	}
	return err
}

// honest takes all lies back.
func (a *agent) honest() {
	a.set(func() {
		a.submit, a.prove, a.status, a.gene, a.told, a.advance, a.directory, a.checkpoint, a.deny = nil, nil, nil, nil, nil, nil, nil, nil, nil
	})
}

// says is an agent's refusal.
func refusal(code connect.Code, kind string) error {
	err := connect.NewError(code, fmt.Errorf("refused in a test: %s", kind))
	detail, _ := connect.NewErrorDetail(&v1.ErrorDetail{Kind: kind})
	err.AddDetail(detail)
	return err
}
