// Package upstream sends requests to the local backends of one service.
//
// A [Pool] knows which backends can serve, from its own checks and from what
// requests meet, chooses one for each request, and tries another where that is
// safe. It owns the backends' clients, the checks, the limits with the queue in
// front of them, and the counts of requests under way. It knows no route and no
// other geo: a request that no backend took a byte of goes back with
// [message.NothingSent], and its caller decides what happens to it.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// Errors that a failed try wraps.
var (
	ErrNoBackend = errors.New("no healthy backend")
	ErrBusy      = errors.New("every backend is at its limit")
	ErrTimeout   = errors.New("no response header")
)

// A Dialer makes the client of one backend without dialling. The client bounds
// how long connecting and the wait for an answer take; when it has a method
// Close, with or without an error, that is called when the pool ends or the
// backend leaves it.
type Dialer func(BackendConfig, TimeoutsConfig) (message.RoundTripper, error)

// Config describes the pool of one service.
type Config struct {
	Backends  []BackendConfig // the first ones; [Pool.Update] changes them
	Balance   string          // how a backend is chosen; "": p2c
	Health    HealthConfig
	Timeouts  TimeoutsConfig
	Queue     QueueConfig
	Retry     RetryConfig
	SlowStart *time.Duration // nil: DefaultSlowStart

	// Discovered says that the backends come with the first Update: before it nobody
	// can say whether this geo can serve.
	Discovered bool

	// Keep reports whether an answer is for the caller whatever its status: it is
	// never dropped for another backend's. nil: none is.
	Keep func(message.Header) bool

	Dial   Dialer          // nil: Dial
	Random func(n int) int // uniform in [0,n), safe for concurrent use; nil: math/rand/v2
}

// An Asker is what a pool asks about a request beyond its bytes.
type Asker interface {
	Client() netip.Addr // who sent it, after trusted proxies
	Alone() bool        // no other geo can take it
}

// A Pool is the backends of one service. Its methods are safe for concurrent
// use.
type Pool struct {
	service string
	cfg     Config
	balance balance
	log     *slog.Logger
	began   time.Time
	changed chan struct{} // holds one token when what others see may differ from what they saw last
	wake    chan struct{} // holds one token when Run has something to do

	set     atomic.Pointer[set] // those that may take requests
	healthy atomic.Int64        // backends whose checks succeed
	total   atomic.Int64        // backends
	pending atomic.Int64        // backends without a verdict
	given   atomic.Int64        // requests, to backends that are gone, too
	moving  atomic.Bool         // shares change by themselves: Run looks again soon
	turn    atomic.Uint64       // of round robin
	queue   queue
	budget  budget
	hedge   hedge
	counts  counts
	losers  sync.WaitGroup // tries whose answer nobody waits for

	mu      sync.Mutex // guards what follows
	members []*backend // in the order given
	left    []*backend // no longer members; they finish what is under way
	waiting bool       // for the first Update
	serving time.Time  // since when somebody has been taking requests without a break; zero: nobody does
}

// counts are what a pool has done since it was made.
type counts struct {
	queued   atomic.Int64 // requests that waited for a backend with room
	busy     atomic.Int64 // of them and those that found no place, refused
	panicked atomic.Int64 // requests sent to whichever backend, well or not
	ejected  atomic.Int64 // backends, for what requests met there
	retried  atomic.Int64 // requests sent once more although they may have been executed
	spent    atomic.Int64 // requests not sent once more because the budget was spent
	hedged   atomic.Int64 // requests that a second backend was asked as well
	won      atomic.Int64 // of them, answered by the second
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
	way, err := parseBalance(cfg.Balance)
	if err != nil {
		return nil, fmt.Errorf("balance: %w", err)
	}
	p := &Pool{
		service: service, cfg: cfg, balance: way, log: log.With("service", service), began: time.Now(),
		wake: make(chan struct{}, 1),
	}
	p.set.Store(&set{})
	p.queue.begin(cfg.Queue)
	p.budget.begin(or(cfg.Retry.Budget, DefaultBudget), p.began)
	p.hedge.after, p.hedge.p95, err = cfg.Retry.hedge()
	if err != nil {
		return nil, fmt.Errorf("retry: %w", err)
	}
	p.waiting = cfg.Discovered
	if err := p.update(cfg.Backends); err != nil {
		return nil, err
	}
	p.changed = make(chan struct{}, 1)
	return p, nil
}

// now is the pool's clock: nanoseconds since it was made.
func (p *Pool) now() int64 { return int64(time.Since(p.began)) }

// Run checks the backends until ctx ends, then closes their clients. It is
// ready at once: whether a backend answers is no condition for a start.
func (p *Pool) Run(ctx context.Context, ready func()) error {
	ready()
	var checks sync.WaitGroup
	running := map[*backend]context.CancelFunc{}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var errs []error
	for ctx.Err() == nil {
		errs = append(errs, p.tend(ctx, running, &checks))
		timer.Reset(p.refresh())
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		}
	}
	for _, stop := range running {
		stop()
	}
	checks.Wait()
	p.losers.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range append(p.members, p.left...) {
		errs = append(errs, b.close())
	}
	return errors.Join(errs...)
}

// tend starts the checks of new members and ends those of members that left,
// whose clients are closed when nothing is under way any more.
func (p *Pool) tend(ctx context.Context, running map[*backend]context.CancelFunc, checks *sync.WaitGroup) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.members {
		if running[b] == nil {
			own, stop := context.WithCancel(ctx)
			running[b] = stop
			checks.Go(func() { p.watch(own, b) })
		}
	}
	var errs []error
	still := p.left[:0]
	for _, b := range p.left {
		if stop := running[b]; stop != nil {
			stop()
			delete(running, b)
		}
		if b.active.Load() > 0 || time.Since(b.leftAt) < linger {
			still = append(still, b)
			continue
		}
		errs = append(errs, b.close())
		p.log.Info("backend gone", "backend", b.name)
	}
	clear(p.left[len(still):])
	p.left = still
	return errors.Join(errs...)
}

// linger is how long the client of a backend that left is kept at least: a
// request may have chosen it just before.
const linger = time.Second

// kick makes Run look.
func (p *Pool) kick() { signal(p.wake) }

// signal leaves a token unless one is there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
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

// Healthy returns how many backends can serve by their checks. One that is
// passed over for a while because requests failed there counts: whether this geo
// can serve is for its backends' checks to say, not for what clients send.
func (p *Pool) Healthy() int { return int(p.healthy.Load()) }

// Total returns how many backends there are.
func (p *Pool) Total() int { return int(p.total.Load()) }

// Reported reports whether it is known which backends there are, and every one has
// had its first verdict.
func (p *Pool) Reported() bool { return p.pending.Load() == 0 }

// Desperate reports whether fewer than half of the backends take requests, so
// that an [Asker] who is alone is given any of them.
func (p *Pool) Desperate() bool { return p.set.Load().desperate != nil }

// Changed holds one token after Healthy, Reported or who takes requests changed.
// It serves one reader.
func (p *Pool) Changed() <-chan struct{} { return p.changed }

// Counts are what a pool has done since it was made, and what it does now.
type Counts struct {
	Waiting  int   // requests in the queue now
	Queued   int64 // requests that waited for a backend with room
	Busy     int64 // requests that found no room in time
	Panicked int64 // requests sent to any backend, well or not
	Ejected  int64 // backends that were passed over for a while because requests failed there
	Retried  int64 // requests sent once more although a backend may have executed them
	Spent    int64 // requests not sent once more because the budget was spent
	Hedged   int64 // requests that a second backend was asked as well
	HedgeWon int64 // of Hedged, answered by the second one
}

// Counts returns the counts.
func (p *Pool) Counts() Counts {
	return Counts{
		Waiting: int(p.queue.waiting.Load()), Queued: p.counts.queued.Load(),
		Busy: p.counts.busy.Load(), Panicked: p.counts.panicked.Load(), Ejected: p.counts.ejected.Load(),
		Retried: p.counts.retried.Load(), Spent: p.counts.spent.Load(),
		Hedged: p.counts.hedged.Load(), HedgeWon: p.counts.won.Load(),
	}
}
