package bpf

import (
	"fmt"
	"slices"
	"time"

	"anyedge/bpf/lb"
)

// More packets a second than maxAbroad that nobody here knows are no routes that
// moved: for floodPause nothing goes to another geo, and the kernel answers.
const (
	maxAbroad  = 200_000
	floodPause = 10 * time.Second
)

// describeFar adds the VIPs and the machines of other geos to s, and says how
// those are reached that packets may go to.
func (p *port) describeFar(s *lb.Spec, want *State) []Way {
	abroad := map[string]bool{}
	for _, a := range want.Abroad {
		abroad[a.Node] = true
	}
	taken := map[string]bool{}
	for _, x := range s.Peers {
		taken[x.Addr.String()] = true
	}
	var ways []Way
	usable := map[string]bool{}
	for _, n := range want.Far {
		if !n.Addr.Is4() || n.Addr == p.addr || taken[n.Addr.String()] {
			if abroad[n.Name] {
				ways = append(ways, Way{n.Name, "", fmt.Sprintf("its address %s is also that of a machine here", n.Addr)})
			}
			continue
		}
		if len(s.Peers) < lb.MaxPeers {
			taken[n.Addr.String()] = true
			s.Peers = append(s.Peers, lb.Peer{Addr: n.Addr})
		}
		if abroad[n.Name] {
			server, text := p.wayRouted(n)
			usable[n.Name] = true
			s.Servers = append(s.Servers, server)
			ways = append(ways, Way{n.Name, modeName(server.Mode), text})
		}
	}
	for _, a := range p.path.setup.VIPs {
		v := lb.VIP{Addr: a}
		i := slices.IndexFunc(want.Abroad, func(x Abroad) bool { return x.VIP == a })
		if i >= 0 && usable[want.Abroad[i].Node] && p.flooded.IsZero() {
			v.Abroad = want.Abroad[i].Node
		}
		s.VIPs = append(s.VIPs, v)
	}
	return ways
}

// count stops what is sent to other geos while it is too much.
func (p *port) count(now time.Time) {
	if !p.flooded.IsZero() && now.After(p.flooded) {
		p.flooded = time.Time{}
	}
	prog := p.program()
	if prog == nil {
		p.counted = time.Time{}
		return
	}
	c, err := prog.Counters()
	if err != nil {
		return
	}
	n := c.Reasons[lb.ToAbroad].Packets
	took := now.Sub(p.counted).Seconds()
	if !p.counted.IsZero() && n > p.abroad && float64(n-p.abroad) > maxAbroad*took && p.flooded.IsZero() {
		p.flooded = now.Add(floodPause)
		p.path.log.Warn("a flood of packets that nobody here knows; none goes to another geo for some time",
			"interface", p.name, "packets", n-p.abroad, "seconds", took, "pause", floodPause)
	}
	p.abroad, p.counted = n, now
}
