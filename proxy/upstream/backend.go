package upstream

import (
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// A backend is one instance, its client and what is known of it.
type backend struct {
	cfg    BackendConfig
	weight int
	client message.RoundTripper
	check  checker
	wake   chan struct{} // holds one token when a check should run at once

	active atomic.Int64 // requests under way, until their answer is closed
	total  atomic.Int64 // requests ever given to it
	failed atomic.Int64 // of them, without an answer
	misses atomic.Int32 // dials in a row that failed

	health health
}

// newBackend makes a backend and its client, without dialling.
func newBackend(c BackendConfig, cfg Config) (*backend, error) {
	u, err := c.parse()
	if err != nil {
		return nil, err
	}
	client, err := cfg.Dial(c, cfg.Timeouts)
	if err != nil {
		return nil, err
	}
	return &backend{
		cfg:    c,
		weight: max(c.Weight, 1),
		client: client,
		check:  newChecker(u, cfg.Health, c.checkDialer),
		wake:   make(chan struct{}, 1),
		health: health{state: Unknown, since: time.Now()},
	}, nil
}

func (b *backend) state() State { return b.health.get() }

// A BackendStatus is what is known of one backend.
type BackendStatus struct {
	Name      string
	URL       string
	Weight    int
	State     State
	Since     time.Time // of State
	Active    int64     // requests under way
	Requests  int64     // given to it since the start
	Failed    int64     // of Requests, without an answer although the client waited
	LastCheck time.Time // zero: none yet

	// LastError is the last failure of a check or a connection, with how often
	// it came in a row: "connect refused x842". It stays after a recovery.
	LastError   string
	LastErrorAt time.Time
}

func (b *backend) status() BackendStatus {
	s := b.health.status()
	s.Name, s.URL, s.Weight = b.cfg.Name, b.cfg.URL, b.weight
	s.Active, s.Requests, s.Failed = b.active.Load(), b.total.Load(), b.failed.Load()
	return s
}

// hostPort returns the address of u, with the scheme's port where it has none.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
