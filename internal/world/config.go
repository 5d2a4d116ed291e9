package world

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// A GeoConfig is one entry of `geos:`.
type GeoConfig struct {
	Name     string    `json:"name" yaml:"name"`                                                      // short name, like an airport code
	Number   uint8     `json:"number" yaml:"number" jsonschema:"minimum=1"`                           // 1-255, fixed for life: it travels in packet fields
	City     string    `json:"city,omitempty" yaml:"city"`                                            // for people
	Location []float64 `json:"location,omitempty" yaml:"location" jsonschema:"minItems=2,maxItems=2"` // latitude, longitude; for maps only, never used to choose a route
	Fabric   []string  `json:"fabric,omitempty" yaml:"fabric"`                                        // ADDRESS:PORT of its nodes' fabric; unicast
}

// A GroupConfig names a set of geos.
type GroupConfig struct {
	Name string   `json:"name" yaml:"name"` // usable wherever a geo is named
	Geos []string `json:"geos" yaml:"geos"` // its members
}

// CapacityConfig caps what the edge may believe it can serve.
type CapacityConfig struct {
	RPS float64 `json:"rps,omitempty" yaml:"rps" jsonschema:"minimum=0"` // requests/s; 0 = unknown
}

// reserved are words that mean something where a geo or group is named.
var reserved = []string{"all", "any", "next", "elsewhere", "owner", "self", "stale", "none"}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// CheckName reports why s cannot be the name of a geo, group, VIP, listener,
// service or backend.
func CheckName(s string) error {
	switch {
	case s == "":
		return errors.New("a name is required")
	case !nameForm.MatchString(s):
		return fmt.Errorf("%q is not a name: want a-z, then a-z, 0-9 or -", s)
	case slices.Contains(reserved, s):
		return fmt.Errorf("%q is a reserved word and nobody's name", s)
	}
	return nil
}

// Validate reports every problem in c.
func (c GeoConfig) Validate() error {
	errs := []error{CheckName(c.Name)}
	if c.Number == 0 {
		errs = append(errs, errors.New("number is required (1-255)"))
	}
	for i, a := range c.Fabric {
		if _, err := netip.ParseAddrPort(a); err != nil {
			errs = append(errs, fmt.Errorf("fabric[%d]: %q is not ADDRESS:PORT", i, a))
		}
	}
	return errors.Join(errs...)
}
