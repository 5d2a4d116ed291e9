package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// drainFlags are the flags of drain and undrain.
type drainFlags struct {
	yes, wait bool
	reason    string
	deadline  time.Duration
}

// A drainTarget is what is drained: a geo, or one node of it.
type drainTarget struct {
	all  api.Geos
	geo  *api.Geo
	node *api.Node // nil: the whole geo
}

// A drainOrder is drain or undrain.
type drainOrder struct {
	verb, short string
	effect      func(drainTarget) string
	send        func(*client.Client, context.Context, api.DrainRequest) (api.DrainReply, error)
	geoDone     func(*api.Geo) (bool, string)
	nodeDone    func(*api.Node) (bool, string)
}

func (a *app) drainCommand() *cobra.Command {
	o := drainOrder{"drain", "move traffic away from a geo or a node", drainEffect, (*client.Client).Drain, drained, nodeDrained}
	return a.group(o.verb, o.short,
		a.drainLike(o, "geo", "move a geo's traffic away",
			"Drain makes a geo's VIPs less attractive, then withdraws them; requests in progress end in peace.\n"+
				"Ctrl-C leaves the drain running. Undo: edgectl undrain geo NAME"),
		a.drainLike(o, "node", "move a node's traffic to the others of its geo",
			"The node's VIPs are made less attractive, then withdrawn; with l4 it leaves the ring of its geo, and its\n"+
				"connections live for l4.drain. Ctrl-C leaves the drain running. Undo: edgectl undrain node NAME"))
}

func (a *app) undrainCommand() *cobra.Command {
	back := func(t drainTarget) string { return fmt.Sprintf("This brings traffic back to %s.", t.name()) }
	o := drainOrder{"undrain", "take traffic back", back, (*client.Client).Undrain, undrained, nodeUndrained}
	group := a.group(o.verb, o.short,
		a.drainLike(o, "geo", "take a geo's traffic back",
			"Undrain takes the order of drain back: the geo announces again as soon as it is healthy."),
		a.drainLike(o, "node", "take a node's traffic back",
			"Undrain takes the order of drain back: the node announces again as soon as it is healthy."))
	group.Aliases = []string{"ready"}
	return group
}

func (t drainTarget) name() string {
	if t.node != nil {
		return t.node.Name
	}
	return t.geo.Name
}

// drainLike returns drain or undrain of one kind: the order is sent when its
// effect was shown and agreed to.
func (a *app) drainLike(o drainOrder, kind, short, long string) *cobra.Command {
	var f drainFlags
	names := a.geoNames
	if kind == "node" {
		names = a.nodeNames
	}
	c := a.command(&cobra.Command{
		Use: kind + " NAME", Short: short, Long: long,
		Args:              exactly("a " + kind + "'s name"),
		ValidArgsFunction: a.complete(names),
	}, func(ctx context.Context, args []string) error {
		t, err := a.findTarget(ctx, kind, args[0])
		if err != nil {
			return err
		}
		if err := a.agree(f.yes, o.effect(t)); err != nil {
			return err
		}
		reply, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.DrainReply, error) {
			return o.send(c, ctx, api.DrainRequest{Kind: kind, Name: args[0], Reason: f.reason})
		})
		if err != nil {
			return err
		}
		if f.wait {
			if err := a.waitDrain(ctx, o, kind, args[0], f.deadline); err != nil {
				return err
			}
		}
		return a.print(view{data: reply, names: []string{args[0]}, table: func(p *page) { p.line("%s", reply.Text) }}, a.format)
	})
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask; needed where nobody can answer")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the others and for the events")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait until it is done")
	c.Flags().DurationVar(&f.deadline, "deadline", 10*time.Minute, "how long to wait at most; exit code 6 after it")
	return c
}

// findTarget returns the geo or the node of that name.
func (a *app) findTarget(ctx context.Context, kind, name string) (drainTarget, error) {
	if kind == "geo" {
		all, geo, err := a.findGeo(ctx, name)
		return drainTarget{all: all, geo: geo}, err
	}
	all, err := a.geos(ctx)
	if err != nil {
		return drainTarget{}, err
	}
	var names []string
	for i := range all.Geos {
		g := &all.Geos[i]
		for j := range g.Nodes {
			if g.Nodes[j].Name == name {
				return drainTarget{all, g, &g.Nodes[j]}, nil
			}
			names = append(names, g.Nodes[j].Name)
		}
	}
	return drainTarget{}, unknown("node", name, names)
}

// findGeo returns the geos and the one of that name.
func (a *app) findGeo(ctx context.Context, name string) (api.Geos, *api.Geo, error) {
	g, err := a.geos(ctx)
	if err != nil {
		return g, nil, err
	}
	var names []string
	for i := range g.Geos {
		if g.Geos[i].Name == name {
			return g, &g.Geos[i], nil
		}
		names = append(names, g.Geos[i].Name)
	}
	return g, nil, unknown("geo", name, names)
}

// drainEffect says what a drain would do.
func drainEffect(t drainTarget) string {
	g, geo := t.all, t.geo
	if t.node != nil {
		var left []string
		for _, n := range geo.Nodes {
			if n.Name != t.node.Name && n.Status == "joined" && !n.Drained {
				left = append(left, n.Name)
			}
		}
		if len(left) > 0 {
			return fmt.Sprintf("This moves the traffic of %s to the others of %s: %s.", t.node.Name, geo.Name, strings.Join(left, ", "))
		}
		return fmt.Sprintf("This drains the last node of %s. %s", geo.Name, drainEffect(drainTarget{all: g, geo: geo}))
	}
	text := fmt.Sprintf("This moves the traffic of %s away", geo.Name)
	if geo.Offered != nil {
		text = fmt.Sprintf("This moves %s requests/s away from %s", count(*geo.Offered), geo.Name)
	}
	var others []string
	for i := range g.Geos {
		o := &g.Geos[i]
		if o.Name == geo.Name || o.State == "unseen" || o.State == "draining" {
			continue
		}
		if o.Utilisation == nil {
			others = append(others, o.Name)
			continue
		}
		others = append(others, fmt.Sprintf("%s (load %s)", o.Name, percent(o.Utilisation)))
	}
	if len(others) == 0 {
		return text + ". NO OTHER GEO is seen to take it."
	}
	return text + ". Left: " + strings.Join(others, ", ") + "."
}

// agree shows the effect and asks whether to go on.
func (a *app) agree(yes bool, effect string) error {
	if yes {
		a.hint("%s", effect)
		return nil
	}
	if !a.answers {
		return usagef("%s Nobody can be asked here: say --yes", effect)
	}
	_, _ = fmt.Fprintf(a.stderr, "%s\nGo on? [y/N] ", effect) // an unseen question is not answered with yes
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// waitDrain waits until the order is carried out.
func (a *app) waitDrain(ctx context.Context, o drainOrder, kind, name string, deadline time.Duration) error {
	said := ""
	return a.poll(ctx, deadline, func(ctx context.Context) (bool, string, error) {
		t, err := a.findTarget(ctx, kind, name)
		if err != nil {
			return false, "", err
		}
		var ok bool
		var state string
		if t.node != nil {
			ok, state = o.nodeDone(t.node)
		} else {
			ok, state = o.geoDone(t.geo)
		}
		if state != said {
			a.hint("  %s", state)
			said = state
		}
		return ok, state, nil
	})
}

// nodeDrained reports whether nothing of the node is announced any more.
func nodeDrained(n *api.Node) (bool, string) {
	left := vipsOf(n, "announced", "draining")
	return n.Drained && len(left) == 0, fmt.Sprintf("%s: still announced: %s", n.Name, list(left))
}

// nodeUndrained reports whether everything of the node is announced again.
func nodeUndrained(n *api.Node) (bool, string) {
	left := vipsOf(n, "draining", "withdrawn")
	return !n.Drained && len(left) == 0, fmt.Sprintf("%s: not yet announced: %s", n.Name, list(left))
}

// drained reports whether nothing of the geo is announced any more.
func drained(g *api.Geo) (bool, string) {
	left := vipsIn(g, "announced", "draining")
	return g.State == "draining" && len(left) == 0, fmt.Sprintf("%s is %s; still announced: %s", g.Name, g.State, list(left))
}

// undrained reports whether everything of the geo is announced again.
func undrained(g *api.Geo) (bool, string) {
	left := vipsIn(g, "draining", "withdrawn")
	return g.State != "draining" && len(left) == 0, fmt.Sprintf("%s is %s; not yet announced: %s", g.Name, g.State, list(left))
}

// vipsIn returns the VIPs of the geo's nodes that are in one of the states.
func vipsIn(g *api.Geo, states ...string) []string {
	var out []string
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Status == "joined" {
			out = append(out, vipsOf(n, states...)...)
		}
	}
	slices.Sort(out)
	return out
}

// vipsOf returns the VIPs of the node that are in one of the states.
func vipsOf(n *api.Node, states ...string) []string {
	var out []string
	for vip, state := range n.VIPs {
		if slices.Contains(states, state) {
			out = append(out, n.Name+"/"+vip+" "+state)
		}
	}
	slices.Sort(out)
	return out
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
