package replay

import (
	"errors"
	"fmt"
	"slices"

	"anyedge/internal/message"
	"anyedge/internal/world"
)

// Defaults of Config.
const (
	DefaultMaxBody = message.MiB
	DefaultMaxHops = 2
)

const allowAll = "all"

// Ignored reports whether the service's instructions have no effect; they are
// removed from what a client sees all the same.
func (c Config) Ignored() bool { return c.Allow != nil && len(c.Allow) == 0 }

// Allows reports whether the service may have requests replayed to geo. An
// entry of Allow may be a group.
func (c Config) Allows(geo string, groups []world.GroupConfig) bool {
	if c.Allow == nil {
		return true
	}
	return slices.ContainsFunc(c.Allow, func(name string) bool {
		return name == allowAll || name == geo || slices.ContainsFunc(groups, func(g world.GroupConfig) bool {
			return g.Name == name && slices.Contains(g.Geos, geo)
		})
	})
}

// Body returns how many bytes of a request are kept for a replay.
func (c Config) Body() message.Size {
	if c.MaxBody == nil {
		return DefaultMaxBody
	}
	return *c.MaxBody
}

func (c Config) hops() int {
	if c.MaxHops == 0 {
		return DefaultMaxHops
	}
	return min(c.MaxHops, MaxHops)
}

// Validate reports every problem in c that can be seen without the list of
// geos.
func (c Config) Validate() error {
	var errs []error
	for i, name := range c.Allow {
		if name == allowAll {
			continue
		}
		if err := world.CheckName(name); err != nil {
			errs = append(errs, fmt.Errorf("allow[%d]: %w", i, err))
		}
	}
	if c.MaxHops < 0 || c.MaxHops > MaxHops {
		errs = append(errs, fmt.Errorf("max_hops: %d is not within 1 and %d", c.MaxHops, MaxHops))
	}
	return errors.Join(errs...)
}

// MayGoOn reports whether, after a try that got as far as sent, the next geo
// may be asked. A request that may have been executed goes on only when
// repeating it does no harm.
func MayGoOn(r *message.Request, sent message.Sent) bool {
	switch sent {
	case message.NothingSent:
		return true
	case message.MaybeExecuted:
		return r.Idempotent()
	case message.Answered:
	}
	return false
}
