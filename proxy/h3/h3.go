// Package h3 speaks HTTP/3 (RFC 9114) with clients.
//
// A [Server] answers the requests that arrive on UDP sockets by a
// message.RoundTripper. Servers that share a stateless reset key tell each
// other's clients at once that a connection is lost when the network moves
// them (RFC 9000 section 10.3): connection IDs have the same length
// everywhere, and the token of an ID follows from key and ID alone. The
// package knows no route, no backend and no geo; it makes no use of 0-RTT and
// of datagrams.
//
// In this version quic-go does QUIC and HTTP/3. When the answerer of an
// extended CONNECT (RFC 9220) ends its direction of the stream, the whole
// stream ends.
package h3

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"anyedge/internal/message"
	"anyedge/internal/message/nethttp"
)

// Defaults of Config.
const (
	DefaultHeader  = 64 * message.KiB
	DefaultIdle    = 75 * time.Second
	DefaultStreams = 250
)

const (
	// connectionIDLen is the same in every geo: a reset token is made from as
	// many bytes as its maker takes for the ID.
	connectionIDLen  = 8
	handshakeTimeout = 10 * time.Second
	uniStreams       = 8 // of a client: control, QPACK and some to ignore
	streamWindow     = 2 * message.MiB
	connectionWindow = 4 * message.MiB
)

// Config says what a Server allows. Zero values mean the defaults.
type Config struct {
	TLS               *tls.Config   // required; ALPN is set by the server
	StatelessResetKey *[32]byte     // nil: clients of lost connections are not told
	Header            message.Size  // of a request's header section; more is answered with 431
	Idle              time.Duration // of a connection: without a request, and without a packet
	Streams           int           // requests at once on one connection
}

// A Server answers HTTP/3 connections.
type Server struct {
	cfg     Config
	handler http.Handler
	log     *slog.Logger

	stopping chan struct{} // closed when Shutdown begins
	stop     func()        // closes it; once

	mu    sync.Mutex
	conns map[*conn]struct{}
	gone  sync.Cond // on conns
}

// NewServer returns a server that answers by handler.
func NewServer(cfg Config, handler message.RoundTripper, log *slog.Logger) *Server {
	s := &Server{
		cfg: cfg, handler: nethttp.Handler(handler, log), log: log,
		stopping: make(chan struct{}), conns: make(map[*conn]struct{}),
	}
	s.gone.L = &s.mu
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	return s
}

// Serve answers on pc until Shutdown has ended, or pc fails. It does not close
// pc, which nobody else may read meanwhile. It may be called for several
// sockets.
func (s *Server) Serve(pc net.PacketConn) error {
	if s.cfg.TLS == nil {
		return errors.New("h3 needs a TLS configuration")
	}
	transport := &quic.Transport{
		Conn:               pc,
		ConnectionIDLength: connectionIDLen,
		StatelessResetKey:  (*quic.StatelessResetKey)(s.cfg.StatelessResetKey),
	}
	idle := cmp.Or(s.cfg.Idle, DefaultIdle)
	listener, err := transport.ListenEarly(http3.ConfigureTLSConfig(s.cfg.TLS), &quic.Config{
		HandshakeIdleTimeout:       handshakeTimeout / 2, // quic-go allows twice as much in all
		MaxIdleTimeout:             idle,
		MaxIncomingStreams:         int64(cmp.Or(s.cfg.Streams, DefaultStreams)),
		MaxIncomingUniStreams:      uniStreams,
		MaxStreamReceiveWindow:     uint64(streamWindow),
		MaxConnectionReceiveWindow: uint64(connectionWindow),
	})
	if err != nil {
		return errors.Join(fmt.Errorf("listen for QUIC: %w", err), transport.Close())
	}
	ended := make(chan struct{})
	var closing sync.WaitGroup
	closing.Go(func() {
		select {
		case <-s.stopping:
		case <-ended:
		}
		_ = listener.Close() // existing connections go on
	})
	err = s.accept(listener)
	close(ended)
	closing.Wait()
	s.wait()
	return errors.Join(err, transport.Close())
}

// accept serves connections until the listener is closed.
func (s *Server) accept(l *quic.EarlyListener) error {
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		q, err := l.Accept(context.Background())
		if errors.Is(err, quic.ErrServerClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept QUIC connections: %w", err)
		}
		c := s.add(q)
		serving.Go(func() {
			defer s.remove(c)
			c.serve()
		})
	}
}

// Shutdown takes no new connection or request (GOAWAY), lets the requests that
// run end, and closes every connection. When ctx ends first it cuts off what
// still runs and returns the error of ctx. Serve returns afterwards.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	s.mu.Lock()
	var drains sync.WaitGroup
	for c := range s.conns {
		drains.Go(func() { c.drain(ctx) })
	}
	s.mu.Unlock()
	drains.Wait()
	s.wait()
	return ctx.Err()
}

// add keeps a new connection; one that is accepted while the server stops is
// drained at once.
func (s *Server) add(q *quic.Conn) *conn {
	c := newConn(q, s.cfg, s.handler, s.log)
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stopping:
		_ = q.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "")
	default:
	}
	s.conns[c] = struct{}{}
	return c
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.gone.Broadcast()
}

// wait returns when there is no connection.
func (s *Server) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 {
		s.gone.Wait()
	}
}
