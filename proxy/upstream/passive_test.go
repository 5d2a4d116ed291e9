package upstream_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/proxy/upstream"
)

// A flaky server answers 502 while it is broken; its checks succeed all the
// same.
func flaky(t *testing.T) (*server, *atomic.Bool) {
	t.Helper()
	broken := &atomic.Bool{}
	return startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() && r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusBadGateway)
		}
		_, _ = w.Write([]byte("hello"))
	}), broken
}

func passive(c upstream.PassiveConfig) upstream.HealthConfig {
	h := once()
	h.Passive = &c
	return h
}

// A backend that fails several requests in a row is passed over for a while,
// counts as healthy for others all the same, and comes back.
func TestEjectionAndReturn(t *testing.T) {
	a, broken := flaky(t)
	b := startServer(t, hello)
	p := startReported(t, upstream.Config{
		Backends: backends(a.addr, b.addr), SlowStart: new(time.Duration),
		Health: passive(upstream.PassiveConfig{Consecutive: new(3), Eject: new(300 * time.Millisecond)}),
	})
	broken.Store(true)
	waitFor(t, "an ejection", func() bool {
		_, _ = ask(t.Context(), p, request("GET", ""))
		return state(p, 0) == upstream.Ejected
	})
	s := p.Status()[0]
	if s.Why != "3 x 502 in a row" || s.Requests != 3 || !s.Until.After(s.Since) || p.Healthy() != 2 || p.Counts().Ejected != 1 {
		t.Errorf("%+v, healthy %d", s, p.Healthy())
	}
	broken.Store(false)
	load(t, p, 2, 20)
	if s := p.Status()[0]; s.State == upstream.Ejected && s.Requests != 3 {
		t.Errorf("%d requests while ejected", s.Requests)
	}
	waitFor(t, "the return", func() bool { return state(p, 0) == upstream.Healthy })
	waitFor(t, "requests after the return", func() bool {
		load(t, p, 1, 5)
		return p.Status()[0].Requests > 3 || t.Failed()
	})
	if s := p.Status()[0]; s.State != upstream.Healthy || s.Why != "" {
		t.Errorf("after the return: %+v", s)
	}
}

// Each ejection is longer than the one before, and no more than the allowed
// share is out at once; the last one that is left never is.
func TestEjectionGrowsAndIsCapped(t *testing.T) {
	var list []upstream.BackendConfig
	for _, name := range []string{"a", "b", "c", "d"} {
		s, broken := flaky(t)
		broken.Store(true)
		list = append(list, upstream.BackendConfig{Name: name, URL: "http://" + s.addr})
	}
	p := startReported(t, upstream.Config{
		Backends: list,
		Health:   passive(upstream.PassiveConfig{Consecutive: new(2), Eject: new(time.Minute), MaxEjected: new(0.5)}),
	})
	for range 100 {
		_, _ = ask(t.Context(), p, request("GET", ""))
	}
	out := 0
	for _, s := range p.Status() {
		if s.State == upstream.Ejected {
			out++
		}
	}
	if out != 2 {
		t.Errorf("%d of 4 ejected, want 2", out)
	}

	one := startReported(t, upstream.Config{
		Backends: list[:2],
		Health:   passive(upstream.PassiveConfig{Consecutive: new(2), Eject: new(20 * time.Millisecond), MaxEjected: new(1.0)}),
	})
	longest := time.Duration(0)
	waitFor(t, "a longer ejection", func() bool {
		_, _ = ask(t.Context(), one, request("GET", ""))
		out := 0
		for _, s := range one.Status() {
			if s.State == upstream.Ejected {
				out++
				longest = max(longest, s.Until.Sub(s.Since))
			}
		}
		if out == 2 {
			t.Fatal("nobody is left")
		}
		return longest >= 60*time.Millisecond
	})
}

// A share of failures ejects, too, once there were enough requests; the answer
// 501 speaks of the request, not of the backend.
func TestEjectionByRatio(t *testing.T) {
	var n atomic.Int64
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/healthz":
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusNotImplemented)
		case n.Add(1)%2 == 0:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	other := startServer(t, hello)
	p := startReported(t, upstream.Config{
		Backends: backends(s.addr, other.addr), Random: func(int) int { return 0 },
		Health: passive(upstream.PassiveConfig{Consecutive: new(0), ErrorRatio: new(0.4), MinRequests: 10}),
	})
	for range 30 {
		_, _ = ask(t.Context(), p, request("PUT", ""))
	}
	if state(p, 0) != upstream.Healthy {
		t.Fatal("501 ejected")
	}
	for range 40 {
		_, _ = ask(t.Context(), p, request("GET", ""))
	}
	if s := p.Status()[0]; s.State != upstream.Ejected || !strings.HasSuffix(s.Why, "requests failed within 10s") || s.Requests > 45 {
		t.Errorf("%+v", s)
	}
}

// Without health.passive no answer speaks against a backend.
func TestNoEjectionByDefault(t *testing.T) {
	a, broken := flaky(t)
	broken.Store(true)
	b := startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr), Health: once()})
	for range 50 {
		_, _ = ask(t.Context(), p, request("GET", ""))
	}
	if state(p, 0) != upstream.Healthy {
		t.Error(p.Status()[0].State)
	}
}
