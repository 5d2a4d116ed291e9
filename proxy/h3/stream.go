package h3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"anyedge/internal/message"
	"anyedge/proxy/h3/qpack"
)

const (
	// peekTime is how long the content of a GET may take to turn out to be none: a
	// client sends the end of its stream right behind the head.
	peekTime = 5 * time.Millisecond
	// keptBody is how much of a request's content is kept for later tries, unless the
	// receiver calls Body.Limit.
	keptBody = message.MiB
)

var (
	errClientGone   = errors.New("the client has gone")
	errExchangeOver = errors.New("the exchange is over")
)

// A stream is one request and its answer. It is a part of the exchange's arena.
type stream struct {
	conn  *Conn
	quic  *quic.Stream
	arena *message.Arena
	in    incoming
	head  head
	req   message.Request
	ctx   context.Context //nolint:containedctx // of the exchange that it is
	out   output

	section qpack.Section // as fields below, kept for the next exchange
	fields  fields
	inform  func(int, message.Header)
	trailer func() message.Header

	nothing bool // for its client's doing it came to nothing
	status  int  // of the answer
	ready   bool // the answer is whole, and waits in out
	whole   bool // the answer was sent, with its end

	mu    sync.Mutex // guards what follows, and the writing of interim answers
	final bool       // no interim answer may be sent any more
	went  bool       // a 100 was sent
}

// Reset makes st ready for the next exchange.
func (st *stream) Reset() {
	*st = stream{section: st.section, inform: st.inform, trailer: st.trailer}
}

// serveStream answers the request on s.
func (c *Conn) serveStream(s *quic.Stream) {
	arena := message.NewArena()
	st := message.Part[stream](arena)
	st.conn, st.quic, st.arena, st.ctx = c, s, arena, s.Context()
	if st.inform == nil {
		st.inform, st.trailer = st.interim, func() message.Header { return st.in.trailer }
	}
	st.in = incoming{
		reader: reader{src: s}, section: &st.section, limit: int(c.cfg.Header), most: c.cfg.Fields,
		fromClient: true, declared: -1,
	}
	defer st.leave()
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("panic while answering", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			st.reset(internalError)
		}
	}()
	if err := st.readHead(); err != nil {
		st.refuse(err)
		return
	}
	st.serve()
}

// readHead reads the header section, and finds out whether there is content.
func (st *stream) readHead() error {
	c := st.conn
	_ = st.quic.SetReadDeadline(time.Now().Add(c.cfg.HeaderTimeout))
	if err := st.in.head(&st.fields, st.arena); err != nil {
		return err
	}
	_ = st.quic.SetReadDeadline(time.Time{})
	var err error
	if st.head, err = st.fields.request(&st.req); err != nil {
		return streamError{messageError, err.Error()}
	}
	st.req.Arena, st.req.Inform = st.arena, st.inform
	st.req.Peer, st.req.Local, st.req.Received = c.peer(), message.AddrPort(c.quic.LocalAddr()), time.Now()
	if st.fields.method == http.MethodConnect {
		st.in.tunnel = true
	} else {
		st.in.declared = st.head.length
	}
	if err := st.takeEarly(); err != nil {
		return err
	}
	st.req.Secure = c.greeting()
	return st.findContent()
}

// findContent makes the request's content ready, unless it has none.
func (st *stream) findContent() error {
	if st.head.extended {
		return nil
	}
	empty, err := st.isEmpty()
	if err != nil || empty {
		return err
	}
	src := &source{st: st, quic: st.quic}
	if st.head.expects {
		src.proceed = sync.OnceFunc(st.proceed)
	}
	st.req.Body = message.NewBody(src, st.in.declared, keptBody, st.trailer)
	return nil
}

// isEmpty reports whether the request has no content. Where its form does not say
// so, the end of the stream does, which comes with the head or soon after.
func (st *stream) isEmpty() (bool, error) {
	in := &st.in
	if in.over() {
		if in.declared > 0 {
			return false, errContentLength
		}
		return true, nil
	}
	if in.declared > 0 || in.declared < 0 && !seldomHasContent(st.req.Method) || st.head.expects {
		return false, nil
	}
	_ = st.quic.SetReadDeadline(time.Now().Add(peekTime))
	err := in.peek()
	_ = st.quic.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, io.EOF), isTimeout(err) && in.declared == 0:
		return true, nil
	case isTimeout(err):
		return false, nil
	case err == nil && in.declared == 0 && in.kind == frameData && in.left > 0:
		return false, errContentLength
	}
	return false, err
}

// seldomHasContent reports whether a request with that method most likely has no
// content.
func seldomHasContent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete, http.MethodTrace:
		return true
	}
	return false
}

// refuse ends the stream of a request that could not be read.
func (st *stream) refuse(err error) {
	c := st.conn
	st.nothing = true
	if bad, ok := errors.AsType[connError](err); ok {
		c.end(bad)
		return
	}
	if bad, ok := errors.AsType[streamError](err); ok {
		c.log.Debug("stream ended", "peer", c.peer(), "err", bad)
		c.refusedFor(bad)
		st.reset(bad.code)
		return
	}
	var status int
	var rule string
	switch {
	case errors.Is(err, qpack.ErrTooLarge):
		status, rule = http.StatusRequestHeaderFieldsTooLarge, RuleHeaderSize
	case errors.Is(err, errEarly):
		status, rule = http.StatusTooEarly, RuleEarlyData
	case isTimeout(err):
		status, rule = http.StatusRequestTimeout, RuleSlowHeader
	default:
		st.reset(requestCancelled)
		return
	}
	c.refused(status, rule)
	_ = st.answer(&message.Response{Status: status})
}

// serve has the request answered.
func (st *stream) serve() {
	c := st.conn
	if st.head.extended {
		// Ending our direction of the stream, which its context is about, does not
		// end the exchange.
		var cancel context.CancelFunc
		st.ctx, cancel = context.WithCancel(c.quic.Context())
		defer cancel()
		ours := st.quic.Context()
		defer context.AfterFunc(ours, func() {
			if !errors.Is(context.Cause(ours), quic.ErrStreamClosed) {
				cancel()
			}
		})()
	}
	if st.req.Body != nil {
		defer st.req.Body.Close() //nolint:errcheck // it ends reads
	}
	res, err := c.handler.RoundTrip(st.ctx, &st.req)
	st.mu.Lock()
	st.final = true
	st.mu.Unlock()
	defer res.Close()
	switch {
	case err != nil && st.ctx.Err() != nil:
		st.nothing = true
		st.reset(requestCancelled)
		return
	case err == nil && res.Stream == nil && (res.Status < 200 || res.Status > 999):
		err = fmt.Errorf("%d is not the status of a final answer", res.Status)
	}
	switch {
	case err != nil:
		c.log.Warn("request got no answer", "method", st.req.Method, "target", st.req.Target, "err", err)
		err = st.answer(&message.Response{Status: http.StatusBadGateway})
	case res.Stream != nil && st.head.extended:
		st.tunnel(res)
		return
	case res.Stream != nil || st.head.extended && res.Status/100 == 2:
		// As it is it would accept an upgrade that its maker has not, or that nobody
		// asked for.
		err = st.answer(&message.Response{Status: http.StatusBadGateway, Header: res.Header})
	default:
		if res.Last {
			c.leave()
		}
		err = st.answer(res)
	}
	if err != nil {
		c.log.Debug("answer broke off", "method", st.req.Method, "target", st.req.Target, "err", err)
		st.nothing = errors.Is(err, errClientGone)
		st.reset(internalError)
	}
}

// reset ends both directions of the stream.
func (st *stream) reset(why code) {
	st.quic.CancelRead(quic.StreamErrorCode(why))
	st.quic.CancelWrite(quic.StreamErrorCode(why))
}

// leave ends the exchange.
func (st *stream) leave() {
	if st.ready {
		st.conn.deliver(st)
		return
	}
	st.finish()
}

// finish ends what is left of the stream. Nobody reads its content any more.
func (st *stream) finish() {
	if st.whole && !st.in.over() { // the answer is whole without the rest of the content (section 4.1)
		st.quic.CancelRead(quic.StreamErrorCode(noError))
	}
	st.in.drop()
	st.out.drop()
	st.conn.over(st.quic, st.nothing)
	st.arena.End()
}

// interim sends an interim answer at once.
func (st *stream) interim(status int, h message.Header) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.final || status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return
	}
	st.went = st.went || status == http.StatusContinue
	st.out.head(section{status: status, header: h})
	_ = st.flush()
}

// proceed tells a client that waits for it to send its content, unless a 100 of the
// answerer already has.
func (st *stream) proceed() {
	st.mu.Lock()
	went := st.went
	st.mu.Unlock()
	if !went {
		st.interim(http.StatusContinue, nil)
	}
}
