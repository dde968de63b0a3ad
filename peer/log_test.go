package peer

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"charter/agent"
	v1 "charter/api/charter/v1"
)

// Two running peers serve one public log, each under its own key: of one size they tell one root, and it is
// that of the certified checkpoint which the note names.
func TestPublicLog(t *testing.T) {
	w := newWorld(t, 2, 2)
	w.start(0, 1)
	for j := range 2 {
		w.settle(j, j)
	}
	roots, vkeys := map[uint64]string{}, map[string]bool{}
	for i := range 2 {
		get := func(path string) string {
			resp, err := http.Get("http://" + w.peers[i].APIAddr() + path)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("%s: %s %s %v", path, resp.Status, body, err)
			}
			return string(body)
		}
		vkey, _, _ := strings.Cut(get("/log/key"), "\n")
		vkeys[vkey] = true
		verifier, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		cp, rest, _, err := log.ParseCheckpoint([]byte(get("/log/checkpoint")), agent.LogOrigin(w.genesis), verifier)
		if err != nil {
			t.Fatal(err)
		}
		if have, is := roots[cp.Size]; is && have != string(cp.Hash) {
			t.Errorf("two roots of size %d", cp.Size)
		}
		roots[cp.Size] = string(cp.Hash)
		height := cp.Size // LocalParams has a checkpoint at every height, genesis' at 0
		r, err := w.client(i).Checkpoint(t.Context(), connect.NewRequest(&v1.CheckpointRequest{Height: &height}))
		if err != nil {
			t.Fatal(err)
		}
		if want := "charter checkpoint " + fmt.Sprintf("%d %s\n", height, r.Msg.Id); string(rest) != want || r.Msg.HistorySize != cp.Size {
			t.Errorf("the note says %q, want %q", rest, want)
		}
		if entries := get("/log/tile/entries/000.p/1"); entries[0] != 0 || entries[1] != 32 || len(entries) != 34 {
			t.Errorf("entries %x", entries)
		}
	}
	if len(vkeys) != 2 {
		t.Errorf("keys %v, want two", vkeys)
	}
}
