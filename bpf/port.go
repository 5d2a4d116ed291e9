package bpf

import (
	"errors"
	"fmt"
	"net"
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
	addr    netip.Addr     // the first IPv4 one
	onLink  []netip.Prefix // IPv4

	prog     atomic.Pointer[lb.Program]
	attached *lb.Attachment
	applied  uint64 // generation of the last State applied; 0: none
	spec     *lb.Spec
	ways     []Way
	failure  string    // why it is not attached
	next     time.Time // when that is tried again
	rings    rings
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
	if err != nil {
		p.missing = fmt.Errorf("interface %s: %w; `ip link` lists what there is", p.name, err)
		return
	}
	attrs := link.Attrs()
	if p.index != 0 && p.index != attrs.Index { // another one of that name
		p.close()
	}
	p.missing, p.index, p.mtu = nil, attrs.Index, attrs.MTU
	copy(p.mac[:], attrs.HardwareAddr)
	list, err := netlink.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
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

// follow brings the interface to what is wanted.
func (p *port) follow(now time.Time, want *State) {
	if p.missing != nil {
		p.fail(now, p.missing)
		return
	}
	spec, ways := p.describe(want)
	if p.attached == nil {
		if now.Before(p.next) {
			return
		}
		if err := p.attach(spec); err != nil {
			p.fail(now, err)
			return
		}
		p.applied, p.spec, p.ways, p.failure = want.Generation, spec, ways, ""
		p.path.log.Info("packet path attached", "interface", p.name, "mode", string(p.attached.Mode))
		return
	}
	if p.spec != nil && specEqual(p.spec, spec) && p.applied == want.Generation {
		return
	}
	if err := p.program().Apply(spec); err != nil {
		p.path.log.Error("packet path not changed, the last state stays", "interface", p.name, "err", err)
		return
	}
	p.applied, p.spec, p.ways = want.Generation, spec, ways
}

// attach loads the program with its state and puts it on the interface.
func (p *port) attach(spec *lb.Spec) error {
	prog, err := lb.Load()
	if err != nil {
		return err
	}
	if err := prog.Apply(spec); err != nil {
		return errors.Join(err, prog.Close())
	}
	a, err := prog.Attach(p.name, p.path.setup.Config.mode())
	if err != nil {
		return errors.Join(err, prog.Close())
	}
	p.attached = a
	p.prog.Store(prog)
	return nil
}

// fail says once why the interface has no program, and sets the next try.
func (p *port) fail(now time.Time, err error) {
	if text := oneLine(err); text != p.failure {
		p.failure = text
		p.path.log.Error("no packet path here; edged serves on without it", "interface", p.name, "err", text)
	}
	p.applied, p.next = 0, now.Add(retryEvery)
}

// oneLine is the error's first line: a verifier says thousands.
func oneLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}

func (p *port) close() {
	if p.attached != nil {
		_ = p.attached.Close() // the interface may be gone
		p.attached = nil
	}
	if prog := p.prog.Swap(nil); prog != nil {
		_ = prog.Close()
	}
	p.spec, p.applied = nil, 0
}

func (p *port) status() Interface {
	i := Interface{Name: p.name, Error: p.failure, Addr: p.addr, Applied: p.applied, Ways: p.ways}
	if p.attached != nil {
		i.Mode, i.Error = p.attached.Mode, ""
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
	for _, a := range p.path.setup.VIPs {
		s.VIPs = append(s.VIPs, lb.VIP{Addr: a})
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
	return s, ways
}

func modeName(m lb.Mode) string {
	switch m {
	case lb.L2:
		return ForwardL2
	case lb.IPIP:
		return ForwardIPIP
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
	mac, gateway, err := p.gateway(n.Addr)
	if err != nil {
		return lb.Server{Name: n.Name}, err.Error()
	}
	return lb.Server{Name: n.Name, Mode: lb.IPIP, MAC: mac, Addr: n.Addr, MTU: p.mtu}, fmt.Sprintf("%s via %s", n.Addr, gateway)
}

// gateway returns the next hop's MAC on the way to a node behind a router.
func (p *port) gateway(to netip.Addr) (lb.MAC, netip.Addr, error) {
	routes, err := netlink.RouteGet(to.AsSlice())
	if err != nil || len(routes) == 0 {
		return lb.MAC{}, netip.Addr{}, fmt.Errorf("no route to %s", to)
	}
	r := routes[0]
	if r.LinkIndex != p.index {
		return lb.MAC{}, netip.Addr{}, fmt.Errorf("the route to %s does not leave by %s", to, p.name)
	}
	gateway, ok := netip.AddrFromSlice(r.Gw.To4())
	if !ok {
		gateway = to
	}
	list, err := netlink.NeighList(p.index, netlink.FAMILY_V4)
	if err != nil {
		return lb.MAC{}, gateway, fmt.Errorf("neighbors of %s: %w", p.name, err)
	}
	const usable = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT
	for _, n := range list {
		if ip, ok := netip.AddrFromSlice(n.IP.To4()); ok && ip == gateway && n.State&usable != 0 && len(n.HardwareAddr) == 6 {
			return lb.MAC(n.HardwareAddr), gateway, nil
		}
	}
	ask(gateway)
	return lb.MAC{}, gateway, fmt.Errorf("the MAC of %s is not known yet", gateway)
}

// ask makes the kernel look for a neighbor: it sends one byte to its discard
// port (RFC 863).
func ask(a netip.Addr) {
	c, err := net.Dial("udp4", netip.AddrPortFrom(a, 9).String())
	if err != nil {
		return
	}
	_, _ = c.Write([]byte{0})
	_ = c.Close()
}

// specEqual reports whether two specs come to the same tables.
func specEqual(a, b *lb.Spec) bool {
	return a.Node == b.Node && a.Key == b.Key && slices.Equal(a.Servers, b.Servers) && slices.Equal(a.Peers, b.Peers) &&
		slices.Equal(a.VIPs, b.VIPs) && slices.EqualFunc(a.Groups, b.Groups, func(x, y lb.Group) bool {
		return x.Ring == y.Ring && x.Other == y.Other && slices.Equal(x.Gone, y.Gone)
	})
}
