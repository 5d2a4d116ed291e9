package fabric

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"anyedge/internal/world"
)

// snapshotEvery is the age at which a World is replaced although nothing
// happened.
const snapshotEvery = 100 * time.Millisecond

func compareText(a, b string) int { return cmp.Compare(a, b) }

// watch rebuilds the World on change, and at least every snapshotEvery, until
// ctx ends.
func (f *Fabric) watch(ctx context.Context) {
	tick := time.NewTicker(snapshotEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.rebuild:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		f.snapshot(time.Now())
	}
}

// snapshot publishes the World as it is now.
func (f *Fabric) snapshot(now time.Time) {
	w := &world.World{At: now, Geo: f.setup.Geo, Node: f.setup.NodeName, Orders: f.records.orders(now)}
	byGeo := map[string][]*remote{}
	for _, r := range f.roster.all() {
		r.mu.Lock()
		byGeo[r.geo] = append(byGeo[r.geo], r)
		r.mu.Unlock()
	}
	known := false
	for _, g := range f.setup.Geos {
		known = known || g.Name == f.setup.Geo
		w.Geos = append(w.Geos, f.geo(now, g, byGeo[g.Name]))
	}
	if !known { // the configuration names it, but World.Self must never fail
		w.Geos = append(w.Geos, f.geo(now, world.GeoConfig{Name: f.setup.Geo}, byGeo[f.setup.Geo]))
	}
	slices.SortStableFunc(w.Geos, func(a, b world.Geo) int {
		return cmp.Or(cmp.Compare(f.rank(&a), f.rank(&b)), cmp.Compare(a.RTT, b.RTT))
	})
	old := f.world.Swap(w)
	if old == nil || shape(old) != shape(w) {
		signal(f.changed)
	}
}

// rank orders geos: this one, those that were measured, the others.
func (f *Fabric) rank(g *world.Geo) int {
	switch {
	case g.Name == f.setup.Geo:
		return 0
	case g.RTT > 0:
		return 1
	}
	return 2
}

// geo returns what is known about one geo.
func (f *Fabric) geo(now time.Time, c world.GeoConfig, nodes []*remote) world.Geo {
	g := world.Geo{Name: c.Name, Number: c.Number, City: c.City}
	self := c.Name == f.setup.Geo
	alive, known := time.Duration(0), time.Duration(0) // RTT to the nearest node
	for _, r := range nodes {
		r.mu.Lock()
		if r.status != "" {
			g.Nodes = append(g.Nodes, world.Node{Name: r.name, Geo: c.Name, Number: r.number, Addr: r.addr, Status: r.status, Alive: r.pulse.alive && r.status != world.Left})
		}
		rtt := r.pulse.least
		if r.pulse.alive && r.status != world.Left {
			g.Alive = true
			alive = nearer(alive, rtt)
		}
		known = nearer(known, rtt)
		for _, t := range []time.Time{r.heard, r.pulse.arrived} {
			if t.After(g.Heard) {
				g.Heard = t
			}
		}
		r.mu.Unlock()
	}
	g.RTT = cmp.Or(alive, known)
	g.Load = f.load.of(c.Name)
	if self {
		g.Alive, g.RTT, g.Heard, g.Load = true, 0, now, f.load.sum(now)
		g.Nodes = append(g.Nodes, world.Node{Name: f.setup.NodeName, Geo: c.Name, Number: f.setup.Number, Addr: f.Addr(), Status: world.Joined, Alive: true})
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		n.Record, n.Seen = f.records.nodeRecord(n.Name)
		if n.Record != nil && n.Record.Geo != c.Name { // gossip put it here, its own signed word does not
			n.Record, n.Seen = nil, time.Time{}
		}
		if n.Name == f.setup.NodeName && n.Record != nil {
			n.Seen = now
		}
	}
	slices.SortFunc(g.Nodes, func(a, b world.Node) int { return compareText(a.Name, b.Name) })
	g.Ring = f.records.ring(c.Name)
	return g
}

// nearer returns the smaller of two round trips, of which 0 is none.
func nearer(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// shape describes all of a World but its ages, round trips and loads.
func shape(w *world.World) string {
	var b strings.Builder
	for i := range w.Geos {
		g := &w.Geos[i]
		fmt.Fprintf(&b, "%s %v\n", g.Name, g.Alive)
		if g.Ring != nil {
			fmt.Fprintf(&b, " ring %v\n", *g.Ring)
		}
		for j := range g.Nodes {
			n := &g.Nodes[j]
			fmt.Fprintf(&b, " %s %s %v", n.Name, n.Status, n.Alive)
			if n.Record != nil {
				fmt.Fprintf(&b, " %d.%d", n.Record.Version.Epoch, n.Record.Version.Counter)
			}
		}
	}
	for i := range w.Orders {
		o := &w.Orders[i]
		fmt.Fprintf(&b, "%s %s %s %s\n", o.ID, o.Kind, o.Target, o.Until)
	}
	return b.String()
}
