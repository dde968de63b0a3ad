package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// link is a connection to an agent. What comes over it is not believed here.
type link struct {
	url  string
	rpc  charterv1connect.AgentClient
	http *http.Client
}

// Answers of an agent, in its words (api/charter/v1, "ErrorDetail").
const (
	saysBusy     = "busy"
	saysClosing  = "closing"
	saysConflict = "conflict"
	saysInvalid  = "invalid"
	saysNotFound = "not_found"
	saysNotYet   = "not_yet"
	saysFull     = "pool_full"
	saysSlow     = "slow"
	saysTooMany  = "too_many"
	saysWrong    = "wrong_chain"
)

// answerMax bounds what an agent can make us hold: the largest proof, and what goes around it.
const answerMax = proof.MaxSize + 1<<20

func dial(address string) (*link, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || len(address) > wallet.MaxAPI {
		return nil, refuse(NoAgent, err, "%q is no address of an agent: want one like http://127.0.0.1:7401", address)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = 30 * time.Second
	transport.MaxIdleConnsPerHost = parallel
	client := &http.Client{Transport: transport}
	address = strings.TrimSuffix(address, "/")
	return &link{address, charterv1connect.NewAgentClient(client, address, connect.WithReadMaxBytes(answerMax)), client}, nil
}

func (l *link) close() { l.http.CloseIdleConnections() }

// failed is the error of a call, for people and for what to do about it.
func (l *link) failed(ctx context.Context, err error) error {
	var wire *connect.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &wire):
		return refuse(Unreachable, err, "cannot reach the agent at %s (%v): start it, or name another one with --agent", l.url, err)
	}
	for _, d := range wire.Details() {
		if v, err := d.Value(); err == nil {
			if detail, ok := v.(*v1.ErrorDetail); ok {
				e := refuse(Refused, wire, "the agent at %s says: %s", l.url, wire.Message())
				e.Agent = detail.Kind
				return e
			}
		}
	}
	return refuse(Unreachable, err, "cannot reach the agent at %s (%s): start it, or name another one with --agent", l.url, wire.Message())
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
	return says(err, saysBusy, saysNotYet, saysFull, saysTooMany, saysClosing, saysSlow) || errors.Is(err, errStale) || IsKind(err, Behind)
}

// patience is how long a call goes on trying against what passes.
const patience = 10 * time.Second

// patiently does a call again while what hinders it passes, for as long as patience.
func patiently(ctx context.Context, call func() error) error {
	return patientlyFor(ctx, patience, call)
}

func patientlyFor(ctx context.Context, long time.Duration, call func() error) error {
	until := time.Now().Add(long)
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

func (l *link) status(ctx context.Context) (*v1.StatusResponse, error) {
	r, err := l.rpc.Status(ctx, ask(&v1.StatusRequest{}))
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	return r.Msg, nil
}

// genesis asks for the genesis of a chain.
func (l *link) genesis(ctx context.Context, chain types.Hash) (*types.Genesis, error) {
	r, err := l.rpc.Genesis(ctx, ask(&v1.GenesisRequest{}))
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	g, err := types.ParseGenesis(r.Msg.Genesis)
	if err != nil {
		return nil, refuse(NotProven, err, "the agent at %s gives a genesis that is none (%v): use another agent", l.url, err)
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
	_, err := l.rpc.Submit(ctx, ask(&v1.SubmitRequest{Transaction: raw, Chain: chain.String()}))
	return l.failed(ctx, err)
}

// answer is a proof with the checkpoint that it leads to and its certificate, as an agent
// gives it: decoded, and not believed.
type answer struct {
	statement   proof.Statement
	bytes       []byte
	checkpoint  *types.Checkpoint
	certificate *types.Certificate
}

func (l *link) prove(ctx context.Context, q *v1.ProofRequest) (*answer, error) {
	r, err := l.rpc.Proof(ctx, ask(q))
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	a, err := readAnswer(r.Msg)
	if err != nil {
		return nil, l.lies(err)
	}
	if a.checkpoint == nil || a.checkpoint.Height == 0 {
		return nil, errStale // the genesis has no certificate, and needs none: soon there is more
	}
	return a, nil
}

func (l *link) lies(err error) error {
	if errors.Is(err, errStale) || IsKind(err, NotProven) {
		return err
	}
	return refuse(NotProven, err, "what the agent at %s says does not hold (%v): nothing of it was believed; use another agent", l.url, err)
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
func (l *link) advance(ctx context.Context, chain types.Hash, from uint64) (steps []proof.Step, err error) {
	r, err := l.rpc.Advance(ctx, ask(&v1.AdvanceRequest{FromHeight: from}))
	if err != nil {
		return nil, l.failed(ctx, err)
	}
	for _, b := range r.Msg.Steps {
		s, err := proof.Decode(b)
		if err != nil {
			return nil, l.lies(err)
		}
		a, ok := s.(*proof.Advance)
		if !ok || a.Chain != chain {
			return nil, l.lies(errors.New("a step of an advance is none, or of another chain"))
		}
		steps = append(steps, a.Steps...)
	}
	return steps, nil
}
