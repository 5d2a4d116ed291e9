package proxy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Trace is what became of one request.
type Trace struct {
	ID       string
	At       time.Time // when it came
	Listener string
	Service  string
	Client   netip.Addr
	Version  string
	Method   string
	Host     string
	Path     string

	Status  int
	Rule    Rule   // by which the answer is an error of the edge's own; "" for none
	Error   string // why it is one, or how the content broke off
	Entry   string // geo that the client came to
	Geo     string // that served it
	Moved   string // why another geo did: shed, failover or replay; "": this one
	Hop     string // why another geo sent it here
	Backend string // of this geo, asked last
	Tries   int    // of backends of this geo

	Received, Sent int64 // bytes of content
	FirstByte      time.Duration
	Took           time.Duration
	Steps          []Step
}

// A Step is something that happened to a request.
type Step struct {
	After time.Duration
	Text  string
}

// A TraceFilter chooses traces; what is zero chooses all.
type TraceFilter struct {
	ID      string
	Service string
	Rule    Rule
	Status  int          // 1 to 5: the class
	Client  netip.Prefix // that the client is in
	Path    string       // how the path begins
	Slow    time.Duration
}

// takes reports whether f chooses an exchange that has ended.
func (f *TraceFilter) takes(e *Exchange, o *outcome) bool {
	return (f.Service == "" || f.Service == e.serviceName()) &&
		(f.Rule == "" || f.Rule == e.rule) &&
		f.takesRest(o.status, e.client, e.req.Target, o.at.Sub(e.record.start))
}

// chooses is takes of a trace.
func (f *TraceFilter) chooses(t *Trace) bool {
	return (f.ID == "" || f.ID == t.ID) &&
		(f.Service == "" || f.Service == t.Service) &&
		(f.Rule == "" || f.Rule == t.Rule) &&
		f.takesRest(t.Status, t.Client, t.Path, t.Took)
}

func (f *TraceFilter) takesRest(status int, client netip.Addr, path string, took time.Duration) bool {
	return (f.Status == 0 || f.Status == status || f.Status == status/100) &&
		(!f.Client.IsValid() || f.Client.Contains(client)) &&
		strings.HasPrefix(path, f.Path) && took >= f.Slow
}

// Bounds of what is kept and of who watches.
const (
	keptTraces   = 256 // of each kind
	keptBurst    = 100 // traces of a kind at once
	keptRate     = 20  // a second, after that
	maxWatches   = 8
	watchBacklog = 256 // traces that a watcher has not taken yet
	// slowTrace is how long a request takes that is kept for that alone. Upgrades
	// last, and are none.
	slowTrace = time.Second
)

// tracer keeps traces of requests that somebody may ask about, and shows all to
// who watches.
type tracer struct {
	failed, other kept
	watches       atomic.Pointer[[]*Watch]
	mu            sync.Mutex // of writers of watches
}

func newTracer() *tracer {
	t := &tracer{}
	for _, k := range []*kept{&t.failed, &t.other} {
		k.ration.burst, k.ration.rate = keptBurst, keptRate
	}
	return t
}

// kept is a ring of traces.
type kept struct {
	ration ration
	mu     sync.Mutex
	ring   []*Trace
	next   int
}

func (k *kept) add(t *Trace) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ring) < keptTraces {
		k.ring = append(k.ring, t)
		return
	}
	k.ring[k.next] = t
	k.next = (k.next + 1) % keptTraces
}

func (k *kept) list() []*Trace {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.ring)
}

// ended looks at an exchange that has ended.
func (t *tracer) ended(e *Exchange, status int, err string) {
	keep := t.keeper(e, status, err)
	watches := t.watches.Load()
	if keep == nil && watches == nil {
		return
	}
	o := outcome{status, err, time.Now()}
	var made *Trace
	if keep != nil {
		if _, ok := keep.ration.take(o.at); ok {
			made = e.trace(&o)
			keep.add(made)
		}
	}
	if watches == nil {
		return
	}
	for _, w := range *watches {
		switch {
		case !w.filter.takes(e, &o):
			continue
		case len(w.in) == cap(w.in): // nothing is made that nobody takes
			w.dropped.Add(1)
			continue
		case made == nil:
			made = e.trace(&o)
		}
		w.offer(made)
	}
}

// keeper returns where a trace is kept; nil: nowhere.
func (t *tracer) keeper(e *Exchange, status int, err string) *kept {
	r := &e.record
	switch {
	case status >= 500 || err != "":
		return &t.failed
	case r.moved() != "" || e.hop != "" || r.tries > 1 || e.req.Protocol == "" && !r.first.IsZero() && r.first.Sub(r.start) >= slowTrace:
		return &t.other
	}
	return nil
}

// trace tells what became of e. Nothing of it is the exchange's memory.
func (e *Exchange) trace(o *outcome) *Trace {
	r := &e.record
	c := strings.Clone
	t := &Trace{
		ID: e.id.String(), At: r.start, Listener: e.listener, Service: e.serviceName(),
		Client: e.client, Version: e.req.Version.String(),
		Method: c(cutText(e.req.Method)), Host: c(cutText(e.req.Authority)), Path: c(cutText(e.req.Target)),
		Status: o.status, Rule: e.rule, Error: c(o.err), Entry: c(e.origin), Geo: c(e.served),
		Moved: string(r.moved()), Hop: string(e.hop), Backend: c(e.backend), Tries: r.tries,
		Received: e.received(), Sent: r.bytes.Load(), Took: o.at.Sub(r.start),
	}
	if !r.first.IsZero() {
		t.FirstByte = r.first.Sub(r.start)
	}
	t.Steps = e.steps()
	return t
}

// steps returns what happened, in order of time.
func (e *Exchange) steps() []Step {
	r := &e.record
	var out []Step
	step := func(at time.Time, text string) {
		if !at.IsZero() {
			out = append(out, Step{max(0, at.Sub(r.start)), text})
		}
	}
	for _, one := range e.reasons {
		step(one.at, strings.Clone(one.text))
	}
	who := "backend " + e.backend
	if r.moved() != "" && e.served != e.proxy.setup.Geo {
		who = "geo " + e.served
	}
	step(r.asked, "asked "+who)
	if !r.answered && e.rule != RuleReplay {
		step(r.heard, who+" gave no answer")
	}
	slices.SortStableFunc(out, func(a, b Step) int { return int(a.After - b.After) })
	return out
}

// ErrWatches means that too many watch already.
var ErrWatches = errors.New("too many watch requests already; end one of the others")

// A Watch shows traces as requests end.
type Watch struct {
	C <-chan *Trace

	filter  TraceFilter
	in      chan *Trace
	dropped atomic.Uint64
	tracer  *tracer
}

// Watch shows the requests that f chooses, from now on until Close. One who is
// slow to take them misses some, and slows nobody down. The error is [ErrWatches].
func (p *Proxy) Watch(f TraceFilter) (*Watch, error) {
	t := p.tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*Watch
	if before := t.watches.Load(); before != nil {
		all = slices.Clone(*before)
	}
	if len(all) >= maxWatches {
		return nil, ErrWatches
	}
	w := &Watch{filter: f, in: make(chan *Trace, watchBacklog), tracer: t}
	w.C = w.in
	all = append(all, w)
	t.watches.Store(&all)
	return w, nil
}

func (w *Watch) offer(t *Trace) {
	select {
	case w.in <- t:
	default:
		w.dropped.Add(1)
	}
}

// Dropped returns how many were not shown since the last call.
func (w *Watch) Dropped() uint64 { return w.dropped.Swap(0) }

// Close ends the watch.
func (w *Watch) Close() {
	t := w.tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	if before := t.watches.Load(); before != nil {
		left := slices.DeleteFunc(slices.Clone(*before), func(o *Watch) bool { return o == w })
		if len(left) > 0 {
			t.watches.Store(&left)
		} else {
			t.watches.Store(nil)
		}
	}
}

// Traces returns those that are kept and that f chooses, the oldest first: of
// requests that failed, that were slow, that were tried more than once, and of
// those that another geo sent or served. When there are very many of them, some
// are not kept.
func (p *Proxy) Traces(f TraceFilter) []*Trace {
	all := append(p.tracer.failed.list(), p.tracer.other.list()...)
	all = slices.DeleteFunc(all, func(t *Trace) bool { return !f.chooses(t) })
	slices.SortFunc(all, func(a, b *Trace) int { return a.At.Compare(b.At) })
	return all
}
