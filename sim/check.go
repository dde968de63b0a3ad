package sim

import (
	"fmt"
	"slices"

	"charter/consensus"
	"charter/ledger"
	"charter/types"
)

// checker holds what all honest peers ever said against the invariants. It shares no code
// with what it checks.
type checker struct {
	w        *world
	decided  []settled // by height − 1, as the first honest peer had it
	ordered  map[types.Hash]uint64
	signed   map[slot]types.Hash
	roots    map[uint64]types.Hash
	votes    map[uint64]map[types.Key]types.Hash // for checkpoints, as honest peers took them in
	liars    map[types.Key]bool                  // signed a checkpoint that is not, or two of one height
	fates    map[types.Hash]fate                 // what wallets were told of their payments
	runs     []consensus.Run                     // by number
	shares   map[uint64]*types.Snapshot
	healedAt int64
	pumps    int
	over     bool // agreement broke where it may, and the guilty are named: nothing follows
}

type settled struct {
	anchor types.Hash
	digest types.Hash
	by     *node
	run    uint64
}

type slot struct {
	author types.Key
	height uint64
}

func newChecker(w *world) *checker {
	return &checker{w: w, ordered: make(map[types.Hash]uint64), signed: make(map[slot]types.Hash),
		roots: make(map[uint64]types.Hash), shares: make(map[uint64]*types.Snapshot),
		votes: make(map[uint64]map[types.Key]types.Hash), liars: make(map[types.Key]bool), fates: make(map[types.Hash]fate)}
}

func (c *checker) start() {
	c.shares[0] = c.w.genesis.Snapshot()
	c.runs = []consensus.Run{consensus.FirstRun(c.w.chain)}
}

func (c *checker) count(name string) { c.w.report.Checks[name]++ }

func (c *checker) fail(invariant, format string, args ...any) {
	if c.w.report.Violation != nil || c.over {
		return
	}
	c.w.report.Violation = &Violation{
		Seed: c.w.cfg.Seed, Invariant: invariant, What: fmt.Sprintf(format, args...),
		At: types.Millis(c.w.now / 1000), Command: c.w.cfg.Command(), Tail: append([]string{c.w.drawn.String()}, c.w.trace.tail()...),
	}
}

// ready looks at everything that a core says.
func (c *checker) ready(n *node, r *consensus.Ready) {
	w := c.w
	if n.style == honest {
		for _, a := range r.Accepted {
			c.voted(a.Block)
		}
	}
	for _, f := range r.Forks {
		w.note(n, "fork", f.A.Height, c.w.id(f.B))
		c.evidence(n, f)
	}
	for _, x := range r.Refused {
		w.note(n, "refused", uint64(x.Err.Kind), x.ID)
		w.sometimes("block refused")
		if n.style == honest && w.honest(x.Author) && x.Author != simKey(999) {
			c.fail("valid only", "node %d refuses honest block %s: %v", n.id, x.ID.Short(), x.Err)
		}
	}
	for _, t := range r.Tiers {
		w.sometimes("tier " + t.Tier.String())
	}
	for i := range r.Decided {
		d := &r.Decided[i]
		w.note(n, "decided", d.Height, d.Anchor)
		if n.style == honest {
			c.decision(n, d)
		}
	}
	if c.pumps++; c.pumps%64 == 0 && n.style == honest {
		c.bounded(n)
	}
}

// decision checks agreement, that finality is for ever, and that nothing is ordered twice.
func (c *checker) decision(n *node, d *consensus.Decision) {
	c.count("agreement")
	if d.Height != n.told+1 {
		c.fail("finality for ever", "node %d tells height %d after %d", n.id, d.Height, n.told)
		return
	}
	n.told = d.Height
	said := settled{d.Anchor, digest(d.Blocks), n, d.Run}
	if d.Height > uint64(len(c.decided)) {
		c.decided = append(c.decided, said)
		c.news(n, d)
		return
	}
	before := c.decided[d.Height-1]
	if before.anchor == said.anchor && before.digest == said.digest {
		return
	}
	if before.by == n {
		c.fail("finality for ever", "node %d had height %d as %s, and now as %s", n.id, d.Height, before.anchor.Short(), said.anchor.Short())
		return
	}
	c.blame(before, said, d.Height)
}

var tagDigest = types.NewTag("charter/sim digest")

func digest(blocks []types.Hash) types.Hash {
	all := make([]byte, 0, 32*len(blocks))
	for _, id := range blocks {
		all = append(all, id[:]...)
	}
	return tagDigest.Hash(all)
}

// news takes in a height that nobody had decided before.
func (c *checker) news(n *node, d *consensus.Decision) {
	w := c.w
	if d.Anchor.IsZero() {
		w.sometimes("empty height")
		if len(d.Blocks) > 0 {
			c.fail("total order", "height %d is empty and orders blocks", d.Height)
		}
		return
	}
	if d.Blocks[len(d.Blocks)-1] != d.Anchor {
		c.fail("total order", "the anchor of height %d is not the last it orders", d.Height)
	}
	for _, id := range d.Blocks {
		if h, twice := c.ordered[id]; twice {
			c.fail("total order", "block %s is ordered by heights %d and %d", id.Short(), h, d.Height)
		}
		c.ordered[id] = d.Height
	}
	if r := d.Closes; r != nil {
		c.runs = append(c.runs, *r)
		c.handedOver(r)
	}
}

// handedOver notes what kind of hand-over a closing anchor makes.
func (c *checker) handedOver(r *consensus.Run) {
	w := c.w
	w.sometimes("run closed")
	if w.partitioned() {
		w.sometimes("run closed in a partition")
	}
	if p := w.params(); r.Start >= p.SnapshotLag && r.Snapshot != (r.Start-p.SnapshotLag)/p.SnapshotPeriod*p.SnapshotPeriod {
		c.fail("runs", "run %d from height %d uses the snapshot of height %d", r.Number, r.Start, r.Snapshot)
	}
	s, genesis := c.shares[r.Snapshot], c.shares[0]
	if s == nil {
		return // decided, and not applied by anybody yet
	}
	if s.Total() != genesis.Total() || !slices.Equal(s.Members, genesis.Members) {
		w.sometimes("hand-over to other shares")
	}
	if len(s.Members) > len(genesis.Members) {
		w.sometimes("hand-over to more peers")
	}
	if len(s.Members) < len(genesis.Members) {
		w.sometimes("hand-over to fewer peers")
	}
}

// blame is for two honest peers that decide differently: more than a third of a run's
// shares must be provably forked in what the two hold, and that must be so drawn.
func (c *checker) blame(a, b settled, height uint64) {
	forked := make(map[types.Key]bool)
	seen := make(map[slot2]types.Hash)
	for _, n := range []*node{a.by, b.by} {
		all := slices.Clone(n.disk.blocks)
		if n.writing != nil {
			all = append(all, n.writing.accepted...)
		}
		for _, x := range append(all, n.staged.accepted...) {
			at := slot2{x.Block.Author, x.Block.Previous}
			if id, is := seen[at]; is && id != x.ID {
				forked[x.Block.Author] = true
			}
			seen[at] = x.ID
		}
	}
	runs := append([]consensus.Run{consensus.FirstRun(c.w.chain)}, a.by.disk.runs...)
	named := false
	for _, r := range runs {
		if s := c.shares[r.Snapshot]; s != nil {
			var sum types.Amount
			for _, m := range s.Members {
				if forked[m.Peer] {
					sum += m.Shares
				}
			}
			named = named || 3*sum > s.Total()
		}
	}
	what := fmt.Sprintf("height %d is %s for node %d and %s for node %d; %d authors forked, more than a third of the shares: %t",
		height, a.anchor.Short(), a.by.id, b.anchor.Short(), b.by.id, len(forked), named)
	if !named {
		c.fail("accountability", "%s", what)
	} else if !c.w.drawn.excess {
		c.fail("agreement", "%s", what)
	}
	c.count("accountability")
	c.w.sometimes("agreement broken, and a third named")
	c.over = true
}

// runAt is the run of a height as a node knows it, nil if it does not know the shares.
func (w *world) runAt(n *node, h uint64) *naiveRun {
	r := consensus.FirstRun(w.chain)
	for i := len(n.disk.runs) - 1; i >= 0; i-- {
		if n.disk.runs[i].Start <= h {
			r = n.disk.runs[i]
			break
		}
	}
	return w.shared(&r)
}

// shared is a run with its shares, nil if nobody has taken their snapshot.
func (w *world) shared(r *consensus.Run) *naiveRun {
	if known := w.runs[r.Seed]; known != nil {
		return known
	}
	s := w.check.shares[r.Snapshot]
	if s == nil {
		return nil
	}
	run := &naiveRun{number: r.Number, start: r.Start, snapshot: r.Snapshot, seed: r.Seed, shares: map[types.Key]types.Amount{}, total: s.Total()}
	for _, m := range s.Members {
		run.shares[m.Peer] = m.Shares
	}
	w.runs[r.Seed] = run
	return run
}

type slot2 struct {
	author   types.Key
	previous types.Hash
}

// evidence checks a proof of a fork: it is one, and not of an honest peer.
func (c *checker) evidence(n *node, f consensus.Fork) {
	c.count("evidence")
	c.w.sometimes("evidence")
	a, b := f.A, f.B
	if a.Author != b.Author || a.Previous != b.Previous || c.w.id(a) == c.w.id(b) {
		c.fail("evidence", "what node %d shows is no fork", n.id)
	}
	if c.w.honest(a.Author) {
		c.fail("evidence", "node %d names %s, which is honest", n.id, a.Author.Short())
	}
}

// fetched counts what a node fetched, and what of it the node had.
func (c *checker) fetched(n *node, blocks []*types.Block) {
	for _, b := range blocks {
		n.pulled++
		if n.block(c.w.id(b)) != nil {
			n.pulledTwice++
		}
	}
}

// signers is the shares whose two thirds certify the checkpoint of a height: those of the run
// that decided it. Nil if that is not known.
func (c *checker) signers(h uint64) *types.Snapshot {
	if h == 0 || h > uint64(len(c.decided)) {
		return nil
	}
	return c.shares[c.runs[c.decided[h-1].run].Snapshot]
}

// voted takes in the vote for a checkpoint that a block carries.
func (c *checker) voted(b *types.Block) {
	v := b.Checkpoint
	if v.Height == 0 {
		return
	}
	of := c.votes[v.Height]
	if of == nil {
		of = make(map[types.Key]types.Hash)
		c.votes[v.Height] = of
	}
	if before, twice := of[b.Author]; !twice {
		of[b.Author] = v.Checkpoint
		c.weighVotes(v.Height)
	} else if before != v.Checkpoint {
		c.lied(b.Author, v.Height, "signed two checkpoints of")
	}
}

// lied notes evidence of a false checkpoint: it must be a liar's.
func (c *checker) lied(author types.Key, h uint64, what string) {
	c.count("false checkpoint evidence")
	c.liars[author] = true
	if c.w.honest(author) {
		c.fail("evidence", "%s %s height %d, and is honest", author.Short(), what, h)
	}
}

// weighVotes looks at all votes of a height once its checkpoint is known: two thirds sign
// that one alone, and who signed another is a liar.
func (c *checker) weighVotes(h uint64) {
	right, s := c.roots[h], c.signers(h)
	if right.IsZero() || s == nil {
		return
	}
	sums := make(map[types.Hash]types.Amount)
	for _, m := range s.Members {
		id, ok := c.votes[h][m.Peer]
		if !ok {
			continue
		}
		if sums[id] += m.Shares; id != right && !c.liars[m.Peer] {
			c.lied(m.Peer, h, "signed another checkpoint than the certified of")
		}
	}
	for id, sum := range sums {
		if id != right && 3*sum > 2*s.Total() {
			c.fail("certificates", "two thirds signed checkpoint %s of height %d, which is %s", id.Short(), h, right.Short())
		}
	}
	if 3*sums[right] > 2*s.Total() {
		c.count("certified")
	}
}

// fate is what became of a payment.
type fate struct {
	kind   types.EventKind
	height uint64
}

// told checks what wallets are told by a peer: a payment has one fate for ever and from
// everybody, and the height that a peer answers from does not go back.
func (c *checker) told(n *node, ch *ledger.Changes) {
	if n.style != honest {
		return
	}
	for i := range ch.Events {
		e := &ch.Events[i]
		c.count("client truth")
		now := fate{e.Kind, ch.Height}
		if was, is := c.fates[e.Transaction]; is && was != now {
			c.fail("client truth", "node %d tells that %s is %v at height %d, and it was %v at height %d", n.id, e.Transaction.Short(), now.kind, now.height, was.kind, was.height)
		}
		c.fates[e.Transaction] = now
	}
	if ch.Height < n.answered {
		c.fail("client truth", "node %d answers from height %d, and did from height %d", n.id, ch.Height, n.answered)
	}
	n.answered = ch.Height
}

// restarted checks that a peer has after a restart what it had told before: the height that it
// answered from, and the payments that it acknowledged.
func (c *checker) restarted(n *node) {
	if n.style != honest {
		return
	}
	c.count("durable")
	if last := uint64(len(n.disk.decisions)); last < n.answered {
		c.fail("client truth", "node %d answered from height %d, and has %d after a restart", n.id, n.answered, last)
	}
	for _, p := range n.acknowledged {
		if e, _ := n.disk.ledger.Event(p.tx.ID); e == nil && !slices.Contains(n.disk.pool, p) {
			c.fail("durable", "payment %s, acknowledged by node %d, is gone after a restart", p.tx.ID.Short(), n.id)
		}
	}
}

// built notes how a block came to be built.
func (c *checker) built(n *node, b *types.Block) {
	w := c.w
	last := uint64(0)
	if before := n.block(b.Previous); before != nil {
		last = before.Height
	}
	if b.Height > last+1 {
		w.sometimes("climbed over heights")
	}
	if p := n.block(b.Parent); p != nil && p.Height+1 < b.Height {
		w.sometimes("parent below the last height")
	}
	var below types.Amount
	s := n.core.Shares()
	for _, id := range b.Named() {
		if x := n.block(id); x != nil && x.Height+1 == b.Height {
			for _, m := range s {
				if m.Peer == x.Author {
					below += m.Shares
				}
			}
		}
	}
	var total types.Amount
	for _, m := range s {
		total += m.Shares
	}
	if b.Height > 1 && 3*below <= 2*total {
		w.sometimes("built without two thirds")
	}
}

// block is a block that a node holds, durable or not; nil if it does not.
func (n *node) block(id types.Hash) *types.Block {
	if at, ok := n.disk.byID[id]; ok {
		return n.disk.blocks[at].Block
	}
	for _, b := range []*batch{n.writing, &n.staged} {
		if b != nil {
			for _, a := range b.accepted {
				if a.ID == id {
					return a.Block
				}
			}
		}
	}
	return nil
}

// sent checks that a block's sender holds it, and all that it names, on its disk.
func (c *checker) sent(n *node, b *types.Block) {
	c.count("durable before sent")
	if n.style != honest {
		return
	}
	for _, id := range append(b.Named(), c.w.id(b)) {
		if _, ok := n.disk.byID[id]; !ok && id != c.w.chain {
			c.fail("durable before sent", "node %d sends height %d without block %s on its disk", n.id, b.Height, id.Short())
		}
	}
}

// broadcast checks that an honest key signs one block per height, over all its lives.
func (c *checker) broadcast(n *node, b *types.Block) {
	if !c.w.honest(n.key) {
		return
	}
	c.count("never sign twice")
	at, id := slot{n.key, b.Height}, c.w.id(b)
	if before, is := c.signed[at]; is && before != id {
		c.fail("never sign twice", "node %d signs height %d twice: %s and %s", n.id, b.Height, before.Short(), id.Short())
	}
	c.signed[at] = id
}

// applied checks conservation after a batch: against genesis, not against the ledger's sum.
func (c *checker) applied(n *node, ch *ledger.Changes) {
	c.count("conservation")
	supply, _ := c.w.genesis.Supply()
	if ch.Unspent+ch.Fees != supply {
		c.fail("conservation", "node %d: %s unspent and %s fees at height %d, and %s were issued", n.id, ch.Unspent, ch.Fees, ch.Height, supply)
	}
	c.told(n, ch)
	for i := range ch.Events {
		if ch.Events[i].Kind == types.Rejected {
			c.w.sometimes("payment rejected")
		}
	}
}

// snapshot checks that all take the same, and that it is the sum of what is unspent.
func (c *checker) snapshot(n *node, s *types.Snapshot) {
	c.count("snapshots")
	if before := c.shares[s.Height]; before != nil {
		if n.style == honest && !slices.Equal(before.Members, s.Members) {
			c.fail("snapshots", "node %d has other shares at height %d", n.id, s.Height)
		}
		return
	}
	if n.style != honest {
		return
	}
	c.shares[s.Height] = s
	sums := make(map[types.Key]types.Amount)
	m := n.disk.ledger
	for i := range m.State().Outputs {
		if o, _ := m.Output(i); o.SpentHeight == 0 {
			sums[o.Output.Host] += o.Output.Value
		}
	}
	for _, x := range s.Members {
		if sums[x.Peer] != x.Shares {
			c.fail("snapshots", "peer %s has %s at height %d, and outputs of %s", x.Peer.Short(), x.Shares, s.Height, sums[x.Peer])
		}
	}
}

// checkpoint checks that roots are equal at a height.
func (c *checker) checkpoint(n *node, cp *types.Checkpoint) {
	if n.style != honest {
		return
	}
	c.count("equal roots")
	id := cp.ID()
	if before, is := c.roots[cp.Height]; is && before != id {
		c.fail("equal roots", "node %d has another checkpoint of height %d", n.id, cp.Height)
	}
	if before := c.roots[cp.Height]; before.IsZero() {
		c.roots[cp.Height] = id
		c.weighVotes(cp.Height)
	}
}

// bounded checks that a core's memory does not grow with its past.
func (c *checker) bounded(n *node) {
	c.count("bounded")
	_, last := n.core.Anchor()
	if f := n.core.Floor(); last > f+4*consensus.Window && c.w.healed && c.w.now > c.healedAt+micros(10_000) {
		c.fail("bounded", "node %d holds heights %d to %d", n.id, f, last)
	}
	if k := len(n.core.Waiting()); k > 5000 {
		c.fail("bounded", "%d blocks wait at node %d", k, n.id)
	}
}

// atEnd checks liveness after healing, and lets a core and the slow twin go over the run.
func (c *checker) atEnd() {
	w := c.w
	if !w.drawn.excess {
		c.alive()
	}
	var best *node
	for _, n := range w.nodes {
		if n.style == honest && (best == nil || len(n.disk.decisions) > len(best.disk.decisions)) {
			best = n
		}
	}
	if w.report.Violation != nil || best == nil {
		return
	}
	c.atMost()
	if err := w.justify(best); err != nil {
		c.fail("justified", "%v", err)
	}
	if err := w.replay(best); err != nil {
		c.fail("order independence", "%v", err)
	}
	if w.cfg.Seed%4 == 0 {
		if err := w.rebuild(best); err != nil {
			c.fail("from scratch", "%v", err)
		}
	}
}

// maxHeights is how many heights after its submission a payment is final at the latest, with all
// healed and not counting heights that are empty: their leaders were silent, late or bad.
const maxHeights = 10

// soon checks that of a payment that was ordered at a height.
func (c *checker) soon(p *payment, height uint64) {
	if !p.calm {
		return
	}
	c.count("final within ten heights")
	took := int(height) - int(p.top)
	for h := p.top + 1; h < height; h++ {
		if c.decided[h-1].anchor.IsZero() {
			took--
		}
	}
	if took > maxHeights {
		c.fail("final within ten heights", "payment %s was given at height %d, and is final at %d, %d heights with anchors later", p.tx.ID.Short(), p.top, height, took)
	}
}

// top is the greatest height that any honest peer has.
func (c *checker) top() (h uint64) {
	for _, n := range c.w.nodes {
		if n.up && n.style == honest {
			h = max(h, n.core.Height())
		}
	}
	return h
}

// atMost checks that nobody got more than twice the blocks that it needed, pushed and pulled, and that no author
// filled the disks of others: each honest peer may have named one variant of a fork before it
// knew of it.
func (c *checker) atMost() {
	for _, n := range c.w.nodes {
		if n.style != honest {
			continue
		}
		c.count("fetched at most twice")
		if needed := len(n.disk.blocks); n.pulledTwice > needed {
			c.fail("bounded", "node %d fetched %d blocks, had %d of them by then, and needed %d in all", n.id, n.pulled, n.pulledTwice, needed)
		}
		top := n.core.Height()
		for author, line := range n.disk.lines {
			c.count("blocks per author")
			if most := int(top) + maxVariants*len(c.w.nodes); len(line) > most {
				c.fail("bounded", "node %d holds %d blocks of %s up to height %d, more than %d", n.id, len(line), author.Short(), top, most)
			}
		}
	}
}

// maxVariants is how many blocks beyond one a height, of an author that forks, may come into a
// peer's disk for each peer there is.
const maxVariants = 8

// alive checks that with all healed every honest peer has decided what the best has, and
// that every payment is final.
func (c *checker) alive() {
	w := c.w
	c.count("alive after healing")
	for _, n := range w.nodes {
		if n.style != honest || c.w.report.Violation != nil {
			continue
		}
		if last := uint64(len(n.disk.decisions)); last+5 < uint64(len(c.decided)) || last == 0 {
			c.fail("alive after healing", "node %d has decided %d heights of %d; top %d, %d waiting, behind %t", n.id, last, len(c.decided), n.core.Height(), len(n.core.Waiting()), n.behind)
		}
		for _, p := range w.payments {
			e, _ := n.disk.ledger.Event(p.tx.ID)
			if e != nil {
				c.soon(p, e.Height)
			} else {
				c.fail("alive after healing", "payment %s of %d ms is not final at node %d, %d ms after healing", p.tx.ID.Short(), p.made/1000, n.id, (w.now-c.healedAt)/1000)
			}
		}
	}
}
