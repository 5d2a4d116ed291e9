package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) statusCommand() *cobra.Command {
	var brief, wait bool
	var deadline time.Duration
	c := a.command(&cobra.Command{
		Use:   "status",
		Short: "is this node well? One screen, and an exit code",
		Long:  "Status shows every part of this node on one screen. Exit code 1 means that some part is not well.",
	}, func(ctx context.Context, _ []string) error {
		if wait {
			if err := a.waitHealthy(ctx, deadline); err != nil {
				return err
			}
		}
		return a.show(ctx, func(ctx context.Context) (view, error) {
			s, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Status, error) { return c.Status(ctx) })
			return a.statusView(s, brief), err
		})
	})
	c.Flags().BoolVar(&brief, "brief", false, "one line")
	c.Flags().BoolVar(&wait, "wait", false, "wait until all is well")
	c.Flags().DurationVar(&deadline, "deadline", time.Minute, "how long to wait at most; exit code 6 after it")
	return a.watched(c)
}

// waitHealthy waits until the daemon answers and is well.
func (a *app) waitHealthy(ctx context.Context, deadline time.Duration) error {
	return a.poll(ctx, deadline, func(ctx context.Context) (bool, string, error) {
		s, err := ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Status, error) { return c.Status(ctx) })
		switch {
		case errors.Is(err, client.ErrNotAllowed), ctx.Err() != nil:
			return false, "", err
		case err != nil: // it may be about to start
			return false, err.Error(), nil //nolint:nilerr // it is waited for
		}
		return !unwell(s.Health), troubles(s), nil
	})
}

// pollInterval is how often something is looked at that is waited for.
const pollInterval = 500 * time.Millisecond

// poll calls look until it reports true. After the deadline it returns
// errTimeout with what look said last.
func (a *app) poll(ctx context.Context, deadline time.Duration, look func(context.Context) (done bool, state string, err error)) error {
	end := time.NewTimer(deadline)
	defer end.Stop()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		done, state, err := look(ctx)
		if err != nil || done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return fmt.Errorf("%w after %s: %s", errTimeout, deadline, state)
		case <-tick.C:
		}
	}
}

// unwell reports whether a grade makes the exit code 1.
func unwell(h api.Health) bool { return h == api.Warning || h == api.Bad }

// troubles lists the parts that are not well on one line.
func troubles(s api.Status) string {
	var texts []string
	for _, p := range s.Parts {
		if unwell(p.Health) {
			texts = append(texts, p.Name+": "+p.Text)
		}
	}
	return strings.Join(texts, "; ")
}

func (a *app) statusView(s api.Status, brief bool) view {
	v := view{data: s, rows: []any{s}, names: []string{string(s.Health)}, bad: unwell(s.Health)}
	if brief {
		v.table = func(p *page) {
			p.line("%s %s: %s", strings.ToUpper(string(s.Health)), nodeTitle(s.Version), cmp.Or(troubles(s), "all is well"))
		}
		return v
	}
	v.table = func(p *page) {
		place := ""
		if s.Version.Geo != "" {
			place = fmt.Sprintf(" (geo %s)", s.Version.Geo)
		}
		p.line("edged %s on %s%s, up %s, config %s applied %s ago", s.Version.Daemon, nodeTitle(s.Version), place,
			a.since(s.Version.Started), s.Config.Digest, a.since(s.Config.Applied))
		t := newTable("", "", "")
		for _, part := range s.Parts {
			t.row("  "+part.Name, cell{string(part.Health), healthMood(part.Health)}, part.Text)
		}
		p.table(t)
	}
	v.hints = statusHints(s)
	return v
}

// nodeTitle is how a node is called.
func nodeTitle(v api.Version) string { return cmp.Or(v.Node, "this node") }

func healthMood(h api.Health) mood {
	switch h {
	case api.OK:
		return good
	case api.Warning:
		return doubtful
	case api.Bad:
		return ill
	default:
		return plain
	}
}

// statusHints says where to read more.
func statusHints(s api.Status) []string {
	n := 0
	var hints []string
	for _, p := range s.Parts {
		if !unwell(p.Health) {
			continue
		}
		n++
		if p.Hint != "" {
			hints = append(hints, p.Hint)
		}
	}
	if n == 0 {
		return nil
	}
	text := plural(n, "part") + " not well."
	if len(hints) > 0 {
		text += " Details: " + strings.Join(hints, ", ")
	}
	return []string{text}
}
