package chain

import (
	"runtime"
	"sync"

	"charter/sig"

	"golang.org/x/sync/errgroup"
)

// unverified is the signatures that something stands on and that are not verified yet.
type unverified struct {
	checks []sig.Check
	blame  []func(error) error // the error for each, if it fails
	learn  []func()            // to be called once all hold
}

func (u *unverified) add(c sig.Check, blame func(error) error) {
	u.checks, u.blame = append(u.checks, c), append(u.blame, blame)
}

// verifier verifies signatures, for many goroutines. The more there are in a batch the less each
// costs, so what comes while one verifies waits, and is verified together. One that is false costs
// all who are in a batch with it, so those who must fear for their name have another verifier than
// those who need not.
type verifier struct {
	mu      sync.Mutex
	working bool
	waiting []*verifying
}

// verifying is what one goroutine waits for.
type verifying struct {
	*unverified
	bad  int
	err  error
	lead chan bool // true: it is its turn to verify for all that wait; false: it is done
}

// Of a batch of signatures, the one is small enough that a processor has it done in milliseconds,
// and from the other on two processors are worth their two batches.
const (
	maxBatch = 256
	minBatch = 128
)

// verify verifies all. It gives the index of the first that fails, with its error; or −1.
func (v *verifier) verify(u *unverified) (bad int, err error) {
	if len(u.checks) == 0 {
		u.hold()
		return -1, nil
	}
	me := &verifying{unverified: u, bad: -1, lead: make(chan bool, 1)}
	v.mu.Lock()
	v.waiting = append(v.waiting, me)
	lead := !v.working
	v.working = true
	v.mu.Unlock()
	if !lead && !<-me.lead {
		return me.bad, me.err
	}
	v.mu.Lock()
	all := v.waiting
	v.waiting = nil
	v.mu.Unlock()
	together(all)
	for _, w := range all {
		if w != me {
			w.lead <- false
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.working = len(v.waiting) > 0; v.working {
		v.waiting[0].lead <- true
	}
	return me.bad, me.err
}

// together verifies what several wait for, and then, if anything is wrong, what each does.
func together(all []*verifying) {
	var sum unverified
	for _, w := range all {
		sum.checks = append(sum.checks, w.checks...)
	}
	if bad, _ := check(sum.checks); bad < 0 {
		for _, w := range all {
			w.hold()
		}
		return
	}
	for _, w := range all {
		if w.bad, w.err = check(w.checks); w.bad < 0 {
			w.hold()
		} else {
			w.err = w.blame[w.bad](w.err)
		}
	}
}

// hold notes that all hold.
func (u *unverified) hold() {
	for _, f := range u.learn {
		f()
	}
}

// check verifies signatures, by all processors if there are many. It gives the index of the first
// that fails, or −1.
func check(all []sig.Check) (bad int, err error) {
	procs := runtime.GOMAXPROCS(0)
	size := min(maxBatch, max(minBatch, (len(all)+procs-1)/procs))
	if len(all) <= size {
		return sig.VerifyAll(all)
	}
	bads := make([]int, (len(all)+size-1)/size)
	errs := make([]error, len(bads))
	var g errgroup.Group
	g.SetLimit(procs)
	for i := range bads {
		g.Go(func() error {
			bads[i], errs[i] = sig.VerifyAll(all[i*size : min((i+1)*size, len(all))])
			return nil
		})
	}
	g.Wait()
	for i, err := range errs {
		if err != nil {
			return i*size + bads[i], err
		}
	}
	return -1, nil
}
