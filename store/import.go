package store

import (
	"errors"
	"fmt"
	"iter"
	"sync"

	"charter/proof"
	"charter/tlog"
	"charter/types"

	"github.com/cockroachdb/pebble/v2"
)

// Import is a store into which the state of a checkpoint is being fetched, in chunks that prove themselves
// (proof.Chunk). It may be cut off at any moment and goes on where it was, but for what was put last; only
// when all is there and fits the checkpoint does Finish make it a store like any other.
//
//	OpenImport ─► Begin ─► Wanted ─► Put … ─► Finish ─► Close ─► Open
//	                          ▲        │
//	                          └────────┘
//
// The history and the events come first, because an entry of a key's log points to the event of its transaction; then keys,
// names and peers, all in any order. Each chunk goes into the trees as a batch of the ledger's would, so that
// they are never but partly there. Outputs have no chunks: the key events tell of each, and Finish makes their tree.
// Events must be there too, all of them, though a wallet could do without: whether a transaction that
// is ordered again was rejected before decides whether it has another event.
//
// Its methods may be called by several goroutines.
type Import struct {
	s *Store

	mu     sync.Mutex // all below
	p      *progress  // nil before Begin
	done   map[proof.ChunkRef]bool
	parked map[uint64]*proof.Chunk // history that came before its turn, by First
	extra  wanted
	dirty  int // bytes put since the last sync
	bytes  uint64
}

// lookAhead is how many chunks of the history may be there before their turn.
const lookAhead = 64

// syncEvery is about how many bytes of chunks a power cut may undo.
const syncEvery = 16 << 20

// progress is where an import stands, besides the trees.
type progress struct {
	cp      *types.Checkpoint
	supply  types.Amount                 // of genesis
	unspent types.Amount                 // of the outputs whose tree is made
	next    [proof.TallyChunk + 1]uint64 // of those by prefixes, and of the tally, which is one
	history uint64                       // chunks of it
	known   uint64                       // chunks there are, as far as known
	in      uint64                       // of those
}

func (p *progress) encode() []byte {
	e := types.NewEncoder(make([]byte, 0, 512))
	e.Raw(p.cp.Encode())
	e.Amount(p.supply)
	e.Amount(p.unspent)
	for _, n := range p.next {
		e.U64(n)
	}
	e.U64(p.history)
	e.U64(p.known)
	e.U64(p.in)
	return e.Data()
}

func decodeProgress(data []byte) (*progress, error) {
	d := types.NewDecoder("import", data)
	p := &progress{cp: types.ReadCheckpoint(d), supply: d.Amount("supply"), unspent: d.Amount("unspent")}
	for i := range p.next {
		p.next[i] = d.U64("next")
	}
	p.history, p.known, p.in = d.U64("history"), d.U64("known"), d.U64("in")
	return p, d.Finish()
}

// trees are the kinds of chunks that are asked for by prefixes, and the tally, as that under the empty prefix.
var trees = []proof.ChunkKind{proof.PeersChunk, proof.TallyChunk, proof.NamesChunk, proof.KeysChunk}

// prefixes is how long the prefixes of a tree are that are asked for first.
func (p *progress) prefixes(k proof.ChunkKind) uint16 {
	if k == proof.KeysChunk {
		return proof.KeysPrefixes(p.cp)
	}
	return 0
}

// historyChunks is how many chunks the history has.
func (p *progress) historyChunks() uint64 {
	n := proof.HistoryChunk.Range()
	return (p.cp.HistorySize + n - 1) / n
}

// height is that of the checkpoint with a number: they are at equal distances.
func (p *progress) height(number uint64) uint64 {
	if number >= p.cp.HistorySize {
		return p.cp.Height
	}
	return number * (p.cp.Height / p.cp.HistorySize)
}

// wanted is the chunks that are wanted besides the next of each kind: ranges of long logs, and parts of what was too large.
type wanted struct {
	order []proof.ChunkRef
	in    map[proof.ChunkRef]bool
}

func (w *wanted) add(r proof.ChunkRef) {
	if w.in == nil {
		w.in = make(map[proof.ChunkRef]bool)
	}
	if !w.in[r] {
		w.order, w.in[r] = append(w.order, r), true
	}
}

func (w *wanted) remove(r proof.ChunkRef) {
	delete(w.in, r)
	if len(w.order) > 2*len(w.in)+64 {
		kept := w.order[:0]
		for _, r := range w.order {
			if w.in[r] {
				kept = append(kept, r)
			}
		}
		w.order = kept
	}
}

// The keys of the state that an import has besides its own, all below stateImport: this is its progress, and there are the
// chunks that are in before their turn, and those that are wanted besides.
const (
	importDone   = 'd'
	importWanted = 'w'
)

func importKey(what byte, r proof.ChunkRef) []byte {
	return key(stateImport, []byte{what}, r.Encode())
}

// OpenImport opens a directory for an import, or creates it. Errors are those of Open, and HasState for a
// store that is not for importing (any more).
func OpenImport(dir string, opts Options) (*Import, error) {
	opts.importing = true
	s, err := Open(dir, opts)
	if err != nil {
		return nil, err
	}
	im := &Import{s: s}
	if err := im.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return im, nil
}

// checkImport refuses to open an import as anything else, and the other way round; and reads where it joined.
func (s *Store) checkImport(has bool) error {
	data, err := get(s.state.db, []byte{stateImport})
	if err != nil {
		return s.read("import", err)
	}
	switch {
	case data == nil && s.opts.importing && has:
		return s.refuse(HasState, "its state is whole", nil)
	case data != nil && !s.opts.importing:
		p, err := decodeProgress(data)
		if err != nil {
			return s.read("import", err)
		}
		return s.refuse(Importing, fmt.Sprintf("the state of checkpoint %s at height %d is being fetched, %d chunks of %d are in", p.cp.ID(), p.cp.Height, p.in, p.known), nil)
	}
	if data, err = get(s.state.db, []byte{stateJoined}); err == nil && data != nil {
		var n *uint64
		n, err = decodeNumber(data)
		s.state.joined = *n
	}
	if err != nil || has || s.opts.importing {
		return s.read("joined", err)
	}
	if lowest := s.Lowest(); lowest > 0 {
		return s.refuse(Importing, fmt.Sprintf("its state is gone, and cannot be made again from the log, which has no blocks below height %d", lowest), nil)
	}
	return nil
}

// Joined is the height of the checkpoint from whose state the store was begun, 0 if that is genesis. Of what came
// up to there it has the state, all events and all checkpoints, and no blocks, certificates and decisions but those that
// were given to Finish.
func (v *View) Joined() uint64 { return v.s.state.joined }

// NotKept is the refusal of what is not there because it was before the store was begun.
func (v *View) NotKept(what string) error {
	return &Error{Kind: NotKept, Dir: v.s.dir, Detail: fmt.Sprintf("%s: nothing of that is here below height %d", what, v.Joined()), Height: v.Joined()}
}

// load reads where the import stands.
func (im *Import) load() error {
	db := im.s.state.db
	im.p, im.done, im.parked, im.extra = nil, map[proof.ChunkRef]bool{}, map[uint64]*proof.Chunk{}, wanted{}
	data, err := get(db, []byte{stateImport})
	if err != nil || data == nil {
		return im.s.read("import", err)
	}
	if im.p, err = decodeProgress(data); err != nil {
		return im.s.read("import", err)
	}
	for e, err := range scan(db, []byte{stateImport, 0}, []byte{stateImport + 1}) {
		if err != nil {
			return im.s.read("import", err)
		}
		r, err := proof.DecodeChunkRef(e.key[2:])
		if err != nil {
			return im.s.refuse(Damaged, "import", err)
		}
		if e.key[1] == importDone {
			im.done[r] = true
		} else {
			im.extra.add(r)
		}
	}
	return nil
}

// Target is the checkpoint whose state is being fetched, nil before the first Begin and after Finish.
func (im *Import) Target() *types.Checkpoint {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.p == nil {
		return nil
	}
	return im.p.cp
}

// Begin sets out for the state of a checkpoint, which the caller trusts, on a chain whose genesis has this supply. If it is the
// one that there was, the import goes on; what was fetched for another is dropped, and over is true.
// Errors: WrongChain, and Unfit for the checkpoint of genesis.
func (im *Import) Begin(cp *types.Checkpoint, supply types.Amount) (over bool, err error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if cp.Chain != im.s.opts.Chain {
		return false, im.s.refuse(WrongChain, fmt.Sprintf("the checkpoint is of chain %s, not of %s", cp.Chain, im.s.opts.Chain), nil)
	}
	if cp.HistorySize == 0 || cp.Height < cp.HistorySize {
		return false, im.s.refuse(Unfit, fmt.Sprintf("the checkpoint of height %d has %d before it", cp.Height, cp.HistorySize), nil)
	}
	if im.p != nil && im.p.cp.ID() == cp.ID() && im.p.supply == supply {
		return false, nil
	}
	over = im.p != nil
	p := &progress{cp: cp, supply: supply}
	p.known = p.historyChunks()
	for _, k := range trees {
		p.known += 1 << p.prefixes(k)
	}
	b := im.s.state.db.NewBatch()
	if err := errors.Join(b.DeleteRange([]byte{0}, []byte{0xff}, nil), b.Set([]byte{stateImport}, p.encode(), nil)); err != nil {
		return over, err
	}
	if err := im.s.state.commit(b, true); err != nil {
		return over, err
	}
	if over { // what the store has in memory of the other goes with it
		if err := im.s.Close(); err != nil {
			return over, err
		}
		s, err := Open(im.s.dir, im.s.opts)
		if err != nil {
			return over, err
		}
		im.s = s
	}
	return over, im.load()
}

// Close lets go of the directory. What was put is kept.
func (im *Import) Close() error {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.s.Close()
}

// Failed is closed when the disk has failed, as Store.Failed is.
func (im *Import) Failed() <-chan struct{} {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.s.Failed()
}

// ImportStatus is how far an import is.
type ImportStatus struct {
	Chunks  uint64 // there are, as far as known: long logs and crowded prefixes make them more on the way
	In      uint64 // of those
	Bytes   uint64 // of the chunks that were put since it was opened
	Outputs uint64 // that Finish has put into their tree so far, of Checkpoint.Outputs
	Whole   bool   // nothing is wanted any more: Finish
}

// Status is how far the import is, from Begin to Finish.
func (im *Import) Status() ImportStatus {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.p == nil {
		return ImportStatus{}
	}
	return ImportStatus{Chunks: im.p.known, In: im.p.in, Bytes: im.bytes, Outputs: im.s.state.head.ledger().Outputs, Whole: im.whole()}
}

// told reports whether history and events are all in.
func (im *Import) told() bool {
	if im.p.history < im.p.historyChunks() {
		return false
	}
	for r := range im.extra.in {
		return r.Kind != proof.EventsChunk // until these are in there are no others
	}
	return true
}

func (im *Import) whole() bool {
	whole := len(im.extra.in) == 0 && im.p.history == im.p.historyChunks()
	for _, k := range trees {
		whole = whole && im.p.next[k] == 1<<im.p.prefixes(k)
	}
	return whole
}

// Wanted is the chunks that can be put now, in the order in which they are best fetched: from one source in this order, or from
// several, each with those that no other was asked for. More come when these are in. Nothing is locked between
// one and the next: it tells what is wanted as of when it is asked for.
func (im *Import) Wanted() iter.Seq[proof.ChunkRef] {
	return func(yield func(proof.ChunkRef) bool) {
		im.mu.Lock()
		if im.p == nil {
			im.mu.Unlock()
			return
		}
		extra := make([]proof.ChunkRef, 0, min(len(im.extra.in), 4096))
		for _, r := range im.extra.order {
			if im.extra.in[r] && len(extra) < cap(extra) {
				extra = append(extra, r)
			}
		}
		told, p := im.told(), *im.p
		im.mu.Unlock()
		for _, r := range extra {
			if !yield(r) {
				return
			}
		}
		if !told {
			for n := p.history; n < min(p.historyChunks(), p.history+lookAhead); n++ {
				r := proof.ChunkRef{Kind: proof.HistoryChunk, First: n * proof.HistoryChunk.Range()}
				if im.wants(r) && !yield(r) {
					return
				}
			}
			return
		}
		for _, k := range trees {
			for n := p.next[k]; n < 1<<p.prefixes(k); n++ {
				if r := nthPrefix(k, p.prefixes(k), n); im.wants(r) && !yield(r) {
					return
				}
			}
		}
	}
}

// nthPrefix is the chunk under the prefix of so many bits that are the number n.
func nthPrefix(k proof.ChunkKind, bits uint16, n uint64) proof.ChunkRef {
	r := proof.ChunkRef{Kind: k}
	r.Prefix.Len = bits
	copy(r.Prefix.Bits[:], u64(n<<(63-bits)<<1)) // a shift by 64 is none
	return r
}

// number is n of nthPrefix, or false if the prefix is not of the length asked for first.
func (p *progress) number(r proof.ChunkRef) (uint64, bool) {
	bits := p.prefixes(r.Kind)
	if r.Prefix.Len != bits {
		return 0, false
	}
	n := uint64(0)
	for _, b := range r.Prefix.Bits[:8] {
		n = n<<8 | uint64(b)
	}
	return n >> (63 - bits) >> 1, true
}

func (im *Import) wants(r proof.ChunkRef) bool {
	im.mu.Lock()
	defer im.mu.Unlock()
	return im.isWanted(r)
}

// isWanted reports whether a chunk can be put now.
func (im *Import) isWanted(r proof.ChunkRef) bool {
	switch {
	case im.p == nil:
		return false
	case im.extra.in[r]:
		return true
	case r.Kind == proof.HistoryChunk:
		n := r.First / r.Kind.Range()
		return r == proof.ChunkRef{Kind: r.Kind, First: n * r.Kind.Range()} && im.parked[r.First] == nil &&
			n >= im.p.history && n < min(im.p.historyChunks(), im.p.history+lookAhead)
	case r.Kind.Tree() || r.Kind == proof.TallyChunk:
		n, ok := im.p.number(r)
		return ok && r == nthPrefix(r.Kind, r.Prefix.Len, n) && n >= im.p.next[r.Kind] && !im.done[r] && im.told()
	}
	return false
}

// Put keeps an encoded chunk, if it is wanted and is what it should be. One that is not wanted (any more) is passed
// over unread. Errors: *proof.Error if whoever sent it is wrong; Unfit if everybody would be.
func (im *Import) Put(ref proof.ChunkRef, data []byte) error {
	if !im.wants(ref) {
		return nil
	}
	cp := im.Target()
	c, err := proof.DecodeChunk(data)
	if err != nil {
		return err
	}
	before, err := c.Verify(cp, ref)
	if err != nil {
		return err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.p.cp != cp || !im.isWanted(ref) {
		return nil
	}
	im.bytes += uint64(len(data))
	im.dirty += len(data)
	if ref.Kind == proof.HistoryChunk && ref.First/ref.Kind.Range() != im.p.history {
		im.parked[ref.First] = c
		return nil
	}
	for ; c != nil; c = im.parked[im.p.history*proof.HistoryChunk.Range()] {
		if err := im.enter(c, before, nil); err != nil {
			return err
		}
		delete(im.parked, c.Ref.First)
		if c.Ref.Kind != proof.HistoryChunk {
			break
		}
	}
	return im.sync(syncEvery)
}

// sync makes durable what was put, if it is so many bytes.
func (im *Import) sync(least int) error {
	if im.dirty < least {
		return nil
	}
	im.dirty = 0
	return im.s.stop.run(func() error { return im.s.state.db.LogData(nil, pebble.Sync) })
}

// Split makes of a chunk that is wanted, and too large for who was asked, those under prefixes of so many bits. One who lies about
// that can make work: so it goes one bit at once, but for the first prefix of names and peers eight, whose number
// nothing tells; and whoever drives the import asks another source before.
func (im *Import) Split(ref proof.ChunkRef, depth uint16) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	if !ref.Kind.Tree() || !im.isWanted(ref) || depth <= ref.Prefix.Len || ref.Prefix.Len >= maxPrefix {
		return nil
	}
	parts, step := []proof.ChunkRef{ref}, uint16(1)
	if ref.Kind != proof.KeysChunk && ref.Prefix.Len == 0 {
		step = 8
	}
	for range min(depth, ref.Prefix.Len+step) - ref.Prefix.Len {
		var halves []proof.ChunkRef
		for _, r := range parts {
			h := r.Halves()
			halves = append(halves, h[0], h[1])
		}
		parts = halves
	}
	return im.enter(&proof.Chunk{Ref: ref}, tlog.Frontier{}, parts)
}

// Final is what a store needs besides the state to go on from a checkpoint. It comes from elsewhere (the consensus
// part of joining), and is believed but for what the checkpoint commits to.
type Final struct {
	Snapshots    []*types.Snapshot             // ascending by height; the last is the one that the checkpoint commits to
	Anchors      []types.Hash                  // of the last heights, the last one that of the checkpoint's; zero for an empty height
	Base         []byte                        // as for Batch.SetBase, or nil
	Certificates map[uint64]*types.Certificate // by height: of the checkpoint, and of those by which it is reached from genesis
	Blocks       []Block                       // from which consensus goes on
}

// Finish makes of what was fetched a store like any other, when nothing is wanted any more: it builds the tree of outputs,
// holds all against the checkpoint, and writes the rest. It may be long; Status tells how far it is, and called again
// after a crash it goes on. Then Close it, and Open the directory. Errors: Importing if chunks are
// missing, Unfit if the state or what is given does not fit the checkpoint.
func (im *Import) Finish(f Final) error {
	for done := false; !done; {
		err := func() (err error) {
			im.mu.Lock()
			defer im.mu.Unlock()
			if im.p == nil || !im.whole() {
				return im.s.refuse(Importing, "chunks are missing", nil)
			}
			done, err = im.growOutputs()
			return err
		}()
		if err != nil {
			return err
		}
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.p == nil {
		return im.s.refuse(Importing, "it is finished", nil)
	}
	x := im.entering(nil)
	err := x.fits(&f)
	if err == nil {
		err = im.s.putFirst(f.Blocks)
	}
	if err == nil {
		err = x.finish(&f)
	}
	if err != nil {
		return errors.Join(err, x.b.Discard())
	}
	if err := x.b.Commit(); err != nil {
		return err
	}
	im.p, im.dirty = nil, syncEvery
	return im.sync(0)
}

// growOutputs is entering.growOutputs, in a batch of its own.
func (im *Import) growOutputs() (done bool, err error) {
	if im.s.state.head.ledger().Outputs == im.p.cp.Outputs {
		return true, nil
	}
	x := im.entering(nil)
	if done, err = x.growOutputs(); err != nil {
		return false, errors.Join(err, x.b.Discard())
	}
	if err := x.commit(); err != nil {
		return false, err
	}
	im.p = &x.p
	return done, nil
}

// maxPrefix is the longest prefix that is asked for: nobody can make so many paths that begin alike.
const maxPrefix = 64
