package proof

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"charter/sig"
	"charter/types"
)

// Trusted is what a verifier believes: a point of the chain, and the snapshots whose members'
// votes may certify what comes behind it (spec/proofs.md, "Trust"). It is a value:
// Advance gives a new one. Start with Genesis or Pin.
type Trusted struct {
	Chain  types.Hash
	Lag    uint64 // SnapshotLag of the chain's parameters, heights
	Period uint64 // SnapshotPeriod, heights

	// ID is the id of the newest checkpoint believed; zero: none but the genesis.
	ID types.Hash
	// Checkpoint is what has that id; nil at genesis, and for a pin until it is met.
	Checkpoint *types.Checkpoint
	// Oldest is the height of the snapshot that certified the newest checkpoint: an older
	// one certifies nothing any more.
	Oldest uint64
	// Snapshots are those whose votes may certify what comes, ascending by height.
	Snapshots []types.Snapshot
}

// Genesis is trust in a chain's start and in nothing else. The genesis must have passed its Check.
func Genesis(g *types.Genesis) Trusted {
	return Trusted{
		Chain: g.ChainID(), Lag: g.Params.SnapshotLag, Period: g.Params.SnapshotPeriod,
		Snapshots: []types.Snapshot{*g.Snapshot()},
	}
}

// Pin is trust in a checkpoint that is known by its id only, as given by hand, and in the
// snapshots given along with it (they may be none: then it vouches for itself, and for
// what the snapshot that it commits to has signed).
func Pin(chain types.Hash, params *types.Params, id types.Hash, snapshots ...types.Snapshot) Trusted {
	t := Trusted{Chain: chain, Lag: params.SnapshotLag, Period: params.SnapshotPeriod, ID: id}
	for i := range snapshots {
		t.believe(snapshots[i])
	}
	return t
}

// At is the least that anybody believes who trusts a checkpoint whose run has the snapshot of
// height run: it, and no snapshot yet. What Build makes from here every such verifier can
// follow, however it came there: each snapshot that is needed is shown to be genuine.
func At(params *types.Params, cp *types.Checkpoint, run uint64) Trusted {
	c := *cp
	return Trusted{Chain: cp.Chain, Lag: params.SnapshotLag, Period: params.SnapshotPeriod, ID: cp.ID(), Checkpoint: &c, Oldest: run}
}

// Height is that of the newest checkpoint believed; 0 at genesis and for a pin not yet met.
func (t *Trusted) Height() uint64 {
	if t.Checkpoint == nil {
		return 0
	}
	return t.Checkpoint.Height
}

func (t *Trusted) pinned() bool { return t.Checkpoint == nil && !t.ID.IsZero() }

// Applicable is the height of the newest snapshot that can govern height h: a run that
// starts at s ≤ h has the one of ⌊(s−lag)/period⌋·period, genesis while that is negative
// (spec/consensus.md, "Runs").
func (t *Trusted) Applicable(h uint64) uint64 {
	if h < t.Lag {
		return 0
	}
	return (h - t.Lag) / t.Period * t.Period
}

// committed is the height of the snapshot that a checkpoint at height h commits to.
func (t *Trusted) committed(h uint64) uint64 { return h / t.Period * t.Period }

// find is the believed snapshot with this root, or nil.
func (t *Trusted) find(root types.Hash) *types.Snapshot {
	for i := len(t.Snapshots) - 1; i >= 0; i-- {
		if t.Snapshots[i].Root(t.Chain) == root {
			return &t.Snapshots[i]
		}
	}
	return nil
}

// believe puts a snapshot at its place.
func (t *Trusted) believe(s types.Snapshot) {
	if i, there := t.place(s.Height); !there {
		t.Snapshots = slices.Insert(t.Snapshots, i, s)
	}
}

// place is where the snapshot of this height is, or would be.
func (t *Trusted) place(height uint64) (int, bool) {
	return slices.BinarySearchFunc(t.Snapshots, height, func(s types.Snapshot, h uint64) int { return cmp.Compare(s.Height, h) })
}

// Strength is by how much of the company a checkpoint is signed.
type Strength struct {
	Signed   types.Amount `json:"signed"`   // shares of the members that signed
	Total    types.Amount `json:"total"`    // shares of all members of the snapshot
	Members  int          `json:"members"`  // how many signed
	Snapshot uint64       `json:"snapshot"` // height at which the shares were counted
	// Behind is how many snapshots newer than this one could have governed the height. 0 or
	// 1 while finality flows; more after a long stall, or where an advance skips.
	Behind uint64 `json:"behind"`
}

// Percent is the part that signed, rounded down to a tenth of a per cent: "75", "66.6".
func (s Strength) Percent() string {
	if s.Total == 0 || s.Signed > s.Total {
		return "0"
	}
	hi, lo := bits.Mul64(uint64(s.Signed), 1000)
	tenths, _ := bits.Div64(hi, lo, uint64(s.Total))
	if tenths%10 == 0 {
		return fmt.Sprint(tenths / 10)
	}
	return fmt.Sprintf("%d.%d", tenths/10, tenths%10)
}

// twoThirds reports whether signed is more than two thirds of total.
func twoThirds(signed, total types.Amount) bool {
	hi3, lo3 := bits.Mul64(uint64(signed), 3)
	hi2, lo2 := bits.Mul64(uint64(total), 2)
	return hi3 > hi2 || hi3 == hi2 && lo3 > lo2
}

// VerifyCertificate checks that cert shows cp to be signed by members of snap with more than two
// thirds of its shares. Whether snap may be believed, and at that height, is Advance's to
// say. Behind is left zero.
// Errors: WrongChain, WrongSnapshot, BadVotes, BadSignature, TooFewVotes.
func VerifyCertificate(chain types.Hash, cp *types.Checkpoint, cert *types.Certificate, snap *types.Snapshot) (Strength, error) {
	if cp.Chain != chain {
		return Strength{}, refuse(WrongChain, "checkpoint", "of chain %s, want %s", cp.Chain, chain)
	}
	if root := snap.Root(chain); cert.Snapshot != root {
		return Strength{}, refuse(WrongSnapshot, "certificate", "names snapshot %s, checked against %s", cert.Snapshot, root)
	}
	s := Strength{Members: len(cert.Votes), Snapshot: snap.Height}
	var err error
	for _, m := range snap.Members {
		if s.Total, err = s.Total.Add(m.Shares); err != nil {
			return Strength{}, &Error{Kind: WrongSnapshot, Step: "certificate", Cause: err}
		}
	}
	digest := types.VoteDigest(chain, cp.Height, cp.ID())
	checks := make([]sig.Check, 0, len(cert.Votes))
	for i, v := range cert.Votes {
		if int(v.Index) >= len(snap.Members) || i > 0 && cert.Votes[i-1].Index >= v.Index {
			return Strength{}, refuse(BadVotes, "certificate", "vote %d is of member %d of %d, after member %d",
				i, v.Index, len(snap.Members), cert.Votes[max(i-1, 0)].Index)
		}
		m := snap.Members[v.Index]
		s.Signed += m.Shares // no more than Total: each member once
		checks = append(checks, sig.Check{Key: m.Peer, Msg: digest, Sig: v.Signature})
	}
	if !twoThirds(s.Signed, s.Total) {
		return Strength{}, refuse(TooFewVotes, "certificate", "%d votes with %s of %s shares, want more than two thirds", s.Members, s.Signed, s.Total)
	}
	if bad, err := sig.VerifyAll(checks); err != nil {
		return Strength{}, &Error{Kind: BadSignature, Step: "certificate", Detail: fmt.Sprintf("vote of member %d", cert.Votes[bad].Index), Cause: err}
	}
	return s, nil
}

// Step leads from one trusted checkpoint to a newer one.
type Step struct {
	// Snapshot is the one that the trusted checkpoint before this step committed to, where this
	// certificate or a later one needs it and it is not believed yet; else nil.
	Snapshot *types.Snapshot
	// Past leads from that checkpoint to an older one which committed to Snapshot; nil if it
	// did itself. Needed where an advance before had skipped over that snapshot.
	Past        *Past
	Checkpoint  types.Checkpoint
	Certificate types.Certificate
}

// Advance verifies steps, oldest first, from t on, and gives what is then trusted and how
// strongly each step was signed. t is not changed. Steps below the trusted checkpoint are
// passed over unread, and so is that checkpoint itself (their Strength is zero): another one
// at its height is a Conflict. For a pin, all steps before it are passed over; if it is not
// among them the error is Unreached.
//
// The rule, for a step to a checkpoint at height h by a snapshot of height σ:
//
//	genuine    it is believed: from the start, or because the last checkpoint, or one in
//	           its history, committed to it
//	not early  σ ≤ Applicable(h)
//	not stale  σ is not below that of the certificate before: runs do not go back
//	signed     by more than two thirds of its shares
func (t Trusted) Advance(steps []Step) (Trusted, []Strength, error) {
	strengths := make([]Strength, len(steps))
	t.Snapshots = slices.Clone(t.Snapshots)
	for i := range steps {
		s := &steps[i]
		part := fmt.Sprintf("advance[%d]", i)
		if s.Checkpoint.Chain != t.Chain {
			return Trusted{}, nil, refuse(WrongChain, part+".checkpoint", "of chain %s, want %s", s.Checkpoint.Chain, t.Chain)
		}
		if i > 0 && s.Checkpoint.Height <= steps[i-1].Checkpoint.Height || s.Checkpoint.Height == 0 {
			return Trusted{}, nil, refuse(WrongHeight, part+".checkpoint", "height %d does not rise", s.Checkpoint.Height)
		}
		known, err := t.known(&s.Checkpoint)
		if err != nil {
			return Trusted{}, nil, within(part, err)
		}
		if known {
			continue
		}
		if strengths[i], err = t.take(s); err != nil {
			return Trusted{}, nil, within(part, err)
		}
	}
	if t.pinned() {
		return Trusted{}, nil, refuse(Unreached, "advance", "none of %d steps is the checkpoint %s", len(steps), t.ID)
	}
	first, _ := t.place(t.Oldest)
	t.Snapshots = t.Snapshots[first:]
	return t, strengths, nil
}

// known reports whether a step to cp needs no certificate: it is the trusted
// checkpoint, or comes before it.
func (t *Trusted) known(cp *types.Checkpoint) (bool, error) {
	if t.pinned() {
		if cp.ID() == t.ID {
			c := *cp
			t.Checkpoint = &c
		}
		return true, nil
	}
	if cp.Height == t.Height() && cp.ID() != t.ID {
		return false, refuse(Conflict, "checkpoint", "height %d has %s, and %s is trusted", cp.Height, cp.ID(), t.ID)
	}
	return cp.Height <= t.Height(), nil
}

// take moves t over one step, whose height is above t's.
func (t *Trusted) take(s *Step) (Strength, error) {
	if s.Snapshot != nil {
		if err := t.introduce(s.Snapshot, s.Past); err != nil {
			return Strength{}, err
		}
	}
	cp := &s.Checkpoint
	snap := t.find(s.Certificate.Snapshot)
	if snap == nil {
		return Strength{}, refuse(UnknownSnapshot, "certificate", "signed by snapshot %s", s.Certificate.Snapshot)
	}
	newest := t.Applicable(cp.Height)
	if snap.Height < t.Oldest {
		return Strength{}, refuse(StaleSnapshot, "certificate", "snapshot of height %d, and one of %d was in force before", snap.Height, t.Oldest)
	}
	if snap.Height > newest {
		return Strength{}, refuse(EarlySnapshot, "certificate", "snapshot of height %d for height %d, want %d or below", snap.Height, cp.Height, newest)
	}
	strength, err := VerifyCertificate(t.Chain, cp, &s.Certificate, snap)
	if err != nil {
		return Strength{}, err
	}
	if t.Checkpoint != nil && (cp.HistorySize <= t.Checkpoint.HistorySize || cp.Time < t.Checkpoint.Time) {
		return Strength{}, refuse(WrongHeight, "checkpoint", "history %d at %s, after %d at %s", cp.HistorySize, cp.Time, t.Checkpoint.HistorySize, t.Checkpoint.Time)
	}
	strength.Behind = (newest - snap.Height) / t.Period
	c := *cp
	t.Checkpoint, t.ID, t.Oldest = &c, c.ID(), snap.Height
	return strength, nil
}

// introduce believes a snapshot because the newest trusted checkpoint commits to it, or one in
// its history does. One that is believed already may come again: who reads the steps may
// have known more than who wrote them.
func (t *Trusted) introduce(s *types.Snapshot, past *Past) error {
	root := s.Root(t.Chain)
	if i, there := t.place(s.Height); there && t.Snapshots[i].Root(t.Chain) == root {
		return nil
	}
	by := t.Checkpoint
	if by != nil && past != nil {
		if err := past.verify(by); err != nil {
			return err
		}
		by = &past.Checkpoint
	}
	if by == nil || root != by.SnapshotRoot {
		return refuse(WrongSnapshot, "snapshot", "no trusted checkpoint commits to %s of height %d", root, s.Height)
	}
	if want := t.committed(by.Height); s.Height != want {
		return refuse(WrongSnapshot, "snapshot", "height %d, want %d, the newest at height %d", s.Height, want, by.Height)
	}
	t.believe(*s)
	return nil
}
