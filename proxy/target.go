package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// errBadTarget means that a request's target is no origin-form (RFC 9112
// section 3.2.1).
var errBadTarget = errors.New("the request target is not a path")

// normalise returns the normal form of a path (RFC 3986 section 6.2.2):
// percent-encoded unreserved characters decoded, hex digits in upper case, dot
// segments removed. Routing looks at it; a backend never sees it.
func normalise(path string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		return "", errBadTarget
	}
	if strings.Contains(path, "%") {
		decoded, err := decodeUnreserved(path)
		if err != nil {
			return "", err
		}
		path = decoded
	}
	if strings.Contains(path, "/.") {
		path = removeDotSegments(path)
	}
	return path, nil
}

func decodeUnreserved(path string) (string, error) {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		c := path[i]
		if c != '%' {
			b.WriteByte(c)
			continue
		}
		if i+2 >= len(path) || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return "", fmt.Errorf("%w: %% without two hex digits", errBadTarget)
		}
		v := unhex(path[i+1])<<4 | unhex(path[i+2])
		if isUnreserved(v) {
			b.WriteByte(v)
		} else {
			b.WriteString("%" + strings.ToUpper(path[i+1:i+3]))
		}
		i += 2
	}
	return b.String(), nil
}

// removeDotSegments is RFC 3986 section 5.2.4 for a path that begins with "/".
func removeDotSegments(path string) string {
	segments := strings.Split(path[1:], "/")
	out := make([]string, 0, len(segments))
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".", "..":
			if s == ".." && len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

// isUnreserved is RFC 3986 section 2.3.
func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// An authority is the host a request is for, in the form that routes use.
type authority struct {
	host string // lower case, without a trailing dot; an IPv6 address has no brackets
	port string // "" when absent
}

// parseAuthority reads HOST[:PORT] (RFC 9110 section 7.2). User information,
// and bytes that no host name has, are errors.
func parseAuthority(s string) (authority, error) {
	bad := func(why string) (authority, error) {
		return authority{}, fmt.Errorf("the host %q %s", cutText(s), why)
	}
	if s == "" {
		return authority{}, errors.New("the request names no host")
	}
	if strings.HasPrefix(s, "[") {
		inside, rest, ok := strings.Cut(s[1:], "]")
		addr, err := netip.ParseAddr(inside)
		if !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return bad("is not an IPv6 address in brackets")
		}
		port, ok := cutPort(rest)
		if !ok {
			return bad("has a malformed port")
		}
		return authority{addr.String(), port}, nil
	}
	host, rest := s, ""
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	}
	port, ok := cutPort(rest)
	if !ok {
		return bad("has a malformed port")
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "" || len(host) > 253 {
		return bad("is not a host name")
	}
	for i := range len(host) {
		if c := host[i]; !isUnreserved(c) || c == '~' {
			return bad("has a character that no host name has")
		}
	}
	if strings.Contains(host, "..") || host[0] == '.' {
		return bad("has an empty label")
	}
	return authority{host, port}, nil
}

// cutPort reads "" or ":PORT".
func cutPort(s string) (string, bool) {
	if s == "" {
		return "", true
	}
	port := s[1:]
	if s[0] != ':' || len(port) > 5 {
		return "", false
	}
	n := 0
	for i := range len(port) {
		if port[i] < '0' || port[i] > '9' {
			return "", false
		}
		n = n*10 + int(port[i]-'0')
	}
	return port, n <= 65535
}

// cutText bounds what an answer or a log repeats of a client's words.
func cutText(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
