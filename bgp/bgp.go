// Package bgp announces anycast prefixes to upstream routers.
//
// A [Speaker] keeps one BGP-4 session (RFC 4271) per neighbor and makes what
// every neighbor hears equal to the last set given to [Speaker.Announce]. What
// was written to each session is read back and compared with that set:
// [Speaker.Mismatch].
//
// The protocol itself is GoBGP's, behind the backend interface and in
// speaker_gobgp.go, with its log in speaker_gobgp_log.go. There can be one running Speaker per process, because the
// library keeps its route selection options in package variables.
//
// The package learns no routes, announces no route that it was not given, and
// writes nothing to the kernel's tables. Deciding what to announce belongs to
// internal/steering.
package bgp

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Setup is what a Speaker is made from.
type Setup struct {
	Config   Config
	Node     NodeConfig
	RouterID netip.Addr // IPv4, unique among the neighbors' neighbors

	// OnEvent, when not nil, hears of every session that comes up or goes
	// down, one call at a time.
	OnEvent func(Event)
}

// A Speaker announces prefixes to the neighbors of this node.
type Speaker struct {
	setup   Setup
	log     *slog.Logger
	backend backend

	wake    chan struct{} // holds one token when want or a session changed
	changed chan struct{} // the same, for whoever watches the status

	mu        sync.Mutex // guards what follows
	want      map[netip.Prefix]Route
	stopped   bool        // want is nothing, for good
	neighbors []*neighbor // in configuration order; the slice itself never changes
	events    []Event     // to be told to OnEvent

	told map[netip.Prefix]Route // owned by the goroutine in Run: what the backend was given
}

// New checks the setup, reads the neighbors' secrets, and starts nothing.
func New(setup Setup, log *slog.Logger) (*Speaker, error) {
	if err := errors.Join(setup.Config.Validate(), setup.Node.Validate()); err != nil {
		return nil, err
	}
	if !setup.RouterID.Is4() || setup.RouterID.IsUnspecified() {
		return nil, fmt.Errorf("router id %q is no IPv4 address: set node.router_id", addrText(setup.RouterID))
	}
	s := &Speaker{
		setup:   setup,
		log:     log,
		wake:    make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
		want:    make(map[netip.Prefix]Route),
		told:    make(map[netip.Prefix]Route),
	}
	passwords := make(map[netip.Addr]string)
	for _, c := range setup.Node.Neighbors {
		s.neighbors = append(s.neighbors, newNeighbor(c, setup.Config.ASN))
		if c.Password == nil {
			continue
		}
		secret, err := c.Password.Load()
		if err != nil {
			return nil, fmt.Errorf("neighbor %s: password: %w", c.Name, err)
		}
		if len(secret) == 0 || len(secret) > maxPassword {
			return nil, fmt.Errorf("neighbor %s: password in %s has %d bytes; TCP-MD5 takes 1 to %d", c.Name, c.Password, len(secret), maxPassword)
		}
		passwords[c.Address] = string(secret)
	}
	s.backend = newGoBGP(setup, passwords, s.emit, log)
	return s, nil
}

// maxPassword is Linux's TCP_MD5SIG_MAXKEYLEN.
const maxPassword = 80

// Announce states everything that should be announced; what is not in routes
// is withdrawn. It returns at once and may be called at any time from anywhere,
// also before Run: what is stated then is what the neighbors hear first.
// Of two routes with one prefix the last counts. Once Run is stopping nothing
// is announced any more.
func (s *Speaker) Announce(routes []Route) {
	want := make(map[netip.Prefix]Route, len(routes))
	for _, r := range routes {
		r = r.normal()
		if !r.Prefix.IsValid() {
			s.log.Error("route without a prefix is not announced")
			continue
		}
		want[r.Prefix] = r
	}
	s.mu.Lock()
	change := !s.stopped && !maps.EqualFunc(want, s.want, Route.equal)
	if change {
		s.want = want
	}
	s.mu.Unlock()
	if change {
		s.poke()
	}
}

// Changed holds a token when a session or what was sent has changed since the
// last token was taken.
func (s *Speaker) Changed() <-chan struct{} { return s.changed }

// Status tells how every session is and what it was sent.
func (s *Speaker) Status() Status {
	st := Status{
		Impl:     backendName,
		Version:  backendVersion(),
		ASN:      s.setup.Config.ASN,
		RouterID: s.setup.RouterID,
		Mismatch: s.Mismatch(),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.neighbors {
		st.Neighbors = append(st.Neighbors, n.status())
	}
	return st
}

// Mismatch lists, for every established neighbor, each prefix about which it
// was told something else than the last Announce says. A change is on its way
// for some microseconds; one that stays is repeated to the neighbor.
func (s *Speaker) Mismatch() []Mismatch {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Mismatch
	for _, n := range s.neighbors {
		out = append(out, n.mismatch(s.want)...)
	}
	return out
}

// emit takes what the backend saw. It is called from the backend's goroutines,
// which may hold the backend's locks: it calls nothing back.
func (s *Speaker) emit(addr netip.Addr, e any) {
	s.mu.Lock()
	i := slices.IndexFunc(s.neighbors, func(n *neighbor) bool { return n.cfg.Address == addr })
	if i < 0 {
		s.mu.Unlock()
		return
	}
	if told := s.neighbors[i].hear(e, time.Now()); told != nil {
		s.events = append(s.events, *told)
	}
	s.mu.Unlock()
	s.poke()
}

// poke wakes Run, and whoever waits on Changed.
func (s *Speaker) poke() {
	for _, c := range []chan struct{}{s.wake, s.changed} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
