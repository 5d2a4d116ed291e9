package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Defaults of what a configuration leaves out.
const (
	DefaultHold         = 9 * time.Second
	DefaultConnectRetry = 2 * time.Second
	DefaultPort         = 179
	DefaultMaxPrefix    = 1000
	DefaultMaxAfter     = 5 * time.Minute

	minHold = 3 * time.Second // RFC 4271 section 4.2
	maxHold = 65535 * time.Second
)

// hold returns the hold time to propose.
func (t TimersConfig) hold() time.Duration { return valueOr(t.Hold, DefaultHold) }

// keepalive returns the time between two KEEPALIVEs.
func (t TimersConfig) keepalive() time.Duration {
	return valueOr(t.Keepalive, (t.hold() / 3).Truncate(time.Second))
}

// connectRetry returns the time between two attempts to connect.
func (t TimersConfig) connectRetry() time.Duration {
	return valueOr(t.ConnectRetry, DefaultConnectRetry)
}

// Validate reports every problem in c.
func (c Config) Validate() error {
	var errs []error
	if c.Mode != "" && c.Mode != "inprocess" {
		errs = append(errs, fmt.Errorf("mode %q: this version knows inprocess", c.Mode))
	}
	if c.ASN == 0 {
		errs = append(errs, errors.New("asn is required (RFC 7607 reserves AS 0)"))
	}
	if c.Import != "" && c.Import != "none" {
		errs = append(errs, fmt.Errorf("import %q: the only value is none, because edges announce and never learn", c.Import))
	}
	return errors.Join(append(errs, c.Timers.validate())...)
}

func (t TimersConfig) validate() error {
	var errs []error
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"hold", t.hold()}, {"keepalive", t.keepalive()}, {"connect_retry", t.connectRetry()}} {
		if d.value%time.Second != 0 {
			errs = append(errs, fmt.Errorf("timers: %s %s is not in whole seconds, which is what BGP counts in", d.name, d.value))
		}
	}
	if h := t.hold(); h < minHold || h > maxHold {
		errs = append(errs, fmt.Errorf("timers: hold %s is not from 3s to 65535s (RFC 4271 section 4.2)", h))
	}
	if k := t.keepalive(); k < time.Second || k >= t.hold() {
		errs = append(errs, fmt.Errorf("timers: keepalive %s is not from 1s to less than hold (%s)", k, t.hold()))
	}
	if r := t.connectRetry(); r < time.Second {
		errs = append(errs, fmt.Errorf("timers: connect_retry %s is below 1s", r))
	}
	return errors.Join(errs...)
}

// Validate reports every problem in c.
func (c NodeConfig) Validate() error {
	var errs []error
	if _, _, err := c.listen(); err != nil {
		errs = append(errs, err)
	}
	if a := c.NextHop.IPv4; a.IsValid() && !a.Is4() {
		errs = append(errs, fmt.Errorf("next_hop.ipv4 %s is no IPv4 address", a))
	}
	if a := c.NextHop.IPv6; a.IsValid() && !a.Is6() {
		errs = append(errs, fmt.Errorf("next_hop.ipv6 %s is no IPv6 address", a))
	}
	names, addrs := make(map[string]bool), make(map[netip.Addr]bool)
	for i, n := range c.Neighbors {
		name := n.Name
		if name == "" {
			name = fmt.Sprintf("#%d", i+1)
		}
		for _, err := range n.problems(c.NextHop) {
			errs = append(errs, fmt.Errorf("neighbor %s: %w", name, err))
		}
		if n.Name != "" && names[n.Name] {
			errs = append(errs, fmt.Errorf("neighbor %s: the name is used twice", name))
		}
		if n.Address.IsValid() && addrs[n.Address] {
			errs = append(errs, fmt.Errorf("neighbor %s: address %s is another neighbor's", name, n.Address))
		}
		names[n.Name], addrs[n.Address] = true, true
	}
	return errors.Join(errs...)
}

// listen returns the addresses that accept sessions, and their one port.
func (c NodeConfig) listen() ([]netip.Addr, uint16, error) {
	var addrs []netip.Addr
	var port uint16
	for _, text := range c.Listen {
		ap, err := parseListen(text)
		if err != nil {
			return nil, 0, err
		}
		if port != 0 && ap.Port() != port {
			return nil, 0, fmt.Errorf("listen %s: all addresses share one port, and the one before has %d", text, port)
		}
		port = ap.Port()
		addrs = append(addrs, ap.Addr())
	}
	return addrs, port, nil
}

func parseListen(text string) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, DefaultPort), nil
	}
	ap, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		return ap, fmt.Errorf("listen %q is neither ADDRESS nor ADDRESS:PORT", text)
	case ap.Port() == 0:
		return ap, fmt.Errorf("listen %q: port 0 is no port", text)
	}
	return ap, nil
}

// problems lists what is wrong with n.
func (n NeighborConfig) problems(nextHop NextHopConfig) []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n.Name == "" || strings.ContainsAny(n.Name, " \t\n") {
		add("name is required and has no space in it")
	}
	if !n.Address.IsValid() || n.Address.IsUnspecified() || n.Address.Is4In6() {
		add("address is required")
	}
	if n.ASN == 0 {
		add("asn is required (RFC 7607 reserves AS 0)")
	}
	if l := n.LocalAddress; l.IsValid() && l.Is4() != n.Address.Is4() {
		add("local_address %s and address %s are of different families", l, n.Address)
	}
	if !slices.Contains([]string{"", "transit", "ix", "route_server"}, n.Class) {
		add("class %q is none of transit, ix, route_server", n.Class)
	}
	if n.GTSM && n.Multihop > 0 {
		add("gtsm and multihop exclude each other (RFC 5082 section 5.5)")
	}
	if n.Password != nil {
		if err := n.Password.Validate(); err != nil {
			add("password: %w", err)
		}
	}
	errs = append(errs, n.familyProblems(nextHop)...)
	if m := n.MaxPrefix; m != nil {
		if !slices.Contains([]string{"", actionRestart, actionWarn}, m.Action) {
			add("max_prefix.action %q is neither restart nor warn", m.Action)
		}
		if m.After != nil && *m.After < time.Second {
			add("max_prefix.after %s is below 1s", *m.After)
		}
	}
	return errs
}

func (n NeighborConfig) familyProblems(nextHop NextHopConfig) []error {
	var errs []error
	for i, f := range n.Families {
		switch {
		case f != familyIPv4 && f != familyIPv6:
			errs = append(errs, fmt.Errorf("families: %q is neither ipv4 nor ipv6", f))
		case slices.Contains(n.Families[:i], f):
			errs = append(errs, fmt.Errorf("families: %s stands there twice", f))
		case f == familyIPv6 && n.Address.Is4() && !nextHop.IPv6.IsValid():
			errs = append(errs, fmt.Errorf("families: ipv6 over the IPv4 session to %s needs next_hop.ipv6", n.Address))
		}
	}
	return errs
}

const (
	familyIPv4 = "ipv4"
	familyIPv6 = "ipv6"

	actionRestart = "restart" // close the session, try again after a time
	actionWarn    = "warn"    // say so
)

// families returns what the session is to carry.
func (n NeighborConfig) families() []string {
	if len(n.Families) == 0 {
		return []string{familyIPv4}
	}
	return n.Families
}

func (n NeighborConfig) port() uint16 {
	if n.Port == 0 {
		return DefaultPort
	}
	return n.Port
}

// maxPrefix returns the limit of received prefixes, what to do above it, and
// how long a closed session rests.
func (n NeighborConfig) maxPrefix() (limit uint32, action string, after time.Duration) {
	limit, action, after = DefaultMaxPrefix, actionRestart, DefaultMaxAfter
	if m := n.MaxPrefix; m != nil {
		if m.Limit > 0 {
			limit = m.Limit
		}
		if m.Action != "" {
			action = m.Action
		}
		after = valueOr(m.After, after)
	}
	return limit, action, after
}

func valueOr[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}
