// Package world holds the nouns of an edge and the immutable snapshot of
// everything that is known about all geos.
//
// A [World] is built by the fabric, read by steering, and never changed: the
// next one replaces it. Every part carries its age, because what another geo
// says is only as good as it is fresh. The package does no I/O and decides
// nothing.
package world

import (
	"net/netip"
	"time"
)

// A World is everything known about all geos at one moment, as one node sees
// it. It is immutable.
type World struct {
	At   time.Time // when the snapshot was taken
	Geo  string    // the geo of the node that took it
	Node string    // its name
	Geos []Geo     // every configured geo: this one first, then by RTT; never heard ones last

	Orders []Order // in force at At, by ID
}

// Self returns this node's geo.
func (w *World) Self() *Geo { return &w.Geos[0] }

// Find returns the geo of that name, nil when there is none.
func (w *World) Find(name string) *Geo {
	for i := range w.Geos {
		if w.Geos[i].Name == name {
			return &w.Geos[i]
		}
	}
	return nil
}

// A Geo is what is known about one PoP.
type Geo struct {
	Name   string
	Number uint8
	City   string

	Alive bool          // the probes' verdict: reachable both ways now. True for this geo
	RTT   time.Duration // to its nearest live node; 0 when never measured or this geo
	Heard time.Time     // when something last came from it; zero: never
	Load  Load          // what its probes said last; zero Load when never heard
	Nodes []Node        // by name
	Ring  *Ring         // of its packet path, as published; nil: none
}

// Load is what a geo says of itself in every probe. Rates are requests/s.
type Load struct {
	At       time.Time // when it was received (for this geo: measured)
	Capacity float64   // what the geo can serve; 0 = unknown
	Offered  float64   // demand at its own door, before any shedding
	Served   float64   // executed there, its own and foreign
	ShedOut  float64   // of Offered, sent to other geos by the edge's own decision
	ShedIn   float64   // of Served, taken from other geos' sheds
	Budget   float64   // foreign work it offers to take: (Tr - u) * Capacity
	Urgent   float64   // the same for senders in need: (Te - u) * Capacity
	Left     float64   // of its need, what found no taker
}

// Utilisation returns Offered/Capacity, 0 when the capacity is unknown.
func (l Load) Utilisation() float64 {
	if l.Capacity <= 0 {
		return 0
	}
	return l.Offered / l.Capacity
}

// A Status is what the membership says of a node.
type Status string

// What membership knows of a node.
const (
	Joined Status = "joined"
	Left   Status = "left" // said goodbye
	Lost   Status = "lost" // stopped answering
)

// A Node is one machine of a geo.
type Node struct {
	Name   string
	Geo    string
	Number uint16
	Addr   netip.AddrPort // of its fabric
	Status Status
	Alive  bool        // the probes' verdict: reachable both ways now. True for the node that took the snapshot
	Record *NodeRecord // nil: none seen yet
	Seen   time.Time   // when Record was received or confirmed by a pull
}

// A Version orders the records of one writer: a later boot wins, then the
// higher counter.
type Version struct {
	Epoch   uint64 `json:"epoch"` // unix milliseconds of the writer's start
	Counter uint64 `json:"counter"`
}

// Less reports whether v is older than w.
func (v Version) Less(w Version) bool {
	if v.Epoch != w.Epoch {
		return v.Epoch < w.Epoch
	}
	return v.Counter < w.Counter
}

// A NodeRecord is what a node publishes of itself: durable facts, written on
// change. Rates belong to probes.
type NodeRecord struct {
	Version  Version           `json:"version"`
	Geo      string            `json:"geo"`
	Node     string            `json:"node"`
	Number   uint16            `json:"number"`
	Software string            `json:"software"`
	Config   string            `json:"config"`       // digest of the fleet part of the configuration
	Capacity float64           `json:"capacity"`     // requests/s; 0 = unknown
	Services map[string]Counts `json:"services"`     // healthy backends by service
	VIPs     map[string]string `json:"vips"`         // VIP name → state ("announced", "draining", …)
	L4       *L4Record         `json:"l4,omitempty"` // its packet path; nil: it has none
}

// Counts says how many backends a service has and how many of them can serve.
type Counts struct {
	Healthy int `json:"healthy"`
	Total   int `json:"total"`
}

// An L4Record is what the other nodes of a geo must know to bring packets to
// this one.
type L4Record struct {
	Addr    netip.Addr `json:"addr"`             // IPv4, on the interface that faces the others
	MAC     string     `json:"mac"`              // of that interface, "02:00:5e:00:53:01"
	Ready   bool       `json:"ready"`            // it can serve what is brought to it
	Weight  uint32     `json:"weight"`           // its share, relative to the others; 0 takes nothing
	Applied uint64     `json:"applied"`          // the ring's generation that its packet path follows; 0: none yet
	Strays  bool       `json:"strays,omitempty"` // it takes packets of its connections that arrived in other geos
}

// A Ring says which nodes of a geo share its connections. It is written by one
// node of the geo and followed by all: Members own the buckets; while a change
// is under way, Other is the ring that was (Phase drain) or will be (Phase
// prepare).
type Ring struct {
	Generation uint64       `json:"generation"` // grows by one with every change
	Phase      RingPhase    `json:"phase"`
	Members    []RingMember `json:"members"` // by node
	Other      []RingMember `json:"other,omitempty"`
	Reason     string       `json:"reason,omitempty"` // why it changes or changed last, for people
}

// A RingMember is a node and its share of the buckets.
type RingMember struct {
	Node   string `json:"node"`
	Weight uint32 `json:"weight"`
	Gone   bool   `json:"gone,omitempty"` // in Other: dead, nothing is sent there any more
}

// A RingPhase is how far a change of a ring has come.
type RingPhase string

// The phases of a ring, in the order of a planned change.
const (
	RingStable  RingPhase = "stable"  // Members alone
	RingPrepare RingPhase = "prepare" // Other is the ring to come; every node must follow it before the next phase
	RingDrain   RingPhase = "drain"   // Other is the ring before; its connections are still found
)

// Announcing reports whether the node's record says that it announces vip.
func (n *Node) Announcing(vip string) bool {
	return n.Record != nil && n.Record.VIPs[vip] == "announced"
}

// Serves reports whether some live node of g has a healthy backend for
// service.
func (g *Geo) Serves(service string) bool {
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Status == Joined && n.Record != nil && n.Record.Services[service].Healthy > 0 {
			return true
		}
	}
	return false
}

// An Order is an operator's wish; it is kept on disk and spread to all nodes.
type Order struct {
	ID     string    `json:"id"`
	Kind   OrderKind `json:"kind"`
	Target string    `json:"target"` // the name of a geo or a node
	Who    string    `json:"who"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until,omitzero"` // zero: until undone
}

// An OrderKind says what an operator wants.
type OrderKind string

// The kinds of orders.
const (
	DrainGeo  OrderKind = "drain-geo"  // moves a geo's traffic away: its VIPs drain, then leave
	DrainNode OrderKind = "drain-node" // the same for one node; the others of its geo take over
)
