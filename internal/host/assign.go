package host

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Loopback is the interface that VIPs live on: it has no neighbors who could
// be told of them.
const Loopback = "lo"

// hostPrefix returns a's prefix of full length.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// AddCommand is what an administrator types to add an address to lo.
func AddCommand(a netip.Addr) string {
	return fmt.Sprintf("ip address add %s dev %s", hostPrefix(a), Loopback)
}

// address returns a as it is added to lo: for itself alone, with no route to a
// prefix. The kernel's own packets do not choose it as their source where they
// have another: for IPv6 it is deprecated (RFC 4862 section 5.5.4), and IPv4
// prefers the address of the interface that a packet leaves by.
func address(a netip.Addr) *netlink.Addr {
	out := &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}}
	if a.Is6() {
		out.Flags = unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE
		out.PreferedLft, out.ValidLft = 0, math.MaxUint32 // for ever
	}
	return out
}

// assign adds a to lo.
func assign(a netip.Addr) error {
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		return fmt.Errorf("%s: %w", Loopback, err)
	}
	return netlink.AddrAdd(lo, address(a))
}

// unassign removes a from lo; removed is false when it was not there.
func unassign(a netip.Addr) (removed bool, err error) {
	lo, err := netlink.LinkByName(Loopback)
	if err != nil {
		return false, fmt.Errorf("%s: %w", Loopback, err)
	}
	err = netlink.AddrDel(lo, &netlink.Addr{IPNet: address(a).IPNet})
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return false, nil
	}
	return err == nil, err
}

// assigned returns every address of this machine.
func assigned() ([]netlink.Addr, error) {
	const tries = 5 // a list that changes while it is read is read again
	for range tries {
		list, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return nil, netlink.ErrDumpInterrupted
}

// onLo reports whether list has a on lo as it is added here.
func onLo(list []netlink.Addr, lo int, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(x netlink.Addr) bool { return x.LinkIndex == lo && prefixOf(x) == hostPrefix(a) })
}

// prefixOf returns an address with the length of its subnet.
func prefixOf(x netlink.Addr) netip.Prefix {
	a, ok := netip.AddrFromSlice(x.IP)
	if !ok || x.IPNet == nil {
		return netip.Prefix{}
	}
	ones, _ := x.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), ones)
}

// segments returns the interfaces whose subnets have a: hosts there may own it.
func segments(list []netlink.Addr, a netip.Addr) ([]netlink.Link, error) {
	var out []netlink.Link
	seen := map[int]bool{}
	for _, x := range list {
		p := prefixOf(x)
		if !p.IsValid() || seen[x.LinkIndex] || p.Bits() == p.Addr().BitLen() || !p.Contains(a) {
			continue
		}
		seen[x.LinkIndex] = true
		link, err := netlink.LinkByIndex(x.LinkIndex)
		if err != nil {
			return nil, fmt.Errorf("interface %d: %w", x.LinkIndex, err)
		}
		attrs := link.Attrs()
		if attrs.RawFlags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 || attrs.RawFlags&unix.IFF_UP == 0 || len(attrs.HardwareAddr) != macLen {
			continue // nobody there could be asked
		}
		out = append(out, link)
	}
	return out, nil
}

// watch returns a channel that holds a token when an address or a link of this
// machine may have changed, until stop is called.
func watch() (changed <-chan struct{}, stop func(), err error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR)
	if err != nil {
		return nil, nil, fmt.Errorf("watch addresses: %w", err)
	}
	tokens, ended := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			// Lost messages are an error too, and a reason to look.
			if _, _, err := s.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
				return
			}
			select {
			case tokens <- struct{}{}:
			default:
			}
		}
	}()
	return tokens, func() { s.Close(); <-ended }, nil
}
