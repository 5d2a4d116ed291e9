package main

import (
	"fmt"
	"slices"
	"strings"

	"anyedge/bgp"
	"anyedge/internal/api"
	"anyedge/internal/steering"
)

// Status answers whether this node is well, part by part.
func (s source) Status() api.Status {
	p := s.steer.Plan()
	out := api.Status{
		Version: s.Version(),
		Config:  api.ConfigInfo{File: s.file, Digest: s.cfg.Digest(), Applied: s.started},
		Parts:   []api.Part{s.bgpPart(), s.vipPart(p), s.proxyPart(), s.fabricPart(), s.loadPart(p)},
		Health:  api.OK,
	}
	if s.path != nil {
		out.Parts = slices.Insert(out.Parts, 2, s.l4Part())
	}
	if ca := s.certs.CAPath(); ca != "" {
		out.Parts = append(out.Parts, api.Part{Name: "certs", Health: api.OK, Text: "development CA, trust it with: curl --cacert " + ca})
	}
	for _, part := range out.Parts {
		out.Health = worse(out.Health, part.Health)
	}
	return out
}

// worse returns the worse of two grades.
func worse(a, b api.Health) api.Health {
	if badness(b) > badness(a) {
		return b
	}
	return a
}

func badness(h api.Health) int {
	switch h {
	case api.Bad:
		return 2
	case api.Warning:
		return 1
	default:
		return 0
	}
}

// grade is ok, or what was found when something was.
func grade(ok bool, otherwise api.Health) api.Health {
	if ok {
		return api.OK
	}
	return otherwise
}

func (s source) bgpPart() api.Part {
	if s.speaker == nil {
		return api.Part{Name: "BGP", Health: api.Off, Text: "nothing is announced"}
	}
	st := s.speaker.Status()
	up, sent := 0, 0
	for _, n := range st.Neighbors {
		if n.State == bgp.Established {
			up++
			sent = max(sent, len(n.Sent))
		}
	}
	text := fmt.Sprintf("%d/%d established, %d prefix%s announced", up, len(st.Neighbors), sent, plural(sent, "es"))
	if m := len(st.Mismatch); m > 0 {
		text += fmt.Sprintf("; %d not as wanted", m)
	}
	h := grade(up == len(st.Neighbors) && len(st.Mismatch) == 0, api.Warning)
	if up == 0 && len(st.Neighbors) > 0 {
		h = api.Bad
	}
	return api.Part{Name: "BGP", Health: h, Text: text, Hint: "edgectl routes"}
}

// plural returns the ending of a word for n things.
func plural(n int, ending string) string {
	if n == 1 {
		return ""
	}
	return ending
}

func (s source) vipPart(p *steering.Plan) api.Part {
	if len(p.VIPs) == 0 {
		return api.Part{Name: "VIPs", Health: api.Off, Text: "none configured"}
	}
	part := api.Part{Name: "VIPs", Health: api.OK, Hint: "edgectl routes"}
	var texts []string
	for i := range p.VIPs {
		v := &p.VIPs[i]
		text := v.Name + " " + string(v.State)
		if v.State != v.Want || v.State == steering.Draining || v.State == steering.Withdrawn {
			part.Health = api.Warning
			text += fmt.Sprintf(" (%s)", v.Cause.Reason)
		}
		texts = append(texts, text)
	}
	part.Text = strings.Join(texts, "; ")
	return part
}

// From this share of the answers on, and this many a second, a proxy whose
// backends pass their checks is not well all the same.
const (
	sickShare = 0.05
	sickRate  = 0.3
)

func (s source) proxyPart() api.Part {
	part := api.Part{Name: "proxy", Health: api.OK, Hint: "edgectl services"}
	rate, failed, down := 0.0, 0.0, []string{}
	for _, v := range s.proxy.Services() {
		rate += v.Rate
		failed += v.Rate * v.ErrorRate
		switch {
		case v.Healthy == 0 && v.Total > 0:
			part.Health = api.Bad
			down = append(down, v.Name+" has no healthy backend")
		case v.Healthy < v.Total:
			part.Health = worse(part.Health, api.Warning)
			down = append(down, fmt.Sprintf("%s %d of %d backends", v.Name, v.Healthy, v.Total))
		}
	}
	for _, l := range s.proxy.Listeners() {
		if !l.Up {
			part.Health = api.Bad
			down = append(down, "listener "+l.Name+" is not up")
		} else if len(l.Missing) > 0 {
			part.Health = worse(part.Health, api.Warning)
			down = append(down, fmt.Sprintf("listener %s waits for %v", l.Name, l.Missing))
		}
	}
	share := 0.0
	if rate > 0 {
		share = failed / rate
	}
	if share >= sickShare && failed >= sickRate {
		part.Health = worse(part.Health, api.Warning)
		down = append(down, "answers fail, whatever the health checks say: edgectl backends")
	}
	part.Text = fmt.Sprintf("%.1f req/s, %.2f%% 5xx", rate, 100*share)
	if len(down) > 0 {
		part.Text += "; " + strings.Join(down, "; ")
	}
	return part
}

func (s source) fabricPart() api.Part {
	if s.fabric == nil {
		return api.Part{Name: "fabric", Health: api.Off, Text: "this geo is alone"}
	}
	part := api.Part{Name: "fabric", Health: api.OK, Hint: "edgectl fabric peers"}
	var texts []string
	w := s.world()
	if len(w.Geos) == 1 {
		part.Text = "no other geo is configured"
		return part
	}
	alive := 0
	for i := range w.Geos[1:] {
		g := &w.Geos[i+1]
		if g.Alive {
			alive++
			texts = append(texts, fmt.Sprintf("%s %.1f ms", g.Name, *millis(g.RTT)))
			continue
		}
		part.Health = api.Warning
		texts = append(texts, g.Name+" unseen")
	}
	if alive == 0 {
		part.Health = api.Bad
	}
	part.Text = fmt.Sprintf("%d/%d geo%s; %s", alive, len(w.Geos)-1, plural(len(w.Geos)-1, "s"), strings.Join(texts, ", "))
	return part
}

func (s source) loadPart(p *steering.Plan) api.Part {
	part := api.Part{Name: "load", Health: api.OK, Hint: "edgectl geos"}
	shed := p.Shed
	switch {
	case shed.Capacity <= 0 && s.cfg.Node != nil && s.cfg.Node.Capacity.RPS > 0:
		part.Health, part.Text = api.Bad, fmt.Sprintf("%.1f req/s offered; no backend is up, so there is no capacity here", shed.Offered)
	case shed.Capacity <= 0:
		part.Health, part.Text = api.Off, fmt.Sprintf("%.1f req/s offered; capacity unknown (node.capacity.rps), so nothing is shed", shed.Offered)
	case !shed.Shedding:
		part.Text = fmt.Sprintf("%.0f%% of %.0f req/s; target %.0f%%", 100*shed.Utilisation, shed.Capacity, 100*shed.Target)
	default:
		part.Health = api.Warning
		var to []string
		for _, r := range shed.Routes {
			to = append(to, fmt.Sprintf("%s (%.0f/s)", r.Geo, r.Rate))
		}
		part.Text = fmt.Sprintf("shedding: %.0f%% of %.0f req/s offered; %.0f/s go to %s", 100*shed.Utilisation, shed.Capacity, shed.Need-shed.Left, strings.Join(to, ", "))
		if shed.Left >= 1 {
			part.Text += fmt.Sprintf("; %.0f/s find no taker", shed.Left)
		}
	}
	return part
}
