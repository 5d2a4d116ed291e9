package main

import (
	"maps"
	"os"
	"slices"

	"anyedge/bgp"
	"anyedge/internal/api"
	"anyedge/internal/steering"
	"anyedge/internal/world"
)

// Routes tells what is wanted on the wire, what is there, and why.
func (s source) Routes() api.Routes {
	w, p := s.world(), s.steer.Plan()
	out := api.Routes{
		V: 1, Geo: s.geo, Node: s.name, Guard: guard(w),
		Speaker:   api.Speaker{Impl: "none", Mode: "off", PID: os.Getpid(), Since: s.started},
		VIPs:      []api.VIP{},
		Neighbors: []api.Neighbor{},
		Mismatch:  []api.Mismatch{},
	}
	var st bgp.Status
	if s.speaker != nil {
		st = s.speaker.Status()
		out.ASN, out.RouterID = st.ASN, st.RouterID.String()
		out.Speaker.Impl, out.Speaker.Version, out.Speaker.Mode = st.Impl, st.Version, "inprocess"
	}
	for _, c := range s.cfg.VIPs {
		if vip := p.VIP(c.Name); vip != nil {
			out.VIPs = append(out.VIPs, s.vipRow(c, vip, w, st.Neighbors))
		}
	}
	for _, n := range st.Neighbors {
		out.Neighbors = append(out.Neighbors, neighborRow(n))
	}
	for _, m := range st.Mismatch {
		out.Mismatch = append(out.Mismatch, api.Mismatch{Neighbor: m.Neighbor, Prefix: m.Prefix.String(), Text: m.Text})
	}
	return out
}

// guard counts the geos that are known to announce something.
func guard(w *world.World) api.Guard {
	g := api.Guard{Geos: len(w.Geos)}
	for i := range w.Geos {
		geo, announcing := &w.Geos[i], false
		for j := range geo.Nodes {
			n := &geo.Nodes[j]
			if !steering.Believed(geo, n, w.At) || !announcesAny(n.Record) {
				continue
			}
			announcing = true
			if ms := w.At.Sub(n.Seen).Milliseconds(); i > 0 && (g.AgeMillis == nil || ms > *g.AgeMillis) {
				g.AgeMillis = &ms
			}
		}
		if announcing {
			g.Announcing++
		}
	}
	return g
}

func announcesAny(r *world.NodeRecord) bool {
	return slices.Contains(slices.Collect(maps.Values(r.VIPs)), string(steering.Announced))
}

// vipRow is one VIP's state with what each neighbor was sent.
func (s source) vipRow(c steering.VIPConfig, vip *steering.VIPPlan, w *world.World, neighbors []bgp.NeighborStatus) api.VIP {
	row := api.VIP{
		Name: c.Name, State: string(vip.State), Want: string(vip.Want), Since: vip.Since,
		Cause: causeRow(vip.Cause), Blocked: vip.Blocked, Shadow: c.Shadow(),
		Gate: []api.Signal{}, Others: []string{}, Prefixes: []api.Prefix{}, History: []api.Transition{},
	}
	if vip.Next != nil {
		row.Next = &api.Next{State: string(vip.Next.State), At: vip.Next.At}
	}
	for _, g := range vip.Gate {
		row.Gate = append(row.Gate, api.Signal{Signal: g.Name, OK: g.OK, Hard: g.Hard, AgeMillis: g.Age.Milliseconds(), Text: g.Text})
	}
	for i := range w.Geos[1:] {
		g := &w.Geos[i+1]
		if steering.Announces(g, c.Name, w.At) {
			row.Others = append(row.Others, g.Name)
		}
	}
	for _, p := range c.Prefixes {
		one := api.Prefix{Prefix: p.String(), Neighbors: []api.Sent{}}
		for _, n := range neighbors {
			one.Neighbors = append(one.Neighbors, sentRow(n, func(r bgp.SentRoute) bool { return r.Prefix == p }))
		}
		row.Prefixes = append(row.Prefixes, one)
	}
	for _, t := range s.history.of(c.Name) {
		one := api.Transition{At: t.at, From: t.from, To: t.to}
		if t.vip != nil {
			one.Cause = causeRow(t.vip.Cause)
		}
		row.History = append(row.History, one)
	}
	return row
}

func causeRow(c steering.Cause) api.Cause {
	return api.Cause{Kind: c.Kind, Who: c.Who, Reason: c.Reason}
}

// sentRow is the one route of a neighbor's adj-out that is meant.
func sentRow(n bgp.NeighborStatus, is func(bgp.SentRoute) bool) api.Sent {
	row := api.Sent{Neighbor: n.Name}
	i := slices.IndexFunc(n.Sent, is)
	if i < 0 {
		return row
	}
	r := n.Sent[i]
	row.Advertised, row.NextHop, row.ASPath, row.MED = true, r.NextHop.String(), r.ASPath, r.MED
	for _, c := range r.Communities {
		row.Communities = append(row.Communities, c.String())
	}
	for _, c := range r.LargeCommunities {
		row.LargeCommunities = append(row.LargeCommunities, c.String())
	}
	return row
}

// neighborRow is one session.
func neighborRow(n bgp.NeighborStatus) api.Neighbor {
	row := api.Neighbor{
		Name: n.Name, Address: n.Address.String(), ASN: n.ASN, State: string(n.State), Since: n.Since,
		Sent: len(n.Sent), Received: int(n.Received), Limit: n.Limit, Flaps: int(n.Flaps), LastError: n.LastError,
	}
	if n.State == bgp.Established {
		row.Negotiated = &api.Negotiated{HoldSeconds: n.Hold.Seconds(), KeepaliveSeconds: n.Keepalive.Seconds(), Families: n.Families}
	}
	return row
}
