package dnsserver

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"anyedge/internal/world"
)

// header returns the start of a record; owner is spelled as it was asked for,
// since a resolver may look for its own spelling.
func header(owner string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// address returns the A or AAAA record of ip.
func address(owner string, ip netip.Addr) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: header(owner, dns.TypeA), A: net.IP(ip.AsSlice())}
	}
	return &dns.AAAA{Hdr: header(owner, dns.TypeAAAA), AAAA: net.IP(ip.AsSlice())}
}

// appendAddress appends the record of ip when its type is the one asked for.
func appendAddress(to []dns.RR, q dns.Question, ip netip.Addr) []dns.RR {
	if rr := address(q.Name, ip); rr.Header().Rrtype == q.Qtype {
		return append(to, rr)
	}
	return to
}

// addressLabel names an address in one label. It starts with a digit, so it is
// nobody's name: 4-10-0-1-11, or 6- and all eight groups.
func addressLabel(ip netip.Addr) string {
	if ip.Is4() {
		return "4-" + strings.ReplaceAll(ip.String(), ".", "-")
	}
	return "6-" + strings.ReplaceAll(ip.WithZone("").StringExpanded(), ":", "-")
}

// self is the server's name: that of its address.
func (s *Server) self() string { return addressLabel(s.addr.Addr()) + "." + zone }

// soa returns the zone's SOA, its owner spelled like the end of the question's
// name. The serial is the snapshot's time; nobody transfers the zone, so it is
// for people.
func (s *Server) soa(asked string) dns.RR {
	return &dns.SOA{
		Hdr: header(asked[len(asked)-len(zone):], dns.TypeSOA),
		Ns:  s.self(), Mbox: "hostmaster." + zone, Serial: uint32(s.src.World().At.Unix()),
		Refresh: 60, Retry: 10, Expire: 600, Minttl: ttl, // seconds
	}
}

// geos returns one record for every geo, this one first: its name, its state
// and the round-trip time to it.
func geos(w *world.World, owner string) []dns.RR {
	var out []dns.RR
	for i := range w.Geos {
		g := &w.Geos[i]
		rtt := "-"
		if g.RTT > 0 || g.Name == w.Geo {
			rtt = fmt.Sprintf("%.1fms", g.RTT.Seconds()*1000)
		}
		out = append(out, &dns.TXT{Hdr: header(owner, dns.TypeTXT), Txt: []string{g.Name + " " + state(g, w) + " " + rtt}})
	}
	return out
}

// state is one word for how a geo is, as edgectl shows it.
func state(g *world.Geo, w *world.World) string {
	if g.Name != w.Geo && !g.Alive {
		return "unseen"
	}
	for _, o := range w.Orders {
		if o.Kind == world.DrainGeo && o.Target == g.Name {
			return "draining"
		}
	}
	if g.Load.ShedOut >= 1 {
		return "shedding"
	}
	return "up"
}
