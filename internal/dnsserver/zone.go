package dnsserver

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

const (
	zone = "internal."
	ttl  = 1 // seconds, of records and of their absence

	// maxRecords bounds an answer: what is more would not fit into a message.
	// The next answer starts elsewhere.
	maxRecords = 1000
)

// An answer is what the zone says to one question.
type answer struct {
	rcode                    int
	ours                     bool // the name is in the zone
	answer, authority, extra []dns.RR

	// For people, when note is not empty (RFC 8914).
	code uint16
	note string
}

// A name is one name of the zone and the records that a question found there.
type name struct {
	exists  bool
	pending bool // whether it has records will be known soon
	records []dns.RR
	extra   []dns.RR
	note    string
}

// lookup answers q.
func (s *Server) lookup(q dns.Question) answer {
	labels := dns.SplitDomainName(strings.ToLower(q.Name))
	switch {
	case q.Qclass != dns.ClassINET:
		return answer{rcode: dns.RcodeRefused, code: dns.ExtendedErrorCodeNotSupported, note: "the class is IN alone"}
	case len(labels) == 0 || labels[len(labels)-1]+"." != zone:
		return answer{rcode: dns.RcodeRefused, code: dns.ExtendedErrorCodeNotAuthoritative, note: "this server knows the zone " + zone + " alone"}
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR:
		return answer{rcode: dns.RcodeRefused, code: dns.ExtendedErrorCodeProhibited, note: "the zone is not transferred"}
	}
	n := s.find(labels[:len(labels)-1], q)
	a := answer{ours: true, answer: n.records, extra: n.extra, note: n.note, code: dns.ExtendedErrorCodeOther}
	switch {
	case !n.exists:
		a.rcode, a.authority = dns.RcodeNameError, []dns.RR{s.soa(q.Name)}
	case n.pending:
		return answer{rcode: dns.RcodeServerFailure, ours: true, code: dns.ExtendedErrorCodeNotReady, note: "the backends have not been checked yet"}
	case q.Qtype == dns.TypeANY: // RFC 8482 section 4.2
		a.answer, a.extra = []dns.RR{&dns.HINFO{Hdr: header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}, nil
	case len(n.records) == 0:
		a.authority = []dns.RR{s.soa(q.Name)}
	}
	return a
}

// find returns the name that stands before the zone's, and its records of the
// type asked for.
func (s *Server) find(labels []string, q dns.Question) name {
	switch len(labels) {
	case 0:
		return s.apex(q)
	case 1:
		return s.child(labels[0], q)
	case 2:
		return s.grandchild(labels[0], labels[1], q)
	}
	return name{}
}

// apex returns the zone's own records.
func (s *Server) apex(q dns.Question) name {
	n := name{exists: true}
	switch q.Qtype {
	case dns.TypeSOA:
		n.records = []dns.RR{s.soa(q.Name)}
	case dns.TypeNS:
		n.records = []dns.RR{&dns.NS{Hdr: header(q.Name, dns.TypeNS), Ns: s.self()}}
		n.extra = []dns.RR{address(s.self(), s.addr.Addr())}
	}
	return n
}

// child returns the records of LABEL.internal: a service, geos, or the
// server's own name, which no service can have. A service may be called geos.
func (s *Server) child(label string, q dns.Question) name {
	var n name
	if svc := service(s.src.Services(), label); svc != nil {
		n = svc.name(q)
	}
	if label == "geos" {
		n.exists = true
		if q.Qtype == dns.TypeTXT {
			n.records = geos(s.src.World(), q.Name)
		}
	}
	if own := s.addr.Addr(); label == addressLabel(own) {
		n.exists = true
		n.records = appendAddress(n.records, q, own)
	}
	return n
}

// grandchild returns the records of LABEL.SERVICE.internal: a geo's service, or
// the address of a backend, named so by SRV records, which stays while the
// backend is ill.
func (s *Server) grandchild(label, serviceName string, q dns.Question) name {
	svc := service(s.src.Services(), serviceName)
	if svc == nil {
		return name{}
	}
	for _, b := range svc.Backends {
		if addressLabel(b.Address.Addr()) == label {
			return name{exists: true, records: appendAddress(nil, q, b.Address.Addr())}
		}
	}
	for _, g := range s.src.World().Geos {
		if g.Name == label {
			return svc.in(label, q)
		}
	}
	return name{}
}

// in returns what the name of the service in one geo has for q: where this edge
// takes calls of it. The target of an SRV record is the name itself, for it is
// the host that a request must have.
func (a *ServiceAnswer) in(geo string, q dns.Question) name {
	if len(a.Private) == 0 {
		return name{note: fmt.Sprintf("no private listener here has %s: calls of it in %s by name need one", a.Name, geo)}
	}
	n := name{exists: true}
	for _, at := range a.Private {
		switch q.Qtype {
		case dns.TypeA, dns.TypeAAAA:
			n.records = appendAddress(n.records, q, at.Addr())
		case dns.TypeSRV:
			n.extra = append(n.extra, address(q.Name, at.Addr()))
		}
	}
	if q.Qtype == dns.TypeSRV {
		n.records = []dns.RR{&dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Weight: 1, Port: a.Private[0].Port(), Target: q.Name}}
	}
	return n
}

func service(all []ServiceAnswer, label string) *ServiceAnswer {
	for i := range all {
		if all[i].Name == label {
			return &all[i]
		}
	}
	return nil
}

// name returns what the service's name has for q.
func (a *ServiceAnswer) name(q dns.Question) name {
	n := name{exists: true}
	if a.LeftOut > 0 {
		n.note = fmt.Sprintf("backends of %s left out, for their URLs have no IP address: %d of %d", a.Name, a.LeftOut, a.LeftOut+len(a.Backends))
	}
	switch q.Qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeANY:
	default:
		return n
	}
	healthy := a.healthy()
	if len(healthy) == 0 {
		n.pending = !a.Reported
		n.note = cmp.Or(n.note, fmt.Sprintf("no backend of %s is healthy here", a.Name))
		return n
	}
	seen := map[netip.Addr]bool{}
	for _, b := range healthy {
		ip := b.Address.Addr()
		if q.Qtype == dns.TypeSRV {
			target := addressLabel(ip) + "." + a.Name + "." + zone
			n.records = append(n.records, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Weight: b.Weight, Port: b.Address.Port(), Target: target})
			if !seen[ip] {
				n.extra = append(n.extra, address(target, ip))
			}
		} else if !seen[ip] {
			n.records = appendAddress(n.records, q, ip)
		}
		seen[ip] = true
	}
	return n
}

// healthy returns the healthy backends, starting at a random one.
func (a *ServiceAnswer) healthy() []Backend {
	var out []Backend
	for _, b := range a.Backends {
		if b.Healthy {
			out = append(out, b)
		}
	}
	if len(out) == 0 {
		return nil
	}
	first := rand.IntN(len(out)) //nolint:gosec // spreads load, hides nothing
	return append(out[first:len(out):len(out)], out[:first]...)[:min(len(out), maxRecords)]
}
