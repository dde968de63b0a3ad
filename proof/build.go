package proof

import (
	"cmp"
	"fmt"
	"slices"

	"charter/tlog"
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
	// Certified is the checkpoint at the least height from the given one up that is certified, with
	// a certificate by the snapshot of its run; nil if there is none. The more votes the
	// certificate has, the further Build can skip.
	Certified(from uint64) (*types.Checkpoint, *types.Certificate, error)
	// Snapshot is the snapshot with this root.
	Snapshot(root types.Hash) (*types.Snapshot, error)
	// Past is the proof that the older checkpoint is in the newer one's history: what
	// tlog.ProveInclusion has for leaf older.HistorySize of newer.HistorySize.
	Past(older, newer *types.Checkpoint) (tlog.Path, error)
}

// Build makes the steps from what is trusted to the first certified checkpoint from height target
// up; none if t is there. It looks backward from there: what a snapshot that t believes has
// signed is reached at once, else by way of the checkpoint that commits to the oldest snapshot
// that still signed it. So it takes as few steps as the shares allow, or nearly. No step names a
// newer snapshot than that of the checkpoint's run: none can make a later one stale.
// Errors are those of the source, or say what it lacks.
func (t Trusted) Build(target uint64, src Source) ([]Step, error) {
	if t.Height() >= target {
		return nil, nil
	}
	pending, err := t.pending(src)
	if err != nil {
		return nil, err
	}
	end, err := certified(src, target)
	if err != nil {
		return nil, err
	}
	if end == nil {
		return nil, fmt.Errorf("no certified checkpoint at height %d or above", target)
	}
	var steps []Step
	for {
		var by *stop // where the step starts: nil, from t
		s := t.atOnce(end, pending)
		if s == nil && end.run <= t.committed(t.Height()) {
			s, err = t.fromPast(end, src)
		} else if s == nil {
			s, by, err = t.byWay(end, src)
		}
		if err != nil {
			return nil, err
		}
		if steps = append(steps, *s); by == nil {
			slices.Reverse(steps)
			return steps, nil
		}
		end = by
	}
}

// stop is a checkpoint on the way, with who signed it.
type stop struct {
	checkpoint *types.Checkpoint
	votes      map[types.Key]types.Signature
	run        uint64 // height of the snapshot of its run
}

func certified(src Source, from uint64) (*stop, error) {
	cp, cert, err := src.Certified(from)
	if err != nil || cp == nil {
		return nil, err
	}
	snap, err := src.Snapshot(cert.Snapshot)
	if err != nil {
		return nil, fmt.Errorf("snapshot of the run of height %d: %w", cp.Height, err)
	}
	s := &stop{cp, make(map[types.Key]types.Signature, len(cert.Votes)), snap.Height}
	for _, v := range cert.Votes {
		s.votes[snap.Members[v.Index].Peer] = v.Signature
	}
	return s, nil
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
	if pending != nil && pending.Height <= to.run {
		if c := Certify(t.Chain, pending, to.votes); c != nil {
			return &Step{Snapshot: pending, Checkpoint: *to.checkpoint, Certificate: *c}
		}
	}
	for i := len(t.Snapshots) - 1; i >= 0 && t.Snapshots[i].Height >= t.Oldest; i-- {
		if t.Snapshots[i].Height > to.run {
			continue
		}
		if c := Certify(t.Chain, &t.Snapshots[i], to.votes); c != nil {
			return &Step{Checkpoint: *to.checkpoint, Certificate: *c}
		}
	}
	return nil
}

// fromPast is the step from t to a stop whose run has a snapshot that t skipped: a checkpoint in
// t's history committed to it.
func (t *Trusted) fromPast(to *stop, src Source) (*Step, error) {
	mid, err := certified(src, to.run)
	if err != nil {
		return nil, err
	}
	if t.Checkpoint == nil || to.run < t.Oldest || mid == nil || mid.checkpoint.Height >= min(to.run+t.Period, t.Height()) {
		return nil, fmt.Errorf("no way from height %d to %d: nothing certified shows the snapshot of height %d", t.Height(), to.checkpoint.Height, to.run)
	}
	snap, err := src.Snapshot(mid.checkpoint.SnapshotRoot)
	if err != nil {
		return nil, fmt.Errorf("snapshot of height %d: %w", to.run, err)
	}
	path, err := src.Past(mid.checkpoint, t.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("history from height %d to %d: %w", mid.checkpoint.Height, t.Height(), err)
	}
	c := Certify(t.Chain, snap, to.votes)
	if c == nil {
		return nil, fmt.Errorf("height %d is not signed by two thirds of its run", to.checkpoint.Height)
	}
	return &Step{Snapshot: snap, Past: &Past{*mid.checkpoint, path}, Checkpoint: *to.checkpoint, Certificate: *c}, nil
}

// byWay is the step to a stop from an earlier one, behind t, that commits to a snapshot which can
// certify it: from the newest such back as long as there is one each period.
func (t *Trusted) byWay(to *stop, src Source) (step *Step, by *stop, err error) {
	for h := to.run; h > t.committed(t.Height()); h -= t.Period {
		mid, err := certified(src, h)
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
			step, by = &Step{Snapshot: snap, Checkpoint: *to.checkpoint, Certificate: *c}, mid
		}
	}
	if step == nil {
		return nil, nil, fmt.Errorf("no way from height %d to %d: certificates or snapshots in between are missing", t.Height(), to.checkpoint.Height)
	}
	return step, by, nil
}
