package steering_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

var prefixes = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32")}

func TestAnnouncements(t *testing.T) {
	full := steering.AnnounceConfig{
		Communities: []string{"65001:100"}, LargeCommunities: []string{"65010:1:1"}, MED: new(uint32(7)), Prepend: 1,
	}
	for _, test := range []struct {
		name  string
		state steering.State
		c     steering.VIPConfig
		want  steering.Announcement
		none  bool
	}{
		{name: "idle", state: steering.Idle, none: true},
		{name: "withdrawn", state: steering.Withdrawn, none: true},
		{name: "shadow", state: steering.Announced, c: steering.VIPConfig{Announce: steering.AnnounceConfig{Mode: "shadow"}}, none: true},
		{name: "not in the plan", none: true},
		{name: "announced, bare", state: steering.Announced},
		{
			name: "announced", state: steering.Announced, c: steering.VIPConfig{Announce: full},
			want: steering.Announcement{Communities: []string{"65001:100"}, LargeCommunities: []string{"65010:1:1"}, MED: new(uint32(7)), Prepend: 1},
		},
		{name: "draining, bare", state: steering.Draining, want: steering.Announcement{Communities: []string{"65535:0"}, Prepend: 3}},
		{
			name: "draining", state: steering.Draining, c: steering.VIPConfig{Announce: full},
			want: steering.Announcement{Communities: []string{"65001:100", "65535:0"}, LargeCommunities: []string{"65010:1:1"}, MED: new(uint32(4294967295)), Prepend: 4},
		},
		{
			name: "draining without either", state: steering.Draining,
			c:    steering.VIPConfig{Drain: steering.DrainConfig{GShut: new(false), Prepend: new(0)}},
			want: steering.Announcement{},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.c
			c.Name, c.Prefixes = "www", prefixes
			p := &steering.Plan{}
			if test.state != "" {
				p.VIPs = []steering.VIPPlan{{Name: "www", State: test.state}}
			}
			var want []steering.Announcement
			for _, x := range prefixes {
				a := test.want
				a.VIP, a.Prefix = "www", x
				if !test.none {
					want = append(want, a)
				}
			}
			got := steering.Announcements([]steering.VIPConfig{c}, p)
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(full.Communities) != 1 {
				t.Error("the configuration was changed")
			}
		})
	}
}

func TestVIPStates(t *testing.T) {
	p := &steering.Plan{VIPs: []steering.VIPPlan{{Name: "www", State: steering.Draining}, {Name: "dns", State: steering.Announced}}}
	vips := []steering.VIPConfig{{Name: "www"}, {Name: "dns", Announce: steering.AnnounceConfig{Mode: "shadow"}}, {Name: "new"}}
	want := map[string]string{"www": "draining", "dns": "shadow"}
	if diff := cmp.Diff(want, steering.VIPStates(vips, p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What the event log says about a day in the life of fra.
func TestEvents(t *testing.T) {
	e := newEdge()
	e.offer(6)
	var got []string
	live := func(until float64) {
		for e.view.Now.Before(at(until)) {
			prev := e.plan
			next := e.decide(e.view.Now.Add(100 * time.Millisecond))
			for _, ev := range steering.Events(prev, next) {
				got = append(got, strings.Join(strings.Fields(ev.Kind+" "+ev.Target+" "+ev.Text), " "))
			}
			if more := steering.Events(next, next); more != nil {
				t.Fatalf("events without a change: %v", more)
			}
		}
	}
	live(40)
	e.offer(60)
	e.peer("iad", steering.PeerMeasured{Grant: 400, GrantAt: at(1000)})
	live(50)
	e.offer(90)
	live(60)
	e.offer(6)
	live(70)
	e.drained("fra")
	live(95)
	undrain(e)
	live(96)
	others("withdrawn")(e)
	backendsUp(0)(e)
	live(100)
	listeners(false)(e)
	live(101)

	want := []string{
		"vip www idle -> announced (any_backend: 2 of 2 backends up)",
		"shed shedding starts: offered 458/s is 153% of 300/s, target 85%: 203/s go to iad 203/s",
		"shed 57% of the requests are shed, 44% before: offered 590/s is 197% of 300/s, target 85%: 335/s go to iad 335/s",
		"shed 49% of the requests are shed, 57% before: offered 821/s is 274% of 300/s, target 85%: 400/s go to iad 400/s",
		"refuse refusing starts: 22% of the requests are refused: above 99% of 300/s, 1.1s after urgent budgets were asked for",
		"refuse refusing ends",
		"shed shedding ends: offered 174/s is 58% of 300/s",
		"vip www announced -> draining (operator ana: switch swap)",
		"vip www draining -> withdrawn (operator ana: switch swap)",
		"vip www withdrawn -> announced (the drain of fra is over)",
		"vip www announced -> draining (any_backend: 0 of 2 backends up)",
		"guard www stays draining: no other geo is known to announce it, guard.min_others 1",
		"vip www draining -> withdrawn (listeners.up: a listener does not accept)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The rules of a VIP, as `Plan.Why` words them.
func TestWhyOfVIPs(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(*edge)
		at   float64 // after do
		want []steering.Reason
	}{
		{"steady", func(*edge) {}, 0, []steering.Reason{{Rule: "gate-true", Target: "www", Text: "any_backend: 2 of 2 backends up"}}},
		{"falls", backendsUp(0), 0.5, []steering.Reason{{Rule: "gate-false", Target: "www", Text: "any_backend: 0 of 2 backends up; draining in 2.5s"}}},
		{"drains", backendsUp(0), 5, []steering.Reason{{Rule: "gate-false", Target: "www", Text: "any_backend: 0 of 2 backends up; withdrawn in 18s"}}},
		{"guarded", func(e *edge) { others("draining")(e); drain("fra")(e) }, 5, []steering.Reason{
			{Rule: "guard", Target: "www", Text: "stays draining: no other geo is known to announce it, guard.min_others 1"},
			{Rule: "operator-drain", Target: "www", Text: `ana drains fra "switch swap"`},
		}},
		{"guarded by two", func(e *edge) {
			e.view.VIPs[0].Config.Guard.MinOthers = new(2)
			e.says("iad", "draining")
			drain("fra")(e)
		}, 5, []steering.Reason{
			{Rule: "guard", Target: "www", Text: "stays draining: only nrt announces it too, guard.min_others 2"},
			{Rule: "operator-drain", Target: "www", Text: `ana drains fra "switch swap"`},
		}},
		{"hard", listeners(false), 1, []steering.Reason{{Rule: "hard-fail", Target: "www", Text: "listeners.up: a listener does not accept"}}},
		{"stops", stopping, 5, []steering.Reason{{Rule: "stopping", Target: "www", Text: "edged is stopping; withdrawn in 15s"}}},
		{"not here", here(false), 0, []steering.Reason{{Rule: "not-here", Target: "www", Text: "fra is not among its geos"}}},
		{"held down", func(e *edge) {
			listeners(false)(e)
			e.until(at(33))
			listeners(true)(e)
		}, 15, []steering.Reason{{Rule: "hold-down", Target: "www", Text: "any_backend: 2 of 2 backends up; announced in 43s"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge()
			e.up(t)
			test.do(e)
			e.until(e.view.Now.Add(time.Duration((test.at + 0.1) * float64(time.Second))))
			var got []steering.Reason
			for _, r := range e.plan.Why {
				if r.Target == "www" {
					got = append(got, r)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestGateSignals(t *testing.T) {
	e := newEdge()
	e.view.Services = append(e.view.Services, steering.ServiceView{Name: "api", Total: 1})
	e.view.VIPs[0].Services = []string{"shop", "api", "gone"}
	e.view.VIPs[0].ProxyAlive = t0.Add(-80 * time.Millisecond)
	e.decide(t0)
	want := []steering.Signal{
		{Name: "listeners.up", OK: true, Hard: true, Text: "every listener accepts"},
		{Name: "proxy.ready", OK: true, Hard: true, Age: 80 * time.Millisecond, Text: "last alive 80ms ago"},
		{Name: "service.shop", OK: true, Text: "2 of 2 backends up"},
		{Name: "service.api", Text: "not judged yet"},
		{Name: "service.gone", Text: "not judged yet"},
		{Name: "announce.when", OK: true, Text: "any_backend: 2 of 3 backends up"},
	}
	if diff := cmp.Diff(want, e.www(t).Gate); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := e.why("reports"); got != "service.api: not judged yet" {
		t.Errorf("why: %q", got)
	}
}

func TestGone(t *testing.T) {
	for state, want := range map[steering.State]bool{steering.Idle: true, steering.Withdrawn: true, steering.Announced: false, steering.Draining: false} {
		p := &steering.Plan{VIPs: []steering.VIPPlan{{State: steering.Withdrawn}, {State: state}}}
		if p.Gone() != want {
			t.Errorf("with a VIP %s: gone is %v", state, p.Gone())
		}
	}
}

// What probes say of the work that ran here and elsewhere.
func TestLoadRates(t *testing.T) {
	e := newEdge()
	e.view.Measured.Offered, e.view.Measured.Executed, e.view.Measured.Foreign = 20, 15, 3
	e.peer("iad", steering.PeerMeasured{Relayed: 9, Busy: 1})
	e.decide(t0)
	e.until(at(20))
	want := world.Load{At: at(20), Capacity: 300, Offered: 200, Served: 150, ShedIn: 30, ShedOut: 80, Budget: (0.82 - 2./3) * 300, Urgent: 70}
	if diff := cmp.Diff(want, steering.Load(&e.view, e.plan), cmpopts.EquateApprox(0, 0.1)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A view with nothing in it is decided like any other.
func TestEmptyView(t *testing.T) {
	v := &steering.View{Now: t0, VIPs: []steering.VIPView{{Config: steering.VIPConfig{Name: "www"}, Here: true}}}
	p := steering.Decide(nil, v)
	for range 3 {
		p = steering.Decide(p, v)
	}
	if s := p.VIP("www").State; s != steering.Idle {
		t.Errorf("www is %s", s)
	}
}
