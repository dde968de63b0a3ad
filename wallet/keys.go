package wallet

import (
	"fmt"

	"github.com/btcsuite/btcd/btcutil/v2/hdkeychain"
	"github.com/btcsuite/btcd/chaincfg/v2"

	"charter/sig"
	"charter/types"
)

// Purpose is what a key is for.
type Purpose uint8

const (
	// Identity: by which the wallet logs in at its agent and is known to others.
	Identity Purpose = iota
	// Receive: locks what others pay, one key for each receipt.
	Receive
	// Change: locks what comes back from one's own payments.
	Change
	purposes
)

// Gap is how many keys in a row may be out unused. Restoring asks for this many beyond the
// last key that was ever used, and issuing stops before it would be more.
const Gap = 20

// pathPurpose is the first step of the path m/25448'/account'/purpose'/index' (BIP-43):
// "ch" in ASCII.
const pathPurpose = 'c'<<8 | 'h'

// Keys makes a wallet's keys from its entropy: BIP-39, then BIP-32 at
// m/25448'/account'/purpose'/index', all steps hardened, so that a key which gets out tells
// nothing about another. The chain is not in the path: a genesis names keys before there
// is a chain.
type Keys struct {
	roots [purposes]*hdkeychain.ExtendedKey
}

// MaxIndex bounds accounts and indexes: BIP-32 has 2^31 hardened children.
const MaxIndex = 1<<31 - 1

// NewKeys makes the keys of an account, at most MaxIndex.
func NewKeys(entropy [32]byte, account uint32) *Keys {
	return keysFromSeed(bip39Seed(Mnemonic(entropy), ""), account)
}

func keysFromSeed(seed []byte, account uint32) *Keys {
	// The network that BIP-32 asks for shows only in its text form, which is not used.
	node, err := hdkeychain.NewMaster(seed, &chaincfg.MainNetParams)
	if err != nil {
		panic(fmt.Sprintf("wallet: BIP-32 master key: %v", err))
	}
	node = child(child(node, pathPurpose), account)
	k := new(Keys)
	for p := range purposes {
		k.roots[p] = child(node, uint32(p))
	}
	return k
}

// child is a hardened step. It fails for one in 2^127 (BIP-32), which is never, and for an
// index beyond MaxIndex, which is a bug of the caller.
func child(node *hdkeychain.ExtendedKey, index uint32) *hdkeychain.ExtendedKey {
	if index > MaxIndex {
		panic(fmt.Sprintf("wallet: BIP-32 index %d", index))
	}
	next, err := node.Derive(hdkeychain.HardenedKeyStart + index)
	if err != nil {
		panic(fmt.Sprintf("wallet: BIP-32 step %d: %v", index, err))
	}
	return next
}

// Private is the key of a purpose and an index, at most MaxIndex.
func (k *Keys) Private(p Purpose, index uint32) sig.PrivateKey {
	priv, err := child(k.roots[p], index).ECPrivKey()
	if err != nil {
		panic(fmt.Sprintf("wallet: BIP-32 private key: %v", err))
	}
	out, err := sig.ParsePrivateKey([32]byte(priv.Serialize()))
	if err != nil {
		panic(fmt.Sprintf("wallet: BIP-32 private key: %v", err))
	}
	return out
}

// Lock is the public half of Private. As a lock it has an inner key only and no leaves:
// it opens by its key and in no other way.
func (k *Keys) Lock(p Purpose, index uint32) types.Key { return k.Private(p, index).Public() }
