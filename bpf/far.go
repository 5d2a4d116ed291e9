package bpf

import (
	"fmt"
	"net/netip"
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
	taken := map[netip.Addr]string{p.addr: p.path.setup.Node}
	for _, n := range want.Nodes {
		taken[n.Addr] = n.Name
	}
	var ways []Way
	usable := map[string]bool{}
	for _, n := range want.Far {
		why := p.strange(n, taken)
		if why == "" && len(s.Peers) < lb.MaxPeers {
			taken[n.Addr] = n.Name
			s.Peers = append(s.Peers, lb.Peer{Addr: n.Addr, Far: true})
		}
		if !abroad[n.Name] {
			continue
		}
		server := lb.Server{Name: n.Name}
		if why == "" && p != p.path.ports[0] {
			why = "packets for other geos leave by " + p.path.ports[0].name + " alone, whose address they know"
		}
		if why == "" {
			server, why = p.wayRouted(n)
			s.Servers = append(s.Servers, server)
			usable[n.Name] = true
		}
		ways = append(ways, Way{n.Name, modeName(server.Mode), why})
	}
	for _, a := range p.path.setup.VIPs {
		v := lb.VIP{Addr: a}
		i := slices.IndexFunc(want.Abroad, func(x Abroad) bool { return x.VIP == a })
		if i >= 0 && usable[want.Abroad[i].Node] && p.flood.until.IsZero() {
			v.Abroad = want.Abroad[i].Node
		}
		s.VIPs = append(s.VIPs, v)
	}
	return ways
}

// strange says why a machine of another geo can be none; "" when it can.
func (p *port) strange(n Node, taken map[netip.Addr]string) string {
	switch other, twice := taken[n.Addr]; {
	case !n.Addr.Is4():
		return "it has no IPv4 address"
	case twice:
		return fmt.Sprintf("its address %s is also that of %s", n.Addr, other)
	}
	return ""
}

// count stops what is sent to other geos while it is too much.
func (p *port) count(now time.Time) {
	prog := p.program()
	if prog == nil {
		p.flood = flood{}
		return
	}
	c, err := prog.Counters()
	if err != nil {
		return
	}
	if p.flood.see(now, c.Reasons[lb.ToAbroad].Packets) {
		p.path.log.Warn("a flood of packets that nobody here knows; none goes to another geo for some time",
			"interface", p.name, "limit", maxAbroad, "pause", floodPause)
	}
	if p.path.cookies.see(now) {
		p.flood.until = now.Add(floodPause)
	}
}

// A flood tells too many packets from routes that moved. The zero flood has seen
// nothing.
type flood struct {
	count uint64 // packets so far
	at    time.Time
	until time.Time // zero: there is none
}

// see notes how many packets there were until now, and reports whether they have
// just become too many.
func (f *flood) see(now time.Time, count uint64) (began bool) {
	if !f.until.IsZero() && now.After(f.until) {
		f.until = time.Time{}
	}
	more, took := count-f.count, now.Sub(f.at).Seconds()
	if !f.at.IsZero() && count > f.count && took > 0 && float64(more) > maxAbroad*took && f.until.IsZero() {
		f.until, began = now.Add(floodPause), true
	}
	f.count, f.at = count, now
	return began
}
