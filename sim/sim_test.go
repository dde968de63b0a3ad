package sim

import (
	"fmt"
	"os"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	lo, hi := uint64(0), uint64(40)
	fmt.Sscanf(os.Getenv("SIM_SEEDS"), "%d..%d", &lo, &hi)
	for seed := lo; seed <= hi; seed++ {
		at := time.Now()
		r, err := Run(Config{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(seed, time.Since(at).Milliseconds(), "ms", r.Heights, r.Events, r.Drawn)
		if r.Violation != nil {
			t.Error(r.Violation)
		}
	}
}
