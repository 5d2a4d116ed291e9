package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A table finds the service of a request by host and path. It is compiled once
// and never changes.
//
// The most specific host with a matching path wins (an exact name, then a
// wildcard for one label, then "*"); under one host, the longest path prefix.
type table struct {
	exact    map[string][]pathRoute
	wildcard map[string][]pathRoute // by what follows the first label: ".example.net"
	other    []pathRoute            // "*"
}

// A pathRoute leads paths below a prefix to a service.
type pathRoute struct {
	prefix  string // normalised
	service *service
}

// newTable compiles the routes of services. Two services that claim the same
// host and path are an error.
func newTable(services []*service) (*table, error) {
	t := &table{exact: map[string][]pathRoute{}, wildcard: map[string][]pathRoute{}}
	var errs []error
	for _, s := range services {
		for _, host := range s.cfg.Hosts {
			for _, path := range s.paths() {
				errs = append(errs, t.add(host, path, s))
			}
		}
	}
	for _, routes := range t.exact {
		sortRoutes(routes)
	}
	for _, routes := range t.wildcard {
		sortRoutes(routes)
	}
	sortRoutes(t.other)
	return t, errors.Join(errs...)
}

func (t *table) add(host, path string, s *service) error {
	prefix, err := normalise(path)
	if err != nil {
		return fmt.Errorf("service %s: path %q: %w", s.cfg.Name, path, err)
	}
	r := pathRoute{prefix, s}
	if host == "*" {
		t.other, err = addRoute(t.other, r, host)
		return err
	}
	name, isWildcard := strings.CutPrefix(host, "*.")
	a, err := parseAuthority(bracket(name))
	if err != nil || a.port != "" {
		return fmt.Errorf("service %s: %q is not a host: want NAME, *.NAME or *", s.cfg.Name, host)
	}
	m, key := t.exact, a.host
	if isWildcard {
		m, key = t.wildcard, "."+a.host
	}
	m[key], err = addRoute(m[key], r, host)
	return err
}

// bracket gives an IPv6 address the form it has in a URL.
func bracket(host string) string {
	if strings.Count(host, ":") > 1 && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}

func addRoute(routes []pathRoute, r pathRoute, host string) ([]pathRoute, error) {
	for _, o := range routes {
		if o.prefix == r.prefix && o.service != r.service {
			return routes, fmt.Errorf("services %s and %s both claim %s%s", o.service.cfg.Name, r.service.cfg.Name, host, r.prefix)
		}
	}
	return append(routes, r), nil
}

// sortRoutes puts the longest prefix first.
func sortRoutes(routes []pathRoute) {
	slices.SortStableFunc(routes, func(a, b pathRoute) int { return len(b.prefix) - len(a.prefix) })
}

// find returns the service for a host and a path, nil when there is none.
// known reports whether any service has the host.
func (t *table) find(host, path string) (s *service, known bool) {
	sets := [3][]pathRoute{t.exact[host], nil, t.other}
	if i := strings.IndexByte(host, '.'); i > 0 {
		sets[1] = t.wildcard[host[i:]]
	}
	for _, routes := range sets {
		known = known || len(routes) > 0
		for _, r := range routes {
			if r.matches(path) {
				return r.service, true
			}
		}
	}
	return nil, known
}

// matches reports whether path is the prefix or below it.
func (r pathRoute) matches(path string) bool {
	rest, ok := strings.CutPrefix(path, r.prefix)
	return ok && (rest == "" || rest[0] == '/' || strings.HasSuffix(r.prefix, "/"))
}
