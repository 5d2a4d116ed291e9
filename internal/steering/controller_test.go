package steering_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"anyedge/internal/steering"
)

// A run is a controller in a bubble of its own time, and what it did.
type run struct {
	c *steering.Controller

	mu      sync.Mutex      // guards the rest
	at      []time.Duration // of each plan that was applied
	applied *steering.Plan
	view    func(now time.Time) *steering.View
}

// done returns when plans were applied so far, and the last one.
func (r *run) done() ([]time.Duration, *steering.Plan) {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at, r.applied
}

// gather is the controller's.
func (r *run) gather(now time.Time) *steering.View {
	r.mu.Lock()
	view := r.view
	r.mu.Unlock()
	return view(now)
}

// start runs a controller until the test ends.
func start(t *testing.T, view func(now time.Time) *steering.View) *run {
	t.Helper()
	r := &run{view: view}
	begin := time.Now()
	apply := func(p *steering.Plan) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.at, r.applied = append(r.at, time.Since(begin)), p
	}
	r.c = steering.NewController(r.gather, apply, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if r.c.Plan() == nil {
		t.Fatal("no plan before Run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- r.c.Run(ctx, func() { close(ready) }) }()
	<-ready
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return r
}

// pass lets time go by in the bubble.
func pass(d time.Duration) { <-time.After(d) }

// steady is a healthy geo.
func steady(now time.Time) *steering.View {
	e := newEdge()
	e.view.Now, e.view.Started, e.view.VIPs[0].ProxyAlive = now, now, now
	return &e.view
}

func TestControllerTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, steady)
		if at, p := r.done(); len(at) != 1 || r.c.Plan() != p {
			t.Fatalf("ready after %d decisions, want one that is published", len(at))
		}
		pass(time.Second + time.Millisecond)
		if at, p := r.done(); len(at) != 11 || r.c.Plan() != p {
			t.Errorf("%d decisions in a second, want 11: %v", len(at), at)
		}
	})
}

func TestControllerWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, steady)
		pass(50 * time.Millisecond)
		for range 100 {
			r.c.Wake()
		}
		if at, _ := r.done(); len(at) != 2 || at[1] != 50*time.Millisecond {
			t.Errorf("decisions at %v, want one at once after a wake", at)
		}
		for range 100 { // whoever wakes it all the time gets no more than 100 a second
			r.c.Wake()
			pass(time.Millisecond)
		}
		at, _ := r.done()
		if n := len(at) - 2; n < 9 || n > 11 {
			t.Errorf("%d decisions in 100ms of wakes, want about 10", n)
		}
		pass(110 * time.Millisecond)
		if at, _ := r.done(); 260*time.Millisecond-at[len(at)-1] > 100*time.Millisecond {
			t.Errorf("decisions at %v: ticking ended with the wakes", at)
		}
	})
}

func TestControllerWithoutView(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(time.Time) *steering.View { return nil })
		pass(time.Second + 50*time.Millisecond)
		if at, _ := r.done(); len(at) != 0 || r.c.Plan() == nil {
			t.Errorf("%d plans applied without a view, plan %v", len(at), r.c.Plan())
		}
		r.mu.Lock()
		r.view = steady
		r.mu.Unlock()
		r.c.Wake()
		if at, _ := r.done(); len(at) != 1 {
			t.Errorf("%d plans applied once there is a view, want 1", len(at))
		}
	})
}

// A decision that comes late counts what was measured, not what was planned.
func TestControllerLateTicks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time
		ticks := 0
		r := start(t, func(now time.Time) *steering.View {
			if ticks++; ticks%3 == 0 {
				pass(350 * time.Millisecond)
				now = time.Now()
			}
			v := steady(now)
			if !last.IsZero() {
				v.Measured.Interval = now.Sub(last)
				v.Measured.Offered = int(200 * now.Sub(last).Seconds())
			}
			last = now
			return v
		})
		pass(20 * time.Second)
		synctest.Wait()
		near(t, "offered", r.c.Plan().Shed.Offered, 200, 3)
	})
}

func TestControllerLogsEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		begin := time.Now()
		c := steering.NewController(func(now time.Time) *steering.View {
			v := steady(now)
			v.Started = begin
			return v
		}, func(*steering.Plan) {}, slog.New(slog.NewTextHandler(&out, nil)))
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
		defer cancel()
		if err := c.Run(ctx, func() {}); err != nil {
			t.Fatal(err)
		}
		want := `msg="plan changed" kind=vip target=www text="idle -> announced (any_backend: 2 of 2 backends up)"`
		if n := strings.Count(out.String(), want); n != 1 {
			t.Errorf("%d lines like %s in\n%s", n, want, out.String())
		}
	})
}
