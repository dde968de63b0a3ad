package ledger

import (
	"fmt"

	"charter/sig"
	"charter/types"
)

// CheckEvidence checks all that evidence shows by itself but for its signatures, which it gives
// to be verified (spec/ledger.md, "Evidence"). A fork and two votes are then proven; a false vote and a
// false sample are once Convicts says so. Errors: *Invalid of NoOffence.
func CheckEvidence(chain types.Hash, params *types.Params, r *types.Evidence) ([]sig.Check, error) {
	none := func(format string, args ...any) error { return invalid(NoOffence, r.Offence.String(), format, args...) }
	checks := make([]sig.Check, 0, 2)
	for _, b := range r.Blocks {
		checks = append(checks, sig.Check{Key: b.Author, Msg: b.ID(chain), Sig: b.Signature})
	}
	for _, v := range r.Votes {
		checks = append(checks, sig.Check{Key: v.Peer, Msg: types.VoteDigest(chain, v.Height, v.Checkpoint), Sig: v.Signature})
	}
	switch r.Offence {
	case types.Fork:
		a, b := r.Blocks[0], r.Blocks[1]
		if a.Author != b.Author || a.Previous != b.Previous || checks[0].Msg == checks[1].Msg {
			return nil, none("blocks %s of %s behind %s, and %s of %s behind %s",
				checks[0].Msg.Short(), a.Author.Short(), a.Previous.Short(), checks[1].Msg.Short(), b.Author.Short(), b.Previous.Short())
		}
	case types.TwoVotes:
		a, b := r.Votes[0], r.Votes[1]
		if a.Peer != b.Peer || a.Height != b.Height || a.Checkpoint == b.Checkpoint {
			return nil, none("%s for %s at height %d, and %s for %s at height %d",
				a.Peer.Short(), a.Checkpoint.Short(), a.Height, b.Peer.Short(), b.Checkpoint.Short(), b.Height)
		}
	case types.FalseSample:
		if b := r.Blocks[0]; !params.SampleDue(b.Height) || b.Sample.IsZero() {
			return nil, none("no sample is due at height %d, or the block has none", b.Height)
		}
	}
	return checks, nil
}

// VerifyEvidence is CheckEvidence with the signatures. Errors: *Invalid of NoOffence or BadSignature.
func VerifyEvidence(chain types.Hash, params *types.Params, r *types.Evidence) error {
	checks, err := CheckEvidence(chain, params, r)
	if err != nil {
		return err
	}
	if bad, err := sig.VerifyAll(checks); err != nil {
		return invalid(BadSignature, r.Offence.String(), "signature %d: %v", bad, err)
	}
	return nil
}

// EvidenceBase is the height of the chain's checkpoint that decides whether evidence holds, and
// whether any is needed.
func EvidenceBase(r *types.Evidence) (height uint64, needed bool) {
	switch r.Offence {
	case types.FalseVote:
		return r.Votes[0].Height, true
	case types.FalseSample:
		return r.Blocks[0].Checkpoint.Height, true
	}
	return 0, false
}

// Convicts reports whether evidence that passes VerifyEvidence proves its offence on a chain that has
// this checkpoint at its EvidenceBase (nil: none at that height), and these outputs. Errors are those of output.
func Convicts(r *types.Evidence, base *types.Checkpoint, output func(position uint64) (*types.OutputState, error)) (bool, error) {
	switch r.Offence {
	case types.FalseVote:
		return base == nil || base.ID() != r.Votes[0].Checkpoint, nil
	case types.FalseSample:
		if base == nil {
			return false, nil
		}
		b := r.Blocks[0]
		want, err := sampleOn(base, b, output)
		return err == nil && !want.IsZero() && want != b.Sample, err
	}
	return true, nil
}

// Sample is the sample that a block should carry, by a state that has the checkpoint which the block votes
// for; zero if it has not, so that nothing can be said. Errors are those of v.
func Sample(v View, b *types.Block) (types.Hash, error) {
	base, err := v.CheckpointAt(b.Checkpoint.Height)
	if err != nil || base == nil {
		return types.Hash{}, wrap(err, "read the checkpoint of height %d", b.Checkpoint.Height)
	}
	return sampleOn(base, b, v.Output)
}

// sampleOn is the sample of a block that draws on a checkpoint, zero if the block votes for another one.
func sampleOn(base *types.Checkpoint, b *types.Block, output func(uint64) (*types.OutputState, error)) (types.Hash, error) {
	id := base.ID()
	if vote := b.Checkpoint; !vote.Checkpoint.IsZero() && vote.Checkpoint != id || base.Outputs == 0 {
		return types.Hash{}, nil
	}
	at := types.SamplePosition(id, b.Height, b.Author, base.Outputs)
	state, err := output(at)
	if err != nil {
		return types.Hash{}, err
	}
	if state == nil {
		return types.Hash{}, fmt.Errorf("output %d is not there, and the checkpoint of height %d has %d", at, base.Height, base.Outputs)
	}
	return types.SampleOf(base.Chain, b.Author, b.Height, state), nil
}

// judgeEvidence is whether the state takes evidence. What it needs may be still to come: that is too early.
func (o *Overlay) judgeEvidence(r *types.Evidence) (types.Reason, error) {
	peer, err := o.Peer(r.Offender())
	switch {
	case err != nil:
		return 0, err
	case peer == nil:
		return types.UnknownPeer, nil
	case peer.Standing.Offended > 0 || r.Height() <= peer.Standing.Cleared:
		return types.SettledOffence, nil
	}
	height, needed := EvidenceBase(r)
	if !needed {
		return types.NoReason, nil
	}
	if height >= o.height {
		return types.TooEarly, nil
	}
	base, err := o.CheckpointAt(height)
	if err != nil {
		return 0, err
	}
	proven, err := Convicts(r, base, o.Output)
	if err != nil || proven {
		return types.NoReason, err
	}
	return types.Unproven, nil
}

// judgeVote is whether the state takes a reinstatement. An output that is spent meanwhile, or not under
// the lock that signed, counts nothing.
func (o *Overlay) judgeVote(r *types.Reinstate) (types.Reason, error) {
	peer, err := o.Peer(r.Peer)
	switch {
	case err != nil:
		return 0, err
	case peer == nil:
		return types.UnknownPeer, nil
	case peer.Standing.Offended == 0 || peer.Standing.Offences != r.Offences:
		return types.NotOffended, nil
	}
	var voting types.Amount
	for _, b := range r.Ballots {
		for _, held := range b.Outputs {
			state, err := o.Output(held.Position)
			if err != nil {
				return 0, err
			}
			if state != nil && state.SpentHeight == 0 && state.Output.Lock == held.Lock {
				voting = must(voting.Add(state.Output.Value)) // each position once
			}
		}
	}
	if voting <= o.supply-voting {
		return types.TooFewShares, nil
	}
	return types.NoReason, nil
}

// mark lets evidence take effect: the peer has no weight from the next snapshot on.
func (o *Overlay) mark(offender types.Key) error {
	peer, err := o.change(offender)
	if err == nil {
		peer.Standing.Offences++
		peer.Standing.Offended = o.height
	}
	return err
}

// forgive lets a reinstatement take effect.
func (o *Overlay) forgive(offender types.Key) error {
	peer, err := o.change(offender)
	if err == nil {
		peer.Standing.Offended, peer.Standing.Cleared = 0, o.height
	}
	return err
}
