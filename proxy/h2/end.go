package h2

import (
	"crypto/tls"
	"io"
	"time"
)

var past = time.Unix(1, 0)

// lingerTime is how long a client may read why its connection ended.
const lingerTime = 200 * time.Millisecond

// linger takes in what still comes: a connection that is closed on unread bytes
// may take the GOAWAY with it.
func (c *conn) linger() {
	if t, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.nc, 1<<20)
}

// end ends everything on the connection; false: somebody else has.
func (c *conn) end(why error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil {
		return false
	}
	c.dead = why
	for _, st := range c.streams {
		st.abandon(c.cause(why))
	}
	clear(c.streams)
	c.room.Broadcast()
	return true
}

// fail ends the connection at once: no lock is held and nothing is waited for.
func (c *conn) fail(why error) {
	c.end(why)
	if c.wire != nil { // whoever serves it closes it
		_ = c.wire.SetDeadline(past)
		return
	}
	if t, ok := c.nc.(*tls.Conn); ok { // whose Close waits for a client that reads nothing
		_ = t.NetConn().Close()
		return
	}
	_ = c.nc.Close()
}

// reset ends a stream that the peer has broken.
func (c *conn) reset(bad streamError) error {
	c.mu.Lock()
	c.drop(bad.stream, c.cause(bad))
	c.mu.Unlock()
	return c.reply(func(b []byte) []byte { return appendReset(b, bad.stream, bad.code) })
}

// cause returns what a stream ends with for its reader: a client is gone, whatever
// it did.
func (c *conn) cause(err error) error {
	if c.backend == nil {
		return errClientGone
	}
	return err
}

// reset ends the stream unless it has ended.
func (st *stream) reset(why code) { st.fail(why, errClientGone) }

// fail does so, and its reader learns the cause.
func (st *stream) fail(why code, cause error) {
	st.conn.mu.Lock()
	id := st.id // a call has none before it is opened
	st.conn.mu.Unlock()
	st.conn.resetOpen(id, why, cause)
}

// resetOpen ends a stream unless it has ended: nothing answers an RST_STREAM
// (section 5.4.2).
func (c *conn) resetOpen(id uint32, why code, cause error) {
	c.mu.Lock()
	_, open := c.streams[id]
	if open {
		c.drop(id, cause)
	}
	c.mu.Unlock()
	if open {
		_ = c.send(func(b []byte) []byte { return appendReset(b, id, why) })
	}
}

// drop takes a stream off the connection that is about to be reset; mu is held.
func (c *conn) drop(id uint32, cause error) {
	if st := c.streams[id]; st != nil {
		st.abandon(cause)
		c.forget(st)
	}
	c.recent = append(c.recent, id)
	if len(c.recent) > maxRecent {
		c.recent = append(c.recent[:0], c.recent[1:]...)
	}
}

// forget takes a stream off the connection; mu is held.
func (c *conn) forget(st *stream) {
	delete(c.streams, st.id)
	if st.over {
		c.over--
	}
	c.room.Broadcast()
	if c.backend != nil {
		c.backend.forgot(st)
		return
	}
	if len(c.streams) == 0 {
		c.renewed = time.Time{} // the time without a stream begins
		c.renew()
	}
}

// renew sets the deadline of reads: serve ends the connection when it passes
// without a stream. mu is held, so that the last word is the newest.
func (c *conn) renew() {
	now := time.Now()
	switch {
	case c.dead != nil: // linger has set it
	case c.leaving && len(c.streams) == 0:
		_ = c.nc.SetReadDeadline(now)
	case now.Sub(c.renewed) > renewEvery:
		c.renewed = now
		_ = c.nc.SetReadDeadline(now.Add(c.idle))
	}
}

// lastTaken returns what a GOAWAY names, of the peer's streams; mu is held.
func (c *conn) lastTaken() uint32 { return min(c.maxID, c.lastID) }

// announceEnd tells the client that the connection will end (section 6.8); one
// that still shakes hands hears it behind our SETTINGS.
func (c *conn) announceEnd() {
	_ = c.write(true, func(b []byte) []byte {
		if c.ending = true; !c.begun {
			return b
		}
		return appendGoAway(b, maxStreamID, noError, "")
	})
}

// leave ends the connection as Shutdown does: its client is asked to come again
// on another one.
func (c *conn) leave() {
	c.left.Do(func() {
		c.announceEnd()
		time.AfterFunc(stopGrace, c.endSoon) // harmless when the connection has ended
	})
}

// endSoon takes no more streams, and ends the connection with its last one.
func (c *conn) endSoon() {
	c.mu.Lock()
	c.leaving, c.lastID = true, c.lastTaken()
	last := c.lastID
	c.mu.Unlock()
	var begun bool
	_ = c.write(true, func(b []byte) []byte {
		if begun = c.begun; !begun {
			return b
		}
		return appendGoAway(b, last, noError, "")
	})
	if !begun {
		c.fail(errClientGone)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renew()
}
