package ledger

import (
	"crypto/sha256"
	"fmt"

	"charter/sig"
	"charter/types"
)

// PreimageHash is what a leaf's `hash h` compares: plain SHA-256 of the 32 bytes, as other
// chains have it, so that one secret can open locks on both.
func PreimageHash(preimage types.Hash) types.Hash { return sha256.Sum256(preimage[:]) }

// SigningKeys is the set L of keys that must sign a transaction, ascending: for an input
// that is revealed the leaf's chosen keys, for any other its lock (spec/ledger.md, "One
// signature"). Errors: *Invalid of WrongSigners or NoSigners.
func SigningKeys(tx *types.Transaction) ([]types.Key, error) {
	revealed := make(map[int]bool, len(tx.Reveals))
	var keys []types.Key
	for i, r := range tx.Reveals {
		revealed[int(r.Input)] = true
		if r.Signers>>len(r.Leaf.Keys) != 0 {
			return nil, invalid(WrongSigners, fmt.Sprintf("reveals[%d]", i), "bits %b, and the leaf has %d keys", r.Signers, len(r.Leaf.Keys))
		}
		for k, key := range r.Leaf.Keys {
			if r.Signers>>k&1 != 0 {
				keys = append(keys, key)
			}
		}
	}
	for i, input := range tx.Inputs {
		if !revealed[i] {
			keys = append(keys, input.Output.Lock)
		}
	}
	if len(keys) == 0 {
		return nil, invalid(NoSigners, "inputs", "")
	}
	return types.SortKeys(keys), nil
}

// BallotKeys is the set of keys whose aggregate signs a ballot, ascending: the locks of its outputs.
func BallotKeys(b *types.Ballot) []types.Key {
	keys := make([]types.Key, len(b.Outputs))
	for i, held := range b.Outputs {
		keys[i] = held.Lock
	}
	return types.SortKeys(keys)
}

// SignBallot signs a ballot over a types.ReinstateDigest, with the keys of all its locks among privs.
func SignBallot(digest types.Hash, b *types.Ballot, privs []sig.PrivateKey) error {
	s, err := signWith(BallotKeys(b), digest, privs)
	if err != nil {
		return fmt.Errorf("sign ballot: %w", err)
	}
	b.Signature = s
	return nil
}

// SignTransaction signs a transaction whose signing keys are all among privs; others there
// may be too. Its reveals must be in it already. It does not check the transaction.
func SignTransaction(chain types.Hash, tx *types.Transaction, privs []sig.PrivateKey) error {
	keys, err := SigningKeys(tx)
	if err != nil {
		return err
	}
	s, err := signWith(keys, tx.ID(chain), privs)
	if err != nil {
		return fmt.Errorf("sign transaction: %w", err)
	}
	tx.Signature = s
	return nil
}

// signWith is the signature by the aggregate of keys, the private ones of which are among privs.
func signWith(keys []types.Key, msg types.Hash, privs []sig.PrivateKey) (types.Signature, error) {
	byKey := make(map[types.Key]sig.PrivateKey, len(privs))
	for _, p := range privs {
		byKey[p.Public()] = p
	}
	signers := make([]sig.PrivateKey, len(keys))
	for i, k := range keys {
		p, ok := byKey[k]
		if !ok {
			return types.Signature{}, fmt.Errorf("the private key of %s is needed and not there", k)
		}
		signers[i] = p
	}
	return sig.SignSet(signers, msg)
}
