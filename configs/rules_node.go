package configs

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"anyedge/internal/world"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// ruleNodeGeo: with geos, a node says which one is its own.
func ruleNodeGeo(c *check) {
	n := c.cfg.Node
	switch {
	case n == nil && len(c.cfg.Geos) > 0:
		c.error("geos", "node-geo", "geos are given, but no node: which of them is this machine in? Give node.geo, here or in node.yaml")
	case n == nil:
	case n.Geo == "" && len(c.cfg.Geos) > 0:
		c.error("node.geo", "required", "geo is required where geos are given")
	case n.Geo != "":
		c.ref("node.geo", "geo", n.Geo, c.cfg.geoNames(), "geos")
	}
}

// ruleNodeName: a node's name is a name. The host name is checked when it is
// used.
func ruleNodeName(c *check) {
	if n := c.cfg.Node; n != nil && n.Name != "" {
		if err := world.CheckName(n.Name); err != nil {
			c.error("node.name", "bad-name", err.Error())
		}
	}
}

// ruleNodeBackends: node.backends has backends of services that exist.
func ruleNodeBackends(c *check) {
	if c.cfg.Node == nil {
		return
	}
	for _, name := range sortedKeys(c.cfg.Node.Backends) {
		c.ref("node.backends."+name, "service", name, c.cfg.serviceNames(), "services")
	}
}

// ruleNodeSections: a node's part of fabric and bgp needs the fleet's part.
func ruleNodeSections(c *check) {
	n := c.cfg.Node
	if n == nil {
		return
	}
	if n.Fabric != nil && c.cfg.Fabric == nil && !c.given("fabric") {
		c.error("node.fabric", "section-missing", "node.fabric is this node's part of the section fabric, which is absent")
	}
	if n.BGP != nil && c.cfg.BGP == nil && !c.given("bgp") {
		c.error("node.bgp", "section-missing", "node.bgp is this node's part of the section bgp, which is absent")
	}
}

// ruleGeoNumbers: a geo's number is its own.
func ruleGeoNumbers(c *check) {
	seen := map[uint8]string{}
	for i, g := range c.cfg.Geos {
		if other, ok := seen[g.Number]; ok && g.Number != 0 {
			c.errorf(fmt.Sprintf("geos[%d].number", i), "duplicate-number", "%d is already the number of geo %s", g.Number, other)
			continue
		}
		seen[g.Number] = g.Name
	}
}

// ruleGeoLocation: a location is on the globe.
func ruleGeoLocation(c *check) {
	for i, g := range c.cfg.Geos {
		if len(g.Location) != 2 {
			continue
		}
		if lat, lon := g.Location[0], g.Location[1]; lat < -90 || lat > 90 || lon < -180 || lon > 180 {
			c.errorf(fmt.Sprintf("geos[%d].location", i), "bad-location",
				"[%v, %v] is not on the globe: want [latitude -90 to 90, longitude -180 to 180]", lat, lon)
		}
	}
}

// ruleGeoFabric: seeds are ADDRESS:PORT, and a geo has its own.
func ruleGeoFabric(c *check) {
	seen := map[netip.AddrPort]string{}
	for i, g := range c.cfg.Geos {
		for j, text := range g.Fabric {
			path := fmt.Sprintf("geos[%d].fabric[%d]", i, j)
			a, ok := c.addrPort(path, text, false)
			if !ok {
				continue
			}
			if other, ok := seen[a]; ok {
				c.errorf(path, "duplicate-address", "%s is already a fabric address of geo %s", a, other)
			}
			seen[a] = g.Name
		}
	}
}

// addrPort parses ADDRESS:PORT and reports what else stands at path.
func (c *check) addrPort(path, text string, zero bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		c.errorf(path, "bad-address", "%q is not ADDRESS:PORT%s", text, addressHint(text))
		return a, false
	case a.Port() == 0 && !zero:
		c.errorf(path, "bad-address", "port 0 in %q: others must know the port", text)
		return a, false
	}
	return a, true
}

// addressHint says what was probably meant.
func addressHint(text string) string {
	if a, err := netip.ParseAddr(text); err == nil {
		return fmt.Sprintf(": the port is missing, like %s", netip.AddrPortFrom(a, 8443))
	}
	if _, err := netip.ParseAddrPort("0.0.0.0" + text); err == nil {
		return fmt.Sprintf(`: want "0.0.0.0%s" (IPv4) or "[::]%s" (both)`, text, text)
	}
	return ": want one like 192.0.2.1:8443 or [2001:db8::1]:8443"
}

// ruleGroups: a group is made of geos.
func ruleGroups(c *check) {
	for i, g := range c.cfg.Groups {
		for j, name := range g.Geos {
			c.ref(fmt.Sprintf("groups[%d].geos[%d]", i, j), "geo", name, c.cfg.geoNames(), "geos")
		}
	}
}

// ruleFabricNeeds: a fabric joins numbered nodes of geos.
func ruleFabricNeeds(c *check) {
	if c.cfg.Fabric == nil {
		return
	}
	if len(c.cfg.Geos) == 0 {
		c.error("fabric", "section-missing", "the fabric joins geos, and there are none: list them under geos")
	}
	n := c.cfg.Node
	if n == nil || n.Fabric == nil {
		c.error("fabric", "section-missing", "with fabric, node.fabric says where this node listens and which certificate it has")
	}
	if n != nil && n.Number == 0 {
		c.error("node.number", "required", "number is required with fabric (1-65535, unique in the fleet)")
	}
	if n != nil && n.Fabric != nil {
		c.addrPort("node.fabric.listen", n.Fabric.Listen, false)
		for _, name := range sortedKeys(n.Fabric.Via) {
			c.addrPort("node.fabric.via."+name, n.Fabric.Via[name], false)
		}
	}
}

// ruleFabricAddresses: the fabric is unicast. An anycast address would bring
// what is meant for one geo to another.
func ruleFabricAddresses(c *check) {
	judge := func(path, text, geo string) {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return
		}
		for _, v := range c.cfg.VIPs {
			for _, p := range v.Prefixes {
				if p.Contains(a.Addr()) {
					c.errorf(path, "fabric-anycast", "%s is inside VIP %s (%s). The fabric needs a unicast address: anycast would bring packets for %s to another geo",
						a.Addr(), v.Name, p, geo)
					return
				}
			}
		}
	}
	for i, g := range c.cfg.Geos {
		for j, text := range g.Fabric {
			judge(fmt.Sprintf("geos[%d].fabric[%d]", i, j), text, g.Name)
		}
	}
	if n := c.cfg.Node; n != nil && n.Fabric != nil {
		judge("node.fabric.listen", n.Fabric.Listen, "this node")
	}
}
