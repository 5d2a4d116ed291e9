package steering_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// lookingFor says where strays of www go, and until when.
func lookingFor(p *steering.Plan) string {
	s := p.Strays[0]
	if s.Geo == "" {
		return "nowhere"
	}
	text := s.Geo + ": " + s.Why
	if !s.Until.IsZero() {
		text += fmt.Sprintf(" until %g", s.Until.Sub(t0).Round(time.Millisecond).Seconds())
	}
	return text
}

// strayEdge is newEdge after hold_up, in a fleet whose nodes look for each
// other's connections for 20 s.
func strayEdge() *edge {
	e := newEdge()
	e.view.L4Drain, e.view.L4Strays = 20*time.Second, true
	for i := range e.view.World.Geos[1:] {
		n := &e.view.World.Geos[1+i].Nodes[0]
		n.Alive = true
		n.Record.L4 = &world.L4Record{Strays: true}
	}
	return e
}

// TestStrays follows routes from geo to geo as fra sees them.
func TestStrays(t *testing.T) {
	for _, story := range []struct {
		name  string
		steps []step
	}{
		{"fra comes", []step{
			{0, "fra starts", nil, "iad: this geo does not announce it"},
			{30, "hold_up is over", nil, "iad: this geo announces it anew until 49.9"},
			{49.8, "", nil, "iad: this geo announces it anew until 49.9"},
			{50, "", nil, "nowhere"},
		}},
		{"another leaves", []step{
			{60, "", nil, "nowhere"},
			{70, "iad drains", func(e *edge) { e.says("iad", "draining") }, "iad: iad drains it"},
			{85, "", nil, "iad: iad drains it"},
			{90, "iad is off the wire", func(e *edge) { e.says("iad", "withdrawn") }, "iad: iad withdrew it until 109.9"},
			{95, "nrt leaves too", func(e *edge) { e.says("nrt", "withdrawn") }, "nrt: nrt withdrew it until 114.9"},
			{112, "", nil, "nrt: nrt withdrew it until 114.9"},
			{115, "", nil, "nowhere"},
		}},
		{"another leaves and is back", []step{
			{70, "", func(e *edge) { e.says("iad", "draining") }, "iad: iad drains it"},
			{71, "", func(e *edge) { e.says("iad", "announced") }, "iad: iad is back until 90.9"},
			{90, "", nil, "iad: iad is back until 90.9"},
			{91, "", nil, "nowhere"},
			{95, "", func(e *edge) { e.says("iad", "draining") }, "iad: iad drains it"},
			{96, "", func(e *edge) { e.says("iad", "withdrawn") }, "iad: iad withdrew it until 115.9"},
			{110, "", func(e *edge) { e.says("iad", "announced"); e.says("nrt", "draining") }, "nrt: nrt drains it"},
			{111, "", func(e *edge) { e.says("nrt", "announced") }, "nrt: nrt is back until 130.9"},
		}},
		{"who left is dead", []step{
			{70, "", func(e *edge) { e.says("iad", "withdrawn") }, "iad: iad withdrew it until 89.9"},
			{75, "", func(e *edge) { e.geo("iad").Alive = false }, "nowhere"},
		}},
		{"who left takes none", []step{
			{69, "", func(e *edge) { e.geo("iad").Nodes[0].Record.L4.Strays = false }, "nowhere"},
			{70, "", func(e *edge) { e.says("iad", "withdrawn") }, "nowhere"},
		}},
		{"fra leaves and is back", []step{
			{60, "", nil, "nowhere"},
			{70, "ana drains", drain("fra"), "iad: this geo does not announce it"},
			{95, "", nil, "iad: this geo does not announce it"},
			{100, "and takes it back", undrain, "iad: this geo announces it anew until 119.9"},
			{120, "", nil, "nowhere"},
		}},
		{"others are as near as each other", []step{
			{10, "", nil, "iad: this geo does not announce it"},
			{11, "nrt seems nearer for once", func(e *edge) {
				w := e.view.World
				w.Geos[1], w.Geos[2] = w.Geos[2], w.Geos[1]
			}, "iad: this geo does not announce it"},
			{12, "both drain", func(e *edge) { others("draining")(e) }, "iad: iad drains it"},
			{13, "", func(e *edge) { e.geo("iad").Alive = false }, "nrt: nrt drains it"},
		}},
		{"fra is not among its geos", []step{
			{0, "", here(false), "nowhere"},
			{10, "", func(e *edge) { e.says("iad", "draining") }, "nowhere"},
		}},
		{"fra is alone", []step{
			{60, "", others("idle"), "iad: iad withdrew it until 79.9"},
			{80, "", nil, "nowhere"},
			{90, "ana drains", drain("fra"), "nowhere"},
		}},
	} {
		t.Run(story.name, func(t *testing.T) {
			e := strayEdge()
			now := 0.0
			for _, s := range story.steps {
				for ; now < s.at-0.05; now += 0.1 {
					e.decide(at(now))
				}
				now = s.at
				if s.do != nil {
					s.do(e)
				}
				if got := lookingFor(e.decide(at(now))); got != s.want {
					t.Errorf("at %g, %s: %s, want %s", s.at, s.what, got, s.want)
				}
				now += 0.1
			}
		})
	}
}

// TestStraysAreTold holds a drain back from routers until the other geos know
// where connections are to be looked for.
func TestStraysAreTold(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*edge)
		tell   float64 // seconds; nrt is 230 ms away, 300 ms are the margin
	}{
		"strays":                {func(*edge) {}, 0.53},
		"nobody takes strays":   {func(e *edge) { e.geo("iad").Nodes[0].Record.L4, e.geo("nrt").Nodes[0].Record.L4 = nil, nil }, 0},
		"not looked for at all": {func(e *edge) { e.view.L4Strays = false }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			e := strayEdge()
			tt.change(e)
			e.view.VIPs[0].Config.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
			e.decide(at(0))
			e.decide(at(60))
			e.drained("fra")
			for _, after := range []float64{0, 0.5, 0.6} {
				p := e.decide(at(60 + after))
				gshut := strings.Contains(fmt.Sprint(steering.Announcements([]steering.VIPConfig{e.view.VIPs[0].Config}, p)), "65535:0")
				if p.VIPs[0].State != steering.Draining || p.VIPs[0].Telling == gshut || gshut != (after >= tt.tell) {
					t.Errorf("after %g s: %s, telling %t, routers know: %t", after, p.VIPs[0].State, p.VIPs[0].Telling, gshut)
				}
			}
		})
	}
}

// TestDrainStaysTold: what was said to routers is not taken back because the
// others seem farther away now.
func TestDrainStaysTold(t *testing.T) {
	e := strayEdge()
	e.decide(at(0))
	e.decide(at(60))
	e.drained("fra")
	e.decide(at(60))
	if p := e.decide(at(60.6)); p.VIPs[0].Telling {
		t.Fatal("the others are still told")
	}
	e.geo("nrt").RTT = time.Second
	if p := e.decide(at(60.7)); p.VIPs[0].Telling {
		t.Error("the drain is taken back")
	}
	e = strayEdge()
	e.geo("nrt").RTT = time.Minute
	e.decide(at(0))
	e.decide(at(60))
	e.drained("fra")
	e.decide(at(60))
	if p := e.decide(at(62)); p.VIPs[0].Telling {
		t.Error("the others are told for more than two seconds")
	}
}

// TestStraysAfterRestart: a process that starts while strays are looked for does
// not know, and looks too.
func TestStraysAfterRestart(t *testing.T) {
	e := strayEdge()
	e.says("iad", "withdrawn")
	e.view.World.Geos[0].Nodes = []world.Node{{
		Name: "fra-2", Geo: "fra", Status: world.Joined, Alive: true, Seen: t0,
		Record: &world.NodeRecord{VIPs: map[string]string{"www": "announced"}},
	}}
	if got := lookingFor(e.decide(at(0))); got != "iad: iad drains it" && got != "iad: iad withdrew it until 20" {
		t.Error(got)
	}
	if got := lookingFor(e.decide(at(19))); got != "iad: iad withdrew it until 20" {
		t.Error(got)
	}
	if got := lookingFor(e.decide(at(21))); got != "nowhere" {
		t.Error(got)
	}
}

// TestStrayTarget spreads senders over the nodes that have connections.
func TestStrayTarget(t *testing.T) {
	g := world.Geo{Alive: true, Ring: &world.Ring{Members: []world.RingMember{{Node: "b"}, {Node: "c"}}}}
	for _, name := range []string{"a", "b", "c", "d"} {
		g.Nodes = append(g.Nodes, world.Node{Name: name, Alive: true, Record: &world.NodeRecord{L4: &world.L4Record{Strays: name != "d"}}})
	}
	name := func(sender uint16) string {
		if n := steering.StrayTarget(&g, sender); n != nil {
			return n.Name
		}
		return ""
	}
	if a, b := name(4), name(5); a != "b" || b != "c" {
		t.Errorf("%s and %s, want b and c", a, b)
	}
	g.Nodes[1].Alive = false
	if got := name(4); got != "c" {
		t.Errorf("%s, want c", got)
	}
	g.Nodes[2].Alive = false
	if got := name(4); got != "a" {
		t.Errorf("%s, want a: it lives and may have been a member", got)
	}
	g.Nodes[0].Alive = false
	if got := name(4); got != "" {
		t.Errorf("%s takes none", got)
	}
}

// TestWaitForPath keeps a new process off the wire while its packet path does
// not follow the ring, but not for ever.
func TestWaitForPath(t *testing.T) {
	e := newEdge()
	zero := time.Duration(0)
	e.view.VIPs[0].Config.Stability = steering.StabilityConfig{HoldUp: &zero, Rise: &zero}
	e.view.L4Pending = true
	if got := line(&e.decide(at(0)).VIPs[0]); got != "idle since 0: start: edged started [want announced] [blocked l4] [next announced at 5]" {
		t.Error(got)
	}
	e.view.L4Pending = false
	if got := e.decide(at(1)).VIPs[0].State; got != steering.Announced {
		t.Errorf("%s once the path follows", got)
	}
	e = newEdge()
	e.view.VIPs[0].Config.Stability = steering.StabilityConfig{HoldUp: &zero, Rise: &zero}
	e.view.L4Pending = true
	e.decide(at(0))
	if got := e.decide(at(5)).VIPs[0].State; got != steering.Announced {
		t.Errorf("%s after 5 s without a path", got)
	}
}
