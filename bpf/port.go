package bpf

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"anyedge/bpf/lb"
)

// A port is one interface and the program on it. All of it is the goroutine's
// in Run but what is atomic.
type port struct {
	name string
	path *Path

	// What the machine says.
	missing error
	index   int
	mac     lb.MAC
	mtu     int
	addr    netip.Addr            // the first IPv4 one
	onLink  []netip.Prefix        // IPv4
	macs    map[netip.Addr]lb.MAC // of routers, as last known

	prog     atomic.Pointer[lb.Program]
	attached *lb.Attachment
	left     *lb.Pinned // another program of a predecessor, which works on until the first ring is known
	held     bool       // a predecessor's state is in force
	pinned   bool
	foreign  error  // who else has pins of this name
	applied  uint64 // generation of the last State applied; 0: none
	spec     *lb.Spec
	ways     []Way
	failure  string    // why it is not attached
	next     time.Time // when that is tried again
	rings    rings

	flood flood // of what goes to other geos
}

// rings keeps the last rings computed: they are pure and take some time.
type rings struct {
	mu   sync.Mutex
	kept []keptRing
}

type keptRing struct {
	members []Member
	ring    *lb.Ring
}

// of returns the ring of the members; nil for none.
func (r *rings) of(ms []Member) *lb.Ring {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range r.kept {
		if slices.Equal(k.members, ms) {
			return k.ring
		}
	}
	ring, err := lb.NewRing(ms)
	if err != nil {
		return nil
	}
	r.kept = append(r.kept[max(0, len(r.kept)-3):], keptRing{slices.Clone(ms), ring})
	return ring
}

func (p *port) program() *lb.Program { return p.prog.Load() }

// look reads what the machine says of the interface.
func (p *port) look() {
	link, err := netlink.LinkByName(p.name)
	if _, gone := errors.AsType[netlink.LinkNotFoundError](err); gone || err != nil && p.index == 0 {
		p.missing, p.index = fmt.Errorf("interface %s: %w; `ip link` lists what there is", p.name, err), 0
		p.lost()
		return
	}
	if err != nil {
		return // nothing new is known
	}
	attrs := link.Attrs()
	p.missing, p.index, p.mtu = nil, attrs.Index, attrs.MTU
	p.lost()
	copy(p.mac[:], attrs.HardwareAddr)
	list, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	switch {
	case err != nil && p.addr.IsValid():
		return // nothing new is known
	case err != nil:
		p.missing = fmt.Errorf("addresses of %s: %w", p.name, err)
		return
	}
	p.addr, p.onLink = netip.Addr{}, nil
	for _, a := range list {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok || slices.Contains(p.path.setup.VIPs, ip) {
			continue
		}
		if !p.addr.IsValid() {
			p.addr = ip
		}
		if ones, _ := a.Mask.Size(); ones < 32 {
			p.onLink = append(p.onLink, netip.PrefixFrom(ip, ones).Masked())
		}
	}
	if !p.addr.IsValid() {
		p.missing = fmt.Errorf("interface %s has no IPv4 address: the other nodes need one to reach this one", p.name)
	}
}

// oneLine is the error's first line: a verifier says thousands.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

func (p *port) status() Interface {
	i := Interface{Name: p.name, Error: p.failure, Addr: p.addr, Applied: p.applied, Ways: p.ways, Flooded: p.flood.until}
	switch {
	case p.attached != nil:
		i.Mode, i.Pinned, i.Adopted, i.Program = p.attached.Mode, p.pinned, p.held, p.program().ID()
	case p.left != nil:
		i.Mode, i.Pinned, i.Adopted = p.left.Mode, true, true
	}
	return i
}

// group is the ring in the program's terms.
func (p *port) group(want *State) lb.Group {
	g := lb.Group{Gone: want.Gone}
	if want.Generation == 0 {
		return g
	}
	g.Ring = p.rings.of(want.Members)
	if len(want.Other) > 0 {
		g.Other = p.rings.of(want.Other)
	}
	return g
}

// describe turns what is wanted into the program's terms, and says how each
// other node is reached.
func (p *port) describe(want *State) (*lb.Spec, []Way) {
	s := &lb.Spec{
		Key: p.path.setup.Key, Node: lb.Node{Name: p.path.setup.Node, MAC: p.mac, Addr: p.addr},
		Groups: []lb.Group{p.group(want)},
	}
	var ways []Way
	known := map[string]bool{p.path.setup.Node: true}
	for _, n := range want.Nodes {
		if known[n.Name] || !n.Addr.Is4() || n.Addr == p.addr {
			continue
		}
		known[n.Name] = true
		server, text := p.way(n)
		s.Servers = append(s.Servers, server)
		s.Peers = append(s.Peers, lb.Peer{Addr: n.Addr, MAC: n.MAC})
		ways = append(ways, Way{n.Name, modeName(server.Mode), text})
	}
	for _, m := range slices.Concat(want.Members, want.Other) {
		if !known[m.Name] {
			known[m.Name] = true
			s.Servers = append(s.Servers, lb.Server{Name: m.Name})
			ways = append(ways, Way{m.Name, "", "it has not said where it is"})
		}
	}
	return s, slices.Concat(ways, p.describeFar(s, want))
}

func modeName(m lb.Mode) string {
	switch m {
	case lb.L2:
		return ForwardL2
	case lb.IPIP:
		return ForwardIPIP
	case lb.Away:
	}
	return ""
}

// way finds out how a node is reached from this interface.
func (p *port) way(n Node) (lb.Server, string) {
	near := slices.ContainsFunc(p.onLink, func(x netip.Prefix) bool { return x.Contains(n.Addr) })
	forward := p.path.setup.Config.Forward
	switch {
	case near && forward != ForwardIPIP:
		return lb.Server{Name: n.Name, Mode: lb.L2, MAC: n.MAC}, n.MAC.String()
	case near:
		return lb.Server{Name: n.Name, Mode: lb.IPIP, MAC: n.MAC, Addr: n.Addr, MTU: p.mtu}, n.Addr.String()
	case forward == ForwardL2:
		return lb.Server{Name: n.Name}, n.Addr.String() + " is not on this segment, and l4.forward is l2"
	}
	return p.wayRouted(n)
}

// wayRouted finds out how a node behind a router is reached.
func (p *port) wayRouted(n Node) (lb.Server, string) {
	hop, err := p.gateway(n.Addr)
	if err != nil {
		return lb.Server{Name: n.Name}, err.Error()
	}
	if hop.mtu < lb.MinMTU {
		return lb.Server{Name: n.Name}, fmt.Sprintf("the way to %s takes packets up to %d bytes only, %d are needed", n.Addr, hop.mtu, lb.MinMTU)
	}
	return lb.Server{Name: n.Name, Mode: lb.IPIP, MAC: hop.mac, Addr: n.Addr, MTU: hop.mtu}, fmt.Sprintf("%s via %s", n.Addr, hop.addr)
}

// specEqual reports whether two specs come to the same tables.
func specEqual(a, b *lb.Spec) bool {
	return a.Node == b.Node && a.Key == b.Key && slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Peers, b.Peers) &&
		slices.Equal(a.VIPs, b.VIPs) && slices.EqualFunc(a.Groups, b.Groups, func(x, y lb.Group) bool {
		return x.Ring == y.Ring && x.Other == y.Other && slices.Equal(x.Gone, y.Gone)
	})
}
