package store

import (
	"bytes"

	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"charter/types"
)

var (
	chain = types.Hash{0xc4}
	self  = types.Key{0x5e}
	other = types.Key{0x07}
)

// media are the file systems on which every test of behaviour runs.
func media(t *testing.T, f func(t *testing.T, dir string, fs *FS)) {
	t.Run("memory", func(t *testing.T) { f(t, "/peer", Memory()) })
	t.Run("disk", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "peer"), nil) })
}

func options(fs *FS) Options { return Options{Chain: chain, Peer: self, FS: fs, Cache: 1 << 20} }

func open(t testing.TB, dir string, fs *FS) *Store {
	t.Helper()
	return openWith(t, dir, options(fs))
}

func openWith(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// reopen closes a store and opens it again.
func reopen(t testing.TB, s *Store) *Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return openWith(t, s.dir, s.opts)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// block makes a block, by an author at a height, that differs by salt.
func block(author types.Key, height uint64, previous types.Hash, vote uint64, salt int) Block {
	b := types.Block{Height: height, Author: author, Previous: previous, Parent: types.Hash{1}, Time: types.Millis(salt)}
	payload := bytes.Repeat([]byte{byte(salt), byte(salt >> 8)}, salt%5*50)
	if b.PayloadBytes = uint32(len(payload)); len(payload) > 0 {
		b.Payload = types.Hash{2}
	}
	if vote > 0 {
		b.Checkpoint = types.CheckpointVote{Height: vote, Checkpoint: checkpointAt(vote)}
	}
	return Block{ID: b.ID(chain), Header: b.Encode(), Payload: payload, Meta: fmt.Appendf(nil, "meta %d", salt)}
}

func checkpointAt(height uint64) types.Hash { return types.Hash{0xcc, 31: byte(height)} }

// same compares blocks but for their sequence numbers.
func same(a, b Block) bool {
	return a.ID == b.ID && bytes.Equal(a.Header, b.Header) && bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Meta, b.Meta)
}

func TestBlocks(t *testing.T) {
	media(t, func(t *testing.T, dir string, fs *FS) {
		s := open(t, dir, fs)
		var all []Block
		for i := range 60 {
			all = append(all, block(types.Key{byte(i%4 + 1)}, uint64(20-i/4), types.Hash{}, 0, i)) // heights fall
		}
		check(t, s.PutBlocks(all[:20], false))
		check(t, s.PutBlocks(all[10:], true)) // ten of them again
		for range 2 {
			if got := s.NextSequence(); got != 61 {
				t.Fatalf("next sequence %d", got)
			}
			if h, err := s.Height(); err != nil || h != 20 {
				t.Fatalf("height %d, %v", h, err)
			}
			for i, want := range all {
				got, ok, err := s.Block(want.ID)
				if err != nil || !ok || !same(got, want) || got.Sequence != uint64(i+1) {
					t.Fatalf("block %d: %+v, %v, %v", i, got, ok, err)
				}
			}
			if ok, err := s.HasBlock(types.Hash{9}); ok || err != nil {
				t.Fatal(ok, err)
			}
			if _, ok, err := s.Block(types.Hash{9}); ok || err != nil {
				t.Fatal(ok, err)
			}
			if log, state := s.DiskBytes(); log == 0 || state == 0 {
				t.Fatal(log, state)
			}
			i := 30
			for b, err := range s.Arrived(31) {
				check(t, err)
				want := all[i]
				want.Payload = nil
				if !same(b, want) || b.Sequence != uint64(i+1) {
					t.Fatalf("arrived %d: %+v", i, b)
				}
				i++
			}
			if i != 60 {
				t.Fatalf("%d arrived", i)
			}
			var want []Block
			for i := 3; i >= 0; i-- { // heights 8 to 11, lowest first
				want = append(want, all[(20-11+i)*4:(20-11+i)*4+4]...)
			}
			compare(t, s, want, "heights", 8, 11)
			want = nil
			for i := 59; i >= 0; i-- {
				if i%4 == 2 && 20-i/4 >= 18 {
					want = append(want, all[i])
				}
			}
			n := 0
			for b, err := range s.BlocksOf(types.Key{3}, 18) {
				check(t, err)
				if !same(b, want[n]) {
					t.Fatalf("of author %d: %+v", n, b)
				}
				n++
			}
			if n != 3 {
				t.Fatalf("%d of author", n)
			}
			s = reopen(t, s)
		}
	})
}

func compare(t *testing.T, s *Store, want []Block, what string, from, to uint64) {
	t.Helper()
	n := 0
	for b, err := range s.Blocks(from, to) {
		check(t, err)
		if n >= len(want) || !same(b, want[n]) {
			t.Fatalf("%s %d: %+v", what, n, b)
		}
		n++
	}
	if n != len(want) {
		t.Fatalf("%d of %d %s", n, len(want), what)
	}
}

func TestSigning(t *testing.T) {
	media(t, func(t *testing.T, dir string, fs *FS) {
		s := open(t, dir, fs)
		first := block(self, 1, types.Hash{}, 0, 1)
		second := block(self, 4, first.ID, 2, 2)
		check(t, s.PutOwn(first))
		check(t, s.PutOwn(first))
		check(t, s.PutVote(2, checkpointAt(2)))
		check(t, s.PutOwn(second))
		check(t, s.PutVote(2, checkpointAt(2)))
		check(t, s.PutVote(5, checkpointAt(5)))
		check(t, s.PutVote(3, checkpointAt(3)))
		want := Signed{Count: 5, Height: 4, Block: second.ID, VoteHeight: 5, Vote: checkpointAt(5)}
		for range 2 {
			if got := s.Signed(); got != want {
				t.Fatalf("signed %v, want %v", got, want)
			}
			for _, h := range []uint64{2, 3, 5} {
				if v, ok, err := s.Vote(h); v != checkpointAt(h) || !ok || err != nil {
					t.Fatal(v, ok, err)
				}
			}
			if _, ok, err := s.Vote(4); ok || err != nil {
				t.Fatal(ok, err)
			}
			for what, err := range map[string]error{
				"same height":    s.PutOwn(block(self, 4, first.ID, 0, 3)),
				"lower height":   s.PutOwn(block(self, 3, first.ID, 0, 4)),
				"fork":           s.PutOwn(block(self, 5, first.ID, 0, 5)),
				"vote":           s.PutVote(3, checkpointAt(4)),
				"vote in block":  s.PutOwn(voting(block(self, 6, second.ID, 0, 6), second.ID, 5, checkpointAt(9))),
				"previous block": s.PutOwn(first),
			} {
				if !IsKind(err, SignedTwice) {
					t.Errorf("%s: %v", what, err)
				}
			}
			s = reopen(t, s)
		}
		check(t, s.PutOwn(block(self, 5, second.ID, 6, 7)))
	})
}

func voting(b Block, previous types.Hash, height uint64, checkpoint types.Hash) Block {
	h, err := types.DecodeBlock(b.Header)
	if err != nil {
		panic(err)
	}
	h.Previous, h.Checkpoint = previous, types.CheckpointVote{Height: height, Checkpoint: checkpoint}
	b.ID, b.Header = h.ID(chain), h.Encode()
	return b
}

func TestPool(t *testing.T) {
	media(t, func(t *testing.T, dir string, fs *FS) {
		s := open(t, dir, fs)
		var wait sync.WaitGroup
		for i := range 8 {
			wait.Go(func() {
				tx := func(j int) Waiting { return Waiting{types.Hash{byte(i), byte(j)}, []byte{byte(i), byte(j), 1}} }
				for j := 0; j < 8; j += 2 {
					check(t, s.PutPool(tx(j), tx(max(0, j-1)), tx(j), tx(j+1))) // some once more
				}
			})
		}
		wait.Wait()
		before, err := s.Pool()
		check(t, err)
		if len(before) != 64 {
			t.Fatalf("%d wait", len(before))
		}
		next := make(map[byte]byte)
		for _, w := range before { // each submitter's in its order
			if !bytes.Equal(w.Raw, []byte{w.ID[0], w.ID[1], 1}) || w.ID[1] != next[w.ID[0]] {
				t.Fatalf("%+v out of order", w)
			}
			next[w.ID[0]]++
		}
		check(t, s.PutPool(before[5]))
		check(t, s.DropPool(before[0].ID, before[7].ID, types.Hash{0xff}))
		s = reopen(t, s)
		check(t, s.PutPool(Waiting{types.Hash{0xaa}, []byte{5}}))
		s = reopen(t, s)
		after, err := s.Pool()
		check(t, err)
		want := slices.Concat(before[1:7], before[8:], []Waiting{{types.Hash{0xaa}, []byte{5}}})
		if !slices.EqualFunc(after, want, func(a, b Waiting) bool { return a.ID == b.ID && bytes.Equal(a.Raw, b.Raw) }) {
			t.Fatalf("waiting %v", after)
		}
	})
}
