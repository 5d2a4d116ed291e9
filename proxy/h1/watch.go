package h1

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

const (
	// watchDelay is how long an exchange runs before somebody looks whether its
	// client is still there.
	watchDelay = 20 * time.Millisecond
	// halfCloseTime is how long a client that has ended its sending half over plain
	// TCP is taken to wait for its answer: nothing tells it from one that has gone.
	halfCloseTime = 3 * time.Second
)

// A watch notices when a client goes away while nothing of it is to be read. It
// reads ahead: what comes is the next request.
type watch struct {
	conn *conn

	mu     sync.Mutex
	cancel context.CancelCauseFunc // of the exchange that is watched; nil: none is
	armed  bool                    // timer will start the reading
	timer  *time.Timer
	late   *time.Timer   // ends the exchange of a client that has ended its half
	done   chan struct{} // closed when the reading has ended; nil: it has not begun
	ended  bool          // the client sends no more
}

// begin takes note of the exchange that is to be watched.
func (w *watch) begin(cancel context.CancelCauseFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel, w.done = cancel, nil
}

// start watches, unless the exchange is over.
func (w *watch) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil {
		return
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchDelay, w.read)
		return
	}
	w.timer.Reset(watchDelay)
}

// read waits for the client.
func (w *watch) read() {
	w.mu.Lock()
	if !w.armed {
		w.mu.Unlock()
		return
	}
	w.armed = false
	done, cancel := make(chan struct{}), w.cancel
	w.done = done
	err := w.conn.deadline(time.Time{})
	w.mu.Unlock()
	defer close(done)
	// A client that has sent its next requests may go away as well.
	for err == nil && w.conn.in.buffered() < bufferSize {
		err = w.conn.in.fill()
	}
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return
	case errors.Is(err, io.EOF) && !w.conn.secure:
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended = true
		if w.cancel != nil {
			w.giveUpLate(cancel)
		}
	default:
		w.mu.Lock()
		w.ended = true
		w.mu.Unlock()
		cancel(errClientGone)
		w.conn.sever() // ends also a write that nobody takes
	}
}

// giveUpLate ends the exchange, unless it ends before; the caller holds mu.
func (w *watch) giveUpLate(cancel context.CancelCauseFunc) {
	var late *time.Timer
	late = time.AfterFunc(halfCloseTime, func() {
		w.mu.Lock()
		over := w.late != late
		w.mu.Unlock()
		if !over {
			cancel(errClientGone)
			w.conn.sever()
		}
	})
	w.late = late
}

// lost ends the exchange: its client has gone.
func (w *watch) lost() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	if w.cancel != nil {
		w.cancel(errClientGone)
	}
}

// end stops the watching; nobody reads from the connection any more.
func (w *watch) end() {
	w.mu.Lock()
	done := w.done
	if w.armed {
		w.armed = false
		w.timer.Stop()
	}
	if w.late != nil {
		w.late.Stop()
		w.late = nil
	}
	w.cancel, w.done = nil, nil
	if done != nil {
		_ = w.conn.deadline(past)
	}
	w.mu.Unlock()
	if done != nil {
		<-done
		_ = w.conn.deadline(time.Time{})
	}
}

// clean reports whether the client may send more.
func (w *watch) clean() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.ended
}
