package lb_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"anyedge/bpf/lb"
)

// The world of the tests: we are "a"; "b" is on our segment, "c" behind a router,
// "d" in another geo.
var (
	macA      = lb.MAC{0x02, 0, 0, 0, 0, 0x0a}
	macB      = lb.MAC{0x00, 0x16, 0x3e, 0, 0, 0x0b}
	macRouter = lb.MAC{0x00, 0x16, 0x3e, 0, 0, 0x01}
	addrA     = netip.MustParseAddr("198.51.100.1")
	addrB     = netip.MustParseAddr("198.51.100.2")
	addrC     = netip.MustParseAddr("198.51.100.18")
	addrD     = netip.MustParseAddr("198.51.100.130")
	vip4      = netip.MustParseAddr("192.0.2.10")
	vip6      = netip.MustParseAddr("2001:db8:100::10")
	client4   = netip.MustParseAddr("203.0.113.7")
	client6   = netip.MustParseAddr("2001:db8:c1::7")
)

func load(tb testing.TB) *lb.Program {
	tb.Helper()
	p, err := lb.Load()
	if err != nil {
		if errors.Is(err, os.ErrPermission) || errors.Is(err, ebpf.ErrNotSupported) {
			if os.Getenv("EDGE_TEST_STRICT") == "" {
				tb.Skip(err)
			}
		}
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = p.Close() })
	return p
}

func ring(tb testing.TB, names ...string) *lb.Ring {
	tb.Helper()
	var ms []lb.Member
	for _, n := range names {
		ms = append(ms, lb.Member{Name: n, Weight: 1})
	}
	r, err := lb.NewRing(ms)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// spec has one group for both VIPs.
func spec(g lb.Group) *lb.Spec {
	return &lb.Spec{
		Key:  [2]uint64{0x9ae16a3b2f90404f, 0xc949c7defeb1bb8d},
		Node: lb.Node{Name: "a", MAC: macA, Addr: addrA},
		Servers: []lb.Server{
			{Name: "b", Mode: lb.L2, MAC: macB},
			{Name: "c", Mode: lb.IPIP, MAC: macRouter, Addr: addrC},
			{Name: "d", Mode: lb.IPIP, MAC: macRouter, Addr: addrD},
		},
		Peers:  []lb.Peer{{Addr: addrB, MAC: macB}, {Addr: addrC}, {Addr: addrD, Far: true}},
		Groups: []lb.Group{g},
		VIPs:   []lb.VIP{{Addr: vip4}, {Addr: vip6}},
	}
}

func apply(tb testing.TB, p *lb.Program, s *lb.Spec) {
	tb.Helper()
	if err := p.Apply(s); err != nil {
		tb.Fatal(err)
	}
}

// run sends one frame through the kernel's program.
func run(tb testing.TB, p *lb.Program, frame []byte) (lb.Action, []byte) {
	tb.Helper()
	out := make([]byte, len(frame)+64)
	o := &ebpf.RunOptions{Data: frame, DataOut: out}
	action, err := p.XDP().Run(o)
	if err != nil {
		tb.Fatal(err)
	}
	return lb.Action(action), o.DataOut
}

const (
	ack = 0x10
	syn = 0x02
)

// segment is a TCP or UDP segment; its checksum is nobody's business here.
func segment(proto byte, from, to uint16, flags byte, payload int) []byte {
	b := make([]byte, 8, 20+payload)
	if proto == 6 {
		b = b[:20]
		b[12], b[13] = 0x50, flags
	}
	binary.BigEndian.PutUint16(b, from)
	binary.BigEndian.PutUint16(b[2:], to)
	if proto == 17 {
		binary.BigEndian.PutUint16(b[4:], uint16(8+payload))
	}
	for i := range payload {
		b = append(b, byte(i))
	}
	return b
}

// ip puts an IP header in front of a payload.
func ip(src, dst netip.Addr, proto byte, payload []byte) []byte {
	if src.Is6() {
		h := make([]byte, 40)
		h[0], h[1], h[6], h[7] = 0x6b, 0x90, proto, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
		copy(h[8:], src.AsSlice())
		copy(h[24:], dst.AsSlice())
		return slices.Concat(h, payload)
	}
	h := make([]byte, 20)
	h[0], h[1], h[8], h[9] = 0x45, 0xb9, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	binary.BigEndian.PutUint16(h[10:], ^sum(h))
	return slices.Concat(h, payload)
}

// sum is the Internet checksum's sum (RFC 1071), folded.
func sum(b []byte) uint16 {
	var s uint32
	for i := 0; i+1 < len(b); i += 2 {
		s += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return uint16(s)
}

// ether puts an Ethernet header in front of an IP packet, with VLAN tags.
func ether(from, to lb.MAC, packet []byte, vlans ...uint16) []byte {
	b := slices.Concat(to[:], from[:])
	for _, v := range vlans {
		b = append(b, 0x81, 0x00, byte(v>>8), byte(v))
	}
	if packet[0]>>4 == 6 {
		b = append(b, 0x86, 0xdd)
	} else {
		b = append(b, 0x08, 0x00)
	}
	return append(b, packet...)
}

// tcp is a frame of a client's flow as the router delivers it.
func tcp(src, dst netip.Addr, port uint16, flags byte) []byte {
	return ether(macRouter, macA, ip(src, dst, 6, segment(6, port, 443, flags, 10)))
}
