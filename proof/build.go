package proof

import (
	"cmp"
	"fmt"
	"slices"

	"charter/types"
)

// Certify makes a certificate for a checkpoint that these peers signed: the fewest of the
// snapshot's members, greatest shares first, that hold more than two thirds. Nil if all of them
// do not. The signatures are taken to be verified.
func Certify(chain types.Hash, snap *types.Snapshot, votes map[types.Key]types.Signature) *types.Certificate {
	signed := make([]int, 0, len(votes))
	for i, m := range snap.Members {
		if _, ok := votes[m.Peer]; ok {
			signed = append(signed, i)
		}
	}
	slices.SortStableFunc(signed, func(a, b int) int { return cmp.Compare(snap.Members[b].Shares, snap.Members[a].Shares) })
	var sum types.Amount
	for n, i := range signed {
		if sum += snap.Members[i].Shares; !twoThirds(sum, snap.Total()) {
			continue
		}
		chosen := signed[:n+1]
		slices.Sort(chosen)
		c := &types.Certificate{Snapshot: snap.Root(chain), Votes: make([]types.MemberVote, 0, len(chosen))}
		for _, i := range chosen {
			c.Votes = append(c.Votes, types.MemberVote{Index: uint16(i), Signature: votes[snap.Members[i].Peer]})
		}
		return c
	}
	return nil
}

// Source is what a prover has kept for Build.
type Source interface {
	// Signed is the checkpoint at the least height from the given one up for which there are
	// votes of two thirds, with these; nil if there is none.
	Signed(from uint64) (*types.Checkpoint, map[types.Key]types.Signature, error)
	// Snapshot is the snapshot with this root.
	Snapshot(root types.Hash) (*types.Snapshot, error)
}

// Build makes the steps from what is trusted to the first signed checkpoint from height target
// up; none if t is there. It looks backward from there: what a snapshot that t believes has
// signed is reached at once, else by way of the checkpoint that commits to the oldest snapshot
// that still signed it. So it takes as few steps as the shares allow, or nearly.
// Errors are those of the source, or say what it lacks.
func (t Trusted) Build(target uint64, src Source) ([]Step, error) {
	if t.Height() >= target {
		return nil, nil
	}
	pending, err := t.pending(src)
	if err != nil {
		return nil, err
	}
	end, err := signed(src, target)
	if err != nil {
		return nil, err
	}
	if end == nil {
		return nil, fmt.Errorf("no signed checkpoint at height %d or above", target)
	}
	var steps []Step
	for {
		if s := t.atOnce(end, pending); s != nil {
			steps = append(steps, *s)
			slices.Reverse(steps)
			return steps, nil
		}
		s, by, err := t.byWay(end, src)
		if err != nil {
			return nil, err
		}
		steps, end = append(steps, *s), by
	}
}

// stop is a checkpoint on the way, with who signed it.
type stop struct {
	checkpoint *types.Checkpoint
	votes      map[types.Key]types.Signature
}

func signed(src Source, from uint64) (*stop, error) {
	cp, votes, err := src.Signed(from)
	if err != nil || cp == nil {
		return nil, err
	}
	return &stop{cp, votes}, nil
}

// pending is the snapshot that t's checkpoint commits to, if t does not have it yet.
func (t *Trusted) pending(src Source) (*types.Snapshot, error) {
	if t.Checkpoint == nil || t.find(t.Checkpoint.SnapshotRoot) != nil {
		return nil, nil
	}
	return src.Snapshot(t.Checkpoint.SnapshotRoot)
}

// atOnce is the step from t to a stop by the newest snapshot that can certify it, or nil.
func (t *Trusted) atOnce(to *stop, pending *types.Snapshot) *Step {
	newest := t.Applicable(to.checkpoint.Height)
	if pending != nil && pending.Height <= newest {
		if c := Certify(t.Chain, pending, to.votes); c != nil {
			return &Step{pending, *to.checkpoint, *c}
		}
	}
	for i := len(t.Snapshots) - 1; i >= 0 && t.Snapshots[i].Height >= t.Oldest; i-- {
		if t.Snapshots[i].Height > newest {
			continue
		}
		if c := Certify(t.Chain, &t.Snapshots[i], to.votes); c != nil {
			return &Step{nil, *to.checkpoint, *c}
		}
	}
	return nil
}

// byWay is the step to a stop from an earlier one, behind t, that commits to a snapshot which can
// certify it: from the newest such back as long as there is one each period.
func (t *Trusted) byWay(to *stop, src Source) (step *Step, by *stop, err error) {
	for h := t.Applicable(to.checkpoint.Height); h > t.committed(t.Height()); h -= t.Period {
		mid, err := signed(src, h)
		if err != nil {
			return nil, nil, err
		}
		var c *types.Certificate
		var snap *types.Snapshot
		if mid != nil && mid.checkpoint.Height < min(h+t.Period, to.checkpoint.Height) {
			if snap, err = src.Snapshot(mid.checkpoint.SnapshotRoot); err != nil {
				return nil, nil, fmt.Errorf("snapshot of height %d: %w", h, err)
			}
			c = Certify(t.Chain, snap, to.votes)
		}
		if c == nil && step != nil {
			break
		}
		if c != nil {
			step, by = &Step{snap, *to.checkpoint, *c}, mid
		}
	}
	if step == nil {
		return nil, nil, fmt.Errorf("no way from height %d to %d: certificates or snapshots in between are missing", t.Height(), to.checkpoint.Height)
	}
	return step, by, nil
}
