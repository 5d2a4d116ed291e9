package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"anyedge/internal/lifecycle"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal records what components do, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, s)
}

func (j *journal) component(name string) lifecycle.RunFunc {
	return func(ctx context.Context, ready func()) error {
		j.add("+" + name)
		ready()
		<-ctx.Done()
		j.add("-" + name)
		return ctx.Err()
	}
}

func TestGroupStopsInReverse(t *testing.T) {
	var j journal
	var g lifecycle.Group
	for _, name := range []string{"fabric", "proxy", "bgp"} {
		g.Add(name, j.component(name))
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := g.Run(ctx, cancel); err != nil {
		t.Fatal(err)
	}
	want := []string{"+fabric", "+proxy", "+bgp", "-bgp", "-proxy", "-fabric"}
	if !slices.Equal(j.lines, want) {
		t.Fatalf("order %q, want %q", j.lines, want)
	}
}

func TestGroupReportsAFailure(t *testing.T) {
	cause := errors.New("address in use")
	for _, tt := range []struct {
		name  string
		fails lifecycle.RunFunc
		want  []string
	}{
		{
			"before it is ready",
			func(context.Context, func()) error { return cause },
			[]string{"+fabric", "-fabric"},
		},
		{
			"while it runs",
			func(_ context.Context, ready func()) error { ready(); return cause },
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var j journal
			var g lifecycle.Group
			g.Add("fabric", j.component("fabric"))
			g.Add("proxy", tt.fails)
			g.Add("bgp", j.component("bgp"))
			err := g.Run(t.Context(), func() {})
			if !errors.Is(err, cause) || !strings.HasPrefix(err.Error(), "proxy: ") {
				t.Fatalf("Run() = %v", err)
			}
			if tt.want != nil && !slices.Equal(j.lines, tt.want) {
				t.Fatalf("order %q, want %q", j.lines, tt.want)
			}
			if len(j.lines)%2 != 0 {
				t.Fatalf("something still runs: %q", j.lines)
			}
		})
	}
}

// A component that ends and says nothing is a failure all the same, also while
// another one, which may wait for it, is not ready.
func TestGroupNoticesASilentEnd(t *testing.T) {
	end := lifecycle.RunFunc(func(_ context.Context, ready func()) error { ready(); return nil })
	never := lifecycle.RunFunc(func(ctx context.Context, _ func()) error { <-ctx.Done(); return ctx.Err() })
	var j journal
	for name, next := range map[string]lifecycle.RunFunc{"while all run": j.component("bgp"), "while the next one starts": never} {
		t.Run(name, func(t *testing.T) {
			var g lifecycle.Group
			g.Add("fabric", end)
			g.Add("bgp", next)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := g.Run(ctx, func() {}); err == nil || err.Error() != "fabric: ended by itself" {
				t.Errorf("Run() = %v", err)
			}
			if ctx.Err() != nil {
				t.Error("nobody noticed")
			}
		})
	}
}

func TestGroupEndsWhileStarting(t *testing.T) {
	var g lifecycle.Group
	g.Add("slow", lifecycle.RunFunc(func(ctx context.Context, _ func()) error {
		<-ctx.Done()
		return nil
	}))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx, func() { t.Error("ready was called") }); err != nil {
		t.Fatal(err)
	}
}
