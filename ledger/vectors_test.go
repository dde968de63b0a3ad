package ledger

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"charter/sig"
	"charter/types"
)

var update = flag.Bool("update", false, "write spec/vectors/ledger.json anew")

const vectorsFile = "../spec/vectors/ledger.json"

// hexBytes is bytes as hexadecimal in JSON.
type hexBytes []byte

func (b hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(b)), nil }
func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

type (
	vectors struct {
		About   string          `json:"about"`
		Genesis json.RawMessage `json:"genesis"`
		Chain   types.Hash      `json:"chain"` // hash of the genesis
		Start   pointVector     `json:"checkpoint_0"`
		Batches []batchVector   `json:"batches"`
		Samples []sampleVector  `json:"samples"`
		Invalid []invalidVector `json:"invalid"`
	}
	sampleVector struct {
		Base     hexBytes   `json:"checkpoint"`
		Height   uint64     `json:"height"`
		Author   types.Key  `json:"author"`
		Position uint64     `json:"position"`
		Output   hexBytes   `json:"output_state"`
		Sample   types.Hash `json:"sample"`
	}
	witnessVector struct {
		Author types.Key   `json:"author"`
		Height uint64      `json:"height"`
		Named  []types.Key `json:"named"`
	}
	pointVector struct {
		Encoding hexBytes   `json:"encoding"`
		ID       types.Hash `json:"id"`
	}
	batchVector struct {
		Height       uint64          `json:"height"`
		Anchor       types.Hash      `json:"anchor"`
		Time         types.Millis    `json:"time_ms"`
		Transactions []orderVector   `json:"transactions"`
		Shares       uint64          `json:"shares"` // height of the snapshot in force
		Witnesses    []witnessVector `json:"witnesses"`
		Peers        []hexBytes      `json:"peers"` // all peer states behind it
		TakeSnapshot bool            `json:"take_snapshot"`
		Snapshot     hexBytes        `json:"snapshot,omitempty"` // taken behind the transactions
		Events       []hexBytes      `json:"events"`             // of both
		Checkpoint   pointVector     `json:"checkpoint"`         // of the height
	}
	orderVector struct {
		Comment  string     `json:"comment"`
		Encoding hexBytes   `json:"encoding"`
		ID       types.Hash `json:"id"`
		Block    types.Hash `json:"block"`
		Author   types.Key  `json:"author"`
		Fate     string     `json:"fate"` // as in the event; "none" if it has none
	}
	invalidVector struct {
		Encoding hexBytes `json:"encoding"`
		Error    string   `json:"error"` // the kind in words
		Where    string   `json:"where"`
	}
)

const aboutVectors = "Charter, package ledger (spec/ledger.md). Batches on a genesis, each followed by the checkpoint of its height; " +
	"a snapshot, where one is taken, comes between. " +
	"\"witnesses\" is what ordered blocks say of the height below, as far as it counts. \"samples\" are what blocks of an author carry that draw on a checkpoint. The transactions under \"invalid\" are invalid by themselves on the same chain."

func point(cp *types.Checkpoint) pointVector { return pointVector{cp.Encode(), cp.ID()} }

// drawVectors makes the vectors' transactions; what becomes of them is for play to say.
func drawVectors(t testing.TB) *vectors {
	g := testGenesis(3)
	m := newMemory(t, g)
	v := &vectors{About: aboutVectors, Genesis: g.JSON(), Chain: m.state.Chain}
	peer := func(i int) types.Key { return priv(100 + i).Public() }
	input := func(tx *types.Transaction, index uint32, position uint64) types.Input {
		return types.Input{Position: position, Source: tx.ID(v.Chain), Index: index, Output: tx.Outputs[index]}
	}
	leaf := types.Leaf{Threshold: 2, Keys: types.SortKeys([]types.Key{priv(5).Public(), priv(6).Public(), priv(7).Public()}), Older: 1500}
	root, paths, err := sig.LockTree([]types.Leaf{leaf, {Threshold: 1, Keys: []types.Key{priv(9).Public()}, HashLock: PreimageHash(types.Hash{1})}})
	if err != nil {
		t.Fatal(err)
	}
	lock, err := sig.LockKey(priv(8).Public(), root)
	if err != nil {
		t.Fatal(err)
	}

	split := pay(1, 1000, priv(2).Public(), peer(0), m.input(0))
	split.Outputs[0].Value -= 5 * types.UnitsPerShare
	split.Outputs = append(split.Outputs, types.Output{Value: 5 * types.UnitsPerShare, Lock: lock})
	split.Records = []types.Record{types.Notarise{Document: types.Hash{0xd0, 0xc}}}
	signed(t, v.Chain, split, 0)

	joins := pay(2, 2000, priv(3).Public(), priv(50).Public(), input(split, 0, 4), m.input(3))
	record := types.RegisterPeer{Peer: priv(50).Public(), Name: "newcomer", Address: "newcomer.example:4000", Reward: priv(51).Public()}
	record.Signature = sig.Sign(priv(50), record.Digest(v.Chain, joins.Inputs[0]))
	joins.Records = []types.Record{record}
	signed(t, v.Chain, joins, 1, 2)
	next := signed(t, v.Chain, pay(3, 700, priv(4).Public(), peer(2), input(joins, 0, 6)), 3)
	twice := signed(t, v.Chain, pay(4, 900, priv(4).Public(), peer(2), input(split, 0, 4)), 2)
	early := pay(5, 1200, priv(0).Public(), peer(1), input(split, 1, 5))
	early.Reveals = []types.Reveal{{Inner: priv(8).Public(), Leaf: leaf, Path: paths[0], Signers: 0b011}}
	signed(t, v.Chain, early, 5, 6, 7)
	last := signed(t, v.Chain, pay(6, 800, priv(1).Public(), types.Key{}, m.input(1), m.input(2)), 0)

	ordered := func(comment string, tx *types.Transaction, author int) orderVector {
		return orderVector{Comment: comment, Encoding: tx.Encode(), ID: tx.ID(v.Chain), Block: types.Hash{0xb, byte(author)}, Author: peer(author)}
	}
	v.Batches = []batchVector{
		{Height: 1, Anchor: types.Hash{0xa, 1}, Time: g.Time + 1000, Transactions: []orderVector{
			ordered("one input, two outputs, a document", split, 0)}},
		{Height: 3, Anchor: types.Hash{0xa, 3}, Time: g.Time + 2000, Transactions: []orderVector{
			ordered("two keys, one signature; registers the host of its output", joins, 1),
			ordered("spends what the one before made", next, 2),
			ordered("double spend", twice, 0),
			ordered("by a leaf whose `older` does not hold yet", early, 1)}},
		{Height: 4, Anchor: types.Hash{0xa, 4}, Time: g.Time + 3000, TakeSnapshot: true, Transactions: []orderVector{
			ordered("the same again, in time", early, 2),
			ordered("the first one again", split, 2),
			ordered("two inputs of one key, out of any host", last, 1)},
			Shares: 0, Witnesses: []witnessVector{{peer(0), 3, []types.Key{peer(1)}}, {peer(0), 4, []types.Key{peer(1), peer(2)}}, {peer(2), 4, []types.Key{peer(1)}}}},
		{Height: 6, Anchor: types.Hash{0xa, 6}, Time: g.Time + 4000, Transactions: []orderVector{
			ordered("evidence of a fork, without inputs", fork(v.Chain, 101, 2).Transaction(), 0),
			ordered("another fork of the same peer", fork(v.Chain, 101, 3).Transaction(), 0),
			ordered("evidence of a sample that is right", sampled(m, 102, 5, true).Transaction(), 2)},
			TakeSnapshot: true, Witnesses: []witnessVector{{peer(2), 5, []types.Key{peer(0)}}, {peer(2), 6, []types.Key{peer(0)}}}},
	}
	v.Batches = append(v.Batches, batchVector{Height: 7, Anchor: types.Hash{0xa, 7}, Time: g.Time + 5000, Shares: 4, Transactions: []orderVector{
		ordered("half of the shares reinstate it", vote(t, v.Chain, peer(1), input(last, 0, 9), []types.Held{{Position: 7, Lock: priv(4).Public()}, {Position: 9, Lock: priv(1).Public()}}), 0)}})
	for h := range uint64(4) {
		b := &types.Block{Height: 6 + h, Author: peer(int(h % 3))}
		sample, err := Sample(m, b)
		if err != nil {
			t.Fatal(err)
		}
		at := types.SamplePosition(m.points[0].ID(), b.Height, b.Author, m.points[0].Outputs)
		v.Samples = append(v.Samples, sampleVector{m.points[0].Encode(), b.Height, b.Author, at, m.outputs[at].Encode(), sample})
	}
	valid, resign := sample(t, v.Chain)
	for _, row := range append(spoiltWays(t, resign), accusing(t, v.Chain, valid, resign)...) {
		tx := cloneTx(t, valid)
		row.spoil(tx)
		v.Invalid = append(v.Invalid, invalidVector{tx.Encode(), row.kind.String(), row.where})
	}
	return v
}

// play runs the chain of v and fills in, from there, what the ledger says.
func (v *vectors) play(t testing.TB) {
	g, err := types.ParseGenesis(v.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	m, cp, err := NewMemory(g)
	if err != nil {
		t.Fatal(err)
	}
	v.Chain, v.Start = m.state.Chain, point(cp)
	for i := range v.Batches {
		bv := &v.Batches[i]
		b := &Batch{Height: bv.Height, Anchor: bv.Anchor, Time: bv.Time, Shares: bv.Shares}
		for _, w := range bv.Witnesses {
			b.Witnesses = append(b.Witnesses, Witness(w))
		}
		for j := range bv.Transactions {
			o := &bv.Transactions[j]
			tx, id, err := CheckEncoded(v.Chain, &g.Params, o.Encoding)
			if err != nil {
				t.Fatalf("%s: %v", o.Comment, err)
			}
			o.ID, o.Fate = id, "none"
			b.Transactions = append(b.Transactions, Ordered{tx, id, o.Block, o.Author})
		}
		c := m.Apply(b)
		for j := range bv.Transactions {
			for _, e := range c.Events {
				if o := &bv.Transactions[j]; e.Transaction == o.ID {
					if o.Fate = "applied"; e.Reason != types.NoReason {
						o.Fate = e.Reason.String()
					}
				}
			}
		}
		events := c.Events
		if bv.TakeSnapshot {
			c := m.TakeSnapshot(bv.Height)
			bv.Snapshot, events = c.Snapshot.Encode(), append(events, c.Events...)
		}
		bv.Events = nil
		for _, e := range events {
			bv.Events = append(bv.Events, e.Encode())
		}
		bv.Checkpoint = point(m.Checkpoint(bv.Height))
		peers, _ := m.Peers()
		bv.Peers = nil
		for i := range peers {
			bv.Peers = append(bv.Peers, peers[i].Encode())
		}
	}
	for i := range v.Invalid {
		err := &Invalid{}
		if _, _, e := CheckEncoded(v.Chain, &g.Params, v.Invalid[i].Encoding); e != nil {
			err, _ = e.(*Invalid)
		}
		v.Invalid[i].Error, v.Invalid[i].Where = err.Kind.String(), err.Where
	}
}

func encodeVectors(t testing.TB, v *vectors) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestVectors holds the package to spec/vectors/ledger.json: what is drawn and played here is
// what is there, and what is there plays to the same.
func TestVectors(t *testing.T) {
	fresh := drawVectors(t)
	fresh.play(t)
	if *update {
		if err := os.WriteFile(vectorsFile, encodeVectors(t, fresh), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(golden, encodeVectors(t, fresh)) {
		t.Error("spec/vectors/ledger.json is not what this code makes: if the change is meant, go test ./ledger -run Vectors -update")
	}
	v := new(vectors)
	d := json.NewDecoder(bytes.NewReader(golden))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
	v.play(t)
	if !bytes.Equal(golden, encodeVectors(t, v)) {
		t.Error("spec/vectors/ledger.json does not play to what it says")
	}
	for i, want := range [][]string{{"applied"}, {"applied", "applied", "output already spent", "too early"}, {"applied", "none", "applied"}} {
		for j, o := range v.Batches[i].Transactions {
			if o.Fate != want[j] {
				t.Errorf("%s: %s, want %s", o.Comment, o.Fate, want[j])
			}
		}
	}
}

// vote is a reinstatement for the first offence by these outputs of keys 1 and 4, paid by an output of key 1.
func vote(t testing.TB, chain types.Hash, peer types.Key, pays types.Input, outputs []types.Held) *types.Transaction {
	tx := pay(7, 2000, priv(1).Public(), types.Key{}, pays)
	b := types.Ballot{Outputs: outputs}
	if err := SignBallot(types.ReinstateDigest(chain, peer, 1), &b, []sig.PrivateKey{priv(1), priv(4)}); err != nil {
		t.Fatal(err)
	}
	tx.Records = []types.Record{types.Reinstate{Peer: peer, Offences: 1, Ballots: []types.Ballot{b}}}
	return signed(t, chain, tx, 1)
}
