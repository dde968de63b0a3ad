package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/consensus"
	"charter/proof"
	"charter/types"
)

// joinable is a network of two running peers, whose past is long enough to be joined, and a third
// that was never there.
func joinable(t *testing.T) *world {
	w := newWorld(t, 3, 8)
	for j := range w.genesis.Outputs {
		w.genesis.Outputs[j].Host = w.genesis.Peers[j%2].Peer
	}
	w.genesis.Outputs[2].Host = w.genesis.Peers[2].Peer
	params := types.LocalParams
	params.WaitIdle, params.WaitLeader, params.WaitQuorum = 2, 50, 200
	w.setParams(params)
	w.start(0, 1)
	for _, j := range []int{0, 1, 3, 4, 5} {
		w.settle(j, j%2)
	}
	for began := time.Now(); w.peers[0].Status().Certified < consensus.Window+200; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 90*time.Second {
			t.Skip("this machine is too slow to make the heights")
		}
	}
	return w
}

func (w *world) join(ctx context.Context, i int, urls ...string) error {
	w.configs[i].Join = strings.Join(urls, ",")
	return Join(ctx, w.configs[i], slog.New(slog.NewTextHandler(w.log, nil)).With("peer", i))
}

func (w *world) url(i int) string { return "http://" + w.peers[i].APIAddr() }

// A new peer takes up the chain at a recent checkpoint, from two peers at once, and from then on is a
// peer like any other: it applies, votes, serves wallets and leads them from the genesis.
func TestJoin(t *testing.T) {
	if testing.Short() {
		t.Skip("makes many hundreds of heights")
	}
	w := joinable(t)
	if err := w.join(t.Context(), 2, w.url(0), w.url(1)); err != nil {
		t.Fatal(err)
	}
	if err := w.join(t.Context(), 2, "127.0.0.1:1"); err != nil {
		t.Errorf("joining again, which is nothing to do: %v", err)
	}
	w.start(2)
	began := w.peers[2].Status().Final
	if began < consensus.Window {
		t.Errorf("it begins at height %d", began)
	}
	eventually(t, "it has caught up", func() bool { return w.peers[2].Status().Certified > began+50 })
	w.settle(2, 2) // spends an output of genesis
	w.settle(6, 0)
	w.same(t, 0, 2)
	// A wallet that knows the genesis only is led to the newest checkpoint, over what was before it joined.
	r, err := w.client(2).Advance(t.Context(), connect.NewRequest(&v1.AdvanceRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	trust := proof.Genesis(w.genesis)
	for _, raw := range r.Msg.Steps {
		s, err := proof.Decode(raw)
		if err != nil {
			t.Fatal(err)
		}
		if trust, _, err = trust.Advance(s.(*proof.Advance).Steps); err != nil {
			t.Fatal(err)
		}
	}
	if trust.Height() <= began {
		t.Errorf("led to height %d", trust.Height())
	}
	w.stop(2)
	w.start(2)
	w.settle(7, 2)
	me := w.peers[2].Key()
	eventually(t, "the others have new blocks of it", func() bool { return w.peers[0].chain.Status().Heights[me] > began })
}

// same checks that two peers have made the same checkpoint of some height.
func (w *world) same(t *testing.T, i, j int) {
	t.Helper()
	height := min(w.peers[i].Status().Certified, w.peers[j].Status().Certified)
	var ids []string
	for _, k := range []int{i, j} {
		r, err := w.client(k).Checkpoint(t.Context(), connect.NewRequest(&v1.CheckpointRequest{Height: &height}))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.Msg.Id)
	}
	if ids[0] != ids[1] {
		t.Errorf("the checkpoints of height %d are %s", height, ids)
	}
}

// Who joins goes on where it was when it was stopped, and asks no further who tells what is wrong.
func TestJoinFromLiars(t *testing.T) {
	if testing.Short() {
		t.Skip("makes many hundreds of heights")
	}
	w := joinable(t)
	var chunks, spoilt atomic.Int64
	through := func(i int, spoil bool, most int64) string {
		u, err := url.Parse(w.url(i))
		if err != nil {
			t.Fatal(err)
		}
		proxy := httputil.NewSingleHostReverseProxy(u)
		proxy.ModifyResponse = func(r *http.Response) error {
			if !strings.HasSuffix(r.Request.URL.Path, "/Chunk") {
				return nil
			}
			if n := chunks.Add(1); most > 0 && n > most {
				return errors.New("enough")
			}
			if spoil {
				spoilt.Add(1)
				return spoilBody(r)
			}
			return nil
		}
		s := httptest.NewServer(proxy)
		t.Cleanup(s.Close)
		return s.URL
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if err := w.join(ctx, 2, through(0, false, 3)); err == nil {
		t.Fatal("it joined by three chunks")
	}
	if _, err := Start(w.configs[2], nil); err == nil || !strings.Contains(err.Error(), "being fetched") {
		t.Errorf("started before it has joined: %v", err)
	}
	// From here on, from a checkpoint that is trusted by hand. One that is not there is none.
	r, err := w.client(0).Checkpoint(t.Context(), connect.NewRequest(&v1.CheckpointRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	w.configs[2].JoinTrust = fmt.Sprintf("%d:%s", r.Msg.Height, types.Hash{7})
	if err := w.join(t.Context(), 2, w.url(0)); err == nil || !strings.Contains(err.Error(), "is trusted") {
		t.Errorf("trusting a checkpoint that is not there: %v", err)
	}
	w.configs[2].JoinTrust = fmt.Sprintf("%d:%s", r.Msg.Height, r.Msg.Id)
	chunks.Store(0)
	if err := w.join(t.Context(), 2, through(0, true, 0), through(0, false, 0)); err != nil {
		t.Fatal(err)
	}
	if spoilt.Load() == 0 || !w.log.has("a peer told what is wrong") {
		t.Errorf("%d chunks were spoilt, and nobody was blamed", spoilt.Load())
	}
	w.start(2)
	w.settle(2, 2)
	w.same(t, 0, 2)
}

// spoilBody changes a byte in the middle of an answer.
func spoilBody(r *http.Response) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	body[len(body)/2] ^= 1
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}
