// Package recorder remembers what happened on this node: a bounded list of
// events, newest kept, that readers can wait on. It is kept in memory and ends
// with the process; it judges nothing.
package recorder

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Capacity is how many events are kept.
const Capacity = 4096

// An Event is one thing that happened.
type Event struct {
	ID   uint64 // grows by one, from 1
	At   time.Time
	What string // "vip/www", "neighbor/tor1", "backend/shop/shop-a"
	Text string // one line
}

// A Recorder holds the last events. It is safe for concurrent use.
type Recorder struct {
	mu     sync.Mutex
	events []Event // ascending IDs; at most Capacity
	last   uint64
	more   chan struct{} // closed and replaced when an event is added
}

// New returns an empty Recorder.
func New() *Recorder { return &Recorder{more: make(chan struct{})} }

// Add records an event.
func (r *Recorder) Add(at time.Time, what, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	if len(r.events) == Capacity {
		n := copy(r.events, r.events[1:])
		r.events = r.events[:n]
	}
	r.events = append(r.events, Event{r.last, at, what, text})
	close(r.more)
	r.more = make(chan struct{})
}

// Since returns the kept events with an ID above after that happened at since
// or later, oldest first. When there are none it waits for one until ctx ends.
func (r *Recorder) Since(ctx context.Context, after uint64, since time.Time) []Event {
	for {
		found, more := r.find(after, since)
		if len(found) > 0 {
			return found
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}

// Last returns up to n newest events about what, oldest first.
func (r *Recorder) Last(what string, n int) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Event
	for i := len(r.events) - 1; i >= 0 && len(found) < n; i-- {
		if r.events[i].What == what {
			found = append(found, r.events[i])
		}
	}
	slices.Reverse(found)
	return found
}

func (r *Recorder) find(after uint64, since time.Time) ([]Event, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Event
	for _, e := range r.events {
		if e.ID > after && !e.At.Before(since) {
			found = append(found, e)
		}
	}
	return found, r.more
}
