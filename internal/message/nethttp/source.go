package nethttp

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// peekTime is how long the content of a GET over HTTP/3 may take to turn out
// to be none: a client sends the end of its stream right behind the head.
const peekTime = 5 * time.Millisecond

var errExchangeOver = errors.New("the exchange is over")

// A source is the content of a received request. Its Close ends a Read that is
// under way.
type source struct {
	body    io.ReadCloser
	proceed func() // tells the client to send; nil: it does so unasked

	peeked chan struct{} // closed when early and failed are there; nil: no peek
	early  []byte        // read before anybody asked
	failed error         // behind early

	mu     sync.Mutex
	ended  bool // body has returned an error
	closed bool
}

// newSource returns the content of r, nil when it has none.
func (x *exchange) newSource() *source {
	r := x.r
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 || extendedConnect(r) {
		return nil
	}
	s := &source{body: r.Body}
	if hasToken(r.Header["Expect"], "100-continue") && r.ProtoAtLeast(1, 1) {
		s.proceed = sync.OnceFunc(x.proceed)
	} else if r.ProtoMajor == 3 && r.ContentLength < 0 && seldomHasContent(r.Method) && s.empty() {
		return nil
	}
	return s
}

// seldomHasContent reports whether a request with that method most likely has
// no content, whatever its version can say about it.
func seldomHasContent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace:
		return true
	}
	return false
}

// empty reports whether the content ends within peekTime without a byte. What
// is read meanwhile is kept for Read.
func (s *source) empty() bool {
	s.peeked = make(chan struct{})
	go func() {
		defer close(s.peeked)
		b := make([]byte, 512)
		n, err := s.body.Read(b)
		s.early, s.failed = b[:n], err
	}()
	late := time.NewTimer(peekTime)
	defer late.Stop()
	select {
	case <-s.peeked:
		return len(s.early) == 0 && errors.Is(s.failed, io.EOF)
	case <-late.C:
		return false
	}
}

// Read reads from the client.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, errExchangeOver
	}
	s.mu.Unlock()
	if s.proceed != nil {
		s.proceed()
	}
	n, err := s.read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = s.ended || err != nil
	return n, err
}

// read returns what the peek got, then reads on.
func (s *source) read(p []byte) (int, error) {
	if s.peeked == nil {
		return s.body.Read(p)
	}
	<-s.peeked
	switch {
	case len(s.early) > 0:
		n := copy(p, s.early)
		s.early = s.early[n:]
		return n, nil
	case s.failed != nil:
		return 0, s.failed
	}
	return s.body.Read(p)
}

// Close makes a Read that is under way, and later ones, fail.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ended {
		s.closed = true
		return nil
	}
	s.closed = true
	return s.body.Close()
}
