package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

// followWait is how long one question waits for the next event.
const followWait = 25 * time.Second

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var since string
	c := a.command(&cobra.Command{
		Use:     "events",
		Aliases: []string{"event"},
		Short:   "what happened: who did what, what changed",
	}, func(ctx context.Context, _ []string) error {
		from, err := a.parseSince(since)
		if err != nil {
			return err
		}
		if follow {
			return a.follow(ctx, from)
		}
		return a.show(ctx, func(ctx context.Context) (view, error) {
			e, err := a.events(ctx, 0, from, 0)
			return a.eventsView(e), err
		})
	})
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens from now on")
	c.Flags().StringVar(&since, "since", "", "a duration like 1h, or a time like 2026-11-21T17:40:00Z (default: all that is remembered)")
	return c
}

// parseSince reads a duration before now or a time.
func (a *app) parseSince(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return a.now().Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, usagef("--since %s: want a duration like 1h, or a time like 2026-11-21T17:40:00Z", s)
	}
	return t, nil
}

func (a *app) events(ctx context.Context, after uint64, since time.Time, wait time.Duration) (api.Events, error) {
	return ask(ctx, a, callTimeout+wait, func(ctx context.Context, c *client.Client) (api.Events, error) {
		return c.Events(ctx, after, since, wait)
	})
}

func (a *app) eventsView(e api.Events) view {
	v := view{data: e, rows: anys(e.Events)}
	for _, x := range e.Events {
		v.names = append(v.names, x.What)
	}
	v.table = func(p *page) {
		t := newTable("AT", "NODE", "WHAT", "EVENT")
		t.min = []int{8, 10, 18} // tables follow each other with -f
		for _, x := range e.Events {
			t.row(a.clock(x.At), x.Node, x.What, x.Text)
		}
		p.table(t)
	}
	return v
}

// follow prints events as they come, until it is interrupted or the daemon
// goes away.
func (a *app) follow(ctx context.Context, since time.Time) error {
	format := a.format
	if format == "json" || format == "yaml" {
		format = "jsonl" // an endless document helps nobody
	}
	after, wait := uint64(0), time.Duration(0)
	for ctx.Err() == nil {
		e, err := a.events(ctx, after, since, wait)
		if err != nil {
			return unlessEnded(ctx, err)
		}
		if len(e.Events) > 0 {
			if err := a.print(a.eventsView(e), format); err != nil {
				return err
			}
			after = e.Events[len(e.Events)-1].ID
			a.noHeaders = true
		}
		since, wait = time.Time{}, followWait
	}
	return nil
}

// unlessEnded returns err, unless it comes from the interrupt that ends a
// command which has no other end.
func unlessEnded(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}
