package bpf_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"anyedge/bpf"
	"anyedge/bpf/lb"
)

// TestStrays: a and b are one geo, c is another. Routes move between them, and
// connections stay where they are.
func TestStrays(t *testing.T) {
	s := newSite(t)
	for _, m := range s.nodes {
		m.start()
	}
	all := s.everybody()
	far := func(geo string, nodes ...bpf.Node) []bpf.Node {
		for i := range nodes {
			nodes[i].Name = geo + "/" + nodes[i].Name
		}
		return nodes
	}
	abroad := func(node string) []bpf.Abroad { return []bpf.Abroad{{VIP: vip4, Node: node}, {VIP: vip6, Node: node}} }
	here := bpf.State{Nodes: all[:2:2], Generation: 1, Members: members("a", "b"), Far: far("iad", all[2])}
	there := bpf.State{Nodes: s.everybody()[2:], Generation: 1, Members: members("c"), Far: far("fra", s.everybody()[:2]...)}
	tell := func(fra, iad bpf.State) {
		t.Helper()
		for name, st := range map[string]bpf.State{"a": fra, "b": fra, "c": iad} {
			m := s.nodes[name]
			m.follow(st)
			m.is("follows", func(x said) bool {
				for _, a := range st.Abroad {
					if way(x, a.Node).Mode != "ipip" {
						return false
					}
				}
				return x.Self.Up && x.Self.Applied == st.Generation && len(x.Status.Interfaces[0].Ways) == len(st.Nodes)-1+min(1, len(st.Abroad))
			})
		}
	}
	tell(here, there)
	s.by("a")
	old := s.open(40, newRing(t, members("a", "b")))
	s.alive("at home", old, "b", "a")

	there.Generation, there.Abroad = 2, abroad("fra/b")
	tell(here, there)
	s.alive("the route moved to iad", old, "c", "a", "c")
	fresh := s.open(20, newRing(t, members("c")))

	here.Generation, here.Abroad = 2, abroad("iad/c")
	tell(here, there) // both look at each other's, as when a route flaps
	s.alive("the route is back", fresh, "a", "b")
	s.alive("the route is back", old, "a", "b", "c")
	s.nodes["b"].is("has counted", func(x said) bool {
		n := x.Status.Interfaces[0].Counters.Reasons
		return n[lb.FromAbroad].Packets > 0 && n[lb.ToAbroad].Packets > 0
	})

	there.Generation, there.Abroad = 3, nil
	tell(here, there)
	s.by("c")
	if _, err := old[0].ask(); err == nil {
		t.Error("the time is over, and a connection that iad does not have still works")
	}
}

// TestStraysToOneAddress: a machine elsewhere that has the address of one here
// takes nothing of it.
func TestStraysToOneAddress(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	a.start()
	all := s.everybody()
	twin := all[1]
	twin.Name = "iad/b"
	a.follow(bpf.State{Nodes: all, Generation: 1, Members: members("a", "b"), Far: []bpf.Node{twin}, Abroad: []bpf.Abroad{{VIP: vip4, Node: "iad/b"}}})
	got := a.is("follows", func(x said) bool { return x.Self.Applied == 1 && way(x, "iad/b").Text != "" })
	if w := way(got, "iad/b"); w.Mode != "" || w.Text != "its address 198.51.100.3 is also that of b" {
		t.Errorf("%+v", w)
	}
	if w := way(got, "b"); w.Mode != "l2" {
		t.Errorf("to b: %+v", w)
	}
}

// TestFlood counts packets by the second.
func TestFlood(t *testing.T) {
	at := func(s float64) time.Time {
		return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(s * float64(time.Second)))
	}
	var f bpf.Flood
	for _, step := range []struct {
		at    float64
		count uint64
		began bool
		on    bool
	}{
		{0, 5_000_000, false, false}, // what a predecessor's program had counted
		{1, 5_150_000, false, false},
		{2, 5_400_000, true, true},
		{3, 5_400_000, false, true},
		{5, 0, false, true}, // another program
		{12.1, 0, false, false},
		{13, 190_000, true, true},
	} {
		if began := f.See(at(step.at), step.count); began != step.began || f.On() != step.on {
			t.Errorf("at %g s: began %t, on %t", step.at, began, f.On())
		}
	}
}

// TestNarrowWay: a way that is too narrow for IPIP, which is no doing of ours, stops
// nothing else.
func TestNarrowWay(t *testing.T) {
	s := newSite(t)
	a := s.nodes["a"]
	a.start()
	all := s.everybody()
	s.must(a.space.Do(func() error {
		return netlink.RouteReplace(&netlink.Route{
			Dst: &net.IPNet{IP: net.IPv4(203, 0, 113, 9).To4(), Mask: net.CIDRMask(32, 32)}, Gw: net.IPv4(198, 51, 100, 1), MTU: 1280,
		})
	}))
	st := bpf.State{
		Nodes: all, Generation: 1, Members: members("a", "b"),
		Far: []bpf.Node{{Name: "iad/x", Addr: netip.MustParseAddr("203.0.113.9")}}, Abroad: []bpf.Abroad{{VIP: vip4, Node: "iad/x"}},
	}
	a.follow(st)
	got := a.is("follows", func(x said) bool { return x.Self.Applied == 1 && x.Self.Up })
	if w := way(got, "iad/x"); w.Mode != "" || w.Text != "the way to 203.0.113.9 takes packets up to 1280 bytes only, 1300 are needed" {
		t.Errorf("%+v", w)
	}
	st.Generation = 2
	a.follow(st)
	a.is("follows the next ring", func(x said) bool { return x.Self.Applied == 2 })
}

func TestNetstat(t *testing.T) {
	const text = "TcpExt: SyncookiesSent SyncookiesRecv\nTcpExt: 17 3\nIpExt: InNoRoutes\nIpExt: 5\n"
	for name, want := range map[string]uint64{"SyncookiesSent": 17, "SyncookiesRecv": 3, "InNoRoutes": 0, "Other": 0} {
		if got := bpf.NetstatValue(text, "TcpExt:", name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
}
