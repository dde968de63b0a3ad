package ledger

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"charter/sig"
	"charter/types"
)

// sample is a valid transaction that uses everything: an input by its key 0, one by a leaf
// (1 of keys 5 and 6, after, older, hash), both kinds of record. resign signs it again.
func sample(t testing.TB, chain types.Hash) (tx *types.Transaction, resign func(*types.Transaction)) {
	preimage := types.Hash{7}
	leaf := types.Leaf{
		Threshold: 1, Keys: types.SortKeys([]types.Key{priv(5).Public(), priv(6).Public()}),
		After: 500, Older: 20, HashLock: PreimageHash(preimage),
	}
	inner := priv(7).Public()
	root, paths, err := sig.LockTree([]types.Leaf{{After: 9}, leaf})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := sig.LockKey(inner, root)
	if err != nil {
		t.Fatal(err)
	}
	tx = &types.Transaction{
		Salt: [16]byte{1}, ValidFrom: 10, ValidUntil: 2_000_000,
		Inputs: []types.Input{
			{Position: 3, Source: types.Hash{3}, Output: types.Output{Value: 60_000, Lock: priv(0).Public(), Host: priv(100).Public()}},
			{Position: 1, Source: types.Hash{1}, Index: 2, Output: types.Output{Value: 40_000, Lock: lock}},
		},
		Outputs: []types.Output{
			{Value: 70_000, Lock: priv(2).Public(), Host: priv(100).Public()},
			{Value: 10_000, Lock: priv(0).Public()},
		},
		Records: []types.Record{
			types.Notarise{Document: types.Hash{9}},
			types.RegisterPeer{Peer: priv(8).Public(), Name: "a-peer", Address: "peer.example:4000", Reward: priv(9).Public()},
		},
		Fee:     20_000,
		Reveals: []types.Reveal{{Input: 1, Inner: inner, Leaf: leaf, Path: paths[1], Signers: 1, Preimage: preimage}},
	}
	r := tx.Records[1].(types.RegisterPeer)
	r.Signature = sig.Sign(priv(8), r.Digest(chain, tx.Inputs[0]))
	tx.Records[1] = r
	resign = func(tx *types.Transaction) { signed(t, chain, tx, 0, 5, 6) }
	resign(tx)
	return tx, resign
}

func cloneTx(t testing.TB, tx *types.Transaction) *types.Transaction {
	c, err := types.DecodeTransaction(tx.Encode())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func register(tx *types.Transaction, change func(*types.RegisterPeer)) {
	r := tx.Records[1].(types.RegisterPeer)
	change(&r)
	tx.Records[1] = r
}

// spoilt is a way to make the sample invalid, the kind that it then is and where.
type spoilt struct {
	kind  Kind
	where string
	spoil func(*types.Transaction)
}

func spoiltWays(t testing.TB, resign func(*types.Transaction)) []spoilt {
	noKey := types.Key(slices.Repeat([]byte{0xff}, 32))
	return []spoilt{
		{NoInputs, "inputs", func(tx *types.Transaction) { tx.Inputs, tx.Reveals = nil, nil }},
		{RepeatedInput, "inputs[1]", func(tx *types.Transaction) { tx.Inputs[1].Position = 3 }},
		{ZeroValue, "outputs[1]", func(tx *types.Transaction) { tx.Outputs[1].Value = 0; tx.Fee += 10_000 }},
		{ZeroValue, "inputs[0]", func(tx *types.Transaction) { tx.Inputs[0].Output.Value = 0 }},
		{BadLock, "outputs[0]", func(tx *types.Transaction) { tx.Outputs[0].Lock = noKey }},
		{BadLock, "outputs[0]", func(tx *types.Transaction) { tx.Outputs[0].Lock = types.Key{} }},
		{BadLock, "records[1].reward", func(tx *types.Transaction) { register(tx, func(r *types.RegisterPeer) { r.Reward = noKey }) }},
		{Overflow, "inputs[1]", func(tx *types.Transaction) { tx.Inputs[0].Output.Value = types.MaxSupply }},
		{Overflow, "outputs[1]", func(tx *types.Transaction) { tx.Outputs[0].Value = types.MaxSupply }},
		{Overflow, "fee", func(tx *types.Transaction) { tx.Fee = types.MaxSupply }},
		{Unbalanced, "fee", func(tx *types.Transaction) { tx.Outputs[0].Value++ }},
		{Unbalanced, "fee", func(tx *types.Transaction) { tx.Outputs[0].Value-- }},
		{LowFee, "fee", func(tx *types.Transaction) {
			tx.Fee = types.Amount(len(tx.Encode()) - 1)
			tx.Outputs[0].Value = 90_000 - tx.Fee
		}},
		{EmptyWindow, "valid until", func(tx *types.Transaction) { tx.ValidFrom = tx.ValidUntil + 1 }},
		{WrongReveal, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Path[0][0] ^= 1 }},
		{WrongReveal, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Leaf.After-- }},
		{WrongReveal, "reveals[0]", func(tx *types.Transaction) { tx.Inputs[1].Output.Lock = priv(0).Public() }},
		{WrongReveal, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Inner = noKey }},
		{WrongSigners, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Signers = 3 }},
		{WrongSigners, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Signers = 0 }},
		{WrongSigners, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Signers = 4 }},
		{WrongPreimage, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Preimage[0]++ }},
		{WrongPreimage, "reveals[0]", func(tx *types.Transaction) { tx.Reveals[0].Leaf.HashLock = types.Hash{} }},
		{NoSigners, "inputs", func(tx *types.Transaction) {
			leaf := types.Leaf{After: 1}
			lock, err := sig.LockKey(priv(7).Public(), leaf.Hash())
			if err != nil {
				t.Fatal(err)
			}
			tx.Inputs = tx.Inputs[:1]
			tx.Inputs[0].Output.Lock, tx.Inputs[0].Output.Value = lock, 100_000
			tx.Reveals = []types.Reveal{{Inner: priv(7).Public(), Leaf: leaf}}
		}},
		{BadKey, "inputs", func(tx *types.Transaction) { tx.Inputs[0].Output.Lock = noKey }},
		{BadSignature, "signature", func(tx *types.Transaction) { tx.Signature[40] ^= 1 }},
		{BadSignature, "signature", func(tx *types.Transaction) { tx.Salt[3]++ }},
		{BadSignature, "signature", func(tx *types.Transaction) { tx.Reveals[0].Signers = 2 }},
		{BadSignature, "records[1].signature", func(tx *types.Transaction) {
			register(tx, func(r *types.RegisterPeer) { r.Signature[0] ^= 1 })
			resign(tx)
		}},
		{BadSignature, "records[1].signature", func(tx *types.Transaction) { // a record of another transaction
			tx.Inputs[0].Position = 77
			resign(tx)
		}},
		{BadName, "records[1].name", func(tx *types.Transaction) { register(tx, func(r *types.RegisterPeer) { r.Name = "A" }) }},
		{BadAddress, "records[1].address", func(tx *types.Transaction) { register(tx, func(r *types.RegisterPeer) { r.Address = "example" }) }},
		{RepeatedRecord, "records[2]", func(tx *types.Transaction) { tx.Records = append(tx.Records, tx.Records[0]) }},
		{RepeatedRecord, "records[2]", func(tx *types.Transaction) {
			tx.Records = append(tx.Records, tx.Records[1])
			register(tx, func(r *types.RegisterPeer) { r.Name = "another" })
		}},
		{RepeatedRecord, "records[2]", func(tx *types.Transaction) {
			tx.Records = append(tx.Records, tx.Records[1])
			register(tx, func(r *types.RegisterPeer) { r.Peer = priv(3).Public() })
		}},
	}
}

// accusing is the ways to make evidence and votes invalid, each of a transaction that is not.
func accusing(t testing.TB, chain types.Hash, valid *types.Transaction, resign func(*types.Transaction)) []spoilt {
	with := func(spoil func(*types.Evidence)) func(*types.Transaction) {
		return func(tx *types.Transaction) {
			r := fork(chain, 100, 3)
			spoil(&r)
			tx.Records = append(tx.Records, r)
			resign(tx)
		}
	}
	resigned := func(b *types.Block, i int) *types.Block {
		b.Signature = sig.Sign(priv(i), b.ID(chain))
		return b
	}
	bare := func(spoil func(*types.Transaction)) func(*types.Transaction) {
		return func(tx *types.Transaction) {
			*tx = *fork(chain, 100, 3).Transaction()
			spoil(tx)
		}
	}
	ballots := func(spoil func(*types.Reinstate)) func(*types.Transaction) {
		return func(tx *types.Transaction) {
			r := reinstate(nil, 100, 1, 4, 5)
			for i := range r.Ballots {
				r.Ballots[i].Outputs[0].Lock = priv(i).Public()
				if err := SignBallot(types.ReinstateDigest(chain, r.Peer, r.Offences), &r.Ballots[i], []sig.PrivateKey{priv(i)}); err != nil {
					t.Fatal(err)
				}
			}
			spoil(&r)
			tx.Records = append(tx.Records, r)
			resign(tx)
		}
	}
	for _, fine := range []func(*types.Transaction){with(func(*types.Evidence) {}), bare(func(*types.Transaction) {}), ballots(func(*types.Reinstate) {})} {
		tx := cloneTx(t, valid)
		if fine(tx); Check(chain, &types.LocalParams, tx) != nil {
			t.Fatalf("%+v is not valid: %v", tx.Records, Check(chain, &types.LocalParams, tx))
		}
	}
	two := func(a, b types.SignedVote) func(*types.Transaction) {
		return with(func(r *types.Evidence) { *r = types.TwoVotesEvidence(a, b) })
	}
	vote := func(i int, height uint64, id byte) types.SignedVote {
		return falseVote(chain, i, height, types.Hash{id}).Votes[0]
	}
	return []spoilt{
		{NotBare, "inputs", bare(func(tx *types.Transaction) { tx.Salt[0]++ })},
		{NotBare, "inputs", bare(func(tx *types.Transaction) { tx.ValidUntil-- })},
		{NotBare, "inputs", bare(func(tx *types.Transaction) { tx.Signature[0]++ })},
		{NotBare, "inputs", bare(func(tx *types.Transaction) { tx.Fee++ })},
		{NotBare, "inputs", bare(func(tx *types.Transaction) { tx.Outputs = []types.Output{{Value: 1}} })},
		{NoInputs, "inputs", bare(func(tx *types.Transaction) { tx.Records = append(tx.Records, types.Notarise{}) })},
		{NoInputs, "inputs", bare(func(tx *types.Transaction) { tx.Records = []types.Record{reinstate(nil, 100, 1, 1)} })},
		{NoOffence, "records[2]", with(func(r *types.Evidence) {
			r.Blocks[1] = resigned(&types.Block{Height: 3, Author: priv(101).Public()}, 101)
		})},
		{NoOffence, "records[2]", with(func(r *types.Evidence) {
			*r = types.ForkEvidence(resigned(&types.Block{Height: 3, Author: priv(100).Public(), Previous: types.Hash{1}}, 100), r.Blocks[0])
		})},
		{NoOffence, "records[2]", with(func(r *types.Evidence) { // the same block, signed twice
			again := *r.Blocks[0]
			again.Signature[0]++
			*r = types.ForkEvidence(&again, r.Blocks[0])
		})},
		{NoOffence, "records[2]", two(vote(100, 3, 1), vote(101, 3, 2))},
		{NoOffence, "records[2]", two(vote(100, 3, 1), vote(100, 4, 2))},
		{NoOffence, "records[2]", func(tx *types.Transaction) {
			again := vote(100, 3, 1)
			again.Signature[0]++
			two(vote(100, 3, 1), again)(tx)
		}},
		{NoOffence, "records[2]", with(func(r *types.Evidence) { // a block of no sample
			*r = types.Evidence{Offence: types.FalseSample, Blocks: []*types.Block{resigned(&types.Block{Height: 3, Author: priv(100).Public()}, 100)}}
		})},
		{BadSignature, "records[2].signature", with(func(r *types.Evidence) { r.Blocks[1].Signature[3]++ })},
		{BadSignature, "records[2].signature", two(vote(100, 3, 1), types.SignedVote{Peer: priv(100).Public(), CheckpointVote: vote(101, 3, 2).CheckpointVote})},
		{BadSignature, "records[0].signature", bare(func(tx *types.Transaction) { tx.Records[0].(types.Evidence).Blocks[1].Signature[3]++ })},
		{RepeatedRecord, "records[3]", func(tx *types.Transaction) {
			tx.Records = append(tx.Records, fork(chain, 100, 3), fork(chain, 100, 4))
			resign(tx)
		}},
		{RepeatedRecord, "records[3]", func(tx *types.Transaction) {
			tx.Records = append(tx.Records, reinstate(nil, 100, 1, 1), reinstate(nil, 100, 2, 2))
			resign(tx)
		}},
		{RepeatedVote, "records[2].ballots[1]", ballots(func(r *types.Reinstate) {
			r.Ballots[0].Outputs = append(r.Ballots[0].Outputs, r.Ballots[1].Outputs[0])
		})},
		{BadSignature, "records[2].ballots[1].signature", ballots(func(r *types.Reinstate) { r.Ballots[1].Outputs[0].Lock = priv(0).Public() })},
		{BadSignature, "records[2].ballots[0].signature", ballots(func(r *types.Reinstate) { r.Offences++ })},
		{BadKey, "records[2].ballots[0]", ballots(func(r *types.Reinstate) { r.Ballots[0].Outputs[0].Lock = types.Key{} })},
	}
}

func TestInvalid(t *testing.T) {
	chain, params := types.Hash{1, 2, 3}, &types.LocalParams
	valid, resign := sample(t, chain)
	if err := Check(chain, params, valid); err != nil {
		t.Fatalf("the sample is not valid: %v", err)
	}
	covered := make(map[Kind]bool)
	for _, row := range append(spoiltWays(t, resign), accusing(t, chain, valid, resign)...) {
		tx := cloneTx(t, valid)
		row.spoil(tx)
		err := Check(chain, params, tx)
		v, ok := err.(*Invalid)
		if !ok || v.Kind != row.kind || v.Where != row.where {
			t.Errorf("want %q at %s, got %v", row.kind, row.where, err)
			continue
		}
		if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), row.where) {
			t.Errorf("not a line for a person: %q", err)
		}
		covered[row.kind] = true
	}
	for k := Kind(1); k < kindEnd; k++ {
		if !covered[k] {
			t.Errorf("no row for kind %q", k)
		}
	}
	if Check(types.Hash{9}, params, valid) == nil {
		t.Error("valid on another chain too")
	}
	if _, _, err := CheckEncoded(chain, params, append(valid.Encode(), 0)); !types.IsDecodeKind(err, types.Trailing) {
		t.Errorf("trailing byte: %v", err)
	}
}

func TestAddress(t *testing.T) {
	for s, want := range map[string]bool{
		"127.0.0.1:4000": true, "[::1]:4000": true, "peer.example:65535": true, "a:1": true, "x-1.y:80": true,
		"": false, ":4000": false, "a:": false, "a:0": false, "a:65536": false, "a:080": false, "a:+8": false,
		"::1:80": false, "[::1]": false, "[127.0.0.1]:80": false, "a b:80": false, "a..b:80": false, "-a:80": false, "a_b:80": false,
		"[::1]:080": false, strings.Repeat("a", 62) + ":80": false,
	} {
		if validAddress(s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
}

func TestMinFee(t *testing.T) {
	p := types.LocalParams
	for _, row := range []struct {
		perByte types.Amount
		size    int
		want    types.Amount
	}{{1, 300, 300}, {0, 300, 0}, {types.MaxSupply, 2, types.MaxSupply}, {1 << 63, 300, types.MaxSupply}, {1<<64 - 1, 1, types.MaxSupply}} {
		p.MinFeePerByte = row.perByte
		if got := MinFee(&p, row.size); got != row.want {
			t.Errorf("%d × %d: want %d, got %d", row.perByte, row.size, row.want, got)
		}
	}
}

func TestSigningKeys(t *testing.T) {
	tx, _ := sample(t, types.Hash{})
	tx.Inputs = append(tx.Inputs, tx.Inputs[0])
	got, err := SigningKeys(tx)
	if err != nil {
		t.Fatal(err)
	}
	want := types.SortKeys([]types.Key{priv(0).Public(), tx.Reveals[0].Leaf.Keys[0]})
	if !slices.Equal(got, want) {
		t.Errorf("want %v, got %v", want, got)
	}
	if err := SignTransaction(types.Hash{}, tx, []sig.PrivateKey{priv(0)}); err == nil {
		t.Error("signed without a key that is needed")
	}
}

// Whatever one byte is changed, nothing panics, and nothing but the same transaction is valid.
func TestMutations(t *testing.T) {
	chain, params := types.Hash{1}, &types.LocalParams
	tx, _ := sample(t, chain)
	raw, m := tx.Encode(), newMemory(t, testGenesis(2))
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		bad := slices.Clone(raw)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		if _, _, err := CheckEncoded(chain, params, bad); err == nil {
			t.Fatalf("valid: %x", bad)
		}
	}
	fit := pay(1, 1000, priv(2).Public(), priv(101).Public(), m.input(0))
	fit.Records = tx.Records
	fit.Reveals = []types.Reveal{{Inner: priv(0).Public(), Leaf: types.Leaf{Threshold: 1, Keys: []types.Key{priv(0).Public()}, Older: 1}, Signers: 1}}
	raw = fit.Encode()
	for range 1000 { // Apply stands what no signature keeps from being changed
		bad := slices.Clone(raw)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		if tx, err := types.DecodeTransaction(bad); err == nil && checkValues(params, tx, len(bad)) == nil && checkRecords(tx) == nil {
			m.Apply(m.batch(tx))
		}
	}
}

func FuzzCheck(f *testing.F) {
	chain, params := types.Hash{1}, &types.LocalParams
	tx, _ := sample(f, chain)
	f.Add(tx.Encode())
	f.Add(fork(chain, 100, 1).Transaction().Encode())
	f.Add(pay(1, 500, priv(1).Public(), types.Key{}, tx.Inputs[0]).Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := Parse(chain, params, raw)
		if err != nil {
			return
		}
		if len(p.Tx.Inputs) > 0 && p.Verify() == nil && p.Tx.ID(chain) != tx.ID(chain) {
			t.Fatal("a signature over something else")
		}
		m := newMemory(t, testGenesis(1))
		m.Apply(m.batch(p.Tx))
	})
}
