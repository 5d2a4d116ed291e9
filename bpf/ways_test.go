package bpf_test

import (
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"anyedge/bpf"
	"anyedge/bpf/lb"
)

// way returns how a node says that it reaches another.
func way(x said, node string) bpf.Way {
	for _, w := range x.Status.Interfaces[0].Ways {
		if w.Node == node {
			return w
		}
	}
	return bpf.Way{}
}

// TestForward: the ways that a has to b on its segment and c behind a router.
func TestForward(t *testing.T) {
	s := newSite(t)
	a, b := s.nodes["a"], s.nodes["b"]
	tests := []struct {
		forward string
		b, c    bpf.Way
	}{
		{"", bpf.Way{Node: "b", Mode: "l2", Text: b.mac.String()}, bpf.Way{Node: "c", Mode: "ipip", Text: "198.51.100.18 via 198.51.100.1"}},
		{"ipip", bpf.Way{Node: "b", Mode: "ipip", Text: "198.51.100.3"}, bpf.Way{Node: "c", Mode: "ipip", Text: "198.51.100.18 via 198.51.100.1"}},
		{"l2", bpf.Way{Node: "b", Mode: "l2", Text: b.mac.String()}, bpf.Way{Node: "c", Text: "198.51.100.18 is not on this segment, and l4.forward is l2"}},
	}
	for _, tt := range tests {
		t.Run("forward "+tt.forward, func(t *testing.T) {
			a.forward = tt.forward
			a.start()
			defer a.stop()
			a.follow(bpf.State{Nodes: s.everybody(), Generation: 1, Members: members("a", "b", "c", "d")})
			got := a.is("knows the ways", func(x said) bool {
				return x.Self.Applied == 1 && way(x, "c").Mode == tt.c.Mode
			})
			if w := way(got, "b"); w != tt.b {
				t.Errorf("to b: %+v, want %+v", w, tt.b)
			}
			if w := way(got, "c"); w != tt.c {
				t.Errorf("to c: %+v, want %+v", w, tt.c)
			}
			if w := way(got, "d"); w.Mode != "" || w.Text != "it has not said where it is" {
				t.Errorf("to d: %+v", w)
			}
			if got.Self.MAC != a.mac || got.Self.Addr != a.addr4 {
				t.Errorf("a says that it is %s %s", got.Self.Addr, got.Self.MAC)
			}
		})
	}
}

// TestIPIP: packets reach their node behind an outer header also where both are
// on one segment.
func TestIPIP(t *testing.T) {
	s := newSite(t)
	for _, m := range s.nodes {
		m.forward = "ipip"
	}
	s.startAll()
	s.by("a")
	conns := s.open(30, newRing(t, members("a", "b", "c")))
	s.alive("by IPIP alone", conns, "b", "c")
	s.nodes["b"].is("took packets out", func(x said) bool {
		return x.Status.Interfaces[0].Counters.Reasons[lb.Decapsulated].Packets > 0
	})
}

// TestForgottenRouter: a router that the kernel has forgotten is still where it
// was, until the kernel knows better.
func TestForgottenRouter(t *testing.T) {
	s := newSite(t)
	s.startAll()
	s.by("a")
	x := s.flow("c", newRing(t, members("a", "b", "c")))
	for range 10 {
		s.must(s.nodes["a"].space.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			list, err := netlink.NeighList(l.Attrs().Index, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, n := range list {
				if n.IP.String() != "198.51.100.1" {
					continue
				}
				if err := netlink.NeighDel(&n); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return nil
		}))
		x.more(t)
	}
	x.end()
	if sent, got := x.sent.Load(), x.got.Load(); sent != got {
		t.Errorf("%d of %d packets were lost", sent-got, sent)
	}
}

// TestMachineChanges: what happens to interfaces and neighbors is followed.
func TestMachineChanges(t *testing.T) {
	s := newSite(t)
	s.startAll()
	s.by("a")
	x := s.flow("c", newRing(t, members("a", "b", "c")))
	x.more(t)
	mac, err := net.ParseMAC("02:00:00:00:00:99")
	s.must(err)
	s.must(s.router.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(l, mac)
	}))
	s.by("a") // as a router does that has a new card
	s.must(s.nodes["a"].space.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, IP: net.ParseIP("198.51.100.1"), HardwareAddr: mac, State: netlink.NUD_REACHABLE,
		})
	}))
	x.more(t)

	a := s.nodes["a"]
	del := func(add bool) {
		t.Helper()
		s.must(a.space.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(a.addr4.String() + "/28")
			if err != nil {
				return err
			}
			if add {
				return netlink.AddrAdd(l, addr)
			}
			return netlink.AddrDel(l, addr)
		}))
	}
	del(false)
	got := a.is("is not ready without an address", func(x said) bool { return !x.Self.Up })
	if text := got.Status.Interfaces[0].Error; !strings.Contains(text, "has no IPv4 address") {
		t.Errorf("error %q", text)
	}
	del(true)
	a.is("is ready again", func(x said) bool { return x.Self.Up && x.Status.Interfaces[0].Error == "" })

	s.must(a.space.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkDel(l)
	}))
	got = a.is("is not ready without its interface", func(x said) bool { return !x.Self.Up && x.Status.Interfaces[0].Mode == "" })
	if text := got.Status.Interfaces[0].Error; !strings.Contains(text, "`ip link` lists what there is") {
		t.Errorf("error %q", text)
	}
	s.must(a.space.Do(func() error {
		at := netlink.NewLinkAttrs()
		at.Name = "eth0"
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: at, PeerName: "far"})
	}))
	s.must(a.space.Addr("eth0", a.addr4.String()+"/28"))
	a.is("has the program on the new interface", func(x said) bool { return x.Self.Up && x.Status.Interfaces[0].Pinned })
}
