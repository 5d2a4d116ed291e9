package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"

	"anyedge/internal/message"
)

// A stream is one request and its answer, of a client's or to a backend. The
// connection's mutex guards what is not said to be otherwise.
type stream struct {
	conn    *conn
	call    *call // to a backend; nil: a client's
	id      uint32
	method  string
	uploads bool           // content comes
	got     fields         // its header section
	head    head           // made of it
	large   bool           // the header section is too large: head is not the request's
	arena   *message.Arena // of the exchange that the stream is, which the stream is in; nil: a call's
	life    message.Life

	sendWindow  int64
	recvWindow  int64
	width       int64 // of the window when it is whole
	remoteEnded bool
	localEnded  bool
	said        bool // that we send no more; localEnded follows when it is written
	over        bool // for its peer, who may open another one in its place
	gone        bool // reset, or the connection has ended
	declared    int64
	received    int64

	readable sync.Cond // broadcast when there is something to read
	buf      []byte    // content that nobody has read yet
	end      error     // behind buf; nil: more comes
	closed   bool      // nobody will read
	unread   int64     // bytes that were read and not yet given back to the peer
	trailer  message.Header
	source   *source // nil: nobody reads the content by it

	// Of the goroutine in serve and, until final, of whoever informs.
	amu   sync.Mutex
	final bool
	went  bool // a 100 was sent

	informs func(int, message.Header) // the method inform; made once
}

// Reset makes st ready for another exchange in the same arena.
func (st *stream) Reset() {
	cookies := st.got.cookies
	clear(cookies)
	*st = stream{informs: st.informs, got: fields{cookies: cookies[:0]}}
}

// endRemote takes note that the peer sends no more; the mutex is held, or the
// stream not yet known.
func (st *stream) endRemote(err error) {
	st.remoteEnded = true
	if st.end == nil {
		st.end = err
	}
	st.settled()
}

// settled takes note that both sides have said their last; mu is held, or the
// stream not yet known.
func (st *stream) settled() {
	if st.said && st.remoteEnded && !st.over && !st.gone {
		st.over = true
		st.conn.over++
	}
}

// abandon ends the stream; the mutex is held.
func (st *stream) abandon(cause error) {
	st.gone = true
	if st.end == nil {
		st.end = cause
	}
	st.life.Cancel(cause)
	st.readable.Broadcast()
}

// serve answers the request.
func (st *stream) serve() {
	c := st.conn
	defer c.server.serving.Done()
	defer st.finish()
	defer func() {
		if v := recover(); v != nil {
			c.server.log.Error("panic while answering", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			st.reset(internalError)
		}
	}()
	if st.large {
		c.refuse(http.StatusRequestHeaderFieldsTooLarge, RuleHeaderSize)
		_ = st.answer(&message.Response{Status: http.StatusRequestHeaderFieldsTooLarge})
		return
	}
	h := &st.head
	req := &h.req
	if st.informs == nil {
		st.informs = st.inform
	}
	req.Inform = st.informs
	if st.uploads && !h.extended {
		src := &source{conn: c, st: st}
		if h.expects {
			src.proceed = sync.OnceFunc(st.proceed)
		}
		c.mu.Lock()
		st.source = src
		src.trailer = st.trailer // that came already
		c.mu.Unlock()
		req.Body = message.NewBody(src, h.length, keptBody, src.trailers)
		defer req.Body.Close() //nolint:errcheck // it ends reads
	}
	res, err := c.server.handler.RoundTrip(&st.life, req)
	st.amu.Lock()
	st.final = true
	st.amu.Unlock()
	defer res.Close()
	st.deliver(res, err)
}

// deliver sends what the handler came to.
func (st *stream) deliver(res *message.Response, err error) {
	c, h := st.conn, &st.head
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
	if st.source != nil {
		st.source.st = nil
	}
	_, open := c.streams[st.id]
	early := open && st.localEnded && !st.remoteEnded
	if open && !early {
		c.resets.count = max(c.resets.count-1, 0)
		c.forget(st)
	}
	c.mu.Unlock()
	_ = c.updateWindows(c.send, 0, freed, 0)
	if early { // the answer is whole without the rest of the content (section 8.1)
		st.reset(noError)
	}
}

// A source is the content of a request. It may outlive the stream: whoever asks it
// then finds that the exchange is over.
type source struct {
	conn        *conn
	st          *stream // nil once the exchange is over; guarded by conn's mutex, with interrupted
	interrupted bool
	proceed     func() // tells the client to send; nil: it does so unasked
	trailer     message.Header
}

// Read waits for content.
func (s *source) Read(p []byte) (int, error) {
	if s.proceed != nil {
		s.proceed()
	}
	s.conn.mu.Lock()
	st := s.st
	for st != nil && st.waits() && !s.interrupted {
		st.readable.Wait()
		st = s.st
	}
	switch {
	case st == nil:
		s.conn.mu.Unlock()
		return 0, errExchangeOver
	case s.interrupted:
		s.interrupted = false
		s.conn.mu.Unlock()
		return 0, message.ErrInterrupted
	}
	return st.take(p)
}

// Ready returns how many bytes Read gives without waiting.
func (s *source) Ready() int {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.st == nil {
		return 0
	}
	return len(s.st.buf)
}

// Interrupt is message.Interrupter's.
func (s *source) Interrupt() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.interrupted = true; s.st != nil {
		s.st.readable.Broadcast()
	}
}

// trailers returns the trailer section, once Read has returned io.EOF.
func (s *source) trailers() message.Header { return s.trailer }

// Close makes a Read that is under way, and later ones, fail.
func (s *source) Close() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.st != nil {
		s.st.closed = true
		s.st.readable.Broadcast()
	}
	return nil
}

// read waits for content and gives it out.
func (st *stream) read(p []byte) (int, error) {
	st.conn.mu.Lock()
	for st.waits() {
		st.readable.Wait()
	}
	return st.take(p)
}

// waits reports whether there is nothing to read yet; mu is held.
func (st *stream) waits() bool { return len(st.buf) == 0 && st.end == nil && !st.closed }

// take gives content out, and its room back to the peer. It unlocks mu.
func (st *stream) take(p []byte) (int, error) {
	c := st.conn
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
	id, own := st.id, st.giveBack(int64(n))
	c.mu.Unlock()
	_ = c.updateWindows(c.send, id, update, own)
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
	_ = st.headers(section{status: strconv.Itoa(status), header: h}, false, true)
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
