package steering

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"anyedge/internal/world"
)

const (
	grantFresh  = time.Second     // how long a grant counts
	budgetFresh = 5 * time.Second // how long the budget in a probe counts
	firstClaim  = 0.5             // share of that budget to claim before a grant is heard

	busyMuch  = 0.15 // share of refusals above which less is claimed
	backOff   = 0.8
	regain    = 0.5 // added per second
	claimMin  = 0.1
	busySpan  = 0.1 // seconds over which refusals are judged
	busyCount = 5   // and relayed requests
)

// PeerMemory is what this geo learned by sending work to another.
type PeerMemory struct {
	Share   float64 // of its word to claim: falls with its refusals
	Span    float64 // seconds since Share was judged
	Relayed int     // since then
	Busy    int
}

// watchPeers adjusts how much of each peer's word is believed: less while it
// refuses, slowly more again after.
func watchPeers(before map[string]PeerMemory, heard map[string]PeerMeasured, sec float64) map[string]PeerMemory {
	after := maps.Clone(before)
	if after == nil {
		after = make(map[string]PeerMemory)
	}
	for name := range heard {
		if _, ok := after[name]; !ok {
			after[name] = PeerMemory{Share: 1}
		}
	}
	for name, m := range after {
		m.Span += sec
		m.Relayed += heard[name].Relayed
		m.Busy += heard[name].Busy
		if m.Span >= busySpan-tickSlack {
			if m.Relayed >= busyCount && float64(m.Busy) > busyMuch*float64(m.Relayed) {
				m.Share = math.Max(claimMin, m.Share*backOff)
			} else {
				m.Share = math.Min(1, m.Share+regain*m.Span)
			}
			m.Span, m.Relayed, m.Busy = 0, 0, 0
		}
		after[name] = m
		if _, ok := heard[name]; !ok && m.Share == 1 {
			delete(after, name)
		}
	}
	if len(after) == 0 {
		return nil
	}
	return after
}

// A claim is how much this geo may send to another now.
type claim struct {
	geo  string
	rtt  time.Duration
	rate float64
}

// claims returns what may go where, nearest first. Geos that are unreachable,
// unmeasured, too far, forbidden or being drained have none.
func (o *overload) claims() []claim {
	var list []claim
	if services := o.v.Services; len(services) > 0 && !slices.ContainsFunc(services, func(s ServiceView) bool { return !s.Exempt }) {
		return nil // nothing here may be shed
	}
	for _, g := range o.v.others() {
		if o.eligible(g) {
			list = append(list, claim{g.Name, g.RTT, o.claim(g)})
		}
	}
	slices.SortStableFunc(list, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.geo, b.geo))
	})
	return list
}

// eligible reports whether work may be shed to g at all.
func (o *overload) eligible(g *world.Geo) bool {
	c := &o.v.Config
	return g.Alive && g.RTT > 0 && g.RTT <= c.maxRTT() && !c.never(g.Name) && !draining(o.v, g)
}

// claim returns how much may go to g: what it granted, or a part of the budget
// its probes offer that falls with its age, less what its refusals teach.
func (o *overload) claim(g *world.Geo) float64 {
	share := 1.0
	if m, ok := o.mem.Peers[g.Name]; ok {
		share = m.Share
	}
	if p, ok := o.v.Measured.Peers[g.Name]; ok && fresh(o.v.Now, p.GrantAt, grantFresh) {
		return math.Max(0, p.Grant) * share
	}
	age := math.Max(0, o.v.Now.Sub(g.Load.At).Seconds())
	if g.Load.At.IsZero() || age >= budgetFresh.Seconds() {
		return 0
	}
	budget := g.Load.Budget
	if o.mem.Urgent {
		budget = math.Max(budget, g.Load.Urgent)
	}
	return firstClaim * math.Max(0, budget) * (1 - age/budgetFresh.Seconds()) * share
}

// room returns what the eligible geos offer to everyone.
func (o *overload) room() float64 {
	sum := 0.0
	for _, g := range o.v.others() {
		if o.eligible(g) && fresh(o.v.Now, g.Load.At, budgetFresh) {
			sum += math.Max(0, g.Load.Budget)
		}
	}
	return sum
}

// place fills the nearest claim first, then the next. It returns the routes and
// what found no place. Each route asks for what was still unplaced when its
// turn came and for slack: a grant is one round trip old when it is used, and
// would else run after a demand that chance moves up.
func place(need, slack float64, claims []claim) (routes []Route, left float64) {
	left = math.Max(0, need)
	for _, c := range claims {
		if left <= 0 {
			break
		}
		r := math.Min(left, c.rate)
		if r <= 0 {
			continue
		}
		routes = append(routes, Route{Geo: c.geo, Rate: r, Want: left + slack})
		left -= r
	}
	return routes, left
}

// fresh reports whether t is known and less than limit ago.
func fresh(now, t time.Time, limit time.Duration) bool {
	return !t.IsZero() && now.Sub(t) < limit
}
