package nethttp

import (
	"context"
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
	attempts int  // connections that it was given
	wrote    bool // some attempt wrote, maybe not wholly
	answer   bool // the first byte of an answer has come
	returned bool // the transport's RoundTrip has
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

func (t *try) connected(httptrace.GotConnInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts++; t.attempts > maxShared {
		t.giveUp(errUnprocessed)
	}
}

func (t *try) wroteHeaders() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrote = true
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
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	sent := message.NothingSent
	switch {
	case unprocessed(err):
	case t.answer:
		sent = message.Answered
	case t.wrote:
		sent = message.MaybeExecuted
	case t.attempts > 0 && ctx.Err() != nil:
		// A shared connection: its writer may not have told us yet.
		sent = message.MaybeExecuted
	}
	return &message.TryError{Sent: sent, To: t.to, Err: err}
}

// answered returns the error of an answer that broke off.
func (t *try) answered(err error) error {
	return &message.TryError{Sent: message.Answered, To: t.to, Err: err}
}
