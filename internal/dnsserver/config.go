package dnsserver

import (
	"errors"
	"fmt"
	"net/netip"
)

// Config says where the apps of this geo ask for names.
type Config struct {
	Listen string `json:"listen" yaml:"listen"` // ADDRESS:PORT, UDP and TCP; a private, link-local or loopback address of this machine, never a VIP
}

// Validate reports what is wrong with c.
func (c Config) Validate() error {
	_, err := c.address()
	return err
}

// address returns where c listens.
func (c Config) address() (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(c.Listen)
	switch {
	case c.Listen == "":
		return a, errors.New("listen is required: ADDRESS:PORT, like 10.0.1.2:53")
	case err != nil:
		return a, fmt.Errorf("listen: %q is not ADDRESS:PORT: want one like 10.0.1.2:53 or [fd00::2]:53", c.Listen)
	case a.Port() == 0:
		return a, fmt.Errorf("listen: port 0 in %q: apps must know the port, mostly 53", c.Listen)
	case a.Addr().IsUnspecified():
		return a, fmt.Errorf("listen: %s is every address of this machine, the public ones too: name a private one, like 10.0.1.2:53", a.Addr())
	case !private(a.Addr()):
		return a, fmt.Errorf("listen: %s is a public address: answers are for the apps of this geo alone; "+
			"want a private (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7), link-local or loopback one", a.Addr())
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}

// private reports whether a belongs to no stranger: RFC 1918, RFC 4193,
// link-local or loopback.
func private(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
}
