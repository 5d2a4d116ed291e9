package h1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/wire"
)

const (
	keptBody = message.MiB // of a request's content, for later tries, unless the receiver calls Body.Limit

	// lingerTime and lingerBytes bound what is taken in behind the last answer: a
	// connection that is closed on unread bytes may take the answer with it.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 1 << 20

	// oneRecord is how many bytes crypto/tls sends as one record even at the start of
	// a connection, at least.
	oneRecord = 1000
)

var (
	errClientGone   = message.Ended("the client has gone")
	errExchangeOver = message.Ended("the exchange is over")
	errLate         = errors.New("the client has been silent for too long")
	errResting      = errors.New("the lookout waits for the client")
	past            = time.Unix(1, 0)
)

// A conn is a client's connection. What is not said to be otherwise belongs to
// the goroutine in serve.
type conn struct {
	server      *Server
	nc          net.Conn
	wire        *wire.Conn // nc, or what it is around
	secure      bool
	greeting    *message.Secure // what the TLS handshake said; nil: plain text
	peer, local netip.AddrPort
	in          reader
	scan        headScan // of the head that is awaited
	ready       bool     // the handshake is done
	watch       watch

	// Why serve left attend.
	next    *head // a request that has to be answered outside of it, in arena
	arena   *message.Arena
	refusal *refusal // instead of a request
	linger  bool     // the last answer is written

	mu      sync.Mutex // guards what follows, with the read deadline
	armed   time.Time  // the read deadline; zero: none
	due     time.Time  // what it is to be; armed may be earlier
	waiting bool       // for a request, or the TLS handshake before the first
	severed bool
	restAt  time.Time // when the lookout takes over the waiting
	resting bool      // it has: nobody serves the connection
	watched wire.Watching
	timer   *time.Timer // ends the rest when it is due; nil: c does not rest
}

func newConn(s *Server, c net.Conn) (*conn, error) {
	one := &conn{server: s, nc: c, wire: wire.Within(c)}
	_, one.secure = c.(*tls.Conn)
	if one.wire == nil {
		socket, ok := c.(wire.Socket)
		if !ok {
			return nil, fmt.Errorf("%T is neither a TCP connection nor around a wire.Conn", c)
		}
		var err error
		if one.wire, err = wire.New(socket); err != nil {
			return nil, err
		}
		one.nc = one.wire
	}
	one.wire.Pace(s.slowAfter, minRate)
	one.in.from = one.nc
	one.peer, one.local = message.AddrPort(c.RemoteAddr()), message.AddrPort(c.LocalAddr())
	one.watch.conn = one
	return one, nil
}

// run serves the connection until it rests or ends.
func (c *conn) run() {
	if !c.serve() {
		c.close()
		c.server.drop(c)
	}
}

// serve answers requests, and reports whether the connection rests; otherwise it
// has ended.
func (c *conn) serve() (rests bool) {
	defer func() {
		if v := recover(); v != nil {
			c.server.log.Error("panic while answering", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			c.sever()
		}
	}()
	if !c.ready && !c.begin() {
		return false
	}
	err := c.attend()
	for ; err == nil && c.next != nil; err = c.attend() {
		h := c.next
		c.next = nil
		if !c.exchange(h, c.arena) {
			break
		}
		c.expect(c.server.idle)
	}
	if errors.Is(err, errResting) { // it may be served by another goroutine already
		return true
	}
	if c.refusal != nil {
		c.refuse(c.refusal)
	}
	if c.linger {
		c.takeIn()
	}
	return false
}

// begin does the TLS handshake, if one is to be done, and waits for a request.
func (c *conn) begin() bool {
	if !c.handshake() {
		return false
	}
	c.ready = true
	c.expect(c.server.headerTimeout)
	return true
}

// attend answers requests without content until the connection ends, or until
// something came that must wait for the client otherwise.
func (c *conn) attend() error {
	for {
		err := c.wire.Attend(c.step)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if err := c.late(); err != nil {
			return err
		}
	}
}

// step reads and answers what is there, and reports whether attend is over.
func (c *conn) step() bool {
	for {
		raw, err := c.scan.next(&c.in, c.server.header, maxFields)
		switch {
		case err != nil:
			c.refusal = unread(err)
			return true
		case raw == nil:
			if c.in.buffered() > 0 {
				c.begun()
			}
			err := c.in.fill()
			if err == nil {
				continue
			}
			c.in.release()
			return !errors.Is(err, wire.ErrNothing)
		}
		c.scan = headScan{}
		c.came()
		arena := message.NewArena()
		h, bad := parseRequest(arena, arena.Copy(raw))
		switch {
		case bad != nil:
			c.refusal = bad
			return true
		case h.hasContent() || h.frame.protocol != "":
			c.next, c.arena = h, arena
			return true
		case !c.exchange(h, arena):
			return true
		}
		c.expect(c.server.idle)
	}
}

// handshake does that of TLS, if one is to be done.
func (c *conn) handshake() bool {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return true
	}
	if state := t.ConnectionState(); state.HandshakeComplete {
		c.greeting = message.SecureOf(state)
		return true
	}
	c.greet(c.server.headerTimeout)
	_ = c.nc.SetWriteDeadline(time.Now().Add(c.server.headerTimeout))
	if err := t.HandshakeContext(c.server.base); err != nil {
		c.server.log.Debug("TLS handshake failed", "peer", c.peer, "err", err)
		return false
	}
	c.greeting = message.SecureOf(t.ConnectionState())
	return c.nc.SetWriteDeadline(time.Time{}) == nil
}

// send writes b as one, however many TLS records it takes.
func (c *conn) send(b []byte) error {
	if !c.secure || len(b) < oneRecord {
		_, err := c.nc.Write(b)
		return err
	}
	c.wire.Gather()
	_, err := c.nc.Write(b)
	if failed := c.wire.Flush(); err == nil {
		err = failed
	}
	return err
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
	c.linger = a.write(res) == nil
}

// takeIn takes in what the client still sends, so that it can read the answer.
func (c *conn) takeIn() {
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

// exchange answers a request, whose memory it ends, and reports whether another
// one may follow.
func (c *conn) exchange(h *head, arena *message.Arena) bool {
	answered := false
	defer func() {
		if !answered { // a panic: nobody knows who else reads it
			arena.Forget()
		}
		arena.End()
	}()
	life := message.Part[message.Life](arena)
	life.Begin(arena)
	defer life.Cancel(errExchangeOver)
	a := message.Part[answer](arena)
	a.conn, a.minor, a.method = c, h.minor, h.method
	req := c.request(arena, h, a)
	var src *source
	c.watch.begin(life)
	defer c.watch.end()
	if h.hasContent() {
		src = newSource(c, h, a)
		defer src.end()
		req.Body = message.NewBody(src, h.frame.length, keptBody, src.trailer)
		defer req.Body.Close() //nolint:errcheck // it ends reads
	}
	c.watch.start(req.Received, src)
	res, err := c.server.handler.RoundTrip(life, req)
	answered = true
	a.endInterim()
	a.last = !h.keepAlive() || c.server.last() || src != nil && !src.over()
	if src != nil && src.late() {
		res.Close()
		c.refusal = refuse(408, RuleSlowContent, "the content came too slowly")
		return false
	}
	if err == nil {
		err = checkFinal(req, res)
	}
	if err != nil {
		if life.Err() != nil {
			c.sever()
			return false
		}
		c.server.log.Warn("request got no answer", "method", h.method, "target", h.target, "err", err)
		res = &message.Response{Status: 502}
	}
	defer res.Close()
	if res.Stream != nil {
		c.upgrade(life, a, res, req.Protocol)
		return false
	}
	a.last = a.last || res.Last
	if err := a.write(res); err != nil {
		c.server.log.Debug("answer broke off", "method", h.method, "target", h.target, "err", err)
		if f := c.server.refused; f != nil && errors.Is(err, wire.ErrSlow) {
			f(c.peer, res.Status, RuleSlowReader)
		}
		c.sever()
		return false
	}
	c.linger = a.last
	return !a.last
}

// request returns what the head says.
func (c *conn) request(arena *message.Arena, h *head, a *answer) *message.Request {
	req := message.Part[message.Request](arena)
	*req = message.Request{
		Version: message.HTTP1, Method: h.method, Scheme: "http", Authority: h.authority, Target: h.target,
		Protocol: h.frame.protocol, Header: h.header, Arena: arena,
		Peer: c.peer, Local: c.local, Received: time.Now(), Secure: c.greeting,
	}
	if c.secure {
		req.Scheme = "https"
	}
	if h.minor > 0 {
		if a.informs == nil {
			a.informs = a.inform
		}
		req.Inform = a.informs
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
	_ = c.deadline(time.Time{})
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
