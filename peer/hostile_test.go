package peer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"charter/consensus"
	"charter/gossip"
	"charter/sig"
	"charter/tlog"
	"charter/transport"
	"charter/types"
)

// The kinds of messages, as in spec/network.md.
const (
	frameStatus, frameBlock, frameVotes, frameTxs, frameBlocks = 1, 2, 3, 18, 32
)

// hostile is the fourth peer of a world of four, played by hand.
type hostile struct {
	*world
	key   sig.PrivateKey
	conns []*transport.Conn // to the honest ones
}

// newHostile is three honest peers that have made a payment final, and a fourth that is
// connected to each of them, and answers requests as one that has nothing.
func newHostile(t *testing.T) *hostile {
	h := &hostile{world: newWorld(t, 4, 2)}
	h.start(0, 1, 2)
	var err error
	if h.key, _, err = ReadKey(h.configs[3].path("peer.key")); err != nil {
		t.Fatal(err)
	}
	messages := map[uint8]int{99: 1 << 20}
	for kind, n := range gossip.MessageLimits {
		messages[kind] = 4 * n
	}
	e, err := transport.Listen(transport.Config{Chain: h.genesis.ChainID(), Key: &h.key, Listen: "127.0.0.1:0", Messages: messages})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	for i := range 3 {
		c, err := e.Dial(t.Context(), h.genesis.Peers[i].Address, h.genesis.Peers[i].Peer)
		if err != nil {
			t.Fatal(err)
		}
		h.conns = append(h.conns, c)
		go c.Serve(func(_ context.Context, m transport.Message) (transport.Message, error) {
			looked := uint64(0) // of ids, all; of a range, there is nothing higher
			if m.Kind == 16 {
				looked = uint64(binary.BigEndian.Uint16(m.Data))
			}
			return transport.Message{Kind: frameBlocks, Data: binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, looked), 0)}, nil
		})
		go func() {
			for {
				if _, err := c.Receive(); err != nil {
					return
				}
			}
		}()
	}
	h.settle(0, 0)
	return h
}

// send sends to the first honest peer as long as it listens.
func (h *hostile) send(kind uint8, data []byte) { h.sendTo(0, kind, data) }

func (h *hostile) sendTo(i int, kind uint8, data []byte) {
	_ = h.conns[i].Send(transport.Message{Kind: kind, Data: data}) // it may have had enough
}

// block is a valid block of height 1, changed, then signed.
func (h *hostile) block(change func(*types.Block)) *types.Block {
	b := &types.Block{Height: 1, Author: h.key.Public(), Parent: h.genesis.ChainID(), Time: h.genesis.Time, Past: h.past()}
	change(b)
	b.Signature = sig.Sign(h.key, b.ID(h.genesis.ChainID()))
	return b
}

// past is the digest of the past of a block that names the last of these, or genesis for none.
func (h *hostile) past(blocks ...*types.Block) types.Hash {
	chain := h.genesis.ChainID()
	core := consensus.New(consensus.Config{Chain: chain, Params: h.genesis.Params, Genesis: h.genesis.Snapshot(), Time: h.genesis.Time})
	core.Step(consensus.Tick{Now: types.MillisOf(time.Now())})
	named := chain
	for _, b := range blocks {
		core.Step(consensus.Block{Block: b})
		named = b.ID(chain)
	}
	digest, ok := core.Digest([]types.Hash{named})
	if !ok {
		h.t.Fatal("a block of no past")
	}
	return digest
}

// push is the message that pushes a block.
func push(b *types.Block, payload []byte) []byte {
	e := types.NewEncoder(nil)
	e.Bytes(b.Encode())
	e.Bytes(payload)
	return e.Data()
}

// randomHash names what nobody has.
func randomHash() (h types.Hash) {
	rand.Read(h[:])
	return h
}

// top is the height of the first honest peer.
func (h *hostile) top() uint64 { return h.peers[0].Status().Height }

// What a peer may do to others: each is refused, charged where the sender knew better, bounded, and
// counted; the others go on, and nobody of them is blamed.
func TestHostile(t *testing.T) {
	banned := func(s gossip.Stats) bool { return s.Bans == 1 }
	rows := []struct {
		name   string
		attack func(h *hostile)
		seen   func(s gossip.Stats) bool // at the peer that was attacked
		says   string                    // the log
	}{
		{"garbage", func(h *hostile) {
			h.send(frameBlock, []byte("what is this"))
			h.send(frameVotes, []byte{0xff})
		}, func(s gossip.Stats) bool { return banned(s) && s.Garbage == 2 }, "garbage"},
		{"oversize", func(h *hostile) {
			h.send(frameVotes, make([]byte, gossip.MessageLimits[frameVotes]+1))
		}, func(s gossip.Stats) bool { return banned(s) && s.Garbage == 1 }, "breach of framing"},
		{"unknown kind", func(h *hostile) { h.send(99, nil) }, func(s gossip.Stats) bool { return banned(s) && s.Garbage == 1 }, "breach of framing"},
		{"wrong signature", func(h *hostile) {
			b := h.block(func(*types.Block) {})
			b.Signature[0] ^= 1
			h.send(frameBlock, push(b, nil))
		}, func(s gossip.Stats) bool { return banned(s) && s.Undelivered == 1 }, "signature"},
		{"invalid transaction", func(h *hostile) {
			tx := h.pay(1)
			tx[len(tx)-1] ^= 1
			payload := types.EncodePayload([][]byte{tx})
			b := h.block(func(b *types.Block) {
				b.PayloadBytes, b.Payload = uint32(len(payload)), tlog.Root([]types.Hash{tlog.LeafHash(tx)})
			})
			h.send(frameBlock, push(b, payload))
		}, func(s gossip.Stats) bool { return banned(s) && s.Undelivered == 1 }, "transaction 0"},
		{"payload unlike its root", func(h *hostile) {
			payload := types.EncodePayload([][]byte{h.pay(1)})
			b := h.block(func(b *types.Block) { b.PayloadBytes, b.Payload = uint32(len(payload)), randomHash() })
			h.send(frameBlock, push(b, payload))
		}, func(s gossip.Stats) bool { return banned(s) && s.Undelivered == 1 }, "payload has root"},
		{"VRF proof where none belongs", func(h *hostile) {
			b := h.block(func(b *types.Block) { b.VRF = sig.Prove(h.key, []byte("anything")) })
			h.send(frameBlock, push(b, nil))
		}, banned, "wrong VRF proof"},
		{"wrong height", func(h *hostile) {
			b := h.block(func(b *types.Block) { b.Height = 2 })
			h.send(frameBlock, push(b, nil))
		}, banned, "wrong height"},
		{"wrong previous", func(h *hostile) {
			first := h.block(func(*types.Block) {})
			h.send(frameBlock, push(first, nil))
			b := h.block(func(b *types.Block) {
				b.Height, b.Parent, b.Time = 2, first.ID(h.genesis.ChainID()), h.genesis.Time+h.genesis.Params.WaitQuorum
			})
			h.send(frameBlock, push(b, nil))
		}, banned, "wrong previous block"},
		{"from the future", func(h *hostile) {
			b := h.block(func(b *types.Block) { b.Time = types.MillisOf(time.Now().Add(3 * time.Hour)) })
			h.send(frameBlock, push(b, nil))
		}, func(s gossip.Stats) bool { return s.Bans == 0 }, "from the future"}, // its clock may be off
		{"far above", func(h *hostile) {
			b := h.block(func(b *types.Block) { b.Height, b.Parent = h.top()+1000, randomHash() })
			h.send(frameBlock, push(b, nil))
		}, func(s gossip.Stats) bool { return s.Ahead == 1 && s.Bans == 0 }, ""},
		{"flood of unknown parents", func(h *hostile) {
			height := h.top() + 10
			for range 300 {
				b := h.block(func(b *types.Block) { b.Height, b.Parent = height, randomHash() })
				h.send(frameBlock, push(b, nil))
			}
		}, func(s gossip.Stats) bool { return banned(s) && s.NoParent > 0 && s.Wanted <= 1024 }, "lacks what it names"},
		{"flood of statuses", func(h *hostile) {
			e := types.NewEncoder(nil)
			e.U64(1)
			e.U64(1)
			e.Time(types.MillisOf(time.Now()))
			e.U64(0)
			for range 300 {
				h.send(frameStatus, e.Data())
			}
		}, func(s gossip.Stats) bool { return banned(s) && s.OverRate >= 100 }, "over rate"},
		{"height that it has not", func(h *hostile) {
			e := types.NewEncoder(nil)
			e.U64(1_000_000)
			e.U64(1)
			e.Time(types.MillisOf(time.Now()))
			e.U64(0)
			h.send(frameStatus, e.Data())
		}, func(s gossip.Stats) bool { return s.Charged > 0 && !s.Syncing }, "caught up"},
	}
	if testing.Short() {
		rows = []struct {
			name   string
			attack func(h *hostile)
			seen   func(s gossip.Stats) bool
			says   string
		}{rows[0], rows[4], rows[8]}
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			h := newHostile(t)
			row.attack(h)
			eventually(t, "the peer has seen to it", func() bool {
				return row.seen(h.peers[0].gossip.Stats()) && h.log.has(row.says)
			})
			h.settle(1, 1)
			h.settle(2, 0)
			h.innocent()
			if t.Failed() {
				t.Logf("%+v\n%s", h.peers[0].gossip.Stats(), h.log.text.String())
			}
		})
	}
}

// innocent checks that no honest peer was charged with anything, by any.
func (h *hostile) innocent() {
	h.t.Helper()
	for i, p := range h.peers[:3] {
		for _, s := range p.gossip.Peers() {
			if s.Key != h.key.Public() && (s.Score > 0 || s.Banned > 0 || !s.Connected) {
				h.t.Errorf("peer %d holds against an honest one: %+v", i, s)
			}
		}
	}
}

// A peer that signs two blocks of one height, and tells each half another: all learn of it, all log
// it, nobody names what it makes after that, and payments go on.
func TestEquivocation(t *testing.T) {
	h := newHostile(t)
	id := h.genesis.ChainID()
	a := h.block(func(*types.Block) {})
	b := h.block(func(b *types.Block) { b.Time++ })
	h.sendTo(0, frameBlock, push(a, nil))
	h.sendTo(1, frameBlock, push(b, nil))
	h.sendTo(2, frameBlock, push(b, nil))
	h.settle(1, 1) // blocks that name them
	defer func() {
		if t.Failed() {
			t.Logf("%+v %+v\n%s", a.ID(id), b.ID(id), h.log)
		}
	}()
	eventually(t, "all know of the fork", func() bool {
		return strings.Count(h.log.String(), "a peer has forked its line") >= 3
	})
	next := h.block(func(x *types.Block) {
		x.Height, x.Parent, x.Previous, x.Time = 2, a.ID(id), a.ID(id), h.genesis.Time+h.genesis.Params.WaitQuorum
		x.Past = h.past(a)
	})
	for i := range 3 {
		h.sendTo(i, frameBlock, push(next, nil))
	}
	h.settle(2, 2)
	h.settle(4, 0)
	for i, p := range h.peers[:3] {
		blocks, err := p.chain.Blocks(1, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range blocks {
			x, err := types.DecodeBlock(raw.Header)
			if err != nil {
				t.Fatal(err)
			}
			if x.Parent == next.ID(id) || slices.Contains(x.Merges, next.ID(id)) {
				t.Errorf("peer %d has a block of height %d by %s that names the forker's next", i, x.Height, x.Author.Short())
			}
		}
	}
	for _, line := range strings.Split(h.log.String(), "\n") {
		if strings.Contains(line, "forked its line") && !strings.Contains(line, fmt.Sprint("peer=", h.key.Public())) {
			t.Errorf("somebody else is said to have forked: %s", line)
		}
	}
	h.innocent()
}

// String is what was logged so far.
func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}
