package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strconv"
	"strings"

	"charter/sig"
	"charter/types"
)

// Kind says why a transaction is invalid by itself.
type Kind uint8

const (
	// NoInputs: it spends nothing. The inputs make it unique. Evidence alone needs none.
	NoInputs Kind = iota + 1
	// RepeatedInput: two inputs spend one position.
	RepeatedInput
	// ZeroValue: an input or output of nothing.
	ZeroValue
	// BadLock: an output, or a peer's reward, is locked by what is no key: lost for ever.
	BadLock
	// Overflow: a sum above the greatest supply.
	Overflow
	// Unbalanced: inputs are not outputs and fee.
	Unbalanced
	// LowFee: less than MinFee.
	LowFee
	// EmptyWindow: it is valid until before it is valid from.
	EmptyWindow
	// WrongReveal: a leaf that does not open the lock of its input.
	WrongReveal
	// WrongSigners: not exactly the threshold of a leaf's keys is chosen, or keys that it does not have.
	WrongSigners
	// WrongPreimage: it does not hash to the leaf's hash, or the leaf asks for none.
	WrongPreimage
	// NoSigners: no input needs any key, so that anybody could change the transaction.
	NoSigners
	// BadKey: a key that must sign is no key.
	BadKey
	// BadSignature: the transaction's signature, or a record's, is not one by its keys.
	BadSignature
	// BadName: a name out of the form of types.ValidName.
	BadName
	// BadAddress: an address that is no host:port.
	BadAddress
	// RepeatedRecord: two records of one document, one peer, one name, one offender.
	RepeatedRecord
	// NotBare: evidence without inputs that has more to it than the record.
	NotBare
	// NoOffence: what evidence holds is none.
	NoOffence
	// RepeatedVote: two ballots vote with one output.
	RepeatedVote
	kindEnd
)

var kinds = [...]string{
	"", "no inputs", "input there twice", "value is zero", "lock is no key", "sum overflows",
	"inputs are not outputs and fee", "fee too low", "never valid", "leaf does not open the lock",
	"wrong signers", "wrong preimage", "nobody signs", "not a key", "signature does not verify",
	"not a name", "not an address", "record there twice", "evidence without inputs has more to it",
	"no offence", "output votes twice",
}

// String is the kind in words.
func (k Kind) String() string {
	if k > 0 && k < kindEnd {
		return kinds[k]
	}
	return fmt.Sprintf("kind %d", k)
}

// Invalid is why a transaction is invalid by itself: whoever carries it in a block knew
// better (spec/ledger.md, "Valid by itself").
type Invalid struct {
	Kind   Kind
	Where  string // the part at fault, like "outputs[1].lock"
	Detail string // the values that disagree
}

func (e *Invalid) Error() string {
	s := "invalid transaction: " + e.Where + ": " + e.Kind.String()
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// IsKind reports whether err is an Invalid of kind k.
func IsKind(err error, k Kind) bool {
	var v *Invalid
	return errors.As(err, &v) && v.Kind == k
}

func invalid(k Kind, where, format string, args ...any) error {
	return &Invalid{k, where, fmt.Sprintf(format, args...)}
}

// Parsed is a transaction that is valid by itself but for its signatures, which are left
// to be verified: by Verify, or many transactions' at once.
type Parsed struct {
	Tx         *types.Transaction
	ID         types.Hash
	Signatures []sig.Check // the transaction's (bare evidence has none), then those of its records
	places     []string    // what each of them is the signature of
}

// Verify verifies the signatures. Errors: BadSignature.
func (p *Parsed) Verify() error {
	bad, err := sig.VerifyAll(p.Signatures)
	if err != nil {
		return p.Blame(bad, err)
	}
	return nil
}

// Blame is the error for its i-th signature, for who verified many at once.
func (p *Parsed) Blame(i int, err error) error {
	return invalid(BadSignature, p.places[i], "%v", err)
}

// CheckEncoded decodes a transaction and checks that it is valid by itself, signatures
// included. It gives the transaction and its id. Errors: *types.DecodeError, *Invalid.
func CheckEncoded(chain types.Hash, params *types.Params, raw []byte) (*types.Transaction, types.Hash, error) {
	p, err := Parse(chain, params, raw)
	if err != nil {
		return nil, types.Hash{}, err
	}
	if err := p.Verify(); err != nil {
		return nil, types.Hash{}, err
	}
	return p.Tx, p.ID, nil
}

// Check is CheckEncoded of the transaction's encoding.
func Check(chain types.Hash, params *types.Params, tx *types.Transaction) error {
	_, _, err := CheckEncoded(chain, params, tx.Encode())
	return err
}

// Parse decodes a transaction and checks all that makes it valid by itself but the
// signatures. Errors: *types.DecodeError, *Invalid.
func Parse(chain types.Hash, params *types.Params, raw []byte) (*Parsed, error) {
	tx, err := types.DecodeTransaction(raw)
	if err != nil {
		return nil, err
	}
	if err := checkValues(params, tx, len(raw)); err != nil {
		return nil, err
	}
	if err := checkReveals(tx); err != nil {
		return nil, err
	}
	if err := checkRecords(tx); err != nil {
		return nil, err
	}
	p := &Parsed{Tx: tx, ID: tx.ID(chain)}
	return p, p.collect(chain, params)
}

// MinFee is the least fee of a transaction of so many encoded bytes.
func MinFee(params *types.Params, size int) types.Amount {
	over, fee := bits.Mul64(uint64(params.MinFeePerByte), uint64(size))
	if over != 0 || fee > uint64(types.MaxSupply) {
		return types.MaxSupply
	}
	return types.Amount(fee)
}

func checkValues(params *types.Params, tx *types.Transaction, size int) error {
	if len(tx.Inputs) == 0 {
		return checkBare(tx)
	}
	if tx.ValidFrom > tx.ValidUntil {
		return invalid(EmptyWindow, "valid until", "from %s, until %s", tx.ValidFrom, tx.ValidUntil)
	}
	var in, out types.Amount
	var err error
	places := make(map[uint64]int, len(tx.Inputs))
	for i, input := range tx.Inputs {
		where := fmt.Sprintf("inputs[%d]", i)
		if first, twice := places[input.Position]; twice {
			return invalid(RepeatedInput, where, "position %d is that of inputs[%d]", input.Position, first)
		}
		places[input.Position] = i
		if input.Output.Value == 0 {
			return invalid(ZeroValue, where, "")
		}
		if in, err = in.Add(input.Output.Value); err != nil {
			return invalid(Overflow, where, "%v", err)
		}
	}
	for i, output := range tx.Outputs {
		where := fmt.Sprintf("outputs[%d]", i)
		if output.Value == 0 {
			return invalid(ZeroValue, where, "")
		}
		if err := sig.CheckKey(output.Lock); err != nil {
			return invalid(BadLock, where, "%s", output.Lock)
		}
		if out, err = out.Add(output.Value); err != nil {
			return invalid(Overflow, where, "%v", err)
		}
	}
	if out, err = out.Add(tx.Fee); err != nil {
		return invalid(Overflow, "fee", "%v", err)
	}
	if in != out {
		return invalid(Unbalanced, "fee", "inputs %s, outputs %s and fee %s", in, out-tx.Fee, tx.Fee)
	}
	if least := MinFee(params, size); tx.Fee < least {
		return invalid(LowFee, "fee", "%s for %d bytes, the least is %s", tx.Fee, size, least)
	}
	return nil
}

// checkBare checks a transaction without inputs: it is the one that says its evidence and nothing else.
func checkBare(tx *types.Transaction) error {
	if len(tx.Records) == 1 {
		if r, ok := tx.Records[0].(types.Evidence); ok {
			if !bytes.Equal(tx.Encode(), r.Transaction().Encode()) {
				return invalid(NotBare, "inputs", "")
			}
			return nil
		}
	}
	return invalid(NoInputs, "inputs", "")
}

// checkReveals checks what can be checked of leaves without state. Their times are for
// Apply, and that no key is chosen that is not there is for SigningKeys.
func checkReveals(tx *types.Transaction) error {
	for i, r := range tx.Reveals {
		where := fmt.Sprintf("reveals[%d]", i)
		if chosen := bits.OnesCount16(r.Signers); chosen != int(r.Leaf.Threshold) {
			return invalid(WrongSigners, where, "%d keys are chosen, the threshold is %d", chosen, r.Leaf.Threshold)
		}
		if !r.Leaf.HashLock.IsZero() {
			if got := PreimageHash(r.Preimage); got != r.Leaf.HashLock {
				return invalid(WrongPreimage, where, "it hashes to %s, the leaf says %s", got, r.Leaf.HashLock)
			}
		} else if !r.Preimage.IsZero() {
			return invalid(WrongPreimage, where, "%s, and the leaf asks for none", r.Preimage)
		}
		if err := sig.OpensLock(tx.Inputs[r.Input].Output.Lock, r.Inner, r.Leaf, r.Path); err != nil {
			return invalid(WrongReveal, where, "%v", err)
		}
	}
	return nil
}

func checkRecords(tx *types.Transaction) error {
	seen := make(map[any]bool, 2*len(tx.Records))
	for i, record := range tx.Records {
		where := fmt.Sprintf("records[%d]", i)
		claims, err := checkRecord(record, where)
		if err != nil {
			return err
		}
		for _, c := range claims {
			if seen[c] {
				return invalid(RepeatedRecord, where, "%v", c)
			}
			seen[c] = true
		}
	}
	return nil
}

// checkRecord checks a record by itself, but for what is signed, and gives what no other record of the
// transaction may claim.
func checkRecord(record types.Record, where string) (claims []any, err error) {
	type of struct {
		kind string
		peer types.Key
	}
	switch r := record.(type) {
	case types.RegisterPeer:
		if !types.ValidName(r.Name) {
			return nil, invalid(BadName, where+".name", "%q: want 1 to %d of a-z, 0-9 and '-'", r.Name, types.MaxName)
		}
		if !validAddress(r.Address) {
			return nil, invalid(BadAddress, where+".address", "%q: want host:port", r.Address)
		}
		if err := sig.CheckKey(r.Reward); err != nil {
			return nil, invalid(BadLock, where+".reward", "%s", r.Reward)
		}
		return []any{r.Peer, r.Name}, nil
	case types.Evidence:
		return []any{of{"evidence", r.Offender()}}, nil
	case types.Reinstate:
		voted := make(map[uint64]bool)
		for i, b := range r.Ballots {
			for _, held := range b.Outputs {
				if voted[held.Position] {
					return nil, invalid(RepeatedVote, fmt.Sprintf("%s.ballots[%d]", where, i), "position %d", held.Position)
				}
				voted[held.Position] = true
			}
		}
		return []any{of{"vote", r.Peer}}, nil
	}
	return []any{record}, nil
}

// collect gathers the signatures to verify.
func (p *Parsed) collect(chain types.Hash, params *types.Params) error {
	if len(p.Tx.Inputs) > 0 {
		keys, err := SigningKeys(p.Tx)
		if err != nil {
			return err
		}
		key, err := sig.Aggregate(keys)
		if err != nil {
			return invalid(BadKey, "inputs", "%v", err)
		}
		p.add("signature", sig.Check{Key: key, Msg: p.ID, Sig: p.Tx.Signature})
	}
	for i, record := range p.Tx.Records {
		if err := p.collectRecord(chain, params, record, fmt.Sprintf("records[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parsed) add(place string, c sig.Check) {
	p.Signatures, p.places = append(p.Signatures, c), append(p.places, place)
}

func (p *Parsed) collectRecord(chain types.Hash, params *types.Params, record types.Record, where string) error {
	switch r := record.(type) {
	case types.RegisterPeer:
		p.add(where+".signature", sig.Check{Key: r.Peer, Msg: r.Digest(chain, p.Tx.Inputs[0]), Sig: r.Signature})
	case types.Evidence:
		checks, err := CheckEvidence(chain, params, &r)
		if err != nil {
			return in(where, err)
		}
		for _, c := range checks {
			p.add(where+".signature", c)
		}
	case types.Reinstate:
		digest := types.ReinstateDigest(chain, r.Peer, r.Offences)
		for i, b := range r.Ballots {
			place := fmt.Sprintf("%s.ballots[%d]", where, i)
			key, err := sig.Aggregate(BallotKeys(&b))
			if err != nil {
				return invalid(BadKey, place, "%v", err)
			}
			p.add(place+".signature", sig.Check{Key: key, Msg: digest, Sig: b.Signature})
		}
	}
	return nil
}

// in puts the part of a transaction before where an Invalid is.
func in(part string, err error) error {
	if v := new(Invalid); errors.As(err, &v) {
		return &Invalid{v.Kind, part, v.Where + ": " + v.Detail}
	}
	return err
}

// validAddress reports whether s is host:port: an IP address (version 6 in brackets) or a
// domain name, and a port from 1 to 65535 in its one decimal form.
func validAddress(s string) bool {
	at := strings.LastIndexByte(s, ':')
	if at <= 0 || len(s) > types.MaxAddress {
		return false
	}
	host, port := s[:at], s[at+1:]
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return false
	}
	if strings.HasPrefix(host, "[") {
		a, err := netip.ParseAddrPort(s)
		return err == nil && a.Addr().Is6()
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") != "" {
			return false
		}
	}
	return true
}
