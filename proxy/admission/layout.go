package admission

import (
	"slices"
	"time"

	"anyedge/internal/steering"
)

// A layout is a plan, laid out for Decide: the hash space of each class is cut
// into intervals, one per destination, from a fixed origin. A small change of
// a rate moves the borders a little, and so only the clients at the borders.
// It is immutable.
type layout struct {
	plan   *steering.Plan
	at     time.Time // when the widths were last corrected
	dests  []dest    // nearest first, rates above 0
	cuts   [classes][]cut
	refuse [classes]float64 // share of what is not relayed
}

// A dest is where relayed requests go.
type dest struct {
	geo  string
	rate float64 // requests/s, planned
	want float64
	peer *peer
}

// A cut ends the interval of a destination.
type cut struct {
	upto float64 // in [0,1]
	dest int
}

// pick returns the destination whose interval holds h, nil for none.
func (l *layout) pick(class int, h float64) *dest {
	for _, c := range l.cuts[class] {
		if h < c.upto {
			return &l.dests[c.dest]
		}
	}
	return nil
}

// serves reports whether geo can serve service, as far as the plan says.
func (l *layout) serves(service, geo string) bool {
	p, known := l.plan.Services[service]
	return !known || slices.Contains(p.Elsewhere, geo)
}

// relay counts a request that goes to to.
func (l *layout) relay(to *dest) Decision {
	to.peer.relayed.Add(1)
	return Decision{Verdict: Relay, Geo: to.geo, Want: to.want, Urgent: l.plan.Shed.Urgent}
}

// compile lays p out with the widths as corrected so far. The caller holds mu.
func (d *Door) compile(p *steering.Plan) *layout {
	l := &layout{plan: p, at: d.at}
	s := &p.Shed
	rates := map[string]float64{}
	for _, r := range s.Routes {
		if r.Rate > 0 {
			peer := d.peers.get(r.Geo)
			l.dests = append(l.dests, dest{r.Geo, r.Rate, r.Want, peer})
			rates[r.Geo] = r.Rate
		}
	}
	for geo, peer := range d.peers.all() {
		peer.plan(rates[geo])
	}
	if s.Observe {
		return l
	}
	relayed := l.cut(s.Offered, d.share)
	l.refuse = refusals(s, d.share, relayed)
	return l
}

// cut lays out the intervals for demand requests/s, of which share is
// background, and returns what part of each class is relayed. Background goes
// first and takes the farthest destinations; interactive work takes the
// nearest.
func (l *layout) cut(demand, share float64) (relayed [classes]float64) {
	if demand <= 0 {
		return relayed
	}
	left := make([]float64, len(l.dests))
	for i, t := range l.dests {
		left[i] = t.rate
	}
	bg := demand * share
	for i := len(l.dests) - 1; i >= 0; i-- {
		rate := l.give(background, i, left[i], bg)
		left[i] -= rate
		relayed[background] += rate / max(bg, 1e-9)
	}
	for i := range l.dests {
		relayed[interactive] += l.give(interactive, i, left[i], demand-bg) / max(demand-bg, 1e-9)
	}
	return relayed
}

// give appends an interval for at most rate of a class's demand, and returns
// the rate that fits.
func (l *layout) give(class, i int, rate, demand float64) float64 {
	start := 0.0
	if n := len(l.cuts[class]); n > 0 {
		start = l.cuts[class][n-1].upto
	}
	if rate <= 1e-9 || demand <= 1e-9 || start >= 1 {
		return 0
	}
	width := l.dests[i].peer.width
	end := min(1, start+rate*width/demand)
	l.cuts[class] = append(l.cuts[class], cut{end, i})
	return (end - start) * demand / width
}

// refusals turns the planned share of all requests into one of those that are
// not relayed, background first.
func refusals(s *steering.ShedPlan, bg float64, relayed [classes]float64) (r [classes]float64) {
	left := min(max(s.RefuseShare, 0), 1) // of everything offered
	demand := [classes]float64{interactive: 1 - bg, background: bg}
	for _, c := range []int{background, interactive} {
		room := demand[c] * (1 - relayed[c])
		if room <= 1e-9 {
			continue
		}
		r[c] = min(1, left/room)
		left -= r[c] * room
	}
	return r
}
