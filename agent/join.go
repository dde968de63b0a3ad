package agent

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/chain"
	"charter/proof"
	"charter/types"
)

// Founder is what a chain has for peers that join (spec/network.md, "Joining").
type Founder interface {
	// Offer is what consensus needs at the certified checkpoint of a height, or the newest for chain.Newest.
	// Errors: NotFound, NotYet.
	Offer(height uint64) (*chain.Offer, error)
	// Chunk is a part of the state of an offered checkpoint, an encoded proof.Chunk.
	// Errors: NotFound, TooLarge.
	Chunk(height uint64, ref proof.ChunkRef) ([]byte, error)
	// Blocks are those of height from and above, ascending, in whole heights, up to about limit bytes.
	// Errors: NotFound.
	Blocks(from uint64, limit int) ([]types.RawBlock, error)
}

// joinBlocks is about how many bytes of blocks one answer has.
const joinBlocks = 1 << 20

// JoinHandler is what to mount, and at which path, to serve peers that join.
func (a *Agent) JoinHandler(f Founder) (path string, handler http.Handler) {
	path, calls := charterv1connect.NewJoinHandler(joining{a, f},
		connect.WithReadMaxBytes(maxRequest), connect.WithInterceptors(calling{a}), connect.WithCodec(jsonCodec{}),
		connect.WithCompressMinBytes(1<<30)) // hashes and keys
	return path, a.door(calls)
}

// joining has the methods of the schema.
type joining struct {
	a *Agent
	f Founder
}

func (j joining) Offer(_ context.Context, r *connect.Request[v1.OfferRequest]) (*connect.Response[v1.OfferResponse], error) {
	height := uint64(chain.Newest)
	if r.Msg.Height != nil {
		height = *r.Msg.Height
	}
	o, err := j.f.Offer(height)
	if err != nil {
		return nil, err
	}
	out := &v1.OfferResponse{Checkpoint: o.At.Checkpoint.Encode(), Footing: o.Footing}
	for _, s := range o.Shares {
		x := &v1.OfferedShares{Snapshot: s.Snapshot.Encode(), Proof: s.Proof}
		if s.By != nil {
			x.By = s.By.Encode()
		}
		out.Shares = append(out.Shares, x)
	}
	return connect.NewResponse(out), nil
}

func (j joining) Chunk(_ context.Context, r *connect.Request[v1.ChunkRequest]) (*connect.Response[v1.ChunkResponse], error) {
	ref, err := proof.DecodeChunkRef(r.Msg.Ref)
	if err != nil {
		return nil, refuse(BadRequest, "ref: %v", err)
	}
	chunk, err := j.f.Chunk(r.Msg.Height, ref)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.ChunkResponse{Chunk: chunk}), nil
}

func (j joining) Blocks(_ context.Context, r *connect.Request[v1.BlocksRequest]) (*connect.Response[v1.BlocksResponse], error) {
	if r.Msg.FromHeight > types.MaxHeight {
		return nil, refuse(BadRequest, "from_height: %d is above the greatest there can be", r.Msg.FromHeight)
	}
	blocks, err := j.f.Blocks(r.Msg.FromHeight, joinBlocks)
	if err != nil {
		return nil, err
	}
	out := new(v1.BlocksResponse)
	size := 0
	for _, b := range blocks {
		size += b.Size()
		out.Blocks = append(out.Blocks, &v1.RawBlock{Header: b.Header, Payload: b.Payload})
	}
	if size >= joinBlocks {
		last, err := types.DecodeBlock(blocks[len(blocks)-1].Header)
		if err != nil {
			return nil, err
		}
		out.Next = last.Height + 1
	}
	return connect.NewResponse(out), nil
}
