package steering_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

const (
	simTick  = 100 * time.Millisecond
	simProbe = 150 * time.Millisecond
)

// A fleet is several geos in closed loop: Poisson demand, probes and grants
// that take their time, a door that follows the plan.
type fleet struct {
	now  time.Time
	rng  *rand.Rand
	geos []*simGeo
	mail []letter // on its way, unsorted

	regular bool // arrivals are evenly spaced: no chance but in the routing
}

// A letter takes effect at its time.
type letter struct {
	at  time.Time
	run func()
}

// A simGeo is one geo of the fleet.
type simGeo struct {
	name   string
	demand float64 // requests/s of its own users
	edge   *edge
	rtt    map[string]time.Duration
	plan   *steering.Plan

	executed int // in this tick
	offered  int
	foreign  int
	peers    map[string]steering.PeerMeasured
	credit   map[string]float64 // of each origin, in requests
	tokens   map[string]float64 // for each destination, in requests
	due      float64            // of regular arrivals

	log []sample // one per tick
}

// A sample is what a geo did in one tick.
type sample struct {
	executed, foreign, offered, busy int
	left, need                       float64
	shedding                         bool
}

// newFleet returns fra, iad and nrt with the round-trip times of the demo.
func newFleet(seed uint64, demand ...float64) *fleet {
	f := &fleet{now: t0, rng: rand.New(rand.NewPCG(seed, 1))}
	rtt := map[string]time.Duration{
		"fra-iad": 90 * time.Millisecond, "iad-nrt": 150 * time.Millisecond, "fra-nrt": 230 * time.Millisecond,
	}
	names := []string{"fra", "iad", "nrt"}
	for i, name := range names {
		g := &simGeo{
			name: name, demand: demand[i], edge: newEdge(), rtt: map[string]time.Duration{},
			peers: map[string]steering.PeerMeasured{}, credit: map[string]float64{}, tokens: map[string]float64{},
		}
		w := &world.World{Geo: name, Geos: []world.Geo{{Name: name, Number: uint8(i + 1), Alive: true}}}
		for j, other := range names {
			if d := max(rtt[name+"-"+other], rtt[other+"-"+name]); d > 0 {
				g.rtt[other] = d
				w.Geos = append(w.Geos, otherGeo(other, uint8(j+1), int(d/time.Millisecond)))
			}
		}
		g.edge.view.World = w
		f.geos = append(f.geos, g)
	}
	return f
}

// geo returns the named geo.
func (f *fleet) geo(name string) *simGeo {
	return f.geos[slices.IndexFunc(f.geos, func(g *simGeo) bool { return g.name == name })]
}

// run goes on for seconds.
func (f *fleet) run(seconds float64) {
	for end := f.now.Add(time.Duration(seconds * float64(time.Second))); f.now.Before(end); {
		for _, g := range f.geos {
			g.plan = g.step(f)
		}
		if f.now.Sub(t0)%simProbe < simTick { // as often as the tick allows
			f.probe()
		}
		for _, g := range f.geos {
			g.serve(f)
		}
		f.now = f.now.Add(simTick)
		f.deliver()
	}
}

// deliver runs the letters that are due.
func (f *fleet) deliver() {
	slices.SortStableFunc(f.mail, func(a, b letter) int { return a.at.Compare(b.at) })
	for len(f.mail) > 0 && !f.mail[0].at.After(f.now) {
		l := f.mail[0]
		f.mail = f.mail[1:]
		l.run()
	}
}

// post has run happen after d.
func (f *fleet) post(d time.Duration, run func()) {
	f.mail = append(f.mail, letter{f.now.Add(d), run})
}

// probe sends every geo's load and record to every other.
func (f *fleet) probe() {
	for _, from := range f.geos {
		load := steering.Load(&from.edge.view, from.plan)
		states := steering.VIPStates([]steering.VIPConfig{from.edge.view.VIPs[0].Config}, from.plan)
		for _, to := range f.geos {
			if to == from {
				continue
			}
			f.post(from.rtt[to.name]/2, func() {
				g := to.edge.geo(from.name)
				g.Load = load
				g.Load.At = f.now
				g.Nodes[0].Record = &world.NodeRecord{Services: g.Nodes[0].Record.Services, VIPs: states}
				g.Nodes[0].Seen = f.now
			})
		}
	}
}

// step lets the geo decide on what it measured.
func (g *simGeo) step(f *fleet) *steering.Plan {
	busy := 0
	for _, p := range g.peers {
		busy += p.Busy
	}
	m := &g.edge.view.Measured
	m.Offered, m.Executed, m.Foreign, m.Peers = g.offered, g.executed, g.foreign, map[string]steering.PeerMeasured{}
	for name, p := range g.peers {
		m.Peers[name] = p
		p.Relayed, p.Busy = 0, 0
		g.peers[name] = p
	}
	p := g.edge.decide(f.now)
	g.log = append(g.log, sample{g.executed, g.foreign, g.offered, busy, p.Shed.Left, p.Shed.Need, p.Shed.Shedding})
	g.executed, g.offered, g.foreign = 0, 0, 0
	for origin := range g.peers {
		r := g.limit(origin)
		g.credit[origin] = math.Min(g.credit[origin]+r*simTick.Seconds(), math.Max(0.15*r, 2))
	}
	for _, r := range p.Shed.Routes {
		g.tokens[r.Geo] = math.Min(g.tokens[r.Geo]+1.05*r.Rate*simTick.Seconds(), math.Max(0.1*r.Rate, 1.5)+1.05*r.Rate*simTick.Seconds())
	}
	return p
}

// limit is what the geo's door takes from origin.
func (g *simGeo) limit(origin string) float64 {
	if grant, ok := g.plan.Shed.Grants[origin]; ok {
		return 1.1 * grant
	}
	return g.plan.Shed.Budget
}

// serve lets one tick's requests arrive and sends each where the plan says.
func (g *simGeo) serve(f *fleet) {
	for range g.arrivals(f) {
		g.offered++
		x := f.rng.Float64() * math.Max(g.plan.Shed.Offered, 1)
		var to *steering.Route
		for i := range g.plan.Shed.Routes {
			if x -= g.plan.Shed.Routes[i].Rate; x < 0 {
				to = &g.plan.Shed.Routes[i]
				break
			}
		}
		if to == nil || g.tokens[to.Geo] < 1 {
			g.executed++
			continue
		}
		g.tokens[to.Geo]--
		g.relay(f, *to)
	}
}

// arrivals returns how many requests come in this tick.
func (g *simGeo) arrivals(f *fleet) int {
	if !f.regular {
		return poisson(f.rng, g.demand*simTick.Seconds())
	}
	g.due += g.demand * simTick.Seconds()
	n := int(g.due)
	g.due -= float64(n)
	return n
}

// relay sends one request along a route; a refused one is served at home.
func (g *simGeo) relay(f *fleet, r steering.Route) {
	to, oneWay, urgent := f.geo(r.Geo), g.rtt[r.Geo]/2, g.plan.Shed.Urgent
	p := g.peers[to.name]
	p.Relayed++
	g.peers[to.name] = p
	f.post(oneWay, func() {
		heard := to.peers[g.name]
		heard.Want, heard.Urgent, heard.WantAt = r.Want, urgent, f.now
		to.peers[g.name] = heard
		if _, known := to.credit[g.name]; !known {
			to.credit[g.name] = math.Max(0.15*to.limit(g.name), 2)
		}
		ok := to.credit[g.name] >= 1 && to.plan.Shed.Budget+to.plan.Shed.BudgetUrgent > 0
		if ok {
			to.credit[g.name]--
			to.executed++
			to.foreign++
		}
		grant := to.plan.Shed.Grants[g.name]
		_, granted := to.plan.Shed.Grants[g.name]
		f.post(oneWay, func() {
			back := g.peers[to.name]
			if granted || !ok {
				back.Grant, back.GrantAt = grant, f.now
			}
			if !ok {
				back.Busy++
				g.executed++
			}
			g.peers[to.name] = back
		})
	})
}

// between returns the samples of that time.
func (g *simGeo) between(from, to float64) []sample {
	return g.log[int(from*10):min(len(g.log), int(to*10))]
}

// mean returns the rate of what pick counts, in events/s.
func mean(s []sample, pick func(sample) float64) float64 {
	sum := 0.0
	for _, x := range s {
		sum += pick(x)
	}
	return sum / float64(len(s)) / simTick.Seconds()
}

func executed(s sample) float64 { return float64(s.executed) }
func foreign(s sample) float64  { return float64(s.foreign) }

func poisson(r *rand.Rand, mean float64) int {
	n, p, end := 0, 1.0, math.Exp(-mean)
	for {
		if p *= r.Float64(); p <= end {
			return n
		}
		n++
	}
}

// near complains unless got is within tol of want.
func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if math.Abs(got-want) > tol {
		t.Errorf("%s is %.1f, want %.1f ± %.1f", what, got, want, tol)
	}
}
