package types

import (
	"bytes"
	"errors"
	"fmt"
	"sort"
)

// Bounds of a transaction and its parts. A decoder refuses what exceeds them before it
// allocates (spec/encoding.md, "Bounds").
const (
	MaxTransaction = 64 << 10 // bytes
	MaxInputs      = 256
	MaxOutputs     = 256
	MaxRecords     = 16
	MaxLeafKeys    = 16 // keys of a `keys t of n` condition
	MaxLeafPath    = 32 // depth of a lock's tree
	MaxName        = 32 // bytes of a name
	MaxAddress     = 64 // bytes of a peer's network address
)

// Output is an amount under a lock, registered with a host (spec/ledger.md, "Outputs").
type Output struct {
	Value Amount
	Lock  Key // output key, as in BIP-341
	Host  Key // the peer with which these shares are registered, or zero
}

const outputSize = 8 + 32 + 32

func (o Output) encode(e *Encoder) {
	e.Amount(o.Value)
	e.Key(o.Lock)
	e.Key(o.Host)
}

func decodeOutput(d *Decoder) Output {
	return Output{Value: d.Amount("value"), Lock: d.Key("lock"), Host: d.Key("host")}
}

// Input names the output that it spends: by its position in the output tree and the
// transaction and index that made it. It repeats the output, so that who signs knows what
// it spends, and who checks the signature needs no state.
type Input struct {
	Position uint64
	Source   Hash // id of the transaction that made the output, chain id for genesis
	Index    uint32
	Output   Output
}

const inputSize = 8 + 32 + 4 + outputSize

func (in Input) encode(e *Encoder) {
	e.U64(in.Position)
	e.Hash(in.Source)
	e.U32(in.Index)
	in.Output.encode(e)
}

func decodeInput(d *Decoder) Input {
	return Input{
		Position: d.U64("position"), Source: d.Hash("source"), Index: d.U32("index"),
		Output: decodeOutput(d),
	}
}

// Record is what a transaction says besides moving value. Its concrete types are
// Notarise, RegisterPeer, Evidence and Reinstate; each has its rules in package ledger.
type Record interface {
	kind() uint8
	encode(e *Encoder)
}

const (
	recordNotarise     = 1
	recordRegisterPeer = 2
	recordEvidence     = 3
	recordReinstate    = 4
)

// Notarise says that a document with this hash existed.
type Notarise struct {
	Document Hash // SHA-256 of the document's bytes
}

func (Notarise) kind() uint8         { return recordNotarise }
func (r Notarise) encode(e *Encoder) { e.Hash(r.Document) }

// RegisterPeer enters a peer, or renews its entry: how it is called, where it is reached
// and where its fees go. Signed by the peer's own key.
type RegisterPeer struct {
	Peer      Key
	Name      string // 1 to MaxName bytes of a-z, 0-9 and '-'
	Address   string // host:port of its UDP socket
	Reward    Key    // lock of the outputs that pay its fees
	Signature Signature
}

func (RegisterPeer) kind() uint8 { return recordRegisterPeer }

func (r RegisterPeer) encode(e *Encoder) {
	r.encodeBody(e)
	e.Signature(r.Signature)
}

func (r RegisterPeer) encodeBody(e *Encoder) {
	e.Key(r.Peer)
	e.String(r.Name)
	e.String(r.Address)
	e.Key(r.Reward)
}

// Digest is what the peer signs: the chain, the first input of the transaction that says
// the record, and the record without its signature. An output is spent once, so nobody
// can say the record a second time and take a peer back to an old address.
func (r RegisterPeer) Digest(chain Hash, first Input) Hash {
	e := NewEncoder(nil)
	first.encode(e)
	r.encodeBody(e)
	return tagRegisterPeer.Hash(chain[:], e.Data())
}

func decodeRegisterPeer(d *Decoder) RegisterPeer {
	return RegisterPeer{
		Peer: d.Key("peer"), Name: d.String("name", MaxName),
		Address: d.String("address", MaxAddress), Reward: d.Key("reward"),
		Signature: d.Signature("signature"),
	}
}

func decodeRecord(d *Decoder) Record {
	switch kind := d.U8("kind"); kind {
	case recordNotarise:
		return Notarise{d.Hash("document")}
	case recordRegisterPeer:
		return decodeRegisterPeer(d)
	case recordEvidence:
		return decodeEvidence(d)
	case recordReinstate:
		return decodeReinstate(d)
	default:
		d.Fail(Unknown, fmt.Sprintf("kind %d", kind))
		return nil
	}
}

// Reveal opens one leaf of a lock's tree, for one input that is not spent by its key
// (spec/ledger.md, "Locks").
type Reveal struct {
	Input    uint16 // which input, by its place in the list
	Inner    Key    // the lock's inner key
	Leaf     Leaf
	Path     []Hash // siblings from the leaf up to the root
	Signers  uint16 // bit i: the leaf's key i joins the signers; exactly Leaf.Threshold bits
	Preimage Hash   // what hashes to Leaf.HashLock, zero if the leaf has none
}

func (r Reveal) encode(e *Encoder) {
	e.U16(r.Input)
	e.Key(r.Inner)
	r.Leaf.encode(e)
	e.Count8(len(r.Path))
	for _, h := range r.Path {
		e.Hash(h)
	}
	e.U16(r.Signers)
	e.Hash(r.Preimage)
}

func decodeReveal(d *Decoder) Reveal {
	r := Reveal{Input: d.U16("input"), Inner: d.Key("inner"), Leaf: decodeLeaf(d)}
	n := int(d.U8("path"))
	if n > MaxLeafPath {
		d.Fail(TooLong, "path")
		return r
	}
	for i := 0; i < n && d.err == nil; i++ {
		r.Path = append(r.Path, d.Hash("path"))
	}
	r.Signers = d.U16("signers")
	r.Preimage = d.Hash("preimage")
	return r
}

// Leaf is one way to open a lock besides its key: all of its conditions must hold, and
// each is there at most once.
type Leaf struct {
	Threshold uint8  // `keys t of n`: t, 0 for no such condition
	Keys      []Key  // the n, strictly ascending
	After     Millis // `after T`: consensus time ≥ After, 0 for none
	Older     Millis // `older d`: consensus time ≥ birth + Older, 0 for none
	HashLock  Hash   // `hash h`: a preimage with SHA-256 h is revealed, zero for none
}

const (
	leafKeys = 1 << iota
	leafAfter
	leafOlder
	leafHash
)

// Check reports why no transaction could reveal the leaf: its decoder would refuse it. What
// is locked by such a leaf alone is lost.
func (l Leaf) Check() error {
	switch {
	case l.flags() == 0:
		return errors.New("leaf: it has no condition")
	case len(l.Keys) > MaxLeafKeys:
		return fmt.Errorf("leaf: %d keys, at most %d", len(l.Keys), MaxLeafKeys)
	case int(l.Threshold) > len(l.Keys) || l.Threshold == 0 && len(l.Keys) > 0:
		return fmt.Errorf("leaf: %d of %d keys can not sign", l.Threshold, len(l.Keys))
	case l.After < 0 || l.After > MaxTime || l.Older < 0 || l.Older > MaxTime:
		return fmt.Errorf("leaf: after %d or older %d is out of range", l.After, l.Older)
	}
	for i := 1; i < len(l.Keys); i++ {
		if bytes.Compare(l.Keys[i-1][:], l.Keys[i][:]) >= 0 {
			return fmt.Errorf("leaf: key %s is out of order or there twice", l.Keys[i])
		}
	}
	return nil
}

// flags is which conditions are there.
func (l Leaf) flags() (flags uint8) {
	for i, there := range [...]bool{
		l.Threshold > 0 || len(l.Keys) > 0, l.After != 0, l.Older != 0, !l.HashLock.IsZero(),
	} {
		if there {
			flags |= 1 << i
		}
	}
	return flags
}

func (l Leaf) encode(e *Encoder) {
	flags := l.flags()
	e.U8(flags)
	if flags&leafKeys != 0 {
		e.U8(l.Threshold)
		e.Count8(len(l.Keys))
		for _, k := range l.Keys {
			e.Key(k)
		}
	}
	if flags&leafAfter != 0 {
		e.Time(l.After)
	}
	if flags&leafOlder != 0 {
		e.Time(l.Older)
	}
	if flags&leafHash != 0 {
		e.Hash(l.HashLock)
	}
}

func decodeLeaf(d *Decoder) (l Leaf) {
	flags := d.U8("leaf")
	if flags >= leafHash<<1 {
		d.Fail(Unknown, "leaf")
	}
	if flags&leafKeys != 0 {
		l.Threshold = d.U8("threshold")
		n := d.U8("keys")
		if n > MaxLeafKeys {
			d.Fail(TooLong, "keys")
		}
		for i := 0; i < int(n) && d.err == nil; i++ {
			l.Keys = append(l.Keys, d.Key("keys"))
		}
	}
	if flags&leafAfter != 0 {
		l.After = d.Time("after")
	}
	if flags&leafOlder != 0 {
		l.Older = d.Time("older")
	}
	if flags&leafHash != 0 {
		l.HashLock = d.Hash("hash")
	}
	if l.flags() != flags || l.Check() != nil {
		d.Fail(NotCanonical, "leaf")
	}
	return l
}

// Hash is the leaf's hash in its lock's tree.
func (l Leaf) Hash() Hash {
	e := NewEncoder(nil)
	l.encode(e)
	return tagLeaf.Hash(e.Data())
}

// BranchHash is the hash of an inner node of a lock's tree. Its children are sorted, as
// in BIP-341, so that a path needs no directions.
func BranchHash(a, b Hash) Hash {
	if bytes.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return tagBranch.Hash(a[:], b[:])
}

// Transaction moves outputs and says records. Everything down to Fee is under its id;
// Reveals and Signature are not, so nobody can change the id of what was signed.
type Transaction struct {
	Salt       [16]byte
	ValidFrom  Millis // consensus time from which it may be applied
	ValidUntil Millis // and the last at which it may; MaxTime for no end
	Inputs     []Input
	Outputs    []Output
	Records    []Record
	Fee        Amount

	Reveals   []Reveal // ascending by input
	Signature Signature
}

const transactionVersion = 1

func (t *Transaction) encodeBody(e *Encoder) {
	e.U8(transactionVersion)
	e.Raw(t.Salt[:])
	e.Time(t.ValidFrom)
	e.Time(t.ValidUntil)
	e.Count16(len(t.Inputs))
	for _, in := range t.Inputs {
		in.encode(e)
	}
	e.Count16(len(t.Outputs))
	for _, o := range t.Outputs {
		o.encode(e)
	}
	e.Count8(len(t.Records))
	for _, r := range t.Records {
		e.U8(r.kind())
		r.encode(e)
	}
	e.Amount(t.Fee)
}

// Encode is the whole transaction, reveals and signature included.
func (t *Transaction) Encode() []byte {
	e := NewEncoder(make([]byte, 0, t.sizeHint()))
	t.encodeBody(e)
	e.Count16(len(t.Reveals))
	for _, r := range t.Reveals {
		r.encode(e)
	}
	e.Signature(t.Signature)
	return e.Data()
}

func (t *Transaction) sizeHint() int {
	return 128 + len(t.Inputs)*inputSize + len(t.Outputs)*outputSize + len(t.Records)*192 + len(t.Reveals)*512
}

// Body is what the id covers: everything but reveals and signature.
func (t *Transaction) Body() []byte {
	e := NewEncoder(make([]byte, 0, t.sizeHint()))
	t.encodeBody(e)
	return e.Data()
}

// ID is the tagged hash of the chain's id and the body. It is also the message that the
// transaction's signature signs.
func (t *Transaction) ID(chain Hash) Hash { return TransactionID(chain, t.Body()) }

// TransactionID is the id of a transaction with this body.
func TransactionID(chain Hash, body []byte) Hash { return tagTransaction.Hash(chain[:], body) }

// Host is the peer that hosts the transaction's first input, in whose blocks it should go;
// zero if none does.
func (t *Transaction) Host() Key {
	if len(t.Inputs) == 0 {
		return Key{}
	}
	return t.Inputs[0].Output.Host
}

// DecodeTransaction reads a whole transaction of at most MaxTransaction bytes.
func DecodeTransaction(data []byte) (*Transaction, error) {
	d := NewDecoder("transaction", data)
	if len(data) > MaxTransaction {
		d.Fail(TooLong, "size")
		return nil, d.Err()
	}
	t := decodeBody(d)
	n := d.Count16("reveals", MaxInputs, 2+32+1+1+2+32)
	for i := 0; i < n && d.err == nil; i++ {
		r := decodeReveal(d)
		if i > 0 && t.Reveals[i-1].Input >= r.Input || int(r.Input) >= len(t.Inputs) {
			d.Fail(NotCanonical, "reveals")
			break
		}
		t.Reveals = append(t.Reveals, r)
	}
	t.Signature = d.Signature("signature")
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return t, nil
}

// DecodeTransactionBody reads a transaction without reveals and signature, as Body writes it.
func DecodeTransactionBody(data []byte) (*Transaction, error) {
	d := NewDecoder("transaction body", data)
	if len(data) > MaxTransaction {
		d.Fail(TooLong, "size")
		return nil, d.Err()
	}
	t := decodeBody(d)
	if err := d.Finish(); err != nil {
		return nil, err
	}
	return t, nil
}

func decodeBody(d *Decoder) *Transaction {
	t := new(Transaction)
	if v := d.U8("version"); v != transactionVersion {
		d.Fail(Unknown, "version")
	}
	copy(t.Salt[:], d.Take("salt", 16))
	t.ValidFrom = d.Time("valid from")
	t.ValidUntil = d.Time("valid until")
	n := d.Count16("inputs", MaxInputs, inputSize)
	for range n {
		t.Inputs = append(t.Inputs, decodeInput(d))
	}
	n = d.Count16("outputs", MaxOutputs, outputSize)
	for range n {
		t.Outputs = append(t.Outputs, decodeOutput(d))
	}
	n = int(d.U8("records"))
	if n > MaxRecords {
		d.Fail(TooLong, "records")
		return t
	}
	for i := 0; i < n && d.err == nil; i++ {
		t.Records = append(t.Records, decodeRecord(d))
	}
	t.Fee = d.Amount("fee")
	return t
}

// PayoutID stands for a transaction id in the outputs that pay a peer's fees at a snapshot.
func PayoutID(chain Hash, height uint64, peer Key) Hash {
	e := NewEncoder(nil)
	e.U64(height)
	return tagPayout.Hash(chain[:], e.Data(), peer[:])
}

// SortKeys sorts keys ascending, in place, and drops repetitions.
func SortKeys(keys []Key) []Key {
	sort.Slice(keys, func(i, j int) bool { return bytes.Compare(keys[i][:], keys[j][:]) < 0 })
	out := keys[:0]
	for i, k := range keys {
		if i == 0 || k != keys[i-1] {
			out = append(out, k)
		}
	}
	return out
}
