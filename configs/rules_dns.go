package configs

import "net/netip"

// ruleDNSAddress: apps ask the edge of their own geo. An anycast address would
// bring their questions to another one, and strangers' to this.
func ruleDNSAddress(c *check) {
	n := c.cfg.Node
	if n == nil || n.DNS == nil {
		return
	}
	a, err := netip.ParseAddrPort(n.DNS.Listen)
	if err != nil {
		return // dnsserver says so
	}
	for _, v := range c.cfg.VIPs {
		for _, p := range v.Prefixes {
			if p.Contains(a.Addr().Unmap()) {
				c.errorf("node.dns.listen", "dns-anycast", "%s is inside VIP %s (%s). DNS needs a private unicast address: anycast would bring a geo's questions to another one",
					a.Addr(), v.Name, p)
				return
			}
		}
	}
}

// ruleMetricsAddress: whoever asks wants this node, and no stranger may.
func ruleMetricsAddress(c *check) {
	n := c.cfg.Node
	if n == nil || n.Metrics == nil {
		return
	}
	at, err := netip.ParseAddrPort(n.Metrics.Listen)
	if err != nil {
		return // metrics.Config says so
	}
	a := at.Addr()
	for _, v := range c.cfg.VIPs {
		for _, p := range v.Prefixes {
			if p.Contains(a.Unmap()) {
				c.errorf("node.metrics.listen", "metrics-anycast", "%s is inside VIP %s (%s): anycast would bring questions about this node to another one. Metrics need an address of this machine's own", a, v.Name, p)
				return
			}
		}
	}
	if a.IsUnspecified() && len(c.cfg.VIPs) > 0 {
		c.errorf("node.metrics.listen", "metrics-anycast", "%s is every address, those of VIPs too. Metrics need an address of this machine's own", a)
	}
}
