package replay

import "anyedge/internal/message"

// Config says what a service's backends may ask for with Replay-Geo.
type Config struct {
	Allow   []string      `json:"allow,omitempty" yaml:"allow"`                                        // geos, groups or "all"; default all; [] ignores the header
	MaxBody *message.Size `json:"max_body,omitempty" yaml:"max_body"`                                  // of a request kept in memory for a replay; default 1MiB
	MaxHops int           `json:"max_hops,omitempty" yaml:"max_hops" jsonschema:"minimum=1,maximum=8"` // how many replays one request may take; default 2
}
