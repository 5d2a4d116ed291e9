package main

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"anyedge/bgp"
	"anyedge/internal/steering"
	"anyedge/internal/world"
	"anyedge/proxy/upstream"
)

// gather builds the view that the next decision is made from. It runs on the
// goroutine that steers.
func (n *node) gather(now time.Time) *steering.View {
	v := &steering.View{
		Now: now, Started: n.started, Stopping: n.stopping.Load(),
		World: n.world(), Config: n.cfg.Overload, Measured: n.proxy.Door().Measure(now),
	}
	if n.cfg.Node != nil {
		v.CapacityRPS = n.cfg.Node.Capacity.RPS
	}
	if n.path != nil {
		self := n.path.Self()
		v.L4Drain, v.L4Pending, v.L4Strays = n.cfg.L4.DrainTime(), self.Applied == 0, n.cfg.L4.FollowsStrays()
	}
	n.health = n.proxy.Health()
	for _, s := range n.health {
		v.Services = append(v.Services, steering.ServiceView{
			Name: s.Name, Healthy: s.Healthy, Total: s.Total, Reported: s.Reported,
			Exempt: slices.Contains(n.cfg.Overload.ExemptServices, s.Name),
		})
	}
	listeners := n.proxy.Listeners()
	for _, c := range n.cfg.VIPs {
		up, why := n.listenersUp(listeners, c)
		v.VIPs = append(v.VIPs, steering.VIPView{
			Config: c, Here: c.In(n.geo, n.cfg.Groups), Services: n.cfg.ServicesOn(c.Name),
			ListenersUp: up, ListenersWhy: why, ProxyAlive: n.proxy.Alive(),
		})
	}
	n.view = v
	return v
}

// apply makes a plan so: the door, the neighbors and the other geos learn it.
// It runs on the goroutine that steers and does not block.
func (n *node) apply(p *steering.Plan) {
	n.proxy.Door().SetPlan(p)
	n.followRing(n.view.World, p)
	if n.speaker != nil {
		n.speaker.Announce(n.routes(p))
	}
	if n.fabric != nil {
		n.fabric.SetLoad(steering.Load(n.view, p))
		if err := n.fabric.Publish(n.record(p)); err != nil {
			n.log.Error("node record not published", "err", err)
		}
	}
	if p.Ring != nil && p.Ring.Lead && p.Ring.Change() && n.fabric != nil && p.Ring.Ring.Generation > 0 {
		if err := n.fabric.PublishRing(p.Ring.Ring); err != nil {
			n.log.Error("ring not published", "err", err)
		}
	}
	for _, e := range steering.Events(n.plan, p) {
		n.note(e, p)
	}
	n.noteBackends(p.At)
	n.plan = p
}

// routes translates what the plan puts on the wire into the speaker's terms.
// Communities were checked when the configuration was read.
func (n *node) routes(p *steering.Plan) []bgp.Route {
	var out []bgp.Route
	for _, a := range steering.Announcements(n.cfg.VIPs, p) {
		r := bgp.Route{Prefix: a.Prefix, MED: a.MED, Prepend: a.Prepend}
		for _, text := range a.Communities {
			if c, err := bgp.ParseCommunity(text); err == nil {
				r.Communities = append(r.Communities, c)
			}
		}
		for _, text := range a.LargeCommunities {
			if c, err := bgp.ParseLargeCommunity(text); err == nil {
				r.LargeCommunities = append(r.LargeCommunities, c)
			}
		}
		out = append(out, r)
	}
	return out
}

// record is what this node publishes of itself.
func (n *node) record(p *steering.Plan) world.NodeRecord {
	r := world.NodeRecord{
		Config: n.cfg.Digest(), Capacity: n.view.CapacityRPS,
		Services: map[string]world.Counts{}, VIPs: steering.VIPStates(n.cfg.VIPs, p), L4: n.l4Record(p),
	}
	for _, s := range n.view.Services {
		r.Services[s.Name] = world.Counts{Healthy: s.Healthy, Total: s.Total}
	}
	return r
}

// note records an event that came with p.
func (n *node) note(e steering.Event, p *steering.Plan) {
	what := "geo/" + n.geo
	if e.Target != "" {
		what = "vip/" + e.Target
	}
	n.events.Add(e.At, what, e.Text)
	if e.Kind == "vip" {
		n.history.add(e.Target, transition{e.At, e.From, e.To, p.VIP(e.Target)})
	}
}

// noteBackends records backends whose health changed.
func (n *node) noteBackends(now time.Time) {
	for _, s := range n.health {
		for _, b := range s.Backends {
			id := s.Name + "/" + b.Name
			was, known := n.healthWas[id]
			n.healthWas[id] = b.State
			if was == b.State && known {
				continue
			}
			text := healthWord(b.State)
			if b.State == upstream.Unhealthy && b.LastError != "" {
				text = fmt.Sprintf("%s: %s", text, b.LastError)
			}
			if b.State == upstream.Ejected {
				text = fmt.Sprintf("%s for %s: %s", text, b.Until.Sub(b.Since).Round(time.Second), b.Why)
			}
			if known || b.State == upstream.Healthy {
				n.events.Add(now, "backend/"+id, text)
			}
		}
	}
}

// A transition is one change of a VIP's state.
type transition struct {
	at       time.Time
	from, to string
	vip      *steering.VIPPlan // after the change; its cause is why
}

// maxHistory is how many transitions of a VIP are kept.
const maxHistory = 50

// history keeps the last transitions of each VIP.
type history struct {
	mu  sync.Mutex
	vip map[string][]transition
}

func (h *history) add(vip string, t transition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.vip == nil {
		h.vip = map[string][]transition{}
	}
	h.vip[vip] = append(h.vip[vip], t)
	h.vip[vip] = h.vip[vip][max(0, len(h.vip[vip])-maxHistory):]
}

func (h *history) of(vip string) []transition {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.vip[vip])
}
