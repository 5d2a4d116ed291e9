package fabric_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"anyedge/internal/world"
)

func member(names ...string) []world.RingMember {
	var ms []world.RingMember
	for _, n := range names {
		ms = append(ms, world.RingMember{Node: n, Weight: 1})
	}
	return ms
}

// allAlive reports whether every node sees every other one alive.
func (f *fleet) allAlive() bool {
	for _, n := range f.nodes {
		alive := 0
		for _, g := range n.World().Geos {
			for _, m := range g.Nodes {
				if m.Alive {
					alive++
				}
			}
		}
		if alive != len(f.nodes) {
			return false
		}
	}
	return true
}

func TestRings(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra", "fra~2", "iad")
	f.start()
	within(t, "all see all", f.allAlive)
	one, two, iad := f.nodes["fra"], f.nodes["fra~2"], f.nodes["iad"]
	follows := func(n *node, generation uint64, members int) func() bool {
		return func() bool {
			r := n.World().Find("fra").Ring
			return r != nil && r.Generation == generation && len(r.Members) == members
		}
	}
	both := world.Ring{Generation: 1, Phase: world.RingStable, Members: member("fra-edge1", "fra-edge2")}
	begin := time.Now()
	if err := one.PublishRing(both); err != nil {
		t.Fatal(err)
	}
	within(t, "the sibling follows", follows(two, 1, 2))
	within(t, "another geo knows", follows(iad, 1, 2))
	t.Logf("a ring is everywhere after %s", time.Since(begin))
	if iad.World().Self().Ring != nil {
		t.Error("iad has a ring of its own")
	}

	// Two that believe to lead: the higher generation is in force, then the later
	// writer's.
	for _, n := range []*node{one, two} {
		r := both
		r.Generation, r.Members = 2, member(n.name)
		if err := n.PublishRing(r); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "both agree", func() bool {
		a, b, c := one.World().Self().Ring, two.World().Self().Ring, iad.World().Find("fra").Ring
		return a.Generation == 2 && b.Generation == 2 && c.Generation == 2 &&
			a.Members[0] == b.Members[0] && b.Members[0] == c.Members[0]
	})
	both.Generation = 3
	if err := two.PublishRing(both); err != nil {
		t.Fatal(err)
	}
	within(t, "the next one counts", follows(one, 3, 2))

	// A node that starts anew learns what is in force, and its own earlier word is
	// not lost.
	two.stop()
	two.start()
	within(t, "it is back", f.allAlive)
	within(t, "it knows the ring", follows(two, 3, 2))
}

func TestRingIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 0, "fra")
	f.start()
	good := func() world.Ring {
		return world.Ring{Generation: 1, Phase: world.RingDrain, Members: member("a"), Other: member("a", "b")}
	}
	for says, spoil := range map[string]func(*world.Ring){
		"generation 0":            func(r *world.Ring) { r.Generation = 0 },
		"unknown phase":           func(r *world.Ring) { r.Phase = "soon" },
		"no members":              func(r *world.Ring) { r.Members = nil },
		"named twice":             func(r *world.Ring) { r.Other = member("b", "b") },
		"weight 0":                func(r *world.Ring) { r.Members[0].Weight = 0 },
		"is not a name":           func(r *world.Ring) { r.Members[0].Node = "../a" },
		"stable, other members 2": func(r *world.Ring) { r.Phase = world.RingStable },
		"1024 members":            func(r *world.Ring) { r.Members = make([]world.RingMember, 1024) },
	} {
		r := good()
		spoil(&r)
		if err := f.nodes["fra"].PublishRing(r); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: error %v, want %q in it", r, err, says)
		}
	}
	if err := f.nodes["fra"].PublishRing(good()); err != nil {
		t.Error(err)
	}
}

// TestSiblingsDeathIsSeen holds how soon a node of the same geo is known dead,
// and that one whose process merely stands still is not taken for it sooner.
func TestSiblingsDeathIsSeen(t *testing.T) {
	f := newFleet(t, 0, "fra", "fra~2")
	f.start("fra")
	process, kill := f.startProcess("fra~2")
	one := f.nodes["fra"]
	alive := func() bool {
		for _, n := range one.World().Self().Nodes {
			if n.Name == "fra-edge2" {
				return n.Alive
			}
		}
		return false
	}
	within(t, "the sibling lives", alive)
	begin := time.Now()
	signal := func(s syscall.Signal) {
		if err := process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	within(t, "the sibling stands still", func() bool { return !alive() })
	still := time.Since(begin)
	signal(syscall.SIGCONT)
	within(t, "the sibling goes on", alive)
	begin = time.Now()
	kill()
	within(t, "the sibling is dead", func() bool { return !alive() })
	t.Logf("seen after %s; that it stands still, after %s", time.Since(begin), still)
	if still < 500*time.Millisecond {
		t.Errorf("a process that stands still is given up after %s", still)
	}
}
