package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/admission"
	"anyedge/proxy/limits"
	"anyedge/proxy/upstream"
)

// A Question describes a request that is not sent.
type Question struct {
	Method   string
	URL      string
	Header   message.Header
	Client   netip.Addr // not valid: 127.0.0.1
	Listener string     // "": found by the URL

	BackendsDown []string // as if these were not there
	GeosDown     []string
}

// An Explanation is what would happen with a request now, and why.
type Explanation struct {
	Steps    []ExplainedStep
	Outcome  string
	Status   int  // of the edge's own answer; 0: somebody would serve it
	Rule     Rule // by which it would be
	Service  string
	Geo      string // that would serve it; "" for none
	Backends []string
}

// An ExplainedStep is one decision on the way.
type ExplainedStep struct{ Name, Text string }

// Explain says what would happen with a request now, without sending it or counting
// anything. The error says what is wrong with the question.
func (p *Proxy) Explain(q Question) (Explanation, error) {
	u, ok := splitURL(q.URL)
	if !ok {
		return Explanation{}, fmt.Errorf("%q is no URL of http or https", q.URL)
	}
	for _, b := range q.BackendsDown {
		if !slices.ContainsFunc(p.services, func(s *service) bool {
			return slices.ContainsFunc(s.pool.Status(), func(x upstream.BackendStatus) bool { return x.Name == b })
		}) {
			return Explanation{}, fmt.Errorf("no service here has a backend %q", b)
		}
	}
	for _, g := range q.GeosDown {
		if !slices.Contains(p.geos(), g) || g == p.setup.Geo {
			return Explanation{}, fmt.Errorf("there is no other geo %q", g)
		}
	}
	x := explainer{proxy: p, q: q, now: time.Now()}
	l, err := x.listener(u)
	if err != nil {
		return Explanation{}, err
	}
	x.explain(l, u)
	return x.out, nil
}

// A location is a URL in parts, as a client would send them: what is wrong with them
// is to be explained, not to be mended.
type location struct{ scheme, authority, target string }

func splitURL(text string) (location, bool) {
	scheme, rest, ok := strings.Cut(text, "://")
	at := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		at = i
	}
	u := location{strings.ToLower(scheme), rest[:at], rest[at:]}
	u.target, _, _ = strings.Cut(u.target, "#")
	if !strings.HasPrefix(u.target, "/") {
		u.target = "/" + u.target
	}
	return u, ok && u.authority != "" && (u.scheme == "http" || u.scheme == "https")
}

// port is that which a client connects to.
func (u location) port() string {
	if a, err := parseAuthority(u.authority); err == nil && a.port != "" {
		return a.port
	}
	return map[string]string{"http": "80", "https": "443"}[u.scheme]
}

// private reports whether apps of this geo use it.
func (u location) private() bool {
	a, err := parseAuthority(u.authority)
	return err == nil && strings.HasSuffix(a.host, privateZone)
}

// An explainer follows a request without sending it.
type explainer struct {
	proxy *Proxy
	q     Question
	now   time.Time
	out   Explanation
	e     *Exchange
}

func (x *explainer) step(name, format string, args ...any) {
	x.out.Steps = append(x.out.Steps, ExplainedStep{name, fmt.Sprintf(format, args...)})
}

// listener finds the listener that a URL leads to.
func (x *explainer) listener(u location) (*listener, error) {
	port := u.port()
	var other *listener
	var names []string
	for _, l := range x.proxy.listeners {
		names = append(names, l.cfg.Name)
		secure := l.cfg.TLS != nil
		switch {
		case x.q.Listener != "" && x.q.Listener != l.cfg.Name:
			continue
		case x.q.Listener != "":
			x.step("listener", "%s, as asked for", l.cfg.Name)
			return l, nil
		case secure != (u.scheme == "https"):
			continue
		}
		at := l.addresses
		if bound := l.bound.Load(); bound != nil {
			at = *bound
		}
		if slices.ContainsFunc(at, func(a netip.AddrPort) bool { return strconv.Itoa(int(a.Port())) == port }) {
			x.step("listener", "%s, at port %s", l.cfg.Name, port)
			return l, nil
		}
		if other == nil && l.cfg.Private == u.private() {
			other = l
		}
	}
	switch {
	case x.q.Listener != "":
		return nil, fmt.Errorf("there is no listener %q; there are %s", x.q.Listener, strings.Join(names, ", "))
	case other == nil:
		return nil, fmt.Errorf("no listener takes %s from such clients; there are %s: name one", u.scheme, strings.Join(names, ", "))
	}
	x.step("listener", "%s: none is at port %s, and this one takes %s", other.cfg.Name, port, u.scheme)
	return other, nil
}

// explain follows the request from the listener on.
func (x *explainer) explain(l *listener, u location) {
	client := x.q.Client
	if !client.IsValid() {
		client = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	r := &message.Request{
		Version: message.HTTP1, Method: cmp.Or(x.q.Method, "GET"), Scheme: u.scheme, Authority: u.authority, Target: u.target,
		Header: x.q.Header.Clone(), Peer: netip.AddrPortFrom(client, 1), Received: x.now,
	}
	e := x.proxy.begin(l, r)
	x.e = e
	if resp := e.check(); resp != nil {
		x.refused("request", resp)
		return
	}
	x.step("request", "%s %s%s of client %s", r.Method, r.Authority, r.Target, e.client)
	if l.cfg.RedirectHTTPS {
		x.out.Outcome = "would be redirected to https"
		return
	}
	if resp := e.routeOn(l); resp != nil {
		x.refused("route", resp)
		return
	}
	e.service.active.Add(-1) // it is not under way
	x.out.Service = e.service.cfg.Name
	x.step("route", "service %s: %s", e.service.cfg.Name, x.why())
	if x.limits(l) {
		x.where()
	}
}

// refused ends the explanation with an answer of the edge's own.
func (x *explainer) refused(name string, resp *message.Response) {
	x.end(name, resp.Status, x.e.rule, x.e.record.err)
	resp.Close()
}

func (x *explainer) end(name string, status int, rule Rule, why string) {
	x.step(name, "%s", why)
	x.out.Status, x.out.Rule = status, rule
	x.out.Outcome = fmt.Sprintf("would be refused with %d, %s", status, rule)
}

// why says what the route matched.
func (x *explainer) why() string {
	s := x.e.service
	if x.e.call != nil {
		return "named by the host of a private listener, for geo " + x.e.call.geo
	}
	path, best := x.e.req.Path(), ""
	if normal, err := normalise(path); err == nil {
		path = normal
	}
	for _, prefix := range s.paths() {
		if (pathRoute{prefix: prefix}).matches(path) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return fmt.Sprintf("hosts %s, path %s", strings.Join(s.cfg.Hosts, " "), best)
}

// limits looks at what a client may ask for, and reports whether it goes on.
func (x *explainer) limits(l *listener) bool {
	e, c := x.e, x.e.service.limits
	if n, err := strconv.ParseInt(e.req.Header.Get("Content-Length"), 10, 64); err == nil && l.maxBody > 0 && n > int64(l.maxBody) {
		x.end("limits", 413, RuleBodySize, fmt.Sprintf("content of %d bytes is over the limit of %s", n, l.maxBody))
		return false
	}
	if c == nil || e.call != nil {
		x.step("limits", "none for one client")
		return true
	}
	client, cfg := limits.ClientOf(e.client), e.service.cfg.Limits
	var texts []string
	if c.concurrent != nil {
		n := c.concurrent.Has(client)
		if n >= cfg.ConcurrentPerIP {
			x.end("limits", 429, RuleClientConcurrent, fmt.Sprintf("%s has %d of %d requests at once", e.client, n, cfg.ConcurrentPerIP))
			return false
		}
		texts = append(texts, fmt.Sprintf("%s has %d of %d requests at once", e.client, n, cfg.ConcurrentPerIP))
	}
	if c.rate != nil {
		if wait := c.rate.Wait(x.now, client); wait > 0 {
			x.end("limits", 429, RuleClientRate, fmt.Sprintf("%s is over %g requests/s, the next one is allowed in %s", e.client, cfg.RPSPerIP, wait.Round(time.Millisecond)))
			return false
		}
		texts = append(texts, fmt.Sprintf("%s is within %g requests/s", e.client, cfg.RPSPerIP))
	}
	x.step("limits", "%s", strings.Join(texts, ", "))
	return true
}

// where follows the request to who would serve it.
func (x *explainer) where() {
	e, here := x.e, x.proxy.setup.Geo
	if e.call != nil && e.call.geo != here {
		x.step("door", "the call names its geo, so it goes there and nowhere else")
		x.served(e.call.geo, nil, "would be served by "+e.call.geo)
		return
	}
	d := x.proxy.door.Preview(x.now, e.service.cfg.Name, e.client)
	stays := e.call != nil || !x.movable()
	switch {
	case d.Observe:
		x.step("door", "served here: overload.mode is observe")
	case d.Verdict == admission.Relay && slices.Contains(x.q.GeosDown, d.Geo):
		x.step("door", "served here: %s, where this client's requests are shed to, is down in this question", d.Geo)
	case d.Verdict == admission.Relay && !stays:
		x.step("door", "shed to %s: this geo is overloaded, and the client's hash %.2f is below %.2f", d.Geo, d.Point, d.Relayed)
		x.served(d.Geo, nil, fmt.Sprintf("would be shed to %s, or served here when that is busy", d.Geo))
		return
	case stays && d.Relayed > 0:
		x.step("door", "served here: an upgrade, a private call or content of unknown or great length is never shed")
	case d.Relayed > 0:
		x.step("door", "served here: the client's hash %.2f is not below %.2f, or the service is not shed", d.Point, d.Relayed)
	default:
		x.step("door", "served here: nothing is shed now")
	}
	if d.Refused > 0 && !d.Observe {
		x.step("door", "every geo is full: %.0f%% of the requests are refused (%s)", 100*d.Refused, RuleFull)
	}
	x.local()
}

// movable is Exchange.movable of a request whose content is not there.
func (x *explainer) movable() bool {
	h := &x.e.req.Header
	if x.proxy.setup.Fabric == nil || h.Has("Upgrade") || h.Has("Transfer-Encoding") {
		return false
	}
	n, err := strconv.ParseInt(cmp.Or(h.Get("Content-Length"), "0"), 10, 64)
	return err == nil && n <= int64(x.e.service.cfg.Replay.Body())
}

// local follows the request to a backend, and without one to another geo.
func (x *explainer) local() {
	e, s := x.e, x.e.service
	var able, names, not []string
	full := true
	for _, b := range s.pool.Status() {
		switch {
		case slices.Contains(x.q.BackendsDown, b.Name):
			not = append(not, b.Name+" is down in this question")
		case b.State != upstream.Healthy:
			not = append(not, fmt.Sprintf("%s is %s (%s)", b.Name, b.State, cmp.Or(b.Why, b.LastError, "not checked yet")))
		default:
			text := fmt.Sprintf("%s (weight %d, %d under way", b.Name, b.Weight, b.Active)
			if b.Share < 1 {
				text += fmt.Sprintf(", %.0f%% of its share", 100*b.Share)
			}
			names, able = append(names, b.Name), append(able, text+")")
			full = full && b.Limit.Hard > 0 && b.Active >= int64(b.Limit.Hard)
		}
	}
	text := strings.Join(able, ", ")
	if name, ok := s.pool.Hashed(e.req, e.client); ok && slices.Contains(names, name) && len(x.q.BackendsDown) == 0 {
		names = []string{name}
		text = "by its hash " + name + ", of " + text
	}
	if len(not) > 0 {
		text = strings.Join(append(slices.DeleteFunc([]string{text}, func(s string) bool { return s == "" }), not...), "; ")
	}
	if len(able) > 0 {
		text = cmp.Or(s.cfg.Balance, "p2c") + ": " + text
	}
	x.step("backends", "%s", cmp.Or(text, "none is configured here"))
	switch {
	case len(names) > 0 && full:
		x.step("queue", "every backend has as much as its limit allows: it waits for one, then fails over or is refused (%s)", RuleBackendsFull)
		fallthrough
	case len(names) > 0:
		x.replay()
		who := "one of " + strings.Join(names, ", ")
		if len(names) == 1 {
			who = names[0]
		}
		x.served(x.proxy.setup.Geo, names, "would be served here, by "+who)
	default:
		x.failover()
	}
}

// failover follows a request that no backend here can take.
func (x *explainer) failover() {
	s := x.e.service
	others := slices.DeleteFunc(slices.Clone(x.proxy.door.Elsewhere(s.cfg.Name)), func(geo string) bool {
		return slices.Contains(x.q.GeosDown, geo) || geo == x.proxy.setup.Geo
	})
	switch {
	case x.e.call == nil && x.proxy.setup.Fabric != nil && len(others) > 0:
		x.step("failover", "the nearest geo that can serve it: %s", strings.Join(others, ", then "))
		x.served(others[0], nil, "would be served by "+others[0]+" (failover)")
	case x.e.call == nil && s.pool.Total() > len(x.q.BackendsDown):
		x.step("failover", "no other geo can serve it")
		x.end("backends", 503, RuleNoBackend, "as a last resort any backend here is asked, well or not")
	default:
		x.end("failover", 503, RuleNoBackend, "nobody else can serve it")
	}
}

// replay says what an app could ask for.
func (x *explainer) replay() {
	c := x.e.service.cfg.Replay
	if c.Ignored() || x.proxy.setup.Fabric == nil {
		return
	}
	var geos []string
	for _, geo := range x.proxy.geos() {
		if geo != x.proxy.setup.Geo && c.Allows(geo, x.proxy.setup.Groups) && !slices.Contains(x.q.GeosDown, geo) {
			geos = append(geos, geo)
		}
	}
	if len(geos) > 0 {
		x.step("replay", "if the backend asks for it, to %s; content up to %s", strings.Join(geos, " "), c.Body())
	}
}

func (x *explainer) served(geo string, backends []string, outcome string) {
	x.out.Geo, x.out.Backends, x.out.Outcome = geo, backends, outcome
}
