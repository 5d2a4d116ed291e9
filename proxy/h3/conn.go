package h3

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// linger is how long a drained connection stays open after its last answer, so
// that the client gets all of it and may close first.
const linger = 500 * time.Millisecond

// A conn is one client's connection. It has an http3.Server of its own, which
// makes draining one connection apart from the others possible.
type conn struct {
	quic *quic.Conn
	http *http3.Server
	log  *slog.Logger

	mu       sync.Mutex
	running  int // requests
	draining bool
	close    *time.Timer // runs while draining and no request is
}

// newConn returns the connection q, not served yet.
func newConn(q *quic.Conn, cfg Config, handler http.Handler, log *slog.Logger) *conn {
	c := &conn{quic: q, log: log}
	c.http = &http3.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c.count(1)
			defer c.count(-1)
			handler.ServeHTTP(w, r)
		}),
		MaxHeaderBytes: int(cmp.Or(cfg.Header, DefaultHeader)),
		IdleTimeout:    cmp.Or(cfg.Idle, DefaultIdle),
		Logger:         log,
	}
	return c
}

// serve answers requests until the connection has ended.
func (c *conn) serve() {
	if err := c.http.ServeQUICConn(c.quic); err != nil {
		c.log.Debug("connection ended", "peer", c.quic.RemoteAddr(), "err", err)
	}
	c.shut()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.close != nil {
		c.close.Stop()
	}
}

// drain refuses new requests and returns when the connection has ended: by the
// client, after the running requests, or cut off when ctx ends.
func (c *conn) drain(ctx context.Context) {
	c.mu.Lock()
	c.draining = true
	c.close = time.AfterFunc(linger, c.shut)
	if c.running > 0 {
		c.close.Stop()
	}
	c.mu.Unlock()
	_ = c.http.Shutdown(ctx) // cuts off at the end of ctx
}

// count takes note of requests that begin or end.
func (c *conn) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running += n
	switch {
	case !c.draining:
	case c.running > 0:
		c.close.Stop()
	default:
		c.close.Reset(linger)
	}
}

// shut closes the connection, saying that all is well.
func (c *conn) shut() {
	_ = c.quic.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
}
