package chain

import (
	"slices"
	"sync"

	"charter/store"
	"charter/types"
)

// pins are states of the last heights, held as they were, so that proofs can be made under
// a checkpoint that is certified while the state has moved on.
type pins struct {
	mu      sync.Mutex
	ring    []*pin // ascending by height
	proving *pin   // newest whose checkpoint is certified
	closed  bool
}

// pin is the state of a height. Whoever uses it holds a reference.
type pin struct {
	snap   *store.Snapshot
	height uint64
	time   types.Millis
	refs   int
}

// maxPins bounds the states that wait for a certificate.
const maxPins = 64

// push adds the newest state.
func (p *pins) push(snap *store.Snapshot, height uint64, time types.Millis) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ring = append(p.ring, &pin{snap: snap, height: height, time: time, refs: 1})
	if len(p.ring) > maxPins {
		p.unref(p.ring[0])
		p.ring = slices.Delete(p.ring, 0, 1)
	}
}

// certify notes that the checkpoint of a height is certified: if its state is pinned, proofs
// are made of it from now on.
func (p *pins) certify(height uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.ring, func(x *pin) bool { return x.height == height })
	if i < 0 {
		return
	}
	if p.proving != nil {
		p.unref(p.proving)
	}
	p.proving = p.ring[i]
	p.proving.refs++
	for _, x := range p.ring[:i] {
		p.unref(x)
	}
	p.ring = slices.Delete(p.ring, 0, i)
}

// latest is the newest state, nil before there is one. Drop it after use.
func (p *pins) latest() *pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.ring) == 0 {
		return nil
	}
	x := p.ring[len(p.ring)-1]
	x.refs++
	return x
}

// certified is the newest state whose checkpoint is certified, nil if there is none.
func (p *pins) certified() *pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.proving == nil {
		return nil
	}
	p.proving.refs++
	return p.proving
}

// of is the state of a height, nil if it is held no more. Drop it after use.
func (p *pins) of(height uint64) *pin {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	if p.proving != nil && p.proving.height == height {
		p.proving.refs++
		return p.proving
	}
	i := slices.IndexFunc(p.ring, func(x *pin) bool { return x.height == height })
	if i < 0 {
		return nil
	}
	p.ring[i].refs++
	return p.ring[i]
}

// keep takes one more reference to a pin.
func (p *pins) keep(x *pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	x.refs++
}

// drop gives a pin back.
func (p *pins) drop(x *pin) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unref(x)
}

func (p *pins) unref(x *pin) {
	if x.refs--; x.refs == 0 {
		_ = x.snap.Close() // it was only read
	}
}

// close lets go of all states, as soon as nobody uses them.
func (p *pins) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, x := range p.ring {
		p.unref(x)
	}
	if p.proving != nil {
		p.unref(p.proving)
	}
	p.ring, p.proving = nil, nil
}
