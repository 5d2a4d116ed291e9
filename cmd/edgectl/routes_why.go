package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anyedge/internal/api"
)

func (a *app) routesWhyCommand() *cobra.Command {
	return a.command(&cobra.Command{
		Use:               "why VIP",
		Short:             "how a VIP came to its state, and what comes next",
		Args:              exactly("a VIP"),
		ValidArgsFunction: a.complete(a.vipNames),
	}, func(ctx context.Context, args []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			v, err := a.vip(ctx, args[0])
			if err != nil {
				return view{}, err
			}
			return a.whyView(v), nil
		})
	})
}

func (a *app) routesShowCommand() *cobra.Command {
	var neighbor string
	c := a.command(&cobra.Command{
		Use:               "show VIP",
		Short:             "a VIP's attributes as each neighbor was sent them",
		Args:              exactly("a VIP"),
		ValidArgsFunction: a.complete(a.vipNames),
	}, func(ctx context.Context, args []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			v, err := a.vip(ctx, args[0])
			if err != nil {
				return view{}, err
			}
			return sentView(v, neighbor), nil
		})
	})
	c.Flags().StringVar(&neighbor, "neighbor", "", "only this one")
	return c
}

// vip returns the VIP of that name.
func (a *app) vip(ctx context.Context, name string) (*api.VIP, error) {
	r, err := a.routes(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range r.VIPs {
		if r.VIPs[i].Name == name {
			return &r.VIPs[i], nil
		}
		names = append(names, r.VIPs[i].Name)
	}
	return nil, unknown("VIP", name, names)
}

// unknown is the usage error for a name that is none.
func unknown(kind, name string, names []string) error {
	if len(names) == 0 {
		return usagef("there is no %s %q: none is configured", kind, name)
	}
	return usagef("there is no %s %q; there are: %s", kind, name, strings.Join(names, ", "))
}

func (a *app) whyView(v *api.VIP) view {
	return view{
		data: v, rows: anys(v.History), names: []string{v.State},
		table: func(p *page) {
			t := newTable("AT", "WHY", "STATE")
			for _, h := range v.History {
				reason := h.Cause.Reason
				if h.Cause.Kind == "operator" {
					reason = strings.TrimSpace(fmt.Sprintf("operator %s %q", h.Cause.Who, h.Cause.Reason))
				}
				t.row(a.clock(h.At), reason, h.To)
			}
			p.table(t)
			next := "nothing is due"
			if v.Next != nil {
				next = fmt.Sprintf("%s in %s, at %s", v.Next.State, age(v.Next.At.Sub(a.now())), a.clock(v.Next.At))
			}
			if v.Blocked != "" {
				next += "; held by " + v.Blocked
			}
			p.line("now: %s, wanted: %s; next: %s", v.State, v.Want, next)
			for _, s := range v.Gate {
				verdict := "ok"
				if !s.OK {
					verdict = "FALSE"
				}
				kind := "soft"
				if s.Hard {
					kind = "hard"
				}
				p.line("%s", strings.TrimSpace(fmt.Sprintf("gate: %s %s (%s, %s old) %s", s.Signal, verdict, kind, ageOf(&s.AgeMillis), s.Text)))
			}
		},
	}
}

// sentView shows what was sent of each prefix.
func sentView(v *api.VIP, neighbor string) view {
	out := view{data: v.Prefixes, rows: anys(v.Prefixes)}
	t := newTable("PREFIX", "NEIGHBOR", "ADVERTISED", "NEXT HOP", "ON WIRE")
	for _, p := range v.Prefixes {
		out.names = append(out.names, p.Prefix)
		for _, s := range p.Neighbors {
			if neighbor != "" && s.Neighbor != neighbor {
				continue
			}
			advertised, wire := cell{"no", doubtful}, ""
			if s.Advertised {
				advertised, wire = cell{"yes", good}, attributes(s)
			}
			t.row(p.Prefix, s.Neighbor, advertised, s.NextHop, wire)
		}
	}
	out.table = func(p *page) { p.table(t) }
	return out
}
