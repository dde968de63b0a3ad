package sig

import (
	"bytes"
	"encoding/json"
	"testing"

	"charter/types"
)

// BIP-341's vectors check the twin, under the BIP's tag; ours is held to the twin below.
func TestBIP341Tweaks(t *testing.T) {
	var v struct {
		ScriptPubKey []struct {
			Given        struct{ InternalPubkey string }
			Intermediary struct {
				MerkleRoot    *string
				TweakedPubkey string
			}
		}
	}
	if err := json.Unmarshal(published(t, "bip-0341/wallet-test-vectors.json"), &v); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range v.ScriptPubKey {
		var root []byte
		if c.Intermediary.MerkleRoot != nil {
			root = unhex(t, *c.Intermediary.MerkleRoot)
		}
		n++
		if have := refTweak("TapTweak", unhex(t, c.Given.InternalPubkey), root); !bytes.Equal(have, unhex(t, c.Intermediary.TweakedPubkey)) {
			t.Errorf("%s: %x, want %s", c.Given.InternalPubkey, have, c.Intermediary.TweakedPubkey)
		}
	}
	if n == 0 {
		t.Error("no vectors")
	}
}

func TestLockTwin(t *testing.T) {
	r := random("lock")
	for range 30 {
		k, root, msg := drawKey(r), drawHash(r), drawHash(r)
		inner := k.Public()
		lock, err := LockKey(inner, root)
		if err != nil {
			t.Fatal(err)
		}
		if want := refTweak("charter/lock", inner[:], root[:]); !bytes.Equal(lock[:], want) {
			t.Errorf("%s, twin %x", lock, want)
		}
		priv, err := LockPrivate(k, root)
		if err != nil {
			t.Fatal(err)
		}
		if priv.Public() != lock {
			t.Errorf("the secret's key is %s, not the lock %s", priv.Public(), lock)
		}
		if err := Verify(lock, msg, Sign(priv, msg)); err != nil {
			t.Error(err)
		}
	}
}

func TestLockWithoutTree(t *testing.T) {
	k := drawKey(random("no tree"))
	if lock, err := LockKey(k.Public(), types.Hash{}); err != nil || lock != k.Public() {
		t.Errorf("%s, %v", lock, err)
	}
	if priv, err := LockPrivate(k, types.Hash{}); err != nil || priv != k {
		t.Errorf("another key, %v", err)
	}
	if root, paths, err := LockTree(nil); err != nil || !root.IsZero() || len(paths) != 0 {
		t.Errorf("no leaves make the root %s", root)
	}
}

// refRoot is a tree's root by recursion over the pairs' levels, and what is a leaf's depth.
func refRoot(level []types.Hash) types.Hash {
	if len(level) == 1 {
		return level[0]
	}
	var up []types.Hash
	for i := 0; i < len(level); i += 2 {
		if i+1 == len(level) {
			up = append(up, level[i])
			continue
		}
		a, b := level[i][:], level[i+1][:]
		if bytes.Compare(a, b) > 0 {
			a, b = b, a
		}
		up = append(up, types.Hash(refTagged("charter/branch", a, b)))
	}
	return refRoot(up)
}

// Each leaf opens its lock, by its own path only.
func TestLockTree(t *testing.T) {
	inner := drawKey(random("tree")).Public()
	for n := 1; n <= 17; n++ {
		var leaves []types.Leaf
		var hashes []types.Hash
		for i := range n {
			leaves = append(leaves, types.Leaf{After: types.Millis(i + 1)})
			hashes = append(hashes, leaves[i].Hash())
		}
		root, paths, err := LockTree(leaves)
		if want := refRoot(hashes); err != nil || root != want {
			t.Errorf("%d leaves: root %s, twin %s", n, root, want)
		}
		lock, err := LockKey(inner, root)
		if err != nil {
			t.Fatal(err)
		}
		depth := 0
		for 1<<depth < n {
			depth++
		}
		for i, l := range leaves {
			if len(paths[i]) > depth {
				t.Errorf("%d leaves: leaf %d is at depth %d", n, i, len(paths[i]))
			}
			if err := OpensLock(lock, inner, l, paths[i]); err != nil {
				t.Errorf("%d leaves, leaf %d: %v", n, i, err)
			}
			if other := leaves[(i+1)%n]; n > 2 && RootFromPath(other.Hash(), paths[i]) == root {
				t.Errorf("%d leaves: another leaf has the path of leaf %d", n, i)
			}
		}
	}
}

// The longest path that the encoding allows is followed.
func TestLongestPath(t *testing.T) {
	r := random("longest")
	inner, leaf := drawKey(r).Public(), types.Leaf{After: 1}
	path := make([]types.Hash, types.MaxLeafPath)
	for i := range path {
		path[i] = drawHash(r)
	}
	lock, err := LockKey(inner, RootFromPath(leaf.Hash(), path))
	if err != nil {
		t.Fatal(err)
	}
	if err := OpensLock(lock, inner, leaf, path); err != nil {
		t.Error(err)
	}
}
