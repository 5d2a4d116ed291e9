package h1

import (
	"errors"
	"io"
	"sync"
	"time"

	"anyedge/internal/message"
)

// A source is the content of a received request. It may be closed while it is
// being read.
type source struct {
	conn    *conn
	content content
	proceed func() // tells the client to send; nil: it does so unasked

	mu       sync.Mutex
	changed  sync.Cond // on reading
	reading  bool
	closed   bool
	complete bool // all of it was read
}

func newSource(c *conn, h *head, a *answer) *source {
	s := &source{conn: c, content: content{in: &c.in, chunked: h.frame.chunked, left: h.frame.length}}
	s.changed.L = &s.mu
	if h.minor > 0 && same(h.frame.expect, "100-continue") && c.in.buffered() == 0 {
		s.proceed = sync.OnceFunc(a.proceed)
	}
	_ = c.deadline(time.Time{}) // a dead connection shows when it is read
	return s
}

// Read reads from the client.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, errExchangeOver
	}
	s.reading = true
	s.mu.Unlock()
	if s.proceed != nil {
		s.proceed()
	}
	n, err := s.content.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	over := errors.Is(err, io.EOF)
	switch {
	case s.closed || err == nil || s.complete:
	case over: // the watch begins while the exchange still waits for this read
		s.conn.watch.start(time.Now())
	case s.conn.in.ended:
		s.conn.watch.lost() // the request will never be whole
	}
	s.reading = false
	s.complete = s.complete || over
	s.changed.Broadcast()
	return n, err
}

// trailer returns the trailer section, once Read has returned io.EOF.
func (s *source) trailer() message.Header { return s.content.trailer }

// over reports whether all of the content was read.
func (s *source) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

// Close makes a Read that is under way, and later ones, fail.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.close()
}

func (s *source) close() error {
	s.closed = true
	if s.reading {
		return s.conn.deadline(past)
	}
	return nil
}

// end closes s and waits until nobody reads any more.
func (s *source) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.close() // whoever reads ends, or the connection is dead
	for s.reading {
		s.changed.Wait()
	}
}
