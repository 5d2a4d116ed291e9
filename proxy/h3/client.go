package h3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/quic-go/quic-go"

	"anyedge/internal/message"
)

// maxResponse bounds the header section of an answer, unless ClientConfig does.
const maxResponse = 256 * message.KiB

// errUnprocessed is the peer's word that it has done nothing with a request.
var errUnprocessed = errors.New("the peer has not processed the request")

// ClientConfig says how a peer is asked.
type ClientConfig struct {
	To     string       // who is asked, for errors
	Header message.Size // of an answer's header section; default 256 KiB
}

// A Client sends requests on one connection. Whoever accepts the connection's
// streams gives the unidirectional ones to it; a peer that opens another one breaks
// a rule.
type Client struct {
	*session
	cfg ClientConfig

	tmu   sync.Mutex // guards what follows
	tries map[quic.StreamID]*try
	last  quic.StreamID // of those that the peer takes, and one more
}

// NewClient opens the control stream on q.
func NewClient(q *quic.Conn, cfg ClientConfig) (*Client, error) {
	cfg.Header = cmp.Or(cfg.Header, maxResponse)
	c := &Client{cfg: cfg, tries: map[quic.StreamID]*try{}, last: maxStreamID}
	var err error
	c.session, err = newSession(q, false, int(cfg.Header), c.leaves)
	return c, err
}

// ServeUniStream reads a unidirectional stream of the peer and returns when it has
// ended.
func (c *Client) ServeUniStream(u *quic.ReceiveStream) {
	if err := c.serveUni(u); err != nil {
		c.fail(err)
	}
}

// leaves takes note of a GOAWAY: what the peer will not look at can be sent
// elsewhere.
func (c *Client) leaves(id quic.StreamID) {
	c.tmu.Lock()
	defer c.tmu.Unlock()
	c.last = id
	for at, t := range c.tries {
		if at >= id {
			t.cancel(errUnprocessed)
		}
	}
}

// Leaving reports whether the peer takes no more requests.
func (c *Client) Leaving() bool {
	c.tmu.Lock()
	defer c.tmu.Unlock()
	return c.last != maxStreamID
}

// add enters a try, unless the peer takes no more.
func (c *Client) add(t *try) bool {
	c.tmu.Lock()
	defer c.tmu.Unlock()
	id := t.quic.StreamID()
	if id >= c.last {
		return false
	}
	c.tries[id] = t
	return true
}

func (c *Client) remove(t *try) {
	c.tmu.Lock()
	defer c.tmu.Unlock()
	delete(c.tries, t.quic.StreamID())
}

// RoundTrip sends req and returns the final answer; interim ones go to req.Inform.
// Errors, also those of the answer's content, are *message.TryError.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	if err := c.canSend(ctx, req); err != nil {
		return nil, c.unsent(err)
	}
	s, err := c.quic.OpenStreamSync(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, c.unsent(err)
	}
	t := newTry(c, s, req)
	if !c.add(t) {
		t.end(requestCancelled)
		return nil, c.unsent(errUnprocessed)
	}
	t.unhook = context.AfterFunc(ctx, func() { t.cancel(context.Cause(ctx)) })
	res, err := t.run()
	if err != nil {
		err = t.failed(err)
		t.over()
		return nil, err
	}
	return res, nil
}

// canSend says why req cannot be sent.
func (c *Client) canSend(ctx context.Context, req *message.Request) error {
	switch {
	case req.Method == http.MethodConnect:
		return errors.New("CONNECT cannot be forwarded")
	case req.Protocol == "":
		return nil
	case req.Method != http.MethodGet:
		return fmt.Errorf("upgrade of a %s is not possible over HTTP/3", req.Method)
	case req.Body != nil:
		return errors.New("upgrade with content cannot be forwarded")
	}
	// RFC 8441 section 3: only behind the peer's word.
	select {
	case <-c.settled:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-c.quic.Context().Done():
		return context.Cause(c.quic.Context()) //nolint:contextcheck // the connection's own knows why
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.connects {
		return errors.New("the peer takes no extended CONNECT")
	}
	return nil
}

func (c *Client) unsent(err error) error {
	return &message.TryError{Sent: message.NothingSent, To: c.cfg.To, Err: err}
}
