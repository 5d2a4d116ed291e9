// Package admission is the door of a geo: for every request it says whether it
// is served here, relayed to another geo, or refused.
//
// The door holds no policy. What goes where, and how much foreign work this
// geo takes, is decided by internal/steering; a [Door] reads the last Plan and
// carries it out request by request: which clients are relayed (the same ones
// from one request to the next), how fast, and what other geos may send. It
// counts what steering needs to decide next ([Door.Measure]).
//
// Rates of a Plan are taken as this node's part. The package has no clock and
// no goroutine: every method takes the time, so that a simulator can run it.
// All methods may be called concurrently; Decide locks nothing but the token
// bucket of the one destination it picked.
package admission

import (
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"anyedge/internal/steering"
)

// Config is what a door knows besides the plan.
type Config struct {
	Salt       [32]byte // keeps clients from choosing where their hash falls
	Exempt     []string // services whose requests are never relayed
	Background []string // services that are relayed and refused first
}

// A Verdict says what happens to a request.
type Verdict uint8

// The verdicts of a door.
const (
	Here   Verdict = iota // serve it with a local backend
	Relay                 // send it to another geo
	Refuse                // nobody can take it: 503
)

// String returns the word used in logs.
func (v Verdict) String() string {
	switch v {
	case Here:
		return "here"
	case Relay:
		return "relay"
	case Refuse:
		return "refuse"
	}
	return "unknown"
}

// A Decision is what the door says about one request.
type Decision struct {
	Verdict Verdict
	Geo     string  // of Relay
	Want    float64 // of Relay: requests/s this geo would like to send there beyond the plan
	Urgent  bool    // of Relay: this geo has been in need for too long
}

// classes of requests: background work moves and is refused first.
const (
	interactive = iota
	background
	classes
)

// A Door decides request by request. Use [New].
type Door struct {
	salt       [2]uint64
	exempt     map[string]bool
	background map[string]bool

	offered  [classes]atomic.Int64 // requests that clients brought, ever
	refusals [classes]atomic.Uint64
	executed atomic.Int64
	foreign  atomic.Int64
	running  atomic.Uint64 // math.Float64bits of the rate of executed, requests/s

	layout atomic.Pointer[layout]
	peers  peers
	total  bucket // foreign work of all origins

	mu       sync.Mutex // guards all below
	at       time.Time  // of the last correction
	seen     [classes]int64
	seenRun  int64
	share    float64 // of background in what is offered
	measured measured
}

// New returns a door without a plan: everything is served here, and foreign
// work is refused.
func New(c Config) *Door {
	d := &Door{exempt: set(c.Exempt), background: set(c.Background), salt: foldSalt(c.Salt)}
	d.layout.Store(&layout{plan: &steering.Plan{}})
	return d
}

// SetPlan makes p what the door carries out from now on.
func (d *Door) SetPlan(p *steering.Plan) {
	if p == nil {
		p = &steering.Plan{}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.learn(p.At)
	d.layout.Store(d.compile(p))
	d.total.setRate(max(p.Shed.Budget, p.Shed.BudgetUrgent))
}

// Elsewhere returns the geos that can serve service, nearest first.
func (d *Door) Elsewhere(service string) []string {
	return d.layout.Load().plan.Services[service].Elsewhere
}

// Left reports whether all of the VIPs are off the wire after they were on it:
// new connections to them enter at another geo.
func (d *Door) Left(vips []string) bool {
	plan := d.layout.Load().plan
	for _, name := range vips {
		if p := plan.VIP(name); p == nil || p.State != steering.Withdrawn {
			return false
		}
	}
	return len(vips) > 0
}

// Decide says where a request of client is served. It counts the request as
// offered, and when it says Relay, as relayed.
func (d *Door) Decide(now time.Time, service string, client netip.Addr) Decision {
	class := d.class(service)
	d.offered[class].Add(1)
	l := d.current(now)
	if l.plan.Shed.Observe {
		return Decision{}
	}
	if len(l.dests) > 0 && !d.exempt[service] {
		if to := l.pick(class, d.point(now, client)); to != nil && l.serves(service, to.geo) {
			to.peer.picked.Add(1)
			if to.peer.out.take(now) {
				return l.relay(to)
			}
		}
	}
	return d.remain(l, class)
}

// Fixed is Decide for a request that cannot be relayed: an upgrade, or a body
// that could not be sent twice.
func (d *Door) Fixed(now time.Time, service string) Decision {
	class := d.class(service)
	d.offered[class].Add(1)
	l := d.current(now)
	if l.plan.Shed.Observe {
		return Decision{}
	}
	return d.remain(l, class)
}

// Another returns a further destination with credit for a request of service
// that tried was too busy for. It says Here when there is none.
func (d *Door) Another(now time.Time, service, tried string) Decision {
	l := d.layout.Load()
	for i := range l.dests {
		to := &l.dests[i]
		if to.geo != tried && l.serves(service, to.geo) && to.peer.out.take(now) {
			return l.relay(to)
		}
	}
	return Decision{}
}

// remain says Here or, for the planned share, Refuse. Refusals are spread
// evenly over the requests (a golden-ratio sequence), not over the clients:
// nobody is shut out for good.
func (d *Door) remain(l *layout, class int) Decision {
	share := l.refuse[class]
	if share <= 0 {
		return Decision{}
	}
	n := d.refusals[class].Add(1)
	if _, f := math.Modf(float64(n) * math.Phi); f < share {
		return Decision{Verdict: Refuse}
	}
	return Decision{}
}

// current returns the layout, after correcting it when that is due. A caller
// that finds another one correcting goes on with the old layout.
func (d *Door) current(now time.Time) *layout {
	l := d.layout.Load()
	if len(l.dests) == 0 || now.Sub(l.at) < correctEvery || !d.mu.TryLock() {
		return l
	}
	defer d.mu.Unlock()
	if newer := d.layout.Load(); newer != l {
		return newer
	}
	d.learn(now)
	l = d.compile(l.plan)
	d.layout.Store(l)
	return l
}

func (d *Door) class(service string) int {
	if d.background[service] {
		return background
	}
	return interactive
}

func set(names []string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// A Preview is what Decide would say, and why, without anything being counted.
type Preview struct {
	Decision
	Observe bool    // the plan is to be shown, not carried out
	Exempt  bool    // the service is never relayed
	Point   float64 // where the client's hash falls, 0 to 1
	Relayed float64 // clients whose hash is below it are relayed, as fast as the plan allows
	Refused float64 // share of the requests that stay which is refused
}

// Preview says what Decide would say of a request of client, were there credit for
// its destination.
func (d *Door) Preview(now time.Time, service string, client netip.Addr) Preview {
	l, class := d.layout.Load(), d.class(service)
	p := Preview{Observe: l.plan.Shed.Observe, Exempt: d.exempt[service], Point: d.point(now, client), Refused: l.refuse[class]}
	if n := len(l.cuts[class]); n > 0 {
		p.Relayed = l.cuts[class][n-1].upto
	}
	if p.Observe || p.Exempt {
		return p
	}
	if to := l.pick(class, p.Point); to != nil && l.serves(service, to.geo) {
		p.Decision = l.relay(to)
	}
	return p
}
