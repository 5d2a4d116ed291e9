package steering

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"anyedge/internal/world"
)

// decideServices says for every service where its requests can go when no
// local backend took a byte of them.
func decideServices(v *View) (map[string]ServicePlan, []Reason) {
	if len(v.Services) == 0 {
		return nil, nil
	}
	plans := make(map[string]ServicePlan, len(v.Services))
	var why []Reason
	for i := range v.Services {
		s := &v.Services[i]
		p := ServicePlan{Healthy: s.Healthy, Elsewhere: elsewhere(v, s.Name)}
		plans[s.Name] = p
		if s.Healthy > 0 || !s.Reported {
			continue
		}
		text := backends(0, s.Total)
		if len(p.Elsewhere) == 0 {
			why = append(why, Reason{"service-down", s.Name, text + ", and no other geo can serve it"})
		} else {
			why = append(why, Reason{"no-backend", s.Name, text + ": its requests go to " + strings.Join(p.Elsewhere, ", ")})
		}
	}
	return plans, why
}

// elsewhere returns the geos that can serve a service, best first: within
// max_rtt and not draining, then the rest; each nearest first.
func elsewhere(v *View, service string) []string {
	type candidate struct {
		name  string
		worse int
		rtt   time.Duration
	}
	var list []candidate
	for _, g := range v.others() {
		if !g.Alive || !g.Serves(service) || v.Config.never(g.Name) {
			continue
		}
		c := candidate{name: g.Name, rtt: g.RTT}
		if g.RTT <= 0 || g.RTT > v.Config.maxRTT() {
			c.worse++
		}
		if draining(v, g) {
			c.worse += 2
		}
		list = append(list, c)
	}
	slices.SortStableFunc(list, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.worse, b.worse), cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.name, b.name))
	})
	var names []string
	for _, c := range list {
		names = append(names, c.name)
	}
	return names
}

// draining reports whether an operator moves traffic away from g: from the geo,
// or from each of its nodes that are there.
func draining(v *View, g *world.Geo) bool {
	if v.drainOrder(g.Name) != nil {
		return true
	}
	drained := 0
	for i := range g.Nodes {
		switch n := &g.Nodes[i]; {
		case v.nodeOrder(n.Name) != nil:
			drained++
		case n.Status == world.Joined:
			return false
		}
	}
	return drained > 0
}

// Drained reports whether an operator moves traffic away from g, as w has it.
func Drained(w *world.World, g *world.Geo) bool { return draining(&View{Now: w.At, World: w}, g) }

// rate writes requests/s for people.
func rate(x float64) string {
	if x < 9.95 {
		return fmt.Sprintf("%.1f/s", x)
	}
	return fmt.Sprintf("%.0f/s", x)
}

// percent writes a share for people.
func percent(x float64) string { return fmt.Sprintf("%.0f%%", 100*x) }
