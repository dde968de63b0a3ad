package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"charter/store"
	"charter/types"
)

// audit looks into the stores of a localnet whose peers have stopped, for what must hold whatever
// happened to them. It asks no peer and uses none of their code but to read.
type audit struct {
	net    *localnet
	acked  []types.Hash // payments that some peer has acknowledged
	found  auditSummary
	faults []error
}

// auditSummary is what an audit has looked at.
type auditSummary struct {
	Height   uint64 `json:"height"` // that all have come to
	Blocks   int    `json:"blocks"` // different ones, of all authors
	Votes    int    `json:"votes"`
	Payments int    `json:"payments"` // acknowledged, and applied at all peers
}

func (s auditSummary) String() string {
	return fmt.Sprintf("one past up to height %d, with %d acknowledged payments; %d blocks and %d votes, each by its author once", s.Height, s.Payments, s.Blocks, s.Votes)
}

// audit checks all stores; faults are what does not hold.
func (n *localnet) audit(acked []types.Hash) (found auditSummary, faults []error) {
	a := &audit{net: n, acked: acked}
	var stores []*store.Store
	for _, p := range n.peers {
		s, err := store.Open(filepath.Join(p.dir, "store"), store.Options{Chain: n.genesis.ChainID(), Peer: p.key, Cache: 4 << 20})
		if err != nil {
			return found, []error{fmt.Errorf("%s: open its store: %w", p.name, err)}
		}
		defer s.Close()
		stores = append(stores, s)
	}
	for _, check := range []func([]*store.Store) error{a.lines, a.past, a.money} {
		if err := check(stores); err != nil {
			a.faults = append(a.faults, err)
		}
	}
	return a.found, a.faults
}

func (a *audit) faultf(format string, args ...any) {
	a.faults = append(a.faults, fmt.Errorf(format, args...))
}

// lines checks that over all stores no peer has signed two blocks of one height, or two votes.
func (a *audit) lines(stores []*store.Store) error {
	type place struct {
		author types.Key
		height uint64
	}
	blocks, votes := make(map[place]types.Hash), make(map[place]types.Hash)
	once := func(what string, seen map[place]types.Hash, at place, id types.Hash) {
		if first, ok := seen[at]; ok && first != id {
			a.faultf("%s has signed two %s of height %d: %s and %s", at.author.Short(), what, at.height, first, id)
		}
		seen[at] = id
	}
	id := a.net.genesis.ChainID()
	for i, s := range stores {
		for b, err := range s.Blocks(0, types.MaxHeight) {
			if err != nil {
				return err
			}
			h, err := types.DecodeBlock(b.Header)
			if err != nil {
				return err
			}
			once("blocks", blocks, place{h.Author, h.Height}, h.ID(id))
			if v := h.Checkpoint; !v.Checkpoint.IsZero() {
				once("votes", votes, place{h.Author, v.Height}, v.Checkpoint)
			}
		}
		height, _ := s.View().Height()
		for h := range height + 1 {
			if cp, ok, err := s.Vote(h); err != nil {
				return err
			} else if ok {
				once("votes", votes, place{a.net.peers[i].key, h}, cp)
			}
		}
	}
	a.found.Blocks, a.found.Votes = len(blocks), len(votes)
	return nil
}

// past checks that all stores have one past: anchors, checkpoints, and the fate of what was
// acknowledged.
func (a *audit) past(stores []*store.Store) error {
	low := uint64(types.MaxHeight)
	for _, s := range stores {
		h, _ := s.View().Height()
		low = min(low, h)
	}
	first := stores[0].View()
	for i, s := range stores[1:] {
		v, name := s.View(), a.net.peers[i+1].name
		for h := range low + 1 {
			anchor, _, err1 := first.Decided(h)
			other, ok, err2 := v.Decided(h)
			if err := errors.Join(err1, err2); err != nil || !ok || anchor != other {
				return fmt.Errorf("height %d: anchor %s at peer-1 and %s at %s: %v", h, anchor.Short(), other.Short(), name, err)
			}
			if h%a.net.genesis.Params.CheckpointEvery != 0 {
				continue
			}
			mine, err1 := first.Checkpoint(h)
			theirs, err2 := v.Checkpoint(h)
			if err := errors.Join(err1, err2); err != nil || mine == nil || theirs == nil || mine.ID() != theirs.ID() {
				return fmt.Errorf("height %d: checkpoints of peer-1 and %s differ: %+v, %+v, %v", h, name, mine, theirs, err)
			}
		}
	}
	for _, id := range a.acked {
		if a.applied(id, stores) {
			a.found.Payments++
		}
	}
	a.found.Height = low
	return nil
}

// applied checks that a payment was applied, and at all peers alike.
func (a *audit) applied(id types.Hash, stores []*store.Store) bool {
	var first []byte
	for i, s := range stores {
		e, err := s.View().Event(id)
		if err != nil || e == nil || e.Kind != types.Applied {
			a.faultf("payment %s was acknowledged, and %s has %+v of it: %v", id.Short(), a.net.peers[i].name, e, err)
			return false
		}
		if raw := e.Encode(); i == 0 {
			first = raw
		} else if !bytes.Equal(first, raw) {
			a.faultf("payment %s: other events at peer-1 and %s", id.Short(), a.net.peers[i].name)
			return false
		}
	}
	return true
}

// money adds up each store's state by itself.
func (a *audit) money(stores []*store.Store) error {
	supply, err := a.net.genesis.Supply()
	if err != nil {
		return err
	}
	for i, s := range stores {
		v := s.View()
		var unspent, hosted types.Amount
		for position := uint64(0); ; position++ {
			o, err := v.Output(position)
			if err != nil {
				return err
			}
			if o == nil {
				break
			}
			if o.SpentHeight == 0 {
				unspent += o.Output.Value
			}
		}
		peers, err := v.Peers()
		if err != nil {
			return err
		}
		for _, p := range peers {
			hosted += p.Shares
		}
		st := v.State()
		if unspent+st.Fees != supply || unspent != st.Unspent || hosted != unspent {
			a.faultf("%s: outputs of %s, of %s hosted, and fees of %s, of a supply of %s", a.net.peers[i].name, unspent, hosted, st.Fees, supply)
		}
	}
	return nil
}

// complaints are the lines of a peer's log that say that something is wrong with itself or another.
func (p *localPeer) complaints() (lines []string, err error) {
	data, err := os.ReadFile(filepath.Join(p.dir, "log"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		for _, bad := range []string{"level=ERROR", "must not sign", "forked", "refused a block", "peer dropped", "two checkpoints", "another checkpoint", "panic", "fatal error", "DATA RACE"} {
			if strings.Contains(line, bad) {
				lines = append(lines, strings.TrimSpace(line))
				break
			}
		}
	}
	return lines, nil
}
