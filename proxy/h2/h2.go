// Package h2 speaks HTTP/2 (RFC 9113) with clients and with backends.
//
// A [Server] answers the requests on connections that are handed to it, TLS
// with ALPN "h2" or plain with prior knowledge, by a message.RoundTripper; a
// [Client] is a message.RoundTripper that asks one backend over h2c. The
// package knows no route, no backend's health and no geo, and retries nothing
// that a backend may have seen.
//
// Both sides share the connection (conn), its windows and its bounds. One goroutine
// reads it; whoever has something to say writes its frames itself: the goroutine
// that serves a client's stream, or the one that asks a backend. Upgrades are
// extended CONNECT (RFC 8441), both ways.
package h2

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anyedge/internal/crew"
	"anyedge/internal/message"
)

// Defaults of Config.
const (
	DefaultHeader        = 64 * message.KiB
	DefaultIdle          = 75 * time.Second
	DefaultHeaderTimeout = 10 * time.Second
	DefaultStreams       = 128
)

// Flow control windows: what a client may send before it is read. A stream's is
// small until somebody reads it. The connection's is as large as those of all
// streams together, so that streams that nobody reads hold no other stream up:
// with DefaultStreams 10.1 MiB, the most that is kept of a connection's content
// unread.
const (
	firstWindow  = int64(64 * message.KiB)
	streamWindow = int64(256 * message.KiB)
	wideWindows  = int64(2 * message.MiB)   // beyond firstWindow, of all streams of a connection
	updateBatch  = int64(128 * message.KiB) // of the connection's window, given back at once
)

// stopGrace is how long a stopping server takes new streams: those that a client
// has sent before it heard that it should not (section 6.8).
const stopGrace = time.Second

// Config says what a Server allows. Zero values mean the defaults.
type Config struct {
	Header        message.Size  // of a request's header section (SETTINGS_MAX_HEADER_LIST_SIZE)
	Idle          time.Duration // of a connection without a stream
	HeaderTimeout time.Duration // for the TLS handshake and the connection preface
	Streams       int           // at once on one connection

	// Refused is told of requests that are not taken, and of connections that are
	// ended, because the client broke a rule. status is what HTTP/1.1 would have
	// answered. It is called by a goroutine of the connection. nil: nobody is told.
	Refused func(peer netip.AddrPort, status int, rule string)
}

// A Server answers HTTP/2 connections.
type Server struct {
	header, streams     int
	idle, headerTimeout time.Duration
	handler             message.RoundTripper
	refused             func(peer netip.AddrPort, status int, rule string)
	log                 *slog.Logger
	base                context.Context //nolint:containedctx // of every exchange; cancel ends them
	cancel              context.CancelFunc
	clock               message.Clock

	mu       sync.Mutex
	stopping bool
	conns    map[*conn]struct{}
	serving  sync.WaitGroup // connections and streams
	crew     *crew.Crew[*stream]
}

// NewServer returns a server that answers by handler.
func NewServer(cfg Config, handler message.RoundTripper, log *slog.Logger) *Server {
	s := &Server{
		header: int(cmp.Or(cfg.Header, DefaultHeader)), streams: cmp.Or(cfg.Streams, DefaultStreams),
		idle: cmp.Or(cfg.Idle, DefaultIdle), headerTimeout: cmp.Or(cfg.HeaderTimeout, DefaultHeaderTimeout),
		handler: handler, refused: cfg.Refused, log: log, conns: map[*conn]struct{}{}, crew: crew.New((*stream).serve),
	}
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// ServeConn takes c over and returns at once; c may be a *tls.Conn whose
// handshake has not been done. After Shutdown it closes c.
func (s *Server) ServeConn(c net.Conn) {
	one := newConn(s, c)
	s.mu.Lock()
	stopped := s.stopping
	if !stopped {
		s.conns[one] = struct{}{}
		s.serving.Add(1)
	}
	s.mu.Unlock()
	if stopped {
		_ = c.Close()
		return
	}
	go func() {
		defer s.serving.Done()
		one.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, one)
	}()
}

// Shutdown takes no new request (GOAWAY in two steps), lets those that run end,
// and closes every connection. When ctx ends first it cuts off what still runs
// and returns the error of ctx.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	// Each by itself: a client that reads nothing holds up what is said to it.
	var said sync.WaitGroup
	defer said.Wait()
	ended := make(chan struct{})
	defer close(ended)
	for _, c := range s.all() {
		said.Go(c.announceEnd)
	}
	said.Go(func() {
		select {
		case <-ended:
			return
		case <-time.After(stopGrace):
		}
		for _, c := range s.all() {
			said.Go(c.endSoon)
		}
	})
	stop := context.AfterFunc(ctx, func() {
		s.cancel()
		for _, c := range s.all() {
			c.fail(context.Canceled)
		}
	})
	s.serving.Wait()
	s.crew.End()
	s.cancel()
	if stop() {
		return nil
	}
	return ctx.Err()
}

// window returns the flow control window of a connection.
func (s *Server) window() int64 {
	return min(int64(s.streams)*firstWindow+wideWindows+updateBatch, maxWindow)
}

func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}
