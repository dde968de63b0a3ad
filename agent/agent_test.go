package agent

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/chain"
	"charter/types"
)

func ask[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }

func TestSubmit(t *testing.T) {
	s := serve(t, nil)
	for range 2 { // the second is the same, and no error
		r, err := s.client.Submit(t.Context(), ask(&v1.SubmitRequest{Transaction: transaction(1).Encode(), Chain: s.genesis.ChainID().String()}))
		if err != nil {
			t.Fatal(err)
		}
		if want := s.id(1).String(); r.Msg.Id != want {
			t.Fatalf("id %s, want %s", r.Msg.Id, want)
		}
	}
	if len(s.txs) != 1 || s.txs[s.id(1)].Tier != chain.Waiting {
		t.Fatalf("the chain has %v", s.txs)
	}
}

// Each of several transactions has its own answer, and costs as much as a call.
func TestSubmitAll(t *testing.T) {
	s := serve(t, func(l *Limits) { l.Burst, l.Requests = 10, 1e-9 })
	s.submit = func(_ context.Context, raw []byte) error {
		if bytes.Equal(raw, transaction(3).Encode()) {
			return &chain.Error{Kind: chain.Conflict, Reason: "spent", Text: "input 0 is spent since height 5"}
		}
		return nil
	}
	all := [][]byte{transaction(1).Encode(), transaction(2).Encode()[:50], transaction(3).Encode(), make([]byte, types.MaxTransaction+1), transaction(1).Encode(), transaction(4).Encode()}
	r, err := s.client.SubmitAll(t.Context(), ask(&v1.SubmitAllRequest{Transactions: all}))
	if err != nil || len(r.Msg.Results) != len(all) {
		t.Fatal(r, err)
	}
	one, three, four := s.id(1).String(), s.id(3).String(), s.id(4).String()
	for i, want := range []struct{ id, kind, reason string }{{one, "", ""}, {"", "invalid", "encoding"}, {three, "conflict", "spent"}, {"", "too_large", ""}, {one, "", ""}, {four, "", ""}} {
		got := r.Msg.Results[i]
		if got.Id != want.id || got.Error.GetKind() != want.kind || got.Error.GetReason() != want.reason || (got.Message == "") != (want.kind == "") {
			t.Errorf("transaction %d: %v, want %v", i, got, want)
		}
	}
	if len(s.txs) != 2 {
		t.Errorf("the chain has %v", s.txs)
	}
	for kind, m := range map[Kind]*v1.SubmitAllRequest{
		TooMany:    {Transactions: all}, // six of ten were used up
		TooLarge:   {Transactions: make([][]byte, maxSubmit+1)},
		WrongChain: {Transactions: all[:1], Chain: hash(5).String()},
	} {
		if _, err := s.client.SubmitAll(t.Context(), ask(m)); detail(err).GetKind() != string(kind) {
			t.Errorf("want %s, got %v", kind, err)
		}
	}
}

// Each kind of error, brought about through a client. Every kind has a row.
func TestErrors(t *testing.T) {
	submit := func(s *setup, m *v1.SubmitRequest) error {
		_, err := s.client.Submit(context.Background(), ask(m))
		return err
	}
	answer := func(err error) func(*setup) error {
		return func(s *setup) error {
			s.submit = func(context.Context, []byte) error { return err }
			return submit(s, &v1.SubmitRequest{Transaction: transaction(1).Encode()})
		}
	}
	rows := map[Kind]struct {
		code   connect.Code
		limits func(*Limits)
		do     func(*setup) error
	}{
		BadRequest: {connect.CodeInvalidArgument, nil, func(s *setup) error {
			_, err := s.client.Proof(context.Background(), ask(&v1.ProofRequest{What: &v1.ProofRequest_Transaction{Transaction: "xyz"}}))
			return err
		}},
		TooLarge: {connect.CodeInvalidArgument, nil, func(s *setup) error {
			return submit(s, &v1.SubmitRequest{Transaction: make([]byte, types.MaxTransaction+1)})
		}},
		Invalid: {connect.CodeInvalidArgument, nil, func(s *setup) error {
			return submit(s, &v1.SubmitRequest{Transaction: transaction(1).Encode()[:50]})
		}},
		WrongChain: {connect.CodeFailedPrecondition, nil, func(s *setup) error {
			return submit(s, &v1.SubmitRequest{Transaction: transaction(1).Encode(), Chain: hash(5).String()})
		}},
		Conflict: {connect.CodeFailedPrecondition, nil, answer(&chain.Error{Kind: chain.Conflict, Text: "input 0 is spent since height 5"})},
		PoolFull: {connect.CodeResourceExhausted, nil, answer(&chain.Error{Kind: chain.PoolFull, Text: "no room"})},
		Internal: {connect.CodeInternal, nil, answer(errors.New("disk of /secret/path is on fire"))},
		Busy: {connect.CodeUnavailable, func(l *Limits) { l.Timeout = 50 * time.Millisecond }, func(s *setup) error {
			s.submit = func(ctx context.Context, _ []byte) error { <-ctx.Done(); return ctx.Err() }
			return submit(s, &v1.SubmitRequest{Transaction: transaction(1).Encode()})
		}},
		TooMany: {connect.CodeResourceExhausted, func(l *Limits) { l.Burst, l.Requests = 1, 1e-9 }, func(s *setup) error {
			_, err := s.client.Status(context.Background(), ask(&v1.StatusRequest{}))
			if err != nil {
				return err
			}
			_, err = s.client.Status(context.Background(), ask(&v1.StatusRequest{}))
			return err
		}},
		NotFound: {connect.CodeNotFound, nil, func(s *setup) error {
			_, err := s.client.Advance(context.Background(), ask(&v1.AdvanceRequest{FromHeight: 101}))
			return err
		}},
		NotYet: {connect.CodeUnavailable, nil, func(s *setup) error {
			h := uint64(9)
			_, err := s.client.Checkpoint(context.Background(), ask(&v1.CheckpointRequest{Height: &h}))
			return err
		}},
		NotKept: {connect.CodeOutOfRange, nil, func(s *setup) error {
			_, err := s.client.Proof(context.Background(), ask(&v1.ProofRequest{What: &v1.ProofRequest_Output{Output: pruned}}))
			return err
		}},
		Slow: {connect.CodeAborted, func(l *Limits) { l.Queue = 2 }, func(s *setup) error {
			w := s.watch(context.Background(), &v1.WatchRequest{Locks: []string{key(5).String()}})
			w.heartbeat(0)
			s.publish(chain.Update{Final: 1, Keys: []types.KeyEvent{made(key(5), 1, 1), made(key(5), 1, 2), made(key(5), 1, 3)}})
			return w.end()
		}},
		Closing: {connect.CodeUnavailable, nil, func(s *setup) error {
			w := s.watch(context.Background(), &v1.WatchRequest{})
			w.heartbeat(0)
			s.agent.Close()
			return w.end()
		}},
	}
	for kind := range codes {
		if _, there := rows[kind]; !there {
			t.Errorf("%s has no row", kind)
		}
	}
	for kind, row := range rows {
		t.Run(string(kind), func(t *testing.T) {
			s := serve(t, row.limits)
			err := row.do(s)
			d := detail(err)
			if connect.CodeOf(err) != row.code || d == nil || d.Kind != string(kind) {
				t.Fatalf("error %v (%v), detail %v; want code %s, kind %s", err, connect.CodeOf(err), d, row.code, kind)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the client is told too much: %v", err)
			}
			if again := connect.CodeOf(err) == connect.CodeResourceExhausted || kind == Busy || kind == NotYet; again && d.RetryAfterMs == 0 {
				t.Errorf("no time to retry after")
			}
		})
	}
}

func TestProof(t *testing.T) {
	s := serve(t, nil)
	s.publish(chain.Update{Height: 12, Final: 11, Certified: 10})
	id, k := hash(3), key(4)
	for want, r := range map[string]*v1.ProofRequest{
		"transaction " + id.String(): {What: &v1.ProofRequest_Transaction{Transaction: id.String()}},
		"output 0":                   {What: &v1.ProofRequest_Output{Output: 0}},
		"key " + k.String() + " 7":   {What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: k.String(), Latest: 7}}},
		"name bob":                   {What: &v1.ProofRequest_Name{Name: "bob"}},
		"peer " + k.String():         {What: &v1.ProofRequest_Peer{Peer: k.String()}},
		"consistency 9":              {What: &v1.ProofRequest_ConsistencyFrom{ConsistencyFrom: 9}},
	} {
		r, err := s.client.Proof(t.Context(), ask(r))
		if err != nil {
			t.Fatal(err)
		}
		if string(r.Msg.Proof) != want || r.Msg.CheckpointHeight != 10 {
			t.Errorf("proof %q at %d, want %q at 10", r.Msg.Proof, r.Msg.CheckpointHeight, want)
		}
		if strings.HasPrefix(want, "transaction") {
			if len(r.Msg.Checkpoint)+len(r.Msg.Certificate) != 0 {
				t.Errorf("a proof file comes with a checkpoint beside it")
			}
			continue
		}
		if cp, err := types.DecodeCheckpoint(r.Msg.Checkpoint); err != nil || cp.Height != 10 {
			t.Errorf("%s: checkpoint %v, %v", want, cp, err)
		}
		if c, err := types.DecodeCertificate(r.Msg.Certificate); err != nil || len(c.Votes) != 1 {
			t.Errorf("%s: certificate %v, %v", want, c, err)
		}
	}
	for _, bad := range []*v1.ProofRequest{
		{}, {What: &v1.ProofRequest_Key{}}, {What: &v1.ProofRequest_Name{Name: "B"}}, {What: &v1.ProofRequest_Peer{Peer: "00"}},
	} {
		if _, err := s.client.Proof(t.Context(), ask(bad)); detail(err).GetKind() != string(BadRequest) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

func TestCheckpointAndAdvance(t *testing.T) {
	s := serve(t, nil)
	s.publish(chain.Update{Height: 12, Final: 11, Certified: 10})
	r, err := s.client.Checkpoint(t.Context(), ask(&v1.CheckpointRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	cp, err := types.DecodeCheckpoint(r.Msg.Checkpoint)
	if err != nil || cp.ID().String() != r.Msg.Id || r.Msg.Height != 10 || r.Msg.Chain != s.genesis.ChainID().String() {
		t.Errorf("checkpoint %+v, %v, told as %v", cp, err, r.Msg)
	}
	if snap, err := types.DecodeSnapshot(r.Msg.Snapshot); err != nil || snap.Root(s.genesis.ChainID()).String() != r.Msg.SnapshotRoot {
		t.Errorf("snapshot %v, %v", snap, err)
	}
	if r.Msg.Signers != 1 || r.Msg.SignedShares != "3" || r.Msg.TotalShares != "4.5" {
		t.Errorf("%d signers with %s of %s", r.Msg.Signers, r.Msg.SignedShares, r.Msg.TotalShares)
	}
	above := uint64(1 << 60)
	if _, err := s.client.Checkpoint(t.Context(), ask(&v1.CheckpointRequest{Height: &above})); detail(err).GetKind() != string(BadRequest) {
		t.Errorf("height 2^60: %v", err)
	}
	adv, err := s.client.Advance(t.Context(), ask(&v1.AdvanceRequest{FromHeight: 3}))
	if err != nil || len(adv.Msg.Steps) != 2 || adv.Msg.ToHeight != 77 {
		t.Errorf("advance %v, %v", adv, err)
	}
}

func TestStatusGenesisDirectory(t *testing.T) {
	s := serve(t, nil)
	s.publish(chain.Update{Height: 12, Final: 11, Certified: 10})
	st, err := s.client.Status(t.Context(), ask(&v1.StatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	m := st.Msg
	if m.Height != 12 || m.FinalHeight != 11 || m.CertifiedHeight != 10 || m.Name != "ann" || m.Key != key(1).String() ||
		m.Network != "test" || m.Chain != s.genesis.ChainID().String() || m.Shares != "4.5" || m.PoolTransactions != 5 ||
		m.PoolBytes != 600 || m.Connections != 7 || m.Version != "v0" || m.GoVersion == "" || m.TimeMs == 0 {
		t.Errorf("status %v", m)
	}
	if len(m.Peers) != 2 || m.Peers[1].Shares != "1.5" || m.Peers[1].Lag != 3 || m.Peers[1].RttUs != 250 || m.Peers[1].Connected || !m.Peers[0].Connected {
		t.Errorf("peers %v", m.Peers)
	}
	g, err := s.client.Genesis(t.Context(), ask(&v1.GenesisRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := types.ParseGenesis(g.Msg.Genesis); err != nil || parsed.ChainID().String() != g.Msg.Chain {
		t.Errorf("genesis %v, %v", parsed, err)
	}
	d, err := s.client.Directory(t.Context(), ask(&v1.DirectoryRequest{}))
	if err != nil || len(d.Msg.Peers) != 2 || d.Msg.Peers[1].Name != "bob" || d.Msg.Peers[1].Address != "127.0.0.1:2" || d.Msg.Peers[1].Key != key(2).String() {
		t.Errorf("directory %v, %v", d, err)
	}
}

// post is a call as curl makes it.
func (s *setup) post(t *testing.T, method, body string) (int, map[string]any) {
	t.Helper()
	r, err := s.http.Post(s.url+"/charter.v1.Agent/"+method, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var out map[string]any
	if err := json.NewDecoder(r.Body).Decode(&out); err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, out
}

func TestJSON(t *testing.T) {
	s := serve(t, nil)
	status, m := s.post(t, "Status", `{}`)
	peers := m["peers"].([]any)
	if lagging := peers[1].(map[string]any); status != 200 || m["height"] != "0" || lagging["connected"] != false || lagging["lag"] != "3" {
		t.Errorf("status: %d %v", status, m)
	}
	raw := base64.StdEncoding.EncodeToString(transaction(7).Encode())
	if status, m := s.post(t, "Submit", `{"transaction":"`+raw+`"}`); status != 200 || m["id"] != s.id(7).String() {
		t.Errorf("submit: %d %v", status, m)
	}
	status, m = s.post(t, "Submit", `{"transaction":"AAAA"}`)
	if status != 400 || m["code"] != "invalid_argument" || !strings.Contains(m["message"].(string), "decode transaction") {
		t.Errorf("garbage: %d %v", status, m)
	}
	if d := m["details"].([]any)[0].(map[string]any); d["type"] != "charter.v1.ErrorDetail" || d["debug"].(map[string]any)["kind"] != "invalid" {
		t.Errorf("garbage: %v", m["details"])
	}
	for _, bad := range []string{`{"hieght":3}`, `{"height":-1}`, ``, `[`} {
		if status, m := s.post(t, "Checkpoint", bad); status != 400 || m["code"] != "invalid_argument" {
			t.Errorf("%q: %d %v", bad, status, m)
		}
	}
	if status, m := s.post(t, "Submit", `{"transaction":"`+strings.Repeat("A", maxRequest)+`"}`); status != 429 || m["code"] != "resource_exhausted" {
		t.Errorf("oversize: %d %v", status, m)
	}
	r, err := s.http.Get(s.url + "/charter.v1.Agent/Status?encoding=json&message=" + url.QueryEscape("{}"))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, _ := io.ReadAll(r.Body); r.StatusCode != 200 || !bytes.Contains(body, []byte(`"network"`)) {
		t.Errorf("GET: %d %s", r.StatusCode, body)
	}
}

// enveloped is a message of a stream: behind a byte of flags and four of length.
func enveloped(body string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(body)))) + body
}

// A watch as curl makes it.
func TestWatchJSON(t *testing.T) {
	s := serve(t, nil)
	body := `{"locks":["` + key(5).String() + `"]}`
	r, err := s.http.Post(s.url+"/charter.v1.Agent/Watch", "application/connect+json", strings.NewReader(enveloped(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	next := func() map[string]any {
		head := make([]byte, 5)
		if _, err := io.ReadFull(r.Body, head); err != nil {
			t.Fatal(err)
		}
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(r.Body, message); err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(message, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m := next(); m["heartbeat"] == nil {
		t.Fatalf("first %v, want a heartbeat", m)
	}
	s.publish(chain.Update{Final: 4, Keys: []types.KeyEvent{made(key(5), 4, 250_000_000)}})
	for {
		m := next()
		if m["heartbeat"] != nil {
			continue
		}
		if e := m["key"].(map[string]any); e["value"] != "2.5" || e["height"] != "4" || e["lock"] != key(5).String() {
			t.Errorf("key event %v", e)
		}
		return
	}
}

// Whatever a stranger posts, there is an answer, and it is none of an internal error.
func FuzzRequest(f *testing.F) {
	for _, body := range []string{`{}`, `{"height":"3"}`, `{"key":{"lock":"00","latest":1}}`, `{"transaction":"AAAA","chain":"x"}`, `{"fromHeight":"18446744073709551615"}`} {
		for method := range 6 {
			f.Add(uint8(method), []byte(body))
		}
	}
	w := newWorld()
	w.publish(chain.Update{Height: 3, Final: 2, Certified: 1})
	a := New(Config{Chain: w, Status: w.Status, Genesis: w.genesis})
	f.Cleanup(a.Close)
	_, handler := a.Handler()
	f.Fuzz(func(t *testing.T, method uint8, body []byte) {
		name := []string{"Submit", "Proof", "Checkpoint", "Advance", "Status", "Directory"}[method%6]
		r, err := http.NewRequest("POST", "/charter.v1.Agent/"+name, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		out := httptest.NewRecorder()
		handler.ServeHTTP(out, r)
		if out.Code != 200 && out.Code != 400 && out.Code != 404 && out.Code != 429 && out.Code != 503 {
			t.Errorf("%s %q: %d %s", name, body, out.Code, out.Body)
		}
	})
}
