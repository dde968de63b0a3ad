package proof

import (
	"fmt"
	"slices"
	"testing"

	"charter/types"
)

// attempt is a valid file, the trust it is checked from and what is asked; a row spoils one thing.
type attempt struct {
	*scene
	file     *File
	bytes    []byte // if set, instead of the file's
	trust    Trusted
	document *types.Hash
}

// resign has a step signed again, by n members of a snapshot.
func (a *attempt) resign(i int, snapshot uint64, n int) {
	s := &a.file.Steps[i]
	s.Certificate = *a.certify(&s.Checkpoint, a.snapshots[snapshot], n)
}

// insert puts a checkpoint, signed by all of a snapshot, before step i.
func (a *attempt) insert(i int, height, snapshot uint64) {
	cp := *a.checkpoints[height]
	a.file.Steps = slices.Insert(slices.Clone(a.file.Steps), i, Step{Checkpoint: cp, Certificate: *a.certify(&cp, a.snapshots[snapshot], len(a.snapshots[snapshot].Members))})
}

// refusal spoils a valid file in one way, and names the kind of error and the step.
type refusal struct {
	name  string
	spoil func(*attempt)
	kind  Kind
	step  string
}

// refusals are all of them, and what makes the valid file: one that notarises document, led from
// genesis to height 130 over 40 and 80.
func refusals(t testing.TB) ([]refusal, func() *attempt) {
	s := newScene(t)
	s.members = func(p uint64) (out []int) { // three members, of which each period replaces two
		for i := range uint64(3) {
			out = append(out, int((2*p+i)%worldPeers))
		}
		return out
	}
	s.rise(130)
	valid := func() *attempt {
		return &attempt{scene: s, file: s.file(s.prove(s.notary, s.notarised, 130), 130), trust: s.trust, document: &document}
	}
	payment := func(a *attempt) {
		a.file, a.document = s.file(s.prove(s.payment, s.paid, 130), 130, s.output(s.paid.First), s.output(s.paid.First+1)), nil
	}
	last := len(valid().file.Steps) - 1
	if err := valid().verify(); err != nil || last != 2 {
		t.Fatalf("%v; %d steps, want those to 40, 80 and 130", err, last+1)
	}
	return []refusal{
		{"empty", func(a *attempt) { a.bytes = []byte{} }, Malformed, "bytes"},
		{"truncated", func(a *attempt) { a.bytes = a.file.Encode(); a.bytes = a.bytes[:len(a.bytes)-1] }, Malformed, "bytes"},
		{"trailing", func(a *attempt) { a.bytes = append(a.file.Encode(), 0) }, Malformed, "bytes"},
		{"other magic", func(a *attempt) { a.bytes = a.file.Encode(); a.bytes[0] = 'C' }, Malformed, "bytes"},
		{"next version", func(a *attempt) { a.bytes = a.file.Encode(); a.bytes[len(Magic)]++ }, Malformed, "bytes"},
		{"another kind of proof", func(a *attempt) { a.bytes = a.file.Event.Encode() }, Malformed, "bytes"},
		{"too long", func(a *attempt) { a.bytes = make([]byte, MaxSize+1) }, Malformed, "bytes"},
		{"body that is no transaction", func(a *attempt) {
			a.file.Event.Body = []byte{1, 2, 3}
			ev := types.Event{Kind: types.Applied, Transaction: types.TransactionID(a.chain, a.file.Event.Body)}
			a.file.Event = *a.forge(ev, a.file.Event.Body)
		}, Malformed, "event.body"},

		{"wrong genesis", func(a *attempt) { g := *a.genesis; g.Network = "other"; a.trust = Genesis(&g) }, WrongChain, "file"},
		{"a step of another chain", func(a *attempt) { a.file.Steps[1].Checkpoint.Chain = hashOf("x") }, WrongChain, "advance[1].checkpoint"},
		{"past of another chain", func(a *attempt) { a.file.Event.Past.Checkpoint.Chain = hashOf("x") }, WrongChain, "event.past"},

		{"leads elsewhere", func(a *attempt) { a.file.Event.Checkpoint = hashOf("x") }, WrongCheckpoint, "event.checkpoint"},
		{"an output that leads elsewhere", func(a *attempt) { payment(a); a.file.Outputs[1].Checkpoint = hashOf("x") }, WrongCheckpoint, "outputs[1].checkpoint"},

		{"height 0", func(a *attempt) { a.file.Steps[0].Checkpoint.Height = 0 }, WrongHeight, "advance[0].checkpoint"},
		{"a step twice", func(a *attempt) { a.file.Steps = slices.Insert(a.file.Steps, 1, a.file.Steps[0]) }, WrongHeight, "advance[1].checkpoint"},
		{"history that shrinks", func(a *attempt) { a.file.Steps[1].Checkpoint.HistorySize = 3; a.resign(1, 40, 3) }, WrongHeight, "advance[1].checkpoint"},
		{"time that goes back", func(a *attempt) { a.file.Steps[1].Checkpoint.Time = 1; a.resign(1, 40, 3) }, WrongHeight, "advance[1].checkpoint"},
		{"past that is not before", func(a *attempt) { a.file.Event.Past.Checkpoint = *a.checkpoints[130] }, WrongHeight, "event.past"},

		{"snapshot that nobody committed to", func(a *attempt) { a.file.Steps[0].Snapshot = a.snapshots[40] }, WrongSnapshot, "advance[0].snapshot"},
		{"snapshot with other shares", func(a *attempt) {
			n := *a.file.Steps[1].Snapshot
			n.Members = slices.Clone(n.Members)
			n.Members[0].Shares++
			a.file.Steps[1].Snapshot = &n
		}, WrongSnapshot, "advance[1].snapshot"},
		{"snapshot of a height that cannot be", func(a *attempt) {
			a.file.Steps = a.file.Steps[:1]
			n := types.Snapshot{Height: 39, Members: a.snapshots[40].Members}
			a.file.Steps[0].Checkpoint.SnapshotRoot = n.Root(a.chain)
			a.resign(0, 0, 4)
			a.insert(1, 79, 40)
			a.file.Steps[1].Snapshot = &n
		}, WrongSnapshot, "advance[1].snapshot"},

		{"certificate by a snapshot that was not introduced", func(a *attempt) { a.file.Steps[1].Snapshot = nil }, UnknownSnapshot, "advance[1].certificate"},
		{"certificate that names another snapshot", func(a *attempt) { a.file.Steps[0].Certificate.Snapshot[0] ^= 1 }, UnknownSnapshot, "advance[0].certificate"},

		{"signed by the next snapshot, too early", func(a *attempt) {
			a.insert(1, 59, 40)
			a.file.Steps[1].Snapshot = a.snapshots[40]
		}, EarlySnapshot, "advance[1].certificate"},
		{"stale snapshot", func(a *attempt) { a.insert(2, 81, 0) }, StaleSnapshot, "advance[2].certificate"},

		{"no votes", func(a *attempt) { a.file.Steps[0].Certificate.Votes = nil }, TooFewVotes, "advance[0].certificate"},
		{"half", func(a *attempt) { a.resign(0, 0, 2) }, TooFewVotes, "advance[0].certificate"},
		{"exactly two thirds", func(a *attempt) { a.resign(last, 80, 2) }, TooFewVotes, fmt.Sprintf("advance[%d].certificate", last)},

		{"one vote twice", func(a *attempt) {
			c := &a.file.Steps[0].Certificate
			c.Votes = []types.MemberVote{c.Votes[0], c.Votes[1], c.Votes[1]}
		}, BadVotes, "advance[0].certificate"},
		{"votes out of order", func(a *attempt) { slices.Reverse(a.file.Steps[0].Certificate.Votes) }, BadVotes, "advance[0].certificate"},
		{"vote of no member", func(a *attempt) { a.file.Steps[0].Certificate.Votes[2].Index = 4 }, BadVotes, "advance[0].certificate"},

		{"signature of another member", func(a *attempt) {
			c := &a.file.Steps[0].Certificate
			c.Votes[0].Signature, c.Votes[1].Signature = c.Votes[1].Signature, c.Votes[0].Signature
		}, BadSignature, "advance[0].certificate"},
		{"signature over another checkpoint", func(a *attempt) { a.file.Steps[0].Checkpoint.Anchor = hashOf("x") }, BadSignature, "advance[0].certificate"},
		{"wrong height", func(a *attempt) { a.file.Steps[0].Checkpoint.Height-- }, BadSignature, "advance[0].certificate"},

		{"event of another place", func(a *attempt) { a.file.Event.Index++ }, NotUnderRoot, "event.path"},
		{"event that was otherwise", func(a *attempt) { a.file.Event.Event.Time++ }, NotUnderRoot, "event.path"},
		{"past that is not in the history", func(a *attempt) { a.file.Event.Past.Checkpoint.Anchor = hashOf("x") }, NotUnderRoot, "event.past"},
		{"output said to be unspent", func(a *attempt) { payment(a); a.file.Outputs[1].State.SpentHeight = 0 }, NotUnderRoot, "outputs[1].path"},

		{"another transaction", func(a *attempt) { a.file.Event.Body = a.payment.Body() }, WrongTransaction, "event.body"},
		{"a payout with a transaction", func(a *attempt) {
			a.file.Event = *a.prove(nil, a.paidOut, 130)
			a.file.Event.Body = a.payment.Body()
		}, WrongTransaction, "event.body"},
		{"an event that made less", func(a *attempt) {
			ev := a.paid
			ev.Outputs = 1
			a.file.Event = *a.forge(ev, a.payment.Body())
		}, WrongTransaction, "event.event"},

		{"output of another transaction", func(a *attempt) { payment(a); a.file.Outputs = []Output{*a.output(0)} }, WrongSubject, "outputs[0]"},
		{"outputs out of order", func(a *attempt) { payment(a); slices.Reverse(a.file.Outputs) }, WrongSubject, "outputs[1]"},
		{"an output twice", func(a *attempt) { payment(a); a.file.Outputs[1] = a.file.Outputs[0] }, WrongSubject, "outputs[1]"},
		{"output of a rejected transaction", func(a *attempt) {
			payment(a)
			a.file.Event = *a.prove(a.loser, a.rejected, 130)
		}, WrongSubject, "outputs[0]"},
		{"output under a wrong position", func(a *attempt) {
			payment(a)
			ev := a.paid
			ev.First--
			a.file.Event, a.file.Outputs = *a.forge(ev, a.payment.Body()), a.file.Outputs[:1]
			a.file.Outputs[0].Checkpoint = a.file.Event.Checkpoint
		}, WrongSubject, "outputs[0]"},

		{"wrong document", func(a *attempt) { h := hashOf("other"); a.document = &h }, WrongDocument, "event"},
		{"document of a rejected transaction", func(a *attempt) { a.file.Event = *a.prove(a.loser, a.rejected, 130) }, WrongDocument, "event"},
		{"document of a payment", func(a *attempt) { payment(a); a.document = &document }, WrongDocument, "event"},

		{"another checkpoint than the trusted one", func(a *attempt) {
			a.trust = a.at(130)
			a.file.Steps[last].Checkpoint.Anchor = hashOf("x")
		}, Conflict, fmt.Sprintf("advance[%d].checkpoint", last)},

		{"no steps from a genesis", func(a *attempt) { a.file.Steps = nil }, Unreached, "advance"},
		{"a pin that is not on the way", func(a *attempt) { a.trust = Pin(a.chain, &a.genesis.Params, hashOf("x")) }, Unreached, "advance"},
		{"a file that ends before what is trusted", func(a *attempt) { a.file.Steps = a.file.Steps[:1]; a.trust = a.at(130) }, Unreached, "advance"},
	}, valid
}

func TestRefusals(t *testing.T) {
	rows, valid := refusals(t)
	covered := map[Kind]bool{}
	for _, row := range rows {
		a := valid()
		row.spoil(a)
		err := a.verify()
		if !IsKind(err, row.kind) || err.(*Error).Step != row.step {
			t.Errorf("%s: got %v, want %q at %s", row.name, err, row.kind, row.step)
		}
		covered[row.kind] = true
	}
	for k := Kind(1); k < kindEnd; k++ {
		if !covered[k] || kinds[k] == "" {
			t.Errorf("kind %d %q has no row or no name", k, k)
		}
	}
}

func (a *attempt) verify() error {
	data := a.bytes
	if data == nil {
		data = a.file.Encode()
		// What the decoder refuses is verified as a value too: both doors are shut.
		if _, err := DecodeFile(data); err != nil {
			_, err = a.file.Verify(a.trust, a.document)
			return err
		}
	}
	_, err := VerifyFile(data, a.trust, a.document)
	return err
}

// at is trust in the checkpoint at a height.
func (a *attempt) at(height uint64) Trusted {
	steps, err := a.scene.trust.Build(height, a.world)
	a.must(err)
	t, _, err := a.scene.trust.Advance(steps)
	a.must(err)
	return t
}

// forge has the members sign a last checkpoint with one event that no ledger would make.
func (a *attempt) forge(ev types.Event, body []byte) *Event {
	last := &a.file.Steps[len(a.file.Steps)-1]
	last.Checkpoint.Events, last.Checkpoint.EventsRoot = 1, tlogLeaf(&ev)
	a.resign(len(a.file.Steps)-1, 80, 3)
	return &Event{Checkpoint: last.Checkpoint.ID(), Event: ev, Body: body}
}

// TestSubjects: a proof about something else than was asked for proves nothing, even if true.
func TestSubjects(t *testing.T) {
	s := newScene(t)
	top := s.checkpoints[s.top]
	id := top.ID()
	name := s.noName("peer-99")
	peer := &Peer{id, alice, nil, s.inTrie(2, types.PeerPath(alice))}
	stolen := s.nameOf(1, 0)
	stolen.State = s.name(2)
	retold := s.nameOf(1, 1)
	retold.Events[0].Record.Name = "peer-2"
	silent := s.nameOf(1, 2)
	silent.Events = silent.Events[:1]
	told := s.noName("peer-99")
	told.Events = s.story(1)
	other := &Peer{id, secretKeys[1], s.peer(2), s.inTrie(2, types.PeerPath(secretKeys[1]))}
	foreign := s.key(owner, 1)
	foreign.Events = slices.Clone(foreign.Events)
	foreign.Events[0].Output.Lock = alice
	hidden := s.key(owner, 1)
	hidden.Events = nil
	fewer := s.key(owner, 2)
	fewer.Events = fewer.Events[:1]
	gone := &Key{Checkpoint: id, Lock: owner, Path: s.inTrie(0, types.KeyPath(owner))}
	none := s.noName("peer-1")
	ghost := &Key{Checkpoint: id, Lock: types.Key{9}, Path: s.inTrie(0, types.KeyPath(types.Key{9})), Events: s.logs[owner][:1]}
	renamed := s.nameOf(1, 1)
	renamed.State.Peer = alice
	backward := s.consistency(7, 30)
	backward.History = nil
	for _, row := range []struct {
		name string
		err  error
		kind Kind
	}{
		{"other position", second(s.output(0).Verify(top, 1)), WrongSubject},
		{"other lock", second(s.key(owner, 1).Verify(top, alice)), WrongSubject},
		{"other name", second(name.Verify(top, "peer-98")), WrongSubject},
		{"other peer", second(peer.Verify(top, owner)), WrongSubject},
		{"state of another name", second(stolen.Verify(top, "peer-1")), WrongSubject},
		{"event of another name", second(retold.Verify(top, "peer-1")), WrongSubject},
		{"latest event of a name hidden", second(silent.Verify(top, "peer-1")), NotUnderRoot},
		{"events of a free name", second(told.Verify(top, "peer-99")), NotUnderRoot},
		{"state of another peer", second(other.Verify(top, secretKeys[1])), WrongSubject},
		{"event of another lock", second(foreign.Verify(top, owner)), WrongSubject},
		{"latest event hidden", second(hidden.Verify(top, owner)), NotUnderRoot},
		{"latest of two hidden", second(fewer.Verify(top, owner)), NotUnderRoot},
		{"said to have none", second(gone.Verify(top, owner)), NotUnderRoot},
		{"said to be free", second(none.Verify(top, "peer-1")), NotUnderRoot},
		{"events of a lock without any", second(ghost.Verify(top, types.Key{9})), NotUnderRoot},
		{"holder changed", second(renamed.Verify(top, "peer-1")), NotUnderRoot},
		{"consistency without history", backward.Verify(s.checkpoints[7], top), NotUnderRoot},
		{"consistency with another", s.consistency(7, 30).Verify(s.checkpoints[8], top), WrongCheckpoint},
		{"consistency the wrong way", s.consistency(7, 30).Verify(top, s.checkpoints[7]), WrongCheckpoint},
	} {
		if !IsKind(row.err, row.kind) {
			t.Errorf("%s: got %v, want %q", row.name, row.err, row.kind)
		}
	}
	if _, err := VerifyCertificate(hashOf("x"), top, s.certify(top, s.snapshots[0], 4), s.snapshots[0]); !IsKind(err, WrongChain) {
		t.Errorf("certificate for another chain: %v", err)
	}
	if _, err := VerifyCertificate(s.chain, top, s.certify(top, s.snapshots[0], 4), &types.Snapshot{}); !IsKind(err, WrongSnapshot) {
		t.Errorf("certificate against another snapshot: %v", err)
	}
	huge := &types.Snapshot{Members: []types.Member{{Peer: secretKeys[0], Shares: types.MaxSupply}, {Peer: secretKeys[1], Shares: types.MaxSupply}}}
	sortMembers(huge)
	if _, err := VerifyCertificate(s.chain, top, s.certify(top, huge, 2), huge); !IsKind(err, WrongSnapshot) {
		t.Errorf("snapshot above all supply: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
