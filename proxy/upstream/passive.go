package upstream

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// An outlier is what requests met at one backend lately.
type outlier struct {
	inRow atomic.Int64 // failures since the last success

	mu     sync.Mutex // guards what follows
	began  time.Time  // of the window, with its first failure
	before int64      // requests ever given to the backend until then
	failed int64      // in the window
	last   string     // kind of the last failure
	same   int64      // failures of that kind in a row
}

// An ejection is a backend's time without requests; the pool's mu guards it.
type ejection struct {
	since, until time.Time // zero: it is not ejected
	why          string
	times        int       // how often lately: each makes the next one longer
	over         time.Time // when the last one was
}

// longest is how many times the first ejection the longest one lasts.
const longest = 10

// well notes a success.
func (b *backend) well() {
	if b.outlier.inRow.Load() != 0 {
		b.outlier.inRow.Store(0)
	}
}

// ill notes a failure of that kind, like "502" or "reset", and ejects b when it is
// one too many. It costs nothing where health.passive is absent.
func (p *Pool) ill(b *backend, kind string) {
	c := p.cfg.Health.Passive
	if c == nil {
		return
	}
	now := time.Now()
	o := &b.outlier
	row := o.inRow.Add(1)
	o.mu.Lock()
	if o.last != kind || row == 1 {
		o.last, o.same = kind, 0
	}
	o.same++
	if now.Sub(o.began) > or(c.Window, DefaultWindow) {
		o.began, o.before, o.failed = now, b.total.Load()-1, 0
	}
	o.failed++
	requests, failed, same := b.total.Load()-o.before, o.failed, o.same
	o.mu.Unlock()

	most, ratio := int64(or(c.Consecutive, DefaultConsecutive)), or(c.ErrorRatio, DefaultErrorRatio)
	least := int64(c.MinRequests)
	if least == 0 {
		least = DefaultMinRequests
	}
	switch {
	case most > 0 && row >= most && same >= row:
		p.eject(b, now, fmt.Sprintf("%d x %s in a row", row, kind))
	case most > 0 && row >= most:
		p.eject(b, now, fmt.Sprintf("%d failures in a row, the last one %s", row, kind))
	case ratio > 0 && requests >= least && float64(failed) >= ratio*float64(requests):
		p.eject(b, now, fmt.Sprintf("%d of %d requests failed within %s", failed, requests, or(c.Window, DefaultWindow)))
	}
}

// eject has b take no requests for a while, unless too many are in that state
// already or nobody would be left.
func (p *Pool) eject(b *backend, now time.Time, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.cfg.Health.Passive
	ejected, taking := 0, 0
	for _, m := range p.members {
		if m.ejection.until.After(now) {
			ejected++
		}
		if m.taking {
			taking++
		}
	}
	most := max(1, int(or(c.MaxEjected, DefaultMaxEjected)*float64(len(p.members))))
	if !b.taking || b.leaving.Load() || taking < 2 || ejected >= most {
		return
	}
	first := or(c.Eject, DefaultEject)
	e := &b.ejection
	if !e.over.IsZero() {
		e.times = max(0, e.times-int(now.Sub(e.over)/first))
	}
	e.times++
	d := first * time.Duration(min(e.times, longest))
	e.since, e.until, e.why = now, now.Add(d), why
	p.counts.ejected.Add(1)
	p.log.Warn("backend ejected", "backend", b.name, "for", d, "why", why)
	p.settle(now)
	p.kick()
}

// ejected reports whether b is, and ends an ejection whose time is over; the
// pool's mu is held.
func (p *Pool) ejected(b *backend, now time.Time) bool {
	e := &b.ejection
	if e.until.IsZero() {
		return false
	}
	if e.until.After(now) {
		return true
	}
	e.since, e.until, e.over = time.Time{}, time.Time{}, now
	b.outlier.forget()
	p.log.Info("backend returns", "backend", b.name)
	return false
}

// forget starts the counts of b's failures anew.
func (o *outlier) forget() {
	o.inRow.Store(0)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.began, o.last, o.same = time.Time{}, "", 0
}
