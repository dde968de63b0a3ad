package gossip

import (
	"charter/transport"
	"charter/types"
)

// The messages, as in spec/network.md, "Messages". A decoded block aliases the message.

type status struct {
	Top, Final uint64
	Clock      types.Millis // the sender's, when it was sent
	Lowest     uint64       // height from which on it keeps all blocks, 0 for all
}

func (s status) encode() transport.Message {
	e := types.NewEncoder(make([]byte, 0, 32))
	e.U64(s.Top)
	e.U64(s.Final)
	e.Time(s.Clock)
	e.U64(s.Lowest)
	return transport.Message{Kind: kindStatus, Data: e.Data()}
}

func decodeStatus(data []byte) (status, error) {
	d := types.NewDecoder("status", data)
	s := status{Top: d.U64("top"), Final: d.U64("final"), Clock: d.Time("clock"), Lowest: d.U64("lowest")}
	if s.Top > types.MaxHeight || s.Final > s.Top || s.Lowest > s.Top {
		d.Fail(types.NotCanonical, "height")
	}
	return s, d.Finish()
}

// block is a block that came in, with what gossip needs to know of it.
type block struct {
	types.RawBlock
	ID     types.Hash
	Height uint64
	Author types.Key
}

func encodeBlock(e *types.Encoder, b types.RawBlock) {
	e.Bytes(b.Header)
	e.Bytes(b.Payload)
}

// readBlock reads a block and checks that it is well formed and has the payload's length
// that it says; whether it is valid is for the chain to say.
func readBlock(d *types.Decoder, chain types.Hash) block {
	take := func(what string, max int) []byte { return d.Take(what, d.Count32(what, max, 1)) }
	raw := types.RawBlock{Header: take("header", maxHeader), Payload: take("payload", types.MaxPayload)}
	if d.Err() != nil {
		return block{}
	}
	h, err := types.DecodeBlock(raw.Header)
	if err != nil || int(h.PayloadBytes) != len(raw.Payload) {
		d.Fail(types.NotCanonical, "header")
		return block{}
	}
	return block{raw, h.ID(chain), h.Height, h.Author}
}

func pushMessage(b types.RawBlock) transport.Message {
	e := types.NewEncoder(make([]byte, 0, 8+b.Size()))
	encodeBlock(e, b)
	return transport.Message{Kind: kindBlock, Data: e.Data()}
}

func decodePush(data []byte, chain types.Hash) (block, error) {
	d := types.NewDecoder("push", data)
	b := readBlock(d, chain)
	return b, d.Finish()
}

func votesMessage(votes []types.SignedVote) transport.Message {
	e := types.NewEncoder(make([]byte, 0, 2+len(votes)*types.SignedVoteSize))
	e.Count16(len(votes))
	for _, v := range votes {
		v.Encode(e)
	}
	return transport.Message{Kind: kindVotes, Data: e.Data()}
}

func decodeVotes(data []byte) ([]types.SignedVote, error) {
	d := types.NewDecoder("votes", data)
	n := d.Count16("votes", maxVotes, types.SignedVoteSize)
	votes := make([]types.SignedVote, 0, n)
	for range n {
		votes = append(votes, types.ReadSignedVote(d))
	}
	return votes, d.Finish()
}

func getBlocksMessage(ids []types.Hash) transport.Message {
	e := types.NewEncoder(make([]byte, 0, 2+32*len(ids)))
	e.Count16(len(ids))
	for _, id := range ids {
		e.Hash(id)
	}
	return transport.Message{Kind: kindGetBlocks, Data: e.Data()}
}

func decodeGetBlocks(data []byte) ([]types.Hash, error) {
	d := types.NewDecoder("get blocks", data)
	n := d.Count16("ids", maxIDs, 32)
	ids := make([]types.Hash, 0, n)
	for range n {
		ids = append(ids, d.Hash("ids"))
	}
	return ids, d.Finish()
}

func getRangeMessage(from uint64) transport.Message {
	e := types.NewEncoder(make([]byte, 0, 8))
	e.U64(from)
	return transport.Message{Kind: kindGetRange, Data: e.Data()}
}

func decodeGetRange(data []byte) (uint64, error) {
	d := types.NewDecoder("get range", data)
	from := d.U64("from")
	if from == 0 || from > types.MaxHeight {
		d.Fail(types.NotCanonical, "from")
	}
	return from, d.Finish()
}

// batch is the reply to both: blocks, and where to go on. For GetBlocks, Next is how many of
// the ids were looked up; those of them not among Blocks are not there. For GetRange, Next
// is the height to ask for next, zero where there is nothing higher.
type batch struct {
	Next   uint64
	Blocks []block
}

// batchMessage puts in as many blocks as fit, and says how many those were.
func batchMessage(blocks []types.RawBlock, next func(n int) uint64) transport.Message {
	size, n := 8+2, 0
	for n < len(blocks) && n < maxBatch && size+8+blocks[n].Size() <= maxBlocks {
		size += 8 + blocks[n].Size()
		n++
	}
	e := types.NewEncoder(make([]byte, 0, size))
	e.U64(next(n))
	e.U16(uint16(n))
	for _, b := range blocks[:n] {
		encodeBlock(e, b)
	}
	return transport.Message{Kind: kindBlocks, Data: e.Data()}
}

func decodeBatch(data []byte, chain types.Hash) (batch, error) {
	d := types.NewDecoder("blocks", data)
	b := batch{Next: d.U64("next")}
	n := d.Count16("blocks", maxBatch, 8)
	for range n {
		if x := readBlock(d, chain); d.Err() == nil {
			b.Blocks = append(b.Blocks, x)
		}
	}
	if b.Next > types.MaxHeight {
		d.Fail(types.NotCanonical, "next")
	}
	return b, d.Finish()
}

func txsMessage(txs [][]byte) transport.Message {
	e := types.NewEncoder(nil)
	e.Count16(len(txs))
	for _, tx := range txs {
		e.Bytes(tx)
	}
	return transport.Message{Kind: kindTxs, Data: e.Data()}
}

func decodeTxs(data []byte) ([][]byte, error) {
	d := types.NewDecoder("transactions", data)
	n := d.Count16("transactions", maxTxs, 4)
	txs := make([][]byte, 0, n)
	for range n {
		txs = append(txs, d.Take("transaction", d.Count32("transaction", types.MaxTransaction, 1)))
	}
	return txs, d.Finish()
}

// resultsMessage says of each transaction nothing, which means taken, or why it is refused.
func resultsMessage(errs []error) transport.Message {
	e := types.NewEncoder(nil)
	e.Count16(len(errs))
	for _, err := range errs {
		e.Bool(err == nil)
		if err != nil {
			e.String(plain(err.Error(), maxRefusal))
		}
	}
	return transport.Message{Kind: kindResults, Data: e.Data()}
}

// result is what the host said of a forwarded transaction.
type result struct {
	Taken  bool
	Reason string // where not
}

func decodeResults(data []byte) ([]result, error) {
	d := types.NewDecoder("results", data)
	n := d.Count16("results", maxTxs, 1)
	out := make([]result, 0, n)
	for range n {
		r := result{Taken: d.Bool("taken")}
		if !r.Taken {
			r.Reason = d.String("reason", maxRefusal)
		}
		out = append(out, r)
	}
	return out, d.Finish()
}

// plain is s in printable ASCII and no longer than max bytes.
func plain(s string, max int) string {
	b := make([]byte, 0, min(len(s), max))
	for _, r := range s {
		if len(b) == max {
			break
		}
		if r < 0x20 || r > 0x7e {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return string(b)
}
