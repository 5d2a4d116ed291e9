package h1

import (
	"context"
	"sync"
	"time"

	"anyedge/internal/message"
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

// A watch notices when a client goes away while nobody reads from it.
type watch struct {
	conn *conn

	mu      sync.Mutex
	life    *message.Life // of the exchange that is watched; nil: none is
	since   time.Time     // that it is watched
	content *source       // of its request; nil: none
	timer   *time.Timer   // looks whether it is time for the lookout
	armed   bool          // timer runs; it may have been set for an earlier exchange
	looking bool          // the lookout has the connection
	watched wire.Watching
	late    *time.Timer // ends the exchange of a client that has ended its half
}

// begin takes note of the exchange that is to be watched.
func (w *watch) begin(life *message.Life) {
	w.mu.Lock()
	w.life, w.since, w.content = life, time.Time{}, nil
	w.mu.Unlock()
	if w.conn.server.base.Err() != nil {
		w.cut()
	}
}

// cut ends the exchange: the server has no more time.
func (w *watch) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life != nil {
		w.life.Cancel(context.Canceled)
	}
}

// start watches the exchange; content is that of its request, if it has any. A
// short exchange costs no timer: one that runs is left to.
func (w *watch) start(now time.Time, content *source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life == nil {
		return
	}
	w.since, w.content = now, content
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
	if w.life == nil || w.since.IsZero() || w.looking {
		return
	}
	if early := watchDelay - time.Since(w.since); early > 0 {
		w.armed = true
		w.timer.Reset(early)
		return
	}
	life, since := w.life, w.since
	watched, err := w.conn.server.lookout.Watch(w.conn.wire, func(how wire.Hangup) { w.hungUp(how, life, since) })
	w.watched, w.looking = watched, err == nil
}

// hungUp ends the exchange that began to be watched then, or lets it run for a
// while when its client may wait for the answer.
func (w *watch) hungUp(how wire.Hangup, life *message.Life, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life == nil || w.since != since {
		return
	}
	if how == wire.HalfClosed && !w.conn.secure {
		w.wait(life, since)
		return
	}
	life.Cancel(errClientGone)
	w.conn.sever() // ends also a write that nobody takes
}

// wait gives a client that has ended its half time for its answer, as long as its
// content is being read: that may lie here for long. The caller holds mu.
func (w *watch) wait(life *message.Life, since time.Time) {
	read := w.content.read()
	w.late = time.AfterFunc(halfCloseTime, func() {
		w.mu.Lock()
		on := w.life != nil && w.since.Equal(since) && w.content.read() != read
		if on {
			w.wait(life, since)
		}
		w.mu.Unlock()
		if !on {
			w.hungUp(wire.Gone, life, since)
		}
	})
}

// lost ends the exchange: its client has gone.
func (w *watch) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.life != nil {
		w.life.Cancel(errClientGone)
	}
}

// end stops the watching of the exchange.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.life, w.since, w.content = nil, time.Time{}, nil
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
