// Package api is the JSON of the admin API: what edged answers on its unix
// socket, and what edgectl prints with -o json. Field names are stable and
// only ever added to. It holds types alone, no behavior.
//
// Times are RFC 3339, durations end in _s or _ms and are numbers, rates are
// per second. A field without a value is absent or null, never a made-up zero.
package api

import "time"

// Software is the version of this source tree; a release sets it.
const Software = "0.1.0-dev"

// Paths of the API. All answer GET with JSON but those under Orders, which
// take POST with a JSON body. An error is an [Error] with a 4xx or 5xx status.
const (
	PathVersion     = "/v1/version"
	PathStatus      = "/v1/status"
	PathGeos        = "/v1/geos"
	PathRoutes      = "/v1/routes"
	PathServices    = "/v1/services"
	PathBackends    = "/v1/backends"
	PathFabricPeers = "/v1/fabric/peers"
	PathEvents      = "/v1/events" // ?since=RFC3339&after=ID&wait=SECONDS
	PathDrain       = "/v1/drain"
	PathUndrain     = "/v1/undrain"
	PathMetrics     = "/metrics" // text, in the form of Prometheus
)

// Error is the body of every answer that is not 2xx.
type Error struct {
	Message string `json:"error"` // one line: what, and what to do
}

// Version says what runs.
type Version struct {
	Daemon  string    `json:"daemon"`
	Commit  string    `json:"commit"`
	Go      string    `json:"go"`
	GoBGP   string    `json:"gobgp"`
	QUIC    string    `json:"quic_go"`
	Kernel  string    `json:"kernel,omitempty"`
	PID     int       `json:"pid"`
	Geo     string    `json:"geo,omitempty"`
	Node    string    `json:"node,omitempty"`
	Started time.Time `json:"started"`
}

// A Health grades a part of the edge.
type Health string

// Grades, in order of badness.
const (
	OK      Health = "ok"
	Off     Health = "off" // not configured
	Warning Health = "warning"
	Bad     Health = "bad"
)

// Status is one screen: is this node well?
type Status struct {
	Version Version    `json:"version"`
	Config  ConfigInfo `json:"config"`
	Parts   []Part     `json:"parts"`  // BGP, VIPs, proxy, fabric, load, …
	Health  Health     `json:"health"` // the worst of Parts
}

// ConfigInfo says which configuration runs.
type ConfigInfo struct {
	File    string    `json:"file"`
	Digest  string    `json:"digest"` // of the fleet part
	Applied time.Time `json:"applied"`
}

// A Part is one line of the status.
type Part struct {
	Name   string `json:"name"`
	Health Health `json:"health"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"` // the command that tells more
}

// Geos is what this node knows of every geo.
type Geos struct {
	Geo  string    `json:"geo"` // whose view it is
	At   time.Time `json:"at"`
	Geos []Geo     `json:"geos"` // this one first, then by RTT
}

// A Geo is one row of Geos.
type Geo struct {
	Name        string   `json:"name"`
	Number      uint8    `json:"number"`
	City        string   `json:"city,omitempty"`
	State       string   `json:"state"` // up | shedding | draining | unseen
	Self        bool     `json:"self"`
	Utilisation *float64 `json:"utilisation"` // offered / capacity; null: unknown
	Capacity    *float64 `json:"capacity"`    // requests/s; null: unknown
	Offered     *float64 `json:"offered"`     // requests/s at its own door
	Served      *float64 `json:"served"`      // requests/s executed there
	ShedOut     *float64 `json:"shed_out"`    // requests/s it sends elsewhere
	ShedTo      []string `json:"shed_to,omitempty"`
	ShedIn      *float64 `json:"shed_in"` // requests/s it takes from others' sheds
	Budget      *float64 `json:"budget"`  // requests/s of foreign work it offers to take
	RTTMillis   *float64 `json:"rtt_ms"`  // null: never measured, or this geo
	AgeMillis   *int64   `json:"age_ms"`  // since it was last heard; null: never, or this geo
	Nodes       []Node   `json:"nodes"`
}

// A Node is one machine of a geo, as its own record says.
type Node struct {
	Name     string            `json:"name"`
	Number   uint16            `json:"number"`
	Address  string            `json:"address,omitempty"`
	Status   string            `json:"status"`  // joined | left | lost
	Drained  bool              `json:"drained"` // by an operator's order for the node
	Software string            `json:"software,omitempty"`
	Config   string            `json:"config,omitempty"`
	Record   *RecordVersion    `json:"record"` // null: none seen
	Services map[string]Counts `json:"services,omitempty"`
	VIPs     map[string]string `json:"vips,omitempty"`
}

// A RecordVersion orders the records of one writer.
type RecordVersion struct {
	Epoch   uint64 `json:"epoch"`
	Counter uint64 `json:"counter"`
}

// Counts says how many backends can serve.
type Counts struct {
	Healthy int `json:"healthy"`
	Total   int `json:"total"`
}

// Routes is what this node wants announced, what it announces, and why.
type Routes struct {
	V         int        `json:"v"` // 1
	Geo       string     `json:"geo"`
	Node      string     `json:"node"`
	ASN       uint32     `json:"asn"`
	RouterID  string     `json:"router_id"`
	Speaker   Speaker    `json:"speaker"`
	Guard     Guard      `json:"guard"`
	VIPs      []VIP      `json:"vips"`
	Neighbors []Neighbor `json:"neighbors"`
	Mismatch  []Mismatch `json:"mismatch"` // where wire and intent differ
}

// Speaker is the BGP implementation at work.
type Speaker struct {
	Impl    string    `json:"impl"`
	Version string    `json:"version"`
	Mode    string    `json:"mode"`
	PID     int       `json:"pid"`
	Since   time.Time `json:"since"`
}

// Guard says how many geos are known to announce.
type Guard struct {
	Geos       int    `json:"geos"`       // configured, this one included
	Announcing int    `json:"announcing"` // with a fresh record that says so for some VIP
	AgeMillis  *int64 `json:"age_ms"`     // of the oldest record that counts; null: none
}

// A VIP is one VIP's state.
type VIP struct {
	Name     string       `json:"name"`
	State    string       `json:"state"` // idle | announced | draining | withdrawn
	Want     string       `json:"want"`
	Since    time.Time    `json:"since"`
	Cause    Cause        `json:"cause"`
	Blocked  string       `json:"blocked,omitempty"`
	Next     *Next        `json:"next,omitempty"`
	Shadow   bool         `json:"shadow,omitempty"`
	Gate     []Signal     `json:"gate"`
	Others   []string     `json:"others"` // other geos that announce it
	Prefixes []Prefix     `json:"prefixes"`
	History  []Transition `json:"history"` // newest last, at most 50
}

// A Cause is why a VIP is in its state.
type Cause struct {
	Kind   string `json:"kind"`
	Who    string `json:"who,omitempty"`
	Reason string `json:"reason"`
}

// Next is what a timer will do.
type Next struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// A Signal is one input of a gate.
type Signal struct {
	Signal    string `json:"signal"`
	OK        bool   `json:"ok"`
	Hard      bool   `json:"hard"`
	AgeMillis int64  `json:"age_ms"`
	Text      string `json:"text,omitempty"`
}

// A Transition is one change of a VIP's state.
type Transition struct {
	At    time.Time `json:"at"`
	From  string    `json:"from"`
	To    string    `json:"to"`
	Cause Cause     `json:"cause"`
}

// A Prefix is what each neighbor was sent for it.
type Prefix struct {
	Prefix    string `json:"prefix"`
	Neighbors []Sent `json:"neighbors"`
}

// Sent is one prefix as one neighbor was sent it, read back from the speaker.
type Sent struct {
	Neighbor         string   `json:"neighbor"`
	Advertised       bool     `json:"advertised"`
	NextHop          string   `json:"next_hop,omitempty"`
	ASPath           []uint32 `json:"as_path,omitempty"`
	Communities      []string `json:"communities,omitempty"`
	LargeCommunities []string `json:"large_communities,omitempty"`
	MED              *uint32  `json:"med"`
}

// A Neighbor is one BGP session.
type Neighbor struct {
	Name       string      `json:"name"`
	Address    string      `json:"address"`
	ASN        uint32      `json:"asn"`
	State      string      `json:"state"` // idle | connect | active | opensent | openconfirm | established
	Since      time.Time   `json:"since"`
	Negotiated *Negotiated `json:"negotiated,omitempty"`
	Sent       int         `json:"sent"`
	Received   int         `json:"received"`
	Limit      uint32      `json:"limit"`
	Flaps      int         `json:"flaps"`
	LastError  string      `json:"last_error,omitempty"`
}

// Negotiated is what an established session agreed on.
type Negotiated struct {
	HoldSeconds      float64  `json:"hold_s"`
	KeepaliveSeconds float64  `json:"keepalive_s"`
	Families         []string `json:"families"`
}

// A Mismatch is a difference between intent and wire.
type Mismatch struct {
	Neighbor string `json:"neighbor"`
	Prefix   string `json:"prefix"`
	Text     string `json:"text"`
}

// Services lists the services of this node.
type Services struct {
	Services []Service `json:"services"`
}

// A Service is one row of Services.
type Service struct {
	Name      string     `json:"name"`
	Hosts     []string   `json:"hosts"`
	Healthy   int        `json:"healthy"`
	Total     int        `json:"total"`
	Rate      float64    `json:"rate"`       // requests/s
	ErrorRate float64    `json:"error_rate"` // share of answers that are 5xx, 0..1
	P50Millis *float64   `json:"p50_ms"`     // null: no requests lately
	P99Millis *float64   `json:"p99_ms"`
	Replayed  float64    `json:"replayed"`  // requests/s
	Shed      float64    `json:"shed"`      // requests/s served elsewhere by the edge's decision
	Elsewhere []string   `json:"elsewhere"` // geos that could serve it, nearest first
	Local     Local      `json:"local"`
	Discovery *Discovery `json:"discovery,omitempty"`
}

// Discovery is where more backends of a service come from.
type Discovery struct {
	Source    string     `json:"source"`
	Backends  int        `json:"backends"`             // in the list that is in force
	Changed   *time.Time `json:"changed"`              // when that came; null: none has
	Read      *time.Time `json:"read"`                 // when the source was last good; null: never
	LastError string     `json:"last_error,omitempty"` // what is wrong now
}

// Local is what choosing among the backends here came to, since the start.
type Local struct {
	Waiting  int    `json:"waiting"`   // requests in the queue now
	Queued   uint64 `json:"queued"`    // requests that waited for a backend with room
	Busy     uint64 `json:"busy"`      // requests that found no room in time
	Panicked uint64 `json:"panicked"`  // requests sent to any backend, well or not
	Ejected  uint64 `json:"ejected"`   // backends, each time that requests failed there too often
	Retried  uint64 `json:"retried"`   // requests sent once more although a backend may have executed them
	Spent    uint64 `json:"spent"`     // requests not sent once more: the budget was spent
	Hedged   uint64 `json:"hedged"`    // requests that a second backend was asked as well
	HedgeWon uint64 `json:"hedge_won"` // of Hedged, answered by the second
}

// Backends lists backends.
type Backends struct {
	Backends []Backend `json:"backends"`
}

// A Backend is one row of Backends.
type Backend struct {
	Service   string    `json:"service"`
	Name      string    `json:"name"`
	URL       string    `json:"url"`
	Health    string    `json:"health"` // up | down | ejected | unknown
	Since     time.Time `json:"since"`
	Why       string    `json:"why,omitempty"` // of Health, when requests are the reason: "5 x 502 in a row"
	LastError string    `json:"last_error,omitempty"`
	Active    int       `json:"active"` // requests in flight
	Requests  uint64    `json:"requests"`
	Failures  uint64    `json:"failures"`   // of Requests, without an answer
	Rate      float64   `json:"rate"`       // answers/s lately, without tries that another one followed
	ErrorRate float64   `json:"error_rate"` // share of them that is 5xx or none, 0..1
	P50Millis *float64  `json:"p50_ms"`     // to an answer; null: no requests lately
	P99Millis *float64  `json:"p99_ms"`
	Weight    int       `json:"weight"`
	Share     float64   `json:"share"`      // of Weight that it has now, 0..1: less while it starts slowly or is busy
	Load      float64   `json:"load"`       // what it says of itself, 0..1
	Latency   *float64  `json:"latency_ms"` // recent time to an answer; null: not measured
	SoftLimit int       `json:"soft_limit"` // 0: none
	HardLimit int       `json:"hard_limit"` // 0: none
}

// FabricPeers lists the other nodes.
type FabricPeers struct {
	Peers []Peer `json:"peers"`
}

// A Peer is one row of FabricPeers.
type Peer struct {
	Node       string    `json:"node"`
	Geo        string    `json:"geo"`
	Address    string    `json:"address"`
	State      string    `json:"state"` // up | down | left
	Via        string    `json:"via"`   // quic
	Conns      int       `json:"conns"`
	RTTMillis  *float64  `json:"rtt_ms"`
	Loss       float64   `json:"loss"` // share of probes, 0..1
	BytesIn    uint64    `json:"bytes_in"`
	BytesOut   uint64    `json:"bytes_out"`
	Requests   uint64    `json:"requests"`
	SeenMillis *int64    `json:"seen_ms"` // since it was last heard; null: never
	Since      time.Time `json:"since"`   // of State
	Software   string    `json:"software,omitempty"`
	LastError  string    `json:"last_error,omitempty"`
}

// Events lists what happened, oldest first.
type Events struct {
	Events []Event `json:"events"`
}

// An Event is one thing that happened.
type Event struct {
	ID   uint64    `json:"id"` // grows by one
	At   time.Time `json:"at"`
	Node string    `json:"node"`
	What string    `json:"what"` // "vip/www", "neighbor/tor1", "backend/shop/shop-a"
	Text string    `json:"text"`
}

// DrainRequest asks for a geo's or a node's traffic to be moved away, or back.
type DrainRequest struct {
	Kind   string `json:"kind"` // geo | node
	Name   string `json:"name"`
	Reason string `json:"reason"`
	Who    string `json:"who,omitempty"` // filled in by the daemon from the socket's peer credentials
}

// DrainReply says what was ordered.
type DrainReply struct {
	Text string `json:"text"` // one line: what will happen
}
