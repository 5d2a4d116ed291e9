package h1

import (
	"os"
	"time"

	"anyedge/proxy/wire"
)

// restAfter is how long a connection waits for a request in a goroutine of its own;
// then the lookout waits for it.
const restAfter = time.Second

// expect says that a request may come, at most for a time or until the server
// closes connections without a request. The deadline is set when it has to be an
// earlier one only: when it has passed, late looks whether it is the right one.
func (c *conn) expect(d time.Duration) {
	c.mu.Lock() // before the server is asked: one that stops meanwhile finds c waiting
	defer c.mu.Unlock()
	now := time.Now()
	c.waiting, c.restAt = true, now.Add(restAfter)
	c.dueAt(c.server.until(now.Add(d)))
}

// greet says that the client is waited for as by expect, by a goroutine alone.
func (c *conn) greet(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.server.until(time.Now().Add(d))
	c.waiting, c.restAt = true, due
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
	if next := c.nextLook(); !c.severed && (c.armed.IsZero() || c.armed.Equal(past) || next.Before(c.armed)) {
		c.armed = next
		_ = c.nc.SetReadDeadline(next)
	}
}

// nextLook returns when late has something to do. The caller holds mu.
func (c *conn) nextLook() time.Time {
	if c.waiting && c.restAt.Before(c.due) {
		return c.restAt
	}
	return c.due
}

// late is called when a read deadline has passed. It returns an error if it was
// the right one, and sets that otherwise.
func (c *conn) late() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	switch {
	case c.severed:
		return errClientGone
	case !now.Before(c.due):
		if !c.waiting {
			c.refusal = unread(os.ErrDeadlineExceeded)
		}
		return errLate
	case c.waiting && !now.Before(c.restAt):
		if c.rest(now) {
			return errResting
		}
	}
	c.armed = c.nextLook()
	return c.nc.SetReadDeadline(c.armed)
}

// rest has the lookout wait for the client; whoever serves c leaves it. The caller
// holds mu.
func (c *conn) rest(now time.Time) bool {
	c.restAt = c.due // if the lookout does not take it
	watched, err := c.server.lookout.Await(c.wire, c.told)
	if err != nil {
		return false
	}
	c.resting, c.watched = true, watched
	c.timer = time.AfterFunc(c.due.Sub(now), func() { c.told(wire.Here) })
	return true
}

// told ends the rest: there is something to be read, or it is too late.
func (c *conn) told(wire.Hangup) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rouse()
}

// rouse has c served again if it rests. The caller holds mu.
func (c *conn) rouse() {
	if !c.resting {
		return
	}
	c.resting = false
	c.timer.Stop()
	c.timer = nil
	c.server.lookout.End(c.wire, c.watched)
	c.restAt = time.Now().Add(restAfter)
	if !c.severed {
		c.armed = c.nextLook()
		_ = c.nc.SetReadDeadline(c.armed)
	}
	go c.run()
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
		c.rouse()
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
	c.rouse()
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
