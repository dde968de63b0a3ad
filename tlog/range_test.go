package tlog

import (
	"testing"

	"charter/types"
)

// TestRanges proves every range of small logs, and lets each corruption fail.
func TestRanges(t *testing.T) {
	for size := uint64(1); size <= 70; size++ {
		leaves := make([]types.Hash, size)
		for i := range leaves {
			leaves[i] = LeafHash([]byte{byte(i)})
		}
		var m Memory
		r, err := Append(&m, 0, leaves)
		if err != nil {
			t.Fatal(err)
		}
		m.Apply(r.Writes)
		for level := range uint8(8) {
			for first := uint64(0); first < size; first += 1 << level {
				in := leaves[first:min(size, first+1<<level)]
				path, err := ProveRange(&m, size, first, level)
				if err != nil {
					t.Fatal(err)
				}
				twin, err := RangeOf(leaves, first, level)
				if err != nil || len(twin) != len(path) {
					t.Fatal(err, len(twin), len(path))
				}
				before, err := VerifyRange(r.Root, size, first, level, in, path)
				if err != nil {
					t.Fatalf("range of 2^%d from %d of %d: %v", level, first, size, err)
				}
				if want := (Frontier{}).Append(leaves[:first]...); before.Root() != want.Root() || string(before.Encode()) != string(want.Encode()) {
					t.Fatalf("before range of 2^%d from %d of %d is %x", level, first, size, before.Encode())
				}
				if tail := (Frontier{}).Append(leaves...).Tail(level); first == size>>level<<level && tail.Root() != Root(in) {
					t.Fatalf("tail behind a multiple of 2^%d of %d is of size %d", level, size, tail.Size())
				}
				refuseRange(t, r.Root, size, first, level, in, path)
			}
		}
	}
	var m Memory
	for _, c := range []struct {
		size, first uint64
		level       uint8
		kind        Kind
	}{{10, 3, 1, BadIndex}, {10, 10, 1, BadIndex}, {10, 0, 62, BadIndex}, {MaxSize + 1, 0, 1, BadSize}} {
		if _, err := ProveRange(&m, c.size, c.first, c.level); !IsKind(err, c.kind) {
			t.Errorf("%+v: %v", c, err)
		}
		if _, err := VerifyRange(types.Hash{}, c.size, c.first, c.level, nil, nil); !IsKind(err, c.kind) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func refuseRange(t *testing.T, root types.Hash, size, first uint64, level uint8, in []types.Hash, path Path) {
	t.Helper()
	other := append([]types.Hash(nil), in...)
	other[len(other)/2][3] ^= 1
	if _, err := VerifyRange(root, size, first, level, other, path); !IsKind(err, RootMismatch) {
		t.Fatalf("another leaf: %v", err)
	}
	if _, err := VerifyRange(root, size, first, level, in[1:], path); !IsKind(err, BadSize) {
		t.Fatalf("one leaf less: %v", err)
	}
	if _, err := VerifyRange(root, size, first, level, in, append(path[:len(path):len(path)], root)); !IsKind(err, BadLength) {
		t.Fatalf("a hash more: %v", err)
	}
	if len(path) > 0 {
		wrong := append(Path(nil), path...)
		wrong[len(path)-1][0] ^= 1
		if _, err := VerifyRange(root, size, first, level, in, wrong); !IsKind(err, RootMismatch) {
			t.Fatalf("another path: %v", err)
		}
	}
}
