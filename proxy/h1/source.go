package h1

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
)

// minRate is how fast a client has to send content, in bytes a second, once the
// wait for it has taken Config.SlowAfter.
const minRate = 240

// errSlow ends the reading of content that comes too slowly.
var errSlow = errors.New("the content comes too slowly")

// A source is the content of a received request. It may be closed while it is
// being read.
type source struct {
	conn    *conn
	content content
	answer  *answer
	expects bool // the client waits to be told to send

	got atomic.Int64 // bytes

	mu          sync.Mutex
	changed     sync.Cond // on reading
	waited      time.Duration
	due         time.Time // what the read under way has to give something by
	reading     bool
	closed      bool
	interrupted bool
	slow        bool
	complete    bool // all of it was read
}

func newSource(c *conn, h *head, a *answer) *source {
	s := &source{conn: c, answer: a, content: content{in: &c.in, chunked: h.frame.chunked, left: h.frame.length}}
	s.changed.L = &s.mu
	s.expects = h.minor > 0 && same(h.frame.expect, "100-continue") && c.in.buffered() == 0
	return s
}

// Read reads from the client.
func (s *source) Read(p []byte) (int, error) {
	began := time.Now()
	if err := s.begin(began); err != nil {
		return 0, err
	}
	if s.expects {
		s.expects = false
		s.answer.proceed()
	}
	n, err := s.content.Read(p)
	for n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && s.goesOn() {
		n, err = s.content.Read(p)
	}
	return n, s.ended(began, n, err)
}

// begin takes note of a read, which has its time.
func (s *source) begin(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errExchangeOver
	case s.interrupted:
		s.interrupted = false
		return message.ErrInterrupted
	}
	left, least := s.conn.server.slowAfter+message.AtRate(s.got.Load(), minRate)-s.waited, s.conn.server.slowAfter/5
	if left < -least {
		s.slow = true
		return errSlow
	}
	s.reading = true
	s.due = now.Add(max(left, least))
	s.conn.allow(s.due)
	return nil
}

// goesOn reports whether a read whose deadline has passed waits on: it was an older
// one.
func (s *source) goesOn() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed, s.interrupted:
		return false
	case time.Now().Before(s.due):
		return s.conn.deadline(s.due) == nil
	}
	s.slow = true
	return false
}

// ended takes note of what a read gave, and returns its error.
func (s *source) ended(began time.Time, n int, err error) error {
	s.got.Add(int64(n))
	lost := false
	defer func() {
		if lost { // the watch's lock is never taken under this one
			s.conn.watch.lost()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waited += time.Since(began)
	over := errors.Is(err, io.EOF)
	switch {
	case s.closed || err == nil || s.complete || over:
	case s.interrupted && errors.Is(err, os.ErrDeadlineExceeded):
		s.interrupted, err = false, message.ErrInterrupted
	case s.slow:
		err = errSlow
	case s.conn.in.ended:
		lost = true // the request will never be whole
	}
	s.reading = false
	s.complete = s.complete || over
	s.changed.Broadcast()
	return err
}

// Ready returns how many bytes Read gives without waiting, at least. It takes in
// what is there.
func (s *source) Ready() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading || s.closed || s.interrupted || s.complete || s.expects || s.content.failed != nil {
		return 0
	}
	if in := s.content.in; in.buffered() == 0 {
		_ = s.conn.wire.Attend(func() bool {
			_ = in.fill() // an error comes again
			return true
		})
	}
	return s.content.ready()
}

// Interrupt is message.Interrupter's.
func (s *source) Interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted = true; s.reading {
		_ = s.conn.deadline(past)
	}
}

// trailer returns the trailer section, once Read has returned io.EOF.
func (s *source) trailer() message.Header { return s.content.trailer }

// over reports whether all of the content was read.
func (s *source) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

// read returns how many bytes were read; 0 if there is no content.
func (s *source) read() int64 {
	if s == nil {
		return 0
	}
	return s.got.Load()
}

// late reports whether the content came too slowly.
func (s *source) late() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
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
