package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) fabricCommand() *cobra.Command {
	return a.group("fabric", "the private network between geos",
		a.fabricInitCommand(), a.fabricIssueCommand(), a.fabricPeersCommand())
}

func (a *app) fabricPeersCommand() *cobra.Command {
	return a.watched(a.command(&cobra.Command{
		Use:     "peers",
		Aliases: []string{"peer"},
		Short:   "the other nodes, and the paths to them",
	}, func(ctx context.Context, _ []string) error {
		return a.show(ctx, func(ctx context.Context) (view, error) {
			p, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.FabricPeers, error) { return c.FabricPeers(ctx) })
			return a.peersView(p), err
		})
	}))
}

func (a *app) peersView(f api.FabricPeers) view {
	v := view{data: f, rows: anys(f.Peers)}
	t := newTable("PEER", "GEO", "STATE", "VIA", "CONNS", "RTT", "LOSS", "IN", "OUT", "REQUESTS", "SEEN", "SINCE", "VERSION", "LAST ERROR")
	for _, x := range f.Peers {
		v.names = append(v.names, x.Node)
		state := cell{x.State, plain}
		switch x.State {
		case "up":
			state.mood = good
		case "down":
			state = cell{"DOWN", ill}
			v.hints = append(v.hints, fmt.Sprintf("%s (geo %s, %s) is down: see what other geos say of it, edgectl geos", x.Node, x.Geo, x.Address))
		}
		t.row(x.Node, x.Geo, state, x.Via, x.Conns, millis(x.RTTMillis), strconv.FormatFloat(x.Loss*100, 'f', 2, 64)+"%",
			size(x.BytesIn), size(x.BytesOut), count(float64(x.Requests)), ageOf(x.SeenMillis), a.since(x.Since), x.Software, x.LastError)
	}
	v.table = func(p *page) { p.table(t) }
	return v
}
