package steering

import (
	"net/netip"
	"time"
)

// Config says when work goes to other geos: `overload:`.
type Config struct {
	Mode           string         `json:"mode,omitempty" yaml:"mode" jsonschema:"enum=act,enum=observe"`        // default act; observe decides and shows, and moves nothing
	Signals        []string       `json:"signals,omitempty" yaml:"signals" jsonschema:"enum=rps"`               // what counts as load
	Target         float64        `json:"target,omitempty" yaml:"target" jsonschema:"minimum=0.1,maximum=0.95"` // share of capacity above which the excess is shed; default 0.85
	MaxRTT         *time.Duration `json:"max_rtt,omitempty" yaml:"max_rtt"`                                     // never to a geo farther than this; default 300ms
	NeverTo        []string       `json:"never_to,omitempty" yaml:"never_to"`                                   // geos that are never sent this geo's requests
	ExemptServices []string       `json:"exempt_services,omitempty" yaml:"exempt_services"`                     // whose requests are never shed
}

// A VIPConfig is one entry of `vips:`.
type VIPConfig struct {
	Name      string          `json:"name" yaml:"name"`                     // unique
	Prefixes  []netip.Prefix  `json:"prefixes" yaml:"prefixes"`             // announced and withdrawn together
	Addresses []netip.Addr    `json:"addresses,omitempty" yaml:"addresses"` // what listeners bind; inside the prefixes; edged keeps them on lo
	Geos      []string        `json:"geos,omitempty" yaml:"geos"`           // geos or groups that announce it; default [all]
	Announce  AnnounceConfig  `json:"announce,omitzero" yaml:"announce"`    // when and how it is announced
	Drain     DrainConfig     `json:"drain,omitzero" yaml:"drain"`          // how it leaves gently
	Stability StabilityConfig `json:"stability,omitzero" yaml:"stability"`  // keeps it from flapping
	Guard     GuardConfig     `json:"guard,omitzero" yaml:"guard"`          // keeps it announced somewhere
}

// AnnounceConfig says when and how a VIP is announced.
type AnnounceConfig struct {
	Mode             string   `json:"mode,omitempty" yaml:"mode" jsonschema:"enum=act,enum=shadow"`       // default act; shadow sends nothing
	When             string   `json:"when,omitempty" yaml:"when"`                                         // any_backend (default) | fraction(0.5) | always | never
	Communities      []string `json:"communities,omitempty" yaml:"communities"`                           // ASN:VALUE (RFC 1997)
	LargeCommunities []string `json:"large_communities,omitempty" yaml:"large_communities"`               // ASN:A:B (RFC 8092)
	MED              *uint32  `json:"med,omitempty" yaml:"med"`                                           // MULTI_EXIT_DISC (RFC 4271 section 5.1.4)
	Prepend          int      `json:"prepend,omitempty" yaml:"prepend" jsonschema:"minimum=0,maximum=10"` // how often this AS is repeated in the path
}

// DrainConfig says how a VIP leaves gently.
type DrainConfig struct {
	GShut   *bool          `json:"gshut,omitempty" yaml:"gshut"`                                       // GRACEFUL_SHUTDOWN (RFC 8326); default true
	Prepend *int           `json:"prepend,omitempty" yaml:"prepend" jsonschema:"minimum=0,maximum=10"` // how often this AS is repeated more while draining; default 3
	Wait    *time.Duration `json:"wait,omitempty" yaml:"wait"`                                         // from disfavour to withdraw; default 20s
}

// StabilityConfig keeps a VIP from flapping.
type StabilityConfig struct {
	Rise     *time.Duration `json:"rise,omitempty" yaml:"rise"`           // the gate holds this long before an announce; default 10s
	Fall     *time.Duration `json:"fall,omitempty" yaml:"fall"`           // the gate fails this long before it counts; default 3s
	HoldUp   *time.Duration `json:"hold_up,omitempty" yaml:"hold_up"`     // no announce this soon after start; default 30s
	HoldDown *time.Duration `json:"hold_down,omitempty" yaml:"hold_down"` // no announce this soon after a withdraw; default 60s
}

// GuardConfig keeps a VIP announced somewhere.
type GuardConfig struct {
	MinOthers *int   `json:"min_others,omitempty" yaml:"min_others" jsonschema:"minimum=0"`           // a soft withdraw needs this many other geos announcing; default 1
	LastGeo   string `json:"last_geo,omitempty" yaml:"last_geo" jsonschema:"enum=keep,enum=withdraw"` // whether the last geo that announces it stays; default keep
}
