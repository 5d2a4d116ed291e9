// Package bpf makes the kernel's packet path follow what the nodes of a geo
// have agreed on.
//
// A [Path] keeps one [lb.Program] on each configured interface and gives it the
// ring, the other nodes and the ways to them, whenever one of these changes.
// Callers say what should be true with [Path.Follow]; one goroutine in
// [Path.Run] sees to it, and looks again every second at what the kernel may
// have changed: addresses, routes, neighbors, the program itself. An interface
// that cannot have the program is no reason not to serve: it is said once, shown
// in [Path.Status] and tried again.
//
// The programs are pinned: when the process dies they work on with their last
// state, and the next process goes on with them; that state stays in force until
// the first ring is known. When Run ends, they are taken off.
//
// Who has which share belongs to internal/steering; what a packet meets is
// package lb.
package bpf

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anyedge/bpf/lb"
)

const (
	lookEvery  = time.Second     // at the machine
	retryEvery = 5 * time.Second // after an interface refused the program
)

// A Setup is what a Path is made of.
type Setup struct {
	Config     Config
	Interfaces []string     // names
	Node       string       // this node's name
	Key        [2]uint64    // of the hashes; the same on all nodes of the geo, and secret
	VIPs       []netip.Addr // whose packets are spread
}

// A State is what the nodes of the geo have agreed on.
type State struct {
	Nodes      []Node // this one included or not
	Generation uint64 // of the ring; 0: there is none, packets stay where they arrive
	Members    []Member
	Other      []Member // the ring before, or the one to come
	Gone       []string // of Other: dead
	// Far are machines of other geos, named GEO/NODE, nearest first: they may
	// bring packets of connections of ours.
	Far    []Node
	Abroad []Abroad // where connections may be that nobody here has
}

// An Abroad names who of State.Far may have connections to a VIP that nobody
// here has.
type Abroad struct {
	VIP  netip.Addr
	Node string
}

// A Node is one machine of the geo as it describes itself.
type Node struct {
	Name string
	Addr netip.Addr // IPv4
	MAC  lb.MAC
}

// A Member is a node with a share of the ring.
type Member = lb.Member

func (s *State) equal(o *State) bool {
	return s.Generation == o.Generation && slices.Equal(s.Nodes, o.Nodes) && slices.Equal(s.Members, o.Members) &&
		slices.Equal(s.Other, o.Other) && slices.Equal(s.Gone, o.Gone) &&
		slices.Equal(s.Far, o.Far) && slices.Equal(s.Abroad, o.Abroad)
}

// A Path is the packet path of this node.
type Path struct {
	setup Setup
	log   *slog.Logger
	wake  chan struct{} // holds one token when want may have changed

	shelf    *shelf // Run's; nil: nothing is pinned
	unpinned string // why; Run's
	cookies  cookies

	mu      sync.Mutex // guards what follows
	want    State
	status  Status
	self    Self
	ports   []*port
	changed chan struct{} // closed and replaced when self changes
}

// A Self is what the others must know of this node.
type Self struct {
	Addr    netip.Addr // of the first interface; the zero Addr: it has none yet
	MAC     lb.MAC
	Up      bool   // the program is on every interface
	Applied uint64 // the ring's generation that all of them follow
}

// New returns a Path; nothing is touched before Run.
func New(s Setup, log *slog.Logger) (*Path, error) {
	errs := []error{s.Config.Validate()}
	if len(s.Interfaces) == 0 {
		errs = append(errs, errors.New("node.interfaces: name the interfaces that packets for VIPs arrive on"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	p := &Path{setup: s, log: log, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	for _, name := range s.Interfaces {
		p.ports = append(p.ports, &port{name: name, path: p, macs: map[netip.Addr]lb.MAC{}})
	}
	p.look() // so that the first record can tell the others where this node is
	return p, nil
}

// Follow makes s what should be true. It never blocks and is safe anywhere.
func (p *Path) Follow(s State) {
	p.mu.Lock()
	same := p.want.equal(&s)
	p.want = s
	p.mu.Unlock()
	if !same {
		tell(p.wake)
	}
}

// Self returns what the others must know of this node.
func (p *Path) Self() Self {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.self
}

// Changed returns a channel that is closed when Self changes.
func (p *Path) Changed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Run keeps the program on the interfaces until ctx ends, then takes it off. It
// is ready after the first try.
func (p *Path) Run(ctx context.Context, ready func()) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	moved := p.watch(ctx, &wg)
	p.openShelf()
	p.look()
	p.follow(time.Now())
	ready()
	for {
		select {
		case <-ctx.Done():
			p.close()
			return nil
		case <-p.wake:
		case <-tick.C:
			p.look()
			p.count(time.Now())
		case <-moved:
			p.look()
		}
		p.follow(time.Now())
	}
}

// openShelf finds the place for pins. Without one the programs go with the
// process, which is said once.
func (p *Path) openShelf() {
	s, err := openShelf(p.setup.Config.PinDir(), p.setup.Node)
	if err != nil {
		p.log.Warn("packet path not pinned: it ends with this process", "err", err)
		p.unpinned = err.Error()
		return
	}
	p.shelf = s
	if err := s.strays(p.setup.Interfaces); err != nil {
		p.log.Warn("pins of a predecessor stay", "err", err)
	}
}

// close takes the programs off.
func (p *Path) close() {
	for _, port := range p.ports {
		port.close()
	}
	if p.shelf != nil {
		p.shelf.close()
	}
}

// count looks for floods.
func (p *Path) count(now time.Time) {
	for _, port := range p.ports {
		port.count(now)
	}
}

// look reads the machine.
func (p *Path) look() {
	for _, port := range p.ports {
		port.look()
	}
}

// follow brings every interface to what is wanted.
func (p *Path) follow(now time.Time) {
	p.mu.Lock()
	want := p.want
	p.mu.Unlock()
	for _, port := range p.ports {
		port.follow(now, &want)
	}
	first := p.ports[0]
	self := Self{Addr: first.addr, MAC: first.mac, Up: true, Applied: want.Generation}
	status := Status{
		Unpinned: p.unpinned, Generation: want.Generation,
		Members: want.Members, Other: want.Other, Buckets: p.buckets(&want),
	}
	if p.shelf != nil {
		status.Pins = p.shelf.dir
	}
	for _, port := range p.ports {
		self.Up = self.Up && port.up()
		if port.applied != want.Generation {
			self.Applied = 0
		}
		status.Interfaces = append(status.Interfaces, port.status())
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status = status
	if self != p.self {
		p.self = self
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// buckets counts what each member owns.
func (p *Path) buckets(want *State) map[string]int {
	if len(want.Members) == 0 {
		return nil
	}
	r := p.ports[0].rings.of(want.Members)
	if r == nil {
		return nil
	}
	return r.Count()
}
