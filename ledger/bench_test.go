package ledger

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"charter/sig"
	"charter/types"
)

// someKey is a key with an unknown private half: quick to make.
func someKey(seed uint64) types.Key {
	for i := 0; ; i++ {
		k := types.Key(sha256.Sum256(fmt.Appendf(nil, "some key %d %d", seed, i)))
		if sig.CheckKey(k) == nil {
			return k
		}
	}
}

// crowded is a chain of n outputs under as many locks.
func crowded(b *testing.B, n int) *Memory {
	g := testGenesis(4)
	g.Outputs = g.Outputs[:4]
	for i := range n - 4 {
		g.Outputs = append(g.Outputs, types.GenesisOutput{Value: types.UnitsPerShare, Lock: someKey(uint64(i)), Host: g.Peers[i%4].Peer})
	}
	return newMemory(b, g)
}

// payments is the batch of n payments of one input and two outputs, from position first on.
func payments(m *Memory, first uint64, n int) *Batch {
	var txs []*types.Transaction
	for i := range n {
		in := m.input(first + uint64(i))
		tx := pay(byte(i), 400, someKey(first<<20+uint64(i)), priv(100).Public(), in)
		tx.Outputs[0].Value -= 1000
		tx.Outputs = append(tx.Outputs, types.Output{Value: 1000, Lock: someKey(first<<20 + 1<<19 + uint64(i)), Host: in.Output.Host})
		txs = append(txs, tx)
	}
	return m.batch(txs...)
}

// One batch of 1,000 payments, 1 in and 2 out, all under new locks, on 100,000 outputs and
// as many locks: rules, changes, all trees, stored in memory.
func BenchmarkApplyCommit(b *testing.B) {
	const n = 1000
	m := crowded(b, 100_000)
	first := uint64(4)
	for b.Loop() {
		b.StopTimer()
		batch := payments(m, first, n)
		first += n
		b.StartTimer()
		if c := m.Apply(batch); len(c.Created) != 2*n {
			b.Fatalf("%d outputs", len(c.Created))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/payment")
}

// The rules alone, without trees.
func BenchmarkApply(b *testing.B) {
	const n = 1000
	m := crowded(b, 100_000)
	batch := payments(m, 4, n)
	for b.Loop() {
		if _, err := Apply(m, m.state, batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/payment")
}

// A payment of one key, from its bytes, with its signature.
func BenchmarkCheckEncoded(b *testing.B) {
	m := newMemory(b, testGenesis(1))
	tx := pay(1, 500, priv(2).Public(), types.Key{}, m.input(0))
	tx.Outputs[0].Value -= 1000
	tx.Outputs = append(tx.Outputs, types.Output{Value: 1000, Lock: priv(0).Public()})
	raw := signed(b, m.state.Chain, tx, 0).Encode()
	for b.Loop() {
		if _, _, err := CheckEncoded(m.state.Chain, &types.LocalParams, raw); err != nil {
			b.Fatal(err)
		}
	}
}
