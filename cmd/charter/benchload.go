package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/client"
	"charter/ledger"
	"charter/sig"
	"charter/types"
)

// load is a network of processes on this machine, and payers on it.
type load struct {
	net    *localnet
	chain  types.Hash
	rate   float64 // payments a second; 0: each payer pays again when its last payment is final
	out    io.Writer
	ahead  int // payments that are signed before anything is measured
	payers []*payer
	byLock map[types.Key]*payer
	gates  []*gate     // one for each peer
	turn   chan *payer // who may pay next, with a rate

	measuring atomic.Bool
	failed    atomic.Int64 // payments that were refused
	late      atomic.Int64 // that no payer was free to make
	sent      atomic.Int64
	live      atomic.Int64 // that were signed when they were due
	waiting   sync.WaitGroup
	mu        sync.Mutex
	times     []time.Duration // of payments that ended while measuring
}

// payer pays from the coins under one lock, one payment at a time, and gets the change there.
type payer struct {
	key   sig.PrivateKey
	lock  types.Key
	host  types.Key
	gate  *gate
	coins []types.Input
	ready []payment // signed
	now   payment   // under way
	due   int       // outputs of it under the lock that were not told of yet
	began time.Time
	split bool // under way is what splits its coin
}

// payment is a signed transaction.
type payment struct {
	id  types.Hash
	raw []byte
}

// How payments are made.
const (
	signedAhead = 4000 // payments a second for which they are, where no rate says it
	splitMost   = 250  // coins that a payer's one is split into
	submitMost  = 256  // payments in a call
	submitBytes = 512 << 10
	watchMost   = 4096 // locks of a watch, and key events that may wait to be read of it
	payAmount   = 1000
	payFee      = 1000
	paymentSize = 372 // bytes of one
)

// newLoad makes the network, with a coin for each payer, at the first of the peers, as many as serve.
func newLoad(dir string, peers, serve, window int, rate float64, ahead int, latency time.Duration, out io.Writer) (l *load, err error) {
	l = &load{rate: rate, out: out, ahead: ahead, byLock: make(map[types.Key]*payer), turn: make(chan *payer, window)}
	for range window {
		key, err := sig.ParsePrivateKey(client.Entropy())
		if err != nil {
			return nil, err
		}
		p := &payer{key: key, lock: key.Public()}
		l.payers, l.byLock[p.lock] = append(l.payers, p), p
	}
	l.net, err = newLocalnet(dir, peers, "bench", types.LocalParams, func(peers []types.Key) (outputs []types.GenesisOutput) {
		for i, p := range l.payers {
			p.host = peers[i%serve]
			outputs = append(outputs, types.GenesisOutput{Value: 1000 * types.UnitsPerShare, Lock: p.lock, Host: p.host})
		}
		for _, p := range peers { // so that each has weight, however few payers there are
			outputs = append(outputs, types.GenesisOutput{Value: 1_000_000 * types.UnitsPerShare, Lock: p, Host: p})
		}
		return outputs
	})
	if err != nil {
		return nil, err
	}
	if latency > 0 {
		for _, p := range l.net.peers {
			p.env = append(p.env, "CHARTER_PEER_DELAY="+latency.String())
		}
	}
	l.chain = l.net.genesis.ChainID()
	for _, p := range l.net.peers[:serve] {
		l.gates = append(l.gates, &gate{load: l, queue: make(chan *payer, window), agent: charterv1connect.NewAgentClient(&http.Client{Transport: &http.Transport{}}, "http://"+p.api)})
	}
	for i, p := range l.payers {
		p.gate = l.gates[i%len(l.gates)]
		p.gate.payers = append(p.gate.payers, p)
		p.coins = []types.Input{{Position: uint64(i), Source: l.chain, Index: uint32(i), Output: types.Output(l.net.genesis.Outputs[i])}}
	}
	return l, nil
}

// start starts the peers, and prepares the payers.
func (l *load) start(ctx context.Context) error {
	if err := l.net.start(ctx, func(*localPeer) {}); err != nil {
		return err
	}
	for _, g := range l.gates {
		go g.submit(ctx)
	}
	began := time.Now()
	if err := l.split(ctx); err != nil {
		return err
	}
	n, err := l.sign()
	if err != nil {
		return err
	}
	fmt.Fprintf(l.out, "%d payments signed ahead, after %.1f s\n", n, time.Since(began).Seconds())
	return l.watch(ctx, watchMost)
}

// watch follows the payers' locks, so many at a time.
func (l *load) watch(ctx context.Context, atOnce int) error {
	for i, g := range l.gates {
		s, err := l.net.peers[i].status(ctx)
		if err != nil {
			return err
		}
		if err := g.watch(ctx, s.FinalHeight, atOnce); err != nil {
			return err
		}
	}
	return nil
}

// split makes of each payer's coin as many as it is to spend before the first change comes back.
func (l *load) split(ctx context.Context) error {
	n := min(splitMost, (l.ahead+len(l.payers)-1)/len(l.payers))
	if n < 2 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := l.watch(ctx, max(1, watchMost/2/n)); err != nil { // all of a payer's coins come at one height
		return err
	}
	for _, p := range l.payers {
		coin := p.coins[0]
		tx := &types.Transaction{ValidUntil: types.MaxTime, Inputs: p.coins}
		tx.Fee = payFee * types.Amount(n)
		value := (coin.Output.Value - tx.Fee) / types.Amount(n)
		tx.Fee = coin.Output.Value - value*types.Amount(n)
		for range n {
			tx.Outputs = append(tx.Outputs, types.Output{Value: value, Lock: p.lock, Host: p.host})
		}
		if err := ledger.SignTransaction(l.chain, tx, []sig.PrivateKey{p.key}); err != nil {
			return err
		}
		l.waiting.Add(1)
		p.coins, p.split = nil, true
		p.send(payment{tx.ID(l.chain), tx.Encode()}, n)
	}
	done := make(chan struct{})
	go func() {
		l.waiting.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2 * time.Minute):
		return errors.New("the payers' coins were not split within 2 minutes; see the peers' logs with --dir")
	}
}

// sign signs payments of all coins but one each, up to as many as are needed.
func (l *load) sign() (n int, err error) {
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	each := (l.ahead + len(l.payers) - 1) / len(l.payers)
	for _, p := range l.payers {
		count := min(each, len(p.coins))
		n += count
		g.Go(func() error {
			for range count {
				paid, err := l.make(p)
				if err != nil {
					return err
				}
				p.ready = append(p.ready, paid)
			}
			return nil
		})
	}
	return n, g.Wait()
}

// make signs a payment of a payer's oldest coin.
func (l *load) make(p *payer) (payment, error) {
	key, err := sig.ParsePrivateKey(client.Entropy())
	if err != nil {
		return payment{}, err
	}
	coin := p.coins[0]
	p.coins = p.coins[1:]
	tx := &types.Transaction{
		ValidUntil: types.MaxTime, Fee: payFee, Inputs: []types.Input{coin},
		Outputs: []types.Output{
			{Value: payAmount, Lock: key.Public(), Host: p.host},
			{Value: coin.Output.Value - payFee - payAmount, Lock: p.lock, Host: p.host},
		},
	}
	if err := ledger.SignTransaction(l.chain, tx, []sig.PrivateKey{p.key}); err != nil {
		return payment{}, err
	}
	return payment{tx.ID(l.chain), tx.Encode()}, nil
}

// pay begins to pay, until ctx ends.
func (l *load) pay(ctx context.Context) {
	for _, p := range l.payers {
		if l.rate > 0 {
			l.turn <- p
		} else {
			l.next(p)
		}
	}
	if l.rate > 0 {
		go l.drive(ctx)
	}
}

// drive starts payments at the rate.
func (l *load) drive(ctx context.Context) {
	tick := time.NewTicker(max(time.Millisecond, time.Duration(float64(time.Second)/l.rate)))
	defer tick.Stop()
	began, made := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for due := int(time.Since(began).Seconds() * l.rate); made < due; made++ {
			select {
			case p := <-l.turn:
				l.next(p)
			default: // all wait for their payments: the network is slower than the rate
				l.late.Add(1)
			}
		}
	}
}

// next begins a payer's next payment.
func (l *load) next(p *payer) {
	if len(p.ready) == 0 {
		l.live.Add(1)
		paid, err := l.make(p)
		if err != nil {
			l.failed.Add(1)
			return
		}
		p.ready = append(p.ready, paid)
	}
	paid := p.ready[0]
	p.ready = p.ready[1:]
	p.send(paid, 1)
}

func (p *payer) send(paid payment, due int) {
	p.now, p.due, p.began = paid, due, time.Now()
	p.gate.queue <- p
}

// measure says whether what ends from now on counts.
func (l *load) measure(on bool) { l.measuring.Store(on) }

// taken is the times of the payments that did.
func (l *load) taken() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.times
}

// gate is the way to one peer's agent.
type gate struct {
	load   *load
	agent  charterv1connect.AgentClient
	payers []*payer
	queue  chan *payer // whose payment is to be submitted
}

// submit submits what is queued, all that there is in one call.
func (g *gate) submit(ctx context.Context) {
	for {
		var batch []*payer
		select {
		case p := <-g.queue:
			batch = append(batch, p)
		case <-ctx.Done():
			return
		}
		for size := len(batch[0].now.raw); len(batch) < submitMost && size < submitBytes; {
			select {
			case p := <-g.queue:
				batch, size = append(batch, p), size+len(p.now.raw)
				continue
			default:
			}
			break
		}
		g.send(ctx, batch)
	}
}

func (g *gate) send(ctx context.Context, batch []*payer) {
	m := new(v1.SubmitAllRequest)
	for _, p := range batch {
		m.Transactions = append(m.Transactions, p.now.raw)
	}
	r, err := g.agent.SubmitAll(ctx, connect.NewRequest(m))
	if ctx.Err() != nil {
		return
	}
	for i, p := range batch {
		var why error
		switch {
		case err != nil:
			why = err
		case r.Msg.Results[i].Error.GetKind() == "pool_full": // that is what a closed loop waits for
			time.AfterFunc(20*time.Millisecond, func() { g.queue <- p })
			continue
		case r.Msg.Results[i].Error != nil:
			why = errors.New(r.Msg.Results[i].Message)
		}
		if why == nil {
			g.load.sent.Add(1)
		} else if g.load.failed.Add(1) == 1 {
			fmt.Fprintf(g.load.out, "a payment was refused: %v\n", why)
		}
	}
}

// watch follows the payers' locks from a height on.
func (g *gate) watch(ctx context.Context, from uint64, atOnce int) error {
	for chunk := range slices.Chunk(g.payers, atOnce) {
		m := &v1.WatchRequest{Bulk: true, FromHeight: from}
		for _, p := range chunk {
			m.Locks = append(m.Locks, p.lock.String())
		}
		stream, err := g.agent.Watch(ctx, connect.NewRequest(m))
		if err != nil {
			return err
		}
		go func() {
			for stream.Receive() {
				for _, e := range stream.Msg().GetKeys().GetEvents() {
					g.load.told(e)
				}
			}
			if err := stream.Err(); err != nil && ctx.Err() == nil {
				fmt.Fprintf(g.load.out, "a watch ended: %v\n", err)
			}
		}()
	}
	return nil
}

// told takes note of an output under a payer's lock.
func (l *load) told(event []byte) {
	e, err := types.DecodeKeyEvent(event)
	if err != nil || e.Spent {
		return
	}
	p := l.byLock[e.Output.Lock]
	if p == nil || e.Transaction != p.now.id {
		return
	}
	p.coins = append(p.coins, types.Input{Position: e.Position, Source: e.Transaction, Index: e.Index, Output: e.Output})
	if p.due--; p.due > 0 {
		return
	}
	p.now = payment{} // told once more, by another watch, it does not count
	if p.split {
		p.split = false
		l.waiting.Done()
		return
	}
	if l.measuring.Load() {
		took := time.Since(p.began)
		l.mu.Lock()
		l.times = append(l.times, took)
		l.mu.Unlock()
	}
	if l.rate > 0 {
		l.turn <- p
	} else {
		l.next(p)
	}
}

// resume kills a peer, starts it again, and gives the seconds until it serves what it had.
func (l *load) resume(ctx context.Context) (float64, error) {
	s, err := l.net.peers[0].status(ctx)
	if err != nil {
		return 0, err
	}
	p := l.net.peers[len(l.net.peers)-1]
	if err := p.kill(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := p.start(); err != nil {
		return 0, err
	}
	return l.reach(ctx, p, s.FinalHeight, began)
}

// reach waits until a peer serves a final height, and gives the seconds since then.
func (l *load) reach(ctx context.Context, p *localPeer, height uint64, began time.Time) (float64, error) {
	for {
		if err := p.await(ctx); err != nil {
			return 0, err
		}
		if s, err := p.status(ctx); err == nil && s.FinalHeight >= height {
			return time.Since(began).Seconds(), nil
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
}
