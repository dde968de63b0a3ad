package proof

import (
	"fmt"
	"testing"

	"charter/tlog"
	"charter/types"
)

// BenchmarkVerifyFile verifies the file of a notarised document from genesis, one step.
func BenchmarkVerifyFile(b *testing.B) {
	for _, peers := range []int{4, 100} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			w := newWorld(b, max(peers, worldPeers)) // of eight, four have shares
			w.rise(11)
			tx := w.pay(0, []types.Record{types.Notarise{Document: document}}, types.Output{Value: 99, Lock: owner})
			ev := w.apply(tx)
			w.rise(30)
			data := w.file(w.prove(tx, ev, 30), 30).Encode()
			for b.Loop() {
				if _, err := VerifyFile(data, w.trust, &document); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)), "bytes")
		})
	}
}

// BenchmarkVerify verifies statements alone, under a trusted checkpoint, in trees of a few leaves.
func BenchmarkVerify(b *testing.B) {
	s := newScene(b)
	top := s.checkpoints[s.top]
	event, output, key, consistency := s.prove(s.notary, s.notarised, s.top), s.output(0), s.key(owner, 1), s.consistency(7, 30)
	for name, verify := range map[string]func() error{
		"event":       func() error { _, err := event.Verify(top); return err },
		"output":      func() error { _, err := output.Verify(top, 0); return err },
		"key":         func() error { _, err := key.Verify(top, owner); return err },
		"consistency": func() error { return consistency.Verify(s.checkpoints[7], top) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := verify(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestSizesAtThirtyLevels holds proofs to the sizes of spec/proofs.md, "Sizes", by construction: with
// as many hashes as trees of 2³⁰ leaves need (a trie of random paths: 30 levels, and some more for luck).
func TestSizesAtThirtyLevels(t *testing.T) {
	s := newScene(t)
	long := make(tlog.Path, 30)
	fill := func(n int) (p []types.Hash) {
		for i := range n {
			p = append(p, hashOf(fmt.Sprint(i)))
		}
		return p
	}
	event := s.prove(s.notary, s.notarised, 12)
	event.Path = long
	past := s.prove(s.notary, s.notarised, s.top)
	past.Path, past.Past.Path = long[:4], long
	output := s.output(0)
	output.Path = fill(30)
	key := s.key(owner, 1)
	key.Prefix = tlog.Frontier{}.Append(fill(1<<15 - 1)...) // fifteen subtrees: half of 30, as on average
	key.Path.Siblings = nil
	for i := range 36 {
		key.Path.Siblings = append(key.Path.Siblings, struct {
			Depth uint8
			Hash  types.Hash
		}{uint8(i), hashOf("sibling")})
	}
	for name, c := range map[string]struct {
		proof Statement
		limit int
	}{
		"event": {event, 2048}, "event in the history": {past, 2048}, "output": {output, 1228}, "key with its latest event": {key, 3072},
		"consistency": {&Consistency{Path: long, History: long[:30]}, 2048},
	} {
		n := len(c.proof.Encode())
		t.Logf("%s: %d bytes", name, n)
		if n > c.limit {
			t.Errorf("%s: %d bytes, want at most %d", name, n, c.limit)
		}
	}
}
