package h1

import (
	"errors"
	"net/netip"
	"strings"

	"anyedge/internal/message"
)

// A head is a request's line and header section.
type head struct {
	method, target, authority string
	minor                     int // of HTTP/1
	header                    message.Header
	frame                     frame
}

// parseRequest reads the head of a request (RFC 9112 sections 2 to 6), which is a's.
// Its strings share memory with s.
func parseRequest(a *message.Arena, s string) (*head, *refusal) {
	line, fields, ok := strings.Cut(s, "\r\n")
	if !ok || !strings.HasSuffix(fields, "\r\n") {
		return nil, refuse(400, RuleField, "the header section has no end")
	}
	h := message.Part[head](a)
	if bad := h.line(line); bad != nil {
		return nil, bad
	}
	var err error
	if h.header, err = parseFields(a, fields[:len(fields)-2]); err != nil {
		return nil, badField(err)
	}
	if h.frame, err = cutFrame(&h.header, true); err != nil {
		if errors.Is(err, errUnknownCoding) && h.minor > 0 {
			return nil, &refusal{501, RuleFraming, err}
		}
		return nil, &refusal{400, RuleFraming, err}
	}
	return h, h.check()
}

// badField refuses a header section for one of its lines.
func badField(err error) *refusal {
	if errors.Is(err, errBareLF) {
		return &refusal{400, RuleBareLF, err}
	}
	return &refusal{400, RuleField, err}
}

// line reads METHOD SP TARGET SP VERSION.
func (h *head) line(line string) *refusal {
	method, rest, ok1 := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	switch {
	case !ok1 || !ok2 || method == "" || !all(method, isToken):
		return refuse(400, RuleRequestLine, "the request line is malformed")
	case version == "HTTP/1.0":
	case !isVersion(version):
		return refuse(400, RuleRequestLine, "the request line does not end with a version")
	case version[5] != '1':
		return refuse(505, RuleRequestLine, "%.8q is not spoken here", version)
	default: // a later minor version is read as the last one known (RFC 9110 section 2.5)
		h.minor = 1
	}
	if !message.IsVisible(target) || strings.Contains(target, "#") {
		// A fragment is none of a target; who reads on behind it sees another path.
		return refuse(400, RuleTarget, "the request target has a character that must be percent-encoded")
	}
	h.method = method
	return h.setTarget(target)
}

// isVersion reports whether s is HTTP/DIGIT.DIGIT.
func isVersion(s string) bool {
	digit := func(c byte) bool { return c >= '0' && c <= '9' }
	return len(s) == len("HTTP/1.1") && s[:5] == "HTTP/" && digit(s[5]) && s[6] == '.' && digit(s[7])
}

// setTarget reads the four forms of a target (RFC 9112 section 3.2).
func (h *head) setTarget(target string) *refusal {
	switch {
	case h.method == "CONNECT":
		if port, ok := authorityPort(target); !ok || port == "" {
			return refuse(400, RuleTarget, "the request target of CONNECT is not HOST:PORT")
		}
		h.target, h.authority = target, target
	case strings.HasPrefix(target, "/"), target == "*" && h.method == "OPTIONS":
		h.target = target
	default:
		scheme, rest, ok := strings.Cut(target, "://")
		if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
			return refuse(400, RuleTarget, "the request target is neither a path nor a http URL")
		}
		i := strings.IndexAny(rest, "/?")
		switch {
		case i < 0 && h.method == "OPTIONS":
			h.authority, h.target = rest, "*"
		case i < 0:
			h.authority, h.target = rest, "/"
		case rest[i] == '/':
			h.authority, h.target = rest[:i], rest[i:]
		default:
			h.authority, h.target = rest[:i], "/"+rest[i:]
		}
		if _, ok := authorityPort(h.authority); !ok {
			return refuse(400, RuleTarget, "the request target names no host")
		}
	}
	return nil
}

// authorityPort reads HOST[:PORT] without user information (RFC 9110 section
// 4.2.4), and reports whether it is that.
func authorityPort(s string) (port string, ok bool) {
	var host string
	if rest, bracketed := strings.CutPrefix(s, "["); bracketed {
		host, port, ok = strings.Cut(rest, "]")
		a, err := netip.ParseAddr(host)
		ok = ok && err == nil && a.Is6() && a.Zone() == ""
	} else {
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, port = s[:i], s[i:]
		} else {
			host = s
		}
		ok = host != "" && all(host, isHost)
	}
	if port != "" {
		ok = ok && port[0] == ':' && strings.Trim(port, "0123456789") == ":"
		port = port[1:]
	}
	return port, ok
}

// check looks at what the fields must say together.
func (h *head) check() *refusal {
	f := &h.frame
	_, valid := authorityPort(f.host)
	switch {
	case f.hosts > 1:
		return refuse(400, RuleHost, "Host is given twice")
	case f.hosts == 0 && h.minor > 0:
		return refuse(400, RuleHost, "there is no Host")
	case f.host != "" && !valid:
		return refuse(400, RuleHost, "Host is no HOST[:PORT]")
	case f.chunked && h.minor == 0:
		return refuse(400, RuleFraming, "HTTP/1.0 has no Transfer-Encoding")
	case f.expect != "" && !same(f.expect, "100-continue"):
		return refuse(417, RuleExpect, "only 100-continue can be expected")
	}
	if h.authority == "" { // an absolute target or CONNECT says it (section 3.2.2)
		h.authority = f.host
	}
	if !f.upgrade || h.minor == 0 || f.chunked || f.length > 0 || !message.IsSwitchable(f.protocol) {
		f.protocol = ""
	}
	return nil
}

// keepAlive reports whether the client wants to send more requests (section
// 9.3). What follows a CONNECT may be bytes for the tunnel.
func (h *head) keepAlive() bool {
	return !h.frame.close && (h.minor > 0 || h.frame.keep) && h.method != "CONNECT"
}

// hasContent reports whether content follows.
func (h *head) hasContent() bool { return h.frame.chunked || h.frame.length > 0 }
