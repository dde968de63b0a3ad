package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	v1 "charter/api/charter/v1"
	"charter/api/charter/v1/charterv1connect"
	"charter/chain"
	"charter/consensus"
	"charter/proof"
	"charter/store"
	"charter/types"
)

// A joiner brings a new peer's store to a recent checkpoint: it follows certificates there from
// what it trusts, takes the state in chunks that prove themselves, from several peers at once, and
// takes a stand in consensus (spec/network.md, "Joining"). It believes nobody. What is fetched stays:
// after a crash it goes on where it was, as long as somebody still holds the state of that height.
type joiner struct {
	genesis *types.Genesis
	trust   proof.Trusted
	dir     string
	options store.Options
	now     func() types.Millis
	log     *slog.Logger
	sources []*source
}

// source is a peer that is asked.
type source struct {
	url   string
	agent charterv1connect.AgentClient
	join  charterv1connect.JoinClient
	bad   atomic.Bool // it told what is wrong, or does not hold the state: it is asked no more
}

// Join brings a new peer's store to a recent checkpoint by the agents that the configuration names
// for that, and returns when the peer can be started. If the peer has a state already, or nobody is
// named, it does nothing. What was fetched is kept when ctx ends, or after a crash.
func Join(ctx context.Context, cfg Config, log *slog.Logger) error {
	if cfg.Join == "" {
		return nil
	}
	g, err := ReadGenesis(cfg.path(cfg.Genesis))
	if err != nil {
		return err
	}
	key, _, err := ReadKey(cfg.path(cfg.Key))
	if err != nil {
		return err
	}
	j := &joiner{genesis: g, trust: proof.Genesis(g), dir: filepath.Join(cfg.Dir, "store"), log: log, now: cfg.now,
		options: store.Options{Chain: g.ChainID(), Peer: key.Public(), Logger: log, Cache: int64(cfg.CacheMB) << 20}}
	if j.now == nil {
		j.now = func() types.Millis { return types.MillisOf(time.Now()) }
	}
	h := &http.Client{Timeout: time.Minute}
	urls, err := joinURLs(cfg.Join)
	if err != nil {
		return err
	}
	for _, u := range urls {
		j.sources = append(j.sources, &source{url: u, agent: charterv1connect.NewAgentClient(h, u), join: charterv1connect.NewJoinClient(h, u)})
	}
	if cfg.JoinTrust != "" {
		if err := j.pin(ctx, cfg.JoinTrust); err != nil {
			return err
		}
	}
	return j.run(ctx)
}

// joinURLs are the URLs of a setting; host:port alone is taken for http.
func joinURLs(setting string) (urls []string, err error) {
	if setting == "" {
		return nil, nil
	}
	for text := range strings.SplitSeq(setting, ",") {
		if text = strings.TrimSuffix(strings.TrimSpace(text), "/"); !strings.Contains(text, "://") {
			text = "http://" + text
		}
		u, err := url.Parse(text)
		if err == nil && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			err = fmt.Errorf("%q is no URL of an agent", text)
		}
		if err != nil {
			return nil, err
		}
		urls = append(urls, text)
	}
	return urls, nil
}

// joinTrust is the height and id of a setting.
func joinTrust(setting string) (height uint64, id types.Hash, err error) {
	if setting == "" {
		return 0, id, nil
	}
	number, text, _ := strings.Cut(setting, ":")
	height, err = strconv.ParseUint(number, 10, 64)
	return height, id, errors.Join(err, id.UnmarshalText([]byte(text)))
}

// pin makes a checkpoint what is trusted. Its bytes come from a source; the id binds them.
func (j *joiner) pin(ctx context.Context, at string) error {
	height, id, err := joinTrust(at)
	if err != nil {
		return err
	}
	return j.each("the trusted checkpoint", func(s *source) error {
		r, err := s.agent.Checkpoint(ctx, connect.NewRequest(&v1.CheckpointRequest{Height: &height}))
		if err != nil {
			return err
		}
		cp, err := types.DecodeCheckpoint(r.Msg.Checkpoint)
		if err != nil {
			return err
		}
		if cp.ID() != id || cp.Chain != j.genesis.ChainID() {
			return fmt.Errorf("the checkpoint of height %d is %s there, and %s is trusted: it is of another chain or fork, or join_trust is wrong", height, cp.ID(), id)
		}
		snap, err := types.DecodeSnapshot(r.Msg.Snapshot)
		if err != nil {
			return err
		}
		cert, err := types.DecodeCertificate(r.Msg.Certificate)
		if err != nil {
			return err
		}
		if _, err := proof.VerifyCertificate(cp.Chain, cp, cert, snap); err != nil {
			return err
		}
		j.trust = proof.At(&j.genesis.Params, cp, snap.Height)
		return nil
	})
}

// errYoung says that the chain is too short for there to be anything to join at.
var errYoung = errors.New("the chain is young")

// run brings the store to a checkpoint. It tries all sources, and again while some of them may
// yet answer. A nil error means that the store is there, or that the chain is caught up with from
// its genesis just as well.
func (j *joiner) run(ctx context.Context) error {
	var last error
	for try := range 10 {
		err := j.once(ctx)
		var theirs *store.Error
		switch {
		case err == nil:
			return nil
		case errors.As(err, &theirs) && theirs.Kind == store.HasState:
			return nil
		case errors.As(err, &theirs):
			return err
		case errors.Is(err, errYoung):
			j.log.Info("joining from the genesis: the chain is young")
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		last = err
		j.log.Warn("joining did not succeed yet", "try", try+1, "error", err)
		for _, s := range j.sources {
			s.bad.Store(false)
		}
		select {
		case <-time.After(time.Duration(min(try+1, 5)) * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("join: no way found at %d peers; the last error: %w. What was fetched is kept: start again, or with other URLs in --join", len(j.sources), last)
}

// once is one try, at the checkpoint that was begun with, or the newest.
func (j *joiner) once(ctx context.Context) error {
	im, err := store.OpenImport(j.dir, j.options)
	if err != nil {
		return err
	}
	defer func() { _ = im.Close() }() // what was put is kept, and tried again if not
	if begun := im.Target(); begun != nil && begun.Height >= j.trust.Height() {
		err := j.at(ctx, im, &begun.Height)
		if !isCode(err, connect.CodeNotFound) {
			return err
		}
		j.log.Info("no peer holds the state any more that was begun with: beginning anew", "height", begun.Height)
		for _, s := range j.sources {
			s.bad.Store(false)
		}
	}
	return j.at(ctx, im, nil)
}

func isCode(err error, code connect.Code) bool {
	var e *connect.Error
	return errors.As(err, &e) && e.Code() == code
}

// at joins at the checkpoint of a height; nil: the newest.
func (j *joiner) at(ctx context.Context, im *store.Import, height *uint64) error {
	o, err := j.offer(ctx, height)
	if err != nil {
		return err
	}
	steps, err := j.advance(ctx, o.at)
	if err != nil {
		return err
	}
	supply, err := j.genesis.Supply()
	if err != nil {
		return err
	}
	if _, err := im.Begin(o.at, supply); err != nil {
		return err
	}
	j.log.Info("joining", "height", o.at.Height, "checkpoint", o.at.ID(), "outputs", o.at.Outputs, "peers", len(j.sources))
	if err := j.fetch(ctx, im, o.at.Height); err != nil {
		return err
	}
	stand, err := j.stand(ctx, o)
	if err != nil {
		return err
	}
	final := store.Final{Snapshots: o.shares, Base: stand.Runs, Blocks: stand.Blocks, Certificates: make(map[uint64]*types.Certificate)}
	for _, d := range stand.Decisions {
		final.Anchors = append(final.Anchors, d.Anchor)
	}
	for i := range steps {
		final.Certificates[steps[i].Checkpoint.Height] = &steps[i].Certificate
		if s := steps[i].Snapshot; s != nil {
			final.Snapshots = append(final.Snapshots, s)
		}
	}
	slices.SortFunc(final.Snapshots, func(a, b *types.Snapshot) int { return cmp.Compare(a.Height, b.Height) })
	final.Snapshots = slices.CompactFunc(final.Snapshots, func(a, b *types.Snapshot) bool { return a.Height == b.Height })
	j.log.Info("building the tree of outputs", "outputs", o.at.Outputs)
	if err := im.Finish(final); err != nil {
		return err
	}
	j.log.Info("joined", "height", o.at.Height, "checkpoint", o.at.ID(), "blocks_from", o.footing.Floor)
	return nil
}

// offer is a verified answer to Offer, but for the footing.
type offer struct {
	at      *types.Checkpoint
	footing *consensus.Footing
	shares  []*types.Snapshot
	from    *source
}

// each asks the sources in turn until one gives what is wanted. One that tells what is wrong is
// asked no more.
func (j *joiner) each(what string, ask func(*source) error) error {
	var last error
	for _, s := range j.sources {
		if s.bad.Load() {
			continue
		}
		err := ask(s)
		if err == nil || errors.Is(err, errYoung) {
			return err
		}
		j.blame(s, what, err)
		last = err
	}
	if last == nil {
		return fmt.Errorf("%s: no peer is left to ask", what)
	}
	return last
}

// blame notes what a source did.
func (j *joiner) blame(s *source, what string, err error) {
	var away *connect.Error
	if errors.As(err, &away) {
		j.log.Info("a peer does not help", "peer", s.url, "with", what, "error", err)
	} else {
		j.log.Warn("a peer told what is wrong", "peer", s.url, "in", what, "error", err)
	}
	s.bad.Store(true)
}

func (j *joiner) offer(ctx context.Context, height *uint64) (o *offer, err error) {
	err = j.each("offer", func(s *source) error {
		r, err := s.join.Offer(ctx, connect.NewRequest(&v1.OfferRequest{Height: height}))
		if err != nil {
			if detailOf(err).Reason == "young" {
				err = errors.Join(errYoung, err)
			}
			return err
		}
		o, err = readOffer(j.genesis.ChainID(), r.Msg)
		if err == nil {
			o.from = s
		}
		return err
	})
	return o, err
}

// detailOf is what an agent says of its error besides words; empty if nothing.
func detailOf(err error) *v1.ErrorDetail {
	var e *connect.Error
	if errors.As(err, &e) {
		for _, d := range e.Details() {
			if v, err := d.Value(); err == nil {
				if detail, ok := v.(*v1.ErrorDetail); ok {
					return detail
				}
			}
		}
	}
	return new(v1.ErrorDetail)
}

// readOffer checks that the snapshots of an offer lead to its checkpoint.
func readOffer(chainID types.Hash, m *v1.OfferResponse) (*offer, error) {
	cp, err := types.DecodeCheckpoint(m.Checkpoint)
	if err != nil {
		return nil, err
	}
	o := &offer{at: cp}
	if o.footing, err = consensus.DecodeFooting(m.Footing); err != nil {
		return nil, err
	}
	for _, s := range m.Shares {
		snap, err := types.DecodeSnapshot(s.Snapshot)
		if err != nil {
			return nil, err
		}
		by := cp
		if len(s.By) > 0 {
			if by, err = types.DecodeCheckpoint(s.By); err != nil {
				return nil, err
			}
			statement, err := proof.Decode(s.Proof)
			if err != nil {
				return nil, err
			}
			p, ok := statement.(*proof.Consistency)
			if !ok {
				return nil, fmt.Errorf("the snapshot of height %d comes with another proof than is wanted", snap.Height)
			}
			if err := p.Verify(by, cp); err != nil {
				return nil, err
			}
		}
		if snap.Root(chainID) != by.SnapshotRoot {
			return nil, fmt.Errorf("the snapshot of height %d is not the one that the checkpoint of height %d commits to", snap.Height, by.Height)
		}
		o.shares = append(o.shares, snap)
	}
	return o, nil
}

// advance verifies certificates up to the checkpoint, from what is trusted, and gives the steps.
func (j *joiner) advance(ctx context.Context, at *types.Checkpoint) (steps []proof.Step, err error) {
	err = j.each("certificates", func(s *source) error {
		steps = nil
		trust := j.trust
		for trust.Height() < at.Height {
			r, err := s.agent.Advance(ctx, connect.NewRequest(&v1.AdvanceRequest{FromHeight: trust.Height(), ToHeight: &at.Height}))
			if err != nil {
				return err
			}
			before := trust.Height()
			for _, raw := range r.Msg.Steps {
				statement, err := proof.Decode(raw)
				if err != nil {
					return err
				}
				a, ok := statement.(*proof.Advance)
				if !ok {
					return errors.New("a step is no advance")
				}
				if trust, _, err = trust.Advance(a.Steps); err != nil {
					return err
				}
				steps = append(steps, a.Steps...)
			}
			if trust.Height() == before {
				return fmt.Errorf("certificates end at height %d, and the offer is of height %d", before, at.Height)
			}
		}
		if trust.ID != at.ID() {
			return fmt.Errorf("the certified checkpoint of height %d is %s, and the offer has %s", trust.Height(), trust.ID, at.ID())
		}
		return nil
	})
	return steps, err
}

// joinWorkers is how many chunks are on their way from one source.
const joinWorkers = 4

// fetching is the chunks on their way.
type fetching struct {
	*joiner
	im     *store.Import
	height uint64

	mu     sync.Mutex
	change *sync.Cond // a chunk came, or will not
	flying map[proof.ChunkRef]bool
	err    error // that ends it all
}

// fetch brings all chunks of the state.
func (j *joiner) fetch(ctx context.Context, im *store.Import, height uint64) error {
	f := &fetching{joiner: j, im: im, height: height, flying: make(map[proof.ChunkRef]bool)}
	f.change = sync.NewCond(&f.mu)
	progress := time.NewTicker(2 * time.Second)
	defer progress.Stop()
	finished := make(chan struct{})
	defer close(finished)
	go func() {
		for {
			select {
			case <-progress.C:
				s := im.Status()
				j.log.Info("joining", "chunks", s.In, "of", s.Chunks, "mb", s.Bytes>>20)
			case <-finished:
				return
			}
		}
	}()
	var workers sync.WaitGroup
	for _, s := range j.sources {
		for range joinWorkers {
			workers.Go(func() { f.work(ctx, s) })
		}
	}
	workers.Wait()
	switch {
	case f.err != nil:
		return f.err
	case !im.Status().Whole:
		return errors.New("no peer is left that gives the state")
	}
	return nil
}

// work asks one source, until nothing is wanted any more, or it is not to be asked any more.
func (f *fetching) work(ctx context.Context, s *source) {
	for {
		ref, ok := f.next(s)
		if !ok {
			return
		}
		err := f.chunk(ctx, s, ref)
		f.mu.Lock()
		delete(f.flying, ref)
		if err != nil && f.err == nil {
			f.err = err
		}
		f.change.Broadcast()
		f.mu.Unlock()
	}
}

// next is a chunk that nobody fetches yet; it waits as long as there may be one.
func (f *fetching) next(s *source) (ref proof.ChunkRef, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if f.err != nil || s.bad.Load() || f.im.Status().Whole {
			return ref, false
		}
		for ref := range f.im.Wanted() {
			if !f.flying[ref] {
				f.flying[ref] = true
				return ref, true
			}
		}
		if len(f.flying) == 0 {
			return ref, false
		}
		f.change.Wait()
	}
}

// chunk fetches one. What the source did wrong is its own fault and no error: another is asked then.
func (f *fetching) chunk(ctx context.Context, s *source, ref proof.ChunkRef) error {
	r, err := s.join.Chunk(ctx, connect.NewRequest(&v1.ChunkRequest{Height: f.height, Ref: ref.Encode()}))
	if err != nil {
		if d := detailOf(err); d.Kind == "too_large" {
			if depth, bad := strconv.ParseUint(d.Reason, 10, 16); bad == nil && uint16(depth) > ref.Prefix.Len {
				return f.im.Split(ref, uint16(depth))
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.blame(s, ref.String(), err)
		return nil
	}
	err = f.im.Put(ref, r.Msg.Chunk)
	var disk *store.Error
	if err != nil && !errors.As(err, &disk) {
		f.blame(s, ref.String(), err)
		return nil
	}
	return err
}

// stand takes a stand in consensus at the offer's checkpoint: by the source of the offer first, or
// by another's.
func (j *joiner) stand(ctx context.Context, o *offer) (stand *chain.Stand, err error) {
	for range 40 {
		var raws []types.RawBlock
		if raws, err = o.from.blocks(ctx, o.footing.Floor, o.at.Height+64); err != nil {
			break
		}
		stand, err = chain.TakeStand(j.genesis, o.at, o.footing, raws, o.shares, j.now())
		if !errors.Is(err, chain.ErrTooSoon) {
			break
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err != nil {
		j.blame(o.from, "blocks", err)
	}
	return stand, err
}

// blocks are those of height from and above, to height last or a little above.
func (s *source) blocks(ctx context.Context, from, last uint64) (raws []types.RawBlock, err error) {
	for from != 0 && from <= last {
		r, err := s.join.Blocks(ctx, connect.NewRequest(&v1.BlocksRequest{FromHeight: from}))
		if err != nil {
			return nil, err
		}
		for _, b := range r.Msg.Blocks {
			raws = append(raws, types.RawBlock{Header: b.Header, Payload: b.Payload})
		}
		if r.Msg.Next != 0 && r.Msg.Next <= from {
			return nil, fmt.Errorf("blocks from height %d go on at height %d", from, r.Msg.Next)
		}
		from = r.Msg.Next
	}
	return raws, nil
}
