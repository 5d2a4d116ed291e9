package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/upstream"
)

func TestNoBackend(t *testing.T) {
	dead := startServer(t, hello)
	dead.kill()
	for name, cfg := range map[string]upstream.Config{
		"none configured": {},
		"none healthy":    {Backends: backends(dead.addr), Health: once()},
	} {
		t.Run(name, func(t *testing.T) {
			p := startReported(t, cfg)
			_, err := ask(t.Context(), p, request("POST", "content"))
			wantSent(t, err, message.NothingSent)
			if !errors.Is(err, upstream.ErrNoBackend) || err.Error() != "shop (nothing was sent): no healthy backend" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// All die before a check notices: each is asked once, then it is known that
// nobody took a byte.
func TestAllRefuse(t *testing.T) {
	a, b := startServer(t, hello), startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr), Health: once()})
	a.kill()
	b.kill()
	_, err := ask(t.Context(), p, request("POST", "content"))
	wantSent(t, err, message.NothingSent)
	if !errors.Is(err, upstream.ErrNoBackend) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	for _, st := range p.Status() {
		if st.Requests != 1 || st.Active != 0 {
			t.Errorf("%s: %d requests, %d under way", st.Name, st.Requests, st.Active)
		}
	}
}

func TestGarbage(t *testing.T) {
	for name, answer := range map[string]string{
		"no HTTP":        "SSH-2.0-OpenSSH_9.2\r\n",
		"a bad status":   "HTTP/1.1 abc OK\r\n\r\n",
		"a bad field":    "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
		"two lengths":    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"zeros":          strings.Repeat("\x00", 64) + "\r\n\r\n",
		"an endless one": "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			addr := listen(t, func(c net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					_, _ = io.WriteString(c, answer)
				}
			})
			p := startReported(t, upstream.Config{Backends: backends(addr)})
			_, err := ask(t.Context(), p, request("POST", "content"))
			if err == nil || message.SentBy(err) == message.NothingSent {
				t.Fatalf("got %v", err)
			}
			if st := p.Status()[0]; st.Active != 0 {
				t.Errorf("%d still under way", st.Active)
			}
		})
	}
}

// A backend that takes the request and hangs up: the request may have been
// executed.
func TestHangUp(t *testing.T) {
	rude := listen(t, func(c net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	for _, tt := range []struct {
		name   string
		method string
		keep   message.Size // of the body
		tries  int64        // at the backend that answers
		want   string
	}{
		{"GET goes on", "GET", 0, 1, ""},
		{"PUT goes on with its whole content", "PUT", message.MiB, 1, "content"},
		{"PUT whose content is gone", "PUT", 0, 0, ""},
		{"POST goes up", "POST", message.MiB, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := startReported(t, upstream.Config{Backends: backends(rude, s.addr), Random: func(int) int { return 0 }})
			r := request(tt.method, "")
			if tt.method != "GET" {
				r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), 7, tt.keep, nil)
			}
			text, err := ask(t.Context(), p, r)
			switch {
			case tt.tries == 0:
				wantSent(t, err, message.MaybeExecuted)
			case err != nil || text != tt.want:
				t.Errorf("%q, %v", text, err)
			}
			if got := p.Status()[1].Requests; got != tt.tries {
				t.Errorf("the other backend was asked %d times", got)
			}
			if state(p, 0) != upstream.Healthy {
				t.Error("a hang-up is no proof against a backend")
			}
		})
	}
}

// A third backend is never asked after two that may have executed.
func TestRepeatsOnce(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	lost := &message.TryError{Sent: message.MaybeExecuted, Err: io.ErrUnexpectedEOF}
	p := startReported(t, upstream.Config{Backends: backends(addr, addr, addr), Dial: fakes(func(string) (*message.Response, error) { return nil, lost })})
	_, err := ask(t.Context(), p, request("GET", ""))
	wantSent(t, err, message.MaybeExecuted)
	if errors.Is(err, upstream.ErrNoBackend) {
		t.Errorf("got %v", err)
	}
	var asked int64
	for _, st := range p.Status() {
		asked += st.Requests
	}
	if asked != 2 {
		t.Errorf("%d tries, want 2", asked)
	}
}

// A slow backend is not made up for by asking another one.
func TestResponseHeaderTimeout(t *testing.T) {
	slow := func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			<-r.Context().Done()
		}
	}
	a, b := startServer(t, slow), startServer(t, slow)
	p := startReported(t, upstream.Config{
		Backends: backends(a.addr, b.addr), Health: once(),
		Timeouts: upstream.TimeoutsConfig{ResponseHeader: new(50 * time.Millisecond)},
	})
	_, err := ask(t.Context(), p, request("GET", ""))
	wantSent(t, err, message.MaybeExecuted)
	if !errors.Is(err, upstream.ErrTimeout) || !strings.Contains(err.Error(), "no response header within 50ms") {
		t.Errorf("got %v", err)
	}
	if n := p.Status()[0].Requests + p.Status()[1].Requests; n != 1 {
		t.Errorf("%d tries, want 1", n)
	}
	if p.Healthy() != 2 {
		t.Error("one slow answer is no proof against a backend")
	}
}

// A client that goes away ends its request and speaks against nobody.
func TestClientGone(t *testing.T) {
	arrived := make(chan struct{}, 1)
	s := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	other := startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(s.addr, other.addr), Health: once(), Random: func(int) int { return 0 }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { _, err := ask(ctx, p, request("GET", "")); done <- err }()
	<-arrived
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || errors.Is(err, upstream.ErrTimeout) {
		t.Errorf("got %v", err)
	}
	if p.Healthy() != 2 || p.Status()[0].Active != 0 || p.Status()[1].Requests != 0 {
		t.Errorf("%+v", p.Status())
	}
}

// What a client can write must not take backends away from others.
func TestBadRequestIsNoProof(t *testing.T) {
	a, b := startServer(t, hello), startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr), Health: once()})
	for range 5 {
		r := request("GE T", "")
		r.Header.Add("bad name", "x")
		if _, err := ask(t.Context(), p, r); err == nil {
			t.Fatal("a method with a space was sent")
		}
	}
	if p.Healthy() != 2 {
		t.Errorf("%+v", p.Status())
	}
}

func TestShareByWeight(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	cfg := backends(addr, addr, addr)
	cfg[1].Weight, cfg[2].Weight = 3, 6
	seeded := rand.New(rand.NewPCG(1, 2))
	p := startReported(t, upstream.Config{
		Backends: cfg, Random: seeded.IntN,
		Dial: fakes(func(string) (*message.Response, error) { return &message.Response{Status: 204}, nil }),
	})
	const n = 20000
	for range n {
		if _, err := ask(t.Context(), p, request("GET", "")); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []float64{0.1, 0.3, 0.6} {
		if got := float64(p.Status()[i].Requests) / n; got < want-0.02 || got > want+0.02 {
			t.Errorf("backend %d got %.3f of the requests, want %.1f", i, got, want)
		}
	}
}

// Requests under way are spread by weight, and a busy backend gets no more.
func TestLeastInFlight(t *testing.T) {
	addr := listen(t, func(net.Conn) {})
	cfg := backends(addr, addr)
	cfg[1].Weight = 3
	seeded := rand.New(rand.NewPCG(3, 4))
	p := startReported(t, upstream.Config{
		Backends: cfg, Random: seeded.IntN,
		Dial: fakes(func(name string) (*message.Response, error) {
			return &message.Response{Status: 200, Body: io.NopCloser(strings.NewReader(name))}, nil
		}),
	})
	var open []*message.Response
	for range 400 {
		resp, err := p.RoundTrip(t.Context(), request("GET", ""))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, resp)
	}
	if a := p.Status()[0].Active; a < 98 || a > 102 {
		t.Errorf("backend of weight 1 of 4 has %d of 400 under way", a)
	}
	for _, resp := range open {
		resp.Close()
		resp.Close() // a second time must not count twice
	}
	for _, st := range p.Status() {
		if st.Active != 0 {
			t.Errorf("%s: %d still under way", st.Name, st.Active)
		}
	}
}

// A request is under way until its answer is closed, however that ends.
func TestInFlight(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			return
		}
		if r.Header.Get("Upgrade") != "" {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "echo")
			w.WriteHeader(http.StatusSwitchingProtocols)
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, rw)
			_ = c.Close()
			return
		}
		_, _ = io.WriteString(w, "part")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	p := startReported(t, upstream.Config{Backends: backends(s.addr), Health: once()})
	active := func() int64 { return p.Status()[0].Active }
	upgrade := request("GET", "")
	upgrade.Protocol = "echo"

	for name, r := range map[string]*message.Request{"closed early": request("GET", ""), "client gone": request("GET", ""), "stream": upgrade} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			resp, err := p.RoundTrip(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			rw := io.Reader(resp.Body)
			if resp.Stream != nil {
				rw = resp.Stream
				_, _ = io.WriteString(resp.Stream, "part")
			}
			if _, err := io.ReadFull(rw, make([]byte, 4)); err != nil {
				t.Fatal(err)
			}
			if active() != 1 {
				t.Errorf("%d under way, want 1", active())
			}
			if name == "client gone" {
				cancel()
				if _, err := io.ReadAll(resp.Body); err == nil {
					t.Error("a cancelled answer ended well")
				}
			}
			if cw, ok := resp.Stream.(interface{ CloseWrite() error }); ok {
				if err := cw.CloseWrite(); err != nil {
					t.Errorf("CloseWrite: %v", err)
				}
			}
			resp.Close()
			if active() != 0 {
				t.Errorf("%d under way, want 0", active())
			}
		})
	}
}

// Everything at once, for the race detector.
func TestConcurrent(t *testing.T) {
	a, b := startServer(t, hello), startServer(t, hello)
	p := startReported(t, upstream.Config{Backends: backends(a.addr, b.addr), Health: often()})
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for n := range 100 {
				ctx, cancel := context.WithCancel(t.Context())
				method, body := "GET", ""
				if n%2 == 1 {
					method, body = "POST", "content"
				}
				resp, err := p.RoundTrip(ctx, request(method, body))
				if n%7 == i%7 {
					cancel()
				}
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Close()
				}
				cancel()
				_ = p.Status()
			}
		})
	}
	for range 3 {
		a.kill()
		waitFor(t, "a down", func() bool { return state(p, 0) == upstream.Unhealthy })
		a.revive()
		waitFor(t, "a up", func() bool { return state(p, 0) == upstream.Healthy })
	}
	clients.Wait()
	for _, st := range p.Status() {
		if st.Active != 0 {
			t.Errorf("%s: %d under way at the end", st.Name, st.Active)
		}
	}
}
