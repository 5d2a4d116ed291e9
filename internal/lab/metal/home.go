package metal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"anyedge/internal/api"
	"anyedge/internal/lab"
)

// startWait bounds the time until a new lab is whole.
const startWait = 60 * time.Second

// awaitHome waits until a new lab is whole: every edge has its sessions, every
// router its routes, and every region is served by its nearest geo.
func (l *Lab) awaitHome(ctx context.Context) error {
	late, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	for {
		lacks := l.lacks(late)
		if lacks == "" {
			return nil
		}
		if why := l.dead(); why != "" {
			return errors.New(why)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-late.Done():
			return fmt.Errorf("the lab is not whole after %s: %s", startWait, lacks)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lacks says what is not as it should be; "" when all is. Clients come last:
// what is still on its way would move them.
func (l *Lab) lacks(ctx context.Context) string {
	for _, e := range l.edges {
		if why := e.lacks(ctx); why != "" {
			return e.Name + ": " + why
		}
	}
	if why := l.lacksRoutes(); why != "" {
		return why
	}
	for _, r := range Regions() {
		for _, vip := range VIPs() {
			c := l.Client(r.Name, vip, lab.H1)
			answer := c.Get(ctx, "/")
			c.Close()
			switch {
			case answer.Err != nil:
				return fmt.Sprintf("clients in %s, %s: %v", r.Name, vip, answer.Err)
			case answer.Entered() != r.Nearest[0]:
				return fmt.Sprintf("clients in %s enter %s at %s, not %s", r.Name, vip, answer.Entered(), r.Nearest[0])
			}
		}
	}
	return ""
}

// lacksRoutes looks at the routers: each sends to all edges of its geo, and the
// transit has heard of every geo.
func (l *Lab) lacksRoutes() string {
	for _, g := range Geos() {
		for _, vip := range VIPs() {
			n, err := l.NextHops(g.Name+"-router", vip)
			switch {
			case err != nil:
				return err.Error()
			case n != g.Edges:
				return fmt.Sprintf("router %s has %d of %d ways to %s", g.Name, n, g.Edges, vip)
			}
		}
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		text, err := l.Routes("transit", family)
		if err != nil {
			return "router transit: " + err.Error()
		}
		for _, g := range Geos() {
			if !strings.Contains(text, "["+g.Name+" ") { // BIRD names a route by its session
				return fmt.Sprintf("router transit has no %s route of %s", family, g.Name)
			}
		}
	}
	return ""
}

// lacks says what of the edge is not up yet.
func (e *Edge) lacks(ctx context.Context) string {
	s, err := e.Ask().Status(ctx)
	if err != nil {
		return err.Error()
	}
	for _, p := range s.Parts {
		if (p.Name == "BGP" || p.Name == "fabric") && p.Health != api.OK {
			return p.Name + " " + p.Text
		}
	}
	if e.lab.opts.L4 == "" {
		return ""
	}
	l4, err := e.Ask().L4(ctx)
	if err != nil {
		return err.Error()
	}
	if l4.Ring == nil || l4.Ring.Phase != "stable" || len(l4.Ring.Members) != e.geo.Edges {
		return "its geo's ring is not settled"
	}
	return ""
}

// dead says which edge has ended by itself.
func (l *Lab) dead() string {
	for _, e := range l.edges {
		if e.started() && !e.Running() {
			return fmt.Sprintf("%s ended by itself; the end of its log:\n%s", e.Name, tail(e.Log))
		}
	}
	return ""
}
