// Package discover learns a service's backends from a file or from DNS.
//
// A [Source] reads one of them, tells its caller each new list, and keeps the last
// good one when what it reads is broken or silent: no news takes no backend away.
// It judges no backend (proxy/upstream does) and reports in its [Status] what it
// last saw and what went wrong.
package discover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"anyedge/proxy/upstream"
)

// Config is `discover:` of a service: one of file, dns_srv and dns.
type Config struct {
	File     string         `json:"file,omitempty" yaml:"file"`                                     // a YAML or JSON list of backends, as under services[].backends; watched, and read again when it changes
	DNSSRV   string         `json:"dns_srv,omitempty" yaml:"dns_srv"`                               // a name with SRV records (RFC 2782): targets, ports, priorities and weights
	DNS      string         `json:"dns,omitempty" yaml:"dns"`                                       // HOST:PORT; every address of HOST is a backend
	Resolver string         `json:"resolver,omitempty" yaml:"resolver"`                             // ADDRESS:PORT that is asked; default those of /etc/resolv.conf
	Scheme   string         `json:"scheme,omitempty" yaml:"scheme" jsonschema:"enum=http,enum=h2c"` // spoken to backends found by DNS; default http
	Refresh  *time.Duration `json:"refresh,omitempty" yaml:"refresh"`                               // longest time between two looks; DNS is asked again when its TTL is over, but not within 1s; default 30s
	Keep     *time.Duration `json:"keep,omitempty" yaml:"keep"`                                     // how long the last backends stay after DNS says that there are none; without an answer they stay for good; default 5m
}

// Defaults of the configuration.
const (
	DefaultRefresh = 30 * time.Second
	DefaultKeep    = 5 * time.Minute
)

// soonest is the time after which DNS is asked again at the earliest, whatever
// its TTL; a failure is tried again after it, too, then after twice that.
const soonest = time.Second

// Validate reports every problem in c.
func (c Config) Validate() error {
	var errs []error
	given := 0
	for _, s := range []string{c.File, c.DNSSRV, c.DNS} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		errs = append(errs, errors.New("want one of file, dns_srv and dns"))
	}
	if c.DNS != "" {
		if _, _, err := splitPort(c.DNS); err != nil {
			errs = append(errs, fmt.Errorf("dns: %w", err))
		}
	}
	if c.Resolver != "" {
		if _, _, err := splitPort(c.Resolver); err != nil {
			errs = append(errs, fmt.Errorf("resolver: %w", err))
		}
	}
	if c.File != "" && (c.Resolver != "" || c.Scheme != "" || c.Keep != nil) {
		errs = append(errs, errors.New("resolver, scheme and keep are for DNS; a file says all by itself"))
	}
	if c.Scheme != "" && c.Scheme != "http" && c.Scheme != "h2c" {
		errs = append(errs, fmt.Errorf("scheme: %q is unknown: want http or h2c", c.Scheme))
	}
	if c.Refresh != nil && *c.Refresh < soonest {
		errs = append(errs, fmt.Errorf("refresh: must be %s or more", soonest))
	}
	return errors.Join(errs...)
}

// splitPort reads HOST:PORT.
func splitPort(s string) (host, port string, err error) {
	host, port, err = net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return "", "", fmt.Errorf("%q is not HOST:PORT", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", fmt.Errorf("port %s of %q is not 1-65535", port, s)
	}
	return host, port, nil
}

// BackendScheme returns the scheme of backends found by DNS, "" for those of a file.
func (c Config) BackendScheme() string {
	switch {
	case c.File != "":
		return ""
	case c.Scheme != "":
		return c.Scheme
	}
	return "http"
}

func (c Config) refresh() time.Duration {
	if c.Refresh == nil {
		return DefaultRefresh
	}
	return *c.Refresh
}

func (c Config) keep() time.Duration {
	if c.Keep == nil {
		return DefaultKeep
	}
	return *c.Keep
}

// A Status is what a source last saw.
type Status struct {
	Source   string    // "file /etc/edged/shop.yaml", "SRV _shop._tcp.example.net"
	Backends int       // in the list that is in force
	Changed  time.Time // when that came; zero: none has
	Read     time.Time // when the source was last good; zero: never

	// LastError is what is wrong now, "" when nothing is.
	LastError   string
	LastErrorAt time.Time
}

// A reader reads a source once.
type reader interface {
	// read returns the list and for how long it holds. errNone means that the
	// source is there and has no backend.
	read(ctx context.Context) (list []upstream.BackendConfig, holds time.Duration, err error)
	// watch leaves a token in changed when the source may have changed, until ctx
	// ends.
	watch(ctx context.Context, changed chan<- struct{})
	String() string
}

// errNone means that a source says that there is no backend.
var errNone = errors.New("there are no backends")

// A Source learns the backends of one service.
type Source struct {
	cfg    Config
	log    *slog.Logger
	reader reader

	mu     sync.Mutex // guards status
	status Status
}

// New returns a source that has not looked yet.
func New(service string, c Config, log *slog.Logger) (*Source, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	var r reader = file{c.File, c.refresh()}
	if c.File == "" {
		d, err := newDNS(c)
		if err != nil {
			return nil, err
		}
		r = d
	}
	return &Source{cfg: c, log: log.With("service", service), reader: r, status: Status{Source: r.String()}}, nil
}

// Status returns what the source last saw.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Run looks until ctx ends and tells each list that differs from the one before;
// the first look is told in any case, an empty list when it failed. A list that
// tell refuses counts as broken.
func (s *Source) Run(ctx context.Context, tell func([]upstream.BackendConfig) error) {
	changed := make(chan struct{}, 1)
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching.Go(func() { s.reader.watch(ctx, changed) })

	var c course
	for ctx.Err() == nil {
		got, holds, err := s.reader.read(ctx)
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		if errors.Is(err, errNone) {
			got, holds = c.kept(now, s.cfg.keep(), holds)
		} else if err == nil {
			c.none = time.Time{}
		}
		err = c.take(got, err, tell)
		if err != nil && !errors.Is(err, errNone) {
			c.fails++
			holds = min(soonest<<min(c.fails-1, 10), s.cfg.refresh())
		} else {
			c.fails = 0
		}
		s.note(now, c.list, err)
		wait(ctx, max(holds, minWait), changed)
	}
}

// A course is how looking at a source went so far.
type course struct {
	list  []upstream.BackendConfig // in force
	told  bool                     // somebody something
	none  time.Time                // since when the source has said that there are none; zero: it has not
	fails int                      // looks in a row
}

// kept returns the list that holds while the source says that there is none: the
// last one for a time, then none.
func (c *course) kept(now time.Time, keep, holds time.Duration) ([]upstream.BackendConfig, time.Duration) {
	if c.none.IsZero() {
		c.none = now
	}
	left := keep - now.Sub(c.none)
	if left <= 0 {
		return nil, holds
	}
	return c.list, min(holds, left)
}

// take tells what a look saw, if it is news. One that did not see all changes
// nothing, unless it is the first. It returns what is wrong.
func (c *course) take(got []upstream.BackendConfig, err error, tell func([]upstream.BackendConfig) error) error {
	if err != nil && !errors.Is(err, errNone) {
		if !c.told {
			c.told, c.list = true, got
			return errors.Join(err, tell(got)) // some are better than none
		}
		return err
	}
	if c.told && slices.Equal(got, c.list) {
		return err
	}
	c.told = true
	if refused := tell(got); refused != nil {
		return refused
	}
	c.list = got
	return err
}

// minWait keeps a source that says nonsense from being read in a loop.
const minWait = 10 * time.Millisecond

// wait waits until something may have changed.
func wait(ctx context.Context, d time.Duration, changed <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changed:
	}
}

// note files the outcome of a look.
func (s *Source) note(now time.Time, list []upstream.BackendConfig, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := &s.status
	if err == nil {
		if st.LastError != "" {
			s.log.Info("discovery well again", "source", st.Source, "backends", len(list))
		}
		st.LastError, st.LastErrorAt, st.Read = "", time.Time{}, now
	} else {
		if st.LastError != err.Error() {
			s.log.Warn("discovery failed; the last backends stay", "source", st.Source, "backends", len(list), "err", err)
		}
		st.LastError, st.LastErrorAt = err.Error(), now
	}
	if len(list) != st.Backends || st.Changed.IsZero() && err == nil {
		st.Changed = now
	}
	st.Backends = len(list)
}
