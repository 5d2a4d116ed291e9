package lb

import (
	"errors"
	"fmt"
	"net/netip"
)

// Validate reports every problem of s at once.
func (s *Spec) Validate() error {
	errs := []error{s.limits()}
	if s.Node.Name == "" {
		errs = append(errs, errors.New("node: no name"))
	}
	if !s.Node.Addr.Is4() || s.Node.Addr.IsUnspecified() {
		errs = append(errs, fmt.Errorf("node: address %s is not IPv4", s.Node.Addr))
	}
	names, ways := map[string]bool{s.Node.Name: true}, map[string]Mode{}
	for _, v := range s.Servers {
		ways[v.Name] = v.Mode
		if names[v.Name] {
			errs = append(errs, fmt.Errorf("server %q is named twice", v.Name))
		}
		names[v.Name] = true
		errs = append(errs, v.validate())
	}
	errs = append(errs, s.validatePeers())
	for i, g := range s.Groups {
		for _, r := range []*Ring{g.Ring, g.Other} {
			errs = append(errs, r.known(i, names))
		}
	}
	errs = append(errs, s.validateVIPs(ways))
	return errors.Join(errs...)
}

// validateVIPs looks at the VIPs; ways are those of the servers.
func (s *Spec) validateVIPs(ways map[string]Mode) error {
	var errs []error
	vips := map[netip.Addr]bool{}
	for _, v := range s.VIPs {
		if !v.Addr.IsValid() || v.Addr.Is4In6() || v.Addr.Zone() != "" || v.Addr.IsUnspecified() {
			errs = append(errs, fmt.Errorf("vip %s: not a plain IPv4 or IPv6 address", v.Addr))
		}
		if v.Group < 0 || v.Group >= len(s.Groups) {
			errs = append(errs, fmt.Errorf("vip %s: there is no group %d", v.Addr, v.Group))
		}
		if way, ok := ways[v.Abroad]; v.Abroad != "" && (!ok || way == L2) {
			errs = append(errs, fmt.Errorf("vip %s: abroad is %q, which is no server behind an outer header", v.Addr, v.Abroad))
		}
		if vips[v.Addr] {
			errs = append(errs, fmt.Errorf("vip %s is named twice", v.Addr))
		}
		vips[v.Addr] = true
	}
	return errors.Join(errs...)
}

func (s *Spec) limits() error {
	var errs []error
	for _, l := range []struct {
		what      string
		have, max int
	}{
		{"VIPs", len(s.VIPs), MaxVIPs},
		{"servers with the node itself", len(s.Servers) + 1, MaxServers},
		{"peers", len(s.Peers), MaxPeers},
		{"groups", len(s.Groups), MaxGroups},
	} {
		if l.have > l.max {
			errs = append(errs, fmt.Errorf("%d %s, at most %d fit", l.have, l.what, l.max))
		}
	}
	return errors.Join(errs...)
}

func (v Server) validate() error {
	switch {
	case v.Name == "":
		return errors.New("server without a name")
	case v.Mode == Away:
		return nil
	case v.Mode != L2 && v.Mode != IPIP:
		return fmt.Errorf("server %q: unknown mode %d", v.Name, v.Mode)
	case v.MAC == MAC{}:
		return fmt.Errorf("server %q: no MAC", v.Name)
	case v.Mode == IPIP && (!v.Addr.Is4() || v.Addr.IsUnspecified()):
		return fmt.Errorf("server %q: IPIP needs an IPv4 address, not %s", v.Name, v.Addr)
	case v.MTU != 0 && (v.MTU < MinMTU || v.MTU > 65535):
		return fmt.Errorf("server %q: MTU %d is not within %d to 65535 (IPv6 needs 1280 inside)", v.Name, v.MTU, MinMTU)
	}
	return nil
}

func (s *Spec) validatePeers() error {
	var errs []error
	seen := map[[8]byte]bool{}
	for _, p := range s.Peers {
		if p.Addr.IsValid() && !p.Addr.Is4() {
			errs = append(errs, fmt.Errorf("peer %s: not an IPv4 address", p.Addr))
			continue
		}
		if p.Far && p.MAC != (MAC{}) {
			errs = append(errs, fmt.Errorf("peer %s: a machine of another geo has no MAC here", p.Addr))
		}
		for _, k := range p.keys() {
			if seen[k] {
				errs = append(errs, fmt.Errorf("peer %s %s: address or MAC (bits 2 and 4 of its first byte apart) is another peer's too", p.Addr, p.MAC))
			}
			seen[k] = true
		}
	}
	return errors.Join(errs...)
}

func (r *Ring) known(group int, names map[string]bool) error {
	if r == nil {
		return nil
	}
	var errs []error
	for _, n := range r.names {
		if !names[n] {
			errs = append(errs, fmt.Errorf("group %d: ring member %q is neither the node nor a server", group, n))
		}
	}
	return errors.Join(errs...)
}
