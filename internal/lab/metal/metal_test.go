package metal_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"anyedge/internal/lab/metal"
	"anyedge/internal/lab/netns"
)

// edged builds the program of the edges once.
func edged(t *testing.T) string {
	t.Helper()
	if err := metal.Check(); err != nil {
		if os.Getenv("EDGE_TEST_STRICT") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "edged")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "anyedge/cmd/edged").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// prefix is of this test's lab alone: other tests may run on this machine.
func prefix(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("edged-test%d-%s", os.Getpid(), t.Name()[4:min(len(t.Name()), 12)])
}

// up makes a lab that is gone when the test ends.
func up(t *testing.T, opts metal.Options) *metal.Lab {
	t.Helper()
	opts.Edged = edged(t)
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	opts.Prefix = prefix(t)
	begin := time.Now()
	l, err := metal.Up(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("up after %s", time.Since(begin).Round(time.Millisecond))
	t.Cleanup(func() {
		if t.Failed() {
			for _, e := range l.Edges() {
				text, _ := os.ReadFile(e.Log)
				t.Logf("log of %s:\n%s", e.Name, text[max(0, len(text)-6000):])
			}
		}
		dir := l.Dir()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if left := netns.List(opts.Prefix + "-"); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("left: %s", dir)
		}
	})
	return l
}

// within waits until cond holds.
func within(t *testing.T, d time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, d)
		case <-tick.C:
		}
	}
	return time.Since(begin)
}

func TestUpAndDown(t *testing.T) {
	l := up(t, metal.Options{})
	for _, name := range []string{"fra", "iad", "nrt", "transit"} {
		for _, family := range []string{"ipv4", "ipv6"} {
			text, err := l.Routes(name, family)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%s %s\n%s", name, family, text)
		}
	}
}

// TestWhole: a lab is up only when every session, route and client is there.
func TestWhole(t *testing.T) {
	l := up(t, metal.Options{Unlimited: true})
	lacks := func() string { return l.Lacks(t.Context()) }
	for _, tt := range []struct {
		words, edge, route string // what the edges and the routers lack
	}{
		{"session fra-edge2", "fra-edge2: BGP", "router fra has 1 of 2 ways to 192.0.2.10"},
		{"session iad-edge1", "iad-edge1: BGP", "router transit has no ipv4 route of iad"},
		{"process nrt-edge1", "nrt-edge1: ", ""},
		{"link fra-nrt", ": fabric ", ""},
	} {
		if err := l.Break(strings.Fields(tt.words)); err != nil {
			t.Fatal(err)
		}
		within(t, 20*time.Second, tt.words+" is noticed", func() bool {
			return strings.Contains(lacks(), tt.edge) && strings.Contains(l.LacksRoutes(), tt.route)
		})
		if err := l.Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		within(t, 40*time.Second, tt.words+" is mended", func() bool { return lacks() == "" })
	}
}

// paths returns how many next hops fra's router has for the IPv4 VIP.
func paths(t *testing.T, l *metal.Lab) int {
	t.Helper()
	text, err := l.NextHops("fra-router", metal.VIPs()[0])
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func ms(d time.Duration) string { return d.Round(time.Millisecond).String() }
