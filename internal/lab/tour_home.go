package lab

import (
	"context"
	"fmt"
	"time"

	"anyedge/internal/api"
)

// vipState waits until a geo says that its VIP is in a state, and tells why it
// is.
func (t *tour) vipState(ctx context.Context, geo, state string) (time.Duration, error) {
	took, err := t.until(ctx, fmt.Sprintf("%s to be %s", geo, state), func() (bool, string) {
		v, err := t.vip(ctx, geo)
		if err != nil {
			return false, err.Error()
		}
		return v.State == state, fmt.Sprintf("%s, wants %s: %s", v.State, v.Want, v.Cause.Reason)
	})
	if err != nil {
		return took, err
	}
	v, err := t.vip(ctx, geo)
	if err == nil {
		t.saw("edgectl routes at %s: %s after %s, %s: %s", geo, v.State, short(took), v.Cause.Kind, v.Cause.Reason)
	}
	return took, err
}

// entersAt waits until a new connection of a region enters at a geo that ok
// accepts, and returns that geo.
func (t *tour) entersAt(ctx context.Context, region string, ok func(geo string) bool) (geo string, err error) {
	_, err = t.until(ctx, "new connections of "+region+" to enter elsewhere", func() (bool, string) {
		r := t.fresh(ctx, region, H1)
		if r.Err != nil {
			return false, r.Err.Error()
		}
		geo = r.Entered()
		return ok(geo), "they enter at " + geo
	})
	return geo, err
}

// home waits until every region's new connections enter at its nearest geo and
// are served there.
func (t *tour) home(ctx context.Context) error {
	for _, r := range t.demo.regions {
		near := r.nearest[0]
		_, err := t.until(ctx, r.name+" to be served by "+near, func() (bool, string) {
			res := t.fresh(ctx, r.name, H2)
			if res.Err != nil {
				return false, res.Err.Error()
			}
			return res.Entered() == near && res.Served() == near, fmt.Sprintf("it enters at %s and is served by %s", res.Entered(), res.Served())
		})
		if err != nil {
			return err
		}
	}
	return t.settled(ctx)
}

// renew lets the steady clients come back on new connections, so that the next
// step begins with everybody at home.
func (t *tour) renew() {
	for _, l := range t.loads {
		l.Renew()
	}
}

// settled waits until every geo knows of every other that it can serve.
func (t *tour) settled(ctx context.Context) error {
	_, err := t.until(ctx, "all geos to know each other", func() (bool, string) {
		for name, admin := range t.admin {
			g, err := admin.Geos(ctx)
			if err != nil {
				return false, err.Error()
			}
			for _, other := range g.Geos {
				if other.State != "up" {
					return false, fmt.Sprintf("%s says %s is %s", name, other.Name, other.State)
				}
				if !hasBackends(other) {
					return false, fmt.Sprintf("%s knows no two backends in %s", name, other.Name)
				}
			}
		}
		return true, ""
	})
	return err
}

// hasBackends reports whether both of the geo's backends are known to work.
func hasBackends(g api.Geo) bool {
	for _, n := range g.Nodes {
		if n.Services["app"].Healthy == 2 {
			return true
		}
	}
	return false
}

// tidy repairs everything after a step that failed, so that the next one can
// still tell something.
func (t *tour) tidy(ctx context.Context) {
	d := t.demo
	for _, b := range d.backends {
		if !b.Alive() {
			_ = b.Up(ctx)
		}
	}
	for _, l := range linkPlans() {
		_ = d.links.SetCut(l.a, l.b, false)
	}
	for _, p := range d.procs {
		if p.pid() == 0 {
			_ = p.up(ctx)
		}
	}
	for geo, admin := range t.admin {
		_, _ = admin.Undrain(ctx, api.DrainRequest{Kind: "geo", Name: geo})
	}
	defer t.renew()
	if err := t.home(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintf(t.out, "    the world could not be tidied up: %v\n", err)
	}
}

// short rounds a duration for people.
func short(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(10 * time.Millisecond)
}
