package steering_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// A random walk of an edge through everything a view can hold.
type walk struct {
	*edge
	t *rapid.T
}

// newWalk returns an edge with up to six other geos.
func newWalk(t *rapid.T) *walk {
	w := &walk{newEdge(), t}
	w.view.World.Geos = w.view.World.Geos[:1]
	for i := range rapid.IntRange(0, 6).Draw(t, "geos") {
		w.view.World.Geos = append(w.view.World.Geos, otherGeo(fmt.Sprintf("geo-%c", 'a'+i), uint8(i+2), rapid.IntRange(0, 400).Draw(t, "rtt")))
	}
	w.view.CapacityRPS = rapid.SampledFrom([]float64{0, 50, 300, 5000}).Draw(t, "capacity")
	w.view.Config.Target = rapid.SampledFrom([]float64{0, 0.5, 0.95}).Draw(t, "target")
	w.view.VIPs[0].Config.Guard.MinOthers = new(rapid.IntRange(0, 3).Draw(t, "min_others"))
	w.view.VIPs[0].Config.Drain.Wait = new(time.Duration(rapid.IntRange(0, 2).Draw(t, "wait")) * time.Second)
	fast := steering.StabilityConfig{Rise: new(time.Second), Fall: new(time.Second), HoldUp: new(time.Second), HoldDown: new(3 * time.Second)}
	if rapid.Bool().Draw(t, "fast") {
		w.view.VIPs[0].Config.Stability = fast
	}
	return w
}

// next moves everything a little, and time by what.
func (w *walk) next() *steering.Plan {
	t, v := w.t, &w.view
	now := v.Now.Add(time.Duration(rapid.SampledFrom([]int{1, 20, 100, 100, 100, 700, 3000}).Draw(t, "ms")) * time.Millisecond)
	often := func(what string) bool { return rapid.IntRange(0, 19).Draw(t, what) > 0 }
	load := rapid.SampledFrom([]float64{0, 0.2, 0.8, 0.9, 1.3, 5}).Draw(t, "load")
	v.Measured.Offered = int(load * max(v.CapacityRPS, 100) * now.Sub(v.Now).Seconds())
	v.Services[0].Healthy = 2
	if !often("healthy") {
		v.Services[0].Healthy = rapid.IntRange(0, 2).Draw(t, "backends")
	}
	v.VIPs[0].ListenersUp = often("listeners")
	v.Stopping = v.Stopping || rapid.IntRange(0, 99).Draw(t, "stop") == 0
	switch rapid.IntRange(0, 19).Draw(t, "order") {
	case 0:
		w.drained(rapid.SampledFrom(v.World.Geos).Draw(t, "drained").Name)
	case 1:
		undrain(w.edge)
	}
	v.Measured.Peers = map[string]steering.PeerMeasured{}
	for i := 1; i < len(v.World.Geos); i++ {
		g := &v.World.Geos[i]
		g.Alive = often("alive")
		g.Nodes[0].Record.VIPs["www"] = rapid.SampledFrom([]string{"announced", "announced", "draining", "withdrawn"}).Draw(t, "state")
		g.Load = world.Load{
			At:     now.Add(-time.Duration(rapid.IntRange(0, 7000).Draw(t, "age")) * time.Millisecond),
			Budget: rapid.Float64Range(0, 400).Draw(t, "budget"), Urgent: rapid.Float64Range(0, 500).Draw(t, "urgent"),
		}
		relayed := rapid.IntRange(0, 50).Draw(t, "relayed")
		v.Measured.Peers[g.Name] = steering.PeerMeasured{
			Relayed: relayed, Busy: rapid.IntRange(0, relayed).Draw(t, "busy"),
			Grant: rapid.Float64Range(0, 400).Draw(t, "grant"), GrantAt: now.Add(-time.Duration(rapid.IntRange(0, 2000).Draw(t, "grant age")) * time.Millisecond),
			Want: rapid.Float64Range(0, 400).Draw(t, "want"), WantAt: now.Add(-time.Duration(rapid.IntRange(0, 2000).Draw(t, "want age")) * time.Millisecond),
			Urgent: rapid.Bool().Draw(t, "wants urgently"),
		}
	}
	return w.decide(now)
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWalk(t)
		var before *steering.Plan
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			p := w.next()
			checkLoad(t, &w.view, &p.Shed)
			checkGrants(t, &w.view, &p.Shed)
			checkNearestFirst(t, &w.view, before, p)
			checkVIP(t, &w.view, before, p)
			for _, r := range p.Why {
				if r.Rule == "" || r.Text == "" {
					t.Fatalf("a reason without rule or text: %+v", r)
				}
			}
			before = p
		}
	})
}

// checkLoad: need is bounded by the demand, zero at the target and below;
// shedding and taking exclude each other; refusals are the excess and no more.
func checkLoad(t *rapid.T, v *steering.View, p *steering.ShedPlan) {
	const eps = 1e-6
	sum := 0.0
	for _, r := range p.Routes {
		sum += r.Rate
		if r.Rate <= 0 || r.Want < r.Rate-eps {
			t.Fatalf("route %+v", r)
		}
	}
	switch {
	case p.Need < 0 || p.Need > p.Offered+eps:
		t.Fatalf("need %g of %g", p.Need, p.Offered)
	case p.Need > 0 && p.Utilisation <= p.Target:
		t.Fatalf("need %g at %g, target %g", p.Need, p.Utilisation, p.Target)
	case math.Abs(sum+p.Left-p.Need) > eps || p.Left < 0:
		t.Fatalf("routes %g and left %g do not make need %g", sum, p.Left, p.Need)
	case !p.Shedding && (p.Need > 0 || len(p.Routes) > 0 || p.RefuseShare > 0 || p.Urgent):
		t.Fatalf("not shedding, but %+v", p)
	case p.Shedding && (p.Budget > 0 || p.BudgetUrgent > 0 || p.Capacity <= 0):
		t.Fatalf("shedding, but %+v", p)
	case p.BudgetUrgent < p.Budget:
		t.Fatalf("urgent budget %g below the budget %g", p.BudgetUrgent, p.Budget)
	case p.Budget > max(0, (p.Target-0.03-p.Utilisation)*p.Capacity)+eps:
		t.Fatalf("budget %g at %g of %g", p.Budget, p.Utilisation, p.Capacity)
	case p.BudgetUrgent > max(0, (p.Target+0.05-p.Utilisation)*p.Capacity)+eps:
		t.Fatalf("urgent budget %g at %g of %g", p.BudgetUrgent, p.Utilisation, p.Capacity)
	case p.RefuseShare > 0 && math.Abs(p.RefuseShare*p.Offered-(p.Offered-sum-0.99*v.CapacityRPS)) > eps:
		t.Fatalf("refuses %g of %g with %g placed and %g capacity", p.RefuseShare*p.Offered, p.Offered, sum, v.CapacityRPS)
	case (v.Stopping || v.Services[0].Healthy == 0) && p.BudgetUrgent > 0:
		t.Fatalf("offers %g although it stops (%v) or has no backend", p.BudgetUrgent, v.Stopping)
	}
}

// checkGrants: within the budgets, within the wants, nothing kept back, max-min
// fair among those who are in the same need.
func checkGrants(t *rapid.T, v *steering.View, p *steering.ShedPlan) {
	const eps = 1e-6
	sum, wanted, highest := 0.0, 0.0, 0.0
	for name, g := range p.Grants {
		m := v.Measured.Peers[name]
		if g < 0 || g > m.Want+eps || v.Now.Sub(m.WantAt) >= time.Second {
			t.Fatalf("grants %g to %s, which wanted %g %v ago", g, name, m.Want, v.Now.Sub(m.WantAt))
		}
		sum, wanted = sum+g, wanted+m.Want
		if !m.Urgent {
			highest = max(highest, g)
		}
	}
	if sum > p.BudgetUrgent+eps || sum < min(p.Budget, wanted)-eps {
		t.Fatalf("grants %g of %g wanted, budgets %g and %g", sum, wanted, p.Budget, p.BudgetUrgent)
	}
	for name, g := range p.Grants {
		if g < v.Measured.Peers[name].Want-eps && g < highest-eps {
			t.Fatalf("%s has %g of %g while another has %g", name, g, v.Measured.Peers[name].Want, highest)
		}
	}
}

// checkNearestFirst: no geo is sent work while a nearer one has an unused claim,
// and none without a fresh word, out of reach, drained or too far.
func checkNearestFirst(t *rapid.T, v *steering.View, before, p *steering.Plan) {
	routes := map[string]float64{}
	for _, r := range p.Shed.Routes {
		routes[r.Geo] = r.Rate
	}
	drained := func(name string) bool {
		return slices.ContainsFunc(v.World.Orders, func(o world.Order) bool { return o.Target == name })
	}
	geos := slices.Clone(v.World.Geos[1:])
	slices.SortStableFunc(geos, func(a, b world.Geo) int { return int(a.RTT - b.RTT) })
	spare := ""
	for _, g := range geos {
		rate, used := routes[g.Name]
		m := v.Measured.Peers[g.Name]
		claim := m.Grant
		if v.Now.Sub(m.GrantAt) >= time.Second {
			age := v.Now.Sub(g.Load.At).Seconds()
			budget := g.Load.Budget
			if before != nil && before.Shed.Urgent {
				budget = max(budget, g.Load.Urgent)
			}
			claim = 0.5 * budget * max(0, 1-age/5)
		}
		share, ok := p.Memory.Shed.Peers[g.Name]
		if ok {
			claim *= share.Share
		}
		if !g.Alive || g.RTT == 0 || g.RTT > 300*time.Millisecond || drained(g.Name) {
			claim = 0
		}
		if used && rate > claim+1e-6 {
			t.Fatalf("%g/s go to %s, which takes %g/s", rate, g.Name, claim)
		}
		if used && spare != "" {
			t.Fatalf("%s is used while %s, which is nearer, has room", g.Name, spare)
		}
		if p.Shed.Need > 0 && rate < claim-1e-6 {
			spare = g.Name
		}
	}
	if p.Shed.Left > 1e-6 && spare != "" {
		t.Fatalf("%g/s are left while %s has room", p.Shed.Left, spare)
	}
}

// checkVIP: a VIP leaves the wire softly only when enough others are known to
// announce it, and a hard failure always takes it off.
func checkVIP(t *rapid.T, v *steering.View, before, p *steering.Plan) {
	vip := p.VIP("www")
	wire := func(s steering.State) bool { return s == steering.Announced || s == steering.Draining }
	if !v.VIPs[0].ListenersUp && wire(vip.State) {
		t.Fatalf("%s with a dead listener", vip.State)
	}
	if before == nil || !wire(before.VIP("www").State) || wire(vip.State) || v.Stopping || !v.VIPs[0].ListenersUp {
		return
	}
	others := 0
	for _, g := range v.World.Geos[1:] {
		if g.Alive && g.Nodes[0].Record.VIPs["www"] == "announced" {
			others++
		}
	}
	if others < *v.VIPs[0].Config.Guard.MinOthers {
		t.Fatalf("%s although only %d others announce it", vip.State, others)
	}
}

// The same plan and view make the same next plan, also after both were written
// down and read again.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWalk(t)
		for range rapid.IntRange(0, 20).Draw(t, "steps") {
			w.next()
		}
		before := w.plan
		text, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		want := w.next()
		if diff := cmp.Diff(want, steering.Decide(before, &w.view)); diff != "" {
			t.Fatalf("a second time (-first +second):\n%s", diff)
		}
		var read *steering.Plan
		if err := json.Unmarshal(text, &read); err != nil {
			t.Fatal(err)
		}
		view, err := json.Marshal(&w.view)
		if err != nil {
			t.Fatal(err)
		}
		var seen steering.View
		if err := json.Unmarshal(view, &seen); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, steering.Decide(read, &seen)); diff != "" {
			t.Fatalf("after a round trip through JSON (-want +got):\n%s", diff)
		}
		if again, err := json.Marshal(before); err != nil || string(again) != string(text) {
			t.Fatalf("the plan before was changed (%v)", err)
		}
	})
}

// More demand never sheds less, and never sends less to any destination.
func TestMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		grants := [2]float64{rapid.Float64Range(0, 400).Draw(t, "iad"), rapid.Float64Range(0, 400).Draw(t, "nrt")}
		need, rates := 0.0, map[string]float64{}
		for n := 10; n <= 200; n += rapid.IntRange(5, 20).Draw(t, "more") {
			e := newEdge()
			e.offer(n)
			e.decide(t0)
			e.until(at(3))
			e.granted(grants[0], grants[1])
			p := &e.plan.Shed
			next := map[string]float64{}
			for _, r := range p.Routes {
				next[r.Geo] = r.Rate
			}
			for name := range maps.Keys(rates) {
				if next[name] < rates[name]-1e-6 {
					t.Fatalf("%d/s offered: %s gets %g/s, before %g/s", 10*n, name, next[name], rates[name])
				}
			}
			if p.Need < need-1e-6 {
				t.Fatalf("%d/s offered: need %g, before %g", 10*n, p.Need, need)
			}
			need, rates = p.Need, next
		}
	})
}

// Ticks that come late, or in bursts because of wakes, see the same load.
func TestTicksOfAnyLength(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEdge()
		e.decide(t0)
		due := 0.0
		for e.view.Now.Before(at(20)) {
			d := time.Duration(rapid.SampledFrom([]int{1, 5, 100, 100, 1000}).Draw(t, "ms")) * time.Millisecond
			due += 600 * d.Seconds()
			e.offer(int(due))
			due -= math.Trunc(due)
			e.decide(e.view.Now.Add(d))
		}
		if got := e.plan.Shed.Offered; math.Abs(got-600) > 6 {
			t.Fatalf("offered %.1f/s, want 600/s", got)
		}
		if !e.plan.Shed.Shedding {
			t.Fatal("does not shed at twice the capacity")
		}
	})
}

func BenchmarkDecide(b *testing.B) {
	for _, geos := range []int{3, 50} {
		b.Run(fmt.Sprint(geos, " geos"), func(b *testing.B) {
			e := newEdge()
			for i := len(e.view.World.Geos); i < geos; i++ {
				e.view.World.Geos = append(e.view.World.Geos, otherGeo(fmt.Sprint("geo-", i), uint8(i+1), 100+i))
			}
			for i := 1; i < geos; i++ {
				g := &e.view.World.Geos[i]
				e.peer(g.Name, steering.PeerMeasured{Grant: 10, GrantAt: t0})
			}
			e.offer(60)
			e.view.Measured.Interval = 100 * time.Millisecond
			plan := steering.Decide(nil, &e.view)
			b.ReportAllocs()
			for b.Loop() {
				plan = steering.Decide(plan, &e.view)
			}
		})
	}
}
