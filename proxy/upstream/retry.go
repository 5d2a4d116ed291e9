package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"anyedge/internal/message"
)

// What RetryConfig.On may have.
const (
	onReset   = "reset"
	onTimeout = "timeout"
)

// mostUnsent bounds the backends that are asked for one request of which none
// takes a byte: when that many are gone it is another geo's.
const mostUnsent = 8

// tries is what has been tried for one request.
type tries struct {
	asked    []*backend
	refused  []*backend        // of asked, those that took nothing
	executed int               // tries that a backend may have executed
	failed   error             // of the try that got farthest
	kept     *message.Response // an answer that is given if no other is to be had
}

// again reports whether the request is sent once more. This is the one place that
// decides so. (A client of proxy/h1 or h2 may replace a pooled connection that its
// backend has closed: to the pool that is one try.)
//
// When nothing was sent, every other backend may have it. When a backend may have
// executed it, or answered with a status that another backend might not, then only
// if repeating does no harm, its whole content is still there, attempts are left
// and the budget has room.
func (p *Pool) again(ctx context.Context, r *message.Request, past *tries, resp *message.Response, err error) bool {
	if ctx.Err() != nil || r.Body != nil && !r.Body.Replayable() {
		return false
	}
	if err != nil && message.SentBy(err) == message.NothingSent {
		return len(past.refused) < mostUnsent-1
	}
	attempts := p.cfg.Retry.Attempts
	if attempts == 0 {
		attempts = DefaultAttempts
	}
	if !r.Idempotent() || r.Protocol != "" || past.executed+1 >= attempts || !p.worthwhile(resp, err) {
		return false
	}
	if !p.budget.take(time.Now(), p.given.Load()) {
		p.counts.spent.Add(1)
		return false
	}
	p.counts.retried.Add(1)
	return true
}

// worthwhile reports whether another backend may do better.
func (p *Pool) worthwhile(resp *message.Response, err error) bool {
	c := &p.cfg.Retry
	switch {
	case err == nil:
		return slices.Contains(c.Statuses, resp.Status) && (p.cfg.Keep == nil || !p.cfg.Keep(resp.Header))
	case message.SentBy(err) != message.MaybeExecuted:
		return false
	case errors.Is(err, errPerTry):
		return true
	case errors.Is(err, ErrTimeout):
		return slices.Contains(c.On, onTimeout)
	}
	return c.On == nil || slices.Contains(c.On, onReset)
}

// add files a try that is followed by another.
func (t *tries) add(b *backend, resp *message.Response, err error) {
	t.asked = append(t.asked, b)
	if err != nil && message.SentBy(err) == message.NothingSent {
		t.refused = append(t.refused, b)
	} else {
		t.executed++
	}
	t.note(err)
	if resp != nil {
		t.kept.Close()
		t.kept = resp
	}
}

func (t *tries) note(err error) {
	if err != nil && (t.failed == nil || message.SentBy(err) > message.SentBy(t.failed)) {
		t.failed = err
	}
}

// answer ends the tries with the last one's outcome; an answer that was kept is
// better than an error.
func (t *tries) answer(resp *message.Response, err error) (*message.Response, error) {
	if err == nil {
		t.kept.Close()
		return resp, nil
	}
	if t.kept != nil {
		return t.kept, nil
	}
	t.note(err)
	return nil, t.failed
}

// end ends the tries when nobody is left to take the request: why, and the try
// that got farthest before, if any.
func (t *tries) end(service string, why error) (*message.Response, error) {
	switch {
	case t.kept != nil:
		return t.kept, nil
	case t.failed == nil:
		return nil, &message.TryError{Sent: message.NothingSent, To: service, Err: why}
	case message.SentBy(t.failed) == message.NothingSent:
		return nil, &message.TryError{Sent: message.NothingSent, To: service, Err: fmt.Errorf("%w: %w", why, t.failed)}
	}
	return nil, t.failed
}
