package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"
)

// open makes answers that are under way until they are closed.
func open(name string) (*message.Response, error) {
	return &message.Response{Status: 200, Body: io.NopCloser(strings.NewReader(name))}, nil
}

// limited returns backends of these limits at an address that takes
// connections.
func limited(t *testing.T, limits ...upstream.LimitConfig) []upstream.BackendConfig {
	t.Helper()
	addr := listen(t, func(net.Conn) {})
	var out []upstream.BackendConfig
	for i, l := range limits {
		out = append(out, upstream.BackendConfig{Name: string(rune('a' + i)), URL: "http://" + addr, Limit: l})
	}
	return out
}

// hold sends n requests and leaves their answers open.
func hold(t *testing.T, p *upstream.Pool, n int) []*message.Response {
	t.Helper()
	var out []*message.Response
	for range n {
		resp, err := p.RoundTrip(t.Context(), request("GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, resp)
	}
	t.Cleanup(func() {
		for _, resp := range out {
			resp.Close()
		}
	})
	return out
}

// Above its soft limit a backend gets what others have no room for, up to its
// hard limit; one without a limit takes the rest.
func TestSoftLimit(t *testing.T) {
	for _, balance := range []string{"p2c", "ewma", "round_robin", "hash(client)"} {
		t.Run(balance, func(t *testing.T) {
			p := startReported(t, upstream.Config{
				Backends: limited(t, upstream.LimitConfig{Soft: 2, Hard: 6}, upstream.LimitConfig{Soft: 10, Hard: 20}),
				Balance:  balance, Dial: fakes(open),
			})
			for _, step := range []struct{ more, a, b int64 }{{12, 2, 10}, {14, 6, 20}} {
				hold(t, p, int(step.more))
				if s := p.Status(); s[0].Active != step.a || s[1].Active != step.b {
					t.Fatalf("%d and %d under way, want %d and %d", s[0].Active, s[1].Active, step.a, step.b)
				}
			}
		})
	}
}

// A hard limit is never exceeded, however many ask at once; what finds no place
// in the queue, or waits too long there, is refused in bounded time with nothing
// sent.
func TestHardLimit(t *testing.T) {
	var most, now atomic.Int64
	p := startReported(t, upstream.Config{
		Backends: limited(t, upstream.LimitConfig{Hard: 3}, upstream.LimitConfig{Hard: 2}),
		Queue:    upstream.QueueConfig{Length: new(4), Wait: new(20 * time.Millisecond)},
		Dial: func(b upstream.BackendConfig, _ upstream.TimeoutsConfig) (message.RoundTripper, error) {
			return message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
				n := now.Add(1)
				defer now.Add(-1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					continue
				}
				select {
				case <-time.After(time.Millisecond):
				case <-ctx.Done():
				}
				return &message.Response{Status: 204}, nil
			}), nil
		},
	})
	var answered, refused atomic.Int64
	var clients sync.WaitGroup
	for range 40 {
		clients.Go(func() {
			for range 20 {
				_, err := ask(t.Context(), p, request("POST", "content"))
				switch {
				case err == nil:
					answered.Add(1)
				case errors.Is(err, upstream.ErrBusy) && message.SentBy(err) == message.NothingSent:
					refused.Add(1)
				default:
					t.Errorf("got %v", err)
				}
			}
		})
	}
	clients.Wait()
	if most.Load() > 5 || answered.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d at once, %d answered, %d refused", most.Load(), answered.Load(), refused.Load())
	}
	if s := p.Counts(); s.Busy != refused.Load() || s.Queued == 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	for _, s := range p.Status() {
		if s.Active != 0 {
			t.Errorf("%s: %d under way at the end", s.Name, s.Active)
		}
	}
}

// Who waits is served in order as room comes, and one who gives up is not.
func TestQueueOrder(t *testing.T) {
	p := startReported(t, upstream.Config{
		Backends: limited(t, upstream.LimitConfig{Hard: 1}),
		Queue:    upstream.QueueConfig{Length: new(3), Wait: new(time.Hour)},
		Dial:     fakes(open),
	})
	running := hold(t, p, 1)[0]
	type result struct {
		who  int
		resp *message.Response
		err  error
	}
	results := make(chan result, 3)
	gone, leave := context.WithCancel(t.Context())
	defer leave()
	for i, ctx := range []context.Context{gone, t.Context(), t.Context()} {
		go func() {
			resp, err := p.RoundTrip(ctx, request("GET", ""))
			results <- result{i, resp, err}
		}()
		waitFor(t, "it to wait", func() bool { return p.Counts().Waiting == i+1 })
	}
	if _, err := ask(t.Context(), p, request("GET", "")); !errors.Is(err, upstream.ErrBusy) {
		t.Errorf("a fourth: %v", err)
	}
	leave()
	if r := <-results; r.who != 0 || !errors.Is(r.err, context.Canceled) || message.SentBy(r.err) != message.NothingSent {
		t.Errorf("%d got %v", r.who, r.err)
	}
	for who := 1; who <= 2; who++ {
		running.Close()
		r := <-results
		if r.who != who || r.err != nil {
			t.Fatalf("%d was served (%v), want %d", r.who, r.err, who)
		}
		running = r.resp
	}
	running.Close()
	if s := p.Status()[0]; s.Active != 0 || s.Requests != 3 {
		t.Errorf("%+v", s)
	}
}

// When the last backend dies, those who wait for it are told.
func TestQueueWithoutBackend(t *testing.T) {
	s := startServer(t, hello)
	list := backends(s.addr)
	list[0].Limit.Hard = 1
	p := startReported(t, upstream.Config{Backends: list, Health: often(), Queue: upstream.QueueConfig{Wait: new(time.Hour)}, Dial: fakes(open)})
	hold(t, p, 1)
	done := make(chan error, 1)
	go func() { _, err := ask(t.Context(), p, request("GET", "")); done <- err }()
	waitFor(t, "it to wait", func() bool { return p.Counts().Waiting == 1 })
	s.kill()
	if err := <-done; !errors.Is(err, upstream.ErrNoBackend) {
		t.Errorf("got %v", err)
	}
}

// Backends of another priority are healthy too: who waits behind one is no reason to
// ask everybody.
func TestNoPanicForPriorities(t *testing.T) {
	well := startServer(t, hello)
	list := backends(well.addr, well.addr, well.addr)
	list[1].Priority, list[2].Priority = 10, 10
	p := startReported(t, upstream.Config{Backends: list, Health: once()})
	for range 30 {
		resp, err := p.Serve(t.Context(), request("GET", ""), caller{true})
		if err != nil {
			t.Fatal(err)
		}
		resp.Close()
	}
	if s := p.Status(); p.Desperate() || p.Counts().Panicked > 0 || s[1].Requests+s[2].Requests > 0 {
		t.Errorf("desperate %v, %d and %d requests to those behind", p.Desperate(), s[1].Requests, s[2].Requests)
	}
}

// While fewer than half take requests, who has no other geo is given any
// backend; who has one is not.
func TestPanic(t *testing.T) {
	well, ill := startServer(t, hello), startServer(t, hello)
	ill.kill()
	dial := func(b upstream.BackendConfig, tc upstream.TimeoutsConfig) (message.RoundTripper, error) {
		b.URL = "http://" + well.addr // the checks fail, the requests would not
		return upstream.Dial(b, tc)
	}
	for _, tt := range []struct {
		name  string
		addrs []string
		panic bool
	}{
		{"none of two", []string{ill.addr, ill.addr}, true},
		{"one of three", []string{ill.addr, ill.addr, well.addr}, true},
		{"one of two", []string{ill.addr, well.addr}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startReported(t, upstream.Config{Backends: backends(tt.addrs...), Health: once(), Dial: dial})
			if p.Desperate() != tt.panic {
				t.Fatalf("desperate: %v", p.Desperate())
			}
			for _, alone := range []bool{false, true} {
				for range 60 {
					resp, err := p.Serve(t.Context(), request("GET", ""), caller{alone})
					if healthy := p.Healthy() > 0; (err == nil) != (healthy || alone) {
						t.Fatalf("alone %v: %v", alone, err)
					}
					resp.Close()
				}
				asked := p.Status()[0].Requests > 0
				if asked != (alone && tt.panic) {
					t.Errorf("alone %v: %d requests to an unhealthy one", alone, p.Status()[0].Requests)
				}
			}
			if n := p.Counts().Panicked; (n > 0) != tt.panic {
				t.Errorf("%d counted", n)
			}
		})
	}
}

// A backend that returns to others at work starts with a part of its share.
func TestSlowStart(t *testing.T) {
	a, b := startServer(t, hello), startServer(t, hello)
	b.kill()
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr), Health: often(), SlowStart: new(200 * time.Millisecond)})
	if s := p.Status(); s[0].Share != 1 {
		t.Errorf("the first one has %v of its share", s[0].Share)
	}
	waitFor(t, "a to have been alone for longer than that", func() bool { return time.Since(p.Status()[0].Since) > 250*time.Millisecond })
	b.revive()
	lowest, before := 1.0, 0.0
	waitFor(t, "b to have its whole share", func() bool {
		s := p.Status()[1]
		if s.State != upstream.Healthy {
			return false
		}
		if s.Share < before {
			t.Fatalf("the share fell from %v to %v", before, s.Share)
		}
		lowest, before = min(lowest, s.Share), s.Share
		return s.Share == 1
	})
	if lowest > 0.6 {
		t.Errorf("b began with %v of its share", lowest)
	}
}

// Backends come and go: those that stay keep their counts, one that goes
// finishes what it has and gets nothing new.
func TestUpdate(t *testing.T) {
	a, b := startServer(t, hello), startServer(t, hello)
	list := backends(a.addr, b.addr)
	p := startReported(t, upstream.Config{Backends: list, Health: once()})
	open, err := p.RoundTrip(t.Context(), request("GET", ""))
	if err != nil {
		t.Fatal(err)
	}
	busy, other := 0, 1
	if p.Status()[1].Active == 1 {
		busy, other = 1, 0
	}
	load(t, p, 2, 50)
	kept := p.Status()[other].Requests
	c := startServer(t, hello)
	next := []upstream.BackendConfig{list[other], {Name: "c", URL: "http://" + c.addr, Weight: 3}}
	next[0].Weight = 2
	if err := p.Update(next); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the verdict on c", func() bool { return p.Reported() && p.Healthy() == 2 && p.Total() == 2 })
	s := p.Status()
	if s[0].Requests != kept || s[0].Weight != 2 || s[1].Name != "c" {
		t.Errorf("%+v", s)
	}
	served := []*server{a, b}[busy].served.Load()
	load(t, p, 2, 50)
	if n := []*server{a, b}[busy].served.Load(); n != served {
		t.Errorf("the one that left got %d more", n-served)
	}
	if text, err := io.ReadAll(open.Body); err != nil || string(text) != "hello" {
		t.Errorf("what was under way there ended with %q, %v", text, err)
	}
	open.Close()
	for _, bad := range [][]upstream.BackendConfig{
		{{Name: "x", URL: "ftp://x"}},
		{list[0], list[0]},
		{{Name: list[other].Name, URL: list[other].URL, Weight: -1}},
	} {
		if err := p.Update(bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if p.Total() != 2 {
		t.Errorf("%d backends after bad lists", p.Total())
	}
}

// The lists change under load and no request fails.
func TestUpdateUnderLoad(t *testing.T) {
	var list []upstream.BackendConfig
	for range 4 {
		list = append(list, upstream.BackendConfig{Name: string(rune('a' + len(list))), URL: "http://" + startServer(t, hello).addr})
	}
	p := startReported(t, upstream.Config{Backends: list[:2], Health: once()})
	done := make(chan struct{})
	go func() { defer close(done); load(t, p, 4, 3000) }()
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		next := []upstream.BackendConfig{list[i%4], list[(i+1)%4], list[(i+2)%4]}
		if err := p.Update(next); err != nil {
			t.Error(err)
		}
		waitFor(t, "verdicts", p.Reported)
	}
}
