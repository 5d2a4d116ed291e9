package h2

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"anyedge/internal/hpack"
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
	maxConns          = 16  // to one backend
	maxCalls          = 250 // at once on one connection, however many the backend would take
	maxResponseHeader = int(256 * message.KiB)
	maxInterim        = 32               // interim answers to one request
	continueTimeout   = time.Second      // for a 100 before the content is sent all the same
	pingAfter         = 5 * time.Second  // of silence on a connection with open streams, and for the answer
	grace             = time.Second      // for an answer when the backend takes no more content
	backendStall      = 10 * time.Second // for one write to a backend
	keepAliveProbe    = 30 * time.Second
)

// ClientConfig says how one backend is asked. Zero durations mean the defaults.
type ClientConfig struct {
	Name           string        // of the backend, for errors; default Addr
	Addr           string        // HOST:PORT
	Connect        time.Duration // for a new connection, and again for the backend's SETTINGS
	ResponseHeader time.Duration // from the end of the request to the answer's header section
	Idle           time.Duration // of a connection without a stream
}

// A Client asks one backend over HTTP/2 without TLS, with prior knowledge (RFC
// 9113 section 3.3), on as few connections as the backend's limit of streams
// allows. An upgrade is an extended CONNECT (RFC 8441), which the backend must
// have allowed.
type Client struct {
	to, addr             string
	connect, head, since time.Duration
	dialer               net.Dialer

	mu      sync.Mutex // guards what follows; taken last
	conns   []*backend // that take more streams, the oldest first
	dialing *dialing   // nil: no connection is on its way
	changed chan struct{}
	closed  bool
}

// A dialing is a connection on its way.
type dialing struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it is there, or err is
	err    error
}

// NewClient returns a client that has no connection yet.
func NewClient(cfg ClientConfig) *Client {
	connect := cmp.Or(cfg.Connect, DefaultConnect)
	return &Client{
		to: cmp.Or(cfg.Name, cfg.Addr), addr: cfg.Addr, connect: connect,
		head: cmp.Or(cfg.ResponseHeader, DefaultResponseHeader), since: cmp.Or(cfg.Idle, DefaultClientIdle),
		dialer: net.Dialer{Timeout: connect, KeepAlive: keepAliveProbe},
	}
}

// RoundTrip sends req and returns the final answer; interim ones go to
// req.Inform. Errors, also those of the answer's content, are *message.TryError.
//
// A backend may end a connection while a request is on its way to it. The
// request is sent once more, on another connection, when the backend has said
// that it has not seen it (RFC 9113 sections 6.8 and 8.7), or no byte of it was
// written.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	if err := sendable(req); err != nil {
		return nil, &message.TryError{Sent: message.NothingSent, To: c.to, Err: err}
	}
	var b *backend
	for again := true; ; again = false {
		var err error
		b, err = c.acquire(ctx, b)
		if err != nil {
			return nil, &message.TryError{Sent: message.NothingSent, To: c.to, Err: because(ctx, err)}
		}
		x := newCall(b, req)
		res, err := x.run(ctx)
		if err == nil {
			return res, nil
		}
		if sent := x.sent(); !again || sent != message.NothingSent || !x.moved() || ctx.Err() != nil || req.Body != nil && !req.Body.Replayable() {
			return nil, &message.TryError{Sent: sent, To: c.to, Err: because(ctx, err)}
		}
	}
}

// sendable returns why req cannot be written as HTTP/2.
func sendable(req *message.Request) error {
	switch {
	case req.Method == "CONNECT":
		return errors.New("CONNECT cannot be forwarded")
	case !message.IsToken(req.Method), req.Target == "" || !message.IsVisible(req.Target), !message.IsVisible(req.Authority), !message.IsVisible(req.Protocol):
		return errors.New("method, target, host or protocol have characters that no request has")
	case req.Protocol != "" && (req.Body != nil || req.Method != "GET"):
		return errors.New("upgrade with content, or of another method than GET, cannot be forwarded over HTTP/2")
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

var errBusy = errors.New("all connections have as many streams as the backend allows")

// acquire returns a connection with room for a stream, another one than not, which
// release must give back. It waits for one as long as for a new connection.
func (c *Client) acquire(ctx context.Context, not *backend) (*backend, error) {
	var late <-chan time.Time
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b, d, changed := c.roomy(not) //nolint:contextcheck // others wait for what it dials, too
		if b != nil {
			return b, nil
		}
		var dialed <-chan struct{}
		if d != nil {
			dialed = d.done
		} else if late == nil {
			t := time.NewTimer(c.connect)
			defer t.Stop()
			late = t.C
		}
		select {
		case <-dialed:
			if d.err != nil {
				return nil, d.err
			}
		case <-changed:
		case <-late:
			return nil, errBusy
		case <-ctx.Done():
		}
	}
}

// roomy returns a connection with room, or what to wait for: the connection that
// is on its way and a change of those that are there.
func (c *Client) roomy(not *backend) (*backend, *dialing, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shut := false
	for _, b := range c.conns { // the first ones are full, and the last ones grow old
		if b.used < b.most && b != not {
			b.used++
			return b, nil, nil
		}
		shut = shut || b.most == 0
	}
	if c.dialing == nil && len(c.conns) < maxConns && !shut {
		ctx, cancel := context.WithCancel(context.Background())
		c.dialing = &dialing{cancel: cancel, done: make(chan struct{})}
		go c.serve(ctx, c.dialing)
	}
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return nil, c.dialing, c.changed
}

// serve opens a connection and reads it until it ends.
func (c *Client) serve(ctx context.Context, d *dialing) {
	defer d.cancel()
	var b *backend
	nc, err := c.dialer.DialContext(ctx, "tcp", c.addr)
	if err == nil {
		b = newBackend(c, nc)
		stop := context.AfterFunc(ctx, func() { b.fail(context.Canceled) })
		err = b.begin()
		stop()
	}
	c.mu.Lock()
	if d.err = err; err == nil {
		c.conns = append(c.conns, b)
	}
	c.dialing = nil
	close(d.done)
	c.mu.Unlock()
	if err == nil {
		b.serve()
	}
}

// tell wakes up who waits for a connection; mu is held.
func (c *Client) tell() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// Close closes idle connections; those in use are closed with their last
// exchange.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	conns := c.conns
	c.conns = nil
	if c.dialing != nil {
		c.dialing.cancel()
	}
	c.mu.Unlock()
	for _, b := range conns {
		b.leave()
	}
}

// appendRequest appends what a request's header section begins with (section
// 8.3.1; RFC 8441 section 4).
func appendRequest(b []byte, e *hpack.Encoder, r *message.Request) []byte {
	if r.Protocol != "" {
		b = e.Append(e.Append(b, ":method", "CONNECT"), ":protocol", r.Protocol)
	} else {
		b = e.Append(b, ":method", r.Method)
	}
	b = e.Append(b, ":scheme", "http")
	if r.Authority != "" {
		b = e.Append(b, ":authority", r.Authority)
	}
	return e.Append(b, ":path", r.Target)
}

// outgoing returns the fields of req that a backend gets.
func outgoing(req *message.Request) message.Header {
	h := req.Header.Clone()
	h.DelFunc(func(name string) bool {
		switch strings.ToLower(name) {
		case "host":
			return true
		case "te":
			return !hasTrailers(req.Header)
		case "expect":
			return req.Body == nil // there is nothing to wait for
		case "sec-websocket-key": // of HTTP/1 alone (RFC 8441 section 5)
			return req.Protocol != ""
		}
		return false
	})
	return h
}

// hasTrailers reports whether TE asks for trailers, all that it may say here
// (RFC 9113 section 8.2.2).
func hasTrailers(h message.Header) bool {
	for t := range h.Tokens("TE") {
		if strings.EqualFold(t, "trailers") {
			return true
		}
	}
	return false
}
