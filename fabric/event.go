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

// eventPause is the least time between two events about one kind of refusal
// by one peer, so that a babbler does not fill the log. Counts have no pause.
const eventPause = 5 * time.Second

// refusals counts what was refused.
type refusals struct {
	event func(EventKind, Peer, string)

	mu    sync.Mutex
	count map[string]uint64
	told  map[toldKey]time.Time
}

type toldKey struct {
	kind   EventKind
	reason string
	node   string
}

func newRefusals(event func(EventKind, Peer, string)) *refusals {
	return &refusals{event: event, count: map[string]uint64{}, told: map[toldKey]time.Time{}}
}

// add counts one refusal and tells of it, unless it told of the like lately.
func (r *refusals) add(kind EventKind, reason string, from Peer, text string) {
	key := toldKey{kind, reason, from.Node}
	now := time.Now()
	r.mu.Lock()
	r.count[string(kind)+":"+reason]++
	quiet := now.Sub(r.told[key]) < eventPause
	if !quiet {
		if len(r.told) > 4096 {
			clear(r.told)
		}
		r.told[key] = now
	}
	r.mu.Unlock()
	if !quiet {
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
