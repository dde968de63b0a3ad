package consensus

import (
	"testing"

	"charter/types"
)

// Two peers whose shares are as their draws have equal quotients: the lower key goes first, whichever
// of them is numbered first.
func TestEqualDraws(t *testing.T) {
	seed, tried := types.Hash{1}, 0
	for h := uint64(1); h < 100; h++ {
		keys := []types.Key{{byte(h)}, {byte(h % 7)}}
		var shares []types.Amount
		for _, k := range keys {
			shares = append(shares, types.Amount(exponential(seed, h, k)))
		}
		if shares[0] > types.MaxSupply/2 || shares[1] > types.MaxSupply/2 || keys[0] == keys[1] {
			continue
		}
		tried++
		d := newDraw(seed, h, shares, shares[0]+shares[1], func(a int) types.Key { return keys[a] })
		lower := 0
		if keys[1][0] < keys[0][0] {
			lower = 1
		}
		if d.leader != lower || d.rank[lower] != 0 || d.rank[1-lower] != 1 {
			t.Errorf("height %d: %x and %x draw the same, and the ranks are %v", h, keys[0][0], keys[1][0], d.rank)
		}
	}
	if tried < 50 {
		t.Errorf("only %d equal draws", tried)
	}
}
