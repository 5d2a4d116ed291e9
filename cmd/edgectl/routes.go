package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) routesCommand() *cobra.Command {
	c := a.watched(a.command(&cobra.Command{
		Use:     "routes",
		Aliases: []string{"route"},
		Short:   "what is announced, what each neighbor was sent, and why",
		Long: "Routes shows every VIP's state and why it has it, what is on the wire, and the BGP sessions.\n" +
			"Exit code 1 means: a neighbor is down, a VIP that belongs to this geo is not announced, or wire and intent differ.",
	}, func(ctx context.Context, _ []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			r, err := a.routes(ctx)
			return a.routesView(r), err
		})
	}))
	c.AddCommand(a.routesWhyCommand(), a.routesShowCommand())
	return c
}

func (a *app) routes(ctx context.Context) (api.Routes, error) {
	return ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Routes, error) { return c.Routes(ctx) })
}

func (a *app) routesView(r api.Routes) view {
	v := view{data: r, rows: anys(r.VIPs), bad: degraded(r)}
	for i := range r.VIPs {
		v.names = append(v.names, r.VIPs[i].Name)
	}
	v.table = func(p *page) {
		p.line("%s", a.routesTitle(r))
		t := newTable("VIP", "PREFIX", "STATE", "SINCE", "WANT", "NEIGHBORS", "ON WIRE", "WHY")
		for i := range r.VIPs {
			a.vipRows(t, &r.VIPs[i])
		}
		p.table(t)
		n := newTable("NBR", "ADDRESS", "AS", "STATE", "FOR", "HOLD", "SENT", "RECV(LIMIT)", "LAST ERROR")
		for _, x := range r.Neighbors {
			a.neighborRow(n, x)
		}
		p.table(n)
		if len(r.Mismatch) == 0 {
			p.line("MISMATCH  none (intent = adj-out on all established neighbors)")
		}
		for _, m := range r.Mismatch {
			p.line("MISMATCH  %s on %s: %s", m.Prefix, m.Neighbor, m.Text)
		}
	}
	return v
}

// degraded reports whether something is not as an operator would have it.
func degraded(r api.Routes) bool {
	return len(r.Mismatch) > 0 ||
		slices.ContainsFunc(r.VIPs, func(v api.VIP) bool { return v.State != "announced" && v.Cause.Kind != "geo" }) ||
		slices.ContainsFunc(r.Neighbors, func(n api.Neighbor) bool { return n.State != "established" })
}

// routesTitle says whose routes these are.
func (a *app) routesTitle(r api.Routes) string {
	guard := fmt.Sprintf("guard: %d/%s announcing", r.Guard.Announcing, plural(r.Guard.Geos, "geo"))
	if r.Guard.AgeMillis != nil {
		guard += fmt.Sprintf(", gossip %s old", ageOf(r.Guard.AgeMillis))
	}
	speaker := r.Speaker.Impl
	if r.Speaker.Version != "" {
		speaker += "/" + r.Speaker.Version
	}
	return fmt.Sprintf("geo %s  node %s  AS%d  router-id %s  speaker %s pid %d up %s   %s",
		cmp.Or(r.Geo, none), cmp.Or(r.Node, none), r.ASN, cmp.Or(r.RouterID, none), speaker, r.Speaker.PID, a.since(r.Speaker.Since), guard)
}

// vipRows adds a row for each prefix; the first also says why.
func (a *app) vipRows(t *table, v *api.VIP) {
	why := a.why(v)
	state := vipState(v)
	if len(v.Prefixes) == 0 {
		t.row(v.Name, "", state, a.since(v.Since), v.Want, "", "", why)
	}
	for i, p := range v.Prefixes {
		advertised := 0
		for _, s := range p.Neighbors {
			if s.Advertised {
				advertised++
			}
		}
		t.row(v.Name, p.Prefix, state, a.since(v.Since), v.Want, fmt.Sprintf("%d/%d", advertised, len(p.Neighbors)), onWire(p), why)
		if i == 0 {
			why = " "
		}
	}
}

func vipState(v *api.VIP) cell {
	text := v.State
	if v.Shadow {
		text += " (shadow)"
	}
	switch {
	case v.State == "announced":
		return cell{text, good}
	case v.Cause.Kind == "geo":
		return cell{text, plain}
	case v.State == "draining", v.State == "idle":
		return cell{text, doubtful}
	}
	return cell{text, ill}
}

// why says on one line why the VIP is in its state and what comes next.
func (a *app) why(v *api.VIP) string {
	parts := []string{causeText(v)}
	if v.Blocked != "" {
		parts = append(parts, "held by "+v.Blocked)
	}
	if v.Next != nil {
		parts = append(parts, fmt.Sprintf("%s in %s", v.Next.State, age(v.Next.At.Sub(a.now()))))
	}
	return strings.Join(parts, "; ")
}

// causeText says who or what put the VIP in its state. While it is announced
// its gate says more.
func causeText(v *api.VIP) string {
	if v.Cause.Kind == "operator" {
		return strings.TrimSpace(fmt.Sprintf("operator %s %q", v.Cause.Who, v.Cause.Reason))
	}
	text := v.Cause.Reason
	var ok []string
	for _, s := range v.Gate {
		switch {
		case s.OK:
			ok = append(ok, s.Signal+" "+ageOf(&s.AgeMillis))
		case s.Text == "" || !strings.Contains(text, s.Text):
			text = strings.TrimPrefix(text+"; "+signalText(s), "; ")
		}
	}
	if v.State == "announced" && len(ok) > 0 && len(ok) == len(v.Gate) {
		return fmt.Sprintf("gate ok (%s)", strings.Join(ok, ", "))
	}
	return text
}

// signalText says what a signal of a gate says.
func signalText(s api.Signal) string {
	if s.Text == "" {
		return s.Signal + " is false"
	}
	return s.Signal + ": " + s.Text
}

// onWire writes the attributes as they were sent; neighbors that were sent
// different ones are told apart.
func onWire(p api.Prefix) string {
	var texts []string
	byText := map[string][]string{}
	for _, s := range p.Neighbors {
		if !s.Advertised {
			continue
		}
		text := attributes(s)
		if byText[text] == nil {
			texts = append(texts, text)
		}
		byText[text] = append(byText[text], s.Neighbor)
	}
	if len(texts) == 1 {
		return texts[0]
	}
	for i, text := range texts {
		texts[i] = strings.Join(byText[text], ",") + ": " + text
	}
	return strings.Join(texts, "; ")
}

// attributes writes a path's attributes: "65010 x4 c=65535:0 med=10".
func attributes(s api.Sent) string {
	parts := []string{asPath(s.ASPath)}
	if len(s.Communities) > 0 {
		parts = append(parts, "c="+strings.Join(s.Communities, ","))
	}
	if len(s.LargeCommunities) > 0 {
		parts = append(parts, "lc="+strings.Join(s.LargeCommunities, ","))
	}
	if s.MED != nil {
		parts = append(parts, fmt.Sprintf("med=%d", *s.MED))
	}
	return strings.Join(parts, " ")
}

// asPath writes an AS path; an AS several times in a row is counted.
func asPath(path []uint32) string {
	var parts []string
	for i := 0; i < len(path); {
		n := 1
		for i+n < len(path) && path[i+n] == path[i] {
			n++
		}
		text := fmt.Sprint(path[i])
		if n > 1 {
			text += fmt.Sprintf(" x%d", n)
		}
		parts = append(parts, text)
		i += n
	}
	return cmp.Or(strings.Join(parts, " "), "(empty path)")
}

func (a *app) neighborRow(t *table, n api.Neighbor) {
	state := cell{stateName(n.State), doubtful}
	if n.State == "established" {
		state.mood = good
	}
	hold := none
	if n.Negotiated != nil {
		hold = fmt.Sprintf("%g/%g", n.Negotiated.HoldSeconds, n.Negotiated.KeepaliveSeconds)
	}
	received := none
	if n.State == "established" {
		received = fmt.Sprintf("%d/%d", n.Received, n.Limit)
	}
	t.row(n.Name, n.Address, n.ASN, state, a.since(n.Since), hold, n.Sent, received, n.LastError)
}

// stateName is how RFC 4271 spells a session's state.
func stateName(s string) string {
	names := map[string]string{
		"idle": "Idle", "connect": "Connect", "active": "Active",
		"opensent": "OpenSent", "openconfirm": "OpenConfirm", "established": "Established",
	}
	return cmp.Or(names[s], s)
}
