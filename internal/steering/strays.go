package steering

import (
	"fmt"
	"slices"
	"time"

	"anyedge/internal/world"
)

// A StrayPlan says which geo may have connections to a VIP whose packets arrive
// here: routes that moved brought them. It lasts as long as a connection is
// looked for at another owner (View.L4Drain).
type StrayPlan struct {
	VIP   string
	Geo   string    // "": packets without a connection here have none anywhere
	Until time.Time // zero: as long as what Why says lasts
	Why   string    // "fra withdrew it", "this geo does not announce it"
}

// StrayMemory is what the next decision about a VIP's strays must know.
type StrayMemory struct {
	Away time.Time            // when this geo was last seen not to announce it
	Wire map[string]time.Time // when each other geo was last seen to have it on the wire
	Left map[string]time.Time // when each was last seen to drain it, or to have left the wire lately
}

// stepStrays decides, for each VIP, where to look for connections that nobody
// here has: in the geo that leaves or has left last; else in one that did and is
// back, as long as routers may still bring its clients here; else, while this
// geo is new on the wire, in the nearest that announces it. nil when this node
// does not look.
func stepStrays(prev *Plan, v *View, vips []VIPPlan) ([]StrayPlan, map[string]StrayMemory, []Reason) {
	if !v.L4Strays || v.World == nil {
		return nil, nil, nil
	}
	plans := make([]StrayPlan, 0, len(vips))
	var why []Reason
	memory := make(map[string]StrayMemory, len(vips))
	for i := range vips {
		s := strayStep{v: v, vip: vips[i].Name}
		if i < len(prev.Strays) && prev.Strays[i].VIP == s.vip {
			s.before = prev.Strays[i].Geo
		}
		p := StrayPlan{VIP: s.vip}
		if v.VIPs[i].Here {
			before, known := prev.Memory.Strays[s.vip]
			s.watch(vips[i].State, &before, known)
			memory[s.vip] = s.mem
			p = s.where()
		}
		if p.Geo != "" {
			why = append(why, Reason{"strays", s.vip, fmt.Sprintf("connections that nobody here has are looked for in %s: %s", p.Geo, p.Why)})
		}
		plans = append(plans, p)
	}
	return plans, memory, why
}

// A strayStep is the search for one VIP's strays.
type strayStep struct {
	v      *View
	vip    string
	before string // the geo that was looked in
	mem    StrayMemory
}

// fresh reports whether a time counts still.
func (s *strayStep) fresh(t time.Time) bool { return !t.IsZero() && s.v.Now.Sub(t) < s.v.L4Drain }

// watch notes who has the VIP on the wire now. A process that has seen nothing yet
// takes what is off the wire to have left it now: its siblings may have seen it.
func (s *strayStep) watch(state State, before *StrayMemory, known bool) {
	v := s.v
	s.mem = StrayMemory{Away: before.Away, Wire: map[string]time.Time{}, Left: map[string]time.Time{}}
	if !known || state != Announced && !Announces(v.World.Self(), s.vip, v.Now) {
		s.mem.Away = v.Now
	}
	for _, g := range v.others() {
		switch {
		case says(g, s.vip, v.Now, string(Announced), string(Draining)), !known && says(g, s.vip, v.Now, string(Withdrawn)):
			s.mem.Wire[g.Name] = v.Now
		case s.fresh(before.Wire[g.Name]):
			s.mem.Wire[g.Name] = before.Wire[g.Name]
		}
		_, was := s.mem.Wire[g.Name]
		switch {
		case was && !Announces(g, s.vip, v.Now):
			s.mem.Left[g.Name] = v.Now
		case s.fresh(before.Left[g.Name]):
			s.mem.Left[g.Name] = before.Left[g.Name]
		}
	}
}

// says reports whether some node of g is believed to have a VIP in one of the
// states.
func says(g *world.Geo, vip string, now time.Time, states ...string) bool {
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Record != nil && Believed(g, n, now) && slices.Contains(states, n.Record.VIPs[vip]) {
			return true
		}
	}
	return false
}

// where returns where to look. Among geos alike the one stays that was looked in.
func (s *strayStep) where() StrayPlan {
	leaving, returned, announcing := StrayPlan{VIP: s.vip}, StrayPlan{VIP: s.vip}, StrayPlan{VIP: s.vip}
	for _, g := range s.v.others() {
		if !takesStrays(g) {
			continue
		}
		announces := Announces(g, s.vip, s.v.Now)
		wire, left := s.mem.Wire[g.Name], s.mem.Left[g.Name]
		switch {
		case !announces && s.fresh(wire):
			s.prefer(&leaving, g.Name, wire, g.Name+" drains it", g.Name+" withdrew it")
		case announces && s.fresh(left):
			s.prefer(&returned, g.Name, left, "", g.Name+" is back")
		}
		if announces && s.fresh(s.mem.Away) {
			s.prefer(&announcing, g.Name, s.mem.Away, "this geo does not announce it", "this geo announces it anew")
		}
	}
	for _, p := range []StrayPlan{leaving, returned, announcing} {
		if p.Geo != "" {
			return p
		}
	}
	return StrayPlan{VIP: s.vip}
}

// prefer makes geo the one of p if it was seen later than that, or as late and
// looked in before. now says why while what was seen lasts.
func (s *strayStep) prefer(p *StrayPlan, geo string, seen time.Time, now, then string) {
	until := seen.Add(s.v.L4Drain)
	lasts := seen.Equal(s.v.Now)
	had := p.Until
	if p.Until.IsZero() && p.Geo != "" {
		had = s.v.Now.Add(s.v.L4Drain)
	}
	if p.Geo != "" && !until.After(had) && (!until.Equal(had) || geo != s.before) {
		return
	}
	p.Geo, p.Why, p.Until = geo, then, until
	if lasts {
		p.Why, p.Until = now, time.Time{}
	}
}

// Bounds of how long the other geos are told of a drain before routers are:
// tellMargin is what one of them needs to act on it, a decision and its packet
// path.
const (
	tellMargin = 300 * time.Millisecond
	tellMost   = 2 * time.Second
)

// tellTime is how long the other geos are told of a drain before routers are: 0
// when none of them looks for connections here.
func (v *View) tellTime() time.Duration {
	if !v.L4Strays || v.World == nil {
		return 0
	}
	tell := time.Duration(0)
	for i := range v.World.Geos {
		if g := &v.World.Geos[i]; g.Name != v.World.Geo && takesStrays(g) {
			tell = max(tell, g.RTT+tellMargin)
		}
	}
	return min(tell, tellMost)
}

// takesStrays reports whether some live node of g takes packets of its
// connections from other geos.
func takesStrays(g *world.Geo) bool {
	return g.Alive && slices.ContainsFunc(g.Nodes, func(n world.Node) bool { return takes(&n) })
}

func takes(n *world.Node) bool {
	return n.Alive && n.Record != nil && n.Record.L4 != nil && n.Record.L4.Strays
}

// StrayTarget returns the node of g that packets for its connections go to: each
// sender, told apart by its number, has one of those that have a share of the
// ring, or of all live ones when none of these has. nil: there is none.
func StrayTarget(g *world.Geo, sender uint16) *world.Node {
	var sharers, all []*world.Node
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if !takes(n) {
			continue
		}
		all = append(all, n)
		if g.Ring != nil && slices.ContainsFunc(g.Ring.Members, func(m world.RingMember) bool { return m.Node == n.Name }) {
			sharers = append(sharers, n)
		}
	}
	if len(sharers) > 0 {
		all = sharers
	}
	if len(all) == 0 {
		return nil
	}
	return all[int(sender)%len(all)]
}
