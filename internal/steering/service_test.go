package steering_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

func TestServicePlan(t *testing.T) {
	nobody := func(e *edge) {
		e.geo("iad").Nodes[0].Record.Services = nil
		e.geo("nrt").Nodes[0].Status = world.Lost
	}
	for _, test := range []struct {
		name string
		do   func(*edge)
		want []string
		rule string
		why  string
	}{
		{"nearest first", func(*edge) {}, []string{"iad", "nrt"}, "", ""},
		{"no local backend", backendsUp(0), []string{"iad", "nrt"}, "no-backend", "0 of 2 backends up: its requests go to iad, nrt"},
		{"nobody", func(e *edge) { backendsUp(0)(e); nobody(e) }, nil, "service-down", "0 of 2 backends up, and no other geo can serve it"},
		{"a drained geo is the last choice", drain("iad"), []string{"nrt", "iad"}, "", ""},
		{"too far is better than drained", func(e *edge) { drain("iad")(e); e.geo("nrt").RTT = time.Second }, []string{"nrt", "iad"}, "", ""},
		{"too far is better than nobody", func(e *edge) { e.geo("iad").RTT = time.Second }, []string{"nrt", "iad"}, "", ""},
		{"unreachable", func(e *edge) { e.geo("iad").Alive = false }, []string{"nrt"}, "", ""},
		{"never_to", func(e *edge) { e.view.Config.NeverTo = []string{"nrt"} }, []string{"iad"}, "", ""},
		{"no world", func(e *edge) { e.view.World = &world.World{} }, nil, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := newEdge()
			test.do(e)
			e.decide(t0)
			want := map[string]steering.ServicePlan{"shop": {Healthy: e.view.Services[0].Healthy, Elsewhere: test.want}}
			if diff := cmp.Diff(want, e.plan.Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			if got := e.why(test.rule); got != test.why {
				t.Errorf("%s:\n got %q\nwant %q", test.rule, got, test.why)
			}
		})
	}
}
