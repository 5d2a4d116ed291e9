package proxy

import (
	"net"
	"strconv"
	"strings"

	"anyedge/internal/message"
)

// allowed are the methods that a server of this proxy's kind passes on.
const allowed = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"

// check refuses what no service may get.
func (e *Exchange) check() *message.Response {
	r := e.req
	host, err := parseAuthority(r.Authority)
	if err != nil {
		return e.refuse(400, RuleRequest, err.Error())
	}
	e.host = host
	switch {
	case !message.IsToken(r.Method):
		return e.refuse(400, RuleRequest, "the method is no token")
	case r.Method == "TRACE":
		return e.refuse(405, RuleRequest, "TRACE is not allowed here", message.Field{Name: "Allow", Value: allowed})
	case r.Method == "CONNECT" && r.Protocol == "":
		return e.refuse(501, RuleRequest, "CONNECT: this is no forward proxy")
	case r.Target == "*" && r.Method == "OPTIONS":
		return nil
	case !strings.HasPrefix(r.Target, "/") || strings.ContainsAny(r.Target, "# \t\r\n\x00"):
		return e.refuse(400, RuleRequest, errBadTarget.Error())
	}
	return nil
}

// misdirected refuses a request for a host that its connection was not made for
// (RFC 9110 section 7.4): the client asked for another name, and the certificate
// that it got is not good for this one. A browser asks again on a connection of
// its own.
func (e *Exchange) misdirected(l *listener) *message.Response {
	s := e.req.Secure
	if s == nil || s.ServerName == "" || s.ServerName == e.host.host || l.covers(s.ServerName, e.host.host) {
		return nil
	}
	return e.refuse(421, RuleMisdirected, "the connection was made for "+strconv.QuoteToASCII(cutText(s.ServerName))+", whose certificate is not good for this host")
}

// routeOn finds the service of a request through l.
func (e *Exchange) routeOn(l *listener) *message.Response {
	if l.cfg.Private {
		return e.routeCall(l)
	}
	return e.route(l.table)
}

// route finds the service. The raw path and its normal form must lead to the
// same one: a backend gets the raw form, and must not be reached past a rule
// that its normal form falls under.
func (e *Exchange) route(t *table) *message.Response {
	raw := e.req.Path()
	path, err := normalise(raw)
	if err != nil {
		return e.refuse(400, RuleRequest, err.Error())
	}
	s, known := t.find(e.host.host, path)
	switch {
	case !known:
		return e.refuse(404, RuleUnrouted, "no service here has the host "+strconv.QuoteToASCII(cutText(e.host.host)))
	case s == nil:
		return e.refuse(404, RuleUnrouted, "no service of the host "+strconv.QuoteToASCII(cutText(e.host.host))+" has this path")
	}
	if path != raw {
		if other, _ := t.find(e.host.host, raw); other != s {
			return e.refuse(400, RuleRequest, "the path is not in its normal form, and its normal form belongs to another service")
		}
	}
	e.join(s)
	return nil
}

// redirect sends a client to the same place over TLS.
func (e *Exchange) redirect(l *listener) *message.Response {
	host := bracket(e.host.host)
	if l.httpsPort != 0 && l.httpsPort != 443 {
		host = net.JoinHostPort(e.host.host, strconv.Itoa(int(l.httpsPort)))
	}
	status := 308
	if e.req.Method == "GET" || e.req.Method == "HEAD" {
		status = 301
	}
	target := e.req.Target
	if target == "*" {
		target = "/"
	}
	return answer(status, "", message.Field{Name: "Location", Value: "https://" + host + target})
}
