package sig

import (
	"fmt"

	secp "github.com/decred/dcrd/dcrec/secp256k1/v4"

	"charter/sig/internal/field"
	"charter/types"
)

// tagLock is hashed with an inner key and a root into the lock's tweak.
var tagLock = types.NewTag("charter/lock")

// LockKey is the lock that opens by inner, or by a leaf of the tree with this root
// (spec/ledger.md, "Locks"; the construction is BIP-341's):
//
//	lock = x of  P + H(tag "charter/lock", inner ‖ root)·G,  P the even point of inner
//
// The zero root means no tree, and the lock is inner itself. Errors: BadKey.
func LockKey(inner types.Key, root types.Hash) (types.Key, error) {
	var p field.Point
	if err := liftPublic(inner, &p); err != nil || root.IsZero() {
		return inner, err
	}
	t, err := tweak(inner, root)
	if err != nil {
		return types.Key{}, err
	}
	var by field.Scalar
	b := t.Bytes()
	by.SetBytes(&b)
	sum := field.Combine(&by, []field.Point{p}, []field.Scalar{{1}})
	if sum.IsInfinity() {
		return types.Key{}, noTweak(inner)
	}
	lock := sum.Affine()
	return lock.X.Bytes(), nil
}

// LockPrivate is the private key of LockKey(priv.Public(), root), which spends by the key
// and shows no leaf.
func LockPrivate(priv PrivateKey, root types.Hash) (PrivateKey, error) {
	priv.mustBeSet()
	if root.IsZero() {
		return priv, nil
	}
	d, err := tweak(priv.pub, root)
	if err != nil {
		return PrivateKey{}, err
	}
	if d.Add(&priv.d).IsZero() {
		return PrivateKey{}, noTweak(priv.pub)
	}
	return newPrivateKey(&d), nil
}

func tweak(inner types.Key, root types.Hash) (t secp.ModNScalar, err error) {
	h := tagLock.Hash(inner[:], root[:])
	if overflow := t.SetBytes((*[32]byte)(&h)); overflow != 0 {
		return t, noTweak(inner)
	}
	return t, nil
}

// noTweak is met once in 2^127 roots or so: pick another.
func noTweak(inner types.Key) error {
	return &Error{Kind: BadLock, What: "the inner key has no tweak by this root", Key: inner}
}

// RootFromPath is the root of a lock's tree in which a leaf's hash has these siblings,
// from the leaf up.
func RootFromPath(leaf types.Hash, path []types.Hash) types.Hash {
	for _, sibling := range path {
		leaf = types.BranchHash(leaf, sibling)
	}
	return leaf
}

// OpensLock checks that lock is inner tweaked by the root that leaf and path lead to.
// Whether the leaf's conditions hold is not its question. Errors: BadKey of the inner
// key; BadLock, also for a leaf that fails its Check.
func OpensLock(lock, inner types.Key, leaf types.Leaf, path []types.Hash) error {
	if len(path) > types.MaxLeafPath {
		return &Error{Kind: BadLock, What: fmt.Sprintf("a path of %d hashes, at most %d", len(path), types.MaxLeafPath), Key: lock}
	}
	if err := leaf.Check(); err != nil {
		return &Error{Kind: BadLock, What: err.Error(), Key: lock}
	}
	have, err := LockKey(inner, RootFromPath(leaf.Hash(), path))
	if err != nil {
		return err
	}
	if have != lock {
		return &Error{Kind: BadLock, What: fmt.Sprintf("inner key, leaf and path make the lock %s", have), Key: lock}
	}
	return nil
}

// LockTree builds the tree of a lock's leaves: pairs are joined in the order given, level
// by level, and an odd one out moves up as it is. It gives the root, zero for no leaves,
// and for each leaf its path. A path has at most ⌈log₂ leaves⌉ hashes, so that
// types.MaxLeafPath is out of reach of leaves that fit in a memory. Its error is BadLock, of
// a leaf that fails its Check: nothing should be locked so.
//
//	      root
//	     /    \
//	  ab        c      paths: a: b, c   b: a, c   c: ab
//	 /  \
//	a    b
func LockTree(leaves []types.Leaf) (root types.Hash, paths [][]types.Hash, err error) {
	type node struct {
		hash        types.Hash
		first, past int // the leaves below
	}
	level := make([]node, len(leaves))
	for i, l := range leaves {
		if err := l.Check(); err != nil {
			return types.Hash{}, nil, &Error{Kind: BadLock, What: fmt.Sprintf("leaves[%d]: %v", i, err)}
		}
		level[i] = node{l.Hash(), i, i + 1}
	}
	paths = make([][]types.Hash, len(leaves))
	for len(level) > 1 {
		up := make([]node, 0, (len(level)+1)/2)
		for i := 0; i+1 < len(level); i += 2 {
			a, b := level[i], level[i+1]
			for l := a.first; l < a.past; l++ {
				paths[l] = append(paths[l], b.hash)
			}
			for l := b.first; l < b.past; l++ {
				paths[l] = append(paths[l], a.hash)
			}
			up = append(up, node{types.BranchHash(a.hash, b.hash), a.first, b.past})
		}
		if len(level)%2 == 1 {
			up = append(up, level[len(level)-1])
		}
		level = up
	}
	if len(level) == 1 {
		root = level[0].hash
	}
	return root, paths, nil
}
