// Package admin serves the admin API on a unix socket.
//
// The socket's file mode decides who may connect; who may change something is
// decided by the credentials the kernel reports for the connection (SO_PEERCRED),
// and they are what the event log names. The package formats and transports:
// what it answers comes from a [Source].
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"anyedge/internal/api"
)

// DefaultSocket is where the daemon listens unless the configuration says
// otherwise.
const DefaultSocket = "/run/edged/edged.sock"

// Limits of the server.
const (
	maxRequest  = 64 << 10
	maxWait     = 60 * time.Second
	readTimeout = 10 * time.Second
)

// A Source knows what the API tells, and takes the orders. Every method may be
// called from several goroutines.
type Source interface {
	Version() api.Version
	Status() api.Status
	Geos() api.Geos
	Routes() api.Routes
	Services() api.Services
	Backends(service string) api.Backends
	FabricPeers() api.FabricPeers
	L4() api.L4
	L4Trace(src, dst, proto string) (api.L4Trace, error)
	// Events returns the events with an ID above after that happened since
	// then; when there are none it waits for one until ctx ends.
	Events(ctx context.Context, after uint64, since time.Time) api.Events
	Drain(api.DrainRequest) (api.DrainReply, error)
	Undrain(api.DrainRequest) (api.DrainReply, error)
	// Traces returns the requests that are kept, WatchTraces those that end from now on
	// until ctx ends or show fails; the query chooses, as in package api. The first
	// event of WatchTraces is empty.
	Traces(query url.Values) (api.Traces, error)
	WatchTraces(ctx context.Context, query url.Values, show func(api.TraceEvent) error) error
	// Explain says what would happen with the request that the query describes.
	Explain(query url.Values) (api.Explanation, error)
	// ServeMetrics answers with what the node counts, in the form of Prometheus.
	ServeMetrics(w http.ResponseWriter, r *http.Request)
}

// A BadRequestError is the caller's mistake; its text says what to do.
type BadRequestError struct{ Text string }

func (e *BadRequestError) Error() string { return e.Text }

// A Server answers on the socket.
type Server struct {
	socket string
	source Source
	log    *slog.Logger
	taken  *os.File // the socket, from a predecessor; nil: it is to be opened

	mu     sync.Mutex
	open   *net.UnixListener // nil while it is not
	handed bool              // another process has it
}

// New returns a Server; Run starts it.
func New(cfg Config, source Source, log *slog.Logger) *Server {
	s := &Server{socket: cfg.Socket, source: source, log: log}
	if s.socket == "" {
		s.socket = DefaultSocket
	}
	return s
}

// Socket returns the path of the socket.
func (s *Server) Socket() string { return s.socket }

// Take has Run serve on an open socket, which a predecessor had; nil changes
// nothing.
func (s *Server) Take(f *os.File) { s.taken = f }

// File returns a copy of the socket, for a process that takes this one's place.
// It is the caller's to close.
func (s *Server) File() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		return nil, fmt.Errorf("admin.socket %s is not open", s.socket)
	}
	return s.open.File()
}

// HandOver stops taking connections: another process has what File returned. The
// socket's path stays.
func (s *Server) HandOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.handed = true
		s.open.SetUnlinkOnClose(false)
		_ = s.open.Close()
	}
}

// Run serves until ctx ends and then removes the socket, unless it was handed
// over.
func (s *Server) Run(ctx context.Context, ready func()) error {
	l, err := s.listen(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.open = l
	s.mu.Unlock()
	srv := &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: readTimeout,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext:       withPeer,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	ready()
	select {
	case err := <-done:
		s.mu.Lock()
		handed := s.handed
		s.mu.Unlock()
		if !handed {
			return fmt.Errorf("serve %s: %w", s.socket, err)
		}
		<-ctx.Done()
		return srv.Close()
	case <-ctx.Done():
	}
	err = srv.Close() // removes the socket's file
	if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}

// listen opens the socket, or takes the predecessor's; a file left by a dead
// daemon is replaced, a living daemon's is not.
func (s *Server) listen(ctx context.Context) (*net.UnixListener, error) {
	if s.taken != nil {
		return s.take(ctx)
	}
	if err := os.MkdirAll(filepath.Dir(s.socket), 0o755); err != nil { //nolint:gosec // the directory is public, the socket's own mode guards it
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", s.socket)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := s.clear(ctx); err != nil {
			return nil, err
		}
		l, err = lc.Listen(ctx, "unix", s.socket)
	}
	if err != nil {
		return nil, fmt.Errorf("admin.socket %s: %w", s.socket, err)
	}
	if err := os.Chmod(s.socket, 0o660); err != nil { //nolint:gosec // the group may read; changes are checked per connection
		return nil, errors.Join(fmt.Errorf("admin.socket: %w", err), l.Close())
	}
	return l.(*net.UnixListener), nil
}

// Own makes the socket this process's to remove, when its predecessor goes.
func (s *Server) Own() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil && !s.handed {
		s.open.SetUnlinkOnClose(true)
	}
}

// take takes the predecessor's socket. When the configuration has another path by
// now, that one is opened.
func (s *Server) take(ctx context.Context) (*net.UnixListener, error) {
	f := s.taken
	s.taken = nil
	defer func() { _ = f.Close() }()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("admin.socket that was handed over: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("admin.socket that was handed over: it is no unix socket"), l.Close())
	}
	// A process that does not come to serve leaves the socket to its predecessor.
	u.SetUnlinkOnClose(false)
	if u.Addr().String() != s.socket {
		_ = u.Close()
		return s.listen(ctx)
	}
	return u, nil
}

// clear removes the socket of a dead daemon, and nothing else.
func (s *Server) clear(ctx context.Context) error {
	info, err := os.Lstat(s.socket)
	if err != nil {
		return fmt.Errorf("admin.socket: %w", err)
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("admin.socket %s: there is a file that is no socket; it stays, give another path", s.socket)
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.socket)
	if err == nil {
		_ = c.Close()
	}
	// Any answer but this one comes from somebody who lives, perhaps too busy.
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("admin.socket %s: another edged answers there; stop it or give this one another socket", s.socket)
	}
	if err := os.Remove(s.socket); err != nil {
		return fmt.Errorf("admin.socket: %w", err)
	}
	return nil
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	get := func(path string, f func(*http.Request) any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) { s.reply(w, f(r), nil) })
	}
	get(api.PathVersion, func(*http.Request) any { return s.source.Version() })
	get(api.PathStatus, func(*http.Request) any { return s.source.Status() })
	get(api.PathGeos, func(*http.Request) any { return s.source.Geos() })
	get(api.PathRoutes, func(*http.Request) any { return s.source.Routes() })
	get(api.PathServices, func(*http.Request) any { return s.source.Services() })
	get(api.PathBackends, func(r *http.Request) any { return s.source.Backends(r.URL.Query().Get("service")) })
	get(api.PathFabricPeers, func(*http.Request) any { return s.source.FabricPeers() })
	get(api.PathL4, func(*http.Request) any { return s.source.L4() })
	mux.HandleFunc("GET "+api.PathL4Trace, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		t, err := s.source.L4Trace(q.Get("src"), q.Get("dst"), q.Get("proto"))
		s.reply(w, t, err)
	})
	mux.HandleFunc("GET "+api.PathTraces, s.traces)
	mux.HandleFunc("GET "+api.PathTraceLive, s.traceLive)
	mux.HandleFunc("GET "+api.PathExplain, func(w http.ResponseWriter, r *http.Request) {
		e, err := s.source.Explain(r.URL.Query())
		s.reply(w, e, err)
	})
	mux.HandleFunc("GET "+api.PathMetrics, s.source.ServeMetrics)
	mux.HandleFunc("GET "+api.PathEvents, s.events)
	mux.HandleFunc("POST "+api.PathDrain, s.order(s.source.Drain))
	mux.HandleFunc("POST "+api.PathUndrain, s.order(s.source.Undrain))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, http.StatusNotFound, fmt.Sprintf("%s %s is not part of this version's API", r.Method, r.URL.Path))
	})
	return mux
}

// events answers what happened; ?wait=N makes it wait up to N seconds for
// something new.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	after, err1 := parse(q.Get("after"), func(v string) (uint64, error) { return strconv.ParseUint(v, 10, 64) })
	since, err2 := parse(q.Get("since"), func(v string) (time.Time, error) { return time.Parse(time.RFC3339, v) })
	wait, err3 := parse(q.Get("wait"), func(v string) (float64, error) { return strconv.ParseFloat(v, 64) })
	if err := errors.Join(err1, err2, err3); err != nil {
		s.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	d := time.Duration(min(max(wait, 0), maxWait.Seconds()) * float64(time.Second))
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	s.reply(w, s.source.Events(ctx, after, since), nil)
}

// parse reads an optional query value.
func parse[T any](v string, f func(string) (T, error)) (T, error) {
	var zero T
	if v == "" {
		return zero, nil
	}
	return f(v)
}

// order serves a POST that changes something.
func (s *Server) order(do func(api.DrainRequest) (api.DrainReply, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who, err := mayChange(r.Context())
		if err != nil {
			s.fail(w, http.StatusForbidden, err.Error())
			return
		}
		var req api.DrainRequest
		dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&req); err != nil {
			s.fail(w, http.StatusBadRequest, fmt.Sprintf("body: %v", err))
			return
		}
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			s.fail(w, http.StatusBadRequest, "body: want one JSON object")
			return
		}
		req.Who = who
		reply, err := do(req)
		s.reply(w, reply, err)
	}
}

// reply writes v, or err.
func (s *Server) reply(w http.ResponseWriter, v any, err error) {
	if bad, ok := errors.AsType[*BadRequestError](err); ok {
		s.fail(w, http.StatusBadRequest, bad.Text)
		return
	}
	if err != nil {
		s.fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	s.write(w, http.StatusOK, v)
}

func (s *Server) fail(w http.ResponseWriter, status int, text string) {
	s.write(w, status, api.Error{Message: text})
}

func (s *Server) write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("admin answer not written", "err", err)
	}
}
