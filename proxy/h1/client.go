package h1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"anyedge/internal/message"
)

// Defaults of ClientConfig.
const (
	DefaultConnect        = time.Second
	DefaultResponseHeader = 30 * time.Second
	DefaultClientIdle     = 60 * time.Second
)

// Limits of a Client.
const (
	maxIdleConns      = 1024
	maxResponseHeader = int(256 * message.KiB)
	maxInterim        = 32          // interim answers to one request
	continueTimeout   = time.Second // for a 100 before the content is sent all the same
	grace             = time.Second // for an answer when the backend takes no more content, and for the last of it behind an answer
	keepAliveProbe    = 30 * time.Second
)

// ClientConfig says how one backend is asked. Zero durations mean the defaults.
type ClientConfig struct {
	Name           string        // of the backend, for errors; default Addr
	Addr           string        // HOST:PORT
	Connect        time.Duration // for a new connection
	ResponseHeader time.Duration // from the end of the request to the answer's header section
	Idle           time.Duration // of a pooled connection

	// Preamble appends what a connection for req begins with, before its first
	// request. A connection is used again only for requests with the same one. nil:
	// nothing.
	Preamble func(b []byte, req *message.Request) []byte
}

// A Client asks one backend.
type Client struct {
	to, addr       string
	responseHeader time.Duration
	dialer         net.Dialer
	preamble       func(b []byte, req *message.Request) []byte // nil: none
	pool           pool
}

// NewClient returns a client that has no connection yet.
func NewClient(cfg ClientConfig) *Client {
	return &Client{
		to: cmp.Or(cfg.Name, cfg.Addr), addr: cfg.Addr,
		responseHeader: cmp.Or(cfg.ResponseHeader, DefaultResponseHeader),
		dialer:         net.Dialer{Timeout: cmp.Or(cfg.Connect, DefaultConnect), KeepAlive: keepAliveProbe},
		preamble:       cfg.Preamble,
		pool:           pool{idle: cmp.Or(cfg.Idle, DefaultClientIdle)},
	}
}

// RoundTrip sends req and returns the final answer; interim ones go to
// req.Inform. Errors, also those of the answer's content, are *message.TryError.
//
// A backend may close a pooled connection while a request is on its way. The
// request is sent once more, on a new connection, when it is idempotent or no
// byte of it was written.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	if err := sendable(req); err != nil {
		return nil, &message.TryError{Sent: message.NothingSent, To: c.to, Err: err}
	}
	var (
		most   message.Sent         // that a try came to
		cause  error                // of its failure
		pooled = req.Protocol == "" // an upgrade keeps its connection: a new one, which is not stale
	)
	for {
		bc, fresh, err := c.connect(ctx, req, pooled)
		sent, again := message.NothingSent, false
		if err == nil {
			t := message.Part[try](req.Arena)
			t.client, t.conn, t.req, t.fresh = c, bc, req, fresh
			res, failure := t.run(ctx)
			if failure == nil {
				return res, nil
			}
			sent, again, err = t.sent(), !fresh && t.again(failure), failure
			t.over(false)
			if errors.Is(failure, errStale) && ctx.Err() == nil {
				continue // it was no try
			}
		}
		if sent >= most || ctx.Err() != nil {
			cause = because(ctx, err)
		}
		most = max(most, sent)
		if !again || ctx.Err() != nil {
			return nil, &message.TryError{Sent: most, To: c.to, Err: cause}
		}
		pooled = sent == message.NothingSent
	}
}

// sendable returns why req cannot be written as HTTP/1.
func sendable(req *message.Request) error {
	switch {
	case req.Method == "CONNECT":
		return errors.New("CONNECT cannot be forwarded")
	case req.Method == "" || !all(req.Method, isToken), req.Target == "" || !message.IsVisible(req.Target), !message.IsVisible(req.Authority), !all(req.Protocol, isValue):
		return errors.New("method, target, host or protocol have characters that no request has")
	case req.Protocol != "" && req.Body != nil:
		return errors.New("upgrade with content cannot be forwarded")
	}
	return nil
}

// because returns why ctx ended if it did, else err.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connect returns a connection that was pooled, if one may be, or a new one.
func (c *Client) connect(ctx context.Context, req *message.Request, pooled bool) (bc *backendConn, fresh bool, err error) {
	if ctx.Err() != nil {
		return nil, false, ctx.Err()
	}
	var preamble string
	if c.preamble != nil {
		preamble = string(c.preamble(nil, req))
	}
	if pooled {
		if bc := c.pool.get(preamble); bc != nil {
			return bc, false, nil
		}
	}
	nc, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, true, err
	}
	if preamble != "" {
		if _, err := io.WriteString(nc, preamble); err != nil { // a new connection takes it at once
			_ = nc.Close()
			return nil, true, err
		}
	}
	if bc, err = newBackendConn(nc.(*net.TCPConn)); err != nil {
		_ = nc.Close()
		return nil, true, err
	}
	bc.preamble = preamble
	return bc, true, nil
}

// Close closes idle connections; those in use are closed when their exchange
// ends.
func (c *Client) Close() { c.pool.close() }

// parseAnswer reads the head of an answer to a request of method (RFC 9112
// sections 4 to 6) into res. Its strings share memory with s, its fields are a's.
func parseAnswer(a *message.Arena, res *message.Response, s, method string) (f frame, minor int, err error) {
	minor, status, fields, err := parseStatus(s)
	if err != nil {
		return f, 0, err
	}
	*res = message.Response{Status: status, Length: -1}
	if res.Header, err = parseFields(a, fields); err != nil {
		return f, 0, err
	}
	if f, err = cutFrame(&res.Header, false); err != nil {
		return f, 0, err
	}
	switch {
	case f.chunked && minor == 0:
		return f, 0, errors.New("HTTP/1.0 has no Transfer-Encoding")
	case method == "HEAD" || status < 200 || status == 204 || status == 304:
		if f.length >= 0 && status >= 200 && status != 204 {
			res.Header.Add("Content-Length", f.lengthText)
		}
		f.chunked, f.length, res.Length = false, 0, 0
	case f.length >= 0:
		res.Length = f.length
	}
	return f, minor, nil
}

var errNoAnswer = errors.New("the answer is not HTTP/1")

// parseStatus reads the status line.
func parseStatus(s string) (minor, status int, fields string, err error) {
	const prefix = len("HTTP/1.1 200")
	if len(s) < prefix || s[:7] != "HTTP/1." || s[7] < '0' || s[7] > '9' || s[8] != ' ' {
		return 0, 0, "", errNoAnswer
	}
	for _, c := range []byte(s[9:prefix]) {
		if c < '0' || c > '9' {
			return 0, 0, "", errNoAnswer
		}
		status = status*10 + int(c-'0')
	}
	reason, fields, ok := strings.Cut(s[prefix:], "\r\n")
	if !ok || status < 100 || reason != "" && reason[0] != ' ' || !all(reason, isValue) || len(fields) < 2 {
		return 0, 0, "", errNoAnswer
	}
	return min(int(s[7]-'0'), 1), status, fields[:len(fields)-2], nil
}

// answerBody is the content of an answer; it gives its connection back at its
// end.
type answerBody struct {
	try     *try
	content content
	end     error
}

// Read fails with a *message.TryError.
func (b *answerBody) Read(p []byte) (int, error) {
	if b.end != nil {
		return 0, b.end
	}
	n, err := b.content.Read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.end = io.EOF
		b.try.over(b.content.over())
		if b.content.open && b.try.upload != nil && b.try.upload.reset() {
			b.end = b.broken(syscall.ECONNRESET)
		}
	default:
		b.end = b.broken(because(b.try.ctx, b.try.cause(err)))
		b.try.over(false)
	}
	return n, b.end
}

func (b *answerBody) broken(err error) error {
	return &message.TryError{Sent: message.Answered, To: b.try.client.to, Err: fmt.Errorf("the answer broke off: %w", err)}
}

// Close ends the connection when the content has not ended.
func (b *answerBody) Close() error {
	if b.end == nil {
		b.end = errExchangeOver
		b.try.over(b.content.over())
	}
	return nil
}

// Ready returns how many bytes Read gives without waiting, at least.
func (b *answerBody) Ready() int {
	if b.end != nil { // the connection may be another exchange's
		return 0
	}
	return b.content.ready()
}
