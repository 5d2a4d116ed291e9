package admission

import (
	"math"
	"time"
)

// A Permit is the answer to another geo that sent a request.
type Permit struct {
	OK     bool
	Grant  float64 // requests/s the sender may send from now on
	Reason string  // why not OK; a token for Edge-Busy
}

// Why foreign work is refused.
const (
	NoBudget  = "no-budget"  // this geo has enough work of its own
	OverGrant = "over-grant" // the sender exceeds what it was granted
	Full      = "full"       // all senders together exceed what this geo takes
)

// slack is by how much a sender may exceed its grant: two clocks and two
// bursts never agree exactly.
const slack = 1.1

// firstShare is the part of the budget that a geo without a grant may use
// until the next plan grants it something. It is what a well-behaved sender
// claims before it has heard a grant (half of the budget it was told).
const firstShare = 0.5

// hardLimit is the utilisation up to which work is taken that nobody else may
// be able to serve.
const hardLimit = 0.99

// Accept says whether a request that from relayed because it is overloaded is
// served here, and what from may send. want is how much it would like to send,
// in requests/s.
func (d *Door) Accept(from string, now time.Time, want float64, urgent bool) Permit {
	p := d.peers.get(from)
	p.hearWant(want, urgent, now)
	s := &d.layout.Load().plan.Shed
	grant, known := s.Grants[from]
	if !known {
		grant = firstShare * s.Budget
	}
	p.in.setRate(grant * slack)
	switch {
	case grant <= 0:
		return Permit{Grant: 0, Reason: NoBudget}
	case !p.in.take(now):
		return Permit{Grant: grant, Reason: OverGrant}
	case !d.total.take(now):
		return Permit{Grant: grant, Reason: Full}
	}
	return Permit{OK: true, Grant: grant}
}

// AcceptStranded is Accept for a request that from has no backend for, or that
// an app sent here by name. Budgets do not apply: perhaps nobody else can
// serve it. It is refused only at the hard limit of the geo.
func (d *Door) AcceptStranded(from string) Permit {
	s := &d.layout.Load().plan.Shed
	grant := s.Grants[from]
	running := math.Float64frombits(d.running.Load())
	if s.Capacity > 0 && running >= hardLimit*s.Capacity {
		return Permit{Grant: grant, Reason: Full}
	}
	return Permit{OK: true, Grant: grant}
}

// hearWant notes what an origin would like to send.
func (p *peer) hearWant(want float64, urgent bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.want, p.urgent, p.wantAt = want, urgent, now
}
