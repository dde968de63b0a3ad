package agent

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/transparency-dev/formats/log"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	sumdb "golang.org/x/mod/sumdb/tlog"

	"charter/chain"
	"charter/sig"
	"charter/tlog"
	"charter/types"
)

// past is the history that a fake chain has before its newest certified checkpoint.
type past struct {
	ids   []types.Hash
	nodes tlog.Memory
}

func (p *past) HistoryNodes(level uint8, first uint64, count int) (out []types.Hash, err error) {
	if have := uint64(len(p.ids)) >> level; first > have || uint64(count) > have-first {
		return nil, &chain.Error{Kind: chain.NotFound, Text: "no such node"}
	}
	for i := range uint64(count) {
		h, err := p.nodes.Node(level, first+i)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (p *past) HistoryEntries(first uint64, count int) ([]types.Hash, error) {
	if _, err := p.HistoryNodes(0, first, count); err != nil {
		return nil, err
	}
	return p.ids[first:][:count], nil
}

// grow adds n checkpoints to a world's history and certifies one above them.
func (w *world) grow(t *testing.T, n int) {
	var leaves []types.Hash
	size := uint64(len(w.ids))
	for i := range n {
		id := hash(int(size) + i)
		w.ids, leaves = append(w.ids, id), append(leaves, tlog.LeafHash(id[:]))
	}
	res, err := tlog.Append(&w.nodes, size, leaves)
	if err != nil {
		t.Fatal(err)
	}
	w.nodes.Apply(res.Writes)
	w.certified = &chain.Certified{Checkpoint: &types.Checkpoint{Chain: w.genesis.ChainID(), Height: res.Size, HistorySize: res.Size, HistoryRoot: res.Root}}
}

func logSecret(t *testing.T) *sig.PrivateKey {
	k, err := sig.ParsePrivateKey(sha256.Sum256([]byte("log test")))
	if err != nil {
		t.Fatal(err)
	}
	return &k
}

// reader is a client of the public log that has no code of ours: sumdb's tiles, over HTTP.
type reader struct {
	t    *testing.T
	get  func(path string) ([]byte, int)
	read int // tiles
}

func (r *reader) Height() int { return 8 }

func (r *reader) SaveTiles([]sumdb.Tile, [][]byte) {}

func (r *reader) ReadTiles(tiles []sumdb.Tile) (out [][]byte, err error) {
	for _, tile := range tiles {
		path := "/log/tile/" + strings.TrimPrefix(tile.Path(), "tile/8/") // tlog-tiles leaves the height out: it is 8
		body, status := r.get(path)
		if status != http.StatusOK || len(body) != sumdb.HashSize*tile.W {
			return nil, fmt.Errorf("%s: status %d, %d bytes, want %d hashes", path, status, len(body), tile.W)
		}
		r.read++
		out = append(out, body)
	}
	return out, nil
}

func (s *setup) read(t *testing.T) func(path string) ([]byte, int) {
	return func(path string) ([]byte, int) {
		t.Helper()
		resp, err := s.http.Get(s.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return body, resp.StatusCode
	}
}

// head reads the checkpoint of the log as transparency-dev/formats does, by the key that the peer signs for.
func head(t *testing.T, g *types.Genesis, get func(string) ([]byte, int)) *log.Checkpoint {
	t.Helper()
	body, _ := get("/log/key")
	lines := strings.Split(string(body), "\n")
	if len(lines) != 4 {
		t.Fatalf("key: %q", body)
	}
	verifier, err := note.NewVerifier(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	var peer types.Key
	var signature types.Signature
	public, err := base64.StdEncoding.DecodeString(strings.SplitN(lines[0], "+", 3)[2])
	if err != nil || peer.UnmarshalText([]byte(lines[1])) != nil || signature.UnmarshalText([]byte(lines[2])) != nil {
		t.Fatalf("key: %q: %v", body, err)
	}
	if err := sig.Verify(peer, LogKeyDigest(g.ChainID(), ed25519.PublicKey(public[1:])), signature); err != nil {
		t.Fatal(err)
	}
	body, _ = get("/log/checkpoint")
	cp, rest, _, err := log.ParseCheckpoint(body, LogOrigin(g), verifier)
	if err != nil {
		t.Fatalf("%v: %q", err, body)
	}
	if !strings.HasPrefix(string(rest), "charter checkpoint ") {
		t.Fatalf("extension %q", rest)
	}
	return cp
}

// TestPublicLog follows the log as a monitor would: by two heads and the tiles between, with the code of others alone.
func TestPublicLog(t *testing.T) {
	s := serve(t, func(l *Limits) { l.Requests, l.Burst = 1e6, 1e6 })
	get := s.read(t)
	for _, size := range []int{1, 255, 256, 257, 1000, 66_000} {
		s.grow(t, size-len(s.ids))
		cp := head(t, s.genesis, get)
		if cp.Size != uint64(size) {
			t.Fatalf("size %d, want %d", cp.Size, size)
		}
		r := &reader{t: t, get: get}
		tree := sumdb.Tree{N: int64(cp.Size), Hash: sumdb.Hash(cp.Hash)}
		hashes := sumdb.TileHashReader(tree, r)
		for _, i := range []int{0, size / 3, size - 1} {
			p, err := sumdb.ProveRecord(int64(size), int64(i), hashes)
			if err != nil {
				t.Fatal(err)
			}
			id := entry(t, get, i, size)
			if err := sumdb.CheckRecord(p, tree.N, tree.Hash, int64(i), sumdb.RecordHash(id)); err != nil {
				t.Errorf("entry %d of %d: %v", i, size, err)
			}
			ours, err := tlog.ProveInclusion(&s.nodes, uint64(size), uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), cp.Size, rfc6962.DefaultHasher.HashLeaf(id), raw(ours), cp.Hash); err != nil {
				t.Errorf("our inclusion of %d in %d: %v", i, size, err)
			}
		}
		for _, old := range []int{1, size/2 + 1, size} {
			p, err := sumdb.ProveTree(int64(size), int64(old), hashes)
			if err != nil {
				t.Fatal(err)
			}
			front, err := tlog.FrontierAt(&s.nodes, uint64(old))
			if err != nil {
				t.Fatal(err)
			}
			before := front.Root()
			if err := sumdb.CheckTree(p, tree.N, tree.Hash, int64(old), sumdb.Hash(before)); err != nil {
				t.Errorf("%d to %d: %v", old, size, err)
			}
			ours, err := tlog.ProveConsistency(&s.nodes, uint64(old), uint64(size))
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), cp.Size, raw(ours), before[:], cp.Hash); err != nil {
				t.Errorf("our consistency of %d and %d: %v", old, size, err)
			}
		}
	}
}

// entry reads an entry from its bundle.
func entry(t *testing.T, get func(string) ([]byte, int), i, size int) []byte {
	t.Helper()
	tile := sumdb.Tile{H: 8, L: -1, N: int64(i / 256), W: min(256, size-i/256*256)}
	body, status := get("/log/tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/data/"))
	for range i % 256 {
		body = body[2+binary.BigEndian.Uint16(body):]
	}
	if status != http.StatusOK || binary.BigEndian.Uint16(body) != 32 {
		t.Fatalf("entries: status %d", status)
	}
	return body[2:34]
}

func raw(p tlog.Path) (out [][]byte) {
	for _, h := range p {
		out = append(out, bytes.Clone(h[:]))
	}
	return out
}

func TestPublicLogRefuses(t *testing.T) {
	s := serve(t, func(l *Limits) { l.Requests, l.Burst = 1e6, 1e6 })
	s.grow(t, 300)
	get := s.read(t)
	for path, want := range map[string]int{
		"/log/tile/0/000": 200, "/log/tile/0/000.p/7": 200, "/log/tile/0/001.p/44": 200, "/log/tile/1/000.p/1": 200, "/log/tile/entries/000": 200,
		"/log/tile/0/001": 404, "/log/tile/0/001.p/45": 404, "/log/tile/1/000.p/2": 404, "/log/tile/1/000": 404, "/log/tile/entries/001": 404,
		"/log/tile/0/002.p/1": 404, "/log/tile/7/000.p/1": 404, "/log/tile/8/000.p/1": 404, "/log/tile/00/000": 404, "/log/tile/0/0": 404, "/log/tile/0/0000": 404,
		"/log/tile/0/000.p/0": 404, "/log/tile/0/000.p/256": 404, "/log/tile/0/000.p/07": 404, "/log/tile/0/000.p/-1": 404, "/log/tile/0/x000": 404,
		"/log/tile/0/x000/000": 404, "/log/tile/0/x001/000": 404, "/log/tile/0/+01": 404, "/log/tile/0/xx1/000": 404, "/log/tile/-1/000": 404, "/log/tile": 404,
		"/log/tile/0/x999/x999/x999/x999/x999/x999/x999/999": 404, "/log/": 404, "/log/data/0": 404, "/log/tile/data/000": 404, "/log/tile/0/000/": 404,
	} {
		if body, status := get(path); status != want {
			t.Errorf("%s: %d %s, want %d", path, status, body, want)
		}
	}
	resp, err := s.http.Post(s.url+"/log/checkpoint", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("POST: %d", resp.StatusCode)
	}
	s.fail = &chain.Error{Kind: chain.NotYet, Text: "nothing certified"}
	if _, status := get("/log/checkpoint"); status != http.StatusServiceUnavailable {
		t.Errorf("nothing certified: %d", status)
	}
}

// The log is within the agent's limits, and in its metrics.
func TestPublicLogLimits(t *testing.T) {
	s := serve(t, func(l *Limits) { l.Requests, l.Burst = 1e-3, 2 })
	s.grow(t, 3)
	resp, err := s.http.Head(s.url + "/log/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 100 || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("HEAD: %s, %v", resp.Status, resp.Header)
	}
	get := s.read(t)
	for i, want := range []int{200, 429} {
		if body, status := get("/log/tile/0/000.p/3"); status != want {
			t.Errorf("request %d: %d %s, want %d", i+2, status, body, want)
		}
	}
	if m := gather(t, s.agent); m[`charter_agent_answers_total log ok`] != 2 {
		t.Errorf("metrics: %v", m)
	}
}

// The log key hangs on the peer's key and the chain, and on nothing else.
func TestLogKey(t *testing.T) {
	w, key := newWorld(), logSecret(t)
	a, b := newLog(w.genesis, *key), newLog(w.genesis, *key)
	other := *w.genesis
	other.Network = "other"
	if !a.key.Equal(b.key) || a.key.Equal(newLog(&other, *key).key) {
		t.Error("the key is not a function of peer and chain")
	}
	const want = "a8e3bcec8ed8c6af"
	if got := hex.EncodeToString(a.key.Public().(ed25519.PublicKey)); !strings.HasPrefix(got, want) {
		t.Errorf("key %s, want %s…: a change to the derivation changes every peer's key", got, want)
	}
}

func FuzzParseTile(f *testing.F) {
	f.Add("tile/0/x001/x234/067")
	f.Add("tile/entries/000.p/12")
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := parseTile(path)
		if !ok {
			return
		}
		tile := sumdb.Tile{H: 8, L: int(got.level / 8), N: int64(got.first / tileWidth), W: got.width}
		if want := strings.TrimPrefix(tile.Path(), "tile/8/"); !got.entries && "tile/"+want != path {
			t.Fatalf("%s is %+v, whose path is %s", path, got, want)
		}
	})
}
