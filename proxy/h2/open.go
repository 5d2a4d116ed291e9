package h2

import (
	"io"
	"slices"
	"time"

	"anyedge/internal/message"
)

// handleHeaders begins a header section (RFC 9113 section 6.2).
func (c *conn) handleHeaders(f frame) error {
	if f.stream == 0 {
		return connError{protocolError, "HEADERS without a stream"}
	}
	if err := f.unpad(); err != nil {
		return err
	}
	c.block = headerBlock{open: true, stream: f.stream, end: f.has(flagEndStream), bytes: c.block.bytes[:0]}
	return c.fragment(f)
}

func (c *conn) handleContinuation(f frame) error {
	if !c.block.open || f.stream == 0 {
		return connError{protocolError, "CONTINUATION of nothing"}
	}
	return c.fragment(f)
}

// fragment takes a part of a header section in.
func (c *conn) fragment(f frame) error {
	c.block.frames++
	if c.block.frames > maxFragments || len(c.block.bytes)+len(f.payload) > 2*c.header {
		return connError{enhanceYourCalm, "a header section without end"}
	}
	whole := f.payload
	if c.block.frames > 1 || !f.has(flagEndHeaders) {
		c.block.bytes = append(c.block.bytes, f.payload...)
		whole = c.block.bytes
	}
	if !f.has(flagEndHeaders) {
		return nil
	}
	c.block.open = false
	err := c.section(whole)
	if cap(c.block.bytes) > maxFrame { // one large section must not cost a connection its memory
		c.block.bytes = nil
	}
	return err
}

// section finds out what a header section is: a request, or trailers.
func (c *conn) section(b []byte) error {
	id := c.block.stream
	if c.backend == nil && id > c.maxID { // only this goroutine changes it
		st := newStream(c, id)
		err := c.decode(b, st.arena, &st.got)
		if err == nil {
			err = c.request(st)
		}
		if err != nil {
			st.arena.End()
		}
		return err
	}
	got := new(fields)
	if err := c.decode(b, nil, got); err != nil {
		return err
	}
	if c.backend != nil {
		return c.backend.section(id, c.block.end, got)
	}
	return c.trailers(id, got)
}

// request takes a request in, unless there are too many. With an error st has
// not begun.
func (c *conn) request(st *stream) error {
	if st.id%2 == 0 {
		return errEven
	}
	c.mu.Lock()
	c.control.count = 0
	c.maxID = st.id
	// A stream that is over for its client may have a handler that is about to end.
	refused := c.running-min(c.over, maxEnding) >= c.server.streams
	late := st.id > c.lastID
	flood := refused && !late && c.refusals.over(maxRefused)
	c.mu.Unlock()
	switch {
	case flood:
		return connError{enhanceYourCalm, "too many streams beyond those allowed at once"}
	case late:
		st.arena.End()
		return nil // it knows from the GOAWAY that nobody has seen it
	case refused:
		return streamError{st.id, refusedStream, "too many streams at once"}
	}
	return c.open(st)
}

// trailers takes the trailer section of a stream in.
func (c *conn) trailers(id uint32, got *fields) error {
	if id%2 == 0 {
		return errEven
	}
	end := c.block.end
	c.mu.Lock()
	c.control.count = 0
	defer c.mu.Unlock()
	st := c.streams[id]
	switch {
	case st == nil && slices.Contains(c.recent, id):
		return nil
	case st == nil, st.remoteEnded && st.said:
		return connError{streamClosed, errClosedAlreadyID}
	case st.remoteEnded:
		return streamError{id, streamClosed, "HEADERS behind the end of the stream"}
	case !end:
		return streamError{id, protocolError, "a second header section does not end the stream"}
	case st.declared >= 0 && st.received != st.declared:
		return streamError{id, protocolError, "the content is not as long as content-length says"}
	}
	trailer, err := got.trailers()
	if err != nil {
		return streamError{id, protocolError, err.Error()}
	}
	if st.trailer = trailer; st.source != nil {
		st.source.trailer = trailer
	}
	st.endRemote(io.EOF)
	st.readable.Broadcast()
	return nil
}

// newStream returns a stream that has not begun.
func newStream(c *conn, id uint32) *stream {
	arena := message.NewArena()
	st := message.Part[stream](arena)
	st.conn, st.id, st.arena = c, id, arena
	st.readable.L = &c.mu
	st.life.Begin(arena)
	return st
}

// open begins a stream and has it served. With an error it has not begun.
func (c *conn) open(st *stream) error {
	id, end := st.id, c.block.end
	st.uploads, st.large = !end, st.got.tooLarge
	if !st.large {
		if why := st.got.request(&st.head, end); why != nil {
			return requestError{streamError{id, protocolError, why.Error()}}
		}
	}
	st.recvWindow, st.width, st.declared, st.method = firstWindow, firstWindow, -1, st.got.method
	if !st.large && !st.head.extended {
		st.declared = st.head.length
	}
	if end {
		st.endRemote(io.EOF)
	}
	req := &st.head.req
	req.Arena, req.Peer, req.Local, req.Received, req.Scheme = st.arena, c.peer, c.local, time.Now(), "http"
	req.Secure = c.secure
	if c.secure != nil {
		req.Scheme = "https"
	}
	c.mu.Lock()
	if c.dead != nil {
		c.mu.Unlock()
		return c.dead
	}
	st.sendWindow = c.peerWindow
	c.streams[id] = st
	c.running++
	c.mu.Unlock()
	c.server.serving.Add(1)
	c.server.crew.Do(st)
	return nil
}

var errEven = connError{protocolError, "a client's stream has an even number"}

// keptBody is how much of a request's content is kept for later tries, unless the
// receiver calls Body.Limit.
const keptBody = message.MiB
