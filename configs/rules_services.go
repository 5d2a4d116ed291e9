package configs

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"anyedge/proxy"
	"anyedge/proxy/upstream"
)

// ruleHosts: hosts and paths can match requests.
func ruleHosts(c *check) {
	for i, s := range c.cfg.Services {
		at := fmt.Sprintf("services[%d]", i)
		if len(s.Hosts) == 0 {
			c.errorf(at+".hosts", "required", `service %s has no hosts: "*" takes any`, s.Name)
		}
		for j, h := range s.Hosts {
			if err := checkHost(h, true); err != nil {
				c.error(fmt.Sprintf("%s.hosts[%d]", at, j), "bad-host", err.Error())
			}
		}
		for j, p := range s.Paths {
			if !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "?#*") {
				c.errorf(fmt.Sprintf("%s.paths[%d]", at, j), "bad-path", "%q is not a path prefix: it begins with / and has no ?, # or *", p)
			}
		}
	}
}

var hostForm = regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)

// checkHost reports why s is not a host name, an address, *.NAME or, where all
// is set, "*".
func checkHost(s string, all bool) error {
	if all && s == "*" {
		return nil
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return nil
	}
	if hostForm.MatchString(s) && len(s) <= 253 {
		return nil
	}
	hint := ""
	switch {
	case strings.Contains(s, "://"):
		hint = ": leave out the scheme"
	case hostForm.MatchString(strings.ToLower(s)):
		hint = fmt.Sprintf(": write it in lower case, %q", strings.ToLower(s))
	case strings.Contains(s, ":"):
		hint = ": leave out the port, it is the listener's"
	case strings.Contains(s, "*"):
		hint = `: * may only stand for the whole first label, as in "*.example.net"`
	}
	return fmt.Errorf("%q is not a host name%s", s, hint)
}

// ruleServiceListeners: a service is on listeners that exist.
func ruleServiceListeners(c *check) {
	for i, s := range c.cfg.Services {
		for j, name := range s.Listeners {
			c.ref(fmt.Sprintf("services[%d].listeners[%d]", i, j), "listener", name, c.cfg.listenerNames(), "listeners")
		}
	}
}

// ruleServiceClash: a request belongs to one service.
func ruleServiceClash(c *check) {
	type route struct{ listener, host, path string }
	seen := map[route]string{}
	for i, s := range c.cfg.Services {
		clash := func(l proxy.ListenerConfig, j int, host string) bool {
			for _, p := range paths(s) {
				r := route{l.Name, strings.ToLower(host), p}
				if other, ok := seen[r]; ok && other != s.Name {
					c.errorf(fmt.Sprintf("services[%d].hosts[%d]", i, j), "service-clash",
						"host %q with path %q on listener %s already belongs to service %s", host, p, l.Name, other)
					return true
				}
				seen[r] = s.Name
			}
			return false
		}
		for j, host := range s.Hosts {
			for _, l := range c.cfg.Listeners {
				if serves(s, l.Name) && !l.Private && clash(l, j, host) {
					break
				}
			}
		}
	}
}

// paths returns the service's path prefixes, which have a default.
func paths(s proxy.ServiceConfig) []string {
	if len(s.Paths) == 0 {
		return []string{"/"}
	}
	return s.Paths
}

// ruleBackends: backends have addresses, and a service has backends.
func ruleBackends(c *check) {
	for i, s := range c.cfg.Services {
		at := fmt.Sprintf("services[%d]", i)
		c.backendURLs(at+".backends", s.Backends)
		own := 0
		if c.cfg.Node != nil {
			own = len(c.cfg.Node.Backends[s.Name])
		}
		if own+len(s.Backends) == 0 && s.Discover == nil {
			c.warnf(at, "no-backends", "service %s has no backend here: give it backends, or this node some under node.backends", s.Name)
		}
	}
	if c.cfg.Node != nil {
		for _, name := range sortedKeys(c.cfg.Node.Backends) {
			c.backendURLs("node.backends."+name, c.cfg.Node.Backends[name])
		}
	}
}

// ruleBalance: a way to choose a backend is one that there is.
func ruleBalance(c *check) {
	for i, s := range c.cfg.Services {
		if err := upstream.ParseBalance(s.Balance); err != nil {
			c.error(fmt.Sprintf("services[%d].balance", i), "bad-balance", err.Error())
		}
	}
}

func (c *check) backendURLs(list string, backends []upstream.BackendConfig) {
	for i, b := range backends {
		if err := checkBackendURL(b.URL); err != nil {
			c.error(fmt.Sprintf("%s[%d].url", list, i), "bad-url", err.Error())
		}
	}
}

// checkBackendURL reports why s is not a backend's URL.
func checkBackendURL(s string) error {
	const want = "want http://HOST:PORT or h2c://HOST:PORT"
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return fmt.Errorf("%q is not a URL: %s", s, want)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "h2c":
		return fmt.Errorf("scheme %q: edged speaks plain HTTP to its backends, %s", u.Scheme, want)
	case u.Hostname() == "" || u.Port() == "":
		return fmt.Errorf("%q has no port: %s", s, want)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return fmt.Errorf("%q has more than host and port: %s", s, want)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %s of %q is not 1-65535", u.Port(), s)
	}
	return nil
}

// ruleHealth: a check can succeed.
func ruleHealth(c *check) {
	for i, s := range c.cfg.Services {
		c.grpcBackends(i, s)
		h := s.Health.HTTP
		if h == nil {
			continue
		}
		at := fmt.Sprintf("services[%d].health.http", i)
		if !strings.HasPrefix(cmp.Or(h.Path, "/"), "/") {
			c.errorf(at+".path", "bad-path", "%q does not begin with /", h.Path)
		}
		for j, status := range h.Expect {
			if status < 200 || status > 599 {
				c.errorf(fmt.Sprintf("%s.expect[%d]", at, j), "bad-status", "%d is not the status of a final answer (200-599)", status)
			}
		}
		if h.Interval != nil && *h.Interval == 0 {
			c.error(at+".interval", "bad-interval", "an interval of 0s would never let the backend rest")
		}
		if h.Timeout != nil && *h.Timeout == 0 {
			c.error(at+".timeout", "bad-interval", "a timeout of 0s lets no check succeed")
		}
	}
}

// grpcBackends: gRPC is spoken over HTTP/2.
func (c *check) grpcBackends(i int, s proxy.ServiceConfig) {
	for j, b := range s.Backends {
		if s.Health.GRPC != nil && !strings.HasPrefix(b.URL, "h2c:") {
			c.errorf(fmt.Sprintf("services[%d].backends[%d].url", i, j), "bad-url", "%q: health.grpc needs h2c://", b.URL)
		}
	}
}

// ruleReplay: a backend may ask for geos that exist.
func ruleReplay(c *check) {
	for i, s := range c.cfg.Services {
		for j, name := range s.Replay.Allow {
			c.geoRef(fmt.Sprintf("services[%d].replay.allow[%d]", i, j), name, "all")
		}
	}
}

// ruleOverload: exceptions name what exists.
func ruleOverload(c *check) {
	for i, name := range c.cfg.Overload.NeverTo {
		c.geoRef(fmt.Sprintf("overload.never_to[%d]", i), name)
	}
	for i, name := range c.cfg.Overload.ExemptServices {
		c.ref(fmt.Sprintf("overload.exempt_services[%d]", i), "service", name, slices.Clone(c.cfg.serviceNames()), "services")
	}
}
