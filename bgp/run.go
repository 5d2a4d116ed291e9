package bgp

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	checkEvery  = 5 * time.Second       // between two comparisons of intent and wire
	drainWithin = time.Second           // for the withdrawals to be written when stopping
	closeWithin = 3 * time.Second       // for the sessions to end; the library sets itself no limit
	askAgain    = 50 * time.Millisecond // the backend, which was behind
	repeatAfter = 2                     // checks that find a mismatch before all is sent again
)

// Run speaks to the neighbors until ctx ends, then withdraws every prefix,
// waits until the neighbors were told, and closes the sessions. A neighbor that
// cannot be reached is no error; an address that cannot be listened on is. It
// is called once.
func (s *Speaker) Run(ctx context.Context, ready func()) error {
	if err := s.backend.start(); err != nil {
		return err
	}
	defer s.close()
	// What is wanted is loaded first: a neighbor's first UPDATE says all of it.
	if err := s.apply(); err != nil {
		return err
	}
	if err := s.backend.connect(); err != nil {
		return err
	}
	s.log.Info("bgp speaker started", "asn", s.setup.Config.ASN, "router_id", s.setup.RouterID, "neighbors", len(s.neighbors))
	ready()

	check := time.NewTicker(checkEvery)
	defer check.Stop()
	soon := time.NewTimer(0) // for what could not be done right now
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			s.drain()
			return nil
		case <-s.wake:
		case <-soon.C:
		case <-check.C:
			s.check()
		}
		if err := s.apply(); err != nil {
			s.log.Error("announcing went wrong and is tried again", "err", err)
		}
		s.tell()
		if s.tend(time.Now()) {
			soon.Reset(askAgain)
		}
	}
}

// apply gives the backend the difference between what is wanted and what it
// was told before.
func (s *Speaker) apply() error {
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	var add []Route
	var drop []netip.Prefix
	for p, r := range want {
		if old, ok := s.told[p]; !ok || !old.equal(r) {
			add = append(add, r)
		}
	}
	for p := range s.told {
		if _, ok := want[p]; !ok {
			drop = append(drop, p)
		}
	}
	if len(drop) > 0 {
		if err := s.backend.withdraw(drop); err != nil {
			return fmt.Errorf("withdraw %v: %w", drop, err)
		}
		for _, p := range drop {
			delete(s.told, p)
			s.log.Info("route withdrawn", "prefix", p)
		}
	}
	if len(add) == 0 {
		return nil
	}
	if err := s.backend.announce(add); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	for _, r := range add {
		s.told[r.Prefix] = r
		s.log.Info("route announced", "prefix", r.Prefix, "communities", join(r.Communities), "prepend", r.Prepend)
	}
	return nil
}

// tell logs the events that have come up and hands them on.
func (s *Speaker) tell() {
	s.mu.Lock()
	events := s.events
	s.events = nil
	s.mu.Unlock()
	for _, e := range events {
		if e.Up {
			s.log.Info("neighbor up", "neighbor", e.Neighbor)
		} else {
			s.log.Warn("neighbor down", "neighbor", e.Neighbor, "reason", e.Text)
		}
		if s.setup.OnEvent != nil {
			s.setup.OnEvent(e)
		}
	}
}

// learn asks the backend for what no event carries. It is the only thing that
// waits for the library's one management goroutine, so it happens rarely.
func (s *Speaker) learn() {
	sessions, err := s.backend.sessions()
	if err != nil {
		s.log.Warn("sessions unknown", "err", err)
		return
	}
	news := false
	var tooMany []Event
	s.mu.Lock()
	for _, n := range s.neighbors {
		d, ok := sessions[n.cfg.Address]
		if !ok {
			continue
		}
		news = n.learn(d) || news
		if text := n.overLimit(time.Now()); text != "" {
			tooMany = append(tooMany, Event{Neighbor: n.cfg.Name, Text: text})
		}
	}
	s.mu.Unlock()
	for _, e := range tooMany {
		s.log.Warn("neighbor sends too many prefixes", "neighbor", e.Neighbor, "reason", e.Text)
	}
	if news {
		s.poke()
	}
}

// check compares intent and wire, and repeats everything to a neighbor for
// which they stay different.
func (s *Speaker) check() {
	s.learn()
	var again []*neighbor
	s.mu.Lock()
	for _, n := range s.neighbors {
		if !slices.ContainsFunc(n.mismatch(s.want), func(m Mismatch) bool { return n.negotiated(m.Prefix) }) {
			n.wrong = 0
			continue
		}
		n.wrong++
		if n.wrong%repeatAfter == 0 {
			again = append(again, n)
		}
	}
	s.mu.Unlock()
	for _, n := range again {
		s.log.Error("neighbor was told something else than wanted; repeating", "neighbor", n.cfg.Name)
		if err := s.backend.resend(n.cfg.Address); err != nil {
			s.log.Error("repeating went wrong", "neighbor", n.cfg.Name, "err", err)
		}
	}
}

// tend brings sessions back that the backend leaves alone, and catches up with
// what it knows. It reports whether it must be called again soon.
func (s *Speaker) tend(now time.Time) (again bool) {
	if s.behind() {
		s.learn()
	}
	s.mu.Lock()
	var dial, enable []*neighbor
	for _, n := range s.neighbors {
		switch {
		case !n.retryAt.IsZero() && !now.Before(n.retryAt):
			n.retryAt, n.redial = time.Time{}, false
			enable = append(enable, n)
		case n.redial && (n.state != Idle || !n.retryAt.IsZero()):
			n.redial = false
		case n.redial && !n.behind():
			n.redial = false
			dial = append(dial, n)
		}
	}
	s.mu.Unlock()
	for _, n := range enable {
		s.log.Info("trying a neighbor again that sent too many prefixes", "neighbor", n.cfg.Name)
		if err := s.backend.enable(n.cfg.Address); err != nil {
			s.log.Warn("enabling went wrong", "neighbor", n.cfg.Name, "err", err)
		}
	}
	for _, n := range dial {
		if err := s.backend.redial(n.cfg.Address); err != nil {
			s.log.Warn("redialing went wrong", "neighbor", n.cfg.Name, "err", err)
		}
	}
	return s.behind()
}

// behind reports whether a session's change has not reached all of the backend.
func (s *Speaker) behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.neighbors, (*neighbor).behind)
}

// drain withdraws everything and waits, not for long, until every neighbor was
// told.
func (s *Speaker) drain() {
	s.mu.Lock()
	s.want, s.stopped = nil, true
	s.mu.Unlock()
	prefixes := slices.Collect(maps.Keys(s.told))
	clear(s.told)
	late := time.NewTimer(drainWithin)
	defer late.Stop()
	withdrawn := make(chan error, 1)
	go func() { withdrawn <- s.backend.withdraw(prefixes) }()
	select {
	case err := <-withdrawn:
		if err != nil {
			s.log.Error("withdrawing went wrong", "err", err)
		}
	case <-late.C: // closing the sessions withdraws as well
		s.log.Warn("withdrawing takes too long; closing the sessions")
		return
	}
	for len(s.Mismatch()) > 0 {
		select {
		case <-s.wake:
		case <-late.C:
			s.log.Warn("a neighbor did not take our withdrawals in time", "mismatch", len(s.Mismatch()))
			return
		}
	}
}

// close ends the sessions. The library may wait for a dead neighbor without
// limit: after closeWithin it is left behind.
func (s *Speaker) close() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.backend.close()
	}()
	late := time.NewTimer(closeWithin)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		s.log.Warn("closing the sessions takes too long; left behind")
	}
	s.mu.Lock()
	for _, n := range s.neighbors {
		n.hear(stateChange{to: Idle, reason: "stopped"}, time.Now())
	}
	s.events = nil
	s.mu.Unlock()
	s.log.Info("bgp speaker stopped")
}
