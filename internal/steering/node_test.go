package steering_test

import (
	"slices"
	"strings"
	"testing"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// twoNodes gives fra the node that decides, fra-1, and a sibling that announces.
func twoNodes(e *edge) {
	sibling := otherGeo("fra", 1, 0).Nodes[0]
	sibling.Name, sibling.Alive = "fra-2", true
	self := world.Node{Name: "fra-1", Geo: "fra", Status: world.Joined, Alive: true, Seen: t0}
	e.geo("fra").Nodes = []world.Node{self, sibling}
}

// drainNode makes ana drain nodes.
func drainNode(names ...string) func(*edge) {
	return func(e *edge) {
		for _, name := range names {
			e.view.World.Orders = append(e.view.World.Orders, world.Order{
				ID: name, Kind: world.DrainNode, Target: name, Who: "ana", Reason: "switch swap", At: e.view.Now,
			})
		}
	}
}

// sibling changes fra-2.
func sibling(do func(*world.Node)) func(*edge) {
	return func(e *edge) { do(&e.geo("fra").Nodes[1]) }
}

func TestDrainNode(t *testing.T) {
	const (
		leaving = "draining since 40: " + ana + " [want withdrawn] [blocked drain-wait] [next withdrawn at 60]"
		blocked = "draining since 40: " + ana + " [want withdrawn] [blocked guard]"
		gone    = "withdrawn since 60: " + ana
	)
	for _, tt := range []struct {
		name string
		do   func(*edge) // at 40 s, fra-1 is announced
		at40 string
		at60 string
	}{
		{"another node", drainNode("fra-2"), up0, up0},
		{"a node of another geo", drainNode("iad-1"), up0, up0},
		{"this one, the others announce", drainNode("fra-1"), leaving, gone},
		{"the sibling is enough for the guard", both(others("withdrawn"), drainNode("fra-1")), leaving, gone},
		{"a sibling that announces nothing is not", both(others("withdrawn"), sibling(func(n *world.Node) { n.Record.VIPs["www"] = "withdrawn" }), drainNode("fra-1")), blocked, blocked},
		{"nor a dead one", both(others("withdrawn"), sibling(func(n *world.Node) { n.Alive = false }), drainNode("fra-1")), blocked, blocked},
		{"nor one that is drained as well", both(others("withdrawn"), drainNode("fra-1", "fra-2")), blocked, blocked},
		{"nor does it hold the whole geo", both(others("withdrawn"), drain("fra"), drainNode("fra-1")), blocked, blocked},
		{"nor a failure of the backends", both(others("withdrawn"), backendsUp(0)), up0 + " [want withdrawn] [blocked fall] [next draining at 43]", "draining since 43: " + dead + " [want withdrawn] [blocked guard]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEdge()
			twoNodes(e)
			e.up(t)
			e.until(at(40))
			tt.do(e)
			e.decide(at(40))
			if got := line(e.www(t)); got != tt.at40 {
				t.Errorf("at 40\n got %s\nwant %s", got, tt.at40)
			}
			e.until(at(60))
			if got := line(e.www(t)); got != tt.at60 {
				t.Errorf("at 60\n got %s\nwant %s", got, tt.at60)
			}
		})
	}
}

func both(do ...func(*edge)) func(*edge) {
	return func(e *edge) {
		for _, f := range do {
			f(e)
		}
	}
}

// A drained node takes no foreign work, says why, and returns at once.
func TestDrainedNodeReturns(t *testing.T) {
	e := newEdge()
	twoNodes(e)
	e.offer(6)
	e.up(t)
	e.until(at(40))
	if e.plan.Shed.Budget <= 0 {
		t.Fatal("it takes no foreign work while nothing is drained")
	}
	drainNode("fra-1")(e)
	e.until(at(61))
	if e.plan.Shed.Budget != 0 || e.plan.Shed.BudgetUrgent != 0 {
		t.Errorf("it takes %v, urgent %v", e.plan.Shed.Budget, e.plan.Shed.BudgetUrgent)
	}
	for rule, want := range map[string]string{"budget-none": "ana drains fra-1", "operator-drain": `ana drains fra-1 "switch swap"`} {
		if got := e.why(rule); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q in it", rule, got, want)
		}
	}
	undrain(e)
	e.until(at(62))
	if got, want := line(e.www(t)), "announced since 61.1: operator: the drain of fra-1 is over"; got != want {
		t.Errorf("undrained\n got %s\nwant %s", got, want)
	}
}

func TestDrained(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*edge)
		want bool
	}{
		{"nothing", func(*edge) {}, false},
		{"the geo", drain("fra"), true},
		{"another geo", drain("iad"), false},
		{"one of two nodes", drainNode("fra-1"), false},
		{"both nodes", drainNode("fra-1", "fra-2"), true},
		{"the one that is there", both(drainNode("fra-1"), sibling(func(n *world.Node) { n.Status = world.Lost })), true},
		{"the one that is not", both(drainNode("fra-2"), sibling(func(n *world.Node) { n.Status = world.Lost })), false},
		{"no nodes", func(e *edge) { e.geo("fra").Nodes = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEdge()
			twoNodes(e)
			tt.do(e)
			if got := steering.Drained(e.view.World, e.geo("fra")); got != tt.want {
				t.Errorf("drained %v", got)
			}
			// To another geo it is the last choice.
			e.view.World.Geo, e.view.World.Node = "iad", "iad-1"
			e.geo("fra").RTT = 1
			e.decide(t0)
			last := slices.Index(e.plan.Services["shop"].Elsewhere, "fra") == 1
			if serves := e.geo("fra").Serves("shop"); serves && last != tt.want {
				t.Errorf("elsewhere %v", e.plan.Services["shop"].Elsewhere)
			}
		})
	}
}
