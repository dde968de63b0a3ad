package wallet

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"

	"charter/ledger"
	"charter/sig"
	"charter/types"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testPriv is the private key of a peer, or of a stranger.
func testPriv(name string) sig.PrivateKey {
	return must(sig.ParsePrivateKey(sha256.Sum256([]byte("wallet test " + name))))
}

func testEntropy(name string) [32]byte { return sha256.Sum256([]byte("wallet entropy " + name)) }

const share = types.UnitsPerShare

// world is a real ledger with a peer, some wallets, and what was sent to it.
type world struct {
	t       testing.TB
	genesis *types.Genesis
	ledger  *ledger.Memory
	height  uint64
	asOf    AsOf
	raw     map[types.Hash][]byte // all that was sent
	facts   []Settlement          // of all heights, in order
}

// newWorld has a genesis that gives each named wallet the outputs with these values, under
// its first keys for receiving.
func newWorld(t testing.TB, names []string, values ...types.Amount) (*world, []*Wallet) {
	peer := types.GenesisPeer{Peer: testPriv("peer").Public(), Name: "peer", Address: "127.0.0.1:4000", Reward: testPriv("reward").Public()}
	g := &types.Genesis{Network: "test", Time: 1_000_000, Params: types.LocalParams, Peers: []types.GenesisPeer{peer}}
	g.Outputs = append(g.Outputs, types.GenesisOutput{Value: 1, Lock: testPriv("stranger").Public(), Host: peer.Peer})
	for _, name := range names {
		keys := NewKeys(testEntropy(name), 0)
		for i, v := range values {
			g.Outputs = append(g.Outputs, types.GenesisOutput{Value: v, Lock: keys.Lock(Receive, uint32(i)), Host: peer.Peer})
		}
	}
	m, _, err := ledger.NewMemory(g)
	check(t, err)
	w := &world{t: t, genesis: g, ledger: m, asOf: AsOf{0, g.Time}, raw: make(map[types.Hash][]byte)}
	var wallets []*Wallet
	for _, name := range names {
		v := New(g.ChainID(), &g.Params, testEntropy(name), 0)
		check(t, v.SetAgent(Agent{Peer: peer.Peer, Name: "peer", Address: "http://127.0.0.1:1"}))
		for range values {
			must(v.Receive())
		}
		w.tellAll(v)
		wallets = append(wallets, v)
	}
	return w, wallets
}

// states gives every output ever made, by position.
func (w *world) states() []types.OutputState {
	var all []types.OutputState
	for at := uint64(0); ; at++ {
		s := must(w.ledger.Output(at))
		if s == nil {
			return all
		}
		all = append(all, *s)
	}
}

// tellAll gives a wallet the proven state of all of its outputs.
func (w *world) tellAll(v *Wallet) {
	for at, s := range w.states() {
		if v.ours(s.Output.Lock) {
			check(w.t, v.Found(Finding{Position: uint64(at), State: s, Proof: []byte("output proof"), AsOf: w.asOf}))
		}
	}
}

// holds is what the ledger says is unspent under the wallet's keys.
func (w *world) holds(v *Wallet) (total types.Amount) {
	for _, s := range w.states() {
		if v.ours(s.Output.Lock) && s.SpentHeight == 0 {
			total += s.Output.Value
		}
	}
	return total
}

// history is all events of a lock, told from the outputs.
func (w *world) history(lock types.Key) KeyHistory {
	h := KeyHistory{Lock: lock, AsOf: w.asOf, Proof: []byte("key proof")}
	for at, s := range w.states() {
		if s.Output.Lock != lock {
			continue
		}
		h.Events = append(h.Events, types.KeyEvent{Position: uint64(at), Transaction: s.Source, Index: s.Index, Output: s.Output, Height: s.BornHeight, Time: s.BornTime})
		if s.SpentHeight != 0 {
			h.Events = append(h.Events, types.KeyEvent{Spent: true, Position: uint64(at), Transaction: types.Hash{1}, Output: s.Output, Height: s.SpentHeight})
		}
	}
	slices.SortStableFunc(h.Events, func(a, b types.KeyEvent) int { return compare(a.Height, b.Height) })
	return h
}

// order applies transactions in this order at a new height, so much later, and keeps what
// became of them.
func (w *world) order(later types.Millis, raws ...[]byte) []Settlement {
	w.height++
	w.asOf = AsOf{w.height, w.asOf.Time + later}
	b := &ledger.Batch{Height: w.height, Anchor: sha256.Sum256(fmt.Append(nil, w.height)), Time: w.asOf.Time}
	for _, raw := range raws {
		tx, id, err := ledger.CheckEncoded(w.genesis.ChainID(), &w.genesis.Params, raw)
		check(w.t, err)
		w.raw[id] = raw
		b.Transactions = append(b.Transactions, ledger.Ordered{Tx: tx, ID: id, Block: b.Anchor, Author: w.genesis.Peers[0].Peer})
	}
	var facts []Settlement
	for _, e := range w.ledger.Apply(b).Events {
		facts = append(facts, Settlement{Tx: body(w.raw[e.Transaction]), Event: e, Proof: []byte("event proof"), AsOf: w.asOf, At: w.asOf.Time})
	}
	w.ledger.Checkpoint(w.height)
	w.facts = append(w.facts, facts...)
	return facts
}

// body is a transaction as an event's proof has it.
func body(raw []byte) *types.Transaction {
	return must(types.DecodeTransactionBody(must(types.DecodeTransaction(raw)).Body()))
}

// terms are those of an intent that is good for ten minutes.
func (w *world) terms(intent string) Terms {
	t := Terms{Intent: intent, Now: w.asOf.Time, ValidFrom: 0, ValidUntil: w.asOf.Time + 600_000}
	salt := sha256.Sum256([]byte(intent))
	copy(t.Salt[:], salt[:])
	return t
}

// settle gives facts to a wallet, those that touch it.
func settle(t testing.TB, v *Wallet, facts []Settlement) {
	t.Helper()
	for _, f := range facts {
		if err := v.Settle(f); err != nil && !IsKind(err, NotOurs) {
			t.Fatal(err)
		}
	}
}

// restarted is the wallet after a restart: what its file gives back.
func restarted(t testing.TB, v *Wallet) *Wallet {
	t.Helper()
	data := v.Encode()
	back, err := Decode(data)
	check(t, err)
	if string(back.Encode()) != string(data) {
		t.Fatal("a wallet that is decoded encodes to something else")
	}
	return back
}
