package steering

import (
	"fmt"
	"math"
	"strings"
)

// Shares of capacity, beside Config.Target (T).
const (
	receiveBelow = 0.03 // Tr = T - this: foreign work is taken up to Tr
	urgentAbove  = 0.05 // Te = T + this: from senders in need up to Te
	refuseAbove  = 0.99 // Th: what nobody takes is refused above it
	entryMin     = 0.02 // shedding starts above T + max(entryMin, entrySigma*sigma)
	entrySigma   = 3.5
	wantSlack    = 2.0  // sigmas of the demand that are asked for beyond the need
	exitBand     = 0.02 // and ends below T - exitBand for exitHold
	exitHold     = 2.0
	exitAtOnce   = 0.15  // or below T - exitAtOnce
	urgentLeft   = 0.02  // of the demand without a taker
	refuseLeft   = 0.005 // the same, to count towards a refusal
	minOffer     = 0.02  // a smaller budget is none
	openRate     = 0.25  // a budget grows by at most this share of capacity per second
)

// Times in seconds.
const (
	entryTime   = 0.2 // two ticks above the entry level
	warmUp      = 1.0 // of counting before a budget is offered
	grantTime   = 1.0 // for the first grants to arrive
	urgentAfter = 0.5
	urgentHold  = 5.0
	refuseAfter = 1.0 // since urgent budgets are asked for
)

// ShedMemory is what the next Decide must know of this one's load. Times are
// seconds.
type ShedMemory struct {
	Offered Rate
	Served  float64 // requests/s, as are the next two
	In      float64
	Out     float64

	Shedding bool
	Since    float64 // shedding for
	High     float64 // above the entry level for
	Low      float64 // below the exit level for
	LeftFor  float64 // urgent, and still without a taker, for
	NeedFor  float64 // the same, above urgentLeft
	Urgent   bool
	Calm     float64 // since NeedFor was last long enough to be urgent

	Budget       float64 // as last offered
	BudgetUrgent float64
	Peers        map[string]PeerMemory

	Told   Told    // what was last worth an event
	ToldBy float64 // seconds since
}

// An overload is one decision about load on its way.
type overload struct {
	v      *View
	mem    ShedMemory
	sec    float64 // that v.Measured covers
	target float64

	configured float64 // capacity, whatever the health
	capacity   float64 // what healthy backends can do of it
	healthy    int
	total      int
	dead       string // a service whose local backends are all down: foreign requests may be for it

	plan ShedPlan
	why  []Reason
}

// newOverload measures.
func newOverload(prev *Plan, v *View) *overload {
	o := &overload{v: v, mem: prev.Memory.Shed, target: v.Config.target()}
	m := &v.Measured
	o.sec = math.Max(0, m.Interval.Seconds())
	o.mem.Offered = o.mem.Offered.add(m.Offered, m.Interval)
	o.mem.Served = mean(o.mem.Served, m.Executed, m.Interval)
	o.mem.In = mean(o.mem.In, m.Foreign, m.Interval)
	relayed := 0
	for _, p := range m.Peers {
		relayed += p.Relayed - p.Busy
	}
	o.mem.Out = mean(o.mem.Out, relayed, m.Interval)
	o.mem.Peers = watchPeers(o.mem.Peers, m.Peers, o.sec)
	o.size()
	return o
}

// size finds the capacity: the configured one, times the share of the backends
// that are up.
func (o *overload) size() {
	o.configured = math.Max(0, o.v.CapacityRPS)
	for i := range o.v.Services {
		s := &o.v.Services[i]
		if !s.Reported || s.Total == 0 {
			continue
		}
		o.healthy, o.total = o.healthy+s.Healthy, o.total+s.Total
		if s.Healthy == 0 && !s.Exempt && o.dead == "" {
			o.dead = s.Name
		}
	}
	o.capacity = o.configured
	if o.total > 0 {
		o.capacity *= float64(o.healthy) / float64(o.total)
	}
}

// decide returns the plan for the load.
func (o *overload) decide() ShedPlan {
	o.plan = ShedPlan{
		Observe:  o.v.Config.Mode == ModeObserve,
		Offered:  o.mem.Offered.Slow,
		Capacity: o.capacity,
		Target:   o.target,
	}
	if o.capacity <= 0 {
		o.rest()
		return o.plan
	}
	o.plan.Utilisation = o.plan.Offered / o.capacity
	o.switchMode()
	o.plan.Shedding = o.mem.Shedding
	if o.plan.Shedding {
		o.mem.Since += o.sec
		o.send()
	} else {
		o.mem.forget()
	}
	o.receive()
	o.tell()
	return o.plan
}

// rest is the plan of a geo that sheds nothing and takes nothing: its capacity
// is unknown, or it has none and every request fails over by itself.
func (o *overload) rest() {
	rule, text := "capacity-unknown", "capacity is not configured: nothing is shed and no foreign work is taken"
	if o.configured > 0 {
		rule, text = "budget-none", "takes no foreign work: "+backends(o.healthy, o.total)
	}
	o.because(rule, text)
	o.mem.forget()
	o.mem.Shedding, o.mem.High, o.mem.Low = false, 0, 0
	o.mem.Budget, o.mem.BudgetUrgent = 0, 0
	o.tell()
}

// forget drops what only matters while shedding.
func (m *ShedMemory) forget() { m.Since, m.LeftFor, m.NeedFor, m.Calm, m.Urgent = 0, 0, 0, 0, false }

// switchMode enters or leaves shedding.
func (o *overload) switchMode() {
	u, t, m := o.plan.Utilisation, o.target, &o.mem
	if !m.Shedding {
		margin := math.Max(entryMin, entrySigma*m.Offered.sigma()/o.capacity)
		if u <= t+margin {
			m.High = 0
			if u > t {
				o.because("shed-margin", fmt.Sprintf("%s, which chance may explain up to %s", o.demand(), percent(t+margin)))
			}
			return
		}
		m.High += o.sec
		m.Shedding = m.High >= entryTime-tickSlack
		m.Low = 0
		return
	}
	if u < t-exitBand {
		m.Low += o.sec
	} else {
		m.Low = 0
	}
	if u < t-exitAtOnce || m.Low >= exitHold {
		m.Shedding, m.High, m.Low = false, 0, 0
	}
}

// send places what is too much with the geos that can take it.
func (o *overload) send() {
	p, m := &o.plan, &o.mem
	p.Need = clamp((p.Utilisation-o.target)*o.capacity, 0, p.Offered)
	claims := o.claims()
	p.Routes, p.Left = place(p.Need, wantSlack*m.Offered.sigma(), claims)
	o.hurry()
	p.Urgent = m.Urgent
	// Nobody is refused before the others were asked for the last they have.
	if m.Urgent && p.Left > refuseLeft*p.Offered {
		m.LeftFor += o.sec
	} else {
		m.LeftFor = 0
	}
	if m.LeftFor >= refuseAfter && p.Offered > 0 {
		// Only what the operator said is the limit justifies a refusal: the
		// capacity lost with some backends is an estimate.
		placed := p.Need - p.Left
		p.RefuseShare = clamp((p.Offered-placed-refuseAbove*o.configured)/p.Offered, 0, 1)
	}
	o.explainShed()
}

// hurry decides whether this geo is in need of urgent budgets. It is not while
// the first grants may still be on their way.
func (o *overload) hurry() {
	p, m := &o.plan, &o.mem
	if m.Since > grantTime && p.Left > urgentLeft*p.Offered {
		m.NeedFor += o.sec
	} else {
		m.NeedFor = 0
	}
	if m.NeedFor >= urgentAfter {
		m.Urgent, m.Calm = true, 0
		return
	}
	if !m.Urgent {
		return
	}
	m.Calm += o.sec
	if m.Calm > urgentHold && p.Need < 0.9*o.room() {
		m.Urgent = false // the normal budgets are enough again
	}
}

// demand says how much is offered, and of what.
func (o *overload) demand() string {
	of := rate(o.capacity)
	if o.healthy < o.total {
		of += " (" + backends(o.healthy, o.total) + ")"
	}
	return fmt.Sprintf("offered %s is %s of %s, target %s", rate(o.plan.Offered), percent(o.plan.Utilisation), of, percent(o.target))
}

// explainShed says what goes where, and what finds no taker.
func (o *overload) explainShed() {
	p := &o.plan
	observe := pick(p.Observe, "observe only: ", "")
	switch {
	case p.Need == 0:
		o.because("shed-held", o.demand()+": nothing is too much now")
	case len(p.Routes) == 0:
		o.because("shed-excess", fmt.Sprintf("%s%s: %s too much", observe, o.demand(), rate(p.Need)))
	default:
		o.because("shed-excess", fmt.Sprintf("%s%s: %s go to %s", observe, o.demand(), rate(p.Need-p.Left), routesText(p.Routes)))
	}
	if p.Left > refuseLeft*p.Offered {
		text := fmt.Sprintf("%s of %s find no taker", rate(p.Left), rate(p.Need))
		if p.Urgent {
			text += "; urgent budgets are asked for"
		}
		o.because("shed-left", text)
	}
	if p.RefuseShare > 0 {
		o.because("refuse", fmt.Sprintf("%s%s of the requests are refused: above %s of %s, %.1fs after urgent budgets were asked for",
			observe, percent(p.RefuseShare), percent(refuseAbove), rate(o.configured), o.mem.LeftFor))
	}
}

// because notes a rule that fired.
func (o *overload) because(rule, text string) {
	o.why = append(o.why, Reason{Rule: rule, Target: o.v.self(), Text: text})
}

// routesText lists destinations, nearest first.
func routesText(routes []Route) string {
	parts := make([]string, 0, len(routes))
	for _, r := range routes {
		parts = append(parts, r.Geo+" "+rate(r.Rate))
	}
	return strings.Join(parts, ", ")
}

// clamp returns x, at least lo and at most hi.
func clamp(x, lo, hi float64) float64 { return math.Max(lo, math.Min(x, hi)) }
