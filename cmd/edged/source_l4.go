package main

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"anyedge/bpf"
	"anyedge/bpf/lb"
	"anyedge/internal/admin"
	"anyedge/internal/api"
	"anyedge/internal/world"
)

// L4 tells what the packet path does.
func (s source) L4() api.L4 {
	out := api.L4{Node: s.name, Interfaces: []api.L4Interface{}, Counters: []api.L4Count{}, Strays: api.L4Strays{VIPs: []api.L4Stray{}}}
	if s.path == nil {
		return out
	}
	out.On = true
	st := s.path.Status()
	out.Pins, out.Unpinned = st.Pins, st.Unpinned
	total := lb.Counters{Reasons: map[lb.Reason]lb.Count{}, Servers: map[string]lb.Count{}, VIPs: map[netip.Addr]lb.Count{}}
	for _, i := range st.Interfaces {
		row := api.L4Interface{
			Name: i.Name, Mode: string(i.Mode), Program: i.Program, Pinned: i.Pinned, Adopted: i.Adopted,
			Error: i.Error, Follows: i.Applied, Flooded: !i.Flooded.IsZero(), Ways: []api.L4Way{},
		}
		if i.Addr.IsValid() {
			row.Address = i.Addr.String()
		}
		for _, w := range i.Ways {
			row.Ways = append(row.Ways, api.L4Way(w))
		}
		out.Interfaces = append(out.Interfaces, row)
		for r, c := range i.Counters.Reasons {
			total.Reasons[r] = total.Reasons[r].Plus(c)
		}
		for name, c := range i.Counters.Servers {
			total.Servers[name] = total.Servers[name].Plus(c)
		}
		for vip, c := range i.Counters.VIPs {
			total.VIPs[vip] = total.VIPs[vip].Plus(c)
		}
	}
	out.Counters = l4Counts(total)
	out.Ring = l4Ring(s.world().Self(), st)
	out.Strays = s.l4Strays()
	return out
}

func (s source) l4Strays() api.L4Strays {
	out := api.L4Strays{On: s.cfg.L4.FollowsStrays(), VIPs: []api.L4Stray{}}
	if !out.On {
		return out
	}
	out.Refused = s.straysRefused()
	w := s.world()
	for _, p := range s.steer.Plan().Strays {
		target := s.strayTarget(w, &p)
		if target == nil {
			continue
		}
		row := api.L4Stray{VIP: p.VIP, Geo: p.Geo, Node: target.Name, Reason: p.Why}
		if !p.Until.IsZero() {
			row.Until = &p.Until
		}
		out.VIPs = append(out.VIPs, row)
	}
	return out
}

func l4Counts(c lb.Counters) []api.L4Count {
	var out []api.L4Count
	for _, name := range slices.Sorted(maps.Keys(c.Servers)) {
		out = append(out, api.L4Count{Kind: "server", Name: name, Packets: c.Servers[name].Packets, Bytes: c.Servers[name].Bytes})
	}
	for _, a := range slices.SortedFunc(maps.Keys(c.VIPs), netip.Addr.Compare) {
		out = append(out, api.L4Count{Kind: "vip", Name: a.String(), Packets: c.VIPs[a].Packets, Bytes: c.VIPs[a].Bytes})
	}
	for _, r := range slices.Sorted(maps.Keys(c.Reasons)) {
		out = append(out, api.L4Count{Kind: "reason", Name: r.String(), Packets: c.Reasons[r].Packets, Bytes: c.Reasons[r].Bytes})
	}
	return orEmpty(out)
}

// l4Ring is the geo's ring in force and what this node makes of it.
func l4Ring(g *world.Geo, st bpf.Status) *api.L4Ring {
	r := g.Ring
	if r == nil {
		return nil
	}
	follows := map[string]uint64{}
	for i := range g.Nodes {
		if rec := g.Nodes[i].Record; rec != nil && rec.L4 != nil {
			follows[g.Nodes[i].Name] = rec.L4.Applied
		}
	}
	out := &api.L4Ring{Generation: r.Generation, Phase: string(r.Phase), Reason: r.Reason, Members: []api.L4Member{}}
	for _, m := range r.Members {
		out.Members = append(out.Members, api.L4Member{Node: m.Node, Weight: m.Weight, Buckets: st.Buckets[m.Node], Follows: follows[m.Node]})
	}
	for _, m := range r.Other {
		if !slices.ContainsFunc(r.Members, func(x world.RingMember) bool { return x.Node == m.Node }) {
			out.Members = append(out.Members, api.L4Member{Node: m.Node, Weight: m.Weight, Other: true, Gone: m.Gone, Follows: follows[m.Node]})
		}
	}
	return out
}

// L4Trace tells where a flow goes.
func (s source) L4Trace(src, dst, proto string) (api.L4Trace, error) {
	if s.path == nil {
		return api.L4Trace{}, &admin.BadRequestError{Text: "this edged has no packet path (l4 in its configuration)"}
	}
	f, err := parseFlow(src, dst, proto)
	if err != nil {
		return api.L4Trace{}, &admin.BadRequestError{Text: err.Error()}
	}
	t, err := s.path.Trace(f)
	if err != nil {
		return api.L4Trace{}, &admin.BadRequestError{Text: err.Error()}
	}
	out := api.L4Trace{VIP: t.VIP, Bucket: t.Bucket, Owner: t.Owner, Other: t.Other}
	if t.Way.Node != "" {
		way := api.L4Way(t.Way)
		out.Way = &way
	}
	if t.Abroad.Node != "" {
		way := api.L4Way(t.Abroad)
		out.Abroad = &way
	}
	return out, nil
}

// l4Part is the packet path's line in the status.
func (s source) l4Part() api.Part {
	l4 := s.L4()
	part := api.Part{Name: "L4", Health: api.OK, Hint: "edgectl l4 status"}
	var texts []string
	for _, i := range l4.Interfaces {
		if i.Mode == "" {
			part.Health = api.Bad
			texts = append(texts, i.Name+" has no program: "+cmp.Or(i.Error, "not tried yet"))
			continue
		}
		if i.Error != "" {
			part.Health = api.Bad
			texts = append(texts, i.Error)
			continue
		}
		texts = append(texts, fmt.Sprintf("%s XDP on %s", i.Mode, i.Name))
	}
	switch {
	case l4.Ring == nil:
		part.Health = worse(part.Health, api.Warning)
		texts = append(texts, "no ring yet")
	case l4.Ring.Phase != string(world.RingStable):
		texts = append(texts, fmt.Sprintf("ring generation %d changes: %s", l4.Ring.Generation, l4.Ring.Reason))
	default:
		texts = append(texts, fmt.Sprintf("%d node%s, ring generation %d", len(l4.Ring.Members), plural(len(l4.Ring.Members), "s"), l4.Ring.Generation))
	}
	if l4.Strays.Refused != "" {
		part.Health = worse(part.Health, api.Warning)
		texts = append(texts, "no strays: "+l4.Strays.Refused)
	}
	part.Text = strings.Join(texts, "; ")
	return part
}
