package steering

import "time"

// A Plan is what Decide decided: what every VIP should be, and how much work
// goes elsewhere. It is immutable once returned. It also carries what the next
// Decide must remember, so that a recorded Plan and View reproduce the next.
type Plan struct {
	At   time.Time
	VIPs []VIPPlan // in configuration order
	Shed ShedPlan
	// Services says, by name, where a request goes that no local backend took
	// a byte of.
	Services map[string]ServicePlan
	Ring     *RingPlan   // of this geo's packet path; nil: it has none
	Strays   []StrayPlan // in the order of VIPs; nil: strays are not looked for
	Why      []Reason    // which rules fired, most important first

	Memory Memory // for the next Decide only
}

// VIP returns the plan of the named VIP, nil when there is none.
func (p *Plan) VIP(name string) *VIPPlan {
	for i := range p.VIPs {
		if p.VIPs[i].Name == name {
			return &p.VIPs[i]
		}
	}
	return nil
}

// A Reason names a rule that fired and the numbers it saw.
type Reason struct {
	Rule   string // stable, kebab-case: "gate-false", "shed-excess"
	Target string // VIP, service or geo
	Text   string // one line for an engineer
}

// A State is where a VIP stands.
type State string

// States of a VIP.
const (
	Idle      State = "idle"      // never announced since start
	Announced State = "announced" // base attributes
	Draining  State = "draining"  // disfavoured: GRACEFUL_SHUTDOWN, prepended
	Withdrawn State = "withdrawn" // nothing on the wire; strays are still served
)

// A VIPPlan is one VIP's state and why.
type VIPPlan struct {
	Name  string
	State State
	Since time.Time // of State
	Want  State     // where gate and orders would have it, without timers and guard
	Cause Cause     // of State
	Next  *Next     // what a timer will do; nil: nothing is due
	Gate  []Signal
	// Blocked says what keeps State from Want: "guard", "hold-down", … or "".
	Blocked string
	// Telling: it is draining and about to say so to routers; the other geos, which
	// must look here for the connections that will come to them, learn it first.
	Telling bool
}

// A Cause is why a VIP is in its state.
type Cause struct {
	Kind   string // "gate", "operator", "start", "stop", "geo"
	Who    string // the operator, if one
	Reason string // one line
}

// Next is a change that a timer will make unless something else happens.
type Next struct {
	State State
	At    time.Time
}

// A Signal is one input of a VIP's gate.
type Signal struct {
	Name string // "proxy.ready", "service.shop"
	OK   bool
	Hard bool // false withdraws at once, whatever the guard says
	Age  time.Duration
	Text string // "1 of 2 backends up"
}

// A ShedPlan says how much of this geo's offered work goes where, and how much
// foreign work it takes. Rates are requests/s of the whole geo.
type ShedPlan struct {
	Shedding    bool
	Observe     bool    // decided, shown, not to be done
	Offered     float64 // estimated demand
	Capacity    float64
	Utilisation float64 // Offered/Capacity; 0 when the capacity is unknown
	Target      float64
	Need        float64 // of Offered, to be served elsewhere
	Routes      []Route // nearest first; Rate sums to at most Need
	Left        float64 // of Need, without a taker
	Urgent      bool    // Left has been too much for too long

	Budget       float64            // foreign work this geo takes
	BudgetUrgent float64            // and from senders in need
	Grants       map[string]float64 // sender (GEO/NODE) → what it may send now

	// RefuseShare is the share of requests to refuse at the door because
	// nobody can take them: 0..1.
	RefuseShare float64
}

// A Route is a destination of shed work.
type Route struct {
	Geo  string
	Rate float64 // requests/s
	Want float64 // what was still unplaced when its turn came, and some slack: sent along so that it can grant
}

// A ServicePlan says who else can serve a service.
type ServicePlan struct {
	Healthy   int      // local backends
	Elsewhere []string // geos that can serve it, nearest first
}
