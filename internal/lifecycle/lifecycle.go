// Package lifecycle starts components in order and stops them in reverse, so
// that what depends on another is stopped first: routes are withdrawn before
// the listeners behind them close.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// errEnded is the failure of a component that nobody told to end.
var errEnded = errors.New("ended by itself")

// A Component is something that runs until its context ends. Run calls ready
// once, when the components after it may start, and returns when every
// goroutine it started has ended.
type Component interface {
	Run(ctx context.Context, ready func()) error
}

// RunFunc is a function that is a Component.
type RunFunc func(ctx context.Context, ready func()) error

// Run calls f.
func (f RunFunc) Run(ctx context.Context, ready func()) error { return f(ctx, ready) }

// A Group runs components together. The zero Group is empty and ready to use.
type Group struct {
	Log *slog.Logger

	members []*member
}

// member is one component and, while it runs, its end.
type member struct {
	name   string
	run    Component
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

// Add appends a component; it starts after all that were added before it.
func (g *Group) Add(name string, c Component) {
	g.members = append(g.members, &member{name: name, run: c})
}

// Run starts every component, each once the one before it is ready, and waits.
// When ctx ends, or a component fails, or one ends by itself, it stops them all
// in reverse order: each has ended before the one under it is asked to. ready
// is called when all are ready. The first failure is returned.
func (g *Group) Run(ctx context.Context, ready func()) error {
	ended := make(chan struct{}, len(g.members))
	for i, m := range g.members {
		if !g.start(ctx, m, ended) {
			return g.stop(i + 1)
		}
	}
	ready()
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return g.stop(len(g.members))
}

// start runs m and reports whether it became ready.
func (g *Group) start(ctx context.Context, m *member, ended chan struct{}) bool {
	// A component outlives ctx: its turn to stop comes when those above it
	// have ended.
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel, m.done = cancel, make(chan struct{})
	isReady := make(chan struct{})
	go func() {
		defer func() { close(m.done); ended <- struct{}{} }()
		m.err = m.run.Run(own, func() { close(isReady) })
		if m.err == nil && own.Err() == nil {
			m.err = errEnded
		}
	}()
	select {
	case <-isReady:
		if g.Log != nil {
			g.Log.Debug("component ready", "component", m.name)
		}
		return true
	case <-ended: // this one, or one that was ready before
		return false
	case <-ctx.Done():
		return false
	}
}

// stop ends the first n components in reverse order and returns their errors.
func (g *Group) stop(n int) error {
	var errs []error
	for i := n - 1; i >= 0; i-- {
		m := g.members[i]
		m.cancel()
		<-m.done
		if g.Log != nil {
			g.Log.Debug("component stopped", "component", m.name)
		}
		if m.err != nil && !errors.Is(m.err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", m.name, m.err))
		}
	}
	return errors.Join(errs...)
}
