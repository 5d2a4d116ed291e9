package main

import (
	"slices"
	"time"

	"anyedge/internal/api"
	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// Geos tells what this node knows of every geo.
func (s source) Geos() api.Geos {
	w, p := s.world(), s.steer.Plan()
	out := api.Geos{Geo: s.geo, At: w.At, Geos: []api.Geo{}}
	for i := range w.Geos {
		g := &w.Geos[i]
		row := geoRow(g, w)
		row.Self = g.Name == w.Geo
		row.State = geoState(g, row.Self, p, w)
		if row.Self {
			row.AgeMillis, row.RTTMillis = nil, nil
			s.ownLoad(&row, p)
		}
		out.Geos = append(out.Geos, row)
	}
	return out
}

// geoRow is what the snapshot says of a geo.
func geoRow(g *world.Geo, w *world.World) api.Geo {
	row := api.Geo{Name: g.Name, Number: g.Number, City: g.City, Nodes: []api.Node{}}
	if !g.Heard.IsZero() {
		age := w.At.Sub(g.Heard).Milliseconds()
		row.AgeMillis = &age
	}
	if g.RTT > 0 {
		row.RTTMillis = millis(g.RTT)
	}
	if l := g.Load; !l.At.IsZero() {
		loadInto(&row, l)
	}
	for i := range g.Nodes {
		row.Nodes = append(row.Nodes, nodeRow(&g.Nodes[i], w))
	}
	return row
}

// loadInto fills in what a geo says of its load.
func loadInto(row *api.Geo, l world.Load) {
	row.Offered, row.Served = &l.Offered, &l.Served
	row.ShedOut, row.ShedIn, row.Budget = &l.ShedOut, &l.ShedIn, &l.Budget
	if l.Capacity > 0 {
		u := l.Utilisation()
		row.Capacity, row.Utilisation = &l.Capacity, &u
	}
}

// ownLoad fills in this geo's load from the plan itself.
func (s source) ownLoad(row *api.Geo, p *steering.Plan) {
	loadInto(row, steering.Load(&steering.View{Now: p.At}, p))
	for _, r := range p.Shed.Routes {
		row.ShedTo = append(row.ShedTo, r.Geo)
	}
}

// geoState is one word for how a geo is.
func geoState(g *world.Geo, self bool, p *steering.Plan, w *world.World) string {
	switch {
	case !self && !g.Alive:
		return "unseen"
	case steering.Drained(w, g):
		return "draining"
	case self && p.Shed.Shedding, !self && g.Load.ShedOut >= 1:
		return "shedding"
	}
	return "up"
}

// ordered reports whether an order of that kind for target is in force.
func ordered(w *world.World, kind world.OrderKind, target string) bool {
	return slices.ContainsFunc(w.Orders, func(o world.Order) bool { return o.Kind == kind && o.Target == target })
}

// nodeRow is what a node's own record says.
func nodeRow(n *world.Node, w *world.World) api.Node {
	row := api.Node{Name: n.Name, Number: n.Number, Status: string(n.Status), Drained: ordered(w, world.DrainNode, n.Name)}
	if n.Addr.IsValid() {
		row.Address = n.Addr.String()
	}
	r := n.Record
	if r == nil {
		return row
	}
	row.Software, row.Config, row.VIPs = r.Software, r.Config, r.VIPs
	row.Record = &api.RecordVersion{Epoch: r.Version.Epoch, Counter: r.Version.Counter}
	row.Services = map[string]api.Counts{}
	for name, c := range r.Services {
		row.Services[name] = api.Counts{Healthy: c.Healthy, Total: c.Total}
	}
	return row
}

// FabricPeers lists the other nodes.
func (s source) FabricPeers() api.FabricPeers {
	out := api.FabricPeers{Peers: []api.Peer{}}
	if s.fabric == nil {
		return out
	}
	now := time.Now()
	for _, p := range s.fabric.Peers() {
		row := api.Peer{
			Node: p.Node, Geo: p.Geo, Address: p.Addr, State: string(p.State), Via: "quic", Conns: p.Conns, Loss: p.Loss,
			BytesIn: p.BytesIn, BytesOut: p.BytesOut, Requests: p.Requests,
			Since: p.Since, Software: p.Software, LastError: p.LastError,
		}
		if p.RTT > 0 {
			row.RTTMillis = millis(p.RTT)
		}
		if !p.Seen.IsZero() {
			seen := now.Sub(p.Seen).Milliseconds()
			row.SeenMillis = &seen
		}
		out.Peers = append(out.Peers, row)
	}
	return out
}
