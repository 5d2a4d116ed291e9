package steering_test

import (
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// TestCutOffWritesNoRing: a node that sees nobody, no sibling and no other geo, is
// the one that is cut off. It does not bury the others, and not at once when it is
// back and has not met all of them.
func TestCutOffWritesNoRing(t *testing.T) {
	ring := parseRing("5 stable a b")
	var plan *steering.Plan
	for _, step := range []struct {
		at    float64
		nodes string
		far   bool // another geo is seen
		lead  bool
		want  string
	}{
		{0, "a! b", false, false, "6 drain b / a! b"}, // what it would write; iad is not believed dead yet
		{5, "a! b", false, false, "6 drain b / a! b"},
		{6, "a! b", true, false, "6 drain b / a! b"}, // the other geo is heard first
		{6.5, "a b", true, false, "5 stable a b"},    // a leads
		{7.9, "a! b", true, false, "6 drain b / a! b"},
		{9.1, "a! b", true, true, "6 drain b / a! b"}, // a is dead, and this node knows the world
	} {
		v := ringView(ringEpoch.Add(time.Duration(step.at*float64(time.Second))), "b", parseNodes(step.nodes), ring)
		v.World.Geos = append(v.World.Geos, world.Geo{Name: "iad", Alive: step.at < 5 || step.far})
		if step.far {
			v.World.Geos[1].Heard = v.Now.Add(-200 * time.Millisecond)
		}
		plan = steering.Decide(plan, v)
		if got := ringText(plan.Ring.Ring); got != step.want || plan.Ring.Lead != step.lead {
			t.Errorf("at %g: %s, leads %t, want %s, %t", step.at, got, plan.Ring.Lead, step.want, step.lead)
		}
	}
}
