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
}

// stepStrays decides, for each VIP, where to look for connections that nobody
// here has: in the geo that left last, else, while this geo is new on the wire,
// in the nearest that announces it. nil when this node does not look.
func stepStrays(prev *Plan, v *View, vips []VIPPlan) ([]StrayPlan, map[string]StrayMemory, []Reason) {
	if !v.L4Strays || v.World == nil {
		return nil, nil, nil
	}
	var plans []StrayPlan
	var why []Reason
	memory := make(map[string]StrayMemory, len(vips))
	for i := range vips {
		vip := &vips[i]
		m := prev.Memory.Strays[vip.Name]
		m = v.watchWire(vip, &m)
		memory[vip.Name] = m
		p := v.left(vip.Name, &m)
		if p.Geo == "" {
			p = v.arrived(vip.Name, &m)
		}
		if p.Geo != "" {
			why = append(why, Reason{"strays", vip.Name, fmt.Sprintf("connections that nobody here has are looked for in %s: %s", p.Geo, p.Why)})
		}
		plans = append(plans, p)
	}
	return plans, memory, why
}

// watchWire notes who has the VIP on the wire now.
func (v *View) watchWire(vip *VIPPlan, before *StrayMemory) StrayMemory {
	m := StrayMemory{Away: before.Away, Wire: map[string]time.Time{}}
	if vip.State != Announced && !Announces(v.World.Self(), vip.Name, v.Now) {
		m.Away = v.Now
	}
	for _, g := range v.others() {
		switch seen := before.Wire[g.Name]; {
		case onWire(g, vip.Name, v.Now):
			m.Wire[g.Name] = v.Now
		case !seen.IsZero() && v.Now.Sub(seen) < v.L4Drain:
			m.Wire[g.Name] = seen
		}
	}
	return m
}

// tellMargin is what another geo needs to act on what it was told: a decision,
// and its packet path.
const tellMargin = 300 * time.Millisecond

// tellTime is how long the other geos are told of a drain before routers are: 0
// when none of them looks for connections here.
func (v *View) tellTime() time.Duration {
	if !v.L4Strays {
		return 0
	}
	tell := time.Duration(0)
	for _, g := range v.others() {
		if takesStrays(g) {
			tell = max(tell, g.RTT+tellMargin)
		}
	}
	return tell
}

// onWire reports whether g announces a VIP, draining or not.
func onWire(g *world.Geo, vip string, now time.Time) bool {
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Record != nil && Believed(g, n, now) && (n.Announcing(vip) || n.Record.VIPs[vip] == string(Draining)) {
			return true
		}
	}
	return false
}

// left returns the geo that leaves, or left last.
func (v *View) left(vip string, m *StrayMemory) StrayPlan {
	p := StrayPlan{VIP: vip}
	var last time.Time
	for _, g := range v.others() {
		seen := m.Wire[g.Name]
		if seen.IsZero() || Announces(g, vip, v.Now) || !takesStrays(g) || !seen.After(last) {
			continue
		}
		last = seen
		p.Geo, p.Why, p.Until = g.Name, g.Name+" withdrew it", seen.Add(v.L4Drain)
		if seen.Equal(v.Now) {
			p.Why, p.Until = g.Name+" drains it", time.Time{}
		}
	}
	return p
}

// arrived returns who had the connections before this geo announced the VIP.
func (v *View) arrived(vip string, m *StrayMemory) StrayPlan {
	p := StrayPlan{VIP: vip}
	if m.Away.IsZero() || v.Now.Sub(m.Away) >= v.L4Drain {
		return p
	}
	for _, g := range v.others() {
		if !Announces(g, vip, v.Now) || !takesStrays(g) {
			continue
		}
		p.Geo, p.Why, p.Until = g.Name, "this geo announces it anew", m.Away.Add(v.L4Drain)
		if m.Away.Equal(v.Now) {
			p.Why, p.Until = "this geo does not announce it", time.Time{}
		}
		return p
	}
	return p
}

// takesStrays reports whether some live node of g takes packets of its
// connections from other geos.
func takesStrays(g *world.Geo) bool { return g.Alive && StrayTarget(g, 0) != nil }

// StrayTarget returns the node of g that packets for its connections go to: each
// sender, told apart by its number, has one of those that have a share of the
// ring, or of all live ones when none of these has. nil: there is none.
func StrayTarget(g *world.Geo, sender uint16) *world.Node {
	var sharers, all []*world.Node
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if !n.Alive || n.Record == nil || n.Record.L4 == nil || !n.Record.L4.Strays {
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
