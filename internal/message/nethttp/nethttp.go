// Package nethttp converts between package message and net/http, so that an
// engine may stand on net/http or on a library that speaks its types.
//
// [Handler] answers an HTTP/3 server's requests by a message.RoundTripper; a
// [Client] is a message.RoundTripper on an http.RoundTripper of HTTP/3. It is the
// only place that knows both models; it listens on nothing, dials nothing but through the
// transport it is given, and decides nothing about routes or retries.
//
// What net/http loses, this package cannot give back: the order of field lines
// with different names (they come sorted by name, so that equal requests look
// equal) and the spelling of names (canonical, "X-Request-Id"). Lines of one
// name keep their order.
//
// Content-Length is not kept in a Header where the length of the content says
// it; only the answer to a HEAD and a 304, which have none, keep the field.
package nethttp

import (
	"maps"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"anyedge/internal/message"
)

// connectionField reports whether a field, in canonical spelling, says something
// about one connection only (RFC 9110 section 7.6.1). TE is handled apart.
func connectionField(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	}
	return false
}

// fromHeader returns h without connection-specific fields, Content-Length and
// Trailer, sorted by name.
func fromHeader(h http.Header) message.Header {
	named := connectionTokens(h)
	out := make(message.Header, 0, len(h)+1)
	for _, name := range slices.Sorted(maps.Keys(h)) {
		if connectionField(name) || name == "Content-Length" || name == "Trailer" || named[name] {
			continue
		}
		if name == "Te" {
			if hasToken(h["Te"], "trailers") {
				out.Add("TE", "trailers")
			}
			continue
		}
		for _, v := range h[name] {
			out.Add(name, v)
		}
	}
	return out
}

// fromTrailer returns the trailer section t without what no trailer section may
// have (RFC 9110 section 6.5.1): what frames or routes a message.
func fromTrailer(t http.Header) message.Header {
	var out message.Header
	for _, name := range slices.Sorted(maps.Keys(t)) {
		switch name {
		case "Content-Length", "Trailer", "Host", "Te":
			continue
		}
		if connectionField(name) {
			continue
		}
		for _, v := range t[name] {
			out.Add(name, v)
		}
	}
	return out
}

// announced adds the Trailer field for the names in t, which net/http has
// moved out of the header.
func announced(h message.Header, t http.Header) message.Header {
	if len(t) > 0 {
		h.Add("Trailer", strings.Join(slices.Sorted(maps.Keys(t)), ", "))
	}
	return h
}

// toHeader adds the fields of h to dst, but those that the receiver of dst
// makes itself from the connection and the content.
func toHeader(dst http.Header, h message.Header) {
	for _, f := range h {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if connectionField(name) || name == "Content-Length" || name == "Trailer" {
			continue
		}
		dst[name] = append(dst[name], f.Value)
	}
}

// trailerNames returns the canonical names that h announces as trailers.
func trailerNames(h message.Header) []string {
	var names []string
	for t := range h.Tokens("Trailer") {
		switch name := textproto.CanonicalMIMEHeaderKey(t); name {
		case "Transfer-Encoding", "Content-Length", "Trailer":
		default:
			names = append(names, name)
		}
	}
	return names
}

// connectionTokens returns the canonical names that Connection lists.
func connectionTokens(h http.Header) map[string]bool {
	if len(h["Connection"]) == 0 {
		return nil
	}
	names := map[string]bool{}
	for _, v := range h["Connection"] {
		for t := range strings.SplitSeq(v, ",") {
			names[textproto.CanonicalMIMEHeaderKey(strings.Trim(t, " \t"))] = true
		}
	}
	return names
}

// hasToken reports whether one of the comma-separated values has the token.
func hasToken(values []string, token string) bool {
	for _, v := range values {
		for t := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(strings.Trim(t, " \t"), token) {
				return true
			}
		}
	}
	return false
}

// bodyAllowed reports whether an answer with this status may have content
// (RFC 9110 section 6.4.1).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// addrPort returns the address in a, without the IPv4-in-IPv6 form; zero when
// a is no IP address.
func addrPort(a any) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case interface{ AddrPort() netip.AddrPort }:
		ap = a.AddrPort()
	case string:
		ap, _ = netip.ParseAddrPort(a)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
