package h3

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/quic-go"
)

// How slow content of a known length may come: after slowGrace of waiting it has to
// bring slowRate bytes for each second.
const (
	slowGrace = 5 * time.Second
	slowRate  = 240
)

var errSlow = errors.New("the content comes slower than 240 bytes a second")

// A source is the content of a request. Whoever reads it does so from the stream.
type source struct {
	st      *stream // no business of anybody's once closed
	quic    *quic.Stream
	proceed func() // tells the client to send; nil: it does so unasked
	waited  time.Duration
	closed  atomic.Bool
	mu      sync.Mutex // held while reading
}

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
	if err != nil && !errors.Is(err, io.EOF) {
		err = s.fail(err)
	}
	return n, err
}

// read reads, as long as the content comes fast enough.
func (s *source) read(p []byte) (int, error) {
	in := &s.st.in
	if in.declared < 0 || in.r < in.w { // it may be a conversation, or it is here
		return in.content(p)
	}
	began := time.Now()
	allowed := slowGrace + time.Duration(in.received)*time.Second/slowRate - s.waited
	_ = s.quic.SetReadDeadline(began.Add(allowed))
	if s.closed.Load() { // Close has set its deadline before this one
		return 0, errExchangeOver
	}
	n, err := in.content(p)
	s.waited += time.Since(began)
	return n, err
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
		c.refused(0, ruleOf(bad))
		st.reset(bad.code)
		return bad
	}
	switch {
	case s.closed.Load():
		return errExchangeOver
	case isTimeout(err):
		c.refused(http.StatusRequestTimeout, RuleSlowBody)
		st.in.end = errSlow
		return errSlow
	}
	if _, ok := errors.AsType[*quic.StreamError](err); ok {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close makes a Read that is under way, and later ones, fail. It returns when none
// is under way.
func (s *source) Close() error {
	if !s.closed.Swap(true) {
		_ = s.quic.SetReadDeadline(time.Unix(1, 0))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return nil
}
