package steering

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anyedge/internal/world"
)

// Kinds of [When].
const (
	AnyBackend = "any_backend" // some service has a healthy backend
	Fraction   = "fraction"    // at least that share of all backends is healthy
	Always     = "always"
	Never      = "never"
)

// A When is the soft gate of a VIP: `announce.when`.
type When struct {
	Kind     string  // AnyBackend, Fraction, Always or Never
	Fraction float64 // of Fraction; above 0, at most 1
}

// String returns w as it is written in the configuration.
func (w When) String() string {
	if w.Kind == Fraction {
		return "fraction(" + strconv.FormatFloat(w.Fraction, 'g', -1, 64) + ")"
	}
	return w.Kind
}

// ParseWhen reads `announce.when`. "" is the default, any_backend; so is what
// it returns beside an error.
func ParseWhen(s string) (When, error) {
	fallback := When{Kind: AnyBackend}
	switch s {
	case "":
		return fallback, nil
	case AnyBackend, Always, Never:
		return When{Kind: s}, nil
	}
	arg, ok := strings.CutPrefix(s, Fraction+"(")
	if !ok || !strings.HasSuffix(arg, ")") {
		return fallback, fmt.Errorf("%q is none of any_backend, fraction(0.5), always, never", s)
	}
	x, err := strconv.ParseFloat(strings.TrimSuffix(arg, ")"), 64)
	if err != nil || !(x > 0 && x <= 1) {
		return fallback, fmt.Errorf("%q: a fraction is above 0 and at most 1", s)
	}
	return When{Kind: Fraction, Fraction: x}, nil
}

// Validate reports every problem in c.
func (c Config) Validate() error {
	var p problems
	p.oneOf("mode", c.Mode, ModeAct, ModeObserve)
	for i, s := range c.Signals {
		p.oneOf(fmt.Sprintf("signals[%d]", i), s, "rps")
	}
	if c.Target != 0 && !(c.Target >= 0.1 && c.Target <= 0.95) {
		p.addf("target %g is not between 0.1 and 0.95", c.Target)
	}
	if c.MaxRTT != nil && *c.MaxRTT <= 0 {
		p.addf("max_rtt %s leaves no geo to send work to; `mode: observe` moves nothing", *c.MaxRTT)
	}
	p.names("never_to", c.NeverTo)
	p.names("exempt_services", c.ExemptServices)
	return errors.Join(p...)
}

// Validate reports every problem in c.
func (c VIPConfig) Validate() error {
	var p problems
	p.add("name", world.CheckName(c.Name))
	if len(c.Prefixes) == 0 {
		p.addf("prefixes: at least one is required")
	}
	for i, x := range c.Prefixes {
		switch {
		case !x.IsValid():
			p.addf("prefixes[%d]: not a prefix", i)
		case x != x.Masked():
			p.addf("prefixes[%d]: %s has bits beyond its length; want %s", i, x, x.Masked())
		case slices.Contains(c.Prefixes[:i], x):
			p.addf("prefixes[%d]: %s is listed twice", i, x)
		}
	}
	for i, a := range c.Addresses {
		if !slices.ContainsFunc(c.Prefixes, func(x netip.Prefix) bool { return x.Contains(a) }) {
			p.addf("addresses[%d]: %s is in none of the prefixes", i, a)
		}
		if slices.Contains(c.Addresses[:i], a) {
			p.addf("addresses[%d]: %s is listed twice", i, a)
		}
	}
	p.names("geos", slices.DeleteFunc(slices.Clone(c.Geos), func(s string) bool { return s == "all" }))
	c.Announce.check(&p)
	c.Drain.check(&p)
	p.notNegative("stability.rise", c.Stability.Rise)
	p.notNegative("stability.fall", c.Stability.Fall)
	p.notNegative("stability.hold_up", c.Stability.HoldUp)
	p.notNegative("stability.hold_down", c.Stability.HoldDown)
	if n := c.Guard.MinOthers; n != nil && *n < 0 {
		p.addf("guard.min_others %d is negative", *n)
	}
	p.oneOf("guard.last_geo", c.Guard.LastGeo, "keep", "withdraw")
	return errors.Join(p...)
}

// check adds every problem in c to p.
func (c *AnnounceConfig) check(p *problems) {
	p.oneOf("announce.mode", c.Mode, ModeAct, ModeShadow)
	_, err := ParseWhen(c.When)
	p.add("announce.when", err)
	for i, s := range c.Communities {
		name := fmt.Sprintf("announce.communities[%d]", i)
		switch {
		case !numbers(s, 2, 16):
			p.addf("%s: %q is not ASN:VALUE, each 0-65535 (RFC 1997)", name, s)
		case s == gracefulShutdown:
			p.addf("%s: %s is GRACEFUL_SHUTDOWN (RFC 8326); drain.gshut adds it when it is due", name, s)
		}
	}
	for i, s := range c.LargeCommunities {
		if !numbers(s, 3, 32) {
			p.addf("announce.large_communities[%d]: %q is not ASN:A:B, each 0-4294967295 (RFC 8092)", i, s)
		}
	}
	p.prepend("announce.prepend", c.Prepend)
}

// check adds every problem in c to p.
func (c *DrainConfig) check(p *problems) {
	if c.Prepend != nil {
		p.prepend("drain.prepend", *c.Prepend)
	}
	p.notNegative("drain.wait", c.Wait)
}

// numbers reports whether s is n decimal numbers of at most bits bits, joined
// by colons.
func numbers(s string, n, bits int) bool {
	parts := strings.Split(s, ":")
	return len(parts) == n && !slices.ContainsFunc(parts, func(part string) bool {
		_, err := strconv.ParseUint(part, 10, bits)
		return err != nil
	})
}

// problems collects what is wrong with a configuration.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

func (p *problems) add(field string, err error) {
	if err != nil {
		*p = append(*p, fmt.Errorf("%s: %w", field, err))
	}
}

func (p *problems) oneOf(field, got string, allowed ...string) {
	if got != "" && !slices.Contains(allowed, got) {
		p.addf("%s: %q is not %s", field, got, strings.Join(allowed, " or "))
	}
}

func (p *problems) names(field string, list []string) {
	for i, s := range list {
		p.add(fmt.Sprintf("%s[%d]", field, i), world.CheckName(s))
		if slices.Contains(list[:i], s) {
			p.addf("%s[%d]: %s is listed twice", field, i, s)
		}
	}
}

func (p *problems) notNegative(field string, d *time.Duration) {
	if d != nil && *d < 0 {
		p.addf("%s %s is negative", field, *d)
	}
}

func (p *problems) prepend(field string, n int) {
	if n < 0 || n > 10 {
		p.addf("%s %d is not between 0 and 10", field, n)
	}
}
