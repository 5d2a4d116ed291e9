package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"anyedge/bpf"
	"anyedge/bpf/lb"
	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// l4Weight is every node's share of the ring: machines of a geo count alike.
const l4Weight = 1

// wireL4 makes the packet path, if the configuration has one.
func (n *node) wireL4(k keys, off bool) error {
	if !n.cfg.L4.On() || off {
		return nil
	}
	setup := bpf.Setup{
		Config: *n.cfg.L4, Interfaces: n.cfg.Node.Interfaces, Node: n.name,
		Key: [2]uint64{binary.LittleEndian.Uint64(k.l4[:8]), binary.LittleEndian.Uint64(k.l4[8:16])},
	}
	for _, v := range n.cfg.VIPs {
		if v.In(n.geo, n.cfg.Groups) {
			setup.VIPs = append(setup.VIPs, v.Addresses...)
		}
	}
	var err error
	if n.path, err = bpf.New(setup, part(n.log, "l4")); err != nil {
		return fmt.Errorf("l4: %w", err)
	}
	return nil
}

// l4Record is what this node tells the others of its packet path; nil when it
// has none, or nobody could reach it.
func (n *node) l4Record(p *steering.Plan) *world.L4Record {
	if n.path == nil {
		return nil
	}
	self := n.path.Self()
	if !self.Addr.IsValid() {
		return nil
	}
	return &world.L4Record{
		Addr: self.Addr, MAC: self.MAC.String(), Weight: l4Weight, Applied: self.Applied,
		Ready:  self.Up && !n.stopping.Load() && serving(p),
		Strays: self.Up && n.cfg.L4.FollowsStrays() && n.straysRefused() == "",
	}
}

// straysRefused says why other geos are not asked to bring packets of this
// node's connections: nothing shows that they reach the address of its packet
// path, or "".
func (n *node) straysRefused() string {
	mine := n.path.Self().Addr
	g := n.world().Self()
	i := slices.IndexFunc(g.Nodes, func(x world.Node) bool { return x.Name == n.name })
	if !mine.IsValid() || i < 0 {
		return ""
	}
	return strayAddress(mine, g.Nodes[i].Addr.Addr().Unmap())
}

// strayAddress says why others cannot be asked to send to a packet path's address,
// from what is known of the fabric's; "" when they can.
func strayAddress(path, fabric netip.Addr) string {
	switch {
	case path == fabric:
		return ""
	case fabric.Is4():
		return fmt.Sprintf("other geos reach this node at %s, its packet path is at %s: give node.fabric an address of the first of node.interfaces", fabric, path)
	case path.IsPrivate() || !path.IsGlobalUnicast():
		return fmt.Sprintf("its packet path is at %s, where no other geo can reach it: give the first of node.interfaces a public IPv4 address", path)
	}
	return ""
}

// serving reports whether no VIP of this node lacks what it cannot serve
// without: listeners that accept, a request path that runs.
func serving(p *steering.Plan) bool {
	for i := range p.VIPs {
		for _, s := range p.VIPs[i].Gate {
			if s.Hard && !s.OK {
				return false
			}
		}
	}
	return len(p.VIPs) > 0
}

// followRing makes the packet path follow what this geo's nodes have agreed on,
// and look for connections in other geos.
func (n *node) followRing(w *world.World, p *steering.Plan) {
	if n.path == nil {
		return
	}
	g := w.Self()
	var s bpf.State
	for i := range g.Nodes {
		m := &g.Nodes[i]
		if m.Record == nil || m.Record.L4 == nil {
			continue
		}
		if x := pathNode(m, m.Name); x.MAC != (lb.MAC{}) {
			s.Nodes = append(s.Nodes, x)
		}
	}
	if r := g.Ring; r != nil {
		s.Generation = r.Generation
		for _, m := range r.Members {
			s.Members = append(s.Members, bpf.Member{Name: m.Node, Weight: m.Weight})
		}
		for _, m := range r.Other {
			s.Other = append(s.Other, bpf.Member{Name: m.Node, Weight: m.Weight})
			if m.Gone {
				s.Gone = append(s.Gone, m.Node)
			}
		}
	}
	if p.Strays != nil {
		s.Far, s.Abroad = n.far(w, p)
	}
	n.path.Follow(s)
}

// pathNode is where a node's packet path is, as its record says; the MAC is zero
// when that is none.
func pathNode(m *world.Node, name string) bpf.Node {
	x := bpf.Node{Name: name, Addr: m.Record.L4.Addr}
	if mac, err := net.ParseMAC(m.Record.L4.MAC); err == nil && len(mac) == len(lb.MAC{}) {
		x.MAC = lb.MAC(mac)
	}
	return x
}

// far lists the machines of other geos that take part in the search for
// connections, and where this node looks.
func (n *node) far(w *world.World, p *steering.Plan) (nodes []bpf.Node, abroad []bpf.Abroad) {
	name := func(m *world.Node) string { return m.Geo + "/" + m.Name }
	for i := range w.Geos {
		if w.Geos[i].Name == n.geo {
			continue
		}
		for j := range w.Geos[i].Nodes {
			m := &w.Geos[i].Nodes[j]
			if m.Record != nil && m.Record.L4 != nil && m.Record.L4.Strays {
				nodes = append(nodes, pathNode(m, name(m)))
			}
		}
	}
	for _, s := range p.Strays {
		target := n.strayTarget(w, &s)
		for _, v := range n.cfg.VIPs {
			if v.Name != s.VIP || target == nil {
				continue
			}
			for _, a := range v.Addresses {
				abroad = append(abroad, bpf.Abroad{VIP: a, Node: name(target)})
			}
		}
	}
	return nodes, abroad
}

// strayTarget returns the node that this one looks for connections at; nil: none.
func (n *node) strayTarget(w *world.World, s *steering.StrayPlan) *world.Node {
	g := w.Find(s.Geo)
	if g == nil {
		return nil
	}
	return steering.StrayTarget(g, n.cfg.Node.Number)
}

// inRing reports whether this node still has a share that others could take: a
// stopping one waits until it has none.
func (n *node) inRing(p *steering.Plan) bool {
	return n.path != nil && p.Ring != nil && p.Ring.Holds(n.name)
}

// parseFlow reads what `edgectl l4 trace` names a flow by.
func parseFlow(src, dst, proto string) (lb.Flow, error) {
	f := lb.Flow{Proto: 6}
	switch proto {
	case "tcp":
	case "udp":
		f.Proto = 17
	default:
		return f, fmt.Errorf("protocol %q: want tcp or udp", proto)
	}
	var err error
	if f.Src, err = netip.ParseAddrPort(src); err != nil {
		return f, fmt.Errorf("source %q: want ADDRESS:PORT", src)
	}
	if f.Dst, err = netip.ParseAddrPort(dst); err != nil {
		return f, fmt.Errorf("destination %q: want ADDRESS:PORT", dst)
	}
	if f.Src.Addr().Is4() != f.Dst.Addr().Is4() {
		return f, fmt.Errorf("%s and %s are not of one family", src, dst)
	}
	return f, nil
}
