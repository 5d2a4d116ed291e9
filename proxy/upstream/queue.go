package upstream

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// A queue is the requests that wait for a backend with room, the first one
// first.
//
// How long one may wait follows the controlled delay of Maurer's "Fail at Scale"
// (ACM Queue, 2015): a queue that was empty a moment ago takes a burst and gives
// everybody the whole wait; one that stands gives a fraction, so that overload
// shows as quick refusals, which another geo can still take, and not as every
// request being late.
type queue struct {
	length *int // nil: as many as the hard limits come to
	wait   time.Duration

	waiting atomic.Int64 // len(line)

	mu    sync.Mutex // guards what follows
	line  []*waiter
	empty time.Time // when it was last
}

// A waiter is one request in the queue.
type waiter struct {
	r      *message.Request
	client netip.Addr
	given  chan *backend // gets one; nil: there is no backend any more
}

// standing is the part of the wait that a queue gives which has not been empty
// for a whole one.
const standing = 8

func (q *queue) begin(c QueueConfig) {
	q.length, q.wait, q.empty = c.Length, or(c.Wait, DefaultQueueWait), time.Now()
}

// place returns how many may wait for s.
func (q *queue) place(s *set) int64 {
	if q.length != nil {
		return int64(*q.length)
	}
	var sum int64
	for i := range s.seats {
		sum += s.seats[i].hard
	}
	return sum
}

// enqueue waits for a backend with room; a request under way is counted there.
func (p *Pool) enqueue(ctx context.Context, r *message.Request, client netip.Addr) (*backend, error) {
	q := &p.queue
	began := time.Now()
	defer func() { r.Queued += time.Since(began) }()
	w := &waiter{r: r, client: client, given: make(chan *backend, 1)}
	q.mu.Lock()
	if int64(len(q.line)) >= q.place(p.set.Load()) {
		q.mu.Unlock()
		p.counts.busy.Add(1)
		return nil, ErrBusy
	}
	wait := q.wait
	if len(q.line) > 0 && time.Since(q.empty) > q.wait {
		wait /= standing
	}
	q.line = append(q.line, w)
	q.waiting.Store(int64(len(q.line)))
	q.mu.Unlock()
	p.counts.queued.Add(1)
	q.serve(p) // room may have come before this one was seen to wait
	timer := time.NewTimer(wait)
	defer timer.Stop()
	err := ErrBusy
	select {
	case b := <-w.given:
		return w.got(b)
	case <-timer.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if !q.leave(w) {
		return w.got(<-w.given)
	}
	if ctx.Err() == nil {
		p.counts.busy.Add(1)
	}
	return nil, err
}

func (w *waiter) got(b *backend) (*backend, error) {
	if b == nil {
		return nil, ErrNoBackend
	}
	return b, nil
}

// leave takes w out of the line; false: it has been served.
func (q *queue) leave(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.line, w)
	if i < 0 {
		return false
	}
	q.line = slices.Delete(q.line, i, i+1)
	q.shrunk()
	return true
}

// shrunk notes that the line is shorter; mu is held.
func (q *queue) shrunk() {
	q.waiting.Store(int64(len(q.line)))
	if len(q.line) == 0 {
		q.empty = time.Now()
	}
}

// serve gives backends with room to those who wait.
func (q *queue) serve(p *Pool) {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	s := p.set.Load()
	for len(q.line) > 0 {
		w := q.line[0]
		var b *backend
		if len(s.seats) > 0 {
			if b = p.room(s, w.r, w.client); b == nil {
				return
			}
		}
		w.given <- b
		q.line[0] = nil
		q.line = q.line[1:]
		q.shrunk()
	}
}
