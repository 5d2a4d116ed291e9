package configs

import (
	"fmt"
	"strings"

	"anyedge/bpf"
)

// ruleL4: the packet path needs to know where packets arrive, who the other
// nodes are, and what addresses it spreads.
func ruleL4(c *check) {
	l4, n := c.cfg.L4, c.cfg.Node
	if !l4.On() {
		return
	}
	if err := l4.Validate(); err != nil {
		for line := range strings.Lines(err.Error()) {
			c.error("l4", "bad-l4", strings.TrimSpace(line))
		}
	}
	switch {
	case n == nil:
		c.error("l4", "section-missing", "l4 needs the section node, with interfaces and number")
		return
	case len(n.Interfaces) == 0:
		c.error("l4", "required", "node.interfaces is required with l4: where do packets for VIPs arrive on this machine?")
	case c.cfg.Fabric == nil && !c.given("fabric"):
		c.error("l4", "section-missing", "l4 needs the section fabric: the nodes of a geo agree over it who has which connection")
	}
	seen := map[string]bool{}
	for i, name := range n.Interfaces {
		path := fmt.Sprintf("node.interfaces[%d]", i)
		switch {
		case name == "" || len(name) > 15 || strings.ContainsAny(name, "/ \t\n"):
			c.errorf(path, "bad-interface", "%q is not the name of an interface", name)
		case seen[name]:
			c.errorf(path, "duplicate", "%s is named twice", name)
		}
		seen[name] = true
	}
	count := 0
	for _, v := range c.cfg.VIPs {
		count += len(v.Addresses)
	}
	if count == 0 {
		c.error("l4", "no-addresses", "l4 has nothing to do: no VIP has addresses")
	}
	if count > bpf.MaxVIPs {
		c.errorf("l4", "too-many", "%d VIP addresses, at most %d fit", count, bpf.MaxVIPs)
	}
}
