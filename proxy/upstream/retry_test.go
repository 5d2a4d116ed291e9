package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"

	"pgregory.net/rapid"
)

// statuses are backends that always answer these; 0: they take the request and
// hang up.
func statuses(t *testing.T, retry upstream.RetryConfig, all ...int) *upstream.Pool {
	t.Helper()
	addr := listen(t, func(net.Conn) {})
	var addrs []string
	for range all {
		addrs = append(addrs, addr)
	}
	return startReported(t, upstream.Config{
		Backends: backends(addrs...), Retry: retry, Random: func(int) int { return 0 },
		Dial: fakes(func(name string) (*message.Response, error) {
			status := all[name[0]-'a']
			if status == 0 {
				return nil, &message.TryError{Sent: message.MaybeExecuted, Err: io.ErrUnexpectedEOF}
			}
			return &message.Response{Status: status, Header: message.Header{{Name: "X-By", Value: name}}, Body: io.NopCloser(strings.NewReader(name))}, nil
		}),
	})
}

// What is sent once more, and what the client gets in the end.
func TestRetry(t *testing.T) {
	on503 := upstream.RetryConfig{Statuses: []int{503}}
	for _, tt := range []struct {
		name    string
		retry   upstream.RetryConfig
		method  string
		answers []int
		want    string // the backend whose answer comes; "": an error
		tries   int64
	}{
		{"reset", upstream.RetryConfig{}, "GET", []int{0, 200}, "b", 2},
		{"reset of a POST", upstream.RetryConfig{}, "POST", []int{0, 200}, "", 1},
		{"reset, not wanted", upstream.RetryConfig{On: []string{}}, "GET", []int{0, 200}, "", 1},
		{"reset, one attempt", upstream.RetryConfig{Attempts: 1}, "GET", []int{0, 200}, "", 1},
		{"two resets", upstream.RetryConfig{}, "GET", []int{0, 0, 200}, "", 2},
		{"two resets, three attempts", upstream.RetryConfig{Attempts: 3}, "GET", []int{0, 0, 200}, "c", 3},
		{"reset without a budget", upstream.RetryConfig{Budget: new(0.0)}, "GET", []int{0, 200}, "", 1},
		{"the only one again", upstream.RetryConfig{Attempts: 3}, "GET", []int{0}, "", 3},
		{"status", on503, "GET", []int{503, 200}, "b", 2},
		{"status by default", upstream.RetryConfig{}, "GET", []int{503, 200}, "a", 1},
		{"another status", on503, "GET", []int{502, 200}, "a", 1},
		{"status of a POST", on503, "POST", []int{503, 200}, "a", 1},
		{"status twice: the last answer", on503, "GET", []int{503, 503}, "b", 2},
		{"status, then a reset: the answer that there is", on503, "GET", []int{503, 0}, "a", 2},
		{"the only one's status again", on503, "GET", []int{503}, "a", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := statuses(t, tt.retry, tt.answers...)
			text, err := ask(t.Context(), p, request(tt.method, ""))
			if text != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v", text, err)
			}
			var tries, active int64
			for _, s := range p.Status() {
				tries, active = tries+s.Requests, active+s.Active
			}
			if tries != tt.tries || active != 0 || p.Counts().Retried != tt.tries-1 {
				t.Errorf("%d tries, %d under way, %+v", tries, active, p.Counts())
			}
		})
	}
}

// An answer that the caller wants whatever its status is not dropped.
func TestRetryKeepsInstructions(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	p := startReported(t, upstream.Config{
		Backends: backends(addr, addr), Retry: upstream.RetryConfig{Statuses: []int{503}},
		Keep: func(h message.Header) bool { return h.Has("X-Keep") },
		Dial: fakes(func(string) (*message.Response, error) {
			return &message.Response{Status: 503, Header: message.Header{{Name: "X-Keep", Value: "1"}}}, nil
		}),
	})
	if _, err := ask(t.Context(), p, request("GET", "")); err != nil {
		t.Fatal(err)
	}
	if n := p.Status()[0].Requests + p.Status()[1].Requests; n != 1 {
		t.Errorf("%d tries", n)
	}
}

// However requests and failures come, repeats stay within the share, the free
// ones and what there was at the start.
func TestBudget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		share := rapid.Float64Range(0.01, 1).Draw(t, "share")
		now := time.Unix(0, 0)
		b := upstream.NewBudget(share, now)
		var requests int64
		taken := 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			requests += int64(rapid.IntRange(0, 500).Draw(t, "requests"))
			for range rapid.IntRange(0, 60).Draw(t, "failures") {
				if b.Take(now, requests) {
					taken++
				}
			}
			if most := 10 + share*float64(requests) + now.Sub(time.Unix(0, 0)).Seconds(); float64(taken) > most+1e-6 {
				t.Fatalf("%d repeats of %d requests in %s, want at most %.1f", taken, requests, now.Sub(time.Unix(0, 0)), most)
			}
		}
	})
}

// A steady service may repeat its share all the time, and a quiet one a little.
func TestBudgetGivesItsShare(t *testing.T) {
	now := time.Unix(0, 0)
	b := upstream.NewBudget(0.1, now)
	var requests int64
	taken := 0
	for range 1000 { // 100 s at 100/s, with a failure each 50 ms
		now = now.Add(100 * time.Millisecond)
		requests += 10
		for range 2 {
			if b.Take(now, requests) {
				taken++
			}
		}
	}
	if taken < 1000 || taken > 1110 {
		t.Errorf("%d of 10000 requests repeated, want about 1000 and one a second", taken)
	}
	now = now.Add(time.Hour)
	taken = 0
	for b.Take(now, requests) {
		taken++
	}
	if taken < 5 || taken > 11 {
		t.Errorf("%d repeats at once after a quiet hour", taken)
	}
}

// A backend that does not answer in the time of one try is given up for the
// next.
func TestPerTry(t *testing.T) {
	a := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path != "/healthz" {
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, "late")
	})
	b := startServer(t, hello)
	p := startReported(t, upstream.Config{
		Backends: backends(a.addr, b.addr), Health: once(), Random: func(int) int { return 0 },
		Retry: upstream.RetryConfig{PerTry: new(50 * time.Millisecond)},
	})
	if text, err := ask(t.Context(), p, request("GET", "")); err != nil || text != "hello" {
		t.Errorf("%q, %v", text, err)
	}
	_, err := ask(t.Context(), p, request("POST", "content"))
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, upstream.ErrTimeout) || errors.Is(err, upstream.ErrNoBackend) {
		t.Errorf("got %v", err)
	}
	if s := p.Status()[0]; s.Active != 0 || s.Failed != 2 {
		t.Errorf("%+v", s)
	}
}

// The total time holds for the content, too.
func TestTotal(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "part")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
	})
	p := startReported(t, upstream.Config{Backends: backends(s.addr), Health: once(), Timeouts: upstream.TimeoutsConfig{Total: new(100 * time.Millisecond)}})
	text, err := ask(t.Context(), p, request("GET", ""))
	if text != "part" || !errors.Is(err, upstream.ErrTimeout) || message.SentBy(err) != message.Answered {
		t.Errorf("content: %q, %v", text, err)
	}
	_, err = ask(t.Context(), p, request("PUT", ""))
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, upstream.ErrTimeout) || p.Status()[0].Active != 0 {
		t.Errorf("head: %v, %+v", err, p.Status()[0])
	}
}

// A second backend is asked when the first one takes long; the quicker answer
// counts and the other try is cancelled.
func TestHedge(t *testing.T) {
	cancelled := make(chan struct{}, 8)
	slow := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-r.Context().Done():
			cancelled <- struct{}{}
		case <-time.After(500 * time.Millisecond):
			_, _ = io.WriteString(w, "late")
		}
	})
	quick := startServer(t, hello)
	p := startReported(t, upstream.Config{
		Backends: backends(slow.addr, quick.addr), Health: once(), Random: func(int) int { return 0 },
		Retry: upstream.RetryConfig{Hedge: "10ms"},
	})
	r := request("GET", "")
	if text, err := ask(t.Context(), p, r); err != nil || text != "hello" || r.Asked != "b" {
		t.Errorf("%q by %s, %v", text, r.Asked, err)
	}
	<-cancelled
	waitFor(t, "the end of the other try", func() bool { return p.Status()[0].Active == 0 })
	if text, err := ask(t.Context(), p, request("POST", "content")); err != nil || text != "late" {
		t.Errorf("a POST: %q, %v", text, err)
	}
	if c := p.Counts(); c.Hedged != 1 || c.HedgeWon != 1 {
		t.Errorf("%+v", c)
	}
	waitFor(t, "the end of all tries", func() bool { return p.Status()[0].Active == 0 && p.Status()[1].Active == 0 })
}

// When both tries fail the request has failed.
func TestHedgeFails(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	var asked atomic.Int64
	p := startReported(t, upstream.Config{
		Backends: backends(addr, addr), Random: func(int) int { return 0 },
		Retry: upstream.RetryConfig{Hedge: "1ms", Attempts: 1},
		Dial: func(upstream.BackendConfig, upstream.TimeoutsConfig) (message.RoundTripper, error) {
			return message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
				asked.Add(1)
				for asked.Load() < 2 { // until both are under way
					select {
					case <-time.After(time.Millisecond):
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				}
				return nil, &message.TryError{Sent: message.MaybeExecuted, Err: io.ErrUnexpectedEOF}
			}), nil
		},
	})
	_, err := ask(t.Context(), p, request("GET", ""))
	wantSent(t, err, message.MaybeExecuted)
}

// The estimate settles where one answer in twenty takes longer.
func TestLate(t *testing.T) {
	var samples []time.Duration
	for i := range 20000 {
		samples = append(samples, time.Duration(i*7919%1000)*time.Microsecond)
	}
	if got := upstream.Late(samples); got < 900*time.Microsecond || got > 1100*time.Microsecond {
		t.Errorf("p95 of 0 to 1 ms: %s", got)
	}
	if got := upstream.Late(nil); got != 0 {
		t.Errorf("p95 of nothing: %s", got)
	}
}
