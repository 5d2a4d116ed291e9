package bgp_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/bgp"
	"anyedge/internal/testpeer"
)

// listener is a real peer that hears the routes.
type listener struct {
	config  bgp.NeighborConfig
	nextHop bgp.NextHopConfig
	routes  func(tb testing.TB) map[netip.Prefix]testpeer.Route
}

// listeners start one peer each.
var listeners = []struct {
	name  string
	start func(t *testing.T) listener
}{
	{"bird", func(t *testing.T) listener {
		t.Helper()
		port := testpeer.FreePort(t, "127.0.0.2")
		b := testpeer.StartBIRD(t, birdConf("192.0.2.101", birdSession("127.0.0.2", port, "")))
		return listener{both("peer", "127.0.0.2", port), nextHop6(), func(tb testing.TB) map[netip.Prefix]testpeer.Route {
			tb.Helper()
			return b.Routes(tb, "edge")
		}}
	}},
	{"frr", func(t *testing.T) listener {
		t.Helper()
		port := testpeer.FreePort(t, "127.0.0.3")
		f := testpeer.StartFRR(t, "127.0.0.3", port, frrConf(""))
		hop := nextHop6()
		hop.IPv4 = addr("192.0.2.1") // it refuses loopback
		return listener{both("peer", "127.0.0.3", port), hop, f.Routes}
	}},
	{"exabgp with two-byte AS numbers", func(t *testing.T) listener {
		t.Helper()
		port := testpeer.FreePort(t, "127.0.0.4")
		e := testpeer.StartExaBGP(t, "127.0.0.4", port, "127.0.0.1",
			"router-id 192.0.2.103; local-address 127.0.0.4; local-as 64501; peer-as 23456; family { ipv4 unicast; ipv6 unicast; } capability { asn4 disable; }")
		return listener{both("peer", "127.0.0.4", port), nextHop6(), e.Routes}
	}},
	{"exabgp", func(t *testing.T) listener {
		t.Helper()
		port := testpeer.FreePort(t, "127.0.0.4")
		e := testpeer.StartExaBGP(t, "127.0.0.4", port, "127.0.0.1", fmt.Sprintf(
			"router-id 192.0.2.103; local-address 127.0.0.4; local-as 64501; peer-as %d; family { ipv4 unicast; ipv6 unicast; }", edgeASN))
		return listener{both("peer", "127.0.0.4", port), nextHop6(), e.Routes}
	}},
}

func frrConf(more string) string {
	return fmt.Sprintf(`
router bgp 64501
 bgp router-id 192.0.2.102
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 127.0.0.1 remote-as %d
 neighbor 127.0.0.1 passive
 neighbor 127.0.0.1 disable-connected-check
 %s
 address-family ipv6 unicast
  neighbor 127.0.0.1 activate
 exit-address-family
`, edgeASN, more)
}

// TestAnnouncements lets every kind of peer hear what is announced, changed and
// withdrawn, and compares it with what the speaker says it has sent.
func TestAnnouncements(t *testing.T) {
	v4, other, v6 := prefix("192.0.2.0/24"), prefix("198.51.100.0/24"), prefix("2001:db8:a::/48")
	community, large := bgp.Community(64500<<16|100), bgp.LargeCommunity{ASN: 64500, A: 1, B: 2}
	steps := []struct {
		name   string
		routes []bgp.Route
		want   map[netip.Prefix]testpeer.Route
	}{
		{
			"plain v4 and v6",
			[]bgp.Route{{Prefix: v4}, {Prefix: v6}},
			map[netip.Prefix]testpeer.Route{v4: {}, v6: {}},
		},
		{
			"one more, with attributes",
			[]bgp.Route{{Prefix: v4}, {Prefix: v6}, {Prefix: other, Communities: []bgp.Community{community}, LargeCommunities: []bgp.LargeCommunity{large}, MED: new(uint32(50)), Prepend: 2}},
			map[netip.Prefix]testpeer.Route{v4: {}, v6: {}, other: {Communities: []string{"64500:100"}, LargeCommunities: []string{"64500:1:2"}, MED: new(uint32(50)), ASPath: asPath(3)}},
		},
		{
			"draining",
			[]bgp.Route{{Prefix: v4, Communities: []bgp.Community{bgp.GracefulShutdown, community}, Prepend: 3}, {Prefix: v6, Communities: []bgp.Community{bgp.GracefulShutdown}, Prepend: 3}, {Prefix: other}},
			map[netip.Prefix]testpeer.Route{
				v4:    {Communities: []string{"64500:100", "65535:0"}, ASPath: asPath(4)},
				v6:    {Communities: []string{"65535:0"}, ASPath: asPath(4)},
				other: {},
			},
		},
		{"one withdrawn", []bgp.Route{{Prefix: v6}}, map[netip.Prefix]testpeer.Route{v6: {}}},
		{"all withdrawn", nil, map[netip.Prefix]testpeer.Route{}},
	}
	for _, l := range listeners {
		t.Run(l.name, func(t *testing.T) {
			peer := l.start(t)
			s := newSpeaker(t, bgp.Setup{Node: bgp.NodeConfig{NextHop: peer.nextHop, Neighbors: []bgp.NeighborConfig{peer.config}}})
			s.Announce(steps[0].routes) // known before the session is
			runSpeaker(t, s)
			for _, step := range steps {
				if !t.Run(step.name, func(t *testing.T) {
					s.Announce(step.routes)
					want := expected(step.want, peer.nextHop)
					var got map[netip.Prefix]testpeer.Route
					defer func() {
						if d := cmp.Diff(want, got, compareRoutes); d != "" {
							t.Errorf("want (-), peer has (+):\n%s", d)
						}
					}()
					testpeer.WaitFor(t, "the peer to have the routes", func() bool {
						got = peer.routes(t)
						return cmp.Equal(want, got, compareRoutes)
					})
					testpeer.WaitFor(t, "the same to be read back, and no mismatch", func() bool {
						return cmp.Equal(want, readBack(neighbor(t, s, "peer").Sent), compareRoutes) && len(s.Mismatch()) == 0
					})
				}) {
					return
				}
			}
		})
	}
}

func asPath(times int) []uint32 { return slices.Repeat([]uint32{edgeASN}, times) }

// expected fills in what every route has.
func expected(routes map[netip.Prefix]testpeer.Route, hop bgp.NextHopConfig) map[netip.Prefix]testpeer.Route {
	out := make(map[netip.Prefix]testpeer.Route)
	for p, r := range routes {
		r.Prefix, r.NextHop = p, addr("127.0.0.1") // our address on the session
		switch {
		case p.Addr().Is6():
			r.NextHop = hop.IPv6
		case hop.IPv4.IsValid():
			r.NextHop = hop.IPv4
		}
		if r.ASPath == nil {
			r.ASPath = asPath(1)
		}
		out[p] = r
	}
	return out
}

// readBack is what the speaker says it sent, in the peers' form.
func readBack(sent []bgp.SentRoute) map[netip.Prefix]testpeer.Route {
	out := make(map[netip.Prefix]testpeer.Route)
	for _, s := range sent {
		r := testpeer.Route{Prefix: s.Prefix, NextHop: s.NextHop, ASPath: s.ASPath, MED: s.MED, LocalPref: s.LocalPref}
		for _, c := range s.Communities {
			r.Communities = append(r.Communities, c.String())
		}
		for _, c := range s.LargeCommunities {
			r.LargeCommunities = append(r.LargeCommunities, c.String())
		}
		out[s.Prefix] = r
	}
	return out
}

// compareRoutes ignores what eBGP peers make up: LOCAL_PREF, and the MED that
// stands for none.
var compareRoutes = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".LocalPref" }, cmp.Ignore()),
	cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".MED" }, cmp.Comparer(func(a, b *uint32) bool {
		return value(a) == value(b)
	})),
	cmp.FilterPath(func(p cmp.Path) bool {
		return p.Last().String() == ".Communities" || p.Last().String() == ".LargeCommunities"
	},
		cmp.Comparer(slices.Equal[[]string])),
}

func value(p *uint32) uint32 {
	if p == nil {
		return 0
	}
	return *p
}
