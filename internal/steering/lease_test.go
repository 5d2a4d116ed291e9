package steering_test

import (
	"testing"
	"time"

	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// The proxy's lease is about the proxy: neither a process that stood still as a
// whole, nor a clock that was set, withdraws anything. A proxy that hangs while
// steering runs is withdrawn in about a second of steering's own time.
func TestLease(t *testing.T) {
	const tick, late = 100 * time.Millisecond, 700 * time.Millisecond
	never := func(int) bool { return false }
	always := func(int) bool { return true }
	for _, tt := range []struct {
		name  string
		every time.Duration // between decisions
		beats func(i int) bool
		clock time.Duration // by which the beats' clock is ahead of steering's
		ticks int
		want  steering.State
	}{
		{"all stood still for a minute", time.Minute, never, 0, 1, steering.Announced},
		{"all starve, two decisions to a beat", late, func(i int) bool { return i%2 == 0 }, 0, 100, steering.Announced},
		{"all starve, four decisions to a beat", late, func(i int) bool { return i%4 == 0 }, 0, 100, steering.Announced},
		{"the clock was set forward", tick, always, -time.Hour, 50, steering.Announced},
		{"the clock was set back", tick, always, time.Hour, 50, steering.Announced},
		{"it hangs, not yet for a second", tick, never, 0, 9, steering.Announced},
		{"it hangs", tick, never, 0, 11, steering.Withdrawn},
		{"it hangs and all starve", late, never, 0, 6, steering.Withdrawn},
		{"it hangs after the clock was set back", tick, never, time.Hour, 12, steering.Withdrawn},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEdge()
			e.up(t)
			now, beat := e.view.Now, e.view.Now.Add(tt.clock-time.Millisecond)
			for i := range tt.ticks {
				now = now.Add(tt.every)
				if tt.beats(i) {
					beat = now.Add(tt.clock)
				}
				e.view.VIPs[0].ProxyAlive = beat
				e.decide(now)
			}
			if got := e.www(t).State; got != tt.want {
				t.Errorf("www is %s: %+v", got, e.www(t).Gate[1])
			}
		})
	}
}

// Whose record counts for the guard, and for what is shown of it.
func TestBelieved(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(g *world.Geo)
		want bool
	}{
		{"all is well", func(*world.Geo) {}, true},
		{"the geo is unreachable", func(g *world.Geo) { g.Alive = false }, false},
		{"the node is lost", func(g *world.Geo) { g.Nodes[0].Status = world.Lost }, false},
		{"the node said goodbye", func(g *world.Geo) { g.Nodes[0].Status = world.Left }, false},
		{"its word is old", func(g *world.Geo) { g.Nodes[0].Seen = at(-15) }, false},
		{"it has said nothing", func(g *world.Geo) { g.Nodes[0].Record = nil }, false},
		{"another node of it is well", func(g *world.Geo) {
			g.Nodes = append(g.Nodes, g.Nodes[0])
			g.Nodes[0].Status = world.Lost
		}, true},
	} {
		g := otherGeo("iad", 2, 90)
		tt.do(&g)
		if got := steering.Announces(&g, "www", t0); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
		if steering.Announces(&g, "dns", t0) {
			t.Errorf("%s: it announces a VIP that it does not have", tt.name)
		}
	}
}
