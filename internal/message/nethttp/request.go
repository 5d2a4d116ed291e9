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

// incoming returns the request that a server received, without its content:
// what it says may be read only before somebody reads that.
func incoming(r *http.Request) *message.Request {
	req := &message.Request{
		Version:   message.Version(r.ProtoMajor),
		Method:    r.Method,
		Scheme:    "http",
		Authority: r.Host,
		Target:    r.RequestURI,
		Header:    announced(fromHeader(r.Header), r.Trailer),
		Peer:      addrPort(r.RemoteAddr),
		Local:     addrPort(r.Context().Value(http.LocalAddrContextKey)),
		Received:  time.Now(),
	}
	if r.TLS != nil {
		req.Scheme, req.Secure = "https", message.SecureOf(*r.TLS)
	}
	req.Header.Del("Host") // beside the :authority of HTTP/2
	req.Protocol = upgradeProtocol(r)
	if extendedConnect(r) {
		// Inside, an upgrade looks the same from every version.
		req.Method = http.MethodGet
	}
	return req
}

// setBody makes body, which is nil when r has none, the content of req. A
// request with content asks for no upgrade.
func setBody(req *message.Request, r *http.Request, body *source) {
	if body == nil {
		return
	}
	req.Protocol = ""
	req.Body = message.NewBody(body, r.ContentLength, keptBody, func() message.Header { return fromTrailer(r.Trailer) })
}

// extendedConnect reports whether r is an extended CONNECT (RFC 8441, RFC
// 9220), whose Proto is the :protocol asked for.
func extendedConnect(r *http.Request) bool {
	return r.Method == http.MethodConnect && r.ProtoMajor > 1 && !strings.HasPrefix(r.Proto, "HTTP/")
}

// upgradeProtocol returns the protocol that r asks to change to. h2c is never one: a
// backend that took it would read the client's next bytes as requests that nobody
// has seen (RFC 9113 appendix B deprecates it).
func upgradeProtocol(r *http.Request) string {
	if !extendedConnect(r) || strings.EqualFold(r.Proto, "h2c") {
		return ""
	}
	return r.Proto
}
