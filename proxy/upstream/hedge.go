package upstream

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// A hedge says how long a request waits until a second backend is asked.
type hedge struct {
	after time.Duration
	p95   bool
	late  atomic.Uint64 // float64 bits: nanoseconds that 95 of 100 answers take less than; 0: none came yet
}

func (h *hedge) on() bool { return h.after > 0 || h.p95 }

// observe moves the estimate of the 95th percentile by a step up when an answer
// took longer and by a nineteenth of it down when not: it rests where that
// happens once in twenty times.
func (h *hedge) observe(took time.Duration) {
	if !h.p95 {
		return
	}
	for {
		old := h.late.Load()
		v := math.Float64frombits(old)
		switch step := v / 20; {
		case v == 0:
			v = 2 * float64(max(1, took))
		case float64(took) > v:
			v += step
		default:
			v -= step / 19
		}
		if h.late.CompareAndSwap(old, math.Float64bits(v)) {
			return
		}
	}
}

// delay returns how long to wait; 0: not known yet.
func (h *hedge) delay() time.Duration {
	if !h.p95 {
		return h.after
	}
	return time.Duration(math.Float64frombits(h.late.Load()))
}

// hedgeable reports whether two backends may work on r at once.
func hedgeable(r *message.Request) bool {
	switch r.Method {
	case "GET", "HEAD", "OPTIONS":
		return r.Body == nil && r.Protocol == ""
	}
	return false
}

// A runner is one of two tries that run at once.
type runner struct {
	b      *backend
	r      *message.Request
	cancel context.CancelFunc
	resp   *message.Response
	err    error
}

// hedged asks first, and when that takes too long a second backend, too. The first
// answer counts; the other try is cancelled. An error counts when both failed.
func (p *Pool) hedged(ctx context.Context, r *message.Request, who Asker, first *backend) (*message.Response, *backend, error) {
	done := make(chan *runner, 2)
	var mu sync.Mutex
	settled := false
	start := func(b *backend, inform func(int, message.Header)) *runner {
		own, cancel := context.WithCancel(ctx)
		one := &runner{b: b, r: alone(r, inform), cancel: cancel}
		r.Arena.Hold() // its strings are read until the try has ended
		p.losers.Go(func() {
			defer r.Arena.End()
			one.resp, one.err = p.try(own, b, one.r)
			done <- one
		})
		return one
	}
	var inform func(int, message.Header)
	if r.Inform != nil {
		inform = func(status int, h message.Header) {
			mu.Lock()
			defer mu.Unlock()
			if !settled {
				r.Inform(status, h)
			}
		}
	}
	running := []*runner{start(first, inform)}
	winner, left := p.await(ctx, r, who, done, &running, start)
	mu.Lock()
	settled = true
	mu.Unlock()
	for _, one := range running {
		if one != winner || one.err != nil {
			one.cancel()
		}
	}
	if left > 0 {
		p.losers.Go(func() { (<-done).resp.Close() })
	}
	r.Asked, r.AskedAt, r.HeardAt, r.Tries = winner.r.Asked, winner.r.AskedAt, winner.r.HeardAt, r.Tries+len(running)
	if winner.err == nil && len(running) > 1 && winner == running[1] {
		p.counts.won.Add(1)
	}
	return winner.keep(), winner.b, winner.err
}

// await returns the first try that answered, or the last one when none did, and how
// many still run. It starts the second one when that is due.
func (p *Pool) await(ctx context.Context, r *message.Request, who Asker, done chan *runner, running *[]*runner, start func(*backend, func(int, message.Header)) *runner) (winner *runner, left int) {
	var due <-chan time.Time
	if d := p.hedge.delay(); d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		due = timer.C
	}
	ended := 0
	for {
		select {
		case one := <-done:
			ended++
			if one.err == nil || ended == len(*running) {
				return one, len(*running) - ended
			}
		case <-due:
			due = nil
			if b := p.second(ctx, r, who, (*running)[0].b); b != nil {
				p.counts.hedged.Add(1)
				*running = append(*running, start(b, nil))
			}
		}
	}
}

// second returns another backend than first, if there is one and the budget has
// room.
func (p *Pool) second(ctx context.Context, r *message.Request, who Asker, first *backend) *backend {
	b, err := p.take(ctx, r, who, []*backend{first}, true)
	if err != nil {
		return nil
	}
	if !p.budget.take(time.Now(), p.given.Load()) {
		p.release(b)
		p.counts.spent.Add(1)
		return nil
	}
	return b
}

// keep makes the answer's end the end of its try.
func (one *runner) keep() *message.Response {
	if one.resp == nil {
		return nil
	}
	if one.resp.Body == nil {
		one.cancel()
		return one.resp
	}
	one.resp.Body = &limitedBody{one.resp.Body, one.cancel}
	return one.resp
}

// alone returns a copy of r that shares no memory which anybody writes.
func alone(r *message.Request, inform func(int, message.Header)) *message.Request {
	c := *r
	c.Tries = 0
	c.Arena, c.Header, c.Inform = nil, r.Header.Clone(), inform
	return &c
}
