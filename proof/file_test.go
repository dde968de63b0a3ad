package proof

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"charter/types"
)

var (
	alice    = types.Key(hashOf("alice"))
	owner    = types.Key(hashOf("owner"))
	document = hashOf("a document")
)

// scene is a world in which something of each sort has happened.
type scene struct {
	*world
	notary, payment, loser             *types.Transaction
	notarised, paid, rejected, paidOut types.Event
	top                                uint64
}

func newScene(t testing.TB) *scene {
	s := &scene{world: newWorld(t, worldPeers), top: 30}
	s.rise(11)
	s.notary = s.pay(0, []types.Record{types.Notarise{Document: document}}, types.Output{Value: 99 * types.UnitsPerShare, Lock: owner, Host: secretKeys[0]})
	s.notarised = s.apply(s.notary)
	s.rise(14)
	s.payment = s.pay(1, nil, types.Output{Value: 1250000000, Lock: alice, Host: secretKeys[1]}, types.Output{Value: 87 * types.UnitsPerShare, Lock: owner})
	s.loser = s.pay(1, []types.Record{types.Notarise{Document: document}}, types.Output{Value: 3, Lock: owner})
	s.paid = s.apply(s.payment)
	s.rejected = s.reject(s.loser, types.SpentOutput)
	s.paidOut = types.Event{Kind: types.Payout, Transaction: types.PayoutID(s.chain, 15, secretKeys[0]), Block: hashOf("anchor"), Height: s.height(), Time: s.time(s.height())}
	s.pending = append(s.pending, s.paidOut)
	s.rise(20)
	s.apply(s.pay(s.paid.First+1, nil, types.Output{Value: 1, Lock: owner})) // the change is spent
	s.rise(s.top)
	return s
}

// files are valid files, of each sort.
func (s *scene) files() map[string]*File {
	return map[string]*File{
		"notarised":      s.file(s.prove(s.notary, s.notarised, s.notarised.Height), s.notarised.Height),
		"notarised past": s.file(s.prove(s.notary, s.notarised, s.top), s.top),
		"payment":        s.file(s.prove(s.payment, s.paid, s.top), s.top, s.output(s.paid.First), s.output(s.paid.First+1)),
		"rejected":       s.file(s.prove(s.loser, s.rejected, s.top), s.top),
		"payout":         s.file(s.prove(nil, s.paidOut, s.top), s.top),
	}
}

func TestVerdictsSayWhatIsProven(t *testing.T) {
	s := newScene(t)
	on := ", on chain " + s.chain.String()
	for name, want := range map[string]string{
		"notarised": "The document with SHA-256 " + document.String() + " was notarised at height 12, 2026-11-22T19:16:52.000Z" + on + ", by transaction " + s.notarised.Transaction.String() +
			"; peers holding 75 % of the shares registered at height 0 signed the checkpoint of height 12.",
		"payment": "Transaction " + s.paid.Transaction.String() + " was applied at height 15, 2026-11-22T19:16:55.000Z" + on + ", and made 12.5 shares for lock " + alice.String() +
			" with host " + secretKeys[1].Short() + " (unspent as of height 30), 87 shares for lock " + owner.String() + " (spent at height 21)" +
			"; peers holding 75 % of the shares registered at height 0 signed the checkpoint of height 30.",
		"rejected": "Transaction " + s.rejected.Transaction.String() + " was rejected (output already spent) at height 15, 2026-11-22T19:16:55.000Z" + on +
			"; peers holding 75 % of the shares registered at height 0 signed the checkpoint of height 30.",
	} {
		v, err := VerifyFile(s.files()[name].Encode(), s.trust, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := v.Sentence(); got != want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
	v, err := VerifyFile(s.files()["notarised past"].Encode(), s.trust, &document)
	if err != nil {
		t.Fatal(err)
	}
	v.Name = "README.md"
	if got, want := v.Sentence(), "README.md (SHA-256 "+document.String()+") was notarised at height 12, "; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s…", got, want)
	}
	if v.Height != 12 || v.CheckpointHeight != 30 || v.Time != s.time(12) || v.Strength.Members != 3 || v.Transaction != s.notary.ID(s.chain) || !v.Applied {
		t.Errorf("verdict %+v", v)
	}
}

// TestPinnedFile: whoever trusts the file's own checkpoint needs no signature, and no genesis.
func TestPinnedFile(t *testing.T) {
	s := newScene(t)
	f := s.files()["notarised"]
	pin := Pin(s.chain, &s.genesis.Params, s.checkpoints[12].ID())
	f.Steps[0].Certificate.Votes = nil
	v, err := f.Verify(pin, &document)
	if err != nil || !v.Pinned || v.Strength != (Strength{}) {
		t.Fatalf("%+v, %v", v, err)
	}
	if got := v.Sentence(); !strings.HasSuffix(got, "; this hangs under the checkpoint of height 12 that you trust.") {
		t.Error(got)
	}
	pin.Checkpoint = s.checkpoints[12]
	f.Steps = nil
	if v, err = f.Verify(pin, &document); err != nil || !v.Pinned {
		t.Fatalf("without steps: %+v, %v", v, err)
	}
	// A wallet that is further than the file is told so, and uses what it trusted before.
	steps, err := s.trust.Build(30, s)
	s.must(err)
	later, _, err := s.trust.Advance(steps)
	s.must(err)
	if _, err = s.files()["notarised"].Verify(later, &document); !IsKind(err, Unreached) {
		t.Errorf("file below what is trusted: %v", err)
	}
	if _, err = s.files()["payment"].Verify(later, nil); err != nil {
		t.Errorf("file at what is trusted: %v", err)
	}
}

// statements are valid proofs of every kind, each with a check of it against the world.
func (s *scene) statements() map[string]struct {
	proof  Statement
	verify func(Statement) error
} {
	type pair = struct {
		proof  Statement
		verify func(Statement) error
	}
	top := s.checkpoints[s.top]
	out := map[string]pair{}
	for name, f := range s.files() {
		out["file "+name] = pair{f, func(p Statement) error { _, err := p.(*File).Verify(s.trust, nil); return err }}
	}
	for name, p := range map[string]*Event{"event": s.prove(s.notary, s.notarised, 12), "event past": s.prove(s.loser, s.rejected, s.top)} {
		out[name] = pair{p, func(p Statement) error {
			q := p.(*Event)
			cp := top
			if q.Past == nil {
				cp = s.checkpoints[12]
			}
			_, err := q.Verify(cp)
			return err
		}}
	}
	for name, p := range map[string]*Output{"output unspent": s.output(s.paid.First), "output spent": s.output(0)} {
		position := p.Position
		out[name] = pair{p, func(p Statement) error { _, err := p.(*Output).Verify(top, position); return err }}
	}
	for name, p := range map[string]*Key{"key all": s.key(owner, len(s.logs[owner])), "key latest": s.key(owner, 2), "key state": s.key(owner, 0), "key none": s.key(types.Key{9}, 0)} {
		lock := p.Lock
		out[name] = pair{p, func(p Statement) error { _, err := p.(*Key).Verify(top, lock); return err }}
	}
	id := top.ID()
	for name, p := range map[string]*Name{
		"name": s.nameOf(1, 3), "name latest": s.nameOf(2, 1), "name state": s.nameOf(3, 0), "name none": s.noName("peer-99"),
	} {
		subject := p.Name
		out[name] = pair{p, func(p Statement) error { _, err := p.(*Name).Verify(top, subject); return err }}
	}
	for name, p := range map[string]*Peer{
		"peer":      {id, secretKeys[1], s.peer(1), s.inTrie(2, types.PeerPath(secretKeys[1]))},
		"peer none": {id, alice, nil, s.inTrie(2, types.PeerPath(alice))},
	} {
		peer := p.Peer
		out[name] = pair{p, func(p Statement) error { _, err := p.(*Peer).Verify(top, peer); return err }}
	}
	out["consistency"] = pair{s.consistency(7, 30), func(p Statement) error { return p.(*Consistency).Verify(s.checkpoints[7], top) }}
	steps, err := s.trust.Build(s.top, s)
	s.must(err)
	out["advance"] = pair{&Advance{s.chain, steps}, func(p Statement) error {
		a := p.(*Advance)
		if a.Chain != s.chain {
			return refuse(WrongChain, "advance", "")
		}
		_, _, err := s.trust.Advance(a.Steps)
		return err
	}}
	return out
}

func TestStatementsProve(t *testing.T) {
	s := newScene(t)
	top := s.checkpoints[s.top]
	for name, c := range s.statements() {
		if err := c.verify(c.proof); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if h, err := s.prove(s.payment, s.paid, s.top).Verify(top); err != nil || h.As.Height != 15 || !bytes.Equal(h.Transaction.Body(), s.payment.Body()) || h.Event != s.paid {
		t.Errorf("event: %+v, %v", h, err)
	}
	if o, err := s.output(0).Verify(top, 0); err != nil || o.SpentHeight != 12 {
		t.Errorf("output: %+v, %v", o, err)
	}
	all := s.logs[owner]
	for n := range len(all) + 1 {
		h, err := s.key(owner, n).Verify(top, owner)
		if err != nil || h.Total != uint64(len(all)) || h.Complete() != (n == len(all)) || !reflect.DeepEqual(h.Events, all[len(all)-n:]) {
			t.Errorf("latest %d of %d: %+v, %v", n, len(all), h, err)
		}
	}
	if h, err := s.key(types.Key{9}, 0).Verify(top, types.Key{9}); err != nil || h.Total != 0 || !h.Complete() {
		t.Errorf("no events: %+v, %v", h, err)
	}
	for n := range 4 {
		st, err := s.nameOf(1, n).Verify(top, "peer-1")
		if err != nil || st.State.Peer != secretKeys[1] || st.Complete() != (n == 3) || !reflect.DeepEqual(st.Events, s.story(1)[3-n:]) {
			t.Errorf("latest %d of a name: %+v, %v", n, st, err)
		}
	}
	if st, err := s.noName("peer-99").Verify(top, "peer-99"); err != nil || st.State != nil || !st.Complete() {
		t.Errorf("free name: %+v, %v", st, err)
	}
	for _, old := range []uint64{0, 1, 7, 29} {
		if err := s.consistency(old, 30).Verify(s.checkpoints[old], top); err != nil {
			t.Errorf("consistency from %d: %v", old, err)
		}
	}
}

// TestFormsAreEquivalent: bytes and JSON of every statement read back as what was written.
func TestFormsAreEquivalent(t *testing.T) {
	for name, c := range newScene(t).statements() {
		data := c.proof.Encode()
		back, err := Decode(data)
		if err != nil || !bytes.Equal(back.Encode(), data) {
			t.Errorf("%s: bytes: %v", name, err)
			continue
		}
		text := JSON(c.proof)
		if !json.Valid(text) {
			t.Errorf("%s: %s", name, text)
		}
		if back, err = ParseJSON(text); err != nil || !bytes.Equal(back.Encode(), data) {
			t.Errorf("%s: JSON: %v", name, err)
			continue
		}
		if again := JSON(back); !bytes.Equal(again, text) {
			t.Errorf("%s: JSON is\n%s, then\n%s", name, text, again)
		}
		if _, err := ParseJSON(bytes.Replace(text, []byte(`{"proof"`), []byte(`{"more":1,"proof"`), 1)); !IsKind(err, Malformed) {
			t.Errorf("%s: JSON with a field that is not known: %v", name, err)
		}
	}
}

// TestEveryByteCounts flips bits in each byte of every valid proof, cuts it at each byte and
// adds one: all are refused.
func TestEveryByteCounts(t *testing.T) {
	for name, c := range newScene(t).statements() {
		data := c.proof.Encode()
		refused := func(what string, i int, mutated []byte) {
			t.Helper()
			p, err := Decode(mutated)
			if err == nil && p.kind() == c.proof.kind() {
				err = c.verify(p)
			}
			if err == nil && p.kind() == c.proof.kind() {
				t.Errorf("%s: accepted with byte %d %s", name, i, what)
			}
		}
		for i := range data {
			mutated := bytes.Clone(data)
			mutated[i] ^= 1 << (i % 8)
			refused("flipped", i, mutated)
			refused("and all behind cut off", i, data[:i])
		}
		refused("added", len(data), append(bytes.Clone(data), 0))
	}
}
