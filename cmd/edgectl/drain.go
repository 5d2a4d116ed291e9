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

func (a *app) drainCommand() *cobra.Command {
	return a.drainLike("drain", "move a geo's traffic away",
		"Drain makes a geo's VIPs less attractive, then withdraws them; requests in progress end in peace.\n"+
			"Ctrl-C leaves the drain running. Undo: edgectl undrain geo NAME",
		a.drainEffect, (*client.Client).Drain, drained)
}

func (a *app) undrainCommand() *cobra.Command {
	c := a.drainLike("undrain", "take a geo's traffic back",
		"Undrain takes the order of drain back: the geo announces again as soon as it is healthy.",
		func(_ api.Geos, g *api.Geo) string { return fmt.Sprintf("This brings traffic back to %s.", g.Name) },
		(*client.Client).Undrain, undrained)
	c.Aliases = []string{"ready"}
	return c
}

// drainLike returns drain or undrain: order is sent when the effect was shown
// and agreed to; done says from the geo's records when it is over.
func (a *app) drainLike(verb, short, long string, effect func(api.Geos, *api.Geo) string,
	order func(*client.Client, context.Context, api.DrainRequest) (api.DrainReply, error), done func(*api.Geo) (bool, string),
) *cobra.Command {
	var f drainFlags
	c := a.command(&cobra.Command{
		Use: "geo NAME", Short: short, Long: long,
		Args:              exactly("a geo's name"),
		ValidArgsFunction: a.complete(a.geoNames),
	}, func(ctx context.Context, args []string) error {
		g, geo, err := a.findGeo(ctx, args[0])
		if err != nil {
			return err
		}
		if err := a.agree(f.yes, effect(g, geo)); err != nil {
			return err
		}
		reply, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.DrainReply, error) {
			return order(c, ctx, api.DrainRequest{Kind: "geo", Name: args[0], Reason: f.reason})
		})
		if err != nil {
			return err
		}
		if f.wait {
			if err := a.waitGeo(ctx, args[0], f.deadline, done); err != nil {
				return err
			}
		}
		return a.print(view{data: reply, names: []string{args[0]}, table: func(p *page) { p.line("%s", reply.Text) }}, a.format)
	})
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask; needed where nobody can answer")
	c.Flags().StringVar(&f.reason, "reason", "", "why, for the others and for the events")
	c.Flags().BoolVar(&f.wait, "wait", false, "wait until it is done")
	c.Flags().DurationVar(&f.deadline, "deadline", 10*time.Minute, "how long to wait at most; exit code 6 after it")
	return a.group(verb, short, c)
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
func (a *app) drainEffect(g api.Geos, geo *api.Geo) string {
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

// waitGeo waits until done says so of the geo.
func (a *app) waitGeo(ctx context.Context, name string, deadline time.Duration, done func(*api.Geo) (bool, string)) error {
	said := ""
	return a.poll(ctx, deadline, func(ctx context.Context) (bool, string, error) {
		_, geo, err := a.findGeo(ctx, name)
		if err != nil {
			return false, "", err
		}
		ok, state := done(geo)
		if state != said {
			a.hint("  %s", state)
			said = state
		}
		return ok, state, nil
	})
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
	for _, n := range g.Nodes {
		if n.Status != "joined" {
			continue
		}
		for vip, state := range n.VIPs {
			if slices.Contains(states, state) {
				out = append(out, n.Name+"/"+vip+" "+state)
			}
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
