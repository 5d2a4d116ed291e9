package steering

import (
	"time"

	"anyedge/internal/world"
)

// A View is everything Decide may look at. Nothing in it changes while Decide
// runs.
type View struct {
	Now      time.Time
	Started  time.Time // when this process began
	Stopping bool      // SIGTERM was received
	World    *world.World
	Config   Config
	VIPs     []VIPView
	Services []ServiceView
	Measured Measured
	// CapacityRPS is the configured capacity of this node in requests/s; 0 =
	// unknown.
	CapacityRPS float64
	// L4Drain is how long a connection whose bucket moved still finds the node
	// that has it; 0: this node has no packet path.
	L4Drain time.Duration
	// L4Pending: this node has a packet path, which follows no ring yet.
	L4Pending bool
	// L4Strays: packets of connections that nobody here has are sent to the geo
	// that may have them.
	L4Strays bool
}

// A VIPView is one VIP's configuration and the state of what stands behind it.
type VIPView struct {
	Config   VIPConfig
	Here     bool     // this geo is among those that announce it
	Services []string // on its listeners
	// ListenersUp: every listener of the VIP accepts. Hard.
	ListenersUp bool
	// ListenersWhy says why not; "": a listener does not accept.
	ListenersWhy string
	// ProxyAlive is when the request path last proved that it runs; zero: never.
	// Hard.
	ProxyAlive time.Time
}

// A ServiceView is the local health of one service.
type ServiceView struct {
	Name     string
	Healthy  int
	Total    int
	Reported bool // every backend has been judged at least once
	Exempt   bool // never shed
}

// Measured is what the door counted since the previous View.
type Measured struct {
	Interval time.Duration
	Offered  int // requests that clients brought here, before any shedding
	Executed int // given to local backends: own and foreign
	Foreign  int // of Executed, shed here by other geos
	// Peers are geos, for what is sent to them, and senders (GEO/NODE), for what
	// they would like to send here.
	Peers map[string]PeerMeasured
}

// PeerMeasured is what passed between this node and a peer.
type PeerMeasured struct {
	Relayed int // requests of ours it was asked to serve, by shed
	Busy    int // of Relayed, refused by it

	Grant   float64 // requests/s it last said we may send
	GrantAt time.Time

	Want   float64 // requests/s it last said it would like to send us
	Urgent bool
	WantAt time.Time
}
