package sim

import "testing"

// TestScale wants the good case of spec/consensus.md, "Finality": with every message one delay
// under way, a leader's block is final three delays after it was sent, all else at four; whether
// peers have a core each or share it.
func TestScale(t *testing.T) {
	for _, places := range []int{12, 4} {
		r, err := Scale(t.Context(), ScaleConfig{Peers: 12, Heights: 20, Places: places, Even: 100, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if r.LeaderDelays != 3 || r.AllDelays != 4 || r.Empty > 0 || r.Messages != 11 {
			t.Errorf("%d places: %+v", places, r)
		}
	}
}
