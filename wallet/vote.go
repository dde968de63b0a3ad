package wallet

import (
	"slices"

	"charter/ledger"
	"charter/sig"
	"charter/types"
)

// Ballot is the vote of all the wallet's final unspent outputs, the greatest first up to MaxBallotOutputs, over a digest
// (types.ReinstateDigest), and how many shares they hold. It spends nothing. Errors: Insufficient without any, WrongKeys.
func (w *Wallet) Ballot(digest types.Hash) (types.Ballot, types.Amount, error) {
	var coins []*Owned
	for _, o := range w.outputs {
		if o.State.SpentHeight == 0 {
			coins = append(coins, o)
		}
	}
	if len(coins) == 0 {
		return types.Ballot{}, 0, refuse(Insufficient, "the wallet has no shares to vote with")
	}
	slices.SortFunc(coins, func(a, b *Owned) int { return compare(b.State.Output.Value, a.State.Output.Value) })
	coins = coins[:min(len(coins), types.MaxBallotOutputs)]
	slices.SortFunc(coins, func(a, b *Owned) int { return compare(a.Position, b.Position) })
	var b types.Ballot
	var total types.Amount
	privs := make(map[types.Key]sig.PrivateKey)
	for _, c := range coins {
		lock := c.State.Output.Lock
		b.Outputs = append(b.Outputs, types.Held{Position: c.Position, Lock: lock})
		total = sum(total, c.State.Output.Value)
		if _, have := privs[lock]; have {
			continue
		}
		priv, err := w.private(lock)
		if err != nil {
			return types.Ballot{}, 0, err
		}
		privs[lock] = priv
	}
	keys := make([]sig.PrivateKey, 0, len(privs))
	for _, p := range privs {
		keys = append(keys, p)
	}
	return b, total, ledger.SignBallot(digest, &b, keys)
}

// Reinstate is the transaction that says what shareholders voted. Errors as those of Pay.
func (w *Wallet) Reinstate(t Terms, r types.Reinstate) (Transaction, error) {
	return w.intend(t, order{records: []types.Record{r}})
}

// private is the private key of one of the wallet's own locks.
func (w *Wallet) private(lock types.Key) (sig.PrivateKey, error) {
	k := w.locks[lock]
	priv := w.Keys().Private(k.purpose, k.index)
	if priv.Public() != lock {
		return priv, refuse(WrongKeys, "the wallet's words do not make key %s, which it says it issued: its file is damaged; restore it from the words", lock)
	}
	return priv, nil
}
