package steering

import (
	"slices"
	"time"

	"anyedge/internal/world"
)

// Defaults of `overload:`.
const (
	DefaultTarget = 0.85
	DefaultMaxRTT = 300 * time.Millisecond
)

// Defaults of `vips:`.
const (
	DefaultWhen         = "any_backend"
	DefaultDrainPrepend = 3
	DefaultDrainWait    = 20 * time.Second
	DefaultRise         = 10 * time.Second
	DefaultFall         = 3 * time.Second
	DefaultHoldUp       = 30 * time.Second
	DefaultHoldDown     = 60 * time.Second
	DefaultMinOthers    = 1
)

// Modes of `overload.mode` and `announce.mode`.
const (
	ModeAct     = "act"
	ModeObserve = "observe" // of overload
	ModeShadow  = "shadow"  // of announce
)

// target returns the share of capacity above which the excess is shed.
func (c *Config) target() float64 {
	if c.Target == 0 {
		return DefaultTarget
	}
	return c.Target
}

// maxRTT returns how far a geo may be to be sent work.
func (c *Config) maxRTT() time.Duration { return orDefault(c.MaxRTT, DefaultMaxRTT) }

// never reports whether work may never go to geo.
func (c *Config) never(geo string) bool { return slices.Contains(c.NeverTo, geo) }

// Shadow reports whether the VIP is decided and shown, but never announced.
func (c *VIPConfig) Shadow() bool { return c.Announce.Mode == ModeShadow }

// In reports whether geo is among those that announce the VIP, given the
// configured groups.
func (c *VIPConfig) In(geo string, groups []world.GroupConfig) bool {
	if len(c.Geos) == 0 {
		return true
	}
	for _, name := range c.Geos {
		if name == "all" || name == geo {
			return true
		}
		for _, g := range groups {
			if g.Name == name && slices.Contains(g.Geos, geo) {
				return true
			}
		}
	}
	return false
}

// rules is a VIPConfig with its defaults filled in.
type rules struct {
	when                         When
	gshut                        bool
	prepend                      int // added while draining
	wait                         time.Duration
	rise, fall, holdUp, holdDown time.Duration
	minOthers                    int
}

// rules returns what c means.
func (c *VIPConfig) rules() rules {
	r := rules{
		gshut:     orDefault(c.Drain.GShut, true),
		prepend:   orDefault(c.Drain.Prepend, DefaultDrainPrepend),
		wait:      orDefault(c.Drain.Wait, DefaultDrainWait),
		rise:      orDefault(c.Stability.Rise, DefaultRise),
		fall:      orDefault(c.Stability.Fall, DefaultFall),
		holdUp:    orDefault(c.Stability.HoldUp, DefaultHoldUp),
		holdDown:  orDefault(c.Stability.HoldDown, DefaultHoldDown),
		minOthers: orDefault(c.Guard.MinOthers, DefaultMinOthers),
	}
	if c.Guard.LastGeo == "withdraw" {
		r.minOthers = 0
	}
	r.when, _ = ParseWhen(c.Announce.When) // a mistake was refused by Validate; here it means the default
	return r
}

// orDefault returns *p, or d when p is nil.
func orDefault[T any](p *T, d T) T {
	if p == nil {
		return d
	}
	return *p
}
