package message

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// A Clock tells the time for Date fields; it writes it out once a second. The zero
// Clock is ready.
type Clock struct{ last atomic.Pointer[date] }

// A date is the time in the form of RFC 9110 section 5.6.7.
type date struct {
	second int64
	text   string
}

// Now returns the time, as "Sun, 06 Nov 1994 08:49:37 GMT".
func (c *Clock) Now() string {
	t := time.Now()
	if d := c.last.Load(); d != nil && d.second == t.Unix() {
		return d.text
	}
	d := &date{t.Unix(), t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
	c.last.Store(d)
	return d.text
}

// AddrPort returns the address in a, without the IPv4-in-IPv6 form; zero when a is
// none of TCP or UDP.
func AddrPort(a net.Addr) netip.AddrPort {
	if x, ok := a.(interface{ AddrPort() netip.AddrPort }); ok {
		ap := x.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
