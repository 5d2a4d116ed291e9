package message

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A Life is the context of an exchange. It costs nothing as long as nobody waits
// for its end, and it may be a part of the exchange's arena ([Part], [Life.Begin]).
// The zero Life lives.
type Life struct {
	arena *Arena

	mu    sync.Mutex
	err   error
	done  chan struct{} // made when it is asked for
	hooks *Hook
}

// An endError is why a Life ended. It is a context.Canceled as well.
type endError struct{ cause error }

func (e *endError) Error() string   { return e.cause.Error() }
func (e *endError) Unwrap() []error { return []error{context.Canceled, e.cause} }

// Ended returns cause as the error of a Life that ended for it, to be made once.
func Ended(cause string) error { return &endError{errors.New(cause)} }

// Begin says whose memory the life is in: the arena is left to the collector when
// somebody asks for Done, because nobody knows how long he will look.
func (l *Life) Begin(a *Arena) { l.arena = a }

// Cancel ends the life, once. err is an [Ended] or context.Canceled.
func (l *Life) Cancel(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return
	}
	l.err = err
	if l.done != nil {
		close(l.done)
	}
	for h := l.hooks; h != nil; {
		next := h.next
		h.on = false
		go h.f()
		h = next
	}
	l.hooks = nil
}

// Deadline says that there is none.
func (*Life) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value returns nil.
func (*Life) Value(any) any { return nil }

// Err returns what Cancel was given.
func (l *Life) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Done is closed by Cancel.
func (l *Life) Done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done == nil {
		l.arena.Forget()
		l.done = make(chan struct{})
		if l.err != nil {
			close(l.done)
		}
	}
	return l.done
}

// AfterFunc is for context.AfterFunc and contexts derived from this one, which need
// no goroutine then. They ask for Done all the same; a Hook does not.
func (l *Life) AfterFunc(f func()) (stop func() bool) {
	h := NewHook(f)
	h.attach(l)
	return h.Stop
}

// A Hook is a call that the end of a context causes, at most one context at a
// time. It is made once and used again.
type Hook struct {
	f    func()
	stop func() bool // of a context that is no Life
	life *Life       // attached to last

	on         bool // guarded by life's mutex, like those below
	prev, next *Hook
}

// NewHook returns a hook that calls f in a goroutine of its own.
func NewHook(f func()) *Hook { return &Hook{f: f} }

// Attach has f called when ctx ends; at once when it has. With a Life this
// allocates nothing.
func (h *Hook) Attach(ctx context.Context) {
	if l, ok := ctx.(*Life); ok {
		h.attach(l)
		return
	}
	h.life, h.stop = nil, context.AfterFunc(ctx, h.f)
}

func (h *Hook) attach(l *Life) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.life, h.stop = l, nil
	if l.err != nil {
		go h.f()
		return
	}
	h.on, h.prev, h.next = true, nil, l.hooks
	if l.hooks != nil {
		l.hooks.prev = h
	}
	l.hooks = h
}

// Stop ends what Attach began; false: f has been or will be called.
func (h *Hook) Stop() bool {
	switch {
	case h.stop != nil:
		return h.stop()
	case h.life == nil:
		return false
	}
	l := h.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if !h.on {
		return false
	}
	h.on = false
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		l.hooks = h.next
	}
	if h.next != nil {
		h.next.prev = h.prev
	}
	h.prev, h.next = nil, nil
	return true
}
