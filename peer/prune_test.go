package peer

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/chain"
	"charter/proof"
	"charter/types"
)

// A peer that keeps little still proves all that is always kept, and says of the rest who has it. A
// peer that was away for longer catches up all the same, from one that keeps all.
func TestKeep(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of heights")
	}
	w := newWorld(t, 3, 8)
	for j := range w.genesis.Outputs {
		w.genesis.Outputs[j].Host = w.genesis.Peers[j%2].Peer
	}
	params := types.LocalParams
	params.WaitIdle, params.WaitLeader, params.WaitQuorum = 1, 50, 200
	w.setParams(params)
	w.configs[1].Keep = chain.MinKeep
	w.start(0, 1)
	id := w.submit(0, 1)
	w.watch(id, 1)
	for began := time.Now(); w.peers[1].Status().Lowest < 300; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > 2*time.Minute {
			t.Skip("this machine is too slow to make the heights")
		}
	}
	_, err := w.proof(1, &v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: id}})
	if connect.CodeOf(err) != connect.CodeOutOfRange || !strings.Contains(err.Error(), "peer-0") || detailOf(err).Kind != "not_kept" || len(detailOf(err).Keepers) != 1 {
		t.Errorf("the proof of an old transaction: %v, %v", err, detailOf(err))
	}
	if _, err := w.proof(0, &v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: id}}); err != nil {
		t.Errorf("at the peer that keeps all: %v", err)
	}
	r, err := w.proof(1, &v1.ProofRequest{What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: w.wallets[0].Public().String()}}})
	if err != nil {
		t.Fatal(err)
	}
	cp, err := types.DecodeCheckpoint(r.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	s, err := proof.Decode(r.Proof)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := s.(*proof.Key).Verify(cp, w.wallets[0].Public()); err != nil || !h.Complete() || len(h.Events) != 3 {
		t.Errorf("the key's history: %+v, %v", h, err)
	}
	if _, err := charterv1connect.NewJoinClient(http.DefaultClient, w.url(1)).Blocks(t.Context(), connect.NewRequest(&v1.BlocksRequest{FromHeight: 5})); connect.CodeOf(err) != connect.CodeOutOfRange {
		t.Errorf("old blocks: %v", err)
	}
	w.stop(1)
	w.start(1)
	if low := w.peers[1].Status().Lowest; low < 300 {
		t.Errorf("started again, it keeps blocks from %d on", low)
	}
	w.settle(2, 1)
	// One that was never there asks who keeps all.
	w.start(2)
	goal := w.peers[0].Status().Final
	eventually(t, "the late peer has caught up", func() bool { return w.peers[2].Status().Final >= goal })
	w.settle(4, 2)
	w.same(t, 1, 2)
}
