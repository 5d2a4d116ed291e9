package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	wire "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"
)

// This file and speaker_gobgp_log.go are all that knows GoBGP (v4.8.0). What
// one must know about it:
//   - Its own "adj-out" is computed when asked for. What was really written to
//     a session, and most of what went wrong, is only in its log, which is why
//     events come from there.
//   - Import and export accept everything until told otherwise, and import
//     policy also judges the routes added here.
//   - After the end of a session it sits in Idle for 5 s, whatever the
//     configuration says; a neighbor added anew does not.
//   - Stop waits without limit; a reset of a session that is down hits the
//     next one. There is no reset here, and Speaker.close does not wait forever.

const (
	backendName   = "gobgp"
	gobgpModule   = "github.com/osrg/gobgp/v4"
	localRoutes   = "local-routes" // names of our policy and neighbor set
	externalPeers = "external-neighbors"
)

// backendVersion returns the library's version, "" when the binary has no record.
func backendVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == gobgpModule {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return ""
}

type gobgp struct {
	setup     Setup
	passwords map[netip.Addr]string
	server    *server.BgpServer
	log       slog.Handler
}

func newGoBGP(setup Setup, passwords map[netip.Addr]string, emit func(netip.Addr, any), log *slog.Logger) *gobgp {
	return &gobgp{setup: setup, passwords: passwords, log: &minedLog{emit: emit, next: log.Handler()}}
}

func (g *gobgp) start() error {
	addrs, port, err := g.setup.Node.listen()
	if err != nil {
		return err
	}
	global := &api.Global{Asn: g.setup.Config.ASN, RouterId: g.setup.RouterID.String(), ListenPort: -1}
	if len(addrs) > 0 {
		global.ListenPort = int32(port)
		for _, a := range addrs {
			global.ListenAddresses = append(global.ListenAddresses, a.String())
		}
	}
	level := new(slog.LevelVar)
	level.Set(slog.LevelDebug)
	g.server = server.NewBgpServer(server.LoggerOption(slog.New(g.log), level))
	go g.server.Serve()
	if err := g.server.StartBgp(context.Background(), &api.StartBgpRequest{Global: global}); err != nil {
		g.close()
		return listenError(err)
	}
	if err := g.restrict(); err != nil {
		g.close()
		return fmt.Errorf("set policy: %w", err)
	}
	return nil
}

func listenError(err error) error {
	var op *net.OpError
	switch {
	case !errors.As(err, &op):
		return fmt.Errorf("start: %w", err)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: address in use by another BGP speaker? (%w)", op.Addr, err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %s: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE (%w)", op.Addr, err)
	}
	return fmt.Errorf("listen on %s: %w", op.Addr, err)
}

// restrict rejects everything but routes of our own, in both directions. On its
// way to external neighbors a route gets its prepends: LOCAL_PREF, which never
// leaves the AS, carries their number there.
func (g *gobgp) restrict() error {
	ctx := context.Background()
	var statements []*api.Statement
	external := &api.DefinedSet{DefinedType: api.DefinedType_DEFINED_TYPE_NEIGHBOR, Name: externalPeers}
	for _, n := range g.setup.Node.Neighbors {
		if n.ASN != g.setup.Config.ASN {
			external.List = append(external.List, netip.PrefixFrom(n.Address.WithZone(""), n.Address.BitLen()).String())
		}
	}
	if len(external.List) > 0 {
		if err := g.server.AddDefinedSet(ctx, &api.AddDefinedSetRequest{DefinedSet: external}); err != nil {
			return err
		}
		for n := range MaxPrepend {
			for _, pref := range []uint32{Route{Prepend: n + 1}.localPref(), Route{Prepend: n + 1, Communities: []Community{GracefulShutdown}}.localPref()} {
				statements = append(statements, &api.Statement{
					Name: fmt.Sprintf("prepend-%d-lp-%d", n+1, pref),
					Conditions: &api.Conditions{
						RouteType:   api.Conditions_ROUTE_TYPE_LOCAL,
						NeighborSet: &api.MatchSet{Type: api.MatchSet_TYPE_ANY, Name: externalPeers},
						LocalPrefEq: &api.LocalPrefEq{Value: pref},
					},
					Actions: &api.Actions{
						RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT,
						AsPrepend:   &api.AsPrependAction{Asn: g.setup.Config.ASN, Repeat: uint32(n + 1)},
					},
				})
			}
		}
	}
	accept := &api.Statement{
		Name:       localRoutes,
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
	}
	for direction, p := range map[api.PolicyDirection]*api.Policy{
		api.PolicyDirection_POLICY_DIRECTION_IMPORT: {Name: localRoutes + "-in", Statements: []*api.Statement{{Name: localRoutes + "-in", Conditions: accept.Conditions, Actions: accept.Actions}}},
		api.PolicyDirection_POLICY_DIRECTION_EXPORT: {Name: localRoutes + "-out", Statements: append(statements, accept)},
	} {
		if err := g.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: p}); err != nil {
			return err
		}
		if err := g.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: "global", Direction: direction, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT, Policies: []*api.Policy{{Name: p.Name}},
		}}); err != nil {
			return err
		}
	}
	return nil
}

func (g *gobgp) announce(routes []Route) error {
	paths := make([]*apiutil.Path, 0, len(routes))
	for _, r := range routes {
		p, err := g.path(r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.Prefix, err)
		}
		paths = append(paths, p)
	}
	_, err := g.server.AddPath(apiutil.AddPathRequest{Paths: paths})
	return err
}

func (g *gobgp) withdraw(prefixes []netip.Prefix) error {
	if len(prefixes) == 0 {
		return nil
	}
	paths := make([]*apiutil.Path, 0, len(prefixes))
	for _, prefix := range prefixes {
		p, err := g.path(Route{Prefix: prefix})
		if err != nil {
			return fmt.Errorf("%s: %w", prefix, err)
		}
		paths = append(paths, p)
	}
	return g.server.DeletePath(apiutil.DeletePathRequest{Paths: paths})
}

// path is r in the library's form. The unspecified next hop stands for our
// address on each session.
func (g *gobgp) path(r Route) (*apiutil.Path, error) {
	nlri, err := wire.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, err
	}
	attrs := []wire.PathAttributeInterface{
		wire.NewPathAttributeOrigin(wire.BGP_ORIGIN_ATTR_TYPE_IGP),
		wire.NewPathAttributeLocalPref(r.localPref()),
	}
	if r.MED != nil {
		attrs = append(attrs, wire.NewPathAttributeMultiExitDisc(*r.MED))
	}
	if len(r.Communities) > 0 {
		var list []uint32
		for _, c := range r.Communities {
			list = append(list, uint32(c))
		}
		attrs = append(attrs, wire.NewPathAttributeCommunities(list))
	}
	if len(r.LargeCommunities) > 0 {
		var list []*wire.LargeCommunity
		for _, c := range r.LargeCommunities {
			list = append(list, &wire.LargeCommunity{ASN: c.ASN, LocalData1: c.A, LocalData2: c.B})
		}
		attrs = append(attrs, wire.NewPathAttributeLargeCommunities(list))
	}
	family := wire.RF_IPv6_UC
	var hop wire.PathAttributeInterface
	if r.Prefix.Addr().Is4() {
		family = wire.RF_IPv4_UC
		hop, err = wire.NewPathAttributeNextHop(addrOr(g.setup.Node.NextHop.IPv4, netip.IPv4Unspecified()))
	} else {
		hop, err = wire.NewPathAttributeMpReachNLRI(family, []wire.PathNLRI{{NLRI: nlri}}, addrOr(g.setup.Node.NextHop.IPv6, netip.IPv6Unspecified()))
	}
	if err != nil {
		return nil, err
	}
	return &apiutil.Path{Family: family, Nlri: nlri, Attrs: append(attrs, hop)}, nil
}

func addrOr(a, def netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return def
}

func (g *gobgp) connect() error {
	for _, n := range g.setup.Node.Neighbors {
		if err := g.server.AddPeer(context.Background(), &api.AddPeerRequest{Peer: g.peer(n)}); err != nil {
			return fmt.Errorf("neighbor %s: %w", n.Name, err)
		}
	}
	return nil
}

// peer is n in the library's form. What has a harmful default is always set.
func (g *gobgp) peer(n NeighborConfig) *api.Peer {
	t := g.setup.Config.Timers
	p := &api.Peer{
		Conf: &api.PeerConf{NeighborAddress: n.Address.String(), PeerAsn: n.ASN, AuthPassword: g.passwords[n.Address]},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime:               uint64(t.hold() / time.Second),
			KeepaliveInterval:      uint64(t.keepalive() / time.Second),
			ConnectRetry:           uint64(t.connectRetry() / time.Second),
			IdleHoldTimeAfterReset: 1,
		}},
		Transport:       &api.Transport{LocalAddress: addrText(n.LocalAddress), RemotePort: uint32(n.port())},
		GracefulRestart: &api.GracefulRestart{Enabled: false},
	}
	if n.GTSM {
		p.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 255}
	}
	if n.Multihop > 0 {
		p.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(n.Multihop)}
	}
	limit, action, _ := n.maxPrefix()
	for _, name := range n.families() {
		f := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
		if name == familyIPv6 {
			f.Afi = api.Family_AFI_IP6
		}
		afi := &api.AfiSafi{Config: &api.AfiSafiConfig{Family: f, Enabled: true}}
		if action == actionRestart {
			afi.PrefixLimits = &api.PrefixLimit{Family: f, MaxPrefixes: limit, ShutdownThresholdPct: 100}
		}
		p.AfiSafis = append(p.AfiSafis, afi)
	}
	return p
}

func (g *gobgp) sessions() (map[netip.Addr]session, error) {
	out := make(map[netip.Addr]session)
	err := g.server.ListPeer(context.Background(), &api.ListPeerRequest{}, func(p *api.Peer) {
		addr, err := netip.ParseAddr(p.GetState().GetNeighborAddress())
		if err != nil {
			return
		}
		s := session{
			state:     State(strings.ToLower(strings.TrimPrefix(p.GetState().GetSessionState().String(), "SESSION_STATE_"))),
			hold:      time.Duration(p.GetTimers().GetState().GetNegotiatedHoldTime()) * time.Second,
			keepalive: time.Duration(p.GetTimers().GetState().GetKeepaliveInterval()) * time.Second,
			overLimit: p.GetState().GetAdminState() == api.PeerState_ADMIN_STATE_PFX_CT,
			families:  sharedFamilies(p),
		}
		for _, a := range p.GetAfiSafis() {
			s.received += uint32(a.GetState().GetReceived())
		}
		out[addr] = s
	})
	return out, err
}

// sharedFamilies returns what both sides offered.
func sharedFamilies(p *api.Peer) []string {
	var out []string
	for name, afi := range map[string]api.Family_Afi{familyIPv4: api.Family_AFI_IP, familyIPv6: api.Family_AFI_IP6} {
		has := func(list []*api.Capability) bool {
			return slices.ContainsFunc(list, func(c *api.Capability) bool {
				return c.GetMultiProtocol().GetFamily().GetAfi() == afi && c.GetMultiProtocol().GetFamily().GetSafi() == api.Family_SAFI_UNICAST
			})
		}
		if has(p.GetState().GetLocalCap()) && has(p.GetState().GetRemoteCap()) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (g *gobgp) resend(addr netip.Addr) error {
	return g.server.ResetPeer(context.Background(), &api.ResetPeerRequest{
		Address: addr.String(), Soft: true, Direction: api.ResetPeerRequest_DIRECTION_OUT,
	})
}

func (g *gobgp) redial(addr netip.Addr) error {
	i := slices.IndexFunc(g.setup.Node.Neighbors, func(n NeighborConfig) bool { return n.Address == addr })
	if i < 0 {
		return fmt.Errorf("no neighbor has the address %s", addr)
	}
	if err := g.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: addr.String()}); err != nil {
		return err
	}
	return g.server.AddPeer(context.Background(), &api.AddPeerRequest{Peer: g.peer(g.setup.Node.Neighbors[i])})
}

func (g *gobgp) enable(addr netip.Addr) error {
	return g.server.EnablePeer(context.Background(), &api.EnablePeerRequest{Address: addr.String()})
}

// close ends more than StopBgp does: a BFD loop runs in every server, used or not.
func (g *gobgp) close() { g.server.Stop() }
