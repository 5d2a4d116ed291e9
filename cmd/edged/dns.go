package main

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"anyedge/internal/dnsserver"
	"anyedge/internal/world"
	"anyedge/proxy"
	"anyedge/proxy/upstream"
)

// dnsRefresh is how old an answer of the DNS server may be, besides its TTL.
const dnsRefresh = 100 * time.Millisecond

// dns is the DNS server and what it says: a snapshot of the services' health.
type dns struct {
	node     *node
	server   *dnsserver.Server
	log      *slog.Logger
	services atomic.Pointer[[]dnsserver.ServiceAnswer]
}

// wireDNS builds the node's DNS server, if it has one.
func (n *node) wireDNS() (err error) {
	if n.cfg.Node == nil || n.cfg.Node.DNS == nil {
		return nil
	}
	n.dns = &dns{node: n, log: part(n.log, "dns")}
	n.dns.server, err = dnsserver.New(*n.cfg.Node.DNS, n.dns, n.dns.log)
	return err
}

// Services returns the last snapshot.
func (d *dns) Services() []dnsserver.ServiceAnswer { return *d.services.Load() }

// World returns what is known of all geos.
func (d *dns) World() *world.World { return d.node.world() }

// Run answers, and renews the snapshot, until ctx ends.
func (d *dns) Run(ctx context.Context, ready func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.refresh()
	for _, s := range d.Services() {
		if s.LeftOut > 0 {
			d.log.Warn("DNS leaves out backends whose URL has no IP address", "service", s.Name, "left_out", s.LeftOut, "named", len(s.Backends))
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- d.server.Run(ctx, ready) }()
	renew := time.NewTicker(dnsRefresh)
	defer renew.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-renew.C:
			d.refresh()
		}
	}
}

// refresh takes a new snapshot.
func (d *dns) refresh() {
	var out []dnsserver.ServiceAnswer
	listeners := d.node.proxy.Listeners()
	for _, h := range d.node.proxy.Health() {
		a := dnsAnswer(h)
		a.Private = privateAddresses(listeners, h.Name)
		out = append(out, a)
	}
	d.services.Store(&out)
}

// privateAddresses returns where the first private listener of a service
// accepts: its addresses with its first port. Who asks for addresses alone must
// know the port, so there is one.
func privateAddresses(all []proxy.ListenerStatus, service string) []netip.AddrPort {
	for _, l := range all {
		if !l.Private || !l.Up || !slices.Contains(l.Services, service) {
			continue
		}
		var out []netip.AddrPort
		for _, a := range l.Addresses {
			if a.Port() == l.Addresses[0].Port() {
				out = append(out, netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port()))
			}
		}
		return out
	}
	return nil
}

// dnsAnswer is what DNS says of a service.
func dnsAnswer(h proxy.ServiceHealth) dnsserver.ServiceAnswer {
	a := dnsserver.ServiceAnswer{Name: h.Name, Reported: h.Reported}
	for _, b := range h.Backends {
		at, ok := backendAddress(b.URL)
		if !ok {
			a.LeftOut++
			continue
		}
		a.Backends = append(a.Backends, dnsserver.Backend{
			Address: at, Weight: uint16(min(max(b.Weight, 0), 1<<16-1)), Healthy: b.State == upstream.Healthy,
		})
	}
	return a
}

// backendAddress returns where a backend's URL leads, unless only a resolver
// or this machine knows.
func backendAddress(text string) (netip.AddrPort, bool) {
	u, err := url.Parse(text)
	if err != nil {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	if err != nil || ip.Zone() != "" {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16)
	return netip.AddrPortFrom(ip.Unmap(), uint16(port)), err == nil
}
