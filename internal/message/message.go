// Package message is the one model of an HTTP message that every engine, the
// upstreams, replay and the fabric share.
//
// An engine (proxy/h1, h2, h3) turns bytes into a [Request] and a [Response]
// into bytes; everything between them sees only these types, so an engine can
// be replaced without touching routing, admission, replay or the fabric. The
// package owns no connection, and starts a goroutine only for the time of one
// read of a request's content.
//
// Lifetime: the strings of a Request, and of the answer to it, stay valid until
// its exchange ends, whatever the connection's buffer does, so that replay, trace
// and the access log may read them late. Then their memory, an [Arena], is used
// for another one.
package message

import (
	"context"
	"io"
	"net/netip"
	"time"
)

// A Version says which engine a message came through.
type Version uint8

// The protocol versions an edge speaks.
const (
	HTTP1 Version = iota + 1
	HTTP2
	HTTP3
)

// String returns the short name used in configuration and logs.
func (v Version) String() string {
	switch v {
	case HTTP1:
		return "h1"
	case HTTP2:
		return "h2"
	case HTTP3:
		return "h3"
	}
	return "unknown"
}

// A Request is one request as its client sent it.
type Request struct {
	Version   Version
	Method    string // case as received
	Scheme    string // "http" or "https"
	Authority string // host[:port]; from Host, :authority or an absolute-form target
	Target    string // origin-form bytes as received ("/a%2Fb?x=1"), or "*" for OPTIONS
	Protocol  string // the protocol an upgrade asks for ("websocket"); "" for none
	Header    Header // without Host and without connection-specific fields
	Body      *Body  // nil: the request has none

	// Arena is the memory that its strings and fields are in, and that its exchange
	// may take more from. nil: the heap's.
	Arena *Arena

	Peer     netip.AddrPort // who sent it to us, before trusted proxies are looked at
	Local    netip.AddrPort // where it arrived
	Received time.Time
	Secure   *Secure // of its connection; nil: plain text

	// What a pool did with the request: how many backends it gave it to, and of the
	// last of them the name, when it was asked and when that ended.
	Tries            int
	Asked            string
	AskedAt, HeardAt time.Time
	Queued           time.Duration // until a backend had room

	// Inform takes an interim (1xx) answer for the client, other than 101. It
	// may be called from one goroutine, before the final answer. nil: the
	// version has no interim answers (HTTP/1.0).
	Inform func(status int, h Header)
}

// Path returns the target without its query.
func (r *Request) Path() string {
	for i := range len(r.Target) {
		if r.Target[i] == '?' || r.Target[i] == '#' {
			return r.Target[:i]
		}
	}
	return r.Target
}

// Idempotent reports whether repeating the request has the effect of sending
// it once (RFC 9110 section 9.2.2).
func (r *Request) Idempotent() bool {
	switch r.Method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE":
		return true
	}
	return false
}

// Clone returns a copy whose Header can be changed without changing r. The
// body is shared.
func (r *Request) Clone() *Request {
	c := Part[Request](r.Arena)
	*c = *r
	c.Header = r.Arena.Clone(r.Header)
	return c
}

// A Response is the final answer to a Request.
type Response struct {
	Status int
	Header Header
	Length int64         // bytes of Body; -1 when unknown
	Body   io.ReadCloser // nil: no content. The receiver of the Response closes it

	// Trailer returns the trailer section; it may be called once Body has
	// returned io.EOF. nil: there is none.
	Trailer func() Header

	// Last asks the client to come again on another connection: this one takes no
	// more requests.
	Last bool

	// Stream is the byte stream that follows a 101 (or a 2xx to an extended
	// CONNECT). When it is set Body is nil, and the receiver closes it.
	Stream io.ReadWriteCloser
}

// Close releases what the response holds; safe on nil.
func (r *Response) Close() {
	if r == nil {
		return
	}
	if r.Body != nil {
		_ = r.Body.Close()
	}
	if r.Stream != nil {
		_ = r.Stream.Close()
	}
}

// A RoundTripper answers requests: an upstream, the fabric, or the proxy
// itself as its engines see it. ctx ends when the client has gone away or the
// exchange is over. A failed try is a [*TryError]. The request's and the answer's
// fields belong to whoever got the message last, who may change them.
type RoundTripper interface {
	RoundTrip(ctx context.Context, r *Request) (*Response, error)
}

// RoundTripFunc is a function that is a RoundTripper.
type RoundTripFunc func(ctx context.Context, r *Request) (*Response, error)

// RoundTrip calls f.
func (f RoundTripFunc) RoundTrip(ctx context.Context, r *Request) (*Response, error) {
	return f(ctx, r)
}
