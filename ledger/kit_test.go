package ledger

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"charter/sig"
	"charter/types"
)

// priv is a test's i-th private key.
func priv(i int) sig.PrivateKey {
	k, err := sig.ParsePrivateKey(sha256.Sum256(fmt.Appendf(nil, "ledger test key %d", i)))
	if err != nil {
		panic(err)
	}
	return k
}

// keysOf gives n keys, public.
func keysOf(n int) []types.Key {
	keys := make([]types.Key, n)
	for i := range keys {
		keys[i] = priv(i).Public()
	}
	return keys
}

// In a test genesis, peer i has key 100+i and reward 200+i, and key 0 owns an output of 1000
// shares hosted by each, key 1 one of no host.
func testGenesis(peers int) *types.Genesis {
	g := &types.Genesis{Network: "test", Time: 1_000_000, Params: types.LocalParams}
	for i := range peers {
		g.Peers = append(g.Peers, types.GenesisPeer{
			Peer: priv(100 + i).Public(), Name: fmt.Sprintf("peer-%d", i),
			Address: fmt.Sprintf("127.0.0.1:%d", 4000+i), Reward: priv(200 + i).Public(),
		})
		g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: priv(0).Public(), Host: g.Peers[i].Peer})
	}
	g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: priv(1).Public()})
	return g
}

func newMemory(t testing.TB, g *types.Genesis) *Memory {
	m, _, err := NewMemory(g)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// input spends the output at a position as it is in m.
func (m *Memory) input(position uint64) types.Input {
	s := m.outputs[position]
	return types.Input{Position: position, Source: s.Source, Index: s.Index, Output: s.Output}
}

// pay moves all of the inputs, less the fee, to one lock and host.
func pay(salt byte, fee types.Amount, lock, host types.Key, inputs ...types.Input) *types.Transaction {
	tx := &types.Transaction{Salt: [16]byte{salt}, ValidUntil: types.MaxTime, Inputs: inputs, Fee: fee}
	var sum types.Amount
	for _, in := range inputs {
		sum += in.Output.Value
	}
	tx.Outputs = []types.Output{{Value: sum - fee, Lock: lock, Host: host}}
	return tx
}

func signed(t testing.TB, chain types.Hash, tx *types.Transaction, keys ...int) *types.Transaction {
	privs := make([]sig.PrivateKey, len(keys))
	for i, k := range keys {
		privs[i] = priv(k)
	}
	if err := SignTransaction(chain, tx, privs); err != nil {
		t.Fatal(err)
	}
	return tx
}

// batch orders transactions at the height and second after those of m, as of its first peer.
func (m *Memory) batch(txs ...*types.Transaction) *Batch {
	h := m.state.Height + 1
	b := &Batch{Height: h, Anchor: sha256.Sum256(fmt.Appendf(nil, "anchor %d", h)), Time: m.state.Time + 1000}
	for _, tx := range txs {
		b.Transactions = append(b.Transactions, Ordered{
			Tx: tx, ID: tx.ID(m.state.Chain), Author: priv(100).Public(),
			Block: sha256.Sum256(fmt.Appendf(nil, "block %d", h)),
		})
	}
	return b
}

// fork is evidence of two blocks of peer key i at a height.
func fork(chain types.Hash, i int, height uint64) types.Evidence {
	blocks := [2]*types.Block{}
	for n := range blocks {
		blocks[n] = &types.Block{Height: height, Author: priv(i).Public(), Previous: types.Hash{9}, Time: types.Millis(n)}
		blocks[n].Signature = sig.Sign(priv(i), blocks[n].ID(chain))
	}
	return types.ForkEvidence(blocks[0], blocks[1])
}

// falseVote is evidence of a vote of peer key i, false or not.
func falseVote(chain types.Hash, i int, height uint64, checkpoint types.Hash) types.Evidence {
	v := types.CheckpointVote{Height: height, Checkpoint: checkpoint, Signature: sig.Sign(priv(i), types.VoteDigest(chain, height, checkpoint))}
	return types.Evidence{Offence: types.FalseVote, Votes: []types.SignedVote{{Peer: priv(i).Public(), CheckpointVote: v}}}
}

// sampled is evidence of a block of peer key i that draws on genesis, with the right sample or not.
func sampled(m *Memory, i int, height uint64, right bool) types.Evidence {
	b := &types.Block{Height: height, Author: priv(i).Public(), Sample: types.Hash{1}}
	if want, err := Sample(m, b); err == nil && right {
		b.Sample = want
	}
	b.Signature = sig.Sign(priv(i), b.ID(m.state.Chain))
	return types.Evidence{Offence: types.FalseSample, Blocks: []*types.Block{b}}
}

// reinstate votes for peer key i with the outputs at these positions, each in a ballot of its own. Without m it is
// not signed.
func reinstate(m *Memory, i int, offences uint16, positions ...uint64) types.Reinstate {
	r := types.Reinstate{Peer: priv(i).Public(), Offences: offences}
	for _, at := range positions {
		b := types.Ballot{Outputs: []types.Held{{Position: at}}}
		if m != nil {
			b.Outputs[0].Lock = m.outputs[at].Output.Lock
			if err := SignBallot(types.ReinstateDigest(m.state.Chain, r.Peer, offences), &b, []sig.PrivateKey{priv(0), priv(1)}); err != nil {
				panic(err)
			}
		}
		r.Ballots = append(r.Ballots, b)
	}
	return r
}
