package client

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	v1 "charter/api/charter/v1"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// Peers are the registered peers, ascending by key, each proven; and as of when. The agent's list
// only says whom to ask for: one that differs from the peers tree, and does not come to
// agree with it, or leaves out a member of the newest snapshot known, is WrongPeers.
func (c *Client) Peers(ctx context.Context) (list []types.PeerState, at wallet.AsOf, err error) {
	err = c.through(ctx, func(v visit, ctx context.Context) (err error) {
		if at, err = v.advance(ctx); err != nil {
			return err
		}
		err = c.patiently(ctx, func() error { // the list may be newer than the newest checkpoint
			list, err = v.peers(ctx)
			return err
		})
		return err
	})
	return list, at, err
}

// peers compares the agent's list with the peers tree.
func (c visit) peers(ctx context.Context) ([]types.PeerState, error) {
	m, x, err := call(ctx, c.link, "Directory", c.link.rpc.Directory, &v1.DirectoryRequest{})
	if err != nil {
		return nil, err
	}
	said := make(map[types.Key]*v1.DirectoryEntry, len(m.Peers))
	for _, p := range m.Peers {
		var key types.Key
		if err := key.UnmarshalText([]byte(p.Key)); err != nil {
			return nil, c.link.lies(x, err)
		}
		said[key] = p
	}
	t := c.trust()
	for _, member := range t.Snapshots[len(t.Snapshots)-1].Members {
		if _, there := said[member.Peer]; !there {
			said[member.Peer] = nil
		}
	}
	var mu sync.Mutex
	var list []types.PeerState
	keys := make([]types.Key, 0, len(said))
	for key := range said {
		keys = append(keys, key)
	}
	err = each(ctx, keys, func(ctx context.Context, key types.Key) error {
		state, err := c.peer(ctx, key)
		if err != nil {
			return err
		}
		p := said[key]
		if (state == nil) != (p == nil) || state != nil && (p.Name != state.Name || p.Address != state.Address) {
			return c.link.blame(WrongPeers, x, nil, "the list of peers of the agent at %s is wrong about peer %s: the peers tree has another entry; use another agent", c.link.url, key)
		}
		if state != nil {
			mu.Lock()
			list = append(list, *state)
			mu.Unlock()
		}
		return nil
	})
	slices.SortFunc(list, func(a, b types.PeerState) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	return list, err
}

// peer is a peer's proven entry; nil if there is none.
func (c visit) peer(ctx context.Context, key types.Key) (*types.PeerState, error) {
	a, under, err := c.proven(ctx, &v1.ProofRequest{What: &v1.ProofRequest_Peer{Peer: key.String()}})
	if err != nil {
		return nil, owed(err)
	}
	p, ok := a.statement.(*proof.Peer)
	if !ok {
		return nil, c.link.lies(a.exchange, fmt.Errorf("asked for a peer, it gave %T", a.statement))
	}
	state, err := p.Verify(under.Checkpoint, key)
	if err != nil {
		return nil, c.link.lies(a.exchange, err)
	}
	return state, nil
}
