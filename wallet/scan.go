package wallet

import "charter/types"

// Scan restores a wallet from its words: it says which keys to ask for, and learns from the
// proven answers, until Gap keys in a row, of those for receiving and of those for change,
// were never used. The keys of one answer decide which come next, so Next gives as many as
// are sure to be needed.
//
//	for !s.Done() { for _, lock := range s.Next(16) { ask; s.Answer(history) } }
type Scan struct {
	w       *Wallet
	next    [purposes]uint32 // index of the first key not handed out
	end     [purposes]uint32 // index behind the last key to ask for
	waiting map[types.Key]key
	asked   int
	used    int
}

// Scan starts from the first key on, whatever the wallet knows: what is known is found again.
func (w *Wallet) Scan() *Scan {
	s := &Scan{w: w, waiting: make(map[types.Key]key)}
	for _, p := range []Purpose{Receive, Change} {
		s.end[p] = uint32(len(w.issued[p])) + Gap
	}
	return s
}

// Next is up to n keys to ask for, in order, not handed out before. None means that answers
// are waited for, or that the scan is done.
func (s *Scan) Next(n int) (locks []types.Key) {
	for _, p := range []Purpose{Receive, Change} {
		for ; len(locks) < n && s.next[p] < s.end[p]; s.next[p]++ {
			lock := s.w.Keys().Lock(p, s.next[p])
			s.waiting[lock] = key{p, s.next[p]}
			locks = append(locks, lock)
		}
	}
	return locks
}

// Answer takes the proven history of a key of Next; no events if there is none. It issues a
// key that was used, and all before it, and finds its outputs. Errors: NotOurs for a key
// that is not waited for, Contradiction, TooMuch; the key is then still waited for.
func (s *Scan) Answer(h KeyHistory) error {
	k, ok := s.waiting[h.Lock]
	if !ok {
		return refuse(NotOurs, "key %s was not asked for", h.Lock)
	}
	if len(h.Events) > 0 {
		if err := s.learn(k, h); err != nil {
			return err
		}
		s.used++
		s.end[k.purpose] = max(s.end[k.purpose], k.index+1+Gap)
	}
	delete(s.waiting, h.Lock)
	s.asked++
	return nil
}

func (s *Scan) learn(k key, h KeyHistory) error {
	n := len(s.w.issued[k.purpose])
	for i := uint32(n); i <= k.index; i++ {
		s.w.issue(k.purpose, s.w.Keys().Lock(k.purpose, i))
	}
	err := s.w.Learn(h)
	if err != nil { // take back what was issued
		for _, lock := range s.w.issued[k.purpose][n:] {
			delete(s.w.locks, lock)
		}
		s.w.issued[k.purpose] = s.w.issued[k.purpose][:n]
	}
	return err
}

// Done reports whether every key that could have been used was answered for.
func (s *Scan) Done() bool {
	for p := range purposes {
		if s.next[p] < s.end[p] {
			return false
		}
	}
	return len(s.waiting) == 0
}

// Progress is how many keys were answered for, how many of them had been used, and how many
// are left, as far as is known.
func (s *Scan) Progress() (asked, used, left int) {
	for p := range purposes {
		left += int(s.end[p] - s.next[p])
	}
	return s.asked, s.used, left + len(s.waiting)
}
