package proxy

import (
	"context"
	"slices"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/admission"
	"anyedge/replay"
)

// Why a request over the fabric is refused, besides what the door says.
const (
	busyNoService = "no-service" // this geo does not have it configured
	busyNoBackend = "no-backend" // no backend here took a byte of it
	busyLoop      = "loop"       // this geo handled it before
	busyMalformed = "malformed"  // what its sender says of it is not understood here
)

// How an app here failed a request that it got. The first edge decides whether
// somebody else may be asked, as it does for its own backends.
const (
	failedNoAnswer = "no-answer"
	failedTimeout  = "timeout"
)

// A Sender is the edge that sent a request over the fabric.
type Sender struct{ Geo, Node string }

// String names the sender as grants name it. Each node of a geo sheds what is
// too much for itself, so each is granted its own share.
func (s Sender) String() string { return s.Geo + "/" + s.Node }

// ServeFabric answers a request that another edge sent over the fabric. It is served here or, before its content is read, refused with 503
// and the reason in Edge-Busy; it is never shed on nor passed on. An
// instruction of the app goes back with the answer, because the edge that the
// client reached runs it. The error says that the sender has gone.
func (p *Proxy) ServeFabric(ctx context.Context, from Sender, r *message.Request) (*message.Response, error) {
	in, malformed := parseInbound(r.Header, from.Geo)
	if malformed != nil {
		p.log.Warn("request over the fabric refused", "from", from.String(), "err", malformed)
		return answer(400, malformed.Error()+"\n",
			message.Field{Name: fieldGeo, Value: p.setup.Geo}, message.Field{Name: fieldBusy, Value: busyMalformed}), nil
	}
	e := p.beginForeign(in, r)
	permit := p.admit(in, from.String())
	var resp *message.Response
	switch {
	case e.service == nil:
		resp = e.busy(busyNoService)
	case slices.Contains(in.visited, p.setup.Geo):
		resp = e.busy(busyLoop)
	case !permit.OK:
		resp = e.busy(permit.Reason)
	default:
		resp = e.serveForeign(ctx)
	}
	if ctx.Err() != nil {
		resp.Close()
		e.record.end(e, statusGone, "sender gone")
		return nil, context.Cause(ctx)
	}
	resp.Header.Set(fieldGeo, p.setup.Geo)
	resp.Header.Set(fieldGrant, formatRate(permit.Grant))
	e.record.watch(e, resp)
	return resp, nil
}

// admit asks the door.
func (p *Proxy) admit(in inbound, from string) admission.Permit {
	if in.hop == hopShed {
		return p.door.Accept(from, time.Now(), in.want, in.urgent)
	}
	return p.door.AcceptStranded(from)
}

// beginForeign takes in a request as its client sent it to another geo.
func (p *Proxy) beginForeign(in inbound, r *message.Request) *Exchange {
	e := &Exchange{
		proxy:  p,
		client: in.client.Addr().Unmap(),
		hop:    in.hop, origin: in.visited[0], visited: in.visited[1:], served: p.setup.Geo,
	}
	if in.hop == hopReplay {
		e.source, e.failed = r.Header.Get(replay.FieldSource), r.Header.Get(replay.FieldFailed)
	}
	if s := p.byName[in.service]; s != nil {
		e.join(s)
	}
	e.id, e.listener = in.id, FromFabric
	e.record.start = time.Now()
	e.req = r.Clone()
	e.req.Peer, e.req.Scheme, e.req.Version = in.client, in.proto, in.version
	removeEdge(&e.req.Header)
	cleanTrailers(e.req)
	if a, err := parseAuthority(r.Authority); err == nil {
		e.host = a
	}
	return e
}

// serveForeign has a local backend serve the request.
func (e *Exchange) serveForeign(ctx context.Context) *message.Response {
	if e.service.pool.Healthy() == 0 {
		return e.busy(busyNoBackend)
	}
	resp, err := e.local(ctx)
	switch {
	case err == nil:
		return resp
	case message.SentBy(err) == message.NothingSent:
		e.note(err.Error())
		return e.busy(busyNoBackend)
	}
	resp = e.fail(ctx, err)
	if message.SentBy(err) == message.MaybeExecuted && resp.Status >= 500 {
		resp.Header.Set(fieldFailed, failedNoAnswer)
		if resp.Status == 504 {
			resp.Header.Set(fieldFailed, failedTimeout)
		}
	}
	return resp
}

// busy refuses a request of another geo; nothing was executed.
func (e *Exchange) busy(reason string) *message.Response {
	e.record.declined = true
	return e.refuse(503, RuleBusy, "busy: "+reason, message.Field{Name: fieldBusy, Value: reason}, retryAfter())
}
