package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Path is where the metrics are.
const Path = "/metrics"

// timeout bounds each part of a request and its answer.
const timeout = 10 * time.Second

// A Server answers with the metrics on an address of its own.
type Server struct {
	listen  string
	handler http.Handler
	log     *slog.Logger
}

// NewServer returns a Server; Run starts it.
func NewServer(c Config, handler http.Handler, log *slog.Logger) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET "+Path, handler)
	return &Server{listen: c.Listen, handler: mux, log: log}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context, ready func()) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.listen)
	if err != nil {
		return fmt.Errorf("node.metrics.listen: %w", err)
	}
	srv := &http.Server{
		Handler: s.handler, ReadTimeout: timeout, WriteTimeout: 3 * timeout, IdleTimeout: 6 * timeout, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	s.log.Info("metrics are served", "url", "http://"+l.Addr().String()+Path)
	ready()
	select {
	case err := <-done:
		return fmt.Errorf("serve metrics: %w", err)
	case <-ctx.Done():
	}
	err = srv.Close()
	if ended := <-done; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	return err
}
