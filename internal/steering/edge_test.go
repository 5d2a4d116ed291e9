package steering_test

import (
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// t0 is when every test's edged starts.
var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// An edge is one geo's view under construction, and the plans that follow from
// it.
type edge struct {
	view steering.View
	plan *steering.Plan
}

// newEdge returns geo fra with a healthy VIP www in front of the service shop,
// and iad (90 ms) and nrt (230 ms), which announce www and serve shop.
func newEdge() *edge {
	e := &edge{view: steering.View{
		Now: t0, Started: t0, CapacityRPS: 300,
		World: &world.World{At: t0, Geo: "fra", Node: "fra-1", Geos: []world.Geo{
			{Name: "fra", Number: 1, Alive: true},
			otherGeo("iad", 2, 90), otherGeo("nrt", 3, 230),
		}},
		VIPs: []steering.VIPView{{
			Config: steering.VIPConfig{Name: "www"}, Here: true,
			Services: []string{"shop"}, ListenersUp: true, ProxyAlive: t0,
		}},
		Services: []steering.ServiceView{{Name: "shop", Healthy: 2, Total: 2, Reported: true}},
	}}
	return e
}

// otherGeo is a live geo with one node, rtt milliseconds away.
func otherGeo(name string, number uint8, rtt int) world.Geo {
	return world.Geo{
		Name: name, Number: number, Alive: true, RTT: time.Duration(rtt) * time.Millisecond, Heard: t0,
		Nodes: []world.Node{{
			Name: name + "-1", Geo: name, Status: world.Joined, Seen: t0,
			Record: &world.NodeRecord{
				Geo: name, Node: name + "-1",
				Services: map[string]world.Counts{"shop": {Healthy: 2, Total: 2}},
				VIPs:     map[string]string{"www": "announced"},
			},
		}},
	}
}

// geo returns the named geo of the edge's world.
func (e *edge) geo(name string) *world.Geo { return e.view.World.Find(name) }

// says makes the record of geo say that its www is in state.
func (e *edge) says(geo, state string) { e.geo(geo).Nodes[0].Record.VIPs["www"] = state }

// drained makes ana drain geo.
func (e *edge) drained(geo string) {
	e.view.World.Orders = append(e.view.World.Orders, world.Order{
		ID: "1", Kind: world.DrainGeo, Target: geo, Who: "ana", Reason: "switch swap", At: e.view.Now,
	})
}

// decide makes the plan for the time of the view; everything in it that is
// usually fresh is.
func (e *edge) decide(now time.Time) *steering.Plan {
	silent := e.view.Now
	for i := range e.view.VIPs {
		if e.view.VIPs[i].ProxyAlive.Equal(silent) {
			e.view.VIPs[i].ProxyAlive = now
		}
	}
	for i := range e.view.World.Geos {
		for j := range e.view.World.Geos[i].Nodes {
			if n := &e.view.World.Geos[i].Nodes[j]; n.Seen.Equal(silent) {
				n.Seen = now
			}
		}
	}
	e.view.Measured.Interval = now.Sub(e.view.Now)
	e.view.Now = now
	e.plan = steering.Decide(e.plan, &e.view)
	return e.plan
}

// until decides every 100 ms up to now, the last time at now.
func (e *edge) until(now time.Time) {
	for e.view.Now.Add(100 * time.Millisecond).Before(now) {
		e.decide(e.view.Now.Add(100 * time.Millisecond))
	}
	e.decide(now)
}

// www returns the plan of the edge's VIP.
func (e *edge) www(t *testing.T) *steering.VIPPlan {
	t.Helper()
	vip := e.plan.VIP("www")
	if vip == nil {
		t.Fatal("the plan has no VIP www")
	}
	return vip
}

// up brings the edge to its announced state at 31 s.
func (e *edge) up(t *testing.T) {
	t.Helper()
	e.decide(t0)
	e.until(at(31))
	if vip := e.www(t); vip.State != steering.Announced {
		t.Fatalf("www is %s 31s after the start: %s", vip.State, vip.Cause)
	}
}
