//go:build !linux

package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
)

// Space would be a network namespace, which other systems do not have.
type Space struct{ Device io.ReadWriteCloser }

// OpenSpace always fails with NotAllowed here.
func OpenSpace(netip.Addr) (*Space, error) {
	return nil, &NotAllowed{errors.New("network namespaces are Linux's")}
}

// Do, Dial and Close are never called, for there is no space.
func (s *Space) Do(f func() error) error { return f() }

func (s *Space) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

func (s *Space) Close() error { return nil }
