package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// DefaultInterfaces returns the names of the interfaces that a default route
// leaves by.
func DefaultInterfaces() ([]string, error) {
	var names []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		for _, r := range routes {
			if !isDefault(r.Dst) || r.Type != unix.RTN_UNICAST {
				continue
			}
			indexes := []int{r.LinkIndex}
			for _, hop := range r.MultiPath {
				indexes = append(indexes, hop.LinkIndex)
			}
			for _, i := range indexes {
				names = appendLink(names, i)
			}
		}
	}
	return names, nil
}

// isDefault reports whether a route's destination is everything.
func isDefault(dst *net.IPNet) bool {
	if dst == nil {
		return true
	}
	ones, _ := dst.Mask.Size()
	return ones == 0
}

// appendLink adds the name of the interface with an index, once.
func appendLink(names []string, index int) []string {
	if index == 0 {
		return names
	}
	link, err := netlink.LinkByIndex(index)
	if err != nil || slices.Contains(names, link.Attrs().Name) {
		return names
	}
	return append(names, link.Attrs().Name)
}

// InterfaceTo returns the name of the interface that leads to an address.
func InterfaceTo(a netip.Addr) (string, error) {
	routes, err := netlink.RouteGet(a.AsSlice())
	if err != nil {
		return "", fmt.Errorf("route to %s: %w", a, err)
	}
	for _, r := range routes {
		if names := appendLink(nil, r.LinkIndex); len(names) > 0 {
			return names[0], nil
		}
	}
	return "", fmt.Errorf("route to %s: no interface", a)
}

// IsLocal reports whether the kernel delivers packets for an address to this
// machine: it is assigned, or a local route covers it.
func IsLocal(a netip.Addr) (bool, error) {
	if a.IsUnspecified() {
		return true, nil
	}
	routes, err := netlink.RouteGet(a.AsSlice())
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EACCES):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("route to %s: %w", a, err)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Type == unix.RTN_LOCAL }), nil
}
