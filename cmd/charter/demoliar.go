package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	v1 "charter/api/charter/v1"
	"charter/client"
	"charter/proof"
)

// demoLie is one way in which the demo's agent lies: it changes the answers of one call.
type demoLie struct {
	what string
	call string
	tell func(body []byte) []byte
}

var demoLies = []demoLie{
	{"leaves the last event out of a key's history", "Proof", inKey(func(k *proof.Key) { k.Events, k.Log.Count = k.Events[:len(k.Events)-1], k.Log.Count-1 })},
	{"doubles a value in a key's history", "Proof", inKey(func(k *proof.Key) { k.Events[0].Output.Value *= 2 })},
	{"gives another address for a peer", "Directory", func(body []byte) []byte {
		return altered(body, func(m *v1.DirectoryResponse) { m.Peers[0].Address = "198.51.100.1:7070" })
	}},
	{"answers with garbage", "Proof", func([]byte) []byte { return []byte("trust me") }},
}

// altered changes an answer; what is none stays as it is.
func altered[T any, M interface {
	*T
	proto.Message
}](body []byte, change func(M)) []byte {
	m := M(new(T))
	if proto.Unmarshal(body, m) != nil {
		return body
	}
	change(m)
	out, err := proto.Marshal(m)
	if err != nil {
		return body
	}
	return out
}

// inKey changes proofs of keys that have events.
func inKey(change func(*proof.Key)) func([]byte) []byte {
	return func(body []byte) []byte {
		return altered(body, func(m *v1.ProofResponse) {
			if s, err := proof.Decode(m.Proof); err == nil {
				if k, ok := s.(*proof.Key); ok && len(k.Events) > 0 {
					change(k)
					m.Proof = k.Encode()
				}
			}
		})
	}
}

// serve is an agent that passes a real one's answers on, except for the lie. Stop ends it.
func (l *demoLie) serve(p *localPeer) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start the lying agent: %w", err)
	}
	transport := &http.Transport{DisableCompression: true}
	proxy := &httputil.ReverseProxy{Transport: transport, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0)}
	proxy.Rewrite = func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: p.api})
		r.Out.Header.Del("Accept-Encoding")
	}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) } // mostly the wallet has left
	proxy.ModifyResponse = func(r *http.Response) error {
		if !strings.HasSuffix(r.Request.URL.Path, "/"+l.call) || r.StatusCode != http.StatusOK {
			return nil
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, proof.MaxSize))
		r.Body.Close()
		body = l.tell(body)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
		r.Header.Set("Content-Length", fmt.Sprint(len(body)))
		return err
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: time.Second}
	go server.Serve(listener) //nolint:errcheck // it ends when stop closes it
	return "http://" + listener.Addr().String(), func() { server.Close(); transport.CloseIdleConnections() }, nil
}

// doubt runs a wallet against an agent that lies, and tells what it was caught at. Each lie meets
// a copy of the first wallet, which knows the honest peers too.
func (d *demo) doubt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := d.sizes(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(d.Dir, "liar-")
	if err != nil {
		return fmt.Errorf("make a directory for the doubting wallet: %w", err)
	}
	defer os.RemoveAll(dir)
	file, err := os.ReadFile(d.walletPath(d.wallets[0].name))
	if err != nil {
		return fmt.Errorf("copy a wallet: %w", err)
	}
	for i := range demoLies {
		for again := range 3 { // the wallet leaves an agent whose connection breaks before it can lie
			path := filepath.Join(dir, fmt.Sprint(i, "-", again))
			if err := client.WriteFile(path, file, 0o600); err != nil {
				return fmt.Errorf("copy a wallet: %w", err)
			}
			before := d.caught
			if err := d.confront(ctx, &demoLies[i], path); err != nil {
				return fmt.Errorf("an agent that %s: %w", demoLies[i].what, err)
			}
			if d.caught > before {
				break
			}
		}
	}
	return nil
}

func (d *demo) confront(ctx context.Context, lie *demoLie, path string) error {
	address, stop, err := lie.serve(d.net.peers[0])
	if err != nil {
		return err
	}
	defer stop()
	var others []string
	for _, p := range d.net.peers {
		others = append(others, "http://"+p.api)
	}
	var mu sync.Mutex
	var caught []client.Fault
	c, err := client.Open(client.Config{
		Path: path, Agent: address, Others: others, Genesis: d.net.genesis, Patience: 300 * time.Millisecond, Timeout: 2 * time.Second,
		Caught: func(f client.Fault) {
			mu.Lock()
			defer mu.Unlock()
			caught = append(caught, f)
		},
	})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Sync(ctx); err != nil {
		return err
	}
	if _, _, err := c.Peers(ctx); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	for _, f := range caught {
		if f.Agent.URL != address || f.Evidence == "" {
			continue
		}
		d.caught++
		balance := c.Balance()
		d.say("caught", map[string]any{"lie": lie.what, "fault": f.Kind.String(), "agent": f.Agent, "error": f.Err.Error(), "next": f.Next, "balance": balance.Final, "height": balance.AsOf.Height},
			"an agent that %s was caught (%s); the wallet went on with %s: %s shares, proven as of height %d", lie.what, f.Kind, f.Next, balance.Final, balance.AsOf.Height)
	}
	return nil
}

// sizes tells how many bytes each kind of proof takes, with its checkpoint and certificate.
func (d *demo) sizes(ctx context.Context) error {
	rpc := d.net.peers[0].client()
	size := func(q *v1.ProofRequest) (int, error) {
		r, err := rpc.Proof(ctx, connect.NewRequest(q))
		if err != nil {
			return 0, err
		}
		return len(r.Msg.Proof) + len(r.Msg.Checkpoint) + len(r.Msg.Certificate), nil
	}
	key, err := size(&v1.ProofRequest{What: &v1.ProofRequest_Key{Key: &v1.KeyHistory{Lock: d.wallets[0].OwnerKey().String()}}})
	if err != nil {
		return fmt.Errorf("measure a key's proof: %w", err)
	}
	output, err := size(&v1.ProofRequest{What: &v1.ProofRequest_Output{Output: 0}})
	if err != nil {
		return fmt.Errorf("measure an output's proof: %w", err)
	}
	r, err := rpc.Advance(ctx, connect.NewRequest(&v1.AdvanceRequest{}))
	if err != nil {
		return fmt.Errorf("measure an advance: %w", err)
	}
	advance := 0
	for _, s := range r.Msg.Steps {
		advance += len(s)
	}
	event := 0
	if n := len(d.proofs); n > 0 {
		event = len(d.proofs[n-1].file)
	}
	d.say("sizes", map[string]any{"event_file": event, "key_history": key, "output_state": output, "advance": advance},
		"bytes of a proof: event file %d, key history %d, output state %d, advance from the genesis %d", event, key, output, advance)
	return nil
}
