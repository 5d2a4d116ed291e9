package lb_test

import (
	"net"
	"net/netip"
	"testing"

	"anyedge/bpf/lb"
)

// TestDaisyChain changes a bucket's owner under real sockets: what this node
// serves stays, what it does not know goes to the other owner, once.
func TestDaisyChain(t *testing.T) {
	p := load(t)
	for _, addr := range []string{"127.0.0.2", "::1"} {
		t.Run(addr, func(t *testing.T) {
			vip := netip.MustParseAddr(addr)
			var lc net.ListenConfig
			l, err := lc.Listen(t.Context(), "tcp", netip.AddrPortFrom(vip, 0).String())
			if err != nil {
				t.Skip(err) // a machine without IPv6
			}
			defer l.Close()
			var d net.Dialer
			conn, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			udp, err := lc.ListenPacket(t.Context(), "udp", netip.AddrPortFrom(vip, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer udp.Close()

			here := conn.LocalAddr().(*net.TCPAddr).AddrPort()
			port := l.Addr().(*net.TCPAddr).AddrPort().Port()
			udpPort := udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			tcpTo := func(from uint16, flags byte) []byte {
				return ip(here.Addr(), vip, 6, segment(6, from, port, flags, 0))
			}
			flipped := macB
			flipped[0] ^= 2
			stranger := here.Port() ^ 1
			daisyTable(t, p, vip, []daisyCase{
				{"established here", ether(macRouter, macA, tcpTo(here.Port(), ack)), lb.Pass},
				{"only the listener here", ether(macRouter, macA, tcpTo(stranger, ack)), lb.Transmit},
				{"opens", ether(macRouter, macA, tcpTo(stranger, syn)), lb.Pass},
				{"opens with an answer", ether(macRouter, macA, tcpTo(stranger, syn|ack)), lb.Transmit},
				{"from a peer, established here", ether(macB, macA, tcpTo(here.Port(), ack)), lb.Pass},
				{"from a peer, unknown here", ether(macB, macA, tcpTo(stranger, ack)), lb.Transmit},
				{"sent on once already", ether(flipped, macA, tcpTo(stranger, ack)), lb.Pass},
				{"UDP socket", ether(macRouter, macA, ip(here.Addr(), vip, 17, segment(17, 9, udpPort, 0, 0))), lb.Pass},
				{"UDP unknown", ether(macRouter, macA, ip(here.Addr(), vip, 17, segment(17, 9, 9, 0, 0))), lb.Transmit},
				{"in a tunnel, established here", ether(macRouter, macA, ip(addrC, addrA, tunnelProto(vip), tcpTo(here.Port(), ack))), lb.Pass},
				{"in a tunnel, unknown here", ether(macRouter, macA, ip(addrC, addrA, tunnelProto(vip), tcpTo(stranger, ack))), lb.Transmit},
			})
		})
	}
}

type daisyCase struct {
	name   string
	frame  []byte
	action lb.Action
}

func tunnelProto(inner netip.Addr) byte {
	if inner.Is6() {
		return 41
	}
	return 4
}

// daisyTable runs the cases after the flip (new owner, packets go on to the
// old one, by both modes) and, where a peer flipped first, before it.
func daisyTable(t *testing.T, p *lb.Program, vip netip.Addr, cases []daisyCase) {
	t.Helper()
	a, b, c := ring(t, "a"), ring(t, "b"), ring(t, "c")
	for name, g := range map[string]lb.Group{
		"flipped, old owner b": {Ring: a, Other: b},
		"flipped, old owner c": {Ring: a, Other: c},
	} {
		s := spec(g)
		s.VIPs = []lb.VIP{{Addr: vip}}
		apply(t, p, s)
		for _, tt := range cases {
			action, _ := run(t, p, tt.frame)
			if action != tt.action {
				t.Errorf("%s, %s: action %d, want %d", name, tt.name, action, tt.action)
			}
		}
		// Without a change nobody asks for sockets.
		s.Groups[0].Other = nil
		apply(t, p, s)
		for _, tt := range cases {
			if action, _ := run(t, p, tt.frame); action != lb.Pass {
				t.Errorf("steady, %s: action %d, want pass", tt.name, action)
			}
		}
	}
	// A peer that flipped before us sends us what the old owner may still have.
	s := spec(lb.Group{Ring: b, Other: a})
	s.VIPs = []lb.VIP{{Addr: vip}}
	apply(t, p, s)
	for _, tt := range cases[4:7] {
		if action, _ := run(t, p, tt.frame); action != tt.action {
			t.Errorf("not flipped yet, %s: action %d, want %d", tt.name, action, tt.action)
		}
	}
}
