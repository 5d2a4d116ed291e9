package upstream_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a condition may take on a busy machine.
const patience = 30 * time.Second

// A server is a real HTTP server on a port of loopback that it keeps over a
// kill.
type server struct {
	t       *testing.T
	addr    string
	handler http.Handler
	http    *http.Server
	done    chan struct{}
	served  atomic.Int64
}

func startServer(t *testing.T, handler http.HandlerFunc) *server {
	t.Helper()
	s := &server{t: t, addr: "127.0.0.1:0"}
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			s.served.Add(1)
		}
		handler(w, r)
	})
	s.revive()
	t.Cleanup(s.kill)
	return s
}

// kill closes the port and every connection.
func (s *server) kill() {
	_ = s.http.Close()
	<-s.done
}

func (s *server) revive() {
	s.t.Helper()
	l, err := (&net.ListenConfig{}).Listen(s.t.Context(), "tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addr = l.Addr().String()
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{Handler: s.handler, Protocols: &protocols, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	s.done = make(chan struct{})
	go func(srv *http.Server, done chan struct{}) { _ = srv.Serve(l); close(done) }(s.http, s.done)
}

// listen answers every connection of a port by serve.
func listen(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") }

// often checks by HTTP every few milliseconds.
func often() upstream.HealthConfig {
	return upstream.HealthConfig{HTTP: &upstream.HTTPCheckConfig{Path: "/healthz", Interval: new(10 * time.Millisecond), Timeout: new(5 * time.Second)}}
}

// once checks by HTTP at the start; then only when a request gives cause.
func once() upstream.HealthConfig {
	return upstream.HealthConfig{HTTP: &upstream.HTTPCheckConfig{Path: "/healthz", Interval: new(time.Hour), Timeout: new(5 * time.Second)}}
}

// backends names backends a, b, ... at these addresses.
func backends(addrs ...string) []upstream.BackendConfig {
	var out []upstream.BackendConfig
	for i, a := range addrs {
		out = append(out, upstream.BackendConfig{Name: string(rune('a' + i)), URL: "http://" + a})
	}
	return out
}

// start runs a pool until the test ends.
func start(t *testing.T, cfg upstream.Config) *upstream.Pool {
	t.Helper()
	p, err := upstream.New("shop", cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- p.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	<-ready
	return p
}

// startReported is start, and waits for the first verdicts.
func startReported(t *testing.T, cfg upstream.Config) *upstream.Pool {
	t.Helper()
	p := start(t, cfg)
	waitFor(t, "first verdicts", p.Reported)
	return p
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still waiting for: %s", what)
		}
	}
}

func state(p *upstream.Pool, backend int) upstream.State { return p.Status()[backend].State }

func request(method string, body string) *message.Request {
	r := &message.Request{Version: message.HTTP1, Method: method, Scheme: "https", Authority: "www.example.net", Target: "/x"}
	if body != "" {
		r.Body = message.NewBody(io.NopCloser(strings.NewReader(body)), int64(len(body)), message.MiB, nil)
	}
	return r
}

// ask sends a request and returns the content of its answer.
func ask(ctx context.Context, p *upstream.Pool, r *message.Request) (string, error) {
	resp, err := p.RoundTrip(ctx, r)
	if err != nil {
		return "", err
	}
	defer resp.Close()
	if resp.Body == nil {
		return "", nil
	}
	text, err := io.ReadAll(resp.Body)
	return string(text), err
}

// wantSent checks how far a failed request got.
func wantSent(t *testing.T, err error, want message.Sent) {
	t.Helper()
	e, ok := errors.AsType[*message.TryError](err)
	if !ok || e.Sent != want {
		t.Fatalf("got %v, want %s", err, want)
	}
}

// A fake answers at once, or as it is told, without a network.
type fake struct {
	name   string
	answer func(ctx context.Context, r *message.Request) (*message.Response, error)
}

func (f *fake) RoundTrip(ctx context.Context, r *message.Request) (*message.Response, error) {
	return f.answer(ctx, r)
}

// fakes makes a dialer of fakes that answer with their backend's name.
func fakes(answer func(name string) (*message.Response, error)) upstream.Dialer {
	return func(b upstream.BackendConfig, _ upstream.TimeoutsConfig) (message.RoundTripper, error) {
		return &fake{b.Name, func(context.Context, *message.Request) (*message.Response, error) { return answer(b.Name) }}, nil
	}
}

// load has some clients send n requests in all; none may fail.
func load(t *testing.T, p *upstream.Pool, clients, n int) {
	t.Helper()
	var all sync.WaitGroup
	var sent atomic.Int64
	for range clients {
		all.Go(func() {
			for sent.Add(1) <= int64(n) {
				if text, err := ask(t.Context(), p, request("GET", "")); err != nil || text != "hello" {
					t.Errorf("a request failed: %q, %v", text, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// caller is who asks; alone says that no other geo could be asked.
type caller struct{ alone bool }

func (c caller) Client() netip.Addr { return netip.MustParseAddr("192.0.2.1") }
func (c caller) Alone() bool        { return c.alone }
