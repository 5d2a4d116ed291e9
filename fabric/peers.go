package fabric

import (
	"time"

	"anyedge/internal/world"
)

// PeerState is what this node makes of another.
type PeerState string

// States of a peer.
const (
	Up       PeerState = "up"   // probes are answered
	Down     PeerState = "down" // they are not
	GoneAway PeerState = "left" // it said goodbye
)

// A PeerStatus is what this node knows of another and of the path to it.
type PeerStatus struct {
	Node      string
	Geo       string
	Addr      string // where this node reaches it
	State     PeerState
	RTT       time.Duration // 0: never measured
	Loss      float64       // share of the last probes, 0-1
	Conns     int
	BytesIn   uint64 // of the open connections
	BytesOut  uint64
	Requests  uint64    // sent to it
	InFlight  int64     // of them
	Served    uint64    // answered for it
	Seen      time.Time // when its last probe came; zero: never
	Since     time.Time // of State; zero: it was never up
	Software  string
	Member    world.Status // what membership says; "" when it is no member
	Hears     bool         // its last probe or echo said that it hears this node's
	LastError string
}

// Peers returns every other node that was ever heard of, by name.
func (f *Fabric) Peers() []PeerStatus {
	now := time.Now()
	var list []PeerStatus
	for _, r := range f.roster.all() {
		list = append(list, r.peerStatus(now))
	}
	return list
}

func (r *remote) peerStatus(now time.Time) PeerStatus {
	links := r.links()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := PeerStatus{
		Node: r.name, Geo: r.geo, State: Down, RTT: r.pulse.least, Loss: r.pulse.loss(now), Conns: len(links),
		Requests: r.requests, Served: r.served, Seen: r.heard, Since: r.pulse.turned, Software: r.software,
		Member: r.status, Hears: r.hears, LastError: r.lastErr,
	}
	switch {
	case r.pulse.alive:
		s.State = Up
	case r.status == world.Left:
		s.State, s.Since = GoneAway, r.since
	}
	if via, ok := r.f.via[r.name]; ok {
		s.Addr = via.String()
	} else if r.addr.IsValid() {
		s.Addr = r.addr.String()
	} else if r.seed.IsValid() {
		s.Addr = r.seed.String()
	}
	for _, l := range links {
		stats := l.conn.ConnectionStats()
		s.BytesIn += stats.BytesReceived
		s.BytesOut += stats.BytesSent
		s.InFlight += l.requests.Load()
	}
	return s
}
