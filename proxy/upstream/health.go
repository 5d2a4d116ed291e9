package upstream

import (
	"fmt"
	"sync"
	"time"
)

// A State is the verdict on a backend.
type State string

// What a backend may be. Only a healthy one takes requests.
const (
	Unknown   State = "unknown"   // no check has ended yet
	Healthy   State = "healthy"   // takes requests
	Suspect   State = "suspect"   // a request could not connect; the next check decides
	Unhealthy State = "unhealthy" // its checks fail
	Ejected   State = "ejected"   // its checks succeed, but requests failed there: passed over for a while
)

// health is the verdict on one backend and how it came about. Each verdict
// method reports whether the state changed.
type health struct {
	mu        sync.Mutex // guards all below
	state     State
	since     time.Time
	streak    int // checks in a row that speak against state
	lastCheck time.Time
	lastError string
	repeats   int
	errorAt   time.Time
}

func (h *health) get() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state
}

// good takes a check that succeeded. The first one of all suffices, and one
// clears a suspicion; a backend that was down must succeed rise times in a row.
func (h *health) good(now time.Time, rise int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastCheck = now
	switch h.state {
	case Unknown, Suspect:
		return h.enter(now, Healthy)
	case Unhealthy:
		if h.streak++; h.streak >= rise {
			return h.enter(now, Healthy)
		}
	case Healthy, Ejected:
		h.streak = 0
	}
	return false
}

// bad takes a check that failed. The first one of all is a verdict; later ones
// need fall in a row.
func (h *health) bad(now time.Time, fall int, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastCheck = now
	h.note(now, err)
	switch h.state {
	case Unknown:
		return h.enter(now, Unhealthy)
	case Healthy, Suspect, Ejected:
		if h.streak++; h.streak >= fall {
			return h.enter(now, Unhealthy)
		}
	case Unhealthy:
		h.streak = 0
	}
	return false
}

// suspect takes a request's word that the backend cannot be reached.
func (h *health) suspect(now time.Time, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.note(now, err)
	return h.state == Healthy && h.enter(now, Suspect)
}

// enter changes the state; h.mu is held.
func (h *health) enter(now time.Time, s State) bool {
	h.state, h.since, h.streak = s, now, 0
	return true
}

// note counts an error; h.mu is held.
func (h *health) note(now time.Time, err error) {
	text := reason(err)
	if text != h.lastError {
		h.lastError, h.repeats = text, 0
	}
	h.repeats++
	h.errorAt = now
}

// status returns the part of a status that h knows.
func (h *health) status() BackendStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := BackendStatus{State: h.state, Since: h.since, LastCheck: h.lastCheck, LastError: h.lastError, LastErrorAt: h.errorAt}
	if h.repeats > 1 {
		s.LastError = fmt.Sprintf("%s x%d", h.lastError, h.repeats)
	}
	return s
}
