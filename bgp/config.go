package bgp

import (
	"net/netip"
	"time"

	"anyedge/internal/secret"
)

// Config is the fleet's part: `bgp:`.
type Config struct {
	Mode   string       `json:"mode,omitempty" yaml:"mode" jsonschema:"enum=inprocess"` // where the speaker runs: in this process; default inprocess
	ASN    uint32       `json:"asn" yaml:"asn" jsonschema:"minimum=1"`                  // this fleet's AS number
	Timers TimersConfig `json:"timers,omitzero" yaml:"timers"`                          // of every session (RFC 4271 section 10)
	Import string       `json:"import,omitempty" yaml:"import" jsonschema:"enum=none"`  // edges announce, they never learn
}

// TimersConfig holds the timers of every session (RFC 4271 section 10).
type TimersConfig struct {
	Hold         *time.Duration `json:"hold,omitempty" yaml:"hold"`                   // a neighbor that is silent this long is gone; default 9s; at least 3s
	Keepalive    *time.Duration `json:"keepalive,omitempty" yaml:"keepalive"`         // between two KEEPALIVEs; default a third of hold
	ConnectRetry *time.Duration `json:"connect_retry,omitempty" yaml:"connect_retry"` // between two attempts to connect; default 2s
}

// NodeConfig is this machine's part: `node.bgp:`.
type NodeConfig struct {
	Listen    []string         `json:"listen,omitempty" yaml:"listen"`       // ADDRESS or ADDRESS:PORT that accept sessions; empty = this node only dials out
	NextHop   NextHopConfig    `json:"next_hop,omitzero" yaml:"next_hop"`    // overrides the next hop that neighbors hear
	Neighbors []NeighborConfig `json:"neighbors,omitempty" yaml:"neighbors"` // routers that this node speaks to
}

// NextHopConfig overrides the next hop that neighbors hear; the default is
// this node's address on the session.
type NextHopConfig struct {
	IPv4 netip.Addr `json:"ipv4,omitzero" yaml:"ipv4"` // of IPv4 prefixes
	IPv6 netip.Addr `json:"ipv6,omitzero" yaml:"ipv6"` // of IPv6 prefixes; needed to announce IPv6 prefixes over an IPv4 session
}

// NeighborConfig is one router that this node speaks to.
type NeighborConfig struct {
	Name         string           `json:"name" yaml:"name"`                                                                 // stable key, shown everywhere
	Address      netip.Addr       `json:"address" yaml:"address"`                                                           // of the router
	Port         uint16           `json:"port,omitempty" yaml:"port"`                                                       // TCP port of the router; default 179
	LocalAddress netip.Addr       `json:"local_address,omitzero" yaml:"local_address"`                                      // source of the session; default: the route's
	ASN          uint32           `json:"asn" yaml:"asn" jsonschema:"minimum=1"`                                            // AS number of the router; this fleet's own makes the session internal
	Class        string           `json:"class,omitempty" yaml:"class" jsonschema:"enum=transit,enum=ix,enum=route_server"` // what kind of network is behind it; default transit
	Password     *secret.Ref      `json:"password,omitempty" yaml:"password"`                                               // TCP-MD5 (RFC 2385)
	GTSM         bool             `json:"gtsm,omitempty" yaml:"gtsm"`                                                       // RFC 5082; excludes multihop
	Multihop     uint8            `json:"multihop,omitempty" yaml:"multihop"`                                               // TTL of a session over several hops; 0 = directly connected
	Families     []string         `json:"families,omitempty" yaml:"families" jsonschema:"enum=ipv4,enum=ipv6"`              // what may be announced to it; default [ipv4]
	MaxPrefix    *MaxPrefixConfig `json:"max_prefix,omitempty" yaml:"max_prefix"`                                           // bounds what it may send us; default: 1000, restart after 5m
}

// MaxPrefixConfig bounds what a neighbor may send us; we use none of it.
type MaxPrefixConfig struct {
	Limit  uint32         `json:"limit,omitempty" yaml:"limit" jsonschema:"minimum=1"`                // prefixes; default 1000
	Action string         `json:"action,omitempty" yaml:"action" jsonschema:"enum=restart,enum=warn"` // restart ends the session and tries again later, warn only says so; default restart
	After  *time.Duration `json:"after,omitempty" yaml:"after"`                                       // when to try again; default 5m
}
