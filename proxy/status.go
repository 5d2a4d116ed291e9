package proxy

import (
	"net/netip"
	"time"

	"anyedge/proxy/discover"
	"anyedge/proxy/upstream"
)

// A ServiceStatus is what an engineer wants to know of a service here. Rates
// are requests/s over the last ten seconds.
type ServiceStatus struct {
	Name     string
	Hosts    []string
	Paths    []string
	Healthy  int
	Total    int
	Reported bool // every backend has been judged at least once

	Rate      float64
	ErrorRate float64 // share of answers that are 5xx, 0..1
	Replayed  float64 // instructions of its apps
	Shed      float64 // served elsewhere by the edge's own decision: shed and failover
	Samples   int     // answers behind P50 and P99; 0: those mean nothing
	P50, P99  time.Duration

	Active         int    // requests under way
	Received, Sent uint64 // bytes of content, of and to clients
	Totals         Totals

	Elsewhere []string // geos that could serve it, nearest first
	Backends  []BackendStatus
	Refused   []Refusal // by its limits per client, since the start
	Counts    upstream.Counts
	Discover  *discover.Status // nil: all backends are configured
}

// A BackendStatus is what an engineer wants to know of a backend. Rates are
// answers/s over the last ten seconds, without tries that another one followed.
type BackendStatus struct {
	upstream.BackendStatus
	Rate      float64
	ErrorRate float64 // share that is 5xx, or none
	Samples   int     // behind P50 and P99; 0: those mean nothing
	P50, P99  time.Duration
	Totals    Totals // without Shed and what follows
}

// A ServiceHealth is what decisions need of a service: who can serve it.
type ServiceHealth struct {
	Name     string
	Healthy  int
	Total    int
	Reported bool // every backend has been judged at least once
	Backends []upstream.BackendStatus
}

// Health returns the health of every service, in the order configured. It is
// cheap enough to be asked for with every decision.
func (p *Proxy) Health() []ServiceHealth {
	out := make([]ServiceHealth, len(p.services))
	for i, s := range p.services {
		out[i] = ServiceHealth{s.cfg.Name, s.pool.Healthy(), s.pool.Total(), s.pool.Reported(), s.pool.Status()}
	}
	return out
}

// Services returns the state of every service, in the order configured.
func (p *Proxy) Services() []ServiceStatus {
	now := time.Now()
	out := make([]ServiceStatus, len(p.services))
	for i, s := range p.services {
		sum := s.stats.summary(now)
		out[i] = ServiceStatus{
			Name: s.cfg.Name, Hosts: s.cfg.Hosts, Paths: s.paths(),
			Healthy: s.pool.Healthy(), Total: s.pool.Total(), Reported: s.pool.Reported(),
			Rate: sum.rate, ErrorRate: sum.errorRate, Replayed: sum.replayed, Shed: sum.moved,
			Samples: sum.samples, P50: sum.p50, P99: sum.p99,
			Elsewhere: p.door.Elsewhere(s.cfg.Name),
			Active:    int(s.active.Load()), Received: s.received.Load(), Sent: s.sent.Load(), Totals: s.stats.totals(),
			Backends: s.backends(now),
			Refused:  s.limits.refused(),
			Counts:   s.pool.Counts(),
			Discover: s.discovered(),
		}
	}
	return out
}

// A ListenerStatus says where a listener is bound.
type ListenerStatus struct {
	Name      string
	VIPs      []string
	Services  []string // reached through it
	Protocols []string
	TLS       bool
	Private   bool             // of this geo's apps
	Addresses []netip.AddrPort // bound; empty while it is not up
	Missing   []netip.AddrPort // of VIPs, not on this machine so far
	Up        bool             // accepts at one address at least

	Accepted    uint64 // TCP connections ever
	Handshakes  []HandshakeCount
	Requests    []RequestCount
	Connections int       // of clients, TCP and QUIC
	Arriving    int       // of them, within their handshake
	Refused     []Refusal // by every rule, since the start
}

// Listeners returns the state of every listener, in the order configured.
func (p *Proxy) Listeners() []ListenerStatus {
	out := make([]ListenerStatus, len(p.listeners))
	for i, l := range p.listeners {
		out[i] = ListenerStatus{
			Name: l.cfg.Name, VIPs: l.cfg.VIPs, Services: l.serviceNames(),
			Protocols: l.protocols, TLS: l.tls != nil, Private: l.cfg.Private,
			Accepted: l.gate.accepted.Load(), Handshakes: l.greeted.all(), Requests: l.requests.all(),
			Connections: int(l.gate.conns.Load()), Arriving: l.gate.arriving.len(), Refused: l.gate.refusals.all(),
		}
		if bound := l.bound.Load(); bound != nil {
			out[i].Addresses, out[i].Missing, out[i].Up = *bound, l.missing(), len(*bound) > 0
		}
	}
	return out
}
