package h1_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"anyedge/internal/message"
	"anyedge/proxy/h1"
)

// Connections are used again after every kind of complete answer, and a try
// leaves nothing behind in a context that lives on.
func TestConnectionsAreReused(t *testing.T) {
	var opened atomic.Int32
	origin := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.WriteHeader(204)
		case "/chunked":
			_ = http.NewResponseController(w).Flush()
			fallthrough
		default:
			_, _ = io.WriteString(w, "content")
		}
	}))
	origin.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	origin.Start()
	t.Cleanup(origin.Close)
	c := open(t, h1.ClientConfig{Addr: origin.Listener.Addr().String()})
	ctx := &countedContext{Context: t.Context()}
	for range 20 {
		for _, r := range []message.Request{
			{Method: "GET", Target: "/"},
			{Method: "HEAD", Target: "/"},
			{Method: "GET", Target: "/none"},
			{Method: "GET", Target: "/chunked"},
		} {
			r.Authority = "a"
			res, err := c.RoundTrip(ctx, &r)
			if err != nil {
				t.Fatal(err)
			}
			if res.Body != nil {
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Fatal(err)
				}
			}
			res.Close()
		}
	}
	if n := opened.Load(); n > 3 { // one, but for a race that is net/http's
		t.Errorf("%d connections for one request at a time", n)
	}
	if n := ctx.afterFuncs.Load(); n != 0 {
		t.Errorf("%d tries still hang on the context", n)
	}
}

// countedContext counts the contexts that are derived from it and live.
type countedContext struct {
	context.Context //nolint:containedctx // it is a context itself
	afterFuncs      atomic.Int32
}

// AfterFunc is what package context asks for when it derives.
func (c *countedContext) AfterFunc(f func()) func() bool {
	c.afterFuncs.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool {
		c.afterFuncs.Add(-1)
		return stop()
	}
}
