package netns

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Veth lays a cable between two spaces; both ends are up.
func Veth(a *Space, inA string, b *Space, inB string, mtu int) error {
	at := netlink.NewLinkAttrs()
	at.Name, at.MTU, at.Namespace = inA, mtu, netlink.NsFd(a.handle)
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: inB, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(b.handle)})
	if err != nil {
		return fmt.Errorf("cable %s %s to %s %s: %w", a.Name, inA, b.Name, inB, err)
	}
	if err := a.Up(inA); err != nil {
		return err
	}
	return b.Up(inB)
}

func (s *Space) wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", s.Name, what, err)
}

// Bridge makes a switch, and Plug puts a port into it.
func (s *Space) Bridge(name string, mtu int) error {
	at := netlink.NewLinkAttrs()
	at.Name, at.MTU = name, mtu
	off := false
	err := s.nl.LinkAdd(&netlink.Bridge{LinkAttrs: at, MulticastSnooping: &off})
	if err != nil {
		return s.wrap("bridge "+name, err)
	}
	return s.Up(name)
}

// Plug puts a port into a bridge.
func (s *Space) Plug(port, bridge string) error {
	p, err := s.nl.LinkByName(port)
	if err != nil {
		return s.wrap(port, err)
	}
	br, err := s.nl.LinkByName(bridge)
	if err != nil {
		return s.wrap(bridge, err)
	}
	return s.wrap("plug "+port, s.nl.LinkSetMaster(p, br))
}

// Up sets an interface up.
func (s *Space) Up(dev string) error {
	l, err := s.nl.LinkByName(dev)
	if err != nil {
		return s.wrap(dev, err)
	}
	return s.wrap("up "+dev, s.nl.LinkSetUp(l))
}

// Down sets an interface down: a cable that is pulled.
func (s *Space) Down(dev string) error {
	l, err := s.nl.LinkByName(dev)
	if err != nil {
		return s.wrap(dev, err)
	}
	return s.wrap("down "+dev, s.nl.LinkSetDown(l))
}

// Addr adds addresses (ADDRESS/LENGTH) to an interface, usable at once.
func (s *Space) Addr(dev string, addrs ...string) error {
	l, err := s.nl.LinkByName(dev)
	if err != nil {
		return s.wrap(dev, err)
	}
	for _, text := range addrs {
		a, err := netlink.ParseAddr(text)
		if err != nil {
			return s.wrap(text, err)
		}
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := s.nl.AddrAdd(l, a); err != nil {
			return s.wrap("address "+text, err)
		}
	}
	return nil
}

// Default sets the default routes, one per family.
func (s *Space) Default(gateways ...string) error {
	for _, g := range gateways {
		if err := s.nl.RouteReplace(&netlink.Route{Gw: net.ParseIP(g)}); err != nil {
			return s.wrap("default route by "+g, err)
		}
	}
	return nil
}

// RouteBy makes what comes in by an interface follow a table of its own, in
// both families.
func (s *Space) RouteBy(dev string, table int) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		r := netlink.NewRule()
		r.Family, r.IifName, r.Table, r.Priority = family, dev, table, 100
		if err := s.nl.RuleAdd(r); err != nil {
			return s.wrap("rule for "+dev, err)
		}
	}
	return nil
}

// PlainFrames makes an interface finish checksums before it sends, and receive
// through NAPI. What a packet program sends back on the far end would otherwise
// carry checksums that nobody ever finishes.
func (s *Space) PlainFrames(dev string) error {
	err := s.Do(func() error {
		e, err := ethtool.NewEthtool() // a socket of this thread's namespace
		if err != nil {
			return err
		}
		defer e.Close()
		return e.Change(dev, map[string]bool{"tx-checksum-ip-generic": false, "rx-gro": true})
	})
	return s.wrap("ethtool "+dev, err)
}

// NextHops returns how many ways the main table has to an address.
func (s *Space) NextHops(to netip.Addr) (int, error) {
	family := netlink.FAMILY_V4
	if to.Is6() {
		family = netlink.FAMILY_V6
	}
	routes, err := s.nl.RouteList(nil, family)
	if err != nil {
		return 0, s.wrap("routes", err)
	}
	for _, r := range routes {
		if r.Dst == nil || !r.Dst.Contains(to.AsSlice()) {
			continue
		}
		if ones, _ := r.Dst.Mask.Size(); ones == 0 {
			continue
		}
		return max(1, len(r.MultiPath)), nil
	}
	return 0, nil
}
