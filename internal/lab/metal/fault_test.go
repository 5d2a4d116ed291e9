package metal_test

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"anyedge/internal/lab"
	"anyedge/internal/lab/metal"
)

// connects reports whether a machine can open a TCP connection.
func connects(t *testing.T, l *metal.Lab, machine, to string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c, err := l.Space(machine).Dial(ctx, "tcp", to)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// enter returns where a region's new connections enter; "" when nobody answers.
func enter(t *testing.T, l *metal.Lab, region string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	c := l.Client(region, metal.VIPs()[0], lab.H1)
	defer c.Close()
	r := c.Get(ctx, "/")
	if r.Err != nil {
		return ""
	}
	return r.Entered()
}

// TestFaults breaks everything that can be broken, one after the other; each
// must be seen, and be gone when it is mended.
func TestFaults(t *testing.T) {
	l := up(t, metal.Options{Unlimited: true})
	within(t, 20*time.Second, "both edges of fra are next hops", func() bool { return paths(t, l) == 2 })
	fraHops := func() bool { return paths(t, l) == 2 }
	// The transit names a route by the geo that it has it from.
	viaIad := func() bool { return strings.Contains(routes(t, l, "transit"), "[iad ") }
	within(t, 20*time.Second, "the transit has iad's route", viaIad)
	for _, tt := range []struct {
		words  string // several faults are separated by a semicolon
		broken func() bool
		whole  func() bool
	}{
		{
			"link fra-iad", func() bool {
				return !connects(t, l, "fra-edge1", app("iad")) && connects(t, l, "fra-edge1", app("nrt"))
			},
			func() bool { return connects(t, l, "fra-edge1", app("iad")) },
		},
		{ // two links that end in one geo
			"link fra-nrt; link nrt-iad", func() bool {
				return !connects(t, l, "fra-edge1", app("nrt")) && !connects(t, l, "iad-edge1", app("nrt")) && connects(t, l, "fra-edge1", app("iad"))
			},
			func() bool {
				return connects(t, l, "fra-edge1", app("nrt")) && connects(t, l, "iad-edge1", app("nrt"))
			},
		},
		{"router nrt", func() bool { return enter(t, l, "asia") == "iad" }, func() bool { return enter(t, l, "asia") == "nrt" }},
		{"router iad", func() bool { return !viaIad() }, viaIad},
		{"node fra-edge2", func() bool { return !l.Edge("fra-edge2").Running() && paths(t, l) == 1 }, fraHops},
		{"cable fra-edge2", func() bool { return paths(t, l) == 1 }, fraHops},
		{"process fra-edge1", func() bool { return !l.Edge("fra-edge1").Running() && paths(t, l) == 1 }, fraHops},
		{"process fra-edge1 stop", func() bool { return l.Edge("fra-edge1").Running() && paths(t, l) == 1 }, fraHops},
		{ // twice the same, and more of it, is one thing to mend
			"process fra-edge2; process fra-edge2 kill; node fra-edge2", func() bool { return paths(t, l) == 1 }, fraHops,
		},
		{"session fra-edge2", func() bool { return paths(t, l) == 1 }, fraHops},
		{"session iad-edge1", func() bool { return !viaIad() }, viaIad},
		{"backend fra-a", func() bool { return !connects(t, l, "fra-edge1", app("fra")) }, func() bool { return connects(t, l, "fra-edge1", app("fra")) }},
	} {
		t.Run(tt.words, func(t *testing.T) {
			for words := range strings.SplitSeq(tt.words, ";") {
				if err := l.Break(strings.Fields(words)); err != nil {
					t.Fatal(err)
				}
			}
			seen := within(t, 40*time.Second, "it is broken", tt.broken)
			if err := l.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := l.Faults(); len(left) > 0 {
				t.Errorf("still broken: %v", left)
			}
			mended := within(t, 40*time.Second, "it is mended", tt.whole)
			t.Logf("seen after %s, mended after %s", ms(seen), ms(mended))
		})
	}
}

// routes returns what a router has for the IPv4 VIP.
func routes(t *testing.T, l *metal.Lab, router string) string {
	t.Helper()
	text, err := l.Routes(router, "ipv4")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestHealKeepsWhatFails: what cannot be mended is still broken, and the rest is
// mended.
func TestHealKeepsWhatFails(t *testing.T) {
	l := up(t, metal.Options{Unlimited: true})
	for _, words := range []string{"link fra-iad loss=1%", "link iad-fra loss=2%", "backend nrt-a", "process iad-edge1"} {
		if err := l.Break(strings.Fields(words)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"link fra-iad loses 2%", "backend nrt-a is dead", "process iad-edge1 is dead"}
	if got := l.Faults(); !slices.Equal(got, want) {
		t.Errorf("broken: %v, want %v", got, want)
	}
	if err := l.Break([]string{"process", "iad-edge1", "stop"}); err == nil || !strings.Contains(err.Error(), "is dead") {
		t.Errorf("a dead process was stopped: %v", err)
	}
	// Somebody else has the app's port.
	var other net.Listener
	err := l.Space("nrt-app").Do(func() (err error) {
		var lc net.ListenConfig
		other, err = lc.Listen(t.Context(), "tcp4", app("nrt"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Heal(t.Context()); err == nil || !strings.Contains(err.Error(), "backend nrt-a") {
		t.Errorf("heal: %v", err)
	}
	if got := l.Faults(); !slices.Equal(got, want[1:2]) {
		t.Errorf("still broken: %v, want %v", got, want[1:2])
	}
	if !l.Edge("iad-edge1").Running() {
		t.Error("the process is dead")
	}
	_ = other.Close()
	if err := l.Heal(t.Context()); err != nil || len(l.Faults()) > 0 {
		t.Errorf("heal again: %v, broken %v", err, l.Faults())
	}
}

// TestTwoLabs: a lab's name may begin another's. Neither sees the other, and each
// takes away only its own.
func TestTwoLabs(t *testing.T) {
	l := up(t, metal.Options{Unlimited: true})
	prefix := strings.TrimSuffix(l.Space("transit").Name, "-transit")
	longer := metal.Options{Prefix: prefix + "-fra", Edged: edged(t), Unlimited: true}
	if _, err := metal.Up(t.Context(), metal.Options{Prefix: prefix, Edged: longer.Edged}); err == nil {
		t.Error("two labs have one name")
	}
	second, err := metal.Up(t.Context(), longer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := metal.Down(t.Context(), longer.Prefix); err == nil || !strings.Contains(err.Error(), "this process's own") {
		t.Errorf("down of a lab in this process: %v", err)
	}
	dir := second.Dir()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("left: %s", dir)
	}
	if got := enter(t, l, "eu"); got != "fra" {
		t.Errorf("the other lab's clients enter %q", got)
	}
}
