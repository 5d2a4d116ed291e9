package lb_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/bpf/lb"
)

func TestSpecRefuses(t *testing.T) {
	r := ring(t, "a", "b")
	for want, change := range map[string]func(*lb.Spec){
		"node: no name":                 func(s *lb.Spec) { s.Node.Name = "" },
		"is not IPv4":                   func(s *lb.Spec) { s.Node.Addr = vip6 },
		`server "b" is named twice`:     func(s *lb.Spec) { s.Servers[1].Name = "b" },
		`unknown mode 7`:                func(s *lb.Spec) { s.Servers[0].Mode = 7 },
		"no MAC":                        func(s *lb.Spec) { s.Servers[0].MAC = lb.MAC{} },
		"IPIP needs an IPv4 address":    func(s *lb.Spec) { s.Servers[1].Addr = vip6 },
		"MTU 600 is not within":         func(s *lb.Spec) { s.Servers[1].MTU = 600 },
		"is another peer's too":         func(s *lb.Spec) { s.Peers[1].Addr = addrB },
		"is neither the node nor a":     func(s *lb.Spec) { s.Servers = s.Servers[1:] },
		"there is no group 3":           func(s *lb.Spec) { s.VIPs[0].Group = 3 },
		"vip 192.0.2.10 is named twice": func(s *lb.Spec) { s.VIPs[1].Addr = vip4 },
		"not a plain IPv4 or IPv6":      func(s *lb.Spec) { s.VIPs[0].Addr = netip.MustParseAddr("::ffff:192.0.2.10") },
		`abroad is "x"`:                 func(s *lb.Spec) { s.VIPs[0].Abroad = "x" },
		`abroad is "b"`:                 func(s *lb.Spec) { s.VIPs[0].Abroad = "b" },
		"has no MAC here":               func(s *lb.Spec) { s.Peers[2].MAC = macRouter },
		"9 groups, at most 8 fit":       func(s *lb.Spec) { s.Groups = make([]lb.Group, 9) },
	} {
		s := spec(lb.Group{Ring: r})
		if err := s.Validate(); err != nil {
			t.Fatal(err)
		}
		change(s)
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

// TestCountersKeepTheirNames changes the servers around; what was counted for
// one of them stays its own.
func TestCountersKeepTheirNames(t *testing.T) {
	p := load(t)
	frame := tcp(client4, vip4, 40000, ack)
	s := spec(lb.Group{Ring: ring(t, "c")})
	for i := range 3 {
		apply(t, p, s)
		run(t, p, frame)
		s.Servers = append([]lb.Server{{Name: fmt.Sprintf("new-%d", i), Mode: lb.L2, MAC: macB}}, s.Servers...)
		s.VIPs = append([]lb.VIP{{Addr: netip.AddrFrom4([4]byte{198, 18, 0, byte(i)})}}, s.VIPs...)
	}
	s.Servers, s.Groups[0].Ring = s.Servers[:3], ring(t, "a")
	apply(t, p, s)
	run(t, p, frame)
	c := counters(t, p)
	want := map[string]lb.Count{"a": {Packets: 1, Bytes: 50}, "c": {Packets: 3, Bytes: 150}}
	for name, n := range c.Servers {
		if n == (lb.Count{}) {
			delete(c.Servers, name)
		}
	}
	if diff := cmp.Diff(want, c.Servers); diff != "" {
		t.Error(diff)
	}
	if got := c.VIPs[vip4].Packets; got != 4 {
		t.Errorf("%d packets for the VIP, want 4", got)
	}
}

// TestFullTables fills everything up to its limit.
func TestFullTables(t *testing.T) {
	p := load(t)
	s := spec(lb.Group{})
	for i := len(s.Servers); i < lb.MaxServers-1; i++ {
		s.Servers = append(s.Servers, lb.Server{Name: fmt.Sprint("s", i), Mode: lb.L2, MAC: macB})
	}
	for i := len(s.Peers); i < lb.MaxPeers; i++ {
		s.Peers = append(s.Peers, lb.Peer{Addr: netip.AddrFrom4([4]byte{198, 19, byte(i >> 8), byte(i)}), MAC: lb.MAC{0, 1, 2, 3, byte(i >> 8), byte(i)}})
	}
	for i := len(s.VIPs); i < lb.MaxVIPs; i++ {
		s.VIPs = append(s.VIPs, lb.VIP{Addr: netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})})
	}
	for key := range uint64(50) {
		s.Key[0] = key * 0x9e3779b97f4a7c15
		apply(t, p, s)
		frame := tcp(client4, s.VIPs[lb.MaxVIPs-1].Addr, 40000, ack)
		before := counters(t, p).Reasons[lb.NoServer].Packets
		run(t, p, frame)
		if counters(t, p).Reasons[lb.NoServer].Packets != before+1 {
			t.Fatalf("key %d: the last VIP is not found", key)
		}
	}
}
