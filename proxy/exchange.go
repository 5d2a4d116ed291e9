package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
	"anyedge/replay"
)

// An Exchange is one request on its way through this edge: what the client
// sent, what was decided about it and why. It belongs to the goroutine that
// serves the request; what ends with the answer's content is in its record.
type Exchange struct {
	proxy    *Proxy
	id       requestID
	listener string   // by name
	service  *service // nil until routed
	call     *call    // nil unless it came through a private listener

	// req is what the client sent, without what only edges may say and what an
	// untrusted client says of others. Every try starts from it.
	req    *message.Request
	client netip.Addr // who asked, after trusted proxies
	host   authority

	// How it came here.
	hop    hop    // "" from a client
	origin string // the geo the client entered at
	source string // Replay-Geo-Src to hand on
	failed string // Replay-Geo-Failed to hand on

	// What happened, in order.
	visited []string // geos whose app handled it, the first one first
	hops    int      // replays run
	served  string   // geo whose answer goes to the client
	reasons []reason
	backend string      // local backend asked last
	rule    Rule        // by which the answer is an error of this edge's own; "" for none
	code    replay.Code // of the replay error that is the answer; "" for none

	alone    bool     // every other geo was asked
	streamed *limited // content of unknown length; nil: none
	record   record

	// Made once and kept from one exchange to the next in the same arena.
	informs func(int, message.Header) // the method inform
	room    [4]string                 // for visited
}

// Reset makes e ready for another exchange.
func (e *Exchange) Reset() { *e = Exchange{informs: e.informs} }

// A hop says why a request goes from one geo to another.
type hop string

// The kinds of hop.
const (
	hopShed     hop = "shed"     // its geo is overloaded
	hopFailover hop = "failover" // no backend there took a byte of it
	hopReplay   hop = "replay"   // an app asked for it
)

// serve answers a request that came through l.
func (p *Proxy) serve(ctx context.Context, l *listener, r *message.Request) (*message.Response, error) {
	e := p.begin(l, r)
	l.requests[r.Version&3].Add(1)
	resp := e.checked(ctx, l)
	if ctx.Err() != nil {
		resp.Close()
		e.note("client gone")
		e.record.end(e, statusGone, "client gone")
		return nil, context.Cause(ctx)
	}
	return e.deliver(resp, l), nil
}

// begin takes a client's request in, which is the exchange's from now on.
func (p *Proxy) begin(l *listener, r *message.Request) *Exchange {
	peer := r.Peer.Addr().Unmap().WithZone("")
	removeEdge(&r.Header)
	cleanTrailers(r)
	client := clientOf(peer, r.Header, l.cfg.TrustedProxies)
	if !within(l.cfg.TrustedProxies, peer) {
		removeForwarded(&r.Header)
		if r.Secure != nil && r.Secure.ClientCert != "" {
			r.Header.Add(fieldClientCert, r.Secure.ClientCert)
		}
	}
	e := message.Part[Exchange](r.Arena)
	e.proxy, e.req, e.client, e.origin, e.served = p, r, client, p.setup.Geo, p.setup.Geo
	e.id, e.listener = newID(), l.cfg.Name
	e.visited = e.room[:0]
	e.record.start = r.Received
	if e.record.start.IsZero() {
		e.record.start = time.Now()
	}
	return e
}

// checked runs the checks of a client's request, finds its service and has it
// served.
func (e *Exchange) checked(ctx context.Context, l *listener) *message.Response {
	if resp := e.check(); resp != nil {
		return resp
	}
	if resp := e.misdirected(l); resp != nil {
		return resp
	}
	if l.cfg.RedirectHTTPS {
		return e.redirect(l)
	}
	if e.req.Target == "*" {
		return answer(204, "", message.Field{Name: "Allow", Value: allowed})
	}
	if resp := e.routeOn(l); resp != nil {
		return resp
	}
	if resp := e.ofClient(); resp != nil {
		return resp
	}
	if resp := e.limit(l.maxBody); resp != nil {
		return resp
	}
	return e.run(ctx)
}

// run has the request served and follows the instructions of apps.
func (e *Exchange) run(ctx context.Context) *message.Response {
	first := e.first
	if e.call != nil {
		first = e.called
	}
	resp := first(ctx)
	for replay.Present(resp.Header) && !e.service.cfg.Replay.Ignored() {
		resp = e.replay(ctx, resp)
	}
	return resp
}

// foreign reports whether another geo sent the request.
func (e *Exchange) foreign() bool { return e.hop != "" }

// note adds to the list of reasons.
func (e *Exchange) note(text string) { e.reasons = append(e.reasons, reason{time.Now(), text}) }

// A reason is something that was decided, and when.
type reason struct {
	at   time.Time
	text string
}

// handled notes that geo's app got the request.
func (e *Exchange) handled(geo string) {
	if !slices.Contains(e.visited, geo) {
		e.visited = append(e.visited, geo)
	}
}

// repeatable reports whether the whole request can be sent once more.
func (e *Exchange) repeatable() bool { return e.req.Body == nil || e.req.Body.Replayable() }

// broken reports whether the client's content ended badly.
func (e *Exchange) broken() bool { return e.req.Body != nil && e.req.Body.Failure() != nil }

// movable reports whether the request may be relayed: an upgrade stays, and so
// does content that could not be sent again if the other geo is busy.
func (e *Exchange) movable() bool {
	if e.proxy.setup.Fabric == nil || e.req.Protocol != "" {
		return false
	}
	b := e.req.Body
	return b == nil || b.Length() >= 0 && b.Length() <= int64(e.service.cfg.Replay.Body())
}

// errTooLarge ends the reading of content past the listener's limit.
var errTooLarge = errors.New("request content is over the limit")

// limit bounds the request's content, and keeps the part of it that a second
// try would need.
func (e *Exchange) limit(most message.Size) *message.Response {
	b := e.req.Body
	if b == nil {
		return nil
	}
	keep := e.service.cfg.Replay.Body()
	if most > 0 && b.Length() > int64(most) {
		return e.over(most)
	}
	if most <= 0 || b.Length() >= 0 {
		b.Limit(keep)
		return nil
	}
	b.Limit(0)
	src, err := b.Open()
	if err != nil {
		return e.refuse(400, RuleBodyBroke, "the request content was read before: "+err.Error())
	}
	e.streamed = &limited{src: src, body: b, left: int64(most)}
	e.req.Body = message.NewBody(e.streamed, -1, keep, b.Trailer)
	return nil
}

func (e *Exchange) over(most message.Size) *message.Response {
	return e.refuse(413, RuleBodySize, "request content is over the limit of "+most.String())
}

// tooLarge reports whether the content went past the limit while it streamed.
func (e *Exchange) tooLarge() bool { return e.streamed != nil && e.streamed.over.Load() }

// limited is content that fails once it is longer than it may be. A read of it may
// end behind the exchange, and so it is none of the exchange's memory.
type limited struct {
	src  io.Reader
	body *message.Body
	over atomic.Bool
	left int64 // bytes
}

// Read reads what is within the limit.
func (l *limited) Read(p []byte) (int, error) {
	if l.over.Load() {
		return 0, errTooLarge
	}
	n, err := l.src.Read(p)
	if int64(n) > l.left {
		l.over.Store(true)
		return int(l.left), errTooLarge
	}
	l.left -= int64(n)
	return n, err
}

// Interrupt is message.Interrupter's.
func (l *limited) Interrupt() {
	if i, ok := l.src.(message.Interrupter); ok {
		i.Interrupt()
	}
}

// Close closes the client's content.
func (l *limited) Close() error { return l.body.Close() }

// join makes s the service of the request.
func (e *Exchange) join(s *service) {
	e.service = s
	s.active.Add(1)
}

// serviceName is "" until the request is routed.
func (e *Exchange) serviceName() string {
	if e.service == nil {
		return ""
	}
	return e.service.cfg.Name
}

// received is how much content the client has sent, in bytes.
func (e *Exchange) received() int64 {
	if e.req.Body == nil {
		return 0
	}
	return e.req.Body.Received()
}

// explain returns the reasons in one line.
func (e *Exchange) explain() string {
	if len(e.reasons) == 0 {
		return ""
	}
	var b strings.Builder
	for i, r := range e.reasons {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(r.text)
	}
	return b.String()
}
