package bgp

import (
	"net/netip"
	"time"
)

// A backend speaks BGP. It has one life: start once, close once. Its calls come
// from one goroutine. What it sees it hands to the function it was made with,
// in the order in which it happened on each session: stateChange, notification,
// dialFailure, update.
type backend interface {
	// start makes it able to speak, with no neighbor yet.
	start() error
	// announce adds or replaces routes, for all neighbors that share the family.
	announce(routes []Route) error
	// withdraw removes routes.
	withdraw(prefixes []netip.Prefix) error
	// connect adds every neighbor: from now on it dials and accepts.
	connect() error
	// sessions asks for the details that no event carries.
	sessions() (map[netip.Addr]session, error)
	// resend repeats every route to an established neighbor.
	resend(neighbor netip.Addr) error
	// redial forgets the pause after the end of a session that is down.
	redial(neighbor netip.Addr) error
	// enable lets a session start again that reached its prefix limit.
	enable(neighbor netip.Addr) error
	// close ends every session and returns when all is gone.
	close()
}

// session is what a backend knows of one session.
type session struct {
	state           State
	hold, keepalive time.Duration // negotiated
	families        []string      // negotiated
	received        uint32        // prefixes
	overLimit       bool          // down until enabled
}

// stateChange is a session's step to another state.
type stateChange struct {
	to     State
	reason string // the backend's word for it
}

// notification is a NOTIFICATION message (RFC 4271 section 4.5).
type notification struct {
	sent          bool // by us
	code, subcode uint8
	communication string // the text of an administrative shutdown (RFC 9003)
}

// dialFailure is a connection that could not be made.
type dialFailure struct{ err string }

// hangup is a connection that the neighbor closed before it sent an OPEN.
type hangup struct{}

// update is an UPDATE message that was written to the session.
type update struct {
	reach []SentRoute
	gone  []netip.Prefix
}
