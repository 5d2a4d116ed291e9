package steering_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/steering"
)

func TestBudget(t *testing.T) {
	for _, test := range []struct {
		name           string
		do             func(*edge)
		budget, urgent float64
		rule, why      string
	}{
		{"at a fifth", func(*edge) {}, 186, 210, "", ""},
		{"foreign work does not matter", func(e *edge) { e.view.Measured.Executed, e.view.Measured.Foreign = 30, 24 }, 186, 210, "", ""},
		{"close to the target", func(e *edge) { e.offer(25) }, 0, 20, "", ""},
		{"half of the backends", backendsUp(1), 63, 75, "", ""},
		{"no backend", backendsUp(0), 0, 0, "budget-none", "takes no foreign work: 0 of 2 backends up"},
		{"a service without backends", func(e *edge) {
			e.view.Services = append(e.view.Services, steering.ServiceView{Name: "api", Total: 1, Reported: true})
		}, 0, 0, "budget-none", "takes no foreign work: no backend of api is up"},
		{"an exempt service without backends", func(e *edge) {
			e.view.CapacityRPS *= 1.5 // of which a third is lost
			e.view.Services = append(e.view.Services, steering.ServiceView{Name: "api", Total: 1, Reported: true, Exempt: true})
		}, 186, 210, "", ""},
		{"a service of other geos", func(e *edge) {
			e.view.Services = append(e.view.Services, steering.ServiceView{Name: "api", Reported: true})
		}, 186, 210, "", ""},
		{"drained", drain("fra"), 0, 0, "budget-none", "takes no foreign work: ana drains fra"},
		{"another geo is drained", drain("iad"), 186, 210, "", ""},
		{"stopping", stopping, 0, 0, "budget-none", "takes no foreign work: edged is stopping"},
		{"shedding", func(e *edge) { e.offer(60) }, 0, 0, "budget-none", "takes no foreign work: it sheds its own"},
		{"capacity unknown", func(e *edge) { e.view.CapacityRPS = 0 }, 0, 0, "capacity-unknown", "capacity is not configured: nothing is shed and no foreign work is taken"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge()
			e.offer(6)
			e.decide(t0)
			if e.until(at(0.9)); e.plan.Shed.Budget != 0 {
				t.Errorf("offers %.0f/s before its own demand is known", e.plan.Shed.Budget)
			}
			e.until(at(10))
			test.do(e)
			e.until(at(25))
			near(t, "budget", e.plan.Shed.Budget, test.budget, 0.1)
			near(t, "urgent budget", e.plan.Shed.BudgetUrgent, test.urgent, 0.1)
			if got := e.why(test.rule); got != test.why {
				t.Errorf("%s:\n got %q\nwant %q", test.rule, got, test.why)
			}
			l := steering.Load(&e.view, e.plan)
			if l.Budget != e.plan.Shed.Budget || l.Urgent != e.plan.Shed.BudgetUrgent || !l.At.Equal(e.view.Now) {
				t.Errorf("probes say %+v of %+v", l, e.plan.Shed)
			}
		})
	}
}

func TestGrants(t *testing.T) {
	now, old := at(10), at(8.9)
	for _, test := range []struct {
		name  string
		peers map[string]steering.PeerMeasured
		want  map[string]float64
		why   string
	}{
		{"nobody asks", nil, nil, ""},
		{"one asks for little", map[string]steering.PeerMeasured{"iad": {Want: 50, WantAt: now}}, map[string]float64{"iad": 50}, "takes foreign work up to 186/s, urgent 210/s: iad 50/s of 50/s"},
		{"one asks for much", map[string]steering.PeerMeasured{"iad": {Want: 345, WantAt: now}}, map[string]float64{"iad": 186}, "takes foreign work up to 186/s, urgent 210/s: iad 186/s of 345/s"},
		{"and is in need", map[string]steering.PeerMeasured{"iad": {Want: 345, Urgent: true, WantAt: now}}, map[string]float64{"iad": 210}, "takes foreign work up to 186/s, urgent 210/s: iad 210/s of 345/s"},
		{"two", map[string]steering.PeerMeasured{"iad": {Want: 345, WantAt: now}, "nrt": {Want: 40, WantAt: now}}, map[string]float64{"iad": 146, "nrt": 40}, "takes foreign work up to 186/s, urgent 210/s: iad 146/s of 345/s, nrt 40/s of 40/s"},
		{"two, one in need", map[string]steering.PeerMeasured{"iad": {Want: 345, WantAt: now}, "nrt": {Want: 345, Urgent: true, WantAt: now}}, map[string]float64{"iad": 93, "nrt": 117}, "takes foreign work up to 186/s, urgent 210/s: iad 93/s of 345/s, nrt 117/s of 345/s"},
		{"a want from long ago", map[string]steering.PeerMeasured{"iad": {Want: 345, WantAt: old}, "nrt": {Want: 345, WantAt: now}}, map[string]float64{"nrt": 186}, "takes foreign work up to 186/s, urgent 210/s: nrt 186/s of 345/s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge()
			e.offer(6)
			e.decide(t0)
			e.until(at(9.9))
			e.view.Measured.Peers = test.peers
			e.decide(now)
			if diff := cmp.Diff(test.want, e.plan.Shed.Grants, about); diff != "" {
				t.Errorf("grants (-want +got):\n%s", diff)
			}
			if got := e.why("grant"); got != test.why {
				t.Errorf("why:\n got %q\nwant %q", got, test.why)
			}
		})
	}
}
