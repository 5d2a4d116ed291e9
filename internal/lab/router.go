package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	"github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// stopWait bounds GoBGP's stop: StopBgp ignores its context.
const stopWait = 3 * time.Second

// A RouterConfig describes the BGP router of one client region.
type RouterConfig struct {
	Name      string
	ASN       uint32
	Addr      netip.AddrPort // where it takes sessions; also its router ID
	Neighbors []RouterNeighbor
}

// A RouterNeighbor is an edge that the router hears.
type RouterNeighbor struct {
	Geo  string
	Addr netip.Addr // the source of its session
	ASN  uint32
	Hops int // how many more ASes lie between it and the region: its distance
}

// A Route is how a router reaches a prefix.
type Route struct {
	Geo     string
	ASPath  []uint32
	NextHop netip.Addr
}

// A Router is one GoBGP speaker that learns prefixes from every geo and tells
// which way is best. It announces nothing. GoBGP's own decision process
// (RFC 4271 section 9.1) makes the choice.
type Router struct {
	cfg    RouterConfig
	log    *slog.Logger
	geos   map[netip.Addr]string
	server *server.BgpServer // nil: not open
	close  sync.Once

	best    atomic.Pointer[map[netip.Prefix]Route]
	changed beacon
	wake    chan struct{} // holds one token when GoBGP's table may differ from best
}

// NewRouter returns a router that does not listen yet.
func NewRouter(cfg RouterConfig, log *slog.Logger) *Router {
	r := &Router{cfg: cfg, log: log, geos: make(map[netip.Addr]string), wake: make(chan struct{}, 1)}
	for _, n := range cfg.Neighbors {
		r.geos[n.Addr] = n.Geo
	}
	r.best.Store(&map[netip.Prefix]Route{})
	return r
}

// Best returns the best route to p, false when there is none.
func (r *Router) Best(p netip.Prefix) (Route, bool) {
	route, ok := (*r.best.Load())[p]
	return route, ok
}

// Changed returns a channel that is closed at the next change of a best route.
func (r *Router) Changed() <-chan struct{} { return r.changed.next() }

// Open makes the router listen; Close ends it. Where several routers live in
// one process, open all before one of them runs: GoBGP keeps its selection
// options in a global variable, which opening writes and running reads.
func (r *Router) Open(ctx context.Context) error {
	// A logger of its own, because GoBGP tells every state change of every
	// session; what matters is in the geos' own logs.
	r.server = server.NewBgpServer(server.LoggerOption(slog.New(slog.DiscardHandler), new(slog.LevelVar)))
	go r.server.Serve()
	err := r.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn:             r.cfg.ASN,
		RouterId:        r.cfg.Addr.Addr().String(),
		ListenPort:      int32(r.cfg.Addr.Port()),
		ListenAddresses: []string{r.cfg.Addr.Addr().String()},
	}})
	if err != nil {
		return fmt.Errorf("router %s: %w", r.cfg.Name, err)
	}
	return nil
}

// Run takes sessions until ctx ends, and closes the router, which it opens if
// need be. A router runs once.
func (r *Router) Run(ctx context.Context, ready func()) error {
	defer r.Close()
	if r.server == nil {
		if err := r.Open(ctx); err != nil {
			return err
		}
	}
	if err := r.start(ctx); err != nil {
		return fmt.Errorf("router %s: %w", r.cfg.Name, err)
	}
	r.refresh()
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
			r.refresh()
		}
	}
}

func (r *Router) start(ctx context.Context) error {
	if err := r.setPolicy(ctx); err != nil {
		return err
	}
	err := r.server.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnBestPath: func([]*apiutil.Path, time.Time) {
			select {
			case r.wake <- struct{}{}:
			default:
			}
		},
	}, server.WatchBestPath(true))
	if err != nil {
		return err
	}
	for _, n := range r.cfg.Neighbors {
		if err := r.server.AddPeer(ctx, &api.AddPeerRequest{Peer: r.peer(n)}); err != nil {
			return fmt.Errorf("neighbor %s: %w", n.Geo, err)
		}
	}
	return nil
}

// Close ends an open router, at the latest after stopWait.
func (r *Router) Close() {
	if r.server != nil {
		r.close.Do(r.stop)
	}
}

func (r *Router) stop() {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.server.Stop()
	}()
	select {
	case <-stopped:
	case <-time.After(stopWait):
		r.log.Warn("router did not stop in time", "router", r.cfg.Name)
	}
}

func (r *Router) peer(n RouterNeighbor) *api.Peer {
	p := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: n.Addr.String(), PeerAsn: n.ASN},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: 9, KeepaliveInterval: 3, ConnectRetry: 1, IdleHoldTimeAfterReset: 1}},
		Transport: &api.Transport{PassiveMode: true, LocalAddress: r.cfg.Addr.Addr().String()},
	}
	for _, afi := range []api.Family_Afi{api.Family_AFI_IP, api.Family_AFI_IP6} {
		f := &api.Family{Afi: afi, Safi: api.Family_SAFI_UNICAST}
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:       &api.AfiSafiConfig{Family: f, Enabled: true},
			PrefixLimits: &api.PrefixLimit{Family: f, MaxPrefixes: 100, ShutdownThresholdPct: 100},
		})
	}
	return p
}

// refresh reads the best routes back from GoBGP.
func (r *Router) refresh() {
	best := make(map[netip.Prefix]Route)
	for _, f := range []bgp.Family{bgp.RF_IPv4_UC, bgp.RF_IPv6_UC} {
		req := apiutil.ListPathRequest{TableType: api.TableType_TABLE_TYPE_GLOBAL, Family: f}
		err := r.server.ListPath(req, func(nlri bgp.NLRI, paths []*apiutil.Path) {
			p, err := netip.ParsePrefix(nlri.String())
			if err != nil {
				return
			}
			for _, path := range paths {
				if path.Best {
					best[p] = r.route(path)
				}
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			r.log.Warn("reading the routing table", "router", r.cfg.Name, "err", err)
			return
		}
	}
	r.best.Store(&best)
	r.changed.light()
}

func (r *Router) route(p *apiutil.Path) Route {
	out := Route{Geo: r.geos[p.PeerAddress]}
	for _, a := range p.Attrs {
		switch a := a.(type) {
		case *bgp.PathAttributeAsPath:
			for _, seg := range a.Value {
				out.ASPath = append(out.ASPath, seg.GetAS()...)
			}
		case *bgp.PathAttributeNextHop:
			out.NextHop = a.Value
		case *bgp.PathAttributeMpReachNLRI:
			out.NextHop = a.Nexthop
		}
	}
	return out
}
