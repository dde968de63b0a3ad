package pool

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"charter/types"
)

var self = types.Key{1}

// twin is the pool as one would write it first: a list, and loops over it.
type twin struct {
	limits Limits
	held   []*item // in order of beginning to wait
	begun  int
}

type item struct {
	id        types.Hash
	raw       []byte
	tx        *types.Transaction
	since     types.Millis
	order     int
	block     types.Hash
	forwarded bool
	adopted   types.Millis // due then, if not zero
}

func (w *twin) find(id types.Hash) *item {
	for _, e := range w.held {
		if e.id == id {
			return e
		}
	}
	return nil
}

func (w *twin) size() (n int) {
	for _, e := range w.held {
		n += len(e.raw)
	}
	return n
}

func (w *twin) due(e *item) types.Millis {
	if e.adopted > 0 {
		return e.adopted
	}
	if h := e.tx.Host(); h == self || h.IsZero() {
		return e.tx.ValidFrom
	}
	return max(e.tx.ValidFrom, e.since+w.limits.Patience)
}

func (w *twin) mine(e *item, now types.Millis) bool {
	return e.block.IsZero() && w.due(e) <= now && now <= e.tx.ValidUntil
}

func (w *twin) add(e *item) string {
	if w.find(e.id) != nil {
		return ""
	}
	if len(w.held) >= w.limits.Count || w.size()+len(e.raw) > w.limits.Bytes {
		return "full"
	}
	for _, in := range e.tx.Inputs {
		for _, o := range w.held {
			if slices.ContainsFunc(o.tx.Inputs, func(other types.Input) bool { return other.Position == in.Position }) {
				return fmt.Sprint("conflict ", in.Position, o.id)
			}
		}
	}
	w.begun++
	e.order = w.begun
	w.held = append(w.held, e)
	return ""
}

func (w *twin) ready(now types.Millis) (bool, types.Millis) {
	var soonest types.Millis
	for _, e := range w.held {
		if w.mine(e, now) {
			return true, 0
		}
		if due := w.due(e); e.block.IsZero() && now < due && due <= e.tx.ValidUntil && (soonest == 0 || due < soonest) {
			soonest = due
		}
	}
	return false, soonest
}

func (w *twin) take(limit int, now types.Millis) (ids []types.Hash) {
	all := slices.Clone(w.held)
	slices.SortFunc(all, func(a, b *item) int {
		return cmp.Or(cmp.Compare(max(w.due(a), a.since), max(w.due(b), b.since)), cmp.Compare(a.order, b.order))
	})
	var raws [][]byte
	for _, e := range all {
		if !w.mine(e, now) {
			continue
		}
		if raws = append(raws, e.raw); len(types.EncodePayload(raws)) > limit {
			break
		}
		ids = append(ids, e.id)
	}
	return ids
}

func (w *twin) forward(n int, now types.Millis) map[types.Key][][]byte {
	var out map[types.Key][][]byte
	for _, e := range w.held {
		h := e.tx.Host()
		if n == 0 || !e.block.IsZero() || e.forwarded || h == self || h.IsZero() || w.due(e) <= now || e.tx.ValidUntil < now {
			continue
		}
		if out == nil {
			out = make(map[types.Key][][]byte)
		}
		e.forwarded = true
		out[h] = append(out[h], e.raw)
		n--
	}
	return out
}

func (w *twin) carry(block types.Hash, ids []types.Hash) {
	for _, id := range ids {
		if e := w.find(id); e != nil && e.block.IsZero() {
			e.block = block
		}
	}
}

func (w *twin) adopt(id types.Hash, now types.Millis) {
	if e := w.find(id); e != nil && e.block.IsZero() && w.due(e) > now {
		w.begun++
		e.forwarded, e.adopted, e.order = true, max(e.tx.ValidFrom, now), w.begun
	}
}

func (w *twin) release(block types.Hash, ids []types.Hash, now types.Millis) {
	for _, id := range ids {
		if e := w.find(id); e != nil && e.block == block {
			w.drop(id)
			w.begun++
			w.held = append(w.held, &item{id: id, raw: e.raw, tx: e.tx, since: now, order: w.begun})
		}
	}
}

func (w *twin) drop(id types.Hash) {
	w.held = slices.DeleteFunc(w.held, func(e *item) bool { return e.id == id })
}

func (w *twin) settle(ids []types.Hash, spent []uint64) (dropped []types.Hash) {
	for _, id := range ids {
		if w.find(id) != nil {
			w.drop(id)
			dropped = append(dropped, id)
		}
	}
	for _, position := range spent {
		for _, e := range slices.Clone(w.held) {
			if slices.ContainsFunc(e.tx.Inputs, func(in types.Input) bool { return in.Position == position }) {
				w.drop(e.id)
				dropped = append(dropped, e.id)
			}
		}
	}
	return dropped
}

func (w *twin) expire(now types.Millis) (dropped []types.Hash) {
	for _, e := range slices.Clone(w.held) {
		if e.block.IsZero() && e.tx.ValidUntil < now {
			w.drop(e.id)
			dropped = append(dropped, e.id)
		}
	}
	return dropped
}

func problem(err error) string {
	var conflict *ConflictError
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrFull):
		return "full"
	case errors.As(err, &conflict):
		return fmt.Sprint("conflict ", conflict.Position, conflict.Other)
	}
	return err.Error()
}

func sortHashes(h []types.Hash) []types.Hash {
	h = slices.Clone(h)
	slices.SortFunc(h, func(a, b types.Hash) int { return slices.Compare(a[:], b[:]) })
	return h
}

// Whatever is told in whatever order, the pool answers as its twin does: within its limits, one
// spender of an output, oldest first, each forwarded once, none lost and none from nowhere.
func TestTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{Bytes: rapid.IntRange(0, 900).Draw(t, "bytes"), Count: rapid.IntRange(1, 12).Draw(t, "count"), Patience: 30}
		p, w := New(self, limits), &twin{limits: limits}
		now := types.Millis(100)
		id := rapid.Map(rapid.Uint8Range(1, 40), func(n uint8) types.Hash { return types.Hash{n} })
		ids, blocks := rapid.SliceOfN(id, 0, 6), rapid.Map(rapid.Uint8Range(1, 3), func(n uint8) types.Hash { return types.Hash{31: n} })
		hosts := rapid.SampledFrom([]types.Key{self, {}, {2}, {3}})
		same := func(t *rapid.T, what string, have, want any) {
			if !reflect.DeepEqual(have, want) {
				t.Fatalf("%s: %v, twin %v", what, have, want)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				tx := &types.Transaction{
					ValidFrom:  now + types.Millis(rapid.IntRange(-100, 20).Draw(t, "from")),
					ValidUntil: now + types.Millis(rapid.IntRange(-5, 80).Draw(t, "until")),
				}
				for _, position := range rapid.SliceOfNDistinct(rapid.Uint64Range(0, 30), 1, 3, rapid.ID).Draw(t, "inputs") {
					tx.Inputs = append(tx.Inputs, types.Input{Position: position, Output: types.Output{Host: hosts.Draw(t, "host")}})
				}
				id := id.Draw(t, "id")
				raw := append(make([]byte, rapid.IntRange(0, 200).Draw(t, "size")), id[:]...)
				err := problem(p.Add(id, tx, raw, now))
				same(t, "add", err, w.add(&item{id: id, raw: raw, tx: tx, since: now}))
			},
			"time": func(*rapid.T) { now += types.Millis(rapid.IntRange(0, 25).Draw(t, "time")) },
			"take": func(t *rapid.T) {
				limit := rapid.IntRange(0, 600).Draw(t, "limit")
				ids, raws := p.Take(limit, now)
				same(t, "take", ids, w.take(limit, now))
				for i, raw := range raws {
					same(t, "bytes taken", raw, w.find(ids[i]).raw)
				}
				if rapid.Bool().Draw(t, "built") {
					block := blocks.Draw(t, "block")
					p.Carry(block, ids)
					w.carry(block, ids)
				}
			},
			"forward": func(t *rapid.T) {
				n := rapid.IntRange(0, 5).Draw(t, "n")
				same(t, "forward", p.Forward(n, now), w.forward(n, now))
			},
			"carry": func(t *rapid.T) {
				block, ids := blocks.Draw(t, "block"), ids.Draw(t, "ids")
				p.Carry(block, ids)
				w.carry(block, ids)
			},
			"release": func(t *rapid.T) {
				block, ids := blocks.Draw(t, "block"), ids.Draw(t, "ids")
				p.Release(block, ids, now)
				w.release(block, ids, now)
			},
			"adopt": func(t *rapid.T) {
				id := id.Draw(t, "id")
				p.Adopt(id, now)
				w.adopt(id, now)
			},
			"settle": func(t *rapid.T) {
				ids, spent := ids.Draw(t, "ids"), rapid.SliceOfN(rapid.Uint64Range(0, 30), 0, 4).Draw(t, "spent")
				same(t, "settle", p.Settle(ids, spent), w.settle(ids, spent))
			},
			"expire": func(t *rapid.T) { same(t, "expire", sortHashes(p.Expire(now)), sortHashes(w.expire(now))) },
			"": func(t *rapid.T) {
				ready, when := p.Ready(now)
				wantReady, wantWhen := w.ready(now)
				same(t, "ready", []any{ready, when}, []any{wantReady, wantWhen})
				same(t, "sizes", []int{p.Len(), p.Bytes()}, []int{len(w.held), w.size()})
				for n := range 41 {
					block, held := p.Block(types.Hash{byte(n)})
					e := w.find(types.Hash{byte(n)})
					same(t, "held", []bool{held, p.Has(types.Hash{byte(n)})}, []bool{e != nil, e != nil})
					if e != nil {
						same(t, "block", block, e.block)
					}
				}
				if p.Len() > limits.Count || p.Bytes() > limits.Bytes {
					t.Fatalf("%d transactions of %d bytes, above %+v", p.Len(), p.Bytes(), limits)
				}
				same(t, "spent positions", len(p.spends), w.positions())
			},
		})
	})
}

func (w *twin) positions() (n int) {
	for _, e := range w.held {
		n += len(e.tx.Inputs)
	}
	return n
}

func waitingFor(host types.Key, n int) *types.Transaction {
	return &types.Transaction{
		ValidUntil: types.MaxTime,
		Inputs:     []types.Input{{Position: uint64(n), Output: types.Output{Host: host}}},
	}
}

func number(n int) types.Hash { return types.Hash{byte(n >> 16), byte(n >> 8), byte(n), 1} }

// A clock that is set back makes nothing go early, and loses nothing.
func TestClockSetBack(t *testing.T) {
	p := New(self, DefaultLimits)
	tx := waitingFor(self, 1)
	tx.ValidFrom = 1000
	if err := p.Add(number(1), tx, []byte{1}, 0); err != nil {
		t.Fatal(err)
	}
	if ready, _ := p.Ready(1000); !ready {
		t.Fatal("not ready at its time")
	}
	if ready, when := p.Ready(400); ready || when != 1000 {
		t.Fatalf("ready %t, when %d", ready, when)
	}
	if ids, _ := p.Take(1000, 400); len(ids) != 0 {
		t.Fatal("taken before its time")
	}
	if ids, _ := p.Take(1000, 1001); len(ids) != 1 {
		t.Fatal("lost")
	}
}

// A transaction that this peer hosts is due at its own time, with no patience to wait for, and
// is never forwarded: not to this peer, and if nobody hosts it not to the zero key.
func TestOwnIsNotForwarded(t *testing.T) {
	p := New(self, DefaultLimits)
	for i, host := range []types.Key{self, {}} {
		tx := waitingFor(host, i)
		tx.ValidFrom = 50
		if err := p.Add(number(i), tx, []byte{1}, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, when := p.Ready(10); when != 50 {
		t.Errorf("due at %d", when)
	}
	if out := p.Forward(10, 10); len(out) != 0 {
		t.Errorf("forwarded to %v", out)
	}
}

// What a pump of the driver asks, with 100,000 transactions waiting for another peer.
func BenchmarkIdleQuestions(b *testing.B) {
	p := New(self, DefaultLimits)
	for n := range 100_000 {
		if err := p.Add(number(n), waitingFor(types.Key{2}, n), []byte{1}, 0); err != nil {
			b.Fatal(err)
		}
	}
	p.Forward(100_000, 1)
	b.ReportAllocs()
	for b.Loop() {
		p.Expire(1)
		p.Ready(1)
		p.Forward(256, 1)
		p.Take(types.MaxPayload, 1)
	}
}

// One transaction's way through a pool in which 100,000 others wait.
func BenchmarkAddTakeSettle(b *testing.B) {
	p := New(self, DefaultLimits)
	for n := range 100_000 {
		if err := p.Add(number(n), waitingFor(types.Key{2}, n), []byte{1}, 0); err != nil {
			b.Fatal(err)
		}
	}
	tx, id := waitingFor(self, 1<<20), number(1<<20)
	for b.Loop() {
		if err := p.Add(id, tx, []byte{1}, 1); err != nil {
			b.Fatal(err)
		}
		ids, _ := p.Take(types.MaxPayload, 1)
		p.Carry(types.Hash{1}, ids)
		if len(p.Settle(ids, nil)) != 1 {
			b.Fatal("lost")
		}
	}
}
