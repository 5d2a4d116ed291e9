package steering

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	tick   = 100 * time.Millisecond
	minGap = 10 * time.Millisecond // however often it is woken
)

// A Controller calls [Decide] ten times a second, and at once when woken, and
// publishes each plan. It decides nothing.
type Controller struct {
	gather func(now time.Time) *View
	apply  func(*Plan)
	log    *slog.Logger

	wake chan struct{} // holds one token when a decision is asked for
	plan atomic.Pointer[Plan]
}

// NewController returns a Controller; nothing runs before Run. gather returns
// what is true at now, or nil when that cannot be said, which skips the
// decision. apply makes a plan so and must not block. Both are called by the
// goroutine in Run only.
func NewController(gather func(now time.Time) *View, apply func(*Plan), log *slog.Logger) *Controller {
	c := &Controller{gather: gather, apply: apply, log: log, wake: make(chan struct{}, 1)}
	c.plan.Store(&Plan{})
	return c
}

// Plan returns the latest plan, an empty one before the first. It is safe
// anywhere.
func (c *Controller) Plan() *Plan { return c.plan.Load() }

// Wake asks for a decision now. It never blocks and is safe anywhere.
func (c *Controller) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run decides until ctx ends. It is ready after the first decision.
func (c *Controller) Run(ctx context.Context, ready func()) error {
	prev := c.decide(nil, time.Now())
	ready()
	last := time.Now()
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
			timer.Reset(max(0, minGap-time.Since(last)))
			continue
		case <-timer.C:
		}
		last = time.Now()
		prev = c.decide(prev, last)
		timer.Reset(max(minGap, tick-time.Since(last)))
	}
}

// decide makes, publishes and applies the plan that follows prev.
func (c *Controller) decide(prev *Plan, now time.Time) *Plan {
	v := c.gather(now)
	if v == nil {
		return prev
	}
	p := Decide(prev, v)
	c.plan.Store(p)
	c.apply(p)
	for _, e := range Events(prev, p) {
		c.log.Info("plan changed", "kind", e.Kind, "target", e.Target, "text", e.Text)
	}
	return p
}
