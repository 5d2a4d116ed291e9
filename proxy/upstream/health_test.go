package upstream_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"
)

// A backend is not used before its first check has ended, and one good answer
// is enough then.
func TestFirstVerdict(t *testing.T) {
	release := make(chan struct{})
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			<-release
		}
	})
	p := start(t, upstream.Config{Backends: backends(s.addr), Health: once()})
	if p.Reported() || p.Healthy() != 0 || p.Total() != 1 || state(p, 0) != upstream.Unknown {
		t.Errorf("before the check: %+v", p.Status())
	}
	_, err := ask(t.Context(), p, request("GET", ""))
	wantSent(t, err, message.NothingSent)
	if !errors.Is(err, upstream.ErrNoBackend) {
		t.Errorf("got %v", err)
	}
	close(release)
	select {
	case <-p.Changed():
	case <-time.After(patience):
		t.Fatal("no change was told")
	}
	if !p.Reported() || p.Healthy() != 1 || state(p, 0) != upstream.Healthy {
		t.Errorf("after the check: %+v", p.Status())
	}
	if _, err := ask(t.Context(), p, request("GET", "")); err != nil {
		t.Error(err)
	}
}

// A backend that is down at the start has a verdict at once, too.
func TestFirstVerdictIsBad(t *testing.T) {
	s := startServer(t, hello)
	s.kill()
	p := startReported(t, upstream.Config{Backends: backends(s.addr), Health: often()})
	if p.Healthy() != 0 || state(p, 0) != upstream.Unhealthy {
		t.Errorf("%+v", p.Status())
	}
	waitFor(t, "repeated refusals", func() bool { return strings.HasPrefix(p.Status()[0].LastError, "connect refused x") })
}

func TestRiseAndFall(t *testing.T) {
	checks := make(chan int) // the test lets each check through with a status
	s := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if status, ok := <-checks; ok {
			w.WriteHeader(status)
		}
	})
	h := often()
	h.HTTP.Rise, h.HTTP.Fall, h.HTTP.Expect = 2, 3, []int{200, 204}
	p := start(t, upstream.Config{Backends: backends(s.addr), Health: h})
	last := time.Time{}
	for i, step := range []struct {
		status int
		want   upstream.State
	}{
		{204, upstream.Healthy},
		{500, upstream.Healthy},
		{302, upstream.Healthy}, // not followed, not expected
		{200, upstream.Healthy},
		{500, upstream.Healthy},
		{500, upstream.Healthy},
		{503, upstream.Unhealthy},
		{200, upstream.Unhealthy},
		{503, upstream.Unhealthy},
		{200, upstream.Unhealthy},
		{200, upstream.Healthy},
	} {
		checks <- step.status
		waitFor(t, "the check's verdict", func() bool { return p.Status()[0].LastCheck.After(last) })
		st := p.Status()[0]
		last = st.LastCheck
		if st.State != step.want {
			t.Fatalf("step %d: %d made it %s, want %s", i, step.status, st.State, step.want)
		}
	}
	if st := p.Status()[0]; st.LastError != "status 503 x2" || st.LastErrorAt.IsZero() {
		t.Errorf("last error %q", st.LastError)
	}
	close(checks) // later checks must not hold the server open
}

// A check that takes too long fails.
func TestCheckTimeout(t *testing.T) {
	s := startServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h := once()
	h.HTTP.Timeout = new(20 * time.Millisecond)
	p := startReported(t, upstream.Config{Backends: backends(s.addr), Health: h})
	if st := p.Status()[0]; st.State != upstream.Unhealthy || st.LastError != "timeout" {
		t.Errorf("%+v", st)
	}
}

// Without an HTTP check a connection is enough.
func TestConnectCheck(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	gone := startServer(t, hello)
	gone.kill()
	p := startReported(t, upstream.Config{Backends: backends(s.addr, gone.addr)})
	if state(p, 0) != upstream.Healthy || state(p, 1) != upstream.Unhealthy {
		t.Errorf("%+v", p.Status())
	}
}

// One of three dies and comes back under load: no idempotent request fails.
func TestKillAndRevive(t *testing.T) {
	a, b, c := startServer(t, hello), startServer(t, hello), startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr, c.addr), Health: often()})
	stop := make(chan struct{})
	var clients sync.WaitGroup
	var answered atomic.Int64
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if text, err := ask(t.Context(), p, request("GET", "")); err != nil || text != "hello" {
					t.Errorf("a request failed: %q, %v", text, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	more := func(n int64) {
		t.Helper()
		want := answered.Load() + n
		waitFor(t, "more answers", func() bool { return answered.Load() >= want || t.Failed() })
	}
	more(50)
	a.kill()
	more(50)
	waitFor(t, "a to be down", func() bool { return state(p, 0) == upstream.Unhealthy })
	if p.Healthy() != 2 {
		t.Errorf("healthy: %d", p.Healthy())
	}
	waitFor(t, "refusals counted", func() bool { return strings.HasPrefix(p.Status()[0].LastError, "connect refused x") })
	a.revive()
	waitFor(t, "a to be back", func() bool { return state(p, 0) == upstream.Healthy })
	before := a.served.Load()
	waitFor(t, "requests at a", func() bool { return a.served.Load() > before+10 || t.Failed() })
	close(stop)
	clients.Wait()
}

// The first request that a dead backend refuses goes elsewhere, whatever its
// method, and later ones do not meet it at all.
func TestDeadBackendIsSuspected(t *testing.T) {
	a, b := startServer(t, hello), startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr), Health: once()})
	a.kill()
	for range 50 {
		if text, err := ask(t.Context(), p, request("POST", "content")); err != nil || text != "hello" {
			t.Fatalf("%q, %v", text, err)
		}
	}
	st := p.Status()[0]
	if st.State != upstream.Suspect || st.Requests != 1 || st.Failed != 1 || p.Healthy() != 1 {
		t.Errorf("a was asked %d times, failed %d times and is %s", st.Requests, st.Failed, st.State)
	}
}

// A suspicion is cleared by the check that follows it at once.
func TestSuspicionIsCleared(t *testing.T) {
	a := startServer(t, hello)
	dead := startServer(t, hello)
	dead.kill()
	dial := func(b upstream.BackendConfig, tc upstream.TimeoutsConfig) (message.RoundTripper, error) {
		b.URL = "http://" + dead.addr // its requests are refused, its checks are not
		return upstream.Dial(b, tc)
	}
	p := startReported(t, upstream.Config{Backends: backends(a.addr), Health: once(), Dial: dial})
	first := p.Status()[0].LastCheck
	_, err := ask(t.Context(), p, request("GET", ""))
	wantSent(t, err, message.NothingSent)
	if !errors.Is(err, upstream.ErrNoBackend) {
		t.Errorf("got %v", err)
	}
	waitFor(t, "a check at once", func() bool { return p.Status()[0].LastCheck.After(first) })
	waitFor(t, "the suspicion to end", func() bool { return state(p, 0) == upstream.Healthy && p.Healthy() == 1 })
}

func TestHTTP2Backend(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Proto)) })
	cfg := backends(s.addr)
	cfg[0].URL = "h2c://" + s.addr
	p := startReported(t, upstream.Config{Backends: cfg, Health: once()})
	if text, err := ask(t.Context(), p, request("POST", "content")); err != nil || text != "HTTP/2.0" {
		t.Errorf("%q, %v", text, err)
	}
	s.kill()
	waitFor(t, "suspicion of a dead h2c backend", func() bool {
		_, err := ask(t.Context(), p, request("GET", ""))
		return err != nil && state(p, 0) != upstream.Healthy
	})
}
