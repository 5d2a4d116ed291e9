package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"anyedge/bgp"
	"anyedge/bpf"
	"anyedge/bpf/lb"
	"anyedge/configs"
	"anyedge/fabric"
	"anyedge/fabric/identity"
	"anyedge/internal/admin"
	"anyedge/internal/api"
	"anyedge/internal/host"
	"anyedge/internal/lifecycle"
	"anyedge/internal/message"
	"anyedge/internal/metrics"
	"anyedge/internal/recorder"
	"anyedge/internal/steering"
	"anyedge/internal/world"
	"anyedge/proxy"
	"anyedge/proxy/admission"
	"anyedge/proxy/certs"
	"anyedge/proxy/upstream"
)

// A node is every component of this process and the wires between them. This
// file is the only place where components meet.
type node struct {
	cfg         *configs.Config
	file        string
	geo, name   string
	started     time.Time
	shutdownMax time.Duration
	log         *slog.Logger

	events    *recorder.Recorder
	proxy     *proxy.Proxy
	steer     *steering.Controller
	certs     *certs.Store
	fabric    *fabric.Fabric  // nil: this geo is alone
	speaker   *bgp.Speaker    // nil: nothing is announced
	path      *bpf.Path       // nil: packets stay where they arrive
	addresses *host.Addresses // nil: no VIP needs one
	dns       *dns            // nil: nobody asks for names here
	counted   http.Handler    // answers with the metrics
	metrics   *metrics.Server // nil: at the admin socket alone
	admin     *admin.Server

	manager  *manager
	stopping atomic.Bool
	handing  sync.WaitGroup // a successor is being started
	history  history

	// Owned by the goroutine that steers.
	health    []proxy.ServiceHealth
	view      *steering.View
	plan      *steering.Plan
	healthWas map[string]upstream.State
}

// wire builds every component; none of them runs yet.
func wire(cfg *configs.Config, o options, in inheritance, log *slog.Logger) (*node, error) {
	n := &node{
		cfg: cfg, file: o.config, geo: cfg.Geo(), log: log,
		started: time.Now(), shutdownMax: proxy.DefaultShutdownMax, manager: newManager(os.Getenv, log),
		events: recorder.New(), healthWas: map[string]upstream.State{},
	}
	if cfg.Shutdown.Max != nil {
		n.shutdownMax = *cfg.Shutdown.Max
	}
	if n.geo == "" {
		n.geo = aloneGeo
	}
	var err error
	if n.name, err = cfg.NodeName(); err != nil {
		return nil, err
	}
	if err := prepareState(cfg.StateDir()); err != nil {
		return nil, err
	}
	keys, err := deriveKeys(cfg)
	if err != nil {
		return nil, err
	}
	if n.certs, err = certs.New(cfg.Certificates, cfg.StateDir(), part(log, "certs")); err != nil {
		return nil, err
	}
	if keys.ticket != nil {
		n.certs.UseTicketKeys(keys.ticket)
	}
	if err := n.wireFabric(); err != nil {
		return nil, err
	}
	if err := n.wireProxy(keys, in); err != nil {
		return nil, err
	}
	if err := n.wireBGP(o); err != nil {
		return nil, err
	}
	n.wireAddresses()
	if err := n.wireL4(keys, o.noXDP); err != nil {
		return nil, err
	}
	if err := n.wireDNS(); err != nil {
		return nil, err
	}
	n.steer = steering.NewController(n.gather, n.apply, part(log, "steering"))
	n.wireMetrics()
	n.admin = admin.New(admin.Config{Socket: cfg.Socket()}, source{n}, part(log, "admin"))
	n.admin.Take(in.admin)
	return n, nil
}

// prepareState makes the state directory and sees that it can be written: what
// is kept there is written later, when nobody looks any more.
func prepareState(dir string) error {
	const hint = "set state.dir to one that this user may write"
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state.dir: %w; %s", err, hint)
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("state.dir: write to %s: %w; %s", dir, err, hint)
	}
	return nil
}

// missing adds what makes the fabric's keys when err is that one is not there.
func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; make the fabric's keys with: edgectl fabric init, then edgectl fabric issue", err)
	}
	return err
}

// aloneGeo names the geo of a node whose configuration has no geos.
const aloneGeo = "local"

// part returns a logger whose lines name the component.
func part(log *slog.Logger, name string) *slog.Logger { return log.With("component", name) }

// keys are derived from the fleet secret, so that every node has the same.
type keys struct {
	reset  *[32]byte // nil: no fleet, QUIC makes its own
	replay [32]byte
	salt   [32]byte
	l4     [32]byte
	ticket func(epoch uint32) [32]byte // nil: no fleet, tickets are good for this process
}

// deriveKeys reads the fleet secret, if there is one.
func deriveKeys(cfg *configs.Config) (keys, error) {
	if cfg.Fabric == nil {
		s, err := identity.NewSecret()
		if err != nil {
			return keys{}, err
		}
		return keys{replay: s.Key("replay-signature", 0), salt: s.Key("shed-salt", 0)}, nil
	}
	text, err := cfg.Fabric.Secret.Load()
	if err != nil {
		return keys{}, fmt.Errorf("fabric.secret: %w", missing(err))
	}
	s, err := identity.ParseSecret(text)
	if err != nil {
		return keys{}, fmt.Errorf("fabric.secret: %w", err)
	}
	reset := s.Key("quic-stateless-reset", 0)
	return keys{
		reset: &reset, replay: s.Key("replay-signature", 0), salt: s.Key("shed-salt", 0), l4: s.Key("l4-hash", 0),
		ticket: func(epoch uint32) [32]byte { return s.Key("session-ticket", epoch) },
	}, nil
}

func (n *node) wireFabric() error {
	if n.cfg.Fabric == nil {
		return nil
	}
	if n.cfg.Node == nil || n.cfg.Node.Fabric == nil {
		return errors.New("fabric: this node has no part in it; give node.fabric")
	}
	var err error
	n.fabric, err = fabric.New(fabric.Setup{
		Config: *n.cfg.Fabric, Node: *n.cfg.Node.Fabric,
		Geo: n.geo, NodeName: n.name, Number: n.cfg.Node.Number,
		Software: api.Software, Geos: n.cfg.Geos, StateDir: n.cfg.StateDir(),
		Handler: func(ctx context.Context, from fabric.Peer, req *message.Request) (*message.Response, error) {
			return n.proxy.ServeFabric(ctx, proxy.Sender{Geo: from.Geo, Node: from.Node}, req)
		},
		Events: func(e fabric.Event) {
			n.events.Add(e.At, "fabric/"+e.Geo+"/"+e.Node, string(e.Kind)+": "+e.Text)
		},
	}, part(n.log, "fabric"))
	return missing(err)
}

func (n *node) wireProxy(k keys, in inheritance) error {
	setup := proxy.Setup{
		Geo: n.geo, Node: n.name,
		Services: n.cfg.ServicesHere(), Certificates: n.certs, Log: n.cfg.Log,
		World: n.world, Groups: n.cfg.Groups,
		ReplaySeed: k.replay, ResetKey: k.reset, ShutdownMax: n.shutdownMax,
		Sockets: in.sockets, Released: in.released(),
		Admission: admission.Config{Salt: k.salt, Exempt: n.cfg.Overload.ExemptServices},
	}
	if n.cfg.L4.FollowsStrays() {
		setup.Room = lb.OuterSize
	}
	for _, l := range n.cfg.Listeners {
		setup.Listeners = append(setup.Listeners, proxy.Listener{Config: l, Addresses: n.cfg.ListenerAddresses(l)})
	}
	if n.fabric != nil {
		setup.Fabric = n.fabric
	}
	var err error
	n.proxy, err = proxy.New(setup, part(n.log, "proxy"))
	return err
}

func (n *node) wireBGP(o options) error {
	if n.cfg.BGP == nil || o.noBGP {
		return nil
	}
	if n.cfg.Node == nil || n.cfg.Node.BGP == nil {
		return errors.New("bgp: this node has no neighbors; give node.bgp")
	}
	var err error
	n.speaker, err = bgp.New(bgp.Setup{
		Config: *n.cfg.BGP, Node: *n.cfg.Node.BGP, RouterID: n.cfg.Node.RouterID,
		OnEvent: func(e bgp.Event) {
			text := "down: " + e.Text
			if e.Up {
				text = "established: " + e.Text
			}
			n.events.Add(e.At, "neighbor/"+e.Neighbor, text)
		},
	}, part(n.log, "bgp"))
	return err
}

// wireMetrics builds what answers with the metrics.
func (n *node) wireMetrics() {
	n.counted = metrics.NewHandler(source{n}.collect)
	if n.cfg.Node != nil && n.cfg.Node.Metrics != nil {
		n.metrics = metrics.NewServer(*n.cfg.Node.Metrics, n.counted, part(n.log, "metrics"))
	}
}

// components adds everything that runs, in start order. bgp comes last: routes
// are announced when the listeners behind them accept, and withdrawn before
// they close.
func (n *node) components(g *lifecycle.Group) {
	g.Add("admin", n.admin)
	if n.fabric != nil {
		g.Add("fabric", n.fabric)
	}
	if n.addresses != nil { // before what binds them
		g.Add("addresses", n.addresses)
	}
	if n.path != nil { // before the proxy: it stops after it
		g.Add("l4", n.path)
	}
	g.Add("certs", n.certs)
	g.Add("proxy", n.proxy)
	if n.dns != nil {
		g.Add("dns", n.dns)
	}
	if n.metrics != nil {
		g.Add("metrics", n.metrics)
	}
	g.Add("nerves", lifecycle.RunFunc(n.nerves))
	g.Add("steering", n.steer)
	if n.speaker != nil {
		g.Add("bgp", n.speaker)
	}
}

// nerves wakes steering when something has happened that should not wait for
// the next tick.
func (n *node) nerves(ctx context.Context, ready func()) error {
	ready()
	var fabricChanged, addressesChanged <-chan struct{}
	if n.fabric != nil {
		fabricChanged = n.fabric.Changed()
	}
	if n.addresses != nil {
		addressesChanged = n.addresses.Changed()
	}
	for {
		var pathChanged <-chan struct{}
		if n.path != nil {
			pathChanged = n.path.Changed()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.proxy.Changed():
		case <-fabricChanged:
		case <-addressesChanged:
		case <-pathChanged:
		}
		n.steer.Wake()
	}
}

// world returns the newest snapshot: the fabric's, or one that knows this geo
// alone.
func (n *node) world() *world.World {
	if n.fabric != nil {
		return n.fabric.World()
	}
	now := time.Now()
	return &world.World{At: now, Geo: n.geo, Node: n.name, Geos: []world.Geo{{
		Name: n.geo, Alive: true, Heard: now,
		Nodes: []world.Node{{Name: n.name, Geo: n.geo, Status: world.Joined, Alive: true}},
	}}}
}
