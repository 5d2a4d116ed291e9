package h2

import (
	"cmp"
	"runtime"
	"sync"
	"time"
)

// outs are buffers of what is to be sent.
var outs = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// write appends frames. With flush they are sent once everybody has had a turn who
// can go on now: answers that are ready together leave together, and where nobody
// else is ready nothing is waited for.
func (c *conn) write(flush bool, frames func(b []byte) []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.queue(frames)
	if len(c.wbuf) >= 4*maxFrame {
		return c.flush()
	}
	if !flush || c.corked {
		return nil
	}
	c.corked = true
	c.wmu.Unlock()
	runtime.Gosched()
	c.wmu.Lock()
	c.corked = false
	return c.flush()
}

// queue appends frames; wmu is held.
func (c *conn) queue(frames func(b []byte) []byte) {
	if c.out == nil {
		c.out = outs.Get().(*[]byte)
		c.wbuf = *c.out
	}
	c.wbuf = frames(c.wbuf)
}

// send writes frames that somebody waits for.
func (c *conn) send(frames func(b []byte) []byte) error { return c.write(true, frames) }

// reply queues frames that the goroutine in serve has to send; they leave with
// the next ones, or when it waits for the client.
func (c *conn) reply(frames func(b []byte) []byte) error {
	c.owes = true
	return c.write(false, frames)
}

// settle sends replies that are still queued.
func (c *conn) settle() error {
	if !c.owes {
		return nil
	}
	c.owes = false
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.corked {
		return nil
	}
	return c.flush()
}

// flush sends what is queued; wmu is held.
func (c *conn) flush() error {
	if len(c.wbuf) == 0 || c.broken != nil {
		c.wbuf = c.wbuf[:0]
		return c.broken
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.stall))
	gather := c.wire != nil && c.secure != nil // crypto/tls writes each record by itself
	if gather {
		c.wire.Gather()
	}
	_, err := c.nc.Write(c.wbuf)
	if gather {
		err = cmp.Or(err, c.wire.Flush())
	}
	if cap(c.wbuf) <= 8*maxFrame {
		*c.out = c.wbuf[:0]
		outs.Put(c.out)
	}
	c.out, c.wbuf = nil, nil
	c.broken = err
	switch {
	case err == nil:
	case c.backend != nil:
		c.backend.unwritable(err)
	case c.end(err):
		c.fail(err)
	}
	return err
}
