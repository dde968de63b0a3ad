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

// spender pays at a localnet whose peers may die meanwhile, each payment from an output of the
// genesis, and remembers what was acknowledged.
type spender struct {
	net *localnet

	mu    sync.Mutex
	next  int                // genesis output to spend next
	acked map[types.Hash]int // acknowledged transactions, by id, and the output that each spends
}

// spenderKey is the key of genesis output j.
func spenderKey(j int) sig.PrivateKey {
	k, err := sig.ParsePrivateKey([32]byte{1, byte(j >> 16), byte(j >> 8), byte(j)})
	if err != nil {
		panic(err)
	}
	return k
}

// spendable are outputs for n payments, that each host has as many of.
func spendable(n int, hosts []types.Key) (list []types.GenesisOutput) {
	for j := range n {
		list = append(list, types.GenesisOutput{Value: types.UnitsPerShare, Lock: spenderKey(j).Public(), Host: hosts[j%len(hosts)]})
	}
	return list
}

// take gives the number of a payment that was not made yet; false if all outputs are spent.
func (s *spender) take() (j int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == len(s.net.genesis.Outputs) {
		return 0, false
	}
	s.next++
	return s.next - 1, true
}

// payment spends genesis output j.
func (s *spender) payment(j int) (types.Hash, []byte, error) {
	o, fee := s.net.genesis.Outputs[j], types.Amount(1000)
	id := s.net.genesis.ChainID()
	tx := &types.Transaction{
		Salt: [16]byte{byte(j), byte(j >> 8), byte(j >> 16)}, ValidUntil: types.MaxTime, Fee: fee,
		Inputs:  []types.Input{{Position: uint64(j), Source: id, Index: uint32(j), Output: types.Output(o)}},
		Outputs: []types.Output{{Value: o.Value - fee, Lock: spenderKey(1<<23 + j).Public(), Host: s.net.peers[(j/3)%len(s.net.peers)].key}},
	}
	if err := ledger.SignTransaction(id, tx, []sig.PrivateKey{spenderKey(j)}); err != nil {
		return types.Hash{}, nil, err
	}
	return tx.ID(id), tx.Encode(), nil
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
