package proof

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"charter/types"
)

var update = flag.Bool("update", false, "write spec/vectors/proofs.json anew")

// vectors is spec/vectors/proofs.json.
type vectors struct {
	About   string          `json:"about"`
	Genesis json.RawMessage `json:"genesis"`
	// Checkpoint is the one that statements other than files and advances lead to.
	Checkpoint hexBytes       `json:"checkpoint"`
	Proofs     []proofVector  `json:"proofs"`
	Refused    []refuseVector `json:"refused"`
}

type proofVector struct {
	Name  string          `json:"name"`
	Bytes hexBytes        `json:"bytes"`
	JSON  json.RawMessage `json:"json"`
	// Older is the older checkpoint of a consistency proof; Subject what was asked for, where that is not in Proves.
	Older   hexBytes `json:"older,omitempty"`
	Subject string   `json:"subject,omitempty"`
	Proves  string   `json:"proves"`
}

type refuseVector struct {
	Name     string      `json:"name"`
	Bytes    hexBytes    `json:"bytes"`
	Document *types.Hash `json:"document"`
	Kind     string      `json:"kind"`
	Step     string      `json:"step"`
}

const aboutVectors = "Charter, package proof (spec/proofs.md). Files and advances are checked from trust in the genesis; the other proofs against the checkpoint. The files under \"refused\" fail with that kind at that step, given the document where there is one. Made by: go test ./proof -run Vectors -update"

func makeVectors(t *testing.T) *vectors {
	s := newScene(t)
	v := &vectors{About: aboutVectors, Genesis: bytes.TrimSpace(s.genesis.JSON()), Checkpoint: s.checkpoints[s.top].Encode()}
	add := func(name string, p Statement, subject, proves string, older []byte) {
		v.Proofs = append(v.Proofs, proofVector{name, p.Encode(), JSON(p), older, subject, proves})
	}
	files := s.files()
	for _, name := range []string{"notarised", "notarised past", "payment", "rejected", "payout"} {
		verdict, err := files[name].Verify(s.trust, nil)
		s.must(err)
		add("file "+name, files[name], "", verdict.Sentence(), nil)
	}
	steps, err := s.trust.Build(s.top, s)
	s.must(err)
	id := s.checkpoints[s.top].ID()
	add("advance", &Advance{s.chain, steps}, "", "checkpoint "+id.String(), nil)
	add("event", s.prove(s.payment, s.paid, s.top), "", "transaction "+s.paid.Transaction.String()+" applied", nil)
	add("output unspent", s.output(s.paid.First), "", "unspent", nil)
	add("output spent", s.output(s.paid.First+1), "", "spent at 21", nil)
	add("key, all events", s.key(owner, len(s.logs[owner])), owner.String(), fmt.Sprintf("all %d events", len(s.logs[owner])), nil)
	add("key, latest event", s.key(owner, 1), owner.String(), fmt.Sprintf("the latest of %d events", len(s.logs[owner])), nil)
	add("key, no events", s.key(types.Key{9}, 0), types.Key{9}.String(), "no events", nil)
	add("name, all events", s.nameOf(1, 3), "peer-1", "held by "+secretKeys[1].String(), nil)
	add("name, latest event", s.nameOf(1, 1), "peer-1", "held by "+secretKeys[1].String(), nil)
	add("name, free", s.noName("peer-99"), "peer-99", "free", nil)
	add("peer", &Peer{id, secretKeys[1], s.peer(1), s.inTrie(2, types.PeerPath(secretKeys[1]))}, secretKeys[1].String(), "100 shares", nil)
	add("peer, none", &Peer{id, alice, nil, s.inTrie(2, types.PeerPath(alice))}, alice.String(), "no such peer", nil)
	add("consistency", s.consistency(7, s.top), "", "includes the checkpoint of height 7", s.checkpoints[7].Encode())

	rows, valid := refusals(t)
	good := valid()
	verdict, err := good.file.Verify(good.trust, nil)
	s.must(err)
	add("file over three snapshots", good.file, "", verdict.Sentence(), nil)
	seen := map[Kind]bool{} // the first row of each kind will do, of those that need no other trust than the genesis
	for _, row := range rows {
		a := valid()
		row.spoil(a)
		if a.bytes != nil || !bytes.Equal(a.trust.Encode(), good.trust.Encode()) {
			continue
		}
		data := a.file.Encode()
		_, err := VerifyFile(data, a.trust, a.document)
		if e := err.(*Error); !seen[e.Kind] {
			seen[e.Kind] = true
			v.Refused = append(v.Refused, refuseVector{row.name, data, a.document, e.Kind.String(), e.Step})
		}
	}
	return v
}

// TestVectors checks that the file is what this code makes, and then judges the file by its own
// text alone, as another implementation would.
func TestVectors(t *testing.T) {
	file := filepath.Join("..", "spec", "vectors", "proofs.json")
	want, err := json.MarshalIndent(makeVectors(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Error("the vectors are not what this code makes; if that is meant, run with -update and change spec/proofs.md")
	}
	var v vectors
	if err := json.Unmarshal(have, &v); err != nil {
		t.Fatal(err)
	}
	g, err := types.ParseGenesis(v.Genesis)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := types.DecodeCheckpoint(v.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range v.Proofs {
		judge(t, Genesis(g), cp, &p)
	}
	for _, r := range v.Refused {
		_, err := VerifyFile(r.Bytes, Genesis(g), r.Document)
		if e, ok := err.(*Error); !ok || e.Kind.String() != r.Kind || e.Step != r.Step {
			t.Errorf("%s: %v, want %q at %s", r.Name, err, r.Kind, r.Step)
		}
	}
}

func judge(t *testing.T, trust Trusted, cp *types.Checkpoint, v *proofVector) {
	s, err := Decode(v.Bytes)
	if err != nil {
		t.Errorf("%s: %v", v.Name, err)
		return
	}
	if p, err := ParseJSON(v.JSON); err != nil || !bytes.Equal(p.Encode(), v.Bytes) {
		t.Errorf("%s: JSON is another proof than the bytes: %v", v.Name, err)
	}
	switch p := s.(type) {
	case *File:
		var verdict *Verdict
		if verdict, err = p.Verify(trust, nil); err == nil && verdict.Sentence() != v.Proves {
			t.Errorf("%s: %s", v.Name, verdict.Sentence())
		}
	case *Advance:
		_, _, err = trust.Advance(p.Steps)
	case *Event:
		_, err = p.Verify(cp)
	case *Output:
		_, err = p.Verify(cp, p.Position)
	case *Key:
		var lock types.Key
		if _, err = hex.Decode(lock[:], []byte(v.Subject)); err == nil {
			_, err = p.Verify(cp, lock)
		}
	case *Name:
		_, err = p.Verify(cp, v.Subject)
	case *Peer:
		var peer types.Key
		if _, err = hex.Decode(peer[:], []byte(v.Subject)); err == nil {
			_, err = p.Verify(cp, peer)
		}
	case *Consistency:
		var older *types.Checkpoint
		if older, err = types.DecodeCheckpoint(v.Older); err == nil {
			err = p.Verify(older, cp)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", v.Name, err)
	}
}
