package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"anyedge/internal/message"
)

const (
	keptBody = message.MiB // of a request's content, for later tries, unless the receiver calls Body.Limit

	// lingerTime and lingerBytes bound what is taken in behind the last answer: a
	// connection that is closed on unread bytes may take the answer with it.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20
)

var (
	errClientGone   = errors.New("the client has gone")
	errExchangeOver = errors.New("the exchange is over")
	past            = time.Unix(1, 0)
)

// A conn is a client's connection. What is not said to be otherwise belongs to
// the goroutine in serve.
type conn struct {
	server      *Server
	nc          net.Conn
	secure      bool
	peer, local netip.AddrPort
	in          reader
	watch       watch

	mu      sync.Mutex // guards what follows, with the read deadline
	waiting bool       // for a request, or the TLS handshake before the first
	severed bool
}

func newConn(s *Server, c net.Conn) *conn {
	one := &conn{server: s, nc: c, in: reader{from: c}}
	one.peer, one.local = message.AddrPort(c.RemoteAddr()), message.AddrPort(c.LocalAddr())
	one.watch.conn = one
	return one
}

// serve answers requests until the connection ends.
func (c *conn) serve() {
	defer c.close()
	defer func() {
		if v := recover(); v != nil {
			c.server.log.Error("panic while answering", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			c.sever()
		}
	}()
	if !c.handshake() {
		return
	}
	for wait := c.server.headerTimeout; c.await(wait); wait = c.server.idle {
		raw, err := c.head()
		if err != nil {
			if bad := unread(err); bad != nil {
				c.refuse(bad)
			}
			return
		}
		h, bad := parseRequest(string(raw))
		if bad != nil {
			c.refuse(bad)
			return
		}
		if !c.exchange(h) {
			return
		}
	}
}

// handshake does that of TLS, if one is to be done.
func (c *conn) handshake() bool {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return true
	}
	c.secure = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.server.headerTimeout))
	err := c.wait(c.server.headerTimeout, func() error { return t.HandshakeContext(c.server.base) })
	if err != nil {
		c.server.log.Debug("TLS handshake failed", "peer", c.peer, "err", err)
		return false
	}
	return c.nc.SetDeadline(time.Time{}) == nil
}

// await waits for the first bytes of a request, and reports whether they came.
func (c *conn) await(d time.Duration) bool {
	var err error
	if c.in.buffered() == 0 {
		c.in.shrink()
		err = c.wait(d, c.in.fill)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return err == nil && !c.severed
}

// wait has read wait for the client, at most for a time or until the server
// closes connections without a request.
func (c *conn) wait(d time.Duration, read func() error) error {
	c.mu.Lock()
	c.waiting = true
	err := c.nc.SetReadDeadline(c.server.until(time.Now().Add(d)))
	c.mu.Unlock()
	if err == nil {
		err = read()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = false
	return err
}

// until returns t, or when the server closes connections without a request.
func (s *Server) until(t time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopping.IsZero() && s.stopping.Before(t) {
		return s.stopping
	}
	return t
}

// hurry ends the wait for a request at a time.
func (c *conn) hurry(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting {
		_ = c.nc.SetReadDeadline(t)
	}
}

// sever ends the connection so that nothing unfinished looks complete: without
// TLS's farewell, and with a reset.
func (c *conn) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.severed {
		return
	}
	c.severed = true
	raw := c.nc
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(interface{ SetLinger(sec int) error }); ok {
		_ = t.SetLinger(0)
	}
	_ = raw.Close()
}

// close ends the connection; nobody reads from it any more.
func (c *conn) close() {
	_ = c.nc.Close()
	c.in.r = c.in.w
	c.in.release()
}

// deadline sets that of reads; zero for none.
func (c *conn) deadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nc.SetReadDeadline(t)
}

// head reads a request's head. Only a client that sends it in pieces is worth a
// deadline of its own.
func (c *conn) head() ([]byte, error) {
	limit := c.server.header
	if !c.in.wholeHead() {
		if err := c.deadline(time.Now().Add(c.server.headerTimeout)); err != nil {
			return nil, err
		}
	}
	return c.in.head(limit, maxFields)
}

// refuse answers what is no request, and ends the connection.
func (c *conn) refuse(bad *refusal) {
	c.server.log.Debug("request refused", "peer", c.peer, "status", bad.status, "rule", bad.rule, "err", bad.why)
	if f := c.server.refused; f != nil {
		f(c.peer, bad.status, bad.rule)
	}
	text := bad.why.Error() + "\n"
	res := &message.Response{
		Status: bad.status, Length: int64(len(text)), Body: message.Content(text),
		Header: message.Header{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}, {Name: "X-Content-Type-Options", Value: "nosniff"}},
	}
	a := answer{conn: c, minor: 1, last: true}
	if a.write(res) == nil {
		c.linger()
	}
}

// linger takes in what the client still sends, so that it can read the answer.
func (c *conn) linger() {
	if c.server.base.Err() != nil || message.CloseWrite(c.nc) != nil {
		return
	}
	if t, ok := c.nc.(*tls.Conn); ok {
		_ = message.CloseWrite(t.NetConn())
	}
	if c.deadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.CopyN(io.Discard, c.nc, lingerBytes)
	}
}

// exchange answers a request, and reports whether another one may follow.
func (c *conn) exchange(h *head) bool {
	ctx, cancel := context.WithCancelCause(c.server.base)
	defer cancel(errExchangeOver)
	a := &answer{conn: c, minor: h.minor, method: h.method}
	req := c.request(h, a)
	var src *source
	c.watch.begin(cancel)
	if h.hasContent() {
		src = newSource(c, h, a)
		req.Body = message.NewBody(src, h.frame.length, keptBody, src.trailer)
		defer src.end()
	} else {
		c.watch.start()
	}
	defer c.watch.end()
	res, err := c.server.handler.RoundTrip(ctx, req)
	a.endInterim()
	if req.Body != nil {
		defer req.Body.Close() //nolint:errcheck // it ends reads
	}
	a.last = !h.keepAlive() || c.server.last() || src != nil && !src.over()
	if err == nil {
		err = checkFinal(req, res)
	}
	if err != nil {
		if ctx.Err() != nil {
			c.sever()
			return false
		}
		c.server.log.Warn("request got no answer", "method", h.method, "target", h.target, "err", err)
		res = &message.Response{Status: 502}
	}
	defer res.Close()
	if res.Stream != nil {
		c.upgrade(ctx, a, res, req.Protocol)
		return false
	}
	a.last = a.last || res.Last
	if err := a.write(res); err != nil {
		c.server.log.Debug("answer broke off", "method", h.method, "target", h.target, "err", err)
		c.sever()
		return false
	}
	c.watch.end()
	if req.Body != nil {
		_ = req.Body.Close()
	}
	if src != nil {
		src.end()
	}
	if a.last || !c.watch.clean() && c.in.buffered() == 0 {
		c.linger()
		return false
	}
	return true
}

// request returns what the head says.
func (c *conn) request(h *head, a *answer) *message.Request {
	req := &message.Request{
		Version: message.HTTP1, Method: h.method, Scheme: "http", Authority: h.authority, Target: h.target,
		Protocol: h.frame.protocol, Header: h.header,
		Peer: c.peer, Local: c.local, Received: time.Now(),
	}
	if c.secure {
		req.Scheme = "https"
	}
	if h.minor > 0 {
		req.Inform = a.inform
	}
	return req
}

// checkFinal closes res when it cannot be the final answer to req.
func checkFinal(req *message.Request, res *message.Response) error {
	switch {
	case res.Stream != nil && req.Protocol == "":
		res.Close()
		return errors.New("a stream is no answer to a request without upgrade")
	case res.Stream == nil && (res.Status < 200 || res.Status > 999):
		res.Close()
		return fmt.Errorf("%d is not the status of a final answer", res.Status)
	}
	return nil
}

// upgrade answers with a byte stream, and pipes until it ends.
func (c *conn) upgrade(ctx context.Context, a *answer, res *message.Response, protocol string) {
	c.watch.end()
	if err := a.switching(res, protocol); err != nil {
		c.sever()
		return
	}
	message.Pipe(ctx, &stream{c}, res.Stream)
}

// A stream is a client's connection behind a 101.
type stream struct{ c *conn }

// Read returns what came behind the request first.
func (s *stream) Read(p []byte) (int, error) { return s.c.in.read(p) }

// Write sends p.
func (s *stream) Write(p []byte) (int, error) { return s.c.nc.Write(p) }

// CloseWrite ends the writing half.
func (s *stream) CloseWrite() error { return message.CloseWrite(s.c.nc) }

// Close ends both halves.
func (s *stream) Close() error { return s.c.nc.Close() }
