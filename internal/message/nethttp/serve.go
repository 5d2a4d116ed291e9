package nethttp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// newGrace is how long a stopping server leaves a connection that has not sent
// a request yet.
const newGrace = 200 * time.Millisecond

// A Server runs an http.Server on connections that are handed to it one by
// one. It owns their goroutines from then on.
type Server struct {
	http *http.Server
	log  *slog.Logger

	queue  chan net.Conn
	closed chan struct{}
	cancel context.CancelFunc // ends every exchange
	start  func()             // serves the queue; once
	stop   func()             // closes it; once

	mu        sync.Mutex
	fresh     map[net.Conn]struct{} // without a request yet
	exchanges int
	idle      sync.Cond // on exchanges
	serving   sync.WaitGroup
}

// NewServer returns a server of s, whose Handler stays the one that answers.
// s must not be used otherwise.
func NewServer(s *http.Server, log *slog.Logger) *Server {
	srv := &Server{
		http: s, log: log,
		queue: make(chan net.Conn), closed: make(chan struct{}),
		fresh: make(map[net.Conn]struct{}),
	}
	srv.idle.L = &srv.mu
	var base context.Context
	base, srv.cancel = context.WithCancel(context.Background())
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		srv.count(1)
		defer srv.count(-1)
		next.ServeHTTP(w, r)
	})
	s.BaseContext = func(net.Listener) context.Context { return base }
	s.ConnState = srv.connState
	s.DisableGeneralOptionsHandler = true // OPTIONS * is a request like others
	s.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	srv.start = sync.OnceFunc(func() { srv.serving.Go(srv.serve) })
	srv.stop = sync.OnceFunc(func() { close(srv.closed) })
	return srv
}

// ServeConn takes c over and returns at once. After Shutdown it closes c.
func (s *Server) ServeConn(c net.Conn) {
	s.start()
	select {
	case s.queue <- c:
	case <-s.closed:
		_ = c.Close()
	}
}

// Shutdown takes no new connection, lets running exchanges end, and closes
// everything. When ctx ends first, what still runs, upgraded connections too,
// is cut off and the error of ctx returned.
func (s *Server) Shutdown(ctx context.Context) error {
	s.start() // else a late ServeConn would
	s.stop()
	fresh := time.AfterFunc(newGrace, s.closeFresh)
	err := s.http.Shutdown(ctx)
	fresh.Stop()
	stopWaiting := context.AfterFunc(ctx, s.cut)
	s.wait()
	stopWaiting()
	s.cut()
	s.serving.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// serve accepts from the queue until it is closed.
func (s *Server) serve() {
	err := s.http.Serve(&listener{s})
	if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		s.log.Error("server stopped", "err", err)
	}
}

// cut ends every exchange and connection.
func (s *Server) cut() {
	s.cancel()
	_ = s.http.Close()
}

// wait returns when no exchange runs.
func (s *Server) wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.exchanges > 0 {
		s.idle.Wait()
	}
}

func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exchanges += n
	s.idle.Broadcast()
}

// connState keeps the set of connections without a request.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateNew {
		s.fresh[c] = struct{}{}
	} else {
		delete(s.fresh, c)
	}
}

// closeFresh closes the connections on which nothing was asked.
func (s *Server) closeFresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.fresh {
		_ = c.Close()
	}
}

// listener gives an http.Server the connections of the queue.
type listener struct{ s *Server }

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.queue:
		return c, nil
	case <-l.s.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *listener) Close() error {
	l.s.stop()
	return nil
}

// Addr is not known: connections come from several listeners.
func (l *listener) Addr() net.Addr { return &net.TCPAddr{} }
