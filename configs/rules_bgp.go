package configs

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"anyedge/bgp"
)

// neighbors returns this node's neighbors.
func (c *check) neighbors() []bgp.NeighborConfig {
	if c.cfg.Node == nil || c.cfg.Node.BGP == nil {
		return nil
	}
	return c.cfg.Node.BGP.Neighbors
}

// class returns the neighbor's class, which has a default.
func class(n bgp.NeighborConfig) string { return cmp.Or(n.Class, "transit") }

// families returns the neighbor's families, which have a default.
func families(n bgp.NeighborConfig) []string {
	if len(n.Families) == 0 {
		return []string{"ipv4"}
	}
	return n.Families
}

func family(a netip.Addr) string {
	if a.Unmap().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// ruleBGPNeeds: to announce, a node needs neighbors and an identifier.
func ruleBGPNeeds(c *check) {
	if c.cfg.BGP == nil {
		return
	}
	n := c.cfg.Node
	if n == nil || n.BGP == nil {
		c.error("bgp", "section-missing", "with bgp, node.bgp lists this node's neighbors")
		return
	}
	switch {
	case !n.RouterID.IsValid():
		c.error("node.router_id", "required", "router_id is required with bgp: an IPv4 address, unique per node")
	case !n.RouterID.Is4() || n.RouterID.IsUnspecified():
		c.errorf("node.router_id", "bad-router-id", "%s is not an IPv4 address that identifies a router (RFC 6286)", n.RouterID)
	}
	if len(n.BGP.Neighbors) == 0 && len(n.BGP.Listen) == 0 {
		c.warnf("node.bgp", "no-neighbors", "there are no neighbors: nothing is announced to anybody")
	}
}

// ruleBGPTimers: RFC 4271 section 4.2.
func ruleBGPTimers(c *check) {
	if c.cfg.BGP == nil {
		return
	}
	t := c.cfg.BGP.Timers
	hold := 9 * time.Second
	if t.Hold != nil {
		hold = *t.Hold
	}
	if hold < 3*time.Second {
		c.errorf("bgp.timers.hold", "hold-too-short", "hold %s is below 3s (RFC 4271 section 4.2)", hold)
	}
	if t.Keepalive != nil && (*t.Keepalive >= hold || *t.Keepalive <= 0) {
		c.errorf("bgp.timers.keepalive", "bad-keepalive", "keepalive %s must be above 0s and below hold (%s); a third of it is usual", *t.Keepalive, hold)
	}
}

// ruleBGPListen: node.bgp.listen has addresses.
func ruleBGPListen(c *check) {
	if c.cfg.Node == nil || c.cfg.Node.BGP == nil {
		return
	}
	for i, text := range c.cfg.Node.BGP.Listen {
		_, err := netip.ParseAddr(text)
		if _, perr := netip.ParseAddrPort(text); err != nil && perr != nil {
			c.errorf(fmt.Sprintf("node.bgp.listen[%d]", i), "bad-address", "%q is not ADDRESS or ADDRESS:PORT", text)
		}
	}
}

// ruleNextHop: a next hop is of its family.
func ruleNextHop(c *check) {
	if c.cfg.Node == nil || c.cfg.Node.BGP == nil {
		return
	}
	h := c.cfg.Node.BGP.NextHop
	if h.IPv4.IsValid() && !h.IPv4.Is4() {
		c.errorf("node.bgp.next_hop.ipv4", "bad-address", "%s is not an IPv4 address", h.IPv4)
	}
	if h.IPv6.IsValid() && (!h.IPv6.Is6() || h.IPv6.Is4In6()) {
		c.errorf("node.bgp.next_hop.ipv6", "bad-address", "%s is not an IPv6 address", h.IPv6)
	}
}

// ruleNeighbors: each session is possible, and there is one per router.
func ruleNeighbors(c *check) {
	seen := map[netip.Addr]string{}
	for i, n := range c.neighbors() {
		at := func(field string) string { return fmt.Sprintf("node.bgp.neighbors[%d].%s", i, field) }
		if n.GTSM && n.Multihop > 0 {
			c.error(at("gtsm"), "gtsm-multihop", "gtsm excludes multihop: it accepts only packets that crossed no router (RFC 5082)")
		}
		if !n.Address.IsValid() {
			continue
		}
		if n.LocalAddress.IsValid() && family(n.LocalAddress) != family(n.Address) {
			c.errorf(at("local_address"), "bad-address", "%s and the neighbor's address %s are of different families", n.LocalAddress, n.Address)
		}
		if n.Address.IsLinkLocalUnicast() && n.Address.Is6() && n.Address.Zone() == "" {
			c.errorf(at("address"), "zone-missing", "the link-local address %s needs a zone, like %s%%eno1", n.Address, n.Address)
		}
		if other, ok := seen[n.Address]; ok {
			c.errorf(at("address"), "duplicate-address", "%s is already the address of neighbor %s", n.Address, other)
		}
		seen[n.Address] = n.Name
	}
}

// ruleFamilies: IPv6 prefixes over an IPv4 session need a next hop, for the
// session has no IPv6 address of ours.
func ruleFamilies(c *check) {
	if c.cfg.Node == nil || c.cfg.Node.BGP == nil || c.cfg.Node.BGP.NextHop.IPv6.IsValid() {
		return
	}
	for i, n := range c.neighbors() {
		if n.Address.IsValid() && family(n.Address) == "ipv4" && slices.Contains(families(n), "ipv6") {
			c.errorf(fmt.Sprintf("node.bgp.neighbors[%d].families", i), "next-hop-missing",
				"IPv6 prefixes over a session between IPv4 addresses need node.bgp.next_hop.ipv6")
		}
	}
}

// firstPrefix returns the name of the first VIP of this geo with a prefix of
// that family.
func (c *check) firstPrefix(fam string) string {
	for _, v := range c.cfg.VIPs {
		if !c.cfg.announcesHere(v) {
			continue
		}
		for _, p := range v.Prefixes {
			if p.IsValid() && family(p.Addr()) == fam {
				return v.Name
			}
		}
	}
	return ""
}
