package gossip

import (
	"testing"
	"time"

	"charter/types"
)

// A block goes to another peer, which answers with one that names it: two message delays.
func BenchmarkPushRoundTrip(b *testing.B) {
	nodes := network(b, 2)
	var named []types.Hash
	h := uint64(0)
	for b.Loop() {
		for _, nd := range nodes {
			h++
			x := makeBlock(nd.n, h, named, nil)
			named = []types.Hash{idOf(x)}
			nd.chain.enter(x)
			nd.Broadcast(x)
			other := nodes[0].chain
			if nd == nodes[0] {
				other = nodes[1].chain
			}
			for !other.has(named...) {
				time.Sleep(5 * time.Microsecond)
			}
		}
	}
}

func BenchmarkForward(b *testing.B) {
	nodes := network(b, 2)
	results := make(chan error, forwardCount)
	raw := make([]byte, 300)
	waiting := 0
	for b.Loop() {
		if waiting == 1000 {
			if err := <-results; err != nil {
				b.Fatal(err)
			}
			waiting--
		}
		nodes[0].Forward(raw, keyOf(2), func(err error) { results <- err })
		waiting++
	}
	for range waiting {
		<-results
	}
}

func BenchmarkCatchUp(b *testing.B) {
	past := history(4, 5000, 1000)
	size := 0
	for _, x := range past {
		size += x.Size()
	}
	full := newFakeChain()
	full.enter(past...)
	source := start(b, 1, full)
	b.SetBytes(int64(size))
	for i := 0; b.Loop(); i++ {
		late := start(b, 2+i, newFakeChain())
		know(source, late)
		for top := uint64(0); top < 5000; top, _ = late.chain.Heights() {
			time.Sleep(time.Millisecond)
		}
		late.stop()
	}
	b.ReportMetric(float64(b.N*len(past))/b.Elapsed().Seconds(), "blocks/s")
}
