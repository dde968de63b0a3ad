package store

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"charter/ledger"
	"charter/trie"
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

func benchStore(b *testing.B, w *world, dir string, cache int64) *Store {
	s, err := Open(dir, Options{Chain: w.chain, Peer: self, Cache: cache})
	check(b, err)
	b.Cleanup(func() { s.Close() })
	return s
}

// BenchmarkPutBlocks is one block of 4 KiB of payload, synced.
func BenchmarkPutBlocks(b *testing.B) {
	s := benchStore(b, newWorld(1, 1), filepath.Join(b.TempDir(), "peer"), DefaultCache)
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
			s := benchStore(b, w, filepath.Join(b.TempDir(), "peer"), DefaultCache)
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
	s := benchStore(b, w, filepath.Join(b.TempDir(), "peer"), DefaultCache)
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
	s := benchStore(b, w, dir, DefaultCache)
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

// cpu is the processor time that the process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rich starts a store with so many outputs, each under a lock of its own.
func (w *world) rich(b *testing.B, s *Store, outputs int) {
	w.start(b, s)
	w.coins = nil
	for len(w.coins) < outputs {
		bt := s.Begin()
		state := *bt.State()
		c := &ledger.Changes{Anchor: w.chain, Time: w.time, First: state.Outputs, Unspent: state.Unspent}
		for i := range min(20_000, outputs-len(w.coins)) {
			out := types.Output{Value: 1e9, Host: w.keys[w.rng.IntN(4)]}
			w.rngFill(out.Lock[:])
			in := types.Input{Position: c.First + uint64(i), Source: w.chain, Index: uint32(i), Output: out}
			c.Created = append(c.Created, types.OutputState{Output: out, Source: in.Source, Index: in.Index, BornTime: w.time})
			c.Keys = append(c.Keys, types.KeyEvent{Position: in.Position, Transaction: in.Source, Index: in.Index, Output: out, Time: w.time})
			c.Unspent += out.Value
			w.coins = append(w.coins, in)
		}
		state.Supply = c.Unspent
		peers := must(bt.Peers())
		for i := range peers {
			peers[i].Shares = c.Unspent
		}
		c.Peers = peers
		change(b, bt, &state, c)
		check(b, bt.Commit())
	}
	w.rng.Shuffle(len(w.coins), func(i, j int) { w.coins[i], w.coins[j] = w.coins[j], w.coins[i] })
}

func compact(b *testing.B, s *Store) uint64 {
	check(b, s.state.db.Flush())
	check(b, s.state.db.Compact(b.Context(), []byte{0}, []byte{255}, false))
	total := s.state.db.Metrics().Total() // of the tables: the engine's log is bounded
	return uint64(total.AggregateSize())
}

// BenchmarkPayments is heights of 1,000 payments, each to two new locks, of outputs taken at random from
// those there are: apply, trees, and the store's batch. (Wide of the caches, if they are so many.)
func BenchmarkPayments(b *testing.B) {
	for _, outputs := range []int{1e5, 1e6} {
		b.Run(fmt.Sprintf("outputs=%d", outputs), func(b *testing.B) {
			w := newWorld(1, 4)
			s := benchStore(b, w, filepath.Join(b.TempDir(), "peer"), DefaultCache)
			w.rich(b, s, outputs)
			before := compact(b, s)
			h, busy := uint64(0), time.Duration(0)
			for b.Loop() {
				h++
				b.StopTimer()
				batch := w.plain(h, 1000)
				at := cpu()
				b.StartTimer()
				w.apply(b, s, h, batch)
				busy += cpu() - at
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(h)/1000, "us/tx")
			b.ReportMetric(float64(busy.Microseconds())/float64(h)/1000, "cpu-us/tx")
			b.ReportMetric(float64(compact(b, s)-before)/float64(h)/1000, "B/tx")
		})
	}
}

// BenchmarkKeysTree is batches of 10,000 new values and 10,000 new paths on a keys tree of 10⁶, each durable
// when it ends: with the cache that a peer has, and with one that holds the tree.
func BenchmarkKeysTree(b *testing.B) {
	for _, cache := range []int64{DefaultCache, 5 * DefaultCache} {
		b.Run(fmt.Sprintf("cacheMB=%d", cache>>20), func(b *testing.B) { benchKeysTree(b, cache) })
	}
}

// BenchmarkReplay opens a store with as many changes in its records as there ever are, on a keys tree of that size.
func BenchmarkReplay(b *testing.B) {
	w := newWorld(1, 4)
	dir := filepath.Join(b.TempDir(), "peer")
	s := benchStore(b, w, dir, DefaultCache)
	for n := 0; n < turn; n += turn / 8 {
		bt := s.Begin()
		state := *s.state.head.ledger()
		state.Chain = w.chain
		var changes []trie.Change
		for range turn / 8 {
			var p trie.Path
			w.rngFill(p[:])
			changes = append(changes, trie.Change{Path: p, Value: types.Hash{2}})
		}
		res, err := trie.Update(bt.Trees().Keys, state.KeysRoot, changes)
		check(b, err)
		state.KeysRoot = res.Root
		check(b, bt.Add(&state, new(ledger.Changes), &ledger.Writes{Keys: res}))
		check(b, bt.Commit())
	}
	check(b, s.Close())
	at := cpu()
	for b.Loop() {
		s, err := Open(dir, s.opts)
		check(b, err)
		check(b, s.Close())
	}
	b.ReportMetric((cpu()-at).Seconds()/float64(b.N), "cpu-s/open")
}

func benchKeysTree(b *testing.B, cache int64) {
	w := newWorld(1, 4)
	s := benchStore(b, w, filepath.Join(b.TempDir(), "peer"), cache)
	var root types.Hash
	var paths []trie.Path
	var busy time.Duration
	write := func(updates, inserts int) {
		var changes []trie.Change
		for _, at := range w.rng.Perm(len(paths))[:updates] {
			changes = append(changes, trie.Change{Path: paths[at], Value: types.Hash{1, 3: byte(w.rng.Uint32()), 4: byte(w.rng.Uint32())}})
		}
		for range inserts {
			var p trie.Path
			w.rngFill(p[:])
			paths = append(paths, p)
			changes = append(changes, trie.Change{Path: p, Value: types.Hash{2}})
		}
		b.StartTimer()
		at := cpu()
		bt := s.Begin()
		res, err := trie.Update(bt.Trees().Keys, root, changes)
		check(b, err)
		check(b, bt.trees.add(&ledger.Writes{Keys: res}))
		check(b, bt.trees.close())
		bt.head.version++
		bt.trees.keep(bt.head.version, false)
		batch := s.state.db.NewBatch()
		check(b, s.state.writeBehind(batch, &bt.trees.record))
		check(b, s.state.commit(batch, true))
		s.state.head, root = bt.head, res.Root
		busy += cpu() - at
	}
	for len(paths) < 1e6 {
		write(0, 50_000)
	}
	n := 0
	busy = 0
	for b.Loop() {
		n++
		b.StopTimer()
		write(10_000, 10_000)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/20_000, "ns/operation")
	b.ReportMetric(float64(busy.Nanoseconds())/float64(n)/20_000, "cpu-ns/operation")
}
