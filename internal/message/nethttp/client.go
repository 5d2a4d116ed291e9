package nethttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"anyedge/internal/message"
)

// A Client sends requests to one peer through an http.RoundTripper: a
// transport or connection of quic-go's http3. It follows no redirect and keeps no cookie.
type Client struct {
	Transport http.RoundTripper
	To        string // who is asked, for errors
	Scheme    string // "http" or "https": how the transport reaches it
	Host      string // HOST:PORT that the transport dials or knows it by

	// Extended is for HTTP/3: an upgrade is an extended CONNECT (RFC 9220).
	Extended bool
}

// RoundTrip sends req and returns the final answer; interim ones go to
// req.Inform. Errors, also those of the answer's content, are *message.TryError.
func (c *Client) RoundTrip(ctx context.Context, req *message.Request) (*message.Response, error) {
	req.Arena.Forget() // a transport's own goroutines read the request, nobody knows how long
	t := &try{to: c.To, inform: req.Inform}
	tryCtx, cancel := context.WithCancelCause(ctx)
	t.giveUp = cancel
	out, err := c.outgoing(t.trace(tryCtx), req)
	if err != nil {
		cancel(nil)
		return nil, &message.TryError{Sent: message.NothingSent, To: c.To, Err: err}
	}
	res, err := c.Transport.RoundTrip(out.request)
	t.end()
	if err != nil {
		defer cancel(nil)
		out.noStream()
		return nil, t.fail(tryCtx, err)
	}
	return c.response(res, out, t)
}

// response returns what the peer answered.
func (c *Client) response(res *http.Response, out *outgoing, t *try) (*message.Response, error) {
	head := &message.Response{
		Status: res.StatusCode,
		Header: announced(fromHeader(res.Header), res.Trailer),
		Length: res.ContentLength,
	}
	switch {
	case out.upgraded(res):
		head.Status, head.Length = http.StatusSwitchingProtocols, 0
		if out.stripAccept {
			head.Header.Del("Sec-Websocket-Accept")
		}
		head.Stream = &granted{ReadWriteCloser: out.stream(res), t: t}
		return head, nil
	case res.StatusCode < 200:
		_ = res.Body.Close()
		out.noStream()
		t.giveUp(nil)
		return nil, t.answered(fmt.Errorf("status %d is not one of a final answer to this request", res.StatusCode))
	}
	out.noStream()
	if res.Request.Method == http.MethodHead || !bodyAllowed(res.StatusCode) {
		_ = res.Body.Close()
		t.giveUp(nil)
		head.Length = 0
		if v := res.Header.Get("Content-Length"); v != "" {
			head.Header.Add("Content-Length", v)
		} else if res.ContentLength > 0 {
			head.Header.Add("Content-Length", strconv.FormatInt(res.ContentLength, 10))
		}
		return head, nil
	}
	if res.Body == http.NoBody {
		t.giveUp(nil)
		head.Length = 0
		return head, nil
	}
	head.Body = &content{body: res.Body, t: t}
	head.Trailer = func() message.Header { return fromTrailer(res.Trailer) }
	return head, nil
}

// content is the content of an answer.
type content struct {
	body io.ReadCloser
	t    *try
}

// Read fails with a *message.TryError.
func (c *content) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	if err != nil {
		defer c.t.giveUp(nil)
	}
	if err != nil && err != io.EOF { //nolint:errorlint // io.EOF is never wrapped by a Reader
		err = c.t.answered(err)
	}
	return n, err
}

// Close gives the connection back, or ends it when the content has not.
func (c *content) Close() error {
	defer c.t.giveUp(nil)
	return c.body.Close()
}

// granted is the byte stream behind an upgrade.
type granted struct {
	io.ReadWriteCloser
	t *try
}

// CloseWrite ends the writing half.
func (g *granted) CloseWrite() error { return message.CloseWrite(g.ReadWriteCloser) }

// Close ends both halves.
func (g *granted) Close() error {
	defer g.t.giveUp(nil)
	return g.ReadWriteCloser.Close()
}
