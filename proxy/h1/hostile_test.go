package h1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"anyedge/internal/message"
	"anyedge/internal/message/enginetest"
	"anyedge/proxy/h1"
)

// A key that a client calls idempotent does not make its POST one: nobody
// below the caller sends it again.
func TestPostIsSentOnce(t *testing.T) {
	for _, field := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(field, func(t *testing.T) {
			var executed atomic.Int32
			origin := enginetest.Listen(t, func(c net.Conn) {
				go func() {
					defer c.Close()
					r := bufio.NewReader(c)
					for range 2 { // one answer per connection, then it dies with a request
						req, err := http.ReadRequest(r)
						if err != nil {
							return
						}
						_, _ = io.Copy(io.Discard, req.Body)
						if req.Method == http.MethodPost {
							executed.Add(1)
							return
						}
						fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
					}
				}()
			})
			c := open(t, h1.ClientConfig{Addr: origin})
			warm, err := c.RoundTrip(t.Context(), &message.Request{Method: "GET", Target: "/", Authority: "a"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(warm.Body); err != nil {
				t.Fatal(err)
			}
			warm.Close()
			r := &message.Request{Method: "POST", Target: "/", Authority: "a", Header: message.Header{{Name: field, Value: "k"}}}
			r.Body = message.NewBody(io.NopCloser(strings.NewReader("content")), 7, message.KiB, nil)
			res, err := c.RoundTrip(t.Context(), r)
			res.Close()
			var try *message.TryError
			if !errors.As(err, &try) || try.Sent != message.MaybeExecuted || executed.Load() != 1 {
				t.Errorf("executed %d times, %v", executed.Load(), err)
			}
		})
	}
}

// A pooled connection does not keep what was sent on it.
func TestIdleConnectionKeepsNoContent(t *testing.T) {
	origin := enginetest.Listen(t, func(c net.Conn) {
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				fmt.Fprint(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		}()
	})
	c := open(t, h1.ClientConfig{Addr: origin})
	post := func() weak.Pointer[message.Body] {
		r := &message.Request{Method: "POST", Target: "/", Authority: "a"}
		r.Body = message.NewBody(io.NopCloser(strings.NewReader(strings.Repeat("x", 1<<20))), 1<<20, message.MiB, nil)
		res, err := c.RoundTrip(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Fatal(err)
		}
		res.Close()
		return weak.Make(r.Body)
	}
	body := post()
	deadline := time.After(5 * time.Second)
	for body.Value() != nil {
		runtime.GC()
		select {
		case <-deadline:
			t.Fatal("the content is still in memory")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Fields that frame or route a message are none of a trailer section (RFC 9110
// section 6.5.1), announced or not.
func TestTrailersFrameNothing(t *testing.T) {
	got := make(chan message.Header, 1)
	_, addr := start(t, h1.Config{}, message.RoundTripFunc(func(_ context.Context, r *message.Request) (*message.Response, error) {
		reader, err := r.Body.Open()
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(io.Discard, reader); err != nil {
			return nil, err
		}
		got <- r.Body.Trailer()
		return enginetest.Text(200, ""), nil
	}))
	exchange(t, addr, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"+
		"Content-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: b\r\nTrailer: X\r\nUpgrade: h2c\r\nTE: gzip\r\nX-Sum: 1\r\n\r\n")
	if h := enginetest.Within(t, "trailers", got); len(h) != 1 || h.Get("X-Sum") != "1" {
		t.Errorf("%v", h)
	}
}
