package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/ledger"
	"charter/sig"
	"charter/types"
)

// spender pays at a localnet whose peers may die meanwhile, each payment with a coin of its own,
// and remembers what was acknowledged.
type spender struct {
	net   *localnet
	coins []coin

	mu    sync.Mutex
	next  int                // coin to spend next
	acked map[types.Hash]int // acknowledged transactions, by id, and the coin that each spends
}

// coin is an output that nobody has spent, and whose key we have.
type coin struct {
	types.Input
	key int // of spenderKey
}

// spenderKey is key j of all those that a spender has.
func spenderKey(j int) sig.PrivateKey {
	k, err := sig.ParsePrivateKey([32]byte{1, byte(j >> 16), byte(j >> 8), byte(j)})
	if err != nil {
		panic(err)
	}
	return k
}

// spendable are n outputs for a genesis, that each host has as many of.
func spendable(n int, value types.Amount, hosts []types.Key) (list []types.GenesisOutput) {
	for j := range n {
		list = append(list, types.GenesisOutput{Value: value, Lock: spenderKey(j).Public(), Host: hosts[j%len(hosts)]})
	}
	return list
}

// genesisCoins are the first n outputs of the network's genesis, which spendable made.
func genesisCoins(net *localnet, n int) (coins []coin) {
	id := net.genesis.ChainID()
	for j, o := range net.genesis.Outputs[:n] {
		coins = append(coins, coin{types.Input{Position: uint64(j), Source: id, Index: uint32(j), Output: types.Output(o)}, j})
	}
	return coins
}

// take gives the number of a payment that was not made yet; false if all coins are spent.
func (s *spender) take() (j int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == len(s.coins) {
		return 0, false
	}
	s.next++
	return s.next - 1, true
}

// sign makes a transaction that spends a coin for outputs, to which the fee was left.
func (s *spender) sign(c coin, fee types.Amount, outputs []types.Output) (types.Hash, []byte, error) {
	id := s.net.genesis.ChainID()
	tx := &types.Transaction{ValidUntil: types.MaxTime, Fee: fee, Inputs: []types.Input{c.Input}, Outputs: outputs}
	if err := ledger.SignTransaction(id, tx, []sig.PrivateKey{spenderKey(c.key)}); err != nil {
		return types.Hash{}, nil, err
	}
	return tx.ID(id), tx.Encode(), nil
}

// payment spends coin j.
func (s *spender) payment(j int) (types.Hash, []byte, error) {
	const fee = 1000
	c := s.coins[j]
	return s.sign(c, fee, []types.Output{{Value: c.Output.Value - fee, Lock: spenderKey(1<<23 + j).Public(), Host: s.net.peers[(j/3)%len(s.net.peers)].key}})
}

// Of split.
const (
	splitInto = 250 // coins from one
	splitFee  = types.Amount(100_000)
)

// split makes of each coin splitInto coins, and waits until all are final. So a genesis can be
// small, which each start of a peer reads.
func (s *spender) split(ctx context.Context, agent *localPeer) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	made := make(map[types.Hash]int) // the splits, and the key of what each makes
	var locks []string
	var raws [][]byte
	for i, c := range s.coins {
		outputs := make([]types.Output, splitInto)
		for k := range outputs {
			outputs[k] = types.Output{Value: (c.Output.Value - splitFee) / splitInto, Lock: spenderKey(1<<22 + i).Public(), Host: s.net.peers[(i+k)%len(s.net.peers)].key}
		}
		id, raw, err := s.sign(c, c.Output.Value-outputs[0].Value*splitInto, outputs)
		if err != nil {
			return err
		}
		made[id], raws, locks = 1<<22+i, append(raws, raw), append(locks, outputs[0].Lock.String())
	}
	stream, err := agent.client().Watch(ctx, connect.NewRequest(&v1.WatchRequest{Locks: locks, Bulk: true}))
	if err != nil {
		return fmt.Errorf("watch the splits: %w", err)
	}
	defer stream.Close()
	for _, raw := range raws {
		if _, err := agent.client().Submit(ctx, connect.NewRequest(&v1.SubmitRequest{Transaction: raw})); err != nil {
			return fmt.Errorf("split a coin: %w", err)
		}
	}
	var coins []coin
	for len(coins) < len(made)*splitInto && stream.Receive() {
		for _, raw := range stream.Msg().GetKeys().GetEvents() {
			e, err := types.DecodeKeyEvent(raw)
			if err != nil {
				return err
			}
			if key, ok := made[e.Transaction]; ok && !e.Spent {
				coins = append(coins, coin{types.Input{Position: e.Position, Source: e.Transaction, Index: e.Index, Output: e.Output}, key})
			}
		}
	}
	if len(coins) < len(made)*splitInto {
		return fmt.Errorf("%d coins of %d were split: %w", len(coins), len(made)*splitInto, stream.Err())
	}
	s.coins = coins
	return nil
}

// submit hands over payment j, at one agent after the other until one acknowledges it. It gives
// the number of that agent, or -1 if ctx ends before; an error is a refusal.
func (s *spender) submit(ctx context.Context, j int, agents []*localPeer, at int) (types.Hash, int, error) {
	id, raw, err := s.payment(j)
	if err != nil {
		return id, -1, err
	}
	for ; ctx.Err() == nil; at++ {
		p := agents[at%len(agents)]
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		r, err := p.client().Submit(short, connect.NewRequest(&v1.SubmitRequest{Transaction: raw}))
		cancel()
		if err == nil {
			s.mu.Lock()
			s.acked[id] = j
			s.mu.Unlock()
			if r.Msg.Id != id.String() {
				return id, -1, fmt.Errorf("%s acknowledged %s as %s", p.name, id, r.Msg.Id)
			}
			return id, at % len(agents), nil
		}
		if code := connect.CodeOf(err); code == connect.CodeInvalidArgument || code == connect.CodeFailedPrecondition {
			return id, -1, fmt.Errorf("%s refused payment %d: %w", p.name, j, err)
		}
		if pause(ctx, 20*time.Millisecond) != nil {
			break
		}
	}
	return id, -1, nil
}
