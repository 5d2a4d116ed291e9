package h1

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
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
	keepAliveProbe    = 30 * time.Second
)

// ClientConfig says how one backend is asked. Zero durations mean the defaults.
type ClientConfig struct {
	Name           string        // of the backend, for errors; default Addr
	Addr           string        // HOST:PORT
	Connect        time.Duration // for a new connection
	ResponseHeader time.Duration // from the end of the request to the answer's header section
	Idle           time.Duration // of a pooled connection
}

// A Client asks one backend.
type Client struct {
	to, addr       string
	responseHeader time.Duration
	dialer         net.Dialer
	pool           pool
}

// NewClient returns a client that has no connection yet.
func NewClient(cfg ClientConfig) *Client {
	return &Client{
		to: cmp.Or(cfg.Name, cfg.Addr), addr: cfg.Addr,
		responseHeader: cmp.Or(cfg.ResponseHeader, DefaultResponseHeader),
		dialer:         net.Dialer{Timeout: cmp.Or(cfg.Connect, DefaultConnect), KeepAlive: keepAliveProbe},
		pool:           pool{idle: cmp.Or(cfg.Idle, DefaultClientIdle)},
	}
}

// RoundTrip sends req and returns the final answer; interim ones go to
// req.Inform. Errors, also those of the answer's content, are *message.TryError.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	fail := func(sent message.Sent, err error) (*message.Response, error) {
		return nil, &message.TryError{Sent: sent, To: c.to, Err: err}
	}
	switch {
	case req.Method == "CONNECT":
		return fail(message.NothingSent, errors.New("CONNECT cannot be forwarded"))
	case !all(req.Method, isToken) || req.Method == "" || !isVisible(req.Target) || req.Target == "" || !isVisible(req.Authority):
		return fail(message.NothingSent, errors.New("method, target or host have characters that no request has"))
	case req.Protocol != "" && req.Body != nil:
		return fail(message.NothingSent, errors.New("upgrade with content cannot be forwarded"))
	}
	for {
		bc, fresh, err := c.connect(ctx)
		if err != nil {
			return fail(message.NothingSent, because(ctx, err))
		}
		t := &try{client: c, conn: bc, req: req}
		res, err := t.run(ctx)
		if err == nil {
			return res, nil
		}
		sent := t.sent()
		err = because(ctx, err)
		t.abandon()
		// A pooled connection may have been closed while it was idle.
		if sent == message.NothingSent && !fresh && ctx.Err() == nil && t.again() {
			continue
		}
		return fail(sent, err)
	}
}

// because returns why ctx ended if it did, else err.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// connect returns a pooled connection, or a new one.
func (c *Client) connect(ctx context.Context) (bc *backendConn, fresh bool, err error) {
	if bc := c.pool.get(); bc != nil {
		return bc, false, nil
	}
	nc, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, true, err
	}
	return &backendConn{nc: nc, in: reader{from: nc}}, true, nil
}

// Close closes idle connections; those in use are closed when their exchange
// ends.
func (c *Client) Close() { c.pool.close() }

// parseAnswer reads the head of an answer to a request of method (RFC 9112
// sections 4 to 6). Its strings share memory with s.
func parseAnswer(s, method string) (*message.Response, *frame, int, error) {
	minor, status, fields, err := parseStatus(s)
	if err != nil {
		return nil, nil, 0, err
	}
	res := &message.Response{Status: status, Length: -1}
	if res.Header, err = parseFields(fields); err != nil {
		return nil, nil, 0, err
	}
	f, err := cutFrame(&res.Header, false)
	if err != nil {
		return nil, nil, 0, err
	}
	switch {
	case f.chunked && minor == 0:
		return nil, nil, 0, errors.New("HTTP/1.0 has no Transfer-Encoding")
	case method == "HEAD" || status < 200 || status == 204 || status == 304:
		if f.length >= 0 && status >= 200 && status != 204 {
			res.Header.Add("Content-Length", f.lengthText)
		}
		f.chunked, f.length, res.Length = false, 0, 0
	case f.length >= 0:
		res.Length = f.length
	}
	return res, &f, minor, nil
}

// parseStatus reads the status line.
func parseStatus(s string) (minor, status int, fields string, err error) {
	const prefix = len("HTTP/1.1 200")
	bad := errors.New("the answer is not HTTP/1")
	if len(s) < prefix+2 || s[:7] != "HTTP/1." || s[7] < '0' || s[7] > '9' || s[8] != ' ' {
		return 0, 0, "", bad
	}
	for _, c := range []byte(s[9:prefix]) {
		if c < '0' || c > '9' {
			return 0, 0, "", bad
		}
		status = status*10 + int(c-'0')
	}
	line, fields, ok := cutLine(s[prefix:])
	if !ok || status < 100 || line != "" && line[0] != ' ' || !all(line, isValue) || len(fields) < 2 {
		return 0, 0, "", bad
	}
	return min(int(s[7]-'0'), 1), status, fields[:len(fields)-2], nil
}

func cutLine(s string) (line, rest string, ok bool) {
	for i := range len(s) - 1 {
		if s[i] == '\r' && s[i+1] == '\n' {
			return s[:i], s[i+2:], true
		}
	}
	return s, "", false
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
	default:
		if b.try.upload != nil {
			err = b.try.upload.cause(err)
		}
		err = because(b.try.ctx, err)
		b.end = &message.TryError{Sent: message.Answered, To: b.try.client.to, Err: fmt.Errorf("the answer broke off: %w", err)}
		b.try.abandon()
	}
	return n, b.end
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
func (b *answerBody) Ready() int { return b.content.ready() }
