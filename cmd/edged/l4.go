package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

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
		Ready: self.Up && !n.stopping.Load() && serving(p),
	}
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

// followRing makes the packet path follow what this geo's nodes have agreed on.
func (n *node) followRing(w *world.World) {
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
		if mac, err := net.ParseMAC(m.Record.L4.MAC); err == nil && len(mac) == len(lb.MAC{}) {
			s.Nodes = append(s.Nodes, bpf.Node{Name: m.Name, Addr: m.Record.L4.Addr, MAC: lb.MAC(mac)})
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
	n.path.Follow(s)
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
