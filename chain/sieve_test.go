package chain

import (
	"math/rand/v2"
	"testing"

	"charter/ledger"
	"charter/types"
)

// What was ordered is never absent, whenever it was, and nearly all that was not is.
func TestSieve(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	draw := func() (id types.Hash) {
		for i := range id {
			id[i] = byte(rng.Uint32())
		}
		return id
	}
	var s sieve
	var all []types.Hash
	order := func(n int) {
		ch := new(ledger.Changes)
		for range n {
			ch.Events = append(ch.Events, types.Event{Transaction: draw()})
			all = append(all, ch.Events[len(ch.Events)-1].Transaction)
		}
		s.take(ch)
	}
	check := func(stage string, knows bool) {
		t.Helper()
		for _, id := range all {
			if s.absent(id) {
				t.Fatalf("%s: one that was ordered is absent", stage)
			}
		}
		const asked = 20_000
		absent := 0
		for range asked {
			if s.absent(draw()) {
				absent++
			}
		}
		if !knows && absent > 0 || knows && absent < asked*97/100 {
			t.Errorf("%s: %d of %d are absent", stage, absent, asked)
		}
	}
	order(1000)
	check("before it is made", false)
	if !s.begin(uint64(len(all))) || s.begin(uint64(len(all))) {
		t.Fatal("it is not made once")
	}
	before := len(all)
	order(500) // meanwhile
	s.put(all[:600])
	check("half made", false)
	s.put(all[600:before])
	s.done()
	check("made", true)
	for s.full.ids <= s.full.room {
		if s.begin(uint64(len(all))) {
			t.Fatal("it is made anew, and has room")
		}
		order(5000)
	}
	if !s.begin(uint64(len(all))) {
		t.Fatal("it is full")
	}
	before = len(all)
	order(3000)
	check("full", true)
	s.put(all[:before])
	s.done()
	check("made anew", true)
	if s.full.ids > s.full.room {
		t.Errorf("%d ids, and room for %d", s.full.ids, s.full.room)
	}
}
