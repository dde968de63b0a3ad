package chain

import (
	"fmt"
	"runtime"
	"sync"

	"charter/ledger"
	"charter/sig"
	"charter/tlog"
	"charter/types"

	"golang.org/x/sync/errgroup"
)

// Offence is an error that is the fault of the peer that sent something.
type Offence struct {
	What string
	Err  error
}

func (e *Offence) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap is what was wrong.
func (e *Offence) Unwrap() error { return e.Err }

// Offender is the zero key: whoever delivered it could have checked.
func (e *Offence) Offender() types.Key { return types.Key{} }

// checked is a block whose form, signatures and payload are good.
type checked struct {
	id      types.Hash
	block   *types.Block
	payload []byte
	txs     []ledger.Ordered
	from    types.Key
}

// checker judges what strangers send, by itself. It remembers the transactions that it found
// good, so that one which was submitted, or comes in two blocks, is checked once.
type checker struct {
	chain  types.Hash
	params *types.Params

	peers, wallets verifier // of what they send

	mu       sync.Mutex
	good     map[types.Hash]*ledger.Parsed // by the hash of all their bytes
	older    map[types.Hash]*ledger.Parsed // the generation before
	payloads map[types.Hash][]byte         // of blocks in consensus' hands
}

// maxGood is how many transactions a generation of the checker's memory has.
const maxGood = 1 << 14

func (k *checker) init(chain types.Hash, params *types.Params) {
	k.chain, k.params = chain, params
	k.good, k.older = make(map[types.Hash]*ledger.Parsed), make(map[types.Hash]*ledger.Parsed)
	k.payloads = make(map[types.Hash][]byte)
}

// hold keeps a block's payload until release, which is once consensus has judged the block.
func (k *checker) hold(b *checked) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.payloads) > 1<<16 {
		clear(k.payloads) // far above what consensus keeps waiting; they are delivered again
	}
	k.payloads[b.id] = b.payload
}

func (k *checker) release(id types.Hash) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.payloads[id]
	delete(k.payloads, id)
	return p
}

// parse parses a transaction, or knows it; then it is good. Raw must not change afterwards.
// Leaf is its hash in a payload.
func (k *checker) parse(raw []byte) (p *ledger.Parsed, leaf types.Hash, known bool, err error) {
	leaf = tlog.LeafHash(raw)
	k.mu.Lock()
	if p = k.good[leaf]; p == nil {
		p = k.older[leaf]
	}
	k.mu.Unlock()
	if p != nil {
		return p, leaf, true, nil
	}
	p, err = ledger.Parse(k.chain, k.params, raw)
	return p, leaf, false, err
}

// remember keeps a transaction whose signatures are verified.
func (k *checker) remember(leaf types.Hash, p *ledger.Parsed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.good) >= maxGood {
		k.good, k.older = make(map[types.Hash]*ledger.Parsed), k.good
	}
	k.good[leaf] = p
}

// payload checks the transactions of a block, and gives their root (zero for none).
func (k *checker) payload(raws [][]byte) (root types.Hash, txs []ledger.Ordered, err error) {
	var u unverified
	if root, txs, err = k.parsePayload(raws, &u); err == nil {
		_, err = k.peers.verify(&u)
	}
	return root, txs, err
}

// parsePayload is payload but for the signatures, which it adds to u.
func (k *checker) parsePayload(raws [][]byte, u *unverified) (root types.Hash, txs []ledger.Ordered, err error) {
	if len(raws) == 0 {
		return root, nil, nil
	}
	leaves := make([]types.Hash, len(raws))
	txs = make([]ledger.Ordered, len(raws))
	fresh := make([]*ledger.Parsed, len(raws))
	err = each(len(raws), func(i int) error {
		p, leaf, known, err := k.parse(raws[i])
		if err != nil {
			return fmt.Errorf("transaction %d: %w", i, err)
		}
		leaves[i], txs[i] = leaf, ledger.Ordered{Tx: p.Tx, ID: p.ID}
		if !known {
			fresh[i] = p
		}
		return nil
	})
	if err != nil {
		return root, nil, err
	}
	for i, p := range fresh {
		if p == nil {
			continue
		}
		for j, c := range p.Signatures {
			u.add(c, func(err error) error { return fmt.Errorf("transaction %d: %w", i, p.Blame(j, err)) })
		}
		u.learn = append(u.learn, func() { k.remember(leaves[i], p) })
	}
	return tlog.Root(leaves), txs, nil
}

// block checks a block as it came, but for signatures, which it adds to u.
func (k *checker) block(raw types.RawBlock, from types.Key, u *unverified) (*checked, error) {
	b, err := types.DecodeBlock(raw.Header)
	if err != nil {
		return nil, err
	}
	out := &checked{id: b.ID(k.chain), block: b, payload: raw.Payload, from: from}
	u.add(sig.Check{Key: b.Author, Msg: out.id, Sig: b.Signature}, func(err error) error { return fmt.Errorf("signature: %w", err) })
	if v := b.Checkpoint; !v.Checkpoint.IsZero() {
		u.add(sig.Check{Key: b.Author, Msg: types.VoteDigest(k.chain, v.Height, v.Checkpoint), Sig: v.Signature},
			func(err error) error { return fmt.Errorf("checkpoint vote: %w", err) })
	}
	if !b.Sample.IsZero() && !k.params.SampleDue(b.Height) {
		return nil, fmt.Errorf("a sample at height %d, where none is due", b.Height)
	}
	if len(raw.Payload) != int(b.PayloadBytes) {
		return nil, fmt.Errorf("payload has %d bytes, and its block says %d", len(raw.Payload), b.PayloadBytes)
	}
	if len(raw.Payload) == 0 {
		return out, nil
	}
	raws, err := types.DecodePayload(raw.Payload)
	if err != nil {
		return nil, err
	}
	root, txs, err := k.parsePayload(raws, u)
	if err != nil {
		return nil, err
	}
	if root != b.Payload {
		return nil, fmt.Errorf("payload has root %s, and its block says %s", root, b.Payload)
	}
	for i := range txs {
		txs[i].Block, txs[i].Author = out.id, b.Author
	}
	out.txs = txs
	return out, nil
}

// blocks checks blocks as they came: it gives those before the first bad one, and that one's
// error. All their signatures are verified together.
func (k *checker) blocks(raws []types.RawBlock, from types.Key) (good []*checked, bad error) {
	good = make([]*checked, len(raws))
	parts := make([]unverified, len(raws))
	errs := make([]error, len(raws))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, raw := range raws {
		g.Go(func() error {
			good[i], errs[i] = k.block(raw, from, &parts[i])
			return nil
		})
	}
	g.Wait()
	var all unverified
	var owner []int // the block that each signature is of
	for i, u := range parts {
		if errs[i] != nil {
			good, bad = good[:i], errs[i]
			break
		}
		all.checks, all.blame, all.learn = append(all.checks, u.checks...), append(all.blame, u.blame...), append(all.learn, u.learn...)
		for range u.checks {
			owner = append(owner, i)
		}
	}
	if at, err := k.peers.verify(&all); err != nil {
		good, bad = good[:owner[at]], err
	}
	return good, bad
}

// Deliver takes blocks that a peer sent, in any order; they may be known already, and blocks
// that they name may be missing. It waits while the chain has enough to do. An error that is
// an *Offence is the sender's fault; the blocks before the bad one are taken.
func (c *Chain) Deliver(from types.Key, blocks []types.RawBlock) error {
	good, bad := c.checker.blocks(blocks, from)
	for _, b := range good {
		if v := b.block.Checkpoint; !v.Checkpoint.IsZero() && !c.isSyncing() {
			c.votes.add(types.SignedVote{Peer: b.block.Author, CheckpointVote: v})
		}
	}
	if len(good) > 0 {
		if err := c.send(good); err != nil {
			return err
		}
	}
	if bad != nil {
		return &Offence{"block", bad}
	}
	return nil
}

// DeliverVotes takes votes for checkpoints. Those that are of no use are passed over.
func (c *Chain) DeliverVotes(from types.Key, votes []types.SignedVote) {
	for _, v := range votes {
		if !c.votes.wants(v) {
			continue
		}
		if err := sig.Verify(v.Peer, types.VoteDigest(c.id, v.Height, v.Checkpoint), v.Signature); err != nil {
			c.cfg.Network.Misbehaved(from, fmt.Errorf("vote of %s for height %d: %w", v.Peer.Short(), v.Height, err))
			return
		}
		c.votes.add(v)
	}
}

// SetSyncing says whether this peer is far behind others and catching up: it builds nothing
// and votes for nothing meanwhile.
func (c *Chain) SetSyncing(is bool) { _ = c.send(syncing(is)) }

// SetAdrift says whether the machine's clock is too far from the other peers': a block of a
// wrong time would be held back by all others, so none is built meanwhile.
func (c *Chain) SetAdrift(is bool) { _ = c.send(adrift(is)) }

// Block is a block by its id, or false.
func (c *Chain) Block(id types.Hash) (types.RawBlock, bool, error) {
	b, ok, err := c.cfg.Store.Block(id)
	return types.RawBlock{Header: b.Header, Payload: b.Payload}, ok, err
}

// Blocks are the blocks of height from and above, ascending by height, in whole heights: one
// height at least if there is any, and no further one once limit bytes are reached.
func (c *Chain) Blocks(from uint64, limit int) ([]types.RawBlock, error) {
	if from < c.cfg.Store.Lowest() {
		return nil, c.notKept(fmt.Sprintf("height %d", from))
	}
	var out []types.RawBlock
	var at uint64
	size := 0
	for b, err := range c.cfg.Store.Blocks(from, types.MaxHeight) {
		if err != nil {
			return nil, err
		}
		h, err := types.DecodeBlock(b.Header)
		if err != nil {
			return nil, fmt.Errorf("stored block %s: %w", b.ID, err)
		}
		if h.Height != at && size >= limit {
			break
		}
		at = h.Height
		raw := types.RawBlock{Header: b.Header, Payload: b.Payload}
		size += raw.Size()
		out = append(out, raw)
	}
	return out, nil
}

// Heights are the greatest height in the view, and the greatest that is final.
func (c *Chain) Heights() (top, final uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.status.Height, c.status.Final
}
