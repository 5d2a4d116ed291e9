package metal

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"anyedge/bpf/pass"
	"anyedge/internal/lab"
	"anyedge/internal/lab/netns"
)

// A Geo is one point of presence of the lab.
type Geo struct {
	Name  string
	City  string
	ASN   uint32 // of its router
	FRR   bool   // its router is FRR; else BIRD
	Edges int
	index int
}

// A Region is where clients are: its geos, nearest first.
type Region struct {
	Name    string
	Nearest []string
	index   int
}

// Geos returns the lab's geos.
func Geos() []Geo {
	return []Geo{
		{"fra", "Frankfurt", 64601, false, 2, 0},
		{"iad", "Ashburn", 64602, true, 1, 1},
		{"nrt", "Tokyo", 64603, false, 1, 2},
	}
}

// Regions returns the client regions.
func Regions() []Region {
	return []Region{
		{"eu", []string{"fra", "iad", "nrt"}, 0},
		{"asia", []string{"nrt", "iad", "fra"}, 1},
	}
}

// VIPs returns the anycast addresses, one per family.
func VIPs() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:100::10")}
}

// The lab's numbers.
const (
	fleetASN    = 65010
	transitASN  = 64600
	prefix4     = "192.0.2.0/24"
	prefix6     = "2001:db8:100::/48"
	trustDomain = "lab.example.net"

	// clientsPerRegion is how many addresses a region's clients have.
	clientsPerRegion = 200
	segmentMTU       = 1600 // room for an outer header around 1500 bytes
)

// Addresses. Host numbers in a geo's segment: 1 the router, 2 and up the edges,
// 10 and up the backends.
func (g Geo) addr4(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 51, 100, byte(16*g.index + host)})
}

func (g Geo) addr6(host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:f%d::%x", g.index+1, host))
}

func (g Geo) net4() netip.Prefix { return netip.PrefixFrom(g.addr4(0), 28) }
func (g Geo) net6() netip.Prefix { return netip.PrefixFrom(g.addr6(0), 64) }

// up4 is the link to the transit: 1 its end, 2 the geo's.
func (g Geo) up4(end int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, 0, 113, byte(128 + 4*g.index + end)})
}

func (g Geo) up6(end int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:aa:%d::%x", g.index+1, end))
}

// Clients' addresses are of 198.18.0.0/15 (RFC 2544); host 1 is the transit.
func (r Region) addr4(host int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, byte(18 + r.index), byte(host >> 8), byte(host)})
}

func (r Region) addr6(host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:c%d::%x", r.index+1, host))
}

func (r Region) nets() []netip.Prefix {
	return []netip.Prefix{netip.PrefixFrom(r.addr4(0), 16), netip.PrefixFrom(r.addr6(0), 64)}
}

func (g Geo) nets() []netip.Prefix { return []netip.Prefix{g.net4(), g.net6()} }

// distances say how far traffic travels on the link between the transit and a
// geo. A path between two geos crosses two links: 1 ms on the first, the rest
// on the second.
func (g Geo) distances() []netns.Distance {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	table := map[string][]int{ // one way: eu, asia, then fra, iad
		"fra": {5, 115},
		"iad": {45, 75, 44},
		"nrt": {115, 5, 114, 74},
	}[g.Name]
	var out []netns.Distance
	for i, r := range Regions() {
		out = append(out, netns.Distance{Prefixes: r.nets(), OneWay: ms(table[i])})
	}
	for i, n := range table[2:] {
		out = append(out, netns.Distance{Prefixes: Geos()[i].nets(), OneWay: ms(n)})
	}
	return out
}

func hostSysctls() map[string]string {
	return map[string]string{
		"ipv6/conf/default/accept_ra": "0", "ipv4/conf/default/arp_announce": "2", "ipv4/conf/all/arp_announce": "2",
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		"ipv6/conf/all/keep_addr_on_down": "1", "ipv6/conf/default/keep_addr_on_down": "1",
	}
}

func routerSysctls() map[string]string {
	return map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1",
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		// ECMP by the five-tuple: over virtual cables policy 1 uses the sender's own
		// random hash, which moves with every retransmission.
		"ipv4/fib_multipath_hash_policy": "3", "ipv6/fib_multipath_hash_policy": "3",
		"ipv4/fib_multipath_hash_fields": "0x37", "ipv6/fib_multipath_hash_fields": "0x37",
	}
}

// machines are the names of all machines.
func machines() []string {
	names := []string{"transit"}
	for _, g := range Geos() {
		names = append(names, g.Name+"-switch", g.Name+"-router", g.Name+"-app")
		for i := range g.Edges {
			names = append(names, g.edge(i))
		}
	}
	for _, r := range Regions() {
		names = append(names, "client-"+r.Name)
	}
	return names
}

func (g Geo) edge(i int) string { return fmt.Sprintf("%s-edge%d", g.Name, i+1) }

// spacesOf lists the namespaces of the lab with that prefix. One whose prefix
// only begins with it is another lab.
func spacesOf(prefix string) []string {
	ours := machines()
	return slices.DeleteFunc(netns.List(prefix+"-"), func(name string) bool {
		return !slices.Contains(ours, strings.TrimPrefix(name, prefix+"-"))
	})
}

// build makes machines, cables and addresses.
func (l *Lab) build() error {
	if err := l.machine("transit", routerSysctls()); err != nil {
		return err
	}
	for _, g := range Geos() {
		if err := l.buildGeo(g); err != nil {
			return err
		}
	}
	for _, r := range Regions() {
		if err := l.buildRegion(r); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) machine(name string, sysctls map[string]string) error {
	s, err := netns.New(l.opts.Prefix+"-"+name, sysctls)
	if err != nil {
		return err
	}
	l.spaces[name] = s
	return nil
}

func (l *Lab) buildGeo(g Geo) error {
	sw := g.Name + "-switch"
	if err := l.machine(sw, nil); err != nil {
		return err
	}
	if err := l.spaces[sw].Bridge("br0", segmentMTU); err != nil {
		return err
	}
	if err := l.rack(g, g.Name+"-router", "router", 1, routerSysctls()); err != nil {
		return err
	}
	for i := range g.Edges {
		name := g.edge(i)
		if err := l.rack(g, name, fmt.Sprintf("edge%d", i+1), 2+i, hostSysctls()); err != nil {
			return err
		}
		l.edges = append(l.edges, l.newEdge(g, name, i))
	}
	if err := l.rack(g, g.Name+"-app", "app", 10, hostSysctls()); err != nil {
		return err
	}
	if err := l.spaces[g.Name+"-app"].Addr("eth0", netip.PrefixFrom(g.addr4(11), 28).String()); err != nil {
		return err
	}
	transit, router := l.spaces["transit"], l.spaces[g.Name+"-router"]
	d, err := netns.NewDelay(transit, "to-"+g.Name, router, "up0", time.Millisecond, g.distances()...)
	if err != nil {
		return err
	}
	l.links[g.Name] = d
	if err := transit.Addr("to-"+g.Name, netip.PrefixFrom(g.up4(1), 30).String(), netip.PrefixFrom(g.up6(1), 64).String()); err != nil {
		return err
	}
	return router.Addr("up0", netip.PrefixFrom(g.up4(2), 30).String(), netip.PrefixFrom(g.up6(2), 64).String())
}

// rack puts a machine into a geo and cables it to the switch.
func (l *Lab) rack(g Geo, name, port string, host int, sysctls map[string]string) error {
	if err := l.machine(name, sysctls); err != nil {
		return err
	}
	s, sw := l.spaces[name], l.spaces[g.Name+"-switch"]
	port = "p-" + port
	if err := netns.Veth(s, "eth0", sw, port, segmentMTU); err != nil {
		return err
	}
	if err := sw.Plug(port, "br0"); err != nil {
		return err
	}
	if err := sw.PlainFrames(port); err != nil {
		return err
	}
	if err := s.Addr("eth0", netip.PrefixFrom(g.addr4(host), 28).String(), netip.PrefixFrom(g.addr6(host), 64).String()); err != nil {
		return err
	}
	if host == 1 {
		return nil
	}
	if l.opts.L4 != "" && l.opts.L4 != "generic" && host < 10 {
		if err := l.letPass(sw, port); err != nil {
			return err
		}
	}
	return s.Default(g.addr4(1).String(), g.addr6(1).String())
}

// letPass puts a native program on a switch port: without one it takes nothing
// that a packet program on the cable's other end sends back.
func (l *Lab) letPass(sw *netns.Space, port string) error {
	return sw.Do(func() error {
		undo, err := pass.Attach(port)
		if err == nil {
			l.undo = append(l.undo, undo)
		}
		return err
	})
}

func (l *Lab) buildRegion(r Region) error {
	name := "client-" + r.Name
	if err := l.machine(name, hostSysctls()); err != nil {
		return err
	}
	s, transit := l.spaces[name], l.spaces["transit"]
	if err := netns.Veth(s, "eth0", transit, name, 1500); err != nil {
		return err
	}
	err := transit.Addr(name, netip.PrefixFrom(r.addr4(1), 16).String(), netip.PrefixFrom(r.addr6(1), 64).String())
	if err != nil {
		return err
	}
	for i := range clientsPerRegion {
		if err := s.Addr("eth0", netip.PrefixFrom(r.addr4(2+i), 16).String(), netip.PrefixFrom(r.addr6(2+i), 64).String()); err != nil {
			return err
		}
	}
	if err := s.Default(r.addr4(1).String(), r.addr6(1).String()); err != nil {
		return err
	}
	return transit.RouteBy(name, 101+r.index)
}

// startBackends starts two apps in each geo.
func (l *Lab) startBackends(ctx context.Context) error {
	for _, g := range Geos() {
		for i := range 2 {
			b := lab.NewBackend(g.Name, fmt.Sprintf("%s-%c", g.Name, 'a'+i), netip.AddrPortFrom(g.addr4(10+i), 8080), l.log)
			if err := l.backendUp(ctx, b); err != nil {
				return err
			}
			l.backends = append(l.backends, b)
		}
	}
	return nil
}

// backendUp starts an app on its geo's machine for apps.
func (l *Lab) backendUp(ctx context.Context, b *lab.Backend) error {
	return l.spaces[b.Geo+"-app"].Do(func() error { return b.Up(ctx) })
}

func (l *Lab) path(name string) string { return filepath.Join(l.dir, name) }
