package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"charter/proof"
	"charter/types"
	"charter/wallet"
)

// watched is what the wallet keeps to watch over its agents.
type watched struct {
	certificate *types.Certificate // of the newest checkpoint trusted; nil: not known
	conflicts   []Clash            // oldest first
	known       map[string]*known  // by URL
}

// known is an agent that the wallet was told of, or was at.
type known struct {
	Witness
	listed  bool         // given as one to turn to and to compare with
	highest uint64       // greatest height that it has proven
	less    types.Millis // since when it shows less than that; 0: it does not
	caught  Kind         // at a lie, and so never asked again unless it is named; 0: at none
}

// Clash is a conflict that the wallet has evidence of.
type Clash struct {
	Height   uint64
	Evidence string // path of the file
}

// Fault is what an agent was caught at, or found wanting in.
type Fault struct {
	Agent    Witness
	Kind     Kind
	Err      error
	Evidence string // path of the file that keeps it; "": there is nothing to keep, or it could not be written
	Next     string // URL of the agent that the wallet goes on with; "" if it goes on with the same, or there is no other
}

// Bounds of what is kept, and of a comparison.
const (
	maxKnown   = 64
	maxClashes = 64
	sampleSize = 4
	askTimeout = 3 * time.Second
	lessFor    = types.Millis(time.Minute / time.Millisecond) // how long another agent may show less than it did
)

var faults = map[Kind]string{
	Withheld: "withholding", Silent: "silence", WentBack: "going back", Forked: "another fork", Stale: "staleness",
	NotProven: "not proven", WrongPeers: "a wrong list of peers", Conflicted: "two pasts", Unreachable: "not reachable", Behind: "behind", Refused: "refusing",
}

// String is a fault of an agent in words.
func (k Kind) String() string {
	if s, ok := faults[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// fault reports whether the kind is something that an agent is caught at.
func (k Kind) fault() bool { return k.damning() || k == Silent || k == WentBack || k == Stale }

// damning reports whether nothing but a lie explains it, or a broken agent: it is not asked again.
func (k Kind) damning() bool {
	return k == NotProven || k == Forked || k == WrongPeers || k == Withheld
}

// lied reports whether an error is a fault that an agent was caught at.
func lied(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.link != nil && e.Kind.fault()
}

// through does something at the wallet's agent; and where that is caught at a fault, or cannot be
// had, at the next one of the wallet's list.
func (c *Client) through(ctx context.Context, do func(visit, context.Context) error) error {
	tried := make(map[string]bool)
	var first error
	for {
		v, err := c.login(ctx)
		if err == nil {
			err = do(v, ctx)
		}
		var e *Error
		if first == nil {
			first = err
		}
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case !errors.As(err, &e) || e.link == nil || !lied(err) && !IsKind(err, Unreachable) && !IsKind(err, Behind) && !says(err, saysBusy, saysClosing, saysTooMany, saysNotKept, "internal"):
			if len(tried) > 0 && IsKind(err, WrongNetwork) { // of a list, not of what was asked for
				return first
			}
			return err
		}
		tried[e.link.url] = true
		if !c.turn(e, tried) {
			return first
		}
	}
}

// turn tells a fault, keeps its evidence, and turns to an agent that was not tried. It reports
// whether there is one.
func (c *Client) turn(e *Error, tried map[string]bool) bool {
	f := Fault{Agent: e.link.witness(), Kind: e.Kind, Err: e}
	if e.Kind.fault() {
		f.Evidence = c.keep(e)
	}
	c.mu.Lock()
	if e.Kind.damning() {
		c.about(e.link.url).caught = e.Kind
		if c.written != nil {
			_ = c.save() // it is told all the same, and found out again
		}
	}
	f.Next = c.inUse()
	if tried[f.Next] {
		f.Next = c.next(tried)
	}
	if f.Next != "" {
		c.current = f.Next
	}
	c.mu.Unlock()
	c.tell(f)
	return f.Next != ""
}

func (c *Client) tell(f Fault) {
	if c.config.Caught != nil {
		c.config.Caught(f)
	}
}

// named is the agent that the wallet should be at. The caller holds mu.
func (c *Client) named() string {
	return strings.TrimSuffix(cmp.Or(c.config.Agent, c.w.Agent().Address), "/")
}

// inUse is the agent that the wallet is at. The caller holds mu.
func (c *Client) inUse() string { return cmp.Or(c.current, c.named()) }

// standIn reports whether an agent only stands in for the named one, which may come back. The
// caller holds mu.
func (c *Client) standIn(url string) bool {
	k := c.known[c.named()]
	return url != c.named() && (k == nil || k.caught == 0)
}

// next is an agent of the list that was neither tried nor caught; "" if there is none. The
// caller holds mu.
func (c *Client) next(tried map[string]bool) string {
	for _, u := range slices.Sorted(maps.Keys(c.known)) {
		if k := c.known[u]; k.listed && k.caught == 0 && !tried[u] {
			return u
		}
	}
	if u := c.named(); u != "" && !tried[u] && c.about(u).caught == 0 {
		return u
	}
	return ""
}

// hasOther reports whether there is another agent to turn to.
func (c *Client) hasOther() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next(map[string]bool{c.inUse(): true}) != ""
}

// list adds to the wallet's list of agents.
func (c *Client) list(urls []string) error {
	for _, u := range urls {
		l, err := dial(u, c.config.timeout())
		if err != nil {
			return err
		}
		if len(c.known) >= maxKnown && c.known[l.url] == nil {
			return refuse(NoAgent, nil, "the wallet's list has %d agents, and may have no more", maxKnown)
		}
		c.about(l.url).listed = true
	}
	return nil
}

// about is what is known of an agent. The caller holds mu.
func (c *Client) about(url string) *known {
	k := c.known[url]
	if k == nil {
		k = &known{Witness: Witness{URL: url}}
		if len(c.known) < maxKnown {
			c.known[url] = k
		}
	}
	return k
}

// open is a link to an agent, which may be in use already.
func (c *Client) open(address string) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l := c.links[address]; l != nil {
		return l, nil
	}
	l, err := dial(address, c.config.timeout())
	if err == nil {
		c.links[l.url] = l
	}
	return l, err
}

// mark takes note of a height that an agent has proven.
func (c *Client) mark(l *link, height uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.about(l.url)
	k.Witness, k.highest, k.less = l.witness(), max(k.highest, height), 0
}

// shown is the greatest height that an agent has ever proven.
func (c *Client) shown(url string) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.about(url).highest
}

// keep writes the evidence of a fault, once for each agent and kind, and gives the path.
func (c *Client) keep(e *Error) string {
	t := c.trust()
	lie := &Lie{Agent: e.link.witness(), Time: now(), Height: t.Height(), Trusted: t.ID, Kind: e.Kind, Step: stepOf(e), Text: e.Text[:min(len(e.Text), maxEvidenceText)]}
	if x := e.exchange; x != nil {
		lie.Call = x.call
		lie.Question, _ = proto.Marshal(x.question) // it came from bytes, or went into them
		if x.answer != nil {
			lie.Answer, _ = proto.Marshal(x.answer)
		}
	}
	data := (&Evidence{Chain: t.Chain, Lie: lie}).Encode()
	sum := sha256.Sum256(data)
	path, err := c.writeEvidence(lie.Height, sum[:4], data)
	if err != nil {
		return ""
	}
	return path
}

func (c *Client) writeEvidence(height uint64, id, data []byte) (string, error) {
	path := filepath.Join(filepath.Dir(c.config.Path), fmt.Sprintf("evidence-%d-%x%s", height, id, EvidenceSuffix))
	return path, WriteFile(path, data, 0o600)
}

// Conflicts is what the wallet has evidence of: heights with two certified checkpoints. While
// there is one, it neither pays nor notarises, unless it is told to.
func (c *Client) Conflicts() []Clash {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.conflicts)
}

// mayDeal refuses to deal where there are two pasts.
func (c *Client) mayDeal() error {
	if clashes := c.Conflicts(); len(clashes) > 0 && !c.config.DespiteConflict {
		last := clashes[len(clashes)-1]
		return refuse(Conflicted, nil, "two checkpoints of height %d are certified, so there are two pasts, and what is paid in the one may not be in the other; `charter verify %s` shows who signed both; find out which is right, and then pay with --despite-conflict", last.Height, last.Evidence)
	}
	return nil
}

// compare asks a sample of other agents for the checkpoint that is trusted.
func (c visit) compare(ctx context.Context) {
	t := c.trust()
	if t.Height() == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, min(askTimeout, c.config.timeout()))
	defer cancel()
	var asking sync.WaitGroup
	for _, address := range c.sample() {
		asking.Go(func() {
			if l, err := c.open(address); err == nil {
				c.confront(ctx, l, t)
			}
		})
	}
	asking.Wait()
}

// sample draws other agents at random, first one of each network.
func (c visit) sample() []string {
	c.mu.Lock()
	var list []string
	for u, k := range c.known {
		if u != c.link.url && k.caught == 0 && (k.listed || u == c.named()) {
			list = append(list, u)
		}
	}
	c.mu.Unlock()
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	met := map[string]int{network(c.link.url): 1}
	turns := make(map[string]int, len(list)) // how many of its network come before it
	for _, u := range list {
		turns[u] = met[network(u)]
		met[network(u)]++
	}
	slices.SortStableFunc(list, func(a, b string) int { return cmp.Compare(turns[a], turns[b]) })
	return list[:min(len(list), sampleSize)]
}

// network is what agents of one operator are likely to share: an address block, or a domain.
func network(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		bits := 16
		if ip.Is6() && !ip.Is4In6() {
			bits = 32
		}
		block, _ := ip.Unmap().Prefix(bits) // both have as many bits
		return block.String()
	}
	labels := strings.Split(host, ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}

// confront asks an agent for the checkpoint of the trusted height. The same one, or none yet,
// is right; another one is a conflict if it is certified, and else a lie.
func (c visit) confront(ctx context.Context, l *link, t proof.Trusted) {
	if l.who.Load() == nil {
		s, _, err := l.status(ctx)
		if err != nil || s.Chain != t.Chain.String() {
			return // not there, or not of this network: no witness
		}
		who := Witness{URL: l.url, Name: s.Name}
		if err := who.Peer.UnmarshalText([]byte(s.Key)); err != nil || !types.ValidName(s.Name) && s.Name != "" {
			return
		}
		l.who.Store(&who)
	}
	theirs, x, err := l.certified(ctx, t.Height())
	switch {
	case says(err, saysNotYet):
		err = c.showsLess(l, t.Height(), x)
	case err == nil && theirs.Checkpoint.ID() == t.ID:
		c.mark(l, t.Height())
	case err == nil:
		if err = certifiedBy(t, theirs); err == nil {
			err = c.conflict(ctx, l, theirs, t)
		} else {
			err = l.lies(x, err)
		}
	}
	var e *Error
	if (lied(err) || IsKind(err, Conflicted)) && errors.As(err, &e) && e.Kind != Silent {
		c.accuse(e)
	}
}

// accuse tells what an agent was caught at that is not the one in use.
func (c *Client) accuse(e *Error) {
	f := Fault{Agent: e.link.witness(), Kind: e.Kind, Err: e}
	if e.Kind == Conflicted {
		clashes := c.Conflicts()
		f.Evidence = clashes[len(clashes)-1].Evidence
	} else {
		f.Evidence = c.keep(e)
	}
	c.mu.Lock()
	if e.Kind.damning() {
		c.about(e.link.url).caught = e.Kind
	}
	c.mu.Unlock()
	c.tell(f)
}

// showsLess is the fault of an agent that had proven a height, and for long shows less.
func (c *Client) showsLess(l *link, height uint64, x *exchange) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.about(l.url)
	if k.highest < height {
		return nil
	}
	if k.less == 0 {
		k.less = now()
	}
	if now()-k.less < lessFor {
		return nil
	}
	return l.blame(WentBack, x, nil, "the agent at %s had shown height %d, and since %s does not show height %d", l.url, k.highest, k.less, height)
}

// certifiedBy checks a side by the snapshots that are believed.
func certifiedBy(t proof.Trusted, s *Side) error {
	for i := range t.Snapshots {
		if t.Snapshots[i].Root(t.Chain) == s.Certificate.Snapshot {
			s.Snapshot = t.Snapshots[i]
			_, err := proof.VerifyCertificate(t.Chain, &s.Checkpoint, &s.Certificate, &s.Snapshot)
			return err
		}
	}
	return errors.New("its checkpoint is signed by a snapshot that nothing has shown to be genuine")
}

// conflict keeps the evidence of two certified checkpoints, and gives the error that says so.
func (c visit) conflict(ctx context.Context, l *link, theirs *Side, t proof.Trusted) error {
	ours := &Side{Checkpoint: *t.Checkpoint}
	if l != c.link { // else who served the wallet's own is not known any more
		ours.Agents = []Witness{c.link.witness()}
	}
	c.mu.Lock()
	if t.ID == c.trusted.ID && c.certificate != nil {
		ours.Certificate = *c.certificate
	}
	c.mu.Unlock()
	if len(ours.Certificate.Votes) == 0 { // of a wallet file from before certificates were kept
		s, _, err := c.link.certified(ctx, t.Height())
		if err != nil || s.Checkpoint.ID() != t.ID {
			return err
		}
		ours.Certificate = s.Certificate
	}
	if err := certifiedBy(t, ours); err != nil {
		return err
	}
	theirs.Agents = []Witness{l.witness()}
	id := theirs.Checkpoint.ID()
	sides := [2]Side{*ours, *theirs}
	if bytes.Compare(t.ID[:], id[:]) > 0 {
		sides[0], sides[1] = sides[1], sides[0]
	}
	v := &Evidence{Chain: t.Chain, Conflict: &Conflict{sides}}
	found, err := v.Verify(nil)
	if err != nil {
		return err
	}
	path, err := c.writeEvidence(t.Height(), id[:4], v.Encode())
	if err != nil {
		return refuse(Disk, err, "cannot write the evidence of two pasts: %v", err)
	}
	if err := c.change(func(*wallet.Wallet) error {
		if !slices.ContainsFunc(c.conflicts, func(k Clash) bool { return k.Evidence == path }) && len(c.conflicts) < maxClashes {
			c.conflicts = append(c.conflicts, Clash{t.Height(), path})
		}
		return nil
	}); err != nil {
		return err
	}
	return l.blame(Conflicted, nil, nil, "%s", found.Sentence())
}

// encodeWatch is the part of the wallet file that watches over the agents.
func (w *watched) encodeWatch(e *types.Encoder) {
	e.Bool(w.certificate != nil)
	if w.certificate != nil {
		e.Raw(w.certificate.Encode())
	}
	e.Count16(len(w.conflicts))
	for _, k := range w.conflicts {
		e.U64(k.Height)
		e.String(k.Evidence)
	}
	e.Count16(len(w.known))
	for _, u := range slices.Sorted(maps.Keys(w.known)) {
		k := w.known[u]
		k.Witness.encode(e)
		e.Bool(k.listed)
		e.U64(k.highest)
		e.Time(k.less)
		e.U8(uint8(k.caught))
	}
}

func decodeWatch(d *types.Decoder) watched {
	w := watched{known: make(map[string]*known)}
	if d.Bool("certificate") {
		w.certificate = types.ReadCertificate(d)
	}
	for range d.Count16("conflicts", maxClashes, 9) {
		w.conflicts = append(w.conflicts, Clash{d.U64("height"), d.String("evidence", maxEvidenceText)})
	}
	last := ""
	for i := range d.Count16("agents", maxKnown, 50) {
		k := &known{Witness: decodeWitness(d), listed: d.Bool("listed"), highest: d.U64("highest"), less: d.Time("less"), caught: Kind(d.U8("caught"))}
		if i > 0 && k.URL <= last {
			d.Fail(types.NotCanonical, "agents")
		}
		last, w.known[k.URL] = k.URL, k
	}
	return w
}
