package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/chain"
	"charter/types"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a Chain in memory. Tests publish what happens in it.
type world struct {
	genesis *types.Genesis

	publishing sync.Mutex // one publish at a time
	mu         sync.Mutex
	now        chain.Update // heights
	txs        map[types.Hash]chain.Transaction
	keys       []types.KeyEvent // by height
	subs       []sub
	certified  *chain.Certified
	past

	submit func(context.Context, []byte) error // nil: accepts
	fail   error                               // what the other calls answer, if set
}

type sub struct {
	ctx context.Context
	ch  chan chain.Update
}

func key(b byte) (k types.Key) {
	k[0], k[31] = b, 1
	return k
}

func hash(n int) (h types.Hash) {
	h[0], h[1], h[2], h[31] = byte(n>>16), byte(n>>8), byte(n), 2
	return h
}

func newWorld() *world {
	g := &types.Genesis{
		Network: "test", Time: 1_700_000_000_000, Params: types.LocalParams,
		Peers:   []types.GenesisPeer{{Peer: key(1), Name: "ann", Address: "127.0.0.1:1", Reward: key(9)}, {Peer: key(2), Name: "bob", Address: "127.0.0.1:2", Reward: key(9)}},
		Outputs: []types.GenesisOutput{{Value: 3e8, Lock: key(9), Host: key(1)}, {Value: 150_000_000, Lock: key(9), Host: key(2)}},
	}
	if err := g.Check(); err != nil {
		panic(err)
	}
	return &world{genesis: g, txs: make(map[types.Hash]chain.Transaction)}
}

// publish makes an update true, then tells it. Zero heights stay as they were.
func (w *world) publish(u chain.Update) {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	w.mu.Lock()
	u.Height, u.Final, u.Certified = max(u.Height, w.now.Height), max(u.Final, w.now.Final), max(u.Certified, w.now.Certified)
	w.now = chain.Update{At: u.At, Height: u.Height, Final: u.Final, Certified: u.Certified}
	for _, t := range u.Tiers {
		w.txs[t.Transaction] = chain.Transaction{Tier: t.Tier, Block: t.Block, At: u.At}
	}
	for _, e := range u.Events {
		tier := chain.Final
		if e.Kind == types.Rejected {
			tier = chain.Rejected
		}
		w.txs[e.Transaction] = chain.Transaction{Tier: tier, Block: e.Block, At: u.At, Event: &e}
	}
	w.keys = append(w.keys, u.Keys...)
	snapshot := w.genesis.Snapshot()
	w.certified = &chain.Certified{
		Checkpoint:  &types.Checkpoint{Chain: w.genesis.ChainID(), Height: u.Certified, SnapshotRoot: snapshot.Root(w.genesis.ChainID())},
		Certificate: &types.Certificate{Votes: []types.MemberVote{{Index: 0}}}, Snapshot: snapshot,
	}
	subs := w.subs
	w.mu.Unlock()
	for _, s := range subs {
		select {
		case s.ch <- u:
		case <-s.ctx.Done():
		}
	}
}

func (w *world) Updates(ctx context.Context) <-chan chain.Update {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	s := sub{ctx, make(chan chain.Update, 1)}
	s.ch <- w.now
	w.mu.Lock()
	w.subs = append(w.subs, s)
	w.mu.Unlock()
	context.AfterFunc(ctx, func() {
		w.publishing.Lock()
		defer w.publishing.Unlock()
		w.subs = slices.DeleteFunc(slices.Clone(w.subs), func(o sub) bool { return o.ch == s.ch })
		close(s.ch)
	})
	return s.ch
}

func (w *world) SubmitAll(ctx context.Context, raws [][]byte) []chain.Answer {
	out := make([]chain.Answer, len(raws))
	for i, raw := range raws {
		out[i].ID, out[i].Err = w.take(ctx, raw)
	}
	return out
}

func (w *world) take(ctx context.Context, raw []byte) (types.Hash, error) {
	if w.submit != nil {
		if err := w.submit(ctx, raw); err != nil {
			return types.Hash{}, err
		}
	}
	tx, err := types.DecodeTransaction(raw)
	if err != nil {
		return types.Hash{}, err
	}
	id := tx.ID(w.genesis.ChainID())
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, there := w.txs[id]; !there {
		w.txs[id] = chain.Transaction{Tier: chain.Waiting, At: w.now.At}
	}
	return id, nil
}

func (w *world) Transaction(id types.Hash) (chain.Transaction, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.txs[id], w.fail
}

func (w *world) KeyEvents(lock types.Key, from uint64, limit int) (events []types.KeyEvent, through uint64, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.keys {
		e := &w.keys[i]
		if e.Output.Lock != lock || e.Height < from {
			continue
		}
		if len(events) >= limit && e.Height > events[len(events)-1].Height {
			return events, events[len(events)-1].Height, w.fail
		}
		events = append(events, *e)
	}
	return events, w.now.Final, w.fail
}

// prove stands for a proof: its bytes say what it is of.
func (w *world) prove(format string, args ...any) (chain.Proof, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return chain.Proof{Bytes: fmt.Appendf(nil, format, args...), At: w.certified}, w.fail
}

func (w *world) TransactionProof(id types.Hash) (chain.Proof, error) {
	return w.prove("transaction %s", id)
}

// pruned stands for something that the chain does not keep.
const pruned = 1 << 40

func (w *world) OutputProof(position uint64) (chain.Proof, error) {
	if position == pruned {
		return chain.Proof{}, &chain.Error{Kind: chain.NotKept, Reason: "7", Text: "it is from before height 7"}
	}
	return w.prove("output %d", position)
}

func (w *world) KeyProof(k types.Key, latest uint32) (chain.Proof, error) {
	return w.prove("key %s %d", k, latest)
}
func (w *world) NameProof(name string) (chain.Proof, error) { return w.prove("name %s", name) }
func (w *world) PeerProof(k types.Key) (chain.Proof, error) { return w.prove("peer %s", k) }
func (w *world) ConsistencyProof(from uint64) (chain.Proof, error) {
	return w.prove("consistency %d", from)
}

func (w *world) Checkpoint(height uint64) (*chain.Certified, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if height != chain.Newest && height > w.now.Certified {
		return nil, &chain.Error{Kind: chain.NotYet, Text: fmt.Sprintf("height %d is not certified yet", height)}
	}
	return w.certified, w.fail
}

func (w *world) Advance(from, _ uint64) ([][]byte, uint64, error) {
	if from > 100 {
		return nil, 0, &chain.Error{Kind: chain.NotFound, Text: fmt.Sprintf("no checkpoint at height %d", from)}
	}
	return [][]byte{{1}, {2}}, 77, w.fail
}

func (w *world) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return Status{
		Key: key(1), Name: "ann", Height: w.now.Height, Final: w.now.Final, Certified: w.now.Certified,
		Peers: []Peer{
			{Key: key(1), Name: "ann", Address: "127.0.0.1:1", Shares: 3e8, Connected: true},
			{Key: key(2), Name: "bob", Address: "127.0.0.1:2", Shares: 150_000_000, Lag: 3, RTT: 250 * time.Microsecond},
		},
		Shares: 450_000_000, PoolTransactions: 5, PoolBytes: 600, Connections: 7,
	}
}

// at is the news that a transaction has a tier.
func at(tx, block types.Hash, tier chain.Tier) chain.TierChange {
	return chain.TierChange{Transaction: tx, Block: block, Tier: tier}
}

// setup serves a world, with limits changed as change says, until the test ends.
type setup struct {
	*world
	agent  *Agent
	url    string
	http   *http.Client
	client charterv1connect.AgentClient
}

func serve(t *testing.T, change func(*Limits)) *setup {
	t.Helper()
	limits := DefaultLimits
	limits.Heartbeat = 5 * time.Millisecond
	if change != nil {
		change(&limits)
	}
	w := newWorld()
	w.publish(chain.Update{})
	a := New(Config{Chain: w, Status: w.Status, Genesis: w.genesis, Limits: limits, Version: "v0", Key: logSecret(t)})
	mux := http.NewServeMux()
	mux.Handle(a.Handler())
	mux.Handle(a.LogHandler())
	server := httptest.NewUnstartedServer(nil)
	server.Config = a.Server(mux)
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if err := c.(*net.TCPConn).SetWriteBuffer(4096); err != nil { // so that a test can fill it
			t.Error(err)
		}
		return ctx
	}
	server.Start()
	client := server.Client()
	t.Cleanup(func() {
		a.Close()
		client.CloseIdleConnections()
		server.Close()
	})
	return &setup{w, a, server.URL, client, charterv1connect.NewAgentClient(client, server.URL)}
}

// detail is the ErrorDetail of an error that a client got, or nil.
func detail(err error) *v1.ErrorDetail {
	var ce *connect.Error
	if !errors.As(err, &ce) || len(ce.Details()) != 1 {
		return nil
	}
	v, err := ce.Details()[0].Value()
	if err != nil {
		return nil
	}
	d, _ := v.(*v1.ErrorDetail)
	return d
}

// transaction is a well-formed one; n makes it unlike others.
func transaction(n byte) *types.Transaction {
	return &types.Transaction{
		Salt: [16]byte{n}, ValidUntil: types.MaxTime,
		Outputs: []types.Output{{Value: 1, Lock: key(n)}}, Records: []types.Record{types.Notarise{Document: hash(int(n))}},
	}
}

func (s *setup) id(n byte) types.Hash { return transaction(n).ID(s.genesis.ChainID()) }

func made(lock types.Key, height uint64, n int) types.KeyEvent {
	return types.KeyEvent{Position: uint64(n), Transaction: hash(n), Output: types.Output{Value: types.Amount(n), Lock: lock}, Height: height, Time: 5}
}
