package proxy_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"anyedge/proxy"
)

// TestRoom: clients of VIPs are told of segments that leave the room asked for;
// others' are not.
func TestRoom(t *testing.T) {
	for name, tt := range map[string]struct {
		room int
		vips []string
		at   string
		max  int // of a segment, TCP options included; 0: what the interface has
	}{
		"a VIP":     {20, []string{"www"}, "127.0.0.1:0", 1440},
		"a VIP, v6": {20, []string{"www"}, "[::1]:0", 1420},
		"no VIP":    {20, nil, "127.0.0.1:0", 0},
		"no room":   {0, []string{"www"}, "127.0.0.1:0", 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := plain("http")
			l.Config.VIPs, l.Addresses = tt.vips, []netip.AddrPort{netip.MustParseAddrPort(tt.at)}
			e := start(t, proxy.Setup{Room: tt.room, Listeners: []proxy.Listener{l}})
			var d net.Dialer
			c, err := d.DialContext(t.Context(), "tcp", e.Listeners()[0].Addresses[0].String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			raw, err := c.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var size int
			if e := raw.Control(func(fd uintptr) { size, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG) }); e != nil || err != nil {
				t.Fatal(e, err)
			}
			if tt.max > 0 && (size > tt.max || size < tt.max-40) || tt.max == 0 && size <= 1460 {
				t.Errorf("the client sends segments of %d bytes, at most %d wanted", size, tt.max)
			}
		})
	}
}
