package metal_test

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
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

// up makes a lab that is gone when the test ends.
func up(t *testing.T, opts metal.Options) *metal.Lab {
	t.Helper()
	opts.Edged = edged(t)
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	opts.Prefix = "edged-test-" + t.Name()[4:min(len(t.Name()), 12)]
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
