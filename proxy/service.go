package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"anyedge/internal/message"
	"anyedge/proxy/compress"
	"anyedge/proxy/discover"
	"anyedge/proxy/upstream"
	"anyedge/replay"
)

// A pool is a service's local backends; [*upstream.Pool] is one.
type pool interface {
	Serve(ctx context.Context, r *message.Request, who upstream.Asker) (*message.Response, error)
	Run(ctx context.Context, ready func()) error
	Update(list []upstream.BackendConfig) error
	Healthy() int
	Total() int
	Reported() bool
	Desperate() bool
	Changed() <-chan struct{}
	Hashed(r *message.Request, client netip.Addr) (string, bool)
	Counts() upstream.Counts
	Status() []upstream.BackendStatus
}

// A service is one configured service at work.
type service struct {
	cfg   ServiceConfig
	pool  pool
	via   string // element of Via for what its backends answer
	stats stats
	each  each // backends

	active         atomic.Int64  // requests under way
	received, sent atomic.Uint64 // bytes of content, of and to clients

	limits *clientLimits // nil: none

	toBackend, toClient *edits           // nil: none
	compress            *compress.Policy // nil: off
	source              *discover.Source // of more backends; nil: there are none but the configured ones
}

func newService(c ServiceConfig, log *slog.Logger) (*service, error) {
	if err := c.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("service %s: limits: %w", c.Name, err)
	}
	p, err := upstream.New(c.Name, upstream.Config{
		Backends:   c.Backends,
		Balance:    c.Balance,
		Health:     c.Health,
		Timeouts:   c.Timeouts,
		Queue:      c.Queue,
		SlowStart:  c.SlowStart,
		Retry:      c.Retry,
		Discovered: c.Discover != nil,
		Keep:       func(h message.Header) bool { return replay.Present(h) && !c.Replay.Ignored() },
	}, log)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", c.Name, err)
	}
	s := &service{cfg: c, pool: p, via: viaElement(message.HTTP1), limits: newClientLimits(c.Limits)}
	if s.toBackend, s.toClient, err = c.Headers.edits(); err != nil {
		return nil, fmt.Errorf("service %s: headers: %w", c.Name, err)
	}
	if c.Compress != nil {
		if err := c.Compress.Validate(); err != nil {
			return nil, fmt.Errorf("service %s: compress: %w", c.Name, err)
		}
		s.compress = compress.New(*c.Compress)
	}
	if allH2(c) {
		s.via = viaElement(message.HTTP2)
	}
	if c.Discover != nil {
		if s.source, err = discover.New(c.Name, *c.Discover, log); err != nil {
			return nil, fmt.Errorf("service %s: discover: %w", c.Name, err)
		}
	}
	return s, nil
}

// learn has the pool use the configured backends and these.
func (s *service) learn(found []upstream.BackendConfig) error {
	return s.pool.Update(slices.Concat(s.cfg.Backends, found))
}

// discovered returns what discovery last saw, nil when there is none.
func (s *service) discovered() *discover.Status {
	if s.source == nil {
		return nil
	}
	st := s.source.Status()
	return &st
}

func allH2(c ServiceConfig) bool {
	for _, b := range c.Backends {
		if !strings.HasPrefix(b.URL, "h2c:") {
			return false
		}
	}
	if c.Discover != nil {
		return c.Discover.BackendScheme() == "h2c"
	}
	return len(c.Backends) > 0
}

// paths returns the path prefixes of the service.
func (s *service) paths() []string {
	if len(s.cfg.Paths) == 0 {
		return []string{"/"}
	}
	return s.cfg.Paths
}

// on reports whether the service is reached through the named listener.
func (s *service) on(listener string) bool {
	return len(s.cfg.Listeners) == 0 || slices.Contains(s.cfg.Listeners, listener)
}
