package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"anyedge/bgp"
	"anyedge/bpf"
	"anyedge/configs"
	"anyedge/fabric"
	"anyedge/internal/host"
	"anyedge/internal/steering"
	"anyedge/proxy"
)

// Areas besides those of internal/host.
const (
	areaConfig = "config"
	areaBGP    = "bgp"
	areaFabric = "fabric"
	areaCerts  = "certs"
)

// A doctor is one examination.
type doctor struct {
	cfg     *configs.Config // nil: the machine alone
	machine host.Machine
	now     time.Time
	program func() (bpf.Program, error) // has the kernel load the packet program, once
}

// A check looks at one area.
type check struct {
	area string
	run  func(*doctor, context.Context) []host.Finding
}

// checks returns every check, in the order of the table.
func checks() []check {
	machine := func(f func(*doctor) []host.Finding) func(*doctor, context.Context) []host.Finding {
		return func(d *doctor, _ context.Context) []host.Finding { return f(d) }
	}
	return []check{
		{host.AreaKernel, machine((*doctor).kernel)},
		{host.AreaNIC, machine((*doctor).nics)},
		{host.AreaMTU, machine((*doctor).mtu)},
		{host.AreaSysctl, machine((*doctor).sysctl)},
		{host.AreaTCP, machine(func(d *doctor) []host.Finding { return d.machine.TCP() })},
		{areaBGP, (*doctor).bgp},
		{areaFabric, (*doctor).fabric},
		{areaCerts, machine((*doctor).certs)},
		{host.AreaPorts, (*doctor).ports},
		{host.AreaTime, machine(func(*doctor) []host.Finding { return []host.Finding{host.JudgeClock(host.ReadClock())} })},
		{host.AreaLimits, machine(func(*doctor) []host.Finding { return []host.Finding{host.JudgeFiles(host.ReadFiles())} })},
	}
}

// areas returns the names of all areas.
func areas() []string {
	names := []string{areaConfig}
	for _, c := range checks() {
		names = append(names, c.area)
	}
	return names
}

// finding returns a finding of an area that is not the machine's.
func finding(area string, v host.Verdict, fix, format string, args ...any) host.Finding {
	return host.Finding{Area: area, Verdict: v, Text: fmt.Sprintf(format, args...), Fix: fix}
}

// interfaces returns those that carry the default route, lead to neighbors, or
// are to have the packet path.
func (d *doctor) interfaces() ([]string, error) {
	names, err := host.DefaultInterfaces()
	for _, n := range d.neighbors() {
		name, rerr := host.InterfaceTo(n.Address)
		if rerr == nil && !slices.Contains(names, name) { // no way to it: the bgp check says so
			names = append(names, name)
		}
	}
	for _, name := range d.l4Interfaces() {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return slices.DeleteFunc(names, func(name string) bool { return name == "lo" }), err
}

func (d *doctor) neighbors() []bgp.NeighborConfig {
	if d.cfg == nil || d.cfg.BGP == nil || d.cfg.Node == nil || d.cfg.Node.BGP == nil {
		return nil
	}
	return d.cfg.Node.BGP.Neighbors
}

// eachNIC judges every interface that matters.
func (d *doctor) eachNIC(area string, judge func(host.NIC) []host.Finding) []host.Finding {
	names, err := d.interfaces()
	var out []host.Finding
	if err != nil {
		out = append(out, finding(area, host.Warn, "", "interfaces unknown: %v", err))
	} else if len(names) == 0 {
		out = append(out, finding(area, host.Warn, "", "no interface to look at: there is no default route and no neighbor behind one"))
	}
	for _, name := range names {
		n, err := host.ReadNIC(name)
		if err != nil {
			out = append(out, d.unread(area, name, err))
			continue
		}
		out = append(out, judge(n)...)
	}
	return out
}

// bgp connects to every neighbor.
func (d *doctor) bgp(ctx context.Context) []host.Finding {
	if len(d.neighbors()) == 0 {
		return nil
	}
	var out []host.Finding
	for _, r := range bgp.CheckReach(ctx, *d.cfg.BGP, *d.cfg.Node.BGP) {
		switch {
		case r.Err == nil:
			out = append(out, finding(areaBGP, host.OK, "", "%s %s reachable by TCP", r.Neighbor, r.Address))
		case errors.Is(r.Err, bgp.ErrNotPermitted):
			out = append(out, finding(areaBGP, host.Warn, r.Hint, "%s %s not tried: %v", r.Neighbor, r.Address, r.Err))
		default:
			out = append(out, finding(areaBGP, host.Fail, r.Hint, "%s %s: %v", r.Neighbor, r.Address, r.Err))
		}
	}
	return out
}

// fabric reads this node's keys and greets the other geos.
func (d *doctor) fabric(ctx context.Context) []host.Finding {
	if d.cfg == nil || d.cfg.Fabric == nil || d.cfg.Node == nil || d.cfg.Node.Fabric == nil {
		return nil
	}
	name, err := d.cfg.NodeName()
	if err != nil {
		return []host.Finding{finding(areaFabric, host.Fail, "give node.name", "%v", err)}
	}
	id, problems := fabric.CheckFiles(*d.cfg.Fabric, *d.cfg.Node.Fabric, d.cfg.Geo(), name, d.now)
	var out []host.Finding
	if id != nil {
		out = append(out, finding(areaFabric, host.OK, "", "this node is %s, its certificate ends on %s", id.Peer, id.Leaf.NotAfter.UTC().Format(time.DateOnly)))
	}
	for _, p := range problems {
		f := finding(areaFabric, host.Warn, p.Hint, "%v", p.Err)
		if p.Grave {
			f.Verdict = host.Fail
		}
		if p.Exposed != "" {
			f.Script = []string{"chmod 600 " + host.Quote(p.Exposed)}
		}
		out = append(out, f)
	}
	for _, r := range fabric.CheckReach(ctx, id, *d.cfg.Node.Fabric, d.cfg.Geo(), d.cfg.Geos) {
		out = append(out, reached(r))
	}
	return out
}

// reached judges the way to one address of the fabric.
func reached(r fabric.Reach) host.Finding {
	who := strings.TrimSpace(r.Geo + r.Node + " " + r.Address)
	if r.Err != nil {
		return finding(areaFabric, host.Fail, r.Hint, "%s: %v", who, r.Err)
	}
	says := "answers; its certificate was not looked at, for this node has none"
	if r.Peer != (fabric.Peer{}) {
		says = "answers as " + r.Peer.String()
	}
	route := "the route's MTU is unknown"
	if r.MTU > 0 {
		route = fmt.Sprintf("the route's MTU is %d", r.MTU)
	}
	switch {
	case r.Size == 0:
		return finding(areaFabric, host.Warn, "", "%s %s; how large packets may be is unknown, %s", who, says, route)
	case r.Size < r.Full:
		return finding(areaFabric, host.Warn, "see that ICMP \"too big\" passes, or lower the MTU of the route",
			"%s %s, but no packet with more than %d B of UDP payload, though %s", who, says, r.Size, route)
	}
	return finding(areaFabric, host.OK, "", "%s %s; %d B of UDP payload pass, %s", who, says, r.Size, route)
}

// certs reads what listeners present.
func (d *doctor) certs() []host.Finding {
	if d.cfg == nil {
		return nil
	}
	var out []host.Finding
	for _, c := range proxy.CheckCertificates(d.cfg.Certificates, d.now) {
		switch {
		case errors.Is(c.Err, proxy.ErrNotPermitted):
			out = append(out, finding(areaCerts, host.Warn, c.Hint, "%s: %v", c.Name, c.Err))
		case c.Err != nil:
			out = append(out, finding(areaCerts, host.Fail, c.Hint, "%s: %v", c.Name, c.Err))
		case c.Doubt != nil:
			out = append(out, finding(areaCerts, host.Warn, c.Hint, "%s: %v", c.Name, c.Doubt))
		case c.SelfSigned:
			out = append(out, finding(areaCerts, host.OK, "", "%s is self-signed: clients need the development CA", c.Name))
		default:
			out = append(out, finding(areaCerts, host.OK, "", "%s until %s", c.Name, c.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return out
}

// ports judges every address that edged would bind.
func (d *doctor) ports(ctx context.Context) []host.Finding {
	wanted := d.wanted()
	if len(wanted) == 0 {
		return nil
	}
	sockets, err := d.machine.Sockets()
	if err != nil {
		return []host.Finding{finding(host.AreaPorts, host.Warn, "", "sockets unknown: %v", err)}
	}
	out, foreign := d.foreign(ctx)
	for _, p := range wanted {
		if slices.Contains(foreign, p.Address.Addr()) {
			continue
		}
		local, err := host.IsLocal(p.Address.Addr())
		if err != nil {
			out = append(out, finding(host.AreaPorts, host.Warn, "", "%s (%s) unknown: %v", p, p.For, err))
			continue
		}
		out = append(out, d.machine.Port(p, sockets, local, "edged"))
	}
	return out
}

// wanted returns the addresses that the configuration binds.
func (d *doctor) wanted() []host.Port {
	if d.cfg == nil {
		return nil
	}
	var out []host.Port
	add := func(network, who string, a netip.AddrPort) {
		out = append(out, host.Port{Network: network, Address: a, For: who, VIP: d.isVIP(a.Addr()), Adds: d.adds(a.Addr())})
	}
	for _, l := range d.cfg.Listeners {
		h3 := slices.Contains(l.Protocols, "h3")
		for _, a := range d.cfg.ListenerAddresses(l) {
			if h3 {
				add(host.UDP, "listener "+l.Name, a)
			}
			if !h3 || len(l.Protocols) > 1 {
				add(host.TCP, "listener "+l.Name, a)
			}
		}
	}
	d.wantedByNode(add)
	return out
}

// wantedByNode adds the addresses that are no listeners'.
func (d *doctor) wantedByNode(add func(network, who string, a netip.AddrPort)) {
	n := d.cfg.Node
	if n == nil {
		return
	}
	if n.BGP != nil {
		for _, a := range bgp.ListenAddresses(*n.BGP) {
			add(host.TCP, "node.bgp", a)
		}
	}
	if n.Fabric != nil {
		if a, err := netip.ParseAddrPort(n.Fabric.Listen); err == nil {
			add(host.UDP, "node.fabric", a)
		}
	}
	if n.DNS != nil {
		if a, err := netip.ParseAddrPort(n.DNS.Listen); err == nil {
			add(host.UDP, "node.dns", a)
			add(host.TCP, "node.dns", a)
		}
	}
}

// isVIP reports whether a is an address of a VIP.
func (d *doctor) isVIP(a netip.Addr) bool {
	return slices.ContainsFunc(d.cfg.VIPs, func(v steering.VIPConfig) bool { return slices.Contains(v.Addresses, a) })
}
