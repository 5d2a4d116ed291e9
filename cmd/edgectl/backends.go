package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"anyedge/internal/admin/client"
	"anyedge/internal/api"
)

func (a *app) backendsCommand() *cobra.Command {
	return a.watched(a.command(&cobra.Command{
		Use:               "backends [SERVICE]",
		Aliases:           []string{"backend"},
		Short:             "backends of a service, or of all: health and requests",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.complete(a.serviceNames),
	}, func(ctx context.Context, args []string) error {
		service := ""
		if len(args) > 0 {
			service = args[0]
		}
		return a.show(ctx, func(ctx context.Context) (view, error) { return a.backendsOf(ctx, service) })
	}))
}

// backendsOf asks for the backends of one service, or of all.
func (a *app) backendsOf(ctx context.Context, service string) (view, error) {
	b, err := a.backends(ctx, service)
	if err != nil {
		return view{}, err
	}
	if service != "" && len(b.Backends) == 0 {
		s, err := a.services(ctx)
		if err != nil {
			return view{}, err
		}
		if _, err := onlyService(s.Services, service); err != nil {
			return view{}, err
		}
	}
	return a.backendsView(b), nil
}

func (a *app) backends(ctx context.Context, service string) (api.Backends, error) {
	return ask(ctx, a, callTimeout, func(ctx context.Context, c *client.Client) (api.Backends, error) { return c.Backends(ctx, service) })
}

func (a *app) backendsView(b api.Backends) view {
	v := view{data: b, rows: anys(b.Backends)}
	t := newTable("SERVICE", "BACKEND", "URL", "HEALTH", "ACTIVE", "REQ/S", "ERRORS", "P50", "P99", "LAST ERROR")
	for _, x := range b.Backends {
		v.names = append(v.names, x.Service+"/"+x.Name)
		health := cell{fmt.Sprintf("%s %s", x.Health, a.since(x.Since)), doubtful}
		lastError := x.LastError
		switch x.Health {
		case "up":
			health.mood = good
			if x.Share > 0 && x.Share < 1 {
				health.text += fmt.Sprintf(" at %.0f%%", 100*x.Share)
			}
		case "ejected":
			health.mood, lastError = ill, x.Why
		case "down":
			health = cell{"DOWN " + a.since(x.Since), ill}
		}
		t.row(x.Service, x.Name, x.URL, health, active(x), count(x.Rate), errorShare(x.Rate, x.ErrorRate), millis(x.P50Millis), millis(x.P99Millis), lastError)
	}
	v.table = func(p *page) { p.table(t) }
	return v
}

// active writes how many requests are under way, and how many may be.
func active(x api.Backend) string {
	if x.HardLimit > 0 {
		return fmt.Sprintf("%d/%d", x.Active, x.HardLimit)
	}
	return strconv.Itoa(x.Active)
}

// errorShare writes a share of failures, and nothing where nothing happened.
func errorShare(rate, share float64) cell {
	c := cell{text: none}
	if rate > 0 {
		c.text = strconv.FormatFloat(share*100, 'f', 2, 64) + "%"
	}
	if share >= 0.05 {
		c.mood = ill
	}
	return c
}
