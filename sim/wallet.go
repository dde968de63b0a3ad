package sim

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"charter/ledger"
	"charter/types"
)

// payment is a transaction that the simulated wallets made.
type payment struct {
	tx   *ledger.Parsed
	raw  []byte
	made int64
	done bool // final at some honest peer

	calm bool   // given, with all healed, to an honest peer with shares that was not catching up
	top  uint64 // and so high was that peer
}

// pay makes one payment at a peer: some output there goes to another host. What bad peers
// host stays with bad peers, so that their part of the shares does not grow.
func (w *world) pay() {
	n := w.nodes[w.rng.IntN(len(w.nodes))]
	if w.drawn.drain && n.key == w.last() {
		n = w.nodes[0] // who carries no payment earns no fee, and has nothing left
	}
	if !n.up || w.now > micros(w.drawn.time+quietTime/6) {
		return
	}
	m := n.disk.ledger
	at := w.choose(m)
	out, _ := m.Output(at)
	if out.SpentHeight > 0 || out.Output.Value < 2000 {
		return
	}
	to := w.peers[w.rng.IntN(len(w.peers))]
	if w.drawn.drain && to == w.last() {
		to = w.peers[w.rng.IntN(len(w.peers)-1)]
	}
	if from := out.Output.Host; from.IsZero() || w.honest(from) != w.honest(to) {
		to = from
	}
	tx := &types.Transaction{
		ValidUntil: types.MaxTime, Fee: 1000,
		Inputs:  []types.Input{{Position: at, Source: out.Source, Index: out.Index, Output: out.Output}},
		Outputs: []types.Output{{Value: out.Output.Value - 1000, Lock: out.Output.Lock, Host: to}},
	}
	binary.BigEndian.PutUint64(tx.Salt[:], uint64(len(w.payments)))
	raw := tx.Encode()
	p, err := ledger.Parse(w.chain, w.params(), raw)
	if err != nil {
		w.check.fail("valid payments", "%v", err)
		return
	}
	pay := &payment{tx: p, raw: raw, made: w.now, top: n.core.Height()}
	pay.calm = w.healed && w.now > w.check.healedAt+micros(2000) && n.style == honest && !n.behind && n.core.Height()+2 >= w.check.top() &&
		slices.ContainsFunc(n.core.Shares(), func(m types.Member) bool { return m.Peer == n.key })
	w.payments = append(w.payments, pay)
	w.note(n, "payment", at, p.ID)
	n.submit(pay)
}

// last is the peer that is drained, where one is.
func (w *world) last() types.Key { return w.peers[len(w.peers)-1] }

// choose is the position of an output to spend: any, or one of the peer that is drained.
func (w *world) choose(m *ledger.Memory) uint64 {
	count := m.State().Outputs
	at := uint64(w.rng.Int64N(int64(count)))
	if w.drawn.drain && w.chance(0.5) {
		for i := range count {
			at := (at + i) % count
			if o, _ := m.Output(at); o.SpentHeight == 0 && o.Output.Host == w.last() {
				return at
			}
		}
	}
	return at
}

// resubmit is the wallets' second try, at an honest peer.
func (w *world) resubmit() {
	var open []*node
	for _, n := range w.nodes {
		if n.up && n.style == honest && !(w.drawn.drain && n.key == w.last()) {
			open = append(open, n)
		}
	}
	for _, p := range w.payments {
		if !p.done && w.now-p.made > micros(5000) && len(open) > 0 {
			open[w.rng.IntN(len(open))].submit(p)
		}
	}
}

// submit takes a payment into a peer's durable pool.
func (n *node) submit(p *payment) {
	if e, _ := n.disk.ledger.Event(p.tx.ID); e != nil || slices.Contains(n.disk.pool, p) {
		return
	}
	n.disk.pool = append(n.disk.pool, p)
	n.acknowledged = append(n.acknowledged, p)
	n.wake()
}

// waits reports whether anything in the pool is not in a block yet.
func (n *node) waits() bool {
	return slices.ContainsFunc(n.disk.pool, func(p *payment) bool { return !n.carried[p] })
}

// load puts what waits in the pool into a block.
func (n *node) load(b *types.Block) {
	var raws [][]byte
	var txs []*ledger.Parsed
	h := sha256.New()
	for _, p := range n.disk.pool {
		if !n.carried[p] && len(raws) < 50 {
			n.carried[p] = true
			raws, txs = append(raws, p.raw), append(txs, p.tx)
			h.Write(p.tx.ID[:])
		}
	}
	if len(raws) > 0 {
		h.Sum(b.Payload[:0])
		b.PayloadBytes = types.PayloadSize(raws)
		n.w.payloads[b.Payload] = txs
	}
}

func sortHashes(hs []types.Hash) {
	slices.SortFunc(hs, func(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) })
}
