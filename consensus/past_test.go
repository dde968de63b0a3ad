package consensus

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"charter/types"
)

func samplePast() *Past {
	return &Past{
		Decided: 70, Decisions: types.Hash{1}, Run: Run{Number: 1, Start: 64, Seed: types.Hash{2}, Snapshot: 8, Closer: types.Hash{3}},
		Closing: &Run{Number: 2, Start: 72, Seed: types.Hash{4}, Closer: types.Hash{5}},
		Tips: []Tip{
			{Author: letterKey('a'), Height: 71, ID: types.Hash{6}},
			{Author: letterKey('b'), Height: 3, ID: types.Hash{7}, Forked: true},
		},
	}
}

func TestPastEncoding(t *testing.T) {
	for _, p := range []*Past{samplePast(), {Run: FirstRun(types.Hash{9})}} {
		again, err := DecodePast(p.Encode())
		if err != nil || !reflect.DeepEqual(p, again) {
			t.Errorf("decoded again it is %+v (%v), and was %+v", again, err, p)
		}
	}
	for what, spoil := range map[string]func(*Past){
		"authors out of order": func(p *Past) { p.Tips[0], p.Tips[1] = p.Tips[1], p.Tips[0] },
		"an author twice":      func(p *Past) { p.Tips[1].Author = p.Tips[0].Author },
		"a tip of height 0":    func(p *Past) { p.Tips[0].Height = 0 },
		"a tip too high":       func(p *Past) { p.Tips[0].Height = types.MaxHeight + 1 },
	} {
		p := samplePast()
		spoil(p)
		var bad *types.DecodeError
		if _, err := DecodePast(p.Encode()); !errors.As(err, &bad) || bad.Kind != types.NotCanonical {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Every field of a past is under its digest.
func TestPastDigest(t *testing.T) {
	seen := map[types.Hash]string{samplePast().Digest(): "the sample"}
	for what, change := range map[string]func(*Past){
		"decided":         func(p *Past) { p.Decided++ },
		"decisions":       func(p *Past) { p.Decisions[4]++ },
		"the run":         func(p *Past) { p.Run.Seed[4]++ },
		"the closing run": func(p *Past) { p.Closing.Snapshot++ },
		"no closing run":  func(p *Past) { p.Closing = nil },
		"a tip":           func(p *Past) { p.Tips[0].ID[3]++ },
		"no tip":          func(p *Past) { p.Tips = p.Tips[:1] },
		"a fork":          func(p *Past) { p.Tips[0].Forked = true },
	} {
		p := samplePast()
		change(p)
		if was, twice := seen[p.Digest()]; twice {
			t.Errorf("a change of %s gives the digest of %s", what, was)
		}
		seen[p.Digest()] = what
	}
}

func FuzzDecodePast(f *testing.F) {
	f.Add(samplePast().Encode())
	f.Add((&Past{}).Encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := DecodePast(data)
		if err == nil && !bytes.Equal(p.Encode(), data) {
			t.Fatalf("%x is read, and written as %x", data, p.Encode())
		}
	})
}
