package chain

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"charter/consensus"
	"charter/ledger"
	"charter/proof"
	"charter/sig"
	"charter/store"
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

// world is a network of chains in one process: messages are calls, disks are in memory.
type world struct {
	t       testing.TB
	genesis *types.Genesis
	id      types.Hash // of the chain
	keys    []sig.PrivateKey
	wallet  []sig.PrivateKey // of the genesis outputs
	dir     string           // of the stores; empty for disks
	disks   []*store.FS
	stores  []*store.Store

	mu     sync.Mutex
	chains []*Chain
	cut    int // this peer hears nobody and is not heard; −1 for none
	blamed map[types.Key][]error
	asked  map[types.Hash]time.Time // when a block was asked for last, by whomever
	group  sync.WaitGroup
	queues []chan func(*Chain)
}

// newWorld has n peers of equal shares; outputs is how many coins each hosts.
func newWorld(t testing.TB, n, outputs int, params types.Params) *world {
	w := &world{t: t, cut: -1, blamed: make(map[types.Key][]error), asked: make(map[types.Hash]time.Time), chains: make([]*Chain, n)}
	w.genesis = &types.Genesis{Network: "test", Time: types.MillisOf(time.Now()) - 1000, Params: params}
	for i := range n {
		k := secret(1, byte(i+1))
		w.keys = append(w.keys, k)
		w.genesis.Peers = append(w.genesis.Peers, types.GenesisPeer{
			Peer: k.Public(), Name: fmt.Sprintf("peer-%d", i), Address: fmt.Sprintf("127.0.0.1:%d", 4000+i), Reward: secret(2, byte(i+1)).Public(),
		})
		w.disks = append(w.disks, store.Memory())
		w.stores = append(w.stores, nil)
		w.queues = append(w.queues, make(chan func(*Chain), 1<<14))
	}
	for j := range n * outputs {
		k := secret(3, byte(j>>8), byte(j+1))
		w.wallet = append(w.wallet, k)
		w.genesis.Outputs = append(w.genesis.Outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: k.Public(), Host: w.keys[j%n].Public()})
	}
	if err := w.genesis.Check(); err != nil {
		t.Fatal(err)
	}
	w.id = w.genesis.ChainID()
	for i := range n {
		w.group.Go(func() {
			for f := range w.queues[i] {
				w.mu.Lock()
				c := w.chains[i]
				w.mu.Unlock()
				if c != nil {
					f(c)
				}
			}
		})
	}
	t.Cleanup(func() {
		for i := range n {
			w.stop(i)
		}
		for i := range n {
			close(w.queues[i])
		}
		w.group.Wait()
	})
	return w
}

func (w *world) start(i int) {
	w.t.Helper()
	at, options := "peer", store.Options{Chain: w.genesis.ChainID(), Peer: w.keys[i].Public(), FS: w.disks[i]}
	if w.dir != "" {
		at, options.FS = filepath.Join(w.dir, strconv.Itoa(i)), nil
	}
	s, err := store.Open(at, options)
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := Open(Config{Genesis: w.genesis, Key: w.keys[i], Store: s, Network: link{w, i}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stores[i], w.chains[i] = s, c
}

func (w *world) stop(i int) {
	w.mu.Lock()
	c := w.chains[i]
	w.chains[i] = nil
	w.mu.Unlock()
	if c == nil {
		return
	}
	if err := c.Close(); err != nil {
		w.t.Errorf("peer %d: %v", i, err)
	}
	if err := w.stores[i].Close(); err != nil {
		w.t.Errorf("store %d: %v", i, err)
	}
}

// isolate cuts a peer off; −1 heals.
func (w *world) isolate(i int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = i
}

// send runs f on a peer's chain, soon, if the network lets from reach it.
func (w *world) send(from, i int, f func(*Chain)) {
	w.mu.Lock()
	cut := w.cut == from || w.cut == i
	w.mu.Unlock()
	if !cut {
		w.to(i, f)
	}
}

// to runs f on a peer's chain, soon.
func (w *world) to(i int, f func(*Chain)) {
	select {
	case w.queues[i] <- f:
	default: // dropped, as a slow peer's queue would
	}
}

// link is the network as one peer has it.
type link struct {
	w    *world
	self int
}

func (l link) key() types.Key { return l.w.keys[l.self].Public() }

func (l link) Broadcast(b types.RawBlock) {
	for i := range l.w.keys {
		if i != l.self {
			l.w.send(l.self, i, func(c *Chain) { _ = c.Deliver(l.key(), []types.RawBlock{b}) })
		}
	}
}

func (l link) BroadcastVote(v types.SignedVote) {
	for i := range l.w.keys {
		if i != l.self {
			l.w.send(l.self, i, func(c *Chain) { c.DeliverVotes(l.key(), []types.SignedVote{v}) })
		}
	}
}

func (l link) Want(all []types.Hash, _ types.Key) {
	var ids []types.Hash
	l.w.mu.Lock()
	for _, id := range all {
		if time.Since(l.w.asked[id]) > 100*time.Millisecond {
			l.w.asked[id] = time.Now()
			ids = append(ids, id)
		}
	}
	l.w.mu.Unlock()
	for i := range l.w.keys {
		if i == l.self {
			continue
		}
		l.w.send(l.self, i, func(c *Chain) {
			var out []types.RawBlock
			for _, id := range ids {
				if b, ok, _ := c.Block(id); ok {
					out = append(out, b)
				}
			}
			if len(out) > 0 {
				l.w.send(i, l.self, func(c *Chain) { _ = c.Deliver(l.w.keys[i].Public(), out) })
			}
		})
	}
}

func (l link) Forward(txs [][]byte, host types.Key) {
	for i, k := range l.w.keys {
		if k.Public() == host {
			l.w.send(l.self, i, func(c *Chain) {
				_ = c.SubmitForwarded(context.Background(), txs)
			})
		}
	}
}

func (l link) Misbehaved(who types.Key, err error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	l.w.blamed[who] = append(l.w.blamed[who], err)
}

// pay spends genesis output j to a new lock, hosted by the same peer.
func (w *world) pay(j int) []byte {
	o := w.genesis.Outputs[j]
	fee := types.Amount(1000)
	tx := &types.Transaction{
		ValidUntil: types.MaxTime, Fee: fee,
		Inputs:  []types.Input{{Position: uint64(j), Source: w.id, Index: uint32(j), Output: types.Output(o)}},
		Outputs: []types.Output{{Value: 10 * types.UnitsPerShare, Lock: secret(4, byte(j>>8), byte(j+1)).Public(), Host: o.Host}, {Value: o.Value - fee - 10*types.UnitsPerShare, Lock: o.Lock, Host: o.Host}},
	}
	tx.Salt[0], tx.Salt[1] = byte(j), byte(j>>8)
	if err := ledger.SignTransaction(w.id, tx, []sig.PrivateKey{w.wallet[j]}); err != nil {
		w.t.Fatal(err)
	}
	return tx.Encode()
}

// await waits until a transaction is settled at a peer and provable there, and gives its proof.
func (w *world) await(i int, id types.Hash) Proof {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		w.mu.Lock()
		c := w.chains[i]
		w.mu.Unlock()
		t, err := c.Transaction(id)
		if err != nil {
			w.t.Fatal(err)
		}
		if t.Tier.Settled() {
			if p, err := c.TransactionProof(id); err == nil {
				return p
			} else if time.Now().After(deadline) {
				w.t.Fatalf("peer %d: %s is %s, and not provable: %v", i, id.Short(), t.Tier, err)
			}
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("peer %d: %s is %s after 20 s: %+v", i, id.Short(), t.Tier, c.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestPaymentsBecomeFinalAndProvable(t *testing.T) {
	w := newWorld(t, 4, 4, types.LocalParams)
	for i := range 4 {
		w.start(i)
	}
	for j := range w.wallet {
		began := time.Now()
		at := (j + j/4) % 4 // sometimes not the host
		id, err := w.chains[at].Submit(t.Context(), w.pay(j))
		if err != nil {
			t.Fatal(err)
		}
		p := w.await(at, id)
		v, err := proof.VerifyFile(p.Bytes, proof.Genesis(w.genesis), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !v.Applied || v.Transaction != id || len(v.Outputs) != 2 || v.Strength.Signed*3 <= v.Strength.Total*2 {
			t.Fatalf("verdict %+v", v)
		}
		if again, err := w.chains[at].Submit(t.Context(), w.pay(j)); err != nil || again != id {
			t.Fatalf("submitted again: %v %v", again, err)
		}
		t.Logf("payment %d: provable after %s at height %d: %s", j, time.Since(began).Round(time.Millisecond), v.Height, v.Sentence())
	}
	if len(w.blamed) > 0 {
		t.Errorf("somebody was blamed: %v", w.blamed)
	}
}

func TestAPeerComesBack(t *testing.T) {
	w := newWorld(t, 4, 8, types.LocalParams)
	for i := range 4 {
		w.start(i)
	}
	var ids []types.Hash
	send := func(j, at int) {
		id, err := w.chains[at].Submit(t.Context(), w.pay(j))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		w.await(at, id)
	}
	send(0, 0)
	w.stop(3)
	for j := 4; j < 20; j++ {
		if j%4 != 3 {
			send(j, j%4)
		}
	}
	w.start(3)
	send(3, 3)
	for _, id := range ids {
		w.await(3, id)
	}
	var final [4]uint64
	for i := range 4 {
		final[i] = w.chains[i].Status().Final
		w.stop(i)
	}
	for i := range 4 {
		w.start(i)
		if now := w.chains[i].Status().Final; now < final[i] {
			t.Errorf("peer %d was at final height %d, and comes back with %d", i, final[i], now)
		}
	}
	send(7, 3)
	for i := range 4 {
		for _, id := range ids {
			w.await(i, id)
		}
	}
}

// A peer that was cut off for longer than the others remember comes back with a line of its
// own, whose blocks name what the others have forgotten. It is merged all the same.
func TestALateBranchIsMerged(t *testing.T) {
	if testing.Short() {
		t.Skip("makes many hundreds of heights")
	}
	params := types.LocalParams
	params.WaitLeader, params.WaitQuorum, params.WaitIdle = 10, 40, 1
	w := newWorld(t, 4, 4, params)
	for i := range 4 {
		w.start(i)
	}
	first, err := w.chains[0].Submit(t.Context(), w.pay(0))
	if err != nil {
		t.Fatal(err)
	}
	w.await(3, first)
	w.isolate(3)
	id, err := w.chains[3].Submit(t.Context(), w.pay(3))
	if err != nil {
		t.Fatal(err)
	}
	_, from := w.chains[0].Heights()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, final := w.chains[0].Heights(); final > from+2*consensus.Window+16 {
			break
		}
		if time.Now().After(deadline) {
			t.Skip("this machine is too slow to make the others forget")
		}
	}
	if tx, err := w.chains[3].Transaction(id); err != nil || tx.Tier.Settled() || tx.Block.IsZero() {
		t.Fatalf("cut off, the transaction is %s in block %s, %v", tx.Tier, tx.Block.Short(), err)
	}
	w.isolate(-1)
	for i := range 4 {
		w.await(i, id)
	}
}
