package sig

import (
	"bytes"
	"fmt"
	"slices"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"charter/sig/internal/field"
	"charter/types"
)

// BIP-327's tags.
var (
	tagKeyList        = types.NewTag("KeyAgg list")
	tagKeyCoefficient = types.NewTag("KeyAgg coefficient")
)

// evenKey precedes a key's x in the 33-byte form that BIP-327 and BIP-374 hash.
var evenKey = []byte{secp.PubKeyFormatCompressedEven}

// Aggregate is the one key that stands for a set of keys (spec/ledger.md, "One
// signature"). One key stands for itself. More, in whatever order they come, are sorted
// and aggregated as in BIP-327, each as its even point; the result is the x.
//
// An empty set, or a key twice, is a BadKeySet: a list that could repeat a key can be
// forged, the set cannot. A key that is no key is a BadKey.
func Aggregate(keys []types.Key) (types.Key, error) {
	set, err := sortedSet(keys)
	if err != nil {
		return types.Key{}, err
	}
	if len(set) == 1 {
		return set[0], CheckKey(set[0])
	}
	points, scalars := make([]field.Point, len(set)), make([]field.Scalar, len(set))
	for i, a := range coefficients(set) {
		if err := liftPublic(set[i], &points[i]); err != nil {
			return types.Key{}, err
		}
		b := a.Bytes()
		scalars[i].SetBytes(&b)
	}
	sum := field.Combine(&field.Scalar{}, points, scalars)
	if sum.IsInfinity() {
		return types.Key{}, &Error{Kind: BadKeySet, What: "the keys cancel one another"}
	}
	p := sum.Affine()
	return p.X.Bytes(), nil
}

// SignSet is the signature over msg that verifies under Aggregate of the keys' public
// halves, made by a holder of all of them: the secrets are summed with the coefficients
// and sign once. Errors: BadKeySet.
func SignSet(privs []PrivateKey, msg types.Hash) (types.Signature, error) {
	keys := make([]types.Key, len(privs))
	for i := range privs {
		privs[i].mustBeSet()
		keys[i] = privs[i].pub
	}
	set, err := sortedSet(keys)
	if err != nil {
		return types.Signature{}, err
	}
	if len(set) == 1 {
		return Sign(privs[0], msg), nil
	}
	var sum secp.ModNScalar
	a := coefficients(set)
	for i := range privs {
		at, _ := slices.BinarySearchFunc(set, keys[i], compareKeys)
		sum.Add(a[at].Mul(&privs[i].d))
	}
	if sum.IsZero() {
		return types.Signature{}, &Error{Kind: BadKeySet, What: "the keys cancel one another"}
	}
	return Sign(newPrivateKey(&sum), msg), nil
}

func compareKeys(a, b types.Key) int { return bytes.Compare(a[:], b[:]) }

// sortedSet is the keys, ascending.
func sortedSet(keys []types.Key) ([]types.Key, error) {
	if len(keys) == 0 {
		return nil, &Error{Kind: BadKeySet, What: "no keys"}
	}
	set := types.SortKeys(slices.Clone(keys))
	if d := len(keys) - len(set); d > 0 {
		return nil, &Error{Kind: BadKeySet, What: fmt.Sprintf("%d of %d keys are repetitions", d, len(keys))}
	}
	return set, nil
}

// coefficients are BIP-327's for a sorted set of two or more: the second key, the first
// that differs from the first, has 1; the others the hash of the list and themselves.
func coefficients(set []types.Key) []secp.ModNScalar {
	list := tagKeyList.New()
	for i := range set {
		list.Write(evenKey)
		list.Write(set[i][:])
	}
	l := list.Sum(nil)
	out := make([]secp.ModNScalar, len(set))
	for i := range set {
		h := tagKeyCoefficient.Hash(l, evenKey, set[i][:])
		out[i].SetBytes((*[32]byte)(&h))
	}
	out[1].SetInt(1)
	return out
}
