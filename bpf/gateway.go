package bpf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"anyedge/bpf/lb"
)

// Neighbors that the kernel sends to, and those of them that it has not heard of
// lately.
const (
	usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	aging  = netlink.NUD_STALE
)

// A hop is the first router on the way to a node.
type hop struct {
	addr netip.Addr
	mac  lb.MAC
	mtu  int // of the way
}

// gateway returns the next hop on the way to a node behind a router. Its last
// MAC counts while the kernel looks for it again: a packet sent to where it was
// is better than a connection reset by who does not own it.
func (p *port) gateway(to netip.Addr) (hop, error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return hop{}, fmt.Errorf("no route to %s", to)
	}
	r := routes[0]
	if r.LinkIndex != p.index {
		return hop{}, fmt.Errorf("the route to %s does not leave by %s", to, p.name)
	}
	h := hop{addr: to, mtu: p.mtu}
	if a, ok := netip.AddrFromSlice(r.Gw.To4()); ok {
		h.addr = a
	}
	if r.MTU > 0 {
		h.mtu = min(h.mtu, r.MTU)
	}
	n, err := p.neighbor(h.addr)
	switch {
	case err != nil:
		return h, fmt.Errorf("neighbors of %s: %w", p.name, err)
	case n != nil:
		p.macs[h.addr] = lb.MAC(n.HardwareAddr)
	}
	if n == nil || n.State&aging != 0 {
		ask(h.addr)
	}
	var known bool
	if h.mac, known = p.macs[h.addr]; !known {
		return h, fmt.Errorf("the MAC of %s is not known yet", h.addr)
	}
	return h, nil
}

// neighbor returns what the kernel knows of an address on the segment; nil:
// nothing that it would send to.
func (p *port) neighbor(a netip.Addr) (*netlink.Neigh, error) {
	list, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(p.index, netlink.FAMILY_V4) })
	for i := range list {
		n := &list[i]
		if ip, ok := netip.AddrFromSlice(n.IP.To4()); ok && ip == a && n.State&usable != 0 && len(n.HardwareAddr) == len(lb.MAC{}) {
			return n, nil
		}
	}
	return nil, err
}

// ask makes the kernel look for a neighbor: it sends one byte to its discard
// port (RFC 863).
func ask(a netip.Addr) {
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
	if err != nil {
		return
	}
	_, _ = c.Write([]byte{0}) // no answer is wanted
	_ = c.Close()
}

// dumpTries is how often a list is asked for that changes while it is read.
const dumpTries = 5

// dump reads one of the kernel's lists whole.
func dump[T any](read func() ([]T, error)) ([]T, error) {
	var list []T
	var err error = netlink.ErrDumpInterrupted
	for i := 0; i < dumpTries && errors.Is(err, netlink.ErrDumpInterrupted); i++ {
		list, err = read()
	}
	return list, err
}
