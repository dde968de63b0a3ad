package chain

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"charter/ledger"
	"charter/sig"
	"charter/tlog"
	"charter/types"
)

// Blocks that come together are verified together; what is wrong in one is told of it, those
// before it are taken, and nothing false is remembered.
func TestBlocksTogether(t *testing.T) {
	w := newWorld(t, 2, 20, types.LocalParams)
	id := w.genesis.ChainID()
	const count, per = 4, 8
	build := func(i int, spoil func(*types.Block, [][]byte)) types.RawBlock {
		key := w.keys[i%2]
		var txs [][]byte
		var leaves []types.Hash
		b := &types.Block{Height: 1, Author: key.Public(), Parent: id, Time: w.genesis.Time + 1}
		for j := range per {
			txs = append(txs, w.pay(i*per+j))
		}
		b.Checkpoint = types.CheckpointVote{Height: 16, Checkpoint: types.Hash{1}}
		b.Checkpoint.Signature = sig.Sign(key, types.VoteDigest(id, 16, types.Hash{1}))
		if spoil != nil {
			spoil(b, txs)
		}
		for _, tx := range txs {
			leaves = append(leaves, tlog.LeafHash(tx))
		}
		payload := types.EncodePayload(txs)
		b.Payload, b.PayloadBytes = tlog.Root(leaves), uint32(len(payload))
		b.Signature = sig.Sign(key, b.ID(id))
		return types.RawBlock{Header: b.Encode(), Payload: payload}
	}
	falsify := func(at int) func(*types.Block, [][]byte) {
		return func(_ *types.Block, txs [][]byte) {
			tx, err := types.DecodeTransaction(txs[at])
			if err != nil {
				t.Fatal(err)
			}
			tx.Signature[63] ^= 1
			txs[at] = tx.Encode()
		}
	}
	spoilt := map[string]func(b *types.Block, txs [][]byte){
		"transaction 5: ":   falsify(5),
		"checkpoint vote: ": func(b *types.Block, _ [][]byte) { b.Checkpoint.Signature[0] ^= 1 },
		"transaction 2: ":   func(_ *types.Block, txs [][]byte) { txs[2] = txs[2][:len(txs[2])-1] },
	}
	for what, spoil := range spoilt {
		for at := range count {
			var k checker
			k.init(id, &w.genesis.Params)
			var raws []types.RawBlock
			for i := range count {
				if i == at {
					raws = append(raws, build(i, spoil))
				} else if i == at+2 {
					raws = append(raws, build(i, falsify(0))) // a later one is not blamed
				} else {
					raws = append(raws, build(i, nil))
				}
			}
			good, err := k.blocks(raws, types.Key{})
			if len(good) != at || err == nil || !strings.HasPrefix(err.Error(), what) {
				t.Errorf("%q in block %d: %d good, %v", what, at, len(good), err)
			}
			for _, p := range k.good {
				if err := p.Verify(); err != nil {
					t.Errorf("%q in block %d: %s is remembered: %v", what, at, p.ID.Short(), err)
				}
			}
		}
	}

	var k checker
	k.init(id, &w.genesis.Params)
	raws := []types.RawBlock{build(0, nil), build(1, nil), build(2, nil)}
	raws[1].Header[len(raws[1].Header)-1] ^= 1
	if good, err := k.blocks(raws, types.Key{}); len(good) != 1 || err == nil || !strings.HasPrefix(err.Error(), "signature: ") {
		t.Errorf("a false block: %d good, %v", len(good), err)
	}
	raws[1] = build(1, nil)
	good, err := k.blocks(raws, types.Key{})
	if err != nil || len(good) != 3 || len(k.good) != 3*per {
		t.Fatalf("%d good, %d remembered, %v", len(good), len(k.good), err)
	}
	for i, b := range good {
		if len(b.txs) != per || b.id != b.block.ID(id) {
			t.Errorf("block %d has %d transactions", i, len(b.txs))
		}
	}
	// Submitted together, false ones are refused, each with its own reason, and the others are not.
	txs := [][]byte{w.pay(30), w.pay(1), w.pay(31), w.pay(32)[:50]}
	falsify(0)(nil, txs)
	answers := make([]Answer, len(txs))
	parsed := k.transactions(txs, answers)
	for i, want := range []string{ledger.BadSignature.String(), "", "", "encoding"} {
		var refused *Error
		switch {
		case want == "" && (parsed[i] == nil || answers[i].Err != nil || answers[i].ID != parsed[i].ID):
			t.Errorf("transaction %d: %+v", i, answers[i])
		case want != "" && (parsed[i] != nil || !errors.As(answers[i].Err, &refused) || refused.Kind != Invalid || refused.Reason != want):
			t.Errorf("transaction %d: %+v, and not refused as %s", i, answers[i], want)
		}
	}
	if parsed[1].ID != good[0].txs[1].ID || len(k.good) != 3*per+1 {
		t.Errorf("%d remembered", len(k.good))
	}
}

// Whoever verifies at the same time, each learns the truth about its own.
func TestVerifyTogether(t *testing.T) {
	key, err := sig.ParsePrivateKey([32]byte{31: 7})
	if err != nil {
		t.Fatal(err)
	}
	var v verifier
	var wait sync.WaitGroup
	for i := range 40 {
		var u unverified
		bad, learned := -1, false
		for j := range i % 9 {
			c := sig.Check{Key: key.Public(), Msg: types.Hash{byte(i), byte(j)}}
			c.Sig = sig.Sign(key, c.Msg)
			if i%5 == 0 && j%3 == 2 {
				c.Sig[40] ^= 1
				if bad < 0 {
					bad = j
				}
			}
			u.add(c, func(err error) error { return fmt.Errorf("%d of %d: %w", j, i, err) })
		}
		u.learn = append(u.learn, func() { learned = true })
		wait.Go(func() {
			at, err := v.verify(&u)
			if at != bad || (err == nil) != (bad < 0) || learned != (bad < 0) || err != nil && !strings.HasPrefix(err.Error(), fmt.Sprintf("%d of %d: ", bad, i)) {
				t.Errorf("%d: %d is bad, learned %v, %v", i, at, learned, err)
			}
		})
	}
	wait.Wait()
	if v.working || len(v.waiting) > 0 {
		t.Error("somebody still waits")
	}
}
