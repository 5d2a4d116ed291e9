package h1

import (
	"context"
	"sync"
	"time"

	"anyedge/proxy/wire"
)

const (
	// watchDelay is how long an exchange runs before somebody looks whether its
	// client is still there.
	watchDelay = 20 * time.Millisecond
	// halfCloseTime is how long a client that has ended its sending half over plain
	// TCP is taken to wait for its answer: nothing tells it from one that has gone.
	halfCloseTime = 3 * time.Second
)

// A watch notices when a client goes away while nothing of it is to be read.
type watch struct {
	conn *conn

	mu      sync.Mutex
	cancel  context.CancelCauseFunc // of the exchange that is watched; nil: none is
	since   time.Time               // that it is watched; zero: its content comes first
	timer   *time.Timer             // looks whether it is time for the lookout
	armed   bool                    // timer runs; it may have been set for an earlier exchange
	looking bool                    // the lookout has the connection
	watched wire.Watching
	late    *time.Timer // ends the exchange of a client that has ended its half
}

// begin takes note of the exchange that is to be watched.
func (w *watch) begin(cancel context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel, w.since = cancel, time.Time{}
}

// start watches, unless the exchange is over. A short exchange costs no timer: one
// that runs is left to.
func (w *watch) start(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil {
		return
	}
	w.since = now
	switch {
	case w.armed:
	case w.timer == nil:
		w.armed = true
		w.timer = time.AfterFunc(watchDelay, w.look)
	default:
		w.armed = true
		w.timer.Reset(watchDelay)
	}
}

// look hands an exchange that has run for a while to the lookout.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	if w.cancel == nil || w.since.IsZero() || w.looking {
		return
	}
	if early := watchDelay - time.Since(w.since); early > 0 {
		w.armed = true
		w.timer.Reset(early)
		return
	}
	cancel, since := w.cancel, w.since
	watched, err := w.conn.server.lookout.Watch(w.conn.wire, func(how wire.Hangup) { w.hungUp(how, cancel, since) })
	w.watched, w.looking = watched, err == nil
}

// hungUp ends the exchange that began to be watched then, or lets it run for a
// while when its client may wait for the answer.
func (w *watch) hungUp(how wire.Hangup, cancel context.CancelCauseFunc, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil || w.since != since {
		return
	}
	if how == wire.HalfClosed && !w.conn.secure {
		w.late = time.AfterFunc(halfCloseTime, func() { w.hungUp(wire.Gone, cancel, since) })
		return
	}
	cancel(errClientGone)
	w.conn.sever() // ends also a write that nobody takes
}

// lost ends the exchange: its client has gone.
func (w *watch) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel != nil {
		w.cancel(errClientGone)
	}
}

// end stops the watching of the exchange.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel, w.since = nil, time.Time{}
	if w.late != nil {
		w.late.Stop()
		w.late = nil
	}
	if w.looking {
		w.looking = false
		w.conn.server.lookout.End(w.conn.wire, w.watched)
	}
}

// stop ends the timer, too.
func (w *watch) stop() {
	w.end()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}
