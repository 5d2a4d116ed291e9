package configs

import (
	"fmt"
	"net/netip"
	"slices"

	"anyedge/proxy"
)

// rulePrivateListeners: a listener for the apps of this geo stands where
// neither anycast nor strangers come.
func rulePrivateListeners(c *check) {
	for i, l := range c.cfg.Listeners {
		if !l.Private {
			continue
		}
		at := func(field string) string { return fmt.Sprintf("listeners[%d].%s", i, field) }
		if len(l.VIPs) > 0 {
			c.errorf(at("vips"), "private-vips", "listener %s is private, and a VIP's traffic is public: give bind in place of vips", l.Name)
		}
		if l.RedirectHTTPS {
			c.errorf(at("redirect_https"), "private-redirect", "listener %s is private: it serves apps, and redirects nobody", l.Name)
		}
		for j, text := range l.Bind {
			if a, err := netip.ParseAddrPort(text); err == nil {
				c.privateAddress(fmt.Sprintf("%s[%d]", at("bind"), j), a.Addr().Unmap())
			}
		}
		if !slices.ContainsFunc(c.cfg.Services, func(s proxy.ServiceConfig) bool { return serves(s, l.Name) }) {
			c.warnf(at("private"), "private-unused", "no service is on the private listener %s: name it in their listeners, or give them none", l.Name)
		}
	}
}

// privateAddress reports an address that a private listener cannot have.
func (c *check) privateAddress(path string, a netip.Addr) {
	switch {
	case a.IsUnspecified():
		c.errorf(path, "private-address", "%s is every address of this machine, VIPs too: name one that apps of this geo reach, like 10.0.1.2", a)
		return
	case a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		c.errorf(path, "private-address", "%s is no unicast address", a)
		return
	}
	for _, v := range c.cfg.VIPs {
		if slices.Contains(v.Addresses, a) || slices.ContainsFunc(v.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			c.errorf(path, "private-anycast", "%s is inside VIP %s. A private listener needs a unicast address: anycast would bring strangers, and the apps of another geo", a, v.Name)
			return
		}
	}
}
