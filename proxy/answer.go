package proxy

import (
	"math/rand/v2"
	"strconv"
	"strings"

	"anyedge/internal/message"
	"anyedge/replay"
)

// statusGone is logged, never sent: the client left before the answer.
const statusGone = 499

// altSvcAge is how long a client may remember that HTTP/3 is spoken here, in
// seconds.
const altSvcAge = "86400"

// answer is an answer of this edge's own.
func answer(status int, text string, fields ...message.Field) *message.Response {
	h := make(message.Header, 0, len(fields)+4)
	h = append(h, fields...)
	resp := &message.Response{Status: status, Length: int64(len(text))}
	if text != "" {
		h.Add("Content-Type", "text/plain; charset=utf-8")
		h.Add("X-Content-Type-Options", "nosniff")
		resp.Body = message.Content(text)
	}
	resp.Header = h
	return resp
}

// refuse is an error of this edge's own, by a rule; its reason goes to the client
// and the log.
func (e *Exchange) refuse(status int, rule Rule, reason string, fields ...message.Field) *message.Response {
	e.served, e.rule = e.proxy.setup.Geo, rule
	e.record.err, e.record.answered = reason, false
	return answer(status, reason+"\n", fields...)
}

// retryAfter asks clients to come back in 1 to 5 seconds, not all at once.
func retryAfter() message.Field {
	return message.Field{Name: "Retry-After", Value: strconv.Itoa(1 + rand.IntN(5))} //nolint:gosec // spreads load, hides nothing
}

// deliver makes resp ready for the client: what edges say to each other and
// the replay protocol are removed, what the client may know is added.
func (e *Exchange) deliver(resp *message.Response, l *listener) *message.Response {
	removeEdge(&resp.Header)
	if e.code != "" {
		resp.Header.Add(replay.FieldError, string(e.code))
	}
	if e.rule != "" {
		resp.Header.Set(fieldStatus, e.rule.status())
		resp.Header.Set(fieldRequest, e.id.String())
	}
	e.addTiming(&resp.Header)
	resp.Header.Set(fieldGeo, e.served)
	if e.served != e.origin {
		resp.Header.Set(fieldEntry, e.origin)
	}
	if l.tls != nil && l.has(protoH3) && e.req.Version != message.HTTP3 {
		port := e.host.port
		if port == "" {
			port = "443"
		}
		resp.Header.Set("Alt-Svc", e.req.Arena.Join(`h3=":`, port, `"; ma=`+altSvcAge))
	}
	if s := e.service; s != nil {
		s.toClient.apply(&resp.Header)
		if s.compress != nil && e.rule == "" {
			s.compress.Apply(e.req, resp)
		}
	}
	e.cleanTrailer(resp)
	resp.Last = e.proxy.door.Left(l.cfg.VIPs)
	e.record.watch(e, resp)
	if e.rule != "" && isGRPC(e.req) {
		asGRPC(resp)
	}
	return resp
}

// cleanTrailer keeps the replay protocol out of trailers as well.
func (e *Exchange) cleanTrailer(resp *message.Response) {
	trailer := resp.Trailer
	if trailer == nil {
		return
	}
	resp.Trailer = func() message.Header {
		h := trailer().Clone()
		removeEdge(&h)
		removeHopByHop(&h)
		return h
	}
}

// fromBackend cleans what a local backend answered. Its instruction stays, for
// whoever runs it.
func (e *Exchange) fromBackend(resp *message.Response) {
	h := &resp.Header
	removeHopByHop(h)
	h.DelFunc(func(name string) bool {
		return hasPrefix(name, edgePrefix) || replay.Owns(name) && !strings.EqualFold(name, replay.Field)
	})
	appendList(e.req.Arena, h, "Via", e.service.via)
}
