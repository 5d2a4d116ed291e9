package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) geosCommand() *cobra.Command {
	return a.watched(a.command(&cobra.Command{
		Use:     "geos",
		Aliases: []string{"geo"},
		Short:   "all geos: state, load, what is shed to whom",
		Long:    "Geos shows what this node knows of every geo. Exit code 1 means that some geo is unseen.",
	}, func(ctx context.Context, _ []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			g, err := a.geos(ctx)
			return geosView(g), err
		})
	}))
}

func (a *app) geos(ctx context.Context) (api.Geos, error) {
	return ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Geos, error) { return c.Geos(ctx) })
}

func geosView(g api.Geos) view {
	v := view{data: g, rows: anys(g.Geos)}
	for i := range g.Geos {
		v.names = append(v.names, g.Geos[i].Name)
		if g.Geos[i].State == "unseen" {
			v.bad = true
			v.hints = append(v.hints, unseenHint(g, &g.Geos[i]))
		}
		for _, n := range g.Geos[i].Nodes {
			if n.Drained {
				v.hints = append(v.hints, fmt.Sprintf("%s: node %s is drained. Undo: edgectl undrain node %s", g.Geos[i].Name, n.Name, n.Name))
			}
		}
	}
	v.table = func(p *page) {
		t := newTable("GEO", "CITY", "STATE", "LOAD", "REQ/S", "SHED OUT", "SHED IN", "NODES", "VIPS", "RTT", "AGE")
		for i := range g.Geos {
			geoRow(t, &g.Geos[i])
		}
		p.table(t)
	}
	return v
}

func geoRow(t *table, g *api.Geo) {
	state := cell{g.State, map[string]mood{"up": good, "shedding": doubtful, "draining": doubtful}[g.State]}
	doubt := ""
	if g.State == "unseen" {
		state, doubt = cell{"UNSEEN", ill}, "?"
	}
	load, rate := percent(g.Utilisation), countOf(g.Offered)
	if g.Utilisation != nil {
		load += doubt
	}
	if g.Offered != nil {
		rate += doubt
	}
	out := some(g.ShedOut)
	if out != none && len(g.ShedTo) > 0 {
		out += fmt.Sprintf(" (%s)", strings.Join(g.ShedTo, ","))
	}
	heard := ageOf(g.AgeMillis)
	if g.Self {
		heard = "self"
	}
	joined, vips, announced := geoTotals(g)
	t.row(g.Name, g.City, state, load, rate, out, some(g.ShedIn), fmt.Sprintf("%d/%d", joined, len(g.Nodes)),
		fmt.Sprintf("%d/%d%s", announced, vips, doubt), millis(g.RTTMillis), heard)
}

// geoTotals counts the nodes of g that are there, their VIPs, and those that
// are announced.
func geoTotals(g *api.Geo) (joined, vips, announced int) {
	for _, n := range g.Nodes {
		if n.Status != "joined" {
			continue
		}
		joined++
		for _, state := range n.VIPs {
			vips++
			if state == "announced" {
				announced++
			}
		}
	}
	return joined, vips, announced
}

// unseenHint says how long a geo has been silent, and what that means.
func unseenHint(g api.Geos, unseen *api.Geo) string {
	if unseen.AgeMillis == nil {
		return fmt.Sprintf("%s: never heard from by %s", unseen.Name, g.Geo)
	}
	return fmt.Sprintf("%s: not heard from for %s by %s. It is down, or the path is cut: edgectl fabric peers", unseen.Name, ageOf(unseen.AgeMillis), g.Geo)
}
