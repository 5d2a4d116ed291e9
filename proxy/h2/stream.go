package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"

	"anyedge/internal/message"
)

// A stream is one request and its answer, of a client's or to a backend. The connection's mutex guards what is
// not said to be otherwise.
type stream struct {
	conn   *conn
	call   *call // to a backend; nil: a client's
	id     uint32
	method string
	arena  *message.Arena
	life   *message.Life // of the exchange that it is

	sendWindow  int64
	recvWindow  int64
	width       int64 // of the window when it is whole
	remoteEnded bool
	localEnded  bool
	gone        bool // reset, or the connection has ended
	declared    int64
	received    int64

	readable sync.Cond // broadcast when there is something to read
	buf      []byte    // content that nobody has read yet
	end      error     // behind buf; nil: more comes
	closed   bool      // nobody will read
	unread   int64     // bytes that were read and not yet given back to the peer
	trailer  message.Header

	// Of the goroutine in serve and, until final, of whoever informs.
	amu   sync.Mutex
	final bool
	went  bool // a 100 was sent
}

// endRemote takes note that the peer sends no more; the mutex is held, or the
// stream not yet known.
func (st *stream) endRemote(err error) {
	st.remoteEnded = true
	if st.end == nil {
		st.end = err
	}
}

// abandon ends the stream; the mutex is held.
func (st *stream) abandon(cause error) {
	st.gone = true
	if st.end == nil {
		st.end = cause
	}
	if st.life != nil {
		st.life.Cancel(cause)
	}
	st.readable.Broadcast()
}

// serve answers the request; h is nil when its header section is too large.
func (st *stream) serve(h *head, content bool) {
	c := st.conn
	defer c.server.serving.Done()
	defer st.finish()
	defer func() {
		if v := recover(); v != nil {
			c.server.log.Error("panic while answering", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			st.reset(internalError)
		}
	}()
	if h == nil {
		_ = st.answer(&message.Response{Status: http.StatusRequestHeaderFieldsTooLarge})
		return
	}
	req := &h.req
	req.Inform = st.inform
	if content && !h.extended {
		src := &source{st: st}
		if h.expects {
			src.proceed = sync.OnceFunc(st.proceed)
		}
		req.Body = message.NewBody(src, h.length, keptBody, func() message.Header { return st.trailer })
		defer req.Body.Close() //nolint:errcheck // it ends reads
	}
	res, err := c.server.handler.RoundTrip(st.life, req)
	st.amu.Lock()
	st.final = true
	st.amu.Unlock()
	defer res.Close()
	switch {
	case err != nil && st.life.Err() != nil:
		st.reset(cancelled)
		return
	case err == nil && res.Stream == nil && (res.Status < 200 || res.Status > 999):
		err = fmt.Errorf("%d is not the status of a final answer", res.Status)
	}
	switch {
	case err != nil:
		c.server.log.Warn("request got no answer", "method", h.req.Method, "target", h.req.Target, "err", err)
		err = st.answer(&message.Response{Status: http.StatusBadGateway})
	case res.Stream != nil && h.extended:
		st.tunnel(res)
		return
	case res.Stream != nil || h.extended && res.Status/100 == 2:
		// As it is it would accept an upgrade that its maker has not, or that
		// nobody asked for.
		err = st.answer(&message.Response{Status: http.StatusBadGateway})
	default:
		if res.Last {
			c.leave()
		}
		err = st.answer(res)
	}
	if err != nil {
		c.server.log.Debug("answer broke off", "method", h.req.Method, "target", h.req.Target, "err", err)
		st.reset(internalError)
	}
}

// finish ends what is left of the stream.
func (st *stream) finish() {
	st.life.Cancel(errExchangeOver)
	defer st.arena.End()
	c := st.conn
	c.mu.Lock()
	c.running--
	c.wide -= st.width - firstWindow
	st.closed = true
	freed := c.giveBack(int64(len(st.buf)))
	st.buf = nil
	_, open := c.streams[st.id]
	early := open && st.localEnded && !st.remoteEnded
	if open && !early {
		c.resets.count = max(c.resets.count-1, 0)
		c.forget(st)
	}
	c.mu.Unlock()
	_ = c.updateWindows(0, freed, 0)
	if early { // the answer is whole without the rest of the content (section 8.1)
		st.reset(noError)
	}
}

// A source is the content of a request.
type source struct {
	st      *stream
	proceed func() // tells the client to send; nil: it does so unasked
}

// Read waits for content.
func (s *source) Read(p []byte) (int, error) {
	if s.proceed != nil {
		s.proceed()
	}
	return s.st.read(p)
}

// Close makes a Read that is under way, and later ones, fail.
func (s *source) Close() error {
	s.st.conn.mu.Lock()
	defer s.st.conn.mu.Unlock()
	s.st.closed = true
	s.st.readable.Broadcast()
	return nil
}

// read gives content out, and its room back to the peer.
func (st *stream) read(p []byte) (int, error) {
	c := st.conn
	c.mu.Lock()
	for len(st.buf) == 0 && st.end == nil && !st.closed {
		st.readable.Wait()
	}
	if st.closed || len(st.buf) == 0 {
		err := st.end
		if st.closed && err == nil {
			err = errExchangeOver
		}
		c.mu.Unlock()
		if errors.Is(err, errClientGone) {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	n := copy(p, st.buf)
	if st.buf = st.buf[n:]; len(st.buf) == 0 {
		st.buf = nil
	}
	var err error
	if len(st.buf) == 0 && errors.Is(st.end, io.EOF) {
		err = io.EOF
	}
	update := c.giveBack(int64(n))
	own := st.giveBack(int64(n))
	c.mu.Unlock()
	_ = c.updateWindows(st.id, update, own)
	return n, err
}

// inform sends an interim answer at once.
func (st *stream) inform(status int, h message.Header) {
	st.amu.Lock()
	defer st.amu.Unlock()
	if st.final || status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return
	}
	st.went = st.went || status == http.StatusContinue
	_ = st.headers(section{status: status, header: h}, false, true)
}

// proceed tells a client that waits for it to send its content, unless a 100 of
// the answerer already has.
func (st *stream) proceed() {
	st.amu.Lock()
	went := st.went
	st.amu.Unlock()
	if !went {
		st.inform(http.StatusContinue, nil)
	}
}
