package configs

import (
	"errors"
	"fmt"
	"slices"

	"anyedge/bgp"
	"anyedge/internal/steering"
	"anyedge/internal/world"
	"anyedge/proxy"
	"anyedge/proxy/certs"
	"anyedge/proxy/upstream"
)

// A rule judges what a schema cannot say.
type rule func(*check)

// rules are all of them, by the section they stand in.
var rules = []rule{
	ruleNames,

	ruleNodeGeo,
	ruleNodeName,
	ruleNodeBackends,
	ruleNodeSections,

	ruleGeoNumbers,
	ruleGeoLocation,
	ruleGeoFabric,
	ruleGroups,
	ruleFabricNeeds,
	ruleFabricAddresses,
	ruleDNSAddress,
	ruleMetricsAddress,

	ruleBGPNeeds,
	ruleBGPTimers,
	ruleBGPListen,
	ruleNextHop,
	ruleNeighbors,
	ruleFamilies,

	ruleVIPAddresses,
	ruleVIPOverlap,
	ruleVIPLength,
	ruleVIPGeos,
	ruleVIPGuard,
	ruleVIPTwin,
	ruleVIPUnheard,
	ruleAnnounceWhen,
	ruleCommunities,
	ruleDrain,

	ruleL4,

	ruleListenerPlace,
	ruleListenerClash,
	ruleListenerTLS,
	rulePrivateListeners,

	ruleCertificates,

	ruleHosts,
	ruleServiceListeners,
	ruleServiceClash,
	ruleBackends,
	ruleBalance,
	ruleHealth,
	ruleReplay,
	ruleOverload,

	ruleSocket,
	ruleAccessLog,

	ruleOwn, // the last: it adds only what none of the above has said
}

// ruleNames: names have the form of names, and are unique in their list. Geos
// and groups share one list, since both may stand where geos are named.
func ruleNames(c *check) {
	geos := pick(c.cfg.Geos, func(g *world.GeoConfig) string { return g.Name })
	c.names("geos", geos, nil)
	c.names("groups", pick(c.cfg.Groups, func(g *world.GroupConfig) string { return g.Name }), geos)
	c.names("vips", pick(c.cfg.VIPs, func(v *steering.VIPConfig) string { return v.Name }), nil)
	c.names("listeners", pick(c.cfg.Listeners, func(l *proxy.ListenerConfig) string { return l.Name }), nil)
	c.names("certificates", pick(c.cfg.Certificates, func(x *certs.Config) string { return x.Name }), nil)
	c.names("services", pick(c.cfg.Services, func(s *proxy.ServiceConfig) string { return s.Name }), nil)
	backend := func(b *upstream.BackendConfig) string { return b.Name }
	for i, s := range c.cfg.Services {
		c.names(fmt.Sprintf("services[%d].backends", i), pick(s.Backends, backend), nil)
	}
	if c.cfg.Node == nil {
		return
	}
	for _, name := range sortedKeys(c.cfg.Node.Backends) {
		shared := c.cfg.service(name)
		var taken []string
		if shared != nil {
			taken = pick(shared.Backends, backend)
		}
		c.names("node.backends."+name, pick(c.cfg.Node.Backends[name], backend), taken)
	}
	if b := c.cfg.Node.BGP; b != nil {
		c.names("node.bgp.neighbors", pick(b.Neighbors, func(n *bgp.NeighborConfig) string { return n.Name }), nil)
	}
}

// names checks the names of one list; taken are those of another that it must
// not repeat.
func (c *check) names(list string, names, taken []string) {
	seen := map[string]string{}
	for _, t := range taken {
		seen[t] = "already taken"
	}
	for i, name := range names {
		path := fmt.Sprintf("%s[%d].name", list, i)
		if err := world.CheckName(name); err != nil {
			c.error(path, "bad-name", err.Error())
			continue
		}
		if where, ok := seen[name]; ok {
			c.errorf(path, "duplicate-name", "%q is %s: names are unique in %s", name, where, list)
			continue
		}
		seen[name] = fmt.Sprintf("already the name of %s[%d]", list, i)
	}
}

// ruleOwn: what the packages themselves refuse. It has the place of the
// section only, so it is silent where a rule above has found something.
func ruleOwn(c *check) {
	for _, f := range c.own {
		known := slices.ContainsFunc(c.problems, func(p Problem) bool {
			return p.Severity == Error && (p.Path == f.path || within(p.Path, f.path))
		})
		if known {
			continue
		}
		for _, err := range split(f.err) {
			c.error(f.path, "invalid", err.Error())
		}
	}
}

// split returns the parts of a joined error.
func split(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}
