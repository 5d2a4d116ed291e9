package nethttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// drainTime is how long a server waits for the rest of a request's content
// after it has answered, so that the connection can be used again.
const drainTime = 500 * time.Millisecond

var errExchangeOver = errors.New("the exchange is over")

// A source is the content of a received request. Its Close ends a Read that is
// under way, which the bodies of HTTP/1 servers cannot do themselves.
type source struct {
	body     io.ReadCloser
	deadline func(time.Time) error // of reads on the connection; nil: body.Close ends a Read
	proceed  func()                // tells the client to send; nil: it does so unasked

	mu      sync.Mutex
	reading bool
	ended   bool // body has returned an error
	closed  bool
}

// newSource returns the content of r, nil when it has none.
func (x *exchange) newSource() *source {
	r := x.r
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 || extendedConnect(r) {
		return nil
	}
	s := &source{body: r.Body}
	if r.ProtoMajor == 1 {
		s.deadline = x.rc.SetReadDeadline
	}
	if hasToken(r.Header["Expect"], "100-continue") && r.ProtoAtLeast(1, 1) {
		s.proceed = sync.OnceFunc(x.proceed)
	}
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
	n, err := s.body.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading = false
	s.ended = s.ended || err != nil
	return n, err
}

// Close makes a Read that is under way, and later ones, fail. The content that
// an HTTP/1 client still sends is left to the server to drain.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ended {
		s.closed = true
		return nil
	}
	s.closed = true
	switch {
	case s.deadline == nil:
		return s.body.Close()
	case s.reading:
		return s.deadline(time.Unix(1, 0))
	}
	return s.deadline(time.Now().Add(drainTime))
}
