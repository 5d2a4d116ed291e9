// Package upstream sends requests to the local backends of one service.
//
// A [Pool] knows which backends can serve, from its own checks and from what
// requests meet, picks the less busy of two for each request, and tries
// another where that is safe. It owns the backends' clients, the checks and
// the counts of requests under way. It knows no route and no other geo: a
// request that no backend took a byte of goes back with
// [message.NothingSent], and its caller decides what happens to it.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"anyedge/internal/message"
)

// Errors that a failed try wraps.
var (
	ErrNoBackend = errors.New("no healthy backend")
	ErrTimeout   = errors.New("no response header")
)

// A Dialer makes the client of one backend without dialling. The client bounds
// how long connecting and the wait for an answer take; when it has a method
// Close, with or without an error, that is called when the pool ends.
type Dialer func(BackendConfig, TimeoutsConfig) (message.RoundTripper, error)

// Config describes the pool of one service.
type Config struct {
	Backends []BackendConfig
	Health   HealthConfig
	Timeouts TimeoutsConfig

	Dial   Dialer          // nil: Dial
	Random func(n int) int // uniform in [0,n), safe for concurrent use; nil: math/rand/v2
}

// A Pool is the backends of one service. Its methods are safe for concurrent
// use.
type Pool struct {
	service  string
	cfg      Config
	log      *slog.Logger
	backends []*backend
	changed  chan struct{} // holds one token when the counts may differ from those last read

	usable  atomic.Pointer[[]*backend] // those that may take requests
	pending atomic.Int64               // backends without a verdict

	mu sync.Mutex // serialises refresh
}

// New returns the pool of a service. Nothing is dialled before Run, and no
// backend is used before its first check.
func New(service string, cfg Config, log *slog.Logger) (*Pool, error) {
	if cfg.Dial == nil {
		cfg.Dial = Dial
	}
	if cfg.Random == nil {
		cfg.Random = rand.IntN
	}
	p := &Pool{service: service, cfg: cfg, log: log.With("service", service), changed: make(chan struct{}, 1)}
	var errs []error
	for _, c := range cfg.Backends {
		b, err := newBackend(c, cfg)
		if err != nil {
			errs = append(errs, fmt.Errorf("backend %s: %w", c.Name, err))
			continue
		}
		p.backends = append(p.backends, b)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p.usable.Store(&[]*backend{})
	p.pending.Store(int64(len(p.backends)))
	return p, nil
}

// Run checks the backends until ctx ends, then closes their clients. It is
// ready at once: whether a backend answers is no condition for a start.
func (p *Pool) Run(ctx context.Context, ready func()) error {
	ready()
	var checks sync.WaitGroup
	for _, b := range p.backends {
		checks.Go(func() { p.watch(ctx, b) })
	}
	<-ctx.Done()
	checks.Wait()
	var errs []error
	for _, b := range p.backends {
		if err := closeClient(b.client); err != nil {
			errs = append(errs, fmt.Errorf("backend %s: %w", b.cfg.Name, err))
		}
	}
	return errors.Join(errs...)
}

func closeClient(c message.RoundTripper) error {
	switch c := c.(type) {
	case io.Closer:
		return c.Close()
	case interface{ Close() }:
		c.Close()
	}
	return nil
}

// Healthy returns how many backends may take requests now.
func (p *Pool) Healthy() int { return len(*p.usable.Load()) }

// Total returns how many backends there are.
func (p *Pool) Total() int { return len(p.backends) }

// Reported reports whether every backend has had its first verdict.
func (p *Pool) Reported() bool { return p.pending.Load() == 0 }

// Changed holds one token after Healthy or Reported changed. It serves one
// reader.
func (p *Pool) Changed() <-chan struct{} { return p.changed }

// Status returns what is known of each backend, in the order configured.
func (p *Pool) Status() []BackendStatus {
	out := make([]BackendStatus, len(p.backends))
	for i, b := range p.backends {
		out[i] = b.status()
	}
	return out
}

// refresh makes the usable backends and the counts follow the verdicts.
func (p *Pool) refresh() {
	p.mu.Lock()
	defer p.mu.Unlock()
	usable := make([]*backend, 0, len(p.backends))
	var pending int64
	for _, b := range p.backends {
		switch b.state() {
		case Healthy:
			usable = append(usable, b)
		case Unknown:
			pending++
		case Suspect, Unhealthy:
		}
	}
	before := p.usable.Swap(&usable)
	reported := p.pending.Swap(pending) != 0 && pending == 0
	if len(*before) != len(usable) || reported {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	}
}
