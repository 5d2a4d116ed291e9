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
	c.block.bytes = append(c.block.bytes, f.payload...)
	if c.block.frames++; c.block.frames > maxFragments || len(c.block.bytes) > 2*c.header {
		return connError{enhanceYourCalm, "a header section without end"}
	}
	if !f.has(flagEndHeaders) {
		return nil
	}
	c.block.open = false
	got, err := c.decode(c.block.bytes)
	if err != nil {
		return err
	}
	if c.backend != nil {
		return c.backend.section(c.block.stream, c.block.end, got)
	}
	return c.section(c.block.stream, c.block.end, got)
}

// section finds out what a header section is: a request, or trailers.
func (c *conn) section(id uint32, end bool, got *fields) error {
	if id%2 == 0 {
		return connError{protocolError, "a client's stream has an even number"}
	}
	c.mu.Lock()
	c.control.count = 0
	if id > c.maxID {
		c.maxID = id
		refused := c.running >= c.server.streams || len(c.streams) >= c.server.streams
		late := id > c.lastID
		flood := refused && !late && c.refusals.over(maxRefused)
		c.mu.Unlock()
		switch {
		case flood:
			return connError{enhanceYourCalm, "too many streams beyond those allowed at once"}
		case late:
			return nil // it knows from the GOAWAY that nobody has seen it
		case refused:
			return streamError{id, refusedStream, "too many streams at once"}
		}
		return c.open(id, end, got)
	}
	defer c.mu.Unlock()
	st := c.streams[id]
	switch {
	case st == nil && slices.Contains(c.recent, id):
		return nil
	case st == nil:
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
	st.trailer = trailer
	st.endRemote(io.EOF)
	st.readable.Broadcast()
	return nil
}

// open begins a stream and has it served.
func (c *conn) open(id uint32, end bool, got *fields) error {
	var h *head
	if !got.tooLarge {
		var err error
		if h, err = got.request(); err != nil {
			return streamError{id, protocolError, err.Error()}
		}
		if end && h.length > 0 && !h.extended {
			return streamError{id, protocolError, "content-length says more than nothing"}
		}
	}
	st := &stream{conn: c, id: id, recvWindow: firstWindow, width: firstWindow, declared: -1, method: got.method}
	st.readable.L = &c.mu
	st.arena = message.NewArena()
	st.life = message.Part[message.Life](st.arena)
	st.life.Begin(st.arena)
	if h != nil {
		st.declared = h.length
		if h.extended {
			st.declared = -1
		}
	}
	if end {
		st.endRemote(io.EOF)
	}
	c.mu.Lock()
	if c.dead != nil {
		c.mu.Unlock()
		st.arena.End()
		return c.dead
	}
	st.sendWindow = c.peerWindow
	c.streams[id] = st
	c.running++
	c.mu.Unlock()
	if h != nil {
		h.req.Arena = st.arena
		h.req.Peer, h.req.Local, h.req.Received = c.peer, c.local, time.Now()
		h.req.Scheme, h.req.Secure = "http", c.secure
		if c.secure != nil {
			h.req.Scheme = "https"
		}
	}
	c.server.serving.Add(1)
	go st.serve(h, !end)
	return nil
}

// keptBody is how much of a request's content is kept for later tries, unless the
// receiver calls Body.Limit.
const keptBody = message.MiB
