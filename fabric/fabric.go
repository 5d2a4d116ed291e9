// Package fabric is the private network between edges: one authenticated,
// encrypted channel between any two nodes, over any provider.
//
// Nodes speak QUIC with mutual TLS 1.3 on one UDP port. A connection carries
// requests (HTTP/3 framing), gossip (serf), probes (datagrams) and replicated
// records. Out of what it hears a [Fabric] builds the immutable [world.World],
// and it takes requests to other geos ([Fabric.RoundTrip]). Who a peer is comes
// from its certificate alone (fabric/identity), never from an address.
//
// One job, one mechanism: serf says which nodes exist, probes say whether the
// path to a node lives and what load its geo has, records carry durable facts.
// Nothing here decides where traffic goes, and nothing waits for another geo:
// cut the fabric and both sides serve on.
package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/fabric/identity"
	"anyedge/internal/message"
	"anyedge/internal/world"
)

// A Peer is the node that sent a request, as its certificate names it.
type Peer = identity.Peer

// A Handler answers requests that other nodes send. Its context ends when the
// sender has cancelled or is gone.
type Handler func(ctx context.Context, from Peer, req *message.Request) (*message.Response, error)

// Setup is all that a Fabric needs.
type Setup struct {
	Config   Config
	Node     NodeConfig
	Geo      string
	NodeName string // unique in the fleet
	Number   uint16
	Software string // this build, told to the peers
	Geos     []world.GeoConfig

	Handler  Handler     // nil: requests of others are refused
	StateDir string      // orders are kept there; "" keeps them in memory only
	Events   func(Event) // may be nil; must not block
}

// A Fabric is this node's part of the fabric.
type Fabric struct {
	setup  Setup
	log    *slog.Logger
	id     *identity.Identity
	keyID  [32]byte // of this node's own key
	secret identity.Secret
	listen netip.AddrPort
	via    map[string]netip.AddrPort // by node name

	crew    *crew
	roster  *roster
	records *store
	load    *loads
	members *membership
	end     atomic.Pointer[endpoint] // nil before Run
	refuse  *refusals
	probes  chan struct{} // holds one token when probes should go out at once

	saving  sync.Mutex // held while orders are written to disk
	world   atomic.Pointer[world.World]
	unsaved chan struct{} // holds one token when orders should be written to disk
	rebuild chan struct{} // holds one token when the World may be out of date
	changed chan struct{} // holds one token when the World has changed
	serving atomic.Int64  // requests of others that are being answered
}

// New checks the setup, reads the node's certificate, key, CA and the fleet
// secret, and loads the orders kept in StateDir. It opens no socket.
func New(setup Setup, log *slog.Logger) (*Fabric, error) {
	f := &Fabric{
		setup: setup, log: log,
		via:     map[string]netip.AddrPort{},
		crew:    newCrew(),
		probes:  make(chan struct{}, 1),
		unsaved: make(chan struct{}, 1),
		rebuild: make(chan struct{}, 1),
		changed: make(chan struct{}, 1),
	}
	if err := f.read(); err != nil {
		return nil, err
	}
	f.refuse = newRefusals(f.event)
	f.roster = newRoster(f)
	f.load = newLoads(setup.Geo)
	f.records = newStore(f.id, uint64(time.Now().UnixMilli()))
	f.members = newMembership(f)
	if err := f.loadOrders(); err != nil {
		return nil, err
	}
	f.snapshot(time.Now())
	return f, nil
}

// read loads and checks everything that the configuration names.
func (f *Fabric) read() error {
	s := f.setup
	var err error
	if f.listen, err = netip.ParseAddrPort(s.Node.Listen); err != nil {
		return fmt.Errorf("node.fabric.listen: %w", err)
	}
	if f.listen.Addr().IsUnspecified() {
		return fmt.Errorf("node.fabric.listen: %s is told to the other nodes as the way to this one: name an address of this machine", s.Node.Listen)
	}
	var errs []error
	for name, text := range s.Node.Via {
		addr, err := netip.ParseAddrPort(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("node.fabric.via[%s]: %w", name, err))
		}
		f.via[name] = addr
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return f.readIdentity()
}

func (f *Fabric) readIdentity() error {
	s := f.setup
	cert, err := s.Node.Cert.Load()
	if err != nil {
		return fmt.Errorf("node.fabric.cert: %w", err)
	}
	key, err := s.Node.Key.Load()
	if err != nil {
		return fmt.Errorf("node.fabric.key: %w", err)
	}
	ca, err := s.Config.CA.Load()
	if err != nil {
		return fmt.Errorf("fabric.ca: %w", err)
	}
	text, err := s.Config.Secret.Load()
	if err != nil {
		return fmt.Errorf("fabric.secret: %w", err)
	}
	if f.secret, err = identity.ParseSecret(text); err != nil {
		return fmt.Errorf("fabric.secret: %w", err)
	}
	if f.id, err = identity.Load(s.Config.TrustDomain, cert, key, ca); err != nil {
		return fmt.Errorf("node.fabric.cert: %w", err)
	}
	f.keyID = identity.KeyID(f.id.Leaf)
	if err := f.id.Check(s.Geo, s.NodeName); err != nil {
		return fmt.Errorf("node.fabric.cert: %w", err)
	}
	for _, path := range []string{s.Node.Key.File, s.Config.Secret.File} {
		if warning := identity.Exposed(path); warning != "" {
			f.log.Warn("file permissions are too open", "detail", warning)
		}
	}
	return nil
}

// World returns the newest snapshot; never nil.
func (f *Fabric) World() *world.World { return f.world.Load() }

// Changed holds one token when the World has changed in more than its ages
// since the token was last taken. It is for one reader.
func (f *Fabric) Changed() <-chan struct{} { return f.changed }

// Addr returns where this node listens, and tells others to find it.
func (f *Fabric) Addr() netip.AddrPort {
	if e := f.end.Load(); e != nil {
		return e.addr
	}
	return f.listen
}

// SetLoad sets what this node's probes say of it. A change by more than 5 % or
// to 0 goes out at once. Values that are no finite number ≥ 0 count as 0.
func (f *Fabric) SetLoad(l world.Load) {
	if f.load.set(time.Now(), l) {
		signal(f.probes)
	}
	signal(f.rebuild)
}

// Publish sets the content of this node's record; its version, geo, name and
// number are stamped here. Content that did not change is not sent again.
func (f *Fabric) Publish(r world.NodeRecord) error {
	r.Geo, r.Node, r.Number = f.setup.Geo, f.setup.NodeName, f.setup.Number
	if r.Software == "" {
		r.Software = f.setup.Software
	}
	rec, err := f.records.publish(r)
	if err != nil || rec == nil {
		return err
	}
	f.spread([]*record{rec}, "")
	return nil
}

// signal puts a token into a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
