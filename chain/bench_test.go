package chain

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"charter/types"
)

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// One payment is submitted to one of four peers, and becomes final at all of them: all that they
// do but for sockets and HTTP. Of the figures cpu-µs/op is the one to go by; divided by a thousand
// it is the processor's seconds for a thousand payments. Up to 65,536 payments.
func BenchmarkPayments(b *testing.B) {
	const peers, batch, window = 4, 64, 256 // of each peer
	w := newWorld(b, peers, (b.N+peers-1)/peers, types.LocalParams)
	w.dir = b.TempDir()
	txs := make([][][]byte, peers)
	at := make(map[types.Hash]int, b.N)
	for j := range b.N {
		raw := w.pay(j)
		tx, err := types.DecodeTransaction(raw)
		if err != nil {
			b.Fatal(err)
		}
		txs[j%peers] = append(txs[j%peers], raw)
		at[tx.ID(w.id)] = j % peers
	}
	for i := range peers {
		w.start(i)
	}
	done := make([]<-chan Update, peers)
	for i, c := range w.chains {
		done[i] = c.Updates(b.Context())
	}
	b.ReportAllocs()
	b.ResetTimer()
	began := cpu()
	var all sync.WaitGroup
	for i, c := range w.chains {
		room := make(chan struct{}, b.N+window)
		for range window {
			room <- struct{}{}
		}
		all.Go(func() {
			for left := b.N; left > 0; {
				for _, e := range (<-done[i]).Events {
					if e.Kind != types.Applied {
						continue
					}
					if left--; at[e.Transaction] == i {
						room <- struct{}{}
					}
				}
			}
		})
		all.Go(func() {
			for next := txs[i]; len(next) > 0; {
				n := min(batch, len(next))
				for range n {
					<-room
				}
				for _, a := range c.SubmitAll(b.Context(), next[:n]) {
					if a.Err != nil {
						b.Error(a.Err)
					}
				}
				next = next[n:]
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64((cpu()-began).Microseconds())/float64(b.N), "cpu-µs/op")
}
