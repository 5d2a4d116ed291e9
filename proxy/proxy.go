// Package proxy is a request's path through an edge: listener, route, where
// to, and the answer's way back.
//
// An engine (proxy/h1, h2, h3) turns a connection's bytes into a request; an
// [Exchange] carries that request through one list of steps: check, route,
// ask the door (proxy/admission) whether it is served here, then a local
// backend (proxy/upstream) or another geo over the fabric. When the answer
// asks for a replay (package replay), the exchange drops it and delivers the
// original request there. The proxy owns the listeners, the engines and the
// upstream pools. It decides nothing about geos: the plan and the world do.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"anyedge/internal/message"
	"anyedge/internal/world"
	"anyedge/proxy/admission"
	"anyedge/proxy/certs"
	"anyedge/replay"
)

// A Setup is everything a proxy needs.
type Setup struct {
	Geo  string // where it runs; "": OnlyGeo
	Node string

	Listeners []Listener
	// Services are the services with all their backends: those of every geo
	// and this node's own.
	Services     []ServiceConfig
	Certificates Certificates // needed by listeners with TLS
	Log          LogConfig
	// Room is how many bytes clients' TCP packets for VIPs leave free in an
	// Ethernet frame, for headers that the packet path adds.
	Room int

	Fabric Fabric // nil: there is one geo
	// World returns the last snapshot; it tells replays which geos are there
	// and reachable. nil: there is one geo.
	World  func() *world.World
	Groups []world.GroupConfig // which replays may name

	// Admission configures the door; services with `priority: background` are
	// added to it.
	Admission   admission.Config
	ReplaySeed  [32]byte        // Replay-Geo-Src is signed with the key it yields
	ResetKey    *[32]byte       // of QUIC stateless resets; nil: clients of lost connections are not told
	Sockets     *Sockets        // passed in; nil: none
	Released    <-chan struct{} // closed when nobody else reads the UDP sockets among Sockets; nil: nobody does
	ShutdownMax time.Duration   // how long running requests may go on; 0: DefaultShutdownMax
}

// DefaultShutdownMax is how long running requests may go on after Run was told
// to stop.
const DefaultShutdownMax = 5 * time.Minute

// OnlyGeo is the name of a geo that has none, because there are no others.
const OnlyGeo = "local"

// A Listener is one configured listener and where it is bound.
type Listener struct {
	Config    ListenerConfig
	Addresses []netip.AddrPort // TCP and, with h3, UDP; port 0 picks one
}

// Certificates has the certificates that listeners name; proxy/certs is one.
type Certificates interface {
	// TLSConfig returns a server configuration for terms. protos are the ALPN
	// names to offer.
	TLSConfig(t certs.Terms, protos []string) (*tls.Config, error)
	// Covers returns what tells whether a connection that asked for a name by SNI
	// may carry requests for a host.
	Covers(t certs.Terms) (func(name, host string) bool, error)
}

// A Fabric carries requests to other geos. A failed try is a
// [*message.TryError].
type Fabric interface {
	RoundTrip(ctx context.Context, geo string, r *message.Request) (*message.Response, error)
}

// A Proxy is the request path of one node. Use [New].
type Proxy struct {
	setup  Setup
	log    *slog.Logger
	door   *admission.Door
	signer *replay.Signer
	access *accessLog

	refused tally
	tracer  *tracer

	services  []*service
	byName    map[string]*service
	listeners []*listener

	webSockets *webSockets

	hurry   chan time.Duration     // holds how long running requests still have
	release atomic.Pointer[func()] // nil: the sockets are handed over to nobody
	alive   atomic.Int64           // unix nanoseconds of the last tick
	changed signal
}

// New returns a proxy that serves what s says. It binds nothing yet. The error
// reports every problem of s at once.
func New(s Setup, log *slog.Logger) (*Proxy, error) {
	if s.ShutdownMax <= 0 {
		s.ShutdownMax = DefaultShutdownMax
	}
	if s.Geo == "" {
		s.Geo = OnlyGeo
	}
	p := &Proxy{
		setup:   s,
		log:     log,
		signer:  replay.NewSigner(s.ReplaySeed),
		byName:  map[string]*service{},
		changed: newSignal(),
		tracer:  newTracer(),
		hurry:   make(chan time.Duration, 1),

		webSockets: newWebSockets(s.ShutdownMax),
	}
	p.door = newDoor(s)
	var errs []error
	access, err := newAccessLog(s.Log.Access, log)
	errs = append(errs, err)
	p.access = access
	for _, c := range s.Services {
		svc, err := newService(c, log)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.services = append(p.services, svc)
		p.byName[c.Name] = svc
	}
	for _, l := range s.Listeners {
		one, err := p.newListener(l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.listeners = append(p.listeners, one)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// newDoor adds what the services say to the door's configuration.
func newDoor(s Setup) *admission.Door {
	c := s.Admission
	c.Background = slices.Clone(c.Background)
	for _, svc := range s.Services {
		if svc.Priority == "background" {
			c.Background = append(c.Background, svc.Name)
		}
	}
	return admission.New(c)
}

// Door returns the door, which takes plans and measures.
func (p *Proxy) Door() *admission.Door { return p.door }

// Changed returns a channel that holds a token when the health of a service's
// backends, or the state of a listener, may have changed since the last
// receive. It has one receiver.
func (p *Proxy) Changed() <-chan struct{} { return p.changed }

// Alive returns when the request path last proved that it runs: a request of
// its own went through the checks of every listener and came back. Zero before
// the listeners are up.
func (p *Proxy) Alive() time.Time {
	n := p.alive.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// A signal holds one token when something may have changed.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

// set leaves a token unless one is there.
func (s signal) set() {
	select {
	case s <- struct{}{}:
	default:
	}
}
