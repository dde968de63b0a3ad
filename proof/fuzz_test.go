package proof

import (
	"bytes"
	"testing"
)

func FuzzDecode(f *testing.F) {
	for _, c := range newScene(f).statements() {
		f.Add(c.proof.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			if !IsKind(err, Malformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.Equal(p.Encode(), data) {
			t.Fatal("decoded, and encodes to other bytes")
		}
		again, err := ParseJSON(JSON(p))
		if err != nil || !bytes.Equal(again.Encode(), data) {
			t.Fatalf("JSON is another proof: %v", err)
		}
	})
}

func FuzzParseJSON(f *testing.F) {
	for _, c := range newScene(f).statements() {
		f.Add(JSON(c.proof))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParseJSON(data)
		if err != nil {
			if !IsKind(err, Malformed) {
				t.Fatalf("%v", err)
			}
			return
		}
		if _, err := Decode(p.Encode()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeTrusted(f *testing.F) {
	w := rotating(f)
	w.rise(130)
	steps, err := w.trust.Build(130, w)
	w.must(err)
	now, _, err := w.trust.Advance(steps)
	w.must(err)
	f.Add(now.Encode())
	f.Add(w.trust.Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := DecodeTrusted(data); err == nil && !bytes.Equal(v.Encode(), data) {
			t.Fatal("decoded, and encodes to other bytes")
		}
	})
}

// FuzzVerifyFile: whatever is accepted says what one of the true files says. (Proofs of outputs may
// be left away, so the bytes can differ.)
func FuzzVerifyFile(f *testing.F) {
	s := newScene(f)
	truths := map[string]bool{}
	truth := func(v *Verdict) string {
		w := *v
		w.Outputs = nil
		return w.Sentence()
	}
	for _, file := range s.files() {
		v, err := file.Verify(s.trust, nil)
		if err != nil {
			f.Fatal(err)
		}
		truths[truth(v)] = true
		f.Add(file.Encode())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if v, err := VerifyFile(data, s.trust, nil); err == nil && !truths[truth(v)] {
			t.Fatalf("accepted: %s", v.Sentence())
		}
	})
}

// FuzzVerify: bytes that are accepted in place of a true proof, as its reader would check it, say nothing that is
// not so; of the kinds that leave nothing open, they are a true proof.
func FuzzVerify(f *testing.F) {
	s := newScene(f)
	all, original := s.specimens(s), map[string]bool{}
	for _, sp := range all {
		original[string(sp.bytes)] = true
		f.Add(sp.bytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Decode(data)
		if err != nil {
			return
		}
		for _, sp := range all {
			if sp.kind != p.kind() {
				continue
			}
			lie, err := sp.accept(p)
			if err == nil && (lie != "" || sp.kind != kindFile && sp.kind != kindAdvance && !original[string(data)]) {
				t.Fatalf("accepted as %s, and says %q", sp.name, lie)
			}
		}
	})
}
