// Package client is a wallet process: it joins the wallet's file, its agent, the wallet
// machine and the verifier of proofs, and does what a person asks of a wallet.
//
//	wallet file ◄── sealed, durable ──┐        ┌── package proof: is it true?
//	                                  Client ──┤
//	agent ◄── submit, watch, proof ───┘        └── package wallet: what follows from it?
//
// It believes nothing that an agent says: it follows certificates from the genesis, or from
// the newest checkpoint that it came to trust, and takes only what hangs under one of those.
// The tiers below final are the agent's word, and are told as such.
//
// What is to be sent is durable before it is sent. So a payment outlives its process:
// whoever opens the wallet next sends the same bytes again, or finds the payment settled.
//
// It is no peer and keeps no past but its own.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"charter/proof"
	"charter/seal"
	"charter/types"
	"charter/wallet"
)

// Config is what a wallet process is made of.
type Config struct {
	Path       string // of the wallet file
	Passphrase string // "": the file is kept without one
	Unsealed   bool   // must be true for a new file without passphrase, so that nobody forgets one
	Work       int    // of a new file's passphrase (package seal); 0 for seal.DefaultWork
	ReadOnly   bool   // neither lock the file nor write it: for watching beside another process
	LockWait   time.Duration

	Agent   string         // URL of the agent, "" for the one that the wallet had last
	Others  []string       // URLs of other agents, to compare with and to turn to; kept in the wallet
	Genesis *types.Genesis // of the network, for a wallet that has none yet; checked if it has
	Chain   types.Hash     // or only its id: the agent then gives the genesis

	// Caught hears what agents are caught at, or found wanting in; it may be called by several
	// goroutines at once. Nil: nobody hears it, and the evidence is kept all the same.
	Caught func(Fault)
	// DespiteConflict pays and notarises though the wallet has evidence of two pasts.
	DespiteConflict bool
	Patience        time.Duration // how long what passes is waited for; 0: 10 s
	Timeout         time.Duration // how long an agent may be silent; 0: 30 s
}

func (c *Config) patience() time.Duration {
	if c.Patience == 0 {
		return 10 * time.Second
	}
	return c.Patience
}

func (c *Config) timeout() time.Duration {
	if c.Timeout == 0 {
		return 30 * time.Second
	}
	return c.Timeout
}

func (c *Config) work() int {
	if c.Work == 0 {
		return seal.DefaultWork
	}
	return c.Work
}

// network is the chain that was asked for, zero if none was.
func (c *Config) network() types.Hash {
	if c.Genesis != nil {
		return c.Genesis.ChainID()
	}
	return c.Chain
}

// Client is an open wallet. Its methods may be called by several goroutines at once.
type Client struct {
	config Config
	file   *vault

	entering sync.Mutex // one login at a time

	mu      sync.Mutex // guards what follows; never held while the agent is asked
	w       *wallet.Wallet
	notes   map[types.Hash]string // by transaction: what the holder wrote about it
	synced  wallet.AsOf           // up to here all that concerns the wallet was asked for
	trusted proof.Trusted         // w's, decoded; valid if it has a chain
	written []byte                // what the file holds
	watched                       // over the agents
	links   map[string]*link      // that are open, by URL
	current string                // URL of the agent in use; "": the named one
	genesis *proof.Trusted        // trust in the start alone; nil until first needed
}

// Entropy draws what a new wallet's words stand for.
func Entropy() (e [32]byte) {
	_, _ = rand.Read(e[:]) // never fails (package crypto/rand)
	return e
}

// Create makes a wallet file from entropy, and opens it. With an agent it checks that the
// agent is of the network that the configuration names; without, the wallet is made offline:
// it has keys for a genesis to name, and no network until it is opened with one.
func Create(ctx context.Context, config Config, entropy [32]byte) (*Client, error) {
	return create(config, entropy, func(c *Client) error {
		if config.Agent == "" {
			return nil
		}
		_, err := c.login(ctx)
		return err
	})
}

// Restore makes a wallet file for words that had one, and finds by proofs all that belongs to
// them. Nothing is written before that is done.
func Restore(ctx context.Context, config Config, entropy [32]byte, tell func(asked, used, left int)) (*Client, error) {
	return create(config, entropy, func(c *Client) error {
		return c.through(ctx, func(v visit, ctx context.Context) error { return v.scan(ctx, tell) })
	})
}

func create(config Config, entropy [32]byte, prepare func(*Client) error) (*Client, error) {
	v, err := newVault(&config)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, file: v, notes: make(map[types.Hash]string), watched: watched{known: make(map[string]*known)}, links: make(map[string]*link)}
	c.w = wallet.New(types.Hash{}, &types.MainParams, entropy, 0)
	if _, err = c.w.Receive(); err == nil { // the key that a genesis may name
		err = errors.Join(c.settleNetwork(), c.list(config.Others))
	}
	if err == nil {
		err = prepare(c)
	}
	if err == nil {
		err = c.save()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Open opens a wallet file. The agent is asked when it is first needed.
func Open(config Config) (*Client, error) {
	v, plain, err := openVault(&config)
	if err != nil {
		return nil, err
	}
	c := &Client{config: config, file: v, links: make(map[string]*link)}
	if err = c.load(plain); err == nil {
		err = errors.Join(c.settleNetwork(), c.list(config.Others))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close closes the wallet, and may be called twice. What was to be kept is on disk already.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.links {
		l.close()
	}
	c.file.close()
	return nil
}

// settleNetwork compares the network that was asked for with the wallet's, or makes it the
// wallet's if that has none and the genesis is at hand.
func (c *Client) settleNetwork() error {
	asked, has := c.config.network(), c.w.Chain()
	switch {
	case asked.IsZero() || asked == has:
		return nil
	case !has.IsZero():
		return refuse(WrongNetwork, nil, "wrong network: the wallet is of chain %.16s…, and %.16s… was given; open it with its own, or use another wallet", has.String(), asked.String())
	case c.config.Genesis == nil:
		return nil // the agent has to give it
	}
	return c.join(c.config.Genesis)
}

// join makes a wallet without network one of g's: the same words, with the same keys out.
func (c *Client) join(g *types.Genesis) error {
	entropy, err := wallet.ParseMnemonic(c.w.Words())
	if err != nil {
		return err
	}
	w := wallet.New(g.ChainID(), &g.Params, entropy, 0)
	for range c.w.Locks() {
		if _, err := w.Receive(); err != nil {
			return err
		}
	}
	trust := proof.Genesis(g)
	if err := w.Trust(trust.Encode(), wallet.AsOf{Time: g.Time}); err != nil {
		return err
	}
	c.w, c.trusted, c.genesis = w, trust, &trust
	return nil
}

// login makes sure that there is a link to an agent of the wallet's network, and that the
// wallet knows which peer that is.
func (c *Client) login(ctx context.Context) (visit, error) {
	c.entering.Lock()
	defer c.entering.Unlock()
	c.mu.Lock()
	address, chain := c.inUse(), c.w.Chain()
	l := c.links[address]
	c.mu.Unlock()
	switch {
	case address == "":
		return visit{}, refuse(NoAgent, nil, "the wallet has no agent: name one with --agent, like http://127.0.0.1:7401")
	case l != nil && l.who.Load() != nil:
		return visit{c, l}, c.take(l.witness())
	}
	l, err := c.open(address)
	if err != nil {
		return visit{}, err
	}
	if chain.IsZero() {
		chain = c.config.Chain
	}
	if chain.IsZero() {
		return visit{}, noNetwork()
	}
	return visit{c, l}, visit{c, l}.greet(ctx, chain)
}

func noNetwork() error {
	return refuse(NoNetwork, nil, "the wallet was made offline and has no network: give its genesis file with --genesis, or its chain id with --chain")
}

// greet finds out who the agent is, and takes it if it is of the wallet's network.
func (c visit) greet(ctx context.Context, chain types.Hash) error {
	l := c.link
	s, x, err := l.status(ctx)
	if err != nil {
		return err
	}
	who := Witness{URL: l.url, Name: s.Name}
	if err := who.Peer.UnmarshalText([]byte(s.Key)); err != nil || !types.ValidName(s.Name) && s.Name != "" {
		return l.lies(x, errors.New("its own name or key is none"))
	}
	if s.Chain != chain.String() {
		return wrongNetwork("the agent at "+l.url, s.Chain, chain)
	}
	g, err := l.genesis(ctx, chain)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w.Chain().IsZero() {
		if err := c.join(g); err != nil {
			return err
		}
	}
	if c.genesis == nil {
		start := proof.Genesis(g)
		c.genesis = &start
	}
	c.about(l.url).Witness = who
	l.who.Store(&who)
	return c.logAt(who)
}

// take makes an agent the wallet's own, unless it only stands in for that.
func (c *Client) take(who Witness) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logAt(who)
}

// logAt is take, for who holds mu.
func (c *Client) logAt(who Witness) error {
	if c.standIn(who.URL) || c.genesis == nil {
		return nil
	}
	return c.w.SetAgent(wallet.Agent{Peer: who.Peer, Name: who.Name, Address: who.URL})
}

// start is trust in the genesis alone. The caller has logged in.
func (c *Client) start() proof.Trusted {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.genesis
}

// bodyMagic opens the body of a wallet file, before its version.
const (
	bodyMagic   = "charter client"
	bodyVersion = 1
)

// MaxNote bounds a note, in bytes.
const MaxNote = 256

// body is what the file holds: the wallet, and beside it what only the client knows.
func (c *Client) body() []byte {
	e := types.NewEncoder(nil)
	e.Raw([]byte(bodyMagic))
	e.U8(bodyVersion)
	e.Bytes(c.w.Encode())
	e.U64(c.synced.Height)
	e.Time(c.synced.Time)
	ids := slices.SortedFunc(maps.Keys(c.notes), func(a, b types.Hash) int { return bytes.Compare(a[:], b[:]) })
	e.Count32(len(ids))
	for _, id := range ids {
		e.Hash(id)
		e.String(c.notes[id])
	}
	c.encodeWatch(e)
	return e.Data()
}

// load reads what body wrote.
func (c *Client) load(plain []byte) error {
	d := types.NewDecoder("wallet file", plain)
	if string(d.Take("magic", len(bodyMagic))) != bodyMagic {
		d.Fail(types.Unknown, "magic")
	}
	if d.U8("version") != bodyVersion {
		d.Fail(types.Unknown, "version")
	}
	encoded := d.Bytes("wallet", len(plain))
	synced := wallet.AsOf{Height: d.U64("height"), Time: d.Time("time")}
	notes := make(map[types.Hash]string)
	var last types.Hash
	for i := range d.Count32("notes", 1<<20, 34) {
		id := d.Hash("note")
		if i > 0 && bytes.Compare(last[:], id[:]) >= 0 {
			d.Fail(types.NotCanonical, "notes")
		}
		last, notes[id] = id, d.String("note", MaxNote)
	}
	kept := decodeWatch(d)
	if err := d.Finish(); err != nil {
		return c.file.damaged(err)
	}
	w, err := wallet.Decode(encoded)
	if err != nil {
		return c.file.damaged(err)
	}
	var trusted proof.Trusted
	if bytes, _ := w.Trusted(); bytes != nil {
		if trusted, err = proof.DecodeTrusted(bytes); err != nil {
			return c.file.damaged(err)
		}
	}
	c.w, c.notes, c.synced, c.trusted, c.written, c.watched = w, notes, synced, trusted, plain, kept
	return nil
}

// save makes what the wallet is durable. The caller holds mu, or is the only one.
func (c *Client) save() error {
	if c.config.ReadOnly {
		return nil
	}
	body := c.body()
	if bytes.Equal(body, c.written) {
		return nil
	}
	if err := c.file.write(body); err != nil {
		return err
	}
	c.written = body
	return nil
}

// change does something to the wallet and makes it durable. What cannot be made durable is
// undone: it must not be sent, now or later. What was learned and is thereby lost is learned again.
func (c *Client) change(do func(w *wallet.Wallet) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := do(c.w); err != nil {
		return err
	}
	err := c.save()
	if err != nil {
		err = errors.Join(err, c.load(c.written))
	}
	return err
}

// writable refuses what must be durable in a wallet that is not written.
func (c *Client) writable() error {
	if c.config.ReadOnly {
		return refuse(InUse, nil, "the wallet %s is open for reading only: what is paid or promised from it would be lost", c.config.Path)
	}
	return nil
}

// Words are the twenty-four words that the wallet can be restored from.
func (c *Client) Words() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Words()
}

// Chain is the id of the wallet's chain, zero for a wallet made offline.
func (c *Client) Chain() types.Hash {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Chain()
}

// Agent is the wallet's agent, as it was last spoken to.
func (c *Client) Agent() wallet.Agent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Agent()
}

// OwnerKey is the wallet's first key: what a genesis names to make the wallet an owner.
func (c *Client) OwnerKey() types.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.w.Keys().Lock(wallet.Receive, 0)
}

// Address is a fresh address, for one receipt, hosted at the agent's peer. If too many are
// out unused, it is the oldest of those, and fresh is false.
func (c *Client) Address(ctx context.Context) (a wallet.Address, fresh bool, err error) {
	if err := c.writable(); err != nil {
		return a, false, err
	}
	if c.Agent().Peer.IsZero() || c.config.Agent != "" {
		if err := c.through(ctx, func(visit, context.Context) error { return nil }); err != nil {
			return a, false, err
		}
	}
	err = c.change(func(w *wallet.Wallet) error {
		fresh = true
		if a, err = w.Receive(); wallet.IsKind(err, wallet.GapReached) {
			a, fresh = w.Unused()[0], false
			return nil
		}
		return err
	})
	return a, fresh, err
}

// ParseAddress reads an address of the wallet's network.
func (c *Client) ParseAddress(text string) (wallet.Address, error) {
	chain := c.Chain()
	if chain.IsZero() {
		return wallet.Address{}, noNetwork()
	}
	return wallet.ParseAddress(chain, text)
}

// Balance is what the wallet has.
type Balance struct {
	Final     types.Amount // proven and unspent, with what is reserved
	Reserved  types.Amount // of it, for payments under way
	Available types.Amount // the rest
	Out       types.Amount // what payments under way take
	In        types.Amount // what others are paying, by the agent's word
	AsOf      wallet.AsOf  // the checkpoint under which all of the wallet's keys were proven
}

// Balance adds up what is known; Sync makes it new.
func (c *Client) Balance() Balance {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.w.Balance()
	return Balance{b.Final, b.Reserved, b.Available(), b.Out, b.In, c.synced}
}

// Line is a transaction of the history.
type Line struct {
	ID        types.Hash
	Direction string        // "in", "out", "self" or "notarise"
	Amount    types.Amount  // without the fee
	Fee       types.Amount  // if the wallet paid it
	To        []types.Key   // locks of others that it pays
	Document  *types.Hash   // that it notarises
	Note      string        // the holder's own
	Status    wallet.Status // what is proven
	Tier      wallet.Tier   // what an agent said, of an open one
	Reason    string        // why it was rejected
	Made      types.Millis  // when it was made here, or heard of first
	Height    uint64        // of the anchor that ordered it, once that is proven
	Time      types.Millis  // consensus time of that
	AsOf      wallet.AsOf   // of the proof
	HasProof  bool          // a proof file is kept
}

// History is all transactions of the wallet: those that were ordered, in that order, and then
// the others, in the order in which the wallet met them.
func (c *Client) History() []Line {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.w.Transactions()
	lines := make([]Line, len(all))
	for i := range all {
		lines[i] = c.line(&all[i])
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return cmp.Compare(a.Height-1, b.Height-1) }) // unordered: 0−1, the greatest
	return lines
}

// Find is the line of the history whose id begins as given, if there is exactly one.
// Errors: NotThere.
func (c *Client) Find(prefix string) (Line, error) {
	prefix = strings.ToLower(prefix)
	var found []Line
	for _, l := range c.History() {
		if strings.HasPrefix(l.ID.String(), prefix) {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Line{}, refuse(NotThere, nil, "the wallet has no transaction %s: `charter wallet history` lists them", prefix)
	}
	return Line{}, refuse(NotThere, nil, "%d transactions of the wallet begin with %q: give more of the id", len(found), prefix)
}

// Proof is the proof file of a settled transaction, which convinces others from the genesis
// on. Errors: NotThere.
func (c *Client) Proof(id types.Hash) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.w.Transaction(id)
	if !ok || t.Event == nil {
		return nil, refuse(NotThere, nil, "the wallet has no proof of transaction %s yet: wait until it is final", id)
	}
	return t.Proof, nil
}

func (c *Client) line(t *wallet.Transaction) Line {
	way, amount, fee := c.w.Summary(t.Tx)
	l := Line{
		ID: t.ID, Direction: [...]string{wallet.Incoming: "in", wallet.Outgoing: "out", wallet.Internal: "self"}[way],
		Amount: amount, Fee: fee, Note: c.notes[t.ID], Status: t.Status, Tier: t.Told, AsOf: t.AsOf, HasProof: t.Event != nil,
	}
	for _, o := range t.Tx.Outputs {
		if _, ours := c.w.Flow(&types.Transaction{Outputs: []types.Output{o}}); ours == 0 {
			l.To = append(l.To, o.Lock)
		}
	}
	for _, r := range t.Tx.Records {
		if n, ok := r.(types.Notarise); ok && l.Document == nil {
			l.Document = &n.Document
			if way == wallet.Internal {
				l.Direction, l.Amount = "notarise", 0
			}
		}
	}
	for _, at := range t.Times {
		if at != 0 && (l.Made == 0 || at < l.Made) {
			l.Made = at
		}
	}
	if t.Event != nil {
		l.Height, l.Time, l.Reason = t.Event.Height, t.Event.Time, t.Event.Reason.String()
	}
	return l
}

func now() types.Millis { return types.MillisOf(time.Now()) }

// freshIntent names an intent that nobody named before.
func freshIntent() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
