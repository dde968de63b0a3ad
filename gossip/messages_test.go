package gossip

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"charter/transport"
	"charter/types"
)

// codecs decode a message of each kind and encode it again.
var codecs = map[uint8]func(data []byte) ([]byte, error){
	kindStatus: func(data []byte) ([]byte, error) {
		s, err := decodeStatus(data)
		return s.encode().Data, err
	},
	kindBlock: func(data []byte) ([]byte, error) {
		b, err := decodePush(data, chainID)
		return pushMessage(b.RawBlock).Data, err
	},
	kindVotes: func(data []byte) ([]byte, error) {
		v, err := decodeVotes(data)
		return votesMessage(v).Data, err
	},
	kindGetBlocks: func(data []byte) ([]byte, error) {
		ids, err := decodeGetBlocks(data)
		return getBlocksMessage(ids).Data, err
	},
	kindGetRange: func(data []byte) ([]byte, error) {
		from, err := decodeGetRange(data)
		return getRangeMessage(from).Data, err
	},
	kindTxs: func(data []byte) ([]byte, error) {
		txs, err := decodeTxs(data)
		return txsMessage(txs).Data, err
	},
	kindBlocks: func(data []byte) ([]byte, error) {
		b, err := decodeBatch(data, chainID)
		raw := make([]types.RawBlock, len(b.Blocks))
		for i, x := range b.Blocks {
			raw[i] = x.RawBlock
		}
		return batchMessage(raw, func(int) uint64 { return b.Next }).Data, err
	},
	kindResults: func(data []byte) ([]byte, error) {
		rs, err := decodeResults(data)
		errs := make([]error, len(rs))
		for i, r := range rs {
			if !r.Taken {
				errs[i] = errors.New(r.Reason)
			}
		}
		return resultsMessage(errs).Data, err
	},
}

// examples has a valid message of each kind.
func examples() []transport.Message {
	one, two := makeBlock(1, 1, nil, nil), makeBlock(2, 2, []types.Hash{{1}, {2}}, []byte("payload"))
	vote := types.SignedVote{Peer: keyOf(1), CheckpointVote: types.CheckpointVote{Height: 3, Checkpoint: types.Hash{9}, Signature: types.Signature{1}}}
	return []transport.Message{
		status{8, 5, 1234, 2}.encode(), pushMessage(one), pushMessage(two), votesMessage([]types.SignedVote{vote, vote}),
		getBlocksMessage([]types.Hash{{1}, {2}}), getRangeMessage(77), txsMessage([][]byte{{1, 2, 3}, nil, {4}}),
		batchMessage([]types.RawBlock{one, two}, func(n int) uint64 { return uint64(n) }),
		resultsMessage([]error{nil, errors.New("no"), nil}),
	}
}

func TestEveryKindHasLimitAndCodec(t *testing.T) {
	for kind := range MessageLimits {
		if codecs[kind] == nil {
			t.Errorf("kind %d has no codec here", kind)
		}
		if _, ok := rates[kind]; ok == (kind == kindBlocks || kind == kindResults) {
			t.Errorf("kind %d: pushes and requests have rates, replies have none", kind)
		}
		found := false
		for _, m := range examples() {
			found = found || m.Kind == kind
		}
		if !found {
			t.Errorf("kind %d has no example", kind)
		}
	}
	if len(codecs) != len(MessageLimits) {
		t.Error("a codec for no kind")
	}
}

// Each example decodes and encodes to itself; each of its prefixes, and it with a byte more,
// is refused.
func TestCodecsAreStrict(t *testing.T) {
	for _, m := range examples() {
		out, err := codecs[m.Kind](m.Data)
		if err != nil || !bytes.Equal(out, m.Data) {
			t.Fatalf("kind %d: %v", m.Kind, err)
		}
		for n := range m.Data {
			if _, err := codecs[m.Kind](m.Data[:n]); err == nil {
				t.Fatalf("kind %d: %d of %d bytes are taken", m.Kind, n, len(m.Data))
			}
		}
		if _, err := codecs[m.Kind](append(bytes.Clone(m.Data), 0)); !types.IsDecodeKind(err, types.Trailing) {
			t.Fatalf("kind %d: a byte too many: %v", m.Kind, err)
		}
	}
}

// The greatest values there are fit the limits, and no more than that.
func TestGreatestMessagesFit(t *testing.T) {
	h := &types.Block{Height: 1, Author: keyOf(1), Parent: types.Hash{1}, Payload: types.Hash{1}, PayloadBytes: types.MaxPayload,
		VRF: types.VRFProof{1}, Checkpoint: types.CheckpointVote{Checkpoint: types.Hash{1}}}
	for i := range types.MaxMerges {
		h.Merges = append(h.Merges, types.Hash{2, byte(i >> 8), byte(i)})
	}
	b := types.RawBlock{Header: h.Encode(), Payload: make([]byte, types.MaxPayload)}
	votes := make([]types.SignedVote, maxVotes)
	for i := range votes {
		votes[i].Checkpoint = types.Hash{1}
	}
	refusals := make([]error, maxTxs)
	for i := range refusals {
		refusals[i] = errors.New(string(bytes.Repeat([]byte("x"), 1000)))
	}
	for _, m := range []transport.Message{pushMessage(b), votesMessage(votes), getBlocksMessage(make([]types.Hash, maxIDs)), resultsMessage(refusals)} {
		if len(m.Data) != MessageLimits[m.Kind] {
			t.Errorf("kind %d: %d bytes, limit %d", m.Kind, len(m.Data), MessageLimits[m.Kind])
		}
		if _, err := codecs[m.Kind](m.Data); err != nil {
			t.Errorf("kind %d: %v", m.Kind, err)
		}
	}
	many := batchMessage([]types.RawBlock{b, b, b, b, b}, func(n int) uint64 { return uint64(n) })
	if got, err := decodeBatch(many.Data, chainID); err != nil || len(got.Blocks) != 3 || got.Next != 3 || len(many.Data) > maxBlocks {
		t.Errorf("%d blocks, next %d, %d bytes: %v", len(got.Blocks), got.Next, len(many.Data), err)
	}
	var q forwardQueue
	for range 40 {
		q.put(forward{raw: make([]byte, types.MaxTransaction)})
	}
	for list := q.take(); len(list) > 0; list = q.take() {
		var txs [][]byte
		for _, f := range list {
			txs = append(txs, f.raw)
		}
		if m := txsMessage(txs); len(m.Data) > maxTxsSize {
			t.Error("forwards do not fit their message")
		}
	}
	if q.bytes != 0 {
		t.Error("bytes are left in an empty queue:", q.bytes)
	}
}

// One valid message, wrong in one way per row.
func TestBadMessages(t *testing.T) {
	one := makeBlock(1, 1, nil, nil)
	raise := func(m transport.Message, at int, to byte) []byte {
		d := bytes.Clone(m.Data)
		d[at] = to
		return d
	}
	for _, row := range []struct {
		what string
		kind uint8
		data []byte
		want types.DecodeKind
	}{
		{"final above top", kindStatus, status{5, 6, 0, 0}.encode().Data, types.NotCanonical},
		{"top above the greatest height", kindStatus, status{types.MaxHeight + 1, 0, 0, 0}.encode().Data, types.NotCanonical},
		{"a clock beyond all time", kindStatus, status{1, 0, types.MaxTime + 1, 0}.encode().Data, types.NotCanonical},
		{"nothing kept", kindStatus, status{5, 5, 0, 6}.encode().Data, types.NotCanonical},
		{"status cut", kindStatus, make([]byte, 23), types.Truncated},
		{"header longer than any", kindBlock, raise(pushMessage(one), 0, 1), types.TooLong},
		{"unknown version of header", kindBlock, raise(pushMessage(one), 4, 9), types.NotCanonical},
		{"payload that the header does not have", kindBlock, pushMessage(types.RawBlock{Header: one.Header, Payload: []byte{1}}).Data, types.NotCanonical},
		{"vote for nothing", kindVotes, votesMessage(make([]types.SignedVote, 1)).Data, types.NotCanonical},
		{"more votes than allowed", kindVotes, votesMessage(make([]types.SignedVote, maxVotes+1)).Data, types.TooLong},
		{"more ids than allowed", kindGetBlocks, getBlocksMessage(make([]types.Hash, maxIDs+1)).Data, types.TooLong},
		{"range from nothing", kindGetRange, getRangeMessage(0).Data, types.NotCanonical},
		{"transaction longer than any", kindTxs, txsMessage([][]byte{make([]byte, types.MaxTransaction+1)}).Data, types.TooLong},
		{"more transactions than allowed", kindTxs, txsMessage(make([][]byte, maxTxs+1)).Data, types.TooLong},
		{"next above the greatest height", kindBlocks, batchMessage(nil, func(int) uint64 { return types.MaxHeight + 1 }).Data, types.NotCanonical},
		{"count without blocks", kindBlocks, raise(batchMessage(nil, func(int) uint64 { return 0 }), 9, 1), types.TooLong},
		{"result that is neither", kindResults, []byte{0, 1, 2}, types.NotCanonical},
		{"reason not in ASCII", kindResults, []byte{0, 1, 0, 0, 1, 0x80}, types.NotCanonical},
	} {
		if _, err := codecs[row.kind](row.data); !types.IsDecodeKind(err, row.want) {
			t.Errorf("%s: want %q, have %v", row.what, row.want, err)
		}
	}
}

// A range is served in steps that lead to its end and leave out nothing but what does not
// fit one reply of a single height.
func TestRangesLeadOn(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var heights []uint64
		top := uint64(1)
		for range r.IntN(12) {
			heights = append(heights, top)
			top += uint64(r.IntN(3))
		}
		if len(heights) > 0 {
			top = heights[len(heights)-1]
		}
		fit := 1 + r.IntN(4)
		seen := map[int]bool{}
		from, steps := uint64(1), 0
		for ; from != 0; steps++ {
			if steps > 20 {
				t.Fatal("no end", heights, fit)
			}
			first := 0
			for first < len(heights) && heights[first] < from {
				first++
			}
			rest := heights[first:]
			n := min(fit, len(rest))
			for i := range n {
				seen[first+i] = true
			}
			next := nextHeight(rest, n, from, top)
			if next != 0 && next <= from {
				t.Fatal("it goes back", heights, fit)
			}
			from = next
		}
		for i, h := range heights {
			inHeight := 0
			for _, x := range heights {
				if x == h {
					inHeight++
				}
			}
			if !seen[i] && inHeight <= fit {
				t.Fatalf("block %d of %v is left out, %d at a time", i, heights, fit)
			}
		}
	}
}

func TestScoresFallAndBackoffsGrow(t *testing.T) {
	var p peer
	p.score = 50
	p.scored = p.scored.Add(1)
	if s := p.scoreAt(p.scored.Add(20e9)); s != 30 {
		t.Error(s)
	}
	if s := p.scoreAt(p.scored.Add(90e9)); s != 0 {
		t.Error(s)
	}
	for n, want := range map[int]int64{0: 10, 1: 10, 2: 20, 3: 40, 4: 70, 99: 70} {
		if d := backoff(10, n, 70); int64(d) != want {
			t.Errorf("n = %d: %d, want %d", n, d, want)
		}
	}
	s := newSeenSet()
	for i := range seenBlocks + 10 {
		s.add(types.Hash{byte(i), byte(i >> 8), byte(i >> 16)})
	}
	if len(s.ids) != seenBlocks || s.has(types.Hash{}) || !s.has(types.Hash{10}) {
		t.Error("the set of ids is not bounded to the newest")
	}
}

func FuzzMessages(f *testing.F) {
	for _, m := range examples() {
		f.Add(m.Kind, m.Data)
	}
	f.Fuzz(func(t *testing.T, kind uint8, data []byte) {
		codec, ok := codecs[kind]
		if !ok || len(data) > MessageLimits[kind] {
			return
		}
		if out, err := codec(data); err == nil && !bytes.Equal(out, data) {
			t.Fatalf("kind %d: a second encoding of one value", kind)
		}
	})
}
