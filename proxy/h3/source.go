package h3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/message"
)

// minRate is how fast a client has to send content, and to take an answer, in bytes
// a second, once the wait for it has taken Config.SlowAfter.
const minRate = 240

// atRate returns how long n bytes may take.
func atRate(n int64) time.Duration { return message.AtRate(n, minRate) }

var errSlow = errors.New("the content comes too slowly")

// A source is the content of a request. Whoever reads it does so from the stream.
type source struct {
	st      *stream // no business of anybody's once closed
	quic    *quic.Stream
	proceed func() // tells the client to send; nil: it does so unasked
	waited  time.Duration
	late    bool        // the read deadline has passed, or may have been set by Interrupt
	stopped atomic.Bool // by Interrupt
	closed  atomic.Bool
	mu      sync.Mutex // held while reading
}

// longAgo is a read deadline that ends a read at once.
var longAgo = time.Unix(1, 0)

// Read waits for content.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed.Load() {
		return 0, errExchangeOver
	}
	if s.proceed != nil {
		s.proceed()
	}
	n, err := s.read(p)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, message.ErrInterrupted) {
		err = s.fail(err)
	}
	return n, err
}

// read reads, as long as the content comes fast enough.
func (s *source) read(p []byte) (int, error) {
	in := &s.st.in
	for {
		slow := !in.here() && s.st.isPaced()
		began := time.Now()
		allowed := s.st.conn.cfg.SlowAfter + atRate(in.received) - s.waited
		switch {
		case slow:
			_ = s.quic.SetReadDeadline(began.Add(allowed))
		case s.late:
			_ = s.quic.SetReadDeadline(time.Time{})
		}
		s.late = slow
		// Interrupt and Close may have set their deadlines before this one.
		if s.closed.Load() {
			return 0, errExchangeOver
		}
		if s.stopped.Swap(false) {
			s.late = true
			return 0, message.ErrInterrupted
		}
		n, err := in.content(p)
		took := time.Since(began)
		s.waited += took
		switch {
		case !isTimeout(err), s.closed.Load(), slow && took >= allowed:
			return n, err
		}
		s.late = true // by Interrupt, maybe for a read before this one
	}
}

// isPaced reports whether the client has to send content at a rate. In a
// conversation it has not: the other side may be the one to speak. Another edge has
// its own clients to hurry.
func (st *stream) isPaced() bool {
	switch {
	case st.conn.crew == nil:
		return false
	case st.in.declared >= 0:
		return true
	}
	st.mu.Lock()
	answering := st.final
	st.mu.Unlock()
	return !answering && !strings.HasPrefix(st.req.Header.Get("Content-Type"), "application/grpc")
}

// fail returns what a reader learns of a failure, and ends what has to end.
func (s *source) fail(err error) error {
	st := s.st
	c := st.conn
	if bad, ok := errors.AsType[connError](err); ok {
		c.end(bad)
		return bad
	}
	if bad, ok := errors.AsType[streamError](err); ok {
		st.nothing = true
		c.refusedFor(bad)
		st.reset(bad.code)
		return bad
	}
	switch {
	case s.closed.Load():
		return errExchangeOver
	case isTimeout(err):
		c.refused(http.StatusRequestTimeout, RuleSlowContent)
		st.in.end = errSlow
		return errSlow
	}
	if _, ok := errors.AsType[*quic.StreamError](err); ok {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Interrupt makes the Read that is under way, or else the next one, return
// message.ErrInterrupted.
func (s *source) Interrupt() {
	s.stopped.Store(true)
	_ = s.quic.SetReadDeadline(longAgo)
}

// Close makes a Read that is under way, and later ones, fail. It returns when none
// is under way.
func (s *source) Close() error {
	if !s.closed.Swap(true) {
		_ = s.quic.SetReadDeadline(longAgo)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil
}
