package configs

import (
	"fmt"
	"net/netip"
	"slices"

	"anyedge/proxy"
	"anyedge/proxy/certs"
)

// ruleListenerPlace: a listener has somewhere to listen.
func ruleListenerPlace(c *check) {
	for i, l := range c.cfg.Listeners {
		at := func(field string) string { return fmt.Sprintf("listeners[%d].%s", i, field) }
		for j, name := range l.VIPs {
			c.ref(fmt.Sprintf("%s[%d]", at("vips"), j), "VIP", name, c.cfg.vipNames(), "vips")
		}
		for j, text := range l.Bind {
			c.addrPort(fmt.Sprintf("%s[%d]", at("bind"), j), text, true)
		}
		switch {
		case len(l.Bind) > 0:
		case l.Private && len(l.VIPs) == 0:
			c.errorf(fmt.Sprintf("listeners[%d]", i), "listener-place", "listener %s listens nowhere: give bind, an address of this machine that apps of this geo reach, like 10.0.1.2:80", l.Name)
		case len(l.VIPs) == 0:
			c.errorf(fmt.Sprintf("listeners[%d]", i), "listener-place", "listener %s listens nowhere: give bind, or vips and port", l.Name)
		case l.Port == 0:
			c.error(at("port"), "required", "port is required with vips")
		default:
			c.bindable(at("vips"), l.VIPs)
		}
	}
}

// bindable reports VIPs without an address to bind.
func (c *check) bindable(path string, names []string) {
	for j, name := range names {
		for k, v := range c.cfg.VIPs {
			if v.Name == name && len(v.Addresses) == 0 && c.whole(fmt.Sprintf("vips[%d]", k)) {
				c.errorf(fmt.Sprintf("%s[%d]", path, j), "vip-without-address", "VIP %s has no addresses to bind: give it addresses, or this listener a bind", name)
			}
		}
	}
}

// ruleListenerClash: one address and port, one listener.
func ruleListenerClash(c *check) {
	type bound struct {
		addr     netip.AddrPort
		listener string
	}
	var seen []bound
	for i, l := range c.cfg.Listeners {
		mine := c.cfg.ListenerAddresses(l)
		for _, a := range mine {
			clash := slices.IndexFunc(seen, func(s bound) bool { return overlap(s.addr, a) })
			if clash >= 0 {
				c.errorf(fmt.Sprintf("listeners[%d]", i), "listener-clash", "listener %s would bind %s, and listener %s binds %s", l.Name, a, seen[clash].listener, seen[clash].addr)
				break
			}
		}
		for _, a := range mine {
			seen = append(seen, bound{a, l.Name})
		}
	}
}

// overlap reports whether two sockets could not both listen.
func overlap(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() || a.Port() == 0 {
		return false
	}
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return x == y || x.IsUnspecified() && (x.Is6() || y.Is4()) || y.IsUnspecified() && (y.Is6() || x.Is4())
}

// ruleListenerTLS: certificates exist, and what needs TLS has it.
func ruleListenerTLS(c *check) {
	known := pick(c.cfg.Certificates, func(x *certs.Config) string { return x.Name })
	for i, l := range c.cfg.Listeners {
		at := func(field string) string { return fmt.Sprintf("listeners[%d].%s", i, field) }
		if l.TLS != nil {
			for j, name := range l.TLS.Certificates {
				c.ref(fmt.Sprintf("%s[%d]", at("tls.certificates"), j), "certificate", name, known, "certificates")
			}
			if len(l.TLS.Certificates) == 0 {
				c.error(at("tls.certificates"), "required", "TLS needs at least one certificate")
			}
			if l.RedirectHTTPS {
				c.errorf(at("redirect_https"), "redirect-on-tls", "listener %s already is https: redirect_https belongs to the plain one", l.Name)
			}
			continue
		}
		if k := slices.Index(l.Protocols, "h3"); k >= 0 && !c.given(at("tls")) {
			c.error(fmt.Sprintf("%s[%d]", at("protocols"), k), "h3-without-tls", "h3 needs tls: QUIC is always encrypted (RFC 9001)")
		}
	}
}

// ruleCertificates: exactly one source each.
func ruleCertificates(c *check) {
	for i, x := range c.cfg.Certificates {
		at := fmt.Sprintf("certificates[%d]", i)
		switch {
		case x.Files != nil && x.SelfSigned:
			c.errorf(at+".self_signed", "certificate-source", "certificate %s has files and is self_signed: want one of them", x.Name)
		case x.Files == nil && !x.SelfSigned:
			c.errorf(at, "certificate-source", "certificate %s comes from nowhere: give files, or self_signed: true", x.Name)
		case x.SelfSigned && len(x.Domains) == 0:
			c.warnf(at, "no-domains", "certificate %s has no domains: no client accepts it", x.Name)
		case x.Files != nil && len(x.Domains) > 0:
			c.error(at+".domains", "certificate-domains", "a certificate from files has its names in it")
		}
		for j, d := range x.Domains {
			if err := checkHost(d, false); err != nil {
				c.error(fmt.Sprintf("%s.domains[%d]", at, j), "bad-host", err.Error())
			}
		}
	}
}

// ruleSocket: the kernel's limit of a unix socket's path.
func ruleSocket(c *check) {
	const limit = 107 // sockaddr_un.sun_path, without its final zero
	if n := len(c.cfg.Admin.Socket); n > limit {
		c.errorf("admin.socket", "path-too-long", "the path has %d bytes; a unix socket's has at most %d", n, limit)
	}
}

// ruleAccessLog: classes of statuses have their form.
func ruleAccessLog(c *check) {
	for i, s := range c.cfg.Log.Access.AlwaysOnStatus {
		if len(s) != 3 || s[0] < '1' || s[0] > '5' || !wildcardDigits(s[1:]) {
			c.errorf(fmt.Sprintf("log.access.always_on_status[%d]", i), "bad-status", "%q is no class of statuses: want one like 5xx or 404", s)
		}
	}
}

// wildcardDigits reports whether s is "xx" or digits.
func wildcardDigits(s string) bool {
	if s == "xx" {
		return true
	}
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// serves reports whether a service is on a listener.
func serves(s proxy.ServiceConfig, listener string) bool {
	return len(s.Listeners) == 0 || slices.Contains(s.Listeners, listener)
}
