package h1_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// A waiter is a handler that answers nothing until its client has gone.
type waiter struct{ began, ended atomic.Int32 }

// RoundTrip grants upgrades, and waits behind other requests.
func (w *waiter) RoundTrip(ctx context.Context, r *message.Request) (*message.Response, error) {
	w.began.Add(1)
	if r.Protocol != "" {
		near, far := net.Pipe()
		go func() {
			defer w.ended.Add(1)
			_, _ = io.Copy(io.Discard, far)
			_ = far.Close()
		}()
		return &message.Response{Status: 101, Stream: near}, nil
	}
	defer w.ended.Add(1)
	if r.Body != nil {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		defer reader.Close()
		_, _ = io.Copy(io.Discard, reader)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// secured serves handler on TLS and returns a function that dials.
func secured(t *testing.T, handler message.RoundTripper) (*h1.Server, func() (net.Conn, error)) {
	t.Helper()
	s := h1.NewServer(h1.Config{HeaderTimeout: time.Minute}, handler, enginetest.Log(t)) // a busy machine is slow at handshakes
	enginetest.Stop(t, s.Shutdown)
	server, client := enginetest.TLS(t, "http/1.1")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	addr := enginetest.Listen(t, func(c net.Conn) { s.ServeConn(overTLS(t, c, server)) })
	return s, func() (net.Conn, error) { return tls.Dial("tcp", addr, client) }
}

// until waits for something to become true.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(enginetest.Patience)
	for !holds() {
		select {
		case <-late:
			t.Fatalf("%s: not after %v", what, enginetest.Patience)
		case <-time.After(time.Millisecond):
		}
	}
}

// Nothing is left of a client, whichever byte of its request was its last, and
// however it went.
func TestVanish(t *testing.T) {
	requests := []string{
		get("X: 1\r\n"), post("Content-Length: 10\r\n", "0123456789"),
		chunked("2;a\r\nab\r\n3\r\ncde\r\n0\r\nX: 1\r\n\r\n"),
		get("Connection: Upgrade\r\nUpgrade: raw\r\n") + "more",
		get("") + get("") + "GET",
	}
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			w := &waiter{}
			s, dial := secured(t, w)
			rounds := 1
			if !secure {
				var addr string
				s, addr = start(t, h1.Config{}, w)
				dial = func() (net.Conn, error) { return net.Dial("tcp", addr) }
				rounds = 4
			}
			var pending sync.WaitGroup
			room := make(chan struct{}, 64)
			for n := range rounds * 2 {
				for _, r := range requests {
					for end := range len(r) + 1 {
						room <- struct{}{}
						pending.Go(func() {
							defer func() { <-room }()
							vanish(t, dial, r[:end], n%2 == 0)
						})
					}
				}
			}
			pending.Wait()
			until(t, "end of every connection", func() bool { return h1.Open(s) == 0 })
			until(t, "end of every exchange", func() bool { return w.began.Load() == w.ended.Load() })
			if n := int(w.began.Load()); n < rounds*2*len(requests) {
				t.Errorf("%d exchanges", n)
			}
		})
	}
}

// vanish sends and goes, with a reset or without.
func vanish(t *testing.T, dial func() (net.Conn, error), sent string, reset bool) {
	t.Helper()
	c, err := dial()
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := io.WriteString(c, sent); err != nil {
		t.Error(err)
	}
	raw := c
	if secure, ok := c.(*tls.Conn); ok && reset {
		raw = secure.NetConn()
	}
	if plain, ok := raw.(*net.TCPConn); ok && reset {
		_ = plain.CloseWrite() // what was sent arrives; a reset alone may overtake it
		_ = plain.SetLinger(0)
	}
	_ = raw.Close()
}

// endless is content that has no end; closed tells that nobody wants it.
type endless struct {
	once   sync.Once
	closed chan struct{}
}

// Read gives zeros.
func (e *endless) Read(p []byte) (int, error) { return len(p), nil }

// Close ends nothing but the wait for it.
func (e *endless) Close() error {
	e.once.Do(func() { close(e.closed) })
	return nil
}

// A client that takes no more of an answer and ends its half has gone, although
// its connection lives.
func TestVanishWhileAnswered(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			e := &endless{closed: make(chan struct{})}
			handler := message.RoundTripFunc(func(context.Context, *message.Request) (*message.Response, error) {
				return &message.Response{Status: 200, Length: -1, Body: e}, nil
			})
			_, dial := secured(t, handler)
			if !secure {
				_, addr := start(t, h1.Config{}, handler)
				dial = func() (net.Conn, error) { return net.Dial("tcp", addr) }
			}
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			fmt.Fprint(c, get(""))
			if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
				t.Fatal(err)
			}
			<-time.After(50 * time.Millisecond) // until the server's writes wait
			if err := message.CloseWrite(c); err != nil {
				t.Fatal(err)
			}
			if c, ok := c.(*tls.Conn); ok { // its farewell alone waits behind what the server does not read
				_ = message.CloseWrite(c.NetConn())
			}
			enginetest.Within(t, "end of the answer", e.closed)
		})
	}
}

// A client whose content nobody reads is missed when it goes.
func TestVanishUnread(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			t.Parallel()
			arrived, gone := make(chan struct{}), make(chan struct{})
			handler := message.RoundTripFunc(func(ctx context.Context, _ *message.Request) (*message.Response, error) {
				close(arrived)
				<-ctx.Done()
				close(gone)
				return nil, context.Cause(ctx)
			})
			_, dial := secured(t, handler)
			if !secure {
				_, addr := start(t, h1.Config{}, handler)
				dial = func() (net.Conn, error) { return net.Dial("tcp", addr) }
			}
			c, err := dial()
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(c, post("Content-Length: 9\r\n", "ab"))
			enginetest.Within(t, "the request", arrived)
			_ = c.Close()
			enginetest.Within(t, "its end", gone)
		})
	}
}

// A handler that heeds no context, and one that panics, end with their
// connection, and others go on.
func TestVanishingHandlers(t *testing.T) {
	arrived, gone := make(chan struct{}, 1), make(chan struct{})
	s, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		switch r.Target {
		case "/panic":
			panic("on purpose")
		case "/late":
			arrived <- struct{}{}
			<-gone
		}
		return &message.Response{Status: 200, Length: -1, Body: failing{}}, nil
	}))
	if got := attempt(t, addr, "GET /panic HTTP/1.1\r\nHost: a\r\n\r\n"); got != "" {
		t.Errorf("answered %q", got)
	}
	if got := attempt(t, addr, "POST /panic HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab"); got != "" {
		t.Errorf("answered %q", got)
	}
	late, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(late, "GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
	enginetest.Within(t, "request", arrived)
	_ = late.(*net.TCPConn).SetLinger(0)
	_ = late.Close()
	close(gone)
	until(t, "end of every connection", func() bool { return h1.Open(s) == 0 })
}

// failing is content that panics.
type failing struct{ io.ReadCloser }

// Read fails for good.
func (failing) Read([]byte) (int, error) { panic("on purpose") }

// Close does nothing.
func (failing) Close() error { return nil }

// attempt sends raw bytes and returns what comes back until the connection ends,
// or is reset.
func attempt(t *testing.T, addr, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(enginetest.Patience))
	_, _ = io.WriteString(c, raw)
	b, err := io.ReadAll(c)
	if n, ok := errors.AsType[net.Error](err); ok && n.Timeout() {
		t.Errorf("%q: nothing happens", raw)
	}
	return string(b)
}
