package chain

import (
	"charter/ledger"
	"charter/types"
)

// recent is outputs that were made lately and are not spent: most are spent soon or late, and who
// spends one soon costs no read of the disk. It is the applier's.
type recent struct {
	young, old map[uint64]*types.OutputState // two generations
}

// maxRecent is how many outputs a generation has, of about 200 bytes each.
const maxRecent = 1 << 16

// take notes what changes made and spent.
func (r *recent) take(ch *ledger.Changes) {
	if len(r.young)+len(ch.Created) > maxRecent {
		r.young, r.old = nil, r.young
	}
	if r.young == nil {
		r.young = make(map[uint64]*types.OutputState)
	}
	for i := range ch.Created {
		r.young[ch.First+uint64(i)] = &ch.Created[i]
	}
	for i := range ch.Spent {
		delete(r.young, ch.Spent[i].Position)
		delete(r.old, ch.Spent[i].Position)
	}
}

// recalling is a view with the recent outputs, and what was not ordered, in memory.
type recalling struct {
	ledger.View
	recent *recent
	sieve  *sieve
}

// Event implements ledger.View.
func (v recalling) Event(transaction types.Hash) (*types.Event, error) {
	if v.sieve.absent(transaction) {
		return nil, nil
	}
	return v.View.Event(transaction)
}

// Output implements ledger.View.
func (v recalling) Output(position uint64) (*types.OutputState, error) {
	if o := v.recent.young[position]; o != nil {
		return o, nil
	}
	if o := v.recent.old[position]; o != nil {
		return o, nil
	}
	return v.View.Output(position)
}
