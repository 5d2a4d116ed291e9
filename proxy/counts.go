package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// each is the statistics of a service's backends, by name. Reading takes no lock.
type each struct {
	now atomic.Pointer[map[string]*stats]
	mu  sync.Mutex // of writers
}

// of returns the statistics of a backend of p. With a new one, those of backends
// that p no longer has are forgotten.
func (e *each) of(name string, p pool) *stats {
	if m := e.now.Load(); m != nil {
		if s := (*m)[name]; s != nil {
			return s
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before := map[string]*stats{}
	if m := e.now.Load(); m != nil {
		before = *m
	}
	if s := before[name]; s != nil {
		return s
	}
	next := map[string]*stats{name: {}}
	for _, b := range p.Status() {
		if s := before[b.Name]; s != nil {
			next[b.Name] = s
		}
	}
	e.now.Store(&next)
	return next[name]
}

// get returns the statistics of a backend; nil: it has had no request.
func (e *each) get(name string) *stats {
	if m := e.now.Load(); m != nil {
		return (*m)[name]
	}
	return nil
}

// backends returns the state of the service's backends.
func (s *service) backends(now time.Time) []BackendStatus {
	known := s.pool.Status()
	out := make([]BackendStatus, len(known))
	for i, b := range known {
		out[i].BackendStatus = b
		if one := s.each.get(b.Name); one != nil {
			sum := one.summary(now)
			out[i].Rate, out[i].ErrorRate, out[i].Samples = sum.rate, sum.errorRate, sum.samples
			out[i].P50, out[i].P99, out[i].Totals = sum.p50, sum.p99, one.totals()
		}
	}
	return out
}

// tried is the last try of r; resp is nil when no answer came, which counts as a
// failure.
func tried(r *message.Request, resp *message.Response) sample {
	one := sample{took: r.HeardAt.Sub(r.AskedAt), answered: resp != nil, status: noAnswer}
	if resp != nil {
		one.status = resp.Status
	}
	return one
}

// noAnswer stands for a status where there is no answer. It is of no class.
const noAnswer = 600

// greetings counts TLS handshakes that succeeded: by version of HTTP, and whether
// they resumed a session.
type greetings [2][2]atomic.Uint64

func (g *greetings) add(v message.Version, resumed bool) {
	i := 0
	if resumed {
		i = 1
	}
	g[v-message.HTTP1][i].Add(1)
}

// A HandshakeCount is how many TLS handshakes succeeded.
type HandshakeCount struct {
	Protocol string
	Resumed  bool
	Count    uint64
}

func (g *greetings) all() []HandshakeCount {
	var out []HandshakeCount
	for i := range g {
		for j := range g[i] {
			out = append(out, HandshakeCount{(message.HTTP1 + message.Version(i)).String(), j == 1, g[i][j].Load()})
		}
	}
	return out
}

// requestCounts counts requests by version.
type requestCounts [message.HTTP3 + 1]atomic.Uint64

// A RequestCount is how many requests came.
type RequestCount struct {
	Protocol string
	Count    uint64
}

func (r *requestCounts) all() []RequestCount {
	var out []RequestCount
	for v := message.HTTP1; v <= message.HTTP3; v++ {
		out = append(out, RequestCount{v.String(), r[v].Load()})
	}
	return out
}
