package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"anyedge/internal/message"
)

// RoundTrip is Serve of a request that nothing more is known of.
func (p *Pool) RoundTrip(ctx context.Context, r *message.Request) (*message.Response, error) {
	return p.Serve(ctx, r, nil)
}

// Serve asks healthy backends until one answers. After a try that sent
// nothing the next backend is asked, never the same twice; after one that may
// have been executed an idempotent request gets one more try, unless what
// failed was time. The error is a [*message.TryError]; it wraps [ErrNoBackend]
// when no backend is healthy or none took a byte, and [ErrBusy] when all are at
// their limits.
func (p *Pool) Serve(ctx context.Context, r *message.Request, who Asker) (*message.Response, error) {
	var (
		tried  []*backend
		failed error // the try that got farthest
	)
	for {
		b, err := p.take(ctx, r, who, tried)
		if err != nil {
			return nil, p.exhausted(failed, err)
		}
		resp, err := p.try(ctx, b, r)
		if err == nil {
			return resp, nil
		}
		sent := message.SentBy(err)
		again := sent == message.NothingSent && replayable(r) || mayRepeat(r, sent, failed, err)
		if failed == nil || sent > message.SentBy(failed) {
			failed = err
		}
		if !again || ctx.Err() != nil {
			return nil, failed
		}
		tried = append(tried, b)
	}
}

// exhausted returns the error of a request that nobody is left to take: why, and
// the try that got farthest before, if any.
func (p *Pool) exhausted(failed, why error) error {
	switch {
	case failed == nil:
		return &message.TryError{Sent: message.NothingSent, To: p.service, Err: why}
	case message.SentBy(failed) == message.NothingSent:
		return &message.TryError{Sent: message.NothingSent, To: p.service, Err: fmt.Errorf("%w: %w", why, failed)}
	}
	return failed
}

// replayable reports whether another backend can be given the whole request.
func replayable(r *message.Request) bool { return r.Body == nil || r.Body.Replayable() }

// mayRepeat reports whether a request that may have been executed is sent
// again: once, and never when it was slow.
func mayRepeat(r *message.Request, sent message.Sent, before, err error) bool {
	return sent == message.MaybeExecuted &&
		(before == nil || message.SentBy(before) == message.NothingSent) &&
		r.Idempotent() && r.Protocol == "" && replayable(r) && !errors.Is(err, ErrTimeout)
}

// try asks a backend that the request was counted at. A response counts as under
// way until it is closed.
func (p *Pool) try(ctx context.Context, b *backend, r *message.Request) (*message.Response, error) {
	b.total.Add(1)
	r.Asked, r.AskedAt = b.name, time.Now()
	r.Tries++
	resp, err := b.client.RoundTrip(ctx, r)
	r.HeardAt = time.Now()
	if p.timed() && ctx.Err() == nil {
		p.time(b, r, resp)
	}
	if err != nil {
		p.release(b)
		return nil, p.failed(ctx, b, err)
	}
	if b.misses.Load() != 0 {
		b.misses.Store(0)
	}
	p.heard(b, resp.Header)
	return p.hold(b, r, resp), nil
}

// timed reports whether the time to an answer matters.
func (p *Pool) timed() bool { return p.balance.way == balanceEWMA }

// time files how long b took for r; resp is nil when no answer came.
func (p *Pool) time(b *backend, r *message.Request, resp *message.Response) {
	now, took := int64(r.HeardAt.Sub(p.began)), r.HeardAt.Sub(r.AskedAt)
	if resp == nil || resp.Status >= 500 {
		b.latency.failed(now, took)
	} else {
		b.latency.observe(now, took)
	}
}

// failed names the backend in a try's error, and suspects the backend when it
// cannot be reached.
func (p *Pool) failed(ctx context.Context, b *backend, err error) error {
	if ctx.Err() == nil {
		b.failed.Add(1)
	}
	t := &message.TryError{Sent: message.SentBy(err), To: b.name, Err: err}
	if inner, ok := err.(*message.TryError); ok { //nolint:errorlint // only the outermost one is replaced
		t.Err = inner.Err
	}
	if t.Sent != message.NothingSent && ctx.Err() == nil && isTimeout(err) {
		t.Err = fmt.Errorf("%w within %s: %w", ErrTimeout, p.cfg.Timeouts.responseHeader(), t.Err)
	}
	if t.Sent == message.NothingSent && unreachable(err, b.misses.Add) {
		if b.health.suspect(time.Now(), err) {
			p.refresh()
			p.log.Warn("backend suspect", "backend", b.name, "err", reason(err))
			signal(b.wake)
		}
	}
	return t
}

// unreachable reports whether err speaks against the backend: it refuses
// connections, or dialling failed otherwise for the second time in a row. An
// error that a client's request could cause never does.
func unreachable(err error, count func(int32) int32) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	if !ok || dial.Op != "dial" || errors.Is(err, context.Canceled) {
		return false
	}
	decisive := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
	return decisive || count(1) >= 2
}
