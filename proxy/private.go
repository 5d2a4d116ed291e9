package proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"anyedge/internal/message"
	"anyedge/proxy/admission"
	"anyedge/replay"
)

// privateZone ends the hosts that a private listener takes; internal/dnsserver
// answers for them.
const privateZone = ".internal"

// maxVia bounds how many edges may have had a request that an app sends on
// through a private listener. An app that forwards what it gets keeps Via
// (RFC 9110 section 7.6.3), so calls that go round in a circle end here.
const maxVia = 8

// checkPrivate reports what a private listener cannot have.
func (c ListenerConfig) checkPrivate() error {
	switch {
	case !c.Private:
		return nil
	case len(c.VIPs) > 0:
		return errors.New("is private, and a VIP's traffic is public: give bind in place of vips")
	case c.RedirectHTTPS:
		return errors.New("is private: it serves apps, and redirects nobody")
	}
	return nil
}

// A call is a request through a private listener: an app of this geo asks for
// a service by name.
type call struct {
	geo string // where it is served: this geo or the one that its host names
}

// routeCall finds what the host of a request through a private listener names:
// SERVICE.internal is the service in this geo, GEO.SERVICE.internal in that
// one. Hosts and paths of services mean nothing here, its listeners do.
func (e *Exchange) routeCall(l *listener) *message.Response {
	host := strconv.QuoteToASCII(cutText(e.host.host))
	name, ours := strings.CutSuffix(e.host.host, privateZone)
	geo, serviceName, both := strings.Cut(name, ".")
	if !both {
		geo, serviceName = e.proxy.setup.Geo, name
	}
	s := e.proxy.byName[serviceName]
	switch {
	case !l.knows(e.req.Peer.Addr()):
		return e.refuse(403, RulePrivate, "this listener is for the apps of geo "+e.proxy.setup.Geo+" alone: a private, link-local or loopback address, or one of this machine's own")
	case !ours:
		return e.refuse(421, RuleUnrouted, "the host "+host+" is not served here: this listener takes SERVICE.internal and GEO.SERVICE.internal")
	case s == nil || !s.on(l.cfg.Name):
		return e.refuse(404, RuleUnrouted, "the host "+host+": no service here has this name")
	case !slices.Contains(e.proxy.geos(), geo):
		return e.refuse(404, RuleUnrouted, "the host "+host+": no geo has this name")
	}
	if _, err := normalise(e.req.Path()); err != nil {
		return e.refuse(400, RuleRequest, err.Error())
	}
	e.join(s)
	if n := viaEdges(e.req.Header); n >= maxVia {
		return e.replayError(replay.Errorf(replay.Loop, "the request has been at %d edges, its Via says: apps send it on to each other", n))
	}
	e.call = &call{geo: geo}
	return nil
}

// knows reports whether a private listener answers at: strangers have no
// private address, and a machine may ask itself whatever its address is.
func (l *listener) knows(at netip.Addr) bool {
	at = at.Unmap().WithZone("")
	return at.IsPrivate() || at.IsLoopback() || at.IsLinkLocalUnicast() ||
		slices.ContainsFunc(l.addresses, func(own netip.AddrPort) bool { return own.Addr().Unmap() == at })
}

// geos returns the names of all geos, this one first.
func (p *Proxy) geos() []string {
	names := []string{p.setup.Geo}
	if p.setup.World == nil || p.setup.Fabric == nil {
		return names
	}
	for _, g := range p.setup.World().Geos {
		if g.Name != p.setup.Geo {
			names = append(names, g.Name)
		}
	}
	return names
}

// viaEdges counts the edges that a request has been at.
func viaEdges(h message.Header) int {
	n := 0
	for element := range strings.SplitSeq(h.Joined("Via"), ",") {
		if words := strings.Fields(element); len(words) > 1 && words[1] == pseudonym {
			n++
		}
	}
	return n
}

// called serves a call where it is meant to be served and nowhere else: it is
// not shed, and does not fail over. To another geo it goes as if an app of this
// one had asked for a replay there, and counts as that.
func (e *Exchange) called(ctx context.Context) *message.Response {
	here := e.proxy.setup.Geo
	if e.call.geo == here {
		if e.proxy.door.Fixed(time.Now(), e.service.cfg.Name).Verdict == admission.Refuse {
			return e.full()
		}
		resp, err := e.local(ctx)
		if err != nil {
			return e.fail(ctx, err)
		}
		return resp
	}
	scene := e.scene()
	for _, g := range scene.Geos {
		if g.Geo == e.call.geo && g.Down != "" {
			return e.replayError(replay.Errorf(replay.NoCandidate, "%s: %s", g.Geo, g.Down))
		}
	}
	run := replayRun{
		Exchange: e, scene: scene, began: time.Now(),
		in: &replay.Instruction{Fallback: replay.FallbackNone},
	}
	e.hops++
	return run.deliver(ctx, []string{e.call.geo})
}
