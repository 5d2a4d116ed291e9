package main

import (
	"context"
	"fmt"

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
	ports := newTable("INTERFACE", "MODE", "ADDRESS", "FOLLOWS", "ERROR")
	ways := newTable("NODE", "FROM", "BY", "WHERE")
	for _, i := range l.Interfaces {
		v.names = append(v.names, i.Name)
		mode := cell{i.Mode, good}
		if i.Mode == "" {
			mode = cell{"OFF", ill}
		}
		ports.row(i.Name, mode, i.Address, i.Follows, i.Error)
		for _, w := range i.Ways {
			by := cell{w.Mode, plain}
			if w.Mode == "" {
				by = cell{"NONE", ill}
			}
			ways.row(w.Node, i.Name, by, w.Text)
		}
	}
	counts := newTable("COUNTED", "PACKETS", "BYTES")
	for _, c := range l.Counters {
		name := c.Name
		if c.Kind == "server" {
			name = "to " + c.Name
			if c.Name == l.Node {
				name = "kept here"
			}
		}
		counts.row(name, count(float64(c.Packets)), size(c.Bytes))
	}
	v.table = func(p *page) {
		if !l.On {
			p.line("This edged has no packet path (l4 in its configuration): packets stay where the routers bring them.")
			return
		}
		p.table(ports)
		if r := l.Ring; r != nil {
			p.line("")
			p.line("Ring generation %d, %s: %s", r.Generation, r.Phase, r.Reason)
			p.table(ringTable(r))
		}
		p.line("")
		p.table(ways)
		p.line("")
		p.table(counts)
	}
	return v
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
	if t.Way == nil {
		text += " (this node)"
	} else if t.Way.Mode == "" {
		text += ", but no way is known: " + t.Way.Text
	} else {
		text += fmt.Sprintf(", by %s to %s", t.Way.Mode, t.Way.Text)
	}
	if t.Other != "" {
		text += "; the bucket changes hands: " + t.Other + " is asked for connections that are not there"
	}
	return text
}
