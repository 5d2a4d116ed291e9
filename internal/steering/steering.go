// Package steering decides: what state each VIP is in, and how much of this
// geo's work is served where.
//
// [Decide] is pure: no clock, no I/O, no lock, no goroutine, no randomness. It
// maps the plan before and a [View] of everything that may matter to the next
// [Plan], which is never changed afterwards. What it must remember (timers,
// estimators) travels inside the plan as plain values, so a recorded Plan and
// View reproduce the next Plan, and a test is a row in a table. [Plan.Why]
// names every rule that fired and the numbers it saw.
//
// [Controller] is the thin loop around it: it gathers a View, calls Decide ten
// times a second and at once when woken, publishes the plan and has it
// applied. It decides nothing. [Announcements], [Events] and [Load] translate a
// plan for those who act on it or show it.
//
// The package neither counts requests nor routes one (proxy/admission), speaks
// no BGP (bgp) and keeps no state outside the plan. A plan is one node's: each
// node of a geo sheds what is above its own capacity and is granted its own
// share; what one node of a geo grants is taken as the whole geo's, which claims
// too little where a geo has several. There is no flap budget, no pin and no
// fleet lease: two geos that start to drain within one propagation time of each
// other are told apart by drain.wait alone.
package steering

import (
	"slices"
	"time"

	"anyedge/internal/world"
)

// Decide returns the plan that follows prev under what v shows. prev is nil at
// the start. Neither argument is changed or kept.
//
// Durations are measured with the times of v: within a process these carry
// monotonic readings, so a step of the wall clock moves no timer.
func Decide(prev *Plan, v *View) *Plan {
	if prev == nil {
		prev = &Plan{}
	}
	p := &Plan{At: v.Now}
	p.Memory.VIPs = make(map[string]VIPMemory, len(v.VIPs))
	for i := range v.VIPs {
		vip := stepVIP(prev, v, &v.VIPs[i])
		p.VIPs = append(p.VIPs, vip.plan)
		p.Memory.VIPs[vip.plan.Name] = vip.mem
		p.Why = append(p.Why, vip.explain()...)
	}
	services, why := decideServices(v)
	p.Services, p.Why = services, append(p.Why, why...)

	ring, ringMem, why := stepRing(prev, v)
	p.Ring, p.Memory.Ring = ring, ringMem
	p.Why = append(p.Why, why...)

	p.Strays, p.Memory.Strays, why = stepStrays(prev, v, p.VIPs)
	p.Why = append(p.Why, why...)

	load := newOverload(prev, v)
	p.Shed = load.decide()
	p.Memory.Shed = load.mem
	p.Why = append(p.Why, load.why...)

	slices.SortStableFunc(p.Why, func(a, b Reason) int { return rank(a.Rule) - rank(b.Rule) })
	return p
}

// Gone reports whether no VIP is on the wire: a stopping process has nothing
// more to withdraw.
func (p *Plan) Gone() bool {
	return !slices.ContainsFunc(p.VIPs, func(vip VIPPlan) bool {
		return vip.State == Announced || vip.State == Draining
	})
}

// Memory is what one Decide leaves for the next: timers and estimators, plain
// values only.
type Memory struct {
	VIPs map[string]VIPMemory
	Shed ShedMemory
	Ring RingMemory

	Strays map[string]StrayMemory // by VIP
}

// rank orders rules by how much they matter to who asks what goes on.
func rank(rule string) int {
	switch rule {
	case "hard-fail", "refuse":
		return 0
	case "guard", "no-backend", "service-down":
		return 1
	case "shed-excess", "shed-left":
		return 2
	case "stopping", "operator-drain", "gate-false", "ring-prepare", "ring-drain", "ring-stable":
		return 3
	case "reports", "hold-up", "l4", "strays", "hold-down", "rise", "shed-held", "shed-margin":
		return 4
	case "grant", "budget-none", "capacity-unknown":
		return 5
	}
	return 6
}

// self returns the name of this geo, "" when there is no world.
func (v *View) self() string {
	if v.World == nil {
		return ""
	}
	return v.World.Geo
}

// node returns the name of this node, "" when there is no world.
func (v *View) node() string {
	if v.World == nil {
		return ""
	}
	return v.World.Node
}

// others returns every geo but this one, nearest first as the world has them.
func (v *View) others() []*world.Geo {
	if v.World == nil {
		return nil
	}
	out := make([]*world.Geo, 0, len(v.World.Geos))
	for i := range v.World.Geos {
		if g := &v.World.Geos[i]; g.Name != v.World.Geo {
			out = append(out, g)
		}
	}
	return out
}

// drainOrder returns the operator's order in force that drains geo, nil when
// there is none.
func (v *View) drainOrder(geo string) *world.Order { return v.order(world.DrainGeo, geo) }

// order returns the order in force of that kind for target, nil when there is
// none.
func (v *View) order(kind world.OrderKind, target string) *world.Order {
	if v.World == nil {
		return nil
	}
	for i := range v.World.Orders {
		o := &v.World.Orders[i]
		if o.Kind == kind && o.Target == target && inForce(o, v.Now) {
			return o
		}
	}
	return nil
}

// inForce reports whether o's time is not over.
func inForce(o *world.Order, now time.Time) bool {
	return o.Until.IsZero() || now.Before(o.Until)
}
