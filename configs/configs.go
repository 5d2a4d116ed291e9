// Package configs reads the configuration file of edged.
//
// The settings live in the packages they change; [Config] only joins them.
// [Load] and [Parse] report every mistake at once, each with its line and
// column: first what YAML and the JSON schema of the Go types refuse, then the
// rules that concern several fields (rules.go lists them). An unknown field is
// a mistake. The package starts nothing and reads no secret.
package configs

import (
	"net/netip"
	"time"

	"anyedge/bgp"
	"anyedge/bpf"
	"anyedge/fabric"
	"anyedge/internal/admin"
	"anyedge/internal/dnsserver"
	"anyedge/internal/metrics"
	"anyedge/internal/steering"
	"anyedge/internal/world"
	"anyedge/proxy"
	"anyedge/proxy/upstream"
)

//go:generate go run ./gen

// Config is one configuration file.
type Config struct {
	Version      int                       `json:"version" yaml:"version" jsonschema:"enum=1"` // of the file's form; 1 is the only value so far
	Node         *NodeConfig               `json:"node,omitempty" yaml:"node"`                 // this machine, and nothing that others share; may stand alone in node.yaml beside the file
	Geos         []world.GeoConfig         `json:"geos,omitempty" yaml:"geos"`                 // every geo of the fleet
	Groups       []world.GroupConfig       `json:"groups,omitempty" yaml:"groups"`             // names for sets of geos, usable wherever a geo is named
	Fabric       *fabric.Config            `json:"fabric,omitempty" yaml:"fabric"`             // the private network between geos; absent: this geo is alone
	BGP          *bgp.Config               `json:"bgp,omitempty" yaml:"bgp"`                   // absent: nothing is announced
	VIPs         []steering.VIPConfig      `json:"vips,omitempty" yaml:"vips"`                 // the anycast addresses
	Listeners    []proxy.ListenerConfig    `json:"listeners" yaml:"listeners"`                 // where clients connect
	L4           *bpf.Config               `json:"l4,omitempty" yaml:"l4"`                     // the packet path between the nodes of one geo; absent: packets stay where they arrive
	Overload     steering.Config           `json:"overload,omitzero" yaml:"overload"`          // when work goes to other geos
	Certificates []proxy.CertificateConfig `json:"certificates,omitempty" yaml:"certificates"` // what listeners prove themselves with
	Services     []proxy.ServiceConfig     `json:"services" yaml:"services"`                   // where requests go
	Admin        admin.Config              `json:"admin,omitzero" yaml:"admin"`                // where edgectl reaches the daemon
	State        StateConfig               `json:"state,omitzero" yaml:"state"`                // what must survive a restart
	Shutdown     ShutdownConfig            `json:"shutdown,omitzero" yaml:"shutdown"`          // how the daemon ends
	Log          proxy.LogConfig           `json:"log,omitzero" yaml:"log"`                    // what is logged, and how
}

// NodeConfig is what belongs to one machine.
type NodeConfig struct {
	Geo        string                              `json:"geo,omitempty" yaml:"geo"`                              // its geo; one of geos
	Name       string                              `json:"name,omitempty" yaml:"name"`                            // unique in the geo; default the short host name
	Number     uint16                              `json:"number,omitempty" yaml:"number" jsonschema:"minimum=1"` // 1-65535, unique in the fleet, fixed for life: it travels in packet fields; required with fabric
	RouterID   netip.Addr                          `json:"router_id,omitzero" yaml:"router_id"`                   // an IPv4 address, unique per node; required with bgp
	Capacity   world.CapacityConfig                `json:"capacity,omitzero" yaml:"capacity"`                     // caps what the edge believes it can serve
	Interfaces []string                            `json:"interfaces,omitempty" yaml:"interfaces"`                // where packets for VIPs arrive, for l4; the first one faces the other nodes
	Fabric     *fabric.NodeConfig                  `json:"fabric,omitempty" yaml:"fabric"`                        // this node on the fabric
	BGP        *bgp.NodeConfig                     `json:"bgp,omitempty" yaml:"bgp"`                              // this node's neighbors
	Backends   map[string][]upstream.BackendConfig `json:"backends,omitempty" yaml:"backends"`                    // this geo's instances, by service
	Metrics    *metrics.Config                     `json:"metrics,omitempty" yaml:"metrics"`                      // where Prometheus reads what this node counts; absent: at the admin socket alone
	DNS        *dnsserver.Config                   `json:"dns,omitempty" yaml:"dns"`                              // SERVICE.internal for the apps of this geo; absent: nobody is told
}

// StateConfig says where the daemon keeps what must survive a restart.
type StateConfig struct {
	Dir string `json:"dir,omitempty" yaml:"dir"` // a directory; default /var/lib/edged, or ~/.local/state/edged for a user who has no such directory
}

// ShutdownConfig says how the daemon ends.
type ShutdownConfig struct {
	Max *time.Duration `json:"max,omitempty" yaml:"max"` // SIGTERM drains every VIP, withdraws, and waits for flows at most this long; default 5m
}
