package bpf

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"anyedge/bpf/lb"
)

// MaxVIPs is how many addresses fit.
const MaxVIPs = lb.MaxVIPs

// DefaultDrain is how long a bucket that moved still asks its previous owner.
const DefaultDrain = 5 * time.Minute

// ModeOff keeps the packet path off.
const ModeOff = "off"

// Ways to another node.
const (
	ForwardAuto = "auto" // l2 where both share a segment, else ipip
	ForwardL2   = "l2"
	ForwardIPIP = "ipip"
)

// What becomes of packets whose connection is in another geo.
const (
	StraysOff  = "off"  // they are reset, as by any machine that does not know them
	StraysIPIP = "ipip" // they are brought there behind an IPv4 header
)

// Config is the packet path between the nodes of one geo: `l4:`.
type Config struct {
	Mode    string         `json:"mode,omitempty" yaml:"mode" jsonschema:"enum=auto,enum=native,enum=generic,enum=off"` // where in an interface's receive path it runs; default auto: native where the driver can
	Forward string         `json:"forward,omitempty" yaml:"forward" jsonschema:"enum=auto,enum=l2,enum=ipip"`           // how a packet reaches another node; default auto: l2 inside one segment, else ipip
	Drain   *time.Duration `json:"drain,omitempty" yaml:"drain"`                                                        // how long a connection whose bucket moved is still found; default 5m, at least 1s
	Strays  string         `json:"strays,omitempty" yaml:"strays" jsonschema:"enum=ipip,enum=off"`                      // what becomes of packets of connections that another geo has, after routes moved: ipip brings them there, for the time of drain; default off
	Pins    string         `json:"pins,omitempty" yaml:"pins"`                                                          // a directory of a BPF file system, where programs outlive the process; default /sys/fs/bpf/edged
}

// Validate reports every problem in c.
func (c *Config) Validate() error {
	var errs []error
	switch lb.AttachMode(c.Mode) {
	case "", lb.Auto, lb.Native, lb.Generic, ModeOff:
	default:
		errs = append(errs, fmt.Errorf("mode %q: want auto, native, generic or off", c.Mode))
	}
	switch c.Forward {
	case "", ForwardAuto, ForwardL2, ForwardIPIP:
	default:
		errs = append(errs, fmt.Errorf("forward %q: want auto, l2 or ipip", c.Forward))
	}
	switch c.Strays {
	case "", StraysOff, StraysIPIP:
	default:
		errs = append(errs, fmt.Errorf("strays %q: want ipip or off", c.Strays))
	}
	if c.Drain != nil && *c.Drain < time.Second {
		errs = append(errs, fmt.Errorf("drain %s is below 1s: a change would cut connections", *c.Drain))
	}
	if c.Pins != "" && !filepath.IsAbs(c.Pins) {
		errs = append(errs, fmt.Errorf("pins %q: want a path that begins with /", c.Pins))
	}
	return errors.Join(errs...)
}

// On reports whether a packet path is asked for.
func (c *Config) On() bool { return c != nil && c.Mode != ModeOff }

// FollowsStrays reports whether packets of connections that another geo has are
// brought there.
func (c *Config) FollowsStrays() bool { return c.On() && c.Strays == StraysIPIP }

// DrainTime returns Drain, or what it is by default.
func (c *Config) DrainTime() time.Duration {
	if c.Drain == nil {
		return DefaultDrain
	}
	return *c.Drain
}

// PinDir returns Pins, or what it is by default. A nil Config has the default.
func (c *Config) PinDir() string {
	if c == nil || c.Pins == "" {
		return DefaultPins
	}
	return c.Pins
}

func (c *Config) mode() lb.AttachMode {
	if c.Mode == "" {
		return lb.Auto
	}
	return lb.AttachMode(c.Mode)
}
