package nethttp

import (
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"

	"anyedge/internal/message"
)

// maxShared is how often a request may be given to a shared connection. net/http
// does so again, ever more slowly, while the peer refuses its streams.
const maxShared = 2

// A try is one request handed to a transport, which may itself use several
// connections for it. It knows whether a byte of it was written to any.
type try struct {
	to     string
	inform func(int, message.Header)
	giveUp context.CancelCauseFunc // ends the try's context; always called when the answer has been read

	mu       sync.Mutex
	body     io.Closer // the current attempt's reading of the request's content; may be nil
	conn     *conn     // of the current attempt, when it is one of ours
	start    int64     // bytes written to conn before this request
	attempts int       // connections that it was given
	wrote    bool      // some attempt wrote, maybe not wholly
	answer   bool      // the first byte of an answer has come
	returned bool      // the transport's RoundTrip has
}

// trace returns ctx with hooks that report to t.
func (t *try) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:              t.connected,
		WroteHeaders:         t.wroteHeaders,
		GotFirstResponseByte: t.firstByte,
		Got1xxResponse:       t.interim,
	})
}

func (t *try) connected(info httptrace.GotConnInfo) {
	c, _ := info.Conn.(*conn)
	t.mu.Lock()
	t.leave()
	t.attempts++
	if c != nil {
		t.conn, t.start = c, c.written.Load()
	} else if t.attempts > maxShared {
		t.giveUp(errUnprocessed)
	}
	body := t.body
	t.mu.Unlock()
	if c != nil {
		c.onClose(body)
	}
}

// setBody takes note of what reads the request's content from now on.
func (t *try) setBody(body io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.body = body
}

// uploaded takes note that body is read no more: an idle connection must not
// keep the content of the last request.
func (t *try) uploaded(body io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.body != body {
		return
	}
	t.body = nil
	if t.conn != nil {
		t.conn.uploaded(body)
	}
}

// leave takes note of what was written to the current connection.
func (t *try) leave() {
	if t.conn != nil && t.conn.written.Load() > t.start {
		t.wrote = true
	}
	t.conn = nil
}

func (t *try) wroteHeaders() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil { // else its count says it, better
		t.wrote = true
	}
}

func (t *try) firstByte() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = true
}

func (t *try) interim(status int, h textproto.MIMEHeader) error {
	t.mu.Lock()
	t.answer = true
	over := t.returned
	t.mu.Unlock()
	if t.inform != nil && !over {
		t.inform(status, fromHeader(http.Header(h)))
	}
	return nil
}

// end takes note that the transport has returned.
func (t *try) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.returned = true
}

// fail returns the error of a try that got no final answer.
func (t *try) fail(ctx context.Context, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conn
	t.leave()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if c != nil {
		err = c.cause(err)
	}
	sent := message.NothingSent
	switch {
	case unprocessed(err):
	case t.answer:
		sent = message.Answered
	case t.wrote:
		sent = message.MaybeExecuted
	case c == nil && t.attempts > 0 && ctx.Err() != nil:
		// A shared connection: its writer may not have told us yet.
		sent = message.MaybeExecuted
	}
	return &message.TryError{Sent: sent, To: t.to, Err: err}
}

// answered returns the error of an answer that broke off.
func (t *try) answered(err error) error {
	return &message.TryError{Sent: message.Answered, To: t.to, Err: err}
}
