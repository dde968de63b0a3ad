package chain

import (
	"math/rand/v2"
	"testing"

	"charter/ledger"
	"charter/types"
)

// onDisk is a view that has nothing but outputs.
type onDisk struct {
	ledger.View
	outputs []types.OutputState
	reads   int
}

func (v *onDisk) Output(position uint64) (*types.OutputState, error) {
	v.reads++
	if position >= uint64(len(v.outputs)) {
		return nil, nil
	}
	o := v.outputs[position]
	return &o, nil
}

// Whatever is made and spent, in memory it is as on the disk.
func TestRecentAgreesWithDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var disk onDisk
	var r recent
	v := recalling{&disk, &r, new(sieve)}
	for height := uint64(1); height < 60; height++ {
		ch := &ledger.Changes{First: uint64(len(disk.outputs))}
		for range rng.IntN(maxRecent / 8) {
			o := types.OutputState{Index: rng.Uint32(), BornHeight: height}
			ch.Created, disk.outputs = append(ch.Created, o), append(disk.outputs, o)
		}
		for range rng.IntN(maxRecent / 16) {
			at := rng.Uint64N(uint64(len(disk.outputs) + 1))
			if at < uint64(len(disk.outputs)) && disk.outputs[at].SpentHeight == 0 { // of this height too
				disk.outputs[at].SpentHeight = height
				ch.Spent = append(ch.Spent, ledger.Spent{Position: at, State: disk.outputs[at]})
			}
		}
		r.take(ch)
		disk.reads = 0
		const asked = 2000
		for range asked {
			at := rng.Uint64N(uint64(len(disk.outputs) + 3))
			got, err := v.Output(at)
			want, _ := disk.Output(at)
			if err != nil || (got == nil) != (want == nil) || got != nil && *got != *want {
				t.Fatalf("height %d, output %d: %v, want %v, %v", height, at, got, want, err)
			}
		}
		if len(r.young)+len(r.old) > 2*maxRecent {
			t.Fatalf("%d and %d in memory", len(r.young), len(r.old))
		}
		if height < 10 && disk.reads > asked+asked*2/3 {
			t.Errorf("height %d: %d of %d read from the disk", height, disk.reads-asked, asked)
		}
	}
}
