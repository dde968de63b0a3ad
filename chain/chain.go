// Package chain is where a peer's past is made: it owns consensus, ledger, pool and store,
// and drives them.
//
//	Deliver ──check──► loop: consensus.Core, pool ──► own blocks ──► Network
//	Submit  ──check──►   │  ▲                            (durable first)
//	                     │  │ snapshots
//	            decisions▼  │
//	                  applier: ledger, trees, one batch ──► checkpoints, votes
//	                     │                                        │
//	                     ▼                                        ▼
//	                 Updates                               certificates, proofs
//
// The loop is one goroutine and owns consensus and the pool; the applier is another and owns
// the final state. Checking signatures happens in the callers' goroutines, before either.
// Between them are bounded queues: a full one makes who fills it wait.
//
// What must be durable before what (spec/consensus.md, "Restart"): a block of others before an own block that
// names it; an own block, and the record that it was signed, before it is sent; a submitted
// transaction before it is acknowledged; a vote before it is sent.
package chain

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"charter/consensus"
	"charter/ledger"
	"charter/pool"
	"charter/sig"
	"charter/store"
	"charter/types"
)

// Network is what a chain needs of the network. Its methods return at once.
type Network interface {
	// Broadcast sends an own new block, or one of a forker's two, to every peer.
	Broadcast(types.RawBlock)
	// BroadcastVote sends an own vote for a checkpoint to every peer.
	BroadcastVote(types.SignedVote)
	// Want asks for blocks that are named and missing, of from first: it sent what names them.
	Want(ids []types.Hash, from types.Key)
	// Forward gives transactions to the peer that hosts their first inputs. It tells Unforwarded
	// of those that the host could not be given.
	Forward(txs [][]byte, host types.Key)
	// Misbehaved reports a peer that sent what it should have known to be wrong.
	Misbehaved(who types.Key, err error)
}

// Config is what a Chain is made of.
type Config struct {
	Genesis *types.Genesis
	Key     sig.PrivateKey // of this peer
	Store   *store.Store   // opened for this chain and this peer; it stays the caller's to close
	Network Network
	Pool    pool.Limits
	Log     *slog.Logger        // nil is none
	Now     func() types.Millis // nil is the machine's clock
	Adrift  bool                // begin as after SetAdrift(true)
	Keep    uint64              // heights below the final one whose blocks are kept, MinKeep at least; 0 is all
}

// Chain is a running peer's past. Its methods may be called by any goroutine.
type Chain struct {
	cfg    Config
	id     types.Hash
	params *types.Params
	self   types.Key
	log    *slog.Logger

	inbox   chan any            // to the loop: what handle takes
	applied chan appliedBatch   // to the loop, of the applier
	decided chan []decidedBlock // to the applier
	charges chan types.Evidence // to who publishes it
	quit    chan struct{}
	done    sync.WaitGroup
	stop    sync.Once
	failed  chan struct{}
	failure error // set before failed is closed

	restored chan struct{} // closed when all is final again that the log decides

	checker checker // of what strangers send
	votes   votes   // for checkpoints, and certificates
	pins    pins    // states that proofs are made of
	feed    feed    // who watches
	sieve   sieve   // of what was ordered
	offers  offers  // states held for peers that join

	// Owned by the loop.
	core      *consensus.Core
	pool      *pool.Pool
	open      map[types.Hash]*openBlock // accepted, with a payload, not ordered
	headers   headers
	bare      map[types.Key]types.Hash // the evidence without inputs that waits, by offender
	senders   map[types.Hash]types.Key // who delivered a block that consensus has not judged yet
	runs      []consensus.Run          // newest last
	denounced map[types.Key]bool       // whose fork was told to all
	syncing   bool
	absent    map[types.Hash]types.Millis // since when blocks are missing, while syncing
	adrift    bool                        // the clock is too far from the others'
	clock     types.Millis                // latest that consensus was told
	lost      uint64                      // the last floor that was asked for and is not kept
	handed    uint64                      // greatest height given to the applier

	// Owned by the applier.
	state  *ledger.State
	recent recent

	mu     sync.RWMutex                // guards what follows, written by the loop
	where  map[types.Hash]*Transaction // of transactions that are not settled
	status Status
}

// openBlock is a block whose transactions are not final.
type openBlock struct {
	author types.Key
	txs    []ledger.Ordered
	tier   consensus.Tier
}

// decidedBlock is a decided height on its way to the applier.
type decidedBlock struct {
	consensus.Decision
	txs      []ledger.Ordered
	said     []ledger.Witness
	sampled  []*types.Block // that have a sample to be checked
	snapshot uint64         // height of the shares that decided it, and that sign its checkpoint
	vote     bool
	base     []byte // what a restart needs, where a run is closed; else nil
}

// appliedBatch is what the applier tells the loop.
type appliedBatch struct {
	snapshots []*types.Snapshot
	settled   []types.Hash
	spent     []uint64
}

// Open restores the chain from its store, or starts it from genesis, and runs it until Close. What
// was final before is so again when it returns: nobody is told of a lower height than before.
// Errors are those of the store, or say what does not hold together.
func Open(cfg Config) (*Chain, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = func() types.Millis { return types.MillisOf(time.Now()) }
	}
	if cfg.Pool == (pool.Limits{}) {
		cfg.Pool = pool.DefaultLimits
	}
	c := &Chain{
		cfg: cfg, id: cfg.Genesis.ChainID(), params: &cfg.Genesis.Params, self: cfg.Key.Public(), log: cfg.Log,
		inbox: make(chan any, 1024), applied: make(chan appliedBatch, 16), decided: make(chan []decidedBlock, 16),
		quit: make(chan struct{}), failed: make(chan struct{}), restored: make(chan struct{}), charges: make(chan types.Evidence, 64),
		open: make(map[types.Hash]*openBlock), senders: make(map[types.Hash]types.Key),
		headers: newHeaders(), bare: make(map[types.Key]types.Hash),
		where: make(map[types.Hash]*Transaction), denounced: make(map[types.Key]bool), adrift: cfg.Adrift,
	}
	c.checker.init(c.id, c.params)
	c.votes.init(c)
	if err := c.begin(); err != nil {
		return nil, err
	}
	if err := c.catchUpWithLog(); err != nil {
		return nil, err
	}
	if err := c.refill(); err != nil {
		return nil, err
	}
	c.sift(c.cfg.Store.View().EventCount())
	c.done.Go(c.apply)
	c.done.Go(c.run)
	if cfg.Keep > 0 {
		c.done.Go(c.prune)
	}
	c.done.Go(c.prosecute)
	select {
	case <-c.restored:
		return c, nil
	case <-c.failed:
		return nil, errors.Join(c.failure, c.Close())
	}
}

// Close stops the chain. What was acknowledged is durable; the rest is forgotten.
func (c *Chain) Close() error {
	c.stop.Do(func() { close(c.quit) })
	c.done.Wait()
	c.feed.close()
	c.closeOffers()
	c.pins.close()
	return c.Err()
}

// Failed is closed when the chain has stopped because it could not go on without losing
// something; Err says why.
func (c *Chain) Failed() <-chan struct{} { return c.failed }

// Err is why the chain has failed, or nil.
func (c *Chain) Err() error {
	select {
	case <-c.failed:
		return c.failure
	default:
		return nil
	}
}

// fail stops the chain for good.
func (c *Chain) fail(err error) {
	c.stop.Do(func() {
		c.failure = err
		c.log.Error("the chain stops", "error", err)
		close(c.failed)
		close(c.quit)
	})
}

// ErrClosed says that the chain has stopped.
var ErrClosed = errors.New("the peer is stopping")

// send gives the loop something to handle. It waits while the queue is full.
func (c *Chain) send(m any) error {
	select {
	case c.inbox <- m:
		return nil
	case <-c.quit:
		return ErrClosed
	}
}

// What the loop handles, besides []*checked.
type (
	submission struct {
		txs   []*ledger.Parsed
		raws  [][]byte
		reply chan []error // one for each
	}
	unforwarded types.Hash
	syncing     bool
	adrift      bool
)

// run is the loop.
func (c *Chain) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for restored := false; ; {
		select {
		case <-c.quit:
			close(c.decided)
			return
		case <-c.cfg.Store.Failed():
			c.fail(c.cfg.Store.Err())
			continue
		case m := <-c.inbox:
			c.handle(m)
			for n := len(c.inbox); n > 0; n-- {
				c.handle(<-c.inbox)
			}
		case a := <-c.applied:
			c.digest(a)
		case <-timer.C:
		}
		wake, err := c.pump()
		if err != nil { // a height may be lost on its way to the applier: none may follow it
			c.fail(err)
			close(c.decided)
			return
		}
		if !restored && c.Status().Final >= c.handed {
			restored = true
			close(c.restored)
		}
		timer.Reset(wake)
	}
}

func (c *Chain) handle(m any) {
	switch m := m.(type) {
	case []*checked:
		for _, b := range m {
			c.take(b)
		}
	case submission:
		m.reply <- c.admit(m)
	case unforwarded:
		c.pool.Adopt(types.Hash(m), c.cfg.Now())
	case syncing:
		c.syncing = bool(m)
	case adrift:
		c.adrift = bool(m)
	default:
		panic(fmt.Sprintf("chain: the loop was given a %T", m))
	}
}

// take gives a checked block to consensus.
func (c *Chain) take(b *checked) {
	if c.core.Has(b.id) {
		return
	}
	if len(c.senders) > 1<<16 {
		clear(c.senders)
	}
	c.senders[b.id] = b.from
	if len(b.txs) > 0 {
		c.open[b.id] = &openBlock{author: b.block.Author, txs: b.txs}
	}
	c.checker.hold(b)
	c.core.Step(consensus.Tick{Now: c.cfg.Now()})
	c.core.Step(consensus.Block{Block: b.block})
}

// pump does what follows from all that was handled, and says when to look again.
func (c *Chain) pump() (time.Duration, error) {
	for {
		now := c.cfg.Now()
		if err := c.drop(c.pool.Expire(now)); err != nil {
			return 0, err
		}
		waiting, poolWake := c.pool.Ready(now)
		c.core.Step(consensus.Tick{Now: now})
		c.core.Step(consensus.Syncing{Is: c.syncing || c.adrift})
		c.core.Step(consensus.Waiting{Is: waiting})
		r := c.core.Ready()
		c.core.Advance()
		if err := c.accept(r.Accepted); err != nil {
			return 0, err
		}
		c.report(r)
		if err := c.decide(r.Decided); err != nil {
			return 0, err
		}
		c.retier(r.Tiers, now)
		floor, err := c.buried(r)
		if err != nil {
			return 0, err
		}
		if floor > 0 {
			within, err := c.reaches(floor)
			if err != nil {
				return 0, err
			}
			if !within {
				floor = 0
			}
		}
		if floor > 0 {
			c.log.Info("going back in memory to join a late branch", "height", floor)
			if err := c.relower(floor); err != nil {
				return 0, err
			}
			continue
		}
		if c.clock = max(c.clock, now); c.clock-now > c.params.WaitQuorum/2 {
			// Time never goes back in consensus, so it must forget that it was later.
			c.log.Warn("the clock was set back", "by_ms", int64(c.clock-now))
			if err := c.relower(0); err != nil {
				return 0, err
			}
			continue
		}
		if r.Build != nil {
			if err := c.build(r.Build); err != nil {
				return 0, err
			}
			continue
		}
		for host, txs := range c.pool.Forward(256, now) {
			c.cfg.Network.Forward(txs, host)
		}
		c.want(r.Missing, now)
		c.publishStatus(now)
		wake := r.Wake
		if poolWake > 0 && (wake == 0 || poolWake < wake) {
			wake = poolWake
		}
		if len(c.absent) > 0 && (wake == 0 || wake > now+overdueAfter) {
			wake = now + overdueAfter
		}
		if wake == 0 {
			return time.Minute, nil
		}
		return time.Duration(max(wake-now, 0)) * time.Millisecond, nil
	}
}

// accept makes blocks durable that entered the view. An own one is sent then.
func (c *Chain) accept(blocks []consensus.Accepted) error {
	var others []store.Block
	var own []store.Block
	for _, a := range blocks {
		// One that this peer has signed in another life, and not here, is as another's: the store
		// then refuses to sign more.
		mine := a.Block.Author == c.self && c.senders[a.ID] == c.self
		delete(c.senders, a.ID)
		c.headers.accept(a.ID, a.Block)
		b := store.Block{ID: a.ID, Header: a.Block.Encode(), Payload: c.checker.release(a.ID), Meta: a.Past.Encode()}
		if mine {
			own = append(own, b)
		} else {
			others = append(others, b)
		}
		if o := c.open[a.ID]; o != nil {
			c.pool.Carry(a.ID, transactionIDs(o.txs))
			c.carried(a.ID, o)
		}
	}
	if len(others) > 0 {
		if err := c.cfg.Store.PutBlocks(others, false); err != nil {
			return err
		}
	}
	for _, b := range own {
		if err := c.cfg.Store.PutOwn(b); err != nil {
			return err
		}
		c.cfg.Network.Broadcast(types.RawBlock{Header: b.Header, Payload: b.Payload})
	}
	return nil
}

func transactionIDs(txs []ledger.Ordered) []types.Hash {
	ids := make([]types.Hash, len(txs))
	for i := range txs {
		ids[i] = txs[i].ID
	}
	return ids
}

// report tells the network and the log who broke a rule.
func (c *Chain) report(r consensus.Ready) {
	for _, f := range r.Forks {
		c.log.Warn("a peer has forked its line", "peer", f.A.Author, "height", f.A.Height,
			"block", f.A.ID(c.id), "twin", f.B.ID(c.id))
		c.denounce(f)
		c.accuse(types.ForkEvidence(f.A, f.B))
		for id, o := range c.open {
			if o.author == f.A.Author {
				c.pool.Release(id, transactionIDs(o.txs), c.cfg.Now())
			}
		}
	}
	for _, x := range r.Refused {
		c.log.Warn("refused a block", "block", x.ID.Short(), "author", x.Author.Short(), "error", x.Err)
		if from, ok := c.senders[x.ID]; ok && x.Err.Kind != consensus.Future && x.Err.Kind != consensus.Descendant {
			c.cfg.Network.Misbehaved(from, x.Err)
		}
		delete(c.senders, x.ID)
		delete(c.open, x.ID)
		c.checker.release(x.ID)
	}
}

// denounce sends both blocks of an author's first fork to all peers: nobody names the second any
// more, so they might not come to know it.
func (c *Chain) denounce(f consensus.Fork) {
	if c.denounced[f.A.Author] {
		return
	}
	c.denounced[f.A.Author] = true
	for _, b := range []*types.Block{f.A, f.B} {
		if raw, ok, err := c.Block(b.ID(c.id)); err == nil && ok {
			c.cfg.Network.Broadcast(raw)
		}
	}
}

// overdueAfter is how long a block that is missing while this peer catches up may take to come
// with the others of its height, ms. A block that was sent late may lie below all that come.
const overdueAfter = 300

// overdue is what of the missing has been so for long, and notes since when the others are.
func (c *Chain) overdue(missing []consensus.Missing, now types.Millis) (late []consensus.Missing) {
	since := make(map[types.Hash]types.Millis, len(missing))
	for _, m := range missing {
		was, ok := c.absent[m.ID]
		if !ok {
			was = now
		}
		if since[m.ID] = was; now-was >= overdueAfter {
			late = append(late, m)
		}
	}
	c.absent = since
	return late
}

// want asks for missing blocks, of those first who sent what names them.
func (c *Chain) want(missing []consensus.Missing, now types.Millis) {
	if c.syncing {
		missing = c.overdue(missing, now)
	} else {
		c.absent = nil
	}
	of := make(map[types.Key][]types.Hash)
	for _, m := range missing {
		from := c.senders[m.For]
		of[from] = append(of[from], m.ID)
	}
	for from, ids := range of {
		c.cfg.Network.Want(ids, from)
	}
}

// buried is the floor from which consensus is to be restored, zero for none: what it asks for
// itself, or what shows it blocks that are named, that it has forgotten, and that are in the store.
func (c *Chain) buried(r consensus.Ready) (floor uint64, err error) {
	floor = r.Floor
	for _, m := range r.Missing[:min(len(r.Missing), 64)] {
		b, ok, err := c.cfg.Store.Block(m.ID)
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		past, err := consensus.DecodePast(b.Meta)
		if err != nil {
			return 0, fmt.Errorf("stored block %s: %w", b.ID, err)
		}
		below := max(past.Decided, 1)
		if below < c.core.Floor() && c.core.Floor()-below <= consensus.Reach && (floor == 0 || below < floor) {
			floor = below
		}
	}
	return floor, nil
}

// build makes the block of a template: payload, proof, vote, signature.
func (c *Chain) build(t *consensus.Template) error {
	b := t.Block(c.self)
	ids, raws := c.pool.Take(types.MaxPayload, t.Time)
	k := &checked{block: b, from: c.self}
	if len(raws) > 0 {
		k.payload = types.EncodePayload(raws)
		b.PayloadBytes = uint32(len(k.payload))
	}
	var err error
	if b.Payload, k.txs, err = c.checker.payload(raws); err != nil {
		return fmt.Errorf("own transactions %v: %w", ids, err)
	}
	if t.VRF != nil {
		b.VRF = sig.Prove(c.cfg.Key, t.VRF)
	}
	if v := c.votes.own(); v != nil {
		b.Checkpoint = *v
	}
	if b.Sample, err = c.sample(b); err != nil {
		return fmt.Errorf("sample of height %d: %w", b.Height, err)
	}
	k.id = b.ID(c.id)
	for i := range k.txs {
		k.txs[i].Block, k.txs[i].Author = k.id, c.self
	}
	b.Signature = sig.Sign(c.cfg.Key, k.id)
	c.take(k)
	if !c.core.Has(k.id) {
		return fmt.Errorf("own block %s of height %d does not pass the rules", k.id, b.Height)
	}
	return nil
}

// decide hands decided heights to the applier, with the transactions that they order.
func (c *Chain) decide(ds []consensus.Decision) error {
	if len(ds) == 0 {
		return nil
	}
	batch, err := c.batch(ds, !c.syncing && !c.adrift)
	if err != nil {
		return err
	}
	c.handed = ds[len(ds)-1].Height
	for {
		select {
		case c.decided <- batch:
			return nil
		case a := <-c.applied: // or both would wait for each other
			c.digest(a)
		case <-c.quit:
			return ErrClosed
		}
	}
}

// batch is decided heights with the transactions that they order. Vote says whether to vote for
// their checkpoints.
func (c *Chain) batch(ds []consensus.Decision, vote bool) ([]decidedBlock, error) {
	batch := make([]decidedBlock, 0, len(ds))
	for _, d := range ds {
		out := decidedBlock{Decision: d, vote: vote}
		for _, id := range d.Blocks {
			b, said, err := c.order(id)
			if err != nil {
				return nil, err
			}
			if out.said = append(out.said, said); vote && !b.Sample.IsZero() {
				out.sampled = append(out.sampled, b)
			}
			o := c.open[id]
			if o == nil && b.PayloadBytes > 0 {
				if o, err = c.load(id); err != nil {
					return nil, err
				}
			}
			if o != nil {
				delete(c.open, id)
				out.txs = append(out.txs, o.txs...)
			}
		}
		if d.Closes != nil {
			c.addRun(*d.Closes)
			out.base = encodeRuns(c.runs)
		}
		out.snapshot = c.runOf(d.Run).Snapshot
		batch = append(batch, out)
	}
	return batch, nil
}

// load reads a block's transactions from the store.
func (c *Chain) load(id types.Hash) (*openBlock, error) {
	b, ok, err := c.cfg.Store.Block(id)
	if err == nil && !ok && c.cfg.Store.Lowest() > 0 {
		return nil, c.notKept("block " + id.String())
	}
	if err != nil || !ok {
		return nil, fmt.Errorf("block %s is ordered, and not in the store: %w", id, err)
	}
	return c.openBlock(b)
}

// openBlock is the transactions of a stored block, which were checked before it was stored.
func (c *Chain) openBlock(b store.Block) (*openBlock, error) {
	h, err := types.DecodeBlock(b.Header)
	if err != nil {
		return nil, fmt.Errorf("stored block %s: %w", b.ID, err)
	}
	o := &openBlock{author: h.Author}
	if len(b.Payload) == 0 {
		return o, nil
	}
	raws, err := types.DecodePayload(b.Payload)
	if err != nil {
		return nil, fmt.Errorf("stored block %s: %w", b.ID, err)
	}
	for _, raw := range raws {
		p, err := ledger.Parse(c.id, c.params, raw)
		if err != nil {
			return nil, fmt.Errorf("stored block %s: %w", b.ID, err)
		}
		o.txs = append(o.txs, ledger.Ordered{Tx: p.Tx, ID: p.ID, Block: b.ID, Author: h.Author})
	}
	return o, nil
}

// digest takes in what the applier did.
func (c *Chain) digest(a appliedBatch) {
	for _, s := range a.snapshots {
		c.core.Step(consensus.Snapshot{Snapshot: s})
	}
	for _, id := range a.settled { // more than those that waited here
		c.displace(id)
	}
	if err := c.drop(c.pool.Settle(a.settled, a.spent)); err != nil {
		c.fail(err)
	}
}

// drop forgets transactions that the pool has let go of.
func (c *Chain) drop(ids []types.Hash) error {
	if len(ids) == 0 {
		return nil
	}
	for _, id := range ids {
		c.displace(id)
	}
	return c.cfg.Store.DropPool(ids...)
}
