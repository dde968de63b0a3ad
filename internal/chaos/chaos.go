// Package chaos is a network of this machine that delays, loses and cuts as it is told, between
// processes that know nothing of it: the real program with its real sockets, in bad weather.
//
// Each process runs in a network namespace of its own (Space), whose only way out is a TUN
// device: what the kernel there routes out comes here as IP packets, and what is written here
// arrives there. Hub stands in the middle and carries packets from one to the other.
//
//	namespace 0          namespace 1          namespace 2
//	┌──────────┐         ┌──────────┐         ┌──────────┐
//	│ process  │         │ process  │         │ process  │
//	│ 10.77.0.1│         │ 10.77.0.2│         │ 10.77.0.3│
//	└── TUN ───┘         └── TUN ───┘         └── TUN ───┘
//	     └───────── Hub: a Path from each to each ──┘
//
// It needs no tc, no netem, no bridge and no command of the system; it does need namespaces and
// /dev/net/tun (NotAllowed says if they are not to be had). What it is not: replayable. Draws
// come from a seed, but which packet meets which draw is up to the machine.
package chaos

import (
	"container/heap"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// MaxSpaces is how many spaces a hub can have: as many as the last byte of an address tells
// apart.
const MaxSpaces = 254

// Addr is the address of space i, from 0 to MaxSpaces-1.
func Addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 0, byte(i + 1)}) }

// Path is how packets fare in one direction between two spaces. Zero is a perfect one.
type Path struct {
	Delay  time.Duration // of each packet
	Jitter time.Duration // at most as much more, drawn; packets do not overtake one another
	Loss   float64       // share of packets lost, 0 to 1
}

// Stats count packets since the start.
type Stats struct {
	Carried uint64 // to their space
	Lost    uint64 // drawn by Loss
	Cut     uint64 // met a cut
	Overrun uint64 // found maxQueue others before them
	Foreign uint64 // neither IPv4 nor to a space: what kernels say of themselves
}

// maxQueue is how many packets may wait for a space; a router's buffer has an end, too.
const maxQueue = 8192

// Hub carries packets between spaces. Its methods may be called from any goroutine.
type Hub struct {
	ports []*port
	tasks sync.WaitGroup

	mu    sync.Mutex // guards all below, and the ports' queues
	rng   *rand.Rand
	paths [][]Path      // from, to
	cuts  [][]bool      // likewise
	last  [][]time.Time // when the newest packet of a path is due
	stats Stats
}

// port is where a space is plugged in.
type port struct {
	device io.ReadWriteCloser // reads and writes one IP packet at a time
	queue  queue              // guarded by Hub.mu
	wake   chan struct{}
	gone   chan struct{}
}

// NewHub carries packets between devices, of which the i-th is that of Addr(i), over perfect
// paths at first. Close closes the devices.
func NewHub(devices []io.ReadWriteCloser, seed uint64) *Hub {
	h := &Hub{rng: rand.New(rand.NewPCG(seed, 0))}
	for _, d := range devices {
		h.ports = append(h.ports, &port{device: d, wake: make(chan struct{}, 1), gone: make(chan struct{})})
		h.paths = append(h.paths, make([]Path, len(devices)))
		h.cuts = append(h.cuts, make([]bool, len(devices)))
		h.last = append(h.last, make([]time.Time, len(devices)))
	}
	for i, p := range h.ports {
		h.tasks.Go(func() { h.read(i, p) })
		h.tasks.Go(func() { h.write(p) })
	}
	return h
}

// Set changes the path from one space to another, for packets that come from now on.
func (h *Hub) Set(from, to int, p Path) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paths[from][to] = p
}

// Cut says whether packets from one space to another meet a cut from now on, where none passes.
func (h *Hub) Cut(from, to int, is bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cuts[from][to] = is
}

// Stats are the counters as of now.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stats
}

// Close closes the devices, and returns when nothing runs any more.
func (h *Hub) Close() {
	for _, p := range h.ports {
		_ = p.device.Close() // nothing is kept that could be lost
		close(p.gone)
	}
	h.tasks.Wait()
}

// read takes what comes out of a space.
func (h *Hub) read(from int, p *port) {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.device.Read(buf)
		if err != nil {
			return // closed
		}
		h.take(from, buf[:n])
	}
}

// take decides what becomes of a packet.
func (h *Hub) take(from int, packet []byte) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	to, ok := h.target(packet)
	if !ok {
		h.stats.Foreign++
		return
	}
	path, dest := h.paths[from][to], h.ports[to]
	switch {
	case h.cuts[from][to]:
		h.stats.Cut++
		return
	case path.Loss > 0 && h.rng.Float64() < path.Loss:
		h.stats.Lost++
		return
	case len(dest.queue) >= maxQueue:
		h.stats.Overrun++
		return
	}
	due := now.Add(path.Delay)
	if path.Jitter > 0 {
		due = due.Add(time.Duration(h.rng.Int64N(int64(path.Jitter))))
	}
	if due.Before(h.last[from][to]) {
		due = h.last[from][to]
	}
	h.last[from][to] = due
	h.stats.Carried++
	heap.Push(&dest.queue, parcel{due, h.stats.Carried, append([]byte(nil), packet...)})
	if dest.queue[0].due.Equal(due) {
		select {
		case dest.wake <- struct{}{}:
		default:
		}
	}
}

// target is the space that an IPv4 packet is for.
func (h *Hub) target(packet []byte) (int, bool) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return 0, false
	}
	a := Addr(int(packet[19]) - 1)
	return int(packet[19]) - 1, a == netip.AddrFrom4([4]byte(packet[16:20])) && packet[19] > 0 && int(packet[19]) <= len(h.ports)
}

// write puts packets into a space when they are due.
func (h *Hub) write(p *port) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		h.mu.Lock()
		var next []byte
		wait := time.Hour
		if len(p.queue) > 0 {
			if wait = time.Until(p.queue[0].due); wait <= 0 {
				next = heap.Pop(&p.queue).(parcel).data
			}
		}
		h.mu.Unlock()
		if next != nil {
			// It fails where the device is closed, of which gone tells, and where the kernel
			// drops the packet, as networks do.
			_, _ = p.device.Write(next)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.wake:
		case <-p.gone:
			return
		}
	}
}

// parcel is a packet on its way.
type parcel struct {
	due  time.Time
	turn uint64 // tells apart what is due at once: first come, first served
	data []byte
}

// queue is a heap of parcels, by time.
type queue []parcel

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].turn < q[j].turn
	}
	return q[i].due.Before(q[j].due)
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(parcel)) }
func (q *queue) Pop() any {
	old := *q
	last := len(old) - 1
	x := old[last]
	old[last] = parcel{}
	*q = old[:last]
	return x
}

// NotAllowed says that this system, or this user on it, has no namespaces or TUN devices.
type NotAllowed struct{ cause error }

func (e *NotAllowed) Error() string {
	return "no network namespaces with TUN devices here (run as root, or under `unshare -rn`): " + e.cause.Error()
}

func (e *NotAllowed) Unwrap() error { return e.cause }
