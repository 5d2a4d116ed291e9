// Package h3 speaks HTTP/3 (RFC 9114) on QUIC connections, with clients and
// between edges.
//
// A [Server] answers the requests that arrive on UDP sockets by a
// message.RoundTripper. Servers that share a stateless reset key tell each
// other's clients at once that a connection is lost when the network moves
// them (RFC 9000 section 10.3): connection IDs have the same length
// everywhere, and the token of an ID follows from key and ID alone. A [Conn] and a
// [Client] are the two sides on a connection that somebody else keeps and accepts
// the streams of. The package knows no route, no backend and no geo, and retries
// nothing.
//
// quic-go does QUIC; frames and fields are read and written here. One goroutine
// serves a request: it reads from the stream, calls the RoundTripper and writes the
// answer. QPACK's dynamic table is not used, so that no request waits for another
// (RFC 9204 section 2.1.2). Priorities (RFC 9218), pushes and datagrams are not
// spoken: what a peer says of them is passed over or refused as their RFCs say.
package h3

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/crew"
	"anyedge/internal/message"
)

// Defaults of Config.
const (
	DefaultHeader        = 64 * message.KiB
	DefaultFields        = 100
	DefaultIdle          = 75 * time.Second
	DefaultHeaderTimeout = 10 * time.Second
	DefaultSlowAfter     = 5 * time.Second
	DefaultStreams       = 250
)

// ALPN is what HTTP/3 is called in the TLS handshake.
const ALPN = "h3"

// stopGrace is how long a stopping server takes new streams: those that a client
// has sent before it heard that it should not (section 5.2).
const stopGrace = time.Second

// silence is how much longer than without a request a connection may be without a
// packet: first its client is told that it ends.
const silence = 5 * time.Second

// connectionIDLen is the same in every geo: a reset token is made from as many bytes
// as its maker takes for the ID.
const connectionIDLen = 8

// What a client may send before it is read.
const (
	uniStreams       = 8 // control, QPACK and some to ignore
	firstWindow      = 64 * message.KiB
	firstConnWindow  = message.MiB
	streamWindow     = 2 * message.MiB
	connectionWindow = 4 * message.MiB
)

// Config says what a Server allows. Zero values mean the defaults.
type Config struct {
	TLS               *tls.Config   // required by a Server; it sets ALPN
	StatelessResetKey *[32]byte     // nil: clients of lost connections are not told
	Header            message.Size  // of a request's header section (SETTINGS_MAX_FIELD_SECTION_SIZE); more is answered with 431
	Fields            int           // of a request's header section; more are answered with 431
	Idle              time.Duration // of a connection without a request
	HeaderTimeout     time.Duration // for the handshake, and for a request's header section
	SlowAfter         time.Duration // that a Server's client may be waited for, for content or to take an answer, before it has to keep 240 B/s
	Streams           int           // requests at once on one connection

	// EarlyData takes requests before the handshake ends (0-RTT), which somebody
	// else may repeat. GET, HEAD and OPTIONS are answered at once and say Early-Data
	// (RFC 8470); others wait for the end of the handshake.
	EarlyData bool

	// Refused is told of requests and connections that were ended because the client
	// broke a rule; status is what would have been the answer, had there been one. It is called by several
	// goroutines. nil: nobody is told.
	Refused func(peer netip.AddrPort, status int, rule string)

	// Admit is asked before a connection costs anything; ok false refuses it, and
	// release is called when it has ended. Verify asks clients that the network has not
	// proven to be where they say (RFC 9000 section 8.1.2) to prove it first. nil:
	// everybody is admitted, nobody has to.
	Admit  func(peer netip.AddrPort) (release func(), ok bool)
	Verify func(peer netip.AddrPort) bool
}

// withDefaults returns c with defaults where it says nothing.
func (c Config) withDefaults() Config {
	c.Header, c.Fields = cmp.Or(c.Header, DefaultHeader), cmp.Or(c.Fields, DefaultFields)
	c.Idle, c.HeaderTimeout = cmp.Or(c.Idle, DefaultIdle), cmp.Or(c.HeaderTimeout, DefaultHeaderTimeout)
	c.SlowAfter, c.Streams = cmp.Or(c.SlowAfter, DefaultSlowAfter), cmp.Or(c.Streams, DefaultStreams)
	return c
}

// A Server answers HTTP/3 connections.
type Server struct {
	cfg     Config
	handler message.RoundTripper
	log     *slog.Logger
	crew    *crew.Crew[arrival]

	stopping chan struct{} // closed when Shutdown begins
	stop     func()        // closes it; once

	mu    sync.Mutex
	conns map[*Conn]struct{}
	gone  sync.Cond // on conns
}

// NewServer returns a server that answers by handler.
func NewServer(cfg Config, handler message.RoundTripper, log *slog.Logger) *Server {
	s := &Server{
		cfg: cfg.withDefaults(), handler: handler, log: log,
		crew: crew.New(arrival.serve), stopping: make(chan struct{}), conns: make(map[*Conn]struct{}),
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
	if s.cfg.Verify != nil {
		transport.VerifySourceAddress = func(a net.Addr) bool { return s.cfg.Verify(message.AddrPort(a)) }
	}
	if s.cfg.Admit != nil {
		transport.ConnContext = s.admit
	}
	secure := s.cfg.TLS.Clone()
	secure.NextProtos = []string{ALPN}
	listener, err := transport.ListenEarly(secure, &quic.Config{
		HandshakeIdleTimeout:           s.cfg.HeaderTimeout / 2, // quic-go allows twice as much in all
		MaxIdleTimeout:                 s.cfg.Idle + silence,
		MaxIncomingStreams:             int64(s.cfg.Streams),
		MaxIncomingUniStreams:          uniStreams,
		RequireStreamCreditRelease:     true, // so that a request counts until its answerer is through with it
		InitialStreamReceiveWindow:     uint64(firstWindow),
		InitialConnectionReceiveWindow: uint64(firstConnWindow),
		MaxStreamReceiveWindow:         uint64(streamWindow),
		MaxConnectionReceiveWindow:     uint64(connectionWindow),
		Allow0RTT:                      s.cfg.EarlyData,
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
	s.crew.End()
	return errors.Join(err, transport.Close())
}

var errNotAdmitted = errors.New("too many connections")

// admit has a connection of Config.Admit's liking.
func (s *Server) admit(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	release, ok := s.cfg.Admit(message.AddrPort(info.RemoteAddr))
	if !ok {
		return nil, errNotAdmitted
	}
	context.AfterFunc(ctx, release) // it ends with the connection
	return ctx, nil
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
		serving.Go(func() { s.serve(q) })
	}
}

// serve answers one connection's requests until it ends.
func (s *Server) serve(q *quic.Conn) {
	c, err := NewConn(q, s.cfg, s.handler, s.log)
	if err != nil {
		s.log.Debug("connection ended", "peer", q.RemoteAddr(), "err", err)
		_ = q.CloseWithError(quic.ApplicationErrorCode(streamCreationError), "")
		return
	}
	c.crew = s.crew
	s.mu.Lock()
	s.conns[c] = struct{}{}
	stopped := s.stopped()
	s.mu.Unlock()
	if stopped {
		c.close()
	}
	c.serve()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.gone.Broadcast()
}

func (s *Server) stopped() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// Shutdown takes no new connection or request (GOAWAY in two steps), lets the
// requests that run end, and closes every connection. When ctx ends first it cuts
// off what still runs and returns the error of ctx. Serve returns afterwards.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	for _, c := range s.all() {
		c.leave()
	}
	stop := context.AfterFunc(ctx, func() {
		for _, c := range s.all() {
			c.close()
		}
	})
	s.wait()
	s.crew.End()
	if stop() {
		return nil
	}
	return ctx.Err()
}

func (s *Server) all() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.conns))
}

// wait returns when there is no connection.
func (s *Server) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.conns) > 0 {
		s.gone.Wait()
	}
}
