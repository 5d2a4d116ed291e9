package metal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"anyedge/internal/lab"
	"anyedge/internal/lab/netns"
)

// A fault is something broken and how to mend it; mending what is whole does
// nothing.
type fault struct {
	what string // of one thing there is one fault
	text string
	mend func(context.Context) error
}

// Faults lists what is broken now.
func (l *Lab) Faults() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []string{}
	for _, f := range l.faults {
		out = append(out, f.text)
	}
	return out
}

// note remembers that something is broken: in the place of what was broken
// about the same thing before, if there was.
func (l *Lab) note(what, text string, mend func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := fault{what, text, mend}
	if i := slices.IndexFunc(l.faults, func(f fault) bool { return f.what == what }); i >= 0 {
		l.faults[i] = f
		return
	}
	l.faults = append(l.faults, f)
}

// Heal mends everything that Break broke, the last first. What cannot be mended
// stays on the list.
func (l *Lab) Heal(ctx context.Context) error {
	l.mu.Lock()
	faults := l.faults
	l.faults = nil
	l.mu.Unlock()
	var left []fault
	var errs []error
	for _, f := range slices.Backward(faults) {
		if err := f.mend(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.text, err))
			left = append(left, f)
		}
	}
	slices.Reverse(left)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(left, l.faults...)
	return errors.Join(errs...)
}

// A pair is two geos, as indexes; the nearer to the first comes first.
type pair struct{ near, far int }

// BreakLink loses a share (above 0, at most 1) of what two geos send each other.
func (l *Lab) BreakLink(a, b string, share float64) error {
	p := pair{min(l.geoIndex(a), l.geoIndex(b)), max(l.geoIndex(a), l.geoIndex(b))}
	if p.near < 0 || p.near == p.far {
		return fmt.Errorf("link %s-%s: there are links between %s", a, b, strings.Join(geoNames(), ", "))
	}
	l.lose(p, share)
	name := "link " + geoNames()[p.near] + "-" + geoNames()[p.far]
	l.note(name, fmt.Sprintf("%s loses %.3g%%", name, 100*share), func(context.Context) error { l.lose(p, 0); return nil })
	return nil
}

// lose sets the share that gets lost between two geos. A path between two geos
// has one cable that no path to a nearer geo has: the farther one's.
func (l *Lab) lose(p pair, share float64) {
	geos := Geos()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.losses == nil {
		l.losses = map[pair]float64{}
	}
	l.losses[p] = share
	var losses []netns.Loss
	for q, share := range l.losses {
		if q.far == p.far && share > 0 {
			losses = append(losses, netns.Loss{A: geos[q.near].nets(), B: geos[q.far].nets(), Share: share})
		}
	}
	l.links[geos[p.far].Name].Lose(losses...)
}

func (l *Lab) geoIndex(name string) int {
	return slices.IndexFunc(Geos(), func(g Geo) bool { return g.Name == name })
}

func geoNames() []string {
	var names []string
	for _, g := range Geos() {
		names = append(names, g.Name)
	}
	return names
}

// BreakRouter kills a geo's router.
func (l *Lab) BreakRouter(geo string) error {
	r := l.routers[geo]
	if r == nil {
		return fmt.Errorf("router %s: there are %s and transit", geo, strings.Join(geoNames(), ", "))
	}
	r.stop()
	l.note("router "+geo, "router "+geo+" is dead", func(context.Context) error { return r.start() })
	return nil
}

func (l *Lab) findEdge(name string) (*Edge, error) {
	if e := l.Edge(name); e != nil {
		return e, nil
	}
	var names []string
	for _, e := range l.edges {
		names = append(names, e.Name)
	}
	return nil, fmt.Errorf("there is no edge %q; there are %s", name, strings.Join(names, ", "))
}

// KillProcess kills an edge's edged with SIGKILL.
func (l *Lab) KillProcess(name string) error {
	e, err := l.findEdge(name)
	if err != nil {
		return err
	}
	e.Kill()
	l.note("process "+name, "process "+name+" is dead", func(context.Context) error {
		if e.Running() {
			return nil
		}
		return e.Start()
	})
	return nil
}

// StopProcess freezes an edge's edged (SIGSTOP).
func (l *Lab) StopProcess(name string) error {
	e, err := l.findEdge(name)
	if err != nil {
		return err
	}
	if !e.Running() {
		return fmt.Errorf("process %s is dead", name)
	}
	e.Freeze()
	l.note("process "+name, "process "+name+" hangs", func(context.Context) error { e.Thaw(); return nil })
	return nil
}

// port is the switch port of an edge.
func (e *Edge) port() string { return "p-edge" + e.Name[len(e.Name)-1:] }

// PullCable takes an edge's cable out of its switch: the router's own link stays
// up, so nobody tells it.
func (l *Lab) PullCable(name string) error {
	e, err := l.findEdge(name)
	if err != nil {
		return err
	}
	sw := l.spaces[e.Geo+"-switch"]
	if err := sw.Down(e.port()); err != nil {
		return err
	}
	l.note("cable "+name, "the cable of "+name+" is pulled", func(context.Context) error {
		err := sw.Up(e.port())
		// A cable that was out takes the default routes with it.
		return errors.Join(err, l.spaces[name].Default(e.geo.addr4(1).String(), e.geo.addr6(1).String()))
	})
	return nil
}

// KillNode lets a machine die: its cable is dead and its process is gone.
func (l *Lab) KillNode(name string) error {
	if err := l.PullCable(name); err != nil {
		return err
	}
	return l.KillProcess(name)
}

// BreakSession disables an edge's BGP session on its router.
func (l *Lab) BreakSession(name string) error {
	e, err := l.findEdge(name)
	if err != nil {
		return err
	}
	r, edge := l.routers[e.Geo], "edge"+e.Name[len(e.Name)-1:]
	if err := r.session(edge, false); err != nil {
		return err
	}
	l.note("session "+name, "session "+name+" is disabled", func(context.Context) error { return r.session(edge, true) })
	return nil
}

// BreakBackend kills one app.
func (l *Lab) BreakBackend(name string) error {
	i := slices.IndexFunc(l.backends, func(b *lab.Backend) bool { return b.Name == name })
	if i < 0 {
		return fmt.Errorf("there is no backend %q; they are named fra-a, fra-b, …", name)
	}
	b := l.backends[i]
	if err := b.Down(); err != nil {
		return err
	}
	l.note("backend "+name, "backend "+name+" is dead", func(ctx context.Context) error {
		if b.Alive() {
			return nil
		}
		return l.backendUp(ctx, b)
	})
	return nil
}
