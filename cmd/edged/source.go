package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"anyedge/internal/admin"
	"anyedge/internal/api"
	"anyedge/internal/world"
	"anyedge/proxy/discover"
	"anyedge/proxy/upstream"
)

// source answers the admin API from the node's components.
type source struct{ *node }

// Version tells what runs.
func (s source) Version() api.Version {
	v := build()
	v.Kernel, v.PID, v.Geo, v.Node, v.Started = kernel(), os.Getpid(), s.geo, s.name, s.started
	return v
}

// Events returns what happened.
func (s source) Events(ctx context.Context, after uint64, since time.Time) api.Events {
	out := api.Events{Events: []api.Event{}}
	for _, e := range s.events.Since(ctx, after, since) {
		out.Events = append(out.Events, api.Event{ID: e.ID, At: e.At, Node: s.name, What: e.What, Text: e.Text})
	}
	return out
}

// Services lists the services.
func (s source) Services() api.Services {
	out := api.Services{Services: []api.Service{}}
	for _, v := range s.proxy.Services() {
		row := api.Service{
			Name: v.Name, Hosts: v.Hosts, Healthy: v.Healthy, Total: v.Total,
			Rate: v.Rate, ErrorRate: v.ErrorRate, Replayed: v.Replayed, Shed: v.Shed,
			Elsewhere: orEmpty(v.Elsewhere),
			Local:     local(v.Counts), Discovery: discovery(v.Discover),
		}
		if v.Samples > 0 {
			row.P50Millis, row.P99Millis = millis(v.P50), millis(v.P99)
		}
		out.Services = append(out.Services, row)
	}
	return out
}

// Backends lists the backends of one service, or of all.
func (s source) Backends(service string) api.Backends {
	out := api.Backends{Backends: []api.Backend{}}
	for _, v := range s.proxy.Services() {
		if service != "" && v.Name != service {
			continue
		}
		for _, b := range v.Backends {
			row := api.Backend{
				Service: v.Name, Name: b.Name, URL: b.URL, Health: healthWord(b.State), Since: b.Since,
				Why: b.Why, LastError: b.LastError, Active: int(b.Active), Requests: uint64(max(b.Requests, 0)), Failures: uint64(max(b.Failed, 0)),
				Weight: b.Weight, Share: b.Share, Load: b.Load, SoftLimit: b.Limit.Soft, HardLimit: b.Limit.Hard,
			}
			row.Rate, row.ErrorRate = b.Rate, b.ErrorRate
			if b.Samples > 0 {
				row.P50Millis, row.P99Millis = millis(b.P50), millis(b.P99)
			}
			if b.Latency > 0 {
				row.Latency = millis(b.Latency)
			}
			out.Backends = append(out.Backends, row)
		}
	}
	return out
}

// discovery is what the API tells of a source of backends.
func discovery(s *discover.Status) *api.Discovery {
	if s == nil {
		return nil
	}
	return &api.Discovery{Source: s.Source, Backends: s.Backends, Changed: whenever(s.Changed), Read: whenever(s.Read), LastError: s.LastError}
}

// whenever returns t, or nil when that is never.
func whenever(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// local is what the API tells of a pool's counts.
func local(c upstream.Counts) api.Local {
	return api.Local{
		Waiting: c.Waiting, Queued: uint64(max(c.Queued, 0)), Busy: uint64(max(c.Busy, 0)),
		Panicked: uint64(max(c.Panicked, 0)), Ejected: uint64(max(c.Ejected, 0)),
		Retried: uint64(max(c.Retried, 0)), Spent: uint64(max(c.Spent, 0)),
		Hedged: uint64(max(c.Hedged, 0)), HedgeWon: uint64(max(c.HedgeWon, 0)),
	}
}

// healthWord is the API's word for a backend's state.
func healthWord(s upstream.State) string {
	switch s {
	case upstream.Healthy:
		return "up"
	case upstream.Unknown:
		return "unknown"
	case upstream.Ejected:
		return "ejected"
	default:
		return "down"
	}
}

// Drain orders that the traffic of a geo or a node moves away.
func (s source) Drain(r api.DrainRequest) (api.DrainReply, error) {
	if err := s.checkOrder(r); err != nil {
		return api.DrainReply{}, err
	}
	o := world.Order{ID: orderID(r), Kind: orderKind(r), Target: r.Name, Who: r.Who, Reason: r.Reason, At: time.Now()}
	err := s.fabric.PutOrder(o)
	s.steer.Wake() // an order that could not be kept on disk is in force all the same
	if err != nil {
		return api.DrainReply{}, err
	}
	s.events.Add(time.Now(), r.Kind+"/"+r.Name, fmt.Sprintf("drain ordered by %s%s", r.Who, because(r.Reason)))
	text := fmt.Sprintf("%s %s drains: its VIPs are disfavoured, then withdrawn; requests that still arrive are served", r.Kind, r.Name)
	if r.Kind == "node" && s.steer.Plan().Ring != nil {
		text += "; it leaves the ring of its geo"
	}
	return api.DrainReply{Text: text}, nil
}

// Undrain takes the order back.
func (s source) Undrain(r api.DrainRequest) (api.DrainReply, error) {
	if err := s.checkOrder(r); err != nil {
		return api.DrainReply{}, err
	}
	known := false
	for _, o := range s.world().Orders {
		if o.Kind == orderKind(r) && o.Target == r.Name {
			if err := s.fabric.DropOrder(o.ID); err != nil {
				return api.DrainReply{}, err
			}
			known = true
		}
	}
	if !known {
		return api.DrainReply{Text: fmt.Sprintf("%s %s was not drained; nothing to undo", r.Kind, r.Name)}, nil
	}
	s.events.Add(time.Now(), r.Kind+"/"+r.Name, fmt.Sprintf("drain undone by %s%s", r.Who, because(r.Reason)))
	s.steer.Wake()
	return api.DrainReply{Text: fmt.Sprintf("%s %s returns: its VIPs are announced again when they are healthy", r.Kind, r.Name)}, nil
}

// orderKind is what a request orders.
func orderKind(r api.DrainRequest) world.OrderKind {
	if r.Kind == "node" {
		return world.DrainNode
	}
	return world.DrainGeo
}

// maxReason is how long an order's reason may be, in bytes.
const maxReason = 500

// checkOrder reports why an order cannot be taken.
func (s source) checkOrder(r api.DrainRequest) error {
	switch {
	case r.Kind != "geo" && r.Kind != "node":
		return &admin.BadRequestError{Text: fmt.Sprintf("kind %q cannot be drained in this version; geo and node can", r.Kind)}
	case strings.ContainsFunc(r.Reason, unicode.IsControl):
		return &admin.BadRequestError{Text: "reason: one line of plain text, without control characters"}
	case len(r.Reason) > maxReason:
		return &admin.BadRequestError{Text: fmt.Sprintf("reason: at most %d bytes", maxReason)}
	case s.fabric == nil:
		return &admin.BadRequestError{Text: "this edged has no other geos (no fabric in its configuration): there is nowhere to drain to"}
	case r.Kind == "node" && !slices.Contains(s.nodeNames(), r.Name):
		return &admin.BadRequestError{Text: fmt.Sprintf("node %q is not known; there are %s", r.Name, strings.Join(s.nodeNames(), ", "))}
	case r.Kind == "geo" && s.world().Find(r.Name) == nil:
		return &admin.BadRequestError{Text: fmt.Sprintf("geo %q is not configured; there are %s", r.Name, strings.Join(s.geoNames(), ", "))}
	}
	return nil
}

// orderID names an order by what it is about: a second drain of the same
// target replaces the first.
func orderID(r api.DrainRequest) string { return "drain-" + r.Kind + "-" + r.Name }

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(" (%s)", reason)
}

func (n *node) geoNames() []string {
	var names []string
	for _, g := range n.cfg.Geos {
		names = append(names, g.Name)
	}
	return names
}

// nodeNames lists the nodes that have been heard of.
func (n *node) nodeNames() []string {
	var names []string
	w := n.world()
	for i := range w.Geos {
		for j := range w.Geos[i].Nodes {
			names = append(names, w.Geos[i].Nodes[j].Name)
		}
	}
	return names
}

// millis returns d in milliseconds.
func millis(d time.Duration) *float64 {
	ms := float64(d) / float64(time.Millisecond)
	return &ms
}

// orEmpty makes JSON show [] rather than null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
