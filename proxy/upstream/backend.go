package upstream

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// A backend is one instance, its client and what is known of it.
type backend struct {
	name, url string
	client    message.RoundTripper
	check     checker
	wake      chan struct{} // holds one token when a check should run at once

	active  atomic.Int64 // requests under way, until their answer is closed
	total   atomic.Int64 // requests ever given to it
	failed  atomic.Int64 // of them, without an answer
	misses  atomic.Int32 // dials in a row that failed
	latency latency
	report  report
	leaving atomic.Bool // takes no more requests

	health  health
	outlier outlier

	// Guarded by the pool's mu.
	cfg       BackendConfig
	taking    bool      // requests, as of the last set
	startedAt time.Time // when it began to take them slowly; zero: it has its whole share
	leftAt    time.Time // when it left the pool
	ejection  ejection
}

// newBackend makes a backend and its client, without dialling.
func newBackend(c BackendConfig, cfg Config) (*backend, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	u, err := c.parse()
	if err != nil {
		return nil, err
	}
	if cfg.Health.GRPC != nil && u.Scheme != schemeH2C {
		return nil, fmt.Errorf("url: %q: a gRPC check needs h2c://", c.URL)
	}
	client, err := cfg.Dial(c, cfg.Timeouts)
	if err != nil {
		return nil, err
	}
	return &backend{
		name: c.Name, url: c.URL, cfg: c,
		client: client,
		check:  newChecker(u, cfg.Health, c.checkDialer),
		wake:   make(chan struct{}, 1),
		health: health{state: Unknown, since: time.Now()},
	}, nil
}

func (b *backend) state() State { return b.health.get() }

// seat returns b's place in a set.
func (b *backend) seat(weight int64) seat {
	x := seat{backend: b, weight: weight, soft: int64(b.cfg.Limit.Soft), hard: int64(b.cfg.Limit.Hard)}
	if x.hard == 0 {
		x.hard = math.MaxInt64
	}
	if x.soft == 0 {
		x.soft = x.hard
	}
	return x
}

func (b *backend) close() error { return named(b.name, closeClient(b.client)) }

// enter counts one more request under way, unless there are limit already.
func (b *backend) enter(limit int64) bool {
	for {
		n := b.active.Load()
		if n >= limit {
			return false
		}
		if b.active.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// A report is what a backend says of its load. The zero value is none.
type report struct {
	load atomic.Uint64 // float64 bits, 0..1
	when atomic.Int64  // nanoseconds of the pool's clock
}

const (
	// loadHalves is the time after which a report that is not renewed counts for
	// half.
	loadHalves = 5 * time.Second
	// loadFloor is the load that is none.
	loadFloor = 0.01
)

// at returns the load as of now.
func (r *report) at(now int64) float64 {
	v := math.Float64frombits(r.load.Load())
	if v < loadFloor {
		return 0
	}
	if v *= math.Exp2(-float64(max(0, now-r.when.Load())) / float64(loadHalves)); v < loadFloor {
		return 0
	}
	return v
}

// set takes a report and tells whether it is one: a number between 0 and 1.
func (r *report) set(text string, now int64) bool {
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || !(v >= 0 && v <= 1) {
		return false
	}
	r.when.Store(now)
	r.load.Store(math.Float64bits(v))
	return true
}

// A BackendStatus is what is known of one backend.
type BackendStatus struct {
	Name      string
	URL       string
	Weight    int
	Share     float64 // of Weight that it has now: less while it starts slowly or says that it is busy
	Load      float64 // what it says of itself, 0..1
	Limit     LimitConfig
	State     State
	Why       string        // of State, where there is more to say: "5 x 502 in a row"
	Until     time.Time     // when an ejection ends; zero: it is not ejected
	Since     time.Time     // of State
	Active    int64         // requests under way
	Requests  int64         // given to it since the start
	Failed    int64         // of Requests, without an answer although the client waited
	Latency   time.Duration // recent time to an answer; 0: not measured
	LastCheck time.Time     // zero: none yet

	// LastError is the last failure of a check or a connection, with how often
	// it came in a row: "connect refused x842". It stays after a recovery.
	LastError   string
	LastErrorAt time.Time
}

// Status returns what is known of each backend, in the order given.
func (p *Pool) Status() []BackendStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	out := make([]BackendStatus, len(p.members))
	for i, b := range p.members {
		s := b.health.status()
		s.Name, s.URL, s.Weight, s.Limit = b.name, b.url, max(b.cfg.Weight, 1), b.cfg.Limit
		s.Active, s.Requests, s.Failed = b.active.Load(), b.total.Load(), b.failed.Load()
		s.Load = b.report.at(int64(now.Sub(p.began)))
		if e := b.ejection; s.State == Healthy && !e.until.IsZero() {
			s.State, s.Why, s.Since, s.Until = Ejected, e.why, e.since, e.until
		}
		weight, _ := p.share(b, now)
		s.Share = float64(weight) / float64(s.Weight*unit)
		if p.timed() {
			s.Latency = time.Duration(b.latency.at(int64(now.Sub(p.began))))
		}
		out[i] = s
	}
	return out
}

// hostPort returns the address of u, with the scheme's port where it has none.
func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "80")
}
