package store

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"charter/types"
)

// files is a directory's files, by name.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := make(map[string][]byte)
	check(t, filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel := must(filepath.Rel(dir, path))
		all[rel] = must(os.ReadFile(path))
		return nil
	}))
	return all
}

func restore(t *testing.T, dir string, all map[string][]byte) {
	t.Helper()
	check(t, os.RemoveAll(dir))
	for name, data := range all {
		check(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		check(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
}

// part is the files whose names start so.
func part(all map[string][]byte, prefix string) map[string][]byte {
	some := make(map[string][]byte)
	for name, data := range all {
		if strings.HasPrefix(name, prefix) {
			some[name] = data
		}
	}
	return some
}

// damage changes the files that match.
func damage(t *testing.T, dir, pattern string, f func([]byte) []byte) {
	t.Helper()
	names := must(filepath.Glob(filepath.Join(dir, pattern)))
	if len(names) == 0 {
		t.Fatalf("no %s", pattern)
	}
	for _, name := range names {
		check(t, os.WriteFile(name, f(must(os.ReadFile(name))), 0o600))
	}
}

func garbled(b []byte) []byte {
	for i := range b {
		b[i] ^= 0x5a
	}
	return b
}

// TestRefusals spoils a good store in one way per row, and names the kind of the error.
func TestRefusals(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "peer")
	w := newWorld(1, 10)
	good := options(nil)
	good.Chain = w.chain
	s := openWith(t, dir, good)
	w.start(t, s)
	first := block(self, 1, types.Hash{}, 0, 1)
	second := block(self, 2, first.ID, 2, 2)
	third := block(self, 3, second.ID, 3, 3)
	check(t, s.PutOwn(first))
	check(t, s.PutBlocks([]Block{block(other, 1, types.Hash{}, 0, 4)}, true))
	for h := uint64(1); h < 4; h++ {
		w.learn(w.apply(t, s, h, w.batch(h, 8)))
	}
	check(t, s.Close())
	old := files(t, dir)
	s = openWith(t, dir, good)
	check(t, s.PutOwn(second))
	check(t, s.Close())
	older := files(t, dir)
	s = openWith(t, dir, good)
	check(t, s.PutOwn(third))
	check(t, s.Close())
	now := files(t, dir)
	seen := make(map[Kind]bool)

	for _, row := range []struct {
		what  string
		kind  Kind
		spoil func(*Options)
	}{
		{"nothing", 0, func(*Options) {}},
		{"state deleted", 0, func(*Options) { check(t, os.RemoveAll(filepath.Join(dir, "state"))) }},
		{"crash before the second copy", 0, func(*Options) { check(t, os.WriteFile(filepath.Join(dir, "signed"), older["signed"], 0o600)) }},
		{"another chain", WrongChain, func(o *Options) { o.Chain[5] ^= 1 }},
		{"another peer", WrongPeer, func(o *Options) { o.Peer[5] ^= 1 }},
		{"future format", UnknownFormat, func(*Options) {
			damage(t, dir, "STORE", func(b []byte) []byte {
				return append(bytes.Replace(b, []byte("format 3"), []byte("format 4"), 1), "more\n"...)
			})
		}},
		{"format of old", UnknownFormat, func(*Options) {
			damage(t, dir, "STORE", func(b []byte) []byte { return bytes.Replace(b, []byte("format 3"), []byte("format 2"), 1) })
		}},
		{"STORE garbled", Damaged, func(*Options) { damage(t, dir, "STORE", garbled) }},
		{"STORE longer", Damaged, func(*Options) { damage(t, dir, "STORE", func(b []byte) []byte { return append(b, '\n') }) }},
		{"STORE deleted", Damaged, func(*Options) { check(t, os.Remove(filepath.Join(dir, "STORE"))) }},
		{"other files", NotAStore, func(*Options) {
			restore(t, dir, map[string][]byte{"letter.txt": []byte("dear"), "log/x": nil})
		}},
		{"signed deleted", MustNotSign, func(*Options) { check(t, os.Remove(filepath.Join(dir, "signed"))) }},
		{"signed garbled", MustNotSign, func(*Options) { damage(t, dir, "signed", garbled) }},
		{"signed emptied", MustNotSign, func(*Options) { damage(t, dir, "signed", func([]byte) []byte { return nil }) }},
		{"signed of two signatures ago", MustNotSign, func(*Options) { check(t, os.WriteFile(filepath.Join(dir, "signed"), old["signed"], 0o600)) }},
		{"log put back from an old copy", MustNotSign, func(*Options) {
			all := part(older, "log")
			all["signed"], all["STORE"] = now["signed"], now["STORE"]
			restore(t, dir, all)
		}},
		{"log deleted", MustNotSign, func(*Options) {
			check(t, errors.Join(os.RemoveAll(filepath.Join(dir, "log")), os.RemoveAll(filepath.Join(dir, "state"))))
		}},
		{"all but signed deleted", MustNotSign, func(*Options) { restore(t, dir, part(now, "signed")) }},
		{"state newer than the log", Damaged, func(*Options) {
			s := must(Open(filepath.Join(base, "fresh"), Options{Chain: good.Chain, Peer: self}))
			check(t, s.Close())
			all := files(t, s.dir)
			for name, data := range part(now, "state") {
				all[name] = data
			}
			restore(t, dir, all)
		}},
		{"log's manifest garbled", Damaged, func(*Options) { damage(t, dir, "log/MANIFEST*", garbled) }},
		{"log's manifest deleted", Damaged, func(*Options) {
			for _, name := range must(filepath.Glob(filepath.Join(dir, "log/MANIFEST*"))) {
				check(t, os.Remove(name))
			}
		}},
		{"log's tables deleted", Damaged, func(*Options) {
			for _, name := range must(filepath.Glob(filepath.Join(dir, "log/*.sst"))) {
				check(t, os.Remove(name))
			}
		}},
		{"state's tables garbled", Damaged, func(*Options) { damage(t, dir, "state/*.sst", garbled) }},
		{"log's tables garbled", Damaged, func(*Options) { damage(t, dir, "log/*.sst", garbled) }},
	} {
		restore(t, dir, now)
		o := good
		row.spoil(&o)
		s, err := Open(dir, o)
		if err == nil {
			check(t, s.Close())
		}
		if row.kind == 0 && err != nil || row.kind != 0 && !IsKind(err, row.kind) {
			t.Errorf("%s: got %v, want kind %q", row.what, err, row.kind)
		}
		if err != nil && (!strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "What to do: ")) {
			t.Errorf("%s: %v does not say where, or what to do", row.what, err)
		}
		seen[row.kind] = true
	}
	for _, k := range []Kind{InUse, SignedTwice, Stopped, Importing, HasState, Unfit, NotKept, NoChunk, TooLarge} {
		seen[k] = true // they have tests of their own
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("no row for kind %q", k)
		}
	}
}

// TestInUse opens a store that is open, here and in another process.
func TestInUse(t *testing.T) {
	media(t, func(t *testing.T, dir string, fs *FS) {
		s := open(t, dir, fs)
		if _, err := Open(dir, options(fs)); !IsKind(err, InUse) {
			t.Error(err)
		}
		check(t, s.PutVote(1, checkpointAt(1))) // it goes on
		reopen(t, s)
	})
	dir := os.Getenv("STORE_IN_USE")
	if dir != "" { // the other process
		_, err := Open(dir, options(nil))
		if !IsKind(err, InUse) {
			t.Errorf("in another process: %v", err)
		}
		return
	}
	s := open(t, filepath.Join(t.TempDir(), "peer"), nil)
	cmd := exec.Command(os.Args[0], "-test.run=TestInUse$")
	cmd.Env = append(os.Environ(), "STORE_IN_USE="+s.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestForeignSignature: a block by the peer that it has not made here shows that its key signs
// elsewhere, or did before this directory was.
func TestForeignSignature(t *testing.T) {
	media(t, func(t *testing.T, dir string, fs *FS) {
		s := open(t, dir, fs)
		first := block(self, 1, types.Hash{}, 0, 1)
		check(t, s.PutOwn(first))
		check(t, s.PutBlocks([]Block{first}, true)) // its own, come back
		check(t, s.PutVote(1, checkpointAt(1)))
		check(t, s.PutBlocks([]Block{block(self, 5, types.Hash{}, 0, 2)}, true))
		if err := s.PutOwn(block(self, 6, first.ID, 0, 3)); !IsKind(err, MustNotSign) {
			t.Error(err)
		}
		if err := s.PutVote(2, checkpointAt(2)); !IsKind(err, MustNotSign) {
			t.Error(err)
		}
		check(t, s.Close())
		if _, err := Open(dir, options(fs)); !IsKind(err, MustNotSign) {
			t.Error(err)
		}
	})
}

func FuzzDecoders(f *testing.F) {
	f.Add(Signed{Count: 3, Height: 4, Block: types.Hash{1}}.encode())
	f.Add(keyEntry{spent: true, position: 3, event: 4, index: 5}.encode())
	f.Add(keyEntry{position: 3}.encode())
	b := block(self, 1, types.Hash{}, 0, 1)
	e := types.NewEncoder(nil)
	e.Hash(b.ID)
	e.Bytes(b.Header)
	e.Bytes(b.Meta)
	f.Add(e.Data())
	e = types.NewEncoder(nil)
	e.Hash(types.Hash{1})
	e.Bytes([]byte{1, 2})
	f.Add(e.Data())
	w := newWorld(1, 3)
	s := must(Open("/peer", Options{Chain: w.chain, FS: Memory()}))
	w.start(f, s)
	f.Add(s.state.head.encode())
	for _, k := range []string{"c\x00\x00\x00\x00\x00\x00\x00\x00", "d\x00\x00\x00\x00\x00\x00\x00\x00"} {
		f.Add(must(get(s.state.db, []byte(k))))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		back := func(what string, got []byte, err error) {
			if err == nil && !bytes.Equal(got, data) {
				t.Errorf("%s: %x decodes, and encodes as %x", what, data, got)
			}
			if err != nil && !errors.As(err, new(*types.DecodeError)) {
				t.Errorf("%s: %v is no DecodeError", what, err)
			}
		}
		r, err := decodeSigned(data)
		back("record", r.encode(), err)
		k, err := decodeKeyEntry(data)
		back("key entry", k.encode(), err)
		if h, err := decodeHead(data); err == nil {
			back("head", h.encode(), err)
		}
		b, err := decodeBlock(1, data)
		back("block", encodeBlock(&b), err)
		x, err := decodeWaiting(data)
		back("waiting", x.encode(), err)
		d, err := decodeDecided(data)
		back("decided", d.encode(), err)
		c, err := decodeCheckpoint(data)
		back("checkpoint", c.encode(), err)
		decodeNumber(data)
		decodeHash(data)
		decodeFrontier(data)
	})
}
