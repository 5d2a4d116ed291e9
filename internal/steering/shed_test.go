package steering_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

var about = cmpopts.EquateApprox(0, 0.01)

// offer lets n requests come in every 100 ms from now on.
func (e *edge) offer(n int) { e.view.Measured.Offered = n }

// hear makes the probes of geo say budget and urgent budget from now on.
func (e *edge) hear(geo string, budget, urgent float64) {
	e.geo(geo).Load = world.Load{At: e.view.Now, Budget: budget, Urgent: urgent}
}

// peer sets what the door counted with geo.
func (e *edge) peer(geo string, m steering.PeerMeasured) {
	if e.view.Measured.Peers == nil {
		e.view.Measured.Peers = map[string]steering.PeerMeasured{}
	}
	e.view.Measured.Peers[geo] = m
}

// why returns the text of the first reason with that rule, "" when there is
// none.
func (e *edge) why(rule string) string {
	for _, r := range e.plan.Why {
		if r.Rule == rule {
			return r.Text
		}
	}
	return ""
}

// twiceFull is an edge that has had 600/s of 300/s for 20 s, with grants of 186
// and 159 at hand.
func twiceFull(t *testing.T) *edge {
	t.Helper()
	e := newEdge()
	e.offer(60)
	e.decide(t0)
	e.until(at(20))
	e.granted(186, 159)
	return e
}

// granted makes iad and nrt grant that much at the time of the view, and
// decides anew.
func (e *edge) granted(iad, nrt float64) {
	e.peer("iad", steering.PeerMeasured{Grant: iad, GrantAt: e.view.Now})
	e.peer("nrt", steering.PeerMeasured{Grant: nrt, GrantAt: e.view.Now})
	e.decide(e.view.Now.Add(100 * time.Millisecond))
}

func TestShedPlan(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*edge)
		want []steering.Route // geo and rate
		left float64
		rule string
		why  string
	}{
		{
			"twice the capacity", func(*edge) {},
			[]steering.Route{{Geo: "iad", Rate: 186, Want: 365}, {Geo: "nrt", Rate: 159, Want: 179}},
			0,
			"shed-excess", "offered 600/s is 200% of 300/s, target 85%: 345/s go to iad 186/s, nrt 159/s",
		},
		{
			"the nearest grants all", func(e *edge) { e.granted(400, 400) },
			[]steering.Route{{Geo: "iad", Rate: 345, Want: 365}},
			0,
			"shed-excess", "offered 600/s is 200% of 300/s, target 85%: 345/s go to iad 345/s",
		},
		{
			"grants are too small", func(e *edge) { e.granted(100, 60) },
			[]steering.Route{{Geo: "iad", Rate: 100, Want: 365}, {Geo: "nrt", Rate: 60, Want: 265}},
			185,
			"shed-left", "185/s of 345/s find no taker; urgent budgets are asked for",
		},
		{
			"a probe's budget counts half, less with its age", func(e *edge) {
				e.hear("iad", 186, 210)
				e.peer("iad", steering.PeerMeasured{})
				e.until(e.view.Now.Add(900 * time.Millisecond))
				e.granted(0, 159)
				e.peer("iad", steering.PeerMeasured{})
				e.decide(e.view.Now.Add(100 * time.Millisecond))
			},
			[]steering.Route{{Geo: "iad", Rate: 0.5 * 210 * (1 - 1.1/5), Want: 365}, {Geo: "nrt", Rate: 159, Want: 365 - 81.9}},
			345 - 159 - 81.9,
			"", "",
		},
		{
			"a grant of 0 is a grant", func(e *edge) { e.hear("iad", 186, 210); e.granted(0, 159) },
			[]steering.Route{{Geo: "nrt", Rate: 159, Want: 365}},
			186, "", "",
		},
		{
			"no word is no room", func(e *edge) { e.view.Measured.Peers = nil; e.decide(e.view.Now) },
			nil, 345, "shed-excess", "offered 600/s is 200% of 300/s, target 85%: 345/s too much",
		},
		{
			"an unreachable geo", func(e *edge) { e.geo("iad").Alive = false; e.granted(400, 400) },
			[]steering.Route{{Geo: "nrt", Rate: 345, Want: 365}},
			0, "", "",
		},
		{
			"a geo whose distance is unknown", func(e *edge) { e.geo("iad").RTT = 0; e.granted(400, 400) },
			[]steering.Route{{Geo: "nrt", Rate: 345, Want: 365}},
			0, "", "",
		},
		{
			"a geo beyond max_rtt", func(e *edge) { e.view.Config.MaxRTT = new(200 * time.Millisecond); e.granted(100, 400) },
			[]steering.Route{{Geo: "iad", Rate: 100, Want: 365}},
			245, "", "",
		},
		{
			"never_to", func(e *edge) { e.view.Config.NeverTo = []string{"iad"}; e.granted(400, 400) },
			[]steering.Route{{Geo: "nrt", Rate: 345, Want: 365}},
			0, "", "",
		},
		{
			"a geo that is drained", func(e *edge) { e.drained("iad"); e.granted(400, 400) },
			[]steering.Route{{Geo: "nrt", Rate: 345, Want: 365}},
			0, "", "",
		},
		{
			"this geo is drained: what still comes is shed as ever", func(e *edge) { e.drained("fra"); e.granted(400, 400) },
			[]steering.Route{{Geo: "iad", Rate: 345, Want: 365}},
			0, "", "",
		},
		{
			"every service is exempt", func(e *edge) { e.view.Services[0].Exempt = true; e.granted(400, 400) },
			nil, 345, "", "",
		},
		{
			"observe", func(e *edge) { e.view.Config.Mode = "observe"; e.granted(186, 159) },
			[]steering.Route{{Geo: "iad", Rate: 186, Want: 365}, {Geo: "nrt", Rate: 159, Want: 179}},
			0,
			"shed-excess", "observe only: offered 600/s is 200% of 300/s, target 85%: 345/s go to iad 186/s, nrt 159/s",
		},
		{
			"another target", func(e *edge) { e.view.Config.Target = 0.5; e.granted(400, 400) },
			[]steering.Route{{Geo: "iad", Rate: 400, Want: 470}, {Geo: "nrt", Rate: 50, Want: 70}},
			0, "", "",
		},
		{
			"half of the backends", func(e *edge) { backendsUp(1)(e); e.granted(400, 400) },
			[]steering.Route{{Geo: "iad", Rate: 400, Want: 492.5}, {Geo: "nrt", Rate: 72.5, Want: 92.5}},
			0,
			"shed-excess", "offered 600/s is 400% of 150/s (1 of 2 backends up), target 85%: 472/s go to iad 400/s, nrt 72/s",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := twiceFull(t)
			test.do(e)
			p := &e.plan.Shed
			if diff := cmp.Diff(test.want, p.Routes, about); diff != "" {
				t.Errorf("routes (-want +got):\n%s", diff)
			}
			near(t, "left", p.Left, test.left, 0.01)
			if got := e.why(test.rule); got != test.why {
				t.Errorf("%s:\n got %q\nwant %q", test.rule, got, test.why)
			}
			if !p.Shedding || p.Budget != 0 || p.BudgetUrgent != 0 {
				t.Errorf("shedding %v with budgets of %.0f/s and %.0f/s, want none", p.Shedding, p.Budget, p.BudgetUrgent)
			}
			if p.Observe != (e.view.Config.Mode == "observe") {
				t.Errorf("observe is %v", p.Observe)
			}
		})
	}
}

// twiceFull offers 600/s, not 60 per tick by another name.
func TestOfferedIsPerSecond(t *testing.T) {
	near(t, "offered", twiceFull(t).plan.Shed.Offered, 600, 0.1)
}

// Entry and exit on a demand without noise: sigma at 300/s is 7.1/s or 2.4 % of
// the capacity, so shedding starts 8.2 points above the target.
func TestEnterAndLeave(t *testing.T) {
	for _, test := range []struct {
		name  string
		offer []int // requests per 100 ms, for 10 s each
		want  bool
		rule  string
		why   string
	}{
		{"below the target", []int{25}, false, "shed-margin", ""},
		{"above the target, within chance", []int{27}, false, "shed-margin", "offered 270/s is 90% of 300/s, target 85%, which chance may explain up to 93%"},
		{"beyond chance", []int{29}, true, "", ""},
		{"back within the band", []int{40, 25}, true, "shed-held", "offered 250/s is 83% of 300/s, target 85%: nothing is too much now"},
		{"back below it", []int{40, 24}, false, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge()
			e.decide(t0)
			for i, n := range test.offer {
				e.offer(n)
				e.until(at(float64(10 * (i + 1))))
			}
			if got := e.plan.Shed.Shedding; got != test.want {
				t.Errorf("shedding %v at %.1f%% of the capacity, want %v", got, 100*e.plan.Shed.Utilisation, test.want)
			}
			if got := e.why(test.rule); got != test.why {
				t.Errorf("%s:\n got %q\nwant %q", test.rule, got, test.why)
			}
		})
	}
}

// Without a taker the geo first asks for urgent budgets, then refuses what
// exceeds 0.99 of its capacity, and stops both when there is room.
func TestUrgentAndRefuse(t *testing.T) {
	e := newEdge()
	e.view.World.Geos = e.view.World.Geos[:1]
	e.offer(6)
	e.decide(t0)
	e.until(at(20))
	e.offer(60)
	type moment struct{ shedding, urgent, refuse bool }
	now := func() moment {
		return moment{e.plan.Shed.Shedding, e.plan.Shed.Urgent, e.plan.Shed.RefuseShare > 0}
	}
	for _, step := range []struct {
		at   float64
		want moment
	}{
		{20.1, moment{}},
		{20.7, moment{shedding: true}},
		{22.5, moment{true, true, false}}, // asked, and the answers may be on their way
		{23.5, moment{true, true, true}},
	} {
		e.until(at(step.at))
		if got := now(); got != step.want {
			t.Fatalf("%gs: %+v, want %+v", step.at, got, step.want)
		}
	}
	e.until(at(40))
	near(t, "refused share", e.plan.Shed.RefuseShare, (600-0.99*300)/600, 0.001)
	for rule, want := range map[string]string{
		"refuse":      "50% of the requests are refused: above 99% of 300/s, 18.3s after urgent budgets were asked for",
		"shed-left":   "345/s of 345/s find no taker; urgent budgets are asked for",
		"shed-excess": "offered 600/s is 200% of 300/s, target 85%: 345/s too much",
	} {
		if got := e.why(rule); got != want {
			t.Errorf("%s:\n got %q\nwant %q", rule, got, want)
		}
	}
	e.offer(6)
	e.until(at(43))
	if got := now(); got != (moment{}) {
		t.Errorf("3s after the load: %+v", got)
	}
}

// What some dead backends took is an estimate: it sheds, but refuses nothing.
func TestLostCapacityRefusesNothing(t *testing.T) {
	e := newEdge()
	e.view.World.Geos = e.view.World.Geos[:1]
	e.offer(20)
	backendsUp(1)(e)
	e.decide(t0)
	e.until(at(30))
	if p := &e.plan.Shed; !p.Shedding || p.Left == 0 || p.RefuseShare != 0 {
		t.Errorf("shedding %v, left %.0f/s, refuses %.2f; want only the first two", p.Shedding, p.Left, p.RefuseShare)
	}
}

// A destination that refuses is asked for less, and for more again later.
func TestBusyPeers(t *testing.T) {
	e := twiceFull(t)
	share := func() float64 { return e.plan.Memory.Shed.Peers["iad"].Share }
	grant := func(relayed, busy int) {
		e.peer("iad", steering.PeerMeasured{Relayed: relayed, Busy: busy, Grant: 186, GrantAt: e.view.Now})
		e.decide(e.view.Now.Add(100 * time.Millisecond))
	}
	grant(20, 3)
	near(t, "share at 15% refusals", share(), 1, 1e-9)
	grant(20, 4)
	near(t, "share at 20% refusals", share(), 0.8, 1e-9)
	near(t, "rate to iad", e.plan.Shed.Routes[0].Rate, 0.8*186, 1e-6)
	grant(4, 4)
	near(t, "share after too few to judge", share(), 0.85, 1e-9)
	for range 30 {
		grant(20, 20)
	}
	near(t, "share of one that refuses everything", share(), 0.1, 1e-9)
	for range 18 {
		grant(20, 0)
	}
	near(t, "share after it serves again", share(), 1, 1e-9)
}
