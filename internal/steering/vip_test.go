package steering_test

import (
	"fmt"
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// A step of a story: what happens at a time, and where www is then.
type step struct {
	at   float64 // seconds after the start
	what string
	do   func(*edge)
	want string // see line
}

// line writes a VIP's plan in one line:
//
//	STATE since S: KIND WHO: REASON [want STATE] [blocked BY] [next STATE at S]
func line(vip *steering.VIPPlan) string {
	s := fmt.Sprintf("%s since %g: %s", vip.State, vip.Since.Sub(t0).Seconds(), vip.Cause.Kind)
	if vip.Cause.Who != "" {
		s += " " + vip.Cause.Who
	}
	s += ": " + vip.Cause.Reason
	if vip.Want != vip.State {
		s += fmt.Sprintf(" [want %s]", vip.Want)
	}
	if vip.Blocked != "" {
		s += fmt.Sprintf(" [blocked %s]", vip.Blocked)
	}
	if vip.Next != nil {
		s += fmt.Sprintf(" [next %s at %g]", vip.Next.State, vip.Next.At.Sub(t0).Seconds())
	}
	return s
}

func backendsUp(n int) func(*edge)  { return func(e *edge) { e.view.Services[0].Healthy = n } }
func drain(geo string) func(*edge)  { return func(e *edge) { e.drained(geo) } }
func undrain(e *edge)               { e.view.World.Orders = nil }
func stopping(e *edge)              { e.view.Stopping = true }
func listeners(up bool) func(*edge) { return func(e *edge) { e.view.VIPs[0].ListenersUp = up } }
func here(yes bool) func(*edge)     { return func(e *edge) { e.view.VIPs[0].Here = yes } }
func others(state string) func(*edge) {
	return func(e *edge) { e.says("iad", state); e.says("nrt", state) }
}

const (
	up0     = "announced since 30: gate: any_backend: 2 of 2 backends up"
	dead    = "gate: any_backend: 0 of 2 backends up"
	alive   = "gate: any_backend: 2 of 2 backends up"
	started = "start: edged started"
	ana     = "operator ana: switch swap"
)

// Stories with the default timers: rise 10 s, fall 3 s, hold_up 30 s,
// hold_down 60 s, drain.wait 20 s.
var stories = []struct {
	name  string
	setup func(*edge)
	steps []step
}{
	{"start", func(e *edge) { e.view.Services[0] = steering.ServiceView{Name: "shop", Total: 2} }, []step{
		{0, "nothing is judged", nil, "idle since 0: " + started + " [blocked reports]"},
		{5, "", nil, "idle since 0: " + started + " [blocked reports]"},
		{6, "backends are judged", func(e *edge) { e.view.Services[0].Healthy, e.view.Services[0].Reported = 2, true }, "idle since 0: " + started + " [want announced] [blocked hold-up] [next announced at 30]"},
		{29.9, "", nil, "idle since 0: " + started + " [want announced] [blocked hold-up] [next announced at 30]"},
		{30, "hold_up is over", nil, up0},
	}},
	{"late rise", backendsUp(0), []step{
		{0, "judged: all down", nil, "idle since 0: " + started},
		{3, "for fall", nil, "idle since 0: " + dead},
		{27, "backends come up", backendsUp(2), "idle since 0: " + started + " [want announced] [blocked rise] [next announced at 37]"},
		{30, "hold_up is over, rise is not", nil, "idle since 0: " + started + " [want announced] [blocked rise] [next announced at 37]"},
		{37, "rise is over", nil, "announced since 37: " + alive},
	}},
	{"backends die and come back", nil, []step{
		{30, "", nil, up0},
		{40, "all backends die", backendsUp(0), up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{42.9, "", nil, up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{43, "fall is over", nil, "draining since 43: " + dead + " [want withdrawn] [blocked drain-wait] [next withdrawn at 63]"},
		{63, "drain.wait is over", nil, "withdrawn since 63: " + dead},
		{70, "backends come up", backendsUp(2), "withdrawn since 63: " + dead + " [want announced] [blocked hold-down] [next announced at 123]"},
		{123, "hold_down is over", nil, "announced since 123: " + alive},
	}},
	{"a short failure", nil, []step{
		{30, "", nil, up0},
		{40, "all backends die", backendsUp(0), up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{42, "and come back within fall", backendsUp(2), up0},
		{60, "", nil, up0},
	}},
	{"recovery while draining", nil, []step{
		{30, "", nil, up0},
		{40, "all backends die", backendsUp(0), up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{43, "", nil, "draining since 43: " + dead + " [want withdrawn] [blocked drain-wait] [next withdrawn at 63]"},
		{55, "one comes back", backendsUp(1), "draining since 43: " + dead + " [want announced] [blocked rise] [next announced at 65]"},
		{63, "drain.wait is over, but nothing fails", nil, "draining since 43: " + dead + " [want announced] [blocked rise] [next announced at 65]"},
		{65, "rise is over", nil, "announced since 65: gate: any_backend: 1 of 2 backends up"},
	}},
	{"a flicker while draining", nil, []step{
		{30, "", nil, up0},
		{40, "all backends die", backendsUp(0), up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{43, "", nil, "draining since 43: " + dead + " [want withdrawn] [blocked drain-wait] [next withdrawn at 63]"},
		{61, "one comes back", backendsUp(1), "draining since 43: " + dead + " [want announced] [blocked rise] [next announced at 71]"},
		{62, "and dies", backendsUp(0), "draining since 43: " + dead + " [want withdrawn] [blocked drain-wait] [next withdrawn at 65]"},
		{65, "for fall", nil, "withdrawn since 65: " + dead},
	}},
	{"nobody else announces", others("withdrawn"), []step{
		{30, "", nil, up0},
		{40, "all backends die", backendsUp(0), up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{43, "", nil, "draining since 43: " + dead + " [want withdrawn] [blocked guard]"},
		{100, "", nil, "draining since 43: " + dead + " [want withdrawn] [blocked guard]"},
		{101, "iad announces", func(e *edge) { e.says("iad", "announced") }, "withdrawn since 101: " + dead},
	}},
	{"the others are silent", nil, []step{
		{30, "", nil, up0},
		{31, "records get no younger", func(e *edge) { e.age("iad", 1); e.age("nrt", 1) }, up0},
		{40, "all backends die", backendsUp(0), up0 + " [want withdrawn] [blocked fall] [next draining at 43]"},
		{44, "", nil, "draining since 43: " + dead + " [want withdrawn] [blocked drain-wait] [next withdrawn at 63]"},
		{45, "records are 15s old", nil, "draining since 43: " + dead + " [want withdrawn] [blocked guard]"},
		{70, "", nil, "draining since 43: " + dead + " [want withdrawn] [blocked guard]"},
	}},
	{"the others are unreachable", nil, []step{
		{30, "", nil, up0},
		{31, "probes are lost", func(e *edge) { e.geo("iad").Alive, e.geo("nrt").Alive = false, false }, up0},
		{40, "ana drains", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked guard]"},
	}},
	{"the others left the membership", nil, []step{
		{30, "", nil, up0},
		{31, "", func(e *edge) { e.geo("iad").Nodes[0].Status, e.geo("nrt").Nodes[0].Status = world.Left, world.Lost }, up0},
		{40, "ana drains", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked guard]"},
	}},
	{"last_geo: withdraw", func(e *edge) { e.view.VIPs[0].Config.Guard.LastGeo = "withdraw"; others("withdrawn")(e) }, []step{
		{30, "", nil, up0},
		{40, "ana drains", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"},
		{60, "", nil, "withdrawn since 60: " + ana},
	}},
	{"min_others: 2", func(e *edge) { e.view.VIPs[0].Config.Guard.MinOthers = new(2); e.says("nrt", "draining") }, []step{
		{30, "", nil, up0},
		{40, "ana drains", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked guard]"},
		{70, "nrt announces again", func(e *edge) { e.says("nrt", "announced") }, "withdrawn since 70: " + ana},
	}},
	{"operator drain and undrain", nil, []step{
		{30, "", nil, up0},
		{40, "ana drains iad", drain("iad"), up0},
		{41, "ana drains fra", drain("fra"), "draining since 41: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 61]"},
		{61, "drain.wait is over", nil, "withdrawn since 61: " + ana},
		{62, "undrained: no hold_down", undrain, "announced since 62: operator: the drain of fra is over"},
		{63, "drained again", drain("fra"), "draining since 63: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 83]"},
		{64, "and back at once", undrain, "announced since 64: operator: the drain of fra is over"},
	}},
	{"a drain that ends by itself", nil, []step{
		{30, "", nil, up0},
		{40, "ana drains fra for 30s", func(e *edge) { e.drained("fra"); e.view.World.Orders[0].Until = at(70) }, "draining since 40: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"},
		{69.9, "", nil, "withdrawn since 60: " + ana},
		{70, "", nil, "announced since 70: operator: the drain of fra is over"},
	}},
	{"backends die in a drained geo", nil, []step{
		{30, "", nil, up0},
		{40, "ana drains fra", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"},
		{60, "", nil, "withdrawn since 60: " + ana},
		{61, "all backends die", backendsUp(0), "withdrawn since 60: " + ana},
		{62, "undrained", undrain, "withdrawn since 60: " + ana},
		{64, "for fall", nil, "withdrawn since 60: " + dead},
		{70, "backends come up", backendsUp(2), "withdrawn since 60: " + dead + " [want announced] [blocked rise] [next announced at 80]"},
		{80, "", nil, "announced since 80: " + alive},
	}},
	{"drained from the start", drain("fra"), []step{
		{0, "", nil, "idle since 0: " + ana},
		{50, "", nil, "idle since 0: " + ana},
		{51, "undrained", undrain, "announced since 51: " + alive},
	}},
	{"the proxy hangs", others("withdrawn"), []step{
		{30, "", nil, up0},
		{40, "no beat from here on", func(e *edge) { e.view.VIPs[0].ProxyAlive = at(39.95) }, up0},
		{40.9, "0.95s old", nil, up0},
		{41, "1.05s old: at once, the guard does not matter", nil, "withdrawn since 41: gate: proxy.ready: last alive 1.1s ago"},
		{45, "it lives", func(e *edge) { e.view.VIPs[0].ProxyAlive = e.view.Now }, "withdrawn since 41: gate: proxy.ready: last alive 1.1s ago [want announced] [blocked hold-down] [next announced at 101]"},
		{101, "", nil, "announced since 101: " + alive},
	}},
	{"a listener is lost while draining", others("withdrawn"), []step{
		{30, "", nil, up0},
		{40, "ana drains", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked guard]"},
		{41, "", listeners(false), "withdrawn since 41: gate: listeners.up: a listener does not accept"},
		{42, "it is back", listeners(true), "withdrawn since 41: " + ana},
		{50, "undrained: hold_down", undrain, "withdrawn since 41: " + ana + " [want announced] [blocked hold-down] [next announced at 101]"},
	}},
	{"stop", others("withdrawn"), []step{
		{30, "", nil, up0},
		{40, "SIGTERM", stopping, "draining since 40: stop: edged is stopping [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"},
		{60, "the guard does not matter", nil, "withdrawn since 60: stop: edged is stopping"},
		{200, "", nil, "withdrawn since 60: stop: edged is stopping"},
	}},
	{"stop while draining", nil, []step{
		{30, "", nil, up0},
		{40, "ana drains", drain("fra"), "draining since 40: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"},
		{50, "SIGTERM", stopping, "draining since 40: stop: edged is stopping [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"},
		{60, "", nil, "withdrawn since 60: stop: edged is stopping"},
	}},
	{"stop before it was announced", nil, []step{
		{10, "SIGTERM", stopping, "idle since 0: stop: edged is stopping"},
		{50, "", nil, "idle since 0: stop: edged is stopping"},
	}},
	{"not in this geo", nil, []step{
		{30, "", nil, up0},
		{40, "a reload takes fra out", here(false), "idle since 40: geo: fra is not among its geos"},
		{50, "and in again", here(true), "announced since 50: " + alive},
	}},
	{"timers of 0", func(e *edge) {
		e.view.VIPs[0].Config.Stability = steering.StabilityConfig{Rise: new(time.Duration(0)), Fall: new(time.Duration(0)), HoldUp: new(time.Duration(0)), HoldDown: new(time.Duration(0))}
		e.view.VIPs[0].Config.Drain.Wait = new(time.Duration(0))
	}, []step{
		{0, "", nil, "announced since 0: " + alive},
		{1, "all backends die", backendsUp(0), "withdrawn since 1: " + dead},
		{2, "and come back", backendsUp(2), "announced since 2: " + alive},
	}},
	{"when: fraction(0.6)", when("fraction(0.6)"), []step{
		{30, "", nil, "announced since 30: gate: fraction(0.6): 2 of 2 backends up"},
		{40, "one dies", backendsUp(1), "announced since 30: gate: fraction(0.6): 2 of 2 backends up [want withdrawn] [blocked fall] [next draining at 43]"},
		{43, "", nil, "draining since 43: gate: fraction(0.6): 1 of 2 backends up [want withdrawn] [blocked drain-wait] [next withdrawn at 63]"},
	}},
	{"when: always", func(e *edge) { when("always")(e); backendsUp(0)(e) }, []step{
		{30, "", nil, "announced since 30: gate: always"},
		{40, "hard gates still apply", listeners(false), "withdrawn since 40: gate: listeners.up: a listener does not accept"},
	}},
	{"when: never", when("never"), []step{
		{50, "", nil, "idle since 0: gate: never"},
	}},
	{"one of two services dies", func(e *edge) {
		e.view.Services = append(e.view.Services, steering.ServiceView{Name: "api", Healthy: 1, Total: 1, Reported: true})
		e.view.VIPs[0].Services = []string{"shop", "api"}
	}, []step{
		{30, "", nil, "announced since 30: gate: any_backend: 3 of 3 backends up"},
		{40, "shop dies", backendsUp(0), "announced since 30: gate: any_backend: 3 of 3 backends up"},
		{60, "", nil, "announced since 30: gate: any_backend: 3 of 3 backends up"},
		{61, "api dies too", func(e *edge) { e.view.Services[1].Healthy = 0 }, "announced since 30: gate: any_backend: 3 of 3 backends up [want withdrawn] [blocked fall] [next draining at 64]"},
	}},
	{"a reload brings a service that is not judged", nil, []step{
		{30, "", nil, up0},
		{40, "", func(e *edge) { e.view.Services[0] = steering.ServiceView{Name: "shop", Total: 2} }, up0},
		{60, "it is not a failure", nil, up0},
		{61, "a verdict is", func(e *edge) { e.view.Services[0].Reported = true }, up0 + " [want withdrawn] [blocked fall] [next draining at 64]"},
	}},
	{"a VIP without services", func(e *edge) { e.view.VIPs[0].Services = nil }, []step{
		{30, "", nil, "announced since 30: gate: any_backend: no service on its listeners"},
	}},
}

func when(s string) func(*edge) {
	return func(e *edge) { e.view.VIPs[0].Config.Announce.When = s }
}

// age makes the record of geo that much older than the view, so that it gets no
// younger.
func (e *edge) age(geo string, seconds float64) {
	e.geo(geo).Nodes[0].Seen = e.view.Now.Add(-time.Duration(seconds * float64(time.Second)))
}

func TestStories(t *testing.T) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			e := newEdge()
			if s.setup != nil {
				s.setup(e)
			}
			e.decide(t0)
			for _, step := range s.steps {
				if step.at > 0 {
					e.until(at(step.at))
				}
				if step.do != nil {
					step.do(e)
					e.decide(at(step.at))
				}
				if got := line(e.www(t)); got != step.want {
					t.Fatalf("%gs %s:\n got %s\nwant %s", step.at, step.what, got, step.want)
				}
			}
		})
	}
}
