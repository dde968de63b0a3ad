package proof

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"charter/types"
)

// specimen is a valid proof, and how whatever is accepted in its place is judged.
type specimen struct {
	name  string
	bytes []byte
	kind  kindByte
	// accept verifies a proof of this kind as its reader would; if it is accepted, lie says what of it
	// is not so, "" if nothing.
	accept func(Statement) (lie string, err error)
}

// specimens are the valid proofs of a scene. Files and advances are checked from genesis on, which costs their
// signatures, and files from the pinned checkpoint too, which costs none. What is true, also of a time
// behind the scene, is what the later one has.
func (s *scene) specimens(later *scene) (out []specimen) {
	top := s.checkpoints[s.top]
	for name, c := range s.statements() {
		sp := specimen{name: name, bytes: c.proof.Encode(), kind: c.proof.kind()}
		switch p := c.proof.(type) {
		case *File:
			sp.accept = func(p Statement) (string, error) { return later.fileLie(p.(*File), s.trust) }
			last := p.Steps[len(p.Steps)-1].Checkpoint
			pin := Pin(s.chain, &s.genesis.Params, last.ID())
			out = append(out, specimen{name + ", pinned", sp.bytes, sp.kind, func(p Statement) (string, error) { return later.fileLie(p.(*File), pin) }})
		case *Advance:
			sp.accept = func(p Statement) (string, error) {
				a := p.(*Advance)
				if a.Chain != s.chain {
					return "", refuse(WrongChain, "advance", "")
				}
				now, _, err := s.trust.Advance(a.Steps)
				if err == nil && now.Checkpoint != nil && now.Checkpoint.ID() != later.checkpoints[now.Height()].ID() {
					return "a checkpoint that is none", nil
				}
				return "", err
			}
		case *Event:
			at := s.checkpoints[p.Event.Height]
			if p.Past != nil {
				at = top
			}
			sp.accept = func(p Statement) (string, error) {
				h, err := p.(*Event).Verify(at)
				if err != nil {
					return "", err
				}
				return s.eventLie(h.Event), nil
			}
		case *Output:
			position := p.Position
			sp.accept = func(p Statement) (string, error) {
				o, err := p.(*Output).Verify(top, position)
				if err == nil && *o != s.states[position] {
					return "another state", nil
				}
				return "", err
			}
		case *Key:
			lock := p.Lock
			sp.accept = func(p Statement) (string, error) {
				h, err := p.(*Key).Verify(top, lock)
				if err != nil {
					return "", err
				}
				all := s.logs[lock]
				if h.Total != uint64(len(all)) || !slices.Equal(h.Events, all[len(all)-len(h.Events):]) {
					return "other events", nil
				}
				return "", nil
			}
		default: // what is asked for is all that they say
			sp.accept = func(p Statement) (string, error) { return "", c.verify(p) }
		}
		out = append(out, sp)
	}
	slices.SortFunc(out, func(a, b specimen) int { return bytes.Compare([]byte(a.name), []byte(b.name)) })
	return out
}

func (s *scene) eventLie(ev types.Event) string {
	if ev.Height >= uint64(len(s.events)) || !slices.Contains(s.events[ev.Height], ev) {
		return "an event that never was"
	}
	return ""
}

func (s *scene) fileLie(f *File, trust Trusted) (string, error) {
	v, err := f.Verify(trust, nil)
	if err != nil {
		return "", err
	}
	for _, o := range v.Outputs {
		st := s.states[o.Position]
		if st.SpentHeight > v.CheckpointHeight {
			st.SpentHeight = 0
		}
		if st.Output != (types.Output{Value: o.Value, Lock: o.Lock, Host: o.Host}) || o.Proven && st.SpentHeight != o.Spent {
			return "an output that is not so", nil
		}
	}
	if v.Checkpoint != s.checkpoints[v.CheckpointHeight].ID() {
		return "a checkpoint that is none", nil
	}
	return s.eventLie(f.Event.Event), nil
}

// mutator spoils proofs, with parts of others at hand.
type mutator struct {
	*rand.Rand
	donors [][]byte
}

// span is a stretch of b, mostly a short one.
func (m *mutator) span(b []byte) (from, to int) {
	from = m.IntN(len(b))
	return from, min(len(b), from+1+m.IntN(1<<(1+m.IntN(9))))
}

var mutations = []struct {
	name string
	on   func(m *mutator, b []byte) []byte
}{
	{"a bit flipped", func(m *mutator, b []byte) []byte { b[m.IntN(len(b))] ^= 1 << m.IntN(8); return b }},
	{"a byte set", func(m *mutator, b []byte) []byte { b[m.IntN(len(b))] = byte(m.Uint32()); return b }},
	{"all ones", func(m *mutator, b []byte) []byte { return m.fill(b, 0xff) }},
	{"all zeros", func(m *mutator, b []byte) []byte { return m.fill(b, 0) }},
	{"truncated", func(m *mutator, b []byte) []byte { return b[:m.IntN(len(b))] }},
	{"padded", func(m *mutator, b []byte) []byte { return append(b, make([]byte, 1+m.IntN(70))...) }},
	{"a part left out", func(m *mutator, b []byte) []byte { from, to := m.span(b); return slices.Delete(b, from, to) }},
	{"a part twice", func(m *mutator, b []byte) []byte {
		from, to := m.span(b)
		return slices.Insert(b, to, slices.Clone(b[from:to])...)
	}},
	{"a number moved", func(m *mutator, b []byte) []byte {
		at := m.IntN(len(b) - 8)
		binary.BigEndian.PutUint64(b[at:], binary.BigEndian.Uint64(b[at:])+m.Uint64N(5)-2)
		return b
	}},
	{"two parts in the other order", func(m *mutator, b []byte) []byte {
		n := 32 * (1 + m.IntN(3))
		if len(b) < 2*n+1 {
			return b
		}
		at := m.IntN(len(b) - 2*n)
		return slices.Concat(b[:at], b[at+n:at+2*n], b[at:at+n], b[at+2*n:])
	}},
	{"a part of another proof", func(m *mutator, b []byte) []byte {
		d := m.donor()
		from, to := m.span(d)
		return slices.Replace(b, min(from, len(b)), min(to, len(b)), d[from:to]...)
	}},
	{"the end of another proof", func(m *mutator, b []byte) []byte {
		d := m.donor()
		n := 1 + m.IntN(min(len(b), len(d))-1)
		return append(b[:len(b)-n], d[len(d)-n:]...)
	}},
	{"another proof", func(m *mutator, b []byte) []byte { return slices.Clone(m.donor()) }},
	{"a list changed", (*mutator).relist},
}

func (m *mutator) donor() []byte { return m.donors[m.IntN(len(m.donors))] }

func (m *mutator) fill(b []byte, with byte) []byte {
	from, to := m.span(b)
	for i := from; i < to; i++ {
		b[i] = with
	}
	return b
}

// relist swaps, drops, repeats or turns around elements of a list of a proof, and counts them rightly.
func (m *mutator) relist(b []byte) []byte {
	p, err := Decode(b)
	if err != nil {
		return b
	}
	var lists []reflect.Value
	collect(reflect.ValueOf(p).Elem(), &lists)
	if len(lists) == 0 {
		return b
	}
	l := lists[m.IntN(len(lists))]
	i, j := m.IntN(l.Len()), m.IntN(l.Len())
	switch m.IntN(4) {
	case 0:
		reflect.Swapper(l.Interface())(i, j)
	case 1:
		l.Set(reflect.AppendSlice(l.Slice3(0, i, i), l.Slice(i+1, l.Len())))
	case 2:
		l.Set(reflect.Append(l, l.Index(i)))
	case 3:
		for k := range l.Len() / 2 {
			reflect.Swapper(l.Interface())(k, l.Len()-1-k)
		}
	}
	return p.Encode()
}

// collect finds the lists in a proof that are not empty.
func collect(v reflect.Value, lists *[]reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			collect(v.Elem(), lists)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				collect(v.Field(i), lists)
			}
		}
	case reflect.Slice:
		if v.Len() == 0 {
			return
		}
		*lists = append(*lists, v)
		for i := range v.Len() {
			collect(v.Index(i), lists)
		}
	}
}

// TestMutations gives the verifiers spoiled proofs of every kind: what is accepted is one of the true proofs, or leaves
// out what its reader does not need (an output, a last step; the votes on the way to a pin), and says nothing that is not so. Their number is
// CHARTER_MUTATIONS, else 200,000 (20,000 in a short run); the seed is CHARTER_SEED, else 1.
func TestMutations(t *testing.T) {
	t.Parallel()
	count, seed := setting(t, "CHARTER_MUTATIONS", 200_000), uint64(setting(t, "CHARTER_SEED", 1))
	if testing.Short() {
		count = min(count, 20_000)
	}
	s, later := newScene(t), newScene(t)
	later.rise(33)
	later.apply(later.pay(2, nil, types.Output{Value: 7, Lock: alice}))
	later.top = 36
	later.rise(later.top)
	all := s.specimens(later)
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 0))}
	original := make(map[string]bool)
	for _, sp := range all {
		m.donors = append(m.donors, sp.bytes)
	}
	for _, c := range later.statements() { // other heights', other trees'
		m.donors = append(m.donors, c.proof.Encode())
	}
	for _, d := range m.donors {
		original[string(d)] = true
	}
	var run, decoded, accepted [kindStatementEnd]int
	for n := 0; n < count; {
		sp := &all[m.IntN(len(all))]
		data, what := bytes.Clone(sp.bytes), ""
		for more := true; more && len(data) > 100; more = m.IntN(5) == 0 {
			how := &mutations[m.IntN(len(mutations))]
			data, what = how.on(m, data), what+", "+how.name
		}
		if original[string(data)] {
			continue
		}
		n++
		run[sp.kind]++
		p, err := Decode(data)
		if err != nil || p.kind() != sp.kind {
			continue
		}
		decoded[sp.kind]++
		lie, err := sp.accept(p)
		if err != nil {
			continue
		}
		accepted[sp.kind]++
		if lie != "" || sp.kind != kindFile && sp.kind != kindAdvance {
			t.Fatalf("seed %d: %s%s: accepted, and says %q: %x", seed, sp.name, what, lie, data)
		}
	}
	total := 0
	for k := kindByte(1); k < kindStatementEnd; k++ {
		t.Logf("%-11s %8d mutated, %8d decoded, %6d accepted and true", kindNames[k], run[k], decoded[k], accepted[k])
		total += run[k]
		if run[k] == 0 || decoded[k] == 0 {
			t.Errorf("no mutated %s reached its verifier", kindNames[k])
		}
	}
	t.Logf("%d mutated proofs, none accepted that says what is not so", total)
}

func setting(t *testing.T, name string, otherwise int) int {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		t.Fatal(fmt.Errorf("%s is %q: want a number", name, v))
	}
	return n
}
