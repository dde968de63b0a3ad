package store

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"charter/ledger"
	"charter/types"
)

// payments prepares heights of n payments each, on a chain of its own in memory.
func payments(b *testing.B, w *world, heights, n int) (batches []*ledger.Batch) {
	m, _, err := ledger.NewMemory(w.genesis)
	check(b, err)
	for h := uint64(1); h <= uint64(heights); h++ {
		batch := w.plain(h, n)
		w.learn(m.Apply(batch))
		if h%snapshotEvery == 0 {
			m.TakeSnapshot(h)
		}
		batches = append(batches, batch)
	}
	return batches
}

// plain is a height of n payments, and nothing else.
func (w *world) plain(height uint64, n int) *ledger.Batch {
	w.time++
	b := &ledger.Batch{Height: height, Anchor: types.Hash{1, 2: byte(height)}, Time: w.time}
	for range n {
		in := w.coins[0]
		w.coins = w.coins[1:]
		tx := &types.Transaction{ValidUntil: types.MaxTime, Inputs: []types.Input{in}, Fee: 1}
		w.rngFill(tx.Salt[:])
		for _, v := range []types.Amount{in.Output.Value / 2, in.Output.Value - in.Output.Value/2 - 1} {
			var lock types.Key
			w.rngFill(lock[:]) // a key for each receipt
			tx.Outputs = append(tx.Outputs, types.Output{Value: v, Lock: lock, Host: w.keys[w.rng.IntN(4)]})
		}
		b.Transactions = append(b.Transactions, ledger.Ordered{Tx: tx, ID: tx.ID(w.chain), Block: types.Hash{3, byte(height)}, Author: w.keys[w.rng.IntN(4)]})
	}
	return b
}

func (w *world) rngFill(b []byte) {
	for i := range b {
		b[i] = byte(w.rng.Uint32())
	}
}

func benchStore(b *testing.B, w *world, dir string) *Store {
	s, err := Open(dir, Options{Chain: w.chain, Peer: self})
	check(b, err)
	b.Cleanup(func() { s.Close() })
	return s
}

// BenchmarkPutBlocks is one block of 4 KiB of payload, synced.
func BenchmarkPutBlocks(b *testing.B) {
	s := benchStore(b, newWorld(1, 1), filepath.Join(b.TempDir(), "peer"))
	i := 0
	for b.Loop() {
		blk := block(other, uint64(i+1), types.Hash{}, 0, i)
		blk.Payload = make([]byte, 4<<10)
		check(b, s.PutBlocks([]Block{blk}, true))
		i++
	}
}

// BenchmarkPutOwn is an own block with a vote: two syncs, one after the other. With it, in another
// row, the ledger applies heights of 1,000 payments meanwhile.
func BenchmarkPutOwn(b *testing.B) {
	for _, busy := range []bool{false, true} {
		b.Run(fmt.Sprintf("busy=%v", busy), func(b *testing.B) {
			w := newWorld(1, 4000)
			batches := payments(b, w, 20, 1000)
			s := benchStore(b, w, filepath.Join(b.TempDir(), "peer"))
			w.start(b, s)
			stop, done := make(chan bool), make(chan bool)
			go func() {
				defer close(done)
				for h := 0; busy && h < len(batches); h++ {
					select {
					case <-stop:
						return
					default:
						w.apply(b, s, uint64(h+1), batches[h])
					}
				}
			}()
			var previous types.Hash
			var worst time.Duration
			height := uint64(0)
			for b.Loop() {
				height++
				blk := block(self, height, previous, height, int(height))
				start := time.Now()
				check(b, s.PutOwn(blk))
				worst = max(worst, time.Since(start))
				previous = blk.ID
			}
			b.ReportMetric(float64(worst.Microseconds()), "worst-us")
			close(stop)
			<-done
		})
	}
}

// BenchmarkApply is a height of 1,000 payments: apply, trees, commit.
func BenchmarkApply(b *testing.B) {
	w := newWorld(1, 4000)
	batches := payments(b, w, 100, 1000)
	s := benchStore(b, w, filepath.Join(b.TempDir(), "peer"))
	w.start(b, s)
	h, apply, commit, add := 0, time.Duration(0), time.Duration(0), time.Duration(0)
	for b.Loop() {
		if h == len(batches) {
			break
		}
		at := time.Now()
		bt := s.Begin()
		c, err := ledger.Apply(bt, bt.State(), batches[h])
		check(b, err)
		apply, at = apply+time.Since(at), time.Now()
		state, writes, err := ledger.Commit(bt.State(), c, bt.Trees())
		check(b, err)
		commit, at = commit+time.Since(at), time.Now()
		check(b, bt.Add(state, c, writes))
		h++
		w.finish(b, bt, uint64(h), batches[h-1].Anchor)
		add += time.Since(at)
	}
	for what, d := range map[string]time.Duration{"apply": apply, "trees": commit, "write": add} {
		b.ReportMetric(float64(d.Microseconds())/float64(h)/1000, what+"-us/tx")
	}
}

// BenchmarkResume opens a store of 100,000 final payments, with their blocks, and reads what a restart
// needs. (Closing writes out no more than a sync does, so kill -9 leaves as much to do.) It reports the
// bytes that a payment costs, and what the last tenth of them took to apply.
func BenchmarkResume(b *testing.B) {
	const heights, n = 500, 200
	w := newWorld(1, 4000)
	batches := payments(b, w, heights, n)
	dir := filepath.Join(b.TempDir(), "peer")
	s := benchStore(b, w, dir)
	w.start(b, s)
	var late time.Duration
	for i, batch := range batches {
		var raw [][]byte
		for _, tx := range batch.Transactions {
			raw = append(raw, tx.Tx.Encode())
		}
		blk := block(other, uint64(i+1), types.Hash{}, 0, i)
		blk.Payload = types.EncodePayload(raw)
		check(b, s.PutBlocks([]Block{blk}, true))
		at := time.Now()
		w.apply(b, s, uint64(i+1), batch)
		if i >= heights*9/10 {
			late += time.Since(at)
		}
	}
	if v := s.View(); v.EventCount() < heights*n || must(v.Event(batches[heights-1].Transactions[n-1].ID)).Kind != types.Applied {
		b.Fatal("payments were not applied")
	}
	check(b, s.Close())
	log, state := size(b, filepath.Join(dir, "log")), size(b, filepath.Join(dir, "state"))
	again := dir + " copy"
	for b.Loop() {
		b.StopTimer() // opening moves what is in the write-ahead logs to tables, so each time needs a copy
		check(b, os.RemoveAll(again))
		check(b, os.CopyFS(again, os.DirFS(dir)))
		b.StartTimer()
		s, err := Open(again, s.opts)
		check(b, err)
		if h, ok := s.View().Height(); !ok || h != heights {
			b.Fatal(h, ok)
		}
		for _, err := range s.Arrived(0) {
			check(b, err)
		}
		check(b, s.Close())
	}
	b.ReportMetric(float64(late.Microseconds())/(heights/10*n), "late-apply-us/tx")
	b.ReportMetric(float64(log)/heights/n, "log-B/tx")
	b.ReportMetric(float64(state)/heights/n, "state-B/tx")
}

func size(b *testing.B, dir string) (total int64) {
	check(b, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			info, err := e.Info()
			check(b, err)
			total += info.Size()
		}
		return err
	}))
	return total
}
