package transport

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// Over a long line everything arrives, whole and in order, and no sooner than it may; what was
// sent and received is counted.
func TestDelay(t *testing.T) {
	const delay = 15 * time.Millisecond
	late := func(c *Config) { c.Delay = delay }
	a, b := open(t, chainA, key(t, 1), late), open(t, chainA, key(t, 2), late)
	ab, ba := pair(t, a, b)
	go ba.Serve(func(_ context.Context, m Message) (Message, error) { return m, nil })
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	for range 2 {
		began := time.Now()
		m, err := ab.Request(within(t), Message{kindLarge, large})
		if err != nil || !bytes.Equal(m.Data, large) {
			t.Fatalf("%d bytes, %v", len(m.Data), err)
		}
		if took := time.Since(began); took < 2*delay {
			t.Errorf("there and back in %s", took)
		}
	}
	in, out := a.Bytes()
	if in < uint64(2*len(large)) || out < uint64(2*len(large)) {
		t.Errorf("%d bytes in and %d out", in, out)
	}
	ab.Close(CodeDone, "")
	<-ab.Done()
	if later, _ := a.Bytes(); later < in {
		t.Errorf("%d bytes in, and then %d", in, later)
	}
}
