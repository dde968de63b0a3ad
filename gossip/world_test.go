package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"charter/sig"
	"charter/transport"
	"charter/types"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var chainID = types.NewTag("test").Hash([]byte("gossip"))

func secret(n int) *sig.PrivateKey {
	k, err := sig.ParsePrivateKey([32]byte{30: byte(n >> 8), 31: byte(n)})
	if err != nil {
		panic(err)
	}
	return &k
}

var keys sync.Map // of keyOf

func keyOf(n int) types.Key {
	k, ok := keys.Load(n)
	if !ok {
		k, _ = keys.LoadOrStore(n, secret(n).Public())
	}
	return k.(types.Key)
}

// makeBlock is a block of author n; its signature is a stand-in that fakeChain checks.
func makeBlock(n int, height uint64, named []types.Hash, payload []byte) types.RawBlock {
	b := &types.Block{Height: height, Author: keyOf(n), PayloadBytes: uint32(len(payload))}
	if len(named) > 0 {
		named = slices.Clone(named)
		slices.SortFunc(named, func(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) })
		b.Parent, b.Merges = named[0], named[1:]
	}
	if len(payload) > 0 {
		b.Payload = types.NewTag("test").Hash(payload)
	}
	id := b.ID(chainID)
	copy(b.Signature[:], id[:])
	return types.RawBlock{Header: b.Encode(), Payload: payload}
}

func idOf(b types.RawBlock) types.Hash {
	h, err := types.DecodeBlock(b.Header)
	if err != nil {
		panic(err)
	}
	return h.ID(chainID)
}

type offence struct{ text string }

func (o offence) Error() string       { return o.text }
func (o offence) Offender() types.Key { return types.Key{} }

// fakeChain is a chain in memory, with blocks that wait for their parents and no other rule
// than that the stand-in signature holds.
type fakeChain struct {
	lowest   uint64
	mu       sync.Mutex
	gossip   *Gossip
	blocks   map[types.Hash]types.RawBlock
	heights  map[uint64][]types.Hash
	waiting  map[types.Hash]types.RawBlock // by their own id
	missing  map[types.Hash][]types.Hash   // who waits for this one
	top      uint64
	halted   uint64 // final height, if it does not follow the top
	repeats  int    // blocks delivered that were there
	votes    []types.SignedVote
	txs      [][]byte
	syncs    []bool
	onSubmit func(raw []byte) error
}

func newFakeChain() *fakeChain {
	return &fakeChain{blocks: map[types.Hash]types.RawBlock{}, heights: map[uint64][]types.Hash{},
		waiting: map[types.Hash]types.RawBlock{}, missing: map[types.Hash][]types.Hash{}}
}

func (c *fakeChain) Deliver(from types.Key, blocks []types.RawBlock) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var wanted []types.Hash
	for _, b := range blocks {
		h, err := types.DecodeBlock(b.Header)
		if err != nil {
			return offence{err.Error()}
		}
		id := h.ID(chainID)
		if !bytes.Equal(h.Signature[:32], id[:]) {
			return offence{"bad signature"}
		}
		wanted = append(wanted, c.add(id, h, b)...)
	}
	if len(wanted) > 0 {
		c.gossip.Want(wanted, from)
	}
	return nil
}

// add enters a block, or lets it wait and returns what it waits for.
func (c *fakeChain) add(id types.Hash, h *types.Block, b types.RawBlock) (wanted []types.Hash) {
	if _, ok := c.blocks[id]; ok {
		c.repeats++
		return nil
	}
	for _, p := range h.Named() {
		if _, ok := c.blocks[p]; !ok && !p.IsZero() {
			c.missing[p] = append(c.missing[p], id)
			if _, ok := c.waiting[p]; !ok {
				wanted = append(wanted, p)
			}
		}
	}
	if c.isMissing(h) {
		c.waiting[id] = b
		return wanted
	}
	delete(c.waiting, id)
	c.blocks[id] = b
	c.heights[h.Height] = append(c.heights[h.Height], id)
	c.top = max(c.top, h.Height)
	children := c.missing[id]
	delete(c.missing, id)
	for _, child := range children {
		if w, ok := c.waiting[child]; ok {
			x, _ := types.DecodeBlock(w.Header)
			if !c.isMissing(x) {
				c.add(child, x, w)
			}
		}
	}
	return nil
}

func (c *fakeChain) isMissing(h *types.Block) bool {
	for _, p := range h.Named() {
		if _, ok := c.blocks[p]; !ok && !p.IsZero() {
			return true
		}
	}
	return false
}

func (c *fakeChain) DeliverVotes(_ types.Key, votes []types.SignedVote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.votes = append(c.votes, votes...)
}

func (c *fakeChain) Block(id types.Hash) (types.RawBlock, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, ok := c.blocks[id]
	return b, ok, nil
}

func (c *fakeChain) Blocks(from uint64, limit int) (list []types.RawBlock, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := 0
	for ; from <= c.top && size < limit; from++ {
		for _, id := range c.heights[from] {
			list = append(list, c.blocks[id])
			size += c.blocks[id].Size()
		}
	}
	return list, nil
}

func (c *fakeChain) Lowest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lowest
}

func (c *fakeChain) Heights() (top, final uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.halted > 0 {
		return c.top, c.halted
	}
	return c.top, max(c.top, 4) - 4
}

func (c *fakeChain) SubmitForwarded(ctx context.Context, raws [][]byte) []error {
	errs := make([]error, len(raws))
	for i, raw := range raws {
		errs[i] = c.submitForwarded(ctx, raw)
	}
	return errs
}

func (c *fakeChain) submitForwarded(_ context.Context, raw []byte) error {
	c.mu.Lock()
	judge := c.onSubmit
	c.mu.Unlock()
	if judge != nil {
		if err := judge(raw); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.txs = append(c.txs, raw)
	return nil
}

func (c *fakeChain) onSubmits(judge func(raw []byte) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onSubmit = judge
}

func (c *fakeChain) SetSyncing(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.syncs = append(c.syncs, on)
}

func (c *fakeChain) has(ids ...types.Hash) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if _, ok := c.blocks[id]; !ok {
			return false
		}
	}
	return true
}

// enter puts own blocks in, as a chain does that builds them.
func (c *fakeChain) enter(blocks ...types.RawBlock) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, b := range blocks {
		h, _ := types.DecodeBlock(b.Header)
		c.add(h.ID(chainID), h, b)
	}
}

// quick are the times of tests.
var quick = Timing{
	Status: 150 * time.Millisecond, Request: 2 * time.Second, DialMin: 10 * time.Millisecond, DialMax: 200 * time.Millisecond,
	Hedge: 50 * time.Millisecond, Stable: time.Second, Ban: time.Minute, BanMax: time.Minute, Settle: 300 * time.Millisecond, Doubt: 300 * time.Millisecond,
}

// node is a peer of the test's network.
type node struct {
	n        int
	chain    *fakeChain
	endpoint *transport.Endpoint
	*Gossip
}

func openEndpoint(t testing.TB, n int) *transport.Endpoint {
	t.Helper()
	e, err := transport.Listen(transport.Config{Chain: chainID, Key: secret(n), Listen: "127.0.0.1:0", Messages: MessageLimits})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func start(t testing.TB, n int, c *fakeChain) *node {
	t.Helper()
	return startWith(t, n, c, c)
}

// startWith puts chain between gossip and c.
func startWith(t testing.TB, n int, c *fakeChain, chain Chain) *node {
	t.Helper()
	e := openEndpoint(t, n)
	nd := &node{n: n, chain: c, endpoint: e}
	c.mu.Lock()
	nd.Gossip = Start(Config{ChainID: chainID, Self: keyOf(n), Endpoint: e, Chain: chain, Timing: quick})
	c.gossip = nd.Gossip
	c.mu.Unlock()
	t.Cleanup(nd.stop)
	return nd
}

func (nd *node) stop() {
	nd.Close()
	nd.endpoint.Close()
}

func (nd *node) peer() Peer { return Peer{keyOf(nd.n), nd.endpoint.Addr().String()} }

// know makes each of the nodes a peer of each.
func know(nodes ...*node) {
	var peers []Peer
	for _, nd := range nodes {
		peers = append(peers, nd.peer())
	}
	for _, nd := range nodes {
		nd.SetPeers(peers)
	}
}

// network is n connected nodes with empty chains, of the keys 1 to n.
func network(t testing.TB, n int) []*node {
	t.Helper()
	var nodes []*node
	for i := range n {
		nodes = append(nodes, start(t, i+1, newFakeChain()))
	}
	know(nodes...)
	for _, nd := range nodes {
		eventually(t, "all are connected", func() bool { return nd.Stats().Links == n-1 })
	}
	return nodes
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// history is a past of some authors: at each height one block of each, naming all of the
// height below.
func history(authors int, heights uint64, payload int) (all []types.RawBlock) {
	var below []types.Hash
	for h := uint64(1); h <= heights; h++ {
		var level []types.Hash
		for n := 1; n <= authors; n++ {
			var p []byte
			if payload > 0 {
				p = bytes.Repeat([]byte(fmt.Sprintf("%d/%d ", n, h)), payload/8)
			}
			b := makeBlock(n, h, below, p)
			all, level = append(all, b), append(level, idOf(b))
		}
		below = level
	}
	return all
}

// stranger is a peer of the network that speaks through its bare connection.
type stranger struct {
	*transport.Conn
	served sync.WaitGroup
}

func join(t testing.TB, nd *node, n int, answer transport.Handler) *stranger {
	t.Helper()
	e := openEndpoint(t, n)
	c, err := e.Dial(t.Context(), nd.endpoint.Addr().String(), keyOf(nd.n))
	if err != nil {
		t.Fatal(err)
	}
	s := &stranger{Conn: c}
	if answer == nil {
		answer = func(context.Context, transport.Message) (transport.Message, error) {
			return transport.Message{}, errors.New("no")
		}
	}
	s.served.Go(func() { c.Serve(answer) })
	t.Cleanup(func() { c.Close(0, ""); s.served.Wait() })
	return s
}

// refusedWith is the code with which nd refuses or closes a connection by key n.
func refusedWith(t testing.TB, nd *node, n int) transport.Code {
	t.Helper()
	c, err := openEndpoint(t, n).Dial(t.Context(), nd.endpoint.Addr().String(), keyOf(nd.n))
	if err == nil {
		<-c.Done()
		err = c.Err()
	}
	var e *transport.Error
	if !errors.As(err, &e) || e.Kind != transport.Closed || !e.Remote {
		t.Fatal(err)
	}
	return e.Code
}

// drain receives and forgets.
func (s *stranger) drain() {
	s.served.Go(func() {
		for {
			if _, err := s.Receive(); err != nil {
				return
			}
		}
	})
}

// closedWith is the code with which the other side closed.
func (s *stranger) closedWith(t testing.TB) transport.Code {
	t.Helper()
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the connection is still open")
	}
	var e *transport.Error
	if !errors.As(s.Err(), &e) || !e.Remote {
		t.Fatal(s.Err())
	}
	return e.Code
}
