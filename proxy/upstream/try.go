package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"anyedge/internal/message"
)

// Why time ran out.
var (
	errTotal  = fmt.Errorf("%w within the total time", ErrTimeout)
	errPerTry = fmt.Errorf("%w within the time of one try", ErrTimeout)
)

// RoundTrip is Serve of a request that nothing more is known of.
func (p *Pool) RoundTrip(ctx context.Context, r *message.Request) (*message.Response, error) {
	return p.Serve(ctx, r, nil)
}

// Serve asks backends until one answers; retry.go says when it asks another one.
// The error is a [*message.TryError]; it wraps [ErrNoBackend] when no backend is
// healthy or none took a byte, and [ErrBusy] when all are at their limits.
func (p *Pool) Serve(ctx context.Context, r *message.Request, who Asker) (*message.Response, error) {
	total := or(p.cfg.Timeouts.Total, 0)
	if total <= 0 {
		return p.serve(ctx, r, who)
	}
	own, limit := newLimit(ctx, total, errTotal)
	resp, err := p.serve(own, r, who)
	return limit.hold(resp, true), limit.explain(own, err, p.service)
}

func (p *Pool) serve(ctx context.Context, r *message.Request, who Asker) (*message.Response, error) {
	var past tries
	for {
		b, err := p.take(ctx, r, who, past.asked, len(past.asked) > 0)
		if errors.Is(err, ErrNoBackend) && past.executed > 0 { // the same one again, when there is no other
			b, err = p.take(ctx, r, who, past.refused, true)
		}
		if err != nil {
			return past.end(p.service, err)
		}
		var resp *message.Response
		if past.executed == 0 && p.hedge.on() && hedgeable(r) {
			resp, b, err = p.hedged(ctx, r, who, b)
		} else {
			resp, err = p.try(ctx, b, r)
		}
		if !p.again(ctx, r, &past, resp, err) {
			return past.answer(resp, err)
		}
		past.add(b, resp, err)
	}
}

// try asks a backend that the request was counted at. A response counts as under
// way until it is closed.
func (p *Pool) try(ctx context.Context, b *backend, r *message.Request) (*message.Response, error) {
	b.total.Add(1)
	p.given.Add(1)
	r.Asked, r.AskedAt = b.name, time.Now()
	r.Tries++
	resp, err := p.ask(ctx, b, r)
	r.HeardAt = time.Now()
	if p.timed() && ctx.Err() == nil {
		p.time(b, r, resp)
	}
	if err != nil {
		p.release(b)
		return nil, p.failed(ctx, b, r, err)
	}
	if b.misses.Load() != 0 {
		b.misses.Store(0)
	}
	if resp.Status >= 500 && resp.Status != 501 {
		p.ill(b, strconv.Itoa(resp.Status))
	} else {
		b.well()
	}
	p.heard(b, resp.Header)
	return p.hold(b, r, resp), nil
}

// ask has b answer, within the time of one try.
func (p *Pool) ask(ctx context.Context, b *backend, r *message.Request) (*message.Response, error) {
	if p.cfg.Retry.PerTry == nil {
		return b.client.RoundTrip(ctx, r)
	}
	own, limit := newLimit(ctx, *p.cfg.Retry.PerTry, errPerTry)
	resp, err := b.client.RoundTrip(own, r)
	return limit.hold(resp, false), limit.explain(own, err, b.name)
}

// timed reports whether the time to an answer matters.
func (p *Pool) timed() bool { return p.balance.way == balanceEWMA || p.hedge.p95 }

// time files how long b took for r; resp is nil when no answer came.
func (p *Pool) time(b *backend, r *message.Request, resp *message.Response) {
	now, took := int64(r.HeardAt.Sub(p.began)), r.HeardAt.Sub(r.AskedAt)
	if resp == nil || resp.Status >= 500 {
		b.latency.failed(now, took)
		return
	}
	b.latency.observe(now, took)
	p.hedge.observe(took)
}

// failed names the backend in a try's error, and files what the failure says of
// it. One that a client caused says nothing.
func (p *Pool) failed(ctx context.Context, b *backend, r *message.Request, err error) error {
	t := &message.TryError{Sent: message.SentBy(err), To: b.name, Err: err}
	if inner, ok := err.(*message.TryError); ok { //nolint:errorlint // only the outermost one is replaced
		t.Err = inner.Err
	}
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrTimeout) {
		return t
	}
	b.failed.Add(1)
	late := isTimeout(err) || errors.Is(err, ErrTimeout)
	switch {
	case t.Sent == message.NothingSent:
		if unreachable(err, b.misses.Add) {
			p.suspect(b, err)
		}
	case late:
		if !errors.Is(err, ErrTimeout) {
			t.Err = fmt.Errorf("%w within %s: %w", ErrTimeout, p.cfg.Timeouts.responseHeader(), t.Err)
		}
		p.ill(b, "timeout")
	case r.Body == nil || r.Body.Failure() == nil:
		p.ill(b, "no answer")
	}
	return t
}

// suspect takes b out until its next check, which runs at once.
func (p *Pool) suspect(b *backend, err error) {
	if b.health.suspect(time.Now(), err) {
		p.refresh()
		p.log.Warn("backend suspect", "backend", b.name, "err", reason(err))
		signal(b.wake)
	}
}

// unreachable reports whether err speaks against the backend: it refuses
// connections, or dialling failed otherwise for the second time in a row. An
// error that a client's request could cause never does.
func unreachable(err error, count func(int32) int32) bool {
	dial, ok := errors.AsType[*net.OpError](err)
	if !ok || dial.Op != "dial" || errors.Is(err, context.Canceled) || ours(err) {
		return false
	}
	decisive := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH)
	return decisive || count(1) >= 2
}

// ours reports whether a connection failed for what this machine has no more of:
// files, ports, memory. Its clients can use that up.
func ours(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
