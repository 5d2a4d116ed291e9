package fabric

import (
	"maps"
	"sync"
	"time"
)

// An EventKind says what happened.
type EventKind string

// What a fabric tells.
const (
	NodeJoined    EventKind = "node_joined"
	NodeLost      EventKind = "node_lost"
	NodeLeft      EventKind = "node_left"
	PathUp        EventKind = "path_up"        // probes to the node are answered again
	PathDown      EventKind = "path_down"      // probes to the node are not answered
	DuplicateName EventKind = "duplicate_name" // somebody with another key uses a node's name
	PeerRefused   EventKind = "peer_refused"   // a connection with a bad certificate, or one name too many in gossip
	RecordRefused EventKind = "record_refused"
	LoadRefused   EventKind = "load_refused"
)

// An Event is something an operator may want to know.
type Event struct {
	At   time.Time
	Kind EventKind
	Geo  string // "" when unknown
	Node string // "" when unknown
	Text string
}

// event hands e to whoever listens, and logs it.
func (f *Fabric) event(kind EventKind, p Peer, text string) {
	f.log.Info("fabric event", "event", string(kind), "geo", p.Geo, "node", p.Node, "detail", text)
	if f.setup.Events != nil {
		f.setup.Events(Event{At: time.Now(), Kind: kind, Geo: p.Geo, Node: p.Node, Text: text})
	}
}

// The least time between two events about one kind of refusal by one peer: it
// doubles from event to event, so that a babbler fills neither the log nor the
// list of events, until the peer was quiet for eventCalm. Counts have no pause.
const (
	eventPause    = 5 * time.Second
	eventPauseMax = time.Hour
	eventCalm     = 10 * time.Minute
)

// refusals counts what was refused.
type refusals struct {
	event func(EventKind, Peer, string)

	mu    sync.Mutex
	count map[string]uint64
	told  map[toldKey]told
}

// told is what was said of one kind of refusal.
type told struct {
	at    time.Time     // the last event
	last  time.Time     // the last refusal
	pause time.Duration // until the next event
}

// next takes a refusal, and reports whether it is an event.
func (t *told) next(now time.Time) bool {
	calm := now.Sub(t.last) >= eventCalm
	t.last = now
	if now.Sub(t.at) < t.pause && !calm {
		return false
	}
	t.at, t.pause = now, min(2*t.pause, eventPauseMax)
	if calm {
		t.pause = eventPause
	}
	return true
}

type toldKey struct {
	kind   EventKind
	reason string
	node   string
}

func newRefusals(event func(EventKind, Peer, string)) *refusals {
	return &refusals{event: event, count: map[string]uint64{}, told: map[toldKey]told{}}
}

// add counts one refusal and tells of it, unless it told of the like lately.
func (r *refusals) add(kind EventKind, reason string, from Peer, text string) {
	key := toldKey{kind, reason, from.Node}
	now := time.Now()
	r.mu.Lock()
	r.count[string(kind)+":"+reason]++
	if len(r.told) > 4096 {
		clear(r.told)
	}
	said := r.told[key]
	tell := said.next(now)
	r.told[key] = said
	r.mu.Unlock()
	if tell {
		r.event(kind, from, reason+": "+text)
	}
}

// silent counts a refusal that nobody needs to hear of.
func (r *refusals) silent(kind EventKind, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count[string(kind)+":"+reason]++
}

// Refused returns how often what was refused, by KIND:REASON.
func (f *Fabric) Refused() map[string]uint64 {
	f.refuse.mu.Lock()
	defer f.refuse.mu.Unlock()
	return maps.Clone(f.refuse.count)
}
