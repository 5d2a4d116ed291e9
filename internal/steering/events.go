package steering

import (
	"fmt"
	"math"
	"strings"
	"time"

	"anyedge/internal/world"
)

const (
	tellChange = 0.10 // a change of the shed share worth telling
	tellPause  = 2.0  // seconds between such
)

// Told is what the event log last heard of the load.
type Told struct {
	Shedding bool
	Share    float64 // of the demand, placed elsewhere
	Refuse   float64 // RefuseShare, when that began
}

// An Event is one line of the event log.
type Event struct {
	At     time.Time
	Kind   string // "vip", "guard", "ring", "shed" or "refuse"
	Target string // VIP, or "" for the geo
	From   string // state before, of a VIP
	To     string
	Text   string // one line with the reason
}

// tell decides whether the load has changed enough for an event.
func (o *overload) tell() {
	p, m := &o.plan, &o.mem
	share := 0.0
	if p.Offered > 0 {
		share = (p.Need - p.Left) / p.Offered
	}
	m.ToldBy += o.sec
	calm := m.ToldBy >= tellPause
	before := m.Told
	if p.Shedding != m.Told.Shedding || calm && moved(m.Told.Share, share) {
		m.Told.Shedding, m.Told.Share = p.Shedding, share
	}
	if (p.RefuseShare > 0) != (m.Told.Refuse > 0) {
		m.Told.Refuse = p.RefuseShare
	}
	if m.Told != before {
		m.ToldBy = 0
	}
}

// moved reports whether a share changed by more than a tenth.
func moved(before, now float64) bool { return math.Abs(now-before) > tellChange*before }

// Events returns what changed from prev to next that an engineer wants to
// read later: transitions of VIPs, the guard stepping in, rings, and sheds that
// start, stop or change by more than a tenth. prev may be nil.
func Events(prev, next *Plan) []Event {
	if prev == nil {
		prev = &Plan{}
	}
	var out []Event
	for i := range next.VIPs {
		vip := &next.VIPs[i]
		before := prev.VIP(vip.Name)
		if before == nil {
			before = &VIPPlan{State: Idle}
		}
		if vip.State != before.State {
			out = append(out, Event{
				At: next.At, Kind: "vip", Target: vip.Name, From: string(before.State), To: string(vip.State),
				Text: fmt.Sprintf("%s -> %s (%s)", before.State, vip.State, vip.Cause),
			})
		}
		if vip.Blocked == "guard" && before.Blocked != "guard" {
			out = append(out, Event{At: next.At, Kind: "guard", Target: vip.Name, Text: next.because("guard", vip.Name)})
		}
	}
	return append(append(out, ringEvents(prev, next)...), loadEvents(prev, next)...)
}

// ringEvents tells of a ring that came into force.
func ringEvents(prev, next *Plan) []Event {
	if next.Ring == nil || next.Ring.Now == nil {
		return nil
	}
	is := next.Ring.Now
	if prev.Ring != nil && prev.Ring.Now != nil && prev.Ring.Now.Generation == is.Generation {
		return nil
	}
	text := fmt.Sprintf("generation %d, %s: %s", is.Generation, is.Phase, names(is.Members))
	switch is.Phase {
	case world.RingPrepare:
		text += "; to come: " + names(is.Other)
	case world.RingDrain:
		text += "; before: " + names(is.Other)
	case world.RingStable:
	}
	return []Event{{At: next.At, Kind: "ring", Text: text + " (" + is.Reason + ")"}}
}

// names lists members, with their weights where these differ.
func names(ms []world.RingMember) string {
	parts := make([]string, len(ms))
	for i, m := range ms {
		parts[i] = m.Node
		if m.Weight != ms[0].Weight || ms[0].Weight != ms[len(ms)-1].Weight {
			parts[i] += fmt.Sprintf("=%d", m.Weight)
		}
		if m.Gone {
			parts[i] += " (gone)"
		}
	}
	return strings.Join(parts, ", ")
}

// loadEvents returns the events of the load.
func loadEvents(prev, next *Plan) []Event {
	was, is := prev.Memory.Shed.Told, next.Memory.Shed.Told
	if was == is {
		return nil
	}
	var out []Event
	event := func(kind, text string) { out = append(out, Event{At: next.At, Kind: kind, Text: text}) }
	switch {
	case is.Shedding && !was.Shedding:
		event("shed", "shedding starts: "+next.because("shed-excess", ""))
	case was.Shedding && !is.Shedding:
		event("shed", fmt.Sprintf("shedding ends: offered %s is %s of %s", rate(next.Shed.Offered), percent(next.Shed.Utilisation), rate(next.Shed.Capacity)))
	case is.Share != was.Share && is.Shedding:
		event("shed", fmt.Sprintf("%s of the requests are shed, %s before: %s", percent(is.Share), percent(was.Share), next.because("shed-excess", "")))
	}
	switch {
	case is.Refuse > 0 && was.Refuse == 0:
		event("refuse", "refusing starts: "+next.because("refuse", ""))
	case was.Refuse > 0 && is.Refuse == 0:
		event("refuse", "refusing ends")
	}
	return out
}

// because returns the text of the first reason with that rule, about target
// unless that is "".
func (p *Plan) because(rule, target string) string {
	for _, r := range p.Why {
		if r.Rule == rule && (target == "" || r.Target == target) {
			return r.Text
		}
	}
	return rule
}

// String returns c in one line: who and why.
func (c Cause) String() string {
	if c.Who != "" {
		return fmt.Sprintf("%s %s: %s", c.Kind, c.Who, c.Reason)
	}
	return c.Reason
}
