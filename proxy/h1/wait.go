package h1

import (
	"os"
	"time"
)

// expect says that a request may come, at most for a time or until the server
// closes connections without a request. The deadline is set when it has to be an
// earlier one only: when it has passed, late looks whether it is the right one.
func (c *conn) expect(d time.Duration) {
	due := c.server.until(time.Now().Add(d))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = true
	c.dueAt(due)
}

// begun says that the first bytes of a request's head have come: the rest has a
// deadline of its own.
func (c *conn) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		c.waiting = false
		c.dueAt(time.Now().Add(c.server.headerTimeout))
	}
}

// came says that a request's head has come.
func (c *conn) came() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
}

// allow gives the client until t for what is being read.
func (c *conn) allow(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dueAt(t)
}

// dueAt makes t the time that the client has. The caller holds mu.
func (c *conn) dueAt(t time.Time) {
	c.due = t
	if !c.severed && (c.armed.IsZero() || c.armed.Equal(past) || t.Before(c.armed)) {
		c.armed = t
		_ = c.nc.SetReadDeadline(t)
	}
}

// late is called when a read deadline has passed. It returns an error if it was
// the right one, and sets that otherwise.
func (c *conn) late() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.severed:
		return errClientGone
	case time.Now().Before(c.due):
		c.armed = c.due
		return c.nc.SetReadDeadline(c.due)
	case !c.waiting:
		c.refusal = unread(os.ErrDeadlineExceeded)
	}
	return errLate
}

// until returns t, or when the server closes connections without a request.
func (s *Server) until(t time.Time) time.Time {
	if stop := s.stopping.Load(); stop != nil && stop.Before(t) {
		return *stop
	}
	return t
}

// hurry ends the wait for a request at a time.
func (c *conn) hurry(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting && t.Before(c.due) {
		c.dueAt(t)
	}
}

// deadline sets that of reads; zero for none.
func (c *conn) deadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.severed {
		return errClientGone
	}
	c.armed, c.due = t, t
	return c.nc.SetReadDeadline(t)
}

// sever ends the connection so that nothing unfinished looks complete: without
// TLS's farewell, and with a reset.
func (c *conn) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.severed {
		return
	}
	c.severed = true
	c.wire.Sever() // whoever serves it closes it
}

// close ends the connection; nobody reads from it any more.
func (c *conn) close() {
	c.mu.Lock()
	severed := c.severed
	c.mu.Unlock()
	if severed {
		_ = c.wire.Close()
	} else {
		_ = c.nc.Close()
	}
	c.watch.stop()
	c.in.r = c.in.w
	c.in.release()
}
