package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// l4Buckets is how many parts a ring has.
const l4Buckets = 1 << 16

func (a *app) l4Command() *cobra.Command {
	return a.group("l4", "the packet path between the nodes of this geo", a.l4StatusCommand(), a.l4TraceCommand())
}

func (a *app) l4StatusCommand() *cobra.Command {
	return a.watched(a.command(&cobra.Command{
		Use:   "status",
		Short: "interfaces, the ring, the ways to the other nodes, what was counted",
	}, func(ctx context.Context, _ []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			l4, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.L4, error) { return c.L4(ctx) })
			return l4View(l4), err
		})
	}))
}

func l4View(l api.L4) view {
	v := view{data: l, rows: anys(l.Interfaces)}
	for _, i := range l.Interfaces {
		v.names = append(v.names, i.Name)
	}
	v.table = func(p *page) {
		if !l.On {
			p.line("This edged has no packet path (l4 in its configuration): packets stay where the routers bring them.")
			return
		}
		p.table(portTable(l.Interfaces))
		p.line("%s", pinText(l))
		if r := l.Ring; r != nil {
			p.line("")
			p.line("Ring generation %d, %s: %s", r.Generation, r.Phase, r.Reason)
			p.table(ringTable(r))
		}
		p.line("")
		for _, text := range strayTexts(l) {
			p.line("%s", text)
		}
		p.table(wayTable(l.Interfaces))
		p.line("")
		p.table(countTable(l))
	}
	return v
}

func portTable(all []api.L4Interface) *table {
	t := newTable("INTERFACE", "MODE", "PROGRAM", "ADDRESS", "FOLLOWS", "ERROR")
	for _, i := range all {
		mode := cell{i.Mode, good}
		if i.Mode == "" {
			mode = cell{"OFF", ill}
		}
		follows := cell{strconv.FormatUint(i.Follows, 10), plain}
		if i.Adopted {
			follows = cell{"the process before", plain}
		}
		t.row(i.Name, mode, i.Program, i.Address, follows, i.Error)
	}
	return t
}

// pinText says what outlives the process.
func pinText(l api.L4) string {
	var loose []string
	for _, i := range l.Interfaces {
		if i.Mode != "" && !i.Pinned {
			loose = append(loose, i.Name)
		}
	}
	switch {
	case l.Unpinned != "":
		return "Not pinned, forwarding ends with this process: " + l.Unpinned
	case len(loose) > 0:
		return "Not pinned, forwarding ends with this process, on " + strings.Join(loose, ", ") + "; its log says why"
	}
	return "Pinned in " + l.Pins + ": forwarding outlives this process"
}

// strayTexts says where connections are looked for that nobody here has.
func strayTexts(l api.L4) (texts []string) {
	if l.Strays.Refused != "" {
		texts = append(texts, "Other geos do not look here for connections: "+l.Strays.Refused)
	}
	for _, s := range l.Strays.VIPs {
		until := ""
		if s.Until != nil {
			until = ", for " + age(time.Until(*s.Until))
		}
		texts = append(texts, fmt.Sprintf("Connections to %s that nobody here has are looked for at %s/%s: %s%s", s.VIP, s.Geo, s.Node, s.Reason, until))
	}
	for _, i := range l.Interfaces {
		if i.Flooded {
			texts = append(texts, i.Name+": a flood of packets of no connection; for some seconds none is looked for elsewhere")
		}
	}
	if len(texts) > 0 {
		texts = append(texts, "")
	}
	return texts
}

func wayTable(all []api.L4Interface) *table {
	t := newTable("NODE", "FROM", "BY", "WHERE")
	for _, i := range all {
		for _, w := range i.Ways {
			by := cell{w.Mode, plain}
			if w.Mode == "" {
				by = cell{"NONE", ill}
			}
			t.row(w.Node, i.Name, by, w.Text)
		}
	}
	return t
}

func countTable(l api.L4) *table {
	t := newTable("COUNTED", "PACKETS", "BYTES")
	for _, c := range l.Counters {
		name := c.Name
		switch {
		case c.Kind == "vip":
			name = "for VIP " + c.Name
		case c.Kind == "server" && c.Name == l.Node:
			name = "kept here"
		case c.Kind == "server":
			name = "to " + c.Name
		}
		t.row(name, count(float64(c.Packets)), size(c.Bytes))
	}
	return t
}

func ringTable(r *api.L4Ring) *table {
	t := newTable("MEMBER", "BUCKETS", "SHARE", "FOLLOWS", "")
	for _, m := range r.Members {
		note := ""
		switch {
		case m.Gone:
			note = "dead"
		case m.Other && r.Phase == "prepare":
			note = "to come"
		case m.Other:
			note = "leaving: its connections are still found"
		case m.Follows < r.Generation:
			note = "does not follow yet"
		}
		t.row(m.Node, m.Buckets, fmt.Sprintf("%.1f%%", 100*float64(m.Buckets)/l4Buckets), m.Follows, note)
	}
	return t
}

func (a *app) l4TraceCommand() *cobra.Command {
	return a.command(&cobra.Command{
		Use:     "trace SOURCE:PORT VIP:PORT tcp|udp",
		Short:   "where the packets of a flow go that a router hands to this node",
		Example: "  edgectl l4 trace 198.18.0.9:51234 203.0.113.10:443 tcp",
		Args:    exactly("the client's ADDRESS:PORT", "the VIP's ADDRESS:PORT", "tcp or udp"),
	}, func(ctx context.Context, args []string) error {
		t, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.L4Trace, error) {
			return c.L4Trace(ctx, args[0], args[1], args[2])
		})
		if err != nil {
			return err
		}
		return a.print(view{data: t, names: []string{t.Owner}, table: func(p *page) { p.line("%s", traceText(t, args[1])) }}, a.format)
	})
}

// traceText is a trace in one line.
func traceText(t api.L4Trace, dst string) string {
	switch {
	case !t.VIP:
		return dst + " is no VIP of this geo: its packets are left alone"
	case t.Owner == "":
		return fmt.Sprintf("bucket %d; no ring is in force: packets stay where the routers bring them", t.Bucket)
	}
	text := fmt.Sprintf("bucket %d -> %s", t.Bucket, t.Owner)
	switch {
	case t.Way == nil:
		text += " (this node)"
	case t.Way.Mode == "":
		text += ", but no way is known: " + t.Way.Text
	default:
		text += fmt.Sprintf(", by %s to %s", t.Way.Mode, t.Way.Text)
	}
	if t.Other != "" {
		text += "; the bucket changes hands: " + t.Other + " is asked for connections that are not there"
	}
	if t.Abroad != nil {
		text += "; a connection that nobody here has is looked for at " + t.Abroad.Node
		if t.Abroad.Mode == "" {
			text += ", but no way is known: " + t.Abroad.Text
		}
	}
	return text
}
