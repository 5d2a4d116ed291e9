package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reachTime is how long a neighbor has to accept a TCP connection.
const reachTime = 2 * time.Second

// ErrNotPermitted means that this process may not do or see what a session
// needs; edged itself may.
var ErrNotPermitted = errors.New("not permitted")

// A Reach is what became of one TCP connection to a neighbor's BGP port.
type Reach struct {
	Neighbor string
	Address  netip.AddrPort
	Err      error  // nil: it was accepted
	Hint     string // what to do about Err
}

// CheckReach connects to every neighbor as a session would: from its local
// address, with its TTL and its TCP-MD5 key. It closes at once and speaks no
// BGP.
func CheckReach(ctx context.Context, c Config, node NodeConfig) []Reach {
	out := make([]Reach, len(node.Neighbors))
	var wg sync.WaitGroup
	for i, n := range node.Neighbors {
		wg.Go(func() { out[i] = reach(ctx, c.ASN, n) })
	}
	wg.Wait()
	return out
}

func reach(ctx context.Context, asn uint32, n NeighborConfig) Reach {
	r := Reach{Neighbor: n.Name, Address: netip.AddrPortFrom(n.Address, n.port())}
	var password []byte
	if n.Password != nil {
		var err error
		if password, err = n.Password.Load(); err != nil {
			r.Err, r.Hint = fmt.Errorf("password: %w", err), "put the password where the configuration says"
			switch {
			case errors.Is(err, os.ErrPermission):
				r.Err, r.Hint = fmt.Errorf("%w: password: %w", ErrNotPermitted, err), "run doctor as root"
			case n.Password.File == "":
				r.Err, r.Hint = fmt.Errorf("%w: password: %w", ErrNotPermitted, err), "run doctor in the environment that edged's unit gives"
			}
			return r
		}
		if len(password) == 0 || len(password) > maxPassword {
			r.Err, r.Hint = fmt.Errorf("password has %d bytes", len(password)), fmt.Sprintf("TCP-MD5 takes 1 to %d bytes", maxPassword)
			return r
		}
	}
	d := net.Dialer{Timeout: reachTime, Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = n.prepare(int(fd), asn, password) }), err)
	}}
	if n.LocalAddress.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(n.LocalAddress, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", r.Address.String())
	if err != nil {
		r.Hint, r.Err = n.explain(err)
		return r
	}
	_ = conn.Close() // nothing was written
	return r
}

// prepare gives a socket the TTL and the key of a session with n.
func (n NeighborConfig) prepare(fd int, asn uint32, password []byte) error {
	ttl := 0
	switch {
	case n.GTSM:
		ttl = 255 // RFC 5082
	case n.Multihop > 0:
		ttl = int(n.Multihop)
	case n.ASN != asn:
		ttl = 1 // directly connected
	}
	if ttl > 0 {
		level, option := unix.IPPROTO_IP, unix.IP_TTL
		if n.Address.Is6() {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
		}
		if err := unix.SetsockoptInt(fd, level, option, ttl); err != nil {
			return fmt.Errorf("set the TTL: %w", err)
		}
	}
	if len(password) == 0 {
		return nil
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	setAddr(&sig.Addr, n.Address)
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig); err != nil {
		return fmt.Errorf("set the TCP-MD5 key: %w", err)
	}
	return nil
}

// setAddr writes a as a C struct sockaddr_in or sockaddr_in6.
func setAddr(s *unix.SockaddrStorage, a netip.Addr) {
	// What follows the family: port, (IPv6: flow label,) address.
	if a.Is4() {
		s.Family = unix.AF_INET
		b := a.As4()
		copyData(s, 2, b[:])
		return
	}
	s.Family = unix.AF_INET6
	b := a.As16()
	copyData(s, 6, b[:])
}

func copyData(s *unix.SockaddrStorage, offset int, b []byte) {
	for i, x := range b {
		s.Data[offset+i] = x
	}
}

// explain says in a few words what a failed dial means, and what to do.
func (n NeighborConfig) explain(err error) (hint string, cause error) {
	to := netip.AddrPortFrom(n.Address, n.port())
	timeout, isNet := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Sprintf("see that BGP runs at %s, and has a neighbor statement for this machine", to), errors.New("refused")
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "run doctor as root", fmt.Errorf("%w: %w", ErrNotPermitted, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "assign it, or correct local_address", fmt.Errorf("local_address %s is not on this machine", n.LocalAddress)
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH):
		return "check the link and the route to " + n.Address.String(), errors.New("no way to it")
	case isNet && timeout.Timeout():
		return "check address, port, access lists, TTL (gtsm, multihop) and password on both sides", errors.New("unanswered")
	}
	return "check the link to " + n.Address.String(), err
}

// ListenAddresses returns the addresses that accept sessions; c is valid.
func ListenAddresses(c NodeConfig) []netip.AddrPort {
	addrs, port, err := c.listen()
	if err != nil {
		return nil
	}
	var out []netip.AddrPort
	for _, a := range addrs {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	return out
}
