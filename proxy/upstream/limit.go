package upstream

import (
	"context"
	"io"
	"time"

	"anyedge/internal/message"
)

// A limit is an amount of time that a request has.
type limit struct {
	cancel context.CancelCauseFunc
	timer  *time.Timer
	cause  error
}

// newLimit returns a limit and the context that it ends, with that cause.
func newLimit(ctx context.Context, d time.Duration, cause error) (context.Context, *limit) {
	own, cancel := context.WithCancelCause(ctx)
	return own, &limit{cancel: cancel, cause: cause, timer: time.AfterFunc(d, func() { cancel(cause) })}
}

// hold keeps resp readable until it is closed; whole says that the limit holds for
// its content, too, though never for an upgraded connection.
func (l *limit) hold(resp *message.Response, whole bool) *message.Response {
	switch {
	case resp == nil:
		l.end()
	case resp.Stream != nil:
		l.timer.Stop()
		resp.Stream = &limitedStream{stream{ReadWriteCloser: resp.Stream}, l.end}
	case resp.Body != nil:
		if !whole {
			l.timer.Stop()
		}
		resp.Body = &limitedBody{resp.Body, l.end}
	default:
		l.end()
	}
	return resp
}

// end frees what the limit holds.
func (l *limit) end() {
	l.timer.Stop()
	l.cancel(context.Canceled)
}

// explain says that time ran out, if that is why err came. It is called after
// hold.
func (l *limit) explain(ctx context.Context, err error, to string) error {
	if err == nil || context.Cause(ctx) != l.cause { //nolint:errorlint // it is this very cause or another
		return err
	}
	return &message.TryError{Sent: message.SentBy(err), To: to, Err: l.cause}
}

// limitedBody is content whose end ends something else.
type limitedBody struct {
	io.ReadCloser
	end func()
}

// Ready is message.Ready of the content.
func (b *limitedBody) Ready() int { return message.Ready(b.ReadCloser) }

// Close closes the content.
func (b *limitedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}

// limitedStream is the same for an upgraded connection.
type limitedStream struct {
	stream
	end func()
}

// Close closes the connection.
func (s *limitedStream) Close() error {
	defer s.end()
	return s.ReadWriteCloser.Close()
}
