package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"anyedge/internal/message"
	"anyedge/replay"
)

// Fields that edges add. A client's copies are removed at the door, a
// backend's before its answer goes on.
const (
	fieldGeo     = "Edge-Geo"     // to the app: where it runs; in an answer: who served
	fieldEntry   = "Edge-Entry"   // in an answer: where the client came in, when another geo served
	fieldStatus  = "Proxy-Status" // in an error of the edge's own: why (RFC 9209)
	fieldRequest = "Edge-Request" // in such an answer, and over the fabric: the request's id
	fieldHop     = "Edge-Hop"     // over the fabric: why it was sent
	fieldVisited = "Edge-Visited" // geos that handled it, the client's first
	fieldClient  = "Edge-Client"  // ADDR:PORT that connected to the first edge
	fieldProto   = "Edge-Proto"   // scheme the client used
	fieldVersion = "Edge-Version" // protocol version the client used: h1, h2 or h3
	fieldService = "Edge-Service" // what the first edge routed it to
	fieldWant    = "Edge-Want"    // what the sender would like to send, requests/s
	fieldGrant   = "Edge-Grant"   // what it may send, requests/s
	fieldBusy    = "Edge-Busy"    // refused before the body; the reason
	fieldFailed  = "Edge-Failed"  // an app got it and no answer came; how that was seen
)

// fieldRequestID is the request's id for an app: ours, or what a trusted proxy says.
const fieldRequestID = "X-Request-Id"

// fieldClientCert names the certificate of a client to an app (RFC 9440).
const fieldClientCert = "Client-Cert"

const (
	edgePrefix      = "edge-"
	forwardedPrefix = "x-forwarded-"
	pseudonym       = "edged" // in Via
)

// hopByHop are the fields that end at each hop (RFC 9110 section 7.6.1), in
// lower case. TE stays when it says "trailers": gRPC asks backends for them.
var hopByHop = []string{
	"connection", "keep-alive", "proxy-connection", "proxy-authenticate",
	"proxy-authorization", "transfer-encoding", "upgrade", "http2-settings",
}

// removeHopByHop removes the fields of a message that must not be forwarded,
// and those its Connection field names.
func removeHopByHop(h *message.Header) {
	if h.Has("Connection") { // engines have taken it out; a geo of another version may not have
		for token := range h.Clone().Tokens("Connection") {
			h.Del(token)
		}
	}
	trailers := false
	for token := range h.Tokens("TE") {
		trailers = trailers || strings.EqualFold(token, "trailers")
	}
	h.DelFunc(func(name string) bool {
		if strings.EqualFold(name, "te") {
			return true
		}
		for _, f := range hopByHop {
			if strings.EqualFold(name, f) {
				return true
			}
		}
		return false
	})
	if trailers {
		h.Add("TE", "trailers")
	}
}

// hasPrefix reports whether a field name begins with prefix (lower case). "_"
// counts as "-": CGI and its heirs show an app no difference.
func hasPrefix(name, prefix string) bool {
	if len(name) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// isName reports whether a field is called want (lower case), as hasPrefix sees it.
func isName(name, want string) bool { return len(name) == len(want) && hasPrefix(name, want) }

// removeEdge removes what only edges may say, and the announcement of it as a
// trailer.
func removeEdge(h *message.Header) {
	ours := func(name string) bool { return hasPrefix(name, edgePrefix) || replay.Owns(name) }
	h.DelFunc(ours)
	if !h.Has("Trailer") {
		return
	}
	announced := slices.Collect(h.Tokens("Trailer"))
	if kept := slices.DeleteFunc(announced, ours); len(kept) > 0 {
		h.Set("Trailer", strings.Join(kept, ", "))
	} else {
		h.Del("Trailer")
	}
}

// removeForwarded removes what an untrusted client says of those before it.
func removeForwarded(h *message.Header) {
	h.DelFunc(func(name string) bool {
		return hasPrefix(name, forwardedPrefix) || isName(name, "forwarded") || isName(name, "x-request-id") || isName(name, "client-cert") || isName(name, "client-cert-chain")
	})
}

// cleanTrailers removes both from the trailer section of r, whoever sent it:
// nobody has a reason to say either there.
func cleanTrailers(r *message.Request) {
	if r.Body == nil {
		return
	}
	r.Body.EditTrailer(func(h *message.Header) {
		removeEdge(h)
		removeForwarded(h)
	})
}

// addForwarded tells a backend who sent r: X-Forwarded-*, Forwarded (RFC 7239)
// and Via (RFC 9110 section 7.6.3). Values that a trusted proxy gave are continued.
func addForwarded(r *message.Request) {
	h, a := &r.Header, r.Arena
	peer := r.Peer.Addr().Unmap().WithZone("")
	node := a.Addr(peer)
	appendList(a, h, "X-Forwarded-For", node)
	if !h.Has("X-Forwarded-Proto") {
		h.Add("X-Forwarded-Proto", r.Scheme)
	}
	if !h.Has("X-Forwarded-Host") {
		h.Add("X-Forwarded-Host", r.Authority)
	}
	appendList(a, h, "Forwarded", forwardedElement(a, node, peer.Is6(), r.Scheme, r.Authority))
	appendList(a, h, "Via", viaElement(r.Version))
}

// appendList adds an element at the end of a list field, on one line.
func appendList(a *message.Arena, h *message.Header, name, element string) {
	if before := h.Joined(name); before != "" {
		element = a.Join(before, ", ", element)
	}
	h.Set(name, element)
}

// forwardedElement is one element of Forwarded (RFC 7239 section 4). IPv6
// addresses need brackets and so quotes (section 6).
func forwardedElement(a *message.Arena, node string, is6 bool, scheme, host string) string {
	before, after := "for=", ";host="
	if is6 {
		before, after = `for="[`, `]";host=`
	}
	return a.Join(before, node, after, quote(host), ";proto=", scheme)
}

// quote returns s as a token where it is one, as a quoted-string otherwise
// (RFC 9110 sections 5.6.2 and 5.6.4).
func quote(s string) string {
	plain := s != ""
	for i := range len(s) {
		plain = plain && isUnreserved(s[i])
	}
	if plain {
		return s
	}
	b := append(make([]byte, 0, len(s)+2), '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(append(b, '"'))
}

// viaElement is this proxy's element of Via: the version received, and a
// pseudonym.
func viaElement(v message.Version) string {
	switch v {
	case message.HTTP2:
		return "2 " + pseudonym
	case message.HTTP3:
		return "3 " + pseudonym
	case message.HTTP1:
	}
	return "1.1 " + pseudonym
}

// clientOf returns who a request is from: peer, unless trusted proxies say
// more. X-Forwarded-For is read from the right, and the first address that is
// no trusted proxy is the client; what stands left of it could be anything.
func clientOf(peer netip.Addr, h message.Header, trusted []netip.Prefix) netip.Addr {
	client := peer
	if !within(trusted, client) || !h.Has("X-Forwarded-For") {
		return client
	}
	for _, node := range slices.Backward(strings.Split(h.Joined("X-Forwarded-For"), ",")) {
		addr, ok := parseNode(node)
		if !ok {
			return client
		}
		client = addr
		if !within(trusted, client) {
			return client
		}
	}
	return client
}

// parseNode reads an address with or without a port, as proxies write it into
// X-Forwarded-For.
func parseNode(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t\"")
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
