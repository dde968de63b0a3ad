package chain

import (
	"strings"
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
	// Submitted, a false transaction is refused, and a known one is known.
	txs := [][]byte{w.pay(30)}
	falsify(0)(nil, txs)
	if _, err := k.transaction(txs[0]); !ledger.IsKind(err, ledger.BadSignature) {
		t.Error(err)
	}
	if p, err := k.transaction(w.pay(1)); err != nil || p.ID != good[0].txs[1].ID {
		t.Error(err)
	}
}
