// Package agent serves wallets: it is a peer's role of answering submit, watch, proof,
// checkpoint and status calls (api/charter/v1) over a Chain, within limits.
//
// It decides nothing and keeps nothing: what it is told by the chain it tells on, and what a
// wallet should believe comes with proof bytes that the chain made. Besides it serves the history
// as a public log in the form that standard tools read (spec/log.md). It opens no socket; the
// assembly mounts its handlers where it wants to.
//
//	          one channel                bounded queue each
//	Chain ──► Updates ──► hub ──┬──► watch of a wallet ──► stream
//	  ▲                         └──► watch of a wallet ──► stream
//	  └── Submit, proofs, … ◄── calls, a bounded number at once
//
// The hub never waits for a watch: one whose client does not read is ended, and resumes.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/chain"
	"charter/sig"
	"charter/types"
)

// Config is what an agent is made of.
type Config struct {
	Chain   Chain
	Genesis *types.Genesis
	Status  func() Status   // of the peer now; cheap, for metrics and people ask often
	Key     *sig.PrivateKey // of the peer, to derive the public log's key from; nil: no public log
	Limits  Limits          // the zero value stands for DefaultLimits
	Version string          // of the program, for Status
	Log     *slog.Logger    // nil: nowhere
}

// Agent answers the calls. It is a prometheus.Collector too.
type Agent struct {
	chain   Chain
	status  func() Status
	limits  Limits
	log     *slog.Logger
	id      types.Hash // of the chain
	network string
	genesis []byte // its file
	version string
	started time.Time

	clients clients
	calls   chan struct{} // one taken by each call that is being answered
	hub     *hub
	meter   *meter
	public  *publicLog // nil for none
}

// New starts an agent. Close stops it.
func New(c Config) *Agent {
	if c.Limits == (Limits{}) {
		c.Limits = DefaultLimits
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{
		chain: c.Chain, status: c.Status, limits: c.Limits, log: c.Log,
		id: c.Genesis.ChainID(), network: c.Genesis.Network, genesis: c.Genesis.JSON(),
		version: c.Version, started: time.Now(),
		clients: clients{limits: c.Limits},
		calls:   make(chan struct{}, c.Limits.Calls),
		meter:   newMeter(),
	}
	if c.Key != nil {
		a.public = newLog(c.Genesis, *c.Key)
	}
	a.hub = newHub(c.Limits.Queue, a.meter)
	a.hub.start(c.Chain)
	return a
}

// Close ends all watches with Closing, and returns when the agent receives no more updates.
// Calls go on; stopping them is for the server that has the handler.
func (a *Agent) Close() { a.hub.close() }

// compressFrom is from how many bytes an answer is compressed. Smaller ones are mostly keys
// and hashes, and the work was a tenth of a busy peer's.
const compressFrom = 4096

// Handler is what to mount, and at which path, in a server made by Server.
func (a *Agent) Handler() (path string, handler http.Handler) {
	path, calls := charterv1connect.NewAgentHandler(service{a},
		connect.WithReadMaxBytes(maxRequest), connect.WithInterceptors(calling{a}), connect.WithCodec(jsonCodec{}),
		connect.WithCompressMinBytes(compressFrom))
	return path, a.door(calls)
}

// door lets in whom the limits allow.
func (a *Agent) door(calls http.Handler) http.Handler {
	errorWriter := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := a.clients.requests(r.RemoteAddr, 1, time.Now()); err != nil {
			err = a.wire(r.URL.Path, err)
			a.meter.answered(r.URL.Path, connect.CodeOf(err).String())
			_ = errorWriter.Write(w, r, err) // who is refused for coming too often may have gone
			return
		}
		calls.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), controlKey{}, http.NewResponseController(w))))
	})
}

// Server is a server for a handler, perhaps a mux that has the agent's among others, in
// which nobody holds a goroutine for longer than the limits allow. A watch alone puts its own
// deadlines in place of these. It speaks HTTP/1.1 and, also without TLS, HTTP/2.
func (a *Agent) Server(handler http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler: handler, Protocols: protocols, MaxHeaderBytes: 16 << 10,
		ReadTimeout: a.limits.Timeout, WriteTimeout: 3 * a.limits.Timeout, IdleTimeout: 8 * a.limits.Timeout,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug), // of strangers' connections
	}
}

type controlKey struct{}

func controlOf(ctx context.Context) *http.ResponseController {
	return ctx.Value(controlKey{}).(*http.ResponseController)
}

// jsonCodec is JSON for people: it refuses fields that do not exist, so that a mistyped one is not
// passed over, and writes zeros and false, under the names of the schema.
type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Marshal(m any) ([]byte, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true, UseProtoNames: true}.Marshal(m.(proto.Message))
}

func (jsonCodec) Unmarshal(b []byte, m any) error {
	if len(b) == 0 {
		return errors.New("empty body: want a JSON object, at least {}")
	}
	return protojson.Unmarshal(b, m.(proto.Message))
}

// calling is around each call: it bounds how many there are and how long, and turns their
// errors into what goes over the wire.
type calling struct{ a *Agent }

func (c calling) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := c.bounded(ctx, r, next)
		err = c.a.wire(r.Spec().Procedure, err)
		c.a.meter.answered(r.Spec().Procedure, code(err))
		return response, err
	}
}

func (c calling) bounded(ctx context.Context, r connect.AnyRequest, next connect.UnaryFunc) (connect.AnyResponse, error) {
	select {
	case c.a.calls <- struct{}{}:
		defer func() { <-c.a.calls }()
	default:
		return nil, refuse(Busy, "the agent answers %d calls already; try again", c.a.limits.Calls).after(time.Second)
	}
	ctx, cancel := context.WithTimeout(ctx, c.a.limits.Timeout)
	defer cancel()
	return next(ctx, r)
}

func (c calling) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, s connect.StreamingHandlerConn) error {
		err := c.a.wire(s.Spec().Procedure, next(ctx, s))
		c.a.meter.answered(s.Spec().Procedure, code(err))
		return err
	}
}

func (calling) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next // of clients, which this is not
}

func code(err error) string {
	if err == nil {
		return "ok"
	}
	return connect.CodeOf(err).String()
}

// service has the methods of the schema; those of Agent are for the assembly.
type service struct{ *Agent }

func (a service) Submit(ctx context.Context, r *connect.Request[v1.SubmitRequest]) (*connect.Response[v1.SubmitResponse], error) {
	if err := a.ours(r.Msg.Chain); err != nil {
		return nil, err
	}
	answer := a.submit(ctx, [][]byte{r.Msg.Transaction})[0]
	if answer.Err != nil {
		return nil, answer.Err
	}
	return connect.NewResponse(&v1.SubmitResponse{Id: answer.ID.String()}), nil
}

func (a service) SubmitAll(ctx context.Context, r *connect.Request[v1.SubmitAllRequest]) (*connect.Response[v1.SubmitAllResponse], error) {
	if err := a.ours(r.Msg.Chain); err != nil {
		return nil, err
	}
	n := len(r.Msg.Transactions)
	if n > maxSubmit {
		return nil, refuse(TooLarge, "%d transactions in a call, and there may be %d", n, maxSubmit)
	}
	if err := a.clients.requests(r.Peer().Addr, max(n, 1)-1, time.Now()); err != nil { // the first was charged at the door
		return nil, err
	}
	out := &v1.SubmitAllResponse{Results: make([]*v1.SubmitResult, n)}
	for i, answer := range a.submit(ctx, r.Msg.Transactions) {
		result := new(v1.SubmitResult)
		if !answer.ID.IsZero() {
			result.Id = answer.ID.String()
		}
		if answer.Err != nil {
			ours := a.explain(r.Spec().Procedure, answer.Err)
			result.Error, result.Message = ours.detail(), ours.Text
		}
		out.Results[i] = result
	}
	return connect.NewResponse(out), nil
}

// ours refuses what is meant for another chain.
func (a *Agent) ours(chain string) error {
	if chain == "" {
		return nil
	}
	want, err := parseHash(chain)
	if err != nil {
		return refuse(BadRequest, "chain: %v", err)
	}
	if want != a.id {
		return refuse(WrongChain, "the transaction is for chain %s, and this agent serves %s (%s)", want, a.id, a.network)
	}
	return nil
}

// submit gives the chain what is a transaction at all.
func (a *Agent) submit(ctx context.Context, raws [][]byte) []chain.Answer {
	out := make([]chain.Answer, len(raws))
	var good [][]byte
	var of []int // the answer of each
	for i, raw := range raws {
		if len(raw) > types.MaxTransaction {
			out[i].Err = refuse(TooLarge, "the transaction has %d bytes, and may have %d", len(raw), types.MaxTransaction)
			continue
		}
		tx, err := types.DecodeTransaction(raw)
		if err != nil {
			out[i].Err = &Error{Kind: Invalid, Reason: "encoding", Text: err.Error()}
			continue
		}
		out[i].ID = tx.ID(a.id)
		good, of = append(good, raw), append(of, i)
	}
	if len(good) == 0 {
		return out
	}
	// The clocks start before the chain knows of them, since it may tell a tier before it answers.
	now := time.Now()
	fresh := make([]bool, len(good))
	for j, i := range of {
		fresh[j] = a.meter.submitted(out[i].ID, now)
	}
	for j, answer := range a.chain.SubmitAll(ctx, good) {
		id := out[of[j]].ID
		if answer.Err != nil && fresh[j] {
			a.meter.forget(id)
		}
		out[of[j]] = chain.Answer{ID: id, Err: answer.Err}
	}
	return out
}

func (a service) Proof(_ context.Context, r *connect.Request[v1.ProofRequest]) (*connect.Response[v1.ProofResponse], error) {
	p, err := a.prove(r.Msg)
	if err != nil {
		return nil, err
	}
	out := &v1.ProofResponse{Proof: p.Bytes, CheckpointHeight: p.At.Checkpoint.Height}
	if _, whole := r.Msg.What.(*v1.ProofRequest_Transaction); !whole {
		out.Checkpoint = p.At.Checkpoint.Encode()
		out.Certificate = encodeCertificate(p.At)
	}
	return connect.NewResponse(out), nil
}

func (a service) prove(r *v1.ProofRequest) (chain.Proof, error) {
	switch q := r.What.(type) {
	case *v1.ProofRequest_Transaction:
		id, err := parseHash(q.Transaction)
		if err != nil {
			return chain.Proof{}, refuse(BadRequest, "transaction: %v", err)
		}
		return a.chain.TransactionProof(id)
	case *v1.ProofRequest_Output:
		return a.chain.OutputProof(q.Output)
	case *v1.ProofRequest_Key:
		lock, err := parseKey(q.Key.GetLock())
		if err != nil {
			return chain.Proof{}, refuse(BadRequest, "key.lock: %v", err)
		}
		return a.chain.KeyProof(lock, q.Key.GetLatest())
	case *v1.ProofRequest_Name:
		if !types.ValidName(q.Name) {
			return chain.Proof{}, refuse(BadRequest, "name: %q is none: want 1 to %d of a-z, 0-9 and '-'", q.Name, types.MaxName)
		}
		return a.chain.NameProof(q.Name)
	case *v1.ProofRequest_Peer:
		key, err := parseKey(q.Peer)
		if err != nil {
			return chain.Proof{}, refuse(BadRequest, "peer: %v", err)
		}
		return a.chain.PeerProof(key)
	case *v1.ProofRequest_ConsistencyFrom:
		return a.chain.ConsistencyProof(q.ConsistencyFrom)
	default:
		return chain.Proof{}, refuse(BadRequest, "nothing asked: set one of transaction, output, key, name, peer, consistency_from")
	}
}

func encodeCertificate(c *chain.Certified) []byte {
	if c.Certificate == nil {
		return nil
	}
	return c.Certificate.Encode()
}

func (a service) Checkpoint(_ context.Context, r *connect.Request[v1.CheckpointRequest]) (*connect.Response[v1.CheckpointResponse], error) {
	height := uint64(chain.Newest)
	if r.Msg.Height != nil {
		if height = *r.Msg.Height; height > types.MaxHeight {
			return nil, refuse(BadRequest, "height: %d is above the greatest there can be", height)
		}
	}
	c, err := a.chain.Checkpoint(height)
	if err != nil {
		return nil, err
	}
	cp := c.Checkpoint
	out := &v1.CheckpointResponse{
		Checkpoint: cp.Encode(), Certificate: encodeCertificate(c), Snapshot: c.Snapshot.Encode(),
		Id: cp.ID().String(), Chain: cp.Chain.String(), Height: cp.Height, Anchor: cp.Anchor.String(), TimeMs: int64(cp.Time),
		Events: cp.Events, EventsRoot: cp.EventsRoot.String(),
		HistorySize: cp.HistorySize, HistoryRoot: cp.HistoryRoot.String(),
		Outputs: cp.Outputs, OutputsRoot: cp.OutputsRoot.String(),
		KeysRoot: cp.KeysRoot.String(), NamesRoot: cp.NamesRoot.String(), PeersRoot: cp.PeersRoot.String(),
		SnapshotRoot: cp.SnapshotRoot.String(), TotalShares: c.Snapshot.Total().String(),
	}
	var signed types.Amount
	if c.Certificate != nil {
		out.Signers = uint32(len(c.Certificate.Votes))
		for _, v := range c.Certificate.Votes {
			signed += c.Snapshot.Members[v.Index].Shares
		}
	}
	out.SignedShares = signed.String()
	return connect.NewResponse(out), nil
}

func (a service) Advance(_ context.Context, r *connect.Request[v1.AdvanceRequest]) (*connect.Response[v1.AdvanceResponse], error) {
	target := uint64(chain.Newest)
	if r.Msg.ToHeight != nil {
		target = *r.Msg.ToHeight
	}
	steps, to, err := a.chain.Advance(r.Msg.FromHeight, target)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&v1.AdvanceResponse{Steps: steps, ToHeight: to}), nil
}

func (a service) Status(context.Context, *connect.Request[v1.StatusRequest]) (*connect.Response[v1.StatusResponse], error) {
	s := a.status()
	now := time.Now()
	out := &v1.StatusResponse{
		Chain: a.id.String(), Network: a.network, Key: s.Key.String(), Name: s.Name,
		Height: s.Height, FinalHeight: s.Final, CertifiedHeight: s.Certified,
		Shares: s.Shares.String(), PoolTransactions: uint64(s.PoolTransactions), PoolBytes: uint64(s.PoolBytes),
		Tiers: a.meter.summary(), Connections: uint32(s.Connections), Watches: uint32(a.clients.watches()),
		LowestHeight: s.Lowest, Version: a.version, GoVersion: runtime.Version(),
		UptimeMs: uint64(now.Sub(a.started).Milliseconds()), TimeMs: now.UnixMilli(),
	}
	for _, p := range s.Peers {
		out.Peers = append(out.Peers, &v1.PeerStatus{
			Key: p.Key.String(), Name: p.Name, Address: p.Address, Shares: p.Shares.String(),
			Connected: p.Connected, Lag: p.Lag, RttUs: uint64(p.RTT.Microseconds()), LowestHeight: p.Lowest,
		})
	}
	return connect.NewResponse(out), nil
}

func (a service) Genesis(context.Context, *connect.Request[v1.GenesisRequest]) (*connect.Response[v1.GenesisResponse], error) {
	return connect.NewResponse(&v1.GenesisResponse{Genesis: a.genesis, Chain: a.id.String()}), nil
}

func (a service) Directory(context.Context, *connect.Request[v1.DirectoryRequest]) (*connect.Response[v1.DirectoryResponse], error) {
	out := new(v1.DirectoryResponse)
	for _, p := range a.status().Peers {
		out.Peers = append(out.Peers, &v1.DirectoryEntry{Name: p.Name, Key: p.Key.String(), Address: p.Address})
	}
	return connect.NewResponse(out), nil
}
