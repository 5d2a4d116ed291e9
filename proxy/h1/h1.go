// Package h1 speaks HTTP/1.1 (RFC 9112) with clients and with backends, to the
// letter: a message that two readers could understand differently is refused.
//
// A [Server] answers the requests on connections that are handed to it, after
// TLS or before its handshake, by a message.RoundTripper; a [Client] is a
// message.RoundTripper that asks one backend over pooled connections. The
// package knows no route, no backend's health and no geo. It sends a request again
// only when no byte of it was written, or when it is idempotent and its pooled
// connection was closed without an answer.
//
// One goroutine serves a connection: it parses, calls the RoundTripper and
// writes the answer. The order of field lines and the spelling of their names
// are kept. A request's strings are one copy of its head, so that they outlive
// the connection's buffer.
//
// Between requests a connection holds no buffer, and its goroutine waits outside
// of crypto/tls (package wire); after a second without a request it has no
// goroutine either.
//
// A client that ends its sending half over plain TCP still gets its answer if
// that comes within 3 s, then counts as gone; under TLS the end of that half
// counts as gone at once.
package h1

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/wire"
)

// Defaults of Config.
const (
	DefaultHeader        = 64 * message.KiB
	DefaultIdle          = 75 * time.Second
	DefaultHeaderTimeout = 10 * time.Second
	DefaultSlowAfter     = 5 * time.Second
)

// stopGrace is how long a stopping server leaves a connection without a request:
// what a client has sent meanwhile is answered, and the client told that it was
// the last.
const stopGrace = time.Second

// Config says what a Server allows. Zero values mean the defaults.
type Config struct {
	Header        message.Size  // of a request's line and header section; more is answered with 431, a longer line with 414
	Idle          time.Duration // of a connection between requests
	HeaderTimeout time.Duration // for the TLS handshake, and for a request's header section
	SlowAfter     time.Duration // that a client may be waited for, for content or to take an answer, before it has to keep 240 B/s

	// Refused is told of requests that the engine answered itself: what the client
	// sent broke a rule. It is called by the connection's goroutine, before the answer
	// is written. nil: nobody is told.
	Refused func(peer netip.AddrPort, status int, rule string)
}

// A Server answers HTTP/1 connections.
type Server struct {
	header              int // bytes
	idle, headerTimeout time.Duration
	slowAfter           time.Duration
	handler             message.RoundTripper
	refused             func(peer netip.AddrPort, status int, rule string)
	log                 *slog.Logger
	base                context.Context //nolint:containedctx // of the server; cancel ends every exchange
	cancel              context.CancelFunc
	clock               message.Clock

	lookout  wire.Lookout
	stopping atomic.Pointer[time.Time] // when connections without a request close; nil: not stopping. Set under mu

	mu      sync.Mutex
	conns   map[*conn]struct{}
	serving sync.WaitGroup
}

// NewServer returns a server that answers by handler.
func NewServer(cfg Config, handler message.RoundTripper, log *slog.Logger) *Server {
	s := &Server{
		header: int(cmp.Or(cfg.Header, DefaultHeader)), idle: cmp.Or(cfg.Idle, DefaultIdle),
		headerTimeout: cmp.Or(cfg.HeaderTimeout, DefaultHeaderTimeout),
		slowAfter:     cmp.Or(cfg.SlowAfter, DefaultSlowAfter),
		handler:       handler, refused: cfg.Refused, log: log, conns: map[*conn]struct{}{},
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// ServeConn takes c over and returns at once. c is a TCP connection (a
// wire.Socket), or a *tls.Conn around a *wire.Conn, whose handshake need not have
// been done; others are closed. After Shutdown it closes c.
func (s *Server) ServeConn(c net.Conn) {
	one, err := newConn(s, c)
	if err != nil {
		s.log.Warn("connection refused", "err", err)
		_ = c.Close()
		return
	}
	s.mu.Lock()
	stopped := s.stopping.Load() != nil
	if !stopped {
		s.conns[one] = struct{}{}
		s.serving.Add(1)
	}
	s.mu.Unlock()
	if stopped {
		_ = c.Close()
		return
	}
	go one.run()
}

// drop forgets a connection that has ended.
func (s *Server) drop(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.serving.Done()
}

// Shutdown takes no new connection, lets the exchanges that run end, and closes
// every connection. When ctx ends first it cuts off what still runs, upgraded
// connections too, and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	if s.stopping.Load() == nil {
		end := time.Now().Add(stopGrace)
		s.stopping.Store(&end)
	}
	end, conns := *s.stopping.Load(), slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns { // a connection's mutex goes before the server's
		c.hurry(end)
	}
	stop := context.AfterFunc(ctx, s.cut)
	s.serving.Wait()
	s.cancel()
	s.lookout.Close()
	if stop() {
		return nil
	}
	return ctx.Err()
}

// cut ends every exchange and connection.
func (s *Server) cut() {
	s.cancel()
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		c.watch.cut()
		c.sever()
	}
}

// last reports whether the answers given now are the last ones.
func (s *Server) last() bool { return s.stopping.Load() != nil }
