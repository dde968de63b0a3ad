package agent

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"charter/types"
)

// Limits bound what clients may cost. An address is that of one client: an IPv4 address, or
// an IPv6 network of 64 bits, which is what one subscriber has.
type Limits struct {
	Requests  float64       // a second and address, on average
	Burst     int           // requests of an address at once
	Calls     int           // calls that are being answered, of all clients; watches not counted
	Timeout   time.Duration // of receiving a request; of answering it, but for watches; of one write to a watch
	Watches   int           // open watches, of all clients
	PerClient int           // open watches of an address
	Locks     int           // locks of a watch
	Ids       int           // transactions of a watch
	Watched   int           // locks and transactions of all watches of an address
	Queue     int           // things that wait for the client of a watch to read; beyond, it is Slow
	Heartbeat time.Duration // between the heartbeats of a watch
	Clients   int           // addresses remembered; who was idle longest is forgotten
}

// DefaultLimits suit a peer on the internet.
var DefaultLimits = Limits{
	Requests:  500, // a wallet needs a few; the signatures of 500 transactions take 5 % of one core
	Burst:     1000,
	Calls:     1024, // as many submits as one write to the disk may take together
	Timeout:   15 * time.Second,
	Watches:   2048, // about 100 kB each with its connection
	PerClient: 64,   // a household behind one address
	Locks:     4096,
	Ids:       4096,
	Watched:   16384,
	Queue:     4096, // one height may touch that many of a wallet's locks
	Heartbeat: time.Second,
	Clients:   16384, // about 200 bytes each
}

// maxRequest bounds the bytes of a request: a watch of all locks and ids in JSON, or a
// transaction in base64, and room for field names.
const maxRequest = 768 << 10

// clients counts what each address uses. Its zero value with limits set is ready.
type clients struct {
	limits Limits

	mu     sync.Mutex
	byAddr map[netip.Prefix]*client
	open   int // watches of all
}

type client struct {
	rate    *rate.Limiter
	used    time.Time
	watches int
	watched int // locks and transactions of those
}

// prefix is the client that a remote address stands for. One that does not parse, as of a
// socket without addresses, is the zero prefix: all such are one client.
func prefix(remote string) netip.Prefix {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	a := ap.Addr().Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // fails for bits beyond the address only
	return p
}

// maxSubmit is how many transactions a call may submit: as many as one write to the disk, and one
// check of signatures, may well take together. Each is charged as a request.
const maxSubmit = 512

// requests charges n requests to an address.
func (c *clients) requests(remote string, n int, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.get(prefix(remote), now)
	if cl == nil || !cl.rate.AllowN(now, n) {
		return refuse(TooMany, "too many requests from this address; wait a second").after(time.Second)
	}
	return nil
}

// get finds or enters a client. When there are too many, the one idle longest among a few
// makes room; nil if none of those can.
func (c *clients) get(p netip.Prefix, now time.Time) *client {
	cl := c.byAddr[p]
	if cl == nil {
		if len(c.byAddr) >= c.limits.Clients && !c.forget() {
			return nil
		}
		cl = &client{rate: rate.NewLimiter(rate.Limit(c.limits.Requests), c.limits.Burst)}
		if c.byAddr == nil {
			c.byAddr = make(map[netip.Prefix]*client)
		}
		c.byAddr[p] = cl
	}
	cl.used = now
	return cl
}

func (c *clients) forget() bool {
	var oldest netip.Prefix
	var found *client
	looked := 0
	for p, cl := range c.byAddr { // starts anywhere
		if cl.watches == 0 && (found == nil || cl.used.Before(found.used)) {
			oldest, found = p, cl
		}
		if looked++; looked == 16 {
			break
		}
	}
	if found != nil {
		delete(c.byAddr, oldest)
	}
	return found != nil
}

// watchedPerRequest is how many locks or transactions cost as much to look up as one request.
const watchedPerRequest = 32

// watch charges a watch of n things to an address, until close is called.
func (c *clients) watch(remote string, n int, now time.Time) (close func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.get(prefix(remote), now)
	switch {
	case c.open >= c.limits.Watches:
		return nil, refuse(Busy, "all %d watches of this agent are taken; try again, or another agent", c.limits.Watches).after(10 * time.Second)
	case cl == nil || cl.watches >= c.limits.PerClient:
		return nil, refuse(TooMany, "an address may have %d watches open; close one", c.limits.PerClient)
	case !cl.rate.AllowN(now, n/watchedPerRequest):
		return nil, refuse(TooMany, "too many watches opened from this address; wait a few seconds").after(5 * time.Second)
	case cl.watched+n > c.limits.Watched:
		return nil, refuse(TooMany, "an address may watch %d locks and transactions in all; it has %d and asks for %d more", c.limits.Watched, cl.watched, n)
	}
	c.open, cl.watches, cl.watched = c.open+1, cl.watches+1, cl.watched+n
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.open, cl.watches, cl.watched = c.open-1, cl.watches-1, cl.watched-n
	}, nil
}

func (c *clients) watches() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open
}

// parseAll reads a list of hexadecimal keys or hashes of at most max members, and drops
// repetitions.
func parseAll[T types.Hash | types.Key](what string, in []string, max int, parse func(string) (T, error)) ([]T, error) {
	if len(in) > max {
		return nil, refuse(TooLarge, "%d %s, and a watch may have %d; open several", len(in), what, max)
	}
	seen := make(map[T]bool, len(in))
	out := make([]T, 0, len(in))
	for i, s := range in {
		v, err := parse(s)
		if err != nil {
			return nil, refuse(BadRequest, "%s[%d]: %v", what, i, err)
		}
		if !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	return out, nil
}

func parseHash(s string) (h types.Hash, err error) {
	err = h.UnmarshalText([]byte(s))
	return h, err
}

func parseKey(s string) (k types.Key, err error) {
	err = k.UnmarshalText([]byte(s))
	return k, err
}
