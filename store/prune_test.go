package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"charter/types"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// grownLog has blocks of two authors at each height, the own ones up to some height only.
func grownLog(t testing.TB, s *Store, heights, own uint64) (blocks []Block) {
	var last types.Hash
	for h := uint64(1); h <= heights; h++ {
		blocks = append(blocks, block(other, h, types.Hash{}, 0, int(h)))
	}
	check(t, s.PutBlocks(blocks, false))
	for h := uint64(1); h <= own; h += 50 {
		b := block(self, h, last, 0, int(h)+1)
		check(t, s.PutOwn(b))
		blocks, last = append(blocks, b), b.ID
	}
	return blocks
}

// pruneAll lets go of all that can go.
func pruneAll(t testing.TB, s *Store, below uint64) (pruned int) {
	for more := true; more; {
		n, again, err := s.Prune(below)
		check(t, err)
		pruned, more = pruned+n, again
	}
	return pruned
}

// keptAsSaid checks that all blocks from the lowest height on are there, and those below, if all is
// pruned, are not, but for the last that was signed.
func keptAsSaid(t testing.TB, s *Store, blocks []Block, all bool) {
	t.Helper()
	low, last := s.Lowest(), s.Signed().Block
	for _, b := range blocks {
		h := headOf(&b)
		got, ok, err := s.Block(b.ID)
		switch {
		case err != nil:
			t.Fatalf("block of height %d: %v", h.Height, err)
		case h.Height >= low || b.ID == last:
			if !ok || !same(got, b) {
				t.Fatalf("the block of height %d by %s is not as it was (there: %t); blocks are kept from %d on", h.Height, h.Author.Short(), ok, low)
			}
		case ok && all:
			t.Fatalf("the block of height %d by %s is there; blocks are kept from %d on", h.Height, h.Author.Short(), low)
		}
	}
	n := 0
	for b, err := range s.Blocks(0, types.MaxHeight) {
		check(t, err)
		if h := headOf(&b); all && h.Height < low && b.ID != last {
			t.Fatalf("height %d is still listed", h.Height)
		}
		n++
	}
	if n == 0 {
		t.Fatal("nothing is kept")
	}
}

func TestPrune(t *testing.T) {
	w := newWorld(1, 4)
	opts := Options{Chain: w.chain, Peer: self, FS: Memory(), Cache: 1 << 20}
	s := must(Open("/d/peer", opts))
	w.start(t, s)
	blocks := grownLog(t, s, 3000, 700)
	if s.Lowest() != 0 {
		t.Errorf("kept from %d on", s.Lowest())
	}
	if n := pruneAll(t, s, 1000); n != 999+13 || s.Lowest() != 1000 {
		t.Errorf("%d blocks went, kept from %d on", n, s.Lowest())
	}
	keptAsSaid(t, s, blocks, true)
	if n := pruneAll(t, s, 500); n != 0 || s.Lowest() != 1000 {
		t.Errorf("below what went before: %d blocks, kept from %d on", n, s.Lowest())
	}
	check(t, s.Close())
	s = must(Open("/d/peer", opts))
	defer s.Close()
	keptAsSaid(t, s, blocks, true)
	if n := pruneAll(t, s, 2000); n != 1000 {
		t.Errorf("%d blocks went", n)
	}
	keptAsSaid(t, s, blocks, true)
	b := block(self, 3001, s.Signed().Block, 0, 5)
	check(t, s.PutOwn(b))
	keptAsSaid(t, s, append(blocks, b), false)
}

// Whenever a crash comes, what is said to be kept is there, and what was signed last.
func TestPruneCrash(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 3))
		mem := newMemory(t)
		w := newWorld(seed, 4)
		opts := Options{Chain: w.chain, Peer: self, FS: &FS{mem}, Cache: 1 << 20}
		s := must(Open("/d/peer", opts))
		w.start(t, s)
		blocks := grownLog(t, s, 1500, 1500)
		check(t, s.PutVote(1, types.Hash{1})) // syncs all
		for range 1 + rng.IntN(3) {
			_, _, err := s.Prune(200 + rng.Uint64N(1200))
			check(t, err)
		}
		opts.FS = &FS{mem.MemFS.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})}
		check(t, s.Close())
		s = must(Open("/d/peer", opts))
		keptAsSaid(t, s, blocks, false)
		pruneAll(t, s, s.Lowest())
		keptAsSaid(t, s, blocks, true)
		check(t, s.Close())
	}
}

// BenchmarkLogDisk is what blocks take on the disk, with 25 payments of 372 bytes each, by so many
// peers, after compaction; and what is left when all but the last hundredth went.
func BenchmarkLogDisk(b *testing.B) {
	for _, peers := range []int{4, 100} {
		b.Run(fmt.Sprintf("peers=%d", peers), func(b *testing.B) {
			s := benchStore(b, newWorld(1, 1), filepath.Join(b.TempDir(), "peer"), DefaultCache)
			rng := rand.NewChaCha8([32]byte{1})
			fresh := func(n int) []byte {
				d := make([]byte, n)
				rng.Read(d)
				return d
			}
			n := 0
			for h := uint64(1); n < b.N; h++ {
				for p := 0; p < peers && n < b.N; p++ {
					x := types.Block{Height: h, Author: types.Key{byte(p), 1}, Previous: types.Hash(fresh(32)), Parent: types.Hash{0xff}, Payload: types.Hash(fresh(32)), Time: 1e12}
					for i := range peers - 1 {
						m := types.Hash(fresh(32))
						m[0] = byte(i)
						x.Merges = append(x.Merges, m)
					}
					copy(x.Signature[:], fresh(64))
					blk := Block{ID: x.ID(chain), Payload: fresh(25*(372+4) + 4), Meta: fresh(216 + 73*peers)}
					x.PayloadBytes = uint32(len(blk.Payload))
					blk.Header = x.Encode()
					check(b, s.PutBlocks([]Block{blk}, n == b.N-1))
					n++
				}
			}
			measure := func() float64 {
				check(b, s.log.db.Compact(b.Context(), []byte{0}, []byte{255}, false))
				size, err := s.log.db.EstimateDiskUsage([]byte{0}, []byte{255})
				check(b, err)
				return float64(size) / float64(n)
			}
			check(b, s.log.db.Flush())
			b.ReportMetric(measure(), "B/block")
			pruneAll(b, s, uint64(n/peers)*99/100)
			check(b, s.log.db.Flush())
			b.ReportMetric(measure(), "B/block-pruned")
		})
	}
}
