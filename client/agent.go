package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// link is a connection to an agent. What comes over it is not believed here.
type link struct {
	url     string
	who     atomic.Pointer[Witness] // what it said of itself; nil: not asked yet
	rpc     charterv1connect.AgentClient
	http    *http.Client
	timeout time.Duration // of a call, and of silence in a watch
}

// exchange is a question to an agent, and its answer: evidence, if the answer is a lie.
type exchange struct {
	call             string
	question, answer proto.Message // answer nil: none came
}

// Answers of an agent, in its words (api/charter/v1, "ErrorDetail").
const (
	saysBusy     = "busy"
	saysClosing  = "closing"
	saysConflict = "conflict"
	saysInvalid  = "invalid"
	saysNotFound = "not_found"
	saysNotKept  = "not_kept"
	saysNotYet   = "not_yet"
	saysFull     = "pool_full"
	saysSlow     = "slow"
	saysTooMany  = "too_many"
	saysWrong    = "wrong_chain"
)

// answerMax bounds what an agent can make us hold: the largest proof, and what goes around it.
const answerMax = proof.MaxSize + 1<<20

func dial(address string, timeout time.Duration) (*link, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(address) > wallet.MaxAPI {
		return nil, refuse(NoAgent, err, "%q is no address of an agent: want one like http://127.0.0.1:7401", address)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = parallel
	client := &http.Client{Transport: transport}
	address = strings.TrimSuffix(address, "/")
	return &link{
		url: address, http: client, timeout: timeout,
		rpc: charterv1connect.NewAgentClient(client, address, connect.WithReadMaxBytes(answerMax)),
	}, nil
}

func (l *link) close() { l.http.CloseIdleConnections() }

// witness is the agent as it is known: by its address, and by what it says of itself.
func (l *link) witness() Witness {
	if w := l.who.Load(); w != nil {
		return *w
	}
	return Witness{URL: l.url}
}

// call asks one question, and waits no longer than the link's timeout.
func call[Q, A any](ctx context.Context, l *link, name string, do func(context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, *exchange, error) {
	limited, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	x := &exchange{call: name, question: any(q).(proto.Message)}
	r, err := do(limited, ask(q))
	if err != nil && ctx.Err() == nil && (limited.Err() != nil || connect.CodeOf(err) == connect.CodeDeadlineExceeded) {
		return nil, x, l.silent(x)
	}
	if err != nil {
		return nil, x, l.failed(ctx, x, err)
	}
	x.answer = any(r.Msg).(proto.Message)
	return r.Msg, x, nil
}

// blame is an error that is the agent's fault.
func (l *link) blame(k Kind, x *exchange, cause error, format string, args ...any) *Error {
	e := refuse(k, cause, format, args...)
	e.link, e.exchange = l, x
	return e
}

func (l *link) silent(x *exchange) error {
	return l.blame(Silent, x, nil, "the agent at %s does not answer %s within %s: wait, or use another agent", l.url, x.call, l.timeout)
}

// failed is the error of a call, for people and for what to do about it.
func (l *link) failed(ctx context.Context, x *exchange, err error) error {
	var wire *connect.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &wire):
		return l.blame(Unreachable, x, err, "cannot reach the agent at %s (%v): start it, or name another one with --agent", l.url, err)
	}
	if code := wire.Code(); !connect.IsWireError(err) && (code == connect.CodeInvalidArgument || code == connect.CodeResourceExhausted) {
		return l.lies(x, err) // it came, and is no answer, or larger than any
	}
	for _, d := range wire.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*v1.ErrorDetail); ok {
				e := l.blame(Refused, x, wire, "the agent at %s says: %s", l.url, wire.Message())
				e.Agent = detail.Kind
				x.answer = detail
				return e
			}
		}
	}
	return l.blame(Unreachable, x, err, "cannot reach the agent at %s (%s): start it, or name another one with --agent", l.url, wire.Message())
}

// owed turns the refusal of what is proven to exist, or has a proof in any case, into the
// fault that it is.
func owed(err error) error {
	var e *Error
	if errors.As(err, &e) && says(e, saysNotFound, saysNotYet) {
		return e.link.blame(Withheld, e.exchange, e, "%s; but there is proof that it must have it: it withholds it; use another agent", e.Text)
	}
	return err
}

// says reports whether err is the agent's refusal with one of these words.
func says(err error, words ...string) bool {
	var e *Error
	if errors.As(err, &e) && e.Kind == Refused {
		for _, w := range words {
			if e.Agent == w {
				return true
			}
		}
	}
	return false
}

// passing reports whether an error is one that waiting helps against.
func passing(err error) bool {
	return says(err, saysBusy, saysNotYet, saysFull, saysTooMany, saysClosing, saysSlow) || errors.Is(err, errStale) || IsKind(err, Behind) || IsKind(err, WrongPeers)
}

// patiently does a call again while what hinders it passes, for as long as the wallet's patience.
func (c *Client) patiently(ctx context.Context, call func() error) error {
	until := time.Now().Add(c.config.patience())
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		err := call()
		if err == nil || !passing(err) || time.Now().After(until) {
			return err
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func ask[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }

func (l *link) status(ctx context.Context) (*v1.StatusResponse, *exchange, error) {
	return call(ctx, l, "Status", l.rpc.Status, &v1.StatusRequest{})
}

// genesis asks for the genesis of a chain.
func (l *link) genesis(ctx context.Context, chain types.Hash) (*types.Genesis, error) {
	m, x, err := call(ctx, l, "Genesis", l.rpc.Genesis, &v1.GenesisRequest{})
	if err != nil {
		return nil, err
	}
	g, err := types.ParseGenesis(m.Genesis)
	if err != nil {
		return nil, l.lies(x, fmt.Errorf("its genesis is none: %w", err))
	}
	if id := g.ChainID(); id != chain {
		return nil, wrongNetwork(l.url, id.String(), chain)
	}
	return g, nil
}

func wrongNetwork(who, theirs string, ours types.Hash) error {
	return refuse(WrongNetwork, nil, "wrong network: %s is of chain %.16s…, and this wallet of %.16s…; name an agent of the wallet's network", who, theirs, ours.String())
}

func (l *link) submit(ctx context.Context, chain types.Hash, raw []byte) error {
	_, _, err := call(ctx, l, "Submit", l.rpc.Submit, &v1.SubmitRequest{Transaction: raw, Chain: chain.String()})
	return err
}

// answer is a proof with the checkpoint that it leads to and its certificate, as an agent
// gives it: decoded, and not believed.
type answer struct {
	exchange    *exchange
	statement   proof.Statement
	bytes       []byte
	checkpoint  *types.Checkpoint
	certificate *types.Certificate
}

func (l *link) prove(ctx context.Context, q *v1.ProofRequest) (*answer, error) {
	m, x, err := call(ctx, l, "Proof", l.rpc.Proof, q)
	if err != nil {
		return nil, err
	}
	return l.read(x, m)
}

// read decodes an answer that came over the link.
func (l *link) read(x *exchange, m *v1.ProofResponse) (*answer, error) {
	a, err := readAnswer(m)
	if err != nil {
		return nil, l.lies(x, err)
	}
	a.exchange = x
	if a.checkpoint == nil || a.checkpoint.Height == 0 {
		return a, errStale // the genesis has no certificate, and needs none: soon there is more
	}
	return a, nil
}

// lies is the error of an answer that does not hold, because of err.
func (l *link) lies(x *exchange, err error) error {
	var e *Error
	if errors.Is(err, errStale) || errors.As(err, &e) && e.link != nil {
		return err
	}
	k := NotProven
	if proof.IsKind(err, proof.Conflict) {
		k = Forked
	}
	return l.blame(k, x, err, "what the agent at %s says does not hold (%v): nothing of it was believed; use another agent", l.url, err)
}

func readAnswer(m *v1.ProofResponse) (a *answer, err error) {
	a = &answer{bytes: m.Proof}
	if a.statement, err = proof.Decode(m.Proof); err != nil {
		return nil, err
	}
	if f, ok := a.statement.(*proof.File); ok {
		if n := len(f.Steps); n > 0 {
			a.checkpoint, a.certificate = &f.Steps[n-1].Checkpoint, &f.Steps[n-1].Certificate
		}
		return a, nil
	}
	if a.checkpoint, err = types.DecodeCheckpoint(m.Checkpoint); err != nil || a.checkpoint.Height == 0 {
		return a, err
	}
	a.certificate, err = types.DecodeCertificate(m.Certificate)
	return a, err
}

// advance asks for the way from a height to the newest certified checkpoint.
func (l *link) advance(ctx context.Context, chain types.Hash, from uint64) (steps []proof.Step, x *exchange, err error) {
	m, x, err := call(ctx, l, "Advance", l.rpc.Advance, &v1.AdvanceRequest{FromHeight: from})
	if err != nil {
		return nil, x, err
	}
	for _, b := range m.Steps {
		s, err := proof.Decode(b)
		if err != nil {
			return nil, x, l.lies(x, err)
		}
		a, ok := s.(*proof.Advance)
		if !ok || a.Chain != chain {
			return nil, x, l.lies(x, errors.New("a step of an advance is none, or of another chain"))
		}
		steps = append(steps, a.Steps...)
	}
	return steps, x, nil
}

// certified is a checkpoint with its certificate and the snapshot that it is signed by, as an
// agent gives them.
func (l *link) certified(ctx context.Context, height uint64) (*Side, *exchange, error) {
	m, x, err := call(ctx, l, "Checkpoint", l.rpc.Checkpoint, &v1.CheckpointRequest{Height: &height})
	if err != nil {
		return nil, x, err
	}
	s, err := readSide(m)
	if err == nil && s.Checkpoint.Height != height {
		err = fmt.Errorf("asked for the checkpoint of height %d, it gave that of %d", height, s.Checkpoint.Height)
	}
	if err != nil {
		return nil, x, l.lies(x, err)
	}
	return s, x, nil
}

func readSide(m *v1.CheckpointResponse) (*Side, error) {
	cp, err := types.DecodeCheckpoint(m.Checkpoint)
	if err != nil {
		return nil, err
	}
	cert, err := types.DecodeCertificate(m.Certificate)
	if err != nil {
		return nil, err
	}
	snap, err := types.DecodeSnapshot(m.Snapshot)
	if err != nil {
		return nil, err
	}
	return &Side{Checkpoint: *cp, Certificate: *cert, Snapshot: *snap}, nil
}
