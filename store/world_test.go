package store

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"charter/ledger"
	"charter/sig"
	"charter/types"
)

// world makes a history of batches, as consensus and the ledger's door would: payments, some
// in conflict, some too early, notarisations, names. Signatures are for the door.
type world struct {
	rng     *rand.Rand
	genesis *types.Genesis
	chain   types.Hash
	time    types.Millis
	coins   []types.Input // that can be spent, as far as made known
	spent   []types.Input
	early   []ledger.Ordered
	keys    []types.Key // locks and peers
}

func key32(n uint64) types.Key {
	for ; ; n += 1 << 32 {
		k := types.Key(sha256.Sum256(binary.BigEndian.AppendUint64(nil, n)))
		if sig.CheckKey(k) == nil {
			return k
		}
	}
}

func newWorld(seed uint64, coins int) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range uint64(12) {
		w.keys = append(w.keys, key32(i))
	}
	g := &types.Genesis{Network: "test", Time: 1000, Params: types.LocalParams}
	for i := range 4 {
		g.Peers = append(g.Peers, types.GenesisPeer{Peer: w.keys[i], Name: string(rune('a' + i)), Address: "127.0.0.1:1", Reward: w.keys[i]})
	}
	for i := range coins {
		g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 1e9, Lock: w.keys[4+i%8], Host: w.keys[i%4]})
	}
	w.genesis, w.chain, w.time = g, g.ChainID(), g.Time
	for i, o := range g.Outputs {
		w.coins = append(w.coins, types.Input{Position: uint64(i), Source: w.chain, Index: uint32(i), Output: types.Output(o)})
	}
	return w
}

func (w *world) key() types.Key {
	if w.rng.IntN(2) == 0 {
		return w.keys[w.rng.IntN(len(w.keys))]
	}
	return types.Key{0xee, 2: byte(w.rng.Uint32()), 3: byte(w.rng.Uint32()), 4: byte(w.rng.Uint32())}
}

// payment spends one coin, in two outputs.
func (w *world) payment(in types.Input) *types.Transaction {
	tx := &types.Transaction{ValidUntil: types.MaxTime, Inputs: []types.Input{in}, Fee: 1}
	binary.BigEndian.PutUint64(tx.Salt[:], w.rng.Uint64())
	rest := in.Output.Value - 1
	part := types.Amount(w.rng.Uint64N(uint64(rest-1))) + 1
	for _, v := range []types.Amount{part, rest - part} {
		if v > 0 {
			tx.Outputs = append(tx.Outputs, types.Output{Value: v, Lock: w.key(), Host: w.keys[w.rng.IntN(4)]})
		}
	}
	return tx
}

// batch is a height's, of about n transactions.
func (w *world) batch(height uint64, n int) *ledger.Batch {
	w.time += types.Millis(w.rng.IntN(50))
	b := &ledger.Batch{Height: height, Anchor: types.Hash{0xa0, 24: byte(height >> 8), 25: byte(height)}, Time: w.time}
	w.early = w.early[:len(w.early)/2]
	b.Transactions = append(b.Transactions, w.early...)
	for range n {
		if len(w.coins) == 0 {
			break
		}
		i := w.rng.IntN(len(w.coins))
		in := w.coins[i]
		double := w.rng.IntN(20) == 0 && len(w.spent) > 0
		if double {
			in = w.spent[w.rng.IntN(len(w.spent))]
		} else {
			w.coins[i] = w.coins[len(w.coins)-1]
			w.coins = w.coins[:len(w.coins)-1]
			w.spent = append(w.spent, in)
		}
		if in.Output.Value < 10 {
			continue
		}
		tx := w.payment(in)
		switch w.rng.IntN(12) {
		case 0:
			tx.Records = []types.Record{types.Notarise{Document: types.Hash{byte(w.rng.Uint32())}}}
		case 1:
			tx.Records = []types.Record{types.RegisterPeer{Peer: w.keys[w.rng.IntN(6)], Name: string(rune('a' + w.rng.IntN(8))), Address: "h:1", Reward: w.keys[0]}}
		case 2:
			tx.ValidFrom = w.time + 30
		}
		o := ledger.Ordered{Tx: tx, ID: tx.ID(w.chain), Block: types.Hash{0xb0, byte(w.rng.Uint32())}, Author: w.keys[w.rng.IntN(4)]}
		if tx.ValidFrom > 0 {
			w.early = append(w.early, o)
		}
		b.Transactions = append(b.Transactions, o)
	}
	return b
}

// learn makes the outputs of changes known as coins.
func (w *world) learn(c *ledger.Changes) {
	spent := make(map[uint64]bool)
	for _, v := range c.Spent {
		spent[v.Position] = true
	}
	for i, o := range c.Created {
		if at := c.First + uint64(i); !spent[at] {
			w.coins = append(w.coins, types.Input{Position: at, Source: o.Source, Index: o.Index, Output: o.Output})
		}
	}
}

// change puts what changed into the batch of the store.
func change(t testing.TB, b *Batch, base *ledger.State, c *ledger.Changes) {
	t.Helper()
	state, writes, err := ledger.Commit(base, c, b.Trees())
	check(t, err)
	check(t, b.Add(state, c, writes))
}

// start applies genesis to a fresh store.
func (w *world) start(t testing.TB, s *Store) {
	t.Helper()
	state, c, err := ledger.Genesis(w.genesis)
	check(t, err)
	b := s.Begin()
	change(t, b, state, c)
	w.finish(t, b, 0, w.chain)
}

// apply applies a height to a store, as the chain does: a batch, perhaps none; a snapshot where
// one is due; a checkpoint. It gives the batch's changes.
func (w *world) apply(t testing.TB, s *Store, height uint64, batch *ledger.Batch) *ledger.Changes {
	t.Helper()
	b := s.Begin()
	var anchor types.Hash
	var made *ledger.Changes
	if batch != nil {
		c, err := ledger.Apply(b, b.State(), batch)
		check(t, err)
		change(t, b, b.State(), c)
		anchor, made = batch.Anchor, c
	}
	if height%snapshotEvery == 0 {
		c, err := ledger.TakeSnapshot(b, b.State(), height)
		check(t, err)
		change(t, b, b.State(), c)
	}
	w.finish(t, b, height, anchor)
	return made
}

const (
	snapshotEvery   = 8
	checkpointEvery = 2
)

func (w *world) finish(t testing.TB, b *Batch, height uint64, anchor types.Hash) {
	t.Helper()
	if height%checkpointEvery == 0 {
		cp := b.State().Checkpoint(height)
		check(t, b.AddCheckpoint(b.State().Checkpointed(cp), cp))
	}
	check(t, b.Decide(height, anchor))
	check(t, b.SetBase(binary.BigEndian.AppendUint64(nil, height)))
	check(t, b.Commit())
}
