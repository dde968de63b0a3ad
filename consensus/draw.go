package consensus

import (
	"encoding/binary"
	"math/bits"
	"sort"

	"charter/types"
)

var (
	tagSeed   = types.NewTag("charter/seed")
	tagWeight = types.NewTag("charter/weight")
)

// draw is the weighted draw of one height (spec, "Weight at a height"), by author number.
type draw struct {
	leader int
	rank   []int          // place by e/s, 0 for the leader; −1 without shares
	weight []types.Amount // w = min(s/e, S); 0 without shares
}

// exponential is −ln u for u = (x+1)/2^64, x the first 64 bits of the hash over seed, height
// and key, as a fixed-point number with 58 bits behind the point, at least 1.
func exponential(seed types.Hash, height uint64, key types.Key) uint64 {
	var h [8]byte
	binary.BigEndian.PutUint64(h[:], height)
	u := tagWeight.Hash(seed[:], h[:], key[:])
	return negLog(binary.BigEndian.Uint64(u[:8]))
}

// ln2 is the natural logarithm of 2 in units of 2^−64, rounded down.
const ln2 = 0xB17217F7D1CF79AB

// negLog is −ln((x+1)/2^64) in units of 2^−58, rounded down, at least 1. The binary
// logarithm comes digit by digit: squaring a number in [1,2) doubles its logarithm, and
// whether the square reaches 2 is the next digit.
func negLog(x uint64) uint64 {
	x++
	if x == 0 {
		return 1 // u = 1
	}
	whole := uint64(bits.Len64(x) - 1)
	y := x << (63 - whole) // in [1,2), 63 bits behind the point
	log := whole << 58
	for digit := uint64(1) << 57; digit > 0; digit >>= 1 {
		hi, lo := bits.Mul64(y, y) // 126 bits behind the point
		if hi>>63 == 1 {
			y = hi
			log |= digit
		} else {
			y = hi<<1 | lo>>63
		}
	}
	// 64 − log, whose 2^64 wraps to 0; only log = 0 (x = 1) would need it.
	rest := -log
	if log == 0 {
		rest = 1<<64 - 1
	}
	e, _ := bits.Mul64(rest, ln2)
	return max(e, 1)
}

// newDraw draws height h for the members of a run.
func newDraw(seed types.Hash, h uint64, shares []types.Amount, total types.Amount, key func(int) types.Key) *draw {
	d := &draw{rank: make([]int, len(shares)), weight: make([]types.Amount, len(shares))}
	es := make([]uint64, len(shares))
	var order []int
	for a, s := range shares {
		d.rank[a] = -1
		if s == 0 {
			continue
		}
		order = append(order, a)
		es[a] = exponential(seed, h, key(a))
		d.weight[a] = capped(s, es[a], total)
	}
	sort.Slice(order, func(i, j int) bool {
		a, b := order[i], order[j]
		ahi, alo := bits.Mul64(es[a], uint64(shares[b]))
		bhi, blo := bits.Mul64(es[b], uint64(shares[a]))
		if ahi != bhi {
			return ahi < bhi
		}
		if alo != blo {
			return alo < blo
		}
		ka, kb := key(a), key(b)
		return string(ka[:]) < string(kb[:])
	})
	for place, a := range order {
		d.rank[a] = place
	}
	d.leader = order[0]
	return d
}

// capped is min(s/e, total), for e in units of 2^−58.
func capped(s types.Amount, e uint64, total types.Amount) types.Amount {
	hi, lo := uint64(s)>>6, uint64(s)<<58 // s · 2^58
	thi, tlo := bits.Mul64(uint64(total), e)
	if hi > thi || hi == thi && lo >= tlo {
		return total
	}
	q, _ := bits.Div64(hi, lo, e) // hi < e: otherwise the quotient were above total
	return types.Amount(q)
}
