package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Space is a network namespace with a loopback and one TUN device, whose other end is Device.
type Space struct {
	Device io.ReadWriteCloser // one IP packet a read or write
	ns     *os.File
}

// OpenSpace makes a namespace whose TUN device has the address, in a network of 256 addresses.
// The error is NotAllowed where the system does not let this process do that.
func OpenSpace(addr netip.Addr) (*Space, error) {
	type result struct {
		space *Space
		err   error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread is in another namespace, and ends with the goroutine.
		runtime.LockOSThread()
		s, err := openHere(addr)
		done <- result{s, err}
	}()
	r := <-done
	for _, no := range []error{unix.EPERM, unix.EACCES, unix.ENOENT, unix.ENODEV, unix.ENOSYS, unix.ENOSPC, unix.EINVAL} {
		if errors.Is(r.err, no) {
			return nil, &NotAllowed{r.err}
		}
	}
	return r.space, r.err
}

// openHere moves the thread into a new namespace, and furnishes that.
func openHere(addr netip.Addr) (_ *Space, err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("name the network namespace: %w", err)
	}
	defer func() {
		if err != nil {
			_ = ns.Close()
		}
	}()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	const name = "tun0"
	if err := furnish(fd, name, addr); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Only now, so that the runtime finds a device that it can wait for.
	return &Space{Device: os.NewFile(uintptr(fd), "/dev/net/tun"), ns: ns}, nil
}

func furnish(tun int, name string, addr netip.Addr) error {
	device, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	device.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(tun, unix.TUNSETIFF, device); err != nil {
		return fmt.Errorf("make a TUN device: %w", err)
	}
	if err := unix.SetNonblock(tun, true); err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	for _, step := range []struct {
		what    string
		device  string
		request uint
		set     func(*unix.Ifreq) error
	}{
		{"address", name, unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr(addr.AsSlice()) }},
		{"mask", name, unix.SIOCSIFNETMASK, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{255, 255, 255, 0}) }},
		{"up", name, unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
		{"up", "lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }},
	} {
		r, err := unix.NewIfreq(step.device)
		if err == nil {
			err = step.set(r)
		}
		if err == nil {
			err = unix.IoctlIfreq(socket, step.request, r)
		}
		if err != nil {
			return fmt.Errorf("set %s of %s: %w", step.what, step.device, err)
		}
	}
	return nil
}

// Do runs f in the space: sockets that f opens and processes that it starts are there, for
// ever. f must not start goroutines for that, which would be elsewhere.
func (s *Space) Do(f func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("name the own network namespace: %w", err)
	}
	defer home.Close()
	if err := unix.Setns(int(s.ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	err = f()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave a network namespace: %w", back)) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// Dial connects to an address inside of the space, say one on its loopback, past all faults.
// It is for http.Transport's DialContext.
func (s *Space) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = s.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Close lets go of the namespace, which ends with the last process in it. Device is the hub's
// to close.
func (s *Space) Close() error { return s.ns.Close() }
