package steering

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// wantFresh is how long an origin's want counts.
const wantFresh = time.Second

// receive decides how much foreign work this geo takes, and from whom. That
// never depends on the foreign work that runs here: a sender's own traffic must
// not feed back into what it may send.
func (o *overload) receive() {
	normal, urgent, none := o.headroom()
	o.mem.Budget = o.open(o.mem.Budget, normal)
	o.mem.BudgetUrgent = math.Max(o.mem.Budget, o.open(o.mem.BudgetUrgent, urgent))
	o.plan.Budget, o.plan.BudgetUrgent = o.mem.Budget, o.mem.BudgetUrgent
	if none != "" {
		o.because("budget-none", "takes no foreign work: "+none)
	}
	o.grant()
}

// headroom returns what could be taken now, from everyone and from senders in
// need, or why there is none.
func (o *overload) headroom() (normal, urgent float64, none string) {
	order := o.v.drainOrder(o.v.self())
	if order == nil {
		order = o.v.nodeOrder(o.v.node())
	}
	switch {
	case o.v.Stopping:
		return 0, 0, "edged is stopping"
	case order != nil:
		return 0, 0, fmt.Sprintf("%s drains %s", order.Who, order.Target)
	case o.dead != "":
		return 0, 0, "no backend of " + o.dead + " is up"
	case o.mem.Shedding:
		return 0, 0, "it sheds its own"
	case o.mem.High > 0:
		return 0, 0, "it is about to shed its own"
	case o.mem.Offered.Window < warmUp:
		return 0, 0, "its own demand is not known yet"
	}
	return o.below(o.target - receiveBelow), o.below(o.target + urgentAbove), ""
}

// below returns what is free below a share of the capacity.
func (o *overload) below(limit float64) float64 {
	free := (limit - o.plan.Utilisation) * o.capacity
	if free < minOffer*o.capacity {
		return 0
	}
	return free
}

// open lets a budget fall at once and grow slowly.
func (o *overload) open(before, now float64) float64 {
	return math.Min(now, before+openRate*o.capacity*o.sec)
}

// grant divides the budget among the origins that asked, and what is left of
// the urgent budget among those of them in need.
func (o *overload) grant() {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(o.v.Measured.Peers)) {
		if p := o.v.Measured.Peers[name]; fresh(o.v.Now, p.WantAt, wantFresh) && p.Want > 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	wants := make([]float64, len(names))
	for i, name := range names {
		wants[i] = o.v.Measured.Peers[name].Want
	}
	grants := maxMin(o.plan.Budget, wants)
	rest := o.plan.BudgetUrgent
	for i, name := range names {
		rest -= grants[i]
		wants[i] -= grants[i]
		if !o.v.Measured.Peers[name].Urgent {
			wants[i] = 0
		}
	}
	o.plan.Grants = make(map[string]float64, len(names))
	parts := make([]string, 0, len(names))
	for i, more := range maxMin(rest, wants) {
		o.plan.Grants[names[i]] = grants[i] + more
		parts = append(parts, fmt.Sprintf("%s %s of %s", names[i], rate(grants[i]+more), rate(o.v.Measured.Peers[names[i]].Want)))
	}
	if o.plan.BudgetUrgent > 0 {
		o.because("grant", fmt.Sprintf("takes foreign work up to %s, urgent %s: %s",
			rate(o.plan.Budget), rate(o.plan.BudgetUrgent), strings.Join(parts, ", ")))
	}
}

// maxMin divides budget among wants so that nobody can get more without taking
// it from one who has no more.
func maxMin(budget float64, wants []float64) []float64 {
	out := make([]float64, len(wants))
	order := make([]int, len(wants))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case wants[a] < wants[b]:
			return -1
		case wants[a] > wants[b]:
			return 1
		}
		return 0
	})
	left := math.Max(0, budget)
	for k, i := range order {
		out[i] = clamp(wants[i], 0, left/float64(len(order)-k))
		left -= out[i]
	}
	return out
}
