package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/admission"
	"anyedge/proxy/upstream"
)

const (
	// shedTries bounds how many geos a shed request is offered to; the one
	// after them is this geo.
	shedTries = 2
	// failoverTries bounds how many geos are asked for a request that no local
	// backend took.
	failoverTries = 3
)

// first has the request served for the first time: here, or elsewhere when the
// door says so or no backend here takes it. The answer may be an instruction.
func (e *Exchange) first(ctx context.Context) *message.Response {
	var d admission.Decision
	now := e.record.start
	if e.movable() {
		d = e.proxy.door.Decide(now, e.service.cfg.Name, e.client)
	} else {
		d = e.proxy.door.Fixed(now, e.service.cfg.Name)
	}
	switch d.Verdict {
	case admission.Refuse:
		return e.full()
	case admission.Relay:
		resp, err := e.shed(ctx, d)
		if err != nil {
			return e.fail(ctx, err)
		}
		if resp != nil {
			return resp
		}
	case admission.Here:
	}
	resp, err := e.local(ctx)
	if err != nil {
		resp, err = e.failover(ctx, err)
	}
	if err != nil && e.lastResort(ctx, err) {
		resp, err = e.local(ctx)
	}
	if err != nil {
		return e.fail(ctx, err)
	}
	return resp
}

// lastResort reports whether a request that nobody took a byte of is tried once
// more here, at whichever backend, well or not: most of them are not, and every
// other geo has been asked.
func (e *Exchange) lastResort(ctx context.Context, err error) bool {
	if e.Alone() || message.SentBy(err) != message.NothingSent || !e.service.pool.Desperate() || ctx.Err() != nil || !e.repeatable() {
		return false
	}
	e.alone = true
	e.note("any backend here, well or not: no other geo took it")
	return true
}

// Client returns who asked, after trusted proxies.
func (e *Exchange) Client() netip.Addr { return e.client }

// Alone reports whether no other geo can take the request. One that another geo
// sent goes back there.
func (e *Exchange) Alone() bool {
	if e.foreign() {
		return false
	}
	return e.alone || e.proxy.setup.Fabric == nil || len(e.proxy.door.Elsewhere(e.service.cfg.Name)) == 0
}

// full is the answer when the door says that nobody has room.
func (e *Exchange) full() *message.Response {
	e.note("refused at the door: every geo is full")
	return e.refuse(503, RuleFull, "every place that could serve this is full", retryAfter())
}

// local has a local backend serve the request.
func (e *Exchange) local(ctx context.Context) (*message.Response, error) {
	r := e.backendRequest()
	resp, err := e.service.pool.Serve(ctx, r, e)
	if r.Tries > 0 {
		e.backend, e.record.asked, e.record.heard = r.Asked, r.AskedAt, r.HeardAt
		e.record.tries += r.Tries
	}
	e.record.queued += r.Queued
	if r.Tries > 0 && ctx.Err() == nil {
		e.service.each.of(r.Asked, e.service.pool).observe(r.HeardAt, tried(r, resp))
	}
	if err != nil && message.SentBy(err) == message.NothingSent {
		return nil, err
	}
	e.proxy.door.Executed(e.hop == hopShed || e.hop == hopFailover)
	e.handled(e.proxy.setup.Geo)
	if err != nil {
		return nil, err
	}
	e.served, e.rule = e.proxy.setup.Geo, ""
	e.record.answered = true
	e.fromBackend(resp)
	return resp, nil
}

// backendRequest is the request as a local backend gets it.
func (e *Exchange) backendRequest() *message.Request {
	r := e.req.Clone()
	removeHopByHop(&r.Header)
	addForwarded(r)
	if !r.Header.Has(fieldRequestID) {
		r.Header.Add(fieldRequestID, e.id.text(r.Arena))
	}
	e.service.toBackend.apply(&r.Header)
	r.Header.Set(fieldGeo, e.proxy.setup.Geo)
	e.addReplayFields(&r.Header)
	r.Inform = e.informer()
	return r
}

// informer passes interim answers on; nil: the client's version has none.
func (e *Exchange) informer() func(int, message.Header) {
	if e.req.Inform == nil {
		return nil
	}
	if e.informs == nil {
		e.informs = e.inform
	}
	return e.informs
}

// inform passes an interim answer on, without fields that are not the client's
// business. An instruction in one is none.
func (e *Exchange) inform(status int, h message.Header) {
	h = h.Clone()
	removeEdge(&h)
	removeHopByHop(&h)
	e.req.Inform(status, h)
}

// shed offers the request to the geo that the door picked, and when that is
// busy to one more. Neither an answer nor an error: serve it here.
func (e *Exchange) shed(ctx context.Context, d admission.Decision) (*message.Response, error) {
	for range shedTries {
		resp, err := e.relay(ctx, d.Geo, outbound{hop: hopShed, want: d.Want, urgent: d.Urgent})
		if err == nil {
			e.record.shed = d.Geo
			e.note("shed to " + d.Geo + ": this geo is overloaded")
			return resp, nil
		}
		e.note(fmt.Sprintf("shed to %s: %v", d.Geo, err))
		if ctx.Err() != nil || !e.mayAskAgain(err) {
			return nil, err
		}
		d = e.proxy.door.Another(time.Now(), e.service.cfg.Name, d.Geo)
		if d.Verdict != admission.Relay {
			break
		}
	}
	return nil, nil //nolint:nilnil // neither: the caller serves it here
}

// failover asks other geos for a request that no local backend took a byte of,
// nearest first. One that may have been executed here goes to one other geo,
// if repeating it does no harm.
func (e *Exchange) failover(ctx context.Context, cause error) (*message.Response, error) {
	if e.foreign() || e.proxy.setup.Fabric == nil || errors.Is(cause, upstream.ErrTimeout) {
		return nil, cause
	}
	tries := failoverTries
	for _, geo := range e.proxy.door.Elsewhere(e.service.cfg.Name) {
		if ctx.Err() != nil || tries == 0 || !e.mayAskAgain(cause) {
			break
		}
		if geo == e.proxy.setup.Geo || slices.Contains(e.visited, geo) {
			continue
		}
		e.note(fmt.Sprintf("failover to %s: %v", geo, cause))
		tries--
		if message.SentBy(cause) != message.NothingSent {
			tries = 0
		}
		resp, err := e.relay(ctx, geo, outbound{hop: hopFailover})
		if err == nil {
			e.record.failover = geo
			return resp, nil
		}
		cause = err
	}
	return nil, cause
}

// mayAskAgain reports whether the request may be sent to somebody else after a
// try that ended in err.
func (e *Exchange) mayAskAgain(err error) bool {
	if !e.repeatable() || e.tooLarge() {
		return false
	}
	switch message.SentBy(err) {
	case message.NothingSent:
		return true
	case message.MaybeExecuted:
		return e.req.Idempotent() && e.req.Protocol == ""
	case message.Answered:
	}
	return false
}

// fail turns the last try's error into an answer.
func (e *Exchange) fail(ctx context.Context, err error) *message.Response {
	var resp *message.Response
	switch {
	case e.tooLarge():
		resp = e.refuse(413, RuleBodySize, errTooLarge.Error())
	case e.broken():
		resp = e.refuse(400, RuleBodyBroke, "the request content broke off")
	case errors.Is(err, upstream.ErrTimeout) || errors.Is(err, context.DeadlineExceeded):
		resp = e.refuse(504, RuleTimeout, "no answer in time")
	case errors.Is(err, upstream.ErrBusy):
		resp = e.refuse(503, RuleBackendsFull, "every backend has as much as it may", retryAfter())
	case message.SentBy(err) == message.NothingSent:
		resp = e.refuse(503, RuleNoBackend, "nobody can serve this now", retryAfter())
	default:
		resp = e.refuse(502, RuleBroken, "the answer could not be read")
	}
	if ctx.Err() == nil {
		e.note(err.Error())
	}
	e.record.err = err.Error()
	return resp
}
