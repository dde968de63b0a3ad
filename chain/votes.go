package chain

import (
	"sync"

	"charter/proof"
	"charter/types"
)

// votes collects votes for checkpoints until they make certificates. One vote counts per
// peer and height; a second, different one is logged as what it is: an offence.
type votes struct {
	chain *Chain

	mu       sync.Mutex
	mine     *types.CheckpointVote
	tallies  map[uint64]*tally // by height
	highest  uint64            // of own checkpoints
	newest   uint64            // certified height
	members  map[types.Key]bool
	offences map[types.Key]bool // already logged
}

// tally is the votes for the checkpoint of one height.
type tally struct {
	checkpoint *types.Checkpoint // the own one; nil until it is made
	id         types.Hash
	snapshot   *types.Snapshot
	by         map[types.Key]types.CheckpointVote
}

// How far from the own newest checkpoint votes are kept.
const (
	voteReach = 1024 // heights above: others may be ahead by what is in flight
	voteKeep  = 64   // heights below the newest certified one
)

func (v *votes) init(c *Chain) {
	v.chain, v.tallies = c, make(map[uint64]*tally)
	v.members, v.offences = make(map[types.Key]bool), make(map[types.Key]bool)
	for _, p := range c.cfg.Genesis.Peers {
		v.members[p.Peer] = true
	}
}

// restore tells where a restarted chain stands.
func (v *votes) restore(highest, certified uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.highest, v.newest = highest, certified
}

// own is the own newest vote, for the next block; nil for none.
func (v *votes) own() *types.CheckpointVote {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mine
}

func (v *votes) setOwn(vote types.CheckpointVote) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mine = &vote
}

// wants reports whether a vote is of any use, before its signature is verified.
func (v *votes) wants(s types.SignedVote) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.useful(s)
}

func (v *votes) useful(s types.SignedVote) bool {
	if !v.members[s.Peer] || s.Height <= v.newest || s.Height > v.highest+voteReach {
		return false
	}
	t := v.tallies[s.Height]
	if t == nil {
		return true
	}
	_, have := t.by[s.Peer]
	return !have || t.by[s.Peer].Checkpoint != s.Checkpoint
}

// add counts a vote whose signature is good.
func (v *votes) add(s types.SignedVote) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.useful(s) {
		return
	}
	t := v.at(s.Height)
	if first, have := t.by[s.Peer]; have {
		if !v.offences[s.Peer] {
			v.offences[s.Peer] = true
			v.chain.log.Warn("a peer voted for two checkpoints of one height", "peer", s.Peer, "height", s.Height,
				"checkpoint", first.Checkpoint, "other", s.Checkpoint)
			v.chain.accuse(types.TwoVotesEvidence(types.SignedVote{Peer: s.Peer, CheckpointVote: first}, s))
		}
		return
	}
	t.by[s.Peer] = s.CheckpointVote
	v.count(s.Height, t)
}

func (v *votes) at(height uint64) *tally {
	t := v.tallies[height]
	if t == nil {
		t = &tally{by: make(map[types.Key]types.CheckpointVote)}
		v.tallies[height] = t
	}
	return t
}

// made tells the own checkpoint of a height, and whose votes certify it.
func (v *votes) made(cp *types.Checkpoint, snap *types.Snapshot) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range snap.Members {
		v.members[m.Peer] = true
	}
	v.highest = max(v.highest, cp.Height)
	if cp.Height <= v.newest {
		return
	}
	t := v.at(cp.Height)
	t.checkpoint, t.id, t.snapshot = cp, cp.ID(), snap
	v.count(cp.Height, t)
	if len(v.tallies) > voteReach { // nothing was certified for long: the oldest are of no use
		for h := range v.tallies {
			if h+voteReach/2 < v.highest {
				delete(v.tallies, h)
			}
		}
	}
}

// count makes the certificate of a height once there are votes enough for the own checkpoint.
func (v *votes) count(height uint64, t *tally) {
	if t.checkpoint == nil {
		return
	}
	c := v.chain
	signed := make(map[types.Key]types.Signature, len(t.by))
	for peer, vote := range t.by {
		if vote.Checkpoint == t.id {
			signed[peer] = vote.Signature
			continue
		}
		if !v.offences[peer] {
			v.offences[peer] = true
			c.log.Warn("a peer voted for another checkpoint than ours", "peer", peer, "height", height, "checkpoint", vote.Checkpoint, "ours", t.id)
		}
	}
	cert := proof.Certify(c.id, t.snapshot, signed)
	if cert == nil {
		return
	}
	if err := c.cfg.Store.PutCertificate(height, cert); err != nil {
		c.log.Error("cannot keep a certificate", "height", height, "error", err)
		return
	}
	v.newest = height
	for peer, vote := range t.by {
		if vote.Checkpoint != t.id { // which is certified: it is not this peer that is wrong
			c.accuse(types.Evidence{Offence: types.FalseVote, Votes: []types.SignedVote{{Peer: peer, CheckpointVote: vote}}})
		}
	}
	for h := range v.tallies {
		if h <= height {
			delete(v.tallies, h)
		}
	}
	c.pins.certify(height)
	c.feed.certified(c, height)
}
