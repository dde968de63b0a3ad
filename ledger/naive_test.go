package ledger

import (
	"encoding/binary"
	"math/big"
	"slices"

	"charter/types"
)

// The naive twin of standing: who was there, who was marked and who weighs what, each time from all that
// ever happened.

// marked is how often a peer was marked, at which height for the latest if that is not forgiven, and when
// it was forgiven last.
func (n *naive) marked(k types.Key) (times uint16, offended, cleared uint64) {
	for _, a := range n.acts {
		switch {
		case a.peer != k:
		case a.forgive:
			offended, cleared = 0, a.height
		default:
			times, offended = times+1, a.height
		}
	}
	return times, offended, cleared
}

// present is at how many heights a peer was there in the period that a snapshot ends, and how many saw it.
func (n *naive) present(k types.Key, number int) (heights uint32, witnesses uint16) {
	var last uint64
	seen := make(map[types.Key]bool)
	end := len(n.said)
	if number < len(n.taken) {
		end = n.taken[number].batches
	}
	before := n.taken[number-1]
	for _, batch := range n.said[before.batches:end] {
		for h := range n.nowAt + 2 {
			for _, w := range batch {
				if w.Height == h && h > before.Height+1 && slices.Contains(w.Named, k) {
					seen[w.Author] = true
					if h-1 > last {
						last, heights = h-1, heights+1
					}
				}
			}
		}
	}
	return heights, uint16(len(seen))
}

func (n *naive) standing(k types.Key) (s types.Standing) {
	s.Offences, s.Offended, s.Cleared = n.marked(k)
	newest := len(n.taken) - 1
	entered := slices.IndexFunc(n.story, func(v types.NameEvent) bool { return v.Record.Peer == k })
	if newest > 0 && entered < n.taken[newest].entries {
		s.Present, s.Witnesses = n.present(k, newest)
	}
	for _, t := range n.taken {
		if slices.Contains(t.absent, k) {
			s.Absent = t.Height
		}
		at, in := t.Find(k)
		switch {
		case !in:
			s.Weight, s.Since = 0, 0
		case s.Weight == 0:
			s.Since = t.Height
			fallthrough
		default:
			s.Weight = t.Members[at].Shares
		}
	}
	return s
}

// take takes a snapshot: of those with shares that are not marked, less the absent.
func (n *naive) take(height uint64) *types.Snapshot {
	var fit []types.PeerState
	for _, p := range n.peers() {
		if p.Shares > 0 && p.Standing.Offended == 0 {
			fit = append(fit, p)
		}
	}
	if fit == nil {
		for _, p := range n.peers() {
			if p.Shares > 0 {
				fit = append(fit, p)
			}
		}
	}
	now := taking{Snapshot: &types.Snapshot{Height: height}, batches: len(n.said), entries: len(n.story), inForce: n.shares}
	now.absent = n.absent(fit, height)
	for _, p := range fit {
		if !slices.Contains(now.absent, p.Peer) {
			now.Members = append(now.Members, types.Member{Peer: p.Peer, Shares: p.Shares})
		}
	}
	n.taken = append(n.taken, now)
	return now.Snapshot
}

// absent leaves out one after the other: of those left the one that was there least.
func (n *naive) absent(fit []types.PeerState, height uint64) (out []types.Key) {
	last := n.taken[len(n.taken)-1]
	var all, sum types.Amount
	there := make(map[types.Key]uint32)
	for _, p := range fit {
		all += p.Shares
		h, _ := n.present(p.Peer, len(n.taken))
		if p.Standing.Weight > 0 && p.Standing.Since <= last.inForce && 4*uint64(h) < height-last.Height {
			there[p.Peer] = h
		}
	}
	for len(there) > 0 {
		var least types.PeerState
		for _, p := range fit { // ascending by key
			if h, away := there[p.Peer]; away && (least.Shares == 0 || h < there[least.Peer]) {
				least = p
			}
		}
		if delete(there, least.Peer); 10*(sum+least.Shares) <= all {
			sum, out = sum+least.Shares, append(out, least.Peer)
		}
	}
	return out
}

// judge is what becomes of a record about a peer's standing, and what it does then.
func (n *naive) judge(record types.Record, height uint64) (types.Reason, *act) {
	switch r := record.(type) {
	case types.Evidence:
		who := r.Offender()
		_, offended, cleared := n.marked(who)
		switch {
		case !n.registered(who):
			return types.UnknownPeer, nil
		case offended > 0 || r.Height() <= cleared:
			return types.SettledOffence, nil
		}
		if reason := n.prove(r, height); reason != types.NoReason {
			return reason, nil
		}
		return types.NoReason, &act{who, false, height}
	case types.Reinstate:
		times, offended, _ := n.marked(r.Peer)
		switch {
		case !n.registered(r.Peer):
			return types.UnknownPeer, nil
		case offended == 0 || times != r.Offences:
			return types.NotOffended, nil
		}
		sum, supply := types.Amount(0), types.Amount(0)
		for _, o := range n.g.Outputs {
			supply += o.Value
		}
		for i, s := range n.outs {
			for _, b := range r.Ballots {
				if slices.Contains(b.Outputs, types.Held{Position: uint64(i), Lock: s.Output.Lock}) && s.SpentHeight == 0 {
					sum += s.Output.Value
				}
			}
		}
		if 2*sum <= supply {
			return types.TooFewShares, nil
		}
		return types.NoReason, &act{r.Peer, true, height}
	}
	return types.NoReason, nil
}

func (n *naive) point(height uint64) *types.Checkpoint {
	for _, cp := range n.points {
		if cp.Height == height {
			return cp
		}
	}
	return nil
}

// prove is whether the past bears out what evidence says.
func (n *naive) prove(r types.Evidence, height uint64) types.Reason {
	switch r.Offence {
	case types.FalseVote:
		cp := n.point(r.Votes[0].Height)
		if r.Votes[0].Height >= height {
			return types.TooEarly
		}
		if cp != nil && cp.ID() == r.Votes[0].Checkpoint {
			return types.Unproven
		}
	case types.FalseSample:
		b := r.Blocks[0]
		cp := n.point(b.Checkpoint.Height)
		if b.Checkpoint.Height >= height {
			return types.TooEarly
		}
		if cp == nil || b.Checkpoint.Checkpoint != (types.Hash{}) && b.Checkpoint.Checkpoint != cp.ID() || n.sample(cp, b) == b.Sample {
			return types.Unproven
		}
	}
	return types.NoReason
}

// sample is the definition: the first 64 bits of a hash, as a fraction of 2^64, of the outputs.
func (n *naive) sample(cp *types.Checkpoint, b *types.Block) types.Hash {
	id, height := cp.ID(), binary.BigEndian.AppendUint64(nil, b.Height)
	h := types.NewTag("charter/sample draw").Hash(id[:], height, b.Author[:])
	at := new(big.Int).SetBytes(h[:8])
	at.Mul(at, big.NewInt(int64(cp.Outputs))).Rsh(at, 64)
	s := n.outs[at.Int64()]
	s.SpentHeight = 0
	return types.NewTag("charter/sample").Hash(n.chain[:], b.Author[:], height, s.Encode())
}

// count notes what the last snapshot was an example of.
func (n *naive) count(reached map[string]int) {
	now, last := n.taken[len(n.taken)-1], n.taken[len(n.taken)-2]
	note := func(what string, is bool) {
		if is {
			reached[what]++
		}
	}
	note("absent", len(now.absent) > 0)
	for _, p := range n.peers() {
		_, before := last.Find(p.Peer)
		_, member := now.Find(p.Peer)
		s := &p.Standing
		low := 4*uint64(s.Present) < now.Height-last.Height
		note("away and too many", low && member && before && s.Since <= last.inForce)
		note("too new to be absent", low && member && before && s.Since > last.inForce)
		note("marked", s.Offended > 0 && p.Shares > 0 && !member)
		note("all marked", s.Offended > 0 && member)
		note("reinstated", s.Cleared > 0 && member)
		note("back", s.Absent > 0 && member)
	}
}

// witnesses are what drawn blocks say, of about this height.
func (d *drawn) witnesses(height uint64) (out []Witness) {
	for range d.r.IntN(5) {
		w := Witness{Author: d.keys[8+d.r.IntN(8)], Height: height - min(height, uint64(d.r.IntN(6))/3)}
		for i := range 8 {
			if key := d.keys[8+i]; key != w.Author && d.r.IntN(8) > 3*i {
				w.Named = append(w.Named, key)
			}
		}
		out = append(out, w)
	}
	return out
}

// evidence is of one of few peers, and seldom wrong.
func (d *drawn) evidence() types.Evidence {
	who := d.keys[8+d.r.IntN(5)]
	height := 1 + d.r.Uint64N(d.m.state.Height+3)
	vote := types.CheckpointVote{Height: height, Checkpoint: types.Hash{1}}
	if cp := d.m.points[height]; cp != nil && d.r.IntN(2) == 0 {
		vote.Checkpoint = cp.ID()
	}
	block := &types.Block{Height: height, Author: who, Sample: types.Hash{1}}
	switch d.r.IntN(4) {
	case 0:
		return types.ForkEvidence(block, &types.Block{Height: height, Author: who})
	case 1:
		return types.TwoVotesEvidence(types.SignedVote{Peer: who, CheckpointVote: vote},
			types.SignedVote{Peer: who, CheckpointVote: types.CheckpointVote{Height: height, Checkpoint: types.Hash{2}}})
	case 2:
		return types.Evidence{Offence: types.FalseVote, Votes: []types.SignedVote{{Peer: who, CheckpointVote: vote}}}
	}
	block.Height += d.r.Uint64N(9)
	if d.r.IntN(3) > 0 {
		block.Checkpoint = vote
	}
	if want, _ := Sample(d.m, block); d.r.IntN(2) == 0 {
		block.Sample = want
	}
	return types.Evidence{Offence: types.FalseSample, Blocks: []*types.Block{block}}
}

// reinstate is voted for with few outputs or all, some of them spent.
func (d *drawn) reinstate() types.Reinstate {
	who := d.keys[8+d.r.IntN(5)]
	r := types.Reinstate{Peer: who, Offences: uint16(d.r.IntN(2))}
	if p := d.m.peers[who]; p != nil {
		r.Offences += p.Standing.Offences
		if d.r.IntN(4) > 0 {
			r.Offences = p.Standing.Offences
		}
	}
	some := 1 + d.r.IntN(3)
	for i, s := range d.m.outputs {
		if d.r.IntN(some) > 0 {
			continue
		}
		held := types.Held{Position: uint64(i), Lock: s.Output.Lock}
		if d.r.IntN(20) == 0 {
			held.Lock = d.keys[0]
		}
		r.Ballots = append(r.Ballots, types.Ballot{Outputs: []types.Held{held}})
	}
	return r
}

// tally is the counts of the period that is going on, from all that was said in it.
func (n *naive) tally() *Tally {
	last := n.taken[len(n.taken)-1]
	t := &Tally{Taken: last.Height, InForce: n.shares, Begun: last.inForce}
	var order []types.Key
	place := func(k types.Key) int {
		if !slices.Contains(order, k) {
			order = append(order, k)
		}
		return slices.Index(order, k)
	}
	sets := make(map[types.Key]map[int]bool)
	tops := make(map[types.Key]uint64)
	for _, batch := range n.said[last.batches:] {
		for h := last.Height + 2; h < n.nowAt+2; h++ {
			for _, w := range batch {
				if w.Height != h {
					continue
				}
				by := place(w.Author)
				for _, k := range w.Named {
					place(k)
					if sets[k] == nil {
						sets[k] = make(map[int]bool)
					}
					sets[k][by] = true
					tops[k] = max(tops[k], h-1)
				}
			}
		}
	}
	for _, k := range order {
		p := Presence{Peer: k, Last: tops[k]}
		p.Present, _ = n.present(k, len(n.taken))
		for i := range order {
			if sets[k][i] {
				for len(p.Witnesses) <= i/64 {
					p.Witnesses = append(p.Witnesses, 0)
				}
				p.Witnesses[i/64] |= 1 << (i % 64)
			}
		}
		t.Peers = append(t.Peers, p)
	}
	return t
}
