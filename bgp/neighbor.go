package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"
)

// neighbor is what the speaker knows of one session. It is guarded by Speaker.mu.
type neighbor struct {
	cfg   NeighborConfig
	local uint32 // our AS

	state  State
	since  time.Time
	detail session // as last asked for
	sent   map[netip.Prefix]SentRoute
	flaps  uint64

	heard   string // meaning of a NOTIFICATION that ends the session, until its end is heard of
	ended   fault  // why the last established session ended
	refused fault  // why no session comes about now

	redial  bool      // a good session ended: try again without a pause
	retryAt time.Time // of a session over its prefix limit; zero: none
	warned  bool      // that the prefix limit is exceeded
	wrong   int       // checks in a row that found a mismatch
}

// fault is something that went wrong.
type fault struct {
	text string
	at   time.Time
}

// settled is how long a session lives before its end counts as the neighbor's
// restart and not as a quarrel: only then is it dialed without a pause.
const settled = 10 * time.Second

func newNeighbor(cfg NeighborConfig, local uint32) *neighbor {
	return &neighbor{cfg: cfg, local: local, state: Idle, since: time.Now(), sent: make(map[netip.Prefix]SentRoute)}
}

// internal reports whether the session is iBGP.
func (n *neighbor) internal() bool { return n.cfg.ASN == n.local }

// hear takes one event of the backend; it returns what is worth telling.
func (n *neighbor) hear(e any, now time.Time) *Event {
	switch e := e.(type) {
	case stateChange:
		return n.step(e, now)
	case notification:
		n.heard = e.text(n)
		if n.state != Established {
			n.refused = fault{n.heard, now}
		}
	case dialFailure:
		n.refused = fault{dialText(e.err, n), now}
	case hangup:
		n.refused = fault{hangupText(n), now}
	case update:
		for _, r := range e.reach {
			n.sent[r.Prefix] = r
		}
		for _, p := range e.gone {
			delete(n.sent, p)
		}
	}
	return nil
}

// step takes a change of state.
func (n *neighbor) step(c stateChange, now time.Time) *Event {
	from, since := n.state, n.since
	if from == c.to {
		return nil
	}
	n.state, n.since = c.to, now
	heard := n.heard
	n.heard = ""
	switch {
	case c.to == Established:
		clear(n.sent)
		n.refused, n.retryAt = fault{}, time.Time{}
		n.wrong, n.warned, n.redial = 0, false, false
		return &Event{At: now, Neighbor: n.cfg.Name, Up: true, Text: "session established"}
	case from == Established:
		clear(n.sent)
		n.flaps++
		n.redial = now.Sub(since) >= settled
		n.ended = fault{endText(c.reason, heard, n), now}
		return &Event{At: now, Neighbor: n.cfg.Name, Text: n.ended.text}
	case from == OpenConfirm && heard == "":
		n.refused = fault{refusalText(c.reason, n), now}
	}
	return nil
}

// learn takes the details of the session; it reports whether they are news.
func (n *neighbor) learn(s session) bool {
	old := n.detail
	n.detail = s
	return old.received != s.received || old.hold != s.hold || old.overLimit != s.overLimit || old.state != s.state
}

// behind reports whether the details are from before the session came up or
// went down.
func (n *neighbor) behind() bool {
	return (n.state == Established) != (n.detail.state == Established)
}

func (n *neighbor) status() NeighborStatus {
	limit, _, _ := n.cfg.maxPrefix()
	st := NeighborStatus{
		Name: n.cfg.Name, Address: n.cfg.Address, Port: n.cfg.port(), ASN: n.cfg.ASN,
		State: n.state, Since: n.since, Limit: limit, Flaps: n.flaps,
		LastError: n.ended.text, LastErrorAt: n.ended.at,
	}
	if n.state == Established {
		st.Hold, st.Keepalive, st.Families, st.Received = n.detail.hold, n.detail.keepalive, n.detail.families, n.detail.received
	}
	if n.refused.text != "" {
		st.LastError, st.LastErrorAt = n.refused.text, n.refused.at
	}
	for _, p := range slices.SortedFunc(maps.Keys(n.sent), netip.Prefix.Compare) {
		st.Sent = append(st.Sent, n.sent[p])
	}
	return st
}

// mismatch compares what was sent with want.
func (n *neighbor) mismatch(want map[netip.Prefix]Route) []Mismatch {
	if n.state != Established {
		return nil
	}
	var out []Mismatch
	add := func(p netip.Prefix, text string) {
		out = append(out, Mismatch{Neighbor: n.cfg.Name, Prefix: p, Text: text})
	}
	for _, p := range slices.SortedFunc(maps.Keys(want), netip.Prefix.Compare) {
		if !n.carries(p) {
			continue
		}
		s, ok := n.sent[p]
		switch {
		case !ok && !n.negotiated(p):
			add(p, "not sent: the neighbor does not take "+family(p))
		case !ok:
			add(p, "not sent")
		default:
			if d := want[p].differs(s, n.local, n.internal()); d != "" {
				add(p, "sent with "+d)
			}
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(n.sent), netip.Prefix.Compare) {
		if _, ok := want[p]; !ok {
			add(p, "not withdrawn")
		}
	}
	return out
}

// carries reports whether the session is meant for prefixes like p. A family
// that the neighbor refused counts: the prefix is missing there.
func (n *neighbor) carries(p netip.Prefix) bool {
	return slices.Contains(n.cfg.families(), family(p))
}

// negotiated reports whether both sides take prefixes like p, as far as known.
func (n *neighbor) negotiated(p netip.Prefix) bool {
	return n.behind() || slices.Contains(n.detail.families, family(p))
}

func family(p netip.Prefix) string {
	if p.Addr().Is4() {
		return familyIPv4
	}
	return familyIPv6
}

// overLimit notes that the neighbor sent too much, and returns what to say.
func (n *neighbor) overLimit(now time.Time) string {
	limit, action, after := n.cfg.maxPrefix()
	switch {
	case n.detail.overLimit && n.retryAt.IsZero():
		n.retryAt = now.Add(after)
		n.refused = fault{fmt.Sprintf("it announced more prefixes than max_prefix %d: closed; next try at %s", limit, n.retryAt.Format(time.TimeOnly)), now}
		return n.refused.text
	case action == actionWarn && n.state == Established && n.detail.received > limit && !n.warned:
		n.warned = true
		return fmt.Sprintf("it announced %d prefixes, more than max_prefix %d", n.detail.received, limit)
	}
	return ""
}
