package nethttp

import (
	"net/http"
	"strings"
	"time"

	"anyedge/internal/message"
)

// keptBody is how much of a request's content is kept for later tries, unless
// the receiver calls Body.Limit.
const keptBody = message.MiB

// incoming returns the request that a server received. body, which is nil for
// a request without content, is where its content comes from.
func incoming(r *http.Request, body *source) *message.Request {
	req := &message.Request{
		Version:   message.Version(r.ProtoMajor),
		Method:    r.Method,
		Scheme:    "http",
		Authority: r.Host,
		Target:    originForm(r),
		Header:    announced(fromHeader(r.Header), r.Trailer),
		Peer:      addrPort(r.RemoteAddr),
		Local:     addrPort(r.Context().Value(http.LocalAddrContextKey)),
		Received:  time.Now(),
	}
	if r.TLS != nil {
		req.Scheme = "https"
	}
	switch {
	case extendedConnect(r):
		// Inside, an upgrade looks the same from every version.
		req.Method, req.Protocol = http.MethodGet, r.Proto
	case body == nil:
		req.Protocol = upgradeProtocol(r)
	}
	if body != nil {
		req.Body = message.NewBody(body, r.ContentLength, keptBody, func() message.Header { return fromTrailer(r.Trailer) })
	}
	return req
}

// originForm returns the request target as received, an absolute-form one
// without its scheme and authority (RFC 9112 section 3.2.2).
func originForm(r *http.Request) string {
	target := r.RequestURI
	if r.Method == http.MethodConnect || strings.HasPrefix(target, "/") || target == "*" {
		return target
	}
	_, rest, ok := strings.Cut(target, "://")
	if !ok {
		return target
	}
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0 && r.Method == http.MethodOptions:
		return "*"
	case i < 0:
		return "/"
	case rest[i] == '?':
		return "/" + rest[i:]
	}
	return rest[i:]
}

// extendedConnect reports whether r is an extended CONNECT (RFC 8441, RFC
// 9220), whose Proto is the :protocol asked for.
func extendedConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect && r.ProtoMajor > 1 && !strings.HasPrefix(r.Proto, "HTTP/")
}

// upgradeProtocol returns the first protocol that r asks to change to. h2c is
// never one: a backend that took it would read the client's next bytes as
// requests that nobody has seen (RFC 9113 appendix B deprecates it).
func upgradeProtocol(r *http.Request) string {
	if r.ProtoMajor != 1 || !r.ProtoAtLeast(1, 1) || !hasToken(r.Header["Connection"], "Upgrade") {
		return ""
	}
	protocol, _, _ := strings.Cut(r.Header.Get("Upgrade"), ",")
	protocol = strings.Trim(protocol, " \t")
	if strings.EqualFold(protocol, "h2c") {
		return ""
	}
	return protocol
}
