package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// A Backend is one instance of the demo app that can die and come back at the
// same address.
type Backend struct {
	Name string
	Geo  string
	Addr netip.AddrPort

	log     *slog.Logger
	handler http.Handler

	mu     sync.Mutex // guards what follows
	server *http.Server
	conns  map[net.Conn]struct{}
	done   chan struct{} // closed when Serve has returned
}

// NewBackend returns an instance that is not running; port 0 is chosen when it
// first comes up.
func NewBackend(geo, name string, addr netip.AddrPort, log *slog.Logger) *Backend {
	return &Backend{Name: name, Geo: geo, Addr: addr, log: log, handler: App(geo, name)}
}

// Up starts the instance. It fails when it runs already.
func (b *Backend) Up(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		return fmt.Errorf("backend %s is alive", b.Name)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", b.Addr.String())
	if err != nil {
		return fmt.Errorf("backend %s: %w", b.Name, err)
	}
	b.Addr = l.Addr().(*net.TCPAddr).AddrPort()
	b.conns = make(map[net.Conn]struct{})
	b.done = make(chan struct{})
	b.server = &http.Server{
		Handler: b.handler, ConnState: b.connState, ReadHeaderTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	go func(s *http.Server, done chan struct{}) {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			b.log.Error("backend ended", "backend", b.Name, "err", err)
		}
	}(b.server, b.done)
	return nil
}

// Down kills the instance as a SIGKILL would: its port is closed and its
// connections are reset, whatever they carry. It fails when it is dead already.
func (b *Backend) Down() error {
	b.mu.Lock()
	server, done := b.server, b.done
	if server == nil {
		b.mu.Unlock()
		return fmt.Errorf("backend %s is dead", b.Name)
	}
	b.server = nil
	for c := range b.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
	}
	b.mu.Unlock()
	err := server.Close()
	<-done
	return err
}

// Alive reports whether the instance runs.
func (b *Backend) Alive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.server != nil
}

// connState keeps track of the connections.
func (b *Backend) connState(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew, http.StateClosed, http.StateHijacked:
	default:
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if state == http.StateNew {
		b.conns[c] = struct{}{}
		if b.server == nil { // killed while it was being accepted
			_ = c.Close()
		}
		return
	}
	delete(b.conns, c)
}
